//! Random walks of the engine: every event in every order, and after each one everything is checked.
//!
//! A failure prints the seed, the setup, and a list of events that still fails when any one of them is left out.
//! `QUIRE_SEEDS=n` walks n seeds of each setup, `QUIRE_SEED=n` only that one.

use quire_core::mmu::{Prot, Refusal};
use quire_core::vma::Hint;
use quire_core::{Decision, Demand, Frame, Order, OrderSet, PolicyKind, SplitMode, Vpn};
use quire_sim::world::{Put, Setup, Touch};
use quire_sim::{Event, Host, Injection, Verb};
use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::sync::Once;

thread_local! {
    /// While events are left out one by one, panics are no news.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

fn be_quiet_when_told() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                loud(info);
            }
        }));
    });
}

/// Splitmix: a counter, well mixed.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// What a walk may meet.
#[derive(Clone, Copy, Debug)]
struct Walk {
    name: &'static str,
    setup: Setup,
    events: usize,
    /// Seeds in CI. After every event every page is looked at, so that walks over many pages, or long ones, get fewer:
    /// all of them together take about a minute on two processors.
    seeds: u64,
    /// Verbs are refused, pages pinned.
    refusals: bool,
    /// The process forks.
    forks: bool,
    /// Contents that do not compress.
    raw: bool,
    /// Processes share the engine: they fork and exit.
    family: bool,
    /// The policy changes now and then.
    policies: bool,
}

const fn order(number: u8) -> Order {
    Order::fitting(1 << number)
}

const fn fixed(number: u8) -> PolicyKind {
    PolicyKind::Fixed(order(number))
}

/// Sizes as in Linux: 16K, 64K and 256K.
const LINUX: PolicyKind = PolicyKind::Linux(OrderSet::EMPTY.with(order(2)).with(order(4)).with(order(6)));

const POLICIES: [PolicyKind; 5] =
    [fixed(0), fixed(3), PolicyKind::Adaptive, LINUX, PolicyKind::HugeCoalesceBase];

const SMALL: Setup =
    Setup { frames: 24, spans: 16, grant: 24, policy: fixed(0), arena: 48, threads: 4, spill: None };

const WALKS: &[Walk] = &[
    Walk { name: "4K, tiny", setup: Setup { frames: 16, grant: 10, arena: 12, ..SMALL }, ..PLAIN },
    Walk {
        name: "4K, spill file",
        setup: Setup { grant: 27, spill: Some(1 << 20), ..SMALL },
        raw: true,
        events: 800,
        ..PLAIN
    },
    Walk { name: "16K", setup: Setup { frames: 64, grant: 40, policy: fixed(2), ..SMALL }, ..PLAIN },
    Walk {
        name: "16K, refusals, forks",
        setup: Setup { frames: 64, grant: 40, policy: fixed(2), ..SMALL },
        refusals: true,
        forks: true,
        raw: true,
        ..PLAIN
    },
    Walk {
        name: "64K, spill file, refusals",
        setup: Setup {
            frames: 160,
            grant: 67,
            policy: fixed(4),
            arena: 160,
            spill: Some(256 << 10),
            ..SMALL
        },
        refusals: true,
        raw: true,
        ..PLAIN
    },
    Walk {
        name: "adaptive, forks",
        setup: Setup { frames: 512, grant: 200, policy: PolicyKind::Adaptive, arena: 400, ..SMALL },
        forks: true,
        events: 900,
        seeds: 60,
        ..PLAIN
    },
    Walk {
        name: "adaptive, all",
        setup: Setup {
            frames: 256,
            grant: 54,
            policy: PolicyKind::Adaptive,
            arena: 128,
            spill: Some(1 << 18),
            ..SMALL
        },
        refusals: true,
        forks: true,
        raw: true,
        events: 900,
        ..PLAIN
    },
    Walk {
        name: "a family, 4K",
        setup: Setup { frames: 32, grant: 20, arena: 16, ..SMALL },
        family: true,
        events: 600,
        ..PLAIN
    },
    Walk {
        name: "a family, 16K, refusals",
        setup: Setup { frames: 80, grant: 50, policy: fixed(2), ..SMALL },
        family: true,
        refusals: true,
        forks: true,
        raw: true,
        events: 500,
        ..PLAIN
    },
    Walk {
        name: "a family, 64K, spill file",
        setup: Setup { frames: 200, grant: 90, policy: fixed(4), arena: 96, spill: Some(512 << 10), ..SMALL },
        family: true,
        raw: true,
        events: 900,
        seeds: 60,
        ..PLAIN
    },
    Walk {
        name: "a family, adaptive, all",
        setup: Setup {
            frames: 256,
            grant: 80,
            policy: PolicyKind::Adaptive,
            arena: 80,
            spill: Some(1 << 19),
            ..SMALL
        },
        family: true,
        refusals: true,
        forks: true,
        raw: true,
        events: 900,
        seeds: 70,
        ..PLAIN
    },
    Walk {
        name: "linux, refusals, forks",
        setup: Setup { frames: 256, grant: 80, policy: LINUX, arena: 160, ..SMALL },
        refusals: true,
        forks: true,
        events: 500,
        ..PLAIN
    },
    Walk {
        name: "huge-coalesce-base, spill file",
        setup: Setup {
            frames: 1280,
            grant: 640,
            policy: PolicyKind::HugeCoalesceBase,
            arena: 720,
            spill: Some(1 << 22),
            ..SMALL
        },
        raw: true,
        events: 300,
        seeds: 60,
        ..PLAIN
    },
    Walk {
        name: "policies that change",
        setup: Setup { frames: 256, grant: 80, arena: 200, spill: Some(1 << 20), ..SMALL },
        refusals: true,
        raw: true,
        policies: true,
        events: 600,
        ..PLAIN
    },
];

const PLAIN: Walk = Walk {
    name: "",
    setup: SMALL,
    events: 300,
    seeds: 130,
    refusals: false,
    forks: false,
    raw: false,
    family: false,
    policies: false,
};

fn any_prot(rng: &mut Rng) -> Prot {
    rng.pick(&[
        Prot::NONE,
        Prot::READ,
        Prot::READ_WRITE,
        Prot::READ_WRITE,
        Prot::READ_WRITE,
        Prot::READ_WRITE,
    ])
}

/// A page. Half of what happens meets a few of them, so that one thing meets another.
fn any_page(walk: &Walk, rng: &mut Rng) -> Vpn {
    let among = if rng.below(2) == 0 { walk.setup.arena } else { walk.setup.arena.min(10) };
    Vpn(rng.below(among))
}

/// A run of pages: mostly short, now and then of any length.
fn any_run(walk: &Walk, rng: &mut Rng) -> (Vpn, u64) {
    let start = any_page(walk, rng);
    let most = walk.setup.arena - start.0;
    let pages = if rng.below(3) == 0 { 1 + rng.below(most) } else { 1 + rng.below(most.min(20)) };
    (start, pages)
}

fn any_touch(walk: &Walk, rng: &mut Rng) -> Event {
    let thread = rng.below(4) as u8;
    let some = if walk.raw { Put::Any } else { Put::Small };
    let put = rng.pick(&[None, Some(some), Some(some), Some(Put::Zero)]);
    Event::Touch(thread, Touch { vpn: any_page(walk, rng), put })
}

/// A refusal that tells no lie: nothing is said to be absent or present that is not.
fn any_refusal(walk: &Walk, rng: &mut Rng) -> Event {
    let verb = rng.pick(&[
        Verb::Discard,
        Verb::Protect,
        Verb::Lock,
        Verb::MoveIn,
        Verb::MoveIn,
        Verb::MoveOut,
        Verb::MoveOut,
        Verb::CopyIn,
        Verb::Unshare,
        Verb::Remap,
    ]);
    let refusal = rng.pick(&[Refusal::Busy, Refusal::Denied, Refusal::NoMemory, Refusal::Again]);
    let verb = match walk.family && rng.below(3) == 0 {
        true => rng.pick(&[Verb::Share, Verb::MapShared, Verb::CopyOut, Verb::ForkSpace]),
        false => verb,
    };
    Event::Inject(Injection::next(verb, refusal).after(rng.below(6) as u32))
}

fn any_collapse(near: Vpn, rng: &mut Rng) -> Event {
    let order = order(1 + rng.below(3) as u8);
    Event::Collapse(Vpn(order.align_down(near.0)), order)
}

fn any_vacate(walk: &Walk, rng: &mut Rng) -> Event {
    let goal = order(1 + rng.below(4) as u8);
    // Slots beyond are hardly ever used.
    let runs = u64::from(walk.setup.frames.min(walk.setup.grant * 2) / goal.pages());
    Event::Vacate(Frame(rng.below(runs.max(1)) as u32 * goal.pages()), goal)
}

fn any_shape(rng: &mut Rng) -> Event {
    let mode = rng.pick(&[SplitMode::Base, SplitMode::Uniform(order(1)), SplitMode::Buddy, SplitMode::Buddy]);
    match rng.below(4) {
        0 => Event::Blind(rng.below(2) == 0),
        _ => Event::Shape(mode, order(rng.below(6) as u8)),
    }
}

fn any_grant(walk: &Walk, rng: &mut Rng) -> Event {
    Event::Grant(1 + rng.below(u64::from(walk.setup.grant) * 3 / 2) as u32)
}

/// A family has more slots vacated and runs collapsed than others: most of what it has is shared, and stays as it is.
fn any_family_event(walk: &Walk, rng: &mut Rng) -> Event {
    match rng.below(14) {
        0 => Event::ForkSpace,
        1 => Event::Exit(rng.below(8) as u8),
        2..5 => any_vacate(walk, rng),
        5..8 => any_collapse(any_page(walk, rng), rng),
        8 => Event::Tend(1 + rng.below(3) as u32),
        _ => Event::Process(rng.below(8) as u8),
    }
}

fn any_event(walk: &Walk, rng: &mut Rng) -> Event {
    if walk.family && rng.below(5) == 0 {
        return any_family_event(walk, rng);
    }
    let number = rng.below(8) as u8;
    let (start, pages) = any_run(walk, rng);
    match rng.below(201) {
        0..50 => any_touch(walk, rng),
        50..58 => Event::Take(number),
        58..66 => Event::Serve(number),
        66..88 => Event::Handle(number),
        88..100 => Event::Retry(number),
        100..118 => Event::Step(number),
        118..136 => Event::Run(number),
        136..153 => {
            Event::Reclaim(rng.pick(&[Demand::Direct, Demand::Behind, Demand::Behind, Demand::Store]))
        }
        153..156 => Event::MoveOut(1 + rng.below(6) as u32),
        156..158 => Event::Fail(number),
        158..160 => Event::ZeroAhead(rng.below(40) as u32, order(rng.below(5) as u8)),
        160 => any_grant(walk, rng),
        // A failed job closes the file. Now and then RAM for the store is short, and it spills.
        190..192 if walk.setup.spill.is_some() => Event::OpenFile(rng.pick(&[1 << 16, 1 << 20])),
        192..200 if walk.setup.spill.is_some() && rng.below(2) == 0 => any_grant(walk, rng),
        161..165 => Event::Map(start, pages, rng.pick(&[Prot::READ_WRITE, Prot::READ_WRITE, Prot::NONE])),
        165 => Event::Unmap(start, pages.min(12)),
        166..168 => Event::Discard(start, pages.min(30)),
        168..170 => Event::Foreign(start, pages.min(12)),
        170..175 => Event::Protect(start, pages, any_prot(rng)),
        175..179 => Event::Lock(start, pages.min(16), rng.below(3) == 0),
        179..182 => Event::Remap(start, pages.min(24), Vpn(rng.below(walk.setup.arena + 1 - pages.min(24)))),
        182..184 => {
            Event::Advise(start, pages, rng.pick(&[Hint::Normal, Hint::Sequential, Hint::Random, Hint::Huge]))
        }
        184..186 => Event::Cool(start, pages),
        186 if rng.below(2) == 0 => Event::PageOut(start, pages),
        186 => any_collapse(start, rng),
        187 => any_vacate(walk, rng),
        199 if rng.below(4) == 0 => any_shape(rng),
        199 => Event::Tend(1 + rng.below(3) as u32),
        189 if walk.forks && rng.below(2) == 0 => Event::Fork,
        192 if walk.refusals => Event::Pin(start, rng.below(3) == 0),
        193..198 if walk.refusals => any_refusal(walk, rng),
        188 if walk.setup.spill.is_some() && rng.below(2) == 0 => match rng.below(3) {
            0 => Event::Overhead(rng.below(u64::from(walk.setup.grant) / 4) as u32),
            _ => Event::Division(1 + rng.below(19) as u32),
        },
        198 if rng.below(8) == 0 => Event::Overdraw(2),
        200 if walk.policies => Event::Policy(rng.pick(&POLICIES)),
        198 => any_collapse(start, rng),
        _ => any_touch(walk, rng),
    }
}

/// The events of a seed. They do not depend on what comes of them.
fn events(walk: &Walk, seed: u64) -> Vec<Event> {
    let mut rng = Rng(seed << 8);
    let all = Event::Map(Vpn(0), walk.setup.arena * 3 / 4, Prot::READ_WRITE);
    std::iter::once(all).chain((1..walk.events).map(|_| any_event(walk, &mut rng))).collect()
}

/// Lets the events happen, then ends all that is under way and reads every page back.
fn play(walk: &Walk, events: &[Event]) -> Result<Met, (usize, String)> {
    let mut host = Host::new(walk.setup);
    for (i, event) in events.iter().enumerate() {
        host.happen(*event).map_err(|why| (i + 1, why))?;
    }
    let end = |why| (events.len(), format!("at the end: {why}"));
    host.drain().map_err(end)?;
    host.settle_to_grant().map_err(end)?;
    host.read_back().map_err(end)?;
    for space in host.spaces.clone() {
        host.unmap(quire_core::PageRange::new(space, Vpn(0), walk.setup.arena));
    }
    host.drain().map_err(end)?;
    assert!(!host.engine.shares() && host.engine.frames_in_use() == 0, "nothing is left");
    Ok(Met::of(&host))
}

/// The same, a panic being a failure.
fn guarded(walk: &Walk, events: &[Event]) -> Result<Met, (usize, String)> {
    let outcome = std::panic::catch_unwind(|| play(walk, events));
    outcome.unwrap_or_else(|_| Err((events.len(), "panicked".into())))
}

/// Leaves out events as long as it fails all the same.
fn shortest(walk: &Walk, mut events: Vec<Event>) -> (Vec<Event>, String) {
    let mut why = String::new();
    let mut size = events.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < events.len() {
            let mut fewer = events.clone();
            fewer.drain(at..(at + size).min(events.len()));
            match guarded(walk, &fewer) {
                Err((after, reason)) => {
                    fewer.truncate(after);
                    (events, why) = (fewer, reason);
                }
                Ok(_) => at += size,
            }
        }
        size /= 2;
    }
    (events, why)
}

/// What the engine decided last while the events happened.
fn decisions(walk: &Walk, events: &[Event]) -> String {
    let mut host = Host::new(walk.setup);
    host.engine.set_log(LOGGED);
    let _ = std::panic::catch_unwind(AssertUnwindSafe(|| {
        for event in events {
            host.happen(*event)?;
        }
        host.drain()?;
        host.settle_to_grant()?;
        host.read_back()
    }));
    host.decisions()
}

/// Decisions shown of a walk that fails.
const LOGGED: usize = 40;

/// How much of what matters the walks of one setup met, in all seeds.
#[derive(Debug, Default)]
struct Met {
    swap_ins: u64,
    rescues: u64,
    swap_outs: u64,
    void_jobs: u64,
    joined: u64,
    late: u64,
    foreign: u64,
    no_frame: u64,
    same: u64,
    spill_jobs: u64,
    unstorable: u64,
    splits: u64,
    refused: u64,
    copies: u64,
    reuses: u64,
    shared_maps: u64,
    sparse: u64,
    collapses: u64,
    compacted: u64,
}

impl Met {
    fn of(host: &Host) -> Met {
        let stats = host.engine.stats();
        Met {
            swap_ins: stats.swap_ins.iter().sum(),
            rescues: stats.rescues.iter().sum(),
            swap_outs: stats.swap_outs.iter().sum(),
            void_jobs: stats.void_jobs,
            joined: stats.joined,
            late: stats.late,
            foreign: stats.foreign,
            no_frame: stats.no_frame,
            same: stats.pages_same,
            spill_jobs: host.spill_jobs,
            unstorable: stats.unstorable,
            splits: stats.splits.iter().sum(),
            refused: stats.refusals.iter().sum(),
            copies: stats.cow_copies.iter().sum(),
            reuses: stats.cow_reuses,
            shared_maps: stats.shared_maps,
            sparse: stats.sparse_folios,
            collapses: stats.collapses.iter().sum(),
            compacted: stats.compacted_pages,
        }
    }

    fn add(&mut self, more: &Met) {
        self.swap_ins += more.swap_ins;
        self.rescues += more.rescues;
        self.swap_outs += more.swap_outs;
        self.void_jobs += more.void_jobs;
        self.joined += more.joined;
        self.late += more.late;
        self.foreign += more.foreign;
        self.no_frame += more.no_frame;
        self.same += more.same;
        self.spill_jobs += more.spill_jobs;
        self.unstorable += more.unstorable;
        self.splits += more.splits;
        self.refused += more.refused;
        self.copies += more.copies;
        self.reuses += more.reuses;
        self.shared_maps += more.shared_maps;
        self.sparse += more.sparse;
        self.collapses += more.collapses;
        self.compacted += more.compacted;
    }

    /// A walk that meets nothing proves nothing.
    fn check(&self, walk: &Walk, seeds: u64) {
        // What 800 seeds are sure to meet.
        let enough = |met: u64, least: u64| met > least * seeds / 800;
        let Met { swap_ins, rescues, swap_outs, void_jobs, joined, late, foreign, no_frame, same, .. } =
            *self;
        let all = [swap_ins, rescues, swap_outs, void_jobs, joined, late, foreign, no_frame];
        assert!(all.iter().all(|&n| enough(n, 40)), "{}: too little was met: {self:?}", walk.name);
        let keeps = walk.setup.spill.is_some() || walk.setup.grant > 100;
        assert!(!keeps || enough(same, 100), "{}: no stored copy was ever good again: {self:?}", walk.name);
        assert!(
            walk.setup.spill.is_none() || enough(self.spill_jobs, 20),
            "{}: little spilled: {self:?}",
            walk.name
        );
        let sharing = [self.copies, self.reuses, self.shared_maps];
        assert!(
            !walk.family || sharing.iter().all(|&n| enough(n, 80)),
            "{}: little is shared: {self:?}",
            walk.name
        );
        assert!(enough(self.compacted, 40), "{}: hardly any slot was vacated: {self:?}", walk.name);
        assert!(enough(self.collapses, 10), "{}: hardly anything was collapsed: {self:?}", walk.name);
        let large = !matches!(walk.setup.policy, PolicyKind::Fixed(Order::BASE));
        assert!(!large || enough(self.sparse, 100), "{}: nothing was sparse: {self:?}", walk.name);
        assert!(!walk.refusals || enough(self.refused, 100), "{}: nothing was refused", walk.name);
    }
}

#[expect(clippy::disallowed_methods, reason = "whoever runs the test decides")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn walk(walk: &Walk) {
    let only = number("QUIRE_SEED");
    let seeds = number("QUIRE_SEEDS").unwrap_or(walk.seeds);
    let mut met = Met::default();
    for seed in only.map_or(0..seeds, |seed| seed..seed + 1) {
        let events = events(walk, seed);
        let (after, why) = match guarded(walk, &events) {
            Ok(more) => {
                met.add(&more);
                continue;
            }
            Err(failure) => failure,
        };
        be_quiet_when_told();
        QUIET.set(true);
        let (few, reason) = shortest(walk, events[..after].to_vec());
        let log = decisions(walk, &few);
        QUIET.set(false);
        let list: String = few.iter().map(|e| format!("\n    {e:?},")).collect();
        panic!(
            "{}, seed {seed}, after {after} events: {why}\n  {} events do: {reason}{list}\n  the engine's last decisions:{log}",
            walk.name,
            few.len()
        );
    }
    println!("{}: {seeds} seeds of {} events met {met:?}", walk.name, walk.events);
    if only.is_none() && seeds >= walk.seeds {
        met.check(walk, seeds);
    }
}

macro_rules! walks {
    ($($name:ident $at:literal)*) => { $(#[test] fn $name() { walk(&WALKS[$at]); })* };
}

walks! {
    base_pages_in_a_tiny_pool 0
    base_pages_with_a_spill_file 1
    folios_of_16k 2
    folios_of_16k_with_refusals_and_forks 3
    folios_of_64k_with_a_spill_file_and_refusals 4
    adaptive_with_forks 5
    adaptive_with_all 6
    a_family_of_4k 7
    a_family_of_16k_with_refusals 8
    a_family_of_64k_with_a_spill_file 9
    an_adaptive_family_with_all 10
    linux_with_refusals_and_forks 11
    huge_coalesce_base_with_a_spill_file 12
    policies_that_change 13
}

/// The log is how a failure is understood: it has to tell the same story as the counters, and change none of it.
#[test]
fn the_log_tells_what_the_counters_count() {
    let both = [&WALKS[3], &WALKS[8]].into_iter();
    let mut copied = 0;
    for (walk, seed) in both.flat_map(|walk| (0..20).map(move |seed| (walk, seed))) {
        let events = events(walk, seed);
        let run = |log: usize| {
            let mut host = Host::new(walk.setup);
            host.engine.set_log(log);
            events.iter().try_for_each(|event| host.happen(*event)).unwrap();
            host
        };
        let (with, without) = (run(1 << 20), run(0));
        assert_eq!(with.engine.stats(), without.engine.stats(), "seed {seed}");
        assert_eq!(without.engine.log().count(), 0);
        let count = |is: fn(&Decision) -> bool| with.engine.log().filter(|(_, d)| is(d)).count() as u64;
        let stats = with.engine.stats();
        let fills = stats.zero_fills.iter().sum::<u64>() + stats.swap_ins.iter().sum::<u64>();
        assert_eq!(count(|d| matches!(d, Decision::Fault { .. })), fills, "seed {seed}");
        let copies = stats.cow_copies.iter().sum::<u64>();
        assert_eq!(count(|d| matches!(d, Decision::Copy { .. })), copies, "seed {seed}");
        copied += copies;
        assert_eq!(count(|d| matches!(d, Decision::NoFrame { .. })), stats.no_frame, "seed {seed}");
        assert_eq!(
            count(|d| matches!(d, Decision::Rescue { .. })),
            stats.rescues.iter().sum(),
            "seed {seed}"
        );
        assert_eq!(count(|d| matches!(d, Decision::Refused(_))), stats.refusals.iter().sum(), "seed {seed}");
        assert_eq!(count(|d| matches!(d, Decision::Split { .. })), stats.splits.iter().sum(), "seed {seed}");
        let out: u64 = with
            .engine
            .log()
            .map(|(_, d)| if let Decision::Evict { out, .. } = d { u64::from(*out) } else { 0 })
            .sum();
        assert!(out >= stats.evicted_behind + stats.evicted_direct, "seed {seed}");
    }
    assert!(copied > 0, "no family copied anything");
}
