//! Memory as after a long uptime: in a share of all runs of 64 KiB one page belongs to somebody and can't be moved.

use super::host::Stop;
use crate::rng::Rng;
use quire_core::job::{Stored, Work};
use quire_core::mmu::{Done, Mmu, Mover, Prot, Refusal};
use quire_core::{
    Block, Engine, Fault, Figures, Frame, FrameRun, Message, Order, PageRange, PolicyKind, Space, Vpn,
};

/// The runs of frames that are counted: 64 KiB.
const RUN: Order = Order::fitting(16);

/// Frames that have to be held beside `free` ones, so that `percent` of all runs have one that is.
pub(super) fn held(free: u32, percent: u8) -> u32 {
    let (free, percent) = (u64::from(free), u64::from(percent));
    (free * percent / (100 * u64::from(RUN.pages()) - percent)) as u32
}

/// Takes `held`, not none, of the `frames` frames of a new engine for good: one in each of so many runs, drawn evenly. Returns the
/// faults that it took, all of base pages.
///
/// They are pages of a program that no trace knows. It has locked them and has forked once, so that neither reclaim nor
/// compaction touches them: contents that were shared lie in their frames.
pub(super) fn hold(engine: &mut Engine, frames: u32, held: u32) -> Result<u64, Stop> {
    let space = engine.create_space().map_err(refused)?;
    let all = PageRange::new(space, Vpn(0), u64::from(frames));
    let kept = PageRange::new(space, Vpn(1 << 32), u64::from(held));
    engine.set_grant(frames);
    engine.set_policy(PolicyKind::Fixed(Order::BASE));
    for range in [all, kept] {
        engine.map_range(&mut Nobody, range, Prot::READ_WRITE).map_err(refused)?;
    }
    let mut work = Work::new();
    let mut page_of = vec![Vpn(0); frames as usize];
    for vpn in (0..u64::from(frames)).map(Vpn) {
        page_of[fault(engine, space, vpn, &mut work)?.0 as usize] = vpn;
    }
    // All frames are taken: the one that is given up is the one that the next fault finds.
    for (vpn, frame) in (kept.start.0..).map(Vpn).zip(chosen(frames, held)) {
        let page = PageRange::new(space, page_of[frame.0 as usize], 1);
        engine.discard_step(&mut Nobody, page).map_err(refused)?;
        fault(engine, space, vpn, &mut work)?;
    }
    engine.unmap(&mut Nobody, all).map_err(refused)?;
    engine.lock(&mut Nobody, kept, true).map_err(refused)?;
    let child = engine.fork(&mut Nobody, space).map_err(refused)?;
    engine.exit(&mut Nobody, child);
    Ok(u64::from(frames) + u64::from(held))
}

/// One frame in each of `held` runs.
fn chosen(frames: u32, held: u32) -> impl Iterator<Item = Frame> {
    let (mut rng, runs) = (Rng::new(1), frames / RUN.pages());
    let mut left = held;
    (0..runs).filter_map(move |run| {
        let within = rng.below(u64::from(RUN.pages())) as u32;
        let taken = rng.below(u64::from(runs - run)) < u64::from(left);
        left -= u32::from(taken);
        taken.then_some(Frame(run * RUN.pages() + within))
    })
}

/// Brings a page of zeroes. Its frame.
fn fault(engine: &mut Engine, space: Space, vpn: Vpn, work: &mut Work) -> Result<Frame, Stop> {
    match engine.fault(&mut Nobody, space, vpn, work) {
        Fault::Mapped => engine.whereabouts(space, vpn).frame,
        _ => None,
    }
    .ok_or(Stop::Bug("a page that is to be held finds no frame"))
}

fn refused(_: Refusal) -> Stop {
    Stop::Bug("a program without page tables was refused something")
}

/// The host of a program whose page tables nobody looks at: whatever it is told has happened.
struct Nobody;

impl Mmu for Nobody {
    fn discard(&mut self, _: PageRange) -> Result<(), Refusal> {
        Ok(())
    }

    fn protect(&mut self, _: PageRange, _: Prot) -> Result<(), Refusal> {
        Ok(())
    }

    fn lock(&mut self, _: PageRange, _: bool) -> Result<(), Refusal> {
        Ok(())
    }

    fn present(&mut self, _: Space, _: Vpn) -> bool {
        true
    }

    fn release(&mut self, _: FrameRun) {}

    fn tell(&mut self, _: Message) {}

    fn look(&self, _: Block) -> Option<Stored> {
        None
    }

    fn figures(&self) -> Figures {
        Figures::default()
    }
}

impl Mover for Nobody {
    fn move_in(&mut self, frames: FrameRun, _: Space, _: Vpn) -> Done {
        Done::all(frames.pages)
    }

    fn move_out(&mut self, _: Space, _: Vpn, frames: FrameRun) -> Done {
        Done::all(frames.pages)
    }

    fn copy_in(&mut self, frames: FrameRun, _: Space, _: Vpn) -> Done {
        Done::all(frames.pages)
    }

    fn copy_staged(&mut self, _: u32, to: PageRange) -> Done {
        Done::all(to.pages as u32)
    }

    fn copy_zeroes(&mut self, to: PageRange) -> Done {
        Done::all(to.pages as u32)
    }

    fn unshare(&mut self, range: PageRange) -> Done {
        Done::all(range.pages as u32)
    }

    fn remap(&mut self, _: PageRange, _: Vpn) -> Result<(), Refusal> {
        Ok(())
    }

    fn wake(&mut self, _: PageRange) {}

    fn share(&mut self, _: Space, _: Vpn, frames: FrameRun) -> Done {
        Done::all(frames.pages)
    }

    fn map_shared(&mut self, frames: FrameRun, _: Space, _: Vpn) -> Done {
        Done::all(frames.pages)
    }

    fn copy_out(&mut self, _: Space, _: Vpn, frames: FrameRun) -> Done {
        Done::all(frames.pages)
    }

    fn fork_space(&mut self, _: Space, _: Space) -> Result<(), Refusal> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_core::Config;

    #[test]
    fn of_so_many_runs_each_holds_one_page() {
        for (free, percent) in [(8192, 50), (8192, 100), (4096 + 16, 90), (4096, 1)] {
            let held = held(free, percent);
            let frames = free + held;
            let runs = frames / RUN.pages();
            assert!((held * 100).abs_diff(runs * u32::from(percent)) <= 100, "{held} of {runs}");
            let config = Config { frames, grant: frames, policy: PolicyKind::Adaptive };
            let mut engine = Engine::new(config);
            assert_eq!(hold(&mut engine, frames, held), Ok(u64::from(frames + held)));
            engine.validate(&quire_core::Store::new(0, 16, frames)).expect("valid tables");
            assert_eq!((engine.frames_in_use(), engine.lru_folios()), (held, 0));
            let taken: Vec<u32> = (0..frames).filter(|&f| !engine.rmap(Frame(f)).is_empty()).collect();
            assert_eq!(taken.len() as u32, held);
            assert!(taken.windows(2).all(|w| w[0] / RUN.pages() < w[1] / RUN.pages()));
        }
    }
}
