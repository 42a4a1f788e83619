//! The keeper of the ledger: takes processes in, hands them what they need, and folds up what they leave.
//!
//! A process is alive while its connection is open; its account, its grant and its files go with it. Only the
//! spill files of a process that announced a fork stay until the child has joined.

use super::fair::{self, Demand, Stillness};
use super::meeting::{Meeting, Word};
use super::notes::Notes;
use super::over::Managed;
use super::sample;
use super::sleepers::{self, Sleeper, Wake};
use super::spill::Spill;
use super::{Settings, budget};
use crate::failure::{Failure, memory_file_mend};
use crate::files::say;
use quire_linux::control::build_id;
use quire_linux::control::channel::{self, DESCRIPTORS, Descriptors};
use quire_linux::control::counters::Totals;
use quire_linux::control::ledger::{AccountId, Ledger, NO_LIMIT};
use quire_linux::control::notice::Notices;
use quire_linux::control::outside::Outside;
use quire_linux::control::wire::{Hello, JoinRefusal, PACKET_BYTES, Reply, Request, Welcome};
use quire_linux::sys::uffd;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, accept_with,
    bind, listen, shutdown, socket_with,
};
use rustix::process::geteuid;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes in a page.
const PAGE: u64 = 4096;

/// A connected process.
struct Peer {
    socket: OwnedFd,
    pid: u32,
    /// Its account, once it said hello.
    account: Option<AccountId>,
    /// Its spill files by number, those of its forebears first.
    files: Vec<Rc<OwnedFd>>,
    /// Forks announced whose children have not joined yet.
    forks: u32,
    /// How long it has been without faults.
    still: Stillness,
    /// Whether it sleeps.
    sleep: Sleep,
    /// Pages that it had when it was last looked at asleep.
    seen: u64,
    /// A copy of its userfaultfd: while one is open, nobody reads zeroes where a page was moved out.
    _uffd: Option<OwnedFd>,
}

impl Peer {
    /// One that has not said anything yet.
    fn new(socket: OwnedFd, pid: u32) -> Peer {
        let still = Stillness::new();
        Peer {
            socket,
            pid,
            account: None,
            files: Vec::new(),
            forks: 0,
            still,
            sleep: Sleep::Awake,
            seen: 0,
            _uffd: None,
        }
    }
}

/// Whether a process sleeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sleep {
    Awake,
    Asleep,
    /// It was told to wake.
    Waking,
}

/// What stays of a process that ended before its forked children joined.
struct Orphans {
    files: Vec<Rc<OwnedFd>>,
    forks: u32,
}

/// What to do with a connection after a message.
enum Next {
    Keep,
    Close,
}

pub(super) struct Keeper<'a> {
    settings: &'a Settings,
    /// Holds the socket; removed with the keeper.
    meeting: Meeting,
    path: PathBuf,
    listener: OwnedFd,
    file: OwnedFd,
    ledger: Ledger,
    peers: Vec<Peer>,
    orphans: BTreeMap<AccountId, Orphans>,
    notes: Notes,
    /// What makes userfaultfds, once somebody needed it who may not open it.
    device: Option<OwnedFd>,
    /// Processes that said that they run outside the budget, with the programs' names.
    outside: Vec<Word>,
    /// What processes that have ended counted.
    gone: Totals,
    /// Pages of processes that have not joined, as they were last seen.
    others: u64,
    joined: u64,
    woken: u64,
    slept: u64,
    forked: u64,
    refused: u64,
}

impl<'a> Keeper<'a> {
    /// Makes the ledger and the socket. What processes have to tell goes to `notes`.
    pub(super) fn open(settings: &'a Settings, notes: Notes) -> Result<Keeper<'a>, Failure> {
        let pages = settings.budget.map_or(NO_LIMIT, |bytes| bytes / PAGE);
        let (file, ledger) = Ledger::create(pages).map_err(|error| {
            Failure::own(format!("no memory file for the ledger: {error}; {}", memory_file_mend(error)))
        })?;
        let meeting = Meeting::make()?;
        let path = meeting.socket();
        let listener = listen_at(&path).map_err(|error| {
            Failure::own(format!("no socket at {}: {error}; check TMPDIR", path.display()))
        })?;
        meeting.open().map_err(|error| {
            Failure::own(format!("the socket at {} can't be opened to all: {error}", path.display()))
        })?;
        Ok(Keeper {
            settings,
            meeting,
            path,
            listener,
            file,
            ledger,
            peers: Vec::new(),
            orphans: BTreeMap::new(),
            notes,
            device: None,
            outside: Vec::new(),
            gone: Totals::ZERO,
            others: 0,
            joined: 0,
            woken: 0,
            slept: 0,
            forked: 0,
            refused: 0,
        })
    }

    /// The path of the socket.
    pub(super) fn socket(&self) -> &Path {
        &self.path
    }

    /// What to poll: the listener, then each connection.
    pub(super) fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [self.listener.as_fd()].into_iter().chain(self.peers.iter().map(|peer| peer.socket.as_fd()))
    }

    /// Serves those of [`Keeper::sockets`] that are ready.
    pub(super) fn serve(&mut self, ready: &[bool]) {
        // From the back, so that a departure does not shift those still to be served.
        for index in (0..self.peers.len()).rev() {
            if ready.get(index + 1) == Some(&true)
                && let Next::Close = self.serve_peer(index)
            {
                self.depart(index);
            }
        }
        if ready.first() == Some(&true) {
            self.accept();
        }
    }

    /// Writes down what processes have told, and says how long they may be left alone after that.
    pub(super) fn take_notes(&mut self) -> Duration {
        self.notes.drain();
        self.notes.period()
    }

    /// Writes down all the rest, see [`Notes::finish`].
    pub(super) fn end_notes(&mut self, leave: &mut dyn FnMut(usize) -> bool) {
        self.notes.finish(leave);
    }

    /// Process ids of the connected processes.
    pub(super) fn pids(&self) -> impl Iterator<Item = u32> {
        self.peers.iter().filter(|peer| peer.account.is_some()).map(|peer| peer.pid)
    }

    /// Processes that joined, forked children among them.
    pub(super) fn joined(&self) -> u64 {
        self.joined
    }

    /// Processes that joined after a fork without exec.
    pub(super) fn forked(&self) -> u64 {
        self.forked
    }

    /// Processes that joined asleep, and those of them that were woken.
    pub(super) fn slept(&self) -> (u64, u64) {
        (self.slept, self.woken)
    }

    /// Processes that have not joined have so many bytes.
    pub(super) fn note_others(&mut self, bytes: u64) {
        self.others = bytes / PAGE;
    }

    /// Counts what processes take that sleep, and wakes some where the budget gets short. How long it may be until the
    /// next look.
    pub(super) fn look_at_sleepers(&mut self) -> Option<Duration> {
        let sleeps = |peer: &Peer| peer.sleep == Sleep::Asleep;
        if !self.peers.iter().any(sleeps) {
            return None;
        }
        let soon = self.settings.wake == Wake::Soon;
        if soon {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.subsec_nanos());
            for at in 0..self.peers.len() {
                if sleeps(&self.peers[at]) && self.settings.wake.is_time(now.wrapping_add(at as u32)) {
                    self.wake(at);
                }
            }
        }
        if self.settings.budget.is_none() {
            return soon.then_some(sleepers::SHORTEST);
        }
        let (mut sleepers, mut growth) = (Vec::new(), 0);
        for (at, peer) in self.peers.iter_mut().enumerate() {
            let Some(account) = peer.account.filter(|_| peer.sleep != Sleep::Awake) else { continue };
            let pages = sleepers::resident(peer.pid);
            self.ledger.set_share(self.ledger.account(account.index), pages);
            let grown = pages.saturating_sub(std::mem::replace(&mut peer.seen, pages));
            growth += grown;
            if sleeps(peer) {
                sleepers.push(Sleeper { pages, grown, at });
            }
        }
        let budget = self.ledger.budget_pages();
        let headroom = budget.saturating_sub(self.ledger.taken_pages() + self.others);
        let least = sleepers::least_headroom(budget);
        for at in sleepers::to_wake(sleepers, headroom, growth, least) {
            self.wake(at);
        }
        let next = sleepers::until_next(headroom, least);
        Some(if soon { sleepers::SHORTEST } else { next })
    }

    fn wake(&mut self, index: usize) {
        self.peers[index].sleep = Sleep::Waking;
        // Where its connection is broken, it departs.
        let _ = self.send(index, Reply::Wake, &[]);
    }

    /// Lets go of processes that sleep and have ended, but for the thread of Quire's: that ends with its connection.
    pub(super) fn let_go_of_ended(&mut self) {
        for at in (0..self.peers.len()).rev() {
            let peer = &self.peers[at];
            if peer.sleep == Sleep::Asleep
                && sample::started(peer.pid).is_none()
                && sleepers::is_over(peer.pid)
            {
                self.depart(at);
            }
        }
    }

    /// Processes that were refused.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// The most of the budget that was taken, in bytes.
    pub(super) fn peak_granted(&self) -> u64 {
        self.ledger.peak_taken_pages() * PAGE
    }

    /// Whether nobody is connected and nobody will be: no connection waits, and no announced child is still
    /// to come, unless the time for that is over.
    pub(super) fn is_quiet(&mut self, grace_is_over: bool) -> bool {
        self.accept();
        self.peers.is_empty() && (grace_is_over || self.orphans.is_empty())
    }

    /// What all processes counted, the ended ones included.
    pub(super) fn totals(&self) -> Totals {
        let mut totals = self.gone.clone();
        for account in self.peers.iter().filter_map(|peer| peer.account) {
            totals.add(&self.ledger.account(account.index).counters.read());
        }
        totals
    }

    /// What each connected process says of itself.
    pub(super) fn managed(&self) -> Vec<Managed> {
        let of = |peer: &Peer| {
            let counters = &self.ledger.account(peer.account?.index).counters;
            let forked = counters.forked.load(Relaxed) != 0;
            let bytes = match peer.sleep {
                Sleep::Awake => counters.managed_bytes(),
                // What it has will be managed.
                Sleep::Asleep | Sleep::Waking => sleepers::resident(peer.pid) * PAGE,
            };
            Some(Managed { pid: peer.pid, forked, bytes })
        };
        self.peers.iter().filter_map(of).collect()
    }

    /// Processes that said since the last time that they run outside the budget, with the programs' names.
    pub(super) fn take_outside(&mut self) -> Vec<Word> {
        let mut words = std::mem::take(&mut self.outside);
        words.extend(self.meeting.words());
        words
    }

    /// What processes left that called exec.
    pub(super) fn notices(&self) -> &'static Notices {
        self.ledger.notices()
    }

    /// From time to time: looks who has faulted, and divides the budget anew.
    pub(super) fn divide(&mut self) {
        for peer in &mut self.peers {
            let awake = peer.account.filter(|_| peer.sleep == Sleep::Awake);
            let Some(account) = awake.map(|account| self.ledger.account(account.index)) else {
                continue;
            };
            peer.still.look(account.counters.read().faults(), account.granted_pages());
        }
        self.rebalance();
    }

    /// Divides the budget anew when somebody's demand is unmet.
    fn rebalance(&mut self) {
        let ledger = self.ledger;
        // What sleeps keeps what it has until it wakes.
        let asleep = self.peers.iter().filter(|peer| peer.sleep != Sleep::Awake);
        let accounts = asleep.filter_map(|peer| peer.account);
        let kept: u64 = accounts.map(|account| ledger.account(account.index).granted_pages()).sum();
        let joined = self
            .peers
            .iter_mut()
            .filter(|peer| peer.sleep == Sleep::Awake)
            .filter_map(|peer| Some((ledger.account(peer.account?.index), &mut peer.still)));
        let joined: Vec<_> = joined.collect();
        let demands: Vec<Demand> = joined
            .iter()
            .map(|(account, still)| still.demand(account.granted_pages(), account.want_pages()))
            .collect();
        let wanted = demands.iter().fold(0_u64, |sum, demand| sum.saturating_add(demand.wanted));
        let free = ledger.budget_pages().saturating_sub(ledger.taken_pages());
        let shares = fair::shares(ledger.budget_pages().saturating_sub(kept), &demands);
        for ((account, still), share) in joined.into_iter().zip(shares) {
            let shrink = wanted > free && account.granted_pages() > share;
            if shrink {
                still.ask();
            }
            ledger.set_target(account, if shrink { share } else { NO_LIMIT });
        }
    }

    fn accept(&mut self) {
        while let Ok(socket) = accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            let Ok(peer) = socket_peercred(&socket) else { continue };
            let pid = peer.pid.as_raw_nonzero().get().cast_unsigned();
            // Programs of other users have to be of this tree.
            if peer.uid == geteuid() || sample::is_descendant(pid) {
                self.peers.push(Peer::new(socket, pid));
            }
        }
    }

    /// Handles all messages that a process has sent.
    fn serve_peer(&mut self, index: usize) -> Next {
        let mut buffer = [0; PACKET_BYTES];
        loop {
            let mut fds = match channel::receive(&self.peers[index].socket, &mut buffer, RecvFlags::DONTWAIT)
            {
                Ok(Some((packet, fds))) => (packet.len(), fds),
                Err(Errno::AGAIN) => return Next::Keep,
                Ok(None) | Err(_) => return Next::Close,
            };
            let next = match Request::decode(&buffer[..fds.0]) {
                Ok(request) => self.answer(index, request, &mut fds.1),
                Err(_) => self.refuse(index, JoinRefusal::Malformed),
            };
            if let Next::Close = next {
                return Next::Close;
            }
        }
    }

    fn answer(&mut self, index: usize, request: Request<'_>, fds: &mut Descriptors) -> Next {
        match request {
            Request::Hello(hello) => return self.welcome(index, &hello),
            Request::Line(line) => {
                if !self.settings.quiet {
                    say(format_args!("{line}"));
                }
            }
            Request::Bye => return Next::Close,
            Request::Awake => {
                self.woken += u64::from(self.peers[index].sleep != Sleep::Awake);
                self.peers[index].sleep = Sleep::Awake;
            }
            Request::Outside { cause, name } => {
                if cause == Outside::Single {
                    self.let_sleeper_go(self.peers[index].pid);
                }
                let name = String::from_utf8_lossy(name).into_owned();
                self.outside.push((self.peers[index].pid, cause, name));
                self.joined -= u64::from(self.peers[index].account.is_some());
                return Next::Close;
            }
            Request::Short => {
                let pid = self.peers[index].pid;
                let at = self.peers.iter().position(|peer| peer.pid == pid && peer.sleep == Sleep::Asleep);
                if let Some(at) = at.filter(|_| self.settings.budget.is_some()) {
                    self.wake(at);
                }
                return Next::Close;
            }
            Request::Device => return self.lend_device(index),
            // Everything else is for those who have joined.
            _ if self.peers[index].account.is_none() => return self.refuse(index, JoinRefusal::Malformed),
            Request::Descriptor => self.peers[index]._uffd = fds.take(0),
            Request::NeedSpill => return self.give_spill(index),
            Request::Want => self.rebalance(),
            Request::ForkBegins => self.peers[index].forks += 1,
            Request::ForkFailed => self.peers[index].forks = self.peers[index].forks.saturating_sub(1),
        }
        Next::Keep
    }

    /// Ends the connection of a process that sleeps, and so the thread of Quire's that waits there.
    fn let_sleeper_go(&mut self, pid: u32) {
        for peer in self.peers.iter().filter(|peer| peer.pid == pid && peer.sleep == Sleep::Asleep) {
            // It departs as one whose connection is broken.
            if peer.account.is_some() && shutdown(&peer.socket, Shutdown::Both).is_ok() {
                self.joined -= 1;
            }
        }
    }

    /// Takes a process in.
    fn welcome(&mut self, index: usize, hello: &Hello) -> Next {
        if self.peers[index].account.is_some() {
            return self.refuse(index, JoinRefusal::Malformed);
        }
        if hello.build != build_id::build_number() {
            return self.refuse(index, JoinRefusal::OtherBuild);
        }
        let files = match hello.forked_from.map(|parent| self.inherit(parent)) {
            None => Vec::new(),
            Some(Some(files)) => files,
            Some(None) => return self.refuse(index, JoinRefusal::UnknownParent),
        };
        let Some(account) = self.ledger.join(self.peers[index].pid) else {
            return self.refuse(index, JoinRefusal::TooManyProcesses);
        };
        let is_fork = hello.forked_from.is_some();
        self.joined += 1;
        self.forked += u64::from(is_fork);
        let peer = &mut self.peers[index];
        (peer.account, peer.files) = (Some(account), files);
        let ring = self.notes.join(account, self.peers[index].pid, hello.forked_from);
        let next = self.send_welcome(index, account, is_fork, ring.as_ref());
        if hello.asleep {
            self.slept += 1;
            self.peers[index].sleep = Sleep::Asleep;
        }
        next
    }

    /// The spill files for a child of the process that was in `parent`; `None` when that is not known.
    fn inherit(&mut self, parent: AccountId) -> Option<Vec<Rc<OwnedFd>>> {
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.account == Some(parent)) {
            peer.forks = peer.forks.saturating_sub(1);
            return Some(peer.files.clone());
        }
        let orphans = self.orphans.get_mut(&parent)?;
        orphans.forks -= 1;
        if orphans.forks > 0 {
            return Some(orphans.files.clone());
        }
        self.orphans.remove(&parent).map(|orphans| orphans.files)
    }

    fn send_welcome(&self, index: usize, account: AccountId, is_fork: bool, ring: Option<&OwnedFd>) -> Next {
        let peer = &self.peers[index];
        let welcome = Reply::Welcome(Welcome {
            account,
            evict: self.settings.budget.is_some() && !is_fork,
            spill: matches!(self.settings.spill, Spill::To(_)),
            files: peer.files.len() as u16,
            budget_pages: self.ledger.budget_pages(),
            machine_pages: budget::machine_memory() / PAGE,
            record_every_ns: self.notes.record_every(),
            log: self.notes.logs(),
            profile: self.settings.profile,
            policy: self.settings.policy,
        });
        let shared: Vec<BorrowedFd<'_>> =
            [Some(&self.file), ring].into_iter().flatten().map(AsFd::as_fd).collect();
        if let Next::Close = self.send(index, welcome, &shared) {
            return Next::Close;
        }
        for (batch, files) in peer.files.chunks(DESCRIPTORS).enumerate() {
            let fds: Vec<BorrowedFd<'_>> = files.iter().map(|file| file.as_fd()).collect();
            if let Next::Close = self.send(index, Reply::Files { first: (batch * DESCRIPTORS) as u16 }, &fds)
            {
                return Next::Close;
            }
        }
        Next::Keep
    }

    /// To who is of this tree, and may not open it.
    fn lend_device(&mut self, index: usize) -> Next {
        if self.device.is_none() {
            self.device = uffd::open_device().ok();
        }
        match &self.device {
            Some(device) => self.send(index, Reply::Device, &[device.as_fd()]),
            None => self.send(index, Reply::NoDevice, &[]),
        }
    }

    fn give_spill(&mut self, index: usize) -> Next {
        let number = self.peers[index].files.len() as u16;
        let Some(file) = self.settings.spill.open().filter(|_| number < u16::MAX) else {
            return self.send(index, Reply::NoSpill, &[]);
        };
        let file = Rc::new(file);
        self.peers[index].files.push(Rc::clone(&file));
        self.send(index, Reply::Spill { file: number }, &[file.as_fd()])
    }

    fn refuse(&mut self, index: usize, reason: JoinRefusal) -> Next {
        self.refused += 1;
        self.send(index, Reply::Refuse(reason), &[]);
        Next::Close
    }

    /// Sends without waiting: a process that lets its answers pile up is not worth a stop.
    fn send(&self, index: usize, reply: Reply, fds: &[BorrowedFd<'_>]) -> Next {
        match channel::send(&self.peers[index].socket, reply.encode().as_bytes(), fds, SendFlags::DONTWAIT) {
            Ok(()) => Next::Keep,
            Err(_) => Next::Close,
        }
    }

    /// A process has ended.
    fn depart(&mut self, index: usize) {
        let peer = self.peers.swap_remove(index);
        let Some(id) = peer.account else { return };
        self.notes.leave(id);
        let account = self.ledger.account(id.index);
        self.gone.add(&account.counters.read().without_now());
        self.ledger.leave(account);
        if peer.forks > 0 {
            self.orphans.insert(id, Orphans { files: peer.files, forks: peer.forks });
        }
        self.rebalance();
    }
}

fn listen_at(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    bind(&listener, &SocketAddrUnix::new(path)?)?;
    listen(&listener, 128)?;
    Ok(listener)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod walk;
