//! The library in front of real programs.
