//! Pages that several spaces share since a fork: their slots, who names them, and what becomes of them.
//!
//! A shared page's frame and stored copy are named by a *slot*, a page of the hidden space [`SHARED`](crate::SHARED); the page
//! entries of the spaces name the slot. So a frame still names one page, and ageing, writing and swap-in know nothing
//! of sharing. The contents of a shared folio stay in the pool, mapped read-only. Neighbours: `fault` and `reclaim`
//! ask here where a page is shared, `space` where one is given up. `docs/decisions.md` compares this with Linux.

mod fault;
mod fork;
mod map;
mod part;
mod rmap;

pub use rmap::Mapping;
