//! What is written besides a program's own output: files that are named in options, and stdout.

use crate::failure::Failure;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, fstatfs, open};
use rustix::io::Errno;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Writes `quire: ` and a text as one line to stderr. That it is closed or full is no reason to end.
pub(crate) fn say(text: fmt::Arguments<'_>) {
    let _ = io::stderr().write_all(format!("quire: {text}\n").as_bytes());
}

/// A file that an option names; none where the option is not there.
pub(crate) type Named<'a> = (&'static str, Option<&'a Path>);

/// Refuses two options that name one file, whatever it is called: each would write over the other. A terminal, a pipe
/// or `/dev/null` may come twice.
pub(crate) fn refuse_same(files: &[Named<'_>]) -> Result<(), Failure> {
    let given = files.iter().filter_map(|&(option, path)| Some((option, path?, Place::of(path?)?)));
    let mut earlier: Vec<(&str, Place)> = Vec::new();
    for (option, path, place) in given {
        if let Some((other, _)) = earlier.iter().find(|(_, known)| *known == place) {
            return Err(Failure::own(format!(
                "{other} and {option} both name {}: each needs a file of its own",
                path.display()
            )));
        }
        earlier.push((option, place));
    }
    Ok(())
}

/// What tells files apart.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Place {
    /// A file that is there: its device and its number.
    Inode(u64, u64),
    /// One that is not: where it will be.
    Path(PathBuf),
}

impl Place {
    /// `None` for what nothing is lost in, and for what can't be opened anyway.
    fn of(path: &Path) -> Option<Place> {
        match fs::metadata(path) {
            Ok(found) => Place::of_file(&found),
            Err(_) => {
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                let parent = parent.unwrap_or(Path::new(".")).canonicalize().ok()?;
                Some(Place::Path(parent.join(path.file_name()?)))
            }
        }
    }

    fn of_file(found: &Metadata) -> Option<Place> {
        found.is_file().then(|| Place::Inode(found.dev(), found.ino()))
    }
}

/// A file for what comes out of the work, before the work; `what` is for messages.
pub(crate) fn create(path: &Path, what: &str) -> Result<File, Failure> {
    File::create(path).map_err(|error| {
        Failure::own(format!(
            "{what} can't be written to {}: {error}; name a file in a directory that can be written",
            path.display()
        ))
    })
}

/// Writes all of it to a file that was created.
pub(crate) fn write(file: &mut File, path: &Path, what: &str, text: &str) -> Result<(), Failure> {
    file.write_all(text.as_bytes()).map_err(|error| {
        Failure::own(format!(
            "{what} can't be written to {}: {error}; make room there, or name another file",
            path.display()
        ))
    })
}

/// A directory that is one, and no link to one.
pub(crate) fn open_directory(path: &Path) -> rustix::io::Result<OwnedFd> {
    open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// The kind of file system that an open file or directory is on, if that keeps its contents in memory.
pub(crate) fn in_memory(file: impl AsFd) -> Result<Option<&'static str>, Errno> {
    Ok(match fstatfs(file)?.f_type {
        0x0102_1994 => Some("tmpfs"),
        0x8584_58f6 => Some("ramfs"),
        _ => None,
    })
}

/// Writes to stdout. Who has closed it wants no more of it.
pub(crate) fn print(text: &str, what: &str) -> Result<(), Failure> {
    printed(io::stdout().write_all(text.as_bytes()), what)
}

/// What came of writing to stdout.
pub(crate) fn printed(result: io::Result<()>, what: &str) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::own(format!(
            "{what} can't be written to stdout: {error}; send stdout somewhere else"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn one_file_is_told_by_any_of_its_names() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("inner")).unwrap();
        fs::write(at("there"), "").unwrap();
        fs::hard_link(at("there"), at("linked")).unwrap();
        symlink(at("there"), at("symbolic")).unwrap();
        let same = |a: &Path, b: &Path| refuse_same(&[("--a", Some(a)), ("--none", None), ("--b", Some(b))]);
        for (a, b) in [
            ("new", "new"),
            ("new", "inner/../new"),
            ("there", "./there"),
            ("there", "linked"),
            ("there", "symbolic"),
        ] {
            let said = same(&at(a), &at(b)).unwrap_err().message;
            assert!(said.starts_with("--a and --b both name ") && !said.contains('\n'), "{said}");
        }
        assert_eq!(same(&at("new"), &at("there")), Ok(()));
        assert_eq!(same(&at("new"), &at("inner/new")), Ok(()));
        assert_eq!(same(Path::new("/dev/null"), Path::new("/dev/null")), Ok(()));
        assert_eq!(same(Path::new("quire-no-such-file"), &at("quire-no-such-file")), Ok(()));
    }
}
