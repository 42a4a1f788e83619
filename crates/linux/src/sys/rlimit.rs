//! Limits of resources, and whether this process may raise them.

use super::Result;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities};

/// No limit.
pub const UNLIMITED: u64 = u64::MAX;

/// A soft and a hard limit, in bytes; laid out as the kernel's.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    /// What holds.
    pub soft: u64,
    /// What the soft one may be raised to.
    pub hard: u64,
}

impl Limit {
    /// None at all.
    pub const NONE: Limit = Limit::both(UNLIMITED);

    /// The same value for both.
    pub const fn both(value: u64) -> Limit {
        Limit { soft: value, hard: value }
    }
}

/// The calling process's limit.
pub fn get(resource: Resource) -> Limit {
    let Rlimit { current, maximum } = getrlimit(resource);
    Limit { soft: current.unwrap_or(UNLIMITED), hard: maximum.unwrap_or(UNLIMITED) }
}

/// Sets it. EPERM when the hard one is raised without the right to it.
pub fn set(resource: Resource, limit: Limit) -> Result<()> {
    let word = |value: u64| (value != UNLIMITED).then_some(value);
    setrlimit(resource, Rlimit { current: word(limit.soft), maximum: word(limit.hard) })
}

/// Whether the calling thread has `CAP_SYS_RESOURCE`, by which hard limits may be raised.
pub fn may_raise() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_RESOURCE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Errno;

    #[test]
    fn what_was_set_is_read_and_a_soft_limit_above_the_hard_one_refused() {
        // Core files: nothing in these tests dumps one.
        let before = get(Resource::Core);
        set(Resource::Core, Limit { soft: 0, hard: before.hard }).unwrap();
        assert_eq!(get(Resource::Core), Limit { soft: 0, hard: before.hard });
        assert_eq!(set(Resource::Core, Limit { soft: 2, hard: 1 }), Err(Errno::INVAL));
        set(Resource::Core, before).unwrap();
    }
}
