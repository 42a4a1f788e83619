//! The store, the jobs that use it, and the pool: all that was given out is somebody's, and that once.

use super::{Check, ensure};
use crate::addr::Frame;
use crate::engine::Engine;
use crate::frame::NIL;
use crate::tickets::pin_of;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

impl Engine {
    /// What the jobs under way pin in the store is pinned there, and the store has lost nothing.
    pub(super) fn check_store(&self) -> Check {
        let pins = self.tickets.iter().flat_map(|flight| &flight.blocks);
        let pins: Vec<u32> = pins.copied().filter(|&block| block != NIL).collect();
        let filling: Vec<u32> = self.tickets.iter().filter_map(|flight| flight.extent).collect();
        self.swap.validate(&pins, &filling)
    }

    /// Each frame is free in one way at the most, and each that a job uses says so.
    pub(super) fn check_pool(&self) -> Check {
        self.pool.validate().map_err(String::from)?;
        ensure(self.compaction.is_idle(), || "frames that were put aside have not come back".into())?;
        for (job, flight) in self.tickets.numbered() {
            let astray = flight.frames.iter().find(|&frame| self.tables.frames.get(frame).job != pin_of(job));
            let lost = |frame: Option<Frame>| {
                format!("{frame:?} is used by {:?}, and does not say so", flight.ticket)
            };
            ensure(astray.is_none(), || lost(astray))?;
        }
        Ok(())
    }
}
