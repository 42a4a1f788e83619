//! How memory is divided between frames, the store in RAM, and what waits there to go to the file.
//!
//! More frames save whole faults; a larger store in RAM saves reads of the disk, for several pages with each page that
//! it takes. What pays depends on the program: one whose working set nearly fits into the budget wants frames, one
//! that touches everything alike wants the store. Nothing in between need be better than both ends, so following a
//! slope can lead to the wrong one. Instead the ranks of refaults (`reclaim/ranks.rs`) tell what each division would have
//! cost, and the cheapest is taken. It begins with as much for the store as there may be, so a program whose memory fits
//! into RAM, as frames or compressed, leaves the file alone until refaults say that more frames are worth reads of the disk: a
//! sort of short lines takes a fifth of the time then. Without a file nothing is weighed.

use crate::grant::Grant;

/// How many fills from RAM cost as much as one from a disk.
const READ_WEIGHT: u32 = 6;
/// What waits in RAM to go to the file may always take this part of the grant ...
const LEAST_WAITING_FRACTION: u32 = 32;
/// ... and never more than this.
const MOST_WAITING_FRACTION: u32 = 4;

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
    /// Pages that may wait in RAM to go to the file, as far as that has paid so far.
    waiting: u32,
}

impl Division {
    pub(crate) const fn new(grant: u32) -> Division {
        Division {
            refaults: [0; RANKS],
            noted: 0,
            parts: MOST_PARTS,
            read_ns: READ_NS,
            density: DENSITY,
            fits: false,
            waiting: grant / 8,
        }
    }

    /// Most pages of RAM that the store may take, the host's tables included: at least one part beside those, and no more than
    /// leaves 40 % of the grant to frames. Without a file, other rules hold where that is not enough.
    pub(crate) fn store_limit(&self, grant: &Grant, has_file: bool) -> u32 {
        let parts = if has_file { self.parts } else { MOST_PARTS };
        let least = grant.overhead.saturating_add(pages_in(1, grant));
        pages_in(parts, grant).max(least).min(pages_in(MOST_PARTS, grant))
    }

    /// Sets how many thirty-seconds of the grant the store and the host's tables may take. From there the division follows
    /// refaults again.
    pub(crate) fn set_parts(&mut self, parts: u32) {
        self.parts = parts.clamp(1, MOST_PARTS);
    }

    /// Whether the file has nothing that RAM would not have room for.
    pub(crate) fn fits(&self) -> bool {
        self.fits
    }

    /// Most pages that wait in RAM to go to the file.
    pub(crate) fn waiting_limit(&self, grant: &Grant) -> u32 {
        self.waiting.clamp(grant.pages / LEAST_WAITING_FRACTION, grant.pages / MOST_WAITING_FRACTION)
    }

    /// So many pages more that wait would have spared a read of the disk, or so many less of them a fault.
    pub(crate) fn weigh_waiting(&mut self, grant: &Grant, more: u32, less: u32) {
        self.waiting = self.waiting_limit(grant).saturating_add(more * READ_WEIGHT).saturating_sub(less);
    }

    /// Notes that a fault waited `ns` for its read of the disk.
    pub(crate) fn note_read(&mut self, ns: u64) {
        self.read_ns = (self.read_ns * 15 + ns.clamp(READ_NS / 8, READ_NS * 64)) / 16;
    }

    /// Notes that a page of this rank is needed again. Whether there are enough to decide anew.
    pub(crate) fn note_refault(&mut self, grant: &Grant, rank: u32) -> bool {
        let part = u64::from(rank) * u64::from(PARTS) / u64::from(grant.pages.max(1));
        self.refaults[(part as usize).min(RANKS - 1)] += 1;
        self.noted += 1;
        self.noted >= (grant.pages / REFAULTS_FRACTION).clamp(LEAST_REFAULTS, REFAULTS)
    }

    /// Notes how many pages the store has in so many pages of RAM.
    pub(crate) fn note_density(&mut self, blocks: u32, ram: u32) {
        if ram >= TELLING {
            self.density = blocks * UNIT as u32 / ram;
        }
    }

    /// Changes the division where another one is clearly cheaper; then what was noted counts less.
    pub(crate) fn decide(&mut self, grant: &Grant, resident: u32, stored: u32) {
        self.noted = 0;
        let sizes = Sizes {
            grant: i64::from(grant.pages),
            overhead: i64::from(grant.overhead),
            resident: i64::from(resident),
            stored: i64::from(stored),
            density: i64::from(self.density),
        };
        // Of equal ones the largest: what the store may have and does not need is left to frames.
        let costs = (1..=MOST_PARTS).rev().map(|parts| (sizes.cost(self, parts), parts));
        if let Some((cost, best)) = costs.min_by_key(|(cost, _)| *cost)
            && cost < sizes.cost(self, self.parts) / 16 * 15
        {
            self.parts = best.clamp(self.parts.saturating_sub(STEP).max(1), self.parts + STEP);
        }
        self.refaults.iter_mut().for_each(|n| *n -= n.div_ceil(8));
        self.fits = self.would_fit(grant, resident + stored);
    }

    /// Whether so many pages would fit into RAM if the store took as much as it may now. Once they do, a sixteenth more does not
    /// change that.
    fn would_fit(&self, grant: &Grant, pages: u32) -> bool {
        let most = u64::from(pages_in(self.parts, grant));
        let frames = u64::from(grant.pages) - most;
        let held = most.saturating_sub(grant.overhead.into()) * u64::from(self.density) / UNIT;
        u64::from(pages) <= (frames + held) / 16 * if self.fits { 16 } else { 15 }
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

/// So many parts of the grant, in pages.
fn pages_in(parts: u32, grant: &Grant) -> u32 {
    (u64::from(grant.pages) * u64::from(parts) / u64::from(PARTS)) as u32
}

/// The sizes that a division is judged by, in pages.
struct Sizes {
    grant: i64,
    overhead: i64,
    /// Frames that hold pages now.
    resident: i64,
    /// Pages that are only stored.
    stored: i64,
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
        let beyond = (self.resident + self.stored + self.overhead - self.grant).max(0);
        let gain = self.density - UNIT as i64;
        if gain > 0 { beyond * UNIT as i64 / gain } else { self.grant }
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
            stored: 4000,
            density: 4 * UNIT as i64,
        };
        (1..=MOST_PARTS).min_by_key(|&p| sizes.cost(division, p)).unwrap_or(0)
    }

    fn refaults(ranks: impl IntoIterator<Item = usize>) -> Division {
        let mut division = Division::new(0);
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
        let sizes =
            Sizes { grant: GRANT, overhead: 64, resident: 512, stored: 4000, density: 4 * UNIT as i64 };
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
        let sizes =
            Sizes { grant: GRANT, overhead: 32, resident: 800, stored: 492, density: 4 * UNIT as i64 };
        assert_eq!(sizes.need(), 100);
        let costs: Vec<u64> = (1..=MOST_PARTS).map(|parts| sizes.cost(&division, parts)).collect();
        assert!(costs[4..].iter().all(|cost| *cost == costs[4]) && costs[3] != costs[4], "{costs:?}");
        assert_eq!(Sizes { stored: 100, ..sizes }.need(), 0);
        assert_eq!(Sizes { density: UNIT as i64, ..sizes }.need(), GRANT);
    }

    #[test]
    fn a_fast_disk_needs_no_store_and_a_slow_one_does() {
        let mut division = refaults(0..40);
        division.read_ns = 1000;
        assert_eq!(cheapest(&division, 10), 1);
        division.read_ns = 10_000_000;
        assert!(cheapest(&division, 10) > 10);
    }

    #[test]
    fn a_wait_for_the_disk_moves_what_is_taken_for_one_by_a_sixteenth() {
        let mut division = Division::new(320);
        division.note_read(READ_NS + 16_000);
        assert_eq!(division.read_ns, READ_NS + 1000);
        (0..1000).for_each(|_| division.note_read(u64::MAX));
        assert!(division.read_ns <= 64 * READ_NS && division.read_ns > 63 * READ_NS);
        (0..1000).for_each(|_| division.note_read(0));
        assert!(division.read_ns >= READ_NS / 8 && division.read_ns < READ_NS / 7);
    }

    #[test]
    fn what_waits_for_the_file_has_a_part_of_the_grant_between_two_limits() {
        let limits = [0, 100, 500, 802, 803, u32::MAX]
            .map(|waiting| Division { waiting, ..Division::new(0) }.waiting_limit(&Grant::new(3210)));
        assert_eq!(limits, [100, 100, 500, 802, 802, 802]);
    }

    #[test]
    fn the_division_follows_what_refaults_would_have_cost_by_small_steps() {
        let grant = Grant::new(GRANT as u32);
        let mut division = refaults(0..12);
        division.decide(&grant, 512, 4000);
        assert_eq!(division.parts, MOST_PARTS - STEP, "the working set nearly fits: frames are wanted");
        let fading = [[87; 12].as_slice(), &[0]].concat();
        assert_eq!(division.refaults[..13], fading, "and counts less from now on");
        (0..20).for_each(|_| division.decide(&grant, 512, 4000));
        assert!(division.parts <= STEP + 2, "{}", division.parts);
        let mut division = Division { parts: 9, ..refaults([RANKS - 1]) };
        division.decide(&grant, 512, 4000);
        assert_eq!(division.parts, 9, "nothing would have helped");
    }

    #[test]
    fn whether_all_of_it_fits_into_ram_follows_from_the_division() {
        let grant = Grant::new(GRANT as u32);
        let mut division = Division::new(grant.pages);
        let mut fits = |parts, stored| {
            division.set_parts(parts);
            division.decide(&grant, 0, stored);
            assert_eq!(division.parts, parts, "without refaults nothing is better");
            division.fits()
        };
        // 416 frames, and 608 pages of the store with two and a half each.
        let most = (416 + 1520) / 16 * 15;
        assert!(!fits(MOST_PARTS, most + 1), "just not");
        assert!(fits(MOST_PARTS, most));
        assert!(fits(MOST_PARTS, most + 121), "a little more changes nothing");
        assert!(!fits(MOST_PARTS, most + 122));
        // With a smaller store, less does: 800 frames, and 224 pages of the store.
        let less = (800 + 560) / 16 * 15;
        assert!(fits(7, less));
        division.fits = false;
        division.decide(&grant, 0, less + 1);
        assert!(!division.fits());
        division.set_parts(MOST_PARTS);
        division.decide(&grant, 0, less + 1);
        assert!(division.fits());
    }

    #[test]
    fn what_fits_into_ram_goes_to_the_file_where_refaults_want_frames() {
        let grant = Grant::new(GRANT as u32);
        let mut division = Division::new(grant.pages);
        division.decide(&grant, 512, 1200);
        assert!(division.fits() && division.parts == MOST_PARTS);
        (0..20).for_each(|_| {
            division.refaults = refaults(0..12).refaults;
            division.decide(&grant, 512, 1200);
        });
        assert!(division.parts <= STEP + 2, "{}", division.parts);
    }

    #[test]
    fn the_density_of_the_store_is_that_of_what_it_holds() {
        let mut division = Division::new(0);
        division.note_density(100, 63);
        assert_eq!(division.density, DENSITY, "little is stored");
        division.note_density(1000, 125);
        assert_eq!(division.density, 1000 * 16 / 125);
    }

    #[test]
    fn refaults_are_gathered_before_anything_is_decided() {
        let notes = |pages| {
            let (grant, mut division) = (Grant::new(pages), Division::new(pages));
            (1..).find(|_| division.note_refault(&grant, 0))
        };
        assert_eq!([100, 800, 1 << 20].map(notes), [Some(64), Some(100), Some(512)]);
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
