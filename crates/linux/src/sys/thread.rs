//! Threads that libc does not know.
//!
//! A thread gets one mapping of its own, which a forked child does not inherit:
//!
//! ```text
//! guard page | stack .............. | thread-local area | control page: fs points here
//! ```
//!
//! The thread-local area is zeroes, below the thread pointer, where the static model of x86-64 looks for
//! variables such as `errno`; so a libc function that fails, or that was built with a stack protector, does
//! no harm. What libc allocates per thread on demand (locale, stdio, `dlopen`ed libraries' variables) is not
//! there and must not be used. All signals are blocked from the first instruction to the last.

use super::futex::{self, Scope, Woken};
use super::own::{MARK, MARK_AT};
use super::sched::SignalsBlocked;
use super::{Errno, Result, mmap, raw};
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use quire_core::PAGE_SIZE;

/// The least room for thread-local variables, in bytes.
const LEAST_TLS: usize = 32 * 1024;
/// Room for libc's other thread-locals beyond `errno`, in bytes.
const TLS_MARGIN: usize = PAGE_SIZE;
/// The least stack, in bytes.
const LEAST_STACK: usize = 64 * 1024;
/// The control page: what glibc calls `tcbhead_t` at its start, our own words in its second half.
const CONTROL: usize = PAGE_SIZE;
/// Where in the control page the word is that the kernel clears at the thread's end.
const ALIVE_AT: usize = 2048;
/// Where in the control page the thread finds what to run.
const START_AT: usize = 2056;

const FLAGS: i32 = libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_SETTLS
    | libc::CLONE_PARENT_SETTID
    | libc::CLONE_CHILD_CLEARTID;

/// Bytes mapped for threads.
static MAPPED: AtomicUsize = AtomicUsize::new(0);

/// Bytes mapped for threads of Quire's, in a forked child also for those of its parent.
pub fn mapped() -> usize {
    MAPPED.load(Ordering::Relaxed)
}

/// Threads that run.
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// How many threads of Quire's this process has.
pub fn live() -> usize {
    LIVE.load(Ordering::Relaxed)
}

/// In a forked child, which has none yet.
pub fn forget_all() {
    LIVE.store(0, Ordering::Relaxed);
}

/// What a new thread runs. Returning ends the thread.
pub type Entry = fn(usize);

#[repr(C)]
struct Start {
    entry: Entry,
    arg: usize,
    name: [u8; 16],
}

/// A thread made by [`spawn`]. Dropping it lets the thread run on; its memory then stays for ever.
///
/// A forked child has neither the thread nor its memory: there a handle may be forgotten, but not asked.
#[derive(Debug)]
pub struct Thread {
    tid: u32,
    base: usize,
    len: usize,
}

impl Thread {
    /// The kernel's id of the thread.
    pub fn tid(&self) -> u32 {
        self.tid
    }

    /// Whether the thread has ended.
    pub fn has_ended(&self) -> bool {
        self.alive().load(Ordering::Acquire) == 0
    }

    /// Waits for the thread's end, at most `timeout_ns` nanoseconds, and gives its memory back. A thread
    /// that has not ended comes back as the error.
    pub fn join(self, timeout_ns: u64) -> core::result::Result<(), Thread> {
        let end = super::clock::now_ns().saturating_add(timeout_ns);
        loop {
            let left = end.saturating_sub(super::clock::now_ns());
            match self.alive().load(Ordering::Acquire) {
                0 => break,
                _ if left == 0 => return Err(self),
                // The kernel's wake at a thread's end is a shared one.
                tid => match futex::wait(self.alive(), tid, Some(left), Scope::Shared) {
                    Woken::LookAgain | Woken::TimedOut => {}
                },
            }
        }
        // The kernel has left the stack for good once the word is clear. A failure would only leak it.
        if mmap::unmap(self.base, self.len).is_ok() {
            MAPPED.fetch_sub(self.len, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether byte address `addr` lies in the thread's own mapping.
    pub fn owns(&self, addr: usize) -> bool {
        (self.base..self.base + self.len).contains(&addr)
    }

    fn alive(&self) -> &AtomicU32 {
        let addr = self.base + self.len - CONTROL + ALIVE_AT;
        // SAFETY: the control page stays mapped as long as `self` lives, is written there by the kernel and
        // read by us as one aligned word only, and `addr` is aligned to 8.
        unsafe { AtomicU32::from_ptr(core::ptr::with_exposed_provenance_mut(addr)) }
    }
}

/// Starts a thread that runs `entry(arg)` on a stack of `stack` bytes, shown as `name` (at most 15 bytes).
pub fn spawn(name: &str, stack: usize, entry: Entry, arg: usize) -> Result<Thread> {
    let stack = stack.max(LEAST_STACK).next_multiple_of(PAGE_SIZE);
    let tls = tls_room();
    let len = PAGE_SIZE + stack + tls + CONTROL;
    let base = mmap::map(len)?;
    let made = prepare(base, len).and_then(|()| start(base, len, tls, name, entry, arg));
    match made {
        Ok(_) => MAPPED.fetch_add(len, Ordering::Relaxed),
        Err(_) => mmap::unmap(base, len).map(|()| 0)?,
    };
    made
}

fn prepare(base: usize, len: usize) -> Result<()> {
    mmap::no_huge_pages(base, len)?;
    mmap::advise(base, len, mmap::Advice::DontFork)?;
    mmap::advise(base, len, mmap::Advice::DontDump)?;
    mmap::protect(base, PAGE_SIZE, 0)
}

/// How far below the thread pointer libc's variables reach. A program with large thread-locals of its own
/// pushes them down, and `errno` must not fall into the stack.
fn tls_room() -> usize {
    let pointer: usize;
    // SAFETY: the first word that fs points to is its own address, on every thread, ours included.
    unsafe {
        core::arch::asm!("mov {0}, fs:[0]", out(reg) pointer, options(nostack, readonly, preserves_flags));
    }
    // SAFETY: it only computes an address from the thread pointer.
    let errno = unsafe { libc::__errno_location() }.addr();
    LEAST_TLS.max(pointer.saturating_sub(errno) + TLS_MARGIN).next_multiple_of(PAGE_SIZE)
}

/// While another thread of the process becomes another program, which may fail, the kernel makes no thread: it refuses as
/// where there are too many. How often to try again, and after how many ns.
const TRIES: u32 = 200;
const AGAIN_NS: u64 = 1_000_000;

fn start(base: usize, len: usize, tls: usize, name: &str, entry: Entry, arg: usize) -> Result<Thread> {
    let control = base + len - CONTROL;
    let stack_top = control - tls;
    let mut start = Start { entry, arg, name: [0; 16] };
    let bytes = &name.as_bytes()[..name.len().min(15)];
    start.name[..bytes.len()].copy_from_slice(bytes);
    // SAFETY: the control page is fresh memory of this function's alone, and both offsets are aligned.
    unsafe {
        write_head(control);
        core::ptr::with_exposed_provenance_mut::<Start>(control + START_AT).write(start);
    }
    let blocked = SignalsBlocked::new();
    LIVE.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the stack, thread pointer and words are those of the mapping just made, which the new thread
    // owns until it has ended.
    let clone = || unsafe { clone(stack_top, control, control + ALIVE_AT, control + START_AT) };
    let mut tid = clone();
    for _ in 0..TRIES {
        if tid != Err(Errno::AGAIN) {
            break;
        }
        futex::sleep(AGAIN_NS);
        tid = clone();
    }
    drop(blocked);
    if tid.is_err() {
        LIVE.fetch_sub(1, Ordering::Relaxed);
    }
    tid.map(|tid| Thread { tid, base, len })
}

/// Writes the start of the control page: its own address twice, the mark of our threads, and the stack protector's and pointer
/// guard's values of the calling thread.
///
/// # Safety
/// `control` must be a writable page.
unsafe fn write_head(control: usize) {
    let word = |at: usize| core::ptr::with_exposed_provenance_mut::<usize>(control + at);
    let (canary, guard): (usize, usize);
    // SAFETY: every thread of an x86-64 process with a libc has these words; `control` is the caller's duty.
    unsafe {
        core::arch::asm!(
            "mov {0}, fs:[0x28]",
            "mov {1}, fs:[0x30]",
            out(reg) canary,
            out(reg) guard,
            options(nostack, readonly, preserves_flags),
        );
        word(0).write(control);
        word(0x10).write(control);
        word(MARK_AT).write(MARK);
        word(0x28).write(canary);
        word(0x30).write(guard);
    }
}

/// Makes the thread. In the parent: its id.
///
/// # Safety
/// `stack_top` must be the aligned end of a stack that nobody else uses, `tls` the address of a prepared
/// control page, `alive` that of a word and `start` that of a [`Start`] in it.
unsafe fn clone(stack_top: usize, tls: usize, alive: usize, start: usize) -> Result<u32> {
    let value: isize;
    // SAFETY: the parent only sees a system call. The child starts on an empty stack of its own, aligned to
    // 16 bytes as the ABI wants before a call, and never gets past `ud2`. What `main` needs is in r12 and
    // r13, which the kernel copies to the child.
    unsafe {
        core::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone as isize => value,
            in("rdi") FLAGS as usize,
            in("rsi") stack_top,
            in("rdx") alive,
            in("r10") alive,
            in("r8") tls,
            in("r12") start,
            in("r13") main as extern "C" fn(*const Start) -> !,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    if value < 0 {
        return Err(Errno::from_raw_os_error(-value as i32));
    }
    Ok(value as u32)
}

/// The first function of every thread.
extern "C" fn main(start: *const Start) -> ! {
    // SAFETY: the parent wrote it before the thread began, and nobody writes it again.
    let start = unsafe { &*start };
    // SAFETY: the name ends with a zero byte, which is at the latest its sixteenth. Without a name it works too.
    let _ =
        unsafe { raw::syscall(libc::SYS_prctl, [libc::PR_SET_NAME as usize, start.name.as_ptr().addr()]) };
    (start.entry)(start.arg);
    exit()
}

/// Ends the calling thread, which must have been made by [`spawn`]; the process goes on.
pub fn exit() -> ! {
    LIVE.fetch_sub(1, Ordering::Relaxed);
    loop {
        // SAFETY: nothing on this thread's stack is needed any more: it owns no libc state to be torn down.
        let _ = unsafe { raw::syscall(libc::SYS_exit, [0]) };
    }
}

/// Ends the process with a status.
pub fn end_process(status: i32) -> ! {
    loop {
        // SAFETY: nothing runs on after it.
        let _ = unsafe { raw::syscall(libc::SYS_exit_group, [status as usize]) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::sched;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn the_room_for_thread_locals_reaches_past_errno() {
        // Measured from a thread of libc's, and so from one of ours, where the same distance holds.
        static FROM_OURS: AtomicU32 = AtomicU32::new(0);
        fn body(_: usize) {
            FROM_OURS.store(tls_room() as u32, Ordering::Release);
        }
        spawn("quire-test", 0, body, 0).unwrap().join(5 * SECOND).unwrap();
        assert_eq!(FROM_OURS.load(Ordering::Acquire), tls_room() as u32);
        assert!(tls_room() >= LEAST_TLS && tls_room() < 16 << 20);
    }

    #[test]
    fn a_thread_runs_and_its_end_is_seen() {
        static SEEN: AtomicU32 = AtomicU32::new(0);
        fn body(arg: usize) {
            let mut from = [7u8; 3000];
            let mut to = [0u8; 3000];
            from[2999] = arg as u8;
            to.copy_from_slice(core::hint::black_box(&from));
            assert!(to[2999] == 41);
            SEEN.store(sched::gettid(), Ordering::Release);
            let _ = futex::wake(&SEEN, 1, Scope::Process);
        }
        let thread = spawn("quire-test", 0, body, 41).unwrap();
        assert_eq!(futex::wait(&SEEN, 0, Some(5 * SECOND), Scope::Process), Woken::LookAgain);
        assert_eq!(SEEN.load(Ordering::Acquire), thread.tid());
        thread.join(5 * SECOND).unwrap();
    }

    #[test]
    fn signals_are_blocked_there_and_not_here() {
        static MASK: AtomicU32 = AtomicU32::new(0);
        fn body(_: usize) {
            let before = sched::set_mask(u64::MAX);
            MASK.store((before >> 32) as u32 & before as u32, Ordering::Release);
        }
        let own = sched::set_mask(0);
        let thread = spawn("a name that is longer than fifteen", 1 << 17, body, 0).unwrap();
        assert_eq!(sched::set_mask(own), 0);
        thread.join(5 * SECOND).unwrap();
        assert_eq!(MASK.load(Ordering::Acquire), !(1 << 8 | 1 << 18));
    }

    #[test]
    fn errno_and_the_lock_work_on_it() {
        static SUM: futex::Lock<u64> = futex::Lock::new(0);
        static ERRNO: AtomicU32 = AtomicU32::new(0);
        fn body(turns: usize) {
            for _ in 0..turns {
                *SUM.lock() += 1;
            }
            // SAFETY: closing a descriptor that can't exist only sets errno, in this thread's own area.
            unsafe { libc::close(-1) };
            // SAFETY: the pointer is to the calling thread's errno.
            ERRNO.store(unsafe { *libc::__errno_location() } as u32, Ordering::Release);
        }
        let threads = [0; 3].map(|_| spawn("quire-test", 0, body, 10_000).unwrap());
        for thread in threads {
            thread.join(20 * SECOND).unwrap();
        }
        assert_eq!(*SUM.lock(), 30_000);
        assert_eq!(ERRNO.load(Ordering::Acquire), libc::EBADF as u32);
    }

    #[test]
    fn a_thread_that_waits_is_not_joined() {
        static GO: AtomicU32 = AtomicU32::new(0);
        fn body(_: usize) {
            while GO.load(Ordering::Acquire) == 0 {
                futex::wait(&GO, 0, None, Scope::Process);
            }
            exit();
        }
        let thread = spawn("quire-test", 0, body, 0).unwrap();
        let thread = thread.join(1_000_000).unwrap_err();
        assert!(!thread.has_ended() && sched::thread_lives(thread.tid()));
        GO.store(1, Ordering::Release);
        let _ = futex::wake(&GO, 1, Scope::Process);
        thread.join(5 * SECOND).unwrap();
    }
}
