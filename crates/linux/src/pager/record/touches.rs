//! What is known of a program's pages between two times that each is moved out.

use quire_core::addr::{PageRange, Vpn};
use std::collections::BTreeMap;

/// Pages in a leaf.
const LEAF: u64 = 512;
/// Pages in a word of a leaf's bits: as many are moved out in one bite.
pub(super) const BITE: u64 = 64;

#[derive(Debug)]
struct Leaf {
    /// At the program's address.
    mapped: [u64; (LEAF / BITE) as usize],
    /// Recorded as written since the page was last moved out.
    written: [u64; (LEAF / BITE) as usize],
    /// Hashes of the contents when they were last moved out.
    hashes: [u64; LEAF as usize],
}

/// Pages by number.
#[derive(Debug)]
pub(super) struct Touches {
    leaves: BTreeMap<u64, Box<Leaf>>,
    /// The hash of zeroes: pages begin as such.
    zero: u64,
    mapped: u64,
}

impl Touches {
    pub(super) fn new(zero: u64) -> Touches {
        Touches { leaves: BTreeMap::new(), zero, mapped: 0 }
    }

    fn leaf(&mut self, vpn: u64) -> &mut Leaf {
        let zero = self.zero;
        let fresh = || Box::new(Leaf { mapped: [0; 8], written: [0; 8], hashes: [zero; LEAF as usize] });
        self.leaves.entry(vpn / LEAF).or_insert_with(fresh)
    }

    /// Pages at the program's addresses.
    pub(super) fn mapped(&self) -> u64 {
        self.mapped
    }

    /// Pages are at the program's addresses now.
    pub(super) fn map(&mut self, pages: PageRange) {
        for vpn in pages.start.0..pages.end().0 {
            let (word, bit) = place(vpn);
            let mapped = &mut self.leaf(vpn).mapped[word];
            let news = *mapped & bit == 0;
            *mapped |= bit;
            self.mapped += u64::from(news);
        }
    }

    /// A page was recorded as written.
    pub(super) fn write(&mut self, vpn: Vpn) {
        let (word, bit) = place(vpn.0);
        self.leaf(vpn.0).written[word] |= bit;
    }

    /// A page was moved out with these contents. Whether they changed without its being recorded as written.
    pub(super) fn move_out(&mut self, vpn: Vpn, hash: u64) -> bool {
        let (word, bit) = place(vpn.0);
        let leaf = self.leaf(vpn.0);
        let was_mapped = leaf.mapped[word] & bit != 0;
        let known = leaf.written[word] & bit != 0;
        leaf.mapped[word] &= !bit;
        leaf.written[word] &= !bit;
        let before = core::mem::replace(&mut leaf.hashes[(vpn.0 % LEAF) as usize], hash);
        self.mapped -= u64::from(was_mapped);
        !known && before != hash
    }

    /// Pages are empty from now on.
    pub(super) fn forget(&mut self, pages: PageRange) {
        let first = pages.start.0 / LEAF;
        let numbers: Vec<u64> =
            self.leaves.range(first..pages.end().0.div_ceil(LEAF)).map(|(&n, _)| n).collect();
        for number in numbers {
            let (start, end) = (pages.start.0.max(number * LEAF), pages.end().0.min((number + 1) * LEAF));
            let zero = self.zero;
            let leaf = self.leaf(number * LEAF);
            let mut gone = 0;
            for vpn in start..end {
                let (word, bit) = place(vpn);
                gone += u64::from(leaf.mapped[word] & bit != 0);
                leaf.mapped[word] &= !bit;
                leaf.written[word] &= !bit;
                leaf.hashes[(vpn % LEAF) as usize] = zero;
            }
            self.mapped -= gone;
            if end - start == LEAF {
                self.leaves.remove(&number);
            }
        }
    }

    /// What is known of `from` holds for the pages at `to` from now on, and `from` is empty.
    pub(super) fn move_to(&mut self, from: PageRange, to: Vpn) {
        let known: Vec<(u64, bool, bool, u64)> = self.leaves_of(from).collect();
        self.forget(from);
        for (vpn, mapped, written, hash) in known {
            let vpn = to.0 + (vpn - from.start.0);
            let (word, bit) = place(vpn);
            let leaf = self.leaf(vpn);
            leaf.hashes[(vpn % LEAF) as usize] = hash;
            if written {
                leaf.written[word] |= bit;
            }
            if mapped {
                self.map(PageRange::new(from.space, Vpn(vpn), 1));
            }
        }
    }

    /// The first pages of `range` that may hold something else than zeroes, as many as lie side by side, a leaf's at most.
    pub(super) fn next_in_use(&self, range: PageRange) -> Option<PageRange> {
        let mut pages = self.leaves_of(range).map(|(vpn, ..)| vpn);
        let start = pages.next()?;
        let others = (start + 1..start + LEAF).zip(pages).take_while(|(next, vpn)| next == vpn);
        Some(PageRange::new(range.space, Vpn(start), 1 + others.count() as u64))
    }

    /// Makes room for what is to be known of a page and its neighbours.
    pub(super) fn make_room(&mut self, vpn: Vpn) {
        self.leaf(vpn.0);
    }

    /// Pages of `range` that are mapped or hold something: whether mapped, whether written, hash.
    fn leaves_of(&self, range: PageRange) -> impl Iterator<Item = (u64, bool, bool, u64)> {
        let (start, end, zero) = (range.start.0, range.end().0, self.zero);
        self.leaves.range(start / LEAF..end.div_ceil(LEAF)).flat_map(move |(&number, leaf)| {
            (start.max(number * LEAF)..end.min((number + 1) * LEAF)).filter_map(move |vpn| {
                let (word, bit) = place(vpn);
                let (mapped, hash) = (leaf.mapped[word] & bit != 0, leaf.hashes[(vpn % LEAF) as usize]);
                (mapped || hash != zero).then(|| (vpn, mapped, leaf.written[word] & bit != 0, hash))
            })
        })
    }

    /// The first aligned bite that ends after `from` and has a mapped page, by its first page.
    pub(super) fn next_mapped(&self, from: Vpn) -> Option<Vpn> {
        self.leaves.range(from.0 / LEAF..).find_map(|(&number, leaf)| {
            let starts = (number * LEAF..).step_by(BITE as usize).zip(&leaf.mapped);
            starts
                .filter(|&(start, &bits)| start + BITE > from.0 && bits != 0)
                .map(|(start, _)| Vpn(start))
                .next()
        })
    }
}

fn place(vpn: u64) -> (usize, u64) {
    ((vpn % LEAF / BITE) as usize, 1 << (vpn % BITE))
}

#[cfg(test)]
impl Touches {
    /// How many leaves there are.
    pub(super) fn leaves(&self) -> usize {
        self.leaves.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_core::Space;

    fn pages(start: u64, pages: u64) -> PageRange {
        PageRange::new(Space(0), Vpn(start), pages)
    }

    #[test]
    fn a_write_is_told_once_and_only_where_contents_changed() {
        let mut touches = Touches::new(7);
        touches.map(pages(510, 4));
        touches.write(Vpn(510));
        assert!(!touches.move_out(Vpn(510), 1), "it is recorded already");
        assert!(!touches.move_out(Vpn(511), 7), "only read");
        assert!(touches.move_out(Vpn(512), 2), "written after it was read");
        assert_eq!(touches.mapped(), 1);
        touches.map(pages(510, 3));
        assert!(touches.move_out(Vpn(510), 3), "what was recorded before does not count any longer");
        assert!(!touches.move_out(Vpn(512), 2));
    }

    #[test]
    fn bites_with_mapped_pages_are_found() {
        let mut touches = Touches::new(0);
        assert_eq!(touches.next_mapped(Vpn(0)), None);
        touches.map(pages(70, 1));
        touches.map(pages(5000, 2));
        assert_eq!(touches.next_mapped(Vpn(0)), Some(Vpn(64)));
        assert_eq!(touches.next_mapped(Vpn(127)), Some(Vpn(64)));
        assert_eq!(touches.next_mapped(Vpn(128)), Some(Vpn(4992)));
        assert_eq!(touches.next_mapped(Vpn(5056)), None);
    }

    #[test]
    fn what_is_forgotten_is_zeroes_and_what_moves_is_kept() {
        let mut touches = Touches::new(0);
        touches.map(pages(0, 3));
        touches.move_out(Vpn(0), 5);
        touches.move_out(Vpn(2), 6);
        touches.write(Vpn(1));
        touches.move_to(pages(0, 3), Vpn(1000));
        assert_eq!(touches.mapped(), 1);
        assert_eq!(touches.next_in_use(pages(0, 5000)), Some(pages(1000, 3)));
        assert!(!touches.move_out(Vpn(1001), 9), "it was written at its old place");
        assert!(!touches.move_out(Vpn(1000), 5));
        touches.forget(pages(1001, 1));
        assert_eq!(touches.next_in_use(pages(0, 5000)), Some(pages(1000, 1)));
        assert_eq!(touches.next_in_use(pages(1001, 5000)), Some(pages(1002, 1)));
        touches.forget(pages(512, 1024));
        assert!(touches.leaves.contains_key(&0) && !touches.leaves.contains_key(&1));
        assert_eq!(touches.next_in_use(pages(0, 5000)), None);
        touches.map(pages(500, 2 * LEAF));
        assert_eq!(touches.next_in_use(pages(0, 5000)), Some(pages(500, LEAF)), "over the edge of a leaf");
    }
}
