//! Refusals on purpose: a short script that the next calls of verbs play out.

use quire_core::mmu::{Done, Refusal};
use quire_core::{PageRange, Space, Vpn};

/// The verbs that can refuse.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Verb {
    /// `Mmu::discard`.
    Discard,
    /// `Mmu::protect`.
    Protect,
    /// `Mmu::lock`.
    Lock,
    /// `Mover::move_in`.
    MoveIn,
    /// `Mover::move_out`.
    MoveOut,
    /// `Mover::copy_in`.
    CopyIn,
    /// `Mover::unshare`.
    Unshare,
    /// `Mover::remap`: all or nothing.
    Remap,
    /// `Mover::share`.
    Share,
    /// `Mover::map_shared`.
    MapShared,
    /// `Mover::copy_out`.
    CopyOut,
    /// `Mover::fork_space`: all or nothing.
    ForkSpace,
}

/// One refusal to come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Injection {
    /// Which verb; `None` for the next one whatever it is.
    pub verb: Option<Verb>,
    /// Only a call about this page, among others; `None` for whatever pages.
    pub page: Option<Vpn>,
    /// How many such calls go well before.
    pub skip: u8,
    /// Pages that the call still does. One that was to do no more than these ends well.
    pub after: u32,
    /// What it answers then.
    pub refusal: Refusal,
}

impl Injection {
    /// The next call of `verb` does nothing and refuses.
    pub const fn next(verb: Verb, refusal: Refusal) -> Injection {
        Injection { verb: Some(verb), page: None, skip: 0, after: 0, refusal }
    }

    /// The same, after `pages` pages.
    pub const fn after(self, pages: u32) -> Injection {
        Injection { after: pages, ..self }
    }

    /// The same, of the next call that is about `page`.
    pub const fn about(self, page: Vpn) -> Injection {
        Injection { page: Some(page), ..self }
    }

    /// The same, after `calls` calls that go well.
    pub const fn skipping(self, calls: u8) -> Injection {
        Injection { skip: calls, ..self }
    }
}

/// A call of a verb that was cut short.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Strike {
    /// The pages that it was about.
    pub range: PageRange,
    /// How many of them were done.
    pub done: u64,
}

/// A call of a verb that works page by page, as it has ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Call {
    /// The verb.
    pub verb: Verb,
    /// The pages that it was about.
    pub range: PageRange,
    /// What came of it.
    pub done: Done,
}

/// The script: refusals in the order in which they are to come. And what came of them, until somebody clears it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Injector {
    script: Vec<Injection>,
    /// Calls that were cut.
    pub strikes: Vec<Strike>,
    /// Calls of verbs that have ended, where somebody wants to know.
    pub calls: Option<Vec<Call>>,
    /// The verb of the last call that began.
    begun: Option<Verb>,
    /// Pages that were not moved out since they are pinned, or shared after a fork.
    pub busy: Vec<(Space, Vpn)>,
}

impl Injector {
    /// Adds a refusal to the end of the script.
    pub fn push(&mut self, injection: Injection) {
        self.script.push(injection);
    }

    /// What has not happened yet.
    pub fn pending(&self) -> &[Injection] {
        &self.script
    }

    /// Forgets what came of refusals so far.
    pub fn forget_strikes(&mut self) {
        self.strikes.clear();
        self.busy.clear();
    }

    /// Forgets what has not happened yet.
    pub fn clear(&mut self) {
        self.script.clear();
    }

    /// A call of `verb` for `range` begins: where it is to be cut, if it is.
    pub fn call(&mut self, verb: Verb, range: PageRange) -> Cut {
        self.begun = Some(verb);
        let meant = |i: &&mut Injection| {
            i.verb.is_none_or(|v| v == verb) && i.page.is_none_or(|page| range.contains(page))
        };
        let Some(first) = self.script.first_mut().filter(meant) else {
            return Cut(None);
        };
        if first.skip > 0 {
            first.skip -= 1;
            return Cut(None);
        }
        let cut = Cut(Some((first.after, first.refusal)));
        self.script.remove(0);
        cut
    }

    /// A call of `verb` that can say how far it came begins: how many pages of `range` it does, and what it answers then.
    pub(crate) fn limit(&mut self, verb: Verb, range: PageRange) -> (u64, Option<Refusal>) {
        let (done, refusal) = self.call(verb, range).limit(range.pages);
        if refusal.is_some() {
            self.strikes.push(Strike { range, done });
        }
        (done, refusal)
    }

    /// A call of `verb` begins that does all or nothing.
    pub(crate) fn whole(&mut self, verb: Verb, range: PageRange) -> Result<(), Refusal> {
        let Some(refusal) = self.call(verb, range).at(0) else { return Ok(()) };
        self.strikes.push(Strike { range, done: 0 });
        Err(refusal)
    }

    /// A call for `range` has ended so. Returns the same.
    pub(crate) fn strike(&mut self, cut: Cut, range: PageRange, done: Done) -> Done {
        if let (Some(calls), Some(verb)) = (&mut self.calls, self.begun) {
            calls.push(Call { verb, range, done });
        }
        let pages = u64::from(done.pages);
        if pages < range.pages && cut.at(pages).is_some() {
            self.strikes.push(Strike { range, done: pages });
        }
        done
    }
}

/// Where one call is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut(Option<(u32, Refusal)>);

impl Cut {
    /// The refusal that stops the call when `pages` pages are done.
    pub fn at(self, pages: u64) -> Option<Refusal> {
        self.0.filter(|&(after, _)| u64::from(after) == pages).map(|(_, refusal)| refusal)
    }

    /// How many of `pages` pages the call does, and what it answers then.
    pub fn limit(self, pages: u64) -> (u64, Option<Refusal>) {
        match self.0 {
            Some((after, refusal)) if u64::from(after) < pages => (u64::from(after), Some(refusal)),
            _ => (pages, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: PageRange = PageRange::new(Space(0), Vpn(4), 2);

    #[test]
    fn a_script_waits_for_its_verb_and_skips() {
        let mut i = Injector::default();
        i.push(Injection::next(Verb::MoveOut, Refusal::Busy).after(1).skipping(1));
        assert_eq!(i.call(Verb::MoveIn, RANGE), Cut(None));
        assert_eq!(i.call(Verb::MoveOut, RANGE), Cut(None));
        let cut = i.call(Verb::MoveOut, RANGE);
        assert_eq!((cut.at(0), cut.at(1)), (None, Some(Refusal::Busy)));
        assert_eq!(cut.limit(1), (1, None));
        assert_eq!(cut.limit(2), (1, Some(Refusal::Busy)));
        assert!(i.pending().is_empty());
    }

    #[test]
    fn a_refusal_about_a_page_waits_for_it_and_leaves_a_strike() {
        let mut i = Injector::default();
        i.push(Injection::next(Verb::Lock, Refusal::Again).after(1).about(Vpn(5)));
        let elsewhere = PageRange::new(Space(0), Vpn(0), 5);
        assert_eq!(i.limit(Verb::Lock, elsewhere), (5, None));
        assert!(i.strikes.is_empty());
        assert_eq!(i.limit(Verb::Lock, RANGE), (1, Some(Refusal::Again)));
        assert_eq!(i.strikes, [Strike { range: RANGE, done: 1 }]);
    }
}
