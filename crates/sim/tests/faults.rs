//! What single faults take and leave behind: frames that lie ready, stored copies, places on the lists.

mod common;

use common::play;
use quire_core::job::{JobKind, Place};
use quire_core::mmu::Prot;
use quire_core::{Order, PageState, PolicyKind, Reclaim, Urgency, Vpn};
use quire_sim::Host;
use quire_sim::world::{Event, Put, SPACE, Setup, Touch};

/// A program of 128 pages in base folios, all of them mapped.
fn host(grant: u32, spill: Option<u64>) -> Host {
    let policy = PolicyKind::Fixed(Order::BASE);
    let mut host =
        Host::new(Setup { frames: 256, segments: 128, grant, policy, arena: 128, threads: 1, spill });
    play(&mut host, &[Event::Map(Vpn(0), 128, Prot::READ_WRITE)]);
    host
}

fn write(host: &mut Host, page: u64, put: Put) {
    let touch = Touch { vpn: Vpn(page), put: Some(put) };
    play(host, &[Event::Touch(0, touch), Event::Handle(0), Event::Run(0)]);
    host.drain().unwrap();
}

fn read(host: &mut Host, page: u64) {
    play(host, &[Event::Touch(0, Touch { vpn: Vpn(page), put: None })]);
    host.drain().unwrap();
}

fn state(host: &Host, page: u64) -> PageState {
    host.engine.page_state(SPACE, Vpn(page))
}

/// Reclaim until it has nothing to do, jobs included.
fn reclaim(host: &mut Host) {
    for _ in 0..500 {
        match host.reclaim(Urgency::Behind).unwrap() {
            Reclaim::Job => while !host.step(0).unwrap() {},
            Reclaim::Progress => {}
            _ => return,
        }
    }
    panic!("reclaim goes on without end");
}

/// Pages `from..from + count` are moved out and stored, and lose their frames first: little room is left.
fn store(host: &mut Host, from: u64, count: u64) {
    let grant = host.engine.grant();
    play(host, &[Event::PageOut(Vpn(from), count)]);
    reclaim(host);
    play(host, &[Event::Grant(grant - 8)]);
    reclaim(host);
    play(host, &[Event::Grant(grant)]);
}

#[test]
fn a_single_page_of_zeroes_leaves_what_lies_ready_to_larger_folios() {
    let mut host = host(256, None);
    play(&mut host, &[Event::ZeroAhead(64, Order::MAX), Event::Run(0)]);
    let ready = host.engine.frames_charged();
    assert!(ready >= 16, "{ready} frames lie ready");
    write(&mut host, 5, Put::Small);
    assert_eq!((host.engine.frames_in_use(), host.engine.frames_charged()), (1, ready + 1));
    host.engine.set_policy(PolicyKind::Fixed(Order::BASE.up()));
    write(&mut host, 8, Put::Small);
    assert_eq!((host.engine.frames_in_use(), host.engine.frames_charged()), (3, ready + 1));
}

/// The copy of a page that compresses costs little and may spare a write. One that does not takes as much as the page.
#[test]
fn a_copy_in_ram_that_takes_as_much_as_its_page_goes_when_the_page_is_back() {
    let mut host = host(64, Some(1 << 20));
    (2..62).for_each(|page| write(&mut host, page, Put::Zero));
    write(&mut host, 0, Put::Small);
    write(&mut host, 1, Put::Raw);
    store(&mut host, 0, 2);
    for page in 0..2 {
        let stored = host.stored(&host.engine.whereabouts(SPACE, Vpn(page))).map(|stored| stored.place);
        assert!(matches!(stored, Some(Place::Ram { .. })), "page {page}: {stored:?}");
        assert_eq!(state(&host, page), PageState::Stored);
        read(&mut host, page);
    }
    assert_eq!(state(&host, 0), PageState::Mapped { copy: true });
    assert_eq!(state(&host, 1), PageState::Mapped { copy: false });
}

#[test]
fn what_ram_has_no_room_for_goes_from_there_to_the_file_the_oldest_first() {
    let mut host = host(64, Some(1 << 20));
    let place = |host: &Host, page| {
        host.stored(&host.engine.whereabouts(SPACE, Vpn(page))).map(|stored| stored.place)
    };
    let mut spilled = Vec::new();
    for page in 0..128 {
        write(&mut host, page, Put::Raw);
        reclaim(&mut host);
        for old in 0..page {
            if matches!(place(&host, old), Some(Place::File { .. })) && !spilled.contains(&old) {
                spilled.push(old);
            }
        }
        let most = host.engine.grant() * 19 / 32;
        assert!(
            host.mmu.store.figures().ram_pages <= most,
            "{} pages of store",
            host.mmu.store.figures().ram_pages
        );
    }
    assert!(spilled.len() > 8 && spilled.is_sorted(), "{spilled:?}");
    assert_eq!(host.engine.stats().pages_spilled, spilled.len() as u64);
    assert!(host.spill_jobs > 0, "none of it was in RAM before");
    host.read_back().expect("nothing is lost");
}

/// Page 0 is stored, `between` other pages are moved out, and it is needed again; 20 pages are active. Whether it is
/// still mapped when all but 14 pages have been moved out.
fn outlives_the_active_ones(between: u64) -> bool {
    let mut host = host(64, None);
    (2..62).for_each(|page| write(&mut host, page, Put::Zero));
    write(&mut host, 0, Put::Small);
    play(&mut host, &[Event::PageOut(Vpn(2), 20)]);
    (2..22).for_each(|page| read(&mut host, page));
    store(&mut host, 0, 1);
    assert_eq!(state(&host, 0), PageState::Stored);
    play(&mut host, &[Event::PageOut(Vpn(22), between)]);
    reclaim(&mut host);
    read(&mut host, 0);
    assert!(state(&host, 0).is_present());
    play(&mut host, &[Event::Grant(16)]);
    reclaim(&mut host);
    assert!(host.engine.frames_in_use() <= 16);
    state(&host, 0).is_present()
}

/// Soon: before as many pages were moved out as are active.
#[test]
fn a_page_that_is_needed_again_soon_is_active_and_one_that_is_not_is_the_first_to_leave() {
    assert!(outlives_the_active_ones(0));
    assert!(!outlives_the_active_ones(40));
}

/// Writes what does not compress to one page after another until a job that moves some of it to the file is under way.
fn until_it_spills(host: &mut Host, pages: std::ops::Range<u64>) {
    for page in pages {
        write(host, page, Put::Raw);
        loop {
            match host.reclaim(Urgency::Behind).unwrap() {
                Reclaim::Job if host.jobs[0].work.kind == JobKind::Spill => return,
                Reclaim::Job => while !host.step(0).unwrap() {},
                Reclaim::Progress => {}
                _ => break,
            }
        }
    }
    panic!("nothing spills");
}

/// What a disk that failed holds can still be read, but nothing is written to it any more.
#[test]
fn the_file_stays_open_after_a_spill_and_is_closed_after_one_that_failed() {
    let mut host = host(64, Some(1 << 20));
    until_it_spills(&mut host, 0..96);
    play(&mut host, &[Event::Run(0)]);
    let spilled = host.engine.stats().pages_spilled;
    assert!(host.mmu.store.figures().has_file && spilled > 0);
    until_it_spills(&mut host, 96..128);
    play(&mut host, &[Event::Fail(0)]);
    assert_eq!((host.mmu.store.figures().has_file, host.engine.stats().pages_spilled), (false, spilled));
    host.read_back().expect("nothing is lost");
}
