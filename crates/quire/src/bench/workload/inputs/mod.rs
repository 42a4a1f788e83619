//! Inputs, made from a seed, and kept in the bench's directory.

mod code;
mod drawing;
mod project;
mod reads;
mod tables;
mod text;

pub(super) use code::{history, source};
pub(super) use drawing::drawing;
pub(super) use project::{HEADER, calls, table, unit};
pub(super) use reads::reads;
pub(super) use tables::{redis_commands, sql};
pub(super) use text::{archive, lines, log};

use crate::failure::Failure;
use quire_sim::rng::Rng;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process;

/// Of everything that is made.
const SEED: u64 = 20240;

/// Part of the names of files: to be changed with whatever changes contents.
const VERSION: u32 = 1;

/// The small form has so much less.
const SMALL_DIVISOR: u64 = 4;

/// Where inputs are kept, and how large they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inputs<'a> {
    pub(super) directory: &'a Path,
    pub(super) small: bool,
}

/// What makes an input of a size.
type Make = fn(&mut dyn Write, u64, &mut Rng) -> io::Result<()>;

impl Inputs<'_> {
    /// An amount of the full form, or the small part of it.
    pub(super) fn scaled(self, full: u64) -> u64 {
        if self.small { full / SMALL_DIVISOR } else { full }
    }

    /// The path of an input of this size. It is made where it is not there yet: under another name first, so that half
    /// a file is never taken for a whole one.
    pub(super) fn kept(self, name: &str, size: u64, make: Make) -> Result<PathBuf, Failure> {
        let (stem, extension) = name.split_once('.').unwrap_or((name, "txt"));
        let path = self.directory.join(format!("v{VERSION}-{stem}-{size}.{extension}"));
        if !path.exists() {
            let fresh = path.with_extension(format!("{}.fresh", process::id()));
            let made = write(&fresh, |file| make(file, size, &mut Rng::new(SEED)));
            made.and_then(|()| fs::rename(&fresh, &path)).map_err(|error| {
                let _ = fs::remove_file(&fresh);
                unwritable(&path, &error)
            })?;
        }
        Ok(path)
    }

    /// The path of a file with this text.
    pub(super) fn script(self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        let path = self.directory.join(name);
        if fs::read_to_string(&path).ok().as_deref() != Some(text) {
            fs::write(&path, text).map_err(|error| unwritable(&path, &error))?;
        }
        Ok(path)
    }
}

fn write(path: &Path, make: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    make(&mut file)?;
    file.flush()
}

pub(super) fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::own(format!(
        "an input can't be written to {}: {error}; make room there, or name another directory",
        path.display()
    ))
}

/// Words of two to eight letters, each of which can be spoken.
fn words(rng: &mut Rng) -> Vec<String> {
    let syllable = |rng: &mut Rng| {
        let consonant = b"bcdfghklmnprstvz"[rng.below(16) as usize];
        let vowel = b"aeiou"[rng.below(5) as usize];
        [char::from(consonant), char::from(vowel)]
    };
    (0..4096).map(|number| (0..number % 4 + 1).flat_map(|_| syllable(rng)).collect()).collect()
}

/// One of them.
fn any<'a, T>(all: &'a [T], rng: &mut Rng) -> &'a T {
    &all[rng.below(all.len() as u64) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use xxhash_rust::xxh3::xxh3_64;

    fn made(make: Make, size: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        make(&mut bytes, size, &mut Rng::new(SEED)).unwrap();
        bytes
    }

    #[test]
    fn inputs_are_the_same_each_time_and_grow_with_their_size() {
        for (name, make, small, large) in [
            ("lines", lines as Make, 10_000, 100_000),
            ("log", log, 100_000, 1_000_000),
            ("archive", archive, 100_000, 1_000_000),
            ("sql", sql, 1000, 100_000_000),
            ("redis", redis_commands, 10, 100),
            ("drawing", drawing, 10, 100),
            ("reads", reads, 10, 100),
            ("source", source, 10, 100),
            ("history", history, 1, 2),
            ("table", table, 10, 100),
            ("unit", unit, 1, 10),
        ] {
            let first = made(make, small);
            assert!(!first.is_empty() && first == made(make, small), "{name}");
            assert!(made(make, large).len() > first.len(), "{name}");
        }
    }

    /// An input that was made by another build is taken for this one's: whoever changes what is made here has to count
    /// [`VERSION`] up.
    #[test]
    fn contents_belong_to_their_version() {
        let all: [(Make, u64); 11] = [
            (lines, 20_000),
            (log, 20_000),
            (archive, 20_000),
            (sql, 20_000),
            (redis_commands, 30),
            (drawing, 30),
            (reads, 30),
            (source, 30),
            (history, 2),
            (table, 30),
            (unit, 30),
        ];
        let hashes = all.map(|(make, size)| xxh3_64(&made(make, size)) >> 32);
        let expected = [
            2429848382, 79160667, 79160667, 3926942669, 1365100581, 3477066054, 3704145336, 1951983960,
            3887513613, 442971230, 3959275573,
        ];
        assert_eq!((VERSION, hashes), (1, expected), "contents have changed: count VERSION up");
    }

    #[test]
    fn sizes_in_bytes_are_kept() {
        for make in [lines as Make, log, archive] {
            let length = made(make, 300_000).len() as u64;
            assert!((300_000..340_000).contains(&length), "{length}");
        }
    }

    #[test]
    fn colours_of_a_drawing_are_shares_of_one() {
        let text = String::from_utf8(made(drawing, 100)).unwrap();
        let lines = text.lines().filter_map(|line| line.split_once(" setrgbcolor"));
        let shares: Vec<f64> =
            lines.flat_map(|(shares, _)| shares.split(' ').map(|share| share.parse().unwrap())).collect();
        assert_eq!(shares.len(), 300);
        assert!(shares.iter().all(|share| (0.0..1.0).contains(share)));
        assert!(shares.iter().any(|share| *share > 0.5) && shares.iter().any(|share| *share < 0.5));
    }

    #[test]
    fn an_input_is_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let inputs = Inputs { directory: directory.path(), small: false };
        let path = inputs.kept("numbers.txt", 3, |file, size, _| writeln!(file, "{size}")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "3\n");
        let again = inputs.kept("numbers.txt", 3, |_, _, _| panic!("made twice")).unwrap();
        assert_eq!(again, path);
        assert_ne!(inputs.kept("numbers.txt", 4, |_, _, _| Ok(())).unwrap(), path);
    }

    #[test]
    fn half_an_input_is_not_kept() {
        let directory = tempfile::tempdir().unwrap();
        let inputs = Inputs { directory: directory.path(), small: false };
        let failure = inputs.kept("numbers.txt", 3, |_, _, _| Err(io::ErrorKind::StorageFull.into()));
        assert!(failure.unwrap_err().message.contains("make room"));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_script_that_changed_is_written_anew() {
        let directory = tempfile::tempdir().unwrap();
        let inputs = Inputs { directory: directory.path(), small: false };
        for text in ["one", "two"] {
            let path = inputs.script("script", text).unwrap();
            assert_eq!(fs::read_to_string(path).unwrap(), text);
        }
    }

    #[test]
    fn the_small_form_is_a_quarter() {
        let full = Inputs { directory: Path::new("/"), small: false };
        assert_eq!((full.scaled(400), Inputs { small: true, ..full }.scaled(400)), (400, 100));
    }
}
