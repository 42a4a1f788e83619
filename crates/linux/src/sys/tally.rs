//! System calls of the pager's threads, counted by name where that is asked for.
//!
//! The wrappers in this crate say what they are about to ask of the kernel ([`count`]). Where nobody counts, that is one
//! load and a branch. Threads of the program come through the same wrappers, and are not counted.

use super::leaked::Leaked;
use super::own::is_own_thread;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Writes the enumeration and the names from one list.
macro_rules! calls {
    ($($(#[$doc:meta])+ $call:ident = $name:literal,)+) => {
        /// What is counted.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Call {
            $($(#[$doc])+ $call,)+
        }

        impl Call {
            /// All of them, in the order of their counters.
            pub const ALL: &'static [Call] = &[$(Call::$call,)+];

            /// The name in reports.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Call::$call => $name,)+
                }
            }
        }
    };
}

calls! {
    /// `UFFDIO_MOVE`.
    Move = "ioctl_move",
    /// `UFFDIO_COPY`.
    Copy = "ioctl_copy",
    /// `UFFDIO_ZEROPAGE`.
    ZeroPage = "ioctl_zeropage",
    /// `UFFDIO_WAKE`.
    Wake = "ioctl_wake",
    /// Another request to a userfaultfd: registration, features.
    Ioctl = "ioctl_other",
    /// Waiting for messages.
    Poll = "poll",
    /// Reading messages.
    Read = "read",
    /// Reading a spill file, page tables, or where a thread runs.
    Pread = "pread",
    /// Writing a spill file.
    Pwrite = "pwrite",
    /// Opening what tells where a thread runs.
    Open = "open",
    /// Memory for frames, and memory given back.
    Madvise = "madvise",
    /// Memory of many frames given back at once.
    ProcessMadvise = "process_madvise",
    /// Rights of pages.
    Mprotect = "mprotect",
    /// How much of Quire's own memory is touched.
    Mincore = "mincore",
    /// Sleeping on a word.
    FutexWait = "futex_wait",
    /// Waking who sleeps on one.
    FutexWake = "futex_wake",
    /// Choosing processors.
    SetAffinity = "sched_setaffinity",
    /// Asking for them.
    GetAffinity = "sched_getaffinity",
    /// Lending urgency.
    SetScheduler = "sched_setscheduler",
    /// Asking whether a thread is a real-time one.
    GetScheduler = "sched_getscheduler",
    /// Letting others run.
    Yield = "sched_yield",
    /// Reading a clock; not those readings that a profile itself takes.
    Clock = "clock_gettime",
    /// Telling `quire`.
    Send = "sendmsg",
    /// Hearing from it.
    Receive = "recvmsg",
}

/// A counter for each.
pub type Counts = [AtomicU64; Call::ALL.len()];

/// Where the calls of this process are counted.
static COUNTS: Leaked<Counts> = Leaked::empty();

/// From now on calls are counted there; `None`: nowhere.
pub fn count_in(counts: Option<&'static Counts>) {
    match counts {
        Some(counts) => COUNTS.set(counts),
        None => COUNTS.clear(),
    }
}

/// Counts a call of a pager's thread, just before it is made.
#[inline]
pub fn count(call: Call) {
    if let Some(counts) = COUNTS.get()
        && is_own_thread()
    {
        counts[call as usize].fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::thread;

    #[test]
    fn only_calls_of_our_own_threads_are_counted_and_only_where_that_is_asked_for() {
        static HERE: Counts = [const { AtomicU64::new(0) }; Call::ALL.len()];
        // A call that no other test's thread makes.
        let counted = || HERE[Call::Open as usize].load(Relaxed);
        let from_ours = || {
            thread::spawn("quire-test", 0, |times| (0..times).for_each(|_| count(Call::Open)), 3)
                .unwrap()
                .join(5_000_000_000)
                .unwrap();
        };
        from_ours();
        count_in(Some(&HERE));
        count(Call::Open);
        assert_eq!(counted(), 0, "of a thread that is not ours");
        from_ours();
        assert_eq!(counted(), 3);
        count_in(None);
        from_ours();
        assert_eq!(counted(), 3, "after the end");
    }

    #[test]
    fn each_has_a_counter_and_a_name_of_its_own() {
        for (at, call) in Call::ALL.iter().enumerate() {
            assert_eq!(*call as usize, at);
            assert_eq!(Call::ALL.iter().filter(|other| other.name() == call.name()).count(), 1, "{call:?}");
        }
    }
}
