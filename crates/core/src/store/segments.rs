//! Space in the store in RAM, for compressed pages: a log of segments.
//!
//! The store is cut into segments of equal size. What is stored goes to the end of an open segment, one object behind the
//! other, each beginning at a multiple of 16 bytes; a segment that has no room for the next object is closed. Freed
//! objects leave gaps that nobody fills: a segment whose last object goes is used again as a whole, and the emptiest
//! segments are cleaned, that is, what is left of them moves to the end of the log (Rosenblum and Ousterhout, "The design
//! and implementation of a log-structured file system", 1992). So whatever sizes come and go, the store wastes no more
//! than its owner lets it.
//!
//! There is a log for each queue, and beside it one for what cleaning moves. Segments of a queue stand by age.
//!
//! Only the verbs that reserve allocate. Everything else does bounded work, in memory that it
//! has.

mod fresh;
#[cfg(test)]
mod tests;

use crate::addr::PAGE_SIZE;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use fresh::FreshSegments;

/// Bytes in a grain, the unit of addresses in the store.
pub const GRAIN: usize = 16;
/// The largest object, in bytes: a page that is not compressed.
pub const MAX_OBJECT: usize = PAGE_SIZE;

/// Closed segments are told apart by how many of so many parts are live.
const FULLNESS: usize = 16;
/// Segments whose tables are made at once.
const SPARE: u32 = 64;
/// No segment, no block.
pub(crate) const NIL: u32 = u32::MAX;

/// What is stored together, and leaves for a file together.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum Queue {
    /// Contents that compress.
    #[default]
    Dense,
    /// Contents that hardly compress: in RAM they take as much as in frames, so they wait there to be needed again soon,
    /// or to go to the file many at once.
    Incompressible,
}

/// Contents of which a page takes more than 3/4 of one when stored.
pub(crate) fn is_incompressible(pages: u32, bytes: u64) -> bool {
    bytes * 4 > u64::from(pages) * PAGE_SIZE as u64 * 3
}

const QUEUES: usize = 2;

/// Which open segment takes an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Log {
    /// What is stored anew.
    New,
    /// What cleaning has moved. It goes to where the segment stands from which the first of it came.
    Moved,
}

/// What is known about one segment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Segment {
    /// The first of the blocks in it: a chain that the index keeps.
    chain: u32,
    /// Objects in it. The segment is in use if there is one.
    objects: u32,
    /// Their bytes, in whole grains.
    live: u32,
    /// Bytes given out so far, gaps included.
    filled: u32,
    /// Pages that have memory behind them.
    backed: u32,
    queue: Queue,
    open: bool,
    /// The neighbours in its queue, by age.
    older: u32,
    younger: u32,
    /// The neighbours in the list of those as full, while it is closed.
    prev: u32,
    next: u32,
}

impl Segment {
    const UNUSED: Segment = Segment {
        chain: NIL,
        objects: 0,
        live: 0,
        filled: 0,
        backed: 0,
        queue: Queue::Dense,
        open: false,
        older: NIL,
        younger: NIL,
        prev: NIL,
        next: NIL,
    };

    fn fullness(&self, size: u32) -> usize {
        (self.live as usize * FULLNESS / size as usize).min(FULLNESS - 1)
    }
}

/// One queue: its ends, and what is in it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Ends {
    oldest: u32,
    youngest: u32,
    /// Bytes of its objects, in whole grains.
    bytes: u64,
    objects: u32,
    /// The open segments, by [`Log`].
    open: [u32; 2],
}

/// The allocator of the store in RAM. See the module's text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Segments {
    limit: u32,
    /// Bytes in a segment.
    size: u32,
    used: u32,
    /// Closed segments, and the live bytes in them.
    closed: u32,
    closed_live: u64,
    /// Pages that have memory behind them.
    backed: u32,
    segments: Vec<Segment>,
    fresh: FreshSegments,
    /// An unused segment that keeps its memory: the next one to be opened.
    warm: u32,
    queues: [Ends; QUEUES],
    /// The first of the closed segments that are so full.
    by_fullness: [u32; FULLNESS],
}

impl Segments {
    /// A store of at most `max_segments` segments of `pages` pages each, at least two, and of 64 GiB in all. None of them
    /// can be used before [`Segments::reserve`].
    pub fn new(max_segments: u32, pages: u32) -> Segments {
        let size = pages.max(2) * PAGE_SIZE as u32;
        Segments {
            limit: max_segments.min(u32::MAX / (size / GRAIN as u32)),
            size,
            used: 0,
            closed: 0,
            closed_live: 0,
            backed: 0,
            segments: Vec::new(),
            fresh: FreshSegments::default(),
            warm: NIL,
            queues: [Ends { oldest: NIL, youngest: NIL, bytes: 0, objects: 0, open: [NIL; 2] }; QUEUES],
            by_fullness: [NIL; FULLNESS],
        }
    }

    /// Makes the tables for the first `segments` segments, or for the limit if that is less: 44 bytes a segment.
    pub fn reserve(&mut self, segments: u32) {
        let segments = segments.min(self.limit);
        if segments > self.segments_reserved() {
            self.fresh.grow(self.segments_reserved(), segments);
            self.segments.resize(segments as usize, Segment::UNUSED);
        }
    }

    /// Makes the tables that `objects` objects more need, of whatever sizes: a segment is closed with room for one object
    /// at the most, and each log may open one more.
    pub(crate) fn reserve_for(&mut self, objects: u32) {
        let segments = self.used + objects.div_ceil(self.size / MAX_OBJECT as u32 - 1) + 2 * QUEUES as u32;
        if segments > self.segments_reserved() {
            self.reserve(segments.saturating_add(SPARE));
        }
    }

    /// Space for a new object of `len` bytes, 1..=4096, stored anew: its place in grains from the store's start.
    /// `None` when it needs another segment, and all that are reserved are in use.
    pub(crate) fn append(&mut self, queue: Queue, len: u16) -> Option<u32> {
        self.take(queue, Log::New, NIL, len)
    }

    /// Space for an object of `len` bytes that moves from segment `from`, of the same queue and as old.
    pub(crate) fn append_moved(&mut self, from: u32, len: u16) -> Option<u32> {
        self.take(self.segments[from as usize].queue, Log::Moved, from, len)
    }

    fn take(&mut self, queue: Queue, log: Log, beside: u32, len: u16) -> Option<u32> {
        debug_assert!((1..=MAX_OBJECT).contains(&usize::from(len)), "an object of {len} bytes");
        let bytes = rounded(len);
        let mut number = self.queues[queue as usize].open[log as usize];
        if number == NIL || self.segments[number as usize].filled + bytes > self.size {
            let next = self.unused()?;
            self.close(number);
            self.open(next, queue, log, beside);
            number = next;
        }
        let segment = &mut self.segments[number as usize];
        let at = segment.filled;
        segment.filled += bytes;
        segment.live += bytes;
        segment.objects += 1;
        let backed = segment.backed.max(segment.filled.div_ceil(PAGE_SIZE as u32));
        self.backed += backed - segment.backed;
        segment.backed = backed;
        let ends = &mut self.queues[queue as usize];
        ends.bytes += u64::from(bytes);
        ends.objects += 1;
        Some(number * self.size_in_grains() + at / GRAIN as u32)
    }

    /// Frees the object of `len` bytes at `at`, whose block is in no chain any more. Returns the pages of the store whose
    /// memory is to be given back: those of a segment whose last object this was. One such segment keeps its memory for
    /// what comes, until the store is empty.
    pub(crate) fn free(&mut self, at: u32, len: u16) -> [Range<u32>; 2] {
        let (number, bytes) = (self.segment_of(at), rounded(len));
        let segment = &mut self.segments[number as usize];
        debug_assert!(segment.objects > 0 && segment.live >= bytes, "no object of {len} bytes is at {at}");
        let before = segment.fullness(self.size);
        segment.objects -= 1;
        segment.live -= bytes;
        let ends = &mut self.queues[segment.queue as usize];
        ends.bytes -= u64::from(bytes);
        ends.objects -= 1;
        let Segment { objects, open, .. } = *segment;
        self.closed_live -= if open { 0 } else { u64::from(bytes) };
        let after = segment.fullness(self.size);
        if objects == 0 {
            self.unlist(number, before);
            self.retire(number);
            return self.cool(number);
        }
        if !open && after != before {
            self.unlist(number, before);
            self.list(number);
        }
        [0..0, 0..0]
    }

    /// The emptiest closed segment, and the bytes in it that are live.
    pub(crate) fn emptiest(&self) -> Option<(u32, u32)> {
        let number = self.by_fullness.iter().copied().find(|&first| first != NIL)?;
        Some((number, self.segments[number as usize].live))
    }

    /// The oldest segment of a queue.
    pub(crate) fn oldest(&self, queue: Queue) -> Option<u32> {
        some(self.queues[queue as usize].oldest)
    }

    /// The next younger one of its queue.
    pub(crate) fn younger(&self, segment: u32) -> Option<u32> {
        some(self.segments[segment as usize].younger)
    }

    /// Whether a segment still takes objects.
    pub(crate) fn is_open(&self, segment: u32) -> bool {
        self.segments[segment as usize].open
    }

    /// The queue of the object at `at`.
    pub(crate) fn queue_of(&self, at: u32) -> Queue {
        self.segments[self.segment_of(at) as usize].queue
    }

    /// The first block of a segment's chain.
    pub(crate) fn chain(&self, segment: u32) -> u32 {
        self.segments[segment as usize].chain
    }

    pub(crate) fn set_chain(&mut self, segment: u32, first: u32) {
        self.segments[segment as usize].chain = first;
    }

    /// The segment of the object at `at`.
    pub(crate) const fn segment_of(&self, at: u32) -> u32 {
        at / self.size_in_grains()
    }

    const fn size_in_grains(&self) -> u32 {
        self.size / GRAIN as u32
    }

    /// Bytes in a segment.
    pub const fn size(&self) -> u32 {
        self.size
    }

    /// Bytes of closed segments, and those of them that are gaps.
    pub(crate) const fn gaps(&self) -> (u64, u64) {
        let bytes = self.closed as u64 * self.size as u64;
        (bytes, bytes - self.closed_live)
    }

    /// Segments that hold an object.
    pub const fn segments_used(&self) -> u32 {
        self.used
    }

    /// Pages of RAM that the store takes: what has ever been written of the segments in use, and of one that waits for use.
    pub const fn pages_backed(&self) -> u32 {
        self.backed
    }

    /// Segments whose tables exist.
    pub const fn segments_reserved(&self) -> u32 {
        self.segments.len() as u32
    }

    /// Bytes of live objects, each rounded up to whole grains.
    pub fn bytes_used(&self) -> u64 {
        self.queues.iter().map(|ends| ends.bytes).sum()
    }

    /// The same in one queue.
    pub(crate) fn bytes_in(&self, queue: Queue) -> u64 {
        self.queues[queue as usize].bytes
    }

    /// Objects in all.
    pub(crate) fn objects(&self) -> u32 {
        self.queues.iter().map(|ends| ends.objects).sum()
    }

    /// Segments of which memory is in use, each with what it holds: its number, its queue, the bytes given out, and
    /// the first of its blocks.
    pub(crate) fn in_use(&self) -> impl Iterator<Item = (u32, Queue, u32, u32)> {
        let used = self.segments.iter().enumerate().filter(|(_, segment)| segment.objects > 0);
        used.map(|(number, s)| (number as u32, s.queue, s.filled, s.chain))
    }

    /// A segment without objects: the warm one, or the lowest.
    fn unused(&mut self) -> Option<u32> {
        match self.warm {
            NIL => self.fresh.take_lowest(),
            warm => {
                self.warm = NIL;
                Some(warm)
            }
        }
    }

    /// Makes an unused segment the one that takes objects for a log. The caller puts one into it.
    fn open(&mut self, number: u32, queue: Queue, log: Log, beside: u32) {
        let Segment { backed, .. } = self.segments[number as usize];
        let (older, younger) = match beside {
            NIL => (self.queues[queue as usize].youngest, NIL),
            beside => (beside, self.segments[beside as usize].younger),
        };
        self.segments[number as usize] =
            Segment { backed, queue, open: true, older, younger, ..Segment::UNUSED };
        let ends = &mut self.queues[queue as usize];
        ends.open[log as usize] = number;
        match older {
            NIL => ends.oldest = number,
            older => self.segments[older as usize].younger = number,
        }
        match younger {
            NIL => ends.youngest = number,
            younger => self.segments[younger as usize].older = number,
        }
        self.used += 1;
    }

    /// An open segment takes no more.
    fn close(&mut self, number: u32) {
        if number != NIL {
            let segment = &mut self.segments[number as usize];
            segment.open = false;
            self.closed += 1;
            self.closed_live += u64::from(segment.live);
            self.list(number);
        }
    }

    /// A segment whose last object has gone leaves its queue.
    fn retire(&mut self, number: u32) {
        let Segment { queue, older, younger, backed, open, .. } = self.segments[number as usize];
        let ends = &mut self.queues[queue as usize];
        ends.open.iter_mut().filter(|open| **open == number).for_each(|open| *open = NIL);
        match older {
            NIL => ends.oldest = younger,
            older => self.segments[older as usize].younger = younger,
        }
        match younger {
            NIL => self.queues[queue as usize].youngest = older,
            younger => self.segments[younger as usize].older = older,
        }
        self.used -= 1;
        self.closed -= u32::from(!open);
        self.segments[number as usize] = Segment { backed, ..Segment::UNUSED };
    }

    /// Which memory is given back when segment `number` has become unused.
    fn cool(&mut self, number: u32) -> [Range<u32>; 2] {
        let warm = core::mem::replace(&mut self.warm, NIL);
        match (warm, self.used) {
            (NIL, 1..) => {
                self.warm = number;
                [0..0, 0..0]
            }
            (NIL, 0) => [self.give_back(number), 0..0],
            (warm, 0) => [self.give_back(number), self.give_back(warm)],
            (warm, _) => {
                self.warm = warm;
                [self.give_back(number), 0..0]
            }
        }
    }

    fn give_back(&mut self, number: u32) -> Range<u32> {
        let backed = core::mem::take(&mut self.segments[number as usize].backed);
        self.backed -= backed;
        self.fresh.put(number);
        let start = number * (self.size / PAGE_SIZE as u32);
        start..start + backed
    }

    fn list(&mut self, number: u32) {
        let first = &mut self.by_fullness[self.segments[number as usize].fullness(self.size)];
        let next = core::mem::replace(first, number);
        if next != NIL {
            self.segments[next as usize].prev = number;
        }
        let segment = &mut self.segments[number as usize];
        (segment.prev, segment.next) = (NIL, next);
    }

    /// Takes a closed segment off the list of those that are `fullness` full. An open one is on none.
    fn unlist(&mut self, number: u32, fullness: usize) {
        let Segment { prev, next, open, .. } = self.segments[number as usize];
        if open {
            return;
        }
        match prev {
            NIL => self.by_fullness[fullness] = next,
            prev => self.segments[prev as usize].next = next,
        }
        if next != NIL {
            self.segments[next as usize].prev = prev;
        }
    }

    /// Checks every table against the others. Walks all segments: for tests and debug builds.
    pub fn validate(&self) -> Result<(), &'static str> {
        let (mut used, mut backed, mut closed, mut closed_live) = (0, 0, 0, 0);
        let mut sums = [(0, 0); QUEUES];
        for (number, segment) in self.segments.iter().enumerate() {
            let number = number as u32;
            let idle = number == self.warm || self.fresh.contains(number);
            if (segment.objects == 0) != idle || number == self.warm && self.fresh.contains(number) {
                return Err("a segment is both unused and in use, or neither");
            }
            let touched = segment.filled.div_ceil(PAGE_SIZE as u32);
            if segment.live > segment.filled
                || touched > segment.backed
                || segment.backed * PAGE_SIZE as u32 > self.size
            {
                return Err("a segment holds more than it was given");
            }
            if self.fresh.contains(number) && segment.backed > 0 {
                return Err("an unused segment has memory");
            }
            used += u32::from(segment.objects > 0);
            backed += segment.backed;
            let is_closed = segment.objects > 0 && !segment.open;
            closed += u32::from(is_closed);
            closed_live += if is_closed { u64::from(segment.live) } else { 0 };
            let (bytes, objects) = &mut sums[segment.queue as usize];
            *bytes += u64::from(segment.live);
            *objects += segment.objects;
        }
        if (used, backed) != (self.used, self.backed)
            || (closed, closed_live) != (self.closed, self.closed_live)
        {
            return Err("segments or their memory are not as counted");
        }
        if sums != self.queues.map(|ends| (ends.bytes, ends.objects)) {
            return Err("the objects of a queue are not as counted");
        }
        let queued = self.validate_queue(Queue::Dense)? + self.validate_queue(Queue::Incompressible)?;
        if queued != used {
            return Err("a segment is in no queue");
        }
        let mut listed = 0;
        for fullness in 0..FULLNESS {
            listed += self.validate_fullness(fullness)?;
        }
        if listed == closed { Ok(()) } else { Err("a closed segment is on no list") }
    }

    /// Checks a queue's links, and counts its segments.
    fn validate_queue(&self, queue: Queue) -> Result<u32, &'static str> {
        let ends = &self.queues[queue as usize];
        let (mut at, mut older, mut count, mut open) = (ends.oldest, NIL, 0, 0);
        while at != NIL {
            let segment = &self.segments[at as usize];
            if segment.older != older || segment.queue != queue || segment.objects == 0 {
                return Err("a segment does not belong in its queue");
            }
            if segment.open != ends.open.contains(&at) {
                return Err("an open segment takes nothing, or a closed one does");
            }
            open += usize::from(segment.open);
            (older, at, count) = (at, segment.younger, count + 1);
        }
        if older != ends.youngest {
            return Err("a queue does not end where it says");
        }
        let expected = ends.open.iter().filter(|&&open| open != NIL).count();
        if open == expected { Ok(count) } else { Err("an open segment is in no queue") }
    }

    /// Checks the list of closed segments that are so full, and counts them.
    fn validate_fullness(&self, fullness: usize) -> Result<u32, &'static str> {
        let (mut at, mut prev, mut count) = (self.by_fullness[fullness], NIL, 0);
        while at != NIL {
            let segment = &self.segments[at as usize];
            if segment.open
                || segment.objects == 0
                || segment.fullness(self.size) != fullness
                || segment.prev != prev
            {
                return Err("a segment is on a list where it does not belong");
            }
            (prev, at, count) = (at, segment.next, count + 1);
        }
        Ok(count)
    }
}

impl fmt::Debug for Segments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Segments({} of {} used, {} bytes)", self.used, self.limit, self.bytes_used())
    }
}

/// The bytes that an object of `len` bytes takes.
fn rounded(len: u16) -> u32 {
    u32::from(len).next_multiple_of(GRAIN as u32)
}

const fn some(number: u32) -> Option<u32> {
    if number == NIL { None } else { Some(number) }
}
