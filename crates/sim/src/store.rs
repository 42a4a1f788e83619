//! The compressed store and the spill files, and what workers do with them.
//!
//! A stored page is one version, at a place with a length: bytes that overlap are lost, and so are those of pages
//! that were released, so an engine that reuses a place too early is found out by the next read.

pub mod alone;
pub mod cells;

use crate::digest::Digest;
use crate::mmu::SimMmu;
use quire_core::job::{JobKind, Outcome, Packed, PageHash, Place, Work};
use quire_core::{Engine, Halt, PAGE_SIZE, StoreMemory};
use std::collections::BTreeMap;

/// Bytes in a unit of [`Place::Ram`].
const UNIT: u64 = 16;
/// The number that stands for the store in RAM where spill files have theirs.
const RAM: u32 = u32::MAX;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Piece {
    bytes: u64,
    value: u64,
}

impl StoreMemory for StoredBytes {
    /// What is not there does not come.
    fn move_stored(&mut self, from: u32, to: u32, len: u16) {
        if let Some(value) = self.read(Place::Ram { at: from }, len) {
            self.write(Place::Ram { at: to }, len, value);
        }
    }

    /// What was there is lost.
    fn release_stored(&mut self, pages: core::ops::Range<u32>) {
        let byte = |page| u64::from(page) * PAGE_SIZE as u64;
        self.lose(RAM, byte(pages.start), byte(pages.end));
    }
}

/// Stored pages by place.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct StoredBytes {
    pieces: BTreeMap<(u32, u64), Piece>,
}

impl StoredBytes {
    /// Stores `bytes` bytes that stand for version `value`. What overlaps them is lost.
    pub fn write(&mut self, place: Place, bytes: u16, value: u64) {
        if let Some((file, at)) = address(place) {
            self.lose(file, at, at + u64::from(bytes));
            self.pieces.insert((file, at), Piece { bytes: u64::from(bytes), value });
        }
    }

    /// The version stored in exactly these bytes; zeroes need no place.
    pub fn read(&self, place: Place, bytes: u16) -> Option<u64> {
        let Some(key) = address(place) else {
            return Some(0);
        };
        self.pieces.get(&key).filter(|p| p.bytes == u64::from(bytes)).map(|p| p.value)
    }

    /// Spoils the stored bytes at a place, as a bad disk does. Whether there were any.
    pub fn spoil(&mut self, place: Place) -> bool {
        let piece = address(place).and_then(|key| self.pieces.get_mut(&key));
        piece.map(|p| p.value = !p.value).is_some()
    }

    /// How many pages are stored.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// How many of them are in RAM.
    pub fn in_ram(&self) -> usize {
        self.pieces.range((RAM, 0)..).count()
    }

    /// How many pages of the store in RAM hold any of them.
    pub fn ram_pages(&self) -> u32 {
        let page = |byte: u64| byte / PAGE_SIZE as u64;
        let pieces = self.pieces.range((RAM, 0)..);
        let mut pages: Vec<u64> =
            pieces.flat_map(|(&(_, at), piece)| page(at)..=page(at + piece.bytes - 1)).collect();
        pages.dedup();
        pages.len() as u32
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Every stored page has at most [`PAGE_SIZE`] bytes, so only those that begin a page before `start` can overlap.
    fn lose(&mut self, file: u32, start: u64, end: u64) {
        let from = start.saturating_sub(PAGE_SIZE as u64);
        self.pieces.extract_if((file, from)..(file, end), |&(_, at), p| at + p.bytes > start).for_each(drop);
    }
}

/// Where a place is: the file and the byte. Zeroes are nowhere.
fn address(place: Place) -> Option<(u32, u64)> {
    match place {
        Place::Zero => None,
        Place::Ram { at } => Some((RAM, u64::from(at) * UNIT)),
        Place::File { file, at } => Some((u32::from(file), at)),
    }
}

/// The hash of a page with these contents.
pub fn hash_of(value: u64) -> PageHash {
    Digest::of(&value)
}

/// Whether such contents do not compress.
pub const fn is_raw(value: u64) -> bool {
    value % 8 == 7
}

/// Bytes that a page takes in the store: one page in eight does not compress.
pub fn packed_len(value: u64) -> u16 {
    if is_raw(value) { PAGE_SIZE as u16 } else { 512 + 256 * (value % 8) as u16 }
}

/// A job has ended: its writer hands over what it has stored, or a spill is over; the engine hears of the others.
pub fn finish(engine: &mut Engine, mmu: &mut SimMmu, work: &mut Work, outcome: Outcome) -> Result<(), Halt> {
    match work.kind {
        JobKind::Spill => {
            mmu.store.spilled(&mut mmu.bytes, work, outcome);
            engine.look_at_store(mmu);
            return Ok(());
        }
        JobKind::Write if outcome != Outcome::Refused => mmu.store.written(&mut mmu.bytes, work, outcome),
        JobKind::Write | JobKind::Read | JobKind::Zero => {}
    }
    engine.finish(mmu, work, outcome)
}

/// Runs a Zero job.
pub fn run_zero(mmu: &mut SimMmu, work: &Work) -> Outcome {
    work.frames.iter().for_each(|frame| mmu.write_frame(frame, 0));
    Outcome::Done
}

/// Runs a Read job that has looked where its pages are: every hash is verified. What is to be staged goes to `staged`.
pub fn run_read(mmu: &mut SimMmu, work: &Work, staged: &mut Vec<u64>) -> Outcome {
    staged.clear();
    for (frame, source) in work.frames.iter().zip(&work.sources) {
        let value = match mmu.bytes.read(source.place, source.len) {
            Some(0) if source.place == Place::Zero => 0,
            Some(value) if hash_of(value) == source.hash => value,
            _ => return Outcome::Corrupt,
        };
        match work.staged {
            true => staged.push(value),
            false => mmu.write_frame(frame, value),
        }
    }
    Outcome::Done
}

/// The first half of a Write job: hashes and compresses each frame into `work.packed`.
pub fn pack(mmu: &mut SimMmu, work: &mut Work) {
    work.packed.clear();
    mmu.store.known(work);
    for (i, frame) in work.frames.iter().enumerate() {
        let value = mmu.read_frame(frame);
        let hash = hash_of(value);
        let len = packed_len(value);
        let same = work.known.get(i).copied().flatten() == Some(hash);
        work.packed.push(match value {
            _ if same => Packed::Same,
            0 => Packed::Zero,
            _ if usize::from(len) == PAGE_SIZE => Packed::Raw { hash },
            _ => Packed::Small { len, hash },
        });
    }
}

/// A page that compresses is said not to.
pub(crate) fn give_up_packing(packed: &mut Packed) {
    if let Packed::Small { hash, .. } = *packed {
        *packed = Packed::Raw { hash };
    }
}

/// The second half of a Write job: stores each frame that the engine gave a place for.
pub fn run_write(mmu: &mut SimMmu, work: &Work) -> Outcome {
    for ((frame, target), packed) in work.frames.iter().zip(&work.targets).zip(&work.packed) {
        let value = mmu.read_frame(frame);
        let len = match *packed {
            Packed::Small { len, .. } => len,
            _ => PAGE_SIZE as u16,
        };
        if let Some(place) = *target {
            mmu.bytes.write(place, len, value);
        }
    }
    Outcome::Done
}

/// Runs a Spill job: copies stored bytes as they are.
pub fn run_spill(mmu: &mut SimMmu, work: &Work) -> Outcome {
    for (source, target) in work.sources.iter().zip(&work.targets) {
        match (mmu.bytes.read(source.place, source.len), *target) {
            (Some(value), Some(place)) => mmu.bytes.write(place, source.len, value),
            (Some(_), None) => {}
            (None, _) => return Outcome::Failed,
        }
    }
    Outcome::Done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_bytes_and_released_pages_are_lost() {
        let mut s = StoredBytes::default();
        s.write(Place::Ram { at: 0 }, 1024, 1);
        s.write(Place::Ram { at: 64 }, 1024, 2);
        assert_eq!(s.read(Place::Ram { at: 0 }, 1024), Some(1));
        assert_eq!(s.read(Place::Ram { at: 0 }, 512), None, "other bytes");
        s.write(Place::Ram { at: 32 }, 16, 3);
        assert_eq!(s.read(Place::Ram { at: 0 }, 1024), None);
        s.move_stored(64, 300, 1024);
        assert_eq!((s.read(Place::Ram { at: 300 }, 1024), s.ram_pages()), (Some(2), 2), "from page to page");
        s.release_stored(0..1);
        assert!(s.read(Place::Ram { at: 64 }, 1024).is_none());
        s.release_stored(1..2);
        assert!(s.is_empty());
        assert_eq!(s.read(Place::Zero, 0), Some(0));
    }

    #[test]
    fn spoiled_bytes_fail_their_hash() {
        let mut mmu = SimMmu::new(1);
        let place = Place::File { file: 3, at: 64 };
        mmu.bytes.write(place, 512, 8);
        let mut work = Work::new();
        work.frames = quire_core::FrameRun::new(quire_core::Frame(0), 1);
        work.sources.push(quire_core::job::Stored { place, len: 512, hash: hash_of(8) });
        assert_eq!(run_read(&mut mmu, &work, &mut Vec::new()), Outcome::Done);
        assert_eq!(mmu.read_frame(quire_core::Frame(0)), 8);
        assert!(mmu.bytes.spoil(place));
        assert_eq!(run_read(&mut mmu, &work, &mut Vec::new()), Outcome::Corrupt);
    }
}
