//! A host on plain arrays, and policies compared on it: `cargo run -p quire-core --example arrays`.
//!
//! A program has 16 MiB of data, its machine 4 MiB of memory. Page table, pool, store and spill file are arrays. One
//! thread does one thing after the other, without a clock and without chance: each run prints the same table. Each touch
//! compares its page, byte by byte, with what was written there last. Read it from [`Machine::touch`] downwards.

use quire_core::job::{JobKind, MAX_STAGED_PAGES, Outcome, Packed, PageHash, Place, Stored, Work};
use quire_core::mmu::{Done, Mmu, Mover, Prot, Refusal};
use quire_core::{
    Block, Config, Engine, Fault, Figures, FrameRun, Message, Order, PAGE_SIZE, PageRange, PolicyKind,
    Reclaim, Space, Stats, Store, StoreMemory, Tend, Urgency, Vpn,
};
use std::ops::Range;

/// Pages of the program's data: 16 MiB.
const DATA: usize = 4096;
/// Pages of memory, for frames and the store together: 4 MiB.
const MEMORY: usize = 1024;
/// Frames of the pool. They are numbers, so there are more of them than pages of memory.
const FRAMES: usize = 2 * MEMORY;
/// Pages that the store in RAM has numbers for, in segments of 16.
const STORE: usize = 1024;
/// Bytes of the spill file. What is written there at once goes at once, with the last page that is needed of it.
const FILE: usize = 32 << 20;

type Page = [u8; PAGE_SIZE];
const ZEROES: Page = [0; PAGE_SIZE];
/// Places for pages. `None` is a hole.
type Places = Vec<Option<Box<Page>>>;

struct Arrays {
    /// The program's pages, and the frames.
    table: Places,
    pool: Places,
    /// What a job has read that goes to no frame, but from here to the program.
    staged: Places,
    store: Store,
    bytes: Bytes,
}

/// The store in RAM, and the spill file.
struct Bytes {
    ram: Vec<u8>,
    file: Vec<u8>,
}

impl Bytes {
    /// The bytes at a place.
    fn at(&mut self, place: Place, len: usize) -> &mut [u8] {
        match place {
            Place::Zero => &mut [],
            Place::Ram { at } => &mut self.ram[at as usize * 16..][..len],
            Place::File { at, .. } => &mut self.file[at as usize..][..len],
        }
    }
}

impl StoreMemory for Bytes {
    fn move_stored(&mut self, from: u32, to: u32, len: u16) {
        let from = from as usize * 16;
        self.ram.copy_within(from..from + usize::from(len), to as usize * 16);
    }

    fn release_stored(&mut self, _: Range<u32>) {}
}

fn pages(range: PageRange) -> Range<usize> {
    range.start.0 as usize..range.end().0 as usize
}

fn span(frames: FrameRun) -> Range<usize> {
    frames.start.0 as usize..(frames.start.0 + frames.pages) as usize
}

/// Nobody but the engine changes what is mapped, so no verb has a reason to refuse. The program has all rights. Its one
/// thread waits for the answer to its fault by itself, so there is nobody to wake.
impl Mmu for Arrays {
    fn discard(&mut self, range: PageRange) -> Result<(), Refusal> {
        self.table[pages(range)].fill(None);
        Ok(())
    }

    fn protect(&mut self, _: PageRange, _: Prot) -> Result<(), Refusal> {
        Ok(())
    }

    fn lock(&mut self, _: PageRange, _: bool) -> Result<(), Refusal> {
        Ok(())
    }

    fn present(&mut self, _: Space, vpn: Vpn) -> bool {
        self.table[vpn.0 as usize].is_some()
    }

    fn release(&mut self, frames: FrameRun) {
        self.pool[span(frames)].fill(None);
    }

    fn tell(&mut self, message: Message) {
        self.store.hear(&mut self.bytes, message);
    }

    fn look(&self, block: Block) -> Option<Stored> {
        self.store.look(block)
    }

    fn figures(&self) -> Figures {
        self.store.figures()
    }

    fn tend(&mut self, urgency: Urgency, work: &mut Work) -> Tend {
        self.store.tend(&mut self.bytes, urgency, work)
    }
}

impl Mover for Arrays {
    /// Pages change places with holes: no contents are copied.
    fn move_in(&mut self, frames: FrameRun, space: Space, at: Vpn) -> Done {
        let to = PageRange::new(space, at, u64::from(frames.pages));
        self.table[pages(to)].swap_with_slice(&mut self.pool[span(frames)]);
        Done::all(frames.pages)
    }

    fn move_out(&mut self, space: Space, at: Vpn, frames: FrameRun) -> Done {
        self.move_in(frames, space, at)
    }

    fn copy_in(&mut self, frames: FrameRun, space: Space, at: Vpn) -> Done {
        let to = PageRange::new(space, at, u64::from(frames.pages));
        self.table[pages(to)].clone_from_slice(&self.pool[span(frames)]);
        Done::all(frames.pages)
    }

    fn copy_staged(&mut self, from: u32, to: PageRange) -> Done {
        self.table[pages(to)].clone_from_slice(&self.staged[from as usize..][..to.pages as usize]);
        Done::all(to.pages as u32)
    }

    fn copy_zeroes(&mut self, to: PageRange) -> Done {
        self.table[pages(to)].fill(Some(Box::new(ZEROES)));
        Done::all(to.pages as u32)
    }

    fn unshare(&mut self, range: PageRange) -> Done {
        Done::all(range.pages as u32)
    }

    fn remap(&mut self, _: PageRange, _: Vpn) -> Result<(), Refusal> {
        Err(Refusal::Denied)
    }

    fn wake(&mut self, _: PageRange) {}
}

/// The engine, and what it works on.
struct Machine {
    engine: Engine,
    arrays: Arrays,
    work: Work,
}

impl Machine {
    fn new(policy: PolicyKind) -> Machine {
        let (frames, grant) = (FRAMES as u32, MEMORY as u32);
        let mut engine = Engine::new(Config { frames, grant, policy });
        let mut arrays = Arrays {
            table: vec![None; DATA],
            pool: vec![None; FRAMES],
            staged: vec![None; MAX_STAGED_PAGES],
            store: Store::new(STORE as u32 / 16, 16, grant),
            bytes: Bytes { ram: vec![0; STORE * PAGE_SIZE], file: vec![0; FILE] },
        };
        arrays.store.open_file(0, FILE as u64);
        let data = PageRange::new(Space(0), Vpn(0), DATA as u64);
        engine.map_range(&mut arrays, data, Prot::READ_WRITE).expect("nothing is mapped there");
        Machine { engine, arrays, work: Work::new() }
    }

    /// The program has a page, after its fault if need be. Then reclaim makes room, as a thread of its own would.
    fn touch(&mut self, vpn: usize, access: impl FnOnce(&mut Page)) {
        while self.arrays.table[vpn].is_none() {
            match self.engine.fault(&mut self.arrays, Space(0), Vpn(vpn as u64), &mut self.work) {
                Fault::Mapped => {}
                Fault::Job => self.run(),
                Fault::NoFrame => _ = self.reclaim(Urgency::Direct),
                other => panic!("a fault at page {vpn} ends in {other:?}"),
            }
            let places = self.arrays.table.iter().chain(&self.arrays.pool);
            let store = self.arrays.store.figures().ram_pages;
            assert!(places.flatten().count() + store as usize <= MEMORY);
        }
        access(self.arrays.table[vpn].as_deref_mut().expect("its fault was answered"));
        while self.engine.pressed() && self.reclaim(Urgency::Behind) {}
    }

    /// One step of reclaim. Whether it did anything.
    fn reclaim(&mut self, urgency: Urgency) -> bool {
        let step = self.engine.reclaim(&mut self.arrays, urgency, &mut self.work);
        assert!(!matches!(step, Reclaim::Waiting | Reclaim::Stuck), "{step:?}, though any page may leave");
        if step == Reclaim::Job {
            self.run();
        }
        step != Reclaim::Idle
    }

    /// Runs the job in `work` from its beginning to its end.
    fn run(&mut self) {
        let Machine { engine, arrays, work } = self;
        let mut outcome = Outcome::Done;
        match work.kind {
            JobKind::Zero => arrays.pool[span(work.frames)].fill(Some(Box::new(ZEROES))),
            JobKind::Read => {
                arrays.store.sources(work);
                for (i, (frame, source)) in span(work.frames).zip(&work.sources).enumerate() {
                    let (mut page, len) = (Box::new(ZEROES), usize::from(source.len));
                    page[..len].copy_from_slice(arrays.bytes.at(source.place, len));
                    if source.place != Place::Zero && hash(&page) != source.hash {
                        outcome = Outcome::Corrupt;
                    }
                    *(if work.staged { &mut arrays.staged[i] } else { &mut arrays.pool[frame] }) = Some(page);
                }
            }
            JobKind::Write => {
                arrays.store.known(work);
                for (frame, known) in span(work.frames).zip(&work.known) {
                    work.packed.push(pack(arrays.pool[frame].as_ref().expect("it was moved out"), *known));
                }
                if !arrays.store.place(&mut arrays.bytes, work) {
                    outcome = Outcome::Refused;
                }
                for (frame, target) in span(work.frames).zip(&work.targets) {
                    let (Some(page), Some(place)) = (arrays.pool[frame].clone(), *target) else { continue };
                    let bytes = trim(&page);
                    arrays.bytes.at(place, bytes.len()).copy_from_slice(bytes);
                }
                if outcome == Outcome::Done {
                    arrays.store.written(&mut arrays.bytes, work, outcome);
                }
            }
            JobKind::Spill => {
                for (source, target) in work.sources.iter().zip(work.targets.iter().flatten()) {
                    let bytes = arrays.bytes.at(source.place, usize::from(source.len)).to_vec();
                    arrays.bytes.at(*target, bytes.len()).copy_from_slice(&bytes);
                }
                return arrays.store.spilled(&mut arrays.bytes, work, outcome);
            }
        }
        engine.finish(arrays, work, outcome).expect("what was stored is as it was");
    }
}

/// A host that trusts nobody takes a strong hash with a key.
fn hash(page: &Page) -> PageHash {
    page.iter().fold(7, |hash, &byte| (hash ^ PageHash::from(byte)).wrapping_mul((1 << 88) + 315))
}

/// To compress is here to leave out the zeroes at the end.
fn trim(page: &Page) -> &[u8] {
    &page[..page.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)]
}

fn pack(page: &Page, known: Option<PageHash>) -> Packed {
    let hash = hash(page);
    match trim(page).len() {
        0 => Packed::Zero,
        _ if known == Some(hash) => Packed::Same,
        PAGE_SIZE => Packed::Raw { hash },
        len => Packed::Small { len: len as u16, hash },
    }
}

/// The next number of a sequence without a pattern (xorshift64).
fn next(mut word: u64) -> u64 {
    word ^= word << 13;
    word ^= word >> 7;
    word ^ word << 17
}

/// What a page holds once it was written `version` times: 512 to 4096 bytes, and zeroes.
fn contents(vpn: usize, version: u32) -> Page {
    let (mut page, mut word) = (ZEROES, (vpn as u64) << 32 | u64::from(version));
    let used = if version == 0 { 0 } else { PAGE_SIZE >> (vpn % 4) };
    for bytes in page[..used].chunks_exact_mut(8) {
        word = next(word);
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    page
}

/// Writes all data, then touches pages in the given order and writes every fourth, then reads all. What the touches took.
fn play(policy: PolicyKind, order: &[usize]) -> [u64; 6] {
    let (mut machine, mut versions) = (Machine::new(policy), [0; DATA]);
    let mut touch = |machine: &mut Machine, vpn: usize, writes: bool| {
        machine.touch(vpn, |page| {
            assert!(*page == contents(vpn, versions[vpn]), "page {vpn} is not as it was written");
            versions[vpn] += u32::from(writes);
            *page = contents(vpn, versions[vpn]);
        });
    };
    (0..DATA).for_each(|vpn| touch(&mut machine, vpn, true));
    let before = figures(machine.engine.stats());
    order.iter().enumerate().for_each(|(i, &vpn)| touch(&mut machine, vpn, i % 4 == 0));
    let after = figures(machine.engine.stats());
    (0..DATA).for_each(|vpn| touch(&mut machine, vpn, false));
    assert_eq!(machine.engine.validate(&machine.arrays.store), Ok(()));
    std::array::from_fn(|i| after[i] - before[i])
}

/// Faults; pages moved in and out; pages stored, spilled and read back.
fn figures(stats: &Stats) -> [u64; 6] {
    let pages = |folios: [u64; Order::COUNT]| (0..).zip(folios).map(|(order, n)| n << order).sum::<u64>();
    let fills = [stats.zero_fills, stats.swap_ins, stats.rescues];
    let (faults, into) = (fills.iter().flatten().sum(), fills.into_iter().map(pages).sum());
    let (out, spilled) = (stats.evicted_behind + stats.evicted_direct, stats.pages_spilled);
    [faults, into, out, stats.pages_stored, spilled, pages(stats.swap_ins)]
}

fn main() {
    let scan: Vec<usize> = (0..4 * DATA).map(|i| i % DATA).collect();
    let words = std::iter::successors(Some(1), |&word| Some(next(word)));
    let random: Vec<usize> = words.map(|word| (word >> 32) as usize % DATA).take(4 * DATA).collect();
    println!("policy    order       faults    pages in         out      stored     spilled   read back");
    for name in ["fixed:4K", "fixed:64K", "adaptive"] {
        for (order, pages) in [("scan", &scan), ("random", &random)] {
            let figures = play(name.parse().expect("a policy"), pages);
            println!("{name:<10}{order:<6}{}", figures.map(|n| format!("{n:>12}")).concat());
        }
    }
}
