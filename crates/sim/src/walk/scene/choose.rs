//! Which combination a scene is to lead up to, and from which page.

use super::is_of_verbs;
use crate::cells::{Event as Meeting, Injected, State, possible};
use crate::rng::Rng;
use crate::walk::Walk;
use crate::walk::events::pick;
use crate::world::{Host, SPACE};
use quire_core::{Order, PolicyKind, Vpn};

/// Combinations looked at for one to be met.
const CANDIDATES: u32 = 160;
/// The same, of those that few ways lead to.
const SELDOM_TRIES: u32 = 6;
/// Pages looked at for one to begin with.
const MOST_LOOKED_AT: u64 = 24;

/// Of some combinations that such a walk may meet, the one that it has met least.
pub(super) fn rarest(walk: &Walk, host: &Host, rng: &mut Rng) -> (Meeting, State, Injected) {
    let any = |rng: &mut Rng| loop {
        let (event, goal) = (pick(rng, &Meeting::ALL), pick(rng, &State::ALL));
        let wrong = pick(rng, &Injected::ALL);
        let possible = possible(event, goal, wrong).is_ok() && may_have(walk, goal, wrong);
        let never = event == Meeting::Fork && !walk.forks
            || matches!(event, Meeting::ForkSpace | Meeting::Exit) && !walk.family
            || (goal == State::Shared || event == Meeting::Fork) && host.at != SPACE;
        // What needs no family, others meet too.
        let common = walk.family && !goal.is_shared() && event != Meeting::ForkSpace;
        // Others are slow beside it.
        let beside = wrong == Injected::StoreSlow && rng.chance(50);
        let wanted = possible && !never && !beside;
        if wanted && !(common && rng.chance(52)) {
            return (event, goal, wrong);
        }
    };
    let hits = |&(event, goal, wrong): &(Meeting, State, Injected)| {
        host.tally().map_or(0, |tally| tally.of(event, goal, wrong))
    };
    if walk.refusals
        && rng.chance(15)
        && let Some(cell) = (0..SELDOM_TRIES).find_map(|_| seldom(walk, host, rng))
    {
        return cell;
    }
    // Few ways lead there: a process forks alone, its child ends, and then it forks within the engine.
    if walk.family && walk.forks && host.at == SPACE && rng.chance(2) {
        return (Meeting::ForkSpace, State::Shared, pick(rng, &[Injected::VerbPartial, Injected::PageGone]));
    }
    let mut best = any(rng);
    for _ in 1..CANDIDATES {
        let other = any(rng);
        if hits(&other) < hits(&best) {
            best = other;
        }
    }
    best
}

/// Verbs that are cut on pages that others share, or in a fork: few ways lead there, and many of them astray.
fn seldom(walk: &Walk, host: &Host, rng: &mut Rng) -> Option<(Meeting, State, Injected)> {
    const CALLS: [Meeting; 8] = [
        Meeting::Fault,
        Meeting::Write,
        Meeting::Discard,
        Meeting::Unmap,
        Meeting::Remap,
        Meeting::Protect,
        Meeting::Lock,
        Meeting::JobDone,
    ];
    // What stops where a page appears was refused too, or done in part.
    const WRONG: [Injected; 7] = [
        Injected::VerbRefused,
        Injected::VerbPartial,
        Injected::PageAppeared,
        Injected::PageAppeared,
        Injected::PageGone,
        Injected::PageGone,
        Injected::RefusedOn,
    ];
    let wrong = pick(rng, &WRONG);
    let (event, goal) = match walk.family {
        true if rng.chance(70) => (pick(rng, &CALLS), pick(rng, &State::ALL[State::ALL.len() - 5..])),
        true => (Meeting::ForkSpace, pick(rng, &State::ALL)),
        false if walk.forks && host.at == SPACE => (Meeting::Fork, pick(rng, &State::ALL)),
        false => return None,
    };
    possible(event, goal, wrong).is_ok().then_some((event, goal, wrong))
}

/// A page that an earlier scene has left in the state, or else in one that leads to it.
pub(super) fn left_behind(host: &Host, goal: State, wrong: Injected, rng: &mut Rng) -> Option<Vpn> {
    let pages = host.setup().arena.min(MOST_LOOKED_AT);
    let first = rng.below(pages);
    let mut near = None;
    for vpn in (0..pages).map(|i| Vpn((first + i) % pages)) {
        let Some(state) = host.state(host.at, vpn) else { continue };
        let marked = wrong != Injected::JobFailed || host.has_failed(host.at, vpn);
        let folio = host.engine.folio_order(host.at, vpn).is_some_and(|order| order > Order::BASE);
        let partial = matches!(wrong, Injected::VerbPartial | Injected::PageGone);
        let fits = marked && (!partial || folio && !vpn.0.is_multiple_of(4));
        if fits && state == goal {
            return Some(vpn);
        }
        if fits && near.is_none() && feeds(state, goal) {
            near = Some(vpn);
        }
    }
    near
}

/// Whether a page in `state` is one or two events from `goal`.
pub(super) const fn feeds(state: State, goal: State) -> bool {
    match goal {
        State::FillingStored | State::SharedStored => matches!(state, State::Stored | State::StandbyWithCopy),
        State::MappedWithCopy => {
            matches!(state, State::StandbyWithCopy | State::FillingStored | State::Stored)
        }
        State::Writing | State::SharedStandby => matches!(state, State::Standby),
        State::StandbyWithCopy => matches!(state, State::Writing | State::MappedWithCopy),
        State::Stored => matches!(state, State::StandbyWithCopy),
        State::SharedWriting => matches!(state, State::Writing | State::SharedStandby),
        State::SharedFilling => matches!(state, State::SharedStored),
        State::SharedMapped => matches!(state, State::SharedStandby | State::Mapped | State::MappedWithCopy),
        State::Zombie => matches!(state, State::FillingZeroes | State::FillingStored | State::Writing),
        _ => false,
    }
}

/// What may go wrong beside something else, so that one event counts for both. A verb that is to be refused has to be
/// called, and without a frame many are not.
pub(super) fn beside(walk: &Walk, wrong: Injected, rng: &mut Rng) -> Vec<Injected> {
    let mut all = Vec::new();
    let verbs = is_of_verbs(wrong);
    if wrong == Injected::Nothing {
        return all;
    }
    if rng.chance(30) {
        all.push(Injected::StoreSlow);
    }
    if !verbs && walk.refusals && rng.chance(40) {
        all.push(Injected::StoreFull);
    }
    if !verbs && rng.chance(25) {
        all.push(Injected::NoFrame);
    }
    all
}

/// Whether walks of this kind come to such states.
fn may_have(walk: &Walk, goal: State, wrong: Injected) -> bool {
    let refusals = is_of_verbs(wrong) || matches!(wrong, Injected::Pinned | Injected::StoreFull);
    // With base pages alone, hardly any fill of zeroes is a job, and no edge lies inside a folio.
    let filled = matches!(goal, State::FillingZeroes | State::Zombie);
    let cut = wrong == Injected::JobFailed
        && matches!(
            goal,
            State::Empty | State::Stored | State::FillingStored | State::SharedStored | State::SharedFilling
        );
    let base = match walk.setup.policy {
        PolicyKind::Fixed(order) => order == Order::BASE,
        PolicyKind::Linux(_) => false,
        _ => true,
    };
    (walk.family || !goal.is_shared())
        && (walk.forks || goal != State::Shared)
        && (walk.refusals || !refusals && goal != State::Refused)
        && !(base && (filled || cut))
}
