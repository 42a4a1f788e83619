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

/// What each process should shrink to, in the order of `demands`: its share where all want more than there is. Who has more than
/// twice as much as somebody that wants some gets nothing on top meanwhile, even where some is free: else it takes
/// back what it has just given, page by page, and the other one starves beside it. None: no wish.
pub(crate) fn targets(budget: u64, demands: &[Demand]) -> Vec<Option<u64>> {
    let wanting = demands.iter().filter(|demand| demand.wanted > 0);
    let poorest = wanting.map(|demand| demand.granted).min().unwrap_or(u64::MAX);
    let target = |(demand, share): (&Demand, u64)| {
        let is_rich = demand.granted / 2 > poorest;
        (demand.granted > share || is_rich).then(|| share.min(demand.granted))
    };
    demands.iter().zip(shares(budget, demands)).map(target).collect()
}

/// The share of each process, in the order of `demands`: its whole demand, or one common level that uses the
/// budget up. Nobody's share is below the smaller of what it has and [`FLOOR`].
fn shares(budget: u64, demands: &[Demand]) -> Vec<u64> {
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
    use quire_linux::control::grant::{self, Settled, Standing};
    use quire_linux::control::ledger::{Ledger, NO_LIMIT, Slot};

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

    #[test]
    fn who_has_much_more_than_one_that_wants_some_gets_nothing_on_top() {
        // All of it would fit.
        assert_eq!(targets(30_000, &[demand(20_000, 5_000), demand(1_000, 500)]), [Some(20_000), None]);
        assert_eq!(targets(30_000, &[demand(20_000, 5_000), demand(11_000, 500)]), [Some(18_500), None]);
        assert_eq!(targets(30_000, &[demand(20_000, 5_000), demand(1_000, 0)]), [None, None]);
        assert_eq!(targets(30_000, &[demand(15_000, 0), demand(8_000, 500)]), [None, None]);
        assert_eq!(targets(0, &[]), []);
    }

    /// Pages that a process moves out at a time.
    const BITE: u32 = 256;

    /// A process as its pager deals with the ledger.
    struct Process {
        slot: &'static Slot,
        charged: u32,
        /// Whether it touches new memory all the while.
        is_busy: bool,
    }

    impl Process {
        fn new(ledger: &Ledger, pid: u32, is_busy: bool) -> Process {
            Process { slot: ledger.slot(ledger.join(pid).unwrap().index), charged: 0, is_busy }
        }

        /// Works within what it has; asks for more where room is short; moves out what is above its target.
        fn step(&mut self, ledger: &Ledger) {
            let granted = self.slot.granted_pages() as u32;
            let others_want = ledger.wanting() > u32::from(self.slot.want_pages() > 0);
            let target = self.slot.target_pages();
            let Settled { grant, excess } =
                Standing { granted, charged: self.charged, target, others_want }.settle();
            ledger.give_back(self.slot, excess.into());
            if self.charged + grant::LOW > grant {
                // Idle or not: that is what its watermarks say.
                if u64::from(grant) < target {
                    let got = ledger.take(self.slot, grant::chunk(grant).into()) as u32;
                    ledger.set_want(self.slot, grant::unmet(grant, got));
                }
                self.charged = self.charged.saturating_sub(BITE);
            } else {
                ledger.set_want(self.slot, 0);
            }
            if self.is_busy {
                self.charged = self.slot.granted_pages() as u32;
            }
        }
    }

    /// An idle parent has all of the budget, and a child of its begins to work.
    #[test]
    fn an_idle_parent_gives_way_to_its_busy_child() {
        const BUDGET: u64 = 107_776;
        let (_file, ledger) = Ledger::create(BUDGET).unwrap();
        let mut parent = Process::new(&ledger, 1, false);
        parent.charged = ledger.take(parent.slot, BUDGET - 512) as u32;
        let mut child = Process::new(&ledger, 2, true);
        let mut processes = [&mut parent, &mut child];
        for _ in 0..2_000 {
            for process in &mut processes {
                process.step(&ledger);
            }
            let demands: Vec<Demand> = processes
                .iter()
                .map(|process| demand(process.slot.granted_pages(), process.slot.want_pages()))
                .collect();
            for (process, target) in processes.iter().zip(targets(BUDGET, &demands)) {
                ledger.set_target(process.slot, target.unwrap_or(NO_LIMIT));
            }
            assert!(ledger.taken_pages() <= BUDGET);
        }
        let [parent, child] = processes.map(|process| process.slot.granted_pages());
        assert!(child >= BUDGET * 45 / 100, "the child has {child} pages, its parent {parent}");
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
