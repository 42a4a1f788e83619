//! The counters of the engine, counted once more: by what its log says that it decided, by the verbs that it called, and by
//! what the host itself knows of messages, jobs and reclaim. Both counts must be equal, each by itself.

use super::Host;
use crate::inject::{Call, Verb};
use crate::waiters::Message;
use quire_core::job::{JobKind, Outcome, Packed, Place, Ticket, Work};
use quire_core::mmu::Refusal;
use quire_core::{Decision, Order, PAGE_SIZE, PageState, Reclaim, SHARED, Space, Stats, Urgency, Vpn};
use std::collections::BTreeSet;

/// Decisions that the engine keeps until they are counted: more than a step of reclaim makes that is refused all it tries.
const KEPT: usize = 4096;

/// What was counted so far.
#[derive(Clone, Debug)]
pub(super) struct Recount {
    /// What the engine should have counted.
    stats: Stats,
    /// Decisions that were counted.
    told: u64,
    /// The decisions of the event at hand, and the verbs it has called.
    pub(super) decided: Vec<Decision>,
    pub(super) calls: Vec<Call>,
    /// Who wants reclaim, while it works.
    urgency: Urgency,
    /// Pages that folios on their way out have moved out, by the log.
    moved: u64,
    /// Folios filled from the store, by order, by the log.
    filled: [u64; Order::COUNT],
    /// Pages of collapsed folios.
    collapsed: u64,
    /// Verbs that were refused, by reason: of those that bring pages in, and of all.
    refused_in: [u64; Refusal::COUNT],
    refused: [u64; Refusal::COUNT],
    /// Jobs that zero ahead: void from the beginning.
    ahead: BTreeSet<Ticket>,
    /// Jobs that ended void.
    void: u64,
}

impl Host {
    /// From now on everything that the engine counts is counted once more. Nothing has happened yet.
    pub fn recount(&mut self) {
        self.engine.set_log(KEPT);
        self.mmu.injector.calls = Some(Vec::new());
        self.recount = Some(Box::new(Recount {
            stats: *self.engine.stats(),
            told: 0,
            decided: Vec::new(),
            calls: Vec::new(),
            urgency: Urgency::Behind,
            moved: 0,
            filled: [0; Order::COUNT],
            collapsed: 0,
            refused_in: Default::default(),
            refused: Default::default(),
            ahead: BTreeSet::new(),
            void: 0,
        }));
    }

    /// An event begins.
    pub(super) fn recount_event(&mut self) {
        if let Some(recount) = &mut self.recount {
            recount.decided.clear();
            recount.calls.clear();
        }
    }

    /// Counts what was decided and done since the last time.
    pub(super) fn catch_up(&mut self) -> Result<(), String> {
        let Some(recount) = &mut self.recount else { return Ok(()) };
        let calls = self.mmu.injector.calls.as_mut().map(core::mem::take).unwrap_or_default();
        calls.iter().for_each(|call| recount.count_call(call));
        recount.calls.extend(calls);
        for (number, decision) in self.engine.log_from(recount.told) {
            if number != recount.told {
                return Err(format!("decisions {}..{number} were lost", recount.told));
            }
            recount.told += 1;
            recount.count_decision(decision);
            recount.decided.push(*decision);
        }
        Ok(())
    }

    /// Whether the engine has counted what it should have.
    pub(super) fn check_counters(&mut self) -> Result<(), String> {
        self.catch_up()?;
        let Some(recount) = &self.recount else { return Ok(()) };
        let mut expected = recount.stats;
        expected.void_jobs = recount.void + self.void_under_way(&recount.ahead);
        let counted = *self.engine.stats();
        if counted != expected {
            return Err(format!("counters are not what happened:{}", differences(&counted, &expected)));
        }
        let moved: u64 =
            (0..).zip(counted.evictions).map(|(order, folios): (u32, u64)| folios << order).sum();
        let sums = [
            ("pages moved out, by the log", recount.moved, moved),
            ("pages evicted, behind and direct", counted.evicted_behind + counted.evicted_direct, moved),
            ("frames given anew", self.mmu.relocated, counted.compacted_pages + recount.collapsed),
        ];
        if let Some((what, found, sum)) = sums.into_iter().find(|(_, found, sum)| found != sum) {
            return Err(format!("counters do not add up: {what}: {found}, not {sum}"));
        }
        if recount.filled != counted.swap_ins {
            return Err(format!("the log has fills {:?}, not {:?}", recount.filled, counted.swap_ins));
        }
        for reason in Refusal::ALL {
            let at = reason.index();
            let (least, most, counted) = (recount.refused_in[at], recount.refused[at], counted.refusals[at]);
            // What may not be moved out is refused without a verb.
            if counted < least || counted > most && reason != Refusal::Denied {
                return Err(format!(
                    "{reason:?} was counted {counted} times, verbs said it {least}..={most} times"
                ));
            }
        }
        Ok(())
    }

    /// Whether the last verb that was called is the copy of a page for a child, refused.
    pub(super) fn has_given_up(&self) -> bool {
        let last = self.mmu.injector.calls.as_ref().and_then(|calls| calls.last());
        last.is_some_and(|call| call.verb == Verb::CopyOut && call.done.refusal.is_some())
    }

    fn void_under_way(&self, ahead: &BTreeSet<Ticket>) -> u64 {
        let void = |work: &Work| {
            !ahead.contains(&work.ticket) && self.engine.job(work.ticket).is_some_and(|(_, counts)| !counts)
        };
        self.jobs.iter().filter(|job| void(&job.work)).count() as u64
    }
}

/// What the host knows.
impl Host {
    /// A message is about to be answered.
    pub(super) fn recount_message(&mut self, message: Message) {
        if self.recount.is_none() {
            return;
        }
        let Message { space, vpn, write } = message;
        let inside = self.engine.vmas(space).at(vpn).is_some();
        let there = self.engine.whereabouts(space, vpn);
        let present = self.mmu.entry(space, vpn).is_some();
        let Some(recount) = &mut self.recount else { return };
        let stats = &mut recount.stats;
        match there.state {
            _ if !inside => stats.outside += 1,
            // What was dropped is empty.
            state if state.is_present() && !present => {}
            PageState::Filling { .. } => stats.joined += 1,
            _ if write && there.sharers == 1 => stats.cow_reuses += 1,
            _ if write && there.sharers > 1 => {}
            state if state.is_present() => stats.late += 1,
            PageState::Shared { .. } => stats.shared_maps += 1,
            _ => {}
        }
    }

    /// A fault has begun a job.
    pub(super) fn recount_fill(&mut self, work: &Work) {
        let Some(recount) = &mut self.recount else { return };
        if work.kind == JobKind::Read {
            recount.stats.swap_ins[Order::fitting(work.frames.pages.into()).index()] += 1;
        }
    }

    /// Frames are zeroed ahead of need.
    pub(super) fn recount_ahead(&mut self, ticket: Ticket) {
        if let Some(recount) = &mut self.recount {
            recount.ahead.insert(ticket);
        }
    }

    /// A step of reclaim begins.
    pub(super) fn recount_reclaim(&mut self, urgency: Urgency) -> Result<(), String> {
        self.catch_up()?;
        if let Some(recount) = &mut self.recount {
            recount.urgency = urgency;
        }
        Ok(())
    }

    /// A step of reclaim has ended.
    pub(super) fn recount_reclaimed(&mut self, _step: Reclaim) -> Result<(), String> {
        self.catch_up()?;
        if let Some(recount) = &mut self.recount {
            recount.urgency = Urgency::Behind;
        }
        Ok(())
    }

    /// So many pages were taken over.
    pub(super) fn recount_adopted(&mut self, pages: u64) {
        if let Some(recount) = &mut self.recount {
            recount.stats.adopted += pages;
        }
    }

    /// So many pages more than the grant are about to be allowed.
    pub(super) fn recount_overdraft(&mut self, pages: u32) {
        let over = u64::from(self.engine.overdraft().saturating_add(pages));
        if let Some(recount) = &mut self.recount {
            recount.stats.most_over = recount.stats.most_over.max(over);
        }
    }

    /// A job has come back. `counts`: what it brought still counted.
    pub(super) fn recount_end(&mut self, work: &Work, outcome: Outcome, counts: bool) {
        if self.recount.is_none() {
            return;
        }
        let done = outcome == Outcome::Done;
        let spilled = if work.kind == JobKind::Spill && done { self.spilled(work) } else { 0 };
        let Some(recount) = &mut self.recount else { return };
        let ahead = recount.ahead.remove(&work.ticket);
        recount.void += u64::from(!counts && !ahead);
        let stats = &mut recount.stats;
        stats.pages_spilled += spilled;
        if work.kind == JobKind::Write && counts && done {
            let count = |what: Packed| work.packed.iter().filter(|&&packed| packed == what).count() as u64;
            stats.swap_outs[Order::fitting(work.frames.pages.into()).index()] += 1;
            stats.pages_same += count(Packed::Same);
            stats.pages_zero += count(Packed::Zero);
        }
    }

    /// How many of the stored copies that a job brought to a file are there now.
    fn spilled(&self, work: &Work) -> u64 {
        let place =
            |(space, vpn): (Space, Vpn)| self.stored(&self.engine.whereabouts(space, vpn)).map(|s| s.place);
        let places: Vec<Place> = self.pages().filter_map(place).collect();
        work.targets.iter().flatten().filter(|target| places.contains(target)).count() as u64
    }
}

impl Recount {
    /// A writer has asked for places. `placed`: it has them, else no store takes its folio; `counts`: somebody wants it stored.
    pub(super) fn count_place(&mut self, work: &Work, placed: bool, counts: bool) {
        self.stats.unstorable += u64::from(!placed && counts);
        if !placed {
            return;
        }
        let len = |packed: &Packed| match *packed {
            Packed::Same | Packed::Zero => None,
            Packed::Small { len, .. } => Some(u64::from(len)),
            Packed::Raw { .. } => Some(PAGE_SIZE as u64),
        };
        let stored = work.packed.iter().filter_map(len);
        self.stats.pages_stored += stored.clone().count() as u64;
        self.stats.bytes_stored += stored.map(|len| len.next_multiple_of(16)).sum::<u64>();
        let file = |place: &&Option<Place>| matches!(place, Some(Place::File { .. }));
        self.stats.pages_spilled += work.targets.iter().filter(file).count() as u64;
    }

    fn count_call(&mut self, call: &Call) {
        let Call { verb, range, done, .. } = *call;
        if let Some(refusal) = done.refusal {
            self.refused[refusal.index()] += 1;
            let counts = matches!(verb, Verb::MoveIn | Verb::CopyIn | Verb::CopyOut | Verb::MapShared);
            self.refused_in[refusal.index()] += u64::from(counts);
        }
        if verb != Verb::MoveOut {
            return;
        }
        // A whole folio, or the pieces that its front has become.
        let whole = Order::fitting(range.pages);
        let mut at = 0;
        while at < done.pages {
            let fits = Order::fitting(u64::from(done.pages - at));
            let piece = Order::alignment_of(u64::from(at)).min(fits).min(whole);
            self.stats.evictions[piece.index()] += 1;
            at += piece.pages();
        }
    }

    fn count_decision(&mut self, decision: &Decision) {
        let stats = &mut self.stats;
        match *decision {
            Decision::Fault { stored, got, why, .. } => {
                match stored {
                    true => self.filled[got.index()] += 1,
                    false => stats.zero_fills[got.index()] += 1,
                }
                why.into_iter().for_each(|why| stats.shortfalls[why.index()] += 1);
            }
            Decision::NoFrame { .. } => stats.no_frame += 1,
            Decision::Rescue { order, .. } => stats.rescues[order.index()] += 1,
            Decision::Copy { order, .. } => stats.cow_copies[order.index()] += 1,
            Decision::Evict { space, order, moved, .. } => {
                // What is shared is in its frames: no verb moves it.
                stats.evictions[order.index()] += u64::from(space == SHARED);
                self.moved += u64::from(moved);
                match self.urgency {
                    Urgency::Direct => stats.evicted_direct += u64::from(moved),
                    Urgency::Behind | Urgency::StoreOnly => stats.evicted_behind += u64::from(moved),
                }
            }
            Decision::Refused(refusal) => stats.refusals[refusal.index()] += 1,
            Decision::Split { why, .. } => stats.splits[why.index()] += 1,
            Decision::Collapse { order, .. } => {
                stats.collapses[order.index()] += 1;
                self.collapsed += u64::from(order.pages());
            }
            Decision::NoRun { .. } => stats.collapses_without_run += 1,
            Decision::Sparse { given, .. } => {
                stats.sparse_folios += 1;
                stats.sparse_pages += u64::from(given);
            }
            Decision::Foreign { .. } => stats.foreign += 1,
            Decision::Compact { pages, .. } => stats.compacted_pages += u64::from(pages),
        }
    }
}

/// The counters in which two differ, a line each.
fn differences(counted: &Stats, expected: &Stats) -> String {
    let lines = |stats: &Stats| format!("{stats:?}").replace(", ", ",").replace(",", ", ");
    let fields = |text: &str| -> Vec<String> {
        text.split_inclusive(',').fold(Vec::new(), |mut fields: Vec<String>, part| {
            match fields.last_mut() {
                Some(last) if !part.contains(':') => last.push_str(part),
                _ => fields.push(part.into()),
            }
            fields
        })
    };
    let (counted, expected) = (lines(counted), lines(expected));
    let pairs = fields(&counted).into_iter().zip(fields(&expected));
    let differ = pairs.filter(|(counted, expected)| counted != expected);
    differ.map(|(counted, expected)| format!("\n   {counted} happened:{expected}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_the_counter_and_both_values() {
        let counted = Stats { joined: 3, evictions: [7; Order::COUNT], ..Stats::default() };
        let expected = Stats { joined: 2, ..counted };
        let said = differences(&counted, &expected);
        assert!(said.contains("joined: 3") && said.contains("joined: 2"), "{said}");
        assert!(!said.contains("evictions"), "{said}");
    }
}
