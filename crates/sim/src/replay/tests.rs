//! Small traces with exact counts, and what must hold of any.
