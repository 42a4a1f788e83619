//! `quire bench`: what this machine does natively, with the kernel's swap, and with Quire, at equal RAM.

#[cfg(test)]
mod example;
pub(crate) mod figures;
pub(crate) mod html;
pub(crate) mod json;
pub(crate) mod model;
pub(crate) mod progress;
pub(crate) mod table;
