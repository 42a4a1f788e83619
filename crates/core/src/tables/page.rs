//! Page entries: where the contents of each virtual page are, in leaves of 512 that are made when memory is
//! first faulted and changed in place from then on, so that reclaim allocates nothing.

use crate::addr::{Frame, PageRange, Vpn};
use crate::folio::Cooldown;
use crate::frame::NIL;
use crate::store::Block;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;

/// Pages that one leaf describes: 2 MiB of addresses.
pub(crate) const LEAF_PAGES: u64 = 512;

/// Pages that cool together: 64 KiB of addresses.
pub(crate) const COOLDOWN_PAGES: u64 = 16;

/// In place of a frame's number: the page is shared, and what would be its block is its slot. It is mapped here ...
const SHARED_HERE: u32 = u32::MAX - 1;
/// ... or only somewhere else, if anywhere.
const SHARED_AWAY: u32 = u32::MAX - 2;

/// Beside a tag: the page is only stored, and has an age in place of a frame.
const ONLY_STORED: u32 = 1 << 31;

/// Where one page is: in a frame, in a block of the store, in both (the stored copy is kept) or nowhere. Or whatever
/// the slot says that it shares with other spaces.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Pte {
    /// The frame. Of a page that is only stored: the clock of evictions when it was moved out.
    frame: u32,
    block: u32,
    /// The tag of the block, and [`ONLY_STORED`].
    tag: u32,
}

impl Pte {
    pub(crate) const EMPTY: Pte = Pte { frame: NIL, block: NIL, tag: 0 };

    /// A page that is only stored, in a block of the store's, and was moved out at `evicted_at` by the clock of evictions.
    pub(crate) fn stored(block: Block, evicted_at: u32) -> Pte {
        debug_assert!(block != Block::ZERO && block.tag < ONLY_STORED);
        Pte { frame: evicted_at, block: block.number, tag: block.tag | ONLY_STORED }
    }

    /// A page that is shared in this slot, mapped here or not.
    pub(crate) fn shared(slot: Vpn, mapped: bool) -> Pte {
        Pte { frame: if mapped { SHARED_HERE } else { SHARED_AWAY }, block: slot.0 as u32, tag: 0 }
    }

    fn is_only_stored(self) -> bool {
        self.tag & ONLY_STORED != 0
    }

    fn is_shared(self) -> bool {
        !self.is_only_stored() && (self.frame == SHARED_HERE || self.frame == SHARED_AWAY)
    }

    pub(crate) fn frame(self) -> Option<Frame> {
        (!self.is_only_stored() && self.frame < SHARED_AWAY).then_some(Frame(self.frame))
    }

    /// The slot of a shared page, and whether it is mapped here.
    pub(crate) fn slot(self) -> Option<(Vpn, bool)> {
        self.is_shared().then_some((Vpn(u64::from(self.block)), self.frame == SHARED_HERE))
    }

    /// Whether the page is neither empty nor only stored: in a frame, or shared.
    pub(crate) fn is_taken(self) -> bool {
        !self.is_only_stored() && self.frame != NIL
    }

    /// The stored copy, which may be [`Block::ZERO`].
    pub(crate) fn block(self) -> Option<Block> {
        let block = Block { number: self.block, tag: self.tag & !ONLY_STORED };
        (self.block != NIL && !self.is_shared()).then_some(block)
    }

    /// The stored copy, if it is one of the store's.
    pub(crate) fn placed(self) -> Option<Block> {
        self.block().filter(|&block| block != Block::ZERO)
    }

    /// The same, of a page that has no frame.
    pub(crate) fn only_stored(self) -> Option<Block> {
        self.block().filter(|_| self.is_only_stored())
    }

    /// The clock of evictions when a page that is only stored was moved out.
    pub(crate) fn evicted_at(self) -> Option<u32> {
        self.is_only_stored().then_some(self.frame)
    }

    /// In a frame, with the stored copy that it had.
    pub(crate) fn in_frame(self, frame: Frame) -> Pte {
        Pte { frame: frame.0, tag: self.tag & !ONLY_STORED, ..self }
    }

    /// In the frame that it is in, with this stored copy.
    pub(crate) fn with_copy(self, block: Block) -> Pte {
        debug_assert!(self.frame().is_some() && block.tag < ONLY_STORED);
        Pte { block: block.number, tag: block.tag, ..self }
    }

    /// Without its frame: only stored if its copy is one of the store's, else empty.
    pub(crate) fn without_frame(self, evicted_at: u32) -> Pte {
        self.placed().map_or(Pte::EMPTY, |block| Pte::stored(block, evicted_at))
    }

    /// Without its stored copy.
    pub(crate) fn without_block(self) -> Pte {
        if self.is_only_stored() { Pte::EMPTY } else { Pte { block: NIL, tag: 0, ..self } }
    }
}

#[derive(Clone, Debug)]
struct Leaf {
    used: u16,
    cooldowns: [Cooldown; (LEAF_PAGES / COOLDOWN_PAGES) as usize],
    ptes: [Pte; LEAF_PAGES as usize],
}

/// The page entries of one address space.
#[derive(Clone, Debug, Default)]
pub(crate) struct PageTable {
    leaves: BTreeMap<u64, Box<Leaf>>,
}

impl PageTable {
    pub(crate) fn get(&self, vpn: Vpn) -> Pte {
        match self.leaves.get(&(vpn.0 / LEAF_PAGES)) {
            Some(leaf) => leaf.ptes[(vpn.0 % LEAF_PAGES) as usize],
            None => Pte::EMPTY,
        }
    }

    /// Writes one entry. Allocates a leaf only where an entry that is not empty meets no leaf.
    pub(crate) fn set(&mut self, vpn: Vpn, pte: Pte) {
        let number = vpn.0 / LEAF_PAGES;
        if pte == Pte::EMPTY && !self.leaves.contains_key(&number) {
            return;
        }
        let leaf = self.leaves.entry(number).or_insert_with(|| {
            Box::new(Leaf { used: 0, cooldowns: Default::default(), ptes: [Pte::EMPTY; LEAF_PAGES as usize] })
        });
        let slot = &mut leaf.ptes[(vpn.0 % LEAF_PAGES) as usize];
        leaf.used -= u16::from(*slot != Pte::EMPTY);
        leaf.used += u16::from(pte != Pte::EMPTY);
        *slot = pte;
    }

    /// The first page at or after `range.start`, inside the range, that is not empty.
    pub(crate) fn next_used(&self, range: PageRange) -> Option<Vpn> {
        let first = range.start.0 / LEAF_PAGES;
        for (&number, leaf) in self.leaves.range(first..) {
            let base = number * LEAF_PAGES;
            if base >= range.end().0 {
                return None;
            }
            if leaf.used == 0 {
                continue;
            }
            let from = range.start.0.max(base);
            let to = range.end().0.min(base + LEAF_PAGES);
            if let Some(vpn) = (from..to).find(|v| leaf.ptes[(v - base) as usize] != Pte::EMPTY) {
                return Some(Vpn(vpn));
            }
        }
        None
    }

    /// For how long the 64 KiB round a page are left as they are; `None` where no page was ever used.
    pub(crate) fn cooldown(&self, vpn: Vpn) -> Option<Cooldown> {
        let leaf = self.leaves.get(&(vpn.0 / LEAF_PAGES))?;
        Some(leaf.cooldowns[(vpn.0 % LEAF_PAGES / COOLDOWN_PAGES) as usize])
    }

    /// The same, to be changed.
    pub(crate) fn cooldown_mut(&mut self, vpn: Vpn) -> Option<&mut Cooldown> {
        let leaf = self.leaves.get_mut(&(vpn.0 / LEAF_PAGES))?;
        Some(&mut leaf.cooldowns[(vpn.0 % LEAF_PAGES / COOLDOWN_PAGES) as usize])
    }

    /// Gives back leaves that lie wholly in `range` and describe nothing.
    pub(crate) fn prune(&mut self, range: PageRange) {
        let first = range.start.0.div_ceil(LEAF_PAGES);
        let last = range.end().0 / LEAF_PAGES;
        while let Some(number) =
            self.leaves.range(first..last.max(first)).find(|(_, leaf)| leaf.used == 0).map(|(&n, _)| n)
        {
            self.leaves.remove(&number);
        }
    }

    /// Every entry that is not empty, in rising order of address.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Vpn, Pte)> {
        self.leaves.iter().flat_map(|(&number, leaf)| {
            leaf.ptes
                .iter()
                .enumerate()
                .filter(|(_, pte)| **pte != Pte::EMPTY)
                .map(move |(i, &pte)| (Vpn(number * LEAF_PAGES + i as u64), pte))
        })
    }
}
