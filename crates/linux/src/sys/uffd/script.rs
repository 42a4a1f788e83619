//! Transfers that are cut short on purpose, for tests: what the kernel answers then, it answers by a script.

use super::{Errno, Result};
use quire_core::PAGE_SIZE;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Where a transfer is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cut {
    /// Whether it is a move, or else a copy.
    pub(crate) moves: bool,
    /// Pages that the kernel still does.
    pub(crate) after: usize,
    /// Pages that it does beyond these, though it says that it has not.
    pub(crate) secretly: usize,
    /// What it says of the next page then.
    pub(crate) errno: Errno,
    /// How often.
    pub(crate) times: u32,
}

/// The cuts to come.
#[derive(Debug, Default)]
pub(crate) struct Script(Mutex<VecDeque<Cut>>);

impl Script {
    pub(crate) fn push(&self, cut: Cut) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(cut);
    }

    /// Forgets what has not been played.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whether all has been played.
    pub(crate) fn is_over(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// A transfer of `len` bytes begins, of which `real` does as many as it is told. What the kernel would answer; `None`
    /// where it is not cut. As the kernel does, it says of pages that were done EAGAIN and how many they were, and only the
    /// next call says why.
    pub(super) fn play(
        &self,
        moves: bool,
        len: u64,
        real: impl Fn(u64) -> Result<()>,
    ) -> Option<(Result<()>, i64)> {
        let mut script = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let cut = script.front_mut().filter(|cut| cut.moves == moves)?;
        let bytes = |pages: usize| (pages * PAGE_SIZE) as u64;
        if len <= bytes(cut.after) {
            return None;
        }
        let (after, all) = (bytes(cut.after), bytes(cut.after + cut.secretly));
        if all > 0 {
            if let Err(errno) = real(all) {
                // It comes to that by itself.
                script.pop_front();
                return Some((Err(errno), -i64::from(errno.raw_os_error())));
            }
            (cut.after, cut.secretly) = (0, 0);
        }
        if after > 0 {
            return Some((Err(Errno::AGAIN), after as i64));
        }
        let errno = cut.errno;
        cut.times -= 1;
        if cut.times == 0 {
            script.pop_front();
        }
        Some((Err(errno), -i64::from(errno.raw_os_error())))
    }
}
