//! `quire replay`: what it prints, and what it refuses.

use quire_core::mmu::Prot;
use quire_core::{PageRange, Space, Vpn};
use quire_sim::trace::{Access, Event, Writer};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn quire(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quire")).arg("replay").args(arguments).output().expect("the binary runs")
}

fn stdout(arguments: &[&str]) -> String {
    let output = quire(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&stdout(arguments)).expect("JSON")
}

/// Asserts that one line says what is wrong.
fn refused(arguments: &[&str], words: &[&str]) {
    let output = quire(arguments);
    let said = String::from_utf8(output.stderr).expect("messages are UTF-8");
    assert_eq!(output.status.code(), Some(125), "{arguments:?}: {said}");
    assert_eq!((said.lines().count(), output.stdout.len()), (1, 0), "{arguments:?}: {said}");
    for word in words.iter().chain(&["quire: "]) {
        assert!(said.contains(word), "{arguments:?}: no {word:?} in {said}");
    }
}

/// A trace of 64 pages, each written once.
fn write_trace(path: &Path) {
    let mut writer = Writer::new(fs::File::create(path).unwrap());
    let range = PageRange::new(Space(0), Vpn(1 << 20), 64);
    writer.write(Event::Map { range, prot: Prot::READ_WRITE }).unwrap();
    for page in 0..range.pages {
        writer.write(Event::Access(Access::write(Space(0), range.start.plus(page)))).unwrap();
    }
    writer.finish().unwrap();
}

const SMALL: &str = "gen:zipf:pages=4096:events=40000:seed=5";

#[test]
fn a_trace_is_replayed_in_every_cell() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join("trace");
    write_trace(&path);
    let path = path.to_str().unwrap();
    let found = json(&[
        path,
        "--policy",
        "fixed:4K,fixed:64K",
        "--memory",
        "none,8M",
        "--tlb",
        "none,zen3",
        "--json",
    ]);
    let cells = found["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 8);
    for cell in cells {
        let small = cell["policy"] == "fixed:4K";
        assert_eq!(cell["accesses"], 64);
        assert_eq!(cell["faults"]["all"], if small { 64 } else { 4 });
        assert_eq!(cell["faults"]["by_order"][if small { 0 } else { 4 }], if small { 64 } else { 4 });
        assert_eq!(cell["bytes_zeroed"], 64 * 4096);
        assert_eq!(cell["resident_bytes"]["last"], 64 * 4096);
        let misses = if cell["tlb"] == "none" {
            0
        } else if small {
            64
        } else {
            16
        };
        assert_eq!(cell["tlb_lookups"]["misses"], misses, "{cell}");
    }
    let table = stdout(&[path, "--policy", "fixed:4K,fixed:64K"]);
    assert!(table.contains("64 accesses in 65 events") && table.contains("Costs in ns"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 160), "{table}");
}

#[test]
fn text_of_lackey_is_told_from_a_trace() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join("lackey");
    fs::write(&path, "==7== Lackey\nI  04000000,3\n L 1ffeffe000,8\n S 1ffeffe008,8\n M 04203000,4\n")
        .unwrap();
    let cell = &json(&[path.to_str().unwrap(), "--json"])["cells"][0];
    assert_eq!((&cell["accesses"], &cell["implied_maps"]), (&3.into(), &2.into()));
}

#[test]
fn equal_seeds_print_equal_json_and_others_do_not() {
    let arguments = [SMALL, "--policy", "adaptive,fixed:64K", "--memory", "12M,none", "--json"];
    let first = stdout(&arguments);
    assert_eq!(first, stdout(&arguments));
    let mut other = arguments;
    let seeded = SMALL.replace("seed=5", "seed=6");
    other[0] = &seeded;
    assert_ne!(first, stdout(&other));
}

#[test]
fn costs_decide_the_time_and_nothing_that_time_does_not() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join("costs");
    fs::write(&path, "walk 1000000 # a slow one\n").unwrap();
    let plain = json(&[SMALL, "--json"]);
    let slow = json(&[SMALL, "--costs", path.to_str().unwrap(), "--json"]);
    assert_eq!(slow["costs_ns"]["walk"], 1_000_000);
    let (plain, slow) = (&plain["cells"][0], &slow["cells"][0]);
    assert_eq!(plain["tlb_lookups"], slow["tlb_lookups"]);
    let walks = slow["tlb_lookups"]["misses"].as_u64().unwrap() * 1_000_000;
    assert!(slow["time_ns"]["walk"].as_u64().unwrap() >= walks);
    assert!(plain["modelled_ns"].as_u64() < slow["modelled_ns"].as_u64());
    fs::write(&path, "walk 5\nrun 6\n").unwrap();
    refused(&[SMALL, "--costs", path.to_str().unwrap()], &["line 2", "run 6", "--calibrate"]);
    fs::write(&path, "walk 5\nwalk 5\n").unwrap();
    refused(&[SMALL, "--costs", path.to_str().unwrap()], &["line 2", "walk 5", "leave one out"]);
    fs::write(&path, "").unwrap();
    refused(&[SMALL, "--costs", path.to_str().unwrap()], &["no cost", "--calibrate"]);
}

#[test]
fn a_trace_is_a_file_and_may_be_redirected_but_not_piped() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (trace, pipe, empty) = (path("trace"), path("pipe"), path("empty"));
    write_trace(trace.as_ref());
    let replay = |stdin: Stdio, arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quire"));
        command.args(["replay", "/dev/stdin"]).args(arguments).stdin(stdin).output().unwrap()
    };
    let redirected = || Stdio::from(fs::File::open(&trace).unwrap());
    let output = replay(redirected(), &["--policy", "adaptive,fixed:4K"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");

    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    refused(&[&pipe], &[&pipe, "not a regular file", "write it to a file"]);
    refused(&["/dev"], &["/dev: ", "not a regular file"]);
    let output = replay(Stdio::piped(), &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("/dev/stdin: not a regular file") && said.lines().count() == 1, "{said}");

    fs::write(&empty, "").unwrap();
    refused(&[&empty], &[&empty, "empty", "quire run --record", "valgrind"]);
    let output = replay(redirected(), &["--html", &trace]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("TRACE and --html both name") && said.lines().count() == 1, "{said}");
    assert_ne!(fs::metadata(&trace).unwrap().len(), 0);
}

#[test]
fn what_can_not_be_written_is_named() {
    let output = Command::new(env!("CARGO_BIN_EXE_quire"))
        .args(["replay", SMALL])
        .stdout(fs::File::create("/dev/full").unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the results can't be written to stdout: No space"), "{said}");
    let output = quire(&[SMALL, "--html", "/dev/full"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("page can't be written to /dev/full: No space"), "{said}");
    assert!(said.contains("make room") && !said.contains("directory"), "{said}");
}

#[test]
fn one_is_one() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join("trace");
    let mut writer = Writer::new(fs::File::create(&path).unwrap());
    writer.write(Event::Access(Access::write(Space(0), Vpn(1 << 20)))).unwrap();
    writer.finish().unwrap();
    let table = stdout(&[path.to_str().unwrap()]);
    for part in [": 1 access in 1 event\n", "\n1 range mapped by a first access\n"] {
        assert!(table.contains(part), "no {part:?} in {table}");
    }
}

#[test]
fn fragmented_memory_is_told_apart() {
    let arguments = [SMALL, "--policy", "fixed:64K", "--fragmentation", "0,50,100"];
    let found = json(&[&arguments[..], &["--json"]].concat());
    let cells = found["cells"].as_array().unwrap();
    let fills: Vec<u64> =
        cells.iter().map(|cell| cell["faults"]["zero_fills"][4].as_u64().unwrap()).collect();
    assert_eq!(cells[1]["fragmentation_percent"], 50);
    assert!(fills[0] > 0 && fills[2] == 0, "{fills:?}");
    let table = stdout(&arguments);
    assert!(table.contains("fragmented") && table.contains("100%"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 160), "{table}");
    assert!(!stdout(&[SMALL]).contains("fragmented"));
}

#[test]
fn programs_that_fork_and_larger_base_pages_are_replayed() {
    for kind in ["forks", "several"] {
        let trace = format!("gen:{kind}:pages=4096:events=40000");
        let found =
            json(&[&trace, "--policy", "fixed:4K,fixed:64K,base:64K", "--memory", "none,12M", "--json"]);
        for cell in found["cells"].as_array().unwrap() {
            let large = cell["policy"] == "base:64K";
            assert_eq!(cell["base_page_bytes"], if large { 65536 } else { 4096 });
            let copies = &cell["faults"]["copies_on_write"];
            assert!(copies[if cell["policy"] == "fixed:4K" { 0 } else { 4 }].as_u64() > Some(0), "{cell}");
            assert!(!large || cell["faults"]["by_order"][0] == 0, "{cell}");
            assert!(cell["memory"] == "none" || cell["swap"]["out_bytes"].as_u64() > Some(0), "{cell}");
        }
    }
}

#[test]
fn folios_are_shaped_as_often_as_asked() {
    // Of all entries these are the smallest: one for each page, with an accessed bit of its own.
    let arguments = [SMALL, "--policy", "fixed:64K", "--memory", "64M", "--tlb", "skylake"];
    let shaping = |epoch: &str| {
        let found = json(&[&arguments[..], &["--epoch", epoch, "--json"]].concat());
        found["cells"][0]["shaping"].clone()
    };
    let (often, never) = (shaping("1"), shaping("0"));
    assert!(often["epochs"].as_u64() > Some(10) && often["sparse_bytes"].as_u64() > Some(0), "{often}");
    assert_eq!((&never["epochs"], &never["sparse_folios"]), (&0.into(), &0.into()));
}

#[test]
fn the_page_has_everything_in_it() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join("page.html");
    stdout(&[SMALL, "--policy", "adaptive,fixed:2M", "--memory", "8M", "--html", path.to_str().unwrap()]);
    let page = fs::read_to_string(&path).unwrap();
    for part in ["<svg", "fixed:2M", "Modelled time", "Swap traffic", "viewport"] {
        assert!(page.contains(part), "no {part}");
    }
    for host in ["http:", "https:", "//cdn", "url(", "@import", "<script", "<img", "<link"] {
        assert!(!page.contains(host), "{host} asks somebody else");
    }
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
}

#[test]
fn what_is_wrong_costs_one_line() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    refused(&[], &["<TRACE>", "quire replay --help"]);
    refused(&["/nonexistent/trace"], &["/nonexistent/trace: No such file or directory", "gen:zipf"]);
    refused(&["/etc/passwd"], &["/etc/passwd", "valgrind", "quire run --record"]);
    refused(&["gen:nothing"], &["gen:nothing", "zipf"]);
    refused(&["gen:zipf:pages=1"], &["pages=1", "4096"]);
    refused(&["gen:zipf:events=0"], &["events=0", "1 or more"]);
    refused(&[SMALL, "--epoch", "-1"], &["'-1' is no epoch", "0 for never"]);
    refused(&[SMALL, "--memory", "-1"], &["unknown size '-1'"]);
    refused(&["--calibrate", &path("costs"), "--policy", "fixed:4K"], &["--calibrate", "--policy"]);
    refused(&["--calibrate", &path("costs"), "--json"], &["--calibrate", "--json"]);
    refused(&[SMALL, "--policy", "fixed:5K"], &["fixed:5K", "adaptive"]);
    refused(&[SMALL, "--memory", "64M,12Q"], &["12Q", "512M", "none"]);
    refused(&[SMALL, "--memory", "4K"], &["4 KiB", "1 MiB"]);
    refused(&[SMALL, "--fragmentation", "120"], &["120", "100"]);
    refused(&[SMALL, "--tlb", "zen9"], &["zen9", "skylake"]);
    refused(&[SMALL, "--tlb", "zen3,zen3"], &["zen3", "twice"]);
    refused(&[SMALL, "--html", "/nonexistent/page.html"], &["/nonexistent/page.html"]);
    refused(&[SMALL, "--policy", "base:5K"], &["base:5K", "base:64K"]);
    let (whole, cut) = (path("whole"), path("cut"));
    write_trace(whole.as_ref());
    let whole = fs::read(&whole).unwrap();
    fs::write(&cut, &whole[..40]).unwrap();
    refused(&[&cut, "--policy", "adaptive,fixed:4K"], &["cut off"]);
}
