//! The tables of `docs/claims.md`, made of the lines of `docs/grid.txt`: what the policies come to on each workload, at
//! equal memory.

use super::{POLICIES, SHARES, WORKLOADS};
use core::fmt::{self, Write as _};

/// What stands between the text of the page and its tables.
pub const MARK: &str = "<!-- below: cargo run --release -p quire-sim --example claims -->\n";
/// Within so many percent of the best counts as good.
const GOOD: u64 = 5;
/// The columns of the grid from the time on: us, faults, zeroed, resident, wasted, LRU, misses, flushes.
const COLUMNS: usize = 8;
const FIRST: usize = 4;

/// A line of the grid.
struct Row<'a> {
    workload: &'a str,
    memory: &'a str,
    policy: &'a str,
    numbers: [u64; COLUMNS],
}

impl<'a> Row<'a> {
    /// Reads a line, if it is one of memory that is not fragmented.
    fn read(line: &'a str) -> Option<Row<'a>> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [workload, "0", memory, policy, ..] = words[..] else { return None };
        let mut numbers = [0; COLUMNS];
        for (number, word) in numbers.iter_mut().zip(words.get(FIRST..FIRST + COLUMNS)?) {
            *number = word.parse().ok()?;
        }
        Some(Row { workload, memory, policy, numbers })
    }

    fn us(&self) -> u64 {
        self.numbers[0]
    }
}

/// The rows of one workload with one amount of memory.
struct Group<'a>(&'a [Row<'a>]);

impl Group<'_> {
    fn best(&self) -> u64 {
        self.0.iter().map(Row::us).min().unwrap_or(1)
    }

    fn is_good(&self, policy: &str) -> bool {
        let row = self.0.iter().find(|row| row.policy == policy);
        row.is_some_and(|row| row.us() * 100 <= self.best() * (100 + GOOD))
    }
}

/// The page anew: its text as it is, and the tables that follow from the grid. `None` if it has no mark.
pub fn page(old: &str, grid: &str) -> Option<String> {
    let (text, _) = old.split_once(MARK)?;
    let rows: Vec<Row<'_>> = grid.lines().filter_map(Row::read).collect();
    let alike = |a: &Row<'_>, b: &Row<'_>| (a.workload, a.memory) == (b.workload, b.memory);
    let groups: Vec<Group<'_>> = rows.chunk_by(alike).map(Group).collect();
    let mut out = format!("{text}{MARK}\n");
    summary(&mut out, &groups)
        .and_then(|()| counts(&mut out, &groups))
        .and_then(|()| details(&mut out, &groups, "1/2"))
        .and_then(|()| details(&mut out, &groups, "none"))
        .ok()?;
    Some(out)
}

/// The times as multiples of the best, a line for each workload and amount of memory.
fn summary(out: &mut String, groups: &[Group<'_>]) -> fmt::Result {
    writeln!(out, "## Modelled time, as a multiple of the best at equal memory\n")?;
    writeln!(out, "| workload | memory |{} adaptive is |", heads())?;
    writeln!(out, "|---|---|{}---|", "---|".repeat(POLICIES.len()))?;
    for group in groups {
        write!(out, "| {} | {} |", group.0[0].workload, group.0[0].memory)?;
        group.0.iter().try_for_each(|row| write!(out, " {} |", hundredths(row.us(), group.best())))?;
        let word = match group.is_good("adaptive") {
            _ if group.0.iter().any(|row| row.policy == "adaptive" && row.us() == group.best()) => "best",
            true => "good",
            false => "**not good**",
        };
        writeln!(out, " {word} |")?;
    }
    writeln!(out)
}

/// For how many workloads each policy is good.
fn counts(out: &mut String, groups: &[Group<'_>]) -> fmt::Result {
    writeln!(
        out,
        "Good: the best, or within {GOOD} % of it. For how many of {} workloads:\n",
        WORKLOADS.len()
    )?;
    writeln!(out, "| memory |{}\n|---|{}", heads(), "---|".repeat(POLICIES.len()))?;
    for share in SHARES.iter().map(ToString::to_string) {
        write!(out, "| {share} |")?;
        for policy in POLICIES {
            let good = groups.iter().filter(|group| group.0[0].memory == share && group.is_good(policy));
            write!(out, " {} |", good.count())?;
        }
        writeln!(out)?;
    }
    writeln!(out)
}

fn heads() -> String {
    POLICIES.iter().map(|policy| format!(" {policy} |")).collect()
}

/// All that the claims are about, a line for each policy.
fn details(out: &mut String, groups: &[Group<'_>], memory: &str) -> fmt::Result {
    writeln!(out, "## In detail: memory {memory}\n")?;
    writeln!(
        out,
        "| workload | policy | time, ms | of the best | faults | LRU, folios | TLB misses | flushes | wasted, KiB |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|---|---|")?;
    for group in groups.iter().filter(|group| group.0[0].memory == memory) {
        for Row { workload, policy, numbers, .. } in group.0 {
            let [us, faults, _, _, wasted, lru, misses, flushes] = *numbers;
            let (ms, of_best) = (hundredths(us, 1000), hundredths(us, group.best()));
            writeln!(
                out,
                "| {workload} | {policy} | {ms} | {of_best} | {faults} | {lru} | {misses} | {flushes} | {wasted} |"
            )?;
        }
    }
    writeln!(out)
}

/// A quotient with two digits, rounded half up, in whole numbers.
fn hundredths(what: u64, of: u64) -> String {
    let of = of.max(1);
    let hundred = (what * 100 + of / 2) / of;
    format!("{}.{:02}", hundred / 100, hundred % 100)
}
