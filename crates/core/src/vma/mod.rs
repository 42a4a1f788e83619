//! VMAs: which virtual pages a program has, with what rights, hints and fault history.

mod history;
mod map;

pub(crate) use history::GRACE;
pub use history::History;
pub use map::{Vma, VmaMap};

/// What a program said about a range (`madvise(2)`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Hint {
    /// Nothing.
    #[default]
    Normal,
    /// Pages are used in order.
    Sequential,
    /// Pages are used in no order.
    Random,
    /// Large folios are welcome.
    Huge,
    /// Large folios are not welcome.
    Base,
}
