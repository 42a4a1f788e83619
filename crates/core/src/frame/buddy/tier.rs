//! The free units of one order.

/// Bits in a word.
const WORD: usize = u64::BITS as usize;

/// A set of units, by number. Each level above the lowest has one bit a word of the level below, set where that word is
/// not zero; the highest is searched word by word, and a word of it stands for 2^18 units.
///
/// Nothing here branches on what is free: in a split or a merge such branches would be guessed wrong half of the time,
/// which costs more than writing a bit that was set already.
///
/// The bits of all tiers are in one table that is passed in, so that it is large enough to be backed only where it is
/// used. This says where in it the levels of one tier begin.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Tier {
    units: usize,
    words: usize,
    groups: usize,
    end: usize,
}

impl Tier {
    /// A set of numbers below `units`, whose levels begin at word `start` of the table.
    pub(super) const fn new(start: usize, units: usize) -> Tier {
        let words = start + units.div_ceil(WORD);
        let groups = words + (words - start).div_ceil(WORD);
        Tier { units: start, words, groups, end: groups + (groups - words).div_ceil(WORD) }
    }

    /// The first word of the table behind this tier.
    pub(super) const fn end(&self) -> usize {
        self.end
    }

    #[inline]
    pub(super) const fn contains(&self, table: &[u64], unit: usize) -> bool {
        table[self.units + unit / WORD] >> (unit % WORD) & 1 != 0
    }

    #[inline]
    pub(super) const fn insert(&self, table: &mut [u64], unit: usize) {
        let (word, group) = (unit / WORD, unit / WORD / WORD);
        table[self.units + word] |= 1 << (unit % WORD);
        table[self.words + group] |= 1 << (word % WORD);
        table[self.groups + group / WORD] |= 1 << (group % WORD);
    }

    #[inline]
    pub(super) const fn remove(&self, table: &mut [u64], unit: usize) {
        let (word, group) = (unit / WORD, unit / WORD / WORD);
        table[self.units + word] &= !(1 << (unit % WORD));
        let none = (table[self.units + word] == 0) as u64;
        table[self.words + group] &= !(none << (word % WORD));
        let none = (table[self.words + group] == 0) as u64;
        table[self.groups + group / WORD] &= !(none << (group % WORD));
    }

    /// The lowest number in the set.
    #[inline]
    pub(super) fn lowest(&self, table: &[u64]) -> Option<usize> {
        let top = table[self.groups..self.end].iter().position(|&bits| bits != 0)?;
        let group = top * WORD + lowest_bit(table[self.groups + top]);
        let word = group * WORD + lowest_bit(table[self.words + group]);
        Some(word * WORD + lowest_bit(table[self.units + word]))
    }

    /// Every number in the set, in rising order. Reads all of it.
    pub(super) fn iter(&self, table: &[u64]) -> impl Iterator<Item = usize> {
        (0..(self.words - self.units) * WORD).filter(|&unit| self.contains(table, unit))
    }

    /// Whether the levels agree. Reads all of them.
    pub(super) fn is_consistent(&self, table: &[u64]) -> bool {
        let agree = |lower: &[u64], upper: &[u64]| {
            (0..upper.len() * WORD).all(|at| {
                let some = lower.get(at).is_some_and(|&word| word != 0);
                some == (upper[at / WORD] >> (at % WORD) & 1 != 0)
            })
        };
        let (units, words) = (&table[self.units..self.words], &table[self.words..self.groups]);
        agree(units, words) && agree(words, &table[self.groups..self.end])
    }
}

const fn lowest_bit(word: u64) -> usize {
    word.trailing_zeros() as usize
}
