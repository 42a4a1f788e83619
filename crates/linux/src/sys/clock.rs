//! Time, in nanoseconds.

/// The monotonic clock, in nanoseconds since some moment before this process began.
pub fn now_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// The processor time that the calling thread has used, in nanoseconds.
pub fn thread_ns() -> u64 {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// By libc, which reads most clocks from memory that the kernel shares, without a system call. It uses nothing else of
/// libc's: it works on any thread.
fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` outlives the call, which writes to it. These clocks always exist.
    let done = unsafe { libc::clock_gettime(clock, &raw mut time) };
    debug_assert_eq!(done, 0);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
