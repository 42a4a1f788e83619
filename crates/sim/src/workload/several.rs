//! Several programs in one memory.

use crate::rng::Rng;
use crate::trace::Event;
use core::fmt;

/// Programs side by side, each with spaces of its own. They take turns, in random order, of some length on average;
/// who ends leaves the others to go on.
///
/// Stands for a machine with more than one thing to do: they share frames, store and TLB, and what one of them does
/// not use another one could.
pub struct Several {
    programs: Vec<Box<dyn Iterator<Item = Event>>>,
    turn: u64,
    rng: Rng,
    now: usize,
    /// Events that the program of this turn may still have.
    left: u64,
}

impl Several {
    /// These programs, in turns of 1 to 2 * `turn` - 1 events.
    pub fn new(programs: Vec<Box<dyn Iterator<Item = Event>>>, turn: u64, seed: u64) -> Several {
        Several { programs, turn, rng: Rng::new(seed), now: 0, left: 0 }
    }
}

impl Iterator for Several {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        while !self.programs.is_empty() {
            if self.left == 0 {
                self.left = 1 + self.rng.below((2 * self.turn).saturating_sub(1));
                self.now = self.rng.below(self.programs.len() as u64) as usize;
            }
            if let Some(event) = self.programs[self.now].next() {
                self.left -= 1;
                return Some(event);
            }
            drop(self.programs.remove(self.now));
            self.left = 0;
        }
        None
    }
}

impl fmt::Debug for Several {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} programs, {} events left of a turn", self.programs.len(), self.left)
    }
}
