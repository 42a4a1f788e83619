//! The verbs of the command line.

pub(crate) mod bench;
pub(crate) mod doctor;
pub(crate) mod enter;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod touch;
pub(crate) mod watchdogs;
