//! The swap index: what is stored of which page, in extents.
//!
//! A block is the stored copy of one page, and can be read alone. An extent is what was stored as one unit: the
//! blocks of one folio, or those that went from RAM to a spill file together. It counts its live blocks and
//! goes with the last. Extents in RAM stand in one of two queues by age, since the oldest spill first: those that
//! compress well, and those that are worth keeping in RAM only for a while.

mod check;
#[cfg(test)]
mod tests;

use super::{FileSpace, Spans};
use crate::addr::PAGE_SIZE;
use crate::chunked::Chunked;
use crate::frame::NIL;
use crate::job::{PageHash, Place, Stored};
use crate::mmu::Mmu;

/// Bytes a spill file is given out in: direct I/O wants its offsets aligned to this.
pub const FILE_UNIT: u64 = 4096;

/// Extents that have no block: that of a spill under way, and one that is just being filled.
const EMPTY_EXTENTS: u32 = 2;

/// Page entries that may name one block. Each may have a job that uses it, and there are a few more jobs.
const MOST_REFS: u8 = 127;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
struct Block {
    hash: [u64; 2],
    extent: u32,
    /// RAM: units of 16 bytes from the start of the store. File: the same from the start of the extent.
    at: u32,
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

/// A queue of extents in RAM.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum Queue {
    /// Contents that compress.
    #[default]
    Dense,
    /// Contents that hardly compress: in RAM they take as much as in frames, so they wait there to be needed again soon,
    /// or to go to the file many at once.
    Poor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Ends {
    oldest: u32,
    youngest: u32,
    /// Bytes of live blocks.
    bytes: u64,
    blocks: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Extent {
    live: u32,
    queue: Queue,
    first: u32,
    in_file: bool,
    file: u16,
    file_start: u32,
    file_units: u32,
    older: u32,
    younger: u32,
}

impl Default for Extent {
    fn default() -> Extent {
        Extent {
            live: 0,
            queue: Queue::Dense,
            first: NIL,
            in_file: false,
            file: 0,
            file_start: 0,
            file_units: 0,
            older: NIL,
            younger: NIL,
        }
    }
}

/// Blocks, extents, and the room they take in RAM and in files.
#[derive(Clone, Debug)]
pub(crate) struct SwapIndex {
    blocks: Chunked<Block>,
    free_block: u32,
    blocks_used: u32,
    extents: Chunked<Extent>,
    free_extent: u32,
    /// By [`Queue`].
    queues: [Ends; 2],
    pub(crate) spans: Spans,
    /// The file that is written now; earlier ones are sealed and only read.
    file: Option<(u16, FileSpace)>,
}

impl SwapIndex {
    pub(crate) fn new(max_spans: u32) -> SwapIndex {
        SwapIndex {
            blocks: Chunked::new(),
            free_block: NIL,
            blocks_used: 0,
            extents: Chunked::new(),
            free_extent: NIL,
            queues: [Ends { oldest: NIL, youngest: NIL, bytes: 0, blocks: 0 }; 2],
            spans: Spans::new(max_spans),
            file: None,
        }
    }

    /// Makes room for `pages` pages more than are stored, each perhaps in an extent of its own, so that storing them
    /// allocates nothing.
    pub(crate) fn reserve(&mut self, pages: u32) {
        self.spans.reserve_for(pages);
        let wanted = self.blocks_used + pages;
        self.grow_blocks(wanted as usize);
        self.grow_extents((wanted + EMPTY_EXTENTS) as usize);
    }

    fn grow_blocks(&mut self, len: usize) {
        let from = self.blocks.len();
        self.blocks.grow_to(len);
        for i in (from..self.blocks.len()).rev() {
            self.blocks[i].next = self.free_block;
            self.free_block = i as u32;
        }
    }

    fn grow_extents(&mut self, len: usize) {
        let from = self.extents.len();
        self.extents.grow_to(len);
        for i in (from..self.extents.len()).rev() {
            self.extents[i].younger = self.free_extent;
            self.free_extent = i as u32;
        }
    }

    /// Pages that can be stored without an allocation, as far as blocks go.
    pub(crate) fn reserved(&self) -> u32 {
        self.blocks.len() as u32 - self.blocks_used
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
        self.spans.spans_used() * (super::SPAN_BYTES / PAGE_SIZE) as u32
    }

    /// Pages whose contents are in RAM.
    pub(crate) fn blocks_in_ram(&self) -> u32 {
        self.queues.iter().map(|ends| ends.blocks).sum()
    }

    /// Pages of contents in RAM that hardly compress.
    pub(crate) fn poor_pages(&self) -> u32 {
        (self.queues[Queue::Poor as usize].bytes / PAGE_SIZE as u64) as u32
    }

    /// A new extent in RAM, the youngest of its queue; it has no blocks yet.
    pub(crate) fn new_ram_extent(&mut self, queue: Queue) -> u32 {
        let id = self.take_extent();
        let last = self.queues[queue as usize].youngest;
        self.extents[id as usize] = Extent { queue, older: last, ..Extent::default() };
        match last {
            NIL => self.queues[queue as usize].oldest = id,
            last => self.extents[last as usize].younger = id,
        }
        self.queues[queue as usize].youngest = id;
        id
    }

    /// A new extent of `bytes` bytes in the spill file, if there is one with room.
    pub(crate) fn new_file_extent(&mut self, bytes: u64) -> Option<u32> {
        let units = bytes.div_ceil(FILE_UNIT) as u32;
        let (file, space) = self.file.as_mut()?;
        let (file, file_start) = (*file, space.alloc(units)?);
        let id = self.take_extent();
        let empty = Extent::default();
        self.extents[id as usize] = Extent { in_file: true, file, file_start, file_units: units, ..empty };
        Some(id)
    }

    /// Drops an extent that got no block.
    pub(crate) fn drop_if_empty(&mut self, extent: u32) {
        if self.extents[extent as usize].live == 0 {
            self.drop_extent(extent);
        }
    }

    /// A new block of `len` bytes in RAM, pinned for its writer. `None`: the store's addresses are used up.
    pub(crate) fn new_ram_block(&mut self, extent: u32, len: u16, hash: PageHash, clock: u32) -> Option<u32> {
        let at = self.spans.alloc(len)?;
        let ends = &mut self.queues[self.extents[extent as usize].queue as usize];
        ends.bytes += u64::from(len);
        ends.blocks += 1;
        Some(self.new_block(extent, at, len, hash, clock))
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
        if self.free_block == NIL {
            self.grow_blocks(self.blocks.len() + 1);
        }
        let id = self.free_block;
        self.free_block = self.blocks[id as usize].next;
        self.blocks_used += 1;
        let hash = [hash as u64, (hash >> 64) as u64];
        let (pins, refs, prev) = (1, 1, NIL);
        let next = NIL;
        self.blocks[id as usize] = Block { hash, extent, at, next, prev, evicted_at: clock, len, pins, refs };
        self.link(id, extent);
        id
    }

    fn link(&mut self, id: u32, extent: u32) {
        let first = self.extents[extent as usize].first;
        if first != NIL {
            self.blocks[first as usize].prev = id;
        }
        let block = &mut self.blocks[id as usize];
        (block.extent, block.next, block.prev) = (extent, first, NIL);
        let extent = &mut self.extents[extent as usize];
        extent.first = id;
        extent.live += 1;
    }

    fn unlink(&mut self, id: u32) {
        let Block { extent, next, prev, .. } = self.blocks[id as usize];
        if next != NIL {
            self.blocks[next as usize].prev = prev;
        }
        match prev {
            NIL => self.extents[extent as usize].first = next,
            _ => self.blocks[prev as usize].next = next,
        }
        self.extents[extent as usize].live -= 1;
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
        self.extents[self.blocks[id as usize].extent as usize].in_file
    }

    /// The clock of evictions when the block was stored.
    pub(crate) fn evicted_at(&self, id: u32) -> u32 {
        self.blocks[id as usize].evicted_at
    }

    /// Notes that the page of a block was moved out again, unchanged. In RAM it is then among the last to spill: it goes
    /// to `renewed`, the extent of those that were moved out with it, which is made for the first. One that a job uses
    /// stays where it is.
    pub(crate) fn touch(&mut self, id: u32, clock: u32, renewed: &mut Option<u32>) {
        let Block { extent, pins, refs, .. } = self.blocks[id as usize];
        self.blocks[id as usize].evicted_at = clock;
        let Extent { in_file, queue, .. } = self.extents[extent as usize];
        if in_file || pins > 0 || refs == 0 {
            return;
        }
        let to = match *renewed {
            Some(to) if self.extents[to as usize].queue == queue => to,
            _ => self.new_ram_extent(queue),
        };
        *renewed = Some(to);
        self.unlink(id);
        self.drop_if_empty(extent);
        self.link(id, to);
    }

    fn place_of(&self, block: &Block) -> Place {
        let extent = &self.extents[block.extent as usize];
        if extent.in_file {
            let at = u64::from(extent.file_start) * FILE_UNIT + u64::from(block.at) * 16;
            Place::File { file: extent.file, at }
        } else {
            Place::Ram { at: block.at }
        }
    }

    /// The place of byte `offset` of a file extent.
    pub(crate) fn file_place(&self, extent: u32, offset: u64) -> Place {
        let extent = &self.extents[extent as usize];
        Place::File { file: extent.file, at: u64::from(extent.file_start) * FILE_UNIT + offset }
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
        if !self.extents[extent as usize].in_file {
            self.free_ram(extent, at, len, mmu);
        }
        self.drop_if_empty(extent);
        self.blocks[id as usize] = Block { next: self.free_block, ..Block::default() };
        self.free_block = id;
        self.blocks_used -= 1;
    }

    fn free_ram(&mut self, extent: u32, at: u32, len: u16, mmu: &mut impl Mmu) {
        let ends = &mut self.queues[self.extents[extent as usize].queue as usize];
        ends.bytes -= u64::from(len);
        ends.blocks -= 1;
        if let Some(span) = self.spans.free(at, len) {
            mmu.release_span(span);
        }
    }

    /// Lists blocks of the oldest extents of a queue for which no job is under way, up to `bytes` bytes: they are
    /// to spill. An extent is listed whole or not at all, but for pinned and dead blocks.
    pub(crate) fn oldest_blocks(
        &self,
        queue: Queue,
        bytes: u64,
        most: usize,
        out: &mut alloc::vec::Vec<u32>,
    ) {
        let mut total = 0;
        let mut extent = self.queues[queue as usize].oldest;
        while extent != NIL && total < bytes {
            let mut id = self.extents[extent as usize].first;
            if out.len() + self.extents[extent as usize].live as usize > most {
                break;
            }
            while id != NIL {
                let block = &self.blocks[id as usize];
                if block.pins == 0 && !block.dead() {
                    total += u64::from(block.len).next_multiple_of(16);
                    out.push(id);
                }
                id = block.next;
            }
            extent = self.extents[extent as usize].younger;
        }
    }

    /// A block's contents now are at byte `offset` of file extent `target`; its RAM is given back. A block
    /// that another job uses, or that has died, stays what it is.
    pub(crate) fn move_to_file(&mut self, id: u32, target: u32, offset: u64, mmu: &mut impl Mmu) -> bool {
        let Block { extent, at, len, pins, refs, .. } = self.blocks[id as usize];
        if pins > 1 || refs == 0 {
            return false;
        }
        self.unlink(id);
        self.free_ram(extent, at, len, mmu);
        self.drop_if_empty(extent);
        self.blocks[id as usize].at = (offset / 16) as u32;
        self.link(id, target);
        true
    }

    fn take_extent(&mut self) -> u32 {
        if self.free_extent == NIL {
            self.grow_extents(self.extents.len() + 1);
        }
        let id = self.free_extent;
        self.free_extent = self.extents[id as usize].younger;
        id
    }

    fn drop_extent(&mut self, id: u32) {
        let extent = self.extents[id as usize];
        if extent.in_file {
            if let Some((file, space)) = self.file.as_mut()
                && *file == extent.file
            {
                space.free(extent.file_start, extent.file_units);
            }
        } else {
            let ends = &mut self.queues[extent.queue as usize];
            match extent.older {
                NIL => ends.oldest = extent.younger,
                older => self.extents[older as usize].younger = extent.younger,
            }
            match extent.younger {
                NIL => ends.youngest = extent.older,
                younger => self.extents[younger as usize].older = extent.older,
            }
        }
        self.extents[id as usize] = Extent { younger: self.free_extent, ..Extent::default() };
        self.free_extent = id;
    }

    /// How many extents are in RAM or in a file.
    pub(crate) fn extents_used(&self) -> u32 {
        let (mut free, mut id) = (0, self.free_extent);
        while id != NIL {
            (free, id) = (free + 1, self.extents[id as usize].younger);
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

    /// Passes on the order in which extents in RAM are to spill, each with its blocks as positions in `names`, and
    /// how much of the spill file is used.
    pub(crate) fn add_extents(&self, add: &mut impl FnMut(u32), names: &[u32]) {
        for ends in &self.queues {
            let mut extent = ends.oldest;
            while extent != NIL {
                let mut id = self.extents[extent as usize].first;
                while id != NIL {
                    add(names.iter().position(|&b| b == id).map_or(NIL, |at| at as u32));
                    id = self.blocks[id as usize].next;
                }
                add(NIL);
                extent = self.extents[extent as usize].younger;
            }
            add(NIL - 1);
        }
        add(self.file.as_ref().map_or(NIL, |(_, space)| space.used()));
    }
}

fn hash_of(block: &Block) -> PageHash {
    PageHash::from(block.hash[0]) | PageHash::from(block.hash[1]) << 64
}
