//! A workload that changes its ways.

use super::steady::{Pattern, Sequential, Shape, Sparse};
use super::zipf::Skewed;
use crate::rng::Rng;
use crate::trace::Event;

/// Phases in turn: a part of the area is scanned densely; then few pages in each 2 MiB of all of it are used; then
/// another part by Zipf's law. Between phases it rests.
///
/// Stands for programs that load, compute and wait: what was right a minute ago is wrong now. A change has to bring
/// collapses and splits, and the time without one none.
#[derive(Clone, Debug)]
pub struct Phases {
    shape: Shape,
    rest_ns: u64,
    rng: Rng,
    phases: u64,
    /// The number of this phase, and its accesses to come.
    number: u64,
    left: u64,
    now: Phase,
    mapped: bool,
}

/// What is done in a phase; the number is the first page of the part, counted from the start of the area.
#[derive(Clone, Debug)]
enum Phase {
    Dense(u64, Sequential),
    Sparse(Sparse),
    Skewed(u64, Skewed),
}

/// The area has this many parts.
const PARTS: u64 = 4;
/// Pages in each 2 MiB that a sparse phase uses.
const SPARSE_PAGES: u64 = 16;

impl Phases {
    /// `phases` phases that share the accesses of `shape`, and rest for `rest_ns` nanoseconds in between. The area is
    /// at least 2 MiB.
    pub fn new(shape: Shape, phases: u64, rest_ns: u64, seed: u64) -> Phases {
        assert!(phases > 0, "a workload without a phase");
        let rng = Rng::new(seed);
        let now = Phase::begin(0, shape.area.pages, &mut rng.part(0));
        let left = shape.accesses / phases;
        Phases { shape, rest_ns, rng, phases, number: 0, left, now, mapped: false }
    }
}

impl Phase {
    /// The phase with this number.
    fn begin(number: u64, pages: u64, rng: &mut Rng) -> Phase {
        let part = pages / PARTS;
        let start = rng.below(PARTS) * part;
        match number % 3 {
            0 => Phase::Dense(start, Sequential::new(part)),
            1 => Phase::Sparse(Sparse::new(pages, SPARSE_PAGES, rng.any())),
            _ => Phase::Skewed(start, Skewed::new(part, 0.99, rng.any())),
        }
    }

    fn page(&mut self, rng: &mut Rng) -> u64 {
        match self {
            Phase::Dense(start, pattern) => *start + pattern.page(rng),
            Phase::Sparse(pattern) => pattern.page(rng),
            Phase::Skewed(start, pattern) => *start + pattern.page(rng),
        }
    }
}

impl Iterator for Phases {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        if !self.mapped {
            self.mapped = true;
            return Some(self.shape.map());
        }
        if self.left > 0 {
            self.left -= 1;
            let page = self.now.page(&mut self.rng);
            return Some(self.shape.access(page, &mut self.rng));
        }
        if self.number + 1 == self.phases {
            return None;
        }
        self.number += 1;
        self.left = self.shape.accesses / self.phases;
        self.now = Phase::begin(self.number, self.shape.area.pages, &mut self.rng.part(self.number));
        Some(Event::Time { ns: self.rest_ns })
    }
}
