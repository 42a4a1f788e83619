//! A file whose calls fail or fall short, on purpose: what a disk does once in years, at any call that a test chooses.

use super::file::Transfer;
use super::{Errno, Result};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// A transfer that falls short ends at a multiple of so many bytes: a disk writes whole sectors.
const SECTOR: usize = 512;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A read brings half.
    ShortRead,
    /// A write takes half.
    ShortWrite,
    /// A signal interrupts a read or a write before anything was transferred.
    Interrupted,
    /// A read fails.
    Read(Errno),
    /// A write fails.
    Write(Errno),
}

/// What goes wrong, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What.
    pub fault: Fault,
    /// At every so many calls that it may happen to.
    pub every: u32,
}

/// The names of faults.
const NAMES: [(&[u8], Fault); 6] = [
    (b"spill-short-read", Fault::ShortRead),
    (b"spill-short-write", Fault::ShortWrite),
    (b"spill-interrupted", Fault::Interrupted),
    (b"spill-eio-read", Fault::Read(Errno::IO)),
    (b"spill-eio-write", Fault::Write(Errno::IO)),
    (b"spill-enospc", Fault::Write(Errno::NOSPC)),
];

impl Plan {
    /// By its name: that of the fault, a colon, and at every how many calls.
    pub fn named(name: &[u8]) -> Option<Plan> {
        let colon = name.iter().position(|&byte| byte == b':')?;
        let &(_, fault) = NAMES.iter().find(|(known, _)| *known == &name[..colon])?;
        let every = core::str::from_utf8(&name[colon + 1..]).ok()?.parse().ok()?;
        (every > 0).then_some(Plan { fault, every })
    }
}

/// One side of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Read,
    Write,
}

impl Fault {
    fn may_meet(self, side: Side) -> bool {
        match self {
            Fault::ShortRead | Fault::Read(_) => side == Side::Read,
            Fault::ShortWrite | Fault::Write(_) => side == Side::Write,
            Fault::Interrupted => true,
        }
    }
}

/// A file to which things happen by a plan.
#[derive(Debug)]
pub struct Faulty<'a, F> {
    /// The file.
    pub file: F,
    /// What happens to it.
    pub plan: Option<Plan>,
    /// Calls so far that it could have happened to, of all files that share the plan.
    pub calls: &'a AtomicU32,
}

impl<F> Faulty<'_, F> {
    /// How much of a call for `len` bytes is done; the error if none of it.
    fn meet(&self, side: Side, len: usize) -> Result<usize> {
        let Some(plan) = self.plan.filter(|plan| plan.fault.may_meet(side)) else { return Ok(len) };
        if !(self.calls.fetch_add(1, Relaxed) + 1).is_multiple_of(plan.every) {
            return Ok(len);
        }
        match plan.fault {
            Fault::ShortRead | Fault::ShortWrite => Ok((len / 2 / SECTOR * SECTOR).max(SECTOR.min(len))),
            Fault::Interrupted => Err(Errno::INTR),
            Fault::Read(errno) | Fault::Write(errno) => Err(errno),
        }
    }
}

impl<F: Transfer> Transfer for Faulty<'_, F> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        let len = self.meet(Side::Read, buf.len())?;
        self.file.read_at(&mut buf[..len], offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize> {
        let len = self.meet(Side::Write, buf.len())?;
        self.file.write_at(&buf[..len], offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::file::{read_full, write_full};
    use std::cell::RefCell;
    use std::format;

    /// A file in memory that records the lengths of its calls.
    #[derive(Default)]
    struct Memory {
        bytes: RefCell<Vec<u8>>,
        calls: RefCell<Vec<usize>>,
    }

    impl Transfer for &Memory {
        fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
            let bytes = self.bytes.borrow();
            let rest = bytes.get(offset as usize..).unwrap_or_default();
            let len = rest.len().min(buf.len());
            buf[..len].copy_from_slice(&rest[..len]);
            self.calls.borrow_mut().push(len);
            Ok(len)
        }

        fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize> {
            let mut bytes = self.bytes.borrow_mut();
            let end = offset as usize + buf.len();
            let longest = bytes.len().max(end);
            bytes.resize(longest, 0);
            bytes[offset as usize..end].copy_from_slice(buf);
            self.calls.borrow_mut().push(buf.len());
            Ok(buf.len())
        }
    }

    /// What 64 KiB become that are written and read back in pieces of 12 KiB while `plan` goes on.
    fn there_and_back(plan: Option<Plan>) -> (Memory, Result<Vec<u8>>) {
        let memory = Memory::default();
        let calls = AtomicU32::new(0);
        let faulty = Faulty { file: &memory, plan, calls: &calls };
        let transfer = || -> Result<Vec<u8>> {
            for (at, piece) in pattern().chunks(PIECE).enumerate() {
                write_full(&faulty, piece, (at * PIECE) as u64)?;
            }
            let mut back = vec![0; pattern().len()];
            for (at, piece) in back.chunks_mut(PIECE).enumerate() {
                read_full(&faulty, piece, (at * PIECE) as u64)?;
            }
            Ok(back)
        };
        let result = transfer();
        (memory, result)
    }

    const PIECE: usize = 12 << 10;

    fn pattern() -> Vec<u8> {
        (0..64_u32 << 10).map(|i| (i ^ (i >> 8)) as u8 | 1).collect()
    }

    #[test]
    fn short_and_interrupted_calls_at_any_step_lose_nothing() {
        for fault in [Fault::ShortRead, Fault::ShortWrite, Fault::Interrupted] {
            for every in 1..=14 {
                if fault == Fault::Interrupted && every == 1 {
                    // For ever.
                    continue;
                }
                let (memory, back) = there_and_back(Some(Plan { fault, every }));
                assert!(back.as_ref() == Ok(&pattern()), "{fault:?} at every {every} calls");
                assert!(*memory.bytes.borrow() == pattern(), "{fault:?} at every {every} calls");
            }
        }
    }

    #[test]
    fn an_error_at_any_step_is_told() {
        for (fault, errno) in [
            (Fault::Read(Errno::IO), Errno::IO),
            (Fault::Write(Errno::IO), Errno::IO),
            (Fault::Write(Errno::NOSPC), Errno::NOSPC),
        ] {
            for every in 1..=6 {
                let (_, back) = there_and_back(Some(Plan { fault, every }));
                assert_eq!(back, Err(errno), "{fault:?} at every {every} calls");
            }
            assert_eq!(there_and_back(Some(Plan { fault, every: 7 })).1, Ok(pattern()), "six calls are made");
        }
    }

    #[test]
    fn a_short_call_ends_at_a_sector() {
        let (memory, back) = there_and_back(Some(Plan { fault: Fault::ShortWrite, every: 2 }));
        assert_eq!(back, Ok(pattern()));
        // Of the second piece half at first, and its rest whole; of the fourth likewise, but by then a call of another's.
        assert_eq!(memory.calls.borrow()[..4], [12288, 6144, 6144, 6144]);
        let calls = AtomicU32::new(0);
        let faulty =
            Faulty { file: (), plan: Some(Plan { fault: Fault::ShortRead, every: 1 }), calls: &calls };
        let lens = [1, 511, 512, 1023, 1024, 1535, 4096].map(|len| faulty.meet(Side::Read, len).unwrap());
        assert_eq!(lens, [1, 511, 512, 512, 512, 512, 2048]);
    }

    #[test]
    fn without_a_plan_and_on_the_other_side_nothing_happens() {
        let (memory, back) = there_and_back(None);
        assert_eq!(back, Ok(pattern()));
        assert_eq!(memory.calls.borrow().len(), 12);
        let (memory, _) = there_and_back(Some(Plan { fault: Fault::ShortRead, every: 1 }));
        assert_eq!(memory.calls.borrow()[..6], [12288, 12288, 12288, 12288, 12288, 4096]);
    }

    #[test]
    fn plans_have_names() {
        for (name, fault) in NAMES {
            let name = core::str::from_utf8(name).unwrap();
            assert_eq!(Plan::named(format!("{name}:17").as_bytes()), Some(Plan { fault, every: 17 }));
            for wrong in [name.to_owned(), format!("{name}:"), format!("{name}:0"), format!("{name}:-1")] {
                assert_eq!(Plan::named(wrong.as_bytes()), None, "{wrong}");
            }
        }
        assert_eq!(Plan::named(b"spill-other:3"), None);
    }
}
