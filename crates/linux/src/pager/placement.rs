//! Where the handler runs: on the processor of the threads whose faults it answers.
//!
//! Waking a thread on another processor takes several times as long as answering its fault does. So, while faults come
//! thick and fast, the handler stays on the processor that they come from, and who faults goes on there: since the
//! scheduler would rather wake a thread on an idle processor, it may run only on the handler's one. One that faults alone is
//! kept there from fault to fault, as a *guest* ([`super::guest`]): to choose processors takes as long as half an answer.
//! Where several fault they would wait for each other there; each has its own set of processors back before it runs. When
//! faults are rare the scheduler places everybody.

use super::guest::Guests;
use crate::sys::sched::{CpuSet, affinity, set_affinity};
use crate::sys::tally::{self, Call};
use crate::sys::urge::Lent;
use crate::sys::{Result, sched};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};

/// Faults between two looks: a look costs about as much as an answer.
const FAULTS: u32 = 64;
/// Faults are dense while they take less than this each, in ns, from one to the next.
const DENSE_NS: u64 = 150_000;
/// Looks between two at which the scheduler wakes a guest where it likes, and we follow: threads of several processes
/// could be kept on one processor for ever, with another idle.
const LOOKS: u32 = 64;

#[derive(Debug)]
pub(super) struct Placement {
    guests: &'static Guests,
    faults: u32,
    looks: u32,
    /// The guest is about to be woken where the scheduler likes.
    strays: bool,
    window_began: u64,
    /// The thread that the last fault came from, and how many in a row did.
    last: u32,
    in_a_row: u32,
    /// The thread of this process that was last looked at.
    stat_of: Option<(u32, OwnedFd)>,
    /// What the handler itself may run on.
    all: Option<CpuSet>,
    /// The processor that handler and threads share, while faults are dense.
    here: Option<usize>,
    /// The thread that was last asked about, and whether it is a real-time one.
    asked: (u32, bool),
    /// What keeps such a thread's turn.
    turn: Option<Lent>,
}

impl Placement {
    pub(super) fn new(guests: &'static Guests) -> Placement {
        Placement {
            guests,
            faults: 0,
            looks: 0,
            strays: false,
            window_began: 0,
            last: 0,
            in_a_row: 0,
            stat_of: None,
            all: None,
            here: None,
            asked: (0, false),
            turn: None,
        }
    }

    /// Notes a fault of thread `tid` at time `now`, in ns, before it is answered. While it is answered the thread
    /// waits.
    pub(super) fn before(&mut self, tid: u32, now: u64) {
        self.in_a_row = if tid == self.last { self.in_a_row.saturating_add(1) } else { 0 };
        self.last = tid;
        self.faults += 1;
        let looks = self.faults == FAULTS;
        if looks {
            let dense = now.saturating_sub(self.window_began) < DENSE_NS * u64::from(FAULTS);
            (self.faults, self.window_began) = (0, now);
            if dense { self.come_to(tid) } else { self.leave() }
        }
        if self.asked.0 != tid || looks {
            self.asked = (tid, sched::is_real_time(tid));
        }
        self.looks = self.looks.wrapping_add(u32::from(looks));
        self.strays = looks && self.looks.is_multiple_of(LOOKS) && self.keeps();
        if self.strays {
            // The next fault tells where it was woken.
            self.faults = FAULTS - 1;
        }
        self.invite(tid);
    }

    /// Whether the fault that is being answered is a real-time thread's.
    pub(super) fn is_urgent(&self) -> bool {
        self.asked.1
    }

    /// Thread `tid` is about to be woken: while faults are dense, on the handler's processor. A real-time thread that waits
    /// would give way to others that are as urgent, which natively it does not.
    pub(super) fn invite(&mut self, tid: u32) {
        self.turn = if self.asked.1 { Lent::for_the_wake(tid) } else { None };
        match self.here {
            Some(_) if self.strays => self.guests.dismiss(),
            Some(here) => self.guests.invite(tid, here),
            None => {}
        }
    }

    /// The fault has been answered: unless it is the guest's, the thread may run where it always could.
    pub(super) fn after(&mut self) {
        self.turn = None;
        if !self.keeps() {
            self.guests.dismiss();
        }
    }

    /// Nobody has faulted for a while: nobody is kept.
    pub(super) fn rest(&mut self) {
        self.guests.dismiss();
    }

    /// Whether a thread may be on the handler's processor though its fault has been answered.
    pub(super) fn has_guest(&self) -> bool {
        self.guests.is_there()
    }

    /// Whether the thread of the last fault is kept from now on. Only one of this process's, which a vfork child is not:
    /// it would take what it is kept on to another program.
    fn keeps(&self) -> bool {
        let ours = self.stat_of.as_ref().is_some_and(|(thread, _)| *thread == self.last);
        self.here.is_some() && self.is_alone() && ours && !self.is_urgent()
    }

    /// Whether all faults have come from one thread lately.
    pub(super) fn is_alone(&self) -> bool {
        self.in_a_row >= FAULTS
    }

    /// Whether faults are dense, and come from threads that are kept on the handler's processor.
    pub(super) fn is_shared(&self) -> bool {
        self.here.is_some()
    }

    /// Goes to where the thread is.
    fn come_to(&mut self, tid: u32) {
        let all = *self.all.get_or_insert_with(|| affinity(None).unwrap_or_else(|_| CpuSet::new()));
        let Some(cpu) = self.processor_of(tid).filter(|&cpu| cpu < CpuSet::MAX_CPU && all.is_set(cpu)) else {
            return;
        };
        let mut here = CpuSet::new();
        here.set(cpu);
        if self.here != Some(cpu) && all.count() > 1 && set_affinity(None, &here).is_ok() {
            self.here = Some(cpu);
        }
    }

    /// The scheduler may place everybody again.
    fn leave(&mut self) {
        self.guests.dismiss();
        if self.here.take().is_some()
            && let Some(all) = &self.all
        {
            // It was allowed before.
            let _ = set_affinity(None, all);
        }
    }

    /// The processor that a thread ran on last: field 39 of its `stat`.
    fn processor_of(&mut self, tid: u32) -> Option<usize> {
        if self.stat_of.as_ref().is_none_or(|(thread, _)| *thread != tid) {
            self.stat_of = Some((tid, open_stat(tid).ok()?));
        }
        let (_, file) = self.stat_of.as_ref()?;
        let mut text = [0; 512];
        tally::count(Call::Pread);
        let len = rustix::io::pread(file, &mut text, 0).ok()?;
        // The name in parentheses may hold anything, spaces too; the third field stands behind it.
        let fields = text[..len].rsplit(|&byte| byte == b')').next()?;
        let processor = fields.split(|&byte| byte == b' ').filter(|field| !field.is_empty()).nth(39 - 3)?;
        core::str::from_utf8(processor).ok()?.parse().ok()
    }
}

fn open_stat(tid: u32) -> Result<OwnedFd> {
    use core::fmt::Write;
    let mut path = crate::sys::msg::Line::new();
    // Writing into a `Line` never fails, and it has room for this.
    let _ = write!(path, "/proc/self/task/{tid}/stat");
    tally::count(Call::Open);
    rustix::fs::open(path.as_bytes(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::sched::Scheduling;
    use rustix::thread::Pid;
    use std::sync::mpsc;

    /// A handler that is told of faults.
    struct Told {
        placement: Placement,
        now: u64,
    }

    impl Told {
        fn new() -> Told {
            Told { placement: Placement::new(Box::leak(Box::new(Guests::new()))), now: 0 }
        }

        /// A fault of thread `tid`, so many ns after the last one. What it may run on when it is woken.
        fn fault(&mut self, tid: u32, after: u64) -> CpuSet {
            self.now += after;
            self.placement.before(tid, self.now);
            let there = of(tid);
            self.placement.after();
            there
        }

        /// So many that a thread which faults alone is a guest.
        fn faults(&mut self, tid: u32) {
            for _ in 0..2 * FAULTS {
                self.fault(tid, 1000);
            }
        }
    }

    fn of(tid: u32) -> CpuSet {
        affinity(Pid::from_raw(tid as i32)).unwrap()
    }

    fn only(processor: usize) -> CpuSet {
        let mut set = CpuSet::new();
        set.set(processor);
        set
    }

    /// Runs `handler` on a thread of its own, with two threads that wait until it is done. Not where there is one
    /// processor alone, and nothing to choose.
    fn beside_two(handler: impl FnOnce([u32; 2]) + Send) {
        if affinity(None).unwrap().count() < 2 {
            return;
        }
        let (tell, told) = mpsc::channel();
        let going: [_; 2] = std::array::from_fn(|_| mpsc::channel::<()>());
        std::thread::scope(|scope| {
            let going = going.map(|(go, gone)| {
                let tell = tell.clone();
                scope.spawn(move || {
                    tell.send(sched::gettid()).unwrap();
                    let _ = gone.recv();
                });
                go
            });
            scope.spawn(move || {
                handler(std::array::from_fn(|_| told.recv().unwrap()));
                drop(going);
            });
        });
    }

    #[test]
    fn who_faults_alone_is_kept_from_fault_to_fault_while_faults_are_dense() {
        beside_two(|[tid, other]| {
            let (all, mut told) = (of(tid), Told::new());
            for _ in 0..FAULTS {
                assert!(
                    !told.placement.is_shared() && !told.placement.is_alone() && !told.placement.has_guest()
                );
                told.fault(tid, DENSE_NS - 1);
                assert_eq!(of(tid), all);
            }
            assert!(told.placement.is_shared());
            let there = told.fault(tid, 1);
            assert!(told.placement.is_alone() && !told.placement.is_urgent() && told.placement.has_guest());
            assert_eq!((there, of(tid)), (affinity(None).unwrap(), there));
            assert_eq!(there.count(), 1);
            // At this pace they are no longer dense; when that shows, the scheduler has its say again.
            for _ in 0..2 * FAULTS {
                told.fault(tid, DENSE_NS + 1);
            }
            assert!(!told.placement.is_shared() && !told.placement.has_guest());
            assert_eq!((of(tid), affinity(None).unwrap()), (all, all));
            told.fault(other, 1);
            assert!(!told.placement.is_alone());
        });
    }

    #[test]
    fn where_several_fault_each_has_its_own_processors_when_it_runs() {
        beside_two(|[one, other]| {
            let (all, mut told) = (of(one), Told::new());
            told.faults(one);
            assert_eq!(of(one).count(), 1);
            for round in 0..4 * FAULTS {
                let there = told.fault(if round % 2 == 0 { other } else { one }, 1000);
                assert_eq!(
                    (there, of(one), of(other)),
                    (affinity(None).unwrap(), all, all),
                    "in round {round}"
                );
            }
            assert!(told.placement.is_shared() && !told.placement.has_guest());
            told.faults(other);
            assert_eq!((of(one), of(other).count()), (all, 1));
        });
    }

    #[test]
    fn a_guest_that_does_not_fault_for_a_while_goes() {
        beside_two(|[tid, _]| {
            let (all, mut told) = (of(tid), Told::new());
            told.faults(tid);
            assert!(told.placement.has_guest() && of(tid) != all);
            told.placement.rest();
            assert!(!told.placement.has_guest() && of(tid) == all);
            told.fault(tid, 1000);
            assert_eq!(of(tid).count(), 1);
        });
    }

    #[test]
    fn who_is_excused_is_no_guest() {
        beside_two(|[tid, other]| {
            let (all, mut told) = (of(tid), Told::new());
            let guests = told.placement.guests;
            guests.excuse(tid);
            told.faults(tid);
            assert_eq!((told.fault(tid, 1000), of(tid)), (all, all));
            guests.admit(tid);
            told.fault(tid, 1000);
            assert_eq!(of(tid).count(), 1);
            guests.excuse(other);
            assert_eq!(of(tid).count(), 1, "another thread is excused");
            guests.admit(other);
            // Twice, as in a handler of signals.
            guests.excuse(tid);
            assert_eq!(of(tid), all);
            guests.excuse(tid);
            guests.admit(tid);
            assert_eq!((told.fault(tid, 1000), of(tid)), (all, all));
            guests.admit(tid);
            told.fault(tid, 1000);
            assert_eq!(of(tid).count(), 1);
        });
    }

    #[test]
    fn what_somebody_else_has_said_meanwhile_holds() {
        beside_two(|[tid, _]| {
            let (all, mut told) = (of(tid), Told::new());
            told.faults(tid);
            let there = of(tid);
            let other = (0..CpuSet::MAX_CPU).find(|&cpu| all.is_set(cpu) && !there.is_set(cpu)).unwrap();
            set_affinity(Pid::from_raw(tid as i32), &only(other)).unwrap();
            told.placement.rest();
            assert_eq!(of(tid), only(other));
            // It waits, and was last where it is no more allowed to be: no reason to bring it there.
            assert!(told.placement.is_shared());
            assert_eq!((told.fault(tid, 1000), of(tid)), (only(other), only(other)));
        });
    }

    #[test]
    fn the_scheduler_has_its_say_now_and_then() {
        beside_two(|[tid, _]| {
            let (all, mut told) = (of(tid), Told::new());
            told.faults(tid);
            let strays: Vec<u32> =
                (0..2 * LOOKS * FAULTS).filter(|_| told.fault(tid, 1000) == all && of(tid) == all).collect();
            assert_eq!(strays.len(), 2, "{strays:?}");
            assert_eq!(strays[1] - strays[0], (LOOKS - 1) * FAULTS + 1);
        });
    }

    #[test]
    fn a_thread_of_another_process_is_not_kept() {
        beside_two(|[tid, _]| {
            // Made before this thread, too, stays on one processor.
            let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
            let (own, mut told) = (of(child.id()), Told::new());
            assert!(own.count() > 1);
            told.faults(tid);
            for _ in 0..4 * FAULTS {
                assert_eq!(told.fault(child.id(), 1000).count(), 1);
                assert_eq!(of(child.id()), own);
            }
            child.kill().unwrap();
            child.wait().unwrap();
        });
    }

    #[test]
    fn a_real_time_thread_is_not_kept() {
        beside_two(|[tid, _]| {
            if !(Scheduling { policy: libc::SCHED_FIFO as u32, priority: 1 }).give(tid) {
                return;
            }
            let (all, mut told) = (of(tid), Told::new());
            for _ in 0..4 * FAULTS {
                told.fault(tid, 1000);
                assert_eq!(of(tid), all);
            }
            assert!(told.placement.is_urgent() && told.placement.is_shared());
        });
    }

    #[test]
    fn a_handler_gets_its_own_processors_back() {
        std::thread::spawn(|| {
            let tid = sched::gettid();
            let (before, mut told) = (affinity(None).unwrap(), Told::new());
            assert!(told.placement.processor_of(tid).is_some_and(|cpu| before.is_set(cpu)));
            assert_eq!(told.placement.processor_of(u32::MAX / 2), None);
            // The handler is another thread; here it is the same one.
            told.faults(tid);
            for _ in 0..2 * FAULTS {
                told.fault(tid, 2 * DENSE_NS);
            }
            assert!(!told.placement.is_shared());
            assert_eq!(affinity(None).unwrap(), before);
        })
        .join()
        .unwrap();
    }
}
