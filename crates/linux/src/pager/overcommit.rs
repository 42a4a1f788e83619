//! How much the kernel would let a program have (`/proc/sys/vm/overcommit_memory`).
//!
//! The arena is mapped with `MAP_NORESERVE`, so the kernel does not ask. By default (mode 0) it refuses a single request for
//! more than all of RAM and swap; some programs try such sizes, and take less when they are refused. In mode 1 it refuses
//! nothing. In mode 2 it charges all that may be written, and heeds no `MAP_NORESERVE`: an arena that was mapped then is
//! charged by the kernel itself ([`crate::strict`]); for one that was mapped before, it is counted here.
//!
//! The mode may change at any time, so it is read when it matters: for large requests, and by the service thread, which has
//! descriptors of its own.

use super::calls::Call;
use super::{SPACE, fork};
use crate::strict;
use crate::sys::file;
use core::sync::atomic::{AtomicU64, Ordering};
use quire_core::addr::PageRange;
use quire_core::mmu::Prot;
use quire_core::vma::Vma;
use quire_core::{Engine, PAGE_SIZE};

/// A range larger than the limit, mapped with `MAP_NORESERVE`: a bit of [`Vma::tag`]. Smaller ranges don't bear it, since
/// no request within them is refused by default.
const TAG_NO_RESERVE: u32 = 4;

/// Smaller requests are not looked at, in pages: 64 MiB.
const LARGE: u64 = (64 << 20) / PAGE_SIZE as u64;

/// Pages that one request could have when that was last read.
static KNOWN: AtomicU64 = AtomicU64::new(u64::MAX);

/// Whether it is to be read before this call is carried out.
pub(super) fn matters(call: &Call) -> bool {
    let large = |len: usize| is_large((len / PAGE_SIZE) as u64);
    match *call {
        Call::Map { len, prot, .. } | Call::MapAt { len, prot, .. } | Call::Protect { len, prot, .. } => {
            large(len) && prot & libc::PROT_WRITE != 0
        }
        Call::Remap { old_len, new_len, .. } => large(new_len.saturating_sub(old_len)),
        _ => false,
    }
}

/// Whether so many pages are worth a look.
pub(super) fn is_large(pages: u64) -> bool {
    pages >= LARGE
}

/// What may be had now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    /// All.
    Always,
    /// So many pages by one request.
    Each(u64),
    /// So many pages by all requests together from now on.
    All(u64),
}

impl Rule {
    /// As the system says now, for what is not charged by the kernel itself.
    fn now(engine: &Engine) -> Rule {
        if fork::is_filtered() {
            // To open a file could be the end.
            return Rule::Each(KNOWN.load(Ordering::Relaxed));
        }
        let rule = Rule::read(engine);
        let most = if let Rule::Each(most) = rule { most } else { u64::MAX };
        KNOWN.store(most, Ordering::Relaxed);
        rule
    }

    fn read(engine: &Engine) -> Rule {
        match file::first_byte(c"/proc/sys/vm/overcommit_memory") {
            Some(b'1') => Rule::Always,
            Some(b'2') => file::read_some::<4096, _>(c"/proc/meminfo", left).map_or(Rule::Always, |left| {
                Rule::All(left.unwrap_or(u64::MAX).saturating_sub(uncharged(engine)))
            }),
            _ => Rule::Each(all_memory()),
        }
    }

    fn allows(self, pages: u64) -> bool {
        match self {
            Rule::Always => true,
            Rule::Each(most) | Rule::All(most) => pages <= most,
        }
    }

    /// Whether `MAP_NORESERVE` exempts from it.
    fn exempts(self) -> bool {
        !matches!(self, Rule::All(_))
    }
}

/// Reads it for the first time.
pub(super) fn look(engine: &Engine) {
    Rule::now(engine);
}

/// All of RAM and swap, in pages.
fn all_memory() -> u64 {
    let info = rustix::system::sysinfo();
    (info.totalram as u64 + info.totalswap as u64) * u64::from(info.mem_unit) / PAGE_SIZE as u64
}

/// What `/proc/meminfo` says is left to be committed, in pages.
fn left(meminfo: &[u8]) -> Option<u64> {
    let text = core::str::from_utf8(meminfo).ok()?;
    let kib = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    };
    Some(kib("CommitLimit:")?.saturating_sub(kib("Committed_AS:")?) / (PAGE_SIZE as u64 / 1024))
}

/// What is mapped in the arena, and would have been charged elsewhere.
fn uncharged(engine: &Engine) -> u64 {
    engine.vmas(SPACE).iter().filter(|vma| counts(vma)).map(|vma| vma.end.0 - vma.start.0).sum()
}

fn counts(vma: &Vma) -> bool {
    vma.prot.writable() && vma.tag & TAG_NO_RESERVE == 0
}

/// Whether so much new memory with these rights may be had.
pub(super) fn may_map(engine: &Engine, pages: u64, prot: i32, flags: i32) -> Result<(), i32> {
    if !is_large(pages) || prot & libc::PROT_WRITE == 0 || strict::charges() {
        return Ok(());
    }
    let rule = Rule::now(engine);
    let exempt = flags & libc::MAP_NORESERVE != 0 && rule.exempts();
    refused(!exempt && !rule.allows(pages))
}

/// The mark of new memory mapped with these flags, if it needs one.
pub(super) fn tag_of(engine: &Engine, pages: u64, flags: i32) -> Option<u32> {
    if flags & libc::MAP_NORESERVE == 0 || !is_large(pages) {
        return None;
    }
    let rule = Rule::now(engine);
    (rule.exempts() && !rule.allows(pages)).then_some(TAG_NO_RESERVE)
}

/// Whether `vma` may grow by so many pages.
pub(super) fn may_grow(engine: &Engine, vma: &Vma, pages: u64) -> Result<(), i32> {
    if !is_large(pages) || !counts(vma) || strict::charges() {
        return Ok(());
    }
    refused(!Rule::now(engine).allows(pages))
}

/// Whether pages may become writable.
pub(super) fn may_protect(engine: &Engine, range: PageRange, prot: Prot) -> Result<(), i32> {
    if !is_large(range.pages) || !prot.writable() || strict::charges() {
        return Ok(());
    }
    let rule = Rule::now(engine);
    let becomes = |vma: &&Vma| !vma.prot.writable() && vma.tag & TAG_NO_RESERVE == 0;
    let parts = engine.vmas(range.space).overlapping(range.start, range.end()).filter(becomes);
    let mut pages = parts.map(|vma| vma.end.min(range.end()).0 - vma.start.max(range.start).0);
    refused(match rule {
        // The kernel asks VMA by VMA.
        Rule::Each(_) => pages.any(|pages| !rule.allows(pages)),
        _ => !rule.allows(pages.sum()),
    })
}

fn refused(refused: bool) -> Result<(), i32> {
    if refused { Err(libc::ENOMEM) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_core::Vpn;

    #[test]
    fn the_limit_is_all_of_ram_and_swap() {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap();
        let kib = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
        };
        assert_eq!(all_memory(), (kib("MemTotal:") + kib("SwapTotal:")) / 4);
    }

    #[test]
    fn what_is_left_is_the_limit_less_what_is_committed() {
        let text = b"MemTotal: 9 kB\nCommitLimit:     4000 kB\nCommitted_AS:  1000 kB\n";
        assert_eq!(left(text), Some(750));
        assert_eq!(left(b"CommitLimit: 4 kB\nCommitted_AS: 8 kB\n"), Some(0));
        assert_eq!(left(b"CommitLimit: 4 kB\n"), None);
        assert!(file::read_some::<4096, _>(c"/proc/meminfo", left).flatten().is_some());
    }

    #[test]
    fn only_strictness_heeds_no_exemption() {
        assert!(Rule::Each(10).allows(10) && !Rule::Each(10).allows(11) && Rule::Always.allows(u64::MAX));
        assert!(Rule::Each(10).exempts() && Rule::Always.exempts() && !Rule::All(10).exempts());
        let vma = |prot, tag| Vma { tag, ..Vma::new(Vpn(0), Vpn(4), prot) };
        assert!(counts(&vma(Prot::READ_WRITE, !TAG_NO_RESERVE)));
        assert!(!counts(&vma(Prot::READ_WRITE, TAG_NO_RESERVE)) && !counts(&vma(Prot::READ, 0)));
    }
}
