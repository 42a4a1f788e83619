//! Replays of one trace in many cells at once: each policy with each amount of memory and each TLB.

pub(crate) mod calibrate;
pub(crate) mod html;
mod json;
mod progress;
mod table;

use crate::failure::Failure;
use crate::terminal::Line;
use progress::Progress;
use quire_sim::replay::{Cell, Costs, Figures, Paging, Source, SourceError, Stop, replay};
use quire_sim::tlb::Model;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// What is to be replayed, and in which cells. Each list has names as the user wrote them.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Grid {
    pub(crate) source: Source,
    pub(crate) policies: Vec<(String, Paging)>,
    /// In pages; `None`: no limit.
    pub(crate) memories: Vec<(String, Option<u32>)>,
    /// In percent of the runs of 64 KiB.
    pub(crate) fragmentations: Vec<(String, u8)>,
    pub(crate) tlbs: Vec<(String, Model)>,
    /// In ns.
    pub(crate) epoch_ns: u64,
    pub(crate) spill: bool,
    pub(crate) costs: Costs,
    pub(crate) quiet: bool,
}

/// A cell with its names.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Named {
    pub(crate) policy: String,
    pub(crate) memory: String,
    pub(crate) fragmentation: String,
    pub(crate) tlb: String,
    pub(crate) cell: Cell,
}

/// What came of a cell.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Outcome {
    pub(crate) named: Named,
    pub(crate) figures: Figures,
}

impl Grid {
    /// The cells: by memory, then its fragmentation, then TLB, so that policies stand under each other.
    fn cells(&self) -> Vec<Named> {
        let mut cells = Vec::new();
        for (memory, pages) in &self.memories {
            for (fragmentation, percent) in &self.fragmentations {
                for (tlb, model) in &self.tlbs {
                    cells.extend(self.policies.iter().map(|(policy, paging)| Named {
                        policy: policy.clone(),
                        memory: memory.clone(),
                        fragmentation: fragmentation.clone(),
                        tlb: tlb.clone(),
                        cell: Cell {
                            fragmentation: *percent,
                            epoch_ns: self.epoch_ns,
                            spill: self.spill,
                            costs: self.costs,
                            ..Cell::new(*paging, *pages, *model)
                        },
                    }));
                }
            }
        }
        cells
    }

    /// Whether any memory begins fragmented.
    fn fragments(&self) -> bool {
        self.fragmentations.iter().any(|(_, percent)| *percent > 0)
    }
}

/// Results as text: tables for people, or JSON for programs.
pub(crate) fn text(grid: &Grid, results: &[Outcome], json: bool) -> String {
    if json { json::render(grid, results) } else { table::render(grid, results) }
}

/// Why a cell has no figures.
#[derive(Clone, PartialEq, Debug)]
enum Ended {
    Source(SourceError),
    Stop(Stop),
    /// Another cell has failed.
    GivenUp,
}

/// How long progress stays as it is.
const REDRAW: Duration = Duration::from_millis(100);

/// Replays every cell, as many at a time as there are processors.
pub(crate) fn run(grid: &Grid) -> Result<Vec<Outcome>, Failure> {
    let cells = grid.cells();
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(cells.len());
    let progress = Progress::new(cells.len());
    let (next, given_up) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (sender, results) = mpsc::channel();
    let mut ended: Vec<Option<Result<Figures, Ended>>> = vec![None; cells.len()];
    thread::scope(|scope| {
        for _ in 0..threads {
            let sender = sender.clone();
            scope.spawn(|| {
                let sender = sender;
                while let number = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(named) = cells.get(number)
                {
                    let result = run_cell(&grid.source, &named.cell, &given_up, |share, events| {
                        progress.update(number, share, events);
                    });
                    // The other side is there until the last thread has ended.
                    let _ = sender.send((number, result));
                }
            });
        }
        drop(sender);
        let mut line = Line::new(grid.quiet);
        loop {
            match results.recv_timeout(REDRAW) {
                Ok((number, result)) => {
                    given_up.fetch_or(result.is_err(), Ordering::Relaxed);
                    ended[number] = Some(result);
                }
                Err(RecvTimeoutError::Timeout) => line.draw(|| progress.text()),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        line.clear();
    });
    collect(grid, cells, ended)
}

fn run_cell(
    source: &Source,
    cell: &Cell,
    given_up: &AtomicBool,
    mut progress: impl FnMut(f64, u64),
) -> Result<Figures, Ended> {
    if given_up.load(Ordering::Relaxed) {
        return Err(Ended::GivenUp);
    }
    let events = source.open().map_err(Ended::Source)?;
    replay(cell, events, &mut |events, count| progress(events.share(), count)).map_err(Ended::Stop)
}

/// All figures, or the first cell's failure that is one of its own.
fn collect(
    grid: &Grid,
    cells: Vec<Named>,
    ended: Vec<Option<Result<Figures, Ended>>>,
) -> Result<Vec<Outcome>, Failure> {
    let mut outcomes = Vec::with_capacity(cells.len());
    for (named, result) in cells.into_iter().zip(ended) {
        match result {
            Some(Ok(figures)) => outcomes.push(Outcome { named, figures }),
            Some(Err(Ended::Source(error))) => return Err(Failure::own(error.to_string())),
            Some(Err(Ended::Stop(stop))) => {
                let Named { policy, memory, fragmentation, tlb, .. } = &named;
                let of = format!("{policy}, {memory}, {fragmentation}% fragmented, {tlb}");
                return Err(Failure::own(match stop {
                    Stop::Trace(_) => format!("{}: {stop}", grid.source),
                    _ => format!("{}: with {of}: {stop}", grid.source),
                }));
            }
            // Then another one has a failure of its own.
            Some(Err(Ended::GivenUp)) | None => {}
        }
    }
    Ok(outcomes)
}
