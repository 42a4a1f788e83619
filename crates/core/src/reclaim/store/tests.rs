use super::*;
use crate::engine::Config;
use crate::mmu::tests::Released;
use crate::order::Order;
use crate::policy::PolicyKind;

const GRANT: u32 = 320;

/// An engine whose store can have some 64 segments, with a spill file or without.
fn engine(file: bool) -> Engine {
    let policy = PolicyKind::Fixed(Order::BASE);
    let mut engine =
        Engine::new(Config { frames: GRANT, segments: 64, segment_pages: 16, grant: GRANT, policy });
    engine.swap.segments.reserve(64);
    if file {
        engine.open_spill_file(0, 1 << 20);
    }
    engine
}

/// Stores `pages` pages of `len` bytes in RAM.
fn store(engine: &mut Engine, queue: Queue, pages: u32, len: u16) {
    (0..pages).for_each(|_| _ = engine.swap.new_ram_block(queue, len, 0, 0).expect("room"));
}

#[test]
fn without_a_file_the_store_is_tight_when_half_of_its_part_is_taken() {
    let mut engine = engine(false);
    let half = engine.store_limit() / 2;
    engine.set_overhead(half);
    assert!(!engine.store_is_tight());
    engine.set_overhead(half + 1);
    assert!(engine.store_is_tight(), "the host's tables count");
    engine.set_overhead(half);
    store(&mut engine, Queue::Dense, 1, 100);
    assert!(engine.store_is_tight(), "and so does each page of the store");
    engine.open_spill_file(0, 1 << 20);
    assert!(!engine.store_is_tight(), "a file takes over");
}

#[test]
fn what_hardly_compresses_waits_in_ram_up_to_a_limit_and_then_goes_to_the_file() {
    let mut engine = engine(true);
    let limit = engine.division.waiting_limit(&engine.grant);
    assert_eq!(limit, GRANT / 8);
    let waits = |engine: &Engine, pages: u32| engine.waits_in_ram(pages, u64::from(pages) * 4096);
    assert!(waits(&engine, limit) && !waits(&engine, limit + 1));
    assert!(!engine.waits_in_ram(1, 1000), "this one compresses");
    store(&mut engine, Queue::Incompressible, limit - 2, 4096);
    assert!(waits(&engine, 2) && !waits(&engine, 3));
    assert!(engine.prefers_file(1, 4096) && !engine.prefers_file(1, 1000));
    let full = |engine: &Engine| engine.incompressible_is_full();
    assert!(full(&engine), "all but a few have come");
    engine.swap.close_file();
    assert!(
        !waits(&engine, 1) && !full(&engine) && !engine.prefers_file(1, 4096),
        "there is nothing to wait for"
    );
}

#[test]
fn while_ram_is_full_everything_goes_to_the_file() {
    let mut engine = engine(true);
    let pages = engine.store_limit();
    store(&mut engine, Queue::Dense, 8 * (pages - 1), 512);
    assert!(!engine.prefers_file(1, 512) && engine.ram_takes(4096) && !engine.ram_takes(4097));
    store(&mut engine, Queue::Dense, 1, 512);
    assert!(engine.prefers_file(1, 512) && !engine.ram_takes(1));
    assert!(engine.store_is_full());
}

#[test]
fn contents_are_judged_by_what_a_page_of_them_takes() {
    assert!(!is_incompressible(4, 3 * 4096) && is_incompressible(4, 3 * 4096 + 1));
    assert!(engine(false).worth_ram(8, 7 * 4096) && !engine(false).worth_ram(8, 7 * 4096 + 1));
    let packed = [Packed::Zero, Packed::Small { len: 17, hash: 1 }, Packed::Same, Packed::Raw { hash: 2 }];
    assert_eq!(sizes(&packed), (2, 32 + 4096));
}

#[test]
fn gaps_of_more_than_an_eighth_are_cleaned_from_the_emptiest_segment() {
    let mut engine = engine(false);
    let mut host = Released::default();
    // Eight closed segments of 16 pages, and the begin of another.
    store(&mut engine, Queue::Dense, 129, 4096);
    (0..129).for_each(|block| engine.swap.unpin(block, &mut host));
    (0..16).for_each(|page| engine.swap.free(page * 8, &mut host));
    assert!(!engine.clean_store(&mut host), "an eighth is little enough");
    engine.swap.free(1, &mut host);
    assert!(!engine.clean_store(&mut host), "no segment has a quarter of gaps");
    (2..4).for_each(|block| engine.swap.free(block, &mut host));
    assert!(engine.clean_store(&mut host));
    assert_eq!(host.moved.len(), 11, "what was left of the first one");
    assert!(host.moved.iter().all(|(from, to, len)| *from < 16 * 256 && *to >= 9 * 16 * 256 && *len == 4096));
    assert_eq!(engine.swap.blocks_in_ram(), 129 - 19);
    engine.swap.validate(&[], &[]).unwrap();
}

#[test]
fn copies_are_given_up_while_memory_is_short_and_writers_keep_up() {
    let mut engine = engine(true);
    assert!(!engine.copies_cost_frames(), "there is room");
    let take = |engine: &mut Engine, pages: u32| {
        (0..pages).for_each(|_| {
            let base = crate::OrderSet::only(Order::BASE);
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
    engine.set_overhead(engine.store_limit() / 4 * 3 + 1);
    assert!(engine.copies_cost_frames(), "the store has hardly room itself");
}
