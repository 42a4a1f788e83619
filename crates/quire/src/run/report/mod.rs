//! The report: what was seen, as one structure that is printed for people or for programs.

mod profile;
mod text;

use super::Settings;
use super::migrations::Moved;
use super::over;
use super::peak::Peak;
use super::spill::Spill;
use crate::cli::Form;
use crate::failure::{End, Failure};
use profile::Profile;
use quire_linux::control::build_id::BUILD_ID;
use quire_linux::control::counters::{ORDERS, REASONS, REFUSALS, SHORTFALLS, Totals};
use quire_linux::control::latency;
use quire_linux::control::outside::Outside;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Bytes in a page.
const PAGE: u64 = 4096;

/// The sizes of the orders, as they are printed.
pub(crate) const SIZES: [&str; ORDERS] =
    ["4K", "8K", "16K", "32K", "64K", "128K", "256K", "512K", "1M", "2M"];

/// What a run came to.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) end: End,
    /// From the program's start to its own end.
    pub(crate) seconds: f64,
    /// Processes that joined.
    pub(crate) managed: u64,
    /// Those among them that were forked without exec.
    pub(crate) forked: u64,
    /// Processes that joined asleep, and those of them that were woken.
    pub(crate) slept: (u64, u64),
    /// Processes that asked to join and were refused.
    pub(crate) refused: u64,
    /// Processes that ran outside the budget, as far as they were seen, by cause.
    pub(crate) outside: BTreeMap<Outside, u64>,
    /// The most of the budget that was taken, in bytes.
    pub(crate) peak_granted: u64,
    pub(crate) peak: Peak,
    /// How often threads were moved to another processor, as far as a profile was asked for and the kernel tells.
    pub(crate) moved: Option<Moved>,
    pub(crate) totals: Totals,
}

/// Where the report goes, and in which form.
#[derive(Debug)]
pub(crate) struct Target {
    form: Form,
    file: Option<(File, PathBuf)>,
    quiet: bool,
}

impl Target {
    /// Opens the file, before the program runs for hours in vain.
    pub(crate) fn open(form: Form, path: Option<&Path>, quiet: bool) -> Result<Target, Failure> {
        let file = match path {
            None => None,
            Some(path) => {
                Some((File::create(path).map_err(|error| unwritable(path, &error))?, path.to_owned()))
            }
        };
        Ok(Target { form, file, quiet })
    }

    /// Writes the report: to the file, or to stderr unless all is to be quiet.
    pub(crate) fn write(mut self, settings: &Settings, outcome: &Outcome) -> Result<(), Failure> {
        let report = Report::new(settings, outcome);
        let text = match self.form {
            Form::Short => text::short(&report),
            Form::Table => text::table(&report),
            Form::Json => {
                serde_json::to_string_pretty(&report).expect("a report has only strings for keys") + "\n"
            }
        };
        match &mut self.file {
            Some((file, path)) => file.write_all(text.as_bytes()).map_err(|error| unwritable(path, &error)),
            None if self.quiet => Ok(()),
            None => {
                // The program's status matters more than a closed stderr.
                let _ = io::stderr().write_all(text.as_bytes());
                Ok(())
            }
        }
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::own(format!(
        "the report can't be written to {}: {error}; name another file with -o",
        path.display()
    ))
}

/// Counts by order or by reason.
type Table = BTreeMap<&'static str, u64>;

/// The report. `docs/report.md` says what each field means; names end in their unit.
#[derive(Serialize, Clone, PartialEq, Debug)]
struct Report {
    version: u32,
    build: &'static str,
    program: Vec<String>,
    /// `{"status": 0}` or `{"signal": 9}`.
    end: Table,
    seconds: f64,
    budget_bytes: Option<u64>,
    policy: String,
    spill_directory: Option<String>,
    no_spill_because: Option<String>,
    processes: Processes,
    memory: Memory,
    folios: Folios,
    faults: Faults,
    eviction: Eviction,
    refusals: Table,
    shortfalls: Table,
    troubles: Troubles,
    profile: Option<Profile>,
}

#[derive(Serialize, Clone, PartialEq, Debug)]
struct Processes {
    managed: u64,
    forked: u64,
    slept: u64,
    woken: u64,
    unmanaged: u64,
    unmanaged_because: Table,
    excluded: u64,
    refused: u64,
}

impl Processes {
    fn new(outcome: &Outcome) -> Processes {
        let mut because: Table =
            outcome.outside.iter().map(|(cause, count)| (cause.name(), *count)).collect();
        let excluded = because.remove(Outside::Excluded.name()).unwrap_or(0);
        Processes {
            managed: outcome.managed,
            forked: outcome.forked,
            slept: outcome.slept.0,
            woken: outcome.slept.1,
            unmanaged: because.values().sum(),
            unmanaged_because: because,
            excluded,
            refused: outcome.refused,
        }
    }
}

#[derive(Serialize, Clone, PartialEq, Debug)]
struct Memory {
    peak_resident_bytes: u64,
    peak_managed_bytes: u64,
    peak_unmanaged_bytes: u64,
    managed_share: Option<f64>,
    over_budget: bool,
    peak_granted_bytes: u64,
    peak_over_grant_bytes: u64,
    peak_store_bytes: u64,
    peak_table_bytes: u64,
}

#[derive(Serialize, Clone, PartialEq, Debug)]
struct Folios {
    adopted_pages: u64,
    fills: BySize,
    swap_ins: BySize,
    rescues: BySize,
    evictions: BySize,
    swap_outs: BySize,
    splits: u64,
    sparse: u64,
    sparse_given_back_bytes: u64,
    collapses: BySize,
}

#[derive(Serialize, Clone, PartialEq, Debug)]
struct Faults {
    count: u64,
    p50_ns: Option<u64>,
    p99_ns: Option<u64>,
    time_ns: u64,
    waits: u64,
    wait_ns: u64,
    wait_max_ns: u64,
    late: u64,
    joined: u64,
}

#[derive(Serialize, Clone, PartialEq, Debug)]
struct Eviction {
    evicted_behind_pages: u64,
    evicted_in_fault_pages: u64,
    stored_pages: u64,
    compressed_in_bytes: u64,
    compressed_out_bytes: u64,
    compression_ratio: Option<f64>,
    unchanged_pages: u64,
    zero_pages: u64,
    spilled_pages: u64,
    spilled_bytes: u64,
    spill_read_pages: u64,
    peak_spill_bytes: u64,
}

#[derive(Serialize, Clone, PartialEq, Debug)]
struct Troubles {
    checksum_errors: u64,
    spill_errors: u64,
    other_errors: u64,
    jobs_voided: u64,
    foreign_pages: u64,
    unstorable_folios: u64,
}

/// Counts by order, from the smallest up.
#[derive(Clone, Copy, PartialEq, Debug)]
struct BySize([u64; ORDERS]);

impl BySize {
    /// Of all folios together.
    fn bytes(&self) -> u64 {
        self.0.iter().zip(0..).map(|(count, order)| (count * PAGE) << order).sum()
    }
}

impl Serialize for BySize {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(SIZES.iter().zip(self.0))
    }
}

impl Report {
    fn new(settings: &Settings, outcome: &Outcome) -> Report {
        let totals = &outcome.totals;
        let (spill_directory, no_spill_because) = match &settings.spill {
            Spill::To(directory) => (Some(directory.display().to_string()), None),
            Spill::Nowhere(why) => (None, Some(why.clone())),
        };
        Report {
            version: 1,
            build: BUILD_ID,
            program: settings.words.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
            end: match outcome.end {
                End::Status(status) => Table::from([("status", status.into())]),
                End::Signal(signal) => Table::from([("signal", signal.unsigned_abs().into())]),
            },
            seconds: (outcome.seconds * 1e6).round() / 1e6,
            budget_bytes: settings.budget,
            policy: settings.policy.as_str().into(),
            spill_directory,
            no_spill_because,
            processes: Processes::new(outcome),
            memory: Memory::new(settings, outcome),
            folios: Folios::new(totals),
            faults: Faults::new(totals),
            eviction: Eviction::new(outcome),
            refusals: by_reason(&REFUSALS, &totals.refusals),
            shortfalls: by_reason(&SHORTFALLS, &totals.shortfalls),
            troubles: Troubles::new(totals),
            profile: settings.profile.then(|| Profile::new(totals, outcome.moved)),
        }
    }
}

impl Memory {
    fn new(settings: &Settings, outcome: &Outcome) -> Memory {
        let (peak, totals) = (&outcome.peak, &outcome.totals);
        // A program that ended between two samples shows in what it counted itself.
        let counted = totals.peak_managed_bytes;
        let (resident, managed) =
            if counted > peak.resident { (counted, counted) } else { (peak.resident, peak.managed) };
        Memory {
            peak_resident_bytes: resident,
            peak_managed_bytes: managed,
            peak_unmanaged_bytes: resident - managed,
            managed_share: ratio(managed, resident),
            over_budget: settings.budget.is_some_and(|budget| resident > over::limit(budget)),
            peak_granted_bytes: outcome.peak_granted,
            peak_over_grant_bytes: totals.over_grant_pages * PAGE,
            peak_store_bytes: peak.store.max(totals.peak_store_bytes),
            peak_table_bytes: peak.tables.max(totals.peak_table_bytes),
        }
    }
}

impl Folios {
    fn new(totals: &Totals) -> Folios {
        Folios {
            adopted_pages: totals.adopted_pages,
            fills: BySize(totals.fills),
            swap_ins: BySize(totals.swap_ins),
            rescues: BySize(totals.rescues),
            evictions: BySize(totals.evictions),
            swap_outs: BySize(totals.swap_outs),
            splits: totals.splits,
            sparse: totals.sparse_folios,
            sparse_given_back_bytes: totals.sparse_pages * PAGE,
            collapses: BySize(totals.collapses),
        }
    }
}

impl Faults {
    fn new(totals: &Totals) -> Faults {
        Faults {
            count: totals.faults(),
            p50_ns: latency::percentile(&totals.latency, 500),
            p99_ns: latency::percentile(&totals.latency, 990),
            time_ns: latency::sum(&totals.latency),
            waits: totals.waits,
            wait_ns: totals.wait_ns,
            wait_max_ns: totals.wait_max_ns,
            late: totals.late_faults,
            joined: totals.joined_faults,
        }
    }
}

impl Eviction {
    fn new(outcome: &Outcome) -> Eviction {
        let totals = &outcome.totals;
        Eviction {
            evicted_behind_pages: totals.evicted_behind_pages,
            evicted_in_fault_pages: totals.evicted_in_fault_pages,
            stored_pages: totals.stored_pages,
            compressed_in_bytes: totals.compressed_in_bytes,
            compressed_out_bytes: totals.compressed_out_bytes,
            compression_ratio: ratio(totals.compressed_in_bytes, totals.compressed_out_bytes),
            unchanged_pages: totals.unchanged_pages,
            zero_pages: totals.zero_pages,
            spilled_pages: totals.spilled_pages,
            spilled_bytes: totals.spilled_bytes,
            spill_read_pages: totals.spill_read_pages,
            peak_spill_bytes: outcome.peak.spill.max(totals.peak_spill_bytes),
        }
    }
}

impl Troubles {
    fn new(totals: &Totals) -> Troubles {
        Troubles {
            checksum_errors: totals.checksum_errors,
            spill_errors: totals.spill_errors,
            other_errors: totals.errors,
            jobs_voided: totals.jobs_voided,
            foreign_pages: totals.foreign_pages,
            unstorable_folios: totals.unstorable_folios,
        }
    }
}

/// The reasons that occurred.
fn by_reason(names: &[&'static str], counts: &[u64; REASONS]) -> Table {
    names.iter().zip(counts).filter(|(_, count)| **count > 0).map(|(name, count)| (*name, *count)).collect()
}

/// A quotient with three digits behind the point.
fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| (part as f64 / whole as f64 * 1000.0).round() / 1000.0)
}

#[cfg(test)]
mod tests;
