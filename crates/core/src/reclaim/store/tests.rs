use super::*;
use crate::engine::Config;
use crate::fault::PolicyKind;
use crate::order::Order;

const GRANT: u32 = 320;

/// An engine whose store can have some 64 spans, with a spill file or without.
fn engine(file: bool) -> Engine {
    let policy = PolicyKind::Fixed(Order::BASE);
    let mut engine = Engine::new(Config { frames: GRANT, spans: 64, grant: GRANT, policy });
    engine.swap.spans.reserve(64);
    if file {
        engine.open_spill_file(0, 1 << 20);
    }
    engine
}

/// Stores `pages` pages of `len` bytes in RAM.
fn store(engine: &mut Engine, queue: Queue, pages: u32, len: u16) {
    let extent = engine.swap.new_ram_extent(queue);
    (0..pages).for_each(|_| _ = engine.swap.new_ram_block(extent, len, 0, 0).expect("room"));
}

#[test]
fn without_a_file_the_store_is_tight_when_half_of_its_part_is_taken() {
    let mut engine = engine(false);
    let half = engine.store_limit() / 2;
    engine.set_overhead(half);
    assert!(!engine.store_is_tight());
    engine.set_overhead(half + 1);
    assert!(engine.store_is_tight(), "the host's tables count");
    engine.set_overhead(half - 7);
    store(&mut engine, Queue::Dense, 1, 100);
    assert!(engine.store_is_tight(), "and so does each span");
    engine.open_spill_file(0, 1 << 20);
    assert!(!engine.store_is_tight(), "a file takes over");
}

#[test]
fn what_hardly_compresses_waits_in_ram_up_to_a_limit_and_then_goes_to_the_file() {
    let mut engine = engine(true);
    let limit = engine.poor_limit();
    assert_eq!(limit, GRANT / 8);
    let waits = |engine: &Engine, pages: u32| engine.waits_in_ram(pages, u64::from(pages) * 4096);
    assert!(waits(&engine, limit) && !waits(&engine, limit + 1));
    assert!(!engine.waits_in_ram(1, 1000), "this one compresses");
    store(&mut engine, Queue::Poor, limit - 2, 4096);
    assert!(waits(&engine, 2) && !waits(&engine, 3));
    assert!(engine.prefers_file(1, 4096) && !engine.prefers_file(1, 1000));
    let full = |engine: &Engine| engine.poor_is_full();
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
    let spans = engine.store_limit() / (SPAN_BYTES / PAGE_SIZE) as u32;
    store(&mut engine, Queue::Dense, 64 * (spans - 1), 512);
    assert!(!engine.prefers_file(1, 512) && engine.ram_takes(1) && !engine.ram_takes(2));
    store(&mut engine, Queue::Dense, 1, 512);
    assert!(engine.prefers_file(1, 512) && !engine.ram_takes(1));
    assert!(engine.store_is_full());
}

#[test]
fn contents_are_judged_by_what_a_page_of_them_takes() {
    assert!(!is_poor(4, 3 * 4096) && is_poor(4, 3 * 4096 + 1));
    assert!(engine(false).worth_ram(8, 7 * 4096) && !engine(false).worth_ram(8, 7 * 4096 + 1));
    let packed = [Packed::Zero, Packed::Small { len: 17, hash: 1 }, Packed::Same, Packed::Raw { hash: 2 }];
    assert_eq!(sizes(&packed), (2, 32 + 4096));
}
