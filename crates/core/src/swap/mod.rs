//! Swap: where the contents of stored pages lie.

pub mod file;
pub mod spans;

pub use file::FileSpace;
pub use spans::Spans;
