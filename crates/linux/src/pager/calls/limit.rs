//! The program's limits on its address space and its data, which the kernel can't hold it to ([`crate::limits`]).
//!
//! A mapping counts with its whole length, as in the kernel.
//!
//! All of it is for the service thread, and only while there is a limit.

use super::Caller;
use crate::limits::{self, Kind};
use crate::pager::{Pager, SPACE, Tables};
use crate::sys::mmap;
use crate::sys::thread;
use quire_core::addr::{PAGE_SIZE, PageRange, Vpn};
use quire_core::mmu::Prot;
use rustix::fs::{Mode, OFlags};

/// Pages that Quire's library and its shared memory take without being counted: a program may have that much more.
const SIZE_SLACK: u64 = (4 << 20) / PAGE_SIZE as u64;
const DATA_SLACK: u64 = (256 << 10) / PAGE_SIZE as u64;

/// Pages, of all memory and of data.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Pages {
    pub(super) size: u64,
    pub(super) data: u64,
}

impl Pages {
    /// So many pages with these rights.
    pub(super) fn with(pages: u64, prot: Prot) -> Pages {
        Pages { size: pages, data: if is_data(prot) { pages } else { 0 } }
    }
}

fn is_data(prot: Prot) -> bool {
    prot.bits() & libc::PROT_WRITE as u32 != 0
}

impl Caller {
    /// ENOMEM if `more` would bring the program above a limit of its.
    pub(super) fn stay_within(&self, tables: &Tables, more: Pages) -> Result<(), i32> {
        if !limits::is_limited() || more == Pages::default() {
            return Ok(());
        }
        let taken = taken(self.pager, tables);
        let fits = |kind, taken: u64, more: u64, slack: u64| {
            more == 0 || taken + more <= (limits::soft(kind) / PAGE_SIZE as u64).saturating_add(slack)
        };
        let fits = fits(Kind::AddressSpace, taken.size, more.size, SIZE_SLACK)
            && fits(Kind::Data, taken.data, more.data, DATA_SLACK);
        if fits { Ok(()) } else { Err(libc::ENOMEM) }
    }

    /// The same for rights that change.
    pub(super) fn may_protect(&self, tables: &Tables, range: PageRange, prot: Prot) -> Result<(), i32> {
        if !limits::is_limited() || !is_data(prot) {
            return Ok(());
        }
        let vmas = tables.engine.vmas(SPACE).overlapping(range.start, range.end());
        let new = vmas.filter(|vma| !is_data(vma.prot));
        let data = new.map(|vma| vma.end.min(range.end()).0 - vma.start.max(range.start).0).sum();
        self.stay_within(tables, Pages { size: 0, data })
    }

    /// Whether the kernel may map so many bytes outside the arena.
    pub(super) fn allows(&self, size: usize, data: usize) -> Result<usize, i32> {
        let pages = |bytes: usize| bytes.div_ceil(PAGE_SIZE) as u64;
        let more = Pages { size: pages(size), data: pages(data) };
        self.stay_within(&self.pager.tables.lock(), more).map(|()| 0)
    }

    /// Pages of a range that are mapped, by us or by the kernel: what is laid over them takes their place.
    pub(super) fn replaced(&self, tables: &Tables, range: PageRange) -> u64 {
        let inside = |start: Vpn, end: Vpn| end.min(range.end()).0 - start.max(range.start).0;
        let vmas = tables.engine.vmas(SPACE).overlapping(range.start, range.end());
        vmas.map(|vma| inside(vma.start, vma.end)).sum::<u64>()
            + tables.room.foreign_pages(range.start.0, range.end().0)
    }
}

/// What the program has taken.
fn taken(pager: &Pager, tables: &Tables) -> Pages {
    let (engine, room) = (&tables.engine, &tables.room);
    let mut managed = Pages::default();
    for vma in engine.vmas(SPACE).iter() {
        let pages = Pages::with(vma.end.0 - vma.start.0, vma.prot);
        managed = Pages { size: managed.size + pages.size, data: managed.data + pages.data };
    }
    let places = &pager.places;
    let bytes = places.pool().len() + places.store().len() + mmap::buffers_mapped() + thread::mapped();
    let own = (bytes as u64 + (pager.options.mapped)()) / PAGE_SIZE as u64;
    let arena = places.arena(SPACE);
    let all = kernels_count().unwrap_or_default();
    let arena_pages = arena.pages - room.foreign_pages(arena.start.0, arena.end().0);
    Pages {
        size: managed.size + all.size.saturating_sub(own + arena_pages),
        data: managed.data + all.data.saturating_sub(own + managed.data),
    }
}

/// What the kernel counts as mapped, and as data. `None` without a /proc.
fn kernels_count() -> Option<Pages> {
    let mut text = [0u8; 128];
    let file =
        rustix::fs::open(c"/proc/thread-self/statm", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let len = rustix::io::read(&file, &mut text).ok()?;
    parse(&text[..len])
}

/// Of the fields of statm the first is all that is mapped, and the sixth data and stack.
fn parse(statm: &[u8]) -> Option<Pages> {
    let mut fields = core::str::from_utf8(statm).ok()?.split_ascii_whitespace();
    let size = fields.next()?.parse().ok()?;
    Some(Pages { size, data: fields.nth(4)?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_sixth_field_count() {
        assert_eq!(parse(b"1000 5 4 3 0 77 0\n"), Some(Pages { size: 1000, data: 77 }));
        assert_eq!(parse(b"1000 5 4\n"), None);
        let here = kernels_count().unwrap();
        assert!(here.data > 0 && here.size > here.data, "{here:?}");
    }
}
