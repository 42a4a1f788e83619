//! A random order of pages that is computed, not stored.

use crate::rng::Rng;

/// One to one from 0..n to 0..n.
///
/// Odd multiples and shifted copies are one to one on a power of two; a result beyond n is sent through again until it
/// is below, which takes two times at most on average.
#[derive(Clone, Copy, Debug)]
pub(super) struct Permutation {
    end: u64,
    mask: u64,
    shift: u32,
    factors: [u64; 3],
}

impl Permutation {
    /// A permutation of 0..`end`; equal generators give equal ones.
    pub(super) fn new(end: u64, rng: &Rng) -> Permutation {
        let bits = end.next_power_of_two().trailing_zeros();
        let mut rng = rng.part(end);
        let factors = [rng.any() | 1, rng.any() | 1, rng.any() | 1];
        Permutation { end, mask: (1u64 << bits) - 1, shift: bits.div_ceil(2), factors }
    }

    /// Where `number`, which is below the end, is sent to.
    #[inline]
    pub(super) fn of(&self, number: u64) -> u64 {
        debug_assert!(number < self.end);
        let mut x = number;
        loop {
            for factor in self.factors {
                // The constant moves 0, which every multiple leaves where it is.
                x = x.wrapping_add(factor >> 7).wrapping_mul(factor) & self.mask;
                x ^= x >> self.shift;
            }
            if x < self.end {
                return x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_met_once() {
        for end in [1, 2, 3, 7, 8, 9, 512, 1000, 4097] {
            for seed in 0..5 {
                let permutation = Permutation::new(end, &Rng::new(seed));
                let mut all: Vec<u64> = (0..end).map(|i| permutation.of(i)).collect();
                all.sort_unstable();
                assert!(all.iter().copied().eq(0..end), "{end}, seed {seed}");
            }
        }
    }

    #[test]
    fn neighbours_are_sent_far_apart() {
        let permutation = Permutation::new(1 << 20, &Rng::new(1));
        let near = (0..10_000).filter(|&i| permutation.of(i).abs_diff(permutation.of(i + 1)) < 1 << 14);
        // By chance it would be one in 32.
        assert!(near.count() < 1_000);
    }
}
