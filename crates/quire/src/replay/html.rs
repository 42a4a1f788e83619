//! Results as one page to look at: it has everything in it and asks no other host for anything.

use super::table::{self, accesses, faults_of, pages, swapped_in, swapped_out};
use super::{Grid, Outcome};
use crate::html::plot::{self, Bar, COLOURS, Line, Part, RAMP, escape};
use crate::html::{END, begin, section, sheet};
use crate::size::{count, counted, human, time};
use quire_core::Order;
use quire_sim::replay::{Cause, Sample};
use std::fmt::Write as _;

/// The page.
pub(crate) fn page(grid: &Grid, results: &[Outcome]) -> String {
    let mut text = begin("quire replay", &grid.source.to_string());
    if let Some(first) = results.first() {
        let _ = writeln!(
            text,
            "<p>{} in {}, replayed in {} by quire {}.</p>",
            accesses(first.figures.accesses),
            counted(first.figures.events, "event"),
            counted(results.len() as u64, "cell"),
            env!("CARGO_PKG_VERSION")
        );
    }
    text += &times(results);
    text += &faults(results);
    text += &memory(results);
    text += &misses(results);
    text += &swap(results);
    text += &course(results);
    text += &sheets(grid, results);
    text + END
}

/// Cells that differ in their policy only, with what they have in common.
fn groups(results: &[Outcome]) -> Vec<(String, &[Outcome])> {
    let common = |outcome: &Outcome| {
        let named = &outcome.named;
        (named.memory.clone(), named.fragmentation.clone(), named.tlb.clone())
    };
    let name = |outcome: &Outcome| {
        let memory = match outcome.named.cell.memory {
            Some(_) => format!("memory {}", outcome.named.memory),
            None => "no limit of memory".into(),
        };
        let fragmented = match outcome.named.cell.fragmentation {
            0 => String::new(),
            percent => format!(", {percent} % fragmented"),
        };
        format!("{memory}{fragmented}, TLB {}", outcome.named.tlb)
    };
    results.chunk_by(|a, b| common(a) == common(b)).map(|group| (name(&group[0]), group)).collect()
}

fn grouped(results: &[Outcome], bar: impl Fn(&Outcome) -> Bar) -> String {
    let bars: Vec<(String, Vec<Bar>)> =
        groups(results).into_iter().map(|(name, group)| (name, group.iter().map(&bar).collect())).collect();
    plot::bars(&bars)
}

/// A part of a bar, which says what it is and how much.
fn part(what: &str, value: u64, colour: &'static str, text: String) -> Part {
    Part { value: value as f64, colour, says: format!("{what}: {text}") }
}

/// Modelled time by cause.
fn times(results: &[Outcome]) -> String {
    let used = |cause: &&Cause| results.iter().any(|o| o.figures.time[**cause as usize] > 0);
    let causes: Vec<Cause> = Cause::ALL.iter().filter(used).copied().collect();
    let colour = |cause: Cause| COLOURS[cause as usize % COLOURS.len()];
    let mut text = section("Modelled time", "What the program's memory costs it, by what it waits for.");
    text += &plot::key(causes.iter().map(|&cause| (cause.name(), colour(cause))));
    text + &grouped(results, |outcome| {
        let ns = |cause: Cause| outcome.figures.time[cause as usize];
        Bar {
            label: outcome.named.policy.clone(),
            value: time(outcome.figures.modelled_ns()),
            parts: causes
                .iter()
                .map(|&cause| part(cause.name(), ns(cause), colour(cause), time(ns(cause))))
                .collect(),
            ..Bar::default()
        }
    })
}

/// Faults by order.
fn faults(results: &[Outcome]) -> String {
    let used = |order: &Order| results.iter().any(|o| faults_of(&o.figures.stats, *order) > 0);
    let orders: Vec<Order> = Order::all().filter(used).collect();
    let names: Vec<String> = orders.iter().map(Order::to_string).collect();
    let mut text = section(
        "Faults",
        "Fills, rescues and copies on write, by the size of the folio they were served with.",
    );
    text += &plot::key(names.iter().zip(&orders).map(|(name, order)| (name.as_str(), RAMP[order.index()])));
    text + &grouped(results, |outcome| {
        let of_order = |(name, order): (&String, &Order)| {
            let faults = faults_of(&outcome.figures.stats, *order);
            part(name, faults, RAMP[order.index()], count(faults))
        };
        Bar {
            label: outcome.named.policy.clone(),
            value: count(outcome.figures.faults),
            parts: names.iter().zip(&orders).map(of_order).collect(),
            ..Bar::default()
        }
    })
}

/// Resident memory, and what of it was never touched.
fn memory(results: &[Outcome]) -> String {
    let [used, wasted] = [COLOURS[0], COLOURS[2]];
    let mut text = section(
        "Resident memory",
        "The mean over modelled time. Wasted: not touched since it was filled. The mark is the peak.",
    );
    text += &plot::key([("touched", used), ("wasted", wasted)].into_iter());
    text + &grouped(results, |outcome| {
        let figures = &outcome.figures;
        let ns = figures.modelled_ns();
        let (all, waste) = (figures.resident.mean(ns), figures.wasted.mean(ns));
        let touched = all.saturating_sub(waste);
        Bar {
            label: outcome.named.policy.clone(),
            value: format!("{}, {} wasted", pages(all), pages(waste)),
            parts: vec![
                part("touched", touched, used, pages(touched)),
                part("wasted", waste, wasted, pages(waste)),
            ],
            mark: Some(figures.resident.peak as f64),
            ..Bar::default()
        }
    })
}

fn misses(results: &[Outcome]) -> String {
    section("TLB misses", "Accesses that walked the page table.")
        + &grouped(results, |outcome| {
            let misses = outcome.figures.tlb.misses;
            let part = Part { value: misses as f64, colour: COLOURS[0], says: count(misses) };
            Bar {
                label: outcome.named.policy.clone(),
                value: count(misses),
                parts: vec![part],
                ..Bar::default()
            }
        })
}

/// Contents that went to the store and came back.
fn swap(results: &[Outcome]) -> String {
    if results.iter().all(|o| swapped_out(&o.figures) + swapped_in(&o.figures) == 0) {
        return String::new();
    }
    let [out, back] = [COLOURS[1], COLOURS[3]];
    let mut text = section("Swap traffic", "Contents of pages that were stored, and that were read back.");
    text += &plot::key([("out", out), ("in", back)].into_iter());
    text + &grouped(results, |outcome| {
        let (written, read) = (swapped_out(&outcome.figures), swapped_in(&outcome.figures));
        Bar {
            label: outcome.named.policy.clone(),
            value: format!("{} out, {} in", human(written), human(read)),
            parts: vec![part("out", written, out, human(written)), part("in", read, back, human(read))],
            ..Bar::default()
        }
    })
}

/// How resident memory and faults went on, a pair of plots for each group.
fn course(results: &[Outcome]) -> String {
    let mut text = section(
        "The course",
        "Resident memory and faults so far, over the events of the trace. Where lines meet, the last one shows.",
    );
    for (name, group) in groups(results) {
        let _ = writeln!(text, "<h3>{}</h3>", escape(&name));
        let colour = |at: usize| COLOURS[at % COLOURS.len()];
        text += &plot::key(group.iter().enumerate().map(|(at, o)| (o.named.policy.as_str(), colour(at))));
        let events = group.first().map_or(0, |o| o.figures.events);
        let right = counted(events, "event");
        let plot = |top: String, pick: fn(&Sample) -> u64| {
            let line = |(at, outcome): (usize, &Outcome)| Line {
                colour: colour(at),
                points: outcome
                    .figures
                    .series
                    .samples
                    .iter()
                    .map(|s| (s.events as f64, pick(s) as f64))
                    .collect(),
            };
            plot::lines(&top, &right, &group.iter().enumerate().map(line).collect::<Vec<_>>())
        };
        let most = |pick: fn(&Sample) -> u64| {
            group.iter().flat_map(|o| &o.figures.series.samples).map(pick).max().unwrap_or(0)
        };
        text += "<div class=\"charts\">";
        text += &plot(format!("resident, up to {}", pages(most(|s| s.resident))), |s| s.resident);
        text += &plot(format!("faults, up to {}", count(most(|s| s.faults))), |s| s.faults);
        text += "</div>\n";
    }
    text
}

/// All tables that the terminal shows, and the costs.
fn sheets(grid: &Grid, results: &[Outcome]) -> String {
    let mut text =
        section("All figures", "Means are over modelled time; LRU is the number of folios that age.");
    for (title, columns) in table::sheets() {
        let _ = writeln!(text, "<h3>{}</h3>", escape(title));
        text += &sheet(&table::rows(grid, results, &columns), table::names(grid).len());
    }
    text += "<h3>Costs</h3>\n<div class=\"wide\"><table>\n";
    for (name, ns, what) in grid.costs.all() {
        let _ = writeln!(
            text,
            "<tr><td class=\"name\">{name}</td><td>{ns} ns</td><td class=\"name\">{}</td></tr>",
            escape(what)
        );
    }
    text + "</table></div>\n"
}
