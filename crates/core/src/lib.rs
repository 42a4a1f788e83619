//! The engine of Quire: anonymous memory in folios of flexible order, as one state machine without I/O.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod addr;
pub mod frame;
pub mod job;
pub mod mmu;
pub mod order;
pub mod swap;

pub use addr::{Frame, FrameRun, PAGE_SIZE, PageRange, Space, Vpn};
pub use order::{Order, OrderSet};
