//! The pager: the engine on real memory, with threads of its own inside the program.
//!
//! * `handler` reads the messages of the userfaultfd and answers them by the engine's fault walk.
//! * `service` runs the reclaim walk behind the faults, carries out calls that program threads hand over
//!   (`exchange`, `calls`), keeps the grant (`grants`), shows what is counted (`publish`), and watches the handler
//!   (`watchdog`).
//! * `sleep` is all of it until memory is short; `before` takes over what a process has when it wakes.
//! * `record` tells `quire` what the program does to its memory and what the engine decides, where that is asked for.
//! * `profile` measures where the time of faults goes, where that is asked for.
//! * `io` threads run jobs that wait for a disk; they exist once something has been spilled.
//!
//! One lock holds the engine's tables, and under it or alone another one the store; who holds either never faults: Quire's
//! threads touch no managed memory. A job is run with neither held, but to ask for places and to copy a page (`worker`). Around a fork the tables rest (`fork`).
//!
//! There is one pager a process. [`start`] makes it; the preload library and tests call [`call`]. The global
//! allocator of such a process must work on threads that libc does not know: libc's own malloc does not.

mod before;
mod calls;
mod check;
mod children;
mod exchange;
mod fork;
mod grants;
mod guest;
mod handler;
mod inject;
mod io;
mod last;
mod overcommit;
mod placement;
pub(crate) mod profile;
mod publish;
pub(crate) mod record;
mod room;
mod service;
pub mod sleep;
mod tables;
mod watchdog;
mod worker;

pub use calls::{Call, FOREIGN_TARGET, Kind, Piece, TARGET_ENDED};
pub use check::check_at_end;
pub use fork::{before_filter, fork_child, fork_parent, fork_prepare, is_announced};
pub use guest::{Excused, excuse};
pub use inject::Inject;
pub use last::leaves;
pub use quire_core::PolicyKind;

use crate::codec::Secret;
use crate::control::client::{Client, JoinError};
use crate::control::ledger::{Account, Ledger, NO_LIMIT};
use crate::control::notice::Notice;
use crate::control::outside::Outside;
use crate::control::ring::Ring;
use crate::control::wire::{JoinRefusal, Welcome};
use crate::fork_events::ForkEvents;
use crate::limits;
use crate::mmu::LinuxMmu;
use crate::places::{LEAST_ARENA, Places};
use crate::probe;
use crate::sys::clock::now_ns;
use crate::sys::futex::{self, Lock, Scope, Woken};
use crate::sys::leaked::Leaked;
use crate::sys::pagemap::Pagemap;
use crate::sys::uffd::{FEATURE_MOVE, FEATURE_THREAD_ID, Uffd};
use crate::sys::wiped::Wiped;
use crate::sys::{Cause, Errno, sched, thread, urge};
use crate::unevictable::Unevictable;
use before::Before;
use core::ffi::CStr;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use exchange::Exchange;
use handler::Handler;
use quire_core::addr::{PAGE_SIZE, PageRange, Space, Vpn};
use quire_core::{Config, Engine, Order, Store};
use rustix::fd::{AsFd, OwnedFd};
use sleep::Slept;
use std::ffi::CString;
use tables::{Held, TablesLock};

/// A process has one address space.
const SPACE: Space = Space(0);

/// What a pager is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The path of `quire`'s socket. `None`: a pager on its own, for tests and embedders.
    pub socket: Option<CString>,
    /// Without a socket: pages of memory for everything; `None`: no limit, and nothing is moved out.
    pub memory: Option<u32>,
    /// Without a socket: the order policy.
    pub policy: PolicyKind,
    /// How many bytes Quire's own heap takes.
    pub usage: fn() -> u64,
    /// How many bytes of its own it has mapped, touched or not.
    pub mapped: fn() -> u64,
    /// Says why the process can't be managed, where it slept before.
    pub refused: fn(Outside),
    /// An error on purpose.
    pub inject: Option<Inject>,
    /// Walk all tables now and then, and at the end, and stop where they do not fit.
    pub check: bool,
}

/// Why no pager could be started. The program goes on unmanaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// A system call failed.
    System(Errno),
    /// `quire` could not be joined.
    Join(JoinError),
    /// A system call failed after `quire` had been joined; `quire` knows.
    Told(Errno),
    /// All of its memory is locked.
    Locked,
}

impl StartError {
    /// The cause, as far as the error tells it.
    pub fn outside(self) -> Outside {
        let denied = |errno| matches!(errno, Errno::PERM | Errno::ACCESS | Errno::NOSYS);
        match self {
            StartError::System(errno) | StartError::Told(errno) if denied(errno) => {
                if probe::is_filtered(errno) {
                    Outside::Filter
                } else if errno == Errno::NOSYS {
                    Outside::NoUserfaultfd
                } else {
                    Outside::NoRight
                }
            }
            StartError::Locked => Outside::Locked,
            StartError::System(Errno::NOMEM) | StartError::Told(Errno::NOMEM) => Outside::AddressSpace,
            StartError::System(_) | StartError::Told(_) => Outside::Refused,
            StartError::Join(JoinError::Socket(errno)) if denied(errno) && probe::is_filtered(errno) => {
                Outside::Filter
            }
            StartError::Join(JoinError::Socket(Errno::PERM | Errno::ACCESS)) => Outside::OtherUser,
            StartError::Join(JoinError::Refused(JoinRefusal::OtherBuild)) => Outside::OtherBuild,
            StartError::Join(JoinError::Refused(JoinRefusal::TooManyProcesses)) => Outside::TooMany,
            StartError::Join(_) => Outside::Unreachable,
        }
    }
}

impl From<Errno> for StartError {
    fn from(errno: Errno) -> StartError {
        StartError::System(errno)
    }
}

/// All that the engine's lock protects.
#[derive(Debug)]
struct Tables {
    engine: Engine,
    room: room::Room,
    /// The program's break, once it has asked for one.
    heap: Option<calls::Heap>,
    /// Rights of the kernel's beyond those in the tables.
    spare: calls::Spare,
    /// The thread that forks, while it does: only its faults and calls may change the tables.
    frozen_for: u32,
    /// Later mappings are locked (`mlockall(MCL_FUTURE)`); on fault only, if the second is set.
    lock_future: Option<bool>,
}

/// What belongs to the pager threads' own descriptor table.
#[derive(Debug)]
struct Descriptors {
    uffd: Uffd,
    /// Where forks wait for their children's memory. `None` where the kernel does not tell of forks.
    gate: Option<Uffd>,
    pagemap: Pagemap,
    client: Option<Client>,
}

/// The link to `quire`, where there is one.
#[derive(Debug)]
struct Link {
    ledger: Ledger,
    welcome: Welcome,
}

/// The pager of this process.
#[derive(Debug)]
struct Pager {
    places: Places,
    options: Options,
    secret: Secret,
    tables: TablesLock,
    /// What the engine talks to; taken under `tables` or alone.
    store: Lock<Store>,
    /// Children that are not whole yet.
    fork_events: ForkEvents,
    /// What is never moved out.
    unevictable: Unevictable,
    exchange: Exchange,
    io: io::Queue,
    descriptors: Leaked<Descriptors>,
    link: Leaked<Link>,
    files: Lock<Vec<&'static OwnedFd>>,
    /// Calls of them that an error on purpose could have met.
    spill_calls: AtomicU32,
    /// Of what stored page the contents came back different, see [`worker::Damage`].
    damage: AtomicU32,
    /// Tells what happens, where that is asked for.
    recorder: Option<record::Recorder>,
    /// Whether a spill file may still be had from `quire`.
    may_spill: AtomicU32,
    /// Rises when a job has ended: who waits for a frame looks again.
    progress: AtomicU32,
    /// Threads that wait for that.
    awaiting: AtomicU32,
    /// The process, by its id: a vfork child that borrows this memory has another.
    pid: AtomicU32,
    watchdog: watchdog::Watchdog,
    /// When `quire` was last told that more of the budget is wanted, in ns.
    want_said_at: AtomicU64,
    /// When the counters were last copied, in ns.
    published_at: AtomicU64,
    /// Until when a count of Quire's own memory holds, in ns, and what came out.
    usage: Lock<(u64, u64)>,
    /// Rises when a fork is over.
    thawed: AtomicU32,
    /// Messages of faults that wait for a fork to be over.
    aside: AtomicU32,
    /// Forks that came through the gate while another thread forked in the way that is announced.
    through_frozen: AtomicU32,
    /// Children made whole, and whether that was told.
    made_whole: AtomicU32,
    told_of_children: AtomicU32,
    /// 1 in a process that came from a fork and has not called exec.
    forked: AtomicU32,
    /// The last fault that the handler took up: time in ns, 0 when it has none.
    busy_since: AtomicU64,
    /// 1 while the handler moves out, between two faults, what the service thread then stores.
    handler_evicts: AtomicU32,
    /// When a process that slept got its first grant, in ns: until `quire` hears that it is awake, it counts it as one that sleeps.
    first_grant_at: AtomicU64,
    /// The handler is at the engine's lock: who works behind the faults lets it go first.
    urgent: AtomicU32,
    /// 1 where a profile is asked for.
    profiled: AtomicU32,
}

static PAGER: Leaked<Pager> = Leaked::empty();
static BOOT: Leaked<Boot> = Leaked::empty();
/// What is true of this process only: a child with a copy of its memory has no pager until it says so itself.
static HERE: Wiped = Wiped::new();
/// Words of it: whether there is a pager, and where the arena begins and ends.
const THERE: usize = 0;
const ARENA_START: usize = 1;
const ARENA_END: usize = 2;

/// Pages by which a process goes over its budget when nothing can be moved out.
const OVERDRAFT: u32 = 64;

/// Looks at whether a fault waits for the tables before others take them all the same.
const MOST_POLITE: u32 = 2048;

/// Stack of each of the pager's threads, in bytes.
const STACK: usize = 256 << 10;

/// The pager of this process. `None` also in a child that was made behind our back, which has the memory of one.
fn pager() -> Option<&'static Pager> {
    if HERE.word(THERE).load(Ordering::Relaxed) == 0 { None } else { PAGER.get() }
}

/// Whether children that nobody announces do not get the arena.
fn withholds() -> bool {
    PAGER.get().is_some_and(|pager| pager.fork_events.withholds())
}

/// Who asks for the arena is told from now on.
fn show_arena(pager: &Pager) {
    let arena = pager.places.arena(SPACE);
    HERE.word(THERE).store(1, Ordering::Relaxed);
    HERE.word(ARENA_END).store(arena.end().addr() as usize, Ordering::Relaxed);
    HERE.word(ARENA_START).store(arena.start.addr() as usize, Ordering::Relaxed);
}

/// The first byte of managed memory, and the first one past it; both 0 while there is none.
#[inline]
pub fn arena() -> (usize, usize) {
    (HERE.word(ARENA_START).load(Ordering::Relaxed), HERE.word(ARENA_END).load(Ordering::Relaxed))
}

/// Whether any byte of `addr..addr + len` is managed.
#[inline]
pub fn is_managed(addr: usize, len: usize) -> bool {
    let (start, end) = arena();
    len > 0 && addr < end && addr.saturating_add(len) > start
}

/// Carries out a call that touches managed memory; the error is an errno.
pub fn call(call: Call) -> Result<usize, i32> {
    match pager() {
        Some(pager) => calls::perform(pager, call),
        None => Err(libc::ENOSYS),
    }
}

/// Whether `quire` keeps a ledger for this process: then it wants to know of programs that will run outside the budget.
#[inline]
pub fn is_counted() -> bool {
    pager().is_some_and(|pager| pager.link().is_some()) || sleep::is_asleep()
}

/// Tells `quire` that the calling process, or the one that it has just started, is about to become a program that runs
/// outside the budget. Takes no lock, so that it may be called anywhere.
pub fn tell_outside(pid: u32, cause: Outside, name: &[u8]) {
    if let Some(link) = pager().and_then(Pager::link) {
        link.ledger.notices().leave(&Notice::new(pid, cause, name));
    } else if sleep::is_asleep()
        && let Some(path) = BOOT.get().and_then(|boot| boot.options.socket.as_ref())
    {
        // Where no file can be written, it shows when `quire` looks at the tree.
        let _ = Client::leave_word(path, pid, cause, name);
    }
}

/// What lies at the beginning of a range of pages of the arena, and how far.
pub fn piece(addr: usize, len: usize) -> Piece {
    let known = call(Call::Piece { addr, len });
    known.map_or(Piece { kind: Kind::Gap, end: addr + len }, Piece::decode)
}

/// Whether the program has put a mapping of the kernel's over any part of the arena.
#[inline]
pub fn has_foreign() -> bool {
    room::has_foreign()
}

/// Starts the pager of this process: lays out its memory, starts its threads, joins `quire`.
///
/// # Errors
/// The system refuses something, or `quire` does. Nothing is managed then.
pub fn start(options: Options) -> Result<(), StartError> {
    // The tables depend on the budget, which only the thread that joins `quire` learns. So the join comes
    // first, on a thread with a descriptor table of its own, and that thread makes the pager.
    let boot: &Boot = Box::leak(Box::new(Boot::new(options, Beginning::Awake)));
    BOOT.set(boot);
    thread::spawn("quire-fault", STACK, boot_thread, 0)?;
    boot.done.wait();
    match *boot.result.lock() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// A word that is waited for until it is opened, once.
#[derive(Debug)]
struct Latch(AtomicU32);

impl Latch {
    fn wait(&self) {
        while self.0.load(Ordering::Acquire) == 0 {
            futex::wait(&self.0, 0, None, Scope::Process);
        }
    }

    /// Waits for `ns` nanoseconds at the most. Whether it was opened.
    fn wait_for(&self, ns: u64) -> bool {
        let until = now_ns() + ns;
        while self.0.load(Ordering::Acquire) == 0 {
            let Some(left) = until.checked_sub(now_ns()).filter(|left| *left > 0) else { return false };
            futex::wait(&self.0, 0, Some(left), Scope::Process);
        }
        true
    }

    fn open(&self) {
        self.0.store(1, Ordering::Release);
        // Waking fails only for a bad address, and the word is ours.
        let _ = futex::wake(&self.0, u32::MAX, Scope::Process);
    }
}

/// How a process comes to have a pager.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Beginning {
    /// It has one from its start on.
    Awake,
    /// It sleeps until it is woken.
    Asleep,
}

/// What the starting thread shares with the first thread of the pager.
#[derive(Debug)]
struct Boot {
    options: Options,
    from: Beginning,
    result: Lock<Option<StartError>>,
    done: Latch,
    /// Where the process sleeps: it has joined, or never will.
    joined: Latch,
    /// The ledger, once a process that sleeps has joined.
    ledger: Leaked<Ledger>,
}

impl Boot {
    fn new(options: Options, from: Beginning) -> Boot {
        let [done, joined] = [(); 2].map(|()| Latch(AtomicU32::new(0)));
        Boot { options, from, result: Lock::new(None), done, joined, ledger: Leaked::empty() }
    }
}

fn boot_thread(_: usize) {
    let Some(boot) = BOOT.get() else { return };
    if boot.from == Beginning::Asleep {
        return sleep_and_wake(boot);
    }
    match join(&boot.options, false).and_then(|joined| make(&boot.options, joined, None)) {
        Ok(pager) => {
            show_arena(pager);
            let handler = Handler::new(pager);
            boot.done.open();
            handler.run();
        }
        Err(error) => {
            *boot.result.lock() = Some(error);
            boot.done.open();
        }
    }
}

/// Waits until there is a pager, or none comes to be.
fn service_thread(_: usize) {
    if let Some(boot) = BOOT.get() {
        boot.done.wait();
        service::run(0);
    }
}

/// How long to wait after a call that took long before it is tried again, in ns.
const AGAIN_NS: u64 = 1_000_000;

/// Joins `quire`, waits to be woken, and wakes.
fn sleep_and_wake(boot: &Boot) {
    match until_awake(boot) {
        Ok(Some(handler)) => {
            boot.done.open();
            handler.run();
        }
        // `quire` has ended first, or the program.
        Ok(None) => {}
        Err(error) => {
            boot.done.open();
            limits::release();
            sleep::give_up();
            if !matches!(error, StartError::Told(_)) {
                (boot.options.refused)(error.outside());
            }
            boot.joined.open();
        }
    }
    last::end_if_over();
}

fn until_awake(boot: &Boot) -> Result<Option<Handler>, StartError> {
    // What is limited is managed at once: the kernel can't hold it to its limits beside what managing takes.
    let limited = limits::are_set();
    let slept = limited.then(still);
    if limited {
        limits::hold(None);
    }
    let joined = join(&boot.options, !limited)?;
    // Until it is awake others take memory that is not there.
    sched::be_prompt();
    if let Some(link) = &joined.link {
        boot.ledger.set(Box::leak(Box::new(link.ledger)));
    }
    boot.joined.open();
    let slept = match slept {
        Some(slept) => slept,
        None if joined.descriptors.client.as_ref().is_some_and(Client::is_woken) => still(),
        None => return Ok(None),
    };
    if fork::are_all_filtered() {
        // To open a file could be the end of the process.
        sleep::give_up();
        if let Some(client) = &joined.descriptors.client {
            client.leave(Outside::Filter);
        }
        return Ok(None);
    }
    if sleep::is_locked() {
        return Err(StartError::Locked);
    }
    let pager = make(&boot.options, joined, Some(&slept))?;
    show_arena(pager);
    // It allocates, which no thread of ours may do once others fork.
    let handler = Handler::new(pager);
    sleep::awake(pager);
    if let Some(client) = pager.client() {
        client.awake();
    }
    Ok(Some(handler))
}

/// Waits until a process that sleeps has joined, or it is clear that it never will.
fn await_joined() {
    if let Some(boot) = BOOT.get().filter(|_| sleep::joins()) {
        boot.joined.wait();
    }
}

/// Waits until no call is under way, as often as it takes.
fn still() -> Slept {
    loop {
        if let Some(slept) = sleep::still() {
            return slept;
        }
        futex::sleep(AGAIN_NS);
    }
}

/// Gives the calling thread, one of the pager's, a descriptor table of its own with nothing of the program's, and a root of its
/// own, which stays where it is when the program changes the one it has.
fn own_table() -> Result<(), Errno> {
    if rustix::process::geteuid().is_root() {
        sched::own_root();
    }
    sched::own_descriptors()?;
    sched::close_range(3, u32::MAX)?;
    crate::sys::msg::let_go_of_standard();
    Ok(())
}

fn open_descriptors(client: Option<Client>, socket: Option<&CStr>) -> Result<Descriptors, Errno> {
    let features = FEATURE_MOVE | FEATURE_THREAD_ID;
    // A more privileged program in the tree may have started this one for a user who gets no userfaultfd by himself.
    let borrow = || Client::borrow_device(socket?).ok().flatten();
    let uffd = Uffd::that_tells_forks(features).or_else(|errno| match errno {
        Errno::PERM | Errno::ACCESS if !probe::is_filtered(errno) => {
            borrow().map_or(Err(errno), |device| Uffd::of_lent_device(device.as_fd(), features))
        }
        _ => Err(errno),
    })?;
    let gate = if uffd.tells_forks() { Some(Uffd::that_tells_forks(0)?) } else { None };
    Ok(Descriptors { uffd, gate, pagemap: Pagemap::open()?, client })
}

/// What a process has when it has joined.
#[derive(Debug)]
struct Joined {
    descriptors: Descriptors,
    link: Option<Link>,
    ring: Option<Ring>,
}

/// Gets all that a pager needs of the kernel, and joins `quire` where there is one.
fn join(options: &Options, asleep: bool) -> Result<Joined, StartError> {
    own_table()?;
    let mut descriptors = open_descriptors(None, options.socket.as_deref())?;
    let (mut link, mut ring) = (None, None);
    if let Some(path) = &options.socket {
        let joined = Client::join(path, asleep, None, &mut |_, _| {}).map_err(StartError::Join)?;
        (descriptors.client, ring) = (Some(joined.client), joined.ring);
        link = Some(Link { ledger: joined.ledger, welcome: joined.welcome });
    }
    Ok(Joined { descriptors, link, ring })
}

/// Makes the pager: of a process that begins, or of one that has slept.
fn make(options: &Options, joined: Joined, slept: Option<&Slept>) -> Result<&'static Pager, StartError> {
    let Joined { descriptors, link, ring } = joined;
    if slept.is_some() && !limits::are_held() {
        limits::hold(None);
    }
    // The pool has at most twice as many frames as the machine has pages, and the store is a part of that.
    let most = 3 * machine_pages() * PAGE_SIZE as u64;
    if !limits::suffice(LEAST_ARENA + most, most) {
        return Err(refused(&descriptors, Errno::NOMEM));
    }
    // Before any page can be missing: where no thread can be had, nothing has changed.
    let service = thread::spawn("quire-service", STACK, service_thread, 0);
    urge::serves(service.map_err(|errno| refused(&descriptors, errno))?.tid());
    let plan = Plan::of(options, link.as_ref());
    let before = slept.map(Before::look).transpose().map_err(|errno| refused(&descriptors, errno))?;
    let places = make_places(&plan, &descriptors, before.as_ref())?;
    HERE.make()?;
    let arena = places.arena(SPACE);
    let mut engine = Engine::new(plan.config);
    engine.set_evicts(plan.evicts);
    overcommit::look(&engine);
    let secret = Secret::random()?;
    let recorder = link.as_ref().zip(ring).map(|(link, ring)| record_to(ring, &link.welcome, &secret));
    if recorder.as_ref().is_some_and(record::Recorder::logs) {
        engine.set_log(record::DECISIONS);
    }
    let tables = Tables {
        engine,
        room: room::Room::new(arena.start.0, arena.end().0),
        heap: None,
        spare: calls::Spare::default(),
        frozen_for: 0,
        lock_future: None,
    };
    let may_spill = link.as_ref().is_some_and(|link| link.welcome.spill && plan.evicts);
    let pager: &Pager = Box::leak(Box::new(Pager {
        places,
        options: options.clone(),
        secret,
        tables: TablesLock::new(tables),
        store: Lock::new(plan.store()),
        fork_events: ForkEvents::new(),
        unevictable: Unevictable::new(),
        exchange: Exchange::new(),
        io: io::Queue::new(),
        descriptors: Leaked::empty(),
        link: Leaked::empty(),
        files: Lock::new(Vec::new()),
        spill_calls: AtomicU32::new(0),
        damage: AtomicU32::new(0),
        recorder,
        may_spill: AtomicU32::new(u32::from(may_spill)),
        progress: AtomicU32::new(0),
        awaiting: AtomicU32::new(0),
        pid: AtomicU32::new(own_pid()),
        watchdog: watchdog::Watchdog::new(),
        want_said_at: AtomicU64::new(0),
        published_at: AtomicU64::new(0),
        usage: Lock::new((0, 0)),
        thawed: AtomicU32::new(0),
        aside: AtomicU32::new(0),
        through_frozen: AtomicU32::new(0),
        made_whole: AtomicU32::new(0),
        told_of_children: AtomicU32::new(0),
        forked: AtomicU32::new(0),
        busy_since: AtomicU64::new(0),
        handler_evicts: AtomicU32::new(0),
        first_grant_at: AtomicU64::new(0),
        urgent: AtomicU32::new(0),
        profiled: AtomicU32::new(0),
    }));
    pager.descriptors.set(Box::leak(Box::new(descriptors)));
    if let Some(link) = link {
        pager.use_link(link);
    }
    PAGER.set(pager);
    HERE.word(THERE).store(1, Ordering::Relaxed);
    if let Some(before) = &before {
        before.take_over(pager);
    }
    pager.take_first_grant();
    pager.hand_over();
    pager.publish(true);
    Ok(pager)
}

/// Reserves the addresses. Where that fails, `quire` is told that the process which joined goes on without it.
fn make_places(
    plan: &Plan,
    descriptors: &Descriptors,
    before: Option<&Before>,
) -> Result<Places, StartError> {
    let (frames, store) = (plan.config.frames, plan.segments * plan.segment_pages);
    let places = match before {
        None => Places::reserve(frames, store),
        Some(before) => before.places(frames, store),
    };
    let places = places.and_then(|places| {
        match before {
            None => places.register(&descriptors.uffd)?,
            Some(before) => before.register(&places, &descriptors.uffd)?,
        }
        descriptors.gate.as_ref().map_or(Ok(()), |gate| places.register_gate(gate))?;
        Ok(places)
    });
    places.map_err(|errno| refused(descriptors, errno))
}

/// The system refuses something to a process that has joined.
fn refused(descriptors: &Descriptors, errno: Errno) -> StartError {
    match &descriptors.client {
        None => StartError::System(errno),
        Some(client) => {
            client.leave(StartError::System(errno).outside());
            StartError::Told(errno)
        }
    }
}

/// The recorder that `quire` asks for.
fn record_to(ring: Ring, welcome: &Welcome, secret: &Secret) -> record::Recorder {
    record::Recorder::new(secret, welcome.record_every_ns, welcome.log, ring)
}

/// Sizes of the tables and the engine's limits, from what was asked for.
struct Plan {
    config: Config,
    /// Segments of the store, and pages in each.
    segments: u32,
    segment_pages: u32,
    evicts: bool,
}

/// The budget's pages that a process begins with; it takes more from the ledger as it needs it.
const FIRST_GRANT: u32 = 256;

impl Plan {
    fn of(options: &Options, link: Option<&Link>) -> Plan {
        let machine = machine_pages();
        let (budget, evicts, policy) = match link {
            Some(Link { welcome, .. }) => {
                let limit = (welcome.budget_pages != NO_LIMIT).then_some(welcome.budget_pages);
                (limit, welcome.evict, welcome.policy.as_str().parse().unwrap_or(options.policy))
            }
            None => (options.memory.map(u64::from), options.memory.is_some(), options.policy),
        };
        let budget_pages = budget.unwrap_or(machine).min(machine).min(u64::from(u32::MAX / 4)) as u32;
        // Frames without memory cost nothing. Twice the budget leaves long runs of them free, and a forked child,
        // which moves nothing out, needs as many as it has pages.
        let machine = machine.min(u64::from(u32::MAX / 4)) as u32;
        let frames = budget_pages.saturating_mul(2).max(machine);
        // Whole folios of the largest order only: odd ones at the end would be used first, and the table of
        // frames reaches as far as the highest frame in use.
        let frames = Order::MAX.align_down(u64::from(frames)) as u32;
        let grant = match (link, evicts) {
            (Some(_), true) => FIRST_GRANT.min(budget_pages),
            _ => budget_pages,
        };
        // Larger ones where there will be many. In all, as much as the budget and some that are not full.
        let segment_pages = (budget_pages / 8192).next_power_of_two().clamp(16, 64);
        let segments = if evicts { budget_pages / segment_pages + 64 } else { 64 };
        Plan { config: Config { frames, grant, policy }, segments, segment_pages, evicts }
    }

    /// An empty store.
    fn store(&self) -> Store {
        Store::new(self.segments, self.segment_pages, self.config.grant)
    }
}

/// The memory of the machine, in pages.
fn machine_pages() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram as u64 * u64::from(info.mem_unit) / PAGE_SIZE as u64
}

impl Pager {
    /// Whether the calling thread is of this pager's process: a vfork child borrows the memory only.
    fn is_here(&self) -> bool {
        self.pid.load(Ordering::Relaxed) == own_pid()
    }

    /// The same, asked with the calling thread's id. The first thread has that of the process, and no other process has it as long
    /// as this one lives.
    fn has_thread(&self, tid: u32) -> bool {
        self.pid.load(Ordering::Relaxed) == tid || self.is_here()
    }

    /// Starts the service thread, which shares the caller's descriptor table, in a forked child.
    fn begin_threads(&'static self) -> Result<(), Errno> {
        urge::serves(thread::spawn("quire-service", STACK, service::run, 0)?.tid());
        self.hand_over();
        Ok(())
    }

    /// Gives `quire` a copy of the userfaultfd.
    fn hand_over(&self) {
        if let (Some(client), Some(d)) = (self.client(), self.descriptors.get()) {
            // Only a second guard: while a copy is open, holes never read as zeroes.
            let _ = client.hand_over(d.uffd.as_fd());
        }
    }

    /// The tables, for a fault.
    #[track_caller]
    fn tables_first(&self) -> Held<'_> {
        self.urgent.store(1, Ordering::Relaxed);
        let tables = self.tables.lock();
        self.urgent.store(0, Ordering::Relaxed);
        tables
    }

    /// The tables, for work behind the faults, which takes them again and again.
    #[track_caller]
    fn tables_behind(&self) -> Held<'_> {
        for _ in 0..MOST_POLITE {
            if self.urgent.load(Ordering::Relaxed) == 0 {
                break;
            }
            core::hint::spin_loop();
        }
        self.tables.lock()
    }

    fn client(&self) -> Option<&'static Client> {
        self.descriptors.get().and_then(|d| d.client.as_ref())
    }

    fn use_link(&self, link: Link) {
        self.exchange.listen_at(link.ledger.account(link.welcome.account.index));
        self.link.set(Box::leak(Box::new(link)));
        self.begin_profile();
    }

    fn link(&self) -> Option<&'static Link> {
        self.link.get()
    }

    /// The account in the ledger.
    fn account(&self) -> Option<&'static Account> {
        self.link().map(|link| link.ledger.account(link.welcome.account.index))
    }

    /// The engine's verbs, for the pager's threads.
    fn mover(&self) -> LinuxMmu<'_> {
        match self.descriptors.get() {
            Some(d) => LinuxMmu::for_pager(&self.places, &d.uffd, &d.pagemap)
                .recorded_by(self.recorder.as_ref())
                .sparing(&self.unevictable)
                .told_of(&self.fork_events)
                .storing_in(&self.store),
            None => self.program_mmu(),
        }
    }

    /// The engine's verbs, for a thread of the program.
    fn program_mmu(&self) -> LinuxMmu<'_> {
        LinuxMmu::for_program(&self.places).recorded_by(self.recorder.as_ref()).storing_in(&self.store)
    }

    /// Spill file `file`.
    fn file(&self, file: u16) -> Option<&'static OwnedFd> {
        self.files.lock().get(usize::from(file)).copied()
    }

    /// Tells those who wait for a frame or for the end of jobs that something has changed.
    fn progress(&self) {
        self.progress.fetch_add(1, Ordering::SeqCst);
        if self.awaiting.load(Ordering::SeqCst) > 0 {
            // Waking fails only for a bad address, and the word is ours.
            let _ = futex::wake(&self.progress, u32::MAX, Scope::Process);
        }
    }

    /// Sleeps until there has been progress since `seen`, at most a millisecond.
    fn await_progress(&self, seen: u32) {
        self.awaiting.fetch_add(1, Ordering::SeqCst);
        if futex::wait(&self.progress, seen, Some(urge::LEND_AFTER_NS), Scope::Process) == Woken::TimedOut {
            // What is lent to whoever holds the lock is given back at once: nobody waits for that here.
            drop(urge::waits_for_long());
        }
        self.awaiting.fetch_sub(1, Ordering::SeqCst);
    }

    fn spill_failed(&self, errno: Errno) {
        self.count(|c| &c.spill_errors);
        if self.may_spill.swap(0, Ordering::Relaxed) != 0 {
            self.tell(format_args!(
                "the spill file can't be written ({errno}): going on without it, over the budget if need be; \
                 --swap-dir DIR names another place",
                errno = Cause(errno)
            ));
        }
    }

    /// A line for the user, through `quire` where there is one, so that `-q` holds.
    fn tell(&self, text: core::fmt::Arguments<'_>) {
        use core::fmt::Write;
        let Some(client) = self.client() else { return crate::sys::msg::say(text) };
        let mut line = crate::sys::msg::Line::new();
        // Writing into a `Line` never fails.
        let _ = line.write_fmt(text);
        client.say(core::str::from_utf8(line.as_bytes()).unwrap_or("?"));
    }
}

fn own_pid() -> u32 {
    rustix::process::getpid().as_raw_nonzero().get() as u32
}

/// The pages that hold the bytes `addr..addr + len`.
fn pages_of(addr: usize, len: usize) -> PageRange {
    let start = Vpn::of(addr as u64);
    let end = Vpn::of((addr + len + PAGE_SIZE - 1) as u64);
    PageRange::between(SPACE, start, end)
}

/// The bytes of pages.
fn bytes_of(range: PageRange) -> core::ops::Range<usize> {
    range.start.addr() as usize..range.end().addr() as usize
}
