//! The numbers of the trace format, and its checksum. `docs/trace.md` describes it.

use quire_core::Vpn;

/// What a trace begins with. The first byte is no text, the line ends show a transfer as text.
pub(super) const MAGIC: [u8; 8] = *b"\x89QUIRE\r\n";

/// The version that is written, and the only one that is read.
pub(super) const VERSION: u16 = 1;

/// Bits of an address below the page number.
pub(super) const PAGE_SHIFT: u8 = 12;

/// Bytes of the header: magic, version (little-endian), page shift, a zero.
pub(super) const HEADER: usize = MAGIC.len() + 4;

/// In the first byte of a record: it is no access, and the bits above are its verb.
pub(super) const VERB: u8 = 1;
/// In the first byte of an access: it writes.
pub(super) const WRITE: u8 = 2;
/// In the first byte of an access: the number of times follows, less two.
pub(super) const TIMES: u8 = 4;
/// In the first byte of an access: the distance is from the other page, not from the last one.
pub(super) const OTHER: u8 = 8;
/// In the first byte of an access: where the distance begins.
pub(super) const NEAR_SHIFT: u32 = 4;
/// How many bits of the distance are in the first byte.
pub(super) const NEAR_BITS: u32 = 3;
/// In any byte of a number: more of it follows.
pub(super) const MORE: u8 = 0x80;

/// Records that are no access, by the bits of their first byte above [`VERB`].
pub(super) mod verb {
    pub(in super::super) const MAP: u8 = 1;
    pub(in super::super) const UNMAP: u8 = 2;
    pub(in super::super) const DISCARD: u8 = 3;
    pub(in super::super) const PROTECT: u8 = 4;
    /// The space of the records that follow.
    pub(in super::super) const SPACE: u8 = 5;
    pub(in super::super) const FORK: u8 = 6;
    pub(in super::super) const EXIT: u8 = 7;
    pub(in super::super) const TIME: u8 = 8;
    /// The number of events and the checksum follow, and nothing more.
    pub(in super::super) const END: u8 = 15;
}

/// The two pages that distances are from. Programs go to and fro between a stack and a heap that are far apart.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Places {
    pub(super) last: Vpn,
    pub(super) other: Vpn,
}

impl Places {
    /// `vpn` is the last page from now on. If it was reached from the other page, the one that was last until now is
    /// the other one.
    pub(super) fn go(&mut self, from_other: bool, vpn: Vpn) {
        if from_other {
            self.other = self.last;
        }
        self.last = vpn;
    }
}

/// The distance between two pages, as a number that is small when it is.
pub(super) const fn distance(from: Vpn, to: Vpn) -> u64 {
    zigzag(to.0 as i64 - from.0 as i64)
}

/// A signed distance as a number that is small when the distance is: 0, -1, 1, -2, ..
const fn zigzag(distance: i64) -> u64 {
    (distance << 1 ^ distance >> 63) as u64
}

/// The distance of such a number.
pub(super) const fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// CRC-32 as in zip, PNG and Ethernet: polynomial 0xEDB88320 reflected, all ones before and inverted after.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crc(u32);

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut rest = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            rest = if rest & 1 == 1 { rest >> 1 ^ 0xedb8_8320 } else { rest >> 1 };
            bit += 1;
        }
        table[byte] = rest;
        byte += 1;
    }
    table
};

impl Crc {
    pub(super) const fn new() -> Crc {
        Crc(u32::MAX)
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0 >> 8 ^ TABLE[usize::from(self.0 as u8 ^ byte)];
        }
    }

    pub(super) const fn sum(self) -> u32 {
        !self.0
    }
}
