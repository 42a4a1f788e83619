//! The preload library: beside the binary, and of the same build.

use crate::failure::Failure;
use quire_linux::control::build_id::{BUILD_ID, find_build_id};
use std::env;
use std::fs;
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
    let bytes = fs::read(path).map_err(|error| Failure::own(format!("{shown} can't be read: {error}")))?;
    let build = find_build_id(&bytes).unwrap_or("unknown");
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

#[cfg(test)]
mod tests {
    use super::*;
    use quire_linux::control::build_id::MARKER;

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
        fs::write(bin.join(NAME), b"QUIRE-BUILD:0123456789abcdef").unwrap();
        let message = find_near(&bin).unwrap_err().message;
        assert!(message.contains("another build (0123456789abcdef)"), "{message}");
        fs::write(bin.join(NAME), b"no marker").unwrap();
        assert!(find_near(&bin).unwrap_err().message.contains("(unknown)"));
    }
}
