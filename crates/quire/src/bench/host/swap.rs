//! Swap for the kernel's side: on a zram device (lz4, 4K pages), or on a file.
//!
//! It has the highest priority there is, so that the kernel fills it before any other swap of the machine. That other swap
//! is left alone: what is in it stays there, and more comes to it only when ours is full. Other programs of the machine may
//! be swapped to ours while it is on; its peak counts that too. Swap of the same priority would share the load: where there
//! is some already, also of another bench, ours is refused.

use super::leftovers::{Entry, Held, Journal};
use crate::failure::Failure;
use crate::files::{self, say};
use crate::run::program;
use crate::run::sample::kib_after;
use crate::size::human;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The highest priority that swap can have.
const HIGHEST: i32 = 32767;
/// What zram compresses by.
const ALGORITHM: &str = "lz4";
/// Where zram devices are added and taken away.
const CONTROL: &str = "/sys/class/zram-control";
/// How long a device may be busy because somebody looks what is on it.
const BUSY: Duration = Duration::from_secs(5);
/// Where the label stands in the header of swap: behind the boot block, three numbers and the UUID.
const LABEL: std::ops::Range<usize> = 1052..1067;

/// Swap that is on. Dropping it turns it off.
#[derive(Debug)]
pub(crate) struct Swap {
    kind: Kind,
    /// What is in `/proc/swaps`.
    path: PathBuf,
    /// The most that a look saw in use, in bytes.
    seen: Cell<u64>,
    /// None once it is off.
    held: Option<Held>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Kind {
    Zram(Zram),
    File,
}

/// A zram device that is ours for a time, and what it was before.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Zram {
    /// `zram0`.
    device: String,
    /// Whether it was added for us, and is to be taken away again.
    added: bool,
    /// What it compressed by before.
    algorithm: String,
    /// The label of our swap on it.
    label: String,
}

impl Swap {
    /// Swap on a zram device of so many bytes, before it compresses them.
    pub(super) fn zram(journal: &Rc<Journal>, bytes: u64) -> Result<Swap, Failure> {
        check_memory(bytes, available())?;
        check_priorities(&table())?;
        let _lock = journal.lock()?;
        for device in unused(&devices()) {
            let zram = Zram::new(&device, false, journal);
            let held = journal.hold(Entry::Zram(zram.clone()))?;
            let swap = Swap::of_device(zram, held);
            match prepare(&device, bytes) {
                // Somebody else was faster: it is theirs.
                Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => swap.forget(),
                prepared => return swap.begin(prepared),
            }
        }
        let swap = Swap::add_device(journal)?;
        let prepared = prepare(&swap.name(), bytes);
        swap.begin(prepared)
    }

    fn of_device(zram: Zram, held: Held) -> Swap {
        let path = zram.path();
        Swap::new(Kind::Zram(zram), path, held)
    }

    fn add_device(journal: &Rc<Journal>) -> Result<Swap, Failure> {
        let held = journal.hold(Entry::Adding { known: devices() })?;
        let number = match fs::read_to_string(Path::new(CONTROL).join("hot_add")) {
            Ok(number) => number.trim().to_owned(),
            Err(error) => {
                held.undone();
                return Err(Failure::own(format!(
                    "no zram device can be had ({error}): modprobe zram, or measure against a file (--against disk)"
                )));
            }
        };
        let zram = Zram::new(&format!("zram{number}"), true, journal);
        held.becomes(Entry::Zram(zram.clone()))?;
        Ok(Swap::of_device(zram, held))
    }

    fn new(kind: Kind, path: PathBuf, held: Held) -> Swap {
        Swap { kind, path, seen: Cell::new(0), held: Some(held) }
    }

    /// Lets a device go that was never ours.
    fn forget(mut self) {
        if let Some(held) = self.held.take() {
            held.undone();
        }
    }

    fn begin(self, prepared: io::Result<()>) -> Result<Swap, Failure> {
        prepared.map_err(|error| {
            let shown = self.path.display();
            Failure::own(format!(
                "{shown} can't be set up with {ALGORITHM}: {error}; measure against a file (--against disk)"
            ))
        })?;
        if let Kind::Zram(zram) = &self.kind {
            switch_on(&self.path, &zram.label)?;
        }
        Ok(self)
    }

    /// Swap on a file of so many bytes in a directory, which must be on a disk.
    pub(super) fn file(journal: &Rc<Journal>, directory: &Path, bytes: u64) -> Result<Swap, Failure> {
        let problem = |error: &dyn std::fmt::Display| {
            let shown = directory.display();
            Failure::own(format!(
                "no swap file can be made in {shown}: {error}; choose another directory on a disk"
            ))
        };
        // As the kernel will name it.
        let directory = directory.canonicalize().map_err(|error| problem(&error))?;
        let opened = File::open(&directory).map_err(|error| problem(&error))?;
        if let Some(kind) = files::in_memory(opened).map_err(|error| problem(&error))? {
            return Err(problem(&format!("it is on {kind}, which is memory")));
        }
        check_memory(bytes, available())?;
        check_priorities(&table())?;
        let path = directory.join(format!("{}.swap", journal.fresh_name()));
        let held = journal.hold(Entry::SwapFile { path: path.clone() })?;
        let swap = Swap::new(Kind::File, path, held);
        allocate(&swap.path, bytes).map_err(|error| problem(&error))?;
        switch_on(&swap.path, &journal.label())?;
        Ok(swap)
    }

    /// What it is, for who reads the results: `zram (lz4)`, `a file on /var/tmp (ext4)`.
    pub(crate) fn describe(&self) -> String {
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        match &self.kind {
            Kind::Zram(_) => format!("zram ({ALGORITHM})"),
            Kind::File => match file_system(parent) {
                Some(kind) => format!("a file on {} ({kind})", parent.display()),
                None => format!("a file on {}", parent.display()),
            },
        }
    }

    /// The device or file.
    #[cfg(test)]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that are swapped out now, before compression.
    pub(crate) fn used(&self) -> u64 {
        table().into_iter().find(|on| on.path == self.path).map_or(0, |on| on.used)
    }

    /// Looks at it, for the peak of a file.
    pub(crate) fn sample(&self) {
        if self.kind == Kind::File {
            self.seen.set(self.seen.get().max(self.used()));
        }
    }

    /// Begins a new measurement of the peak.
    pub(crate) fn forget_peak(&self) -> Result<(), Failure> {
        self.seen.set(0);
        let Kind::Zram(zram) = &self.kind else { return Ok(()) };
        fs::write(attribute(&zram.device, "mem_used_max"), "0").map_err(|error| self.unreadable(&error))
    }

    /// The most since then, in bytes: of zram what its pool took of memory, as the kernel tells; of a file what was in use of
    /// it, as samples saw it.
    pub(crate) fn peak(&self) -> Result<u64, Failure> {
        let Kind::Zram(zram) = &self.kind else { return Ok(self.seen.get()) };
        let text = fs::read_to_string(attribute(&zram.device, "mm_stat"));
        let text = text.map_err(|error| self.unreadable(&error))?;
        let unknown = || self.unreadable(&io::Error::other(format!("mm_stat is '{}'", text.trim())));
        pool_peak(&text).ok_or_else(unknown)
    }

    fn unreadable(&self, error: &io::Error) -> Failure {
        Failure::own(format!(
            "{}'s peak can't be had: {error}; is it in use by another?",
            self.path.display()
        ))
    }

    fn take_down(&mut self) -> Result<(), Failure> {
        let Some(held) = self.held.take() else { return Ok(()) };
        match &self.kind {
            Kind::Zram(zram) => undo_zram(zram)?,
            Kind::File => undo_file(&self.path)?,
        };
        held.undone();
        Ok(())
    }

    fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        if let Err(failure) = self.take_down() {
            say(format_args!("{}; the next quire bench tries again", failure.message));
        }
    }
}

impl Zram {
    fn new(device: &str, added: bool, journal: &Journal) -> Zram {
        let algorithms = fs::read_to_string(attribute(device, "comp_algorithm")).unwrap_or_default();
        let algorithm = chosen(&algorithms).unwrap_or_default().into();
        Zram { device: device.into(), added, algorithm, label: journal.label() }
    }

    pub(super) fn device(&self) -> &str {
        &self.device
    }

    fn path(&self) -> PathBuf {
        Path::new("/dev").join(&self.device)
    }
}

/// Turns swap on a zram device off if it is ours, and makes the device as it was; says what there was.
pub(super) fn undo_zram(zram: &Zram) -> Result<Option<String>, Failure> {
    let Some(size) = size_of(&zram.device) else { return Ok(None) };
    if size > 0 {
        // A device that somebody reset and uses by now is theirs.
        if !is_ours(&zram.path(), &zram.label) {
            return Ok(None);
        }
        switch_off(&zram.path())?;
        reset(zram)?;
    }
    if zram.added {
        take_away(&zram.device)?;
    }
    Ok((size > 0 || zram.added).then(|| format!("swap on {}", zram.device)))
}

/// Turns swap on a file off and removes it; says what there was.
pub(super) fn undo_file(path: &Path) -> Result<Option<String>, Failure> {
    switch_off(path)?;
    match fs::remove_file(path) {
        Ok(()) => Ok(Some(format!("swap file {}", path.display()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let shown = path.display();
            Err(Failure::own(format!("{shown} can't be removed: {error}; try rm {shown}")))
        }
    }
}

/// Takes away zram devices that were added but not recorded: they are not among the known ones, not in use, and
/// `recorded` by nobody. Says what there was.
pub(super) fn take_away_unknown(known: &[String], recorded: &[String]) -> Result<Option<String>, Failure> {
    let present = devices();
    let left: Vec<&String> = present
        .iter()
        .filter(|device| !known.contains(device) && !recorded.contains(device) && size_of(device) == Some(0))
        .collect();
    for device in &left {
        take_away(device)?;
    }
    let names: Vec<&str> = left.iter().map(|device| device.as_str()).collect();
    Ok((!names.is_empty()).then(|| format!("device {}", names.join(", "))))
}

/// Refuses swap that could not be turned off again: what was swapped must fit into the memory that is left.
fn check_memory(bytes: u64, available: u64) -> Result<(), Failure> {
    if bytes <= available {
        return Ok(());
    }
    Err(Failure::own(format!(
        "swap of {} is refused: only {} of memory are left, into which all of it must fit when it is turned off; end other \
         programs, or measure with less",
        human(bytes),
        human(available)
    )))
}

/// Refuses where other swap would be filled as soon as ours.
fn check_priorities(table: &[On]) -> Result<(), Failure> {
    match table.iter().find(|on| on.priority >= HIGHEST) {
        Some(on) => {
            let shown = on.path.display();
            Err(Failure::own(format!(
                "swap on {shown} has the highest priority, so that ours would share with it: wait if it is another bench's, \
                 else turn it off with swapoff {shown}"
            )))
        }
        None => Ok(()),
    }
}

/// Memory that can be had without swapping, in bytes.
fn available() -> u64 {
    kib_after(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "MemAvailable:").unwrap_or(0)
}

/// One line of `/proc/swaps`.
#[derive(Clone, PartialEq, Eq, Debug)]
struct On {
    path: PathBuf,
    /// Bytes.
    used: u64,
    priority: i32,
}

fn table() -> Vec<On> {
    parse_table(&fs::read("/proc/swaps").unwrap_or_default())
}

fn parse_table(text: &[u8]) -> Vec<On> {
    text.split(|byte| *byte == b'\n').skip(1).filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<On> {
    let mut fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    let path = unescape(fields.next()?);
    let mut number = |at| std::str::from_utf8(fields.nth(at)?).ok()?.parse::<i64>().ok();
    let (used, priority) = (number(2)?, number(0)?);
    Some(On { path, used: u64::try_from(used).ok()? * 1024, priority: i32::try_from(priority).ok()? })
}

/// The kernel writes white space and backslashes in octal.
fn unescape(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let octal = text.get(at + 1..at + 4).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.filter(|_| byte == b'\\').and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(escaped) => (bytes.push(escaped), at += 4).1,
            None => (bytes.push(byte), at += 1).1,
        }
    }
    OsString::from_vec(bytes).into()
}

/// The zram devices of this machine, in the order of their numbers.
fn devices() -> Vec<String> {
    let found = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let mut numbers: Vec<u32> =
        found.filter_map(|entry| entry.file_name().to_str()?.strip_prefix("zram")?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers.into_iter().map(|number| format!("zram{number}")).collect()
}

fn unused(devices: &[String]) -> Vec<String> {
    devices.iter().filter(|device| size_of(device) == Some(0)).cloned().collect()
}

/// The size of a device in bytes, 0 for one that is not set up; none where it is not there.
fn size_of(device: &str) -> Option<u64> {
    fs::read_to_string(attribute(device, "disksize")).ok()?.trim().parse().ok()
}

fn attribute(device: &str, name: &str) -> PathBuf {
    Path::new("/sys/block").join(device).join(name)
}

fn prepare(device: &str, bytes: u64) -> io::Result<()> {
    fs::write(attribute(device, "comp_algorithm"), ALGORITHM)?;
    fs::write(attribute(device, "disksize"), bytes.to_string())
}

/// Of `[lzo-rle] lzo lz4` the one in brackets.
fn chosen(algorithms: &str) -> Option<&str> {
    algorithms.split_ascii_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'))
}

/// The most that the pool took, in bytes, by the text of `mm_stat`.
fn pool_peak(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().nth(4)?.parse().ok()
}

/// Whether a device that is set up has our swap on it, or nothing yet.
fn is_ours(path: &Path, label: &str) -> bool {
    let mut page = [0; 4096];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut page));
    read.is_ok() && (page[LABEL] == *label.as_bytes() || page.iter().all(|byte| *byte == 0))
}

fn reset(zram: &Zram) -> Result<(), Failure> {
    let device = &zram.device;
    patiently(|| fs::write(attribute(device, "reset"), "1")).map_err(|error| {
        Failure::own(format!("{device} can't be reset: {error}; try zramctl --reset /dev/{device}"))
    })?;
    // Kernels differ in whether a reset does this; none minds.
    let _ = fs::write(attribute(device, "comp_algorithm"), &zram.algorithm);
    Ok(())
}

fn take_away(device: &str) -> Result<(), Failure> {
    let number = device.trim_start_matches("zram");
    let control = Path::new(CONTROL).join("hot_remove");
    patiently(|| fs::write(&control, number)).map_err(|error| {
        let control = control.display();
        Failure::own(format!("{device} can't be taken away: {error}; try echo {number} > {control}"))
    })
}

/// Repeats what may find a device busy for a moment.
fn patiently(act: impl Fn() -> io::Result<()>) -> io::Result<()> {
    let until = Instant::now() + BUSY;
    loop {
        match act() {
            Err(error) if error.kind() == ErrorKind::ResourceBusy && Instant::now() < until => {
                sleep(Duration::from_millis(50));
            }
            result => return result,
        }
    }
}

fn allocate(path: &Path, bytes: u64) -> io::Result<()> {
    let file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(fallocate(file, FallocateFlags::empty(), 0, bytes)?)
}

fn switch_on(path: &Path, label: &str) -> Result<(), Failure> {
    command("mkswap", ["-L".as_ref(), label.as_ref(), path.as_os_str()])?;
    command("swapon", ["-p".as_ref(), HIGHEST.to_string().as_ref(), path.as_os_str()])
}

/// Turns swap off where it is on, unless memory would not do for it.
fn switch_off(path: &Path) -> Result<(), Failure> {
    let Some(on) = table().into_iter().find(|on| on.path == path) else { return Ok(()) };
    if on.used > available() {
        let shown = path.display();
        return Err(Failure::own(format!(
            "{shown} holds {} of swapped memory, for which there is no room: end what uses it, then swapoff {shown}",
            human(on.used)
        )));
    }
    command("swapoff", [path.as_os_str()])
}

/// Runs a tool of util-linux in a process group of its own, so that Ctrl-C does not end it half-way.
fn command<const N: usize>(name: &str, arguments: [&OsStr; N]) -> Result<(), Failure> {
    let tool = tool(name)?;
    let done = Command::new(tool).args(arguments).stdin(Stdio::null()).process_group(0).output();
    let said = match done {
        Ok(done) if done.status.success() => return Ok(()),
        Ok(done) => String::from_utf8_lossy(&done.stderr).trim().replace('\n', "; "),
        Err(error) => error.to_string(),
    };
    let words: Vec<String> = arguments.iter().map(|word| word.display().to_string()).collect();
    Err(Failure::own(format!("{name} {} failed: {said}; try it by hand", words.join(" "))))
}

fn tool(name: &str) -> Result<PathBuf, Failure> {
    let elsewhere = ["/sbin", "/usr/sbin"].map(|directory| Path::new(directory).join(name));
    program::find(name.as_ref())
        .ok()
        .or_else(|| elsewhere.into_iter().find(|path| path.is_file()))
        .ok_or_else(|| Failure::own(format!("{name} is not installed: install util-linux")))
}

/// The kind of file system that a directory is on.
fn file_system(directory: &Path) -> Option<String> {
    let device = fs::metadata(directory).ok()?.dev();
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    kind_of(&mounts, rustix::fs::major(device), rustix::fs::minor(device))
}

fn kind_of(mounts: &str, major: u32, minor: u32) -> Option<String> {
    let device = format!("{major}:{minor}");
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some(&device))?;
    Some(line.split_once(" - ")?.1.split(' ').next()?.into())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::size::MIB;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    /// Held by the one test that has swap: two of the highest priority are refused.
    static ALONE: Mutex<()> = Mutex::new(());

    pub(crate) fn alone() -> MutexGuard<'static, ()> {
        ALONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The swap; nothing, with the reason printed, where this machine has other swap that keeps a test from it.
    pub(crate) fn tried(swap: Result<Swap, Failure>) -> Option<Swap> {
        match swap {
            Err(failure) if failure.message.contains("the highest priority") => {
                println!("not tried: {}", failure.message);
                None
            }
            swap => Some(swap.unwrap()),
        }
    }

    /// A journal in a place on a disk, where one may set up swap; else why not.
    fn place() -> Result<(tempfile::TempDir, Rc<Journal>), &'static str> {
        if !rustix::process::geteuid().is_root() {
            return Err("not root");
        }
        let place = tempfile::tempdir_in("/var/tmp").unwrap();
        let journal = Journal::open(&place.path().join("journal")).unwrap();
        Ok((place, journal))
    }

    fn recorded(place: &tempfile::TempDir) -> usize {
        let files = fs::read_dir(place.path().join("journal")).unwrap().flatten();
        files.filter(|entry| entry.path().extension() == Some(OsStr::new("json"))).count()
    }

    #[test]
    fn zram_comes_and_goes_without_a_trace() {
        let (place, journal) = match place() {
            Ok(place) => place,
            Err(why) => return println!("not tried: {why}"),
        };
        let _alone = alone();
        let present = devices();
        if present.is_empty() && !Path::new(CONTROL).exists() {
            return println!("not tried: no zram");
        }
        let Some(swap) = tried(Swap::zram(&journal, 64 * MIB)) else { return };
        let name = swap.name();
        let on = table().into_iter().find(|on| on.path == swap.path()).unwrap();
        assert_eq!((on.priority, swap.used(), recorded(&place)), (HIGHEST, on.used, 1));
        assert_eq!(size_of(&name), Some(64 * MIB));
        let algorithms = fs::read_to_string(attribute(&name, "comp_algorithm")).unwrap();
        assert_eq!(chosen(&algorithms), Some(ALGORITHM));
        swap.forget_peak().unwrap();
        assert!(swap.peak().unwrap() < MIB);
        assert_eq!(swap.describe(), "zram (lz4)");
        let Kind::Zram(zram) = swap.kind.clone() else { panic!() };
        drop(journal);
        drop(swap);
        assert!(table().iter().all(|on| on.path != Path::new("/dev").join(&name)));
        assert_eq!((recorded(&place), size_of(&name)), (0, present.contains(&name).then_some(0)));
        if present.contains(&name) {
            let algorithms = fs::read_to_string(attribute(&name, "comp_algorithm")).unwrap();
            assert_eq!(chosen(&algorithms), Some(zram.algorithm.as_str()));
        }
    }

    #[test]
    fn an_added_device_is_taken_away_and_one_of_anothers_is_not_touched() {
        let (place, journal) = match place() {
            Ok(place) if Path::new(CONTROL).exists() => place,
            Ok(_) => return println!("not tried: no zram"),
            Err(why) => return println!("not tried: {why}"),
        };
        let _alone = alone();
        let swap = Swap::add_device(&journal).unwrap();
        let name = swap.name();
        let Kind::Zram(zram) = swap.kind.clone() else { panic!() };
        fs::write(attribute(&name, "disksize"), MIB.to_string()).unwrap();
        fs::write(&swap.path, "somebody else's").unwrap();
        assert_eq!(undo_zram(&zram), Ok(None));
        assert_eq!(size_of(&name), Some(MIB));
        // Now it is as our own leaves it that was killed before mkswap.
        fs::write(attribute(&name, "reset"), "1").unwrap();
        fs::write(attribute(&name, "disksize"), MIB.to_string()).unwrap();
        drop(swap);
        assert_eq!((size_of(&name), recorded(&place)), (None, 0));
    }

    #[test]
    fn a_file_comes_and_goes() {
        let (place, journal) = match place() {
            Ok(place) => place,
            Err(why) => return println!("not tried: {why}"),
        };
        let directory = place.path().join("a directory");
        fs::create_dir(&directory).unwrap();
        let _alone = alone();
        let Some(swap) = tried(Swap::file(&journal, &directory, 8 * MIB)) else { return };
        let found = fs::metadata(swap.path()).unwrap();
        assert_eq!(
            (found.mode() & 0o7777, found.len(), found.blocks() * 512 >= 8 * MIB),
            (0o600, 8 * MIB, true)
        );
        assert!(table().iter().any(|on| on.path == swap.path() && on.priority == HIGHEST));
        swap.sample();
        assert_eq!(swap.peak(), Ok(swap.seen.get()));
        assert!(swap.describe().starts_with("a file on /var/tmp/"), "{}", swap.describe());
        let path = swap.path().to_path_buf();
        drop(swap);
        assert!(!path.exists() && table().iter().all(|on| on.path != path));
        assert_eq!(recorded(&place), 0);
    }

    #[test]
    fn a_file_in_memory_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let journal = Journal::open(&place.path().join("journal")).unwrap();
        let refusal = |path: &str| Swap::file(&journal, path.as_ref(), 4096).unwrap_err().message;
        assert!(refusal("/dev/shm").contains("tmpfs"));
        assert!(refusal("/nonexistent").contains("/nonexistent"));
    }

    #[test]
    fn swap_that_could_not_be_turned_off_again_is_refused() {
        assert_eq!(check_memory(4096, 4096), Ok(()));
        let message = check_memory(2 << 30, 1 << 30).unwrap_err().message;
        assert!(
            message.contains("2 GiB") && message.contains("1 GiB") && !message.contains('\n'),
            "{message}"
        );
    }

    #[test]
    fn the_table_of_swaps_is_read() {
        let text = b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n\
            /dev/zram0                              partition\t65532\t\t12\t\t32767\n\
            /var/tmp/a\\040b\\134                     file\t\t8188\t\t0\t\t-2\n";
        let on = |path: &str, used, priority| On { path: path.into(), used, priority };
        let table = parse_table(text);
        assert_eq!(table, [on("/dev/zram0", 12 << 10, 32767), on("/var/tmp/a b\\", 0, -2)]);
        assert!(check_priorities(&table).unwrap_err().message.contains("/dev/zram0"));
        assert_eq!(check_priorities(&table[1..]), Ok(()));
    }

    #[test]
    fn figures_of_a_device_are_read() {
        assert_eq!(chosen("[lzo-rle] lzo lz4"), Some("lzo-rle"));
        assert_eq!(chosen("lzo lz4"), None);
        assert_eq!(pool_peak("  1 2 3 4 50331648 6 7 8 9\n"), Some(50_331_648));
        assert_eq!(pool_peak("1 2 3 4"), None);
    }

    #[test]
    fn the_kind_of_a_file_system_is_that_of_its_device() {
        let mounts = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:11 / /a rw shared:1 - xfs /dev/sdb rw\n";
        assert_eq!(kind_of(mounts, 8, 11).as_deref(), Some("xfs"));
        assert_eq!(kind_of(mounts, 8, 1).as_deref(), Some("ext4"));
        assert_eq!(kind_of(mounts, 8, 2), None);
    }
}
