//! Reclaim behind the program: one thread, on a processor of its own, that does one thing after the other. What it does
//! has happened when the time has come at which it ends.

use super::host::{Host, Stop};
use super::jobs;
use crate::tlb::Tlb;
use quire_core::job::{JobKind, Outcome, Work};
use quire_core::{Demand, Order, Placed, Reclaim};

/// Most pages that are kept zeroed ahead of need, as on the live host.
const MOST_ZEROED: u32 = 128;

/// When it does something, in ns of the clock.
pub(super) const ASLEEP: u64 = u64::MAX;

/// What its job will do when its time has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// There is none.
    Idle,
    /// Ask for places: what is written has been compressed.
    Place,
    /// Come back to the engine.
    Finish,
}

/// The thread.
#[derive(Debug)]
pub(super) struct Service {
    /// When it does the next thing.
    pub(super) at: u64,
    stage: Stage,
    work: Work,
    /// How long it has worked, in ns.
    pub(super) worked: u64,
}

impl Service {
    pub(super) fn new() -> Service {
        Service { at: ASLEEP, stage: Stage::Idle, work: Work::new(), worked: 0 }
    }

    /// The next thing comes `ns` later.
    fn take(&mut self, ns: u64) {
        self.at += ns;
        self.worked += ns;
    }
}

impl<T: Tlb> Host<T> {
    /// Wakes it if it is needed.
    pub(super) fn ring(&mut self) {
        if self.service.at == ASLEEP && self.engine.pressed() {
            self.service.at = self.clock;
        }
    }

    /// Lets everything behind the program happen that has happened by now.
    pub(super) fn work_behind(&mut self) -> Result<(), Stop> {
        while self.service.at <= self.clock {
            match self.service.stage {
                Stage::Idle => self.next_job(),
                Stage::Place => self.place_behind()?,
                Stage::Finish => self.finish_behind()?,
            }
        }
        Ok(())
    }

    /// Waits until the job behind the program is a step further. Whether there is one.
    pub(super) fn await_behind(&mut self) -> Result<bool, Stop> {
        if self.service.stage == Stage::Idle {
            return Ok(false);
        }
        let wait = self.service.at.saturating_sub(self.clock);
        self.spend(super::Cause::Reclaim, wait);
        self.work_behind()?;
        Ok(true)
    }

    /// One step of reclaim, or frames zeroed ahead, or sleep.
    fn next_job(&mut self) {
        let step = self.engine.reclaim(&mut self.memory, Demand::Behind, &mut self.service.work);
        self.pay_behind();
        match step {
            Reclaim::Progress => {}
            Reclaim::Job => self.begin_behind(),
            Reclaim::Idle | Reclaim::Waiting | Reclaim::Stuck => self.zero_ahead(),
        }
    }

    fn zero_ahead(&mut self) {
        let target = (self.engine.frames_in_use() / 8).min(MOST_ZEROED / self.memory.base.pages());
        let order = Order::fitting(u64::from(target.max(1)));
        if target > 0 && self.engine.zero_ahead(target, order, &mut self.service.work) {
            self.begin_behind();
        } else {
            self.service.at = ASLEEP;
        }
    }

    fn begin_behind(&mut self) {
        let (memory, work) = (&mut self.memory, &mut self.service.work);
        let (stage, ns) = match work.kind {
            JobKind::Write => (Stage::Place, jobs::pack(memory, work)),
            JobKind::Zero => (Stage::Finish, jobs::zero(memory, work).cpu),
            JobKind::Spill => (Stage::Finish, jobs::spill(&memory.costs, work, &mut self.traffic)),
            // Reclaim reads nothing.
            JobKind::Read => (Stage::Finish, 0),
        };
        self.service.stage = stage;
        self.service.take(ns);
    }

    fn place_behind(&mut self) -> Result<(), Stop> {
        let placed = self.engine.place(&mut self.memory, &mut self.service.work);
        self.service.stage = Stage::Idle;
        match placed {
            Placed::Go => {
                let ns = jobs::write(&self.memory.costs, &self.service.work, &mut self.traffic);
                self.service.stage = Stage::Finish;
                self.service.take(ns);
            }
            Placed::Void | Placed::Refused => {}
            Placed::Halt(halt) => return Err(Stop::Halt(halt)),
        }
        self.pay_behind();
        Ok(())
    }

    fn finish_behind(&mut self) -> Result<(), Stop> {
        self.service.stage = Stage::Idle;
        let work = &self.service.work;
        self.engine.finish(&mut self.memory, work.ticket, Outcome::Done, &work.packed).map_err(Stop::Halt)?;
        self.pay_behind();
        Ok(())
    }

    /// What verbs have cost is time of the thread; the program loses what their flushes cost it.
    fn pay_behind(&mut self) {
        self.memory.settle(&self.engine);
        let spent = self.memory.spent();
        self.service.take(spent);
        let flushes = self.memory.flushed();
        self.spend(super::Cause::Interrupt, flushes * self.memory.costs.interrupt);
        self.note_levels();
    }
}
