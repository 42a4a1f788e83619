//! Threads that wait in the middle of a range while the kernel cuts a verb short: they go on, all of them, with what the
//! program should see.
//!
//! The engine answers faults of this process on real memory, and the kernel's answers to transfers are cut by a script below
//! the verbs. One message alone is answered, after every thread has told that it waits: a wake that forgets a page leaves its
//! thread asleep.

use super::LinuxMmu;
use crate::places::Places;
use crate::sys::Errno;
use crate::sys::bytes::Stretch;
use crate::sys::futex::Lock;
use crate::sys::pagemap::Pagemap;
use crate::sys::uffd::script::Cut;
use crate::sys::uffd::{self, Event, Uffd, UffdMsg};
use quire_core::job::{JobKind, Outcome, Work};
use quire_core::mmu::{Mmu, Prot};
use quire_core::{
    Config, Engine, Fault, Order, PAGE_SIZE, PageRange, PageState, PolicyKind, Space, Store, Vpn,
};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

const HERE: Space = Space(0);
/// Pages of a folio here: 16 KiB.
const PAGES: u64 = 4;
/// How long a thread may wait for what is there, before it counts as forgotten.
const TIMEOUT: Duration = Duration::from_secs(20);
/// What somebody else's page holds.
const FOREIGN: u8 = 0xee;

/// The engine on memory of its own.
struct Rig {
    places: Places,
    uffd: Uffd,
    pagemap: Pagemap,
    engine: Engine,
    store: Lock<Store>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.places.give_back().expect("address space to give back");
    }
}

impl Rig {
    /// `None`, with a line that says why, where the machine allows no userfaultfd.
    fn start() -> Option<Rig> {
        let uffd = match Uffd::with_features(uffd::FEATURE_MOVE | uffd::FEATURE_THREAD_ID, 0) {
            Ok(uffd) => uffd,
            Err(errno) => {
                std::println!("skipped: this machine refuses userfaultfd with MOVE: {errno}");
                return None;
            }
        };
        let places = Places::reserve(256, 64).expect("address space");
        places.register(&uffd).expect("registration");
        let policy = PolicyKind::Fixed(Order::fitting(PAGES));
        let engine = Engine::new(Config { frames: 256, grant: 256, policy });
        let store = Lock::new(Store::new(4, 16, 256));
        Some(Rig { places, uffd, pagemap: Pagemap::open().expect("pagemap"), engine, store })
    }

    fn with<R>(&mut self, verb: impl FnOnce(&mut Engine, &mut LinuxMmu<'_>) -> R) -> R {
        let mut mmu = LinuxMmu::for_pager(&self.places, &self.uffd, &self.pagemap).storing_in(&self.store);
        verb(&mut self.engine, &mut mmu)
    }

    /// Folio number `folio` of the arena, which may be read and written.
    fn map(&mut self, folio: u64) -> PageRange {
        let start = self.places.arena(HERE).start.plus(folio * PAGES);
        let pages = PageRange::new(HERE, start, PAGES);
        self.with(|engine, mmu| engine.map_range(mmu, pages, Prot::READ_WRITE)).expect("memory");
        pages
    }

    /// The number of a page in the arena.
    fn number(&self, vpn: Vpn) -> usize {
        (vpn.0 - self.places.arena(HERE).start.0) as usize
    }

    /// A mapped folio, whose pages hold 1, 2, .. in each byte.
    fn written(&mut self, folio: u64) -> PageRange {
        let pages = self.map(folio);
        self.answer(pages.start);
        for i in 0..PAGES {
            let page = self.number(pages.start.plus(i));
            self.places.arena_bytes().with_page(page, |page| page.fill(i as u8 + 1));
        }
        pages
    }

    /// The same, and moved out.
    fn in_standby(&mut self, folio: u64) -> PageRange {
        let pages = self.written(folio);
        self.with(|engine, mmu| engine.page_out(mmu, pages));
        let state = self.engine.page_state(HERE, pages.start);
        assert!(matches!(state, PageState::Standby { .. }), "{state:?}");
        pages
    }

    /// Somebody else puts a page into a hole, and wakes nobody.
    fn appear(&mut self, vpn: Vpn) {
        let frame = 255;
        self.places.pool().with_page(frame, |page| page.fill(FOREIGN));
        let from = self.places.pool().base() + frame * PAGE_SIZE;
        let copied = self.uffd.copy(vpn.addr() as usize, from, PAGE_SIZE, false);
        assert_eq!((copied.bytes, copied.errno), (PAGE_SIZE, None));
        self.with(|_, mmu| mmu.release(quire_core::FrameRun::new(quire_core::Frame(frame as u32), 1)));
    }

    /// Answers a message about a page, with the job that it takes.
    fn answer(&mut self, vpn: Vpn) {
        let mut work = Work::new();
        let fault = self.with(|engine, mmu| engine.fault(mmu, HERE, vpn, &mut work));
        match fault {
            Fault::Job => self.finish(&work),
            Fault::Mapped | Fault::Joined => {}
            other => panic!("{other:?} at {vpn:?}"),
        }
    }

    fn finish(&mut self, work: &Work) {
        assert_eq!(work.kind, JobKind::Zero);
        for frame in work.frames.iter() {
            self.places.pool().with_page(frame.0 as usize, |page| page.fill(0));
        }
        let done = self.with(|engine, mmu| engine.finish(mmu, work, Outcome::Done));
        assert_eq!(done, Ok(()));
    }

    /// Reads messages until `count` threads have told that they wait.
    fn await_messages(&self, count: u64) {
        let mut pages = std::collections::BTreeSet::new();
        let begin = Instant::now();
        while (pages.len() as u64) < count {
            assert!(begin.elapsed() < TIMEOUT, "only {pages:?} have raised a message");
            pages.extend(self.next_messages());
        }
    }

    fn next_messages(&self) -> Vec<Vpn> {
        let mut messages = [UffdMsg::EMPTY; 8];
        let count = self.uffd.wait_msgs(&mut messages, Some(10_000_000)).expect("messages");
        let page = |message: &UffdMsg| match message.event() {
            Event::Fault { addr, .. } => Vpn::of(addr as u64),
            other => panic!("not a fault: {other:?}"),
        };
        messages[..count].iter().map(page).collect()
    }

    fn cut(&self, moves: bool, after: usize, errno: Errno, times: u32) {
        self.uffd.script.push(Cut { moves, after, secretly: 0, errno, times });
    }
}

/// A thread for each page, which reads it.
fn readers(arena: Stretch, first: usize) -> Receiver<(u64, u8)> {
    let (say, said) = mpsc::channel();
    for i in 0..PAGES {
        let say = say.clone();
        // On its own: one that is never woken must not keep the test from saying so.
        thread::spawn(move || {
            let byte = arena.with_page(first + i as usize, |page| page[PAGE_SIZE / 2]);
            let _ = say.send((i, byte));
        });
    }
    said
}

/// Each thread goes on in bounded time, and has read what the program should see.
fn all_go_on(said: &Receiver<(u64, u8)>, expected: [u8; PAGES as usize], what: &str) {
    let mut found = [None; PAGES as usize];
    for _ in 0..PAGES {
        match said.recv_timeout(TIMEOUT) {
            Ok((page, byte)) => found[page as usize] = Some(byte),
            Err(_) => panic!("{what}: a thread sleeps on; awake are those that have read {found:?}"),
        }
    }
    assert_eq!(found, expected.map(Some), "{what}");
}

/// Every way in which a transfer is cut: after how many pages, why, and how often.
fn cuts() -> impl Iterator<Item = (usize, Errno, u32)> {
    let refusals =
        [(Errno::AGAIN, 1), (Errno::AGAIN, 300), (Errno::BUSY, 1), (Errno::NOMEM, 1), (Errno::NOMEM, 3)];
    (0..PAGES as usize).flat_map(move |after| refusals.map(|(errno, times)| (after, errno, times)))
}

/// `scene` brings threads to wait for a folio whose fill is one answer away, and makes that answer.
fn each_cut(moves: bool, scene: impl Fn(&mut Rig, u64) -> (PageRange, [u8; PAGES as usize])) {
    let Some(mut rig) = Rig::start() else { return };
    for (number, (after, errno, times)) in cuts().enumerate() {
        let what = format!("{errno:?} after {after} pages, {times} times");
        let (pages, expected) = scene(&mut rig, number as u64);
        let said = readers(rig.places.arena_bytes(), rig.number(pages.start));
        rig.await_messages(PAGES);
        rig.cut(moves, after, errno, times);
        rig.answer(pages.start.plus(after as u64));
        all_go_on(&said, expected, &what);
        assert!(rig.uffd.script.is_over(), "{what}: it was not cut");
        assert_eq!(rig.engine.validate(&rig.store.lock()), Ok(()), "{what}");
    }
}

#[test]
fn a_rescue_that_is_cut_wakes_all_who_wait() {
    each_cut(true, |rig, folio| (rig.in_standby(folio), [1, 2, 3, 4]));
}

#[test]
fn a_fill_that_is_cut_wakes_all_who_wait() {
    each_cut(true, |rig, folio| (rig.map(folio), [0; PAGES as usize]));
}

#[test]
fn copies_that_are_cut_wake_all_who_wait() {
    each_cut(false, |rig, folio| {
        let pages = rig.in_standby(folio);
        rig.with(|engine, mmu| engine.protect(mmu, pages, Prot::READ)).expect("rights");
        (pages, [1, 2, 3, 4])
    });
}

/// The kernel says EEXIST of a page that somebody else has put there, before, in or after the middle of the folio: that is
/// what the program sees, and who waits for it goes on like the others.
#[test]
fn who_waits_for_a_page_that_is_there_already_is_woken() {
    let Some(mut rig) = Rig::start() else { return };
    for (number, at) in (0..2 * PAGES).enumerate() {
        let (copies, at) = (at >= PAGES, at % PAGES);
        let pages = rig.in_standby(number as u64);
        if copies {
            rig.with(|engine, mmu| engine.protect(mmu, pages, Prot::READ)).expect("rights");
        }
        let said = readers(rig.places.arena_bytes(), rig.number(pages.start));
        rig.await_messages(PAGES);
        rig.appear(pages.start.plus(at));
        rig.answer(pages.start.plus((at + 1) % PAGES));
        let mut expected = [1, 2, 3, 4];
        expected[at as usize] = FOREIGN;
        all_go_on(&said, expected, &format!("page {at} was there, copies: {copies}"));
        assert_eq!(rig.engine.validate(&rig.store.lock()), Ok(()));
    }
}

/// The kernel says EEXIST of a page that it has just moved itself, as it does where compaction came in between: its contents
/// are not lost, and nobody sleeps on.
#[test]
fn a_page_that_was_moved_though_the_kernel_says_it_exists_is_there() {
    let Some(mut rig) = Rig::start() else { return };
    for at in 0..PAGES {
        let pages = rig.in_standby(at);
        let said = readers(rig.places.arena_bytes(), rig.number(pages.start));
        rig.await_messages(PAGES);
        let cut = Cut { moves: true, after: at as usize, secretly: 1, errno: Errno::EXIST, times: 1 };
        rig.uffd.script.push(cut);
        rig.answer(pages.start);
        all_go_on(&said, [1, 2, 3, 4], &format!("page {at} was moved in secret"));
        assert!(rig.uffd.script.is_over());
        assert_eq!(rig.engine.stats().foreign, 0, "page {at} was taken for somebody else's");
    }
}

/// What a move out does before it is cut is out, the rest is not; whoever touches it next finds it, wherever it is.
#[test]
fn a_move_out_that_is_cut_loses_nothing() {
    let Some(mut rig) = Rig::start() else { return };
    let absent = (0..PAGES as usize).map(|after| (after, Errno::NOENT, 0));
    for (number, (after, errno, times)) in cuts().chain(absent).enumerate() {
        let what = format!("{errno:?} after {after} pages, {times} times");
        let pages = rig.written(number as u64);
        let mut expected = [1, 2, 3, 4];
        if errno == Errno::NOENT {
            // It really is gone: a raw call of the program has dropped it.
            expected[after] = 0;
            let gone = PageRange::new(HERE, pages.start.plus(after as u64), 1);
            rig.with(|_, mmu| mmu.discard(gone)).expect("discard");
        } else {
            rig.cut(true, after, errno, times);
        }
        let refused = |rig: &Rig| rig.engine.stats().refusals.iter().sum::<u64>();
        let before = refused(&rig);
        rig.with(|engine, mmu| engine.page_out(mmu, pages));
        assert!(refused(&rig) > before || rig.uffd.script.is_over(), "{what}: it was not cut");
        assert_eq!(rig.engine.validate(&rig.store.lock()), Ok(()), "{what}");
        rig.uffd.script.clear();
        let said = readers(rig.places.arena_bytes(), rig.number(pages.start));
        answer_until_read(&mut rig, &said, expected, &what);
    }
}

fn answer_until_read(rig: &mut Rig, said: &Receiver<(u64, u8)>, expected: [u8; PAGES as usize], what: &str) {
    let begin = Instant::now();
    let mut found = Vec::new();
    while (found.len() as u64) < PAGES {
        assert!(
            begin.elapsed() < TIMEOUT,
            "{what}: a thread sleeps on; awake are those that have read {found:?}"
        );
        rig.next_messages().into_iter().for_each(|vpn| rig.answer(vpn));
        found.extend(said.try_iter());
    }
    found.sort_unstable();
    let found: Vec<u8> = found.into_iter().map(|(_, byte)| byte).collect();
    assert_eq!(found, expected, "{what}");
}
