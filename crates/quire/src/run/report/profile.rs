//! The part of the report that `--profile` asks for.

use super::super::migrations::Moved;
use super::Table;
use quire_linux::control::counters::Totals;
use quire_linux::control::profile::PHASE_NAMES;
use quire_linux::sys::tally::Call;
use serde::Serialize;
use std::collections::BTreeMap;

/// Where the time of faults went, and what the pager's threads asked of the kernel.
#[derive(Serialize, Clone, PartialEq, Debug)]
pub(super) struct Profile {
    pub(super) faults: u64,
    #[serde(flatten)]
    pub(super) time: Time,
    /// By name. A phase that never occurred is there too.
    pub(super) phases: BTreeMap<&'static str, Time>,
    pub(super) other: Time,
    pub(super) calls: Table,
    pub(super) migrations: Migrations,
    pub(super) disk_reads: u64,
    pub(super) disk_read_bytes: u64,
}

/// A part of the time of faults.
#[derive(Serialize, Clone, Copy, PartialEq, Debug)]
pub(super) struct Time {
    pub(super) total_ns: u64,
    /// Of a fault, be it one that had no such part.
    pub(super) mean_ns: Option<u64>,
}

/// Changes of the processor; null where the kernel does not tell.
#[derive(Serialize, Clone, Copy, PartialEq, Debug)]
pub(super) struct Migrations {
    pub(super) pager: Option<u64>,
    pub(super) program: Option<u64>,
}

impl Profile {
    pub(super) fn new(totals: &Totals, moved: Option<Moved>) -> Profile {
        let faults = totals.profiled_faults;
        let time = |total_ns: u64| Time { total_ns, mean_ns: total_ns.checked_div(faults) };
        let known: u64 = totals.phase_ns.iter().sum();
        let calls = Call::ALL.iter().zip(totals.calls).map(|(call, count)| (call.name(), count));
        Profile {
            faults,
            time: time(totals.profiled_ns),
            phases: PHASE_NAMES.into_iter().zip(totals.phase_ns.map(time)).collect(),
            other: time(totals.profiled_ns.saturating_sub(known)),
            calls: calls.filter(|(_, count)| *count > 0).collect(),
            migrations: Migrations {
                pager: moved.map(|moved| moved.pager),
                program: moved.map(|moved| moved.program),
            },
            disk_reads: totals.disk_reads,
            disk_read_bytes: totals.disk_read_bytes,
        }
    }

    /// The phases that took something, the rest included, the longest first.
    pub(super) fn longest(&self) -> Vec<(&'static str, Time)> {
        let all = self.phases.iter().map(|(name, time)| (*name, *time)).chain([("other", self.other)]);
        let mut parts: Vec<(&'static str, Time)> = all.filter(|(_, time)| time.total_ns > 0).collect();
        parts.sort_by_key(|(_, time)| std::cmp::Reverse(time.total_ns));
        parts
    }

    /// The calls, the most frequent first.
    pub(super) fn most_frequent(&self) -> Vec<(&'static str, u64)> {
        let mut calls: Vec<(&'static str, u64)> =
            self.calls.iter().map(|(name, count)| (*name, *count)).collect();
        calls.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        calls
    }
}
