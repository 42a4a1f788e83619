//! `quire`: runs programs on folios of flexible order, inside a memory budget.

fn main() {}
