//! What can be wrong with a trace.

use core::fmt;
use std::io;

/// Why a trace can't be read further, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Error {
    /// Bytes from the start of the input that were read before it was seen.
    pub at: u64,
    /// What it is.
    pub kind: ErrorKind,
}

/// What is wrong with a trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The input can't be read.
    Io(io::ErrorKind),
    /// It does not begin as a trace does.
    NoTrace,
    /// It is of a version that is not known here.
    Version(u16),
    /// Its pages are not of 4 KiB, but of 2 to the power of this many bytes.
    PageShift(u8),
    /// The byte after the page shift is not 0.
    Reserved(u8),
    /// It stops before its end mark.
    Truncated,
    /// There is no such record.
    Unknown(u8),
    /// A number is longer than it need be, or too large for what it says.
    Number,
    /// An event that can't happen: see [`Event::is_valid`](super::Event::is_valid).
    Event,
    /// The end mark speaks of another number of events than there were.
    Count {
        /// What it says.
        said: u64,
        /// What was read.
        read: u64,
    },
    /// The checksum does not fit: any event before may be wrong.
    Checksum,
    /// There is something after the end mark.
    Trailing,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: {}", self.at, self.kind)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ErrorKind::Io(kind) => write!(f, "the trace can't be read: {kind}"),
            ErrorKind::NoTrace => f.write_str("this is no trace; text of lackey is read by name"),
            ErrorKind::Version(v) => write!(f, "the trace has version {v}, known is 1: record it again"),
            ErrorKind::PageShift(s) => write!(f, "pages of 2^{s} bytes, known are those of 2^12"),
            ErrorKind::Reserved(byte) => write!(f, "a byte of the header is {byte:#x} instead of 0"),
            ErrorKind::Truncated => f.write_str("the trace was cut off: its end mark is missing"),
            ErrorKind::Unknown(byte) => write!(f, "no record begins with {byte:#x}: the trace is damaged"),
            ErrorKind::Number => f.write_str("a number is too long or too large: the trace is damaged"),
            ErrorKind::Event => f.write_str("an event that can't happen: the trace is damaged"),
            ErrorKind::Count { said, read } => {
                write!(f, "the number of events is {read}, by the end mark {said}: the trace is damaged")
            }
            ErrorKind::Checksum => f.write_str("the checksum does not fit: the trace is damaged"),
            ErrorKind::Trailing => f.write_str("something follows the end mark: one file is one trace"),
        }
    }
}

impl std::error::Error for Error {}
