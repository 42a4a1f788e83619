//! Which segments hold nothing.

use alloc::vec::Vec;

/// The segments that are not in use: one bit a segment, and above it one bit a word that is not zero. The lowest is
/// found by reading one word per 4096 segments until one hits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct FreshSegments {
    words: Vec<u64>,
    summary: Vec<u64>,
}

impl FreshSegments {
    /// Adds the segments from `first` up to and without `end`. Allocates.
    pub(super) fn grow(&mut self, first: u32, end: u32) {
        let words = end.div_ceil(64) as usize;
        self.words.resize(words, 0);
        self.summary.resize(words.div_ceil(64), 0);
        (first..end).for_each(|segment| self.put(segment));
    }

    pub(super) fn put(&mut self, segment: u32) {
        let word = (segment / 64) as usize;
        self.words[word] |= 1 << (segment % 64);
        self.summary[word / 64] |= 1 << (word % 64);
    }

    pub(super) fn take_lowest(&mut self) -> Option<u32> {
        let top = self.summary.iter().position(|&w| w != 0)?;
        let word = top * 64 + self.summary[top].trailing_zeros() as usize;
        let bit = self.words[word].trailing_zeros();
        self.words[word] &= !(1 << bit);
        if self.words[word] == 0 {
            self.summary[top] &= !(1 << (word % 64));
        }
        Some(word as u32 * 64 + bit)
    }

    pub(super) fn contains(&self, segment: u32) -> bool {
        self.words[(segment / 64) as usize] >> (segment % 64) & 1 != 0
    }
}
