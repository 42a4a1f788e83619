//! What can be told from a program's file about whether Quire's library will come into it.
//!
//! Used by `quire`, and in programs just before they call exec: nothing here allocates, and little of the stack is used.

use crate::control::outside::Outside;
use crate::control::pattern::base_name;
use core::ffi::CStr;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{self, Mode, OFlags};
use rustix::io;

/// Scripts whose interpreter is a script, and so on: as many as the kernel takes.
const MOST_SCRIPTS: u32 = 5;
/// Bytes read of a file's beginning; the headers of a program fit.
const HEAD: usize = 1024;
/// The longest path of an interpreter.
const PATH: usize = 256;

/// The 64-bit ELF machine number of this build.
const MACHINE: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
/// Where the name of a program header's kind, its offset and its size in the file lie.
const INTERPRETER: u32 = 3;

/// Why the program at `path` would run outside the budget, as far as its file tells; a script's file is its
/// interpreter's. `None`: the library comes into it, or it can't be executed, or not be read.
pub fn outside(path: &CStr) -> Option<Outside> {
    let mut file = open(path)?;
    let mut head = [0; HEAD];
    for _ in 0..MOST_SCRIPTS {
        let len = io::pread(&file, &mut head, 0).ok()?;
        match script(&head[..len]) {
            Some(interpreter) => file = open(path_in(&mut [0; PATH], interpreter)?)?,
            // Of a program started as `ld.so PROGRAM` the file is the loader, which looks static.
            None => {
                let cause = of_elf(&file, &head[..len]);
                return cause.filter(|cause| *cause != Outside::Static || !is_loader(path.to_bytes()));
            }
        }
    }
    None
}

/// The path of the file that this process runs; `None` where it does not fit.
pub fn running(space: &mut [u8]) -> Option<&[u8]> {
    let len = fs::readlinkat_raw(fs::CWD, c"/proc/self/exe", &mut *space).ok()?;
    (len < space.len()).then(|| &space[..len])
}

/// Whether the file at `path` is a regular one.
pub fn is_file(path: &CStr) -> bool {
    fs::stat(path).is_ok_and(|data| fs::FileType::from_raw_mode(data.st_mode).is_file())
}

/// Whether the file at `path` is a script.
pub fn is_script(path: &CStr) -> bool {
    let mut head = [0; 2];
    open(path).is_some_and(|file| io::pread(&file, &mut head, 0) == Ok(2) && head == *b"#!")
}

fn open(path: &CStr) -> Option<OwnedFd> {
    // A pipe of that name must not stop us.
    fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty()).ok()
}

fn path_in<'a>(space: &'a mut [u8; PATH], path: &[u8]) -> Option<&'a CStr> {
    space.get_mut(..path.len())?.copy_from_slice(path);
    CStr::from_bytes_until_nul(space).ok()
}

/// The interpreter's path, if the file is a script.
fn script(head: &[u8]) -> Option<&[u8]> {
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?.trim_ascii();
    line.split(u8::is_ascii_whitespace).next()
}

/// Whether executing the file changes the user or group, or gives capabilities to one who is not root.
fn gains_rights(file: impl AsFd) -> bool {
    let Ok(data) = fs::fstat(&file) else { return false };
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let mode = data.st_mode;
    let changes = (mode & 0o4000 != 0 && data.st_uid != user.as_raw())
        || (mode & 0o2010 == 0o2010 && data.st_gid != group.as_raw());
    changes || (!user.is_root() && fs::fgetxattr(&file, c"security.capability", &mut [0u8; 64]).is_ok())
}

fn of_elf(file: &OwnedFd, head: &[u8]) -> Option<Outside> {
    if !head.starts_with(b"\x7fELF") || head.len() < 64 {
        return None;
    }
    if head[4] != 2 || short(head, 18)? != MACHINE {
        return Some(Outside::OtherArchitecture);
    }
    if gains_rights(file) {
        return Some(Outside::Privileged);
    }
    let Some((at, len)) = interpreter(file, head)? else { return Some(Outside::Static) };
    let mut space = [0; PATH];
    let len = io::pread(file, &mut space[..(len as usize).min(PATH)], at).ok()?;
    let path = space[..len].split(|byte| *byte == 0).next()?;
    (!is_loader(path)).then_some(Outside::OtherLibc)
}

/// Whether this is a loader of glibc's: ld-linux-x86-64.so.2, ld.so.1, or ld-2.31.so. (musl's is ld-musl-x86_64.so.1.)
pub fn is_loader(path: &[u8]) -> bool {
    let names: [&[u8]; 3] = [b"ld-linux", b"ld.so", b"ld-2."];
    names.iter().any(|name| base_name(path).starts_with(name))
}

/// Where the interpreter's path lies in the file, and its length; `Some(None)`: there is none.
fn interpreter(file: &OwnedFd, head: &[u8]) -> Option<Option<(u64, u64)>> {
    let table = long(head, 32)?;
    let (size, count) = (u64::from(short(head, 54)?), u64::from(short(head, 56)?));
    for number in 0..count.min(256) {
        let at = table + number * size;
        let mut header = [0; 40];
        match head.get(at as usize..at as usize + 40) {
            Some(bytes) => header.copy_from_slice(bytes),
            None => (io::pread(file, &mut header, at).ok()? == 40).then_some(())?,
        }
        if header[..4] == INTERPRETER.to_le_bytes() {
            return Some(Some((long(&header, 8)?, long(&header, 32)?)));
        }
    }
    Some(None)
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::path::{Path, PathBuf};

    /// A directory of its own that goes away again.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("quire-image-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Scratch(path)
        }

        fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
            let path = self.0.join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn of(path: &Path) -> Option<Outside> {
        outside(&CString::new(path.as_os_str().as_bytes()).unwrap())
    }

    fn elf() -> Vec<u8> {
        let mut elf = vec![0; 64 + 56];
        elf[..5].copy_from_slice(b"\x7fELF\x02");
        elf[18..20].copy_from_slice(&MACHINE.to_le_bytes());
        (elf[32], elf[54], elf[56]) = (64, 56, 1);
        elf
    }

    #[test]
    fn kinds_of_programs_are_told_apart() {
        let scratch = Scratch::new("kinds");
        assert_eq!(of(Path::new("/bin/sh")), None);
        let mut bytes = elf();
        assert_eq!(of(&scratch.file("static", &bytes)), Some(Outside::Static));
        bytes[64] = 3;
        let at = bytes.len() as u64;
        bytes[72..80].copy_from_slice(&at.to_le_bytes());
        for (loader, verdict) in [
            ("/lib64/ld-linux-x86-64.so.2", None),
            ("/lib/ld.so.1", None),
            ("/lib/ld-musl-x86_64.so.1", Some(Outside::OtherLibc)),
        ] {
            bytes.truncate(at as usize);
            bytes[96..104].copy_from_slice(&(loader.len() as u64 + 1).to_le_bytes());
            bytes.extend_from_slice(loader.as_bytes());
            bytes.push(0);
            assert_eq!(of(&scratch.file("dynamic", &bytes)), verdict, "{loader}");
        }
        bytes[4] = 1;
        let other = scratch.file("other", &bytes);
        assert_eq!(of(&other), Some(Outside::OtherArchitecture));
        let script = scratch.file("script", format!("#! {} -x\nno\n", other.display()).as_bytes());
        assert_eq!(of(&script), Some(Outside::OtherArchitecture));
        assert!(is_script(&CString::new(script.as_os_str().as_bytes()).unwrap()));
        let circle = scratch.0.join("circle");
        assert_eq!(of(&scratch.file("circle", format!("#!{}\n", circle.display()).as_bytes())), None);
        assert_eq!(of(&scratch.file("text", b"echo\n")), None);
        assert_eq!(of(&scratch.file("garbage", b"\x7fELFgarbage")), None);
        assert_eq!(of(&scratch.file("empty", b"")), None);
        assert_eq!(of(Path::new("/nonexistent")), None);
    }

    #[test]
    fn a_setuid_program_of_another_user_is_privileged() {
        let scratch = Scratch::new("setuid");
        let path = scratch.0.join("tool");
        std::fs::copy("/bin/true", &path).unwrap();
        let set = |user: Option<u32>| {
            chown(&path, user, None).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o4755)).unwrap();
        };
        set(None);
        assert_eq!(of(&path), None, "its own user's");
        if rustix::process::geteuid().is_root() {
            set(Some(1));
            assert_eq!(of(&path), Some(Outside::Privileged));
        }
    }
}
