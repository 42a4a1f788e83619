//! Hashing and compressing single pages.
//!
//! Each page is hashed and compressed by itself, so that one page can be brought in alone. The hash is keyed
//! by a secret of this process: it tells damage from good contents, and equal contents from changed ones,
//! also where a program writes what it pleases.

use crate::sys::{Errno, Result};
use core::fmt;
use lz4_flex::block::{self, CompressTable};
use quire_core::PAGE_SIZE;
use quire_core::job::{Packed, PageHash};

/// The contents of a page.
pub type Page = [u8; PAGE_SIZE];

/// The most bytes for which storing a page compressed pays: three quarters of a page. Above it the page is
/// stored as it is, in a file where there is one: the same RAM does more good as frames, in which pages cost nothing.
pub const WORTH: usize = PAGE_SIZE * 3 / 4;

/// The room that compressing a page needs, in bytes, however badly it compresses.
pub const ROOM: usize = block::get_maximum_output_size(PAGE_SIZE);

/// The key of the hash. Never printed, never stored.
#[derive(Clone)]
pub struct Secret([u8; Secret::LEN]);

impl Secret {
    /// Bytes in a secret: what the hash uses by default, which is above its minimum.
    const LEN: usize = 192;

    /// A new one from the kernel's random numbers.
    pub fn random() -> Result<Secret> {
        let mut bytes = [0u8; Secret::LEN];
        let mut filled = 0;
        while filled < bytes.len() {
            match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(Secret(bytes))
    }

    /// The hash of a page.
    pub fn hash(&self, page: &Page) -> PageHash {
        xxhash_rust::xxh3::xxh3_128_with_secret(page, &self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Whether every byte is zero. Most pages that are not tell so in their first bytes.
pub fn is_zero(page: &Page) -> bool {
    let (lines, _) = page.as_chunks::<64>();
    lines.iter().all(|line| line.iter().fold(0, |any, byte| any | byte) == 0)
}

/// Stored bytes that are no page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damaged;

/// Brings a page back from its compressed bytes. That it comes back does not yet mean that it is the right
/// one: the hash tells.
pub fn decompress(packed: &[u8], page: &mut Page) -> core::result::Result<(), Damaged> {
    match block::decompress_into(packed, page) {
        Ok(PAGE_SIZE) => Ok(()),
        _ => Err(Damaged),
    }
}

/// What one worker needs for compressing: tables of 8 KiB, used again and again. Large: keep it in a `Box`.
pub struct Codec {
    secret: Secret,
    table: CompressTable,
}

impl Codec {
    /// One that hashes with `secret`.
    pub fn new(secret: &Secret) -> Codec {
        Codec { secret: secret.clone(), table: CompressTable::small() }
    }

    /// The hash of a page.
    pub fn hash(&self, page: &Page) -> PageHash {
        self.secret.hash(page)
    }

    /// Compresses a page into `out`; the number of bytes, which may be more than [`WORTH`] and even more
    /// than a page.
    pub fn compress(&mut self, page: &Page, out: &mut [u8; ROOM]) -> usize {
        // The only failure is that the room is too small, and it is the largest there can be. If it came all
        // the same: a length that nobody takes for compressed.
        block::compress_into_with_table(page, out, &mut self.table).unwrap_or(ROOM)
    }

    /// Finds out how a page is to be stored: unchanged since its stored copy, whose hash is `known`; zero;
    /// compressed, the first `len` bytes of `out`; or as it is.
    pub fn pack(&mut self, page: &Page, known: Option<PageHash>, out: &mut [u8; ROOM]) -> Packed {
        if is_zero(page) {
            return Packed::Zero;
        }
        let hash = self.hash(page);
        if known == Some(hash) {
            return Packed::Same;
        }
        match self.compress(page, out) {
            len if len <= WORTH => Packed::Small { len: len as u16, hash },
            _ => Packed::Raw { hash },
        }
    }
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codec").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page of noise, the same for the same seed.
    fn noise(mut seed: u64) -> Page {
        core::array::from_fn(|_| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 56) as u8
        })
    }

    fn codec() -> Codec {
        Codec::new(&Secret::random().unwrap())
    }

    #[test]
    fn pages_come_back_from_what_they_were_packed_to() {
        let mut codec = codec();
        let mut out = [0; ROOM];
        for kind in 0..64u64 {
            // The first `kind` sixteenths of a quarter are noise, the rest counts slowly.
            let mut page = noise(kind);
            let calm = kind as usize * 64;
            page[calm..].iter_mut().enumerate().for_each(|(i, byte)| *byte = (i / 100) as u8 + 1);
            let len = codec.compress(&page, &mut out);
            let mut back = [0xee; PAGE_SIZE];
            decompress(&out[..len], &mut back).unwrap();
            assert_eq!(back, page);
        }
    }

    #[test]
    fn packing_tells_the_four_kinds_apart() {
        let mut codec = codec();
        let mut out = [0; ROOM];
        assert_eq!(codec.pack(&[0; PAGE_SIZE], Some(1), &mut out), Packed::Zero);
        let page = noise(1);
        let hash = codec.hash(&page);
        assert_eq!(codec.pack(&page, None, &mut out), Packed::Raw { hash });
        assert_eq!(codec.pack(&page, Some(hash), &mut out), Packed::Same);
        let mut text = [b'q'; PAGE_SIZE];
        text[77] = 1;
        let Packed::Small { len, hash } = codec.pack(&text, Some(hash), &mut out) else {
            panic!("not small")
        };
        assert!(len < 64 && hash == codec.hash(&text));
    }

    #[test]
    fn one_byte_anywhere_is_not_zero() {
        for at in [0, 63, 64, 2000, PAGE_SIZE - 1] {
            let mut page = [0; PAGE_SIZE];
            page[at] = 0x80;
            assert!(!is_zero(&page));
        }
        assert!(is_zero(&[0; PAGE_SIZE]));
    }

    #[test]
    fn damaged_bytes_are_told_or_give_another_hash() {
        let mut codec = codec();
        let mut page = noise(3);
        page[1000..].fill(7);
        let (mut out, hash) = ([0; ROOM], codec.hash(&page));
        let len = codec.compress(&page, &mut out);
        for at in 0..len {
            let mut damaged = out;
            damaged[at] ^= 0x41;
            let mut back = [0; PAGE_SIZE];
            if decompress(&damaged[..len], &mut back).is_ok() {
                assert_ne!(codec.hash(&back), hash, "byte {at}");
            }
        }
        assert_eq!(decompress(&out[..len - 1], &mut page), Err(Damaged));
        assert_eq!(decompress(&[], &mut page), Err(Damaged));
    }

    #[test]
    fn every_secret_hashes_otherwise() {
        let page = noise(9);
        assert_ne!(codec().hash(&page), codec().hash(&page));
    }
}
