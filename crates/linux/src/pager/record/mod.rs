//! Recording: what the program does to its memory, and what the engine decides, told to `quire` as notes.
//!
//! A pager sees accesses as faults only. So while it records, every folio is one page, and the service thread moves out
//! what is mapped again and again ([`Pager::withdraw_all`]): the next touch is a fault, which rescues the page and is noted.
//! A fault tells whether it writes. A page that was read first and then written is told when it is next moved out, by
//! the hash of its contents: so the verbs of [`LinuxMmu`](crate::mmu::LinuxMmu) report what they bring in and take away.
//!
//! Notes are made under the engine's lock, so their order is that of what happened. They go to a ring that `quire`
//! empties, and where that is full to a queue of this process. Nobody waits under the lock: before its next fault,
//! call or bite each of the pager's threads waits until the queue is empty ([`Pager::await_notes`]).

mod touches;

use super::{Pager, SPACE};
use crate::codec::Secret;
use crate::control::client::Client;
use crate::control::note::Note;
use crate::control::ring::{Ring, Words};
use crate::sys::bytes::Stretch;
use crate::sys::clock::now_ns;
use crate::sys::futex::{self, Lock};
use crate::sys::leaked::Leaked;
use core::mem;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use quire_core::addr::{FrameRun, PAGE_SIZE, PageRange, Vpn};
use quire_core::mmu::Prot;
use quire_core::{Engine, Space};
use std::collections::VecDeque;
use touches::{BITE, Touches};

/// Decisions that the engine keeps until they are told.
pub(super) const DECISIONS: usize = 4096;
/// Intervals by which waiting for faults makes one longer.
const MOST_WAITED: u64 = 100;
/// Notes that may find no room while one fault is answered: the access; and of decisions two, as they are told only as long
/// as none waits.
const MOST_ANSWER: usize = 4;
/// How long to wait for room in the ring before looking whether `quire` still runs, in ns.
const TIMEOUT_NS: u64 = 10_000_000;

/// What this process has to tell, and to whom.
#[derive(Debug)]
pub(crate) struct Recorder {
    secret: Secret,
    /// How often what is mapped is moved out, in ns; 0: accesses are not recorded.
    every_ns: u64,
    /// Whether the engine's decisions are told.
    log: bool,
    /// What the program has waited for faults since all was moved out last, in ns.
    waited: AtomicU64,
    /// 1 when nobody listens any longer.
    over: AtomicU32,
    /// Empty in a forked child that has not joined yet: what it has to tell waits.
    ring: Leaked<Ring>,
    state: Lock<State>,
}

#[derive(Debug)]
struct State {
    /// Notes that found no room.
    queue: VecDeque<Words>,
    touches: Touches,
    /// The time of the last note, in ns.
    last: u64,
    /// Forks so far.
    forks: u32,
    /// Decisions that were told or lost.
    told: u64,
}

impl State {
    fn note(&mut self, ring: Option<&Ring>, note: Note, at: u64) {
        // Times never go back within a process.
        self.last = self.last.max(at);
        let [first, second] = note.encode();
        let words = [self.last, first, second];
        if !self.queue.is_empty() || !ring.is_some_and(|ring| ring.push(words)) {
            self.queue.push_back(words);
        }
    }

    fn drain(&mut self, ring: &Ring) {
        while self.queue.front().is_some_and(|&words| ring.push(words)) {
            self.queue.pop_front();
        }
    }
}

impl Recorder {
    /// One that leaves its notes in `ring`.
    pub(super) fn new(secret: &Secret, every_ns: u64, log: bool, ring: Ring) -> Recorder {
        let zero = secret.hash(&[0; PAGE_SIZE]) as u64;
        let state = State { queue: VecDeque::new(), touches: Touches::new(zero), last: 0, forks: 0, told: 0 };
        let recorder = Recorder {
            secret: secret.clone(),
            every_ns,
            log,
            waited: AtomicU64::new(0),
            over: AtomicU32::new(0),
            ring: Leaked::empty(),
            state: Lock::new(state),
        };
        recorder.ring.set(Box::leak(Box::new(ring)));
        recorder
    }

    /// How often what is mapped is to be moved out, in ns, while accesses are recorded: until `quire` has ended, or has no
    /// use for them.
    pub(super) fn interval(&self) -> Option<u64> {
        let wanted = self.every_ns > 0 && !self.is_over() && self.ring.get().is_none_or(Ring::wants_accesses);
        wanted.then_some(self.every_ns)
    }

    /// The program has waited so long for a fault.
    pub(super) fn add_wait(&self, ns: u64) {
        self.waited.fetch_add(ns, Relaxed);
    }

    /// What it has waited since [`Recorder::forget_waits`], in ns: not time in which it could access anything. No more than
    /// so many intervals, as one of its threads may fault all the time while others do not.
    pub(super) fn waited(&self) -> u64 {
        self.waited.load(Relaxed).min(MOST_WAITED * self.every_ns)
    }

    pub(super) fn forget_waits(&self) {
        self.waited.store(0, Relaxed);
    }

    /// Whether decisions are told.
    pub(super) fn logs(&self) -> bool {
        self.log && !self.is_over()
    }

    fn is_over(&self) -> bool {
        self.over.load(Relaxed) != 0
    }

    /// Nobody listens any longer. Whether that is news. What was known stays where it is: to free it, at any time and on
    /// any thread, could meet a fork.
    fn end(&self) -> bool {
        self.over.swap(1, Relaxed) == 0
    }

    /// The state and the ring, while accesses are recorded.
    fn recording(&self, with: impl FnOnce(&mut State, Option<&Ring>)) {
        if self.interval().is_some() {
            with(&mut self.state.lock(), self.ring.get());
        }
    }

    /// The program did this.
    pub(super) fn note(&self, note: Note) {
        self.recording(|state, ring| state.note(ring, note, now_ns()));
    }

    /// The program accessed a page at time `at`, in ns. Whether nothing was mapped before.
    pub(super) fn access(&self, vpn: Vpn, write: bool, at: u64) -> bool {
        let mut first = false;
        self.recording(|state, ring| {
            first = state.touches.mapped() <= 1;
            state.note(ring, Note::Access { vpn, write }, at);
            if write {
                state.touches.write(vpn);
            }
        });
        first
    }

    /// Pages were moved to another place with all they hold. To a trace, that is new memory that is written.
    pub(super) fn remapped(&self, from: PageRange, to: Vpn, prot: Prot) {
        self.recording(|state, ring| {
            let range = PageRange::new(SPACE, to, from.pages);
            let at = now_ns();
            // Only what may be written can be.
            let writable = Prot::from_bits(prot.bits() | Prot::READ_WRITE.bits());
            state.note(ring, Note::Map { range, prot: writable }, at);
            let mut rest = range;
            while let Some(run) = state.touches.next_in_use(rest) {
                state.note(ring, Note::Written(run), at);
                rest = PageRange::between(SPACE, run.end(), range.end());
            }
            if writable != prot {
                state.note(ring, Note::Protect { range, prot }, at);
            }
            state.note(ring, Note::Unmap(from), at);
        });
    }

    /// Makes room for what answering a fault of page `vpn` notes, so that nothing is allocated when the thread goes on: it
    /// is about to fork.
    pub(super) fn make_room(&self, vpn: Vpn) {
        let mut state = self.state.lock();
        state.queue.reserve(MOST_ANSWER);
        if self.interval().is_some() {
            state.touches.make_room(vpn);
        }
    }

    /// Pages are at the program's addresses now.
    pub(crate) fn mapped(&self, pages: PageRange) {
        self.recording(|state, _| state.touches.map(pages));
    }

    /// Pages were moved out, from `at` on to the frames of `pool`.
    pub(crate) fn moved_out(&self, at: Vpn, frames: FrameRun, pool: Stretch) {
        self.recording(|state, ring| {
            for (i, frame) in frames.iter().enumerate() {
                let vpn = at.plus(i as u64);
                let hash = pool.with_page(frame.0 as usize, |page| self.secret.hash(page)) as u64;
                if state.touches.move_out(vpn, hash) {
                    let last = state.last;
                    state.note(ring, Note::Access { vpn, write: true }, last);
                }
            }
        });
    }

    /// Pages are empty from now on.
    pub(crate) fn emptied(&self, pages: PageRange) {
        self.recording(|state, _| state.touches.forget(pages));
    }

    /// What was known of `from` holds at `to` from now on.
    pub(crate) fn moved(&self, from: PageRange, to: Vpn) {
        self.recording(|state, _| state.touches.move_to(from, to));
    }

    /// The first bite of pages of `range` in which some are mapped.
    fn next_bite(&self, range: PageRange) -> Option<PageRange> {
        let start = self.state.lock().touches.next_mapped(range.start)?;
        let (from, to) = (start.max(range.start), start.plus(BITE).min(range.end()));
        (from < to).then(|| PageRange::between(Space(0), from, to))
    }

    /// Tells what the engine decided since the last time. Under the engine's lock.
    pub(super) fn tell_decisions(&self, engine: &Engine) {
        if !self.logs() {
            return;
        }
        let mut state = self.state.lock();
        let ring = self.ring.get();
        if ring.is_some_and(Ring::is_closed) {
            return self.over.store(1, Relaxed);
        }
        let now = now_ns();
        ring.into_iter().for_each(|ring| state.drain(ring));
        for (number, decision) in engine.log_from(state.told) {
            if !state.queue.is_empty() {
                // No room: they wait in the engine's log, where the oldest may be overwritten.
                return;
            }
            if number > state.told {
                let lost = number - state.told;
                state.note(ring, Note::Lost(lost.min(u64::from(u32::MAX)) as u32), now);
            }
            state.told = number + 1;
            state.note(ring, Note::Decided(*decision), now);
        }
    }

    /// The ring, if it has no room for all that waits, or nobody reads it any longer.
    fn full_ring(&self) -> Option<&'static Ring> {
        let mut state = self.state.lock();
        let ring = self.ring.get()?;
        state.drain(ring);
        (!state.queue.is_empty() || ring.is_closed()).then_some(ring)
    }

    /// Whether any page is mapped.
    pub(super) fn has_mapped(&self) -> bool {
        self.state.lock().touches.mapped() > 0
    }

    /// Whether notes wait for room.
    fn is_behind(&self) -> bool {
        !self.state.lock().queue.is_empty()
    }

    /// The program is about to fork.
    pub(super) fn forking(&self) {
        self.recording(|state, ring| {
            state.forks += 1;
            let number = state.forks;
            state.note(ring, Note::Forking { number }, now_ns());
        });
    }

    /// In a forked child, on its only thread: what waits is its parent's to tell, and so is the ring.
    pub(super) fn forked(&self) {
        futex::forget_holder(&self.state);
        let mut state = self.state.lock();
        self.ring.clear();
        // The parent's handler may have been emptying it at that moment: it is not looked at.
        mem::forget(mem::take(&mut state.queue));
        if self.every_ns > 0 {
            let number = state.forks;
            state.note(None, Note::Forked { number }, now_ns());
        }
    }

    /// In a forked child: it has a ring of its own, or nobody listens.
    pub(super) fn use_ring(&self, ring: Option<Ring>) {
        let Some(ring) = ring else {
            self.end();
            return;
        };
        let ring = Box::leak(Box::new(ring));
        let mut state = self.state.lock();
        self.ring.set(ring);
        state.drain(ring);
    }
}

impl Pager {
    /// The recorder, while accesses are recorded.
    pub(super) fn recorder(&self) -> Option<&Recorder> {
        self.recorder.as_ref().filter(|recorder| recorder.interval().is_some())
    }

    /// The program accessed a page at time `at`, in ns. Under the engine's lock.
    pub(super) fn record_access(&self, vpn: Vpn, write: bool, at: u64) {
        if let Some(recorder) = self.recorder()
            && recorder.access(vpn, write, at)
        {
            // Until now there was nothing to move out again.
            self.exchange.ring();
        }
    }

    /// Whether notes wait for room: then [`Pager::await_notes`] comes before anything that makes more of them.
    pub(super) fn is_behind(&self) -> bool {
        self.recorder().is_some_and(Recorder::is_behind)
    }

    /// On the pager's threads, with no lock held: waits until all notes have found room. A `quire` that is stopped is
    /// waited for, one that has ended is not. Allocates and frees nothing, as another thread may be about to fork.
    pub(super) fn await_notes(&self, beat: impl Fn()) {
        while let Some(recorder) = self.recorder()
            && let Some(ring) = recorder.full_ring()
        {
            if ring.is_closed() {
                recorder.end();
                return;
            }
            ring.await_room(TIMEOUT_NS);
            beat();
            if !self.client().is_some_and(Client::is_connected) {
                if recorder.end() {
                    crate::say!("quire has ended: the program goes on unrecorded");
                }
                return;
            }
        }
    }

    /// Moves out what of `range` is mapped, in bites, so that the next touch of each page is a fault, and what was written
    /// since it was read is noted. `between` is called between two bites, with no lock held.
    pub(super) fn withdraw(&self, range: PageRange, mut between: impl FnMut()) {
        let Some(recorder) = self.recorder() else { return };
        let mut rest = range;
        while let Some(bite) = recorder.next_bite(rest) {
            rest = PageRange::between(SPACE, bite.end(), range.end());
            self.await_notes(|| self.watchdog.service_beat());
            self.tables_behind().engine.withdraw(&mut self.mover(), bite);
            between();
        }
    }

    /// The same for all that is mapped.
    pub(super) fn withdraw_all(&self, between: impl FnMut()) {
        self.withdraw(self.places.arena(SPACE), between);
    }

    /// Tells what the engine decided, if that is asked for.
    pub(super) fn tell_decisions(&self, engine: &Engine) {
        if let Some(recorder) = &self.recorder {
            recorder.tell_decisions(engine);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::note::MOST_WRITTEN;
    use crate::control::ring::CAPACITY;
    use crate::mmu::LinuxMmu;
    use crate::places::Places;
    use quire_core::job::Work;
    use quire_core::{Config, Decision, Fault, Frame, PolicyKind};
    use std::sync::OnceLock;

    const EVERY: u64 = 10_000_000;

    /// A recorder, and the other end of its ring.
    fn recorder(every_ns: u64, log: bool) -> (Recorder, Ring) {
        static SECRET: OnceLock<Secret> = OnceLock::new();
        let (file, ring) = Ring::create().unwrap();
        let secret = SECRET.get_or_init(|| Secret::random().unwrap());
        (Recorder::new(secret, every_ns, log, Ring::map(&file).unwrap()), ring)
    }

    fn taken(ring: &Ring) -> Vec<Note> {
        let mut notes = Vec::new();
        ring.take(|[_, first, second]| notes.push(Note::decode([first, second]).unwrap()));
        notes
    }

    fn pages(start: u64, pages: u64) -> PageRange {
        PageRange::new(SPACE, Vpn(start), pages)
    }

    fn read(page: u64) -> Note {
        Note::Access { vpn: Vpn(page), write: false }
    }

    #[test]
    fn waits_add_up_to_a_bound_and_are_forgotten() {
        let (recorder, _ring) = recorder(EVERY, false);
        recorder.add_wait(300);
        recorder.add_wait(40);
        assert_eq!(recorder.waited(), 340);
        recorder.forget_waits();
        assert_eq!(recorder.waited(), 0);
        recorder.add_wait(u64::MAX / 2);
        assert_eq!(recorder.waited(), MOST_WAITED * EVERY);
    }

    #[test]
    fn what_finds_no_room_waits_in_order() {
        let (recorder, ring) = recorder(EVERY, false);
        let notes = CAPACITY as u64 + 10;
        for page in 0..notes {
            recorder.access(Vpn(page), false, page);
        }
        assert!(recorder.is_behind());
        let mut all = taken(&ring);
        // With room again, what waits still goes first.
        recorder.access(Vpn(notes), false, notes);
        assert!(recorder.is_behind() && taken(&ring).is_empty());
        recorder.state.lock().drain(recorder.ring.get().unwrap());
        assert!(!recorder.is_behind());
        all.extend(taken(&ring));
        assert_eq!(all, (0..=notes).map(read).collect::<Vec<_>>());
    }

    #[test]
    fn times_never_go_back() {
        let (recorder, ring) = recorder(EVERY, false);
        recorder.access(Vpn(1), false, 500);
        recorder.access(Vpn(2), false, 400);
        let mut times = Vec::new();
        ring.take(|[at, ..]| times.push(at));
        assert_eq!(times, [500, 500]);
    }

    #[test]
    fn what_moves_is_new_memory_with_its_contents_written() {
        let (recorder, ring) = recorder(EVERY, false);
        let places = Places::reserve(512, 4).unwrap();
        places.pool().with_page(3, |page| page[7] = 1);
        recorder.mapped(pages(10, 2));
        // The second page, in frame 4, is all zeroes still.
        recorder.moved_out(Vpn(10), FrameRun::new(Frame(3), 2), places.pool());
        let write = |page| Note::Access { vpn: Vpn(page), write: true };
        assert_eq!(taken(&ring), [write(10)], "it changed, and no fault said so");
        recorder.moved(pages(10, 2), Vpn(50));
        recorder.remapped(pages(10, 2), Vpn(50), Prot::READ);
        let range = pages(50, 2);
        let map = Note::Map { range, prot: Prot::READ_WRITE };
        let protect = Note::Protect { range, prot: Prot::READ };
        let written = Note::Written(pages(50, 1));
        assert_eq!(taken(&ring), [map, written, protect, Note::Unmap(pages(10, 2))]);
        recorder.emptied(range);
        places.pool().with_page(3, |page| page.fill(0));
        recorder.moved_out(Vpn(50), FrameRun::new(Frame(3), 1), places.pool());
        assert!(taken(&ring).is_empty(), "a page that was given up begins as zeroes");
    }

    #[test]
    fn much_that_moves_is_little_to_tell() {
        let (recorder, ring) = recorder(EVERY, false);
        recorder.mapped(pages(512, 1 << 14));
        recorder.moved(pages(512, 1 << 14), Vpn(1 << 20));
        recorder.remapped(pages(512, 1 << 14), Vpn(1 << 20), Prot::READ_WRITE);
        let notes = taken(&ring);
        assert_eq!(notes.len(), 2 + (1 << 14) / MOST_WRITTEN as usize);
        let written = notes.iter().map(|note| if let Note::Written(range) = note { range.pages } else { 0 });
        assert_eq!(written.sum::<u64>(), 1 << 14);
    }

    #[test]
    fn answering_a_thread_that_forks_allocates_nothing() {
        let (recorder, _ring) = recorder(EVERY, true);
        (0..CAPACITY as u64).for_each(|page| _ = recorder.access(Vpn(page), true, page));
        assert!(!recorder.is_behind());
        let far = Vpn(1 << 30);
        recorder.make_room(far);
        let room = || {
            let state = recorder.state.lock();
            (state.queue.capacity(), state.touches.leaves())
        };
        let before = room();
        // No room in the ring for any of it.
        recorder.mapped(PageRange::new(SPACE, far, 1));
        recorder.access(far, true, 0);
        recorder.note(Note::Lost(1));
        recorder.note(Note::Lost(1));
        assert!(recorder.is_behind());
        assert_eq!(room(), before);
    }

    #[test]
    fn a_forked_child_leaves_its_parents_ring_alone() {
        let (recorder, ring) = recorder(EVERY, false);
        recorder.forking();
        recorder.forked();
        recorder.access(Vpn(1), false, 0);
        assert_eq!(taken(&ring), [Note::Forking { number: 1 }]);
        let (file, own) = Ring::create().unwrap();
        recorder.use_ring(Some(Ring::map(&file).unwrap()));
        assert_eq!(taken(&own), [Note::Forked { number: 1 }, read(1)]);
        recorder.use_ring(None);
        recorder.access(Vpn(2), false, 0);
        assert!(taken(&own).is_empty());
    }

    #[test]
    fn decisions_that_were_overwritten_are_counted() {
        let (recorder, ring) = recorder(0, true);
        let places = Places::reserve(512, 4).unwrap();
        let mut mmu = LinuxMmu::for_program(&places);
        let page = PageRange::new(SPACE, places.arena(SPACE).start, 1);
        // Without a page of memory every fault finds no frame.
        let config = Config { frames: 512, grant: 0, policy: PolicyKind::Adaptive };
        let mut engine = Engine::new(config);
        engine.map_range(&mut mmu, page, Prot::READ_WRITE).unwrap();
        engine.set_log(3);
        let decision = Note::Decided(Decision::NoFrame { space: SPACE, vpn: page.start });
        for (faults, lost) in [(5, vec![Note::Lost(2)]), (3, vec![]), (0, vec![])] {
            for _ in 0..faults {
                let fault = engine.fault(&mut mmu, SPACE, page.start, &mut Work::new());
                assert_eq!(fault, Fault::NoFrame);
            }
            recorder.tell_decisions(&engine);
            let told = vec![decision; faults.min(3)];
            assert_eq!(taken(&ring), [lost, told].concat());
        }
    }
}
