//! What a process tells `quire` while it is recorded: what the program does to its memory, and what the engine decides.
//!
//! A note and its time are three words, in a [`Ring`](super::ring::Ring).

use quire_core::addr::{Frame, Space, Vpn};
use quire_core::mmu::{Prot, Refusal};
use quire_core::policy::Shortfall;
use quire_core::{Decision, Order, PageRange, SplitWhy};

/// A process has one address space.
const SPACE: Space = Space(0);

/// The most pages of a [`Note::Written`].
pub const MOST_WRITTEN: u64 = 512;

/// One note.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Note {
    /// A page was accessed.
    Access {
        /// The page.
        vpn: Vpn,
        /// Whether it was written.
        write: bool,
    },
    /// Pages side by side were written, [`MOST_WRITTEN`] at most.
    Written(PageRange),
    /// Pages were mapped; they read as zeroes.
    Map {
        /// The pages.
        range: PageRange,
        /// Their rights.
        prot: Prot,
    },
    /// Pages were unmapped.
    Unmap(PageRange),
    /// Contents were given up.
    Discard(PageRange),
    /// Rights were changed.
    Protect {
        /// The pages.
        range: PageRange,
        /// Their rights from now on.
        prot: Prot,
    },
    /// The process is about to fork, for the `number`-th time.
    Forking {
        /// Which fork of its own this is.
        number: u32,
    },
    /// The first note of a forked child: the fork that it came from, by its parent's number.
    Forked {
        /// Which fork of its parent.
        number: u32,
    },
    /// The engine decided something.
    Decided(Decision),
    /// So many decisions were overwritten before they could be told.
    Lost(u32),
}

/// The words of a note: kind and small fields, a count; and a page.
struct Words {
    kind: u8,
    small: [u8; 3],
    count: u32,
    page: u64,
}

impl Words {
    fn new(kind: u8, page: Vpn) -> Words {
        Words { kind, small: [0; 3], count: 0, page: page.0 }
    }

    fn small(self, small: [u8; 3]) -> Words {
        Words { small, ..self }
    }

    fn count(self, count: u32) -> Words {
        Words { count, ..self }
    }

    fn pack(&self) -> [u64; 2] {
        let [a, b, c] = self.small;
        [u64::from(u32::from_le_bytes([self.kind, a, b, c])) | u64::from(self.count) << 32, self.page]
    }

    fn unpack(words: [u64; 2]) -> Words {
        let [kind, small @ ..] = (words[0] as u32).to_le_bytes();
        Words { kind, small, count: (words[0] >> 32) as u32, page: words[1] }
    }
}

impl Note {
    /// As two words.
    pub fn encode(&self) -> [u64; 2] {
        let range = |kind, range: &PageRange| Words::new(kind, range.start).count(range.pages as u32);
        match self {
            Note::Access { vpn, write } => Words::new(1, *vpn).small([u8::from(*write), 0, 0]),
            Note::Map { range: pages, prot } => range(2, pages).small([prot.bits() as u8, 0, 0]),
            Note::Unmap(pages) => range(3, pages),
            Note::Discard(pages) => range(4, pages),
            Note::Protect { range: pages, prot } => range(5, pages).small([prot.bits() as u8, 0, 0]),
            Note::Forking { number } => Words::new(6, Vpn(0)).count(*number),
            Note::Forked { number } => Words::new(7, Vpn(0)).count(*number),
            Note::Decided(decision) => decided(decision),
            Note::Written(pages) => range(9, pages),
            Note::Lost(decisions) => Words::new(8, Vpn(0)).count(*decisions),
        }
        .pack()
    }

    /// From two words; `None` where no note has them.
    pub fn decode(words: [u64; 2]) -> Option<Note> {
        let words = Words::unpack(words);
        let Words { kind, small: [a, _, _], count, page } = words;
        let range = PageRange::new(SPACE, Vpn(page), u64::from(count));
        let prot = Prot::from_bits(u32::from(a));
        Some(match kind {
            1 => Note::Access { vpn: Vpn(page), write: a != 0 },
            2 => Note::Map { range, prot },
            3 => Note::Unmap(range),
            4 => Note::Discard(range),
            5 => Note::Protect { range, prot },
            6 => Note::Forking { number: count },
            7 => Note::Forked { number: count },
            8 => Note::Lost(count),
            9 if (1..=MOST_WRITTEN).contains(&range.pages) => Note::Written(range),
            _ => Note::Decided(decision(&words)?),
        })
    }
}

/// A reason's place in a list plus one, 0 being none.
fn code(index: Option<usize>) -> u8 {
    index.map_or(0, |index| index as u8 + 1)
}

fn decided(decision: &Decision) -> Words {
    let of = |kind, vpn: &Vpn, order: &Order| Words::new(kind, *vpn).small([order.index() as u8, 0, 0]);
    match decision {
        Decision::Fault { vpn, stored, wanted, got, why, .. } => {
            let why = code(why.map(Shortfall::index));
            // 4 bits are enough for an order.
            let orders = (wanted.index() << 4 | got.index()) as u8;
            Words::new(16, *vpn).small([u8::from(*stored), orders, why])
        }
        Decision::NoFrame { vpn, .. } => Words::new(17, *vpn),
        Decision::Rescue { vpn, order, .. } => of(18, vpn, order),
        Decision::Copy { vpn, order, .. } => of(19, vpn, order),
        Decision::Evict { vpn, order, moved, .. } => of(20, vpn, order).count(*moved),
        Decision::Refused(refusal) => Words::new(21, Vpn(0)).small([refusal.index() as u8, 0, 0]),
        Decision::Split { vpn, order, why, .. } => {
            Words::new(22, *vpn).small([order.index() as u8, why.index() as u8, 0])
        }
        Decision::Collapse { vpn, order, .. } => of(23, vpn, order),
        Decision::Compact { frame, order, pages } => of(24, &Vpn(u64::from(frame.0)), order).count(*pages),
        Decision::NoRun { vpn, order, .. } => of(25, vpn, order),
        Decision::Sparse { vpn, order, given, .. } => of(26, vpn, order).count(*given),
        Decision::Foreign { vpn, .. } => Words::new(27, *vpn),
    }
}

fn decision(words: &Words) -> Option<Decision> {
    let Words { kind, small: [a, b, c], count, page } = *words;
    let (space, vpn) = (SPACE, Vpn(page));
    let order = || Order::new(a);
    Some(match kind {
        16 => Decision::Fault {
            space,
            vpn,
            stored: a != 0,
            wanted: Order::new(b >> 4)?,
            got: Order::new(b & 15)?,
            why: match c {
                0 => None,
                some => Some(*Shortfall::ALL.get(usize::from(some) - 1)?),
            },
        },
        17 => Decision::NoFrame { space, vpn },
        18 => Decision::Rescue { space, vpn, order: order()? },
        19 => Decision::Copy { space, vpn, order: order()? },
        20 => Decision::Evict { space, vpn, order: order()?, moved: count },
        21 => Decision::Refused(*Refusal::ALL.get(usize::from(a))?),
        22 => Decision::Split { space, vpn, order: order()?, why: *SplitWhy::ALL.get(usize::from(b))? },
        23 => Decision::Collapse { space, vpn, order: order()? },
        24 => Decision::Compact { frame: Frame(page as u32), order: order()?, pages: count },
        25 => Decision::NoRun { space, vpn, order: order()? },
        26 => Decision::Sparse { space, vpn, order: order()?, given: count },
        27 => Decision::Foreign { space, vpn },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Note> {
        let (space, vpn, order) = (SPACE, Vpn(0x0007_f123_4567), Order::MAX);
        let range = PageRange::new(space, vpn, 1 << 28);
        let mut notes = vec![
            Note::Access { vpn, write: false },
            Note::Access { vpn, write: true },
            Note::Map { range, prot: Prot::READ_WRITE },
            Note::Written(PageRange::new(space, vpn, MOST_WRITTEN)),
            Note::Unmap(range),
            Note::Discard(range),
            Note::Protect { range, prot: Prot::READ },
            Note::Forking { number: 7 },
            Note::Forked { number: u32::MAX },
            Note::Lost(12),
        ];
        let mut decisions = vec![
            Decision::Fault { space, vpn, stored: true, wanted: order, got: Order::BASE, why: None },
            Decision::NoFrame { space, vpn },
            Decision::Rescue { space, vpn, order },
            Decision::Copy { space, vpn, order },
            Decision::Evict { space, vpn, order, moved: 512 },
            Decision::Collapse { space, vpn, order },
            Decision::Compact { frame: Frame(u32::MAX), order, pages: 9 },
            Decision::NoRun { space, vpn, order },
            Decision::Sparse { space, vpn, order, given: 511 },
            Decision::Foreign { space, vpn },
        ];
        let fault =
            |why| Decision::Fault { space, vpn, stored: false, wanted: order, got: order, why: Some(why) };
        decisions.extend(Shortfall::ALL.map(fault));
        decisions.extend(Refusal::ALL.map(Decision::Refused));
        decisions.extend(SplitWhy::ALL.map(|why| Decision::Split { space, vpn, order, why }));
        notes.extend(decisions.into_iter().map(Note::Decided));
        notes
    }

    #[test]
    fn every_note_survives() {
        for note in all() {
            assert_eq!(Note::decode(note.encode()), Some(note));
        }
    }

    #[test]
    fn words_of_no_note_are_refused() {
        for kind in [0, 9, 15, 28, 255] {
            assert_eq!(Note::decode([kind, 5]), None);
        }
        assert_eq!(Note::decode([9 | (MOST_WRITTEN + 1) << 32, 5]), None);
        // Orders and reasons that do not exist.
        for (kind, small) in [(16, 0xff00), (16, 0xff_0000), (18, 10), (21, 7), (22, 0x700)] {
            assert_eq!(Note::decode([kind | small << 8, 5]), None);
        }
    }
}
