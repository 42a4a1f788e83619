//! A limit for a live test: when it strikes, it says what all threads do at that moment, and ends the test's process.
//!
//! A test that hangs would otherwise say nothing until somebody ends it. What is printed comes from the kernel, which knows
//! also of threads that wait for a page fault; nothing here waits for a lock of the pager's.

#![allow(dead_code, reason = "each test target uses a part of it")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

/// Ends the process when its time is over, unless it is dropped before.
#[derive(Debug)]
pub(crate) struct Limit {
    _ends: Sender<()>,
}

impl Limit {
    /// From now on there are `seconds` seconds for what `name` tells.
    pub(crate) fn arm(name: &str, seconds: u64) -> Limit {
        let (ends, over) = mpsc::channel::<()>();
        let name = name.to_owned();
        thread::Builder::new()
            .name("limit".into())
            .spawn(move || {
                if over.recv_timeout(Duration::from_secs(seconds)) == Err(RecvTimeoutError::Timeout) {
                    strike(&name, seconds);
                }
            })
            .expect("a thread for the limit");
        Limit { _ends: ends }
    }

    /// The same for the test that runs in this thread.
    pub(crate) fn of_this_test(seconds: u64) -> Limit {
        let name = thread::current().name().unwrap_or("a test").to_owned();
        Limit::arm(&name, seconds)
    }
}

/// Says what everybody does, and ends the test.
fn strike(name: &str, seconds: u64) {
    // Not by the macros, which a test's output is captured from: it would be lost with the process.
    let text = format!("{name} has not ended in {seconds} s\n{}", stacks(process::id()));
    // There is nobody else to tell.
    let _ = std::io::stderr().write_all(text.as_bytes());
    for child in descendants(process::id()) {
        let _ = process::Command::new("kill").args(["-KILL", &child.to_string()]).status();
    }
    process::abort();
}

/// A line for each thread of the process and its descendants, and the kernel's part of its stack.
pub(crate) fn stacks(pid: u32) -> String {
    let mut text = String::new();
    for pid in [vec![pid], descendants(pid)].concat() {
        let command = read(format!("/proc/{pid}/cmdline")).replace('\0', " ");
        text += &format!("process {pid}: {command}\n");
        let maps = read(format!("/proc/{pid}/maps"));
        for tid in numbers(format!("/proc/{pid}/task")) {
            text += &of_thread(&format!("/proc/{pid}/task/{tid}"), tid, &maps);
        }
    }
    text
}

fn of_thread(at: &str, tid: u32, maps: &str) -> String {
    let stat = read(format!("{at}/stat"));
    // Behind the name, which stands in parentheses and may hold some.
    let state =
        stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next()).unwrap_or("?").to_owned();
    let (name, wchan, call) =
        (read(format!("{at}/comm")), read(format!("{at}/wchan")), read(format!("{at}/syscall")));
    let pc =
        call.split_whitespace().last().and_then(|pc| u64::from_str_radix(pc.strip_prefix("0x")?, 16).ok());
    let place = pc.map_or("?".into(), |pc| place(maps, pc));
    let mut text = format!("  thread {tid} ({}): state {state}, in {wchan}, system call ", name.trim());
    text += &format!("{}, at {place}\n", call.trim());
    for frame in read(format!("{at}/stack")).lines() {
        text += &format!("    {frame}\n");
    }
    text
}

/// The mapping in which address `pc` lies, and the offset in its file.
fn place(maps: &str, pc: u64) -> String {
    let found = maps.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let (from, to) = fields.next()?.split_once('-')?;
        let (from, to) = (u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?);
        let offset = u64::from_str_radix(fields.nth(1)?, 16).ok()?;
        let name = fields.nth(2).unwrap_or("(anonymous)");
        (from..to).contains(&pc).then(|| format!("{name}+{:#x}", pc - from + offset))
    });
    found.unwrap_or_else(|| format!("{pc:#x}"))
}

/// The children of a process, and theirs.
fn descendants(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for tid in numbers(format!("/proc/{pid}/task")) {
        for child in read(format!("/proc/{pid}/task/{tid}/children")).split_whitespace() {
            let Ok(child) = child.parse() else { continue };
            found.push(child);
            found.extend(descendants(child));
        }
    }
    found
}

fn numbers(directory: impl AsRef<Path>) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut found: Vec<u32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    found.sort_unstable();
    found
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
