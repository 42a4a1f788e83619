//! Where the handler runs: on the processor of the thread whose faults it answers.
//!
//! Waking a thread on another processor takes several times as long as answering its fault does. So, while one thread
//! alone is faulting, the handler goes to that thread's processor, and the thread goes on there: since the scheduler
//! would rather wake it on an idle processor, it may run only on the handler's one at the moment of the wake. Before
//! it runs it has its own set of processors back. With several threads faulting the scheduler places everybody.

use crate::sys::Result;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

/// Faults between two looks: a look costs about as much as an answer.
const FAULTS: u32 = 64;

/// The thread that faults alone, and what it may run on.
#[derive(Debug)]
struct Alone {
    tid: Pid,
    own: CpuSet,
    here: CpuSet,
}

#[derive(Debug, Default)]
pub(super) struct Placement {
    faults: u32,
    last_tid: u32,
    watched: Option<(u32, OwnedFd)>,
    alone: Option<Alone>,
    /// What the handler itself may run on.
    all: Option<CpuSet>,
}

impl Placement {
    /// Notes a fault of thread `tid` before it is answered. While it is answered the thread waits.
    pub(super) fn before(&mut self, tid: u32) {
        if tid != self.last_tid {
            self.last_tid = tid;
            self.faults = 0;
            self.leave();
        }
        self.faults += 1;
        if self.faults.is_multiple_of(FAULTS) {
            self.look(tid);
        }
        if let Some(alone) = &self.alone
            && sched_setaffinity(Some(alone.tid), &alone.here).is_err()
        {
            self.alone = None;
        }
    }

    /// The fault has been answered: the thread may run where it always could. If somebody has said otherwise
    /// meanwhile, that holds.
    pub(super) fn after(&mut self) {
        if let Some(Alone { tid, own, here }) = &self.alone
            && sched_getaffinity(Some(*tid)).is_ok_and(|now| now == *here)
        {
            // Refused only where the thread has ended.
            let _ = sched_setaffinity(Some(*tid), own);
        }
    }

    /// Goes to where the thread is.
    fn look(&mut self, tid: u32) {
        self.alone = None;
        let all = *self.all.get_or_insert_with(|| sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new()));
        let (Some(cpu), Some(tid)) = (self.processor_of(tid), Pid::from_raw(tid as i32)) else { return };
        let Ok(own) = sched_getaffinity(Some(tid)) else { return };
        if cpu >= CpuSet::MAX_CPU || !all.is_set(cpu) || own.count() < 2 {
            return;
        }
        let mut here = CpuSet::new();
        here.set(cpu);
        if sched_setaffinity(None, &here).is_ok() {
            self.alone = Some(Alone { tid, own, here });
        }
    }

    /// Another thread faults too: the handler may run anywhere again.
    fn leave(&mut self) {
        if self.alone.take().is_some()
            && let Some(all) = &self.all
        {
            // It was allowed before.
            let _ = sched_setaffinity(None, all);
        }
    }

    /// The processor that a thread ran on last: field 39 of its `stat`.
    fn processor_of(&mut self, tid: u32) -> Option<usize> {
        if self.watched.as_ref().is_none_or(|(watched, _)| *watched != tid) {
            self.watched = Some((tid, open_stat(tid).ok()?));
        }
        let (_, file) = self.watched.as_ref()?;
        let mut text = [0; 512];
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
    rustix::fs::open(path.as_bytes(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_keeps_its_processors() {
        std::thread::spawn(|| {
            let tid = crate::sys::sched::gettid();
            let before = sched_getaffinity(None).unwrap();
            let mut placement = Placement::default();
            assert!(placement.processor_of(tid).is_some_and(|cpu| before.is_set(cpu)));
            assert_eq!(placement.processor_of(u32::MAX / 2), None);
            // The handler is another thread; here it is the same one, and gets its own set back as well.
            for _ in 0..3 * FAULTS {
                placement.before(tid);
                placement.after();
            }
            placement.before(tid + 1);
            assert!(placement.alone.is_none());
            assert_eq!(sched_getaffinity(None).unwrap(), before);
        })
        .join()
        .unwrap();
    }
}
