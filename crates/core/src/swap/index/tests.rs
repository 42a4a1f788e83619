extern crate std;

use super::*;
use crate::mmu::tests::Released;
use std::vec::Vec;

fn index() -> SwapIndex {
    let mut index = SwapIndex::new(64, 4);
    index.segments.reserve(64);
    index
}

/// `count` blocks of `len` bytes in RAM, which their writer has let go of.
fn blocks(index: &mut SwapIndex, queue: Queue, len: u16, count: u32) -> Vec<u32> {
    let blocks: Vec<u32> = (0..count).map(|_| index.new_ram_block(queue, len, 0, 0).unwrap()).collect();
    blocks.iter().for_each(|&block| index.unpin(block, &mut Released::default()));
    blocks
}

#[test]
fn what_is_stored_is_counted_by_where_it_is() {
    let mut index = index();
    blocks(&mut index, Queue::Incompressible, 4096, 3);
    let dense = blocks(&mut index, Queue::Dense, 100, 2);
    assert_eq!((index.incompressible_pages(), index.blocks_in_ram(), index.blocks_used()), (3, 5, 5));
    assert_eq!(index.ram_pages(), 3 + 1);
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
    assert_eq!((index.file_bytes(), index.ram_pages()), (0, 4), "with its last block an extent goes");
    let more = blocks(&mut index, Queue::Dense, 4096, 8);
    more.iter().for_each(|&block| index.free(block, &mut host));
    assert_eq!(host.stored, std::vec![8..12], "and with its last object a segment, but for one that is kept");
    index.validate(&[], &[]).unwrap();
}

#[test]
fn a_dead_block_stays_for_the_last_job_that_uses_it() {
    let mut index = index();
    let blocks = blocks(&mut index, Queue::Dense, 200, 2);
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
    let blocks = blocks(&mut index, Queue::Dense, 200, 1);
    let mut host = Released::default();
    assert!(index.join(blocks[0]) && index.join(blocks[0]));
    assert_eq!(index.refs(blocks[0]), 3);
    index.free(blocks[0], &mut host);
    index.free(blocks[0], &mut host);
    assert_eq!((index.refs(blocks[0]), index.blocks_used(), index.blocks_in_ram()), (1, 1, 1));
    index.free(blocks[0], &mut host);
    assert_eq!((index.blocks_used(), index.blocks_in_ram()), (0, 0));
}

#[test]
fn what_is_left_of_the_emptiest_segment_moves_as_far_as_no_job_uses_it() {
    let mut index = index();
    let mut host = Released::default();
    let all = blocks(&mut index, Queue::Dense, 4000, 9);
    assert_eq!(index.clean(3 * 4096, &mut host), 0, "none has that much room");
    for at in [0, 4, 5] {
        index.free(all[at], &mut host);
    }
    index.pin(all[6]);
    assert_eq!(index.clean(3 * 4096, &mut host), 4000);
    assert_eq!(host.moved, [(4 * 256 + 3 * 250, 3 * 1024, 4000)]);
    assert_eq!(index.stored(all[7]).place, Place::Ram { at: 3 * 1024 });
    assert_eq!(index.stored(all[6]).place, Place::Ram { at: 1024 + 2 * 250 }, "a reader is there");
    index.validate(&[all[6]], &[]).unwrap();
    index.unpin(all[6], &mut host);
    assert_eq!(index.clean(3 * 4096, &mut host), 4000);
    assert_eq!(
        (index.segments.segments_used(), index.ram_pages()),
        (3, 4 + 1 + 2 + 4),
        "one is empty, and kept"
    );
    index.validate(&[], &[]).unwrap();
}

#[test]
fn the_oldest_spill_first_but_for_those_that_were_moved_out_again() {
    let mut index = index();
    let mut host = Released::default();
    let all: Vec<u32> =
        (0..8).map(|clock| index.new_ram_block(Queue::Dense, 4000, 0, clock).unwrap()).collect();
    all.iter().for_each(|&block| index.unpin(block, &mut host));
    index.touch(all[1], 9);
    index.pin(all[2]);
    let mut list = |index: &mut SwapIndex, bytes, most| {
        let mut out = Vec::new();
        index.oldest_blocks(Queue::Dense, bytes, most, &mut out, &mut host);
        out.iter().map(|block| all.iter().position(|b| b == block).unwrap()).collect::<Vec<_>>()
    };
    // Of a segment the youngest is first.
    assert_eq!(list(&mut index, 8000, 9), [3, 0]);
    assert_eq!(index.stored(all[1]).place, Place::Ram { at: 2 * 1024 }, "the youngest of all now");
    assert_eq!(list(&mut index, 1 << 20, 4), [3, 0, 7, 6]);
    assert_eq!(list(&mut index, 1 << 20, 100), [3, 0, 7, 6, 5, 4, 1]);
    index.validate(&[all[2]], &[]).unwrap();
}

/// The random walks rely on the checks: each thing they look at is put wrong once.
#[test]
fn the_checks_find_blocks_that_are_not_as_counted() {
    let mut index = index();
    blocks(&mut index, Queue::Incompressible, 4000, 2);
    blocks(&mut index, Queue::Dense, 4000, 1);
    index.validate(&[], &[]).unwrap();
    let finds = |what: &str, damage: &dyn Fn(&mut SwapIndex)| {
        let mut damaged = index.clone();
        damage(&mut damaged);
        assert!(damaged.validate(&[], &[]).is_err(), "{what}");
    };
    finds("a job's block that has none", &|index| index.pin(0));
    finds("a block that nobody names", &|index| index.blocks[0].refs = 0);
    finds("a block in another segment", &|index| index.blocks[0].at += 1024);
    finds("a block that is free too", &|index| index.free_block = 0);
    finds("a block that is lost", &|index| index.blocks_used -= 1);
    finds("a block in no chain", &|index| index.segments.set_chain(0, NIL));
    finds("an object without a block", &|index| _ = index.segments.append(Queue::Incompressible, 100, 0));
    finds("a block beyond what its segment was given", &|index| index.blocks[1].at += 10);
    finds("two blocks in one place", &|index| index.blocks[0].at = index.blocks[1].at);
    finds("a block of another length", &|index| index.blocks[0].len -= 100);
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
    finds("extents that overlap", &|index| index.extents[second as usize].start = 1);
    finds("an extent that is longer", &|index| index.extents[first as usize].units = 3);
    finds("a block beyond its extent", &|index| index.blocks[0].at += 8192 / 16);
    finds("blocks that overlap", &|index| index.blocks[0].at = 255);
    finds("an extent that is in no file", &|index| index.extents[first as usize].units = 0);
    finds("an extent in a file and free", &|index| index.free_extent = first);
    finds("blocks of an extent", &|index| index.extents[first as usize].live = 0);
}
