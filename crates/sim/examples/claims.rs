//! Writes the tables of `docs/claims.md`, below its mark, from `docs/grid.txt`, which the example `grid` writes.
//!
//! `cargo run --release -p quire-sim --example claims`

use quire_sim::grid::claims;
use std::error::Error;
use std::fs;

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");

fn main() -> Result<(), Box<dyn Error>> {
    let file = format!("{DOCS}/claims.md");
    let grid = fs::read_to_string(format!("{DOCS}/grid.txt"))?;
    let page = claims::page(&fs::read_to_string(&file)?, &grid).ok_or("docs/claims.md has no mark")?;
    fs::write(file, page)?;
    Ok(())
}
