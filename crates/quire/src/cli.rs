//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

/// Runs programs on folios of flexible order, inside a memory budget, without swap.
#[derive(Parser, Debug)]
#[command(name = "quire", version = crate::VERSION, disable_help_subcommand = true, arg_required_else_help = false)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// Run a program, unmodified, on memory that Quire manages
    #[command(override_usage = "quire run [OPTIONS] -- PROGRAM [ARGS]...", after_help = STATUS)]
    Run(Run),
    /// Run a trace through the engine on a modelled machine, and compare
    #[command(after_help = REPLAY)]
    Replay(Replay),
    /// Compare: natively, with the kernel's swap, under Quire, at equal memory
    #[command(override_usage = "quire bench [OPTIONS] [WORKLOAD]... [-- PROGRAM [ARGS]...]", after_help = BENCH)]
    Bench(Bench),
    /// Say what this machine allows, and what mends the rest
    #[command(after_help = DOCTOR)]
    Doctor {
        /// Print what was tried and seen as JSON
        #[arg(long)]
        json: bool,
    },
    /// Touch memory in ways that are known to hurt, check it, and print what that took
    #[command(hide = true)]
    Touch(Touch),
    /// Say what the watchdogs of the processes of a running `quire run` know
    #[command(hide = true)]
    Watchdogs {
        /// The process id of that quire
        #[arg(value_name = "PID")]
        pid: u32,
    },
    /// Become a program in a cgroup, in a session of its own; it ends when who started it does
    #[command(hide = true)]
    Enter(Enter),
}

/// The options of `quire enter`.
#[derive(Args, Debug)]
pub(crate) struct Enter {
    /// The cgroup's directory
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup: Option<PathBuf>,
    /// Without transparent huge pages
    #[arg(long)]
    pub(crate) no_thp: bool,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    pub(crate) program: Vec<OsString>,
}

/// How `quire doctor` ends.
const DOCTOR: &str = "\
Exit status: 0 where quire run works, 125 where something must be mended first.";

/// How `quire run` ends.
const STATUS: &str = "\
Exit status: the program's own; a signal that ends the program ends quire too.
125: quire failed; 126: PROGRAM can't be executed; 127: PROGRAM was not found.
quire ends when the program and all its managed descendants have ended.";

/// The options of `quire run`.
#[derive(Args, Debug)]
pub(crate) struct Run {
    /// The budget for anonymous memory of the program and its descendants, 16M or more [default: the
    /// cgroup's limit less a margin; if there is none, nothing is evicted]
    #[arg(short, long, value_name = "SIZE", allow_negative_numbers = true)]
    pub(crate) memory: Option<String>,
    /// Folio sizes: adaptive, fixed:SIZE, linux:SIZE,.. or huge-coalesce-base [default: adaptive]
    #[arg(long, value_name = "POLICY")]
    pub(crate) policy: Option<String>,
    /// Where to spill to, on a disk [default: $TMPDIR, else /var/tmp]
    #[arg(long, value_name = "DIR", conflicts_with = "no_spill")]
    pub(crate) swap_dir: Option<PathBuf>,
    /// Keep all in memory
    #[arg(long)]
    pub(crate) no_spill: bool,
    /// Leave alone programs of this name or path, a pattern as in a shell; may be repeated, and
    /// QUIRE_EXCLUDE has more, with colons in between
    #[arg(long, value_name = "NAME")]
    pub(crate) exclude: Vec<OsString>,
    /// Write a trace of what the program does to its memory, for quire replay; it runs slower, and every
    /// folio is a page: not with --policy
    #[arg(long, value_name = "FILE", conflicts_with = "policy")]
    pub(crate) record: Option<PathBuf>,
    /// Time in which a page counts as accessed once in the trace
    #[arg(long, value_name = "TIME", default_value = "10ms", requires = "record")]
    pub(crate) record_every: String,
    /// Write what the engine decides to FILE, a line each
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// Measure where the time of faults goes, in the report; costs some us a fault
    #[arg(long)]
    pub(crate) profile: bool,
    /// Manage memory from the start, not only once it gets short; so do --record, --log, --profile and
    /// a --policy that is named
    #[arg(long)]
    pub(crate) awake: bool,
    /// A longer report at exit: a table of what happened to folios, faults and memory
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) verbose: bool,
    /// The report with every counter, as JSON (docs/report.md)
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the report to FILE instead of stderr
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// No warnings, and no report but to FILE
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    pub(crate) program: Vec<OsString>,
}

/// What a bench changes.
const BENCH: &str = "\
Without a name every workload that is installed is measured. As root, swap and cgroups are set up for
the time and put back, also after Ctrl-C; what a killed bench left, the next one removes. Each round has
all sides and a second native run, which shows the noise: docs/bench.md says how to read the figures.
Exit status: 1 where a program failed or its output differed.";

/// What the kernel swaps to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Against {
    /// Compressed memory: lz4, pages of 4 KiB
    Zram,
    /// A file in $TMPDIR, else /var/tmp
    Disk,
}

/// The options of `quire bench`.
#[derive(Args, Debug)]
pub(crate) struct Bench {
    /// What to measure: see --list
    #[arg(value_name = "WORKLOAD")]
    pub(crate) workloads: Vec<String>,
    /// Name all workloads, and what they need
    #[arg(long)]
    pub(crate) list: bool,
    /// What the kernel swaps to
    #[arg(long, value_name = "zram|disk", default_value = "zram", hide_possible_values = true)]
    pub(crate) against: Against,
    /// The kernel's memory limits, as shares of the native peak [default: 0.7,0.5]
    #[arg(long, value_name = "LIST")]
    pub(crate) at: Option<String>,
    /// With memory enough: -m of 1.5 times the peak, and no -m, against native
    #[arg(long, conflicts_with_all = ["against", "at"])]
    pub(crate) no_pressure: bool,
    /// Rounds of all sides
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) rounds: usize,
    /// How often a round with too much noise is measured again
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) repeats: usize,
    /// A quarter of the data or less
    #[arg(long)]
    pub(crate) small: bool,
    /// Run Quire once more to see where the time of faults goes
    #[arg(long)]
    pub(crate) profile: bool,
    /// Quire's --policy, which manages memory from the start
    #[arg(long, value_name = "POLICY")]
    pub(crate) policy: Option<String>,
    /// Quire's --awake
    #[arg(long)]
    pub(crate) awake: bool,
    /// Quire's --no-spill
    #[arg(long)]
    pub(crate) no_spill: bool,
    /// Make the programs' inputs in DIR, and keep them for the next time
    #[arg(long, value_name = "DIR")]
    pub(crate) inputs: Option<PathBuf>,
    /// Print all figures as JSON (docs/bench.md)
    #[arg(long)]
    pub(crate) json: bool,
    /// Write a page with plots to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Keep all results in a new directory DIR/DATE-PROCESSOR
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
    /// No progress bar and no warnings
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// A program to measure
    #[arg(last = true, value_name = "PROGRAM")]
    pub(crate) program: Vec<OsString>,
}

/// What a trace may be.
const REPLAY: &str = "\
TRACE is a file of Quire's format, text of Valgrind's lackey (--trace-mem=yes), or a workload:
gen:NAME[:pages=N][:events=N][:seed=N], with sequential, strided, uniform, zipf, sparse, phases,
ageing, forks or several. LIST has commas; every combination is a cell, and cells run in parallel.";

/// What says nothing to `--calibrate`.
const CELLS: [&str; 10] =
    ["trace", "policy", "memory", "fragmentation", "tlb", "epoch", "no_spill", "costs", "json", "html"];

/// The options of `quire replay`.
#[derive(Args, Debug)]
pub(crate) struct Replay {
    /// What to replay
    #[arg(value_name = "TRACE", required_unless_present = "calibrate")]
    pub(crate) trace: Option<String>,
    /// Folio sizes as for quire run, or base:16K or base:64K: a machine with such base pages
    #[arg(long, value_name = "LIST", default_value = "adaptive")]
    pub(crate) policy: String,
    /// Memory for all programs: sizes from 1M to 64G, or none for no limit
    #[arg(short, long, value_name = "LIST", default_value = "none", allow_negative_numbers = true)]
    pub(crate) memory: String,
    /// Of the runs of 64 KiB so many percent hold a page that can't be moved
    #[arg(long, value_name = "LIST", default_value = "0", allow_negative_numbers = true)]
    pub(crate) fragmentation: String,
    /// TLBs: none, zen3, neoverse-n1, skylake
    #[arg(long, value_name = "LIST", default_value = "zen3")]
    pub(crate) tlb: String,
    /// Look for folios to split and collapse every so many ms of modelled time; 0: never
    #[arg(long, value_name = "MS", default_value = "1000", allow_negative_numbers = true)]
    pub(crate) epoch: String,
    /// There is no disk to spill to
    #[arg(long)]
    pub(crate) no_spill: bool,
    /// What things cost: a table as --calibrate writes it
    #[arg(long, value_name = "FILE")]
    pub(crate) costs: Option<PathBuf>,
    /// Replay nothing: measure on this machine what things cost, and write the table to FILE
    #[arg(long, value_name = "FILE", conflicts_with_all = CELLS)]
    pub(crate) calibrate: Option<PathBuf>,
    /// Print all figures as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Write a page with plots to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// No progress bar
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// The options of `quire touch`.
#[derive(Args, Debug)]
pub(crate) struct Touch {
    /// How much memory
    #[arg(long, value_name = "SIZE", default_value = "512M")]
    pub(crate) bytes: String,
    /// How well each page compresses by lz4: 1.5 or 3 times
    #[arg(long, value_name = "1.5|3", default_value = "3")]
    pub(crate) data: String,
    /// Threads that touch it at once, 1 or 2
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=2))]
    pub(crate) threads: u64,
    /// The most time for random reads to become steady, in seconds; five rounds are always done
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub(crate) seconds: u64,
    /// What the contents and the accesses are made from
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// What to do between the fill and the verification: scan, random, zipf, scan-again, random-after-scan
    #[arg(long, value_name = "LIST", default_value = "scan,random,zipf,scan-again,random-after-scan")]
    pub(crate) phases: String,
    /// Five rounds of random reads, steady or not
    #[arg(long)]
    pub(crate) small: bool,
}

impl Run {
    /// The form of the report.
    pub(crate) fn form(&self) -> Form {
        match (self.json, self.verbose) {
            (true, _) => Form::Json,
            (false, true) => Form::Table,
            (false, false) => Form::Short,
        }
    }
}

/// The form of a report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    /// Two lines.
    Short,
    /// For people who want to know why.
    Table,
    /// For programs: one object.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_programs_options_are_its_own() {
        for line in ["quire run -m 64M -- sort -m -q", "quire run -m 64M sort -m -q"] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            let Verb::Run(run) = cli.verb else { panic!("not run") };
            assert_eq!(run.program, ["sort", "-m", "-q"]);
            assert!(!run.quiet);
        }
        assert!(Cli::try_parse_from(["quire", "run", "--unknown", "sort"]).is_err());
    }

    #[test]
    fn help_fits_a_screen() {
        for verb in ["", "run", "replay", "bench", "doctor"] {
            let line = ["quire", verb, "--help"].into_iter().filter(|word| !word.is_empty());
            let help = Cli::try_parse_from(line).unwrap_err().to_string();
            assert!(help.lines().count() <= 40, "{help}");
        }
    }
}
