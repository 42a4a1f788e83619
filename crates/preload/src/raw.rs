//! System calls without libc: no `errno`, no cancellation, no interposed function in between.

use core::arch::{asm, naked_asm};
use core::ffi::{c_int, c_long};

use quire_linux::limits;

/// What a system call answers: a value, or the error's number.
pub(crate) type Answer = Result<usize, i32>;

/// Makes system call `number`.
///
/// # Safety
///
/// As the call itself: pointers must be good for what the kernel does with them.
#[inline]
pub(crate) unsafe fn syscall(number: usize, args: [usize; 6]) -> Answer {
    let ret: isize;
    // SAFETY: the kernel clobbers rax, rcx and r11 only; memory is taken as clobbered, the stack stays as it is. What
    // the call does with its arguments is the caller's promise.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => ret,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    if (-4095..0).contains(&ret) { Err(-ret as i32) } else { Ok(ret as usize) }
}

/// Makes system call `number` for the program, from a place of its own: filters of the program's judge it as natively, and not
/// as one of Quire's ([`filter`](crate::calls::filter)).
///
/// # Safety
///
/// As the call itself, which must not return twice on one stack.
#[inline]
pub(crate) unsafe fn forward(number: usize, args: [usize; 6]) -> Answer {
    let [a, b, c, d, e, f] = args;
    // SAFETY: by the caller's promise.
    let ret = unsafe { programs(number, a, b, c, d, e, f) };
    if (-4095..0).contains(&ret) { Err(-ret as i32) } else { Ok(ret as usize) }
}

/// The program's calls.
#[unsafe(naked)]
unsafe extern "C" fn programs(
    number: usize,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> isize {
    naked_asm!(
        "mov rax, rdi",
        "mov rdi, rsi",
        "mov rsi, rdx",
        "mov rdx, rcx",
        "mov r10, r8",
        "mov r8, r9",
        "mov r9, [rsp + 8]",
        "syscall",
        "ret",
    )
}

/// What the kernel sees as the place of the program's calls: the address behind the instruction. `None` where that is not
/// where it ought to be.
pub(crate) fn place_of_forwarded() -> Option<usize> {
    /// Bytes before the instruction, and the instruction.
    const BEFORE: usize = 23;
    const SYSCALL: [u8; 2] = [0x0f, 0x05];
    let start = programs as *const () as usize;
    let instruction = (start + BEFORE) as *const [u8; 2];
    // SAFETY: the function is longer than that, and code can be read.
    (unsafe { instruction.read() } == SYSCALL).then_some(start + BEFORE + SYSCALL.len())
}

/// Makes a system call known by its constant in the libc crate, with up to six arguments.
macro_rules! call {
    ($number:expr $(, $arg:expr)* $(,)?) => { $crate::raw::call!(syscall: $number $(, $arg)*) };
    ($how:ident: $number:expr $(, $arg:expr)* $(,)?) => {{
        let mut args = [0usize; 6];
        let given = [$($arg as usize),*];
        args[..given.len()].copy_from_slice(&given);
        $crate::raw::$how($number as usize, args)
    }};
}
pub(crate) use call;

/// Sets `errno` for the calling thread, which must be libc's.
#[cold]
pub(crate) fn set_errno(errno: i32) {
    // SAFETY: every thread of the program has its errno, and only it writes there.
    unsafe { *libc::__errno_location() = errno };
}

/// An answer as `syscall` gives it: a value, or -1 and `errno`.
pub(crate) fn to_long(answer: Answer) -> c_long {
    match answer {
        Ok(value) => value as c_long,
        Err(errno) => {
            set_errno(errno);
            -1
        }
    }
}

/// An answer as C functions give it: 0 or a value, or -1 and `errno`.
pub(crate) fn to_int(answer: Answer) -> c_int {
    to_long(answer) as c_int
}

/// The calling thread's id.
pub(crate) fn gettid() -> u32 {
    // SAFETY: takes no pointers and can't fail.
    unsafe { call!(libc::SYS_gettid, 0) }.unwrap_or(0) as u32
}

/// The calling process's id.
pub(crate) fn getpid() -> u32 {
    // SAFETY: takes no pointers and can't fail.
    unsafe { call!(libc::SYS_getpid, 0) }.unwrap_or(0) as u32
}

/// Maps `len` bytes of private anonymous memory, readable and writable, that costs nothing until it is touched.
pub(crate) fn map_pages(len: usize) -> Option<*mut u8> {
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping where the kernel likes; nothing that exists is touched.
    let map = || unsafe { call!(libc::SYS_mmap, 0usize, len, prot, flags, -1isize, 0usize) };
    own_memory(map).ok().map(|at| at as *mut u8)
}

/// Asks the kernel for memory of this library's own: limits of the program's make way for it.
pub(crate) fn own_memory(ask: impl Fn() -> Answer) -> Answer {
    match ask() {
        Err(libc::ENOMEM) if limits::make_room() => ask(),
        answer => answer,
    }
}

/// Unmaps what [`map_pages`] mapped, or a part of it.
///
/// # Safety
///
/// Nobody uses these pages any more.
pub(crate) unsafe fn unmap_pages(at: *mut u8, len: usize) -> bool {
    // SAFETY: by the caller's promise.
    unsafe { call!(libc::SYS_munmap, at, len) }.is_ok()
}
