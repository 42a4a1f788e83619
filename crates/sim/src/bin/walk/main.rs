//! Random walks for as long as one likes: `cargo run --profile walk -p quire-sim --bin walk -- --events 1G --state DIR`.
//!
//! The walks of a run are cut into shards, which are taken on every core. With a state directory each finished shard is
//! kept, and the same command goes on where it was stopped. `docs/walks.md` has more.
#![expect(clippy::disallowed_methods, reason = "a clock and threads decide no walk")]

mod progress;
mod state;

use clap::Parser;
use progress::Progress;
use quire_sim::walk::{EVENTS, Failure, LEAST, SHARD_EVENTS, Shard, Tally, WALKS, Walk, run_shard, walk};
use state::State;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Takes the engine through long random lists of events, and checks all it does
#[derive(Parser, Debug)]
#[command(name = "walk", after_help = AFTER)]
struct Cli {
    /// How many events: a number and k, M or G; rounded up to whole shards
    #[arg(short, long, value_name = "N", default_value = "10M", value_parser = count)]
    events: u64,
    /// Keep finished shards in DIR, and go on from those that are there
    #[arg(short, long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Threads [default: one for each core]
    #[arg(short, long, value_name = "N")]
    jobs: Option<usize>,
    /// Take one walk only, from this seed
    #[arg(long, value_name = "N", requires = "setup", conflicts_with_all = ["events", "state", "jobs"])]
    seed: Option<u64>,
    /// The kind of that walk, as a failure prints it
    #[arg(long, value_name = "NAME", requires = "seed")]
    setup: Option<String>,
}

const AFTER: &str = "\
Exit status: 0 when all went well and every possible combination was met often enough; 1 when a walk failed, with its
seed, its setup and a shortest list of events on stderr, or when combinations were met too seldom; 2 for usage.";

/// Reads a number of events.
fn count(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1000),
        Some((at, 'M' | 'm')) => (&text[..at], 1_000_000),
        Some((at, 'G' | 'g')) => (&text[..at], 1_000_000_000),
        _ => (text, 1),
    };
    let number: u64 = digits.parse().map_err(|_| "write a number and k, M or G, for example 10M")?;
    number.checked_mul(unit).filter(|&events| events > 0).ok_or_else(|| "not a number of events".into())
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if !(quire_core::Audit::possible() && cfg!(panic = "unwind")) {
        return usage("this build checks too little: cargo run --profile walk -p quire-sim --bin walk -- ..");
    }
    match (cli.seed, &cli.setup) {
        (Some(seed), Some(name)) => match WALKS.iter().find(|kind| kind.name == name) {
            Some(kind) => one(kind, seed),
            None => {
                let names: String = WALKS.iter().map(|kind| format!("\n  {}", kind.name)).collect();
                usage(&format!("no setup is called '{name}'; there are:{names}"))
            }
        },
        _ => many(&cli),
    }
}

fn usage(message: &str) -> ExitCode {
    eprintln!("walk: {message}");
    ExitCode::from(2)
}

/// One walk.
fn one(kind: &Walk, seed: u64) -> ExitCode {
    match walk(kind, seed) {
        Ok(walked) => {
            println!("{}, seed {seed}: {} events, all well; {}", kind.name, kind.events, walked.met);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// All shards of a run that are not there yet, and then the table of hits.
fn many(cli: &Cli) -> ExitCode {
    let shards = cli.events.div_ceil(SHARD_EVENTS);
    let state = match cli.state.as_deref().map(State::open).transpose() {
        Ok(state) => state,
        Err(error) => return usage(&error),
    };
    let known = state.as_ref().map_or_else(Vec::new, |state| state.finished(shards));
    let progress = Progress::new(shards, known.len() as u64);
    let outcome = take(shards, &known, cli.jobs, state.as_ref(), &progress);
    progress.clear();
    let fresh = match outcome {
        Ok(shard) => shard,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::FAILURE;
        }
    };
    let mut tally = fresh.tally;
    known.iter().for_each(|(_, more)| tally.add(more));
    tell(&tally, shards, &progress)
}

/// Takes the shards that are not known on so many threads.
fn take(
    shards: u64,
    known: &[(u64, Tally)],
    jobs: Option<usize>,
    state: Option<&State>,
    progress: &Progress,
) -> Result<Shard, String> {
    let threads = jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get())).max(1);
    let (next, all, failed) = (AtomicU64::new(0), Mutex::new(Shard::default()), Mutex::new(None));
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= shards {
                return;
            }
            if known.iter().any(|(shard, _)| *shard == number) {
                continue;
            }
            let result = run_shard(number, |events| progress.note(events));
            let kept = result.map_err(|failure: Box<Failure>| failure.to_string()).and_then(|shard| {
                state.map_or(Ok(()), |state| state.keep(number, &shard.tally))?;
                Ok(shard)
            });
            match kept {
                Ok(shard) => lock(&all).add(&shard),
                Err(message) => {
                    lock(&failed).get_or_insert(message);
                    next.store(shards, Ordering::Relaxed);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        while !workers.iter().all(|worker| worker.is_finished()) {
            progress.draw();
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(message) => Err(message),
        None => Ok(all.into_inner().unwrap_or_else(PoisonError::into_inner)),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Prints the table of hits, and what was met too seldom.
fn tell(tally: &Tally, shards: u64, progress: &Progress) -> ExitCode {
    let events = shards * SHARD_EVENTS;
    let least = LEAST * events.min(EVENTS) / EVENTS;
    let (few, strange) = (tally.below(least), tally.strange());
    let mut text = format!("{}\n{}", tally.table(), progress.summary(events));
    text += &format!(
        "{} combinations are possible, {} of them were met less than {least} times\n",
        Tally::possible(),
        few.len()
    );
    for (event, state, injected, hits) in few.iter().chain(&strange) {
        text += &format!("  {event:?} in {state:?}, {}: {hits}\n", injected.title());
    }
    // Who closes the pipe has read enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
    if few.is_empty() && strange.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_events_are_read() {
        assert_eq!(
            ["7", "10M", "1G", "250k"].map(count),
            [Ok(7), Ok(10_000_000), Ok(1_000_000_000), Ok(250_000)]
        );
        assert!(["", "0", "M", "1.5G", "x", "99999999999999G"].iter().all(|text| count(text).is_err()));
    }
}
