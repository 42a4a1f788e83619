//! A real-time thread is not kept waiting by one of ours that the scheduler passes over.
//!
//! The handler of faults is as urgent as the system allows, so that it comes before all who wait for it. The service
//! thread is an ordinary one, as most of its work is nobody's hurry, and so are most threads of the program that hold a
//! lock of ours for a moment. Where real-time threads keep every processor busy these never run; so whoever is urgent
//! itself and has waited for a millisecond lends them its urgency. The service thread goes back by itself
//! ([`calm`]); others are given theirs back when the wait is over ([`Lent`]).

use super::sched::{self, Scheduling};
use core::sync::atomic::{AtomicU32, Ordering};

/// How long an urgent thread waits before it lends, in ns.
pub const LEND_AFTER_NS: u64 = 1_000_000;

/// The service thread, by its id; 0 before there is one.
static SERVICE: AtomicU32 = AtomicU32::new(0);
/// What it is when nobody urges it.
static OWN: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];
/// It has been urged since it was calm.
static URGED: AtomicU32 = AtomicU32::new(0);
/// The thread of the program that holds the engine's lock, by its id; 0 if none does.
static HOLDER: AtomicU32 = AtomicU32::new(0);

/// Thread `tid`, just made, is the one to urge from now on.
pub fn serves(tid: u32) {
    let own = Scheduling::of(tid).unwrap_or_default();
    OWN[0].store(own.policy, Ordering::Relaxed);
    OWN[1].store(own.priority, Ordering::Relaxed);
    SERVICE.store(tid, Ordering::Release);
}

/// In a forked child there is none of these threads yet.
pub fn forget() {
    URGED.store(0, Ordering::Relaxed);
    HOLDER.store(0, Ordering::Relaxed);
    SERVICE.store(0, Ordering::Relaxed);
}

/// The service thread is as urgent as what is lent, until it calms down.
pub fn urge_service() {
    let tid = SERVICE.load(Ordering::Acquire);
    if tid != 0 {
        URGED.store(1, Ordering::SeqCst);
        let _ = Scheduling::lent().give(tid);
    }
}

/// Whether the service thread has been urged, and is not calm yet.
pub fn is_urged() -> bool {
    URGED.load(Ordering::Relaxed) != 0
}

/// On the service thread: nobody waits for it who had urged it.
pub fn calm() {
    if is_urged() {
        URGED.store(0, Ordering::SeqCst);
        let [policy, priority] = &OWN;
        let own =
            Scheduling { policy: policy.load(Ordering::Relaxed), priority: priority.load(Ordering::Relaxed) };
        let _ = own.give(0);
    }
}

/// Says for its lifetime that the calling thread of the program, by its id, holds the engine's lock.
#[derive(Debug)]
pub struct Holding(());

impl Holding {
    /// From now on, until it is dropped.
    pub fn by(tid: u32) -> Holding {
        HOLDER.store(tid, Ordering::Relaxed);
        Holding(())
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        HOLDER.store(0, Ordering::Relaxed);
    }
}

/// Urgency lent to a thread; it has its own back when this is dropped.
#[derive(Debug)]
pub struct Lent {
    tid: u32,
    own: Scheduling,
}

impl Lent {
    /// Lends to thread `tid`, if that is less urgent than what is lent and the system allows it.
    pub fn to(tid: u32) -> Option<Lent> {
        let own = Scheduling::of(tid)?;
        let lent = Scheduling::lent();
        (!own.outranks(lent) && lent.give(tid)).then_some(Lent { tid, own })
    }

    /// Lends to a real-time thread that waits and is about to be woken. When it is given its own back, it stands before all
    /// that are as urgent: a wait that it would not have without us does not cost it its turn.
    pub fn for_the_wake(tid: u32) -> Option<Lent> {
        sched::is_real_time(tid).then(|| Lent::to(tid)).flatten()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // If somebody has said otherwise meanwhile, that holds.
        if Scheduling::of(self.tid) == Some(Scheduling::lent()) {
            let _ = self.own.give(self.tid);
        }
    }
}

/// The calling thread, if it is a real-time one, is as urgent as what is lent: a thread of ours that is as urgent as the
/// one which made it, and waits for it.
pub fn hurry() -> Option<Lent> {
    Scheduling::of(0).filter(|own| own.is_real_time()).and_then(|_| Lent::to(sched::gettid()))
}

/// The calling thread has waited for [`LEND_AFTER_NS`]. If it is urgent, those that it may wait for are urgent too.
pub fn waits_for_long() -> Option<Lent> {
    if !Scheduling::of(0)?.is_real_time() {
        return None;
    }
    urge_service();
    match HOLDER.load(Ordering::Relaxed) {
        0 => None,
        tid => Lent::to(tid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lent_is_given_back() {
        std::thread::spawn(|| {
            let own = Scheduling::of(0).unwrap();
            let Some(lent) = Lent::to(sched::gettid()) else {
                assert!(!sched::can_fifo());
                return;
            };
            assert!(Scheduling::of(0).unwrap().is_real_time());
            assert!(Lent::to(sched::gettid()).is_none(), "lent twice");
            drop(lent);
            assert_eq!(Scheduling::of(0), Some(own));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn who_says_otherwise_meanwhile_is_heeded() {
        std::thread::spawn(|| {
            let Some(lent) = Lent::to(sched::gettid()) else { return };
            let other = Scheduling { policy: libc::SCHED_RR as u32, priority: 3 };
            assert!(other.give(0));
            drop(lent);
            assert_eq!(Scheduling::of(0), Some(other));
        })
        .join()
        .unwrap();
    }
}
