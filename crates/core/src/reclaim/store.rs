//! The end of reclaim: contents get a place in the store, and folios become clean.

#[cfg(test)]
mod tests;

use crate::addr::{Frame, PAGE_SIZE, SHARED};
use crate::engine::{Engine, Halt};
use crate::frame::{Backing, FrameState, List, NIL};
use crate::job::{JobKind, MAX_JOB_PAGES, Outcome, Packed, Place, Ticket, Work};
use crate::mmu::{Mmu, Mover};
use crate::swap::{FILE_UNIT, Queue, is_incompressible};
use crate::tables::{Source, ZERO_BLOCK};

/// What became of a writer's wish for places.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Placed {
    /// Store each page of `packed` at its place in `targets`, then finish the job.
    Go,
    /// The folio has changed: the job has ended, and nothing is to be stored.
    Void,
    /// No store takes these contents: the folio went back to the program, and the job has ended.
    Refused,
    /// The folio could go neither way: the engine can't go on.
    Halt(Halt),
}

/// The store in RAM may have one part in so many of gaps.
const MOST_GAPS: u64 = 8;
/// Bytes that one spill job takes from RAM to a file.
const SPILL_BYTES: u64 = 256 << 10;

impl Engine {
    /// Whether RAM for the store is nearly used up, so that the oldest of it should go.
    pub(super) fn store_is_full(&self) -> bool {
        let limit = self.store_limit();
        self.swap.ram_pages() + self.grant.overhead > limit - limit / 16
    }

    /// Whether so much RAM is used for the store that what comes should take less of it: where there is no file to take
    /// over, or nothing that it need take. Then no fault should wait for it.
    pub(super) fn store_is_tight(&self) -> bool {
        let is_worth = !self.swap.has_file() || self.division.fits() && !self.starved();
        is_worth && self.swap.ram_pages() + self.grant.overhead > self.store_limit() / 2
    }

    /// Whether the store in RAM takes `bytes` bytes more.
    fn ram_takes(&self, bytes: u64) -> bool {
        let pages = bytes.div_ceil(PAGE_SIZE as u64) as u32;
        self.swap.ram_pages() + self.grant.overhead + pages <= self.store_limit()
    }

    /// Moves together what is left of the emptiest segment of the store, where gaps are too large a part of it. Whether
    /// anything moved.
    pub(super) fn clean_store(&mut self, mmu: &mut impl Mmu) -> bool {
        let (bytes, gaps) = self.swap.segments.gaps();
        // To copy three bytes for one that it gains is worth it: a page costs a part of what a fault does.
        let most = self.swap.segments.size() / 4 * 3;
        gaps * MOST_GAPS > bytes && self.swap.clean(most, mmu) > 0
    }

    /// Gives each page of a write job its place. The caller has hashed and compressed into `work.packed`.
    pub fn place<M: Mover>(&mut self, mmu: &mut M, work: &mut Work) -> Placed {
        let Some(job) = self.tickets.find(work.ticket) else { return Placed::Void };
        if self.tickets.get(job).void {
            self.end_write(mmu, job);
            return Placed::Void;
        }
        work.targets.clear();
        let (pages, bytes) = sizes(&work.packed);
        let placed = pages == 0 && self.place_nowhere(job, work)
            || self.waits_in_ram(pages, bytes) && self.place_in_ram(mmu, job, work, Queue::Incompressible)
            || self.prefers_file(pages, bytes) && self.place_in_file(job, bytes, work)
            || self.worth_ram(pages, bytes) && self.place_in_ram(mmu, job, work, Queue::Dense)
            || self.place_in_file(job, bytes, work);
        if !placed {
            return self.refuse(mmu, job);
        }
        self.tickets.get_mut(job).placed = true;
        self.stats.pages_stored += u64::from(pages);
        self.stats.bytes_stored += bytes;
        Placed::Go
    }

    /// What does not compress is to go to the file, but waits in RAM first: it may be needed again soon, and the file
    /// takes many pages at once better than one.
    fn waits_in_ram(&self, pages: u32, bytes: u64) -> bool {
        let fits = self.swap.incompressible_pages() + pages <= self.division.waiting_limit(&self.grant)
            && self.ram_takes(bytes);
        self.swap.has_file() && is_incompressible(pages, bytes) && fits
    }

    /// What does not compress goes to the file, and everything does while RAM is full.
    fn prefers_file(&self, pages: u32, bytes: u64) -> bool {
        self.swap.has_file() && (is_incompressible(pages, bytes) || !self.ram_takes(bytes))
    }

    /// Whether some of them should go now.
    pub(super) fn incompressible_is_full(&self) -> bool {
        let limit = self.division.waiting_limit(&self.grant);
        self.swap.has_file() && self.swap.incompressible_pages() > limit - limit / 8
    }

    /// Contents that would take as much RAM in the store as in frames are better left alone.
    fn worth_ram(&self, pages: u32, bytes: u64) -> bool {
        bytes * 8 <= u64::from(pages) * PAGE_SIZE as u64 * 7
    }

    fn place_nowhere(&mut self, job: usize, work: &mut Work) -> bool {
        work.targets.extend(work.packed.iter().map(|_| None));
        self.tickets.get_mut(job).blocks.extend(work.packed.iter().map(|_| NIL));
        true
    }

    fn place_in_ram(&mut self, mmu: &mut impl Mmu, job: usize, work: &mut Work, queue: Queue) -> bool {
        for packed in &work.packed {
            let Some((len, hash)) = stored_size(*packed) else {
                work.targets.push(None);
                self.tickets.get_mut(job).blocks.push(NIL);
                continue;
            };
            let Some(block) = self.swap.new_ram_block(queue, len, hash, self.ranks.now()) else {
                self.drop_new_blocks(job, mmu);
                work.targets.clear();
                return false;
            };
            work.targets.push(Some(self.swap.stored(block).place));
            self.tickets.get_mut(job).blocks.push(block);
        }
        true
    }

    fn place_in_file(&mut self, job: usize, bytes: u64, work: &mut Work) -> bool {
        let Some(extent) = self.swap.new_file_extent(bytes) else { return false };
        let mut offset = 0;
        for packed in &work.packed {
            let Some((len, hash)) = stored_size(*packed) else {
                work.targets.push(None);
                self.tickets.get_mut(job).blocks.push(NIL);
                continue;
            };
            let block = self.swap.new_file_block(extent, offset, len, hash, self.ranks.now());
            offset += u64::from(len).next_multiple_of(16);
            work.targets.push(Some(self.swap.stored(block).place));
            self.tickets.get_mut(job).blocks.push(block);
            self.stats.pages_spilled += 1;
        }
        true
    }

    /// The folio of a write job that no store takes goes back to the program, and is not tried again.
    fn refuse<M: Mover>(&mut self, mmu: &mut M, job: usize) -> Placed {
        let head = self.tickets.get(job).frames.start;
        self.stats.unstorable += 1;
        self.end_write(mmu, job);
        self.tables.frames.get_mut(head).state = FrameState::Standby;
        let back = if self.tables.frames.get(head).space == SHARED {
            self.map_folio(mmu, head, List::None, None).map(|_| ())
        } else {
            self.map(mmu, head, List::None, Source::Frames)
        };
        match back {
            Ok(()) => Placed::Refused,
            Err(halt) => Placed::Halt(halt),
        }
    }

    /// A write job has ended. Its folio is clean now, unless it has changed or nothing could be stored.
    pub(crate) fn finish_write<M: Mover>(
        &mut self,
        mmu: &mut M,
        job: usize,
        outcome: Outcome,
        packed: &[Packed],
    ) {
        let head = self.tickets.get(job).frames.start;
        let void = self.tickets.get(job).void;
        if outcome != Outcome::Done && !void {
            // A disk failed. What it holds can still be read, or the checksum says otherwise.
            self.swap.close_file();
        }
        if void || outcome != Outcome::Done || !self.tickets.get(job).placed {
            self.end_write(mmu, job);
            if !void {
                self.tables.frames.get_mut(head).state = FrameState::Standby;
                self.tables.frames.enlist(head, List::Dirty);
            }
            return;
        }
        self.commit_blocks(mmu, job, packed);
        self.end_write(mmu, job);
        self.tables.frames.get_mut(head).state = FrameState::Standby;
        self.tables.frames.enlist(head, List::Clean);
        self.stats.swap_outs[self.tables.order_of(head).index()] += 1;
        self.split_zeroes(head, packed);
    }

    fn commit_blocks(&mut self, mmu: &mut impl Mmu, job: usize, packed: &[Packed]) {
        let pages = self.tables.pages_of(self.tickets.get(job).frames.start);
        for (i, packed) in packed.iter().enumerate() {
            let vpn = pages.start.plus(i as u64);
            match packed {
                Packed::Same => {
                    self.stats.pages_same += 1;
                    if let Some(block) = self.tables.pte(pages.space, vpn).placed() {
                        self.swap.touch(block, self.ranks.now());
                    }
                }
                Packed::Zero => {
                    self.stats.pages_zero += 1;
                    self.forget_block(pages.space, vpn, mmu);
                    let pte = self.tables.pte(pages.space, vpn).with_block(Some(ZERO_BLOCK));
                    self.set_pte(pages.space, vpn, pte);
                }
                Packed::Small { .. } | Packed::Raw { .. } => {
                    self.forget_block(pages.space, vpn, mmu);
                    let block = self.tickets.get(job).blocks[i];
                    self.swap.unpin(block, mmu);
                    let pte = self.tables.pte(pages.space, vpn).with_block(Some(block));
                    self.set_pte(pages.space, vpn, pte);
                }
            }
        }
        self.tickets.get_mut(job).blocks.clear();
    }

    /// Ends a write job: blocks that went to no page are given up, frames are let go. Frames of pages that
    /// went back to the program meanwhile may hold the zero page where the writer read a hole.
    fn end_write<M: Mover>(&mut self, mmu: &mut M, job: usize) {
        self.drop_new_blocks(job, mmu);
        let run = self.tickets.get(job).frames;
        if self.tickets.get(job).void {
            for frame in run.iter() {
                let head = self.tables.frames.head_of(frame);
                if self.tables.frames.get(head).state == FrameState::Mapped {
                    mmu.release(crate::FrameRun::new(frame, 1));
                }
            }
        }
        self.unpin_frames(run, Backing::Dirty);
        self.tickets.end(job);
    }

    fn drop_new_blocks(&mut self, job: usize, mmu: &mut impl Mmu) {
        let mut blocks = core::mem::take(&mut self.tickets.get_mut(job).blocks);
        for &block in blocks.iter().filter(|&&b| b != NIL) {
            self.swap.free(block, mmu);
            self.swap.unpin(block, mmu);
        }
        blocks.clear();
        self.tickets.get_mut(job).blocks = blocks;
    }

    /// Begins to move the oldest of the store from RAM to the spill file. One such job at a time.
    pub(super) fn begin_spill(&mut self, mmu: &mut impl Mmu, work: &mut Work) -> bool {
        if !self.swap.has_file() || self.tickets.iter().any(|f| f.kind == JobKind::Spill) {
            return false;
        }
        let nothing = crate::FrameRun::new(Frame(0), 0);
        let Some(job) = self.tickets.begin_reserved(JobKind::Spill, nothing) else { return false };
        let mut blocks = core::mem::take(&mut self.tickets.get_mut(job).blocks);
        // A page that hardly compresses frees more memory for what its return will cost.
        let many_wait = self.swap.incompressible_pages() >= self.division.waiting_limit(&self.grant) / 4;
        let queues = if many_wait {
            [Queue::Incompressible, Queue::Dense]
        } else {
            [Queue::Dense, Queue::Incompressible]
        };
        for queue in queues {
            if blocks.is_empty() {
                self.swap.oldest_blocks(queue, SPILL_BYTES, MAX_JOB_PAGES, &mut blocks, mmu);
            }
        }
        let bytes = blocks.iter().map(|&b| u64::from(self.swap.stored(b).len).next_multiple_of(16)).sum();
        let extent = if bytes == 0 { None } else { self.swap.new_file_extent(bytes) };
        let Some(extent) = extent else {
            blocks.clear();
            self.tickets.get_mut(job).blocks = blocks;
            self.tickets.end(job);
            return false;
        };
        work.begin(self.tickets.get(job).ticket, JobKind::Spill, nothing);
        let mut offset = 0;
        for &block in &blocks {
            self.swap.pin(block);
            let source = self.swap.stored(block);
            work.sources.push(source);
            work.targets.push(Some(self.swap.file_place(extent, offset)));
            offset += u64::from(source.len).next_multiple_of(16);
        }
        let record = self.tickets.get_mut(job);
        (record.blocks, record.extent) = (blocks, Some(extent));
        true
    }

    pub(crate) fn finish_spill<M: Mover>(&mut self, mmu: &mut M, job: usize, outcome: Outcome) {
        let Some(extent) = self.tickets.get(job).extent else { return };
        let mut blocks = core::mem::take(&mut self.tickets.get_mut(job).blocks);
        let mut offset = 0;
        for &block in &blocks {
            let len = self.swap.stored(block).len;
            if outcome == Outcome::Done && self.swap.move_to_file(block, extent, offset, mmu) {
                self.stats.pages_spilled += 1;
            }
            offset += u64::from(len).next_multiple_of(16);
            self.swap.unpin(block, mmu);
        }
        blocks.clear();
        self.tickets.get_mut(job).blocks = blocks;
        self.swap.drop_if_empty(extent);
        self.tickets.end(job);
        if outcome != Outcome::Done {
            self.swap.close_file();
        }
    }

    /// A job has come back. `packed` is what a write job found; empty for the others. A ticket that is not
    /// under way changes nothing.
    pub fn finish<M: Mover>(
        &mut self,
        mmu: &mut M,
        ticket: Ticket,
        outcome: Outcome,
        packed: &[Packed],
    ) -> Result<(), Halt> {
        let Some(job) = self.tickets.find(ticket) else { return Ok(()) };
        match self.tickets.get(job).kind {
            JobKind::Zero | JobKind::Read => return self.finish_fill(mmu, job, outcome),
            JobKind::Write => self.finish_write(mmu, job, outcome, packed),
            JobKind::Spill => self.finish_spill(mmu, job, outcome),
        }
        Ok(())
    }

    /// Gives up copies in RAM that mapped folios still have in the store, the youngest folios' first: they
    /// are the last to be moved out.
    pub(super) fn forget_some_copies<M: Mover>(&mut self, mmu: &mut M) -> u32 {
        let mut given = 0;
        for list in [List::Active, List::Inactive] {
            let mut at = self.tables.frames.youngest(list);
            for _ in 0..COPY_SCAN {
                let Some(head) = at.filter(|_| given < COPY_SCAN) else { break };
                at = self.tables.frames.older(head);
                given += self.forget_copies(head, mmu, |engine, block| {
                    matches!(engine.swap.stored(block).place, Place::Ram { .. })
                });
            }
        }
        given
    }

    /// Whether a copy in RAM of what is mapped again takes a frame from another page, since nearly all of the grant is in
    /// use. While writers can't keep up it is worth that: what leaves unchanged is not to be stored again.
    pub(crate) fn copies_cost_frames(&self) -> bool {
        let short = self.headroom() <= self.fresh_goal() + self.grant.pages / 32;
        self.store_is_filling() || short && !self.starved()
    }

    /// Copies of what is mapped again are kept in RAM only while less than 3/4 of the store's is used.
    fn store_is_filling(&self) -> bool {
        self.swap.ram_pages() + self.grant.overhead > self.store_limit() / 4 * 3
    }
}

/// Folios looked at for copies in one step.
const COPY_SCAN: u32 = 128;

/// How many of the pages need a place, and how many bytes those take, each rounded up to 16.
fn sizes(packed: &[Packed]) -> (u32, u64) {
    let mut total = (0, 0);
    for (len, _) in packed.iter().filter_map(|p| stored_size(*p)) {
        total = (total.0 + 1, total.1 + u64::from(len).next_multiple_of(16));
    }
    total
}

fn stored_size(packed: Packed) -> Option<(u16, crate::job::PageHash)> {
    match packed {
        Packed::Same | Packed::Zero => None,
        Packed::Small { len, hash } => Some((len, hash)),
        Packed::Raw { hash } => Some((PAGE_SIZE as u16, hash)),
    }
}

const _: () = assert!(FILE_UNIT == PAGE_SIZE as u64);
