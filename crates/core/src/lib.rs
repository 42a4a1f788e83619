//! The engine of Quire: anonymous memory in folios of flexible order, as one state machine without I/O.
//!
//! [`Engine`] owns every table and decides everything; it meets the world through [`mmu`] (few synchronous
//! verbs on page tables) and [`job`] (slow work that leaves as a value and comes back with a ticket). It has
//! no clock, no threads, no randomness: the same engine runs live and in a simulator.
//!
//! Two walks are the program: [`fault`] and [`reclaim`]. What a program does to its address space is in
//! `space`, what must hold across all tables in `check`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod addr;
mod check;
mod chunked;
mod engine;
pub mod fault;
mod folio;
pub mod frame;
mod inspect;
pub mod job;
mod log;
pub mod mmu;
mod order;
mod page;
pub mod reclaim;
mod sharing;
mod smaps;
mod space;
mod stats;
pub mod swap;
mod tickets;
mod trail;
pub mod vma;

pub use addr::{Frame, FrameRun, PAGE_SIZE, PageRange, Space, Vpn};
pub use check::Audit;
pub use engine::{Config, Engine, Halt, PageState};
pub use fault::{Fault, PolicyKind};
pub use folio::{Shaping, SplitMode, SplitWhy, Touched};
pub use inspect::{Holdings, Whereabouts};
pub use log::Decision;
pub use order::{Order, OrderSet};
pub use reclaim::{Demand, Placed, Reclaim};
pub use sharing::{Mapping, SHARED};
pub use smaps::VmaUsage;
pub use stats::Stats;
