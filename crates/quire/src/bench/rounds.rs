//! The order of runs: one workload, natively, with the kernel's swap and under Quire, in rounds.
//!
//! A round is a native run, for each amount of memory one of the kernel's and one of Quire's, and a native run again. What
//! is compared comes from one round, so that a machine that gets slower in the course of an hour does no harm. The
//! second native run shows what noise there was; a round with too much of it is measured again.

use super::equal_ram::{self, Search};
use super::model::{Level, Outcome, Profile, Row, Side, Unit, Value};
use crate::size::human;

/// More of the processors' time than this taken by others makes a round worthless.
const MOST_STEAL: f64 = 0.02;
/// So far may the second native time be from the first: in parts of it, or in seconds where runs are short.
const MOST_OFF: f64 = 0.05;
const MOST_OFF_SECONDS: f64 = 0.03;
/// How often the kernel's limit rises by a tenth.
const RISES: usize = 12;
/// How often Quire's run is repeated with less where it took more than there was.
const CUTS: usize = 3;

/// The metric of the most anonymous memory that a run had.
const ROW_OF_PEAKS: &str = "peak";

/// How one run ended.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Sample {
    /// Of the whole run.
    pub(super) seconds: f64,
    pub(super) values: Vec<Value>,
    /// What must be the same in every run.
    pub(super) answer: String,
    /// Of the run's memory, in bytes: anonymous for a native run; for the others all but file cache.
    pub(super) peak: u64,
    /// The most anonymous memory in it, in bytes: on each side, of all its processes, `quire` with them. 0 where it ended before
    /// anybody looked.
    pub(super) anonymous: u64,
    /// The most that the swap took meanwhile, in bytes.
    pub(super) pool: u64,
}

/// Why a run has no sample.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Trouble {
    /// The kernel killed it for want of memory.
    Killed,
    /// It failed: a line that says how.
    Failed(String),
    /// This signal asks to end.
    Interrupted(i32),
}

/// Where runs are made.
pub(super) trait Lab {
    /// Runs the workload; `bytes` is the kernel's limit, or `-m`; none for no limit.
    fn run(&mut self, side: Side, bytes: Option<u64>) -> Result<Sample, Trouble>;
    /// The share of the processors' time that others took since the last call, 0.0 to 1.0.
    fn steal(&mut self) -> f64;
    /// Runs the workload under Quire once more, to see where the time goes; `bytes` is `-m`.
    fn profile(&mut self, bytes: Option<u64>) -> Result<Profile, Trouble>;
    /// Says something that is worth a line at once.
    fn tell(&mut self, line: &str);
    /// So many runs come on top of those that were planned.
    fn more_runs(&mut self, runs: usize);
}

/// What is to be measured of a workload.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Plan {
    pub(super) rounds: usize,
    /// How often a noisy round is measured again before it is taken as it is.
    pub(super) repeats: usize,
    pub(super) amounts: Vec<Amount>,
    /// Whether there is swap of the kernel's to compare with.
    pub(super) kernel: bool,
    /// Whether what the swap takes is memory.
    pub(super) pool_is_memory: bool,
    /// Whether Quire says in the end where its time goes.
    pub(super) profile: bool,
}

impl Plan {
    /// The runs that it takes where nothing is repeated.
    pub(super) fn runs(&self) -> usize {
        let of = |amount: &Amount| match amount {
            // One that finds the limit and two that find the budget.
            Amount::Limit(_) => (usize::from(self.kernel) + 2, usize::from(self.kernel) + 1),
            Amount::Plenty(_) | Amount::All => (0, 1),
        };
        let (once, each) =
            self.amounts.iter().map(of).fold((1, 2), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        once + self.rounds * each
    }

    fn runs_of_round(&self) -> usize {
        Plan { rounds: 1, ..self.clone() }.runs() - Plan { rounds: 0, ..self.clone() }.runs()
    }
}

/// How much memory, as a share of the native peak.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Amount {
    /// The kernel's limit, and as much for Quire.
    Limit(f64),
    /// `-m`, compared with a native run.
    Plenty(f64),
    /// No `-m`.
    All,
}

impl Amount {
    fn name(self) -> String {
        match self {
            Amount::Limit(share) => format!("{share} of the peak"),
            Amount::Plenty(share) => format!("-m {share} of the peak"),
            Amount::All => "without -m".into(),
        }
    }
}

/// An amount of memory while it is measured.
struct Measured {
    level: Level,
    amount: Amount,
    /// `-m`, in bytes.
    budget: Option<u64>,
    /// L + z of the run that found the budget, in bytes.
    total: u64,
}

/// The runs of one round at one amount of memory.
struct Pair {
    kernel: Option<Sample>,
    quire: Sample,
    budget: Option<u64>,
}

/// Measures a workload. `Err` where nothing can be said of it.
pub(super) fn measure(lab: &mut impl Lab, plan: &Plan, name: &str, what: &str) -> Result<Outcome, Trouble> {
    let first = lab.run(Side::Native, None)?;
    let mut outcome = Outcome {
        workload: name.into(),
        what: what.into(),
        native_peak_bytes: first.peak,
        control: vec![],
        repeated: vec![],
        levels: vec![],
    };
    let mut session = Session { lab, plan, first };
    let amounts = plan.amounts.iter().map(|amount| session.prepare(*amount));
    let mut measured = amounts.collect::<Result<Vec<_>, _>>()?;
    while outcome.control.len() < plan.rounds {
        session.round(&mut outcome, &mut measured)?;
    }
    for one in measured.iter_mut().filter(|one| plan.profile && one.level.problem.is_empty()) {
        one.level.profile = Some(session.lab.profile(one.budget)?);
    }
    outcome.levels = measured.into_iter().map(Measured::level).collect();
    Ok(outcome)
}

/// A share of some bytes, in whole pages.
fn pages(bytes: u64, share: f64) -> u64 {
    (bytes as f64 * share) as u64 & !4095
}

/// What makes a round worthless.
fn noise(steal: f64, native: f64, again: f64) -> Option<String> {
    if steal > MOST_STEAL {
        return Some(format!("others took {:.1} % of the processors", steal * 100.0));
    }
    let off = (again - native).abs();
    (off > MOST_OFF * native && off > MOST_OFF_SECONDS)
        .then(|| format!("natively it took {native:.2} s and then {again:.2} s"))
}

/// One workload while it is measured.
struct Session<'a, L> {
    lab: &'a mut L,
    plan: &'a Plan,
    /// The first native run.
    first: Sample,
}

impl<L: Lab> Session<'_, L> {
    /// A run, whose answer has to be that of the first.
    fn run(&mut self, side: Side, bytes: Option<u64>) -> Result<Sample, Trouble> {
        let sample = self.lab.run(side, bytes)?;
        if sample.answer != self.first.answer {
            return Err(Trouble::Failed(format!(
                "its output differs from the native run's: {} instead of {}",
                sample.answer, self.first.answer
            )));
        }
        Ok(sample)
    }

    /// Finds out the kernel's limit and Quire's budget for an amount of memory.
    fn prepare(&mut self, amount: Amount) -> Result<Measured, Trouble> {
        let mut measured = Measured { level: Level::named(amount.name()), amount, budget: None, total: 0 };
        let peak = self.first.peak;
        match amount {
            Amount::All => {}
            Amount::Plenty(share) => measured.budget = Some(pages(peak, share).max(equal_ram::LEAST)),
            Amount::Limit(share) => self.equal(&mut measured, pages(peak, share))?,
        }
        Ok(measured)
    }

    /// The least limit from `limit` on that the kernel's run survives, and the budget that is as much memory.
    fn equal(&mut self, measured: &mut Measured, mut limit: u64) -> Result<(), Trouble> {
        measured.total = limit;
        if self.plan.kernel {
            let mut rises = 0;
            let kernel = loop {
                match self.run(Side::Kernel, Some(limit)) {
                    Err(Trouble::Killed) if rises < RISES => {
                        rises += 1;
                        limit = pages(limit, 1.1);
                    }
                    Err(Trouble::Killed) => {
                        measured.level.problem =
                            format!("with swap of the kernel's it is killed even at {}", human(limit));
                        return Ok(());
                    }
                    other => break other?,
                }
            };
            measured.total = limit + self.counted(&kernel);
        }
        measured.level.limit_bytes = Some(limit);
        let mut search = Search::new(measured.total);
        while search.learn(self.run(Side::Quire, Some(search.budget()))?.peak) {}
        measured.budget = search.found();
        if measured.budget.is_none() {
            measured.level.problem =
                format!("under Quire it takes more than {} even with the least -m", human(measured.total));
        }
        Ok(())
    }

    /// What the swap of a run took of memory, in bytes.
    fn counted(&self, kernel: &Sample) -> u64 {
        if self.plan.pool_is_memory { kernel.pool } else { 0 }
    }

    /// One round, once or until it is good enough, and what it found out. Where the kernel kills a run that survived before,
    /// the limit rises and all rounds are made anew.
    fn round(&mut self, outcome: &mut Outcome, measured: &mut [Measured]) -> Result<(), Trouble> {
        for repeat in 0.. {
            self.lab.steal();
            let native = self.run(Side::Native, None)?;
            let mut pairs = Vec::new();
            for one in measured.iter_mut() {
                match self.pair(one) {
                    Err(Trouble::Killed) => return self.start_anew(outcome, measured),
                    pair => pairs.push(pair?),
                }
            }
            let again = self.run(Side::Native, None)?;
            let noise = noise(self.lab.steal(), native.seconds, again.seconds);
            if let (Some(noise), true) = (&noise, repeat < self.plan.repeats) {
                let line = format!("round {} is measured again: {noise}", outcome.control.len() + 1);
                self.lab.tell(&format!("{}: {line}", outcome.workload));
                outcome.repeated.push(line);
                self.lab.more_runs(self.plan.runs_of_round());
                continue;
            }
            if let Some(noise) = noise {
                outcome
                    .repeated
                    .push(format!("round {} is taken as it is: {noise}", outcome.control.len() + 1));
            }
            outcome.control.push(again.seconds / native.seconds);
            for (one, pair) in measured.iter_mut().zip(pairs) {
                one.add(&native, pair);
            }
            return Ok(());
        }
        Ok(())
    }

    /// The kernel's run and Quire's at one amount of memory; none where that has a problem.
    fn pair(&mut self, measured: &mut Measured) -> Result<Option<Pair>, Trouble> {
        if !measured.level.problem.is_empty() {
            return Ok(None);
        }
        let Amount::Limit(_) = measured.amount else {
            let quire = self.run(Side::Quire, measured.budget)?;
            return Ok(Some(Pair { kernel: None, quire, budget: measured.budget }));
        };
        let mut total = measured.total;
        let mut kernel = None;
        if self.plan.kernel {
            let sample = self.run(Side::Kernel, measured.level.limit_bytes)?;
            total = measured.level.limit_bytes.unwrap_or(0) + self.counted(&sample);
            kernel = Some(sample);
        }
        // What the kernel's pool took less, or more, in this round, Quire's budget follows.
        let mut budget = equal_ram::follow(measured.budget.unwrap_or(0), total, measured.total);
        for _ in 0..CUTS {
            let quire = self.run(Side::Quire, Some(budget))?;
            if quire.peak <= total {
                (measured.budget, measured.total) = (Some(budget), total);
                return Ok(Some(Pair { kernel, quire, budget: Some(budget) }));
            }
            budget = equal_ram::follow(budget, total - total / 100, quire.peak);
        }
        let problem = format!("under Quire it takes more than {} again and again", human(total));
        measured.level = Level { problem, ..Level::named(measured.amount.name()) };
        Ok(None)
    }

    /// After a run that the kernel killed though one with the same limit survived.
    fn start_anew(&mut self, outcome: &mut Outcome, measured: &mut [Measured]) -> Result<(), Trouble> {
        outcome.repeated.push("all rounds are made anew, with more memory: the kernel killed a run".into());
        self.lab.tell(&format!(
            "{}: the kernel killed a run: its limit rises, and all rounds are made anew",
            outcome.workload
        ));
        self.lab.more_runs(self.plan.runs_of_round() * outcome.control.len());
        outcome.control.clear();
        for one in measured.iter_mut() {
            let limit = one.level.limit_bytes;
            one.level = Level::named(one.amount.name());
            if let (Amount::Limit(_), Some(limit)) = (one.amount, limit) {
                self.equal(one, pages(limit, 1.1))?;
            }
        }
        Ok(())
    }
}

impl Measured {
    /// What came of it, without a row of peaks that not all runs have.
    fn level(mut self) -> Level {
        let seen = |row: &Row| row.native.iter().chain(&row.quire).all(|bytes| *bytes > 0.0);
        self.level.rows.retain(|row| row.unit != Unit::Bytes || seen(row));
        self.level
    }

    /// What a run yields at this amount of memory: where there is enough, how much it takes of it too.
    fn values(&self, sample: &Sample) -> Vec<Value> {
        let peak = Value { metric: ROW_OF_PEAKS.into(), unit: Unit::Bytes, value: sample.anonymous as f64 };
        let is_enough = !matches!(self.amount, Amount::Limit(_));
        sample.values.iter().cloned().chain(is_enough.then_some(peak)).collect()
    }

    /// Takes the values of a round.
    fn add(&mut self, native: &Sample, pair: Option<Pair>) {
        let Some(Pair { kernel, quire, budget }) = pair else { return };
        self.level.budget_bytes.extend(budget);
        self.level.quire_peak_bytes.push(quire.peak);
        self.level.pool_bytes.extend(kernel.as_ref().map(|kernel| kernel.pool));
        let [kernel, quire] = [kernel.as_ref(), Some(&quire)].map(|run| run.map(|run| self.values(run)));
        for value in self.values(native) {
            let of = |values: &Vec<Value>| {
                values.iter().find(|one| one.metric == value.metric).map(|one| one.value)
            };
            let row = match self.level.rows.iter_mut().position(|row| row.metric == value.metric) {
                Some(at) => &mut self.level.rows[at],
                None => {
                    self.level.rows.push(Row {
                        metric: value.metric.clone(),
                        unit: value.unit,
                        native: vec![],
                        kernel: vec![],
                        quire: vec![],
                    });
                    self.level.rows.last_mut().expect("it was pushed")
                }
            };
            row.native.push(value.value);
            row.kernel.extend(kernel.as_ref().and_then(of));
            row.quire.extend(quire.as_ref().and_then(of));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::size::MIB;

    const PEAK: u64 = 400 * MIB;

    /// A machine on which the kernel takes twice the native time and Quire three times.
    struct Fake {
        runs: Vec<(Side, Option<u64>)>,
        /// Below this the kernel kills, in bytes.
        survives: u64,
        /// By looks at it.
        steal: Vec<f64>,
        told: Vec<String>,
        quire_answer: &'static str,
        /// What a run of Quire's takes beside `-m`, in bytes.
        beside: u64,
        /// Which of Quire's runs takes more than that, and how much, in bytes.
        surprise: Option<(usize, u64)>,
        /// Runs on top.
        more: usize,
        /// The most anonymous memory of a run, in bytes, by how many there were; none: as much as all of its memory.
        anonymous: Option<fn(usize) -> u64>,
    }

    impl Fake {
        fn new() -> Fake {
            let beside = 20 * MIB;
            Fake {
                runs: vec![],
                survives: 0,
                steal: vec![],
                told: vec![],
                quire_answer: "42",
                beside,
                surprise: None,
                more: 0,
                anonymous: None,
            }
        }

        /// The `-m` of Quire's runs, in bytes.
        fn budgets(&self) -> Vec<u64> {
            self.runs.iter().filter(|run| run.0 == Side::Quire).filter_map(|run| run.1).collect()
        }
    }

    impl Lab for Fake {
        fn run(&mut self, side: Side, bytes: Option<u64>) -> Result<Sample, Trouble> {
            self.runs.push((side, bytes));
            let surprise =
                self.surprise.filter(|(run, _)| side == Side::Quire && *run == self.budgets().len());
            let beside = self.beside + surprise.map_or(0, |(_, bytes)| bytes);
            let (seconds, peak, pool, answer) = match side {
                Side::Native => (1.0, PEAK, 0, "42"),
                Side::Kernel if bytes.unwrap() < self.survives => return Err(Trouble::Killed),
                Side::Kernel => (2.0, bytes.unwrap(), 50 * MIB, "42"),
                Side::Quire => (3.0, bytes.map_or(PEAK, |bytes| bytes + beside), 0, self.quire_answer),
            };
            let values = vec![Value { metric: "time".into(), unit: Unit::Seconds, value: seconds }];
            let anonymous = self.anonymous.map_or(peak, |anonymous| anonymous(self.runs.len()));
            Ok(Sample { seconds, values, answer: answer.into(), peak, anonymous, pool })
        }

        fn steal(&mut self) -> f64 {
            if self.steal.is_empty() { 0.0 } else { self.steal.remove(0) }
        }

        fn profile(&mut self, _bytes: Option<u64>) -> Result<Profile, Trouble> {
            unreachable!("no plan here asks for it")
        }

        fn tell(&mut self, line: &str) {
            self.told.push(line.into());
        }

        fn more_runs(&mut self, runs: usize) {
            self.more += runs;
        }
    }

    fn plan(amounts: &[Amount]) -> Plan {
        Plan {
            rounds: 3,
            repeats: 2,
            amounts: amounts.to_vec(),
            kernel: true,
            pool_is_memory: true,
            profile: false,
        }
    }

    #[test]
    fn each_round_has_every_side_between_two_native_runs() {
        let mut fake = Fake::new();
        let outcome = measure(&mut fake, &plan(&[Amount::Limit(0.7), Amount::Limit(0.5)]), "x", "").unwrap();
        let last: Vec<Side> = fake.runs[fake.runs.len() - 6..].iter().map(|run| run.0).collect();
        use Side::{Kernel, Native, Quire};
        assert_eq!(last, [Native, Kernel, Quire, Kernel, Quire, Native]);
        assert_eq!(outcome.control, [1.0; 3]);
        assert_eq!(fake.runs.len(), plan(&[Amount::Limit(0.7), Amount::Limit(0.5)]).runs());
        for (level, share) in outcome.levels.iter().zip([0.7, 0.5]) {
            let limit = pages(PEAK, share);
            assert_eq!(level.limit_bytes, Some(limit));
            assert_eq!(level.pool_bytes, [50 * MIB; 3]);
            assert!(
                level
                    .quire_peak_bytes
                    .iter()
                    .all(|peak| *peak <= limit + 50 * MIB && *peak > limit + 30 * MIB)
            );
            let row = &level.rows[0];
            assert_eq!(
                (&row.native[..], &row.kernel[..], &row.quire[..]),
                (&[1.0; 3][..], &[2.0; 3][..], &[3.0; 3][..])
            );
        }
    }

    #[test]
    fn where_the_kernel_kills_its_limit_rises_by_tenths_and_quire_gets_as_much() {
        let mut fake = Fake { survives: PEAK * 6 / 10, ..Fake::new() };
        let outcome = measure(&mut fake, &plan(&[Amount::Limit(0.5)]), "x", "").unwrap();
        let limit = outcome.levels[0].limit_bytes.unwrap();
        assert_eq!(limit, pages(pages(PEAK / 2, 1.1), 1.1));
        assert!(outcome.levels[0].quire_peak_bytes[0] > limit + 30 * MIB);

        let mut never = Fake { survives: u64::MAX, ..Fake::new() };
        let outcome = measure(&mut never, &plan(&[Amount::Limit(0.5)]), "x", "").unwrap();
        assert!(outcome.levels[0].problem.contains("killed even at"), "{}", outcome.levels[0].problem);
        assert!(outcome.levels[0].rows.is_empty());
    }

    #[test]
    fn a_run_that_takes_more_than_there_is_is_made_again_with_as_much_less() {
        let plan = plan(&[Amount::Limit(0.5)]);
        let mut fake = Fake::new();
        measure(&mut fake, &plan, "x", "").unwrap();
        let (searched, surprise) = (fake.budgets().len() - plan.rounds, 10 * MIB);
        let mut fake = Fake { surprise: Some((searched + 1, surprise)), ..Fake::new() };
        let outcome = measure(&mut fake, &plan, "x", "").unwrap();
        let budgets = fake.budgets();
        assert_eq!(budgets.len(), searched + plan.rounds + 1);
        let (first, again) = (budgets[searched], budgets[searched + 1]);
        let total = PEAK / 2 + 50 * MIB;
        let excess = first + 20 * MIB + surprise - total;
        assert!((excess + total / 100 - 4096..=excess + total / 100 + 4096).contains(&(first - again)));
        assert!(outcome.levels[0].quire_peak_bytes.iter().all(|peak| *peak <= total));
    }

    #[test]
    fn where_there_is_enough_the_peaks_of_one_round_are_compared() {
        let mut fake = Fake { anonymous: Some(|run| run as u64 * MIB), ..Fake::new() };
        let outcome = measure(&mut fake, &plan(&[Amount::Plenty(1.5), Amount::All]), "x", "").unwrap();
        // A run to begin with, and rounds of four: natively, twice under Quire, natively again.
        for (level, more) in outcome.levels.iter().zip([1, 2]) {
            let peaks = |first: u64| [0, 4, 8].map(|round| ((first + round) * MIB) as f64).to_vec();
            let found = level.rows.iter().find(|row| row.metric == ROW_OF_PEAKS).unwrap();
            assert_eq!((&found.native, &found.quire), (&peaks(2), &peaks(2 + more)));
            assert!(found.kernel.is_empty() && found.unit == Unit::Bytes);
        }
        let outcome = measure(&mut Fake::new(), &plan(&[Amount::Limit(0.5)]), "x", "").unwrap();
        assert!(outcome.levels[0].rows.iter().all(|row| row.metric != ROW_OF_PEAKS));
    }

    #[test]
    fn runs_that_nobody_saw_have_no_row_of_peaks() {
        let mut fake = Fake { anonymous: Some(|run| if run == 7 { 0 } else { MIB }), ..Fake::new() };
        let outcome = measure(&mut fake, &plan(&[Amount::Plenty(1.5), Amount::All]), "x", "").unwrap();
        let names = |level: &Level| level.rows.iter().map(|row| row.metric.clone()).collect::<Vec<_>>();
        assert_eq!([0, 1].map(|at| names(&outcome.levels[at])), [vec!["time"], vec!["time", ROW_OF_PEAKS]]);
    }

    #[test]
    fn a_noisy_round_is_told_and_measured_again_but_not_for_ever() {
        // A look before each round and one after it.
        let mut fake = Fake { steal: vec![0.0, 0.5, 0.0, 0.0], ..Fake::new() };
        let outcome = measure(&mut fake, &plan(&[Amount::All]), "x", "").unwrap();
        assert_eq!((outcome.repeated.len(), fake.told.len()), (1, 1));
        assert!(outcome.repeated[0].contains("50.0 %"), "{}", outcome.repeated[0]);
        assert_eq!(outcome.levels[0].rows[0].quire.len(), 3);

        let mut fake = Fake { steal: vec![0.5; 100], ..Fake::new() };
        let outcome = measure(&mut fake, &plan(&[Amount::All]), "x", "").unwrap();
        assert_eq!(outcome.repeated.len(), 3 * 3);
        assert_eq!(outcome.control.len(), 3);
    }

    #[test]
    fn other_output_is_a_failure_that_names_both() {
        let mut fake = Fake { quire_answer: "43", ..Fake::new() };
        let trouble = measure(&mut fake, &plan(&[Amount::Limit(0.5)]), "x", "").unwrap_err();
        assert_eq!(
            trouble,
            Trouble::Failed("its output differs from the native run's: 43 instead of 42".into())
        );
    }

    #[test]
    fn a_budget_that_is_not_enough_is_cut_and_what_cannot_be_equal_has_a_problem() {
        // Nothing is ever as little as the limit.
        let mut fake = Fake { beside: PEAK, ..Fake::new() };
        let outcome = measure(&mut fake, &plan(&[Amount::Limit(0.5)]), "x", "").unwrap();
        assert!(outcome.levels[0].problem.contains("takes more than"), "{}", outcome.levels[0].problem);
        assert!(outcome.levels[0].rows.is_empty());
    }

    #[test]
    fn without_the_kernels_swap_quire_gets_the_limit_alone() {
        let mut fake = Fake::new();
        let alone = Plan { kernel: false, ..plan(&[Amount::Limit(0.5)]) };
        let outcome = measure(&mut fake, &alone, "x", "").unwrap();
        assert!(fake.runs.iter().all(|run| run.0 != Side::Kernel));
        assert!(outcome.levels[0].quire_peak_bytes.iter().all(|peak| *peak <= PEAK / 2));
        assert!(outcome.levels[0].rows[0].kernel.is_empty());
    }
}
