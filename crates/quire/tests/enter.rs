//! `quire enter`, by which `quire bench` starts programs.

use quire_linux::sys::child::Signals;
use std::fs;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, Output, Stdio};

fn enter(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quire"));
    command.arg("enter").args(arguments).stdin(Stdio::null());
    command
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn the_program_takes_the_place_of_quire_and_leads_a_session() {
    let child =
        enter(&["--", "sh", "-c", "echo $$; cut -d' ' -f6 /proc/self/stat"]).stdout(Stdio::piped()).spawn();
    let child = child.unwrap();
    let pid = child.id();
    assert_eq!(text(&child.wait_with_output().unwrap()), format!("{pid}\n{pid}\n"));
}

#[test]
fn huge_pages_are_turned_off_when_asked() {
    let thp = |arguments: &[&str]| {
        let words = [arguments, &["--", "grep", "THP_enabled", "/proc/self/status"]].concat();
        text(&enter(&words).output().unwrap())
    };
    assert!(thp(&["--no-thp"]).ends_with("0\n"));
    assert!(thp(&[]).ends_with("1\n"));
}

#[test]
fn signals_that_were_ignored_end_the_program() {
    // A shell has its children ignore them where it is told to.
    let quire = env!("CARGO_BIN_EXE_quire");
    for (name, number) in [("HUP", 1), ("INT", 2), ("QUIT", 3), ("TERM", 15), ("XFSZ", 25)] {
        let script = format!("trap '' {name}; exec {quire} enter -- sh -c 'kill -{name} $$'");
        let ended = Command::new("sh").args(["-c", &script]).status().unwrap();
        assert_eq!(ended.signal(), Some(number), "{name}");
    }
}

#[test]
fn signals_that_were_blocked_end_the_program() {
    let _taken = Signals::take(&[15]).unwrap();
    let ended = enter(&["--", "sh", "-c", "kill -TERM $$; exit 3"]).status().unwrap();
    assert_eq!(ended.signal(), Some(15));
}

#[test]
fn the_cgroup_is_entered_before_the_program_starts() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("cgroup.procs"), "").unwrap();
    let path = place.path().to_str().unwrap();
    let procs = format!("{path}/cgroup.procs");
    assert_eq!(text(&enter(&["--cgroup", path, "--", "cat", &procs]).output().unwrap()), "0");
    let failed = enter(&["--cgroup", "/nonexistent/cgroup", "--", "true"]).output().unwrap();
    let said = String::from_utf8(failed.stderr).unwrap();
    assert!(failed.status.code() == Some(125) && said.contains("/nonexistent/cgroup"), "{said}");
}

#[test]
fn what_cannot_be_executed_is_told() {
    assert_eq!(enter(&["--", "/nonexistent"]).output().unwrap().status.code(), Some(127));
    assert_eq!(enter(&["--", "/etc/passwd"]).output().unwrap().status.code(), Some(126));
}

#[test]
fn the_program_ends_with_who_started_it() {
    let quire = env!("CARGO_BIN_EXE_quire");
    let script = format!("{quire} enter -- sleep 60 >/dev/null 2>&1 & echo $!; sleep 0.5; kill -9 $$");
    let shell = Command::new("sh").args(["-c", &script]).process_group(0).output().unwrap();
    let pid = String::from_utf8(shell.stdout).unwrap();
    let ended = (0..1000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        fs::read_to_string(format!("/proc/{}/stat", pid.trim())).map_or(true, |stat| stat.contains(") Z "))
    });
    assert!(shell.status.signal() == Some(9) && ended);
}
