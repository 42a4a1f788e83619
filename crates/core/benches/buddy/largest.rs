//! One call for the largest folio of a set against trying order by order.

use crate::allocators::{Frames, OneCall};
use crate::{Effort, FRAMES, Rng, all, below, median, ns_per_step, row};
use quire_core::{Order, OrderSet};

/// Folios taken before all of them are given back.
const BATCH: u32 = 64;
/// One frame in so many is free.
const FREE_FRACTION: u32 = 10;

/// An allocator in which only frames and pairs of frames are free, as after a long time.
struct Aged<A> {
    allocator: A,
    taken: Vec<(u32, Order)>,
    times: Vec<f64>,
}

impl<A: Frames> Aged<A> {
    fn new(mut allocator: A) -> Aged<A> {
        let mut held: Vec<u32> = std::iter::from_fn(|| allocator.alloc(Order::BASE)).collect();
        held.sort_unstable();
        let mut rng = Rng(2);
        // One frame of four, so that none merge, and now and then its buddy.
        for four in held.chunks_exact(4) {
            if below(rng.any(), FREE_FRACTION as usize) < 4 {
                allocator.free(four[0], Order::BASE);
                if below(rng.any(), 16) == 0 {
                    allocator.free(four[1], Order::BASE);
                }
            }
        }
        Aged { allocator, taken: Vec::with_capacity(BATCH as usize), times: Vec::new() }
    }

    fn time(&mut self, set: OrderSet, steps: u32) {
        let batches = (steps / 8 / BATCH).max(1);
        let ns = ns_per_step(batches * BATCH, || (0..batches).for_each(|_| self.batch(set)));
        self.times.push(ns);
    }

    #[inline]
    fn batch(&mut self, set: OrderSet) {
        for _ in 0..BATCH {
            let got = self.allocator.alloc_largest(set);
            self.taken.extend(got);
        }
        for (frame, order) in self.taken.drain(..) {
            self.allocator.free(frame, order);
        }
    }
}

/// Prints the table.
pub(crate) fn run(effort: Effort) {
    println!(
        "\nthe largest folio of a set and its return, where single frames and few pairs are free of {FRAMES}"
    );
    println!("{:<52}{:>8}{:>8}", "", "ns", "ratio");
    compare("of all orders", OrderSet::ALL, effort);
    let order = |number| Order::new(number).unwrap_or(Order::BASE);
    let few = [0, 2, 4, 9].into_iter().map(order).fold(OrderSet::EMPTY, OrderSet::with);
    compare("of 4K, 16K, 64K, 2M", few, effort);
}

fn compare(label: &str, set: OrderSet, effort: Effort) {
    let (frame_alloc, buddy_system, ours, _) = all();
    let one_call = OneCall(crate::Ours::new(FRAMES));
    let (mut frame_alloc, mut buddy_system) = (Aged::new(frame_alloc), Aged::new(buddy_system));
    let (mut ours, mut one_call) = (Aged::new(ours), Aged::new(one_call));
    for _ in 0..effort.rounds {
        frame_alloc.time(set, effort.steps);
        buddy_system.time(set, effort.steps);
        ours.time(set, effort.steps);
        one_call.time(set, effort.steps);
    }
    let best = median(one_call.times.clone());
    print(label, &frame_alloc, best);
    print(label, &buddy_system, best);
    print(label, &ours, best);
    print(label, &one_call, best);
}

fn print<A: Frames>(label: &str, aged: &Aged<A>, best: f64) {
    let ns = median(aged.times.clone());
    row::<A>(label, ns, &format!("{:>8.2}", ns / best));
}
