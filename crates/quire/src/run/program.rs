//! The program: where it is, and whether the preload library can come into it.

use crate::failure::Failure;
use rustix::fs::{Access, access};
use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where a program that was named like `name` is, by the rules of a shell.
pub(crate) fn find(name: &OsStr) -> Result<PathBuf, Failure> {
    if name.as_bytes().contains(&b'/') {
        return check(Path::new(name)).map(|()| name.into());
    }
    let path = env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let mut refused = None;
    for candidate in env::split_paths(&path).map(|directory| directory.join(name)) {
        match check(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(failure) if failure.status == 126 => refused = refused.or(Some(failure)),
            Err(_) => {}
        }
    }
    let shown = name.display();
    Err(refused.unwrap_or_else(|| {
        Failure::not_found(format!("program '{shown}' was not found: install it, or name it with its path"))
    }))
}

/// Whether the file can be executed as far as its rights say.
fn check(path: &Path) -> Result<(), Failure> {
    let shown = path.display();
    match fs::metadata(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Err(Failure::not_found(format!("program '{shown}' was not found: check the path")))
        }
        Err(error) => Err(Failure::not_executable(format!("program '{shown}' can't be looked at: {error}"))),
        Ok(data) if data.is_dir() => {
            Err(Failure::not_executable(format!("'{shown}' is a directory: name a program in it")))
        }
        Ok(_) if access(path, Access::EXEC_OK).is_err() => {
            Err(Failure::not_executable(format!("program '{shown}' is not executable: chmod +x it")))
        }
        Ok(_) => Ok(()),
    }
}

/// What a program is to the loader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Nature {
    /// It is loaded with the preload library; so it is assumed of what can't be read, too.
    Dynamic,
    /// It has no loader.
    Static,
    /// It gains rights, and the loader ignores the preload library.
    Privileged,
    /// It is for another architecture or word size.
    OtherArchitecture,
}

impl Nature {
    /// Why the program can't be managed, if so.
    pub(crate) fn unmanaged(self) -> Option<&'static str> {
        match self {
            Nature::Dynamic => None,
            Nature::Static => Some("statically linked"),
            Nature::Privileged => Some("setuid or setgid"),
            Nature::OtherArchitecture => Some("built for another architecture"),
        }
    }
}

/// What the program is; of a script, what its interpreter is.
pub(crate) fn nature(path: &Path) -> Nature {
    // A script's interpreter can itself be a script, but not without end.
    inspect(path, 4).unwrap_or(Nature::Dynamic)
}

fn inspect(path: &Path, depth: u32) -> Option<Nature> {
    let mut file = File::open(path).ok()?;
    let mut head = [0; 256];
    let read = file.read(&mut head).ok()?;
    if let Some(line) = head[..read].strip_prefix(b"#!") {
        let interpreter = line.split(|byte| *byte == b'\n').next()?.trim_ascii();
        let interpreter = interpreter.split(|byte| byte.is_ascii_whitespace()).next()?;
        return if depth > 0 { inspect(Path::new(OsStr::from_bytes(interpreter)), depth - 1) } else { None };
    }
    if gains_rights(&file)? {
        return Some(Nature::Privileged);
    }
    elf_nature(&mut file, &head[..read])
}

/// Whether executing the file changes the user or group.
fn gains_rights(file: &File) -> Option<bool> {
    let mode = file.metadata().ok()?.permissions().mode();
    Some(mode & 0o4000 != 0 || mode & 0o2010 == 0o2010)
}

/// The 64-bit ELF machine number of this build.
const MACHINE: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };

fn elf_nature(file: &mut (impl Read + Seek), head: &[u8]) -> Option<Nature> {
    const INTERPRETER: u32 = 3;
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    if head.get(4) != Some(&2) || short(head, 18)? != MACHINE {
        return Some(Nature::OtherArchitecture);
    }
    let table = u64::from_le_bytes(head.get(32..40)?.try_into().ok()?);
    let (size, count) = (usize::from(short(head, 54)?), usize::from(short(head, 56)?));
    let mut headers = vec![0; size * count];
    file.seek(SeekFrom::Start(table)).ok()?;
    file.read_exact(&mut headers).ok()?;
    let loaded = headers.chunks_exact(size.max(4)).any(|header| header[..4] == INTERPRETER.to_le_bytes());
    Some(if loaded { Nature::Dynamic } else { Nature::Static })
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn programs_are_found_as_in_a_shell() {
        assert!(find("sh".as_ref()).unwrap().ends_with("sh"));
        assert_eq!(find("no such program".as_ref()).unwrap_err().status, 127);
        let failure = find("/nonexistent/program".as_ref()).unwrap_err();
        assert!(failure.status == 127 && failure.message.contains("/nonexistent/program"));
        assert_eq!(find("/etc".as_ref()).unwrap_err().status, 126);
        assert_eq!(find("/etc/passwd".as_ref()).unwrap_err().status, 126);
    }

    #[test]
    fn natures_are_told_apart() {
        assert_eq!(nature(&find("sh".as_ref()).unwrap()), Nature::Dynamic);
        let mut elf = vec![0; 64 + 56];
        elf[..5].copy_from_slice(b"\x7fELF\x02");
        elf[18..20].copy_from_slice(&MACHINE.to_le_bytes());
        elf[32] = 64;
        (elf[54], elf[56]) = (56, 1);
        let of = |elf: &[u8]| elf_nature(&mut Cursor::new(elf), elf);
        assert_eq!(of(&elf), Some(Nature::Static));
        elf[64] = 3;
        assert_eq!(of(&elf), Some(Nature::Dynamic));
        elf[4] = 1;
        assert_eq!(of(&elf), Some(Nature::OtherArchitecture));
        assert_eq!(of(b"MZ"), None);
        assert_eq!(of(&elf[..10]), Some(Nature::OtherArchitecture));
    }

    #[test]
    fn a_setuid_program_is_privileged() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tool");
        fs::copy("/bin/true", &path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).unwrap();
        assert_eq!(nature(&path), Nature::Privileged);
        let script = directory.path().join("script");
        fs::write(&script, format!("#! {} -x\n", path.display())).unwrap();
        assert_eq!(nature(&script), Nature::Privileged);
    }
}
