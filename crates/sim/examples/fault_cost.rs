//! What a fault costs in the engine alone: tables, policy, buddy, lists. The host does nothing and takes no time.
//!
//! `cargo run --release -p quire-sim --example fault_cost [ROUNDS]` prints ns for each kind of fault, the least of
//! several rounds.
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use quire_core::job::{Outcome, Work};
use quire_core::mmu::{Done, Mmu, Mover, Prot, Refusal};
use quire_core::{Config, Engine, Fault, FrameRun, Order, PageRange, PolicyKind, Space, Vpn};
use std::time::Instant;

const PAGES: u64 = 1 << 16;
const SPACE: Space = Space(0);

/// A host whose verbs all go well.
struct Idle;

impl Mmu for Idle {
    fn discard(&mut self, _: PageRange) -> Result<(), Refusal> {
        Ok(())
    }
    fn protect(&mut self, _: PageRange, _: Prot) -> Result<(), Refusal> {
        Ok(())
    }
    fn lock(&mut self, _: PageRange, _: bool) -> Result<(), Refusal> {
        Ok(())
    }
    fn present(&mut self, _: Space, _: Vpn) -> bool {
        true
    }
    fn release(&mut self, _: FrameRun) {}
    fn release_span(&mut self, _: u32) {}
}

impl Mover for Idle {
    fn move_in(&mut self, frames: FrameRun, _: Space, _: Vpn) -> Done {
        Done::all(frames.pages)
    }
    fn move_out(&mut self, _: Space, _: Vpn, frames: FrameRun) -> Done {
        Done::all(frames.pages)
    }
    fn copy_in(&mut self, frames: FrameRun, _: Space, _: Vpn) -> Done {
        Done::all(frames.pages)
    }
    fn copy_staged(&mut self, _: u32, to: PageRange) -> Done {
        Done::all(to.pages as u32)
    }
    fn copy_zeroes(&mut self, to: PageRange) -> Done {
        Done::all(to.pages as u32)
    }
    fn unshare(&mut self, range: PageRange) -> Done {
        Done::all(range.pages as u32)
    }
    fn remap(&mut self, _: PageRange, _: Vpn) -> Result<(), Refusal> {
        Ok(())
    }
    fn wake(&mut self, _: PageRange) {}
}

/// ns for each fault of a fill, of a late message, of a rescue, and for each page of a discard.
fn round(order: Order) -> [f64; 4] {
    let config =
        Config { frames: PAGES as u32, spans: 64, grant: PAGES as u32, policy: PolicyKind::Fixed(order) };
    let (mut engine, mut mmu, mut work) = (Engine::new(config), Idle, Work::new());
    let all = PageRange::new(SPACE, Vpn(0), PAGES);
    assert!(engine.map_range(&mut mmu, all, Prot::READ_WRITE).is_ok());
    let step = u64::from(order.pages());
    let faults = PAGES / step;
    let each = |begin: Instant, of: u64| begin.elapsed().as_nanos() as f64 / of as f64;
    let fill = Instant::now();
    for vpn in (0..PAGES).step_by(step as usize).map(Vpn) {
        if engine.fault(&mut mmu, SPACE, vpn, &mut work) == Fault::Job {
            assert!(engine.finish(&mut mmu, work.ticket, Outcome::Done, &[]).is_ok());
        }
    }
    let fill = each(fill, faults);
    let late = Instant::now();
    for vpn in (0..PAGES).step_by(step as usize).map(Vpn) {
        assert_eq!(engine.fault(&mut mmu, SPACE, vpn, &mut work), Fault::Mapped);
    }
    let late = each(late, faults);
    engine.page_out(&mut mmu, all);
    let rescue = Instant::now();
    for vpn in (0..PAGES).step_by(step as usize).map(Vpn) {
        assert_eq!(engine.fault(&mut mmu, SPACE, vpn, &mut work), Fault::Mapped);
    }
    let rescue = each(rescue, faults);
    let discard = Instant::now();
    let mut rest = Some(all);
    while let Some(range) = rest {
        rest = engine.discard_step(&mut mmu, range).unwrap_or(None);
    }
    [fill, late, rescue, each(discard, PAGES)]
}

fn main() {
    let rounds = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(20);
    for order in [0, 4].into_iter().filter_map(Order::new) {
        let mut least = [f64::INFINITY; 4];
        for _ in 0..rounds {
            let times = round(order);
            (0..4).for_each(|i| least[i] = least[i].min(times[i]));
        }
        let [fill, late, rescue, discard] = least;
        println!(
            "{order}: fill {fill:.0} ns, late message {late:.0} ns, rescue {rescue:.0} ns a fault; discard {discard:.0} ns a page"
        );
    }
}
