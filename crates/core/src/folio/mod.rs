//! Folios: what changes one as a whole.

mod split;

pub use split::SplitWhy;
