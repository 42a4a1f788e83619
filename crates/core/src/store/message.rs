//! What an engine and its store tell each other.

use core::fmt;

/// The stored contents of one page, as a page entry names them: Linux's swap entry.
///
/// A number, and a tag that changes whenever the number becomes another block's: who still has an old name, for whatever
/// reason, finds nothing by it, and drops nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    pub(crate) number: u32,
    /// Less than [`Block::TAGS`].
    pub(crate) tag: u32,
}

impl Block {
    /// The contents of every page that is all zeroes: it lies nowhere, and the store does not know it.
    pub(crate) const ZERO: Block = Block { number: u32::MAX - 1, tag: 0 };
    /// How many tags there are.
    pub(crate) const TAGS: u32 = 1 << 31;
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bx{:x}.{:x}", self.number, self.tag)
    }
}

/// What an engine tells its store. Messages arrive in the order in which they were sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// So many pages may come to be stored before the next of these messages: make ready for them.
    Reserve(u32),
    /// All that is charged may take so many pages, of which the host's own tables and buffers take `overhead`.
    Grant {
        /// The grant, in pages.
        pages: u32,
        /// The part of it that is the host's, in pages.
        overhead: u32,
    },
    /// One more page entry names a block.
    Share(Block),
    /// One page entry names a block no more. With the last one it goes.
    Drop(Block),
    /// A page that was only stored is needed again.
    Refault {
        /// Pages that left after it and are still only stored.
        rank: u32,
        /// Pages in frames now.
        resident: u32,
        /// Pages that are only stored.
        only_stored: u32,
    },
    /// So many pages more that wait in RAM to go to the file would have spared a read of the disk, or so many less of them
    /// a fault.
    Waiting {
        /// Pages more.
        more: u32,
        /// Pages less.
        less: u32,
    },
}

/// What a store takes and may take, as an engine sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Figures {
    /// Pages of RAM that it takes.
    pub ram_pages: u32,
    /// The store limit: most pages of RAM for it and for the host's own tables together.
    pub limit: u32,
    /// Pages whose contents it has in RAM.
    pub blocks_in_ram: u32,
    /// Pages of contents in RAM that hardly compress, and wait there for the file.
    pub incompressible_pages: u32,
    /// Whether there is a spill file to store to.
    pub has_file: bool,
    /// Whether a spill job is under way.
    pub spills: bool,
    /// Whether the file has nothing that RAM would not have room for.
    pub fits: bool,
    /// Pages stored since the start, ...
    pub pages_stored: u64,
    /// ... the bytes that they took, ...
    pub bytes_stored: u64,
    /// ... and pages that went to a spill file, from RAM or at once.
    pub pages_spilled: u64,
}
