//! A hash of 128 bits without a random key: equal runs give equal hashes, on every machine.

use core::hash::{Hash, Hasher};

const ODD: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93];

/// Two lanes of 64 bits. Each step is one to one in both lanes, so that what differs stays different until two
/// differences cancel in both at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Digest {
    a: u64,
    b: u64,
}

impl Digest {
    /// The digest of nothing.
    pub const fn new() -> Digest {
        Digest { a: ODD[1], b: ODD[0] }
    }

    /// The digest of one value.
    pub fn of<T: Hash + ?Sized>(value: &T) -> u128 {
        let mut digest = Digest::new();
        value.hash(&mut digest);
        digest.finish128()
    }

    /// Both lanes, mixed.
    pub const fn finish128(&self) -> u128 {
        let high = finish(self.a.wrapping_add(self.b.rotate_left(23)));
        let low = finish(self.b ^ high);
        (high as u128) << 64 | low as u128
    }

    const fn word(&mut self, word: u64) {
        self.a = (self.a ^ word).wrapping_mul(ODD[0]).rotate_left(29);
        self.b = self.b.wrapping_add(self.a ^ word.rotate_left(32)).wrapping_mul(ODD[1]).rotate_left(31);
    }
}

/// One to one, and every bit of the result depends on every bit of `x`.
const fn finish(mut x: u64) -> u64 {
    x = (x ^ x >> 32).wrapping_mul(ODD[1]);
    x = (x ^ x >> 29).wrapping_mul(ODD[0]);
    x ^ x >> 32
}

impl Default for Digest {
    fn default() -> Digest {
        Digest::new()
    }
}

impl Hasher for Digest {
    fn finish(&self) -> u64 {
        self.finish128() as u64
    }

    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.word(u64::from_le_bytes(word));
        }
        self.word(bytes.len() as u64);
    }

    fn write_u8(&mut self, i: u8) {
        self.word(u64::from(i));
    }

    fn write_u16(&mut self, i: u16) {
        self.word(u64::from(i));
    }

    fn write_u32(&mut self, i: u32) {
        self.word(u64::from(i));
    }

    fn write_u64(&mut self, i: u64) {
        self.word(i);
    }

    fn write_u128(&mut self, i: u128) {
        self.word(i as u64);
        self.word((i >> 64) as u64);
    }

    fn write_usize(&mut self, i: usize) {
        self.word(i as u64);
    }
}

/// Numbers renamed in the order in which they are first asked for: 1, 2, .. while 0 stays 0. States that differ
/// only in the names of tickets or versions then have equal keys.
#[derive(Clone, Debug, Default)]
pub struct Renamer {
    seen: Vec<u64>,
}

impl Renamer {
    /// The short name of `number`.
    pub fn name(&mut self, number: u64) -> u16 {
        if number == 0 {
            return 0;
        }
        let at = self.seen.iter().position(|&n| n == number).unwrap_or_else(|| {
            self.seen.push(number);
            self.seen.len() - 1
        });
        at as u16 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn small_inputs_do_not_collide() {
        let all: BTreeSet<u128> =
            (0..64u64).flat_map(|i| (0..64u64).map(move |j| Digest::of(&(i, j << 32)))).collect();
        assert_eq!(all.len(), 64 * 64);
        let lows: BTreeSet<u32> = all.iter().map(|&d| d as u32).collect();
        assert!(lows.len() > 4090, "the low half alone is spread: {}", lows.len());
    }

    #[test]
    fn equal_values_have_equal_digests_and_length_counts() {
        assert_eq!(Digest::of("abc"), Digest::of("abc"));
        assert_ne!(Digest::of(&[0u8; 7][..]), Digest::of(&[0u8; 8][..]));
    }

    #[test]
    fn names_come_in_order() {
        let mut r = Renamer::default();
        assert_eq!([r.name(900), r.name(0), r.name(7), r.name(900)], [1, 0, 2, 1]);
    }
}
