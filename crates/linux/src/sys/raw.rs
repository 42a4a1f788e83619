//! The bare system call instruction, for the few calls that rustix has no name for.

use super::{Errno, Result};

#[cfg(not(target_arch = "x86_64"))]
compile_error!("quire-linux knows the system call and clone instructions of x86_64 only");

/// Makes system call `number` with up to six arguments; missing ones are zero.
///
/// # Safety
/// The arguments must be what this system call expects; pointers among them must be valid for what the
/// kernel reads and writes through them.
#[inline]
pub(crate) unsafe fn syscall<const N: usize>(number: libc::c_long, given: [usize; N]) -> Result<usize> {
    const { assert!(N <= 6) };
    let mut args = [0usize; 6];
    args[..N].copy_from_slice(&given);
    let value: isize;
    // SAFETY: the instruction clobbers rcx and r11 and nothing else; the kernel's effects are the caller's duty.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => value,
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
    if (-4095..0).contains(&value) {
        return Err(Errno::from_raw_os_error(-value as i32));
    }
    Ok(value as usize)
}
