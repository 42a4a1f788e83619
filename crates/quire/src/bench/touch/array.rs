//! The pages: fresh anonymous memory, which nothing touches before the fill.

use super::contents::{Contents, WORDS, mix};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A word that was not what was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Wrong {
    pub(super) page: u64,
    pub(super) index: u64,
    pub(super) found: u64,
    pub(super) expected: u64,
}

/// A stretch of the pages, filled by one thread. It begins at a page of the machine, though what the allocator gives does
/// not: else each page here would be two of the machine's.
#[derive(Debug)]
pub(super) struct Part {
    words: Vec<AtomicU64>,
    /// Words before the first page.
    skipped: usize,
}

impl Part {
    /// Address space for `pages` pages; none is touched. The error says so when there is not that much.
    pub(super) fn reserve(pages: u64) -> Result<Part, String> {
        let mut words: Vec<AtomicU64> = Vec::new();
        let most = (pages as usize + 1) * WORDS as usize;
        words.try_reserve_exact(most).map_err(|_| format!("no room for {pages} pages"))?;
        let skipped = words.as_ptr().align_offset(WORDS as usize * size_of::<u64>()).min(WORDS as usize);
        Ok(Part { words, skipped })
    }

    /// Writes the pages from number `first` on, each once, and each for the first time.
    pub(super) fn fill(&mut self, contents: Contents, first: u64, pages: u64) {
        if self.words.is_empty() {
            self.words.extend((0..self.skipped).map(|_| AtomicU64::new(0)));
        }
        for page in first..first + pages {
            let root = contents.root(page);
            self.words.extend((0..WORDS).map(|index| AtomicU64::new(contents.word(root, index, 0))));
        }
    }

    #[inline]
    fn word(&self, page: u64, index: u64) -> &AtomicU64 {
        &self.words[self.skipped + (page * WORDS + index) as usize]
    }
}

/// All pages, once they are filled.
#[derive(Debug)]
pub(super) struct Array<'a> {
    contents: Contents,
    parts: &'a [Part],
    /// Pages of every part but the last, which may have more.
    part_pages: u64,
    /// How often each page was written since the fill.
    versions: &'a [AtomicU32],
}

impl<'a> Array<'a> {
    pub(super) fn new(contents: Contents, parts: &'a [Part], versions: &'a [AtomicU32]) -> Array<'a> {
        let part_pages = versions.len() as u64 / parts.len() as u64;
        Array { contents, parts, part_pages, versions }
    }

    pub(super) fn pages(&self) -> u64 {
        self.versions.len() as u64
    }

    #[inline]
    fn word(&self, page: u64, index: u64) -> &AtomicU64 {
        // At most two parts: no division for each access.
        let last = self.parts.len() - 1;
        let second = last > 0 && page >= self.part_pages;
        let (part, page) = if second { (last, page - self.part_pages) } else { (0, page) };
        self.parts[part].word(page, index)
    }

    /// Reads a word that no write changes.
    #[inline]
    pub(super) fn read(&self, page: u64, index: u64) -> Result<(), Wrong> {
        let found = self.word(page, index).load(Ordering::Relaxed);
        self.compare(page, index, found, 0)
    }

    /// Reads a word every 64 bytes.
    pub(super) fn scan(&self, page: u64) -> Result<(), Wrong> {
        let root = self.contents.root(page);
        let mut differ = 0;
        for index in (1..WORDS).step_by(8) {
            let found = self.word(page, index).load(Ordering::Relaxed);
            differ |= found ^ self.contents.word(root, index, 0);
        }
        // Which one it is costs time only here.
        if differ == 0 { Ok(()) } else { (1..WORDS).step_by(8).try_for_each(|index| self.read(page, index)) }
    }

    /// Writes a word: the page's next version. Threads may do so at once, the sum is the same.
    #[inline]
    pub(super) fn write(&self, page: u64) {
        self.word(page, 0).fetch_add(1, Ordering::Relaxed);
        self.versions[page as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Reads all of a page and compares; what it held, as one number.
    pub(super) fn verify(&self, page: u64) -> Result<u64, Wrong> {
        let version = u64::from(self.versions[page as usize].load(Ordering::Relaxed));
        (0..WORDS).try_fold(page, |sum, index| {
            let found = self.word(page, index).load(Ordering::Relaxed);
            self.compare(page, index, found, version)?;
            Ok(mix(sum ^ found))
        })
    }

    #[inline]
    fn compare(&self, page: u64, index: u64, found: u64, version: u64) -> Result<(), Wrong> {
        let expected = self.contents.word(self.contents.root(page), index, version);
        if found == expected { Ok(()) } else { Err(Wrong { page, index, found, expected }) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::contents::Data;
    use super::*;

    const CONTENTS: Contents = Contents { data: Data::Easy, seed: 9 };

    fn filled(shares: &[u64]) -> (Vec<Part>, Vec<AtomicU32>) {
        let mut first = 0;
        let mut parts = Vec::new();
        for &pages in shares {
            let mut part = Part::reserve(pages).unwrap();
            part.fill(CONTENTS, first, pages);
            first += pages;
            parts.push(part);
        }
        (parts, (0..first).map(|_| AtomicU32::new(0)).collect())
    }

    #[test]
    fn pages_begin_where_the_machines_do() {
        let (parts, _) = filled(&[3, 4]);
        for part in &parts {
            assert_eq!(std::ptr::from_ref(part.word(0, 0)).addr() % 4096, 0);
        }
    }

    #[test]
    fn reserved_pages_are_not_moved_by_the_fill() {
        let mut part = Part::reserve(5).unwrap();
        let before = part.words.as_ptr();
        part.fill(CONTENTS, 0, 2);
        part.fill(CONTENTS, 2, 3);
        assert_eq!(part.words.as_ptr(), before);
    }

    #[test]
    fn every_page_is_as_written_in_one_part_or_two() {
        let sums = [&[7][..], &[3, 4]].map(|shares| {
            let (parts, versions) = filled(shares);
            let array = Array::new(CONTENTS, &parts, &versions);
            array.write(2);
            array.write(6);
            array.write(6);
            (0..7).map(|page| array.scan(page).and_then(|()| array.verify(page)).unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(sums[0], sums[1]);
    }

    #[test]
    fn a_wrong_word_is_found_by_every_way_to_read() {
        let (parts, versions) = filled(&[3]);
        let array = Array::new(CONTENTS, &parts, &versions);
        let word = parts[0].word(1, 9);
        let expected = word.fetch_xor(1 << 40, Ordering::Relaxed);
        let wrong = Wrong { page: 1, index: 9, found: expected ^ 1 << 40, expected };
        assert_eq!(array.read(1, 9), Err(wrong.clone()));
        assert_eq!(array.scan(1), Err(wrong.clone()));
        assert_eq!(array.verify(1), Err(wrong));
        assert_eq!(array.scan(0), Ok(()));
    }

    #[test]
    fn a_write_that_was_lost_is_found() {
        let (parts, versions) = filled(&[3]);
        let array = Array::new(CONTENTS, &parts, &versions);
        array.write(1);
        parts[0].word(1, 0).fetch_sub(1, Ordering::Relaxed);
        assert_eq!(array.verify(1).map_err(|wrong| (wrong.page, wrong.index)), Err((1, 0)));
    }
}
