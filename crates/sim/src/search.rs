//! Breadth-first search over the states that a world can reach.
//!
//! Two worlds with equal keys are one state. Only a hash of 128 bits of each key is kept, and worlds only as long as
//! they wait to be visited, those of the last step not at all. The first violation found has the fewest events.

use crate::digest::Digest;
use core::fmt;
use core::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Something that events change, such as an engine with its host and its model.
pub trait World: Clone {
    /// What can happen.
    type Event: Clone + fmt::Debug;
    /// What tells two states apart: without clocks, counters and the names of tickets.
    type Key: Hash;

    /// What can happen now. Equal worlds answer equally.
    fn events(&self) -> Vec<Self::Event>;

    /// Lets `event` happen, and checks all that should hold.
    fn apply(&mut self, event: &Self::Event) -> Result<(), String>;

    /// The key of this state.
    fn key(&self) -> Self::Key;
}

/// What a search found.
#[derive(Clone, Debug)]
pub struct Report<E> {
    /// States with different keys, the start included.
    pub states: u64,
    /// Events applied.
    pub transitions: u64,
    /// Events from the start to the farthest state.
    pub depth: usize,
    /// New states at each distance from the start.
    pub levels: Vec<u64>,
    /// The search gave up because there were more states than allowed.
    pub truncated: bool,
    /// The shortest list of events that ends in a violation, and what it was.
    pub violation: Option<(Vec<E>, String)>,
}

impl<E: fmt::Debug> fmt::Display for Report<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { states, transitions, depth, levels, .. } = self;
        write!(f, "{states} states, {transitions} transitions, {depth} events deep, by depth {levels:?}")?;
        if self.truncated {
            write!(f, ", given up")?;
        }
        if let Some((path, why)) = &self.violation {
            write!(f, "\nviolated after {} events: {why}", path.len())?;
            for (i, event) in path.iter().enumerate() {
                write!(f, "\n {:3}  {event:?}", i + 1)?;
            }
        }
        Ok(())
    }
}

/// Visits every state within `depth` events of `start`. A panic of [`World::apply`] is a violation too.
pub fn search<W: World>(start: &W, depth: usize) -> Report<W::Event> {
    search_within(start, depth, u64::MAX)
}

/// The same, but gives up at `most` states.
pub fn search_within<W: World>(start: &W, depth: usize, most: u64) -> Report<W::Event> {
    let mut walk = Walk::new(start, most);
    let mut level = vec![(start.clone(), 0)];
    for left in (0..depth).rev() {
        level = walk.level(level, left > 0);
        if walk.report.violation.is_some() || walk.report.truncated {
            break;
        }
    }
    while walk.report.levels.last() == Some(&0) {
        walk.report.levels.pop();
    }
    walk.report.depth = walk.report.levels.len() - 1;
    walk.report
}

/// A visited state: the one before it, and which of its events led here.
#[derive(Clone, Copy, Debug)]
struct Node {
    parent: u32,
    event: u32,
}

#[derive(Debug)]
struct Walk<'a, W: World> {
    start: &'a W,
    seen: Seen,
    nodes: Vec<Node>,
    most: u64,
    report: Report<W::Event>,
}

impl<'a, W: World> Walk<'a, W> {
    fn new(start: &'a W, most: u64) -> Walk<'a, W> {
        let mut seen = Seen::default();
        seen.insert(Digest::of(&start.key()));
        let report = Report {
            states: 1,
            transitions: 0,
            depth: 0,
            levels: vec![1],
            truncated: false,
            violation: None,
        };
        Walk { start, seen, nodes: vec![Node { parent: 0, event: 0 }], most, report }
    }

    /// Lets each event happen in each state of a level. The states that are new come back if they are to be visited.
    fn level(&mut self, level: Vec<(W, u32)>, keep: bool) -> Vec<(W, u32)> {
        let mut next = Vec::new();
        self.report.levels.push(0);
        for (world, node) in level {
            for (i, event) in world.events().iter().enumerate() {
                let step = Node { parent: node, event: i as u32 };
                if let Some(new) = self.step(&world, event, step)
                    && keep
                {
                    self.nodes.push(step);
                    next.push((new, self.nodes.len() as u32 - 1));
                }
                if self.report.violation.is_some() || self.report.truncated {
                    return next;
                }
            }
        }
        next
    }

    /// One event in one state; the world after it, if its key is new.
    fn step(&mut self, world: &W, event: &W::Event, step: Node) -> Option<W> {
        let mut new = world.clone();
        self.report.transitions += 1;
        if let Err(why) = guarded(&mut new, event) {
            self.report.violation = Some((self.path(step), why));
            return None;
        }
        if !self.seen.insert(Digest::of(&new.key())) {
            return None;
        }
        self.report.states += 1;
        *self.report.levels.last_mut()? += 1;
        self.report.truncated = self.report.states >= self.most;
        Some(new)
    }

    /// The events from the start to `last`, found by walking them again.
    fn path(&self, last: Node) -> Vec<W::Event> {
        let mut steps = vec![last.event];
        let mut at = last.parent;
        while at != 0 {
            steps.push(self.nodes[at as usize].event);
            at = self.nodes[at as usize].parent;
        }
        let mut world = self.start.clone();
        let mut path = Vec::with_capacity(steps.len());
        while let Some(step) = steps.pop() {
            let Some(event) = world.events().into_iter().nth(step as usize) else {
                break;
            };
            if !steps.is_empty() && world.apply(&event).is_err() {
                break;
            }
            path.push(event);
        }
        path
    }
}

/// Applies an event; a panic becomes an error.
fn guarded<W: World>(world: &mut W, event: &W::Event) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| world.apply(event))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("panicked: {}", text.unwrap_or("no message")))
    })
}

/// A set of hashes by open addressing: 32 bytes or less for each.
#[derive(Debug, Default)]
struct Seen {
    table: Vec<u128>,
    len: usize,
}

impl Seen {
    /// Whether `hash` is new. 0 marks a free entry, and is taken for 1.
    fn insert(&mut self, hash: u128) -> bool {
        if self.len * 4 >= self.table.len() * 3 {
            self.grow();
        }
        let new = place(&mut self.table, hash.max(1));
        self.len += usize::from(new);
        new
    }

    fn grow(&mut self) {
        let mut larger = vec![0; (self.table.len() * 2).max(1024)];
        for &hash in self.table.iter().filter(|&&h| h != 0) {
            place(&mut larger, hash);
        }
        self.table = larger;
    }
}

/// Puts a hash into its entry, or the next free one. `table` is a power of two, and not full.
fn place(table: &mut [u128], hash: u128) -> bool {
    let mask = table.len() - 1;
    let mut at = hash as usize & mask;
    while table[at] != 0 {
        if table[at] == hash {
            return false;
        }
        at = (at + 1) & mask;
    }
    table[at] = hash;
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two jugs of 3 and 5 litres; four litres are the planted bug.
    #[derive(Clone, Debug)]
    struct Jugs {
        three: u8,
        five: u8,
        poured: u64,
        wrong: u8,
        panics: bool,
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Pour {
        FillThree,
        FillFive,
        EmptyThree,
        EmptyFive,
        ThreeToFive,
        FiveToThree,
    }

    impl World for Jugs {
        type Event = Pour;
        type Key = (u8, u8);

        fn events(&self) -> Vec<Pour> {
            use Pour::{EmptyFive, EmptyThree, FillFive, FillThree, FiveToThree, ThreeToFive};
            vec![FillThree, FillFive, EmptyThree, EmptyFive, ThreeToFive, FiveToThree]
        }

        fn apply(&mut self, pour: &Pour) -> Result<(), String> {
            self.poured += 1;
            match pour {
                Pour::FillThree => self.three = 3,
                Pour::FillFive => self.five = 5,
                Pour::EmptyThree => self.three = 0,
                Pour::EmptyFive => self.five = 0,
                Pour::ThreeToFive => {
                    let litres = self.three.min(5 - self.five);
                    (self.three, self.five) = (self.three - litres, self.five + litres);
                }
                Pour::FiveToThree => {
                    let litres = self.five.min(3 - self.three);
                    (self.three, self.five) = (self.three + litres, self.five - litres);
                }
            }
            assert!(!self.panics || self.five != self.wrong, "{} litres", self.five);
            if self.five == self.wrong { Err(format!("{} litres", self.five)) } else { Ok(()) }
        }

        fn key(&self) -> (u8, u8) {
            (self.three, self.five)
        }
    }

    const START: Jugs = Jugs { three: 0, five: 0, poured: 0, wrong: 9, panics: false };

    #[test]
    fn every_state_is_counted_once() {
        let report = search(&START, 20);
        assert_eq!((report.states, report.depth), (16, 7));
        assert_eq!(report.levels.iter().sum::<u64>(), 16);
        assert_eq!(report.transitions, 16 * 6);
        assert!(report.violation.is_none() && !report.truncated);
        assert_eq!(search(&START, 1).levels, [1, 2]);
    }

    #[test]
    fn the_shortest_path_to_a_planted_bug_is_found() {
        use Pour::{EmptyThree, FillFive, FiveToThree};
        let report = search(&Jugs { wrong: 4, ..START }, 20);
        let (path, why) = report.violation.clone().unwrap();
        assert_eq!(path, [FillFive, FiveToThree, EmptyThree, FiveToThree, FillFive, FiveToThree]);
        assert_eq!(why, "4 litres");
        assert!(report.to_string().contains("violated after 6 events: 4 litres\n   1  FillFive"));
        assert!(search(&Jugs { wrong: 4, ..START }, 5).violation.is_none());
    }

    #[test]
    fn a_panic_is_a_violation() {
        let report = search(&Jugs { wrong: 2, panics: true, ..START }, 3);
        let (path, why) = report.violation.unwrap();
        assert_eq!(path, [Pour::FillFive, Pour::FiveToThree]);
        assert_eq!(why, "panicked: 2 litres");
    }

    #[test]
    fn it_gives_up_at_the_limit() {
        let report = search_within(&START, 20, 5);
        assert!(report.truncated && report.states == 5);
    }

    #[test]
    fn the_set_of_hashes_grows() {
        let mut seen = Seen::default();
        assert!((0..5000u64).all(|i| seen.insert(Digest::of(&i))));
        assert!((0..5000u64).all(|i| !seen.insert(Digest::of(&i))));
        assert!(seen.insert(0) && !seen.insert(0));
    }
}
