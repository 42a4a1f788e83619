//! Where the code lies that was loaded with the program: memory that a program wants near it stays there.

use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::loaded;

/// The executable pages of a group of objects.
struct Text {
    start: AtomicUsize,
    len: AtomicUsize,
}

impl Text {
    const fn unknown() -> Text {
        Text { start: AtomicUsize::new(0), len: AtomicUsize::new(0) }
    }

    fn range(&self) -> Range<usize> {
        let start = self.start.load(Ordering::Relaxed);
        start..start + self.len.load(Ordering::Relaxed)
    }

    fn set(&self, range: &Range<usize>) {
        self.start.store(range.start, Ordering::Relaxed);
        self.len.store(range.len(), Ordering::Relaxed);
    }
}

/// A range for each group of objects that lie side by side.
static TEXTS: [Text; GROUPS] = [const { Text::unknown() }; GROUPS];
/// The program itself, its libraries, and some to spare.
const GROUPS: usize = 4;
/// Objects less apart than this are one group.
const APART: usize = 256 << 20;

/// The ranges, which may be empty.
pub(crate) fn all() -> [Range<usize>; GROUPS] {
    TEXTS.each_ref().map(Text::range)
}

/// The code of this library.
static OWN: Text = Text::unknown();

/// Where it lies.
pub(crate) fn own() -> Range<usize> {
    OWN.range()
}

/// Looks for all of them among the loaded objects. Allocates nothing.
pub(crate) fn find() {
    let here = find as *const () as usize;
    loaded::find(|base, headers| {
        for header in headers {
            if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0 {
                let start = base.wrapping_add(header.p_vaddr as usize);
                let text = start..start.saturating_add(header.p_memsz as usize);
                if text.contains(&here) {
                    OWN.set(&text);
                }
                add(text);
            }
        }
        false
    });
}

fn add(text: Range<usize>) {
    for group in &TEXTS {
        let known = group.range();
        if known.is_empty() {
            return group.set(&text);
        }
        let near =
            text.start < known.end.saturating_add(APART) && known.start < text.end.saturating_add(APART);
        if near {
            return group.set(&(known.start.min(text.start)..known.end.max(text.end)));
        }
    }
}
