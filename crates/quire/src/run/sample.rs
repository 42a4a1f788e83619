//! Samples of the resident anonymous memory of the program and its descendants.
//!
//! The kernel counts a page that a fork shares once for each process that maps it. Where processes are copies
//! of one another (same stack, same arguments: forked and not yet exec'd) their proportional share is read
//! instead; where they share the whole address space (vfork) they count once.

use quire_linux::sys::child::same_memory;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;

/// What one process had at the moment of a sample.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Member {
    /// Process id.
    pub(crate) pid: u32,
    /// When it started, in clock ticks: tells two uses of a process id apart.
    pub(crate) started: u64,
    /// Where its stack and its arguments begin: as random as an address space is, and inherited by fork.
    image: (u64, u64),
    /// Resident anonymous bytes; of what it shares with copies of itself, its part.
    pub(crate) anonymous: u64,
}

impl Member {
    /// Whether one of the two is a copy of the other, by fork without exec.
    pub(crate) fn is_copy_of(&self, other: &Member) -> bool {
        self.pid != other.pid && self.image == other.image
    }

    /// Whether it came of a fork without exec from another one in the sample, or from an ancestor of both.
    pub(crate) fn copies_one_of(&self, sample: &Sample) -> bool {
        let is_older = |other: &&Member| (other.started, other.pid) < (self.started, self.pid);
        sample.members.iter().filter(is_older).any(|other| other.is_copy_of(self))
    }
}

#[cfg(test)]
impl Member {
    pub(crate) fn new(pid: u32, anonymous: u64) -> Member {
        Member { pid, started: 0, image: (u64::from(pid), 0), anonymous }
    }
}

/// A sample of all processes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// The processes, by id.
    pub(crate) members: Vec<Member>,
    /// Resident anonymous bytes of all and of this process, each page counted once.
    pub(crate) anonymous: u64,
}

/// Samples the processes `roots` and all their descendants, beside this process.
pub(crate) fn sample(roots: impl IntoIterator<Item = u32>) -> Sample {
    let mut members: Vec<Member> = descendants(roots).into_iter().filter_map(member).collect();
    let mut families: BTreeMap<(u64, u64), Vec<usize>> = BTreeMap::new();
    for (at, member) in members.iter().enumerate() {
        families.entry(member.image).or_default().push(at);
    }
    families.values().for_each(|family| share(&mut members, family));
    let own = status_anonymous("self").unwrap_or(0);
    let anonymous = own + members.iter().map(|member| member.anonymous).sum::<u64>();
    Sample { members, anonymous }
}

/// When a process started, in clock ticks; nothing of one that has ended.
pub(crate) fn started(pid: u32) -> Option<u64> {
    Some(parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?.0)
}

/// Whether a process is this one's child, or a child's. Where this one is the subreaper, each stays so until its end.
pub(crate) fn is_descendant(pid: u32) -> bool {
    let own = std::process::id();
    std::iter::successors(parent(pid), |at| parent(*at)).any(|at| at == own)
}

fn parent(pid: u32) -> Option<u32> {
    fields(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?.nth(1)?.parse().ok()
}

/// The fields of `/proc/PID/stat` from the state on, which has number 3 in proc(5): behind the name, in parentheses, which may
/// hold anything.
fn fields(stat: &str) -> Option<impl Iterator<Item = &str>> {
    Some(stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace())
}

/// What a process calls itself.
pub(crate) fn name(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    if name.is_empty() { "a program".into() } else { name.trim().into() }
}

/// The processes and their descendants, as far as the kernel tells.
fn descendants(roots: impl IntoIterator<Item = u32>) -> BTreeSet<u32> {
    let mut queue: VecDeque<u32> = roots.into_iter().collect();
    let mut found = BTreeSet::new();
    while let Some(pid) = queue.pop_front() {
        if found.insert(pid) {
            queue.extend(children(pid));
        }
    }
    found
}

/// The children of a process.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let threads = threads(pid).into_iter();
    let lists = threads.filter_map(|thread| fs::read_to_string(format!("/proc/{thread}/children")).ok());
    lists
        .flat_map(|list| {
            list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
        })
        .collect()
}

fn member(pid: u32) -> Option<Member> {
    let of = |place: &str| {
        let (started, image) = parse_stat(&fs::read_to_string(format!("/proc/{place}/stat")).ok()?)?;
        // While a process ends, its memory goes before its entry does.
        Some(Member { pid, started, image, anonymous: status_anonymous(place).unwrap_or(0) })
    };
    // Where the first thread has ended before others, those have the memory.
    of(&pid.to_string()).or_else(|| threads(pid).iter().find_map(|thread| of(thread)))
}

/// The threads of a process, by where they are below `/proc`.
pub(crate) fn threads(pid: u32) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.map(|thread| format!("{pid}/task/{}", thread.file_name().display())).collect()
}

/// Start time, and the addresses of stack and arguments; nothing of a process that has ended and waits for its parent.
fn parse_stat(stat: &str) -> Option<(u64, (u64, u64))> {
    let fields: Vec<&str> = fields(stat)?.collect();
    if matches!(fields.first(), Some(&("Z" | "X"))) {
        return None;
    }
    let field = |number: usize| fields.get(number - 3)?.parse().ok();
    Some((field(22)?, (field(28)?, field(48)?)))
}

fn status_anonymous(pid: &str) -> Option<u64> {
    kib_after(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "RssAnon:")
}

/// The bytes that a line such as `RssAnon:   12 kB` tells.
pub(crate) fn kib_after(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Counts once what processes share that are copies of one another.
fn share(members: &mut [Member], family: &[usize]) {
    let mut apart: Vec<usize> = Vec::new();
    for at in family {
        let pid = members[*at].pid;
        if apart.iter().any(|other| same_memory(pid, members[*other].pid) == Some(true)) {
            members[*at].anonymous = 0;
        } else {
            apart.push(*at);
        }
    }
    if apart.len() > 1 {
        for at in apart {
            members[at].anonymous = proportional(&members[at]).unwrap_or(members[at].anonymous);
        }
    }
}

fn proportional(member: &Member) -> Option<u64> {
    kib_after(&fs::read_to_string(format!("/proc/{}/smaps_rollup", member.pid)).ok()?, "Pss_Anon:")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_copy_is_told_from_what_it_was_copied_from() {
        let member =
            |pid: u32, started: u64, image: u64| Member { pid, started, image: (image, 0), anonymous: 0 };
        let members =
            vec![member(9, 5, 1), member(3, 5, 2), member(7, 6, 1), member(4, 6, 1), member(5, 7, 2)];
        let sample = Sample { members, anonymous: 0 };
        let copies: Vec<u32> =
            sample.members.iter().filter(|one| one.copies_one_of(&sample)).map(|one| one.pid).collect();
        assert_eq!(copies, [7, 4, 5]);
    }

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let numbers: Vec<String> = (4..=52).map(|number| number.to_string()).collect();
        let stat = format!("17 (a) b (c)) S {}", numbers.join(" "));
        assert_eq!(parse_stat(&stat), Some((22, (28, 48))));
        assert_eq!(parse_stat("17 (x) S 1"), None);
        assert_eq!(parse_stat(&format!("17 (zombie) Z {}", numbers.join(" "))), None);
    }

    #[test]
    fn lines_are_read_in_bytes() {
        assert_eq!(kib_after("VmRSS:\t 9 kB\nRssAnon:\t      12 kB\n", "RssAnon:"), Some(12 << 10));
        assert_eq!(kib_after("RssAnon: much\n", "RssAnon:"), None);
    }

    #[test]
    fn a_process_is_told_by_its_start() {
        let own = std::process::id();
        let mut child = Command::new("sleep").arg("20").spawn().unwrap();
        let (ours, its) = (started(own).unwrap(), started(child.id()).unwrap());
        // Clock ticks are a hundredth of a second; a test has run for less than an hour.
        assert!(ours <= its && its - ours < 360_000, "{ours} {its}");
        let found = member(child.id()).unwrap();
        assert_eq!((found.pid, found.started), (child.id(), its));
        child.kill().unwrap();
        // Killed and not waited for, it has ended.
        let ended = (0..1000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            started(child.id()).is_none()
        });
        assert!(ended && member(child.id()).is_none());
        child.wait().unwrap();
    }

    #[test]
    fn who_is_alone_counts_as_the_kernel_says() {
        // Other tests have their memory in this process.
        const MEMORY: u64 = 256 << 20;
        const OTHERS: u64 = 200 << 20;
        let memory = vec![1u8; MEMORY as usize];
        let sampled = sample([std::process::id()]);
        let own = sampled.members.iter().find(|member| member.pid == std::process::id()).unwrap();
        let least = memory.len() as u64;
        assert!((least..least + OTHERS).contains(&own.anonymous), "{}", own.anonymous);
        let members: u64 = sampled.members.iter().map(|member| member.anonymous).sum();
        // This process is in it twice: as one of the roots, and as who looks.
        assert!((members + least..members + least + 2 * OTHERS).contains(&sampled.anonymous));
    }

    #[test]
    fn a_child_and_its_child_are_found() {
        let mut shell = Command::new("sh");
        let mut child = shell.args(["-c", "sleep 20; true"]).stdout(Stdio::null()).spawn().unwrap();
        let mut count = 0;
        for _ in 0..100 {
            count = sample([child.id()]).members.len();
            if count == 2 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let sampled = sample([child.id()]);
        for member in &sampled.members {
            let _ = Command::new("kill").arg(member.pid.to_string()).status();
        }
        child.wait().unwrap();
        assert_eq!(count, 2);
        assert!(sampled.anonymous > 0);
    }
}
