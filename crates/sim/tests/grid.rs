//! A part of `docs/grid.txt` is made anew and must be what is there. All of it:
//! `cargo run --release -p quire-sim --example grid`.
//!
//! That the file is what the engine does proves nothing of what it should do: what must hold of any such table is asked of
//! the whole of it.

use quire_sim::grid::{self, Place, Share};
use quire_sim::replay::Costs;
use std::collections::BTreeMap;

const FILE: &str = include_str!("../../../docs/grid.txt");

/// One in so many cells of real programs, which are short.
const EACH: usize = 9;

/// The cells that are replayed: some of those of real programs, in all kinds of memory and of all policies, and a made one.
fn is_sampled(at: usize, place: &Place) -> bool {
    let made = place.workload.name == "zipf" && place.share == Share::All && place.policy == "fixed:2M";
    at.is_multiple_of(EACH) && ["sort", "sqlite", "python"].contains(&place.workload.name) || made
}

const COLUMNS: [&str; 11] =
    ["us", "faults", "zeroed", "resident", "wasted", "LRU", "misses", "flushes", "out", "in", "rescues"];

/// The figures of a line; empty where it has none.
fn figures(line: &str) -> Vec<u64> {
    let words: Vec<&str> = line.split_whitespace().rev().take(COLUMNS.len()).collect();
    words.iter().rev().map_while(|word| word.parse().ok()).collect()
}

/// In what two lines differ: each figure that is another now, and by how much.
fn changes(old: &str, new: &str) -> String {
    let (old, new) = (figures(old), figures(new));
    let pairs = COLUMNS.iter().zip(old.iter().zip(&new)).filter(|(_, (old, new))| old != new);
    let percent = |old: u64, new: u64| (new as f64 / old.max(1) as f64 - 1.0) * 100.0;
    pairs
        .map(|(name, (&old, &new))| format!(" {name} {old} -> {new} ({:+.1} %)", percent(old, new)))
        .collect()
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
    let mut differ = String::new();
    for ((number, place), result) in numbers.iter().zip(&cells).zip(grid::run(&cells, |_| ())) {
        let (old, new) = (lines[number + 1], grid::line(place, &result));
        if old != new {
            let head: Vec<&str> = new.split_whitespace().take(4).collect();
            differ += &format!("\n  {}:{}", head.join(" "), changes(old, &new));
        }
    }
    assert!(
        differ.is_empty(),
        "replays are not what they were:{differ}\nWhere that is meant: cargo run --release -p quire-sim --example grid, and the \
         commit says in words why each kind of row is right as it is now."
    );
}

#[test]
fn the_claims_are_those_of_the_grid() {
    let page = include_str!("../../../docs/claims.md");
    let made = grid::claims::page(page, FILE).expect("a mark");
    let lines = page.lines().zip(made.lines()).filter(|(old, new)| old != new);
    let differ: String = lines.take(20).map(|(old, new)| format!("\n  - {old}\n  + {new}")).collect();
    assert!(
        made == page,
        "the claims do not follow from the grid:{differ}\nWhere that is meant: cargo run --release -p quire-sim --example \
         claims, and the text round the tables says what is true now."
    );
}

#[test]
fn a_change_is_told_with_its_size() {
    let line = |us: u64| format!("sort 0 none adaptive {us} 1 2 3 4 5 6 7 8 9 10");
    assert_eq!(changes(&line(100), &line(110)), " us 100 -> 110 (+10.0 %)");
    assert_eq!(changes(&line(100), &line(100)), "");
}

/// Every cell of the file with its figures by name.
fn cells() -> Vec<(Place, BTreeMap<&'static str, u64>)> {
    let named = |line| COLUMNS.into_iter().zip(figures(line)).collect();
    Place::all()
        .zip(FILE.lines().skip(1).map(named))
        .filter(|(_, figures): &(_, BTreeMap<_, _>)| !figures.is_empty())
        .collect()
}

fn told(place: &Place) -> String {
    let Place { workload, share, fragmentation, policy } = place;
    format!("{} {fragmentation} {share} {policy}", workload.name)
}

/// Time is what is paid for: at the least its faults and walks, at their costs.
#[test]
fn no_cell_is_faster_than_its_faults_and_walks() {
    let costs = Costs::default();
    for (place, figures) in cells() {
        let least = (figures["faults"] * costs.fault + figures["misses"] * costs.second_level) / 1000;
        // Figures are means, rounded down.
        assert!(figures["us"] + 1 >= least, "{}: {figures:?}, {least} us at the least", told(&place));
    }
}

/// Where nothing is short nothing goes out, and nothing comes in; base pages waste nothing; no memory is had that was not
/// given.
#[test]
fn memory_is_what_a_cell_was_given() {
    for (place, figures) in cells() {
        let name = told(&place);
        assert!(figures["wasted"] <= figures["resident"], "{name}: {figures:?}");
        assert!(place.policy != "fixed:4K" || figures["wasted"] == 0, "{name}: {figures:?}");
        // Each fault brings a folio, and each folio has a page at least. Processes share some.
        assert!(figures["rescues"] <= figures["faults"], "{name}: {figures:?}");
        match place.share.of(place.workload) {
            None => assert_eq!((figures["out"], figures["in"]), (0, 0), "{name}"),
            Some(pages) => assert!(figures["resident"] <= u64::from(pages) * 4, "{name}: {figures:?}"),
        }
    }
}

/// With less memory a program does not fault less, move out less and read less. Of base pages that holds to the page; folios
/// change their sizes with what is free, and may gain a little by it.
#[test]
fn less_memory_is_never_better() {
    let cells = cells();
    let less = |share| match share {
        Share::All => Some(Share::Quarters(3)),
        Share::Quarters(q) => Some(Share::Quarters(q - 1)),
    };
    let mut compared = 0;
    for (place, figures) in &cells {
        let poorer = Place { share: less(place.share).expect("a share"), ..*place };
        let Some((_, poor)) = cells.iter().find(|(other, _)| *other == poorer) else { continue };
        compared += 1;
        let name = told(place);
        assert!(
            poor["faults"] * 10 >= figures["faults"] * 9,
            "{name}: {} faults, then {}",
            figures["faults"],
            poor["faults"]
        );
        if place.policy == "fixed:4K" {
            for what in ["faults", "out", "in"] {
                assert!(poor[what] >= figures[what], "{name}: {what} {}, then {}", figures[what], poor[what]);
            }
        }
    }
    assert!(compared > 200, "{compared} cells compared");
}
