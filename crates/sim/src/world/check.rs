//! What must hold after every event.

use super::{Host, SPACE};
use crate::store::hash_of;
use quire_core::job::{JobKind, Work};
use quire_core::{Fault, PageState, Stats, Vpn, Whereabouts};

impl Host {
    /// Checks the tables, the contents of every page, the threads that wait, and the memory in use.
    pub fn check(&self) -> Result<(), String> {
        self.engine.validate()?;
        self.model.check(&self.mmu).map_err(|m| m.to_string())?;
        for vpn in (0..self.setup.arena).map(Vpn) {
            self.check_page(vpn).map_err(|why| format!("{vpn:?}: {why}"))?;
        }
        self.check_waiters()?;
        self.check_memory()
    }

    fn check_page(&self, vpn: Vpn) -> Result<(), String> {
        let there = self.engine.whereabouts(SPACE, vpn);
        let present = self.mmu.entry(SPACE, vpn).is_some();
        let expected = self.model.expected(SPACE, vpn);
        let mapped = matches!(there.state, PageState::Mapped { .. });
        if present && !mapped {
            return Err(format!("is present and {:?}", there.state));
        }
        self.check_stored(&there)?;
        let found = match there.state {
            PageState::Mapped { .. } if present => return Ok(()),
            PageState::Mapped { .. } | PageState::Empty | PageState::Filling { stored: false } => 0,
            PageState::Filling { stored: true } | PageState::Stored => self.stored_value(&there)?,
            PageState::Standby { .. } | PageState::Writing => {
                let slot = there.frame.and_then(|frame| self.mmu.frame(frame));
                slot.ok_or_else(|| format!("is {:?}, its frame a hole", there.state))?.value()
            }
        };
        let fits = found == expected;
        if fits { Ok(()) } else { Err(format!("{there:?} holds {found}, should hold {expected}")) }
    }

    fn stored_value(&self, there: &Whereabouts) -> Result<u64, String> {
        let stored = there.stored.ok_or("is stored nowhere")?;
        let value = self.mmu.store.read(stored.place, stored.len);
        value.ok_or_else(|| format!("is not stored at {:?}", stored.place))
    }

    /// A stored copy, whether still good or not, is what its hash says.
    fn check_stored(&self, there: &Whereabouts) -> Result<(), String> {
        let Some(stored) = there.stored.filter(|s| s.len > 0) else { return Ok(()) };
        let value = self.stored_value(there)?;
        let same = hash_of(value) == stored.hash;
        if same { Ok(()) } else { Err(format!("{stored:?} is {value}, which is not its hash")) }
    }

    /// Who waits has a message that was not answered yet, or a fill under way.
    fn check_waiters(&self) -> Result<(), String> {
        let unread: Vec<u8> = self.mmu.waiters.unread().map(|(thread, _)| thread).collect();
        for (thread, message) in self.mmu.waiters.waiting() {
            let known = unread.contains(&thread)
                || self.held.contains(&message)
                || self.parked.contains(&message)
                || self.fill_under_way(message.vpn);
            if !known {
                let state = self.engine.page_state(SPACE, message.vpn);
                return Err(format!("thread {thread} waits for {:?}, which is {state:?}", message.vpn));
            }
        }
        Ok(())
    }

    /// What is resident is charged.
    fn check_memory(&self) -> Result<(), String> {
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

    /// Reclaim says that nothing can be moved out. With tables like the kernel's, no page on a list may be left
    /// that could be.
    pub(super) fn check_stuck(&self) -> Result<(), String> {
        let could = |vpn: Vpn| {
            let movable = self.mmu.rights(SPACE, vpn).is_some_and(|r| r.movable());
            let free = self.mmu.entry(SPACE, vpn).is_some_and(|pte| !pte.busy());
            movable && free && self.engine.whereabouts(SPACE, vpn).listed
        };
        let left = (0..self.setup.arena).map(Vpn).find(|&vpn| could(vpn));
        match left.filter(|_| !self.blurred) {
            Some(vpn) => Err(format!("reclaim is stuck, and {vpn:?} could be moved out")),
            None => Ok(()),
        }
    }
}
