//! The directory with `quire`'s socket and the file for those who can't connect; and what is left of others, whose `quire`
//! was killed.
//!
//! Under root programs of other users may be in the tree, and connect as well, where the directory for
//! temporary files lets them: the keeper takes in who is a descendant.

use crate::failure::Failure;
use crate::files::open_directory;
use quire_linux::control::client::WORDS;
use quire_linux::control::outside::Outside;
use rustix::fs::{FlockOperation, flock};
use rustix::process::geteuid;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// The longest path of a directory that leaves room for the socket's name, in bytes.
const LONGEST: usize = 80;
/// How the directories' names begin.
const PREFIX: &str = "quire-run-";
/// The socket's name.
const SOCKET: &str = "socket";
/// How old a directory is that nobody locks and that may be removed: a new one is not locked yet.
const MIN_AGE: Duration = Duration::from_secs(10);

/// A directory that only this user can list, and enter but for root's, locked while this process lives, and removed at its end.
#[derive(Debug)]
pub(super) struct Meeting {
    directory: TempDir,
    _lock: OwnedFd,
    words: File,
    /// What was read of a line that is not whole yet.
    rest: String,
}

/// A process that runs outside the budget, why, and its program's name.
pub(super) type Word = (u32, Outside, String);

impl Meeting {
    /// Makes one in the directory for temporary files, and removes there what killed ones left.
    pub(super) fn make() -> Result<Meeting, Failure> {
        let temporary = std::env::temp_dir();
        let base = if temporary.as_os_str().len() <= LONGEST { temporary } else { "/tmp".into() };
        sweep(&base, MIN_AGE);
        Meeting::make_in(&base).map_err(|error| {
            Failure::own(format!(
                "no directory for a socket in {}: {error}; set TMPDIR to a writable one",
                base.display()
            ))
        })
    }

    fn make_in(base: &Path) -> std::io::Result<Meeting> {
        let mut builder = tempfile::Builder::new();
        let directory =
            builder.prefix(PREFIX).permissions(PermissionsExt::from_mode(0o700)).tempdir_in(base)?;
        if geteuid().is_root() {
            fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o711))?;
        }
        let lock = lock(directory.path())?;
        let words = directory.path().join(WORDS);
        let words = File::options().read(true).append(true).create_new(true).open(words)?;
        Ok(Meeting { directory, _lock: lock, words, rest: String::new() })
    }

    /// What processes wrote since the last time that could not connect.
    pub(super) fn words(&mut self) -> Vec<Word> {
        let mut bytes = Vec::new();
        // What can't be read now may be next time.
        let _ = self.words.read_to_end(&mut bytes);
        self.rest += &String::from_utf8_lossy(&bytes);
        let Some(end) = self.rest.rfind('\n') else { return Vec::new() };
        let rest = self.rest.split_off(end + 1);
        let lines = std::mem::replace(&mut self.rest, rest);
        lines.lines().filter_map(word).collect()
    }

    /// Where the socket is to be.
    pub(super) fn socket(&self) -> PathBuf {
        self.directory.path().join(SOCKET)
    }

    /// Lets in whom it is for, now that the socket is there.
    pub(super) fn open(&self) -> std::io::Result<()> {
        if geteuid().is_root() {
            fs::set_permissions(self.socket(), PermissionsExt::from_mode(0o666))?;
        }
        Ok(())
    }
}

/// What a line says.
fn word(line: &str) -> Option<Word> {
    let mut fields = line.splitn(3, ' ');
    let cause = Outside::from_number(fields.next()?.parse().ok()?)?;
    Some((fields.next()?.parse().ok()?, cause, fields.next().unwrap_or("").to_owned()))
}

/// Locks a directory, unless it is locked.
fn lock(directory: &Path) -> rustix::io::Result<OwnedFd> {
    let file = open_directory(directory)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}

/// Removes the directories of this user's that nobody locks and that have been there for `min_age`. What can't be
/// removed stays.
fn sweep(base: &Path, min_age: Duration) {
    let user = geteuid().as_raw();
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && entry.metadata().is_ok_and(|data| {
                let old = data.modified().ok().and_then(|time| time.elapsed().ok()) >= Some(min_age);
                data.is_dir() && data.uid() == user && old
            });
        if is_ours && let Ok(_lock) = lock(&path) {
            let socket = path.join(SOCKET);
            if fs::symlink_metadata(&socket).is_ok_and(|data| data.file_type().is_socket()) {
                let _ = fs::remove_file(&socket);
                let _ = fs::remove_file(path.join(WORDS));
            }
            // It is removed only when nothing else is in it.
            let _ = fs::remove_dir(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_linux::control::client::Client;
    use std::ffi::CString;
    use std::io::Write as _;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::UnixListener;

    #[test]
    fn what_a_killed_one_left_is_removed_and_nothing_else() {
        let base = tempfile::tempdir().unwrap();
        let alive = Meeting::make_in(base.path()).unwrap();
        let _socket = UnixListener::bind(alive.socket()).unwrap();
        let make = |name: &str| {
            let path = base.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let (dead, full, other) = (make("quire-run-dead"), make("quire-run-full"), make("other"));
        drop(UnixListener::bind(dead.join(SOCKET)).unwrap());
        fs::write(dead.join(WORDS), b"").unwrap();
        fs::write(full.join("file"), b"somebody's").unwrap();
        sweep(base.path(), MIN_AGE);
        assert!(dead.exists(), "it may be new");
        sweep(base.path(), Duration::ZERO);
        assert!(!dead.exists() && full.join("file").exists() && other.exists() && alive.socket().exists());
        let path = alive.socket();
        drop(alive);
        assert!(!path.parent().unwrap().exists());
    }

    #[test]
    fn who_finds_no_socket_leaves_a_word() {
        let base = tempfile::tempdir().unwrap();
        let mut meeting = Meeting::make_in(base.path()).unwrap();
        let path = CString::new(meeting.socket().as_os_str().as_bytes()).unwrap();
        Client::tell_outside(&path, Outside::Filter, b"/usr/bin/col").unwrap();
        Client::tell_outside(&path, Outside::Static, b"").unwrap();
        let own = std::process::id();
        let words =
            vec![(own, Outside::Filter, "/usr/bin/col".into()), (own, Outside::Static, String::new())];
        assert_eq!(meeting.words(), words);
        assert_eq!(meeting.words(), vec![]);
        assert_eq!(word("x y z"), None);
    }

    #[test]
    fn half_a_word_waits_for_its_end() {
        let base = tempfile::tempdir().unwrap();
        let mut meeting = Meeting::make_in(base.path()).unwrap();
        let mut writer = File::options().append(true).open(meeting.directory.path().join(WORDS)).unwrap();
        let number = Outside::Static as u32;
        write!(writer, "{number} 17 /bin/a\n{number} 1").unwrap();
        assert_eq!(meeting.words(), vec![(17, Outside::Static, "/bin/a".into())]);
        assert_eq!(meeting.words(), vec![]);
        writeln!(writer, "8 /bin/b c").unwrap();
        assert_eq!(meeting.words(), vec![(18, Outside::Static, "/bin/b c".into())]);
    }
}
