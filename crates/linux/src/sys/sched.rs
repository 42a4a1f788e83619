//! Threads as the kernel sees them: priority, signals, descriptor tables.

use super::tally::{self, Call};
use super::{Errno, Result, raw};
use core::sync::atomic::{AtomicU32, Ordering};
use rustix::thread::Pid;

pub use rustix::thread::CpuSet;

/// How urgently a thread runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Priority {
    /// First in, first out, before every ordinary thread. Not inherited by children.
    Fifo,
    /// Ordinary, with this nice value below 0.
    Nice(i32),
    /// As it was.
    Plain,
}

/// Children of the thread are ordinary threads again.
const RESET_ON_FORK: u32 = 0x4000_0000;
const FIFO: u32 = libc::SCHED_FIFO as u32 | RESET_ON_FORK;
/// The highest real-time priority that Linux has.
const HIGHEST: u32 = 99;

/// By which rule, and how urgently, a thread is scheduled.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Scheduling {
    /// `SCHED_FIFO` or another, with the flag for children.
    pub policy: u32,
    /// 1 to 99 for real-time threads; 0 for ordinary ones.
    pub priority: u32,
}

impl Scheduling {
    /// That of thread `tid`; 0 is the calling one.
    pub fn of(tid: u32) -> Option<Scheduling> {
        tally::count(Call::GetScheduler);
        // SAFETY: the call takes a number only.
        let policy = unsafe { raw::syscall(libc::SYS_sched_getscheduler, [tid as usize]) }.ok()? as u32;
        let mut scheduling = Scheduling { policy, priority: 0 };
        if scheduling.is_real_time() {
            let mut param = libc::sched_param { sched_priority: 0 };
            let args = [tid as usize, (&raw mut param).addr()];
            // SAFETY: `param` outlives the call, which fills it.
            unsafe { raw::syscall(libc::SYS_sched_getparam, args) }.ok()?;
            scheduling.priority = param.sched_priority as u32;
        }
        Some(scheduling)
    }

    /// What threads are lent who keep more urgent ones waiting: all but the highest, which stays the lender's.
    pub fn lent() -> Scheduling {
        Scheduling { policy: FIFO, priority: highest_allowed().saturating_sub(1).max(1) }
    }

    /// Makes thread `tid` so; 0 is the calling one. Whether the system allows it.
    pub fn give(self, tid: u32) -> bool {
        set_policy(tid, self.policy, self.priority).is_ok()
    }

    /// Whether such a thread comes before all ordinary ones.
    pub fn is_real_time(self) -> bool {
        const DEADLINE: i32 = 6;
        matches!((self.policy & !RESET_ON_FORK) as i32, libc::SCHED_FIFO | libc::SCHED_RR | DEADLINE)
    }

    /// Whether such a thread is at least as urgent.
    pub fn outranks(self, other: Scheduling) -> bool {
        self.is_real_time() && self.priority >= other.priority
    }
}

/// Whether thread `tid` comes before all ordinary ones.
pub fn is_real_time(tid: u32) -> bool {
    Scheduling::of(tid).is_some_and(Scheduling::is_real_time)
}

/// The highest priority that the calling thread may take: RLIMIT_RTPRIO counts only for those without CAP_SYS_NICE, for
/// whom it is found by trying.
fn highest_allowed() -> u32 {
    match ALLOWED.load(Ordering::Relaxed) {
        0 => HIGHEST,
        known => known,
    }
}

/// What [`raise_priority`] has found out; 0 before that.
static ALLOWED: AtomicU32 = AtomicU32::new(0);

/// Makes the calling thread as urgent as the system allows, so that it comes before all who may wait for it.
pub fn raise_priority() -> Priority {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Rtprio).current;
    for priority in [HIGHEST, limit.unwrap_or(u64::from(HIGHEST)).min(u64::from(HIGHEST)) as u32] {
        if priority > 0 && set_policy(0, FIFO, priority).is_ok() {
            ALLOWED.store(priority, Ordering::Relaxed);
            return Priority::Fifo;
        }
    }
    if Scheduling::of(0).is_some_and(Scheduling::is_real_time) {
        // Inherited, and not to be had again.
        return Priority::Fifo;
    }
    shorten_slice();
    lower_nice(&[-20, -15, -10, -5]).map_or(Priority::Plain, Priority::Nice)
}

/// Has the calling thread get the processor soon, and yet be an ordinary one: where it waits in the kernel for another one by
/// spinning, as for entries of `/proc` that are just being removed, that must get its turn.
pub fn be_prompt() {
    shorten_slice();
    lower_nice(&[-10, -5]);
}

/// RLIMIT_NICE may allow a part of the way.
fn lower_nice(values: &[i32]) -> Option<i32> {
    values.iter().copied().find(|nice| rustix::process::setpriority_process(None, *nice).is_ok())
}

/// The shortest slice, in ns.
const SLICE: u64 = 100_000;

/// Anyone may ask for short slices, and gets the processor at once for it when there is something to do (from Linux 6.12 on).
fn shorten_slice() {
    let ordinary = Scheduling::of(0).is_some_and(|now| now.policy == libc::SCHED_OTHER as u32);
    let Ok(nice) = rustix::process::getpriority_process(None) else { return };
    if ordinary {
        let attributes = libc::sched_attr {
            size: size_of::<libc::sched_attr>() as u32,
            sched_policy: libc::SCHED_OTHER as u32,
            // For this thread only.
            sched_flags: libc::SCHED_FLAG_RESET_ON_FORK as u64,
            sched_nice: nice,
            sched_priority: 0,
            sched_runtime: SLICE,
            sched_deadline: 0,
            sched_period: 0,
        };
        let args = [0, (&raw const attributes).addr(), 0];
        // SAFETY: the kernel reads the attributes, whose size they tell. Where it refuses, all is as before.
        let _ = unsafe { raw::syscall(libc::SYS_sched_setattr, args) };
    }
}

/// Whether [`raise_priority`] would give [`Priority::Fifo`], by trying it and going back. Asked by a thread
/// that has a real-time policy already, it says yes and changes nothing.
pub fn can_fifo() -> bool {
    // SAFETY: the call takes a number only.
    let before = unsafe { raw::syscall(libc::SYS_sched_getscheduler, [0]) };
    match before {
        Ok(policy) if matches!(policy as i32 & 0xff, libc::SCHED_FIFO | libc::SCHED_RR) => true,
        // Without the reset flag, which only a privileged thread could take back.
        Ok(policy) => {
            set_policy(0, libc::SCHED_FIFO as u32, 1).is_ok() && set_policy(0, policy as u32, 0).is_ok()
        }
        Err(_) => false,
    }
}

fn set_policy(tid: u32, policy: u32, priority: u32) -> Result<()> {
    tally::count(Call::SetScheduler);
    let param = libc::sched_param { sched_priority: priority as i32 };
    let args = [tid as usize, policy as usize, (&raw const param).addr()];
    // SAFETY: `param` outlives the call, which only reads it.
    unsafe { raw::syscall(libc::SYS_sched_setscheduler, args) }.map(|_| ())
}

/// The processors that a thread may run on; `None` is the calling one.
pub fn affinity(thread: Option<Pid>) -> Result<CpuSet> {
    tally::count(Call::GetAffinity);
    rustix::thread::sched_getaffinity(thread)
}

/// Sets the processors that a thread may run on.
pub fn set_affinity(thread: Option<Pid>, processors: &CpuSet) -> Result<()> {
    tally::count(Call::SetAffinity);
    rustix::thread::sched_setaffinity(thread, processors)
}

/// The calling thread's id.
pub fn gettid() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get() as u32
}

/// Whether thread `tid` of this process still exists.
pub fn thread_lives(tid: u32) -> bool {
    let Some(pid) = Pid::from_raw(tid as i32) else {
        return false;
    };
    let own = rustix::process::getpid().as_raw_nonzero().get() as usize;
    // SAFETY: signal 0 is not delivered.
    unsafe { raw::syscall(libc::SYS_tgkill, [own, pid.as_raw_nonzero().get() as usize, 0]) }.is_ok()
}

/// Whether the first thread of this process has ended, while others go on. Takes no descriptor.
pub fn first_thread_has_ended() -> bool {
    let own = rustix::process::getpid().as_raw_nonzero().get() as usize;
    let (byte, mut to) = (0u8, 0u8);
    let from = libc::iovec { iov_base: (&raw const byte).cast_mut().cast(), iov_len: 1 };
    let into = libc::iovec { iov_base: (&raw mut to).cast(), iov_len: 1 };
    let (from, into) = ((&raw const from).addr(), (&raw const into).addr());
    // SAFETY: a byte is read, and one written, both of this function's.
    let read = unsafe { raw::syscall(libc::SYS_process_vm_readv, [own, into, 1, from, 1, 0]) };
    // A thread that has ended has no memory.
    read == Err(Errno::SRCH)
}

/// Whether there is a thread `tid`, of whatever process, that has not ended.
pub fn task_exists(tid: u32) -> bool {
    // SAFETY: signal 0 is not delivered.
    let asked = unsafe { raw::syscall(libc::SYS_tkill, [tid as usize, 0]) };
    !matches!(asked, Err(Errno::SRCH | Errno::INVAL))
}

/// While it lives, every signal that can be blocked is blocked in the thread that made it.
#[derive(Debug)]
pub struct SignalsBlocked {
    before: u64,
    /// The mask belongs to one thread, so the guard must not leave it.
    here: core::marker::PhantomData<*const ()>,
}

impl SignalsBlocked {
    /// Blocks all signals in the calling thread, those that libc keeps for itself included.
    pub fn new() -> SignalsBlocked {
        SignalsBlocked { before: set_mask(u64::MAX), here: core::marker::PhantomData }
    }

    /// The set of signals that were blocked before: bit n - 1 for signal n.
    pub fn before(&self) -> u64 {
        self.before
    }

    /// Leaves them blocked beyond the guard's life, until [`SignalsBlocked::unblock`] is given what this gives.
    pub fn keep(self) -> u64 {
        core::mem::ManuallyDrop::new(self).before
    }

    /// Ends what [`SignalsBlocked::keep`] kept, in that thread or in a child's copy of it.
    pub fn unblock(before: u64) {
        set_mask(before);
    }
}

impl Default for SignalsBlocked {
    fn default() -> SignalsBlocked {
        SignalsBlocked::new()
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        set_mask(self.before);
    }
}

/// Sets the calling thread's set of blocked signals; gives the one before.
pub(crate) fn set_mask(mask: u64) -> u64 {
    let mut before = 0u64;
    let args =
        [libc::SIG_SETMASK as usize, (&raw const mask).addr(), (&raw mut before).addr(), size_of::<u64>()];
    // SAFETY: both sets outlive the call and have the kernel's size, 8 bytes.
    let done = unsafe { raw::syscall(libc::SYS_rt_sigprocmask, args) };
    debug_assert!(done.is_ok());
    before
}

/// Gives the calling thread a root directory of its own. Where that is refused, it has the program's.
pub fn own_root() {
    // SAFETY: the call takes flags only, and what it changes is the calling thread's.
    let _ = unsafe { raw::syscall(libc::SYS_unshare, [libc::CLONE_FS as usize]) };
}

/// Gives the calling thread a descriptor table of its own, with what the shared one holds now.
/// Threads that it makes from then on share it.
pub fn own_descriptors() -> Result<()> {
    /// No descriptor has this number.
    const NONE: usize = u32::MAX as usize;
    // Not by `unshare`, which the filters of containers refuse, whatever it is asked for.
    // SAFETY: no descriptor is closed, those that other threads own stay open in their table; this thread's copies of them
    // are plain numbers, which the caller closes by `close_range`.
    unsafe { raw::syscall(libc::SYS_close_range, [NONE, NONE, libc::CLOSE_RANGE_UNSHARE as usize]) }
        .map(|_| ())
}

/// Descriptors that [`beyond_descriptor_limit`] has room for.
const MANY: u64 = 4096;

/// Does `call` with room for more descriptors than the process is limited to, as far as it has the right to that.
pub fn beyond_descriptor_limit<R>(call: impl FnOnce() -> R) -> R {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let before = getrlimit(Resource::Nofile);
    let more = before.maximum.map(|hard| hard.max(MANY));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: more, maximum: more }).or_else(|_| {
        setrlimit(Resource::Nofile, Rlimit { current: before.maximum, maximum: before.maximum })
    });
    let result = call();
    if raised.is_ok() {
        // What was allowed a moment ago still is.
        let _ = setrlimit(Resource::Nofile, before);
    }
    result
}

/// How many descriptors the process may have at a time.
pub fn descriptor_limit() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Closes the descriptors `first..=last` of the calling thread's table.
pub fn close_range(first: u32, last: u32) -> Result<()> {
    // SAFETY: only threads with a table of their own close what is not theirs by name (see `own_descriptors`).
    unsafe { raw::syscall(libc::SYS_close_range, [first as usize, last as usize, 0]) }.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_blocked_and_given_back() {
        let before = set_mask(0);
        {
            let guard = SignalsBlocked::new();
            assert_eq!(guard.before(), 0);
            let inside = set_mask(u64::MAX);
            // SIGKILL (9) and SIGSTOP (19) can't be blocked.
            assert_eq!(inside, !(1 << 8 | 1 << 18));
        }
        assert_eq!(set_mask(before), 0);
    }

    #[test]
    fn threads_are_known_by_id() {
        assert!(thread_lives(gettid()));
        assert!(!thread_lives(0));
        assert!(!thread_lives(i32::MAX as u32));
    }

    #[test]
    fn what_is_promised_about_priority_is_kept() {
        std::thread::spawn(|| {
            let can = can_fifo();
            assert_eq!(can, can_fifo());
            assert_eq!(raise_priority() == Priority::Fifo, can);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_table_of_its_own_keeps_descriptors_from_others() {
        std::thread::spawn(|| {
            own_descriptors().unwrap();
            let (a, b) = rustix::pipe::pipe().unwrap();
            // The copies here are not what `a` and `b` would close elsewhere.
            close_range(3, u32::MAX).unwrap();
            assert!(rustix::io::write(&b, b"x").is_err());
            core::mem::forget((a, b));
        })
        .join()
        .unwrap();
    }
}
