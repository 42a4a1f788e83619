//! The cells that the project's tables are made of: every policy on every workload, with several amounts of memory, in
//! memory that is fragmented and that is not. `docs/grid.txt` has all of them, a line each; `docs/claims.md` some of them
//! side by side.
//!
//! Amounts of memory are parts of what a workload touches at the most, so that a cell means the same for a small one and
//! a large one. Under pressure a little more memory, or another order of events, can change which pages go to the disk, and
//! with them the time by half. So a cell is replayed several times, with a little less memory and a little more and with
//! other seeds, and its figures are means.

pub mod claims;

use crate::replay::{Cell, Figures, Paging, Source, Stop, replay};
use crate::tlb::Model;
use core::fmt;
use std::sync::Mutex;

/// What is replayed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Workload {
    /// Its name in tables.
    pub name: &'static str,
    /// What `quire replay` calls it; a file is relative to this crate.
    source: &'static str,
    /// Pages that it has touched and not given back at the most, or about as many.
    pub pages: u32,
}

impl Workload {
    /// Whether it is made, by a seed.
    fn is_made(&self) -> bool {
        self.source.starts_with("gen:")
    }

    /// Its events; a trace has no seed.
    fn source(&self, seed: u64) -> Source {
        let text = match self.is_made() {
            true => format!("{}:seed={seed}", self.source),
            false => format!("{}/{}", env!("CARGO_MANIFEST_DIR"), self.source),
        };
        text.parse().unwrap_or_else(|why| panic!("{text}: {why}"))
    }
}

const fn workload(name: &'static str, source: &'static str, pages: u32) -> Workload {
    Workload { name, source, pages }
}

/// The workloads: traces of real programs, then made ones.
pub const WORKLOADS: &[Workload] = &[
    workload("sort", "traces/sort.qtr", 2629),
    workload("sqlite", "traces/sqlite.qtr", 1389),
    workload("python", "traces/python.qtr", 1806),
    workload("sequential", "gen:sequential:pages=8K:events=128K", 8192),
    workload("strided", "gen:strided:pages=8K:events=128K", 8192),
    workload("uniform", "gen:uniform:pages=8K:events=128K", 8192),
    workload("zipf", "gen:zipf:pages=8K:events=128K", 8143),
    workload("sparse", "gen:sparse:pages=256K:events=128K", 4096),
    workload("phases", "gen:phases:pages=8K:events=128K", 8104),
    workload("ageing", "gen:ageing:pages=8K:events=128K", 7600),
    workload("forks", "gen:forks:pages=8K:events=128K", 8192),
];

/// The policies, and the machine with a larger base page.
pub const POLICIES: &[&str] =
    &["fixed:4K", "base:64K", "fixed:64K", "fixed:2M", "linux:16K,64K,2M", "huge-coalesce-base", "adaptive"];

/// An amount of memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Share {
    /// No limit.
    All,
    /// So many quarters of what the workload touches.
    Quarters(u32),
}

impl Share {
    /// Pages, for a workload.
    pub fn of(self, workload: &Workload) -> Option<u32> {
        match self {
            Share::All => None,
            Share::Quarters(quarters) => Some(workload.pages * quarters / 4),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Share::All => "none",
            Share::Quarters(1) => "1/4",
            Share::Quarters(2) => "1/2",
            Share::Quarters(3) => "3/4",
            Share::Quarters(_) => "more",
        })
    }
}

/// The amounts of memory.
pub const SHARES: &[Share] = &[Share::All, Share::Quarters(3), Share::Quarters(2), Share::Quarters(1)];

/// Each cell is replayed with so many percent of the amount of memory, and with a seed for each, from 1.
const PERCENT: [u32; 5] = [90, 95, 100, 105, 110];

/// How fragmented memory is, in percent, and with which amounts.
pub const FRAGMENTATION: &[(u8, &[Share])] = &[(0, SHARES), (50, &[Share::All, Share::Quarters(2)])];

/// A cell, by what it is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// What is replayed.
    pub workload: &'static Workload,
    /// With how much memory.
    pub share: Share,
    /// In memory how fragmented, in percent.
    pub fragmentation: u8,
    /// By which policy.
    pub policy: &'static str,
}

impl Place {
    /// Every cell, in the order of the table.
    pub fn all() -> impl Iterator<Item = Place> {
        WORKLOADS.iter().flat_map(|workload| {
            FRAGMENTATION.iter().flat_map(move |&(fragmentation, shares)| {
                shares.iter().flat_map(move |&share| {
                    POLICIES.iter().map(move |&policy| Place { workload, share, fragmentation, policy })
                })
            })
        })
    }

    /// Replays it, several times.
    pub fn run(&self) -> Result<Numbers, Stop> {
        let alike = self.share == Share::All && !self.workload.is_made();
        let tries = if alike { &PERCENT[..1] } else { &PERCENT };
        let mut sums = [0; COLUMNS];
        for (seed, &percent) in (1..).zip(tries) {
            let numbers = numbers(&self.replay(seed, percent)?);
            sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
        }
        Ok(sums.map(|sum| sum / tries.len() as u64))
    }

    fn replay(&self, seed: u64, percent: u32) -> Result<Figures, Stop> {
        let paging: Paging = self.policy.parse().unwrap_or_else(|why| panic!("{}: {why}", self.policy));
        let memory = self.share.of(self.workload).map(|pages| pages * percent / 100);
        let mut cell = Cell::new(paging, memory, Model::Zen3);
        cell.fragmentation = self.fragmentation;
        // Workloads of seconds say nothing of shaping; and days that pass by themselves are as many walks over memory.
        cell.epoch_ns = 0;
        let source = self.workload.source(seed);
        let events = source.open().unwrap_or_else(|why| panic!("{source}: {why}"));
        replay(&cell, events, &mut |_, _| {})
    }
}

/// Columns of figures.
const COLUMNS: usize = 11;

/// The figures of a cell: times in microseconds, amounts of memory in KiB, means over the time.
pub type Numbers = [u64; COLUMNS];

fn numbers(figures: &Figures) -> Numbers {
    let (ns, stats, kib) = (figures.modelled_ns(), &figures.stats, 4);
    [
        ns / 1000,
        figures.faults,
        figures.zeroed_bytes / 1024,
        figures.resident.mean(ns) * kib,
        figures.wasted.mean(ns) * kib,
        figures.lru.mean(ns),
        figures.tlb.misses,
        figures.tlb.flushes + figures.tlb.full_flushes,
        (stats.pages_stored + stats.pages_same) * kib,
        figures.expanded_pages * kib,
        stats.rescues.iter().sum::<u64>(),
    ]
}

/// Replays cells on all processors. Calls `done` with each as it ends, in any order; the figures come in theirs.
pub fn run(cells: &[Place], done: impl Fn(&Place) + Sync) -> Vec<Result<Numbers, Stop>> {
    let next = Mutex::new(0..cells.len());
    let results = Mutex::new(vec![None; cells.len()]);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                // The lock is held for this line only.
                let take = || lock(&next).next();
                while let Some(at) = take() {
                    let figures = cells[at].run();
                    done(&cells[at]);
                    lock(&results)[at] = Some(figures);
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    results.into_iter().flatten().collect()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The names of what a line of the table has.
pub fn heading() -> String {
    format!(
        "{:<10} {:>4} {:>6} {:<18} {:>11} {:>8} {:>9} {:>9} {:>8} {:>7} {:>9} {:>8} {:>9} {:>9} {:>8}",
        "workload",
        "frag",
        "memory",
        "policy",
        "us",
        "faults",
        "zeroed",
        "resident",
        "wasted",
        "LRU",
        "misses",
        "flushes",
        "out",
        "in",
        "rescues"
    )
}

/// A line of the table.
pub fn line(place: &Place, result: &Result<Numbers, Stop>) -> String {
    let Place { workload, share, fragmentation, policy } = place;
    let head = format!("{:<10} {fragmentation:>4} {share:>6} {policy:<18}", workload.name);
    let [us, faults, zeroed, resident, wasted, lru, misses, flushes, out, brought, rescues] = match result {
        Ok(numbers) => *numbers,
        Err(why) => return format!("{head} {why}"),
    };
    format!(
        "{head} {us:>11} {faults:>8} {zeroed:>9} {resident:>9} {wasted:>8} {lru:>7} {misses:>9} {flushes:>8} {out:>9} \
         {brought:>9} {rescues:>8}"
    )
}
