//! What must hold after every event.

use super::Host;
use crate::store::hash_of;
use crate::tables::Pte;
use quire_core::job::{JobKind, Work};
use quire_core::job::{Place, Stored};
use quire_core::{Audit, Fault, Frame, PageRange, PageState, Space, Stats, Vpn, Whereabouts};
use std::collections::{BTreeMap, BTreeSet};

/// What was looked at last.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    audit: Audit,
    /// Pages that the host has touched since, whether their entries have changed or not.
    touched: Vec<(Space, Vpn)>,
    /// Checks until everything is looked at.
    left: u32,
}

/// Checks from one of everything to the next.
const FULL_EVERY: u32 = 1000;

/// Watching: what an event has touched is checked after it, everything now and then.
impl Host {
    /// Whether anything is moved out from now on.
    pub fn set_evicts(&mut self, evicts: bool) {
        self.engine.set_evicts(evicts);
        self.keeps_all = !evicts;
    }

    /// From now on a check looks at what has changed since the last one, every thousandth at everything. All of it is
    /// taken to be right now. Where the build keeps no trail of changes, each check goes on to look at everything.
    pub fn watch(&mut self) {
        if Audit::possible() {
            let audit = Audit::new(&mut self.engine);
            self.watch = Some(Box::new(Watch { audit, touched: Vec::new(), left: FULL_EVERY }));
        }
    }

    /// The host has touched pages.
    pub(super) fn touches(&mut self, range: PageRange) {
        if let Some(watch) = &mut self.watch {
            watch.touched.extend((range.start.0..range.end().0).map(|vpn| (range.space, Vpn(vpn))));
        }
    }

    /// The host has changed what holds for a range, but no page of it: no folio may reach across its edges.
    pub(super) fn touches_edges(&mut self, range: PageRange) {
        let ends =
            [range.start.0.saturating_sub(1), range.start.0, range.end().0.saturating_sub(1), range.end().0];
        ends.into_iter().for_each(|vpn| self.touches(PageRange::new(range.space, Vpn(vpn), 1)));
    }

    /// Checks what has changed since the last check; everything if it is time for it, or if nobody watches.
    pub fn check_now(&mut self) -> Result<(), String> {
        self.learn();
        self.catch_up()?;
        let Some(mut watch) = self.watch.take() else {
            return self.check_counters().and_then(|()| self.check());
        };
        watch.left -= 1;
        let checked = if watch.left == 0 {
            watch.left = FULL_EVERY;
            let changed = self.check_changed(&mut watch);
            changed.and_then(|()| self.check_all(&watch)).and_then(|()| self.check_counters())
        } else {
            self.check_changed(&mut watch)
        };
        self.watch = Some(watch);
        checked
    }

    /// Checks everything, whether it is time for it or not, and that nothing has changed without a trail.
    pub fn check_whole(&mut self) -> Result<(), String> {
        if let Some(watch) = &mut self.watch {
            watch.left = 1;
        }
        self.check_now()
    }

    fn check_all(&self, watch: &Watch) -> Result<(), String> {
        watch.audit.compare(&self.engine)?;
        self.check()
    }

    fn check_changed(&mut self, watch: &mut Watch) -> Result<(), String> {
        let living = |space: &Space| self.spaces.contains(space);
        let touched = watch.touched.drain(..).filter(|(space, _)| living(space));
        watch.audit.check(&mut self.engine, &self.mmu.store, touched)?;
        for &(space, vpn) in watch.audit.pages().iter().filter(|(space, _)| living(space)) {
            self.check_visible(space, vpn).map_err(|why| format!("{space:?} {vpn:?}: {why}"))?;
        }
        self.check_waiters()?;
        self.check_memory()
    }

    /// A page, wherever its contents are, and what the program would find there now.
    fn check_visible(&self, space: Space, vpn: Vpn) -> Result<(), String> {
        self.check_page(space, vpn)?;
        let found = match self.mmu.entry(space, vpn) {
            Some(pte) => pte.value(),
            None if self.mmu.rights(space, vpn).is_none_or(|r| !r.registered) => 0,
            None => return Ok(()),
        };
        self.model.read(space, vpn, found).map_err(|m| m.to_string())
    }
}

impl Host {
    /// Checks the tables, the contents of every page, the threads that wait, and the memory in use.
    pub fn check(&self) -> Result<(), String> {
        self.engine.validate(&self.mmu.store)?;
        self.model.check(&self.mmu).map_err(|m| m.to_string())?;
        for (space, vpn) in self.pages() {
            self.check_page(space, vpn).map_err(|why| format!("{space:?} {vpn:?}: {why}"))?;
        }
        if self.spaces.len() > 1 {
            self.check_mapcounts()?;
        }
        self.check_waiters()?;
        self.check_holes()?;
        self.check_memory()
    }

    /// Every page of every process.
    pub(super) fn pages(&self) -> impl Iterator<Item = (Space, Vpn)> + '_ {
        self.spaces.iter().flat_map(|&space| (0..self.setup.arena).map(move |vpn| (space, Vpn(vpn))))
    }

    fn check_page(&self, space: Space, vpn: Vpn) -> Result<(), String> {
        let there = self.engine.whereabouts(space, vpn);
        let present = self.mmu.entry(space, vpn).is_some();
        let expected = self.model.expected(space, vpn);
        if present && !there.state.is_present() {
            return Err(format!("is present and {:?}", there.state));
        }
        let shared = matches!(there.state, PageState::Shared { .. });
        let frame = self.mmu.maps_frame(space, vpn);
        if present && frame != there.frame.filter(|_| shared) {
            return Err(format!("has {frame:?} mapped and is {there:?}"));
        }
        self.check_stored(&there)?;
        let found = match there.state {
            state if present && state.is_present() => return Ok(()),
            PageState::Mapped { .. }
            | PageState::Shared { mapped: true, .. }
            | PageState::Empty
            | PageState::Filling { stored: false } => 0,
            PageState::Filling { stored: true } | PageState::Stored => self.stored_value(&there)?,
            PageState::Standby { .. } | PageState::Writing | PageState::Shared { mapped: false, .. } => {
                let held = there.frame.and_then(|frame| self.mmu.frame(frame));
                held.ok_or_else(|| format!("is {:?}, its frame a hole", there.state))?.value()
            }
        };
        let fits = found == expected;
        if fits { Ok(()) } else { Err(format!("{there:?} holds {found}, should hold {expected}")) }
    }

    /// Who maps which frame, as a walk over all tables of the kernel finds it, is what the reverse map of the engine
    /// says; and a folio's mapcount is the number of spaces among them. Pages dropped behind the engine's back count as
    /// mapped still.
    pub fn check_mapcounts(&self) -> Result<(), String> {
        let mut walked: BTreeMap<Frame, BTreeSet<(Space, Vpn)>> = BTreeMap::new();
        for (space, vpn) in self.pages() {
            let there = self.engine.whereabouts(space, vpn);
            let dropped = there.state.is_present() && self.mmu.entry(space, vpn).is_none();
            let own = there.frame.filter(|_| there.state.is_present());
            let frame = if dropped { own } else { self.mmu.maps_frame(space, vpn).or(own) };
            if let Some(frame) = frame {
                walked.entry(frame).or_default().insert((space, vpn));
            }
        }
        for frame in (0..self.mmu.frames()).map(Frame) {
            let known = self.engine.rmap(frame).into_iter().filter(|m| m.mapped).map(|m| (m.space, m.vpn));
            let walked = walked.get(&frame).cloned().unwrap_or_default();
            if known.clone().collect::<BTreeSet<_>>() != walked {
                let known: Vec<_> = known.collect();
                return Err(format!("{frame:?} is mapped at {walked:?}, known at {known:?}"));
            }
        }
        self.check_counts(&walked)
    }

    /// The spaces that map any part of a folio, counted page by page.
    fn check_counts(&self, walked: &BTreeMap<Frame, BTreeSet<(Space, Vpn)>>) -> Result<(), String> {
        for (&frame, pages) in walked {
            let Some(&(space, vpn)) = pages.first() else { continue };
            let order = self.engine.folio_order(space, vpn).ok_or("a mapped page has no folio")?;
            let head = order.align_down(u64::from(frame.0)) as u32;
            let folio = (head..head + order.pages()).filter_map(|f| walked.get(&Frame(f))).flatten();
            let spaces = folio.map(|&(space, _)| space).collect::<BTreeSet<_>>().len() as u32;
            let counted = self.engine.mapcount(frame);
            if counted != spaces {
                return Err(format!("{frame:?} is mapped by {spaces} spaces, its mapcount is {counted}"));
            }
        }
        Ok(())
    }

    /// The stored copy of a page.
    pub fn stored(&self, there: &Whereabouts) -> Option<Stored> {
        const ZEROES: Stored = Stored { place: Place::Zero, len: 0, hash: 0 };
        match there.block {
            Some(block) => self.mmu.store.look(block),
            None => there.stored.then_some(ZEROES),
        }
    }

    fn stored_value(&self, there: &Whereabouts) -> Result<u64, String> {
        let stored = self.stored(there).ok_or("is stored nowhere")?;
        let value = self.mmu.bytes.read(stored.place, stored.len);
        value.ok_or_else(|| format!("is not stored at {:?}", stored.place))
    }

    /// A stored copy, whether still good or not, is what its hash says.
    fn check_stored(&self, there: &Whereabouts) -> Result<(), String> {
        let Some(stored) = self.stored(there).filter(|s| s.len > 0) else { return Ok(()) };
        let value = self.stored_value(there)?;
        let same = hash_of(value) == stored.hash;
        if same { Ok(()) } else { Err(format!("{stored:?} is {value}, which is not its hash")) }
    }

    /// After all was unmapped and drained nothing is left: nothing that the engine has given out, nobody who waits, and in
    /// the store no byte that the engine has not given back. (What is in files is overwritten, not erased.)
    pub fn check_empty(&self) -> Result<(), String> {
        let holdings = (self.engine.holdings(), self.mmu.store.holdings());
        if holdings != Default::default() {
            return Err(format!("left after all was unmapped: {holdings:?}"));
        }
        let spaces = self.mmu.spaces().map(|(_, tables)| tables.resident()).sum::<u64>();
        let left = [
            ("jobs", self.jobs.len()),
            ("threads that wait", self.mmu.waiters.waiting().count()),
            ("messages", self.held.len() + self.parked.len()),
            ("pages in RAM", self.mmu.bytes.in_ram()),
            ("pages of the program", spaces as usize),
        ];
        let found = left.into_iter().find(|(_, count)| *count > 0);
        found.map_or(Ok(()), |(what, count)| Err(format!("{count} {what} left after all was unmapped")))
    }

    /// Memory is behind a frame only where the engine knows of it, and nothing in RAM is stored in pages that
    /// the engine has given back.
    fn check_holes(&self) -> Result<(), String> {
        let lost = (0..self.mmu.frames())
            .map(Frame)
            .find(|&frame| self.mmu.frame(frame).is_some_and(Pte::is_memory) && self.engine.is_hole(frame));
        if let Some(frame) = lost {
            return Err(format!("memory is behind {frame:?}, which the engine takes for a hole"));
        }
        let (pages, held) = (self.mmu.bytes.ram_pages(), self.mmu.store.figures().ram_pages);
        if pages <= held {
            Ok(())
        } else {
            Err(format!("{pages} pages of the store have contents, {held} have memory"))
        }
    }

    /// What is resident is charged, and no frame was written that held a program's page.
    fn check_memory(&self) -> Result<(), String> {
        if let Some(frame) = self.mmu.overwritten {
            return Err(format!("{frame:?} was written, and its memory is a page that a program had"));
        }
        let charged = u64::from(self.engine.charged() - self.engine.store_pages());
        let resident = self.mmu.resident();
        if resident <= charged {
            Ok(())
        } else {
            Err(format!("{resident} pages are resident, {charged} charged"))
        }
    }

    /// A fault reclaims nothing, whatever order was wanted: it moves nothing out and begins no writer. It finds no frame
    /// only where not even a base page is to be had.
    pub(super) fn check_fault(&self, before: &Stats, fault: Fault, work: &Work) -> Result<(), String> {
        let now = self.engine.stats();
        if now.evictions != before.evictions {
            return Err("a fault moved something out".into());
        }
        if fault == Fault::Job && !matches!(work.kind, JobKind::Zero | JobKind::Read) {
            return Err(format!("a fault began a job that fills nothing: {:?}", work.kind));
        }
        if fault == Fault::NoFrame && self.engine.room() > 0 {
            return Err(format!("a fault found no frame, and {} are to be had", self.engine.room()));
        }
        Ok(())
    }

    /// Reclaim says that it can do nothing: no page on a list may be left that could be moved out, but for those in the
    /// hands of a job, those that a verb was refused for in this very step, and the few that always stay.
    pub(super) fn check_stuck(&mut self) -> Result<(), String> {
        // Whoever keeps all that it has, as a forked child does, is stuck at once.
        if self.keeps_all {
            return Ok(());
        }
        self.checks.stuck += 1;
        let strikes = &self.mmu.injector.strikes;
        let could = |&(space, vpn): &(Space, Vpn)| {
            let there = self.engine.whereabouts(space, vpn);
            if !there.listed || there.job.is_some() {
                return false;
            }
            let movable = self.mmu.rights(space, vpn).is_some_and(|r| r.movable());
            let free = self.mmu.entry(space, vpn).is_some_and(|pte| !pte.busy());
            let refused = self.mmu.injector.lasting.is_some_and(|lasting| lasting.covers(vpn));
            let struck = refused || strikes.iter().any(|s| s.range.space == space && s.range.contains(vpn));
            let shared = matches!(there.state, PageState::Shared { .. });
            !struck && (shared || movable && free)
        };
        let left = self.pages().find(could);
        match left {
            // The last few stay.
            Some(_) if self.engine.evictable() <= self.engine.least_evictable() => Ok(()),
            Some((_, vpn)) => Err(format!("reclaim can do nothing, and {vpn:?} could be moved out")),
            None => Ok(()),
        }
    }
}
