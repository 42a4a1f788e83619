//! The engine's public verbs in any order, with arguments that no careful host would use: ranges far outside, of no
//! pages or of very many, tickets that ended long ago or never were, jobs that come back out of turn, fail, or come back
//! without having been run, limits that jump between nothing and everything, a spill file of no bytes, spaces that fork
//! and end at any time, runs to collapse and to vacate that are none, verbs refused on the way.
//!
//! Contents are not looked at (the random walks do that); nothing may panic, the invariants of what a verb wrote must hold
//! after it, all of them every [`FULL_EVERY`] verbs, and every verb ends. One number names a case: `QUIRE_SEED=n` begins with that one, `QUIRE_FUZZ_SECONDS=n` goes on for so
//! long, 5 s if not told. Ten minutes from a seed of today:
//!
//! ```text
//! QUIRE_FUZZ_SECONDS=600 QUIRE_SEED=$(date +%s) cargo test -p quire-sim --test fuzz_verbs -- --nocapture
//! ```

use quire_core::job::{JobKind, Outcome, Packed, Ticket, Work};
use quire_core::mmu::{Prot, Refusal};
use quire_core::vma::Hint;
use quire_core::{
    Audit, Config, Engine, Fault, Frame, Order, OrderSet, PageRange, PageState, PolicyKind, Reclaim, Shaping,
    Space, SplitMode, Store, Urgency, Vpn,
};
use quire_sim::rng::Rng;
use quire_sim::{Injection, Pte, SimMmu, Verb, store};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// The first space, which never ends.
const SPACE: Space = Space(0);
/// Spaces that fork out of each other, at the most.
const SPACES: usize = 4;
/// Pages of addresses that the host has registered.
const ARENA: u64 = 2048;
const VERBS_A_CASE: u64 = 400;
/// Verbs from one look at all tables to the next.
const FULL_EVERY: u64 = 100;
/// Cases after which everything must have been met.
const ENOUGH: u64 = 1000;

/// The engine, its tables, and the jobs that a host would have under way.
struct Fuzzed {
    engine: Engine,
    mmu: SimMmu,
    audit: Audit,
    spaces: Vec<Space>,
    epoch: u32,
    /// Where the program was last.
    last: PageRange,
    jobs: Vec<Work>,
    /// Tickets that were used, live or not.
    tickets: Vec<Ticket>,
    files: u16,
    met: Met,
}

/// What came of the verbs, so that a run that meets nothing is noticed.
#[derive(Default, Clone, Copy, Debug)]
struct Met {
    mapped: u64,
    jobs: u64,
    placed: u64,
    refused: u64,
    stale: u64,
    stuck: u64,
    halts: u64,
    forks: u64,
    collapsed: u64,
    vacated: u64,
    adopted: u64,
}

impl Met {
    fn add(&mut self, more: Met) {
        self.mapped += more.mapped;
        self.jobs += more.jobs;
        self.placed += more.placed;
        self.refused += more.refused;
        self.stale += more.stale;
        self.stuck += more.stuck;
        self.halts += more.halts;
        self.forks += more.forks;
        self.collapsed += more.collapsed;
        self.vacated += more.vacated;
        self.adopted += more.adopted;
    }

    fn all(&self) -> [u64; 11] {
        let Met { mapped, jobs, placed, refused, stale, stuck, halts, forks, collapsed, vacated, adopted } =
            *self;
        [mapped, jobs, placed, refused, stale, stuck, halts, forks, collapsed, vacated, adopted]
    }
}

fn policy(rng: &mut Rng) -> PolicyKind {
    match rng.below(5) {
        0 => PolicyKind::Adaptive,
        1 => PolicyKind::Fixed(Order::BASE),
        2 => PolicyKind::Fixed(order(rng)),
        3 => PolicyKind::Linux(OrderSet::only(order(rng)).with(order(rng))),
        _ => PolicyKind::HugeCoalesceBase,
    }
}

/// Also shapings that make no sense.
fn shaping(rng: &mut Rng) -> Shaping {
    let split = match rng.below(3) {
        0 => SplitMode::Base,
        1 => SplitMode::Uniform(order(rng)),
        _ => SplitMode::Buddy,
    };
    let [sparse, dense, window, cool] = [9, 9, 4, 5].map(|most| rng.below(most) as u32);
    Shaping { split, sparse, dense, window, cool, largest: order(rng) }
}

fn order(rng: &mut Rng) -> Order {
    Order::new(rng.below(10) as u8).unwrap_or(Order::BASE)
}

/// Mostly inside the arena and short; now and then anywhere.
fn range(rng: &mut Rng, space: Space) -> PageRange {
    if rng.chance(4) {
        let far = [0, 1, ARENA - 1, ARENA, ARENA + 7, 1 << 30, 1 << 35][rng.below(7) as usize];
        let pages = [0, 1, 511, 513, ARENA, 1 << 12][rng.below(6) as usize];
        return PageRange::new(space, Vpn(far), pages);
    }
    let start = rng.below(ARENA);
    let most = if rng.chance(10) { ARENA - start } else { (ARENA - start).min(40) };
    PageRange::new(space, Vpn(start), rng.below(most + 1))
}

/// What is mapped to begin with.
fn most_of_it() -> PageRange {
    PageRange::new(SPACE, Vpn(0), ARENA * 3 / 4)
}

fn prot(rng: &mut Rng) -> Prot {
    [Prot::NONE, Prot::READ, Prot::READ_WRITE, Prot::READ_WRITE][rng.below(4) as usize]
}

/// Any number, small ones and the largest more often.
fn pages(rng: &mut Rng) -> u32 {
    match rng.below(6) {
        0 => 0,
        1 => u32::MAX,
        2 => rng.below(8) as u32,
        _ => rng.below(1024) as u32,
    }
}

impl Fuzzed {
    fn new(rng: &mut Rng) -> Fuzzed {
        let frames = 1 + rng.below(700) as u32;
        let mut mmu = SimMmu::new(frames);
        mmu.map(PageRange::new(SPACE, Vpn(0), ARENA), Prot::NONE, true);
        let config = Config { frames, grant: rng.below(u64::from(frames) + 50) as u32, policy: policy(rng) };
        let (segments, segment_pages) = (rng.below(100) as u32, 2 + rng.below(7) as u32);
        mmu.store = Store::new(segments, segment_pages, config.grant);
        let mut engine = Engine::new(config);
        Fuzzed {
            audit: Audit::new(&mut engine),
            engine,
            mmu,
            spaces: vec![SPACE],
            epoch: 0,
            last: most_of_it(),
            jobs: Vec::new(),
            tickets: Vec::new(),
            files: 0,
            met: Met::default(),
        }
    }

    fn any_verb(&mut self, rng: &mut Rng) {
        match rng.below(45) {
            0..16 => self.faults(rng),
            16..24 => self.reclaim(rng),
            24..32 => self.come_back(rng),
            32 => self.limits(rng),
            33 => self.refuse(rng),
            34 if rng.chance(10) => self.fork_process(),
            35 => self.come_back_stale(rng),
            36..39 => self.shape(rng),
            39 => self.space_comes_or_goes(rng),
            40 => self.look(rng),
            41 => self.adopt(rng),
            _ => self.program(rng),
        }
    }

    /// Checks what the last verb wrote, and everything if `whole`.
    fn check(&mut self, whole: bool) -> Result<(), String> {
        let store = &self.mmu.store;
        self.audit.check(&mut self.engine, store, [])?;
        if whole {
            self.audit.compare(&self.engine).and_then(|()| self.engine.validate(store))
        } else {
            Ok(())
        }
    }

    fn space(&self, rng: &mut Rng) -> Space {
        self.spaces[rng.below(self.spaces.len() as u64) as usize]
    }

    fn range(&self, rng: &mut Rng) -> PageRange {
        let space = self.space(rng);
        range(rng, space)
    }

    fn begin(&mut self, begun: bool, work: Work) {
        if begun {
            self.met.jobs += 1;
            self.tickets.push(work.ticket);
            self.jobs.push(work);
        }
    }

    /// One page, or some in a row.
    fn faults(&mut self, rng: &mut Rng) {
        let range = self.range(rng);
        let pages = if rng.chance(10) { range.pages.clamp(1, 16) } else { 1 };
        (0..pages).for_each(|i| self.fault(rng, range.space, range.start.plus(i)));
        self.last = range;
    }

    fn fault(&mut self, rng: &mut Rng, space: Space, start: Vpn) {
        let mut work = Work::new();
        let fault = match rng.below(3) {
            0 => self.engine.write_fault(&mut self.mmu, space, start, &mut work),
            _ => self.engine.fault(&mut self.mmu, space, start, &mut work),
        };
        self.touch(rng, space, start);
        self.met.mapped += u64::from(fault == Fault::Mapped);
        self.met.halts += u64::from(matches!(fault, Fault::Halt(_)));
        self.begin(fault == Fault::Job, work);
    }

    /// The program goes on, if it can, and its pages say so.
    fn touch(&mut self, rng: &mut Rng, space: Space, vpn: Vpn) {
        match rng.below(3) {
            0 => _ = self.mmu.touch_read(space, vpn),
            1 => _ = self.mmu.touch_write(space, vpn, 1 + rng.below(8)),
            _ => (),
        }
    }

    fn reclaim(&mut self, rng: &mut Rng) {
        let mut work = Work::new();
        if rng.chance(10) {
            let begun = self.engine.zero_ahead(&mut self.mmu, pages(rng), order(rng), &mut work);
            return self.begin(begun, work);
        }
        if rng.chance(10) {
            self.engine.move_out_behind(&mut self.mmu, rng.below(600) as u32);
            return;
        }
        let urgency = [Urgency::Behind, Urgency::StoreOnly, Urgency::Direct][rng.below(3) as usize];
        let step = self.engine.reclaim(&mut self.mmu, urgency, &mut work);
        self.met.stuck += u64::from(step == Reclaim::Stuck);
        self.begin(step == Reclaim::Job, work);
    }

    /// A job comes back, in any state; or one that is not under way.
    fn come_back(&mut self, rng: &mut Rng) {
        if self.jobs.is_empty() {
            return;
        }
        let at = rng.below(self.jobs.len() as u64) as usize;
        let mut work = self.jobs.swap_remove(at);
        let mut outcome = match rng.below(10) {
            0 => Outcome::Failed,
            1 => Outcome::Corrupt,
            _ => Outcome::Done,
        };
        if work.kind == JobKind::Write {
            let hash = u128::from(rng.any());
            self.mmu.store.known(&mut work);
            work.packed = work.known.iter().map(|known| packed(rng, known.is_some(), hash)).collect();
            if self.mmu.store.place(&mut self.mmu.bytes, &mut work) {
                self.met.placed += 1;
            } else {
                outcome = Outcome::Refused;
            }
        }
        let result = store::finish(&mut self.engine, &mut self.mmu, &mut work, outcome);
        self.met.halts += u64::from(result.is_err());
    }

    fn come_back_stale(&mut self, rng: &mut Rng) {
        let live: Vec<Ticket> = self.jobs.iter().map(|work| work.ticket).collect();
        let ticket = match self.tickets.is_empty() {
            false => self.tickets[rng.below(self.tickets.len() as u64) as usize],
            true => Ticket(rng.any()),
        };
        if live.contains(&ticket) {
            return;
        }
        self.met.stale += 1;
        let work = Work { ticket, kind: JobKind::Write, ..Work::new() };
        let result = self.engine.finish(&mut self.mmu, &work, Outcome::Corrupt);
        assert!(result.is_ok(), "a ticket that ended stops the engine: {result:?}");
    }

    fn limits(&mut self, rng: &mut Rng) {
        match rng.below(8) {
            0 | 1 => self.engine.set_grant(pages(rng)),
            2 => _ = self.engine.set_overhead(rng.below(2000) as u32),
            3 => self.mmu.store.set_division(pages(rng)),
            4 => self.engine.set_policy(policy(rng)),
            5 => _ = self.engine.overdraw(rng.below(100) as u32),
            6 => self.mmu.store.note_read(rng.any() >> rng.below(64)),
            _ => {
                self.mmu.store.open_file(self.files, rng.any() >> (20 + rng.below(44)));
                self.engine.try_unstorable();
                self.files += 1;
            }
        }
    }

    fn refuse(&mut self, rng: &mut Rng) {
        let verbs = [Verb::Discard, Verb::Protect, Verb::Lock, Verb::MoveIn, Verb::MoveOut, Verb::CopyIn];
        let verb = [verbs.as_slice(), &[Verb::Unshare, Verb::Remap]].concat()[rng.below(8) as usize];
        let refusals = [Refusal::Busy, Refusal::Denied, Refusal::NoMemory, Refusal::Again];
        let refusal = refusals[rng.below(4) as usize];
        self.mmu.injector.clear();
        self.mmu.inject(Injection::next(verb, refusal).after(rng.below(5) as u32));
    }

    fn shape(&mut self, rng: &mut Rng) {
        match rng.below(8) {
            0..4 => {
                self.epoch = self.epoch.wrapping_add(rng.below(3) as u32);
                self.engine.tend(&mut self.mmu, self.epoch);
            }
            4 | 5 => {
                let order = if rng.chance(20) { order(rng) } else { Order::fitting(1 << rng.below(4)) };
                let PageRange { space, start, .. } = self.last;
                let start = if rng.chance(90) { Vpn(order.align_down(start.0)) } else { start };
                self.met.collapsed += u64::from(self.engine.collapse(&mut self.mmu, space, start, order));
            }
            6 => {
                let (start, goal) = (Frame(pages(rng)), order(rng));
                let start =
                    if rng.chance(90) { Frame(goal.align_down(start.0.into()) as u32) } else { start };
                self.met.vacated += u64::from(self.engine.vacate(&mut self.mmu, start, goal));
            }
            _ => self.engine.set_shaping(shaping(rng)),
        }
    }

    fn space_comes_or_goes(&mut self, rng: &mut Rng) {
        let one = self.space(rng);
        if self.spaces.len() < SPACES && rng.chance(60) {
            if let Ok(child) = self.engine.fork(&mut self.mmu, one) {
                self.spaces.push(child);
                self.met.forks += 1;
            }
        } else if one != SPACE {
            self.spaces.retain(|&space| space != one);
            self.engine.exit(&mut self.mmu, one);
            self.last = most_of_it();
            if rng.chance(10) {
                self.engine.exit(&mut self.mmu, one);
            }
        }
    }

    /// Whoever asks gets an answer, and what is asked changes nothing.
    fn look(&mut self, rng: &mut Rng) {
        let PageRange { space, start, .. } = self.range(rng);
        let (engine, frame) = (&mut self.engine, Frame(pages(rng)));
        match rng.below(6) {
            0 => _ = engine.smaps(&self.mmu, space).map(|usage| usage.stored).sum::<u64>(),
            1 => {
                let named = engine.rmap(frame).iter().all(|mapping| self.spaces.contains(&mapping.space));
                assert!(named && engine.mapcount(frame) as usize <= self.spaces.len(), "{frame:?}");
            }
            2 => _ = (engine.page_state(space, start), engine.folio_order(space, start)),
            3 => _ = engine.whereabouts(space, start),
            4 => engine.set_log(rng.below(100) as usize),
            _ => _ = engine.log_from(rng.any() >> rng.below(64)).count(),
        }
    }

    /// Pages that are there are adopted; now and then also some that are not, as of a program that did not stand still.
    fn adopt(&mut self, rng: &mut Rng) {
        let (range, most) = (self.range(rng), order(rng));
        let there = if rng.chance(80) { range.end().0.min(ARENA) } else { 0 };
        for vpn in (range.start.0..there).map(Vpn) {
            if self.engine.page_state(range.space, vpn) == PageState::Empty {
                self.mmu.tables(range.space).put(vpn.0, Pte::page(1 + rng.below(8)));
            }
        }
        let adopted = self.engine.adopt(&mut self.mmu, range, most);
        assert!(adopted <= range.pages, "{adopted} pages of {range:?} are adopted");
        self.met.adopted += adopted;
        self.last = range;
    }

    /// A fork's two halves, of a process with an engine of its own.
    fn fork_process(&mut self) {
        if self.spaces != [SPACE] || self.engine.shares() {
            return;
        }
        if let Ok(true) = self.engine.fork_prepare(&mut self.mmu) {
            self.met.forks += 1;
            self.engine.set_evicts(false);
            self.engine.set_evicts(true);
        }
    }

    fn program(&mut self, rng: &mut Rng) {
        let (at, engine, mmu) = (self.range(rng), &mut self.engine, &mut self.mmu);
        let result = match rng.below(16) {
            0..4 => engine.map_range(mmu, at, prot(rng)),
            4 => engine.unmap(mmu, at),
            5 => engine.discard_step(mmu, at).map(|_| ()),
            6 => engine.protect(mmu, at, prot(rng)),
            7 => engine.lock(mmu, at, rng.chance(30)),
            8 => engine.remap(mmu, at, Vpn(rng.below(ARENA + 10))),
            9 => engine.tag(mmu, at, rng.below(3) as u32),
            10 => {
                let hints = [Hint::Normal, Hint::Sequential, Hint::Random, Hint::Huge, Hint::Base];
                engine.advise(at, hints[rng.below(5) as usize]);
                Ok(())
            }
            11 => {
                engine.deactivate(at);
                Ok(())
            }
            12 => {
                engine.page_out(mmu, at);
                Ok(())
            }
            13 => {
                engine.withdraw(mmu, at);
                Ok(())
            }
            14 => {
                let policy = if rng.chance(50) { Some(policy(rng)) } else { None };
                engine.set_policy_of(at, policy);
                Ok(())
            }
            _ => {
                let absent = engine.next_absent(at);
                assert!(absent.is_none_or(|vpn| vpn >= at.start && vpn < at.end()), "{absent:?} of {at:?}");
                Ok(())
            }
        };
        self.met.refused += u64::from(result.is_err());
    }
}

/// What a worker could have found. It knows of a copy only where there is one.
fn packed(rng: &mut Rng, known: bool, hash: u128) -> Packed {
    match rng.below(4) {
        0 if known => Packed::Same,
        1 => Packed::Zero,
        2 => Packed::Raw { hash },
        _ => Packed::Small { len: 1 + rng.below(4095) as u16, hash },
    }
}

thread_local! {
    static SEED: Cell<u64> = const { Cell::new(0) };
}

fn case(seed: u64) -> Met {
    SEED.set(seed);
    let mut rng = Rng::new(seed);
    let mut fuzzed = Fuzzed::new(&mut rng);
    _ = fuzzed.engine.map_range(&mut fuzzed.mmu, most_of_it(), Prot::READ_WRITE);
    for number in 0..VERBS_A_CASE {
        fuzzed.any_verb(&mut rng);
        let whole = number % FULL_EVERY == FULL_EVERY - 1;
        if let Err(why) = fuzzed.check(whole) {
            panic!("after verb {number}: {why}");
        }
    }
    fuzzed.met
}

#[expect(clippy::disallowed_methods, reason = "whoever runs the test decides")]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how long it goes on decides no case")]
fn no_order_of_verbs_breaks_the_tables() {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        eprintln!("again by QUIRE_FUZZ_SECONDS=0 QUIRE_SEED={}:", SEED.get());
        loud(info);
    }));
    let seconds = setting("QUIRE_FUZZ_SECONDS").unwrap_or(5);
    let first = setting("QUIRE_SEED").unwrap_or(0);
    let begin = Instant::now();
    let (mut cases, mut met) = (0, Met::default());
    while cases == 0 || begin.elapsed() < Duration::from_secs(seconds) {
        met.add(case(first + cases));
        cases += 1;
    }
    println!("{cases} cases of {VERBS_A_CASE} verbs from seed {first} in {seconds} s: {met:?}");
    assert!(cases < ENOUGH || met.all().iter().all(|&n| n > 0), "{cases} cases met only {met:?}");
}
