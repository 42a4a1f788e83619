//! The engine's public verbs in any order, with arguments that no careful host would use: ranges far outside, of no
//! pages or of very many, tickets that ended long ago or never were, jobs that come back out of turn, fail, or come back
//! without having been run, limits that jump between nothing and everything, a spill file of no bytes, verbs refused on
//! the way.
//!
//! Contents are not looked at (the random walks do that); nothing may panic, `validate` must hold after every verb, and
//! every verb ends. One number names a case: `QUIRE_SEED=n` begins with that one, `QUIRE_FUZZ_SECONDS=n` goes on for so
//! long, 5 s if not told. Ten minutes from a seed of today:
//!
//! ```text
//! QUIRE_FUZZ_SECONDS=600 QUIRE_SEED=$(date +%s) cargo test -p quire-sim --test fuzz_verbs -- --nocapture
//! ```

use quire_core::job::{JobKind, Outcome, Packed, Ticket, Work};
use quire_core::mmu::{Prot, Refusal};
use quire_core::vma::Hint;
use quire_core::{Config, Demand, Engine, Fault, Order, PageRange, Placed, PolicyKind, Reclaim, Space, Vpn};
use quire_sim::rng::Rng;
use quire_sim::{Injection, SimMmu, Verb};
use std::cell::Cell;
use std::time::{Duration, Instant};

const SPACE: Space = Space(0);
/// Pages of addresses that the host has registered.
const ARENA: u64 = 2048;
const VERBS_A_CASE: u64 = 400;
/// Cases after which everything must have been met.
const ENOUGH: u64 = 1000;

/// The engine, its tables, and the jobs that a host would have under way.
struct Fuzzed {
    engine: Engine,
    mmu: SimMmu,
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
    }

    fn all(&self) -> [u64; 8] {
        let Met { mapped, jobs, placed, refused, stale, stuck, halts, forks } = *self;
        [mapped, jobs, placed, refused, stale, stuck, halts, forks]
    }
}

fn policy(rng: &mut Rng) -> PolicyKind {
    match rng.below(3) {
        0 => PolicyKind::Adaptive,
        1 => PolicyKind::Fixed(Order::BASE),
        _ => PolicyKind::Fixed(order(rng)),
    }
}

fn order(rng: &mut Rng) -> Order {
    Order::new(rng.below(10) as u8).unwrap_or(Order::BASE)
}

/// Mostly inside the arena and short; now and then anywhere.
fn range(rng: &mut Rng) -> PageRange {
    if rng.chance(4) {
        let far = [0, 1, ARENA - 1, ARENA, ARENA + 7, 1 << 30, 1 << 35][rng.below(7) as usize];
        let pages = [0, 1, 511, 513, ARENA, 1 << 12][rng.below(6) as usize];
        return PageRange::new(SPACE, Vpn(far), pages);
    }
    let start = rng.below(ARENA);
    let most = if rng.chance(10) { ARENA - start } else { (ARENA - start).min(40) };
    PageRange::new(SPACE, Vpn(start), rng.below(most + 1))
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
        let config = Config {
            frames,
            spans: rng.below(40) as u32,
            grant: rng.below(u64::from(frames) + 50) as u32,
            policy: policy(rng),
        };
        let met = Met::default();
        Fuzzed { engine: Engine::new(config), mmu, jobs: Vec::new(), tickets: Vec::new(), files: 0, met }
    }

    fn any_verb(&mut self, rng: &mut Rng) {
        match rng.below(40) {
            0..16 => self.fault(rng),
            16..24 => self.reclaim(rng),
            24..32 => self.come_back(rng),
            32 => self.limits(rng),
            33 => self.refuse(rng),
            34 if rng.chance(10) => self.fork(),
            35 => self.come_back_stale(rng),
            _ => self.program(rng),
        }
    }

    fn begin(&mut self, begun: bool, work: Work) {
        if begun {
            self.met.jobs += 1;
            self.tickets.push(work.ticket);
            self.jobs.push(work);
        }
    }

    fn fault(&mut self, rng: &mut Rng) {
        let mut work = Work::new();
        let at = range(rng).start;
        let fault = self.engine.fault(&mut self.mmu, SPACE, at, &mut work);
        self.met.mapped += u64::from(fault == Fault::Mapped);
        self.met.halts += u64::from(matches!(fault, Fault::Halt(_)));
        self.begin(fault == Fault::Job, work);
    }

    fn reclaim(&mut self, rng: &mut Rng) {
        let mut work = Work::new();
        if rng.chance(10) {
            let begun = self.engine.zero_ahead(pages(rng), order(rng), &mut work);
            return self.begin(begun, work);
        }
        if rng.chance(10) {
            self.engine.move_out_behind(&mut self.mmu, rng.below(600) as u32);
            return;
        }
        let demand = [Demand::Behind, Demand::Store, Demand::Direct][rng.below(3) as usize];
        let step = self.engine.reclaim(&mut self.mmu, demand, &mut work);
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
        let outcome = match rng.below(10) {
            0 => Outcome::Failed,
            1 => Outcome::Corrupt,
            _ => Outcome::Done,
        };
        if work.kind == JobKind::Write {
            let hash = u128::from(rng.any());
            work.packed = work.known.iter().map(|known| packed(rng, known.is_some(), hash)).collect();
            match self.engine.place(&mut self.mmu, &mut work) {
                Placed::Go => self.met.placed += 1,
                _ => return,
            }
        }
        let result = self.engine.finish(&mut self.mmu, work.ticket, outcome, &work.packed);
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
        let mut work = Work { ticket, kind: JobKind::Write, ..Work::new() };
        assert!(
            self.engine.place(&mut self.mmu, &mut work) == Placed::Void,
            "a place for a ticket that ended"
        );
        let result = self.engine.finish(&mut self.mmu, ticket, Outcome::Corrupt, &[]);
        assert!(result.is_ok(), "a ticket that ended stops the engine: {result:?}");
    }

    fn limits(&mut self, rng: &mut Rng) {
        match rng.below(8) {
            0 | 1 => self.engine.set_grant(pages(rng)),
            2 => self.engine.set_overhead(rng.below(2000) as u32),
            3 => self.engine.set_division(pages(rng)),
            4 => self.engine.set_policy(policy(rng)),
            5 => _ = self.engine.overdraw(rng.below(100) as u32),
            6 => self.engine.note_read(rng.any() >> rng.below(64)),
            _ => {
                self.engine.open_spill_file(self.files, rng.any() >> (20 + rng.below(44)));
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

    /// A fork's two halves; the child goes on, as if it were the only process.
    fn fork(&mut self) {
        if let Ok(true) = self.engine.fork_prepare(&mut self.mmu) {
            self.met.forks += 1;
            self.engine.set_evicts(false);
            self.engine.set_evicts(true);
        }
    }

    fn program(&mut self, rng: &mut Rng) {
        let (at, engine, mmu) = (range(rng), &mut self.engine, &mut self.mmu);
        let result = match rng.below(14) {
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
                engine.cool(at);
                Ok(())
            }
            12 => {
                engine.page_out(mmu, at);
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
    let most = PageRange::new(SPACE, Vpn(0), ARENA * 3 / 4);
    _ = fuzzed.engine.map_range(&mut fuzzed.mmu, most, Prot::READ_WRITE);
    for number in 0..VERBS_A_CASE {
        fuzzed.any_verb(&mut rng);
        if let Err(why) = fuzzed.engine.validate() {
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
