//! The verbs of the command line.

pub(crate) mod doctor;
pub(crate) mod run;
