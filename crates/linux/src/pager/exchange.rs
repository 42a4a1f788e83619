//! Where a thread of the program hands a call to the service thread, and waits for its answer.
//!
//! The arguments travel through Quire's own memory, since the caller's stack may be managed. The caller
//! sleeps on a word that is Quire's too.

use super::calls::Call;
use crate::control::ledger;
use crate::sys::futex::{self, Lock, Scope, Woken};
use crate::sys::leaked::Leaked;
use crate::sys::sched;
use crate::sys::urge::{self, Lent};
use core::sync::atomic::{AtomicU32, Ordering};

const MAILBOXES: usize = 64;

const FREE: u32 = 0;
const CLAIMED: u32 = 1;
const POSTED: u32 = 2;
const DONE: u32 = 3;

/// What the service thread has heard when it looks for work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rung {
    bell: u32,
    door: u32,
}

#[derive(Debug)]
struct Mailbox {
    word: AtomicU32,
    /// The caller, by its id, if it is a real-time thread; else 0.
    urgent: AtomicU32,
    body: Lock<Option<(Call, u32)>>,
    answer: Lock<Result<usize, i32>>,
}

/// The mailboxes, and what wakes the service thread.
#[derive(Debug)]
pub(super) struct Exchange {
    mailboxes: [Mailbox; MAILBOXES],
    bell: AtomicU32,
    /// The process's account in the ledger, where there is one. Its doorbell, which `quire` rings too, is what the
    /// service thread sleeps on then; otherwise it is the bell.
    door: Leaked<ledger::Account>,
    /// The service thread sleeps, or is about to.
    sleeping: AtomicU32,
}

impl Exchange {
    pub(super) const fn new() -> Exchange {
        let mailboxes = [const {
            Mailbox {
                word: AtomicU32::new(FREE),
                urgent: AtomicU32::new(0),
                body: Lock::new(None),
                answer: Lock::new(Ok(0)),
            }
        }; MAILBOXES];
        Exchange { mailboxes, bell: AtomicU32::new(0), door: Leaked::empty(), sleeping: AtomicU32::new(0) }
    }

    /// From now on the doorbell of `account` wakes the service thread.
    pub(super) fn listen_at(&self, account: &'static ledger::Account) {
        self.door.set(account);
    }

    /// The bell alone wakes it.
    pub(super) fn listen_nowhere(&self) {
        self.door.clear();
    }

    /// Hands over `call` of thread `tid` and waits for the answer.
    pub(super) fn ask(&self, call: Call, tid: u32) -> Result<usize, i32> {
        let mailbox = self.claim(tid);
        let urgent = sched::is_real_time(0);
        mailbox.urgent.store(if urgent { tid } else { 0 }, Ordering::Relaxed);
        *mailbox.body.lock() = Some((call, tid));
        mailbox.word.store(POSTED, Ordering::Release);
        if urgent {
            urge::urge_service();
        }
        self.ring();
        let timeout = urgent.then_some(urge::LEND_AFTER_NS);
        while mailbox.word.load(Ordering::Acquire) != DONE {
            if futex::wait(&mailbox.word, POSTED, timeout, Scope::Process) == Woken::TimedOut {
                // It may have calmed down at the moment in which it was urged.
                urge::urge_service();
            }
        }
        let answer = *mailbox.answer.lock();
        mailbox.word.store(FREE, Ordering::Release);
        answer
    }

    fn claim(&self, tid: u32) -> &Mailbox {
        let mut at = tid as usize;
        loop {
            let mailbox = &self.mailboxes[at % MAILBOXES];
            let order = (Ordering::Acquire, Ordering::Relaxed);
            if mailbox.word.compare_exchange(FREE, CLAIMED, order.0, order.1).is_ok() {
                return mailbox;
            }
            at += 1;
            if at % MAILBOXES == tid as usize % MAILBOXES {
                // More threads ask at once than there are mailboxes: the first to be done makes room.
                futex::wait(
                    &mailbox.word,
                    mailbox.word.load(Ordering::Relaxed),
                    Some(1_000_000),
                    Scope::Process,
                );
            }
        }
    }

    /// Whether a call waits.
    pub(super) fn waits(&self) -> bool {
        self.mailboxes.iter().any(|mailbox| mailbox.word.load(Ordering::Relaxed) == POSTED)
    }

    /// Calls that wait, for the service thread or for its answer.
    pub(super) fn waiting(&self) -> usize {
        self.mailboxes.iter().filter(|mailbox| mailbox.word.load(Ordering::Relaxed) == POSTED).count()
    }

    /// Whether a call of a real-time thread waits, or is being carried out.
    pub(super) fn is_urgent(&self) -> bool {
        let urgent = |mailbox: &Mailbox| mailbox.urgent.load(Ordering::Relaxed) != 0;
        self.mailboxes.iter().any(|mailbox| mailbox.word.load(Ordering::Acquire) == POSTED && urgent(mailbox))
    }

    /// The next call that waits for the service thread: its mailbox, the call, the thread that asks.
    pub(super) fn next(&self) -> Option<(usize, Call, u32)> {
        self.mailboxes.iter().enumerate().find_map(|(i, mailbox)| {
            if mailbox.word.load(Ordering::Acquire) != POSTED {
                return None;
            }
            mailbox.body.lock().take().map(|(call, tid)| (i, call, tid))
        })
    }

    pub(super) fn answer(&self, mailbox: usize, answer: Result<usize, i32>) {
        let mailbox = &self.mailboxes[mailbox];
        *mailbox.answer.lock() = answer;
        let _turn = match mailbox.urgent.load(Ordering::Relaxed) {
            0 => None,
            tid => Lent::for_the_wake(tid),
        };
        mailbox.word.store(DONE, Ordering::Release);
        // Waking fails only for a bad address, and the word is ours.
        let _ = futex::wake(&mailbox.word, 1, Scope::Process);
    }

    /// Tells the service thread that there is something to do.
    pub(super) fn ring(&self) {
        self.bell.fetch_add(1, Ordering::SeqCst);
        if self.sleeping.load(Ordering::SeqCst) != 0 {
            match self.door.get() {
                Some(account) => account.ring(),
                // Waking fails only for a bad address, and the word is ours.
                None => _ = futex::wake(&self.bell, 1, Scope::Process),
            }
        }
    }

    /// Whether the service thread sleeps, or is about to.
    pub(super) fn is_resting(&self) -> bool {
        self.sleeping.load(Ordering::Relaxed) != 0
    }

    /// What has been rung so far, for [`Exchange::sleep`].
    pub(super) fn rung(&self) -> Rung {
        Rung {
            bell: self.bell.load(Ordering::Acquire),
            door: self.door.get().map_or(0, ledger::Account::doorbell),
        }
    }

    /// Sleeps until somebody has rung since `seen`, or for `timeout_ns` nanoseconds.
    pub(super) fn sleep(&self, seen: Rung, timeout_ns: u64) {
        self.sleeping.store(1, Ordering::SeqCst);
        match self.door.get() {
            Some(account) if self.bell.load(Ordering::SeqCst) == seen.bell => {
                account.wait(seen.door, timeout_ns);
            }
            Some(_) => {}
            None => _ = futex::wait(&self.bell, seen.bell, Some(timeout_ns), Scope::Process),
        }
        self.sleeping.store(0, Ordering::SeqCst);
    }

    /// In a forked child nobody asks yet. The one thread there is has the answers to none of these.
    pub(super) fn forget(&self) {
        for mailbox in &self.mailboxes {
            // Other threads of the parent go on asking while one forks.
            futex::forget_holder(&mailbox.body);
            futex::forget_holder(&mailbox.answer);
            mailbox.word.store(FREE, Ordering::Relaxed);
        }
        self.sleeping.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    /// What `call` comes to. It runs in a thread of its own: one that nobody wakes fails the test instead of waiting for ever.
    fn in_time<T: Send + 'static>(what: &str, call: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, end) = mpsc::channel();
        thread::spawn(move || done.send(call()));
        let Ok(result) = end.recv_timeout(Duration::from_secs(20)) else { panic!("{what} waits for ever") };
        result
    }

    /// An exchange whose calls are answered by a thread: each with the length that it asks for.
    fn served() -> &'static Exchange {
        let exchange: &Exchange = Box::leak(Box::new(Exchange::new()));
        thread::spawn(|| {
            loop {
                let seen = exchange.rung();
                while let Some((mailbox, call, tid)) = exchange.next() {
                    let Call::Map { len, .. } = call else { panic!("{call:?}") };
                    // The caller is asleep by then.
                    thread::sleep(Duration::from_millis(2));
                    exchange.answer(mailbox, if tid == 0 { Err(libc::EINVAL) } else { Ok(len) });
                }
                exchange.sleep(seen, 60_000_000_000);
            }
        });
        exchange
    }

    fn map(len: usize) -> Call {
        Call::Map { len, prot: 0, flags: 0 }
    }

    #[test]
    fn who_asks_is_woken_by_the_answer_and_the_service_thread_by_the_call() {
        let exchange = served();
        for round in 1..20 {
            // The service thread sleeps again: only a ring wakes it.
            thread::sleep(Duration::from_millis(3));
            assert_eq!(in_time("a call", move || exchange.ask(map(round), 1)), Ok(round));
        }
        assert_eq!(in_time("a call", || exchange.ask(map(7), 0)), Err(libc::EINVAL));
        assert_eq!((exchange.waiting(), exchange.waits(), exchange.is_urgent()), (0, false, false));
    }

    #[test]
    fn more_threads_than_mailboxes_are_all_answered() {
        let exchange = served();
        let threads: Vec<_> = (1..2 * MAILBOXES as u32)
            .map(|tid| thread::spawn(move || exchange.ask(map(tid as usize), tid)))
            .collect();
        let answers = in_time("one of many calls", || {
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(answers.into_iter().eq((1..2 * MAILBOXES).map(Ok)));
    }

    #[test]
    fn a_forked_child_has_no_calls() {
        let exchange = Exchange::new();
        exchange.mailboxes[3].word.store(POSTED, Ordering::Relaxed);
        *exchange.mailboxes[3].body.lock() = Some((map(1), 9));
        assert_eq!((exchange.waits(), exchange.waiting()), (true, 1));
        exchange.forget();
        assert_eq!((exchange.waits(), exchange.waiting(), exchange.next().is_none()), (false, 0, true));
    }
}
