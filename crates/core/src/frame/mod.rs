//! Frames: which are free, and what the others hold.

mod buddy;
mod pool;
mod table;

pub use buddy::Buddy;
pub(crate) use pool::{Backing, FramePool, Use};
pub use table::{FrameState, List};
pub(crate) use table::{FrameTable, NIL};
