//! The models against a plain one that keeps lists, and against the tables that their numbers are from.

use super::*;
use crate::rng::Rng;
use quire_core::mmu::Prot;
use quire_core::{Frame, Order};

const HOME: Space = Space(0);

fn order(number: u8) -> Order {
    Order::new(number).unwrap()
}

/// A page that lies alone: frames in reverse, so that no two pages lie side by side.
fn alone(vpn: u64) -> Mapping {
    Mapping::of_folio(Frame(u32::MAX - vpn as u32), Order::BASE)
}

/// A page of a folio of `order` whose frame has the page's number.
fn part(vpn: u64, folio: u8) -> Mapping {
    Mapping::of_folio(Frame(vpn as u32), order(folio))
}

/// Touches pages 0..`pages` twice; the misses of the second time.
fn second_pass(model: Model, pages: u64, mapping: impl Fn(u64) -> Mapping) -> u64 {
    let mut tlb = model.build();
    let mut before = 0;
    for pass in 0..2 {
        before = if pass == 1 { tlb.counts().misses } else { 0 };
        for vpn in 0..pages {
            tlb.access(HOME, Vpn(vpn), mapping(vpn));
        }
    }
    assert_eq!(tlb.counts().accesses(), 2 * pages);
    assert_eq!(tlb.counts().stale, 0);
    tlb.counts().misses - before
}

/// Touches pages 0..`pages` twice; how many of the second time are in the first level.
fn l1_hits(model: Model, pages: u64, mapping: impl Fn(u64) -> Mapping) -> u64 {
    let mut tlb = model.build();
    (0..pages).for_each(|v| _ = tlb.access(HOME, Vpn(v), mapping(v)));
    (0..pages).map(|v| u64::from(tlb.access(HOME, Vpn(v), mapping(v)) == Lookup::L1)).sum()
}

#[test]
fn single_pages_reach_as_far_as_the_tables_say() {
    for (model, l1, l2) in
        [(Model::Zen3, 64, 2048), (Model::NeoverseN1, 48, 1280), (Model::Skylake, 64, 1536)]
    {
        assert_eq!(l1_hits(model, l1, alone), l1, "{model}");
        assert_eq!(second_pass(model, l2, alone), 0, "{model}");
        assert!(second_pass(model, l2 + 1, alone) > 0, "{model}");
        assert_eq!(l1_hits(model, 2 * l1, alone), 0, "{model}: least recently used goes first");
    }
}

#[test]
fn only_what_a_machine_can_join_reaches_farther() {
    let reach = |model, folio: u8, pages| second_pass(model, pages, |v| part(v, folio)) == 0;
    // 16 KiB: AMD finds it by itself, the others do not.
    assert!(reach(Model::Zen3, 2, 4 * 2048) && !reach(Model::Zen3, 2, 4 * 2048 + 1));
    assert!(!reach(Model::NeoverseN1, 2, 1281) && !reach(Model::Skylake, 2, 1537));
    // 64 KiB: Arm has an entry for it, AMD still one for each 16 KiB.
    assert!(reach(Model::NeoverseN1, 4, 16 * 1280) && !reach(Model::NeoverseN1, 4, 16 * 1280 + 1));
    assert!(!reach(Model::Zen3, 4, 4 * 2048 + 1) && !reach(Model::Skylake, 8, 1537));
    // 2 MiB: all of them.
    for (model, l1, l2) in
        [(Model::Zen3, 64, 2048), (Model::NeoverseN1, 48, 1280), (Model::Skylake, 32, 1536)]
    {
        assert!(reach(model, 9, 512 * l2), "{model}");
        assert!(!reach(model, 9, 512 * (l2 + 1)), "{model}");
        assert_eq!(l1_hits(model, 512 * l1, |v| part(v, 9)), 512 * l1, "{model}");
    }
}

#[test]
fn skylake_keeps_pmd_entries_apart_in_the_first_level_only() {
    let mut tlb = Model::Skylake.build();
    let large = |i: u64| Vpn(1 << 20 | i << 9);
    (0..32).for_each(|i| _ = tlb.access(HOME, large(i), part(large(i).0, 9)));
    (0..64).for_each(|v| _ = tlb.access(HOME, Vpn(v), alone(v)));
    assert_eq!(tlb.access(HOME, large(0), part(large(0).0, 9)), Lookup::L1);
    (64..3000).for_each(|v| _ = tlb.access(HOME, Vpn(v), alone(v)));
    tlb.access(HOME, large(32), part(large(32).0, 9));
    (33..64).for_each(|i| _ = tlb.access(HOME, large(i), part(large(i).0, 9)));
    assert_eq!(tlb.access(HOME, large(0), part(large(0).0, 9)), Lookup::Miss, "the second level is shared");
}

#[test]
fn a_flush_of_one_page_drops_the_entry_that_covers_its_neighbours() {
    for (model, folio) in [(Model::Zen3, 2), (Model::NeoverseN1, 4), (Model::Skylake, 9)] {
        let mut tlb = model.build();
        tlb.access(HOME, Vpn(512), part(512, folio));
        assert_eq!(tlb.access(HOME, Vpn(514), part(514, folio)), Lookup::L1);
        tlb.flush(PageRange::new(HOME, Vpn(515), 1));
        assert_eq!(tlb.access(HOME, Vpn(514), part(514, folio)), Lookup::Miss, "{model}");
        let counts = *tlb.counts();
        assert_eq!((counts.flushes, counts.dropped), (1, 2), "{model}: one in each level");
    }
}

#[test]
fn spaces_do_not_meet() {
    for model in [Model::Zen3, Model::NeoverseN1, Model::Skylake] {
        let mut tlb = model.build();
        tlb.access(Space(1), Vpn(7), alone(7));
        assert_eq!(tlb.access(Space(2), Vpn(7), alone(8)), Lookup::Miss);
        tlb.flush(PageRange::new(Space(1), Vpn(0), 1 << 20));
        assert_eq!(tlb.access(Space(2), Vpn(7), alone(8)), Lookup::L1);
        assert_eq!(tlb.access(Space(1), Vpn(7), alone(7)), Lookup::Miss);
        tlb.flush_all();
        assert_eq!(tlb.access(Space(2), Vpn(7), alone(8)), Lookup::Miss);
        assert_eq!(tlb.counts().stale, 0);
    }
}

#[test]
fn a_forgotten_flush_is_told() {
    let mut tlb = Model::Zen3.build();
    tlb.access(HOME, Vpn(4), part(4, 2));
    let moved = Mapping::of_folio(Frame(900), Order::BASE);
    assert_eq!(tlb.access(HOME, Vpn(5), moved), Lookup::L1, "hardware would use the old translation");
    assert_eq!(tlb.counts().stale, 1);
    tlb.flush(PageRange::new(HOME, Vpn(5), 1));
    assert_eq!(tlb.access(HOME, Vpn(5), moved), Lookup::Miss);
    assert_eq!(tlb.counts().stale, 1);
}

#[test]
fn a_span_is_found_where_frames_lie_side_by_side_aligned_alike_with_equal_rights() {
    let table = |offset: u32, odd: u64| {
        move |v: Vpn| {
            let prot = if v.0 == odd { Prot::READ } else { Prot::READ_WRITE };
            (v.0 < 64).then_some((Frame(v.0 as u32 + offset), prot))
        }
    };
    let span = |vpn, offset, odd| {
        let found = Mapping::found(Vpn(vpn), Order::BASE, order(4), table(offset, odd)).unwrap();
        assert_eq!(found.frame, Frame(vpn as u32 + offset));
        found.span.index()
    };
    assert_eq!(span(5, 64, 99), 4, "as far as asked");
    assert_eq!(span(5, 68, 99), 2, "frames aligned to 4 only");
    assert_eq!(span(5, 65, 99), 0);
    assert_eq!(span(5, 64, 6), 1, "the next pair has other rights");
    assert_eq!(span(5, 64, 5), 0);
    assert_eq!(Mapping::found(Vpn(64), Order::BASE, order(4), table(0, 99)), None);
    let folio = Mapping::found(Vpn(5), order(3), order(2), table(0, 99)).unwrap();
    assert_eq!(folio.span, order(3), "a folio is at least its own span");
}

#[test]
fn names_of_models_are_read_back() {
    for model in Model::ALL {
        assert_eq!(model.name().parse(), Ok(model));
    }
    let error = "zen9".parse::<Model>().unwrap_err();
    assert_eq!(error.to_string(), "no such TLB: there are none, zen3, neoverse-n1, skylake");
}

/// An entry of the plain model: size, space, unit, first frame.
type Entry = (usize, u16, u64, u32);

/// One level as lists, the entry used last in front.
struct PlainLevel {
    sets: Vec<Vec<Entry>>,
    ways: usize,
    set_of: fn(usize, u64) -> usize,
}

impl PlainLevel {
    fn new(sets: usize, ways: usize, set_of: fn(usize, u64) -> usize) -> PlainLevel {
        PlainLevel { sets: vec![Vec::new(); sets], ways, set_of }
    }

    fn find(&mut self, size: usize, space: Space, unit: u64) -> Option<Entry> {
        let set = &mut self.sets[(self.set_of)(size, unit)];
        let at = set.iter().position(|e| (e.0, e.1, e.2) == (size, space.0, unit))?;
        let entry = set.remove(at);
        set.insert(0, entry);
        Some(entry)
    }

    fn insert(&mut self, entry: Entry) {
        let set = &mut self.sets[(self.set_of)(entry.0, entry.2)];
        set.insert(0, entry);
        set.truncate(self.ways);
    }

    fn flush(&mut self, range: PageRange, orders: &[u8]) -> usize {
        let before: usize = self.sets.iter().map(Vec::len).sum();
        for set in &mut self.sets {
            set.retain(|&(size, space, unit, _)| {
                let (start, end) = (unit << orders[size], (unit + 1) << orders[size]);
                space != range.space.0 || end <= range.start.0 || start >= range.end().0
            });
        }
        before - self.sets.iter().map(Vec::len).sum::<usize>()
    }
}

/// A whole TLB, plainly.
struct Plain {
    l1: Vec<PlainLevel>,
    l2: PlainLevel,
    orders: &'static [u8],
    hardware: bool,
}

impl Plain {
    fn of(model: Model) -> Plain {
        match model {
            Model::Zen3 => Plain {
                l1: vec![PlainLevel::new(1, 64, |_, _| 0)],
                l2: PlainLevel::new(256, 8, |_, unit| unit as usize % 256),
                orders: &[0, 2, 9],
                hardware: true,
            },
            Model::NeoverseN1 => Plain {
                l1: vec![PlainLevel::new(1, 48, |_, _| 0)],
                l2: PlainLevel::new(256, 5, |_, unit| unit as usize % 256),
                orders: &[0, 4, 9],
                hardware: false,
            },
            _ => Plain {
                l1: vec![
                    PlainLevel::new(16, 4, |_, unit| unit as usize % 16),
                    PlainLevel::new(8, 4, |_, unit| unit as usize % 8),
                ],
                l2: PlainLevel::new(128, 12, |_, unit| (unit ^ unit >> 7) as usize % 128),
                orders: &[0, 9],
                hardware: false,
            },
        }
    }

    fn l1(&mut self, size: usize) -> &mut PlainLevel {
        let at = size.min(self.l1.len() - 1);
        &mut self.l1[at]
    }

    fn access(&mut self, space: Space, vpn: Vpn, mapping: Mapping) -> Lookup {
        let joins = |o: usize, n: u8| {
            if self.hardware && o == 1 { mapping.span >= order(n) } else { mapping.folio >= order(n) }
        };
        let own = (0..self.orders.len()).rev().find(|&s| s == 0 || joins(s, self.orders[s])).unwrap();
        let sizes = [own].into_iter().chain((0..self.orders.len()).filter(|&s| s != own));
        for size in sizes {
            let unit = vpn.0 >> self.orders[size];
            if self.l1(size).find(size, space, unit).is_some() {
                return Lookup::L1;
            }
        }
        for size in 0..self.orders.len() {
            if let Some(entry) = self.l2.find(size, space, vpn.0 >> self.orders[size]) {
                self.l1(size).insert(entry);
                return Lookup::L2;
            }
        }
        let entry = (own, space.0, vpn.0 >> self.orders[own], 0);
        self.l1(own).insert(entry);
        self.l2.insert(entry);
        Lookup::Miss
    }

    fn flush(&mut self, range: PageRange) -> usize {
        let orders = self.orders;
        if range.is_empty() {
            return 0;
        }
        self.l1.iter_mut().map(|l| l.flush(range, orders)).sum::<usize>() + self.l2.flush(range, orders)
    }
}

/// Page tables of two spaces in blocks of 512 pages, each mapped as one order; a block changes with a flush.
struct Table {
    orders: Vec<u8>,
}

const BLOCKS: u64 = 24;

impl Table {
    fn mapping(&self, space: Space, vpn: Vpn) -> Mapping {
        let order = self.orders[(u64::from(space.0) * BLOCKS + vpn.0 / 512) as usize];
        part(u64::from(space.0) << 20 | vpn.0, order)
    }
}

fn any_page(rng: &mut Rng) -> Vpn {
    let most = if rng.below(2) == 0 { 128 } else { BLOCKS * 512 };
    Vpn(rng.below(most))
}

/// One event on both; what both say has to be equal.
fn step(rng: &mut Rng, table: &mut Table, tlb: &mut dyn Tlb, plain: &mut Plain) {
    let space = Space(rng.below(2) as u16);
    let vpn = any_page(rng);
    let dropped = tlb.counts().dropped;
    let flush = match rng.below(1000) {
        0 => {
            let block = u64::from(space.0) * BLOCKS + vpn.0 / 512;
            table.orders[block as usize] = [0, 0, 2, 3, 4, 5, 9][rng.below(7) as usize];
            PageRange::new(space, Vpn(vpn.0 / 512 * 512), 512)
        }
        1..5 => PageRange::new(space, vpn, rng.below(40)),
        _ => {
            let mapping = table.mapping(space, vpn);
            assert_eq!(tlb.access(space, vpn, mapping), plain.access(space, vpn, mapping), "{vpn:?}");
            return;
        }
    };
    tlb.flush(flush);
    let gone = plain.flush(flush);
    assert_eq!(tlb.counts().dropped - dropped, gone as u64, "{flush:?}");
}

#[test]
fn every_model_does_what_a_plain_one_does() {
    for model in [Model::Zen3, Model::NeoverseN1, Model::Skylake] {
        for seed in 0..4 {
            let mut rng = Rng::new(seed);
            let (mut tlb, mut plain) = (model.build(), Plain::of(model));
            let mut table = Table { orders: vec![0; 2 * BLOCKS as usize] };
            for _ in 0..100_000 {
                step(&mut rng, &mut table, &mut *tlb, &mut plain);
            }
            let counts = tlb.counts();
            assert_eq!(counts.stale, 0, "{model}, seed {seed}");
            assert!(counts.l1_hits.min(counts.l2_hits).min(counts.misses) > 1000, "{model}: {counts:?}");
        }
    }
}

#[test]
fn none_counts_and_hits() {
    let mut tlb = Model::None.build();
    assert_eq!(tlb.access(HOME, Vpn(1), alone(1)), Lookup::L1);
    tlb.flush(PageRange::new(HOME, Vpn(0), 9));
    tlb.flush_all();
    let counts = tlb.counts();
    assert_eq!((counts.l1_hits, counts.flushes, counts.full_flushes, counts.dropped), (1, 1, 1, 0));
}
