//! Jobs under way, run step by step.

use super::{Host, stopped};
use crate::store;
use quire_core::job::{JobKind, Outcome, Place, Work};
use quire_core::swap::SPAN_BYTES;
use quire_core::{PageState, Placed, Space, Vpn};

/// How far a job has come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Step {
    /// Nothing was done.
    Begun,
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
}

impl Flying {
    /// A job that has just begun.
    pub fn new(work: Work) -> Flying {
        Flying { work, step: Step::Begun, staged: Vec::new() }
    }
}

impl Host {
    /// The next step of job number `at`. Whether it has ended.
    pub fn step(&mut self, at: usize) -> Result<bool, String> {
        let job = &mut self.jobs[at];
        job.step = match (job.work.kind, job.step) {
            (_, Step::Ran(outcome)) => return self.finish(at, outcome),
            (JobKind::Write, Step::Begun) => {
                store::pack(&mut self.mmu, &mut job.work);
                Step::Packed
            }
            (JobKind::Write, Step::Packed) => return self.place(at),
            (JobKind::Write, Step::Placed) => Step::Ran(store::run_write(&mut self.mmu, &job.work)),
            (JobKind::Zero, _) => return self.run_zero(at),
            (JobKind::Read, _) => Step::Ran(store::run_read(&mut self.mmu, &job.work, &mut job.staged)),
            (JobKind::Spill, _) => Step::Ran(store::run_spill(&mut self.mmu, &job.work)),
        };
        match self.jobs[at].step {
            Step::Ran(outcome) if outcome != Outcome::Done => {
                Err(format!("what a job was to read is not there: {:?}", self.jobs[at].work))
            }
            _ => Ok(false),
        }
    }

    /// Frames said to be fresh must read as zeroes already, since a host only touches those.
    fn run_zero(&mut self, at: usize) -> Result<bool, String> {
        let job = &mut self.jobs[at];
        for frame in job.work.frames.iter().filter(|_| job.work.fresh) {
            let value = self.mmu.frame(frame).map_or(0, |pte| pte.value());
            if value != 0 {
                return Err(format!("{frame:?} is said to be fresh and holds version {value}"));
            }
        }
        job.step = Step::Ran(store::run_zero(&mut self.mmu, &job.work));
        Ok(false)
    }

    fn place(&mut self, at: usize) -> Result<bool, String> {
        let job = &mut self.jobs[at];
        match self.engine.place(&mut self.mmu, &mut job.work) {
            Placed::Go => {
                job.step = Step::Placed;
                self.check_places(at)?;
                return Ok(false);
            }
            Placed::Refused => self.blurred = true,
            Placed::Void => {}
            Placed::Halt(halt) => return Err(stopped(halt)),
        }
        self.spare.push(self.jobs.remove(at).work);
        Ok(true)
    }

    /// No place that a writer is given may hold what anybody still needs, or lie in two spans.
    fn check_places(&self, at: usize) -> Result<(), String> {
        let bytes = u64::from(self.setup.spans) * SPAN_BYTES as u64;
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
        let Flying { work, staged, .. } = self.jobs.remove(at);
        self.mmu.staged = staged;
        self.spill_jobs += u64::from(work.kind == JobKind::Spill && outcome == Outcome::Done);
        let finished = self.engine.finish(&mut self.mmu, work.ticket, outcome, &work.packed);
        self.mmu.staged.clear();
        self.spare.push(work);
        finished.map(|()| true).map_err(stopped)
    }

    /// Job number `at` fails, if the program can live with that: a read that somebody still waits for cannot.
    pub fn fail(&mut self, at: usize) -> Result<(), String> {
        let work = &self.jobs[at].work;
        let counts = self.engine.job(work.ticket).is_some_and(|(_, counts)| counts);
        if counts && matches!(work.kind, JobKind::Read | JobKind::Zero) {
            return Ok(());
        }
        let outcome = if work.kind == JobKind::Read { Outcome::Corrupt } else { Outcome::Failed };
        self.finish(at, outcome).map(|_| ())
    }

    /// Whether a job is under way that will bring what is at a page.
    pub(super) fn fill_under_way(&self, space: Space, vpn: Vpn) -> bool {
        let there = self.engine.whereabouts(space, vpn);
        let filling = matches!(there.state, PageState::Filling { .. });
        filling && self.jobs.iter().any(|job| Some(job.work.ticket) == there.job)
    }
}
