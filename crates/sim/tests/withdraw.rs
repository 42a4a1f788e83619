//! Trial unmaps: what is moved out only to hear of its next touch comes back whole, also where nothing is evicted.

use quire_core::mmu::{Prot, Refusal};
use quire_core::{Order, PageRange, PageState, PolicyKind, Vpn};
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
    let setup = Setup { frames: 64, spans: 8, grant: 64, policy, arena: 32, threads: 4, spill: None };
    let mut host = Host::new(setup);
    host.engine.set_evicts(false);
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

const OUT: PageState = PageState::Standby { kept: false };
const IN: PageState = PageState::Mapped { kept: false };

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
    host.engine.validate().unwrap();
    host.read_back().unwrap();
}

#[test]
fn folios_of_several_pages_go_whole() {
    let mut host = host(PolicyKind::Fixed(Order::new(2).unwrap()));
    assert_eq!(withdraw(&mut host, 4, 4), 4);
    assert_eq!(states(&host)[3..9], [IN, OUT, OUT, OUT, OUT, IN]);
    host.engine.validate().unwrap();
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
    host.engine.validate().unwrap();
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
            host.engine.validate().unwrap();
            host.read_back().unwrap();
        }
    }
}
