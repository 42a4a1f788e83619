//! When random reads have become steady.

use std::time::Duration;

/// Rounds before which nothing is steady: until then most of what a pager evicts are whole folios left from the fill or
/// a scan, afterwards they are single pages.
const FIRST: usize = 5;

/// How much two rounds that follow each other may differ.
const WITHIN: f64 = 0.05;

/// How many rounds there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rounds {
    /// So many, steady or not.
    Fixed(usize),
    /// At least five, then until the last two are within 5 %, but none is begun after this time.
    Steady(Duration),
}

impl Rounds {
    /// Whether there has to be another round after these, which took `spent`.
    pub(super) fn go_on(self, times: &[f64], spent: Duration) -> bool {
        match self {
            Rounds::Fixed(rounds) => times.len() < rounds,
            Rounds::Steady(limit) => times.len() < FIRST || !alike(times) && spent < limit,
        }
    }
}

/// Whether the last two are.
fn alike(times: &[f64]) -> bool {
    let [.., before, last] = times else { return false };
    (last - before).abs() <= WITHIN * before.min(*last)
}

/// The mean of the last two rounds.
pub(super) fn mean(times: &[f64]) -> f64 {
    let last = &times[times.len().saturating_sub(2)..];
    last.iter().sum::<f64>() / last.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Rounds = Rounds::Steady(Duration::from_secs(60));
    const EARLY: Duration = Duration::from_secs(1);
    const LATE: Duration = Duration::from_secs(61);

    #[test]
    fn five_rounds_are_done_however_alike_or_slow_they_are() {
        let alike = [7.0; 5];
        for done in 0..5 {
            assert!(LIMIT.go_on(&alike[..done], EARLY));
            assert!(LIMIT.go_on(&alike[..done], LATE));
        }
        assert!(!LIMIT.go_on(&alike, EARLY));
    }

    #[test]
    fn it_goes_on_until_two_rounds_are_alike() {
        let falling = [20.0, 15.0, 12.0, 10.0, 9.0, 8.0, 7.7];
        assert!(LIMIT.go_on(&falling[..5], EARLY));
        assert!(LIMIT.go_on(&falling[..6], EARLY));
        assert!(!LIMIT.go_on(&falling, EARLY));
        assert!(!LIMIT.go_on(&[7.0, 7.0, 7.0, 7.7, 8.0], EARLY), "rising ones too");
    }

    #[test]
    fn it_does_not_go_on_for_ever() {
        let wild = [1.0, 2.0, 1.0, 2.0, 1.0, 2.0];
        assert!(LIMIT.go_on(&wild, EARLY));
        assert!(!LIMIT.go_on(&wild, LATE));
    }

    #[test]
    fn fixed_rounds_are_as_many_as_they_say() {
        assert!(Rounds::Fixed(2).go_on(&[1.0], LATE));
        assert!(!Rounds::Fixed(2).go_on(&[1.0, 2.0], EARLY));
    }

    #[test]
    fn the_last_two_rounds_count() {
        assert_eq!(mean(&[9.0, 4.0, 6.0]), 5.0);
        assert_eq!(mean(&[9.0]), 9.0);
        assert_eq!(mean(&[]), 0.0);
    }
}
