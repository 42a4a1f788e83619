//! The budget where none was asked for: the limit of the cgroup, less a margin.

use crate::size::MIB;
use std::fs;
use std::path::{Path, PathBuf};

/// What the kernel charges beside the program's anonymous memory: page tables, stacks, file pages.
const MARGIN: u64 = 32 * MIB;
/// The least budget worth having.
const LEAST: u64 = 16 * MIB;

/// The budget in bytes that this process's cgroup leaves; `None` when nothing limits it.
pub(crate) fn of_cgroup() -> Option<u64> {
    cgroup()?.budget()
}

/// What the cgroups of this process say of memory.
pub(crate) struct Cgroup {
    /// The least limit among the cgroup and those above it, in bytes. The kernel writes a number where there is none.
    pub(crate) limit: Option<u64>,
    /// The versions of cgroups that may limit memory here: 1, 2 or both.
    pub(crate) versions: Vec<u32>,
}

impl Cgroup {
    /// The budget in bytes that it leaves; `None` when nothing limits it.
    pub(crate) fn budget(&self) -> Option<u64> {
        budget(self.limit?, machine_memory())
    }
}

/// `None` where the kernel tells nothing of cgroups.
pub(crate) fn cgroup() -> Option<Cgroup> {
    let cgroups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let limit = limit(&cgroups, &mounts, |file| fs::read_to_string(file).ok());
    let mut versions: Vec<u32> =
        hierarchies(&mounts).map(|hierarchy| if hierarchy.controllers.is_empty() { 2 } else { 1 }).collect();
    versions.sort_unstable();
    versions.dedup();
    Some(Cgroup { limit, versions })
}

/// The budget inside a limit; none for one beyond the machine's memory, which limits nothing.
fn budget(limit: u64, machine: u64) -> Option<u64> {
    (limit < machine).then(|| (limit - limit / 10).saturating_sub(MARGIN).max(LEAST))
}

/// The machine's memory in bytes; as if endless when the kernel doesn't say.
pub(crate) fn machine_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    super::sample::kib_after(&text, "MemTotal:").unwrap_or(u64::MAX)
}

/// The least limit among the cgroup and those above it, in bytes. The arguments are the contents of
/// `/proc/self/cgroup` and
/// `/proc/self/mountinfo`, and how to read a file.
fn limit(cgroups: &str, mounts: &str, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    hierarchies(mounts)
        .filter_map(|hierarchy| {
            let path = cgroups.lines().find_map(|line| hierarchy.path_in(line))?;
            let directory = hierarchy.mount.join(path.strip_prefix(&hierarchy.root).unwrap_or("".as_ref()));
            directory
                .ancestors()
                .take_while(|ancestor| ancestor.starts_with(&hierarchy.mount))
                .filter_map(|ancestor| read(&ancestor.join(hierarchy.file)))
                .filter_map(|text| text.trim().parse::<u64>().ok())
                .min()
        })
        .min()
}

/// A mounted hierarchy of cgroups that may limit memory.
struct Hierarchy {
    mount: PathBuf,
    /// The cgroup that is mounted there, without the leading slash.
    root: PathBuf,
    /// The file with the limit.
    file: &'static str,
    /// The controllers field of its line in `/proc/self/cgroup`.
    controllers: &'static str,
}

impl Hierarchy {
    /// The cgroup's path, without the leading slash, if `line` is about this hierarchy.
    fn path_in(&self, line: &str) -> Option<PathBuf> {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let mine = match self.controllers {
            "" => controllers.is_empty(),
            name => controllers.split(',').any(|controller| controller == name),
        };
        mine.then(|| PathBuf::from(path.trim_start_matches('/')))
    }
}

/// The hierarchies in a mountinfo text.
fn hierarchies(mounts: &str) -> impl Iterator<Item = Hierarchy> {
    mounts.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, mount) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let (kind, options) = (after.next()?, after.nth(1)?);
        let (file, controllers) = match kind {
            "cgroup" if options.split(',').any(|option| option == "memory") => {
                ("memory.limit_in_bytes", "memory")
            }
            "cgroup2" => ("memory.max", ""),
            _ => return None,
        };
        Some(Hierarchy { mount: mount.into(), root: root.trim_start_matches('/').into(), file, controllers })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    const MOUNTS: &str = "\
31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
32 30 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
34 30 0:30 / /tmp rw - tmpfs tmpfs rw
";

    fn limit_with(cgroups: &str, mounts: &str, files: &[(&str, &str)]) -> Option<u64> {
        let files: HashMap<&str, &str> = files.iter().copied().collect();
        limit(cgroups, mounts, |path| files.get(path.to_str()?).map(ToString::to_string))
    }

    #[test]
    fn the_least_limit_on_the_way_up_counts() {
        let cgroups = "8:memory:/job/inner\n0::/job/inner\n";
        let files = [
            ("/sys/fs/cgroup/memory/job/inner/memory.limit_in_bytes", "9223372036854771712\n"),
            ("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "300000000\n"),
            ("/sys/fs/cgroup/unified/job/memory.max", "max\n"),
        ];
        assert_eq!(limit_with(cgroups, MOUNTS, &files), Some(300_000_000));
        let files = [("/sys/fs/cgroup/unified/job/inner/memory.max", "500\n")];
        assert_eq!(limit_with(cgroups, MOUNTS, &files), Some(500));
        assert_eq!(limit_with(cgroups, MOUNTS, &[]), None);
    }

    #[test]
    fn a_budget_leaves_room_in_its_limit() {
        assert_eq!(budget(1000 * MIB, 1001 * MIB), Some((1000 - 100 - 32) * MIB));
        assert_eq!(budget(40 * MIB, 1001 * MIB), Some(16 * MIB));
        assert_eq!(budget(1001 * MIB, 1001 * MIB), None);
    }

    #[test]
    fn only_mounts_of_the_memory_controller_count() {
        let cgroups = "5:cpu,cpuacct:/a\n8:hugetlb,memory:/b\n0::/c\n";
        let at = |path: &str| limit_with(cgroups, MOUNTS, &[(path, "77\n")]);
        assert_eq!(at("/sys/fs/cgroup/memory/b/memory.limit_in_bytes"), Some(77));
        assert_eq!(at("/sys/fs/cgroup/unified/c/memory.max"), Some(77));
        for elsewhere in ["/sys/fs/cgroup/memory/a", "/sys/fs/cgroup/memory/c", "/sys/fs/cgroup/cpu/a"] {
            assert_eq!(at(&format!("{elsewhere}/memory.limit_in_bytes")), None, "{elsewhere}");
        }
        assert_eq!(at("/sys/fs/cgroup/unified/b/memory.max"), None);
        assert_eq!(at("/sys/fs/cgroup/memory.limit_in_bytes"), None, "above the mount");
    }

    #[test]
    fn a_container_that_sees_only_its_own_cgroup() {
        let mounts = "5 4 0:1 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        let files = [("/sys/fs/cgroup/memory.max", "1000\n")];
        assert_eq!(limit_with("0::/docker/abc\n", mounts, &files), Some(1000));
        assert_eq!(limit_with("0::/\n", mounts, &files), Some(1000));
    }
}
