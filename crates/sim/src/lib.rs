//! The simulator of Quire: page tables that obey the rules of the kernel, a plain model of what a program
//! should see, and a search over every order of events.
//!
//! * [`SimMmu`] implements [`quire_core::mmu::Mmu`] and [`quire_core::mmu::Mover`] on tables of several spaces and
//!   a pool of frames. A page's contents are one number, its version: pages move whole, and every write of a
//!   program or of a job stores a number of its own, so that stale contents show at once. 0 is a page of zeroes.
//! * [`Model`] holds what a program should read, without any paging at all.
//! * [`search`](search::search) visits every state that a [`World`] can reach within so many events.
//! * [`walk`] takes a [`Host`] through long random lists of events, and finds the shortest one that fails.
//! * [`trace`] reads and writes what programs did to their memory.
//! * [`workload`] makes such events up, from a seed.
//! * [`tlb`] says which accesses find their translation, on several machines.
//! * [`replay`] runs traces and workloads through the engine and says what they cost.
//! * [`grid`] is the cells that the tables of policies are made of.
//!
//! What the tables answer is compared with Linux, verb by verb, by `tests/differential/`.
#![forbid(unsafe_code)]

pub mod cells;
pub mod checker;
pub mod digest;
pub mod grid;
pub mod inject;
pub mod mmu;
pub mod replay;
pub mod rng;
pub mod search;
pub mod store;
pub mod tables;
pub mod tlb;
pub mod trace;
pub mod unprivileged;
pub mod waiters;
pub mod walk;
pub mod workload;
pub mod world;

pub use checker::{Mismatch, Model};
pub use inject::{Injection, Injector, Lasting, Verb};
pub use mmu::{Access, SimMmu};
pub use search::{Report, World, search};
pub use store::StoredBytes;
pub use tables::{Pte, Rights, Tables, Vma};
pub use waiters::{Message, Waiters};
pub use world::{Event, Host};
