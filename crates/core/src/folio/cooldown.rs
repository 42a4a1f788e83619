//! For how long a range is left as it is: the hysteresis between collapse and what undoes it.

/// What is remembered of 64 KiB of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Cooldown {
    /// The epoch in which it was split, or needed again, last. Wraps: after 2^16 epochs an old one looks new once more.
    since: u16,
    /// How often a collapse was undone, up to [`MOST_UNDONE`]; and in the highest bit whether one is to be undone now.
    undone: u8,
}

const COLLAPSED: u8 = 0x80;
/// The time doubles so often at the most.
const MOST_UNDONE: u8 = 6;

impl Cooldown {
    /// The range was split, or needed again after it was moved out.
    pub(crate) fn restart(&mut self, epoch: u16) {
        self.since = epoch;
        if self.undone & COLLAPSED != 0 {
            self.undone = ((self.undone & !COLLAPSED) + 1).min(MOST_UNDONE);
        }
    }

    /// The range was collapsed.
    pub(crate) fn collapsed(&mut self) {
        self.undone |= COLLAPSED;
    }

    /// Whether that is long enough ago for it to be collapsed; `cool` epochs the first time.
    pub(crate) fn is_over(self, epoch: u16, cool: u32) -> bool {
        u32::from(epoch.wrapping_sub(self.since)) >= cool << (self.undone & !COLLAPSED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collapse_that_is_undone_doubles_the_time() {
        let mut range = Cooldown::default();
        range.restart(10);
        assert!(!range.is_over(13, 4) && range.is_over(14, 4));
        range.collapsed();
        range.restart(20);
        range.restart(21);
        assert!(!range.is_over(28, 4) && range.is_over(29, 4));
        for round in 0..20 {
            range.collapsed();
            range.restart(1000 * round);
        }
        assert!(range.is_over(19_000 + 256, 4));
    }
}
