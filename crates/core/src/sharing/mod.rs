//! Pages that several spaces share since a fork: their slots, who names them, and what becomes of them.
//!
//! A shared page's frame and stored copy are named by a *slot*, a page of the hidden space [`SHARED`]; the page
//! entries of the spaces name the slot. So a frame still names one page, and ageing, writing and swap-in know nothing
//! of sharing. The contents of a shared folio stay in the pool, mapped read-only. Neighbours: `fault` and `reclaim`
//! ask here where a page is shared, `space` where one is given up. `docs/decisions.md` compares this with Linux.

mod fault;
mod fork;
mod map;
mod part;
mod rmap;
mod table;

pub(crate) use fault::SharedPage;
pub use rmap::Mapping;
pub(crate) use table::SharedPages;

use crate::addr::Space;

/// The hidden space: its page numbers are slots. It has no VMAs, and no program runs in it.
pub const SHARED: Space = Space(1);
