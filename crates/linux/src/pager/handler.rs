//! The thread that answers faults.

use super::guest::GUESTS;
use super::placement::Placement;
use super::tables::Held;
use super::worker::{self, Worker};
use super::{Inject, OVERDRAFT, Pager, SPACE};
use crate::control::profile::Phase;
use crate::die;
use crate::fork_events;
use crate::sys::Cause;
use crate::sys::clock::now_ns;
use crate::sys::uffd::{Event, Uffd, UffdMsg};
use crate::sys::urge;
use crate::sys::{futex, sched};
use core::sync::atomic::Ordering;
use quire_core::addr::Vpn;
use quire_core::job::{JobKind, Work};
use quire_core::{Fault, Reclaim, Urgency};

/// One message, as far as it matters.
#[derive(Clone, Copy, Debug)]
struct Message {
    vpn: Vpn,
    write: bool,
    tid: u32,
    read_at: u64,
    /// When the handler woke that read it, where a profile is asked for.
    came_at: u64,
}

/// Messages put aside while a thread forks; more threads than that can't wait at once.
const MOST_ASIDE: usize = 4096;
/// Messages read at once. They may all be about one page, and all but the first are late then: fewer than the
/// engine takes for a bug.
const MESSAGES: usize = 8;
/// Pages moved out between two faults: some 100 microseconds.
const EVICTED_BETWEEN: u32 = 64;
/// Pages that a writer may still find while more are moved out.
const FEW: u32 = 8;
/// How long the handler sleeps without messages before it looks after the service thread, in ns.
const NAP_NS: u64 = 1_000_000_000;
/// The same while messages wait for a fork to be over.
const FORK_NAP_NS: u64 = 100_000;
/// The same while a thread is kept on the handler's processor, which it is not for longer without a fault. A tick of the
/// kernel's comes sooner, so that no timer has to be set for each fault.
const GUEST_NAP_NS: u64 = 5_000_000;

pub(super) struct Handler {
    pager: &'static Pager,
    worker: Worker,
    work: Box<Work>,
    /// For reclaim that a fault waits for.
    direct: Box<Work>,
    aside: Vec<Message>,
    placement: Placement,
    answered: u64,
    /// Room was short after the last fault.
    pressed: bool,
    said_over: bool,
}

impl Handler {
    /// Made before the program runs, and with all it needs: a program may fork at once.
    pub(super) fn new(pager: &'static Pager) -> Handler {
        Handler {
            pager,
            worker: Worker::new(pager),
            work: Box::new(Work::new()),
            direct: Box::new(Work::new()),
            aside: Vec::with_capacity(MOST_ASIDE),
            placement: Placement::new(&GUESTS),
            answered: 0,
            pressed: false,
            said_over: false,
        }
    }

    /// What the handler's thread does, for ever.
    pub(super) fn run(mut self) {
        sched::raise_priority();
        let Some(descriptors) = self.pager.descriptors.get() else { return };
        let mut messages = [UffdMsg::EMPTY; MESSAGES];
        loop {
            let timeout = match () {
                () if !self.aside.is_empty() => FORK_NAP_NS,
                () if self.placement.has_guest() => GUEST_NAP_NS,
                () => NAP_NS,
            };
            let (faults, gate) = match descriptors.uffd.wait_with(descriptors.gate.as_ref(), timeout) {
                Ok(came) => came,
                Err(errno) => die!("messages of page faults can't be read: {errno}", errno = Cause(errno)),
            };
            let came_at = self.pager.came_at();
            let (mut tables, count) =
                if faults { self.read(&descriptors.uffd, &mut messages) } else { (None, 0) };
            if let Some(waiting) = descriptors.gate.as_ref().filter(|_| gate) {
                tables = None;
                self.pager.let_through(waiting);
            }
            self.take(&messages[..count], came_at, tables);
            if count == 0 {
                self.rest();
            }
        }
    }

    /// Reads messages. Under the engine's lock: one may be of a fork, and until it is read what is present stays as it was. The
    /// first fault that was read is answered without letting it go, unless children are to be made whole before.
    fn read(&self, uffd: &Uffd, messages: &mut [UffdMsg]) -> (Option<Held<'static>>, usize) {
        let tables = uffd.tells_forks().then(|| self.pager.tables_first());
        let count = fork_events::read(uffd, messages);
        self.pager.fork_events.collect(&mut messages[..count]);
        (tables.filter(|_| self.pager.fork_events.waiting() == 0), count)
    }

    fn take(&mut self, messages: &[UffdMsg], came_at: u64, mut tables: Option<Held<'static>>) {
        for message in messages {
            match message.event() {
                Event::Taken => {}
                Event::Fault { addr, write, tid, .. } => {
                    let vpn = Vpn::of(addr as u64);
                    let message = Message { vpn, write, tid, read_at: now_ns(), came_at };
                    self.answer(message, tables.take());
                }
                event => die!("an unexpected message came with the page faults: {event:?}"),
            }
        }
        drop(tables);
        self.answer_put_aside();
        self.evict_between();
        if !messages.is_empty() {
            self.pager.publish(false);
        }
    }

    /// Between two faults: moves out for the service thread while that sleeps. On a processor that runs no thread of
    /// this process there is no TLB to flush, which makes a move an order of magnitude cheaper. So it pays while whoever
    /// faults shares the handler's processor. Where room is so short that a fault would soon have to wait, it is done beside
    /// the service thread too, which then has to do nothing but store.
    fn evict_between(&mut self) {
        let pager = self.pager;
        pager.handler_evicts.store(u32::from(self.placement.is_shared()), Ordering::Relaxed);
        let resting = pager.exchange.is_resting();
        if !self.placement.is_shared() || !(resting || self.pressed) {
            return;
        }
        let mut tables = pager.tables_first();
        let mut moved = 0;
        let wanting = resting || tables.engine.starved() && tables.engine.to_be_stored() < FEW;
        if wanting && tables.frozen_for == 0 && tables.engine.lacks_room_for(EVICTED_BETWEEN) {
            // Only where the budget has no more.
            pager.grow_grant(&mut tables);
            moved = tables.engine.move_out_behind(&mut pager.mover(), EVICTED_BETWEEN);
            pager.show(&tables.engine);
        }
        drop(tables);
        if moved > 0 {
            pager.exchange.ring();
        }
    }

    /// Answers those that had to wait for a fork, when it is over.
    fn answer_put_aside(&mut self) {
        if self.aside.is_empty() || self.pager.tables.lock().frozen_for != 0 {
            return;
        }
        let count = self.aside.len();
        for at in 0..count {
            let message = self.aside[at];
            self.answer(message, None);
        }
        // Another fork may have begun meanwhile. What was put aside for it stands behind those just taken up.
        self.aside.drain(..count);
        self.pager.aside.store(self.aside.len() as u32, Ordering::Relaxed);
    }

    /// Answers one fault, whatever it takes. `held` are the tables, where they were taken to read it.
    fn answer(&mut self, message: Message, mut held: Option<Held<'static>>) {
        let pager = self.pager;
        pager.busy_since.store(message.read_at, Ordering::Relaxed);
        if pager.is_profiled() {
            self.worker.stopwatch.begin(message.came_at);
        }
        pager.slow_down();
        self.placement.before(message.tid, message.read_at);
        let mut waited_since = 0;
        let mut answered = true;
        loop {
            self.worker.stopwatch.enter(Phase::Lock);
            let mut tables = held.take().unwrap_or_else(|| pager.tables_first());
            self.worker.stopwatch.enter(Phase::Decide);
            if tables.frozen_for != 0 && tables.frozen_for != message.tid {
                drop(tables);
                self.put_aside(message);
                return;
            }
            if pager.is_behind() {
                drop(tables);
                self.worker.stopwatch.enter(Phase::Wait);
                pager.await_notes(|| pager.watchdog.handler_beat());
                continue;
            }
            if pager.ends_touch_of_spare(&mut tables, message.vpn) {
                drop(tables);
                self.worker.stopwatch.leave(Phase::Other);
                break;
            }
            pager.keep_grant(&mut tables);
            if tables.frozen_for != 0
                && let Some(recorder) = &pager.recorder
            {
                // Once it is answered the thread goes on to the kernel's fork, and nobody may allocate then.
                recorder.make_room(message.vpn);
            }
            let mut mover = pager.mover().timed_by(&self.worker.stopwatch);
            let fault = tables.engine.fault(&mut mover, SPACE, message.vpn, &mut self.work);
            if matches!(fault, Fault::Mapped | Fault::Joined | Fault::Job) {
                pager.record_access(message.vpn, message.write, message.read_at);
            }
            pager.show(&tables.engine);
            self.pressed = pager.is_short(&mut tables);
            drop(tables);
            self.worker.stopwatch.leave(Phase::Other);
            if self.pressed {
                pager.exchange.ring();
            }
            match fault {
                Fault::Joined if self.placement.is_urgent() => urge::urge_service(),
                Fault::Mapped | Fault::Joined | Fault::Outside => {}
                Fault::Job => answered = self.fill(message),
                Fault::NoFrame => {
                    if waited_since == 0 {
                        waited_since = now_ns();
                    }
                    self.worker.stopwatch.enter(Phase::Evict);
                    self.make_room();
                    self.worker.stopwatch.leave(Phase::Other);
                    continue;
                }
                Fault::Halt(halt) => worker::stop(halt),
            }
            break;
        }
        self.placement.after();
        self.count(message, waited_since, answered);
    }

    fn put_aside(&mut self, message: Message) {
        if self.aside.len() == MOST_ASIDE {
            die!("{MOST_ASIDE} threads wait while one forks");
        }
        self.placement.after();
        self.worker.stopwatch.forget();
        self.aside.push(message);
        self.pager.busy_since.store(0, Ordering::Relaxed);
        self.pager.watchdog.handler_beat();
        self.pager.aside.store(self.aside.len() as u32, Ordering::Relaxed);
    }

    /// Runs a fill, or leaves it to an `io` thread. Whether the fault has been answered.
    fn fill(&mut self, message: Message) -> bool {
        let pager = self.pager;
        if self.work.kind == JobKind::Read {
            pager.store.lock().sources(&mut self.work);
        }
        self.worker.asked_at = 0;
        if !self.work.reads_file() {
            self.worker.run(pager, &mut self.work);
            return true;
        }
        // For as long as a disk takes, only the guest is kept here: others may have a signal to handle.
        self.placement.after();
        if pager.io.is_open() && !self.placement.is_alone() {
            let urgent = if self.placement.is_urgent() { message.tid } else { 0 };
            pager.io.push(&mut self.work, message.read_at, urgent, self.worker.stopwatch.hand_over());
            return false;
        }
        // No other thread faults that would wait too, or once in a long while; and to hand the job to another
        // processor takes as long as the disk does.
        self.worker.asked_at = message.read_at;
        self.worker.run_and(pager, &mut self.work, || self.placement.invite(message.tid));
        true
    }

    /// Moves something out, since a fault waits for a frame. The service thread should have been faster.
    fn make_room(&mut self) {
        let pager = self.pager;
        let seen = pager.progress.load(Ordering::Acquire);
        let mut tables = pager.tables_first();
        let frozen = tables.frozen_for != 0;
        let step = if frozen {
            Reclaim::Stuck
        } else {
            tables.engine.reclaim(&mut pager.mover(), Urgency::Direct, &mut self.direct)
        };
        pager.show(&tables.engine);
        if step == Reclaim::Stuck {
            if !tables.engine.overdraw(OVERDRAFT) {
                die!(
                    "as much memory as the machine has is in use, and nothing can be moved out (locked, read-only, \
                     forked, or no store takes it): run with a --swap-dir with room"
                );
            }
            let over = tables.engine.charged().saturating_sub(tables.engine.grant());
            drop(tables);
            self.say_over(over);
            return;
        }
        drop(tables);
        match step {
            Reclaim::Job => self.worker.run(pager, &mut self.direct),
            Reclaim::Waiting => {
                let before = self.worker.stopwatch.enter(Phase::Wait);
                pager.await_progress(seen);
                self.worker.stopwatch.leave(before);
            }
            Reclaim::Idle | Reclaim::Progress | Reclaim::Stuck => {}
        }
    }

    fn say_over(&mut self, pages: u32) {
        if pages > 1024 && !self.said_over {
            self.said_over = true;
            self.pager.tell(format_args!(
                "over the budget: nothing more can be moved out (locked, read-only, or no store takes it). \
                 The program goes on; a larger -m or a --swap-dir with room would help"
            ));
        }
    }

    /// Counts the message, and the fault too if it has been `answered`: otherwise it is counted when it is.
    fn count(&mut self, message: Message, waited_since: u64, answered: bool) {
        let pager = self.pager;
        let now = now_ns();
        pager.busy_since.store(0, Ordering::Relaxed);
        if let Some(recorder) = pager.recorder() {
            recorder.add_wait(now - message.read_at);
        }
        if let Some(account) = pager.account() {
            if answered {
                account.counters.count_fault(now - message.read_at);
                account.counters.count_spent(self.worker.stopwatch.end(now));
            }
            if waited_since != 0 {
                account.counters.count_wait(now - waited_since);
            }
        }
        pager.watchdog.handler_beat();
        self.answered += 1;
        if pager.options.inject == Some(Inject::StopHandler) && self.answered > 1000 {
            futex::sleep_for_ever();
        }
    }

    /// Nothing to do: what has been counted is shown, and the service thread looked after.
    fn rest(&mut self) {
        self.placement.rest();
        self.pager.watchdog.handler_beat();
        self.pager.publish(false);
        self.pager.watch_service();
    }
}
