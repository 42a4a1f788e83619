//! Where glibc makes its system calls on memory: the places that the preload library puts its jumps over.
//!
//! glibc calls the kernel for memory in a few exported functions, and its own callers (malloc, stdio, thread stacks) run the
//! same text. In each of them the call is `mov $NUMBER, %eax; syscall`, so a jump over the `mov` meets all callers. This
//! module finds these places in an [`Image`] and looks at each byte that it relies on: what is not as expected is a
//! [`Mismatch`], and then nothing may be patched. It only reads: the preload library gives it the loaded object, `quire doctor`
//! and the tests a file.

pub mod file;
mod form;
mod symbols;

pub use form::{JUMP, Kind, Site};
pub use symbols::{Image, Symbols};

/// The most places in one libc.
pub const MOST: usize = 24;

/// A function whose system calls are wanted.
#[derive(Debug)]
struct Function {
    name: &'static str,
    /// The numbers of the calls; the first is there in every glibc.
    calls: &'static [i64],
    /// Numbers of other calls that it makes, which stay as they are.
    others: &'static [i64],
}

impl Function {
    fn wants(&self, site: &Site) -> bool {
        site.kind == Kind::ByNumber || is_one_of(self.calls, site.number)
    }
}

const fn function(name: &'static str, calls: &'static [i64], others: &'static [i64]) -> Function {
    Function { name, calls, others }
}

const FUNCTIONS: [Function; 15] = [
    function("clone", &[libc::SYS_clone, libc::SYS_exit], &[]),
    function("syscall", &[], &[]),
    function("mmap", &[libc::SYS_mmap], &[]),
    function("munmap", &[libc::SYS_munmap], &[]),
    function("mprotect", &[libc::SYS_mprotect], &[]),
    function("brk", &[libc::SYS_brk], &[]),
    function("mremap", &[libc::SYS_mremap], &[]),
    function("madvise", &[libc::SYS_madvise], &[]),
    function("posix_madvise", &[libc::SYS_madvise], &[]),
    function("mlock", &[libc::SYS_mlock], &[]),
    function("mlock2", &[libc::SYS_mlock2, libc::SYS_mlock], &[]),
    function("munlock", &[libc::SYS_munlock], &[]),
    function("mlockall", &[libc::SYS_mlockall], &[]),
    function("munlockall", &[libc::SYS_munlockall], &[]),
    function("pkey_mprotect", &[libc::SYS_pkey_mprotect], &[]),
];

/// What makes a child with a copy of the memory: `_Fork` since glibc 2.34, `fork` before.
const FORKS: [Function; 2] = [
    function("_Fork", &[libc::SYS_clone], &[libc::SYS_set_robust_list]),
    function("fork", &[libc::SYS_clone], &[libc::SYS_set_robust_list]),
];

/// Why a libc can't be patched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mismatch {
    /// It has no table of exported names that can be read.
    NoSymbols,
    /// It does not export this function.
    Missing(&'static str),
    /// The bytes of this function are not as expected.
    Unexpected(&'static str),
}

impl core::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Mismatch::NoSymbols => f.write_str("it has no table of its exported names"),
            Mismatch::Missing(name) => write!(f, "it does not export {name}"),
            Mismatch::Unexpected(name) => write!(f, "{name} is not as expected"),
        }
    }
}

/// The places of one libc.
#[derive(Clone, Debug)]
pub struct Sites {
    all: [Site; MOST],
    len: usize,
}

impl Sites {
    /// Finds them. Allocates nothing.
    ///
    /// # Errors
    ///
    /// What differs from every glibc that is known.
    pub fn find(image: &Image<'_>, symbols: &Symbols<'_>) -> Result<Sites, Mismatch> {
        let mut sites = Sites { all: [Site::NONE; MOST], len: 0 };
        for function in &FUNCTIONS {
            sites.add(function, image, symbols)?;
        }
        match sites.add(&FORKS[0], image, symbols) {
            Err(Mismatch::Missing(_)) => sites.add(&FORKS[1], image, symbols)?,
            other => other?,
        }
        Ok(sites)
    }

    /// All of them, function by function.
    pub fn all(&self) -> &[Site] {
        &self.all[..self.len]
    }

    fn add(&mut self, function: &Function, image: &Image<'_>, symbols: &Symbols<'_>) -> Result<(), Mismatch> {
        let symbol = symbols.find(function.name.as_bytes()).ok_or(Mismatch::Missing(function.name))?;
        let unexpected = Mismatch::Unexpected(function.name);
        let code = image.bytes(symbol.address, symbol.size).ok_or(unexpected)?;
        let before = self.len;
        for at in form::system_calls(code) {
            let site = match form::of(code, at, function.name) {
                Some(site) if is_one_of(function.others, site.number) => continue,
                Some(site) if function.wants(&site) && form::goes_on(code, &site) => site,
                _ => return Err(unexpected),
            };
            let place = self.all.get_mut(self.len).ok_or(unexpected)?;
            *place = site.moved(symbol.address);
            self.len += 1;
        }
        let wanted = function.calls.first().map_or(0, |number| *number as u32);
        let found = &self.all[before..self.len];
        let has_first = found.iter().any(|site| site.kind == Kind::ByNumber || site.number == wanted);
        if has_first { Ok(()) } else { Err(unexpected) }
    }
}

fn is_one_of(numbers: &[i64], number: u32) -> bool {
    numbers.iter().any(|other| *other == i64::from(number))
}
