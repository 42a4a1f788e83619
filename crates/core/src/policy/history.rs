//! What a VMA's faults looked like, and what became of the folios that they got.
//!
//! *Streams*: a few sequences of neighbouring faults, each with the order it has ramped to. The ramp is that of readahead:
//! one page after a jump, twice as much with each fault that goes on where the last one ended, upwards or downwards.
//! Several streams, since merges and threads go on in several places.
//!
//! *Use*: of the pages that fresh memory was filled with, how many are known to be used. The page that faulted is, and
//! those of a folio behind which its stream goes on are taken to be. Of the others it is known what share is used as far as
//! folios were looked at: their touches, or the zeroes that a writer met.

use super::Odds;
use crate::addr::Vpn;
use crate::order::Order;

const STREAMS: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Stream {
    start: u64,
    end: u64,
    ramp: Order,
    /// Pages that it has come through without a gap.
    length: u32,
    /// Pages of its last folio that are not known to be used.
    open: u32,
    /// The fault of this VMA that it had last, counted from 1; 0: there is no stream.
    used: u64,
}

/// The streams of faults in one VMA, and the use of its fresh folios.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct History {
    streams: [Stream; STREAMS],
    /// Faults so far.
    clock: u64,
    /// Pages that fresh memory was filled with and that are known to be used, and those that are not. Older ones count
    /// less.
    used: u32,
    open: u32,
    /// Pages of larger folios that were looked at and found to be used, and those that were not. Older ones count less.
    found_used: u32,
    found_unused: u32,
    /// How often what left together was used together.
    pub(crate) odds: Odds,
}

/// Pages after which what was filled counts half: 64 MiB.
const FORGETTING: u32 = 1 << 14;
/// Pages that are taken to be unused may be this part of those that are used.
const OPEN_FRACTION: u32 = 16;
/// Where nothing was looked at, one page in so many is taken to be unused.
const PRIOR: u64 = 4;
/// So many pages are on trust in any case: 64 KiB.
pub(crate) const GRACE: u32 = 16;
/// Faults after which what was found counts half.
const FINDS_LAST: u32 = 1 << 10;
/// Pages looked at that tell enough.
const TELLING: u32 = 256;

impl History {
    /// The order that a fault at `vpn` has ramped to: base for one that continues nothing. All pages from `reached` up to it
    /// are mapped.
    pub fn ramp(&self, vpn: Vpn, reached: Vpn) -> Order {
        self.matching(vpn, reached).map_or(Order::BASE, |i| self.streams[i].ramp.up())
    }

    /// Pages that the stream which goes on at `vpn` has come through.
    pub fn length(&self, vpn: Vpn, reached: Vpn) -> u32 {
        self.matching(vpn, reached).map_or(0, |i| self.streams[i].length)
    }

    /// Pages that a fault at `vpn` may fill on trust: 64 KiB and a sixteenth of those that are known to be used, less those
    /// that are not, as far as they must be taken to be unused: a quarter of them while nothing else is known. By itself, the fault shows that its stream has come through
    /// its last folio.
    pub fn allowance(&self, vpn: Vpn, reached: Vpn) -> u32 {
        let shown = self.matching(vpn, reached).map_or(0, |i| self.streams[i].open);
        let open = self.open.saturating_sub(shown);
        let (unused, looked_at) =
            (u64::from(self.found_unused), u64::from(self.found_used + self.found_unused));
        let wasted = u64::from(open) * (unused + 1) / (looked_at + PRIOR);
        (GRACE + (self.used + shown) / OPEN_FRACTION).saturating_sub(wasted as u32)
    }

    /// Whether most pages of the larger folios here were found to be unused.
    pub fn is_sparse(&self) -> bool {
        self.found_unused > self.found_used && self.found_used + self.found_unused >= TELLING
    }

    /// Notes that a fault at `vpn` was served with the pages `start..start + pages`, of fresh memory or from the store.
    pub fn note(&mut self, vpn: Vpn, reached: Vpn, start: Vpn, order: Order, fresh: bool) {
        let pages = order.pages();
        let open = if fresh { pages - 1 } else { 0 };
        let end = start.0 + u64::from(pages);
        self.clock += 1;
        let mut stream = Stream { start: start.0, end, ramp: order, length: pages, open, used: self.clock };
        let number = match self.matching(vpn, reached) {
            Some(number) => {
                let before = self.streams[number];
                stream.ramp = before.ramp.up();
                stream.length = before.length.saturating_add(pages);
                let shown = before.open.min(self.open);
                (self.used, self.open) = (self.used + shown, self.open - shown);
                number
            }
            None => self.stalest(),
        };
        self.streams[number] = stream;
        if fresh {
            (self.used, self.open) = (self.used + 1, self.open + open);
        }
        self.forget();
    }

    /// Notes that a folio larger than a page was looked at.
    pub(crate) fn learn(&mut self, used: u32, unused: u32) {
        self.found_used = self.found_used.saturating_add(used);
        self.found_unused = self.found_unused.saturating_add(unused);
        if self.found_used.max(self.found_unused) > FORGETTING {
            (self.found_used, self.found_unused) = (self.found_used / 2, self.found_unused / 2);
        }
    }

    /// The history of a range of which the parts had these: that of the part with more faults.
    pub(crate) fn or(self, other: History) -> History {
        if other.clock > self.clock { other } else { self }
    }

    fn forget(&mut self) {
        if self.used + self.open > FORGETTING {
            (self.used, self.open) = (self.used / 2, self.open / 2);
        }
        if self.clock.is_multiple_of(u64::from(FINDS_LAST)) {
            (self.found_used, self.found_unused) = (self.found_used / 2, self.found_unused / 2);
        }
    }

    /// A stream goes on at `vpn` when that is just before or behind its last folio; pages in between that are mapped, which
    /// do not fault, are no gap.
    fn matching(&self, vpn: Vpn, reached: Vpn) -> Option<usize> {
        let goes_on = |s: &Stream| (reached.0..=vpn.0).contains(&s.end) || vpn.0 + 1 == s.start;
        let matching = (0..STREAMS).filter(|&i| self.streams[i].used != 0 && goes_on(&self.streams[i]));
        matching.max_by_key(|&i| self.streams[i].used)
    }

    fn stalest(&self) -> usize {
        (0..STREAMS).min_by_key(|&i| self.streams[i].used).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_faults_ramp_and_a_jump_starts_anew() {
        let mut history = History::default();
        let mut next = 64;
        for expected in 0..6 {
            let vpn = Vpn(next);
            let order = history.ramp(vpn, vpn);
            assert_eq!((order.index(), u64::from(history.length(vpn, vpn))), (expected, next - 64));
            history.note(vpn, vpn, vpn, order, true);
            next += u64::from(order.pages());
        }
        assert_eq!(history.ramp(Vpn(1 << 20), Vpn(1 << 20)), Order::BASE);
        assert_eq!(history.length(Vpn(1 << 20), Vpn(1 << 20)), 0);
    }

    #[test]
    fn a_downward_stream_ramps_too() {
        let mut history = History::default();
        history.note(Vpn(1000), Vpn(1000), Vpn(1000), Order::BASE, true);
        assert_eq!((history.ramp(Vpn(999), Vpn(999)).index(), history.length(Vpn(999), Vpn(999))), (1, 1));
    }

    #[test]
    fn several_streams_are_kept_apart() {
        let mut history = History::default();
        for i in 0..3 {
            for base in [0, 10_000, 20_000] {
                history.note(Vpn(base + i), Vpn(base + i), Vpn(base + i), Order::BASE, true);
            }
        }
        assert_eq!(history.ramp(Vpn(10_003), Vpn(10_003)).index(), 3);
    }

    #[test]
    fn streams_are_kept_apart_after_any_number_of_faults() {
        let mut history = History { clock: u64::from(u32::MAX) - 4, ..History::default() };
        for i in 0..100 {
            for base in [0, 10_000, 20_000] {
                let vpn = Vpn(base + i);
                assert_eq!(history.length(vpn, vpn), i as u32);
                history.note(vpn, vpn, vpn, Order::BASE, true);
            }
        }
    }

    const LARGE: Order = Order::fitting(16);

    /// `folios` folios of 64 KiB, one after the other or far apart.
    fn filled(folios: u64, distance: u64) -> History {
        let mut history = History::default();
        (0..folios).map(|i| Vpn(i * distance)).for_each(|vpn| history.note(vpn, vpn, vpn, LARGE, true));
        history
    }

    #[test]
    fn what_a_stream_came_through_is_used_and_isolated_folios_are_open() {
        let (stream, isolated) = (filled(64, 16), filled(64, 1000));
        assert_eq!((stream.used, stream.open), (1024 - 15, 15));
        assert_eq!((isolated.used, isolated.open), (64, 1024 - 64));
        let far = Vpn(1 << 20);
        assert_eq!(
            (stream.allowance(far, far), isolated.allowance(far, far)),
            (GRACE + (1024 - 15) / 16 - 15 / 4, 0)
        );
        assert_eq!(stream.allowance(Vpn(64 * 16), Vpn(64 * 16)), GRACE + 1024 / 16);
    }

    #[test]
    fn a_gap_begins_the_length_anew() {
        // 3 pages behind each folio of 16.
        let history = filled(64, 19);
        assert_eq!(history.length(Vpn(64 * 19), Vpn(64 * 19)), 0);
        assert_eq!(history.used, 64);
    }

    #[test]
    fn pages_that_are_mapped_are_no_gap() {
        let mut history = filled(4, 16);
        let (next, reached) = (Vpn(64 + 5), Vpn(40));
        assert_eq!((history.length(next, reached), history.length(next, Vpn(65))), (64, 0));
        assert_eq!((history.ramp(next, reached).index(), history.ramp(next, Vpn(65))), (8, Order::BASE));
        history.note(next, reached, Vpn(64), LARGE, true);
        assert_eq!(history.length(Vpn(80), Vpn(80)), 80);
    }

    #[test]
    fn what_is_found_counts_for_what_was_not_looked_at_and_fades() {
        let mut history = filled(64, 1000);
        history.learn(512, 0);
        assert_eq!(history.allowance(Vpn(1 << 20), Vpn(1 << 20)), GRACE + 64 / 16 - 960 / 516);
        history.learn(0, 512);
        assert_eq!((history.allowance(Vpn(1 << 20), Vpn(1 << 20)), history.is_sparse()), (0, false));
        history.learn(0, 1);
        assert!(history.is_sparse());
        (0..4 * u64::from(FINDS_LAST))
            .map(Vpn)
            .for_each(|vpn| history.note(vpn, vpn, vpn, Order::BASE, true));
        assert!(!history.is_sparse());
    }
}
