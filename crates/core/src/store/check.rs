//! Looks from outside: what the store has given out, what must hold between it and its engine, what tells two apart.

use super::{Block, Store};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

type Check = Result<(), String>;

/// What a store has given out and not got back. One whose engine names no block, and that has no job under way, has
/// zeroes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct StoreHoldings {
    /// Blocks, named or in a job's hands.
    pub blocks: u32,
    /// Runs of spill files that hold some of them.
    pub extents: u32,
    /// Segments of the store in RAM.
    pub segments: u32,
    /// Bytes of the store in RAM.
    pub store_bytes: u64,
    /// Bytes of the spill file that is written now.
    pub spill_bytes: u64,
}

impl Store {
    /// What is given out now.
    pub fn holdings(&self) -> StoreHoldings {
        StoreHoldings {
            blocks: self.index.blocks_used(),
            extents: self.index.extents_used(),
            segments: self.index.segments.segments_used(),
            store_bytes: self.index.segments.bytes_used(),
            spill_bytes: self.index.file_bytes(),
        }
    }

    /// Walks all tables and compares them with each other, and with how many page entries name each block.
    pub fn validate(&self, names: &BTreeMap<Block, u32>) -> Check {
        self.index.validate(self.spilling)?;
        names.iter().try_for_each(|(&block, &names)| self.check_names(block, names))?;
        self.check_named(names.len() as u32)
    }

    /// One block that `names` page entries name.
    pub(crate) fn check_names(&self, block: Block, names: u32) -> Check {
        let counted = self.index.names(block);
        let wrong = || Err(format!("{block:?} has {names} names and counts {counted:?}"));
        if counted == Some(names) { Ok(()) } else { wrong() }
    }

    /// So many blocks are named; the others are in the hands of jobs.
    pub(crate) fn check_named(&self, named: u32) -> Check {
        let (used, unnamed) = (self.index.blocks_used(), self.index.unnamed());
        let lost = || Err(format!("{used} blocks are used: {named} have names, and {unnamed} a job"));
        if used == named + unnamed { Ok(()) } else { lost() }
    }

    /// Pages that can be stored without an allocation.
    pub fn reserved(&self) -> u32 {
        self.index.reserved()
    }

    /// What of a block decides later.
    pub(crate) fn traits(&self, block: Block) -> u32 {
        self.index.traits(block)
    }

    /// See [`Index::add_order`](super::index::Index::add_order).
    pub(crate) fn add_order(&self, add: &mut impl FnMut(u32), names: &[Block]) {
        self.index.add_order(add, names);
    }
}
