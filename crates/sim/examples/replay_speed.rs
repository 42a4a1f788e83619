//! How many accesses a second a replay takes, by workload and TLB.
//!
//! `cargo run --release -p quire-sim --example replay_speed [PAGES [EVENTS [MEMORY]]]`, by default 65536 pages (256 MiB),
//! 2^23 events, no limit of memory (in pages). The events are made beforehand and replayed three times; the fastest
//! counts, faults included. `perf record` of it shows where the time goes.

use quire_core::PolicyKind;
use quire_sim::replay::{Cell, replay};
use quire_sim::tlb::Model;
use quire_sim::workload::{Kind, Size};
use std::time::Instant;

const ROUNDS: usize = 3;

#[expect(clippy::disallowed_methods, reason = "measuring time is what this is for")]
fn main() {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse().expect("a number"));
    let pages: u64 = arguments.next().unwrap_or(1 << 16);
    let count: u64 = arguments.next().unwrap_or(1 << 23);
    let memory = arguments.next().map(|pages| pages as u32);
    for kind in [Kind::Zipf, Kind::Sequential, Kind::Uniform] {
        let events: Vec<_> = kind.events(Size { pages, events: count }, 1).collect();
        println!("{kind}, {pages} pages, {count} events");
        for tlb in Model::ALL {
            let cell = Cell::new(PolicyKind::Adaptive, memory, tlb);
            let rounds = (0..ROUNDS).map(|_| {
                let begin = Instant::now();
                let figures =
                    replay(&cell, events.iter().copied().map(Ok), &mut |_, _| {}).expect("a replay");
                (begin.elapsed().as_secs_f64(), figures)
            });
            let (seconds, figures) = rounds.min_by(|a, b| a.0.total_cmp(&b.0)).expect("a round");
            println!(
                "  {tlb:<12} {:7.1} M events/s, {} faults, {:.1} % of lookups missed, {:.3} s modelled",
                figures.events as f64 / seconds / 1e6,
                figures.faults,
                100.0 * figures.tlb.misses as f64 / figures.tlb.accesses() as f64,
                figures.modelled_ns() as f64 / 1e9,
            );
        }
    }
}
