//! Frames: which are free, and what the others hold.

mod buddy;

pub use buddy::Buddy;
