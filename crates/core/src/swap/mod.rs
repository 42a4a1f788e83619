//! Swap: where the contents of stored pages lie.

pub mod file;
mod index;
mod ranks;
pub mod segments;

pub use file::FileSpace;
pub use index::FILE_UNIT;
pub(crate) use index::SwapIndex;
pub(crate) use ranks::Ranks;
pub use segments::Segments;
pub(crate) use segments::{Queue, is_incompressible};
