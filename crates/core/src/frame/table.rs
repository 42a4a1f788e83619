//! The frame table: one record a frame, and the list links of the folios they make up.

#[cfg(test)]
mod tests;

use crate::addr::{Frame, FrameRun, Space, Vpn};
use crate::chunked::Chunked;
use crate::order::Order;
use crate::trail::Trail;

/// What a frame is used for. The state of a folio is that of its first frame.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum FrameState {
    /// In one of the buddies.
    #[default]
    Free,
    /// A job fills it; the program waits for it.
    Filling,
    /// Its page is at the program's address; the frame is a hole.
    Mapped,
    /// At the addresses of any number of spaces, read-only, where they share it; the contents are in the pool.
    Shared,
    /// Moved out of the program; the contents are in the pool and no job reads them.
    Standby,
    /// Moved out of the program, and a job stores the contents.
    Writing,
    /// Given up while a job still uses it; free when the ticket comes back.
    Zombie,
}

/// Which list a folio is on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum List {
    /// None: filling, writing, or not evictable.
    #[default]
    None,
    /// Mapped or shared, touched more than once as far as is known.
    Active,
    /// Mapped or shared, next to be moved out.
    Inactive,
    /// Standby, contents not stored yet.
    Dirty,
    /// Standby, contents stored: free for the taking.
    Clean,
}

impl List {
    pub(crate) const COUNT: usize = 5;
}

/// No link.
pub(crate) const NIL: u32 = u32::MAX;

/// What is known of one frame.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct FrameRecord {
    /// The page whose contents this frame has: a program's, or a slot. Any frame in use.
    pub(crate) vpn: Vpn,
    pub(crate) space: Space,
    pub(crate) state: FrameState,
    /// The folio's order, in each of its frames.
    pub(crate) order: Order,
    /// The index of the job that uses this frame, plus one; 0 for none.
    pub(crate) job: u16,
    /// First frame of a folio only.
    pub(crate) list: List,
    pub(crate) prev: u32,
    pub(crate) next: u32,
}

impl Default for FrameRecord {
    fn default() -> FrameRecord {
        FrameRecord {
            vpn: Vpn(0),
            space: Space(0),
            state: FrameState::Free,
            order: Order::BASE,
            job: 0,
            list: List::None,
            prev: NIL,
            next: NIL,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct ListHead {
    first: u32,
    last: u32,
    pages: u32,
    folios: u32,
}

/// Records of all frames, and the lists that folios are on.
#[derive(Clone, Debug)]
pub(crate) struct FrameTable {
    records: Chunked<FrameRecord>,
    lists: [ListHead; List::COUNT],
    /// Records that were written.
    pub(crate) trail: Trail<Frame>,
}

impl FrameTable {
    pub(crate) fn new() -> FrameTable {
        let empty = ListHead { first: NIL, last: NIL, pages: 0, folios: 0 };
        FrameTable { records: Chunked::new(), lists: [empty; List::COUNT], trail: Trail::new() }
    }

    /// Makes the records of `run` exist.
    pub(crate) fn cover(&mut self, run: FrameRun) {
        self.records.grow_to((run.start.0 + run.pages) as usize);
    }

    /// How many records exist; frames beyond them have never been used.
    pub(crate) fn len(&self) -> u32 {
        self.records.len() as u32
    }

    pub(crate) fn get(&self, frame: Frame) -> &FrameRecord {
        &self.records[frame.0 as usize]
    }

    pub(crate) fn get_mut(&mut self, frame: Frame) -> &mut FrameRecord {
        self.trail.note(frame);
        &mut self.records[frame.0 as usize]
    }

    /// The first frame of the folio that `frame` belongs to.
    pub(crate) fn head_of(&self, frame: Frame) -> Frame {
        Frame(self.get(frame).order.align_down(u64::from(frame.0)) as u32)
    }

    /// The frames of the folio whose first frame is `head`.
    pub(crate) fn folio(&self, head: Frame) -> FrameRun {
        FrameRun::new(head, self.get(head).order.pages())
    }

    /// Whether a job uses any frame of `run`.
    pub(crate) fn pinned(&self, run: FrameRun) -> bool {
        run.iter().any(|f| self.get(f).job != 0)
    }

    /// Writes the records of a new folio. It is on no list.
    pub(crate) fn found(&mut self, head: Frame, order: Order, space: Space, vpn: Vpn, state: FrameState) {
        for i in 0..order.pages() {
            let record = self.get_mut(head.plus(i));
            record.vpn = vpn.plus(u64::from(i));
            record.space = space;
            record.order = order;
            record.state = state;
            record.list = List::None;
        }
    }

    /// Marks the frames of `run` free.
    pub(crate) fn clear(&mut self, run: FrameRun) {
        for frame in run.iter() {
            *self.get_mut(frame) = FrameRecord::default();
        }
    }

    /// Pages on a list.
    pub(crate) fn pages_on(&self, list: List) -> u32 {
        self.lists[list as usize].pages
    }

    /// Folios on a list.
    pub(crate) fn folios_on(&self, list: List) -> u32 {
        self.lists[list as usize].folios
    }

    /// The folio at the old end of a list.
    pub(crate) fn oldest(&self, list: List) -> Option<Frame> {
        let first = self.lists[list as usize].first;
        (first != NIL).then_some(Frame(first))
    }

    /// The folio at the young end of a list.
    pub(crate) fn youngest(&self, list: List) -> Option<Frame> {
        let last = self.lists[list as usize].last;
        (last != NIL).then_some(Frame(last))
    }

    /// The folio next younger than `head` on its list.
    pub(crate) fn younger(&self, head: Frame) -> Option<Frame> {
        let next = self.get(head).next;
        (next != NIL).then_some(Frame(next))
    }

    /// The folio next older than `head` on its list.
    pub(crate) fn older(&self, head: Frame) -> Option<Frame> {
        let prev = self.get(head).prev;
        (prev != NIL).then_some(Frame(prev))
    }

    /// Takes a folio off the list it is on, if any, and puts it at the young end of `list`.
    pub(crate) fn enlist(&mut self, head: Frame, list: List) {
        self.delist(head);
        if list != List::None {
            self.link_after(head, self.lists[list as usize].last, list);
        }
    }

    /// Takes a folio off the list it is on, if any, and puts it at the old end of `list`.
    pub(crate) fn enlist_oldest(&mut self, head: Frame, list: List) {
        self.delist(head);
        if list != List::None {
            self.link_after(head, NIL, list);
        }
    }

    /// Takes a folio off the list it is on, if any.
    pub(crate) fn delist(&mut self, head: Frame) {
        let FrameRecord { list, prev, next, order, .. } = *self.get(head);
        if list == List::None {
            return;
        }
        self.lists[list as usize].pages -= order.pages();
        self.lists[list as usize].folios -= 1;
        match prev {
            NIL => self.lists[list as usize].first = next,
            _ => self.get_mut(Frame(prev)).next = next,
        }
        match next {
            NIL => self.lists[list as usize].last = prev,
            _ => self.get_mut(Frame(next)).prev = prev,
        }
        let record = self.get_mut(head);
        record.list = List::None;
        record.prev = NIL;
        record.next = NIL;
    }

    /// Links an unlisted folio behind folio `prev` of `list` ([`NIL`]: as the oldest).
    pub(crate) fn link_after(&mut self, head: Frame, prev: u32, list: List) {
        let next = match prev {
            NIL => self.lists[list as usize].first,
            _ => self.get(Frame(prev)).next,
        };
        let record = self.get_mut(head);
        record.list = list;
        record.prev = prev;
        record.next = next;
        let pages = record.order.pages();
        match prev {
            NIL => self.lists[list as usize].first = head.0,
            _ => self.get_mut(Frame(prev)).next = head.0,
        }
        match next {
            NIL => self.lists[list as usize].last = head.0,
            _ => self.get_mut(Frame(next)).prev = head.0,
        }
        self.lists[list as usize].pages += pages;
        self.lists[list as usize].folios += 1;
    }
}
