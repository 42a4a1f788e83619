//! How many accesses a second each TLB model takes, on zipf and on a scan, with pages alone and in folios.
//!
//! `cargo run --release -p quire-sim --example tlb_speed [PAGES [ACCESSES]]`, by default 262144 (1 GiB) and 2^22. The
//! accesses are made beforehand and played five times; the fastest counts. Besides, how fast they are made, written
//! as a trace and read.

use quire_core::{Frame, Order, Space};
use quire_sim::tlb::{Mapping, Model};
use quire_sim::trace::{Access, Event, Reader, Writer};
use quire_sim::workload::{Kind, Shape, Size};
use std::hint::black_box;
use std::time::Instant;

const ROUNDS: usize = 5;

/// Millions of times in a second, for `count` times in the fastest of some rounds.
#[expect(clippy::disallowed_methods, reason = "measuring time is what this is for")]
fn rate(count: usize, mut round: impl FnMut()) -> f64 {
    let seconds = (0..ROUNDS).map(|_| {
        let begin = Instant::now();
        round();
        begin.elapsed().as_secs_f64()
    });
    count as f64 / seconds.fold(f64::MAX, f64::min) / 1e6
}

/// Plays the accesses to a TLB of `model`, frames as if every folio were one of `order`; prints the rate and the hits.
fn play(model: Model, order: Order, accesses: &[Access]) {
    let mut tlb = model.build();
    let rate = rate(accesses.len(), || {
        for access in accesses {
            let offset = access.vpn.0 - Shape::START.0;
            // Folios lie in reverse, so that none is beside the one of its neighbour.
            let first = u32::MAX / 2 - order.align_down(offset) as u32;
            let frame =
                Frame((order.align_down(u64::from(first)) + offset % u64::from(order.pages())) as u32);
            black_box(tlb.access(Space(0), access.vpn, Mapping::of_folio(frame, order)));
        }
    });
    let counts = tlb.counts();
    assert_eq!(counts.stale, 0, "frames are where they were");
    let share = |n: u64| 100.0 * n as f64 / counts.accesses() as f64;
    let (l1, misses) = (share(counts.l1_hits), share(counts.misses));
    println!(
        "  {model:<12} {order:>4}  {rate:7.1} M/s  {l1:5.1} % in the first level, {misses:5.1} % missed"
    );
}

fn trace_speed(events: &[Event]) {
    let mut bytes = Vec::new();
    let written = rate(events.len(), || {
        let mut writer = Writer::new(Vec::new());
        events.iter().for_each(|&e| writer.write(e).expect("valid"));
        bytes = writer.finish().expect("memory");
    });
    let read = rate(events.len(), || {
        let all = Reader::new(&*bytes).expect("a trace").map(|e| e.expect("an event"));
        assert_eq!(all.count(), events.len());
    });
    let size = bytes.len() as f64 / events.len() as f64;
    println!("  as a trace: {size:.2} bytes an event, {written:.1} M/s written, {read:.1} M/s read");
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse().expect("a number"));
    let pages: u64 = arguments.next().unwrap_or(1 << 18);
    let count: u64 = arguments.next().unwrap_or(1 << 22);
    for kind in [Kind::Zipf, Kind::Sequential] {
        let make = || kind.events(Size { pages, events: count }, 1);
        let made = rate(count as usize, || make().for_each(|e| _ = black_box(e)));
        println!("{kind}, {pages} pages, {count} accesses: {made:.1} M/s made");
        let events: Vec<Event> = make().collect();
        trace_speed(&events);
        let access = |e: &Event| if let Event::Access(access) = e { Some(*access) } else { None };
        let accesses: Vec<Access> = events.iter().filter_map(access).collect();
        for model in Model::ALL {
            for order in [0, 4, 9].map(|n| Order::new(n).expect("an order")) {
                play(model, order, &accesses);
            }
        }
    }
}
