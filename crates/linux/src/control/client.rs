//! A process's end of the socket to `quire`.
//!
//! It runs on threads that libc does not know: plain system calls, no allocation, no thread-locals. The
//! descriptors it holds belong to the table of the thread that joined.

use super::build_id;
use super::channel::{self, Descriptors};
use super::ledger::{AccountId, Ledger};
use super::outside::Outside;
use super::ring::Ring;
use super::wire::{Hello, JoinRefusal, PACKET_BYTES, Reply, Request, Welcome};
use crate::sys::msg::Line;
use crate::sys::sched::Scheduling;
use crate::sys::urge::Lent;
use core::ffi::CStr;
use core::fmt::Write as _;
use core::time::Duration;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{self, Errno};
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with,
};
use rustix::process::{getpid, getppid};

/// How long to wait for an answer: `quire` itself may be stopped, and the program should not hang with it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why a process could not join. It goes on unmanaged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JoinError {
    /// The socket could not be reached or used.
    Socket(Errno),
    /// `quire` refused.
    Refused(JoinRefusal),
    /// The answer was not one of this protocol, or `quire` ended meanwhile.
    Answer,
    /// The ledger, or the ring for notes, could not be mapped.
    Ledger(Errno),
}

impl From<Errno> for JoinError {
    fn from(errno: Errno) -> JoinError {
        JoinError::Socket(errno)
    }
}

/// A connection to `quire`.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
}

/// What joining gave.
#[derive(Debug)]
pub struct Joined {
    /// The connection. While it is open, `quire` takes the process for alive.
    pub client: Client,
    /// The ledger.
    pub ledger: Ledger,
    /// Where to leave notes, if there are to be any.
    pub ring: Option<Ring>,
    /// How to work.
    pub welcome: Welcome,
}

impl Client {
    fn connect(path: &CStr) -> Result<Client, JoinError> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(TIMEOUT))?;
        set_socket_timeout(&socket, Timeout::Send, Some(TIMEOUT))?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Client { socket })
    }

    /// Asks `quire` at the socket `path` for `/dev/userfaultfd`, which this process may not open itself. `None`: `quire` can't
    /// either.
    pub fn borrow_device(path: &CStr) -> Result<Option<OwnedFd>, JoinError> {
        let client = Client::connect(path)?;
        client.tell(Request::Device)?;
        match client.answer()? {
            (Reply::Device, mut fds) => fds.take(0).map(Some).ok_or(JoinError::Answer),
            (Reply::NoDevice, _) => Ok(None),
            _ => Err(JoinError::Answer),
        }
    }

    /// Asks `quire` at the socket `path` to wake this process, which has joined. On any thread.
    pub fn ask_to_wake(path: &CStr) -> Result<(), JoinError> {
        Ok(Client::connect(path)?.tell(Request::Short)?)
    }

    /// Tells `quire` at the socket `path` that this process, the program `name`, runs outside the budget. On any thread.
    /// Where sockets are refused to it, by a filter, a word is left in a file beside that one.
    pub fn tell_outside(path: &CStr, cause: Outside, name: &[u8]) -> Result<(), JoinError> {
        let told =
            Client::connect(path).and_then(|client| Ok(client.tell(Request::Outside { cause, name })?));
        told.or_else(|error| Client::leave_word(path, own_pid(), cause, name).map_err(|_| error))
    }

    /// The same of process `pid`, by the file alone: it takes no answer, and no lock.
    pub fn leave_word(path: &CStr, pid: u32, cause: Outside, name: &[u8]) -> io::Result<()> {
        leave_word(path, pid, cause, name)
    }

    /// Connects to the socket at `path` and joins the ledger, as a process that sleeps or as one that is awake. A child of fork names its parent's account, and
    /// gets the parent's spill files, each passed to `on_file` with its number, in rising order.
    pub fn join(
        path: &CStr,
        asleep: bool,
        forked_from: Option<AccountId>,
        on_file: &mut dyn FnMut(u16, OwnedFd),
    ) -> Result<Joined, JoinError> {
        let client = Client::connect(path)?;
        let ppid = getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
        client.tell(Request::Hello(Hello {
            build: build_id::build_number(),
            pid: own_pid(),
            ppid: ppid.cast_unsigned(),
            asleep,
            forked_from,
        }))?;

        let (welcome, mut fds) = match client.answer()? {
            (Reply::Welcome(welcome), fds) => (welcome, fds),
            (Reply::Refuse(reason), _) => return Err(JoinError::Refused(reason)),
            _ => return Err(JoinError::Answer),
        };
        let file = fds.take(0).ok_or(JoinError::Answer)?;
        let ledger = Ledger::map(&file).map_err(JoinError::Ledger)?;
        let ring = fds.take(1).map(Ring::map).transpose().map_err(JoinError::Ledger)?;
        client.receive_files(welcome.files, on_file)?;
        Ok(Joined { client, ledger, ring, welcome })
    }

    /// Receives the `count` files of the parent.
    fn receive_files(&self, count: u16, on_file: &mut dyn FnMut(u16, OwnedFd)) -> Result<(), JoinError> {
        let mut next = 0;
        while next < count {
            let (Reply::Files { first }, mut fds) = self.answer()? else { return Err(JoinError::Answer) };
            if first != next || fds.is_empty() {
                return Err(JoinError::Answer);
            }
            for fd in (0..fds.len()).map_while(|index| fds.take(index)) {
                on_file(next, fd);
                next += 1;
            }
        }
        Ok(())
    }

    /// Gives `quire` a copy of the userfaultfd.
    pub fn hand_over(&self, uffd: BorrowedFd<'_>) -> io::Result<()> {
        channel::send(&self.socket, Request::Descriptor.encode().as_bytes(), &[uffd], SendFlags::empty())
    }

    /// Asks for a spill file and its number; `None`: there is none to be had. Only one thread at a time may
    /// ask.
    pub fn need_spill(&self) -> Result<Option<(u16, OwnedFd)>, JoinError> {
        self.tell(Request::NeedSpill)?;
        match self.answer()? {
            (Reply::Spill { file }, mut fds) => {
                fds.take(0).map(|fd| Some((file, fd))).ok_or(JoinError::Answer)
            }
            (Reply::NoSpill, _) => Ok(None),
            _ => Err(JoinError::Answer),
        }
    }

    /// Asks that the grants be divided anew, after [`Ledger::set_want`]. Never waits: `quire` looks by itself
    /// every 50 ms too.
    pub fn want(&self) {
        self.try_tell(Request::Want);
    }

    /// Waits until the process is to wake. False: `quire` has ended.
    pub fn is_woken(&self) -> bool {
        loop {
            match self.answer() {
                Ok((Reply::Wake, _)) => return true,
                // It has waited for long.
                Err(JoinError::Socket(Errno::AGAIN | Errno::INTR)) => {}
                Ok(_) | Err(_) => return false,
            }
        }
    }

    /// Says that it has woken.
    pub fn awake(&self) {
        self.try_tell(Request::Awake);
    }

    /// Gives `quire` a line to print, without newline. Never waits; the line is lost when the socket is full.
    pub fn say(&self, line: &str) {
        self.try_tell(Request::Line(line));
    }

    /// Announces a fork, so that the spill files stay for the child.
    pub fn fork_begins(&self) -> io::Result<()> {
        self.tell(Request::ForkBegins)
    }

    /// Takes the announcement back: the kernel refused the fork.
    pub fn fork_failed(&self) {
        self.try_tell(Request::ForkFailed);
    }

    /// Whether `quire` still runs. It may be stopped. An answer that nobody took, as it came too late, does not hide that
    /// it has ended.
    pub fn is_connected(&self) -> bool {
        let mut socket = [PollFd::new(&self.socket, PollFlags::RDHUP)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let over = PollFlags::HUP | PollFlags::RDHUP | PollFlags::ERR;
        !(poll(&mut socket, Some(&now)).is_ok() && socket[0].revents().intersects(over))
    }

    /// Says that this process, which has joined, runs on outside the budget.
    pub fn leave(&self, cause: Outside) {
        self.try_tell(Request::Outside { cause, name: b"" });
    }

    /// Says that the process ends in order.
    pub fn bye(&self) {
        self.try_tell(Request::Bye);
    }

    /// The socket, to poll for the end of `quire`.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn tell(&self, request: Request<'_>) -> io::Result<()> {
        channel::send(&self.socket, request.encode().as_bytes(), &[], SendFlags::empty())
    }

    fn try_tell(&self, request: Request<'_>) {
        // Nothing hangs on these messages: the ledger and the end of the connection say the same later.
        let _ = channel::send(&self.socket, request.encode().as_bytes(), &[], SendFlags::DONTWAIT);
    }

    /// `quire` is an ordinary thread: a real-time one that waits for it lends it its urgency.
    fn lend(&self) -> Option<Lent> {
        Scheduling::of(0).filter(|own| own.is_real_time())?;
        let peer = socket_peercred(&self.socket).ok()?;
        Lent::to(peer.pid.as_raw_nonzero().get().cast_unsigned())
    }

    fn answer(&self) -> Result<(Reply, Descriptors), JoinError> {
        let _lent = self.lend();
        let mut buffer = [0; PACKET_BYTES];
        let (packet, fds) =
            channel::receive(&self.socket, &mut buffer, RecvFlags::empty())?.ok_or(JoinError::Answer)?;
        Ok((Reply::decode(packet).map_err(|_| JoinError::Answer)?, fds))
    }
}

/// The file beside the socket in which processes leave a word: a line each, of a cause's number, a process id and a name.
pub const WORDS: &str = "words";

/// The longest path of that file.
const WORDS_PATH: usize = 128;

fn own_pid() -> u32 {
    getpid().as_raw_nonzero().get().cast_unsigned()
}

fn leave_word(socket: &CStr, pid: u32, cause: Outside, name: &[u8]) -> io::Result<()> {
    let socket = socket.to_bytes();
    let slash = socket.iter().rposition(|byte| *byte == b'/').ok_or(Errno::INVAL)?;
    let mut path = [0; WORDS_PATH];
    let parts = [&socket[..=slash], WORDS.as_bytes()];
    let len = parts.iter().map(|part| part.len()).sum::<usize>();
    if len >= WORDS_PATH {
        return Err(Errno::NAMETOOLONG);
    }
    let mut at = 0;
    for part in parts {
        path[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    let path = CStr::from_bytes_until_nul(&path).map_err(|_| Errno::INVAL)?;
    let file = open(path, OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC, Mode::empty())?;
    let mut line = Line::new();
    let name = core::str::from_utf8(name).unwrap_or("").lines().next().unwrap_or("");
    // Writing into a `Line` never fails. One write is one line.
    let _ = writeln!(line, "{} {pid} {name}", cause as u8);
    io::write(&file, line.as_bytes()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::socketpair;

    #[test]
    fn an_answer_that_nobody_took_does_not_hide_the_end_of_quire() {
        let (socket, quire) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let client = Client { socket };
        assert!(client.is_connected());
        let late = Reply::NoSpill.encode();
        channel::send(&quire, late.as_bytes(), &[], SendFlags::empty()).unwrap();
        // Nor does what `quire` has not read.
        client.want();
        assert!(client.is_connected());
        drop(quire);
        assert!(!client.is_connected());
    }
}
