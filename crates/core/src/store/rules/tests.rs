extern crate std;

use super::*;
use crate::job::{Outcome, Packed, Work};
use crate::mmu::tests::Released;
use crate::reclaim::Urgency;
use crate::store::{Block, Message, Tend, sizes};
use std::vec::Vec;

const GRANT: u32 = 320;

/// A store that can have some 64 segments, with a spill file or without.
fn store(file: bool) -> Store {
    let mut store = Store::new(64, 16, GRANT);
    store.index.segments.reserve(64);
    if file {
        store.open_file(0, 1 << 20);
    }
    store
}

/// Stores `pages` pages of `len` bytes in RAM.
fn fill(store: &mut Store, queue: Queue, pages: u32, len: u16) -> Vec<Block> {
    (0..pages)
        .map(|_| {
            let block = store.index.new_ram_block(queue, len, 0).expect("room");
            store.index.hand_over(block);
            store.index.name(block)
        })
        .collect()
}

fn drop(store: &mut Store, host: &mut Released, blocks: &[Block]) {
    blocks.iter().for_each(|&block| store.hear(host, Message::Drop(block)));
}

#[test]
fn what_hardly_compresses_waits_in_ram_up_to_a_limit_and_then_goes_to_the_file() {
    let mut store = store(true);
    let limit = store.division.waiting_limit(&store.grant);
    assert_eq!(limit, GRANT / 8);
    let waits = |store: &Store, pages: u32| store.waits_in_ram(pages, u64::from(pages) * 4096);
    assert!(waits(&store, limit) && !waits(&store, limit + 1));
    assert!(!store.waits_in_ram(1, 1000), "this one compresses");
    fill(&mut store, Queue::Incompressible, limit - 2, 4096);
    assert!(waits(&store, 2) && !waits(&store, 3));
    assert!(store.prefers_file(1, 4096) && !store.prefers_file(1, 1000));
    assert!(store.incompressible_is_full(), "all but a few have come");
    store.close_file();
    let full = store.incompressible_is_full();
    assert!(!waits(&store, 1) && !full && !store.prefers_file(1, 4096), "there is nothing to wait for");
}

#[test]
fn while_ram_is_full_everything_goes_to_the_file() {
    let mut store = store(true);
    let pages = store.limit();
    fill(&mut store, Queue::Dense, 8 * (pages - 1), 512);
    assert!(!store.prefers_file(1, 512) && store.ram_takes(4096) && !store.ram_takes(4097));
    fill(&mut store, Queue::Dense, 1, 512);
    assert!(store.prefers_file(1, 512) && !store.ram_takes(1));
    assert!(store.is_full());
    let mut work = Work::new();
    work.packed.extend([Packed::Zero, Packed::Small { len: 512, hash: 7 }]);
    assert!(store.place(&mut Released::default(), &mut work));
    let stored = work.kept[1].and_then(|block| store.look(block)).expect("it has a block");
    assert_eq!((work.kept[0], work.targets[0], work.targets[1]), (None, None, Some(stored.place)));
    assert!(matches!(stored.place, crate::job::Place::File { .. }) && stored.hash == 7);
}

#[test]
fn contents_are_judged_by_what_a_page_of_them_takes() {
    assert!(!is_incompressible(4, 3 * 4096) && is_incompressible(4, 3 * 4096 + 1));
    assert!(store(false).worth_ram(8, 7 * 4096) && !store(false).worth_ram(8, 7 * 4096 + 1));
    let packed = [Packed::Zero, Packed::Small { len: 17, hash: 1 }, Packed::Same, Packed::Raw { hash: 2 }];
    assert_eq!(sizes(&packed), (2, 32 + 4096));
}

#[test]
fn what_no_store_takes_is_refused_and_what_could_not_be_written_is_no_more() {
    let (mut store, mut host, mut work) = (store(false), Released::default(), Work::new());
    work.packed.push(Packed::Raw { hash: 1 });
    assert!(!store.place(&mut host, &mut work) && work.kept.is_empty());
    store.open_file(0, 1 << 20);
    assert!(store.place(&mut host, &mut work));
    assert_eq!((store.holdings().blocks, store.index.unnamed()), (1, 1));
    store.written(&mut host, &mut work, Outcome::Failed);
    assert_eq!(store.holdings(), crate::store::StoreHoldings::default());
    assert!(!store.figures().has_file && work.kept.is_empty(), "the disk failed");
}

#[test]
fn gaps_of_more_than_an_eighth_are_cleaned_from_the_emptiest_segment() {
    let mut store = store(false);
    let mut host = Released::default();
    // Eight closed segments of 16 pages, and the begin of another.
    let blocks = fill(&mut store, Queue::Dense, 129, 4096);
    let eighth: Vec<Block> = blocks.iter().copied().step_by(8).take(16).collect();
    drop(&mut store, &mut host, &eighth);
    assert!(!store.clean(&mut host), "an eighth is little enough");
    drop(&mut store, &mut host, &blocks[1..2]);
    assert!(!store.clean(&mut host), "no segment has a quarter of gaps");
    drop(&mut store, &mut host, &blocks[2..4]);
    assert!(store.clean(&mut host));
    assert_eq!(host.moved.len(), 11, "what was left of the first one");
    assert!(host.moved.iter().all(|(from, to, len)| *from < 16 * 256 && *to >= 9 * 16 * 256 && *len == 4096));
    assert_eq!(store.figures().blocks_in_ram, 129 - 19);
    store.index.validate(None).unwrap();
}

#[test]
fn a_spill_moves_what_is_still_needed_when_it_ends() {
    let (mut store, mut host, mut work) = (store(true), Released::default(), Work::new());
    let pages = store.limit();
    let blocks = fill(&mut store, Queue::Dense, pages, 4096);
    assert_eq!(store.tend(&mut host, Urgency::Direct, &mut work), Tend::Job);
    assert_eq!((work.blocks.len(), work.sources.len(), work.targets.len()), (64, 64, 64));
    assert_eq!(store.tend(&mut host, Urgency::Direct, &mut Work::new()), Tend::Idle, "one at a time");
    let gone: Vec<Block> = work.blocks.iter().copied().flatten().take(3).collect();
    drop(&mut store, &mut host, &gone);
    assert!(gone.iter().all(|&block| store.look(block).is_none()));
    store.index.validate(store.spilling).unwrap();
    store.spilled(&mut host, &work, Outcome::Done);
    let figures = store.figures();
    assert_eq!((figures.pages_spilled, figures.blocks_in_ram), (61, blocks.len() as u32 - 64));
    for (block, target) in work.blocks.iter().flatten().zip(&work.targets).skip(3) {
        assert_eq!(store.look(*block).map(|stored| stored.place), *target);
    }
    store.index.validate(None).unwrap();
}

/// Half of memory is in frames, four times as much is only stored, and what comes back had just left.
#[test]
fn a_working_set_that_nearly_fits_gets_frames() {
    let mut store = Store::new(64, 16, 1024);
    store.open_file(0, 1 << 20);
    let before = store.limit();
    (0..12 * 32).for_each(|rank| store.note_refault(rank, 512, 4000));
    assert_eq!((before, store.limit()), (1024 * 19 / 32, 1024 * 13 / 32));
}

#[test]
fn whether_all_fits_follows_from_how_dense_the_store_is() {
    let mut store = Store::new(64, 16, 1024);
    store.open_file(0, 1 << 20);
    store.index.segments.reserve(64);
    let divide = |store: &mut Store| (0..128).for_each(|_| store.note_refault(4000, 0, 4000));
    divide(&mut store);
    assert!(!store.figures().fits, "as far as is known, two and a half pages lie in one");
    fill(&mut store, Queue::Dense, 1000, 500);
    divide(&mut store);
    assert!(store.figures().fits, "eight do");
}
