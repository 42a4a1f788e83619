//! Time, in nanoseconds.

use super::raw;
use super::tally::{self, Call};

/// The monotonic clock, in nanoseconds since some moment before this process began.
pub fn now_ns() -> u64 {
    tally::count(Call::Clock);
    unseen_ns()
}

/// The same, for a profile: it does not count its own looks at the clock.
pub fn unseen_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// The processor time that the calling thread has used, in nanoseconds.
pub fn thread_ns() -> u64 {
    tally::count(Call::Clock);
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// By a system call, though libc could read the clock faster: another library may stand in front of its function.
fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` outlives the call and is what the kernel writes. These clocks always exist.
    let done = unsafe { raw::syscall(libc::SYS_clock_gettime, [clock as usize, (&raw mut time).addr()]) };
    debug_assert!(done.is_ok());
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
