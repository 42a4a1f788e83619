//! Folios: what is known of one beside its frames. [`crate::shaping`] changes them.

mod cooldown;
mod rescues;
mod split;
mod tending;
mod touched;

pub use split::{SplitMode, SplitWhy};
pub use tending::Shaping;
pub use touched::Touched;

pub(crate) use cooldown::Cooldown;
pub(crate) use rescues::Rescues;
pub(crate) use tending::{Tending, WATCHED, Watched};
