//! What a bench found out as tables for people, at most [`WIDTH`] characters wide.

use super::figures::{Figures, Interval, NOISE, Ratio, Verdict, control_off, median_bytes, within};
use super::model::{Level, Outcome, Profile, Results, Unit};
use crate::size::{count, counted, human, time};
use crate::terminal::{align, cut, wrap};

/// Characters of a line.
const WIDTH: usize = 100;

/// Characters of a metric's name, so that a row stays within a line.
const METRIC: usize = 18;

/// The names of what [`cells`] shows.
pub(super) const NAMES: [&str; 9] =
    ["metric", "each", "native", "kernel", "quire", "kernel/n", "quire/n", "quire/k", "interval"];

/// How many of these are text.
pub(super) const TEXTS: usize = 2;

/// What the columns mean.
pub(super) const MEANING: &str = "Values are medians over the rounds. kernel/n, quire/n and quire/k are what the kernel \
     or Quire took by what a native run or the kernel took in the same round, medians too: below 1 is faster, or less \
     memory. The interval is of the last one that a row has.";

/// The table, and what belongs to it.
pub(crate) fn text(results: &Results) -> String {
    let mut text = String::new();
    for (name, value) in machine(results) {
        text += &paragraph(&format!("{name}: {value}"));
    }
    text += &measured(results);
    text.push('\n');
    text += &paragraph(MEANING);
    text += &paragraph(&sureness(results));
    text += &paragraph(&losses(results));
    text += &list("Profile, means over the faults that Quire answered", &profiles(results));
    text +=
        &list("Control: how far a second native run is from the first, in the median", &controls(results));
    text += &list("Measured again", &repeated(results));
    text + &list("Left out", &left_out(results))
}

fn paragraph(text: &str) -> String {
    wrap(text, 0, WIDTH)
}

/// A heading with its lines, or nothing where there are none.
fn list(title: &str, lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let lines: String = lines.iter().map(|line| wrap(line, 2, WIDTH)).collect();
    format!("\n{title}:\n{lines}")
}

/// Where and how it was measured.
pub(super) fn machine(results: &Results) -> Vec<(&'static str, String)> {
    let machine = &results.machine;
    vec![
        ("date", results.date.clone()),
        ("command", results.command.join(" ")),
        ("quire", machine.quire.clone()),
        ("processor", format!("{}, {} of them", machine.processor, machine.processors)),
        ("memory", human(machine.memory_bytes)),
        ("kernel", machine.kernel.clone()),
        ("swap", machine.swap.clone()),
    ]
}

/// All rows, with a heading for each workload and amount of memory.
fn measured(results: &Results) -> String {
    let mut rows = vec![[""].iter().chain(&NAMES).map(|name| String::from(*name)).collect::<Vec<_>>()];
    for (outcome, level) in levels(results) {
        for row in &level.rows {
            let figures = Figures::of(outcome, level, row);
            let mark = if figures.verdict == Verdict::Loses { "*" } else { "" };
            let mut fields = vec![mark.into()];
            fields.extend(cells(&cut(&row.metric, METRIC), row.unit, &figures));
            rows.push(fields);
        }
    }
    // A column more for the mark.
    let aligned = align(&rows, TEXTS + 1);
    let mut lines = aligned.lines();
    let mut text = format!("\n{}\n", lines.next().unwrap_or_default());
    for outcome in &results.outcomes {
        text.push('\n');
        text += &paragraph(&title(outcome));
        for level in &outcome.levels {
            text += &wrap(&memory(level), 1, WIDTH);
            for line in lines.by_ref().take(level.rows.len()) {
                text += line;
                text.push('\n');
            }
        }
    }
    text
}

/// All workloads with all their amounts of memory.
pub(super) fn levels(results: &Results) -> impl Iterator<Item = (&Outcome, &Level)> {
    results.outcomes.iter().flat_map(|outcome| outcome.levels.iter().map(move |level| (outcome, level)))
}

/// What a workload is.
pub(super) fn title(outcome: &Outcome) -> String {
    format!("{}: {}, {} natively", outcome.workload, outcome.what, human(outcome.native_peak_bytes))
}

/// What memory there was, and what was in the way.
pub(super) fn memory(level: &Level) -> String {
    let mut parts = Vec::new();
    if let Some(limit) = level.limit_bytes {
        parts.push(format!("limit {}", human(limit)));
    }
    for (name, bytes) in
        [("swap", &level.pool_bytes), ("-m", &level.budget_bytes), ("Quire's peak", &level.quire_peak_bytes)]
    {
        parts.extend(median_bytes(bytes).map(|bytes| format!("{name} {}", human(bytes))));
    }
    if !level.problem.is_empty() {
        parts.push(level.problem.clone());
    }
    if parts.is_empty() { level.name.clone() } else { format!("{}: {}", level.name, parts.join(", ")) }
}

/// A row: a dash stands for what was not measured.
pub(super) fn cells(metric: &str, unit: Unit, figures: &Figures) -> [String; NAMES.len()] {
    let dash = || String::from("-");
    let value = |median: Option<f64>| median.map_or_else(dash, |value| amount(value, unit));
    let times = |ratio: &Option<Ratio>| ratio.as_ref().map_or_else(dash, |ratio| factor(ratio.median));
    [
        metric.into(),
        each(unit).into(),
        value(figures.native),
        value(figures.kernel),
        value(figures.quire),
        times(&figures.kernel_native),
        times(&figures.quire_native),
        times(&figures.quire_kernel),
        figures.last().map_or_else(dash, |ratio| between(&ratio.interval)),
    ]
}

/// What a value is of.
const fn each(unit: Unit) -> &'static str {
    match unit {
        Unit::Seconds | Unit::Bytes => "run",
        Unit::UsPerPage => "page",
        Unit::Milliseconds => "start",
    }
}

/// A value with the unit that keeps it short.
pub(super) fn amount(value: f64, unit: Unit) -> String {
    let ns = match unit {
        Unit::Seconds => 1e9,
        Unit::UsPerPage => 1e3,
        Unit::Milliseconds => 1e6,
        Unit::Bytes => return human(value.round() as u64),
    };
    time((value * ns).round() as u64)
}

/// A ratio, short: `0.052`, `0.52`, `5.20`, `52.0`, `520`.
pub(super) fn factor(ratio: f64) -> String {
    let digits = match ratio {
        _ if ratio < 0.0995 => 3,
        _ if ratio < 9.995 => 2,
        _ if ratio < 99.95 => 1,
        _ => 0,
    };
    format!("{ratio:.digits$}")
}

pub(super) fn between(interval: &Interval) -> String {
    format!("{}..{}", factor(interval.low), factor(interval.high))
}

/// A share, in percent.
fn percent(share: f64) -> String {
    let text = format!("{:.2}", share * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// What the intervals cover, by numbers of rounds.
pub(super) fn sureness(results: &Results) -> String {
    let mut covered: Vec<(usize, f64)> = Vec::new();
    for (outcome, level) in levels(results) {
        for row in &level.rows {
            if let Some(ratio) = Figures::of(outcome, level, row).last() {
                covered.push((ratio.rounds.len(), ratio.interval.coverage));
            }
        }
    }
    covered.sort_by_key(|(rounds, _)| *rounds);
    covered.dedup();
    let told = |(rounds, coverage): &(usize, f64)| {
        format!("{} with {}", percent(*coverage), counted(*rounds as u64, "round"))
    };
    match covered.iter().map(told).collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => none,
        told => format!(
            "Intervals are from order statistics and suppose nothing about how times are distributed; they have the \
             true median in them so often: {told}."
        ),
    }
}

/// How many rows Quire loses, and what the mark means.
pub(super) fn losses(results: &Results) -> String {
    let rows = levels(results).flat_map(|(outcome, level)| {
        level.rows.iter().map(move |row| Figures::of(outcome, level, row).verdict)
    });
    let verdicts: Vec<Verdict> = rows.collect();
    let lost = verdicts.iter().filter(|verdict| **verdict == Verdict::Loses).count();
    format!(
        "Quire loses {lost} of {}, marked *: the whole interval is above 1, against the kernel where memory is short, \
         else against native.{}",
        counted(verdicts.len() as u64, "row"),
        peaks(results)
    )
}

/// When Quire loses a row of peaks, where there are any.
pub(super) fn peaks(results: &Results) -> &'static str {
    let has_peaks = |(_, level): (&Outcome, &Level)| level.rows.iter().any(|row| row.unit == Unit::Bytes);
    match levels(results).any(has_peaks) {
        true => " It loses a peak, of anonymous memory, above 1.02 times the native one and 2 MiB.",
        false => "",
    }
}

/// Where the time of faults went, a line for each profile.
fn profiles(results: &Results) -> Vec<String> {
    let told = |(outcome, level): (&Outcome, &Level)| {
        let profile = level.profile.as_ref()?;
        let named = |values: &[(String, f64)], scale: f64| -> String {
            let one = |(name, value): &(String, f64)| format!("{name} {:.2}", value * scale);
            values.iter().map(one).collect::<Vec<_>>().join(", ")
        };
        Some(format!(
            "{}, {}: {} faults of {:.2} us: {}. Calls of each: {}. {:.2} migrations, {:.2} disk reads of {}.",
            outcome.workload,
            level.name,
            count(profile.faults),
            fault_us(profile),
            named(&profile.phases, 1e-3),
            named(&profile.calls, 1.0),
            profile.migrations,
            profile.disk_reads,
            human(profile.disk_read_bytes as u64)
        ))
    };
    levels(results).filter_map(told).collect()
}

/// All phases of a fault, in microseconds.
pub(super) fn fault_us(profile: &Profile) -> f64 {
    profile.phases.iter().map(|(_, ns)| ns / 1e3).sum()
}

/// What the machine's noise was for each workload.
pub(super) fn controls(results: &Results) -> Vec<String> {
    let told = |outcome: &Outcome| {
        let off = control_off(&outcome.control)?;
        let noisy = if within(&outcome.control, NOISE) {
            String::new()
        } else {
            format!(": more than {}, so believe no small difference", percent(NOISE))
        };
        Some(format!("{} {}{noisy}", outcome.workload, percent((off * 1e3).round() / 1e3)))
    };
    results.outcomes.iter().filter_map(told).collect()
}

/// Rounds that were measured again, and why.
pub(super) fn repeated(results: &Results) -> Vec<String> {
    let told = |outcome: &Outcome| {
        let workload = outcome.workload.clone();
        outcome.repeated.iter().map(|why| format!("{workload}, {why}")).collect::<Vec<_>>()
    };
    results.outcomes.iter().flat_map(told).collect()
}

/// What was not measured, and why.
pub(super) fn left_out(results: &Results) -> Vec<String> {
    results.left_out.iter().map(|left| format!("{}: {}", left.workload, left.why)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::example::results;
    use super::*;

    /// The line of a row, by what stands above it.
    fn line_after<'a>(text: &'a str, workload: &str, level: &str, metric: &str) -> &'a str {
        let mut lines = text.lines().skip_while(|line| !line.starts_with(workload));
        let mut lines = lines.by_ref().skip_while(|line| !line.starts_with(level));
        lines.find(|line| line.trim_start_matches(['*', ' ']).starts_with(metric)).unwrap()
    }

    #[test]
    fn no_row_is_left_out_and_those_that_quire_loses_are_marked() {
        let text = text(&results());
        for (workload, level, metric, mark) in [
            ("sort:", " 0.7", "time", ' '),
            ("sort:", " 0.5", "time", '*'),
            ("sort:", " 0.5", "random", ' '),
            ("python:", " 0.5", "time", ' '),
            ("git:", " -m 1.5", "time", '*'),
            ("git:", " -m 1.5", "peak", ' '),
            ("git:", " no -m", "time", ' '),
            ("git:", " no -m", "peak", '*'),
        ] {
            let line = line_after(&text, workload, level, metric);
            assert!(line.starts_with(mark), "{workload} {level} {metric}: {line}\n{text}");
        }
        assert!(text.contains("Quire loses 3 of 8 rows, marked *"), "{text}");
    }

    #[test]
    fn a_row_has_medians_ratios_and_the_interval() {
        let text = text(&results());
        let fields = |line: &str| {
            line.split("  ").map(str::trim).filter(|f| !f.is_empty()).collect::<Vec<_>>().join("|")
        };
        let won = line_after(&text, "sort:", " 0.7", "time");
        assert_eq!(fields(won), "time|run|2.00 s|10.0 s|5.00 s|5.00|2.50|0.50|0.40..0.75");
        let killed = line_after(&text, "python:", " 0.5", "time");
        assert_eq!(fields(killed), "time|run|2.00 s|-|40.0 s|-|20.0|-|19.5..20.5");
        let random = line_after(&text, "sort:", " 0.5", "random");
        assert!(fields(random).starts_with("random|page|2.00 us|10.0 us|10.0 us"), "{random}");
        let peak = line_after(&text, "git:", " -m 1.5", "peak");
        assert_eq!(fields(peak), "peak|run|600 MiB|-|612 MiB|-|1.02|-|1.02..1.02");
    }

    #[test]
    fn what_is_beside_the_rows_is_told() {
        let text = text(&results()).replace("\n  ", " ").replace('\n', " ");
        for told in [
            "0.5 of the peak: limit 540 MiB, -m 300 MiB, killed for want of memory even at 540 MiB",
            "0.7 of the peak: limit 420 MiB, swap 50 MiB, -m 420 MiB, Quire's peak 460 MiB",
            "75 % with 3 rounds, 93.75 % with 5 rounds",
            "sort 1 % python 10 %: more than 5 %",
            "Measured again: sort, round 3: 4 % of the time was stolen",
            "Left out: redis: redis-server is not installed",
            "1.23M faults of 41.75 us: wait 1.50, lock 0.25, read 40.00. Calls of each: ioctl 2.10, pread 0.40.",
            "0.12 migrations, 0.40 disk reads of 16 KiB.",
            "else against native. It loses a peak, of anonymous memory, above 1.02 times the native one and 2 MiB.",
        ] {
            assert!(text.contains(told), "{told}: {text}");
        }
    }

    #[test]
    fn every_line_fits() {
        let mut results = results();
        let outcome = &mut results.outcomes[0];
        outcome.what = "many words ".repeat(20);
        let row = &mut outcome.levels[0].rows[0];
        row.metric = "random after three scans, with two threads".into();
        row.native.fill(99.9e-3);
        row.kernel.fill(99.9e-3);
        row.quire.fill(0.0456);
        let text = text(&results);
        let widest = text.lines().max_by_key(|line| line.chars().count()).unwrap();
        assert!(widest.chars().count() <= WIDTH, "{widest}");
        assert!(text.contains("random after thre~"), "{text}");
    }

    #[test]
    fn without_results_nothing_is_said_of_them() {
        let mut results = results();
        results.outcomes.clear();
        results.left_out.clear();
        let text = text(&results);
        assert!(text.contains("Quire loses 0 of 0 rows") && !text.contains("Left out"), "{text}");
        assert!(!text.contains("Profile") && !text.contains("peak") && !text.contains("Intervals"), "{text}");
    }

    #[test]
    fn ratios_keep_digits_that_mean_something() {
        let texts = [0.0456, 0.0999, 0.5, 9.99, 9.996, 52.04, 99.96, 1234.5].map(factor);
        assert_eq!(texts, ["0.046", "0.10", "0.50", "9.99", "10.0", "52.0", "100", "1234"]);
    }
}
