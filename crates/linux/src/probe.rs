//! What this machine allows, and the command that mends what it refuses.
//!
//! [`probe`] asks by trying, not by guessing from versions. It prints nothing, allocates nothing and leaves
//! nothing behind; it may run before `main`.

use crate::sys::uffd::{self, Uffd, Way};
use crate::sys::{Errno, rlimit, sched};
use core::fmt;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, getrlimit};

/// By what right this process gets a userfaultfd that sees the kernel's own faults.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Right {
    /// It is root, with every capability.
    Root,
    /// It has `CAP_SYS_PTRACE`.
    Capability,
    /// `vm.unprivileged_userfaultfd` is 1.
    Sysctl,
    /// It may open `/dev/userfaultfd`.
    Device,
}

/// Why there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Denial {
    /// The kernel was built without userfaultfd.
    NotBuilt,
    /// No right to it, and `/dev/userfaultfd` is not there: as in a container.
    NoDevice,
    /// No right to it, and `/dev/userfaultfd` is there but may not be opened.
    DeviceRefused,
    /// A seccomp filter refuses it.
    Filtered,
    /// Another error.
    Other(Errno),
}

/// When the kernel uses 2 MiB pages by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Thp {
    /// Everywhere.
    Always,
    /// Where a program asks for them.
    Madvise,
    /// Nowhere.
    Never,
    /// It has none, or doesn't say.
    Unknown,
}

/// What a machine allows to this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capabilities {
    /// Userfaultfd for faults in kernel mode.
    pub uffd: Result<Right, Denial>,
    /// Whether pages can be moved; `false` too where there is no userfaultfd to ask.
    pub can_move: bool,
    /// Whether writes can be tracked without messages.
    pub write_tracking: bool,
    /// Major and minor version of the kernel.
    pub kernel: (u32, u32),
    /// The kernel's own use of 2 MiB pages.
    pub thp: Thp,
    /// The handler's thread may run before all others.
    pub fifo: bool,
    /// The limit of address space in bytes (`ulimit -v`), where there is one that this process can't raise.
    pub address_space: Option<u64>,
    /// The overcommit mode; 2 charges reserved memory as if it were used.
    pub overcommit: u32,
    /// How many VMAs a process may have.
    pub max_vmas: u32,
    /// This process has a seccomp filter, whatever that refuses.
    pub filter: bool,
}

/// What stands in the way, or makes it slower, and what to do about it. Prints as one line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mend {
    /// What is wrong.
    pub cause: &'static str,
    /// The command that mends it, or what to do where no command does.
    pub command: &'static str,
    /// Whether Quire can't manage memory until it is mended.
    pub fatal: bool,
}

impl fmt::Display for Mend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; mend: {}", self.cause, self.command)
    }
}

/// The least address space that is worth starting in, in bytes: arena, pool and store.
const LEAST_ADDRESS_SPACE: u64 = 1 << 38;
/// The number of VMAs below which a program that protects single pages may run out of them.
const FEW_VMAS: u32 = 65530;

impl Capabilities {
    /// Whether memory can be managed at all.
    pub fn suffices(&self) -> bool {
        !self.mends().any(|mend| mend.fatal)
    }

    /// What to mend, the gravest first.
    pub fn mends(&self) -> impl Iterator<Item = Mend> {
        [
            self.mend_uffd(),
            self.mend_move(),
            self.mend_address_space(),
            self.mend_overcommit(),
            self.mend_vmas(),
            self.mend_fifo(),
        ]
        .into_iter()
        .flatten()
    }

    /// What keeps it from a userfaultfd.
    pub fn mend_uffd(&self) -> Option<Mend> {
        let (cause, command) = match self.uffd.err()? {
            Denial::Filtered => (
                "a seccomp filter refuses userfaultfd",
                "open /dev/userfaultfd to it (docker, podman: --device /dev/userfaultfd), or allow userfaultfd in the filter",
            ),
            Denial::NotBuilt => {
                ("this kernel has no userfaultfd", "boot a kernel with CONFIG_USERFAULTFD=y, 6.8 or newer")
            }
            // The sysctl gives a right, and the filter refuses the call all the same.
            Denial::NoDevice if self.filter => (
                "userfaultfd is refused (EPERM) and there is no /dev/userfaultfd",
                "open /dev/userfaultfd to the container (docker, podman: --device /dev/userfaultfd)",
            ),
            Denial::NoDevice => (
                "userfaultfd is refused (EPERM) and there is no /dev/userfaultfd",
                "sudo sysctl vm.unprivileged_userfaultfd=1 (in a container: --device /dev/userfaultfd)",
            ),
            Denial::DeviceRefused => (
                "userfaultfd is refused (EPERM) and /dev/userfaultfd may not be opened by this user",
                "sudo setfacl -m u:$USER:rw /dev/userfaultfd, or sudo sysctl vm.unprivileged_userfaultfd=1",
            ),
            Denial::Other(_) => (
                "userfaultfd fails with an unexpected error",
                "see which: strace -e userfaultfd,openat quire doctor",
            ),
        };
        Some(Mend { cause, command, fatal: true })
    }

    /// What keeps it from moving pages.
    pub fn mend_move(&self) -> Option<Mend> {
        (self.uffd.is_ok() && !self.can_move).then_some(Mend {
            cause: "this kernel's userfaultfd can't move pages (UFFDIO_MOVE)",
            command: "boot Linux 6.8 or newer",
            fatal: true,
        })
    }

    /// What is too little address space.
    pub fn mend_address_space(&self) -> Option<Mend> {
        (self.address_space? < LEAST_ADDRESS_SPACE).then_some(Mend {
            cause: "the limit of address space is below 256 GiB and can't be raised: programs run unmanaged",
            command: "ulimit -v unlimited",
            fatal: false,
        })
    }

    /// What is wrong with how memory is overcommitted.
    pub fn mend_overcommit(&self) -> Option<Mend> {
        (self.overcommit == 2).then_some(Mend {
            cause: "vm.overcommit_memory is 2: the kernel charges Quire's frames and store beside the program's memory",
            command: "sudo sysctl vm.overcommit_memory=0, or raise vm.overcommit_ratio",
            fatal: false,
        })
    }

    /// What are too few VMAs.
    pub fn mend_vmas(&self) -> Option<Mend> {
        (self.max_vmas < FEW_VMAS).then_some(Mend {
            cause: "vm.max_map_count is below its default: programs with many mappings may fail",
            command: "sudo sysctl vm.max_map_count=65530",
            fatal: false,
        })
    }

    /// What keeps the fault handler from running first.
    pub fn mend_fifo(&self) -> Option<Mend> {
        (!self.fifo).then_some(Mend {
            cause: "the fault handler may not run with real-time priority: faults wait for other threads",
            command: "ulimit -r 1 (as root), or give CAP_SYS_NICE",
            fatal: false,
        })
    }
}

/// Whether a userfaultfd that offers `features` has `feature`.
const fn has(features: u64, feature: u64) -> bool {
    features & feature != 0
}

/// Asks the machine.
pub fn probe() -> Capabilities {
    let (uffd, features) = ask_uffd();
    let may_raise = rlimit::may_raise();
    Capabilities {
        uffd,
        can_move: has(features, uffd::FEATURE_MOVE),
        write_tracking: has(features, uffd::FEATURE_WP_ASYNC),
        kernel: kernel_version(),
        thp: thp(),
        // By trying: it depends on a limit, a capability, and whether the control group has real-time.
        fifo: sched::can_fifo(),
        address_space: getrlimit(Resource::As).maximum.filter(|_| !may_raise),
        overcommit: number_in(c"/proc/sys/vm/overcommit_memory").unwrap_or(0),
        max_vmas: number_in(c"/proc/sys/vm/max_map_count").unwrap_or(FEW_VMAS),
        filter: has_filter(),
    }
}

/// Whether a seccomp filter, not a lack of rights or of the kernel's, is why this process was refused something by `errno`:
/// it has a filter; and a kernel on which `quire` runs has what is needed, or the process has the right to trace, which is
/// all that userfaultfd asks for.
pub fn is_filtered(errno: Errno) -> bool {
    let mut text = [0u8; 4096];
    read_in(c"/proc/self/status", &mut text).is_some_and(|status| is_filtered_by(status, errno))
}

fn is_filtered_by(status: &[u8], errno: Errno) -> bool {
    const PTRACE: u64 = 1 << 19;
    let field = |name: &[u8]| {
        let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(core::str::from_utf8(line.trim_ascii()).ok()?, 16).ok()
    };
    field(b"Seccomp:") == Some(2)
        && (errno == Errno::NOSYS || field(b"CapEff:").is_some_and(|rights| rights & PTRACE != 0))
}

/// Whether this process runs in an emulator of system calls (qemu-user): such know no userfaultfd, where `quire` got one. A
/// real kernel answers to a flag that it does not have.
pub fn is_emulated() -> bool {
    !uffd::is_known() && Uffd::open().is_err() && !is_filtered(Errno::NOSYS)
}

/// Whether a seccomp filter keeps this process, and what it becomes, from userfaultfd. Without a filter, one small file is
/// read.
pub fn is_kept_from_uffd() -> bool {
    has_filter() && matches!(Uffd::open(), Err(errno) if is_filtered(errno))
}

fn has_filter() -> bool {
    let mut text = [0u8; 2048];
    read_in(c"/proc/self/status", &mut text)
        .is_some_and(|status| status.windows(FILTERED.len()).any(|part| part == FILTERED))
}

/// The line of a process with a filter.
const FILTERED: &[u8] = b"\nSeccomp:\t2\n";

fn ask_uffd() -> (Result<Right, Denial>, u64) {
    match Uffd::open() {
        Ok((uffd, way)) => (Ok(right(way)), uffd.api(0).unwrap_or(0)),
        Err(errno @ (Errno::NOSYS | Errno::PERM | Errno::ACCESS)) if is_filtered(errno) => {
            (Err(Denial::Filtered), 0)
        }
        Err(Errno::NOSYS) => (Err(Denial::NotBuilt), 0),
        // The system call's own answer comes only where the device is missing.
        Err(Errno::PERM) => (Err(Denial::NoDevice), 0),
        Err(Errno::ACCESS) => (Err(Denial::DeviceRefused), 0),
        Err(errno) => (Err(Denial::Other(errno)), 0),
    }
}

fn right(way: Way) -> Right {
    if way == Way::Device {
        return Right::Device;
    }
    if number_in(c"/proc/sys/vm/unprivileged_userfaultfd") == Some(1) {
        return Right::Sysctl;
    }
    if rustix::process::geteuid().is_root() { Right::Root } else { Right::Capability }
}

fn kernel_version() -> (u32, u32) {
    let name = rustix::system::uname();
    let mut numbers = name.release().to_bytes().split(|b| !b.is_ascii_digit()).map(decimal);
    (numbers.next().flatten().unwrap_or(0), numbers.next().flatten().unwrap_or(0))
}

fn thp() -> Thp {
    let mut text = [0u8; 64];
    let Some(text) = read_in(c"/sys/kernel/mm/transparent_hugepage/enabled", &mut text) else {
        return Thp::Unknown;
    };
    thp_of(text)
}

/// The choice is the word in brackets.
fn thp_of(text: &[u8]) -> Thp {
    match text.split(|b| *b == b'[').nth(1).and_then(|rest| rest.split(|b| *b == b']').next()) {
        Some(b"always") => Thp::Always,
        Some(b"madvise") => Thp::Madvise,
        Some(b"never") => Thp::Never,
        _ => Thp::Unknown,
    }
}

fn number_in(path: &core::ffi::CStr) -> Option<u32> {
    let mut text = [0u8; 32];
    decimal(read_in(path, &mut text)?.trim_ascii())
}

fn decimal(text: &[u8]) -> Option<u32> {
    core::str::from_utf8(text).ok()?.parse().ok()
}

fn read_in<'a>(path: &core::ffi::CStr, text: &'a mut [u8]) -> Option<&'a [u8]> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let len = rustix::io::read(&file, &mut *text).ok()?;
    text.get(..len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Capabilities {
        Capabilities {
            uffd: Ok(Right::Root),
            can_move: true,
            write_tracking: true,
            kernel: (6, 18),
            thp: Thp::Madvise,
            fifo: true,
            address_space: None,
            overcommit: 0,
            max_vmas: FEW_VMAS,
            filter: false,
        }
    }

    #[test]
    fn a_good_machine_needs_no_mending() {
        assert!(good().suffices());
        assert_eq!(good().mends().count(), 0);
    }

    #[test]
    fn each_failure_names_its_cause_and_a_command() {
        let cases = [
            (
                Capabilities { uffd: Err(Denial::NoDevice), can_move: false, ..good() },
                "--device /dev/userfaultfd",
                true,
            ),
            (Capabilities { uffd: Err(Denial::DeviceRefused), ..good() }, "setfacl", true),
            (Capabilities { uffd: Err(Denial::NotBuilt), ..good() }, "CONFIG_USERFAULTFD", true),
            (Capabilities { uffd: Err(Denial::Filtered), ..good() }, "--device /dev/userfaultfd", true),
            (
                Capabilities { uffd: Err(Denial::NoDevice), filter: true, ..good() },
                "open /dev/userfaultfd",
                true,
            ),
            (Capabilities { uffd: Err(Denial::NoDevice), ..good() }, "sysctl", true),
            (Capabilities { uffd: Err(Denial::Other(Errno::MFILE)), ..good() }, "strace", true),
            (Capabilities { can_move: false, ..good() }, "6.8", true),
            (Capabilities { address_space: Some(1 << 30), ..good() }, "ulimit -v", false),
            (Capabilities { overcommit: 2, ..good() }, "overcommit_memory=0", false),
            (Capabilities { max_vmas: 1000, ..good() }, "max_map_count", false),
            (Capabilities { fifo: false, ..good() }, "CAP_SYS_NICE", false),
        ];
        for (machine, part, fatal) in cases {
            let mends: Vec<Mend> = machine.mends().collect();
            assert_eq!(mends.len(), 1, "{machine:?}");
            assert_eq!(mends[0].fatal, fatal);
            assert_eq!(machine.suffices(), !fatal);
            let line = mends[0].to_string();
            assert!(line.contains(part) && !line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn this_machine_answers() {
        let here = probe();
        assert_eq!(here, probe());
        assert!(here.kernel.0 >= 4 && here.max_vmas > 0);
        assert_eq!(here.can_move, Uffd::offered().is_ok_and(|f| f & uffd::FEATURE_MOVE != 0));
    }

    #[test]
    fn what_it_says_of_this_machine_is_what_the_machine_says() {
        let read = |path: &str| std::fs::read_to_string(path).unwrap();
        let here = probe();
        let release = read("/proc/sys/kernel/osrelease");
        assert!(release.starts_with(&format!("{}.{}.", here.kernel.0, here.kernel.1)), "{release}");
        assert_eq!(here.overcommit.to_string(), read("/proc/sys/vm/overcommit_memory").trim());
        assert_eq!(here.max_vmas.to_string(), read("/proc/sys/vm/max_map_count").trim());
        let features = Uffd::offered().unwrap_or(0);
        assert_eq!(here.write_tracking, features & uffd::FEATURE_WP_ASYNC != 0);
        if let Ok(right) = here.uffd
            && right != Right::Device
        {
            let everybody = read("/proc/sys/vm/unprivileged_userfaultfd").trim() == "1";
            let root = rustix::process::geteuid().is_root();
            let by_rights = if root { Right::Root } else { Right::Capability };
            assert_eq!(right, if everybody { Right::Sysctl } else { by_rights });
        }
        // A root that may raise every limit is bounded by none.
        let limit = getrlimit(Resource::As).maximum;
        assert_eq!(here.address_space, if rlimit::may_raise() { None } else { limit });
    }

    #[test]
    fn limits_count_from_where_they_hurt() {
        let least = Capabilities { address_space: Some(LEAST_ADDRESS_SPACE), ..good() };
        assert_eq!(least.mends().count(), 0);
        let less = Capabilities { address_space: Some(LEAST_ADDRESS_SPACE - 1), ..good() };
        assert!(less.mends().next().unwrap().cause.contains("256 GiB") && LEAST_ADDRESS_SPACE >> 30 == 256);
    }

    #[test]
    fn a_filter_is_told_from_a_lack_of_rights() {
        let status =
            |mode, rights| format!("CapPrm:\t0\nCapEff:\t{rights}\nNoNewPrivs:\t1\nSeccomp:\t{mode}\n");
        let filtered = |status: String, errno| is_filtered_by(status.as_bytes(), errno);
        assert!(filtered(status(2, "000001ffffffffff"), Errno::PERM));
        assert!(!filtered(status(0, "000001ffffffffff"), Errno::PERM));
        assert!(!filtered(status(2, "0000000000000000"), Errno::PERM));
        assert!(filtered(status(2, "0000000000000000"), Errno::NOSYS));
        assert!(!filtered(String::new(), Errno::NOSYS));
    }

    #[test]
    fn words_in_brackets_are_the_choice() {
        assert_eq!(thp_of(b"always [madvise] never\n"), Thp::Madvise);
        assert_eq!(thp_of(b"[always] madvise never\n"), Thp::Always);
        assert_eq!(thp_of(b"always madvise [never]"), Thp::Never);
        assert_eq!(thp_of(b""), Thp::Unknown);
    }

    #[test]
    fn a_feature_is_there_where_its_bit_is() {
        let (moves, tracks) = (uffd::FEATURE_MOVE, uffd::FEATURE_WP_ASYNC);
        assert_eq!([0, moves, tracks, moves | tracks].map(|all| has(all, moves)), [false, true, false, true]);
        assert_eq!([0, moves, tracks].map(|all| has(all, tracks)), [false, false, true]);
    }
}
