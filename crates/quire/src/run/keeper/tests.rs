//! The keeper against clients of the real protocol, in threads of this process.

use super::*;
use quire_linux::control::client::{Client, JoinError, Joined};
use quire_linux::control::wire::PolicyName;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

pub(super) fn settings(budget: u64) -> Settings {
    Settings {
        budget: Some(budget),
        policy: PolicyName::new("fixed:64K").unwrap(),
        program: "/bin/true".into(),
        words: vec!["true".into()],
        outside: None,
        exclude: "".into(),
        library: crate::run::library::Library::missing(),
        spill: Spill::To("/var/tmp".into()),
        profile: false,
        wake: Wake::AtStart,
        quiet: true,
    }
}

/// Serves until `done`, at most for some seconds.
fn serve_until(keeper: &mut Keeper<'_>, mut done: impl FnMut(&mut Keeper<'_>) -> bool) {
    let start = Instant::now();
    while !done(keeper) {
        assert!(start.elapsed() < Duration::from_secs(20), "the keeper waits in vain");
        let mut fds: Vec<PollFd<'_>> =
            keeper.sockets().map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN)).collect();
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 10_000_000 })).unwrap();
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        keeper.serve(&ready);
    }
}

/// Runs a client in a thread while the keeper serves.
fn with_client<T: Send>(keeper: &mut Keeper<'_>, client: impl FnOnce(&CString) -> T + Send) -> T {
    let path = CString::new(keeper.socket().as_os_str().as_bytes()).unwrap();
    thread::scope(|scope| {
        let thread = scope.spawn(|| client(&path));
        serve_until(keeper, |_| thread.is_finished());
        thread.join().unwrap()
    })
}

fn join(path: &CString, parent: Option<AccountId>) -> Result<(Joined, usize), JoinError> {
    let mut files = 0;
    let joined = Client::join(path, false, parent, &mut |number, _| {
        assert_eq!(usize::from(number), files);
        files += 1;
    })?;
    Ok((joined, files))
}

#[test]
fn a_process_joins_counts_and_leaves() {
    let settings = settings(64 << 20);
    let mut keeper = Keeper::open(&settings, Notes::default()).unwrap();
    let (joined, files) = with_client(&mut keeper, |path| join(path, None)).unwrap();
    let welcome = joined.welcome;
    assert!(welcome.evict && welcome.spill && files == 0);
    assert_eq!((welcome.budget_pages, welcome.policy.as_str()), ((64 << 20) / PAGE, "fixed:64K"));
    let account = joined.ledger.account(welcome.account.index);
    assert_eq!(account.pid(), std::process::id());
    assert_eq!(joined.ledger.take(account, 100_000), (64 << 20) / PAGE);
    account.counters.unchanged_pages.fetch_add(5, Relaxed);
    account.counters.resident_pages.store(7, Relaxed);
    assert_eq!(keeper.totals().resident_pages, 7);

    drop(joined);
    serve_until(&mut keeper, |keeper| keeper.is_quiet(false));
    let totals = keeper.totals();
    assert_eq!((totals.unchanged_pages, totals.resident_pages, keeper.ledger.taken_pages()), (5, 0, 0));
    assert_eq!((keeper.joined(), keeper.forked(), keeper.refused()), (1, 0, 0));
}

#[test]
fn a_forked_child_gets_the_files_of_a_parent_that_has_ended() {
    let settings = settings(64 << 20);
    let mut keeper = Keeper::open(&settings, Notes::default()).unwrap();
    let parent = with_client(&mut keeper, |path| {
        let (joined, _) = join(path, None).unwrap();
        for number in 0..DESCRIPTORS as u16 + 3 {
            assert_eq!(joined.client.need_spill().unwrap().unwrap().0, number);
        }
        joined.client.fork_begins().unwrap();
        joined.welcome.account
    });
    serve_until(&mut keeper, |keeper| keeper.is_quiet(true));
    assert!(!keeper.is_quiet(false), "a child is still to come");

    let (child, files) = with_client(&mut keeper, |path| join(path, Some(parent))).unwrap();
    assert_eq!(files, DESCRIPTORS + 3);
    assert!(!child.welcome.evict);
    assert_eq!(keeper.forked(), 1);
    let again = with_client(&mut keeper, |path| join(path, Some(parent)).err());
    assert_eq!(again, Some(JoinError::Refused(JoinRefusal::UnknownParent)));
    drop(child);
    serve_until(&mut keeper, |keeper| keeper.is_quiet(false));
}

#[test]
fn grants_are_divided_when_somebody_wants_more() {
    let settings = settings(64 << 20);
    let pages = (64 << 20) / PAGE;
    let mut keeper = Keeper::open(&settings, Notes::default()).unwrap();
    let (rich, _) = with_client(&mut keeper, |path| join(path, None)).unwrap();
    let (poor, _) = with_client(&mut keeper, |path| join(path, None)).unwrap();
    let (rich_account, poor_account) =
        (rich.ledger.account(rich.welcome.account.index), poor.ledger.account(poor.welcome.account.index));
    assert_eq!(rich.ledger.take(rich_account, pages), pages);
    let seen = rich_account.doorbell();
    poor.ledger.set_want(poor_account, pages);
    poor.client.want();
    serve_until(&mut keeper, |_| rich_account.doorbell() != seen);
    assert_eq!(rich_account.target_pages(), pages / 2);

    rich.ledger.give_back(rich_account, pages / 2);
    assert_eq!(poor.ledger.take(poor_account, pages), pages / 2);
    drop(poor);
    serve_until(&mut keeper, |_| rich_account.target_pages() == NO_LIMIT);
    assert_eq!(rich.ledger.taken_pages(), pages / 2);
}

#[test]
fn strangers_are_refused() {
    let settings = settings(64 << 20);
    let mut keeper = Keeper::open(&settings, Notes::default()).unwrap();
    let answer = with_client(&mut keeper, |path| {
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::connect(&socket, &SocketAddrUnix::new(path.as_c_str()).unwrap()).unwrap();
        let hello = Request::Hello(Hello { build: 1, pid: 1, ppid: 1, asleep: false, forked_from: None });
        channel::send(&socket, hello.encode().as_bytes(), &[], SendFlags::empty()).unwrap();
        let mut buffer = [0; PACKET_BYTES];
        let (packet, _) = channel::receive(&socket, &mut buffer, RecvFlags::empty()).unwrap().unwrap();
        Reply::decode(packet)
    });
    assert_eq!(answer, Ok(Reply::Refuse(JoinRefusal::OtherBuild)));
    serve_until(&mut keeper, |keeper| keeper.is_quiet(false));
    assert_eq!((keeper.joined(), keeper.refused()), (0, 1));
}
