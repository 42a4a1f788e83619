//! Where code lies; and who calls malloc: the program, libc or the loader, told by the return address.

use core::ffi::{c_int, c_void};
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::loaded;

/// On whose behalf memory is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// The program, or any library that is neither of the others.
    Program,
    /// libc.so, and libpthread.so where that is a library of its own.
    Libc,
    /// ld.so.
    Loader,
}

/// The executable pages of one object.
struct Text {
    start: AtomicUsize,
    len: AtomicUsize,
}

impl Text {
    const fn unknown() -> Text {
        Text { start: AtomicUsize::new(0), len: AtomicUsize::new(0) }
    }

    #[inline]
    fn contains(&self, address: usize) -> bool {
        address.wrapping_sub(self.start.load(Ordering::Relaxed)) < self.len.load(Ordering::Relaxed)
    }

    fn set(&self, start: usize, len: usize) {
        self.start.store(start, Ordering::Relaxed);
        self.len.store(len, Ordering::Relaxed);
    }
}

static LIBC: [Text; 2] = [const { Text::unknown() }; 2];
static LOADER: Text = Text::unknown();

/// Where code lies: a range for each group of objects that lie side by side.
static TEXTS: [Text; GROUPS] = [const { Text::unknown() }; GROUPS];
/// The program itself, its libraries, and some to spare.
const GROUPS: usize = 4;
/// Objects less apart than this are one group.
const APART: usize = 256 << 20;

/// Where the code lies that was loaded with the program, in ranges that may be empty.
pub(crate) fn texts() -> [Range<usize>; GROUPS] {
    TEXTS.each_ref().map(|text| {
        let start = text.start.load(Ordering::Relaxed);
        start..start + text.len.load(Ordering::Relaxed)
    })
}

fn add_text(start: usize, end: usize) {
    for text in &TEXTS {
        let known = text.start.load(Ordering::Relaxed)
            ..text.start.load(Ordering::Relaxed) + text.len.load(Ordering::Relaxed);
        let near = start < known.end.saturating_add(APART) && known.start < end.saturating_add(APART);
        if known.is_empty() {
            return text.set(start, end - start);
        }
        if near {
            let joined = known.start.min(start)..known.end.max(end);
            return text.set(joined.start, joined.len());
        }
    }
}

/// Whose code `address` is. Before [`find`] all code is the program's.
#[inline]
pub(crate) fn of(address: usize) -> Caller {
    if LIBC.iter().any(|text| text.contains(address)) {
        Caller::Libc
    } else if LOADER.contains(address) {
        Caller::Loader
    } else {
        Caller::Program
    }
}

/// Looks for the text of libc and of the loader among the loaded objects. Allocates nothing.
pub(crate) fn find() {
    loaded::find(|base, headers| {
        for header in headers {
            if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0 {
                add_segment(base.wrapping_add(header.p_vaddr as usize), header.p_memsz as usize);
            }
        }
        false
    });
}

fn add_segment(start: usize, len: usize) {
    add_text(start, start.saturating_add(len));
    // Functions that nothing interposes, and that no two of these objects have; each has one executable segment. (The auxiliary
    // vector would not do: a program started as `ld.so PROGRAM` has no AT_BASE.) Before glibc 2.34 libpthread is an object of
    // its own, which has functions of libc's too, `__errno_location` among them.
    let contains = |function: *const ()| (function as usize).wrapping_sub(start) < len;
    if contains(__tls_get_addr as *const ()) {
        LOADER.set(start, len);
    }
    for (text, function) in
        LIBC.iter().zip([libc::gnu_get_libc_version as *const (), __pthread_key_create as *const ()])
    {
        if contains(function) {
            text.set(start, len);
        }
    }
}

unsafe extern "C" {
    // Only their addresses are used.
    fn __tls_get_addr(index: *const c_void) -> *mut c_void;
    fn __pthread_key_create(key: *mut c_void, destructor: *const c_void) -> c_int;
}
