//! What a cell tries: an order policy, and the base page of the machine that it works on.

use core::fmt;
use core::str::FromStr;
use quire_core::policy::UnknownPolicy;
use quire_core::{Order, PolicyKind};

/// An order policy on a machine with pages of some size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Paging {
    /// The base page of the machine: 4 KiB, or 16 or 64 KiB as kernels for Arm can be built with.
    pub base: Order,
    /// The policy. Its orders count in base pages.
    pub policy: PolicyKind,
}

impl Paging {
    /// A machine that has base pages of this size and no folios: 4, 16 or 64 KiB.
    pub fn of_base(base: Order) -> Option<Paging> {
        let policy = PolicyKind::Fixed(Order::BASE);
        matches!(base.index(), 0 | 2 | 4).then_some(Paging { base, policy })
    }
}

/// What is written is neither a policy nor a machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownPaging;

impl fmt::Display for UnknownPaging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{UnknownPolicy}; or base:16K or base:64K, a machine with such pages and no folios")
    }
}

impl core::error::Error for UnknownPaging {}

/// A policy on base pages of 4 KiB.
impl From<PolicyKind> for Paging {
    fn from(policy: PolicyKind) -> Paging {
        Paging { base: Order::BASE, policy }
    }
}

/// `base:16K` and `base:64K` are machines; anything else is a policy.
impl FromStr for Paging {
    type Err = UnknownPaging;

    fn from_str(text: &str) -> Result<Paging, UnknownPaging> {
        let size = text.strip_prefix("base:");
        let policy: Result<PolicyKind, _> = match size {
            Some(size) => format!("fixed:{size}").parse(),
            None => text.parse(),
        };
        match (policy, size) {
            (Ok(PolicyKind::Fixed(base)), Some(_)) if base > Order::BASE => Paging::of_base(base),
            (Ok(policy), None) => Some(Paging::from(policy)),
            _ => None,
        }
        .ok_or(UnknownPaging)
    }
}

impl fmt::Display for Paging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.base {
            Order::BASE => self.policy.fmt(f),
            base => write!(f, "base:{base}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_pages_have_names_beside_policies() {
        for name in ["adaptive", "fixed:64K", "base:16K", "base:64K"] {
            assert_eq!(name.parse::<Paging>().map(|paging| paging.to_string()), Ok(name.into()));
        }
        for name in ["base:4K", "base:8K", "base:128K", "base:", "base", "base:64"] {
            assert_eq!(name.parse::<Paging>(), Err(UnknownPaging), "{name}");
        }
    }
}
