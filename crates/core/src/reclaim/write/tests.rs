use crate::engine::{Config, Engine};
use crate::order::{Order, OrderSet};
use crate::policy::PolicyKind;
use crate::store::{Figures, Store};

const GRANT: u32 = 320;

/// An engine that sees a store as it is to begin with, with a spill file or without.
fn engine(file: bool) -> Engine {
    let policy = PolicyKind::Fixed(Order::BASE);
    let mut engine = Engine::new(Config { frames: GRANT, grant: GRANT, policy });
    engine.store = Figures { has_file: file, ..Store::new(64, 16, GRANT).figures() };
    engine
}

#[test]
fn without_a_file_the_store_is_tight_when_half_of_its_part_is_taken() {
    let mut engine = engine(false);
    let half = engine.store.limit / 2;
    engine.set_overhead(half);
    assert!(!engine.store_is_tight());
    engine.set_overhead(half + 1);
    assert!(engine.store_is_tight(), "the host's tables count");
    engine.set_overhead(half);
    engine.store.ram_pages = 1;
    assert!(engine.store_is_tight(), "and so does each page of the store");
    engine.store.has_file = true;
    assert!(!engine.store_is_tight(), "a file takes over");
}

#[test]
fn copies_are_given_up_while_memory_is_short_and_writers_keep_up() {
    let mut engine = engine(true);
    assert!(!engine.copies_cost_frames(), "there is room");
    let take = |engine: &mut Engine, pages: u32| {
        (0..pages).for_each(|_| {
            let base = OrderSet::only(Order::BASE);
            assert!(engine.pool.take(base, crate::frame::Use::Zeroes, GRANT).is_some());
        });
    };
    let taken = GRANT - engine.fresh_goal() - GRANT / 32;
    take(&mut engine, taken);
    assert!(engine.copies_cost_frames());
    let room = engine.room();
    take(&mut engine, room);
    assert!(engine.starved() && !engine.copies_cost_frames(), "faults wait for writers");
    let mut engine = self::engine(true);
    engine.set_overhead(engine.store.limit / 4 * 3 + 1);
    assert!(engine.copies_cost_frames(), "the store has hardly room itself");
}

/// What has just left belongs in RAM wherever more is there; where nothing is, no page does.
#[test]
fn where_nothing_is_stored_in_ram_no_page_belongs_there() {
    let mut engine = engine(true);
    let now = engine.ranks.now();
    assert!(!engine.belongs_in_ram(now));
    engine.store.blocks_in_ram = 1;
    assert!(engine.belongs_in_ram(now), "nothing left after it");
}
