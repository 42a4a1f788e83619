//! `quire replay`: reads what is to be replayed and how, and shows what came of it.

use super::run::check_machine;
use crate::cli;
use crate::failure::{End, Failure};
use crate::files;
use crate::replay::{self, Grid};
use crate::size::{self, MIB};
use quire_core::PAGE_SIZE;
use quire_sim::replay::{Costs, NO_LIMIT, Paging, Source};
use quire_sim::tlb::Model;
use std::fs;
use std::path::Path;

/// The least memory that can be replayed with, in bytes.
const LEAST_MEMORY: u64 = MIB;

/// The longest epoch, in ms: a day.
const MOST_EPOCH: u64 = 86_400_000;

/// What --html and --calibrate write, for messages.
const PAGE: &str = "the page";
const TABLE: &str = "the table of costs";

/// Replays the trace in every cell and prints what came of it.
pub(crate) fn execute(arguments: cli::Replay) -> Result<End, Failure> {
    if let Some(path) = arguments.calibrate.as_deref() {
        return calibrate(path);
    }
    let trace = arguments.trace.as_deref().unwrap_or_default();
    files::refuse_same(&[
        ("TRACE", Some(Path::new(trace))),
        ("--costs", arguments.costs.as_deref()),
        ("--html", arguments.html.as_deref()),
    ])?;
    let source: Source = trace.parse().map_err(|error| Failure::own(format!("{error}")))?;
    let grid = Grid {
        source,
        policies: items(policies(&arguments.policy), &arguments.policy, paging)?,
        memories: list(&arguments.memory, memory)?,
        fragmentations: list(&arguments.fragmentation, percent)?,
        tlbs: list(&arguments.tlb, tlb)?,
        epoch_ns: epoch(&arguments.epoch)?,
        spill: !arguments.no_spill,
        costs: costs(arguments.costs.as_deref())?,
        quiet: arguments.quiet,
    };
    // What can't be written is found out before the work.
    let page = arguments.html.as_deref().map(|path| files::create(path, PAGE).map(|file| (path, file)));
    let page = page.transpose()?;
    let results = replay::run(&grid)?;
    files::print(&replay::text(&grid, &results, arguments.json), "the results")?;
    if let Some((path, mut file)) = page {
        files::write(&mut file, path, PAGE, &replay::html::page(&grid, &results))?;
    }
    Ok(End::Status(0))
}

/// Measures what things cost on this machine.
fn calibrate(path: &Path) -> Result<End, Failure> {
    check_machine()?;
    let mut file = files::create(path, TABLE)?;
    let table = replay::calibrate::table()?;
    files::write(&mut file, path, TABLE, &table)?;
    files::print(&table, TABLE)?;
    Ok(End::Status(0))
}

/// The items of a list with commas, with their names.
fn list<T: PartialEq>(
    text: &str,
    item: impl Fn(&str) -> Result<T, Failure>,
) -> Result<Vec<(String, T)>, Failure> {
    items(text.split(',').map(|name| name.trim().into()).collect(), text, item)
}

/// What names stand for. None may come twice.
fn items<T: PartialEq>(
    names: Vec<String>,
    text: &str,
    item: impl Fn(&str) -> Result<T, Failure>,
) -> Result<Vec<(String, T)>, Failure> {
    let mut items: Vec<(String, T)> = Vec::new();
    for name in names {
        let value = item(&name)?;
        if items.iter().any(|(_, other)| *other == value) {
            return Err(Failure::own(format!("'{name}' is in the list '{text}' twice: leave one out")));
        }
        items.push((name, value));
    }
    Ok(items)
}

/// The names in a list of policies. A size that stands alone belongs to the policy before it: `linux:16K,64K,adaptive`.
fn policies(text: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for piece in text.split(',').map(str::trim) {
        match names.last_mut() {
            Some(last) if piece.starts_with(|c: char| c.is_ascii_digit()) => *last += &format!(",{piece}"),
            _ => names.push(piece.into()),
        }
    }
    names
}

fn paging(name: &str) -> Result<Paging, Failure> {
    name.parse().map_err(|how| Failure::own(format!("unknown policy '{name}': {how}")))
}

/// Pages; `None`: no limit.
fn memory(name: &str) -> Result<Option<u32>, Failure> {
    if name == "none" {
        return Ok(None);
    }
    let bytes = size::parse(name).map_err(|why| Failure::own(format!("{why}, or none for no limit")))?;
    let most = u64::from(NO_LIMIT) * PAGE_SIZE as u64;
    if !(LEAST_MEMORY..=most).contains(&bytes) {
        return Err(Failure::own(format!(
            "memory of {} can't be replayed with: use {} to {}, or none for no limit",
            size::human(bytes),
            size::human(LEAST_MEMORY),
            size::human(most)
        )));
    }
    Ok(Some((bytes / PAGE_SIZE as u64) as u32))
}

/// In ns.
fn epoch(text: &str) -> Result<u64, Failure> {
    let ms = text.parse::<u64>().ok().filter(|ms| *ms <= MOST_EPOCH);
    ms.map(|ms| ms * 1_000_000).ok_or_else(|| {
        Failure::own(format!("'{text}' is no epoch: write a number of ms up to {MOST_EPOCH}, or 0 for never"))
    })
}

/// 0 to 100.
fn percent(name: &str) -> Result<u8, Failure> {
    name.parse().ok().filter(|percent| *percent <= 100).ok_or_else(|| {
        Failure::own(format!("'{name}' is no share of memory that is fragmented: use 0 to 100, in percent"))
    })
}

fn tlb(name: &str) -> Result<Model, Failure> {
    name.parse().map_err(|why| Failure::own(format!("unknown TLB '{name}': {why}")))
}

fn costs(path: Option<&Path>) -> Result<Costs, Failure> {
    let Some(path) = path else { return Ok(Costs::default()) };
    let failed = |why: String| Failure::own(format!("{}: {why}", path.display()));
    let text = fs::read_to_string(path)
        .map_err(|error| failed(format!("{error}; make one with quire replay --calibrate FILE")))?;
    Costs::parse(&text).map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_item_by_item() {
        let memories = list("64M, none", memory).unwrap();
        assert_eq!(memories, [("64M".into(), Some(16384)), ("none".into(), None)]);
        for (text, word) in
            [("64M,64M", "twice"), ("64M,", "unknown size"), ("4K", "1 MiB"), ("1T", "64 GiB")]
        {
            let said = list(text, memory).unwrap_err().message;
            assert!(said.contains(word) && !said.contains('\n'), "{said}");
        }
        assert_eq!(list("0,90", percent).unwrap(), [("0".into(), 0), ("90".into(), 90)]);
        assert_eq!((epoch("0"), epoch("10")), (Ok(0), Ok(10_000_000)));
        for text in ["-1", "", "1s", "86400001", "99999999999999999999"] {
            assert!(epoch(text).unwrap_err().message.contains(text));
        }
        assert!(list("50,101", percent).unwrap_err().message.contains("'101'"));
        assert!(list("zen3,zen4", tlb).unwrap_err().message.contains("neoverse-n1"));
        assert!(list("adaptive,fixed:3K", paging).unwrap_err().message.contains("fixed:3K"));
    }
}
