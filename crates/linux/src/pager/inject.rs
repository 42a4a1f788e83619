//! Errors on purpose, to show what comes of them.

use super::Pager;
use crate::codec::Form;
use crate::sys::faulty::{Faulty, Plan};
use crate::sys::{Errno, futex};
use rustix::fd::OwnedFd;

/// An error on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inject {
    /// Every write to the spill file changes one bit.
    CorruptSpill,
    /// Of every write to the spill file only the first half arrives.
    TornSpill,
    /// A write to where something was written before does not arrive: an old copy is there.
    LostSpill,
    /// Calls of the spill file fail or fall short.
    Spill(Plan),
    /// One bit changes of everything that is stored in this form, in RAM and in the spill file.
    Corrupt(Form),
    /// The handler stops when it has answered 1000 faults.
    StopHandler,
    /// Each fault that the handler takes up waits so many us more.
    SlowFault(u32),
    /// Between what a fill has read of the spill file and what it then looks up, so many us pass.
    LateRead(u32),
}

impl Inject {
    /// By its name in `QUIRE_INJECT`.
    pub fn named(name: &[u8]) -> Option<Inject> {
        Some(match name {
            b"corrupt-spill" => Inject::CorruptSpill,
            b"torn-spill" => Inject::TornSpill,
            b"lost-spill" => Inject::LostSpill,
            b"corrupt-raw" => Inject::Corrupt(Form::Raw),
            b"corrupt-lz4" => Inject::Corrupt(Form::Lz4),
            b"corrupt-zstd" => Inject::Corrupt(Form::Zstd),
            b"stop-handler" => Inject::StopHandler,
            name => {
                let us = |us| core::str::from_utf8(us).ok()?.parse().ok();
                if let Some(rest) = name.strip_prefix(b"slow-fault:") {
                    Inject::SlowFault(us(rest)?)
                } else if let Some(rest) = name.strip_prefix(b"late-read:") {
                    Inject::LateRead(us(rest)?)
                } else {
                    Inject::Spill(Plan::named(name)?)
                }
            }
        })
    }
}

impl Pager {
    /// Waits with a fault, where that is asked for.
    pub(super) fn slow_down(&self) {
        if let Some(Inject::SlowFault(us)) = self.options.inject {
            futex::sleep(u64::from(us) * 1000);
        }
    }

    /// Waits with what was read of the spill file, where that is asked for.
    pub(super) fn come_late(&self) {
        if let Some(Inject::LateRead(us)) = self.options.inject {
            futex::sleep(u64::from(us) * 1000);
        }
    }

    /// A spill file, whose calls fail where that is asked for.
    pub(super) fn spill_file(&self, file: u16) -> Result<Faulty<'_, &'static OwnedFd>, Errno> {
        let plan = match self.options.inject {
            Some(Inject::Spill(plan)) => Some(plan),
            _ => None,
        };
        Ok(Faulty { file: self.file(file).ok_or(Errno::BADF)?, plan, calls: &self.spill_calls })
    }

    /// Damages what is being stored, where that is asked for.
    pub(super) fn damage_stored(&self, bytes: &mut [u8]) {
        if let Some(Inject::Corrupt(form)) = self.options.inject
            && Form::of(bytes) == Some(form)
        {
            bytes[bytes.len() / 2] ^= 0x10;
        }
    }

    /// Damages `bytes`, which are about to be written to `fd` at `start`, where that is asked for. False: they are not to be
    /// written at all.
    pub(super) fn damage_written(&self, bytes: &mut [u8], fd: &OwnedFd, start: u64) -> bool {
        let middle = bytes.len() / 2;
        match self.options.inject {
            Some(Inject::CorruptSpill) => bytes[middle] ^= 0x10,
            Some(Inject::TornSpill) => bytes[middle..].fill(0),
            Some(Inject::LostSpill) => {
                let there = rustix::fs::fstat(fd).map_or(0, |found| found.st_size as u64);
                return there < start + bytes.len() as u64;
            }
            _ => {}
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::faulty::Fault;

    #[test]
    fn each_has_a_name() {
        let named = [
            ("corrupt-spill", Inject::CorruptSpill),
            ("torn-spill", Inject::TornSpill),
            ("lost-spill", Inject::LostSpill),
            ("corrupt-raw", Inject::Corrupt(Form::Raw)),
            ("corrupt-lz4", Inject::Corrupt(Form::Lz4)),
            ("corrupt-zstd", Inject::Corrupt(Form::Zstd)),
            ("stop-handler", Inject::StopHandler),
            ("slow-fault:2000", Inject::SlowFault(2000)),
            ("late-read:300", Inject::LateRead(300)),
            ("spill-short-write:3", Inject::Spill(Plan { fault: Fault::ShortWrite, every: 3 })),
        ];
        for (name, inject) in named {
            assert_eq!(Inject::named(name.as_bytes()), Some(inject), "{name}");
        }
        assert_eq!(Inject::named(b""), None);
        assert_eq!(Inject::named(b"corrupt"), None);
        assert_eq!(Inject::named(b"slow-fault:"), None);
        assert_eq!(Inject::named(b"slow-fault:-1"), None);
    }
}
