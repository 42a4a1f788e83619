//! Which addresses of the arena are taken, and by whom.

use crate::strict;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::collections::BTreeMap;

/// How many mappings of the kernel's lie in the arena, for calls that want to know without a lock.
static FOREIGN: AtomicUsize = AtomicUsize::new(0);

/// Whether the program has put a mapping of the kernel's over any part of the arena.
pub(super) fn has_foreign() -> bool {
    FOREIGN.load(Ordering::Relaxed) > 0
}

/// Ranges of page numbers, kept sorted and apart; neighbours are joined.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    by_start: BTreeMap<u64, u64>,
}

impl Ranges {
    pub(super) fn insert(&mut self, mut start: u64, mut end: u64) {
        if let Some((&s, &e)) = self.by_start.range(..=start).next_back()
            && e >= start
        {
            start = s;
            end = end.max(e);
        }
        while let Some((&s, &e)) = self.by_start.range(start..=end).next() {
            end = end.max(e);
            self.by_start.remove(&s);
        }
        self.by_start.insert(start, end);
    }

    pub(super) fn remove(&mut self, start: u64, end: u64) {
        loop {
            let next = self.overlapping(start, end).next();
            let Some((s, e)) = next else { return };
            self.by_start.remove(&s);
            if s < start {
                self.by_start.insert(s, start);
            }
            if e > end {
                self.by_start.insert(end, e);
            }
        }
    }

    /// The ranges that overlap `start..end`, whole.
    pub(super) fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let before = self.by_start.range(..start).next_back().filter(|(_, e)| **e > start);
        let from = before.map_or(start, |(&s, _)| s);
        self.by_start.range(from..end.max(from)).map(|(&s, &e)| (s, e))
    }

    /// How many pages of `start..end` are in these ranges.
    pub(super) fn count_in(&self, start: u64, end: u64) -> u64 {
        self.overlapping(start, end).map(|(s, e)| e.min(end) - s.max(start)).sum()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.by_start.iter().map(|(&start, &end)| (start, end))
    }

    pub(super) fn len(&self) -> usize {
        self.by_start.len()
    }

    pub(super) fn covers(&self, start: u64, end: u64) -> bool {
        self.by_start.range(..=start).next_back().is_some_and(|(_, &e)| e >= end)
    }
}

/// Pages of a range at least as long as this are aligned to it: 2 MiB.
const ALIGNED: u64 = 512;

/// The arena's address space, in page numbers.
#[derive(Debug, Default)]
pub(super) struct Room {
    free: Ranges,
    /// Mappings of the kernel's that a program put over a part of the arena.
    foreign: Ranges,
    /// Of what is free that which the kernel may still charge.
    charged: Ranges,
}

impl Room {
    pub(super) fn new(start: u64, end: u64) -> Room {
        let mut free = Ranges::default();
        free.insert(start, end);
        Room { free, ..Room::default() }
    }

    /// Takes the lowest free `pages` pages, aligned to 2 MiB when they are as many.
    pub(super) fn take(&mut self, pages: u64) -> Option<u64> {
        let align = if pages >= ALIGNED { ALIGNED } else { 1 };
        let start = self.free.by_start.iter().find_map(|(&s, &e)| {
            let start = s.next_multiple_of(align);
            (start + pages <= e).then_some(start)
        })?;
        self.use_up(start, start + pages);
        Some(start)
    }

    /// Takes exactly these pages, if all are free.
    pub(super) fn take_at(&mut self, start: u64, end: u64) -> bool {
        let free = self.free.covers(start, end);
        if free {
            self.use_up(start, end);
        }
        free
    }

    /// Takes these pages, as far as they are free.
    pub(super) fn take_all(&mut self, start: u64, end: u64) {
        self.use_up(start, end);
    }

    pub(super) fn give(&mut self, start: u64, end: u64) {
        self.unmark_foreign(start, end);
        self.free.insert(start, end);
        if strict::charges() {
            self.charged.insert(start, end);
        }
    }

    fn use_up(&mut self, start: u64, end: u64) {
        self.free.remove(start, end);
        self.charged.remove(start, end);
    }

    /// Takes a range that is free and may still be charged.
    pub(super) fn take_charged(&mut self) -> Option<(u64, u64)> {
        let (start, end) = self.charged.iter().next()?;
        self.use_up(start, end);
        Some((start, end))
    }

    /// Gives that back, charged no longer.
    pub(super) fn give_uncharged(&mut self, start: u64, end: u64) {
        self.free.insert(start, end);
    }

    pub(super) fn mark_foreign(&mut self, start: u64, end: u64) {
        self.use_up(start, end);
        self.foreign.insert(start, end);
        self.tell_foreign();
    }

    /// Nobody's mapping is there any longer; the pages stay taken.
    pub(super) fn unmark_foreign(&mut self, start: u64, end: u64) {
        self.foreign.remove(start, end);
        self.tell_foreign();
    }

    fn tell_foreign(&self) {
        FOREIGN.store(self.foreign.by_start.len(), Ordering::Relaxed);
    }

    /// All foreign ranges, in rising order.
    pub(super) fn all_foreign(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.foreign.iter()
    }

    /// How many pages of `start..end` are foreign.
    pub(super) fn foreign_pages(&self, start: u64, end: u64) -> u64 {
        self.foreign.count_in(start, end)
    }

    /// The foreign parts of `start..end`, cut to it.
    pub(super) fn foreign_in(&self, start: u64, end: u64) -> Option<(u64, u64)> {
        self.foreign.overlapping(start, end).next().map(|(s, e)| (s.max(start), e.min(end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_is_joined_and_taken_again() {
        let mut room = Room::new(1, 10_000);
        let small = room.take(3).unwrap();
        let large = room.take(600).unwrap();
        assert_eq!((small, large % ALIGNED), (1, 0));
        let next = room.take(2).unwrap();
        assert_eq!(next, 4);
        room.give(large, large + 600);
        room.give(small, small + 3);
        room.give(next, next + 2);
        assert!(room.take_at(1, 10_000));
        assert_eq!(room.take(1), None);
    }

    #[test]
    fn foreign_ranges_are_nobodys_until_given_back() {
        let mut room = Room::new(0, 100);
        room.mark_foreign(10, 20);
        assert_eq!(room.foreign_in(15, 50), Some((15, 20)));
        assert!(!room.take_at(0, 30));
        room.give(10, 20);
        assert_eq!(room.foreign_in(0, 100), None);
        assert!(room.take_at(0, 30));
    }

    #[test]
    fn what_is_charged_is_free_until_it_is_taken() {
        let mut room = Room::new(0, 100);
        room.charged.insert(10, 40);
        assert_eq!(room.take(15), Some(0));
        assert_eq!(room.take_charged(), Some((15, 40)));
        assert!(!room.take_at(20, 21));
        assert_eq!(room.take_charged(), None);
        room.give_uncharged(15, 40);
        assert!(room.take_at(15, 100));
    }

    #[test]
    fn what_is_no_longer_foreign_stays_taken_until_it_is_given() {
        let mut room = Room::new(0, 100);
        room.take_all(0, 30);
        room.mark_foreign(10, 40);
        room.unmark_foreign(10, 40);
        assert_eq!(room.foreign_in(0, 100), None);
        assert!(!room.take_at(35, 45));
        room.give(0, 40);
        assert!(room.take_at(0, 100));
    }
}
