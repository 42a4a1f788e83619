//! Writes the tables of `docs/claims.md`, below its mark: what the policies come to on each workload, at equal memory.
//!
//! `cargo run --release -p quire-sim --example claims`. A few minutes on two processors.

use quire_sim::grid::{self, Place, SHARES, Share, WORKLOADS};
use quire_sim::replay::Figures;
use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Write as _};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/claims.md");
const MARK: &str = "<!-- below: cargo run --release -p quire-sim --example claims -->\n";
/// Within so many percent of the best counts as good.
const GOOD: u64 = 5;
const OURS: &str = "adaptive";

fn main() -> Result<(), Box<dyn Error>> {
    let text = std::fs::read_to_string(FILE)?;
    let head = text.split_once(MARK).ok_or("docs/claims.md has no mark")?.0;
    let cells: Vec<Place> = Place::all().filter(|place| place.fragmentation == 0).collect();
    let results = grid::run(&cells, |_| _ = write!(io::stderr(), "."));
    eprintln!();
    let figures = results.into_iter().collect::<Result<Vec<_>, _>>()?;
    let groups = groups(&cells, &figures);
    let mut out = format!("{head}{MARK}\n");
    summary(&mut out, &groups)?;
    for share in [Share::Quarters(2), Share::All] {
        details(&mut out, &groups, share)?;
    }
    std::fs::write(FILE, out)?;
    Ok(())
}

/// The cells of one workload with one amount of memory.
struct Group<'a> {
    cells: Vec<(&'a Place, &'a Figures)>,
}

impl Group<'_> {
    fn is(&self, workload: &grid::Workload, share: Share) -> bool {
        self.cells.first().is_some_and(|(place, _)| place.workload == workload && place.share == share)
    }

    fn best(&self) -> u64 {
        self.cells.iter().map(|(_, figures)| figures.modelled_ns()).min().unwrap_or(1)
    }

    fn is_good(&self, policy: &str) -> bool {
        let time = self.cells.iter().find(|(place, _)| place.policy == policy);
        time.is_some_and(|(_, figures)| figures.modelled_ns() * 100 <= self.best() * (100 + GOOD))
    }
}

fn groups<'a>(cells: &'a [Place], figures: &'a [Figures]) -> Vec<Group<'a>> {
    let pairs: Vec<_> = cells.iter().zip(figures).collect();
    let alike = |a: &(&Place, &Figures), b: &(&Place, &Figures)| {
        (a.0.workload, a.0.share) == (b.0.workload, b.0.share)
    };
    pairs.chunk_by(alike).map(|cells| Group { cells: cells.to_vec() }).collect()
}

/// The times as multiples of the best, a line for each workload and amount of memory.
fn summary(out: &mut String, groups: &[Group<'_>]) -> Result<(), std::fmt::Error> {
    writeln!(out, "## Modelled time, as a multiple of the best at equal memory\n")?;
    write!(out, "| workload | memory |")?;
    grid::POLICIES.iter().try_for_each(|policy| write!(out, " {policy} |"))?;
    writeln!(out, " adaptive is |\n|---|---|{}---|", "---|".repeat(grid::POLICIES.len()))?;
    for group in groups {
        let Some((place, _)) = group.cells.first() else { continue };
        write!(out, "| {} | {} |", place.workload.name, place.share)?;
        for (_, figures) in &group.cells {
            write!(out, " {} |", hundredths(figures.modelled_ns(), group.best()))?;
        }
        writeln!(out, " {} |", if group.is_good(OURS) { "good" } else { "**not good**" })?;
    }
    writeln!(out, "\nGood: the best, or within {GOOD} % of it. Workloads for which a policy is good:\n")?;
    writeln!(out, "| memory |{} of |", heads())?;
    writeln!(out, "|---|{}---|", "---|".repeat(grid::POLICIES.len()))?;
    for &share in SHARES {
        write!(out, "| {share} |")?;
        for policy in grid::POLICIES {
            let good = groups.iter().filter(|g| g.cells[0].0.share == share && g.is_good(policy)).count();
            write!(out, " {good} |")?;
        }
        writeln!(out, " {} |", WORKLOADS.len())?;
    }
    writeln!(out)
}

fn heads() -> String {
    grid::POLICIES.iter().map(|policy| format!(" {policy} |")).collect()
}

/// All that the claims are about, a line for each policy.
fn details(out: &mut String, groups: &[Group<'_>], share: Share) -> Result<(), std::fmt::Error> {
    writeln!(out, "## In detail: memory {share}\n")?;
    writeln!(
        out,
        "| workload | policy | time, ms | of the best | faults | LRU, folios | TLB misses | flushes | wasted, KiB |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|---|---|")?;
    for workload in WORKLOADS {
        for group in groups.iter().filter(|group| group.is(workload, share)) {
            for (place, figures) in &group.cells {
                let ns = figures.modelled_ns();
                writeln!(
                    out,
                    "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                    workload.name,
                    place.policy,
                    hundredths(ns, 1_000_000),
                    hundredths(ns, group.best()),
                    figures.faults,
                    figures.lru.mean(ns),
                    figures.tlb.misses,
                    figures.tlb.flushes + figures.tlb.full_flushes,
                    figures.wasted.mean(ns) * 4,
                )?;
            }
        }
    }
    writeln!(out)
}

/// A quotient with two digits, rounded half up, in whole numbers.
fn hundredths(what: u64, of: u64) -> String {
    let hundred = (what * 100 + of / 2) / of;
    format!("{}.{:02}", hundred / 100, hundred % 100)
}
