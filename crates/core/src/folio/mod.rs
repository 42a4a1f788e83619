//! Folios: what changes one as a whole.

mod split;
