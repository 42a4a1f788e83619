//! Reclaim behind the program: one thread, on a processor of its own, that does one thing after the other. What it does
//! has happened when the time has come at which it ends. While there is nothing else to do it shapes folios.

use super::host::{Host, Stop};
use super::jobs;
use crate::tlb::Tlb;
use quire_core::job::{JobKind, Work};
use quire_core::{Order, Reclaim, Urgency};

/// Most pages that are kept zeroed ahead of need, as on the live host.
const MOST_ZEROED: u32 = 128;

/// When it does something that it never does, in ns of the clock.
pub(super) const NEVER: u64 = u64::MAX;

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
    /// Whether it only waits for the next epoch.
    asleep: bool,
    /// How long an epoch is, in ns; 0: there are none.
    epoch_ns: u64,
    /// The last epoch whose work has begun, and whether it is done.
    epoch: u64,
    tended: bool,
    /// Epochs whose work was done.
    pub(super) epochs: u64,
}

impl Service {
    pub(super) fn new(epoch_ns: u64) -> Service {
        let at = if epoch_ns == 0 { NEVER } else { epoch_ns };
        Service {
            at,
            stage: Stage::Idle,
            work: Work::new(),
            worked: 0,
            asleep: true,
            epoch_ns,
            epoch: 0,
            tended: true,
            epochs: 0,
        }
    }

    /// Whether work of this epoch is left.
    fn has_to_tend(&self) -> bool {
        self.epoch_ns > 0 && (!self.tended || self.at / self.epoch_ns > self.epoch)
    }

    /// Goes on to the epoch that it is. Whether that is another one.
    fn begin_epoch(&mut self) -> bool {
        let epoch = self.at / self.epoch_ns;
        let begins = epoch > self.epoch;
        self.epoch = epoch;
        self.epochs += u64::from(begins);
        begins
    }

    /// It sleeps until the next epoch begins. Of epochs that have passed by themselves it is the last one: nothing was
    /// accessed in the others.
    fn sleep(&mut self, now: u64) {
        self.asleep = true;
        self.at = match self.epoch_ns {
            0 => NEVER,
            ns => (self.at / ns + 1).max(now / ns).saturating_mul(ns),
        };
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
        if self.service.asleep && self.engine.pressed() {
            self.service.asleep = false;
            self.service.at = self.service.at.min(self.clock);
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

    /// One step of reclaim, or folios shaped, or frames zeroed ahead, or sleep. No frames are zeroed while compaction gives
    /// the memory behind free ones back.
    fn next_job(&mut self) {
        self.service.asleep = false;
        let step = self.engine.reclaim(&mut self.memory, Urgency::Behind, &mut self.service.work);
        self.pay_behind();
        match step {
            Reclaim::Progress => {}
            Reclaim::Job => self.begin_behind(),
            Reclaim::Idle | Reclaim::Waiting | Reclaim::Stuck => {
                if self.service.has_to_tend() {
                    self.tend();
                } else if !self.zero_ahead() {
                    self.service.sleep(self.clock);
                }
            }
        }
    }

    /// Whether frames are being zeroed.
    fn zero_ahead(&mut self) -> bool {
        let target = (self.engine.frames_in_use() / 8).min(MOST_ZEROED / self.memory.base.pages());
        let order = Order::fitting(u64::from(target.max(1)));
        let begun =
            target > 0 && self.engine.zero_ahead(&mut self.memory, target, order, &mut self.service.work);
        if begun {
            self.begin_behind();
        }
        begun
    }

    /// A bite of shaping.
    fn tend(&mut self) {
        let service = &mut self.service;
        if service.begin_epoch() {
            // Since the last epoch other programs and the kernel have displaced what the TLB had.
            self.memory.tlb.flush_all();
        }
        service.tended = !self.engine.tend(&mut self.memory, service.epoch as u32);
        service.take(self.memory.costs.access * u64::from(Order::MAX.pages()));
        self.pay_behind();
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
        self.service.stage = Stage::Idle;
        if jobs::place(&self.engine, &mut self.memory, &mut self.service.work) {
            let ns = jobs::write(&self.memory.costs, &self.service.work, &mut self.traffic);
            self.service.stage = Stage::Finish;
            self.service.take(ns);
        } else {
            jobs::finish(&mut self.engine, &mut self.memory, &mut self.service.work, false)?;
        }
        self.pay_behind();
        Ok(())
    }

    fn finish_behind(&mut self) -> Result<(), Stop> {
        self.service.stage = Stage::Idle;
        jobs::finish(&mut self.engine, &mut self.memory, &mut self.service.work, true)?;
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
