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
use crate::control::note::Note;
use crate::control::ring::{Ring, Words};
use crate::sys::bytes::Stretch;
use crate::sys::clock::now_ns;
use crate::sys::futex::{self, Lock};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use quire_core::addr::{FrameRun, PAGE_SIZE, PageRange, Vpn};
use quire_core::mmu::Prot;
use quire_core::{Engine, Space};
use std::collections::VecDeque;
use std::sync::Arc;
use touches::{BITE, Touches};

/// Decisions that the engine keeps until they are told.
pub(super) const DECISIONS: usize = 4096;
/// How long to wait for room in the ring before looking whether `quire` still runs, in ns.
const PATIENCE_NS: u64 = 10_000_000;

/// What this process has to tell, and to whom.
#[derive(Debug)]
pub(crate) struct Recorder {
    secret: Secret,
    /// How often what is mapped is moved out, in ns; 0: accesses are not recorded.
    every_ns: u64,
    /// Whether the engine's decisions are told.
    log: bool,
    /// 1 when nobody listens any longer.
    over: AtomicU32,
    state: Lock<State>,
}

#[derive(Debug)]
struct State {
    /// None in a forked child that has not joined yet: what it has to tell waits.
    ring: Option<Arc<Ring>>,
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
    fn note(&mut self, note: Note, at: u64) {
        // Times never go back within a process.
        self.last = self.last.max(at);
        let [first, second] = note.encode();
        let words = [self.last, first, second];
        if !self.queue.is_empty() || !self.ring.as_ref().is_some_and(|ring| ring.push(words)) {
            self.queue.push_back(words);
        }
    }

    fn drain(&mut self) {
        let Some(ring) = &self.ring else { return };
        while self.queue.front().is_some_and(|&words| ring.push(words)) {
            self.queue.pop_front();
        }
    }
}

impl Recorder {
    /// One that leaves its notes in `ring`.
    pub(super) fn new(secret: &Secret, every_ns: u64, log: bool, ring: Ring) -> Recorder {
        let zero = secret.hash(&[0; PAGE_SIZE]) as u64;
        let state = State {
            ring: Some(Arc::new(ring)),
            queue: VecDeque::new(),
            touches: Touches::new(zero),
            last: 0,
            forks: 0,
            told: 0,
        };
        Recorder { secret: secret.clone(), every_ns, log, over: AtomicU32::new(0), state: Lock::new(state) }
    }

    /// How often what is mapped is to be moved out, in ns, if accesses are recorded.
    pub(super) fn interval(&self) -> Option<u64> {
        (self.every_ns > 0 && !self.is_over()).then_some(self.every_ns)
    }

    /// Whether decisions are told.
    pub(super) fn logs(&self) -> bool {
        self.log && !self.is_over()
    }

    fn is_over(&self) -> bool {
        self.over.load(Relaxed) != 0
    }

    /// Nobody listens any longer: what was known is given up.
    fn end(&self) {
        self.over.store(1, Relaxed);
        let mut state = self.state.lock();
        state.queue = VecDeque::new();
        state.touches = Touches::new(0);
    }

    /// The state, while accesses are recorded.
    fn recording(&self, with: impl FnOnce(&mut State)) {
        if self.interval().is_some() {
            with(&mut self.state.lock());
        }
    }

    /// The program did this.
    pub(super) fn note(&self, note: Note) {
        self.recording(|state| state.note(note, now_ns()));
    }

    /// The program accessed a page at time `at`, in ns. Whether nothing was mapped before.
    pub(super) fn access(&self, vpn: Vpn, write: bool, at: u64) -> bool {
        let mut first = false;
        self.recording(|state| {
            first = state.touches.mapped() <= 1;
            state.note(Note::Access { vpn, write }, at);
            if write {
                state.touches.write(vpn);
            }
        });
        first
    }

    /// Pages were moved to another place with all they hold. To a trace, that is new memory that is written.
    pub(super) fn remapped(&self, from: PageRange, to: Vpn, prot: Prot) {
        self.recording(|state| {
            let range = PageRange::new(SPACE, to, from.pages);
            let at = now_ns();
            state.note(Note::Map { range, prot }, at);
            let pages: Vec<Vpn> = state.touches.in_use(range).collect();
            for vpn in pages {
                state.note(Note::Access { vpn, write: true }, at);
            }
            state.note(Note::Unmap(from), at);
        });
    }

    /// Pages are at the program's addresses now.
    pub(crate) fn mapped(&self, pages: PageRange) {
        self.recording(|state| state.touches.map(pages));
    }

    /// Pages were moved out, from `at` on to the frames of `pool`.
    pub(crate) fn moved_out(&self, at: Vpn, frames: FrameRun, pool: Stretch) {
        self.recording(|state| {
            for (i, frame) in frames.iter().enumerate() {
                let vpn = at.plus(i as u64);
                let hash = pool.with_page(frame.0 as usize, |page| self.secret.hash(page)) as u64;
                if state.touches.move_out(vpn, hash) {
                    let last = state.last;
                    state.note(Note::Access { vpn, write: true }, last);
                }
            }
        });
    }

    /// Pages are empty from now on.
    pub(crate) fn emptied(&self, pages: PageRange) {
        self.recording(|state| state.touches.forget(pages));
    }

    /// What was known of `from` holds at `to` from now on.
    pub(crate) fn moved(&self, from: PageRange, to: Vpn) {
        self.recording(|state| state.touches.move_to(from, to));
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
        if state.ring.as_ref().is_some_and(|ring| ring.is_closed()) {
            return self.over.store(1, Relaxed);
        }
        let now = now_ns();
        state.drain();
        for (number, decision) in engine.log_from(state.told) {
            if !state.queue.is_empty() {
                // No room: they wait in the engine's log, where the oldest may be overwritten.
                return;
            }
            if number > state.told {
                let lost = number - state.told;
                state.note(Note::Lost(lost.min(u64::from(u32::MAX)) as u32), now);
            }
            state.told = number + 1;
            state.note(Note::Decided(*decision), now);
        }
    }

    /// Whether any page is mapped.
    pub(super) fn has_mapped(&self) -> bool {
        self.state.lock().touches.mapped() > 0
    }

    /// Whether notes wait for room.
    pub(super) fn is_behind(&self) -> bool {
        !self.is_over() && !self.state.lock().queue.is_empty()
    }

    /// The program is about to fork.
    pub(super) fn forking(&self) {
        self.recording(|state| {
            state.forks += 1;
            let number = state.forks;
            state.note(Note::Forking { number }, now_ns());
        });
    }

    /// In a forked child, on its only thread: what waits is its parent's to tell.
    pub(super) fn forked(&self) {
        futex::forget_holder(&self.state);
        let mut state = self.state.lock();
        // The mapping of its parent's ring stays; the child never writes there.
        state.ring = None;
        state.queue.clear();
        if self.every_ns > 0 {
            let number = state.forks;
            state.note(Note::Forked { number }, now_ns());
        }
    }

    /// In a forked child: it has a ring of its own, or nobody listens.
    pub(super) fn use_ring(&self, ring: Option<Ring>) {
        let Some(ring) = ring else { return self.end() };
        let mut state = self.state.lock();
        state.ring = Some(Arc::new(ring));
        state.drain();
    }
}

impl Pager {
    /// The recorder, while accesses are recorded.
    pub(super) fn recorder(&self) -> Option<&Recorder> {
        self.recorder.as_ref().filter(|recorder| recorder.interval().is_some())
    }

    /// The program accessed a page at time `at`, in ns. Under the engine's lock.
    pub(super) fn note_access(&self, vpn: Vpn, write: bool, at: u64) {
        if let Some(recorder) = self.recorder()
            && recorder.access(vpn, write, at)
        {
            // Until now there was nothing to move out again.
            self.exchange.ring();
        }
    }

    /// On the pager's threads, with no lock held: waits until all notes have found room. A `quire` that is stopped is
    /// waited for, one that has ended is not.
    pub(super) fn await_notes(&self, beat: impl Fn()) {
        let Some(recorder) = self.recorder() else { return };
        loop {
            let ring = {
                let mut state = recorder.state.lock();
                state.drain();
                let Some(ring) = state.ring.clone() else { return };
                if state.queue.is_empty() && !ring.is_closed() {
                    return;
                }
                ring
            };
            if ring.is_closed() {
                return recorder.end();
            }
            ring.await_room(PATIENCE_NS);
            beat();
            if !self.client().is_some_and(crate::control::client::Client::is_connected) {
                recorder.end();
                return crate::say!("quire has ended: the program goes on unrecorded");
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
            self.await_notes(|| self.watch.service_beat());
            self.tables_behind().engine.withdraw(&mut self.mover(), bite);
            between();
        }
    }

    /// The same for all that is mapped.
    pub(super) fn withdraw_all(&self, between: impl FnMut()) {
        self.withdraw(self.layout.arena(SPACE), between);
    }

    /// Tells what the engine decided, if that is asked for.
    pub(super) fn tell_decisions(&self, engine: &Engine) {
        if let Some(recorder) = &self.recorder {
            recorder.tell_decisions(engine);
        }
    }
}
