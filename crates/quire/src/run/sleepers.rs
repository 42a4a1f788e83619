//! Processes that sleep, whose memory is the kernel's: what they take is measured, and counts; the largest are woken when the
//! budget gets short.
//!
//! How soon is looked again follows from the headroom: before the fastest that touches memory could have used up half of it.

use super::sample;
use std::fs;
use std::time::Duration;

/// Bytes in a page.
const PAGE: u64 = 4096;

/// When processes are woken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wake {
    /// They do not sleep.
    AtStart,
    /// When memory gets short.
    WhenShort,
    /// Soon after they have joined, for tests.
    Soon,
}

impl Wake {
    /// What processes are told of it, by a variable.
    pub(crate) fn told(self) -> &'static str {
        match self {
            Wake::AtStart => "0",
            Wake::WhenShort => "1",
            Wake::Soon => "2",
        }
    }

    /// For [`Wake::Soon`]: whether one is woken at this look.
    pub(crate) fn is_time(self, nanoseconds: u32) -> bool {
        self == Wake::Soon && nanoseconds.wrapping_mul(0x9e37_79b9) >> 29 == 0
    }
}

/// Bytes a nanosecond that a program touches at the most.
const FASTEST: u64 = 8;
/// Times between two looks.
pub(crate) const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(50);

/// The headroom below which a process is woken, in pages, by the budget: a sixteenth, 8 MiB at the least, 64 MiB at the most.
pub(crate) fn least_headroom(budget: u64) -> u64 {
    (budget / 16).clamp((8 << 20) / PAGE, (64 << 20) / PAGE)
}

/// A process that sleeps, at a look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sleeper {
    /// Pages that it has.
    pub(crate) pages: u64,
    /// Those of them that it did not have at the look before.
    pub(crate) grown: u64,
    /// Which one it is.
    pub(crate) at: usize,
}

/// One that takes so many pages between two looks takes many more before it is awake.
const FAST: u64 = (256 << 10) / PAGE;
/// Until who is told to wake has woken, all take so many times what they took since the last look.
const AHEAD: u64 = 2;

/// Whom to wake: none while the headroom suffices for what comes, as `growth` since the last look tells it; else the largest,
/// and all that grow fast: the next look may be too late for them.
pub(crate) fn to_wake(
    sleepers: Vec<Sleeper>,
    headroom: u64,
    growth: u64,
    least: u64,
) -> impl Iterator<Item = usize> {
    let is_short = headroom < least + AHEAD * growth;
    let largest = sleepers.iter().max_by_key(|sleeper| sleeper.pages).map(|sleeper| sleeper.at);
    let is_told = move |sleeper: &Sleeper| sleeper.grown >= FAST || Some(sleeper.at) == largest;
    sleepers.into_iter().filter(move |sleeper| is_short && is_told(sleeper)).map(|sleeper| sleeper.at)
}

/// How long a headroom of so many pages may be left alone.
pub(crate) fn until_next(headroom: u64, least: u64) -> Duration {
    let bytes = headroom.saturating_sub(least) * PAGE;
    Duration::from_nanos(bytes / 2 / FASTEST).clamp(SHORTEST, LONGEST)
}

/// Whether only threads of Quire's are left of a process that has joined, beside its first one, which has ended.
pub(crate) fn is_over(pid: u32) -> bool {
    let first = format!("{pid}/task/{pid}");
    let others: Vec<String> = sample::threads(pid).into_iter().filter(|thread| *thread != first).collect();
    let is_ours = |thread: &String| {
        fs::read(format!("/proc/{thread}/comm")).is_ok_and(|name| name.starts_with(b"quire-"))
    };
    !others.is_empty() && others.iter().all(is_ours)
}

/// Pages that a process has resident and shares with no file; 0 of one that has ended.
pub(crate) fn resident(pid: u32) -> u64 {
    let parse = |statm: String| {
        let mut fields = statm.split_ascii_whitespace().skip(1).map_while(|field| field.parse::<u64>().ok());
        let (resident, shared) = (fields.next()?, fields.next()?);
        Some(resident.saturating_sub(shared))
    };
    let of = |place: &str| fs::read_to_string(format!("/proc/{place}/statm")).ok().and_then(parse);
    match of(&pid.to_string()) {
        // The first thread may have ended before others.
        None | Some(0) => sample::threads(pid).iter().filter_map(|thread| of(thread)).max().unwrap_or(0),
        Some(pages) => pages,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_the_headroom_the_sooner_the_next_look() {
        let pages = |mib: u64| (mib << 20) / PAGE;
        assert_eq!(until_next(pages(10), pages(12)), Duration::from_millis(1));
        assert_eq!(until_next(pages(112), pages(12)), Duration::from_nanos((100 << 20) / 16));
        assert_eq!(until_next(pages(1 << 20), 0), Duration::from_millis(50));
    }

    #[test]
    fn who_grows_fast_is_woken_with_the_largest() {
        let pages = |mib: u64| (mib << 20) / PAGE;
        let sleeper =
            |at: usize, size: u64, grown: u64| Sleeper { pages: pages(size), grown: pages(grown), at };
        let told = |all: &[Sleeper], headroom: u64| {
            let growth = all.iter().map(|sleeper| sleeper.grown).sum();
            to_wake(all.to_vec(), pages(headroom), growth, least_headroom(pages(256))).collect::<Vec<_>>()
        };
        let still = [sleeper(0, 20, 0), sleeper(1, 40, 0), sleeper(2, 30, 0)];
        assert_eq!(told(&still, 16), [] as [usize; 0]);
        assert_eq!(told(&still, 15), vec![1]);
        let growing = [sleeper(0, 20, 5), sleeper(1, 40, 0), sleeper(2, 30, 10)];
        assert_eq!(told(&growing, 46), [] as [usize; 0]);
        assert_eq!(told(&growing, 45), vec![0, 1, 2]);
        assert_eq!(told(&[], 0), [] as [usize; 0]);
    }

    #[test]
    fn what_is_touched_is_resident() {
        let before = resident(std::process::id());
        let memory = vec![1u8; 64 << 20];
        let after = resident(std::process::id());
        assert!(after >= before + (60 << 20) / PAGE, "{before} {after}");
        drop(memory);
        assert_eq!(resident(u32::MAX / 2), 0);
    }
}
