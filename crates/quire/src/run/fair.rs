//! How the budget is divided when the processes want more than there is.
//!
//! Each gets what it demands, up to one common level. Who has not faulted for a while may need less than it has: nothing tells
//! but to try. So its demand shrinks step by step ([`Stillness`]) until it faults again.

/// What one process has and wants, in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Demand {
    /// Pages it has taken, as far as it demands to keep them.
    pub(crate) keeps: u64,
    /// Pages it would take beyond.
    pub(crate) wanted: u64,
}

/// What no process is asked to shrink below, in pages: 4 MiB.
pub(crate) const FLOOR: u64 = 1024;

/// The share of each process, in the order of `demands`: its whole demand, or one common level that uses the
/// budget up. Nobody's share is below the smaller of what it has and [`FLOOR`].
pub(crate) fn shares(budget: u64, demands: &[Demand]) -> Vec<u64> {
    let level = level(budget, demands);
    demands.iter().map(|demand| demand.whole().min(level).max(demand.floor())).collect()
}

impl Demand {
    fn whole(&self) -> u64 {
        self.keeps.saturating_add(self.wanted)
    }

    fn floor(&self) -> u64 {
        self.keeps.min(FLOOR)
    }
}

/// Looks without a fault after which a process is taken to need less than it has; twice as many each time that this was wrong,
/// up to a limit. A look is 50 ms.
const LEAST_LOOKS: u32 = 4;
const MOST_LOOKS: u32 = 128;
/// The part that it gives up with each look from then on.
const STEP: u64 = 16;

/// How long a process has been without faults.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stillness {
    /// Its faults when it was looked at last.
    faults: u64,
    /// Looks since the last one that saw it fault.
    looks: u32,
    /// Looks after which it is taken to need less.
    needed: u32,
    /// What it demands to keep, where that is less than it has, in pages.
    keeps: Option<u64>,
    /// It was asked to go down to that.
    asked: bool,
}

impl Stillness {
    pub(crate) const fn new() -> Stillness {
        Stillness { faults: 0, looks: 0, needed: LEAST_LOOKS, keeps: None, asked: false }
    }

    /// Looks at a process that has had `faults` faults so far, and has `granted` pages.
    pub(crate) fn look(&mut self, faults: u64, granted: u64) {
        if faults != self.faults {
            let wrong = self.asked && self.keeps.is_some();
            let needed = if wrong { (2 * self.needed).min(MOST_LOOKS) } else { self.needed };
            *self = Stillness { faults, needed, ..Stillness::new() };
            return;
        }
        self.looks = self.looks.saturating_add(1);
        if self.looks >= self.needed {
            self.keeps = Some(granted - granted.div_ceil(STEP));
        }
        if self.looks > MOST_LOOKS {
            self.needed = LEAST_LOOKS;
        }
    }

    /// The demand of a process that has `granted` pages and wanted `wanted` more when it faulted last.
    pub(crate) fn demand(&self, granted: u64, wanted: u64) -> Demand {
        match self.keeps {
            Some(keeps) => Demand { keeps: keeps.max(FLOOR).min(granted), wanted: 0 },
            None => Demand { keeps: granted, wanted },
        }
    }

    /// It is asked to go down to its demand.
    pub(crate) fn ask(&mut self) {
        self.asked = true;
    }
}

/// The highest level at which the demands, each cut to it, still fit the budget.
fn level(budget: u64, demands: &[Demand]) -> u64 {
    let mut wholes: Vec<u64> = demands.iter().map(Demand::whole).collect();
    wholes.sort_unstable();
    let mut left = budget;
    let mut count = wholes.len() as u64;
    for whole in wholes {
        // Those that remain would get an equal part each. If this one wants no more, it gets all it wants.
        if whole > left / count {
            return left / count;
        }
        left -= whole;
        count -= 1;
    }
    u64::MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn demand(keeps: u64, wanted: u64) -> Demand {
        Demand { keeps, wanted }
    }

    #[test]
    fn who_does_not_fault_demands_less_step_by_step_down_to_the_floor() {
        let mut still = Stillness::new();
        let mut granted = 16_000;
        still.look(7, granted);
        for _ in 1..LEAST_LOOKS {
            still.look(7, granted);
            assert_eq!(still.demand(granted, 0), demand(16_000, 0));
        }
        still.look(7, granted);
        assert_eq!(still.demand(granted, 900), demand(15_000, 0));
        assert_eq!(still.demand(14_000, 0), demand(14_000, 0), "it has gone further by itself");
        for _ in 0..60 {
            granted = still.demand(granted, 0).keeps;
            still.look(7, granted);
        }
        assert_eq!(still.demand(granted, 0), demand(FLOOR, 0));
        assert_eq!(still.demand(500, 0), demand(500, 0));
        still.look(8, granted);
        assert_eq!(still.demand(granted, 900), demand(granted, 900), "it faults, and needs what it has");
    }

    /// Looks until a process that does not fault is taken to need less.
    fn looks_needed(still: &mut Stillness, faults: u64) -> u32 {
        still.look(faults, 16_000);
        (1..)
            .find(|_| {
                still.look(faults, 16_000);
                still.demand(16_000, 0).keeps < 16_000
            })
            .unwrap()
    }

    #[test]
    fn who_was_asked_in_vain_is_left_alone_for_longer_each_time() {
        let mut still = Stillness::new();
        for faults in 1..4 {
            assert_eq!(looks_needed(&mut still, faults), LEAST_LOOKS, "nobody wanted what it had");
        }
        let mut expected = LEAST_LOOKS;
        for faults in 4..14 {
            still.ask();
            expected = (2 * expected).min(MOST_LOOKS);
            assert_eq!(looks_needed(&mut still, faults), expected);
        }
        still.look(13, 16_000);
        assert_eq!(looks_needed(&mut still, 14), LEAST_LOOKS, "it has slept for long");
    }

    #[test]
    fn a_late_comer_gets_an_equal_share() {
        assert_eq!(shares(30_000, &[demand(30_000, 0), demand(0, 50_000)]), [15_000, 15_000]);
        assert_eq!(shares(30_000, &[demand(25_000, 9_000), demand(5_000, 1_000)]), [24_000, 6_000]);
    }

    #[test]
    fn nobody_is_squeezed_below_the_floor() {
        let many = [demand(2_000, 100); 8];
        assert_eq!(shares(4_096, &many), [FLOOR; 8]);
        assert_eq!(shares(4_096, &[demand(500, 0); 16]), [500; 16]);
    }

    proptest! {
        #[test]
        fn shares_fit_the_budget_and_use_it(
            budget in 4_096_u64..1 << 30,
            pairs in prop::collection::vec((0_u64..1 << 30, 0_u64..1 << 30), 1..20),
        ) {
            let demands: Vec<Demand> = pairs.into_iter().map(|(granted, wanted)| demand(granted, wanted)).collect();
            let shares = shares(budget, &demands);
            let (sum, floors): (u64, u64) = (shares.iter().sum(), demands.iter().map(Demand::floor).sum());
            let whole: u64 = demands.iter().map(Demand::whole).sum();
            prop_assert!(sum <= budget.max(floors) + floors);
            prop_assert!(sum + demands.len() as u64 >= budget.min(whole));
            for (share, demand) in shares.iter().zip(&demands) {
                prop_assert!(*share <= demand.whole() && *share >= demand.floor());
            }
        }
    }
}
