//! Collapse and sparse splits over many epochs: they follow what a program does, and leave alone what does not change.
//!
//! `QUIRE_SEEDS=n` runs n seeds of each. `cargo test -p quire-sim --test shaping -- --nocapture` prints the comparison of
//! the ways to split.

use quire_core::mmu::Prot;
use quire_core::{
    Decision, Order, PageRange, PageState, PolicyKind, Reclaim, Shaping, SplitMode, SplitWhy, Urgency, Vpn,
};
use quire_sim::Host;
use quire_sim::rng::Rng;
use quire_sim::world::{Put, SPACE, Setup, Touch};
use std::collections::{BTreeMap, BTreeSet};

const PAGES: u64 = 256;
/// What is collapsed, and settles, together.
const RANGE: u64 = 16;

const fn order(number: u8) -> Order {
    Order::fitting(1 << number)
}

/// A program and its pager, epoch by epoch.
struct Life {
    host: Host,
    /// Decisions of the engine that have been looked at.
    seen: u64,
    /// When a range was split for being sparse, or needed again after it was moved out, last.
    cooling: BTreeMap<u64, u32>,
    /// Collapses of each range, by epoch.
    collapses: BTreeMap<u64, Vec<u32>>,
    /// Splits of sparse folios: the range, and the epoch.
    sparse: Vec<(u64, u32)>,
}

impl Life {
    fn new(policy: PolicyKind, grant: u32) -> Life {
        let setup =
            Setup { frames: 1024, segments: 256, grant, policy, arena: PAGES, threads: 1, spill: None };
        let mut host = Host::new(setup);
        host.engine.set_log(1 << 14);
        host.map(PageRange::new(SPACE, Vpn(0), PAGES), Prot::READ_WRITE);
        Life { host, seen: 0, cooling: BTreeMap::new(), collapses: BTreeMap::new(), sparse: Vec::new() }
    }

    fn touch(&mut self, page: u64, put: Option<Put>) {
        self.host.touch(0, Touch { vpn: Vpn(page), put }).unwrap();
        if self.host.mmu.waiters.waits(0) {
            self.host.drain().unwrap();
        }
    }

    /// The pager's own work at the end of an epoch, and what it decided.
    fn end_epoch(&mut self) {
        loop {
            match self.host.reclaim(Urgency::Behind).unwrap() {
                Reclaim::Idle | Reclaim::Stuck => break,
                Reclaim::Progress => {}
                Reclaim::Job | Reclaim::Waiting => while !self.host.step(0).unwrap() {},
            }
        }
        self.host.happen(quire_sim::Event::Tend(1)).unwrap();
        self.read_log();
    }

    fn read_log(&mut self) {
        let epoch = self.host.epoch;
        let new: Vec<Decision> =
            self.host.engine.log().filter(|(number, _)| *number >= self.seen).map(|(_, d)| *d).collect();
        self.seen += new.len() as u64;
        for decision in new {
            match decision {
                Decision::Split { vpn, why: SplitWhy::Sparse | SplitWhy::Zeroes, .. } => {
                    self.sparse.push((vpn.0 / RANGE, epoch));
                    self.cooling.insert(vpn.0 / RANGE, epoch);
                }
                Decision::Rescue { vpn, .. } | Decision::Fault { vpn, stored: true, .. } => {
                    self.cooling.insert(vpn.0 / RANGE, epoch);
                }
                Decision::Collapse { vpn, .. } => {
                    if let Some(&since) = self.cooling.get(&(vpn.0 / RANGE)) {
                        // What happened since the last epoch's end counts for that one.
                        assert!(
                            epoch - since + 1 >= Shaping::DEFAULT.cool,
                            "{vpn:?} had to cool from {since}"
                        );
                    }
                    self.collapses.entry(vpn.0 / RANGE).or_default().push(epoch);
                }
                _ => {}
            }
        }
    }

    fn collapses_from(&self, epoch: u32) -> usize {
        self.collapses.values().flatten().filter(|&&e| e >= epoch).count()
    }

    fn splits_from(&self, epoch: u32) -> usize {
        self.sparse.iter().filter(|&&(_, e)| e >= epoch).count()
    }

    /// Folios stored so far, and folios brought back from there.
    fn swapped(&self) -> (u64, u64) {
        let stats = self.host.engine.stats();
        (stats.swap_outs.iter().sum(), stats.swap_ins.iter().sum())
    }

    fn collapsed_pages(&self) -> usize {
        (0..PAGES).filter(|&p| self.host.engine.folio_order(SPACE, Vpn(p)) == Some(order(4))).count()
    }
}

#[expect(clippy::disallowed_methods, reason = "whoever runs the test decides")]
fn seeds() -> u64 {
    std::env::var("QUIRE_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(6)
}

/// Which pages a program uses, all of them in each epoch: whole ranges, or few pages of a range.
fn hot_pages(rng: &mut Rng, dense: bool) -> Vec<u64> {
    let few = |rng: &mut Rng, range: u64| {
        let count = 1 + rng.below(RANGE / 2 - 1);
        let first = rng.below(RANGE - count);
        (first..first + count).map(move |page| range * RANGE + page).collect::<Vec<_>>()
    };
    (0..PAGES / RANGE)
        .flat_map(
            |range| if dense { (range * RANGE..(range + 1) * RANGE).collect() } else { few(rng, range) },
        )
        .collect()
}

/// What is used stays the same: at first folios are split or collapsed to fit it, and from then on not one of them is.
#[test]
fn a_constant_workload_is_shaped_once_and_then_left_alone() {
    for seed in 0..seeds() {
        let mut rng = Rng::new(seed);
        for dense in [true, false] {
            let policy = PolicyKind::Fixed(order(if dense { 0 } else { 4 + (seed % 3) as u8 }));
            let mut life = Life::new(policy, 512);
            let hot = hot_pages(&mut rng, dense);
            for _ in 0..80 {
                hot.iter().for_each(|&page| life.touch(page, Some(Put::Small)));
                life.end_epoch();
            }
            let stats = *life.host.engine.stats();
            let shaped = if dense { stats.collapses.iter().sum() } else { stats.sparse_folios };
            assert!(shaped > 0, "seed {seed}, dense {dense}: nothing was shaped");
            let later = (life.collapses_from(20), life.splits_from(20));
            assert_eq!(later, (0, 0), "seed {seed}, dense {dense}: {}", life.host.decisions());
            if dense {
                assert_eq!(life.collapsed_pages() as u64, PAGES, "seed {seed}: all of it is large folios");
            } else {
                let mapped =
                    |p: &u64| matches!(life.host.engine.page_state(SPACE, Vpn(*p)), PageState::Mapped { .. });
                let resident = (0..PAGES).filter(mapped).count();
                assert!(resident <= hot.len(), "seed {seed}: {resident} resident, {} in use", hot.len());
            }
            life.host.read_back().unwrap();
        }
    }
}

/// Random touches are now dense and now sparse in any one range, and under pressure they are swapped out and in: a range
/// is collapsed only now and then, and ever more rarely.
#[test]
fn a_random_workload_does_not_swing_between_collapse_and_split_or_swap() {
    const EPOCHS: u32 = 128;
    let (mut early, mut late) = (0, 0);
    for seed in 0..seeds() {
        let mut rng = Rng::new(seed);
        let grant = [512, 200, 120][(seed % 3) as usize];
        let mut life = Life::new(PolicyKind::Fixed(order((seed % 2) as u8 * 2)), grant);
        // 16 to 40 of 64 touches: between sparse and dense, where chance decides.
        let touches = PAGES * (8 + rng.below(12)) / 16;
        for _ in 0..EPOCHS {
            for _ in 0..touches {
                let put = rng.chance(50).then_some(Put::Small);
                life.touch(rng.below(PAGES), put);
            }
            life.end_epoch();
        }
        for (range, epochs) in &life.collapses {
            assert!(epochs.len() <= 5, "seed {seed}: range {range} was collapsed in epochs {epochs:?}");
        }
        early += life.collapses_from(0) - life.collapses_from(EPOCHS / 2);
        late += life.collapses_from(EPOCHS / 2);
        life.host.read_back().unwrap();
    }
    println!("collapses of random workloads: {early} in the first half, {late} in the second");
    assert!(early > 0, "nothing was ever collapsed, so nothing was shown");
    assert!(late <= early, "{late} collapses in the second half, {early} in the first");
}

/// A program that does the same in every epoch: it touches its hot pages, and of all others a few in turn.
struct Constant {
    hot: Vec<u64>,
    cold: Vec<u64>,
    /// Epochs in which every cold page is touched once.
    round: u64,
}

impl Constant {
    /// Of four ranges one is hot as a whole, one in a few pages, and two are cold.
    fn new(rng: &mut Rng) -> Constant {
        let mut ranges: Vec<u64> = (0..PAGES / RANGE).collect();
        shuffle(&mut ranges, rng);
        let few = 1 + rng.below(RANGE / 2 - 1);
        let hot: Vec<u64> = (0..)
            .zip(&ranges)
            .flat_map(|(i, range)| range * RANGE..range * RANGE + [RANGE, few, 0, 0][i % 4])
            .collect();
        let mut cold: Vec<u64> = (0..PAGES).filter(|page| !hot.contains(page)).collect();
        // Their turn comes by address, or at random, but always the same.
        if rng.chance(50) {
            shuffle(&mut cold, rng);
        }
        Constant { hot, cold, round: 8 << rng.below(3) }
    }

    /// What it does in an epoch. A page is always written, or always read.
    fn run(&self, life: &mut Life, epoch: u64) {
        let turn = epoch % self.round;
        let cold = |turn| (turn * self.cold.len() as u64 / self.round) as usize;
        for &page in self.hot.iter().chain(&self.cold[cold(turn)..cold(turn + 1)]) {
            life.touch(page, (page % 2 == 0).then_some(Put::Small));
        }
    }
}

fn shuffle(pages: &mut [u64], rng: &mut Rng) {
    (1..pages.len()).for_each(|i| pages.swap(i, rng.below(i as u64 + 1) as usize));
}

/// A constant program in too little memory: pages are stored and come back in every round. Each collapse of a range that
/// is undone doubles the time that it is left alone for, from 8 epochs on: 8 + 16 + 32 + 64 + 128 is nearly all there
/// are, so there are six collapses at the most. What a
/// policy brings back larger than what is used is split again, but not more often than once in the shortest round.
#[test]
fn a_constant_workload_under_pressure_does_not_swing_between_collapse_and_split_or_swap() {
    const EPOCHS: u32 = 256;
    const SETTLED: u32 = EPOCHS / 2;
    let policies = [PolicyKind::Fixed(Order::BASE), PolicyKind::Fixed(order(4)), PolicyKind::Adaptive];
    let (mut early, mut late) = (0, 0);
    for seed in 0..seeds() {
        let program = Constant::new(&mut Rng::new(seed));
        // With the least not all that is hot fits beside what is stored.
        let grant = program.hot.len() as u32 + [50, 80, 110][(seed % 3) as usize];
        let policy = policies[(seed / 3 % 3) as usize];
        let mut life = Life::new(policy, grant);
        (0..PAGES).for_each(|page| life.touch(page, Some(Put::Small)));
        let mut swapped = (0, 0);
        for epoch in 0..EPOCHS {
            if epoch == SETTLED {
                swapped = life.swapped();
            }
            program.run(&mut life, epoch.into());
            life.end_epoch();
        }
        let (out, back) = (life.swapped().0 - swapped.0, life.swapped().1 - swapped.1);
        assert!(out.min(back) > 100, "seed {seed}: {out} folios out and {back} back show no pressure");
        for range in 0..PAGES / RANGE {
            let collapses = life.collapses.get(&range).map_or(&[][..], |epochs| epochs);
            // Parts of a range count as one if they were collapsed in one epoch.
            let mut at = collapses.to_vec();
            at.dedup();
            let rests = at.windows(2).map(|two| two[1] - two[0]);
            let early = rests.enumerate().any(|(undone, rest)| rest < 8 << undone);
            let swings = collapses.len() > 6 || early;
            assert!(!swings, "seed {seed}, {policy:?}: range {range} was collapsed in {collapses:?}");
            let splits: BTreeSet<u32> =
                life.sparse.iter().filter(|s| s.0 == range && s.1 > SETTLED).map(|s| s.1).collect();
            let often = splits.len() as u32 > (EPOCHS - SETTLED) / 8;
            assert!(!often, "seed {seed}, {policy:?}: range {range} was split in {splits:?}");
        }
        late += life.collapses_from(SETTLED + 1);
        early += life.collapses_from(0) - life.collapses_from(SETTLED + 1);
        life.host.read_back().unwrap();
    }
    println!(
        "collapses of constant workloads under pressure: {early} in the first half, {late} in the second"
    );
    assert!(early > 0, "nothing was ever collapsed, so nothing was shown");
    assert!(late <= early / 2, "{late} collapses in the second half, {early} in the first");
}

/// A program that scans, then uses a few pages, then scans again: the first brings collapses, the second splits, the
/// third collapses again.
#[test]
fn a_change_of_phase_brings_collapses_and_splits() {
    for seed in 0..seeds() {
        let mut rng = Rng::new(seed);
        let mut life = Life::new(PolicyKind::Fixed(Order::BASE), 512);
        let phases = [hot_pages(&mut rng, true), hot_pages(&mut rng, false), hot_pages(&mut rng, true)];
        let mut begins = Vec::new();
        for hot in &phases {
            begins.push(life.host.epoch + 1);
            for _ in 0..24 {
                hot.iter().for_each(|&page| life.touch(page, Some(Put::Small)));
                life.end_epoch();
            }
        }
        let [first, second, third] = [begins[0], begins[1], begins[2]];
        assert!(life.collapses_from(first) > life.collapses_from(second), "seed {seed}: the scan");
        assert!(life.splits_from(second) > life.splits_from(third), "seed {seed}: the few pages");
        assert!(life.collapses_from(third) > 0, "seed {seed}: the second scan");
        life.host.read_back().unwrap();
    }
}

/// A host that can't tell accesses still collapses what lies still, and splits by the zeroes that a writer finds.
#[test]
fn a_blind_host_collapses_what_lies_still_and_splits_by_zeroes() {
    for seed in 0..seeds() {
        let mut rng = Rng::new(seed);
        let mut life = Life::new(PolicyKind::Fixed(Order::BASE), 512);
        life.host.mmu.blind = true;
        (0..PAGES).for_each(|page| life.touch(page, Some(Put::Small)));
        (0..10).for_each(|_| life.end_epoch());
        assert_eq!(life.collapsed_pages() as u64, PAGES, "seed {seed}");
        assert_eq!(life.splits_from(0), 0, "seed {seed}: nothing tells that it is sparse");

        let mut life = Life::new(PolicyKind::Fixed(order(4)), 512);
        life.host.mmu.blind = true;
        let used = hot_pages(&mut rng, false);
        used.iter().for_each(|&page| life.touch(page, Some(Put::Small)));
        life.host.happen(quire_sim::Event::PageOut(Vpn(0), PAGES)).unwrap();
        life.host.engine.set_grant(0);
        (0..4).for_each(|_| life.end_epoch());
        let stats = *life.host.engine.stats();
        assert_eq!(stats.sparse_folios, PAGES / RANGE, "seed {seed}");
        assert_eq!(stats.sparse_pages, PAGES - used.len() as u64, "seed {seed}");
        life.host.engine.set_grant(512);
        life.host.read_back().unwrap();
    }
}

/// What one way to split came to.
#[derive(Debug, Default)]
struct Came {
    freed: u64,
    folios: u64,
    faults: u64,
}

/// Folios of 256 KiB of which clusters of pages are used; later a tenth of the others is needed after all.
fn split_by(mode: SplitMode, seed: u64) -> Came {
    let mut rng = Rng::new(seed);
    let mut life = Life::new(PolicyKind::Fixed(order(6)), 512);
    life.host.engine.set_shaping(Shaping { split: mode, largest: Order::BASE, ..Shaping::DEFAULT });
    (0..PAGES).for_each(|page| life.touch(page, Some(Put::Small)));
    let hot: Vec<u64> = (0..PAGES / 64)
        .flat_map(|folio| {
            let (first, pages) = (rng.below(56), 1 + rng.below(8));
            (0..3)
                .flat_map(move |i| (first + i * 16..first + i * 16 + pages).map(move |p| folio * 64 + p % 64))
        })
        .collect();
    for _ in 0..6 {
        hot.iter().for_each(|&page| life.touch(page, None));
        life.end_epoch();
    }
    let mapped: Vec<u64> = (0..PAGES)
        .filter(|&p| matches!(life.host.engine.page_state(SPACE, Vpn(p)), PageState::Mapped { .. }))
        .collect();
    let pages_of =
        |&p: &u64| life.host.engine.folio_order(SPACE, Vpn(p)).map_or(1.0, |o| f64::from(o.pages()));
    let folios = mapped.iter().map(|p| 1.0 / pages_of(p)).sum::<f64>().round() as u64;
    let count = |life: &Life| {
        let stats = life.host.engine.stats();
        stats.rescues.iter().chain(&stats.swap_ins).chain(&stats.zero_fills).sum::<u64>()
    };
    let before = count(&life);
    (0..PAGES / 10).for_each(|_| life.touch(rng.below(PAGES), None));
    Came { freed: PAGES - mapped.len() as u64, folios, faults: count(&life) - before }
}

/// Frames given back, folios left, and faults when some of it is needed again, by the way to split.
#[test]
fn ways_to_split_compared() {
    let modes = [
        ("base", SplitMode::Base),
        ("uniform 16K", SplitMode::Uniform(order(2))),
        ("uniform 64K", SplitMode::Uniform(order(4))),
        ("buddy", SplitMode::Buddy),
    ];
    let runs = seeds();
    let came = modes.map(|(_, mode)| {
        (0..runs).map(|seed| split_by(mode, seed)).fold(Came::default(), |sum, c| Came {
            freed: sum.freed + c.freed,
            folios: sum.folios + c.folios,
            faults: sum.faults + c.faults,
        })
    });
    println!(
        "{:12}  pages freed  folios left  faults later   (of {} pages, {runs} seeds)",
        "split",
        PAGES * runs
    );
    for ((name, _), Came { freed, folios, faults }) in modes.iter().zip(&came) {
        println!("{name:12}  {freed:11}  {folios:11}  {faults:12}");
    }
    let [base, small, large, buddy] = &came;
    assert!(buddy.freed == base.freed && buddy.freed > small.freed && small.freed > large.freed, "{came:?}");
    assert!(buddy.folios < base.folios && buddy.faults < base.faults, "{came:?}");
}
