//! Jobs under way, run step by step.

use super::{Host, SEGMENT_PAGES, stopped};
use crate::store;
use crate::tables::Pte;
use quire_core::job::{JobKind, Outcome, Place, Work};
use quire_core::{Frame, PAGE_SIZE, Space, Vpn};

/// How far a job has come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Step {
    /// Nothing was done.
    Begun,
    /// A reader has looked where its pages are.
    Looked,
    /// A writer has read its frames, hashed and compressed.
    Packed,
    /// A writer has its places.
    Placed,
    /// The work is done; the engine does not know yet.
    Ran(Outcome),
}

/// A job under way.
#[derive(Clone, Debug)]
pub struct Flying {
    /// The job.
    pub work: Work,
    /// How far it has come.
    pub step: Step,
    /// What it has read that does not go to its frames.
    pub staged: Vec<u64>,
    /// The pages that it began for, where events are counted by what they meet.
    pub pages: Vec<(Space, Vpn)>,
    /// The event until which it makes no step.
    pub until: u64,
    /// Whether it was ever held back.
    pub late: bool,
}

impl Flying {
    /// A job that has just begun.
    pub fn new(work: Work) -> Flying {
        Flying { work, step: Step::Begun, staged: Vec::new(), pages: Vec::new(), until: 0, late: false }
    }
}

impl Host {
    /// The pages whose contents are in the frames of a job, or are to come there.
    pub(super) fn pages_of(&self, work: &Work) -> Vec<(Space, Vpn)> {
        let named = work.frames.iter().flat_map(|frame| self.engine.rmap(frame));
        named.map(|mapping| (mapping.space, mapping.vpn)).collect()
    }

    /// Whether a job makes no step now, since the store is slow.
    pub fn is_held(&self, job: &Flying) -> bool {
        job.until > self.events
    }

    /// Job number `at` makes no step for so many events.
    pub(super) fn hold(&mut self, at: usize, events: u32) {
        let job = &mut self.jobs[at];
        (job.until, job.late) = (self.events + u64::from(events), true);
    }

    /// Whether nothing can be stored now.
    pub fn is_full(&self) -> bool {
        self.full.is_some()
    }

    /// From now on nothing can be stored, or again as before: RAM for the store is used up, the spill file is full, and
    /// nothing compresses.
    pub(super) fn set_full(&mut self, full: bool) {
        if full == self.full.is_some() {
            return;
        }
        self.full = full.then_some(self.overhead);
        let overhead = if full { self.setup.grant * 2 } else { self.overhead };
        self.engine.set_overhead(overhead);
        // A new file, also where there was none: folios that nothing took are tried again.
        self.open_file(if full { 0 } else { self.setup.spill.unwrap_or(0) });
    }

    /// The next step of job number `at`. Whether it has ended.
    pub fn step(&mut self, at: usize) -> Result<bool, String> {
        self.begin_step();
        let job = &mut self.jobs[at];
        job.step = match (job.work.kind, job.step) {
            (_, Step::Ran(outcome)) => return self.finish(at, outcome),
            (JobKind::Write, Step::Begun | Step::Looked) => {
                store::pack(&mut self.mmu, &mut job.work);
                if self.full.is_some() {
                    job.work.packed.iter_mut().for_each(store::give_up_packing);
                }
                Step::Packed
            }
            (JobKind::Write, Step::Packed) => return self.place(at),
            (JobKind::Write, Step::Placed) => Step::Ran(store::run_write(&mut self.mmu, &job.work)),
            (JobKind::Zero, _) => return self.run_zero(at),
            (JobKind::Read, Step::Looked) => return self.read(at),
            (JobKind::Read, _) => {
                self.mmu.store.sources(&mut job.work);
                Step::Looked
            }
            (JobKind::Spill, _) => Step::Ran(store::run_spill(&mut self.mmu, &job.work)),
        };
        match self.jobs[at].step {
            Step::Ran(outcome) if outcome != Outcome::Done => {
                Err(format!("what a job was to read is not there: {:?}", self.jobs[at].work))
            }
            _ => Ok(false),
        }
    }

    /// Only frames without memory are zeroed, as a host only touches them.
    fn run_zero(&mut self, at: usize) -> Result<bool, String> {
        let job = &mut self.jobs[at];
        let has_memory = |&frame: &Frame| self.mmu.frame(frame).is_some_and(Pte::is_memory);
        if let Some(frame) = job.work.frames.iter().find(has_memory) {
            return Err(format!("{frame:?} is to be zeroed, and has memory"));
        }
        job.step = Step::Ran(store::run_zero(&mut self.mmu, &job.work));
        Ok(false)
    }

    /// What a reader finds is not what it looks for, if it was moved meanwhile: then it looks again.
    fn read(&mut self, at: usize) -> Result<bool, String> {
        let job = &mut self.jobs[at];
        let outcome = store::run_read(&mut self.mmu, &job.work, &mut job.staged);
        let before = job.work.sources.clone();
        self.mmu.store.sources(&mut job.work);
        match outcome {
            Outcome::Done => job.step = Step::Ran(outcome),
            _ if job.work.sources != before => self.checks.moved += 1,
            _ => return Err(format!("what a job was to read is not there: {:?}", job.work)),
        }
        Ok(false)
    }

    fn place(&mut self, at: usize) -> Result<bool, String> {
        let job = &mut self.jobs[at];
        let counts = self.engine.wants(job.work.ticket);
        let frames = job.work.frames;
        let placed = counts && self.mmu.store.place(&mut self.mmu.bytes, &mut job.work);
        self.engine.look_at_store(&mut self.mmu);
        if let Some(recount) = &mut self.recount {
            recount.count_place(&job.work, placed, counts);
        }
        if placed {
            job.step = Step::Placed;
            return self.check_places(at).map(|()| false);
        }
        if counts {
            self.ages_unstorable(frames.iter());
        }
        self.finish(at, Outcome::Refused)
    }

    /// No place that a writer is given may hold what anybody still needs, or lie in two segments.
    fn check_places(&self, at: usize) -> Result<(), String> {
        let bytes = u64::from(self.setup.segments * SEGMENT_PAGES) * PAGE_SIZE as u64;
        for place in self.jobs[at].work.targets.iter().flatten() {
            let inside = match *place {
                Place::Ram { at } => u64::from(at) * 16 < bytes,
                Place::File { file, .. } => file + 1 == self.files,
                Place::Zero => false,
            };
            if !inside {
                return Err(format!("{place:?} is no place to write to"));
            }
        }
        Ok(())
    }

    /// Job number `at` comes back.
    pub fn finish(&mut self, at: usize, outcome: Outcome) -> Result<bool, String> {
        if outcome != Outcome::Refused {
            self.meets_job(at, outcome != Outcome::Done);
        }
        let Flying { mut work, staged, .. } = self.jobs.remove(at);
        let waited = self.waits_for(&work);
        let counted = work.kind == JobKind::Spill || self.engine.wants(work.ticket);
        // Its targets are set with its places.
        let placed = work.kind == JobKind::Write && work.targets.iter().any(Option::is_some);
        self.checks.died += u64::from(placed && !counted);
        self.mmu.staged = staged;
        self.spill_jobs += u64::from(work.kind == JobKind::Spill && outcome == Outcome::Done);
        let finished = store::finish(&mut self.engine, &mut self.mmu, &mut work, outcome);
        self.recount_end(&work, outcome, counted);
        self.mmu.staged.clear();
        self.spare.push(work);
        finished.map_err(stopped)?;
        self.check_woken(&waited).map(|()| true)
    }

    /// Job number `at` fails. Where somebody still waits for what it was to bring, the process stops: that is played to the
    /// end on the side, and the host goes on as if it had not happened.
    pub fn fail(&mut self, at: usize) -> Result<(), String> {
        let work = &self.jobs[at].work;
        let fills = matches!(work.kind, JobKind::Read | JobKind::Zero);
        let counts = self.engine.job(work.ticket).is_some_and(|(_, counts)| counts);
        let outcome = if work.kind == JobKind::Read { Outcome::Corrupt } else { Outcome::Failed };
        if !fills || !counts {
            return self.finish(at, outcome).map(|_| ());
        }
        let mut stopped = self.aside();
        // It has not failed for the host that goes on.
        self.meets_end(at, true);
        match stopped.finish(at, outcome) {
            Ok(_) => Err("a fill failed, and the process goes on".into()),
            Err(_) => stopped.engine.validate(&stopped.mmu.store),
        }
    }

    /// The same host once more, of which nothing is counted or watched.
    pub fn aside(&mut self) -> Host {
        let kept = (self.watch.take(), self.cover.take(), self.recount.take(), self.ages.take());
        let host = self.clone();
        (self.watch, self.cover, self.recount, self.ages) = kept;
        host
    }
}
