//! Slots, and for each the chain of pages that name it.

use crate::addr::{Frame, FrameRun, Space, Vpn};
use crate::chunked::Chunked;
use crate::frame::{Buddy, NIL};
use crate::order::{Order, OrderSet};

/// One page that names a slot.
#[derive(Clone, Copy, Debug)]
struct Link {
    vpn: Vpn,
    next: u32,
    space: Space,
}

impl Default for Link {
    fn default() -> Link {
        Link { vpn: Vpn(0), next: NIL, space: Space(0) }
    }
}

/// The start of a chain.
#[derive(Clone, Copy, Debug)]
struct First(u32);

impl Default for First {
    fn default() -> First {
        First(NIL)
    }
}

/// Slots and chains. Grows at a fork only, so that giving up and unmapping allocate nothing.
#[derive(Clone, Debug)]
pub(crate) struct SharedPages {
    free: Buddy,
    chains: Chunked<First>,
    links: Chunked<Link>,
    free_link: u32,
    linked: u32,
}

impl SharedPages {
    pub(crate) fn new() -> SharedPages {
        SharedPages {
            free: Buddy::new(0),
            chains: Chunked::new(),
            links: Chunked::new(),
            free_link: NIL,
            linked: 0,
        }
    }

    /// Whether nothing is shared.
    pub(crate) fn is_empty(&self) -> bool {
        self.linked == 0
    }

    /// Takes aligned slots for a folio of `order`. Nobody names them yet.
    pub(crate) fn take(&mut self, order: Order) -> Vpn {
        loop {
            if let Some((slot, _)) = self.free.alloc(OrderSet::only(order)) {
                return Vpn(u64::from(slot.0));
            }
            self.grow();
        }
    }

    /// Twice as many slots as before. The free ones are handed over.
    fn grow(&mut self) {
        let slots = self.free.capacity();
        let mut larger = Buddy::new((slots * 2).max(Order::MAX.pages()));
        while let Some((slot, order)) = self.free.alloc(OrderSet::ALL) {
            larger.free(slot, order);
        }
        larger.free_run(FrameRun::new(Frame(slots), larger.capacity() - slots));
        self.chains.grow_to(larger.capacity() as usize);
        self.free = larger;
    }

    /// Gives back a slot that nobody names.
    pub(crate) fn give(&mut self, slot: Vpn) {
        debug_assert!(self.is_orphan(slot));
        self.free.free(Frame(slot.0 as u32), Order::BASE);
    }

    /// Whether a slot is taken.
    pub(crate) fn is_taken(&self, slot: Vpn) -> bool {
        slot.0 < u64::from(self.free.capacity()) && !self.free.is_free(Frame(slot.0 as u32))
    }

    /// Slots that are taken.
    pub(crate) fn taken(&self) -> u32 {
        self.free.capacity() - self.free.free_frames()
    }

    /// Pages that name slots.
    pub(crate) fn linked(&self) -> u32 {
        self.linked
    }

    /// Page `vpn` of `space` names `slot` from now on.
    pub(crate) fn link(&mut self, slot: Vpn, space: Space, vpn: Vpn) {
        if self.free_link == NIL {
            self.add_links();
        }
        let id = self.free_link;
        self.free_link = self.links[id as usize].next;
        let next = self.first(slot);
        self.links[id as usize] = Link { vpn, next, space };
        self.chains[slot.0 as usize].0 = id;
        self.linked += 1;
    }

    fn add_links(&mut self) {
        let from = self.links.len();
        self.links.grow_to(from + 1);
        for id in (from..self.links.len()).rev() {
            self.links[id].next = self.free_link;
            self.free_link = id as u32;
        }
    }

    /// A page names `slot` no more.
    pub(crate) fn unlink(&mut self, slot: Vpn, space: Space, vpn: Vpn) {
        let (mut before, mut id) = (NIL, self.first(slot));
        while id != NIL {
            let link = self.links[id as usize];
            if (link.space, link.vpn) == (space, vpn) {
                match before {
                    NIL => self.chains[slot.0 as usize].0 = link.next,
                    before => self.links[before as usize].next = link.next,
                }
                self.links[id as usize] = Link { next: self.free_link, ..Link::default() };
                self.free_link = id;
                self.linked -= 1;
                return;
            }
            (before, id) = (id, link.next);
        }
        debug_assert!(false, "{space:?} {vpn:?} does not name slot {slot:?}");
    }

    /// A page that names `slot` has moved within its space.
    pub(crate) fn relocate(&mut self, slot: Vpn, space: Space, from: Vpn, to: Vpn) {
        let mut id = self.first(slot);
        while id != NIL {
            let link = &mut self.links[id as usize];
            if (link.space, link.vpn) == (space, from) {
                link.vpn = to;
                return;
            }
            id = link.next;
        }
    }

    /// The pages that name a slot, youngest first. A cursor, so that tables may be changed in between: the link after
    /// `cursor`, or the first.
    pub(crate) fn after(&self, slot: Vpn, cursor: Option<u32>) -> Option<(u32, Space, Vpn)> {
        let id = cursor.map_or(self.first(slot), |at| self.links[at as usize].next);
        (id != NIL).then(|| (id, self.links[id as usize].space, self.links[id as usize].vpn))
    }

    /// The pages that name a slot.
    pub(crate) fn of(&self, slot: Vpn) -> impl Iterator<Item = (Space, Vpn)> + '_ {
        let mut cursor = None;
        core::iter::from_fn(move || {
            let (id, space, vpn) = self.after(slot, cursor)?;
            cursor = Some(id);
            Some((space, vpn))
        })
    }

    /// Whether one page alone names a slot.
    pub(crate) fn is_sole(&self, slot: Vpn) -> bool {
        let first = self.first(slot);
        first != NIL && self.links[first as usize].next == NIL
    }

    /// Whether nobody names a slot.
    pub(crate) fn is_orphan(&self, slot: Vpn) -> bool {
        self.first(slot) == NIL
    }

    fn first(&self, slot: Vpn) -> u32 {
        self.chains[slot.0 as usize].0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn chains_follow_links_and_moves() {
        let mut shared = SharedPages::new();
        let slot = shared.take(Order::BASE);
        shared.link(slot, Space(0), Vpn(7));
        assert!(shared.is_sole(slot) && shared.is_taken(slot));
        shared.link(slot, Space(2), Vpn(7));
        shared.link(slot, Space(3), Vpn(7));
        shared.relocate(slot, Space(2), Vpn(7), Vpn(9));
        shared.unlink(slot, Space(3), Vpn(7));
        assert_eq!(shared.of(slot).collect::<Vec<_>>(), [(Space(2), Vpn(9)), (Space(0), Vpn(7))]);
        shared.unlink(slot, Space(0), Vpn(7));
        shared.unlink(slot, Space(2), Vpn(9));
        assert!(shared.is_orphan(slot) && shared.is_empty());
        shared.give(slot);
        assert_eq!(shared.taken(), 0);
    }

    #[test]
    fn slots_are_aligned_and_grow() {
        let mut shared = SharedPages::new();
        let order = Order::MAX.down();
        let slots: Vec<Vpn> = (0..9).map(|_| shared.take(order)).collect();
        assert!(slots.iter().all(|slot| Order::alignment_of(slot.0) >= order));
        assert_eq!(shared.taken(), 9 * order.pages());
        assert!(slots.iter().enumerate().all(|(i, slot)| !slots[..i].contains(slot)));
    }
}
