//! `quire bench`: what this machine does natively, with the kernel's swap, and with Quire, at equal RAM.

mod model;
pub(crate) mod touch;
mod workload;
