//! Results as one JSON object: everything that was counted, and nothing that another run would see otherwise.

use super::table::{copied_bytes, faults_of, reason_name, swapped_in, swapped_out};
use super::{Grid, Outcome};
use quire_core::policy::Shortfall;
use quire_core::{Order, PAGE_SIZE};
use quire_sim::replay::{Cause, Figures, Level};
use serde::Serialize;
use std::collections::BTreeMap;

/// The object. Counts by order have an entry for 4K, 8K .. 2M.
#[derive(Serialize)]
struct Document<'a> {
    trace: String,
    spill: bool,
    epoch_ns: u64,
    costs_ns: BTreeMap<&'a str, u64>,
    cells: Vec<Cell<'a>>,
}

#[derive(Serialize)]
struct Cell<'a> {
    policy: &'a str,
    base_page_bytes: u64,
    memory: &'a str,
    fragmentation_percent: u8,
    tlb: &'a str,
    events: u64,
    accesses: u64,
    denied_accesses: u64,
    implied_maps: u64,
    faults: Faults,
    bytes_zeroed: u64,
    resident_bytes: Amount,
    wasted_bytes: Amount,
    charged_bytes: Amount,
    lru_folios: Amount,
    tlb_lookups: Lookups,
    swap: Swap,
    evicted_pages: Evicted,
    shaping: Shaping,
    pages_over_memory: u64,
    modelled_ns: u64,
    time_ns: BTreeMap<&'static str, u64>,
    behind_ns: u64,
    passed_ns: u64,
    /// Events, resident and wasted bytes, faults, ns.
    series: Vec<[u64; 5]>,
}

/// What changed folios without a fault; splits for whatever reason.
#[derive(Serialize)]
struct Shaping {
    epochs: u64,
    splits: u64,
    sparse_folios: u64,
    sparse_bytes: u64,
    collapses: [u64; Order::COUNT],
    collapses_without_run: u64,
    compacted_bytes: u64,
    moved_bytes: u64,
}

#[derive(Serialize)]
struct Faults {
    all: u64,
    by_order: [u64; Order::COUNT],
    zero_fills: [u64; Order::COUNT],
    swap_ins: [u64; Order::COUNT],
    rescues: [u64; Order::COUNT],
    copies_on_write: [u64; Order::COUNT],
    bytes_copied_on_write: u64,
    writes_to_unshared: u64,
    mapped_again: u64,
    without_frame: u64,
    less_than_wanted: BTreeMap<&'static str, u64>,
}

#[derive(Serialize)]
struct Amount {
    mean: u64,
    peak: u64,
    last: u64,
}

#[derive(Serialize)]
struct Lookups {
    first_level: u64,
    second_level: u64,
    misses: u64,
    flushes: u64,
    dropped_entries: u64,
}

#[derive(Serialize)]
struct Swap {
    out_bytes: u64,
    in_bytes: u64,
    stored_bytes: u64,
    unchanged_pages: u64,
    zero_pages: u64,
    disk_read_bytes: u64,
    disk_reads: u64,
    disk_written_bytes: u64,
    disk_writes: u64,
}

#[derive(Serialize)]
struct Evicted {
    behind: u64,
    waited_for: u64,
}

pub(super) fn render(grid: &Grid, results: &[Outcome]) -> String {
    let document = Document {
        trace: grid.source.to_string(),
        spill: grid.spill,
        epoch_ns: grid.epoch_ns,
        costs_ns: grid.costs.all().map(|(name, ns, _)| (name, ns)).collect(),
        cells: results.iter().map(cell).collect(),
    };
    // Names and numbers only: nothing that can fail.
    serde_json::to_string_pretty(&document).unwrap_or_default() + "\n"
}

fn cell(outcome: &Outcome) -> Cell<'_> {
    let (named, figures) = (&outcome.named, &outcome.figures);
    let page = PAGE_SIZE as u64;
    let amount = |level: &Level, unit: u64| Amount {
        mean: level.mean(figures.modelled_ns()) * unit,
        peak: level.peak * unit,
        last: level.last * unit,
    };
    Cell {
        policy: &named.policy,
        base_page_bytes: named.cell.paging.base.bytes() as u64,
        memory: &named.memory,
        fragmentation_percent: named.cell.fragmentation,
        tlb: &named.tlb,
        events: figures.events,
        accesses: figures.accesses,
        denied_accesses: figures.denied,
        implied_maps: figures.implied,
        faults: faults(figures),
        bytes_zeroed: figures.zeroed_bytes,
        resident_bytes: amount(&figures.resident, page),
        wasted_bytes: amount(&figures.wasted, page),
        charged_bytes: amount(&figures.charged, page),
        lru_folios: amount(&figures.lru, 1),
        tlb_lookups: lookups(figures),
        swap: swap(figures),
        evicted_pages: Evicted {
            behind: figures.stats.evicted_behind,
            waited_for: figures.stats.evicted_direct,
        },
        shaping: shaping(figures),
        pages_over_memory: figures.stats.most_over,
        modelled_ns: figures.modelled_ns(),
        time_ns: Cause::ALL.iter().map(|&cause| (cause.name(), figures.time[cause as usize])).collect(),
        behind_ns: figures.behind_ns,
        passed_ns: figures.passed_ns,
        series: figures
            .series
            .samples
            .iter()
            .map(|s| [s.events, s.resident * page, s.wasted * page, s.faults, s.ns])
            .collect(),
    }
}

fn faults(figures: &Figures) -> Faults {
    let stats = &figures.stats;
    let mut by_order = [0; Order::COUNT];
    Order::all().for_each(|order| by_order[order.index()] = faults_of(stats, order));
    Faults {
        all: figures.faults,
        by_order,
        zero_fills: stats.zero_fills,
        swap_ins: stats.swap_ins,
        rescues: stats.rescues,
        copies_on_write: stats.cow_copies,
        bytes_copied_on_write: copied_bytes(stats),
        writes_to_unshared: stats.cow_reuses,
        mapped_again: stats.shared_maps,
        without_frame: stats.no_frame,
        less_than_wanted: Shortfall::ALL
            .into_iter()
            .map(|reason| (reason_name(reason), stats.shortfalls[reason.index()]))
            .collect(),
    }
}

fn shaping(figures: &Figures) -> Shaping {
    let (stats, page) = (&figures.stats, PAGE_SIZE as u64);
    Shaping {
        epochs: figures.epochs,
        splits: stats.splits.iter().sum(),
        sparse_folios: stats.sparse_folios,
        sparse_bytes: stats.sparse_pages * page,
        collapses: stats.collapses,
        collapses_without_run: stats.collapses_without_run,
        compacted_bytes: stats.compacted_pages * page,
        moved_bytes: figures.moved_pages * page,
    }
}

fn lookups(figures: &Figures) -> Lookups {
    let tlb = &figures.tlb;
    Lookups {
        first_level: tlb.l1_hits,
        second_level: tlb.l2_hits,
        misses: tlb.misses,
        flushes: tlb.flushes + tlb.full_flushes,
        dropped_entries: tlb.dropped,
    }
}

fn swap(figures: &Figures) -> Swap {
    Swap {
        out_bytes: swapped_out(figures),
        in_bytes: swapped_in(figures),
        stored_bytes: figures.stats.bytes_stored,
        unchanged_pages: figures.stats.pages_same,
        zero_pages: figures.stats.pages_zero,
        disk_read_bytes: figures.disk_read.0,
        disk_reads: figures.disk_read.1,
        disk_written_bytes: figures.disk_written.0,
        disk_writes: figures.disk_written.1,
    }
}
