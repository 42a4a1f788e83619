//! System calls, each group in the smallest unsafe module, with typed results.
//!
//! Addresses are plain numbers here. The functions that change mappings are safe to call in the sense that
//! the crate hands them only addresses of memory which it reserved itself and to which Rust holds no
//! reference; what may be done to which range is the contract of [`quire_core::mmu`]. None of them touches
//! libc's state: no `errno`, no thread-locals, no stdio, no allocation. So they work on threads that libc
//! has never heard of, and inside interposed calls.

pub mod bytes;
pub mod cause;
pub mod child;
pub mod clock;
pub mod faulty;
pub mod file;
pub mod futex;
pub mod leaked;
pub mod loader;
pub mod mmap;
pub mod msg;
mod own;
pub mod pagemap;
mod raw;
pub mod rlimit;
pub mod sched;
pub mod shared;
pub mod streams;
pub mod tally;
pub mod thread;
pub mod uffd;
pub mod urge;
pub mod wiped;
pub mod zstd;

pub use cause::Cause;
pub use rustix::io::Errno;

/// What a system call gives: its value, or the kernel's error number.
pub type Result<T> = core::result::Result<T, Errno>;
