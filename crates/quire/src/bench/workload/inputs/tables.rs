//! What fills databases.

use super::words;
use quire_sim::rng::Rng;
use std::io::{self, Write};

/// What sqlite draws its numbers from.
const SQL_SEED: &str = "20240";

/// A row takes about so many bytes in the table and the index.
const BYTES_PER_ROW: u64 = 680;

/// SQL that fills an in-memory database with rows of some `bytes`, then looks up, changes and reads them. sqlite draws the
/// numbers itself.
pub(crate) fn sql(file: &mut dyn Write, bytes: u64, rng: &mut Rng) -> io::Result<()> {
    let rows = (bytes / BYTES_PER_ROW).max(1);
    let filler = words(rng).concat();
    let text = include_str!("../scripts/rows.sql")
        .replace("{seed}", SQL_SEED)
        .replace("{rows}", &rows.to_string())
        .replace("{lookups}", &(rows / 8).max(1).to_string())
        .replace("{half}", &(rows / 2).to_string())
        .replace("{filler}", &filler[..300]);
    file.write_all(text.as_bytes())
}

/// SETs of `keys` keys, as redis-benchmark asks for them, with values of 512 characters that compress about 1.5 times.
pub(crate) fn redis_commands(file: &mut dyn Write, keys: u64, rng: &mut Rng) -> io::Result<()> {
    for key in shuffled(keys, rng) {
        let mut value: String = (0..20).map(|_| format!("{:016x}", rng.any())).collect();
        value += &format!("field={:06x};", rng.any() >> 40);
        value += &format!("{:03},empty,", key % 1000).repeat(20);
        write!(file, "SET key:{key:012} {}\r\n", &value[..512])?;
    }
    Ok(())
}

/// The numbers below `count`, in no order.
fn shuffled(count: u64, rng: &mut Rng) -> Vec<u64> {
    let mut all: Vec<u64> = (0..count).collect();
    for last in (1..all.len()).rev() {
        all.swap(last, rng.below(last as u64 + 1) as usize);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_is_drawn() {
        let orders: std::collections::BTreeSet<Vec<u64>> =
            (0..200).map(|seed| shuffled(3, &mut Rng::new(seed))).collect();
        assert_eq!(orders.len(), 6);
    }

    #[test]
    fn every_key_is_set_once() {
        let mut text = Vec::new();
        redis_commands(&mut text, 50, &mut Rng::new(1)).unwrap();
        let text = String::from_utf8(text).unwrap();
        let mut keys: Vec<&str> = text.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
        assert!(!keys.is_sorted());
        keys.sort_unstable();
        let expected: Vec<String> = (0..50).map(|key| format!("key:{key:012}")).collect();
        assert_eq!(keys, expected);
        assert!(text.lines().all(|line| line.len() == "SET key:000000000000 ".len() + 512));
    }

    #[test]
    fn nothing_is_left_to_be_filled_in() {
        let mut text = Vec::new();
        sql(&mut text, 1 << 20, &mut Rng::new(1)).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(!text.contains('{') && text.contains("i < 1542"), "{text}");
    }
}
