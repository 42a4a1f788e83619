//! Which signals go on to the program.

use quire_linux::sys::child::Arrived;
use rustix::fd::BorrowedFd;
use rustix::process::{Signal, pidfd_send_signal};

/// Signals that `quire` takes instead of ending by them, by their numbers on every Linux: HUP, INT, QUIT,
/// USR1, USR2, TERM.
pub(super) const TAKEN: [i32; 6] = [1, 2, 3, 10, 12, 15];

/// Passes a signal on to the program, unless the terminal sent it: then the program got it too.
pub(super) fn pass_on(arrived: Arrived, program: BorrowedFd<'_>) {
    if arrived.from_kernel {
        return;
    }
    if let Some(signal) = Signal::from_named_raw(arrived.signal) {
        // It fails only when the program has just ended.
        let _ = pidfd_send_signal(program, signal);
    }
}

/// Whether a signal means that `quire` should not wait for descendants of a program that has ended.
pub(super) fn ends_waiting(arrived: Arrived) -> bool {
    [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM]
        .iter()
        .any(|signal| signal.as_raw() == arrived.signal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_names() {
        let names = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::USR1, Signal::USR2, Signal::TERM];
        assert_eq!(names.map(Signal::as_raw), TAKEN);
        assert!(ends_waiting(Arrived { signal: 15, from_kernel: false }));
        assert!(!ends_waiting(Arrived { signal: 10, from_kernel: false }));
    }
}
