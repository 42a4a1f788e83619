//! The verbs of a thread of the program's, which has those of [`Mmu`] only.

use quire_core::job::{Stored, Work};
use quire_core::mmu::{Done, Mmu, Mover, Prot, Refusal};
use quire_core::{Block, Figures, Frame, FrameRun, Message, PageRange, Space, Tend, Touched, Urgency, Vpn};

use crate::mmu::SimMmu;

/// The simulated verbs without those of [`Mover`]: to call one of these is a bug of the engine's, and to wake does nothing.
#[derive(Debug)]
pub struct Unprivileged<'a>(pub &'a mut SimMmu);

impl Mmu for Unprivileged<'_> {
    fn discard(&mut self, range: PageRange) -> Result<(), Refusal> {
        self.0.discard(range)
    }

    fn protect(&mut self, range: PageRange, prot: Prot) -> Result<(), Refusal> {
        self.0.protect(range, prot)
    }

    fn lock(&mut self, range: PageRange, locked: bool) -> Result<(), Refusal> {
        self.0.lock(range, locked)
    }

    fn present(&mut self, space: Space, vpn: Vpn) -> bool {
        self.0.present(space, vpn)
    }

    fn accessed(&mut self, range: PageRange, touched: &mut Touched) -> bool {
        self.0.accessed(range, touched)
    }

    fn relocated(&mut self, pages: PageRange, to: Frame) {
        self.0.relocated(pages, to);
    }

    fn release(&mut self, frames: FrameRun) {
        self.0.release(frames);
    }

    fn tell(&mut self, message: Message) {
        self.0.tell(message);
    }

    fn look(&self, block: Block) -> Option<Stored> {
        self.0.look(block)
    }

    fn figures(&self) -> Figures {
        self.0.figures()
    }

    fn tend(&mut self, urgency: Urgency, work: &mut Work) -> Tend {
        self.0.tend(urgency, work)
    }
}

impl Mover for Unprivileged<'_> {
    fn move_in(&mut self, _: FrameRun, _: Space, at: Vpn) -> Done {
        not_ours("move_in", at)
    }

    fn move_out(&mut self, _: Space, at: Vpn, _: FrameRun) -> Done {
        not_ours("move_out", at)
    }

    fn copy_in(&mut self, _: FrameRun, _: Space, at: Vpn) -> Done {
        not_ours("copy_in", at)
    }

    fn copy_staged(&mut self, _: u32, to: PageRange) -> Done {
        not_ours("copy_staged", to.start)
    }

    fn copy_zeroes(&mut self, to: PageRange) -> Done {
        not_ours("copy_zeroes", to.start)
    }

    fn unshare(&mut self, range: PageRange) -> Done {
        not_ours("unshare", range.start)
    }

    fn remap(&mut self, from: PageRange, _: Vpn) -> Result<(), Refusal> {
        not_ours("remap", from.start)
    }

    fn wake(&mut self, _: PageRange) {}
}

fn not_ours(verb: &str, at: Vpn) -> ! {
    panic!("a thread of the program's called {verb} at page {:#x}", at.0)
}
