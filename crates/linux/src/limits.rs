//! The program's limits on its address space and on its data (`ulimit -v`, `ulimit -d`, `setrlimit`).
//!
//! The kernel counts the arena, the pool and the store as the program's. So while a program is managed the kernel's
//! limits are as high as they may be; those that the program was started with, or set for itself, are kept here, and
//! the pager holds the program to them. A program that is about to become another hands its own limits on
//! ([`hand_on`]).
//!
//! All of it is a few words that any thread may read and write.

use crate::sys::Errno;
use crate::sys::rlimit::{self, Limit, UNLIMITED};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use rustix::process::Resource;

/// What is limited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// All that is mapped: `RLIMIT_AS`.
    AddressSpace,
    /// What is mapped privately and may be written: `RLIMIT_DATA`.
    Data,
}

impl Kind {
    const ALL: [Kind; 2] = [Kind::AddressSpace, Kind::Data];

    /// The kind of a resource by its number.
    pub const fn of(resource: u32) -> Option<Kind> {
        match resource {
            libc::RLIMIT_AS => Some(Kind::AddressSpace),
            libc::RLIMIT_DATA => Some(Kind::Data),
            _ => None,
        }
    }

    const fn resource(self) -> Resource {
        match self {
            Kind::AddressSpace => Resource::As,
            Kind::Data => Resource::Data,
        }
    }

    fn own(self) -> &'static OwnLimit {
        match self {
            Kind::AddressSpace => &OWN[0],
            Kind::Data => &OWN[1],
        }
    }
}

/// A limit as the program knows it, and as the kernel has it.
#[derive(Debug)]
struct OwnLimit {
    soft: AtomicU64,
    hard: AtomicU64,
    /// The kernel's, soft and hard: as high as they could be had.
    raised: AtomicU64,
}

impl OwnLimit {
    const fn unlimited() -> OwnLimit {
        OwnLimit {
            soft: AtomicU64::new(UNLIMITED),
            hard: AtomicU64::new(UNLIMITED),
            raised: AtomicU64::new(UNLIMITED),
        }
    }

    fn limit(&self) -> Limit {
        Limit { soft: self.soft.load(Relaxed), hard: self.hard.load(Relaxed) }
    }

    fn set(&self, limit: Limit) {
        self.soft.store(limit.soft, Relaxed);
        self.hard.store(limit.hard, Relaxed);
    }

    fn raised(&self) -> Limit {
        Limit::both(self.raised.load(Relaxed))
    }
}

static OWN: [OwnLimit; 2] = [const { OwnLimit::unlimited() }; 2];
/// The process whose limits these are; 0 while they are the kernel's alone. A vfork child borrows this memory, but its
/// limits are its own.
static OWNER: AtomicU32 = AtomicU32::new(0);
/// Whether the pager has to hold the program to one of them.
static LIMITED: AtomicBool = AtomicBool::new(false);

/// Whether there was ever a limit, here or where this program comes from.
static TOLD: AtomicBool = AtomicBool::new(false);

/// Takes the limits over from the kernel, and raises the kernel's as far as that is allowed. `told`: what the program
/// before this one could not leave with the kernel ([`to_tell`]).
pub fn hold(told: Option<[Limit; 2]>) {
    for (at, kind) in Kind::ALL.into_iter().enumerate() {
        let limit = rlimit::get(kind.resource());
        let told = told.map_or(Limit::NONE, |told| told[at]);
        let hard = limit.hard.min(told.hard);
        kind.own().set(Limit { soft: limit.soft.min(told.soft).min(hard), hard });
        kind.own().raised.store(raise(kind, limit), Relaxed);
    }
    OWNER.store(own_pid(), Relaxed);
    TOLD.store(told.is_some(), Relaxed);
    update_flags();
}

/// Whether the kernel holds the process to one of them.
pub fn are_set() -> bool {
    Kind::ALL.iter().any(|kind| rlimit::get(kind.resource()) != Limit::NONE)
}

/// Whether they were taken over.
pub fn are_held() -> bool {
    OWNER.load(Relaxed) != 0
}

/// Raises the kernel's limit. What it is then.
fn raise(kind: Kind, limit: Limit) -> u64 {
    if limit == Limit::NONE {
        return UNLIMITED;
    }
    let to = |value| rlimit::set(kind.resource(), Limit::both(value)).is_ok().then_some(value);
    to(UNLIMITED).or_else(|| to(limit.hard)).unwrap_or(limit.soft)
}

/// Gives the limits back to the kernel, as they were: nothing is managed.
pub fn release() {
    if OWNER.swap(0, Relaxed) != 0 {
        lower(true);
    }
    LIMITED.store(false, Relaxed);
}

/// In a forked child: the limits are the parent's, and its own from now on.
pub fn forked() {
    if OWNER.load(Relaxed) != 0 {
        OWNER.store(own_pid(), Relaxed);
    }
}

/// The largest arena that leaves room for all else, in bytes; a power of two.
pub fn most_arena() -> usize {
    let raised = OWN[0].raised.load(Relaxed);
    1 << (raised / 4).max(1).ilog2()
}

/// Whether the kernel allows `size` bytes of Quire's own beside as much again for the program, `data` bytes of them data.
pub fn suffice(size: u64, data: u64) -> bool {
    let enough = |kind: Kind, need: u64| kind.own().raised.load(Relaxed) / 2 >= need;
    OWNER.load(Relaxed) == 0 || enough(Kind::AddressSpace, size) && enough(Kind::Data, data)
}

/// Whether the program has a limit that the pager must hold it to.
#[inline]
pub fn is_limited() -> bool {
    LIMITED.load(Relaxed)
}

/// What the program may have of it, in bytes.
pub fn soft(kind: Kind) -> u64 {
    kind.own().soft.load(Relaxed)
}

/// The limit as the program knows it; `None` where the kernel knows better.
pub fn get(kind: Kind) -> Option<Limit> {
    match OWNER.load(Relaxed) {
        0 => None,
        owner if owner == own_pid() => Some(kind.own().limit()),
        // In a vfork child, until it sets one of its own.
        _ => (rlimit::get(kind.resource()) == kind.own().raised()).then(|| kind.own().limit()),
    }
}

/// Sets a limit, as the kernel would; `None`: the kernel is to do it.
pub fn set(kind: Kind, limit: Limit) -> Option<Result<(), Errno>> {
    if OWNER.load(Relaxed) != own_pid() {
        return None;
    }
    let own = kind.own();
    if limit.soft > limit.hard {
        return Some(Err(Errno::INVAL));
    }
    if limit.hard > own.limit().hard && !rlimit::may_raise() {
        return Some(Err(Errno::PERM));
    }
    own.set(limit);
    update_flags();
    Some(Ok(()))
}

fn update_flags() {
    if Kind::ALL.iter().any(|&kind| kind.own().limit() != Limit::NONE) {
        TOLD.store(true, Relaxed);
    }
    LIMITED.store(Kind::ALL.iter().any(|&kind| soft(kind) != UNLIMITED), Relaxed);
}

/// Before this process becomes another program: the kernel has the program's own limits. Whether anything was changed,
/// which [`take_back`] undoes. A hard limit that could not be raised again is left as it is: the other program needs the
/// room too if it is managed.
pub fn hand_on() -> bool {
    OWNER.load(Relaxed) != 0 && lower(rlimit::may_raise())
}

/// Whether the next program has to hear of limits, if only that there are none any more.
#[inline]
pub fn are_told() -> bool {
    TOLD.load(Relaxed)
}

/// The program's own limits, where they are lower than the kernel's: the next program has to be told.
pub fn to_tell() -> Option<[Limit; 2]> {
    let lower = |kind: Kind| kind.own().limit() != kind.own().raised();
    let any = OWNER.load(Relaxed) != 0 && Kind::ALL.into_iter().any(lower);
    any.then(|| Kind::ALL.map(|kind| kind.own().limit()))
}

fn lower(hard_too: bool) -> bool {
    let mut changed = false;
    for kind in Kind::ALL {
        let (own, raised) = (kind.own().limit(), kind.own().raised());
        // A vfork child may have set its own: they stay.
        if own != raised && rlimit::get(kind.resource()) == raised {
            let to = if hard_too { own } else { Limit { soft: own.soft, hard: raised.hard } };
            changed |= rlimit::set(kind.resource(), to).is_ok();
        }
    }
    changed
}

/// After [`hand_on`], if this process goes on as it was.
pub fn take_back() {
    for kind in Kind::ALL {
        let raised = kind.own().raised();
        let now = rlimit::get(kind.resource());
        if now != raised && now.soft == soft(kind) && rlimit::set(kind.resource(), raised).is_err() {
            // The right to raise a hard limit is gone: as far as it goes.
            let _ = rlimit::set(kind.resource(), Limit::both(now.hard));
            kind.own().raised.store(now.hard, Relaxed);
        }
    }
}

/// A mapping of Quire's own was refused. Whoever set a limit without our knowing meant the program by it: it is taken
/// over like one from the start. Whether there may be more room now.
#[cold]
pub fn make_room() -> bool {
    if OWNER.load(Relaxed) != own_pid() {
        return false;
    }
    let mut changed = false;
    for kind in Kind::ALL {
        let own = kind.own();
        let limit = rlimit::get(kind.resource());
        if limit != own.raised() {
            own.set(limit);
            own.raised.store(raise(kind, limit), Relaxed);
            changed |= own.raised.load(Relaxed) > limit.soft;
        }
    }
    update_flags();
    changed
}

fn own_pid() -> u32 {
    rustix::process::getpid().as_raw_nonzero().get() as u32
}
