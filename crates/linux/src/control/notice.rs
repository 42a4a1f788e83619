//! Notices of programs that are about to run outside the budget, in the ledger's shared memory.
//!
//! A process leaves one just before it calls exec, where it must neither wait nor make system calls that a filter may
//! refuse; it may be a vfork child on its parent's memory, and may end at any moment. `quire` looks from time to time, and
//! trusts nothing that it finds. Where more come than fit, the oldest are only counted.

use super::outside::Outside;
use crate::sys::shared::shared_layout;
use core::array;
use core::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// Notices that it holds.
const ENTRIES: usize = 128;
/// Words of a name, of 8 bytes each.
const NAME_WORDS: usize = 4;
/// The longest name that is kept, in bytes.
pub const NAME_BYTES: usize = NAME_WORDS * 8;

/// One notice.
#[derive(Debug)]
#[repr(C)]
struct Entry {
    /// The notice's number, from 1 up, once all of it is there.
    number: AtomicU64,
    pid: AtomicU32,
    cause: AtomicU32,
    name: [AtomicU64; NAME_WORDS],
}

shared_layout!(Entry { number, pid, cause, name });

/// The notices of all processes. All zero: none.
#[derive(Debug)]
#[repr(C)]
pub struct Notices {
    /// How many were begun.
    begun: AtomicU64,
    entries: [Entry; ENTRIES],
}

shared_layout!(Notices { begun, entries });

/// What a notice says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Notice {
    /// The process, as it sees its own id.
    pub pid: u32,
    /// Why it will run outside.
    pub cause: Outside,
    name: [u8; NAME_BYTES],
}

impl Notice {
    /// A notice of the program `name`, of which the last part counts; longer names are cut.
    pub fn new(pid: u32, cause: Outside, name: &[u8]) -> Notice {
        let base = super::pattern::base_name(name);
        let mut bytes = [0; NAME_BYTES];
        let len = base.len().min(NAME_BYTES);
        bytes[..len].copy_from_slice(&base[..len]);
        Notice { pid, cause, name: bytes }
    }

    /// The program's name.
    pub fn name(&self) -> &[u8] {
        self.name.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

/// What is to be read next.
#[derive(Debug, Default)]
pub struct Reader {
    next: u64,
    /// Looks at a notice that was begun and is not there yet.
    looks: u32,
}

/// Looks after which a notice counts as lost: who began it has ended.
const MOST_LOOKS: u32 = 20;

/// What a look brings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Look {
    /// A notice.
    Found(Notice),
    /// So many notices that nobody can read any more.
    Lost(u64),
}

impl Notices {
    /// Leaves a notice.
    pub fn leave(&self, notice: &Notice) {
        let number = self.begun.fetch_add(1, Relaxed) + 1;
        let entry = &self.entries[number as usize % ENTRIES];
        entry.number.store(0, Relaxed);
        core::sync::atomic::fence(Release);
        entry.pid.store(notice.pid, Relaxed);
        entry.cause.store(notice.cause as u32, Relaxed);
        for (word, bytes) in entry.name.iter().zip(notice.name.as_chunks::<8>().0) {
            word.store(u64::from_le_bytes(*bytes), Relaxed);
        }
        entry.number.store(number, Release);
    }

    /// The next notice, if there is one.
    pub fn look(&self, reader: &mut Reader) -> Option<Look> {
        let begun = self.begun.load(Acquire);
        let behind = begun.saturating_sub(reader.next);
        if behind == 0 {
            return None;
        }
        if behind > ENTRIES as u64 {
            reader.next = begun - ENTRIES as u64;
            return Some(Look::Lost(behind - ENTRIES as u64));
        }
        let number = reader.next + 1;
        let found = self.read(number);
        if found.is_none() && reader.looks < MOST_LOOKS {
            reader.looks += 1;
            return None;
        }
        (reader.next, reader.looks) = (number, 0);
        Some(found.map_or(Look::Lost(1), Look::Found))
    }

    fn read(&self, number: u64) -> Option<Notice> {
        let entry = &self.entries[number as usize % ENTRIES];
        if entry.number.load(Acquire) != number {
            return None;
        }
        let words: [[u8; 8]; NAME_WORDS] = array::from_fn(|at| entry.name[at].load(Relaxed).to_le_bytes());
        let (pid, cause) = (entry.pid.load(Relaxed), entry.cause.load(Relaxed));
        core::sync::atomic::fence(Acquire);
        let same = entry.number.load(Relaxed) == number;
        let cause = Outside::from_number(u8::try_from(cause).ok()?)?;
        let mut name = [0; NAME_BYTES];
        name.copy_from_slice(words.as_flattened());
        same.then_some(Notice { pid, cause, name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Box<Notices> {
        Box::new(Notices {
            begun: AtomicU64::new(0),
            entries: array::from_fn(|_| Entry {
                number: AtomicU64::new(0),
                pid: AtomicU32::new(0),
                cause: AtomicU32::new(0),
                name: array::from_fn(|_| AtomicU64::new(0)),
            }),
        })
    }

    #[test]
    fn notices_come_in_order_and_once() {
        let (notices, mut reader) = (empty(), Reader::default());
        assert_eq!(notices.look(&mut reader), None);
        for pid in 1..=3 {
            notices.leave(&Notice::new(pid, Outside::Static, b"/usr/bin/busybox"));
        }
        for pid in 1..=3 {
            let Some(Look::Found(notice)) = notices.look(&mut reader) else { panic!("no notice {pid}") };
            assert_eq!((notice.pid, notice.cause, notice.name()), (pid, Outside::Static, &b"busybox"[..]));
        }
        assert_eq!(notices.look(&mut reader), None);
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let (notices, mut reader) = (empty(), Reader::default());
        for pid in 0..ENTRIES as u32 + 5 {
            notices.leave(&Notice::new(pid, Outside::NoPreload, &[b'x'; 100]));
        }
        assert_eq!(notices.look(&mut reader), Some(Look::Lost(5)));
        let mut seen = 0;
        while let Some(Look::Found(notice)) = notices.look(&mut reader) {
            assert_eq!((notice.pid, notice.name().len()), (seen + 5, NAME_BYTES));
            seen += 1;
        }
        assert_eq!(seen, ENTRIES as u32);
    }

    #[test]
    fn a_notice_that_is_never_finished_is_counted_after_a_while() {
        let (notices, mut reader) = (empty(), Reader::default());
        notices.begun.store(1, Relaxed);
        notices.leave(&Notice::new(7, Outside::Static, b"x"));
        for _ in 0..MOST_LOOKS {
            assert_eq!(notices.look(&mut reader), None);
        }
        assert_eq!(notices.look(&mut reader), Some(Look::Lost(1)));
        assert!(matches!(notices.look(&mut reader), Some(Look::Found(_))));
    }
}
