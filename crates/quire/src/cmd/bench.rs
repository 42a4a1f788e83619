//! `quire bench`: reads what is to be measured and how, and shows what came of it.

use super::run::{check_machine, policy};
use crate::bench::{self, Against, Amount, Done, Results, Settings, Workload};
use crate::cli;
use crate::failure::{End, Failure};
use crate::files;
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// What the options write, for messages.
const PAGE: &str = "the page";
const RESULTS: &str = "the results";

/// Shares of the native peak, as the program's memory.
const SHARES: &str = "0.7,0.5";
/// Of `-m` where there is plenty.
const PLENTY: f64 = 1.5;

/// Measures, shows, and keeps what is worth keeping.
pub(crate) fn execute(arguments: cli::Bench) -> Result<End, Failure> {
    if arguments.list {
        return list();
    }
    check_machine()?;
    let settings = settings(&arguments)?;
    // What can't be written is found out before the work.
    let page = arguments.html.as_deref().map(|path| files::create(path, PAGE).map(|file| (path, file)));
    let page = page.transpose()?;
    let kept = arguments.keep.as_deref().map(keep).transpose()?;
    let done = bench::measure(&settings)?;
    show(&arguments, &done.results, page, kept.as_deref())?;
    Ok(end(&done))
}

/// What the names and figures of the command line mean.
fn settings(arguments: &cli::Bench) -> Result<Settings, Failure> {
    if !(1..=99).contains(&arguments.rounds) {
        return Err(Failure::own("--rounds takes 1 to 99"));
    }
    let amounts = match arguments.no_pressure {
        true => vec![Amount::Plenty(PLENTY), Amount::All],
        false => shares(arguments.at.as_deref().unwrap_or(SHARES))?,
    };
    let against = match (arguments.no_pressure, arguments.against) {
        (true, _) => Against::Nothing,
        (_, cli::Against::Zram) => Against::Zram,
        (_, cli::Against::Disk) => Against::Disk,
    };
    Ok(Settings {
        workloads: workloads(arguments)?,
        against,
        amounts,
        rounds: arguments.rounds,
        repeats: arguments.repeats,
        small: arguments.small,
        profile: arguments.profile,
        policy: arguments.policy.as_deref().map(policy).transpose()?.map(|policy| policy.to_string()),
        awake: arguments.awake,
        no_spill: arguments.no_spill,
        quiet: arguments.quiet,
        inputs: inputs(arguments.inputs.as_deref())?,
        command: env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
    })
}

/// What is measured: the named ones, and the program after `--`; where there are neither, all.
fn workloads(arguments: &cli::Bench) -> Result<Vec<Workload>, Failure> {
    if arguments.workloads.is_empty() && arguments.program.is_empty() {
        return Ok(bench::usual(arguments.no_pressure));
    }
    let mut chosen = Vec::new();
    for name in &arguments.workloads {
        let known = bench::catalogue().into_iter().find(|workload| workload.name == *name);
        chosen.push(known.ok_or_else(|| {
            Failure::own(format!("there is no workload '{name}': quire bench --list names them all"))
        })?);
    }
    if !arguments.program.is_empty() {
        chosen.push(bench::custom(arguments.program.clone()));
    }
    Ok(chosen)
}

/// Shares of the native peak.
fn shares(text: &str) -> Result<Vec<Amount>, Failure> {
    text.split(',')
        .map(|share| {
            let number = share.trim().parse::<f64>().ok().filter(|share| (0.1..=1.0).contains(share));
            number.map(Amount::Limit).ok_or_else(|| {
                Failure::own(format!(
                    "'{share}' is no share of the native peak: write 0.1 to 1, for example {SHARES}"
                ))
            })
        })
        .collect()
}

/// The directory of inputs that are kept, which is made where it is not there.
fn inputs(path: Option<&Path>) -> Result<Option<PathBuf>, Failure> {
    let Some(path) = path else { return Ok(None) };
    let made = fs::create_dir_all(path).and_then(|()| path.canonicalize());
    made.map(Some).map_err(|error| {
        Failure::own(format!("{} can't be a directory of inputs: {error}; name another", path.display()))
    })
}

/// Names of all workloads, and whether they can be measured here.
fn list() -> Result<End, Failure> {
    let mut text = String::new();
    for workload in bench::catalogue() {
        let missing = workload.missing().map_or(String::new(), |left_out| format!(" ({})", left_out.why));
        text += &format!("{:<18} {}{missing}\n", workload.name, workload.what);
    }
    files::print(&text, "the list")?;
    Ok(End::Status(0))
}

/// A fresh directory for results, named by the day and the machine.
fn keep(parent: &Path) -> Result<PathBuf, Failure> {
    let name = bench::place_name();
    let failed = |error: std::io::Error| {
        Failure::own(format!("{} can't keep results: {error}; name another directory", parent.display()))
    };
    fs::create_dir_all(parent).map_err(failed)?;
    for number in 1..1000 {
        let path = parent.join(if number == 1 { name.clone() } else { format!("{name}-{number}") });
        match fs::create_dir(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
            made => return made.map(|()| path).map_err(failed),
        }
    }
    Err(Failure::own(format!("{} is full of results of today: name another directory", parent.display())))
}

/// Prints and writes what came of it.
fn show(
    arguments: &cli::Bench,
    results: &Results,
    page: Option<(&Path, File)>,
    kept: Option<&Path>,
) -> Result<(), Failure> {
    let text = if arguments.json { bench::json(results) } else { bench::table(results) };
    files::print(&text, RESULTS)?;
    if let Some((path, mut file)) = page {
        files::write(&mut file, path, PAGE, &bench::page(results))?;
    }
    let Some(directory) = kept else { return Ok(()) };
    for (name, text) in [
        ("results.txt", bench::table(results)),
        ("results.json", bench::json(results)),
        ("page.html", bench::page(results)),
    ] {
        let path = directory.join(name);
        files::write(&mut files::create(&path, RESULTS)?, &path, RESULTS, &text)?;
    }
    if !arguments.quiet {
        files::say(format_args!("kept in {}", directory.display()));
    }
    Ok(())
}

/// How the command ends: by the signal that ended it, with 1 where a workload failed or figures don't add up.
fn end(done: &Done) -> End {
    for problem in &done.problems {
        files::say(format_args!("{problem}"));
    }
    match done.interrupted {
        Some(signal) => End::Signal(signal),
        None => End::Status(u8::from(!done.problems.is_empty())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_a_tenth_to_one() {
        assert_eq!(shares(SHARES), Ok(vec![Amount::Limit(0.7), Amount::Limit(0.5)]));
        for wrong in ["", "0", "0.05", "1.1", "half", "0.5,"] {
            let message = shares(wrong).unwrap_err().message;
            assert!(message.contains("0.7,0.5"), "{message}");
        }
    }

    #[test]
    fn results_of_one_day_have_directories_of_their_own() {
        let parent = tempfile::tempdir().unwrap();
        let [first, second] = [(); 2].map(|()| keep(parent.path()).unwrap());
        assert!(first.is_dir() && second.is_dir() && first != second);
        assert!(keep(Path::new("/proc/quire")).unwrap_err().message.contains("/proc/quire"));
    }
}
