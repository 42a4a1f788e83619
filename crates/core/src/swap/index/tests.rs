extern crate std;

use super::*;
use crate::mmu::tests::Released;
use std::vec::Vec;

fn index() -> SwapIndex {
    let mut index = SwapIndex::new(64);
    index.spans.reserve(64);
    index
}

/// An extent of `count` blocks of `len` bytes in RAM, which their writer has let go of.
fn extent(index: &mut SwapIndex, queue: Queue, len: u16, count: u32) -> (u32, Vec<u32>) {
    let extent = index.new_ram_extent(queue);
    let blocks: Vec<u32> = (0..count).map(|_| index.new_ram_block(extent, len, 0, 0).unwrap()).collect();
    blocks.iter().for_each(|&block| index.unpin(block, &mut Released::default()));
    (extent, blocks)
}

#[test]
fn what_is_stored_is_counted_by_where_it_is() {
    let mut index = index();
    extent(&mut index, Queue::Poor, 4096, 3);
    let (_, dense) = extent(&mut index, Queue::Dense, 100, 2);
    assert_eq!((index.poor_pages(), index.blocks_in_ram(), index.blocks_used()), (3, 5, 5));
    assert_eq!(index.ram_pages(), 2 * 8, "a span for each size");
    assert_eq!((index.has_file(), index.file_bytes()), (false, 0));
    index.open_file(7, 1 << 20);
    let file = index.new_file_extent(5000).unwrap();
    assert_eq!(index.file_bytes(), 8192, "whole units");
    let mut host = Released::default();
    index.pin(dense[1]);
    assert!(index.move_to_file(dense[1], file, 32, &mut host));
    assert_eq!(index.stored(dense[1]).place, Place::File { file: 7, at: 32 });
    assert!(index.is_in_file(dense[1]) && !index.is_in_file(dense[0]));
    assert_eq!((index.blocks_in_ram(), index.blocks_used()), (4, 5));
    index.unpin(dense[1], &mut host);
    dense.iter().for_each(|&block| index.free(block, &mut host));
    assert_eq!((index.file_bytes(), index.ram_pages()), (0, 8), "with its last block an extent goes");
    assert_eq!(host.spans, [1], "and with its last object a span");
    index.validate(&[], &[]).unwrap();
}

#[test]
fn a_dead_block_stays_for_the_last_job_that_uses_it() {
    let mut index = index();
    let (_, blocks) = extent(&mut index, Queue::Dense, 200, 2);
    let mut host = Released::default();
    index.pin(blocks[0]);
    index.pin(blocks[0]);
    index.free(blocks[0], &mut host);
    index.unpin(blocks[0], &mut host);
    assert_eq!((index.dead_blocks(), index.blocks_used(), index.pins(blocks[0])), (1, 2, (1, true)));
    assert!(!index.is_live(blocks[0]) && index.is_live(blocks[1]));
    index.unpin(blocks[0], &mut host);
    assert_eq!((index.dead_blocks(), index.blocks_used()), (0, 1));
    index.validate(&[], &[]).unwrap();
}

#[test]
fn a_block_goes_with_the_last_page_that_names_it() {
    let mut index = index();
    let (_, blocks) = extent(&mut index, Queue::Dense, 200, 1);
    let mut host = Released::default();
    assert!(index.join(blocks[0]) && index.join(blocks[0]));
    assert_eq!(index.refs(blocks[0]), 3);
    index.free(blocks[0], &mut host);
    index.free(blocks[0], &mut host);
    assert_eq!((index.refs(blocks[0]), index.blocks_used(), host.spans.len()), (1, 1, 0));
    index.free(blocks[0], &mut host);
    assert_eq!((index.blocks_used(), host.spans.len()), (0, 1));
}

/// The random walks rely on the checks: each thing they look at is put wrong once.
#[test]
fn the_checks_find_an_extent_that_is_out_of_place() {
    let mut index = index();
    let first = extent(&mut index, Queue::Dense, 100, 1).0 as usize;
    let second = extent(&mut index, Queue::Dense, 100, 1).0 as usize;
    index.validate(&[], &[]).unwrap();
    let finds = |what: &str, damage: fn(&mut Extent)| {
        let mut damaged = index.clone();
        damage(&mut damaged.extents[second]);
        assert!(damaged.validate(&[], &[]).is_err(), "an extent in a queue {what}");
    };
    finds("without blocks", |extent| extent.live = 0);
    finds("in a file", |extent| extent.in_file = true);
    finds("of the other kind", |extent| extent.queue = Queue::Poor);
    finds("that names no older one", |extent| extent.older = NIL);
    let mut damaged = index.clone();
    damaged.queues[0].youngest = first as u32;
    assert!(damaged.validate(&[], &[]).is_err(), "a queue that ends too late");
    damaged = index.clone();
    damaged.free_extent = first as u32;
    assert!(damaged.validate(&[], &[]).is_err(), "an extent in a queue and free");
}

#[test]
fn the_checks_find_blocks_that_are_not_as_counted() {
    let mut index = index();
    let (id, _) = extent(&mut index, Queue::Poor, 4000, 2);
    index.validate(&[], &[]).unwrap();
    let finds = |what: &str, damage: &dyn Fn(&mut SwapIndex)| {
        let mut damaged = index.clone();
        damage(&mut damaged);
        assert!(damaged.validate(&[], &[]).is_err(), "{what}");
    };
    finds("bytes", &|index| index.queues[1].bytes += 1);
    finds("blocks", &|index| index.queues[1].blocks -= 1);
    finds("blocks of an extent", &|index| index.extents[id as usize].live = 0);
    finds("a job's block that has none", &|index| index.pin(0));
    finds("a block that nobody names", &|index| index.blocks[0].refs = 0);
    finds("a block in another extent", &|index| index.blocks[0].extent = 1 - id);
    finds("a block that is free too", &|index| index.free_block = 0);
    finds("free blocks that are lost", &|index| index.free_block = NIL);
    finds("an object without a block", &|index| _ = index.spans.alloc(100));
    finds("a block without an object", &|index| index.blocks[0].at += 3 * 256);
    finds("two blocks in one object", &|index| index.blocks[0].at = index.blocks[1].at);
}

#[test]
fn the_checks_find_room_of_a_spill_file_that_is_lost() {
    let mut index = index();
    index.open_file(0, 1 << 20);
    let mut store = |pages: u64| {
        let extent = index.new_file_extent(pages * 4096).unwrap();
        let blocks = (0..pages).map(|i| index.new_file_block(extent, i * 4096, 4096, 0, 0));
        (extent, blocks.collect::<Vec<u32>>())
    };
    let ((first, blocks), (second, more)) = (store(2), store(3));
    for block in blocks.into_iter().chain(more) {
        index.unpin(block, &mut Released::default());
    }
    index.validate(&[], &[]).unwrap();
    let empty = index.new_file_extent(4096).unwrap();
    assert!(index.validate(&[], &[]).is_err(), "an extent without a block or a job");
    index.validate(&[], &[empty]).unwrap();
    index.drop_if_empty(empty);
    let finds = |what: &str, damage: &dyn Fn(&mut SwapIndex)| {
        let mut damaged = index.clone();
        damage(&mut damaged);
        assert!(damaged.validate(&[], &[]).is_err(), "{what}");
    };
    finds("units that no extent has", &|index| _ = index.file.as_mut().unwrap().1.alloc(1));
    finds("units that are free", &|index| index.file.as_mut().unwrap().1.free(4, 1));
    finds("extents that overlap", &|index| index.extents[second as usize].file_start = 1);
    finds("an extent that is longer", &|index| index.extents[first as usize].file_units = 3);
    finds("a block beyond its extent", &|index| index.blocks[0].at += 8192 / 16);
    finds("blocks that overlap", &|index| index.blocks[0].at = 255);
    finds("an extent that is nowhere", &|index| index.extents[first as usize].in_file = false);
}
