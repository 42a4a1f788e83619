//! What holds for one VMA: a policy of its own, and counts of what it has.

mod common;

use common::play;
use quire_core::mmu::{Mmu, Prot, Refusal};
use quire_core::vma::Hint;
use quire_core::{Order, PageRange, PageState, PolicyKind, Space, Urgency, VmaUsage, Vpn};
use quire_sim::Host;
use quire_sim::rng::Rng;
use quire_sim::world::{Event, Put, SPACE, Setup, Touch};

const PAIR: PolicyKind = PolicyKind::Fixed(Order::BASE.up());
const SETUP: Setup = Setup {
    frames: 128,
    segments: 32,
    grant: 120,
    policy: PAIR,
    arena: 64,
    threads: 2,
    spill: Some(1 << 20),
};

fn touch(host: &mut Host, page: u64, put: Option<Put>) {
    play(host, &[Event::Touch(0, Touch { vpn: Vpn(page), put })]);
    host.drain().unwrap();
}

#[test]
fn a_vma_follows_its_own_policy_and_its_neighbours_the_engines() {
    let mut host = Host::new(SETUP);
    play(&mut host, &[Event::Map(Vpn(0), 48, Prot::READ_WRITE)]);
    let middle = PageRange::new(SPACE, Vpn(16), 16);
    host.engine.set_policy_of(middle, Some(PolicyKind::Fixed(Order::fitting(4))));
    assert_eq!(host.engine.vmas(SPACE).iter().count(), 3);
    let order = |host: &mut Host, page| {
        touch(host, page, Some(Put::Small));
        host.engine.folio_order(SPACE, Vpn(page)).map(Order::pages)
    };
    assert_eq!([0, 20, 40].map(|page| order(&mut host, page)), [Some(2), Some(4), Some(2)]);
    host.engine.set_policy_of(middle, None);
    assert_eq!(host.engine.vmas(SPACE).iter().count(), 1, "they don't differ any longer");
    assert_eq!(order(&mut host, 28), Some(2));
    host.read_back().unwrap();
}

/// The same counts, page by page, from what is known of each page alone.
fn counted(host: &Host, space: Space, usage: &VmaUsage) -> [u64; 8] {
    let mut counts = [0; 8];
    for vpn in (usage.vma.start.0..usage.vma.end.0).map(Vpn) {
        let there = host.engine.whereabouts(space, vpn);
        let at = match there.state {
            PageState::Empty => continue,
            state if state.is_present() => 0,
            PageState::Filling { .. } => 1,
            PageState::Writing => 3,
            PageState::Stored => 4,
            _ => 2,
        };
        counts[at] += 1;
        let kept = at == 0 && there.stored;
        counts[5] += u64::from(kept);
        counts[6] += u64::from(at == 0 && there.sharers > 1);
        counts[7] += host.stored(&there).map_or(0, |stored| u64::from(stored.len));
    }
    counts
}

fn told(usage: &VmaUsage) -> [u64; 8] {
    let VmaUsage { filling, standby, writing, stored, with_copy, shared, ram_bytes, file_bytes, .. } = *usage;
    [usage.rss(), filling, standby, writing, stored, with_copy, shared, ram_bytes + file_bytes]
}

fn any_event(rng: &mut Rng) -> Event {
    let (page, number) = (Vpn(rng.below(60)), rng.below(8) as u8);
    let put = [None, Some(Put::Small), Some(Put::Raw), Some(Put::Zero)][rng.below(4) as usize];
    match rng.below(25) {
        0..8 => Event::Touch(number, Touch { vpn: page, put }),
        8..12 => Event::Handle(number),
        12..14 => Event::Run(number),
        14 => Event::Step(number),
        15..18 => Event::Reclaim(Urgency::Behind),
        18 => Event::Grant([8, 120][rng.below(2) as usize]),
        19 => Event::PageOut(page, 4),
        20 => Event::Protect(page, 4, if number < 6 { Prot::READ_WRITE } else { Prot::READ }),
        21 => Event::Map(page, 4, Prot::READ_WRITE),
        22 => Event::ForkSpace,
        23 => Event::Exit(number),
        _ => Event::Process(number),
    }
}

#[test]
fn the_usage_of_a_vma_is_what_a_walk_over_its_pages_counts() {
    let mut most = [0; 8];
    for seed in 0..20 {
        let mut host = Host::new(SETUP);
        play(&mut host, &[Event::Map(Vpn(0), 64, Prot::READ_WRITE)]);
        let mut rng = Rng::new(seed);
        for step in 0..300 {
            let event = any_event(&mut rng);
            play(&mut host, &[event]);
            if step % 20 == 0 {
                host.drain().unwrap();
            }
            for &space in &host.spaces {
                for usage in host.engine.smaps(&host.mmu, space) {
                    let counts = counted(&host, space, &usage);
                    assert_eq!(told(&usage), counts, "{seed}: {event:?}, {usage}");
                    most = core::array::from_fn(|i| most[i].max(counts[i]));
                }
            }
        }
    }
    assert!(most.iter().all(|&count| count > 0), "each was met: {most:?}");
}

#[test]
fn it_reads_like_smaps() {
    let mut host = Host::new(SETUP);
    play(&mut host, &[Event::Map(Vpn(16), 16, Prot::READ_WRITE), Event::Map(Vpn(40), 1, Prot::READ)]);
    play(&mut host, &[Event::Advise(Vpn(40), 1, Hint::Random)]);
    [16, 18, 20].into_iter().for_each(|page| touch(&mut host, page, Some(Put::Small)));
    let texts: Vec<String> = host.engine.smaps(&host.mmu, SPACE).map(|usage| usage.to_string()).collect();
    let lines: Vec<&str> = texts[0].lines().collect();
    assert_eq!(lines[0], "10000-20000 rw-p");
    assert_eq!(lines[1..3], ["Size:                 64 kB", "Rss:                  24 kB"]);
    assert_eq!(lines.last(), Some(&"Folios8K:             24 kB"));
    assert!(texts[1].starts_with("28000-29000 r--p\n") && texts[1].ends_with("Hint:           Random\n"));
}

#[test]
fn a_host_takes_only_what_is_at_the_programs_address() {
    let mut host = Host::new(SETUP);
    play(&mut host, &[Event::Map(Vpn(0), 16, Prot::READ_WRITE)]);
    for page in [2, 9] {
        touch(&mut host, page, Some(Put::Small));
    }
    host.engine.page_out(&mut host.mmu, PageRange::new(SPACE, Vpn(8), 8));
    let (near, all) = (PageRange::new(SPACE, Vpn(0), 8), PageRange::new(SPACE, Vpn(0), 16));
    assert_eq!((host.engine.next_away(near), host.engine.next_away(all)), (None, Some(Vpn(8))));
    let refused = host.engine.hand_over(&mut host.mmu, all, |_| unreachable!("a part is away"));
    assert_eq!(refused, Err(Refusal::Again));
    let denied = host.engine.hand_over(&mut host.mmu, near, |_| Err(Refusal::NoMemory));
    assert_eq!(denied, Err(Refusal::NoMemory));
    assert_eq!(host.engine.page_state(SPACE, Vpn(2)), PageState::Mapped { copy: false });
    host.engine.hand_over(&mut host.mmu, near, |mmu| mmu.discard(near)).unwrap();
    assert_eq!(host.engine.page_state(SPACE, Vpn(2)), PageState::Empty);
    host.engine.validate(&host.mmu.store).unwrap();
}
