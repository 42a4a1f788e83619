//! Objects of the program whose pages are never out: see [`crate::unevictable`].

use super::{Answer, Caller};
use crate::pager::pages_of;
use crate::sys::clock::now_ns;
use crate::sys::sched;
use quire_core::addr::{PAGE_SIZE, PageRange};

/// How often is looked whose threads have ended, in ns.
const LOOK_NS: u64 = 1_000_000_000;

impl Caller {
    /// Marked first, then brought in: what moves out in between is brought in again.
    pub(super) fn keep(&mut self, addr: usize, len: usize, owner: u32) -> Answer {
        self.pager.unevictable.add(addr, len, owner);
        self.bring_in(touched(addr, len));
        Ok(0)
    }

    pub(super) fn let_go(&mut self, addr: usize, len: usize) -> Answer {
        self.pager.unevictable.remove(addr, len);
        self.pager.tables.lock().engine.relist(touched(addr, len));
        Ok(0)
    }

    /// Lets go of what belonged to threads that have ended, once in a while: the last time was at `looked`, in ns.
    pub(in crate::pager) fn let_go_of_ended(&self, looked: &mut u64) {
        let now = now_ns();
        if self.pager.unevictable.is_empty() || now - *looked < LOOK_NS {
            return;
        }
        *looked = now;
        let mut ended = self.pager.unevictable.owners();
        ended.retain(|&tid| !sched::task_exists(tid));
        if ended.is_empty() {
            return;
        }
        for addr in self.pager.unevictable.remove_owned(&ended) {
            self.pager.tables.lock().engine.relist(touched(addr, 1));
        }
    }
}

/// The pages that an object lies on.
fn touched(addr: usize, len: usize) -> PageRange {
    let first = addr / PAGE_SIZE * PAGE_SIZE;
    pages_of(first, addr + len - first)
}
