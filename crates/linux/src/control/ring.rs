//! A ring of notes from one process to `quire`, in a memory file that both have mapped.
//!
//! One side writes, one reads, and neither ever waits for the other while it holds a lock. What is in the ring survives
//! the process: when it is killed, `quire` still reads all that was noted. Neither side trusts what it finds in it.

use crate::sys::futex::{self, Scope};
use crate::sys::shared::{Shared, shared_layout};
use core::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io;

/// Notes that a ring holds: 384 KiB of them.
pub const CAPACITY: usize = 1 << 14;

/// A note with its time, in ns of the monotonic clock.
pub type Words = [u64; 3];

/// The shared memory. Read and written through [`Ring`].
#[derive(Debug)]
#[repr(C, align(64))]
pub struct RingMemory {
    /// Notes written, and notes read, since the ring was made.
    written: AtomicU64,
    read: AtomicU64,
    /// Rises when notes were read while somebody waits for room: a shared futex.
    freed: AtomicU32,
    waiting: AtomicU32,
    /// Nobody reads any longer.
    closed: AtomicU32,
    /// What the program does to its memory is of no use any longer; decisions still are.
    no_accesses: AtomicU32,
    notes: [[AtomicU64; 3]; CAPACITY],
}

shared_layout!(RingMemory { written, read, freed, waiting, closed, no_accesses, notes });

/// A mapped ring.
#[derive(Debug)]
pub struct Ring {
    memory: Shared<RingMemory>,
}

impl Ring {
    /// Creates an empty one.
    pub fn create() -> io::Result<(OwnedFd, Ring)> {
        let file = memfd_create("quire-notes", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, size_of::<RingMemory>() as u64)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)?;
        let ring = Ring::map(&file)?;
        Ok((file, ring))
    }

    /// Maps the ring in `file`.
    pub fn map(file: impl AsFd) -> io::Result<Ring> {
        Ok(Ring { memory: Shared::map(file)? })
    }

    /// For the writer: adds a note. False when the ring is full. One thread at a time.
    pub fn push(&self, words: Words) -> bool {
        let written = self.memory.written.load(Relaxed);
        if written.wrapping_sub(self.memory.read.load(Acquire)) >= CAPACITY as u64 {
            return false;
        }
        let place = &self.memory.notes[written as usize % CAPACITY];
        place.iter().zip(words).for_each(|(to, word)| to.store(word, Relaxed));
        self.memory.written.store(written.wrapping_add(1), Release);
        true
    }

    /// For the writer: waits until notes have been read, at most for `timeout_ns`. Returns at once where there is room
    /// or nobody reads any longer.
    pub fn await_room(&self, timeout_ns: u64) {
        self.memory.waiting.store(1, SeqCst);
        let seen = self.memory.freed.load(SeqCst);
        let used = self.memory.written.load(Relaxed).wrapping_sub(self.memory.read.load(SeqCst));
        if used >= CAPACITY as u64 && !self.is_closed() {
            futex::wait(&self.memory.freed, seen, Some(timeout_ns), Scope::Shared);
        }
    }

    /// For the writer: whether nobody reads any longer.
    pub fn is_closed(&self) -> bool {
        self.memory.closed.load(Relaxed) != 0
    }

    /// For the writer: whether the reader has use for what the program does to its memory.
    pub fn wants_accesses(&self) -> bool {
        self.memory.no_accesses.load(Relaxed) == 0
    }

    /// For the reader: says that it has none any longer.
    pub fn refuse_accesses(&self) {
        self.memory.no_accesses.store(1, Relaxed);
    }

    /// For the reader: says that it reads no longer.
    pub fn close(&self) {
        self.memory.closed.store(1, Relaxed);
        self.wake();
    }

    /// For the reader: takes all notes there are, oldest first.
    pub fn take(&self, mut with: impl FnMut(Words)) {
        let read = self.memory.read.load(Relaxed);
        let count = self.memory.written.load(Acquire).wrapping_sub(read);
        if count == 0 {
            return;
        }
        // A process that writes nonsense there gets no more of our time than a full ring does.
        for number in 0..count.min(CAPACITY as u64) {
            let place = &self.memory.notes[read.wrapping_add(number) as usize % CAPACITY];
            with([0, 1, 2].map(|word: usize| place[word].load(Relaxed)));
        }
        self.memory.read.store(read.wrapping_add(count), SeqCst);
        if self.memory.waiting.swap(0, SeqCst) != 0 {
            self.wake();
        }
    }

    fn wake(&self) {
        self.memory.freed.fetch_add(1, SeqCst);
        // Waking fails only for a bad address, and the word is ours.
        let _ = futex::wake(&self.memory.freed, u32::MAX, Scope::Shared);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::now_ns;
    use std::thread;

    #[test]
    fn all_that_is_written_is_read_in_order() {
        let (file, reader) = Ring::create().unwrap();
        let writer = Ring::map(&file).unwrap();
        let notes = 3 * CAPACITY as u64 + 5;
        let mut next = 0;
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..notes {
                    while !writer.push([number, !number, 7]) {
                        writer.await_room(1_000_000_000);
                    }
                }
            });
            while next < notes {
                reader.take(|words| {
                    assert_eq!(words, [next, !next, 7]);
                    next += 1;
                });
            }
        });
        reader.take(|_| panic!("there were no more"));
    }

    #[test]
    fn a_full_ring_refuses_and_a_closed_one_keeps_nobody() {
        let (_file, ring) = Ring::create().unwrap();
        assert_eq!((0..).take_while(|&number| ring.push([number; 3])).count(), CAPACITY);
        let before = now_ns();
        ring.await_room(20_000_000);
        assert!(now_ns() - before >= 20_000_000);
        ring.close();
        assert!(ring.is_closed());
        ring.await_room(u64::MAX / 4);
    }

    #[test]
    fn accesses_can_be_refused_alone() {
        let (file, reader) = Ring::create().unwrap();
        let writer = Ring::map(&file).unwrap();
        assert!(writer.wants_accesses());
        reader.refuse_accesses();
        assert!(!writer.wants_accesses() && !writer.is_closed());
        assert!(writer.push([1, 2, 3]), "the rest is still read");
    }

    #[test]
    fn nonsense_in_the_ring_is_bounded() {
        let (_file, ring) = Ring::create().unwrap();
        ring.memory.written.store(u64::MAX - 3, Relaxed);
        let mut count = 0;
        ring.take(|_| count += 1);
        assert_eq!(count, CAPACITY);
        ring.take(|_| panic!("there were no more"));
    }
}
