//! Memory cgroups, version 1 or 2: a limit, what is resident, who was killed for want of memory.
//!
//! Version 1 is proven on the kernel. Version 2 is proven over a tree of plain files only: no machine at hand had it with a
//! memory controller.

use super::leftovers::{Entry, Held, Journal};
use crate::failure::Failure;
use crate::files::say;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Where cgroups are mounted.
pub(super) const MOUNT: &str = "/sys/fs/cgroup";
/// How long processes may take to end by SIGKILL: what they have in swap is freed page by page.
const END: Duration = Duration::from_secs(30);
/// How long an empty cgroup may stay busy while its last process is taken apart.
const BUSY: Duration = Duration::from_secs(5);

/// Which of the kernel's two interfaces there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Version {
    One,
    Two,
}

/// The hierarchy with the memory controller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Tree {
    version: Version,
    root: PathBuf,
}

impl Tree {
    /// The hierarchy below `mount`, or why no cgroup can be made there, in one line.
    pub(super) fn available(mount: &Path) -> Result<Tree, String> {
        let tree = Tree::find(mount).ok_or_else(|| {
            let mount = mount.display();
            format!("no memory controller is mounted at {mount}: mount cgroups, or run on the host")
        })?;
        tree.delegate().and_then(|()| tree.probe()).map_err(|error| {
            let root = tree.root.display();
            format!(
                "no memory cgroup can be made in {root} ({error}): run as root, in a container with \
                 --privileged"
            )
        })?;
        Ok(tree)
    }

    fn find(mount: &Path) -> Option<Tree> {
        let first = mount.join("memory");
        if first.join("memory.limit_in_bytes").exists() {
            return Some(Tree { version: Version::One, root: first });
        }
        let controllers = fs::read_to_string(mount.join("cgroup.controllers")).ok()?;
        has_memory(&controllers).then(|| Tree { version: Version::Two, root: mount.into() })
    }

    /// Version 2 gives its children a controller only when told. It stays so: others may rely on it by the time we end.
    fn delegate(&self) -> io::Result<()> {
        let control = self.root.join("cgroup.subtree_control");
        let is_given = || fs::read_to_string(&control).is_ok_and(|text| has_memory(&text));
        if self.version == Version::One || is_given() { Ok(()) } else { fs::write(&control, "+memory") }
    }

    /// Makes one and removes it: nothing else tells whether the mount is read-only.
    fn probe(&self) -> io::Result<()> {
        let path = self.root.join(format!("quire-bench-probe-{}", std::process::id()));
        match fs::create_dir(&path) {
            // Left by a process of this number that was killed in between.
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => fs::remove_dir(&path),
        }
    }

    /// A fresh cgroup with a limit in bytes, in which memory may go to the machine's swap or not.
    pub(super) fn create(
        &self,
        journal: &Rc<Journal>,
        limit: Option<u64>,
        swap: bool,
    ) -> Result<Cgroup, Failure> {
        let path = self.root.join(journal.fresh_name());
        let held = journal.hold(Entry::Cgroup { path: path.clone() })?;
        let cgroup = Cgroup { version: self.version, path, held: Some(held) };
        fs::create_dir(&cgroup.path).and_then(|()| cgroup.restrict(limit, swap)).map_err(|error| {
            let path = cgroup.path.display();
            Failure::own(format!("cgroup {path} can't be set up: {error}; run as root, or without cgroups"))
        })?;
        Ok(cgroup)
    }
}

/// A memory cgroup. Dropping it kills what is in it and removes it.
#[derive(Debug)]
pub(crate) struct Cgroup {
    version: Version,
    path: PathBuf,
    /// None once it is removed.
    held: Option<Held>,
}

/// What a cgroup has at one moment, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Usage {
    /// Anonymous memory, with huge pages, without what is in swap.
    pub(crate) anonymous: u64,
    /// All that is charged, memory files (memfd) and the kernel's own too, less the cache of files on disks: that goes
    /// where it is wanted.
    pub(crate) less_file_cache: u64,
}

impl Cgroup {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn restrict(&self, limit: Option<u64>, swap: bool) -> io::Result<()> {
        match self.version {
            Version::One => self.restrict_first(limit, swap),
            Version::Two => self.restrict_second(limit, swap),
        }
    }

    fn restrict_first(&self, limit: Option<u64>, swap: bool) -> io::Result<()> {
        if !swap {
            self.set("memory.swappiness", 0)?;
        }
        let Some(limit) = limit else { return Ok(()) };
        self.set("memory.limit_in_bytes", limit)?;
        if swap { Ok(()) } else { self.set_if_there("memory.memsw.limit_in_bytes", limit) }
    }

    fn restrict_second(&self, limit: Option<u64>, swap: bool) -> io::Result<()> {
        if let Some(limit) = limit {
            self.set("memory.max", limit)?;
        }
        if swap { Ok(()) } else { self.set_if_there("memory.swap.max", 0) }
    }

    fn set(&self, name: &str, value: u64) -> io::Result<()> {
        fs::write(self.path.join(name), value.to_string())
    }

    /// A kernel that counts no swap has not all files.
    fn set_if_there(&self, name: &str, value: u64) -> io::Result<()> {
        if self.path.join(name).exists() { self.set(name, value) } else { Ok(()) }
    }

    /// What it has now.
    pub(crate) fn usage(&self) -> io::Result<Usage> {
        let stat = fs::read_to_string(self.path.join("memory.stat"))?;
        // Of version 1, with all cgroups below, as its usage is.
        let [current, anonymous, file, shmem, swapped] = match self.version {
            Version::One => {
                ["memory.usage_in_bytes", "total_rss", "total_cache", "total_shmem", "total_swapcached"]
            }
            Version::Two => ["memory.current", "anon", "file", "shmem", "swapcached"],
        };
        let usage = number(&fs::read_to_string(self.path.join(current))?)?;
        // The page cache counts memory files and what is on its way to or from swap too; these are no files' pages.
        let in_memory = field(&stat, shmem)? + field(&stat, swapped).unwrap_or(0);
        let cache = field(&stat, file)?.saturating_sub(in_memory);
        Ok(Usage { anonymous: field(&stat, anonymous)?, less_file_cache: usage.saturating_sub(cache) })
    }

    /// How many processes the kernel killed here for want of memory.
    pub(crate) fn oom_kills(&self) -> io::Result<u64> {
        let name = match self.version {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        };
        field(&fs::read_to_string(self.path.join(name))?, "oom_kill")
    }

    /// Kills all processes in it, and waits until none is left.
    pub(crate) fn kill(&self) -> Result<(), Failure> {
        kill_all(&self.path.display().to_string(), || pids(&self.path))
    }

    /// Kills what is in it and removes it.
    pub(crate) fn remove(mut self) -> Result<(), Failure> {
        self.take_down()
    }

    fn take_down(&mut self) -> Result<(), Failure> {
        let Some(held) = self.held.take() else { return Ok(()) };
        remove(&self.path)?;
        held.undone();
        Ok(())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(failure) = self.take_down() {
            say(format_args!("{}", failure.message));
        }
    }
}

/// Removes a cgroup, whoever made it, with all its processes. One that is not there is removed.
pub(super) fn remove(path: &Path) -> Result<(), Failure> {
    kill_all(&path.display().to_string(), || pids(path))?;
    let until = Instant::now() + BUSY;
    loop {
        match fs::remove_dir(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                if Instant::now() > until {
                    let path = path.display();
                    return Err(Failure::own(format!(
                        "cgroup {path} can't be removed: {error}; try rmdir {path}"
                    )));
                }
            }
            _ => return Ok(()),
        }
        sleep(Duration::from_millis(20));
    }
}

/// Sends SIGKILL to all that `pids` finds until it finds none; `place` is for the message.
pub(crate) fn kill_all(place: &str, pids: impl Fn() -> Vec<u32>) -> Result<(), Failure> {
    let until = Instant::now() + END;
    loop {
        let found = pids();
        if found.is_empty() {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(Failure::own(format!(
                "in {place} processes don't end by SIGKILL: {found:?}; end them by hand"
            )));
        }
        for pid in found.into_iter().filter_map(|pid| Pid::from_raw(pid.cast_signed())) {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::KILL);
        }
        sleep(Duration::from_millis(5));
    }
}

fn has_memory(controllers: &str) -> bool {
    controllers.split_ascii_whitespace().any(|name| name == "memory")
}

pub(super) fn pids(path: &Path) -> Vec<u32> {
    let text = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    // A 0 stands for a process of another namespace: to kill 0 would be to kill ourselves.
    text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid != 0).collect()
}

/// The number on the line that begins with a name.
fn field(text: &str, name: &str) -> io::Result<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    number(rest.ok_or_else(|| io::Error::other(format!("there is no {name}")))?)
}

fn number(text: &str) -> io::Result<u64> {
    text.trim().parse().map_err(|_| io::Error::other(format!("'{}' is no number", text.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn only_the_controller_for_memory_is_one() {
        assert!(has_memory("cpuset cpu io memory pids\n") && has_memory("memory"));
        assert!(!has_memory("") && !has_memory("cpu io\n") && !has_memory("memory_recursiveprot"));
    }

    /// A tree of plain files, a journal for it, and where they are.
    fn fake(version: Version) -> (tempfile::TempDir, Tree, Rc<Journal>) {
        let place = tempfile::tempdir().unwrap();
        let mount = place.path().join("cgroup");
        fs::create_dir_all(mount.join("memory")).unwrap();
        match version {
            Version::One => fs::write(mount.join("memory/memory.limit_in_bytes"), "").unwrap(),
            Version::Two => fs::write(mount.join("cgroup.controllers"), "cpu memory pids\n").unwrap(),
        }
        let tree = Tree::available(&mount).unwrap();
        let journal = Journal::open(&place.path().join("journal")).unwrap();
        (place, tree, journal)
    }

    fn text(cgroup: &Cgroup, name: &str) -> Option<String> {
        fs::read_to_string(cgroup.path().join(name)).ok()
    }

    /// Plain files keep a directory from being removed; the kernel's don't.
    fn empty(cgroup: &Cgroup) {
        for entry in fs::read_dir(cgroup.path()).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }

    #[test]
    fn the_first_version_is_told_by_its_files() {
        let (_place, tree, journal) = fake(Version::One);
        assert_eq!(tree.version, Version::One);
        let cgroup = tree.create(&journal, Some(5 << 20), true).unwrap();
        assert_eq!(text(&cgroup, "memory.limit_in_bytes").as_deref(), Some("5242880"));
        assert_eq!(text(&cgroup, "memory.swappiness"), None, "swap as the machine does");
        // Where the kernel counts swap, there is the file.
        fs::write(cgroup.path().join("memory.memsw.limit_in_bytes"), "").unwrap();
        cgroup.restrict(Some(4096), false).unwrap();
        assert_eq!(text(&cgroup, "memory.memsw.limit_in_bytes").as_deref(), Some("4096"));
        assert_eq!(text(&cgroup, "memory.swappiness").as_deref(), Some("0"));
        empty(&cgroup);
    }

    #[test]
    fn the_second_version_is_told_by_its_files() {
        let (place, tree, journal) = fake(Version::Two);
        let control = fs::read_to_string(place.path().join("cgroup/cgroup.subtree_control")).unwrap();
        assert_eq!((tree.version, control.as_str()), (Version::Two, "+memory"));
        fs::write(place.path().join("cgroup/cgroup.subtree_control"), "cpu memory\n").unwrap();
        tree.delegate().unwrap();
        let control = fs::read_to_string(place.path().join("cgroup/cgroup.subtree_control")).unwrap();
        assert_eq!(control, "cpu memory\n", "it is given already");
        let cgroup = tree.create(&journal, Some(5 << 20), false).unwrap();
        assert_eq!(text(&cgroup, "memory.max").as_deref(), Some("5242880"));
        assert_eq!(text(&cgroup, "memory.swap.max"), None, "this kernel counts none");
        fs::write(cgroup.path().join("memory.swap.max"), "max").unwrap();
        cgroup.restrict(None, true).unwrap();
        assert_eq!(text(&cgroup, "memory.swap.max").as_deref(), Some("max"));
        cgroup.restrict(None, false).unwrap();
        assert_eq!(text(&cgroup, "memory.swap.max").as_deref(), Some("0"));
        empty(&cgroup);
    }

    #[test]
    fn memory_files_count_and_files_on_disks_do_not() {
        for (version, usage, names) in [
            (
                Version::One,
                "memory.usage_in_bytes",
                ["total_rss", "total_cache", "total_shmem", "total_swapcached"],
            ),
            (Version::Two, "memory.current", ["anon", "file", "shmem", "swapcached"]),
        ] {
            let (_place, tree, journal) = fake(version);
            let cgroup = tree.create(&journal, None, true).unwrap();
            let stat: Vec<String> = names
                .iter()
                .zip([500, 300, 100, 40])
                .map(|(name, bytes)| format!("{name}_of_another 7\n{name} {bytes}\n"))
                .collect();
            fs::write(cgroup.path().join("memory.stat"), stat.concat()).unwrap();
            fs::write(cgroup.path().join(usage), "1000\n").unwrap();
            // Of the 300 in the cache, 100 are memory files and 40 on their way to swap: 160 don't count.
            assert_eq!(cgroup.usage().unwrap(), Usage { anonymous: 500, less_file_cache: 840 });
            let usage = cgroup.usage().unwrap();
            assert_eq!((usage.anonymous, usage.less_file_cache), (500, 840));
            empty(&cgroup);
        }
    }

    #[test]
    fn kills_for_want_of_memory_are_counted() {
        for (version, name, content) in [
            (Version::One, "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
            (Version::Two, "memory.events", "low 0\nmax 12\noom 4\noom_kill 3\noom_group_kill 1\n"),
        ] {
            let (_place, tree, journal) = fake(version);
            let cgroup = tree.create(&journal, None, true).unwrap();
            assert!(cgroup.oom_kills().is_err(), "not counted is not none");
            fs::write(cgroup.path().join(name), content).unwrap();
            assert_eq!(cgroup.oom_kills().unwrap(), 3);
            empty(&cgroup);
        }
    }

    #[test]
    fn all_in_it_is_killed_before_it_is_removed() {
        let (_place, tree, journal) = fake(Version::Two);
        let cgroup = tree.create(&journal, None, true).unwrap();
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        // What nobody lists after its end, the kernel does not list either.
        let procs = cgroup.path().join("cgroup.procs");
        fs::write(&procs, format!("0\n{}\n", child.id())).unwrap();
        let ended = std::thread::spawn(move || {
            let status = child.wait().unwrap();
            fs::remove_file(procs).unwrap();
            status
        });
        let directory = cgroup.path().to_path_buf();
        cgroup.remove().unwrap();
        assert!(!ended.join().unwrap().success() && !directory.exists());
    }

    #[test]
    fn a_machine_without_the_rights_is_told_why() {
        let place = tempfile::tempdir().unwrap();
        let why = Tree::available(place.path()).unwrap_err();
        assert!(
            why.contains("no memory controller") && why.contains(&place.path().display().to_string()),
            "{why}"
        );
        // Where the control can't be written: it is a directory.
        fs::write(place.path().join("cgroup.controllers"), "memory").unwrap();
        fs::create_dir(place.path().join("cgroup.subtree_control")).unwrap();
        let why = Tree::available(place.path()).unwrap_err();
        assert!(why.contains("run as root") && !why.contains('\n'), "{why}");
    }
}
