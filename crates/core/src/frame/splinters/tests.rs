extern crate std;

use super::*;
use crate::frame::{Backing, Use};
use crate::mmu::tests::Released;

const SIXTEEN: Order = Order::fitting(16);
const FRAMES: u32 = 4096;

/// A pool of 4096 frames, all in use but those of `free`, which are holes.
fn pool(free: impl IntoIterator<Item = FrameRun>) -> FramePool {
    let mut pool = FramePool::new(FRAMES);
    while pool.take(OrderSet::ALL, Use::Contents, u32::MAX).is_some() {}
    free.into_iter().for_each(|run| pool.give(run, Backing::Hole));
    pool
}

/// Every other frame of the first `2 * count`.
fn singles(count: u32) -> impl Iterator<Item = FrameRun> {
    (0..count).map(|i| FrameRun::new(Frame(2 * i), 1))
}

/// `count` whole runs of `order`, from frame `start` on, with as much in use between them.
fn runs(start: u32, count: u32, order: Order) -> impl Iterator<Item = FrameRun> {
    (0..count).map(move |i| FrameRun::new(Frame(start + 2 * i * order.pages()), order.pages()))
}

#[test]
fn an_order_is_fragmented_when_less_than_three_quarters_of_what_is_free_are_in_runs_of_it() {
    assert_eq!(FramePool::new(FRAMES).fragmented_order(), None);
    assert_eq!(pool(singles(31)).fragmented_order(), None, "too little is free for two runs");
    assert_eq!(pool(singles(32)).fragmented_order(), Some(SIXTEEN));
    // 96 pages in runs of 128, then of 129.
    let most = |single| pool(singles(single).chain(runs(1024, 6, SIXTEEN)));
    assert_eq!(most(32).fragmented_order(), None);
    assert_eq!(most(33).fragmented_order(), Some(SIXTEEN));
    // Enough for two of 2 MiB, all of it in runs of 64 KiB.
    assert_eq!(pool(runs(0, 63, SIXTEEN)).fragmented_order(), None);
    assert_eq!(pool(runs(0, 64, SIXTEEN)).fragmented_order(), Some(Order::MAX));
}

#[test]
fn while_frames_were_never_used_nothing_is_fragmented() {
    let mut pool = FramePool::new(2 * (1 << 15));
    while pool.opened < pool.capacity() && pool.holes.free_frames() > 0 {
        pool.holes.alloc(OrderSet::ALL);
    }
    singles(100).for_each(|run| pool.give(run, Backing::Hole));
    assert_eq!(pool.fragmented_order(), None);
}

#[test]
fn what_is_evacuated_goes_to_splinters_and_breaks_up_no_long_run() {
    let mut pool = pool([FrameRun::new(Frame(64), 16), FrameRun::new(Frame(200), 4)]);
    let pair = Order::BASE.up();
    assert_eq!(pool.take_splinter(pair, SIXTEEN), Some(Frame(200)));
    assert_eq!(pool.take_splinter(pair.up(), SIXTEEN), None, "one pair is left, and a long run");
    assert_eq!(pool.take_splinter(pair, SIXTEEN), Some(Frame(202)));
    assert_eq!(pool.take_splinter(pair, SIXTEEN), None);
    assert_eq!(pool.take_splinter(pair, SIXTEEN.up()), Some(Frame(64)));
}

#[test]
fn splinters_with_memory_become_holes_and_long_runs_keep_theirs() {
    let mut pool = pool([]);
    let many = TRIM_RUNS as u32 + 10;
    singles(many).for_each(|run| pool.give(run, Backing::Dirty));
    pool.give(FrameRun::new(Frame(1024), 8), Backing::Zeroed);
    pool.give(FrameRun::new(Frame(1040), 16), Backing::Zeroed);
    let mut host = Released::default();
    assert_eq!(pool.release_splinters(SIXTEEN, &mut host), TRIM_RUNS);
    assert_eq!(pool.release_splinters(SIXTEEN, &mut host), 10 + 1);
    assert_eq!(pool.release_splinters(SIXTEEN, &mut host), 0);
    assert_eq!((pool.spare(), pool.holes.free_frames()), (16, many + 8));
    assert_eq!(host.frames.iter().map(|run| run.pages).sum::<u32>(), many + 8);
}
