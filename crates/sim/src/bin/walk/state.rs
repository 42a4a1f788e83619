//! The shards of a run that are finished, a file each.

use quire_sim::digest::Digest;
use quire_sim::walk::{SHARD_EVENTS, Tally, WALKS, recorded};
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// A directory with what was met in each shard.
#[derive(Debug)]
pub(super) struct State {
    directory: PathBuf,
}

impl State {
    /// Opens a directory, made if need be. It must be one of the same walks: where the generator or the engine has
    /// changed, so have they.
    pub(super) fn open(directory: &Path) -> Result<State, String> {
        let at = |error: std::io::Error| format!("{}: {error}", directory.display());
        fs::create_dir_all(directory).map_err(at)?;
        let state = State { directory: directory.to_path_buf() };
        let (file, plan) = (directory.join("plan"), plan());
        match fs::read_to_string(&file) {
            Ok(text) if text == plan => Ok(state),
            Ok(_) => {
                Err(format!("{} has shards of other walks: give another directory", directory.display()))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                write(&file, &plan).map_err(at)?;
                Ok(state)
            }
            Err(error) => Err(at(error)),
        }
    }

    /// The shards below `shards` that are finished, and what they have met. A file that can't be read is as none.
    pub(super) fn finished(&self, shards: u64) -> Vec<(u64, Tally)> {
        let read = |number| Some((number, Tally::parse(&fs::read_to_string(self.file(number)).ok()?)?));
        (0..shards).filter_map(read).collect()
    }

    /// Keeps what a shard has met.
    pub(super) fn keep(&self, number: u64, tally: &Tally) -> Result<(), String> {
        let file = self.file(number);
        write(&file, &tally.lines()).map_err(|error| format!("walk: {}: {error}", file.display()))
    }

    fn file(&self, number: u64) -> PathBuf {
        self.directory.join(format!("shard-{number:06}"))
    }
}

/// What tells the walks of this build from those of others.
fn plan() -> String {
    let first = WALKS.iter().filter(|kind| kind.family).map(|kind| format!("{:?}", recorded(kind, 0)));
    format!("{SHARD_EVENTS} events a shard, {:032x}\n", Digest::of(&first.collect::<String>()))
}

/// Writes a file as a whole or not at all.
fn write(file: &Path, text: &str) -> std::io::Result<()> {
    let unfinished = file.with_extension("unfinished");
    let mut to = fs::File::create(&unfinished)?;
    to.write_all(text.as_bytes())?;
    to.sync_all()?;
    fs::rename(unfinished, file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_sim::cells::{Event, Injected, State as PageState};

    #[test]
    fn what_was_kept_is_found_and_what_is_broken_is_not() {
        let directory = std::env::temp_dir().join(format!("quire-walk-{}", std::process::id()));
        let state = State { directory: directory.clone() };
        fs::create_dir_all(&directory).unwrap();
        let mut tally = Tally::default();
        tally.hit(Event::Fault, PageState::Empty, Injected::Nothing);
        state.keep(3, &tally).unwrap();
        fs::write(state.file(1), "7 x").unwrap();
        assert_eq!(state.finished(5), [(3, tally)]);
        assert!(state.finished(3).is_empty());
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_directory_is_opened_again_by_the_same_walks_only() {
        let directory = std::env::temp_dir().join(format!("quire-walk-open-{}", std::process::id()));
        let state = State::open(&directory).unwrap();
        state.keep(1, &Tally::default()).unwrap();
        assert_eq!(State::open(&directory).unwrap().finished(2), [(1, Tally::default())]);
        fs::write(directory.join("plan"), "others").unwrap();
        let said = State::open(&directory).unwrap_err();
        assert!(said.contains("shards of other walks"), "{said}");
        // A plan that can't be read is no reason to begin anew.
        fs::remove_file(directory.join("plan")).unwrap();
        fs::create_dir(directory.join("plan")).unwrap();
        let said = State::open(&directory).unwrap_err();
        assert!(!said.contains("other walks") && directory.join("plan").is_dir(), "{said}");
        fs::remove_dir_all(&directory).unwrap();
    }
}
