//! The thread of the program that runs where the handler does, and those that may not be made to.
//!
//! A guest is kept on one processor from fault to fault. The program must not notice: it is answered with what it has set
//! itself, and so are threads and children that a guest makes. So a thread that is about to be asked, or to hand on what it
//! may run on, is *excused*: it has its own set of processors back before the call, and is no guest until the call is over.
//!
//! The lock is held for two or three system calls. The handler only ever tries it: whoever else has it may fault.

use super::Pager;
use crate::sys::futex::{self, Lock};
use crate::sys::sched::{CpuSet, SignalsBlocked, affinity, set_affinity};
use core::sync::atomic::{AtomicU32, Ordering};
use rustix::thread::Pid;

/// A thread of the program on the handler's processor.
#[derive(Debug)]
struct Guest {
    tid: u32,
    /// What the program lets it run on, and what it may run on now.
    own: CpuSet,
    here: CpuSet,
}

impl Guest {
    /// Brings thread `tid` to a processor, if it is one of its own.
    fn bring(tid: u32, processor: usize) -> Option<Guest> {
        let thread = Pid::from_raw(tid as i32)?;
        let own = affinity(Some(thread)).ok().filter(|own| own.is_set(processor))?;
        let mut here = CpuSet::new();
        here.set(processor);
        (own == here || set_affinity(Some(thread), &here).is_ok()).then_some(Guest { tid, own, here })
    }

    /// It may run where it always could. If somebody has said otherwise meanwhile, that holds; so a stranger who got the
    /// id of a thread that has ended keeps what it has, unless that is just this processor.
    fn send_home(self) {
        let thread = Pid::from_raw(self.tid as i32);
        if self.own != self.here && affinity(thread).is_ok_and(|now| now == self.here) {
            // Refused only where the thread has ended.
            let _ = set_affinity(thread, &self.own);
        }
    }
}

/// How many counts of excused threads there are. Those that share one are only slower.
const COUNTS: usize = 64;

/// The guest, of which there is one at a time.
#[derive(Debug)]
pub(super) struct Guests {
    guest: Lock<Option<Guest>>,
    /// How often threads are excused at the moment, by the last digits of their ids. One that never comes back from its
    /// call, by `longjmp` or by being cancelled, leaves a count behind.
    excused: [AtomicU32; COUNTS],
}

impl Guests {
    pub(super) const fn new() -> Guests {
        Guests { guest: Lock::new(None), excused: [const { AtomicU32::new(0) }; COUNTS] }
    }

    /// On the handler's thread: from now on `tid` is the guest, on that processor, if it may be.
    pub(super) fn invite(&self, tid: u32, processor: usize) {
        let Some(mut guest) = self.guest.try_lock() else { return };
        if guest.as_ref().is_some_and(|guest| guest.tid == tid && guest.here.is_set(processor)) {
            return;
        }
        if let Some(other) = guest.take() {
            other.send_home();
        }
        if self.excuses(tid).load(Ordering::Relaxed) == 0 {
            *guest = Guest::bring(tid, processor);
        }
    }

    /// On the handler's thread: the guest goes, unless a thread that excuses itself has the lock; then it may stay until
    /// the next time.
    pub(super) fn dismiss(&self) {
        // The lock is held until it is home.
        let mut guest = self.guest.try_lock();
        if let Some(guest) = guest.as_mut().and_then(|guest| guest.take()) {
            guest.send_home();
        }
    }

    /// Whether there is one, for all that is known.
    pub(super) fn is_there(&self) -> bool {
        self.guest.try_lock().is_none_or(|guest| guest.is_some())
    }

    fn excuses(&self, tid: u32) -> &AtomicU32 {
        &self.excused[tid as usize % COUNTS]
    }

    /// Thread `tid` is no guest, and none is made of it before as many calls of [`Guests::admit`].
    pub(super) fn excuse(&self, tid: u32) {
        // A handler that takes the lock after us sees it; of one that took it before, we see the guest.
        self.excuses(tid).fetch_add(1, Ordering::Relaxed);
        // A handler of signals could be here again, and wait for the lock.
        let _blocked = SignalsBlocked::new();
        let mut guest = self.guest.lock();
        if let Some(guest) = guest.take_if(|guest| guest.tid == tid) {
            guest.send_home();
        }
    }

    pub(super) fn admit(&self, tid: u32) {
        self.excuses(tid).fetch_sub(1, Ordering::Relaxed);
    }

    /// In a forked child, which has one thread, with its own set of processors.
    fn forget(&self) {
        futex::forget_holder(&self.guest);
        *self.guest.lock() = None;
        self.excused.iter().for_each(|count| count.store(0, Ordering::Relaxed));
    }
}

/// Those of this process.
pub(super) static GUESTS: Guests = Guests::new();

/// In a forked child nobody is a guest, and nobody excused.
pub(super) fn forget() {
    GUESTS.forget();
}

/// Says for its lifetime that a thread runs on what the program has set, so that it may be asked for that, or hand it on.
#[derive(Debug)]
#[must_use]
pub struct Excused {
    tid: u32,
}

/// Excuses thread `tid`, which need not exist, from running where the handler does.
pub fn excuse(tid: u32) -> Excused {
    // Not from a vfork child: it may end anywhere, and what it holds of its parent's memory would be held for ever.
    if super::pager().is_some_and(Pager::is_here) {
        GUESTS.excuse(tid);
    }
    Excused { tid }
}

impl Excused {
    /// It goes on beyond the guard's life, until [`Excused::end`].
    pub fn keep(self) {
        core::mem::forget(self);
    }

    /// Ends what was kept for thread `tid`. A forked child need not.
    pub fn end(tid: u32) {
        drop(Excused { tid });
    }
}

impl Drop for Excused {
    fn drop(&mut self) {
        if super::pager().is_some_and(Pager::is_here) {
            GUESTS.admit(self.tid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::sched::gettid;
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    #[test]
    fn who_is_excused_runs_on_its_own_processors_at_any_moment() {
        let all = affinity(None).unwrap();
        let processors: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| all.is_set(cpu)).collect();
        if processors.len() < 2 {
            return;
        }
        let guests: &Guests = Box::leak(Box::new(Guests::new()));
        let (tell, told) = mpsc::channel();
        std::thread::scope(|scope| {
            let asks = scope.spawn(move || {
                let (me, mut kept, begun) = (gettid(), 0, Instant::now());
                tell.send(me).unwrap();
                while kept < 200 && begun.elapsed() < Duration::from_secs(2) {
                    kept += u32::from(affinity(None).unwrap() != all);
                    guests.excuse(me);
                    for _ in 0..3 {
                        assert_eq!(affinity(None).unwrap(), all);
                    }
                    guests.admit(me);
                }
            });
            let tid = told.recv().unwrap();
            for (round, processor) in processors.into_iter().cycle().enumerate() {
                guests.invite(tid, processor);
                if asks.is_finished() {
                    break;
                }
                if round % 3 == 0 {
                    guests.dismiss();
                }
                // Who waits for the lock gets it.
                (0..round % 1000).for_each(|_| core::hint::spin_loop());
            }
            asks.join().unwrap();
        });
    }

    #[test]
    fn a_forked_child_has_no_guest() {
        let guests = Guests::new();
        guests.excuse(7);
        core::mem::forget(guests.guest.lock());
        guests.forget();
        assert!(!guests.is_there());
        assert_eq!(guests.excuses(7).load(Ordering::Relaxed), 0);
    }
}
