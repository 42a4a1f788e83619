//! The table of events against states: what each event makes of each state of a folio, and what a thread that waits
//! for its first page gets. `docs/states.md` prints it, `tests/cells.rs` plays every cell.
//!
//! The folio has two pages. Where an event treats them differently, `second` says what the second becomes.

mod injected;

pub use injected::{Injected, possible};

use core::fmt;

/// What happens.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum Event {
    Fault,
    Adopt,
    Discard,
    Unmap,
    Remap,
    Protect,
    Lock,
    Fork,
    Hint,
    Budget,
    Collapse,
    Vacate,
    JobDone,
    JobFailed,
    VerbPartial,
    VerbRefused,
    Write,
    ForkSpace,
    Exit,
}

impl Event {
    /// Every event, in the order of the table.
    pub const ALL: [Event; 19] = [
        Event::Fault,
        Event::Adopt,
        Event::Discard,
        Event::Unmap,
        Event::Remap,
        Event::Protect,
        Event::Lock,
        Event::Fork,
        Event::Hint,
        Event::Budget,
        Event::Collapse,
        Event::Vacate,
        Event::JobDone,
        Event::JobFailed,
        Event::VerbPartial,
        Event::VerbRefused,
        Event::Write,
        Event::ForkSpace,
        Event::Exit,
    ];

    /// The heading of its part of the table.
    pub const fn title(self) -> &'static str {
        match self {
            Event::Fault => "Fault",
            Event::Adopt => "Adopt",
            Event::Discard => "Discard",
            Event::Unmap => "Unmap",
            Event::Remap => "Remap",
            Event::Protect => "Protect",
            Event::Lock => "Lock",
            Event::Fork => "Fork",
            Event::Hint => "Hint",
            Event::Budget => "Budget change",
            Event::Collapse => "Collapse",
            Event::Vacate => "Vacate (compaction)",
            Event::JobDone => "Job done",
            Event::JobFailed => "Job failed",
            Event::VerbPartial => "Mmu verb partial",
            Event::VerbRefused => "Mmu verb refused",
            Event::Write => "Write fault",
            Event::ForkSpace => "Fork within the engine",
            Event::Exit => "Exit",
        }
    }

    /// What exactly happens.
    pub const fn text(self) -> &'static str {
        match self {
            Event::Fault => "A message about the first page is answered.",
            Event::Adopt => {
                "Both pages are to be taken over as the program has them, which wrote them before the engine knew of it.\nWhat is not empty it did not write then."
            }
            Event::Discard => "`MADV_DONTNEED` of both pages.",
            Event::Unmap => "`munmap` of both pages.",
            Event::Remap => {
                "`mremap` of both pages to another address; *after* is what is there, and the old pages are unmapped."
            }
            Event::Protect => {
                "`mprotect` of both pages to read-only; where they are so already, to read and write."
            }
            Event::Lock => "`mlock` of both pages.",
            Event::Fork => {
                "The process forks; *after* is what the parent has. The child reads the same contents."
            }
            Event::Hint => "`MADV_SEQUENTIAL`, `MADV_COLD` and `MADV_PAGEOUT` of both pages.",
            Event::Budget => {
                "The grant falls to nothing, and reclaim works until it waits or is stuck. Jobs that it begins are\nrun, those that were under way are not."
            }
            Event::Collapse => {
                "Two more pages behind these are mapped and written, a folio of their own, and the four are to become one."
            }
            Event::Vacate => {
                "Others are in use nearby, and the run of four frames that the folio's lie in is to be vacated."
            }
            Event::JobDone => "The job under way comes back.",
            Event::JobFailed => "The job under way comes back and has failed.",
            Event::VerbPartial => "A verb of the host does the first page and refuses the second.",
            Event::VerbRefused => "A verb of the host refuses both pages.",
            Event::Write => "A message about a write to the first page is answered.",
            Event::ForkSpace => {
                "The process forks, and the child is a space of the same engine (simulator only); *after* is what the parent\nhas."
            }
            Event::Exit => "The other process that shares the pages exits (simulator only).",
        }
    }
}

/// What a folio is when the event comes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum State {
    Empty,
    FillingZeroes,
    FillingStored,
    Mapped,
    MappedWithCopy,
    Standby,
    StandbyWithCopy,
    Writing,
    Stored,
    Shared,
    Refused,
    Copied,
    Zombie,
    SharedMapped,
    SharedStandby,
    SharedFilling,
    SharedWriting,
    SharedStored,
}

impl State {
    /// Every state, in the order of the table; the marks come last.
    pub const ALL: [State; 18] = [
        State::Empty,
        State::FillingZeroes,
        State::FillingStored,
        State::Mapped,
        State::MappedWithCopy,
        State::Standby,
        State::StandbyWithCopy,
        State::Writing,
        State::Stored,
        State::Shared,
        State::Refused,
        State::Copied,
        State::Zombie,
        State::SharedMapped,
        State::SharedStandby,
        State::SharedFilling,
        State::SharedWriting,
        State::SharedStored,
    ];

    /// What the table calls it.
    pub const fn title(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::FillingZeroes => "Filling (zeroes)",
            State::FillingStored => "Filling (stored)",
            State::Mapped => "Mapped",
            State::MappedWithCopy => "Mapped with copy",
            State::Standby => "Standby",
            State::StandbyWithCopy => "Standby with copy",
            State::Writing => "Writing",
            State::Stored => "Stored",
            State::Shared => "*Mapped, shared after fork*",
            State::Refused => "*Mapped, refused: busy*",
            State::Copied => "*Mapped, filled by COPY: read-only*",
            State::Zombie => "*Empty, zombie frames of a void job*",
            State::SharedMapped => "*Shared by two spaces, mapped in both*",
            State::SharedStandby => "*Standby, shared by two spaces*",
            State::SharedFilling => "*Filling (stored), shared by two spaces*",
            State::SharedWriting => "*Writing, shared by two spaces*",
            State::SharedStored => "*Stored, shared by two spaces*",
        }
    }

    const fn after(self) -> After {
        match self {
            State::Empty | State::Zombie => After::Empty,
            State::FillingZeroes => After::FillingZeroes,
            State::FillingStored | State::SharedFilling => After::FillingStored,
            State::SharedMapped => After::Shared,
            State::Mapped | State::Shared | State::Refused | State::Copied => After::Mapped,
            State::MappedWithCopy => After::MappedWithCopy,
            State::Standby | State::SharedStandby => After::Standby,
            State::StandbyWithCopy => After::StandbyWithCopy,
            State::Writing | State::SharedWriting => After::Writing,
            State::Stored | State::SharedStored => After::Stored,
        }
    }

    /// Whether its pages are at the program's address, so that nobody waits for them.
    pub const fn present(self) -> bool {
        matches!(self.after(), After::Mapped | After::MappedWithCopy | After::Shared)
    }

    /// Whether a job of its own is under way.
    pub const fn has_job(self) -> bool {
        let filling = matches!(self, State::FillingZeroes | State::FillingStored | State::SharedFilling);
        filling || matches!(self, State::Writing | State::SharedWriting | State::Zombie)
    }

    /// Whether another space of the engine has the pages too.
    pub const fn is_shared(self) -> bool {
        matches!(
            self,
            State::SharedMapped
                | State::SharedStandby
                | State::SharedFilling
                | State::SharedWriting
                | State::SharedStored
        )
    }
}

/// What a page is afterwards.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum After {
    Empty,
    FillingZeroes,
    FillingStored,
    Mapped,
    MappedWithCopy,
    Standby,
    StandbyWithCopy,
    Writing,
    Stored,
    Shared,
    SharedWithCopy,
    Unmapped,
}

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            After::Empty => "Empty",
            After::FillingZeroes => "Filling (zeroes)",
            After::FillingStored => "Filling (stored)",
            After::Mapped => "Mapped",
            After::MappedWithCopy => "Mapped with copy",
            After::Standby => "Standby",
            After::StandbyWithCopy => "Standby with copy",
            After::Writing => "Writing",
            After::Stored => "Stored",
            After::Shared => "Shared",
            After::SharedWithCopy => "Shared with copy",
            After::Unmapped => "unmapped",
        })
    }
}

/// What a thread gets that waits for the first page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Waiter {
    /// The page was present: nobody waits.
    Nobody,
    /// Nothing yet: its message, or the job that it waits for, is still to come.
    Waits,
    /// It is woken and finds its page.
    GoesOn,
    /// It is woken, finds a hole, and faults again.
    FaultsAgain,
    /// It is woken and meets SIGSEGV.
    Segv,
    /// The process is stopped with a message.
    Stopped,
}

impl fmt::Display for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Waiter::Nobody => "nobody waits",
            Waiter::Waits => "waits on",
            Waiter::GoesOn => "woken, goes on",
            Waiter::FaultsAgain => "woken, faults again",
            Waiter::Segv => "woken, SIGSEGV",
            Waiter::Stopped => "the process is stopped with a message",
        })
    }
}

/// What an event makes of a state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Cell {
    /// This.
    Becomes {
        /// The first page.
        after: After,
        /// The second page.
        second: After,
        /// Who waits for the first.
        waiter: Waiter,
        /// Why, or what else; may be empty.
        note: &'static str,
    },
    /// It cannot happen, for this reason. What comes close to it changes nothing.
    Never(&'static str),
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cell::Becomes { after, second, waiter, note } = self else {
            let Cell::Never(why) = self else { return Ok(()) };
            return write!(f, "cannot happen: {why}");
        };
        write!(f, "{after}")?;
        if second != after {
            write!(f, ", the second page {second}")?;
        }
        write!(f, "; {waiter}")?;
        if note.is_empty() { Ok(()) } else { write!(f, "; {note}") }
    }
}

const fn becomes(after: After, waiter: Waiter, note: &'static str) -> Cell {
    Cell::Becomes { after, second: after, waiter, note }
}

/// The state stays what it is, and so does who waits.
const fn stays(state: State, note: &'static str) -> Cell {
    becomes(state.after(), waiting(state), note)
}

const fn waiting(state: State) -> Waiter {
    if state.present() { Waiter::Nobody } else { Waiter::Waits }
}

/// What should come of `event` in `state`.
pub const fn expected(event: Event, state: State) -> Cell {
    match event {
        Event::Fault => fault(state),
        Event::Adopt => adopt(state),
        Event::Discard => discard(state),
        Event::Unmap => unmap(state),
        Event::Remap => remap(state),
        Event::Protect => protect(state),
        Event::Lock => lock(state),
        Event::Fork => fork(state),
        Event::Hint => hint(state),
        Event::Budget => budget(state),
        Event::Collapse => collapse(state),
        Event::Vacate => vacate(state),
        Event::JobDone => job_done(state),
        Event::JobFailed => job_failed(state),
        Event::VerbPartial => verb_partial(state),
        Event::VerbRefused => verb_refused(state),
        Event::Write => write(state),
        Event::ForkSpace => fork_space(state),
        Event::Exit => exit(state),
    }
}

const fn fault(state: State) -> Cell {
    match state {
        State::Empty => becomes(After::FillingZeroes, Waiter::Waits, "a job zeroes frames"),
        State::FillingZeroes | State::FillingStored => stays(state, "joins"),
        State::Standby => becomes(After::Mapped, Waiter::GoesOn, "rescue"),
        State::StandbyWithCopy => becomes(After::MappedWithCopy, Waiter::GoesOn, "rescue"),
        State::Writing => {
            becomes(After::Mapped, Waiter::GoesOn, "rescue; the ticket is void, the frames stay pinned")
        }
        State::Stored => becomes(After::FillingStored, Waiter::Waits, "a job reads the stored pages"),
        State::Zombie => becomes(After::FillingZeroes, Waiter::Waits, "in other frames"),
        State::Mapped | State::MappedWithCopy | State::Shared | State::Refused | State::Copied => {
            stays(state, "a late message")
        }
        State::SharedMapped => stays(state, "a late message"),
        State::SharedFilling => stays(state, "joins"),
        State::SharedStandby => becomes(After::Shared, Waiter::GoesOn, "rescue; mapped here only"),
        State::SharedWriting => {
            becomes(After::Shared, Waiter::GoesOn, "rescue; the ticket is void, the frames stay pinned")
        }
        State::SharedStored => {
            becomes(After::FillingStored, Waiter::Waits, "a job reads the stored pages, once for both")
        }
    }
}

const fn adopt(state: State) -> Cell {
    match state {
        State::Empty => becomes(After::Mapped, Waiter::Waits, "its message will be late"),
        State::Zombie => becomes(After::Mapped, Waiter::Waits, "in other frames; its message will be late"),
        _ => stays(state, "left alone: not empty"),
    }
}

const fn write(state: State) -> Cell {
    match state {
        State::SharedMapped => becomes(After::Mapped, Waiter::Nobody, "a copy in frames of its own"),
        State::SharedStandby => {
            becomes(After::Mapped, Waiter::GoesOn, "a copy; what is shared stays in standby")
        }
        State::SharedWriting => becomes(After::Mapped, Waiter::GoesOn, "a copy; the writer goes on"),
        State::SharedStored => Cell::Becomes {
            after: After::FillingStored,
            second: After::Stored,
            waiter: Waiter::Waits,
            note: "a job reads the first page for the writer alone; both name its block",
        },
        _ => fault(state),
    }
}

const fn fork_space(state: State) -> Cell {
    match state {
        State::FillingZeroes => {
            becomes(After::Empty, Waiter::FaultsAgain, "the ticket is void, its frames are zombies")
        }
        State::FillingStored => {
            becomes(After::Stored, Waiter::FaultsAgain, "the ticket is void, its frames are zombies; shared")
        }
        State::Mapped | State::Copied => becomes(After::Shared, Waiter::Nobody, ""),
        State::MappedWithCopy => becomes(After::SharedWithCopy, Waiter::Nobody, ""),
        State::Writing => stays(state, "shared; the writer goes on"),
        State::Standby | State::StandbyWithCopy | State::Stored => stays(state, "shared"),
        State::Shared => stays(state, "refused, and counted: the child gets a copy"),
        State::Refused => stays(state, "refused again, and counted: the child gets a copy"),
        State::Empty | State::Zombie => stays(state, ""),
        State::SharedMapped
        | State::SharedStandby
        | State::SharedFilling
        | State::SharedWriting
        | State::SharedStored => stays(state, "shared by three spaces"),
    }
}

const fn exit(state: State) -> Cell {
    if state.is_shared() {
        stays(state, "a write will copy nothing")
    } else {
        Cell::Never("no other process has the pages")
    }
}

const fn discard(state: State) -> Cell {
    match state {
        State::Empty | State::Zombie => stays(state, "nothing to drop"),
        State::FillingZeroes | State::FillingStored | State::Writing => {
            becomes(After::Empty, Waiter::FaultsAgain, "the ticket is void, its frames are zombies")
        }
        State::SharedFilling => becomes(After::Empty, Waiter::FaultsAgain, "the fill goes on for the other"),
        State::SharedWriting => {
            becomes(After::Empty, Waiter::FaultsAgain, "the writer goes on for the other")
        }
        State::SharedStandby | State::SharedStored => {
            becomes(After::Empty, Waiter::FaultsAgain, "the other keeps them")
        }
        State::SharedMapped => becomes(After::Empty, Waiter::Nobody, "the other keeps them"),
        State::Standby | State::StandbyWithCopy | State::Stored => {
            becomes(After::Empty, Waiter::FaultsAgain, "")
        }
        State::Mapped | State::MappedWithCopy | State::Shared | State::Refused | State::Copied => {
            becomes(After::Empty, Waiter::Nobody, "")
        }
    }
}

const fn unmap(state: State) -> Cell {
    let waiter = if state.present() { Waiter::Nobody } else { Waiter::Segv };
    let void = matches!(state, State::FillingZeroes | State::FillingStored | State::Writing);
    let note = match state {
        _ if void => "the ticket is void, its frames are zombies",
        _ if state.is_shared() => "the other keeps them",
        _ => "",
    };
    becomes(After::Unmapped, waiter, note)
}

const fn remap(state: State) -> Cell {
    let waiter = if state.present() { Waiter::Nobody } else { Waiter::Segv };
    match state {
        State::FillingZeroes => becomes(After::Empty, waiter, "the ticket is void, its frames are zombies"),
        State::FillingStored => becomes(After::Stored, waiter, "the ticket is void, its frames are zombies"),
        State::Writing => becomes(After::Standby, waiter, "the ticket is void, the frames stay pinned"),
        _ => becomes(state.after(), waiter, ""),
    }
}

const fn protect(state: State) -> Cell {
    match state {
        State::FillingZeroes | State::FillingStored => stays(state, "the job ends in a copy"),
        State::Standby | State::StandbyWithCopy | State::Writing => stays(state, "a rescue will be a copy"),
        State::Mapped | State::MappedWithCopy | State::Shared | State::Refused => {
            stays(state, "no longer moved out")
        }
        State::Copied => stays(state, "can be moved out from now on"),
        _ => stays(state, ""),
    }
}

const fn lock(state: State) -> Cell {
    match state {
        State::Mapped | State::MappedWithCopy | State::Shared | State::Refused | State::SharedMapped => {
            stays(state, "no longer moved out")
        }
        State::Copied => stays(state, ""),
        _ => stays(state, "the host brings it in"),
    }
}

const fn fork(state: State) -> Cell {
    match state {
        State::FillingZeroes => becomes(After::Mapped, Waiter::GoesOn, "the fork waits for the job"),
        State::FillingStored => becomes(After::MappedWithCopy, Waiter::GoesOn, "the fork waits for the job"),
        State::Standby => becomes(After::Mapped, Waiter::GoesOn, "put back first"),
        State::StandbyWithCopy => becomes(After::Stored, Waiter::Waits, "its frames are given up"),
        State::Writing => {
            becomes(After::Stored, Waiter::Waits, "the fork waits for the job, then gives up the frames")
        }
        State::Mapped | State::MappedWithCopy | State::Copied => stays(state, "shared"),
        State::Shared => stays(state, "shared by three"),
        State::Refused => stays(state, "the kernel copies a pinned page at once"),
        State::Zombie => stays(state, "the fork waits for the job"),
        State::Empty | State::Stored => stays(state, ""),
        State::SharedMapped
        | State::SharedStandby
        | State::SharedFilling
        | State::SharedWriting
        | State::SharedStored => {
            Cell::Never("a process whose child gets an engine of its own is alone in its own")
        }
    }
}

const fn hint(state: State) -> Cell {
    match state {
        State::Mapped => becomes(After::Standby, Waiter::Nobody, ""),
        State::MappedWithCopy => {
            becomes(After::StandbyWithCopy, Waiter::Nobody, "a writer will tell whether the copy is good")
        }
        State::Shared => becomes(After::Standby, Waiter::Nobody, "made the program's own first"),
        State::Refused => stays(state, "refused again, and counted"),
        State::Copied => stays(state, "cannot be moved out"),
        State::SharedMapped => stays(state, "left alone: the other may need them"),
        _ => stays(state, ""),
    }
}

const fn budget(state: State) -> Cell {
    match state {
        State::Mapped | State::Shared => {
            becomes(After::Stored, Waiter::Nobody, "moved out, written, dropped")
        }
        State::MappedWithCopy => becomes(
            After::Stored,
            Waiter::Nobody,
            "the copy goes first, the store being over its part; then as without one",
        ),
        State::SharedMapped => {
            becomes(After::Stored, Waiter::Nobody, "unmapped in both spaces, written, dropped")
        }
        State::Standby | State::SharedStandby => becomes(After::Stored, Waiter::Waits, "written, dropped"),
        State::StandbyWithCopy => becomes(After::Stored, Waiter::Waits, "dropped"),
        State::FillingZeroes
        | State::FillingStored
        | State::Writing
        | State::SharedFilling
        | State::SharedWriting => stays(state, "pinned by its job"),
        State::Zombie => stays(state, "the frames stay pinned"),
        State::Refused => stays(state, "refused again, and counted"),
        State::Copied => stays(state, "cannot be moved out"),
        State::Empty | State::Stored | State::SharedStored => stays(state, ""),
    }
}

const fn collapse(state: State) -> Cell {
    match state {
        State::Mapped | State::MappedWithCopy | State::Shared | State::Refused => {
            stays(state, "one folio of four pages, in frames side by side")
        }
        State::Copied => stays(state, "its rights are others"),
        State::SharedMapped => stays(state, "left alone: the other has it too"),
        _ => stays(state, "not mapped"),
    }
}

const fn vacate(state: State) -> Cell {
    match state {
        State::Mapped | State::MappedWithCopy | State::Shared | State::Refused | State::Copied => {
            stays(state, "frames elsewhere")
        }
        State::Standby | State::StandbyWithCopy | State::SharedStandby => {
            stays(state, "its contents are in its frames")
        }
        State::SharedMapped => stays(state, "its contents are in its frames, mapped by both"),
        State::FillingZeroes
        | State::FillingStored
        | State::Writing
        | State::Zombie
        | State::SharedFilling
        | State::SharedWriting => stays(state, "its frames are a job's"),
        State::Empty | State::Stored | State::SharedStored => stays(state, "it has no frames"),
    }
}

const NO_JOB: &str = "no job is under way, and a ticket that has ended changes nothing";

const fn job_done(state: State) -> Cell {
    match state {
        State::FillingZeroes => becomes(After::Mapped, Waiter::GoesOn, ""),
        State::FillingStored => becomes(After::MappedWithCopy, Waiter::GoesOn, ""),
        State::SharedFilling => becomes(After::SharedWithCopy, Waiter::GoesOn, "mapped for who asked"),
        State::Writing | State::SharedWriting => {
            becomes(After::StandbyWithCopy, Waiter::Waits, "a fault will rescue it")
        }
        State::Zombie => stays(state, "the frames are free, and zeroed"),
        _ => Cell::Never(NO_JOB),
    }
}

const fn job_failed(state: State) -> Cell {
    match state {
        State::FillingZeroes => becomes(After::Empty, Waiter::Stopped, ""),
        State::FillingStored | State::SharedFilling => {
            becomes(After::Stored, Waiter::Stopped, "also when the hash does not match")
        }
        State::Writing | State::SharedWriting => {
            becomes(After::Standby, Waiter::Waits, "the spill file is given up; tried again")
        }
        State::Zombie => stays(state, "the frames are free; nothing stops"),
        _ => Cell::Never(NO_JOB),
    }
}

const fn verb_partial(state: State) -> Cell {
    match state {
        State::Empty => stays(state, "`protect`: the program gets the error"),
        State::FillingZeroes => becomes(After::Mapped, Waiter::GoesOn, "`move_in`, asked again for the rest"),
        State::FillingStored => {
            becomes(After::MappedWithCopy, Waiter::GoesOn, "`move_in`, asked again for the rest")
        }
        State::Mapped => {
            split(After::Standby, After::Mapped, "`move_out`: what is refused stays, and is counted")
        }
        State::MappedWithCopy => split(
            After::StandbyWithCopy,
            After::MappedWithCopy,
            "`move_out`: what is refused stays, and is counted",
        ),
        State::Standby => {
            becomes(After::Mapped, Waiter::GoesOn, "`move_in` of a rescue, asked again for the rest")
        }
        State::Writing => becomes(
            After::Mapped,
            Waiter::GoesOn,
            "the ticket is void; `move_in` of the rescue, asked again for the rest",
        ),
        State::StandbyWithCopy => {
            becomes(After::MappedWithCopy, Waiter::GoesOn, "`move_in` of a rescue, asked again for the rest")
        }
        State::Stored => stays(state, "`discard`: the program gets the error"),
        State::Shared => split(After::Standby, After::Mapped, "`unshare` refuses the second page"),
        State::Refused => split(After::Standby, After::Mapped, "`move_out`, the first page no longer pinned"),
        State::Copied => stays(state, "`protect`: the program gets the error"),
        State::Zombie => {
            becomes(After::Mapped, Waiter::GoesOn, "`move_in` of the next fill, in other frames")
        }
        State::SharedMapped => {
            becomes(After::Mapped, Waiter::Nobody, "`copy_in` of a write, asked again for the rest")
        }
        State::SharedStandby => {
            becomes(After::Shared, Waiter::GoesOn, "`map_shared` of a rescue, asked again for the rest")
        }
        State::SharedFilling => {
            becomes(After::SharedWithCopy, Waiter::GoesOn, "`map_shared`, asked again for the rest")
        }
        State::SharedWriting => becomes(
            After::Shared,
            Waiter::GoesOn,
            "the ticket is void; `map_shared` of the rescue, asked again for the rest",
        ),
        State::SharedStored => stays(state, "`discard`: the program gets the error"),
    }
}

const fn split(after: After, second: After, note: &'static str) -> Cell {
    Cell::Becomes { after, second, waiter: Waiter::Nobody, note }
}

const fn verb_refused(state: State) -> Cell {
    match state {
        State::Empty => stays(state, "`lock`: the program gets the error"),
        State::FillingZeroes => becomes(After::Mapped, Waiter::GoesOn, "`move_in`: filled by COPY"),
        State::FillingStored => becomes(After::MappedWithCopy, Waiter::GoesOn, "`move_in`: filled by COPY"),
        State::Mapped | State::MappedWithCopy => stays(state, "`move_out`: counted, not tried again"),
        State::Standby => becomes(After::Mapped, Waiter::GoesOn, "`move_in`: filled by COPY"),
        State::Writing => {
            becomes(After::Mapped, Waiter::GoesOn, "the ticket is void; `move_in`: filled by COPY")
        }
        State::StandbyWithCopy => becomes(After::MappedWithCopy, Waiter::GoesOn, "`move_in`: filled by COPY"),
        State::Stored => stays(state, "`remap`: the program gets the error"),
        State::Shared => stays(state, "`unshare`: counted, tried again later"),
        State::Refused => stays(state, "`move_out`: counted, tried again later"),
        State::Copied => stays(state, "`protect`: the program gets the error"),
        State::Zombie => becomes(After::Mapped, Waiter::GoesOn, "`move_in` of the next fill: filled by COPY"),
        State::SharedMapped => becomes(After::Mapped, Waiter::Nobody, "`copy_in` of a write, asked again"),
        State::SharedStandby => {
            becomes(After::Shared, Waiter::GoesOn, "`map_shared` of a rescue, asked again")
        }
        State::SharedFilling => becomes(After::SharedWithCopy, Waiter::GoesOn, "`map_shared`, asked again"),
        State::SharedWriting => becomes(
            After::Shared,
            Waiter::GoesOn,
            "the ticket is void; `map_shared` of the rescue, asked again",
        ),
        State::SharedStored => stays(state, "`remap`: the program gets the error"),
    }
}

/// The whole table as Markdown.
pub fn table() -> String {
    let mut text = String::new();
    for event in Event::ALL {
        text += &format!(
            "\n### {}\n\n{}\n\n| state | after; who waits for the first page |\n|---|---|\n",
            event.title(),
            event.text()
        );
        for state in State::ALL {
            text += &format!("| {} | {} |\n", state.title(), expected(event, state));
        }
    }
    text
}
