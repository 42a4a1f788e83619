extern crate std;

use super::*;
use crate::mmu::tests::Released;
use std::vec::Vec;

const NO_LIMIT: u32 = u32::MAX;
const SIXTEEN: Order = Order::fitting(16);

/// A pool of 64 frames: two runs of 16 zeroed frames and of 16 dirty ones, the rest holes.
fn mixed() -> FramePool {
    let mut pool = FramePool::new(64);
    for backing in [Backing::Zeroed, Backing::Dirty] {
        let (frame, order, _) = pool.take(OrderSet::only(SIXTEEN), Use::Zeroing, NO_LIMIT).unwrap();
        pool.give(FrameRun::new(frame, order.pages()), backing);
        // The next one would be the same hole otherwise.
        assert_eq!(pool.backing_of(frame), Some(backing));
    }
    pool
}

fn backing(pool: &FramePool, purpose: Use, limit: u32) -> Option<Backing> {
    pool.clone().take(OrderSet::only(Order::BASE), purpose, limit).map(|(_, _, backing)| backing)
}

#[test]
fn among_equals_what_suits_the_purpose_is_taken() {
    let pool = mixed();
    assert_eq!((pool.zeroed(), pool.spare(), pool.in_use(), pool.charged()), (16, 32, 0, 32));
    let of = |purpose| backing(&pool, purpose, NO_LIMIT).unwrap();
    assert_eq!(of(Use::Zeroes), Backing::Zeroed);
    assert_eq!(of(Use::Contents), Backing::Hole);
    assert_eq!(of(Use::Zeroing), Backing::Hole);
}

#[test]
fn a_hole_is_taken_only_as_far_as_the_limit_allows() {
    let pool = mixed();
    assert_eq!(backing(&pool, Use::Contents, 32), Some(Backing::Zeroed), "all that is allowed has memory");
    assert_eq!(backing(&pool, Use::Contents, 33), Some(Backing::Hole));
    assert_eq!(backing(&pool, Use::Zeroing, 32), None, "a dirty frame is never handed out");
    let set = OrderSet::up_to(SIXTEEN);
    let order = |limit| FramePool::new(64).take(set, Use::Zeroes, limit).map(|(_, order, _)| order.pages());
    assert_eq!([0, 1, 3, 15, 16].map(order), [None, Some(1), Some(2), Some(8), Some(16)]);
}

#[test]
fn one_frame_is_taken_where_it_is_free_and_not_dirty_and_a_hole_within_the_limit() {
    let mut pool = mixed();
    let (zeroed, dirty, hole) = (Frame(0), Frame(16), Frame(40));
    let found = [zeroed, dirty, hole].map(|frame| pool.backing_of(frame));
    assert_eq!(found, [Some(Backing::Zeroed), Some(Backing::Dirty), Some(Backing::Hole)]);
    assert_eq!(pool.take_at(hole, 32), None);
    assert_eq!(pool.take_at(hole, 33), Some(Backing::Hole));
    assert_eq!(pool.take_at(dirty, NO_LIMIT), None);
    assert_eq!(pool.take_at(zeroed, 0), Some(Backing::Zeroed), "its memory is charged already");
    assert_eq!(pool.take_at(zeroed, NO_LIMIT), None, "it is in use");
    assert_eq!((pool.in_use(), pool.spare(), pool.charged()), (2, 31, 33));
}

#[test]
fn of_a_run_one_frame_is_taken_and_the_others_stay_free() {
    for offset in [0, 5, 15] {
        let mut pool = FramePool::new(64);
        let got = pool.take_within(SIXTEEN, offset, Use::Contents, NO_LIMIT);
        assert_eq!(got, Some((Frame(offset), Order::BASE, Backing::Hole)));
        assert_eq!((pool.in_use(), pool.backing_of(Frame(offset))), (1, None));
        assert!((0..64).filter(|&f| f != offset).all(|f| pool.backing_of(Frame(f)) == Some(Backing::Hole)));
    }
}

#[test]
fn frames_join_the_holes_when_no_run_is_left() {
    let capacity = 2 * OPENING + 100;
    let mut pool = FramePool::new(capacity);
    let mut take =
        |order| pool.take(OrderSet::only(order), Use::Contents, NO_LIMIT).map(|(frame, ..)| frame.0);
    let runs: Vec<u32> = core::iter::from_fn(|| take(Order::MAX)).collect();
    let whole = Order::MAX.pages() as usize;
    assert_eq!(runs, (0..2 * OPENING).step_by(whole).collect::<Vec<_>>());
    let singles = core::iter::from_fn(|| take(Order::BASE)).count();
    assert_eq!((singles, pool.in_use(), pool.spare()), (100, capacity, 0));
}

#[test]
fn memory_is_given_back_until_no_more_is_charged_than_allowed() {
    let mut pool = mixed();
    let mut host = Released::default();
    assert_eq!(pool.trim(32, &mut host), 0);
    assert_eq!(pool.trim(29, &mut host), 3, "of the dirty ones, no more than needed");
    assert_eq!((pool.zeroed(), pool.charged()), (16, 29));
    assert_eq!(pool.trim(10, &mut host), 19);
    assert_eq!((pool.zeroed(), pool.charged()), (10, 10));
    assert_eq!(host.frames.iter().map(|run| run.pages).sum::<u32>(), 22);
    assert!(host.frames.iter().all(|run| pool.backing_of(run.start) == Some(Backing::Hole)));
}

#[test]
fn dirty_frames_become_holes_in_one_call_as_soon_as_the_limit_asks_for_it() {
    let mut pool = mixed();
    let mut host = Released::default();
    pool.refresh(4, 36, &mut host);
    assert!(host.frames.is_empty(), "the limit allows 4 pages more");
    pool.refresh(4, 35, &mut host);
    assert_eq!(host.frames, [FrameRun::new(Frame(16), 16)], "all of them, as one is lacking");
    assert_eq!((pool.zeroed(), pool.charged()), (16, 16));
    pool.refresh(4, 0, &mut host);
    assert_eq!((host.frames.len(), pool.zeroed()), (1, 16), "none are left, and zeroed ones are ready");
}

#[test]
fn of_a_run_the_dirty_frames_become_holes() {
    let mut pool = mixed();
    let mut host = Released::default();
    pool.refresh_run(FrameRun::new(Frame(12), 8), &mut host);
    let given: Vec<u32> = host.frames.iter().flat_map(|run| run.iter()).map(|frame| frame.0).collect();
    assert_eq!(given, [16, 17, 18, 19]);
    assert_eq!((pool.backing_of(Frame(12)), pool.spare()), (Some(Backing::Zeroed), 28));
    assert_eq!(pool.take_at(Frame(18), NO_LIMIT), Some(Backing::Hole));
}
