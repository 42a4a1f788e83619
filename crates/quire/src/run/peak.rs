//! The peaks of memory that the samples show, and the processes that run unmanaged.

use super::sample::Sample;
use quire_linux::control::counters::Totals;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

/// How old an unconnected process must be to count as unmanaged: a new one has yet to join.
const SETTLED: Duration = Duration::from_millis(500);
/// Bytes in a page.
const PAGE: u64 = 4096;

/// The highest that was seen of each kind of memory, in bytes.
#[derive(Clone, Debug)]
pub(crate) struct Peak {
    /// Resident anonymous memory of all processes and of `quire` itself.
    pub(crate) resident: u64,
    /// The part of it that Quire managed at that moment.
    pub(crate) managed: u64,
    /// Compressed folios in memory.
    pub(crate) store: u64,
    /// Quire's own tables.
    pub(crate) tables: u64,
    /// Spilled folios.
    pub(crate) spill: u64,
    /// What libc allocated outside the budget.
    pub(crate) libc: u64,
    /// What the loader allocated outside the budget.
    pub(crate) loader: u64,
    quiet: bool,
    /// Unconnected processes by id and start, with the moment they were first seen.
    strangers: BTreeMap<(u32, u64), Instant>,
    /// Those among them that stayed so.
    unmanaged: BTreeSet<(u32, u64)>,
    /// The program itself, when its file told that it will not be managed: the user knows.
    known: Option<u32>,
}

impl Peak {
    pub(super) fn new(quiet: bool, known: Option<u32>) -> Peak {
        let (strangers, unmanaged) = (BTreeMap::new(), BTreeSet::new());
        Peak {
            resident: 0,
            managed: 0,
            store: 0,
            tables: 0,
            spill: 0,
            libc: 0,
            loader: 0,
            quiet,
            strangers,
            unmanaged,
            known,
        }
    }

    /// How many processes ran unmanaged, as far as the samples show.
    pub(super) fn unmanaged_processes(&self) -> u64 {
        let settled = self.unmanaged.iter().filter(|(pid, _)| Some(*pid) != self.known).count();
        settled as u64 + u64::from(self.known.is_some())
    }

    /// Takes a sample and what the processes counted by then.
    pub(super) fn note(&mut self, sample: &Sample, totals: &Totals, connected: &[u32]) {
        let managed = totals.resident_pages * PAGE + totals.store_bytes + totals.table_bytes;
        if sample.anonymous > self.resident {
            self.resident = sample.anonymous;
            // The two were read one after the other.
            self.managed = managed.min(sample.anonymous);
        }
        self.store = self.store.max(totals.store_bytes);
        self.tables = self.tables.max(totals.table_bytes);
        self.spill = self.spill.max(totals.spill_bytes);
        self.libc = self.libc.max(totals.libc_bytes);
        self.loader = self.loader.max(totals.loader_bytes);
        self.note_strangers(sample, connected, Instant::now());
    }

    /// Looks for processes that do not connect.
    fn note_strangers(&mut self, sample: &Sample, connected: &[u32], now: Instant) {
        let mut still = BTreeMap::new();
        for member in sample.members.iter().filter(|member| !connected.contains(&member.pid)) {
            let id = (member.pid, member.started);
            let since = *self.strangers.get(&id).unwrap_or(&now);
            still.insert(id, since);
            if now - since >= SETTLED && self.unmanaged.insert(id) {
                self.warn(member.pid);
            }
        }
        self.strangers = still;
    }

    /// Tells of the first process that runs unmanaged.
    fn warn(&self, pid: u32) {
        if self.quiet || self.unmanaged.len() > 1 || self.known.is_some() {
            return;
        }
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        eprintln!(
            "quire: warning: process {pid} ({}) runs outside the budget: it is static, setuid or without the library",
            name.trim()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::sample::sample;

    #[test]
    fn the_managed_part_is_that_of_the_highest_moment() {
        let mut peak = Peak::new(true, None);
        let mut totals = Totals::ZERO;
        for (anonymous, pages) in [(1 << 20, 200), (4 << 20, 1000), (2 << 20, 500), (3 << 20, 5000)] {
            totals.resident_pages = pages;
            peak.note(&Sample { members: vec![], anonymous }, &totals, &[]);
        }
        assert_eq!((peak.resident, peak.managed), (4 << 20, 1000 * PAGE));
    }

    #[test]
    fn a_process_that_stays_unconnected_counts_as_unmanaged() {
        let mut peak = Peak::new(true, None);
        let own = std::process::id();
        let sample = sample([own]);
        let start = Instant::now();
        peak.note_strangers(&sample, &[], start);
        assert_eq!(peak.unmanaged_processes(), 0);
        peak.note_strangers(&sample, &[own], start + SETTLED);
        peak.note_strangers(&sample, &[], start + SETTLED * 2);
        assert!(!peak.unmanaged.iter().any(|(pid, _)| *pid == own));
        peak.note_strangers(&sample, &[], start + SETTLED * 3);
        assert!(peak.unmanaged.iter().any(|(pid, _)| *pid == own));
    }
}
