//! The program: where it is.

use crate::failure::Failure;
use rustix::fs::{Access, access};
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where a program that was named like `name` is, by the rules of a shell.
pub(crate) fn find(name: &OsStr) -> Result<PathBuf, Failure> {
    if name.as_bytes().contains(&b'/') {
        return check(Path::new(name)).map(|()| name.into());
    }
    if name.is_empty() {
        return Err(Failure::not_found("program '' was not found: name one"));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_as_in_a_shell() {
        assert!(find("sh".as_ref()).unwrap().ends_with("sh"));
        assert_eq!(find("no such program".as_ref()).unwrap_err().status, 127);
        assert_eq!(find("".as_ref()).unwrap_err().status, 127);
        let failure = find("/nonexistent/program".as_ref()).unwrap_err();
        assert!(failure.status == 127 && failure.message.contains("/nonexistent/program"));
        assert_eq!(find("/etc".as_ref()).unwrap_err().status, 126);
        assert_eq!(find("/etc/passwd".as_ref()).unwrap_err().status, 126);
    }
}
