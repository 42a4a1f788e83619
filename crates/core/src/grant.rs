//! The grant: the memory that a host lends, and what it is for.

/// Pages that frames, store and the host's own tables may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grant {
    pub(crate) pages: u32,
    /// Pages of that for the host's tables and buffers.
    pub(crate) overhead: u32,
    /// Pages that may be taken beyond: nothing could be moved out, and the program must go on.
    pub(crate) overdraft: u32,
}

impl Grant {
    pub(crate) const fn new(pages: u32) -> Grant {
        Grant { pages, overhead: 0, overdraft: 0 }
    }

    /// Pages of frames that it allows beside a store of `store` pages: what that leaves, but never less than 40 %.
    pub(crate) fn frames(&self, store: u32) -> u32 {
        let rest = self.pages.saturating_sub(store + self.overhead);
        let least = (u64::from(self.pages) * 2 / 5) as u32;
        rest.max(least).saturating_add(self.overdraft)
    }
}
