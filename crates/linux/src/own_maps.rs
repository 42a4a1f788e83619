//! What the kernel says is mapped in this process: `/proc/self/maps`, and `smaps` where marks on it count.

use crate::sys::Result;
use core::ops::Range;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};

/// One mapping.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mapping {
    /// Its bytes.
    pub range: Range<usize>,
    /// Rights, in the bits of `mmap(2)`.
    pub prot: u32,
    /// Private and of no file.
    pub anonymous: bool,
    /// Marks on it; known only where they were asked for.
    pub marks: Marks,
}

/// What the program has said about a mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Marks {
    /// mlock.
    pub locked: bool,
    /// `MADV_DONTFORK`.
    pub dont_fork: bool,
    /// `MADV_WIPEONFORK`.
    pub wipe: bool,
    /// `MADV_HUGEPAGE`.
    pub huge: bool,
    /// `MADV_NOHUGEPAGE`.
    pub no_huge: bool,
    /// `MADV_SEQUENTIAL`.
    pub sequential: bool,
    /// `MADV_RANDOM`.
    pub random: bool,
    /// `MAP_GROWSDOWN`, or pages of the system's own pool: nothing that could be managed.
    pub foreign: bool,
}

/// The mappings that overlap `range`, in rising order. `marked`: what the program said about them too, which takes as long
/// as a look at every page.
pub fn overlapping(range: &Range<usize>, marked: bool) -> Result<Vec<Mapping>> {
    // The first thread may have ended, and has no maps then.
    let path = if marked { c"/proc/thread-self/smaps" } else { c"/proc/thread-self/maps" };
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut found = Vec::new();
    let mut inside = false;
    each_line(&file, |line| {
        if let Some(mapping) = parse(line) {
            inside = mapping.range.start < range.end && range.start < mapping.range.end;
            if inside {
                found.push(mapping);
            }
        } else if inside && let (Some(flags), Some(last)) = (line.strip_prefix("VmFlags:"), found.last_mut())
        {
            last.marks = marks_of(flags);
        }
    })?;
    Ok(found)
}

/// Bytes read at once, on the stack; a longer line is cut, behind what is read of it.
const BUFFER: usize = 8 << 10;

fn each_line(file: &OwnedFd, mut take: impl FnMut(&str)) -> Result<()> {
    let mut buffer = [0u8; BUFFER];
    let mut held = 0;
    loop {
        let read = rustix::io::retry_on_intr(|| rustix::io::read(file, &mut buffer[held..]))?;
        held += read;
        let mut from = 0;
        while let Some(len) = buffer[from..held].iter().position(|&byte| byte == b'\n') {
            take(core::str::from_utf8(&buffer[from..from + len]).unwrap_or(""));
            from += len + 1;
        }
        if read == 0 {
            return Ok(());
        }
        if from == 0 && held == BUFFER {
            // A path so long: the line's beginning is all that counts.
            held = BUFFER / 2;
        } else {
            buffer.copy_within(from..held, 0);
            held -= from;
        }
    }
}

/// The first line of a mapping: `5578b000-5578d000 rw-p 00002000 08:01 1234   /bin/cat`.
fn parse(line: &str) -> Option<Mapping> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (address(start)?, address(end)?);
    let rights = fields.next()?.as_bytes();
    let (_offset, _device, inode) = (fields.next()?, fields.next()?, fields.next()?);
    let bit = |at: usize, letter: u8| rights.get(at) == Some(&letter);
    let prot = [(0, b'r', libc::PROT_READ), (1, b'w', libc::PROT_WRITE), (2, b'x', libc::PROT_EXEC)]
        .into_iter()
        .filter(|&(at, letter, _)| bit(at, letter))
        .fold(0, |prot, (_, _, right)| prot | right as u32);
    Some(Mapping {
        range: start..end,
        prot,
        anonymous: bit(3, b'p') && inode == "0",
        marks: Marks::default(),
    })
}

fn marks_of(flags: &str) -> Marks {
    let mut marks = Marks::default();
    for flag in flags.split_ascii_whitespace() {
        match flag {
            "lo" => marks.locked = true,
            "dc" => marks.dont_fork = true,
            "wf" => marks.wipe = true,
            "hg" => marks.huge = true,
            "nh" => marks.no_huge = true,
            "sr" => marks.sequential = true,
            "rr" => marks.random = true,
            "gd" | "ht" => marks.foreign = true,
            _ => {}
        }
    }
    marks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mmap::{self, Advice};
    use quire_core::PAGE_SIZE;

    #[test]
    fn the_first_line_tells_place_rights_and_kind() {
        let plain = parse("7f0000001000-7f0000003000 rw-p 00000000 00:00 0 ").unwrap();
        assert_eq!((plain.range, plain.prot, plain.anonymous), (0x7f00_0000_1000..0x7f00_0000_3000, 3, true));
        let named = parse("7f0000001000-7f0000003000 ---p 00000000 00:00 0   [anon:some name]").unwrap();
        assert_eq!((named.prot, named.anonymous), (0, true));
        let shared = parse("7f0000001000-7f0000003000 rw-s 00000000 00:01 9 /dev/zero (deleted)").unwrap();
        assert!(!shared.anonymous);
        assert!(!parse("1000-2000 r-xp 00000000 08:01 77 /bin/cat").unwrap().anonymous);
        assert_eq!(parse("VmFlags: rd wr mr mw me ac"), None);
        assert_eq!(parse("Rss:                   4 kB"), None);
    }

    #[test]
    fn what_was_mapped_and_marked_is_found() {
        let page = PAGE_SIZE;
        let addr = mmap::reserve(8 * page).unwrap();
        mmap::protect(addr + page, 3 * page, 3).unwrap();
        mmap::protect(addr + 5 * page, page, 1).unwrap();
        mmap::advise(addr + 2 * page, page, Advice::DontFork).unwrap();
        let range = addr + page..addr + 6 * page;
        // What lies behind has marks of its own.
        mmap::advise(addr + 6 * page, 2 * page, Advice::DontFork).unwrap();
        let prots = |found: &[Mapping]| -> Vec<(usize, u32)> {
            found.iter().map(|m| ((m.range.end - addr) / page, m.prot)).collect()
        };
        let found = overlapping(&range, true).unwrap();
        assert!(found.iter().all(|mapping| mapping.anonymous && !mapping.marks.locked));
        assert_eq!(prots(&found), [(2, 3), (3, 3), (4, 3), (5, 0), (6, 1)]);
        assert_eq!(found.iter().filter(|mapping| mapping.marks.dont_fork).count(), 1);
        assert!(found[1].marks.dont_fork && !found[4].marks.dont_fork);
        assert_eq!(prots(&overlapping(&range, false).unwrap()), prots(&found));
        mmap::unmap(addr, 8 * page).unwrap();
        assert_eq!(overlapping(&range, false).unwrap(), []);
    }
}
