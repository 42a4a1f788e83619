//! Memory that is given back to the kernel, contents and all: a program wants to serve its faults itself.

use super::{Answer, Caller, Note, pages_of};
use crate::pager::SPACE;

/// How often what was moved out meanwhile is brought back.
const TRIES: u32 = 100;

impl Caller {
    /// From now on the range is foreign, like a mapping that a program laid over the arena itself.
    pub(super) fn disown(&mut self, addr: usize, len: usize) -> Answer {
        let (pager, range) = (self.pager, pages_of(addr, len));
        let Some(descriptors) = pager.descriptors.get() else { return Err(libc::ENOMEM) };
        for _ in 0..TRIES {
            self.bring_back(range);
            let mut tables = pager.tables.lock();
            if !tables.engine.vmas(SPACE).covers(range.start, range.end()) {
                return Err(libc::ENOMEM);
            }
            if tables.engine.disown(&mut pager.mover(), range).is_err() {
                continue;
            }
            tables.room.mark_foreign(range.start.0, range.end().0);
            pager.note(Note::Unmap(range));
            // Threads that wait for a page there try again, and meet whoever serves it next.
            return descriptors.uffd.unregister(addr, len).map(|()| 0).map_err(|errno| errno.raw_os_error());
        }
        Err(libc::EBUSY)
    }
}
