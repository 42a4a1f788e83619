//! Processes that fork.

use super::steady::Shape;
use crate::rng::Rng;
use crate::trace::Event;
use quire_core::Space;

/// How a family of processes works. The first process has the space of the shape, the others those that follow.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Family {
    /// The memory of the first process, its accesses besides those that fill it, and how many write. All processes
    /// work alike.
    pub shape: Shape,
    /// Processes that are forked, all together.
    pub forks: u64,
    /// Processes beside the first one that live at a time, at least one.
    pub alive: u16,
    /// Accesses of each of them before it exits.
    pub accesses: u64,
}

/// One process fills its memory; then it forks again and again while all of them go on to read and write it. One in
/// ten forks is a child's own. Children exit, and their spaces are used again.
///
/// Stands for servers with a process for each connection, snapshots of a database by fork, and shells: nearly all
/// memory is shared, and what is written is copied page by page.
#[derive(Clone, Debug)]
pub struct Forks {
    family: Family,
    rng: Rng,
    mapped: bool,
    filled: u64,
    /// Accesses of the first process, and forks, to come.
    own: u64,
    forks: u64,
    /// By space, from the second process on: accesses to come. `None`: the space is free.
    children: Vec<Option<u64>>,
    /// Spaces of children, in no order, so that one is picked at once.
    alive: Vec<u16>,
}

impl Forks {
    /// Such a family.
    pub fn new(family: Family, seed: u64) -> Forks {
        assert!(family.alive > 0, "nobody to fork");
        Forks {
            family,
            rng: Rng::new(seed),
            mapped: false,
            filled: 0,
            own: family.shape.accesses,
            forks: family.forks,
            children: vec![None; usize::from(family.alive)],
            alive: Vec::with_capacity(usize::from(family.alive)),
        }
    }

    fn space_of(&self, child: u16) -> Space {
        Space(self.family.shape.area.space.0 + 1 + child)
    }

    fn fork(&mut self) -> Event {
        self.forks -= 1;
        let by_child = !self.alive.is_empty() && self.rng.chance(10);
        let parent = if by_child { Some(self.any_child().1) } else { None };
        let parent = parent.map_or(self.family.shape.area.space, |child| self.space_of(child));
        let free = self.children.iter().position(Option::is_none).unwrap_or(0) as u16;
        self.children[usize::from(free)] = Some(self.family.accesses);
        self.alive.push(free);
        Event::Fork { parent, child: self.space_of(free) }
    }

    /// A child that lives, with its place in the list; there is one.
    fn any_child(&mut self) -> (usize, u16) {
        let at = self.rng.below(self.alive.len() as u64) as usize;
        (at, self.alive[at])
    }

    fn access(&mut self, space: Space) -> Event {
        let mut shape = self.family.shape;
        shape.area.space = space;
        shape.access(self.rng.below(shape.area.pages), &mut self.rng)
    }

    fn child(&mut self) -> Event {
        let (at, child) = self.any_child();
        let left = &mut self.children[usize::from(child)];
        match left.and_then(|left| left.checked_sub(1)) {
            Some(fewer) => {
                *left = Some(fewer);
                self.access(self.space_of(child))
            }
            None => {
                *left = None;
                self.alive.swap_remove(at);
                Event::Exit(self.space_of(child))
            }
        }
    }

    /// Fills the first process's memory, before anything else.
    fn fill(&mut self) -> Event {
        let mut shape = self.family.shape;
        shape.write_percent = 100;
        self.filled += 1;
        shape.access(self.filled - 1, &mut self.rng)
    }
}

impl Iterator for Forks {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        if !self.mapped {
            self.mapped = true;
            return Some(self.family.shape.map());
        }
        if self.filled < self.family.shape.area.pages {
            return Some(self.fill());
        }
        if self.forks > 0 && self.alive.len() < self.children.len() {
            return Some(self.fork());
        }
        let processes = self.alive.len() as u64 + 1;
        if self.own > 0 && (self.alive.is_empty() || self.rng.below(processes) == 0) {
            self.own -= 1;
            return Some(self.access(self.family.shape.area.space));
        }
        if self.alive.is_empty() { None } else { Some(self.child()) }
    }
}
