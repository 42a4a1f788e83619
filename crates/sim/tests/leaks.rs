//! Ways to lose what was given out: a frame, an extent of the spill file, a pin, an object of the store. Each is gone through
//! to its end; then the tables are compared with each other, all is unmapped, and nothing may be left.

mod common;

use common::play;
use quire_core::job::{JobKind, Outcome};
use quire_core::mmu::{Prot, Refusal};
use quire_core::{PageRange, PageState, Urgency, Vpn};
use quire_sim::world::{Event, Put, SPACE, Setup, Step, Touch};
use quire_sim::{Host, Injection, Verb};

const SETUP: Setup = Setup { spill: Some(1 << 20), ..common::SETUP };

fn write(host: &mut Host, pages: core::ops::Range<u64>, put: Put) {
    for vpn in pages.map(Vpn) {
        play(host, &[Event::Touch(0, Touch { vpn, put: Some(put) }), Event::Handle(0), Event::Run(0)]);
    }
}

/// A host whose first pages were written.
fn host(pages: u64, put: Put) -> Host {
    let mut host = Host::new(SETUP);
    host.recount();
    play(&mut host, &[Event::Map(Vpn(0), 32, Prot::READ_WRITE)]);
    write(&mut host, 0..pages, put);
    host
}

/// Reclaim goes on as long as it does something without a job.
fn press(host: &mut Host) {
    play(host, &[Event::Grant(0)]);
    for _ in 0..64 {
        if !host.jobs.is_empty() {
            break;
        }
        play(host, &[Event::Reclaim(Urgency::Behind)]);
    }
    play(host, &[Event::Grant(SETUP.grant)]);
}

/// Nothing was lost so far, and nothing is left when all is unmapped.
fn nothing_is_left(mut host: Host) {
    host.check().unwrap();
    host.drain().unwrap();
    host.read_back().unwrap();
    for space in host.spaces.clone() {
        host.unmap(PageRange::new(space, Vpn(0), SETUP.arena));
    }
    host.drain().unwrap();
    host.check().unwrap();
    host.check_empty().unwrap();
}

/// The copy of a pinned page is refused as often as the engine asks: there is no child, and the frame is free again.
#[test]
fn a_frame_whose_copy_was_refused_eight_times() {
    let mut host = host(4, Put::Small);
    play(&mut host, &[Event::Pin(Vpn(2), true)]);
    for refusal in [Refusal::Again, Refusal::NoMemory, Refusal::Busy, Refusal::Denied].repeat(2) {
        host.mmu.inject(Injection::next(Verb::CopyOut, refusal));
    }
    let before = host.engine.frames_in_use();
    play(&mut host, &[Event::ForkSpace]);
    assert_eq!(host.mmu.injector.pending(), []);
    assert_eq!((host.spaces.len(), host.engine.frames_in_use()), (1, before), "no child, no frame");
    assert_eq!(host.checks().given_up, 1);
    // Seven refusals are not enough.
    (0..7).for_each(|_| host.mmu.inject(Injection::next(Verb::CopyOut, Refusal::Again)));
    play(&mut host, &[Event::ForkSpace, Event::Pin(Vpn(2), false)]);
    assert_eq!(host.spaces.len(), 2);
    nothing_is_left(host);
}

/// A writer with places in the spill file, whose page is then needed no longer, or again.
fn writing_to_a_file() -> Host {
    let mut host = host(1, Put::Raw);
    // Nothing waits in RAM on its way to the file.
    play(&mut host, &[Event::PageOut(Vpn(0), 1), Event::Overhead(SETUP.grant)]);
    press(&mut host);
    play(&mut host, &[Event::Step(0), Event::Step(0)]);
    assert_eq!((host.jobs[0].work.kind, host.jobs[0].step), (JobKind::Write, Step::Placed));
    assert!(host.mmu.store.file_bytes() > 0, "{:?}", host.jobs[0].work.targets);
    host
}

#[test]
fn an_extent_of_a_file_whose_last_block_dies_while_it_is_written() {
    for end in [Event::Discard(Vpn(0), 1), Event::Unmap(Vpn(0), 1), Event::Message(Vpn(0), true)] {
        let mut host = writing_to_a_file();
        play(&mut host, &[end, Event::Run(0)]);
        assert_eq!((host.mmu.store.file_bytes(), host.checks().died), (0, 1), "{end:?}");
        nothing_is_left(host);
    }
    let mut host = writing_to_a_file();
    play(&mut host, &[Event::Step(0), Event::Fail(0)]);
    assert_eq!(host.mmu.store.holdings().extents, 0, "what a failed disk has is given up");
    nothing_is_left(host);
}

/// A spill job whose pages are gone when it comes back, and one that fails.
#[test]
fn an_extent_of_a_spill_job_that_brings_nothing() {
    for (end, outcome) in [(Some(Event::Unmap(Vpn(0), 32)), Outcome::Done), (None, Outcome::Failed)] {
        let mut host = host(32, Put::Small);
        // Some of it goes to the store in RAM, and from there to the file when that has no more room.
        play(&mut host, &[Event::Grant(33)]);
        (0..24).for_each(|_| play(&mut host, &[Event::Reclaim(Urgency::Behind), Event::Run(0)]));
        assert!(host.mmu.store.figures().ram_pages > 0 && host.mmu.store.file_bytes() == 0);
        play(&mut host, &[Event::Overhead(33)]);
        for _ in 0..24 {
            if host.jobs.is_empty() {
                play(&mut host, &[Event::Reclaim(Urgency::Behind)]);
            }
        }
        assert_eq!(host.jobs.last().map(|job| job.work.kind), Some(JobKind::Spill), "{:?}", host.jobs);
        let before = host.mmu.store.file_bytes();
        assert!(before > 0);
        end.into_iter().for_each(|end| play(&mut host, &[end]));
        play(
            &mut host,
            &[if outcome == Outcome::Done { Event::Run(0) } else { Event::Fail(0) }, Event::Overhead(0)],
        );
        assert_eq!(host.mmu.store.file_bytes(), 0);
        nothing_is_left(host);
    }
}

/// A read that counts no longer when it comes back lets go of the copy it has read.
#[test]
fn a_copy_that_was_read_for_nothing() {
    let mut host = host(4, Put::Small);
    play(&mut host, &[Event::PageOut(Vpn(0), 4)]);
    for _ in 0..8 {
        press(&mut host);
        play(&mut host, &[Event::Run(0)]);
    }
    assert_eq!(host.engine.page_state(SPACE, Vpn(1)), PageState::Stored);
    play(&mut host, &[Event::Message(Vpn(1), false), Event::Discard(Vpn(1), 1), Event::Run(0)]);
    assert_eq!(host.engine.page_state(SPACE, Vpn(1)), PageState::Empty);
    nothing_is_left(host);
}
