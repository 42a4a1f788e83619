//! Text of Valgrind's lackey, from standard input, as a trace small enough to be kept:
//! `cargo run --release -p quire-sim --example condense FILE [EVENTS] < TEXT`, at most so many events.
//! `crates/sim/traces/record` uses it.
//!
//! An access to a page whose last record is among the last 64 is counted with that record (and as a write with it, if
//! it is one), whatever lies in between. So pages that are used all the time, such as a stack's, have one record in 64
//! instead of every other one, and no access is lost. A replay hardly sees the difference: between the two there were at
//! most 64 pages, which the first level of a TLB keeps, and an engine learns nothing of accesses that do not fault.

use quire_sim::trace::{Event, Lackey, LackeyOptions, Writer};
use std::collections::VecDeque;
use std::error::Error;
use std::fs::File;
use std::io;

/// Records in which an access is looked for.
const WINDOW: usize = 64;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("name the file to write")?;
    let most = std::env::args().nth(2).map_or(Ok(u64::MAX), |text| text.parse())?;
    let mut writer = Writer::new(File::create(path)?);
    let mut window: VecDeque<Event> = VecDeque::with_capacity(WINDOW + 1);
    let mut lackey = Lackey::new(io::stdin().lock(), LackeyOptions::default());
    for event in &mut lackey {
        let event = event?;
        if joins(&mut window, &event) {
            continue;
        }
        window.push_back(event);
        if window.len() > WINDOW {
            window.pop_front().into_iter().try_for_each(|oldest| writer.write(oldest))?;
        }
        if writer.events() + window.len() as u64 == most {
            break;
        }
    }
    window.into_iter().try_for_each(|event| writer.write(event))?;
    let events = writer.events();
    writer.finish()?;
    let counts = lackey.counts();
    println!("{events} events of {} instructions and {} accesses", counts.instructions, accesses(counts));
    Ok(())
}

fn accesses(counts: &quire_sim::trace::LackeyCounts) -> u64 {
    counts.loads + counts.stores + counts.modifies
}

/// Whether the event is counted with one of the window: the last one of its page.
fn joins(window: &mut VecDeque<Event>, event: &Event) -> bool {
    let Event::Access(new) = event else { return false };
    for old in window.iter_mut().rev() {
        if let Event::Access(old) = old
            && (old.space, old.vpn) == (new.space, new.vpn)
            && let Some(times) = old.times.checked_add(new.times)
        {
            (old.times, old.write) = (times, old.write | new.write);
            return true;
        }
    }
    false
}
