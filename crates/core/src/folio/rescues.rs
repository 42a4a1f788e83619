//! Which folios were rescued lately, and what for: a folio that comes back again and again for a few of its pages is sparse.

#[cfg(test)]
mod tests;

use super::touched::Touched;
use crate::addr::{Space, Vpn};
use crate::order::Order;
use alloc::vec::Vec;

/// Folios of which rescues are remembered.
const RESCUED: usize = 32;
/// A folio that is rescued so often, each time for a few of the same pages, is split.
const RESCUES: u8 = 3;

/// What the rescues of one folio were for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Rescued {
    space: Space,
    start: Vpn,
    order: Order,
    touched: Touched,
    times: u8,
}

/// The folios rescued lately: a table of fixed size, the oldest of which is forgotten first.
#[derive(Clone, Debug)]
pub(crate) struct Rescues {
    folios: Vec<Rescued>,
    oldest: usize,
}

impl Rescues {
    pub(crate) fn new() -> Rescues {
        Rescues { folios: Vec::with_capacity(RESCUED), oldest: 0 }
    }

    /// Notes that page `number` of a folio was needed again. What all its rescues were for, when they are enough.
    pub(crate) fn note(&mut self, space: Space, start: Vpn, order: Order, number: u32) -> Option<Touched> {
        let known = |f: &&mut Rescued| (f.space, f.start, f.order) == (space, start, order);
        if let Some(folio) = self.folios.iter_mut().find(known) {
            folio.touched.add(number);
            folio.times += 1;
            let enough = folio.times >= RESCUES;
            folio.times %= RESCUES;
            return enough.then(|| core::mem::take(&mut folio.touched));
        }
        let mut folio = Rescued { space, start, order, touched: Touched::default(), times: 1 };
        folio.touched.add(number);
        if self.folios.len() < RESCUED {
            self.folios.push(folio);
        } else {
            self.folios[self.oldest] = folio;
            self.oldest = (self.oldest + 1) % RESCUED;
        }
        None
    }

    /// What decides later, as numbers.
    pub(crate) fn add_to(&self, words: &mut Vec<u32>) {
        for folio in &self.folios {
            let times = u32::from(folio.times);
            words.extend([u32::from(folio.space.0), folio.start.0 as u32, folio.order.index() as u32, times]);
            words.extend((0..folio.order.pages()).filter(|&number| folio.touched.contains(number)));
        }
    }
}
