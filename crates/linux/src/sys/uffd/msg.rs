//! Messages of a userfaultfd.

use super::Uffd;
use core::fmt;

/// A message, as the kernel writes it.
#[repr(C, align(8))]
#[derive(Default)]
pub struct UffdMsg {
    event: u8,
    reserved: [u8; 7],
    args: [u64; 3],
}
const _: () = assert!(size_of::<UffdMsg>() == 32);

/// What a message says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A thread waits for a page.
    Fault {
        /// The byte address that was touched, rounded down to its page.
        addr: usize,
        /// Whether it was written.
        write: bool,
        /// Whether the page is there and write-protected.
        protected: bool,
        /// The thread's id; 0 without [`FEATURE_THREAD_ID`](super::FEATURE_THREAD_ID).
        tid: u32,
    },
    /// The process forked; [`UffdMsg::take_child`] has the child's descriptor.
    Fork,
    /// Nothing: the child of a fork was taken.
    Taken,
    /// Another event, by its number.
    Other(u8),
}

impl UffdMsg {
    /// A message that says nothing, to make room for others: `[UffdMsg::EMPTY; 16]`.
    pub const EMPTY: UffdMsg = UffdMsg { event: 0, reserved: [0; 7], args: [0; 3] };

    const EVENT_FAULT: u8 = 0x12;
    const EVENT_FORK: u8 = 0x13;

    /// What the message says.
    pub fn event(&self) -> Event {
        match self.event {
            UffdMsg::EVENT_FAULT => Event::Fault {
                addr: self.args[1] as usize & !(quire_core::PAGE_SIZE - 1),
                write: self.args[0] & 1 != 0,
                protected: self.args[0] & 2 != 0,
                tid: self.args[2] as u32,
            },
            UffdMsg::EVENT_FORK => Event::Fork,
            0 => Event::Taken,
            other => Event::Other(other),
        }
    }

    /// The child's userfaultfd, once, if this message is of a fork.
    pub fn take_child(&mut self) -> Option<Uffd> {
        if self.event != UffdMsg::EVENT_FORK {
            return None;
        }
        self.event = 0;
        // The kernel made this descriptor for the reader of the message.
        Some(Uffd::fresh(self.args[0] as u32 as usize))
    }
}

impl fmt::Debug for UffdMsg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.event().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_decoded() {
        let fault = UffdMsg { event: 0x12, reserved: [0; 7], args: [1, 0x5123, 77] };
        assert_eq!(fault.event(), Event::Fault { addr: 0x5000, write: true, protected: false, tid: 77 });
        let mut other = UffdMsg { event: 0x15, ..UffdMsg::EMPTY };
        assert_eq!(other.event(), Event::Other(0x15));
        assert!(other.take_child().is_none());
    }
}
