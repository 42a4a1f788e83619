//! A walk that failed, made short.

use super::{Walk, end};
use crate::world::{Event, Host};
use core::fmt;
use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::sync::Once;

/// Decisions shown of a walk that fails.
const LOGGED: usize = 40;

/// A walk that failed, and a list of events that fails too, but not when any one of them is left out.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The name of the kind of walk.
    pub walk: Walk,
    /// The seed.
    pub seed: u64,
    /// Events after which it was found.
    pub after: usize,
    /// What was wrong then.
    pub why: String,
    /// The short list.
    pub events: Vec<Event>,
    /// What is wrong after it.
    pub reason: String,
    /// What the engine decided last in it.
    pub decisions: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { walk, seed, after, why, events, reason, decisions } = self;
        writeln!(f, "{}, seed {seed}, after {after} events: {why}", walk.name)?;
        writeln!(f, "  {:?}", walk.setup)?;
        let enough = if let [_] = events[..] { "event does" } else { "events do" };
        writeln!(f, "  {} {enough}: {reason}", events.len())?;
        events.iter().try_for_each(|event| writeln!(f, "    {event:?},"))?;
        writeln!(f, "  the engine's last decisions:{decisions}")?;
        write!(
            f,
            "  this walk again: cargo run --profile walk -p quire-sim --bin walk -- --seed {seed} --setup \"{}\"",
            walk.name
        )
    }
}

/// When everything is looked at.
#[derive(Clone, Copy)]
enum Checks {
    /// After every event.
    Every,
    /// As in a walk.
    Watched,
}

thread_local! {
    /// While events are left out one by one, panics are no news.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

fn be_quiet_when_told() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                loud(info);
            }
        }));
    });
}

/// Finds the event with which it went wrong, and what the failure needs of those before.
pub(super) fn shrink(walk: &Walk, seed: u64, events: Vec<Event>, why: String) -> Failure {
    // It may take minutes.
    eprintln!("{}, seed {seed}: {why}; looking for the shortest list of events", walk.name);
    be_quiet_when_told();
    QUIET.set(true);
    let (checks, after, why) =
        match (play(walk, &events, Checks::Every), play(walk, &events, Checks::Watched)) {
            (Err((after, why)), _) => (Checks::Every, after, why),
            (_, Err((after, why))) => (Checks::Watched, after, why),
            // It did not fail again: all that is known is what it said.
            _ => (Checks::Watched, events.len(), why),
        };
    let (events, reason) = shortest(events[..after].to_vec(), why.clone(), |fewer| play(walk, fewer, checks));
    let decisions = decisions(walk, &events);
    QUIET.set(false);
    Failure { walk: *walk, seed, after, why, events, reason, decisions }
}

/// Lets the events happen, and ends as a walk does. After how many it failed, and why; a panic is a failure.
fn play(walk: &Walk, events: &[Event], checks: Checks) -> Result<(), (usize, String)> {
    let mut happened = 0;
    let played = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let mut host = Host::new(walk.setup);
        host.recount();
        host.follow_lists();
        if let Checks::Watched = checks {
            host.watch();
        }
        for event in events {
            happened += 1;
            host.happen(*event)?;
        }
        end(&mut host).map_err(|why| format!("at the end: {why}"))
    }));
    played.unwrap_or_else(|_| Err("panicked".into())).map_err(|why| (happened, why))
}

/// Leaves out events, half of them at a time and less and less, as long as `play` fails all the same; it answers after how
/// many it failed, and why.
fn shortest<E: Clone>(
    mut events: Vec<E>,
    mut why: String,
    play: impl Fn(&[E]) -> Result<(), (usize, String)>,
) -> (Vec<E>, String) {
    let mut size = events.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < events.len() {
            let mut fewer = events.clone();
            fewer.drain(at..(at + size).min(events.len()));
            match play(&fewer) {
                Err((after, reason)) => {
                    fewer.truncate(after);
                    (events, why) = (fewer, reason);
                }
                Ok(()) => at += size,
            }
        }
        size /= 2;
    }
    (events, why)
}

/// What the engine decided last while the events happened.
fn decisions(walk: &Walk, events: &[Event]) -> String {
    let mut host = Host::new(walk.setup);
    host.engine.set_log(LOGGED);
    let _ = std::panic::catch_unwind(AssertUnwindSafe(|| {
        events.iter().try_for_each(|event| host.happen(*event))?;
        end(&mut host)
    }));
    host.decisions()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::WALKS;

    /// Fails at the second of two events that have to come in this order.
    fn two_of_them(events: &[u32]) -> Result<(), (usize, String)> {
        let first = events.iter().position(|event| *event == 30).unwrap_or(events.len());
        let second = events.iter().skip(first).position(|event| *event == 70);
        second.map_or(Ok(()), |at| Err((first + at + 1, format!("of {}", events.len()))))
    }

    #[test]
    fn only_what_it_takes_is_left_and_the_reason_is_that_of_the_last_play() {
        for length in [71, 100, 1000] {
            let (events, why) = shortest((0..length).collect(), "at first".into(), two_of_them);
            assert_eq!(events, [30, 70]);
            assert_ne!(why, "at first");
        }
        assert_eq!(shortest(vec![30, 70], "at first".into(), two_of_them), (vec![30, 70], "at first".into()));
        let plays = Cell::new(0);
        shortest((0..1024).collect(), String::new(), |fewer| {
            plays.set(plays.get() + 1);
            two_of_them(fewer)
        });
        assert!(plays.get() < 100, "{} plays for 1024 events", plays.get());
    }

    #[test]
    fn a_failure_names_the_command_that_takes_it_again() {
        let (why, reason, decisions) = ("a".into(), "b".into(), "\n    c".into());
        let failure =
            Failure { walk: WALKS[0], seed: 20, after: 7, why, events: Vec::new(), reason, decisions };
        let command = format!(
            "cargo run --profile walk -p quire-sim --bin walk -- --seed 20 --setup \"{}\"",
            WALKS[0].name
        );
        assert!(failure.to_string().contains(&command), "{failure}");
    }
}
