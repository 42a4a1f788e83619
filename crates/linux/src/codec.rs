//! Hashing and compressing single pages.
//!
//! Each page is hashed and compressed by itself, so that one page can be brought in alone. The hash is keyed
//! by a secret of this process: it tells damage from good contents, and equal contents from changed ones,
//! also where a program writes what it pleases.

use crate::sys::zstd::Zstd;
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
pub const ROOM: usize = 1 + block::get_maximum_output_size(PAGE_SIZE);

/// How a page was compressed: the first of its stored bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Method {
    /// Quick both ways.
    Lz4 = 1,
    /// Takes three times as long both ways, and entropy-codes what lz4 copies: digits, text, pointers.
    Zstd = 2,
}

/// What stored bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// A page as it is.
    Raw,
    /// Compressed by lz4.
    Lz4,
    /// Compressed by zstd.
    Zstd,
}

impl Form {
    /// That of stored bytes; `None` where they are none of ours.
    pub fn of(bytes: &[u8]) -> Option<Form> {
        match bytes {
            bytes if bytes.len() == PAGE_SIZE => Some(Form::Raw),
            [tag, ..] if *tag == Method::Lz4 as u8 => Some(Form::Lz4),
            [tag, ..] if *tag == Method::Zstd as u8 => Some(Form::Zstd),
            _ => None,
        }
    }
}

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

/// What one worker needs for compressing and back: tables and contexts, used again and again. Large: keep it in a
/// `Box`.
pub struct Codec {
    secret: Secret,
    table: CompressTable,
    zstd: Zstd,
    /// Pages that were to be small.
    pages: u32,
    /// By how much zstd makes them smaller than lz4 does, in 256ths; the last ones that were tried count most.
    gain: usize,
}

/// Of the pages that are to be small, one in so many is compressed both ways.
const TRIED: u32 = 16;
/// What zstd has to gain to be worth its time, in 256ths: an eighth.
const GAIN: usize = 32;

impl Codec {
    /// One that hashes with `secret`.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new(secret: &Secret) -> Result<Codec> {
        Ok(Codec {
            secret: secret.clone(),
            table: CompressTable::small(),
            zstd: Zstd::new()?,
            pages: 0,
            gain: 0,
        })
    }

    /// The hash of a page.
    pub fn hash(&self, page: &Page) -> PageHash {
        self.secret.hash(page)
    }

    /// Finds out how a page is to be stored: unchanged since its stored copy, whose hash is `known`; zero;
    /// compressed, the first `len` bytes of `out`; or as it is. `tight`: fewer bytes are worth more than time.
    pub fn pack(
        &mut self,
        page: &Page,
        known: Option<PageHash>,
        tight: bool,
        out: &mut [u8; ROOM],
    ) -> Packed {
        if is_zero(page) {
            return Packed::Zero;
        }
        let hash = self.hash(page);
        if known == Some(hash) {
            return Packed::Same;
        }
        let zstd_first = tight && self.prefers_zstd(page, out);
        let quick = if zstd_first { None } else { self.compress(Method::Lz4, page, out) };
        match quick.or_else(|| self.compress(Method::Zstd, page, out)) {
            Some(len) => Packed::Small { len: len as u16, hash },
            None => Packed::Raw { hash },
        }
    }

    /// Whether pages like those of late are better compressed by zstd where they are to be small. Tries it with some.
    fn prefers_zstd(&mut self, page: &Page, out: &mut [u8; ROOM]) -> bool {
        let tries = self.pages.is_multiple_of(TRIED);
        self.pages = self.pages.wrapping_add(1);
        if tries && let Some(len) = self.compress(Method::Lz4, page, out) {
            let least = self.compress(Method::Zstd, page, out).unwrap_or(len).min(len);
            let gain = (len - least) * 256 / len;
            self.gain = if self.pages == 1 { gain } else { (self.gain * 7 + gain) / 8 };
        }
        self.gain >= GAIN
    }

    /// Compresses a page into `out`; the number of bytes, or `None` where they are more than [`WORTH`].
    fn compress(&mut self, method: Method, page: &Page, out: &mut [u8; ROOM]) -> Option<usize> {
        let [tag, rest @ ..] = out;
        *tag = method as u8;
        let len = match method {
            Method::Lz4 => block::compress_into_with_table(page, rest, &mut self.table).ok(),
            Method::Zstd => self.zstd.compress(page, &mut rest[..WORTH - 1]),
        };
        len.map(|len| len + 1).filter(|&len| len <= WORTH)
    }

    /// Brings a page back from its compressed bytes, and says whether they were a whole page's. That it comes back does
    /// not yet mean that it is the right one: the hash tells.
    pub fn decompress(&mut self, packed: &[u8], page: &mut Page) -> bool {
        const LZ4: u8 = Method::Lz4 as u8;
        const ZSTD: u8 = Method::Zstd as u8;
        match packed {
            [LZ4, bytes @ ..] => block::decompress_into(bytes, page).is_ok_and(|len| len == PAGE_SIZE),
            [ZSTD, bytes @ ..] => self.zstd.decompress(bytes, page),
            _ => false,
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
        Codec::new(&Secret::random().unwrap()).unwrap()
    }

    /// A page whose first `kind` sixteenths of a quarter are noise, and the rest counts slowly.
    fn partly_noise(kind: u64) -> Page {
        let mut page = noise(kind);
        let calm = kind as usize * 64;
        page[calm..].iter_mut().enumerate().for_each(|(i, byte)| *byte = (i / 100) as u8 + 1);
        page
    }

    #[test]
    fn pages_come_back_from_what_they_were_packed_to() {
        let mut codec = codec();
        let mut out = [0; ROOM];
        for (kind, tight) in (0..48).flat_map(|kind| [(kind, false), (kind, true)]) {
            let page = partly_noise(kind);
            let Packed::Small { len, .. } = codec.pack(&page, None, tight, &mut out) else {
                assert!(kind > 44, "{kind} sixteenths of noise hardly compress");
                continue;
            };
            let mut back = [0xee; PAGE_SIZE];
            assert!(codec.decompress(&out[..usize::from(len)], &mut back));
            assert_eq!(back, page);
        }
    }

    #[test]
    fn what_lz4_copies_is_entropy_coded() {
        let mut codec = codec();
        let digits = noise(5).map(|byte| b"0123456789abcdef"[usize::from(byte % 16)]);
        let mut out = [0; ROOM];
        assert_eq!(codec.compress(Method::Lz4, &digits, &mut out), None);
        let Packed::Small { len, .. } = codec.pack(&digits, None, false, &mut out) else {
            panic!("not small")
        };
        assert!(len < 2200, "{len}");
    }

    /// How a page was packed that is to be small.
    fn form(codec: &mut Codec, page: &Page) -> Option<Form> {
        let mut out = [0; ROOM];
        match codec.pack(page, None, true, &mut out) {
            Packed::Small { len, .. } => Form::of(&out[..usize::from(len)]),
            _ => None,
        }
    }

    #[test]
    fn zstd_is_taken_where_it_gains_much() {
        let mut codec = codec();
        // Half of it digits, which lz4 copies, and runs.
        let text = |seed| {
            let mut page = noise(seed).map(|byte| b"0123456789abcdef"[usize::from(byte % 16)]);
            page[2048..].fill(b'q');
            page
        };
        // Noise, which nobody makes smaller, and runs.
        let words = |seed| {
            let mut page = noise(seed);
            page[1024..].fill(b'q');
            page
        };
        let mut forms = |make: &dyn Fn(u64) -> Page, seeds: core::ops::Range<u64>| {
            seeds.map(|seed| form(&mut codec, &make(seed)).unwrap()).collect::<Vec<_>>()
        };
        assert!(forms(&text, 0..20).iter().all(|form| *form == Form::Zstd));
        let after = forms(&words, 20..400);
        assert!(after[after.len() - 100..].iter().all(|form| *form == Form::Lz4));
        let again = forms(&text, 400..800);
        assert!(again[again.len() - 100..].iter().all(|form| *form == Form::Zstd));
    }

    #[test]
    fn packing_tells_the_four_kinds_apart() {
        let mut codec = codec();
        let mut out = [0; ROOM];
        assert_eq!(codec.pack(&[0; PAGE_SIZE], Some(1), false, &mut out), Packed::Zero);
        let page = noise(1);
        let hash = codec.hash(&page);
        assert_eq!(codec.pack(&page, None, false, &mut out), Packed::Raw { hash });
        assert_eq!(codec.pack(&page, Some(hash), false, &mut out), Packed::Same);
        let mut text = [b'q'; PAGE_SIZE];
        text[77] = 1;
        let Packed::Small { len, hash } = codec.pack(&text, Some(hash), false, &mut out) else {
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
        let page = partly_noise(16);
        let (mut out, hash) = ([0; ROOM], codec.hash(&page));
        for method in [Method::Lz4, Method::Zstd] {
            let len = codec.compress(method, &page, &mut out).unwrap();
            for at in 0..len {
                let mut damaged = out;
                damaged[at] ^= 0x41;
                let mut back = [0; PAGE_SIZE];
                // A header may say in two ways what makes no difference to the contents.
                if codec.decompress(&damaged[..len], &mut back) && back != page {
                    assert_ne!(codec.hash(&back), hash, "byte {at}");
                }
            }
            assert!(!codec.decompress(&out[..len - 1], &mut [0; PAGE_SIZE]));
        }
        assert!(!codec.decompress(&[], &mut [0; PAGE_SIZE]));
    }

    #[test]
    fn every_secret_hashes_otherwise() {
        let page = noise(9);
        assert_ne!(codec().hash(&page), codec().hash(&page));
    }
}
