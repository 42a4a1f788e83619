//! What a replay has found.

use super::costs::Costs;
use crate::tlb::Counts;
use quire_core::{Order, Stats};

macro_rules! causes {
    ($($(#[doc = $doc:literal])+ $name:ident: $text:literal,)+) => {
        /// What the program's time goes to.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Cause {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Cause {
            /// Every cause.
            pub const ALL: &'static [Cause] = &[$(Cause::$name,)+];
            /// How many there are.
            pub const COUNT: usize = Cause::ALL.len();

            /// Its name in results.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Cause::$name => $text,)+
                }
            }
        }
    };
}

causes! {
    /// Accesses that find their translation.
    Access: "access",
    /// What they lose where it is not in the first level of the TLB.
    Walk: "walk",
    /// Faults, without what is done for them.
    Fault: "fault",
    /// Zeroing pages that a fault waits for.
    Zero: "zero",
    /// Bringing pages to the program: moves and copies.
    Map: "map",
    /// Reading stored pages from RAM.
    Expand: "expand",
    /// Reading stored pages from the disk.
    Disk: "disk",
    /// Reclaim that a fault waits for.
    Reclaim: "reclaim",
    /// Interrupts by reclaim behind the program.
    Interrupt: "interrupt",
    /// Calls of the program: map, unmap, discard, protect.
    Call: "call",
}

/// A quantity over the modelled time: in pages, or in folios.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Level {
    /// The most there were.
    pub peak: u64,
    /// As many at the end.
    pub last: u64,
    /// The sum over time, in ns.
    area: u128,
}

impl Level {
    pub(super) fn advance(&mut self, ns: u64) {
        self.area += u128::from(self.last) * u128::from(ns);
    }

    pub(super) fn set(&mut self, value: u64) {
        self.last = value;
        self.peak = self.peak.max(value);
    }

    /// The mean over `ns`.
    pub fn mean(&self, ns: u64) -> u64 {
        (self.area / u128::from(ns.max(1))) as u64
    }
}

/// A look at a moment of the replay.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Sample {
    /// Events before it.
    pub events: u64,
    /// Pages at the program's addresses.
    pub resident: u64,
    /// Those of them that were not touched since they were filled.
    pub wasted: u64,
    /// Faults so far.
    pub faults: u64,
    /// Modelled time so far, in ns.
    pub ns: u64,
}

/// Samples at equal distances of events. When there are too many, each second one goes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Series {
    /// The samples.
    pub samples: Vec<Sample>,
    every: u64,
}

impl Series {
    /// Samples at the most.
    const MOST: usize = 256;

    pub(super) fn new() -> Series {
        Series { samples: Vec::with_capacity(Series::MOST), every: 1024 }
    }

    /// The number of events at which the next sample is due.
    pub(super) fn due(&self) -> u64 {
        self.samples.last().map_or(0, |sample| sample.events + self.every)
    }

    pub(super) fn push(&mut self, sample: Sample) {
        if self.samples.len() == Series::MOST {
            let mut keep = false;
            self.samples.retain(|_| {
                keep = !keep;
                keep
            });
            self.every *= 2;
        }
        self.samples.push(sample);
    }
}

/// What was counted in pages and folios of a machine with base pages of this size, in pages of 4 KiB and folios of them.
pub(super) fn in_base_pages(mut stats: Stats, base: Order) -> Stats {
    let Stats { zero_fills, swap_ins, rescues, evictions, swap_outs, cow_copies, collapses, .. } = &mut stats;
    for by_order in [zero_fills, swap_ins, rescues, evictions, swap_outs, cow_copies, collapses] {
        // None is larger than the largest: there are no folios but on base pages of 4 KiB.
        by_order.rotate_right(base.index());
    }
    for pages in [
        &mut stats.evicted_behind,
        &mut stats.evicted_direct,
        &mut stats.pages_same,
        &mut stats.pages_zero,
        &mut stats.pages_stored,
        &mut stats.bytes_stored,
        &mut stats.pages_spilled,
        &mut stats.sparse_pages,
        &mut stats.compacted_pages,
        &mut stats.foreign,
        &mut stats.most_over,
    ] {
        *pages *= u64::from(base.pages());
    }
    stats
}

/// Everything that one replay has found. Equal inputs give equal figures.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Figures {
    /// Events of the trace.
    pub events: u64,
    /// Accesses: an event may be several.
    pub accesses: u64,
    /// Accesses that the rights of their page forbid; they were left out.
    pub denied: u64,
    /// Ranges of 2 MiB that were mapped because the trace accessed them without having mapped them.
    pub implied: u64,
    /// Faults of all kinds: fills and rescues.
    pub faults: u64,
    /// What the engine has counted.
    pub stats: Stats,
    /// What the TLB has counted.
    pub tlb: Counts,
    /// Bytes that were overwritten with zeroes, by anybody.
    pub zeroed_bytes: u64,
    /// Pages whose contents were copied to other frames by collapse and compaction.
    pub moved_pages: u64,
    /// Epochs in which folios were shaped.
    pub epochs: u64,
    /// Pages and bytes that were read from the store in RAM.
    pub expanded_pages: u64,
    /// Bytes that were read from the disk, in so many reads.
    pub disk_read: (u64, u64),
    /// Bytes that were written to the disk, in so many writes.
    pub disk_written: (u64, u64),
    /// Pages at the programs' addresses.
    pub resident: Level,
    /// Those of them that were not touched since they were filled.
    pub wasted: Level,
    /// Pages of memory taken: frames in use or kept ready, and the store in RAM.
    pub charged: Level,
    /// Folios on the lists that age.
    pub lru: Level,
    /// Modelled time by [`Cause`], in ns.
    pub time: [u64; Cause::COUNT],
    /// Time that reclaim has worked behind the program, in ns.
    pub behind_ns: u64,
    /// Time that passed by itself, as the trace says, in ns. It is no part of the modelled time.
    pub passed_ns: u64,
    /// How it went on.
    pub series: Series,
    /// What time was reckoned with.
    pub costs: Costs,
}

impl Figures {
    /// The modelled time of the program, in ns: all that its memory costs it.
    pub fn modelled_ns(&self) -> u64 {
        self.time.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_is_over_time() {
        let mut level = Level::default();
        level.set(10);
        level.advance(3);
        level.set(2);
        level.advance(1);
        assert_eq!((level.peak, level.last, level.mean(4)), (10, 2, 8));
    }

    #[test]
    fn a_series_thins_out() {
        let mut series = Series::new();
        for events in 0..3_000_000 {
            if events >= series.due() {
                series.push(Sample { events, ..Sample::default() });
            }
        }
        let samples = &series.samples;
        assert!((128..=256).contains(&samples.len()));
        let step = samples[1].events;
        assert!(samples.windows(2).rev().skip(1).all(|w| w[1].events - w[0].events == step));
    }
}
