//! What jobs do, and how long they take.
//!
//! A page of the store is of 4096 units, which are bytes where the machine's pages are of 4 KiB.

use super::Stop;
use super::costs::Costs;
use super::memory::Memory;
use crate::tlb::Tlb;
use quire_core::job::{JobKind, Outcome, Packed, Place, Reach, Work};
use quire_core::{Engine, PAGE_SIZE};

/// Reads and writes so far.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Traffic {
    pub(super) expanded_pages: u64,
    /// Bytes, and reads or writes.
    pub(super) read: (u64, u64),
    pub(super) written: (u64, u64),
}

/// What a job takes, in ns.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Taken {
    pub(super) cpu: u64,
    pub(super) disk: u64,
}

/// Zeroes frames: all of them get their memory now.
pub(super) fn zero<T: Tlb>(memory: &mut Memory<T>, work: &Work) -> Taken {
    let costs = memory.costs;
    work.frames.iter().for_each(|frame| memory.fill(frame, 0));
    let pages = u64::from(work.frames.pages);
    memory.zeroed_bytes += memory.bytes(pages);
    Taken { cpu: pages * costs.fresh_page, disk: 0 }
}

/// Reads stored pages into frames, or to where they are staged. Memory for frames comes from the system in one call, which
/// hardly costs more than that it is zeroed.
pub(super) fn read<T: Tlb>(memory: &mut Memory<T>, work: &mut Work, traffic: &mut Traffic) -> Taken {
    let costs = memory.costs;
    memory.store.sources(work);
    let mut taken = Taken::default();
    memory.staged.clear();
    for (frame, source) in work.frames.iter().zip(&work.sources) {
        // The version of the contents is their hash.
        let version = source.hash as u32;
        match work.staged {
            true => memory.staged.push(version),
            false => {
                memory.fill(frame, version);
                taken.cpu += if work.fresh { costs.zero_page } else { 0 };
            }
        }
        if source.place == Place::Zero {
            memory.zeroed_bytes += memory.bytes(1);
            taken.cpu += costs.zero_page;
        } else {
            traffic.expanded_pages += 1;
            taken.cpu += costs.expand_page;
        }
    }
    let (bytes, calls) = reads(work);
    traffic.read.0 += bytes;
    traffic.read.1 += calls;
    taken.disk = calls * costs.read_call + bytes.div_ceil(PAGE_SIZE as u64) * costs.read_page;
    taken
}

/// Bytes to read from a file, and in how many reads.
fn reads(work: &Work) -> (u64, u64) {
    let mut reach = Reach::default();
    work.sources.iter().for_each(|source| reach.add(source));
    if let Some((_, start, end)) = reach.range() {
        return (end - start, 1);
    }
    let in_file = work.sources.iter().filter(|source| matches!(source.place, Place::File { .. }));
    in_file.fold((0, 0), |(bytes, calls), source| (bytes + u64::from(source.len), calls + 1))
}

/// Hashes and compresses what is to be written.
pub(super) fn pack<T: Tlb>(memory: &mut Memory<T>, work: &mut Work) -> u64 {
    let costs = memory.costs;
    let mut taken = 0;
    work.packed.clear();
    memory.store.known(work);
    for (i, frame) in work.frames.iter().enumerate() {
        let version = memory.name(frame);
        let hash = u128::from(version);
        let packed = match memory.packed_len(version) {
            _ if version == 0 => Packed::Zero,
            _ if work.known.get(i).copied().flatten() == Some(hash) => Packed::Same,
            len if usize::from(len) == PAGE_SIZE => Packed::Raw { hash },
            len => Packed::Small { len, hash },
        };
        taken += match packed {
            Packed::Zero | Packed::Same => costs.hash_page,
            Packed::Small { .. } | Packed::Raw { .. } => costs.compress_page,
        };
        work.packed.push(packed);
    }
    taken
}

/// Asks for places for a write that is still wanted; others need none. Whether the job goes on.
pub(super) fn place<T: Tlb>(engine: &Engine, memory: &mut Memory<T>, work: &mut Work) -> bool {
    work.kind != JobKind::Write
        || engine.wants(work.ticket) && memory.store.place(&mut memory.store_costs, work)
}

/// A job that is not a read has ended, `done` or refused.
pub(super) fn finish<T: Tlb>(
    engine: &mut Engine,
    memory: &mut Memory<T>,
    work: &mut Work,
    done: bool,
) -> Result<(), Stop> {
    let outcome = if done { Outcome::Done } else { Outcome::Refused };
    match work.kind {
        JobKind::Spill => {
            memory.store.spilled(&mut memory.store_costs, work, outcome);
            engine.look_at_store(memory);
            return Ok(());
        }
        JobKind::Write if done => memory.store.written(&mut memory.store_costs, work, outcome),
        JobKind::Write | JobKind::Read | JobKind::Zero => {}
    }
    engine.finish(memory, work, outcome).map_err(Stop::Halt)
}

/// Stores what has a place in a file, in one write. Places in RAM are written as the compressor goes.
pub(super) fn write(costs: &Costs, work: &Work, traffic: &mut Traffic) -> u64 {
    let sizes = work.packed.iter().zip(&work.targets).filter_map(|(packed, target)| match (packed, target) {
        (Packed::Small { len, .. }, Some(Place::File { .. })) => Some(u64::from(*len)),
        (Packed::Raw { .. }, Some(Place::File { .. })) => Some(PAGE_SIZE as u64),
        _ => None,
    });
    write_bytes(costs, sizes.sum(), traffic)
}

/// Copies stored pages from RAM to a file, in one write.
pub(super) fn spill(costs: &Costs, work: &Work, traffic: &mut Traffic) -> u64 {
    write_bytes(costs, work.sources.iter().map(|source| u64::from(source.len)).sum(), traffic)
}

fn write_bytes(costs: &Costs, bytes: u64, traffic: &mut Traffic) -> u64 {
    if bytes == 0 {
        return 0;
    }
    traffic.written.0 += bytes;
    traffic.written.1 += 1;
    costs.write_call + bytes.div_ceil(PAGE_SIZE as u64) * costs.write_page
}
