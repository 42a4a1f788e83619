//! What a VMA's faults looked like: a few streams of neighbouring faults, each with the order it has ramped to.
//!
//! The ramp is that of readahead: one page after a jump, twice as much with each fault that goes on where the
//! last one ended, upwards or downwards. Several streams, since merges and threads go on in several places.

use crate::addr::Vpn;
use crate::order::Order;

const STREAMS: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Stream {
    start: u64,
    end: u64,
    ramp: Order,
    used: u32,
}

/// The streams of faults in one VMA.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct History {
    streams: [Stream; STREAMS],
    clock: u32,
}

impl History {
    /// The order that a fault at `vpn` has ramped to: base for one that continues nothing.
    pub fn ramp(&self, vpn: Vpn) -> Order {
        self.matching(vpn).map_or(Order::BASE, |i| self.streams[i].ramp.up())
    }

    /// Notes that a fault at `vpn` was served with the pages `start..start + pages`.
    pub fn note(&mut self, vpn: Vpn, start: Vpn, pages: u32) {
        let ramp = self.ramp(vpn);
        let slot = self.matching(vpn).unwrap_or_else(|| self.stalest());
        self.clock += 1;
        let end = start.0 + u64::from(pages);
        self.streams[slot] = Stream { start: start.0, end, ramp, used: self.clock };
    }

    /// A stream goes on at `vpn` when that is just before its last folio, or behind it by less than the
    /// folio it would ask for next.
    fn matching(&self, vpn: Vpn) -> Option<usize> {
        self.streams.iter().position(|s| {
            let slack = u64::from(s.ramp.pages());
            s.used != 0 && ((vpn.0 >= s.end && vpn.0 < s.end + slack) || vpn.0 + 1 == s.start)
        })
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
            assert_eq!(history.ramp(vpn).index(), expected);
            let pages = history.ramp(vpn).pages();
            history.note(vpn, vpn, pages);
            next += u64::from(pages);
        }
        assert_eq!(history.ramp(Vpn(1 << 20)), Order::BASE);
    }

    #[test]
    fn a_downward_stream_ramps_too() {
        let mut history = History::default();
        history.note(Vpn(1000), Vpn(1000), 1);
        assert_eq!(history.ramp(Vpn(999)).index(), 1);
    }

    #[test]
    fn several_streams_are_kept_apart() {
        let mut history = History::default();
        for i in 0..3 {
            for base in [0, 10_000, 20_000] {
                history.note(Vpn(base + i), Vpn(base + i), 1);
            }
        }
        assert_eq!(history.ramp(Vpn(10_003)).index(), 3);
    }
}
