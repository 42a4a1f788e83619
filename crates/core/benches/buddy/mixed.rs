//! Folios taken and given back at random, at about 70 % fill.

use crate::allocators::Frames;
use crate::{Effort, FRAMES, Rng, all, below, median, ns_per_step, row};
use quire_core::Order;

/// Frames in use below which only is taken, and above which only is given back: 68 % and 72 %.
const LOW: u32 = FRAMES / 100 * 68;
const HIGH: u32 = FRAMES / 100 * 72;

/// Which orders are asked for.
#[derive(Clone, Copy)]
enum Orders {
    /// All alike.
    Uniform,
    /// Each half as often as the one below it.
    Geometric,
}

impl Orders {
    #[inline]
    fn pick(self, random: u64) -> Order {
        let number = match self {
            Orders::Uniform => below(random, Order::COUNT) as u8,
            Orders::Geometric => (random >> 32).trailing_ones() as u8,
        };
        Order::new(number).unwrap_or(Order::MAX)
    }
}

/// An allocator at work.
struct Load<A> {
    allocator: A,
    rng: Rng,
    held: Vec<(u32, Order)>,
    in_use: u32,
    failed: u64,
    /// Failed though a unit was free.
    missed: u64,
    times: Vec<f64>,
}

impl<A: Frames> Load<A> {
    /// Filled, and run in.
    fn new(allocator: A, orders: Orders, effort: Effort) -> Load<A> {
        let held = Vec::with_capacity(FRAMES as usize);
        let (rng, times) = (Rng(1), Vec::new());
        let mut load = Load { allocator, rng, held, in_use: 0, failed: 0, missed: 0, times };
        while load.in_use < LOW {
            load.step::<false>(orders);
        }
        (0..effort.steps).for_each(|_| load.step::<false>(orders));
        load
    }

    /// Takes or gives back one folio.
    #[inline]
    fn step<const CHECKED: bool>(&mut self, orders: Orders) {
        let random = self.rng.any();
        let takes = self.in_use < LOW || self.in_use < HIGH && random & 1 == 0;
        if !takes {
            let (frame, order) = self.held.swap_remove(below(random, self.held.len()));
            self.in_use -= order.pages();
            self.allocator.free(frame, order);
            return;
        }
        let order = orders.pick(random);
        match self.allocator.alloc(order) {
            Some(frame) => {
                self.in_use += order.pages();
                self.held.push((frame, order));
            }
            None if CHECKED => {
                self.failed += 1;
                self.missed += u64::from(self.is_free(order));
            }
            None => {}
        }
    }

    /// Whether an aligned folio of this order is free, by what is held.
    fn is_free(&self, order: Order) -> bool {
        let mut units = vec![true; (FRAMES / order.pages()) as usize];
        for (frame, held) in &self.held {
            let first = frame / order.pages();
            let last = (frame + held.pages() - 1) / order.pages();
            units[first as usize..=last as usize].fill(false);
        }
        units.contains(&true)
    }

    fn time(&mut self, orders: Orders, steps: u32) {
        let ns = ns_per_step(steps, || (0..steps).for_each(|_| self.step::<false>(orders)));
        self.times.push(ns);
    }

    fn check(&mut self, orders: Orders, steps: u32) {
        (0..steps).for_each(|_| self.step::<true>(orders));
    }

    fn print(&self, label: &str, best: f64, harness: f64, steps: u32) {
        let ns = median(self.times.clone());
        let (ratio, net) = (ns / best, (ns - harness) / (best - harness));
        let failed = self.failed as f64 * 100.0 / f64::from(steps);
        row::<A>(label, ns, &format!("{ratio:>8.2}{net:>8.2}{failed:>9.2} %{:>8}", self.missed));
    }
}

/// Prints one table for each choice of orders.
pub(crate) fn run(effort: Effort) {
    println!("\n{:<52}{:>8}{:>8}{:>8}{:>11}{:>8}", "", "ns", "ratio", "net", "failed", "missed");
    compare("mixed, uniform orders", Orders::Uniform, effort);
    compare("mixed, geometric orders", Orders::Geometric, effort);
}

fn compare(label: &str, orders: Orders, effort: Effort) {
    let (frame_alloc, buddy_system, ours, nothing) = all();
    let mut frame_alloc = Load::new(frame_alloc, orders, effort);
    let mut buddy_system = Load::new(buddy_system, orders, effort);
    let mut ours = Load::new(ours, orders, effort);
    let mut nothing = Load::new(nothing, orders, effort);
    for _ in 0..effort.rounds {
        frame_alloc.time(orders, effort.steps);
        buddy_system.time(orders, effort.steps);
        ours.time(orders, effort.steps);
        nothing.time(orders, effort.steps);
    }
    frame_alloc.check(orders, effort.steps);
    buddy_system.check(orders, effort.steps);
    ours.check(orders, effort.steps);
    let best = median(frame_alloc.times.clone()).min(median(buddy_system.times.clone()));
    let harness = median(nothing.times.clone());
    frame_alloc.print(label, best, harness, effort.steps);
    buddy_system.print(label, best, harness, effort.steps);
    ours.print(label, best, harness, effort.steps);
    row::<crate::Nothing>(label, harness, "");
    assert_eq!(ours.missed, 0, "a free unit was not found");
}
