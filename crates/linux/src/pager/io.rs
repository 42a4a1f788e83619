//! Jobs that wait for a disk, and the threads that run them.

use super::STACK;
use super::profile::Handed;
use super::worker::Worker;
use crate::sys::clock::now_ns;
use crate::sys::futex::{self, Lock, Scope};
use crate::sys::sched::{self, Scheduling};
use crate::sys::urge::Lent;
use crate::sys::{Errno, thread};
use core::mem;
use core::sync::atomic::{AtomicU32, Ordering};
use quire_core::job::Work;
use std::collections::VecDeque;

/// Threads that wait for the disk: so many requests are under way at once.
const THREADS: u32 = 4;

#[derive(Debug)]
struct Request {
    work: Box<Work>,
    /// When the fault was read, in ns; 0 for a job that no fault waits for.
    read_at: u64,
    /// The thread that waits, by its id, if it is a real-time one; else 0.
    urgent: u32,
    /// What the fault has taken so far, if it is measured.
    spent: Option<Handed>,
}

#[derive(Debug)]
struct Pending {
    requests: VecDeque<Request>,
    /// Emptied ones, to be filled again. There is room for all: giving one back allocates nothing.
    #[expect(clippy::vec_box, reason = "a job changes hands by its pointer")]
    spare: Vec<Box<Work>>,
    /// How many have been made.
    made: usize,
}

impl Pending {
    fn empty_work(&mut self) -> Box<Work> {
        self.spare.pop().unwrap_or_else(|| {
            self.made += 1;
            // None is spare: the room is for as many as there are.
            self.spare.reserve(self.made);
            Box::default()
        })
    }
}

/// The jobs that wait for a thread.
#[derive(Debug)]
pub(super) struct Queue {
    pending: Lock<Pending>,
    /// Requests in there, for who must not wait for the lock.
    queued: AtomicU32,
    bell: AtomicU32,
    threads: AtomicU32,
    /// Those of the threads that have all they need.
    ready: AtomicU32,
}

impl Queue {
    pub(super) const fn new() -> Queue {
        let pending = Pending { requests: VecDeque::new(), spare: Vec::new(), made: 0 };
        Queue {
            pending: Lock::new(pending),
            queued: AtomicU32::new(0),
            bell: AtomicU32::new(0),
            threads: AtomicU32::new(0),
            ready: AtomicU32::new(0),
        }
    }

    /// Whether there are threads.
    pub(super) fn is_open(&self) -> bool {
        self.threads.load(Ordering::Acquire) > 0
    }

    /// Jobs that wait.
    pub(super) fn waiting(&self) -> u32 {
        self.queued.load(Ordering::Relaxed)
    }

    /// Starts the threads, and waits until they have all they need: they allocate nothing from then on, so they may
    /// run beside a fork. The caller's descriptor table becomes theirs.
    pub(super) fn open(&self) -> Result<(), Errno> {
        while self.threads.load(Ordering::Relaxed) < THREADS {
            let thread = thread::spawn("quire-io", STACK, run, 0)?;
            // Faults wait for it as for the handler, which still comes first. Said here, since it is waited for at once.
            let _ = Scheduling::lent().give(thread.tid());
            let threads = self.threads.fetch_add(1, Ordering::Release) + 1;
            while self.ready.load(Ordering::Acquire) < threads {
                futex::wait(&self.ready, threads - 1, None, Scope::Process);
            }
        }
        Ok(())
    }

    fn is_ready(&self) {
        self.ready.fetch_add(1, Ordering::Release);
        // Waking fails only for a bad address, and the word is ours.
        let _ = futex::wake(&self.ready, 1, Scope::Process);
    }

    /// Takes over the job in `work`, which is an empty one afterwards.
    pub(super) fn push(&self, work: &mut Box<Work>, read_at: u64, urgent: u32, spent: Option<Handed>) {
        let mut pending = self.pending.lock();
        let empty = pending.empty_work();
        let work = mem::replace(work, empty);
        pending.requests.push_back(Request { work, read_at, urgent, spent });
        self.queued.store(pending.requests.len() as u32, Ordering::Relaxed);
        drop(pending);
        self.bell.fetch_add(1, Ordering::Release);
        // Waking fails only for a bad address, and the word is ours.
        let _ = futex::wake(&self.bell, 1, Scope::Process);
    }

    fn pop(&self) -> Request {
        loop {
            let seen = self.bell.load(Ordering::Acquire);
            let mut pending = self.pending.lock();
            if let Some(request) = pending.requests.pop_front() {
                self.queued.store(pending.requests.len() as u32, Ordering::Relaxed);
                return request;
            }
            drop(pending);
            futex::wait(&self.bell, seen, None, Scope::Process);
        }
    }

    fn give_back(&self, work: Box<Work>) {
        self.pending.lock().spare.push(work);
    }

    /// In a forked child the thread that held the lock, if any, is no more.
    pub(super) fn forget_holder(&self) {
        futex::forget_holder(&self.pending);
    }

    /// In a forked child there are no such threads and nothing to wait for.
    pub(super) fn forget(&self) {
        self.threads.store(0, Ordering::Release);
        self.ready.store(0, Ordering::Release);
    }
}

fn run(_: usize) {
    let Some(pager) = super::pager() else { return };
    if !sched::is_real_time(0) {
        sched::raise_priority();
    }
    let mut worker = Worker::new(pager);
    pager.io.is_ready();
    loop {
        let mut request = pager.io.pop();
        worker.asked_at = request.read_at;
        worker.stopwatch.take_up(request.spent);
        let turn = if request.urgent != 0 { Lent::for_the_wake(request.urgent) } else { None };
        worker.run(pager, &mut request.work);
        drop(turn);
        if let Some(account) = pager.account().filter(|_| request.read_at != 0) {
            let now = now_ns();
            account.counters.count_fault(now - request.read_at);
            account.counters.count_spent(worker.stopwatch.end(now));
        }
        pager.io.give_back(request.work);
    }
}
