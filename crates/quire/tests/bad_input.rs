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
    refused(&["run"], 125, &["<PROGRAM>", "quire run --help"]);
    refused(&["run", "--unknown", "true"], 125, &["--unknown", "--help"]);
    refused(&["run", "-v", "--json", "true"], 125, &["--verbose", "--json"]);
    refused(&["run", "--no-spill", "--swap-dir", "/var/tmp", "true"], 125, &["--no-spill", "--swap-dir"]);
    refused(&["run", "-m", "-1", "true"], 125, &["unknown size '-1'"]);
    refused(&["run", "--record", "t", "--policy", "adaptive", "true"], 125, &["--record", "--policy"]);
    refused(&[], 125, &["run", "doctor", "see quire --help"]);
}

#[test]
fn one_file_for_two_things() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (file, other, new) = (path("file"), path("./file"), path("new"));
    fs::write(&file, "mine").unwrap();
    refused(&["run", "--record", &file, "--log", &file, "true"], 125, &["--record and --log", "its own"]);
    refused(&["run", "--record", &file, "-o", &other, "true"], 125, &["--record and -o"]);
    refused(&["run", "--log", &new, "-o", &new, "true"], 125, &["--log and -o", &new]);
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_full_disk_is_said_with_what_was_being_written() {
    let full = fs::File::create("/dev/full").unwrap();
    let doctor = Command::new(env!("CARGO_BIN_EXE_quire")).arg("doctor").stdout(full).output().unwrap();
    let said = String::from_utf8_lossy(&doctor.stderr);
    assert!(
        said.contains("findings") && said.contains("stdout: No space") && said.lines().count() == 1,
        "{said}"
    );
}

#[test]
fn a_binary_alone_in_a_directory_runs_programs() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let copy = directory.path().join("quire");
    // Not a copy: while another test forks, the copy would be open for writing there and "text file busy" here.
    fs::hard_link(env!("CARGO_BIN_EXE_quire"), &copy).unwrap();
    let output = Command::new(&copy).args(["run", "--awake", "--json", "--", "true"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(125) && said.contains("userfaultfd") {
        println!("skipped: {said}");
        return;
    }
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("\"managed\": 1,"), "{said}");
}

#[test]
fn where_nothing_may_be_executed_each_place_is_named() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let odd = directory.path().join("a place");
    fs::create_dir(&odd).unwrap();
    let quire = env!("CARGO_BIN_EXE_quire");
    let output = Command::new(quire).args(["run", "--", "true"]).env("TMPDIR", &odd).output().unwrap();
    // Another place serves.
    assert!(
        output.status.code() == Some(0) || String::from_utf8_lossy(&output.stderr).contains("userfaultfd")
    );
    assert_eq!(fs::read_dir(&odd).unwrap().count(), 0);
}
