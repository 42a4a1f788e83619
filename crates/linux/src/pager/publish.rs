//! Copies what the engine counts to where `quire` can read it, also when this process is killed.
//!
//! Each step of the engine shows what it changed before it lets the tables go ([`Pager::show`]): a program may end at any
//! moment, and the report is to have all of it. What takes longer to count is copied now and then ([`Pager::publish`]).

use super::Pager;
use crate::control::counters::{Counters, set_now};
use crate::sys::clock::now_ns;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use quire_core::{Engine, PAGE_SIZE, Stats};

/// Least time between two copies of what takes longer to count, in ns.
const PERIOD_NS: u64 = 5_000_000;

impl Pager {
    /// Shows what a step of the engine counted and decided. Under the engine's lock, of which this takes some tens of
    /// nanoseconds: only what changed is written.
    pub(super) fn show(&self, engine: &Engine) {
        self.tell_decisions(engine);
        let Some(account) = self.account() else { return };
        let counters = &account.counters;
        copy_stats(counters, engine.stats());
        let frames = u64::from(engine.frames_charged());
        let (pages, spilled) = {
            let store = self.store.lock();
            (store.figures().ram_pages, store.file_bytes())
        };
        let store = u64::from(pages) * PAGE_SIZE as u64;
        show_now(&counters.spill_bytes, &counters.peak_spill_bytes, spilled);
        show_now(&counters.resident_pages, &counters.peak_resident_pages, frames);
        show_now(&counters.store_bytes, &counters.peak_store_bytes, store);
        let managed = counters.managed_bytes();
        if managed > counters.peak_managed_bytes.load(Relaxed) {
            counters.peak_managed_bytes.store(managed, Relaxed);
        }
    }

    /// Copies the rest of what is counted, if the last copy is old enough or `now` is set.
    pub(super) fn publish(&self, now: bool) {
        let Some(account) = self.account() else { return };
        let time = now_ns();
        // Another thread may have published since the clock was read.
        if !now && time.saturating_sub(self.published_at.load(Relaxed)) < PERIOD_NS {
            return;
        }
        self.published_at.store(time, Relaxed);
        let usage = self.usage();
        let counters = &account.counters;
        set_now(&counters.table_bytes, &counters.peak_table_bytes, usage);
        counters.forked.store(u64::from(self.is_forked_child()), Relaxed);
        self.show(&self.tables.lock().engine);
    }
}

/// As [`set_now`], where the only writer holds the engine's lock.
fn show_now(counter: &AtomicU64, peak: &AtomicU64, amount: u64) {
    if counter.load(Relaxed) != amount {
        set_now(counter, peak, amount);
    }
}

/// Stores a count that has changed. A line of the cache that is only read stays where it is.
fn show_count(to: &AtomicU64, count: u64) {
    if to.load(Relaxed) != count {
        to.store(count, Relaxed);
    }
}

fn copy_stats(to: &Counters, stats: &Stats) {
    copy_all(&to.fills, &stats.zero_fills);
    copy_all(&to.swap_ins, &stats.swap_ins);
    copy_all(&to.rescues, &stats.rescues);
    copy_all(&to.evictions, &stats.evictions);
    copy_all(&to.swap_outs, &stats.swap_outs);
    copy_all(&to.refusals, &stats.refusals);
    copy_all(&to.shortfalls, &stats.shortfalls);
    show_count(&to.evicted_behind_pages, stats.evicted_behind);
    show_count(&to.evicted_in_fault_pages, stats.evicted_direct);
    show_count(&to.stored_pages, stats.pages_stored);
    show_count(&to.compressed_out_bytes, stats.bytes_stored);
    show_count(&to.unchanged_pages, stats.pages_same);
    show_count(&to.zero_pages, stats.pages_zero);
    show_count(&to.spilled_pages, stats.pages_spilled);
    show_count(&to.late_faults, stats.late);
    show_count(&to.adopted_pages, stats.adopted);
    show_count(&to.joined_faults, stats.joined);
    show_count(&to.splits, stats.splits.iter().sum());
    copy_all(&to.collapses, &stats.collapses);
    show_count(&to.sparse_folios, stats.sparse_folios);
    show_count(&to.sparse_pages, stats.sparse_pages);
    show_count(&to.compacted_pages, stats.compacted_pages);
    show_count(&to.foreign_pages, stats.foreign);
    show_count(&to.unstorable_folios, stats.unstorable);
    show_count(&to.compressed_in_bytes, stats.pages_stored * PAGE_SIZE as u64);
    show_count(&to.jobs_voided, stats.void_jobs);
    show_count(&to.over_grant_pages, stats.most_over);
}

fn copy_all(to: &[AtomicU64], from: &[u64]) {
    for (to, from) in to.iter().zip(from) {
        show_count(to, *from);
    }
}
