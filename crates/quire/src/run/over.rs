//! Whether the tree keeps its budget, as the samples show it: where it does not, one line says so at once, and why.

use super::sample::{self, Sample, kib_after};
use crate::files::say;
use crate::size::{MIB, human};
use std::fs;

/// Beside the budget and a tenth of it, in bytes: `quire` itself, stacks, and what each program has of its own.
const MARGIN: u64 = 24 * MIB;
/// The least that a process has unmanaged for a line about it, in bytes.
const MUCH: u64 = 64 * MIB;

/// The most that a tree with this budget may have without a word, in bytes.
pub(crate) fn limit(budget: u64) -> u64 {
    budget.saturating_add(budget / 10).saturating_add(MARGIN)
}

/// What a connected process says of itself, or what is known of one that sleeps without a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Managed {
    pub(super) pid: u32,
    /// Whether it came from a fork without exec.
    pub(super) forked: bool,
    /// What is managed of its memory, in bytes.
    pub(super) bytes: u64,
}

/// What the user was told.
#[derive(Debug)]
pub(super) struct OverBudget {
    budget: Option<u64>,
    quiet: bool,
    said_over: bool,
    said_unmanaged: bool,
}

impl OverBudget {
    pub(super) fn new(budget: Option<u64>, quiet: bool) -> OverBudget {
        OverBudget { budget, quiet, said_over: false, said_unmanaged: false }
    }

    /// Looks at a sample.
    pub(super) fn look(&mut self, sample: &Sample, managed: &[Managed]) {
        let Some(budget) = self.budget.filter(|_| !self.quiet) else { return };
        let parts = Parts::of(sample, managed, budget);
        if let Some((pid, bytes)) = parts.most_unmanaged
            && bytes > MUCH.max(budget / 4)
            && !self.said_unmanaged
        {
            self.said_unmanaged = true;
            say(format_args!("warning: {}", unmanaged_line(pid, bytes)));
        }
        if sample.anonymous > limit(budget) && !self.said_over {
            self.said_over = true;
            let (used, budget) = (human(sample.anonymous), human(budget));
            say(format_args!("warning: the tree uses {used}, its budget is {budget}: {}", parts.cause()));
        }
    }
}

/// What a tree's memory is, beside what its budget is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Parts {
    /// Forked children, and their bytes.
    forked: (usize, u64),
    /// Processes that are not connected, and their bytes.
    outside: (usize, u64),
    /// Bytes of connected processes that are not managed.
    unmanaged: u64,
    /// The process that has most of these, and how many.
    most_unmanaged: Option<(u32, u64)>,
    /// Managed bytes above the budget.
    held: u64,
}

impl Parts {
    fn of(sample: &Sample, managed: &[Managed], budget: u64) -> Parts {
        let mut parts = Parts::default();
        let mut all = 0;
        let process_of = |pid: u32| managed.iter().find(|process| process.pid == pid);
        for member in &sample.members {
            // The child of a process that slept at the fork is a copy of it, and does not join.
            let is_copy = || {
                let others = sample.members.iter().filter(|other| other.is_copy_of(member));
                others.filter_map(|other| process_of(other.pid)).next().is_some()
            };
            match process_of(member.pid) {
                None if is_copy() => {
                    parts.forked = (parts.forked.0 + 1, parts.forked.1 + member.anonymous);
                }
                None => parts.outside = (parts.outside.0 + 1, parts.outside.1 + member.anonymous),
                Some(process) if process.forked => {
                    parts.forked = (parts.forked.0 + 1, parts.forked.1 + member.anonymous);
                }
                Some(process) => {
                    let rest = member.anonymous.saturating_sub(process.bytes);
                    all += member.anonymous - rest;
                    parts.unmanaged += rest;
                    parts.most_unmanaged = parts.most_unmanaged.max_by_bytes((member.pid, rest));
                }
            }
        }
        parts.held = all.saturating_sub(budget);
        parts
    }

    /// The largest of them in words, and what mends it.
    fn cause(&self) -> String {
        let most = self.forked.1.max(self.outside.1).max(self.unmanaged).max(self.held);
        if most == self.forked.1 {
            let (count, bytes) = (self.forked.0, human(self.forked.1));
            return format!(
                "{count} forked children have {bytes} of it and move nothing out before they call exec; a larger -m, \
                 or fewer of them, would help"
            );
        }
        if most == self.outside.1 {
            let (count, bytes) = (self.outside.0, human(self.outside.1));
            return format!(
                "what runs outside the budget ({count}) has {bytes} of it; leave memory for it beside -m"
            );
        }
        if most == self.unmanaged {
            let bytes = human(self.unmanaged);
            return format!(
                "{bytes} of its programs' memory are not managed (stacks, .bss, brk, other mallocs); leave memory for it \
                 beside -m"
            );
        }
        let bytes = human(self.held);
        format!(
            "{bytes} above it can't be moved out (locked, read-only, or no store takes it); a larger -m, or a --swap-dir \
             with room, would help"
        )
    }
}

/// Keeps whoever has more.
trait MaxByBytes {
    fn max_by_bytes(self, other: (u32, u64)) -> Self;
}

impl MaxByBytes for Option<(u32, u64)> {
    fn max_by_bytes(self, other: (u32, u64)) -> Self {
        self.filter(|own| own.1 >= other.1).or(Some(other))
    }
}

/// The line about a process of whose memory much is not managed.
fn unmanaged_line(pid: u32, bytes: u64) -> String {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap_or_default();
    format!(
        "{} (process {pid}): of its memory {} are not managed, most of it {}; leave memory for it beside -m",
        sample::name(pid),
        human(bytes),
        largest_kind(&smaps, bytes)
    )
}

/// What most of `unmanaged` bytes are, by the text of smaps.
fn largest_kind(smaps: &str, unmanaged: u64) -> &'static str {
    let (mut brk, mut stack, mut data) = (0, 0, 0);
    let (mut kind, mut file_end) = ("", "");
    for line in smaps.lines() {
        if let Some(anonymous) = kib_after(line, "Anonymous:") {
            match kind {
                "[heap]" => brk += anonymous,
                "[stack]" => stack += anonymous,
                "file" => data += anonymous,
                _ => {}
            }
        } else if let Some((start, end, rights, name)) = header(line) {
            // What is shared is no part of a program: the ledger, which the kernel may put beside anything.
            let is_file = name.starts_with('/') && rights.ends_with('p');
            // What has no name and follows a file's last pages at once is its .bss.
            kind = if is_file || (name.is_empty() && start == file_end) { "file" } else { name };
            file_end = if is_file { end } else { "" };
        }
    }
    let rest = unmanaged.saturating_sub(brk + stack + data);
    [
        (brk, "its heap by brk (another malloc than ours, or the program itself)"),
        (stack, "its stack"),
        (data, "its .data and .bss"),
        (rest, "mapped by system calls of its own (another malloc, a sanitizer), or at addresses of its own"),
    ]
    .into_iter()
    .max_by_key(|(bytes, _)| *bytes)
    .map_or("", |(_, words)| words)
}

/// Start, end, rights and name of a mapping, if the line begins one.
fn header(line: &str) -> Option<(&str, &str, &str, &str)> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    start.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(())?;
    Some((start, end, words.next()?, words.nth(3).unwrap_or("")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::sample::Member;

    fn sample(members: &[(u32, u64)]) -> Sample {
        let members: Vec<Member> = members.iter().map(|(pid, mib)| Member::new(*pid, *mib * MIB)).collect();
        let anonymous = members.iter().map(|member| member.anonymous).sum();
        Sample { members, anonymous }
    }

    fn managed(pid: u32, forked: bool, mib: u64) -> Managed {
        Managed { pid, forked, bytes: mib * MIB }
    }

    #[test]
    fn the_largest_part_is_the_cause() {
        let cause =
            |members: &[(u32, u64)], all: &[Managed]| Parts::of(&sample(members), all, 100 * MIB).cause();
        let all = [managed(1, false, 90), managed(2, true, 80), managed(3, true, 80)];
        assert!(cause(&[(1, 95), (2, 80), (3, 80)], &all).starts_with("2 forked children have 160 MiB"));
        assert!(cause(&[(1, 95), (2, 8), (9, 80)], &all).starts_with("what runs outside the budget (1)"));
        assert!(cause(&[(1, 250)], &all).starts_with("160 MiB of its programs' memory"));
        assert!(cause(&[(1, 250)], &[managed(1, false, 250)]).starts_with("150 MiB above it"));
    }

    #[test]
    fn the_parts_are_those_of_each_process() {
        let members = sample(&[(1, 95), (2, 80), (3, 70), (8, 40), (9, 30)]);
        let all = [managed(1, false, 90), managed(2, true, 60), managed(3, false, 30)];
        let expected = Parts {
            forked: (1, 80 * MIB),
            outside: (2, 70 * MIB),
            unmanaged: 45 * MIB,
            most_unmanaged: Some((3, 40 * MIB)),
            held: 20 * MIB,
        };
        assert_eq!(Parts::of(&members, &all, 100 * MIB), expected);
        assert_eq!(Parts::of(&members, &all, 120 * MIB).held, 0);
    }

    #[test]
    fn who_has_most_keeps_it_where_another_has_as_much() {
        assert_eq!(None.max_by_bytes((1, 0)), Some((1, 0)));
        assert_eq!(Some((1, 5)).max_by_bytes((2, 4)), Some((1, 5)));
        assert_eq!(Some((1, 5)).max_by_bytes((2, 5)), Some((1, 5)));
        assert_eq!(Some((1, 5)).max_by_bytes((2, 6)), Some((2, 6)));
    }

    /// What was said after one look at a tree with this budget and `bytes` more than so many MiB: of the tree, of a process.
    fn said(budget: Option<u64>, quiet: bool, process: (u64, u64), own: u64) -> (bool, bool) {
        let (mib, bytes) = process;
        let anonymous = mib * MIB + bytes;
        let sample = Sample { members: vec![Member::new(1, anonymous)], anonymous };
        let mut over = OverBudget::new(budget.map(|mib| mib * MIB), quiet);
        over.look(&sample, &[managed(1, false, own)]);
        (over.said_over, over.said_unmanaged)
    }

    #[test]
    fn the_tree_is_cried_about_above_its_limit_only() {
        // 100 + 10 + 24.
        assert_eq!(said(Some(100), false, (134, 0), 134), (false, false));
        assert_eq!(said(Some(100), false, (134, 1), 134), (true, false));
        assert_eq!(said(Some(100), true, (900, 0), 900), (false, false), "quiet");
        assert_eq!(said(None, false, (900, 0), 900), (false, false), "no budget");
    }

    #[test]
    fn unmanaged_memory_is_cried_about_from_a_quarter_of_the_budget() {
        assert_eq!(said(Some(100), false, (70, 0), 6), (false, false), "64 MiB are not much");
        assert_eq!(said(Some(100), false, (70, 1), 6), (false, true));
        assert_eq!(said(Some(1000), false, (250, 0), 0), (false, false));
        assert_eq!(said(Some(1000), false, (250, 1), 0), (false, true));
    }

    #[test]
    fn what_is_largest_is_told_with_its_mend() {
        let parts =
            Parts { forked: (2, 5 * MIB), outside: (3, 4 * MIB), unmanaged: 3 * MIB, ..Parts::default() };
        assert_eq!(
            parts.cause(),
            "2 forked children have 5 MiB of it and move nothing out before they call exec; a larger -m, or fewer of \
             them, would help"
        );
        let parts = Parts { outside: (3, 6 * MIB), ..parts };
        let outside = "what runs outside the budget (3) has 6 MiB of it; leave memory for it beside -m";
        assert_eq!(parts.cause(), outside);
        let parts = Parts { unmanaged: 7 * MIB, ..parts };
        let unmanaged = "7 MiB of its programs' memory are not managed (stacks, .bss, brk, other mallocs); leave \
                         memory for it beside -m";
        assert_eq!(parts.cause(), unmanaged);
        let parts = Parts { held: 8 * MIB, ..parts };
        let held = "8 MiB above it can't be moved out (locked, read-only, or no store takes it); a larger -m, or a \
                    --swap-dir with room, would help";
        assert_eq!(parts.cause(), held);
    }

    #[test]
    fn a_line_of_smaps_that_begins_a_mapping_is_told_from_others() {
        let named = "55aa-55bb rw-p 00000000 08:01 17      /usr/bin/tool";
        assert_eq!(header(named), Some(("55aa", "55bb", "rw-p", "/usr/bin/tool")));
        assert_eq!(header("55aa-55bb rw-p 00000000 00:00 0"), Some(("55aa", "55bb", "rw-p", "")));
        assert_eq!(header("Anonymous:          12 kB"), None);
        assert_eq!(header("Some-thing: 3 kB"), None);
        assert_eq!(header(""), None);
    }

    #[test]
    fn small_budgets_are_not_cried_about() {
        assert_eq!(limit(16 * MIB), 16 * MIB + 16 * MIB / 10 + MARGIN);
        assert_eq!(limit(u64::MAX), u64::MAX);
    }

    #[test]
    fn the_largest_kind_is_found_in_smaps() {
        let smaps = "\
55aa0000-55bb0000 rw-p 00000000 08:01 17      /usr/bin/tool
Anonymous:          12 kB
55bb0000-56bb0000 rw-p 00000000 00:00 0
Anonymous:        9000 kB
56bb1000-57bb0000 rw-p 00000000 00:00 0       [heap]
Anonymous:        1000 kB
7fbb1000-7fbc0000 rw-p 00000000 00:00 0
Anonymous:        7000 kB
";
        assert_eq!(largest_kind(smaps, 11 * MIB), "its .data and .bss");
        assert!(largest_kind(smaps, 40 * MIB).starts_with("mapped by system calls"));
        assert!(largest_kind(&smaps.replace("1000 kB", "99000 kB"), 100 * MIB).starts_with("its heap"));
        let stack = smaps.replace("[heap]", "[stack]").replace("1000 kB", "99000 kB");
        assert_eq!(largest_kind(&stack, 100 * MIB), "its stack");
        // What lies behind a shared file is no .bss.
        let shared = smaps.replace("rw-p 00000000 08:01", "rw-s 00000000 08:01");
        assert!(largest_kind(&shared, 11 * MIB).starts_with("mapped by system calls"));
        // What has no name and a gap before it is none either.
        let apart = smaps.replace("55bb0000-56bb0000", "55bb1000-56bb0000");
        assert!(largest_kind(&apart, 11 * MIB).starts_with("mapped by system calls"));
    }
}
