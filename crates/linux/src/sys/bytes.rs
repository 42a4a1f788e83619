//! The bytes of the pool and of the store, for those who may touch them.
//!
//! Who may is agreed outside Rust's types. The frames that a job names are pinned by its ticket, so the worker that has the
//! job is alone with them; what the kernel moves in or out meanwhile is another frame. In the store a worker writes only
//! where it has just been given a place, which nobody reads, moves or gives away before it has handed it over. Else bytes
//! there change under the store's lock only, and not while a spill reads them: who has that lock, or the spill in hand, may
//! read.

use quire_core::PAGE_SIZE;

/// A stretch of readable and writable memory that stays mapped for the life of the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stretch {
    base: usize,
    len: usize,
}

impl Stretch {
    /// The `len` bytes from address `base`.
    pub(crate) const fn new(base: usize, len: usize) -> Stretch {
        Stretch { base, len }
    }

    /// The address of the first byte.
    pub const fn base(self) -> usize {
        self.base
    }

    /// How many bytes.
    pub const fn len(self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Whether byte address `addr` lies in the stretch.
    pub const fn contains(self, addr: usize) -> bool {
        addr >= self.base && addr - self.base < self.len
    }

    /// Lets `with` read and write the `len` bytes from offset `at`. Only for who may touch them now, see the
    /// module. The process ends if they are not all inside.
    pub fn with<R>(self, at: usize, len: usize, with: impl FnOnce(&mut [u8]) -> R) -> R {
        if at > self.len || len > self.len - at {
            crate::die!("bytes {at}+{len} are outside of a stretch of {}", self.len);
        }
        let start = core::ptr::with_exposed_provenance_mut(self.base + at);
        // SAFETY: 1. the bytes are inside, so mapped and writable, and any value is valid; 2. nobody else has
        // a reference to them: the frames are those of a job that its worker has, the place is one that it was just
        // given (module doc), and the reference ends with the closure.
        with(unsafe { core::slice::from_raw_parts_mut(start, len) })
    }

    /// Lets `with` read the `len` bytes from offset `at`. Only for who may read them now, see the module. The process ends if
    /// they are not all inside.
    pub fn read<R>(self, at: usize, len: usize, with: impl FnOnce(&[u8]) -> R) -> R {
        if at > self.len || len > self.len - at {
            crate::die!("bytes {at}+{len} are outside of a stretch of {}", self.len);
        }
        let start = core::ptr::with_exposed_provenance(self.base + at);
        // SAFETY: 1. the bytes are inside, so mapped and readable, and any value is valid; 2. nobody writes them before
        // the closure has returned: the store's lock is held, or a spill has them in hand (module doc).
        with(unsafe { core::slice::from_raw_parts(start, len) })
    }

    /// Copies `len` bytes from offset `from` to offset `to`. Only for who may touch both now, see the module. The process
    /// ends if they are not all inside, or overlap.
    pub fn copy(self, from: usize, to: usize, len: usize) {
        if len > self.len || from.max(to) > self.len - len || from.abs_diff(to) < len {
            crate::die!("bytes {from}+{len} can't go to {to} in a stretch of {}", self.len);
        }
        let place = |at: usize| core::ptr::with_exposed_provenance_mut::<u8>(self.base + at);
        // SAFETY: 1. both are inside, so mapped and writable, and do not overlap; 2. nobody else uses them: the store's
        // lock is held, and no job of the store's has either in hand (module doc).
        unsafe { core::ptr::copy_nonoverlapping(place(from).cast_const(), place(to), len) }
    }

    /// [`Stretch::with`] for page number `page` of the stretch.
    pub fn with_page<R>(self, page: usize, with: impl FnOnce(&mut [u8; PAGE_SIZE]) -> R) -> R {
        self.with(page * PAGE_SIZE, PAGE_SIZE, |bytes| match bytes.as_mut_array() {
            Some(page) => with(page),
            None => unreachable!(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mmap;

    #[test]
    fn pages_and_bytes_are_the_same_memory() {
        let base = mmap::map(4 * PAGE_SIZE).unwrap();
        let stretch = Stretch::new(base, 4 * PAGE_SIZE);
        stretch.with_page(2, |page| page[5] = 9);
        assert_eq!(stretch.with(2 * PAGE_SIZE + 4, 3, |bytes| bytes.to_vec()), [0, 9, 0]);
        assert_eq!(stretch.read(2 * PAGE_SIZE + 5, 2, <[u8]>::to_vec), [9, 0]);
        stretch.copy(2 * PAGE_SIZE + 4, 4 * PAGE_SIZE - 3, 3);
        assert_eq!(stretch.with(4 * PAGE_SIZE - 4, 4, |bytes| bytes.to_vec()), [0, 0, 9, 0]);
        assert!(stretch.contains(base) && !stretch.contains(base + 4 * PAGE_SIZE));
        mmap::unmap(base, 4 * PAGE_SIZE).unwrap();
    }
}
