//! Frames: which are free, and what the others hold.

mod buddy;
mod compact;
mod pool;
mod table;

pub use buddy::Buddy;
pub(crate) use compact::Compaction;
pub(crate) use pool::{Backing, FramePool, Use};
pub(crate) use table::{FrameRecord, FrameTable, NIL};
pub use table::{FrameState, List};
