//! The host of a replay: it plays events, answers the faults that come of them, and keeps the clock.

use super::costs::Costs;
use super::figures::{Cause, Figures, Level, Sample, Series, in_base_pages};
use super::jobs::{self, Traffic};
use super::memory::Memory;
use super::ranges::Ranges;
use super::service::Service;
use super::table::{READS, WRITES, flag};
use super::{Cell, NO_LIMIT, NO_LIMIT_FRAGMENTED, fragmentation};
use crate::tlb::{Counts, Lookup, Tlb};
use crate::trace::{self, Access, Event};
use core::fmt;
use core::ops::Range;
use quire_core::job::{JobKind, Outcome, Work};
use quire_core::mmu::{Prot, Refusal};
use quire_core::{Config, Engine, Fault, Halt, Order, PAGE_SIZE, Reclaim, Space, Store, Urgency, Vpn};

/// Pages that a fault goes over the grant where nothing can be moved out, as on the live host.
const OVERDRAFT: u32 = 64;

/// Why a replay can't go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// The trace can't be read further.
    Trace(trace::Error),
    /// The engine can't go on.
    Halt(Halt),
    /// Every frame is in use, and nothing can be moved out.
    NoFrame,
    /// The engine answered what it does not answer to a host that does one thing at a time.
    Bug(&'static str),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Trace(error) => error.fmt(f),
            Stop::Halt(halt) => write!(f, "the engine stops: {halt:?}"),
            Stop::NoFrame => {
                f.write_str("every frame is in use and nothing can be moved out: allow more memory")
            }
            Stop::Bug(what) => write!(f, "{what}: please report this"),
        }
    }
}

impl std::error::Error for Stop {}

impl From<Refusal> for Stop {
    fn from(_: Refusal) -> Stop {
        Stop::Bug("a call on simulated tables was refused")
    }
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Host<T> {
    pub(super) engine: Engine,
    pub(super) memory: Memory<T>,
    /// The engine's space of each program, by the number that the trace has for it.
    programs: Vec<Option<Space>>,
    /// What each has mapped, in pages of 4 KiB.
    ranges: Vec<Ranges<Option<Prot>>>,
    pub(super) service: Service,
    /// What things cost, for 4 KiB.
    costs: Costs,
    /// Now, in ns.
    pub(super) clock: u64,
    pub(super) traffic: Traffic,
    /// The job of a fault.
    work: Work,
    time: [u64; Cause::COUNT],
    passed_ns: u64,
    pub(super) events: u64,
    accesses: u64,
    denied: u64,
    pub(super) implied: u64,
    faults: u64,
    /// Frames that somebody holds for good, and the faults that this took.
    held: (u32, u64),
    levels: Levels,
    series: Series,
    /// The number of events at which the next sample is due.
    due: u64,
}

#[derive(Debug, Default)]
struct Levels {
    resident: Level,
    wasted: Level,
    charged: Level,
    lru: Level,
    /// The modelled time up to which they have been summed up.
    until: u64,
}

impl<T: Tlb> Host<T> {
    pub(super) fn new(cell: &Cell, tlb: T) -> Result<Host<T>, Stop> {
        let config = config(cell);
        let (mut engine, mut store) = (Engine::new(config), store(cell));
        let held = held(cell);
        let holding = if held > 0 { fragmentation::hold(&mut engine, config.frames, held)? } else { 0 };
        engine.set_grant(config.grant);
        engine.set_policy(config.policy);
        match cell.memory {
            Some(pages) if cell.spill => store.open_file(0, spill_limit(cell, pages)),
            Some(_) => {}
            None => engine.set_evicts(false),
        }
        Ok(Host {
            engine,
            memory: Memory::new(tlb, cell.tlb, cell.paging.base, &cell.costs, store),
            // The engine begins with one space.
            programs: vec![Some(Space(0))],
            ranges: Vec::new(),
            service: Service::new(epoch(cell)),
            costs: cell.costs,
            clock: 0,
            traffic: Traffic::default(),
            work: Work::new(),
            time: [0; Cause::COUNT],
            passed_ns: 0,
            events: 0,
            accesses: 0,
            denied: 0,
            implied: 0,
            faults: 0,
            held: (held, holding),
            levels: Levels::default(),
            series: Series::new(),
            due: 0,
        })
    }

    /// Plays one event.
    #[inline]
    pub(super) fn play(&mut self, event: Event) -> Result<(), Stop> {
        self.events += 1;
        if self.events >= self.due {
            self.sample();
        }
        match event {
            Event::Access(access) => self.access(access),
            event => self.play_call(event),
        }
    }

    /// The engine's space of a program.
    #[inline]
    pub(super) fn space_of(&mut self, program: Space) -> Result<Space, Stop> {
        match self.programs.get(usize::from(program.0)) {
            Some(&Some(space)) => Ok(space),
            _ => self.begin_program(program),
        }
    }

    #[cold]
    fn begin_program(&mut self, program: Space) -> Result<Space, Stop> {
        let space = self.engine.create_space();
        let space = space.map_err(|_| Stop::Bug("the trace has more programs than there are spaces"))?;
        self.set_space(program, space);
        Ok(space)
    }

    pub(super) fn set_space(&mut self, program: Space, space: Space) {
        let number = usize::from(program.0);
        if self.programs.len() <= number {
            self.programs.resize(number + 1, None);
        }
        self.programs[number] = Some(space);
    }

    /// A program ends: the space it had, if it has begun.
    pub(super) fn end_program(&mut self, program: Space) -> Option<Space> {
        self.programs.get_mut(usize::from(program.0))?.take()
    }

    /// What a program has mapped, in pages of 4 KiB.
    pub(super) fn ranges_of(&mut self, program: Space) -> &mut Ranges<Option<Prot>> {
        let number = usize::from(program.0);
        if self.ranges.len() <= number {
            self.ranges.resize(number + 1, Ranges::default());
        }
        &mut self.ranges[number]
    }

    /// The page of the machine that 4 KiB are part of.
    #[inline]
    pub(super) fn page_of(&self, vpn: Vpn) -> Vpn {
        Vpn(vpn.0 >> self.memory.base.index())
    }

    /// The parts of a page of the machine, 4 KiB each.
    pub(super) fn parts_of(&self, page: Vpn) -> Range<u64> {
        let order = self.memory.base.index();
        page.0 << order..(page.0 + 1) << order
    }

    #[inline]
    pub(super) fn access(&mut self, access: Access) -> Result<(), Stop> {
        let space = self.space_of(access.space)?;
        if self.service.at <= self.clock {
            self.work_behind()?;
        }
        let Access { vpn, write, times, .. } = access;
        let page = self.page_of(vpn);
        let mut entry = self.memory.entry(space, page);
        if !entry.has(if write { WRITES } else { READS }) {
            if !self.first_access(access, space)? {
                return Ok(());
            }
            entry = self.memory.entry(space, page);
        }
        self.accesses += u64::from(times);
        let more = match self.memory.tlb.access(space, page, entry.mapping()) {
            Lookup::L1 => 0,
            Lookup::L2 => self.memory.costs.second_level,
            Lookup::Miss => {
                if !entry.has(flag::ACCESSED) {
                    self.memory.walked(space, page, entry.mapping());
                }
                self.memory.costs.walk
            }
        };
        self.spend(Cause::Access, u64::from(times) * self.memory.costs.access);
        self.spend(Cause::Walk, more);
        Ok(())
    }

    /// An access that changes the page's entry, or faults first. Whether it may happen at all.
    #[cold]
    fn first_access(&mut self, access: Access, space: Space) -> Result<bool, Stop> {
        let Access { space: program, vpn, write, times } = access;
        let page = self.page_of(vpn);
        // Where only the accessed bit is missing, a walk sets it.
        let set = (if write { WRITES } else { READS }) & !flag::ACCESSED;
        let rights = match self.memory.entry(space, page).has(set) {
            true => Prot::READ_WRITE,
            false => self.imply(program, vpn)?,
        };
        let rights = rights.bits();
        if rights & 3 == 0 || write && rights & 2 == 0 {
            self.denied += u64::from(times);
            return Ok(false);
        }
        let needs = flag::PRESENT | if write { flag::WRITE } else { 0 };
        // Reclaim behind may take the page away again before its thread runs.
        while !self.memory.entry(space, page).has(needs) {
            self.fault(space, page, write)?;
        }
        let part = vpn.0 - self.parts_of(page).start;
        self.memory.touch(space, page, part as u32, write);
        self.note_levels();
        Ok(true)
    }

    fn fault(&mut self, space: Space, page: Vpn, write: bool) -> Result<(), Stop> {
        self.faults += 1;
        self.spend(Cause::Fault, self.memory.costs.fault);
        loop {
            self.work_behind()?;
            let fault = match write {
                true => self.engine.write_fault(&mut self.memory, space, page, &mut self.work),
                false => self.engine.fault(&mut self.memory, space, page, &mut self.work),
            };
            self.pay(Cause::Map);
            match fault {
                Fault::Mapped => break,
                Fault::Job => {
                    self.fill()?;
                    break;
                }
                Fault::NoFrame => self.make_room()?,
                Fault::Halt(halt) => return Err(Stop::Halt(halt)),
                Fault::Joined => return Err(Stop::Bug("a fault has joined a fill that nobody runs")),
                Fault::Outside => return Err(Stop::Bug("a mapped page is outside")),
            }
        }
        self.ring();
        Ok(())
    }

    /// Runs the job of a fault, which waits for it.
    fn fill(&mut self) -> Result<(), Stop> {
        let memory = &mut self.memory;
        let taken = match self.work.kind {
            JobKind::Zero => jobs::zero(memory, &self.work),
            JobKind::Read => jobs::read(memory, &mut self.work, &mut self.traffic),
            JobKind::Write | JobKind::Spill => return Err(Stop::Bug("a fault asks for a write")),
        };
        let zeroes = self.work.kind == JobKind::Zero;
        self.spend(if zeroes { Cause::Zero } else { Cause::Expand }, taken.cpu);
        if taken.disk > 0 {
            self.spend(Cause::Disk, taken.disk);
            self.memory.store.note_read(taken.disk);
        }
        self.work_behind()?;
        self.engine.finish(&mut self.memory, &self.work, Outcome::Done).map_err(Stop::Halt)?;
        self.pay(Cause::Map);
        Ok(())
    }

    /// One step of reclaim for a fault without a frame.
    fn make_room(&mut self) -> Result<(), Stop> {
        let step = self.engine.reclaim(&mut self.memory, Urgency::Direct, &mut self.work);
        self.pay(Cause::Reclaim);
        match step {
            Reclaim::Idle | Reclaim::Progress => Ok(()),
            Reclaim::Job => self.run_direct(),
            Reclaim::Waiting if self.await_behind()? => Ok(()),
            Reclaim::Waiting => Err(Stop::Bug("reclaim waits for a job that nobody runs")),
            Reclaim::Stuck if self.engine.overdraw(self.in_pages(OVERDRAFT)) => Ok(()),
            Reclaim::Stuck => Err(Stop::NoFrame),
        }
    }

    /// Runs a job of reclaim that a fault waits for.
    fn run_direct(&mut self) -> Result<(), Stop> {
        let (memory, work) = (&mut self.memory, &mut self.work);
        let ns = match work.kind {
            JobKind::Spill => jobs::spill(&memory.costs, work, &mut self.traffic),
            _ => jobs::pack(memory, work),
        };
        self.spend(Cause::Reclaim, ns);
        let placed = jobs::place(&self.engine, &mut self.memory, &mut self.work);
        if placed && self.work.kind == JobKind::Write {
            let ns = jobs::write(&self.memory.costs, &self.work, &mut self.traffic);
            self.spend(Cause::Reclaim, ns);
        }
        jobs::finish(&mut self.engine, &mut self.memory, &mut self.work, placed)?;
        self.pay(Cause::Reclaim);
        Ok(())
    }

    /// Time that the program loses to something.
    #[inline]
    pub(super) fn spend(&mut self, cause: Cause, ns: u64) {
        self.clock += ns;
        self.time[cause as usize] += ns;
    }

    /// The same for what verbs have cost that the program waited for.
    pub(super) fn pay(&mut self, cause: Cause) {
        self.memory.settle(&self.engine);
        // The cost of a verb has that of its flush in it.
        self.memory.flushed();
        let ns = self.memory.spent();
        self.spend(cause, ns);
    }

    /// Time passes by itself.
    pub(super) fn pass(&mut self, ns: u64) -> Result<(), Stop> {
        self.clock = self.clock.saturating_add(ns).min(super::service::NEVER - 1);
        self.passed_ns = self.passed_ns.saturating_add(ns);
        self.work_behind()
    }

    /// As many pages of the machine as 4 KiB pages, one at least.
    fn in_pages(&self, pages: u32) -> u32 {
        (pages / self.memory.base.pages()).max(1)
    }

    /// 4 KiB pages.
    fn in_parts(&self, pages: u64) -> u64 {
        pages * u64::from(self.memory.base.pages())
    }

    fn modelled_ns(&self) -> u64 {
        self.time.iter().sum()
    }

    /// Levels have changed, after what they were until now.
    pub(super) fn note_levels(&mut self) {
        let now = self.modelled_ns();
        let resident = self.in_parts(self.memory.present);
        let charged = self.in_parts(u64::from(self.engine.charged() - self.held.0));
        let levels = &mut self.levels;
        let values = [
            (&mut levels.resident, resident),
            (&mut levels.wasted, self.memory.untouched),
            (&mut levels.charged, charged),
            (&mut levels.lru, u64::from(self.engine.lru_folios())),
        ];
        for (level, value) in values {
            level.advance(now - levels.until);
            level.set(value);
        }
        levels.until = now;
    }

    #[cold]
    fn sample(&mut self) {
        self.series.push(Sample {
            events: self.events - 1,
            resident: self.in_parts(self.memory.present),
            wasted: self.memory.untouched,
            faults: self.faults,
            ns: self.modelled_ns(),
        });
        self.due = self.series.due() + 1;
    }

    /// What has been found.
    pub(super) fn figures(mut self) -> Figures {
        self.note_levels();
        self.events += 1;
        self.sample();
        let mut stats = *self.engine.stats();
        stats.zero_fills[0] -= self.held.1;
        let base = self.memory.base;
        let in_bytes = |(bytes, calls): (u64, u64)| (self.in_parts(bytes), calls);
        Figures {
            events: self.events - 1,
            accesses: self.accesses,
            denied: self.denied,
            implied: self.implied,
            faults: self.faults,
            stats: in_base_pages(stats, base),
            // That other programs displace what is in the TLB is no flush.
            tlb: Counts { full_flushes: 0, ..*self.memory.tlb.counts() },
            moved_pages: self.memory.moved,
            epochs: self.service.epochs,
            zeroed_bytes: self.memory.zeroed_bytes,
            expanded_pages: self.in_parts(self.traffic.expanded_pages),
            disk_read: in_bytes(self.traffic.read),
            disk_written: in_bytes(self.traffic.written),
            resident: self.levels.resident,
            wasted: self.levels.wasted,
            charged: self.levels.charged,
            lru: self.levels.lru,
            time: self.time,
            behind_ns: self.service.worked,
            passed_ns: self.passed_ns,
            series: self.series,
            costs: self.costs,
        }
    }
}

/// The machine of a cell has as many frames as memory, so that long runs of them are hard to come by; and a few more,
/// where nothing can be moved out. What somebody holds comes on top.
fn config(cell: &Cell) -> Config {
    let (frames, held) = (free_frames(cell) + held(cell), held(cell));
    let policy = cell.paging.policy;
    match cell.memory {
        Some(pages) => Config { frames, grant: (pages >> cell.paging.base.index()) + held, policy },
        None => Config { frames, grant: frames, policy },
    }
}

/// Its store.
fn store(cell: &Cell) -> Store {
    let pages = cell.memory.unwrap_or_default() >> cell.paging.base.index();
    let segment_pages = (pages / 256).next_power_of_two().clamp(2, 16);
    Store::new(pages / segment_pages + 64, segment_pages, config(cell).grant)
}

/// How often folios are shaped, in ns; 0: never. There is nothing to shape where there are base pages only.
fn epoch(cell: &Cell) -> u64 {
    let shapes = cell.memory.is_some() && cell.paging.base == Order::BASE;
    if shapes { cell.epoch_ns } else { 0 }
}

/// Frames that are free at the start.
fn free_frames(cell: &Cell) -> u32 {
    let pages = match cell.memory {
        Some(pages) => (pages + OVERDRAFT).next_multiple_of(Order::MAX.pages()),
        None if cell.fragmentation > 0 => NO_LIMIT_FRAGMENTED,
        None => NO_LIMIT,
    };
    pages >> cell.paging.base.index()
}

/// Frames that are somebody's from start to end. Larger base pages know no fragmentation: what can't be moved takes whole
/// ones, and all others are as good as ever.
fn held(cell: &Cell) -> u32 {
    let percent = if cell.paging.base == Order::BASE { cell.fragmentation } else { 0 };
    fragmentation::held(free_frames(cell), percent)
}

/// Bytes that the spill file may come to have: 256 times the memory, at least 4 GiB, as on the live host. In units of the
/// store.
fn spill_limit(cell: &Cell, pages: u32) -> u64 {
    (u64::from(pages) * 256 * PAGE_SIZE as u64).clamp(4 << 30, 1 << 40) >> cell.paging.base.index()
}
