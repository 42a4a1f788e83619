//! `quire enter`: becomes a program in a cgroup. How `quire bench` starts whatever it measures.

use crate::cli;
use crate::failure::{End, Failure};
use quire_linux::sys::child;
use rustix::process::{Signal, set_parent_process_death_signal, setsid};
use rustix::thread::disable_transparent_huge_pages;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Signals that who started the bench may have had it ignore (a shell does in the background), or that it blocks or
/// ignores itself: HUP, INT, QUIT, TERM, XFSZ, by their numbers.
const DEFAULT: [i32; 5] = [1, 2, 3, 15, 25];

/// Returns only when it fails.
pub(crate) fn execute(arguments: cli::Enter) -> Result<End, Failure> {
    // It fails for who leads a group, and then the program has a session of its own already or wants none.
    let _ = setsid();
    // Where the bench is killed the program is to end too; what else runs in the cgroup, the next bench ends.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    child::take_defaults(&DEFAULT);
    if let Some(cgroup) = &arguments.cgroup {
        fs::write(cgroup.join("cgroup.procs"), "0").map_err(|error| {
            Failure::own(format!("cgroup {} can't be entered: {error}; is it there?", cgroup.display()))
        })?;
    }
    if arguments.no_thp {
        disable_transparent_huge_pages(true).map_err(|error| {
            Failure::own(format!("huge pages can't be turned off: {error}; is the kernel older than 3.15?"))
        })?;
    }
    let program = &arguments.program[0];
    let error = Command::new(program).args(&arguments.program[1..]).exec();
    let shown = program.display();
    Err(match error.kind() {
        ErrorKind::NotFound => Failure::not_found(format!("program '{shown}' was not found: check the path")),
        _ => Failure::refused(shown, &error),
    })
}
