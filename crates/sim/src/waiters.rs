//! Threads that wait on a hole, and the messages that tell the pager of them.
//!
//! A message may come late: it was read, and then the page was filled on behalf of another thread, or the thread
//! saw the page in time and never slept. So a message says only that somebody touched the page.

use quire_core::{PageRange, Space, Vpn};

/// A fault as the pager reads it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Message {
    /// The address space.
    pub space: Space,
    /// The page touched.
    pub vpn: Vpn,
    /// Whether the touch was a write.
    pub write: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Waiter {
    thread: u8,
    message: Message,
    read: bool,
}

/// The threads that wait.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Waiters {
    waiting: Vec<Waiter>,
    woken: Vec<u8>,
    /// What those waited for who were woken and found, at that instant, nothing that would have let them go on.
    pub in_vain: Vec<Message>,
}

impl Waiters {
    /// Thread `thread` touched a hole: it waits, and its message can be read.
    pub fn block(&mut self, thread: u8, message: Message) {
        self.waiting.push(Waiter { thread, message, read: false });
    }

    /// Whether `thread` waits.
    pub fn waits(&self, thread: u8) -> bool {
        self.waiting.iter().any(|w| w.thread == thread)
    }

    /// The threads that wait, and on what, in the order in which they came.
    pub fn waiting(&self) -> impl Iterator<Item = (u8, Message)> + '_ {
        self.waiting.iter().map(|w| (w.thread, w.message))
    }

    /// The messages that nobody has read yet.
    pub fn unread(&self) -> impl Iterator<Item = (u8, Message)> + '_ {
        self.waiting.iter().filter(|w| !w.read).map(|w| (w.thread, w.message))
    }

    /// Reads the message of `thread`, in any order the caller likes. A message is read once.
    pub fn read(&mut self, thread: u8) -> Option<Message> {
        let waiter = self.waiting.iter_mut().find(|w| w.thread == thread && !w.read)?;
        waiter.read = true;
        Some(waiter.message)
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether anybody waits for a page.
    pub fn any_at(&self, space: Space, vpn: Vpn) -> bool {
        self.waiting.iter().any(|w| (w.message.space, w.message.vpn) == (space, vpn))
    }

    /// Wakes every thread that waits in `range`; a message not read yet goes with its thread. What they waited for.
    pub fn wake(&mut self, range: PageRange) -> Vec<Message> {
        let inside = |w: &Waiter| w.message.space == range.space && range.contains(w.message.vpn);
        let (gone, stay): (Vec<Waiter>, Vec<Waiter>) = self.waiting.iter().partition(|w| inside(w));
        self.waiting = stay;
        self.woken.extend(gone.iter().map(|w| w.thread));
        gone.into_iter().map(|w| w.message).collect()
    }

    /// The threads woken since the last call, in the order of their waking.
    pub fn take_woken(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.woken)
    }

    /// Forgets the threads of a space that has ended.
    pub fn forget(&mut self, space: Space) {
        self.waiting.retain(|w| w.message.space != space);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(vpn: u64) -> Message {
        Message { space: Space(0), vpn: Vpn(vpn), write: false }
    }

    #[test]
    fn a_message_is_read_once_and_goes_with_its_thread() {
        let mut w = Waiters::default();
        w.block(1, at(4));
        w.block(2, at(5));
        assert_eq!(w.read(2), Some(at(5)));
        assert_eq!(w.read(2), None);
        w.wake(PageRange::new(Space(0), Vpn(4), 1));
        assert_eq!(w.unread().count(), 0);
        assert!(w.waits(2) && !w.waits(1));
        assert_eq!(w.take_woken(), [1]);
        assert!(w.take_woken().is_empty());
    }
}
