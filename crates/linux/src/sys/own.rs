//! Which threads are Quire's own.

/// Where in a thread's control page a mark is that only our threads have: glibc leaves the word zero on x86-64.
pub(super) const MARK_AT: usize = 0x20;
pub(super) const MARK: usize = usize::from_be_bytes(*b"QuireThr");

/// Whether the calling thread was made by `thread::spawn`. A load.
#[inline]
pub(super) fn is_own_thread() -> bool {
    let mark: usize;
    // SAFETY: every thread of an x86-64 process with a libc has at least these words at its thread pointer.
    unsafe {
        core::arch::asm!("mov {0}, fs:[{1}]", out(reg) mark, const MARK_AT, options(nostack, readonly, preserves_flags));
    }
    mark == MARK
}
