//! What the engine takes over of a program that ran before: as it was, in folios as asked, and no more than may be.

mod common;

use common::play;
use quire_core::frame::List;
use quire_core::mmu::Prot;
use quire_core::{Order, PageRange, PageState, PolicyKind, Urgency, Vpn};
use quire_sim::Host;
use quire_sim::waiters::Message;
use quire_sim::world::{Event, Put, SPACE, Setup, Touch};

const SETUP: Setup = Setup { grant: 16, ..common::SETUP };
/// Room for two folios of 2 MiB.
const LARGE: Setup =
    Setup { frames: 2048, segments: 512, grant: 300, arena: 1024, spill: Some(8 << 20), ..SETUP };
const QUAD: Order = Order::fitting(4);
const RW: Prot = Prot::READ_WRITE;

fn host(setup: Setup) -> Host {
    let mut host = Host::new(setup);
    host.watch();
    host.recount();
    play(&mut host, &[Event::Map(Vpn(0), setup.arena, RW)]);
    host
}

/// Adopts pages in folios of up to `most`; how many they are.
fn adopt(host: &mut Host, pages: core::ops::Range<u64>, most: Order) -> u64 {
    let before = host.engine.stats().adopted;
    play(host, &[Event::Adopt(Vpn(pages.start), pages.end - pages.start, most, Put::Any)]);
    host.engine.stats().adopted - before
}

/// Pages of the folios at the start of the arena, one after the other.
fn folios(host: &Host, pages: core::ops::Range<u64>) -> Vec<u32> {
    let order = |vpn: u64| host.engine.folio_order(SPACE, Vpn(vpn));
    let heads = pages.filter(|&vpn| order(vpn).is_some_and(|order| order.align_down(vpn) == vpn));
    heads.filter_map(order).map(Order::pages).collect()
}

fn listed(host: &Host, vpn: u64) -> bool {
    host.engine.whereabouts(SPACE, Vpn(vpn)).listed
}

fn touch(host: &mut Host, page: u64, put: Option<Put>) {
    play(host, &[Event::Touch(0, Touch { vpn: Vpn(page), put })]);
    host.drain().unwrap();
}

/// All that can leave does, and comes back; then nothing is left.
fn to_the_end(mut host: Host) {
    let grant = host.engine.grant();
    host.engine.set_grant(0);
    host.settle_to_grant().unwrap();
    host.engine.set_grant(grant);
    host.read_back().unwrap();
    host.check_whole().unwrap();
    for space in host.spaces.clone() {
        host.unmap(PageRange::new(space, Vpn(0), host.setup().arena));
    }
    host.drain().unwrap();
    host.check_whole().unwrap();
    host.check_empty().unwrap();
}

#[test]
fn contents_come_back_from_standby_the_store_and_the_file() {
    for most in [Order::BASE, QUAD, Order::MAX] {
        let mut host = host(Setup { frames: 128, grant: 24, arena: 96, spill: Some(1 << 20), ..SETUP });
        assert_eq!(adopt(&mut host, 0..88, most), 88);
        play(&mut host, &[Event::Adopt(Vpn(88), 8, most, Put::Zero)]);
        host.settle_to_grant().unwrap();
        assert!(host.engine.charged() <= 24, "{} pages are charged", host.engine.charged());
        host.read_back().unwrap();
        let stats = *host.engine.stats();
        let sum = |by_order: [u64; Order::COUNT]| by_order.iter().sum::<u64>();
        assert!(sum(stats.swap_outs) > 0 && sum(stats.swap_ins) > 0, "{stats:?}");
        assert!(stats.pages_spilled > 0 && stats.pages_zero > 0, "{stats:?}");
        to_the_end(host);
    }
}

#[test]
fn what_was_moved_out_is_rescued() {
    let mut host = host(SETUP);
    adopt(&mut host, 0..8, QUAD);
    play(&mut host, &[Event::PageOut(Vpn(0), 8)]);
    assert_eq!(host.engine.page_state(SPACE, Vpn(5)), PageState::Standby { copy: false });
    touch(&mut host, 5, None);
    assert_eq!(host.engine.stats().rescues.iter().sum::<u64>(), 1);
    to_the_end(host);
}

#[test]
fn folios_are_as_large_as_asked_and_as_their_addresses_allow() {
    let most = |most| {
        let mut host = host(LARGE);
        assert_eq!(adopt(&mut host, 512..1024, most), 512);
        let folios = folios(&host, 512..1024);
        assert_eq!(host.engine.lru_folios() as usize, folios.len());
        to_the_end(host);
        folios
    };
    assert_eq!(most(Order::MAX), [512]);
    assert_eq!(most(Order::fitting(16)), [16; 32]);
    assert_eq!(most(Order::BASE), [1; 512]);
    let mut host = host(LARGE);
    assert_eq!(adopt(&mut host, 1..15, Order::MAX), 14);
    assert_eq!(folios(&host, 0..16), [1, 2, 4, 4, 2, 1]);
    to_the_end(host);
}

#[test]
fn a_fragmented_pool_gives_smaller_folios() {
    let mut host = host(Setup { frames: 8, ..SETUP });
    touch(&mut host, 20, Some(Put::Small));
    assert_eq!(adopt(&mut host, 0..8, Order::MAX), 7);
    assert_eq!(folios(&host, 0..8), [4, 2, 1]);
    to_the_end(host);
}

/// They will be there when the rest is asked for.
#[test]
fn it_ends_where_the_vma_does_and_before_what_is_not_empty() {
    let mut host = host(SETUP);
    play(&mut host, &[Event::Protect(Vpn(8), 8, Prot::READ), Event::Unmap(Vpn(24), 2)]);
    assert_eq!(adopt(&mut host, 4..32, Order::MAX), 4, "up to the edge of the next one");
    assert_eq!(adopt(&mut host, 4..32, Order::MAX), 0, "that is not empty");
    assert_eq!(adopt(&mut host, 8..32, Order::MAX), 8);
    touch(&mut host, 22, None);
    assert_eq!(adopt(&mut host, 16..32, Order::MAX), 6, "up to the page that was touched");
    assert_eq!(adopt(&mut host, 23..32, Order::MAX), 1, "up to the hole");
    assert_eq!(adopt(&mut host, 24..32, Order::MAX), 0, "nothing is mapped there");
    assert_eq!(adopt(&mut host, 30..30, Order::MAX), 0);
    assert_eq!(host.engine.frames_in_use(), 20);
    to_the_end(host);
}

/// Whatever there is at a page is more recent.
#[test]
fn no_state_but_empty_is_taken_over() {
    let mut host = host(SETUP);
    (0..3).for_each(|page| touch(&mut host, page, Some(Put::Small)));
    play(&mut host, &[Event::PageOut(Vpn(0), 1), Event::Grant(0), Event::Reclaim(Urgency::Behind)]);
    play(&mut host, &[Event::Run(0), Event::Reclaim(Urgency::Behind), Event::Grant(16)]);
    play(&mut host, &[Event::PageOut(Vpn(1), 1), Event::ForkSpace]);
    let states = [0, 1, 2].map(|page| host.engine.page_state(SPACE, Vpn(page)));
    let shared = PageState::Shared { mapped: true, copy: false };
    assert_eq!(states, [PageState::Stored, PageState::Standby { copy: false }, shared]);
    (0..3).for_each(|page| assert_eq!(adopt(&mut host, page..page + 8, Order::MAX), 0, "page {page}"));
    assert_eq!([0, 1, 2].map(|page| host.engine.page_state(SPACE, Vpn(page))), states);
    to_the_end(host);
}

#[test]
fn without_frames_it_takes_over_as_many_as_there_are() {
    let mut host = host(Setup { frames: 8, grant: 4, ..SETUP });
    assert_eq!(adopt(&mut host, 0..32, Order::MAX), 8);
    assert_eq!(adopt(&mut host, 8..32, Order::MAX), 0);
    touch(&mut host, 9, Some(Put::Small));
    to_the_end(host);
}

/// A larger run of frames is zeroed, and of no use.
#[test]
fn only_frames_without_memory_are_taken() {
    let mut host = host(Setup { frames: 8, ..SETUP });
    play(&mut host, &[Event::ZeroAhead(4, QUAD), Event::Run(0)]);
    touch(&mut host, 20, Some(Put::Small));
    assert_eq!(adopt(&mut host, 0..8, Order::MAX), 3);
    assert_eq!(folios(&host, 0..8), [2, 1]);
    to_the_end(host);
}

#[test]
fn a_grant_that_is_too_small_is_kept_afterwards() {
    let mut host = host(LARGE);
    assert_eq!(adopt(&mut host, 0..1024, Order::fitting(64)), 1024);
    assert!(host.engine.charged() > 3 * host.engine.grant() && host.engine.pressed());
    host.settle_to_grant().unwrap();
    assert!(host.engine.charged() <= host.engine.grant() && !host.engine.pressed());
    to_the_end(host);
}

/// Nobody knows that they were touched, and of what came before nobody knows that it was not.
#[test]
fn they_leave_after_what_is_inactive_and_before_what_is_active() {
    let mut host = host(SETUP);
    [3, 1].into_iter().for_each(|page| touch(&mut host, page, Some(Put::Small)));
    adopt(&mut host, 8..12, Order::BASE);
    play(&mut host, &[Event::PageOut(Vpn(1), 1)]);
    touch(&mut host, 1, None);
    let pages = |list| {
        let names = host.engine.listed(list).map(|frame| host.engine.rmap(frame));
        names.map(|names| names[0].vpn.0).collect::<Vec<_>>()
    };
    assert_eq!((pages(List::Inactive), pages(List::Active)), (vec![3, 8, 9, 10, 11], vec![1]));
    to_the_end(host);
}

#[test]
fn what_may_not_leave_is_on_no_list_until_it_may() {
    let kept = [Event::Protect(Vpn(0), 8, Prot::READ), Event::Lock(Vpn(0), 8, true)];
    let lets_go = [Event::Protect(Vpn(0), 8, RW), Event::Lock(Vpn(0), 8, false)];
    for (keep, let_go) in kept.into_iter().zip(lets_go) {
        let mut host = host(SETUP);
        play(&mut host, &[keep]);
        assert_eq!(adopt(&mut host, 0..8, QUAD), 8);
        assert_eq!((host.engine.evictable(), listed(&host, 0)), (0, false));
        play(&mut host, &[Event::Grant(0)]);
        host.settle_to_grant().unwrap();
        assert_eq!(host.engine.page_state(SPACE, Vpn(7)), PageState::Mapped { copy: false });
        play(&mut host, &[Event::Grant(16), let_go]);
        assert_eq!((host.engine.evictable(), listed(&host, 0)), (8, true));
        to_the_end(host);
    }
    let mut host = host(SETUP);
    play(&mut host, &[Event::Protect(Vpn(0), 8, Prot::NONE)]);
    adopt(&mut host, 0..8, QUAD);
    assert_eq!(host.engine.evictable(), 0);
    to_the_end(host);
}

/// Four threads wait for a page, and all of their messages were read.
fn wait_for(host: &mut Host, page: u64) {
    let touch = Touch { vpn: Vpn(page), put: None };
    (0..4).for_each(|thread| play(host, &[Event::Touch(thread, touch), Event::Take(thread)]));
}

#[test]
fn who_waits_for_a_page_goes_on_by_its_late_message() {
    let mut host = host(SETUP);
    wait_for(&mut host, 2);
    adopt(&mut host, 0..4, QUAD);
    assert_eq!(host.mmu.waiters.waiting().count(), 4);
    play(&mut host, &[Event::Serve(0); 4]);
    assert_eq!((host.engine.stats().late, host.mmu.waiters.waiting().count()), (4, 0));
    to_the_end(host);
}

/// Late messages about one page in a row mean that nobody gets on: but for those from before it was adopted.
#[test]
fn late_messages_from_before_do_not_count() {
    let mut host = host(SETUP);
    for _ in 0..4 {
        wait_for(&mut host, 2);
        adopt(&mut host, 0..4, QUAD);
        play(&mut host, &[Event::Serve(0); 4]);
        play(&mut host, &[Event::Discard(Vpn(0), 4)]);
    }
    assert_eq!(host.engine.stats().late, 16);
    adopt(&mut host, 0..4, QUAD);
    let late = Message { space: SPACE, vpn: Vpn(2), write: false };
    (0..10).for_each(|_| _ = host.serve(late).unwrap());
    assert_eq!((adopt(&mut host, 8..12, QUAD), adopt(&mut host, 0..8, QUAD)), (4, 0));
    assert!(host.serve(late).is_err(), "pages elsewhere are no progress for this one");
}

#[test]
fn the_program_does_with_them_what_it_does_with_others() {
    let calls: [&[Event]; 9] = [
        &[Event::Discard(Vpn(4), 2), Event::Adopt(Vpn(4), 2, QUAD, Put::Raw)],
        &[Event::Unmap(Vpn(3), 7), Event::Map(Vpn(3), 7, RW), Event::Adopt(Vpn(3), 7, QUAD, Put::Zero)],
        &[Event::Unmap(Vpn(17), 9), Event::Remap(Vpn(1), 9, Vpn(17))],
        &[Event::Protect(Vpn(5), 3, Prot::READ), Event::PageOut(Vpn(0), 16)],
        &[Event::Lock(Vpn(5), 3, true), Event::PageOut(Vpn(0), 16), Event::Lock(Vpn(5), 3, false)],
        &[Event::Pin(Vpn(5), true), Event::PageOut(Vpn(0), 16), Event::Pin(Vpn(5), false)],
        &[Event::Foreign(Vpn(2), 4), Event::Message(Vpn(3), false), Event::PageOut(Vpn(0), 16)],
        &[Event::PageOut(Vpn(0), 8), Event::Fork],
        &[Event::PageOut(Vpn(0), 8), Event::ForkSpace, Event::Message(Vpn(9), true), Event::Exit(0)],
    ];
    for most in [Order::BASE, QUAD, Order::MAX] {
        for events in calls {
            let mut host = host(Setup { policy: PolicyKind::Fixed(QUAD), ..SETUP });
            assert_eq!(adopt(&mut host, 0..16, most), 16);
            play(&mut host, events);
            to_the_end(host);
        }
    }
}

#[test]
fn base_pages_are_given_other_frames_and_collapsed() {
    let mut host = host(SETUP);
    adopt(&mut host, 0..8, Order::BASE);
    let frame = |host: &Host| host.engine.whereabouts(SPACE, Vpn(0)).frame.unwrap();
    let before = frame(&host);
    play(&mut host, &[Event::Discard(Vpn(1), 3), Event::Discard(Vpn(5), 1), Event::Vacate(before, QUAD)]);
    assert_ne!(frame(&host), before);
    adopt(&mut host, 1..4, Order::BASE);
    play(&mut host, &[Event::Collapse(Vpn(0), QUAD)]);
    assert_eq!(folios(&host, 0..8), [4, 1, 1, 1]);
    to_the_end(host);
}
