//! What the store does on its own: it cleans, and spills what is oldest.

use super::{Block, Store, StoreMemory};
use crate::addr::{Frame, FrameRun};
use crate::job::{JobKind, MAX_JOB_PAGES, Outcome, Ticket, Work};
use crate::reclaim::Urgency;

/// Bytes that one spill job takes from RAM to a file.
const SPILL_BYTES: u64 = 256 << 10;

/// What a step of the store did.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Tend {
    /// Nothing: there is nothing to do, or a job has to end first.
    Idle,
    /// Something, at once.
    Progress,
    /// The job in the caller's [`Work`], a [`JobKind::Spill`], has to be run.
    Job,
}

impl Store {
    /// One bounded step towards a store that has room. While a fault waits for a frame, only what makes room for others.
    pub fn tend(&mut self, memory: &mut impl StoreMemory, urgency: Urgency, work: &mut Work) -> Tend {
        if urgency != Urgency::Direct && self.clean(memory) {
            return Tend::Progress;
        }
        let spills = self.is_full() || urgency != Urgency::Direct && self.incompressible_is_full();
        if spills && self.begin_spill(memory, work) { Tend::Job } else { Tend::Idle }
    }

    /// Begins to move the oldest of the store from RAM to the spill file. One such job at a time.
    fn begin_spill(&mut self, memory: &mut impl StoreMemory, work: &mut Work) -> bool {
        if !self.index.has_file() || self.spilling.is_some() {
            return false;
        }
        work.begin(Ticket::default(), JobKind::Spill, FrameRun::new(Frame(0), 0));
        for queue in self.spill_order() {
            if work.blocks.is_empty() {
                self.index.oldest_blocks(queue, SPILL_BYTES, MAX_JOB_PAGES, &mut work.blocks, memory);
            }
        }
        self.sources(work);
        let bytes = work.sources.iter().map(|stored| u64::from(stored.len).next_multiple_of(16)).sum();
        let extent = if bytes == 0 { None } else { self.index.new_file_extent(bytes) };
        let Some(extent) = extent else { return false };
        let mut offset = 0;
        for (block, source) in work.blocks.iter().flatten().zip(&work.sources) {
            self.index.begin(block.number);
            work.targets.push(Some(self.index.file_place(extent, offset)));
            offset += u64::from(source.len).next_multiple_of(16);
        }
        self.spilling = Some(extent);
        true
    }

    /// A spill job has come back: its blocks are where it has copied them, as far as anybody needs them.
    pub fn spilled(&mut self, memory: &mut impl StoreMemory, work: &Work, outcome: Outcome) {
        let Some(extent) = self.spilling.take() else { return };
        let mut offset = 0;
        for (&Block { number: block, .. }, source) in work.blocks.iter().flatten().zip(&work.sources) {
            if outcome == Outcome::Done && self.index.move_to_file(block, extent, offset, memory) {
                self.pages_spilled += 1;
            }
            offset += u64::from(source.len).next_multiple_of(16);
            self.index.end(block, memory);
        }
        self.index.drop_if_empty(extent);
        if outcome != Outcome::Done {
            self.close_file();
        }
    }
}
