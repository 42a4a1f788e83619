//! Ranks that follow Zipf's law, without a table.

use super::permutation::Permutation;
use super::real::{exp, exp_slope, ln, ln_slope};
use super::steady::Pattern;
use crate::rng::Rng;

/// Ranks 1..=n, rank k as often as k^-exponent says.
///
/// Rejection-inversion (W. Hörmann, G. Derflinger: *Rejection-inversion to generate variates from monotone discrete
/// distributions*, ACM TOMACS 6(3), 1996): a point under the continuous curve x^-exponent is found by inverting its
/// integral, and taken for the nearest rank unless it lies outside that rank's bar. Then another one is tried, which is
/// seldom. Memory and time do not grow with the number of ranks.
#[derive(Clone, Debug)]
pub struct Zipf {
    ranks: u64,
    exponent: f64,
    /// The integral at the left end of rank 1, moved so that rank 1 has its whole bar, and at the right end of the last.
    first: f64,
    last: f64,
    /// A point this little before its rank is always in the bar: most need no second integral.
    sure: f64,
}

impl Zipf {
    /// Ranks 1..=`ranks`. The exponent is at least 0 (all ranks alike) and at most 20; YCSB has 0.99.
    ///
    /// # Panics
    ///
    /// Without ranks, or with another exponent.
    pub fn new(ranks: u64, exponent: f64) -> Zipf {
        assert!(ranks > 0 && ranks < 1 << 52, "{ranks} ranks");
        assert!((0.0..=20.0).contains(&exponent), "exponent {exponent}");
        let mut zipf = Zipf { ranks, exponent, first: 0.0, last: 0.0, sure: 0.0 };
        zipf.first = zipf.integral(1.5) - 1.0;
        zipf.last = zipf.integral(ranks as f64 + 0.5);
        zipf.sure = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.bar(2.0));
        zipf
    }

    /// A rank, 1..=n.
    pub fn rank(&self, rng: &mut Rng) -> u64 {
        loop {
            let area = self.last + rng.unit() * (self.first - self.last);
            let x = self.inverse(area);
            let rank = ((x + 0.5) as u64).clamp(1, self.ranks);
            let middle = rank as f64;
            if middle - x <= self.sure || area >= self.integral(middle + 0.5) - self.bar(middle) {
                return rank;
            }
        }
    }

    /// x^-exponent.
    fn bar(&self, x: f64) -> f64 {
        exp(-self.exponent * ln(x))
    }

    /// The integral of the curve from 1 to `x`: (x^(1 - exponent) - 1) / (1 - exponent), and ln x for exponent 1.
    fn integral(&self, x: f64) -> f64 {
        let log = ln(x);
        log * exp_slope((1.0 - self.exponent) * log)
    }

    /// Where the integral is `area`.
    fn inverse(&self, area: f64) -> f64 {
        exp(area * ln_slope((1.0 - self.exponent) * area))
    }
}

/// Accesses by Zipf's law: few pages get most of them, and the hot ones lie anywhere.
///
/// Stands for key-value stores and caches of objects: what is hot says nothing about its neighbours, so that a large
/// folio holds few hot pages among cold ones.
#[derive(Clone, Debug)]
pub struct Skewed {
    ranks: Zipf,
    places: Permutation,
}

impl Skewed {
    /// Over `pages` pages; `seed` says which of them are hot.
    pub fn new(pages: u64, exponent: f64, seed: u64) -> Skewed {
        Skewed { ranks: Zipf::new(pages, exponent), places: Permutation::new(pages, &Rng::new(seed)) }
    }
}

impl Pattern for Skewed {
    #[inline]
    fn page(&mut self, rng: &mut Rng) -> u64 {
        self.places.of(self.ranks.rank(rng) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether each of the first ranks, and all others together, come as often as they should: within five standard
    /// deviations.
    fn follows(ranks: u64, exponent: f64) {
        const DRAWS: u64 = 200_000;
        let zipf = Zipf::new(ranks, exponent);
        let mut rng = Rng::new(ranks);
        let shown = ranks.min(30) as usize;
        let mut hits = vec![0u64; shown + 1];
        for _ in 0..DRAWS {
            let rank = zipf.rank(&mut rng);
            assert!((1..=ranks).contains(&rank));
            hits[(rank as usize - 1).min(shown)] += 1;
        }
        let weight = |k: u64| (k as f64).powf(-exponent);
        let all: f64 = (1..=ranks).map(weight).sum();
        let mut rest = 1.0;
        for (i, &seen) in hits.iter().enumerate() {
            let share = if i == shown { rest } else { weight(i as u64 + 1) / all };
            rest -= share;
            let expected = share.max(0.0) * DRAWS as f64;
            let deviation = (expected * (1.0 - share)).max(0.0).sqrt();
            let off = (seen as f64 - expected).abs();
            assert!(
                off <= 5.0 * deviation + 1.0,
                "{ranks} ranks, {exponent}: bin {i} has {seen}, not {expected}"
            );
        }
    }

    #[test]
    fn ranks_follow_the_law() {
        for ranks in [1, 2, 3, 30, 1000, 1_000_000] {
            for exponent in [0.0, 0.5, 0.99, 1.0, 1.000_000_1, 1.2, 2.0, 5.0] {
                follows(ranks, exponent);
            }
        }
    }

    #[test]
    fn the_tail_is_reached() {
        let zipf = Zipf::new(1 << 40, 0.5);
        let mut rng = Rng::new(3);
        let upper = (0..10_000).filter(|_| zipf.rank(&mut rng) > 1 << 39).count();
        // 1 - sqrt(1/2) of them.
        assert!((2_700..3_160).contains(&upper), "{upper}");
    }
}
