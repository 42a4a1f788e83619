//! Writing into a library's text: all of it, or nothing.
//!
//! By mprotect, where the kernel lets text become writable. Where it does not (`PR_SET_MDWE`, SELinux), by
//! `/proc/self/mem`, which needs no rights of the pages.

use core::ffi::c_int;

use quire_linux::libc_sites::{JUMP, MOST};

use crate::decide::PAGE;
use crate::raw;

/// `jmp`, before the distance from the end of the instruction.
const JMP: u8 = 0xe9;

/// A jump over the beginning of a place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patch {
    at: usize,
    before: [u8; JUMP],
    jump: [u8; JUMP],
}

impl Patch {
    const NONE: Patch = Patch { at: 0, before: [0; JUMP], jump: [0; JUMP] };

    /// One from `at` to `target`; `None` if that is too far.
    pub(super) fn new(at: usize, before: [u8; JUMP], target: usize) -> Option<Patch> {
        let distance = i32::try_from((target as i64).checked_sub((at + JUMP) as i64)?).ok()?;
        let mut jump = [JMP; JUMP];
        jump[1..].copy_from_slice(&distance.to_le_bytes());
        Some(Patch { at, before, jump })
    }

    fn is_written(&self) -> bool {
        // SAFETY: a place in a library's text, which is readable.
        unsafe { (self.at as *const [u8; JUMP]).read_unaligned() != self.before }
    }
}

/// Jumps on, near a library that lies too far from ours for a jump of 2 GiB: a page of its own.
#[derive(Debug)]
pub(super) struct Island {
    at: usize,
    used: usize,
}

impl Island {
    /// Bytes of a jump to any address: `jmp *0(%rip)`, and the address.
    const HOP: usize = 16;
    /// Places that are tried, and bytes between them.
    const TRIES: usize = 4096;
    const APART: usize = 64 << 10;

    /// One below `base`.
    pub(super) fn near(base: usize) -> Option<Island> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        let lowest = base - base % Island::APART;
        let mut places = (1..=Island::TRIES).map(|number| lowest - number * Island::APART);
        let at = places.find(|at| {
            // SAFETY: a new mapping, and nothing is replaced.
            let mapped = unsafe { raw::call!(libc::SYS_mmap, *at, PAGE, rights, flags, -1isize, 0usize) };
            mapped == Ok(*at)
        })?;
        Some(Island { at, used: 0 })
    }

    /// A jump to `target`, and where it is.
    pub(super) fn hop_to(&mut self, target: usize) -> usize {
        let at = self.at + self.used;
        self.used += Island::HOP;
        let mut hop = [0u8; Island::HOP];
        hop[..2].copy_from_slice(&[0xff, 0x25]);
        hop[6..14].copy_from_slice(&target.to_le_bytes());
        // SAFETY: the page is ours, writable, and has room for more than all of a library's places.
        unsafe { (at as *mut [u8; Island::HOP]).write_unaligned(hop) };
        at
    }

    /// Lets it run.
    pub(super) fn finish(self) -> Result<(), i32> {
        let rights = libc::PROT_READ | libc::PROT_EXEC;
        // SAFETY: rights of a page that is ours.
        unsafe { raw::call!(libc::SYS_mprotect, self.at, PAGE, rights) }.map(|_| ())
    }
}

const _: () = assert!(MOST * Island::HOP <= PAGE);

/// All patches of one library.
#[derive(Debug)]
pub(super) struct Patches {
    all: [Patch; MOST],
    len: usize,
    /// The rights that its text has.
    rights: c_int,
}

impl Patches {
    pub(super) const fn new(rights: c_int) -> Patches {
        Patches { all: [Patch::NONE; MOST], len: 0, rights }
    }

    pub(super) fn add(&mut self, patch: Patch) {
        self.all[self.len] = patch;
        self.len += 1;
    }

    /// Writes them all. On an error, which is the kernel's number, none is written.
    pub(super) fn write(&self) -> Result<(), i32> {
        self.put(|patch| patch.jump).inspect_err(|_| {
            if self.all[..self.len].iter().any(Patch::is_written) {
                self.undo();
            }
        })
    }

    /// Takes them back.
    pub(super) fn undo(&self) {
        if self.put(|patch| patch.before).is_err() {
            quire_linux::die!("libc's text can be changed but not changed back; please report this");
        }
    }

    /// Puts what `bytes` says at each place. The pages of all of them change rights in one go: each change splits and joins
    /// the kernel's mappings, and every exec pays for it.
    fn put(&self, bytes: impl Fn(&Patch) -> [u8; JUMP]) -> Result<(), i32> {
        let all = &self.all[..self.len];
        let places = || all.iter().map(|patch| patch.at);
        let (Some(first), Some(last)) = (places().min(), places().max()) else { return Ok(()) };
        let start = first - first % PAGE;
        let len = (last + JUMP).next_multiple_of(PAGE) - start;
        // SAFETY: rights of libc's own pages, which are executable all the while.
        let protect = |rights: c_int| unsafe { raw::call!(libc::SYS_mprotect, start, len, rights) };
        if protect(self.rights | libc::PROT_WRITE).is_err() {
            return by_file(all, bytes);
        }
        for patch in all {
            // SAFETY: the pages are writable, and nobody runs there: no other thread is in libc yet, and this one is not in
            // any function that is patched.
            unsafe { (patch.at as *mut [u8; JUMP]).write_unaligned(bytes(patch)) };
        }
        protect(self.rights).map(|_| ())
    }
}

/// Writes by the file that is this process's memory.
fn by_file(all: &[Patch], bytes: impl Fn(&Patch) -> [u8; JUMP]) -> Result<(), i32> {
    let flags = libc::O_RDWR | libc::O_CLOEXEC;
    // SAFETY: a C string.
    let fd =
        unsafe { raw::call!(libc::SYS_openat, libc::AT_FDCWD as isize, c"/proc/self/mem".as_ptr(), flags) }?;
    let written = all.iter().try_for_each(|patch| {
        let bytes = bytes(patch);
        // SAFETY: the bytes are good to read, and what they replace is libc's text.
        match unsafe { raw::call!(libc::SYS_pwrite64, fd, bytes.as_ptr(), JUMP, patch.at) } {
            Ok(JUMP) => Ok(()),
            Ok(_) => Err(libc::EIO),
            Err(errno) => Err(errno),
        }
    });
    // SAFETY: the descriptor is ours. Nothing can be done about a close that fails.
    let _ = unsafe { raw::call!(libc::SYS_close, fd) };
    written
}
