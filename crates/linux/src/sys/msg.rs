//! Lines on standard error without stdio, and the end of the process.

use super::own::is_own_thread;
use super::{Errno, Result, raw, sched};
use core::fmt::{self, Write};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};

/// The longest line, in bytes; the rest is cut off.
const LINE: usize = 512;

/// A line of text in fixed memory.
#[derive(Debug)]
pub struct Line {
    len: usize,
    text: [u8; LINE],
}

impl Line {
    /// An empty line.
    pub const fn new() -> Line {
        Line { len: 0, text: [0; LINE] }
    }

    /// What was written so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..self.len]
    }
}

impl Default for Line {
    fn default() -> Line {
        Line::new()
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // One byte is kept for the end of the line.
        let room = LINE - 1 - self.len;
        let part = &text.as_bytes()[..text.len().min(room)];
        self.text[self.len..self.len + part.len()].copy_from_slice(part);
        self.len += part.len();
        Ok(())
    }
}

/// Writes `quire: ` and the text as one line to standard error, in one call.
pub fn say(text: fmt::Arguments<'_>) {
    let mut line = Line::new();
    // Writing into a `Line` never fails; an argument that fails to print itself leaves a shorter line.
    let _ = write!(line, "quire: {text}");
    line.text[line.len] = b'\n';
    line.len += 1;
    write_all(line.as_bytes());
}

fn write_all(mut bytes: &[u8]) {
    // A thread of Quire's has descriptors of its own.
    let program = if is_own_thread() { open_stderr().ok() } else { None };
    // SAFETY: the descriptor is used for this one call only; where it is closed the write fails.
    let own = unsafe { BorrowedFd::borrow_raw(2) };
    let stderr = program.as_ref().map_or(own, AsFd::as_fd);
    while !bytes.is_empty() {
        match rustix::io::write(stderr, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            // Nobody listens: there is no other place to say it.
            Err(_) => return,
        }
    }
}

/// The program's standard error, as it is now, opened anew: a pipe that nobody reads is refused, and so is a socket.
fn open_stderr() -> Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    // Of the process, whose first thread is the program's.
    let fd = rustix::fs::open(c"/proc/self/fd/2", flags, Mode::empty())?;
    rustix::fs::fcntl_setfl(&fd, OFlags::APPEND)?;
    Ok(fd)
}

/// Makes `/dev/null` of the descriptors 0, 1 and 2 of the calling thread's table: who waits for the end of what the program
/// writes to does not wait for us, and none of our own descriptors becomes one of them. The last stays as it is where it could
/// not be opened when there is something to say.
pub fn let_go_of_standard() {
    let has_stderr = open_stderr().is_ok();
    while let Ok(null) = rustix::fs::open(c"/dev/null", OFlags::RDWR, Mode::empty()) {
        if null.as_raw_fd() > 2 {
            // With a descriptor that is open these are refused for nothing.
            let _ = rustix::stdio::dup2_stdin(&null);
            let _ = rustix::stdio::dup2_stdout(&null);
            if has_stderr {
                let _ = rustix::stdio::dup2_stderr(&null);
            }
            return;
        }
        // It fills the gap for the rest of the process's life.
        let _ = null.into_raw_fd();
    }
}

/// Says why and ends the process by SIGABRT, whatever the program has done with that signal.
pub fn die(reason: fmt::Arguments<'_>) -> ! {
    say(format_args!("stopped: {reason}"));
    abort()
}

/// Ends the process by SIGABRT with its default action, else by SIGKILL.
pub fn abort() -> ! {
    let _all = sched::SignalsBlocked::new();
    let own = rustix::process::getpid().as_raw_nonzero().get() as usize;
    let abrt = libc::SIGABRT as usize;
    // The kernel's `sigaction` with SIG_DFL, no flags, no restorer, an empty mask: all zero.
    let default = [0u64; 4];
    // SAFETY: `default` outlives the calls and is the kernel's structure, whose set has 8 bytes.
    unsafe {
        let _ =
            raw::syscall(libc::SYS_rt_sigaction, [abrt, (&raw const default).addr(), 0, size_of::<u64>()]);
        let _ = raw::syscall(libc::SYS_tgkill, [own, sched::gettid() as usize, abrt]);
    }
    sched::set_mask(!(1 << (libc::SIGABRT - 1)));
    // Only where the signal was eaten, by a debugger or as the first process of a container.
    // SAFETY: both calls take numbers only.
    unsafe {
        let _ = raw::syscall(libc::SYS_kill, [own, libc::SIGKILL as usize]);
        loop {
            let _ = raw::syscall(libc::SYS_exit_group, [134]);
        }
    }
}

/// `say!("…", ..)`: a line on standard error, see [`say`](crate::sys::msg::say).
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => { $crate::sys::msg::say(format_args!($($text)*)) };
}

/// `die!("…", ..)`: the end of the process with a reason, see [`die`](crate::sys::msg::die).
#[macro_export]
macro_rules! die {
    ($($text:tt)*) => { $crate::sys::msg::die(format_args!($($text)*)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_and_keep_room_for_their_end() {
        let mut line = Line::new();
        for _ in 0..LINE {
            line.write_str("ab").unwrap();
        }
        assert_eq!(line.as_bytes().len(), LINE - 1);
    }

    #[test]
    fn dying_is_by_sigabrt_even_when_blocked_and_handled() {
        use std::os::unix::process::ExitStatusExt;
        if std::env::var_os("QUIRE_TEST_DIE").is_some() {
            let _blocked = sched::SignalsBlocked::new();
            die(format_args!("a test of {}", "dying"));
        }
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "sys::msg::tests::dying_is_by_sigabrt_even_when_blocked_and_handled",
                "--nocapture",
            ])
            .env("QUIRE_TEST_DIE", "1")
            .output()
            .unwrap();
        assert_eq!(child.status.signal(), Some(libc::SIGABRT));
        assert!(String::from_utf8_lossy(&child.stderr).contains("quire: stopped: a test of dying\n"));
    }
}
