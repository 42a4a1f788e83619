//! Random numbers from a seed. Equal seeds give equal numbers on every machine.

/// A generator: a counter, well mixed (SplitMix64; Steele, Lea and Flood, *Fast Splittable Pseudorandom Number
/// Generators*, OOPSLA 2014). Its numbers repeat after 2^64 of them.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The generator of this seed. Seeds side by side give numbers that have nothing to do with each other.
    pub const fn new(seed: u64) -> Rng {
        // One step, so that the seeds of a caller that counts them do not run along one counter.
        Rng(mix(seed.wrapping_add(STEP)))
    }

    /// A generator of its own for a part of something, by the part's number.
    pub const fn part(&self, number: u64) -> Rng {
        Rng::new(self.0 ^ mix(number.wrapping_add(STEP)))
    }

    /// Any number.
    #[inline]
    pub const fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// A number below `end`, each as likely as the others but for one in 2^64 / `end`. 0 when `end` is 0.
    #[inline]
    pub const fn below(&mut self, end: u64) -> u64 {
        ((self.any() as u128 * end as u128) >> 64) as u64
    }

    /// A number in (0, 1], in steps of 2^-53.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        ((self.any() >> 11) + 1) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Whether something happens that does so `percent` times in 100.
    #[inline]
    pub const fn chance(&mut self, percent: u32) -> bool {
        self.below(100) < percent as u64
    }
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

const fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_numbers_and_others_do_not() {
        let numbers = |seed| {
            let mut rng = Rng::new(seed);
            [rng.any(), rng.any(), rng.any()]
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
        assert_ne!(Rng::new(7).part(0), Rng::new(7).part(1));
    }

    #[test]
    fn numbers_below_an_end_are_spread_evenly() {
        let mut rng = Rng::new(1);
        let mut hits = [0u32; 10];
        for _ in 0..100_000 {
            hits[rng.below(10) as usize] += 1;
        }
        assert!(hits.iter().all(|h| (9_600..10_400).contains(h)), "{hits:?}");
        assert_eq!(rng.below(0), 0);
    }

    #[test]
    fn units_are_above_zero_and_have_their_mean() {
        let mut rng = Rng::new(2);
        let all: Vec<f64> = (0..100_000).map(|_| rng.unit()).collect();
        assert!(all.iter().all(|&u| u > 0.0 && u <= 1.0));
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        assert!((mean - 0.5).abs() < 0.005, "{mean}");
    }
}
