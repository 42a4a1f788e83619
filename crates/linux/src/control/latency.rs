//! A histogram of times: four buckets for each power of two, so that a percentile is right within 25 %.

/// Buckets of a histogram. The last one holds everything from 7.5 s up.
pub const BUCKETS: usize = 128;

/// The bucket that a time belongs to.
pub const fn bucket(nanoseconds: u64) -> usize {
    if nanoseconds < 4 {
        return nanoseconds as usize;
    }
    let log = nanoseconds.ilog2();
    let quarter = (nanoseconds >> (log - 2)) & 3;
    let index = 4 * (log as usize - 1) + quarter as usize;
    if index < BUCKETS { index } else { BUCKETS - 1 }
}

/// The least time that belongs to a bucket, in nanoseconds.
pub const fn lower_bound(bucket: usize) -> u64 {
    if bucket < 4 {
        return bucket as u64;
    }
    (4 + (bucket as u64 & 3)) << (bucket / 4 - 1)
}

/// The time that `per_mille` of the counted events stayed at or below, in nanoseconds: the upper end of the
/// bucket it falls into. `None` when nothing was counted.
pub fn percentile(counts: &[u64; BUCKETS], per_mille: u64) -> Option<u64> {
    let total: u64 = counts.iter().sum();
    let rank = (total * per_mille).div_ceil(1000).max(1);
    let mut seen = 0;
    counts.iter().enumerate().find_map(|(index, count)| {
        seen += count;
        (seen >= rank).then(|| lower_bound(index + 1).saturating_sub(1))
    })
}

/// The sum of the counted times, in nanoseconds, as if each were the middle of its bucket: right within an eighth.
pub fn sum(counts: &[u64; BUCKETS]) -> u64 {
    let middle = |index| lower_bound(index).midpoint(lower_bound(index + 1).saturating_sub(1));
    counts.iter().enumerate().map(|(index, count)| count.saturating_mul(middle(index))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bucket_starts_where_the_last_one_ended() {
        for index in 0..BUCKETS - 1 {
            assert_eq!(bucket(lower_bound(index)), index);
            assert_eq!(bucket(lower_bound(index + 1) - 1), index);
        }
        assert_eq!(bucket(lower_bound(BUCKETS - 1)), BUCKETS - 1);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn sums_are_right_within_an_eighth() {
        let times = [0, 3, 900, 1_000, 1_777, 50_000, 123_456_789, 2_000_000_000];
        let mut counts = [0; BUCKETS];
        times.iter().for_each(|time| counts[bucket(*time)] += 1);
        let (sum, exact) = (sum(&counts), times.iter().sum::<u64>());
        assert!(sum.abs_diff(exact) <= exact / 8, "{sum}, not {exact}");
        assert_eq!(super::sum(&[0; BUCKETS]), 0);
    }

    #[test]
    fn percentiles_fall_into_the_bucket_of_their_rank() {
        let mut counts = [0; BUCKETS];
        assert_eq!(percentile(&counts, 500), None);
        counts[bucket(1_000)] = 98;
        counts[bucket(50_000)] = 2;
        let (p50, p99) = (percentile(&counts, 500).unwrap(), percentile(&counts, 990).unwrap());
        assert!((1_000..1_250).contains(&p50), "{p50}");
        assert!((50_000..62_500).contains(&p99), "{p99}");
    }
}
