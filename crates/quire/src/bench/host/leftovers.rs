//! What must be put back even when `quire` is killed: a journal, and the sweep that undoes what it tells.
//!
//! Each owner (a process that changes the machine) has a file of its own, which is written before each act and again once
//! the act is undone. Whoever starts later sweeps: what owners that no longer live have left is undone, what belongs to
//! living ones is not touched. An owner is told by its process id, the time of its start and the boot, so that a number
//! that was given again is not taken for it. The journal outlives SIGKILL, not a power cut: after that, of all this only
//! files are left, and of those the last may not be known.

use super::{cgroup, swap};
use crate::failure::Failure;
use crate::files::say;
use crate::run::sample::started;
use crate::size::counted;
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

/// One change of the machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Entry {
    /// A cgroup, with what runs in it.
    Cgroup { path: PathBuf },
    /// A zram device is being added; these were there before.
    Adding { known: Vec<String> },
    /// A zram device as swap.
    Zram(swap::Zram),
    /// A file, and swap on it.
    SwapFile { path: PathBuf },
    /// A directory of our own, with all that is in it.
    Directory { path: PathBuf },
}

/// Who changed the machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Owner {
    pid: u32,
    /// In clock ticks since the boot.
    started: u64,
    /// The kernel's id of the boot.
    boot: String,
    /// The namespace of its process id.
    namespace: PathBuf,
}

impl Owner {
    fn own() -> io::Result<Owner> {
        let pid = process::id();
        Ok(Owner {
            pid,
            started: started(pid).ok_or_else(|| io::Error::other("/proc doesn't show this process"))?,
            boot: fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().into(),
            namespace: fs::read_link("/proc/self/ns/pid")?,
        })
    }
}

/// What may be done about an owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// It lives, or lived in another namespace of processes where nobody here can look.
    Spared,
    /// It ended during this boot: all of it may be left.
    Ended,
    /// It ended with an earlier boot: only files are left, devices have the same names but are not the same.
    OfEarlierBoot,
}

/// What an owner has changed and not yet put back.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Page {
    owner: Owner,
    /// In the order of the acts.
    entries: Vec<(u32, Entry)>,
}

impl Page {
    fn read(path: &Path) -> io::Result<Page> {
        Ok(serde_json::from_str(&fs::read_to_string(path)?)?)
    }

    /// Whole or not at all, also for who is killed in between. An empty page is no file.
    fn write(&self, path: &Path) -> io::Result<()> {
        if self.entries.is_empty() {
            // What somebody who was killed while he wrote has left.
            let _ = fs::remove_file(path.with_extension("new"));
            return match fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let fresh = path.with_extension("new");
        fs::write(&fresh, serde_json::to_vec(self)?)?;
        fs::rename(&fresh, path)
    }
}

/// The journal of this process.
#[derive(Debug)]
pub(super) struct Journal {
    directory: PathBuf,
    file: PathBuf,
    page: RefCell<Page>,
    next: Cell<u32>,
}

/// Tells apart what one process makes.
static COUNT: AtomicU32 = AtomicU32::new(0);

impl Journal {
    /// The journal in a directory, which is made where it is not there.
    pub(super) fn open(directory: &Path) -> Result<Rc<Journal>, Failure> {
        private(directory).and_then(|()| Journal::new(directory)).map(Rc::new).map_err(|error| {
            let shown = directory.display();
            Failure::own(format!(
                "what is to be put back can't be noted in {shown}: {error}; remove it, or make it yours (0700)"
            ))
        })
    }

    /// The journal where all of this user's are.
    pub(super) fn open_default() -> Result<Rc<Journal>, Failure> {
        let own = PathBuf::from(format!("/var/tmp/quire-bench-{}", rustix::process::geteuid().as_raw()));
        Journal::open("/run/quire-bench".as_ref()).or_else(|_| Journal::open(&own))
    }

    fn new(directory: &Path) -> io::Result<Journal> {
        let owner = Owner::own()?;
        let journal = Journal {
            directory: directory.into(),
            file: directory.join(format!("{}.json", name_of(&owner))),
            page: RefCell::new(Page { owner, entries: Vec::new() }),
            next: Cell::new(0),
        };
        // Nothing is worth beginning where nothing can be written.
        File::create(directory.join("lock"))?;
        Ok(journal)
    }

    /// A name that nothing else has, and that tells the owner.
    pub(super) fn fresh_name(&self) -> String {
        format!("quire-bench-{}", name_of(&self.page.borrow().owner))
    }

    /// A label for swap that tells the owner in the 15 bytes that a label has before its end.
    pub(super) fn label(&self) -> String {
        let page = self.page.borrow();
        format!("q{:06x}{:08x}", page.owner.pid & 0xff_ffff, page.owner.started & 0xffff_ffff)
    }

    /// Notes an act that is about to be done.
    pub(super) fn hold(self: &Rc<Journal>, entry: Entry) -> Result<Held, Failure> {
        let number = self.next.replace(self.next.get() + 1);
        self.page.borrow_mut().entries.push((number, entry));
        self.write()?;
        Ok(Held { journal: Rc::clone(self), number })
    }

    fn write(&self) -> Result<(), Failure> {
        self.page.borrow().write(&self.file).map_err(|error| {
            let shown = self.file.display();
            Failure::own(format!(
                "what is to be put back can't be noted in {shown}: {error}; make room there"
            ))
        })
    }

    /// Keeps other owners from choosing a device, and from sweeping, as long as the file lives.
    pub(super) fn lock(&self) -> Result<File, Failure> {
        let path = self.directory.join("lock");
        let locked = File::options().write(true).open(&path).and_then(|file| file.lock().map(|()| file));
        locked
            .map_err(|error| Failure::own(format!("{} can't be locked: {error}; try again", path.display())))
    }

    /// Undoes what owners that no longer live have left, and says in lines what that was.
    pub(super) fn sweep(&self) -> Result<Vec<String>, Failure> {
        let _lock = self.lock()?;
        let mut lines = Vec::new();
        for path in self.pages() {
            match Page::read(&path) {
                Ok(page) => self.sweep_page(page, &path, &mut lines),
                Err(error) => lines.push(format!(
                    "{} can't be read: {error}; look what it tells of, and remove it",
                    path.display()
                )),
            }
        }
        Ok(lines)
    }

    /// The files of all owners but this one.
    fn pages(&self) -> Vec<PathBuf> {
        let found = fs::read_dir(&self.directory).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut pages: Vec<PathBuf> =
            found.filter(|path| path.extension() == Some(OsStr::new("json")) && *path != self.file).collect();
        pages.sort();
        pages
    }

    fn sweep_page(&self, mut page: Page, path: &Path, lines: &mut Vec<String>) {
        let fate = self.fate(&page.owner);
        if fate == Fate::Spared {
            return;
        }
        let pid = page.owner.pid;
        let mut entries: Vec<(u32, Entry)> = page.entries.iter().rev().cloned().collect();
        // What runs goes first: it holds what is swapped out.
        entries.sort_by_key(|(_, entry)| !matches!(entry, Entry::Cgroup { .. }));
        for (number, entry) in entries {
            if fate == Fate::Ended || entry.outlives_boot() {
                match self.undo(&entry) {
                    Ok(found) => {
                        lines.extend(found.map(|what| {
                            format!("{what} was left by a bench that was killed (process {pid})")
                        }));
                    }
                    Err(failure) => {
                        lines.push(failure.message);
                        continue;
                    }
                }
            }
            page.entries.retain(|(other, _)| *other != number);
            // Who is killed while he sweeps leaves the rest to the next.
            if let Err(error) = page.write(path) {
                lines.push(format!("{} can't be written: {error}; remove it", path.display()));
            }
        }
    }

    fn fate(&self, owner: &Owner) -> Fate {
        let page = self.page.borrow();
        if owner.boot != page.owner.boot {
            return Fate::OfEarlierBoot;
        }
        if owner.namespace != page.owner.namespace || started(owner.pid) == Some(owner.started) {
            return Fate::Spared;
        }
        Fate::Ended
    }

    /// Undoes one act; says what there was, if there was anything.
    fn undo(&self, entry: &Entry) -> Result<Option<String>, Failure> {
        match entry {
            Entry::Cgroup { path } => undo_cgroup(path),
            Entry::Adding { known } => swap::take_away_unknown(known, &self.devices()),
            Entry::Zram(zram) => swap::undo_zram(zram),
            Entry::SwapFile { path } => swap::undo_file(path),
            Entry::Directory { path } => undo_directory(path),
        }
    }

    /// The zram devices that any owner has recorded.
    fn devices(&self) -> Vec<String> {
        let others = self.pages().into_iter().filter_map(|path| Page::read(&path).ok());
        let entries = others.chain([self.page.borrow().clone()]).flat_map(|page| page.entries);
        entries
            .filter_map(|(_, entry)| match entry {
                Entry::Zram(zram) => Some(zram.device().to_owned()),
                _ => None,
            })
            .collect()
    }
}

impl Entry {
    fn outlives_boot(&self) -> bool {
        matches!(self, Entry::SwapFile { .. } | Entry::Directory { .. })
    }
}

/// An act that is recorded. Dropping it leaves the note: the next start will undo the act.
#[derive(Debug)]
pub(super) struct Held {
    journal: Rc<Journal>,
    number: u32,
}

impl Held {
    /// Notes that the act has turned out to be another.
    pub(super) fn becomes(&self, entry: Entry) -> Result<(), Failure> {
        for (number, held) in &mut self.journal.page.borrow_mut().entries {
            if *number == self.number {
                held.clone_from(&entry);
            }
        }
        self.journal.write()
    }

    /// Notes that the act is undone.
    pub(super) fn undone(self) {
        self.journal.page.borrow_mut().entries.retain(|(number, _)| *number != self.number);
        // The next start would find nothing to undo: it is enough to tell.
        if let Err(failure) = self.journal.write() {
            say(format_args!("{}", failure.message));
        }
    }
}

/// A directory of our own, which goes away with all that is in it.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// None once it is removed.
    held: Option<Held>,
}

impl Directory {
    /// A fresh one in `parent`, for this user alone.
    pub(super) fn create(journal: &Rc<Journal>, parent: &Path) -> Result<Directory, Failure> {
        let path = parent.join(journal.fresh_name());
        let held = journal.hold(Entry::Directory { path: path.clone() })?;
        let directory = Directory { path, held: Some(held) };
        DirBuilder::new().mode(0o700).create(&directory.path).map_err(|error| {
            let parent = parent.display();
            Failure::own(format!("no directory can be made in {parent}: {error}; choose another with TMPDIR"))
        })?;
        Ok(directory)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let Some(held) = self.held.take() else { return };
        match undo_directory(&self.path) {
            Ok(_) => held.undone(),
            Err(failure) => say(format_args!("{}", failure.message)),
        }
    }
}

fn undo_cgroup(path: &Path) -> Result<Option<String>, Failure> {
    if !path.exists() {
        return Ok(None);
    }
    let pids = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    let count = counted(pids.lines().count() as u64, "program");
    cgroup::remove(path)?;
    Ok(Some(format!("cgroup {} with {count}", path.display())))
}

fn undo_directory(path: &Path) -> Result<Option<String>, Failure> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(Some(format!("directory {}", path.display()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let shown = path.display();
            Err(Failure::own(format!("{shown} can't be removed: {error}; try rm -r {shown}")))
        }
    }
}

/// What tells an owner, and one thing of its from others.
fn name_of(owner: &Owner) -> String {
    format!("{}-{}-{}", owner.pid, owner.started, COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Makes a directory for this user alone, or checks that it is one: by what stands in it processes are killed and files
/// removed.
fn private(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(path)?;
    let is_ours = found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o077 == 0;
    if found.is_dir() && is_ours { Ok(()) } else { Err(io::Error::other("it is not this user's alone")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::host::cgroup::{MOUNT, Tree};
    use crate::bench::host::swap::Swap;
    use crate::bench::host::swap::tests::{alone, tried};
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::process::{Command, Stdio};

    fn journal(place: &tempfile::TempDir) -> Rc<Journal> {
        Journal::open(&place.path().join("journal")).unwrap()
    }

    /// Writes the page of an owner, in place of which a process is given: this one's own, changed.
    fn leave(journal: &Journal, entries: Vec<Entry>, change: impl FnOnce(&mut Owner)) -> PathBuf {
        let mut owner = journal.page.borrow().owner.clone();
        change(&mut owner);
        let path = journal.directory.join(format!("{}.json", name_of(&owner)));
        let entries = (0..).zip(entries).collect();
        Page { owner, entries }.write(&path).unwrap();
        path
    }

    /// An owner whose number another process has by now.
    fn ended(owner: &mut Owner) {
        owner.started -= 1;
    }

    fn of_earlier_boot(owner: &mut Owner) {
        owner.boot = "another".into();
    }

    #[test]
    fn an_act_is_recorded_before_it_is_done_and_until_it_is_undone() {
        let place = tempfile::tempdir().unwrap();
        let journal = journal(&place);
        let entries = || Page::read(&journal.file).map_or(vec![], |page| page.entries);
        let first = Entry::Cgroup { path: "/a".into() };
        let held = journal.hold(first.clone()).unwrap();
        let other = journal.hold(Entry::Adding { known: vec!["zram0".into()] }).unwrap();
        let file = Entry::SwapFile { path: "/b".into() };
        other.becomes(file.clone()).unwrap();
        assert_eq!(entries(), [(0, first), (1, file.clone())]);
        held.undone();
        assert_eq!(entries(), [(1, file)]);
        other.undone();
        assert!(!journal.file.exists());
    }

    #[test]
    fn a_directory_goes_whoever_is_dropped_first() {
        let place = tempfile::tempdir().unwrap();
        let journal = journal(&place);
        let directory = Directory::create(&journal, place.path()).unwrap();
        let (path, file) = (directory.path().to_path_buf(), journal.file.clone());
        fs::write(path.join("output"), "x").unwrap();
        drop(journal);
        assert!(path.exists() && file.exists());
        drop(directory);
        assert!(!path.exists() && !file.exists());
    }

    #[test]
    fn only_what_the_dead_have_left_is_swept() {
        let place = tempfile::tempdir().unwrap();
        let journal = journal(&place);
        let made = |name: &str| {
            let path = place.path().join(name);
            fs::create_dir(&path).unwrap();
            vec![Entry::Directory { path }]
        };
        let left = leave(&journal, made("dead"), ended);
        leave(&journal, made("living"), |_| ());
        leave(&journal, made("elsewhere"), |owner| {
            ended(owner);
            owner.namespace = "pid:[1]".into();
        });
        leave(&journal, made("earlier"), of_earlier_boot);
        let lines = journal.sweep().unwrap();
        let there = |name: &str| place.path().join(name).exists();
        assert_eq!(
            ["dead", "living", "elsewhere", "earlier"].map(there),
            [false, true, true, false],
            "{lines:?}"
        );
        assert!(
            !left.exists() && lines.len() == 2 && lines.iter().any(|line| line.contains("/dead was left"))
        );
        assert_eq!(journal.sweep().unwrap(), Vec::<String>::new(), "once is enough");
    }

    #[test]
    fn an_ended_process_is_no_owner() {
        let place = tempfile::tempdir().unwrap();
        let journal = journal(&place);
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let owner = Owner {
            pid: child.id(),
            started: started(child.id()).unwrap(),
            ..journal.page.borrow().owner.clone()
        };
        assert_eq!(journal.fate(&owner), Fate::Spared);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(journal.fate(&owner), Fate::Ended);
    }

    #[test]
    fn devices_of_an_earlier_boot_are_others() {
        let place = tempfile::tempdir().unwrap();
        let journal = journal(&place);
        let path = place.path().join("cgroup");
        fs::create_dir(&path).unwrap();
        let page = leave(&journal, vec![Entry::Cgroup { path: path.clone() }], of_earlier_boot);
        assert_eq!(journal.sweep().unwrap(), Vec::<String>::new());
        assert!(path.exists() && !page.exists());
    }

    #[test]
    fn what_cannot_be_undone_stays_recorded() {
        let place = tempfile::tempdir().unwrap();
        let journal = journal(&place);
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        let stuck = Entry::Directory { path: file };
        let page = leave(&journal, vec![stuck.clone(), Entry::SwapFile { path: "/nowhere".into() }], ended);
        let lines = journal.sweep().unwrap();
        assert!(lines.len() == 1 && lines[0].contains("can't be removed"), "{lines:?}");
        assert_eq!(Page::read(&page).unwrap().entries, [(0, stuck)]);
        fs::write(&page, "{").unwrap();
        assert!(journal.sweep().unwrap()[0].contains("can't be read"));
    }

    #[test]
    fn a_directory_of_somebody_elses_is_no_place_for_a_journal() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::create_dir(at("open")).unwrap();
        fs::set_permissions(at("open"), fs::Permissions::from_mode(0o750)).unwrap();
        fs::create_dir(at("ours")).unwrap();
        fs::set_permissions(at("ours"), fs::Permissions::from_mode(0o700)).unwrap();
        symlink(at("ours"), at("link")).unwrap();
        fs::write(at("file"), "").unwrap();
        for name in ["open", "link", "file"] {
            assert!(Journal::open(&at(name)).unwrap_err().message.contains(name));
        }
        assert!(Journal::open(&at("ours")).is_ok());
    }

    #[test]
    fn swap_of_a_dead_owner_is_turned_off_and_a_living_ones_stays() {
        if !rustix::process::geteuid().is_root() {
            return println!("not tried: not root");
        }
        type Make = fn(&Rc<Journal>, u64) -> Result<Swap, Failure>;
        let _alone = alone();
        let place = tempfile::tempdir_in("/var/tmp").unwrap();
        let journal = journal(&place);
        let is_on = |swap: &Swap| {
            let path = swap.path().to_str().unwrap();
            fs::read_to_string("/proc/swaps")
                .unwrap()
                .lines()
                .any(|line| line.starts_with(&format!("{path} ")))
        };
        let makes: [Make; 2] = [Swap::zram, |journal, bytes| Swap::file(journal, "/var/tmp".as_ref(), bytes)];
        for make in makes {
            let Some(swap) = tried(make(&journal, 16 << 20)) else { return };
            let entries: Vec<Entry> =
                Page::read(&journal.file).unwrap().entries.into_iter().map(|(_, entry)| entry).collect();
            let living = leave(&journal, entries.clone(), |_| ());
            assert_eq!((journal.sweep().unwrap(), is_on(&swap)), (vec![], true));
            fs::remove_file(living).unwrap();
            leave(&journal, entries, ended);
            let lines = journal.sweep().unwrap();
            assert!(lines.len() == 1 && lines[0].starts_with("swap ") && !is_on(&swap), "{lines:?}");
            drop(swap);
        }
    }

    #[test]
    fn a_real_cgroup_of_a_dead_owner_is_removed_with_its_processes_and_a_living_ones_stays() {
        let tree = match Tree::available(MOUNT.as_ref()) {
            Ok(tree) => tree,
            Err(why) => return println!("not tried: {why}"),
        };
        let place = tempfile::tempdir().unwrap();
        let journal = journal(&place);
        // What the dead left: it is in its journal, and no longer in ours.
        let [dead, living] = [0, 1].map(|_| tree.create(&journal, None, false).unwrap());
        let entry = |cgroup: &cgroup::Cgroup| Entry::Cgroup { path: cgroup.path().into() };
        leave(&journal, vec![entry(&dead)], ended);
        leave(&journal, vec![entry(&living)], |_| ());
        let mut children = [&dead, &living].map(|cgroup| {
            let script = format!("echo 0 > {}/cgroup.procs && exec sleep 60", cgroup.path().display());
            Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).spawn().unwrap()
        });
        let entered = (0..1000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            [&dead, &living].iter().all(|one| !cgroup::pids(one.path()).is_empty())
        });
        assert!(entered);
        let lines = journal.sweep().unwrap();
        assert!(lines.len() == 1 && lines[0].contains("with 1 program was left"), "{lines:?}");
        assert!(!children[0].wait().unwrap().success() && !dead.path().exists());
        assert_eq!(
            (children[1].try_wait().unwrap(), cgroup::pids(living.path())),
            (None, vec![children[1].id()])
        );
        living.remove().unwrap();
        children[1].wait().unwrap();
    }
}
