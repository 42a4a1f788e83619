//! Folios: what changes one as a whole.

mod collapse;
mod settling;
mod shaping;
mod sparse;
mod split;
mod touched;

pub use shaping::Shaping;
pub use sparse::SplitMode;
pub use split::SplitWhy;
pub use touched::Touched;

pub(crate) use settling::Settling;
pub(crate) use shaping::Tending;
pub(crate) use sparse::Rescues;
