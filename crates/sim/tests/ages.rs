//! Places on lists that walks come to seldom, with the lists held to their history (`sim/src/world/ages.rs`).

mod common;

use common::play;
use quire_core::frame::List;
use quire_core::mmu::{Prot, Refusal};
use quire_core::{Order, PolicyKind, Vpn};
use quire_sim::world::{Event, Setup};
use quire_sim::{Host, Injection, Verb};

const SETUP: Setup = Setup { policy: PolicyKind::Fixed(Order::fitting(4)), ..common::SETUP };

fn host(events: &[Event]) -> Host {
    let mut host = Host::new(SETUP);
    host.recount();
    host.follow_lists();
    play(&mut host, events);
    host
}

/// A child could not be given what its parent has in frames. It touches it: that is mapped, and counts as a touch.
#[test]
fn a_touch_of_a_shared_folio_makes_it_active() {
    let fill = [Event::Map(Vpn(0), 4, Prot::READ_WRITE), Event::Message(Vpn(1), true), Event::Run(0)];
    let mut host = host(&fill);
    let refused = Event::Inject(Injection::next(Verb::MapShared, Refusal::Again));
    play(&mut host, &[refused, Event::ForkSpace]);
    assert_eq!(host.engine.listed(List::Inactive).count(), 4, "shared, where it was");
    play(&mut host, &[Event::Process(1), Event::Message(Vpn(1), false)]);
    assert_eq!(host.engine.stats().shared_maps, 1);
    assert_eq!(host.engine.listed(List::Active).count(), 4);
    assert_eq!(host.engine.listed(List::Inactive).count(), 0);
}
