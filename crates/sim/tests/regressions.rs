//! Bugs of the engine that were found by reading it or by a walk, each as the few events that show it.

mod common;

use common::{SETUP, play};
use quire_core::job::{JobKind, Work};
use quire_core::mmu::{Prot, Refusal};
use quire_core::vma::Hint;
use quire_core::{Order, PageRange, PageState, PolicyKind, Reclaim, Stats, Urgency, Vpn};
use quire_sim::waiters::Message;
use quire_sim::world::{Event, Put, SPACE, Setup, Step, Touch};
use quire_sim::{Host, Injection, Verb};

const RECLAIM: Event = Event::Reclaim(Urgency::Direct);

/// A host with pages 0..16 mapped, of which the first `touched` were written.
fn host(setup: Setup, touched: u64) -> Host {
    let mut host = Host::new(setup);
    play(&mut host, &[Event::Map(Vpn(0), 16, Prot::READ_WRITE)]);
    for page in 0..touched {
        let touch = Touch { vpn: Vpn(page), put: Some(Put::Small) };
        play(&mut host, &[Event::Touch(0, touch), Event::Handle(0), Event::Run(0)]);
    }
    host
}

/// Page 0 is being written: under a grant of nothing, reclaim begins with that.
fn writing(setup: Setup) -> Host {
    let mut host = host(setup, 1);
    play(&mut host, &[Event::PageOut(Vpn(0), 1), Event::Grant(0), RECLAIM, Event::Grant(SETUP.grant)]);
    assert_eq!(host.engine.page_state(SPACE, Vpn(0)), PageState::Writing);
    host
}

/// A writer has its place in RAM and has not stored there yet. RAM is said to be full, so the oldest of it is to spill,
/// and that was the writer's: the spill job copied what was not there.
#[test]
fn what_is_being_written_does_not_spill() {
    let mut host = writing(Setup { spill: Some(1 << 20), ..SETUP });
    play(&mut host, &[Event::Step(0), Event::Step(0)]);
    assert_eq!(host.jobs[0].step, Step::Placed);
    play(&mut host, &[Event::Grant(0), RECLAIM, Event::Grant(SETUP.grant)]);
    play(&mut host, &[Event::Run(1), Event::Run(0)]);
    host.read_back().unwrap();
}

/// A page that may not be moved out was asked to leave while a writer that counted no longer still had its frame: it came
/// to a list, from which reclaim would have chosen it.
#[test]
fn what_may_not_leave_comes_to_no_list_though_a_job_has_its_frame() {
    let mut host = writing(SETUP);
    let page = Vpn(0);
    play(
        &mut host,
        &[Event::Protect(page, 1, Prot::READ), Event::Message(page, false), Event::PageOut(page, 1)],
    );
    let there = host.engine.whereabouts(SPACE, page);
    assert!(there.state.is_present() && there.job.is_some() && !there.listed, "{there:?}");
    host.read_back().unwrap();
}

/// Of a folio that two processes share, one had locked two pages; so all of it was on no list. When its last page ended with
/// the other process, the third page was nobody's lock any longer, and stayed on no list for good.
#[test]
fn what_is_left_of_a_locked_folio_is_on_a_list_again() {
    let setup = Setup { policy: PolicyKind::Fixed(Order::fitting(4)), ..SETUP };
    let mut host = Host::new(setup);
    host.recount();
    host.follow_lists();
    let write = Event::Message(Vpn(1), true);
    play(&mut host, &[Event::Map(Vpn(0), 4, Prot::READ_WRITE), write, Event::Run(0), Event::ForkSpace]);
    let locked = [Event::Process(1), Event::Unmap(Vpn(3), 1), Event::Lock(Vpn(0), 2, true), Event::Exit(0)];
    play(&mut host, &locked);
    let listed = |vpn| host.engine.whereabouts(host.spaces[0], Vpn(vpn)).listed;
    assert_eq!([listed(0), listed(1), listed(2)], [false, false, true]);
    host.check().unwrap();
}

/// A worker that had spilled before passes its work in again. Where copies of mapped pages could be given up instead,
/// reclaim said that there was a job all the same: the old one, to be run once more.
#[test]
fn an_old_spill_job_is_not_run_again() {
    let mut host = writing(SETUP);
    play(&mut host, &[Event::Run(0), Event::Grant(0), RECLAIM, Event::Grant(SETUP.grant)]);
    play(&mut host, &[Event::Touch(0, Touch { vpn: Vpn(0), put: None }), Event::Handle(0), Event::Run(0)]);
    assert_eq!(host.engine.page_state(SPACE, Vpn(0)), PageState::Mapped { copy: true });
    host.engine.set_grant(0);
    let mut work = Work::new();
    work.kind = JobKind::Spill;
    let step = host.engine.reclaim(&mut host.mmu, Urgency::Direct, &mut work);
    assert_eq!(step, Reclaim::Progress);
    assert_eq!(host.engine.page_state(SPACE, Vpn(0)), PageState::Mapped { copy: false });
}

/// Messages about one page come late, once each time the page was moved out and came back. Ten such in a row stopped
/// the program, though each had made progress.
#[test]
fn late_messages_of_a_hot_page_are_no_bug() {
    let mut host = host(SETUP, 1);
    let message = Message { space: SPACE, vpn: Vpn(0), write: false };
    for _ in 0..30 {
        play(&mut host, &[Event::PageOut(Vpn(0), 1)]);
        host.serve(message).unwrap();
        host.serve(message).unwrap();
    }
}

/// The tenth message in a row about a page that has been there all the time is answered; the next one stops.
#[test]
fn a_page_that_faults_without_end_stops() {
    let mut host = host(SETUP, 1);
    let message = Message { space: SPACE, vpn: Vpn(0), write: false };
    for _ in 0..10 {
        host.serve(message).unwrap();
    }
    let why = host.serve(message).unwrap_err();
    assert!(why.contains("NoProgress"), "{why}");
}

/// The kernel changed the rights of half a folio and then had no memory. An edge between two of its VMAs lay inside the
/// folio; neither a move nor a copy of the whole went across it, and the engine gave up.
#[test]
fn a_folio_goes_home_across_an_edge_of_the_kernel() {
    let order = PolicyKind::Fixed(Order::BASE.up().up());
    for prot in [Prot::READ, Prot::NONE] {
        let mut host = host(Setup { policy: order, ..SETUP }, 4);
        let refused = Injection::next(Verb::Protect, Refusal::NoMemory).after(2);
        play(
            &mut host,
            &[Event::PageOut(Vpn(0), 4), Event::Inject(refused), Event::Protect(Vpn(0), 4, prot)],
        );
        host.serve(Message { space: SPACE, vpn: Vpn(3), write: false }).unwrap();
        host.check().unwrap();
        let home = (0..4).all(|page| host.mmu.entry(SPACE, Vpn(page)).is_some());
        assert!(home, "every page is at its address");
    }
}

/// Somebody else's page stood where a shared one was to be mapped. It was left there and taken for one that is not mapped: it
/// was charged to nobody and never moved out, and the child of the next fork got what the others share instead.
#[test]
fn a_page_that_appears_in_place_of_a_shared_one_is_its_process_own() {
    let mut host = host(SETUP, 1);
    let read = Touch { vpn: Vpn(0), put: None };
    let appears = Injection::next(Verb::MapShared, Refusal::Exists);
    play(
        &mut host,
        &[
            Event::PageOut(Vpn(0), 1),
            Event::ForkSpace,
            Event::Inject(appears),
            Event::Touch(0, read),
            Event::Handle(0),
        ],
    );
    assert_eq!(host.engine.page_state(SPACE, Vpn(0)), PageState::Mapped { copy: false });
    play(&mut host, &[Event::ForkSpace]);
    host.read_back().unwrap();
}

/// Advice for a part of a folio splits its VMA, and the check of the tables took that for a mistake.
#[test]
fn a_hint_may_end_inside_a_folio() {
    let mut host = host(Setup { policy: PolicyKind::Fixed(Order::BASE.up().up()), ..SETUP }, 4);
    play(&mut host, &[Event::Advise(Vpn(1), 2, Hint::Random), Event::PageOut(Vpn(0), 4)]);
    assert_eq!(host.engine.folio_order(SPACE, Vpn(0)), Some(Order::BASE.up().up()));
    host.read_back().unwrap();
}

/// Folios in standby whose contents are stored counted as room when the grant had fallen below what was in use: reclaim
/// was content, and the memory stayed.
#[test]
fn a_smaller_grant_is_kept() {
    let mut host = host(SETUP, 16);
    play(&mut host, &[Event::PageOut(Vpn(0), 16), Event::Grant(20)]);
    host.settle_to_grant().unwrap();
    assert!(host.engine.charged() <= 20, "{} pages are charged", host.engine.charged());
}

/// Where nothing may be moved out, a fault without a frame was told that there was room, and asked for ever.
#[test]
fn a_fault_learns_that_nothing_is_moved_out() {
    let mut host = host(Setup { grant: 2, ..SETUP }, 2);
    host.set_evicts(false);
    play(&mut host, &[Event::Touch(0, Touch { vpn: Vpn(5), put: None }), Event::Handle(0)]);
    assert_eq!(host.parked.len(), 1, "there is no frame");
    assert_eq!(host.reclaim(Urgency::Direct), Ok(Reclaim::Stuck), "though pages could be moved out");
    assert_eq!(host.reclaim(Urgency::Behind), Ok(Reclaim::Idle));
}

/// A child's pages are not locked, and a discard by the child was refused because its parent's were.
#[test]
fn a_child_may_discard_what_its_parent_has_locked() {
    let mut host = host(SETUP, 4);
    play(&mut host, &[Event::Lock(Vpn(0), 4, true)]);
    let mut child = host.fork().unwrap();
    child.discard(PageRange::new(SPACE, Vpn(0), 4));
    assert_eq!(child.engine.page_state(SPACE, Vpn(0)), PageState::Empty);
    child.read_back().unwrap();
}

/// Zeroing ahead that failed gave frames with old contents to the next fault as zeroes.
#[test]
fn frames_whose_zeroing_failed_are_not_zeroes() {
    let mut host = host(Setup { grant: 16, ..SETUP }, 8);
    play(&mut host, &[Event::PageOut(Vpn(0), 8), Event::Discard(Vpn(0), 8)]);
    play(&mut host, &[Event::ZeroAhead(8, Order::BASE.up().up()), Event::Fail(0)]);
    for page in 0..8 {
        play(
            &mut host,
            &[Event::Touch(0, Touch { vpn: Vpn(page), put: None }), Event::Handle(0), Event::Run(0)],
        );
    }
    host.read_back().unwrap();
}

/// A mapping that failed half-way left rights behind where nothing is mapped: a touch faulted again and again.
#[test]
fn a_failed_mapping_leaves_nothing() {
    let mut host = host(SETUP, 0);
    let refused = Injection::next(Verb::Protect, Refusal::NoMemory).after(2);
    play(&mut host, &[Event::Inject(refused), Event::Map(Vpn(20), 4, Prot::READ_WRITE)]);
    play(&mut host, &[Event::Touch(0, Touch { vpn: Vpn(20), put: None })]);
    assert!(!host.mmu.waiters.waits(0), "it met SIGSEGV");
}

/// What was allowed above the grant was taken back, and reclaim said that it had nothing to do; but with the limit lower,
/// memory that was zeroed ahead was in the way of small fills, and the host had gone to sleep. (Seed 365 of
/// `linux_with_refusals_and_forks`.)
#[test]
fn reclaim_is_not_idle_while_it_is_pressed() {
    let linux = "linux:16K,64K,256K".parse().unwrap();
    let mut host = Host::new(Setup { frames: 256, grant: 80, policy: linux, arena: 160, ..SETUP });
    let touch = |thread, page| Event::Touch(thread, Touch { vpn: Vpn(page), put: Some(Put::Small) });
    let zero = Event::Touch(2, Touch { vpn: Vpn(0), put: Some(Put::Zero) });
    let order_3 = Order::BASE.up().up().up();
    play(&mut host, &[Event::Map(Vpn(0), 120, Prot::READ_WRITE), Event::ZeroAhead(35, order_3)]);
    play(&mut host, &[touch(3, 9), Event::Handle(1), zero, Event::Run(0), touch(0, 0x53), Event::Run(6)]);
    play(
        &mut host,
        &[Event::Handle(4), touch(2, 0x75), touch(0, 0x58), Event::Handle(7), Event::Overdraw(2)],
    );
    play(&mut host, &[Event::Handle(5)]);
    host.drain().unwrap();
    host.settle_to_grant().unwrap();
}

/// A forked child began with what its parent had counted, and a report added up both.
#[test]
fn a_forked_child_counts_anew() {
    let mut host = host(SETUP, 3);
    assert!(host.engine.fork_prepare(&mut host.mmu).unwrap());
    let mut child = host.engine.clone();
    child.fork_child();
    assert_eq!(child.stats(), &Stats::default());
    assert_eq!(host.engine.stats().zero_fills[0], 3);
}

/// The simulated worker had packed a page as one that does not compress, and stored it compressed: what the engine read
/// back was not there. (Seed 20 of the adaptive family with all.)
#[test]
fn a_worker_stores_what_it_has_packed() {
    let mut host = host(Setup { spill: Some(1 << 19), ..SETUP }, 1);
    play(&mut host, &[Event::Full(true), Event::PageOut(Vpn(0), 1), Event::Grant(0), RECLAIM]);
    play(&mut host, &[Event::Step(0), Event::Full(false)]);
    assert_eq!(host.jobs[0].step, Step::Packed);
    play(&mut host, &[Event::Run(0), Event::Grant(SETUP.grant)]);
    assert_eq!(host.engine.page_state(SPACE, Vpn(0)), PageState::Standby { copy: true });
    host.read_back().unwrap();
}
