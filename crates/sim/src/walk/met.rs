//! How much of what matters a walk met, as the engine counted it.

use super::Walk;
use crate::world::Host;
use quire_core::{Order, PolicyKind};

const NAMES: [&str; 24] = [
    "swap-ins",
    "rescues",
    "swap-outs",
    "void jobs",
    "joined",
    "adopted",
    "late",
    "foreign",
    "no frame",
    "same",
    "spill jobs",
    "unstorable",
    "splits",
    "refused",
    "copies",
    "reuses",
    "shared maps",
    "sparse",
    "collapses",
    "compacted",
    "stuck",
    "gaps",
    "died written",
    "copies given up",
];

/// Counts, by name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Met([u64; NAMES.len()]);

impl Met {
    pub(super) fn of(host: &Host) -> Met {
        let stats = host.engine.stats();
        Met([
            stats.swap_ins.iter().sum(),
            stats.rescues.iter().sum(),
            stats.swap_outs.iter().sum(),
            stats.void_jobs,
            stats.joined,
            stats.adopted,
            stats.late,
            stats.foreign,
            stats.no_frame,
            stats.pages_same,
            host.spill_jobs,
            stats.unstorable,
            stats.splits.iter().sum(),
            stats.refusals.iter().sum(),
            stats.cow_copies.iter().sum(),
            stats.cow_reuses,
            stats.shared_maps,
            stats.sparse_folios,
            stats.collapses.iter().sum(),
            stats.compacted_pages,
            host.checks().stuck,
            host.checks().gaps,
            host.checks().died,
            host.checks().given_up,
        ])
    }

    /// Adds what another walk has met.
    pub fn add(&mut self, more: &Met) {
        self.0.iter_mut().zip(more.0).for_each(|(mine, theirs)| *mine += theirs);
    }

    /// The names and counts of what a million events of such a walk are sure to meet and these did not. A walk that meets
    /// nothing proves nothing.
    pub fn missing(&self, walk: &Walk, events: u64) -> Vec<(&'static str, u64)> {
        let large = !matches!(walk.setup.policy, PolicyKind::Fixed(Order::BASE));
        let keeps = walk.setup.spill.is_some() || walk.setup.grant > 100;
        let least = |name: &str| match name {
            "same" if !keeps => 0,
            "splits" if !large => 0,
            "spill jobs" if walk.setup.spill.is_none() => 0,
            "copies" | "reuses" | "shared maps" if !walk.family => 0,
            // Seldom, where most is moved out or shared.
            "collapses" | "reuses" => 1,
            "sparse" if !large => 0,
            "unstorable" if !walk.refusals => 0,
            // In every other walk, at its end at the least; where much goes wrong on purpose, all the time.
            "stuck" if walk.scenes < 50 => 500_000 / walk.events as u64,
            "stuck" => 5000,
            "gaps" => 10_000,
            "died written" => 20,
            // Only where a verb may be refused so often; what becomes of it is played in tests/leaks.rs.
            "copies given up" if walk.family && walk.refusals && walk.scenes >= 50 => 5,
            "copies given up" => 0,
            _ => 40,
        };
        // Less two standard deviations: in few events chance does not even out.
        let share = |name: &str| least(name) * events / 1_000_000;
        let least = |name: &str| share(name).saturating_sub(2 * share(name).isqrt());
        let all = NAMES.into_iter().zip(self.0);
        all.filter(|&(name, met)| met < least(name)).collect()
    }
}

impl core::fmt::Display for Met {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let all: Vec<String> = NAMES.iter().zip(self.0).map(|(name, n)| format!("{name} {n}")).collect();
        f.write_str(&all.join(", "))
    }
}
