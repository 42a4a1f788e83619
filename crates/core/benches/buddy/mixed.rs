//! Folios taken and given back at random, at a certain fill.

use crate::allocators::Frames;
use crate::{Effort, FRAMES, Rng, all, below, median, ns_per_step, row};
use quire_core::Order;

/// Times of the better of the other two that an operation may take.
const MOST: f64 = 1.25;

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

/// What is asked for.
#[derive(Clone, Copy)]
struct Mix {
    orders: Orders,
    /// Frames in use below which only is taken ...
    low: u32,
    /// ... and above which only is given back.
    high: u32,
}

impl Mix {
    /// Between `percent` - 2 and `percent` + 2 % of the frames in use.
    const fn new(orders: Orders, percent: u32) -> Mix {
        Mix { orders, low: FRAMES / 100 * (percent - 2), high: FRAMES / 100 * (percent + 2) }
    }
}

/// An allocator at work.
struct Load<A> {
    allocator: A,
    mix: Mix,
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
    fn new(allocator: A, mix: Mix, effort: Effort) -> Load<A> {
        let held = Vec::with_capacity(FRAMES as usize);
        let (rng, times) = (Rng(1), Vec::new());
        let mut load = Load { allocator, mix, rng, held, in_use: 0, failed: 0, missed: 0, times };
        while load.in_use < mix.low {
            load.step::<false>();
        }
        (0..effort.steps).for_each(|_| load.step::<false>());
        load
    }

    /// Takes or gives back one folio.
    #[inline]
    fn step<const CHECKED: bool>(&mut self) {
        let random = self.rng.any();
        let takes = self.in_use < self.mix.low || self.in_use < self.mix.high && random & 1 == 0;
        if !takes {
            let (frame, order) = self.held.swap_remove(below(random, self.held.len()));
            self.in_use -= order.pages();
            self.allocator.free(frame, order);
            return;
        }
        let order = self.mix.orders.pick(random);
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

    fn time(&mut self, steps: u32) {
        let ns = ns_per_step(steps, || (0..steps).for_each(|_| self.step::<false>()));
        self.times.push(ns);
    }

    fn check(&mut self, steps: u32) {
        (0..steps).for_each(|_| self.step::<true>());
    }

    fn print(&self, label: &str, best: f64, harness: f64, steps: u32) {
        let ns = median(self.times.clone());
        let (ratio, net) = (ns / best, (ns - harness) / (best - harness));
        let failed = self.failed as f64 * 100.0 / f64::from(steps);
        row::<A>(label, ns, &format!("{ratio:>8.2}{net:>8.2}{failed:>9.2} %{:>8}", self.missed));
    }
}

/// Prints the table.
pub(crate) fn run(effort: Effort) {
    println!("\n{:<52}{:>8}{:>8}{:>8}{:>11}{:>8}", "", "ns", "ratio", "net", "failed", "missed");
    compare("70 % full, uniform orders", Mix::new(Orders::Uniform, 70), effort);
    compare("70 % full, geometric orders", Mix::new(Orders::Geometric, 70), effort);
    compare("97 % full, geometric orders", Mix::new(Orders::Geometric, 97), effort);
}

fn compare(label: &str, mix: Mix, effort: Effort) {
    let (frame_alloc, buddy_system, ours, nothing) = all();
    let mut frame_alloc = Load::new(frame_alloc, mix, effort);
    let mut buddy_system = Load::new(buddy_system, mix, effort);
    let mut ours = Load::new(ours, mix, effort);
    let mut nothing = Load::new(nothing, mix, effort);
    for _ in 0..effort.rounds {
        frame_alloc.time(effort.steps);
        buddy_system.time(effort.steps);
        ours.time(effort.steps);
        nothing.time(effort.steps);
    }
    frame_alloc.check(effort.steps);
    buddy_system.check(effort.steps);
    ours.check(effort.steps);
    let best = median(frame_alloc.times.clone()).min(median(buddy_system.times.clone()));
    let harness = median(nothing.times.clone());
    frame_alloc.print(label, best, harness, effort.steps);
    buddy_system.print(label, best, harness, effort.steps);
    ours.print(label, best, harness, effort.steps);
    row::<crate::Nothing>(label, harness, "");
    assert_eq!(ours.missed, 0, "a free unit was not found");
    let ratio = median(ours.times.clone()) / best;
    assert!(
        !effort.measures() || ratio <= MOST,
        "{label}: {ratio:.2} times the better of the two, {MOST} at the most"
    );
}
