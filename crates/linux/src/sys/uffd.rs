//! userfaultfd: faults as messages, and the calls that answer them.
//!
//! The three calls that move or copy pages share one protocol, which `transfer` follows: full success
//! is 0; some progress and then trouble is EAGAIN with the bytes done in the result field, and only the next
//! call tells the trouble; no progress is the real error, its negative in the result field. EAGAIN with
//! nothing done means that another change of the address space is under way, or that a fork event waits to
//! be read, so after some tries it is handed to the caller.

mod msg;
#[cfg(test)]
pub(crate) mod script;

use super::tally::{self, Call};
use super::{Errno, Result, raw};
use core::mem::size_of;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::fs::{Mode, OFlags};
use rustix::ioctl::{self, Opcode, opcode};

pub use msg::{Event, UffdMsg};

/// `UFFD_FEATURE_EVENT_FORK`: a fork of the process arrives as a message with the child's descriptor.
pub const FEATURE_EVENT_FORK: u64 = 1 << 1;
/// `UFFD_FEATURE_THREAD_ID`: fault messages name the thread.
pub const FEATURE_THREAD_ID: u64 = 1 << 8;
/// `UFFD_FEATURE_WP_UNPOPULATED`: holes can be write-protected.
pub const FEATURE_WP_UNPOPULATED: u64 = 1 << 13;
/// `UFFD_FEATURE_WP_ASYNC`: writes are recorded without messages.
pub const FEATURE_WP_ASYNC: u64 = 1 << 15;
/// `UFFD_FEATURE_MOVE`: pages can be moved (Linux 6.8).
pub const FEATURE_MOVE: u64 = 1 << 16;

const TYPE: u8 = 0xaa;
const IOC_NEW: Opcode = opcode::none(TYPE, 0x00);
/// The request by which the device makes a userfaultfd.
pub(crate) const NEW: u32 = IOC_NEW;
const IOC_API: Opcode = opcode::read_write::<ApiArg>(TYPE, 0x3f);
const IOC_REGISTER: Opcode = opcode::read_write::<RegisterArg>(TYPE, 0x00);
const IOC_UNREGISTER: Opcode = opcode::read::<RangeArg>(TYPE, 0x01);
const IOC_WAKE: Opcode = opcode::read::<RangeArg>(TYPE, 0x02);
const IOC_COPY: Opcode = opcode::read_write::<TransferArg>(TYPE, 0x03);
const IOC_ZEROPAGE: Opcode = opcode::read_write::<ZeroArg>(TYPE, 0x04);
const IOC_MOVE: Opcode = opcode::read_write::<TransferArg>(TYPE, 0x05);
const _: () = assert!(IOC_MOVE == 0xc028_aa05 && IOC_COPY == 0xc028_aa03 && IOC_API == 0xc018_aa3f);
const _: () = assert!(IOC_UNREGISTER == 0x8010_aa01 && IOC_REGISTER == 0xc020_aa00 && IOC_NEW == 0xaa00);

const API: u64 = 0xaa;
const MODE_DONTWAKE: u64 = 1;
/// Calls in a row without progress after which EAGAIN is given to the caller.
const STALLS: u32 = 128;
/// Calls in a row without progress after which the thread lets others run between two.
const STALLS_AWAKE: u32 = 8;

#[repr(C)]
#[derive(Clone, Copy)]
struct ApiArg {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct RangeArg {
    start: u64,
    len: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct RegisterArg {
    range: RangeArg,
    mode: u64,
    ioctls: u64,
}

/// `uffdio_copy` and `uffdio_move`, which are laid out alike.
#[repr(C)]
#[derive(Clone, Copy)]
struct TransferArg {
    dst: u64,
    src: u64,
    len: u64,
    mode: u64,
    done: i64,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct ZeroArg {
    range: RangeArg,
    mode: u64,
    done: i64,
}

/// Which faults of a range become messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Faults {
    /// Touches of holes.
    Missing,
    /// Writes to write-protected pages; holes are filled by the kernel.
    WriteProtect,
    /// Both.
    Both,
}

impl Faults {
    fn bits(self) -> u64 {
        match self {
            Faults::Missing => 1,
            Faults::WriteProtect => 2,
            Faults::Both => 3,
        }
    }
}

/// How the kernel gave us a userfaultfd that sees its own faults too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// By the system call.
    Syscall,
    /// By `/dev/userfaultfd`.
    Device,
}

/// How far a transfer came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moved {
    /// Bytes done, from the start; a multiple of the page size.
    pub bytes: usize,
    /// Why the next page was not done; `None` when all were.
    pub errno: Option<Errno>,
}

/// A userfaultfd. It belongs to the descriptor table of the thread that opened it.
#[derive(Debug)]
pub struct Uffd {
    fd: OwnedFd,
    /// Whether forks are messages too.
    tells_forks: bool,
    /// Where the next transfers are cut short.
    #[cfg(test)]
    pub(crate) script: script::Script,
}

/// Whether the system call is known where this process runs.
pub fn is_known() -> bool {
    // SAFETY: the call takes flags only, and makes nothing of these.
    unsafe { raw::syscall(libc::SYS_userfaultfd, [usize::MAX]) != Err(Errno::NOSYS) }
}

/// How each is opened.
const FLAGS: usize = (libc::O_CLOEXEC | libc::O_NONBLOCK) as usize;

/// `/dev/userfaultfd`, for who may open it.
pub fn open_device() -> Result<OwnedFd> {
    rustix::fs::open(c"/dev/userfaultfd", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}

impl Uffd {
    /// Opens one that sees faults in kernel mode too. The error is the system call's when both ways fail,
    /// unless the device is there and refused.
    pub fn open() -> Result<(Uffd, Way)> {
        // SAFETY: the call takes flags only.
        let denied = match unsafe { raw::syscall(libc::SYS_userfaultfd, [FLAGS]) } {
            Ok(fd) => return Ok((Uffd::fresh(fd), Way::Syscall)),
            Err(errno) => errno,
        };
        match open_device().and_then(|device| Uffd::of_device(device.as_fd())) {
            Ok(uffd) => Ok((uffd, Way::Device)),
            Err(Errno::NOENT) => Err(denied),
            Err(errno) => Err(errno),
        }
    }

    /// From the device: it asks for no rights but those that it took to open it, whoever did.
    fn of_device(device: BorrowedFd<'_>) -> Result<Uffd> {
        let args = [device.as_raw_fd() as usize, IOC_NEW as usize, FLAGS];
        // SAFETY: the request takes flags only.
        unsafe { raw::syscall(libc::SYS_ioctl, args) }.map(Uffd::fresh)
    }

    /// Takes a descriptor that the kernel has just made.
    fn fresh(fd: usize) -> Uffd {
        // SAFETY: every caller has it from a call that made it, and takes it once, so nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
        Uffd::from(fd)
    }

    /// Agrees on features, which must be done first and once. Says which features the kernel has;
    /// EINVAL when one of `features` is not among them, and then another try is allowed.
    pub fn api(&self, features: u64) -> Result<u64> {
        let mut arg = ApiArg { api: API, features, ioctls: 0 };
        // SAFETY: IOC_API takes an `ApiArg`.
        unsafe { self.ioctl::<IOC_API, _>(&mut arg) }?;
        Ok(arg.features)
    }

    /// The features that the kernel has.
    pub fn offered() -> Result<u64> {
        Uffd::open()?.0.api(0)
    }

    /// Opens one with the features in `needed`, and those of `wished` that the kernel has.
    pub fn with_features(needed: u64, wished: u64) -> Result<Uffd> {
        let offered = Uffd::offered()?;
        let (uffd, _) = Uffd::open()?;
        uffd.api(needed | wished & offered)?;
        Ok(uffd)
    }

    /// Opens one with the features in `needed` that is told of forks too, where that is allowed: CAP_SYS_PTRACE in the
    /// first user namespace.
    pub fn that_tells_forks(needed: u64) -> Result<Uffd> {
        Uffd::open()?.0.telling_forks(needed)
    }

    /// The same from a device that somebody else has opened.
    pub fn of_lent_device(device: BorrowedFd<'_>, needed: u64) -> Result<Uffd> {
        Uffd::of_device(device)?.telling_forks(needed)
    }

    fn telling_forks(mut self, needed: u64) -> Result<Uffd> {
        match self.api(needed | FEATURE_EVENT_FORK) {
            Ok(_) => self.tells_forks = true,
            Err(Errno::PERM | Errno::INVAL) => _ = self.api(needed)?,
            Err(errno) => return Err(errno),
        }
        Ok(self)
    }

    /// Whether forks are messages too.
    pub fn tells_forks(&self) -> bool {
        self.tells_forks
    }

    /// Whether a fork is under way whose message was not read, or whose thread has not gone on since: nothing can be moved
    /// or copied then.
    pub fn is_forking(&self) -> bool {
        let mut arg = TransferArg::new(0, 0, 0);
        // SAFETY: IOC_COPY takes a `TransferArg`; no bytes are copied, which is refused once a fork is no reason.
        let answer = unsafe { self.ioctl::<IOC_COPY, _>(&mut arg) };
        answer == Err(Errno::AGAIN)
    }

    /// Makes faults of a range messages.
    pub fn register(&self, addr: usize, len: usize, faults: Faults) -> Result<()> {
        let range = RangeArg { start: addr as u64, len: len as u64 };
        let mut arg = RegisterArg { range, mode: faults.bits(), ioctls: 0 };
        // SAFETY: IOC_REGISTER takes a `RegisterArg`.
        unsafe { self.ioctl::<IOC_REGISTER, _>(&mut arg) }
    }

    /// Gives a range back to the kernel's own faults: holes read as zeroes again.
    pub fn unregister(&self, addr: usize, len: usize) -> Result<()> {
        let mut arg = RangeArg { start: addr as u64, len: len as u64 };
        // SAFETY: IOC_UNREGISTER takes a `RangeArg`.
        unsafe { self.ioctl::<IOC_UNREGISTER, _>(&mut arg) }
    }

    /// Lets the threads that wait for a fault in the range try again.
    pub fn wake(&self, addr: usize, len: usize) -> Result<()> {
        let mut arg = RangeArg { start: addr as u64, len: len as u64 };
        // SAFETY: IOC_WAKE takes a `RangeArg`.
        unsafe { self.ioctl::<IOC_WAKE, _>(&mut arg) }
    }

    /// How often a call is repeated that stands still. Where forks are messages, reading one is what helps.
    fn stalls(&self) -> u32 {
        if self.tells_forks { 0 } else { STALLS }
    }

    /// Moves pages from `src` into holes at `dst` and wakes nobody.
    pub fn move_pages(&self, dst: usize, src: usize, len: usize) -> Moved {
        transfer(len, self.stalls(), |at| {
            let mut arg = TransferArg::new(dst + at, src + at, len - at);
            self.transfer_once::<IOC_MOVE>(&mut arg)
        })
    }

    /// Copies pages from `src` into holes at `dst`, whatever the rights of `dst`. Threads that wait for one of those go on if
    /// `wakes`.
    pub fn copy(&self, dst: usize, src: usize, len: usize, wakes: bool) -> Moved {
        transfer(len, self.stalls(), |at| {
            let mut arg = TransferArg::new(dst + at, src + at, len - at);
            arg.mode = if wakes { 0 } else { arg.mode };
            self.transfer_once::<IOC_COPY>(&mut arg)
        })
    }

    /// One call of a transfer, `IOC_MOVE` or `IOC_COPY`: its result, and the kernel's result field.
    fn transfer_once<const OPCODE: Opcode>(&self, arg: &mut TransferArg) -> (Result<()>, i64) {
        #[cfg(test)]
        if let Some(answer) = self.script.play(OPCODE == IOC_MOVE, arg.len, |len| {
            let mut part = TransferArg { len, ..*arg };
            // SAFETY: as below.
            unsafe { self.ioctl::<OPCODE, _>(&mut part) }
        }) {
            return answer;
        }
        // SAFETY: the callers name an opcode that takes a `TransferArg`.
        let result = unsafe { self.ioctl::<OPCODE, _>(arg) };
        (result, arg.done)
    }

    /// Maps the shared zero page into holes and wakes nobody.
    pub fn zeropage(&self, addr: usize, len: usize) -> Moved {
        transfer(len, self.stalls(), |at| {
            let range = RangeArg { start: (addr + at) as u64, len: (len - at) as u64 };
            let mut arg = ZeroArg { range, mode: MODE_DONTWAKE, done: 0 };
            // SAFETY: IOC_ZEROPAGE takes a `ZeroArg`.
            let result = unsafe { self.ioctl::<IOC_ZEROPAGE, _>(&mut arg) };
            (result, arg.done)
        })
    }

    /// Reads the messages that are there, at most as many as fit; 0 when there are none.
    pub fn read_msgs(&self, msgs: &mut [UffdMsg]) -> Result<usize> {
        // SAFETY: a message is plain bytes of any value, and the borrow of `msgs` covers them all.
        let bytes =
            unsafe { core::slice::from_raw_parts_mut(msgs.as_mut_ptr().cast::<u8>(), size_of_val(msgs)) };
        tally::count(Call::Read);
        match rustix::io::read(&self.fd, bytes) {
            Ok(read) => Ok(read / size_of::<UffdMsg>()),
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(errno) => Err(errno),
        }
    }

    /// Whether a message waits to be read.
    pub fn has_msgs(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        tally::count(Call::Poll);
        matches!(poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], Some(&now)), Ok(n) if n > 0)
    }

    /// Waits for messages of this one or of `other`, for at most `timeout_ns` nanoseconds. Which of the two has some.
    pub fn wait_with(&self, other: Option<&Uffd>, timeout_ns: u64) -> Result<(bool, bool)> {
        let time = Timespec {
            tv_sec: (timeout_ns / 1_000_000_000) as i64,
            tv_nsec: (timeout_ns % 1_000_000_000) as i64,
        };
        let mut fds =
            [PollFd::new(&self.fd, PollFlags::IN), PollFd::new(&other.unwrap_or(self).fd, PollFlags::IN)];
        let count = if other.is_some() { 2 } else { 1 };
        tally::count(Call::Poll);
        match poll(&mut fds[..count], Some(&time)) {
            Ok(0) | Err(Errno::INTR) => Ok((false, false)),
            Ok(_) => Ok((!fds[0].revents().is_empty(), count == 2 && !fds[1].revents().is_empty())),
            Err(errno) => Err(errno),
        }
    }

    /// Waits for messages, for at most `timeout_ns` nanoseconds where given, and reads them.
    pub fn wait_msgs(&self, msgs: &mut [UffdMsg], timeout_ns: Option<u64>) -> Result<usize> {
        let time = timeout_ns
            .map(|ns| Timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 });
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        tally::count(Call::Poll);
        match poll(&mut fds, time.as_ref()) {
            Ok(0) | Err(Errno::INTR) => Ok(0),
            Ok(_) => self.read_msgs(msgs),
            Err(errno) => Err(errno),
        }
    }

    /// # Safety
    /// `OPCODE` must take an `A`, which must hold no pointer.
    unsafe fn ioctl<const OPCODE: Opcode, A>(&self, arg: &mut A) -> Result<()> {
        tally::count(const { call_of(OPCODE) });
        // SAFETY: the caller pairs opcode and type; the addresses inside are dealt with as module `sys` says.
        unsafe { ioctl::ioctl(&self.fd, ioctl::Updater::<OPCODE, A>::new(arg)) }
    }
}

/// As what a request is counted.
const fn call_of(opcode: Opcode) -> Call {
    match opcode {
        IOC_MOVE => Call::Move,
        IOC_COPY => Call::Copy,
        IOC_ZEROPAGE => Call::ZeroPage,
        IOC_WAKE => Call::Wake,
        _ => Call::Ioctl,
    }
}

impl TransferArg {
    fn new(dst: usize, src: usize, len: usize) -> TransferArg {
        TransferArg { dst: dst as u64, src: src as u64, len: len as u64, mode: MODE_DONTWAKE, done: 0 }
    }
}

/// Repeats `call`, which gets the bytes done so far and gives the result and the kernel's result field.
fn transfer(len: usize, most_stalls: u32, mut call: impl FnMut(usize) -> (Result<()>, i64)) -> Moved {
    let mut bytes = 0;
    let mut stalls = 0;
    while bytes < len {
        let (result, done) = call(bytes);
        match result {
            Ok(()) => {
                return Moved { bytes: len, errno: None };
            }
            Err(Errno::AGAIN) if done > 0 => {
                bytes += done as usize;
                stalls = 0;
            }
            Err(Errno::AGAIN) if stalls < most_stalls => stalls += 1,
            Err(errno) => {
                return Moved { bytes, errno: Some(errno) };
            }
        }
        if stalls > STALLS_AWAKE {
            tally::count(Call::Yield);
            rustix::thread::sched_yield();
        }
    }
    Moved { bytes, errno: None }
}

impl AsFd for Uffd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for Uffd {
    /// Takes a descriptor that is known to be a userfaultfd, such as one that was handed over.
    fn from(fd: OwnedFd) -> Uffd {
        Uffd {
            fd,
            tells_forks: false,
            #[cfg(test)]
            script: script::Script::default(),
        }
    }
}

impl From<Uffd> for OwnedFd {
    fn from(uffd: Uffd) -> OwnedFd {
        uffd.fd
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_progress_is_counted_and_the_real_error_told() {
        let mut answers = vec![(Err(Errno::AGAIN), 8192), (Err(Errno::AGAIN), -11), (Err(Errno::EXIST), -17)];
        answers.reverse();
        let mut seen = vec![];
        let moved = transfer(16384, STALLS, |at| {
            seen.push(at);
            answers.pop().unwrap()
        });
        assert_eq!(moved, Moved { bytes: 8192, errno: Some(Errno::EXIST) });
        assert_eq!(seen, [0, 8192, 8192]);
    }

    #[test]
    fn success_after_progress_is_all() {
        let mut first = true;
        let moved = transfer(12288, STALLS, |_| {
            if core::mem::take(&mut first) { (Err(Errno::AGAIN), 4096) } else { (Ok(()), 8192) }
        });
        assert_eq!(moved, Moved { bytes: 12288, errno: None });
    }

    #[test]
    fn standing_still_ends_as_again() {
        let mut calls = 0;
        let moved = transfer(4096, STALLS, |_| {
            calls += 1;
            (Err(Errno::AGAIN), 0)
        });
        assert_eq!(moved, Moved { bytes: 0, errno: Some(Errno::AGAIN) });
        assert_eq!(calls, STALLS + 1);
    }
}
