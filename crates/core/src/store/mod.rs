//! The store: where the contents of stored pages lie, and how much of the grant that takes.
//!
//! An engine hands contents over and gets a [`Block`] for each page; what it does with that from then on, it tells by
//! [`Message`]s. It reads blocks where [`Store::look`] says that they are, and what the store takes in [`Figures`]. The
//! store moves blocks as it likes: within RAM when it cleans, and to a spill file when RAM gets short. So a place that was
//! looked up may be another one by the time that it is read; the hash tells. A message about a block that is no more
//! changes nothing, and nobody finds anything by its name.
//!
//! Like the engine, it does no I/O and has no clock or thread. Slow work leaves it as a job:
//!
//! | job | begins | the host | ends |
//! |---|---|---|---|
//! | a write, the engine's | [`Store::place`], with what the host has compressed, if the engine still wants it ([`Engine::wants`](crate::Engine::wants)) | stores each page at its place | [`Store::written`], then [`Engine::finish`](crate::Engine::finish) |
//! | a read, the engine's | [`Store::sources`] | reads, verifies; where a hash differs, looks again | [`Engine::finish`](crate::Engine::finish) |
//! | a spill, its own | [`Store::tend`] | copies `work.sources` to `work.targets` | [`Store::spilled`] |

mod check;
mod division;
mod file;
mod index;
mod message;
mod rules;
pub mod segments;
mod spill;

pub use check::StoreHoldings;
pub use file::FileSpace;
pub use index::FILE_UNIT;
pub use message::{Block, Figures, Message};
pub use segments::Segments;
pub(crate) use segments::{Queue, is_incompressible};
pub use spill::Tend;

use crate::addr::PAGE_SIZE;
use crate::grant::Grant;
use crate::job::{Outcome, Packed, PageHash, Place, Stored, Work};
use core::ops::Range;
use division::Division;
use index::Index;

/// The memory of a store: what it moves and gives back.
pub trait StoreMemory {
    /// Copies `len` bytes of the store in RAM, from and to places in units of 16 bytes that do not overlap.
    fn move_stored(&mut self, from: u32, to: u32, len: u16);

    /// Gives the memory of these pages of the store in RAM back to the system.
    fn release_stored(&mut self, pages: Range<u32>);
}

/// All that is stored, and the rules by which. See the module's text.
#[derive(Clone, Debug)]
pub struct Store {
    index: Index,
    /// What all may take, as the engine said last.
    grant: Grant,
    /// How that is divided between frames and the store.
    division: Division,
    /// The extent that a spill under way fills.
    spilling: Option<u32>,
    /// Counted since the start, for [`Figures`].
    pages_stored: u64,
    bytes_stored: u64,
    pages_spilled: u64,
}

impl Store {
    /// A store that may come to have `segments` segments of `segment_pages` pages each, at least two, within a grant of
    /// `grant` pages.
    pub fn new(segments: u32, segment_pages: u32, grant: u32) -> Store {
        Store {
            index: Index::new(segments, segment_pages),
            grant: Grant::new(grant),
            division: Division::new(grant),
            spilling: None,
            pages_stored: 0,
            bytes_stored: 0,
            pages_spilled: 0,
        }
    }

    /// Does what an engine tells. What it says of a block that is no more is ignored. A message allocates nothing but for
    /// [`Message::Reserve`].
    pub fn hear(&mut self, memory: &mut impl StoreMemory, message: Message) {
        match message {
            Message::Reserve(pages) => self.index.reserve(pages),
            Message::Grant { pages, overhead } => {
                (self.grant.pages, self.grant.overhead) = (pages, overhead);
            }
            Message::Share(block) => {
                if let Some(id) = self.index.find(block) {
                    self.index.share(id);
                }
            }
            Message::Drop(block) => {
                if let Some(id) = self.index.find(block) {
                    self.index.drop(id, memory);
                }
            }
            Message::Refault { rank, resident, only_stored } => {
                self.note_refault(rank, resident, only_stored);
            }
            Message::Waiting { more, less } => self.division.weigh_waiting(&self.grant, more, less),
        }
    }

    /// What is stored as `block`, and where it is now. `None` where nobody needs it any more.
    pub fn look(&self, block: Block) -> Option<Stored> {
        self.index.look(block)
    }

    /// What the store takes and may take.
    pub fn figures(&self) -> Figures {
        Figures {
            ram_pages: self.index.ram_pages(),
            limit: self.limit(),
            blocks_in_ram: self.index.blocks_in_ram(),
            incompressible_pages: self.index.incompressible_pages(),
            has_file: self.index.has_file(),
            spills: self.spilling.is_some(),
            fits: self.division.fits(),
            pages_stored: self.pages_stored,
            bytes_stored: self.bytes_stored,
            pages_spilled: self.pages_spilled,
        }
    }

    /// Bytes that stored pages take in the spill file that is written now.
    pub fn file_bytes(&self) -> u64 {
        self.index.file_bytes()
    }

    /// From now on stores to spill file `file` too, of at most `limit` bytes. Earlier files are only read.
    pub fn open_file(&mut self, file: u16, limit: u64) {
        self.index.open_file(file, limit);
    }

    /// Writes no more to any file: a disk failed, or a fork shares what is there.
    pub fn close_file(&mut self) {
        self.index.close_file();
    }

    /// In a forked child, whose store is a copy of its parent's: it counts anew.
    pub fn count_anew(&mut self) {
        (self.pages_stored, self.bytes_stored, self.pages_spilled) = (0, 0, 0);
    }

    /// Sets how many thirty-seconds of the grant the store and the host's tables may take, 1..=19. From there the
    /// division follows refaults again.
    pub fn set_division(&mut self, parts: u32) {
        self.division.set_parts(parts);
    }

    /// Tells how long a fault waited for its read of the spill file, in ns.
    pub fn note_read(&mut self, ns: u64) {
        self.division.note_read(ns);
    }

    /// Before a read job reads: where its pages are, into `work.sources`. A block that nobody needs any more is as good as
    /// zeroes, since the job's ticket is void.
    pub fn sources(&self, work: &mut Work) {
        const NOWHERE: Stored = Stored { place: Place::Zero, len: 0, hash: 0 };
        work.sources.clear();
        let sources = work.blocks.iter().map(|block| block.and_then(|block| self.look(block)));
        work.sources.extend(sources.map(|stored| stored.unwrap_or(NOWHERE)));
    }

    /// Before a write job compresses: the hashes of the copies that its pages still have, into `work.known`.
    pub fn known(&self, work: &mut Work) {
        let hash = |block: &Option<Block>| block.and_then(|block| self.look(block)).map(|stored| stored.hash);
        work.known.clear();
        work.known.extend(work.blocks.iter().map(hash));
    }

    /// Gives each page of a write job its place: into `work.targets`, and the new block into `work.kept`. The caller has
    /// hashed and compressed into `work.packed`. False where no store takes them; then the job ends as [`Outcome::Refused`], as
    /// it does where nobody wants them any more.
    pub fn place(&mut self, memory: &mut impl StoreMemory, work: &mut Work) -> bool {
        work.targets.clear();
        work.kept.clear();
        let (pages, bytes) = sizes(&work.packed);
        let placed = pages == 0
            || self.waits_in_ram(pages, bytes) && self.place_in_ram(memory, work, Queue::Incompressible)
            || self.prefers_file(pages, bytes) && self.place_in_file(bytes, work)
            || self.worth_ram(pages, bytes) && self.place_in_ram(memory, work, Queue::Dense)
            || self.place_in_file(bytes, work);
        if placed {
            work.targets.resize(work.packed.len(), None);
            work.kept.resize(work.packed.len(), None);
            self.pages_stored += u64::from(pages);
            self.bytes_stored += bytes;
        }
        placed
    }

    fn place_in_ram(&mut self, memory: &mut impl StoreMemory, work: &mut Work, queue: Queue) -> bool {
        for packed in &work.packed {
            let block = match stored_size(*packed) {
                None => None,
                Some((len, hash)) => match self.index.new_ram_block(queue, len, hash) {
                    Some(id) => Some(self.index.name(id)),
                    None => {
                        self.give_up(memory, work);
                        return false;
                    }
                },
            };
            work.targets.push(block.and_then(|block| self.look(block)).map(|stored| stored.place));
            work.kept.push(block);
        }
        true
    }

    fn place_in_file(&mut self, bytes: u64, work: &mut Work) -> bool {
        let Some(extent) = self.index.new_file_extent(bytes) else { return false };
        let mut offset = 0;
        for packed in &work.packed {
            let block = stored_size(*packed).map(|(len, hash)| {
                let block = self.index.new_file_block(extent, offset, len, hash);
                offset += u64::from(len).next_multiple_of(16);
                self.pages_spilled += 1;
                self.index.name(block)
            });
            work.targets.push(block.and_then(|block| self.look(block)).map(|stored| stored.place));
            work.kept.push(block);
        }
        true
    }

    /// A write job that got its places has ended. Its blocks are the engine's now, which names them or drops them; where the
    /// disk failed they are no more, and no file is written any longer. What it holds can still be read, or the checksum
    /// says otherwise.
    pub fn written(&mut self, memory: &mut impl StoreMemory, work: &mut Work, outcome: Outcome) {
        if outcome != Outcome::Done {
            self.close_file();
            self.give_up(memory, work);
            return;
        }
        work.kept.iter().flatten().for_each(|block| self.index.hand_over(block.number));
        for (packed, block) in work.packed.iter().zip(&work.blocks) {
            match block {
                Some(block) if *packed == Packed::Same => self.index.renew(*block),
                _ => {}
            }
        }
    }

    /// The blocks of a write job are no more.
    fn give_up(&mut self, memory: &mut impl StoreMemory, work: &mut Work) {
        work.kept.iter().flatten().for_each(|block| self.index.abandon(block.number, memory));
        work.kept.clear();
        work.targets.clear();
    }
}

/// How many of the pages need a place, and how many bytes those take, each rounded up to 16.
fn sizes(packed: &[Packed]) -> (u32, u64) {
    let mut total = (0, 0);
    for (len, _) in packed.iter().filter_map(|p| stored_size(*p)) {
        total = (total.0 + 1, total.1 + u64::from(len).next_multiple_of(16));
    }
    total
}

fn stored_size(packed: Packed) -> Option<(u16, PageHash)> {
    match packed {
        Packed::Same | Packed::Zero => None,
        Packed::Small { len, hash } => Some((len, hash)),
        Packed::Raw { hash } => Some((PAGE_SIZE as u16, hash)),
    }
}

const _: () = assert!(FILE_UNIT == PAGE_SIZE as u64);
