//! What holds for pages from one to another: the rights of a page table, what a program has mapped.

use core::ops::Range;
use quire_core::Vpn;
use std::collections::BTreeMap;

/// A value for each page, kept by the first page from which on it holds; before them all the default.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranges<V>(BTreeMap<u64, V>);

impl<V: Copy + PartialEq + Default> Ranges<V> {
    /// What holds for a page.
    pub(super) fn at(&self, vpn: Vpn) -> V {
        self.0.range(..=vpn.0).next_back().map_or(V::default(), |(_, &value)| value)
    }

    /// Makes `value` hold for `pages`.
    pub(super) fn set(&mut self, pages: Range<u64>, value: V) {
        let after = self.at(Vpn(pages.end));
        self.0.extract_if(pages.start..=pages.end, |_, _| true).for_each(drop);
        let before = pages.start.checked_sub(1).map_or(V::default(), |vpn| self.at(Vpn(vpn)));
        if before != value {
            self.0.insert(pages.start, value);
        }
        if after != value {
            self.0.insert(pages.end, after);
        }
    }

    /// The runs of equal values in `pages`.
    pub(super) fn runs(&self, pages: Range<u64>) -> impl Iterator<Item = (Range<u64>, V)> + '_ {
        let mut at = pages.start;
        core::iter::from_fn(move || {
            if at >= pages.end {
                return None;
            }
            let start = at;
            at = self.0.range(start + 1..pages.end).next().map_or(pages.end, |(&next, _)| next);
            Some((start..at, self.at(Vpn(start))))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_hold_from_page_to_page() {
        let mut ranges: Ranges<u8> = Ranges::default();
        ranges.set(4..12, 1);
        ranges.set(6..8, 2);
        ranges.set(8..10, 2);
        let runs: Vec<_> = ranges.runs(0..20).collect();
        assert_eq!(runs, [(0..4, 0), (4..6, 1), (6..10, 2), (10..12, 1), (12..20, 0)]);
        ranges.set(4..12, 0);
        assert_eq!(ranges.runs(5..7).collect::<Vec<_>>(), [(5..7, 0)]);
        assert!(ranges.0.is_empty(), "equal neighbours are one");
    }
}
