//! Amounts of memory, read and printed; times and counts, printed short or in words.

/// Bytes in a mebibyte.
pub(crate) const MIB: u64 = 1 << 20;

/// Reads an amount of memory: a number, with a fraction if need be, and K, M, G or T for powers of 1024. The
/// suffixes
/// `KiB` and `KB` mean the same as `K`.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let unknown =
        || format!("unknown size '{text}': write a number and K, M, G or T, for example 512M or 1.5G");
    let digits = text.find(|char: char| !char.is_ascii_digit() && char != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let unit = unit(suffix).ok_or_else(unknown)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || number.ends_with('.') || fraction.contains('.') {
        return Err(unknown());
    }
    let whole: u128 = whole.parse().map_err(|_| unknown())?;
    // More digits than these change no byte of a terabyte.
    let fraction = &fraction[..fraction.len().min(15)];
    let scale = 10_u128.pow(fraction.len() as u32);
    let part: u128 = if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| unknown())? };
    whole
        .checked_mul(unit)
        .and_then(|bytes| bytes.checked_add(part * unit / scale))
        .and_then(|bytes| u64::try_from(bytes).ok())
        .filter(|bytes| *bytes <= i64::MAX as u64)
        .ok_or_else(|| format!("size '{text}' is too large: no machine has that much memory"))
}

/// Bytes in a unit.
fn unit(suffix: &str) -> Option<u128> {
    let lower = suffix.to_ascii_lowercase();
    let letter = lower.strip_suffix("ib").or_else(|| lower.strip_suffix('b')).unwrap_or(&lower);
    let power = match letter {
        "" if lower != "ib" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return None,
    };
    Some(1024_u128.pow(power))
}

/// An amount in a unit that keeps it short: `1.5 GiB`, `200 MiB`, `12 B`.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut value = bytes as f64;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let text = if unit == 0 || value >= 99.95 { format!("{value:.0}") } else { format!("{value:.1}") };
    format!("{} {}", text.strip_suffix(".0").unwrap_or(&text), UNITS[unit])
}

/// A count of things whose name takes an s: `1 range`, `2 ranges`.
pub(crate) fn counted(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// A count, short: `99999`, `1.23M`.
pub(crate) fn count(number: u64) -> String {
    const UNITS: [&str; 4] = ["k", "M", "G", "T"];
    if number < 100_000 {
        return number.to_string();
    }
    let mut value = number as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$}{}", UNITS[unit])
}

/// A time, short: `950 us`, `1.23 s`.
pub(crate) fn time(ns: u64) -> String {
    const UNITS: [(&str, f64); 4] = [("ns", 1e3), ("us", 1e3), ("ms", 1e3), ("s", f64::MAX)];
    let mut value = ns as f64;
    for (unit, next) in UNITS {
        if value < next * 0.9995 {
            let digits = if unit == "ns" || value >= 99.95 {
                0
            } else if value < 10.0 {
                2
            } else {
                1
            };
            return format!("{value:.digits$} {unit}");
        }
        value /= next;
    }
    format!("{value:.0} s")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_short() {
        for (number, text) in [
            (0, "0"),
            (99_999, "99999"),
            (100_000, "100k"),
            (123_456, "123k"),
            (4_194_304, "4.19M"),
            (10_000_000, "10.0M"),
        ] {
            assert_eq!(count(number), text);
        }
        for (ns, text) in [(0, "0 ns"), (999, "999 ns"), (1_500, "1.50 us"), (12_345_678, "12.3 ms")] {
            assert_eq!(time(ns), text);
        }
        assert_eq!(time(7_200_000_000_000), "7200 s");
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("12B", 12),
            ("64K", 64 << 10),
            ("64KiB", 64 << 10),
            ("512M", 512 << 20),
            ("512mb", 512 << 20),
            ("1.5G", 3 << 29),
            ("2g", 2 << 30),
            ("1T", 1 << 40),
            ("0.0009765625M", 1024),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_its_text() {
        for text in
            ["", "M", "12Q", "-5M", "1.2.3M", "1.", ".5G", "5 M", "5iB", "0x10", "99999999999T", "9e9"]
        {
            let error = parse(text).unwrap_err();
            assert!(error.contains(&format!("'{text}'")) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn one_takes_no_s() {
        assert_eq!([0, 1, 2].map(|n| counted(n, "range")), ["0 ranges", "1 range", "2 ranges"]);
    }

    #[test]
    fn amounts_are_printed_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (200 << 20, "200 MiB"),
            (3 << 29, "1.5 GiB"),
            ((1 << 30) - 1, "1 GiB"),
            (1126, "1.1 KiB"),
            (102_348, "99.9 KiB"),
            (102_349, "100 KiB"),
            (1_048_525, "1 MiB"),
            (3 << 40, "3 TiB"),
            (5000 << 40, "5000 TiB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }

    #[test]
    fn things_are_counted_in_words() {
        assert_eq!([0, 1, 2].map(|number| counted(number, "range")), ["0 ranges", "1 range", "2 ranges"]);
    }

    #[test]
    fn sizes_beyond_all_machines_are_refused() {
        assert_eq!(parse("8388607T"), Ok(8_388_607 << 40));
        assert!(parse("8388608T").unwrap_err().contains("too large"));
        assert_eq!(parse("9223372036854775807"), Ok(i64::MAX as u64));
        assert!(parse("9223372036854775808").unwrap_err().contains("too large"));
    }

    proptest! {
        #[test]
        fn whole_numbers_are_exact(number in 0_u64..1 << 20, power in 0_u32..5) {
            let text = format!("{number}{}", ["", "K", "M", "G", "T"][power as usize]);
            prop_assert_eq!(parse(&text), Ok(number << (10 * power)));
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,12}") {
            let _ = parse(&text);
        }
    }
}
