//! Small traces with exact counts, and what must hold of any.

use super::host::Host;
use super::*;
use crate::rng::Rng;
use crate::trace::Access;
use crate::workload::{Kind, Size};
use quire_core::mmu::Prot;
use quire_core::{Frame, Order, PAGE_SIZE, PageRange, PolicyKind, Space, Vpn};
use std::collections::{BTreeMap, BTreeSet};

const HERE: Space = Space(0);
const BASE: Vpn = Vpn(1 << 20);

fn order(number: u8) -> Order {
    Order::new(number).expect("an order")
}

fn fixed(number: u8) -> PolicyKind {
    PolicyKind::Fixed(order(number))
}

fn cell(policy: PolicyKind, memory: Option<u32>) -> Cell {
    Cell::new(policy, memory, Model::Zen3)
}

fn run(cell: &Cell, events: impl IntoIterator<Item = Event>) -> Figures {
    replay(cell, events.into_iter().map(Ok), &mut |_, _| {}).expect("a replay")
}

fn map(pages: u64) -> Event {
    Event::Map { range: range(0, pages), prot: Prot::READ_WRITE }
}

fn range(from: u64, pages: u64) -> PageRange {
    PageRange::new(HERE, BASE.plus(from), pages)
}

fn write(page: u64) -> Event {
    Event::Access(Access::write(HERE, BASE.plus(page)))
}

fn read(page: u64) -> Event {
    Event::Access(Access::read(HERE, BASE.plus(page)))
}

fn page_bytes(pages: u64) -> u64 {
    pages * PAGE_SIZE as u64
}

#[test]
fn base_pages_are_copied_in_one_by_one() {
    let figures = run(&cell(fixed(0), None), [map(8)].into_iter().chain((0..4).map(write)).chain([read(0)]));
    let costs = Costs::default();
    assert_eq!((figures.events, figures.accesses, figures.faults), (6, 5, 4));
    assert_eq!(figures.stats.zero_fills[0], 4);
    assert_eq!(figures.zeroed_bytes, page_bytes(4));
    assert_eq!((figures.resident.last, figures.resident.peak, figures.wasted.peak), (4, 4, 0));
    assert_eq!(figures.lru.last, 4);
    // Each new page misses; the first one is found again in the entry that it got then.
    assert_eq!((figures.tlb.misses, figures.tlb.l1_hits), (4, 1));
    let each = costs.fault + costs.copy_call + costs.copy_page + costs.walk;
    assert_eq!(figures.modelled_ns(), costs.call + 4 * each + 5 * costs.access);
}

#[test]
fn a_folio_comes_with_one_fault_and_its_untouched_pages_are_waste() {
    let figures = run(&cell(fixed(4), None), [map(16)].into_iter().chain((0..10).map(write)));
    let costs = Costs::default();
    assert_eq!((figures.faults, figures.stats.zero_fills[4]), (1, 1));
    assert_eq!(figures.zeroed_bytes, page_bytes(16));
    assert_eq!((figures.resident.last, figures.wasted.last, figures.lru.last), (16, 6, 1));
    // An entry for 16 KiB serves four pages.
    assert_eq!((figures.tlb.misses, figures.tlb.l1_hits), (3, 7));
    let fill = 16 * costs.fresh_page + costs.move_call + 16 * costs.move_page;
    let accesses = 10 * costs.access + 3 * costs.walk;
    assert_eq!(figures.modelled_ns(), costs.call + costs.fault + fill + accesses);
}

#[test]
fn a_fault_with_less_than_wanted_says_why() {
    let events = [map(24), write(20), write(0), Event::Discard(range(0, 8)), write(0)];
    let stats = run(&cell(fixed(4), None), events).stats;
    assert_eq!(stats.zero_fills[..5], [2, 0, 0, 0, 1]);
    // One at the edge of the VMA, one beside pages that are there.
    assert_eq!(stats.shortfalls, [1, 1, 0, 0]);
}

#[test]
fn what_is_given_up_is_gone_and_flushed() {
    let begin = [map(32)].into_iter().chain((0..32).map(write));
    let kept = run(&cell(fixed(4), None), begin.clone());
    assert_eq!((kept.resident.last, kept.tlb.flushes), (32, 0));
    let events = begin.clone().chain([Event::Discard(range(3, 5)), read(3), Event::Unmap(range(16, 16))]);
    let figures = run(&cell(fixed(4), None), events);
    assert_eq!((figures.faults, figures.resident.last), (3, 12));
    assert_eq!(figures.tlb.flushes, 2);
    let figures = run(&cell(fixed(4), None), begin.chain([Event::Exit(HERE)]));
    assert_eq!((figures.resident.last, figures.lru.last, figures.charged.last), (0, 0, 0));
}

#[test]
fn rights_are_kept() {
    let read_only = Event::Protect { range: range(0, 2), prot: Prot::READ };
    let figures =
        run(&cell(fixed(0), None), [map(4), write(0), read_only, write(0), read(0), read(1), write(2)]);
    assert_eq!((figures.denied, figures.accesses, figures.faults), (1, 4, 3));
    assert_eq!(figures.tlb.flushes, 1);
}

#[test]
fn memory_that_a_trace_never_mapped_is_mapped_in_2_mib() {
    let events =
        [read(5), read(6), read(513), Event::Map { range: range(1024 + 8, 8), prot: Prot::READ }, read(1024)];
    let figures = run(&cell(fixed(9), None), events);
    assert_eq!((figures.implied, figures.faults), (3, 3));
    // The last range ends where a mapping begins, so that only a base page fits.
    assert_eq!((figures.stats.zero_fills[9], figures.stats.zero_fills[0]), (2, 1));
}

#[test]
fn programs_in_one_memory_have_pages_of_their_own() {
    let other = |event| match event {
        Event::Access(access) => Event::Access(Access { space: Space(7), ..access }),
        event => event,
    };
    let events = [write(0), other(write(0)), write(0), other(read(0)), Event::Exit(Space(7)), read(0)];
    let figures = run(&cell(fixed(0), None), events);
    assert_eq!((figures.faults, figures.resident.peak, figures.resident.last), (2, 2, 1));
}

/// The same by another program.
fn by(program: u16, event: Event) -> Event {
    match event {
        Event::Access(access) => Event::Access(Access { space: Space(program), ..access }),
        event => event,
    }
}

const FORK: Event = Event::Fork { parent: HERE, child: Space(1) };

#[test]
fn a_fork_shares_until_somebody_writes() {
    let begin = [map(4), write(0), write(1), FORK, by(1, read(0)), by(1, read(1))];
    let shared = run(&cell(fixed(0), None), begin);
    // The child reads what is mapped for it already, and no memory is taken for it.
    assert_eq!((shared.faults, shared.resident.last, shared.charged.last), (2, 2, 2));
    assert_eq!((shared.tlb.flushes, shared.wasted.last), (1, 0));
    let costs = Costs::default();
    let fork = costs.call + 2 * costs.move_page;
    assert_eq!(shared.time[Cause::Call as usize], costs.call + fork);

    let parted = run(&cell(fixed(0), None), begin.into_iter().chain([by(1, write(0)), write(1), write(0)]));
    // Two copies; what nobody else has any longer is written without one.
    assert_eq!((parted.stats.cow_copies[0], parted.stats.cow_reuses, parted.faults), (2, 1, 5));
    assert_eq!((parted.resident.last, parted.tlb.flushes), (4, 4));
    let copy = costs.move_call + costs.move_page + costs.copy_call + costs.copy_page;
    let reuse = 2 * (costs.move_call + costs.move_page);
    let fills = 2 * (costs.copy_call + costs.copy_page);
    assert_eq!(parted.time[Cause::Map as usize], fills + 2 * copy + reuse);
}

#[test]
fn the_last_of_a_family_leaves_nothing() {
    let begin = [map(64)].into_iter().chain((0..64).map(write)).chain([FORK]);
    let events = begin.chain((0..8).map(|page| by(1, write(page)))).chain([Event::Exit(HERE)]);
    let orphan = run(&cell(fixed(4), None), events.clone());
    assert_eq!((orphan.resident.last, orphan.stats.cow_copies[4]), (64, 1));
    // That of the fork, that of the exit, and one for all 16 pages of the copy.
    assert_eq!(orphan.tlb.flushes, 3);
    let gone = run(&cell(fixed(4), None), events.chain([Event::Exit(Space(1))]));
    assert_eq!((gone.resident.last, gone.wasted.last, gone.lru.last), (0, 0, 0));
}

#[test]
fn what_a_child_does_not_write_is_unchanged_or_zero() {
    let pages = 1024;
    let fork = |child| Event::Fork { parent: HERE, child: Space(child) };
    let pass = |program: u16, event: fn(u64) -> Event| (0..pages).map(move |page| by(program, event(page)));
    let events = |first: fn(u64) -> Event| {
        [map(pages)]
            .into_iter()
            .chain(pass(0, first))
            .chain([fork(1)])
            .chain((0..4).flat_map(move |_| pass(1, read).chain(pass(0, read))))
    };
    // Three quarters of what there is.
    let written = run(&cell(fixed(0), Some(768)), events(write));
    assert!(written.stats.pages_same > 0 && written.stats.cow_copies[0] == 0, "{:?}", written.stats);
    let often = run(&cell(fixed(0), Some(768)), events(write).chain(pass(0, write)).chain(pass(1, read)));
    assert!(often.stats.pages_stored > written.stats.pages_stored);
    let read = run(&cell(fixed(0), Some(768)), events(read));
    assert_eq!((read.stats.pages_stored, read.expanded_pages), (0, 0));
    assert!(read.stats.pages_zero > 0);
}

fn machine(memory: Option<u32>) -> Cell {
    Cell::new(Paging::of_base(order(4)).expect("64 KiB"), memory, Model::Zen3)
}

#[test]
fn a_base_page_of_64_kib_comes_whole_and_waste_counts_in_4_kib() {
    let events = [Event::Map { range: range(8, 40), prot: Prot::READ_WRITE }, write(8), write(9), read(30)];
    let figures = run(&machine(None), events);
    assert_eq!((figures.faults, figures.stats.zero_fills), (2, [0, 0, 0, 0, 2, 0, 0, 0, 0, 0]));
    assert_eq!(figures.zeroed_bytes, page_bytes(32));
    assert_eq!((figures.resident.last, figures.wasted.last, figures.lru.last), (32, 29, 2));
    assert_eq!((figures.charged.last, figures.tlb.misses), (32, 2));
    // As long as a folio of that size, but for the entries.
    let costs = Costs::default();
    let fill = 16 * costs.fresh_page + costs.move_call + costs.move_page;
    let each = costs.fault + fill + costs.walk;
    assert_eq!(figures.modelled_ns(), costs.call + 2 * each + 3 * costs.access);
}

#[test]
fn ranges_that_meet_in_a_base_page_keep_it_and_their_rights() {
    let read_only = Event::Map { range: range(8, 8), prot: Prot::READ };
    let begin = [map(8), read_only, write(0), write(8), read(8)];
    let figures = run(&machine(None), begin);
    assert_eq!((figures.faults, figures.denied, figures.resident.last), (1, 1, 16));
    // The contents of a part stay with the page, and go with it.
    let part = begin.into_iter().chain([Event::Discard(range(0, 8)), Event::Unmap(range(0, 8)), read(9)]);
    let figures = run(&machine(None), part.clone());
    assert_eq!((figures.faults, figures.implied, figures.resident.last), (1, 0, 16));
    let figures = run(&machine(None), part.chain([Event::Unmap(range(8, 8))]));
    assert_eq!((figures.resident.last, figures.charged.last), (0, 0));
}

#[test]
fn a_machine_of_64_kib_pages_swaps_them_whole_in_true_bytes() {
    let size = Size { pages: 16384, events: 150_000 };
    let small = run(&cell(fixed(0), Some(8192)), Kind::Zipf.events(size, 1));
    let large = run(&machine(Some(8192)), Kind::Zipf.events(size, 1));
    // Few pages of each 64 KiB are in use, so that fewer of them find room.
    assert!(large.stats.pages_stored > small.stats.pages_stored, "{large:?}");
    assert_eq!((large.stats.pages_stored % 16, large.expanded_pages % 16), (0, 0));
    let ratio = |figures: &Figures| figures.stats.bytes_stored as f64 / figures.stats.pages_stored as f64;
    // What was never written takes no store, and one part of several makes a page dirty.
    assert!(ratio(&large) > 300.0 && ratio(&large) < 1.2 * ratio(&small), "{}", ratio(&large));
    assert!(large.charged.peak <= 8192 + 1024 && large.resident.peak > 4000, "{large:?}");
    let fragmented = Cell { fragmentation: 90, ..machine(Some(8192)) };
    assert_eq!(run(&fragmented, Kind::Zipf.events(size, 1)), large);
}

const EPOCH: Event = Event::Time { ns: EPOCH_NS };

#[test]
fn a_run_that_is_used_all_over_becomes_one_mapping() {
    let used = || (0..16).map(write).chain([EPOCH]);
    let events = || [map(16)].into_iter().chain((0..8).flat_map(move |_| used())).chain(used());
    for (tlb, covers) in [(Model::None, 0), (Model::NeoverseN1, 16), (Model::Zen3, 4)] {
        let on = |epoch_ns| run(&Cell { tlb, epoch_ns, ..cell(fixed(0), Some(2048)) }, events());
        let (with, without) = (on(EPOCH_NS), on(0));
        let collapses = with.stats.collapses[4];
        assert_eq!((collapses, with.lru.last, with.resident.last), (1, 1, 16), "{tlb}");
        assert_eq!((without.stats.collapses[4], without.lru.last, without.epochs), (0, 16, 0), "{tlb}");
        // Base pages come from frames side by side, in a pool where nothing else is.
        assert_eq!((with.moved_pages, with.tlb.flushes, with.faults), (0, 1, 16), "{tlb}");
        // Where an entry serves the whole run, one walk in each later epoch is enough.
        let walks = with.tlb.misses - without.tlb.misses;
        match covers {
            0 => assert_eq!(walks, 0),
            16 => assert!(walks < 6 * 16, "{walks} walks"),
            _ => assert!(walks < 9 * 4, "{walks} walks"),
        }
    }
}

#[test]
fn a_folio_of_which_few_pages_are_used_is_split_and_the_rest_moved_out() {
    let used = || (0..4).map(write).chain([EPOCH]);
    let events = || [map(16)].into_iter().chain((0..6).flat_map(move |_| used()));
    let on = |tlb, policy| run(&Cell { tlb, ..cell(policy, Some(2048)) }, events());
    let split = on(Model::Skylake, fixed(4));
    assert_eq!((split.stats.sparse_folios, split.stats.sparse_pages), (1, 12), "{:?}", split.stats);
    assert_eq!((split.resident.last, split.wasted.last, split.faults), (4, 0, 1));
    // Four pages that are walked for as one are used together; sixteen all are.
    assert_eq!(on(Model::Zen3, fixed(4)).stats.sparse_pages, 12);
    assert_eq!(on(Model::NeoverseN1, fixed(4)).stats.sparse_folios, 0);
}

/// Passes over twice as many pages as there is memory.
fn passes(event: fn(u64) -> Event, times: usize) -> impl Iterator<Item = Event> {
    [map(2048)].into_iter().chain((0..times).flat_map(move |_| (0..2048).map(event)))
}

#[test]
fn what_is_only_read_keeps_its_stored_copy_and_what_is_written_does_not() {
    let after = |event| run(&cell(fixed(0), Some(1024)), passes(write, 1).chain(passes(event, 4).skip(1)));
    let (read, written) = (after(read), after(write));
    assert!(read.stats.pages_same > 0 && read.expanded_pages > 2048, "{:?}", read.stats);
    assert_eq!(written.stats.pages_same, 0);
    assert!(read.stats.pages_stored < written.stats.pages_stored);
    assert!(read.charged.peak <= 1024 + 64, "{:?}", read.charged);
}

#[test]
fn what_was_never_written_takes_no_store() {
    let figures = run(&cell(fixed(0), Some(1024)), passes(read, 3));
    assert_eq!((figures.stats.pages_stored, figures.expanded_pages), (0, 0));
    assert!(figures.stats.pages_zero > 1024);
}

#[test]
fn without_a_disk_nothing_is_written_to_one() {
    let with = run(&cell(fixed(0), Some(1024)), passes(write, 3));
    let without = run(&Cell { spill: false, ..cell(fixed(0), Some(1024)) }, passes(write, 3));
    assert!(with.disk_written.0 > 0 && with.disk_read.0 > 0);
    assert_eq!((without.disk_written, without.disk_read), ((0, 0), (0, 0)));
}

#[test]
fn a_program_that_pauses_waits_less_for_reclaim() {
    const PAUSE: u64 = 2_000_000;
    // So slow that reclaim can't keep up with a program that does not pause.
    let costs = Costs { compress_page: 100_000, ..Costs::default() };
    let slow = Cell { costs, ..cell(fixed(0), Some(1024)) };
    let busy = run(&slow, passes(write, 2));
    let idle = run(&slow, passes(write, 2).flat_map(|event| [event, Event::Time { ns: PAUSE }]));
    assert_eq!(idle.passed_ns, PAUSE * 4097);
    assert!(busy.time[Cause::Reclaim as usize] > 0);
    assert_eq!((idle.time[Cause::Reclaim as usize], idle.stats.evicted_direct), (0, 0));
}

#[test]
fn larger_folios_fault_less_on_a_fill_and_waste_more_on_sparse_memory() {
    let size = Size { pages: 8192, events: 50_000 };
    let results = |kind: Kind| [0, 4, 9].map(|n| run(&cell(fixed(n), None), kind.events(size, 1)));
    let fill = results(Kind::Sequential);
    assert_eq!(fill.each_ref().map(|f| f.faults), [8192, 512, 16]);
    let sparse = results(Kind::Sparse);
    assert_eq!(sparse[0].wasted.peak, 0);
    // Eight pages in each 2 MiB are touched.
    assert_eq!(sparse[2].wasted.last, 16 * (512 - 8));
    assert!(sparse[1].wasted.last > 0 && sparse[1].wasted.last < sparse[2].wasted.last / 4);
    assert!(sparse[0].tlb.misses >= sparse[2].tlb.misses);
}

#[test]
fn fragmentation_leaves_as_much_memory_and_fewer_runs() {
    let on = |policy, fragmentation| {
        let events = [map(4096)].into_iter().chain((0..3072).map(write));
        run(&Cell { fragmentation, ..cell(policy, Some(4096)) }, events)
    };
    // Base pages mind nothing.
    assert_eq!(on(fixed(0), 0), on(fixed(0), 100));
    let fills = [0, 50, 90, 100].map(|percent| on(fixed(4), percent).stats.zero_fills[4]);
    assert_eq!(fills[0], 192);
    // There are 290 runs and 273 or 256 besides.
    assert!((130..=150).contains(&fills[1]) && (20..=32).contains(&fills[2]), "{fills:?}");
    assert_eq!(fills[3], 0);
    let all = on(fixed(4), 100);
    assert_eq!((all.faults, all.stats.zero_fills[0], all.resident.last), (3072, 3072, 3072));
    // The first fault of each run finds no free one, the others find a neighbour.
    assert_eq!(all.stats.shortfalls, [0, 3072 - 192, 0, 192]);
    let largest = [0, 50].map(|percent| on(fixed(9), percent).stats.zero_fills[9]);
    assert_eq!(largest, [6, 0]);
}

#[test]
fn equal_inputs_give_equal_figures() {
    let size = Size { pages: 4096, events: 20_000 };
    for kind in [Kind::Zipf, Kind::Ageing, Kind::Phases, Kind::Forks, Kind::Several] {
        // Nearly all time of the ageing passes by itself.
        let epoch_ns = if kind == Kind::Ageing { 3600 * EPOCH_NS } else { EPOCH_NS / 100 };
        let cell = Cell { epoch_ns, ..cell(PolicyKind::Adaptive, Some(1 << 11)) };
        assert_eq!(run(&cell, kind.events(size, 3)), run(&cell, kind.events(size, 3)), "{kind}");
    }
}

/// Any event on few pages of three programs.
fn any_event(rng: &mut Rng) -> Event {
    let space = Space(rng.below(3) as u16);
    let start = BASE.plus(rng.below(1400));
    let part = PageRange::new(space, start, 1 + rng.below(200));
    let prot = [Prot::READ_WRITE, Prot::READ_WRITE, Prot::READ, Prot::NONE][rng.below(4) as usize];
    match rng.below(1000) {
        0..4 => Event::Map { range: PageRange { pages: part.pages * 8, ..part }, prot: Prot::READ_WRITE },
        4..6 => Event::Unmap(part),
        6..10 => Event::Discard(part),
        10..14 => Event::Protect { range: part, prot },
        14 => Event::Exit(space),
        20..23 => Event::Fork { parent: space, child: Space(rng.below(3) as u16) },
        15..20 => Event::Time { ns: rng.below(1_000_000) },
        _ => Event::Access(Access { space, vpn: start, write: rng.chance(40), times: 1 }),
    }
}

/// Tables agree with the engine's page by page, counts with the tables, and no translation was stale.
fn check<T: Tlb>(host: &mut Host<T>) {
    host.engine.validate(&host.memory.store).expect("valid tables");
    let mut mapped: BTreeMap<u32, Vec<(Space, Vpn)>> = BTreeMap::new();
    for program in [Space(0), Space(1), Space(2)] {
        let space = host.space_of(program).expect("few programs");
        for page in (host.page_of(BASE).0 - 512..host.page_of(BASE).0 + 4096).map(Vpn) {
            let entry = host.memory.entry(space, page);
            let there = host.engine.whereabouts(space, page);
            let here = entry.has(table::flag::PRESENT);
            assert_eq!(here, there.state.is_present(), "{space:?} {page:?}: {there:?}");
            let rights = host.engine.vmas(space).at(page).map_or(Prot::NONE, |vma| vma.prot);
            assert_eq!(host.memory.table(space).rights.at(page), rights, "{space:?} {page:?}");
            let parts = host.parts_of(page);
            let wanted = host.ranges_of(program).runs(parts).filter_map(|(_, prot)| prot);
            assert_eq!(rights.bits(), wanted.fold(0, |bits, prot| bits | prot.bits()), "{space:?} {page:?}");
            if here {
                assert_eq!(Some(entry.mapping().frame), there.frame, "{space:?} {page:?}");
                assert_eq!(
                    entry.has(table::flag::SHARED),
                    there.sharers > 0,
                    "{space:?} {page:?}: {there:?}"
                );
                let writes = rights.bits() & 2 != 0 && there.sharers == 0;
                assert_eq!(entry.has(table::flag::WRITE), writes, "{space:?} {page:?}: {there:?}");
                mapped.entry(entry.mapping().frame.0).or_default().push((space, page));
            }
        }
    }
    check_counts(host, &mapped);
}

/// Counts of frames, and of the spaces that map them.
fn check_counts<T: Tlb>(host: &mut Host<T>, mapped: &BTreeMap<u32, Vec<(Space, Vpn)>>) {
    let mut untouched = 0;
    let mut spaces: BTreeMap<u32, BTreeSet<Space>> = BTreeMap::new();
    for (&frame, pages) in mapped {
        let mut pages = pages.clone();
        pages.sort();
        let contents = *host.memory.contents_of(frame);
        assert_eq!(usize::from(contents.maps), pages.len(), "frame {frame}");
        untouched += u64::from(host.memory.base.pages() - contents.touched.count_ones());
        let rmap = host.engine.rmap(Frame(frame));
        let named: Vec<_> = rmap.iter().filter(|m| m.mapped).map(|m| (m.space, m.vpn)).collect();
        assert_eq!(named, pages, "frame {frame}");
        let order = host.engine.whereabouts(pages[0].0, pages[0].1).order.expect("a folio");
        let of_folio = spaces.entry(order.align_down(frame.into()) as u32).or_default();
        of_folio.extend(pages.iter().map(|page| page.0));
    }
    for (&head, of_folio) in &spaces {
        assert_eq!(host.engine.mapcount(Frame(head)) as usize, of_folio.len(), "folio {head}");
    }
    assert_eq!((host.memory.present, host.memory.untouched), (mapped.len() as u64, untouched));
    assert_eq!(host.memory.tlb.counts().stale, 0);
}

struct Random(u64);

impl UseTlb for (&Cell, Random) {
    type Output = Figures;

    fn with<T: Tlb>(self, tlb: T) -> Figures {
        let mut rng = Rng::new(self.1.0);
        let mut host = Host::new(self.0, tlb).expect("a machine");
        for number in 0..20_000 {
            host.play(any_event(&mut rng)).expect("a replay");
            if number % 1000 == 0 {
                check(&mut host);
            }
        }
        check(&mut host);
        host.figures()
    }
}

#[test]
fn tables_tlb_and_counts_agree_with_the_engine_whatever_happens() {
    let base = Paging::of_base(order(4)).expect("64 KiB");
    let policies = [fixed(0).into(), fixed(4).into(), fixed(9).into(), PolicyKind::Adaptive.into(), base];
    let mut shaped = (0, 0, 0);
    for seed in 0..15 {
        let paging = policies[seed as usize % policies.len()];
        let memory = [None, Some(2048), Some(1024)][seed as usize % 3];
        let tlb = Model::ALL[seed as usize % Model::ALL.len()];
        let fragmentation = [0, 60][seed as usize / 3 % 2];
        let cell = Cell {
            epoch_ns: 1_000_000,
            fragmentation,
            spill: seed % 2 == 0,
            ..Cell::new(paging, memory, tlb)
        };
        let figures = tlb.give_to((&cell, Random(seed)));
        assert!(figures.faults > 1000 || paging == base, "seed {seed}: {}", figures.faults);
        let copies: u64 = figures.stats.cow_copies.iter().sum();
        shaped.0 += figures.stats.collapses.iter().sum::<u64>();
        shaped.1 += figures.stats.sparse_pages;
        shaped.2 += figures.stats.compacted_pages;
        assert!(copies > 50 && figures.stats.cow_reuses > 0, "seed {seed}: {copies}");
        assert!(memory != Some(1024) || figures.stats.pages_stored > 0, "seed {seed} swaps nothing");
    }
    assert!(shaped.0.min(shaped.1).min(shaped.2) > 0, "no collapse, sparse folio or compaction: {shaped:?}");
}
