//! Memory that has been in use for some days, and how much of what is free can be had in large folios.
//!
//! `cargo test -p quire-sim --test compaction -- --nocapture` prints the table; `QUIRE_SEEDS=n` ages n memories.

use quire_core::mmu::Prot;
use quire_core::{Fault, Order, PageRange, PolicyKind, Vpn};
use quire_sim::Host;
use quire_sim::trace::Event;
use quire_sim::workload::{Ageing, Days};
use quire_sim::world::{Put, SPACE, Setup, Touch};
use std::collections::BTreeSet;
use std::fmt;

/// 64 MiB, of which no mapping takes more than a 64th: in so small a memory one large mapping that happens to be free at
/// midnight would be many runs of 64 KiB. Sixteen mappings are filled at a time.
const DAYS: Days =
    Days { space: SPACE, days: 3, calls_per_day: 8000, pages: 1 << 14, filling: 16, largest: 1 << 7 };
/// Where the ageing program maps, and behind it where the requests go.
const ARENA: u64 = 1 << 28;
const FRESH: u64 = ARENA - (1 << 20);

/// Frames for the most pages that are in use at a time, and a 64th more: a pool that was full once.
fn frames(seed: u64) -> u32 {
    let (mut used, mut most) = (BTreeSet::new(), 0);
    for event in Ageing::new(DAYS, seed) {
        match event {
            Event::Access(access) => _ = used.insert(access.vpn),
            Event::Unmap(range) | Event::Discard(range) => {
                used.extract_if(range.start..range.end(), |_| true).for_each(drop);
            }
            _ => {}
        }
        most = most.max(used.len() as u32);
    }
    most + most / 64
}

fn host(frames: u32) -> Host {
    let policy = PolicyKind::Fixed(Order::BASE);
    Host::new(Setup { frames, segments: 64, grant: frames, policy, arena: ARENA, threads: 1, spill: None })
}

fn write(host: &mut Host, vpn: Vpn) {
    let put = Some(Put::Small);
    host.touch(0, Touch { vpn, put }).unwrap();
    while host.mmu.waiters.waits(0) {
        host.take_message(0);
        let message = host.held.pop().unwrap();
        if host.serve(message).unwrap() == Fault::Job {
            while !host.step(0).unwrap() {}
        }
        host.mmu.waiters.take_woken();
        host.touch(0, Touch { vpn, put }).unwrap();
    }
}

/// Some days of a machine, up to a midnight. With `tended`, the engine's own work is done four times an hour.
fn aged(seed: u64, tended: bool) -> Host {
    let mut host = host(frames(seed));
    let mut calls = 0;
    for event in Ageing::new(DAYS, seed) {
        match event {
            Event::Map { range, prot } => host.map(range, prot),
            Event::Unmap(range) => host.unmap(range),
            Event::Discard(range) => host.discard(range),
            Event::Access(access) => write(&mut host, access.vpn),
            Event::Time { .. } => {
                calls += 1;
                if tended && calls % 100 == 0 {
                    host.epoch += 1;
                    while host.engine.tend(&mut host.mmu, host.epoch) {}
                }
            }
            _ => {}
        }
    }
    host.engine.validate(&host.mmu.store).unwrap();
    host.model.check(&host.mmu).unwrap();
    host
}

/// The part of all that is free that faults of one order get in folios of that order.
fn served(host: &Host, order: Order) -> f64 {
    let mut host = host.clone();
    host.engine.set_policy(PolicyKind::Fixed(order));
    host.map(PageRange::new(SPACE, Vpn(FRESH), 1 << 20), Prot::READ_WRITE);
    let requests = host.engine.room() / order.pages();
    let before = host.engine.stats().zero_fills[order.index()];
    for i in 0..requests {
        write(&mut host, Vpn(FRESH + u64::from(i * order.pages())));
    }
    let got = host.engine.stats().zero_fills[order.index()] - before;
    got as f64 / f64::from(requests.max(1))
}

#[expect(clippy::disallowed_methods, reason = "whoever runs the test decides")]
fn seeds() -> u64 {
    std::env::var("QUIRE_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(6)
}

/// Shares over all seeds.
struct Shares(Vec<f64>);

impl Shares {
    fn least(&self) -> f64 {
        self.0.iter().copied().fold(1.0, f64::min)
    }

    fn most(&self) -> f64 {
        self.0.iter().copied().fold(0.0, f64::max)
    }
}

impl fmt::Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mean = self.0.iter().sum::<f64>() / self.0.len() as f64;
        write!(f, "{:5.1} {:5.1} {:5.1}", 100.0 * self.least(), 100.0 * mean, 100.0 * self.most())
    }
}

/// What is served in each order, whatever the seed.
fn by_order(tended: bool) -> Vec<Shares> {
    let hosts: Vec<Host> = (1..=seeds()).map(|seed| aged(seed, tended)).collect();
    assert!(hosts.iter().all(|host| (host.engine.stats().compacted_pages > 0) == tended));
    Order::all().map(|order| Shares(hosts.iter().map(|host| served(host, order)).collect())).collect()
}

/// Requests for 64 KiB in aged memory: a buddy that only waits serves less than a tenth of them, with compaction at
/// least half are served, whatever the seed.
#[test]
fn compaction_keeps_large_folios_to_be_had_in_aged_memory() {
    let (plain, tended) = std::thread::scope(|scope| {
        let plain = scope.spawn(|| by_order(false));
        let tended = by_order(true);
        (plain.join().unwrap(), tended)
    });
    println!("% of the free pages that faults get in each order, over {} seeds: least, mean, most", seeds());
    println!("order          plain buddy      with compaction");
    for ((order, plain), tended) in Order::all().zip(plain).zip(tended) {
        println!("{:5}    {plain}    {tended}", order.to_string());
        if order.index() == 4 {
            assert!(plain.most() < 0.1, "plain buddies serve {:.3?}", plain.0);
            assert!(tended.least() >= 0.5, "with compaction {:.3?} are served", tended.0);
        }
    }
}

/// Of 16 runs of 64 KiB the first half is in use for 2 of 16 pages, the others for 8 of 16. A pass takes what is
/// emptiest; a later one the others, when that is not enough.
#[test]
fn the_emptiest_runs_are_vacated_first() {
    let mut host = host(256);
    host.map(PageRange::new(SPACE, Vpn(0), 256), Prot::READ_WRITE);
    (0..256).for_each(|page| write(&mut host, Vpn(page)));
    for page in 0..256 {
        let apart = if page < 128 { 8 } else { 2 };
        if page % apart != 0 {
            host.discard(PageRange::new(SPACE, Vpn(page), 1));
        }
    }
    let frames = |host: &Host| -> Vec<_> {
        (128..256).map(|page| host.engine.whereabouts(SPACE, Vpn(page)).frame).collect()
    };
    let fuller = frames(&host);
    let sixteen = Order::fitting(16);
    assert_eq!(served(&host, sixteen), 0.0);
    let tend = |host: &mut Host| {
        host.epoch += 1;
        while host.engine.tend(&mut host.mmu, host.epoch) {}
        host.engine.validate(&host.mmu.store).unwrap();
    };
    tend(&mut host);
    let moved = host.engine.stats().compacted_pages;
    assert!((8..=16).contains(&moved), "{moved} pages were given other frames");
    assert_eq!(frames(&host), fuller, "these have to wait");
    (0..5).for_each(|_| tend(&mut host));
    let (part, free) = (served(&host, sixteen), host.engine.room());
    assert!(part >= 0.75 && free == 176, "{part:.2} of {free} pages are in runs");
    host.model.check(&host.mmu).unwrap();
}

/// Nobody waits for longer than a bite: half of 4096 frames are in use in every run, which is much to vacate at once.
#[test]
fn a_bite_of_compaction_is_bounded() {
    let mut host = host(4096);
    host.map(PageRange::new(SPACE, Vpn(0), 4096), Prot::READ_WRITE);
    (0..4096).for_each(|page| write(&mut host, Vpn(page)));
    (0..4096).step_by(2).for_each(|page| host.discard(PageRange::new(SPACE, Vpn(page), 1)));
    let mut before = 0;
    for epoch in 1..6 {
        while host.engine.tend(&mut host.mmu, epoch) {
            let moved = host.engine.stats().compacted_pages;
            assert!(moved - before <= 512, "{} pages in one bite", moved - before);
            before = moved;
        }
    }
    assert!(before >= 1024 * 3 / 4, "{before} pages were given other frames");
    host.engine.validate(&host.mmu.store).unwrap();
    host.model.check(&host.mmu).unwrap();
}
