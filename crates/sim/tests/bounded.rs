//! Every fault is answered in bounded steps: wherever a walk has come to, a pager that does nothing else has answered all
//! messages, those that nobody waits for any longer too, after a number of steps that follows from what there is.
//!
//! `QUIRE_SEEDS=n` takes n walks of each kind. With `-- --nocapture` the most steps of each kind are printed.

use quire_sim::Host;
use quire_sim::walk::{WALKS, Walk, recorded};

/// Steps for a job: a writer packs, asks for places, stores, and comes back.
const JOB: u64 = 4;
/// Steps for a message: it is answered, finds no frame, and is answered again. In between the folio that makes
/// room is moved out, written and dropped, and another one spills for its sake; then its own job fills its page.
const MESSAGE: u64 = 2 + 3 * (JOB + 2);
/// Steps for a page that has a frame: where the grant has shrunk, all of them may have to be moved out, written and dropped
/// before anybody gets one. None is moved out twice.
const FRAME: u64 = JOB + 2;
/// Events between two looks.
const APART: usize = 29;

#[expect(clippy::disallowed_methods, reason = "whoever runs the test decides")]
fn seeds() -> u64 {
    std::env::var("QUIRE_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(4)
}

fn bound(host: &Host) -> u64 {
    let unread = host.mmu.waiters.unread().count();
    let messages = (unread + host.held.len() + host.parked.len()) as u64;
    let jobs = host.jobs.len() as u64;
    MESSAGE * messages + JOB * jobs + FRAME * u64::from(host.engine.frames_in_use())
}

/// Steps until nobody waits, of those that were allowed.
fn answer_all(host: &Host) -> (u64, u64) {
    let (mut host, bound) = (host.clone(), bound(host));
    let before = host.steps;
    host.drain().unwrap();
    (host.steps - before, bound)
}

fn look(walk: &Walk, seed: u64, most: &mut (u64, u64)) -> u64 {
    let mut host = Host::new(walk.setup);
    host.watch();
    let mut waited = 0;
    for (i, event) in recorded(walk, seed).into_iter().enumerate() {
        host.happen(event).unwrap();
        if i % APART != 0 || host.mmu.waiters.waiting().next().is_none() {
            continue;
        }
        waited += 1;
        let (steps, bound) = answer_all(&host);
        assert!(steps <= bound, "{}, seed {seed}, event {i}: {steps} steps, at most {bound}", walk.name);
        *most = if steps * most.1 >= most.0 * bound { (steps, bound) } else { *most };
    }
    waited
}

#[test]
fn every_fault_is_answered_in_bounded_steps() {
    for walk in WALKS {
        let mut most = (0, 1);
        let waited: u64 = (0..seeds()).map(|seed| look(walk, seed, &mut most)).sum();
        println!("{:32} {waited:5} looks, at the most {} steps of {}", walk.name, most.0, most.1);
        assert!(waited > 10, "{}: hardly anybody waited", walk.name);
    }
}
