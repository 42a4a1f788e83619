//! The store alone: every event in every state of a block, against `store::cells::expected`; the table in `docs/store.md`
//! is what `table` prints; and any events in any order.
//!
//! `QUIRE_BLESS=1 cargo test -p quire-sim --test store` writes the table anew. `QUIRE_STORE_EVENTS=n` plays so many events,
//! 500,000 if not told; `QUIRE_SEED=n` begins with that seed.

use quire_core::job::{JobKind, Place};
use quire_core::{Block, Urgency};
use quire_sim::rng::Rng;
use quire_sim::store::alone::{Alone, Contents, Event as Happening, Job};
use quire_sim::store::cells::{Cell, Event, State, expected, table};

const GRANT: u32 = 320;
const FILE: u64 = 1 << 20;
const EVENTS_A_SEED: u64 = 500;

/// A store with other pages before and behind the block that a cell is about.
struct Scene {
    alone: Alone,
    block: Block,
    /// What was stored before it, in the same segment.
    others: Vec<Block>,
}

impl Scene {
    fn of(state: State) -> Scene {
        let mut alone = Alone::new(64, GRANT);
        let play = |alone: &mut Alone, events: &[Happening]| {
            events
                .iter()
                .for_each(|&event| alone.happen(event).unwrap_or_else(|why| panic!("{event:?}: {why}")));
        };
        let (steps, full, empty) =
            ([Happening::Step(0); 2], Happening::Grant(GRANT, GRANT), Happening::Grant(GRANT, 0));
        play(&mut alone, &[Happening::Open(FILE), Happening::Place(9, Contents::Small), steps[0], steps[1]]);
        let others: Vec<Block> = alone.named().map(|(block, _)| block).collect();
        if state == State::WritingToFile {
            play(&mut alone, &[full]);
        }
        play(&mut alone, &[Happening::Place(1, Contents::Small), empty]);
        let block = alone.in_hand().next().expect("a writer has it");
        let mut scene = Scene { alone, block, others };
        if matches!(state, State::WritingToRam | State::WritingToFile) {
            return scene;
        }
        // Its segment is closed.
        scene.play(&[steps[0], steps[1], Happening::Place(11, Contents::Small), steps[0], steps[1]]);
        let drop = Happening::Drop(scene.index());
        let spill = [full, Happening::Tend(Urgency::Direct), empty];
        match state {
            State::InRam | State::WritingToRam | State::WritingToFile => {}
            State::Spilling => scene.play(&spill),
            State::SpillingInVain => {
                scene.play(&spill);
                scene.play(&[drop]);
            }
            State::InFile => {
                scene.play(&spill);
                scene.play(&steps);
            }
            State::Gone => scene.play(&[drop]),
        }
        scene
    }

    fn play(&mut self, events: &[Happening]) {
        for &event in events {
            self.alone.happen(event).unwrap_or_else(|why| panic!("{event:?}: {why}"));
        }
    }

    /// Where the block stands among those that are named.
    fn index(&self) -> u8 {
        self.alone.named().position(|(block, _)| block == self.block).map_or(0, |at| at as u8)
    }

    fn names(&self, of: Block) -> u32 {
        self.alone.named().find(|(block, _)| *block == of).map_or(0, |(_, names)| names)
    }

    fn job(&self, kind: JobKind) -> Option<&Job> {
        self.alone.jobs.iter().find(|job| {
            let blocks = if kind == JobKind::Spill { &job.work.blocks } else { &job.work.kept };
            job.work.kind == kind && blocks.contains(&Some(self.block))
        })
    }

    fn state(&self) -> State {
        let looked = self.alone.store.look(self.block);
        let in_file = looked.is_some_and(|stored| matches!(stored.place, Place::File { .. }));
        if self.job(JobKind::Write).is_some() {
            return if in_file { State::WritingToFile } else { State::WritingToRam };
        }
        let named = self.names(self.block) > 0;
        assert_eq!(looked.is_some(), named, "who names it finds it, and nobody else does");
        match (self.job(JobKind::Spill).is_some(), named) {
            (true, true) => State::Spilling,
            (true, false) => State::SpillingInVain,
            (false, true) => {
                if in_file {
                    State::InFile
                } else {
                    State::InRam
                }
            }
            (false, false) => State::Gone,
        }
    }

    /// Whether there is what an event needs.
    fn can_meet(&self, event: Event) -> bool {
        match event {
            Event::Written | Event::WriteFailed => self.job(JobKind::Write).is_some(),
            Event::Shared | Event::DroppedByOne | Event::DroppedByAll | Event::Unchanged => {
                self.names(self.block) > 0
            }
            Event::SpillDone | Event::SpillFailed => self.job(JobKind::Spill).is_some(),
            Event::Cleaned => !matches!(self.state(), State::InFile | State::WritingToFile | State::Gone),
            Event::SpillBegins | Event::FileClosed | Event::FileOpened | Event::GrantFalls => true,
        }
    }

    fn meet(&mut self, event: Event) {
        let at = self.index();
        let (steps, full) = ([Happening::Step(0); 2], Happening::Grant(GRANT, GRANT));
        match event {
            Event::Written | Event::SpillDone => self.play(&steps),
            Event::WriteFailed | Event::SpillFailed => self.play(&[Happening::Fail(0)]),
            Event::Shared => {
                self.play(&[Happening::Share(at)]);
                assert_eq!(self.names(self.block), 2);
            }
            Event::DroppedByOne => self.play(&[Happening::Share(at), Happening::Drop(at)]),
            Event::DroppedByAll => self.play(&[Happening::Drop(at)]),
            Event::Unchanged => {
                let job = self.alone.jobs.len() as u8;
                self.play(&[Happening::Again(at), Happening::Step(job), Happening::Step(job)]);
            }
            Event::Cleaned => {
                for other in self.others.clone() {
                    let at = self.alone.named().position(|(block, _)| block == other).expect("it is named");
                    self.play(&[Happening::Drop(at as u8)]);
                }
                let before = self.alone.store.look(self.block);
                self.play(&[Happening::Tend(Urgency::Behind)]);
                let moved = self.alone.store.look(self.block) != before;
                assert_eq!(moved, self.state() == State::InRam, "what no job has in hand moves");
            }
            Event::SpillBegins => {
                self.play(&[full, Happening::Tend(Urgency::Direct), Happening::Grant(GRANT, 0)]);
            }
            Event::FileClosed => self.play(&[Happening::Close]),
            Event::FileOpened => self.play(&[Happening::Open(FILE)]),
            Event::GrantFalls => self.play(&[Happening::Grant(0, 0)]),
        }
    }
}

#[test]
fn every_cell_is_as_expected() {
    for event in Event::ALL {
        for state in State::ALL {
            let mut scene = Scene::of(state);
            assert_eq!(scene.state(), state);
            let Cell::Becomes(after, _) = expected(event, state) else {
                assert!(!scene.can_meet(event), "{event:?} can meet {state:?}");
                continue;
            };
            assert!(scene.can_meet(event), "{event:?} can't meet {state:?}");
            scene.meet(event);
            assert_eq!(scene.state(), after, "{event:?} in {state:?}");
            scene.alone.drain().unwrap_or_else(|why| panic!("{event:?} in {state:?}: {why}"));
        }
    }
}

#[test]
fn the_table_in_docs_store_is_what_is_tested() {
    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/store.md");
    let text = std::fs::read_to_string(FILE).unwrap();
    let at = text.find("### ").expect("the table");
    if std::env::var_os("QUIRE_BLESS").is_some() {
        return std::fs::write(FILE, text[..at].to_string() + table().trim_end() + "\n").unwrap();
    }
    assert_eq!(text[at..].trim_end(), table().trim_end(), "QUIRE_BLESS=1 writes it anew");
}

fn any_event(rng: &mut Rng) -> Happening {
    let number = rng.any() as u8;
    let contents = [Contents::Small, Contents::Raw, Contents::Any, Contents::Any][rng.below(4) as usize];
    match rng.below(100) {
        0..24 => Happening::Place(1 + rng.below(9) as u8, contents),
        24..28 => Happening::Again(number),
        28..52 => Happening::Step(number),
        52 => Happening::Fail(number),
        53..57 => Happening::Share(number),
        57..72 => Happening::Drop(number),
        73..76 => Happening::Look(number),
        76..80 => Happening::Read(number),
        80..90 => {
            Happening::Tend([Urgency::Behind, Urgency::Direct, Urgency::StoreOnly][rng.below(3) as usize])
        }
        90 => {
            let pages = rng.below(200) as u32;
            Happening::Grant(pages, rng.below(u64::from(pages) + 1) as u32)
        }
        91 => Happening::Division(rng.below(40) as u32),
        92..95 => {
            let [rank, resident, out] = [300, 200, 500].map(|most| rng.below(most) as u32);
            Happening::Refault(rank, resident, out)
        }
        95 => Happening::Waiting(rng.below(9) as u32, rng.below(9) as u32),
        72 => Happening::Stale(number),
        96 => Happening::Reserve(rng.below(100) as u32),
        97 | 98 => Happening::Open(rng.below(256) * 4096),
        _ => Happening::Close,
    }
}

#[expect(clippy::disallowed_methods, reason = "whoever runs the test decides")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn what_is_named_is_there_whatever_happens() {
    let (events, first) =
        (number("QUIRE_STORE_EVENTS").unwrap_or(500_000), number("QUIRE_SEED").unwrap_or(0));
    let (mut moved, mut spilled, mut stored) = (0, 0, 0);
    for seed in first..first + events / EVENTS_A_SEED {
        let mut rng = Rng::new(seed);
        let mut alone = Alone::new(4 + rng.below(60) as u32, 20 + rng.below(200) as u32);
        for number in 0..EVENTS_A_SEED {
            let event = any_event(&mut rng);
            alone.happen(event).unwrap_or_else(|why| panic!("seed {seed}, event {number}, {event:?}: {why}"));
        }
        alone.drain().unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        let figures = alone.store.figures();
        moved += alone.moved;
        spilled += figures.pages_spilled;
        stored += figures.pages_stored;
    }
    println!("{events} events: {stored} pages stored, {spilled} spilled, {moved} moved under a reader");
    assert!(moved > events / 5000 && spilled > events / 50 && stored > events / 5);
}
