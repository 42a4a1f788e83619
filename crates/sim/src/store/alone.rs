//! A store without an engine: one client that keeps a model of what it has handed over.
//!
//! [`Alone`] does to a store what a host and an engine would, step by step and in any order: pages are placed, written later
//! and handed over, or the disk fails; blocks are shared, dropped, moved out again unchanged; readers look where a block is
//! and read later, when it may be elsewhere or gone; the store cleans and spills, its files come and go, its grant rises and
//! falls. After each event every block that somebody names has the contents that were handed over.

use super::{StoredBytes, hash_of, is_raw, packed_len};
use quire_core::job::{JobKind, Outcome, Packed, Stored, Work};
use quire_core::{Block, Message, PAGE_SIZE, Store, Tend, Urgency};
use std::collections::BTreeMap;

/// One thing that happens to a store. Numbers are taken modulo how many there are of what they choose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A writer asks for places for so many new pages: of zeroes, small, incompressible, or of all kinds.
    Place(u8, Contents),
    /// A writer asks for places for a page that has not changed since it got its block.
    Again(u8),
    /// A job goes on: it writes, or hands over what it has written.
    Step(u8),
    /// A job fails.
    Fail(u8),
    /// One more names a block.
    Share(u8),
    /// One fewer does.
    Drop(u8),
    /// A reader looks where a block is.
    Look(u8),
    /// A reader reads, and looks again where it finds something else.
    Read(u8),
    /// A step of the store's own.
    Tend(Urgency),
    /// The grant is so many pages, and others take so many of them.
    Grant(u32, u32),
    /// The store may take so many parts of the grant.
    Division(u32),
    /// A page of this rank is needed again, with so many in frames and so many only stored.
    Refault(u32, u32, u32),
    /// What waits for the file would have paid, or would not.
    Waiting(u32, u32),
    /// Somebody still has a name that is no more: he drops it, shares it, and looks for it.
    Stale(u8),
    /// Room is reserved for so many pages more.
    Reserve(u32),
    /// A new file, of so many bytes.
    Open(u64),
    /// No file any more.
    Close,
}

/// What pages hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contents {
    /// Zeroes.
    Zeroes,
    /// What compresses.
    Small,
    /// What does not.
    Raw,
    /// One page in eight does not compress, one is of zeroes.
    Any,
}

/// A job of a writer's or of the store's, and the versions that it writes.
#[derive(Clone, Debug)]
pub struct Job {
    /// The job.
    pub work: Work,
    values: Vec<u64>,
    /// Its contents are where they belong.
    pub ran: bool,
}

/// See the module's text.
#[derive(Clone, Debug)]
pub struct Alone {
    /// The store.
    pub store: Store,
    /// Its memory and its files.
    pub bytes: StoredBytes,
    /// Jobs under way.
    pub jobs: Vec<Job>,
    /// Blocks that are named: how often, and what they hold.
    named: BTreeMap<Block, (u32, u64)>,
    /// Names that are no more.
    old: Vec<Block>,
    /// Readers: the block, where it was seen, and the version that was named then.
    readers: Vec<(Block, Stored, u64)>,
    files: u16,
    last: u64,
    /// How often a reader found something else than it had looked for.
    pub moved: u64,
}

impl Alone {
    /// A store of `segments` segments of two pages within a grant of `grant` pages.
    pub fn new(segments: u32, grant: u32) -> Alone {
        let mut store = Store::new(segments, 2, grant);
        store.hear(&mut StoredBytes::default(), Message::Reserve(64));
        Alone {
            store,
            bytes: StoredBytes::default(),
            jobs: Vec::new(),
            named: BTreeMap::new(),
            old: Vec::new(),
            readers: Vec::new(),
            files: 0,
            last: 0,
            moved: 0,
        }
    }

    /// Lets an event happen, and checks everything.
    pub fn happen(&mut self, event: Event) -> Result<(), String> {
        self.play(event)?;
        self.check()
    }

    fn play(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Place(pages, contents) => self.place(pages, contents),
            Event::Again(number) => self.place_again(number),
            Event::Step(number) => self.step(number)?,
            Event::Fail(number) => self.end(number, Outcome::Failed),
            Event::Share(number) => {
                if let Some(block) = self.pick(number) {
                    self.named.entry(block).and_modify(|(names, _)| *names += 1);
                    self.tell(Message::Share(block));
                }
            }
            Event::Drop(number) => {
                if let Some(block) = self.pick(number) {
                    self.drop(block);
                }
            }
            Event::Look(number) => {
                if let Some(block) = self.pick(number) {
                    let stored = self.store.look(block).ok_or("a named block is unknown")?;
                    self.readers.push((block, stored, self.named[&block].1));
                }
            }
            Event::Read(number) => self.read(number)?,
            Event::Tend(urgency) => {
                let mut work = Work::new();
                if self.store.tend(&mut self.bytes, urgency, &mut work) == Tend::Job {
                    self.jobs.push(Job { work, values: Vec::new(), ran: false });
                }
            }
            Event::Grant(pages, overhead) => self.tell(Message::Grant { pages, overhead }),
            Event::Division(parts) => self.store.set_division(parts),
            Event::Refault(rank, resident, only_stored) => {
                self.tell(Message::Refault { rank, resident, only_stored });
            }
            Event::Waiting(more, less) => self.tell(Message::Waiting { more, less }),
            Event::Stale(number) => {
                if let Some(&block) = self.old.get(usize::from(number) % self.old.len().max(1)) {
                    self.tell(Message::Drop(block));
                    self.tell(Message::Share(block));
                    if let Some(stored) = self.store.look(block) {
                        return Err(format!("{block:?} is no more, and is found at {stored:?}"));
                    }
                }
            }
            Event::Reserve(pages) => self.tell(Message::Reserve(pages)),
            Event::Open(limit) => {
                self.store.open_file(self.files, limit);
                self.files += 1;
            }
            Event::Close => self.store.close_file(),
        }
        Ok(())
    }

    fn tell(&mut self, message: Message) {
        self.store.hear(&mut self.bytes, message);
    }

    fn pick(&self, number: u8) -> Option<Block> {
        self.named.keys().nth(usize::from(number) % self.named.len().max(1)).copied()
    }

    /// A new version that compresses, or does not.
    fn fresh(&mut self, contents: Contents) -> u64 {
        self.last += 1;
        match contents {
            Contents::Zeroes => 0,
            Contents::Small => self.last * 8 + 1,
            Contents::Raw => self.last * 8 + 7,
            Contents::Any if self.last.is_multiple_of(8) => 0,
            Contents::Any => self.last * 8 + self.last % 8,
        }
    }

    fn place(&mut self, pages: u8, contents: Contents) {
        let values: Vec<u64> = (0..pages).map(|_| self.fresh(contents)).collect();
        let mut work = Work { kind: JobKind::Write, ..Work::new() };
        let packed = |&value: &u64| match value {
            0 => Packed::Zero,
            value if is_raw(value) => Packed::Raw { hash: hash_of(value) },
            value => Packed::Small { len: packed_len(value), hash: hash_of(value) },
        };
        work.packed.extend(values.iter().map(packed));
        self.tell(Message::Reserve(u32::from(pages) + 8));
        if self.store.place(&mut self.bytes, &mut work) {
            self.jobs.push(Job { work, values, ran: false });
        }
    }

    fn place_again(&mut self, number: u8) {
        let Some(block) = self.pick(number) else { return };
        let mut work = Work { kind: JobKind::Write, ..Work::new() };
        work.blocks.push(Some(block));
        work.packed.push(Packed::Same);
        if self.store.place(&mut self.bytes, &mut work) {
            self.jobs.push(Job { work, values: vec![0], ran: false });
        }
    }

    fn step(&mut self, number: u8) -> Result<(), String> {
        if self.jobs.is_empty() {
            return Ok(());
        }
        let at = usize::from(number) % self.jobs.len();
        if self.jobs[at].ran {
            self.end(number, Outcome::Done);
            return Ok(());
        }
        let job = &mut self.jobs[at];
        job.ran = true;
        for (i, target) in job.work.targets.iter().enumerate() {
            let Some(place) = *target else { continue };
            let (len, value) = match job.work.kind {
                JobKind::Spill => {
                    let source = job.work.sources[i];
                    let there = self.bytes.read(source.place, source.len);
                    (source.len, there.ok_or_else(|| format!("a spill finds nothing at {source:?}"))?)
                }
                _ => (packed_len(job.values[i]), job.values[i]),
            };
            self.bytes.write(place, len, value);
        }
        Ok(())
    }

    fn end(&mut self, number: u8, outcome: Outcome) {
        if self.jobs.is_empty() {
            return;
        }
        let Job { mut work, values, .. } = self.jobs.remove(usize::from(number) % self.jobs.len());
        if work.kind == JobKind::Spill {
            return self.store.spilled(&mut self.bytes, &work, outcome);
        }
        self.store.written(&mut self.bytes, &mut work, outcome);
        for (block, value) in work.kept.iter().zip(values) {
            self.named.extend(block.map(|block| (block, (1, value))));
        }
    }

    fn drop(&mut self, block: Block) {
        if let Some((names, _)) = self.named.get_mut(&block) {
            *names -= 1;
            if *names == 0 {
                self.named.remove(&block);
                self.old.push(block);
            }
            self.tell(Message::Drop(block));
        }
    }

    /// A reader finds what it looks for, or looks again; where nobody needs the block any more, it finds nothing.
    fn read(&mut self, number: u8) -> Result<(), String> {
        if self.readers.is_empty() {
            return Ok(());
        }
        let at = usize::from(number) % self.readers.len();
        let (block, seen, value) = self.readers.swap_remove(at);
        let found = self.bytes.read(seen.place, seen.len).filter(|&found| hash_of(found) == seen.hash);
        match (found, self.store.look(block)) {
            (Some(found), _) if found == value => {}
            (Some(found), _) => return Err(format!("{block:?} reads as {found}, and was {value}")),
            (None, Some(now)) if now != seen => {
                self.moved += 1;
                self.readers.push((block, now, value));
            }
            (None, _) if self.named.get(&block).is_some_and(|(_, named)| *named == value) => {
                return Err(format!("{block:?} is not at {seen:?}"));
            }
            (None, _) => {}
        }
        Ok(())
    }

    /// What is named is there, and counted as often; no memory has contents that the store does not answer for.
    pub fn check(&self) -> Result<(), String> {
        self.store.validate(&self.named.iter().map(|(&block, &(names, _))| (block, names)).collect())?;
        for (&block, &(_, value)) in &self.named {
            let stored = self.store.look(block).ok_or_else(|| format!("{block:?} is named and unknown"))?;
            let found = self.bytes.read(stored.place, stored.len);
            if found != Some(value) || stored.hash != hash_of(value) {
                return Err(format!("{block:?} is {found:?} at {stored:?}, and should be {value}"));
            }
        }
        let (pages, held) = (self.bytes.ram_pages(), self.store.figures().ram_pages);
        if pages > held {
            return Err(format!("{pages} pages of RAM have contents, {held} have memory"));
        }
        Ok(())
    }

    /// Jobs end, names go: nothing is left.
    pub fn drain(&mut self) -> Result<(), String> {
        while !self.jobs.is_empty() {
            self.happen(Event::Step(0))?;
        }
        while let Some(block) = self.pick(0) {
            self.drop(block);
        }
        let left = self.store.holdings();
        if left == Default::default() { Ok(()) } else { Err(format!("left after all was dropped: {left:?}")) }
    }

    /// Every name that there is, with what it holds.
    pub fn named(&self) -> impl Iterator<Item = (Block, u32)> + '_ {
        self.named.iter().map(|(&block, &(names, _))| (block, names))
    }

    /// Blocks of the writers and spills under way.
    pub fn in_hand(&self) -> impl Iterator<Item = Block> + '_ {
        let blocks = |job: &Job| match job.work.kind {
            JobKind::Spill => job.work.blocks.clone(),
            _ => job.work.kept.clone(),
        };
        self.jobs.iter().flat_map(blocks).flatten()
    }

    /// Bytes of RAM that `pages` pages are.
    pub const fn bytes_of(pages: u32) -> u64 {
        pages as u64 * PAGE_SIZE as u64
    }
}
