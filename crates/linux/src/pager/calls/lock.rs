//! Memory that the program wants present: locked, or filled ahead.

use super::advice::pieces;
use super::{Answer, Caller, errno};
use crate::pager::{OVERDRAFT, SPACE, worker};
use crate::sys::clock::now_ns;
use core::sync::atomic::Ordering;
use quire_core::addr::{PageRange, Vpn};
use quire_core::mmu::Prot;
use quire_core::{Engine, Fault, Reclaim, Urgency};

impl Caller {
    /// Up to the first gap, as the kernel does it; where there is one, nothing is brought in.
    pub(super) fn lock_mapped(&mut self, range: PageRange, on_fault: bool) -> Answer {
        let run = self.leading_run(range)?;
        self.lock(run, true)?;
        if run != range {
            return Err(libc::ENOMEM);
        }
        if !on_fault && self.bring_in(run) < run.end() {
            return Err(libc::ENOMEM);
        }
        Ok(0)
    }

    /// Up to the first gap.
    pub(super) fn unlock_mapped(&mut self, range: PageRange) -> Answer {
        let run = self.leading_run(range)?;
        self.unlock(run)?;
        if run == range { Ok(0) } else { Err(libc::ENOMEM) }
    }

    pub(super) fn lock(&mut self, range: PageRange, on_fault: bool) -> Answer {
        let mut tables = self.pager.tables.lock();
        // What may be locked is a part of the grant, which is what was needed so far: the budget may have more.
        while !tables.engine.may_lock(range) && self.pager.gets_more(&mut tables) {}
        tables.engine.lock(&mut self.pager.mover(), range, true).map_err(errno)?;
        drop(tables);
        if !on_fault {
            // What may not be touched is locked all the same.
            let _ = self.bring_in(range);
        }
        Ok(0)
    }

    pub(super) fn unlock(&mut self, range: PageRange) -> Answer {
        let mut tables = self.pager.tables.lock();
        for vma in pieces(&tables, range).iter().filter(|vma| vma.locked) {
            let part = PageRange::between(SPACE, vma.start, vma.end);
            tables.engine.lock(&mut self.pager.mover(), part, false).map_err(errno)?;
        }
        Ok(0)
    }

    pub(super) fn lock_all(&mut self, flags: i32) -> Answer {
        let on_fault = flags & libc::MCL_ONFAULT != 0;
        // Without MCL_FUTURE an earlier one ends.
        self.pager.tables.lock().lock_future = (flags & libc::MCL_FUTURE != 0).then_some(on_fault);
        if flags & libc::MCL_CURRENT != 0 {
            let vmas = self.pager.vmas(&self.pager.tables.lock());
            for vma in vmas.iter().filter(|vma| vma.prot != Prot::NONE && !vma.locked) {
                self.lock(PageRange::between(SPACE, vma.start, vma.end), on_fault)?;
            }
        }
        Ok(0)
    }

    pub(super) fn unlock_all(&mut self) -> Answer {
        self.pager.tables.lock().lock_future = None;
        let vmas = self.pager.vmas(&self.pager.tables.lock());
        for vma in vmas.iter().filter(|vma| vma.locked) {
            self.unlock(PageRange::between(SPACE, vma.start, vma.end))?;
        }
        Ok(0)
    }

    /// Makes pages present, one fault after the other, as a program would that touches them in order: up to memory without
    /// rights, where it answers.
    pub(super) fn bring_in(&mut self, range: PageRange) -> Vpn {
        let vmas = pieces(&self.pager.tables.lock(), range);
        for vma in vmas {
            if vma.prot == Prot::NONE {
                return vma.start;
            }
            self.bring(PageRange::between(SPACE, vma.start, vma.end), Engine::next_absent);
        }
        range.end()
    }

    /// The same for pages that have contents; others stay empty.
    pub(super) fn bring_back(&mut self, range: PageRange) {
        self.bring(range, Engine::next_away);
    }

    fn bring(&mut self, range: PageRange, next: fn(&Engine, PageRange) -> Option<Vpn>) {
        let mut rest = range;
        loop {
            self.pager.watchdog.service_beat();
            self.pager.await_notes(|| self.pager.watchdog.service_beat());
            let mut tables = self.pager.tables.lock();
            let Some(vpn) = next(&tables.engine, rest) else { return };
            rest = PageRange::between(SPACE, vpn, range.end());
            self.pager.keep_grant(&mut tables);
            let seen = self.pager.progress.load(Ordering::Acquire);
            let fault = tables.engine.fault(&mut self.pager.mover(), SPACE, vpn, &mut self.work);
            if matches!(fault, Fault::Mapped | Fault::Job) {
                self.pager.record_access(vpn, false, now_ns());
            }
            drop(tables);
            match fault {
                Fault::Mapped => {}
                Fault::Job => self.run_job(self.pager),
                Fault::Joined => self.pager.await_progress(seen),
                Fault::NoFrame => self.make_room(),
                Fault::Outside => return,
                Fault::Halt(halt) => worker::stop(halt),
            }
        }
    }

    fn make_room(&mut self) {
        let pager = self.pager;
        let seen = pager.progress.load(Ordering::Acquire);
        let mut tables = pager.tables.lock();
        let step = tables.engine.reclaim(&mut pager.mover(), Urgency::Direct, &mut self.work);
        if step == Reclaim::Stuck {
            tables.engine.overdraw(OVERDRAFT);
        }
        drop(tables);
        match step {
            Reclaim::Job => self.run_job(pager),
            Reclaim::Waiting => pager.await_progress(seen),
            Reclaim::Idle | Reclaim::Progress | Reclaim::Stuck => {}
        }
    }
}
