//! Reclaim with no free frame comes to its end and allocates nothing, whatever is under way.
//!
//! Each seed fills memory until a fault finds no frame, with jobs left half-way, and then reclaims: steps of reclaim,
//! writers that ask for places, jobs that end or fail, in any order, while the program goes on touching pages. Every
//! verb of reclaim runs under a counting allocator. What the simulated kernel and the workers allocate is not counted;
//! a fault may allocate, since that is where what reclaim needs is reserved.

use allocation_counter::{measure, opt_out};
use quire_core::job::{JobKind, Outcome, Work};
use quire_core::mmu::{Done, Mmu, Mover, Prot, Refusal};
use quire_core::{
    Config, Demand, Engine, Fault, FrameRun, Order, PageRange, Placed, PolicyKind, Reclaim, Space, Vpn,
};
use quire_sim::rng::Rng;
use quire_sim::world::{Flying, Step};
use quire_sim::{Access, Model, SimMmu, store};

const SPACE: Space = Space(0);
const SEEDS: u64 = 30;
/// Times that memory is filled in each seed.
const CYCLES: u32 = 8;
/// Steps within which memory must be filled, or reclaim be done.
const PATIENCE: u32 = 20_000;
/// More than there are pages to store, if each takes one.
const FILE_BYTES: u64 = 256 << 20;

/// The simulated kernel, whose own allocations are nobody's business.
struct Quiet(SimMmu);

fn uncounted<T>(verb: impl FnOnce() -> T) -> T {
    let mut answer = None;
    opt_out(|| answer = Some(verb()));
    answer.expect("the verb was called")
}

impl Mmu for Quiet {
    fn discard(&mut self, range: PageRange) -> Result<(), Refusal> {
        uncounted(|| self.0.discard(range))
    }

    fn protect(&mut self, range: PageRange, prot: Prot) -> Result<(), Refusal> {
        uncounted(|| self.0.protect(range, prot))
    }

    fn lock(&mut self, range: PageRange, locked: bool) -> Result<(), Refusal> {
        uncounted(|| self.0.lock(range, locked))
    }

    fn present(&mut self, space: Space, vpn: Vpn) -> bool {
        uncounted(|| self.0.present(space, vpn))
    }

    fn release(&mut self, frames: FrameRun) {
        uncounted(|| self.0.release(frames));
    }

    fn release_span(&mut self, span: u32) {
        uncounted(|| self.0.release_span(span));
    }
}

impl Mover for Quiet {
    fn move_in(&mut self, frames: FrameRun, space: Space, at: Vpn) -> Done {
        uncounted(|| self.0.move_in(frames, space, at))
    }

    fn move_out(&mut self, space: Space, at: Vpn, frames: FrameRun) -> Done {
        uncounted(|| self.0.move_out(space, at, frames))
    }

    fn copy_in(&mut self, frames: FrameRun, space: Space, at: Vpn) -> Done {
        uncounted(|| self.0.copy_in(frames, space, at))
    }

    fn copy_staged(&mut self, from: u32, to: PageRange) -> Done {
        uncounted(|| self.0.copy_staged(from, to))
    }

    fn copy_zeroes(&mut self, to: PageRange) -> Done {
        uncounted(|| self.0.copy_zeroes(to))
    }

    fn unshare(&mut self, range: PageRange) -> Done {
        uncounted(|| self.0.unshare(range))
    }

    fn remap(&mut self, from: PageRange, to: Vpn) -> Result<(), Refusal> {
        uncounted(|| self.0.remap(from, to))
    }

    fn wake(&mut self, range: PageRange) {
        uncounted(|| self.0.wake(range));
    }
}

#[derive(Clone, Copy)]
struct Setup {
    name: &'static str,
    policy: PolicyKind,
    grant: u32,
    /// With a spill file contents may not compress.
    spills: bool,
}

const fn fixed(order: u8) -> PolicyKind {
    PolicyKind::Fixed(Order::fitting(1 << order))
}

/// What was met in all seeds of a setup.
#[derive(Default, Debug)]
struct Met {
    verbs: u64,
    no_frame: u64,
    written: u64,
    spilled: u64,
    failed: u64,
    rescued: u64,
    waited: u64,
    same: u64,
    most_jobs: usize,
}

struct Run {
    setup: Setup,
    seed: u64,
    engine: Engine,
    mmu: Quiet,
    model: Model,
    jobs: Vec<Flying>,
    spare: Vec<Work>,
    rng: Rng,
    files: u16,
    met: Met,
}

impl Run {
    fn new(setup: Setup, seed: u64) -> Run {
        let Setup { policy, grant, .. } = setup;
        let mut mmu = SimMmu::new(2 * grant);
        let arena = PageRange::new(SPACE, Vpn(0), u64::from(grant) * 3);
        mmu.map(arena, Prot::NONE, true);
        let mut mmu = Quiet(mmu);
        let mut engine = Engine::new(Config { frames: 2 * grant, spans: 4 * grant, grant, policy });
        assert_eq!(engine.map_range(&mut mmu, arena, Prot::READ_WRITE), Ok(()));
        let (model, rng) = (Model::default(), Rng::new(seed));
        let (jobs, spare, met) = (Vec::new(), Vec::new(), Met::default());
        let mut run = Run { setup, seed, engine, mmu, model, jobs, spare, rng, files: 0, met };
        run.open_file();
        run
    }

    fn open_file(&mut self) {
        if self.setup.spills && !self.engine.spills() {
            self.engine.open_spill_file(self.files, FILE_BYTES);
            self.files += 1;
        }
    }

    /// A verb of reclaim: it must not allocate.
    fn counted<T>(&mut self, what: &str, verb: impl FnOnce(&mut Engine, &mut Quiet) -> T) -> T {
        let mut answer = None;
        let counted = measure(|| answer = Some(verb(&mut self.engine, &mut self.mmu)));
        let (name, seed) = (self.setup.name, self.seed);
        assert_eq!(counted.count_total, 0, "{name}, seed {seed}: {what} allocates: {counted:?}");
        self.met.verbs += 1;
        answer.expect("the verb was called")
    }

    fn fail(&self, why: &str) -> ! {
        panic!("{}, seed {}: {why}; {:?}", self.setup.name, self.seed, self.met);
    }

    /// Touches pages until a fault finds no frame. Jobs under way are left there most of the time.
    fn fill(&mut self) -> Vpn {
        self.open_file();
        for _ in 0..PATIENCE {
            if self.rng.chance(20) {
                self.step_any_job();
            }
            let vpn = self.any_page();
            if self.touch(vpn) == Some(Fault::NoFrame) {
                return vpn;
            }
        }
        self.fail("memory is never full")
    }

    /// Half of all touches meet a few pages.
    fn any_page(&mut self) -> Vpn {
        let grant = u64::from(self.setup.grant);
        let among = if self.rng.chance(50) { grant / 2 } else { grant * 3 };
        Vpn(self.rng.below(among))
    }

    /// The program writes or reads a page; where that faults, the fault's answer.
    fn touch(&mut self, vpn: Vpn) -> Option<Fault> {
        let value = self.rng.chance(50).then(|| self.contents());
        let access = match value {
            Some(value) => self.mmu.0.touch_write(SPACE, vpn, value),
            None => self.mmu.0.touch_read(SPACE, vpn),
        };
        match (access, value) {
            (Access::Hit(_), Some(value)) => self.model.write(SPACE, vpn, value),
            (Access::Hit(found), None) => self.model.read(SPACE, vpn, found).expect("what was written last"),
            (Access::Fault, _) => return Some(self.fault(vpn)),
            (Access::Segv, _) => self.fail("the program may not touch its own memory"),
        }
        None
    }

    /// One page in eight is all zeroes; with a spill file, one in eight does not compress.
    fn contents(&mut self) -> u64 {
        let kind = self.rng.below(8);
        match kind {
            0 => 0,
            7 if !self.setup.spills => self.model.fresh() * 8 + 1,
            _ => self.model.fresh() * 8 + kind,
        }
    }

    fn fault(&mut self, vpn: Vpn) -> Fault {
        let mut work = self.spare.pop().unwrap_or_default();
        let fault = self.engine.fault(&mut self.mmu, SPACE, vpn, &mut work);
        self.begin_if(fault == Fault::Job, work);
        self.met.no_frame += u64::from(fault == Fault::NoFrame);
        if let Fault::Halt(halt) = fault {
            self.fail(&format!("a fault halts: {halt:?}"));
        }
        fault
    }

    fn begin_if(&mut self, begun: bool, work: Work) {
        if begun {
            self.jobs.push(Flying::new(work));
            self.met.most_jobs = self.met.most_jobs.max(self.jobs.len());
        } else {
            self.spare.push(work);
        }
    }

    fn reclaim(&mut self, demand: Demand) -> Reclaim {
        let mut work = self.spare.pop().unwrap_or_default();
        let step = self.counted("reclaim", |engine, mmu| engine.reclaim(mmu, demand, &mut work));
        self.begin_if(step == Reclaim::Job, work);
        self.met.waited += u64::from(step == Reclaim::Waiting);
        match step {
            Reclaim::Stuck => self.fail("reclaim is stuck"),
            Reclaim::Waiting if self.jobs.is_empty() => self.fail("reclaim waits for no job"),
            _ => step,
        }
    }

    /// The next step of any job, if there is one.
    fn step_any_job(&mut self) {
        if self.jobs.is_empty() {
            return;
        }
        let at = self.rng.below(self.jobs.len() as u64) as usize;
        let job = &mut self.jobs[at];
        job.step = match (job.work.kind, job.step) {
            (_, Step::Ran(outcome)) => return self.finish(at, outcome),
            (JobKind::Write, Step::Begun) => {
                store::pack(&mut self.mmu.0, &mut job.work);
                Step::Packed
            }
            (JobKind::Write, Step::Packed) => return self.place(at),
            (JobKind::Write, Step::Placed) => Step::Ran(store::run_write(&mut self.mmu.0, &job.work)),
            (JobKind::Zero, _) => Step::Ran(store::run_zero(&mut self.mmu.0, &job.work)),
            (JobKind::Read, _) => Step::Ran(store::run_read(&mut self.mmu.0, &job.work, &mut job.staged)),
            (JobKind::Spill, _) => Step::Ran(store::run_spill(&mut self.mmu.0, &job.work)),
        };
        let fails = matches!(job.work.kind, JobKind::Write | JobKind::Spill);
        if fails && self.rng.below(100) == 0 {
            self.jobs[at].step = Step::Ran(Outcome::Failed);
        }
    }

    fn place(&mut self, at: usize) {
        let mut work = self.jobs.remove(at).work;
        let placed = self.counted("placing", |engine, mmu| engine.place(mmu, &mut work));
        match placed {
            Placed::Go => self.jobs.push(Flying { step: Step::Placed, ..Flying::new(work) }),
            Placed::Void | Placed::Refused => self.spare.push(work),
            Placed::Halt(halt) => self.fail(&format!("placing halts: {halt:?}")),
        }
    }

    fn finish(&mut self, at: usize, outcome: Outcome) {
        let Flying { work, staged, .. } = self.jobs.remove(at);
        self.mmu.0.staged = staged;
        let ended = self.counted("the end of a job", |engine, mmu| {
            engine.finish(mmu, work.ticket, outcome, &work.packed)
        });
        assert_eq!(ended, Ok(()), "{}, seed {}", self.setup.name, self.seed);
        self.mmu.0.staged.clear();
        self.met.failed += u64::from(outcome == Outcome::Failed);
        self.spare.push(work);
        self.open_file();
    }

    /// Reclaims until the fault at `vpn` that found no frame is answered, while the program goes on.
    fn reclaim_for(&mut self, vpn: Vpn) {
        let most_jobs = 1 + self.rng.below(20) as usize;
        let goes_on = self.rng.chance(50);
        for _ in 0..PATIENCE {
            match self.rng.below(8) {
                0..3 if self.jobs.len() < most_jobs => {
                    let demand = self.rng.below(3) as usize;
                    self.reclaim([Demand::Direct, Demand::Behind, Demand::Store][demand]);
                }
                3 => {
                    let pages = 1 + self.rng.below(40) as u32;
                    self.counted("moving out behind", |engine, mmu| engine.move_out_behind(mmu, pages));
                }
                4 if goes_on => {
                    let vpn = self.any_page();
                    self.touch(vpn);
                }
                5 if self.rng.chance(10) => {
                    if !matches!(self.fault(vpn), Fault::NoFrame) {
                        return;
                    }
                }
                _ => self.step_any_job(),
            }
        }
        self.fail("reclaim finds no frame")
    }

    /// The grant falls, and reclaim alone, with every job that it begins, brings what is charged below it.
    fn shrink(&mut self) {
        self.engine.set_grant(self.setup.grant * 3 / 5);
        self.engine.set_division(1 + self.rng.below(19) as u32);
        for _ in 0..PATIENCE {
            if self.reclaim(Demand::Behind) == Reclaim::Idle && self.jobs.is_empty() {
                let over = self.engine.frames_charged() > self.engine.grant();
                assert!(!over, "{}, seed {}: reclaim is idle and over", self.setup.name, self.seed);
                self.engine.set_grant(self.setup.grant);
                return;
            }
            (0..self.rng.below(8)).for_each(|_| self.step_any_job());
        }
        self.fail("reclaim goes on without end")
    }

    fn check(&self) {
        let name = self.setup.name;
        self.engine.validate().unwrap_or_else(|why| panic!("{name}, seed {}: {why}", self.seed));
        self.model.check(&self.mmu.0).unwrap_or_else(|why| panic!("{name}, seed {}: {why}", self.seed));
    }

    fn live(mut self) -> Met {
        for _ in 0..CYCLES {
            let vpn = self.fill();
            self.check();
            self.reclaim_for(vpn);
            self.check();
            self.shrink();
            self.check();
        }
        let stats = self.engine.stats();
        self.met.written = stats.swap_outs.iter().sum();
        self.met.spilled = stats.pages_spilled;
        self.met.rescued = stats.rescues.iter().sum();
        self.met.same = stats.pages_same;
        self.met
    }
}

fn many_seeds(setup: Setup) {
    let mut all = Met::default();
    for seed in 0..SEEDS {
        let met = Run::new(setup, seed).live();
        all.verbs += met.verbs;
        all.no_frame += met.no_frame;
        all.written += met.written;
        all.spilled += met.spilled;
        all.failed += met.failed;
        all.rescued += met.rescued;
        all.waited += met.waited;
        all.same += met.same;
        all.most_jobs = all.most_jobs.max(met.most_jobs);
    }
    println!("{}: {SEEDS} seeds met {all:?}", setup.name);
    let Met { written, failed, rescued, waited, spilled, same, .. } = all;
    assert!([written, failed, rescued].iter().all(|&n| n > 20), "too little was met: {all:?}");
    // Larger folios are too few for that.
    let base = matches!(setup.policy, PolicyKind::Fixed(Order::BASE));
    assert!(!base || waited > 20, "reclaim never had as many jobs as there are records: {all:?}");
    assert!(!setup.spills || spilled.min(same) > 20, "too little was met of the file: {all:?}");
}

#[test]
fn base_pages() {
    many_seeds(Setup { name: "4K", policy: fixed(0), grant: 60, spills: false });
}

#[test]
fn base_pages_with_a_spill_file() {
    many_seeds(Setup { name: "4K, spill file", policy: fixed(0), grant: 60, spills: true });
}

#[test]
fn folios_of_16k() {
    many_seeds(Setup { name: "16K", policy: fixed(2), grant: 400, spills: false });
}

#[test]
fn folios_of_64k_with_a_spill_file() {
    many_seeds(Setup { name: "64K, spill file", policy: fixed(4), grant: 1600, spills: true });
}

#[test]
fn adaptive_with_a_spill_file() {
    many_seeds(Setup {
        name: "adaptive, spill file",
        policy: PolicyKind::Adaptive,
        grant: 400,
        spills: true,
    });
}

#[test]
fn the_counter_counts() {
    let counted = measure(|| drop(std::hint::black_box(Vec::<u8>::with_capacity(1))));
    assert_eq!(counted.count_total, 1);
    assert_eq!(measure(|| uncounted(|| drop(std::hint::black_box(Box::new(1))))).count_total, 0);
}
