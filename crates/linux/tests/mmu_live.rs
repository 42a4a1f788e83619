//! The verbs of the live host on the running kernel: contents, partial results, reasons.
//!
//! Needs a userfaultfd that sees kernel-mode faults and can move pages. Where the machine refuses one, each
//! test says so and passes.

use quire_core::StoreMemory;
use quire_core::addr::{Frame, FrameRun, PAGE_SIZE, PageRange, Space, Vpn};
use quire_core::mmu::{Done, Mmu, Mover, Prot, Refusal};
use quire_linux::mmu::{LinuxMmu, StoreRam};
use quire_linux::places::Places;
use quire_linux::sys::Errno;
use quire_linux::sys::pagemap::Pagemap;
use quire_linux::sys::uffd::{self, Event, Moved, Uffd, UffdMsg};
use quire_linux::unevictable::Unevictable;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::{self, JoinHandle};

mod limit;

const HERE: Space = Space(0);
const FRAMES: u32 = 4096;
const SECOND: u64 = 1_000_000_000;
/// Seconds for one test.
const SECONDS: u64 = 120;

/// A fork makes the pages of every test in this process busy, so the test that forks runs alone.
static TURNS: RwLock<()> = RwLock::new(());

#[expect(dead_code, reason = "held for the turn only")]
enum Turn {
    WithOthers(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

/// A pager of its own, with an arena that no other test touches.
struct Host {
    _limit: limit::Limit,
    _turn: Turn,
    places: Places,
    uffd: Uffd,
    pagemap: Pagemap,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.places.give_back().expect("address space to give back");
    }
}

impl Host {
    /// `None`, with a line that says why, where the machine allows no userfaultfd.
    fn start() -> Option<Host> {
        Host::in_turn(Turn::WithOthers(TURNS.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// The same, while no other test runs.
    fn start_alone() -> Option<Host> {
        Host::in_turn(Turn::Alone(TURNS.write().unwrap_or_else(PoisonError::into_inner)))
    }

    fn in_turn(turn: Turn) -> Option<Host> {
        let uffd = match Uffd::with_features(uffd::FEATURE_MOVE | uffd::FEATURE_THREAD_ID, 0) {
            Ok(uffd) => uffd,
            Err(errno) => {
                println!("skipped: this machine refuses userfaultfd with MOVE: {errno}");
                return None;
            }
        };
        let places = Places::reserve(FRAMES, 64).expect("address space");
        places.register(&uffd).expect("registration");
        Some(Host {
            _limit: limit::Limit::of_this_test(SECONDS),
            _turn: turn,
            places,
            uffd,
            pagemap: Pagemap::open().expect("pagemap"),
        })
    }

    fn mmu(&self) -> LinuxMmu<'_> {
        LinuxMmu::for_pager(&self.places, &self.uffd, &self.pagemap)
    }

    /// The first page of the arena and the `page` ones after it, which become readable and writable.
    fn open(&self, page: u64, pages: u64) -> PageRange {
        let range = self.range(page, pages);
        self.mmu().protect(range, Prot::READ_WRITE).expect("protect");
        range
    }

    fn range(&self, page: u64, pages: u64) -> PageRange {
        PageRange::new(HERE, self.places.arena(HERE).start.plus(page), pages)
    }

    /// Fills frames with a number of their own each, from `mark` up.
    fn fill(&self, start: u32, pages: u32, mark: u8) -> FrameRun {
        for i in 0..pages {
            let frame = (start + i) as usize;
            self.places.pool().with_page(frame, |page| page.fill(mark.wrapping_add(i as u8)));
        }
        FrameRun::new(Frame(start), pages)
    }

    fn frame_byte(&self, frame: u32) -> u8 {
        self.places.pool().with_page(frame as usize, |page| page[PAGE_SIZE - 1])
    }

    /// Whether a frame of the pool has a page, asked without touching it.
    fn frame_present(&self, frame: u32) -> bool {
        let addr = self.places.frame_addr(Frame(frame)).expect("a frame of the pool");
        self.pagemap.present(addr).expect("pagemap")
    }

    fn presence(&self, range: PageRange) -> Vec<bool> {
        (0..range.pages).map(|i| self.mmu().present(HERE, range.start.plus(i))).collect()
    }

    /// The next fault message, which must come within five seconds.
    fn next_fault(&self) -> (Vpn, u32) {
        let mut msgs = [UffdMsg::EMPTY; 1];
        assert_eq!(self.uffd.wait_msgs(&mut msgs, Some(5 * SECOND)), Ok(1));
        match msgs[0].event() {
            Event::Fault { addr, tid, .. } => (Vpn::of(addr as u64), tid),
            other => panic!("not a fault: {other:?}"),
        }
    }

    fn no_fault(&self) {
        assert_eq!(self.uffd.wait_msgs(&mut [UffdMsg::EMPTY; 1], Some(SECOND / 20)), Ok(0));
    }
}

/// The last byte of a page of the program. Waits for the pager where the page is a hole.
fn peek(vpn: Vpn) -> u8 {
    let last = std::ptr::with_exposed_provenance::<u8>(vpn.addr() as usize + PAGE_SIZE - 1);
    // SAFETY: the page was made readable by the test, and Rust holds no reference to it.
    unsafe { last.read_volatile() }
}

fn poke(vpn: Vpn, byte: u8) {
    let last = std::ptr::with_exposed_provenance_mut::<u8>(vpn.addr() as usize + PAGE_SIZE - 1);
    // SAFETY: the page was made writable by the test, and Rust holds no reference to it.
    unsafe { last.write_volatile(byte) }
}

fn peek_all(range: PageRange) -> Vec<u8> {
    (0..range.pages).map(|i| peek(range.start.plus(i))).collect()
}

fn toucher(vpn: Vpn) -> JoinHandle<(u8, u32)> {
    thread::spawn(move || (peek(vpn), quire_linux::sys::sched::gettid()))
}

fn run(start: u32, pages: u32) -> FrameRun {
    FrameRun::new(Frame(start), pages)
}

#[test]
fn contents_survive_the_way_in_and_out() {
    let Some(host) = Host::start() else { return };
    let pages = host.open(0, 16);
    let frames = host.fill(32, 16, 100);
    assert_eq!(host.mmu().move_in(frames, HERE, pages.start), Done::all(16));
    assert_eq!(peek_all(pages), (100..116).collect::<Vec<u8>>());
    assert!((32..48).all(|frame| !host.frame_present(frame)));
    poke(pages.start.plus(3), 7);
    assert_eq!(host.mmu().move_out(HERE, pages.start, run(64, 16)), Done::all(16));
    assert_eq!(host.presence(pages), [false; 16]);
    assert_eq!((host.frame_byte(64), host.frame_byte(67), host.frame_byte(79)), (100, 7, 115));
}

#[test]
fn a_present_destination_stops_a_move_where_it_is() {
    let Some(host) = Host::start() else { return };
    let pages = host.open(0, 8);
    let mut mmu = host.mmu();
    assert_eq!(mmu.move_in(host.fill(0, 1, 1), HERE, pages.start.plus(3)), Done::all(1));
    let done = mmu.move_in(host.fill(8, 6, 50), HERE, pages.start);
    assert_eq!(done, Done::part(3, Refusal::Exists));
    assert_eq!(peek_all(host.range(0, 4)), [50, 51, 52, 1]);
    assert_eq!((host.frame_present(10), host.frame_present(11)), (false, true));
    // The same the other way: a frame that is no hole.
    host.fill(21, 1, 9);
    assert_eq!(mmu.move_out(HERE, pages.start, run(20, 4)), Done::part(1, Refusal::Exists));
    assert_eq!(mmu.copy_in(host.fill(30, 2, 1), HERE, pages.start.plus(1)), Done::part(0, Refusal::Exists));
}

/// Compaction migrates pages while they are moved. The kernel then says EEXIST of some that it has moved; whoever
/// believes it drops them.
#[test]
fn no_page_is_lost_to_a_move_while_the_kernel_compacts_memory() {
    const PAGES: u32 = 1024;
    const SECONDS: u64 = 6;
    let Some(host) = Host::start() else { return };
    let Ok(mut compact) = std::fs::OpenOptions::new().write(true).open("/proc/sys/vm/compact_memory") else {
        println!("skipped: no right to ask for compaction");
        return;
    };
    let pages = host.open(0, u64::from(PAGES));
    let mut mmu = host.mmu();
    assert_eq!(mmu.move_in(host.fill(0, PAGES, 0), HERE, pages.start), Done::all(PAGES));
    let begin = std::time::Instant::now();
    let goes_on = || begin.elapsed().as_secs() < SECONDS;
    thread::scope(|scope| {
        scope.spawn(|| {
            while goes_on() {
                std::io::Write::write_all(&mut compact, b"1").expect("compaction");
            }
        });
        let mut round = 0;
        while goes_on() {
            // Alone and in runs, and to frames that change.
            let (step, first) = if round % 2 == 0 { (1, 0) } else { (16, PAGES) };
            for at in (0..PAGES).step_by(step) {
                let (vpn, frames) = (pages.start.plus(u64::from(at)), run(first + at, step as u32));
                assert_eq!(mmu.move_out(HERE, vpn, frames), Done::all(step as u32), "out, page {at}");
                assert_eq!(mmu.move_in(frames, HERE, vpn), Done::all(step as u32), "in, page {at}");
            }
            round += 1;
        }
    });
    assert_eq!(peek_all(pages), (0..PAGES).map(|i| i as u8).collect::<Vec<u8>>());
}

#[test]
fn a_hole_in_the_source_stops_a_move() {
    let Some(host) = Host::start() else { return };
    let pages = host.open(0, 4);
    host.fill(0, 4, 10);
    host.mmu().release(run(2, 1));
    assert_eq!(host.mmu().move_in(run(0, 4), HERE, pages.start), Done::part(2, Refusal::Absent));
    assert_eq!(host.mmu().move_out(HERE, pages.start, run(100, 4)), Done::part(2, Refusal::Absent));
    assert_eq!(host.mmu().move_out(HERE, pages.start, run(110, 1)), Done::part(0, Refusal::Absent));
}

#[test]
fn other_rights_or_locks_are_denied_and_copies_are_not() {
    let Some(host) = Host::start() else { return };
    let mut mmu = host.mmu();
    let pages = host.open(0, 8);
    mmu.protect(host.range(2, 2), Prot::READ).unwrap();
    assert_eq!(mmu.move_in(host.fill(0, 1, 1), HERE, pages.start.plus(2)), Done::part(0, Refusal::Denied));
    // The kernel refuses the whole of what reaches into another VMA; the verb finds the part that can be.
    assert_eq!(mmu.move_in(host.fill(8, 8, 10), HERE, pages.start), Done::part(2, Refusal::Denied));
    assert_eq!(mmu.copy_in(run(10, 6), HERE, pages.start.plus(2)), Done::all(6));
    assert_eq!(peek_all(pages), [10, 11, 12, 13, 14, 15, 16, 17]);
    assert_eq!(host.frame_byte(10), 12);
    assert_eq!(mmu.move_out(HERE, pages.start.plus(3), run(40, 1)), Done::part(0, Refusal::Denied));
    mmu.lock(host.range(4, 1), true).unwrap();
    assert_eq!(mmu.move_out(HERE, pages.start.plus(4), run(40, 1)), Done::part(0, Refusal::Denied));
    mmu.lock(host.range(4, 1), false).unwrap();
    assert_eq!(mmu.move_out(HERE, pages.start.plus(4), run(40, 1)), Done::all(1));
}

#[test]
fn what_is_unevictable_stays_and_all_before_it_goes() {
    let Some(host) = Host::start() else { return };
    let at = host.open(0, 8);
    host.mmu().move_in(host.fill(0, 8, 10), HERE, at.start);
    let unevictable = Unevictable::new();
    unevictable.add(at.start.plus(5).addr() as usize + 100, 4, 0);
    let mut mmu = host.mmu().sparing(&unevictable);
    assert_eq!(mmu.move_out(HERE, at.start, run(0, 8)), Done::part(5, Refusal::Denied));
    assert_eq!(mmu.move_out(HERE, at.start.plus(5), run(5, 1)), Done::part(0, Refusal::Denied));
    assert_eq!(mmu.move_out(HERE, at.start.plus(6), run(6, 2)), Done::all(2));
    assert_eq!(peek(at.start.plus(5)), 15);
    unevictable.forget(0..usize::MAX);
    assert_eq!(mmu.move_out(HERE, at.start.plus(5), run(5, 1)), Done::all(1));
}

#[test]
fn locking_faults_nothing_in_and_locked_pages_can_be_discarded() {
    let Some(host) = Host::start() else { return };
    let mut mmu = host.mmu();
    let pages = host.open(0, 4);
    mmu.copy_in(host.fill(0, 1, 5), HERE, pages.start);
    mmu.lock(pages, true).unwrap();
    assert_eq!(host.presence(pages), [true, false, false, false]);
    mmu.discard(pages).unwrap();
    assert_eq!(host.presence(pages), [false; 4]);
    host.no_fault();
}

#[test]
fn pages_shared_by_a_fork_are_busy_until_unshared() {
    let Some(host) = Host::start_alone() else { return };
    let mut mmu = host.mmu();
    let pages = host.open(0, 6);
    mmu.move_in(host.fill(0, 2, 20), HERE, pages.start);
    mmu.move_in(host.fill(2, 2, 22), HERE, pages.start.plus(4));
    // SAFETY: the child makes system calls only.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: as above; it ends when its parent kills it, or after a minute.
        unsafe {
            libc::poll(std::ptr::null_mut(), 0, 60_000);
            libc::_exit(0);
        }
    }
    assert_eq!(mmu.move_out(HERE, pages.start, run(100, 2)), Done::part(0, Refusal::Busy));
    assert_eq!(mmu.unshare(pages), Done::all(6));
    assert_eq!(host.presence(pages), [true, true, false, false, true, true]);
    assert_eq!(mmu.move_out(HERE, pages.start, run(100, 2)), Done::all(2));
    assert_eq!(mmu.move_out(HERE, pages.start.plus(4), run(102, 2)), Done::all(2));
    assert_eq!((host.frame_byte(100), host.frame_byte(103)), (20, 23));
    // SAFETY: the child is ours and has not been waited for.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
    host.no_fault();
}

#[test]
fn remapped_memory_keeps_contents_holes_and_registration() {
    let Some(host) = Host::start() else { return };
    let mut mmu = host.mmu();
    let from = host.open(0, 8);
    let to = host.range(4096, 8);
    mmu.move_in(host.fill(0, 2, 30), HERE, from.start);
    mmu.move_in(host.fill(2, 1, 40), HERE, from.start.plus(7));
    mmu.remap(from, to.start).unwrap();
    let there = [true, true, false, false, false, false, false, true];
    assert_eq!(host.presence(to), there);
    assert_eq!(host.presence(from), [false; 8]);
    assert_eq!((peek(to.start), peek(to.start.plus(7))), (30, 40));
    // The new place faults to us, and so does the old one when it is opened again.
    for hole in [to.start.plus(2), host.open(0, 8).start.plus(1)] {
        let thread = toucher(hole);
        assert_eq!(host.next_fault().0, hole);
        assert_eq!(mmu.move_in(host.fill(50, 1, 77), HERE, hole), Done::all(1));
        mmu.wake(PageRange::new(HERE, hole, 1));
        assert_eq!(thread.join().unwrap().0, 77);
    }
    assert_eq!(mmu.remap(to, to.start.plus(3)), Err(Refusal::Denied));
}

/// Two neighbours that were first touched apart stay two VMAs of the kernel's for ever, although they look
/// like one: without going piece by piece, every verb over their seam would be refused.
#[test]
fn verbs_reach_across_neighbours_that_the_kernel_keeps_apart() {
    let Some(host) = Host::start() else { return };
    let mut mmu = host.mmu();
    let first = host.open(0, 3);
    let third = host.open(5, 3);
    mmu.move_in(host.fill(0, 1, 1), HERE, first.start);
    mmu.move_in(host.fill(1, 1, 2), HERE, third.start);
    host.open(3, 2);
    mmu.discard(host.range(0, 8)).unwrap();
    let whole = host.range(0, 8);
    let frames = host.places.frame_addr(Frame(8)).expect("a frame of the pool");
    let direct = host.uffd.move_pages(whole.start.addr() as usize, frames, 8 * PAGE_SIZE);
    assert_eq!(direct, Moved { bytes: 0, errno: Some(Errno::INVAL) });
    assert_eq!(mmu.move_in(host.fill(8, 8, 60), HERE, whole.start), Done::all(8));
    assert_eq!(mmu.move_out(HERE, whole.start, run(20, 8)), Done::all(8));
    assert_eq!(mmu.copy_in(run(20, 8), HERE, whole.start), Done::all(8));
    let to = host.range(1024, 8);
    mmu.remap(whole, to.start).unwrap();
    assert_eq!(peek_all(to), (60..68).collect::<Vec<u8>>());
}

#[test]
fn a_discarded_page_faults_and_is_woken_when_filled() {
    let Some(host) = Host::start() else { return };
    let mut mmu = host.mmu();
    let page = host.open(9, 1);
    mmu.move_in(host.fill(0, 1, 80), HERE, page.start);
    mmu.discard(page).unwrap();
    assert_eq!(host.presence(page), [false]);
    let thread = toucher(page.start);
    let (vpn, tid) = host.next_fault();
    assert_eq!(vpn, page.start);
    // Woken without a page it faults again; filled without a wake it stays asleep.
    mmu.wake(page);
    assert_eq!(host.next_fault(), (page.start, tid));
    assert_eq!(mmu.copy_in(host.fill(1, 1, 81), HERE, page.start), Done::all(1));
    thread::sleep(std::time::Duration::from_millis(50));
    assert!(!thread.is_finished());
    mmu.wake(page);
    assert_eq!(thread.join().unwrap(), (81, tid));
}

#[test]
fn the_programs_threads_see_and_discard_but_do_not_move() {
    let Some(host) = Host::start() else { return };
    let pages = host.open(0, 2);
    host.mmu().move_in(host.fill(0, 2, 1), HERE, pages.start);
    let mut mmu = LinuxMmu::for_program(&host.places);
    assert!(mmu.present(HERE, pages.start));
    assert_eq!(mmu.move_out(HERE, pages.start, run(8, 2)), Done::part(0, Refusal::NoRange));
    mmu.discard(pages).unwrap();
    assert!(!mmu.present(HERE, pages.start));
}

#[test]
fn given_back_memory_reads_as_zeroes_and_is_moved_into_again() {
    let Some(host) = Host::start() else { return };
    let mut mmu = host.mmu();
    let stored = |at| host.places.store().with(at, 4, |bytes| bytes.to_vec());
    host.places.store().with(70_000, 4, |bytes| bytes.fill(3));
    let mut ram = StoreRam(&host.places);
    ram.move_stored(70_000 / 16, 32_000 / 16, 4);
    ram.release_stored(16..32);
    assert_eq!((stored(70_000), stored(32_000)), (vec![0; 4], vec![3; 4]));
    host.fill(0, 4, 1);
    mmu.release(run(0, 4));
    assert!((0..4).all(|frame| !host.frame_present(frame)));
    assert_eq!(host.frame_byte(1), 0);
    // What a forked child does with the pool, whose memory it did not inherit.
    host.places.renew_pool().unwrap();
    host.places.register(&host.uffd).unwrap();
    let page = host.open(0, 1);
    assert_eq!(mmu.move_in(host.fill(5, 1, 66), HERE, page.start), Done::all(1));
    assert_eq!(peek(page.start), 66);
}
