//! A part of `docs/grid.txt` is made anew and must be what is there. All of it:
//! `cargo run --release -p quire-sim --example grid`.

use quire_sim::grid::{self, Place, Share};

const FILE: &str = include_str!("../../../docs/grid.txt");

/// One in so many cells of real programs, which are short.
const EACH: usize = 9;

/// The cells that are replayed: some of those of real programs, in all kinds of memory and of all policies, and a made one.
fn is_sampled(at: usize, place: &Place) -> bool {
    let made = place.workload.name == "zipf" && place.share == Share::All && place.policy == "fixed:2M";
    at.is_multiple_of(EACH) && ["sort", "sqlite", "python"].contains(&place.workload.name) || made
}

#[test]
fn a_sample_of_the_grid_is_as_the_file_says() {
    let places: Vec<Place> = Place::all().collect();
    let lines: Vec<&str> = FILE.lines().collect();
    assert_eq!(lines[0], grid::heading());
    assert_eq!(lines.len() - 1, places.len(), "a line for each cell");
    let sample = places.iter().enumerate().filter(|(at, place)| is_sampled(*at, place));
    let (numbers, cells): (Vec<usize>, Vec<Place>) = sample.map(|(at, place)| (at, *place)).unzip();
    assert!(cells.len() >= 10);
    for ((number, place), result) in numbers.iter().zip(&cells).zip(grid::run(&cells, |_| ())) {
        let made = grid::line(place, &result);
        assert_eq!(made, lines[number + 1], "make it anew: cargo run --release -p quire-sim --example grid");
    }
}

#[test]
fn the_claims_are_those_of_the_grid() {
    let page = include_str!("../../../docs/claims.md");
    let made = grid::claims::page(page, FILE).expect("a mark");
    assert!(made == page, "make it anew: cargo run --release -p quire-sim --example claims");
}
