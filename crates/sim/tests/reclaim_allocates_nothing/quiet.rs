//! The simulated kernel, whose own allocations are nobody's business.

use allocation_counter::opt_out;
use quire_core::job::{Stored, Work};
use quire_core::mmu::{Done, Mmu, Mover, Prot, Refusal};
use quire_core::{
    Block, Figures, Frame, FrameRun, Message, PageRange, Space, StoreMemory, Tend, Touched, Urgency, Vpn,
};
use quire_sim::{SimMmu, StoredBytes};

/// Simulated tables of which no verb is counted, and what is unmapped of pages that several spaces share.
pub(crate) struct Quiet {
    /// The tables.
    pub(crate) sim: SimMmu,
    /// Pages unmapped by [`Mover::unmap_shared`] so far.
    pub(crate) unmapped: u64,
    /// Pages mapped by [`Mover::map_shared`] so far.
    pub(crate) mapped: u64,
}

impl Quiet {
    pub(crate) fn new(sim: SimMmu) -> Quiet {
        Quiet { sim, unmapped: 0, mapped: 0 }
    }
}

pub(crate) fn uncounted<T>(verb: impl FnOnce() -> T) -> T {
    let mut answer = None;
    opt_out(|| answer = Some(verb()));
    answer.expect("the verb was called")
}

impl Mmu for Quiet {
    fn discard(&mut self, range: PageRange) -> Result<(), Refusal> {
        uncounted(|| self.sim.discard(range))
    }

    fn protect(&mut self, range: PageRange, prot: Prot) -> Result<(), Refusal> {
        uncounted(|| self.sim.protect(range, prot))
    }

    fn lock(&mut self, range: PageRange, locked: bool) -> Result<(), Refusal> {
        uncounted(|| self.sim.lock(range, locked))
    }

    fn present(&mut self, space: Space, vpn: Vpn) -> bool {
        uncounted(|| self.sim.present(space, vpn))
    }

    fn accessed(&mut self, range: PageRange, touched: &mut Touched) -> bool {
        uncounted(|| self.sim.accessed(range, touched))
    }

    fn relocated(&mut self, pages: PageRange, to: Frame) {
        uncounted(|| self.sim.relocated(pages, to));
    }

    fn release(&mut self, frames: FrameRun) {
        uncounted(|| self.sim.release(frames));
    }

    fn release_all(&mut self, runs: &[FrameRun]) {
        uncounted(|| self.sim.release_all(runs));
    }

    fn tell(&mut self, message: Message) {
        self.sim.store.hear(&mut QuietBytes(&mut self.sim.bytes), message);
    }

    fn look(&self, block: Block) -> Option<Stored> {
        self.sim.look(block)
    }

    fn figures(&self) -> Figures {
        self.sim.figures()
    }

    fn tend(&mut self, urgency: Urgency, work: &mut Work) -> Tend {
        self.sim.store.tend(&mut QuietBytes(&mut self.sim.bytes), urgency, work)
    }
}

/// What is stored, by verbs of which nothing counts.
pub(crate) struct QuietBytes<'a>(pub(crate) &'a mut StoredBytes);

impl StoreMemory for QuietBytes<'_> {
    fn move_stored(&mut self, from: u32, to: u32, len: u16) {
        uncounted(|| self.0.move_stored(from, to, len));
    }

    fn release_stored(&mut self, pages: std::ops::Range<u32>) {
        uncounted(|| self.0.release_stored(pages));
    }
}

impl Mover for Quiet {
    fn move_in(&mut self, frames: FrameRun, space: Space, at: Vpn) -> Done {
        uncounted(|| self.sim.move_in(frames, space, at))
    }

    fn move_out(&mut self, space: Space, at: Vpn, frames: FrameRun) -> Done {
        uncounted(|| self.sim.move_out(space, at, frames))
    }

    fn copy_in(&mut self, frames: FrameRun, space: Space, at: Vpn) -> Done {
        uncounted(|| self.sim.copy_in(frames, space, at))
    }

    fn copy_staged(&mut self, from: u32, to: PageRange) -> Done {
        uncounted(|| self.sim.copy_staged(from, to))
    }

    fn copy_zeroes(&mut self, to: PageRange) -> Done {
        uncounted(|| self.sim.copy_zeroes(to))
    }

    fn unshare(&mut self, range: PageRange) -> Done {
        uncounted(|| self.sim.unshare(range))
    }

    fn remap(&mut self, from: PageRange, to: Vpn) -> Result<(), Refusal> {
        uncounted(|| self.sim.remap(from, to))
    }

    fn wake(&mut self, range: PageRange) {
        uncounted(|| self.sim.wake(range));
    }

    fn share(&mut self, space: Space, at: Vpn, frames: FrameRun) -> Done {
        uncounted(|| self.sim.share(space, at, frames))
    }

    fn map_shared(&mut self, frames: FrameRun, space: Space, at: Vpn) -> Done {
        let done = uncounted(|| self.sim.map_shared(frames, space, at));
        self.mapped += u64::from(done.pages);
        done
    }

    fn unmap_shared(&mut self, range: PageRange) -> Done {
        let done = uncounted(|| self.sim.unmap_shared(range));
        self.unmapped += u64::from(done.pages);
        done
    }

    fn copy_out(&mut self, space: Space, at: Vpn, frames: FrameRun) -> Done {
        uncounted(|| self.sim.copy_out(space, at, frames))
    }

    fn fork_space(&mut self, parent: Space, child: Space) -> Result<(), Refusal> {
        uncounted(|| self.sim.fork_space(parent, child))
    }

    fn end_space(&mut self, space: Space) {
        uncounted(|| self.sim.end_space(space));
    }
}
