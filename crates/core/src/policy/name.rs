//! Policies as people write them: `adaptive`, `fixed:64K`, `linux:16K,64K,2M`, `huge-coalesce-base`.

use super::{Linux, PolicyKind};
use crate::order::{Order, OrderSet};
use core::fmt;
use core::str::FromStr;

/// What is written is no policy.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct UnknownPolicy;

impl fmt::Display for UnknownPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "use adaptive, huge-coalesce-base, fixed:SIZE with a power of two from 4K to 2M, or linux:SIZE,.. with \
             16K to 2M each",
        )
    }
}

impl core::error::Error for UnknownPolicy {}

impl FromStr for PolicyKind {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<PolicyKind, UnknownPolicy> {
        match text.split_once(':') {
            Some(("fixed", size)) => order(size).map(PolicyKind::Fixed),
            Some(("linux", sizes)) => enabled(sizes).map(PolicyKind::Linux),
            None if text == "adaptive" => Ok(PolicyKind::Adaptive),
            None if text == "huge-coalesce-base" => Ok(PolicyKind::HugeCoalesceBase),
            _ => Err(UnknownPolicy),
        }
    }
}

/// A size in KiB or MiB: `64K`, `2M`, `2048k`.
fn order(size: &str) -> Result<Order, UnknownPolicy> {
    let suffix = size.chars().next_back().ok_or(UnknownPolicy)?;
    let kib: u64 = size[..size.len() - suffix.len_utf8()].parse().map_err(|_| UnknownPolicy)?;
    let bytes = match suffix {
        'k' | 'K' => kib.checked_mul(1 << 10),
        'm' | 'M' => kib.checked_mul(1 << 20),
        _ => None,
    };
    Order::all().find(|order| bytes == Some(order.bytes() as u64)).ok_or(UnknownPolicy)
}

/// The sizes that are enabled for Linux's chain, divided by commas.
fn enabled(sizes: &str) -> Result<OrderSet, UnknownPolicy> {
    sizes.split(',').try_fold(OrderSet::EMPTY, |set, size| match order(size)? {
        order if order >= Linux::LEAST => Ok(set.with(order)),
        _ => Err(UnknownPolicy),
    })
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PolicyKind::Fixed(order) => write!(f, "fixed:{order}"),
            PolicyKind::Adaptive => f.write_str("adaptive"),
            PolicyKind::HugeCoalesceBase => f.write_str("huge-coalesce-base"),
            PolicyKind::Linux(enabled) => enabled.iter().enumerate().try_for_each(|(i, order)| {
                let before = if i == 0 { "linux:" } else { "," };
                write!(f, "{before}{order}")
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn policies_are_read_as_they_are_printed() {
        for name in
            ["adaptive", "huge-coalesce-base", "fixed:4K", "fixed:2M", "linux:16K", "linux:16K,64K,2M"]
        {
            assert_eq!(name.parse::<PolicyKind>().map(|policy| policy.to_string()), Ok(name.to_string()));
        }
        assert_eq!("fixed:2048k".parse::<PolicyKind>(), "fixed:2M".parse());
        assert_eq!("linux:2M,64K".parse::<PolicyKind>(), "linux:64K,2M".parse());
    }

    #[test]
    fn other_names_and_sizes_are_none() {
        for name in [
            "",
            "fixed",
            "fixed:",
            "fixed:5K",
            "fixed:2K",
            "fixed:4M",
            "fixed:4",
            "fixed:K",
            "fixed:é",
            "fixed:64KiB",
            "lru",
            "adaptive:64K",
            "linux",
            "linux:",
            "linux:4K",
            "linux:8K",
            "linux:64K,",
            "linux:64K 2M",
            "huge-coalesce-base:2M",
            "fixed:99999999999999999999K",
            "fixed:18014398509481985K",
        ] {
            assert_eq!(name.parse::<PolicyKind>(), Err(UnknownPolicy), "{name}");
        }
    }
}
