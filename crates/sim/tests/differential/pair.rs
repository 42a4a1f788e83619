//! The kernel and the simulated tables, side by side.

use crate::kernel::{Child, Window};
use crate::ops::{ARENA, CHILD, OWN, Op, POOL};
use core::fmt::Debug;
use quire_core::mmu::{Done, Mmu, Mover, Prot, Refusal};
use quire_core::{Frame, FrameRun, PageRange, Space, Vpn};
use quire_sim::{Access, Pte, SimMmu};

/// How often each answer came, so that a run that proves little is noticed.
#[derive(Clone, Default, Debug)]
pub(crate) struct Answers {
    pages: u64,
    whole: u64,
    partial: u64,
    refused: [u64; Refusal::COUNT],
    faults: u64,
    remaps: u64,
}

impl Answers {
    fn done(&mut self, done: Done) {
        self.pages += u64::from(done.pages);
        match done.refusal {
            None => self.whole += 1,
            Some(refusal) => {
                self.partial += u64::from(done.pages > 0);
                self.refused[refusal.index()] += 1;
            }
        }
    }

    /// Every answer that this test can provoke came at least once.
    pub(crate) fn expect_all(&self) {
        let seen = |refusal: Refusal| self.refused[refusal.index()] > 0;
        let all = [Refusal::Busy, Refusal::Denied, Refusal::Exists, Refusal::Absent];
        assert!(self.whole > 0 && self.partial > 0 && self.faults > 0 && self.remaps > 0, "{self:?}");
        assert!(all.into_iter().all(seen), "{self:?}");
    }
}

/// Both hosts, with the same steps behind them.
#[derive(Debug)]
pub(crate) struct Pair<'a> {
    kernel: Window<'a>,
    sim: SimMmu,
    child: Option<Child>,
    version: u64,
}

fn same<T: PartialEq + Debug>(what: impl Debug, kernel: T, sim: T) -> Result<T, String> {
    if kernel == sim { Ok(sim) } else { Err(format!("{what:?}: kernel {kernel:?}, simulated {sim:?}")) }
}

impl Pair<'_> {
    /// An arena of which most is readable and writable, and a pool of which most is written.
    pub(crate) fn new(kernel: Window<'_>) -> Pair<'_> {
        let mut sim = SimMmu::new(POOL);
        sim.map(PageRange::new(OWN, Vpn(0), ARENA), Prot::NONE, true);
        let mut pair = Pair { kernel, sim, child: None, version: 0 };
        let carve = Op::Protect(PageRange::new(OWN, Vpn(0), ARENA * 3 / 4), Prot::READ_WRITE);
        let write = Op::WriteFrame(FrameRun::new(Frame(0), POOL / 2));
        for op in [carve, write] {
            pair.step(&op, &mut Answers::default()).expect("a fresh arena takes it");
        }
        pair
    }

    /// One step on both sides, and the comparison.
    pub(crate) fn step(&mut self, op: &Op, answers: &mut Answers) -> Result<(), String> {
        match *op {
            Op::MoveIn(..) | Op::MoveOut(..) | Op::CopyIn(..) | Op::Unshare(..) => {
                self.transfer(op, answers)?;
            }
            Op::Read(space, vpn) => self.touch(space, vpn, None, answers)?,
            Op::Write(space, vpn) => {
                let value = self.fresh();
                self.touch(space, vpn, Some(value), answers)?;
            }
            Op::ReadFrame(frames) => self.read_frames(frames)?,
            Op::WriteFrame(frames) => self.write_frames(frames),
            Op::Fork { stays } => self.fork(stays),
            Op::Exit => self.exit(),
            _ => self.change(op, answers)?,
        }
        self.compare()
    }

    fn transfer(&mut self, op: &Op, answers: &mut Answers) -> Result<(), String> {
        let one = |host: &mut dyn Mover, base: Vpn| match *op {
            Op::MoveIn(frames, at) => host.move_in(clip(frames, at), OWN, base.plus(at.0)),
            Op::MoveOut(at, frames) => host.move_out(OWN, base.plus(at.0), clip(frames, at)),
            Op::CopyIn(frames, at) => host.copy_in(clip(frames, at), OWN, base.plus(at.0)),
            Op::Unshare(range) => host.unshare(shifted(range, base)),
            _ => Done::all(0),
        };
        let kernel = one(&mut self.kernel.mmu(), self.kernel.page(Vpn(0)));
        answers.done(same("answer", kernel, one(&mut self.sim, Vpn(0)))?);
        Ok(())
    }

    fn change(&mut self, op: &Op, answers: &mut Answers) -> Result<(), String> {
        if let Op::Remap(from, to) = *op {
            if !self.can_remap(from, to) {
                return Ok(());
            }
            answers.remaps += 1;
        }
        let one = |host: &mut dyn Mover, base: Vpn| match *op {
            Op::Protect(range, prot) => host.protect(shifted(range, base), prot),
            Op::Lock(range, locked) => host.lock(shifted(range, base), locked),
            Op::Discard(range) => host.discard(shifted(range, base)),
            Op::Remap(from, to) => host.remap(shifted(from, base), base.plus(to.0)),
            Op::Release(frames) => {
                host.release(frames);
                Ok(())
            }
            _ => Ok(()),
        };
        let kernel = one(&mut self.kernel.mmu(), self.kernel.page(Vpn(0)));
        same("answer", kernel, one(&mut self.sim, Vpn(0))).map(drop)
    }

    /// What the contract asks of the engine: another place, mapped without access and empty.
    fn can_remap(&mut self, from: PageRange, to: Vpn) -> bool {
        let fits = to.0 + from.pages <= ARENA && (to >= from.end() || to.0 + from.pages <= from.start.0);
        fits && (to.0..to.0 + from.pages).map(Vpn).all(|vpn| {
            let rights = self.sim.rights(OWN, vpn).expect("the arena is mapped");
            rights.prot == Prot::NONE && !rights.locked && !self.sim.present(OWN, vpn)
        })
    }

    /// A touch by the program or its child. The kernel is asked only where the program may.
    fn touch(
        &mut self,
        space: Space,
        vpn: Vpn,
        write: Option<u64>,
        answers: &mut Answers,
    ) -> Result<(), String> {
        if space == CHILD && self.child.is_none() {
            return Ok(());
        }
        let access = match write {
            Some(value) => self.sim.touch_write(space, vpn, value),
            None => self.sim.touch_read(space, vpn),
        };
        let memory = match &self.child {
            Some(child) if space == CHILD => child.memory(),
            _ => self.kernel.memory(),
        };
        let addr = self.kernel.addr(vpn);
        let touch = || write.map_or_else(|| memory.read(addr), |v| memory.write(addr, v).then_some(v));
        match access {
            Access::Hit(value) => same("touch", touch(), Some(value)).map(drop),
            Access::Fault => {
                answers.faults += 1;
                same("touch", touch(), None).map(drop)
            }
            Access::Segv => Ok(()),
        }
    }

    fn read_frames(&mut self, frames: FrameRun) -> Result<(), String> {
        for frame in frames.iter() {
            let kernel = self.kernel.memory().read(self.kernel.frame_addr(frame));
            same("frame", kernel, Some(self.sim.read_frame(frame)))?;
        }
        Ok(())
    }

    fn write_frames(&mut self, frames: FrameRun) {
        for frame in frames.iter() {
            let value = self.fresh();
            assert!(self.kernel.memory().write(self.kernel.frame_addr(frame), value));
            self.sim.write_frame(frame, value);
        }
    }

    fn fork(&mut self, stays: bool) {
        self.exit();
        self.sim.fork(OWN, CHILD);
        self.child = Some(Child::fork());
        if !stays {
            self.exit();
        }
    }

    fn exit(&mut self) {
        self.sim.exit(CHILD);
        self.child = None;
    }

    /// A version never written before, and now and then zeroes.
    fn fresh(&mut self) -> u64 {
        self.version += 1;
        if self.version.is_multiple_of(7) { 0 } else { self.version }
    }

    /// Every page of the window and every frame: present in both or in neither, with the same contents.
    fn compare(&mut self) -> Result<(), String> {
        let pages = self.kernel.contents(self.kernel.addr(Vpn(0)), ARENA);
        for (vpn, kernel) in (0..ARENA).map(Vpn).zip(pages) {
            same(vpn, kernel, self.sim.entry(OWN, vpn).map(Pte::value))?;
        }
        let frames = self.kernel.contents(self.kernel.frame_addr(Frame(0)), u64::from(POOL));
        for (frame, kernel) in (0..POOL).map(Frame).zip(frames) {
            same(frame, kernel, self.sim.frame(frame).map(Pte::value))?;
        }
        let any = Vpn(self.version % ARENA);
        let kernel = self.kernel.mmu().present(OWN, self.kernel.page(any));
        same("present", kernel, self.sim.present(OWN, any)).map(drop)
    }
}

/// As many of `frames` as there are pages from `at` to the end of the arena.
fn clip(frames: FrameRun, at: Vpn) -> FrameRun {
    FrameRun::new(frames.start, frames.pages.min((ARENA - at.0) as u32))
}

fn shifted(range: PageRange, base: Vpn) -> PageRange {
    PageRange { start: base.plus(range.start.0), ..range }
}
