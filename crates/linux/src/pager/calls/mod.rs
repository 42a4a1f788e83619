//! What a program asks of its address space, carried out in the engine's tables and in the kernel's.
//!
//! What needs no help is done on the program's own thread ([`here`]): new memory; rights, contents dropped and memory
//! unmapped where nothing is moved out. The rest is handed to the service thread, since it may have to take a folio from a
//! job and wake who waits for it.
//!
//! * [`call`]: the calls. `place`: who has which addresses; they are free to others only after the last step that
//!   touches them. `brk`: the program's break. `rights`: those that the kernel gives and the tables do not. `piece`: what a
//!   range consists of.
//! * `advice`: contents dropped, rights, marks. `lock` and `unevictable`: what is to be present. `remap` and `away`:
//!   what moves.

mod advice;
mod away;
mod brk;
mod call;
mod disown;
mod here;
mod limit;
mod lock;
mod piece;
mod place;
mod remap;
mod rights;
mod unevictable;

pub(super) use advice::{TAG_DONT_FORK, TAG_WIPE};
pub(super) use brk::{HEAP_FRACTION, Heap};
pub use call::Call;
pub(super) use here::perform;
pub use piece::{Kind, Piece};
pub use remap::{FOREIGN_TARGET, TARGET_ENDED};
pub(super) use rights::Spare;

use super::worker::Worker;
use super::{Pager, pages_of};
use crate::control::note::Note;
use quire_core::job::Work;
use quire_core::mmu::Refusal;

impl Pager {
    /// The program did this. Under the engine's lock.
    fn note(&self, note: Note) {
        if let Some(recorder) = self.recorder() {
            recorder.note(note);
        }
    }
}

/// What the service thread needs to carry out calls.
pub(super) struct Caller {
    pager: &'static Pager,
    worker: Worker,
    pub(super) work: Box<Work>,
}

type Answer = Result<usize, i32>;

impl Caller {
    pub(super) fn new(pager: &'static Pager) -> Caller {
        Caller { pager, worker: Worker::new(pager), work: Box::new(Work::new()) }
    }

    /// Runs the job in `work`.
    pub(super) fn run_job(&mut self, pager: &Pager) {
        self.worker.run(pager, &mut self.work);
    }

    pub(super) fn execute(&mut self, call: Call) -> Answer {
        self.pager.await_notes(|| self.pager.watchdog.service_beat());
        if matches!(call, Call::Piece { .. } | Call::Check) {
            return self.carry_out(call);
        }
        // Whatever moves, locks or fills memory relies on rights as they are in the tables.
        let mut tables = self.pager.tables.lock();
        let suspended = tables.suspend_spare_rights();
        drop(tables);
        let answer = suspended.and_then(|()| self.try_to(call));
        self.pager.tables.lock().resume_spare_rights();
        answer
    }

    fn try_to(&mut self, call: Call) -> Answer {
        let answer = self.carry_out(call);
        if answer == Err(libc::ENOMEM) && self.end_charges() { self.carry_out(call) } else { answer }
    }

    fn carry_out(&mut self, call: Call) -> Answer {
        match call {
            Call::Map { len, prot, flags } => self.map(None, len, prot, flags),
            Call::MapAt { addr, len, prot, flags } => self.map(Some(addr), len, prot, flags),
            Call::MapFixed { addr, len, prot, flags } => self.map_fixed(addr, len, prot, flags),
            Call::Disown { addr, len } => self.disown(addr, len),
            Call::Allows { size, data } => self.allows(size, data),
            Call::Claim { addr, len } => self.claim(addr, len),
            Call::ClaimFree { addr, len } => self.claim_free(addr, len),
            Call::Break { to } => self.set_break(to),
            Call::Unmap { addr, len } => self.unmap(addr, len),
            Call::Protect { addr, len, prot } => self.protect(addr, len, prot),
            Call::Advise { addr, len, advice } => self.advise(addr, len, advice),
            Call::Lock { addr, len, on_fault } => self.lock_mapped(pages_of(addr, len), on_fault),
            Call::Unlock { addr, len } => self.unlock_mapped(pages_of(addr, len)),
            Call::LockAll { flags } => self.lock_all(flags),
            Call::UnlockAll => self.unlock_all(),
            Call::Remap { old, old_len, new_len, flags, new_addr } => {
                self.remap(old, old_len, new_len, flags, new_addr)
            }
            Call::Keep { addr, len, owner } => self.keep(addr, len, owner),
            Call::LetGo { addr, len } => self.let_go(addr, len),
            Call::Piece { addr, len } => Ok(piece::find(&self.pager.tables.lock(), addr, len).encode()),
            Call::Check => {
                self.pager.check_at_rest();
                Ok(0)
            }
            Call::Freeze => Err(libc::EINVAL),
        }
    }
}

/// What a program is told about a refusal.
fn errno(refusal: Refusal) -> i32 {
    match refusal {
        Refusal::NoRange | Refusal::NoMemory => libc::ENOMEM,
        Refusal::Denied | Refusal::Absent => libc::EINVAL,
        Refusal::Exists => libc::EEXIST,
        Refusal::Busy | Refusal::Again => libc::EAGAIN,
    }
}
