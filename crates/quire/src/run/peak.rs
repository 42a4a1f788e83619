//! The peaks of memory that the samples show.

use super::sample::Sample;
use quire_linux::control::counters::Totals;

/// Bytes in a page.
const PAGE: u64 = 4096;

/// The highest that was seen of each kind of memory, in bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peak {
    /// Resident anonymous memory of all processes and of `quire` itself.
    pub(crate) resident: u64,
    /// The part of it that Quire managed at that moment.
    pub(crate) managed: u64,
    /// Compressed folios in memory.
    pub(crate) store: u64,
    /// Quire's own tables.
    pub(crate) tables: u64,
    /// Spilled folios.
    pub(crate) spill: u64,
}

impl Peak {
    /// Takes a sample and what the processes counted by then.
    pub(super) fn add(&mut self, sample: &Sample, totals: &Totals) {
        let managed = totals.resident_pages * PAGE + totals.store_bytes + totals.table_bytes;
        if sample.anonymous > self.resident {
            self.resident = sample.anonymous;
            // The two were read one after the other.
            self.managed = managed.min(sample.anonymous);
        }
        self.store = self.store.max(totals.store_bytes);
        self.tables = self.tables.max(totals.table_bytes);
        self.spill = self.spill.max(totals.spill_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_managed_part_is_that_of_the_highest_moment() {
        let mut peak = Peak::default();
        let mut totals = Totals::ZERO;
        for (anonymous, pages) in [(1 << 20, 200), (4 << 20, 1000), (2 << 20, 500), (3 << 20, 5000)] {
            totals.resident_pages = pages;
            peak.add(&Sample { members: vec![], anonymous }, &totals);
        }
        assert_eq!((peak.resident, peak.managed), (4 << 20, 1000 * PAGE));
    }

    #[test]
    fn each_kind_has_its_own_highest_moment() {
        let mut peak = Peak::default();
        let mut totals = Totals::ZERO;
        let figures = |totals: &mut Totals, of: [u64; 3]| {
            [totals.store_bytes, totals.table_bytes, totals.spill_bytes] = of;
        };
        for of in [[1, 20, 3], [10, 2, 30], [5, 5, 5]] {
            figures(&mut totals, of);
            peak.add(&Sample::default(), &totals);
        }
        assert_eq!([peak.store, peak.tables, peak.spill], [10, 20, 30]);
    }

    #[test]
    fn what_is_managed_is_pages_store_and_tables() {
        let mut peak = Peak::default();
        let mut totals = Totals::ZERO;
        (totals.resident_pages, totals.store_bytes, totals.table_bytes) = (3, 1000, 200);
        peak.add(&Sample { members: vec![], anonymous: 1 << 20 }, &totals);
        assert_eq!(peak.managed, 3 * PAGE + 1200);
        // More than all of it can't be: the program went on between two looks.
        peak.add(
            &Sample { members: vec![], anonymous: (1 << 20) + 1 },
            &Totals { resident_pages: 1000, ..totals },
        );
        assert_eq!(peak.managed, (1 << 20) + 1);
    }
}
