//! One run of a program in its place: how long it took, what memory it had, what it wrote.
//!
//! All sides start by the same way, the verb `enter` of `quire`, so that what this costs is the same for all. Where there
//! are cgroups, memory is what the kernel charges to one. Where there are none it is what the processes of the program's
//! session have resident (`RssAnon`, with `RssShmem` for memory files): what forks share counts once for each, memory files
//! count only where they are mapped, and who leaves the session is not seen.

use super::host::Host;
use super::host::cgroup::{Cgroup, Usage, kill_all};
use super::host::leftovers::Directory;
use super::host::swap::Swap;
use crate::failure::Failure;
use crate::run::program;
use crate::run::sample::kib_after;
use crate::size::MIB;
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf, absolute};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use xxhash_rust::xxh3::Xxh3;

/// The time between two samples of memory.
const TICK: Duration = Duration::from_millis(20);
/// Bytes of stdout that are kept as text.
const TEXT: u64 = MIB;
/// Bytes of stderr that are kept, from its end.
const TAIL: u64 = 8 << 10;

/// Where a program runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// The limit of its cgroup in bytes; none: it is only sampled.
    pub(crate) limit: Option<u64>,
    /// What it may be swapped to; none: its cgroup has no swap.
    pub(crate) swap: Option<&'a Swap>,
    /// Whether it may have transparent huge pages, as the machine is set up.
    pub(crate) thp: bool,
}

/// What runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Program {
    /// Name or path, and arguments.
    pub(crate) argv: Vec<OsString>,
    /// The file that is its stdin; none: it is empty.
    pub(crate) stdin: Option<PathBuf>,
    /// Beside that of `quire`, in which `LC_ALL` is `C` and `TMPDIR` a directory that goes away after the run.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// Where it works; none: where `quire` does.
    pub(crate) directory: Option<PathBuf>,
    /// After this time all of it is killed.
    pub(crate) timeout: Duration,
}

/// How a run ended.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Run {
    /// From the start to the end of the program.
    pub(crate) seconds: f64,
    /// What the driver took, where there was one.
    pub(crate) driver_seconds: Option<f64>,
    /// None where a signal ended it.
    pub(crate) status: Option<i32>,
    pub(crate) signal: Option<i32>,
    /// How many processes were killed for want of memory.
    pub(crate) oom_kills: u64,
    /// The most anonymous memory that a sample saw, in bytes.
    pub(crate) peak_anonymous: u64,
    /// The most of all memory less the cache of files on disks, in bytes.
    pub(crate) peak_less_cache: u64,
    /// Of the swap: see [`Swap::peak`]. 0 without.
    pub(crate) peak_swap: u64,
    pub(crate) output: Output,
    /// The end of what it wrote to stderr.
    pub(crate) stderr: String,
    /// It was killed because its time was up.
    pub(crate) timed_out: bool,
}

impl Run {
    /// It exited with 0, in time.
    pub(crate) fn succeeded(&self) -> bool {
        self.status == Some(0) && !self.timed_out
    }

    /// By SIGKILL, itself, or a child of a shell that it is.
    pub(crate) fn was_killed(&self) -> bool {
        let kill = Signal::KILL.as_raw();
        self.oom_kills > 0 || self.signal == Some(kill) || self.status == Some(128 + kill)
    }
}

/// Why there is no run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    /// A signal asked to end.
    Interrupted(i32),
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failed(failure)
    }
}

/// A program that has been started, for who drives it. It may still be on the way to its first instruction.
#[derive(Debug)]
pub(crate) struct Running {
    pid: Pid,
    over: AtomicBool,
    failed: AtomicBool,
}

impl Running {
    /// Its process id.
    #[cfg(test)]
    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    /// Whether it has ended, or is to end: a driver that waits for it looks at this, and ends too.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Asks it to end, by SIGTERM.
    pub(crate) fn terminate(&self) {
        // It fails only when the program has just ended. It is not waited for before the driver has ended, so that nobody else
        // has its number.
        let _ = kill_process(self.pid, Signal::TERM);
    }
}

/// What does something with a program that waits for it, such as a server: called in a thread of its own once the program
/// has been started. It sees to it that the program ends. Where it fails, the program is killed.
pub(crate) type Driver<'a> = &'a mut (dyn FnMut(&Running) -> Result<(), Failure> + Send);

/// Runs a program to its end, and kills what is left of it then.
pub(crate) fn run(
    host: &Host,
    place: Place<'_>,
    program: &Program,
    driver: Option<Driver<'_>>,
) -> Result<Run, Stop> {
    if let Some(signal) = host.interrupts().came() {
        return Err(Stop::Interrupted(signal));
    }
    let streams = Streams::create(host)?;
    let bounds = Bounds::create(host, place)?;
    place.swap.map_or(Ok(()), Swap::forget_peak)?;
    let command = command(host, &bounds, place, program, &streams)?;
    let start = Instant::now();
    let child = Started::new(command, &bounds)?;
    let sampled = child.attend(host, place, start, program.timeout, driver)?;
    bounds.kill(child.pid)?;
    let ended = child.ended()?;
    let peak_swap = place.swap.map_or(Ok(0), Swap::peak)?;
    let oom_kills = bounds.oom_kills()?;
    bounds.remove()?;
    streams.collect(&sampled, ended, oom_kills, peak_swap)
}

/// What holds the processes of a run together.
#[derive(Debug)]
enum Bounds {
    Cgroup(Cgroup),
    /// The session that the program leads.
    Session,
}

impl Bounds {
    fn create(host: &Host, place: Place<'_>) -> Result<Bounds, Failure> {
        match host.without_cgroups() {
            None => Ok(Bounds::Cgroup(host.cgroup(place.limit, place.swap.is_some())?)),
            Some(_) if place.limit.is_none() => Ok(Bounds::Session),
            Some(why) => Err(Failure::own(why)),
        }
    }

    fn cgroup(&self) -> Option<&Cgroup> {
        match self {
            Bounds::Cgroup(cgroup) => Some(cgroup),
            Bounds::Session => None,
        }
    }

    fn usage(&self, leader: u32) -> Usage {
        match self {
            // A sample more or less.
            Bounds::Cgroup(cgroup) => cgroup.usage().unwrap_or_default(),
            Bounds::Session => session_usage(leader),
        }
    }

    fn kill(&self, leader: u32) -> Result<(), Failure> {
        match self {
            Bounds::Cgroup(cgroup) => cgroup.kill(),
            Bounds::Session => kill_all(&format!("the session of process {leader}"), || members(leader)),
        }
    }

    fn oom_kills(&self) -> Result<u64, Failure> {
        let kills = self.cgroup().map_or(Ok(0), Cgroup::oom_kills);
        kills.map_err(|error| {
            Failure::own(format!(
                "the kernel doesn't say whether it killed for want of memory: {error}; run without cgroups"
            ))
        })
    }

    fn remove(self) -> Result<(), Failure> {
        match self {
            Bounds::Cgroup(cgroup) => cgroup.remove(),
            Bounds::Session => Ok(()),
        }
    }
}

/// What the processes of a session have resident.
fn session_usage(leader: u32) -> Usage {
    let mut usage = Usage::default();
    for pid in members(leader) {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let anonymous = kib_after(&status, "RssAnon:").unwrap_or(0);
        usage.anonymous += anonymous;
        usage.less_file_cache += anonymous + kib_after(&status, "RssShmem:").unwrap_or(0);
    }
    usage
}

/// The processes of a session, and its leader before it leads.
fn members(leader: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            session_of(&stat).is_some_and(|session| session == leader || *pid == leader)
        })
        .collect()
}

/// The session, by the text of a process's `stat`; none of one that has ended and waits for its parent.
fn session_of(stat: &str) -> Option<u32> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.nth(2)?.parse().ok() }
}

/// The files that a run writes to, and its directory for temporary files.
#[derive(Debug)]
struct Streams {
    directory: Directory,
    stdout: File,
    stderr: File,
}

impl Streams {
    fn create(host: &Host) -> Result<Streams, Failure> {
        let directory = host.directory()?;
        let file = |name: &str| {
            File::options().read(true).write(true).create_new(true).open(directory.path().join(name))
        };
        let made = (|| {
            DirBuilder::new().mode(0o700).create(directory.path().join("tmp"))?;
            io::Result::Ok((file("stdout")?, file("stderr")?))
        })();
        let (stdout, stderr) = made.map_err(|error| {
            let shown = directory.path().display();
            Failure::own(format!(
                "no file can be made in {shown}: {error}; choose another directory with TMPDIR"
            ))
        })?;
        Ok(Streams { directory, stdout, stderr })
    }

    fn temporary(&self) -> PathBuf {
        self.directory.path().join("tmp")
    }

    fn collect(
        mut self,
        sampled: &Sampled,
        ended: ExitStatus,
        oom_kills: u64,
        peak_swap: u64,
    ) -> Result<Run, Stop> {
        let unreadable = |error: io::Error| {
            Failure::own(format!("what the program wrote can't be read: {error}; try again"))
        };
        Ok(Run {
            seconds: sampled.time.as_secs_f64(),
            driver_seconds: sampled.driver_time.map(|time| time.as_secs_f64()),
            status: ended.code(),
            signal: ended.signal(),
            oom_kills,
            peak_anonymous: sampled.peak.anonymous,
            peak_less_cache: sampled.peak.less_file_cache,
            peak_swap,
            output: Output::read(&mut self.stdout).map_err(unreadable)?,
            stderr: tail(&mut self.stderr).map_err(unreadable)?,
            timed_out: sampled.timed_out,
        })
    }
}

/// What came to stdout.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Output {
    /// Of all of it.
    pub(crate) digest: u128,
    /// How much that was.
    pub(crate) bytes: u64,
    /// The first MiB.
    pub(crate) text: String,
}

impl Output {
    fn read(file: &mut File) -> io::Result<Output> {
        file.rewind()?;
        let (mut hash, mut bytes, mut text) = (Xxh3::new(), 0, Vec::new());
        let mut buffer = vec![0; 256 << 10];
        loop {
            let read = match file.read(&mut buffer)? {
                0 => break,
                read => &buffer[..read],
            };
            hash.update(read);
            let room = TEXT.saturating_sub(bytes).min(read.len() as u64) as usize;
            text.extend_from_slice(&read[..room]);
            bytes += read.len() as u64;
        }
        Ok(Output { digest: hash.digest128(), bytes, text: String::from_utf8_lossy(&text).into_owned() })
    }
}

fn tail(file: &mut File) -> io::Result<String> {
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The command that enters the place and becomes the program.
fn command(
    host: &Host,
    bounds: &Bounds,
    place: Place<'_>,
    program: &Program,
    streams: &Streams,
) -> Result<Command, Failure> {
    let (name, arguments) =
        program.argv.split_first().ok_or_else(|| Failure::own("there is no program to run: name one"))?;
    let found = program::find(name)?;
    let found = absolute(&found).unwrap_or(found);
    let mut command = Command::new(host.quire());
    command.arg("enter");
    if let Some(cgroup) = bounds.cgroup() {
        command.arg("--cgroup").arg(cgroup.path());
    }
    if !place.thp {
        command.arg("--no-thp");
    }
    command.arg("--").arg(found).args(arguments);
    command.env("LC_ALL", "C").env("TMPDIR", streams.temporary());
    command.envs(program.environment.iter().map(|(name, value)| (name, value)));
    if let Some(directory) = &program.directory {
        command.current_dir(directory);
    }
    let copy = |file: &File| file.try_clone().map(Stdio::from);
    let opened =
        (|| Ok((stdin(program.stdin.as_deref())?, copy(&streams.stdout)?, copy(&streams.stderr)?)))();
    let (stdin, stdout, stderr) = opened.map_err(|error: io::Error| {
        let what = program.stdin.as_ref().map_or("a stream".into(), |path| path.display().to_string());
        Failure::own(format!("{what} can't be opened: {error}; is it there?"))
    })?;
    command.stdin(stdin).stdout(stdout).stderr(stderr);
    Ok(command)
}

fn stdin(path: Option<&Path>) -> io::Result<Stdio> {
    path.map_or(Ok(Stdio::null()), |path| File::open(path).map(Stdio::from))
}

/// A program that was started. Dropping it kills it, with all that its bounds hold.
#[derive(Debug)]
struct Started<'a> {
    child: Option<Child>,
    pid: u32,
    pidfd: OwnedFd,
    bounds: &'a Bounds,
}

/// What was seen of it.
#[derive(Clone, Copy, Debug, Default)]
struct Sampled {
    time: Duration,
    driver_time: Option<Duration>,
    peak: Usage,
    timed_out: bool,
}

impl<'a> Started<'a> {
    fn new(mut command: Command, bounds: &'a Bounds) -> Result<Started<'a>, Failure> {
        let mut child = command.spawn().map_err(|error| {
            let quire = command.get_program().display();
            Failure::own(format!(
                "{quire} can't be started: {error}; is it there, and the directory to work in?"
            ))
        })?;
        let pid = child.id();
        match pidfd_open(raw(pid), PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Started { child: Some(child), pid, pidfd, bounds }),
            Err(errno) => {
                let _ = child.kill().and_then(|()| child.wait());
                Err(Failure::own(format!(
                    "the end of a process can't be waited for: {}; is Linux older than 5.3?",
                    io::Error::from(errno)
                )))
            }
        }
    }

    /// Waits for its end, and that of its driver. Where that is by force, all of it is killed.
    fn attend(
        &self,
        host: &Host,
        place: Place<'_>,
        start: Instant,
        timeout: Duration,
        driver: Option<Driver<'_>>,
    ) -> Result<Sampled, Stop> {
        let running =
            Running { pid: raw(self.pid), over: AtomicBool::new(false), failed: AtomicBool::new(false) };
        let (sampled, driven) = thread::scope(|scope| {
            let running = &running;
            let thread = driver.map(|driver| scope.spawn(move || drive(driver, running)));
            let sampled = self.wait(host, place, start, timeout, running);
            running.over.store(true, Ordering::Relaxed);
            // Before the driver is waited for: its clients are to see that nobody answers.
            let killed = self.bounds.kill(self.pid);
            let driven = thread.map(|thread| thread.join());
            (killed.map_err(Stop::from).and(sampled), driven)
        });
        let sampled = sampled?;
        match driven {
            None => Ok(sampled),
            Some(Ok((time, result))) => {
                // Where the time was up, that is the reason, whatever its driver says.
                if !sampled.timed_out {
                    result?;
                }
                Ok(Sampled { driver_time: Some(time), ..sampled })
            }
            Some(Err(_)) => Err(Failure::own("the program's driver has panicked; report this").into()),
        }
    }

    fn wait(
        &self,
        host: &Host,
        place: Place<'_>,
        start: Instant,
        timeout: Duration,
        running: &Running,
    ) -> Result<Sampled, Stop> {
        let mut sampled = Sampled::default();
        loop {
            sampled.add(self.bounds.usage(self.pid));
            if let Some(swap) = place.swap {
                swap.sample();
            }
            let left = timeout.saturating_sub(start.elapsed());
            let ended = host.interrupts().wait(self.pidfd.as_fd(), TICK.min(left));
            sampled.time = start.elapsed();
            if let Some(signal) = host.interrupts().came() {
                return Err(Stop::Interrupted(signal));
            }
            sampled.timed_out = !ended && sampled.time >= timeout;
            if ended || sampled.timed_out || running.failed.load(Ordering::Relaxed) {
                return Ok(sampled);
            }
        }
    }

    /// How it ended.
    fn ended(mut self) -> Result<ExitStatus, Failure> {
        let child = self.child.take();
        let ended = child.map(|mut child| child.wait());
        ended
            .unwrap_or_else(|| Err(io::Error::other("it was waited for")))
            .map_err(|error| Failure::own(format!("how the program ended can't be had: {error}; try again")))
    }
}

impl Drop for Started<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // On the way out of a failure, which is told.
            let _ = self.bounds.kill(self.pid);
            let _ = child.kill().and_then(|()| child.wait());
        }
    }
}

impl Sampled {
    fn add(&mut self, usage: Usage) {
        self.peak.anonymous = self.peak.anonymous.max(usage.anonymous);
        self.peak.less_file_cache = self.peak.less_file_cache.max(usage.less_file_cache);
    }
}

fn drive(driver: Driver<'_>, running: &Running) -> (Duration, Result<(), Failure>) {
    let start = Instant::now();
    let result = driver(running);
    running.failed.store(result.is_err(), Ordering::Relaxed);
    (start.elapsed(), result)
}

/// A process id that the kernel gave.
fn raw(pid: u32) -> Pid {
    Pid::from_raw(pid.cast_signed()).unwrap_or(Pid::INIT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::host::swap::tests::{alone, tried};
    use std::os::unix::fs::PermissionsExt as _;

    /// Does what `quire enter` does, as far as a shell can.
    const ENTER: &str = "#!/bin/sh\n\
        shift\n\
        while [ \"$1\" != -- ]; do case $1 in\n\
            --cgroup) echo 0 > \"$2/cgroup.procs\"; shift 2;;\n\
            --no-thp) NO_THP=1; export NO_THP; shift;;\n\
        esac; done\n\
        shift\n\
        exec setsid \"$@\"\n";

    const EVERYWHERE: Place<'_> = Place { limit: None, swap: None, thp: true };

    struct Bench {
        host: Host,
        place: tempfile::TempDir,
    }

    impl Bench {
        fn new(cgroups: Result<(), String>) -> Bench {
            let place = tempfile::tempdir_in("/var/tmp").unwrap();
            let [text, enter] = ["text", "quire"].map(|name| place.path().join(name));
            fs::write(&text, ENTER).unwrap();
            fs::set_permissions(&text, fs::Permissions::from_mode(0o755)).unwrap();
            // Written by a process of its own: what a fork of another test holds open for writing can't be executed.
            assert!(Command::new("cp").arg("-p").arg(&text).arg(&enter).status().unwrap().success());
            fs::remove_file(text).unwrap();
            Bench { host: Host::of_test(place.path(), cgroups, enter), place }
        }

        fn without_cgroups() -> Bench {
            Bench::new(Err("none in this test".into()))
        }

        /// None, with the reason printed, where the machine has no cgroups.
        fn with_cgroups() -> Option<Bench> {
            let bench = Bench::new(Ok(()));
            let why = bench.host.without_cgroups().map(str::to_owned);
            why.inspect(|why| println!("not tried: {why}")).map_or(Some(bench), |_| None)
        }

        fn run(&self, place: Place<'_>, script: &str) -> Result<Run, Stop> {
            run(&self.host, place, &shell(script), None)
        }

        /// The binary's stand-in and the journal with its lock are there, and nothing else.
        fn left(&self) -> Vec<String> {
            let names = |path: &Path| {
                fs::read_dir(path)
                    .unwrap()
                    .flatten()
                    .map(|entry| entry.file_name().into_string().unwrap())
                    .collect()
            };
            let mut left: Vec<String> = names(self.place.path());
            left.extend::<Vec<String>>(names(&self.place.path().join("journal")));
            left.sort();
            left
        }

        fn is_clean(&self) -> bool {
            self.left() == ["journal", "lock", "quire"]
        }
    }

    fn shell(script: &str) -> Program {
        Program {
            argv: ["sh", "-c", script].map(Into::into).into(),
            stdin: None,
            environment: vec![("GREETING".into(), "hello".into())],
            directory: Some("/".into()),
            timeout: Duration::from_secs(60),
        }
    }

    /// Fills so many MiB, tells, and waits until it is killed or has slept.
    fn fill(mib: u32, then: &str) -> String {
        format!("v=$(head -c {mib}M /dev/zero | tr '\\0' x); echo filled; {then}")
    }

    fn is_gone(pid: &str) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        session_of(&stat).is_none()
    }

    #[test]
    fn what_a_program_says_and_how_it_ends_is_told() {
        let bench = Bench::without_cgroups();
        let run =
            bench.run(EVERYWHERE, "echo $GREETING $LC_ALL $(pwd) $NO_THP; echo oh >&2; exit 3").unwrap();
        assert_eq!((run.output.text.as_str(), run.stderr.as_str()), ("hello C /\n", "oh\n"));
        assert_eq!((run.status, run.signal, run.timed_out, run.oom_kills), (Some(3), None, false, 0));
        assert!(!run.succeeded() && !run.was_killed() && run.driver_seconds.is_none());
        assert_eq!((run.output.bytes, run.output.digest), (10, xxhash_rust::xxh3::xxh3_128(b"hello C /\n")));
        let run = bench.run(Place { thp: false, ..EVERYWHERE }, "echo $NO_THP; cat; kill -9 $$").unwrap();
        assert_eq!((run.output.text.as_str(), run.status, run.signal), ("1\n", None, Some(9)));
        assert!(run.was_killed());
        assert!(bench.is_clean(), "{:?}", bench.left());
    }

    #[test]
    fn a_file_is_its_stdin_and_of_long_output_the_beginning_is_kept() {
        let bench = Bench::without_cgroups();
        let path = bench.place.path().join("input");
        let input = "0123456789abcde\n".repeat(100_000);
        fs::write(&path, &input).unwrap();
        let run =
            run(&bench.host, EVERYWHERE, &Program { stdin: Some(path), ..shell("tee /dev/stderr") }, None)
                .unwrap();
        assert!(run.succeeded());
        assert_eq!(run.output.bytes, input.len() as u64);
        assert_eq!(run.output.digest, xxhash_rust::xxh3::xxh3_128(input.as_bytes()));
        assert!(
            run.output.text == input[..MIB as usize] && run.stderr == input[input.len() - TAIL as usize..]
        );
    }

    #[test]
    fn what_is_not_there_is_told_before_anything_starts() {
        let bench = Bench::without_cgroups();
        let program = |name: &str| Program { argv: vec![name.into()], ..shell("") };
        let failure = |program: &Program| match run(&bench.host, EVERYWHERE, program, None) {
            Err(Stop::Failed(failure)) => failure,
            other => panic!("{other:?}"),
        };
        assert_eq!(failure(&program("/nonexistent/program")).status, 127);
        assert_eq!(failure(&Program { argv: vec![], ..shell("") }).status, 125);
        let stdin = Program { stdin: Some("/nonexistent/input".into()), ..shell("") };
        assert!(failure(&stdin).message.contains("/nonexistent/input"));
        let limited = bench.run(Place { limit: Some(MIB), ..EVERYWHERE }, "true");
        assert_eq!(limited, Err(Stop::Failed(Failure::own("none in this test"))));
        assert!(bench.is_clean(), "{:?}", bench.left());
    }

    #[test]
    fn without_cgroups_the_session_is_sampled_and_killed() {
        let bench = Bench::without_cgroups();
        let script = fill(20, "sleep 60 & echo $! > $TMPDIR/../../sleeper; sleep 0.2");
        let run = bench.run(EVERYWHERE, &script).unwrap();
        assert!(run.succeeded() && run.output.text == "filled\n", "{run:?}");
        assert!((20 * MIB..200 * MIB).contains(&run.peak_anonymous), "{}", run.peak_anonymous);
        assert!(run.peak_less_cache >= run.peak_anonymous);
        let sleeper = bench.place.path().join("sleeper");
        assert!(is_gone(&fs::read_to_string(&sleeper).unwrap()));
        fs::remove_file(sleeper).unwrap();
        assert!(bench.is_clean(), "{:?}", bench.left());
    }

    #[test]
    fn when_the_time_is_up_all_of_it_is_killed() {
        for bench in [Some(Bench::without_cgroups()), Bench::with_cgroups()].into_iter().flatten() {
            let program =
                Program { timeout: Duration::from_millis(300), ..shell("sleep 60 & echo $!; sleep 60") };
            let run = run(&bench.host, EVERYWHERE, &program, None).unwrap();
            assert!(run.timed_out && !run.succeeded() && run.signal == Some(9), "{run:?}");
            assert!((0.3..30.0).contains(&run.seconds) && is_gone(&run.output.text));
            assert!(bench.is_clean(), "{:?}", bench.left());
        }
    }

    #[test]
    fn a_cgroup_tells_its_peaks_and_holds_its_limit() {
        let Some(bench) = Bench::with_cgroups() else { return };
        let run =
            bench.run(EVERYWHERE, &fill(20, "head -c 30M /dev/zero > $TMPDIR/file; sleep 0.2")).unwrap();
        assert!(run.succeeded() && run.oom_kills == 0, "{run:?}");
        assert!((20 * MIB..200 * MIB).contains(&run.peak_anonymous), "{}", run.peak_anonymous);
        assert!(run.peak_less_cache > run.peak_anonymous);
        let run = bench.run(Place { limit: Some(16 * MIB), ..EVERYWHERE }, &fill(40, "sleep 60")).unwrap();
        assert!(run.was_killed() && run.oom_kills > 0 && run.output.text.is_empty(), "{run:?}");
        assert!(bench.is_clean(), "{:?}", bench.left());
    }

    #[test]
    fn memory_files_count_beside_anonymous_memory() {
        let Some(bench) = Bench::with_cgroups() else { return };
        let path = format!("/dev/shm/quire-bench-test-{}", std::process::id());
        let run =
            bench.run(EVERYWHERE, &format!("head -c 24M /dev/zero > {path}; sleep 0.2; rm {path}")).unwrap();
        assert!(run.succeeded() && run.peak_anonymous < 16 * MIB, "{run:?}");
        assert!(run.peak_less_cache > 24 * MIB, "{run:?}");
    }

    #[test]
    fn swap_takes_what_the_limit_does_not_and_its_peak_is_told() {
        let Some(bench) = Bench::with_cgroups() else { return };
        let _alone = alone();
        let Some(swap) = tried(bench.host.swap_file(bench.place.path(), 64 * MIB)) else { return };
        let place = Place { limit: Some(16 * MIB), swap: Some(&swap), thp: false };
        let run = bench.run(place, &fill(20, "sleep 0.2")).unwrap();
        assert!(run.succeeded() && run.oom_kills == 0, "{run:?}");
        assert!((MIB..64 * MIB).contains(&run.peak_swap), "{run:?}");
    }

    #[test]
    fn a_driver_drives_and_ends_the_program() {
        let bench = Bench::without_cgroups();
        let mut known = 0;
        let mut driver = |running: &Running| {
            known = running.pid();
            thread::sleep(Duration::from_millis(50));
            assert!(!running.is_over());
            running.terminate();
            Ok(())
        };
        let program = Program { argv: vec!["sleep".into(), "60".into()], ..shell("") };
        let ended = run(&bench.host, EVERYWHERE, &program, Some(&mut driver)).unwrap();
        assert!(ended.driver_seconds.is_some_and(|seconds| (0.05..30.0).contains(&seconds)));
        assert!(ended.signal == Some(15) && is_gone(&known.to_string()), "{ended:?}");
    }

    #[test]
    fn a_driver_that_fails_ends_the_program_and_the_end_of_the_program_ends_the_driver() {
        let bench = Bench::without_cgroups();
        let failure = Failure::own("no client");
        let mut fails = |_: &Running| Err(failure.clone());
        let ended = run(&bench.host, EVERYWHERE, &shell("sleep 60"), Some(&mut fails));
        assert_eq!(ended, Err(Stop::Failed(failure.clone())));
        let mut waits = |running: &Running| {
            while !running.is_over() {
                thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        };
        assert!(run(&bench.host, EVERYWHERE, &shell("exit 0"), Some(&mut waits)).unwrap().succeeded());
        assert!(bench.is_clean(), "{:?}", bench.left());
    }

    #[test]
    fn a_signal_kills_the_program_and_leaves_nothing() {
        let bench = Bench::with_cgroups().unwrap_or_else(Bench::without_cgroups);
        let driven = AtomicBool::new(false);
        let mut driver = |_: &Running| {
            driven.store(true, Ordering::Relaxed);
            Ok(())
        };
        bench.host.interrupts().pretend(2);
        let stopped = run(&bench.host, EVERYWHERE, &shell("sleep 60"), Some(&mut driver));
        assert_eq!(stopped, Err(Stop::Interrupted(2)));
        assert!(!driven.load(Ordering::Relaxed) && bench.is_clean(), "nothing is started any more");
        // One that comes while the program runs.
        let bounds = Bounds::create(&bench.host, EVERYWHERE).unwrap();
        let streams = Streams::create(&bench.host).unwrap();
        let command = command(&bench.host, &bounds, EVERYWHERE, &shell("sleep 60"), &streams).unwrap();
        let started = Started::new(command, &bounds).unwrap();
        let pid = started.pid.to_string();
        let (start, minute) = (Instant::now(), Duration::from_secs(60));
        let sampled = started.attend(&bench.host, EVERYWHERE, start, minute, Some(&mut driver));
        assert_eq!(sampled.unwrap_err(), Stop::Interrupted(2));
        drop(started);
        assert!(driven.load(Ordering::Relaxed) && is_gone(&pid));
        drop((bounds, streams));
        assert!(bench.is_clean(), "{:?}", bench.left());
    }

    #[test]
    fn the_session_is_told_by_the_stat_of_a_process() {
        assert_eq!(session_of("17 (a) b (c)) S 1 16 15 0 -1"), Some(15));
        assert_eq!(session_of("17 (a) Z 1 16 15 0 -1"), None);
        assert_eq!(session_of(""), None);
    }
}
