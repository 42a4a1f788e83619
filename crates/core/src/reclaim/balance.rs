//! How memory is divided between frames, the store in RAM, and what waits there to go to the file.
//!
//! More frames save whole faults; a larger store in RAM saves reads of the disk, for several pages with each page that
//! it takes. What pays depends on the program: one whose working set nearly fits into the budget wants frames, one
//! that touches everything alike wants the store. Nothing in between need be better than both ends, so following a
//! slope can lead to the wrong one. Instead the ranks of refaults ([`super::ranks`]) tell what each division would have
//! cost, and the cheapest is taken. It begins with as much for the store as there may be, so a program whose memory fits
//! into RAM, as frames or compressed, leaves the file alone until refaults say that more frames are worth reads of the disk: a
//! sort of short lines takes a fifth of the time then. Without a file nothing is weighed.

use crate::addr::PAGE_SIZE;
use crate::engine::Engine;
use crate::job::{Place, Stored};

/// How many fills from RAM cost as much as one from a disk.
const READ_WEIGHT: u32 = 6;
/// What waits in RAM to go to the file may always take this part of the grant ...
const LEAST_POOR_FRACTION: u32 = 32;
/// ... and never more than this.
const MOST_POOR_FRACTION: u32 = 4;

/// The store takes a number of these parts of the grant.
const PARTS: u32 = 32;
/// Frames keep 40 %: parts that the store may take at the most, with the host's tables.
const MOST_PARTS: u32 = 19;
/// Parts of the grant by which ranks are told apart: twice the grant in all, and what is beyond.
const RANKS: usize = 2 * PARTS as usize + 1;
/// Refaults between two decisions. Where memory is small, an eighth of it, or a program that needs another division would
/// have gone through all of its memory several times before it gets it.
const REFAULTS: u32 = 512;
const REFAULTS_FRACTION: u32 = 8;
const LEAST_REFAULTS: u32 = 64;
/// Parts by which one decision may change the division.
const STEP: u32 = 2;
/// What a fill from RAM costs, and one from a disk in addition until some were measured, in ns.
const FILL_NS: u64 = 25_000;
const READ_NS: u64 = 75_000;
/// A fraction in which ratios are kept.
const UNIT: u64 = 16;
/// What is taken for the density of the store until there is enough in it: 2.5.
const DENSITY: u32 = 40;
/// Pages of RAM that are enough.
const TELLING: u32 = 64;

/// What refaults have told, and the division that follows from it.
#[derive(Clone, Debug)]
pub(crate) struct Division {
    /// Refaults by rank, in parts of the grant; older ones count less.
    refaults: [u32; RANKS],
    noted: u32,
    /// Parts of the grant for the store and the host's tables.
    parts: u32,
    /// How long a fault waits for the disk lately, in ns.
    read_ns: u64,
    /// Stored pages in each page of RAM, in sixteenths, as far as known.
    density: u32,
    /// Whether all pages fit into RAM, as frames or compressed, as it is divided.
    fits: bool,
}

impl Division {
    pub(crate) const fn new() -> Division {
        Division {
            refaults: [0; RANKS],
            noted: 0,
            parts: MOST_PARTS,
            read_ns: READ_NS,
            density: DENSITY,
            fits: false,
        }
    }

    /// Refaults of a rank above `rank`, a part being `part` pages. Within a part they are taken to be spread evenly, and
    /// resident pages to be as dense in touches as those that left last.
    fn beyond(&self, rank: i64, part: i64) -> u64 {
        let count = |ranks: &[u32]| ranks.iter().map(|&n| u64::from(n) * UNIT).sum::<u64>();
        if rank < 0 {
            return count(&self.refaults) + count(&self.refaults[..1]) * rank.unsigned_abs() / part as u64;
        }
        let (whole, rest) = ((rank / part) as usize, (rank % part) as u64);
        if whole >= RANKS - 1 {
            return count(&self.refaults[RANKS - 1..]);
        }
        count(&self.refaults[whole..]) - count(&self.refaults[whole..=whole]) * rest / part as u64
    }
}

/// The sizes that a division is judged by, in pages.
struct Sizes {
    grant: i64,
    overhead: i64,
    /// Frames that hold pages now.
    resident: i64,
    /// Pages that are only stored.
    out: i64,
    /// Stored pages in each page of RAM, in sixteenths.
    density: i64,
}

impl Sizes {
    /// What the refaults that were noted would have cost with `parts` parts for the store.
    fn cost(&self, division: &Division, parts: u32) -> u64 {
        let part = (self.grant / i64::from(PARTS)).max(1);
        let store = (part * i64::from(parts) - self.overhead).max(part).min(self.need());
        let more = self.grant - self.overhead - store - self.resident;
        let held = store * self.density / UNIT as i64;
        let faults = division.beyond(more, part);
        let reads = division.beyond(more + held, part).min(faults);
        faults.saturating_mul(FILL_NS).saturating_add(reads.saturating_mul(division.read_ns))
    }

    /// Pages of RAM that the store takes where it may have all: each page of it costs a frame, and holds more than that one's
    /// page.
    fn need(&self) -> i64 {
        let beyond = (self.resident + self.out + self.overhead - self.grant).max(0);
        let gain = self.density - UNIT as i64;
        if gain > 0 { beyond * UNIT as i64 / gain } else { self.grant }
    }
}

impl Engine {
    /// Most pages of RAM that the store may take, overhead included: at least one part beside that, and no more than
    /// leaves 40 % of the grant to frames. Without a file, other rules hold where that is not enough.
    pub(super) fn store_limit(&self) -> u32 {
        let parts = if self.swap.has_file() { self.division.parts } else { MOST_PARTS };
        self.share(parts).max(self.overhead.saturating_add(self.share(1))).min(self.share(MOST_PARTS))
    }

    /// Sets how many thirty-seconds of the grant the store and the host's tables may take, 1..=19. From there the
    /// division follows refaults again.
    pub fn set_division(&mut self, parts: u32) {
        self.division.parts = parts.clamp(1, MOST_PARTS);
    }

    /// Most pages that wait in RAM to go to the file.
    pub(super) fn poor_limit(&self) -> u32 {
        self.poor_goal.clamp(self.grant / LEAST_POOR_FRACTION, self.grant / MOST_POOR_FRACTION)
    }

    /// Tells how long a fault waited for its read of the spill file, in ns.
    pub fn note_read(&mut self, ns: u64) {
        let read_ns = &mut self.division.read_ns;
        *read_ns = (*read_ns * 15 + ns.clamp(READ_NS / 8, READ_NS * 64)) / 16;
    }

    /// Notes that a page is needed again whose stored copy is `block`. From time to time the division follows.
    pub(crate) fn note_refault(&mut self, block: u32) {
        if !self.swap.has_file() {
            return;
        }
        let rank = u64::from(self.ranks.rank(self.swap.evicted_at(block)));
        let part = rank * u64::from(PARTS) / u64::from(self.grant.max(1));
        self.division.refaults[(part as usize).min(RANKS - 1)] += 1;
        self.division.noted += 1;
        if self.division.noted >= (self.grant / REFAULTS_FRACTION).clamp(LEAST_REFAULTS, REFAULTS) {
            self.division.noted = 0;
            self.divide();
        }
    }

    /// Changes the division where another one is clearly cheaper; then what was noted counts less.
    fn divide(&mut self) {
        let ram = self.swap.ram_pages();
        if ram >= TELLING {
            self.division.density = self.swap.blocks_in_ram() * UNIT as u32 / ram;
        }
        let sizes = Sizes {
            grant: i64::from(self.grant),
            overhead: i64::from(self.overhead),
            resident: i64::from(self.pool.in_use()),
            out: i64::from(self.ranks.out()),
            density: i64::from(self.division.density),
        };
        let parts = self.division.parts;
        // Of equal ones the largest: what the store may have and does not need is left to frames.
        let costs = (1..=MOST_PARTS).rev().map(|p| (sizes.cost(&self.division, p), p));
        if let Some((cost, best)) = costs.min_by_key(|(cost, _)| *cost)
            && cost < sizes.cost(&self.division, parts) / 16 * 15
        {
            self.division.parts = best.clamp(parts.saturating_sub(STEP).max(1), parts + STEP);
        }
        self.division.refaults.iter_mut().for_each(|n| *n -= n.div_ceil(8));
        self.division.fits = self.would_fit();
    }

    /// Whether all pages there are would fit into RAM if the store took as much as it may now. Once they do, a sixteenth more
    /// does not change that.
    fn would_fit(&self) -> bool {
        let most = u64::from(self.share(self.division.parts));
        let frames = u64::from(self.grant) - most;
        let held = most.saturating_sub(self.overhead.into()) * u64::from(self.division.density) / UNIT;
        let pages = u64::from(self.pool.in_use() + self.ranks.out());
        pages <= (frames + held) / 16 * if self.division.fits { 16 } else { 15 }
    }

    /// Whether the file has nothing that RAM would not have room for.
    pub(crate) fn fits_in_ram(&self) -> bool {
        self.division.fits
    }

    /// So many thirty-seconds of the grant, in pages.
    fn share(&self, parts: u32) -> u32 {
        (u64::from(self.grant) * u64::from(parts) / u64::from(PARTS)) as u32
    }

    /// Notes that `pages` pages came back, of which the first one's stored copy is `block`: more room for what waits
    /// would have spared a read of the disk, or without it the page would still have been mapped.
    pub(crate) fn weigh_refault(&mut self, block: u32, pages: u32) {
        let Stored { place, len, .. } = self.swap.stored(block);
        let limit = self.poor_limit();
        self.poor_goal = match place {
            Place::File { .. } if usize::from(len) == PAGE_SIZE && self.belongs_in_ram(block) => {
                limit.saturating_add(pages * READ_WEIGHT)
            }
            Place::Ram { .. }
                if self.refault_distance(block) < self.mapped_pages() + self.swap.poor_pages() =>
            {
                limit.saturating_sub(pages)
            }
            _ => limit,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// 32 pages a part; the host's tables take one part, and the pages of the store are four to one of RAM.
    const GRANT: i64 = 1024;

    fn cheapest(division: &Division, parts: u32) -> u32 {
        let store = 32 * i64::from(parts) - 32;
        let sizes = Sizes {
            grant: GRANT,
            overhead: 32,
            resident: GRANT - 32 - store,
            out: 4000,
            density: 4 * UNIT as i64,
        };
        (1..=MOST_PARTS).min_by_key(|&p| sizes.cost(division, p)).unwrap_or(0)
    }

    fn refaults(ranks: impl IntoIterator<Item = usize>) -> Division {
        let mut division = Division::new();
        ranks.into_iter().for_each(|rank| division.refaults[rank] += 100);
        division
    }

    #[test]
    fn a_working_set_that_nearly_fits_wants_frames() {
        assert_eq!(cheapest(&refaults(0..12), MOST_PARTS), 1);
        assert_eq!(cheapest(&refaults(0..3), 5), 1);
    }

    #[test]
    fn touches_spread_over_everything_want_the_store() {
        // As much as holds all that is out, and that is more where frames are many.
        assert_eq!(cheapest(&refaults(0..60), 4), MOST_PARTS);
        assert_eq!(cheapest(&refaults(0..60), MOST_PARTS), 15);
    }

    #[test]
    fn what_the_hosts_tables_take_is_neither_frames_nor_store() {
        let division = refaults([12]);
        let sizes = Sizes { grant: GRANT, overhead: 64, resident: 512, out: 4000, density: 4 * UNIT as i64 };
        // 128 pages for both leave 64 to the store, 896 to frames: 384 more than now, and not the rank that was noted.
        let faults = 100 * UNIT * FILL_NS;
        assert_eq!(sizes.cost(&division, 4), faults);
        assert_eq!(Sizes { resident: 480, ..sizes }.cost(&division, 4), 0);
        assert_eq!(
            Sizes { resident: 512 + 240, ..sizes }.cost(&division, 4),
            faults + 100 * UNIT * READ_NS / 2
        );
    }

    #[test]
    fn a_store_that_has_room_for_all_takes_no_more_than_that() {
        let division = refaults(0..20);
        // 300 pages more than memory: 100 pages of RAM have room for them and for those whose frames they take.
        let sizes = Sizes { grant: GRANT, overhead: 32, resident: 800, out: 492, density: 4 * UNIT as i64 };
        assert_eq!(sizes.need(), 100);
        let costs: Vec<u64> = (1..=MOST_PARTS).map(|parts| sizes.cost(&division, parts)).collect();
        assert!(costs[4..].iter().all(|cost| *cost == costs[4]) && costs[3] != costs[4], "{costs:?}");
        assert_eq!(Sizes { out: 100, ..sizes }.need(), 0);
        assert_eq!(Sizes { density: UNIT as i64, ..sizes }.need(), GRANT);
    }

    #[test]
    fn where_nothing_is_stored_in_ram_no_page_belongs_there() {
        let mut engine = engine(320);
        let extent = engine.swap.new_file_extent(4096).expect("the file is empty");
        let block = engine.swap.new_file_block(extent, 0, 4096, 0, 0);
        assert!(!engine.belongs_in_ram(block));
        engine.swap.segments.reserve(64);
        assert!(engine.swap.new_ram_block(crate::swap::Queue::Dense, 500, 0, 0).is_some());
        assert!(engine.belongs_in_ram(block), "nothing left after it");
    }

    #[test]
    fn a_fast_disk_needs_no_store_and_a_slow_one_does() {
        let mut division = refaults(0..40);
        division.read_ns = 1000;
        assert_eq!(cheapest(&division, 10), 1);
        division.read_ns = 10_000_000;
        assert!(cheapest(&division, 10) > 10);
    }

    fn engine(grant: u32) -> Engine {
        let policy = crate::fault::PolicyKind::Adaptive;
        let mut engine = Engine::new(crate::engine::Config {
            frames: grant,
            segments: 64,
            segment_pages: 16,
            grant,
            policy,
        });
        engine.open_spill_file(0, 1 << 20);
        engine
    }

    #[test]
    fn a_wait_for_the_disk_moves_what_is_taken_for_one_by_a_sixteenth() {
        let mut engine = engine(320);
        engine.note_read(READ_NS + 16_000);
        assert_eq!(engine.division.read_ns, READ_NS + 1000);
        let again = |engine: &mut Engine, ns| (0..1000).for_each(|_| engine.note_read(ns));
        again(&mut engine, u64::MAX);
        assert!(engine.division.read_ns <= 64 * READ_NS && engine.division.read_ns > 63 * READ_NS);
        again(&mut engine, 0);
        assert!(engine.division.read_ns >= READ_NS / 8 && engine.division.read_ns < READ_NS / 7);
    }

    #[test]
    fn what_waits_for_the_file_has_a_part_of_the_grant_between_two_limits() {
        let mut engine = engine(3210);
        let limits = [0, 100, 500, 802, 803, u32::MAX].map(|goal| {
            engine.poor_goal = goal;
            engine.poor_limit()
        });
        assert_eq!(limits, [100, 100, 500, 802, 802, 802]);
    }

    #[test]
    fn the_division_follows_what_refaults_would_have_cost_by_small_steps() {
        let mut engine = engine(1024);
        let half = crate::OrderSet::only(crate::Order::MAX);
        assert!(engine.pool.take(half, crate::frame::Use::Zeroes, 1024).is_some());
        (0..4000).for_each(|_| engine.ranks.enter(0, 0));
        engine.division.refaults = refaults(0..12).refaults;
        engine.divide();
        assert_eq!(
            engine.division.parts,
            MOST_PARTS - STEP,
            "the working set nearly fits: frames are wanted"
        );
        assert_eq!(
            engine.division.refaults[..13],
            [[87; 12].as_slice(), &[0]].concat(),
            "and counts less from now on"
        );
        assert_eq!(engine.division.density, DENSITY, "little is stored");
        (0..20).for_each(|_| engine.divide());
        let least = engine.division.parts;
        assert!(least <= STEP + 2, "{least}");
        engine.division = Division { parts: 9, ..refaults([RANKS - 1]) };
        engine.divide();
        assert_eq!(engine.division.parts, 9, "nothing would have helped");
    }

    #[test]
    fn whether_all_of_it_fits_into_ram_follows_from_the_division() {
        let mut engine = engine(1024);
        // 416 frames, and 608 pages of the store with two and a half each.
        (0..(416 + 1520) / 16 * 15).for_each(|_| engine.ranks.enter(0, 0));
        let divide = |engine: &mut Engine, parts| {
            engine.set_division(parts);
            engine.divide();
            assert_eq!(engine.division.parts, parts, "without refaults nothing is better");
            engine.fits_in_ram()
        };
        engine.ranks.enter(0, 0);
        assert!(!divide(&mut engine, MOST_PARTS), "just not");
        engine.ranks.leave(0);
        assert!(divide(&mut engine, MOST_PARTS));
        (0..121).for_each(|_| engine.ranks.enter(0, 0));
        assert!(divide(&mut engine, MOST_PARTS), "a little more changes nothing");
        engine.ranks.enter(0, 0);
        assert!(!divide(&mut engine, MOST_PARTS));
        // With a smaller store, less does: 800 frames, and 224 pages of the store.
        (0..engine.ranks.out() - (800 + 560) / 16 * 15).for_each(|_| engine.ranks.leave(0));
        assert!(divide(&mut engine, 7));
        engine.division.fits = false;
        engine.ranks.enter(0, 0);
        assert!(!divide(&mut engine, 7));
        assert!(divide(&mut engine, MOST_PARTS));
    }

    #[test]
    fn what_fits_into_ram_goes_to_the_file_where_refaults_want_frames() {
        let mut engine = engine(1024);
        let half = crate::OrderSet::only(crate::Order::MAX);
        assert!(engine.pool.take(half, crate::frame::Use::Zeroes, 1024).is_some());
        (0..1200).for_each(|_| engine.ranks.enter(0, 0));
        engine.divide();
        assert!(engine.fits_in_ram() && engine.division.parts == MOST_PARTS);
        (0..20).for_each(|_| {
            engine.division.refaults = refaults(0..12).refaults;
            engine.divide();
        });
        assert!(engine.division.parts <= STEP + 2, "{}", engine.division.parts);
    }

    #[test]
    fn the_density_of_the_store_is_that_of_what_it_holds() {
        let mut engine = engine(1024);
        engine.swap.segments.reserve(64);
        let mut store = |pages| {
            (0..pages).for_each(|_| _ = engine.swap.new_ram_block(crate::swap::Queue::Dense, 500, 0, 0));
        };
        store(1000);
        engine.divide();
        // 512 bytes each.
        assert_eq!(engine.division.density, 1000 * 16 / 125);
    }

    #[test]
    fn what_lies_beyond_a_rank_is_counted_evenly() {
        let division = refaults([0, 1]);
        assert_eq!(division.beyond(0, 32), 200 * UNIT);
        assert_eq!(division.beyond(16, 32), 150 * UNIT);
        assert_eq!(division.beyond(64, 32), 0);
        assert_eq!(division.beyond(-32, 32), 300 * UNIT);
        assert_eq!(refaults([RANKS - 1]).beyond(1 << 40, 32), 100 * UNIT);
    }
}
