//! What the policies come to in the engine: which folios are there after a few faults, and in which frames.

use quire_core::fault::Shortfall;
use quire_core::job::Place;
use quire_core::mmu::Prot;
use quire_core::{Demand, Order, PageState, PolicyKind, Vpn};
use quire_sim::Host;
use quire_sim::world::{Event, Put, SPACE, Setup, Touch};

const BASE: PolicyKind = PolicyKind::Fixed(Order::BASE);

/// A host with pages 0..`pages` mapped, and memory for all of them.
fn host(policy: &str, pages: u64, spill: Option<u64>) -> Host {
    let policy = policy.parse().expect("a policy");
    let grant = 2 * pages.max(512) as u32;
    let mut host =
        Host::new(Setup { frames: 2 * grant, spans: 64, grant, policy, arena: pages, threads: 1, spill });
    play(&mut host, &[Event::Map(Vpn(0), pages, Prot::READ_WRITE)]);
    host
}

fn play(host: &mut Host, events: &[Event]) {
    for event in events {
        host.happen(*event).unwrap_or_else(|why| panic!("{event:?}: {why}"));
    }
}

/// Writes to a page. The order of the folio that it is in then.
fn write(host: &mut Host, page: u64, put: Put) -> usize {
    let touch = Touch { vpn: Vpn(page), put: Some(put) };
    play(host, &[Event::Touch(0, touch), Event::Handle(0), Event::Run(0)]);
    let order = host.engine.folio_order(SPACE, Vpn(page));
    order.unwrap_or_else(|| panic!("page {page} has no frame")).index()
}

fn touch(host: &mut Host, page: u64) -> usize {
    write(host, page, Put::Small)
}

#[test]
fn linux_takes_the_largest_enabled_size_that_fits_and_is_empty() {
    let mut host = host("linux:16K,64K,2M", 1024 + 20, None);
    assert_eq!(touch(&mut host, 700), 9, "all of 2 MiB is empty");
    assert_eq!(touch(&mut host, 1030), 4, "the VMA ends within 2 MiB, not within 64 KiB");
    assert_eq!(touch(&mut host, 1043), 2, "it ends within 64 KiB, not within 16 KiB");
    host.engine.set_policy(BASE);
    touch(&mut host, 0);
    host.engine.set_policy("linux:16K,64K,2M".parse().expect("a policy"));
    assert_eq!(touch(&mut host, 5), 2, "page 0 is in the way of 64 KiB");
    assert_eq!(touch(&mut host, 20), 4, "and not of these");
    assert_eq!(touch(&mut host, 1), 0, "page 0 is in the way of 16 KiB");
}

/// Writes 16 KiB, and has them moved out and stored until nothing of them has a frame.
fn stored(spill: Option<u64>, put: Put) -> Host {
    let mut host = host("linux:16K", 64, spill);
    assert_eq!(write(&mut host, 8, put), 2);
    (9..12).for_each(|page| _ = write(&mut host, page, put));
    let grant = host.setup().grant;
    play(&mut host, &[Event::PageOut(Vpn(8), 4), Event::Grant(0)]);
    for _ in 0..20 {
        play(&mut host, &[Event::Reclaim(Demand::Behind), Event::Run(0)]);
    }
    play(&mut host, &[Event::Grant(grant)]);
    assert!((8..12).all(|page| host.engine.page_state(SPACE, Vpn(page)) == PageState::Stored));
    host
}

#[test]
fn linux_brings_back_a_whole_folio_from_ram_and_single_pages_from_a_disk() {
    let mut in_ram = stored(None, Put::Small);
    assert_eq!(touch(&mut in_ram, 10), 2);
    let mut on_disk = stored(Some(1 << 20), Put::Raw);
    let place = on_disk.engine.whereabouts(SPACE, Vpn(10)).stored.map(|stored| stored.place);
    assert!(matches!(place, Some(Place::File { .. })), "{place:?}");
    assert_eq!(touch(&mut on_disk, 10), 0);
    on_disk.read_back().expect("nothing is lost");
}

#[test]
fn huge_coalesce_base_takes_2m_where_the_vma_has_room() {
    let mut host = host("huge-coalesce-base", 1024 + 20, None);
    assert_eq!(touch(&mut host, 700), 9);
    assert_eq!(touch(&mut host, 1030), 0);
    assert_eq!(host.engine.stats().shortfalls[Shortfall::VmaEdge.index()], 1);
}

/// The frames of the pages of each 64 KiB lie as the pages do, in whatever order those were touched.
#[test]
fn huge_coalesce_base_puts_base_pages_in_line() {
    const RUN: u64 = 16;
    let mut host = host("huge-coalesce-base", 16 * RUN, None);
    // 37 has no factor in common with the number of pages, so all of them come.
    for i in 0..16 * RUN {
        assert_eq!(touch(&mut host, i * 37 % (16 * RUN)), 0);
    }
    let frame = |page| host.engine.whereabouts(SPACE, Vpn(page)).frame.map(|frame| u64::from(frame.0));
    for page in 0..16 * RUN {
        let (first, this) = (frame(page - page % RUN), frame(page));
        assert_eq!(first.map(|frame| frame % RUN), Some(0), "page {page}");
        assert_eq!(this, first.map(|frame| frame + page % RUN), "page {page}");
    }
}
