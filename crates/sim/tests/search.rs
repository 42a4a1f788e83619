//! Every order of up to eight events on two pages, breadth first, from several beginnings; and of fewer where two
//! processes share a page, or folios are collapsed and given other frames.
//!
//! The pool has four frames, of which the grant pays for one or three. A thread that writes and one that reads meet
//! everything else that can happen to their pages: reclaim, jobs step by step and failing, all that a program does to
//! its address space, a fork, a change of the grant, refusals. Two states are one when the same events do the same
//! from then on ([`Host::key`]).
//!
//! `QUIRE_FULL=1` goes one event further from some of the beginnings; `QUIRE_DEPTH=n` takes n events from each.

use quire_core::mmu::{Prot, Refusal};
use quire_core::{Frame, Order, PageState, PolicyKind, Urgency, Vpn};
use quire_sim::search::search;
use quire_sim::world::{Put, SPACE, Setup, Touch};
use quire_sim::{Event, Host, Injection, Verb, World};
use std::time::Instant;

/// Where the pages may be moved to, and from where back.
const AWAY: Vpn = Vpn(2);

const PAIR: Order = Order::BASE.up();

const SETUP: Setup = Setup {
    frames: 4,
    segments: 8,
    grant: 1,
    policy: PolicyKind::Fixed(Order::BASE),
    arena: 4,
    threads: 2,
    spill: None,
};

/// A host of two pages, as the search sees it.
#[derive(Clone, Debug)]
struct TwoPages(Host);

/// The same, and the engine may make the two one folio, or give them other frames.
#[derive(Clone, Debug)]
struct Shaped(TwoPages);

impl World for Shaped {
    type Event = Event;
    type Key = Vec<u32>;

    fn events(&self) -> Vec<Event> {
        let mut events = self.0.events();
        events.push(Event::Collapse(Vpn(0), PAIR));
        events.extend([0, 2].map(|frame| Event::Vacate(Frame(frame), PAIR)));
        events
    }

    fn apply(&mut self, event: &Event) -> Result<(), String> {
        self.0.apply(event)
    }

    fn key(&self) -> Vec<u32> {
        self.0.key()
    }
}

impl TwoPages {
    fn new(setup: Setup) -> TwoPages {
        let mut host = Host::new(setup);
        host.map(quire_core::PageRange::new(SPACE, Vpn(0), 2), Prot::READ_WRITE);
        TwoPages(host)
    }

    /// The same after these events.
    fn after(mut self, events: &[Event]) -> TwoPages {
        for event in events {
            self.apply(event).unwrap_or_else(|why| panic!("{event:?}: {why}"));
        }
        self
    }

    fn states(&self) -> [PageState; 2] {
        [Vpn(0), Vpn(1)].map(|vpn| self.0.engine.page_state(SPACE, vpn))
    }

    /// What goes on by itself: messages, jobs, reclaim, and a change of the grant.
    fn pager_events(&self, events: &mut Vec<Event>) {
        let host = &self.0;
        pager_events(host, events);
        events.push(Event::ZeroAhead(4, Order::BASE));
        let more = host.setup().grant.max(3);
        let other = if host.engine.grant() == 1 { more } else { 1 };
        events.push(Event::Grant(other));
    }

    /// What the program does to its address space: to one page, as the other is no different.
    fn program_events(&self, events: &mut Vec<Event>) {
        let vma = self.0.engine.vmas(SPACE).at(Vpn(0));
        let Some(vma) = vma else {
            events.push(Event::Remap(AWAY, 1, Vpn(0)));
            events.push(Event::Map(Vpn(0), 1, Prot::READ_WRITE));
            return;
        };
        events.extend([Event::Discard(Vpn(0), 1), Event::Unmap(Vpn(0), 1), Event::Foreign(Vpn(0), 1)]);
        if self.states()[0] == PageState::Empty {
            events.push(Event::Adopt(Vpn(0), 2, PAIR, Put::Small));
        }
        if self.0.engine.vmas(SPACE).at(AWAY).is_none() {
            events.push(Event::Remap(Vpn(0), 1, AWAY));
        }
        for prot in [Prot::NONE, Prot::READ, Prot::READ_WRITE] {
            if vma.prot != prot {
                events.push(Event::Protect(Vpn(0), 1, prot));
            }
        }
        events.push(Event::Lock(Vpn(0), 1, !vma.locked));
        events.push(Event::PageOut(Vpn(0), 2));
        events.push(Event::Fork);
    }
}

impl World for TwoPages {
    type Event = Event;
    type Key = Vec<u32>;

    fn events(&self) -> Vec<Event> {
        let mut events = Vec::with_capacity(32);
        for (thread, put) in [(0, Some(Put::Small)), (1, None)] {
            if !self.0.mmu.waiters.waits(thread) {
                events.extend([0, 1].map(|n| Event::Touch(thread, Touch { vpn: Vpn(n), put })));
            }
        }
        self.pager_events(&mut events);
        self.program_events(&mut events);
        if self.0.mmu.injector.pending().is_empty() {
            for verb in [Verb::MoveIn, Verb::MoveOut, Verb::CopyIn] {
                events.push(Event::Inject(Injection::next(verb, Refusal::Busy)));
            }
        }
        events
    }

    /// A message is read as soon as a thread waits; it is answered when the search says so.
    fn apply(&mut self, event: &Event) -> Result<(), String> {
        self.0.happen(*event)?;
        (0..2).for_each(|thread| self.0.take_message(thread));
        Ok(())
    }

    fn key(&self) -> Vec<u32> {
        self.0.key()
    }
}

/// Messages, jobs, reclaim.
fn pager_events(host: &Host, events: &mut Vec<Event>) {
    events.extend((0..host.held.len() as u8).map(Event::Serve));
    events.extend((0..host.parked.len() as u8).map(Event::Retry));
    for at in 0..host.jobs.len() as u8 {
        events.extend([Event::Step(at), Event::Fail(at)]);
    }
    events.push(Event::Reclaim(Urgency::Direct));
}

/// A parent and a child with a page each of them knows, and the events of either.
#[derive(Clone, Debug)]
struct Family(Host);

impl Family {
    /// Each process has a thread that reads and one that writes, and may do this to its address space.
    fn process_events(&self, number: u8, events: &mut Vec<(u8, Event)>) {
        let space = self.0.spaces[usize::from(number)];
        for (thread, put) in [(2 * number, None), (2 * number + 1, Some(Put::Small))] {
            if !self.0.mmu.waiters.waits(thread) {
                events.push((number, Event::Touch(thread, Touch { vpn: Vpn(0), put })));
            }
        }
        if self.0.engine.vmas(space).at(Vpn(0)).is_some() {
            let away = Event::Remap(Vpn(0), 1, AWAY);
            events.extend([Event::Discard(Vpn(0), 1), Event::Unmap(Vpn(0), 1), away].map(|e| (number, e)));
        }
        events.push((number, if self.0.spaces.len() == 1 { Event::ForkSpace } else { Event::Exit(number) }));
    }
}

impl World for Family {
    type Event = (u8, Event);
    type Key = Vec<u32>;

    fn events(&self) -> Vec<(u8, Event)> {
        let mut pager = Vec::new();
        pager_events(&self.0, &mut pager);
        if self.0.mmu.injector.pending().is_empty() {
            let verbs = [Verb::Share, Verb::MapShared, Verb::CopyIn, Verb::MoveIn];
            pager.extend(verbs.map(|verb| Event::Inject(Injection::next(verb, Refusal::Busy))));
        }
        let mut events: Vec<_> = pager.into_iter().map(|event| (0, event)).collect();
        (0..self.0.spaces.len() as u8).for_each(|number| self.process_events(number, &mut events));
        events
    }

    fn apply(&mut self, &(number, event): &(u8, Event)) -> Result<(), String> {
        self.0.happen(Event::Process(number))?;
        self.0.happen(event)?;
        self.0.at = self.0.spaces[0];
        (0..4).for_each(|thread| self.0.take_message(thread));
        Ok(())
    }

    fn key(&self) -> Vec<u32> {
        self.0.key()
    }
}

/// A page of a parent, `stored` or mapped, and a child that shares it; there are `grant` frames.
fn family(grant: u32, stored: bool) -> Family {
    let mut host = Host::new(Setup { threads: 4, grant, ..SETUP });
    host.map(quire_core::PageRange::new(SPACE, Vpn(0), 1), Prot::READ_WRITE);
    let mut events = fill(0).to_vec();
    events.insert(1, Event::Take(0));
    if stored {
        events.extend([
            Event::Grant(0),
            RECLAIM,
            RECLAIM,
            Event::Run(0),
            RECLAIM,
            RECLAIM,
            Event::Grant(grant),
        ]);
    }
    events.push(Event::ForkSpace);
    events.into_iter().for_each(|event| host.happen(event).unwrap());
    Family(host)
}

#[expect(clippy::disallowed_methods, reason = "how long it takes is printed, and decides nothing")]
fn all_orders<W: World>(name: &str, start: &W, depth: usize) {
    let begin = Instant::now();
    let report = search(start, depth);
    println!("{name}: {report}, {:.1} s", begin.elapsed().as_secs_f32());
    assert!(report.violation.is_none(), "{name}: {report}");
    assert_eq!(report.depth, depth, "{name}: the search ended early");
}

#[expect(clippy::disallowed_methods, reason = "whoever runs the test decides")]
fn depth(usual: usize) -> usize {
    std::env::var("QUIRE_DEPTH").ok().and_then(|d| d.parse().ok()).unwrap_or(usual)
}

/// How many events more there are in the full form of the beginnings with the most orders.
fn further() -> usize {
    usize::from(std::env::var_os("QUIRE_FULL").is_some())
}

/// A write to a page, answered and filled.
fn fill(page: u64) -> [Event; 3] {
    let touch = Touch { vpn: Vpn(page), put: Some(Put::Small) };
    [Event::Touch(0, touch), Event::Serve(0), Event::Run(0)]
}

const OUT: Event = Event::PageOut(Vpn(0), 2);
const RECLAIM: Event = Event::Reclaim(Urgency::Direct);

fn two_stored(setup: Setup) -> TwoPages {
    let fills = [fill(0), fill(1)].concat();
    let stores = [RECLAIM, Event::Run(0)].repeat(6);
    TwoPages::new(Setup { grant: 3, ..setup })
        .after(&fills)
        .after(&[Event::Grant(0), OUT])
        .after(&stores)
        .after(&[Event::Grant(1)])
}

/// Both pages stored in RAM, of which a grant of 14 leaves one span to the store; a grant of 1 leaves none, and what is
/// there spills.
fn two_to_spill() -> TwoPages {
    let setup = Setup { grant: 14, spill: Some(1 << 16), ..SETUP };
    let begin = [OUT, Event::Grant(0), RECLAIM, RECLAIM, Event::Grant(14), Event::Run(0), Event::Run(0)];
    let drop = [Event::Grant(0), RECLAIM, Event::Grant(14)];
    TwoPages::new(setup).after(&[fill(0), fill(1)].concat()).after(&begin).after(&drop)
}

/// Both pages mapped and written, each a folio of its own, and frames to spare.
fn two_mapped() -> TwoPages {
    TwoPages::new(Setup { grant: 3, ..SETUP }).after(&[fill(0), fill(1)].concat())
}

#[test]
fn from_nothing() {
    all_orders("4K, empty", &TwoPages::new(SETUP), depth(8));
}

#[test]
fn from_nothing_in_folios_of_two() {
    let pair = Setup { policy: PolicyKind::Fixed(PAIR), grant: 3, ..SETUP };
    all_orders("8K, empty", &TwoPages::new(pair), depth(6 + further()));
}

#[test]
fn from_stored_pages() {
    let stored = two_stored(SETUP);
    assert_eq!(stored.states(), [PageState::Stored; 2]);
    all_orders("4K, both stored", &stored, depth(7 + further()));
}

#[test]
fn from_pages_about_to_spill() {
    let to_spill = two_to_spill();
    assert_eq!(to_spill.states(), [PageState::Stored; 2]);
    assert!(to_spill.0.engine.store_pages() > 0);
    all_orders("4K, stored in RAM, about to spill", &to_spill, depth(6));
}

#[test]
fn from_writers_at_work() {
    let writing = two_mapped().after(&[Event::Grant(1), OUT, RECLAIM, RECLAIM]);
    assert_eq!(writing.states(), [PageState::Writing; 2]);
    all_orders("4K, two writers at work", &writing, depth(6));
}

#[test]
fn from_a_spill_file() {
    let spilled = two_stored(Setup { spill: Some(1 << 16), ..SETUP });
    assert_eq!(spilled.states(), [PageState::Stored; 2]);
    all_orders("4K, in a spill file", &spilled, depth(6));
}

#[test]
fn with_collapse_and_compaction() {
    let mapped = two_mapped();
    let collapsed = mapped.clone().after(&[Event::Collapse(Vpn(0), PAIR)]);
    assert_eq!(collapsed.0.engine.folio_order(SPACE, Vpn(1)), Some(PAIR));
    all_orders("4K, two side by side", &Shaped(mapped), depth(6));
    all_orders("8K, collapsed", &Shaped(collapsed), depth(6));
}

#[test]
fn with_a_page_shared_by_two_processes() {
    let mapped = family(3, false);
    let state = mapped.0.engine.page_state(SPACE, Vpn(0));
    assert_eq!(state, PageState::Shared { mapped: true, copy: false });
    all_orders("4K, shared by two processes", &mapped, depth(6 + further()));
}

#[test]
fn with_a_stored_page_shared_by_two_processes() {
    let stored = family(1, true);
    assert_eq!(stored.0.engine.page_state(SPACE, Vpn(0)), PageState::Stored);
    all_orders("4K, stored, shared by two processes", &stored, depth(6));
}
