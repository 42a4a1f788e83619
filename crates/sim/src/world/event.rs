//! What can happen to a host.

use super::{Host, Touch, stopped};
use crate::cells;
use crate::inject::{Injection, Lasting};
use crate::waiters::Message;
use quire_core::mmu::Prot;
use quire_core::vma::Hint;
use quire_core::{Frame, Halt, Order, PageRange, PolicyKind, Shaping, SplitMode, Urgency, Vpn};

use crate::checker::Model;

/// Contents that a program writes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Put {
    /// Zeroes.
    Zero,
    /// Something that compresses to 768 bytes.
    Small,
    /// Something that does not compress.
    Raw,
    /// One page in eight does not compress, the others to different lengths.
    Any,
}

impl Put {
    /// A version that was never written before. What it compresses to is a matter of its lowest bits.
    pub(super) fn value(self, model: &mut Model) -> u64 {
        match self {
            Put::Zero => 0,
            Put::Small => model.fresh() * 8 + 1,
            Put::Raw => model.fresh() * 8 + 7,
            Put::Any => {
                let n = model.fresh();
                n * 8 + n % 8
            }
        }
    }
}

/// One thing that happens. Numbers of threads, jobs and messages are taken modulo how many there are, so that a list
/// of events stays one when some are left out; an event that finds nothing to happen to does nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    /// A thread that does not wait touches a page.
    Touch(u8, Touch),
    /// A handler reads the message of a thread.
    Take(u8),
    /// A handler answers a message it has read.
    Serve(u8),
    /// A handler reads a message and answers it at once.
    Handle(u8),
    /// A message for which there was no frame is tried again.
    Retry(u8),
    /// A handler answers a message about a page, perhaps of a write, that nobody waits for any more.
    Message(Vpn, bool),
    /// One step of reclaim.
    Reclaim(Urgency),
    /// A host moves out, between two faults, what is to be stored later.
    MoveOut(u32),
    /// More than the grant is allowed.
    Overdraw(u32),
    /// A job goes one step on.
    Step(u8),
    /// A job runs to its end.
    Run(u8),
    /// A job fails. If the process can't live with that, only its end is played.
    Fail(u8),
    /// The store is slow: a job makes no step for so many events.
    Hold(u8, u32),
    /// From now on nothing can be stored, or again as before.
    Full(bool),
    /// So many epochs pass, and the engine does what it does in the last of them.
    Tend(u32),
    /// The folios of a range become one, if they can.
    Collapse(Vpn, Order),
    /// A run of frames is vacated, if it can be.
    Vacate(Frame, Order),
    /// The host stops telling what is accessed, or tells again.
    Blind(bool),
    /// Into what sparse folios are split, and how large a run of small ones may become.
    Shape(SplitMode, Order),
    /// Frames are zeroed ahead of need.
    ZeroAhead(u32, Order),
    /// The grant changes.
    Grant(u32),
    /// The host's own tables take so many pages.
    Overhead(u32),
    /// The store's part of the grant changes, in thirty-seconds.
    Division(u32),
    /// A new spill file is opened, of so many bytes.
    OpenFile(u64),
    /// The program has written pages before the engine knew of it, which takes them over in folios of at most this order.
    Adopt(Vpn, u64, Order, Put),
    /// The program maps pages.
    Map(Vpn, u64, Prot),
    /// The program unmaps pages.
    Unmap(Vpn, u64),
    /// The program discards pages.
    Discard(Vpn, u64),
    /// The program discards pages, and nobody tells the engine.
    Foreign(Vpn, u64),
    /// The program changes rights.
    Protect(Vpn, u64, Prot),
    /// The program locks pages or unlocks them.
    Lock(Vpn, u64, bool),
    /// The program moves pages.
    Remap(Vpn, u64, Vpn),
    /// The program says what it will do.
    Advise(Vpn, u64, Hint),
    /// The program will not need pages soon.
    Deactivate(Vpn, u64),
    /// The program wants pages moved out.
    PageOut(Vpn, u64),
    /// A page is pinned for I/O, or let go.
    Pin(Vpn, bool),
    /// The order policy changes.
    Policy(PolicyKind),
    /// The next verb of this kind is refused.
    Inject(Injection),
    /// For so many events a verb is refused for some pages whenever it is called.
    Refuse(Lasting, u32),
    /// The process forks, and the child, with an engine of its own, lives until it has read all its pages.
    Fork,
    /// What comes next, process number so many does.
    Process(u8),
    /// The process at hand forks within the engine, if there are not too many.
    ForkSpace,
    /// A process exits, if it is not the last one.
    Exit(u8),
}

/// Processes at a time.
const MOST_SPACES: usize = 4;

/// Late messages about one page in a row, after which no more are made up. The engine stops at eleven.
const MOST_LATE: u8 = 4;

/// Bites that the work of an epoch takes at the most, in the small memories that are walked.
const MOST_BITES: u32 = 1000;

/// An index into `len` things, if there are any.
fn pick(number: u8, len: usize) -> Option<usize> {
    (len > 0).then(|| usize::from(number) % len)
}

impl Host {
    /// Lets an event happen and checks everything, or if it is watched what it has changed.
    pub fn happen(&mut self, event: Event) -> Result<(), String> {
        self.events += 1;
        self.mmu.injector.forget_strikes();
        self.recount_event();
        self.left.clear();
        self.appeared.clear();
        if self.events > self.lifted {
            self.mmu.injector.lasting = None;
        }
        self.ages_before(event);
        self.play_on(event)?;
        self.learn();
        self.judge_wakes(Some(event))?;
        self.let_woken_run()?;
        self.settle_cells();
        self.check_ages(event)?;
        self.check_now()
    }

    /// Where what the engine needs is refused for good, it says that it can't go on: that is played to the end on the side.
    /// The host goes on as if it were not refused.
    fn play_on(&mut self, event: Event) -> Result<(), String> {
        let fatal = self.mmu.injector.lasting.filter(Lasting::is_fatal);
        if fatal.is_none() || matches!(event, Event::Refuse(..)) {
            return self.play(event);
        }
        let mut aside = self.aside();
        match aside.play(event) {
            Err(why) if why == stopped(Halt::Unmappable) => {}
            // All went well, or goes wrong here as well.
            _ => return self.play(event),
        }
        self.mmu.injector.lasting = None;
        self.play(event)?;
        self.mmu.injector.strikes.extend(aside.mmu.injector.strikes.into_iter().filter(|s| s.lasting));
        Ok(())
    }

    fn play(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Touch(thread, touch) => {
                let thread = thread % self.setup.threads;
                return self.touch(thread, touch);
            }
            Event::Take(thread) => self.take_message(thread % self.setup.threads),
            Event::Serve(number) => return self.answer(number),
            Event::Handle(number) => return self.handle(number),
            Event::Retry(number) => return self.retry(number),
            Event::Reclaim(urgency) => return self.reclaim(urgency).map(|_| ()),
            Event::Message(vpn, write) => return self.make_up(vpn, write),
            Event::MoveOut(pages) => self.move_out(pages),
            Event::Overdraw(pages) => self.overdraw(pages),
            Event::Step(number) => return self.step_one(number),
            Event::Run(number) => return self.run_one(number),
            Event::Fail(number) => return self.fail_one(number),
            Event::Hold(number, events) => {
                if let Some(at) = pick(number, self.jobs.len()) {
                    self.hold(at, events);
                }
            }
            Event::Full(full) => self.set_full(full),
            Event::ZeroAhead(target, order) => self.zero_ahead(target, order),
            Event::Tend(epochs) => return self.tend(epochs),
            Event::Collapse(start, order) => self.collapse(start, order),
            Event::Vacate(start, order) => self.vacate(start, order),
            Event::Blind(blind) => self.mmu.blind = blind,
            Event::Shape(split, largest) => {
                self.engine.set_shaping(Shaping { split, largest, ..Shaping::DEFAULT });
            }
            Event::Grant(pages) => self.engine.set_grant(pages),
            Event::Overhead(pages) => self.set_overhead(pages),
            Event::Division(parts) => self.mmu.store.set_division(parts),
            Event::OpenFile(limit) => self.open_file(limit),
            Event::Policy(policy) => self.engine.set_policy(policy),
            Event::Inject(injection) => self.inject(injection),
            Event::Refuse(lasting, events) => {
                self.mmu.injector.lasting = Some(lasting);
                self.lifted = self.events + u64::from(events);
            }
            Event::Fork => return self.fork_and_read(),
            Event::Process(number) => self.at = self.spaces[usize::from(number) % self.spaces.len()],
            Event::ForkSpace if self.spaces.len() < MOST_SPACES => _ = self.fork_space(),
            Event::Exit(number) if self.spaces.len() > 1 => {
                self.exit(usize::from(number) % self.spaces.len());
            }
            _ => return self.play_verb(event),
        }
        Ok(())
    }

    /// What the program does to its address space.
    fn play_verb(&mut self, event: Event) -> Result<(), String> {
        let at = self.at;
        let run = |start, pages| PageRange::new(at, start, pages);
        match event {
            Event::Adopt(start, pages, most, put) => return self.adopt(run(start, pages), most, put),
            Event::Map(start, pages, prot) => self.map(run(start, pages), prot),
            Event::Unmap(start, pages) => self.unmap(run(start, pages)),
            Event::Discard(start, pages) => self.discard(run(start, pages)),
            Event::Foreign(start, pages) => self.discard_behind(run(start, pages)),
            Event::Protect(start, pages, prot) => return self.protect(run(start, pages), prot),
            Event::Lock(start, pages, locked) => self.lock(run(start, pages), locked),
            Event::Remap(start, pages, to) => self.remap(run(start, pages), to),
            // It notes something of the VMAs, and looks at no page.
            Event::Advise(start, pages, hint) => self.engine.advise(run(start, pages), hint),
            Event::Deactivate(start, pages) => {
                self.meets(cells::Event::Hint, run(start, pages));
                self.engine.deactivate(run(start, pages));
            }
            Event::PageOut(start, pages) => {
                self.meets(cells::Event::Hint, run(start, pages));
                self.engine.page_out(&mut self.mmu, run(start, pages));
            }
            Event::Pin(vpn, pinned) => self.pin(vpn, pinned),
            _ => {}
        }
        Ok(())
    }

    fn pin(&mut self, vpn: Vpn, pinned: bool) {
        self.touches(PageRange::new(self.at, vpn, 1));
        self.forget_refusal(self.at, vpn);
        if pinned {
            self.mmu.pin(self.at, vpn);
        } else {
            self.mmu.unpin(self.at, vpn);
        }
    }

    pub(super) fn overdraw(&mut self, pages: u32) {
        self.recount_overdraft(pages);
        self.engine.overdraw(pages);
    }

    fn move_out(&mut self, pages: u32) {
        let before = self.meets_reclaim();
        self.engine.move_out_behind(&mut self.mmu, pages);
        self.meets_reclaimed(before, false);
    }

    fn collapse(&mut self, start: Vpn, order: Order) {
        let range = PageRange::new(self.at, start, u64::from(order.pages()));
        self.meets_each(cells::Event::Collapse, self.seen_by_collapse(range));
        self.engine.collapse(&mut self.mmu, self.at, start, order);
    }

    fn vacate(&mut self, start: Frame, order: Order) {
        self.meets_each(cells::Event::Vacate, self.seen_by_vacate(start, order));
        self.engine.vacate(&mut self.mmu, start, order);
    }

    fn set_overhead(&mut self, pages: u32) {
        self.overhead = pages;
        if self.full.is_none() {
            self.engine.set_overhead(pages);
        }
    }

    /// A message that nobody sent now. More than a few about one page would be taken for a fault without progress.
    fn make_up(&mut self, vpn: Vpn, write: bool) -> Result<(), String> {
        let message = Message { space: self.at, vpn, write };
        if self.late.2 >= MOST_LATE && (self.late.0, self.late.1) == (self.at, vpn) {
            return Ok(());
        }
        self.serve(message)?;
        // Nobody waits for it, so nobody asks again.
        self.parked.retain(|m| *m != message || self.mmu.waiters.waiting().any(|(_, w)| w == *m));
        Ok(())
    }

    fn answer(&mut self, number: u8) -> Result<(), String> {
        let Some(at) = pick(number, self.held.len()) else { return Ok(()) };
        let message = self.held.remove(at);
        self.serve(message).map(|_| ())
    }

    fn handle(&mut self, number: u8) -> Result<(), String> {
        let unread: Vec<u8> = self.mmu.waiters.unread().map(|(thread, _)| thread).collect();
        let Some(at) = pick(number, unread.len()) else { return Ok(()) };
        self.take_message(unread[at]);
        match self.held.pop() {
            Some(message) => self.serve(message).map(|_| ()),
            None => Ok(()),
        }
    }

    fn run_one(&mut self, number: u8) -> Result<(), String> {
        let Some(at) = pick(number, self.jobs.len()) else { return Ok(()) };
        while !self.is_held(&self.jobs[at]) && !self.step(at)? {}
        Ok(())
    }

    fn retry(&mut self, number: u8) -> Result<(), String> {
        let Some(at) = pick(number, self.parked.len()) else { return Ok(()) };
        let message = self.parked.remove(at);
        self.serve(message).map(|_| ())
    }

    fn step_one(&mut self, number: u8) -> Result<(), String> {
        match pick(number, self.jobs.len()) {
            Some(at) if !self.is_held(&self.jobs[at]) => self.step(at).map(|_| ()),
            _ => Ok(()),
        }
    }

    fn fail_one(&mut self, number: u8) -> Result<(), String> {
        match pick(number, self.jobs.len()) {
            Some(at) if !self.is_held(&self.jobs[at]) => self.fail(at),
            _ => Ok(()),
        }
    }

    /// The work of an epoch, bite by bite; after each everything is checked.
    fn tend(&mut self, epochs: u32) -> Result<(), String> {
        self.epoch += epochs;
        for _ in 0..MOST_BITES {
            if !self.engine.tend(&mut self.mmu, self.epoch) {
                return Ok(());
            }
            self.check_now()?;
        }
        Err("the work of an epoch has no end".into())
    }

    fn inject(&mut self, injection: Injection) {
        self.mmu.injector.clear();
        let version = self.model.fresh();
        self.mmu.injector.appearing = if version.is_multiple_of(3) { 0 } else { version * 8 + 1 };
        self.mmu.inject(injection);
    }
}
