//! The third axis of the table: what was wrong on purpose when an event met a state.

use super::{Cell, Event, State, expected};

/// What is wrong, and when that counts as so for an event and a page.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Injected {
    /// Nothing of the following.
    Nothing,
    /// During the event a verb of the host was called for the page among others, and did nothing.
    VerbRefused,
    /// During the event a verb of the host was called for the page among others, and did some of them only.
    VerbPartial,
    /// The last job that came back for the page had failed, or the one does that comes back now.
    JobFailed,
    /// Nothing can be stored: RAM for the store is used up, the spill file is full, and nothing compresses.
    StoreFull,
    /// The store is slow: a job was under way that made no step while other events came. Where the event is that a job
    /// comes back, it is that job.
    StoreSlow,
    /// Whoever asks for a frame is refused.
    NoFrame,
    /// The page is pinned for I/O.
    Pinned,
    /// During a verb for the page among others a page appeared where it was to bring one: somebody else's, with other contents.
    PageAppeared,
    /// During a verb for the page among others a page left: before it was moved out, or after it had been brought.
    PageGone,
    /// A verb for the page among others was refused, and would be again, until somebody lifts that.
    RefusedOn,
}

impl Injected {
    /// How many there are.
    pub const COUNT: usize = 11;
    /// All of them, in the order of their numbers.
    pub const ALL: [Injected; Injected::COUNT] = [
        Injected::Nothing,
        Injected::VerbRefused,
        Injected::VerbPartial,
        Injected::JobFailed,
        Injected::StoreFull,
        Injected::StoreSlow,
        Injected::NoFrame,
        Injected::Pinned,
        Injected::PageAppeared,
        Injected::PageGone,
        Injected::RefusedOn,
    ];

    /// What tables call it.
    pub const fn title(self) -> &'static str {
        match self {
            Injected::Nothing => "nothing",
            Injected::VerbRefused => "verb refused",
            Injected::VerbPartial => "verb partial",
            Injected::JobFailed => "job failed",
            Injected::StoreFull => "store full",
            Injected::StoreSlow => "store slow",
            Injected::NoFrame => "no frame",
            Injected::Pinned => "page pinned",
            Injected::PageAppeared => "page appeared",
            Injected::PageGone => "page gone",
            Injected::RefusedOn => "refused on",
        }
    }
}

/// Whether a walk can meet `event` in `state` with `injected`; if not, why.
pub const fn possible(event: Event, state: State, injected: Injected) -> Result<(), &'static str> {
    if matches!(event, Event::VerbPartial | Event::VerbRefused) {
        return Err("what a verb refuses is an injection here, beside the event that called it");
    }
    if let Cell::Never(why) = expected(event, state) {
        return Err(why);
    }
    if matches!(event, Event::Vacate) && matches!(state, State::Empty | State::Stored | State::SharedStored) {
        return Err("it has no frames, so no run of frames leads to it");
    }
    match injected {
        Injected::Nothing if matches!(state, State::Refused) => Err("it is busy because it is pinned"),
        Injected::Nothing if matches!(event, Event::JobFailed) => Err("a job that fails is an injection"),
        Injected::VerbRefused if !can_be_refused(event, state) => Err(NO_VERB),
        Injected::VerbPartial if matches!(event, Event::Remap) => Err("`remap` does all or nothing"),
        Injected::VerbPartial if !can_be_partial(event, state) => Err(NO_VERB),
        Injected::RefusedOn if !can_be_refused(event, state) => Err(NO_VERB),
        Injected::PageAppeared if !brings(event, state) => {
            Err("the engine calls no verb that brings the page")
        }
        Injected::PageGone if !brings(event, state) && !takes(event, state) => {
            Err("the engine calls no verb that brings the page or moves it")
        }
        Injected::Pinned if !can_be_pinned(state) => Err("only a program's own page can be pinned"),
        _ => Ok(()),
    }
}

const NO_VERB: &str = "the engine calls no verb for the page that could refuse";

/// Shared pages are in the pool, where I/O of the program does not reach; and whoever pins a page that is shared after a
/// fork makes it its own first.
const fn can_be_pinned(state: State) -> bool {
    matches!(state, State::Mapped | State::MappedWithCopy | State::Refused | State::Copied)
}

/// Whether a verb brings the page to the program. In a fork's child nobody runs yet, so nothing appears there or leaves.
const fn brings(event: Event, state: State) -> bool {
    matches!(event, Event::Fault | Event::Write | Event::Fork | Event::JobDone)
        && can_be_refused(event, state)
}

/// Whether a verb moves the page away from the program.
const fn takes(event: Event, state: State) -> bool {
    match event {
        Event::Hint | Event::Budget => can_be_refused(event, state),
        Event::ForkSpace => {
            matches!(
                state,
                State::Mapped | State::MappedWithCopy | State::Shared | State::Refused | State::Copied
            )
        }
        _ => false,
    }
}

const fn can_be_partial(event: Event, state: State) -> bool {
    match event {
        // `fork_space` does all or nothing; `share` and `map_shared` have pages that are at the program's address.
        Event::ForkSpace => state.present(),
        _ => can_be_refused(event, state),
    }
}

const fn can_be_refused(event: Event, state: State) -> bool {
    match event {
        Event::Discard | Event::Unmap | Event::Remap | Event::Protect | Event::Lock | Event::ForkSpace => {
            true
        }
        // `move_in`, `copy_in` and `map_shared` of a rescue, or of zeroes that are ready.
        Event::Fault => comes_at_once(state),
        // The same, and the copy of what is shared.
        Event::Write => comes_at_once(state) || matches!(state, State::SharedMapped),
        // What is in standby and not known to be stored goes back first; and so does what the jobs bring for which the fork
        // waits, or find no place for.
        Event::Fork => matches!(
            state,
            State::FillingZeroes
                | State::FillingStored
                | State::Standby
                | State::StandbyWithCopy
                | State::Writing
        ),
        // `move_out` and `unshare`.
        Event::Hint | Event::Budget => {
            matches!(state, State::Mapped | State::MappedWithCopy | State::Shared | State::Refused)
        }
        // `move_in`, `copy_in`, `map_shared`.
        Event::JobDone => {
            matches!(state, State::FillingZeroes | State::FillingStored | State::SharedFilling)
        }
        Event::Adopt | Event::Collapse | Event::Vacate | Event::JobFailed | Event::Exit => false,
        Event::VerbPartial | Event::VerbRefused => false,
    }
}

/// Whether a fault needs no job.
const fn comes_at_once(state: State) -> bool {
    matches!(
        state,
        State::Empty
            | State::Zombie
            | State::Standby
            | State::StandbyWithCopy
            | State::Writing
            | State::SharedStandby
            | State::SharedWriting
    )
}
