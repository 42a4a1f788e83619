//! The preload library. `quire` carries it, and lays it into a directory where every program of the tree can read it,
//! whoever that runs as.
//!
//! The directory is named by the user and by the library's hash, so all runs of one build share it. A run holds a shared
//! lock on it. In the user's cache it stays for the next run: there its name has the machine's start too, since what was
//! written before a crash may not be on the disk. Elsewhere the last run to end, which gets the lock alone, removes all of it;
//! a file in it names each run. A run that was killed, or that left programs behind, leaves its file there: then processes
//! may still map the library, and whoever would remove it asks their maps first. Each start elsewhere, and each that lays the
//! library into the cache, also removes what other builds left behind.

use crate::failure::Failure;
use crate::files::open_directory;
use crate::size::human;
use quire_linux::sys::{loader, rlimit};
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, RawMode, StatVfsMountFlags};
use rustix::fs::{
    chmodat, fchmod, flock, fstat, fstatvfs, mkdirat, openat, renameat, statat, statfs, unlinkat,
};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Resource, geteuid};
use rustix::rand::{GetRandomFlags, getrandom};
use std::env;
use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::hint;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process;

/// The library itself.
static CONTENTS: &[u8] = include_bytes!(env!("QUIRE_LIBRARY"));
const HASH: &str = env!("QUIRE_LIBRARY_HASH");

/// The file's name. Programs find it in `LD_PRELOAD` by this.
const NAME: &str = "libquire_preload.so";
/// The directory's name in the user's cache.
const CACHE: &str = "quire";
/// What the names of files that tell of a run begin with.
const RUN: &str = "run-";
/// What the names of files begin with that are being written.
const NEW: &str = "new-";

/// Bytes that are written or compared at once: so many the kernel maps of a file around a page that is touched.
const PIECE: usize = 64 << 10;

/// How often to begin anew because another run removed the directory in between.
const TRIES: usize = 100;

/// The library, in place for as long as this lives.
#[derive(Debug)]
pub(crate) struct Library {
    path: PathBuf,
    /// `None`: nothing is to be removed.
    shared: Option<Shared>,
}

impl Library {
    /// The one that another run of this build laid into the cache.
    pub(crate) fn kept() -> Option<Library> {
        let (cache, name) = cache()?;
        let shared = Shared::open(&cache, &name, Stay::Always).ok()?;
        shared.is_right(CONTENTS).then(|| Library::of(shared))
    }

    /// Lays the library into the first place that serves, or takes what another run of this build laid there.
    pub(crate) fn place() -> Result<Library, Failure> {
        // Writing beyond it would end this process.
        let most = rlimit::get(Resource::Fsize).soft;
        if most < CONTENTS.len() as u64 {
            let (most, size) = (human(most), human(CONTENTS.len() as u64));
            return Err(Failure::own(format!(
                "files may have {most} at the most, and the preload library has {size}: ulimit -f unlimited"
            )));
        }
        make_cache();
        if let Some((cache, name)) = cache()
            && let Ok(shared) = Shared::take(&cache, CONTENTS, &name, Stay::Always)
        {
            remove_others(&cache, &name, Stay::Always);
            return Ok(Library::of(shared));
        }
        let places = places();
        let mut refused = Vec::new();
        // A place that only its owner can enter does for programs of that owner.
        for need in [Reach::Everybody, Reach::Owner] {
            for place in &places {
                let taken = check_place(place, need)
                    .and_then(|()| Shared::take(place, CONTENTS, HASH, Stay::UntilLast));
                match taken {
                    Ok(shared) => {
                        remove_others(place, HASH, Stay::UntilLast);
                        return Ok(Library::of(shared));
                    }
                    Err(why) => refused.push(format!("{}: {why}", place.display())),
                }
            }
        }
        refused.dedup();
        Err(Failure::own(format!(
            "there is no place for the preload library ({}): set TMPDIR to a directory whose programs may be executed",
            refused.join("; ")
        )))
    }

    fn of(shared: Shared) -> Library {
        Library { path: shared.directory.join(NAME), shared: Some(shared) }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Programs that may map it go on without this run.
    pub(crate) fn leave_behind(&mut self) {
        if let Some(shared) = &mut self.shared {
            shared.is_left = true;
        }
    }

    /// One that is not there.
    #[cfg(test)]
    pub(crate) fn missing() -> Library {
        Library { path: "/nonexistent".into(), shared: None }
    }
}

/// The library's path as only glibc's loader understands it. It replaces `$LIB` by the directory in which its libc is,
/// below `/`, and from there the path leads back; another libc's loader looks for `$LIB` itself, finds nothing, and goes
/// on. (musl's would load the library, and then not start the program.) Where `/$LIB` is not there, the plain path.
pub(crate) fn for_glibc(library: &Path) -> OsString {
    const DETOUR: &str = "/$LIB/../../../../../../../..";
    let mut path = OsString::from(DETOUR);
    path.push(library);
    let leads_there = CString::new(path.as_bytes()).is_ok_and(|path| loader::finds(&path));
    if leads_there { path } else { library.into() }
}

/// The directory of the user's cache, and the name of this build's in it; `None` where there is none that serves.
fn cache() -> Option<(PathBuf, String)> {
    let cache = fs::canonicalize(cache_parent()?.join(CACHE)).ok()?;
    if !can_keep(&cache) {
        return None;
    }
    let start = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let digits = start.trim().replace('-', "");
    Some((cache, format!("{HASH}{digits}")))
}

/// Makes the cache, where it can be kept and is not there yet.
fn make_cache() {
    let parent = cache_parent().and_then(|parent| fs::canonicalize(parent).ok());
    let Some(cache) = parent.filter(|parent| can_keep(parent)).map(|parent| parent.join(CACHE)) else {
        return;
    };
    let mode = Mode::from_raw_mode(0o755);
    if mkdirat(CWD, &cache, mode).is_ok() {
        // A umask may have taken rights away. Where they can't be had, the cache does not serve.
        let _ = chmodat(CWD, &cache, mode, AtFlags::empty());
    }
}

fn cache_parent() -> Option<PathBuf> {
    let named = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    match named("XDG_CACHE_HOME") {
        Some(named) => Some(named),
        None if geteuid().is_root() => Some("/var/cache".into()),
        None => Some(named("HOME")?.join(".cache")),
    }
}

/// Whether the library can stay in a directory: not on a file system that other machines may see, whose locks and programs are
/// unknown here.
fn can_keep(place: &Path) -> bool {
    check_place(place, Reach::Everybody).is_ok()
        && statfs(place).is_ok_and(|mounted| !REMOTE.contains(&(mounted.f_type as u32)))
}

/// File systems of other machines, and of programs, by `f_type`: NFS, CIFS, SMB2, 9P, Ceph, AFS, FUSE (virtiofs too).
const REMOTE: [u32; 7] =
    [0x6969, 0xff53_4d42, 0xfe53_4d42, 0x0102_1997, 0x00c3_6400, 0x5346_414f, 0x6573_5546];

/// How long a directory with the library stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stay {
    /// Until the last run ends that uses it.
    UntilLast,
    /// Until another build comes, or the machine starts anew.
    Always,
}

/// Directories to try, in order.
fn places() -> Vec<PathBuf> {
    let named = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let fixed = ["/tmp", "/var/tmp", "/dev/shm", "/run"].map(PathBuf::from);
    let all = named("TMPDIR").into_iter().chain(fixed).chain(named("XDG_RUNTIME_DIR"));
    let mut places: Vec<PathBuf> = all.filter_map(|place| fs::canonicalize(place).ok()).collect();
    let mut seen = Vec::new();
    places.retain(|place| {
        !seen.contains(place) && {
            seen.push(place.clone());
            true
        }
    });
    places
}

/// Who has to be able to enter a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reach {
    Everybody,
    Owner,
}

/// Why not.
type Why = String;

/// Whether a directory can have the library: code in it may run, nobody else can replace what is in it, and the loader can
/// be given its path.
fn check_place(place: &Path, reach: Reach) -> Result<(), Why> {
    if place.to_str().is_none_or(|text| text.contains([' ', ':', '$'])) {
        return Err("LD_PRELOAD can't name a path with a space, a colon or a dollar".into());
    }
    for directory in place.ancestors() {
        let status = statat(CWD, directory, AtFlags::empty()).map_err(|errno| errno.to_string())?;
        let mode = status.st_mode;
        if reach == Reach::Everybody && mode & 0o001 == 0 {
            return Err(format!("not everybody may enter {}", directory.display()));
        }
        if may_others_rename(mode, status.st_uid, geteuid().as_raw()) {
            return Err(format!("others may rename what is in {}", directory.display()));
        }
    }
    let opened = open_directory(place).map_err(|errno| errno.to_string())?;
    let mounted = fstatvfs(&opened).map_err(|errno| errno.to_string())?;
    if mounted.f_flag.contains(StatVfsMountFlags::NOEXEC) {
        return Err("mounted noexec".into());
    }
    Ok(())
}

/// Whether users other than root and `own` can replace what is in a directory of that mode and owner. A group is trusted
/// with the directories of those two: some systems give each user one of their own.
fn may_others_rename(mode: RawMode, owner: u32, own: u32) -> bool {
    /// Stands for users that the namespace does not have.
    const NOBODY: u32 = 65534;
    let is_ours = owner == 0 || owner == own || owner == NOBODY;
    let is_sticky = mode & 0o1000 != 0;
    !is_ours || mode & 0o002 != 0 && !is_sticky
}

/// The beginning of a directory's name: of this user.
fn prefix() -> String {
    format!("quire-{}-", geteuid().as_raw())
}

/// A directory with the library, and a lock on it. The lock is on the open directory, which no program inherits.
#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    opened: OwnedFd,
    run: String,
    stay: Stay,
    is_left: bool,
}

/// Why a directory can't be taken.
enum Miss {
    /// It is not there, or not any more.
    Gone,
    Why(Why),
}

impl Shared {
    /// Creates it if need be, and puts the library there.
    fn take(place: &Path, contents: &[u8], hash: &str, stay: Stay) -> Result<Shared, Why> {
        let directory = place.join(prefix() + hash);
        for _ in 0..TRIES {
            match mkdirat(CWD, &directory, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.to_string()),
            }
            match Shared::open(place, hash, stay) {
                Err(Miss::Gone) => {}
                Err(Miss::Why(why)) => return Err(why),
                Ok(shared) => {
                    shared.fill(contents).map_err(|error| error.to_string())?;
                    return Ok(shared);
                }
            }
        }
        Err("other runs remove it again and again".into())
    }

    /// Locks it as it is there.
    fn open(place: &Path, hash: &str, stay: Stay) -> Result<Shared, Miss> {
        let told = |errno: Errno| Miss::Why(errno.to_string());
        let directory = place.join(prefix() + hash);
        let opened = match open_directory(&directory) {
            Err(Errno::NOENT) => return Err(Miss::Gone),
            opened => opened.map_err(told)?,
        };
        check_owner(&opened).map_err(Miss::Why)?;
        // A umask may have taken rights away that programs of other users need.
        if fstat(&opened).map_err(told)?.st_mode & 0o7777 != 0o755 {
            fchmod(&opened, Mode::from_raw_mode(0o755)).map_err(told)?;
        }
        // Anybody can lock a directory that stays: nobody waits for it.
        let lock = match stay {
            Stay::UntilLast => FlockOperation::LockShared,
            Stay::Always => FlockOperation::NonBlockingLockShared,
        };
        retry_on_intr(|| flock(&opened, lock)).map_err(told)?;
        if !is_at(&opened, &directory) {
            return Err(Miss::Gone);
        }
        let run = format!("{RUN}{}", unique());
        Ok(Shared { directory, opened, run, stay, is_left: false })
    }

    /// Notes the run, and puts the library there unless it is there as it has to be.
    fn fill(&self, contents: &[u8]) -> io::Result<()> {
        if self.stay == Stay::UntilLast {
            self.write(&self.run, b"")?;
        }
        if self.is_right(contents) {
            return Ok(());
        }
        let new = format!("{NEW}{}", unique());
        let written =
            self.write(&new, contents).and_then(|()| Ok(renameat(&self.opened, &*new, &self.opened, NAME)?));
        if written.is_err() {
            let _ = unlinkat(&self.opened, &*new, AtFlags::empty());
        }
        written
    }

    fn write(&self, name: &str, contents: &[u8]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&self.opened, name, flags, Mode::from_raw_mode(0o600))?;
        let mut to = File::from(file.try_clone()?);
        for piece in contents.chunks(PIECE) {
            // The kernel copies what is present. Where it comes to a page that is not, it zeroes the rest of a large folio and
            // begins anew.
            hint::black_box(piece.first().copied().zip(piece.last().copied()));
            to.write_all(piece)?;
        }
        Ok(fchmod(&file, Mode::from_raw_mode(0o555))?)
    }

    /// Whether the library lies there, ours and whole. What stays was renamed when it was whole, since the machine started,
    /// and only its owner can have changed it: its contents are not compared.
    fn is_right(&self, contents: &[u8]) -> bool {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(file) = openat(&self.opened, NAME, flags, Mode::empty()) else { return false };
        let Ok(status) = fstat(&file) else { return false };
        let is_plain = FileType::from_raw_mode(status.st_mode) == FileType::RegularFile;
        is_plain
            && status.st_uid == geteuid().as_raw()
            && status.st_mode & 0o7777 == 0o555
            && status.st_size as usize == contents.len()
            && (self.stay == Stay::Always || has(&mut File::from(file), contents))
    }

    /// Removes all of it if no run and no program uses it.
    fn remove(&self) {
        if flock(&self.opened, FlockOperation::NonBlockingLockExclusive).is_err()
            || !is_at(&self.opened, &self.directory)
        {
            return;
        }
        let Ok(entries) = fs::read_dir(&self.directory) else { return };
        let names: Vec<OsString> = entries.flatten().map(|entry| entry.file_name()).collect();
        let others = names.iter().any(|name| name.as_bytes().starts_with(RUN.as_bytes()));
        if (others || self.stay == Stay::Always) && is_mapped(&self.directory) {
            return;
        }
        for name in names {
            let _ = unlinkat(&self.opened, &*name, AtFlags::empty());
        }
        let _ = unlinkat(CWD, &self.directory, AtFlags::REMOVEDIR);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if !self.is_left && self.stay == Stay::UntilLast {
            let _ = unlinkat(&self.opened, &*self.run, AtFlags::empty());
            self.remove();
        }
    }
}

/// A name that no other run has. Runs in several containers may have the same number.
fn unique() -> String {
    let mut random = [0u8; 8];
    // For so few bytes it waits until the kernel has them, and gives them all.
    let _ = getrandom(&mut random, GetRandomFlags::empty());
    format!("{}-{:016x}", process::id(), u64::from_ne_bytes(random))
}

/// Whether an open directory is the one of that path.
fn is_at(opened: &OwnedFd, path: &Path) -> bool {
    let here = fstat(opened).map(|status| (status.st_dev, status.st_ino));
    let there = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).map(|status| (status.st_dev, status.st_ino));
    here.is_ok() && here == there
}

/// A directory of that name may be somebody else's.
fn check_owner(opened: &OwnedFd) -> Result<(), Why> {
    let status = fstat(opened).map_err(|errno| errno.to_string())?;
    let mode: RawMode = status.st_mode;
    if status.st_uid == geteuid().as_raw() && mode & 0o022 == 0 {
        Ok(())
    } else {
        Err("somebody else's".into())
    }
}

/// Whether a file has these contents.
fn has(file: &mut impl Read, contents: &[u8]) -> bool {
    let mut piece = vec![0; PIECE];
    contents.chunks(piece.len()).all(|part| {
        let read = &mut piece[..part.len()];
        file.read_exact(read).is_ok() && read == part
    })
}

/// Whether a process that can be looked at maps a file of the directory.
fn is_mapped(directory: &Path) -> bool {
    let name = directory.as_os_str().as_bytes();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter(|entry| entry.file_name().as_bytes()[0].is_ascii_digit()).any(|entry| {
        let maps = fs::read(entry.path().join("maps")).unwrap_or_default();
        maps.windows(name.len()).any(|part| part == name)
    })
}

/// Removes what runs of other builds left behind.
fn remove_others(place: &Path, hash: &str, stay: Stay) {
    let own = prefix();
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(theirs) = name.to_str().and_then(|name| name.strip_prefix(&own)) else { continue };
        let is_hash = theirs.len() == hash.len() && theirs.bytes().all(|digit| digit.is_ascii_hexdigit());
        if !is_hash || theirs == hash {
            continue;
        }
        if let Ok(opened) = open_directory(&entry.path())
            && check_owner(&opened).is_ok()
        {
            // No run's file is in it that would be this one's.
            let left = Shared { directory: entry.path(), opened, run: String::new(), stay, is_left: true };
            left.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::thread;

    const TEXT: &[u8] = b"not a library, but nobody loads it here";
    const OURS: &str = "0123456789abcdef0123456789abcdef";
    const THEIRS: &str = "fedcba9876543210fedcba9876543210";

    fn place() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn entries(place: &Path) -> usize {
        fs::read_dir(place).unwrap().count()
    }

    #[test]
    fn glibc_finds_the_library_where_it_is() {
        let root = place();
        let there = root.path().join(NAME);
        fs::write(&there, b"not looked at").unwrap();
        let path = for_glibc(&there);
        assert!(path == there || path.to_string_lossy().starts_with("/$LIB/.."));
        let missing = root.path().join("missing.so");
        assert_eq!(for_glibc(&missing), missing);
    }

    #[test]
    fn it_lies_there_for_everybody_until_the_last_run_ends() {
        let root = place();
        let one = Shared::take(root.path(), TEXT, OURS, Stay::UntilLast).unwrap();
        let path = one.directory.join(NAME);
        assert_eq!(fs::read(&path).unwrap(), TEXT);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o555);
        assert_eq!(fs::metadata(&one.directory).unwrap().permissions().mode() & 0o7777, 0o755);
        let inode = |path: &Path| statat(CWD, path, AtFlags::empty()).unwrap().st_ino;
        let first = inode(&path);
        let other = Shared::take(root.path(), TEXT, OURS, Stay::UntilLast).unwrap();
        assert_eq!(inode(&path), first, "what is right is not written again");
        drop(one);
        assert!(path.exists());
        drop(other);
        assert_eq!(entries(root.path()), 0);
    }

    #[test]
    fn what_stays_is_found_again_and_goes_with_the_next_build() {
        let root = place();
        let kept = |hash| Shared::open(root.path(), hash, Stay::Always);
        assert!(matches!(kept(OURS), Err(Miss::Gone)));
        drop(Shared::take(root.path(), TEXT, OURS, Stay::Always).unwrap());
        assert!(kept(OURS).unwrap_or_else(|_| panic!("it stays")).is_right(TEXT));
        let in_use = kept(OURS);
        let next = Shared::take(root.path(), TEXT, THEIRS, Stay::Always).unwrap();
        remove_others(root.path(), THEIRS, Stay::Always);
        assert_eq!(entries(root.path()), 2, "a run uses it");
        drop(in_use);
        remove_others(root.path(), THEIRS, Stay::Always);
        assert!(matches!(kept(OURS), Err(Miss::Gone)));
        assert!(next.is_right(TEXT));
        // Half of one is written anew.
        fs::write(next.directory.join("new-1-1"), b"half").unwrap();
        fs::remove_file(next.directory.join(NAME)).unwrap();
        assert!(!next.is_right(TEXT));
        assert!(Shared::take(root.path(), TEXT, THEIRS, Stay::Always).unwrap().is_right(TEXT));
    }

    #[test]
    fn what_is_not_as_it_has_to_be_is_replaced() {
        let root = place();
        let directory = root.path().join(prefix() + OURS);
        let file = directory.join(NAME);
        let spoil: [&dyn Fn(); 5] = [
            &|| fs::write(&file, &TEXT[1..]).unwrap(),
            &|| fs::write(&file, [&TEXT[1..], b"!"].concat()).unwrap(),
            &|| {
                fs::write(&file, TEXT).unwrap();
                fs::set_permissions(&file, fs::Permissions::from_mode(0o777)).unwrap();
            },
            &|| symlink("/etc/passwd", &file).unwrap(),
            &|| fs::write(directory.join(format!("{NEW}1-1")), b"half").unwrap(),
        ];
        for spoil in spoil {
            fs::create_dir(&directory).unwrap();
            spoil();
            let taken = Shared::take(root.path(), TEXT, OURS, Stay::UntilLast).unwrap();
            assert!(fs::symlink_metadata(&file).unwrap().is_file());
            assert!(taken.is_right(TEXT));
            drop(taken);
            assert_eq!(entries(root.path()), 0);
        }
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_refused() {
        let root = place();
        let directory = root.path().join(prefix() + OURS);
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(Shared::take(root.path(), TEXT, OURS, Stay::UntilLast).unwrap_err(), "somebody else's");
        fs::remove_dir(&directory).unwrap();
        symlink("/etc", &directory).unwrap();
        assert!(Shared::take(root.path(), TEXT, OURS, Stay::UntilLast).is_err());
    }

    #[test]
    fn places_that_do_not_serve_are_passed_over() {
        let root = place();
        let named = |name: &str, mode| {
            let path = root.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let open = named("open", 0o755);
        assert_eq!(check_place(&open, Reach::Everybody), Ok(()));
        let private = named("private", 0o700);
        assert!(check_place(&private, Reach::Everybody).unwrap_err().contains("enter"));
        assert_eq!(check_place(&private, Reach::Owner), Ok(()));
        assert!(check_place(&named("a b", 0o755), Reach::Owner).unwrap_err().contains("space"));
        assert_eq!(check_place(&named("shared", 0o1777), Reach::Everybody), Ok(()));
    }

    #[test]
    fn a_place_is_safe_where_only_root_and_the_user_can_rename() {
        for (mode, owner) in [(0o755, 0), (0o1777, 0), (0o700, 1000), (0o775, 1000), (0o755, 65534)] {
            assert!(!may_others_rename(mode, owner, 1000), "{mode:o} of {owner}");
        }
        for (mode, owner) in [(0o777, 0), (0o777, 1000), (0o755, 1001), (0o1777, 1001)] {
            assert!(may_others_rename(mode, owner, 1000), "{mode:o} of {owner}");
        }
    }

    #[test]
    fn what_is_left_behind_stays_while_a_program_uses_it() {
        let root = place();
        let program = fs::read("/bin/sleep").unwrap();
        let mut left = Shared::take(root.path(), &program, THEIRS, Stay::UntilLast).unwrap();
        left.is_left = true;
        let mut user = process::Command::new(left.directory.join(NAME)).arg("60").spawn().unwrap();
        drop(left);
        let start_and_end = || {
            let ours = Shared::take(root.path(), TEXT, OURS, Stay::UntilLast).unwrap();
            remove_others(root.path(), OURS, Stay::UntilLast);
            drop(ours);
            entries(root.path())
        };
        assert_eq!(start_and_end(), 1);
        // A run of that build finds it, and leaves it too.
        drop(Shared::take(root.path(), &program, THEIRS, Stay::UntilLast).unwrap());
        assert_eq!(start_and_end(), 1);
        user.kill().unwrap();
        user.wait().unwrap();
        assert_eq!(start_and_end(), 0);
    }

    #[test]
    fn runs_that_begin_and_end_at_once_all_have_it() {
        let root = place();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let taken = Shared::take(root.path(), TEXT, OURS, Stay::UntilLast).unwrap();
                        assert_eq!(fs::read(taken.directory.join(NAME)).unwrap(), TEXT);
                    }
                });
            }
        });
        assert_eq!(entries(root.path()), 0);
    }
}
