//! Random walks: long lists of events that happen to a [`Host`], from a seed.
//!
//! [`walk`] takes one, by its [`Walk`] (what it may meet) and a seed, which alone decides what happens. After every event
//! what it touched is checked, every thousandth time everything. What events met is counted ([`Tally`]): each event in
//! each state with each injection. Where something is wrong, the walk is played again with everything checked after every
//! event, and then events are left out as long as it fails all the same ([`Failure`]).
//!
//! Some of the events are any that may happen. The others lead up to combinations that chance hardly brings about
//! (`walk/scene.rs`).

mod events;
mod met;
mod scene;
mod setups;
mod shard;
mod shrink;
mod tally;

pub use met::Met;
pub use setups::{WALKS, Walk};
pub use shard::{EVENTS, LEAST, SHARD_EVENTS, Shard, run_shard};
pub use shrink::Failure;
pub use tally::Tally;

use crate::inject::{Lasting, Verb};
use crate::rng::Rng;
use crate::world::{Event, Host};
use events::Generator;
use quire_core::mmu::Refusal;
use quire_core::{PageRange, Vpn};
use std::panic::AssertUnwindSafe;

/// What a walk that went well has met.
#[derive(Clone, Debug, Default)]
pub struct Walked {
    /// What the engine counted.
    pub met: Met,
    /// What its events met.
    pub tally: Tally,
}

/// Walks from a seed.
pub fn walk(walk: &Walk, seed: u64) -> Result<Walked, Box<Failure>> {
    let mut events = Vec::with_capacity(walk.events);
    let walked = std::panic::catch_unwind(AssertUnwindSafe(|| go(walk, seed, &mut events)));
    match walked.unwrap_or_else(|_| Err("panicked".into())) {
        Ok(walked) => Ok(walked),
        Err(why) => Err(Box::new(shrink::shrink(walk, seed, events, why))),
    }
}

/// The events of a walk that goes well; those up to its failure otherwise.
pub fn recorded(walk: &Walk, seed: u64) -> Vec<Event> {
    let mut events = Vec::with_capacity(walk.events);
    let _ = go(walk, seed, &mut events);
    events
}

/// The lists are held to their history, which takes long, for so many events of each seed: in one of 32 of the longest walks,
/// and in one of three of the short ones.
const FOLLOWED: u64 = 625;

const fn follows(walk: &Walk, seed: u64) -> bool {
    seed.is_multiple_of(walk.events as u64 / FOLLOWED)
}

fn go(walk: &Walk, seed: u64, events: &mut Vec<Event>) -> Result<Walked, String> {
    let mut host = Host::new(walk.setup);
    host.watch();
    host.recount();
    if follows(walk, seed) {
        host.follow_lists();
    }
    host.count_cells();
    let mut generator = Generator::new(walk, Rng::new(seed));
    for _ in 0..walk.events {
        let event = generator.next(&host);
        events.push(event);
        host.happen(event)?;
    }
    let tally = host.tally().cloned().unwrap_or_default();
    end(&mut host).map_err(|why| format!("at the end: {why}"))?;
    Ok(Walked { met: Met::of(&host), tally })
}

/// Under a grant of nothing, reclaim moves out all that it can. Mostly it says then that it is stuck, and is taken at its
/// word; what was overdrawn may content it.
fn press_out(host: &mut Host) -> Result<(), String> {
    let grant = host.engine.grant();
    host.engine.set_grant(0);
    host.settle_to_grant()?;
    host.engine.set_grant(grant);
    Ok(())
}

/// Where all pages are refused for good, whatever is under way ends all the same, and reclaim says that it can do no more.
fn end_refused(host: &mut Host) -> Result<(), String> {
    let mut aside = host.aside();
    aside.mmu.injector.lasting = Some(Lasting::everywhere(Verb::MoveIn, Refusal::Denied));
    aside.drain_refused()?;
    aside.mmu.injector.lasting = Some(Lasting::everywhere(Verb::MoveOut, Refusal::Busy));
    aside.engine.set_grant(0);
    aside.settle_to_grant()
}

/// Ends all that is under way, presses everything out, reads every page back, and unmaps everything: nothing may be left.
fn end(host: &mut Host) -> Result<(), String> {
    host.check_whole()?;
    end_refused(host).map_err(|why| format!("with all refused: {why}"))?;
    host.drain()?;
    host.settle_to_grant()?;
    press_out(host)?;
    host.read_back()?;
    host.check_whole()?;
    let arena = host.setup().arena;
    for space in host.spaces.clone() {
        host.unmap(PageRange::new(space, Vpn(0), arena));
    }
    host.drain()?;
    host.check_whole()?;
    host.check_empty()
}
