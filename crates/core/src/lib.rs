//! The engine of Quire: anonymous memory in folios of flexible order, as one state machine without I/O.
//!
//! A *folio* is 1, 2, 4 .. 512 pages of 4 KiB, aligned to its size, that are faulted in, aged, moved out and stored
//! together. [`Engine`] decides how large the folio of each fault is, which folios leave when memory is short, and
//! where their contents are kept: compressed in RAM, or in a spill file. It needs `alloc` and nothing else. It has no
//! unsafe code, clock, thread or randomness: equal calls give equal results. So the same engine runs a live process, a
//! simulator, or what you write: a kernel, a VMM, a program whose data do not fit into memory.
//!
//! Two walks are the program: [`fault`] and [`reclaim`]. Everything else serves them.
//!
//! # The contract
//!
//! The engine has the tables, a *host* everything real. The engine numbers pages ([`Vpn`]), the frames of a pool
//! ([`Frame`]) and places in the store ([`job::Place`]), and never sees a byte of contents. It says what it wants in
//! two ways.
//!
//! * **Verbs** ([`mmu::Mmu`], [`mmu::Mover`]) change page tables at once, in the middle of a decision. A verb takes
//!   microseconds and cannot fault. It may do a part and refuse the rest with a reason ([`mmu::Done`]). While a page is
//!   mapped its frame is a hole: a number that keeps a place. To move in is to take a page out of its frame and map it,
//!   to move out is to put it back there.
//! * **Jobs** ([`job::Work`]) take long: they zero, read, compress or spill pages. The engine fills in a `Work`; the
//!   host runs it where and when it likes, with no lock held, and comes back with its [`job::Ticket`]. If the folio has
//!   changed meanwhile, the ticket is void, and the engine drops what the job brought.
//!
//! What is moved out goes to a [`Store`], which is a machine of its own: engine and store tell each other what they need
//! by [`Message`]s and [`Figures`], through the host.
//!
//! | when | the host calls | and then |
//! |---|---|---|
//! | it begins | [`Engine::new`], [`Store::new`]; with a disk [`Store::open_file`] | |
//! | a program maps, unmaps, discards .. | [`Engine::map_range`], [`Engine::unmap`], [`Engine::discard_step`] .. | |
//! | it takes over a program that runs already | [`Engine::adopt`], for the pages that are there | |
//! | a program touches an absent page | [`Engine::fault`], or [`Engine::write_fault`] where spaces share pages | does what [`Fault`] says |
//! | a fault finds no frame | [`Engine::reclaim`] with [`Urgency::Direct`] | asks again; if [`Reclaim::Stuck`], after [`Engine::overdraw`] |
//! | [`Engine::pressed`] | [`Engine::reclaim`] with [`Urgency::Behind`] until it is idle | runs each [`Reclaim::Job`] |
//! | a job ends, well or badly | [`Engine::finish`]; before it what [`store`] says; for a spill [`Store::spilled`] instead | on a [`Halt`] stops the program |
//! | now and then, if it likes | [`Engine::tend`], [`Engine::zero_ahead`] | |
//!
//! A host keeps four rules.
//!
//! 1. One thread at a time calls the engine, as `&mut` demands. Most hosts have one lock for it.
//! 2. Every job comes back once: its frames stay pinned until then.
//! 3. A job touches the frames that it names, and no others.
//! 4. Stored contents come back as they were, or the job fails. A keyed 128-bit hash of each page tells.
//!
//! # What the engine promises
//!
//! * **Time.** A fault moves nothing out, writes nothing and waits for nothing. It fills one folio, at most 2 MiB. It
//!   finds no frame only where not even one of 4 KiB can be had. One step of reclaim moves out at most two folios. One
//!   job, [`Engine::discard_step`] or bite of [`Engine::tend`] is of at most 2 MiB, one spill of 256 KiB. Only what a
//!   program asks for as a whole takes as long as its range: unmap, protect, lock, remap, fork.
//! * **Memory.** Frames, the store in RAM and the host's own overhead ([`Engine::charged`], in pages) fit into the grant
//!   when reclaim with [`Urgency::Behind`] is idle. ([`Urgency::Direct`] alone does not bring that about: one page takes the
//!   place of another, and the store grows beside them.) They pass it by what the host overdraws. They also do where the
//!   store needs more than 60 % of it and no spill file has room, since frames keep 40 %. The tables take about 100 bytes
//!   for each page that has contents.
//! * **No allocation in reclaim.** The faults before it have reserved what it needs.
//! * **Contents.** A page leaves by a move, never by a copy and a discard, so no write is lost. What refuses to move
//!   stays. What does not match its hash is not mapped ([`Halt::Corrupt`]). A frame that held a page of the program is
//!   not written before its memory was given back ([`mmu::Mmu::release`]): somebody may still be reading it.
//! * **Sharing.** [`Engine::fork`] shares the pages of a space with a new one, and copies them on write. A host with one
//!   space leaves out the verbs for it.
//!
//! [`Engine::validate`] compares all tables with each other. It takes as long as they are large: call it in tests.
//!
//! # A host
//!
//! All of one. The program writes 4 MiB with 1 MiB of memory, and finds what it wrote. Jobs run at once, and nobody but
//! the engine changes the tables, so no verb has a reason to refuse and `wake` has nobody to wake. There is no spill
//! file, so no job spills. The example `arrays` is a longer one, with all kinds of jobs, that compares policies.
//!
//! ```
//! use quire_core::{job::*, mmu::*, *};
//! use std::{collections::BTreeMap, ops::Range};
//!
//! type Pages = Vec<Vec<u8>>; // Of 4096 bytes each. An empty one is a hole.
//! struct Ram(BTreeMap<u32, Vec<u8>>);
//! struct Memory { table: Pages, pool: Pages, staged: Pages, store: Store, ram: Ram }
//! fn pages(of: PageRange) -> Range<usize> { of.start.0 as usize..of.end().0 as usize }
//! fn span(of: FrameRun) -> Range<usize> { of.start.0 as usize..(of.start.0 + of.pages) as usize }
//! fn all(of: PageRange) -> Done { Done::all(of.pages as u32) }
//! impl Mmu for Memory {
//!     fn discard(&mut self, of: PageRange) -> Result<(), Refusal> { Ok(self.table[pages(of)].fill(vec![])) }
//!     fn protect(&mut self, _: PageRange, _: Prot) -> Result<(), Refusal> { Ok(()) }
//!     fn lock(&mut self, _: PageRange, _: bool) -> Result<(), Refusal> { Ok(()) }
//!     fn present(&mut self, _: Space, vpn: Vpn) -> bool { !self.table[vpn.0 as usize].is_empty() }
//!     fn release(&mut self, frames: FrameRun) { self.pool[span(frames)].fill(vec![]) }
//!     fn tell(&mut self, message: Message) { self.store.hear(&mut self.ram, message) }
//!     fn look(&self, block: Block) -> Option<Stored> { self.store.look(block) }
//!     fn figures(&self) -> Figures { self.store.figures() }
//!     fn tend(&mut self, urgency: Urgency, work: &mut Work) -> Tend { self.store.tend(&mut self.ram, urgency, work) }
//! }
//! impl StoreMemory for Ram {
//!     fn move_stored(&mut self, at: u32, to: u32, _: u16) { _ = self.0.insert(to, self.0[&at].clone()) }
//!     fn release_stored(&mut self, of: Range<u32>) { self.0.retain(|at, _| !of.contains(&(at / 256))) }
//! }
//! impl Mover for Memory {
//!     fn move_in(&mut self, frames: FrameRun, _: Space, at: Vpn) -> Done {
//!         self.table[at.0 as usize..][..frames.pages as usize].swap_with_slice(&mut self.pool[span(frames)]);
//!         Done::all(frames.pages)
//!     }
//!     fn move_out(&mut self, of: Space, at: Vpn, to: FrameRun) -> Done { self.move_in(to, of, at) }
//!     fn copy_in(&mut self, _: FrameRun, _: Space, _: Vpn) -> Done { Done::part(0, Refusal::Denied) }
//!     fn copy_staged(&mut self, from: u32, to: PageRange) -> Done {
//!         self.table[pages(to)].clone_from_slice(&self.staged[from as usize..][..to.pages as usize]);
//!         all(to)
//!     }
//!     fn copy_zeroes(&mut self, to: PageRange) -> Done { self.table[pages(to)].fill(vec![0; 4096]); all(to) }
//!     fn unshare(&mut self, range: PageRange) -> Done { all(range) }
//!     fn remap(&mut self, _: PageRange, _: Vpn) -> Result<(), Refusal> { Err(Refusal::Denied) }
//!     fn wake(&mut self, _: PageRange) {}
//! }
//! fn hash(page: &[u8]) -> u128 { page.iter().fold(7, |h, &b| (h ^ b as u128).wrapping_mul((1 << 88) + 315)) }
//! fn run(engine: &mut Engine, memory: &mut Memory, work: &mut Work) {
//!     let mut outcome = Outcome::Done;
//!     memory.store.sources(work);
//!     for (i, frame) in span(work.frames).enumerate() {
//!         if work.kind == JobKind::Write { // To compress is here to leave out the zeroes at the end.
//!             let (page, hash) = (&memory.pool[frame], hash(&memory.pool[frame]));
//!             let len = page.iter().rposition(|&byte| byte != 0).map_or(0, |last| last as u16 + 1);
//!             work.packed.push(if len == 0 { Packed::Zero } else { Packed::Small { len, hash } });
//!             continue;
//!         }
//!         let mut page = vec![0; PAGE_SIZE]; // Zero and Read: pages of zeroes have no place.
//!         if let Some(Stored { place: Place::Ram { at }, hash: known, .. }) = work.sources.get(i) {
//!             page[..memory.ram.0[at].len()].copy_from_slice(&memory.ram.0[at]);
//!             assert_eq!(hash(&page), *known);
//!         }
//!         if work.staged { memory.staged[i] = page } else { memory.pool[frame] = page }
//!     }
//!     if work.kind == JobKind::Write && !memory.store.place(&mut memory.ram, work) { outcome = Outcome::Refused }
//!     for (i, frame) in span(work.frames).enumerate().take(work.targets.len()) {
//!         if let (Packed::Small { len, .. }, Some(Place::Ram { at })) = (work.packed[i], work.targets[i]) {
//!             memory.ram.0.insert(at, memory.pool[frame][..len as usize].to_vec());
//!         }
//!     }
//!     if outcome == Outcome::Done { memory.store.written(&mut memory.ram, work, outcome) }
//!     engine.finish(memory, work, outcome).unwrap();
//! }
//!
//! let (policy, mut work) = (PolicyKind::Adaptive, Work::new());
//! let mut engine = Engine::new(Config { frames: 512, grant: 256, policy });
//! let (table, pool, staged) = (vec![vec![]; 1024], vec![vec![]; 512], vec![vec![]; MAX_STAGED_PAGES]);
//! let mut memory = Memory { table, pool, staged, store: Store::new(32, 16, 256), ram: Ram(BTreeMap::new()) };
//! engine.map_range(&mut memory, PageRange::new(Space(0), Vpn(0), 1024), Prot::READ_WRITE).unwrap();
//! for (touch, n) in (0..2048usize).map(|touch| (touch, touch * 389 % 1024)) {
//!     while memory.table[n].is_empty() {
//!         while engine.pressed() {
//!             let step = engine.reclaim(&mut memory, Urgency::Behind, &mut work);
//!             if step == Reclaim::Job { run(&mut engine, &mut memory, &mut work) }
//!             assert_ne!(step, Reclaim::Stuck);
//!         }
//!         match engine.fault(&mut memory, Space(0), Vpn(n as u64), &mut work) {
//!             Fault::Job => run(&mut engine, &mut memory, &mut work),
//!             fault => assert_eq!(fault, Fault::Mapped),
//!         }
//!     }
//!     let contents = [n.to_le_bytes().repeat(64), vec![0; 3584]].concat();
//!     if touch < 1024 { memory.table[n].clone_from(&contents) }
//!     assert_eq!(memory.table[n], contents);
//! }
//! assert!(engine.validate(&memory.store).is_ok() && engine.charged() <= engine.grant());
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod addr;
mod adopt;
mod check;
mod chunked;
mod engine;
pub mod fault;
mod folio;
pub mod frame;
mod grant;
mod inspect;
pub mod job;
mod log;
pub mod mmu;
mod order;
pub mod policy;
pub mod reclaim;
mod shaping;
mod sharing;
mod smaps;
mod space;
mod stats;
pub mod store;
mod tables;
mod tickets;
mod trail;
pub mod vma;

pub use addr::{Frame, FrameRun, PAGE_SIZE, PageRange, SHARED, Space, Vpn};
pub use check::Audit;
pub use engine::{Config, Engine, Halt};
pub use fault::Fault;
pub use folio::{Shaping, SplitMode, SplitWhy, Touched};
pub use inspect::{Holdings, Whereabouts};
pub use log::Decision;
pub use order::{Order, OrderSet};
pub use policy::PolicyKind;
pub use reclaim::{Reclaim, Urgency};
pub use sharing::Mapping;
pub use smaps::VmaUsage;
pub use stats::Stats;
pub use store::{Block, Figures, Message, Store, StoreMemory, Tend};
pub use tables::PageState;
