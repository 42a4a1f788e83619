//! Memory that has been in use for some days, and how much of what is free can be had in large folios.
//!
//! `cargo test -p quire-sim --test compaction -- --nocapture` prints the table.

use quire_core::mmu::Prot;
use quire_core::{Fault, Order, PageRange, PolicyKind, Vpn};
use quire_sim::Host;
use quire_sim::trace::Event;
use quire_sim::workload::{Ageing, Days};
use quire_sim::world::{Put, SPACE, Setup, Touch};
use std::collections::BTreeSet;

const DAYS: Days = Days { space: SPACE, days: 3, calls_per_day: 10_000, pages: 1 << 14 };
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
    Host::new(Setup { frames, spans: 16, grant: frames, policy, arena: ARENA, threads: 1, spill: None })
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
    host.engine.validate().unwrap();
    host.model.check(&host.mmu).unwrap();
    host
}

/// The part of all that is free that faults of one order get in folios of that order, and pages free.
fn served(host: &Host, order: Order) -> (f64, u32) {
    let mut host = host.clone();
    host.engine.set_policy(PolicyKind::Fixed(order));
    host.map(PageRange::new(SPACE, Vpn(FRESH), 1 << 20), Prot::READ_WRITE);
    let free = host.engine.room();
    let requests = free / order.pages();
    let before = host.engine.stats().zero_fills[order.index()];
    for i in 0..requests {
        write(&mut host, Vpn(FRESH + u64::from(i * order.pages())));
    }
    let got = host.engine.stats().zero_fills[order.index()] - before;
    (got as f64 / f64::from(requests.max(1)), free)
}

/// Requests for 64 KiB in aged memory: a buddy that only waits serves less than a tenth of them, with compaction at
/// least half are served.
#[test]
fn compaction_keeps_large_folios_to_be_had_in_aged_memory() {
    let frames = frames(1);
    let (plain, tended) = (aged(1, false), aged(1, true));
    println!(
        "order   plain buddy  with compaction   (share of the free pages that faults get in that order)"
    );
    let mut at_64k = (1.0, 0.0);
    for order in Order::all() {
        let ((without, free), (with, _)) = (served(&plain, order), served(&tended, order));
        println!(
            "{:5}   {:10.1}%  {:14.1}%   {free} free of {frames}",
            order.to_string(),
            100.0 * without,
            100.0 * with
        );
        if order.index() == 4 {
            at_64k = (without, with);
        }
    }
    let stats = tended.engine.stats();
    println!(
        "{} pages were given other slots; {} folios were collapsed",
        stats.compacted_pages,
        stats.collapses.iter().sum::<u64>()
    );
    assert!(at_64k.0 < 0.1, "a plain buddy serves {:.3}", at_64k.0);
    assert!(at_64k.1 >= 0.5, "with compaction {:.3} are served", at_64k.1);
    assert!(stats.compacted_pages > 0);
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
    assert_eq!(served(&host, sixteen).0, 0.0);
    let tend = |host: &mut Host| {
        host.epoch += 1;
        while host.engine.tend(&mut host.mmu, host.epoch) {}
        host.engine.validate().unwrap();
    };
    tend(&mut host);
    let moved = host.engine.stats().compacted_pages;
    assert!((8..=16).contains(&moved), "{moved} pages were given other slots");
    assert_eq!(frames(&host), fuller, "these have to wait");
    (0..5).for_each(|_| tend(&mut host));
    let (part, free) = served(&host, sixteen);
    assert!(part >= 0.75 && free == 176, "{part:.2} of {free} pages are in runs");
    host.model.check(&host.mmu).unwrap();
}

/// Nobody waits for longer than a bite: half of 4096 slots are in use in every run, which is much to vacate at once.
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
    assert!(before >= 1024 * 3 / 4, "{before} pages were given other slots");
    host.engine.validate().unwrap();
    host.model.check(&host.mmu).unwrap();
}
