//! Refusals on purpose: a short script that the next calls of verbs play out, and refusals that last until they are lifted.
//!
//! What is said of pages is made true first: before [`Refusal::Exists`] a page appears, before [`Refusal::Absent`] one
//! leaves, and the program has it so from then on.

use quire_core::mmu::{Done, Refusal};
use quire_core::{FrameRun, PageRange, Space, Vpn};

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

impl Verb {
    /// Whether it brings pages or takes them away one by one: then one can appear or leave in the middle of it.
    pub const fn is_of_pages(self) -> bool {
        matches!(self, Verb::MoveIn | Verb::MoveOut | Verb::CopyIn | Verb::Share | Verb::MapShared)
    }
}

/// How often verbs may be refused for good in one step of a host: more than the largest folio needs, page by page and in every way.
/// Whoever asks again all the same does so without end.
const MOST_REFUSED: u32 = 20_000;

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

/// A verb that is refused for some pages again and again, until somebody lifts that.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Lasting {
    /// Which verb.
    pub verb: Verb,
    /// The first page, of whichever space.
    pub start: Vpn,
    /// How many pages.
    pub pages: u64,
    /// What it answers.
    pub refusal: Refusal,
}

impl Lasting {
    /// For all pages that there are.
    pub const fn everywhere(verb: Verb, refusal: Refusal) -> Lasting {
        Lasting { verb, start: Vpn(0), pages: u64::MAX, refusal }
    }

    /// Whether it is about a page.
    pub const fn covers(&self, vpn: Vpn) -> bool {
        vpn.0 >= self.start.0 && vpn.0 - self.start.0 < self.pages
    }

    /// Where a call of `verb` for `range` is cut: at the first of these pages.
    fn cut(&self, verb: Verb, range: PageRange) -> Option<Cut> {
        let first = self.start.0.max(range.start.0);
        let meant = verb == self.verb && range.contains(Vpn(first)) && self.covers(Vpn(first));
        meant.then(|| Cut::at_page((first - range.start.0) as u32, self.refusal, true))
    }

    /// Whether nothing else brings what the verb does not: the engine stops then.
    pub const fn is_fatal(&self) -> bool {
        matches!(self.verb, Verb::CopyIn | Verb::MapShared)
    }
}

/// A call of a verb that was cut short.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Strike {
    /// The pages that it was about.
    pub range: PageRange,
    /// How many of them were done: all, where it went on after a page that it had done left again.
    pub done: u64,
    /// What it answered, [`Refusal::Absent`] of one that went on.
    pub refusal: Refusal,
    /// Whether it would be refused again.
    pub lasting: bool,
}

/// A call of a verb that works page by page, as it has ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Call {
    /// The verb.
    pub verb: Verb,
    /// The pages that it was about.
    pub range: PageRange,
    /// Their frames, where it was told any.
    pub frames: Option<FrameRun>,
    /// What came of it.
    pub done: Done,
}

/// The script: refusals in the order in which they are to come. And what came of them, until somebody clears it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Injector {
    script: Vec<Injection>,
    /// What is refused until it is lifted.
    pub lasting: Option<Lasting>,
    /// What the next page that appears holds.
    pub appearing: u64,
    /// A space that is being forked: nobody runs there yet, so nothing appears or leaves.
    pub newborn: Option<Space>,
    /// How often something that lasts was asked for in this step of a host.
    pub refused: u32,
    /// Calls that were cut.
    pub strikes: Vec<Strike>,
    /// Calls of verbs that have ended, where somebody wants to know.
    pub calls: Option<Vec<Call>>,
    /// The verb of the last call that began.
    begun: Option<Verb>,
    /// Pages that were not moved out since they are pinned, or shared after a fork.
    pub busy: Vec<(Space, Vpn)>,
    /// Pages of the program that have appeared in the middle of a verb, with what they hold, and such that have left.
    pub truths: Vec<(Space, Vpn, Option<u64>)>,
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
        self.refused = 0;
    }

    /// Forgets what has not happened yet. What lasts goes on.
    pub fn clear(&mut self) {
        self.script.clear();
    }

    /// A call of `verb` for `range` begins: where it is to be cut, if it is.
    ///
    /// # Panics
    /// Where what is refused for good is asked for again and again.
    pub fn call(&mut self, verb: Verb, range: PageRange) -> Cut {
        self.begun = Some(verb);
        let meant = |i: &&mut Injection| {
            i.verb.is_none_or(|v| v == verb) && i.page.is_none_or(|page| range.contains(page))
        };
        let lasting = self.lasting.and_then(|lasting| lasting.cut(verb, range));
        self.refused += u32::from(lasting.is_some());
        assert!(self.refused < MOST_REFUSED, "{verb:?} is asked for without end, and refused for good");
        let Some(first) = self.script.first_mut().filter(meant) else {
            return lasting.unwrap_or(Cut(None));
        };
        if first.skip > 0 {
            first.skip -= 1;
            return lasting.unwrap_or(Cut(None));
        }
        let cut = Cut::at_page(first.after, first.refusal, false);
        self.script.remove(0);
        cut
    }

    /// A call of `verb` that can say how far it came begins: how many pages of `range` it does, and what it answers then.
    pub(crate) fn limit(&mut self, verb: Verb, range: PageRange) -> (u64, Option<Refusal>) {
        let cut = self.call(verb, range);
        let (done, refusal) = cut.limit(range.pages);
        if let Some(refusal) = refusal {
            self.strikes.push(Strike { range, done, refusal, lasting: cut.lasts() });
        }
        (done, refusal)
    }

    /// A call of `verb` begins that does all or nothing.
    pub(crate) fn whole(&mut self, verb: Verb, range: PageRange) -> Result<(), Refusal> {
        let cut = self.call(verb, range);
        let refusal = match cut.at(0) {
            Some(refusal) => refusal,
            // One that lasts refuses all where it refuses any.
            None if cut.lasts() => cut.limit(range.pages).1.unwrap_or(Refusal::Denied),
            None => return Ok(()),
        };
        self.strikes.push(Strike { range, done: 0, refusal, lasting: cut.lasts() });
        Err(refusal)
    }

    /// A call for `range` has ended so. Returns the same.
    pub(crate) fn strike(
        &mut self,
        cut: Cut,
        range: PageRange,
        frames: Option<FrameRun>,
        done: Done,
    ) -> Done {
        if let (Some(calls), Some(verb)) = (&mut self.calls, self.begun) {
            calls.push(Call { verb, range, frames, done });
        }
        let pages = u64::from(done.pages);
        if let Some(refusal) = done.refusal
            && cut.at(pages).is_some()
        {
            self.strikes.push(Strike { range, done: pages, refusal, lasting: cut.lasts() });
        }
        done
    }
}

/// Where one call is cut: after how many pages, what it answers then, and whether the next one is cut there too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut(Option<(u32, Refusal, bool)>);

impl Cut {
    const fn at_page(after: u32, refusal: Refusal, lasting: bool) -> Cut {
        Cut(Some((after, refusal, lasting)))
    }

    /// The refusal that stops the call when `pages` pages are done.
    pub fn at(self, pages: u64) -> Option<Refusal> {
        self.0.filter(|&(after, ..)| u64::from(after) == pages).map(|(_, refusal, _)| refusal)
    }

    /// How many of `pages` pages the call does, and what it answers then.
    pub fn limit(self, pages: u64) -> (u64, Option<Refusal>) {
        match self.0 {
            Some((after, refusal, _)) if u64::from(after) < pages => (u64::from(after), Some(refusal)),
            _ => (pages, None),
        }
    }

    fn lasts(self) -> bool {
        self.0.is_some_and(|(.., lasting)| lasting)
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
        let strike = Strike { range: RANGE, done: 1, refusal: Refusal::Again, lasting: false };
        assert_eq!(i.strikes, [strike]);
    }

    #[test]
    fn what_lasts_is_refused_at_its_first_page_until_it_is_lifted() {
        let lasting = Lasting { verb: Verb::Lock, start: Vpn(5), pages: 1, refusal: Refusal::NoMemory };
        let mut i = Injector { lasting: Some(lasting), ..Injector::default() };
        for _ in 0..3 {
            assert_eq!(i.limit(Verb::Lock, RANGE), (1, Some(Refusal::NoMemory)));
        }
        assert_eq!(i.limit(Verb::Protect, RANGE), (2, None));
        assert_eq!(i.limit(Verb::Lock, PageRange::new(Space(0), Vpn(6), 2)), (2, None));
        assert!(i.strikes.iter().all(|strike| strike.lasting));
        i.lasting = Some(Lasting::everywhere(Verb::Remap, Refusal::Denied));
        assert_eq!(i.whole(Verb::Remap, RANGE), Err(Refusal::Denied));
        i.lasting = None;
        assert_eq!(i.whole(Verb::Remap, RANGE), Ok(()));
    }
}
