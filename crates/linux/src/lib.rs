//! The live host of Quire: the engine's verbs on real page tables, and what a pager's threads stand on.
//!
//! * [`sys`]: the system calls, each in the smallest unsafe module, with typed results.
//! * [`mmu`]: the engine's [`Mmu`](quire_core::mmu::Mmu) and [`Mover`](quire_core::mmu::Mover) by userfaultfd.
//! * [`places`]: arena, pool and store: where a process has its memory.
//! * [`fork_events`]: forks that the kernel tells of.
//! * [`unevictable`]: pages that are never moved out.
//! * [`codec`]: hashing and compressing single pages.
//! * [`control`]: what `quire` and its processes share: the ledger of memory, and messages.
//! * [`own_maps`]: what the kernel says is mapped.
//! * [`limits`]: the program's limits on its address space and its data.
//! * [`pager`]: the engine at work inside a program.
//! * [`image`]: what a program's file tells about whether the library will come into it.
//! * [`probe`]: what this machine allows, and the command that mends what it refuses.
//!
//! Code here runs on threads that libc does not know: no stdio, no thread-locals, no `std::thread`.

pub mod codec;
pub mod control;
pub mod filter;
pub mod fork_events;
pub mod image;
pub mod libc_sites;
pub mod limits;
pub mod mmu;
pub mod own_maps;
pub mod pager;
pub mod places;
pub mod probe;
mod strict;
pub mod sys;
pub mod unevictable;
