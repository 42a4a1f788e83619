//! Reclaim with no free frame comes to its end and allocates nothing, whatever is under way.
//!
//! Each seed fills memory until a fault finds no frame, with jobs left half-way, and then reclaims: steps of reclaim,
//! writers that ask for places, jobs that end or fail, in any order, while the programs go on touching pages. Every
//! verb of reclaim runs under a counting allocator. What the simulated kernel and the workers allocate is not counted;
//! a fault, a fork and an adoption may allocate, since that is where what reclaim needs is reserved. An exit is no verb of
//! reclaim either. Nor is what splits, collapses and vacates behind the faults (`Engine::tend`): it makes records of
//! frames that were never used, and a list of those it puts aside. It is run in between, so that reclaim meets what it
//! leaves behind.

mod quiet;
mod run;

use allocation_counter::measure;
use quiet::uncounted;
use quire_core::{Order, OrderSet, PolicyKind};
use run::{Met, Run, Setup};

const SEEDS: u64 = 30;

const fn fixed(order: u8) -> PolicyKind {
    PolicyKind::Fixed(Order::fitting(1 << order))
}

const ONE: Setup = Setup { name: "", policy: fixed(0), grant: 60, spills: false, forks: false, tends: true };
const FAMILY: Setup = Setup { spills: true, forks: true, ..ONE };

fn many_seeds(setup: Setup) -> Met {
    let mut all = Met::default();
    (0..SEEDS).for_each(|seed| all.add(&Run::new(setup, seed).live()));
    println!("{}: {SEEDS} seeds met {all:?}", setup.name);
    let Met { written, failed, rescued, spilled, same, adopted, .. } = all;
    assert!([written, failed, rescued, adopted].iter().all(|&n| n > 20), "too little was met: {all:?}");
    assert!(!setup.spills || spilled.min(same) > 20, "too little was met of the file: {all:?}");
    let shared = all.forks.min(all.mapped) > 50 && all.unmapped > 1000;
    assert!(!setup.forks || shared, "too little was shared: {all:?}");
    assert!(!setup.tends || all.sparse + all.collapsed > 20, "too little was shaped: {all:?}");
    all
}

/// As many small folios as it takes for all records of jobs to be in use.
fn with_every_record_in_use(setup: Setup) {
    let all = many_seeds(Setup { tends: false, ..setup });
    assert!(all.waited > 20, "reclaim never had as many jobs as there are records: {all:?}");
}

#[test]
fn base_pages() {
    with_every_record_in_use(Setup { name: "4K", ..ONE });
}

#[test]
fn base_pages_with_a_spill_file() {
    with_every_record_in_use(Setup { name: "4K, spill file", spills: true, ..ONE });
}

#[test]
fn base_pages_that_are_collapsed() {
    let all = many_seeds(Setup { name: "4K, collapsed", grant: 240, ..ONE });
    assert!(all.collapsed > 20 && all.compacted > 20, "too little was shaped: {all:?}");
}

#[test]
fn folios_of_16k() {
    many_seeds(Setup { name: "16K", policy: fixed(2), grant: 400, ..ONE });
}

#[test]
fn folios_of_64k_with_a_spill_file() {
    many_seeds(Setup { name: "64K, spill file", policy: fixed(4), grant: 1600, spills: true, ..ONE });
}

#[test]
fn adaptive_with_a_spill_file() {
    let policy = PolicyKind::Adaptive;
    many_seeds(Setup { name: "adaptive, spill file", policy, grant: 400, spills: true, ..ONE });
}

#[test]
fn the_chain_of_linux() {
    let policy = PolicyKind::Linux(OrderSet::only(Order::fitting(4)).with(Order::fitting(16)));
    many_seeds(Setup { name: "linux:16K,64K", policy, grant: 400, ..ONE });
}

#[test]
fn huge_coalesce_base_with_a_spill_file() {
    let policy = PolicyKind::HugeCoalesceBase;
    many_seeds(Setup { name: "huge-coalesce-base, spill file", policy, grant: 1600, spills: true, ..ONE });
}

#[test]
fn a_family_of_base_pages() {
    with_every_record_in_use(Setup { name: "family, 4K", ..FAMILY });
}

#[test]
fn a_family_of_folios_of_16k() {
    many_seeds(Setup { name: "family, 16K", policy: fixed(2), grant: 400, ..FAMILY });
}

#[test]
fn a_family_with_adaptive() {
    many_seeds(Setup { name: "family, adaptive", policy: PolicyKind::Adaptive, grant: 400, ..FAMILY });
}

#[test]
fn the_counter_counts() {
    let counted = measure(|| drop(std::hint::black_box(Vec::<u8>::with_capacity(1))));
    assert_eq!(counted.count_total, 1);
    assert_eq!(measure(|| uncounted(|| drop(std::hint::black_box(Box::new(1))))).count_total, 0);
}
