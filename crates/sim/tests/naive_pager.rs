//! A pager of twenty lines, right and wrong, searched over the simulated tables: what the search, the tables, the
//! store and the model find together, before an engine is plugged in.

use quire_core::job::Place;
use quire_core::mmu::{Done, Mmu, Mover, Prot};
use quire_core::{Frame, FrameRun, PageRange, Space, Vpn};
use quire_sim::digest::Renamer;
use quire_sim::{Access, Model, Pte, SimMmu, World, search};

const S: Space = Space(0);
const PAGES: u64 = 2;

/// One frame and one place in the store for each page.
#[derive(Clone)]
struct Pager {
    mmu: SimMmu,
    model: Model,
    stored: [bool; PAGES as usize],
    forgets_discards: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    Read(u64),
    Write(u64),
    Evict(u64),
    Discard(u64),
}

fn frame(page: u64) -> FrameRun {
    FrameRun::new(Frame(page as u32), 1)
}

fn place(page: u64) -> Place {
    Place::Ram { at: page as u32 * 256 }
}

impl Pager {
    fn new(forgets_discards: bool) -> Pager {
        let mut mmu = SimMmu::new(PAGES as u32);
        mmu.map(PageRange::new(S, Vpn(0), PAGES), Prot::READ_WRITE, true);
        Pager { mmu, model: Model::default(), stored: [false; 2], forgets_discards }
    }

    /// Brings a page in: stored contents, or zeroes.
    fn fault(&mut self, page: u64) -> Result<(), String> {
        let stored = core::mem::take(&mut self.stored[page as usize]);
        let value = if stored { self.mmu.bytes.read(place(page), 4096) } else { Some(0) };
        self.mmu.write_frame(Frame(page as u32), value.ok_or("nothing is stored there")?);
        let done = self.mmu.move_in(frame(page), S, Vpn(page));
        if done == Done::all(1) { Ok(()) } else { Err(format!("{done:?}")) }
    }

    fn touch(&mut self, page: u64, write: Option<u64>) -> Result<(), String> {
        for _ in 0..2 {
            let access = match write {
                Some(value) => self.mmu.touch_write(S, Vpn(page), value),
                None => self.mmu.touch_read(S, Vpn(page)),
            };
            match access {
                Access::Hit(value) if write.is_none() => {
                    return self.model.read(S, Vpn(page), value).map_err(|e| e.to_string());
                }
                Access::Hit(value) => {
                    self.model.write(S, Vpn(page), value);
                    return Ok(());
                }
                Access::Fault => self.fault(page)?,
                Access::Segv => break,
            }
        }
        Err("no progress".into())
    }

    fn evict(&mut self, page: u64) {
        if self.mmu.move_out(S, Vpn(page), frame(page)) == Done::all(1) {
            let value = self.mmu.read_frame(Frame(page as u32));
            self.mmu.bytes.write(place(page), 4096, value);
            self.mmu.release(frame(page));
            self.stored[page as usize] = true;
        }
    }
}

impl World for Pager {
    type Event = Event;
    type Key = Vec<(bool, u16, Option<u16>, u16)>;

    fn events(&self) -> Vec<Event> {
        let each = |page| [Event::Read(page), Event::Write(page), Event::Evict(page), Event::Discard(page)];
        (0..PAGES).flat_map(each).collect()
    }

    fn apply(&mut self, event: &Event) -> Result<(), String> {
        match *event {
            Event::Read(page) => self.touch(page, None)?,
            Event::Write(page) => {
                let value = self.model.fresh();
                self.touch(page, Some(value))?;
            }
            Event::Evict(page) => self.evict(page),
            Event::Discard(page) => {
                let range = PageRange::new(S, Vpn(page), 1);
                self.model.discard(range);
                self.stored[page as usize] &= self.forgets_discards;
                self.mmu.discard(range).map_err(|e| format!("{e:?}"))?;
            }
        }
        self.model.check(&self.mmu).map_err(|e| e.to_string())
    }

    fn key(&self) -> Self::Key {
        let mut names = Renamer::default();
        let mut page = |page: u64| {
            let there = self.mmu.entry(S, Vpn(page));
            let stored = self.mmu.bytes.read(place(page), 4096).filter(|_| self.stored[page as usize]);
            let should = names.name(self.model.expected(S, Vpn(page)));
            (there.is_some(), names.name(there.map_or(0, Pte::value)), stored.map(|v| names.name(v)), should)
        };
        (0..PAGES).map(&mut page).collect()
    }
}

#[test]
fn the_right_pager_has_few_states_and_no_violation() {
    let report = search(&Pager::new(false), 8);
    println!("{report}");
    assert!(report.violation.is_none());
    // Each page is empty, present with zeroes, present and written, or one of these two stored.
    assert_eq!(report.states, 25);
}

#[test]
fn the_wrong_pager_is_found_out_by_the_shortest_path() {
    let report = search(&Pager::new(true), 8);
    let (path, why) = report.violation.expect("stale contents come back");
    assert_eq!(path, [Event::Write(0), Event::Evict(0), Event::Discard(0), Event::Read(0)]);
    assert_eq!(why, "Sx0 Vx0 holds version 1, should hold 0");
}
