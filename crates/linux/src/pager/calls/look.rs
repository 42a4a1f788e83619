//! What a program asks about its memory.

use crate::pager::{Pager, SPACE, Tables, pages_of};
use quire_core::addr::{PAGE_SIZE, PageRange};

/// How many bytes from `addr` on, `len` at most, are mapped without a gap: managed, or a mapping of the kernel's over the
/// arena.
pub(super) fn mapped_from(pager: &Pager, addr: usize, len: usize) -> usize {
    let range = pages_of(addr, len);
    gap_in(&pager.tables.lock(), range) as usize * PAGE_SIZE
}

/// The pages before the first that nothing is mapped at.
fn gap_in(tables: &Tables, range: PageRange) -> u64 {
    let (mut at, end) = (range.start, range.end());
    while at < end {
        let managed = tables.engine.vmas(SPACE).at(at).map(|vma| vma.end);
        let Some(next) = managed.or_else(|| tables.room.foreign_at(at.0)) else { break };
        at = next;
    }
    at.min(end).0 - range.start.0
}
