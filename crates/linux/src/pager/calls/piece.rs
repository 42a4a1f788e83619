//! What a range of the arena consists of: managed memory, mappings of the kernel's that the program put over it, and gaps.

use super::Caller;
use crate::pager::{SPACE, Tables, pages_of};
use quire_core::addr::{PAGE_SIZE, PageRange};

/// To whom a part of the arena belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing is mapped there.
    Gap,
    /// It is managed.
    Managed,
    /// The program put a mapping of the kernel's there.
    Foreign,
}

/// The first part of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// To whom it belongs.
    pub kind: Kind,
    /// The first byte past it, at most the end of the range.
    pub end: usize,
}

impl Piece {
    /// As a call's answer: the end is a multiple of a page, so there is room for the kind below.
    pub(super) fn encode(self) -> usize {
        self.end | self.kind as usize
    }

    /// From a call's answer.
    pub(crate) fn decode(answer: usize) -> Piece {
        let kinds = [Kind::Gap, Kind::Managed, Kind::Foreign];
        let kind = kinds.into_iter().find(|&kind| kind as usize == answer % PAGE_SIZE).unwrap_or(Kind::Gap);
        Piece { kind, end: answer - answer % PAGE_SIZE }
    }
}

/// The first part of a range that has pages.
pub(super) fn find(tables: &Tables, addr: usize, len: usize) -> Piece {
    let range = pages_of(addr, len);
    let foreign = tables.room.foreign_in(range.start.0, range.end().0);
    let run = first_run(tables, range);
    let (kind, end) = match (foreign, run) {
        (Some((start, end)), _) if start == range.start.0 => (Kind::Foreign, end),
        (_, Some(run)) if run.start == range.start => (Kind::Managed, run.end().0),
        _ => {
            let next = foreign.map(|(start, _)| start).into_iter().chain(run.map(|run| run.start.0)).min();
            (Kind::Gap, next.unwrap_or(range.end().0))
        }
    };
    Piece { kind, end: end as usize * PAGE_SIZE }
}

/// The first pages of `range` that are managed, as far as they reach without a gap.
pub(super) fn first_run(tables: &Tables, range: PageRange) -> Option<PageRange> {
    let mut run: Option<PageRange> = None;
    if range.is_empty() {
        return None;
    }
    for vma in tables.engine.vmas(SPACE).overlapping(range.start, range.end()) {
        let (start, end) = (vma.start.max(range.start), vma.end.min(range.end()));
        match run {
            None => run = Some(PageRange::between(SPACE, start, end)),
            Some(so_far) if so_far.end() == start => {
                run = Some(PageRange::between(SPACE, so_far.start, end));
            }
            Some(_) => break,
        }
    }
    run
}

impl Caller {
    /// The first pages of `range` that are managed, as far as they reach without a gap.
    pub(super) fn next_run(&self, range: PageRange) -> Option<PageRange> {
        first_run(&self.pager.tables.lock(), range)
    }

    /// The same, if the range begins with them; else what the kernel says of a gap.
    pub(super) fn leading_run(&self, range: PageRange) -> Result<PageRange, i32> {
        self.next_run(range).filter(|run| run.start == range.start).ok_or(libc::ENOMEM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_travel_as_one_word() {
        for kind in [Kind::Gap, Kind::Managed, Kind::Foreign] {
            let piece = Piece { kind, end: 0x7fff_ffff_f000 };
            assert_eq!(Piece::decode(piece.encode()), piece);
        }
    }
}
