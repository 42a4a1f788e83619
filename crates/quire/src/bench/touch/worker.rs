//! One thread of the program, and how the threads keep step.

use super::array::{Array, Wrong};
use super::contents::{WORDS, mix};
use super::phase::Phase;
use super::{Plan, VERIFY, steady};
use quire_sim::rng::Rng;
use quire_sim::workload::{Pattern as _, Skewed};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// As YCSB has it.
const EXPONENT: f64 = 0.99;

/// Of the accesses by Zipf's law so many percent write.
const WRITES: u32 = 10;

/// Accesses by Zipf's law for each page.
const ZIPF_ROUNDS: u64 = 2;

/// Scans of a phase.
const SCANS: u64 = 2;

/// Where the threads meet before and after whatever is timed.
#[derive(Debug)]
pub(super) struct Meeting {
    barrier: Barrier,
    /// Whether there is another round; the first thread says so.
    on: AtomicBool,
}

impl Meeting {
    pub(super) fn new(threads: u64) -> Meeting {
        Meeting { barrier: Barrier::new(threads as usize), on: AtomicBool::new(false) }
    }

    /// The time of the work, from when all begin until all have ended.
    fn timed(&self, work: impl FnOnce()) -> Duration {
        self.barrier.wait();
        let begun = Instant::now();
        work();
        self.barrier.wait();
        begun.elapsed()
    }

    /// What the first thread decides, for all of them.
    fn agree(&self, thread: u64, decide: impl FnOnce() -> bool) -> bool {
        if thread == 0 {
            self.on.store(decide(), Ordering::Relaxed);
        }
        self.barrier.wait();
        let on = self.on.load(Ordering::Relaxed);
        // So that no later decision is taken for this one.
        self.barrier.wait();
        on
    }
}

/// What a thread has found out.
#[derive(Default, Debug)]
pub(super) struct Findings {
    /// Microseconds for each page or access.
    pub(super) phases: Vec<(&'static str, f64)>,
    /// The same for each round of [`Phase::Random`].
    pub(super) rounds: Vec<f64>,
    /// The first wrong word, and the phase that met it.
    pub(super) wrong: Option<(&'static str, Wrong)>,
    /// Of the pages that this thread has verified.
    pub(super) sum: u64,
}

/// One thread.
#[derive(Debug)]
pub(super) struct Worker<'a> {
    plan: &'a Plan,
    array: &'a Array<'a>,
    meeting: &'a Meeting,
    thread: u64,
    found: Findings,
}

impl<'a> Worker<'a> {
    pub(super) fn new(plan: &'a Plan, array: &'a Array<'a>, meeting: &'a Meeting, thread: u64) -> Worker<'a> {
        Worker { plan, array, meeting, thread, found: Findings::default() }
    }

    /// Goes through all phases, and verifies.
    pub(super) fn play(mut self) -> Findings {
        for &phase in &self.plan.phases {
            let time = match phase {
                Phase::Scan | Phase::ScanAgain => self.scan(phase),
                Phase::Random => self.random(),
                Phase::Zipf => self.zipf(),
                Phase::RandomAfterScan => self.round(phase, &mut self.rng(phase)),
            };
            self.found.phases.push((phase.name(), time));
        }
        let time = self.verify();
        self.found.phases.push((VERIFY, time));
        self.found
    }

    /// Numbers of its own for each phase and thread.
    fn rng(&self, phase: Phase) -> Rng {
        Rng::new(self.plan.seed).part(phase as u64).part(self.thread)
    }

    /// Microseconds for each of `count` accesses by this thread, while all others do as many.
    fn timed(&mut self, count: u64, work: impl FnOnce(&mut Self)) -> f64 {
        let meeting = self.meeting;
        meeting.timed(|| work(self)).as_secs_f64() * 1e6 / count.max(1) as f64
    }

    fn record(&mut self, phase: &'static str, result: Result<(), Wrong>) {
        if let Err(wrong) = result {
            self.found.wrong.get_or_insert((phase, wrong));
        }
    }

    /// Accesses of this thread when each page has one.
    fn share(&self) -> u64 {
        (self.array.pages() / self.plan.threads).max(1)
    }

    /// Every thread scans all pages, the second one from the middle on.
    fn scan(&mut self, phase: Phase) -> f64 {
        let pages = self.array.pages();
        let first = self.thread * self.share();
        self.timed(SCANS * pages, |worker| {
            for step in 0..SCANS * pages {
                let result = worker.array.scan((first + step) % pages);
                worker.record(phase.name(), result);
            }
        })
    }

    fn random(&mut self) -> f64 {
        let mut rng = self.rng(Phase::Random);
        let begun = Instant::now();
        loop {
            let time = self.round(Phase::Random, &mut rng);
            self.found.rounds.push(time);
            let decide = || self.plan.rounds.go_on(&self.found.rounds, begun.elapsed());
            if !self.meeting.agree(self.thread, decide) {
                return steady::mean(&self.found.rounds);
            }
        }
    }

    /// As many uniform reads as there are pages, by all threads together.
    fn round(&mut self, phase: Phase, rng: &mut Rng) -> f64 {
        let (pages, count) = (self.array.pages(), self.share());
        self.timed(count, |worker| {
            for _ in 0..count {
                let result = worker.array.read(rng.below(pages), index(rng));
                worker.record(phase.name(), result);
            }
        })
    }

    /// All threads have the same hot pages.
    fn zipf(&mut self) -> f64 {
        let mut rng = self.rng(Phase::Zipf);
        let mut pages = Skewed::new(self.array.pages(), EXPONENT, self.plan.seed);
        let count = ZIPF_ROUNDS * self.share();
        self.timed(count, |worker| {
            for _ in 0..count {
                let page = pages.page(&mut rng);
                if rng.chance(WRITES) {
                    worker.array.write(page);
                } else {
                    let result = worker.array.read(page, index(&mut rng));
                    worker.record(Phase::Zipf.name(), result);
                }
            }
        })
    }

    /// Every thread looks at all words of its share.
    fn verify(&mut self) -> f64 {
        let first = self.thread * self.share();
        let last =
            if self.thread + 1 == self.plan.threads { self.array.pages() } else { first + self.share() };
        self.timed(last - first, |worker| {
            for page in first..last {
                match worker.array.verify(page) {
                    Ok(sum) => worker.found.sum = worker.found.sum.wrapping_add(mix(sum)),
                    Err(wrong) => worker.record(VERIFY, Err(wrong)),
                }
            }
        })
    }
}

/// Any word of a page that no write changes.
fn index(rng: &mut Rng) -> u64 {
    1 + rng.below(WORDS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn few_pages_get_most_accesses_and_they_lie_anywhere() {
        const PAGES: u64 = 10_000;
        let mut pages = Skewed::new(PAGES, EXPONENT, 1);
        let mut rng = Rng::new(2);
        let mut hits = vec![0_u64; PAGES as usize];
        for _ in 0..200_000 {
            hits[pages.page(&mut rng) as usize] += 1;
        }
        let mut hot: Vec<usize> = (0..PAGES as usize).collect();
        hot.sort_by_key(|page| std::cmp::Reverse(hits[*page]));
        // The harmonic numbers of order 0.99: a rank up to 100 comes 5.3 times of 10.2.
        let share = hot[..100].iter().map(|page| hits[*page]).sum::<u64>() as f64 / 200_000.0;
        assert!((0.5..0.56).contains(&share), "{share}");
        let low = hot[..100].iter().filter(|page| **page < PAGES as usize / 2).count();
        assert!((30..=70).contains(&low), "{low} of 100 in the lower half");
    }

    #[test]
    fn all_threads_hear_each_decision_of_the_first() {
        let meeting = Meeting::new(2);
        let heard = |thread: u64| -> Vec<bool> {
            (0..1000).map(|step| meeting.agree(thread, || step % 3 == 0)).collect()
        };
        let (first, second) = thread::scope(|scope| {
            let second = scope.spawn(|| heard(1));
            (heard(0), second.join().unwrap())
        });
        assert_eq!(first, second);
        assert_eq!(first.iter().filter(|on| **on).count(), 334);
    }
}
