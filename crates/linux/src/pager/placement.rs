//! Where the handler runs: on the processor of the threads whose faults it answers.
//!
//! Waking a thread on another processor takes several times as long as answering its fault does. So, while faults come
//! thick and fast, the handler stays on the processor that they come from, and who faults goes on there: since the
//! scheduler would rather wake a thread on an idle processor, it may run only on the handler's one at the moment of the
//! wake. Before it runs it has its own set of processors back. When faults are rare the scheduler places everybody.

use crate::sys::sched::{CpuSet, affinity, set_affinity};
use crate::sys::tally::{self, Call};
use crate::sys::urge::Lent;
use crate::sys::{Result, sched};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::thread::Pid;

/// Faults between two looks: a look costs about as much as an answer.
const FAULTS: u32 = 64;
/// Faults are dense while they take less than this each, in ns, from one to the next.
const DENSE_NS: u64 = 150_000;

/// The thread whose fault is being answered, and what it may run on.
#[derive(Debug)]
struct Guest {
    tid: Pid,
    own: CpuSet,
}

#[derive(Debug, Default)]
pub(super) struct Placement {
    faults: u32,
    window_began: u64,
    /// The thread that the last fault came from, and how many in a row did.
    last: u32,
    in_a_row: u32,
    watched: Option<(u32, OwnedFd)>,
    /// What the handler itself may run on.
    all: Option<CpuSet>,
    /// The processor that handler and threads share, while faults are dense.
    here: Option<CpuSet>,
    guest: Option<Guest>,
    /// The thread that was last asked about, and whether it is a real-time one.
    asked: (u32, bool),
    /// What keeps such a thread's turn.
    turn: Option<Lent>,
}

impl Placement {
    /// Notes a fault of thread `tid` at time `now`, in ns, before it is answered. While it is answered the thread
    /// waits.
    pub(super) fn before(&mut self, tid: u32, now: u64) {
        self.in_a_row = if tid == self.last { self.in_a_row.saturating_add(1) } else { 0 };
        self.last = tid;
        self.faults += 1;
        if self.faults == FAULTS {
            let dense = now.saturating_sub(self.window_began) < DENSE_NS * u64::from(FAULTS);
            (self.faults, self.window_began) = (0, now);
            if dense { self.come_to(tid) } else { self.leave() }
        }
        if self.asked.0 != tid || self.faults == 0 {
            self.asked = (tid, sched::is_real_time(tid));
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
        self.guest = None;
        let (Some(here), Some(tid)) = (&self.here, Pid::from_raw(tid as i32)) else { return };
        let Ok(own) = affinity(Some(tid)) else { return };
        if own != *here && set_affinity(Some(tid), here).is_ok() {
            self.guest = Some(Guest { tid, own });
        }
    }

    /// The fault has been answered: the thread may run where it always could. If somebody has said otherwise
    /// meanwhile, that holds.
    pub(super) fn after(&mut self) {
        self.turn = None;
        if let (Some(Guest { tid, own }), Some(here)) = (self.guest.take(), &self.here)
            && affinity(Some(tid)).is_ok_and(|now| now == *here)
        {
            // Refused only where the thread has ended.
            let _ = set_affinity(Some(tid), &own);
        }
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
        if self.here != Some(here) && all.count() > 1 && set_affinity(None, &here).is_ok() {
            self.here = Some(here);
        }
    }

    /// The scheduler may place the handler again.
    fn leave(&mut self) {
        if self.here.take().is_some()
            && let Some(all) = &self.all
        {
            // It was allowed before.
            let _ = set_affinity(None, all);
        }
    }

    /// The processor that a thread ran on last: field 39 of its `stat`.
    fn processor_of(&mut self, tid: u32) -> Option<usize> {
        if self.watched.as_ref().is_none_or(|(watched, _)| *watched != tid) {
            self.watched = Some((tid, open_stat(tid).ok()?));
        }
        let (_, file) = self.watched.as_ref()?;
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
    use rustix::thread::sched_getaffinity;

    /// A thread that waits until it is let go.
    fn waiting(work: impl FnOnce(u32) + Send) {
        let ((tell, told), (go, gone)) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
        std::thread::scope(|scope| {
            scope.spawn(move || {
                tell.send(sched::gettid()).unwrap();
                let _ = gone.recv();
            });
            scope.spawn(move || {
                work(told.recv().unwrap());
                drop(go);
            });
        });
    }

    #[test]
    fn who_faults_thick_and_fast_is_woken_where_the_handler_is() {
        waiting(|tid| {
            let of = |tid| sched_getaffinity(Pid::from_raw(tid as i32)).unwrap();
            let (all, mut placement, mut now) = (of(tid), Placement::default(), 0);
            let mut fault = |placement: &mut Placement, each| {
                now += each;
                placement.before(tid, now);
                let there = of(tid);
                placement.after();
                assert_eq!(of(tid), all);
                there
            };
            for _ in 0..FAULTS {
                assert!(!placement.is_shared() && !placement.is_alone());
                fault(&mut placement, DENSE_NS - 1);
            }
            // One of the processors, both of them; with one alone there is nothing to choose.
            assert_eq!(placement.is_shared(), all.count() > 1);
            let there = fault(&mut placement, 1);
            assert!(placement.is_alone() && !placement.is_urgent());
            assert_eq!(there, sched_getaffinity(None).unwrap());
            assert_eq!(there.count(), 1);
            // At this pace they are no longer dense; when that shows, the scheduler has its say again.
            for _ in 0..2 * FAULTS {
                fault(&mut placement, DENSE_NS + 1);
            }
            assert!(!placement.is_shared());
            assert_eq!(sched_getaffinity(None).unwrap(), all);
            placement.before(tid + 1, now);
            assert!(!placement.is_alone());
        });
    }

    #[test]
    fn a_thread_keeps_its_processors() {
        std::thread::spawn(|| {
            let tid = sched::gettid();
            let before = sched_getaffinity(None).unwrap();
            let mut placement = Placement::default();
            assert!(placement.processor_of(tid).is_some_and(|cpu| before.is_set(cpu)));
            assert_eq!(placement.processor_of(u32::MAX / 2), None);
            // The handler is another thread; here it is the same one, and gets its own set back as well.
            let mut now = 0;
            for _ in 0..3 * FAULTS {
                now += 1000;
                placement.before(tid, now);
                placement.after();
            }
            for _ in 0..2 * FAULTS {
                now += 2 * DENSE_NS;
                placement.before(tid, now);
                placement.after();
            }
            assert!(placement.here.is_none());
            assert_eq!(sched_getaffinity(None).unwrap(), before);
        })
        .join()
        .unwrap();
    }
}
