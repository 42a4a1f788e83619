//! What follows from the values of a bench: medians, ratios by rounds, how sure they are, and whether all of it adds up.

use super::model::{Level, Outcome, Profile, Results, Row, Side, Unit};
use crate::size::MIB;
use std::cmp::Ordering;

/// What an interval covers at least, where there are rounds enough: what five rounds reach with all of their values.
const ENOUGH: f64 = 0.9375;

/// How far the control may be off, as a share.
pub(crate) const NOISE: f64 = 0.05;

/// So far above the native peak in the same round may Quire's be: in parts of it, and in bytes.
const MOST_PEAK: f64 = 1.02;
const MOST_PEAK_BYTES: u64 = 2 * MIB;

/// How far a shown ratio may be from what the values say, as a share: what adding in another order does.
const ROUNDING: f64 = 1e-9;

/// The middle of the values: the mean of both middles, where their number is even.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = sorted[(sorted.len() - 1) / 2];
    // So that neither a sum overflows nor the mean of two equal values differs from them.
    Some(lower + (upper - lower) / 2.0)
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The median of numbers of bytes.
pub(crate) fn median_bytes(values: &[u64]) -> Option<u64> {
    median(&values.iter().map(|&bytes| bytes as f64).collect::<Vec<_>>()).map(|bytes| bytes as u64)
}

/// What a side is called.
pub(crate) const fn side_name(side: Side) -> &'static str {
    match side {
        Side::Native => "native",
        Side::Kernel => "kernel",
        Side::Quire => "quire",
    }
}

/// What a side took, by rounds.
pub(crate) fn values(row: &Row, side: Side) -> &[f64] {
    match side {
        Side::Native => &row.native,
        Side::Kernel => &row.kernel,
        Side::Quire => &row.quire,
    }
}

/// What `of` took by what `by` took in the same round, for each round. Empty where one was not measured.
pub(crate) fn paired_ratio(row: &Row, of: Side, by: Side) -> Vec<f64> {
    values(row, of).iter().zip(values(row, by)).map(|(of, by)| of / by).collect()
}

/// Between which values the median of all rounds that could be measured is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Interval {
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// How often such an interval has that median in it, 0 to 1.
    pub(crate) coverage: f64,
}

/// The interval for the median that supposes nothing about how values are distributed, only that rounds are
/// independent and alike: from the `rank`-th smallest value to the `rank`-th largest. The true median is outside when
/// fewer than `rank` of the values are below it, or above it, and each is with a chance of one half: a binomial
/// distribution. Of all ranks the narrowest interval that covers [`ENOUGH`], or else the widest, which covers
/// 0, 50, 75, 87.5 and 93.75 % with 1 to 5 rounds. Values that are equal make it cover more, not less.
///
/// W. R. Thompson, On confidence ranges for the median, Annals of Mathematical Statistics 7 (1936), 122 to 128;
/// H. A. David and H. N. Nagaraja, Order Statistics, third edition (2003), section 7.1.
pub(crate) fn interval(values: &[f64]) -> Option<Interval> {
    let sorted = sorted(values);
    let rounds = sorted.len();
    let enough = |rank: &usize| coverage(rounds, *rank) >= ENOUGH;
    let rank = (1..=rounds.div_ceil(2)).take_while(enough).last().unwrap_or(1);
    let (low, high) = (*sorted.get(rank - 1)?, sorted[rounds - rank]);
    Some(Interval { low, high, coverage: coverage(rounds, rank) })
}

/// The chance that at least `rank` of so many values are below the median, and as many above it. Right for up to a
/// thousand rounds.
fn coverage(rounds: usize, rank: usize) -> f64 {
    let mut chance = 0.5_f64.powi(rounds as i32);
    let mut outside = 0.0;
    for hits in 0..rank {
        outside += 2.0 * chance;
        chance *= (rounds - hits) as f64 / (hits + 1) as f64;
    }
    (1.0 - outside).max(0.0)
}

/// How far the second native time is from the first, as a share: the median over the rounds.
pub(crate) fn control_off(control: &[f64]) -> Option<f64> {
    median(&control.iter().map(|ratio| (ratio - 1.0).abs()).collect::<Vec<_>>())
}

/// Whether the control is off by at most that share. Without a control nobody knows, so it is not.
pub(crate) fn within(control: &[f64], share: f64) -> bool {
    control_off(control).is_some_and(|off| off <= share)
}

/// How two sides compare.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Ratio {
    /// By rounds.
    pub(crate) rounds: Vec<f64>,
    pub(crate) median: f64,
    pub(crate) interval: Interval,
}

impl Ratio {
    /// None where a side was not measured.
    fn of(row: &Row, of: Side, by: Side) -> Option<Ratio> {
        let rounds = paired_ratio(row, of, by);
        Some(Ratio { median: median(&rounds)?, interval: interval(&rounds)?, rounds })
    }
}

/// How Quire does against what it is compared with: the kernel's swap where memory is short, else a native run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// The whole interval is above 1; of peaks, in the median they are above what may be.
    Loses,
    /// The whole interval is below 1.
    Wins,
    /// Neither.
    Even,
    /// One of the sides is missing.
    Unknown,
}

impl Verdict {
    /// Of a row with this ratio by Quire.
    pub(super) fn of(row: &Row, ratio: Option<&Ratio>) -> Verdict {
        let loses = |interval: Interval| match row.unit {
            Unit::Bytes => is_too_much(row),
            _ => interval.low > 1.0,
        };
        match ratio.map(|ratio| ratio.interval) {
            None => Verdict::Unknown,
            Some(interval) if loses(interval) => Verdict::Loses,
            Some(interval) if interval.high < 1.0 => Verdict::Wins,
            Some(_) => Verdict::Even,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Verdict::Loses => "loses",
            Verdict::Wins => "wins",
            Verdict::Even => "even",
            Verdict::Unknown => "unknown",
        }
    }
}

/// Whether Quire's peaks are above what the native ones of the same rounds allow, in the median of the rounds.
fn is_too_much(row: &Row) -> bool {
    let most = |native: &f64| native * MOST_PEAK + MOST_PEAK_BYTES as f64;
    let excess: Vec<f64> =
        row.quire.iter().zip(&row.native).map(|(quire, native)| quire - most(native)).collect();
    median(&excess).is_some_and(|excess| excess > 0.0)
}

/// What is shown of a row.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Figures {
    /// Medians, in the row's unit.
    pub(crate) native: Option<f64>,
    pub(crate) kernel: Option<f64>,
    pub(crate) quire: Option<f64>,
    pub(crate) kernel_native: Option<Ratio>,
    pub(crate) quire_native: Option<Ratio>,
    pub(crate) quire_kernel: Option<Ratio>,
    pub(crate) verdict: Verdict,
}

impl Figures {
    pub(crate) fn of(outcome: &Outcome, level: &Level, row: &Row) -> Figures {
        let quire_native = Ratio::of(row, Side::Quire, Side::Native);
        let quire_kernel = Ratio::of(row, Side::Quire, Side::Kernel);
        let deciding = if under_pressure(outcome, level) { &quire_kernel } else { &quire_native };
        Figures {
            native: median(&row.native),
            kernel: median(&row.kernel),
            quire: median(&row.quire),
            kernel_native: Ratio::of(row, Side::Kernel, Side::Native),
            verdict: Verdict::of(row, deciding.as_ref()),
            quire_native,
            quire_kernel,
        }
    }

    pub(crate) fn median(&self, side: Side) -> Option<f64> {
        match side {
            Side::Native => self.native,
            Side::Kernel => self.kernel,
            Side::Quire => self.quire,
        }
    }

    /// What Quire took by what the nearest other side took that was measured: the kernel's, else the native one.
    pub(crate) fn last(&self) -> Option<&Ratio> {
        self.quire_kernel.as_ref().or(self.quire_native.as_ref())
    }
}

/// Whether the program has less memory than it wants.
pub(crate) fn under_pressure(outcome: &Outcome, level: &Level) -> bool {
    level.limit_bytes.is_some() || level.budget_bytes.iter().any(|budget| *budget < outcome.native_peak_bytes)
}

/// Whether what swap takes is memory.
fn swap_is_memory(results: &Results) -> bool {
    results.machine.swap.starts_with("zram")
}

/// What does not add up, a line each. Empty where all does.
pub(crate) fn adds_up(results: &Results) -> Vec<String> {
    let mut wrong = Vec::new();
    let levels = results.outcomes.iter().flat_map(|outcome| &outcome.levels);
    let kernel = levels.flat_map(|level| &level.rows).any(|row| !row.kernel.is_empty());
    for outcome in &results.outcomes {
        let rounds = rounds(outcome);
        let mut say = |level: &str, what: String| {
            wrong.push(format!("{}{level}: {what}", outcome.workload));
        };
        length("control", outcome.control.len(), rounds).into_iter().for_each(|what| say("", what));
        positive("control", &outcome.control).into_iter().for_each(|what| say("", what));
        for level in &outcome.levels {
            let name = format!(", {}", level.name);
            level_adds_up(level, rounds, kernel, swap_is_memory(results))
                .into_iter()
                .for_each(|what| say(&name, what));
            for row in &level.rows {
                let name = format!("{name}, {}", row.metric);
                row_adds_up(row, &Figures::of(outcome, level, row), rounds)
                    .into_iter()
                    .for_each(|what| say(&name, what));
            }
        }
    }
    wrong
}

/// How many rounds there were: as many as the longest list has.
fn rounds(outcome: &Outcome) -> usize {
    let rows = outcome.levels.iter().flat_map(|level| &level.rows);
    let lists = rows.flat_map(|row| [row.native.len(), row.kernel.len(), row.quire.len()]);
    lists.chain([outcome.control.len()]).max().unwrap_or(0)
}

/// A list is as long as there were rounds, or empty.
fn length(name: &str, length: usize, rounds: usize) -> Option<String> {
    (length != 0 && length != rounds).then(|| format!("{length} of {rounds} rounds have a value for {name}"))
}

/// Nothing takes no time.
fn positive(name: &str, values: &[f64]) -> Option<String> {
    let bad = values.iter().find(|value| !value.is_finite() || **value <= 0.0)?;
    Some(format!("{name} has {bad}, which is no positive number"))
}

/// `kernel` says whether its side was measured at all.
fn level_adds_up(level: &Level, rounds: usize, kernel: bool, pool_is_memory: bool) -> Vec<String> {
    let lists = [
        ("the pool", level.pool_bytes.len()),
        ("-m", level.budget_bytes.len()),
        ("the peak", level.quire_peak_bytes.len()),
    ];
    let mut wrong: Vec<String> = lists.iter().filter_map(|(name, len)| length(name, *len, rounds)).collect();
    if let Some(limit) = level.limit_bytes {
        for (round, peak) in level.quire_peak_bytes.iter().enumerate() {
            let pool = level.pool_bytes.get(round).filter(|_| pool_is_memory).copied().unwrap_or(0);
            if *peak > limit.saturating_add(pool) {
                wrong.push(format!(
                    "round {}: Quire's peak is {peak} bytes, the kernel had {limit} and a pool of {pool}",
                    round + 1
                ));
            }
        }
    }
    let kernel_due = kernel && level.limit_bytes.is_some();
    let lacks =
        |row: &Row| row.native.is_empty() || row.quire.is_empty() || kernel_due && row.kernel.is_empty();
    if level.problem.is_empty() && (level.rows.is_empty() || level.rows.iter().any(lacks)) {
        wrong.push("a side is missing, and nothing says why".into());
    }
    wrong.extend(level.profile.as_ref().and_then(profile_adds_up));
    wrong
}

fn profile_adds_up(profile: &Profile) -> Option<String> {
    let single = [profile.migrations, profile.disk_reads, profile.disk_read_bytes];
    let named = profile.phases.iter().chain(&profile.calls).map(|(_, value)| *value);
    let bad = named.chain(single).find(|value| !value.is_finite() || *value < 0.0)?;
    Some(format!("the profile has {bad}, which is neither a time nor a count"))
}

fn row_adds_up(row: &Row, figures: &Figures, rounds: usize) -> Vec<String> {
    let mut wrong = Vec::new();
    for side in [Side::Native, Side::Kernel, Side::Quire] {
        let values = values(row, side);
        wrong.extend(length(side_name(side), values.len(), rounds));
        wrong.extend(positive(side_name(side), values));
    }
    for (ratio, of, by) in [
        (&figures.kernel_native, Side::Kernel, Side::Native),
        (&figures.quire_native, Side::Quire, Side::Native),
        (&figures.quire_kernel, Side::Quire, Side::Kernel),
    ] {
        let pairs = values(row, of).iter().zip(values(row, by)).collect::<Vec<_>>();
        if !ratio.as_ref().map_or(pairs.is_empty(), |ratio| halves(&pairs, ratio.median)) {
            let (of, by) = (side_name(of), side_name(by));
            wrong.push(format!("the ratio shown for {of} by {by} is not the median over the rounds"));
        }
    }
    wrong
}

/// Whether no more than half of the pairs have a ratio below this one, and no more than half above.
fn halves(pairs: &[(&f64, &f64)], ratio: f64) -> bool {
    let side = |(of, by): &(&f64, &f64)| {
        let (value, shown) = (**of, ratio * **by);
        if (value - shown).abs() <= shown.abs() * ROUNDING {
            Ordering::Equal
        } else {
            value.total_cmp(&shown)
        }
    };
    let number = |at: Ordering| pairs.iter().filter(|pair| side(pair) == at).count();
    !pairs.is_empty()
        && 2 * number(Ordering::Less) <= pairs.len()
        && 2 * number(Ordering::Greater) <= pairs.len()
}

#[cfg(test)]
mod tests {
    use super::super::example::{results, row};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[5.0, 1.0, 3.0]), Some(3.0));
        assert_eq!(median(&[8.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median_bytes(&[8, 1, 3]), Some(3));
    }

    #[test]
    fn ratios_are_by_rounds_and_not_of_medians() {
        // The medians are 3 and 2; the ratios are 4, 1.5 and 0.5.
        let row = row(&[2.0, 2.0, 2.0], &[1.0, 2.0, 10.0], &[4.0, 3.0, 5.0]);
        assert_eq!(paired_ratio(&row, Side::Quire, Side::Kernel), [4.0, 1.5, 0.5]);
        assert_eq!(Ratio::of(&row, Side::Quire, Side::Kernel).map(|ratio| ratio.median), Some(1.5));
        assert_eq!(paired_ratio(&row, Side::Kernel, Side::Native), [0.5, 1.0, 5.0]);
    }

    #[test]
    fn few_rounds_cover_little() {
        for (rounds, covered) in [(1, 0.0), (2, 0.5), (3, 0.75), (4, 0.875), (5, 0.9375), (6, 0.96875)] {
            let values: Vec<f64> = (1..=rounds).map(f64::from).collect();
            let all = Interval { low: 1.0, high: f64::from(rounds), coverage: covered };
            assert_eq!(interval(&values), Some(all), "{rounds} rounds");
        }
        assert_eq!(interval(&[]), None);
    }

    /// Ranks and what they cover, as textbooks have them in their tables (to a thousandth).
    #[test]
    fn with_more_rounds_the_ends_are_left_out() {
        for (rounds, low, high, covered) in [
            (7, 1, 7, 0.984),
            (8, 1, 8, 0.992),
            (9, 2, 8, 0.961),
            (12, 3, 10, 0.961),
            (15, 4, 12, 0.965),
            (20, 6, 15, 0.959),
        ] {
            let values: Vec<f64> = (1..=rounds).rev().map(f64::from).collect();
            let found = interval(&values).unwrap();
            assert_eq!((found.low, found.high), (f64::from(low), f64::from(high)), "{rounds} rounds");
            assert!((found.coverage - covered).abs() < 0.0006, "{rounds} rounds: {}", found.coverage);
        }
    }

    #[test]
    fn the_control_is_off_in_both_directions() {
        assert!((control_off(&[0.9, 1.02, 1.2]).unwrap() - 0.1).abs() < 1e-12);
        assert!(within(&[0.97, 1.0, 1.04], NOISE) && !within(&[0.94, 1.0, 1.06], NOISE));
        assert!(!within(&[], NOISE));
    }

    #[test]
    fn a_verdict_needs_the_whole_interval() {
        let results = results();
        let verdicts = |at: usize| -> Vec<Verdict> {
            let outcome = &results.outcomes[at];
            let of = |level| move |row| Figures::of(outcome, level, row).verdict;
            outcome.levels.iter().flat_map(|level| level.rows.iter().map(of(level))).collect()
        };
        assert_eq!(verdicts(0), [Verdict::Wins, Verdict::Loses, Verdict::Even]);
        // The kernel's side was killed: how Quire compares is not known, however much slower than native it is.
        assert_eq!(verdicts(1), [Verdict::Unknown]);
        // No pressure: against the native run. A peak may be a little above the native one.
        assert_eq!(verdicts(2), [Verdict::Loses, Verdict::Even, Verdict::Even, Verdict::Loses]);
    }

    #[test]
    fn a_peak_may_be_a_fiftieth_and_two_mib_above_the_native_one() {
        let verdict = |native: &[f64], quire: &[f64]| {
            let bytes = |mib: &[f64]| mib.iter().map(|mib| mib * MIB as f64).collect::<Vec<_>>();
            let row = Row { unit: Unit::Bytes, ..row(&bytes(native), &[], &bytes(quire)) };
            Verdict::of(&row, Ratio::of(&row, Side::Quire, Side::Native).as_ref())
        };
        assert_eq!(verdict(&[100.0; 3], &[104.0; 3]), Verdict::Even);
        assert_eq!(verdict(&[100.0; 3], &[104.1; 3]), Verdict::Loses);
        assert_eq!(verdict(&[100.0; 3], &[200.0, 104.0, 104.0]), Verdict::Even);
        // By rounds: it is the second native peak that is lower.
        assert_eq!(verdict(&[110.0, 100.0, 100.0], &[104.1; 3]), Verdict::Loses);
        assert_eq!(verdict(&[100.0; 3], &[90.0; 3]), Verdict::Wins);
        assert_eq!(verdict(&[], &[90.0; 3]), Verdict::Unknown);
    }

    #[test]
    fn without_the_kernel_a_small_budget_is_pressure() {
        let mut results = results();
        let outcome = &mut results.outcomes[2];
        assert!(outcome.levels.iter().all(|level| !under_pressure(outcome, level)));
        outcome.levels[0].budget_bytes[1] = outcome.native_peak_bytes - 1;
        assert!(under_pressure(outcome, &outcome.levels[0]));
    }

    #[test]
    fn sound_results_add_up() {
        assert_eq!(adds_up(&results()), Vec::<String>::new());
    }

    #[test]
    fn what_does_not_add_up_is_told() {
        type Change = fn(&mut Results);
        let changes: [(Change, &str); 10] = [
            (|r| r.outcomes[0].control.truncate(2), "sort: 2 of 5 rounds have a value for control"),
            (|r| r.outcomes[0].levels[0].rows[0].kernel.truncate(4), "4 of 5 rounds have a value for kernel"),
            (|r| r.outcomes[0].levels[0].pool_bytes.truncate(4), "4 of 5 rounds have a value for the pool"),
            (|r| r.outcomes[0].levels[0].rows[0].quire[1] = 0.0, "quire has 0, which"),
            (|r| r.outcomes[0].control[1] = f64::NAN, "control has NaN, which"),
            (|r| r.outcomes[2].levels[0].rows[0].native[0] = f64::INFINITY, "native has inf, which"),
            (
                |r| r.outcomes[0].levels[0].quire_peak_bytes[3] += 1 << 30,
                "0.7 of the peak: round 4: Quire's peak",
            ),
            (|r| r.outcomes[1].levels[0].problem.clear(), "a side is missing"),
            (|r| r.outcomes[0].levels[0].rows.clear(), "a side is missing"),
            (|r| r.outcomes[0].levels[1].profile.as_mut().unwrap().phases[0].1 = -1.0, "the profile has -1"),
        ];
        for (change, said) in changes {
            let mut results = results();
            change(&mut results);
            let wrong = adds_up(&results);
            assert!(wrong.iter().any(|line| line.contains(said)), "{said}: {wrong:?}");
        }
    }

    #[test]
    fn a_pool_on_a_disk_is_no_memory() {
        let mut results = results();
        results.machine.swap = "a file on /var/tmp (ext4)".into();
        let wrong = adds_up(&results);
        assert!(wrong.iter().any(|line| line.contains("had 440401920 and a pool of 0")), "{wrong:?}");
    }

    #[test]
    fn a_ratio_of_something_else_is_found() {
        let results = results();
        let (outcome, level) = (&results.outcomes[0], &results.outcomes[0].levels[0]);
        let sound = Figures::of(outcome, level, &level.rows[0]);
        assert_eq!(row_adds_up(&level.rows[0], &sound, 5), Vec::<String>::new());
        let mut wrong = sound.clone();
        wrong.quire_kernel.as_mut().unwrap().median *= 1.001;
        assert!(row_adds_up(&level.rows[0], &wrong, 5)[0].contains("quire by kernel"));
        let mut missing = sound;
        missing.quire_native = None;
        assert!(row_adds_up(&level.rows[0], &missing, 5)[0].contains("quire by native"));
    }

    fn times() -> impl Strategy<Value = Vec<(f64, f64)>> {
        prop::collection::vec((1e-3_f64..1e3, 1e-3_f64..1e3), 1..40)
    }

    fn compared(pairs: &[(f64, f64)], scale: f64) -> Ratio {
        let (kernel, quire): (Vec<f64>, Vec<f64>) = pairs.iter().map(|(a, b)| (*a, b * scale)).unzip();
        Ratio::of(&row(&[], &kernel, &quire), Side::Quire, Side::Kernel).unwrap()
    }

    proptest! {
        #[test]
        fn the_interval_has_the_median_in_it(pairs in times()) {
            let ratio = compared(&pairs, 1.0);
            let Interval { low, high, coverage } = ratio.interval;
            prop_assert!(low <= ratio.median && ratio.median <= high);
            prop_assert!((0.0..=1.0).contains(&coverage) && (coverage >= ENOUGH || pairs.len() < 5));
            let below = ratio.rounds.iter().filter(|round| **round < ratio.median).count();
            prop_assert!(2 * below <= pairs.len());
        }

        #[test]
        fn a_side_that_is_so_much_slower_has_ratios_so_much_higher(pairs in times(), scale in 0.01_f64..100.0) {
            let (one, other) = (compared(&pairs, 1.0), compared(&pairs, scale));
            let alike = |one: f64, other: f64| (one * scale - other).abs() <= 1e-9 * other;
            prop_assert!(alike(one.median, other.median));
            prop_assert!(alike(one.interval.low, other.interval.low));
            prop_assert!(alike(one.interval.high, other.interval.high));
            prop_assert_eq!(one.interval.coverage, other.interval.coverage);
        }

        #[test]
        fn more_rounds_never_cover_less_than_enough(rounds in 5_usize..1000) {
            let values: Vec<f64> = (0..rounds).map(|round| round as f64).collect();
            let found = interval(&values).unwrap();
            let rank = found.low as usize + 1;
            prop_assert!(found.coverage >= ENOUGH && coverage(rounds, rank + 1) < ENOUGH);
        }
    }
}
