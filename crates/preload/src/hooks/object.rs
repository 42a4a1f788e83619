//! A loaded libc: its segments, its names, where it lies.

use core::ffi::c_int;
use core::ops::Range;

use quire_linux::libc_sites::{Image, Mismatch, Sites, Symbols};

use crate::loaded;

/// The most segments that are looked at.
const MOST: usize = 16;

/// A loaded object.
#[derive(Clone, Debug)]
pub(super) struct Object {
    /// What was added to its addresses.
    base: usize,
    /// Its readable segments, where they lie.
    segments: [Range<usize>; MOST],
    count: usize,
    dynamic: Range<usize>,
    /// The rights of its text.
    rights: c_int,
}

/// The libc that this library is linked with: it has a function that nothing interposes, and that no other object has.
pub(super) fn own_libc() -> Option<Object> {
    let mut found = None;
    loaded::find(|base, headers| {
        let object = Object::of(base, headers);
        let is_libc = object.contains(libc::gnu_get_libc_version as *const () as usize);
        if is_libc {
            found = Some(object);
        }
        is_libc
    });
    found
}

impl Object {
    /// The object that the loader has placed at an address, by the headers in its first segment.
    ///
    /// # Safety
    ///
    /// One that is loaded, or 0.
    pub(super) unsafe fn at(base: usize) -> Option<Object> {
        if base == 0 {
            return None;
        }
        // SAFETY: by the caller's promise a library's first segment begins with the header of its file, where its addresses
        // begin at 0. A program that is placed where it was linked has base 0.
        unsafe {
            let header = &*(base as *const libc::Elf64_Ehdr);
            if header.e_ident[..4] != *b"\x7fELF" {
                return None;
            }
            let headers = (base + header.e_phoff as usize) as *const libc::Elf64_Phdr;
            Some(Object::of(base, core::slice::from_raw_parts(headers, usize::from(header.e_phnum))))
        }
    }

    /// Whether it is a glibc.
    pub(super) fn is_libc(&self) -> bool {
        self.function("gnu_get_libc_version").is_some()
    }

    fn of(base: usize, headers: &[libc::Elf64_Phdr]) -> Object {
        const NOWHERE: Range<usize> = 0..0;
        let mut object = Object { base, segments: [NOWHERE; MOST], count: 0, dynamic: NOWHERE, rights: 0 };
        for header in headers {
            let start = base.wrapping_add(header.p_vaddr as usize);
            let range = start..start.wrapping_add(header.p_filesz as usize);
            if header.p_type == libc::PT_DYNAMIC {
                object.dynamic = range;
            } else if header.p_type == libc::PT_LOAD
                && header.p_flags & libc::PF_R != 0
                && object.count < MOST
            {
                if header.p_flags & libc::PF_X != 0 {
                    object.rights = rights_of(header.p_flags);
                }
                object.segments[object.count] = range;
                object.count += 1;
            }
        }
        object
    }

    fn contains(&self, address: usize) -> bool {
        self.segments[..self.count].iter().any(|range| range.contains(&address))
    }

    /// An address of the object's own, where it is now.
    pub(super) fn address(&self, at: u64) -> usize {
        self.base.wrapping_add(at as usize)
    }

    /// The rights of its text, as mprotect has them.
    pub(super) fn rights(&self) -> c_int {
        self.rights
    }

    /// Its places. Nobody may write to the object meanwhile.
    pub(super) fn sites(&self) -> Result<Sites, Mismatch> {
        self.look_at(Sites::find).unwrap_or(Err(Mismatch::NoSymbols))
    }

    /// Where its function of this name is.
    pub(super) fn function(&self, name: &str) -> Option<usize> {
        let symbol = self.look_at(|_, symbols| symbols.find(name.as_bytes()))??;
        Some(self.address(symbol.address))
    }

    /// Where its variable of this name is.
    pub(super) fn variable(&self, name: &str) -> Option<usize> {
        let symbol = self.look_at(|_, symbols| symbols.variable(name.as_bytes()))??;
        Some(self.address(symbol.address))
    }

    fn look_at<T>(&self, look: impl FnOnce(&Image<'_>, &Symbols<'_>) -> T) -> Option<T> {
        let mut image = Image::empty();
        for range in &self.segments[..self.count] {
            // SAFETY: the loader has mapped it, readable, and it stays while this process has that library.
            let bytes = unsafe { bytes(range) };
            image.add(range.start.wrapping_sub(self.base) as u64, bytes);
        }
        // SAFETY: the same; it is part of a segment.
        let symbols = Symbols::of(&image, unsafe { bytes(&self.dynamic) }, self.base as u64)?;
        Some(look(&image, &symbols))
    }
}

fn rights_of(flags: u32) -> c_int {
    let right = |flag: u32, right: c_int| if flags & flag != 0 { right } else { 0 };
    right(libc::PF_R, libc::PROT_READ)
        | right(libc::PF_W, libc::PROT_WRITE)
        | right(libc::PF_X, libc::PROT_EXEC)
}

/// # Safety
///
/// The range is readable for as long as the answer is used, and nobody writes there.
unsafe fn bytes<'a>(range: &Range<usize>) -> &'a [u8] {
    if range.is_empty() {
        return &[];
    }
    // SAFETY: by the caller's promise.
    unsafe { core::slice::from_raw_parts(range.start as *const u8, range.len()) }
}
