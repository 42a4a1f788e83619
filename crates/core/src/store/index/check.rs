//! What must hold in the index, and between it and the room that it has given out: nothing is lost, nothing is there twice.

use super::{Block, Extent, FILE_UNIT, Index, Record};
use crate::frame::NIL;
use crate::store::Queue;
use crate::store::segments::GRAIN;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

type Check = Result<(), String>;

/// Where each extent was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Found {
    Free,
    InFile,
}

impl Index {
    /// Checks every table against the others. `filling`: the extent of a spill, which may have no block yet. Walks all blocks
    /// and extents.
    pub(crate) fn validate(&self, filling: Option<u32>) -> Check {
        let found = self.check_extents(filling)?;
        self.check_chains(&found)?;
        self.check_blocks()?;
        self.check_ram()?;
        self.check_file(&found)
    }

    /// Each extent is in a file or free. One in a file has a block, or a job that brings some.
    fn check_extents(&self, filling: Option<u32>) -> Result<Vec<Found>, String> {
        let mut found = alloc::vec![Found::InFile; self.extents.len()];
        let mut id = self.free_extent;
        while id != NIL {
            match found.get_mut(id as usize) {
                Some(place @ Found::InFile) => *place = Found::Free,
                _ => return Err(format!("extent {id} is free twice, or is none")),
            }
            id = self.extents[id as usize].first;
        }
        for id in 0..found.len() as u32 {
            let extent = &self.extents[id as usize];
            let free = found[id as usize] == Found::Free;
            if free != (extent.units == 0) {
                return Err(format!("extent {id} is neither free nor in a file: {extent:?}"));
            }
            if !free && extent.live == 0 && filling != Some(id) {
                return Err(format!("extent {id} of a spill file is lost: it has no block and no job"));
            }
        }
        Ok(found)
    }

    /// Each block in use is in the chain of its extent or segment, once, and each extent counts its own.
    fn check_chains(&self, found: &[Found]) -> Check {
        let mut chained = BTreeSet::new();
        for (number, _) in found.iter().enumerate().filter(|(_, at)| **at == Found::InFile) {
            let in_extent = |block: &Record| block.extent as usize == number;
            let live = self.check_chain(self.extents[number].first, &in_extent, &mut chained)?;
            let counted = self.extents[number].live;
            if counted != live {
                return Err(format!("extent {number} has {live} blocks, and counts {counted}"));
            }
        }
        for (number, .., first) in self.segments.in_use() {
            let in_segment =
                |block: &Record| block.extent == NIL && self.segments.segment_of(block.at) == number;
            self.check_chain(first, &in_segment, &mut chained)?;
        }
        let used = self.used_blocks().count();
        if used == chained.len() {
            Ok(())
        } else {
            Err(format!("{used} blocks, {} in extents and segments", chained.len()))
        }
    }

    /// Counts the blocks of a chain, which all belong there.
    fn check_chain(
        &self,
        first: u32,
        belongs: &dyn Fn(&Record) -> bool,
        chained: &mut BTreeSet<u32>,
    ) -> Result<u32, String> {
        let (mut id, mut prev, mut live) = (first, NIL, 0);
        while id != NIL {
            let block = &self.records[id as usize];
            let fits = block.len != 0 && belongs(block) && block.prev == prev;
            if !fits || !chained.insert(id) {
                return Err(format!("block {id} is badly linked: {block:?}"));
            }
            (prev, id, live) = (id, block.next, live + 1);
        }
        Ok(live)
    }

    fn used_blocks(&self) -> impl Iterator<Item = (u32, &Record)> {
        (0..self.records.len()).map(|id| (id as u32, &self.records[id])).filter(|(_, block)| block.len != 0)
    }

    /// How many page entries name a block; `None` where nobody does.
    pub(crate) fn names(&self, block: Block) -> Option<u32> {
        self.find(block).map(|id| self.records[id as usize].refs)
    }

    /// Blocks that no page entry names.
    pub(crate) fn unnamed(&self) -> u32 {
        self.unnamed
    }

    /// Blocks are in use or free; one that nobody names is in a job's hands.
    fn check_blocks(&self) -> Check {
        let mut free = 0;
        let mut id = self.free_block;
        while id != NIL && free <= self.records.len() {
            if self.records[id as usize].len != 0 {
                return Err(format!("block {id} is in use and free"));
            }
            (id, free) = (self.records[id as usize].next, free + 1);
        }
        let used = self.used_blocks().count();
        if used + free != self.records.len() || used as u32 != self.blocks_used {
            let all = self.records.len();
            return Err(format!("{used} blocks used and {free} free of {all}, counted {}", self.blocks_used));
        }
        match self.used_blocks().find(|(_, record)| record.dead() && !record.busy) {
            Some((id, record)) => Err(format!("block {id} is nobody's: {record:?}")),
            None => Ok(()),
        }
    }

    /// Blocks in RAM lie within what their segment was given, none over another, and segments and queues count them.
    fn check_ram(&self) -> Check {
        self.segments.validate()?;
        let mut known = [(0, 0); 2];
        for (number, queue, filled, first) in self.segments.in_use() {
            let mut pieces = Vec::new();
            let mut id = first;
            while id != NIL {
                let block = &self.records[id as usize];
                let at =
                    u64::from(block.at) * GRAIN as u64 - u64::from(number) * u64::from(self.segments.size());
                pieces.push((at, u64::from(block.len).next_multiple_of(GRAIN as u64)));
                id = block.next;
            }
            pieces.sort_unstable();
            let overlap = pieces.windows(2).any(|two| two[0].0 + two[0].1 > two[1].0);
            let inside = pieces.last().is_none_or(|(at, len)| at + len <= u64::from(filled));
            if overlap || !inside {
                return Err(format!("blocks overlap, or leave what segment {number} was given"));
            }
            known[queue as usize].0 += pieces.iter().map(|(_, len)| len).sum::<u64>();
            known[queue as usize].1 += pieces.len() as u32;
        }
        let counted = [Queue::Dense, Queue::Incompressible].map(|queue| self.segments.bytes_in(queue));
        if known.map(|(bytes, _)| bytes) != counted {
            return Err(format!("{known:?} bytes and blocks in RAM, counted {counted:?}"));
        }
        let (objects, blocks) =
            (self.segments.objects(), known.iter().map(|(_, blocks)| blocks).sum::<u32>());
        if objects == blocks {
            Ok(())
        } else {
            Err(format!("{objects} objects in the store, {blocks} with a block"))
        }
    }

    /// What is taken of the file that is written now is what its extents have, and they and their blocks do not overlap.
    fn check_file(&self, found: &[Found]) -> Check {
        let mut units = Vec::new();
        for (id, _) in found.iter().enumerate().filter(|(_, at)| **at == Found::InFile) {
            let extent = &self.extents[id];
            self.check_file_extent(id, extent)?;
            if self.file.as_ref().is_some_and(|(file, _)| *file == extent.file) {
                units.push((extent.start, extent.units, id));
            }
        }
        let Some((_, space)) = &self.file else { return Ok(()) };
        space.validate()?;
        units.sort_unstable();
        if let Some(two) = units.windows(2).find(|two| two[0].0 + two[0].1 > two[1].0) {
            return Err(format!("extents {} and {} overlap in the spill file", two[0].2, two[1].2));
        }
        if let Some((.., id)) = units.iter().find(|(start, count, _)| !space.is_taken(*start, *count)) {
            return Err(format!("extent {id} lies in free units of the spill file"));
        }
        let (known, used) = (units.iter().map(|(_, count, _)| count).sum::<u32>(), space.used());
        let lost = || format!("{used} units of the spill file are taken, its extents have {known}");
        if known == used { Ok(()) } else { Err(lost()) }
    }

    fn check_file_extent(&self, number: usize, extent: &Extent) -> Check {
        let end = u64::from(extent.units) * FILE_UNIT;
        let mut pieces = Vec::new();
        let mut id = extent.first;
        while id != NIL {
            let block = &self.records[id as usize];
            pieces.push((u64::from(block.at) * GRAIN as u64, u64::from(block.len)));
            id = block.next;
        }
        pieces.sort_unstable();
        let overlap = pieces.windows(2).any(|two| two[0].0 + two[0].1 > two[1].0);
        let inside = pieces.last().is_none_or(|(at, len)| at + len <= end);
        if inside && !overlap { Ok(()) } else { Err(format!("blocks overlap, or leave extent {number}")) }
    }
}
