//! Quire's own heap: contents against a model, alignment, what it counts, and that it gives everything back.

#![allow(missing_docs, dead_code, clippy::tests_outside_test_module)]

#[path = "../src/heap.rs"]
mod heap;
#[path = "../src/raw.rs"]
mod raw;

use core::alloc::{GlobalAlloc, Layout};
use core::slice;
use std::sync::Mutex;

use heap::QuireHeap;

/// Blocks of this many bytes or more are mappings of their own.
const DIRECT: usize = 128 << 10;
const PAGE: usize = 4096;

/// The heap counts for the whole process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// A block and the byte it is full of.
struct Block {
    at: *mut u8,
    layout: Layout,
    byte: u8,
}

impl Block {
    fn new(size: usize, align: usize, byte: u8) -> Block {
        let layout = Layout::from_size_align(size, align).unwrap();
        // SAFETY: the size is not 0.
        let at = unsafe { QuireHeap.alloc(layout) };
        assert!(!at.is_null() && (at as usize).is_multiple_of(align), "{layout:?} at {at:?}");
        let mut block = Block { at, layout, byte };
        block.bytes().fill(byte);
        block
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the block is this one's own, and as long.
        unsafe { slice::from_raw_parts_mut(self.at, self.layout.size()) }
    }

    fn resize(&mut self, size: usize) {
        let kept = size.min(self.layout.size());
        // SAFETY: the block came with this layout and goes on by the new address only.
        let at = unsafe { QuireHeap.realloc(self.at, self.layout, size) };
        assert!(
            !at.is_null() && (at as usize).is_multiple_of(self.layout.align()),
            "{:?} to {size}",
            self.layout
        );
        self.at = at;
        self.layout = Layout::from_size_align(size, self.layout.align()).unwrap();
        let byte = self.byte;
        assert!(self.bytes()[..kept].iter().all(|found| *found == byte), "contents of {:?}", self.layout);
        self.bytes().fill(byte);
    }

    fn free(mut self) {
        let byte = self.byte;
        assert!(self.bytes().iter().all(|found| *found == byte), "contents of {:?}", self.layout);
        // SAFETY: the block came with this layout, and nobody uses it any more.
        unsafe { QuireHeap.dealloc(self.at, self.layout) };
    }
}

/// What the test itself and its runner map meanwhile, in bytes, at the most.
const NOISE: usize = 512 << 10;

/// Bytes that this process has mapped and may touch.
fn mapped() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let len = |line: &str| {
        let (start, end) = line.split_once(' ')?.0.split_once('-')?;
        Some(usize::from_str_radix(end, 16).ok()? - usize::from_str_radix(start, 16).ok()?)
    };
    maps.lines().filter(|line| line.contains(" rw")).filter_map(len).sum()
}

#[test]
fn blocks_keep_their_contents_at_every_size_and_alignment() {
    let _alone = ALONE.lock();
    let mut blocks: Vec<Block> = Vec::new();
    let mut random = 1u64;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) as usize % below
    };
    for step in 0..20_000usize {
        let around = [
            1 + next(200),
            PAGE + next(3) - 1,
            DIRECT + next(3) - 1,
            DIRECT + next(5 * PAGE),
            1 + next(20_000),
        ];
        let size = around[next(around.len())];
        match (next(3), blocks.len()) {
            (0, 1..) => blocks.swap_remove(next(blocks.len())).free(),
            (1, count @ 1..) => blocks[next(count)].resize(size),
            _ if blocks.len() < 60 => blocks.push(Block::new(size, 1 << next(15), step as u8)),
            (_, count) => blocks.swap_remove(next(count)).free(),
        }
    }
    blocks.into_iter().for_each(Block::free);
}

#[test]
fn zeroed_blocks_are_zeroes_also_where_another_block_was() {
    let _alone = ALONE.lock();
    for size in [1, 100, 5000, DIRECT - 1, DIRECT, 3 * DIRECT] {
        for _ in 0..20 {
            Block::new(size, 8, 255).free();
            let layout = Layout::from_size_align(size, 8).unwrap();
            // SAFETY: the size is not 0; the block is as long as that, and freed with its layout.
            unsafe {
                let at = QuireHeap.alloc_zeroed(layout);
                assert!(slice::from_raw_parts(at, size).iter().all(|byte| *byte == 0), "{size}");
                QuireHeap.dealloc(at, layout);
            }
        }
    }
}

/// A large block is a mapping, counted whole as mapped, and as taken when it is touched; then it is gone.
#[test]
fn large_blocks_are_counted_by_what_was_touched_and_given_back() {
    let _alone = ALONE.lock();
    let (before, mapped_before) = (heap::resident_bytes().1, heap::mapped_bytes());
    for (size, align) in [(DIRECT, 1), (DIRECT + 1, PAGE), (DIRECT, 4 * PAGE), (5 * DIRECT - 7, 1024 * PAGE)]
    {
        let layout = Layout::from_size_align(size, align).unwrap();
        let whole = size.next_multiple_of(PAGE);
        // Threads of the test's runner map and unmap some too, now and then.
        let given_back = (0..10).any(|_| {
            let len = mapped();
            // SAFETY: the size is not 0, what is written is inside, and the block is freed with its layout.
            let more = unsafe {
                let at = QuireHeap.alloc(layout);
                assert!((at as usize).is_multiple_of(align));
                assert_eq!(heap::mapped_bytes() - mapped_before, whole as u64);
                assert_eq!(heap::resident_bytes().1, before, "nothing of it was touched");
                at.write(1);
                at.add(size - 1).write(1);
                assert_eq!(heap::resident_bytes().1 - before, 2 * PAGE as u64);
                let more = mapped().saturating_sub(len);
                QuireHeap.dealloc(at, layout);
                more
            };
            assert_eq!((heap::resident_bytes().1, heap::mapped_bytes()), (before, mapped_before));
            (whole..whole + NOISE).contains(&more) && mapped() < len + NOISE
        });
        assert!(given_back, "what was mapped for the alignment of {align} is given back, and the block");
    }
}

#[test]
fn a_large_block_that_grows_and_shrinks_is_counted_as_it_is() {
    let _alone = ALONE.lock();
    let before = heap::mapped_bytes();
    let mut block = Block::new(DIRECT, 8, 7);
    for size in [3 * DIRECT, DIRECT + 1, 20 * DIRECT, DIRECT] {
        block.resize(size);
        assert_eq!(heap::mapped_bytes() - before, size.next_multiple_of(PAGE) as u64);
        assert_eq!(heap::resident_bytes().1, size.next_multiple_of(PAGE) as u64);
    }
    block.free();
    assert_eq!(heap::mapped_bytes(), before);
}

/// Small blocks take what they are and little beside. Once there are none, and some thousand more have come and gone, what is
/// left of the pages is hardly any: dlmalloc looks for pieces that are wholly free at each 4095th block that it frees, or when
/// its last piece has become large. Where the kernel put the pieces side by side, there is one only.
#[test]
fn small_blocks_take_hardly_more_than_they_are() {
    const BLOCKS: usize = 40_000;
    let _alone = ALONE.lock();
    let (before, _) = heap::resident_bytes();
    let blocks: Vec<Block> = (0..BLOCKS).map(|n| Block::new(1000, 8, n as u8)).collect();
    let (full, _) = heap::resident_bytes();
    // What was left of earlier blocks may be used first.
    assert!(full - before <= BLOCKS as u64 * 1100, "{full} bytes, {before} before");
    assert!(full >= BLOCKS as u64 * 1000, "{full}");
    let mapped_full = mapped();
    blocks.into_iter().for_each(Block::free);
    (0..5000).for_each(|n| Block::new(1000, 8, n as u8).free());
    let (after, _) = heap::resident_bytes();
    assert!(after < full / 2, "{after} of {full} bytes are left");
    // Most of what is counted as given back is no longer mapped: how much depends on what other tests left, and on the
    // threads of their runner.
    let given_back = mapped_full - mapped().min(mapped_full);
    assert!(given_back as u64 >= (full - after) / 2, "{given_back} bytes of {}", full - after);
    assert!(heap::mapped_bytes() >= after);
}

/// What can't be had is null, and changes nothing.
#[test]
fn more_than_there_is_is_refused() {
    let _alone = ALONE.lock();
    let mapped = heap::mapped_bytes();
    for (size, align) in [(1 << 47, 8), (isize::MAX as usize - 4095, 4096), (1 << 46, 1 << 46)] {
        let layout = Layout::from_size_align(size, align).unwrap();
        // SAFETY: the size is not 0.
        assert!(unsafe { QuireHeap.alloc(layout) }.is_null(), "{layout:?}");
    }
    let mut block = Block::new(DIRECT, 8, 9);
    // SAFETY: where it is refused, the block stays what it is.
    assert!(unsafe { QuireHeap.realloc(block.at, block.layout, 1 << 47) }.is_null());
    assert!(block.bytes().iter().all(|byte| *byte == 9));
    block.free();
    assert_eq!(heap::mapped_bytes(), mapped);
    heap::in_child();
}
