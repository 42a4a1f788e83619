//! The kinds of walks.

use crate::world::Setup;
use quire_core::{Order, OrderSet, PolicyKind};

/// What a walk may meet.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    /// What it is called.
    pub name: &'static str,
    /// What its host is made with.
    pub setup: Setup,
    /// Events of one walk.
    pub events: usize,
    /// How many of them there are to a shard.
    pub seeds: u64,
    /// How often, in 100 events, a scene begins where none is under way. The other events are left to chance.
    pub scenes: u32,
    /// Verbs are refused, pages pinned, nothing can be stored.
    pub refusals: bool,
    /// The process forks, and the child has an engine of its own.
    pub forks: bool,
    /// Contents that do not compress.
    pub raw: bool,
    /// Processes share the engine: they fork and exit.
    pub family: bool,
    /// The policy changes now and then.
    pub policies: bool,
}

pub(super) const fn order(number: u8) -> Order {
    Order::fitting(1 << number)
}

const fn fixed(number: u8) -> PolicyKind {
    PolicyKind::Fixed(order(number))
}

/// Sizes as in Linux: 16K, 64K and 256K.
const LINUX: PolicyKind = PolicyKind::Linux(OrderSet::EMPTY.with(order(2)).with(order(4)).with(order(6)));

pub(super) const POLICIES: [PolicyKind; 5] =
    [fixed(0), fixed(3), PolicyKind::Adaptive, LINUX, PolicyKind::HugeCoalesceBase];

const SMALL: Setup =
    Setup { frames: 24, segments: 64, grant: 24, policy: fixed(0), arena: 48, threads: 4, spill: None };

const PLAIN: Walk = Walk {
    name: "",
    setup: SMALL,
    events: 2000,
    seeds: 4,
    scenes: 5,
    refusals: false,
    forks: false,
    raw: false,
    family: false,
    policies: false,
};

/// Every kind of walk. Those over few pages get most of the events: there one thing meets another.
pub const WALKS: &[Walk] = &[
    Walk { name: "4K, tiny", setup: Setup { frames: 16, grant: 10, arena: 12, ..SMALL }, ..PLAIN },
    Walk {
        name: "4K, spill file",
        setup: Setup { grant: 27, spill: Some(1 << 20), ..SMALL },
        raw: true,
        ..PLAIN
    },
    Walk { name: "16K", setup: Setup { frames: 64, grant: 40, policy: fixed(2), ..SMALL }, ..PLAIN },
    Walk {
        name: "16K, refusals, forks",
        setup: Setup { frames: 64, grant: 40, policy: fixed(2), arena: 24, ..SMALL },
        refusals: true,
        forks: true,
        raw: true,
        events: 20_000,
        seeds: 14,
        scenes: 60,
        ..PLAIN
    },
    Walk {
        name: "64K, spill file, refusals",
        setup: Setup {
            frames: 160,
            grant: 67,
            policy: fixed(4),
            arena: 160,
            spill: Some(256 << 10),
            ..SMALL
        },
        refusals: true,
        raw: true,
        ..PLAIN
    },
    Walk {
        name: "adaptive, forks",
        setup: Setup { frames: 512, grant: 200, policy: PolicyKind::Adaptive, arena: 400, ..SMALL },
        forks: true,
        seeds: 3,
        ..PLAIN
    },
    Walk {
        name: "adaptive, all",
        setup: Setup {
            frames: 256,
            grant: 54,
            policy: PolicyKind::Adaptive,
            arena: 128,
            spill: Some(1 << 18),
            ..SMALL
        },
        refusals: true,
        forks: true,
        raw: true,
        seeds: 5,
        ..PLAIN
    },
    Walk {
        name: "a family, 4K",
        setup: Setup { frames: 32, grant: 20, arena: 16, ..SMALL },
        family: true,
        ..PLAIN
    },
    Walk {
        name: "a family, 16K, refusals",
        setup: Setup { frames: 80, grant: 50, policy: fixed(2), arena: 24, ..SMALL },
        family: true,
        refusals: true,
        forks: true,
        raw: true,
        events: 20_000,
        seeds: 35,
        scenes: 60,
        ..PLAIN
    },
    Walk {
        name: "a family, 64K, spill file",
        setup: Setup { frames: 200, grant: 90, policy: fixed(4), arena: 96, spill: Some(512 << 10), ..SMALL },
        family: true,
        raw: true,
        ..PLAIN
    },
    Walk {
        name: "a family, adaptive, all",
        setup: Setup {
            frames: 256,
            grant: 80,
            policy: PolicyKind::Adaptive,
            arena: 80,
            spill: Some(1 << 19),
            ..SMALL
        },
        family: true,
        refusals: true,
        forks: true,
        raw: true,
        seeds: 6,
        ..PLAIN
    },
    Walk {
        name: "linux, refusals, forks",
        setup: Setup { frames: 256, grant: 80, policy: LINUX, arena: 160, ..SMALL },
        refusals: true,
        forks: true,
        ..PLAIN
    },
    Walk {
        name: "huge-coalesce-base, spill file",
        setup: Setup {
            frames: 1280,
            grant: 640,
            policy: PolicyKind::HugeCoalesceBase,
            arena: 720,
            spill: Some(1 << 22),
            ..SMALL
        },
        raw: true,
        seeds: 3,
        ..PLAIN
    },
    Walk {
        name: "policies that change",
        setup: Setup { frames: 256, grant: 80, arena: 200, spill: Some(1 << 20), ..SMALL },
        refusals: true,
        raw: true,
        policies: true,
        ..PLAIN
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_is_what_its_name_says() {
        for walk in WALKS {
            let named = |word: &str| walk.name.split(", ").any(|part| part == word);
            let policy = match walk.name.trim_start_matches("a family, ").split(", ").next() {
                Some("4K") => fixed(0),
                Some("16K") => fixed(2),
                Some("64K") => fixed(4),
                Some("adaptive") => PolicyKind::Adaptive,
                Some("linux") => LINUX,
                Some("huge-coalesce-base") => PolicyKind::HugeCoalesceBase,
                Some("policies that change") => SMALL.policy,
                other => panic!("{other:?}"),
            };
            let (all, changes) = (named("all"), named("policies that change"));
            assert_eq!(walk.setup.policy, policy, "{}", walk.name);
            assert_eq!(walk.policies, changes, "{}", walk.name);
            assert_eq!(walk.family, named("a family"), "{}", walk.name);
            assert_eq!(walk.refusals, named("refusals") || all || changes, "{}", walk.name);
            assert_eq!(walk.setup.spill.is_some(), named("spill file") || all || changes, "{}", walk.name);
            assert!(walk.forks || !(named("forks") || all), "{}", walk.name);
            // What does not compress goes to the file.
            assert!(walk.raw || walk.setup.spill.is_none(), "{}", walk.name);
        }
    }
}
