extern crate std;

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::vec::Vec;

const PAGEBLOCK: u32 = Order::MAX.pages();

fn order(n: u8) -> Order {
    Order::new(n).unwrap()
}

fn full(frames: u32) -> Buddy {
    let mut buddy = Buddy::new(frames);
    buddy.free_run(FrameRun::new(Frame(0), frames));
    buddy
}

#[test]
fn a_new_buddy_has_nothing_and_a_full_one_has_the_largest_units() {
    assert_eq!(Buddy::new(1024).alloc(OrderSet::ALL), None);
    let buddy = full(1024 + 5);
    assert_eq!(buddy.free_at(Order::MAX), 2);
    assert_eq!((buddy.free_at(order(2)), buddy.free_at(order(0))), (1, 1));
    assert_eq!(buddy.free_frames(), 1029);
    assert_eq!(buddy.largest(), Some(Order::MAX));
    assert!(buddy.is_free(Frame(1028)) && !buddy.is_free(Frame(1029)));
}

#[test]
fn a_larger_unit_is_split_to_the_largest_order_of_the_set_at_the_lowest_address() {
    let mut buddy = full(1024);
    let set = OrderSet::only(order(0)).with(order(4));
    assert_eq!(buddy.alloc(set), Some((Frame(0), order(4))));
    assert_eq!(buddy.alloc(set), Some((Frame(16), order(4))));
    assert_eq!(buddy.alloc(OrderSet::only(order(0))), Some((Frame(32), order(0))));
    assert_eq!(buddy.free_at(Order::MAX), 1);
}

#[test]
fn with_only_small_units_the_next_order_of_the_set_is_served() {
    let mut buddy = Buddy::new(1024);
    buddy.free(Frame(8), order(2));
    buddy.free(Frame(700), order(0));
    let set = OrderSet::only(Order::MAX).with(order(4)).with(order(1));
    assert_eq!(buddy.alloc(set), Some((Frame(8), order(1))));
    assert_eq!(buddy.alloc(set), Some((Frame(10), order(1))));
    assert_eq!(buddy.alloc(set), None, "one frame is free, and the set has no base order");
    assert_eq!(buddy.alloc(OrderSet::ALL), Some((Frame(700), order(0))));
}

#[test]
fn tiny_and_empty_pools_work() {
    assert_eq!(Buddy::new(0).alloc(OrderSet::ALL), None);
    let mut buddy = full(8);
    assert_eq!(buddy.alloc(OrderSet::ALL), Some((Frame(0), order(3))));
    assert_eq!(buddy.largest(), None);
    buddy.free(Frame(0), order(3));
    assert_eq!(buddy, full(8));
}

#[test]
fn a_pool_of_many_levels_serves_the_lowest_address() {
    let frames = 1200 * PAGEBLOCK;
    let mut buddy = Buddy::new(frames);
    for pageblock in [1199, 513, 511, 16, 512] {
        buddy.free(Frame(pageblock * PAGEBLOCK + 4), order(2));
        buddy.validate().unwrap();
    }
    for pageblock in [16, 511, 512, 513, 1199] {
        assert_eq!(buddy.alloc(OrderSet::ALL), Some((Frame(pageblock * PAGEBLOCK + 4), order(2))));
        buddy.validate().unwrap();
    }
    assert_eq!(buddy, Buddy::new(frames));
}

#[test]
#[should_panic(expected = "free already")]
#[cfg(debug_assertions)]
fn a_frame_freed_twice_is_found() {
    full(64).free(Frame(5), order(0));
}

fn set_of(bits: u16) -> OrderSet {
    Order::all().filter(|o| bits >> o.index() & 1 != 0).fold(OrderSet::EMPTY, OrderSet::with)
}

/// What a plain set of free frames says about the largest order that could be served.
struct Model {
    free: BTreeSet<u32>,
    held: Vec<(u32, u32)>,
}

impl Model {
    fn unit_is_free(&self, start: u32, order: Order) -> bool {
        (start..start + order.pages()).all(|f| self.free.contains(&f))
    }

    fn serves(&self, order: Order) -> bool {
        let starts = self.free.iter().filter(|f| f.is_multiple_of(order.pages()));
        starts.into_iter().any(|&f| self.unit_is_free(f, order))
    }

    fn take(&mut self, set: OrderSet, got: Option<(Frame, Order)>) {
        let want = set.iter().rev().find(|&o| self.serves(o));
        assert_eq!(got.map(|(_, o)| o), want, "the largest order of {set:?} that could be served");
        if let Some((frame, order)) = got {
            assert!(self.unit_is_free(frame.0, order), "{frame:?} {order:?} is handed out twice");
            self.free.retain(|f| !(frame.0..frame.0 + order.pages()).contains(f));
            self.held.push((frame.0, order.pages()));
        }
    }

    fn take_at(&mut self, frame: u32, got: bool) {
        assert_eq!(got, self.free.remove(&frame), "frame {frame}");
        if got {
            self.held.push((frame, 1));
        }
    }

    /// Lets go of a held run, or of the tail of it when `keep` is smaller than it.
    fn release(&mut self, pick: usize, keep: u32) -> Option<FrameRun> {
        let pick = pick % self.held.len().max(1);
        let (start, pages) = *self.held.get(pick)?;
        let keep = if keep < pages { keep } else { 0 };
        if keep == 0 {
            self.held.swap_remove(pick);
        } else {
            self.held[pick].1 = keep;
        }
        self.free.extend(start + keep..start + pages);
        Some(FrameRun::new(Frame(start + keep), pages - keep))
    }
}

#[derive(Debug, Clone)]
enum Step {
    Alloc(u16),
    AllocAt(u32),
    Free(usize, u32),
}

fn step() -> impl Strategy<Value = Step> {
    let small = any::<u16>().prop_map(|bits| Step::Alloc(bits & 0x1f));
    let any_set = any::<u16>().prop_map(Step::Alloc);
    let free = (any::<usize>(), prop_oneof![Just(0), 0..40_u32]).prop_map(|(p, k)| Step::Free(p, k));
    let at = (0..1700_u32).prop_map(Step::AllocAt);
    prop_oneof![3 => small, 1 => any_set, 1 => at, 3 => free]
}

fn agrees(buddy: &Buddy, model: &Model, capacity: u32) {
    buddy.validate().unwrap();
    assert_eq!(buddy.free_frames() as usize, model.free.len());
    assert_eq!(buddy.largest(), Order::all().rev().find(|&o| model.serves(o)));
    for frame in 0..capacity {
        assert_eq!(buddy.is_free(Frame(frame)), model.free.contains(&frame));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn agrees_with_a_set_of_free_frames(
        capacity in prop_oneof![1..70_u32, 500..1600_u32],
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut buddy = full(capacity);
        let mut model = Model { free: (0..capacity).collect(), held: Vec::new() };
        for step in steps {
            match step {
                Step::Alloc(bits) => {
                    let set = set_of(bits);
                    model.take(set, buddy.alloc(set));
                }
                // Mostly inside the pool, also where that is small.
                Step::AllocAt(frame) => {
                    let frame = frame % (capacity + 3);
                    model.take_at(frame, buddy.alloc_at(Frame(frame)));
                }
                Step::Free(pick, keep) => {
                    if let Some(run) = model.release(pick, keep) {
                        buddy.free_run(run);
                    }
                }
            }
            buddy.validate().unwrap();
        }
        agrees(&buddy, &model, capacity);
        while let Some(run) = model.release(0, 0) {
            buddy.free_run(run);
        }
        prop_assert_eq!(buddy, full(capacity), "all merges back, whatever the way");
    }
}
