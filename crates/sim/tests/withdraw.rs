//! Trial unmaps: what is moved out only to hear of its next touch comes back whole, also where nothing is evicted.

use quire_core::mmu::{Prot, Refusal};
use quire_core::{Order, PageRange, PageState, PolicyKind, Urgency, Vpn};
use quire_sim::rng::Rng;
use quire_sim::world::{Event, Put, SPACE, Setup, Touch};
use quire_sim::{Host, Injection, Verb};

const PAGES: u64 = 16;

fn play(host: &mut Host, event: Event) {
    host.happen(event).unwrap_or_else(|why| panic!("{event:?}: {why}"));
}

fn touch(host: &mut Host, page: u64, put: Option<Put>) {
    play(host, Event::Touch(0, Touch { vpn: Vpn(page), put }));
    for event in [Event::Handle(0), Event::Run(0)] {
        play(host, event);
    }
}

/// A host that evicts nothing, with all its pages written.
fn host(policy: PolicyKind) -> Host {
    let setup = Setup { frames: 64, segments: 32, grant: 64, policy, arena: 32, threads: 4, spill: None };
    let mut host = Host::new(setup);
    host.set_evicts(false);
    play(&mut host, Event::Map(Vpn(0), PAGES, Prot::READ_WRITE));
    for page in 0..PAGES {
        touch(&mut host, page, Some(Put::Small));
    }
    host
}

fn withdraw(host: &mut Host, start: u64, pages: u64) -> u32 {
    host.engine.withdraw(&mut host.mmu, PageRange::new(SPACE, Vpn(start), pages))
}

fn states(host: &Host) -> Vec<PageState> {
    (0..PAGES).map(|page| host.engine.page_state(SPACE, Vpn(page))).collect()
}

const OUT: PageState = PageState::Standby { copy: false };
const IN: PageState = PageState::Mapped { copy: false };

#[test]
fn all_that_is_mapped_goes_and_each_touch_brings_its_page_back() {
    let mut host = host(PolicyKind::Fixed(Order::BASE));
    assert_eq!(withdraw(&mut host, 0, PAGES), PAGES as u32);
    assert_eq!(states(&host), [OUT; PAGES as usize]);
    assert_eq!(withdraw(&mut host, 0, PAGES), 0);
    let rescues = host.engine.stats().rescues[0];
    for page in [3, 9] {
        touch(&mut host, page, None);
        assert_eq!(host.engine.page_state(SPACE, Vpn(page)), IN);
    }
    assert_eq!(host.engine.stats().rescues[0], rescues + 2);
    assert_eq!(host.engine.stats().evictions, [0; Order::COUNT]);
    // Only what is in the range.
    assert_eq!(withdraw(&mut host, 0, 9), 1);
    assert_eq!(host.engine.page_state(SPACE, Vpn(9)), IN);
    host.engine.validate(&host.mmu.store).unwrap();
    host.read_back().unwrap();
}

#[test]
fn folios_of_several_pages_go_whole() {
    let mut host = host(PolicyKind::Fixed(Order::new(2).unwrap()));
    assert_eq!(withdraw(&mut host, 4, 4), 4);
    assert_eq!(states(&host)[3..9], [IN, OUT, OUT, OUT, OUT, IN]);
    host.engine.validate(&host.mmu.store).unwrap();
    host.read_back().unwrap();
}

#[test]
fn what_may_not_leave_stays() {
    let mut host = host(PolicyKind::Fixed(Order::BASE));
    play(&mut host, Event::Protect(Vpn(2), 2, Prot::READ));
    play(&mut host, Event::Lock(Vpn(8), 1, true));
    assert_eq!(withdraw(&mut host, 0, PAGES), PAGES as u32 - 3);
    let stay: Vec<u64> = (0..PAGES).filter(|&page| host.engine.page_state(SPACE, Vpn(page)) == IN).collect();
    assert_eq!(stay, [2, 3, 8]);
    host.engine.validate(&host.mmu.store).unwrap();
    host.read_back().unwrap();
}

/// Whatever page of a run is refused, the others go, and every page is where the tables say.
#[test]
fn a_refusal_in_the_middle_loses_nothing() {
    for refusal in [Refusal::Busy, Refusal::Again, Refusal::NoMemory] {
        for done in 0..PAGES as u32 {
            let mut host = host(PolicyKind::Fixed(Order::BASE));
            host.mmu.inject(Injection::next(Verb::MoveOut, refusal).after(done));
            let moved = withdraw(&mut host, 0, PAGES);
            let out = states(&host).iter().filter(|&&state| state == OUT).count();
            assert_eq!(moved as usize, out);
            assert!(out >= PAGES as usize - 1, "{refusal:?} after {done}: {out}");
            host.engine.validate(&host.mmu.store).unwrap();
            host.read_back().unwrap();
        }
    }
}

const ARENA: u64 = 32;

/// Anything that a program, a handler, reclaim or a job may do.
fn any_event(rng: &mut Rng) -> Event {
    let start = rng.below(ARENA);
    let (at, pages) = (Vpn(start), 1 + rng.below((ARENA - start).min(12)));
    match rng.below(40) {
        0..12 => {
            let put = [None, Some(Put::Small), Some(Put::Any), Some(Put::Zero)][rng.below(4) as usize];
            Event::Touch(rng.below(4) as u8, Touch { vpn: at, put })
        }
        12..20 => Event::Handle(rng.below(4) as u8),
        20..22 => Event::Retry(0),
        22..25 => Event::Run(rng.below(4) as u8),
        25..28 => Event::Step(rng.below(4) as u8),
        28 => Event::Reclaim(Urgency::Direct),
        29 => Event::Reclaim(Urgency::Behind),
        30 => Event::Discard(at, pages),
        31 => Event::Unmap(at, pages),
        32 | 33 => Event::Map(at, pages, Prot::READ_WRITE),
        34 => Event::Protect(at, pages, if rng.chance(30) { Prot::READ } else { Prot::READ_WRITE }),
        35 => Event::Lock(at, pages, rng.chance(20)),
        36 => Event::Pin(at, rng.chance(40)),
        37 => Event::Fork,
        38 => Event::Grant(8 + rng.below(40) as u32),
        _ => {
            let refusal = [Refusal::Busy, Refusal::NoMemory, Refusal::Again][rng.below(3) as usize];
            let verb = [Verb::MoveOut, Verb::MoveIn, Verb::Unshare][rng.below(3) as usize];
            Event::Inject(Injection::next(verb, refusal).after(rng.below(6) as u32))
        }
    }
}

/// In any order with everything else, with and without a limit: after each trial the tables hold together, and every page
/// has what was written to it last.
#[test]
fn trials_among_all_other_events_lose_nothing() {
    let mut moved = 0;
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let order = Order::new(rng.below(3) as u8).unwrap();
        let (grant, policy) = (if seed % 2 == 0 { 64 } else { 12 }, PolicyKind::Fixed(order));
        let mut host = Host::new(Setup {
            frames: 64,
            segments: 32,
            grant,
            policy,
            arena: ARENA,
            threads: 4,
            spill: None,
        });
        host.set_evicts(seed % 2 == 1);
        play(&mut host, Event::Map(Vpn(0), ARENA, Prot::READ_WRITE));
        for step in 0..250 {
            let event = any_event(&mut rng);
            host.happen(event).unwrap_or_else(|why| panic!("seed {seed}, step {step}, {event:?}: {why}"));
            if rng.chance(30) {
                let start = rng.below(ARENA);
                moved += withdraw(&mut host, start, 1 + rng.below(ARENA - start));
                host.check().unwrap_or_else(|why| panic!("seed {seed}, step {step}, after a trial: {why}"));
            }
        }
        host.read_back().unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
    assert!(moved > 10_000, "hardly anything was tried: {moved}");
}
