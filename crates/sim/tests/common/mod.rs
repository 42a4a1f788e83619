//! What the tests of few events share.

#![allow(dead_code, reason = "each test takes what it needs of it")]

use quire_core::{Order, PolicyKind};
use quire_sim::Host;
use quire_sim::world::{Event, Setup};

/// A small machine: all frames granted, folios of one page, no file.
pub(crate) const SETUP: Setup = Setup {
    frames: 64,
    segments: 32,
    grant: 64,
    policy: PolicyKind::Fixed(Order::BASE),
    arena: 32,
    threads: 4,
    spill: None,
};

/// Has events happen. Each must go well.
pub(crate) fn play(host: &mut Host, events: &[Event]) {
    for event in events {
        host.happen(*event).unwrap_or_else(|why| panic!("{event:?}: {why}"));
    }
}
