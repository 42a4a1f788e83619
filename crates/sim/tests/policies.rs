//! What the policies come to in the engine: which folios are there after a few faults, and in which frames.

mod common;

use common::play;
use quire_core::job::Place;
use quire_core::mmu::Prot;
use quire_core::policy::Shortfall;
use quire_core::{Order, PageState, PolicyKind, Urgency, Vpn};
use quire_sim::Host;
use quire_sim::world::{Event, Put, SPACE, Setup, Touch};

const BASE: PolicyKind = PolicyKind::Fixed(Order::BASE);

/// A host with pages 0..`pages` mapped, and memory for all of them.
fn host(policy: &str, pages: u64, spill: Option<u64>) -> Host {
    let policy = policy.parse().expect("a policy");
    let grant = 2 * pages.max(512) as u32;
    let mut host =
        Host::new(Setup { frames: 2 * grant, segments: 256, grant, policy, arena: pages, threads: 1, spill });
    play(&mut host, &[Event::Map(Vpn(0), pages, Prot::READ_WRITE)]);
    host
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
        play(&mut host, &[Event::Reclaim(Urgency::Behind), Event::Run(0)]);
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
    let place = on_disk.stored(&on_disk.engine.whereabouts(SPACE, Vpn(10))).map(|stored| stored.place);
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

/// What `adaptive` leaves unused, in the replay's machine. Pages.
mod adaptive {
    use quire_core::mmu::Prot;
    use quire_core::{PageRange, PolicyKind, Space, Vpn};
    use quire_sim::replay::{Cell, Figures, replay};
    use quire_sim::rng::Rng;
    use quire_sim::tlb::Model;
    use quire_sim::trace::{Access, Event};

    const START: Vpn = Vpn(1 << 20);
    /// What a VMA may waste in any case.
    const GRACE: u64 = 64;

    fn run(memory: Option<u32>, events: impl IntoIterator<Item = Event>) -> Figures {
        let cell = Cell::new(PolicyKind::Adaptive, memory, Model::None);
        replay(&cell, events.into_iter().map(Ok), &mut |_, _| {}).expect("a replay")
    }

    fn map(pages: u64) -> Event {
        Event::Map { range: PageRange::new(Space(0), START, pages), prot: Prot::READ_WRITE }
    }

    fn write(page: u64) -> Event {
        Event::Access(Access::write(Space(0), START.plus(page)))
    }

    /// Runs of pages at random places, each written in order, of random lengths up to `longest`.
    fn runs(seed: u64, pages: u64, count: u64, longest: u64) -> Vec<Event> {
        let mut rng = Rng::new(seed);
        let mut events = vec![map(pages)];
        for _ in 0..count {
            let length = 1 + rng.below(longest);
            let start = rng.below(pages - length);
            events.extend((start..start + length).map(write));
        }
        events
    }

    #[test]
    fn without_a_limit_it_wastes_a_quarter_of_what_is_used_at_most() {
        for seed in 0..40 {
            let longest = 1 << (seed % 12);
            let figures = run(None, runs(seed, 1 << 16, 400, longest));
            let (wasted, used) = (figures.wasted.last, figures.resident.last - figures.wasted.last);
            assert!(wasted <= used / 4 + GRACE, "seed {seed}: {wasted} beside {used}");
        }
    }

    #[test]
    fn long_streams_cost_few_faults_whatever_their_direction() {
        let pages = 1 << 15;
        for down in [false, true] {
            let order = (0..pages).map(|i| if down { pages - 1 - i } else { i });
            let figures = run(None, [map(pages)].into_iter().chain(order.map(write)));
            assert!(figures.faults < 200, "{} faults", figures.faults);
            assert!(figures.stats.zero_fills[9] > 0);
        }
    }

    #[test]
    fn folios_shrink_as_room_falls() {
        let pages = 1 << 14;
        let largest = |memory| {
            let figures = run(memory, [map(pages)].into_iter().chain((0..pages).map(write)));
            figures.stats.zero_fills.iter().rposition(|&n| n > 0).expect("a fill")
        };
        let orders = [None, Some(8192), Some(4096), Some(1024)].map(largest);
        assert_eq!(orders[0], 9);
        assert!(orders.is_sorted_by(|a, b| a >= b) && orders[3] <= 5, "{orders:?}");
    }

    /// Isolated faults of a program whose pages have nothing to do with each other come back alone.
    #[test]
    fn what_is_used_at_random_comes_back_page_by_page() {
        let pages = 1 << 12;
        for seed in 0..4 {
            let mut rng = Rng::new(seed);
            let figures = run(
                Some(1 << 11),
                [map(pages)].into_iter().chain((0..60_000).map(|_| write(rng.below(pages)))),
            );
            let folios: u64 = figures.stats.swap_ins.iter().sum();
            let single = figures.stats.swap_ins[0];
            assert!(folios > 5000 && single * 10 >= folios * 9, "seed {seed}: {single} of {folios}");
        }
    }

    /// A phase at random, then scans: what was used together comes back together again, in far fewer faults than pages.
    #[test]
    fn it_recovers_after_a_phase() {
        let pages = 1 << 12;
        let mut rng = Rng::new(1);
        let random: Vec<Event> = (0..40_000).map(|_| write(rng.below(pages))).collect();
        let scans = (0..8).flat_map(|_| (0..pages).map(write));
        let before = run(Some(3 << 10), [map(pages)].into_iter().chain(random.clone()));
        let after = run(Some(3 << 10), [map(pages)].into_iter().chain(random).chain(scans));
        let faults = after.faults - before.faults;
        assert!(faults < 8 * pages / 2, "{faults} faults for {} pages", 8 * pages);
    }
}
