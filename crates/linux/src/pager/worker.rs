//! Running jobs: what a thread needs for it, and the four kinds. No lock is held here but the store's, for the moments in
//! which a reader copies a page and a writer asks for places.

use super::profile::Stopwatch;
use super::{Pager, Tables};
use crate::codec::{Codec, Form, Page, ROOM};
use crate::control::counters::Counters;
use crate::control::profile::Phase;
use crate::die;
use crate::mmu::{LinuxMmu, STORE_UNIT, StoreRam};
use crate::sys::Cause;
use crate::sys::Errno;
use crate::sys::bytes::Stretch;
use crate::sys::clock::now_ns;
use crate::sys::file::{ALIGN, Bounce};
use crate::sys::mmap::{self, Advice};
use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use quire_core::addr::{FrameRun, PAGE_SIZE};
use quire_core::job::{
    JobKind, MAX_JOB_PAGES, MAX_STAGED_PAGES, Outcome, Packed, Place, Reach, Stored, Work,
};
use quire_core::{Block, Halt};

/// Where a block was when it was looked up.
enum Found {
    /// Nowhere: it is all zeroes, or nobody needs it any more.
    Nothing,
    /// In RAM: its bytes are in the worker's buffer.
    Copied(Stored),
    /// In a file, from a byte on.
    InFile(Stored, u16, u64),
}

/// A thread's own means for running jobs.
#[derive(Debug)]
pub(super) struct Worker {
    codec: Box<Codec>,
    out: Box<[u8; ROOM]>,
    /// Compressed pages of the job, one behind the other; and what goes to or comes from a file.
    packed: Bounce,
    transfer: Bounce,
    /// What a fill brings that does not go to the pool.
    staged: Stretch,
    offsets: Vec<u32>,
    /// When the fault was read whose job is run, in ns; 0 where nobody waits.
    pub(super) asked_at: u64,
    /// What a fault waited for its read of a file, in ns.
    read_ns: Option<u64>,
    /// Where the time of the fault goes for which the job is run.
    pub(super) stopwatch: Stopwatch,
}

/// Bytes of its buffers that a thread keeps after a read, which is mostly small, and after a write.
const BUFFER_OF_READ: usize = 64 << 10;
const BUFFER_OF_WRITE: usize = 512 << 10;
/// Compressed bytes of the largest job; and the same with room for alignment at both ends.
const PACKED_BYTES: usize = MAX_JOB_PAGES * PAGE_SIZE;
const TRANSFER_BYTES: usize = PACKED_BYTES + 2 * PAGE_SIZE;

impl Worker {
    pub(super) fn new(pager: &Pager) -> Worker {
        Worker::with_room(pager, MAX_STAGED_PAGES)
    }

    /// The same, with room for `pages` pages that a fill brings.
    pub(super) fn with_room(pager: &Pager, pages: usize) -> Worker {
        Worker::make(pager, pages)
            .unwrap_or_else(|errno| die!("no memory for Quire's own buffers: {errno}", errno = Cause(errno)))
    }

    fn make(pager: &Pager, pages: usize) -> Result<Worker, Errno> {
        let staged = pages * PAGE_SIZE;
        Ok(Worker {
            codec: Box::new(Codec::new(&pager.secret)?),
            out: Box::new([0; ROOM]),
            packed: Bounce::new(PACKED_BYTES)?,
            transfer: Bounce::new(TRANSFER_BYTES)?,
            staged: Stretch::new(mmap::map_buffer(staged)?, staged),
            offsets: Vec::with_capacity(MAX_JOB_PAGES),
            asked_at: 0,
            read_ns: None,
            stopwatch: Stopwatch::new(),
        })
    }

    /// Where a fill that does not go to the pool is brought.
    pub(super) fn room(&self) -> Stretch {
        self.staged
    }

    /// Runs a job and gives its result to the engine.
    pub(super) fn run(&mut self, pager: &Pager, work: &mut Work) {
        self.run_and(pager, work, || ());
    }

    /// The same. `done` is called when the work is done and those who wait for it are about to be woken.
    pub(super) fn run_and(&mut self, pager: &Pager, work: &mut Work, done: impl FnOnce()) {
        let before = self.stopwatch.enter(match work.kind {
            JobKind::Zero => Phase::Place,
            JobKind::Read => Phase::Decompress,
            JobKind::Write | JobKind::Spill => Phase::Evict,
        });
        let outcome = match work.kind {
            JobKind::Zero => zero(pager, work),
            JobKind::Read => {
                if work.sources.len() < work.blocks.len() {
                    pager.store.lock().sources(work);
                }
                self.read(pager, work)
            }
            JobKind::Write => self.write(pager, work),
            JobKind::Spill => self.spill(pager, work),
        };
        self.stopwatch.leave(before);
        done();
        self.stopwatch.enter(Phase::Lock);
        let mut tables = match work.kind {
            JobKind::Zero | JobKind::Read => pager.tables_first(),
            JobKind::Write | JobKind::Spill => pager.tables_behind(),
        };
        self.stopwatch.enter(Phase::Decide);
        if let Some(ns) = self.read_ns.take() {
            pager.store.lock().note_read(ns);
        }
        let mut mover = pager.mover().with_staged(self.staged).timed_by(&self.stopwatch);
        let result = end(pager, &mut tables, &mut mover, work, outcome);
        pager.show(&tables.engine);
        drop(tables);
        self.stopwatch.leave(before);
        if let Err(halt) = result {
            stop(halt);
        }
        pager.progress();
        self.tidy(work);
    }

    /// After a large job, gives back most of the buffers' memory: it is charged to the program's budget.
    fn tidy(&mut self, work: &Work) {
        let keep = if work.kind == JobKind::Read { BUFFER_OF_READ } else { BUFFER_OF_WRITE };
        if work.kind != JobKind::Zero && (work.frames.pages as usize) * PAGE_SIZE > keep {
            self.packed.shrink(keep);
            self.transfer.shrink(keep);
        }
    }

    /// Fills frames from the store. Contents that do not match their hash are never mapped.
    ///
    /// The store may move a block after it was looked up, or give it up where the ticket has become void. In RAM it does so
    /// under its lock, under which the bytes are copied from where they are by then. In a file a block stays as long as
    /// anybody needs it.
    pub(super) fn read(&mut self, pager: &Pager, work: &Work) -> Outcome {
        let Ok(mut whole) = self.fetch_whole(pager, &work.sources) else {
            pager.count(|c| &c.spill_errors);
            return Outcome::Failed;
        };
        let (to, first) = if work.staged {
            (self.staged, 0)
        } else {
            let before = self.stopwatch.enter(Phase::Place);
            open(pager, work);
            populate(pager, work);
            self.stopwatch.leave(before);
            (pager.places.pool(), work.frames.start.0 as usize)
        };
        for (page, (block, before)) in (first..).zip(work.blocks.iter().zip(&work.sources)) {
            let bytes = match block.map_or(Found::Nothing, |block| self.find(pager, block)) {
                Found::Nothing => {
                    to.with_page(page, |page| page.fill(0));
                    continue;
                }
                Found::Copied(source) => (source, None),
                Found::InFile(source, file, at) => {
                    if source != *before {
                        // It has come to the file meanwhile, and takes the buffer that has all the others.
                        whole = None;
                    }
                    match self.file_bytes(pager, file, at, source.len, whole) {
                        Ok(bytes) => (source, Some(bytes)),
                        Err(_) => {
                            pager.count(|c| &c.spill_errors);
                            return Outcome::Failed;
                        }
                    }
                }
            };
            let (source, in_file) = bytes;
            let bytes = match &in_file {
                Some(bytes) => &self.transfer.bytes()[bytes.clone()],
                None => &self.out[..usize::from(source.len)],
            };
            if to.with_page(page, |page| unpack(&mut self.codec, page, bytes, &source)) {
                continue;
            }
            // Nobody may need it any more: then its place in a file may be another one's already.
            if block.and_then(|block| pager.store.lock().look(block)).is_some() {
                pager.record_damage(in_file.is_some(), bytes);
                pager.count(|c| &c.checksum_errors);
            }
            return Outcome::Corrupt;
        }
        Outcome::Done
    }

    /// Looks where a block is. From RAM its bytes are copied at once.
    fn find(&mut self, pager: &Pager, block: Block) -> Found {
        let store = pager.store.lock();
        let Some(source) = store.look(block) else { return Found::Nothing };
        match source.place {
            Place::Zero => Found::Nothing,
            Place::Ram { at } => {
                let (at, len) = (at as usize * STORE_UNIT, usize::from(source.len));
                pager.places.store().read(at, len, |bytes| self.out[..len].copy_from_slice(bytes));
                Found::Copied(source)
            }
            Place::File { file, at } => Found::InFile(source, file, at),
        }
    }

    /// Reads all that `sources` have in a file into the transfer buffer at once, if it lies close together.
    /// Returns the file offset of the buffer's first byte.
    fn fetch_whole(&mut self, pager: &Pager, sources: &[Stored]) -> Result<Option<u64>, Errno> {
        let mut reach = Reach::default();
        sources.iter().for_each(|source| reach.add(source));
        if reach.is_empty() {
            return Ok(None);
        }
        let in_file = sources.iter().filter(|s| matches!(s.place, Place::File { .. })).count();
        pager.add(|c| &c.spill_read_pages, in_file as u64);
        let Some((file, start, end)) = reach.range() else { return Ok(None) };
        let start = start / PAGE_SIZE as u64 * PAGE_SIZE as u64;
        self.read_file(pager, file, start, (end - start) as usize)?;
        pager.come_late();
        Ok(Some(start))
    }

    /// Where in the transfer buffer the `len` bytes at offset `at` of a file are; read now unless `whole` is.
    fn file_bytes(
        &mut self,
        pager: &Pager,
        file: u16,
        at: u64,
        len: u16,
        whole: Option<u64>,
    ) -> Result<Range<usize>, Errno> {
        let len = usize::from(len);
        if let Some(start) = whole {
            let from = (at - start) as usize;
            return Ok(from..from + len);
        }
        self.read_file(pager, file, at, len)?;
        let from = (at % PAGE_SIZE as u64) as usize;
        Ok(from..from + len)
    }

    /// Reads from a spill file into the transfer buffer. The handler may have waited here for long: it beats before
    /// the wait is over, or it would seem to hang until the fault is answered.
    fn read_file(&mut self, pager: &Pager, file: u16, at: u64, len: usize) -> Result<(), Errno> {
        let file = pager.spill_file(file)?;
        pager.count_disk_read(((at % ALIGN as u64) as usize + len).next_multiple_of(ALIGN));
        let before = self.stopwatch.enter(Phase::Read);
        let read = pager.watchdog.disk(|| {
            let read = self.transfer.read_direct(&file, at, len).map(|_| ());
            pager.watchdog.handler_beat();
            read
        });
        self.stopwatch.leave(before);
        if self.asked_at != 0 {
            self.read_ns = Some(now_ns() - self.asked_at);
        }
        read
    }

    /// Hashes, compresses and stores.
    fn write(&mut self, pager: &Pager, work: &mut Work) -> Outcome {
        pager.store.lock().known(work);
        self.pack(pager, work);
        let wanted = pager.tables_behind().engine.wants(work.ticket);
        if !wanted || !pager.store.lock().place(&mut StoreRam(&pager.places), work) {
            return Outcome::Refused;
        }
        let mut file_bytes = None;
        for (i, frame) in work.frames.iter().enumerate() {
            let Some(place) = work.targets[i] else { continue };
            let raw = matches!(work.packed[i], Packed::Raw { .. });
            match place {
                Place::Zero => {}
                Place::Ram { at } => {
                    let len = stored_len(work.packed[i]);
                    if pager.places.open_store(at as usize * STORE_UNIT + len).is_err() {
                        return Outcome::Failed;
                    }
                    pager.places.store().with(at as usize * STORE_UNIT, len, |to| {
                        self.contents(pager, i, frame.0, raw, |from| to.copy_from_slice(&from[..len]));
                        pager.damage_stored(to);
                    });
                }
                Place::File { file, at } => {
                    let (_, start, _) = *file_bytes.get_or_insert((file, at, 0));
                    let len = stored_len(work.packed[i]);
                    let to = (at - start) as usize;
                    file_bytes = Some((file, start, to + len));
                    self.contents_to_transfer(pager, i, frame.0, raw, to, len);
                }
            }
        }
        let Some((file, start, len)) = file_bytes else { return Outcome::Done };
        self.flush(pager, file, start, len)
    }

    fn pack(&mut self, pager: &Pager, work: &mut Work) {
        self.offsets.clear();
        let mut end = 0;
        for (i, frame) in work.frames.iter().enumerate() {
            let known = work.known[i];
            let packed = pager.places.pool().with_page(frame.0 as usize, |page: &mut Page| {
                self.codec.pack(page, known, work.tight, &mut self.out)
            });
            self.offsets.push(end as u32);
            if let Packed::Small { len, .. } = packed {
                let len = usize::from(len);
                self.packed.bytes_mut()[end..end + len].copy_from_slice(&self.out[..len]);
                end += len;
            }
            work.packed.push(packed);
        }
    }

    fn contents(&self, pager: &Pager, i: usize, frame: u32, raw: bool, with: impl FnOnce(&[u8])) {
        if raw {
            pager.places.pool().with_page(frame as usize, |page| with(page));
        } else {
            with(&self.packed.bytes()[self.offsets[i] as usize..]);
        }
    }

    fn contents_to_transfer(
        &mut self,
        pager: &Pager,
        i: usize,
        frame: u32,
        raw: bool,
        to: usize,
        len: usize,
    ) {
        let target = &mut self.transfer.bytes_mut()[to..to + len];
        if raw {
            pager.places.pool().with_page(frame as usize, |page| target.copy_from_slice(&page[..len]));
        } else {
            let from = self.offsets[i] as usize;
            target.copy_from_slice(&self.packed.bytes()[from..from + len]);
        }
        pager.damage_stored(target);
    }

    /// Moves blocks from RAM to the file: they lie side by side there.
    fn spill(&mut self, pager: &Pager, work: &Work) -> Outcome {
        let mut first = None;
        let mut end = 0;
        for (source, target) in work.sources.iter().zip(&work.targets) {
            let (Place::Ram { at }, Some(Place::File { file, at: to })) = (source.place, *target) else {
                continue;
            };
            let (_, start) = *first.get_or_insert((file, to));
            let (to, len) = ((to - start) as usize, usize::from(source.len));
            pager.places.store().read(at as usize * STORE_UNIT, len, |bytes| {
                self.transfer.bytes_mut()[to..to + len].copy_from_slice(bytes);
            });
            end = to + len;
        }
        match first {
            Some((file, start)) => self.flush(pager, file, start, end),
            None => Outcome::Done,
        }
    }

    fn flush(&mut self, pager: &Pager, file: u16, start: u64, len: usize) -> Outcome {
        let Ok(file) = pager.spill_file(file) else { return Outcome::Failed };
        pager.add(|c| &c.spilled_bytes, len.next_multiple_of(PAGE_SIZE) as u64);
        if !pager.damage_written(&mut self.transfer.bytes_mut()[..len], file.file, start) {
            return Outcome::Done;
        }
        match pager.watchdog.disk(|| self.transfer.write_direct(&file, start, len)) {
            Ok(()) => Outcome::Done,
            Err(errno) => {
                pager.spill_failed(errno);
                Outcome::Failed
            }
        }
    }
}

/// Tells the store and the engine how a job has ended.
fn end(
    pager: &Pager,
    tables: &mut Tables,
    mover: &mut LinuxMmu<'_>,
    work: &mut Work,
    outcome: Outcome,
) -> Result<(), Halt> {
    let mut memory = StoreRam(&pager.places);
    match work.kind {
        JobKind::Spill => {
            pager.store.lock().spilled(&mut memory, work, outcome);
            tables.engine.look_at_store(mover);
            return Ok(());
        }
        // Under one lock with what the engine makes of it, so that each block is always somebody's.
        JobKind::Write if outcome != Outcome::Refused => {
            pager.store.lock().written(&mut memory, work, outcome);
        }
        JobKind::Write | JobKind::Read | JobKind::Zero => {}
    }
    tables.engine.finish(mover, work, outcome)
}

/// Brings a page back from its stored bytes, and says whether it is the one that was stored.
fn unpack(codec: &mut Codec, page: &mut Page, bytes: &[u8], source: &Stored) -> bool {
    let whole = match bytes.len() {
        PAGE_SIZE => {
            page.copy_from_slice(bytes);
            true
        }
        _ => codec.decompress(bytes, page),
    };
    whole && codec.hash(page) == source.hash
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Refused only for what is not mapped.
        let _ = mmap::unmap_buffer(self.staged.base(), self.staged.len());
    }
}

fn stored_len(packed: Packed) -> usize {
    match packed {
        Packed::Small { len, .. } => usize::from(len),
        Packed::Raw { .. } => PAGE_SIZE,
        Packed::Same | Packed::Zero => 0,
    }
}

/// Frames that read as zeroes: they have no memory behind them yet, and what the kernel gives is zeroed.
fn zero(pager: &Pager, work: &Work) -> Outcome {
    open(pager, work);
    if !populate(pager, work) {
        let (at, len) = place_of(work.frames);
        pager.places.pool().with(at, len, |bytes| bytes.fill(0));
    }
    Outcome::Done
}

/// Lets the frames of a fill be written. The faults that wait for it can't be answered without.
fn open(pager: &Pager, work: &Work) {
    if let Err(errno) = pager.places.open_frames(work.frames) {
        die!(
            "the kernel refuses memory for a fault ({errno}): vm.overcommit_ratio may be raised",
            errno = Cause(errno)
        );
    }
}

/// Gets memory for the frames of a fill, if they have none, in one call. Where that is refused, a touch gets it.
fn populate(pager: &Pager, work: &Work) -> bool {
    let (at, len) = place_of(work.frames);
    work.fresh && mmap::advise(pager.places.pool().base() + at, len, Advice::PopulateWrite).is_ok()
}

/// Where in the pool frames are, and their length, in bytes.
fn place_of(frames: FrameRun) -> (usize, usize) {
    (frames.start.0 as usize * PAGE_SIZE, frames.pages as usize * PAGE_SIZE)
}

/// The engine can't go on: the process ends with the reason, and what to do about it.
pub(super) fn stop(halt: Halt) -> ! {
    match halt {
        Halt::Corrupt => {
            let code = super::pager().map_or(0, |pager| pager.damage.load(Relaxed));
            die!("the checksum of stored memory is wrong: {}", Damage::decode(code))
        }
        Halt::Unreadable => die!(
            "stored memory can't be read back from the spill file; the contents are lost. Check the disk \
             that --swap-dir names, or run with --no-spill"
        ),
        Halt::NoProgress => {
            die!("a page fault is answered again and again without effect; please report this")
        }
        Halt::Unmappable => {
            die!("the kernel refuses a page of the program's memory every way there is; see quire doctor")
        }
    }
}

/// A stored page whose contents came back different.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Damage {
    /// Whether it was in the spill file.
    in_file: bool,
    /// What its bytes are now.
    form: Option<Form>,
}

impl Damage {
    const FORMS: [Option<Form>; 4] = [None, Some(Form::Raw), Some(Form::Lz4), Some(Form::Zstd)];

    /// As a number that is not 0.
    fn encode(self) -> u32 {
        let form = Self::FORMS.iter().position(|form| *form == self.form).unwrap_or(0) as u32;
        1 + form + 4 * u32::from(self.in_file)
    }

    fn decode(code: u32) -> Damage {
        let code = code.saturating_sub(1) as usize;
        Damage { in_file: code >= 4, form: Self::FORMS[code % 4] }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = match self.form {
            Some(Form::Raw) => "as it was",
            Some(Form::Lz4) => "by lz4",
            Some(Form::Zstd) => "by zstd",
            None => "in some way",
        };
        if self.in_file {
            write!(
                f,
                "a page that was stored {form} in the spill file came back different. Check that disk, or run with --no-spill"
            )
        } else {
            write!(
                f,
                "a page that was stored {form} in RAM came back different. The program may write where it should not, or the machine's memory be at fault"
            )
        }
    }
}

impl Pager {
    /// Records what was damaged.
    fn record_damage(&self, in_file: bool, bytes: &[u8]) {
        self.damage.store(Damage { in_file, form: Form::of(bytes) }.encode(), Relaxed);
    }

    /// Adds to one of the shared counters.
    pub(super) fn add(&self, which: impl Fn(&Counters) -> &AtomicU64, amount: u64) {
        if let Some(account) = self.account() {
            which(&account.counters).fetch_add(amount, Relaxed);
        }
    }

    pub(super) fn count(&self, which: impl Fn(&Counters) -> &AtomicU64) {
        self.add(which, 1);
    }
}

#[cfg(test)]
mod tests;
