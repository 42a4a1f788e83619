//! What happens next in a walk.

use super::scene::Scene;
use super::setups::{POLICIES, Walk, order};
use crate::inject::{Injection, Lasting, Verb};
use crate::rng::Rng;
use crate::world::{Event, Host, Put, Touch};
use quire_core::mmu::{Prot, Refusal};
use quire_core::vma::Hint;
use quire_core::{Frame, SplitMode, Urgency, Vpn};

/// Makes the events of one walk.
#[derive(Debug)]
pub(super) struct Generator<'a> {
    walk: &'a Walk,
    rng: Rng,
    begun: bool,
    scene: Option<Scene>,
}

impl<'a> Generator<'a> {
    pub(super) fn new(walk: &'a Walk, rng: Rng) -> Generator<'a> {
        Generator { walk, rng, begun: false, scene: None }
    }

    /// The next event, by what the host is like now and the numbers of the seed.
    pub(super) fn next(&mut self, host: &Host) -> Event {
        if !self.begun {
            self.begun = true;
            return Event::Map(Vpn(0), self.walk.setup.arena * 3 / 4, Prot::READ_WRITE);
        }
        if self.scene.is_none() && self.rng.chance(self.walk.scenes) {
            self.scene = Some(Scene::any(self.walk, host, &mut self.rng));
        }
        if let Some(scene) = &mut self.scene
            && self.rng.chance(90)
        {
            if let Some(event) = scene.next(self.walk, host, &mut self.rng) {
                return event;
            }
            self.scene = None;
        }
        any_event(self.walk, &mut self.rng)
    }
}

/// Any of some.
pub(super) fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.below(from.len() as u64) as usize]
}

fn any_prot(rng: &mut Rng) -> Prot {
    const RW: Prot = Prot::READ_WRITE;
    pick(rng, &[Prot::NONE, Prot::READ, RW, RW, RW, RW])
}

/// A page. Half of what happens meets a few of them, so that one thing meets another.
fn any_page(walk: &Walk, rng: &mut Rng) -> Vpn {
    let among = if rng.below(2) == 0 { walk.setup.arena } else { walk.setup.arena.min(10) };
    Vpn(rng.below(among))
}

/// A run of pages: mostly short, now and then of any length.
fn any_run(walk: &Walk, rng: &mut Rng) -> (Vpn, u64) {
    let start = any_page(walk, rng);
    let most = walk.setup.arena - start.0;
    let pages = if rng.below(4) == 0 { 1 + rng.below(most) } else { 1 + rng.below(most.min(20)) };
    (start, pages)
}

fn any_touch(walk: &Walk, rng: &mut Rng) -> Event {
    let thread = rng.below(4) as u8;
    let some = if walk.raw { Put::Any } else { Put::Small };
    let put = pick(rng, &[None, Some(some), Some(some), Some(Put::Zero)]);
    Event::Touch(thread, Touch { vpn: any_page(walk, rng), put })
}

/// A reason that tells no lie: nothing is said to be absent or present that is not.
pub(super) fn any_reason(rng: &mut Rng) -> Refusal {
    pick(rng, &[Refusal::Busy, Refusal::Denied, Refusal::NoMemory, Refusal::Again])
}

fn any_refusal(walk: &Walk, rng: &mut Rng) -> Event {
    const VERBS: [Verb; 10] = [
        Verb::Discard,
        Verb::Protect,
        Verb::Lock,
        Verb::MoveIn,
        Verb::MoveIn,
        Verb::MoveOut,
        Verb::MoveOut,
        Verb::CopyIn,
        Verb::Unshare,
        Verb::Remap,
    ];
    const FAMILY: [Verb; 4] = [Verb::Share, Verb::MapShared, Verb::CopyOut, Verb::ForkSpace];
    let verbs: &[Verb] = if walk.family && rng.below(3) == 0 { &FAMILY } else { &VERBS };
    let verb = pick(rng, verbs);
    // As far as into the largest folios of the small memories that are walked.
    let most = pick(rng, &[2, 6, 6, 20]);
    let after = rng.below(most) as u32;
    match rng.below(10) {
        0..6 => Event::Inject(Injection::next(verb, any_reason(rng)).after(after)),
        6 if verb.is_of_pages() => Event::Inject(Injection::next(verb, Refusal::Exists).after(after)),
        7 if verb.is_of_pages() => Event::Inject(Injection::next(verb, Refusal::Absent).after(after)),
        _ => any_lasting(walk, verb, rng),
    }
}

/// A verb is refused for a while: for few pages, or for all.
fn any_lasting(walk: &Walk, verb: Verb, rng: &mut Rng) -> Event {
    let (start, pages) = any_run(walk, rng);
    let refusal = any_reason(rng);
    let lasting = match rng.below(4) {
        0 => Lasting::everywhere(verb, refusal),
        _ => Lasting { verb, start, pages, refusal },
    };
    let events = if lasting.is_fatal() { 4 } else { 1 + rng.below(40) as u32 };
    Event::Refuse(lasting, events)
}

fn any_collapse(near: Vpn, rng: &mut Rng) -> Event {
    let order = order(1 + rng.below(3) as u8);
    Event::Collapse(Vpn(order.align_down(near.0)), order)
}

fn any_vacate(walk: &Walk, rng: &mut Rng) -> Event {
    let goal = order(1 + rng.below(4) as u8);
    // Frames beyond are hardly ever used.
    let runs = u64::from(walk.setup.frames.min(walk.setup.grant * 2) / goal.pages());
    Event::Vacate(Frame(rng.below(runs.max(1)) as u32 * goal.pages()), goal)
}

fn any_shape(rng: &mut Rng) -> Event {
    const MODES: [SplitMode; 4] =
        [SplitMode::Base, SplitMode::Uniform(order(1)), SplitMode::Buddy, SplitMode::Buddy];
    match rng.below(4) {
        0 => Event::Blind(rng.below(2) == 0),
        _ => Event::Shape(pick(rng, &MODES), order(rng.below(6) as u8)),
    }
}

fn any_grant(walk: &Walk, rng: &mut Rng) -> Event {
    Event::Grant(1 + rng.below(u64::from(walk.setup.grant) * 3 / 2) as u32)
}

/// A family has more frames vacated and runs collapsed than others: most of what it has is shared, and stays as it is.
fn any_family_event(walk: &Walk, rng: &mut Rng) -> Event {
    match rng.below(14) {
        0 => Event::ForkSpace,
        1 => Event::Exit(rng.below(8) as u8),
        2..5 => any_vacate(walk, rng),
        5..8 => any_collapse(any_page(walk, rng), rng),
        8 => Event::Tend(1 + rng.below(3) as u32),
        _ => Event::Process(rng.below(8) as u8),
    }
}

/// What the host does: messages, jobs, reclaim.
fn any_work(walk: &Walk, rng: &mut Rng) -> Event {
    const URGENCIES: [Urgency; 4] = [Urgency::Direct, Urgency::Behind, Urgency::Behind, Urgency::StoreOnly];
    let number = rng.below(8) as u8;
    match rng.below(110) {
        0..8 => Event::Take(number),
        8..16 => Event::Serve(number),
        16..38 => Event::Handle(number),
        38..50 => Event::Retry(number),
        50..67 => Event::Step(number),
        67..84 => Event::Run(number),
        84..100 => Event::Reclaim(pick(rng, &URGENCIES)),
        100..103 => Event::MoveOut(1 + rng.below(6) as u32),
        103..105 => Event::Fail(number),
        105 => Event::Hold(number, 1 + rng.below(30) as u32),
        106 => Event::Message(any_page(walk, rng), rng.below(2) == 0),
        107..109 => Event::ZeroAhead(rng.below(40) as u32, order(rng.below(5) as u8)),
        _ => any_grant(walk, rng),
    }
}

/// Few pages, or all that there are at a place.
fn any_adoption(walk: &Walk, rng: &mut Rng) -> Event {
    let (start, pages) = any_run(walk, rng);
    let some = if walk.raw { Put::Any } else { Put::Small };
    Event::Adopt(start, pages, order(rng.below(10) as u8), pick(rng, &[some, some, Put::Zero]))
}

/// What the program does to its address space.
fn any_call(walk: &Walk, rng: &mut Rng) -> Event {
    const RW: Prot = Prot::READ_WRITE;
    const HINTS: [Hint; 4] = [Hint::Normal, Hint::Sequential, Hint::Random, Hint::Huge];
    let (start, pages) = any_run(walk, rng);
    match rng.below(28) {
        0..4 => Event::Map(start, pages, pick(rng, &[RW, RW, Prot::NONE])),
        4 => Event::Unmap(start, pages.min(12)),
        5..7 => Event::Discard(start, pages.min(30)),
        7..9 => Event::Foreign(start, pages.min(12)),
        9..14 => Event::Protect(start, pages, any_prot(rng)),
        14..18 => Event::Lock(start, pages.min(16), rng.below(3) == 0),
        18..21 => Event::Remap(start, pages.min(24), Vpn(rng.below(walk.setup.arena + 1 - pages.min(24)))),
        21..23 => Event::Advise(start, pages, pick(rng, &HINTS)),
        23..25 => Event::Deactivate(start, pages),
        25..27 => any_adoption(walk, rng),
        _ if rng.below(2) == 0 => Event::PageOut(start, pages),
        _ => any_collapse(start, rng),
    }
}

/// What happens seldom, as far as the walk may meet it.
fn any_rarity(walk: &Walk, rng: &mut Rng) -> Event {
    let start = any_page(walk, rng);
    match rng.below(15) {
        0 => any_vacate(walk, rng),
        1 if rng.below(4) == 0 => any_shape(rng),
        1 => Event::Tend(1 + rng.below(3) as u32),
        // A child reads all that it has.
        2 if walk.forks && rng.below(walk.setup.arena) < 16 => Event::Fork,
        3 if walk.refusals => Event::Pin(start, rng.below(3) == 0),
        4..9 if walk.refusals => any_refusal(walk, rng),
        9 if walk.refusals && rng.below(4) == 0 => Event::Full(rng.below(3) == 0),
        10 if walk.setup.spill.is_some() => match rng.below(4) {
            0 => Event::Overhead(rng.below(u64::from(walk.setup.grant) / 4) as u32),
            1 => Event::Division(1 + rng.below(19) as u32),
            // Now and then RAM for the store is short, and it spills.
            2 => any_grant(walk, rng),
            // A failed job closes the file.
            _ => Event::OpenFile(pick(rng, &[1 << 16, 1 << 20])),
        },
        11 if rng.below(8) == 0 => Event::Overdraw(2),
        12 if walk.policies => Event::Policy(pick(rng, &POLICIES)),
        13 => any_collapse(start, rng),
        _ => any_touch(walk, rng),
    }
}

/// Any event.
pub(super) fn any_event(walk: &Walk, rng: &mut Rng) -> Event {
    match rng.below(200) {
        0..36 if walk.family => any_family_event(walk, rng),
        0..55 => any_touch(walk, rng),
        55..158 => any_work(walk, rng),
        158..184 => any_call(walk, rng),
        _ => any_rarity(walk, rng),
    }
}

#[cfg(test)]
mod tests {
    use super::super::setups::WALKS;
    use super::*;

    /// The last that was drawn of some kinds: frames, pages, pages.
    #[derive(Default)]
    struct Drawn {
        vacated: u64,
        granted: u64,
        collapsed: u64,
    }

    /// What a walk draws lies where it means something, and comes from all of that.
    #[test]
    fn events_lie_inside_and_reach_everywhere() {
        for walk in WALKS {
            let (arena, grant) = (walk.setup.arena, u64::from(walk.setup.grant));
            let frames = u64::from(walk.setup.frames).min(2 * grant);
            let inside = |start: Vpn, pages: u64| start.0 + pages <= arena;
            let (mut rng, mut drawn) = (Rng::new(1), Drawn::default());
            for _ in 0..30_000 {
                let event = any_event(walk, &mut rng);
                let good = match event {
                    Event::Vacate(frame, goal) => {
                        drawn.vacated = drawn.vacated.max(u64::from(frame.0 + goal.pages()));
                        frame.0.is_multiple_of(goal.pages())
                            && u64::from(frame.0 + goal.pages()) <= frames.max(goal.pages().into())
                    }
                    Event::Grant(pages) => {
                        drawn.granted = drawn.granted.max(pages.into());
                        (1..=grant * 3 / 2).contains(&pages.into())
                    }
                    Event::Collapse(start, order) => {
                        drawn.collapsed = drawn.collapsed.max(start.0);
                        start.0.is_multiple_of(order.pages().into()) && start.0 < arena
                    }
                    Event::Touch(_, touch) => inside(touch.vpn, 1),
                    Event::Adopt(start, pages, ..)
                    | Event::Map(start, pages, _)
                    | Event::Unmap(start, pages)
                    | Event::Discard(start, pages)
                    | Event::Foreign(start, pages)
                    | Event::Protect(start, pages, _)
                    | Event::Lock(start, pages, _)
                    | Event::Deactivate(start, pages)
                    | Event::PageOut(start, pages) => pages > 0 && inside(start, pages),
                    Event::Remap(start, pages, to) => pages > 0 && inside(start, pages) && inside(to, pages),
                    _ => true,
                };
                assert!(good, "{}: {event:?}", walk.name);
            }
            assert!(drawn.vacated * 4 > frames * 3, "{}: {} of {frames} frames", walk.name, drawn.vacated);
            assert!(drawn.granted * 4 > grant * 5, "{}: {} of {grant} pages", walk.name, drawn.granted);
            assert!(drawn.collapsed * 4 > arena * 3, "{}: {} of {arena} pages", walk.name, drawn.collapsed);
        }
    }
}
