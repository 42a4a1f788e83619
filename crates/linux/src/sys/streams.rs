//! Standard streams that were closed when `quire` was started.
//!
//! Rust's runtime opens `/dev/null` in their place before `main`; the program is to find them as they were. So they are
//! looked at earlier, among the initialisers.

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// A bit for each of the three that was closed.
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// Looks which are closed. Called before the runtime, by what [`look_at_streams`](crate::look_at_streams) puts there.
pub extern "C" fn look() {
    for fd in 0..3 {
        // SAFETY: the call takes numbers only.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
            CLOSED.fetch_or(1 << fd, Relaxed);
        }
    }
}

/// In a child, between fork and exec: closes those that were closed.
pub(super) fn close_again() {
    for fd in 0..3 {
        if CLOSED.load(Relaxed) & 1 << fd != 0 {
            // SAFETY: the child's own descriptor, of which nobody else knows in the short rest of its life.
            unsafe { libc::close(fd) };
        }
    }
}

/// Puts a look at the standard streams before the runtime of the binary in which it stands.
#[macro_export]
macro_rules! look_at_streams {
    () => {
        #[used]
        #[unsafe(link_section = ".init_array")]
        static LOOK_AT_STREAMS: extern "C" fn() = $crate::sys::streams::look;
    };
}
