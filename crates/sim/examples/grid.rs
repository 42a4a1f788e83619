//! Writes `docs/grid.txt`: every policy on every workload, with several amounts of memory, fragmented and not.
//!
//! `cargo run --release -p quire-sim --example grid`; with words behind `--`, only the cells whose lines have them all go
//! to the terminal, with the times as multiples of the best of their group. A few minutes on two processors.

use quire_sim::grid::{self, Place};
use std::error::Error;
use std::io::{self, Write};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/grid.txt");

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let cells: Vec<Place> = Place::all().filter(|place| matches(place, &words)).collect();
    let results = grid::run(&cells, |_| _ = write!(io::stderr(), "."));
    eprintln!();
    let lines = cells.iter().zip(&results).map(|(place, result)| grid::line(place, result) + "\n");
    if words.is_empty() {
        let text: String = core::iter::once(grid::heading() + "\n").chain(lines).collect();
        std::fs::write(FILE, text)?;
        return Ok(());
    }
    println!("{} best", grid::heading());
    let time = |at: usize| results[at].as_ref().map_or(u64::MAX, |numbers| numbers[0]);
    for (at, line) in lines.enumerate() {
        let alike = |other: &usize| {
            let (a, b) = (cells[at], cells[*other]);
            (a.workload, a.share, a.fragmentation) == (b.workload, b.share, b.fragmentation)
        };
        let best = (0..cells.len()).filter(alike).map(time).min().unwrap_or(1);
        println!("{} {:.2}", line.trim_end(), time(at) as f64 / best as f64);
    }
    Ok(())
}

/// Whether each word is in what the cell is made of; several with commas: one of them.
fn matches(place: &Place, words: &[String]) -> bool {
    let Place { workload, share, fragmentation, policy } = place;
    let names = [workload.name.into(), format!("{share}"), format!("frag={fragmentation}"), (*policy).into()];
    words.iter().all(|word| word.split('|').any(|one| names.iter().any(|name| name == one)))
}
