extern crate std;

use super::*;
use crate::store::StoreMemory;
use core::ops::Range;
use std::vec::Vec;

/// A host without pages, which notes what it is given back.
#[derive(Default)]
pub(crate) struct Released {
    pub(crate) stored: Vec<Range<u32>>,
    pub(crate) moved: Vec<(u32, u32, u16)>,
    pub(crate) frames: Vec<FrameRun>,
}

impl Mmu for Released {
    fn discard(&mut self, _: PageRange) -> Result<(), Refusal> {
        Ok(())
    }

    fn protect(&mut self, _: PageRange, _: Prot) -> Result<(), Refusal> {
        Ok(())
    }

    fn lock(&mut self, _: PageRange, _: bool) -> Result<(), Refusal> {
        Ok(())
    }

    fn present(&mut self, _: Space, _: Vpn) -> bool {
        false
    }

    fn release(&mut self, frames: FrameRun) {
        self.frames.push(frames);
    }

    fn tell(&mut self, _: Message) {}

    fn look(&self, _: Block) -> Option<Stored> {
        None
    }

    fn figures(&self) -> Figures {
        Figures::default()
    }
}

impl StoreMemory for Released {
    fn move_stored(&mut self, from: u32, to: u32, len: u16) {
        self.moved.push((from, to, len));
    }

    fn release_stored(&mut self, pages: Range<u32>) {
        self.stored.push(pages);
    }
}
