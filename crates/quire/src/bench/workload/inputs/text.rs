//! Text as in logs.

use super::{any, words};
use quire_sim::rng::Rng;
use std::io::{self, Write};

/// Lines in no order, of `bytes` or a little more: a hex number of varying length, then named fields. They compress a
/// little.
pub(crate) fn lines(file: &mut dyn Write, bytes: u64, rng: &mut Rng) -> io::Result<()> {
    let words = words(rng);
    let mut written = 0;
    while written < bytes {
        let line = line(&words, rng);
        file.write_all(line.as_bytes())?;
        written += line.len() as u64;
    }
    Ok(())
}

fn line(words: &[String], rng: &mut Rng) -> String {
    let number = format!("{:016x}{:016x}{:08x}", rng.any(), rng.any(), rng.any() >> 32);
    let digits = &number[..6 + rng.below(30) as usize];
    let rank = rng.any() >> 34;
    let group = &words[rank as usize % words.len()];
    format!("{digits} rank={rank} name={} group={group}\n", any(words, rng))
}

/// Of the passages in a log so many percent are repeated, and of those in an archive.
const IN_LOG: u32 = 75;
const IN_ARCHIVE: u32 = 97;

/// Passages that may be repeated: those of some 20 MB.
const KEPT: u64 = 1024;

/// Passages of such lines, `bytes` or a little more; many were there before, far away.
pub(crate) fn log(file: &mut dyn Write, bytes: u64, rng: &mut Rng) -> io::Result<()> {
    passages(file, bytes, IN_LOG, rng)
}

/// The same, but nearly all passages were there before: what packs slowly gets through it in seconds.
pub(crate) fn archive(file: &mut dyn Write, bytes: u64, rng: &mut Rng) -> io::Result<()> {
    passages(file, bytes, IN_ARCHIVE, rng)
}

fn passages(file: &mut dyn Write, bytes: u64, repeated: u32, rng: &mut Rng) -> io::Result<()> {
    let words = words(rng);
    let mut passages: Vec<String> = Vec::new();
    let mut written = 0;
    while written < bytes {
        let repeated = !passages.is_empty() && rng.chance(repeated);
        let place = rng.below(if repeated { passages.len() as u64 } else { KEPT }) as usize;
        let place = if repeated { place } else { remember(&mut passages, place, passage(&words, rng)) };
        file.write_all(passages[place].as_bytes())?;
        written += passages[place].len() as u64;
    }
    Ok(())
}

fn passage(words: &[String], rng: &mut Rng) -> String {
    let lines = 100 + rng.below(400);
    (0..lines).map(|_| line(words, rng)).collect()
}

/// Keeps a passage, instead of the one at `place` where there are enough. Returns its place.
fn remember(passages: &mut Vec<String>, place: usize, passage: String) -> usize {
    if (passages.len() as u64) < KEPT {
        passages.push(passage);
        return passages.len() - 1;
    }
    passages[place] = passage;
    place
}
