//! What a sequence is made of.

use crate::rng::Rng;
use quire_core::mmu::Prot;
use quire_core::{FrameRun, PageRange, Space, Vpn};

/// Pages of the arena under test.
pub(crate) const ARENA: u64 = 16;
/// Frames of the pool under test.
pub(crate) const POOL: u32 = 10;
/// The space of the test itself.
pub(crate) const OWN: Space = Space(0);
/// The space of its child.
pub(crate) const CHILD: Space = Space(1);

/// One step. Pages are counted from the start of the arena.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Protect(PageRange, Prot),
    Lock(PageRange, bool),
    Discard(PageRange),
    MoveIn(FrameRun, Vpn),
    MoveOut(Vpn, FrameRun),
    CopyIn(FrameRun, Vpn),
    Unshare(PageRange),
    Remap(PageRange, Vpn),
    Release(FrameRun),
    ReadFrame(FrameRun),
    WriteFrame(FrameRun),
    Read(Space, Vpn),
    Write(Space, Vpn),
    Fork { stays: bool },
    Exit,
}

impl Op {
    /// Any step. Moves are the most frequent.
    pub(crate) fn any(rng: &mut Rng) -> Op {
        let (range, frames) = (range(rng), frames(rng));
        match rng.below(50) {
            0..=2 => Op::Protect(range, prot(rng)),
            3 => Op::Lock(range, rng.below(3) == 0),
            4..=5 => Op::Discard(range),
            6..=14 => Op::MoveIn(frames, range.start),
            15..=21 => Op::MoveOut(range.start, frames),
            22..=23 => Op::CopyIn(frames, range.start),
            24..=25 => Op::Unshare(range),
            26..=29 => Op::Remap(range, Vpn(rng.below(ARENA))),
            30..=31 => Op::Release(frames),
            32 => Op::ReadFrame(frames),
            33..=38 => Op::WriteFrame(frames),
            39..=41 => Op::Read(space(rng), range.start),
            42..=46 => Op::Write(space(rng), range.start),
            47..=48 => Op::Fork { stays: rng.below(2) == 0 },
            _ => Op::Exit,
        }
    }
}

fn range(rng: &mut Rng) -> PageRange {
    let start = rng.below(ARENA);
    let pages = 1 + rng.below(4.min(ARENA - start));
    PageRange::new(OWN, Vpn(start), pages)
}

/// A run of frames that also fits into the arena from any page that a range of this length can start at.
fn frames(rng: &mut Rng) -> FrameRun {
    let start = rng.below(u64::from(POOL)) as u32;
    let pages = 1 + rng.below(u64::from(4.min(POOL - start))) as u32;
    FrameRun::new(quire_core::Frame(start), pages)
}

fn prot(rng: &mut Rng) -> Prot {
    match rng.below(12) {
        0 | 1 => Prot::NONE,
        2 => Prot::READ,
        3 => Prot::from_bits(7),
        _ => Prot::READ_WRITE,
    }
}

fn space(rng: &mut Rng) -> Space {
    if rng.below(3) == 0 { CHILD } else { OWN }
}
