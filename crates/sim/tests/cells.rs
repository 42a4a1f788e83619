//! Every event in every state, against [`expected`]; and the table in `docs/states.md` is what [`table`] prints.
//!
//! `QUIRE_BLESS=1 cargo test -p quire-sim --test cells` writes the table anew.

use quire_core::job::{Outcome, Ticket, Work};
use quire_core::mmu::{Prot, Refusal};
use quire_core::vma::Hint;
use quire_core::{Fault, Frame, Order, PageRange, PageState, PolicyKind, Reclaim, Stats, Urgency, Vpn};
use quire_sim::cells::{After, Cell, Event, State, Waiter, expected, table};
use quire_sim::waiters::Message;
use quire_sim::world::{Event as Happening, Put, SPACE, Setup, Touch};
use quire_sim::{Access, Host, Injection, Verb};
use std::collections::BTreeMap;

const SETUP: Setup = Setup {
    frames: 64,
    segments: 16,
    grant: 64,
    policy: PolicyKind::Fixed(Order::BASE.up()),
    arena: 8,
    threads: 2,
    spill: None,
};
/// The folio's pages, and where a remap puts them.
const PAGES: PageRange = PageRange::new(SPACE, Vpn(0), 2);
const AWAY: Vpn = Vpn(4);
/// Fills and writes; never waits when the event comes.
const WRITER: u8 = 0;
/// Waits for the first page where it is not present.
const READER: u8 = 1;

/// A folio in a state, and what has happened to it.
struct Scene {
    host: Host,
    /// A ticket that has ended, to come back once more.
    ended: Ticket,
    /// Whether the engine stopped.
    stopped: bool,
}

/// Building: short verbs that must go well.
impl Scene {
    fn new() -> Scene {
        let mut host = Host::new(SETUP);
        host.map(PAGES, Prot::READ_WRITE);
        Scene { host, ended: Ticket(0), stopped: false }
    }

    fn happen(&mut self, event: Happening) -> &mut Scene {
        self.host.happen(event).unwrap_or_else(|why| panic!("{event:?}: {why}"));
        self
    }

    /// A thread touches a page; its message is read, and answered if `answer`.
    fn touch(&mut self, thread: u8, page: u64, put: Option<Put>, answer: bool) -> &mut Scene {
        self.happen(Happening::Touch(thread, Touch { vpn: Vpn(page), put })).happen(Happening::Take(thread));
        if answer { self.happen(Happening::Serve(0)) } else { self }
    }

    fn run_jobs(&mut self) -> &mut Scene {
        while let Some(job) = self.host.jobs.first() {
            self.ended = job.work.ticket;
            self.happen(Happening::Run(0));
        }
        self
    }

    fn mapped(&mut self) -> &mut Scene {
        self.touch(WRITER, 0, Some(Put::Small), true).run_jobs().touch(WRITER, 1, Some(Put::Small), true)
    }

    fn page_out(&mut self) -> &mut Scene {
        self.happen(Happening::PageOut(PAGES.start, PAGES.pages))
    }

    /// One step of reclaim under a grant of nothing.
    fn squeeze(&mut self) -> &mut Scene {
        let reclaim = Happening::Reclaim(Urgency::Behind);
        self.happen(Happening::Grant(0)).happen(reclaim).happen(Happening::Grant(SETUP.grant))
    }

    fn stored(&mut self) -> &mut Scene {
        self.mapped().page_out().squeeze().run_jobs().squeeze()
    }

    /// The folio in `state`, and a thread that waits for its first page where it is not present.
    fn in_state(state: State) -> Scene {
        let mut scene = Scene::new();
        match state {
            State::Empty => &mut scene,
            State::FillingZeroes => scene.touch(READER, 0, None, true),
            State::FillingStored => scene.stored().touch(READER, 0, None, true),
            State::Mapped => scene.mapped(),
            State::MappedWithCopy => scene.stored().touch(WRITER, 0, None, true).run_jobs(),
            State::Standby => scene.mapped().page_out(),
            State::StandbyWithCopy => scene.mapped().page_out().squeeze().run_jobs(),
            State::Writing => scene.mapped().page_out().squeeze(),
            State::Stored => scene.stored(),
            State::Shared => scene.mapped().happen(Happening::Fork),
            State::Refused => scene.mapped().pin(true).page_out(),
            State::Copied => scene.copied(),
            State::Zombie => scene.zombie(),
            State::SharedMapped => scene.mapped().happen(Happening::ForkSpace),
            State::SharedStandby => scene.mapped().page_out().happen(Happening::ForkSpace),
            State::SharedFilling => scene.stored().happen(Happening::ForkSpace).touch(READER, 0, None, true),
            State::SharedWriting => scene.mapped().page_out().squeeze().happen(Happening::ForkSpace),
            State::SharedStored => scene.stored().happen(Happening::ForkSpace),
        };
        if !state.present() && !scene.host.mmu.waiters.waits(READER) {
            scene.touch(READER, 0, None, false);
        }
        scene.check_marks(state);
        scene
    }

    fn pin(&mut self, pinned: bool) -> &mut Scene {
        self.happen(Happening::Pin(Vpn(0), pinned)).happen(Happening::Pin(Vpn(1), pinned))
    }

    fn copied(&mut self) -> &mut Scene {
        self.mapped()
            .page_out()
            .happen(Happening::Protect(Vpn(0), 2, Prot::READ))
            .touch(READER, 0, None, true)
    }

    /// The reader's fill is voided by a discard; it faults again, and its message waits to be answered.
    fn zombie(&mut self) -> &mut Scene {
        self.touch(READER, 0, None, true)
            .happen(Happening::Discard(Vpn(0), 2))
            .happen(Happening::Take(READER))
    }

    /// What a mark says beyond the page state.
    fn check_marks(&self, state: State) {
        let (host, stats) = (&self.host, self.host.engine.stats());
        let busy = host.mmu.entry(SPACE, Vpn(0)).is_some_and(|pte| pte.busy());
        let shared = matches!(state, State::Shared | State::SharedMapped);
        assert_eq!(busy, shared || state == State::Refused, "{state:?}");
        let sharers = host.engine.whereabouts(SPACE, Vpn(0)).sharers;
        assert_eq!(sharers, if state.is_shared() { 2 } else { 0 }, "{state:?}");
        assert_eq!(stats.refusals[Refusal::Busy.index()] > 0, state == State::Refused, "{state:?}");
        assert_eq!(host.jobs.len(), usize::from(state.has_job()), "{state:?}");
        let held = host.engine.frames_in_use();
        match state {
            State::Empty | State::Stored | State::SharedStored => assert_eq!(held, 0, "{state:?}"),
            _ => assert_eq!(held, 2, "{state:?}"),
        }
        if state == State::Copied {
            assert!(!host.engine.whereabouts(SPACE, Vpn(0)).listed, "it can't be moved out");
        }
    }
}

/// Events.
impl Scene {
    fn play(&mut self, event: Event, state: State) {
        let (start, pages) = (PAGES.start, PAGES.pages);
        match event {
            Event::Fault => self.fault(state, false),
            Event::Write => self.fault(state, true),
            Event::ForkSpace => self.happen(Happening::ForkSpace),
            Event::Exit => self.happen(Happening::Exit(1)),
            Event::Adopt => self.happen(Happening::Adopt(start, pages, Order::MAX, Put::Small)),
            Event::Discard => self.happen(Happening::Discard(start, pages)),
            Event::Unmap => self.happen(Happening::Unmap(start, pages)),
            Event::Remap => self.happen(Happening::Remap(start, pages, AWAY)),
            Event::Protect => {
                let prot = if state == State::Copied { Prot::READ_WRITE } else { Prot::READ };
                self.happen(Happening::Protect(start, pages, prot))
            }
            Event::Lock => self.happen(Happening::Lock(start, pages, true)),
            Event::Fork => self.happen(Happening::Fork),
            Event::Hint => {
                let advise = Happening::Advise(start, pages, Hint::Sequential);
                self.happen(advise).happen(Happening::Deactivate(start, pages)).page_out()
            }
            Event::Budget => self.budget(),
            Event::Collapse => self.beside(2).happen(Happening::Collapse(start, Order::BASE.up().up())),
            Event::Vacate => self.beside(4).beside(6).vacate(),
            Event::JobDone => self.job_done(),
            Event::JobFailed => self.job_failed(state),
            Event::VerbPartial => self.verb(state, true),
            Event::VerbRefused => self.verb(state, false),
        };
    }

    /// The waiter's message is answered; where nobody waits, a late one is, and a second one where the job of the
    /// first is under way.
    fn fault(&mut self, state: State, write: bool) -> &mut Scene {
        self.host.held.pop();
        let fault = self.host.serve(Message { space: SPACE, vpn: Vpn(0), write }).unwrap();
        let wanted = match state {
            State::Empty | State::Stored | State::Zombie | State::SharedStored => Fault::Job,
            State::FillingZeroes | State::FillingStored | State::SharedFilling => Fault::Joined,
            _ => Fault::Mapped,
        };
        assert_eq!(fault, wanted);
        self.happen(Happening::Take(WRITER))
    }

    /// Reclaim under a grant of nothing, until it waits or is stuck.
    fn budget(&mut self) -> &mut Scene {
        self.host.engine.set_grant(0);
        for _ in 0..20 {
            match self.host.reclaim(Urgency::Behind).unwrap() {
                Reclaim::Job => {
                    let last = self.host.jobs.len() as u8 - 1;
                    self.happen(Happening::Run(last));
                }
                Reclaim::Progress => {}
                Reclaim::Idle | Reclaim::Waiting | Reclaim::Stuck => {
                    return self.happen(Happening::Take(WRITER));
                }
            }
        }
        panic!("reclaim goes on without end");
    }

    /// Another folio is mapped and written at `page`.
    fn beside(&mut self, page: u64) -> &mut Scene {
        self.happen(Happening::Map(Vpn(page), 2, Prot::READ_WRITE));
        self.touch(WRITER, page, Some(Put::Small), false);
        let last = self.host.held.len() as u8 - 1;
        let jobs = self.host.jobs.len();
        self.happen(Happening::Serve(last));
        if self.host.jobs.len() > jobs { self.happen(Happening::Run(jobs as u8)) } else { self }
    }

    fn vacate(&mut self) -> &mut Scene {
        let Some(frame) = self.host.engine.whereabouts(SPACE, Vpn(0)).frame else { return self };
        let order = Order::BASE.up().up();
        self.happen(Happening::Vacate(Frame(order.align_down(frame.0.into()) as u32), order))
    }

    fn job_done(&mut self) -> &mut Scene {
        if !self.host.jobs.is_empty() {
            return self.run_jobs();
        }
        self.come_back_late(Outcome::Done)
    }

    /// Fails the job that is under way, in the worst way that there is for its kind.
    fn job_failed(&mut self, state: State) -> &mut Scene {
        if self.host.jobs.is_empty() {
            return self.come_back_late(Outcome::Corrupt);
        }
        let corrupt = matches!(state, State::FillingStored | State::Zombie);
        let outcome = if corrupt { Outcome::Corrupt } else { Outcome::Failed };
        self.stopped = self.host.finish(0, outcome).is_err();
        // A process that is stopped runs no further: who waits there will never be answered.
        if self.stopped { self } else { self.happen(Happening::Take(WRITER)) }
    }

    /// A job whose ticket has ended comes back once more.
    fn come_back_late(&mut self, outcome: Outcome) -> &mut Scene {
        let key = |host: &Host| host.engine.canonical(&host.mmu.store, host.jobs.iter().map(|job| &job.work));
        let before = key(&self.host);
        let Host { engine, mmu, .. } = &mut self.host;
        let work = Work { ticket: self.ended, ..Work::new() };
        assert_eq!(engine.finish(mmu, &work, outcome), Ok(()));
        assert_eq!(key(&self.host), before, "a ticket that has ended changed something");
        self
    }

    /// A verb of the host stops after the first page, or does nothing at all.
    fn verb(&mut self, state: State, first: bool) -> &mut Scene {
        let (start, pages) = (PAGES.start, PAGES.pages);
        let done = u32::from(first);
        let cut = |verb, refusal| Happening::Inject(Injection::next(verb, refusal).after(done));
        match state {
            State::Empty | State::Copied if first => self
                .happen(cut(Verb::Protect, Refusal::NoMemory))
                .happen(Happening::Protect(start, pages, Prot::NONE)),
            State::Copied => {
                let protect = Happening::Protect(start, pages, Prot::READ_WRITE);
                self.happen(cut(Verb::Protect, Refusal::NoMemory)).happen(protect)
            }
            State::Empty => {
                self.happen(cut(Verb::Lock, Refusal::Again)).happen(Happening::Lock(start, pages, true))
            }
            State::Stored | State::SharedStored if first => {
                self.happen(cut(Verb::Discard, Refusal::Denied)).happen(Happening::Discard(start, pages))
            }
            State::Stored | State::SharedStored => {
                self.happen(cut(Verb::Remap, Refusal::NoMemory)).happen(Happening::Remap(start, pages, AWAY))
            }
            State::Mapped | State::MappedWithCopy => self.move_out_refused(first),
            State::Shared => self.unshare_refused(first),
            State::SharedMapped => {
                self.host.mmu.inject(Injection::next(Verb::CopyIn, Refusal::Again).after(done));
                self.fault(state, true)
            }
            State::Refused if first => self.happen(Happening::Pin(Vpn(0), false)).page_out(),
            State::Refused => self.page_out(),
            _ => self.move_in_refused(first),
        }
    }

    /// A whole folio, then each of its pages, are refused; or only the second page, which is pinned.
    fn move_out_refused(&mut self, first: bool) -> &mut Scene {
        if first {
            return self.happen(Happening::Pin(Vpn(1), true)).page_out();
        }
        for _ in 0..3 {
            self.host.mmu.inject(Injection::next(Verb::MoveOut, Refusal::Denied));
        }
        self.page_out()
    }

    fn unshare_refused(&mut self, first: bool) -> &mut Scene {
        let skipped = u8::from(first);
        for _ in 0..2 - skipped {
            self.host.mmu.inject(Injection::next(Verb::Unshare, Refusal::NoMemory).skipping(skipped));
        }
        self.page_out()
    }

    /// A fill ends, or a rescue begins, and the move is refused, or the copy of what was staged: for a moment, or for
    /// good.
    fn move_in_refused(&mut self, first: bool) -> &mut Scene {
        let refusal = if first { Refusal::Again } else { Refusal::Denied };
        let again = if first { 1 } else { 2 };
        let staged = self.host.jobs.iter().any(|job| job.work.staged);
        let verb = match staged {
            true => Verb::CopyIn,
            false if self.host.engine.shares() => Verb::MapShared,
            false => Verb::MoveIn,
        };
        for _ in 0..again {
            self.host.mmu.inject(Injection::next(verb, refusal).after(u32::from(first)));
        }
        if !self.host.held.is_empty() {
            self.happen(Happening::Serve(0));
        }
        if self.host.engine.page_state(SPACE, Vpn(0)) == (PageState::Filling { stored: false })
            || self.host.engine.page_state(SPACE, Vpn(0)) == (PageState::Filling { stored: true })
        {
            // The last job is the fill; before it there may be a void one.
            let last = self.host.jobs.len() as u8 - 1;
            self.happen(Happening::Run(last));
        }
        assert!(self.host.engine.stats().refusals[refusal.index()] > 0, "nothing was refused");
        self
    }
}

/// What is there afterwards.
impl Scene {
    fn after(&self, event: Event, page: u64) -> After {
        let to = if event == Event::Remap { AWAY } else { Vpn(0) };
        let vpn = to.plus(page);
        if self.host.engine.vmas(SPACE).at(vpn).is_none() {
            return After::Unmapped;
        }
        match self.host.engine.page_state(SPACE, vpn) {
            PageState::Empty => After::Empty,
            PageState::Filling { stored: false } => After::FillingZeroes,
            PageState::Filling { stored: true } => After::FillingStored,
            PageState::Mapped { copy: false } => After::Mapped,
            PageState::Mapped { copy: true } => After::MappedWithCopy,
            PageState::Standby { copy: false } => After::Standby,
            PageState::Standby { copy: true } => After::StandbyWithCopy,
            PageState::Writing => After::Writing,
            PageState::Stored => After::Stored,
            PageState::Shared { mapped: true, copy: false } => After::Shared,
            PageState::Shared { mapped: true, copy: true } => After::SharedWithCopy,
            PageState::Shared { mapped: false, .. } => panic!("in frames, and not mapped here"),
        }
    }

    fn waiter(&self, state: State) -> Waiter {
        let mmu = &self.host.mmu;
        if self.stopped {
            return Waiter::Stopped;
        }
        if state.present() {
            return Waiter::Nobody;
        }
        if mmu.waiters.unread().any(|(thread, _)| thread == READER) {
            return Waiter::FaultsAgain;
        }
        if mmu.waiters.waits(READER) {
            return Waiter::Waits;
        }
        match mmu.would(SPACE, Vpn(0), false) {
            Access::Hit(_) => Waiter::GoesOn,
            Access::Segv => Waiter::Segv,
            Access::Fault => panic!("the reader neither waits nor has its page"),
        }
    }
}

impl Scene {
    /// What a note claims beyond the states, as far as it can be counted.
    fn check_note(&self, note: &str, before: &Stats) {
        let (engine, now) = (&self.host.engine, self.host.engine.stats());
        assert_eq!(now.void_jobs - before.void_jobs, u64::from(note.contains("ticket is void")), "{note}");
        let refused = |stats: &Stats| stats.refusals.iter().sum::<u64>();
        assert!(refused(now) > refused(before) || !note.contains("counted"), "{note}");
        assert!(now.late > before.late || !note.contains("late message"), "{note}");
        assert!(now.joined > before.joined || !note.contains("joins"), "{note}");
        assert!(now.rescues != before.rescues || !note.contains("rescue;"), "{note}");
        assert!(now.pages_same > before.pages_same || !note.contains("unchanged"), "{note}");
        let free = note.contains("frames are free") || note.contains("gives up the frames");
        assert!(engine.frames_in_use() == 0 || !free, "{note}");
        let forked = engine.whereabouts(SPACE, Vpn(0)).sharers;
        assert!(forked == 3 || !note.contains("three spaces"), "{note}");
        assert!(forked == 1 || !note.contains("copy nothing"), "{note}");
        assert!(now.cow_copies != before.cow_copies || !note.starts_with("a copy"), "{note}");
        let pinned = note.contains("zombies") || note.contains("pinned");
        assert!(engine.frames_in_use() >= 2 || !pinned, "{note}");
        assert_eq!(now.collapses != before.collapses, note.contains("one folio"), "{note}");
        assert_eq!(now.compacted_pages > before.compacted_pages, note.contains("frames elsewhere"), "{note}");
        let order = engine.folio_order(SPACE, Vpn(0));
        assert!(order == Some(Order::BASE.up().up()) || !note.contains("one folio"), "{note}");
        let listed = engine.whereabouts(SPACE, Vpn(0)).listed;
        assert!(!listed || !note.contains("no longer moved out"), "{note}");
        assert!(listed || !note.contains("can be moved out from now on"), "{note}");
    }
}

/// Plays one cell, and then lets everything end and reads every page back.
fn play_cell(event: Event, state: State) {
    let mut scene = Scene::in_state(state);
    let before = [0, 1].map(|page| scene.after(Event::Fault, page));
    let counted = *scene.host.engine.stats();
    scene.play(event, state);
    let after = [0, 1].map(|page| scene.after(event, page));
    match expected(event, state) {
        Cell::Never(why) => {
            assert!(!why.is_empty());
            assert_eq!(after, before, "it cannot happen, and yet it did");
        }
        Cell::Becomes { after: first, second, waiter, note } => {
            assert_eq!((after, scene.waiter(state)), ([first, second], waiter));
            scene.check_note(note, &counted);
            if event == Event::Remap {
                assert_eq!(scene.host.engine.vmas(SPACE).at(Vpn(0)), None);
            }
        }
    }
    if scene.stopped {
        return scene.host.engine.validate(&scene.host.mmu.store).unwrap();
    }
    scene.host.mmu.injector.clear();
    scene.happen(Happening::Pin(Vpn(0), false)).happen(Happening::Grant(SETUP.grant));
    scene.host.read_back().unwrap();
    assert_eq!(scene.host.engine.jobs(), 0);
}

#[test]
fn every_cell_is_as_expected() {
    let mut wrong = Vec::new();
    let mut played = 0;
    for event in Event::ALL {
        for state in State::ALL {
            played += 1;
            if std::panic::catch_unwind(|| play_cell(event, state)).is_err() {
                wrong.push(format!("{event:?} in {state:?}"));
            }
        }
    }
    assert_eq!(played, Event::ALL.len() * State::ALL.len());
    assert!(wrong.is_empty(), "not as expected: {wrong:#?}");
}

const BEGIN: &str =
    "<!-- events against states: written by QUIRE_BLESS=1 cargo test -p quire-sim --test cells -->\n";
const END: &str = "<!-- end of events against states -->\n";
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/states.md");

/// What stands between the marks, and where.
fn section(text: &str) -> std::ops::Range<usize> {
    let begin = text.find(BEGIN).expect("docs/states.md has no table of events") + BEGIN.len();
    let end = begin + text[begin..].find(END).expect("the table has no end");
    begin..end
}

#[test]
fn the_table_in_docs_states_is_what_is_tested() {
    let mut text = std::fs::read_to_string(FILE).unwrap();
    let range = section(&text);
    if std::env::var_os("QUIRE_BLESS").is_some() {
        text.replace_range(range, &table());
        return std::fs::write(FILE, text).unwrap();
    }
    let cells = parse(&text[range]);
    for event in Event::ALL {
        for state in State::ALL {
            let cell = cells.get(&(event.title(), state.title()));
            let cell = cell.unwrap_or_else(|| panic!("no cell for {event:?} in {state:?}"));
            assert_eq!(*cell, expected(event, state).to_string(), "{event:?} in {state:?}");
            assert!(!cell.is_empty());
        }
    }
    assert_eq!(cells.len(), Event::ALL.len() * State::ALL.len(), "the table has cells of its own");
}

/// Every row of the table by event and state.
fn parse(text: &str) -> BTreeMap<(&str, &str), &str> {
    let mut cells = BTreeMap::new();
    let mut event = "";
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("### ") {
            event = title;
        }
        let Some(row) = line.strip_prefix("| ").and_then(|l| l.strip_suffix(" |")) else { continue };
        if let Some((state, cell)) = row.split_once(" | ").filter(|(state, _)| *state != "state") {
            let twice = cells.insert((event, state), cell).is_some();
            assert!(!twice, "{event} has {state} twice");
        }
    }
    cells
}
