//! Swap: where the contents of stored pages lie.

pub mod file;
mod index;
pub mod spans;

pub use file::FileSpace;
pub use index::FILE_UNIT;
pub(crate) use index::{Queue, SwapIndex};
pub use spans::{SPAN_BYTES, Spans};
