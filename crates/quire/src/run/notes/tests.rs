//! The order of notes, with rings written by hand.

use super::*;
use quire_core::Vpn;
use quire_linux::control::ring::Words;
use quire_sim::trace::Reader;
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use std::fs::File;
use std::path::PathBuf;

const PARENT: AccountId = AccountId { index: 3, generation: 1 };
const CHILD: AccountId = AccountId { index: 0, generation: 9 };

struct Run {
    notes: Notes,
    directory: tempfile::TempDir,
}

impl Run {
    fn new() -> Run {
        let directory = tempfile::tempdir().unwrap();
        let trace = Trace::create(&directory.path().join("trace"), 10_000_000).unwrap();
        Run { notes: Notes::new(Some(trace), None), directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("trace")
    }

    /// A process joins; its end of the ring.
    fn join(&mut self, account: AccountId, parent: Option<AccountId>) -> Ring {
        Ring::map(self.notes.join(account, 1, parent).unwrap()).unwrap()
    }

    /// All events of the trace but time.
    fn finish(mut self) -> Vec<Event> {
        self.notes.finish(&mut |_| false);
        let reader = Reader::new(File::open(self.path()).unwrap()).unwrap();
        reader.map(|event| event.unwrap()).filter(|event| !matches!(event, Event::Time { .. })).collect()
    }
}

fn words(at: u64, note: Note) -> Words {
    let [first, second] = note.encode();
    [at, first, second]
}

fn touch(at: u64, page: u64) -> Words {
    words(at, Note::Access { vpn: Vpn(page), write: true })
}

fn range(start: u64, pages: u64) -> PageRange {
    PageRange::new(Space(0), Vpn(start), pages)
}

fn write(space: u16, page: u64) -> Event {
    Event::Access(Access::write(Space(space), Vpn(page)))
}

#[test]
fn processes_are_merged_by_time() {
    let mut run = Run::new();
    let (one, two) = (run.join(PARENT, None), run.join(CHILD, None));
    let now = now_ns();
    assert!(one.push(touch(now, 1)) && one.push(touch(now + 20, 2)));
    assert!(two.push(touch(now + 10, 3)) && two.push(words(now + 30, Note::Written(range(4, 2)))));
    run.notes.leave(PARENT);
    let exits = [Event::Exit(Space(0)), Event::Exit(Space(1))];
    let expected = [write(0, 1), write(1, 3), write(0, 2), write(1, 4), write(1, 5), exits[0], exits[1]];
    assert_eq!(run.finish(), expected);
}

/// The parent went on and ended before its child had joined: nothing of that may come before the fork.
#[test]
fn a_fork_comes_before_its_child_and_what_its_parent_did_later() {
    let mut run = Run::new();
    let parent = run.join(PARENT, None);
    let then = now_ns() - 200_000_000;
    parent.push(touch(then, 1));
    parent.push(words(then + 1, Note::Forking { number: 5 }));
    parent.push(touch(then + 3, 2));
    run.notes.leave(PARENT);
    run.notes.drain();
    assert_eq!(run.notes.sources[0].notes.len(), 2, "all but the first are held");

    let child = run.join(CHILD, Some(PARENT));
    child.push(words(then + 2, Note::Forked { number: 5 }));
    child.push(touch(then + 4, 1));
    let fork = Event::Fork { parent: Space(0), child: Space(1) };
    let mut events = run.finish();
    let exits = events.split_off(4);
    assert_eq!(events, [write(0, 1), fork, write(0, 2), write(1, 1)]);
    assert_eq!(exits, [Event::Exit(Space(0)), Event::Exit(Space(1))]);
}

#[test]
fn a_fork_without_a_child_holds_nothing_for_long() {
    let mut run = Run::new();
    let parent = run.join(PARENT, None);
    let then = now_ns() - 2 * GRACE;
    parent.push(words(then, Note::Forking { number: 1 }));
    parent.push(touch(then + 1, 2));
    run.notes.drain();
    assert_eq!(run.notes.sources[0].notes.len(), 2, "quire has only just heard of it");
    run.notes.clock += GRACE;
    run.notes.drain();
    assert!(run.notes.sources[0].notes.is_empty());
    assert_eq!(run.finish(), [write(0, 2), Event::Exit(Space(0))]);
}

#[test]
fn nonsense_is_left_out() {
    let mut run = Run::new();
    let ring = run.join(PARENT, None);
    let now = now_ns();
    ring.push([now, 0xff, 1]);
    // Beyond what a trace can hold.
    ring.push(touch(now, u64::MAX));
    ring.push(words(now, Note::Unmap(range(1, 0))));
    ring.push(touch(now, 7));
    assert_eq!(run.finish(), [write(0, 7), Event::Exit(Space(0))]);
}

#[test]
fn what_can_not_be_written_is_asked_for_no_longer() {
    let mut notes = Notes::new(Some(Trace::create(std::path::Path::new("/dev/full"), 1).unwrap()), None);
    let ring = Ring::map(notes.join(PARENT, 1, None).unwrap()).unwrap();
    let then = now_ns() - 100_000_000;
    for page in 0..200_000 {
        if !ring.push(touch(then, page * 1000)) {
            notes.drain();
        }
    }
    let deadline = now_ns() + 10_000_000_000;
    while !ring.is_closed() {
        assert!(now_ns() < deadline, "nobody was told");
        notes.drain();
    }
    assert!(notes.join(CHILD, 2, None).is_none());
    notes.finish(&mut |_| false);
}

#[test]
fn without_a_trace_accesses_are_refused_and_the_log_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let trace = Trace::create(std::path::Path::new("/dev/full"), 1).unwrap();
    let log = Log::create(&directory.path().join("log")).unwrap();
    let mut notes = Notes::new(Some(trace), Some(log));
    let ring = Ring::map(notes.join(PARENT, 1, None).unwrap()).unwrap();
    assert!(ring.wants_accesses());
    let deadline = now_ns() + 10_000_000_000;
    while ring.wants_accesses() {
        assert!(now_ns() < deadline, "nobody was told");
        notes.drain();
    }
    let other = Ring::map(notes.join(CHILD, 2, Some(PARENT)).unwrap()).unwrap();
    assert!(!other.wants_accesses() && !ring.is_closed());
    ring.push(words(now_ns(), Note::Lost(3)));
    notes.finish(&mut |_| false);
    let log = std::fs::read_to_string(directory.path().join("log")).unwrap();
    assert!(log.contains("lost      3 decisions"), "{log}");
}

#[test]
fn while_a_file_takes_nothing_notes_stay_in_the_ring() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pipe");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let reader = open(&path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
    let mut notes = Notes::new(Some(Trace::create(&path, 1).unwrap()), None);
    let ring = Ring::map(notes.join(PARENT, 1, None).unwrap()).unwrap();
    let then = now_ns() - 100_000_000;
    // Pages far from each other take some bytes each.
    let far = |page: u64| touch(then, page.wrapping_mul(0x9e37_79b9) % (1 << 40));
    let deadline = now_ns() + 20_000_000_000;
    let mut written = 0;
    while ring.push(far(written)) || !notes.is_full() {
        assert!(now_ns() < deadline, "the file never filled");
        notes.drain();
        written += 1;
    }
    notes.drain();
    assert!(!ring.push(far(0)), "there is no room");
    // Now it is read.
    let mut buffer = vec![0; 1 << 16];
    while !ring.push(far(0)) {
        assert!(now_ns() < deadline, "the ring was left alone");
        let _ = rustix::io::read(&reader, &mut buffer);
        notes.drain();
    }
}
