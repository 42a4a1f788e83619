//! What each workload should look like, and that it can be repeated.

use super::*;
use crate::digest::Digest;
use crate::trace::{Access, Writer};
use core::hash::Hasher;
use quire_core::frame::Buddy;
use quire_core::{Frame, Order, OrderSet, PageRange, Vpn};
use std::collections::{BTreeMap, BTreeSet};

const SIZE: Size = Size { pages: 8192, events: 200_000 };

fn accesses(events: impl Iterator<Item = Event>) -> impl Iterator<Item = Access> {
    events.filter_map(|e| if let Event::Access(access) = e { Some(access) } else { None })
}

/// The pages of the accesses of a steady workload in an area of `pages` pages.
fn pages_of<P: Pattern>(pages: u64, count: u64, pattern: P) -> Vec<u64> {
    let shape = Shape::new(Space(0), pages, count);
    let all: Vec<u64> = accesses(Steady::new(shape, pattern, 1)).map(|a| a.vpn.0 - Shape::START.0).collect();
    assert!(all.iter().all(|&p| p < pages));
    assert_eq!(all.len() as u64, count);
    all
}

fn hits(pages: &[u64], of: u64) -> Vec<u32> {
    let mut hits = vec![0; of as usize];
    pages.iter().for_each(|&p| hits[p as usize] += 1);
    hits
}

/// Address spaces as events make them. Refuses what no program could do.
#[derive(Default)]
struct Machine {
    mapped: BTreeMap<Space, BTreeSet<Vpn>>,
    most: usize,
}

impl Machine {
    fn start(space: Space) -> Machine {
        Machine { mapped: [(space, BTreeSet::new())].into(), most: 0 }
    }

    fn pages(&mut self, space: Space) -> &mut BTreeSet<Vpn> {
        self.mapped.get_mut(&space).expect("a process that lives")
    }

    fn take(&mut self, event: Event) {
        assert!(event.is_valid(), "{event:?}");
        let each = |range: PageRange| (range.start.0..range.end().0).map(Vpn);
        match event {
            Event::Access(a) => assert!(self.pages(a.space).contains(&a.vpn), "{a:?} is not mapped"),
            Event::Map { range, .. } => {
                // Programs of `Several` have no parent.
                let pages = self.mapped.entry(range.space).or_default();
                each(range).for_each(|v| assert!(pages.insert(v), "{v:?} is mapped already"));
                self.most = self.most.max(pages.len());
            }
            Event::Unmap(range) => each(range).for_each(|v| assert!(self.pages(range.space).remove(&v))),
            Event::Discard(range) | Event::Protect { range, .. } => {
                each(range).for_each(|v| assert!(self.pages(range.space).contains(&v)));
            }
            Event::Fork { parent, child } => {
                let copy = self.pages(parent).clone();
                assert_eq!(self.mapped.insert(child, copy), None, "{child:?} lives already");
            }
            Event::Exit(space) => assert!(self.mapped.remove(&space).is_some()),
            Event::Time { .. } => {}
        }
    }
}

/// Of the events as a trace.
fn digest(kind: Kind, seed: u64) -> u64 {
    let mut writer = Writer::new(Vec::new());
    kind.events(SIZE, seed).for_each(|event| writer.write(event).unwrap());
    let mut digest = Digest::new();
    digest.write(&writer.finish().unwrap());
    digest.finish()
}

#[test]
fn equal_seeds_give_equal_events_and_others_do_not() {
    for kind in Kind::ALL {
        assert_eq!(digest(kind, 1), digest(kind, 1), "{kind}");
        assert_ne!(digest(kind, 1), digest(kind, 2), "{kind}");
    }
}

/// What was measured with a workload holds only for the events that it had then, so that a change has to be meant.
/// They are the same on every machine.
#[test]
fn events_are_those_that_they_have_always_been() {
    let now = Kind::ALL.map(|kind| (kind.name(), digest(kind, 1)));
    assert_eq!(now, PINNED, "write them down if the change is meant: {now:#x?}");
}

const PINNED: [(&str, u64); 9] = [
    ("sequential", 0x12cb_a1c9_fc79_c955),
    ("strided", 0x6552_2f8f_8fb2_8384),
    ("uniform", 0x6a76_ed47_c521_0e20),
    ("zipf", 0xe7b3_2cf8_67af_9db7),
    ("sparse", 0x3db5_26f8_2996_e174),
    ("phases", 0xb60f_8e06_0d37_460c),
    ("ageing", 0xdae4_2855_20f3_1c17),
    ("forks", 0xb14d_a6bc_ec49_96d7),
    ("several", 0x79b0_910c_e43f_b6da),
];

#[test]
fn each_does_only_what_programs_can_do_and_is_as_large_as_asked() {
    for kind in Kind::ALL {
        let mut machine = Machine::start(Space(0));
        let events = kind.events(SIZE, 5).inspect(|&e| machine.take(e)).count() as u64;
        let about = SIZE.events * 2 / 3..SIZE.events * 3 / 2;
        assert!(about.contains(&events), "{kind}: {events} events");
        assert!(machine.most as u64 <= SIZE.pages, "{kind}: {} pages", machine.most);
        assert!(machine.most as u64 >= SIZE.pages / 4, "{kind}: {} pages", machine.most);
    }
}

#[test]
fn sizes_need_not_be_round() {
    for kind in Kind::ALL {
        for size in [Size { pages: 4096, events: 0 }, Size { pages: 5003, events: 20_011 }] {
            let mut machine = Machine::start(Space(0));
            kind.events(size, 3).for_each(|e| machine.take(e));
        }
    }
}

#[test]
fn a_third_of_the_accesses_write_and_each_is_one_of_as_many() {
    let shape = Shape { times: 7, ..Shape::new(Space(3), 100, 90_000) };
    let all: Vec<Access> = accesses(Steady::new(shape, Uniform::new(100), 1)).collect();
    let writes = all.iter().filter(|a| a.write).count();
    assert!((29_000..30_400).contains(&writes), "{writes}");
    assert!(all.iter().all(|a| a.times == 7 && a.space == Space(3)));
}

#[test]
fn sequential_goes_round() {
    assert_eq!(pages_of(3, 7, Sequential::new(3)), [0, 1, 2, 0, 1, 2, 0]);
}

#[test]
fn strided_meets_each_page_once_before_any_twice() {
    assert_eq!(pages_of(7, 8, Strided::new(7, 3)), [0, 3, 6, 1, 4, 2, 5, 0]);
    for (pages, stride) in [(1000, 33), (1024, 512), (10, 10), (10, 1)] {
        let hits = hits(&pages_of(pages, 3 * pages, Strided::new(pages, stride)), pages);
        assert!(hits.iter().all(|&h| h == 3), "{pages} by {stride}");
    }
}

#[test]
fn uniform_meets_pages_as_chance_would() {
    const PAGES: u64 = 1000;
    let hits = hits(&pages_of(PAGES, 400_000, Uniform::new(PAGES)), PAGES);
    // Chi-square with 999 degrees of freedom: 999 on average, with a standard deviation of 45.
    let chi: f64 = hits.iter().map(|&h| (f64::from(h) - 400.0).powi(2) / 400.0).sum();
    assert!((800.0..1200.0).contains(&chi), "{chi}");
}

#[test]
fn the_hot_pages_of_zipf_lie_anywhere() {
    const PAGES: u64 = 100_000;
    let mut hits: Vec<(u32, usize)> =
        hits(&pages_of(PAGES, 500_000, Skewed::new(PAGES, 0.99, 9)), PAGES).into_iter().zip(0..).collect();
    hits.sort_unstable_by(|a, b| b.cmp(a));
    // The sum of k^-0.99 over the first 1000 of 100000 ranks is 62 % of all.
    let hot: u32 = hits[..1000].iter().map(|h| h.0).sum();
    assert!((295_000..330_000).contains(&hot), "{hot}");
    let blocks: BTreeSet<usize> = hits[..200].iter().map(|h| h.1 / 512).collect();
    assert!(blocks.len() > 100, "200 hot pages in {} of 196 blocks of 2 MiB", blocks.len());
    assert_ne!(
        Skewed::new(PAGES, 0.99, 1).page(&mut Rng::new(0)),
        Skewed::new(PAGES, 0.99, 2).page(&mut Rng::new(0))
    );
}

#[test]
fn sparse_touches_the_same_few_pages_of_each_2_mib() {
    const PAGES: u64 = 512 * 40;
    let hits = hits(&pages_of(PAGES, 100_000, Sparse::new(PAGES, 8, 4)), PAGES);
    let blocks: Vec<Vec<usize>> =
        hits.chunks(512).map(|block| (0..512).filter(|&p| block[p] > 0).collect()).collect();
    assert!(blocks.iter().all(|b| b.len() == 8));
    let other: BTreeSet<&Vec<usize>> = blocks.iter().collect();
    assert_eq!(other.len(), 40, "each 2 MiB has pages of its own");
}

/// The pages of each phase, and the time between.
fn phases(seed: u64) -> (Vec<BTreeSet<u64>>, u64) {
    let shape = Shape::new(Space(0), 1 << 15, 600_000);
    let mut sets = vec![BTreeSet::new()];
    let mut rested = 0;
    for event in Phases::new(shape, 6, 1_000, seed) {
        match event {
            Event::Access(a) => _ = sets.last_mut().unwrap().insert(a.vpn.0 - Shape::START.0),
            Event::Time { ns } => {
                rested += ns;
                sets.push(BTreeSet::new());
            }
            _ => {}
        }
    }
    (sets, rested)
}

#[test]
fn phases_differ_in_what_they_touch() {
    let (sets, rested) = phases(1);
    assert_eq!((sets.len(), rested), (6, 5_000));
    for dense in [&sets[0], &sets[3]] {
        let (first, last) = (dense.first().unwrap(), dense.last().unwrap());
        assert_eq!((dense.len() as u64, last - first + 1), (1 << 13, 1 << 13), "all of a quarter");
    }
    for sparse in [&sets[1], &sets[4]] {
        assert_eq!(sparse.len(), 16 * 64, "16 pages in each of 64 times 2 MiB");
    }
    for skewed in [&sets[2], &sets[5]] {
        assert!(skewed.last().unwrap() - skewed.first().unwrap() < 1 << 13);
    }
    assert_ne!(sets[1], sets[4], "other pages when it comes again");
}

const DAYS: Days =
    Days { space: Space(0), days: 5, calls_per_day: 40_000, pages: 1 << 16, filling: 8, largest: 1 << 11 };

#[test]
fn ageing_takes_its_days_and_breathes_with_them() {
    let (mut ns, mut mapped) = (0, 0);
    let (mut noon, mut midnight) = (vec![], vec![]);
    for event in Ageing::new(DAYS, 1) {
        let day = ns / DAY_NS;
        match event {
            Event::Time { ns: more } => ns += more,
            Event::Map { range, .. } => mapped += range.pages,
            Event::Unmap(range) => mapped -= range.pages,
            _ => {}
        }
        // The first day fills it.
        match (day > 0, ns % DAY_NS * 100 / DAY_NS) {
            (true, 48..52) => noon.push(mapped),
            (true, 99) => midnight.push(mapped),
            _ => {}
        }
    }
    assert!(ns.abs_diff(5 * DAY_NS) < DAY_NS / 20, "{ns}");
    let mean = |all: &[u64]| all.iter().sum::<u64>() / all.len() as u64 * 100 / DAYS.pages;
    assert!((90..=100).contains(&mean(&noon)), "{} % at noon", mean(&noon));
    assert!((45..60).contains(&mean(&midnight)), "{} % at midnight", mean(&midnight));
}

const DAY_NS: u64 = 24 * 3600 * 1_000_000_000;

#[test]
fn mappings_of_all_sizes_come_and_most_die_young() {
    let mut by_order = [0u64; 12];
    let mut born = BTreeMap::new();
    let mut ages = vec![];
    let mut discards = 0;
    for (at, event) in
        Ageing::new(DAYS, 2).filter(|e| !matches!(e, Event::Access(_) | Event::Time { .. })).enumerate()
    {
        match event {
            Event::Map { range, .. } => {
                by_order[range.pages.ilog2() as usize] += range.pages;
                born.insert(range.start, at);
            }
            Event::Unmap(range) => ages.extend(born.remove(&range.start).map(|birth| at - birth)),
            Event::Discard(_) => discards += 1,
            _ => {}
        }
    }
    let share = by_order.iter().sum::<u64>() / 12;
    assert!(by_order.iter().all(|&pages| (share / 2..share * 2).contains(&pages)), "{by_order:?}");
    assert!(discards > 100);
    ages.sort_unstable();
    let mean = ages.iter().sum::<usize>() / ages.len();
    assert!(
        ages[ages.len() / 2] * 2 < mean,
        "half die before {}, on average at {mean}",
        ages[ages.len() / 2]
    );
}

/// A plain buddy with a frame for each page that is written.
struct Plain {
    buddy: Buddy,
    held: BTreeMap<Vpn, Frame>,
}

impl Plain {
    fn new(frames: u32) -> Plain {
        let mut buddy = Buddy::new(frames);
        (0..frames).for_each(|f| buddy.free(Frame(f), Order::BASE));
        Plain { buddy, held: BTreeMap::new() }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Access(a) => {
                let frame =
                    || self.buddy.alloc(OrderSet::only(Order::BASE)).expect("a frame for each page").0;
                self.held.entry(a.vpn).or_insert_with(frame);
            }
            Event::Unmap(range) | Event::Discard(range) => {
                let gone: Vec<Vpn> = self.held.range(range.start..range.end()).map(|(&v, _)| v).collect();
                gone.iter().for_each(|v| self.buddy.free(self.held.remove(v).unwrap(), Order::BASE));
            }
            _ => {}
        }
    }

    /// Free frames, and how many of them can be had in folios of order 4.
    fn free(&self, frames: u32) -> (u64, u64) {
        let mut buddy = self.buddy.clone();
        let order4 = OrderSet::only(Order::new(4).unwrap());
        let large = core::iter::from_fn(|| buddy.alloc(order4)).count() as u64;
        (u64::from(frames) - self.held.len() as u64, 16 * large)
    }
}

#[test]
fn a_buddy_that_only_waits_has_few_large_folios_after_some_days() {
    let mut plain = Plain::new(DAYS.pages as u32);
    let mut most = 0;
    Ageing::new(DAYS, 3).for_each(|event| {
        plain.take(event);
        most = most.max(plain.held.len() as u32);
    });
    // Again, with a pool that was full once: what was never used tells nothing.
    let frames = most + most / 64;
    let mut plain = Plain::new(frames);
    Ageing::new(DAYS, 3).for_each(|event| plain.take(event));
    let (free, large) = plain.free(frames);
    println!("at midnight {free} of {frames} frames are free, {large} of them in order 4");
    assert!(free * 10 > u64::from(frames) * 4, "{free} are free");
    assert!(large * 10 < free, "{large} of {free}");
}

#[test]
fn a_family_shares_its_spaces_in_turn() {
    let shape = Shape::new(Space(5), 1000, 20_000);
    let family = Family { shape, forks: 200, alive: 3, accesses: 100 };
    let mut machine = Machine::start(Space(5));
    let (mut forks, mut by_child, mut own, mut others, mut most) = (0, 0, 0, 0, 0);
    for event in Forks::new(family, 1) {
        machine.take(event);
        match event {
            Event::Fork { parent, .. } => {
                forks += 1;
                by_child += u32::from(parent != Space(5));
            }
            Event::Access(a) if a.space == Space(5) => own += 1,
            Event::Access(_) => others += 1,
            _ => {}
        }
        most = most.max(machine.mapped.len());
    }
    assert_eq!((forks, own, others, most), (200, 21_000, 20_000, 4));
    assert!((8..40).contains(&by_child), "{by_child}");
    assert_eq!(machine.mapped.len(), 1, "all children have ended");
}

#[test]
fn several_programs_take_turns_until_the_last_has_ended() {
    let one = |space: u16, count| {
        let shape = Shape::new(Space(space), 10, count);
        Box::new(Steady::new(shape, Sequential::new(10), 1)) as Box<dyn Iterator<Item = Event>>
    };
    let all: Vec<Space> = accesses(Several::new(vec![one(0, 1000), one(1, 5000), one(2, 1000)], 20, 1))
        .map(|a| a.space)
        .collect();
    assert_eq!(all.len(), 7000);
    assert_eq!(all.iter().filter(|s| s.0 == 1).count(), 5000);
    let turns = all.windows(2).filter(|w| w[0] != w[1]).count();
    assert!((80..250).contains(&turns), "{turns}");
    assert_eq!(all[6000..].iter().filter(|s| s.0 != 1).count(), 0, "only one is left");
    assert_eq!(Several::new(vec![], 10, 1).next(), None);
}

#[test]
fn names_of_kinds_are_read_back() {
    for kind in Kind::ALL {
        assert_eq!(kind.name().parse(), Ok(kind));
    }
    assert!("zip".parse::<Kind>().unwrap_err().to_string().contains("sequential, strided, uniform, zipf"));
}
