//! Frames: which are free, and what the others hold.

mod buddy;
mod pool;
mod splinters;
mod table;

pub use buddy::Buddy;
pub(crate) use pool::{Backing, FramePool, Use};
pub(crate) use splinters::Compaction;
pub(crate) use table::{FrameRecord, FrameTable, NIL};
pub use table::{FrameState, List};
