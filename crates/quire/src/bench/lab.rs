//! Where the runs of a workload are made: on this machine, in places that [`Host`] hands out.

use super::host::Host;
use super::host::machine::Steal;
use super::host::swap::Swap;
use super::model::{Profile, Side};
use super::progress::Progress;
use super::rounds::{Lab, Sample, Trouble};
use super::run::{Place, Program, Run, Running, Stop, run};
use super::workload::{Driven, Job, Load, Workload};
use crate::failure::Failure;
use crate::files;
use serde_json::Value as Json;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

/// How Quire's runs are made, for all workloads.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Options {
    /// None is named, so that processes sleep while there is memory enough.
    pub(super) policy: Option<String>,
    pub(super) awake: bool,
    pub(super) no_spill: bool,
}

impl Options {
    /// `quire run` up to its program, with the `-m` of a run; `temporary` is where it spills to.
    fn command(
        &self,
        quire: &Path,
        temporary: &Path,
        bytes: Option<u64>,
        more: &[OsString],
    ) -> Vec<OsString> {
        let mut argv: Vec<OsString> = vec![quire.into(), "run".into(), "-q".into()];
        if let Some(bytes) = bytes {
            argv.extend(["-m".into(), format!("{}K", bytes / 1024).into()]);
        }
        if let Some(policy) = &self.policy {
            argv.extend(["--policy".into(), policy.into()]);
        }
        argv.extend(self.awake.then(|| "--awake".into()));
        match self.no_spill {
            true => argv.push("--no-spill".into()),
            false => argv.extend(["--swap-dir".into(), temporary.into()]),
        }
        argv.extend_from_slice(more);
        argv.push("--".into());
        argv
    }
}

/// This machine, for one workload.
#[derive(Debug)]
pub(super) struct Machine<'a> {
    pub(super) host: &'a Host,
    pub(super) swap: Option<&'a Swap>,
    pub(super) workload: &'a Workload,
    pub(super) job: Job,
    pub(super) options: &'a Options,
    pub(super) progress: &'a mut Progress,
    pub(super) steal: Option<Steal>,
}

impl Lab for Machine<'_> {
    fn run(&mut self, side: Side, bytes: Option<u64>) -> Result<Sample, Trouble> {
        self.progress.running(&self.workload.name, &bytes.map_or(String::new(), crate::size::human), side);
        let sample = self.sample(side, bytes, &[]);
        self.progress.ended();
        sample
    }

    fn profile(&mut self, bytes: Option<u64>) -> Result<Profile, Trouble> {
        let directory = self.host.directory().map_err(failed)?;
        let path = directory.path().join("report.json");
        let more = ["--profile".into(), "--json".into(), "-o".into(), path.clone().into()];
        self.sample(Side::Quire, bytes, &more)?;
        profile_of(&path).map_err(|problem| Trouble::Failed(format!("its report can't be read: {problem}")))
    }

    fn steal(&mut self) -> f64 {
        let now = Steal::look();
        let share = self.steal.take().zip(now).map_or(0.0, |(earlier, now)| now.since(earlier));
        self.steal = now;
        share
    }

    fn tell(&mut self, line: &str) {
        self.progress.clear();
        files::say(format_args!("{line}"));
    }

    fn more_runs(&mut self, runs: usize) {
        self.progress.add(runs);
    }
}

impl Machine<'_> {
    /// One run; `more` are options of `quire run`.
    fn sample(&self, side: Side, bytes: Option<u64>, more: &[OsString]) -> Result<Sample, Trouble> {
        let program = Program {
            argv: self.argv(side, bytes, more),
            stdin: self.job.stdin.clone(),
            environment: self.job.env.clone(),
            directory: Some(self.job.cwd.clone()),
            timeout: self.job.timeout,
        };
        let place = match side {
            Side::Kernel => Place { limit: bytes, swap: self.swap, thp: false },
            Side::Native | Side::Quire => Place { limit: None, swap: None, thp: true },
        };
        let mut driven = Ok(None);
        let run = match &self.job.driver {
            None => run(self.host, place, &program, None),
            Some(load) => {
                run(self.host, place, &program, Some(&mut |running| drive(load, running, &mut driven)))
            }
        };
        let run = run.map_err(|stop| match stop {
            Stop::Interrupted(signal) => Trouble::Interrupted(signal),
            Stop::Failed(failure) => failed(failure),
        })?;
        if side == Side::Kernel && run.was_killed() {
            return Err(Trouble::Killed);
        }
        if !run.succeeded() {
            return Err(Trouble::Failed(format!("{}: {}", side_name(side), end_of(&run))));
        }
        let driven = driven.map_err(Trouble::Failed)?;
        let judged = self.workload.judge(&run.output, run.seconds, driven.as_ref());
        let (answer, values) = judged.map_err(Trouble::Failed)?;
        let peak = if side == Side::Native { run.peak_anonymous } else { run.peak_less_cache };
        let (anonymous, pool) = (run.peak_anonymous, run.peak_swap);
        Ok(Sample { seconds: run.seconds, values, answer, peak, anonymous, pool })
    }

    /// The command line of a side.
    fn argv(&self, side: Side, bytes: Option<u64>, more: &[OsString]) -> Vec<OsString> {
        if side != Side::Quire {
            return self.job.argv.clone();
        }
        let quire = self.options.command(self.host.quire(), self.host.temporary(), bytes, more);
        self.job.under(quire)
    }
}

/// What clients found. Where they failed since the program was killed, that is not the news: so the run is not given up
/// for it, but ended.
fn drive(load: &Load, running: &Running, driven: &mut Result<Option<Driven>, String>) -> Result<(), Failure> {
    *driven = load.drive(&|| running.is_over()).map(Some);
    if driven.is_err() {
        running.terminate();
    }
    Ok(())
}

fn failed(failure: Failure) -> Trouble {
    Trouble::Failed(failure.message)
}

fn side_name(side: Side) -> &'static str {
    match side {
        Side::Native => "natively",
        Side::Kernel => "with the kernel's swap",
        Side::Quire => "under Quire",
    }
}

/// How a run ended that did not succeed.
fn end_of(run: &Run) -> String {
    let how = match (run.timed_out, run.status, run.signal) {
        (true, ..) => format!("it was not over after {:.0} s", run.seconds),
        (_, Some(status), _) => format!("it ended with status {status}"),
        (_, _, Some(signal)) => format!("signal {signal} ended it"),
        _ => "it ended".into(),
    };
    match run.stderr.trim().lines().last() {
        Some(line) => format!("{how}; its last words: {line}"),
        None => how,
    }
}

/// The profile in a report of `quire run`.
fn profile_of(path: &Path) -> Result<Profile, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let report: Json = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    profile_in(&report["profile"]).ok_or_else(|| "it has no profile".into())
}

fn profile_in(profile: &Json) -> Option<Profile> {
    let faults = profile["faults"].as_u64()?;
    let each = |count: f64| count / faults.max(1) as f64;
    let mean = |part: &Json| each(part["total_ns"].as_f64().unwrap_or(0.0));
    let mut phases: Vec<(String, f64)> =
        profile["phases"].as_object()?.iter().map(|(name, phase)| (name.clone(), mean(phase))).collect();
    phases.push(("other".into(), mean(&profile["other"])));
    let calls = profile["calls"].as_object()?.iter();
    let reads = profile["disk_reads"].as_f64()?;
    let moved = |who: &str| profile["migrations"][who].as_f64().unwrap_or(0.0);
    Some(Profile {
        faults,
        phases,
        calls: calls.map(|(name, count)| (name.clone(), each(count.as_f64().unwrap_or(0.0)))).collect(),
        migrations: each(moved("pager") + moved("program")),
        disk_reads: each(reads),
        disk_read_bytes: profile["disk_read_bytes"].as_f64()? / reads.max(1.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A policy that is named, `adaptive` too, would have processes managed from the start: that is not what users get.
    #[test]
    fn nothing_is_passed_to_quire_run_that_was_not_asked_for() {
        let command = |options: &Options, bytes, more: &[&str]| {
            let more: Vec<OsString> = more.iter().map(OsString::from).collect();
            let words = options.command("/q".as_ref(), "/tmp".as_ref(), bytes, &more);
            words.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
        };
        let plain = Options::default();
        assert_eq!(command(&plain, None, &[]), "/q run -q --swap-dir /tmp --");
        assert_eq!(command(&plain, Some(32 << 20), &[]), "/q run -q -m 32768K --swap-dir /tmp --");
        let all = Options { policy: Some("fixed:4K".into()), awake: true, no_spill: true };
        let line = "/q run -q -m 16384K --policy fixed:4K --awake --no-spill --profile --";
        assert_eq!(command(&all, Some(16 << 20), &["--profile"]), line);
    }

    #[test]
    fn a_profile_is_by_faults() {
        let profile = profile_in(&json!({
            "faults": 4, "phases": {"read": {"total_ns": 8000}, "wait": {"total_ns": 0}}, "other": {"total_ns": 400},
            "calls": {"pread": 2, "ioctl MOVE": 8}, "migrations": {"pager": 3, "program": null},
            "disk_reads": 2, "disk_read_bytes": 16384
        }));
        let profile = profile.unwrap();
        assert_eq!(profile.phases, [("read".into(), 2000.0), ("wait".into(), 0.0), ("other".into(), 100.0)]);
        assert_eq!(profile.calls, [("ioctl MOVE".into(), 2.0), ("pread".into(), 0.5)]);
        assert_eq!((profile.migrations, profile.disk_reads, profile.disk_read_bytes), (0.75, 0.5, 8192.0));
        assert_eq!(profile_in(&Json::Null), None);
    }
}
