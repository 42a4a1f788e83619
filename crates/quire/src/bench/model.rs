//! What a bench finds out, as plain values: whoever measures writes them, whoever shows them reads them.

use serde::Serialize;

/// Where a program runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Side {
    /// As users run it, with all the memory it wants.
    Native,
    /// In a cgroup with a limit, and swap of the kernel's.
    Kernel,
    /// Under `quire run -m`, in a cgroup without swap.
    Quire,
}

/// What a value counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Unit {
    /// Of a whole run, or a part of it.
    Seconds,
    /// Microseconds for each page or access.
    UsPerPage,
    /// Milliseconds for each start or exec.
    Milliseconds,
    /// Of memory, at the peak.
    Bytes,
}

/// One value that a run yields. Less is better.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Value {
    /// `time`, `peak`, or the name of a phase: `fill`, `scan`, `random` ..
    pub(crate) metric: String,
    pub(crate) unit: Unit,
    pub(crate) value: f64,
}

/// A metric over all rounds. The three lists are as long as there were rounds, or empty where a side was not measured;
/// values at the same place come from the same round.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Row {
    pub(crate) metric: String,
    pub(crate) unit: Unit,
    pub(crate) native: Vec<f64>,
    pub(crate) kernel: Vec<f64>,
    pub(crate) quire: Vec<f64>,
}

/// One amount of memory for a workload.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Level {
    /// `0.7 of the peak`, `-m 1.5 of the peak`, `no -m` ..
    pub(crate) name: String,
    /// The kernel's limit L in bytes; none without a kernel's run.
    pub(crate) limit_bytes: Option<u64>,
    /// The most that zram's pool or the swap file took, in bytes, by rounds. Only zram's is memory.
    pub(crate) pool_bytes: Vec<u64>,
    /// `-m`, by rounds; empty without.
    pub(crate) budget_bytes: Vec<u64>,
    /// The peak of the cgroup less file cache while Quire ran, by rounds.
    pub(crate) quire_peak_bytes: Vec<u64>,
    /// Why there is no row, or not all sides: `killed for want of memory even at 412 MiB`. Empty where all is well.
    pub(crate) problem: String,
    pub(crate) rows: Vec<Row>,
    /// With `--profile`: of a run of Quire's after the rounds, whose time counts in no row.
    pub(crate) profile: Option<Profile>,
}

impl Level {
    /// Of which nothing is known yet.
    pub(crate) fn named(name: String) -> Level {
        Level {
            name,
            limit_bytes: None,
            pool_bytes: vec![],
            budget_bytes: vec![],
            quire_peak_bytes: vec![],
            problem: String::new(),
            rows: vec![],
            profile: None,
        }
    }
}

/// One program, at all amounts of memory.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Outcome {
    pub(crate) workload: String,
    /// What it does, in a few words.
    pub(crate) what: String,
    /// The most anonymous memory of a native run, in bytes.
    pub(crate) native_peak_bytes: u64,
    /// Second native time by the first, by rounds: what this machine's noise is.
    pub(crate) control: Vec<f64>,
    /// Rounds that were measured again, each with its reason.
    pub(crate) repeated: Vec<String>,
    pub(crate) levels: Vec<Level>,
}

/// A workload that was not measured.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct LeftOut {
    pub(crate) workload: String,
    /// `redis-server is not installed (apt-get install redis-server)`
    pub(crate) why: String,
}

/// Where it was measured.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) processors: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) kernel: String,
    /// `zram (lz4)`, `a file on /var/tmp (ext4)`, or why there was none.
    pub(crate) swap: String,
    /// The version of `quire`, and of its build.
    pub(crate) quire: String,
}

/// All of it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Results {
    /// Of this form.
    pub(crate) version: u32,
    /// The day, as 2026-11-29.
    pub(crate) date: String,
    /// The command line.
    pub(crate) command: Vec<String>,
    pub(crate) machine: Machine,
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) left_out: Vec<LeftOut>,
}

/// Where the time of faults went, with `--profile`: means over all faults that Quire answered.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Profile {
    pub(crate) faults: u64,
    /// Name of the phase (`wait`, `lock`, `decide`, `read`, `decompress`, `place`, `wake`, `evict`) and ns of a fault.
    pub(crate) phases: Vec<(String, f64)>,
    /// Of the pager's threads, for each fault, by name (`ioctl`, `read`, `pread` ..).
    pub(crate) calls: Vec<(String, f64)>,
    /// How often a thread that faulted or answered was moved to another processor, for each fault.
    pub(crate) migrations: f64,
    /// Reads of the spill file for each fault, and bytes of each.
    pub(crate) disk_reads: f64,
    pub(crate) disk_read_bytes: f64,
}
