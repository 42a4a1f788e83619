//! What each VMA has, in the manner of `/proc/PID/smaps`.

use crate::addr::{PAGE_SIZE, PageRange, Space};
use crate::engine::Engine;
use crate::job::{Place, Stored};
use crate::mmu::{Mmu, Prot};
use crate::order::Order;
use crate::tables::PageState;
use crate::vma::{Hint, Vma};
use core::fmt;

/// What the pages of a VMA came to. Counts are of pages of 4 KiB; a page counts once among `resident`, `filling`,
/// `standby`, `writing` and `stored`, and pages that were never touched count nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VmaUsage {
    /// The VMA.
    pub vma: Vma,
    /// Pages at the program's address, by the order of the folio that they are part of.
    pub resident: [u64; Order::COUNT],
    /// Those of them that other spaces name too.
    pub shared: u64,
    /// Those of them of which a stored copy is kept.
    pub with_copy: u64,
    /// Pages whose contents a job brings.
    pub filling: u64,
    /// Pages that were moved out and would be rescued by a touch; also those of others' shared frames that this space has
    /// not mapped.
    pub standby: u64,
    /// Pages that were moved out and that a job stores.
    pub writing: u64,
    /// Pages that are only stored.
    pub stored: u64,
    /// Bytes of stored copies in RAM, kept ones too. A copy that several spaces name counts in each.
    pub ram_bytes: u64,
    /// Bytes of stored copies in spill files.
    pub file_bytes: u64,
}

impl VmaUsage {
    fn of(vma: Vma) -> VmaUsage {
        let (shared, with_copy, filling, standby, writing, stored) = (0, 0, 0, 0, 0, 0);
        let resident = [0; Order::COUNT];
        VmaUsage {
            vma,
            resident,
            shared,
            with_copy,
            filling,
            standby,
            writing,
            stored,
            ram_bytes: 0,
            file_bytes: 0,
        }
    }

    /// Pages at the program's address, in folios of any order.
    pub fn rss(&self) -> u64 {
        self.resident.iter().sum()
    }

    fn add(&mut self, state: PageState, order: Option<Order>) {
        match state {
            PageState::Empty => {}
            PageState::Filling { .. } => self.filling += 1,
            PageState::Standby { .. } | PageState::Shared { mapped: false, .. } => self.standby += 1,
            PageState::Writing => self.writing += 1,
            PageState::Stored => self.stored += 1,
            PageState::Mapped { copy } | PageState::Shared { mapped: true, copy } => {
                self.resident[order.unwrap_or(Order::BASE).index()] += 1;
                self.with_copy += u64::from(copy);
            }
        }
    }
}

impl Engine {
    /// What each VMA of a space has, in rising order of address. Takes time in proportion to the pages that it has.
    pub fn smaps<'a>(&'a self, mmu: &'a impl Mmu, space: Space) -> impl Iterator<Item = VmaUsage> + 'a {
        self.tables.vmas(space).iter().map(move |vma| self.usage(mmu, space, *vma))
    }

    fn usage(&self, mmu: &impl Mmu, space: Space, vma: Vma) -> VmaUsage {
        let mut usage = VmaUsage::of(vma);
        let mut rest = PageRange::between(space, vma.start, vma.end);
        while let Some(vpn) = self.tables.next_used(rest) {
            rest = PageRange::between(space, vpn.plus(1), vma.end);
            usage.add(self.tables.page_state(space, vpn), self.tables.folio_order(space, vpn));
            let slot = self.tables.pte(space, vpn).slot().filter(|&(_, mapped)| mapped);
            usage.shared += u64::from(slot.is_some_and(|(slot, _)| !self.tables.shared.is_sole(slot)));
            let block = self.tables.place_of(space, vpn).placed();
            match block.and_then(|block| mmu.look(block)) {
                Some(Stored { place: Place::Ram { .. }, len, .. }) => usage.ram_bytes += u64::from(len),
                Some(Stored { place: Place::File { .. }, len, .. }) => usage.file_bytes += u64::from(len),
                _ => {}
            }
        }
        usage
    }
}

fn kib(pages: u64) -> u64 {
    pages * PAGE_SIZE as u64 / 1024
}

fn rights(prot: Prot) -> [char; 3] {
    let bits = [(1, 'r'), (2, 'w'), (4, 'x')];
    bits.map(|(bit, letter)| if prot.bits() & bit != 0 { letter } else { '-' })
}

/// One entry as `/proc/PID/smaps` has it. What the kernel has no line for comes last: one for each order that has pages.
impl fmt::Display for VmaUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Vma { start, end, prot, locked, hint, policy, .. } = self.vma;
        let [r, w, x] = rights(prot);
        let address = |page: u64| page * PAGE_SIZE as u64;
        writeln!(f, "{:x}-{:x} {r}{w}{x}p", address(start.0), address(end.0))?;
        let mut line = |name: &str, kib: u64| writeln!(f, "{name:<16}{kib:>8} kB");
        line("Size:", kib(end.0 - start.0))?;
        line("Rss:", kib(self.rss()))?;
        line("Shared:", kib(self.shared))?;
        line("Swap:", kib(self.stored))?;
        line("Locked:", if locked { kib(self.rss()) } else { 0 })?;
        line("Filling:", kib(self.filling))?;
        line("Standby:", kib(self.standby))?;
        line("Writing:", kib(self.writing))?;
        line("KeptCopies:", kib(self.with_copy))?;
        line("StoredRam:", self.ram_bytes.div_ceil(1024))?;
        line("StoredFile:", self.file_bytes.div_ceil(1024))?;
        for order in Order::all().filter(|order| self.resident[order.index()] > 0) {
            let name = alloc::format!("Folios{order}:");
            writeln!(f, "{name:<16}{:>8} kB", kib(self.resident[order.index()]))?;
        }
        if hint != Hint::Normal {
            writeln!(f, "Hint:           {hint:?}")?;
        }
        match policy {
            Some(policy) => writeln!(f, "Policy:         {policy}"),
            None => Ok(()),
        }
    }
}
