extern crate std;

use super::*;
use std::vec::Vec;

/// A host without pages, which notes what it is given back.
#[derive(Default)]
pub(crate) struct Released {
    pub(crate) spans: Vec<u32>,
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

    fn release_span(&mut self, span: u32) {
        self.spans.push(span);
    }
}
