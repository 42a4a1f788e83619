//! Where the events of a replay are from: a file, or a workload that is made up.

use crate::trace::{self, Event, Lackey, LackeyOptions, Reader};
use crate::workload::{Kind, Size};
use core::fmt;
use core::ops::RangeInclusive;
use core::str::FromStr;
use std::cell::Cell as Count;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// A trace to be, which can be opened again and again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// A workload: `gen:NAME`, with `:pages=N`, `:events=N`, `:seed=N` behind it.
    Made {
        /// Which.
        kind: Kind,
        /// How large.
        size: Size,
        /// From what.
        seed: u64,
    },
    /// A file of the project's own format.
    Trace(PathBuf),
    /// Text of Valgrind's lackey.
    Lackey(PathBuf),
}

/// Why there is no such trace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SourceError {
    /// A workload's name or parameters are not understood.
    Workload(String),
    /// The file can't be read, and what the system says.
    Io(PathBuf, String),
    /// It is no regular file: what comes out of it comes once, and each cell reads all of it.
    Passing(PathBuf),
    /// There is nothing in the file.
    Empty(PathBuf),
    /// The file is neither a trace nor text of lackey.
    Unknown(PathBuf),
}

/// Where traces come from.
const MAKE: &str = "record a trace with quire run --record FILE -- PROGRAM, or make such text with valgrind \
                    --tool=lackey --trace-mem=yes --log-file=FILE PROGRAM";

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceError::Workload(why) => f.write_str(why),
            SourceError::Io(path, why) => {
                write!(f, "{}: {why}; name a file to read, or a workload as gen:zipf", path.display())
            }
            SourceError::Passing(path) => write!(
                f,
                "{}: not a regular file, and a trace is read once for each cell; write it to a file and name that",
                path.display()
            ),
            SourceError::Empty(path) => write!(f, "{}: the file is empty; {MAKE}", path.display()),
            SourceError::Unknown(path) => {
                write!(f, "{}: neither a trace nor text of lackey; {MAKE}", path.display())
            }
        }
    }
}

impl std::error::Error for SourceError {}

/// What a workload has unless told otherwise: 256 MiB, 4 million events.
const SIZE: Size = Size { pages: 1 << 16, events: 1 << 22 };
const SEED: u64 = 1;
/// The least and the most pages of a workload.
const PAGES: RangeInclusive<u64> = 1 << 12..=1 << 24;

/// `gen:NAME[:pages=N][:events=N][:seed=N]` is a workload, anything else a file.
impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Source, SourceError> {
        match text.strip_prefix("gen:") {
            Some(words) => made(words).map_err(SourceError::Workload),
            None => file(Path::new(text)),
        }
    }
}

fn made(text: &str) -> Result<Source, String> {
    let mut words = text.split(':');
    let name = words.next().unwrap_or("");
    let kind: Kind = name.parse().map_err(|why| format!("gen:{name}: {why}"))?;
    let (mut size, mut seed) = (SIZE, SEED);
    for word in words {
        let wrong = |why: &str| format!("gen:{text}: '{word}' {why}");
        let (place, bounds, value) = match word.split_once('=') {
            Some(("pages", value)) => (&mut size.pages, PAGES, value),
            Some(("events", value)) => (&mut size.events, 1..=u64::MAX, value),
            Some(("seed", value)) => (&mut seed, 0..=u64::MAX, value),
            _ => return Err(wrong("is no parameter: write pages=N, events=N or seed=N")),
        };
        let value = number(value).filter(|value| bounds.contains(value));
        *place = value.ok_or_else(|| wrong(&allowed(&bounds)))?;
    }
    Ok(Source::Made { kind, size, seed })
}

/// What a parameter may be.
fn allowed(bounds: &RangeInclusive<u64>) -> String {
    let end = match bounds.end() {
        &u64::MAX => "or more".into(),
        end => format!("to {end}"),
    };
    format!("is out of bounds: write a number of {} {end}; K, M and G are powers of 1024", bounds.start())
}

/// A number, with K, M or G for powers of 1024.
fn number(text: &str) -> Option<u64> {
    let unit = match text.as_bytes().last()? {
        b'k' | b'K' => 1 << 10,
        b'm' | b'M' => 1 << 20,
        b'g' | b'G' => 1 << 30,
        _ => 1,
    };
    let digits = if unit == 1 { text } else { &text[..text.len() - 1] };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// Bytes of a file that tell what it is.
const HEAD: u64 = 64 << 10;

fn file(path: &Path) -> Result<Source, SourceError> {
    let failed = |error: io::Error| SourceError::Io(path.into(), error.to_string());
    // Before it is opened: that waits for a writer, if it is a pipe.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(SourceError::Passing(path.into()));
    }
    let mut head = Vec::new();
    File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut head)).map_err(failed)?;
    if trace::is_trace(&head) {
        Ok(Source::Trace(path.into()))
    } else if trace::is_lackey(&head) {
        Ok(Source::Lackey(path.into()))
    } else if head.is_empty() {
        Err(SourceError::Empty(path.into()))
    } else {
        Err(SourceError::Unknown(path.into()))
    }
}

/// As it was asked for.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Made { kind, size, seed } => {
                write!(f, "gen:{kind}:pages={}:events={}:seed={seed}", size.pages, size.events)
            }
            Source::Trace(path) | Source::Lackey(path) => path.display().fmt(f),
        }
    }
}

/// The events of a source.
pub struct Events {
    events: Boxed,
    /// What there is: events or bytes.
    whole: u64,
    /// Bytes read, of a file.
    read: Option<Rc<Count<u64>>>,
    given: u64,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("whole", &self.whole)
            .field("given", &self.given)
            .finish_non_exhaustive()
    }
}

impl Source {
    /// Its events, from the first.
    pub fn open(&self) -> Result<Events, SourceError> {
        match self {
            Source::Made { kind, size, seed } => Ok(Events {
                events: Box::new(kind.events(*size, *seed).map(Ok)),
                whole: size.events,
                read: None,
                given: 0,
            }),
            Source::Trace(path) => open(path, |file| match Reader::new(file) {
                Ok(reader) => Box::new(reader),
                Err(error) => Box::new(core::iter::once(Err(error))),
            }),
            Source::Lackey(path) => open(path, |file| Box::new(Lackey::new(file, LackeyOptions::default()))),
        }
    }
}

type Boxed = Box<dyn Iterator<Item = Result<Event, trace::Error>>>;

fn open(path: &Path, reader: impl Fn(Counted) -> Boxed) -> Result<Events, SourceError> {
    let failed = |error: io::Error| SourceError::Io(path.into(), error.to_string());
    let file = File::open(path).map_err(failed)?;
    let whole = file.metadata().map_err(failed)?.len();
    let read = Rc::new(Count::new(0));
    let events = reader(Counted { file, read: Rc::clone(&read) });
    Ok(Events { events, whole, read: Some(read), given: 0 })
}

impl Events {
    /// How much of it is over, 0.0 to 1.0, about.
    pub fn share(&self) -> f64 {
        let done = self.read.as_ref().map_or(self.given, |read| read.get());
        (done as f64 / self.whole.max(1) as f64).min(1.0)
    }
}

impl Iterator for Events {
    type Item = Result<Event, trace::Error>;

    #[inline]
    fn next(&mut self) -> Option<Result<Event, trace::Error>> {
        self.given += 1;
        self.events.next()
    }
}

/// A file that counts the bytes read.
struct Counted {
    file: File,
    read: Rc<Count<u64>>,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(into)?;
        self.read.set(self.read.get() + read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_have_names_and_parameters() {
        let source: Source = "gen:zipf:pages=8K:events=1000:seed=7".parse().unwrap();
        let size = Size { pages: 8192, events: 1000 };
        assert_eq!(source, Source::Made { kind: Kind::Zipf, size, seed: 7 });
        assert_eq!(source.to_string().parse(), Ok(source));
        for text in ["gen:", "gen:zip", "gen:zipf:pages=1", "gen:zipf:pages", "gen:zipf:size=4K", "gen:zipf:"]
        {
            let said = text.parse::<Source>().unwrap_err().to_string();
            assert!(said.contains(text.split(':').next_back().unwrap()) && !said.contains('\n'), "{said}");
        }
    }

    #[test]
    fn what_is_out_of_bounds_is_told_from_what_is_unknown() {
        let said = |text: &str| text.parse::<Source>().unwrap_err().to_string();
        for (word, bounds) in [
            ("pages=0", "4096 to 16777216"),
            ("pages=x", "4096"),
            ("events=0", "1 or more"),
            ("seed=-1", "0 or more"),
        ] {
            let said = said(&format!("gen:zipf:{word}"));
            assert!(said.contains(word) && said.contains(bounds) && !said.contains("no parameter"), "{said}");
        }
        assert!(said("gen:zipf:page=8K").contains("'page=8K' is no parameter: write pages=N"));
    }
}
