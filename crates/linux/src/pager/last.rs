//! The end of a program whose last thread leaves by exit(2), not exit_group(2). Natively the process ends then, with the
//! status of that thread; threads of Quire's must not keep it alive.

use super::fork;
use crate::sys::clock::now_ns;
use crate::sys::{file, sched, thread};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering::Relaxed};

/// Time between two looks, in ns: a program may leave by an instruction of its own.
const SECOND_NS: u64 = 1_000_000_000;
/// The same after a thread has said that it leaves, and how often.
const SOON_NS: u64 = 1_000_000;
const LOOKS: u32 = 100;

/// Looks that are due soon.
static SOON: AtomicU32 = AtomicU32::new(0);

/// The first thread has left before others.
static OUTLIVED: AtomicBool = AtomicBool::new(false);
/// The status with which another one left last. Those that libc ends have 0.
static STATUS: AtomicI32 = AtomicI32::new(0);

/// The calling thread is about to leave by exit(2) with a status. `quietly`: without a system call.
pub fn leaves(status: i32, quietly: bool) {
    SOON.store(LOOKS, Relaxed);
    if quietly {
        return;
    }
    if sched::gettid() != super::own_pid() {
        STATUS.store(status & 0xff, Relaxed);
    } else if let Some(stat) = stat() {
        OUTLIVED.store(stat.threads as usize > thread::live() + 1, Relaxed);
    }
    if let Some(pager) = super::pager() {
        pager.exchange.ring();
    }
}

/// Ends the process if the program has no thread left.
pub(super) fn end_if_over() {
    if let Some(status) = stat().and_then(|stat| stat.status_if_over(thread::live())) {
        thread::end_process(if OUTLIVED.load(Relaxed) { STATUS.load(Relaxed) } else { status });
    }
}

/// On the service thread: ends the process if the program has no thread left. How long until the next look, in ns.
pub(super) fn look(looked: &mut u64) -> u64 {
    let (now, soon) = (now_ns(), SOON.load(Relaxed));
    if soon == 0 && now - *looked < SECOND_NS {
        return SECOND_NS;
    }
    *looked = now;
    // To open a file could be the end of the process, or take the last descriptor that there is.
    if sched::first_thread_has_ended() && !fork::are_all_filtered() {
        end_if_over();
    }
    if soon == 0 {
        return SECOND_NS;
    }
    // Another thread may have said so meanwhile.
    let _ = SOON.compare_exchange(soon, soon - 1, Relaxed, Relaxed);
    SOON_NS
}

/// What is known of the first thread: some fields of proc_pid_stat(5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stat {
    has_ended: bool,
    /// Of the process; the first one is among them as long as others are there.
    threads: i32,
    /// The first thread's.
    status: i32,
}

/// `None`: it can't be read, or may not be.
fn stat() -> Option<Stat> {
    if fork::is_filtered() && sched::gettid() == super::own_pid() {
        return None;
    }
    file::read_some::<1024, _>(c"/proc/self/stat", Stat::parse).flatten()
}

impl Stat {
    fn parse(stat: &[u8]) -> Option<Stat> {
        let behind_name = stat.iter().rposition(|byte| *byte == b')')? + 2;
        let mut fields = stat.get(behind_name..)?.split(|byte| byte.is_ascii_whitespace());
        let state = fields.next()?;
        // The third field was the state; then the twentieth and the 52nd.
        let mut number =
            |skip: usize| -> Option<i32> { core::str::from_utf8(fields.nth(skip)?).ok()?.parse().ok() };
        let (threads, code) = (number(20 - 4)?, number(52 - 21)?);
        Some(Stat { has_ended: state == b"Z", threads, status: code >> 8 & 0xff })
    }

    /// The first thread's status, if that has ended and only `own` threads are there.
    fn status_if_over(self, own: usize) -> Option<i32> {
        (self.has_ended && self.threads == own as i32 + 1).then_some(self.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::string::String;

    fn stat(state: &str, threads: u32, code: u32) -> String {
        let before: String = (4..20).map(|number| format!("{number} ")).collect();
        let between: String = (21..52).map(|number| format!("{number} ")).collect();
        format!("17 (a) Z 1) {state} {before}{threads} {between}{code}\n")
    }

    #[test]
    fn it_is_over_when_only_our_threads_are_left() {
        let status = |text: String, own| Stat::parse(text.as_bytes()).unwrap().status_if_over(own);
        assert_eq!(status(stat("Z", 4, 3 << 8), 3), Some(3));
        assert_eq!(status(stat("Z", 5, 3 << 8), 3), None);
        assert_eq!(status(stat("S", 4, 0), 3), None);
        for short in ["17 (a) Z 1", "17 (a)", ""] {
            assert_eq!(Stat::parse(short.as_bytes()), None);
        }
    }
}
