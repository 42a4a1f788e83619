//! Which pages of a folio are something: touched, or not all zeroes.

use crate::order::Order;

const WORDS: usize = Order::MAX.pages() as usize / 64;

/// A set of pages of one folio or of one aligned range, by their number within it: 0..512.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Touched([u64; WORDS]);

impl Touched {
    /// Adds page `number`.
    pub fn add(&mut self, number: u32) {
        self.0[number as usize / 64] |= 1 << (number % 64);
    }

    /// Whether page `number` is in the set.
    pub fn contains(&self, number: u32) -> bool {
        self.0[number as usize / 64] >> (number % 64) & 1 != 0
    }

    /// How many of the pages `from..from + pages` are in the set.
    pub fn count(&self, from: u32, pages: u32) -> u32 {
        (from..from + pages).filter(|&number| self.contains(number)).count() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_counted_where_they_are() {
        let mut touched = Touched::default();
        [0, 63, 64, 511].into_iter().for_each(|number| touched.add(number));
        assert_eq!(touched.count(0, 512), 4);
        assert_eq!((touched.count(63, 2), touched.count(65, 446)), (2, 0));
        assert!(touched.contains(511) && !touched.contains(1));
    }
}
