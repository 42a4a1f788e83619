//! Signals and children of `quire` itself.
//!
//! Unlike the rest of [`sys`](super), this runs in an ordinary process with libc and `std` around it.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

/// Signals that come as messages instead of interrupting. They are blocked, not handled: what this process
/// ignores stays ignored, in its children too.
pub struct Signals {
    fd: OwnedFd,
    /// The mask from before, which belongs to the children.
    before: libc::sigset_t,
    /// What SIGXFSZ did before. It does nothing now: writing beyond a limit of the shell's (`ulimit -f`) is an error like
    /// others.
    beyond_limit: libc::sighandler_t,
}

impl std::fmt::Debug for Signals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signals").field("fd", &self.fd).finish_non_exhaustive()
    }
}

/// A signal that came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrived {
    /// Its number.
    pub signal: i32,
    /// Whether the kernel sent it: from the terminal, and then to the whole foreground group.
    pub from_kernel: bool,
}

impl Signals {
    /// Blocks `signals` for this thread and those it starts later, and ignores SIGXFSZ.
    pub fn take(signals: &[i32]) -> io::Result<Signals> {
        let mut before = MaybeUninit::uninit();
        // SAFETY: (1) all pointers are to live variables of the right type; (2) `sigemptyset` initialises
        // `set`,
        // `pthread_sigmask` initialises `before` when it returns 0; (3) the new descriptor has no other
        // owner; (4) nobody here has a handler for SIGXFSZ.
        unsafe {
            let set = set_of(signals);
            check(libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, before.as_mut_ptr()))?;
            let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            let beyond_limit = libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            Ok(Signals { fd: OwnedFd::from_raw_fd(fd), before: before.assume_init(), beyond_limit })
        }
    }

    /// The next signal that came, without waiting.
    pub fn next(&self) -> Option<Arrived> {
        let mut bytes = [0u8; size_of::<libc::signalfd_siginfo>()];
        let read = rustix::io::read(&self.fd, &mut bytes).ok()?;
        (read == bytes.len()).then(|| {
            // SAFETY: the kernel filled all of a structure of plain integers; the array may lie unaligned.
            let info: libc::signalfd_siginfo =
                unsafe { bytes.as_ptr().cast::<libc::signalfd_siginfo>().read_unaligned() };
            Arrived { signal: info.ssi_signo.cast_signed(), from_kernel: info.ssi_code > 0 }
        })
    }

    /// Waits for a signal, for at most `milliseconds`.
    pub fn wait(&self, milliseconds: u32) -> Option<Arrived> {
        let timeout = Timespec {
            tv_sec: (milliseconds / 1000).into(),
            tv_nsec: i64::from(milliseconds % 1000) * 1_000_000,
        };
        poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], Some(&timeout)).ok()?;
        self.next()
    }

    /// Starts a program with the signal mask and SIGXFSZ from before, and with SIGPIPE and closed standard streams as they
    /// were before Rust's runtime changed them.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let (before, beyond_limit) = (self.before, self.beyond_limit);
        // SAFETY: the closure runs between fork and exec and only calls functions that are safe there.
        unsafe {
            command.pre_exec(move || {
                super::streams::close_again();
                libc::signal(libc::SIGPIPE, libc::SIG_DFL);
                libc::signal(libc::SIGXFSZ, beyond_limit);
                check(libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut()))
            });
        }
        command.spawn()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Ends this process by a signal, as its program ended, without a core file of its own. Returns only when the
/// signal does not kill.
pub fn die_by(signal: i32) {
    // SAFETY: the calls change only this process's limits and dispositions, with pointers to live variables.
    // No code relies on a handler of `signal`, because this process is to end by it.
    unsafe {
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
        libc::signal(signal, libc::SIG_DFL);
        let set = set_of(&[signal]);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
        libc::raise(signal);
    }
}

/// Gives signals their default actions and blocks them no longer, before this process becomes another program.
pub fn take_defaults(signals: &[i32]) {
    for signal in signals {
        // SAFETY: a default action runs no code of this process, and nobody here relies on a handler of these. A number that
        // is none is refused.
        unsafe { libc::signal(*signal, libc::SIG_DFL) };
    }
    // SAFETY: the pointer is to a live set.
    unsafe {
        let set = set_of(signals);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
    }
}

/// Whether two processes share one address space, as after vfork. `None` when the kernel doesn't say.
pub fn same_memory(one: u32, other: u32) -> Option<bool> {
    const KCMP_VM: libc::c_int = 1;
    // SAFETY: kcmp compares kernel objects and touches no memory of this process.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, one, other, KCMP_VM, 0, 0) };
    (order >= 0).then_some(order == 0)
}

/// A set of signals.
fn set_of(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: a set is plain integers, and the calls are given a pointer to a live one.
    unsafe {
        let mut set: libc::sigset_t = zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        set
    }
}

/// The result of a call that returns an error number.
fn check(error: i32) -> io::Result<()> {
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn a_blocked_signal_comes_as_a_message_and_the_child_does_not_inherit_the_block() {
        let signals = Signals::take(&[libc::SIGUSR2]).unwrap();
        assert_eq!(signals.next(), None);
        // SAFETY: the signal is blocked for this thread.
        unsafe { libc::raise(libc::SIGUSR2) };
        assert_eq!(signals.wait(1000), Some(Arrived { signal: libc::SIGUSR2, from_kernel: false }));
        let mut shell = Command::new("sh");
        shell.args(["-c", "kill -USR2 $$; exit 3"]);
        let status = signals.spawn(&mut shell).unwrap().wait().unwrap();
        assert_eq!(status.signal(), Some(libc::SIGUSR2));
        // Nor that the signal of a limit on files is ignored here. In one test, as that is so for all of this process.
        let mut shell = Command::new("sh");
        shell.args(["-c", "kill -XFSZ $$; exit 3"]);
        assert_eq!(signals.spawn(&mut shell).unwrap().wait().unwrap().signal(), Some(libc::SIGXFSZ));
        // SAFETY: the signal is ignored.
        assert_eq!(unsafe { libc::raise(libc::SIGXFSZ) }, 0);
    }

    #[test]
    fn a_process_shares_memory_with_itself_only() {
        let own = std::process::id();
        assert_ne!(same_memory(own, own), Some(false));
        let mut child = Command::new("sleep").arg("10").spawn().unwrap();
        assert_ne!(same_memory(own, child.id()), Some(true));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
