//! A look at the tables from outside: where one page is, and a key that tells states apart.

use crate::addr::{Frame, Space, Vpn};
use crate::engine::Engine;
use crate::frame::{Backing, FrameState, List, NIL};
use crate::job::{JobKind, Ticket, Work};
use crate::order::Order;
use crate::store::{Block, Store};
use crate::tables::PageState;
use crate::tickets::index_of;
use alloc::vec::Vec;

/// Where the contents of one page are, as the tables say.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Whereabouts {
    /// What is at the page.
    pub state: PageState,
    /// Its frame. While it is mapped that is a hole.
    pub frame: Option<Frame>,
    /// The order of the folio it is part of.
    pub order: Option<Order>,
    /// The job that uses its frame, void or not.
    pub job: Option<Ticket>,
    /// Whether it has a stored copy ...
    pub stored: bool,
    /// ... and its block, unless that is zeroes, which have none.
    pub block: Option<Block>,
    /// The page entries that share it, this one included; 0 when it is the space's own.
    pub sharers: u32,
    /// Whether reclaim may come to choose it: mapped or shared and on a list, or standby.
    pub listed: bool,
}

/// What an engine has given out and not got back. A host that has unmapped everything, and has no job under way, finds
/// zeroes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Holdings {
    /// Frames in use.
    pub frames: u32,
    /// Jobs of the engine's under way.
    pub jobs: u32,
    /// Page entries that name a block.
    pub copies: u32,
    /// Slots of shared pages.
    pub slots: u32,
    /// Page entries that name one.
    pub names: u32,
    /// Pages that are only stored.
    pub only_stored: u32,
}

impl Engine {
    /// What is given out now.
    pub fn holdings(&self) -> Holdings {
        Holdings {
            frames: self.pool.in_use(),
            jobs: self.tickets.live(),
            copies: self.names().values().sum(),
            slots: self.tables.shared.taken(),
            names: self.tables.shared.linked(),
            only_stored: self.ranks.only_stored(),
        }
    }

    /// Pages above the grant that were allowed and are not paid back yet.
    pub fn overdraft(&self) -> u32 {
        self.grant.overdraft
    }

    /// Whether no memory should be behind a frame: it is free and was never used, or was given back; or its page
    /// is at the program's own address.
    pub fn is_hole(&self, frame: Frame) -> bool {
        match self.pool.backing_of(frame) {
            Some(backing) => backing == Backing::Hole,
            None => self.tables.frames.get(self.tables.frames.head_of(frame)).state == FrameState::Mapped,
        }
    }

    /// The frames of the folios on a list, oldest first.
    pub fn listed(&self, list: List) -> impl Iterator<Item = Frame> {
        let folios =
            core::iter::successors(self.tables.frames.oldest(list), |&head| self.tables.frames.younger(head));
        folios.flat_map(|head| self.tables.frames.folio(head).iter())
    }

    /// Where one page is.
    pub fn whereabouts(&self, space: Space, vpn: Vpn) -> Whereabouts {
        let pte = self.tables.place_of(space, vpn);
        let slot = self.tables.pte(space, vpn).slot();
        let record = pte.frame().map(|frame| *self.tables.frames.get(frame));
        let pin = record.map_or(0, |r| r.job);
        Whereabouts {
            state: self.tables.page_state(space, vpn),
            frame: pte.frame(),
            order: record.map(|r| r.order),
            job: (pin != 0).then(|| self.tickets.get(index_of(pin)).ticket),
            stored: pte.block().is_some(),
            block: pte.placed(),
            sharers: slot.map_or(0, |(slot, _)| self.tables.shared.of(slot).count() as u32),
            listed: pte
                .frame()
                .is_some_and(|f| self.tables.frames.get(self.tables.frames.head_of(f)).list != List::None),
        }
    }

    /// A key in which two engines are equal when the same verbs bring the same results from now on. Tickets and
    /// blocks are numbered anew; counters are left out, and so are the history of faults (which only the adaptive
    /// policy reads), what only [`Engine::tend`] reads, the addresses in the store and the hashes (a host adds what they stand for).
    ///
    /// `jobs` are those under way, the engine's and the store's, in any order.
    pub fn canonical<'a>(&self, store: &Store, jobs: impl Iterator<Item = &'a Work>) -> Vec<u32> {
        let mut key = Key { words: Vec::with_capacity(128), blocks: Vec::new() };
        key.words.extend([
            self.grant.pages,
            self.grant.overhead,
            self.grant.overdraft,
            u32::from(self.evicts),
        ]);
        let (space, vpn, late) = self.last_late;
        key.words.extend(if late == 0 { [0; 3] } else { [late, u32::from(space.0), vpn.0 as u32] });
        self.add_spaces(store, &mut key);
        self.add_flights(&mut key);
        let mut jobs: Vec<&Work> = jobs.collect();
        jobs.sort_by_key(|work| (work.kind == JobKind::Spill, work.ticket));
        for work in jobs {
            key.words.push(work.kind as u32);
            work.blocks.iter().chain(&work.kept).for_each(|&block| add_block(store, &mut key, block));
        }
        self.add_frames(&mut key);
        self.rescues.add_to(&mut key.words);
        store.add_order(&mut |word| key.words.push(word), &key.blocks);
        key.words
    }

    fn add_spaces(&self, store: &Store, key: &mut Key) {
        for space in &self.tables.spaces {
            for vma in space.vmas.iter() {
                let flags = vma.prot.bits() | u32::from(vma.locked) << 4 | (vma.hint as u32) << 8;
                key.words.extend([vma.start.0 as u32, vma.end.0 as u32, flags, vma.tag]);
            }
            key.words.push(NIL);
            for (vpn, pte) in space.pages.iter() {
                if let Some((slot, mapped)) = pte.slot() {
                    key.words.extend([vpn.0 as u32, NIL - 1, u32::from(mapped), slot.0 as u32]);
                    continue;
                }
                key.words.extend([vpn.0 as u32, pte.frame().map_or(NIL, |f| f.0)]);
                add_block(store, key, pte.block());
                if let Some(evicted_at) = pte.evicted_at() {
                    key.words.push(self.ranks.distance(evicted_at).min(self.pool.capacity()));
                }
            }
            key.words.push(NIL);
        }
    }

    /// The jobs under way, oldest first.
    fn add_flights(&self, key: &mut Key) {
        for flight in self.flights_by_age() {
            let flags = (flight.kind as u32) | u32::from(flight.void) << 8;
            key.words.extend([flags, flight.frames.start.0, flight.frames.pages]);
            if flight.kind == JobKind::Read {
                key.words.push(self.ranks.distance(flight.evicted_at).min(self.pool.capacity()));
            }
        }
    }

    fn flights_by_age(&self) -> Vec<&crate::tickets::Flight> {
        let mut flights: Vec<_> = self.tickets.iter().collect();
        flights.sort_by_key(|flight| flight.ticket);
        flights
    }

    fn add_frames(&self, key: &mut Key) {
        let ages: Vec<Ticket> = self.flights_by_age().iter().map(|flight| flight.ticket).collect();
        for number in 0..self.tables.frames.len().min(self.pool.capacity()) {
            let frame = Frame(number);
            if let Some(backing) = self.pool.backing_of(frame) {
                key.words.push(backing as u32);
                continue;
            }
            let record = self.tables.frames.get(frame);
            let ticket = (record.job != 0).then(|| self.tickets.get(index_of(record.job)).ticket);
            let job = ticket.and_then(|t| ages.iter().position(|&age| age == t)).map_or(0, |i| i as u32 + 1);
            let flags = (record.state as u32) << 8 | (record.order.index() as u32) << 16;
            key.words.push(4 | flags | job << 24);
        }
        for list in [List::Active, List::Inactive, List::Dirty, List::Clean] {
            let mut at = self.tables.frames.oldest(list);
            while let Some(head) = at {
                key.words.push(head.0);
                at = self.tables.frames.younger(head);
            }
            key.words.push(NIL);
        }
    }

    /// What the job with this ticket is, while it is under way, and whether what it brings still counts.
    pub fn job(&self, ticket: Ticket) -> Option<(JobKind, bool)> {
        let flight = self.tickets.get(self.tickets.find(ticket)?);
        Some((flight.kind, !flight.void))
    }
}

/// A block by its new number, and what of it decides later: its length, whether it is in a file, whether a job of the store's
/// has it in hand, and whether it is dead.
fn add_block(store: &Store, key: &mut Key, block: Option<Block>) {
    match block {
        None => key.words.push(NIL),
        Some(Block::ZERO) => key.words.push(NIL - 1),
        Some(block) => {
            let name = key.name(block);
            key.words.extend([name, store.traits(block)]);
        }
    }
}

struct Key {
    words: Vec<u32>,
    /// Blocks in the order in which they got their new numbers.
    blocks: Vec<Block>,
}

impl Key {
    fn name(&mut self, block: Block) -> u32 {
        let known = self.blocks.iter().position(|&b| b == block);
        known.unwrap_or_else(|| {
            self.blocks.push(block);
            self.blocks.len() - 1
        }) as u32
    }
}
