//! Workloads: what programs do to their memory, made up from a seed.
//!
//! Each is an iterator of [`Event`]s that keeps no event: how long it is makes no difference. Equal arguments give equal
//! events, on every machine. They can be replayed, or written as a trace.
//!
//! A [`Steady`] workload maps an area and accesses it by one [`Pattern`]: [`Sequential`], [`Strided`], [`Uniform`],
//! [`Skewed`] or [`Sparse`]. [`Phases`] changes its ways, [`Ageing`] maps and unmaps for days, [`Forks`] is a family
//! of processes, and [`Several`] are programs in one memory. What each stands for is with it. [`Kind`] names them
//! all, with numbers that make a fair one of any size.

mod ageing;
mod forks;
mod permutation;
mod phases;
mod real;
mod several;
mod steady;
#[cfg(test)]
mod tests;
mod zipf;

pub use ageing::{Ageing, Days};
pub use forks::{Family, Forks};
pub use phases::Phases;
pub use several::Several;
pub use steady::{Pattern, Sequential, Shape, Sparse, Steady, Strided, Uniform};
pub use zipf::{Skewed, Zipf};

use crate::rng::Rng;
use crate::trace::Event;
use core::fmt;
use core::str::FromStr;
use quire_core::Space;

/// Every workload, by name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// [`Sequential`], each page 64 times: once a cache line.
    Sequential,
    /// [`Strided`] by 33 pages.
    Strided,
    /// [`Uniform`].
    Uniform,
    /// [`Skewed`] by 0.99.
    Zipf,
    /// [`Sparse`], 8 pages in each 2 MiB.
    Sparse,
    /// [`Phases`], six of them, with an hour between.
    Phases,
    /// [`Ageing`] for 14 days.
    Ageing,
    /// [`Forks`], one for each 1000 accesses, four alive beside the first.
    Forks,
    /// [`Several`]: sequential, skewed, sparse, and a family.
    Several,
}

/// How large a workload is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Size {
    /// Pages of memory, of all its programs; at least 4096 (16 MiB).
    pub pages: u64,
    /// Events, about.
    pub events: u64,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 9] = [
        Kind::Sequential,
        Kind::Strided,
        Kind::Uniform,
        Kind::Zipf,
        Kind::Sparse,
        Kind::Phases,
        Kind::Ageing,
        Kind::Forks,
        Kind::Several,
    ];

    /// Its name on a command line.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Sequential => "sequential",
            Kind::Strided => "strided",
            Kind::Uniform => "uniform",
            Kind::Zipf => "zipf",
            Kind::Sparse => "sparse",
            Kind::Phases => "phases",
            Kind::Ageing => "ageing",
            Kind::Forks => "forks",
            Kind::Several => "several",
        }
    }

    /// Its events, in space 0 and those that follow.
    pub fn events(self, size: Size, seed: u64) -> Box<dyn Iterator<Item = Event>> {
        self.events_in(Space(0), size, seed)
    }

    /// Its events, in `space` and those that follow.
    fn events_in(self, space: Space, size: Size, seed: u64) -> Box<dyn Iterator<Item = Event>> {
        let Size { pages, events } = size;
        let shape = Shape::new(space, pages, events);
        match self {
            Kind::Sequential => {
                Box::new(Steady::new(Shape { times: 64, ..shape }, Sequential::new(pages), seed))
            }
            Kind::Strided => Box::new(Steady::new(shape, Strided::new(pages, 33), seed)),
            Kind::Uniform => Box::new(Steady::new(shape, Uniform::new(pages), seed)),
            Kind::Zipf => Box::new(Steady::new(shape, Skewed::new(pages, 0.99, seed), seed)),
            Kind::Sparse => Box::new(Steady::new(shape, Sparse::new(pages, 8, seed), seed)),
            Kind::Phases => Box::new(Phases::new(shape, 6, 3600 * 1_000_000_000, seed)),
            Kind::Ageing => Box::new(Ageing::new(ageing(space, size), seed)),
            Kind::Forks => Box::new(Forks::new(family(space, size), seed)),
            Kind::Several => Box::new(several(space, size, seed)),
        }
    }
}

/// Two weeks, with as many calls as make the events.
fn ageing(space: Space, size: Size) -> Days {
    const DAYS: u64 = 14;
    const FILLING: usize = 8;
    let largest = Days::largest_for(size.pages);
    let calls_per_day = (size.events / Days::events_per_call(largest) / DAYS).max(1);
    Days { space, days: DAYS, calls_per_day, pages: size.pages, filling: FILLING, largest }
}

/// A family whose first process has half of the accesses, once its memory is filled.
fn family(space: Space, size: Size) -> Family {
    let accesses = size.events.saturating_sub(size.pages) / 2;
    let shape = Shape::new(space, size.pages, accesses);
    Family { shape, forks: accesses / 1000, alive: 4, accesses: 1000 }
}

fn several(space: Space, size: Size, seed: u64) -> Several {
    let each = Size { pages: (size.pages / 4).max(1024), events: size.events / 4 };
    let kinds = [Kind::Sequential, Kind::Zipf, Kind::Sparse, Kind::Forks];
    let programs = kinds.iter().zip(0..).map(|(kind, i)| {
        let seed = Rng::new(seed).part(u64::from(i)).any();
        kind.events_in(Space(space.0 + i), each, seed)
    });
    Several::new(programs.collect(), 1000, seed)
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that no workload has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownKind;

impl fmt::Display for UnknownKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no such workload: there are {}", Kind::ALL.map(Kind::name).join(", "))
    }
}

impl std::error::Error for UnknownKind {}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Kind, UnknownKind> {
        Kind::ALL.into_iter().find(|k| k.name() == name).ok_or(UnknownKind)
    }
}
