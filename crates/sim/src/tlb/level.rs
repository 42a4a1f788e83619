//! One level of a TLB: entries by key, least recently used out first. Flat arrays, and no allocation after the start.

use core::fmt;
use quire_core::{Frame, Space};

/// What an entry translates: a space, a size, and the number of the aligned unit of that size.
///
/// Bits 63..48 are the space, 47..46 the size as a number of the model, 45..0 the unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key(u64);

impl Key {
    /// The key of no entry: the size 3 is never used.
    const NONE: Key = Key(u64::MAX);

    #[inline]
    pub(super) fn new(space: Space, size: usize, unit: u64) -> Key {
        debug_assert!(size < 3 && unit < 1 << 46, "no entry of size {size} for unit {unit:#x}");
        Key(u64::from(space.0) << 48 | (size as u64) << 46 | unit)
    }

    pub(super) const fn space(self) -> Space {
        Space((self.0 >> 48) as u16)
    }

    #[inline]
    pub(super) const fn size(self) -> usize {
        (self.0 >> 46 & 3) as usize
    }

    #[inline]
    pub(super) const fn unit(self) -> u64 {
        self.0 & ((1 << 46) - 1)
    }
}

/// A level. An entry's frame is the first one of what it covers.
pub(super) trait Level: fmt::Debug {
    /// The frame of the entry with `key`, which becomes the one used last.
    fn find(&mut self, key: Key) -> Option<Frame>;

    /// Adds an entry that is not there yet. The one of its set that was not used for longest goes.
    fn insert(&mut self, key: Key, frame: Frame);

    /// Drops the entry with `key`. Whether there was one.
    fn remove(&mut self, key: Key) -> bool;

    /// Drops every entry that `goes` says; how many.
    fn remove_all(&mut self, goes: &mut dyn FnMut(Key) -> bool) -> u64;
}

/// Entries in sets of `WAYS`, each set ordered by last use; what is empty comes last.
#[derive(Clone, Debug)]
pub(super) struct Sets<const WAYS: usize> {
    sets: Box<[Set<WAYS>]>,
    /// The set of a unit is its low bits, after its bits from here on were folded into them.
    fold: u32,
}

#[derive(Clone, Copy, Debug)]
struct Set<const WAYS: usize> {
    keys: [Key; WAYS],
    frames: [Frame; WAYS],
}

impl<const WAYS: usize> Sets<WAYS> {
    /// `sets` sets, a power of two, chosen by the low bits of a unit's number.
    pub(super) fn new(sets: usize) -> Sets<WAYS> {
        Sets::folded(sets, 63)
    }

    /// The same, chosen by the exclusive or of the lowest bits and those from bit `fold` on.
    pub(super) fn folded(sets: usize, fold: u32) -> Sets<WAYS> {
        assert!(sets.is_power_of_two(), "{sets} sets have no mask");
        let empty = Set { keys: [Key::NONE; WAYS], frames: [Frame(0); WAYS] };
        Sets { sets: vec![empty; sets].into(), fold }
    }

    #[inline]
    fn set(&mut self, key: Key) -> &mut Set<WAYS> {
        let unit = key.unit();
        let mask = self.sets.len() - 1;
        &mut self.sets[(unit ^ unit >> self.fold) as usize & mask]
    }
}

impl<const WAYS: usize> Set<WAYS> {
    #[inline]
    fn position(&self, key: Key) -> Option<usize> {
        self.keys.iter().position(|&k| k == key)
    }

    /// Puts an entry to the front; those before `at` move up by one, what was at `at` is gone.
    #[inline]
    fn put_first(&mut self, at: usize, key: Key, frame: Frame) {
        for i in (0..at).rev() {
            self.keys[i + 1] = self.keys[i];
            self.frames[i + 1] = self.frames[i];
        }
        self.keys[0] = key;
        self.frames[0] = frame;
    }

    fn take(&mut self, at: usize) {
        self.keys[at..].rotate_left(1);
        self.frames[at..].rotate_left(1);
        self.keys[WAYS - 1] = Key::NONE;
    }
}

impl<const WAYS: usize> Level for Sets<WAYS> {
    #[inline]
    fn find(&mut self, key: Key) -> Option<Frame> {
        let set = self.set(key);
        let at = set.position(key)?;
        let frame = set.frames[at];
        set.put_first(at, key, frame);
        Some(frame)
    }

    #[inline]
    fn insert(&mut self, key: Key, frame: Frame) {
        self.set(key).put_first(WAYS - 1, key, frame);
    }

    fn remove(&mut self, key: Key) -> bool {
        let set = self.set(key);
        let at = set.position(key);
        if let Some(at) = at {
            set.take(at);
        }
        at.is_some()
    }

    fn remove_all(&mut self, goes: &mut dyn FnMut(Key) -> bool) -> u64 {
        let mut removed = 0;
        for set in &mut self.sets {
            for at in (0..WAYS).rev() {
                if set.keys[at] != Key::NONE && goes(set.keys[at]) {
                    set.take(at);
                    removed += 1;
                }
            }
        }
        removed
    }
}

/// Two levels side by side: one for the smallest size, one for all others.
#[derive(Clone, Debug)]
pub(super) struct Split<A, B> {
    pub(super) small: A,
    pub(super) large: B,
}

impl<A: Level, B: Level> Level for Split<A, B> {
    #[inline]
    fn find(&mut self, key: Key) -> Option<Frame> {
        if key.size() == 0 { self.small.find(key) } else { self.large.find(key) }
    }

    #[inline]
    fn insert(&mut self, key: Key, frame: Frame) {
        if key.size() == 0 { self.small.insert(key, frame) } else { self.large.insert(key, frame) }
    }

    fn remove(&mut self, key: Key) -> bool {
        if key.size() == 0 { self.small.remove(key) } else { self.large.remove(key) }
    }

    fn remove_all(&mut self, goes: &mut dyn FnMut(Key) -> bool) -> u64 {
        self.small.remove_all(goes) + self.large.remove_all(goes)
    }
}

/// Many more than entries: a bucket that holds another key is a mispredicted branch.
const BUCKETS: usize = 1 << BUCKET_BITS;
const BUCKET_BITS: u32 = 10;
const NIL: u8 = u8::MAX;

/// `N` entries in one set. Comparing a key with each of them would cost more than all the rest of an access, so a
/// table of buckets finds an entry, and a ring through all entries keeps the order of use.
#[derive(Clone, Debug)]
pub(super) struct Full<const N: usize> {
    keys: [Key; N],
    frames: [Frame; N],
    /// The next entry of the same bucket.
    chain: [u8; N],
    /// Neighbours in the ring: `newer` towards the one used last, `older` away from it.
    newer: [u8; N],
    older: [u8; N],
    newest: u8,
    oldest: u8,
    buckets: [u8; BUCKETS],
}

impl<const N: usize> Full<N> {
    pub(super) fn new() -> Full<N> {
        const { assert!(N > 1 && N < NIL as usize, "entries are named by a byte") };
        let last = N as u8 - 1;
        Full {
            keys: [Key::NONE; N],
            frames: [Frame(0); N],
            chain: [NIL; N],
            newer: core::array::from_fn(|i| if i == 0 { NIL } else { i as u8 - 1 }),
            older: core::array::from_fn(|i| if i == N - 1 { NIL } else { i as u8 + 1 }),
            newest: 0,
            oldest: last,
            buckets: [NIL; BUCKETS],
        }
    }

    #[inline]
    fn bucket(key: Key) -> usize {
        (key.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - BUCKET_BITS)) as usize
    }

    #[inline]
    fn at(&self, key: Key) -> Option<u8> {
        let mut at = self.buckets[Self::bucket(key)];
        while at != NIL && self.keys[usize::from(at)] != key {
            at = self.chain[usize::from(at)];
        }
        (at != NIL).then_some(at)
    }

    /// Takes an entry out of the ring. There are at least two.
    #[inline]
    fn unlink(&mut self, at: u8) {
        let (newer, older) = (self.newer[usize::from(at)], self.older[usize::from(at)]);
        match newer {
            NIL => self.newest = older,
            n => self.older[usize::from(n)] = older,
        }
        match older {
            NIL => self.oldest = newer,
            o => self.newer[usize::from(o)] = newer,
        }
    }

    #[inline]
    fn make_newest(&mut self, at: u8) {
        if self.newest == at {
            return;
        }
        self.unlink(at);
        self.older[usize::from(at)] = self.newest;
        self.newer[usize::from(at)] = NIL;
        self.newer[usize::from(self.newest)] = at;
        self.newest = at;
    }

    fn make_oldest(&mut self, at: u8) {
        if self.oldest == at {
            return;
        }
        self.unlink(at);
        self.newer[usize::from(at)] = self.oldest;
        self.older[usize::from(at)] = NIL;
        self.older[usize::from(self.oldest)] = at;
        self.oldest = at;
    }

    /// Takes an entry out of its bucket.
    #[inline]
    fn forget(&mut self, at: u8) {
        let bucket = Self::bucket(self.keys[usize::from(at)]);
        let next = self.chain[usize::from(at)];
        if self.buckets[bucket] == at {
            self.buckets[bucket] = next;
            return;
        }
        let mut before = usize::from(self.buckets[bucket]);
        while self.chain[before] != at {
            before = usize::from(self.chain[before]);
        }
        self.chain[before] = next;
    }

    fn drop_entry(&mut self, at: u8) {
        self.forget(at);
        self.keys[usize::from(at)] = Key::NONE;
        self.make_oldest(at);
    }
}

impl<const N: usize> Level for Full<N> {
    #[inline]
    fn find(&mut self, key: Key) -> Option<Frame> {
        let at = self.at(key)?;
        self.make_newest(at);
        Some(self.frames[usize::from(at)])
    }

    #[inline]
    fn insert(&mut self, key: Key, frame: Frame) {
        let at = self.oldest;
        let i = usize::from(at);
        if self.keys[i] != Key::NONE {
            self.forget(at);
        }
        self.keys[i] = key;
        self.frames[i] = frame;
        let bucket = Self::bucket(key);
        self.chain[i] = self.buckets[bucket];
        self.buckets[bucket] = at;
        self.make_newest(at);
    }

    fn remove(&mut self, key: Key) -> bool {
        let at = self.at(key);
        if let Some(at) = at {
            self.drop_entry(at);
        }
        at.is_some()
    }

    fn remove_all(&mut self, goes: &mut dyn FnMut(Key) -> bool) -> u64 {
        let mut removed = 0;
        for at in 0..N {
            if self.keys[at] != Key::NONE && goes(self.keys[at]) {
                self.drop_entry(at as u8);
                removed += 1;
            }
        }
        removed
    }
}
