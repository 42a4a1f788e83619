//! Running one program: start it, keep the ledger while it and its managed descendants live, report.
//!
//! One poll loop. [`keeper`] talks with the processes, [`sample`] looks at them from outside, [`notes`] writes down what they
//! tell where that is asked for, and [`report`] says at the end what was seen. [`outside`] and [`over`] tell the user at once
//! where the budget does not hold. Nothing in the loop waits for a file: what is
//! recorded is written by threads ([`outlet`]).

pub(crate) mod budget;
mod fair;
mod keeper;
pub(crate) mod library;
pub(crate) mod log;
mod meeting;
mod migrations;
pub(crate) mod notes;
mod outlet;
mod outside;
mod over;
mod peak;
pub(crate) mod program;
pub(crate) mod report;
pub(crate) mod sample;
mod signals;
pub(crate) mod sleepers;
pub(crate) mod spill;
pub(crate) mod trace;

use crate::failure::{End, Failure};
use crate::files::say;
use keeper::Keeper;
use library::Library;
use migrations::Migrations;
use notes::Notes;
use outside::Outsiders;
use over::OverBudget;
use peak::Peak;
use quire_linux::control::SOCKET_VARIABLE;
use quire_linux::control::outside::Outside;
use quire_linux::control::pattern::EXCLUDE_VARIABLE;
use quire_linux::control::wire::PolicyName;
use quire_linux::sys::child::Signals;
use quire_linux::sys::sched;
use report::{Outcome, Target};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::{
    Pid, PidfdFlags, WaitId, WaitIdOptions, getpid, pidfd_open, set_child_subreaper, waitid,
};
use sleepers::Wake;
use spill::Spill;
use std::env;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::iter;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// The time between two samples, once a program runs for longer than a moment.
const TICK: Duration = Duration::from_millis(50);
/// How long to wait for a forked child to join whose parent has ended before it.
const GRACE: Duration = Duration::from_secs(1);
/// How long what is recorded may wait for its file without any of it being written, once a signal said that it is time.
const STALL: Duration = Duration::from_secs(5);

/// What to run, and how.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The budget in bytes; `None`: nothing is evicted.
    pub(crate) budget: Option<u64>,
    /// The policy for folio sizes.
    pub(crate) policy: PolicyName,
    /// Where the program is.
    pub(crate) program: PathBuf,
    /// The program as it was named, and its arguments.
    pub(crate) words: Vec<OsString>,
    /// Why the program itself runs outside the budget, as far as its file tells.
    pub(crate) outside: Option<Outside>,
    /// Patterns of programs that are left alone, with colons in between.
    pub(crate) exclude: OsString,
    /// The preload library.
    pub(crate) library: Library,
    /// Where to spill to.
    pub(crate) spill: Spill,
    /// Measure where the time of faults goes.
    pub(crate) profile: bool,
    /// When processes are woken.
    pub(crate) wake: Wake,
    /// Print no warnings.
    pub(crate) quiet: bool,
}

/// Runs the program to its end, and that of its managed descendants, and writes the report.
pub(crate) fn supervise(mut settings: Settings, notes: Notes, target: Target) -> Result<End, Failure> {
    let signals =
        Signals::take(&signals::TAKEN).map_err(|error| Failure::own(format!("no signalfd: {error}")))?;
    let keeper = Keeper::open(&settings, notes)?;
    // Descendants that sleep, or are about to become another program, have no connection: whose parent has ended stays in
    // sight as a child of ours. Where that is refused they are not waited for.
    let _ = set_child_subreaper(Some(getpid()));
    let started = Instant::now();
    let child = launch(&settings, keeper.socket(), &signals)?;
    if settings.budget.is_some() {
        // What sleeps may pass the budget while quire waits for its turn.
        sched::be_prompt();
    }
    let mut supervisor = Supervisor::new(&settings, keeper, signals, child, started)?;
    let end = supervisor.run();
    supervisor.end_notes();
    let outcome = supervisor.outcome(end);
    let leaves = supervisor.leaving;
    drop(supervisor);
    if leaves {
        settings.library.leave_behind();
    }
    target.write(&settings, &outcome)?;
    Ok(end)
}

/// Starts the program with the library and the way to the socket in its environment.
fn launch(settings: &Settings, socket: &Path, signals: &Signals) -> Result<Child, Failure> {
    let mut command = Command::new(&settings.program);
    command.arg0(&settings.words[0]).args(&settings.words[1..]);
    command.env("LD_PRELOAD", preload(settings.library.path())).env(SOCKET_VARIABLE, socket);
    if !settings.exclude.is_empty() {
        command.env(EXCLUDE_VARIABLE, &settings.exclude);
    }
    command.env("QUIRE_ASLEEP", settings.wake.told());
    if settings.quiet {
        command.env("QUIRE_QUIET", "1");
    }
    signals.spawn(&mut command).map_err(|error| {
        let shown = settings.program.display();
        if error.kind() == ErrorKind::NotFound {
            return Failure::not_found(format!(
                "the interpreter of '{shown}' was not found: check its first line"
            ));
        }
        Failure::refused(shown, &error)
    })
}

/// The library as the loader is to be told of it, and behind it what was to be preloaded anyway.
fn preload(library: &Path) -> OsString {
    let mut value = library::for_glibc(library);
    if let Some(others) = env::var_os("LD_PRELOAD").filter(|others| !others.is_empty() && *others != value) {
        value.push(":");
        value.push(others);
    }
    value
}

/// The state of the poll loop.
struct Supervisor<'a> {
    keeper: Keeper<'a>,
    signals: Signals,
    child: Child,
    /// Readable when the program has ended.
    pidfd: OwnedFd,
    started: Instant,
    next_tick: Instant,
    /// When to look at processes that sleep.
    next_look: Option<Instant>,
    peak: Peak,
    outsiders: Outsiders,
    /// Where a profile is asked for.
    migrations: Option<Migrations>,
    over: OverBudget,
    budget: Option<u64>,
    quiet: bool,
    /// How the program ended, and when.
    ended: Option<(End, Instant)>,
    /// The user wants to wait no longer for descendants.
    leaving: bool,
    /// A signal came that ends most programs. `quire` may have passed it on.
    told: bool,
}

impl<'a> Supervisor<'a> {
    fn new(
        settings: &'a Settings,
        keeper: Keeper<'a>,
        signals: Signals,
        child: Child,
        started: Instant,
    ) -> Result<Supervisor<'a>, Failure> {
        let pid = Pid::from_raw(child.id().cast_signed()).expect("a child has a process id");
        let pidfd = pidfd_open(pid, PidfdFlags::empty())
            .map_err(|error| Failure::own(format!("the program can't be watched (pidfd_open): {error}")))?;
        let mut outsiders = Outsiders::new(settings.quiet, settings.wake != Wake::AtStart);
        if let Some(cause) = settings.outside {
            outsiders.know(child.id(), cause);
        }
        let next_tick = started + Duration::from_millis(5);
        Ok(Supervisor {
            keeper,
            signals,
            child,
            pidfd,
            started,
            next_tick,
            next_look: None,
            peak: Peak::default(),
            outsiders,
            migrations: settings.profile.then(Migrations::default),
            over: OverBudget::new(settings.budget, settings.quiet),
            budget: settings.budget,
            quiet: settings.quiet,
            ended: None,
            leaving: false,
            told: false,
        })
    }

    fn run(&mut self) -> End {
        loop {
            self.wait();
            self.take_signals();
            self.reap();
            self.hear();
            if Instant::now() >= self.next_tick {
                self.tick();
            }
            if self.next_look.is_none_or(|next| Instant::now() >= next) {
                self.next_look = self.keeper.look_at_sleepers().map(|time| Instant::now() + time);
            }
            if let Some((end, since)) = self.ended {
                let grace_is_over = since.elapsed() > GRACE;
                if self.leaving || self.keeper.is_quiet(grace_is_over) && !self.may_anyone_join(grace_is_over)
                {
                    return end;
                }
            }
        }
    }

    /// Waits for the next event or sample, and serves the processes that said something.
    fn wait(&mut self) {
        let now = Instant::now();
        let next = self.next_look.map_or(self.next_tick, |look| look.min(self.next_tick));
        let left = next.saturating_duration_since(now).min(self.keeper.take_notes());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let mut fds: Vec<PollFd<'_>> = vec![PollFd::new(&self.signals, PollFlags::IN)];
        if self.ended.is_none() {
            fds.push(PollFd::new(&self.pidfd, PollFlags::IN));
        }
        let own = fds.len();
        fds.extend(self.keeper.sockets().map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN)));
        // An error here can only be a signal, and those are looked for anyway.
        let _ = poll(&mut fds, Some(&timeout));
        let ready: Vec<bool> = fds[own..].iter().map(|fd| !fd.revents().is_empty()).collect();
        self.keeper.serve(&ready);
    }

    fn take_signals(&mut self) {
        while let Some(arrived) = self.signals.next() {
            self.told |= signals::ends_waiting(arrived);
            if self.ended.is_some() {
                self.leaving |= signals::ends_waiting(arrived);
            } else {
                signals::pass_on(arrived, self.pidfd.as_fd());
            }
        }
    }

    /// Children that were left to us when their parents ended. Those that have ended are gone then.
    fn left_to_us(&self) -> Vec<u32> {
        let mut children = sample::children(std::process::id());
        children.retain(|pid| *pid != self.child.id());
        children.retain(|pid| {
            let ended = Pid::from_raw(pid.cast_signed())
                .map(|pid| waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG));
            !matches!(ended, Some(Ok(Some(_))))
        });
        children
    }

    /// Whether a descendant lives that has no connection and may have one yet: it sleeps, or has only just called exec.
    fn may_anyone_join(&mut self, grace_is_over: bool) -> bool {
        let connected: Vec<u32> = self.keeper.pids().collect();
        let sample = sample::sample(self.left_to_us());
        let mut members = sample.members.iter();
        members.any(|member| self.outsiders.may_join((member.pid, member.started), grace_is_over, &connected))
    }

    /// Notes the program's end.
    fn reap(&mut self) {
        if self.ended.is_none()
            && let Ok(Some(status)) = self.child.try_wait()
        {
            self.ended = Some((end_of(status), Instant::now()));
            if status.core_dumped() && self.budget.is_some() && !self.quiet {
                say(format_args!(
                    "warning: the core file lacks what was moved out of memory; without -m it is whole"
                ));
            }
        }
    }

    /// Takes down who runs outside the budget.
    fn hear(&mut self) {
        for (pid, cause, name) in self.keeper.take_outside() {
            self.outsiders.hear(pid, cause, &name);
        }
        self.outsiders.read(self.keeper.notices());
    }

    fn tick(&mut self) {
        let main = self.ended.is_none().then(|| self.child.id());
        let connected: Vec<u32> = self.keeper.pids().collect();
        // Others may be left to us, as to process 1 of a container: what has the library is of this tree.
        let left_to_us: Vec<u32> = self
            .left_to_us()
            .into_iter()
            .filter(|&pid| {
                sample::started(pid).is_some_and(|started| self.outsiders.has_library((pid, started)))
            })
            .collect();
        let roots = main.into_iter().chain(connected.iter().copied()).chain(left_to_us);
        let sample = sample::sample(roots);
        let others = sample.members.iter().filter(|member| !connected.contains(&member.pid));
        self.keeper.note_others(others.map(|member| member.anonymous).sum());
        self.peak.add(&sample, &self.keeper.totals());
        self.keeper.let_go_of_ended();
        let now = Instant::now();
        self.outsiders.look(&sample, &connected, now);
        let mut managed = self.keeper.managed();
        managed.extend(self.outsiders.sleepers(&sample, &connected, now));
        self.over.look(&sample, &managed);
        if let Some(migrations) = &mut self.migrations {
            migrations.look(&connected);
        }
        self.keeper.divide();
        // A program that runs for a moment only is sampled more often than one that runs long.
        self.next_tick = Instant::now() + TICK.min(self.started.elapsed() / 2);
    }

    /// Writes down what is left of the recording. A file that takes nothing is waited for until a signal comes, but not
    /// for long if one came before.
    fn end_notes(&mut self) {
        let Supervisor { keeper, signals, told, .. } = self;
        let (mut before, mut since, mut over) = (0, Instant::now(), false);
        keeper.end_notes(&mut |left| {
            if left != before {
                (before, since) = (left, Instant::now());
            }
            over |= iter::from_fn(|| signals.next()).any(signals::ends_waiting);
            over |= *told && since.elapsed() > STALL;
            over
        });
    }

    fn outcome(&self, end: End) -> Outcome {
        let ended = self.ended.map_or_else(Instant::now, |(_, when)| when);
        Outcome {
            end,
            seconds: (ended - self.started).as_secs_f64(),
            managed: self.keeper.joined(),
            forked: self.keeper.forked(),
            slept: self.keeper.slept(),
            refused: self.keeper.refused(),
            outside: self.outsiders.counts().clone(),
            peak_granted: self.keeper.peak_granted(),
            peak: self.peak.clone(),
            moved: self.migrations.as_ref().and_then(Migrations::moved),
            totals: self.keeper.totals(),
        }
    }
}

fn end_of(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Status(code as u8),
        (None, signal) => End::Signal(signal.unwrap_or(0)),
    }
}
