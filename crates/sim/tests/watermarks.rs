//! When reclaim is called for, and how much room it makes. Of zeroes, so that the store takes nothing of the grant.

mod common;

use common::play;
use quire_core::mmu::Prot;
use quire_core::{Engine, Order, PolicyKind, Reclaim, Urgency, Vpn};
use quire_sim::Host;
use quire_sim::world::{Event, Put, Setup, Touch};

const GRANT: u32 = 320;
/// A sixteenth of the grant, below which reclaim begins, and an eighth, up to which it works.
const LOW: u32 = GRANT / 16;
const HIGH: u32 = GRANT / 8;

/// Zeroes are written to pages `from..to`, one fault each.
fn fill(host: &mut Host, from: u32, to: u32) {
    for vpn in (from..to).map(|page| Vpn(page.into())) {
        let touch = Touch { vpn, put: Some(Put::Zero) };
        play(host, &[Event::Touch(0, touch), Event::Handle(0), Event::Run(0)]);
    }
}

/// A program of base pages, the first `pages` of which are mapped.
fn host(pages: u32) -> Host {
    let policy = PolicyKind::Fixed(Order::BASE);
    let arena = GRANT.into();
    let setup =
        Setup { frames: 2 * GRANT, segments: 16, grant: GRANT, policy, arena, threads: 1, spill: None };
    let mut host = Host::new(setup);
    play(&mut host, &[Event::Map(Vpn(0), arena, Prot::READ_WRITE)]);
    fill(&mut host, 0, pages);
    host
}

/// Reclaim for `urgency` until it has nothing to do, jobs included.
fn reclaim(host: &mut Host, urgency: Urgency) {
    for _ in 0..1000 {
        match host.reclaim(urgency).unwrap() {
            Reclaim::Job => while !host.step(0).unwrap() {},
            Reclaim::Progress => {}
            Reclaim::Idle => return,
            other => panic!("{other:?} with room for {}", host.engine.room()),
        }
    }
    panic!("reclaim goes on without end");
}

fn marks(engine: &Engine) -> (bool, bool) {
    (engine.pressed(), engine.starved())
}

#[test]
fn reclaim_is_called_for_below_a_sixteenth_and_makes_room_up_to_an_eighth() {
    let mut host = host(0);
    for page in 0..GRANT - 4 {
        let room = host.engine.room();
        assert_eq!(room, GRANT - page);
        assert_eq!(marks(&host.engine), (room < LOW, room < LOW / 2), "with room for {room}");
        fill(&mut host, page, page + 1);
    }
    reclaim(&mut host, Urgency::Behind);
    let room = host.engine.room();
    assert!((HIGH..HIGH + 2).contains(&room), "room for {room}");
    assert_eq!(marks(&host.engine), (false, false));
    let stats = host.engine.stats();
    assert_eq!((stats.evicted_behind, stats.evicted_direct), (u64::from(room - 4), 0));
}

#[test]
fn a_fault_without_a_frame_makes_room_for_one() {
    let mut host = host(GRANT);
    assert_eq!(host.engine.room(), 0);
    reclaim(&mut host, Urgency::Direct);
    let stats = host.engine.stats();
    assert_eq!((host.engine.room(), stats.evicted_behind, stats.evicted_direct), (1, 0, 1));
}

#[test]
fn what_is_moved_out_behind_is_what_is_missing() {
    let mut host = host(GRANT - HIGH);
    let lacks = |host: &Host, pages| host.engine.lacks_room_for(pages);
    assert!(!lacks(&host, 1), "there is enough");
    let move_out = |host: &mut Host, pages| host.engine.move_out_behind(&mut host.mmu, pages);
    assert_eq!(move_out(&mut host, 1), 0);
    fill(&mut host, GRANT - HIGH, GRANT - HIGH + 10);
    assert!(lacks(&host, 10) && !lacks(&host, 11));
    assert_eq!(move_out(&mut host, 11), 0);
    assert_eq!(move_out(&mut host, 7), 7);
    assert!(lacks(&host, 3) && !lacks(&host, 4), "what is out comes to be room");
    assert_eq!(move_out(&mut host, 3), 3);
    assert_eq!(host.engine.stats().evicted_behind, 10);
    reclaim(&mut host, Urgency::StoreOnly);
    assert_eq!((host.engine.room(), host.engine.stats().evicted_behind), (HIGH, 10));
}

#[test]
fn memory_that_lies_ready_is_given_back_before_small_fills_find_none() {
    let mut host = host(GRANT / 2);
    // Half of the grant is in use; what is zeroed ahead takes no more than half of the rest.
    for _ in 0..100 {
        play(&mut host, &[Event::ZeroAhead(GRANT, Order::BASE.up()), Event::Run(0)]);
    }
    let charged = host.engine.frames_charged();
    assert_eq!(host.engine.frames_in_use(), GRANT / 2);
    assert!((GRANT * 3 / 4..=GRANT * 3 / 4 + 1).contains(&charged), "{charged} with half of what is spare");
    assert!(!host.engine.pressed());
    // With less than half of what should be fresh it is time, though there is room.
    let half = charged / 32 / 2;
    play(&mut host, &[Event::Grant(charged + half)]);
    assert!(!host.engine.pressed() && host.engine.room() == charged - GRANT / 2 + half);
    play(&mut host, &[Event::Grant(charged + half - 1)]);
    assert!(host.engine.pressed());
    reclaim(&mut host, Urgency::Behind);
    assert!(!host.engine.pressed() && host.engine.frames_charged() < charged);
    assert_eq!(host.engine.stats().evicted_behind, 0, "room there was");
}

#[test]
fn where_nothing_is_moved_out_only_what_is_above_the_grant_counts() {
    let mut host = host(GRANT / 2);
    for _ in 0..100 {
        play(&mut host, &[Event::ZeroAhead(GRANT, Order::BASE.up()), Event::Run(0)]);
    }
    host.set_evicts(false);
    let charged = host.engine.frames_charged();
    play(&mut host, &[Event::Grant(charged)]);
    assert!(!host.engine.pressed());
    play(&mut host, &[Event::Grant(charged - 1)]);
    assert!(host.engine.pressed());
    reclaim(&mut host, Urgency::Behind);
    assert!(!host.engine.pressed() && host.engine.frames_charged() < charged);
    assert_eq!(host.engine.frames_in_use(), GRANT / 2);
}
