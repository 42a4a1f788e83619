//! What is wrong with a command line costs one line on stderr and a status from 125 to 127, and nothing runs.

use std::fs;
use std::process::{Command, Output};

fn quire(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quire")).args(arguments).output().expect("the binary runs")
}

/// Asserts status and words of a refusal.
fn refused(arguments: &[&str], status: i32, words: &[&str]) {
    let output = quire(arguments);
    let said = String::from_utf8(output.stderr).expect("messages are UTF-8");
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
    assert_eq!((said.lines().count(), output.stdout.len()), (1, 0), "{arguments:?}: {said}");
    for word in words.iter().chain(&["quire: "]) {
        assert!(said.contains(word), "{arguments:?}: no {word:?} in {said}");
    }
}

#[test]
fn sizes_and_policies() {
    refused(&["run", "-m", "12Q", "--", "true"], 125, &["12Q", "512M"]);
    refused(&["run", "-m", "1M", "--", "true"], 125, &["1 MiB", "16M"]);
    refused(&["run", "--policy", "fixed:5K", "--", "true"], 125, &["fixed:5K", "adaptive"]);
}

#[test]
fn programs() {
    refused(&["run", "--", "/nonexistent/program"], 127, &["/nonexistent/program"]);
    refused(&["run", "--", "no-such-program-anywhere"], 127, &["no-such-program-anywhere", "install"]);
    refused(&["run", "--", "/etc/passwd"], 126, &["/etc/passwd", "chmod"]);
    refused(&["run", "--", "/etc"], 126, &["directory"]);
}

#[test]
fn options() {
    refused(&["run"], 125, &["<PROGRAM>"]);
    refused(&["run", "--unknown", "true"], 125, &["--unknown", "--help"]);
    refused(&["run", "--report", "xml", "true"], 125, &["xml", "text, json"]);
    refused(&["run", "--no-spill", "--swap-dir", "/var/tmp", "true"], 125, &["--no-spill", "--swap-dir"]);
    refused(&[], 125, &["run", "doctor"]);
}

#[test]
fn a_binary_alone_says_what_it_misses() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let copy = directory.path().join("quire");
    // Not a copy: while another test forks, the copy would be open for writing there and "text file busy" here.
    fs::hard_link(env!("CARGO_BIN_EXE_quire"), &copy).unwrap();
    let output = Command::new(&copy).args(["run", "--", "true"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{said}");
    // Where userfaultfd is refused, that is said first.
    assert!(said.contains("libquire_preload.so") || said.contains("userfaultfd"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
