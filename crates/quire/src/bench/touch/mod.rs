//! The out-of-core program: touches more memory than there may be, by ways that are known to hurt, and checks every word
//! it reads.
//!
//! How many accesses a phase has is fixed, but for the rounds of reads by which `random` gets steady: what the memory
//! holds in the end, and so the checksum, does not depend on the time.

mod array;
mod contents;
mod phase;
mod steady;
mod worker;

pub(crate) use contents::Data;
pub(crate) use phase::Phase;
pub(crate) use steady::Rounds;

use crate::failure::Failure;
use array::{Array, Part};
use contents::Contents;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU32;
use std::thread;
use std::time::Instant;
use worker::{Findings, Meeting, Worker};

/// What to do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Of 4 KiB.
    pub(crate) pages: u64,
    pub(crate) data: Data,
    /// One or two, which share all pages.
    pub(crate) threads: u64,
    pub(crate) seed: u64,
    /// Between the fill and the verification, each at most once.
    pub(crate) phases: Vec<Phase>,
    /// Of the phase `random`.
    pub(crate) rounds: Rounds,
}

/// What came of it.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Report {
    /// Microseconds for each page or access of a thread, by the name of the phase.
    #[serde(flatten)]
    phases: BTreeMap<&'static str, f64>,
    /// The same for each round of `random`.
    #[serde(rename = "random-rounds")]
    rounds: Vec<f64>,
    pages: u64,
    threads: u64,
    /// Of all words in the end, read out of the memory.
    checksum: String,
}

/// Names of the phases that are always there.
pub(crate) const FILL: &str = "fill";
const VERIFY: &str = "verify";

/// Does all of it. Fails with status 1 if memory does not hold what was written.
pub(crate) fn run(plan: &Plan) -> Result<Report, Failure> {
    let contents = Contents { data: plan.data, seed: plan.seed };
    // Written before the pages are: no access finds a fresh page here.
    let versions: Vec<AtomicU32> = (0..plan.pages).map(|_| AtomicU32::new(0)).collect();
    let mut parts = reserve(plan)?;
    let mut phases = BTreeMap::from([(FILL, fill(contents, &mut parts, plan))]);
    let array = Array::new(contents, &parts, &versions);
    let found = play(plan, &array)?;
    phases.extend(found.phases);
    let checksum = format!("{:016x}", found.sum);
    Ok(Report { phases, rounds: found.rounds, pages: plan.pages, threads: plan.threads, checksum })
}

/// Pages that a thread fills: the last one has what is left.
fn share(plan: &Plan, thread: u64) -> u64 {
    let each = plan.pages / plan.threads;
    if thread + 1 == plan.threads { plan.pages - thread * each } else { each }
}

fn reserve(plan: &Plan) -> Result<Vec<Part>, Failure> {
    let parts = (0..plan.threads).map(|thread| Part::reserve(share(plan, thread)));
    let parts: Result<Vec<Part>, String> = parts.collect();
    parts.map_err(|error| Failure::own(format!("memory can't be had: {error}; ask for less with --bytes")))
}

/// Every thread writes its part; microseconds a page, of the slowest.
fn fill(contents: Contents, parts: &mut [Part], plan: &Plan) -> f64 {
    let one = |thread: u64, part: &mut Part| {
        let pages = share(plan, thread);
        let begun = Instant::now();
        part.fill(contents, thread * (plan.pages / plan.threads), pages);
        begun.elapsed().as_secs_f64() * 1e6 / pages as f64
    };
    let Some((first, others)) = parts.split_first_mut() else { return 0.0 };
    thread::scope(|scope| {
        let others: Vec<_> =
            (1..).zip(others).map(|(thread, part)| scope.spawn(move || one(thread, part))).collect();
        let mine = one(0, first);
        // A thread that panicked has ended the process.
        others.into_iter().filter_map(|other| other.join().ok()).fold(mine, f64::max)
    })
}

/// All threads go through the phases together; the first one's times are the program's.
fn play(plan: &Plan, array: &Array<'_>) -> Result<Findings, Failure> {
    let meeting = Meeting::new(plan.threads);
    let worker = |thread| Worker::new(plan, array, &meeting, thread).play();
    let all = thread::scope(|scope| {
        let others: Vec<_> = (1..plan.threads).map(|thread| scope.spawn(move || worker(thread))).collect();
        let mut all = vec![worker(0)];
        all.extend(others.into_iter().filter_map(|other| other.join().ok()));
        all
    });
    if let Some((phase, wrong)) = all.iter().find_map(|found| found.wrong.as_ref()) {
        let message = format!(
            "memory is wrong, found by {phase}: word {} of page {} is {:016x}, not {:016x}; \
             keep the log of quire run and report it",
            wrong.index, wrong.page, wrong.found, wrong.expected
        );
        return Err(Failure { status: 1, message });
    }
    let sum = all.iter().fold(0_u64, |sum, found| sum.wrapping_add(found.sum));
    let first = all.into_iter().next().unwrap_or_default();
    Ok(Findings { sum, ..first })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_word_ends_it_with_the_phase_that_met_it() {
        let plan = Plan { phases: vec![Phase::Scan], ..plan() };
        let versions: Vec<AtomicU32> = (0..plan.pages).map(|_| AtomicU32::new(0)).collect();
        let mut parts = reserve(&plan).unwrap();
        let contents = Contents { data: plan.data, seed: plan.seed };
        fill(Contents { seed: 99, ..contents }, &mut parts, &plan);
        let failure = play(&plan, &Array::new(contents, &parts, &versions)).unwrap_err();
        assert_eq!(failure.status, 1);
        let said = failure.message;
        assert!(said.starts_with("memory is wrong, found by scan: word 1 of page 0 is "), "{said}");
    }

    fn plan() -> Plan {
        let phases = Phase::ALL.to_vec();
        Plan { pages: 67, data: Data::Easy, threads: 1, seed: 4, phases, rounds: Rounds::Fixed(3) }
    }

    fn checksum(plan: &Plan) -> String {
        run(plan).unwrap().checksum
    }

    #[test]
    fn every_phase_has_its_time() {
        let report = run(&plan()).unwrap();
        let names: Vec<&str> = report.phases.keys().copied().collect();
        let mut expected =
            vec!["fill", "scan", "random", "zipf", "scan-again", "random-after-scan", "verify"];
        expected.sort_unstable();
        assert_eq!(names, expected);
        assert!(report.phases.values().all(|us| *us > 0.0), "{report:?}");
        assert_eq!(report.rounds.len(), 3);
        let json = serde_json::to_value(&report).unwrap();
        assert!(json["random-after-scan"].is_f64() && json["checksum"].is_string(), "{json}");
    }

    #[test]
    fn the_checksum_does_not_depend_on_rounds_or_reads() {
        let sum = checksum(&plan());
        assert_eq!(checksum(&Plan { rounds: Rounds::Fixed(5), ..plan() }), sum);
        assert_eq!(checksum(&Plan { phases: vec![Phase::Zipf], ..plan() }), sum);
        assert_ne!(checksum(&Plan { phases: vec![Phase::Scan], ..plan() }), sum);
        assert_ne!(checksum(&Plan { seed: 5, ..plan() }), sum);
        assert_ne!(checksum(&Plan { data: Data::Hard, ..plan() }), sum);
    }

    #[test]
    fn two_threads_end_with_the_same_checksum_each_time() {
        let plan = Plan { threads: 2, ..plan() };
        let sum = checksum(&plan);
        assert_eq!((0..10).filter(|_| checksum(&plan) != sum).count(), 0);
    }
}
