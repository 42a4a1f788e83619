//! `quire bench`: what this machine does natively, with the kernel's swap, and with Quire, at equal RAM.

#[allow(dead_code)]
mod host;
#[allow(dead_code)]
mod model;
#[allow(dead_code)]
mod run;
