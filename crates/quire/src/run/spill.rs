//! Spill files: opened here, without a name, on a disk, for direct I/O; one for each process that asks.

use crate::failure::Failure;
use crate::files;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, open, statvfs, unlink};
use rustix::io::Errno;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where spill files go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Spill {
    /// Into this directory.
    To(PathBuf),
    /// Nowhere, and why.
    Nowhere(String),
}

/// Why a directory is no place to spill to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unfit {
    /// Its contents are kept in memory.
    InMemory(&'static str),
    /// It can't be opened, written to, or read past the page cache.
    Error(Errno),
}

impl Spill {
    /// The directory that was asked for, or else the first default that is fit. A directory that was asked
    /// for and is not fit is a failure; unfit defaults are not.
    pub(crate) fn choose(asked: Option<&Path>, refused: bool) -> Result<Spill, Failure> {
        if refused {
            return Ok(Spill::Nowhere("--no-spill".into()));
        }
        if let Some(directory) = asked {
            return match try_out(directory) {
                Ok(()) => Ok(Spill::To(directory.into())),
                Err(unfit) => Err(Failure::own(unfit.describe(directory))),
            };
        }
        let temporary = env::var_os("TMPDIR").map(PathBuf::from).filter(|path| path.is_absolute());
        Ok(Spill::first_fit(temporary.into_iter().chain([PathBuf::from("/var/tmp")])))
    }

    fn first_fit(directories: impl Iterator<Item = PathBuf>) -> Spill {
        let mut reasons = Vec::new();
        for directory in directories {
            match try_out(&directory) {
                Ok(()) => return Spill::To(directory),
                Err(unfit) => reasons.push(unfit.describe(&directory)),
            }
        }
        Spill::Nowhere(reasons.join("; "))
    }

    /// A new spill file; `None` when there is none to be had.
    pub(crate) fn open(&self) -> Option<OwnedFd> {
        match self {
            Spill::To(directory) => open_nameless(directory).ok(),
            Spill::Nowhere(_) => None,
        }
    }
}

impl Unfit {
    /// One line: cause and next step.
    fn describe(self, directory: &Path) -> String {
        let shown = directory.display();
        match self {
            Unfit::InMemory(kind) => {
                format!("spill directory {shown} is on {kind}, which is memory: choose one on a disk")
            }
            Unfit::Error(Errno::INVAL) => {
                format!("spill directory {shown} can't do direct I/O: choose one on a local disk")
            }
            Unfit::Error(errno) => format!(
                "spill directory {shown} can't be used ({}): choose another with --swap-dir, or --no-spill",
                std::io::Error::from(errno)
            ),
        }
    }
}

/// A directory's file system, by the kernel's name, and the bytes that are free there.
pub(crate) fn room(directory: &Path) -> Option<(String, u64)> {
    let free = statvfs(directory).ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let path = fs::canonicalize(directory).ok()?;
    Some((kind_at(&mounts, &path)?, free.f_bavail * free.f_frsize))
}

/// The kind of the file system that a path is on: of the mount with the longest path, the last one of several there.
fn kind_at(mounts: &str, path: &Path) -> Option<String> {
    let mounted = mounts.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let place = before.split(' ').nth(4)?;
        path.starts_with(place).then(|| (place.len(), after.split(' ').next().unwrap_or_default()))
    });
    mounted.max_by_key(|(length, _)| *length).map(|(_, kind)| kind.to_owned())
}

/// Opens a spill file and lets it go again.
fn try_out(directory: &Path) -> Result<(), Unfit> {
    let opened = open(directory, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    if let Some(kind) = files::in_memory(&opened.map_err(Unfit::Error)?).map_err(Unfit::Error)? {
        return Err(Unfit::InMemory(kind));
    }
    open_nameless(directory).map(drop).map_err(Unfit::Error)
}

/// A file that only its descriptors know.
fn open_nameless(directory: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::DIRECT | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    match open(directory, flags | OFlags::TMPFILE, mode) {
        // File systems and kernels that know no O_TMPFILE say one of these.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT) => {}
        answer => return answer,
    }
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!(".quire-spill-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let path = directory.join(name);
    let file = open(&path, flags | OFlags::CREATE | OFlags::EXCL, mode)?;
    unlink(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::fstat;

    #[test]
    fn a_spill_file_is_private_and_has_no_name() {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let spill = Spill::choose(Some(directory.path()), false).unwrap();
        let file = spill.open().unwrap();
        let stat = fstat(&file).unwrap();
        assert_eq!((stat.st_mode & 0o7777, stat.st_nlink), (0o600, 0));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_path_is_on_the_nearest_mount() {
        let mounts = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:5 / /var rw shared:1 - xfs a rw\n\
                      3 2 0:6 / /var/tmp rw - tmpfs b rw\n4 3 0:7 / /var/tmp rw - btrfs c rw\n";
        let kind = |path: &str| kind_at(mounts, Path::new(path)).unwrap();
        assert_eq!(
            [kind("/home"), kind("/var/log"), kind("/var/tmp/x"), kind("/variable")],
            ["ext4", "xfs", "btrfs", "ext4"]
        );
        let (kind, free) = room(Path::new("/proc")).unwrap();
        assert_eq!((kind.as_str(), free), ("proc", 0));
    }

    #[test]
    fn memory_and_missing_directories_are_refused() {
        let refusal = |path: &str| Spill::choose(Some(Path::new(path)), false).unwrap_err().message;
        assert!(refusal("/nonexistent/spill").contains("/nonexistent/spill"));
        assert!(refusal("/dev/shm").contains("tmpfs"));
        assert!(refusal("/etc/passwd").contains("/etc/passwd"));
        assert!(refusal("/proc").contains("/proc"));
    }

    #[test]
    fn an_unfit_default_is_passed_over() {
        let to = Spill::first_fit(["/dev/shm", "/var/tmp"].map(PathBuf::from).into_iter());
        assert_eq!(to, Spill::To("/var/tmp".into()));
        let Spill::Nowhere(why) = Spill::first_fit([PathBuf::from("/dev/shm")].into_iter()) else { panic!() };
        assert!(why.contains("tmpfs"));
    }
}
