//! What becomes of a call that arrives.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use quire_linux::libc_sites::Kind;

use super::stubs::Slot;
use crate::calls::{clone, route};

/// Whether calls that arrive are only counted, and how many did.
static LISTENING: AtomicBool = AtomicBool::new(false);
static ARRIVED: AtomicU32 = AtomicU32::new(0);

/// A system call of libc's: what it answers is what the kernel would, an error as a negative number.
///
/// # Safety
///
/// As the call itself. `args` is what the registers are to be afterwards.
pub(super) unsafe extern "C" fn called(slot: &Slot, args: &mut [usize; 6], number: usize) -> isize {
    if LISTENING.load(Ordering::Relaxed) {
        ARRIVED.fetch_add(1, Ordering::Relaxed);
        return 0;
    }
    let number = if slot.is(Kind::ByNumber) { number } else { slot.number() as usize };
    if slot.is(Kind::Low) || slot.is(Kind::LowAnywhere) {
        args[3] |= libc::MAP_32BIT as usize;
    }
    if slot.is(Kind::LowAnywhere) {
        args[0] = 0;
    }
    // In libc's own text, that of a clone's thread.
    let ends = number == libc::SYS_exit as usize && !slot.is(Kind::ByNumber);
    let number = if ends { clone::end_of(number) } else { number };
    // SAFETY: by the caller's promise.
    match unsafe { route(number as i64, *args) } {
        Ok(value) => value as isize,
        Err(errno) => -(errno as isize),
    }
}

/// Whether a call arrives while `make` runs, on the only thread. It is answered with 0, and not made.
pub(super) fn arrives(make: impl FnOnce()) -> bool {
    let before = ARRIVED.load(Ordering::Relaxed);
    LISTENING.store(true, Ordering::Relaxed);
    make();
    LISTENING.store(false, Ordering::Relaxed);
    ARRIVED.load(Ordering::Relaxed) != before
}
