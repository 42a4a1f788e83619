//! Reads of a genome.

use super::any;
use quire_sim::rng::Rng;
use std::io::{self, Write};

/// Bases of each.
const LENGTH: usize = 100;

/// Chromosomes, each of so many bases.
const CHROMOSOMES: u64 = 10;
const BASES: u64 = 100_000_000;

/// `count` aligned reads in no order, as SAM.
pub(crate) fn reads(file: &mut dyn Write, count: u64, rng: &mut Rng) -> io::Result<()> {
    writeln!(file, "@HD\tVN:1.6\tSO:unsorted")?;
    for chromosome in 1..=CHROMOSOMES {
        writeln!(file, "@SQ\tSN:chr{chromosome}\tLN:{BASES}")?;
    }
    for read in 0..count {
        let flag = any(&[0, 16], rng);
        let chromosome = 1 + rng.below(CHROMOSOMES);
        let place = 1 + rng.below(BASES - LENGTH as u64);
        write!(file, "read{read:08}\t{flag}\tchr{chromosome}\t{place}\t60\t{LENGTH}M\t*\t0\t0\t")?;
        file.write_all(&letters(b"ACGT", rng))?;
        file.write_all(b"\t")?;
        file.write_all(&letters(b"FFFFF:,#", rng))?;
        file.write_all(b"\n")?;
    }
    Ok(())
}

fn letters(of: &[u8], rng: &mut Rng) -> [u8; LENGTH] {
    std::array::from_fn(|_| *any(of, rng))
}
