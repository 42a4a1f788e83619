//! Where a thread of the program hands a call to the service thread, and waits for its answer.
//!
//! The arguments travel through Quire's own memory, since the caller's stack may be managed. The caller
//! sleeps on a word that is Quire's too.

use super::calls::Call;
use crate::sys::futex::{self, Lock, Scope};
use core::sync::atomic::{AtomicU32, Ordering};

const SLOTS: usize = 64;

const FREE: u32 = 0;
const CLAIMED: u32 = 1;
const POSTED: u32 = 2;
const DONE: u32 = 3;

#[derive(Debug)]
struct Slot {
    word: AtomicU32,
    body: Lock<Option<(Call, u32)>>,
    answer: Lock<Result<usize, i32>>,
}

/// The slots, and the word that the service thread sleeps on.
#[derive(Debug)]
pub(super) struct Exchange {
    slots: [Slot; SLOTS],
    bell: AtomicU32,
    /// The service thread sleeps, or is about to.
    sleeping: AtomicU32,
}

impl Exchange {
    pub(super) const fn new() -> Exchange {
        let slots = [const { Slot { word: AtomicU32::new(FREE), body: Lock::new(None), answer: Lock::new(Ok(0)) } };
            SLOTS];
        Exchange { slots, bell: AtomicU32::new(0), sleeping: AtomicU32::new(0) }
    }

    /// Hands over `call` of thread `tid` and waits for the answer.
    pub(super) fn ask(&self, call: Call, tid: u32) -> Result<usize, i32> {
        let slot = self.claim(tid);
        *slot.body.lock() = Some((call, tid));
        slot.word.store(POSTED, Ordering::Release);
        self.ring();
        while slot.word.load(Ordering::Acquire) != DONE {
            futex::wait(&slot.word, POSTED, None, Scope::Process);
        }
        let answer = *slot.answer.lock();
        slot.word.store(FREE, Ordering::Release);
        answer
    }

    fn claim(&self, tid: u32) -> &Slot {
        let mut at = tid as usize;
        loop {
            let slot = &self.slots[at % SLOTS];
            let order = (Ordering::Acquire, Ordering::Relaxed);
            if slot.word.compare_exchange(FREE, CLAIMED, order.0, order.1).is_ok() {
                return slot;
            }
            at += 1;
            if at % SLOTS == tid as usize % SLOTS {
                // More threads ask at once than there are slots: the first to be done makes room.
                futex::wait(&slot.word, slot.word.load(Ordering::Relaxed), Some(1_000_000), Scope::Process);
            }
        }
    }

    /// Whether a call waits.
    pub(super) fn waits(&self) -> bool {
        self.slots.iter().any(|slot| slot.word.load(Ordering::Relaxed) == POSTED)
    }

    /// The next call that waits for the service thread: its slot, the call, the thread that asks.
    pub(super) fn next(&self) -> Option<(usize, Call, u32)> {
        self.slots.iter().enumerate().find_map(|(i, slot)| {
            if slot.word.load(Ordering::Acquire) != POSTED {
                return None;
            }
            slot.body.lock().take().map(|(call, tid)| (i, call, tid))
        })
    }

    pub(super) fn answer(&self, slot: usize, answer: Result<usize, i32>) {
        let slot = &self.slots[slot];
        *slot.answer.lock() = answer;
        slot.word.store(DONE, Ordering::Release);
        // Waking fails only for a bad address, and the word is ours.
        let _ = futex::wake(&slot.word, 1, Scope::Process);
    }

    /// Tells the service thread that there is something to do.
    pub(super) fn ring(&self) {
        self.bell.fetch_add(1, Ordering::AcqRel);
        if self.sleeping.load(Ordering::Acquire) != 0 {
            let _ = futex::wake(&self.bell, 1, Scope::Process);
        }
    }

    /// Whether the service thread sleeps, or is about to.
    pub(super) fn is_resting(&self) -> bool {
        self.sleeping.load(Ordering::Relaxed) != 0
    }

    pub(super) fn bell(&self) -> u32 {
        self.bell.load(Ordering::Acquire)
    }

    /// Sleeps until the bell has rung since `seen`, or for `timeout_ns` nanoseconds.
    pub(super) fn sleep(&self, seen: u32, timeout_ns: u64) {
        self.sleeping.store(1, Ordering::Release);
        futex::wait(&self.bell, seen, Some(timeout_ns), Scope::Process);
        self.sleeping.store(0, Ordering::Release);
    }

    /// In a forked child nobody asks yet. The one thread there is has the answers to none of these.
    pub(super) fn forget(&self) {
        for slot in &self.slots {
            // Other threads of the parent go on asking while one forks.
            futex::forget_holder(&slot.body);
            futex::forget_holder(&slot.answer);
            slot.word.store(FREE, Ordering::Relaxed);
        }
        self.sleeping.store(0, Ordering::Relaxed);
    }
}
