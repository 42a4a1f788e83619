//! What a bench found out as one page to look at.

use super::figures::{Figures, Ratio, Verdict, side_name, values};
use super::model::{Level, Outcome, Profile, Results, Row, Side};
use super::table::{self, amount, between, cells, factor, levels, memory};
use crate::html::plot::{self, Bar, COLOURS, Part, escape};
use crate::html::{END, begin, section, sheet};
use crate::size::{count, counted, human};
use std::fmt::Write as _;

/// Sides with their colours.
const SIDES: [(Side, &str); 3] =
    [(Side::Native, COLOURS[8]), (Side::Kernel, COLOURS[1]), (Side::Quire, COLOURS[0])];

/// Verdicts with their colours.
const VERDICTS: [(Verdict, &str); 3] =
    [(Verdict::Wins, COLOURS[3]), (Verdict::Even, COLOURS[8]), (Verdict::Loses, COLOURS[2])];

/// The page.
pub(crate) fn page(results: &Results) -> String {
    let mut text = begin("quire bench", &results.command.join(" "));
    let _ = writeln!(
        text,
        "<p>{} on {}, by quire {}. {}</p>",
        counted(results.outcomes.len() as u64, "workload"),
        escape(&results.date),
        escape(&results.machine.quire),
        escape(&table::losses(results))
    );
    text +=
        &ratios(results, "Quire and the kernel's swap", "kernel", |figures| figures.quire_kernel.as_ref());
    text += &ratios(results, "Quire and native runs", "native run", |figures| figures.quire_native.as_ref());
    text += &sides(results);
    text += &profiles(results);
    text += &sheets(results);
    text + END
}

/// A bar for each row that has this ratio, to one scale.
fn ratios(results: &Results, title: &str, other: &str, ratio: impl Fn(&Figures) -> Option<&Ratio>) -> String {
    let mut groups: Vec<(String, Vec<Bar>)> = Vec::new();
    for (outcome, level) in levels(results) {
        let figures = level.rows.iter().map(|row| (row, Figures::of(outcome, level, row)));
        let bars: Vec<Bar> =
            figures.filter_map(|(row, figures)| Some(ratio_bar(row, ratio(&figures)?))).collect();
        if !bars.is_empty() {
            groups.push((format!("{}, {}", outcome.workload, level.name), bars));
        }
    }
    if groups.is_empty() {
        return String::new();
    }
    let about = format!(
        "What Quire took by what the {other} took in the same round: the median, its interval, and a dot for each \
         round. The mark is at 1; a shorter bar is better.{} {}",
        table::peaks(results),
        table::sureness(results)
    );
    let key = VERDICTS.iter().map(|(verdict, colour)| (meaning(*verdict), *colour));
    section(title, &about) + &plot::key(key) + &plot::bars(&groups)
}

const fn meaning(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Wins => "better in the whole interval",
        Verdict::Loses => "worse in the whole interval",
        Verdict::Even | Verdict::Unknown => "neither",
    }
}

fn ratio_bar(row: &Row, ratio: &Ratio) -> Bar {
    let verdict = Verdict::of(row, Some(ratio));
    let colour = VERDICTS.iter().find(|(of, _)| *of == verdict).map_or(COLOURS[8], |(_, colour)| colour);
    let value = format!("{} ({})", factor(ratio.median), between(&ratio.interval));
    Bar {
        label: row.metric.clone(),
        parts: vec![Part { value: ratio.median, colour, says: value.clone() }],
        value,
        mark: Some(1.0),
        interval: Some((ratio.interval.low, ratio.interval.high)),
        dots: ratio.rounds.clone(),
    }
}

/// What each side took, each row to a scale of its own.
fn sides(results: &Results) -> String {
    let mut text = section(
        "What each side took",
        "The median of each side, and a dot for each round. Each metric has a scale of its own.",
    );
    text += &plot::key(SIDES.iter().map(|(side, colour)| (side_name(*side), *colour)));
    for outcome in &results.outcomes {
        let _ = writeln!(text, "<h3>{}</h3>", escape(&table::title(outcome)));
        for level in &outcome.levels {
            let _ = writeln!(text, "<p>{}</p>", escape(&memory(level)));
            for row in &level.rows {
                let bars = side_bars(row, &Figures::of(outcome, level, row));
                text += &plot::bars(&[(row.metric.clone(), bars)]);
            }
        }
    }
    text
}

fn side_bars(row: &Row, figures: &Figures) -> Vec<Bar> {
    let bar = |(side, colour): &(Side, &'static str)| {
        let median = figures.median(*side)?;
        let value = amount(median, row.unit);
        let says = format!("{}: {value}", side_name(*side));
        Some(Bar {
            label: side_name(*side).into(),
            value,
            parts: vec![Part { value: median, colour, says }],
            dots: values(row, *side).to_vec(),
            ..Bar::default()
        })
    };
    SIDES.iter().filter_map(bar).collect()
}

/// All profiles.
fn profiled(results: &Results) -> Vec<(&Outcome, &Level, &Profile)> {
    levels(results).filter_map(|(outcome, level)| Some((outcome, level, level.profile.as_ref()?))).collect()
}

/// Names that any of the lists has, in the order in which they come.
fn names<'a>(lists: impl Iterator<Item = &'a Vec<(String, f64)>>) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in lists.flatten() {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names
}

/// Where the time of faults went.
fn profiles(results: &Results) -> String {
    let profiled = profiled(results);
    if profiled.is_empty() {
        return String::new();
    }
    let phases = names(profiled.iter().map(|(_, _, profile)| &profile.phases));
    let colour =
        |name: &str| COLOURS[phases.iter().position(|phase| *phase == name).unwrap_or(0) % COLOURS.len()];
    let mut text =
        section("Profile", "What each phase of a fault took: means over all faults that Quire answered.");
    text += &plot::key(phases.iter().map(|phase| (*phase, colour(phase))));
    let bar = |(outcome, level, profile): &(&Outcome, &Level, &Profile)| Bar {
        label: format!("{}, {}", outcome.workload, level.name),
        value: format!("{:.2} us", table::fault_us(profile)),
        parts: profile
            .phases
            .iter()
            .map(|(name, ns)| Part {
                value: *ns,
                colour: colour(name),
                says: format!("{name}: {:.2} us", ns / 1e3),
            })
            .collect(),
        ..Bar::default()
    };
    text += &plot::bars(&[(String::new(), profiled.iter().map(bar).collect())]);
    text + &sheet(&profile_rows(&profiled, &phases), 2)
}

/// The profiles as a table.
fn profile_rows(profiled: &[(&Outcome, &Level, &Profile)], phases: &[&str]) -> Vec<Vec<String>> {
    let calls = names(profiled.iter().map(|(_, _, profile)| &profile.calls));
    let mut first: Vec<String> = ["workload", "memory", "faults"].map(String::from).to_vec();
    first.extend(phases.iter().map(|phase| format!("{phase}, us")));
    first.extend(calls.iter().copied().map(String::from));
    first.extend(["migrations", "disk reads", "of"].map(String::from));
    let value = |list: &[(String, f64)], name: &str, scale: f64| {
        let found = list.iter().find(|(of, _)| of == name);
        found.map_or_else(|| "-".into(), |(_, value)| format!("{:.2}", value * scale))
    };
    let row = |(outcome, level, profile): &(&Outcome, &Level, &Profile)| {
        let mut row = vec![outcome.workload.clone(), level.name.clone(), count(profile.faults)];
        row.extend(phases.iter().map(|phase| value(&profile.phases, phase, 1e-3)));
        row.extend(calls.iter().map(|call| value(&profile.calls, call, 1.0)));
        row.push(format!("{:.2}", profile.migrations));
        row.push(format!("{:.2}", profile.disk_reads));
        row.push(human(profile.disk_read_bytes as u64));
        row
    };
    [first].into_iter().chain(profiled.iter().map(row)).collect()
}

/// All that the terminal shows, and the machine.
fn sheets(results: &Results) -> String {
    let mut text = section("All figures", table::MEANING);
    let mut rows = vec![
        ["workload", "memory"]
            .iter()
            .chain(&table::NAMES)
            .chain(&["Quire"])
            .map(|name| String::from(*name))
            .collect::<Vec<_>>(),
    ];
    for (outcome, level) in levels(results) {
        if level.rows.is_empty() {
            rows.push(vec![outcome.workload.clone(), memory(level)]);
        }
        for row in &level.rows {
            let figures = Figures::of(outcome, level, row);
            let mut fields = vec![outcome.workload.clone(), level.name.clone()];
            fields.extend(cells(&row.metric, row.unit, &figures));
            fields.push(figures.verdict.name().into());
            rows.push(fields);
        }
    }
    text += &sheet(&rows, 2 + table::TEXTS);
    for (title, lines) in [
        ("How far a second native run is from the first, in the median", table::controls(results)),
        ("Measured again", table::repeated(results)),
        ("Left out", table::left_out(results)),
    ] {
        text += &list(title, &lines);
    }
    text += "<h3>The machine</h3>\n<div class=\"wide\"><table>\n";
    for (name, value) in table::machine(results) {
        let value = escape(&value);
        let _ = writeln!(text, "<tr><td class=\"name\">{name}</td><td class=\"name\">{value}</td></tr>");
    }
    text + "</table></div>\n"
}

/// A heading with its lines, or nothing where there are none.
fn list(title: &str, lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let lines: String = lines.iter().map(|line| format!("<li>{}</li>\n", escape(line))).collect();
    format!("<h3>{}</h3>\n<ul>\n{lines}</ul>\n", escape(title))
}

#[cfg(test)]
mod tests {
    use super::super::example::results;
    use super::*;

    #[test]
    fn every_row_has_its_bars_and_its_line() {
        let page = page(&results());
        // A row has a bar for each side, and one for each ratio by Quire that it has.
        let sides = 3 * 3 + 5 * 2;
        let ratios = 3 + 8;
        let profiles = 1;
        assert_eq!(page.matches("<svg").count(), sides + ratios + profiles);
        // Dots: the rounds of all sides, and those of the ratios.
        assert_eq!(page.matches("class=\"dot\"").count(), 3 * 15 + 6 + 4 * 10 + 3 * 5 + 7 * 5 + 3);
        assert_eq!(page.matches("<td class=\"name\">time</td>").count(), 5);
        assert_eq!(page.matches("<td class=\"name\">peak</td>").count(), 2);
        for told in
            ["1.50 us", "loses", "0.50 (0.40..0.75)", "even at 540 MiB", "not installed", "was stolen"]
        {
            assert!(page.contains(told), "{told}");
        }
    }

    #[test]
    fn a_page_is_whole_and_asks_nobody() {
        let page = page(&results());
        assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with(END));
        assert!(page.contains("&lt;Zen 3&gt;") && !page.contains("<Zen"));
        assert!(!page.contains("http") && !page.contains("<script") && !page.contains("src="));
    }

    #[test]
    fn an_amount_of_memory_without_rows_stays_on_the_page() {
        let mut results = results();
        results.outcomes[1].levels[0].rows.clear();
        assert!(page(&results).contains("<td class=\"name\">0.5 of the peak: limit 540 MiB"));
    }

    #[test]
    fn what_was_not_measured_has_no_plot() {
        let mut results = results();
        results.outcomes.drain(..2);
        let page = page(&results);
        assert!(!page.contains("Quire and the kernel") && !page.contains("<h2>Profile"), "{page}");
        assert!(page.contains("Quire and native runs"));
    }
}
