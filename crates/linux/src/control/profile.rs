//! Where the time of faults goes, as it is counted and reported (`quire run --profile`).

/// What is done about a fault. Each nanosecond of it belongs to one phase, or to none of these: to the rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Waiting: from the wake of the handler until it took the message up, behind others that it read at the same time;
    /// for a frame; for the end of a fork; for a thread to run the job. How long a message lay unread before, nobody knows.
    Wait,
    /// Getting the engine's lock.
    Lock,
    /// The engine's own time, with the lock held: without the verbs below.
    Decide,
    /// Reading a spill file.
    Read,
    /// Bringing pages back from their stored bytes, and their checksums.
    Decompress,
    /// Memory for frames, and bringing them or their contents to the program: `MOVE`, `COPY`, `MADV_POPULATE_WRITE`.
    Place,
    /// Waking who waits for the pages.
    Wake,
    /// Reclaim inside the fault, with all that belongs to it but waiting; and memory given back to the kernel.
    Evict,
    /// The rest: choosing processors, looking at page tables, notes. It has no counter of its own.
    Other,
}

/// Phases that are counted.
pub const PHASES: usize = Phase::Other as usize;

/// Their names in reports, by index.
pub const PHASE_NAMES: [&str; PHASES] =
    ["wait", "lock", "decide", "read", "decompress", "place", "wake", "evict"];

/// What one fault took, in ns.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Spent {
    /// From the wake of the handler that read its message to the wake of the thread that waited.
    pub total: u64,
    /// The part of each phase.
    pub phases: [u64; PHASES],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_named_by_their_index() {
        let phases = [
            Phase::Wait,
            Phase::Lock,
            Phase::Decide,
            Phase::Read,
            Phase::Decompress,
            Phase::Place,
            Phase::Wake,
            Phase::Evict,
        ];
        for (at, phase) in phases.into_iter().enumerate() {
            assert_eq!((phase as usize, format!("{phase:?}").to_lowercase()), (at, PHASE_NAMES[at].into()));
        }
    }
}
