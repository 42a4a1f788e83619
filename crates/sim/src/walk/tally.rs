//! How often each event has met each state with each injection.

use crate::cells::{Event, Injected, State, possible};
use std::fmt::Write as _;

const EVENTS: usize = Event::ALL.len();
const STATES: usize = State::ALL.len();

/// Hits by event, state and injection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tally {
    hits: Vec<u64>,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally { hits: vec![0; EVENTS * STATES * Injected::COUNT] }
    }
}

/// One combination, by number.
const fn index(event: Event, state: State, injected: Injected) -> usize {
    (event as usize * STATES + state as usize) * Injected::COUNT + injected as usize
}

impl Tally {
    /// How often a combination was met.
    pub fn of(&self, event: Event, state: State, injected: Injected) -> u64 {
        self.hits[index(event, state, injected)]
    }

    /// Counts one hit.
    pub fn hit(&mut self, event: Event, state: State, injected: Injected) {
        self.hits[index(event, state, injected)] += 1;
    }

    /// Adds what another walk has met.
    pub fn add(&mut self, other: &Tally) {
        self.hits.iter_mut().zip(&other.hits).for_each(|(mine, theirs)| *mine += theirs);
    }

    /// Every combination, in the order of the table.
    pub fn all() -> impl Iterator<Item = (Event, State, Injected)> {
        let states = |event| State::ALL.into_iter().map(move |state| (event, state));
        let pairs = Event::ALL.into_iter().flat_map(states);
        pairs.flat_map(|(event, state)| Injected::ALL.into_iter().map(move |i| (event, state, i)))
    }

    /// Combinations that are possible.
    pub fn possible() -> usize {
        Tally::all().filter(|&(event, state, injected)| possible(event, state, injected).is_ok()).count()
    }

    /// The possible combinations with fewer hits than `least`, and how many those have.
    pub fn below(&self, least: u64) -> Vec<(Event, State, Injected, u64)> {
        let hits = |(event, state, injected)| (event, state, injected, self.of(event, state, injected));
        let can = |&(event, state, injected, _): &(Event, State, Injected, u64)| {
            possible(event, state, injected).is_ok()
        };
        Tally::all().map(hits).filter(can).filter(|&(_, _, _, hits)| hits < least).collect()
    }

    /// Combinations that are said to be impossible and were met all the same.
    pub fn strange(&self) -> Vec<(Event, State, Injected, u64)> {
        let hits = |(event, state, injected)| (event, state, injected, self.of(event, state, injected));
        let cannot = |&(event, state, injected, hits): &(Event, State, Injected, u64)| {
            hits > 0 && possible(event, state, injected).is_err()
        };
        Tally::all().map(hits).filter(cannot).collect()
    }

    /// The table: a row for each event and injection, a column for each state. What is impossible is a dash.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let heads: String = State::ALL.iter().map(|&state| format!("{:>6}", short(state))).collect();
        let _ = writeln!(text, "{:24}{heads}", "event, injection");
        for event in Event::ALL {
            for injected in Injected::ALL {
                let can = |state: &State| possible(event, *state, injected).is_ok();
                if !State::ALL.iter().any(|state| can(state) || self.of(event, *state, injected) > 0) {
                    continue;
                }
                let cells: String =
                    State::ALL.iter().map(|s| self.cell(event, *s, injected, can(s))).collect();
                let name = format!("{event:?}, {}", injected.title());
                let _ = writeln!(text, "{name:24}{cells}");
            }
        }
        text
    }

    fn cell(&self, event: Event, state: State, injected: Injected, can: bool) -> String {
        let hits = self.of(event, state, injected);
        if can || hits > 0 { format!("{:>6}", brief(hits)) } else { format!("{:>6}", "-") }
    }

    /// A line for each combination that was met, for [`Tally::parse`].
    pub fn lines(&self) -> String {
        let met = self.hits.iter().enumerate().filter(|(_, hits)| **hits > 0);
        met.map(|(number, hits)| format!("{number} {hits}\n")).collect()
    }

    /// Reads such lines.
    pub fn parse(text: &str) -> Option<Tally> {
        let mut tally = Tally::default();
        for line in text.lines() {
            let (number, hits) = line.split_once(' ')?;
            *tally.hits.get_mut(number.parse::<usize>().ok()?)? += hits.parse::<u64>().ok()?;
        }
        Some(tally)
    }
}

/// A number in at most five characters: 999, 1.2k, 34k, 5.6M.
fn brief(n: u64) -> String {
    let scaled = |unit: u64, letter: char| match n / unit {
        whole @ 0..10 => format!("{whole}.{}{letter}", n % unit * 10 / unit),
        whole => format!("{whole}{letter}"),
    };
    match n {
        0..1000 => n.to_string(),
        1000..1_000_000 => scaled(1000, 'k'),
        1_000_000..1_000_000_000 => scaled(1_000_000, 'M'),
        _ => scaled(1_000_000_000, 'G'),
    }
}

/// A state in at most five characters.
const fn short(state: State) -> &'static str {
    match state {
        State::Empty => "Empty",
        State::FillingZeroes => "FillZ",
        State::FillingStored => "FillS",
        State::Mapped => "Map",
        State::MappedWithCopy => "MapK",
        State::Standby => "Stby",
        State::StandbyWithCopy => "StbyK",
        State::Writing => "Write",
        State::Stored => "Store",
        State::Shared => "Fork",
        State::Refused => "Busy",
        State::Copied => "Copy",
        State::Zombie => "Zomb",
        State::SharedMapped => "sMap",
        State::SharedStandby => "sStby",
        State::SharedFilling => "sFill",
        State::SharedWriting => "sWrit",
        State::SharedStored => "sStor",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back_as_they_were() {
        let mut tally = Tally::default();
        tally.hit(Event::Exit, State::SharedStored, Injected::NoFrame);
        tally.hit(Event::Fault, State::Empty, Injected::Nothing);
        tally.hit(Event::Fault, State::Empty, Injected::Nothing);
        assert_eq!(Tally::parse(&tally.lines()), Some(tally.clone()));
        assert_eq!(Tally::parse("3 x"), None);
        assert_eq!(Tally::parse("999999 1"), None);
        let mut both = tally.clone();
        both.add(&tally);
        assert_eq!(both.of(Event::Fault, State::Empty, Injected::Nothing), 4);
        let left = [1, 2, 3, 4, 5].map(|least| Tally::possible() - both.below(least).len());
        assert_eq!(left, [2, 2, 1, 1, 0]);
    }

    #[test]
    fn what_cannot_be_and_was_met_is_told() {
        let mut tally = Tally::default();
        tally.hit(Event::Exit, State::Empty, Injected::Nothing);
        assert_eq!(tally.strange(), [(Event::Exit, State::Empty, Injected::Nothing, 1)]);
        assert!(tally.table().contains("Exit, nothing"));
    }

    #[test]
    fn numbers_are_brief() {
        let all = [999, 1000, 1234, 99_999, 1_000_000, 25_400_000_000].map(brief);
        assert_eq!(all, ["999", "1.0k", "1.2k", "99k", "1.0M", "25G"]);
    }
}
