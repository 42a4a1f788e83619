//! A process sleeps until memory is short: its memory is the kernel's, nothing is registered, and no fault comes to us.
//!
//! What it needs to know for the day on which it wakes is where its memory lies. So the hooks put it into addresses that
//! were planned as an arena, and the kernel has the rest ([`crate::own_maps`]). Each call that changes mappings is *held*
//! meanwhile: it is counted while it is under way, with signals blocked. A process of some size joins `quire` on a thread of
//! its own, which waits there to be woken. Waking waits until no call is under way, keeps new ones waiting, takes what is
//! mapped and present over (`before`), and lets the calls go on: to the pager.

use super::calls::HEAP_FRACTION;
use super::{ARENA_END, ARENA_START, HERE, Options, STACK};
use crate::control::client::Client;
use crate::control::ledger::Ledger;
use crate::places::Places;
use crate::sys::clock::now_ns;
use crate::sys::futex::{self, Scope};
use crate::sys::sched::{self, SignalsBlocked};
use crate::sys::thread;
use crate::unevictable::Unevictable;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use quire_core::PAGE_SIZE;
use rustix::process::geteuid;
use std::boxed::Box;

/// Words of [`HERE`]: what a process is, and the calls under way.
const STATE: usize = 3;
const UNDER_WAY: usize = 4;

/// Managed, or not our concern. What a child finds that nobody announced.
const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;
/// About to wake: calls wait.
const WAKING: u32 = 2;

/// The arena that is planned, in bytes.
static START: AtomicUsize = AtomicUsize::new(0);
static END: AtomicUsize = AtomicUsize::new(0);
/// The break; 0 while it was not asked for.
static BREAK: AtomicUsize = AtomicUsize::new(0);
/// Where the next new mapping is to go.
static NEXT: AtomicUsize = AtomicUsize::new(0);
/// What the kernel touches when a thread dies.
static KEPT: Unevictable = Unevictable::new();
/// The program has said something about its memory that only a close look finds again.
static MARKED: AtomicU32 = AtomicU32::new(0);

/// It has locked all that it will map.
static LOCKED: AtomicU32 = AtomicU32::new(0);

/// Bytes that a process has mapped so far, and from how many on it joins.
static MAPPED: AtomicUsize = AtomicUsize::new(0);
/// From so many bytes on, mapped by calls that come to us, a process joins `quire`.
pub const JOINS_AT: usize = 4 << 20;
/// The process, by its id.
static OWNER: AtomicU32 = AtomicU32::new(0);
/// 1 when it has joined, or never will.
static DECIDED: AtomicU32 = AtomicU32::new(0);
/// A thread of this process joins, or has joined.
static JOINS: AtomicBool = AtomicBool::new(false);

/// The thread that has joined, by its id; 0 if none.
static JOINED: AtomicU32 = AtomicU32::new(0);

/// Mappings of at least this many bytes begin at a multiple of it, as the kernel has it.
const LARGE: usize = 2 << 20;

fn state() -> &'static AtomicU32 {
    HERE.half(STATE)
}

fn under_way() -> &'static AtomicU32 {
    HERE.half(UNDER_WAY)
}

/// Sends the process to sleep, at its start. Whether it does: else it is to be woken at once.
pub fn begin(options: Options) -> bool {
    let planned = Places::plan();
    if planned.is_empty() || HERE.make().is_err() {
        return false;
    }
    super::BOOT.set(Box::leak(Box::new(super::Boot::new(options, super::Beginning::Asleep))));
    START.store(planned.base(), Ordering::Relaxed);
    END.store(planned.base() + planned.len(), Ordering::Relaxed);
    NEXT.store(heap().end, Ordering::Relaxed);
    OWNER.store(super::own_pid(), Ordering::Relaxed);
    state().store(ASLEEP, Ordering::Release);
    true
}

/// The arena that is planned, while the process sleeps: it begins and ends at 0 otherwise.
#[inline]
pub fn planned_arena() -> Range<usize> {
    if is_asleep() { arena() } else { 0..0 }
}

fn arena() -> Range<usize> {
    START.load(Ordering::Relaxed)..END.load(Ordering::Relaxed)
}

/// The part of it for the break.
fn heap() -> Range<usize> {
    let Range { start, end } = arena();
    start..start + (end - start) / HEAP_FRACTION as usize
}

/// Whether the process sleeps, or is about to wake.
#[inline]
pub fn is_asleep() -> bool {
    state().load(Ordering::Relaxed) != AWAKE
}

/// Waits until the process has woken, if it is about to. For threads that hold no call.
pub fn wait_while_waking() {
    while state().load(Ordering::SeqCst) == WAKING {
        futex::wait(state(), WAKING, None, Scope::Process);
    }
}

/// A call of a process that sleeps. While there is one, it does not wake.
#[derive(Debug)]
pub struct Held {
    /// Ends after the hold does.
    _blocked: SignalsBlocked,
}

/// Holds the calling thread's call, if the process sleeps. Where it is about to wake, waits until it has.
#[inline]
pub fn hold() -> Option<Held> {
    if is_asleep() { hold_asleep() } else { None }
}

fn hold_asleep() -> Option<Held> {
    // A handler that made a call in the middle of this one would wait for the end of both.
    let blocked = SignalsBlocked::new();
    loop {
        under_way().fetch_add(1, Ordering::SeqCst);
        match state().load(Ordering::SeqCst) {
            ASLEEP => return Some(Held { _blocked: blocked }),
            WAKING => {
                let_go();
                wait_while_waking();
            }
            _ => {
                let_go();
                return None;
            }
        }
    }
}

fn let_go() {
    if under_way().fetch_sub(1, Ordering::SeqCst) == 1 && state().load(Ordering::SeqCst) == WAKING {
        // Waking fails only for a bad address, and the word is ours.
        let _ = futex::wake(under_way(), 1, Scope::Process);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let_go();
    }
}

impl Held {
    /// Where `len` bytes of new memory should go; 0: wherever the kernel likes.
    pub fn place(&self, len: usize) -> usize {
        let Some(pages) = len.checked_next_multiple_of(PAGE_SIZE) else { return 0 };
        let align = if pages >= LARGE { LARGE } else { PAGE_SIZE };
        let end = END.load(Ordering::Relaxed);
        let mut next = NEXT.load(Ordering::Relaxed);
        loop {
            let at = next.next_multiple_of(align);
            if pages > end.saturating_sub(at) {
                return 0;
            }
            match NEXT.compare_exchange_weak(next, at + pages, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return at,
                Err(now) => next = now,
            }
        }
    }

    /// These bytes have been mapped. The process may be large enough now to join.
    pub fn mapped(&self, len: usize) {
        let before = MAPPED.fetch_add(len, Ordering::Relaxed);
        if before.saturating_add(len) >= JOINS_AT {
            join();
        }
    }

    /// These can be written, perhaps only now: to reserve addresses is to map nothing. The same memory may come here again and
    /// again, and chromium's zygote, in which there must be no other thread, does this with some; so it counts for a part.
    pub fn made_writable(&self, len: usize) {
        self.mapped(len / 16);
    }

    /// These have been unmapped, or are about to be replaced.
    pub fn unmapped(&self, range: &Range<usize>) {
        KEPT.forget(range.clone());
        let end = range.end.next_multiple_of(PAGE_SIZE);
        // The last one: its place is the next one's.
        let _ = NEXT.compare_exchange(end, range.start, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// What lay in the first range lies at `to` now.
    pub fn moved(&self, from: Range<usize>, to: usize) {
        KEPT.moved(from, to);
    }

    /// Addresses for the break, and where it is.
    pub fn heap(&self) -> (Range<usize>, usize) {
        let (range, at) = (heap(), BREAK.load(Ordering::Relaxed));
        let now = if at == 0 { range.start } else { at };
        (range, now)
    }

    /// The break is there.
    pub fn set_break(&self, to: usize) {
        BREAK.store(to, Ordering::Relaxed);
    }

    /// All memory is locked from now on, or no longer: nothing of it could be moved out.
    pub fn locked(&self, all: bool) {
        LOCKED.store(u32::from(all), Ordering::Relaxed);
    }

    /// The program has locked memory, or told the kernel what to do with it.
    pub fn marked(&self) {
        MARKED.store(1, Ordering::Relaxed);
    }
}

/// Keeps an object in mind that the kernel touches when a thread dies; see [`super::Call::Keep`]. False where the process is
/// awake.
pub fn keep(addr: usize, len: usize, owner: u32) -> bool {
    let Some(_held) = hold() else { return false };
    KEPT.add(addr, len, owner);
    true
}

/// Such an object is no more. False where the process is awake.
pub fn forget(addr: usize, len: usize) -> bool {
    let Some(_held) = hold() else { return false };
    KEPT.remove(addr, len);
    true
}

/// Leaves a fork held until [`in_parent`], or [`in_child`]. Signals, which the caller has blocked too, stay so.
pub fn hold_for_fork(held: Held) {
    KEPT.hold();
    core::mem::forget(held);
}

/// The fork is over.
pub fn in_parent() {
    KEPT.let_go();
    let_go();
}

/// In a child of a process that sleeps. It has all of its memory, shares it with its parent, and never wakes.
pub fn in_child() {
    KEPT.forget_holder();
    thread::forget_all();
    DECIDED.store(1, Ordering::Relaxed);
    JOINS.store(false, Ordering::Relaxed);
    state().store(ASLEEP, Ordering::Release);
}

/// Begins to join `quire`, once, whatever the size of the process. Nobody waits for it.
#[cold]
pub fn join() {
    // The child of a vfork has this memory, and is another process.
    if OWNER.load(Ordering::Relaxed) == super::own_pid() && DECIDED.swap(1, Ordering::Relaxed) == 0 {
        JOINS.store(true, Ordering::Release);
        match thread::spawn("quire-fault", STACK, super::boot_thread, 0) {
            Ok(thread) => JOINED.store(thread.tid(), Ordering::Relaxed),
            // Where no thread can be had, the process can't be managed.
            Err(_) => JOINS.store(false, Ordering::Release),
        }
    }
}

/// From so many bytes on a mapping is looked at against the headroom.
const MUCH: usize = 8 << 20;
/// How long such a call waits for `quire` at the most, in ns.
const SETTLING_NS: u64 = 200_000_000;
/// It has been done once.
static SETTLED: AtomicBool = AtomicBool::new(false);

/// So many bytes have just been mapped that can be written. What there is no headroom for could be touched faster than anybody
/// looks: a process that maps that much at once is woken before it goes on.
pub fn settle(bytes: usize) {
    if bytes >= MUCH && joins() && !SETTLED.load(Ordering::Relaxed) {
        settle_much(bytes);
    }
}

#[cold]
fn settle_much(bytes: usize) {
    if OWNER.load(Ordering::Relaxed) != super::own_pid() || super::fork::is_filtered() {
        return;
    }
    let until = now_ns() + SETTLING_NS;
    let Some(boot) = super::BOOT.get() else { return };
    let ledger = if boot.joined.wait_for(SETTLING_NS) { boot.ledger.get() } else { None };
    let lacks_room = |ledger: &Ledger| {
        (bytes / PAGE_SIZE) as u64 > ledger.budget_pages().saturating_sub(ledger.taken_pages())
    };
    if ledger.is_some_and(|ledger| !lacks_room(ledger)) {
        return;
    }
    // Whatever comes of it, nobody waits for this again.
    SETTLED.store(true, Ordering::Relaxed);
    let path = boot.options.socket.as_ref().filter(|_| ledger.is_some());
    if path.is_none_or(|path| Client::ask_to_wake(path).is_err()) {
        return;
    }
    while is_asleep() && now_ns() < until {
        let now = state().load(Ordering::SeqCst);
        futex::wait(state(), now, Some(until.saturating_sub(now_ns()).max(1)), Scope::Process);
    }
}

/// How long to wait until the process has joined, in ns.
const JOINING_NS: u64 = 2_000_000_000;

/// The program is about to give rights away. What it takes to join and to wake is got while it can be had. Only root has any
/// that matter.
pub fn before_rights_go() {
    let is_free = !SINGLE.load(Ordering::Relaxed) && !super::fork::is_filtered();
    if is_asleep() && is_free && OWNER.load(Ordering::Relaxed) == super::own_pid() && geteuid().is_root() {
        join();
        if let Some(boot) = super::BOOT.get().filter(|_| joins()) {
            boot.joined.wait_for(JOINING_NS);
        }
    }
}

/// It has asked for what the kernel allows to a process of one thread only, and may do so again.
static SINGLE: AtomicBool = AtomicBool::new(false);
/// How long to wait for that thread's end, and how often to look, in ns.
const LEAVING_NS: u64 = 2_000_000_000;
const LOOK_NS: u64 = 100_000;

/// Before a call that the kernel allows to a process of one thread only: a process that has joined and sleeps tells `quire` by
/// `tell`, which ends the connection and so the thread of ours. The process sleeps on for good.
pub fn be_single(tell: impl FnOnce()) {
    SINGLE.store(true, Ordering::Relaxed);
    let joined = JOINED.load(Ordering::Relaxed);
    let is_there = || is_asleep() && sched::thread_lives(joined);
    // Behind a filter nobody could be told.
    if joined == 0
        || super::fork::is_filtered()
        || OWNER.load(Ordering::Relaxed) != super::own_pid()
        || !is_there()
    {
        return;
    }
    tell();
    let until = now_ns() + LEAVING_NS;
    while is_there() && now_ns() < until {
        futex::sleep(LOOK_NS);
    }
}

/// Whether the process joins, or has joined.
pub(super) fn joins() -> bool {
    JOINS.load(Ordering::Acquire)
}

/// Whether all memory is locked.
pub(super) fn is_locked() -> bool {
    LOCKED.load(Ordering::Relaxed) != 0
}

/// What is known of a process that is about to wake.
#[derive(Debug)]
pub(super) struct Slept {
    /// The arena.
    pub(super) arena: Range<usize>,
    /// The part for the break, and where it is, if the program has asked for it.
    pub(super) heap: Option<(Range<usize>, usize)>,
    /// Whether the program has said something about its memory.
    pub(super) marked: bool,
}

/// How long one call may take before waking is put off, in ns.
const PATIENCE_NS: u64 = 100_000_000;

/// Keeps calls waiting, and waits until none is under way. `None`: one takes long, and all is as before.
pub(super) fn still() -> Option<Slept> {
    state().store(WAKING, Ordering::SeqCst);
    loop {
        let now = under_way().load(Ordering::SeqCst);
        if now == 0 {
            break;
        }
        if futex::wait(under_way(), now, Some(PATIENCE_NS), Scope::Process) == futex::Woken::TimedOut {
            go_on(ASLEEP);
            return None;
        }
    }
    let at = BREAK.load(Ordering::Relaxed);
    Some(Slept {
        arena: arena(),
        heap: (at != 0).then(|| (heap(), at)),
        marked: MARKED.load(Ordering::Relaxed) != 0,
    })
}

fn go_on(to: u32) {
    state().store(to, Ordering::SeqCst);
    // Waking fails only for a bad address, and the word is ours.
    let _ = futex::wake(state(), u32::MAX, Scope::Process);
}

/// The process is awake, and calls go on.
pub(super) fn awake(pager: &super::Pager) {
    KEPT.pieces(|addr, owner| pager.unevictable.add(addr, 1, owner));
    go_on(AWAKE);
}

/// It could not be woken, and never will be: its memory is the kernel's.
pub(super) fn give_up() {
    debug_assert!(HERE.word(ARENA_START).load(Ordering::Relaxed) == 0);
    debug_assert!(HERE.word(ARENA_END).load(Ordering::Relaxed) == 0);
    go_on(ASLEEP);
}
