//! `quire run`: checks everything before the program starts, so that what is wrong costs one line.

use crate::cli;
use crate::failure::{End, Failure};
use crate::files;
use crate::files::say;
use crate::run::library::Library;
use crate::run::log::Log;
use crate::run::notes::Notes;
use crate::run::program;
use crate::run::report::Target;
use crate::run::sleepers::Wake;
use crate::run::spill::Spill;
use crate::run::trace::Trace;
use crate::run::{self, Settings, budget};
use crate::size::{self, MIB};
use quire_linux::control::pattern::EXCLUDE_VARIABLE;
use quire_linux::control::wire::PolicyName;
use quire_linux::pager::PolicyKind;
use quire_linux::{image, probe};
use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::thread;

/// The least budget, in bytes.
const LEAST_BUDGET: u64 = 16 * MIB;

/// Runs the program and reports.
pub(crate) fn execute(arguments: cli::Run) -> Result<End, Failure> {
    // Writing it takes about as long as all else that comes before the program starts.
    let (kept, placing) = match Library::kept() {
        Some(kept) => (Some(kept), None),
        None => (None, Some(thread::spawn(Library::place))),
    };
    let start = prepare(arguments);
    let placed = placing.map(|thread| thread.join().expect("placing the library does not panic"));
    let library = kept.map(Ok).or(placed).expect("it is kept, or it is placed");
    // Whatever is wrong, the library is removed again.
    start?(library?)
}

/// Checks everything. What comes back starts the program, with the library that it is given.
fn prepare(arguments: cli::Run) -> Result<impl FnOnce(Library) -> Result<End, Failure>, Failure> {
    let budget = budget_of(arguments.memory.as_deref())?;
    // A trace tells of pages, so each is a folio while it is recorded.
    let policy = policy_of(match &arguments.policy {
        _ if arguments.record.is_some() => "fixed:4K",
        Some(named) => named,
        None => "adaptive",
    })?;
    let every = interval_of(&arguments.record_every)?;
    files::refuse_same(&[
        ("--record", arguments.record.as_deref()),
        ("--log", arguments.log.as_deref()),
        ("-o", arguments.output.as_deref()),
    ])?;
    let exclude = patterns_of(&arguments.exclude, env::var_os(EXCLUDE_VARIABLE))?;
    let program = program::find(&arguments.program[0])?;
    check_machine()?;
    let spill = Spill::choose(arguments.swap_dir.as_deref(), arguments.no_spill)?;
    let report = Target::open(arguments.form(), arguments.output.as_deref(), arguments.quiet)?;

    let watched = arguments.record.is_some() || arguments.log.is_some() || arguments.profile;
    let trace = arguments.record.map(|path| Trace::create(&path, every)).transpose()?;
    let log = arguments.log.map(|path| Log::create(&path)).transpose()?;

    let outside = CString::new(program.as_os_str().as_bytes()).ok().and_then(|path| image::outside(&path));
    if let Some(cause) = outside.filter(|_| !arguments.quiet) {
        let shown = program.display();
        say(format_args!("warning: {shown} runs outside the budget: {}; {}", cause.cause(), cause.mend()));
    }
    let awake = arguments.awake || watched;
    let wake = wake_of(awake, arguments.policy.is_some(), env::var_os(WAKE_VARIABLE));
    let (words, profile, quiet) = (arguments.program, arguments.profile, arguments.quiet);
    Ok(move |library| {
        let settings = Settings {
            budget,
            policy,
            program,
            words,
            outside,
            exclude,
            library,
            spill,
            profile,
            wake,
            quiet,
        };
        run::supervise(settings, Notes::new(trace, log), report)
    })
}

/// For tests: `soon` wakes each process soon after it has joined, `short` when memory is, `start` before it begins.
const WAKE_VARIABLE: &str = "QUIRE_WAKE";

/// When processes are woken. Who names a `policy` wants to see it at work, from the start on.
fn wake_of(awake: bool, policy: bool, named: Option<OsString>) -> Wake {
    match named.as_deref().and_then(OsStr::to_str) {
        _ if awake => Wake::AtStart,
        Some("start") => Wake::AtStart,
        Some("soon") => Wake::Soon,
        Some("short") => Wake::WhenShort,
        _ if policy => Wake::AtStart,
        _ => Wake::WhenShort,
    }
}

/// The budget in bytes; `None`: none.
fn budget_of(memory: Option<&str>) -> Result<Option<u64>, Failure> {
    let Some(text) = memory else { return Ok(budget::of_cgroup()) };
    let bytes = size::parse(text).map_err(Failure::own)?;
    if bytes < LEAST_BUDGET {
        return Err(Failure::own(format!(
            "a budget of {} is too small: the least is -m 16M",
            size::human(bytes)
        )));
    }
    Ok(Some(bytes))
}

/// The patterns of programs that are left alone, those of the environment too, with colons in between.
fn patterns_of(named: &[OsString], inherited: Option<OsString>) -> Result<OsString, Failure> {
    let mut list = Vec::new();
    for pattern in named {
        if pattern.is_empty() || pattern.as_bytes().contains(&b':') {
            let shown = pattern.display();
            return Err(Failure::own(format!(
                "--exclude '{shown}' names no program: write a name, a path or a pattern without colons"
            )));
        }
        list.push(pattern.clone());
    }
    list.extend(inherited.filter(|inherited| !inherited.is_empty()));
    Ok(list.join(OsStr::new(":")))
}

/// An interval in ns: a number with `us`, `ms` or `s`, from 100us to 60s.
fn interval_of(text: &str) -> Result<u64, Failure> {
    let digits = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
    let unit = match &text[digits..] {
        "us" => Some(1_000),
        "ms" => Some(1_000_000),
        "s" => Some(1_000_000_000),
        _ => None,
    };
    let number = text[..digits].parse::<u64>().ok();
    unit.zip(number)
        .and_then(|(unit, number)| number.checked_mul(unit))
        .filter(|ns| (100_000..=60_000_000_000).contains(ns))
        .ok_or_else(|| Failure::own(format!("unknown time '{text}': write 100us to 60s, for example 10ms")))
}

/// The policy, if there is one of this name.
pub(super) fn policy(name: &str) -> Result<PolicyKind, Failure> {
    name.parse().map_err(|how| Failure::own(format!("unknown policy '{name}': {how}")))
}

/// Its name, as it goes to the program's pagers.
fn policy_of(name: &str) -> Result<PolicyName, Failure> {
    let short = policy(name)?.to_string();
    PolicyName::new(&short).ok_or_else(|| Failure::own(format!("the name of policy '{short}' is too long")))
}

/// Refuses a machine on which nothing could be managed, with what mends it.
pub(super) fn check_machine() -> Result<(), Failure> {
    match probe::probe().mends().find(|mend| mend.fatal) {
        Some(mend) => Err(Failure::own(mend.to_string())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_below_the_least_are_refused_with_both_sizes() {
        let failure = budget_of(Some("1M")).unwrap_err();
        assert!(failure.message.contains("1 MiB") && failure.message.contains("16M"), "{}", failure.message);
        assert_eq!(failure.status, 125);
        assert_eq!(budget_of(Some("16M")), Ok(Some(LEAST_BUDGET)));
    }

    #[test]
    fn programs_sleep_unless_somebody_wants_to_see_them_managed() {
        assert_eq!(wake_of(false, false, None), Wake::WhenShort);
        assert_eq!(wake_of(false, true, None), Wake::AtStart);
        for (named, wake) in [("soon", Wake::Soon), ("short", Wake::WhenShort), ("start", Wake::AtStart)] {
            assert_eq!(wake_of(false, true, Some(named.into())), wake);
            assert_eq!(wake_of(true, false, Some(named.into())), Wake::AtStart);
        }
    }

    #[test]
    fn patterns_are_joined_with_those_of_the_environment() {
        let named = ["php*".into(), "/opt/*".into()];
        assert_eq!(patterns_of(&named, Some("x:y".into())), Ok("php*:/opt/*:x:y".into()));
        assert_eq!(patterns_of(&[], Some("".into())), Ok("".into()));
        for wrong in ["", "a:b"] {
            assert!(patterns_of(&[wrong.into()], None).unwrap_err().message.contains("--exclude"));
        }
    }

    #[test]
    fn intervals_have_a_unit_and_bounds() {
        assert_eq!(interval_of("10ms"), Ok(10_000_000));
        assert_eq!(interval_of("100us"), Ok(100_000));
        assert_eq!(interval_of("60s"), Ok(60_000_000_000));
        for text in ["", "10", "ms", "10 ms", "-1ms", "99us", "61s", "99999999999999999999s", "1h"] {
            assert!(interval_of(text).unwrap_err().message.contains(text), "{text}");
        }
    }

    #[test]
    fn only_known_policies_are_taken() {
        let every_size = "linux:16K,32K,64K,128K,256K,512K,1M,2M";
        for name in ["adaptive", "fixed:4K", "fixed:64K", "fixed:2M", every_size, "huge-coalesce-base"] {
            assert_eq!(policy_of(name).unwrap().as_str(), name);
        }
        assert_eq!(policy_of("fixed:2048k").unwrap().as_str(), "fixed:2M");
        for name in
            ["", "fixed", "fixed:", "fixed:5K", "fixed:4M", "fixed:2K", "linux:4K", "lru", "adaptive:64K"]
        {
            assert!(policy_of(name).unwrap_err().message.contains(name));
        }
    }
}
