//! The buddy against the crates that do the same: `cargo bench -p quire-core --bench buddy`.
//!
//! 1 GiB, orders 0..=9: folios are taken and given back at random. All allocators take turns, round by round, so that
//! what disturbs the machine meets them alike; the medians of the rounds are printed, and their ratio to the better of
//! the other two. The harness (a random number, a list of what is held) has a row of its own, and `net` is the ratio
//! without it.
//!
//! Ours taking more than 1.25 times as long as the better of the other two is a failure.
//!
//! Then every test runs once more, with each failed allocation held against what is really free: `missed` counts
//! those that a free unit could have served.
//!
//! `frame-alloc` may be used by several threads at once, which costs it atomics, and it tries what fails eight times
//! more, since a thread may be giving something back.
#![expect(clippy::disallowed_methods, reason = "a clock is what a bench is for")]

mod allocators;
mod largest;
mod mixed;

use allocators::{BuddySystem, FrameAlloc, Frames, Nothing, Ours};
use std::time::Instant;

/// 1 GiB.
pub(crate) const FRAMES: u32 = 262_144;

/// How much is measured.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    pub(crate) steps: u32,
}

impl Effort {
    /// Whether so much is done that times mean something.
    pub(crate) fn measures(self) -> bool {
        self.rounds > 1
    }
}

fn main() {
    // `cargo test --benches` only wants to know that it runs.
    let measures = std::env::args().any(|argument| argument == "--bench");
    let effort =
        if measures { Effort { rounds: 21, steps: 300_000 } } else { Effort { rounds: 1, steps: 2_000 } };
    println!("{FRAMES} frames, orders 0..=9; medians of {} rounds of {} steps", effort.rounds, effort.steps);
    mixed::run(effort);
    largest::run(effort);
}

/// Every allocator that is compared, and none at all.
pub(crate) fn all() -> (FrameAlloc, BuddySystem, Ours, Nothing) {
    (FrameAlloc::new(FRAMES), BuddySystem::new(FRAMES), Ours::new(FRAMES), Nothing)
}

/// ns that each of `steps` steps took.
pub(crate) fn ns_per_step(steps: u32, work: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    work();
    begin.elapsed().as_nanos() as f64 / f64::from(steps)
}

pub(crate) fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// A splitmix generator: a counter, well mixed.
#[derive(Clone)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    #[inline]
    pub(crate) fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }
}

/// A number below `end`, from the upper half of a random one.
#[inline]
pub(crate) fn below(random: u64, end: usize) -> usize {
    (((random >> 32) * end as u64) >> 32) as usize
}

/// A row of a table.
pub(crate) fn row<A: Frames>(label: &str, ns: f64, rest: &str) {
    println!("{label:<28}{:<24}{ns:>8.1}{rest}", A::NAME);
}
