//! Which `-m` gives Quire the memory that the kernel had.
//!
//! The kernel's run has its limit L and, beside it, what zram's pool took at most, z. Quire's run gets L + z in all:
//! folios, compressed contents, tables, `quire` itself, the program's stacks and data, page tables. `-m` is only a part
//! of that, and how large a part depends on the program: so it is found out by running it.

use crate::size::MIB;
use std::ops::RangeInclusive;

/// The least `-m`, in bytes.
pub(super) const LEAST: u64 = 16 * MIB;
/// What a first guess leaves for all that `-m` does not count, in bytes.
const FIRST_GAP: u64 = 6 * MIB;
/// So near to all of the memory is near enough, in percent of it.
const NEAR_PERCENT: u64 = 3;
/// How much a byte of `-m` may count in the peak, where two runs are to tell.
const SLOPES: RangeInclusive<f64> = 0.5..=2.0;
/// Runs that look for it.
pub(super) const TRIES: usize = 5;

/// The search for `-m`.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Search {
    /// L + z, in bytes.
    total: u64,
    budget: u64,
    /// The largest that kept to `total`.
    good: Option<u64>,
    /// The budget and the peak of the last run.
    last: Option<(u64, u64)>,
    tries: usize,
}

impl Search {
    pub(super) fn new(total: u64) -> Search {
        Search { total, budget: total.saturating_sub(FIRST_GAP).max(LEAST), good: None, last: None, tries: 0 }
    }

    /// The `-m` to try, in bytes.
    pub(super) fn budget(&self) -> u64 {
        self.budget
    }

    /// What the run with it peaked at. Answers whether another try is worth a run.
    pub(super) fn learn(&mut self, peak: u64) -> bool {
        self.tries += 1;
        if peak <= self.total {
            self.good = self.good.max(Some(self.budget));
        }
        let near = self.total - self.total * NEAR_PERCENT / 100;
        if (near..=self.total).contains(&peak) || self.tries == TRIES {
            return false;
        }
        let wanted = self.total - self.total * NEAR_PERCENT / 200;
        // More than all there is helps nobody: then the program does not want it.
        let next = self.next(wanted, peak).clamp(LEAST, self.total.max(LEAST)) & !4095;
        self.last = Some((self.budget, peak));
        let moved = next != self.budget && Some(next) > self.good;
        self.budget = next;
        moved
    }

    /// On a line through the last two runs; after one run, a byte of `-m` is a byte of the peak.
    fn next(&self, wanted: u64, peak: u64) -> u64 {
        let slope = self.last.map_or(1.0, |(budget, before)| {
            let slope = (peak as f64 - before as f64) / (self.budget as f64 - budget as f64);
            if slope.is_finite() { slope.clamp(*SLOPES.start(), *SLOPES.end()) } else { 1.0 }
        });
        (self.budget as f64 + (wanted as f64 - peak as f64) / slope).max(0.0) as u64
    }

    /// The `-m` that was found; none where even the least takes more than there is.
    pub(super) fn found(&self) -> Option<u64> {
        self.good
    }
}

/// The `-m` after one whose run peaked at `peak` where `wanted` was: all in bytes.
pub(super) fn follow(budget: u64, wanted: u64, peak: u64) -> u64 {
    (budget + wanted).saturating_sub(peak).max(LEAST) & !4095
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs the search for a program whose peak is what `peak` says of its budget.
    fn search(total: u64, peak: impl Fn(u64) -> u64) -> Option<u64> {
        let mut search = Search::new(total);
        while search.learn(peak(search.budget())) {}
        search.found()
    }

    #[test]
    fn a_constant_share_outside_the_budget_is_found_at_once() {
        let found = search(300 * MIB, |budget| budget + 40 * MIB).unwrap();
        assert!((251 * MIB..=260 * MIB).contains(&found), "{}", found / MIB);
    }

    #[test]
    fn a_program_that_needs_less_gets_no_less_than_it_can_use() {
        // It never takes more than 100 MiB: what was tried first was enough.
        assert!(search(300 * MIB, |budget| budget.min(100 * MIB)).unwrap() >= 294 * MIB);
    }

    #[test]
    fn where_the_least_is_too_much_there_is_none() {
        assert_eq!(search(20 * MIB, |budget| budget + 10 * MIB), None);
    }

    proptest! {
        #[test]
        fn what_is_found_keeps_to_the_memory(total in 40_u64..2000, beside in 0_u64..20, percent in 100_u64..130) {
            let total = total * MIB;
            let peak = |budget: u64| budget * percent / 100 + beside * MIB;
            if let Some(found) = search(total, peak) {
                prop_assert!(peak(found) <= total);
                // What a proportional share leaves unused is little, unless the least is all there is.
                prop_assert!(found == LEAST || peak(found) >= total * 95 / 100, "{} of {total}", peak(found));
            } else {
                prop_assert!(peak(LEAST) > total * 9 / 10);
            }
        }
    }
}
