//! What the pages hold: words that follow from the page's number, the seed and the version, so that every read can be
//! checked, and that compress as well as asked for.

use std::str::FromStr;

/// Words of 8 bytes in a page of 4 KiB.
pub(super) const WORDS: u64 = 512;

/// Words after which noise begins anew.
const PERIOD: u64 = 64;

/// How well lz4 compresses each page of 4 KiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Data {
    /// 1.5 times.
    Hard,
    /// 3 times.
    Easy,
}

impl Data {
    /// Words of noise in each period; the others are alike. A match costs lz4 some 7 bytes.
    const fn noise(self) -> u64 {
        match self {
            Data::Hard => 42,
            Data::Easy => 20,
        }
    }

    /// As it stands on a command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Data::Hard => "1.5",
            Data::Easy => "3",
        }
    }
}

impl FromStr for Data {
    type Err = String;

    fn from_str(text: &str) -> Result<Data, String> {
        let known = [Data::Hard, Data::Easy];
        known
            .into_iter()
            .find(|data| data.name() == text)
            .ok_or_else(|| "data compresses 1.5 or 3 times".into())
    }
}

/// The contents of all pages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contents {
    pub(super) data: Data,
    pub(super) seed: u64,
}

impl Contents {
    /// What the words of a page are made from.
    #[inline]
    pub(super) fn root(self, page: u64) -> u64 {
        mix(self.seed ^ mix(page.wrapping_add(STEP)))
    }

    /// A word of the page with this root. The first one counts how often the page was written, from a beginning of its
    /// own; the others stay.
    #[inline]
    pub(super) fn word(self, root: u64, index: u64, version: u64) -> u64 {
        if index == 0 {
            return root.wrapping_add(version);
        }
        if index % PERIOD < self.data.noise() {
            mix(root.wrapping_add(index.wrapping_mul(STEP)))
        } else {
            root
        }
    }
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's output function, of which each word takes one: a page's contents cost less than its first fault.
#[inline]
pub(super) const fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn page(contents: Contents, page: u64, version: u64) -> Vec<u64> {
        let root = contents.root(page);
        (0..WORDS).map(|index| contents.word(root, index, version)).collect()
    }

    fn bytes(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn each_page_compresses_as_asked_for() {
        for (data, ratio) in [(Data::Hard, 1.5), (Data::Easy, 3.0)] {
            for number in [0, 1, 77, 1 << 40] {
                for version in [0, 1, 1000] {
                    let plain = bytes(&page(Contents { data, seed: 1 }, number, version));
                    assert_eq!(plain.len(), 4096);
                    let mut packed = [0; 8192];
                    let length = lz4_flex::block::compress_into(&plain, &mut packed).unwrap();
                    let found = plain.len() as f64 / length as f64;
                    assert!((found / ratio - 1.0).abs() <= 0.1, "{data:?}, page {number}: {found}");
                }
            }
        }
    }

    #[test]
    fn no_two_pages_are_alike() {
        let contents = Contents { data: Data::Easy, seed: 1 };
        let mut seen = HashSet::new();
        for number in 0..100 {
            assert!(seen.insert(page(contents, number, 0)));
            assert!(seen.insert(page(contents, number, 1)));
            assert!(seen.insert(page(Contents { seed: 2, ..contents }, number, 0)));
        }
    }

    #[test]
    fn a_version_changes_the_first_word_alone() {
        let contents = Contents { data: Data::Hard, seed: 3 };
        let (old, new) = (page(contents, 5, 0), page(contents, 5, 7));
        assert_eq!(old[0].wrapping_add(7), new[0]);
        assert_eq!(old[1..], new[1..]);
    }

    #[test]
    fn data_is_known_by_its_name() {
        assert_eq!("1.5".parse(), Ok(Data::Hard));
        assert_eq!("3".parse(), Ok(Data::Easy));
        assert!("2".parse::<Data>().is_err());
    }
}
