//! Many walks at once: every kind of walk, each from its next few seeds.

use super::{Failure, Met, Tally, WALKS, walk};

/// Events after which every possible combination must have been met [`LEAST`] times.
pub const EVENTS: u64 = 14_500_000;
/// See [`EVENTS`].
pub const LEAST: u64 = 1000;

/// Events of a shard.
pub const SHARD_EVENTS: u64 = {
    let (mut events, mut at) = (0, 0);
    while at < WALKS.len() {
        events += WALKS[at].events as u64 * WALKS[at].seeds;
        at += 1;
    }
    events
};

/// What the walks of a shard have met.
#[derive(Clone, Debug)]
pub struct Shard {
    /// What their events met.
    pub tally: Tally,
    /// What the engine counted, by kind of walk.
    pub met: Vec<Met>,
}

impl Default for Shard {
    fn default() -> Shard {
        Shard { tally: Tally::default(), met: vec![Met::default(); WALKS.len()] }
    }
}

impl Shard {
    /// Adds what another one has met.
    pub fn add(&mut self, more: &Shard) {
        self.tally.add(&more.tally);
        self.met.iter_mut().zip(&more.met).for_each(|(mine, theirs)| mine.add(theirs));
    }
}

/// Walks shard `number`, whose seeds no other has; `done` is told of the events of each walk. Stops at the first that
/// fails.
pub fn run_shard(number: u64, mut done: impl FnMut(u64)) -> Result<Shard, Box<Failure>> {
    let mut shard = Shard::default();
    for (kind, met) in WALKS.iter().zip(&mut shard.met) {
        for seed in number * kind.seeds..(number + 1) * kind.seeds {
            let walked = walk(kind, seed)?;
            shard.tally.add(&walked.tally);
            met.add(&walked.met);
            done(kind.events as u64);
        }
    }
    Ok(shard)
}
