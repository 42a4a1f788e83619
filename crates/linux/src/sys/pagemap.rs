//! Which pages are there, from `/proc/self/pagemap`.
//!
//! A page counts as present when its contents are at its address: in memory, in the kernel's own swap, or
//! behind a guard marker. A touch of such a page raises no userfaultfd message.

use super::tally::{self, Call};
use super::{Errno, Result, mmap, raw};
use quire_core::PAGE_SIZE;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};

const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const GUARD: u64 = 1 << 58;
/// Entries read at once, on the stack.
const BATCH: usize = 256;

/// An open pagemap of this process. It belongs to the descriptor table of the thread that opened it, and
/// describes the process that opened it: a forked child needs its own.
#[derive(Debug)]
pub struct Pagemap {
    fd: OwnedFd,
}

impl Pagemap {
    /// Opens the pagemap of the calling process.
    pub fn open() -> Result<Pagemap> {
        let fd =
            rustix::fs::open(c"/proc/thread-self/pagemap", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Pagemap { fd })
    }

    /// Whether the page at byte address `addr` is present.
    pub fn present(&self, addr: usize) -> Result<bool> {
        let mut entry = [0u64];
        self.read(addr, &mut entry)?;
        Ok(is_present(entry[0]))
    }

    /// Sets bit i of `bits` if page i of the `pages` pages from `addr` is present, and clears it if not.
    /// `bits` must have room for `pages` bits; further ones stay as they are.
    pub fn scan(&self, addr: usize, pages: usize, bits: &mut [u64]) -> Result<()> {
        self.runs(addr, pages, |first, count, present| {
            for page in first..first + count {
                let mask = 1 << (page % 64);
                let word = &mut bits[page / 64];
                *word = if present { *word | mask } else { *word & !mask };
            }
            Ok(())
        })
    }

    /// Calls `visit(first, count, present)` for each run of equal pages, counted from `addr`, in order.
    /// A long run may come in several pieces.
    pub fn runs(
        &self,
        addr: usize,
        pages: usize,
        mut visit: impl FnMut(usize, usize, bool) -> Result<()>,
    ) -> Result<()> {
        let mut entries = [0u64; BATCH];
        for first in (0..pages).step_by(BATCH) {
            let batch = &mut entries[..BATCH.min(pages - first)];
            self.read(addr + first * PAGE_SIZE, batch)?;
            let mut at = first;
            for run in batch.chunk_by(|a, b| is_present(*a) == is_present(*b)) {
                visit(at, run.len(), is_present(run[0]))?;
                at += run.len();
            }
        }
        Ok(())
    }

    /// Calls `visit(first, count, huge)` for each run of present pages, counted from `addr`, in order: in pages of 2 MiB, or
    /// not. Holes cost next to nothing. ENOTTY before Linux 6.7.
    pub fn present_runs(
        &self,
        addr: usize,
        pages: usize,
        mut visit: impl FnMut(usize, usize, bool),
    ) -> Result<()> {
        let mut regions = [PageRegion::default(); REGIONS];
        let end = (addr + pages * PAGE_SIZE) as u64;
        let mut at = addr as u64;
        while at < end {
            let mut scan = ScanArg {
                size: size_of::<ScanArg>() as u64,
                start: at,
                end,
                regions: regions.as_mut_ptr().addr() as u64,
                count: REGIONS as u64,
                any_of: IS_PRESENT | IS_SWAPPED,
                told: IS_PRESENT | IS_SWAPPED | IS_HUGE,
                ..ScanArg::default()
            };
            tally::count(Call::Pread);
            let args = [self.fd.as_raw_fd() as usize, SCAN as usize, (&raw mut scan).addr()];
            // SAFETY: the kernel reads the request, and writes where it stopped and at most `count` regions.
            let found = unsafe { raw::syscall(libc::SYS_ioctl, args) }?;
            for region in &regions[..found.min(REGIONS)] {
                let first = (region.start as usize - addr) / PAGE_SIZE;
                let count = (region.end - region.start) as usize / PAGE_SIZE;
                visit(first, count, region.is & IS_HUGE != 0);
            }
            // Where it stopped is not always told rightly when there were many regions.
            let last = regions[..found.min(REGIONS)].last().map_or(0, |region| region.end);
            let next = scan.walk_end.max(last);
            if next <= at {
                break;
            }
            at = next;
        }
        Ok(())
    }

    fn read(&self, addr: usize, entries: &mut [u64]) -> Result<()> {
        let offset = (addr / PAGE_SIZE * size_of::<u64>()) as u64;
        let wanted = size_of_val(entries);
        // SAFETY: entries are plain bytes of any value, and the borrow covers them all.
        let bytes = unsafe { core::slice::from_raw_parts_mut(entries.as_mut_ptr().cast::<u8>(), wanted) };
        tally::count(Call::Pread);
        match rustix::io::pread(&self.fd, bytes, offset)? {
            read if read == wanted => Ok(()),
            // Addresses past the user's half have no entries.
            _ => Err(Errno::FAULT),
        }
    }
}

/// `PAGEMAP_SCAN`, and what it is asked.
pub(crate) const SCAN: u32 = 0xc060_6610;
const IS_PRESENT: u64 = 1 << 3;
const IS_SWAPPED: u64 = 1 << 4;
const IS_HUGE: u64 = 1 << 6;
/// Regions asked for at once, on the stack.
const REGIONS: usize = 256;

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct PageRegion {
    start: u64,
    end: u64,
    is: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    regions: u64,
    count: u64,
    most_pages: u64,
    inverted: u64,
    all_of: u64,
    any_of: u64,
    told: u64,
}

const _: () = assert!(size_of::<ScanArg>() == 96 && size_of::<PageRegion>() == 24);

fn is_present(entry: u64) -> bool {
    entry & (PRESENT | SWAPPED | GUARD) != 0
}

impl AsFd for Pagemap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Whether the page at `addr` is present, for a thread that has no [`Pagemap`] at hand: cheap where it is in
/// memory, an open and a close where it may be in the kernel's swap.
pub fn present_without_fd(addr: usize) -> bool {
    match mmap::in_core(addr) {
        Ok(true) => true,
        Ok(false) => Pagemap::open().and_then(|map| map.present(addr)).unwrap_or(false),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mmap::Advice;

    #[test]
    fn present_is_what_is_in_memory_swapped_or_guarded() {
        assert!([63, 62, 58].iter().all(|bit| is_present(1 << bit)));
        assert!(!is_present(!(1 << 63 | 1 << 62 | 1 << 58)));
    }

    #[test]
    fn runs_and_bits_agree_with_what_was_touched() {
        let pages = 600;
        let addr = mmap::map(pages * PAGE_SIZE).unwrap();
        mmap::advise(addr, pages * PAGE_SIZE, Advice::NoHugepage).unwrap();
        mmap::advise(addr + 3 * PAGE_SIZE, 2 * PAGE_SIZE, Advice::PopulateWrite).unwrap();
        mmap::advise(addr + 500 * PAGE_SIZE, 100 * PAGE_SIZE, Advice::PopulateWrite).unwrap();
        let map = Pagemap::open().unwrap();
        let mut present = 0;
        map.runs(addr, pages, |_, count, is| {
            present += if is { count } else { 0 };
            Ok(())
        })
        .unwrap();
        assert_eq!(present, 102);
        let mut runs = Vec::new();
        map.present_runs(addr, pages, |first, count, huge| runs.push((first, count, huge))).unwrap();
        assert_eq!(runs, [(3, 2, false), (500, 100, false)]);
        let mut bits = [u64::MAX; 10];
        map.scan(addr, pages, &mut bits).unwrap();
        assert_eq!(bits[0], 0b11000);
        assert_eq!(bits[9], u64::MAX);
        assert_eq!(map.present(addr + 4 * PAGE_SIZE), Ok(true));
        assert_eq!(map.present(addr + 5 * PAGE_SIZE), Ok(false));
        assert!(present_without_fd(addr + 4 * PAGE_SIZE) && !present_without_fd(addr));
        mmap::unmap(addr, pages * PAGE_SIZE).unwrap();
    }
}
