//! Calls of a process that sleeps ([`sleep`]): the kernel carries them out, and gives new memory out of the arena that is
//! planned, so that it can be managed when the process wakes.

use core::ffi::{c_int, c_long};

use quire_linux::pager::sleep::{self, Held};

use super::map::{self, Request};
use crate::decide::{self, MapRoute, Remap};
use crate::raw::{self, Answer};
use crate::texts;

/// Makes a call on memory, if the process sleeps; `None`: it is awake, or the call is another one.
///
/// # Safety
///
/// As the call itself.
#[inline]
pub(super) unsafe fn route(number: c_long, args: [usize; 6]) -> Option<Answer> {
    if !changes_mappings(number) {
        return None;
    }
    let held = sleep::hold()?;
    // SAFETY: by the caller's promise.
    let answer = unsafe { make(&held, number, args) };
    drop(held);
    if number == libc::SYS_mmap && answer.is_ok() && is_to_be_touched(&args) {
        sleep::settle(args[1]);
    }
    Some(answer)
}

/// Whether a mapping is memory that the program means to use, and not addresses that it reserves.
fn is_to_be_touched(mmap: &[usize; 6]) -> bool {
    let [_, _, prot, flags, ..] = *mmap;
    let kind = libc::MAP_ANONYMOUS | libc::MAP_PRIVATE | libc::MAP_NORESERVE;
    prot as c_int & libc::PROT_WRITE != 0 && flags as c_int & kind == kind & !libc::MAP_NORESERVE
}

fn changes_mappings(number: c_long) -> bool {
    matches!(
        number,
        libc::SYS_mmap
            | libc::SYS_munmap
            | libc::SYS_brk
            | libc::SYS_mremap
            | libc::SYS_mprotect
            | libc::SYS_pkey_mprotect
            | libc::SYS_madvise
            | libc::SYS_process_madvise
            | libc::SYS_mlock
            | libc::SYS_mlock2
            | libc::SYS_munlock
            | libc::SYS_mlockall
            | libc::SYS_munlockall
    )
}

unsafe fn make(held: &Held, number: c_long, args: [usize; 6]) -> Answer {
    let [a, b, c, d, e, f] = args;
    // SAFETY: by the caller's promise, in each of them.
    unsafe {
        match number {
            libc::SYS_mmap => {
                let (prot, flags, fd) = (c as c_int, d as c_int, e as c_int);
                map(held, &Request { addr: a, len: b, prot, flags, fd, offset: f as i64 })
            }
            libc::SYS_munmap => {
                let answer = raw::forward(number as usize, args);
                if answer.is_ok() {
                    held.unmapped(&(a..a.saturating_add(b)));
                }
                answer
            }
            libc::SYS_brk => Ok(set_break(held, a)),
            libc::SYS_mremap => {
                remap(held, &Remap { old: a, old_len: b, new_len: c, flags: d as c_int, new_addr: e })
            }
            libc::SYS_madvise if is_guard(c as c_int) && is_planned(a, b) => Err(libc::EINVAL),
            libc::SYS_process_madvise if is_guard(d as c_int) => Err(libc::EINVAL),
            libc::SYS_pkey_mprotect if d as c_int > 0 && is_planned(a, b) => Err(libc::EINVAL),
            libc::SYS_madvise if is_plain(c as c_int) => raw::forward(number as usize, args),
            libc::SYS_mprotect => {
                let answer = raw::forward(number as usize, args);
                if answer.is_ok() && c as c_int & libc::PROT_WRITE != 0 {
                    held.made_writable(b);
                }
                answer
            }
            libc::SYS_munlock => raw::forward(number as usize, args),
            libc::SYS_mlockall | libc::SYS_munlockall => {
                held.marked();
                let answer = raw::forward(number as usize, args);
                if answer.is_ok() {
                    held.locked(number == libc::SYS_mlockall && a & libc::MCL_FUTURE as usize != 0);
                }
                answer
            }
            _ => {
                held.marked();
                raw::forward(number as usize, args)
            }
        }
    }
}

/// Whether a range has a part in the arena that is planned. What can't be managed there is refused before the process wakes
/// too: no move gets past a guard, and frames have no protection key.
fn is_planned(addr: usize, len: usize) -> bool {
    decide::split_loosely(addr, len, &sleep::planned_arena()).is_some()
}

/// `MADV_GUARD_INSTALL` and `MADV_GUARD_REMOVE`.
const fn is_guard(advice: c_int) -> bool {
    matches!(advice, 102 | 103)
}

/// Advice of which nothing is left on the mapping.
const fn is_plain(advice: c_int) -> bool {
    matches!(
        advice,
        libc::MADV_NORMAL
            | libc::MADV_WILLNEED
            | libc::MADV_DONTNEED
            | libc::MADV_FREE
            | libc::MADV_COLD
            | libc::MADV_PAGEOUT
            | libc::MADV_POPULATE_READ
            | libc::MADV_POPULATE_WRITE
            | libc::MADV_COLLAPSE
    )
}

unsafe fn map(held: &Held, request: &Request) -> Answer {
    let Request { addr, len, prot, flags, .. } = *request;
    if flags & libc::MAP_LOCKED != 0 {
        held.marked();
    }
    let texts = if addr == 0 { Default::default() } else { texts::all() };
    let at = addr - addr % decide::PAGE;
    let kernel = |addr: usize, flags: c_int| {
        // SAFETY: by the caller's promise.
        unsafe { map::kernel_map(&Request { addr, flags, ..*request }) }
    };
    let place = || {
        let flags = flags & !libc::MAP_FIXED_NOREPLACE | unaccounted(len);
        kernel(held.place(len), flags)
    };
    let answer = match decide::map(addr, len, flags, &sleep::planned_arena(), &texts) {
        MapRoute::Managed => place(),
        MapRoute::NearCode => {
            // SAFETY: by the caller's promise.
            unsafe { map::map_exactly(&Request { addr: at, ..*request }) }.or_else(|_| place())
        }
        MapRoute::Hinted | MapRoute::FixedFree => kernel(addr, flags | unaccounted(len)),
        MapRoute::Fixed => {
            held.unmapped(&(addr..addr.saturating_add(len)));
            kernel(addr, flags | unaccounted(len))
        }
        MapRoute::Foreign => {
            held.unmapped(&(addr..addr.saturating_add(len)));
            return kernel(addr, flags);
        }
        MapRoute::Kernel if flags & libc::MAP_GROWSDOWN != 0 && addr == 0 => {
            // SAFETY: by the caller's promise.
            return unsafe { map::map_growing(request, &sleep::planned_arena()) };
        }
        MapRoute::Kernel | MapRoute::ForeignHinted | MapRoute::ForeignFree => return kernel(addr, flags),
    };
    if answer.is_ok() && prot & libc::PROT_WRITE != 0 {
        held.mapped(len);
    }
    answer
}

/// From this size on the kernel accounts for a mapping as the program says, in bytes: it may refuse one that is too large. Others
/// have the flag of the arena's, so that both join.
const LARGE: usize = 1 << 30;

fn unaccounted(len: usize) -> c_int {
    if len < LARGE { libc::MAP_NORESERVE } else { 0 }
}

/// Whether the kernel would map so much, for what it does not account for.
fn has_room(len: usize) -> bool {
    let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let request = Request { addr: 0, len, prot, flags, fd: -1, offset: 0 };
    // SAFETY: nothing that exists is touched, and what is mapped is unmapped again.
    unsafe { map::kernel_map(&request).and_then(|at| raw::call!(libc::SYS_munmap, at, len)) }.is_ok()
}

/// Where the break is then. Like the kernel it answers that also where it could not be moved.
fn set_break(held: &Held, to: usize) -> usize {
    let (heap, now) = held.heap();
    held.set_break(now);
    if !(heap.start..=heap.end).contains(&to) {
        return now;
    }
    let (old, new) = (now.next_multiple_of(decide::PAGE), to.next_multiple_of(decide::PAGE));
    let done = if new > old {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | unaccounted(new - old);
        held.mapped(new - old);
        // SAFETY: nothing that exists is touched.
        unsafe { map::map_exactly(&Request { addr: old, len: new - old, prot, flags, fd: -1, offset: 0 }) }
            .is_ok()
    } else if new < old {
        // SAFETY: the program gives up what lies above its break.
        unsafe { raw::call!(libc::SYS_munmap, new, old - new) }.is_ok()
    } else {
        true
    };
    if !done {
        return now;
    }
    held.set_break(to);
    super::brk::note(to);
    to
}

/// What moves stays in the arena: the kernel would put it where it likes.
unsafe fn remap(held: &Held, call: &Remap) -> Answer {
    let Remap { old, old_len, new_len, flags, new_addr } = *call;
    let arena = sleep::planned_arena();
    let kernel = |flags: c_int, new_addr: usize| {
        // SAFETY: by the caller's promise.
        unsafe { raw::call!(forward: libc::SYS_mremap, old, old_len, new_len, flags, new_addr) }
    };
    let moved = |answer: Answer| {
        if let Ok(to) = answer
            && to != old
        {
            held.moved(old..old.saturating_add(old_len), to);
        }
        answer
    };
    let plain_growth = flags == libc::MREMAP_MAYMOVE && new_len > old_len && old_len > 0;
    if !plain_growth || !arena.contains(&old) {
        if flags & libc::MREMAP_FIXED != 0 {
            held.unmapped(&(new_addr..new_addr.saturating_add(new_len)));
        }
        return moved(kernel(flags, new_addr));
    }
    if new_len > decide::USER_END {
        // The kernel has its own word for that.
        return kernel(flags, new_addr);
    }
    if new_len - old_len >= LARGE && !has_room(new_len - old_len) {
        return Err(libc::ENOMEM);
    }
    let in_place = kernel(0, 0);
    if in_place != Err(libc::ENOMEM) {
        return in_place.inspect(|_| held.mapped(new_len - old_len));
    }
    let at = held.place(new_len);
    let reserve = Request {
        addr: at,
        len: new_len,
        prot: libc::PROT_NONE,
        flags: libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
        fd: -1,
        offset: 0,
    };
    // SAFETY: nothing that exists is touched; and then only what was reserved here.
    unsafe {
        let to = map::kernel_map(&reserve)?;
        let answer = kernel(flags | libc::MREMAP_FIXED, to);
        match answer {
            Ok(_) => held.mapped(new_len - old_len),
            Err(_) => {
                let _ = raw::call!(libc::SYS_munmap, to, new_len);
            }
        }
        moved(answer)
    }
}
