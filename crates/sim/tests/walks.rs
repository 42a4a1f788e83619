//! Long random walks, with faults injected, over all cores: see `quire_sim::walk`.
//!
//! All of them are taken once, whichever tests run; each test says what it wants of them. `QUIRE_EVENTS=n` takes n events
//! instead of sixteen million, rounded up to whole shards. What fails prints its seed, its setup and the shortest list of
//! events; `cargo run --profile walk -p quire-sim --bin walk` goes on for longer (docs/walks.md).

use quire_core::Decision;
use quire_sim::rng::Rng;
use quire_sim::walk::{EVENTS, Failure, LEAST, SHARD_EVENTS, Shard, Tally, WALKS, recorded, run_shard};
use quire_sim::{Event, Host};
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

/// Events that are taken if not told: some more than those after which all must have been met.
const TAKEN: u64 = EVENTS / 10 * 11;

/// What all walks have met.
struct Walked {
    shards: u64,
    all: Shard,
    failure: Option<Box<Failure>>,
}

#[expect(clippy::disallowed_methods, reason = "whoever runs the test decides")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn walked() -> &'static Walked {
    static WALKED: OnceLock<Walked> = OnceLock::new();
    WALKED.get_or_init(|| {
        let events = number("QUIRE_EVENTS").unwrap_or(TAKEN);
        take(events.div_ceil(SHARD_EVENTS).max(1))
    })
}

/// Takes shards on every core.
#[expect(clippy::disallowed_methods, reason = "how long it takes decides nothing")]
fn take(shards: u64) -> Walked {
    let begun = Instant::now();
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let next = AtomicU64::new(0);
    let walked = Mutex::new(Walked { shards, all: Shard::default(), failure: None });
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let number @ 0.. = next.fetch_add(1, Ordering::Relaxed)
                    && number < shards
                {
                    let result = run_shard(number, |_| ());
                    let mut walked = walked.lock().unwrap_or_else(PoisonError::into_inner);
                    match result {
                        Ok(shard) => walked.all.add(&shard),
                        Err(failure) => {
                            walked.failure.get_or_insert(failure);
                            next.store(shards, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let walked = walked.into_inner().unwrap_or_else(PoisonError::into_inner);
    let seconds = begun.elapsed().as_secs_f64();
    report(&walked, seconds);
    walked
}

/// Tells of it also where a test that passes is not asked for what it printed.
fn report(walked: &Walked, seconds: f64) {
    let events = walked.shards * SHARD_EVENTS;
    let mut text = format!("{events} events in {seconds:.1} s; hits of event, injection x state:\n");
    text += &walked.all.tally.table();
    for (kind, met) in WALKS.iter().zip(&walked.all.met) {
        text += &format!("{}: {met}\n", kind.name);
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn without_failure() -> &'static Walked {
    let walked = walked();
    if let Some(failure) = &walked.failure {
        panic!("{failure}");
    }
    walked
}

/// Contents equal what the program wrote, the invariants hold, every thread is answered: checked after every event.
#[test]
fn contents_and_invariants_hold_whatever_happens() {
    without_failure();
}

#[test]
fn every_possible_combination_is_met_a_thousand_times() {
    let walked = without_failure();
    let events = walked.shards * SHARD_EVENTS;
    // Of fewer events a share, less four standard deviations: chance does not even out in them.
    let share = LEAST * events.min(EVENTS) / EVENTS;
    let least = if events < EVENTS { share.saturating_sub(4 * share.isqrt()) } else { LEAST };
    let few = walked.all.tally.below(least);
    let list: String =
        few.iter().map(|(e, s, i, n)| format!("\n  {e:?} in {s:?}, {}: {n}", i.title())).collect();
    assert!(
        few.is_empty(),
        "{} of {} possible were met less than {least} times:{list}",
        few.len(),
        Tally::possible()
    );
    let strange = walked.all.tally.strange();
    assert!(strange.is_empty(), "said to be impossible, and met: {strange:?}");
}

/// Whether the walks of one kind met what they are there for.
fn met_enough(name: &str) {
    let walked = without_failure();
    let (kind, met) =
        WALKS.iter().zip(&walked.all.met).find(|(kind, _)| kind.name == name).expect("such walks");
    let events = walked.shards * kind.seeds * kind.events as u64;
    let missing = met.missing(kind, events);
    assert!(missing.is_empty(), "{name}: too little was met in {events} events: {missing:?}");
}

macro_rules! kinds {
    ($($name:ident $kind:literal)*) => { $(#[test] fn $name() { met_enough($kind); })* };
}

kinds! {
    base_pages_in_a_tiny_pool "4K, tiny"
    base_pages_with_a_spill_file "4K, spill file"
    folios_of_16k "16K"
    folios_of_16k_with_refusals_and_forks "16K, refusals, forks"
    folios_of_64k_with_a_spill_file_and_refusals "64K, spill file, refusals"
    adaptive_with_forks "adaptive, forks"
    adaptive_with_all "adaptive, all"
    a_family_of_4k "a family, 4K"
    a_family_of_16k_with_refusals "a family, 16K, refusals"
    a_family_of_64k_with_a_spill_file "a family, 64K, spill file"
    an_adaptive_family_with_all "a family, adaptive, all"
    linux_with_refusals_and_forks "linux, refusals, forks"
    huge_coalesce_base_with_a_spill_file "huge-coalesce-base, spill file"
    policies_that_change "policies that change"
}

/// The log is how a failure is understood: it has to tell the same story as the counters, and change none of it.
#[test]
fn the_log_tells_what_the_counters_count() {
    let kinds = ["16K, refusals, forks", "a family, 16K, refusals"];
    let mut copied = 0;
    for kind in WALKS.iter().filter(|kind| kinds.contains(&kind.name)) {
        for seed in 0..10 {
            let events = recorded(kind, seed);
            let run = |log: usize| {
                let mut host = Host::new(kind.setup);
                host.watch();
                host.engine.set_log(log);
                events.iter().try_for_each(|event| host.happen(*event)).unwrap();
                host
            };
            copied += compare(&run(1 << 20), &run(0), seed);
        }
    }
    assert!(copied > 0, "no family copied anything");
}

/// A host that kept a log, and one that did not. Copies of shared pages.
fn compare(with: &Host, without: &Host, seed: u64) -> u64 {
    assert_eq!(with.engine.stats(), without.engine.stats(), "seed {seed}");
    assert_eq!(without.engine.log().count(), 0);
    let count = |is: fn(&Decision) -> bool| with.engine.log().filter(|(_, d)| is(d)).count() as u64;
    let stats = with.engine.stats();
    let fills = stats.zero_fills.iter().sum::<u64>() + stats.swap_ins.iter().sum::<u64>();
    assert_eq!(count(|d| matches!(d, Decision::Fault { .. })), fills, "seed {seed}");
    let copies = stats.cow_copies.iter().sum::<u64>();
    assert_eq!(count(|d| matches!(d, Decision::Copy { .. })), copies, "seed {seed}");
    assert_eq!(count(|d| matches!(d, Decision::NoFrame { .. })), stats.no_frame, "seed {seed}");
    let rescues = stats.rescues.iter().sum::<u64>();
    assert_eq!(count(|d| matches!(d, Decision::Rescue { .. })), rescues, "seed {seed}");
    let refused = stats.refusals.iter().sum::<u64>();
    assert_eq!(count(|d| matches!(d, Decision::Refused(_))), refused, "seed {seed}");
    let splits = stats.splits.iter().sum::<u64>();
    assert_eq!(count(|d| matches!(d, Decision::Split { .. })), splits, "seed {seed}");
    let out = |d: &Decision| if let Decision::Evict { moved, .. } = d { u64::from(*moved) } else { 0 };
    let out: u64 = with.engine.log().map(|(_, d)| out(d)).sum();
    assert_eq!(out, stats.evicted_behind + stats.evicted_direct, "seed {seed}");
    copies
}

/// A walk is its seed: what happened before, or beside it, changes nothing.
#[test]
fn a_walk_is_decided_by_its_seed_alone() {
    let kind = &WALKS[3];
    let first: Vec<Event> = recorded(kind, 7);
    recorded(kind, Rng::new(8).below(100));
    assert_eq!(first, recorded(kind, 7));
}
