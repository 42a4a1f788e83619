//! The programs that are measured: what they need, their inputs, and what a run of theirs says.

mod answer;
mod catalogue;
mod inputs;
mod needs;
mod redis;

pub(crate) use answer::{Answer, Measure};
pub(crate) use catalogue::{catalogue, custom, starts};
pub(crate) use needs::Need;
pub(crate) use redis::{Driven, Load};

use crate::bench::model::LeftOut;
use crate::failure::Failure;
use inputs::Inputs;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A program with its input.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) name: String,
    /// What it does, in a few words.
    pub(crate) what: &'static str,
    pub(crate) needs: &'static [Need],
    program: Program,
    answer: Answer,
    measure: Measure,
}

/// What prepares a run.
#[derive(Clone, Debug)]
enum Program {
    /// One of the catalogue.
    Known(fn(Inputs<'_>) -> Result<Job, Failure>),
    /// What stands after `--`.
    Custom(Vec<OsString>),
}

/// A command that can be run again and again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Job {
    /// The program, and its arguments.
    pub(crate) argv: Vec<OsString>,
    /// So many words of it stay in front where Quire runs the rest.
    outside: usize,
    /// What it reads; else there is nothing to read.
    pub(crate) stdin: Option<PathBuf>,
    /// Besides what the bench has itself.
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) cwd: PathBuf,
    /// After so long it counts as hung.
    pub(crate) timeout: Duration,
    /// What must be driven from outside while it runs, and then ends by itself.
    pub(crate) driver: Option<Load>,
}

/// The longest run, natively a few seconds, and at the least memory.
const TIMEOUT: Duration = Duration::from_secs(900);
const SMALL_TIMEOUT: Duration = Duration::from_secs(400);

impl Workload {
    /// Why it can't be run here: what of its needs is not installed.
    pub(crate) fn missing(&self) -> Option<LeftOut> {
        let missing: Vec<String> = self.needs.iter().filter_map(Need::missing).collect();
        (!missing.is_empty()).then(|| LeftOut { workload: self.name.clone(), why: missing.join("; ") })
    }

    /// Makes the inputs in a directory that is there, where earlier ones aren't left, and says what to run. The small form
    /// has a quarter of the data, or less.
    pub(crate) fn prepare(&self, directory: &Path, small: bool) -> Result<Job, Failure> {
        match &self.program {
            Program::Known(prepare) => prepare(Inputs { directory, small }),
            Program::Custom(argv) => catalogue::as_it_is(argv),
        }
    }
}

impl Job {
    /// The command line by which Quire runs it; `quire` is the one that a program follows.
    pub(crate) fn under(&self, quire: Vec<OsString>) -> Vec<OsString> {
        let (outside, inside) = self.argv.split_at(self.outside);
        [outside, &quire, inside].concat()
    }

    /// A command that runs in the directory of the inputs.
    fn new(inputs: Inputs<'_>, argv: Vec<OsString>) -> Job {
        let timeout = if inputs.small { SMALL_TIMEOUT } else { TIMEOUT };
        Job {
            argv,
            outside: 0,
            stdin: None,
            env: Vec::new(),
            cwd: inputs.directory.into(),
            timeout,
            driver: None,
        }
    }
}
