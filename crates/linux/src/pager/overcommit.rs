//! How much the kernel would let a program have at once (`/proc/sys/vm/overcommit_memory`).
//!
//! The arena is mapped with `MAP_NORESERVE`, so the kernel does not ask. By default it refuses a single request for more
//! than all of RAM and swap; some programs try such sizes, and take less when they are refused.

use quire_core::addr::PageRange;
use quire_core::mmu::Prot;
use quire_core::vma::Vma;
use quire_core::{Engine, PAGE_SIZE};

/// A range larger than the limit, mapped with `MAP_NORESERVE`: a bit of [`Vma::tag`]. Smaller ranges don't bear it, since
/// no request within them is refused.
const TAG_NO_RESERVE: u32 = 4;

/// The most pages that one request may ask for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Overcommit {
    most: u64,
}

impl Overcommit {
    /// As the system says now.
    pub(super) fn of_system() -> Overcommit {
        let info = rustix::system::sysinfo();
        let bytes = (info.totalram as u64 + info.totalswap as u64) * u64::from(info.mem_unit);
        let always = crate::sys::file::first_byte(c"/proc/sys/vm/overcommit_memory") == Some(b'1');
        Overcommit { most: if always { u64::MAX } else { bytes / PAGE_SIZE as u64 } }
    }

    /// Whether so much new memory with these rights may be had.
    pub(super) fn may_map(self, pages: u64, prot: i32, flags: i32) -> Result<(), i32> {
        let counts = prot & libc::PROT_WRITE != 0 && flags & libc::MAP_NORESERVE == 0;
        self.check(pages, counts)
    }

    /// The mark of new memory mapped with these flags, if it needs one.
    pub(super) fn tag_of(self, pages: u64, flags: i32) -> Option<u32> {
        (pages > self.most && flags & libc::MAP_NORESERVE != 0).then_some(TAG_NO_RESERVE)
    }

    /// Whether `vma` may grow by so many pages.
    pub(super) fn may_grow(self, vma: &Vma, pages: u64) -> Result<(), i32> {
        self.check(pages, vma.prot.writable() && vma.tag & TAG_NO_RESERVE == 0)
    }

    /// Whether pages may become writable.
    pub(super) fn may_protect(self, engine: &Engine, range: PageRange, prot: Prot) -> Result<(), i32> {
        if range.pages <= self.most || !prot.writable() {
            return Ok(());
        }
        let counts = |vma: &Vma| !vma.prot.writable() && vma.tag & TAG_NO_RESERVE == 0;
        for vma in engine.vmas(range.space).overlapping(range.start, range.end()) {
            let pages = vma.end.min(range.end()).0 - vma.start.max(range.start).0;
            self.check(pages, counts(vma))?;
        }
        Ok(())
    }

    fn check(self, pages: u64, counts: bool) -> Result<(), i32> {
        if counts && pages > self.most { Err(libc::ENOMEM) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_core::Vpn;

    const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;

    #[test]
    fn only_what_may_be_written_and_is_not_exempt_counts() {
        let overcommit = Overcommit { most: 10 };
        assert_eq!(overcommit.may_map(10, RW, 0), Ok(()));
        assert_eq!(overcommit.may_map(11, RW, 0), Err(libc::ENOMEM));
        assert_eq!(overcommit.may_map(11, RW, libc::MAP_NORESERVE), Ok(()));
        assert_eq!(overcommit.may_map(11, libc::PROT_READ, 0), Ok(()));
        assert_eq!(Overcommit { most: u64::MAX }.may_map(1 << 40, RW, 0), Ok(()));
    }

    #[test]
    fn the_limit_is_all_of_ram_and_swap() {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap();
        let kib = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
        };
        let always = std::fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap().trim() == "1";
        let most = if always { u64::MAX } else { (kib("MemTotal:") + kib("SwapTotal:")) / 4 };
        assert_eq!(Overcommit::of_system().most, most);
    }

    #[test]
    fn what_grows_counts_as_a_whole_unless_it_is_exempt() {
        let overcommit = Overcommit { most: 10 };
        let vma = |prot, tag| Vma { tag, ..Vma::new(Vpn(0), Vpn(4), prot) };
        assert_eq!(overcommit.may_grow(&vma(Prot::READ_WRITE, 0), 10), Ok(()));
        assert_eq!(overcommit.may_grow(&vma(Prot::READ_WRITE, 0), 11), Err(libc::ENOMEM));
        assert_eq!(overcommit.may_grow(&vma(Prot::READ, 0), 11), Ok(()));
        assert_eq!(overcommit.may_grow(&vma(Prot::READ_WRITE, TAG_NO_RESERVE), 11), Ok(()));
        assert_eq!(overcommit.may_grow(&vma(Prot::READ_WRITE, !TAG_NO_RESERVE), 11), Err(libc::ENOMEM));
    }

    #[test]
    fn marks_are_for_what_could_be_refused_later() {
        let overcommit = Overcommit { most: 10 };
        assert_eq!(overcommit.tag_of(10, libc::MAP_NORESERVE), None);
        assert_eq!(overcommit.tag_of(11, 0), None);
        assert!(overcommit.tag_of(11, libc::MAP_NORESERVE).is_some());
    }
}
