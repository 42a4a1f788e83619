//! Bytes from a reader, with their position and checksum, through one buffer that never grows.

use super::error::{Error, ErrorKind};
use super::format::Crc;
use core::fmt;
use std::io::{self, Read};

const BUFFER: usize = 64 << 10;

pub(super) struct Input<R> {
    from: R,
    buffer: Box<[u8]>,
    /// The next byte of the buffer, and the end of what it holds.
    next: usize,
    end: usize,
    /// The position of the buffer's first byte in the input.
    start: u64,
    /// Of all before the buffer, and of its first `summed` bytes.
    crc: Crc,
    summed: usize,
}

impl<R: Read> Input<R> {
    pub(super) fn new(from: R) -> Input<R> {
        let buffer = vec![0; BUFFER].into();
        Input { from, buffer, next: 0, end: 0, start: 0, crc: Crc::new(), summed: 0 }
    }

    /// Bytes taken so far.
    pub(super) fn at(&self) -> u64 {
        self.start + self.next as u64
    }

    /// The next byte; `None` at the end of the input.
    #[inline]
    pub(super) fn byte(&mut self) -> Result<Option<u8>, Error> {
        if self.next == self.end && !self.refill()? {
            return Ok(None);
        }
        let byte = self.buffer[self.next];
        self.next += 1;
        Ok(Some(byte))
    }

    /// The checksum of all bytes taken so far.
    pub(super) fn sum(&mut self) -> u32 {
        self.crc.add(&self.buffer[self.summed..self.next]);
        self.summed = self.next;
        self.crc.sum()
    }

    /// Whether there is more.
    #[cold]
    fn refill(&mut self) -> Result<bool, Error> {
        self.sum();
        self.start += self.end as u64;
        (self.next, self.end, self.summed) = (0, 0, 0);
        loop {
            match self.from.read(&mut self.buffer) {
                // A reader that claims more than there was room for would be wrong; it is not believed.
                Ok(bytes) => self.end = bytes.min(BUFFER),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Error { at: self.at(), kind: ErrorKind::Io(e.kind()) }),
            }
            return Ok(self.end > 0);
        }
    }
}

impl<R> fmt::Debug for Input<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Input at {}", self.start + self.next as u64)
    }
}
