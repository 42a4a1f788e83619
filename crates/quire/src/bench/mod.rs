//! `quire bench`: what this machine does natively, with the kernel's swap, and with Quire, at equal RAM.
//!
//! * [`workload`]: the programs that are measured, and `touch`, the one of our own;
//! * [`host`]: what is changed of the machine, and how it is put back;
//! * [`run`]: one run in its place; [`rounds`]: the order of runs; [`equal_ram`]: as much memory for Quire as the kernel had;
//! * [`lab`]: runs of a workload on this machine;
//! * [`model`]: what comes of it; [`figures`], `table`, `json`, `html`: how that is shown.

mod day;
mod equal_ram;
#[cfg(test)]
mod example;
mod figures;
mod host;
mod html;
mod json;
mod lab;
mod model;
mod progress;
mod rounds;
mod run;
mod table;
pub(crate) mod touch;
mod workload;

pub(crate) use html::page;
pub(crate) use json::text as json;
pub(crate) use model::Results;
pub(crate) use rounds::Amount;
pub(crate) use table::text as table;
pub(crate) use workload::{Workload, custom};

use crate::failure::Failure;
use crate::files::say;
use crate::size::MIB;
use host::Host;
use host::swap::Swap;
use lab::{Machine, Options};
use model::LeftOut;
use progress::Progress;
use rounds::{Plan, Trouble};
use std::path::PathBuf;

/// The form of `--json`.
const VERSION: u32 = 1;

/// What the kernel swaps to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Against {
    Zram,
    Disk,
    /// Nothing: there is memory enough.
    Nothing,
}

/// What is to be measured.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) workloads: Vec<Workload>,
    pub(crate) against: Against,
    pub(crate) amounts: Vec<Amount>,
    pub(crate) rounds: usize,
    /// How often a noisy round is measured again.
    pub(crate) repeats: usize,
    pub(crate) small: bool,
    pub(crate) profile: bool,
    /// Quire's `--policy`; none: what `quire run` does by itself.
    pub(crate) policy: Option<String>,
    pub(crate) awake: bool,
    pub(crate) no_spill: bool,
    pub(crate) quiet: bool,
    /// Where inputs are made and kept; none: in a directory that goes away.
    pub(crate) inputs: Option<PathBuf>,
    /// The command line.
    pub(crate) command: Vec<String>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) results: Results,
    /// Workloads that failed, each with its reason; and what does not add up.
    pub(crate) problems: Vec<String>,
    /// The signal that asked to end before all was measured.
    pub(crate) interrupted: Option<i32>,
}

/// A name for results of today on this machine: `2026-11-29-amd-epyc-9r14`.
pub(crate) fn place_name() -> String {
    let words = host::machine::describe(String::new()).processor.to_lowercase();
    let words: Vec<&str> =
        words.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    format!("{}-{}", day::today(), words.join("-"))
}

/// All workloads of the catalogue, those for a machine with memory enough too.
pub(crate) fn catalogue() -> Vec<Workload> {
    workload::catalogue().into_iter().chain(workload::starts()).collect()
}

/// The workloads that are measured where none is named.
pub(crate) fn usual(plenty: bool) -> Vec<Workload> {
    if plenty { catalogue() } else { workload::catalogue() }
}

/// Measures all of it. `Err` where nothing could be measured.
pub(crate) fn measure(settings: &Settings) -> Result<Done, Failure> {
    let (host, swept) = Host::open()?;
    if !settings.quiet {
        swept.iter().for_each(|line| say(format_args!("{line}")));
    }
    let (swap, described) = swap(&host, settings);
    let kernel = swap.is_some();
    if !kernel && settings.against != Against::Nothing && !settings.quiet {
        say(format_args!("warning: the kernel's swap is not measured: {described}"));
    }
    let plan = Plan {
        rounds: settings.rounds,
        repeats: settings.repeats,
        amounts: settings.amounts.clone(),
        kernel,
        pool_is_memory: settings.against == Against::Zram,
        profile: settings.profile,
    };
    let mut done = Done {
        results: Results {
            version: VERSION,
            date: day::today(),
            command: settings.command.clone(),
            machine: host::machine::describe(described),
            outcomes: vec![],
            left_out: vec![],
        },
        problems: vec![],
        interrupted: None,
    };
    let directory = host.directory()?;
    let inputs = settings.inputs.as_deref().unwrap_or(directory.path());
    let mut progress = Progress::new(0, settings.quiet);
    let (present, absent): (Vec<&Workload>, Vec<&Workload>) =
        settings.workloads.iter().partition(|workload| workload.missing().is_none());
    done.results.left_out.extend(absent.iter().filter_map(|workload| workload.missing()));
    let options =
        Options { policy: settings.policy.clone(), awake: settings.awake, no_spill: settings.no_spill };
    for (number, workload) in present.iter().enumerate() {
        progress.left((present.len() - number) * plan.runs());
        let job = workload.prepare(inputs, settings.small)?;
        let (host, swap, options, progress) = (&host, swap.as_ref(), &options, &mut progress);
        let mut machine = Machine { host, swap, workload, job, options, progress, steal: None };
        match rounds::measure(&mut machine, &plan, &workload.name, workload.what) {
            Ok(outcome) => done.results.outcomes.push(outcome),
            Err(Trouble::Interrupted(signal)) => {
                done.interrupted = Some(signal);
                break;
            }
            Err(Trouble::Killed) => done.fail(workload, "the kernel killed it, though it had no limit"),
            Err(Trouble::Failed(why)) => done.fail(workload, &why),
        }
    }
    done.problems.extend(figures::adds_up(&done.results));
    Ok(done)
}

impl Done {
    /// A workload has no figures, and that is a failure of the whole.
    fn fail(&mut self, workload: &Workload, why: &str) {
        self.problems.push(format!("{}: {why}", workload.name));
        self.results.left_out.push(LeftOut { workload: workload.name.clone(), why: why.into() });
    }
}

/// The kernel's swap, and what to call it; or why there is none.
fn swap(host: &Host, settings: &Settings) -> (Option<Swap>, String) {
    if let Some(why) = host.without_cgroups() {
        return (None, why.into());
    }
    let bytes = if settings.small { 1024 * MIB } else { 4096 * MIB };
    let swap = match settings.against {
        Against::Nothing => return (None, "not compared with".into()),
        Against::Zram => host.zram(bytes),
        Against::Disk => host.swap_file(host.temporary(), bytes),
    };
    match swap {
        Ok(swap) => {
            let described = swap.describe();
            (Some(swap), described)
        }
        Err(failure) => (None, failure.message),
    }
}
