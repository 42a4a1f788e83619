//! Copies what the engine counts to where `quire` can read it, also when this process is killed.

use super::Pager;
use crate::control::counters::{Counters, set_now};
use crate::sys::clock::now_ns;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use quire_core::{PAGE_SIZE, Stats};

/// Least time between two copies, in ns.
const PERIOD_NS: u64 = 5_000_000;

impl Pager {
    /// Copies the counters, if the last copy is old enough or `now` is set.
    pub(super) fn publish(&self, now: bool) {
        let Some(slot) = self.slot() else { return };
        let time = now_ns();
        if !now && time - self.published_at.load(Relaxed) < PERIOD_NS {
            return;
        }
        self.published_at.store(time, Relaxed);
        let (handler, service) = self.watch.beats();
        slot.handler_beats.store(handler, Relaxed);
        slot.service_beats.store(service, Relaxed);
        let usage = self.usage();
        let tables = self.tables.lock();
        let counters = &slot.counters;
        copy_stats(counters, tables.engine.stats());
        let frames = u64::from(tables.engine.frames_charged());
        let store = u64::from(tables.engine.store_pages()) * PAGE_SIZE as u64;
        let spilled = tables.engine.spill_bytes();
        drop(tables);
        set_now(&counters.spill_bytes, &counters.peak_spill_bytes, spilled);
        set_now(&counters.resident_pages, &counters.peak_resident_pages, frames);
        set_now(&counters.store_bytes, &counters.peak_store_bytes, store);
        set_now(&counters.table_bytes, &counters.peak_table_bytes, usage.own);
        set_now(&counters.loader_bytes, &counters.peak_loader_bytes, usage.loader);
        set_now(&counters.libc_bytes, &counters.peak_libc_bytes, usage.libc);
        counters.forked.store(u64::from(self.is_forked_child()), Relaxed);
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
    to.evicted_behind_pages.store(stats.evicted_behind, Relaxed);
    to.evicted_in_fault_pages.store(stats.evicted_direct, Relaxed);
    to.stored_pages.store(stats.pages_stored, Relaxed);
    to.compressed_out_bytes.store(stats.bytes_stored, Relaxed);
    to.unchanged_pages.store(stats.pages_same, Relaxed);
    to.zero_pages.store(stats.pages_zero, Relaxed);
    to.untouched_pages.store(stats.pages_zero, Relaxed);
    to.spilled_pages.store(stats.pages_spilled, Relaxed);
    to.late_faults.store(stats.late, Relaxed);
    to.joined_faults.store(stats.joined, Relaxed);
    to.splits.store(stats.splits.iter().sum(), Relaxed);
    copy_all(&to.collapses, &stats.collapses);
    to.sparse_folios.store(stats.sparse_folios, Relaxed);
    to.sparse_pages.store(stats.sparse_pages, Relaxed);
    to.compacted_pages.store(stats.compacted_pages, Relaxed);
    to.foreign_pages.store(stats.foreign, Relaxed);
    to.unstorable_folios.store(stats.unstorable, Relaxed);
    to.compressed_in_bytes.store(stats.pages_stored * PAGE_SIZE as u64, Relaxed);
    to.jobs_voided.store(stats.void_jobs, Relaxed);
    to.over_grant_pages.store(stats.most_over, Relaxed);
}

fn copy_all(to: &[AtomicU64], from: &[u64]) {
    for (to, from) in to.iter().zip(from) {
        to.store(*from, Relaxed);
    }
}
