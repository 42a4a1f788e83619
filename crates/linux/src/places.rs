//! Where a process under Quire has its memory: three places in its address space.
//!
//! * the **arena**, address space without access from which the program's memory is carved by changing rights.
//!   Touching a hole in it is a message. Whether an address is managed is whether it lies there.
//! * the **pool**, whose pages are the frames. It is registered for write protection, which is never armed: a
//!   userfaultfd moves pages only into ranges that it knows, and so holes of the pool are filled by the kernel.
//! * the **store** of compressed contents, which is ordinary memory.

use crate::die;
use crate::limits;
use crate::strict::{self, Part};
use crate::sys::Cause;
use crate::sys::bytes::Stretch;
use crate::sys::mmap::{self, Advice};
use crate::sys::uffd::{Faults, Uffd};
use crate::sys::{Errno, Result as SysResult};
use core::ops::Range;
use quire_core::addr::{Frame, FrameRun, PAGE_SIZE, PageRange, Space, Vpn};
use quire_core::mmu::Refusal;

/// The largest arena, in bytes: a quarter of what a process can have. Address space alone costs nothing, but programs
/// that reserve 16 TiB and more for themselves want room too, and get it from the kernel where the arena has none.
const MOST_ARENA: usize = 1 << 45;
/// The least arena worth having, in bytes.
pub(crate) const LEAST_ARENA: u64 = 1 << 36;
/// The arena begins at a multiple of this, so that 2 MiB of addresses are one table of the page tables.
const ARENA_ALIGN: usize = 2 << 20;

/// Where a planned arena begins at the least: above what programs ask for by address, and below everything that the kernel
/// places; and at how many places from there on, 4 TiB of them.
const PLANNED: usize = 0x2000_0000_0000;
const PLANNED_SLOTS: usize = 1 << 21;

/// Where arena, pool and store are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Places {
    arena: Stretch,
    /// One page behind the arena, where a thread that forks waits until its child is whole.
    gate: Stretch,
    pool: Stretch,
    store: Stretch,
}

impl Places {
    /// Takes address space for `frames` frames, `store` pages of the store, and as large an arena as can be
    /// had. ENOMEM where the limits of the process allow too little.
    pub fn reserve(frames: u32, store: u32) -> SysResult<Places> {
        strict::begin();
        let (arena, gate) = reserve_arena()?;
        // A large page of the kernel's own would be dropped again at once. What the program maps is marked the other way for dumps.
        mmap::no_huge_pages(arena.base(), arena.len())?;
        mmap::advise(arena.base(), arena.len(), Advice::DontDump)?;
        Places::beside(arena, gate, frames, store)
    }

    /// Where an arena could lie that nobody has reserved: addresses that the kernel gives to nobody by itself. 0 for both
    /// ends where the process may have too little.
    pub fn plan() -> Stretch {
        let len = MOST_ARENA.min(limits::most_arena());
        let mut random = [0u8; 4];
        // Without them it is the same place each time, which does no harm.
        let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::NONBLOCK);
        let slot = u32::from_le_bytes(random) as usize % PLANNED_SLOTS;
        if len < LEAST_ARENA as usize {
            Stretch::new(0, 0)
        } else {
            Stretch::new(PLANNED + slot * ARENA_ALIGN, len)
        }
    }

    /// The same as [`Places::reserve`] with the arena in a place that was planned, of which parts are `mapped` already, in
    /// rising order: they stay as they are.
    pub fn reserve_around(
        arena: Stretch,
        mapped: &[Range<usize>],
        frames: u32,
        store: u32,
    ) -> SysResult<Places> {
        strict::begin();
        let gate = Stretch::new(arena.base() + arena.len(), PAGE_SIZE);
        let mut at = arena.base();
        let ends = gate.base()..gate.base();
        for range in mapped.iter().chain([&ends]) {
            if range.start > at {
                mmap::reserve_free(at, range.start - at)?;
                mmap::advise(at, range.start - at, Advice::DontDump)?;
            }
            at = at.max(range.end);
        }
        mmap::reserve_free(gate.base(), gate.len())?;
        Places::beside(arena, gate, frames, store)
    }

    /// Maps pool and store.
    fn beside(arena: Stretch, gate: Stretch, frames: u32, store: u32) -> SysResult<Places> {
        let pool = frames as usize * PAGE_SIZE;
        let pool = Stretch::new(strict::map(Part::Pool, pool)?, pool);
        let len = store as usize * PAGE_SIZE;
        let store = Stretch::new(strict::map(Part::Store, len)?, len);
        // Of the kernel's own large pages small pieces could not be given back, and in the pool they would be split.
        mmap::no_huge_pages(store.base(), store.len())?;
        mmap::advise(store.base(), store.len(), Advice::DontDump)?;
        let places = Places { arena, gate, pool, store };
        places.prepare_pool()?;
        Ok(places)
    }

    /// Gives the address space back: a dozen arenas are all that there is. Nothing may touch it any longer, which a program
    /// can't promise before it ends.
    pub fn give_back(&self) -> SysResult<()> {
        let arena_and_gate = (self.arena.base(), self.arena.len() + self.gate.len());
        let (pool, store) = (self.pool, self.store);
        for (base, len) in [arena_and_gate, (pool.base(), pool.len()), (store.base(), store.len())] {
            mmap::unmap(base, len)?;
        }
        Ok(())
    }

    /// Lets faults of the arena arrive at `uffd`, and pages of the pool be moved by it.
    pub fn register(&self, uffd: &Uffd) -> SysResult<()> {
        uffd.register(self.arena.base(), self.arena.len(), Faults::Missing)?;
        self.register_pool(uffd)
    }

    /// Lets faults of a part of the arena arrive at `uffd`.
    pub fn register_part(&self, uffd: &Uffd, addr: usize, len: usize) -> SysResult<()> {
        uffd.register(addr, len, Faults::Missing)
    }

    /// Only the second half of [`Places::register`].
    pub fn register_pool(&self, uffd: &Uffd) -> SysResult<()> {
        uffd.register(self.pool.base(), self.pool.len(), Faults::WriteProtect)
    }

    /// Lets every fork be told to `uffd` that was told to the arena's before.
    ///
    /// The kernel tells a fork to one userfaultfd after the other, in the order of the addresses that they watch, and the
    /// forking thread waits each time until the message is read. So it waits here while its child's arena is made whole;
    /// if it or its process is killed meanwhile, there is no child.
    pub fn register_gate(&self, uffd: &Uffd) -> SysResult<()> {
        uffd.register(self.gate.base(), self.gate.len(), Faults::Missing)
    }

    /// Forks do not wait at the gate, or do so again. What is forked meanwhile has no gate.
    pub fn open_gate(&self, open: bool) -> SysResult<()> {
        let advice = if open { Advice::DontFork } else { Advice::DoFork };
        mmap::advise(self.gate.base(), self.gate.len(), advice)
    }

    /// No forked child gets the arena from now on.
    pub(crate) fn withhold(&self) {
        if let Err(errno) = mmap::advise(self.arena.base(), self.arena.len(), Advice::DontFork) {
            die!("the arena can't be kept from children: {errno}", errno = Cause(errno));
        }
    }

    /// In a forked child that did not inherit it.
    pub fn renew_gate(&self) -> SysResult<()> {
        mmap::reserve_at(self.gate.base(), self.gate.len())
    }

    /// In a forked child, which did not inherit the pool: a new one of holes in the same place. It is to be
    /// registered like the first.
    pub fn renew_pool(&self) -> SysResult<()> {
        strict::renew(Part::Pool, self.pool.base(), self.pool.len())?;
        self.prepare_pool()
    }

    /// Whether byte address `addr` is managed memory.
    pub const fn is_managed(&self, addr: usize) -> bool {
        self.arena.contains(addr)
    }

    /// The arena, as pages of `space`.
    pub fn arena(&self, space: Space) -> PageRange {
        let start = Vpn::of(self.arena.base() as u64);
        PageRange::new(space, start, (self.arena.len() / PAGE_SIZE) as u64)
    }

    /// How many frames the pool has.
    pub const fn frames(&self) -> u32 {
        (self.pool.len() / PAGE_SIZE) as u32
    }

    /// The bytes of the pool: page i is frame i.
    pub const fn pool(&self) -> Stretch {
        self.pool
    }

    /// The bytes of the arena, as a program has them. Who touches them may wait for the pager, so it must not be the
    /// pager itself.
    pub const fn arena_bytes(&self) -> Stretch {
        self.arena
    }

    /// The bytes of the store.
    pub const fn store(&self) -> Stretch {
        self.store
    }

    /// The address of a frame's first byte, if the pool has it.
    pub fn frame_addr(&self, frame: Frame) -> Option<usize> {
        (frame.0 < self.frames()).then(|| self.pool.base() + frame.0 as usize * PAGE_SIZE)
    }

    fn prepare_pool(&self) -> SysResult<()> {
        mmap::no_huge_pages(self.pool.base(), self.pool.len())?;
        mmap::advise(self.pool.base(), self.pool.len(), Advice::DontDump)?;
        mmap::advise(self.pool.base(), self.pool.len(), Advice::DontFork)
    }

    /// Address and length of a run of frames in the pool.
    pub(crate) fn in_pool(&self, frames: FrameRun) -> Option<(usize, usize)> {
        let end = frames.start.0.checked_add(frames.pages)?;
        (end <= self.frames()).then(|| {
            (self.pool.base() + frames.start.0 as usize * PAGE_SIZE, frames.pages as usize * PAGE_SIZE)
        })
    }

    /// Before frames are written.
    pub(crate) fn open_frames(&self, frames: FrameRun) -> SysResult<()> {
        strict::open(Part::Pool, self.pool, (frames.start.0 + frames.pages) as usize * PAGE_SIZE)
    }

    /// Before the store is written up to byte `end`.
    pub(crate) fn open_store(&self, end: usize) -> SysResult<()> {
        strict::open(Part::Store, self.store, end)
    }

    /// Address and length of a run of pages in the arena.
    pub(crate) fn pages(&self, start: Vpn, pages: u64) -> Result<(usize, usize), Refusal> {
        let first = self.arena.base() as u64 / PAGE_SIZE as u64;
        let count = self.arena.len() as u64 / PAGE_SIZE as u64;
        match start.0.checked_sub(first) {
            Some(at) if at <= count && pages <= count - at => {
                Ok((start.addr() as usize, pages as usize * PAGE_SIZE))
            }
            _ => Err(Refusal::NoRange),
        }
    }
}

/// The arena, and the page behind it.
fn reserve_arena() -> SysResult<(Stretch, Stretch)> {
    let mut len = MOST_ARENA.min(limits::most_arena());
    loop {
        match mmap::reserve_aligned(len + PAGE_SIZE, ARENA_ALIGN) {
            Ok(base) => return Ok((Stretch::new(base, len), Stretch::new(base + len, PAGE_SIZE))),
            Err(Errno::NOMEM) if len > LEAST_ARENA as usize => len /= 2,
            Err(errno) => return Err(errno),
        }
    }
}
