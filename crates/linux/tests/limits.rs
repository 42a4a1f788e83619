//! The limit of the live tests strikes, and says who does not go on.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

mod limit;

/// Set in the process that hangs.
const HANGS: &str = "QUIRE_TEST_HANGS";

#[test]
fn a_hang_ends_with_the_stacks_of_all_threads() {
    if std::env::var_os(HANGS).is_some() {
        let _limit = limit::Limit::of_this_test(1);
        let (_ends, over) = mpsc::channel::<()>();
        let stuck = thread::Builder::new().name("stuck-for-ever".into()).spawn(move || over.recv()).unwrap();
        _ = Command::new("sleep").arg("60").spawn().unwrap().wait();
        _ = stuck.join().unwrap();
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_hang_ends_with_the_stacks_of_all_threads"])
        .env(HANGS, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(6), "{said}");
    assert!(said.contains("a_hang_ends_with_the_stacks_of_all_threads has not ended in 1 s"), "{said}");
    let stuck = said.lines().find(|line| line.contains("(stuck-for-ever): state S")).expect(&said);
    assert!(stuck.contains("futex") && stuck.contains("+0x"), "{stuck}");
    assert!(said.contains(": sleep 60"), "the child is missing: {said}");
    let slept = said.lines().skip_while(|line| !line.contains(": sleep 60")).nth(1).expect(&said);
    assert!(slept.contains("(sleep): state S"), "{slept}");
}

#[test]
fn a_test_that_ends_in_time_is_left_alone() {
    drop(limit::Limit::of_this_test(1));
    thread::sleep(std::time::Duration::from_millis(1500));
}
