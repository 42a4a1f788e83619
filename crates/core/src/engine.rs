//! The engine: all tables, and what every walk needs of them.

use crate::addr::{Frame, FrameRun, PageRange, Space, Vpn};
use crate::fault::{PolicyKind, Trials};
use crate::folio::{Rescues, Shaping, Tending};
use crate::frame::{Compaction, FramePool, FrameState, FrameTable, List};
use crate::log::Log;
use crate::mmu::Mmu;
use crate::page::{PageTable, Pte, ZERO_BLOCK};
use crate::reclaim::{Division, Ranks};
use crate::sharing::{SHARED, SharedPages};
use crate::stats::Stats;
use crate::swap::SwapIndex;
use crate::tickets::{Tickets, slot_of};
use crate::trail::Trail;
use crate::vma::VmaMap;
use alloc::vec::Vec;

/// What a host decides once.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Config {
    /// Slots in the pool of frames. More than the grant: a slot without memory costs nothing.
    pub frames: u32,
    /// Segments that the compressed store in RAM may come to have.
    pub segments: u32,
    /// Pages in each of them, at least two.
    pub segment_pages: u32,
    /// Pages of memory to begin with, for all that is charged.
    pub grant: u32,
    /// The order policy of VMAs without one of their own.
    pub policy: PolicyKind,
}

/// What is at a page, for a host's eyes and for tests.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PageState {
    /// Nothing yet: it reads as zeroes.
    Empty,
    /// A job brings its contents; `stored` ones, or zeroes.
    Filling {
        /// Whether there is a stored copy.
        stored: bool,
    },
    /// At the program's address.
    Mapped {
        /// Whether a stored copy is kept that may still be good.
        kept: bool,
    },
    /// In frames that several spaces share, read-only.
    Shared {
        /// Whether it is at this program's address; if not, a touch brings it there without a copy.
        mapped: bool,
        /// Whether a stored copy is kept that may still be good.
        kept: bool,
    },
    /// Moved out, frames intact.
    Standby {
        /// Whether the contents are stored too.
        kept: bool,
    },
    /// Moved out, frames intact, a job stores the contents.
    Writing,
    /// Only stored.
    Stored,
}

impl PageState {
    /// Whether it is at the program's address.
    pub const fn is_present(self) -> bool {
        matches!(self, PageState::Mapped { .. } | PageState::Shared { mapped: true, .. })
    }
}

/// Why the engine can't go on. The host stops the program with a message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Halt {
    /// Stored contents are not what was stored.
    Corrupt,
    /// Stored contents could not be read.
    Unreadable,
    /// A fault at the same address came back again and again without progress.
    NoProgress,
    /// The host refused to map a page in every way there is.
    Unmappable,
}

/// All tables of one host, and the verbs on them.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) frames: FrameTable,
    pub(crate) pool: FramePool,
    pub(crate) spaces: Vec<AddressSpace>,
    /// Numbers of spaces that have ended.
    pub(crate) free_spaces: Vec<Space>,
    /// Who names the slots of shared pages.
    pub(crate) shared: SharedPages,
    pub(crate) swap: SwapIndex,
    pub(crate) tickets: Tickets,
    pub(crate) policy: PolicyKind,
    pub(crate) stats: Stats,
    pub(crate) grant: u32,
    pub(crate) overhead: u32,
    pub(crate) overdraft: u32,
    pub(crate) evicts: bool,
    /// Pages that may wait in RAM to go to the file, as far as that has paid so far.
    pub(crate) poor_goal: u32,
    /// Pages that are only stored, by when they were moved out.
    pub(crate) ranks: Ranks,
    /// How memory is divided between frames and the store.
    pub(crate) division: Division,
    /// Pages moved out so far: the clock of refault distances. Wraps.
    pub(crate) eviction_clock: u32,
    pub(crate) last_late: (Space, Vpn, u32),
    pub(crate) log: Log,
    pub(crate) shaping: Shaping,
    pub(crate) tending: Tending,
    pub(crate) compaction: Compaction,
    /// Halves of runs that stayed behind.
    pub(crate) trials: Trials,
    /// What the folios rescued lately were needed for.
    pub(crate) rescues: Rescues,
    /// Page entries that were written.
    pub(crate) trail: Trail<(Space, Vpn)>,
}

/// One address space.
#[derive(Clone, Debug, Default)]
pub(crate) struct AddressSpace {
    pub(crate) vmas: VmaMap,
    pub(crate) pages: PageTable,
}

impl Engine {
    /// An engine with `config`, one address space (number 0) and nothing mapped. [`Engine::create_space`] and
    /// [`Engine::fork`] number the others.
    pub fn new(config: Config) -> Engine {
        Engine {
            frames: FrameTable::new(),
            pool: FramePool::new(config.frames),
            // The first one, and that of the slots.
            spaces: alloc::vec![AddressSpace::default(), AddressSpace::default()],
            free_spaces: Vec::new(),
            shared: SharedPages::new(),
            swap: SwapIndex::new(config.segments, config.segment_pages),
            tickets: Tickets::new(),
            policy: config.policy,
            stats: Stats::default(),
            grant: config.grant,
            overhead: 0,
            overdraft: 0,
            evicts: true,
            poor_goal: config.grant / 8,
            ranks: Ranks::new(),
            division: Division::new(),
            eviction_clock: 0,
            last_late: (Space(0), Vpn(0), 0),
            log: Log::default(),
            shaping: Shaping::DEFAULT,
            tending: Tending::new(),
            compaction: Compaction::new(),
            trials: Trials::new(),
            rescues: Rescues::new(),
            trail: Trail::new(),
        }
    }

    /// What has been counted.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Sets the order policy of VMAs without one of their own, from the next fault on.
    pub fn set_policy(&mut self, policy: PolicyKind) {
        self.policy = policy;
    }

    /// Sets the pages of memory that all frames, the store and `overhead` may take. Less than is held now
    /// makes reclaim work until it fits.
    pub fn set_grant(&mut self, pages: u32) {
        self.grant = pages;
    }

    /// The grant, in pages.
    pub fn grant(&self) -> u32 {
        self.grant
    }

    /// Sets the pages that the host's own tables and buffers take.
    pub fn set_overhead(&mut self, pages: u32) {
        self.overhead = pages;
    }

    /// Whether anything may be moved out. Off in a forked child, and where no memory limit was asked for.
    pub fn set_evicts(&mut self, evicts: bool) {
        self.evicts = evicts;
    }

    /// Allows `pages` more than the grant: nothing can be moved out, and the program must go on.
    /// False where every slot of the pool is in use: then nothing helps.
    pub fn overdraw(&mut self, pages: u32) -> bool {
        self.overdraft = self.overdraft.saturating_add(pages);
        self.stats.most_over = self.stats.most_over.max(u64::from(self.overdraft));
        self.pool.in_use() < self.pool.capacity()
    }

    /// Pages of frames that the grant allows now: what the store leaves, but never less than 40 %.
    pub(crate) fn frame_limit(&self) -> u32 {
        let rest = self.grant.saturating_sub(self.swap.ram_pages() + self.overhead);
        let least = (u64::from(self.grant) * 2 / 5) as u32;
        (rest.max(least).saturating_add(self.overdraft)).min(self.pool.capacity())
    }

    /// Pages charged to the grant now: frames, store and overhead.
    pub fn charged(&self) -> u32 {
        self.pool.charged() + self.swap.ram_pages() + self.overhead
    }

    /// Pages of frames with memory behind them: in use, or kept ready.
    pub fn frames_charged(&self) -> u32 {
        self.pool.charged()
    }

    /// Pages at the program's addresses or in flight.
    pub fn frames_in_use(&self) -> u32 {
        self.pool.in_use()
    }

    /// Pages that are mapped and can be moved out.
    pub(crate) fn mapped_pages(&self) -> u32 {
        self.frames.pages_on(List::Active) + self.frames.pages_on(List::Inactive)
    }

    /// Folios on the lists that age: what reclaim has to look through.
    pub fn lru_folios(&self) -> u32 {
        self.frames.folios_on(List::Active) + self.frames.folios_on(List::Inactive)
    }

    /// Pages of RAM that the store takes.
    pub fn store_pages(&self) -> u32 {
        self.swap.ram_pages()
    }

    /// Bytes that stored pages take in spill files.
    pub fn spill_bytes(&self) -> u64 {
        self.swap.file_bytes()
    }

    /// Pages that could be had without moving anything out.
    pub fn room(&self) -> u32 {
        (self.frame_limit() + self.frames.pages_on(List::Clean)).saturating_sub(self.pool.in_use())
    }

    /// Pages that the grant still allows beyond what is charged.
    pub fn headroom(&self) -> u32 {
        self.grant.saturating_sub(self.charged())
    }

    /// Jobs under way.
    pub fn jobs(&self) -> u32 {
        self.tickets.live()
    }

    /// The VMAs of a space.
    pub fn vmas(&self, space: Space) -> &VmaMap {
        &self.spaces[usize::from(space.0)].vmas
    }

    /// What is at a page.
    pub fn page_state(&self, space: Space, vpn: Vpn) -> PageState {
        let pte = self.pte(space, vpn);
        match pte.slot() {
            Some((slot, mapped)) => match self.state_of(self.pte(SHARED, slot)) {
                PageState::Shared { kept, .. } => PageState::Shared { mapped, kept },
                state => state,
            },
            None => self.state_of(pte),
        }
    }

    /// What an entry says; of one that names a slot, that it is empty.
    pub(crate) fn state_of(&self, pte: Pte) -> PageState {
        let kept = pte.block().is_some();
        let Some(frame) = pte.frame() else {
            return if kept { PageState::Stored } else { PageState::Empty };
        };
        match self.frames.get(self.frames.head_of(frame)).state {
            FrameState::Filling => PageState::Filling { stored: kept },
            FrameState::Mapped => PageState::Mapped { kept },
            FrameState::Shared => PageState::Shared { mapped: false, kept },
            FrameState::Writing => PageState::Writing,
            // A page entry never names a free frame or a zombie: `validate` holds that.
            FrameState::Standby | FrameState::Free | FrameState::Zombie => PageState::Standby { kept },
        }
    }

    /// The order of the folio that a page is part of, if it has frames.
    pub fn folio_order(&self, space: Space, vpn: Vpn) -> Option<crate::Order> {
        self.place_of(space, vpn).frame().map(|frame| self.frames.get(frame).order)
    }

    /// Where a page's contents are: its entry, or that of the slot it shares.
    pub(crate) fn place_of(&self, space: Space, vpn: Vpn) -> Pte {
        let pte = self.pte(space, vpn);
        pte.slot().map_or(pte, |(slot, _)| self.pte(SHARED, slot))
    }

    pub(crate) fn pte(&self, space: Space, vpn: Vpn) -> Pte {
        self.spaces[usize::from(space.0)].pages.get(vpn)
    }

    /// Writes a page entry, and keeps count of the pages that are only stored.
    pub(crate) fn set_pte(&mut self, space: Space, vpn: Vpn, pte: Pte) {
        let pages = &mut self.spaces[usize::from(space.0)].pages;
        let before = pages.get(vpn);
        pages.set(vpn, pte);
        self.trail.note((space, vpn));
        let (left, came) = (before.only_stored(), pte.only_stored());
        if left != came {
            if let Some(block) = left {
                self.ranks.leave(self.swap.evicted_at(block));
            }
            if let Some(block) = came {
                self.ranks.enter(self.swap.evicted_at(block), self.eviction_clock);
            }
        }
    }

    pub(crate) fn pages_of(&self, head: Frame) -> PageRange {
        let record = self.frames.get(head);
        PageRange::new(record.space, record.vpn, u64::from(record.order.pages()))
    }

    /// Gives up the stored copy of a page, if it has one.
    pub(crate) fn forget_block(&mut self, space: Space, vpn: Vpn, mmu: &mut impl Mmu) {
        let pte = self.pte(space, vpn);
        if let Some(block) = pte.block() {
            self.set_pte(space, vpn, pte.with_block(None));
            self.free_block(block, mmu);
        }
    }

    pub(crate) fn free_block(&mut self, block: u32, mmu: &mut impl Mmu) {
        if block != ZERO_BLOCK {
            self.swap.free(block, mmu);
        }
    }

    /// Takes frames out of use. Those that a job still uses are free when its ticket comes back.
    /// The folio must be on no list and named by no page entry.
    pub(crate) fn free_frames(&mut self, run: FrameRun, backing: crate::frame::Backing) {
        let mut from = run.start;
        for frame in run.iter() {
            if self.frames.get(frame).job != 0 {
                self.give_frames(FrameRun::new(from, frame.0 - from.0), backing);
                let record = self.frames.get_mut(frame);
                record.state = FrameState::Zombie;
                record.order = crate::Order::BASE;
                from = frame.plus(1);
            }
        }
        self.give_frames(FrameRun::new(from, run.start.0 + run.pages - from.0), backing);
    }

    fn give_frames(&mut self, run: FrameRun, backing: crate::frame::Backing) {
        if run.pages > 0 {
            self.frames.clear(run);
            self.pool.give(run, backing);
        }
    }

    /// The job that uses the folio at `head` brings nothing any more: its ticket is void.
    pub(crate) fn void_job(&mut self, head: Frame) {
        let slot = slot_of(self.frames.get(head).job);
        self.tickets.get_mut(slot).void = true;
        self.stats.void_jobs += 1;
    }
}
