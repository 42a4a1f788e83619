//! Results as tables for people.

use super::{Grid, Outcome};
use crate::size::{count, counted, human, time};
use crate::terminal::align;
use quire_core::policy::Shortfall;
use quire_core::{Order, PAGE_SIZE, Stats};
use quire_sim::replay::Figures;
use std::fmt::Write as _;

/// The tables, and the costs that time was reckoned with.
pub(super) fn render(grid: &Grid, results: &[Outcome]) -> String {
    let mut text = String::new();
    let Some(first) = results.first() else { return text };
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{}: {} in {}",
        grid.source,
        accesses(first.figures.accesses),
        counted(first.figures.events, "event")
    );
    if first.figures.passed_ns > 0 {
        let _ = writeln!(text, "{} passed by itself, as the trace says", time(first.figures.passed_ns));
    }
    if first.figures.implied > 0 {
        let _ = writeln!(text, "{} mapped by a first access", counted(first.figures.implied, "range"));
    }
    if first.figures.denied > 0 {
        let _ = writeln!(text, "{} left out that a page forbids", accesses(first.figures.denied));
    }
    for (title, columns) in sheets() {
        let _ = writeln!(text, "\n{title}");
        text += &align(&rows(grid, results, &columns), names(grid).len());
    }
    text += "\nCosts in ns:";
    for (i, (name, ns, _)) in grid.costs.all().enumerate() {
        text += if i % 6 == 0 { "\n  " } else { ", " };
        let _ = write!(text, "{name} {ns}");
    }
    text + "\n"
}

/// A number of accesses.
pub(super) fn accesses(number: u64) -> String {
    format!("{number} access{}", if number == 1 { "" } else { "es" })
}

/// The tables, with their titles.
pub(super) fn sheets() -> [(&'static str, Vec<Column>); 5] {
    [
        ("Memory is the mean over the time, LRU the mean number of folios that age", main_columns()),
        (
            "Faults by size of the folio: fills with zeroes, from the store, rescues, copies on write",
            order_columns(),
        ),
        ("Faults with less than the policy wanted, by reason", reason_columns()),
        ("Pages that programs share since a fork", shared_columns()),
        ("Folios that changed without a fault", shaping_columns()),
    ]
}

/// A column: its name, and what it shows of a cell.
pub(super) type Column = (String, Box<dyn Fn(&Figures) -> String>);

fn column(name: impl Into<String>, show: impl Fn(&Figures) -> String + 'static) -> Column {
    (name.into(), Box::new(show))
}

fn main_columns() -> Vec<Column> {
    vec![
        column("time", |f| time(f.modelled_ns())),
        column("faults", |f| count(f.faults)),
        column("zeroed", |f| human(f.zeroed_bytes)),
        column("resident", |f| pages(f.resident.mean(f.modelled_ns()))),
        column("wasted", |f| pages(f.wasted.mean(f.modelled_ns()))),
        column("LRU", |f| count(f.lru.mean(f.modelled_ns()))),
        column("TLB misses", |f| count(f.tlb.misses)),
        column("flushes", |f| count(f.tlb.flushes + f.tlb.full_flushes)),
        column("out", |f| human(swapped_out(f))),
        column("in", |f| human(swapped_in(f))),
        column("rescues", |f| count(sum(&f.stats.rescues))),
    ]
}

fn order_columns() -> Vec<Column> {
    Order::all().map(|order| column(order.to_string(), move |f| count(faults_of(&f.stats, order)))).collect()
}

fn reason_columns() -> Vec<Column> {
    Shortfall::ALL
        .into_iter()
        .map(|reason| column(reason_name(reason), move |f| count(f.stats.shortfalls[reason.index()])))
        .collect()
}

fn shared_columns() -> Vec<Column> {
    vec![
        column("copies", |f| count(sum(&f.stats.cow_copies))),
        column("copied", |f| human(copied_bytes(&f.stats))),
        column("not shared any longer", |f| count(f.stats.cow_reuses)),
        column("mapped again", |f| count(f.stats.shared_maps)),
    ]
}

fn shaping_columns() -> Vec<Column> {
    vec![
        column("epochs", |f| count(f.epochs)),
        column("splits", |f| count(sum(&f.stats.splits))),
        column("sparse", |f| count(f.stats.sparse_folios)),
        column("given up", |f| pages(f.stats.sparse_pages)),
        column("collapses", |f| count(sum(&f.stats.collapses))),
        column("no free run", |f| count(f.stats.collapses_without_run)),
        column("compacted", |f| pages(f.stats.compacted_pages)),
        column("moved", |f| pages(f.moved_pages)),
    ]
}

/// Bytes that were copied when somebody wrote to what others share.
pub(super) fn copied_bytes(stats: &Stats) -> u64 {
    Order::all().map(|order| stats.cow_copies[order.index()] * order.bytes() as u64).sum()
}

/// Faults of all kinds that were served with a folio of this order.
pub(super) fn faults_of(stats: &Stats, order: Order) -> u64 {
    let at = order.index();
    stats.zero_fills[at] + stats.swap_ins[at] + stats.rescues[at] + stats.cow_copies[at]
}

pub(super) const fn reason_name(reason: Shortfall) -> &'static str {
    match reason {
        Shortfall::VmaEdge => "edge of the VMA",
        Shortfall::Neighbour => "neighbour",
        Shortfall::Pressure => "pressure",
        Shortfall::NoRun => "no free run",
    }
}

/// Bytes of program pages that were stored.
pub(super) fn swapped_out(figures: &Figures) -> u64 {
    figures.stats.pages_stored * PAGE_SIZE as u64
}

/// Bytes of program pages that were read back.
pub(super) fn swapped_in(figures: &Figures) -> u64 {
    figures.expanded_pages * PAGE_SIZE as u64
}

pub(super) fn sum(counts: &[u64]) -> u64 {
    counts.iter().sum()
}

pub(super) fn pages(pages: u64) -> String {
    human(pages * PAGE_SIZE as u64)
}

/// What tells the cells apart. That memory is not fragmented goes without saying.
pub(super) fn names(grid: &Grid) -> &'static [&'static str] {
    if grid.fragments() { &["policy", "memory", "TLB", "fragmented"] } else { &["policy", "memory", "TLB"] }
}

/// A row of names, and one for each cell: its names and the columns.
pub(super) fn rows(grid: &Grid, results: &[Outcome], columns: &[Column]) -> Vec<Vec<String>> {
    let names = names(grid);
    let mut rows = vec![names.iter().map(|name| String::from(*name)).collect::<Vec<_>>()];
    rows[0].extend(columns.iter().map(|(name, _)| name.clone()));
    for Outcome { named, figures } in results {
        let fragmented = format!("{}%", named.fragmentation);
        let all = [named.policy.clone(), named.memory.clone(), named.tlb.clone(), fragmented];
        let mut row: Vec<String> = all.into_iter().take(names.len()).collect();
        row.extend(columns.iter().map(|(_, show)| show(figures)));
        rows.push(row);
    }
    rows
}
