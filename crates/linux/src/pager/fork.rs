//! Around a fork the tables rest, so that the child's copy of them is whole.
//!
//! The thread that forks asks for it: jobs come to their end, what is in standby goes back to the program or
//! stays stored, the spill file is sealed. Until the fork is over only that thread's own faults are answered,
//! and each is answered completely before the thread goes on, so nothing is half done at the moment of the
//! fork. The child has no pool (it takes an empty one in the same place), no threads and no descriptors of the
//! pager: it makes all of them anew, and moves nothing out.

use super::handler::Handler;
use super::{Call, Descriptors, Latch, Link, Pager, Tables, guest, sleep};
use crate::control::client::Client;
use crate::die;
use crate::sys::Cause;
use crate::sys::Errno;
use crate::sys::futex::{self, Lock, Scope};
use crate::sys::mmap::{self, Advice};
use crate::sys::pagemap::Pagemap;
use crate::sys::uffd::{Faults, Uffd};
use crate::sys::{sched, thread, urge};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use quire_core::addr::{PAGE_SIZE, PageRange, Vpn};
use rustix::fd::OwnedFd;

/// Whether the fork under way was announced, so that its child is to have a pager. Written by the thread that has its
/// turn at forking.
static ANNOUNCED: AtomicU32 = AtomicU32::new(0);

/// Before the kernel's fork, on the thread that forks, which has its turn at it. `waits`: that thread will not go on before
/// the child has ended or called exec.
///
/// Where the kernel tells of every fork, one may go unannounced: its child gets all of its memory before it runs, and has
/// no pager.
pub fn fork_prepare(waits: bool) {
    let announced = super::pager().filter(|pager| !pager.sees_forks() || !waits && may_join_again());
    ANNOUNCED.store(u32::from(announced.is_some()), Ordering::Relaxed);
    let Some(pager) = announced else { return };
    let _blocked = sched::SignalsBlocked::new();
    // The answer is that all is at rest; there is no other.
    let _ = pager.exchange.ask(Call::Freeze, sched::gettid());
    if pager.sees_forks()
        && let Err(errno) = pager.places.open_gate(true)
    {
        die!("a fork can't be prepared: {errno}", errno = Cause(errno));
    }
}

/// Whether the fork under way was announced.
pub fn is_announced() -> bool {
    ANNOUNCED.load(Ordering::Relaxed) != 0
}

/// Whether the program filters its system calls.
static FILTERED: AtomicU32 = AtomicU32::new(0);

/// The program is about to filter its system calls: those of the calling thread, or of `all` threads, ours among them. What
/// starts behind a filter has it too, so that a process which sleeps joins now.
///
/// The filter lets pass what a pager does ([`crate::filter`]), but not what it takes to make one: behind a filter for all
/// threads no process wakes, and no child is managed.
pub fn before_filter(all: bool) {
    if sleep::is_asleep() {
        sleep::join();
    }
    FILTERED.store(1, Ordering::Relaxed);
    if all && !ALL_FILTERED.swap(true, Ordering::Relaxed) && sleep::is_asleep() {
        super::await_joined();
    }
}

/// Whether the filter is for all threads.
static ALL_FILTERED: AtomicBool = AtomicBool::new(false);

/// Whether threads of Quire's may be refused calls that a pager makes at its start only.
pub(super) fn are_all_filtered() -> bool {
    ALL_FILTERED.load(Ordering::Relaxed)
}

/// Whether system calls may be refused that a pager had no need of until now.
pub(super) fn is_filtered() -> bool {
    FILTERED.load(Ordering::Relaxed) != 0
}

/// The least limit on descriptors with which a pager can do: its own, and a few spill files.
const LEAST_DESCRIPTORS: u64 = 32;

/// Whether a child of the calling thread, which has the same rights, could have a pager of its own. Rights may have been
/// given up, `/proc` left behind, descriptors limited.
fn may_join_again() -> bool {
    if is_filtered() {
        return false;
    }
    sched::descriptor_limit() >= LEAST_DESCRIPTORS && Uffd::open().is_ok() && Pagemap::open().is_ok()
}

/// After the kernel's fork, or its failure, in the parent.
pub fn fork_parent() {
    if ANNOUNCED.swap(0, Ordering::Relaxed) == 0 {
        return;
    }
    let Some(pager) = super::pager() else { return };
    if pager.sees_forks()
        && let Err(errno) = pager.places.open_gate(false)
    {
        die!("a fork can't be ended: {errno}", errno = Cause(errno));
    }
    pager.thawed.fetch_add(1, Ordering::Release);
    // Waking fails only for a bad address, and the word is ours.
    let _ = futex::wake(&pager.thawed, 1, Scope::Process);
}

/// How long the service thread sleeps between two looks at a fork, in ns, and how many looks a fork may take.
const WAIT_NS: u64 = 100_000_000;
const MOST_WAITS: u32 = 100;

/// On the service thread: brings everything to rest, answers, and waits until the fork is over.
pub(super) fn freeze(pager: &'static Pager, mailbox: usize, tid: u32) {
    let thawed = pager.thawed.load(Ordering::Acquire);
    pager.tables.lock().frozen_for = tid;
    // What was written until now is the parent's doing.
    pager.withdraw_all(|| pager.watchdog.service_beat());
    pager.await_notes(|| pager.watchdog.service_beat());
    let mut tables = pager.tables.lock();
    let spills = pager.store.lock().figures().has_file;
    loop {
        match tables.engine.fork_prepare(&mut pager.mover()) {
            Ok(true) if !pager.store.lock().figures().spills => break,
            Ok(_) => {}
            Err(halt) => super::worker::stop(halt),
        }
        // Jobs are under way on the other threads: they end without us.
        drop(tables);
        let seen = pager.progress.load(Ordering::Acquire);
        if pager.tables.lock().engine.jobs() > 0 || pager.store.lock().figures().spills {
            pager.await_progress(seen);
        }
        pager.watchdog.service_beat();
        tables = pager.tables.lock();
    }
    // What is in the file now is the child's too, and never overwritten.
    pager.store.lock().close_file();
    if let Some(recorder) = pager.recorder() {
        recorder.forking();
    }
    drop(tables);
    // The child's first note refers to this one.
    pager.await_notes(|| pager.watchdog.service_beat());
    if let Some(client) = pager.client() {
        // Without it the child finds no spill files, and ends with a message when it needs one.
        let _ = client.fork_begins();
    }
    if pager.fork_events.withholds() {
        pager.pass_on_for_fork();
    }
    pager.exchange.answer(mailbox, Ok(0));
    let mut waits = 0;
    // It may be a vfork child's thread, which is of another process.
    while pager.thawed.load(Ordering::Acquire) == thawed && sched::task_exists(tid) {
        futex::wait(&pager.thawed, thawed, Some(WAIT_NS), Scope::Process);
        pager.watchdog.service_beat();
        // A thread that waits for notes to be read may be the one that forks.
        waits = if pager.is_behind() { 0 } else { waits + 1 };
        if waits > MOST_WAITS && (pager.aside.load(Ordering::Relaxed) > 0 || pager.exchange.waits()) {
            die!(
                "a fork has not come to its end for 10 s while other threads wait for their memory: one of them may \
                 hold a lock of libc's that fork needs. Please report this"
            );
        }
    }
    pager.drop_announced();
    if pager.fork_events.withholds() {
        pager.places.withhold();
    }
    if spills {
        // The file from before is sealed: what is moved out from now on needs another.
        pager.open_spill();
    }
    // The pages that went back for the fork are watched again.
    pager.withdraw_all(|| pager.watchdog.service_beat());
    pager.tables.lock().frozen_for = 0;
    pager.publish(true);
}

/// What the threads of a forked child have to wait for.
static CHILD_READY: Latch = Latch(AtomicU32::new(0));
/// The parent's link, while a child makes its own.
static PARENT: Lock<Option<&'static Link>> = Lock::new(None);

/// After the kernel's fork, in the child, on its only thread.
pub fn fork_child() {
    if ANNOUNCED.swap(0, Ordering::Relaxed) == 0 {
        return;
    }
    let Some(pager) = super::PAGER.get() else { return };
    let _blocked = sched::SignalsBlocked::new();
    thread::forget_all();
    // The thread that held a lock at the fork, if any, is not in this process.
    pager.forget_holders();
    // Before the kernel puts something of ours there.
    pager.close_holes();
    pager.fork_events.forget();
    super::show_arena(pager);
    pager.through_frozen.store(0, Ordering::Relaxed);
    pager.made_whole.store(0, Ordering::Relaxed);
    pager.pid.store(super::own_pid(), Ordering::Relaxed);
    crate::limits::forked();
    pager.forked.store(1, Ordering::Relaxed);
    pager.exchange.forget();
    pager.io.forget();
    pager.watchdog.forget();
    pager.busy_since.store(0, Ordering::Relaxed);
    pager.awaiting.store(0, Ordering::Relaxed);
    pager.aside.store(0, Ordering::Relaxed);
    pager.handler_evicts.store(0, Ordering::Relaxed);
    pager.urgent.store(0, Ordering::Relaxed);
    urge::forget();
    guest::forget();
    if let Some(recorder) = &pager.recorder {
        recorder.forked();
    }
    *PARENT.lock() = pager.link();
    // Until it has its own, it counts nowhere and rings nobody.
    pager.link.clear();
    pager.end_profile();
    pager.exchange.listen_nowhere();
    CHILD_READY.0.store(0, Ordering::Release);
    let mut tables = pager.tables.lock();
    tables.frozen_for = 0;
    tables.engine.fork_child();
    pager.store.lock().count_anew();
    tables.engine.set_grant(u32::MAX / 2);
    if let Err(refusal) = pager.follow_fork_advice(&mut tables) {
        die!("a forked child can't drop what its parent did not pass on: {refusal:?}");
    }
    drop(tables);
    if pager.fork_events.withholds() {
        // What is stored is missing in its children too.
        pager.places.withhold();
    }
    if let Err(errno) = pager.places.renew_pool() {
        die!(
            "a forked child gets no memory for its frames ({errno}): is its address space limited?",
            errno = Cause(errno)
        );
    }
    if pager.sees_forks()
        && let Err(errno) = pager.places.renew_gate()
    {
        die!("a forked child gets no address space: {errno}", errno = Cause(errno));
    }
    if let Err(errno) = thread::spawn("quire-fault", super::STACK, child_thread, 0) {
        die!(
            "a forked child can't start Quire's threads ({errno}): is the number of processes limited?",
            errno = Cause(errno)
        );
    }
    CHILD_READY.wait();
}

/// The handler of a forked child: its own descriptors, its own place in the ledger, the parent's spill files.
fn child_thread(_: usize) {
    let Some(pager) = super::pager() else { return };
    let hurry = urge::hurry();
    if let Err(errno) = super::own_table() {
        die!("a forked child can't have descriptors of its own: {errno}", errno = Cause(errno));
    }
    let files: Vec<&'static OwnedFd> = Vec::new();
    let had = core::mem::replace(&mut *pager.files.lock(), files).len();
    let client = rejoin(pager);
    if pager.files.lock().len() < had {
        die!("a forked child can't reach its parent's spill files: quire itself is gone");
    }
    if had > 0 && pager.io.open().is_err() {
        die!("a forked child can't start threads for its parent's spill files");
    }
    let descriptors = match super::open_descriptors(client, pager.options.socket.as_deref()) {
        Ok(descriptors) => descriptors,
        Err(errno) => {
            die!("a forked child gets no userfaultfd ({errno}); see quire doctor", errno = Cause(errno))
        }
    };
    if let Err(errno) = register(pager, &descriptors) {
        die!("a forked child's memory can't be registered: {errno}", errno = Cause(errno));
    }
    let descriptors: &'static Descriptors = Box::leak(Box::new(descriptors));
    pager.descriptors.set(descriptors);
    drop(hurry);
    if let Err(errno) = pager.begin_threads() {
        die!("a forked child can't start Quire's threads: {errno}", errno = Cause(errno));
    }
    let handler = Handler::new(pager);
    pager.withdraw_all(|| ());
    pager.publish(true);
    CHILD_READY.open();
    handler.run();
}

/// Registers the pool, and of the arena what is not covered by mappings of the kernel's.
fn register(pager: &Pager, descriptors: &Descriptors) -> Result<(), Errno> {
    let parts = pager.own_parts(&pager.tables.lock());
    pager.places.register_pool(&descriptors.uffd)?;
    if let Some(gate) = &descriptors.gate {
        pager.places.register_gate(gate)?;
    }
    for part in parts {
        register_part(&descriptors.uffd, part.start.addr() as usize, part.pages as usize * PAGE_SIZE)?;
    }
    Ok(())
}

/// Looks at whether the parent has let go of the child's memory, 50 µs apart: 10 s.
const MOST_LOOKS: u32 = 200_000;

/// Until its parent has closed the descriptor that the kernel made for this memory, nobody else can register it.
fn register_part(uffd: &Uffd, addr: usize, len: usize) -> Result<(), Errno> {
    let mut looks = 0;
    loop {
        match uffd.register(addr, len, Faults::Missing) {
            Err(Errno::BUSY) if looks < MOST_LOOKS => looks += 1,
            answer => return answer,
        }
        futex::sleep(50_000);
    }
}

/// Joins `quire` again, as a child of the process that forked. A child that can't goes on by itself.
fn rejoin(pager: &'static Pager) -> Option<Client> {
    let path = pager.options.socket.as_ref()?;
    let parent = PARENT.lock().take().map(|link| link.welcome.account);
    let on_file = &mut |_: u16, fd: OwnedFd| {
        let fd: &'static OwnedFd = Box::leak(Box::new(fd));
        pager.files.lock().push(fd);
    };
    let (client, ring) = match Client::join(path, false, parent, on_file) {
        Ok(joined) => {
            pager.use_link(Link { ledger: joined.ledger, welcome: joined.welcome });
            (Some(joined.client), joined.ring)
        }
        Err(_) => (None, None),
    };
    if let Some(recorder) = &pager.recorder {
        recorder.use_ring(ring);
    }
    client
}

impl Pager {
    /// The arena, but for mappings of the kernel's that lie over it.
    pub(super) fn own_parts(&self, tables: &Tables) -> Vec<PageRange> {
        let arena = self.places.arena(super::SPACE);
        let mut start = arena.start;
        let mut parts = Vec::new();
        for (from, to) in tables.room.all_foreign().chain([(arena.end().0, arena.end().0)]) {
            if Vpn(from) > start {
                parts.push(PageRange::between(super::SPACE, start, Vpn(from)));
            }
            start = Vpn(to);
        }
        parts
    }

    /// A child does not get mappings of the kernel's that the program marked so (`MADV_DONTFORK`): their places are the
    /// arena's again.
    fn close_holes(&self) {
        let mut tables = self.tables.lock();
        let arena = self.places.arena(super::SPACE);
        let mut at = arena.start.0;
        while let Some((start, end)) = tables.room.foreign_in(at, arena.end().0) {
            close_holes_in(&mut tables, start, end);
            at = end;
        }
    }

    /// Whether the kernel tells of every fork.
    pub(super) fn sees_forks(&self) -> bool {
        self.descriptors.get().is_some_and(|d| d.gate.is_some())
    }

    /// Frees every lock that a thread of the parent may have held at the fork. None of them was in the middle
    /// of a change: the tables were at rest.
    fn forget_holders(&self) {
        self.tables.forget_holder();
        futex::forget_holder(&self.store);
        self.unevictable.forget_holder();
        futex::forget_holder(&self.files);
        futex::forget_holder(&self.usage);
        self.io.forget_holder();
    }
}

/// The same in one mapping, halving it to where the holes are.
fn close_holes_in(tables: &mut Tables, start: u64, end: u64) {
    let (addr, len) = (Vpn(start).addr() as usize, (end - start) as usize * PAGE_SIZE);
    if mmap::is_mapped(addr, len) {
        return;
    }
    let closed = mmap::reserve_free(addr, len)
        .and_then(|()| mmap::advise(addr, len, Advice::DontDump))
        .and_then(|()| mmap::no_huge_pages(addr, len));
    match closed {
        Ok(()) => tables.room.give(start, end),
        Err(_) if end - start > 1 => {
            let middle = start + (end - start) / 2;
            close_holes_in(tables, start, middle);
            close_holes_in(tables, middle, end);
        }
        Err(errno) => die!("a forked child can't keep addresses free: {errno}", errno = Cause(errno)),
    }
}
