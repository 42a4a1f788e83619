//! The engine: all tables, and what every walk needs of them.
//!
//! What has a state of its own has a type of its own, and a call says which: `self.tables.pte(..)`,
//! `self.grant.frames(..)`, `self.ranks.distance(..)`. The methods of the engine itself join several of them. They lie where the
//! walk is that they are part of: `fault/`, `reclaim/`, `shaping/` (split, collapse, compact), `sharing/` (fork, copy on write)
//! and `space.rs` (what a program does to its addresses); `check/`, `inspect.rs` and `smaps.rs` only look. Those that several
//! walks use are here.

use crate::addr::{Frame, FrameRun, Space, Vpn};
use crate::folio::{Rescues, Shaping, Tending};
use crate::frame::{Backing, Compaction, FramePool, FrameState, List};
use crate::grant::Grant;
use crate::job::Ticket;
use crate::log::{Decision, Log};
use crate::mmu::{Mmu, Refusal};
use crate::order::Order;
use crate::policy::{PolicyKind, Trials};
use crate::reclaim::Ranks;
use crate::stats::Stats;
use crate::store::{Block, Figures, Message};
use crate::tables::{PageState, Pte, Tables};
use crate::tickets::{Tickets, index_of};
use crate::vma::VmaMap;

/// What a host decides once.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Config {
    /// Frames in the pool. More than the grant: a frame without memory costs nothing.
    pub frames: u32,
    /// Pages of memory to begin with, for all that is charged.
    pub grant: u32,
    /// The order policy of VMAs without one of their own.
    pub policy: PolicyKind,
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
///
/// A host owns one, and calls it as the front page of this crate says.
#[derive(Clone, Debug)]
pub struct Engine {
    /// What is where.
    pub(crate) tables: Tables,
    /// Which frames are free.
    pub(crate) pool: FramePool,
    /// What the store took and might take when it was looked at last.
    pub(crate) store: Figures,
    /// The grant and the overhead that the store knows of.
    pub(crate) told: (u32, u32),
    /// The jobs under way.
    pub(crate) tickets: Tickets,
    pub(crate) policy: PolicyKind,
    pub(crate) stats: Stats,
    /// What all may take.
    pub(crate) grant: Grant,
    /// Whether anything may be moved out.
    pub(crate) evicts: bool,
    /// Pages that are only stored, by when they were moved out.
    pub(crate) ranks: Ranks,
    /// The page of the last late message, and how often in a row it was the same.
    pub(crate) last_late: (Space, Vpn, u32),
    pub(crate) log: Log,
    pub(crate) shaping: Shaping,
    pub(crate) tending: Tending,
    pub(crate) compaction: Compaction,
    /// Halves of runs that stayed behind.
    pub(crate) trials: Trials,
    /// What the folios rescued lately were needed for.
    pub(crate) rescues: Rescues,
}

impl Engine {
    /// An engine with `config`, one address space (number 0) and nothing mapped. [`Engine::create_space`] and
    /// [`Engine::fork`] number the others.
    pub fn new(config: Config) -> Engine {
        Engine {
            tables: Tables::new(),
            pool: FramePool::new(config.frames),
            store: Figures::default(),
            told: (0, 0),
            tickets: Tickets::new(),
            policy: config.policy,
            stats: Stats::default(),
            grant: Grant::new(config.grant),
            evicts: true,
            ranks: Ranks::new(),
            last_late: (Space(0), Vpn(0), 0),
            log: Log::default(),
            shaping: Shaping::DEFAULT,
            tending: Tending::new(),
            compaction: Compaction::new(),
            trials: Trials::new(),
            rescues: Rescues::new(),
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
        self.grant.pages = pages;
    }

    /// The grant, in pages.
    pub fn grant(&self) -> u32 {
        self.grant.pages
    }

    /// Sets the pages that the host's own tables and buffers take. Answers how many more that is than before.
    pub fn set_overhead(&mut self, pages: u32) -> u32 {
        let more = pages.saturating_sub(self.grant.overhead);
        self.grant.overhead = pages;
        more
    }

    /// Whether anything may be moved out. Off in a forked child, and where no memory limit was asked for.
    pub fn set_evicts(&mut self, evicts: bool) {
        self.evicts = evicts;
    }

    /// Allows `pages` more than the grant: nothing can be moved out, and the program must go on.
    /// False where every frame of the pool is in use: then nothing helps.
    pub fn overdraw(&mut self, pages: u32) -> bool {
        self.grant.overdraft = self.grant.overdraft.saturating_add(pages);
        self.stats.most_over = self.stats.most_over.max(u64::from(self.grant.overdraft));
        self.pool.in_use() < self.pool.capacity()
    }

    /// Pages of frames that the grant allows now.
    pub(crate) fn frame_limit(&self) -> u32 {
        self.grant.frames(self.store.ram_pages).min(self.pool.capacity())
    }

    /// Pages charged to the grant now: frames, store and overhead.
    pub fn charged(&self) -> u32 {
        self.pool.charged() + self.store.ram_pages + self.grant.overhead
    }

    /// Pages of frames with memory behind them: in use, or kept ready.
    pub fn frames_charged(&self) -> u32 {
        self.pool.charged()
    }

    /// Pages at the program's addresses or in flight.
    pub fn frames_in_use(&self) -> u32 {
        self.pool.in_use()
    }

    /// Folios on the lists that age: what reclaim has to look through.
    pub fn lru_folios(&self) -> u32 {
        self.tables.lru_folios()
    }

    /// Pages of RAM that the store took when the engine looked last.
    pub fn store_pages(&self) -> u32 {
        self.store.ram_pages
    }

    /// Looks at what the store takes and may take now, and tells it the grant if that has changed. Each walk does so where it
    /// begins; a host does before it asks what is charged.
    pub fn look_at_store(&mut self, mmu: &mut impl Mmu) {
        let (pages, overhead) = (self.grant.pages, self.grant.overhead);
        if self.told != (pages, overhead) {
            self.told = (pages, overhead);
            mmu.tell(Message::Grant { pages, overhead });
        }
        self.store = mmu.figures();
        self.stats.pages_stored = self.store.pages_stored;
        self.stats.bytes_stored = self.store.bytes_stored;
        self.stats.pages_spilled = self.store.pages_spilled;
    }

    /// Pages that could be had without moving anything out.
    pub fn room(&self) -> u32 {
        (self.frame_limit() + self.tables.frames.pages_on(List::Clean)).saturating_sub(self.pool.in_use())
    }

    /// Pages that the grant still allows beyond what is charged.
    pub fn headroom(&self) -> u32 {
        self.grant.pages.saturating_sub(self.charged())
    }

    /// Jobs under way; spills are the store's ([`Figures::spills`]).
    pub fn jobs(&self) -> u32 {
        self.tickets.live()
    }

    /// Whether what a job brings still counts: a writer asks before it stores anything.
    pub fn wants(&self, ticket: Ticket) -> bool {
        self.tickets.find(ticket).is_some_and(|job| !self.tickets.get(job).void)
    }

    /// The VMAs of a space.
    pub fn vmas(&self, space: Space) -> &VmaMap {
        self.tables.vmas(space)
    }

    /// What is at a page.
    pub fn page_state(&self, space: Space, vpn: Vpn) -> PageState {
        self.tables.page_state(space, vpn)
    }

    /// The order of the folio that a page is part of, if it has frames.
    pub fn folio_order(&self, space: Space, vpn: Vpn) -> Option<Order> {
        self.tables.folio_order(space, vpn)
    }

    /// Sets for how many decisions the log has room, from now on; 0 keeps none, as to begin with. Forgets those noted so far.
    pub fn set_log(&mut self, decisions: usize) {
        self.log = Log::new(decisions);
    }

    /// The last decisions, oldest first, each with its number since the log was set up.
    pub fn log(&self) -> impl Iterator<Item = (u64, &Decision)> {
        self.log.from(0)
    }

    /// Those of the last decisions whose number is `from` or greater. Where the first one's is greater, those in between
    /// were overwritten before they were read.
    pub fn log_from(&self, from: u64) -> impl Iterator<Item = (u64, &Decision)> {
        self.log.from(from)
    }

    /// Counts and notes that a page had vanished or appeared behind the engine's back.
    pub(crate) fn found_foreign(&mut self, space: Space, vpn: Vpn) {
        self.stats.foreign += 1;
        self.log.note(Decision::Foreign { space, vpn });
    }

    /// Counts and notes that a verb of the host refused.
    pub(crate) fn refused(&mut self, refusal: Refusal) {
        self.stats.refused(refusal);
        self.log.note(Decision::Refused(refusal));
    }

    /// Writes a page entry, and keeps count of the pages that are only stored.
    pub(crate) fn set_pte(&mut self, space: Space, vpn: Vpn, pte: Pte) {
        let before = self.tables.replace(space, vpn, pte);
        if before.only_stored() != pte.only_stored() {
            before.evicted_at().into_iter().for_each(|at| self.ranks.leave(at));
            pte.evicted_at().into_iter().for_each(|at| self.ranks.enter(at));
        }
    }

    /// Gives up the stored copy of a page, if it has one.
    pub(crate) fn forget_block(&mut self, space: Space, vpn: Vpn, mmu: &mut impl Mmu) {
        let pte = self.tables.pte(space, vpn);
        if let Some(block) = pte.block() {
            self.set_pte(space, vpn, pte.without_block());
            if block != Block::ZERO {
                mmu.tell(Message::Drop(block));
            }
        }
    }

    /// Takes frames out of use. Those that a job still uses are free when its ticket comes back.
    /// The folio must be on no list and named by no page entry.
    pub(crate) fn free_frames(&mut self, run: FrameRun, backing: Backing) {
        let mut from = run.start;
        for frame in run.iter() {
            if self.tables.frames.get(frame).job != 0 {
                self.give_frames(FrameRun::new(from, frame.0 - from.0), backing);
                let record = self.tables.frames.get_mut(frame);
                record.state = FrameState::Zombie;
                record.order = Order::BASE;
                from = frame.plus(1);
            }
        }
        self.give_frames(FrameRun::new(from, run.start.0 + run.pages - from.0), backing);
    }

    fn give_frames(&mut self, run: FrameRun, backing: Backing) {
        if run.pages > 0 {
            self.tables.frames.clear(run);
            self.pool.give(run, backing);
        }
    }

    /// The job that uses the folio at `head` brings nothing any more: its ticket is void.
    pub(crate) fn void_job(&mut self, head: Frame) {
        let job = index_of(self.tables.frames.get(head).job);
        self.tickets.get_mut(job).void = true;
        self.stats.void_jobs += 1;
    }
}
