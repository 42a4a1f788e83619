//! What a process takes of the budget, keeps, and gives back: pure functions of what it has and of what others want. All in
//! pages.

/// Headroom below which more is asked for.
pub const LOW: u32 = 64;
/// The least and the most that is taken at once: 1 MiB, 16 MiB.
pub const LEAST_CHUNK: u32 = 256;
/// See [`LEAST_CHUNK`].
pub const MOST_CHUNK: u32 = 4096;
/// Headroom that a process keeps when others want some.
pub const KEEP: u32 = 512;

/// How much a process that works within `grant` takes at once.
pub fn chunk(grant: u32) -> u32 {
    (grant / 8).clamp(LEAST_CHUNK, MOST_CHUNK)
}

/// What it says that it wants, when `got` of the chunk is what it has taken: as much again as it has where that is nothing. Who
/// has little, beside others with much, is not to wait for every chunk.
pub fn unmet(grant: u32, got: u32) -> u64 {
    u64::from(if got == 0 { grant.max(chunk(grant)) } else { 0 })
}

/// For whom a process comes to the end of what it works within.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// A fault, or a call of the program's.
    Program,
    /// Reclaim behind the faults.
    Reclaim,
}

/// Whether it takes more of the budget then. Reclaim does not: it makes room of what there is, so that who is idle does not take
/// back what it has given. Nor does anybody who has more than it works within, and is to reclaim that first, or who would
/// pass its target.
pub fn takes_more(need: Need, grant: u32, granted: u64, target: u64) -> bool {
    need == Need::Program && granted <= u64::from(grant) && u64::from(grant) < target
}

/// What a process has, and what is wanted of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// What it has taken.
    pub granted: u32,
    /// What it uses.
    pub charged: u32,
    /// What it should shrink to; [`NO_LIMIT`](super::ledger::NO_LIMIT): no wish.
    pub target: u64,
    /// Whether somebody else wants some.
    pub others_want: bool,
}

/// What it does about that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Adjusted {
    /// What it works within from now on.
    pub grant: u32,
    /// What it gives back at once: what it neither uses nor works within.
    pub excess: u32,
}

impl Standing {
    /// What it does: goes down to its target as it can, and shares its headroom with who wants some.
    pub fn adjust(self) -> Adjusted {
        let mut grant = self.granted.min(u32::try_from(self.target).unwrap_or(u32::MAX));
        let headroom = self.granted.saturating_sub(self.charged);
        if self.others_want && headroom > KEEP {
            grant = grant.min(self.granted - (headroom - KEEP) / 2);
        }
        Adjusted { grant, excess: self.granted.saturating_sub(grant.max(self.charged)) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ledger::NO_LIMIT;
    use super::*;

    fn adjusted(granted: u32, charged: u32, target: u64, others_want: bool) -> (u32, u32) {
        let Adjusted { grant, excess } = Standing { granted, charged, target, others_want }.adjust();
        (grant, excess)
    }

    #[test]
    fn a_chunk_is_an_eighth_within_bounds() {
        let chunks = [0, 2047, 2048, 2056, 8000, 32768, 40000].map(chunk);
        assert_eq!(chunks, [256, 256, 256, 257, 1000, 4096, 4096]);
    }

    #[test]
    fn who_gets_nothing_wants_as_much_again() {
        assert_eq!([unmet(100, 0), unmet(1000, 0), unmet(1000, 1)], [256, 1000, 0]);
    }

    #[test]
    fn only_for_the_program_more_is_taken_and_not_before_what_is_too_much_was_given_back() {
        assert!(takes_more(Need::Program, 1000, 1000, NO_LIMIT));
        assert!(!takes_more(Need::Reclaim, 1000, 1000, NO_LIMIT));
        assert!(takes_more(Need::Program, 1000, 1000, 1001) && !takes_more(Need::Program, 1000, 1000, 1000));
        assert!(
            !takes_more(Need::Program, 1000, 1001, NO_LIMIT),
            "it has given up a page that it still uses"
        );
    }

    #[test]
    fn without_a_wish_all_is_kept() {
        assert_eq!(adjusted(5000, 100, NO_LIMIT, false), (5000, 0));
        assert_eq!(adjusted(5000, 6000, NO_LIMIT, true), (5000, 0));
    }

    #[test]
    fn a_target_is_met_as_far_as_nothing_is_used_beyond() {
        assert_eq!(adjusted(5000, 100, 1024, false), (1024, 3976));
        assert_eq!(adjusted(5000, 4000, 1024, false), (1024, 1000));
        assert_eq!(adjusted(5000, 5000, 1024, false), (1024, 0));
        assert_eq!(adjusted(500, 100, 1024, false), (500, 0));
        assert_eq!(adjusted(5000, 100, u64::from(u32::MAX) + 7, false), (5000, 0));
    }

    #[test]
    fn headroom_is_shared_with_who_wants_some() {
        assert_eq!(adjusted(5000, 4488, NO_LIMIT, true), (5000, 0), "512 are kept");
        assert_eq!(adjusted(5000, 4486, NO_LIMIT, true), (4999, 1));
        assert_eq!(adjusted(5000, 488, NO_LIMIT, true), (3000, 2000));
        assert_eq!(adjusted(5000, 488, NO_LIMIT, false), (5000, 0));
        assert_eq!(adjusted(5000, 488, 1024, true), (1024, 3976), "the target is lower");
    }
}
