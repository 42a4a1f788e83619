//! How recently the pages that are out were moved out, compared with each other.
//!
//! The rank of a page that comes back is the number of pages that were moved out after it and are still out. With
//! that many more frames, and pages leaving in the order of their last use, it would not have left: it is what is
//! beyond memory of the page's stack distance (Mattson et al., "Evaluation techniques for storage hierarchies", 1970).
//! Kept by epochs of the clock of evictions, so that noting a page costs a counter and a rank is a short sum.

/// Epochs that are told apart; a power of two. Older pages are all alike.
const EPOCHS: u32 = 64;
/// An epoch is at least so many evictions long, as a power of two.
const LEAST_SHIFT: u32 = 4;
/// More would leave fewer numbers for epochs than there are counters.
const MOST_SHIFT: u32 = 24;

/// Pages that are only stored, by the epoch in which they were moved out.
#[derive(Clone, Debug)]
pub(crate) struct Ranks {
    /// By the epoch's number, modulo [`EPOCHS`]. The other ones are older.
    counts: [u32; EPOCHS as usize],
    /// All pages that are only stored.
    only_stored: u32,
    /// Log2 of an epoch's length.
    shift: u32,
    /// The number of the youngest epoch. Numbers wrap with the clock.
    newest: u32,
    /// Pages moved out so far: the clock of refault distances. Wraps.
    clock: u32,
}

impl Ranks {
    pub(crate) const fn new() -> Ranks {
        Ranks { counts: [0; EPOCHS as usize], only_stored: 0, shift: LEAST_SHIFT, newest: 0, clock: 0 }
    }

    /// The time by the clock of evictions.
    pub(crate) fn now(&self) -> u32 {
        self.clock
    }

    /// Pages were moved out.
    pub(crate) fn tick(&mut self, pages: u32) {
        self.clock = self.clock.wrapping_add(pages);
    }

    /// How long ago a page was moved out, in pages moved out since.
    pub(crate) fn distance(&self, evicted_at: u32) -> u32 {
        self.clock.wrapping_sub(evicted_at)
    }

    /// Notes that a page that was moved out at `evicted_at` has lost its frame.
    pub(crate) fn enter(&mut self, evicted_at: u32) {
        self.advance();
        self.only_stored += 1;
        if let Some(counter) = self.counter(evicted_at) {
            *counter += 1;
        }
        if self.only_stored > (EPOCHS / 2) << self.shift && self.shift < MOST_SHIFT {
            self.lengthen();
        }
    }

    /// Notes that such a page is needed again, or is no more.
    pub(crate) fn leave(&mut self, evicted_at: u32) {
        self.only_stored -= 1;
        // A page that was old once can come to be in an epoch that has been joined, and was not counted there.
        if let Some(counter) = self.counter(evicted_at) {
            *counter = counter.saturating_sub(1);
        }
    }

    /// Pages that are only stored.
    pub(crate) fn only_stored(&self) -> u32 {
        self.only_stored
    }

    /// The rank of a page that was moved out at `evicted_at`; of its own epoch, half counts.
    pub(crate) fn rank(&self, evicted_at: u32) -> u32 {
        let age = self.age(evicted_at);
        let younger = (0..age.min(EPOCHS)).map(|back| self.counts[self.bucket(back)]).sum::<u32>();
        let own = if age < EPOCHS {
            self.counts[self.bucket(age)]
        } else {
            self.only_stored.saturating_sub(younger)
        };
        younger + own / 2
    }

    /// Numbers of epochs there are before they wrap.
    fn numbers(&self) -> u32 {
        1 << (u32::BITS - self.shift)
    }

    /// How many epochs ago.
    fn age(&self, evicted_at: u32) -> u32 {
        self.newest.wrapping_sub(evicted_at >> self.shift) & (self.numbers() - 1)
    }

    fn bucket(&self, age: u32) -> usize {
        (self.newest.wrapping_sub(age) % EPOCHS) as usize
    }

    fn counter(&mut self, evicted_at: u32) -> Option<&mut u32> {
        let age = self.age(evicted_at);
        let bucket = self.bucket(age);
        (age < EPOCHS).then(|| &mut self.counts[bucket])
    }

    /// Begins the epochs up to that of the clock; at most all there are.
    fn advance(&mut self) {
        let number = self.clock >> self.shift;
        let steps = number.wrapping_sub(self.newest) & (self.numbers() - 1);
        for step in 1..=steps.min(EPOCHS) {
            let bucket = (self.newest.wrapping_add(step) % EPOCHS) as usize;
            self.counts[bucket] = 0;
        }
        self.newest = number;
    }

    /// Epochs become twice as long: pairs of them are joined.
    fn lengthen(&mut self) {
        let mut joined = [0; EPOCHS as usize];
        for age in 0..EPOCHS {
            let number = self.newest.wrapping_sub(age) & (self.numbers() - 1);
            joined[(number / 2 % EPOCHS) as usize] += self.counts[self.bucket(age)];
        }
        self.counts = joined;
        self.shift += 1;
        self.newest /= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// Pages that are out with the times at which they left, youngest last; and the clock.
    fn check(ranks: &Ranks, out: &[u32]) {
        assert_eq!(ranks.only_stored(), out.len() as u32);
        assert!(ranks.counts.iter().sum::<u32>() <= out.len() as u32);
    }

    fn enter(ranks: &mut Ranks, now: u32) {
        ranks.clock = now;
        ranks.enter(now);
    }

    #[test]
    fn ranks_follow_the_order_in_which_pages_left() {
        let mut ranks = Ranks::new();
        let mut out: Vec<u32> = Vec::new();
        let (mut clock, mut seed) = (u32::MAX - 50_000, 7u64);
        for step in 0..200_000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            if out.len() < 3000 || seed >> 63 == 0 {
                clock = clock.wrapping_add(1);
                enter(&mut ranks, clock);
                out.push(clock);
            } else {
                let at = (seed >> 33) as usize % out.len();
                let evicted_at = out.remove(at);
                let exact = (out.len() - at) as u32;
                let epoch = 1 << ranks.shift;
                if ranks.age(evicted_at) < EPOCHS {
                    let rank = ranks.rank(evicted_at);
                    assert!(
                        rank.abs_diff(exact) <= epoch,
                        "step {step}: {rank} for {exact}, {epoch} an epoch"
                    );
                }
                ranks.leave(evicted_at);
            }
            if step % 1000 == 0 {
                check(&ranks, &out);
            }
        }
        assert!(ranks.shift > LEAST_SHIFT);
        out.drain(..).for_each(|evicted_at| ranks.leave(evicted_at));
        check(&ranks, &[]);
    }

    #[test]
    fn the_first_epoch_that_is_told_apart_no_more_is_old() {
        let mut ranks = Ranks::new();
        (0..10).for_each(|_| ranks.enter(0));
        let epoch = 1 << ranks.shift;
        enter(&mut ranks, (EPOCHS - 1) * epoch);
        assert_eq!(ranks.rank(0), 1 + 10 / 2, "the oldest that is told apart");
        enter(&mut ranks, EPOCHS * epoch);
        assert_eq!(ranks.rank(0), 2 + 10 / 2, "all but the younger ones are older");
        assert_eq!(ranks.rank(EPOCHS * epoch), 0);
    }

    #[test]
    fn what_left_long_ago_ranks_behind_everything_younger() {
        let mut ranks = Ranks::new();
        for _ in 0..100 {
            ranks.enter(0);
        }
        for clock in 1..10_000 {
            enter(&mut ranks, clock);
            ranks.leave(clock);
        }
        enter(&mut ranks, 10_000);
        assert_eq!(ranks.rank(0), 51);
    }
}
