//! What tells two states of a host apart.

use super::{Host, Step, Touch};
use crate::digest::Renamer;
use crate::tables::Pte;
use crate::waiters::Message;
use quire_core::Frame;
use quire_core::job::{JobKind, Outcome, Packed};

/// Contents by their new names. What versions compress to is kept: their lowest bits.
struct Values(Renamer);

impl Values {
    fn name(&mut self, value: u64) -> u32 {
        u32::from(self.0.name(value)) << 8 | (value % 8) as u32
    }

    fn pte(&mut self, pte: Option<Pte>) -> u32 {
        match pte {
            None => u32::MAX,
            Some(Pte::Zero) => u32::MAX - 1,
            Some(pte) => self.name(pte.value()) | u32::from(pte.busy()) << 31,
        }
    }
}

impl Host {
    /// Equal for two hosts to which the same events do the same from now on.
    pub fn key(&self) -> Vec<u32> {
        let mut words = self.engine.canonical(&self.mmu.store, self.jobs.iter().map(|job| &job.work));
        let mut values = Values(Renamer::default());
        self.add_contents(&mut words, &mut values);
        self.add_jobs(&mut words, &mut values);
        words.extend(self.spaces.iter().chain([&self.at]).map(|space| u32::from(space.0)));
        for (thread, place) in self.threads.iter().zip(&self.places) {
            words.extend(thread.map_or([u32::MAX; 2], touch_words));
            words.push(thread.map_or(0, |_| u32::from(place.0)));
        }
        for (thread, message) in self.mmu.waiters.waiting() {
            let unread = self.mmu.waiters.unread().any(|(t, _)| t == thread);
            words.extend([u32::from(thread), message.vpn.0 as u32, u32::from(unread)]);
        }
        for list in [&self.held, &self.parked] {
            words.push(u32::MAX);
            words.extend(list.iter().map(|m| message_word(*m)));
        }
        if let Some(lasting) = self.mmu.injector.lasting {
            words.extend([lasting.verb as u32, lasting.start.0 as u32, lasting.pages as u32]);
            words.push(lasting.refusal as u32);
        }
        for injection in self.mmu.injector.pending() {
            words.extend([
                injection.verb.map_or(99, |v| v as u32),
                injection.page.map_or(u32::MAX, |page| page.0 as u32),
                injection.after,
                injection.refusal as u32,
            ]);
        }
        words
    }

    fn add_contents(&self, words: &mut Vec<u32>, values: &mut Values) {
        for (space, vpn) in self.pages() {
            let there = self.engine.whereabouts(space, vpn);
            words.push(values.name(self.model.expected(space, vpn)));
            words.push(values.pte(self.mmu.entry(space, vpn)));
            let stored = self.stored(&there).and_then(|s| self.mmu.bytes.read(s.place, s.len));
            words.push(stored.map_or(u32::MAX, |value| values.name(value)));
            let rights = self.mmu.rights(space, vpn);
            words.push(rights.map_or(u32::MAX, |r| r.prot.bits() | u32::from(r.locked) << 4));
        }
        words.extend((0..self.mmu.frames()).map(Frame).map(|f| values.pte(self.mmu.frame(f))));
    }

    fn add_jobs(&self, words: &mut Vec<u32>, values: &mut Values) {
        let mut jobs: Vec<_> = self.jobs.iter().collect();
        jobs.sort_by_key(|job| job.work.ticket);
        for job in jobs {
            let step = match job.step {
                Step::Begun => 0,
                Step::Packed => 1,
                Step::Placed => 2,
                Step::Ran(Outcome::Done) => 3,
                Step::Ran(_) => 4,
                Step::Looked => 5,
            };
            words.extend([step, u32::from(job.work.fresh) | u32::from(job.work.staged) << 1]);
            words.extend(job.work.packed.iter().map(packed_word));
            if job.work.kind == JobKind::Read || job.work.kind == JobKind::Spill {
                let read = |s: &quire_core::job::Stored| self.mmu.bytes.read(s.place, s.len);
                words.extend(job.work.sources.iter().map(|s| read(s).map_or(u32::MAX, |v| values.name(v))));
            }
        }
    }
}

/// What a writer found. Its hash is that of what the frame had then: with equal lengths it makes no difference to
/// the engine unless it is stored, and then the contents are in the key.
fn packed_word(packed: &Packed) -> u32 {
    match packed {
        Packed::Same => 1,
        Packed::Zero => 2,
        Packed::Raw { .. } => 3,
        Packed::Small { len, .. } => 4 | u32::from(*len) << 8,
    }
}

fn touch_words(touch: Touch) -> [u32; 2] {
    [touch.vpn.0 as u32, touch.put.map_or(9, |put| put as u32)]
}

fn message_word(message: Message) -> u32 {
    message.vpn.0 as u32 | u32::from(message.space.0) << 16 | u32::from(message.write) << 31
}
