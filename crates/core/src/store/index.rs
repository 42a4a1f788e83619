//! The index of blocks: what is stored where.
//!
//! A block is the stored copy of one page, and can be read alone. In RAM it is an object of a segment; in a spill file it
//! is part of an extent: what was written there as one unit, the blocks of one folio or those that went from RAM to the
//! file together. An extent counts its live blocks and goes with the last. Page entries name a block by its number, so it
//! can move: to a file, or to another segment.

mod check;
#[cfg(test)]
mod tests;

use super::segments::{Queue, Segments};
use super::{Block, FileSpace, StoreMemory};
use crate::addr::PAGE_SIZE;
use crate::chunked::Chunked;
use crate::frame::NIL;
use crate::job::{PageHash, Place, Stored};
use alloc::vec::Vec;

/// Bytes a spill file is given out in: direct I/O wants its offsets aligned to this.
pub const FILE_UNIT: u64 = 4096;

/// Extents that have no block: that of a spill under way, and one that is just being filled.
const EMPTY_EXTENTS: usize = 2;

/// Entries in a leaf of the tables. What is reserved and was never used takes no memory but for the ends of a leaf.
const LEAF: usize = 2048;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
struct Record {
    hash: [u32; 4],
    /// The extent in a spill file; none ([`NIL`]) in RAM.
    extent: u32,
    /// RAM: units of 16 bytes from the start of the store. File: the same from the start of the extent.
    at: u32,
    /// The neighbours in the chain of its extent or segment.
    next: u32,
    prev: u32,
    /// Changes whenever the number becomes another block's.
    tag: u32,
    /// Page entries that name it, and the writer that has not handed it over. With none it is dead.
    refs: u32,
    len: u16,
    /// A job of the store's has it in hand: it stays where it is, and goes only when that is done with it.
    busy: bool,
    /// Its page was moved out again, unchanged, since its segment was closed.
    renewed: bool,
}

impl Record {
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
pub(crate) struct Index {
    records: Chunked<Record, LEAF>,
    free_block: u32,
    blocks_used: u32,
    /// Blocks in use that no page entry names: their writer has not handed them over, or a job's end is the end of them.
    unnamed: u32,
    extents: Chunked<Extent, LEAF>,
    free_extent: u32,
    pub(crate) segments: Segments,
    /// The file that is written now; earlier ones are sealed and only read.
    file: Option<(u16, FileSpace)>,
}

impl Index {
    pub(crate) fn new(max_segments: u32, segment_pages: u32) -> Index {
        Index {
            records: Chunked::new(),
            free_block: NIL,
            blocks_used: 0,
            unnamed: 0,
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
        self.records.reserve_to(wanted);
        self.extents.reserve_to(wanted + EMPTY_EXTENTS);
    }

    /// Pages that can be stored without an allocation, as far as blocks go.
    pub(crate) fn reserved(&self) -> u32 {
        self.records.capacity() as u32 - self.blocks_used
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

    /// A new block of `len` bytes in RAM, its writer's. `None`: the store's addresses are used up.
    pub(crate) fn new_ram_block(&mut self, queue: Queue, len: u16, hash: PageHash) -> Option<u32> {
        let at = self.segments.append(queue, len)?;
        Some(self.new_block(NIL, at, len, hash))
    }

    /// A new block at byte `offset` of a file extent, its writer's.
    pub(crate) fn new_file_block(&mut self, extent: u32, offset: u64, len: u16, hash: PageHash) -> u32 {
        self.new_block(extent, (offset / 16) as u32, len, hash)
    }

    fn new_block(&mut self, extent: u32, at: u32, len: u16, hash: PageHash) -> u32 {
        let id = match self.free_block {
            NIL => self.records.push(Record::default()) as u32,
            id => {
                self.free_block = self.records[id as usize].next;
                id
            }
        };
        self.blocks_used += 1;
        self.unnamed += 1;
        let hash = [0, 32, 64, 96].map(|bits| (hash >> bits) as u32);
        let Record { tag, .. } = self.records[id as usize];
        self.records[id as usize] =
            Record { hash, extent, at, tag, len, refs: 1, busy: true, ..Record::default() };
        self.link(id);
        id
    }

    /// The first block of the chain that a block belongs to by its place.
    fn chain(&self, block: &Record) -> u32 {
        match block.extent {
            NIL => self.segments.chain(self.segments.segment_of(block.at)),
            extent => self.extents[extent as usize].first,
        }
    }

    fn set_chain(&mut self, id: u32, first: u32) {
        let Record { extent, at, .. } = self.records[id as usize];
        match extent {
            NIL => self.segments.set_chain(self.segments.segment_of(at), first),
            extent => self.extents[extent as usize].first = first,
        }
    }

    fn link(&mut self, id: u32) {
        let first = self.chain(&self.records[id as usize]);
        if first != NIL {
            self.records[first as usize].prev = id;
        }
        self.set_chain(id, id);
        let block = &mut self.records[id as usize];
        (block.next, block.prev) = (first, NIL);
        if block.extent != NIL {
            self.extents[block.extent as usize].live += 1;
        }
    }

    fn unlink(&mut self, id: u32) {
        let Record { extent, next, prev, .. } = self.records[id as usize];
        if next != NIL {
            self.records[next as usize].prev = prev;
        }
        match prev {
            NIL => self.set_chain(id, next),
            _ => self.records[prev as usize].next = next,
        }
        if extent != NIL {
            self.extents[extent as usize].live -= 1;
        }
    }

    /// The name of a block.
    pub(crate) fn name(&self, id: u32) -> Block {
        Block { number: id, tag: self.records[id as usize].tag }
    }

    /// The block of a name, if it is still the same, and somebody needs it.
    pub(crate) fn find(&self, block: Block) -> Option<u32> {
        let known = (block.number as usize) < self.records.len();
        let record = known.then(|| &self.records[block.number as usize])?;
        (record.tag == block.tag && !record.dead()).then_some(block.number)
    }

    /// What is known of a block; `None` where nobody names it.
    pub(crate) fn look(&self, block: Block) -> Option<Stored> {
        let record = &self.records[self.find(block)? as usize];
        Some(Stored { place: self.place_of(record), len: record.len, hash: hash_of(record) })
    }

    /// Notes that the page of a block was moved out again, unchanged: in RAM it is then among the last to spill.
    pub(crate) fn renew(&mut self, block: Block) {
        let Some(id) = self.find(block) else { return };
        let Record { extent, at, .. } = self.records[id as usize];
        let in_ram = extent == NIL;
        self.records[id as usize].renewed = in_ram && !self.segments.is_open(self.segments.segment_of(at));
    }

    fn place_of(&self, block: &Record) -> Place {
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

    /// The contents of a new block are there: it has one name from now on.
    pub(crate) fn hand_over(&mut self, id: u32) {
        self.records[id as usize].busy = false;
        self.unnamed -= 1;
    }

    /// Those of a new block will not come.
    pub(crate) fn abandon(&mut self, id: u32, memory: &mut impl StoreMemory) {
        self.unnamed -= 1;
        self.release(id, memory);
    }

    /// A spill takes a block in hand.
    pub(crate) fn begin(&mut self, id: u32) {
        self.records[id as usize].busy = true;
    }

    /// It is done with it.
    pub(crate) fn end(&mut self, id: u32, memory: &mut impl StoreMemory) {
        let record = &mut self.records[id as usize];
        record.busy = false;
        if record.dead() {
            self.unnamed -= 1;
            self.release(id, memory);
        }
    }

    /// One more page entry names a block.
    pub(crate) fn share(&mut self, id: u32) {
        self.records[id as usize].refs += 1;
    }

    /// One page entry names a block no more. With the last one it goes, at once or when the job ends that has it in hand.
    pub(crate) fn drop(&mut self, id: u32, memory: &mut impl StoreMemory) {
        let record = &mut self.records[id as usize];
        debug_assert!(!record.dead());
        record.refs -= 1;
        match (record.dead(), record.busy) {
            (true, true) => self.unnamed += 1,
            (true, false) => self.release(id, memory),
            (false, _) => {}
        }
    }

    fn release(&mut self, id: u32, memory: &mut impl StoreMemory) {
        let Record { extent, at, len, tag, .. } = self.records[id as usize];
        self.unlink(id);
        match extent {
            NIL => self.free_ram(at, len, memory),
            extent => self.drop_if_empty(extent),
        }
        let tag = (tag + 1) % Block::TAGS;
        self.records[id as usize] = Record { next: self.free_block, tag, ..Record::default() };
        self.free_block = id;
        self.blocks_used -= 1;
    }

    fn free_ram(&mut self, at: u32, len: u16, memory: &mut impl StoreMemory) {
        for pages in self.segments.free(at, len).into_iter().filter(|pages| !pages.is_empty()) {
            memory.release_stored(pages);
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
        out: &mut Vec<Option<Block>>,
        memory: &mut impl StoreMemory,
    ) {
        let (mut total, mut moved) = (0, 0);
        let mut at = self.segments.oldest(queue);
        while let Some(segment) = at.filter(|_| total < bytes && moved < bytes && out.len() < most) {
            at = self.segments.younger(segment);
            let mut id = self.segments.chain(segment);
            while id != NIL && total < bytes && out.len() < most {
                let Record { len, next, renewed, .. } = self.records[id as usize];
                if renewed && self.can_move(id) && self.move_to_end(id, memory) {
                    moved += u64::from(len);
                } else if self.can_move(id) {
                    total += u64::from(len).next_multiple_of(16);
                    out.push(Some(self.name(id)));
                }
                id = next;
            }
        }
    }

    fn can_move(&self, id: u32) -> bool {
        let record = &self.records[id as usize];
        !record.busy && !record.dead()
    }

    /// What is left of the emptiest segment moves to the end of the log, as far as no job uses it, if that is no more than
    /// `most` bytes. How many bytes moved.
    pub(crate) fn clean(&mut self, most: u32, memory: &mut impl StoreMemory) -> u32 {
        let Some((segment, _)) = self.segments.emptiest().filter(|&(_, live)| live <= most) else { return 0 };
        let mut moved = 0;
        let mut id = self.segments.chain(segment);
        while id != NIL {
            let Record { len, next, .. } = self.records[id as usize];
            if self.can_move(id)
                && let Some(to) = self.segments.append_moved(segment, len)
            {
                self.move_in_ram(id, to, memory);
                moved += u32::from(len);
            }
            id = next;
        }
        moved
    }

    /// A block becomes the youngest of its queue. False where the store has no room.
    fn move_to_end(&mut self, id: u32, memory: &mut impl StoreMemory) -> bool {
        let Record { at, len, .. } = self.records[id as usize];
        let Some(to) = self.segments.append(self.segments.queue_of(at), len) else { return false };
        self.records[id as usize].renewed = false;
        self.move_in_ram(id, to, memory);
        true
    }

    /// The contents of a block that no job uses move to another place of the store in RAM.
    fn move_in_ram(&mut self, id: u32, to: u32, memory: &mut impl StoreMemory) {
        let Record { at, len, .. } = self.records[id as usize];
        memory.move_stored(at, to, len);
        self.unlink(id);
        self.free_ram(at, len, memory);
        self.records[id as usize].at = to;
        self.link(id);
    }

    /// A block's contents now are at byte `offset` of file extent `target`; its RAM is given back. One that has died stays
    /// what it is.
    pub(crate) fn move_to_file(
        &mut self,
        id: u32,
        target: u32,
        offset: u64,
        memory: &mut impl StoreMemory,
    ) -> bool {
        let Record { at, len, .. } = self.records[id as usize];
        if self.records[id as usize].dead() {
            return false;
        }
        self.unlink(id);
        self.free_ram(at, len, memory);
        let record = &mut self.records[id as usize];
        (record.extent, record.at, record.renewed) = (target, (offset / 16) as u32, false);
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

    /// What of a block decides later, as a number that two equal ones share.
    pub(crate) fn traits(&self, block: Block) -> u32 {
        let Some(id) = self.find(block) else { return 0 };
        let record = &self.records[id as usize];
        let flags = [record.extent != NIL, record.dead(), record.busy, record.renewed];
        let flags = (0..).zip(flags).map(|(bit, flag)| u32::from(flag) << bit).sum::<u32>();
        flags | u32::from(record.len) << 16
    }

    /// Passes on the order in which segments are to spill, each with its blocks as positions in `names`, and how much of
    /// the spill file is used.
    pub(crate) fn add_order(&self, add: &mut impl FnMut(u32), names: &[Block]) {
        for queue in [Queue::Dense, Queue::Incompressible] {
            let mut at = self.segments.oldest(queue);
            while let Some(segment) = at {
                let mut id = self.segments.chain(segment);
                while id != NIL {
                    add(names.iter().position(|b| b.number == id).map_or(NIL, |at| at as u32));
                    id = self.records[id as usize].next;
                }
                add(NIL);
                at = self.segments.younger(segment);
            }
            add(NIL - 1);
        }
        add(self.file.as_ref().map_or(NIL, |(_, space)| space.used()));
    }
}

fn hash_of(record: &Record) -> PageHash {
    record.hash.iter().rev().fold(0, |hash, &word| hash << 32 | PageHash::from(word))
}
