//! How the budget is divided when the processes want more than there is.

/// What one process has and wants, in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Demand {
    /// Pages it has taken.
    pub(crate) granted: u64,
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
        self.granted.saturating_add(self.wanted)
    }

    fn floor(&self) -> u64 {
        self.granted.min(FLOOR)
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

    fn demand(granted: u64, wanted: u64) -> Demand {
        Demand { granted, wanted }
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
