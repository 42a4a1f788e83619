//! `libquire_preload.so`: what `quire run` puts in front of a program's libraries.
//!
//! It puts jumps over libc's own system calls that make or change anonymous memory, its malloc's among them. Each call that touches no managed memory goes straight to the kernel; the others go to the pager.
//!
//! * `start`: the constructor: the hooks, the pager.
//! * `hooks`: the jumps over libc's system calls.
//! * `heap`: Quire's own heap, `#[global_allocator]`: the pager's tables.
//! * `loaded`: the objects that the loader has loaded. `texts`: where their code lies.
//! * `exclude`: which programs are left alone.
//! * `calls`: mmap and its kin, fork and its kin, exec and its kin.
//! * `decide`: what is managed, as pure functions.
//! * `pager_api`: all that this library wants of the pager.
//!
//! # Rules
//!
//! Quire's own threads have no libc thread behind them. They never call a function that this library takes over, or a libc's that is hooked (the
//! system calls of `quire-linux` are made in assembly), and nothing that sets `errno`. What this
//! library allocates by Rust's allocator lives outside managed memory.
//!
//! Not managed, and counted elsewhere as such: stacks, shared memory, files, mappings marked `MAP_STACK`, and
//! system calls made in assembly.

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
compile_error!("quire-preload knows the calling convention and the system calls of Linux on x86-64 only");

mod calls;
mod decide;
mod environment;
mod exclude;
mod heap;
mod hooks;
mod loaded;
mod pager_api;
mod raw;
mod start;
mod texts;

#[global_allocator]
static HEAP: heap::QuireHeap = heap::QuireHeap;
