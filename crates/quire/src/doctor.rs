//! The checks of `quire doctor`: each says what it tried, what it saw, and the one command that mends what is wrong.
//! `quire run` asks [`quire_linux::probe`] for what must be there; what else a user may trip over is looked at here.

use crate::run::budget::{self, Cgroup};
use crate::run::library::Library;
use crate::run::spill::{self, Spill};
use crate::size::human;
use quire_linux::libc_sites::{Mismatch, Sites, file};
use quire_linux::probe::{Capabilities, Mend, Right, Thp, probe};
use quire_linux::sys::rlimit::{self, UNLIMITED};
use rustix::process::Resource;
use serde::Serialize;
use std::env;
use std::fs;

/// What came of a check.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// Nothing to mend.
    Good,
    /// Programs run, but something is slower or fails earlier than it has to.
    CouldBeBetter,
    /// Programs can't be run until it is mended.
    MustBeMended,
}

/// One check.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Finding {
    /// What it is about.
    pub(crate) name: &'static str,
    /// How it was looked for.
    pub(crate) tried: String,
    /// What was there.
    pub(crate) saw: String,
    pub(crate) verdict: Verdict,
    /// What is wrong with that.
    pub(crate) why: Option<String>,
    /// The command that mends it, or what to do where no command does.
    pub(crate) mend: Option<String>,
}

impl Finding {
    fn good(name: &'static str, tried: impl Into<String>, saw: impl Into<String>) -> Finding {
        let (tried, saw) = (tried.into(), saw.into());
        Finding { name, tried, saw, verdict: Verdict::Good, why: None, mend: None }
    }

    fn unless(self, mend: Option<Mend>) -> Finding {
        let Some(mend) = mend else { return self };
        let verdict = if mend.fatal { Verdict::MustBeMended } else { Verdict::CouldBeBetter };
        Finding { verdict, why: Some(mend.cause.into()), mend: Some(mend.command.into()), ..self }
    }

    fn better_if(self, wrong: bool, why: &str, mend: &str) -> Finding {
        if !wrong {
            return self;
        }
        Finding { verdict: Verdict::CouldBeBetter, why: Some(why.into()), mend: Some(mend.into()), ..self }
    }
}

/// Looks at everything. Nothing stays behind.
pub(crate) fn examine() -> Vec<Finding> {
    let (machine, around) = (probe(), budget::cgroup());
    let budget = around.as_ref().and_then(Cgroup::budget);
    vec![
        kernel(&machine),
        userfaultfd(&machine),
        moving(&machine),
        tracking(&machine),
        filter(&machine),
        real_time(&machine),
        huge_pages(&machine),
        overcommit(&machine),
        mappings(&machine),
        address_space(&machine),
        data(rlimit::get(Resource::Data).soft),
        locked(rlimit::get(Resource::Memlock).soft),
        files(rlimit::get(Resource::Nofile).hard),
        cgroup(around, budget),
        preloads(
            &env::var("LD_PRELOAD").unwrap_or_default(),
            &fs::read_to_string("/etc/ld.so.preload").unwrap_or_default(),
        ),
        libc(),
        library(),
        spill_directory(),
    ]
}

/// What older kernels lack: the version from which on they have it, and what Quire does without it.
const LACKS: [((u32, u32), &str); 2] = [
    ((6, 8), "it can't move pages (UFFDIO_MOVE), without which Quire can't run"),
    (
        (6, 13),
        "it gives back pages one by one (no process_madvise on the caller's own memory), which is slower",
    ),
];

fn kernel(machine: &Capabilities) -> Finding {
    let (major, minor) = machine.kernel;
    let found = Finding::good("kernel", "uname", format!("Linux {major}.{minor}"));
    let lacks: Vec<&str> =
        LACKS.iter().filter(|(since, _)| machine.kernel < *since).map(|(_, what)| *what).collect();
    if lacks.is_empty() {
        return found;
    }
    let verdict = if machine.can_move { Verdict::CouldBeBetter } else { Verdict::MustBeMended };
    Finding { verdict, why: Some(lacks.join("; ")), mend: Some("boot Linux 6.13 or newer".into()), ..found }
}

/// The libc of this process, which is that of most programs here: whether its calls on memory can be hooked.
fn libc() -> Finding {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let is_libc = |path: &&str| path.contains("/libc.so.6") || path.contains("/libc-2.");
    let Some(path) = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(is_libc) else {
        return Finding::good("libc", "/proc/self/maps", "none: this quire has one built in");
    };
    text_of_libc(path, &fs::read(path).unwrap_or_default())
}

fn text_of_libc(path: &str, file: &[u8]) -> Finding {
    const TRIED: &str = "the text of the libc in /proc/self/maps";
    let found =
        file::of(file).ok_or(Mismatch::NoSymbols).and_then(|(image, symbols)| Sites::find(&image, &symbols));
    let version = version_of(file).unwrap_or("of an unknown version");
    match found {
        Ok(sites) => {
            let saw = format!("glibc {version}, {path}: {} places to hook", sites.all().len());
            Finding::good("libc", TRIED, saw)
        }
        Err(mismatch) => Finding {
            verdict: Verdict::MustBeMended,
            why: Some(format!("programs run unmanaged: {mismatch}")),
            mend: Some("use a glibc of a release that Quire knows (2.31 to 2.43), or report this one".into()),
            ..Finding::good("libc", TRIED, format!("glibc {version}, {path}"))
        },
    }
}

/// What glibc says of itself in its text.
fn version_of(file: &[u8]) -> Option<&str> {
    const BEFORE: &[u8] = b" release version ";
    let at = file.windows(BEFORE.len()).position(|bytes| bytes == BEFORE)? + BEFORE.len();
    let rest = &file[at..];
    let len = rest.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.')?;
    core::str::from_utf8(&rest[..len]).ok().map(|version| version.trim_end_matches('.'))
}

fn userfaultfd(machine: &Capabilities) -> Finding {
    let saw = match machine.uffd {
        Ok(Right::Root) => "allowed, as root".into(),
        Ok(Right::Capability) => "allowed, by CAP_SYS_PTRACE".into(),
        Ok(Right::Sysctl) => "allowed, by vm.unprivileged_userfaultfd=1".into(),
        Ok(Right::Device) => "allowed, by /dev/userfaultfd".into(),
        Err(denial) => format!("refused: {denial:?}"),
    };
    Finding::good("userfaultfd", "userfaultfd(2), else /dev/userfaultfd", saw).unless(machine.mend_uffd())
}

fn moving(machine: &Capabilities) -> Finding {
    Finding::good("moving pages", "UFFDIO_API, UFFD_FEATURE_MOVE", yes(machine.can_move))
        .unless(machine.mend_move())
}

fn tracking(machine: &Capabilities) -> Finding {
    Finding::good("tracking writes", "UFFDIO_API, UFFD_FEATURE_WP_ASYNC", yes(machine.write_tracking))
}

fn filter(machine: &Capabilities) -> Finding {
    let saw = match (machine.filter, machine.uffd.is_ok()) {
        (false, _) => "none",
        (true, true) => "there is one, and it lets userfaultfd through",
        (true, false) => "there is one",
    };
    Finding::good("seccomp filter", "Seccomp in /proc/self/status", saw)
}

fn real_time(machine: &Capabilities) -> Finding {
    let saw = if machine.fifo { "allowed" } else { "refused" };
    Finding::good("real-time handler", "sched_setscheduler, SCHED_FIFO", saw).unless(machine.mend_fifo())
}

fn huge_pages(machine: &Capabilities) -> Finding {
    let saw = match machine.thp {
        Thp::Always => "always",
        Thp::Madvise => "madvise",
        Thp::Never => "never",
        Thp::Unknown => "the kernel does not say",
    };
    Finding::good("2M pages", "/sys/kernel/mm/transparent_hugepage/enabled", saw)
}

fn overcommit(machine: &Capabilities) -> Finding {
    let saw = format!("mode {}", machine.overcommit);
    Finding::good("overcommit", "/proc/sys/vm/overcommit_memory", saw).unless(machine.mend_overcommit())
}

fn mappings(machine: &Capabilities) -> Finding {
    let saw = format!("{} for a process", machine.max_vmas);
    Finding::good("mappings", "/proc/sys/vm/max_map_count", saw).unless(machine.mend_vmas())
}

fn address_space(machine: &Capabilities) -> Finding {
    let saw = machine.address_space.map_or("unlimited, or can be raised".into(), human);
    Finding::good("address space", "RLIMIT_AS, and whether it can be raised", saw)
        .unless(machine.mend_address_space())
}

fn limited(value: u64) -> String {
    if value == UNLIMITED { "unlimited".into() } else { human(value) }
}

fn data(soft: u64) -> Finding {
    Finding::good("data", "RLIMIT_DATA", limited(soft))
}

fn locked(soft: u64) -> Finding {
    Finding::good("locked memory", "RLIMIT_MEMLOCK", limited(soft))
}

/// Descriptors of `quire` for each process of the tree, and those that it has anyway.
const FILES_OF_A_PROCESS: u64 = 4;
const FEWEST_PROCESSES: u64 = 200;

fn files(hard: u64) -> Finding {
    let saw = if hard == UNLIMITED { "unlimited".into() } else { format!("{hard} for quire") };
    Finding::good("open files", "RLIMIT_NOFILE", saw).better_if(
        hard < FILES_OF_A_PROCESS * FEWEST_PROCESSES,
        "quire has some descriptors open for each process: trees of more than some hundred run out of them",
        "ulimit -Hn 4096 (as root)",
    )
}

fn cgroup(found: Option<Cgroup>, budget: Option<u64>) -> Finding {
    const TRIED: &str = "/proc/self/cgroup, and the limits on the way up";
    let Some(found) = found else { return Finding::good("cgroup", TRIED, "the kernel tells nothing") };
    let versions: Vec<String> = found.versions.iter().map(|version| format!("v{version}")).collect();
    let versions = if versions.is_empty() { "none with memory".into() } else { versions.join(" and ") };
    let saw = match (found.limit, budget) {
        (Some(limit), Some(budget)) => {
            format!("{versions}, limit {}: -m {} by default", human(limit), human(budget))
        }
        _ => format!("{versions}, no limit: without -m nothing is evicted"),
    };
    Finding::good("cgroup", TRIED, saw)
}

fn preloads(variable: &str, file: &str) -> Finding {
    let words = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let words = lines.flat_map(|line| line.split([' ', ':']));
        words.filter(|word| !word.is_empty()).map(String::from).collect::<Vec<_>>()
    };
    let (named, always) = (words(variable), words(file));
    let all = [named, always].concat();
    let saw = if all.is_empty() { "none".into() } else { all.join(", ") };
    let allocates = ["alloc", "asan", "heaptrack"];
    let wrong = all.iter().any(|library| allocates.iter().any(|name| library.contains(name)));
    Finding::good("other preloads", "LD_PRELOAD, /etc/ld.so.preload", saw).better_if(
        wrong,
        "a library that brings a malloc comes behind Quire's, which then answers instead",
        "unset LD_PRELOAD",
    )
}

fn library() -> Finding {
    const TRIED: &str = "laying the preload library into a cache, $TMPDIR, /tmp ..";
    match Library::place() {
        Ok(placed) => {
            let directory = placed.path().parent().and_then(|path| path.parent()).unwrap_or(placed.path());
            Finding::good("preload library", TRIED, directory.display().to_string())
        }
        Err(failure) => Finding {
            verdict: Verdict::MustBeMended,
            why: Some(failure.message),
            mend: Some("export TMPDIR=DIRECTORY, one that is not mounted noexec".into()),
            ..Finding::good("preload library", TRIED, "no place")
        },
    }
}

/// Below so many free bytes a spill directory is soon full.
const LITTLE_ROOM: u64 = 1 << 30;

fn spill_directory() -> Finding {
    const TRIED: &str = "a file for direct I/O in $TMPDIR, /var/tmp";
    const WHERE: &str = "quire run --swap-dir DIRECTORY, one on a disk";
    match Spill::choose(None, false) {
        Ok(Spill::To(directory)) => {
            let (kind, free) = spill::room(&directory).unwrap_or(("unknown".into(), 0));
            let saw = format!("{}: {kind}, {} free", directory.display(), human(free));
            Finding::good("spill directory", TRIED, saw).better_if(
                free < LITTLE_ROOM,
                "there is little room for what memory does not take",
                WHERE,
            )
        }
        Ok(Spill::Nowhere(why)) => {
            Finding::good("spill directory", TRIED, "none").better_if(true, &why, WHERE)
        }
        Err(failure) => {
            Finding::good("spill directory", TRIED, "none").better_if(true, &failure.message, WHERE)
        }
    }
}

fn yes(answer: bool) -> String {
    if answer { "yes" } else { "no" }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_linux::probe::Denial;

    fn machine() -> Capabilities {
        Capabilities {
            uffd: Ok(Right::Device),
            can_move: true,
            write_tracking: true,
            kernel: (6, 18),
            thp: Thp::Madvise,
            fifo: true,
            address_space: None,
            overcommit: 0,
            max_vmas: 65530,
            filter: false,
        }
    }

    #[test]
    fn each_check_is_documented_and_says_what_it_tried() {
        let manual = include_str!("../../../docs/doctor.md");
        for finding in examine() {
            assert!(
                manual.contains(&format!("`{}`", finding.name)),
                "docs/doctor.md says nothing of {}",
                finding.name
            );
            assert!(!finding.tried.is_empty() && !finding.saw.is_empty(), "{finding:?}");
            let is_good = finding.verdict == Verdict::Good;
            assert_eq!((finding.why.is_none(), finding.mend.is_none()), (is_good, is_good), "{finding:?}");
        }
    }

    #[test]
    fn a_libc_that_is_not_known_is_named() {
        let found = libc();
        assert_eq!(found.verdict, Verdict::Good, "{found:?}");
        let path = found.saw.split([' ', ':']).find(|word| word.starts_with('/')).unwrap();
        let mut file = fs::read(path).unwrap();
        assert!(found.saw.starts_with(&format!("glibc {}, ", version_of(&file).unwrap())));
        // munmap's number, and its call.
        let at = file.windows(7).position(|bytes| bytes == b"\xb8\x0b\0\0\0\x0f\x05").unwrap();
        file[at] ^= 1;
        let found = text_of_libc(path, &file);
        assert_eq!(found.verdict, Verdict::MustBeMended);
        assert_eq!(found.why.as_deref(), Some("programs run unmanaged: munmap is not as expected"));
    }

    #[test]
    fn a_refusal_names_its_mend() {
        let found = userfaultfd(&Capabilities { uffd: Err(Denial::NoDevice), can_move: false, ..machine() });
        assert_eq!((found.verdict, found.saw.as_str()), (Verdict::MustBeMended, "refused: NoDevice"));
        assert!(found.mend.unwrap().contains("vm.unprivileged_userfaultfd=1"));
        let found = real_time(&Capabilities { fifo: false, ..machine() });
        assert_eq!((found.verdict, found.saw.as_str()), (Verdict::CouldBeBetter, "refused"));
    }

    #[test]
    fn a_filter_is_told_from_a_kernel_without_the_call() {
        let filtered =
            Capabilities { uffd: Err(Denial::Filtered), can_move: false, filter: true, ..machine() };
        assert!(userfaultfd(&filtered).why.unwrap().contains("seccomp filter"));
        assert_eq!(filter(&filtered).saw, "there is one");
        let old = Capabilities { uffd: Err(Denial::NotBuilt), can_move: false, ..machine() };
        assert!(userfaultfd(&old).why.unwrap().contains("this kernel has no userfaultfd"));
        assert_eq!(filter(&old).saw, "none");
        assert_eq!(filter(&Capabilities { filter: true, ..machine() }).verdict, Verdict::Good);
    }

    #[test]
    fn an_older_kernel_is_told_with_what_it_lacks() {
        assert_eq!(kernel(&machine()), Finding::good("kernel", "uname", "Linux 6.18"));
        let older = kernel(&Capabilities { kernel: (6, 10), ..machine() });
        assert_eq!(older.verdict, Verdict::CouldBeBetter);
        assert!(older.why.is_some_and(|why| why.contains("process_madvise") && !why.contains("UFFDIO_MOVE")));
        let oldest = kernel(&Capabilities { kernel: (6, 7), can_move: false, ..machine() });
        assert_eq!(oldest.verdict, Verdict::MustBeMended);
        assert!(oldest.why.is_some_and(|why| why.contains("process_madvise") && why.contains("UFFDIO_MOVE")));
    }

    #[test]
    fn limits_are_told_and_few_files_could_be_more() {
        assert_eq!(data(UNLIMITED).saw, "unlimited");
        assert_eq!(locked(64 << 10).saw, "64 KiB");
        assert_eq!(files(800).verdict, Verdict::Good);
        assert_eq!(files(799).verdict, Verdict::CouldBeBetter);
    }

    #[test]
    fn the_cgroup_is_told_with_the_budget_that_follows() {
        let found = |limit, versions: &[u32]| Some(Cgroup { limit, versions: versions.to_vec() });
        assert_eq!(
            cgroup(found(Some(1 << 30), &[2]), Some(889 << 20)).saw,
            "v2, limit 1 GiB: -m 889 MiB by default"
        );
        let none = "v1 and v2, no limit: without -m nothing is evicted";
        assert_eq!(cgroup(found(Some(u64::MAX >> 1), &[1, 2]), None).saw, none);
        assert_eq!(cgroup(None, None).saw, "the kernel tells nothing");
    }

    #[test]
    fn other_preloads_are_named() {
        assert_eq!(preloads("", "").saw, "none");
        let several = preloads("/lib/libeatmydata.so:/lib/libjemalloc.so.2", "# a comment\n");
        assert_eq!(several.verdict, Verdict::CouldBeBetter);
        assert_eq!(several.saw, "/lib/libeatmydata.so, /lib/libjemalloc.so.2");
        assert_eq!(preloads("/lib/libeatmydata.so", "").verdict, Verdict::Good);
    }
}
