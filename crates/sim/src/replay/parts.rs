//! What the figures of any replay are made of: each cause of time is the sum of what was counted at its cost, and counts are
//! sums of each other. Nothing here is an expected number.

use super::*;
use crate::workload::{Kind, Size};
use quire_core::{Order, PAGE_SIZE, PolicyKind};

const SIZE: Size = Size { pages: 4096, events: 24_000 };

fn sum(counts: &[u64]) -> u64 {
    counts.iter().sum()
}

fn pages(folios: &[u64; Order::COUNT]) -> u64 {
    Order::all().map(|order| folios[order.index()] * u64::from(order.pages())).sum()
}

/// Every workload under every kind of policy, with memory and without enough of it.
fn each(mut verb: impl FnMut(&str, &Cell, &Figures)) {
    for kind in
        [Kind::Sequential, Kind::Strided, Kind::Zipf, Kind::Sparse, Kind::Ageing, Kind::Forks, Kind::Several]
    {
        for policy in ["fixed:4K", "fixed:64K", "adaptive"] {
            for memory in [None, Some(2048)] {
                let policy: PolicyKind = policy.parse().expect("a policy");
                let cell = Cell { epoch_ns: 0, ..Cell::new(policy, memory, Model::Zen3) };
                let events = kind.events(SIZE, 7).map(Ok);
                let figures = replay(&cell, events, &mut |_, _| {}).expect("a replay");
                verb(&format!("{kind}, {policy}, {memory:?}"), &cell, &figures);
            }
        }
    }
}

#[test]
fn time_is_counts_at_their_costs() {
    each(|name, _, figures| {
        let (costs, tlb) = (figures.costs, figures.tlb);
        let time = |cause: Cause| figures.time[cause as usize];
        assert_eq!(time(Cause::Access), figures.accesses * costs.access, "{name}: accesses");
        let walks = tlb.misses * costs.walk + tlb.l2_hits * costs.second_level;
        assert_eq!(time(Cause::Walk), walks, "{name}: walks");
        assert_eq!(time(Cause::Fault), figures.faults * costs.fault, "{name}: faults");
        let interrupts = time(Cause::Interrupt) / costs.interrupt;
        assert_eq!(time(Cause::Interrupt) % costs.interrupt, 0, "{name}: interrupts");
        assert!(interrupts <= tlb.flushes, "{name}: {interrupts} interrupts, {} flushes", tlb.flushes);
        assert_eq!(figures.modelled_ns(), sum(&figures.time), "{name}: all");
        reads(name, figures);
        zeroes(name, figures);
    });
}

/// What was read: so many reads, of pages that are begun at the least, and at most one more for each read.
fn reads(name: &str, figures: &Figures) {
    let (costs, (bytes, calls)) = (figures.costs, figures.disk_read);
    let waited = figures.time[Cause::Disk as usize];
    assert!(waited >= calls * costs.read_call, "{name}: {waited} ns for {calls} reads");
    let rest = waited - calls * costs.read_call;
    let (pages, least) = (rest / costs.read_page, bytes.div_ceil(PAGE_SIZE as u64));
    assert_eq!(rest % costs.read_page, 0, "{name}: reads");
    assert!(
        (least..=least + calls).contains(&pages),
        "{name}: {pages} pages read, {bytes} bytes in {calls} reads"
    );
    let expanded = figures.time[Cause::Expand as usize];
    assert!(expanded >= figures.expanded_pages * costs.expand_page, "{name}: {expanded} ns");
    let zeroes = expanded - figures.expanded_pages * costs.expand_page;
    assert_eq!(zeroes % costs.zero_page, 0, "{name}: what is not expanded is zeroed");
}

/// Where nothing is moved out, pages are zeroed once: when they are filled.
fn zeroes(name: &str, figures: &Figures) {
    let filled = pages(&figures.stats.zero_fills);
    let zeroed = figures.zeroed_bytes / PAGE_SIZE as u64;
    assert!(zeroed >= filled, "{name}: {zeroed} pages zeroed, {filled} filled");
    if figures.stats.evicted_behind + figures.stats.evicted_direct == 0 {
        assert_eq!(zeroed, filled, "{name}: zeroed");
        let waited = figures.time[Cause::Zero as usize];
        let large = filled - figures.stats.zero_fills[0];
        assert_eq!(waited, large * figures.costs.fresh_page, "{name}: zeroing");
    }
}

#[test]
fn counts_are_sums_of_each_other() {
    each(|name, cell, figures| {
        let stats = &figures.stats;
        let answers = [&stats.zero_fills, &stats.swap_ins, &stats.rescues, &stats.cow_copies];
        let answered: u64 = answers.into_iter().map(|by_order| sum(by_order)).sum();
        assert_eq!(
            figures.faults,
            answered + stats.shared_maps + stats.late,
            "{name}: each fault has one answer"
        );
        let out = stats.evicted_behind + stats.evicted_direct;
        assert_eq!(pages(&stats.evictions), out, "{name}: pages moved out");
        let found = stats.pages_stored + stats.pages_same + stats.pages_zero;
        assert!(found <= out + pages(&stats.rescues), "{name}: {found} pages looked at, {out} moved out");
        assert!(pages(&stats.swap_outs) <= found, "{name}: {found} pages of folios stored");
        assert!(figures.expanded_pages <= pages(&stats.swap_ins), "{name}: {} pages", figures.expanded_pages);
        assert_eq!(
            (stats.foreign, stats.outside, sum(&stats.refusals)),
            (0, 0, 0),
            "{name}: nothing is refused"
        );
        assert_eq!(figures.tlb.stale, 0, "{name}");
        assert!(
            figures.resident.last <= figures.resident.peak && figures.wasted.peak <= figures.resident.peak,
            "{name}"
        );
        assert!(
            cell.memory.is_some() || (out, figures.disk_read) == (0, (0, 0)),
            "{name}: memory is not short"
        );
        let last = figures.series.samples.last().expect("a sample at the end");
        assert_eq!(
            (last.faults, last.ns),
            (figures.faults, figures.modelled_ns()),
            "{name}: the last sample"
        );
    });
}

/// A page that is needed again before as many pages have left as are in use begins as active, so that it outlives a stream
/// of pages that are used once: a scan does not push out what is used all the time.
#[test]
fn what_comes_back_soon_outlives_a_scan() {
    use crate::trace::{Access, Event};
    use quire_core::mmu::Prot;
    use quire_core::{PageRange, Space, Vpn};
    let (here, hot, memory) = (Space(0), 64, 1024);
    let write = |page| Event::Access(Access::write(here, Vpn(page)));
    let map = Event::Map { range: PageRange::new(here, Vpn(0), 1 << 16), prot: Prot::READ_WRITE };
    // Between two touches of each hot page come 256 pages that are touched once.
    let rounds = (0..200)
        .flat_map(|round| (0..hot).map(write).chain((0..256).map(move |i| write(hot + round * 256 + i))));
    let policy = PolicyKind::Fixed(Order::BASE);
    let cell = Cell { epoch_ns: 0, ..Cell::new(policy, Some(memory), Model::Zen3) };
    let figures = replay(&cell, [map].into_iter().chain(rounds).map(Ok), &mut |_, _| {}).expect("a replay");
    let again = figures.faults - hot - 200 * 256;
    // First in, first out would fault on each of them in every fourth round: 50 times.
    assert!(again < 25 * hot, "{again} faults on {hot} pages that are used all the time");
}
