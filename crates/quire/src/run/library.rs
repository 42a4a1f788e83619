//! The preload library: beside the binary, and of the same build.

use crate::failure::Failure;
use quire_linux::control::build_id::{BUILD_ID, HEAD_BYTES, find_build_id};
use quire_linux::sys::loader;
use std::env;
use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The file's name.
const NAME: &str = "libquire_preload.so";

/// Finds the library beside the running binary, or in `../lib` from there.
pub(crate) fn find() -> Result<PathBuf, Failure> {
    let binary =
        env::current_exe().map_err(|error| Failure::own(format!("quire can't find itself: {error}")))?;
    let directory = binary.parent().unwrap_or(Path::new("/"));
    find_near(directory)
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

fn find_near(directory: &Path) -> Result<PathBuf, Failure> {
    let places = [directory.join(NAME), directory.join("../lib").join(NAME)];
    let path = places.iter().find_map(|place| fs::canonicalize(place).ok()).ok_or_else(|| {
        Failure::own(format!(
            "{NAME} is not in {}: build it with cargo build --release, or copy it beside the binary",
            directory.display()
        ))
    })?;
    check(&path)?;
    Ok(path)
}

/// Refuses a library that would not understand this binary, or that the loader can't be told of.
fn check(path: &Path) -> Result<(), Failure> {
    let shown = path.display();
    let build = build_of(path).map_err(|error| Failure::own(format!("{shown} can't be read: {error}")))?;
    let build = build.as_deref().unwrap_or("unknown");
    if build != BUILD_ID {
        return Err(Failure::own(format!(
            "{shown} is of another build ({build}) than quire ({BUILD_ID}): build or copy both together"
        )));
    }
    if path.to_str().is_none_or(|path| path.contains([' ', ':'])) {
        return Err(Failure::own(format!(
            "the path {shown} has a space or a colon, which LD_PRELOAD can't hold: move quire and {NAME} elsewhere"
        )));
    }
    Ok(())
}

/// The build id in a library's file: near its beginning, or, where a linker put its notes elsewhere, in all of it.
fn build_of(path: &Path) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let mut bytes = Vec::with_capacity(HEAD_BYTES);
    file.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut bytes)?;
    if find_build_id(&bytes).is_none() {
        file.read_to_end(&mut bytes)?;
    }
    Ok(find_build_id(&bytes).map(String::from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_linux::control::build_id::MARKER;

    #[test]
    fn glibc_finds_the_library_where_it_is() {
        let root = tempfile::tempdir().unwrap();
        let there = root.path().join(NAME);
        fs::write(&there, b"not looked at").unwrap();
        let path = for_glibc(&there);
        assert!(path == there || path.to_string_lossy().starts_with("/$LIB/.."));
        let missing = root.path().join("missing.so");
        assert_eq!(for_glibc(&missing), missing);
    }

    #[test]
    fn only_a_library_of_this_build_is_taken() {
        let root = tempfile::tempdir().unwrap();
        let bin = root.path().join("bin");
        let lib = root.path().join("lib");
        fs::create_dir_all(&bin).unwrap();
        fs::create_dir_all(&lib).unwrap();
        assert!(find_near(&bin).unwrap_err().message.contains("is not in"));
        fs::write(lib.join(NAME), [b"\x7fELF", &MARKER[..]].concat()).unwrap();
        assert_eq!(find_near(&bin).unwrap(), fs::canonicalize(lib.join(NAME)).unwrap());
        // Wherever in the file it stands, also across the end of what is read first.
        for before in [HEAD_BYTES - MARKER.len(), HEAD_BYTES - 5, HEAD_BYTES, 3 * HEAD_BYTES] {
            fs::write(lib.join(NAME), [&vec![b'Q'; before], &MARKER[..], b"more"].concat()).unwrap();
            assert!(find_near(&bin).is_ok(), "{before}");
        }
        fs::write(bin.join(NAME), b"QUIRE-BUILD:0123456789abcdef").unwrap();
        let message = find_near(&bin).unwrap_err().message;
        assert!(message.contains("another build (0123456789abcdef)"), "{message}");
        fs::write(bin.join(NAME), b"no marker").unwrap();
        assert!(find_near(&bin).unwrap_err().message.contains("(unknown)"));
    }
}
