extern crate std;

use super::*;
use crate::mmu::tests::Released;
use std::vec::Vec;

fn index() -> Index {
    let mut index = Index::new(64, 4);
    index.segments.reserve(64);
    index
}

/// `count` blocks of `len` bytes in RAM, which their writer has handed over.
fn blocks(index: &mut Index, queue: Queue, len: u16, count: u32) -> Vec<u32> {
    let blocks: Vec<u32> = (0..count).map(|_| index.new_ram_block(queue, len, 0).unwrap()).collect();
    blocks.iter().for_each(|&block| index.hand_over(block));
    blocks
}

fn place(index: &Index, block: u32) -> Option<Place> {
    index.look(index.name(block)).map(|stored| stored.place)
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
    index.begin(dense[1]);
    assert!(index.move_to_file(dense[1], file, 32, &mut host));
    assert_eq!(place(&index, dense[1]), Some(Place::File { file: 7, at: 32 }));
    assert_eq!((index.blocks_in_ram(), index.blocks_used()), (4, 5));
    index.end(dense[1], &mut host);
    dense.iter().for_each(|&block| index.drop(block, &mut host));
    assert_eq!((index.file_bytes(), index.ram_pages()), (0, 4), "with its last block an extent goes");
    let more = blocks(&mut index, Queue::Dense, 4096, 8);
    more.iter().for_each(|&block| index.drop(block, &mut host));
    assert_eq!(host.stored, std::vec![8..12], "and with its last object a segment, but for one that is kept");
    index.validate(None).unwrap();
}

#[test]
fn a_dead_block_stays_for_the_spill_that_has_it_in_hand() {
    let mut index = index();
    let blocks = blocks(&mut index, Queue::Dense, 200, 2);
    let mut host = Released::default();
    let name = index.name(blocks[0]);
    index.begin(blocks[0]);
    index.drop(blocks[0], &mut host);
    assert_eq!((index.unnamed(), index.blocks_used(), index.names(name)), (1, 2, None));
    assert!(place(&index, blocks[0]).is_none() && place(&index, blocks[1]).is_some());
    index.validate(None).unwrap();
    assert!(!index.move_to_file(blocks[0], 0, 0, &mut host), "nobody needs it");
    index.end(blocks[0], &mut host);
    assert_eq!((index.unnamed(), index.blocks_used(), index.names(name)), (0, 1, None));
    index.validate(None).unwrap();
}

#[test]
fn a_block_goes_with_the_last_page_that_names_it() {
    let mut index = index();
    let blocks = blocks(&mut index, Queue::Dense, 200, 1);
    let mut host = Released::default();
    (0..2).for_each(|_| index.share(blocks[0]));
    let name = index.name(blocks[0]);
    assert_eq!(index.names(name), Some(3));
    index.drop(blocks[0], &mut host);
    index.drop(blocks[0], &mut host);
    assert_eq!((index.names(name), index.blocks_used(), index.blocks_in_ram()), (Some(1), 1, 1));
    index.drop(blocks[0], &mut host);
    assert_eq!((index.blocks_used(), index.blocks_in_ram()), (0, 0));
}

#[test]
fn an_old_name_is_nobodys_even_when_its_number_is_used_again() {
    let mut index = index();
    let mut host = Released::default();
    let old = blocks(&mut index, Queue::Dense, 200, 1).pop().map(|block| index.name(block)).unwrap();
    assert_eq!(index.find(old), Some(old.number));
    index.drop(old.number, &mut host);
    assert_eq!(index.find(old), None);
    let new = blocks(&mut index, Queue::Dense, 200, 1).pop().map(|block| index.name(block)).unwrap();
    assert_eq!((new.number, new.tag), (old.number, old.tag + 1));
    assert_eq!((index.find(old), index.names(old), index.find(new)), (None, None, Some(new.number)));
    index.renew(old);
    index.records[new.number as usize].tag = Block::TAGS - 1;
    index.drop(new.number, &mut host);
    let next = blocks(&mut index, Queue::Dense, 200, 1)[0];
    assert_eq!(index.name(next), Block { number: new.number, tag: 0 }, "tags begin anew some time");
}

#[test]
fn what_is_left_of_the_emptiest_segment_moves_as_far_as_no_job_uses_it() {
    let mut index = index();
    let mut host = Released::default();
    let all = blocks(&mut index, Queue::Dense, 4000, 9);
    assert_eq!(index.clean(3 * 4096, &mut host), 0, "none has that much room");
    for at in [0, 4, 5] {
        index.drop(all[at], &mut host);
    }
    index.begin(all[6]);
    assert_eq!(index.clean(3 * 4096, &mut host), 4000);
    assert_eq!(host.moved, [(4 * 256 + 3 * 250, 3 * 1024, 4000)]);
    assert_eq!(place(&index, all[7]), Some(Place::Ram { at: 3 * 1024 }));
    assert_eq!(place(&index, all[6]), Some(Place::Ram { at: 1024 + 2 * 250 }), "it is being spilled");
    index.validate(None).unwrap();
    index.end(all[6], &mut host);
    assert_eq!(index.clean(3 * 4096, &mut host), 4000);
    assert_eq!(
        (index.segments.segments_used(), index.ram_pages()),
        (3, 4 + 1 + 2 + 4),
        "one is empty, and kept"
    );
    index.validate(None).unwrap();
}

#[test]
fn the_oldest_spill_first_but_for_those_that_were_moved_out_again() {
    let mut index = index();
    let mut host = Released::default();
    let all = blocks(&mut index, Queue::Dense, 4000, 8);
    [all[1], all[7]].into_iter().for_each(|block| index.renew(index.name(block)));
    index.begin(all[2]);
    let mut list = |index: &mut Index, bytes, most| {
        let mut out = Vec::new();
        index.oldest_blocks(Queue::Dense, bytes, most, &mut out, &mut host);
        let number = |block: &Option<Block>| {
            all.iter().position(|&b| block.is_some_and(|block| block.number == b)).unwrap()
        };
        out.iter().map(number).collect::<Vec<_>>()
    };
    // Of a segment the youngest is first.
    assert_eq!(list(&mut index, 8000, 9), [3, 0]);
    assert_eq!(place(&index, all[1]), Some(Place::Ram { at: 2 * 1024 }), "the youngest of all now");
    assert_eq!(list(&mut index, 1 << 20, 4), [3, 0, 7, 6]);
    assert_eq!(list(&mut index, 1 << 20, 100), [3, 0, 7, 6, 5, 4, 1]);
    index.validate(None).unwrap();
}

/// The random walks rely on the checks: each thing they look at is put wrong once.
#[test]
fn the_checks_find_blocks_that_are_not_as_counted() {
    let mut index = index();
    blocks(&mut index, Queue::Incompressible, 4000, 2);
    blocks(&mut index, Queue::Dense, 4000, 1);
    index.validate(None).unwrap();
    let finds = |what: &str, damage: &dyn Fn(&mut Index)| {
        let mut damaged = index.clone();
        damage(&mut damaged);
        assert!(damaged.validate(None).is_err(), "{what}");
    };
    finds("a block that nobody names", &|index| index.records[0].refs = 0);
    finds("a block in another segment", &|index| index.records[0].at += 1024);
    finds("a block that is free too", &|index| index.free_block = 0);
    finds("a block that is lost", &|index| index.blocks_used -= 1);
    finds("a block in no chain", &|index| index.segments.set_chain(0, NIL));
    finds("an object without a block", &|index| _ = index.segments.append(Queue::Incompressible, 100));
    finds("a block beyond what its segment was given", &|index| index.records[1].at += 10);
    finds("two blocks in one place", &|index| index.records[0].at = index.records[1].at);
    finds("a block of another length", &|index| index.records[0].len -= 100);
}

#[test]
fn the_checks_find_room_of_a_spill_file_that_is_lost() {
    let mut index = index();
    index.open_file(0, 1 << 20);
    let mut store = |pages: u64| {
        let extent = index.new_file_extent(pages * 4096).unwrap();
        let blocks = (0..pages).map(|i| index.new_file_block(extent, i * 4096, 4096, 0));
        (extent, blocks.collect::<Vec<u32>>())
    };
    let ((first, blocks), (second, more)) = (store(2), store(3));
    for block in blocks.into_iter().chain(more) {
        index.hand_over(block);
    }
    index.validate(None).unwrap();
    let empty = index.new_file_extent(4096).unwrap();
    assert!(index.validate(None).is_err(), "an extent without a block or a job");
    index.validate(Some(empty)).unwrap();
    index.drop_if_empty(empty);
    let finds = |what: &str, damage: &dyn Fn(&mut Index)| {
        let mut damaged = index.clone();
        damage(&mut damaged);
        assert!(damaged.validate(None).is_err(), "{what}");
    };
    finds("units that no extent has", &|index| _ = index.file.as_mut().unwrap().1.alloc(1));
    finds("units that are free", &|index| index.file.as_mut().unwrap().1.free(4, 1));
    finds("extents that overlap", &|index| index.extents[second as usize].start = 1);
    finds("an extent that is longer", &|index| index.extents[first as usize].units = 3);
    finds("a block beyond its extent", &|index| index.records[0].at += 8192 / 16);
    finds("blocks that overlap", &|index| index.records[0].at = 255);
    finds("an extent that is in no file", &|index| index.extents[first as usize].units = 0);
    finds("an extent in a file and free", &|index| index.free_extent = first);
    finds("blocks of an extent", &|index| index.extents[first as usize].live = 0);
}
