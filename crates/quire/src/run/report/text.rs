//! The report for people: a few aligned lines, and none for what did not happen.

use super::profile::Profile;
use super::{BySize, PAGE, Report, SIZES, Table};
use crate::size::human;
use quire_linux::control::counters::ORDERS;
use std::fmt::Write as _;

/// The report in two lines, and one more for each thing that a user has to know.
pub(super) fn short(report: &Report) -> String {
    let mut text = String::new();
    headline(&mut text, report);
    let eviction = &report.eviction;
    let out = (eviction.evicted_behind_pages + eviction.evicted_in_fault_pages) * PAGE;
    let mut parts =
        vec![if out > 0 { format!("moved out {}", human(out)) } else { "nothing moved out".into() }];
    let back = report.folios.swap_ins.bytes() + report.folios.rescues.bytes();
    let amounts = [("read back", back), ("to the disk", eviction.spilled_bytes)];
    parts.extend(
        amounts
            .iter()
            .filter(|(_, bytes)| *bytes > 0)
            .map(|(what, bytes)| format!("{what} {}", human(*bytes))),
    );
    let mut line = parts.join(", ");
    if report.faults.count > 0 {
        let _ = write!(line, "; {} faults took {}", report.faults.count, duration(report.faults.time_ns));
    }
    let _ = writeln!(text, "  {line}");
    reasons(&mut text, "outside", &report.processes.unmanaged_because);
    troubles(&mut text, report);
    text
}

/// All of it as text.
pub(super) fn table(report: &Report) -> String {
    let mut text = String::new();
    headline(&mut text, report);
    processes(&mut text, report);
    memory(&mut text, report);
    folios(&mut text, report);
    faults(&mut text, report);
    eviction(&mut text, report);
    reasons(&mut text, "got less", &report.shortfalls);
    reasons(&mut text, "refused", &report.refusals);
    troubles(&mut text, report);
    if let Some(profile) = report.profile.as_ref().filter(|profile| profile.faults > 0) {
        profiled(&mut text, profile);
    }
    text
}

/// Adds a line with a name in the left column.
fn row(text: &mut String, name: &str, value: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "  {name:<12}{value}");
}

fn headline(text: &mut String, report: &Report) {
    let program = report.program.first().map_or("", String::as_str);
    let end: Vec<String> = report.end.iter().map(|(kind, number)| format!("{kind} {number}")).collect();
    let budget = report.budget_bytes.map_or("no budget".into(), |bytes| format!("budget {}", human(bytes)));
    let memory = &report.memory;
    let peak = match memory.peak_resident_bytes {
        0 => String::new(),
        bytes => format!(", peak {}", human(bytes)),
    };
    let over = if memory.over_budget { ", over the budget" } else { "" };
    let end = end.join(" ");
    let _ = writeln!(text, "quire: {program}: {end} after {:.2} s; {budget}{peak}{over}", report.seconds);
}

fn processes(text: &mut String, report: &Report) {
    row(text, "policy", &report.policy);
    let counts = &report.processes;
    let others = [
        ("forked without exec: evict nothing", counts.forked),
        ("asleep", counts.slept.saturating_sub(counts.woken)),
        ("outside the budget", counts.unmanaged),
        ("excluded", counts.excluded),
    ];
    let others: Vec<String> = others
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(what, count)| format!("{count} {what}"))
        .collect();
    if counts.managed != 1 || !others.is_empty() {
        let note = if others.is_empty() { String::new() } else { format!("; {}", others.join("; ")) };
        row(text, "processes", &format!("{} managed{note}", counts.managed));
    }
    reasons(text, "outside", &counts.unmanaged_because);
}

fn memory(text: &mut String, report: &Report) {
    let memory = &report.memory;
    // Without a share nothing was seen: the program ended before the first sample.
    if let Some(share) = memory.managed_share {
        let peak = human(memory.peak_resident_bytes);
        let (managed, not) = (human(memory.peak_managed_bytes), human(memory.peak_unmanaged_bytes));
        let share = share * 100.0;
        row(text, "resident", &format!("peak {peak}: {managed} managed, {not} not ({share:.1} % managed)"));
    }
    let parts = [
        ("compressed folios", memory.peak_store_bytes),
        ("tables", memory.peak_table_bytes),
        ("over the grant", memory.peak_over_grant_bytes),
    ];
    list(text, "peaks", parts.iter().map(|(name, bytes)| (*name, *bytes, human(*bytes))));
}

/// One line of amounts, without those that are zero.
fn list<'a>(text: &mut String, name: &str, parts: impl Iterator<Item = (&'a str, u64, String)>) {
    let parts: Vec<String> = parts
        .filter(|(_, amount, _)| *amount > 0)
        .map(|(what, _, shown)| format!("{what} {shown}"))
        .collect();
    if !parts.is_empty() {
        row(text, name, &parts.join(", "));
    }
}

/// A column for each order that occurs, a line for each event.
fn folios(text: &mut String, report: &Report) {
    let folios = &report.folios;
    let lines = [
        ("filled", folios.fills),
        ("swapped in", folios.swap_ins),
        ("rescued", folios.rescues),
        ("evicted", folios.evictions),
        ("swapped out", folios.swap_outs),
        ("collapsed", folios.collapses),
    ];
    let used: Vec<usize> =
        (0..ORDERS).filter(|order| lines.iter().any(|(_, BySize(counts))| counts[*order] > 0)).collect();
    if used.is_empty() {
        return;
    }
    let heads: String = used.iter().map(|order| format!("{:>10}", SIZES[*order])).collect();
    row(text, "folios of", &heads);
    for (name, BySize(counts)) in lines {
        if counts.iter().any(|count| *count > 0) {
            let cells: String = used.iter().map(|order| format!("{:>10}", counts[*order])).collect();
            row(text, name, &cells);
        }
    }
    let given_back = folios.sparse_given_back_bytes;
    let changes = [
        ("splits", folios.splits, folios.splits.to_string()),
        ("sparse folios", folios.sparse, folios.sparse.to_string()),
        ("given back of these", given_back, human(given_back)),
    ];
    list(text, "shaped", changes.into_iter());
}

fn faults(text: &mut String, report: &Report) {
    let faults = &report.faults;
    let (Some(p50), Some(p99)) = (faults.p50_ns, faults.p99_ns) else { return };
    let waits = if faults.waits == 0 {
        "none waited for a frame".into()
    } else {
        let (total, longest) = (duration(faults.wait_ns), duration(faults.wait_max_ns));
        format!("{} waited for a frame, {total} in all, {longest} the longest", faults.waits)
    };
    row(text, "faults", &format!("{}: p50 {}, p99 {}; {waits}", faults.count, duration(p50), duration(p99)));
}

fn eviction(text: &mut String, report: &Report) {
    let eviction = &report.eviction;
    let evicted = eviction.evicted_behind_pages + eviction.evicted_in_fault_pages;
    if evicted > 0 {
        let share = eviction.evicted_behind_pages as f64 / evicted as f64 * 100.0;
        row(text, "eviction", &format!("{}, {share:.1} % off the fault path", human(evicted * PAGE)));
    }
    if let Some(ratio) = eviction.compression_ratio {
        let (before, after) = (human(eviction.compressed_in_bytes), human(eviction.compressed_out_bytes));
        row(text, "compression", &format!("{before} to {after} ({ratio:.2}x)"));
    }
    let (unchanged, zero) = (eviction.unchanged_pages * PAGE, eviction.zero_pages * PAGE);
    list(
        text,
        "dropped",
        [("unchanged", unchanged, human(unchanged)), ("zero", zero, human(zero))].into_iter(),
    );
    if eviction.spilled_bytes > 0 {
        let (out, back) = (human(eviction.spilled_bytes), human(eviction.spill_read_pages * PAGE));
        let directory = report.spill_directory.as_deref().unwrap_or("");
        row(text, "spilled", &format!("{out} to {directory}, pages read back: {back}"));
    }
    if let (Some(why), Some(_)) = (&report.no_spill_because, report.budget_bytes) {
        row(text, "no spill", why);
    }
}

fn reasons(text: &mut String, name: &str, table: &Table) {
    list(text, name, table.iter().map(|(reason, count)| (*reason, *count, count.to_string())));
}

fn troubles(text: &mut String, report: &Report) {
    let troubles = &report.troubles;
    let counts = [
        ("checksum errors", troubles.checksum_errors),
        ("spill errors", troubles.spill_errors),
        ("other errors", troubles.other_errors),
        ("pages changed behind Quire", troubles.foreign_pages),
        ("folios no store could take", troubles.unstorable_folios),
        ("processes refused", report.processes.refused),
    ];
    list(text, "troubles", counts.into_iter().map(|(what, count)| (what, count, count.to_string())));
}

/// Calls that the text names; the report as JSON has all.
const CALLS: usize = 5;

/// What a fault took in the mean, and what it made the pager's threads do.
fn profiled(text: &mut String, profile: &Profile) {
    let shown = |ns: Option<u64>| duration(ns.unwrap_or(0));
    row(text, "a fault", &format!("{} in the mean of {}", shown(profile.time.mean_ns), profile.faults));
    let parts = profile.longest();
    list(text, "of that", parts.iter().map(|(name, time)| (*name, time.total_ns, shown(time.mean_ns))));
    let each = |count: u64| format!("{:.2}", count as f64 / profile.faults as f64);
    let calls = profile.most_frequent();
    let all = calls.iter().map(|(_, count)| count).sum();
    let named = calls.iter().take(CALLS).map(|(name, count)| (*name, *count, each(*count)));
    list(text, "calls", [("in all", all, each(all))].into_iter().chain(named));
    let moved = profile.migrations;
    let moves = [("pager's threads", moved.pager), ("program's threads", moved.program)];
    let moves = moves.map(|(whose, count)| (whose, count.unwrap_or(0), count.unwrap_or(0).to_string()));
    list(text, "migrations", moves.into_iter());
    if profile.disk_reads > 0 {
        let bytes = human(profile.disk_read_bytes);
        row(text, "disk reads", &format!("{} of {bytes} in all", profile.disk_reads));
    }
}

/// A time in a unit that keeps it short.
fn duration(nanoseconds: u64) -> String {
    match nanoseconds {
        0..1_000 => format!("{nanoseconds} ns"),
        1_000..1_000_000 => format!("{:.1} µs", nanoseconds as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", nanoseconds as f64 / 1e6),
        _ => format!("{:.2} s", nanoseconds as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_printed_short() {
        let shown =
            [0, 999, 1_000, 999_949, 1_000_000, 12_345_678, 1_000_000_000, 61_234_000_000].map(duration);
        let expected = ["0 ns", "999 ns", "1.0 µs", "999.9 µs", "1.0 ms", "12.3 ms", "1.00 s", "61.23 s"];
        assert_eq!(shown, expected);
    }
}
