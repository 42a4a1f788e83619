//! The end of a run: everything under way ends, and every page is read back. Also the lives of forked children.

use super::{Host, SPACE, Touch};
use crate::cells;
use crate::waiters::Message;
use quire_core::mmu::Prot;
use quire_core::{Fault, PageRange, Reclaim, Urgency, Vpn};

/// Steps after which a drain that goes on is a livelock.
const MOST_STEPS: u32 = 20_000;

impl Host {
    /// Ends all that is under way: every message is answered, every job finished, and no thread waits.
    pub fn drain(&mut self) -> Result<(), String> {
        self.mmu.injector.clear();
        self.mmu.injector.lasting = None;
        self.drain_refused()
    }

    /// The same, while what is refused goes on to be refused.
    pub fn drain_refused(&mut self) -> Result<(), String> {
        for _ in 0..MOST_STEPS {
            if !self.drain_step()? {
                self.check_nobody_waits()?;
                return self.check_now();
            }
        }
        Err("threads wait without end".into())
    }

    /// One step; whether there was anything to do.
    fn drain_step(&mut self) -> Result<bool, String> {
        let unread = self.mmu.waiters.unread().next();
        if let Some((thread, _)) = unread {
            self.take_message(thread);
        } else if let Some(message) = self.held.pop() {
            self.serve(message)?;
        } else if !self.jobs.is_empty() {
            self.step(0)?;
        } else if let Some(message) = self.parked.pop() {
            self.serve_at_last(message)?;
        } else {
            return Ok(false);
        }
        self.let_woken_run()?;
        Ok(true)
    }

    /// Answers a message for which there was no frame: reclaim finds one, or more than the grant is allowed.
    fn serve_at_last(&mut self, message: Message) -> Result<(), String> {
        for _ in 0..MOST_STEPS {
            if self.serve(message)? != Fault::NoFrame {
                return Ok(());
            }
            self.parked.pop();
            self.find_frame()?;
        }
        Err(format!("no frame is ever found for {:?}", message.vpn))
    }

    fn find_frame(&mut self) -> Result<(), String> {
        match self.reclaim(Urgency::Direct)? {
            Reclaim::Idle if self.engine.room() == 0 => Err("reclaim is idle without room".into()),
            Reclaim::Idle | Reclaim::Progress => Ok(()),
            Reclaim::Job | Reclaim::Waiting => {
                let last = self.jobs.len() - 1;
                while self.jobs.len() > last && !self.step(last)? {}
                Ok(())
            }
            Reclaim::Stuck => {
                self.overdraw(1);
                Ok(())
            }
        }
    }

    /// Drains, gives every page of every process rights to be read, and reads it.
    pub fn read_back(&mut self) -> Result<(), String> {
        self.drain()?;
        let at = self.at;
        for space in self.spaces.clone() {
            self.at = space;
            self.read_space_back()?;
        }
        self.at = at;
        Ok(())
    }

    fn read_space_back(&mut self) -> Result<(), String> {
        let range_of = |v: &quire_core::vma::Vma| PageRange::between(self.at, v.start, v.end);
        let vmas: Vec<PageRange> = self.engine.vmas(self.at).iter().map(range_of).collect();
        for range in vmas {
            let readable = self.engine.protect(&mut self.mmu, range, Prot::READ_WRITE);
            readable.map_err(|r| format!("{range:?} can't be made readable: {r:?}"))?;
            for vpn in (range.start.0..range.end().0).map(Vpn) {
                self.touch(0, Touch { vpn, put: None })?;
                self.drain()?;
                if self.threads[0].is_some_and(|_| self.mmu.waiters.waits(0)) {
                    return Err(format!("a read of {vpn:?} never ends"));
                }
            }
        }
        Ok(())
    }

    /// Reclaim alone brings what is charged back to the grant, as far as anything can be moved.
    pub fn settle_to_grant(&mut self) -> Result<(), String> {
        for _ in 0..MOST_STEPS {
            match self.reclaim(Urgency::Behind)? {
                Reclaim::Idle if self.engine.pressed() => return Err("reclaim is idle, and pressed".into()),
                Reclaim::Idle | Reclaim::Stuck => return self.check_now(),
                Reclaim::Progress => {}
                Reclaim::Job | Reclaim::Waiting => self.drain_refused()?,
            }
            self.let_woken_run()?;
        }
        Err("reclaim goes on without end".into())
    }

    /// Forks. The parent goes on; the child has its own tables, an empty pool and a copy of the store.
    pub fn fork(&mut self) -> Result<Host, String> {
        while !self.engine.fork_prepare(&mut self.mmu).map_err(super::stopped)? {
            if self.jobs.is_empty() {
                return Err("a fork waits for a job, and none is under way".into());
            }
            self.step(0)?;
        }
        while !self.jobs.is_empty() {
            self.step(0)?;
        }
        self.mmu.store.close_file();
        self.learn();
        let aside = self.aside();
        let mut child = Host { mmu: self.mmu.fork_process(SPACE), watch: self.watch.clone(), ..aside };
        child.mmu.register(PageRange::new(SPACE, Vpn(0), self.setup.arena), true);
        child.engine.fork_child();
        child.mmu.store.count_anew();
        (child.held, child.parked) = (Vec::new(), Vec::new());
        child.threads.fill(None);
        child.keeps_all = true;
        if self.setup.spill.is_some() {
            self.open_file(self.setup.spill.unwrap_or(0));
        }
        Ok(child)
    }

    /// Forks; the child changes a page in three and reads all that it has. Only a process with an engine of its own can.
    pub(super) fn fork_and_read(&mut self) -> Result<(), String> {
        if self.spaces != [SPACE] || self.engine.shares() {
            return Ok(());
        }
        self.meets_all(cells::Event::Fork, SPACE);
        let mut child = self.fork()?;
        let in_child = |why: String| format!("in the child: {why}");
        child.check().map_err(in_child)?;
        for vpn in (0..self.setup.arena).step_by(3).map(Vpn) {
            child.touch(0, Touch { vpn, put: Some(super::Put::Any) }).map_err(in_child)?;
            child.drain().map_err(in_child)?;
        }
        child.read_back().map_err(in_child)
    }
}
