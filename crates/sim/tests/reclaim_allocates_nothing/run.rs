//! One seed of a setup: a pager and the programs of its family, of which every verb of reclaim is counted.

use crate::quiet::{Quiet, QuietBytes};
use allocation_counter::measure;
use quire_core::job::{JobKind, Outcome, Work};
use quire_core::mmu::Prot;
use quire_core::{
    Config, Engine, Fault, Frame, Order, PageRange, PageState, PolicyKind, Reclaim, Space, Store, Urgency,
    Vpn,
};
use quire_sim::rng::Rng;
use quire_sim::waiters::Message;
use quire_sim::world::{Flying, SPACE, Step};
use quire_sim::{Access, Model, Pte, SimMmu, store};

/// Times that memory is filled in each seed.
const CYCLES: u32 = 8;
/// Steps within which memory must be filled, or reclaim be done.
const MOST_STEPS: u32 = 20_000;
/// More than there are pages to store, if each takes one.
const FILE_BYTES: u64 = 256 << 20;
/// Processes at a time.
const MOST_SPACES: usize = 4;
/// What is vacated now and then beside what the engine vacates of itself.
const VACATED: Order = Order::fitting(16);

#[derive(Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) name: &'static str,
    pub(crate) policy: PolicyKind,
    pub(crate) grant: u32,
    /// With a spill file contents may not compress.
    pub(crate) spills: bool,
    /// Processes fork and exit, so that folios are shared.
    pub(crate) forks: bool,
    /// In between, and not counted, folios are split and collapsed, and frames vacated.
    pub(crate) tends: bool,
}

/// What was met in all seeds of a setup.
#[derive(Default, Debug)]
pub(crate) struct Met {
    pub(crate) verbs: u64,
    pub(crate) no_frame: u64,
    pub(crate) written: u64,
    pub(crate) spilled: u64,
    pub(crate) failed: u64,
    pub(crate) rescued: u64,
    pub(crate) waited: u64,
    pub(crate) same: u64,
    pub(crate) most_jobs: usize,
    pub(crate) forks: u64,
    pub(crate) adopted: u64,
    /// Pages that verbs which were counted have unmapped of what is shared, and mapped.
    pub(crate) unmapped: u64,
    pub(crate) mapped: u64,
    pub(crate) sparse: u64,
    pub(crate) collapsed: u64,
    pub(crate) compacted: u64,
}

impl Met {
    pub(crate) fn add(&mut self, other: &Met) {
        self.verbs += other.verbs;
        self.no_frame += other.no_frame;
        self.written += other.written;
        self.spilled += other.spilled;
        self.failed += other.failed;
        self.rescued += other.rescued;
        self.waited += other.waited;
        self.same += other.same;
        self.most_jobs = self.most_jobs.max(other.most_jobs);
        self.forks += other.forks;
        self.adopted += other.adopted;
        self.unmapped += other.unmapped;
        self.mapped += other.mapped;
        self.sparse += other.sparse;
        self.collapsed += other.collapsed;
        self.compacted += other.compacted;
    }
}

pub(crate) struct Run {
    setup: Setup,
    seed: u64,
    engine: Engine,
    mmu: Quiet,
    model: Model,
    jobs: Vec<Flying>,
    spare: Vec<Work>,
    rng: Rng,
    /// The processes, the oldest first.
    spaces: Vec<Space>,
    epoch: u32,
    files: u16,
    met: Met,
}

impl Run {
    pub(crate) fn new(setup: Setup, seed: u64) -> Run {
        let Setup { policy, grant, .. } = setup;
        let mut mmu = SimMmu::new(2 * grant);
        let arena = PageRange::new(SPACE, Vpn(0), u64::from(grant) * 3);
        mmu.map(arena, Prot::NONE, true);
        mmu.store = Store::new(4 * grant, 16, grant);
        let mut mmu = Quiet::new(mmu);
        let mut engine = Engine::new(Config { frames: 2 * grant, grant, policy });
        assert_eq!(engine.map_range(&mut mmu, arena, Prot::READ_WRITE), Ok(()));
        let (model, rng) = (Model::default(), Rng::new(seed));
        let (jobs, spare, met) = (Vec::new(), Vec::new(), Met::default());
        let mut run = Run {
            setup,
            seed,
            engine,
            mmu,
            model,
            jobs,
            spare,
            rng,
            spaces: vec![SPACE],
            epoch: 0,
            files: 0,
            met,
        };
        run.open_file();
        run
    }

    fn open_file(&mut self) {
        if self.setup.spills && !self.mmu.sim.store.figures().has_file {
            self.mmu.sim.store.open_file(self.files, FILE_BYTES);
            self.engine.try_unstorable();
            self.files += 1;
        }
    }

    /// A verb of reclaim: it must not allocate.
    fn counted<T>(&mut self, what: &str, verb: impl FnOnce(&mut Engine, &mut Quiet) -> T) -> T {
        let mut answer = None;
        let (unmapped, mapped) = (self.mmu.unmapped, self.mmu.mapped);
        let counted = measure(|| answer = Some(verb(&mut self.engine, &mut self.mmu)));
        let (name, seed) = (self.setup.name, self.seed);
        assert_eq!(counted.count_total, 0, "{name}, seed {seed}: {what} allocates: {counted:?}");
        self.met.verbs += 1;
        self.met.unmapped += self.mmu.unmapped - unmapped;
        self.met.mapped += self.mmu.mapped - mapped;
        answer.expect("the verb was called")
    }

    fn fail(&self, why: &str) -> ! {
        panic!("{}, seed {}: {why}; {:?}", self.setup.name, self.seed, self.met);
    }

    /// Touches pages until a fault finds no frame. Jobs under way are left there most of the time.
    fn fill(&mut self) -> Message {
        self.open_file();
        for _ in 0..MOST_STEPS {
            match self.rng.below(100) {
                0..20 => self.step_any_job(),
                20 if self.setup.tends => self.tend(),
                21 if self.setup.forks => self.fork(),
                22 => self.adopt(),
                _ => {}
            }
            if let Some((message, Fault::NoFrame)) = self.touch_any_page() {
                return message;
            }
        }
        self.fail("memory is never full")
    }

    /// Any process forks, if there are not too many. That is no verb of reclaim, and may allocate.
    fn fork(&mut self) {
        let parent = self.any_space();
        if self.spaces.len() == MOST_SPACES {
            return;
        }
        match self.engine.fork(&mut self.mmu, parent) {
            Ok(child) => {
                self.model.fork(parent, child);
                self.spaces.push(child);
                self.met.forks += 1;
            }
            Err(refusal) => self.fail(&format!("a fork is refused: {refusal:?}")),
        }
    }

    /// Some pages that are empty are the program's all at once, whatever the grant, and adopted: no verb of reclaim.
    fn adopt(&mut self) {
        let range = PageRange::new(self.any_space(), Vpn(self.rng.below(u64::from(self.setup.grant) * 3)), 8);
        let most = Order::fitting(1 << self.rng.below(4));
        let empty = |vpn: &u64| self.engine.page_state(range.space, Vpn(*vpn)) == PageState::Empty;
        let empty = (range.start.0..range.end().0).take_while(empty).count() as u64;
        let adopted = self.engine.adopt(&mut self.mmu, range, most);
        for vpn in (range.start.0..range.start.0 + adopted).map(Vpn) {
            let value = self.contents();
            self.mmu.sim.tables(range.space).put(vpn.0, Pte::page(value));
            self.model.write(range.space, vpn, value);
        }
        if adopted > empty {
            self.fail("what is not empty is adopted");
        }
        self.met.adopted += adopted;
    }

    /// Any process but the last exits: no verb of reclaim either.
    fn exit(&mut self) {
        if self.spaces.len() > 1 {
            let at = self.rng.below(self.spaces.len() as u64) as usize;
            let space = self.spaces.remove(at);
            self.engine.exit(&mut self.mmu, space);
            self.model.exit(space);
        }
    }

    /// The pager's work of an epoch, and any run of frames vacated. Nobody waits for it, so it may allocate: records of
    /// frames that were never used, and the list of those put aside.
    fn tend(&mut self) {
        self.epoch += 1;
        let bites = (0..MOST_STEPS).take_while(|_| self.engine.tend(&mut self.mmu, self.epoch)).count();
        if bites == MOST_STEPS as usize {
            self.fail("the work of an epoch has no end");
        }
        let runs = u64::from(2 * self.setup.grant / VACATED.pages());
        let run = Frame(self.rng.below(runs) as u32 * VACATED.pages());
        self.engine.vacate(&mut self.mmu, run, VACATED);
    }

    fn any_space(&mut self) -> Space {
        self.spaces[self.rng.below(self.spaces.len() as u64) as usize]
    }

    /// Any process writes or reads any page; where that faults, the message and its answer. Half of all touches meet a
    /// few pages.
    fn touch_any_page(&mut self) -> Option<(Message, Fault)> {
        let space = self.any_space();
        let grant = u64::from(self.setup.grant);
        let among = if self.rng.chance(50) { grant / 2 } else { grant * 3 };
        let vpn = Vpn(self.rng.below(among));
        let value = self.rng.chance(50).then(|| self.contents());
        let access = match value {
            Some(value) => self.mmu.sim.touch_write(space, vpn, value),
            None => self.mmu.sim.touch_read(space, vpn),
        };
        match (access, value) {
            (Access::Hit(_), Some(value)) => self.model.write(space, vpn, value),
            (Access::Hit(found), None) => self.model.read(space, vpn, found).expect("what was written last"),
            (Access::Fault, _) => {
                let message = Message { space, vpn, write: value.is_some() };
                return Some((message, self.fault(message)));
            }
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

    fn fault(&mut self, message: Message) -> Fault {
        let Message { space, vpn, write } = message;
        let mut work = self.spare.pop().unwrap_or_default();
        let fault = match write {
            true => self.engine.write_fault(&mut self.mmu, space, vpn, &mut work),
            false => self.engine.fault(&mut self.mmu, space, vpn, &mut work),
        };
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

    fn reclaim(&mut self, urgency: Urgency) -> Reclaim {
        let mut work = self.spare.pop().unwrap_or_default();
        let step = self.counted("reclaim", |engine, mmu| engine.reclaim(mmu, urgency, &mut work));
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
            (JobKind::Write, Step::Begun | Step::Looked) => {
                store::pack(&mut self.mmu.sim, &mut job.work);
                Step::Packed
            }
            (JobKind::Write, Step::Packed) => return self.place(at),
            (JobKind::Write, Step::Placed) => Step::Ran(store::run_write(&mut self.mmu.sim, &job.work)),
            (JobKind::Zero, _) => Step::Ran(store::run_zero(&mut self.mmu.sim, &job.work)),
            (JobKind::Read, _) => {
                self.mmu.sim.store.sources(&mut job.work);
                Step::Ran(store::run_read(&mut self.mmu.sim, &job.work, &mut job.staged))
            }
            (JobKind::Spill, _) => Step::Ran(store::run_spill(&mut self.mmu.sim, &job.work)),
        };
        let fails = matches!(job.work.kind, JobKind::Write | JobKind::Spill);
        if fails && self.rng.below(100) == 0 {
            self.jobs[at].step = Step::Ran(Outcome::Failed);
        }
    }

    fn place(&mut self, at: usize) {
        let mut work = self.jobs.remove(at).work;
        let placed = self.counted("placing", |engine, mmu| {
            engine.wants(work.ticket) && mmu.sim.store.place(&mut QuietBytes(&mut mmu.sim.bytes), &mut work)
        });
        let step = if placed { Step::Placed } else { Step::Ran(Outcome::Refused) };
        self.jobs.push(Flying { step, ..Flying::new(work) });
    }

    fn finish(&mut self, at: usize, outcome: Outcome) {
        let Flying { mut work, staged, .. } = self.jobs.remove(at);
        self.mmu.sim.staged = staged;
        let ended = self.counted("the end of a job", |engine, mmu| {
            let mut memory = QuietBytes(&mut mmu.sim.bytes);
            match work.kind {
                JobKind::Spill => {
                    return {
                        mmu.sim.store.spilled(&mut memory, &work, outcome);
                        Ok(())
                    };
                }
                JobKind::Write if outcome != Outcome::Refused => {
                    mmu.sim.store.written(&mut memory, &mut work, outcome);
                }
                JobKind::Write | JobKind::Read | JobKind::Zero => {}
            }
            engine.finish(mmu, &work, outcome)
        });
        assert_eq!(ended, Ok(()), "{}, seed {}", self.setup.name, self.seed);
        self.mmu.sim.staged.clear();
        self.met.failed += u64::from(outcome == Outcome::Failed);
        self.spare.push(work);
        self.open_file();
    }

    /// Reclaims until the fault that found no frame is answered, while the programs go on.
    fn reclaim_for(&mut self, message: Message) {
        let most_jobs = 1 + self.rng.below(20) as usize;
        let goes_on = self.rng.chance(50);
        for _ in 0..MOST_STEPS {
            match self.rng.below(8) {
                0..3 if self.jobs.len() < most_jobs => {
                    let urgency = self.rng.below(3) as usize;
                    self.reclaim([Urgency::Direct, Urgency::Behind, Urgency::StoreOnly][urgency]);
                }
                3 => {
                    let pages = 1 + self.rng.below(40) as u32;
                    self.counted("moving out behind", |engine, mmu| engine.move_out_behind(mmu, pages));
                }
                4 if goes_on => _ = self.touch_any_page(),
                5 if self.rng.chance(10) => {
                    if self.fault(message) != Fault::NoFrame {
                        return;
                    }
                }
                6 if self.setup.tends && self.rng.chance(5) => self.tend(),
                _ => self.step_any_job(),
            }
        }
        self.fail("reclaim finds no frame")
    }

    /// The grant falls, and reclaim alone, with every job that it begins, brings what is charged below it.
    fn shrink(&mut self) {
        self.engine.set_grant(self.setup.grant * 3 / 5);
        self.mmu.sim.store.set_division(1 + self.rng.below(19) as u32);
        for _ in 0..MOST_STEPS {
            if self.reclaim(Urgency::Behind) == Reclaim::Idle && self.jobs.is_empty() {
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
        self.engine
            .validate(&self.mmu.sim.store)
            .unwrap_or_else(|why| panic!("{name}, seed {}: {why}", self.seed));
        self.model.check(&self.mmu.sim).unwrap_or_else(|why| panic!("{name}, seed {}: {why}", self.seed));
    }

    /// A life of some cycles; what was met in it.
    pub(crate) fn live(mut self) -> Met {
        for _ in 0..CYCLES {
            let message = self.fill();
            self.check();
            self.reclaim_for(message);
            self.check();
            self.shrink();
            self.check();
            if self.rng.chance(50) {
                self.exit();
                self.check();
            }
        }
        let stats = self.engine.stats();
        assert_eq!(stats.adopted, self.met.adopted);
        self.met.written = stats.swap_outs.iter().sum();
        self.met.spilled = stats.pages_spilled;
        self.met.rescued = stats.rescues.iter().sum();
        self.met.same = stats.pages_same;
        self.met.sparse = stats.sparse_folios;
        self.met.collapsed = stats.collapses.iter().sum();
        self.met.compacted = stats.compacted_pages;
        self.met
    }
}
