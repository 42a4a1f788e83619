//! Filters that the program sets for its system calls. They get a head by which Quire's own calls pass
//! ([`quire_linux::filter`]).

use core::ptr;

use quire_linux::filter::{self, HEAD, Instruction, MOST, Own};

use super::threads;
use crate::raw::{self, Answer};
use crate::{pager_api, texts};

const SET_MODE_STRICT: usize = 0;
const SET_MODE_FILTER: usize = 1;
/// The filter is for all threads of the process.
const TSYNC: usize = 1;

/// seccomp.
///
/// # Safety
///
/// As the call itself.
pub(super) unsafe fn by_number(args: [usize; 6]) -> Answer {
    let [operation, flags, program, ..] = args;
    // SAFETY: by the caller's promise.
    let kernel =
        |flags: usize, program: usize| unsafe { raw::call!(libc::SYS_seccomp, operation, flags, program) };
    if operation != SET_MODE_FILTER {
        if operation == SET_MODE_STRICT && flags == 0 && program == 0 {
            threads::note_strict();
        }
        return kernel(flags, program);
    }
    set(program, flags & TSYNC != 0, |program, for_all| {
        kernel(if for_all { flags } else { flags & !TSYNC }, program)
    })
}

/// prctl's way, for this thread.
///
/// # Safety
///
/// As prctl with `PR_SET_SECCOMP`.
pub(super) unsafe fn by_control(args: [usize; 4]) -> Answer {
    let [mode, program, ..] = args;
    // SAFETY: by the caller's promise.
    let kernel = |program: usize| unsafe { raw::call!(libc::SYS_prctl, libc::PR_SET_SECCOMP, mode, program) };
    if mode != libc::SECCOMP_MODE_FILTER as usize {
        if mode == libc::SECCOMP_MODE_STRICT as usize {
            threads::note_strict();
        }
        return kernel(program);
    }
    set(program, false, |program, _| kernel(program))
}

/// Sets a filter. `install` takes its program, and whether it is for all threads.
fn set(program: usize, for_all: bool, install: impl Fn(usize, bool) -> Answer) -> Answer {
    let Some(given) = threads::peek::<Program>(program) else { return install(program, for_all) };
    // Threads of Quire's need no filter: where the program has one thread, this is for that.
    let for_all = for_all && !threads::is_single();
    pager_api::before_filter(for_all);
    let copy = Copied::with_head(&given);
    install(copy.as_ref().map_or(program, |copy| copy.at as usize), for_all)
}

/// `struct sock_fprog`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Program {
    len: u16,
    instructions: usize,
}

/// A program with the head, in memory of its own.
struct Copied {
    at: *mut u8,
}

const BYTES: usize = size_of::<Program>() + MOST * size_of::<Instruction>();

impl Copied {
    /// `None`: there is no memory, it would be too long, or it can't be read, which the kernel will say.
    fn with_head(given: &Program) -> Option<Copied> {
        let own = Own { text: texts::own(), programs: raw::place_of_forwarded()?, pid: raw::getpid() };
        let first = threads::peek::<Instruction>(given.instructions)?;
        let mut head = [Instruction::default(); HEAD];
        let len = filter::head(&own, first, &mut head);
        let head = &head[..len];
        let count = usize::from(given.len);
        if count == 0 || head.len() + count > MOST {
            return None;
        }
        let copied = Copied { at: raw::map_pages(BYTES)? };
        // SAFETY: the mapping is this function's alone and has room for a program of `MOST` instructions behind its own
        // description, both aligned to 8 bytes.
        unsafe {
            let instructions = copied.at.add(size_of::<Program>()).cast::<Instruction>();
            ptr::copy_nonoverlapping(head.as_ptr(), instructions, head.len());
            let behind = instructions.add(head.len());
            if !threads::peek_into(given.instructions, behind.cast(), count * size_of::<Instruction>()) {
                return None;
            }
            let len = (head.len() + count) as u16;
            copied.at.cast::<Program>().write(Program { len, instructions: instructions as usize });
        }
        Some(copied)
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        // SAFETY: the kernel has taken the program over, and nobody else knows of it.
        unsafe { raw::unmap_pages(self.at, BYTES) };
    }
}
