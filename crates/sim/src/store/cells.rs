//! The store's table of events against states: what each event makes of a block in each state, and what who looks for it
//! finds. `docs/store.md` prints it, `tests/store.rs` plays every cell.

use core::fmt;

/// What can be with a block.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum State {
    /// It has a place in RAM, and its writer has not handed it over.
    WritingToRam,
    /// The same, in a file.
    WritingToFile,
    /// In RAM, and named.
    InRam,
    /// In RAM, named, and a spill copies it.
    Spilling,
    /// A spill copies it, and nobody names it any more.
    SpillingInVain,
    /// In a file, and named.
    InFile,
    /// Nobody's: its number may come to be another one's.
    Gone,
}

impl State {
    /// Every state, in the order of the table.
    pub const ALL: [State; 7] = [
        State::WritingToRam,
        State::WritingToFile,
        State::InRam,
        State::Spilling,
        State::SpillingInVain,
        State::InFile,
        State::Gone,
    ];

    /// Its name in the table.
    pub const fn title(self) -> &'static str {
        match self {
            State::WritingToRam => "Writing, to RAM",
            State::WritingToFile => "Writing, to the file",
            State::InRam => "In RAM",
            State::Spilling => "In RAM, spilling",
            State::SpillingInVain => "Spilling in vain",
            State::InFile => "In the file",
            State::Gone => "Gone",
        }
    }

    /// Whether somebody names it.
    pub const fn is_named(self) -> bool {
        matches!(self, State::InRam | State::Spilling | State::InFile)
    }
}

/// What happens.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    /// Its writer is done.
    Written,
    /// Its writer's disk fails.
    WriteFailed,
    /// One more names it.
    Shared,
    /// One of two who name it drops it.
    DroppedByOne,
    /// The last who names it drops it.
    DroppedByAll,
    /// Its page was moved out again, unchanged.
    Unchanged,
    /// Its segment is cleaned.
    Cleaned,
    /// A spill begins that takes what it may.
    SpillBegins,
    /// The spill that is under way is done.
    SpillDone,
    /// Its disk fails.
    SpillFailed,
    /// The file is closed, as for a fork.
    FileClosed,
    /// Another file is opened.
    FileOpened,
    /// The grant falls to nothing.
    GrantFalls,
}

impl Event {
    /// Every event, in the order of the table.
    pub const ALL: [Event; 13] = [
        Event::Written,
        Event::WriteFailed,
        Event::Shared,
        Event::DroppedByOne,
        Event::DroppedByAll,
        Event::Unchanged,
        Event::Cleaned,
        Event::SpillBegins,
        Event::SpillDone,
        Event::SpillFailed,
        Event::FileClosed,
        Event::FileOpened,
        Event::GrantFalls,
    ];

    /// Its name in the table.
    pub const fn title(self) -> &'static str {
        match self {
            Event::Written => "Written",
            Event::WriteFailed => "Write failed",
            Event::Shared => "Shared",
            Event::DroppedByOne => "Dropped by one of two",
            Event::DroppedByAll => "Dropped by the last",
            Event::Unchanged => "Moved out again, unchanged",
            Event::Cleaned => "Its segment is cleaned",
            Event::SpillBegins => "A spill begins",
            Event::SpillDone => "The spill is done",
            Event::SpillFailed => "The spill failed",
            Event::FileClosed => "The file is closed",
            Event::FileOpened => "Another file is opened",
            Event::GrantFalls => "The grant falls",
        }
    }
}

/// What an event makes of a state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Cell {
    /// This, and why or what else; the note may be empty.
    Becomes(State, &'static str),
    /// It cannot happen, for this reason.
    Never(&'static str),
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cell::Becomes(state, "") => f.write_str(state.title()),
            Cell::Becomes(state, note) => write!(f, "{}; {note}", state.title()),
            Cell::Never(why) => write!(f, "cannot happen: {why}"),
        }
    }
}

const NO_WRITER: &str = "it has no writer";
const NO_NAME: &str = "nobody names it";
const NO_SPILL: &str = "no spill has it in hand";

/// What must come of an event in a state.
pub const fn expected(event: Event, state: State) -> Cell {
    use Cell::{Becomes, Never};
    match (event, state) {
        (Event::Written, State::WritingToRam) => Becomes(State::InRam, "named by who wrote it"),
        (Event::Written, State::WritingToFile) => Becomes(State::InFile, "named by who wrote it"),
        (Event::WriteFailed, State::WritingToRam | State::WritingToFile) => {
            Becomes(State::Gone, "no file is written from then on; what it has is read as before")
        }
        (Event::Written | Event::WriteFailed, _) => Never(NO_WRITER),
        (Event::DroppedByAll, State::InRam) => {
            Becomes(State::Gone, "with the last of a segment its memory goes")
        }
        (Event::DroppedByAll, State::InFile) => {
            Becomes(State::Gone, "with the last of an extent its room goes")
        }
        (Event::DroppedByAll, State::Spilling) => Becomes(State::SpillingInVain, ""),
        (Event::Shared | Event::DroppedByOne | Event::DroppedByAll | Event::Unchanged, _)
            if !state.is_named() =>
        {
            Never(NO_NAME)
        }
        (Event::Unchanged, State::InRam) => {
            Becomes(State::InRam, "among the last to spill, if its segment was closed before")
        }
        (Event::Cleaned, State::InRam) => Becomes(State::InRam, "in another place"),
        (Event::Cleaned, State::WritingToRam | State::Spilling | State::SpillingInVain) => {
            Becomes(state, "in its place: a job has it in hand")
        }
        (Event::Cleaned, _) => Never("it is in no segment"),
        (Event::SpillBegins, State::InRam) => Becomes(State::Spilling, ""),
        (Event::SpillBegins, State::Spilling | State::SpillingInVain) => {
            Becomes(state, "one spill at a time: none begins")
        }
        (Event::SpillBegins, State::WritingToRam) => Becomes(state, "left to its writer"),
        (Event::SpillDone, State::Spilling) => Becomes(State::InFile, "its room in RAM is free"),
        (Event::SpillDone | Event::SpillFailed, State::SpillingInVain) => Becomes(State::Gone, ""),
        (Event::SpillFailed, State::Spilling) => {
            Becomes(State::InRam, "no file is written from then on; what it has is read as before")
        }
        (Event::SpillDone | Event::SpillFailed, _) => Never(NO_SPILL),
        (_, _) => Becomes(state, ""),
    }
}

/// The table, as Markdown.
pub fn table() -> String {
    let mut text = String::new();
    for event in Event::ALL {
        text += &format!("### {}\n\n| state | becomes |\n|---|---|\n", event.title());
        for state in State::ALL {
            text += &format!("| {} | {} |\n", state.title(), expected(event, state));
        }
        text.push('\n');
    }
    text
}
