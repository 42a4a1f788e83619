//! What a program should see: plain memory, without any paging.

use crate::mmu::SimMmu;
use core::fmt;
use quire_core::{PageRange, Space, Vpn};
use std::collections::BTreeMap;

/// A page that does not hold what it should.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mismatch {
    /// The address space.
    pub space: Space,
    /// The page.
    pub vpn: Vpn,
    /// The version that was written last; 0 for zeroes.
    pub expected: u64,
    /// The version that is there.
    pub found: u64,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mismatch { space, vpn, expected, found } = self;
        write!(f, "{space:?} {vpn:?} holds version {found}, should hold {expected}")
    }
}

impl std::error::Error for Mismatch {}

/// The contents of every page of every space, as the program left them.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Model {
    pages: BTreeMap<(Space, Vpn), u64>,
    last: u64,
}

impl Model {
    /// A version that was never written before.
    pub fn fresh(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// The program wrote `value`; 0 means zeroes.
    pub fn write(&mut self, space: Space, vpn: Vpn, value: u64) {
        if value == 0 {
            self.pages.remove(&(space, vpn));
        } else {
            self.pages.insert((space, vpn), value);
        }
    }

    /// The range was discarded, unmapped or mapped anew: it reads as zeroes.
    pub fn discard(&mut self, range: PageRange) {
        self.take(range).for_each(drop);
    }

    /// The range was moved to `to`; what was there is gone, and the old place reads as zeroes.
    pub fn remap(&mut self, from: PageRange, to: Vpn) {
        let moved: Vec<_> = self.take(from).collect();
        self.discard(PageRange::new(from.space, to, from.pages));
        for ((space, vpn), value) in moved {
            self.pages.insert((space, to.plus(vpn.0 - from.start.0)), value);
        }
    }

    /// `child` begins with what `parent` has.
    pub fn fork(&mut self, parent: Space, child: Space) {
        self.exit(child);
        let copies: Vec<_> = self.of(parent).map(|(vpn, value)| ((child, vpn), value)).collect();
        self.pages.extend(copies);
    }

    /// A space has ended.
    pub fn exit(&mut self, space: Space) {
        self.pages.retain(|&(s, _), _| s != space);
    }

    /// What a page should hold.
    pub fn expected(&self, space: Space, vpn: Vpn) -> u64 {
        self.pages.get(&(space, vpn)).copied().unwrap_or(0)
    }

    /// The pages of a space that are not all zeroes, in rising order.
    pub fn of(&self, space: Space) -> impl Iterator<Item = (Vpn, u64)> + '_ {
        self.pages.range((space, Vpn(0))..=(space, Vpn(u64::MAX))).map(|(&(_, vpn), &value)| (vpn, value))
    }

    /// The program read `found`.
    pub fn read(&self, space: Space, vpn: Vpn, found: u64) -> Result<(), Mismatch> {
        let expected = self.expected(space, vpn);
        if expected == found { Ok(()) } else { Err(Mismatch { space, vpn, expected, found }) }
    }

    /// Whether every page that is present, and every hole that reads as zeroes because no pager has registered it,
    /// holds what it should: the program could read it at any time.
    pub fn check(&self, mmu: &SimMmu) -> Result<(), Mismatch> {
        for (space, tables) in mmu.spaces() {
            for (vpn, pte) in tables.pages() {
                self.read(space, Vpn(vpn), mmu.seen(pte).value())?;
            }
            for (vpn, _) in self.of(space) {
                let bare = tables.vma(vpn.0).is_none_or(|v| !v.rights.registered);
                if bare && tables.get(vpn.0).is_none() {
                    self.read(space, vpn, 0)?;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, range: PageRange) -> impl Iterator<Item = ((Space, Vpn), u64)> + '_ {
        self.pages.extract_if((range.space, range.start)..(range.space, range.end()), |_, _| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_core::mmu::Prot;

    const S: Space = Space(1);

    fn run(start: u64, pages: u64) -> PageRange {
        PageRange::new(S, Vpn(start), pages)
    }

    #[test]
    fn remap_overwrites_and_leaves_zeroes() {
        let mut m = Model::default();
        m.write(S, Vpn(0), 5);
        m.write(S, Vpn(9), 6);
        m.remap(run(0, 2), Vpn(8));
        assert_eq!(m.of(S).collect::<Vec<_>>(), [(Vpn(8), 5)]);
    }

    #[test]
    fn fork_copies_and_parts() {
        let mut m = Model::default();
        m.write(S, Vpn(3), 5);
        m.fork(S, Space(2));
        m.discard(run(0, 8));
        assert_eq!((m.expected(S, Vpn(3)), m.expected(Space(2), Vpn(3))), (0, 5));
        m.exit(Space(2));
        assert_eq!(m, Model::default());
    }

    #[test]
    fn stale_pages_and_silent_zeroes_are_found() {
        let mut mmu = SimMmu::new(0);
        let mut m = Model::default();
        mmu.map(run(0, 2), Prot::READ_WRITE, false);
        mmu.touch_write(S, Vpn(0), 1);
        m.write(S, Vpn(0), 2);
        assert_eq!(m.check(&mmu), Err(Mismatch { space: S, vpn: Vpn(0), expected: 2, found: 1 }));
        mmu.touch_write(S, Vpn(0), 2);
        m.write(S, Vpn(1), 3);
        assert_eq!(m.check(&mmu), Err(Mismatch { space: S, vpn: Vpn(1), expected: 3, found: 0 }));
        mmu.register(run(0, 2), true);
        assert_eq!(m.check(&mmu), Ok(()));
    }
}
