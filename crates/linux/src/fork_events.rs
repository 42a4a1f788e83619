//! Forks that the kernel tells of, as messages of the userfaultfd.
//!
//! Whoever reads such a message gets a descriptor for the child's memory. The child has the pages that were present in its
//! parent, and holes where the parent's contents are elsewhere. Until the message is read nothing can be moved or copied, so
//! that what is present stays as it was at the fork. It is read under the engine's lock, by the handler or by a verb that
//! stands still for it. From then until the tables are looked through for the child ([`pager`](crate::pager)), what a verb
//! brings to the program is kept here for the child as well: it is in neither of the tables' states then.

use crate::die;
use crate::places::Places;
use crate::sys::clock::now_ns;
use crate::sys::futex::{self, Lock};
use crate::sys::uffd::{Event, Uffd, UffdMsg};
use crate::sys::{Cause, Errno, sched};
use core::sync::atomic::{AtomicU32, Ordering};
use quire_core::addr::{PAGE_SIZE, Vpn};
use std::collections::BTreeMap;

/// Children for which there is room without allocating: nobody may do that while another thread forks.
const CHILDREN: usize = 64;
/// How long a verb stands still at the most, in ns.
const TIMEOUT_NS: u64 = 10_000_000_000;
/// Looks at the messages before a verb that stands still sleeps between two, and how long, in ns.
const LOOKS_AWAKE: u32 = 3;
const NAP_NS: u64 = 20_000;

/// The children whose memory is not whole yet.
#[derive(Debug)]
pub struct ForkEvents {
    waiting: AtomicU32,
    children: Lock<Children>,
    /// 1 where the kernel does not tell, once something was moved out: children do not get the arena.
    withheld: AtomicU32,
}

/// What is known of them.
#[derive(Debug)]
pub(crate) struct Children {
    /// The descriptors of their memory.
    pub(crate) memories: Vec<Uffd>,
    /// What was brought to the parent since the first of them was made.
    pub(crate) brought: BTreeMap<Vpn, Box<[u8; PAGE_SIZE]>>,
}

impl ForkEvents {
    /// No children yet.
    pub fn new() -> ForkEvents {
        let children = Children { memories: Vec::with_capacity(CHILDREN), brought: BTreeMap::new() };
        ForkEvents { waiting: AtomicU32::new(0), children: Lock::new(children), withheld: AtomicU32::new(0) }
    }

    /// How many children wait for the rest of their memory.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Where the kernel does not tell of forks, and before the first page is moved out. A child that nobody announced has no
    /// arena from then on: it ends by SIGSEGV where it would read zeroes.
    pub(crate) fn withhold(&self, places: &Places) {
        if self.withheld.swap(1, Ordering::Relaxed) == 0 {
            places.withhold();
        }
    }

    /// Whether that has been done.
    pub(crate) fn withholds(&self) -> bool {
        self.withheld.load(Ordering::Relaxed) != 0
    }

    /// Takes the children out of messages. Under the engine's lock.
    pub fn collect(&self, messages: &mut [UffdMsg]) {
        for memory in messages.iter_mut().filter_map(UffdMsg::take_child) {
            let mut children = self.children.lock();
            children.memories.push(memory);
            self.waiting.store(children.memories.len() as u32, Ordering::Relaxed);
        }
    }

    /// Reads the messages that are there. A fault is only woken: it comes again. Under the engine's lock.
    pub fn drain(&self, uffd: &Uffd) -> usize {
        let mut messages = [UffdMsg::EMPTY; 8];
        let count = read(uffd, &mut messages);
        self.collect(&mut messages[..count]);
        for message in &messages[..count] {
            if let Event::Fault { addr, .. } = message.event()
                && let Err(errno) = uffd.wake(addr, PAGE_SIZE)
            {
                die!("a thread that waits at {addr:#x} can't be woken: {errno}", errno = Cause(errno));
            }
        }
        count
    }

    /// Waits until nothing stands in the way of moving and copying, reading what there is to read.
    pub(crate) fn wait_for_forks(&self, uffd: &Uffd) {
        let mut wait = Wait::begin();
        while uffd.is_forking() && wait.goes_on(self, uffd) {}
    }

    /// Keeps page `vpn` as it is brought to the parent, if it is the first time. Under the engine's lock.
    pub(crate) fn keep(&self, vpn: Vpn, contents: &[u8; PAGE_SIZE]) {
        self.children.lock().brought.entry(vpn).or_insert_with(|| Box::new(*contents));
    }

    /// Takes what is known of the children that wait.
    pub(crate) fn take(&self) -> Children {
        let mut children = self.children.lock();
        self.waiting.store(0, Ordering::Relaxed);
        let memories = children.memories.drain(..).collect();
        Children { memories, brought: core::mem::take(&mut children.brought) }
    }

    /// In a forked child, on its only thread. The descriptors are in its parent.
    pub(crate) fn forget(&self) {
        futex::forget_holder(&self.children);
        self.children.lock().memories.drain(..).for_each(core::mem::forget);
        self.children.lock().brought.clear();
        self.waiting.store(0, Ordering::Relaxed);
    }
}

impl Default for ForkEvents {
    fn default() -> ForkEvents {
        ForkEvents::new()
    }
}

/// Standing still: a fork is under way.
pub(crate) struct Wait {
    since: u64,
    looks: u32,
}

impl Wait {
    pub(crate) fn begin() -> Wait {
        Wait { since: 0, looks: 0 }
    }

    /// Reads what there is to read, or sleeps a little: the thread that forks may need this processor. Whether to try again.
    pub(crate) fn goes_on(&mut self, events: &ForkEvents, uffd: &Uffd) -> bool {
        if events.drain(uffd) > 0 {
            return true;
        }
        self.looks += 1;
        if self.looks <= LOOKS_AWAKE {
            return true;
        }
        let now = now_ns();
        if self.since == 0 {
            self.since = now;
        }
        futex::sleep(NAP_NS);
        now - self.since < TIMEOUT_NS
    }
}

/// Reads the messages that are there. One of a fork takes a descriptor, which the limit of the program, whose files these
/// are not, may have no room for. Without the messages nobody who waits for memory would ever go on. On the pager's threads:
/// they have a table of their own, and in it the program's standard input, which they do without.
pub(crate) fn read(uffd: &Uffd, messages: &mut [UffdMsg]) -> usize {
    let read = match uffd.read_msgs(messages) {
        Err(Errno::MFILE) => {
            let _ = sched::close_range(0, 0);
            sched::beyond_descriptor_limit(|| uffd.read_msgs(messages))
        }
        read => read,
    };
    read.unwrap_or_else(|errno| die!("messages of page faults can't be read: {errno}", errno = Cause(errno)))
}
