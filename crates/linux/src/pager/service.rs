//! The thread behind the faults: it reclaims, zeroes ahead, carries out calls, and watches the handler.

use super::calls::Caller;
use super::{Pager, fork, last};
use crate::sys::Cause;
use crate::sys::clock::now_ns;
use crate::sys::urge;
use core::sync::atomic::Ordering::Relaxed;
use quire_core::{Order, PAGE_SIZE, Reclaim, Urgency};
use rustix::fd::OwnedFd;

/// How long the thread sleeps when nothing rings, in ns.
const NAP_NS: u64 = 1_000_000_000;
/// The same while this process wants more of the budget than it has.
const SHORT_NAP_NS: u64 = 20_000_000;
/// Rounds of reclaim before calls and grants are looked after again.
const ROUNDS: u32 = 64;
/// Most pages that are kept zeroed ahead of need: 512 KiB.
const MOST_ZEROED: u32 = 128;

/// In each epoch all of memory is looked at once. In ns: a second.
const EPOCH_NS: u64 = 1_000_000_000;
/// Bites of that in one round: 128 MiB.
const BITES: u32 = 64;

/// The service thread. It never returns.
pub(super) fn run(_: usize) {
    let Some(pager) = super::pager() else { return };
    let mut caller = Caller::new(pager);
    let (mut tended, mut withdraw_at, mut looked, mut check_at, mut looked_for_end) = (0, 0, 0, 0, 0);
    loop {
        let seen = pager.exchange.rung();
        pager.watchdog.service_begins();
        let more = round(pager, &mut caller, &mut tended);
        withdraw(pager, &mut caller, &mut withdraw_at);
        caller.let_go_of_ended(&mut looked);
        caller.end_charges();
        pager.check_now_and_then(&mut check_at);
        pager.watchdog.service_rests();
        if !more {
            let wanting = pager.account().is_some_and(|account| account.want_pages() > 0);
            let nap = if wanting { SHORT_NAP_NS } else { NAP_NS };
            let nap = nap.min(last::look(&mut looked_for_end));
            pager.exchange.sleep(seen, nap.min(pager.until_withdrawal(withdraw_at)));
        }
    }
}

/// One round of all duties. `tended`: the last epoch whose work is done. Whether there is more to do at once.
fn round(pager: &'static Pager, caller: &mut Caller, tended: &mut u32) -> bool {
    carry_out(pager, caller);
    pager.adjust_grant();
    let more = reclaim(pager, caller);
    if !more {
        zero_ahead(pager, caller);
        tend(pager, tended);
    }
    pager.publish(more);
    pager.watch_handler();
    more
}

/// Calls that program threads have handed over. Afterwards no real-time thread waits for one.
fn carry_out(pager: &'static Pager, caller: &mut Caller) {
    while let Some((mailbox, call, tid)) = pager.exchange.next() {
        pager.watchdog.service_beat();
        match call {
            super::Call::Freeze => fork::freeze(pager, mailbox, tid),
            call => {
                let answer = caller.execute(call);
                pager.show(&pager.tables.lock().engine);
                pager.exchange.answer(mailbox, answer);
            }
        }
    }
    if !pager.exchange.is_urgent() {
        urge::calm();
    }
}

/// While accesses are recorded: moves out what is mapped, if the program has had the interval to itself, apart from its
/// faults. Afterwards it has at least as long as that took.
fn withdraw(pager: &'static Pager, caller: &mut Caller, at: &mut u64) {
    let Some(recorder) = pager.recorder() else { return };
    let begun = now_ns();
    if begun < *at + recorder.waited() {
        return;
    }
    pager.withdraw_all(|| {
        pager.watchdog.service_beat();
        if pager.exchange.waits() {
            carry_out(pager, caller);
        }
    });
    recorder.forget_waits();
    let now = now_ns();
    *at = now + recorder.interval().unwrap_or(0).max(now - begun);
}

/// Makes room until there is enough, or calls should be looked after. Whether there is more to do.
fn reclaim(pager: &'static Pager, caller: &mut Caller) -> bool {
    if !pager.tables.lock().engine.pressed() {
        return false;
    }
    pager.open_spill();
    for _ in 0..ROUNDS {
        pager.watchdog.service_beat();
        let mut tables = pager.tables_behind();
        let elsewhere = pager.handler_evicts.load(Relaxed) != 0 && !tables.engine.starved();
        let urgency = if elsewhere { Urgency::StoreOnly } else { Urgency::Behind };
        let step = tables.engine.reclaim(&mut pager.mover(), urgency, &mut caller.work);
        pager.show(&tables.engine);
        drop(tables);
        match step {
            Reclaim::Job => caller.run_job(pager),
            Reclaim::Progress => pager.progress(),
            Reclaim::Idle | Reclaim::Waiting | Reclaim::Stuck => return false,
        }
        if pager.exchange.waits() || urge::is_urged() {
            carry_out(pager, caller);
        }
    }
    true
}

/// Zeroes frames while nobody waits for anything else.
fn zero_ahead(pager: &'static Pager, caller: &mut Caller) {
    loop {
        let mut tables = pager.tables_behind();
        let target = (tables.engine.frames_in_use() / 8).min(MOST_ZEROED);
        let order = Order::fitting(u64::from(target.max(1)));
        let begun =
            target > 0 && tables.engine.zero_ahead(&mut pager.mover(), target, order, &mut caller.work);
        drop(tables);
        if !begun {
            return;
        }
        caller.run_job(pager);
        pager.watchdog.service_beat();
        if pager.exchange.waits() || urge::is_urged() {
            carry_out(pager, caller);
        }
    }
}

/// Lets the engine shape its folios while nobody waits for anything else: a few bites in each round, until the work of
/// this epoch is done.
fn tend(pager: &'static Pager, tended: &mut u32) {
    if pager.recorder().is_some() {
        // Every folio has to stay a page.
        return;
    }
    let epoch = (now_ns() / EPOCH_NS) as u32;
    for _ in 0..BITES {
        if epoch == *tended {
            return;
        }
        let mut tables = pager.tables_behind();
        if !tables.engine.tend(&mut pager.mover(), epoch) {
            *tended = epoch;
        }
        pager.show(&tables.engine);
        drop(tables);
        if pager.exchange.waits() || urge::is_urged() {
            return;
        }
        pager.watchdog.service_beat();
    }
}

impl Pager {
    /// How long until what is mapped is to be moved out again at time `at`, in ns; for ever while nothing is mapped.
    fn until_withdrawal(&self, at: u64) -> u64 {
        match self.recorder() {
            Some(recorder) if recorder.has_mapped() => (at + recorder.waited()).saturating_sub(now_ns()),
            _ => u64::MAX,
        }
    }

    /// Gets a spill file from `quire`, if there may be one, before the first step of reclaim.
    pub(super) fn open_spill(&self) {
        if self.may_spill.load(Relaxed) == 0 || self.store.lock().figures().has_file {
            return;
        }
        let Some(client) = self.client() else { return };
        match client.need_spill() {
            Ok(Some((_, fd))) => self.use_spill_file(fd),
            Ok(None) => self.may_spill.store(0, Relaxed),
            Err(_) => {
                self.may_spill.store(0, Relaxed);
                self.tell(format_args!("no spill file to be had from quire: going on without one"));
            }
        }
    }

    /// Begins to spill to `fd`.
    pub(super) fn use_spill_file(&self, fd: OwnedFd) {
        let fd: &'static OwnedFd = Box::leak(Box::new(fd));
        let number = {
            let mut files = self.files.lock();
            files.push(fd);
            files.len() as u16 - 1
        };
        if let Err(errno) = self.io.open() {
            self.tell(format_args!("no threads for reading the spill file: {errno}", errno = Cause(errno)));
        }
        let mut tables = self.tables.lock();
        let pages = u64::from(tables.engine.grant()) * SPILL_FACTOR;
        let limit = (pages * PAGE_SIZE as u64).clamp(LEAST_SPILL, MOST_SPILL);
        self.store.lock().open_file(number, limit);
        tables.engine.try_unstorable();
    }
}

/// A spill file may come to have so many times the memory that the process was granted; the table of its
/// free space is in proportion. In bytes at least 4 GiB and at most 1 TiB.
const SPILL_FACTOR: u64 = 256;
const LEAST_SPILL: u64 = 4 << 30;
const MOST_SPILL: u64 = 1 << 40;
