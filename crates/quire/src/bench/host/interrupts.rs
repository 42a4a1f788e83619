//! Signals that ask a bench to end: they become a flag that who waits looks at, so that all is put back on the way out.

use crate::failure::Failure;
use quire_linux::sys::child::Signals;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::BorrowedFd;
use std::cell::Cell;
use std::time::Duration;

/// HUP, INT, TERM, by their numbers on every Linux.
const TAKEN: [i32; 3] = [1, 2, 15];

/// The signals that came.
#[derive(Debug)]
pub(crate) struct Interrupts {
    signals: Signals,
    first: Cell<Option<i32>>,
}

impl Interrupts {
    /// From now on they end nobody, of this thread and those it starts.
    pub(super) fn take() -> Result<Interrupts, Failure> {
        Interrupts::of(&TAKEN)
    }

    /// None are taken: what a test starts is to have its own.
    #[cfg(test)]
    pub(super) fn none() -> Interrupts {
        Interrupts::of(&[]).unwrap()
    }

    fn of(signals: &[i32]) -> Result<Interrupts, Failure> {
        let signals = Signals::take(signals);
        let signals =
            signals.map_err(|error| Failure::own(format!("no signalfd: {error}; close other programs")))?;
        Ok(Interrupts { signals, first: Cell::new(None) })
    }

    /// The first that came. Once there was one, it stays.
    pub(crate) fn came(&self) -> Option<i32> {
        if self.first.get().is_none() {
            self.first.set(self.signals.next().map(|arrived| arrived.signal));
        }
        self.first.get()
    }

    /// Waits until `fd` can be read, a signal comes, or the time is over; says whether `fd` can be read.
    pub(crate) fn wait(&self, fd: BorrowedFd<'_>, time: Duration) -> bool {
        if self.came().is_some() {
            return false;
        }
        let timeout =
            Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: i64::from(time.subsec_nanos()) };
        let mut fds =
            [PollFd::from_borrowed_fd(fd, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
        // Who is interrupted looks again.
        poll(&mut fds, Some(&timeout)).is_ok() && !fds[0].revents().is_empty()
    }

    /// As if a signal had come.
    #[cfg(test)]
    pub(crate) fn pretend(&self, signal: i32) {
        self.first.set(Some(signal));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};
    use rustix::fd::AsFd as _;
    use rustix::process::Signal;

    #[test]
    fn the_numbers_are_those_of_the_names() {
        assert_eq!([Signal::HUP, Signal::INT, Signal::TERM].map(Signal::as_raw), TAKEN);
    }

    #[test]
    fn what_can_be_read_is_told_unless_a_signal_came() {
        let interrupts = Interrupts::take().unwrap();
        let [idle, ready] = [0, 1].map(|count| eventfd(count, EventfdFlags::CLOEXEC).unwrap());
        assert!(!interrupts.wait(idle.as_fd(), Duration::from_millis(1)));
        assert!(interrupts.wait(ready.as_fd(), Duration::from_secs(60)));
        assert_eq!(interrupts.came(), None);
        interrupts.pretend(15);
        assert_eq!(interrupts.came(), Some(15));
        assert!(!interrupts.wait(ready.as_fd(), Duration::from_secs(60)));
    }
}
