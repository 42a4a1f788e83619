//! What a fault costs in the engine alone: `cargo bench -p quire-core --bench fault`.
//!
//! The host is nothing but a bit a page that says whether it is at the program's address: no page table, no contents,
//! no threads. So this is the engine's own work, from the message to the answer: tables, policy, frames, the job's
//! ticket; in the second table also ageing, moving out, places in the store.
#![expect(clippy::disallowed_methods, reason = "a clock is what a bench is for")]

use quire_core::job::{JobKind, Outcome, Packed, Stored, Work};
use quire_core::mmu::{Done, Mmu, Mover, Prot, Refusal};
use quire_core::{
    Block, Config, Engine, Fault, Figures, FrameRun, Message, Order, PageRange, PolicyKind, Reclaim, Space,
    Store, StoreMemory, Urgency, Vpn,
};
use std::time::{Duration, Instant};

const SPACE: Space = Space(0);

/// Page tables without entries.
struct Bits {
    present: Vec<bool>,
    store: Store,
}

/// The store's memory: none.
struct Nothing;

impl StoreMemory for Nothing {
    fn move_stored(&mut self, _: u32, _: u32, _: u16) {}

    fn release_stored(&mut self, _: core::ops::Range<u32>) {}
}

impl Bits {
    fn set(&mut self, at: Vpn, pages: u32, present: bool) -> Done {
        self.present[at.0 as usize..][..pages as usize].fill(present);
        Done::all(pages)
    }
}

impl Mmu for Bits {
    fn discard(&mut self, range: PageRange) -> Result<(), Refusal> {
        self.set(range.start, range.pages as u32, false);
        Ok(())
    }

    fn protect(&mut self, _: PageRange, _: Prot) -> Result<(), Refusal> {
        Ok(())
    }

    fn lock(&mut self, _: PageRange, _: bool) -> Result<(), Refusal> {
        Ok(())
    }

    fn present(&mut self, _: Space, vpn: Vpn) -> bool {
        self.present[vpn.0 as usize]
    }

    fn release(&mut self, _: FrameRun) {}

    fn tell(&mut self, message: Message) {
        self.store.hear(&mut Nothing, message);
    }

    fn look(&self, block: Block) -> Option<Stored> {
        self.store.look(block)
    }

    fn figures(&self) -> Figures {
        self.store.figures()
    }
}

impl Mover for Bits {
    fn move_in(&mut self, frames: FrameRun, _: Space, at: Vpn) -> Done {
        self.set(at, frames.pages, true)
    }

    fn move_out(&mut self, _: Space, at: Vpn, frames: FrameRun) -> Done {
        self.set(at, frames.pages, false)
    }

    fn copy_in(&mut self, frames: FrameRun, _: Space, at: Vpn) -> Done {
        self.set(at, frames.pages, true)
    }

    fn copy_staged(&mut self, _: u32, to: PageRange) -> Done {
        self.set(to.start, to.pages as u32, true)
    }

    fn copy_zeroes(&mut self, to: PageRange) -> Done {
        self.set(to.start, to.pages as u32, true)
    }

    fn unshare(&mut self, range: PageRange) -> Done {
        Done::all(range.pages as u32)
    }

    fn remap(&mut self, _: PageRange, _: Vpn) -> Result<(), Refusal> {
        Err(Refusal::NoRange)
    }

    fn wake(&mut self, _: PageRange) {}
}

/// An engine, and a host that does its jobs at once.
struct Host {
    engine: Engine,
    bits: Bits,
    work: Work,
    random: u64,
}

impl Host {
    /// With `pages` pages mapped and `grant` pages of memory.
    fn new(policy: PolicyKind, pages: u64, grant: u32) -> Host {
        let mut engine = Engine::new(Config { frames: 2 * grant, grant, policy });
        let mut bits = Bits { present: vec![false; pages as usize], store: Store::new(grant, 16, grant) };
        let mapped = engine.map_range(&mut bits, PageRange::new(SPACE, Vpn(0), pages), Prot::READ_WRITE);
        assert_eq!(mapped, Ok(()));
        Host { engine, bits, work: Work::new(), random: 1 }
    }

    /// A number below `end` (xorshift64).
    fn below(&mut self, end: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        ((u128::from(self.random) * u128::from(end)) >> 64) as u64
    }

    /// Answers a fault.
    fn fault(&mut self, vpn: Vpn) {
        loop {
            match self.engine.fault(&mut self.bits, SPACE, vpn, &mut self.work) {
                Fault::Mapped => return,
                Fault::Job => return self.run(),
                Fault::NoFrame => _ = self.reclaim(Urgency::Direct),
                other => panic!("a fault at {vpn:?} ends in {other:?}"),
            }
        }
    }

    fn reclaim(&mut self, urgency: Urgency) -> Reclaim {
        let step = self.engine.reclaim(&mut self.bits, urgency, &mut self.work);
        match step {
            Reclaim::Job => self.run(),
            Reclaim::Waiting | Reclaim::Stuck => panic!("reclaim is {step:?}"),
            Reclaim::Idle | Reclaim::Progress => {}
        }
        step
    }

    /// Does the job in `work`. Of the pages to be stored half have not changed since they were stored last.
    fn run(&mut self) {
        if self.work.kind == JobKind::Write {
            self.bits.store.known(&mut self.work);
            for i in 0..self.work.frames.pages as usize {
                let same = self.work.known[i].is_some() && self.below(2) == 0;
                let hash = u128::from(self.random);
                self.work.packed.push(if same { Packed::Same } else { Packed::Small { len: 1000, hash } });
            }
            assert!(self.bits.store.place(&mut Nothing, &mut self.work));
            self.bits.store.written(&mut Nothing, &mut self.work, Outcome::Done);
        }
        let ended = self.engine.finish(&mut self.bits, &self.work, Outcome::Done);
        assert_eq!(ended, Ok(()));
    }
}

/// How much is measured.
#[derive(Clone, Copy)]
struct Effort {
    rounds: usize,
    pages: u64,
    faults: u32,
}

fn main() {
    // `cargo test --benches` only wants to know that it runs.
    let measures = std::env::args().any(|argument| argument == "--bench");
    let effort = match measures {
        true => Effort { rounds: 11, pages: 1 << 16, faults: 20_000 },
        false => Effort { rounds: 1, pages: 1 << 11, faults: 100 },
    };
    fresh(effort);
    steady(effort);
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn ns(time: Duration, faults: u64) -> f64 {
    time.as_nanos() as f64 / faults as f64
}

/// First touches, in order of address.
fn fresh(effort: Effort) {
    println!(
        "fresh memory, {} pages in order of address; ns a fault, medians of {}",
        effort.pages, effort.rounds
    );
    println!("{:<10}{:>12}{:>16}", "folios of", "with a job", "zeroed before");
    for order in Order::all() {
        let faults = effort.pages / u64::from(order.pages());
        let with_job = median((0..effort.rounds).map(|_| touch_all(order, effort.pages, false)).collect());
        let zeroed = median((0..effort.rounds).map(|_| touch_all(order, effort.pages, true)).collect());
        println!("{:<10}{:>12.0}{:>16.0}", order.to_string(), ns(with_job, faults), ns(zeroed, faults));
    }
}

/// How long it takes to fault in all of `pages` pages, tables included. Base pages have no job: one page of zeroes is
/// copied in.
fn touch_all(order: Order, pages: u64, zeroed: bool) -> Duration {
    let mut host = Host::new(PolicyKind::Fixed(order), pages, 4 * pages as u32);
    if zeroed {
        while host.engine.zero_ahead(&mut host.bits, pages as u32, Order::MAX, &mut host.work) {
            host.run();
        }
    }
    let begin = Instant::now();
    for vpn in (0..pages).step_by(order.pages() as usize) {
        host.fault(Vpn(vpn));
    }
    begin.elapsed()
}

/// Touches at random of twice the memory there is, each page of which compresses to a quarter.
fn steady(effort: Effort) {
    println!(
        "\nrefaults at random with reclaim, {} pages in half of that; ns a fault, all included",
        effort.pages
    );
    println!("{:<12}{:>10}{:>14}{:>12}{:>14}", "policy", "a fault", "rescued", "swapped in", "pages each");
    let order = |number| Order::new(number).unwrap_or(Order::BASE);
    for number in [0, 2, 4, 6, 9] {
        refault(&format!("fixed:{}", order(number)), PolicyKind::Fixed(order(number)), effort);
    }
    refault("adaptive", PolicyKind::Adaptive, effort);
}

fn refault(name: &str, policy: PolicyKind, effort: Effort) {
    let mut host = Host::new(policy, effort.pages, effort.pages as u32 / 2);
    for vpn in 0..effort.pages {
        touch(&mut host, vpn);
    }
    // Until what is out is out in the order of the touches, and most of it was stored more than once.
    (0..2 * effort.faults).for_each(|_| fault_at_random(&mut host, effort));
    let before = *host.engine.stats();
    let times = (0..effort.rounds).map(|_| {
        let begin = Instant::now();
        (0..effort.faults).for_each(|_| fault_at_random(&mut host, effort));
        begin.elapsed()
    });
    let time = median(times.collect());
    let after = host.engine.stats();
    let all = effort.rounds as f64 * f64::from(effort.faults);
    let sum = |orders: &[u64], less: &[u64]| orders.iter().sum::<u64>() - less.iter().sum::<u64>();
    let rescued = sum(&after.rescues, &before.rescues) as f64 * 100.0 / all;
    let swapped_in = sum(&after.swap_ins, &before.swap_ins);
    let pages = |orders: &[u64]| -> u64 { orders.iter().enumerate().map(|(order, n)| n << order).sum() };
    let each = (pages(&after.swap_ins) - pages(&before.swap_ins)) as f64 / swapped_in as f64;
    println!(
        "{name:<12}{:>10.0}{rescued:>12.1} %{:>10.1} %{each:>14.1}",
        ns(time, u64::from(effort.faults)),
        swapped_in as f64 * 100.0 / all
    );
}

/// A fault, and then what reclaim does behind it.
fn fault_at_random(host: &mut Host, effort: Effort) {
    let mut vpn = host.below(effort.pages);
    while host.bits.present[vpn as usize] {
        vpn = host.below(effort.pages);
    }
    touch(host, vpn);
}

fn touch(host: &mut Host, vpn: u64) {
    if !host.bits.present[vpn as usize] {
        host.fault(Vpn(vpn));
        while host.engine.pressed() && host.reclaim(Urgency::Behind) != Reclaim::Idle {}
    }
}
