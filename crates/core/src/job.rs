//! Jobs: the slow work that leaves the engine as a value and comes back with its ticket.
//!
//! A host runs a job with no lock held. The frames that a job names stay pinned until its ticket has come back; a ticket is
//! never reused, and one whose folio has changed meanwhile is void. The blocks that it names may move meanwhile, or go with
//! the last page that needs them: see [`crate::store`].

use crate::addr::{FrameRun, PAGE_SIZE};
use crate::store::Block;
use alloc::vec::Vec;
use core::fmt;

/// The most pages one job can name: those of a folio of the largest order.
pub const MAX_JOB_PAGES: usize = 512;
/// The most pages that a job has staged: 16 KiB.
pub const MAX_STAGED_PAGES: usize = 4;

/// Names one job, for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ticket(pub u64);

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tx{:x}", self.0)
    }
}

/// The keyed 128-bit hash of a page's contents.
pub type PageHash = u128;

/// Where the stored contents of one page are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Place {
    /// Nowhere: every byte is zero.
    Zero,
    /// In the store in RAM, `at` × 16 bytes from its start.
    Ram {
        /// The offset, in units of 16 bytes.
        at: u32,
    },
    /// In the spill file `file`, from byte `at`.
    File {
        /// Which spill file.
        file: u16,
        /// The offset in bytes, a multiple of 16.
        at: u64,
    },
}

/// The stored contents of one page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Stored {
    /// Where they are.
    pub place: Place,
    /// Bytes stored, 0..=4096; [`crate::addr::PAGE_SIZE`] means: not compressed.
    pub len: u16,
    /// The hash of the page as it was before compression.
    pub hash: PageHash,
}

/// Bytes of a spill file that are read at once even where most of them are not needed: a disk takes hardly longer for
/// them than for 4 KiB.
const READ_WINDOW: u64 = 32 << 10;

/// What has to be read of a spill file for a number of pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reach {
    /// The file, and the first byte and the one past the last that are needed of it.
    range: Option<(u16, u64, u64)>,
    /// Bytes that are needed.
    needed: u64,
    scattered: bool,
}

impl Reach {
    /// Adds the stored contents of a page.
    pub fn add(&mut self, source: &Stored) {
        if let Place::File { file, at } = source.place {
            let needed = u64::from(source.len);
            self.join(&Reach { range: Some((file, at, at + needed)), needed, scattered: false });
        }
    }

    /// Adds what is needed for other pages.
    pub fn join(&mut self, other: &Reach) {
        let Some((file, at, end)) = other.range else { return };
        let (of, start, to) = self.range.unwrap_or((file, at, end));
        self.scattered |= other.scattered || of != file;
        self.range = Some((of, start.min(at), to.max(end)));
        self.needed += other.needed;
    }

    /// Whether nothing is in a file.
    pub fn is_empty(&self) -> bool {
        self.range.is_none()
    }

    /// Whether it is best read at once: it lies close together, in one file.
    pub fn is_one_read(&self) -> bool {
        let most = (2 * self.needed).min((MAX_JOB_PAGES * PAGE_SIZE) as u64).max(READ_WINDOW);
        !self.scattered && self.range.is_none_or(|(_, start, end)| end - start <= most)
    }

    /// The file, the first byte and the one past the last, if it is best read at once.
    pub fn range(&self) -> Option<(u16, u64, u64)> {
        self.range.filter(|_| self.is_one_read())
    }
}

/// What a job does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum JobKind {
    /// Fill the frames with zeroes.
    Zero,
    /// Fill frame i from `sources[i]`, verifying each hash.
    Read,
    /// Hash and compress each frame, ask [`Store::place`](crate::Store::place) for places, and store there.
    Write,
    /// Copy each of `sources` to the place in `targets`, which lie side by side in one spill file. A job of the store's.
    Spill,
}

/// What a worker found when it hashed and compressed one page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Packed {
    /// The contents are those of the stored copy that is still kept: `known[i]` is equal to the hash.
    Same,
    /// Every byte is zero.
    Zero,
    /// Compressed to `len` bytes, 1..4096.
    Small {
        /// Bytes after compression.
        len: u16,
        /// The hash of the page.
        hash: PageHash,
    },
    /// Compression does not pay: the page is to be stored as it is.
    Raw {
        /// The hash of the page.
        hash: PageHash,
    },
}

/// A job with the data it needs. A worker makes one, and passes it to the engine to be filled again and
/// again: it never grows beyond [`MAX_JOB_PAGES`] entries.
#[derive(Clone, Debug)]
pub struct Work {
    /// The ticket to come back with.
    pub ticket: Ticket,
    /// What to do.
    pub kind: JobKind,
    /// Zero, read: no memory is behind the frames yet. What they get is fresh, and reads as zeroes: touching it is enough
    /// for a job that brings those.
    pub fresh: bool,
    /// Read: the contents go to a place of the host's own instead of the frames, which have no memory behind them and
    /// are not to be touched. From there the end of the job copies them to the program.
    pub staged: bool,
    /// Write: RAM for the store is short, so a better ratio is worth a slower way back.
    pub tight: bool,
    /// The frames to fill or to read. Empty for [`JobKind::Spill`].
    pub frames: FrameRun,
    /// Read, spill: what is to be read, one entry a page; `None` is zeroes. Write: the stored copy that each page still has.
    pub blocks: Vec<Option<Block>>,
    /// Read, spill: where the contents are, one entry a page. Set by [`Store::sources`](crate::Store::sources).
    pub sources: Vec<Stored>,
    /// Spill: where they are to go. Write: set by [`Store::place`](crate::Store::place); `None` needs no store.
    pub targets: Vec<Option<Place>>,
    /// Write: the hashes of `blocks`. Set by [`Store::known`](crate::Store::known).
    pub known: Vec<Option<PageHash>>,
    /// Write: what the worker found, one entry a page.
    pub packed: Vec<Packed>,
    /// Write: the new block of each page that needs one. Set by [`Store::place`](crate::Store::place).
    pub kept: Vec<Option<Block>>,
}

impl Work {
    /// An empty one, with room for the largest job.
    pub fn new() -> Work {
        Work {
            ticket: Ticket(0),
            kind: JobKind::Zero,
            fresh: false,
            staged: false,
            tight: false,
            frames: FrameRun::new(crate::addr::Frame(0), 0),
            blocks: Vec::with_capacity(MAX_JOB_PAGES),
            sources: Vec::with_capacity(MAX_JOB_PAGES),
            targets: Vec::with_capacity(MAX_JOB_PAGES),
            known: Vec::with_capacity(MAX_JOB_PAGES),
            packed: Vec::with_capacity(MAX_JOB_PAGES),
            kept: Vec::with_capacity(MAX_JOB_PAGES),
        }
    }

    pub(crate) fn begin(&mut self, ticket: Ticket, kind: JobKind, frames: FrameRun) {
        self.ticket = ticket;
        self.kind = kind;
        self.frames = frames;
        self.fresh = false;
        self.staged = false;
        self.tight = false;
        self.blocks.clear();
        self.sources.clear();
        self.targets.clear();
        self.known.clear();
        self.packed.clear();
        self.kept.clear();
    }

    /// Whether a source of this job is in a file, as far as was looked, so that running it may wait for a disk.
    pub fn reads_file(&self) -> bool {
        self.sources.iter().any(|s| matches!(s.place, Place::File { .. }))
    }
}

impl Default for Work {
    fn default() -> Work {
        Work::new()
    }
}

/// How a job ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// All of it was done.
    Done,
    /// The store or the disk failed. Nothing was changed that the engine still relies on.
    Failed,
    /// No store takes what a write job brings.
    Refused,
    /// Stored contents do not match their hash.
    Corrupt,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(places: &[(u16, u64, u16)]) -> Reach {
        let mut reach = Reach::default();
        for &(file, at, len) in places {
            reach.add(&Stored { place: Place::File { file, at }, len, hash: 0 });
        }
        reach
    }

    #[test]
    fn what_lies_close_together_is_one_read() {
        assert_eq!(reach(&[(1, 4096, 100), (1, 30_000, 4096)]).range(), Some((1, 4096, 34_096)));
        assert_eq!(reach(&[(1, 0, 100), (1, 40_000, 100)]).range(), None);
        assert_eq!(reach(&[(1, 0, 100), (2, 200, 100)]).range(), None);
        assert!(Reach::default().is_one_read() && Reach::default().is_empty());
    }

    #[test]
    fn a_long_run_is_one_read_where_half_of_it_is_needed() {
        let run: [_; 512] = core::array::from_fn(|i| (0, i as u64 * 4096, 4096));
        assert_eq!(reach(&run).range(), Some((0, 0, 2 << 20)));
        let sparse: [_; 64] = core::array::from_fn(|i| (0, i as u64 * 4096, 1000));
        assert_eq!(reach(&sparse).range(), None);
    }
}
