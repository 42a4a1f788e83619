//! Space in the store in RAM, for compressed pages.
//!
//! The store is cut into spans of 32 KiB. A span in use holds objects of one size class, a multiple of 64
//! bytes, side by side; none crosses the span's end. A span whose last object goes is given back, so that the
//! host can drop its memory.
//!
//! The spans of a class that have room form a list. Objects go into its first span. A span joins in front when
//! it stops being full, and moves to the end when it falls below half: so the fuller ones fill up, and the
//! emptier ones get the time to become empty.
//!
//! Only [`Spans::reserve`] and [`Spans::reserve_for`] allocate. Everything else does bounded work, in memory that it has.

mod fresh;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::fmt;
use fresh::FreshSpans;

/// Bytes in a span.
pub const SPAN_BYTES: usize = 32 * 1024;
/// Bytes in a grain, the unit of addresses in the store.
pub const GRAIN: usize = 16;
/// The largest object, in bytes: a page that is not compressed.
pub const MAX_OBJECT: usize = crate::addr::PAGE_SIZE;

/// The size classes are this many bytes apart.
const CLASS_STEP: usize = 64;
const CLASSES: usize = MAX_OBJECT / CLASS_STEP;
const GRAINS_PER_SPAN: u32 = (SPAN_BYTES / GRAIN) as u32;
/// Words in the slot map of a span with the smallest objects.
const SLOT_WORDS: usize = SPAN_BYTES / CLASS_STEP / 64;
/// Objects in a span of the largest.
const LEAST_SLOTS: u32 = (SPAN_BYTES / MAX_OBJECT) as u32;
/// Spans whose tables are made at once.
const SPARE: u32 = 64;
/// No span.
const NIL: u32 = u32::MAX;

/// A size class: class `c` has objects of `(c + 1) * CLASS_STEP` bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Class(u8);

impl Class {
    fn of(len: u16) -> Class {
        debug_assert!((1..=MAX_OBJECT).contains(&usize::from(len)), "an object of {len} bytes");
        Class((usize::from(len).saturating_sub(1) / CLASS_STEP).min(CLASSES - 1) as u8)
    }

    const fn index(self) -> usize {
        self.0 as usize
    }

    const fn bytes(self) -> u32 {
        (self.0 as u32 + 1) * CLASS_STEP as u32
    }

    /// How many objects a span has.
    const fn slots(self) -> u32 {
        SPAN_BYTES as u32 / self.bytes()
    }

    /// Grains from one object to the next.
    const fn stride(self) -> u32 {
        self.bytes() / GRAIN as u32
    }
}

/// What is known about one span.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Span {
    /// One bit a slot: set where an object is.
    slots: [u64; SLOT_WORDS],
    /// Objects in it. The span is in use if there is one.
    objects: u16,
    class: Class,
    /// The neighbours in the list of its class, while it is in use and not full.
    prev: u32,
    next: u32,
}

impl Span {
    const UNUSED: Span = Span { slots: [0; SLOT_WORDS], objects: 0, class: Class(0), prev: NIL, next: NIL };

    fn is_full(&self) -> bool {
        u32::from(self.objects) == self.class.slots()
    }

    /// Takes the lowest free slot. The span must not be full.
    fn take_slot(&mut self) -> u32 {
        let word = self.slots.iter().position(|&w| w != u64::MAX).unwrap_or(0);
        let bit = self.slots[word].trailing_ones();
        self.slots[word] |= 1 << bit;
        self.objects += 1;
        word as u32 * 64 + bit
    }

    fn clear_slot(&mut self, slot: u32) {
        let (word, bit) = ((slot / 64) as usize, 1 << (slot % 64));
        debug_assert!(self.slots[word] & bit != 0, "slot {slot} is free already");
        self.slots[word] &= !bit;
        self.objects -= 1;
    }
}

/// The ends of a list of spans.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct List {
    first: u32,
    last: u32,
}

/// The allocator of the store in RAM. See the module's text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Spans {
    limit: u32,
    used: u32,
    bytes: u64,
    spans: Vec<Span>,
    fresh: FreshSpans,
    /// By class: the spans in use that have room.
    with_room: [List; CLASSES],
}

impl Spans {
    /// A store of at most `max_spans` spans, at most 2^21 (64 GiB). None of them can be used before
    /// [`Spans::reserve`].
    pub fn new(max_spans: u32) -> Spans {
        Spans {
            limit: max_spans.min(u32::MAX / GRAINS_PER_SPAN),
            used: 0,
            bytes: 0,
            spans: Vec::new(),
            fresh: FreshSpans::default(),
            with_room: [List { first: NIL, last: NIL }; CLASSES],
        }
    }

    /// Makes the tables for the first `spans` spans, or for the limit if that is less: 80 bytes a span.
    pub fn reserve(&mut self, spans: u32) {
        let spans = spans.min(self.limit);
        if spans > self.spans_reserved() {
            self.fresh.grow(self.spans_reserved(), spans);
            self.spans.resize(spans as usize, Span::UNUSED);
        }
    }

    /// Makes the tables that `objects` objects more need, of whatever sizes: a span of each class may have one only, the
    /// others are filled.
    pub fn reserve_for(&mut self, objects: u32) {
        let spans = self.used + objects.div_ceil(LEAST_SLOTS) + CLASSES as u32;
        if spans > self.spans_reserved() {
            self.reserve(spans.saturating_add(SPARE));
        }
    }

    /// Space for an object of `len` bytes, 1..=4096: its place in grains from the store's start. `None` when
    /// it needs a fresh span, and all that are reserved are in use.
    pub fn alloc(&mut self, len: u16) -> Option<u32> {
        let class = Class::of(len);
        let number = match self.with_room[class.index()].first {
            NIL => self.open(class)?,
            number => number,
        };
        let span = &mut self.spans[number as usize];
        let slot = span.take_slot();
        if span.is_full() {
            self.unlink(number);
        }
        self.bytes += u64::from(class.bytes());
        Some(number * GRAINS_PER_SPAN + slot * class.stride())
    }

    /// Frees the object of `len` bytes at `at`. Returns the span's number when this was its last object: the
    /// memory of the span is of no use then.
    pub fn free(&mut self, at: u32, len: u16) -> Option<u32> {
        let number = at / GRAINS_PER_SPAN;
        let span = &mut self.spans[number as usize];
        let class = span.class;
        debug_assert_eq!(class, Class::of(len), "the object at {at} is of another size");
        debug_assert!((at % GRAINS_PER_SPAN).is_multiple_of(class.stride()), "no object starts at {at}");
        let was_full = span.is_full();
        span.clear_slot(at % GRAINS_PER_SPAN / class.stride());
        let objects = u32::from(span.objects);
        self.bytes -= u64::from(class.bytes());
        if !was_full && (objects == 0 || objects == class.slots() / 2) {
            self.unlink(number);
        }
        if objects == 0 {
            self.used -= 1;
            self.fresh.put(number);
            return Some(number);
        }
        if was_full {
            self.link_first(number);
        } else if objects == class.slots() / 2 {
            self.link_last(number);
        }
        None
    }

    /// Whether [`Spans::alloc`] for `len` bytes would need a fresh span.
    pub fn needs_span(&self, len: u16) -> bool {
        self.with_room[Class::of(len).index()].first == NIL
    }

    /// Spans that hold an object. The store takes [`SPAN_BYTES`] of RAM for each.
    pub const fn spans_used(&self) -> u32 {
        self.used
    }

    /// Spans whose tables exist.
    pub const fn spans_reserved(&self) -> u32 {
        self.spans.len() as u32
    }

    /// The most spans there can be.
    pub const fn spans_limit(&self) -> u32 {
        self.limit
    }

    /// Bytes that live objects take, rounded up to their size classes.
    pub const fn bytes_used(&self) -> u64 {
        self.bytes
    }

    /// The object of `len` bytes at `at`, as its span and its number there; `None` if there is none such.
    pub(crate) fn object(&self, at: u32, len: u16) -> Option<(u32, u32)> {
        let number = at / GRAINS_PER_SPAN;
        let span = self.spans.get(number as usize).filter(|span| span.class == Class::of(len))?;
        let within = at % GRAINS_PER_SPAN;
        let slot = within / span.class.stride();
        let taken = within.is_multiple_of(span.class.stride())
            && slot < span.class.slots()
            && span.slots[(slot / 64) as usize] >> (slot % 64) & 1 != 0;
        taken.then_some((number, slot))
    }

    /// Objects in all. Walks all spans.
    pub(crate) fn objects(&self) -> u32 {
        self.spans.iter().map(|span| u32::from(span.objects)).sum()
    }

    /// Checks every table against the others. Walks all spans: for tests and debug builds.
    pub fn validate(&self) -> Result<(), &'static str> {
        let (mut used, mut bytes, mut with_room) = (0, 0, 0);
        for (number, span) in self.spans.iter().enumerate() {
            let objects: u32 = span.slots.iter().map(|w| w.count_ones()).sum();
            if objects != u32::from(span.objects) || objects > span.class.slots() {
                return Err("the objects of a span are not as counted");
            }
            if self.fresh.contains(number as u32) == (objects > 0) {
                return Err("a span is both fresh and in use, or neither");
            }
            used += u32::from(objects > 0);
            bytes += u64::from(objects * span.class.bytes());
            with_room += u32::from(objects > 0 && !span.is_full());
        }
        if (used, bytes) != (self.used, self.bytes) {
            return Err("spans or bytes are not as counted");
        }
        let mut listed = 0;
        for class in 0..CLASSES as u8 {
            listed += self.validate_list(Class(class))?;
        }
        if listed == with_room { Ok(()) } else { Err("a span with room is in no list") }
    }

    /// Checks one list of spans with room, and counts them.
    fn validate_list(&self, class: Class) -> Result<u32, &'static str> {
        let List { first, last } = self.with_room[class.index()];
        let (mut prev, mut at, mut listed) = (NIL, first, 0);
        while at != NIL {
            let span = self.spans.get(at as usize).ok_or("a list leads out of the table")?;
            if span.class != class || span.objects == 0 || span.is_full() {
                return Err("a span is in a list where it does not belong");
            }
            if span.prev != prev {
                return Err("a list is not linked both ways");
            }
            (prev, at, listed) = (at, span.next, listed + 1);
        }
        if prev == last { Ok(listed) } else { Err("a list does not end where it says") }
    }

    /// Starts the lowest fresh span for a class. The caller puts an object into it.
    fn open(&mut self, class: Class) -> Option<u32> {
        let number = self.fresh.take_lowest()?;
        self.spans[number as usize].class = class;
        self.used += 1;
        self.link_first(number);
        Some(number)
    }

    fn link_first(&mut self, number: u32) {
        let list = &mut self.with_room[self.spans[number as usize].class.index()];
        let next = core::mem::replace(&mut list.first, number);
        match next {
            NIL => list.last = number,
            next => self.spans[next as usize].prev = number,
        }
        let span = &mut self.spans[number as usize];
        (span.prev, span.next) = (NIL, next);
    }

    fn link_last(&mut self, number: u32) {
        let list = &mut self.with_room[self.spans[number as usize].class.index()];
        let prev = core::mem::replace(&mut list.last, number);
        match prev {
            NIL => list.first = number,
            prev => self.spans[prev as usize].next = number,
        }
        let span = &mut self.spans[number as usize];
        (span.prev, span.next) = (prev, NIL);
    }

    fn unlink(&mut self, number: u32) {
        let Span { class, prev, next, .. } = self.spans[number as usize];
        let list = &mut self.with_room[class.index()];
        match prev {
            NIL => list.first = next,
            prev => self.spans[prev as usize].next = next,
        }
        match next {
            NIL => list.last = prev,
            next => self.spans[next as usize].prev = prev,
        }
    }
}

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spans({} of {} used, {} bytes)", self.used, self.limit, self.bytes)
    }
}
