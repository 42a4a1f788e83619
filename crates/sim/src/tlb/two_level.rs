//! Two levels of entries in up to three sizes: what all machines have in common.

use super::level::{Key, Level};
use super::{Counts, Lookup, Mapping, Tlb};
use quire_core::{Frame, Order, PageRange, Space, Vpn};

/// What makes an entry of some size possible.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Needs {
    /// The entries of that many pages agree ([`Mapping::span`]).
    Span,
    /// The kernel mapped it so ([`Mapping::folio`]).
    Folio,
}

/// A size of entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Size {
    pub(super) order: Order,
    pub(super) needs: Needs,
}

impl Size {
    /// The key of the entry of this size that covers `vpn`.
    #[inline]
    fn key(self, number: usize, space: Space, vpn: Vpn) -> Key {
        Key::new(space, number, vpn.0 >> self.order.index())
    }

    /// The first frame of an entry of this size that maps `vpn` to `frame`.
    #[inline]
    fn first(self, vpn: Vpn, frame: Frame) -> Frame {
        Frame(frame.0.wrapping_sub(self.into(vpn)))
    }

    /// Pages from the start of such an entry to `vpn`.
    #[inline]
    fn into(self, vpn: Vpn) -> u32 {
        (vpn.0 - self.order.align_down(vpn.0)) as u32
    }
}

/// Runs of more keys than this are flushed by looking at every entry once.
const PROBES: u64 = 16;

/// By order: the number of the largest of the sizes that need such an order and no more; 0 where there is none, since
/// a single page is always possible.
fn largest(sizes: &[Size], needs: Needs) -> [u8; Order::COUNT] {
    let mut by_order = [0; Order::COUNT];
    for order in Order::all() {
        let fits = |size: &Size| size.needs == needs && size.order <= order;
        by_order[order.index()] = sizes.iter().rposition(fits).unwrap_or(0) as u8;
    }
    by_order
}

/// Two levels. A miss fills both, a hit of the second fills the first, and what leaves the first is not written to
/// the second.
#[derive(Clone, Debug)]
pub(super) struct TwoLevel<A, B> {
    l1: A,
    l2: B,
    /// Smallest first; the first is a single page.
    sizes: &'static [Size],
    /// By the order of a folio, and by that of a span: the number of the largest size that it makes possible.
    by_folio: [u8; Order::COUNT],
    by_span: [u8; Order::COUNT],
    /// By number of a size: whether an entry of it was made since the last full flush. Others need no lookup.
    used: [bool; 3],
    counts: Counts,
}

impl<A: Level, B: Level> TwoLevel<A, B> {
    pub(super) fn new(l1: A, l2: B, sizes: &'static [Size]) -> TwoLevel<A, B> {
        assert!(sizes.len() <= 3 && sizes[0].order == Order::BASE, "a key has no room for {sizes:?}");
        let (by_folio, by_span) = (largest(sizes, Needs::Folio), largest(sizes, Needs::Span));
        TwoLevel { l1, l2, sizes, by_folio, by_span, used: [false; 3], counts: Counts::default() }
    }

    /// The number of the largest size that serves `mapping`.
    #[inline]
    fn largest(&self, mapping: Mapping) -> usize {
        let (by_folio, by_span) = (self.by_folio[mapping.folio.index()], self.by_span[mapping.span.index()]);
        usize::from(by_folio.max(by_span))
    }

    /// The numbers of the sizes that may have entries.
    #[inline]
    fn numbers(&self) -> impl Iterator<Item = usize> + use<A, B> {
        let used = self.used;
        (0..self.sizes.len()).filter(move |&n| used[n])
    }

    /// Counts a hit on stale contents as such.
    #[inline]
    fn check(&mut self, number: usize, vpn: Vpn, mapping: Mapping, found: Frame) {
        self.counts.stale += u64::from(found != self.sizes[number].first(vpn, mapping.frame));
    }

    /// An access whose most likely entry is not in the first level.
    fn access_slowly(&mut self, space: Space, vpn: Vpn, mapping: Mapping, likely: usize) -> Lookup {
        for n in self.numbers().filter(|&n| n != likely) {
            if let Some(frame) = self.l1.find(self.sizes[n].key(n, space, vpn)) {
                self.check(n, vpn, mapping, frame);
                self.counts.l1_hits += 1;
                return Lookup::L1;
            }
        }
        for n in self.numbers() {
            let key = self.sizes[n].key(n, space, vpn);
            if let Some(frame) = self.l2.find(key) {
                self.check(n, vpn, mapping, frame);
                self.l1.insert(key, frame);
                self.counts.l2_hits += 1;
                return Lookup::L2;
            }
        }
        self.fill(space, vpn, mapping, likely);
        Lookup::Miss
    }

    fn fill(&mut self, space: Space, vpn: Vpn, mapping: Mapping, number: usize) {
        let size = self.sizes[number];
        let key = size.key(number, space, vpn);
        let frame = size.first(vpn, mapping.frame);
        self.used[number] = true;
        self.l1.insert(key, frame);
        self.l2.insert(key, frame);
        self.counts.misses += 1;
    }

    /// Drops the entries of the keys from the one of `first` to the one of `last`.
    fn drop_keys(&mut self, first: Key, last: Key) {
        if last.unit() - first.unit() < PROBES {
            for unit in first.unit()..=last.unit() {
                let key = Key::new(first.space(), first.size(), unit);
                self.counts.dropped += u64::from(self.l1.remove(key)) + u64::from(self.l2.remove(key));
            }
            return;
        }
        let units = first.unit()..=last.unit();
        let mut goes =
            |k: Key| k.space() == first.space() && k.size() == first.size() && units.contains(&k.unit());
        self.counts.dropped += self.l1.remove_all(&mut goes) + self.l2.remove_all(&mut goes);
    }
}

impl<A: Level, B: Level> Tlb for TwoLevel<A, B> {
    #[inline]
    fn access(&mut self, space: Space, vpn: Vpn, mapping: Mapping) -> Lookup {
        let likely = self.largest(mapping);
        match self.l1.find(self.sizes[likely].key(likely, space, vpn)) {
            Some(frame) => {
                self.check(likely, vpn, mapping, frame);
                self.counts.l1_hits += 1;
                Lookup::L1
            }
            None => self.access_slowly(space, vpn, mapping, likely),
        }
    }

    fn covers(&self, mapping: Mapping) -> Order {
        self.sizes[self.largest(mapping)].order
    }

    fn flush(&mut self, range: PageRange) {
        self.counts.flushes += 1;
        if range.is_empty() {
            return;
        }
        let last = Vpn(range.end().0 - 1);
        for n in self.numbers() {
            let size = self.sizes[n];
            self.drop_keys(size.key(n, range.space, range.start), size.key(n, range.space, last));
        }
    }

    fn flush_all(&mut self) {
        self.counts.full_flushes += 1;
        self.counts.dropped += self.l1.remove_all(&mut |_| true) + self.l2.remove_all(&mut |_| true);
        self.used = [false; 3];
    }

    fn counts(&self) -> &Counts {
        &self.counts
    }
}
