//! A host for the engine: simulated tables, threads that touch pages, jobs that end in any order.
//!
//! [`Host`] does what a live host does, one step at a time: a message is read, and answered later; a writer reads its
//! frames, asks for places, stores, and comes back, each as a step of its own with anything in between. After each
//! [`Event`] everything that should hold is checked: the tables by `validate`, every page's contents wherever they
//! are against the model, and that no thread waits for something that will not come. A host that is watched
//! ([`Host::watch`]) has what the event touched checked, and everything now and then.

mod adopt;
mod ages;
mod check;
mod cover;
mod drain;
mod event;
mod jobs;
mod key;
mod recount;
mod seen;
mod verbs;
mod wakes;

pub use event::{Event, Put};
pub use jobs::{Flying, Step};

use crate::cells;
use crate::checker::Model;
use crate::mmu::{Access, SimMmu};
use crate::waiters::Message;
use ages::Ages;
use check::Watch;
use cover::Cover;
use quire_core::job::Work;
use quire_core::mmu::Prot;
use quire_core::{Config, Engine, Fault, Halt, PageRange, PolicyKind, Reclaim, Space, Store, Urgency, Vpn};
use recount::Recount;

/// The first space of a host; others are forked from it.
pub const SPACE: Space = Space(0);

/// Pages in a segment of the store in RAM: few, so that segments are closed, cleaned and emptied all the time.
pub(crate) const SEGMENT_PAGES: u32 = 2;

/// What a host is made with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Setup {
    /// Frames in the pool.
    pub frames: u32,
    /// Segments of the store in RAM, of two pages each.
    pub segments: u32,
    /// The grant, in pages.
    pub grant: u32,
    /// The order policy.
    pub policy: PolicyKind,
    /// Pages 0.. of the arena: mapped without access, registered with the pager.
    pub arena: u64,
    /// Threads of the program.
    pub threads: u8,
    /// Bytes of a spill file to begin with.
    pub spill: Option<u64>,
}

/// What a thread wants of the page it waits for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Touch {
    /// The page.
    pub vpn: Vpn,
    /// What it writes there; `None` for a read.
    pub put: Option<Put>,
}

/// How often something was checked that not every event lets be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Checks {
    /// Reclaim said that it was stuck, or waits for jobs, and every page was looked at for one that could be moved out.
    pub stuck: u64,
    /// A writer had its places when the last page that wanted what it stored was gone, or needed again.
    pub died: u64,
    /// What a job was to read was moved before it got there.
    pub moved: u64,
    /// A fork gave up since a copy was refused again and again.
    pub given_up: u64,
    /// A change of rights was refused or done as the VMAs say.
    pub gaps: u64,
}

/// An engine with all that it meets. See the module's text.
#[derive(Clone, Debug)]
pub struct Host {
    /// The engine.
    pub engine: Engine,
    /// The simulated tables and the stores.
    pub mmu: SimMmu,
    /// What the program should see.
    pub model: Model,
    /// Jobs under way, in no order.
    pub jobs: Vec<Flying>,
    /// Messages that a handler has read and not answered yet.
    pub held: Vec<Message>,
    /// Messages for which there was no frame.
    pub parked: Vec<Message>,
    /// What each thread waits for.
    pub threads: Vec<Option<Touch>>,
    /// The processes, in the order in which they began.
    pub spaces: Vec<Space>,
    /// The process that does what comes next.
    pub at: Space,
    /// Spill jobs that have ended well: the engine counts pages only.
    pub spill_jobs: u64,
    /// The epoch that it is for the engine.
    pub epoch: u32,
    /// Steps of the pager so far: answers to messages, steps of jobs and of reclaim.
    pub steps: u64,
    /// The process in which each thread touched last.
    places: Vec<Space>,
    setup: Setup,
    /// What jobs that have ended left behind: a worker uses its work again, whatever is in it.
    spare: Vec<Work>,
    /// Spill files opened so far.
    files: u16,
    /// It moves nothing out.
    keeps_all: bool,
    /// Checks made of what only some events answer.
    checks: Checks,
    /// What was looked at last, where not everything is checked after each event.
    watch: Option<Box<Watch>>,
    /// The engine's counters, where they are counted once more.
    recount: Option<Box<Recount>>,
    /// The lists before the event at hand, where they are held to their history.
    ages: Option<Box<Ages>>,
    /// What events have met, where that is counted.
    cover: Option<Box<Cover>>,
    /// Events that have happened.
    events: u64,
    /// Nothing can be stored; the overhead that was set before.
    full: Option<u32>,
    overhead: u32,
    /// The page that a thread or a message was about last.
    center: Vpn,
    /// The event after which what lasts is lifted.
    lifted: u64,
    /// Pages that have appeared and such that have left in the middle of a verb of the event at hand.
    appeared: Vec<(Space, Vpn)>,
    left: Vec<(Space, Vpn)>,
    /// The page of the last message that came late, and how many there were of it in a row.
    late: (Space, Vpn, u8),
}

impl Host {
    /// A host whose arena has nothing mapped.
    pub fn new(setup: Setup) -> Host {
        let Setup { frames, segments, grant, policy, .. } = setup;
        let mut mmu = SimMmu::new(frames);
        mmu.map(PageRange::new(SPACE, Vpn(0), setup.arena), Prot::NONE, true);
        mmu.store = Store::new(segments, SEGMENT_PAGES, grant);
        let mut host = Host {
            engine: Engine::new(Config { frames, grant, policy }),
            mmu,
            model: Model::default(),
            jobs: Vec::new(),
            held: Vec::new(),
            parked: Vec::new(),
            threads: vec![None; usize::from(setup.threads)],
            spaces: vec![SPACE],
            at: SPACE,
            spill_jobs: 0,
            epoch: 0,
            places: vec![SPACE; usize::from(setup.threads)],
            setup,
            spare: Vec::new(),
            files: 0,
            keeps_all: false,
            checks: Checks::default(),
            watch: None,
            recount: None,
            ages: None,
            cover: None,
            events: 0,
            full: None,
            overhead: 0,
            center: Vpn(0),
            lifted: 0,
            appeared: Vec::new(),
            left: Vec::new(),
            late: (SPACE, Vpn(0), 0),
            steps: 0,
        };
        if let Some(limit) = setup.spill {
            host.open_file(limit);
        }
        host
    }

    /// What it was made with.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The last decisions of the engine, a line each, if it keeps a log.
    pub fn decisions(&self) -> String {
        self.engine.log().map(|(number, decision)| format!("\n    {number:5}  {decision}")).collect()
    }

    /// How often that was checked which only some events let be.
    pub fn checks(&self) -> Checks {
        self.checks
    }

    /// Opens the next spill file.
    pub fn open_file(&mut self, limit: u64) {
        self.mmu.store.open_file(self.files, limit);
        self.engine.look_at_store(&mut self.mmu);
        self.engine.try_unstorable();
        self.files += 1;
    }

    /// A thread touches a page of the process at hand. What it finds there is compared with the model.
    pub fn touch(&mut self, thread: u8, touch: Touch) -> Result<(), String> {
        if self.mmu.waiters.waits(thread) {
            return Ok(());
        }
        self.places[usize::from(thread)] = self.at;
        self.touch_again(thread, touch)
    }

    fn touch_again(&mut self, thread: u8, touch: Touch) -> Result<(), String> {
        let space = self.places[usize::from(thread)];
        self.center = touch.vpn;
        self.touches(PageRange::new(space, touch.vpn, 1));
        self.threads[usize::from(thread)] = None;
        let value = touch.put.map(|put| put.value(&mut self.model));
        let access = match value {
            Some(value) => self.mmu.touch_write(space, touch.vpn, value),
            None => self.mmu.touch_read(space, touch.vpn),
        };
        match (access, value) {
            (Access::Hit(_), Some(value)) => self.model.write(space, touch.vpn, value),
            (Access::Hit(found), None) => {
                self.model.read(space, touch.vpn, found).map_err(|m| m.to_string())?;
            }
            (Access::Fault, _) => {
                self.threads[usize::from(thread)] = Some(touch);
                self.mmu.block(thread, space, touch.vpn, touch.put.is_some());
            }
            (Access::Segv, _) => {}
        }
        Ok(())
    }

    /// Threads that were woken try again at once.
    fn let_woken_run(&mut self) -> Result<(), String> {
        self.learn();
        self.judge_wakes(None)?;
        for thread in self.mmu.waiters.take_woken() {
            if let Some(touch) = self.threads[usize::from(thread)] {
                self.touch_again(thread, touch)?;
            }
        }
        Ok(())
    }

    /// The process at hand forks. Whether there is a child; the host goes on as the parent.
    pub fn fork_space(&mut self) -> bool {
        self.meets_all(cells::Event::ForkSpace, self.at);
        let forked = self.engine.fork(&mut self.mmu, self.at);
        self.mmu.injector.newborn = None;
        self.meets_fork(self.at, forked.is_ok());
        self.learn();
        let Ok(child) = forked else {
            self.checks.given_up += u64::from(self.has_given_up());
            return false;
        };
        self.model.fork(self.at, child);
        self.spaces.push(child);
        true
    }

    /// Process number `number` ends, with its threads. The first one goes on in its place if it was at hand.
    pub fn exit(&mut self, number: usize) {
        let space = self.spaces[number];
        self.meets_all(cells::Event::Exit, space);
        self.meets_only(|met| met.state.is_shared());
        self.forget_failures(space);
        self.spaces.remove(number);
        self.engine.exit(&mut self.mmu, space);
        self.model.exit(space);
        for (thread, place) in self.threads.iter_mut().zip(&self.places) {
            if *place == space {
                *thread = None;
            }
        }
        if self.at == space {
            self.at = self.spaces[0];
        }
    }

    /// A handler reads the message of a thread, if it has one that nobody has read.
    pub fn take_message(&mut self, thread: u8) {
        if let Some(message) = self.mmu.waiters.read(thread) {
            self.held.push(message);
        }
    }

    /// A handler answers a message.
    pub fn serve(&mut self, message: Message) -> Result<Fault, String> {
        let mut work = self.spare.pop().unwrap_or_default();
        self.begin_step();
        let Message { space, vpn, write } = message;
        let event = if write { cells::Event::Write } else { cells::Event::Fault };
        self.center = vpn;
        self.meets(event, PageRange::new(space, vpn, 1));
        self.touches(PageRange::new(space, vpn, 1));
        self.recount_message(message);
        self.ages_message(message);
        let before = *self.engine.stats();
        let fault = match write {
            true => self.engine.write_fault(&mut self.mmu, space, vpn, &mut work),
            false => self.engine.fault(&mut self.mmu, space, vpn, &mut work),
        };
        if self.engine.stats().late > before.late {
            let again = (self.late.0, self.late.1) == (space, vpn);
            self.late = (space, vpn, if again { self.late.2.saturating_add(1) } else { 1 });
        }
        self.check_fault(&before, fault, &work)?;
        if fault == Fault::Job {
            self.recount_fill(&work);
        }
        self.begin_if(fault == Fault::Job, work);
        if matches!(fault, Fault::Mapped | Fault::Outside) && self.mmu.waiters.any_at(space, vpn) {
            return Err(format!("a message about {vpn:?} was answered, and a thread waits for it still"));
        }
        match fault {
            Fault::NoFrame => self.parked.push(message),
            Fault::Halt(halt) => return Err(stopped(halt)),
            // It is answered before the page is looked at.
            Fault::Outside => self.meets_nothing(),
            Fault::Mapped | Fault::Job | Fault::Joined => {}
        }
        Ok(fault)
    }

    fn begin_step(&mut self) {
        self.steps += 1;
        self.mmu.injector.refused = 0;
    }

    fn begin_if(&mut self, begun: bool, work: Work) {
        if begun {
            let mut job = Flying::new(work);
            if self.cover.is_some() {
                job.pages = self.pages_of(&job.work);
            }
            self.jobs.push(job);
        } else {
            self.spare.push(work);
        }
    }

    /// One step of reclaim. Where it is stuck, nothing may be left that could be moved out.
    pub fn reclaim(&mut self, urgency: Urgency) -> Result<Reclaim, String> {
        let mut work = self.spare.pop().unwrap_or_default();
        self.begin_step();
        let before = self.meets_reclaim();
        self.recount_reclaim(urgency)?;
        let step = self.engine.reclaim(&mut self.mmu, urgency, &mut work);
        self.recount_reclaimed(step)?;
        self.meets_reclaimed(before, self.has_looked_at_all(step));
        self.begin_if(step == Reclaim::Job, work);
        match step {
            Reclaim::Waiting if self.jobs.is_empty() => {
                return Err("reclaim waits for a job, and none is under way".into());
            }
            Reclaim::Stuck if !self.jobs.is_empty() => {
                return Err("reclaim is stuck while jobs are under way".into());
            }
            step if self.has_looked_at_all(step) => self.check_stuck()?,
            Reclaim::Idle | Reclaim::Progress | Reclaim::Job | Reclaim::Waiting | Reclaim::Stuck => {}
        }
        Ok(step)
    }
}

fn stopped(halt: Halt) -> String {
    format!("the engine stops: {halt:?}")
}
