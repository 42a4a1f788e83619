//! The free units of one order.

use alloc::vec;
use alloc::vec::Vec;

/// Bits in a word.
const WORD: usize = u64::BITS as usize;

/// A set of units, by number. Each level above the lowest has one bit a word of the level below, set where that word is
/// not zero; the highest is searched word by word, and a word of it stands for 2^18 units.
///
/// Nothing here branches on what is free: in a split or a merge such branches would be guessed wrong half of the time,
/// which costs more than writing a bit that was set already.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Tier {
    units: Vec<u64>,
    words: Vec<u64>,
    groups: Vec<u64>,
}

impl Tier {
    /// The empty set, of numbers below `units`.
    pub(super) fn new(units: usize) -> Tier {
        let level = |bits: usize| vec![0; bits.div_ceil(WORD)];
        let units = level(units);
        let words = level(units.len());
        let groups = level(words.len());
        Tier { units, words, groups }
    }

    #[inline]
    pub(super) fn contains(&self, unit: usize) -> bool {
        self.units[unit / WORD] >> (unit % WORD) & 1 != 0
    }

    #[inline]
    pub(super) fn insert(&mut self, unit: usize) {
        let (word, group) = (unit / WORD, unit / WORD / WORD);
        self.units[word] |= 1 << (unit % WORD);
        self.words[group] |= 1 << (word % WORD);
        self.groups[group / WORD] |= 1 << (group % WORD);
    }

    #[inline]
    pub(super) fn remove(&mut self, unit: usize) {
        let (word, group) = (unit / WORD, unit / WORD / WORD);
        self.units[word] &= !(1 << (unit % WORD));
        self.words[group] &= !(u64::from(self.units[word] == 0) << (word % WORD));
        self.groups[group / WORD] &= !(u64::from(self.words[group] == 0) << (group % WORD));
    }

    /// The lowest number in the set.
    #[inline]
    pub(super) fn lowest(&self) -> Option<usize> {
        let top = self.groups.iter().position(|&bits| bits != 0)?;
        let group = top * WORD + lowest_bit(self.groups[top]);
        let word = group * WORD + lowest_bit(self.words[group]);
        Some(word * WORD + lowest_bit(self.units[word]))
    }

    /// Every number in the set, in rising order. Reads all of it.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        (0..self.units.len() * WORD).filter(|&unit| self.contains(unit))
    }

    /// Whether the levels agree. Reads all of them.
    pub(super) fn is_consistent(&self) -> bool {
        let agree = |lower: &[u64], upper: &[u64]| {
            (0..upper.len() * WORD).all(|at| {
                let some = lower.get(at).is_some_and(|&word| word != 0);
                some == (upper[at / WORD] >> (at % WORD) & 1 != 0)
            })
        };
        agree(&self.units, &self.words) && agree(&self.words, &self.groups)
    }
}

const fn lowest_bit(word: u64) -> usize {
    word.trailing_zeros() as usize
}
