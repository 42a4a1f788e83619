//! mremap.
//!
//! The kernel unmaps where it moves from, which within the arena would leave a hole for mappings of its own. So there it
//! moves with `MREMAP_DONTUNMAP`, and the old place goes back to the pager.

use core::ops::Range;

use super::arena;
use super::map::{Request, end_foreign, kernel_map, over_arena, unmap, unmap_inside};
use crate::decide::{self, Remap, RemapRoute};
use crate::pager_api::{self, Call, FOREIGN_TARGET, Kind, TARGET_ENDED};
use crate::raw::{self, Answer};

/// # Safety
///
/// As mremap: the old range, and with `MREMAP_FIXED` the new one, are the caller's to change.
pub(super) unsafe fn remap(call: &Remap) -> Answer {
    // SAFETY: by the caller's promise, in each of them.
    unsafe {
        match decide::remap(call, &arena()) {
            RemapRoute::Kernel => kernel(call),
            RemapRoute::Inside => inside(&call.in_pages()),
            RemapRoute::Unsized => match pager_api::piece(call.old, decide::PAGE).kind {
                Kind::Gap => Err(libc::EFAULT),
                // There is nothing to share, and nothing so long.
                Kind::Managed => Err(libc::EINVAL),
                Kind::Foreign => double(&call.in_pages()),
            },
            RemapRoute::Foreign => over_arena(call.new_addr, call.new_len, || kernel(call)),
            RemapRoute::Fault => Err(libc::EFAULT),
        }
    }
}

unsafe fn kernel(call: &Remap) -> Answer {
    let Remap { old, old_len, new_len, flags, new_addr } = *call;
    // SAFETY: by the caller's promise.
    unsafe { raw::call!(libc::SYS_mremap, old, old_len, new_len, flags, new_addr) }
}

/// Maps what a mapping of the kernel's in the arena shows once more, if it is shared: length 0 means that.
unsafe fn double(call: &Remap) -> Answer {
    let target = decide::split(call.new_addr, call.new_len, &arena()).filter(|_| call.is_fixed());
    // SAFETY: by the caller's promise; nothing that exists is touched before the double does.
    unsafe {
        if target.is_none() {
            return kernel(call);
        }
        let flags = libc::MREMAP_MAYMOVE;
        let old = kernel(&Remap { flags, ..*call })?;
        to_target(&Remap { old, old_len: call.new_len, ..*call })
    }
}

/// The old range is in the arena.
unsafe fn inside(call: &Remap) -> Answer {
    // What a target has no place for is unmapped, whatever it is.
    let len = if call.is_fixed() { call.old_len.min(call.new_len) } else { call.old_len };
    let end = call.old + len;
    let first = if pager_api::has_foreign() {
        pager_api::piece(call.old, len)
    } else {
        pager_api::Piece { kind: Kind::Managed, end }
    };
    // SAFETY: by the caller's promise.
    unsafe {
        match first.kind {
            Kind::Gap => Err(libc::EFAULT),
            Kind::Managed if first.end == end => managed(call),
            Kind::Foreign if first.end == end => foreign(call),
            _ => several(call, first),
        }
    }
}

/// A range of managed memory and of mappings of the kernel's: as such it shrinks, or each of its parts moves.
unsafe fn several(call: &Remap, first: pager_api::Piece) -> Answer {
    let end = call.old + call.old_len;
    if !call.is_fixed() && !call.keeps() && call.new_len <= call.old_len {
        // SAFETY: by the caller's promise.
        unsafe { unmap_tail(call) }?;
        return Ok(call.old);
    }
    if !call.is_fixed() || call.new_len != call.old_len || !pager_api::moves_several() {
        return Err(libc::EFAULT);
    }
    let (mut at, mut piece) = (call.old, first);
    loop {
        let len = piece.end - at;
        let part =
            Remap { old: at, old_len: len, new_len: len, new_addr: call.new_addr + (at - call.old), ..*call };
        if piece.kind != Kind::Gap {
            // SAFETY: by the caller's promise.
            unsafe { inside(&part) }?;
        }
        at = piece.end;
        if at == end {
            return Ok(call.new_addr);
        }
        piece = pager_api::piece(at, end - at);
    }
}

unsafe fn unmap_tail(call: &Remap) -> Answer {
    if call.new_len >= call.old_len {
        return Ok(0);
    }
    // SAFETY: by the caller's promise.
    unsafe { unmap_inside(&(call.old + call.new_len..call.old + call.old_len)) }
}

/// Managed memory, as the pager sees it: what is no mapping it refuses.
unsafe fn managed(call: &Remap) -> Answer {
    let Remap { old, old_len, new_len, flags, new_addr } = *call;
    // SAFETY: by the caller's promise.
    unsafe {
        match pager_api::call(Call::Remap { old, old_len, new_len, flags, new_addr }) {
            Err(libc::EOPNOTSUPP) => out_of_arena(call),
            Err(FOREIGN_TARGET) => over_foreign(call),
            answer => answer,
        }
    }
}

/// Over mappings of the kernel's in the arena, or over anything outside: from here on what is there is gone, as with the kernel.
unsafe fn over_foreign(call: &Remap) -> Answer {
    let Remap { old, old_len, new_len, flags, new_addr } = *call;
    let outside = !pager_api::is_managed(new_addr, new_len);
    // SAFETY: by the caller's promise.
    unsafe {
        if outside {
            each_target(call, |part| kernel_map(&reservation(part.start, part.len())))?;
        } else {
            each_target(call, |part| end_foreign(part))?;
        }
        let flags = flags | TARGET_ENDED;
        let answer = pager_api::call(Call::Remap { old, old_len, new_len, flags, new_addr });
        if outside && answer.is_err() {
            // Opposite to what has moved nothing is any longer.
            each_target(call, |part| raw::call!(libc::SYS_munmap, part.start, part.len()))?;
        }
        answer
    }
}

/// Does something with what is written over, part by part: opposite to a gap nothing is.
fn each_target(call: &Remap, act: impl Fn(&Range<usize>) -> Answer) -> Answer {
    let Remap { old, old_len, new_len, new_addr, .. } = *call;
    if new_len != old_len {
        return act(&(new_addr..new_addr + new_len));
    }
    let mut at = old;
    while at < old + old_len {
        let piece = pager_api::piece(at, old + old_len - at);
        if piece.kind != Kind::Gap {
            act(&(new_addr + (at - old)..new_addr + (piece.end - old)))?;
        }
        at = piece.end;
    }
    Ok(0)
}

/// The arena has no room for it: the kernel chooses the place, and has the memory from then on.
unsafe fn out_of_arena(call: &Remap) -> Answer {
    // SAFETY: nothing that exists is touched; then by the caller's promise.
    unsafe {
        let new_addr = kernel_map(&reservation(0, call.new_len))?;
        let answer = managed(&Remap { flags: call.flags | libc::MREMAP_FIXED, new_addr, ..*call });
        if answer.is_err() {
            raw::call!(libc::SYS_munmap, new_addr, call.new_len)?;
        }
        answer
    }
}

/// Addresses without anything, at `addr` in place of whatever is there, or where the kernel likes.
fn reservation(addr: usize, len: usize) -> Request {
    let fixed = if addr == 0 { 0 } else { libc::MAP_FIXED };
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | fixed;
    Request { addr, len, prot: libc::PROT_NONE, flags, fd: -1, offset: 0 }
}

/// A mapping of the kernel's in the arena.
unsafe fn foreign(call: &Remap) -> Answer {
    let Remap { old, old_len, new_len, flags, new_addr } = *call;
    // SAFETY: by the caller's promise, in each of them.
    unsafe {
        if call.keeps() {
            return to_target(call);
        }
        if !call.is_fixed() && new_len <= old_len {
            // The kernel has nothing to do but to look whether there is a mapping.
            unmap_tail(call)?;
            return kernel(&Remap { old_len: new_len, ..*call });
        }
        if !call.may_move() {
            return Err(libc::ENOMEM);
        }
        let flags = flags | libc::MREMAP_DONTUNMAP;
        let answer = if new_len <= old_len {
            unmap_tail(call)?;
            to_target(&Remap { old_len: new_len, flags, ..*call })?
        } else {
            // Nothing grows while its old place stays: so it grows outside the arena, and goes back if it can't.
            let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_DONTUNMAP;
            let away = kernel(&Remap { new_len: old_len, flags, new_addr: 0, ..*call })?;
            match to_target(&Remap { old: away, ..*call }) {
                Ok(at) => at,
                Err(errno) => {
                    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
                    kernel(&Remap { old: away, old_len, new_len: old_len, flags, new_addr: old })?;
                    return Err(errno);
                }
            }
        };
        unmap(old, old_len.min(new_len))?;
        Ok(answer)
    }
    .inspect(|&at| debug_assert!(!call.is_fixed() || at == new_addr))
}

/// The kernel's part, with a target that may lie in the arena.
unsafe fn to_target(call: &Remap) -> Answer {
    // SAFETY: by the caller's promise.
    unsafe {
        if call.is_fixed() { over_arena(call.new_addr, call.new_len, || kernel(call)) } else { kernel(call) }
    }
}
