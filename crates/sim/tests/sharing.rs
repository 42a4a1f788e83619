//! Several processes on one engine: what fork shares, what a write copies, and who maps what.

mod common;

use common::{SETUP, play};
use quire_core::mmu::{Prot, Refusal};
use quire_core::{Order, PageRange, PageState, PolicyKind, Reclaim, Space, Urgency, Vpn};
use quire_sim::rng::Rng;
use quire_sim::waiters::Message;
use quire_sim::world::{Event, Put, SPACE, Setup, Touch};
use quire_sim::{Host, Injection, Verb};

const PAIR: Setup = Setup { policy: PolicyKind::Fixed(Order::BASE.up()), ..SETUP };
const QUAD: Setup = Setup { policy: PolicyKind::Fixed(Order::BASE.up().up()), ..SETUP };
const QUAD_ORDER: Option<Order> = Some(Order::BASE.up().up());
/// The first child.
const CHILD: Space = Space(2);
const FIRST: Event = Event::Process(0);
const SECOND: Event = Event::Process(1);

/// A thread of the process at hand touches a page and gets it, whatever that takes.
fn touch(host: &mut Host, page: u64, put: Option<Put>) {
    play(host, &[Event::Touch(0, Touch { vpn: Vpn(page), put })]);
    host.drain().unwrap();
}

/// Pages 0..`pages` of the first process are mapped and written; then it forks.
fn family(setup: Setup, pages: u64) -> Host {
    let mut host = Host::new(setup);
    play(&mut host, &[Event::Map(Vpn(0), 16, Prot::READ_WRITE)]);
    (0..pages).for_each(|page| touch(&mut host, page, Some(Put::Small)));
    play(&mut host, &[Event::ForkSpace]);
    host
}

/// Everything that can be is stored, and its frames are free.
fn store_all(host: &mut Host) {
    let grant = host.engine.grant();
    play(host, &[Event::Grant(0)]);
    for _ in 0..200 {
        match host.reclaim(Urgency::Behind).unwrap() {
            Reclaim::Job => while !host.step(0).unwrap() {},
            Reclaim::Progress => {}
            Reclaim::Idle | Reclaim::Waiting | Reclaim::Stuck => break,
        }
    }
    play(host, &[Event::Grant(grant)]);
}

fn state(host: &Host, space: Space, page: u64) -> PageState {
    host.engine.page_state(space, Vpn(page))
}

fn frame(host: &Host, space: Space, page: u64) -> quire_core::Frame {
    host.engine.whereabouts(space, Vpn(page)).frame.unwrap()
}

fn mapcount(host: &Host, space: Space, page: u64) -> u32 {
    host.engine.mapcount(frame(host, space, page))
}

#[test]
fn a_fork_shares_every_page_and_copies_none() {
    let mut host = family(QUAD, 4);
    assert_eq!(host.engine.frames_in_use(), 4);
    assert_eq!((mapcount(&host, SPACE, 0), mapcount(&host, CHILD, 3)), (2, 2));
    let shared = PageState::Shared { mapped: true, copy: false };
    assert_eq!((state(&host, SPACE, 0), state(&host, CHILD, 3)), (shared, shared));
    assert_eq!(frame(&host, SPACE, 2), frame(&host, CHILD, 2));
    play(&mut host, &[SECOND, Event::ForkSpace]);
    assert_eq!((mapcount(&host, SPACE, 0), host.engine.frames_in_use()), (3, 4));
    host.read_back().unwrap();
}

/// What would be found sparse is left alone when others have it too, and until it is written when they are gone.
#[test]
fn shaping_leaves_alone_what_is_shared() {
    let epochs = [Event::Tend(1); 12];
    let alone = |setup, pages: u64, forks: &[Event]| {
        let mut host = Host::new(setup);
        play(&mut host, &[Event::Map(Vpn(0), 16, Prot::READ_WRITE)]);
        (0..pages).for_each(|page| touch(&mut host, page, Some(Put::Small)));
        play(&mut host, forks);
        for epoch in epochs {
            touch(&mut host, 0, None);
            play(&mut host, &[epoch]);
        }
        (host.engine.stats().sparse_folios, host.engine.folio_order(SPACE, Vpn(0)))
    };
    let (fork, exit) = (Event::ForkSpace, Event::Exit(1));
    assert_eq!(alone(QUAD, 4, &[]), (1, Some(Order::BASE)));
    assert_eq!(alone(QUAD, 4, &[fork]), (0, QUAD_ORDER));
    assert_eq!(alone(QUAD, 4, &[Event::Tend(1), fork, SECOND, Event::Tend(1), exit, FIRST]), (0, QUAD_ORDER));
}

#[test]
fn a_write_copies_and_the_last_sharer_copies_nothing() {
    let mut host = family(SETUP, 1);
    play(&mut host, &[SECOND]);
    touch(&mut host, 0, Some(Put::Small));
    assert_eq!(host.engine.stats().cow_copies[0], 1);
    assert_eq!((mapcount(&host, SPACE, 0), mapcount(&host, CHILD, 0)), (1, 1));
    let kept = frame(&host, SPACE, 0);
    play(&mut host, &[FIRST]);
    touch(&mut host, 0, Some(Put::Small));
    assert_eq!((host.engine.stats().cow_copies[0], host.engine.stats().cow_reuses), (1, 1));
    assert_eq!(frame(&host, SPACE, 0), kept, "the same frame");
    assert!(!host.engine.shares());
    host.read_back().unwrap();
}

#[test]
fn a_whole_folio_is_taken_back_at_once() {
    let mut host = family(QUAD, 4);
    play(&mut host, &[Event::Exit(1)]);
    touch(&mut host, 2, Some(Put::Small));
    assert_eq!(host.engine.stats().cow_reuses, 1);
    assert_eq!(state(&host, SPACE, 0), PageState::Mapped { copy: false });
    assert_eq!(host.engine.folio_order(SPACE, Vpn(0)), Order::new(2));
    assert!(!host.engine.shares());
}

#[test]
fn the_policy_decides_how_much_a_write_copies() {
    for (setup, order) in [(QUAD, 2), (PAIR, 1), (SETUP, 0)] {
        let mut host = family(setup, 4);
        play(&mut host, &[SECOND]);
        touch(&mut host, 1, Some(Put::Small));
        assert_eq!(host.engine.stats().cow_copies[order], 1);
        assert_eq!(host.engine.folio_order(CHILD, Vpn(1)), Order::new(order as u8));
        host.read_back().unwrap();
    }
    // A folio of 128 KiB is copied in parts of 64 KiB.
    let policy = PolicyKind::Fixed(Order::new(5).unwrap());
    let mut host = Host::new(Setup { policy, frames: 128, grant: 128, arena: 64, ..SETUP });
    play(&mut host, &[Event::Map(Vpn(0), 32, Prot::READ_WRITE)]);
    touch(&mut host, 0, Some(Put::Small));
    play(&mut host, &[Event::ForkSpace]);
    assert_eq!(host.engine.folio_order(SPACE, Vpn(0)), Order::new(5));
    touch(&mut host, 20, Some(Put::Small));
    assert_eq!(host.engine.stats().cow_copies[4], 1);
    assert_eq!(mapcount(&host, CHILD, 0), 2, "the first half is still mapped by both");
    assert_eq!(host.engine.rmap(frame(&host, CHILD, 20)).len(), 1);
}

#[test]
fn a_shared_folio_leaves_all_spaces_and_one_copy_comes_back_for_all() {
    let mut host = family(QUAD, 4);
    play(&mut host, &[Event::ForkSpace]);
    store_all(&mut host);
    assert_eq!((host.engine.frames_in_use(), host.mmu.bytes.len()), (0, 4));
    assert_eq!(state(&host, CHILD, 0), PageState::Stored);
    touch(&mut host, 1, None);
    let swapped_in = host.engine.stats().swap_ins[2];
    assert_eq!(host.engine.frames_in_use(), 4);
    for process in [1, 2] {
        play(&mut host, &[Event::Process(process)]);
        touch(&mut host, 1, None);
    }
    assert_eq!(host.engine.stats().swap_ins[2], swapped_in, "brought in once");
    assert_eq!((mapcount(&host, SPACE, 1), host.engine.frames_in_use()), (3, 4));
}

#[test]
fn a_rescue_in_one_space_maps_it_there_only() {
    let mut host = family(SETUP, 1);
    // One step of reclaim unmaps it in both.
    play(&mut host, &[Event::Grant(0), Event::Reclaim(Urgency::Behind), Event::Grant(SETUP.grant)]);
    assert_eq!((state(&host, SPACE, 0), mapcount(&host, SPACE, 0)), (PageState::Standby { copy: false }, 0));
    play(&mut host, &[SECOND]);
    touch(&mut host, 0, None);
    assert_eq!(host.engine.stats().rescues[0], 1);
    assert_eq!(state(&host, SPACE, 0), PageState::Shared { mapped: false, copy: false });
    assert_eq!(mapcount(&host, SPACE, 0), 1);
    let mapped: Vec<_> =
        host.engine.rmap(frame(&host, SPACE, 0)).iter().map(|m| (m.space, m.mapped)).collect();
    assert_eq!(mapped, [(SPACE, false), (CHILD, true)]);
}

/// The writer takes a reference to the block, and the block lives as long as anybody names it.
#[test]
fn a_write_to_a_stored_page_reads_for_the_writer_alone() {
    let mut host = family(SETUP, 1);
    store_all(&mut host);
    touch(&mut host, 0, Some(Put::Small));
    assert_eq!((host.engine.frames_in_use(), host.mmu.bytes.len()), (1, 1));
    assert_eq!(
        (state(&host, CHILD, 0), state(&host, SPACE, 0)),
        (PageState::Stored, PageState::Mapped { copy: true })
    );
    play(&mut host, &[Event::Exit(0)]);
    play(&mut host, &[Event::Touch(0, Touch { vpn: Vpn(0), put: None })]);
    host.read_back().unwrap();
    play(&mut host, &[Event::Unmap(Vpn(0), 16)]);
    host.drain().unwrap();
    assert_eq!((host.engine.frames_in_use(), host.mmu.store.figures().ram_pages), (0, 0));
}

#[test]
fn a_copy_needs_no_second_frame_where_there_is_none() {
    let mut host = family(Setup { grant: 1, ..SETUP }, 1);
    for round in 0..6 {
        play(&mut host, &[Event::Process(round % 2)]);
        touch(&mut host, 0, Some(Put::Small));
    }
    assert_eq!(host.engine.stats().most_over, 0, "within a grant of one page");
    host.read_back().unwrap();
}

#[test]
fn a_part_that_nobody_maps_is_split_off_at_once() {
    let mut host = family(QUAD, 4);
    play(&mut host, &[Event::Unmap(Vpn(0), 2)]);
    assert_eq!(host.engine.folio_order(CHILD, Vpn(0)), Order::new(2), "the child has all of it");
    assert_eq!(host.engine.frames_in_use(), 4);
    assert_eq!((mapcount(&host, CHILD, 0), host.engine.rmap(frame(&host, CHILD, 0)).len()), (2, 1));
    play(&mut host, &[SECOND, Event::Discard(Vpn(1), 3)]);
    assert_eq!(host.engine.frames_in_use(), 3, "page 1 is nobody's");
    assert_eq!(host.engine.folio_order(CHILD, Vpn(0)), Some(Order::BASE));
    assert_eq!(host.engine.folio_order(SPACE, Vpn(2)), Order::new(1));
    host.read_back().unwrap();
}

#[test]
fn a_remap_moves_one_space_only() {
    let mut host = family(QUAD, 4);
    play(&mut host, &[SECOND, Event::Remap(Vpn(0), 3, Vpn(21))]);
    assert_eq!(host.engine.folio_order(CHILD, Vpn(21)), Order::new(2), "no folio loses its alignment");
    let at: Vec<_> = host.engine.rmap(frame(&host, SPACE, 1)).iter().map(|m| (m.space, m.vpn)).collect();
    assert_eq!(at, [(SPACE, Vpn(1)), (CHILD, Vpn(22))]);
    store_all(&mut host);
    touch(&mut host, 22, Some(Put::Small));
    host.read_back().unwrap();
}

#[test]
fn a_lock_in_one_space_keeps_it_for_all() {
    let mut host = family(PAIR, 2);
    play(&mut host, &[SECOND, Event::Lock(Vpn(1), 1, true)]);
    store_all(&mut host);
    assert_eq!(state(&host, SPACE, 0), PageState::Shared { mapped: true, copy: false });
    play(&mut host, &[Event::Exit(1)]);
    store_all(&mut host);
    assert_eq!(state(&host, SPACE, 0), PageState::Stored, "the lock went with its space");
}

#[test]
fn a_pinned_page_stays_the_parents_own() {
    let mut host = Host::new(PAIR);
    play(&mut host, &[Event::Map(Vpn(0), 16, Prot::READ_WRITE)]);
    (0..2).for_each(|page| touch(&mut host, page, Some(Put::Small)));
    play(&mut host, &[Event::Pin(Vpn(1), true), Event::ForkSpace]);
    assert_eq!(state(&host, SPACE, 0), PageState::Shared { mapped: true, copy: false });
    assert_eq!(state(&host, SPACE, 1), PageState::Mapped { copy: false });
    assert_eq!(state(&host, CHILD, 1), PageState::Standby { copy: false });
    host.read_back().unwrap();
}

/// No frame for the copy of a pinned page: there is no child, and the parent has all it had.
#[test]
fn a_fork_without_a_frame_has_not_happened() {
    let mut host = Host::new(Setup { frames: 2, grant: 2, ..SETUP });
    play(&mut host, &[Event::Map(Vpn(0), 16, Prot::READ_WRITE)]);
    (0..2).for_each(|page| touch(&mut host, page, Some(Put::Small)));
    play(&mut host, &[Event::Pin(Vpn(1), true)]);
    assert_eq!(host.engine.fork(&mut host.mmu, SPACE), Err(Refusal::NoMemory));
    host.check().unwrap();
    assert_eq!(host.mmu.spaces().count(), 1);
    play(&mut host, &[Event::Pin(Vpn(1), false), Event::ForkSpace]);
    assert_eq!(host.spaces, [SPACE, CHILD], "its number was free");
    host.read_back().unwrap();
}

#[test]
fn a_host_that_begins_no_space_leaves_no_child() {
    let mut host = family(SETUP, 2);
    host.mmu.inject(Injection::next(Verb::ForkSpace, Refusal::NoMemory));
    assert_eq!(host.engine.fork(&mut host.mmu, CHILD), Err(Refusal::NoMemory));
    host.check().unwrap();
    host.read_back().unwrap();
}

#[test]
fn numbers_of_spaces_are_used_again() {
    let mut host = family(SETUP, 3);
    for _ in 0..5 {
        play(&mut host, &[Event::Exit(1), Event::ForkSpace]);
        assert_eq!(host.spaces, [SPACE, CHILD]);
    }
    host.engine.exit(&mut host.mmu, Space(1));
    host.check().unwrap();
    let fresh = host.engine.create_space().unwrap();
    assert_eq!(fresh, Space(3));
    host.engine.exit(&mut host.mmu, fresh);
    host.engine.exit(&mut host.mmu, fresh);
    assert_eq!(host.engine.create_space(), Ok(Space(3)));
    assert_eq!(host.engine.create_space(), Ok(Space(4)), "an exit that is told twice frees one number");
}

#[test]
fn shared_zeroes_end_up_empty_everywhere() {
    let mut host = Host::new(SETUP);
    play(&mut host, &[Event::Map(Vpn(0), 16, Prot::READ_WRITE)]);
    touch(&mut host, 0, Some(Put::Zero));
    play(&mut host, &[Event::ForkSpace]);
    store_all(&mut host);
    assert_eq!((state(&host, SPACE, 0), state(&host, CHILD, 0)), (PageState::Empty, PageState::Empty));
    assert!(!host.engine.shares() && host.engine.frames_in_use() == 0);
}

/// Two readers in two spaces wait for one job, and both go on.
#[test]
fn a_fault_joins_the_fill_of_another_space() {
    let mut host = family(SETUP, 1);
    store_all(&mut host);
    let read = Touch { vpn: Vpn(0), put: None };
    play(&mut host, &[FIRST, Event::Touch(0, read), SECOND, Event::Touch(1, read)]);
    play(&mut host, &[Event::Handle(0), Event::Handle(0)]);
    assert_eq!((host.jobs.len(), host.engine.stats().joined), (1, 1));
    play(&mut host, &[Event::Run(0)]);
    assert!(!host.mmu.waiters.waits(0), "who began it has its page");
    host.drain().unwrap();
    assert_eq!(mapcount(&host, SPACE, 0), 2);
}

/// Who asked for a page has ended when it comes: the others find it in frames.
#[test]
fn a_fill_outlives_the_space_that_asked() {
    let mut host = family(SETUP, 1);
    store_all(&mut host);
    play(&mut host, &[SECOND, Event::Touch(0, Touch { vpn: Vpn(0), put: None }), Event::Handle(0)]);
    play(&mut host, &[Event::Exit(1), Event::Run(0)]);
    assert_eq!(
        (state(&host, SPACE, 0), mapcount(&host, SPACE, 0)),
        (PageState::Shared { mapped: false, copy: true }, 0)
    );
    host.read_back().unwrap();
}

/// When the last space that waits for a fill is gone, the fill brings nothing.
#[test]
fn a_fill_that_nobody_wants_is_void() {
    let mut host = family(SETUP, 1);
    store_all(&mut host);
    play(&mut host, &[Event::Touch(0, Touch { vpn: Vpn(0), put: None }), Event::Handle(0)]);
    play(&mut host, &[Event::Discard(Vpn(0), 1), SECOND, Event::Discard(Vpn(0), 1)]);
    assert_eq!((host.jobs.len(), host.engine.stats().void_jobs), (1, 1));
    play(&mut host, &[Event::Run(0)]);
    assert_eq!((host.engine.frames_in_use(), host.mmu.bytes.len()), (0, host.mmu.bytes.len()));
    host.read_back().unwrap();
}

#[test]
fn a_late_message_about_a_shared_page_is_only_woken() {
    let mut host = family(SETUP, 1);
    let message = Message { space: CHILD, vpn: Vpn(0), write: false };
    for _ in 0..10 {
        host.serve(message).unwrap();
    }
    assert!(host.serve(message).unwrap_err().contains("NoProgress"));
}

/// Each of many processes parts from the others, and all name the one block.
#[test]
fn a_block_counts_all_who_name_it() {
    let mut host = family(Setup { frames: 400, grant: 400, arena: 16, ..SETUP }, 1);
    while host.spaces.len() < 140 {
        assert!(host.fork_space());
    }
    store_all(&mut host);
    for process in 0..host.spaces.len() {
        let space = host.spaces[process];
        host.serve(Message { space, vpn: Vpn(0), write: true }).unwrap();
    }
    assert_eq!(
        (host.engine.stats().joined, host.mmu.bytes.len()),
        (0, 1),
        "nobody waits for another one's frame"
    );
    host.read_back().unwrap();
}

/// An event of the property below: everything that maps and unmaps, and nothing behind the engine's back.
fn any_event(rng: &mut Rng, arena: u64) -> Event {
    let (start, number) = (rng.below(arena), rng.any() as u8);
    let vpn = Vpn(start);
    let pages = 1 + rng.below((arena - start).min(9));
    let put = if rng.chance(50) { Some(Put::Any) } else { None };
    match rng.below(100) {
        0..30 => Event::Touch(number % 4, Touch { vpn, put }),
        30..55 => Event::Handle(number),
        55..60 => Event::Retry(number),
        60..70 => Event::Run(number),
        70..80 => Event::Reclaim(if rng.chance(50) { Urgency::Direct } else { Urgency::Behind }),
        80..88 => Event::Process(number),
        88..91 => Event::ForkSpace,
        91..93 => Event::Exit(number),
        93 => Event::Discard(vpn, pages),
        94 => Event::Remap(vpn, pages, Vpn(rng.below(arena + 1 - pages))),
        95 => Event::Unmap(vpn, pages),
        96 => Event::Map(vpn, pages, Prot::READ_WRITE),
        97 => Event::Pin(vpn, rng.chance(30)),
        98 => Event::Lock(vpn, pages, rng.chance(40)),
        _ => Event::Protect(vpn, pages, if rng.chance(50) { Prot::READ } else { Prot::READ_WRITE }),
    }
}

/// After each event, the spaces that the page tables of the kernel show to map any part of a folio are as many as its
/// mapcount, and who maps each frame is what the reverse map says.
#[test]
fn a_folios_mapcount_is_what_a_full_walk_counts() {
    let mut most = 0;
    for seed in 0..150 {
        let mut rng = Rng::new(seed);
        let order = Order::new(rng.below(4) as u8).unwrap();
        let setup = Setup { grant: 40, policy: PolicyKind::Fixed(order), ..SETUP };
        let mut host = Host::new(setup);
        play(&mut host, &[Event::Map(Vpn(0), 24, Prot::READ_WRITE)]);
        for _ in 0..200 {
            play(&mut host, &[any_event(&mut rng, setup.arena)]);
            host.check_mapcounts().unwrap_or_else(|why| panic!("seed {seed}: {why}"));
            let frames = (0..setup.frames).map(quire_core::Frame);
            most = frames.map(|f| host.engine.mapcount(f)).max().unwrap_or(0).max(most);
        }
        host.read_back().unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
    assert_eq!(most, 4, "as many spaces as there are at a time");
    let nothing = Host::new(SETUP);
    assert_eq!(
        (nothing.engine.mapcount(quire_core::Frame(9)), nothing.engine.rmap(quire_core::Frame(9))),
        (0, vec![])
    );
}

/// Neither a fork nor an exit leaves anything of a space behind.
#[test]
fn a_family_that_has_ended_leaves_nothing() {
    let mut host = family(QUAD, 16);
    play(&mut host, &[Event::ForkSpace, SECOND]);
    (0..16).step_by(3).for_each(|page| touch(&mut host, page, Some(Put::Small)));
    store_all(&mut host);
    play(&mut host, &[Event::Exit(0), Event::Exit(0)]);
    let last = host.spaces[0];
    host.engine.exit(&mut host.mmu, last);
    host.engine.validate(&host.mmu.store).unwrap();
    assert_eq!((host.engine.frames_in_use(), host.mmu.store.figures().ram_pages), (0, 0));
    assert!(!host.engine.shares());
    let range = PageRange::new(last, Vpn(0), 1);
    assert_eq!(host.engine.next_absent(range), Some(Vpn(0)));
}
