//! The swap index: what is stored of which page, in extents.
//!
//! A block is the stored copy of one page, and can be read alone. In RAM it is an object of a segment; in a spill file it
//! is part of an extent: what was written there as one unit, the blocks of one folio or those that went from RAM to the
//! file together. An extent counts its live blocks and goes with the last. Page entries name a block by its number, so it
//! can move: to a file, or to another segment.

mod check;
#[cfg(test)]
mod tests;

use super::FileSpace;
use super::segments::{Queue, Segments};
use crate::addr::PAGE_SIZE;
use crate::chunked::Chunked;
use crate::frame::NIL;
use crate::job::{PageHash, Place, Stored};
use crate::mmu::Mmu;

/// Bytes a spill file is given out in: direct I/O wants its offsets aligned to this.
pub const FILE_UNIT: u64 = 4096;

/// Extents that have no block: that of a spill under way, and one that is just being filled.
const EMPTY_EXTENTS: usize = 2;

/// Entries in a leaf of the tables. What is reserved and was never used takes no memory but for the ends of a leaf.
const LEAF: usize = 2048;

/// Page entries that may name one block. Each may have a job that uses it, and there are a few more jobs.
const MOST_REFS: u8 = 127;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
struct Block {
    hash: [u64; 2],
    /// The extent in a spill file; none ([`NIL`]) in RAM.
    extent: u32,
    /// RAM: units of 16 bytes from the start of the store. File: the same from the start of the extent.
    at: u32,
    /// The neighbours in the chain of its extent or segment.
    next: u32,
    prev: u32,
    evicted_at: u32,
    len: u16,
    pins: u8,
    /// Page entries that name it. With none it is dead, and goes with the last job that uses it.
    refs: u8,
}

impl Block {
    fn dead(&self) -> bool {
        self.refs == 0
    }
}

/// Blocks that were written to a spill file together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Extent {
    live: u32,
    /// Its first block, or the next unused extent.
    first: u32,
    start: u32,
    /// None in an unused one.
    units: u32,
    file: u16,
}

impl Default for Extent {
    fn default() -> Extent {
        Extent { live: 0, first: NIL, start: 0, units: 0, file: 0 }
    }
}

/// Blocks, extents, and the room they take in RAM and in files.
#[derive(Clone, Debug)]
pub(crate) struct SwapIndex {
    blocks: Chunked<Block, LEAF>,
    free_block: u32,
    blocks_used: u32,
    extents: Chunked<Extent, LEAF>,
    free_extent: u32,
    pub(crate) segments: Segments,
    /// The file that is written now; earlier ones are sealed and only read.
    file: Option<(u16, FileSpace)>,
}

impl SwapIndex {
    pub(crate) fn new(max_segments: u32, segment_pages: u32) -> SwapIndex {
        SwapIndex {
            blocks: Chunked::new(),
            free_block: NIL,
            blocks_used: 0,
            extents: Chunked::new(),
            free_extent: NIL,
            segments: Segments::new(max_segments, segment_pages),
            file: None,
        }
    }

    /// Makes room for `pages` pages more than are stored, each perhaps in an extent of its own, so that storing them
    /// allocates nothing.
    pub(crate) fn reserve(&mut self, pages: u32) {
        self.segments.reserve_for(pages);
        let wanted = (self.blocks_used + pages) as usize;
        self.blocks.reserve_to(wanted);
        self.extents.reserve_to(wanted + EMPTY_EXTENTS);
    }

    /// Pages that can be stored without an allocation, as far as blocks go.
    pub(crate) fn reserved(&self) -> u32 {
        self.blocks.capacity() as u32 - self.blocks_used
    }

    /// Begins to write to spill file `file`, of at most `limit` bytes. The one before is sealed.
    pub(crate) fn open_file(&mut self, file: u16, limit: u64) {
        let units = (limit / FILE_UNIT).min(u64::from(u32::MAX)) as u32;
        self.file = Some((file, FileSpace::new(units)));
    }

    /// Writes no more to any file: a disk failed, or a fork shares what is there.
    pub(crate) fn close_file(&mut self) {
        self.file = None;
    }

    pub(crate) fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// Bytes that extents take in the spill file that is written now.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.file.as_ref().map_or(0, |(_, space)| u64::from(space.used()) * FILE_UNIT)
    }

    /// Pages of RAM that the store takes.
    pub(crate) fn ram_pages(&self) -> u32 {
        self.segments.pages_backed()
    }

    /// Pages whose contents are in RAM.
    pub(crate) fn blocks_in_ram(&self) -> u32 {
        self.segments.objects()
    }

    /// Pages of contents in RAM that hardly compress.
    pub(crate) fn incompressible_pages(&self) -> u32 {
        (self.segments.bytes_in(Queue::Incompressible) / PAGE_SIZE as u64) as u32
    }

    /// A new extent of `bytes` bytes in the spill file, if there is one with room.
    pub(crate) fn new_file_extent(&mut self, bytes: u64) -> Option<u32> {
        let units = bytes.div_ceil(FILE_UNIT) as u32;
        let (file, space) = self.file.as_mut()?;
        let (file, start) = (*file, space.alloc(units)?);
        let id = self.take_extent();
        let empty = Extent::default();
        self.extents[id as usize] = Extent { file, start, units, ..empty };
        Some(id)
    }

    /// Drops an extent that got no block.
    pub(crate) fn drop_if_empty(&mut self, extent: u32) {
        if self.extents[extent as usize].live == 0 {
            self.drop_extent(extent);
        }
    }

    /// A new block of `len` bytes in RAM, pinned for its writer. `None`: the store's addresses are used up.
    pub(crate) fn new_ram_block(
        &mut self,
        queue: Queue,
        len: u16,
        hash: PageHash,
        clock: u32,
    ) -> Option<u32> {
        let at = self.segments.append(queue, len, clock)?;
        Some(self.new_block(NIL, at, len, hash, clock))
    }

    /// A new block at byte `offset` of a file extent, pinned for its writer.
    pub(crate) fn new_file_block(
        &mut self,
        extent: u32,
        offset: u64,
        len: u16,
        hash: PageHash,
        clock: u32,
    ) -> u32 {
        self.new_block(extent, (offset / 16) as u32, len, hash, clock)
    }

    fn new_block(&mut self, extent: u32, at: u32, len: u16, hash: PageHash, clock: u32) -> u32 {
        let id = match self.free_block {
            NIL => self.blocks.push(Block::default()) as u32,
            id => {
                self.free_block = self.blocks[id as usize].next;
                id
            }
        };
        self.blocks_used += 1;
        let hash = [hash as u64, (hash >> 64) as u64];
        let (pins, refs, prev) = (1, 1, NIL);
        let next = NIL;
        self.blocks[id as usize] = Block { hash, extent, at, next, prev, evicted_at: clock, len, pins, refs };
        self.link(id);
        id
    }

    /// The first block of the chain that a block belongs to by its place.
    fn chain(&self, block: &Block) -> u32 {
        match block.extent {
            NIL => self.segments.chain(self.segments.segment_of(block.at)),
            extent => self.extents[extent as usize].first,
        }
    }

    fn set_chain(&mut self, id: u32, first: u32) {
        let Block { extent, at, .. } = self.blocks[id as usize];
        match extent {
            NIL => self.segments.set_chain(self.segments.segment_of(at), first),
            extent => self.extents[extent as usize].first = first,
        }
    }

    fn link(&mut self, id: u32) {
        let first = self.chain(&self.blocks[id as usize]);
        if first != NIL {
            self.blocks[first as usize].prev = id;
        }
        self.set_chain(id, id);
        let block = &mut self.blocks[id as usize];
        (block.next, block.prev) = (first, NIL);
        if block.extent != NIL {
            self.extents[block.extent as usize].live += 1;
        }
    }

    fn unlink(&mut self, id: u32) {
        let Block { extent, next, prev, .. } = self.blocks[id as usize];
        if next != NIL {
            self.blocks[next as usize].prev = prev;
        }
        match prev {
            NIL => self.set_chain(id, next),
            _ => self.blocks[prev as usize].next = next,
        }
        if extent != NIL {
            self.extents[extent as usize].live -= 1;
        }
    }

    /// What a job needs to know of a block.
    pub(crate) fn stored(&self, id: u32) -> Stored {
        let block = &self.blocks[id as usize];
        Stored { place: self.place_of(block), len: block.len, hash: hash_of(block) }
    }

    pub(crate) fn hash(&self, id: u32) -> PageHash {
        hash_of(&self.blocks[id as usize])
    }

    /// Whether a block is in a spill file.
    pub(crate) fn is_in_file(&self, id: u32) -> bool {
        self.blocks[id as usize].extent != NIL
    }

    /// The clock of evictions when the block was stored.
    pub(crate) fn evicted_at(&self, id: u32) -> u32 {
        self.blocks[id as usize].evicted_at
    }

    /// Notes that the page of a block was moved out again, unchanged: in RAM it is then among the last to spill.
    pub(crate) fn touch(&mut self, id: u32, clock: u32) {
        self.blocks[id as usize].evicted_at = clock;
    }

    fn place_of(&self, block: &Block) -> Place {
        match block.extent {
            NIL => Place::Ram { at: block.at },
            extent => self.file_place(extent, u64::from(block.at) * 16),
        }
    }

    /// The place of byte `offset` of a file extent.
    pub(crate) fn file_place(&self, extent: u32, offset: u64) -> Place {
        let extent = &self.extents[extent as usize];
        Place::File { file: extent.file, at: u64::from(extent.start) * FILE_UNIT + offset }
    }

    /// Keeps a block's contents in place until [`SwapIndex::unpin`].
    pub(crate) fn pin(&mut self, id: u32) {
        self.blocks[id as usize].pins += 1;
    }

    pub(crate) fn unpin(&mut self, id: u32, mmu: &mut impl Mmu) {
        let block = &mut self.blocks[id as usize];
        block.pins -= 1;
        if block.pins == 0 && block.dead() {
            self.release(id, mmu);
        }
    }

    /// One more page entry names a block. False where too many do, or too many jobs use it.
    pub(crate) fn join(&mut self, id: u32) -> bool {
        let block = &mut self.blocks[id as usize];
        let joins = block.refs.max(block.pins) < MOST_REFS;
        block.refs += u8::from(joins);
        joins
    }

    /// One page entry names a block no more. With the last one it goes: at once, or when the last job that uses it
    /// ends.
    pub(crate) fn free(&mut self, id: u32, mmu: &mut impl Mmu) {
        let block = &mut self.blocks[id as usize];
        debug_assert!(!block.dead());
        block.refs -= 1;
        if block.pins == 0 && block.dead() {
            self.release(id, mmu);
        }
    }

    fn release(&mut self, id: u32, mmu: &mut impl Mmu) {
        let Block { extent, at, len, .. } = self.blocks[id as usize];
        self.unlink(id);
        match extent {
            NIL => self.free_ram(at, len, mmu),
            extent => self.drop_if_empty(extent),
        }
        self.blocks[id as usize] = Block { next: self.free_block, ..Block::default() };
        self.free_block = id;
        self.blocks_used -= 1;
    }

    fn free_ram(&mut self, at: u32, len: u16, mmu: &mut impl Mmu) {
        for pages in self.segments.free(at, len).into_iter().filter(|pages| !pages.is_empty()) {
            mmu.release_stored(pages);
        }
    }

    /// Lists blocks of the oldest segments of a queue for which no job is under way, up to `bytes` bytes and `most` blocks:
    /// they are to spill. Those that were moved out again since their segment was closed move to the end of the log
    /// instead, to be spilled later.
    pub(crate) fn oldest_blocks(
        &mut self,
        queue: Queue,
        bytes: u64,
        most: usize,
        out: &mut alloc::vec::Vec<u32>,
        mmu: &mut impl Mmu,
    ) {
        let (mut total, mut moved) = (0, 0);
        let mut at = self.segments.oldest(queue);
        while let Some(segment) = at.filter(|_| total < bytes && moved < bytes && out.len() < most) {
            at = self.segments.younger(segment);
            let closed_at = self.segments.closed_at(segment);
            let mut id = self.segments.chain(segment);
            while id != NIL && total < bytes && out.len() < most {
                let Block { len, next, evicted_at, .. } = self.blocks[id as usize];
                let renewed = evicted_at.wrapping_sub(closed_at) as i32 > 0;
                if renewed && self.can_move(id) && self.move_to_end(id, mmu) {
                    moved += u64::from(len);
                } else if self.can_move(id) {
                    total += u64::from(len).next_multiple_of(16);
                    out.push(id);
                }
                id = next;
            }
        }
    }

    fn can_move(&self, id: u32) -> bool {
        let block = &self.blocks[id as usize];
        block.pins == 0 && !block.dead()
    }

    /// What is left of the emptiest segment moves to the end of the log, as far as no job uses it, if that is no more than
    /// `most` bytes. How many bytes moved.
    pub(crate) fn clean(&mut self, most: u32, mmu: &mut impl Mmu) -> u32 {
        let Some((segment, _)) = self.segments.emptiest().filter(|&(_, live)| live <= most) else { return 0 };
        let mut moved = 0;
        let mut id = self.segments.chain(segment);
        while id != NIL {
            let Block { len, next, .. } = self.blocks[id as usize];
            if self.can_move(id)
                && let Some(to) = self.segments.append_moved(segment, len)
            {
                self.move_in_ram(id, to, mmu);
                moved += u32::from(len);
            }
            id = next;
        }
        moved
    }

    /// A block becomes the youngest of its queue. False where the store has no room.
    fn move_to_end(&mut self, id: u32, mmu: &mut impl Mmu) -> bool {
        let Block { at, len, evicted_at, .. } = self.blocks[id as usize];
        let to = self.segments.append(self.segments.queue_of(at), len, evicted_at);
        to.map(|to| self.move_in_ram(id, to, mmu)).is_some()
    }

    /// The contents of a block that no job uses move to another place of the store in RAM.
    fn move_in_ram(&mut self, id: u32, to: u32, mmu: &mut impl Mmu) {
        let Block { at, len, .. } = self.blocks[id as usize];
        mmu.move_stored(at, to, len);
        self.unlink(id);
        self.free_ram(at, len, mmu);
        self.blocks[id as usize].at = to;
        self.link(id);
    }

    /// A block's contents now are at byte `offset` of file extent `target`; its RAM is given back. A block
    /// that another job uses, or that has died, stays what it is.
    pub(crate) fn move_to_file(&mut self, id: u32, target: u32, offset: u64, mmu: &mut impl Mmu) -> bool {
        let Block { at, len, pins, refs, .. } = self.blocks[id as usize];
        if pins > 1 || refs == 0 {
            return false;
        }
        self.unlink(id);
        self.free_ram(at, len, mmu);
        let block = &mut self.blocks[id as usize];
        (block.extent, block.at) = (target, (offset / 16) as u32);
        self.link(id);
        true
    }

    fn take_extent(&mut self) -> u32 {
        match self.free_extent {
            NIL => self.extents.push(Extent::default()) as u32,
            id => {
                self.free_extent = self.extents[id as usize].first;
                id
            }
        }
    }

    fn drop_extent(&mut self, id: u32) {
        let extent = self.extents[id as usize];
        if let Some((file, space)) = self.file.as_mut()
            && *file == extent.file
        {
            space.free(extent.start, extent.units);
        }
        self.extents[id as usize] = Extent { first: self.free_extent, ..Extent::default() };
        self.free_extent = id;
    }

    /// How many extents are in files.
    pub(crate) fn extents_used(&self) -> u32 {
        let (mut free, mut id) = (0, self.free_extent);
        while id != NIL {
            (free, id) = (free + 1, self.extents[id as usize].first);
        }
        self.extents.len() as u32 - free
    }

    /// How many blocks are live or waiting for their last job.
    pub(crate) fn blocks_used(&self) -> u32 {
        self.blocks_used
    }

    pub(crate) fn is_live(&self, id: u32) -> bool {
        let block = &self.blocks[id as usize];
        !block.dead() && block.len != 0
    }

    /// How many page entries name a block.
    pub(crate) fn refs(&self, id: u32) -> u8 {
        self.blocks[id as usize].refs
    }

    /// Blocks that wait for the last job that uses them. Walks all blocks.
    pub(crate) fn dead_blocks(&self) -> usize {
        (0..self.blocks.len()).filter(|&i| self.blocks[i].dead() && self.blocks[i].len != 0).count()
    }

    /// How many jobs use a block, and whether it goes with the last of them.
    pub(crate) fn pins(&self, id: u32) -> (u8, bool) {
        let block = &self.blocks[id as usize];
        (block.pins, block.dead())
    }

    /// Passes on the order in which segments are to spill, each with its blocks as positions in `names`, and how much of
    /// the spill file is used.
    pub(crate) fn add_order(&self, add: &mut impl FnMut(u32), names: &[u32]) {
        for queue in [Queue::Dense, Queue::Incompressible] {
            let mut at = self.segments.oldest(queue);
            while let Some(segment) = at {
                let mut id = self.segments.chain(segment);
                while id != NIL {
                    add(names.iter().position(|&b| b == id).map_or(NIL, |at| at as u32));
                    id = self.blocks[id as usize].next;
                }
                add(NIL);
                at = self.segments.younger(segment);
            }
            add(NIL - 1);
        }
        add(self.file.as_ref().map_or(NIL, |(_, space)| space.used()));
    }
}

fn hash_of(block: &Block) -> PageHash {
    PageHash::from(block.hash[0]) | PageHash::from(block.hash[1]) << 64
}
