//! A head for seccomp filters that a program sets for itself. Behind it Quire's own calls pass, as far as they are of those
//! that a pager makes all the time, and the program judges all others as it would without the head.
//!
//! Calls are told apart by the address that the kernel sees them come from. What passes neither opens nor connects, and makes
//! neither threads nor programs nor code: who jumps to an instruction of Quire's gains next to nothing.

use crate::sys::{pagemap, uffd};
use core::ops::Range;

/// An instruction of the classic BPF, as the kernel has it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Instruction {
    code: u16,
    jump_if: u8,
    jump_else: u8,
    value: u32,
}

/// The most instructions that a filter may have, for the kernel.
pub const MOST: usize = 4096;
/// The most that the head has.
pub const HEAD: usize = 96;

/// Which calls are Quire's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Own {
    /// The library's code, by its addresses.
    pub text: Range<usize>,
    /// Where in it the kernel sees the program's calls come from that Quire hands on: those are not its own.
    pub programs: usize,
    /// This process.
    pub pid: u32,
}

const LOAD: u16 = 0x20;
const LOAD_CONSTANT: u16 = 0x00;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
const IF_SET: u16 = 0x45;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

/// Where the kernel shows what is asked for, in bytes (`struct seccomp_data`): numbers of 64 bits with their low half first.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const PLACE: u32 = 8;
const ARGUMENTS: u32 = 16;
const X86_64: u32 = 0xc000_003e;
const ALLOW: u32 = 0x7fff_0000;

/// What passes whatever its arguments are.
const PLAIN: [libc::c_long; 48] = [
    libc::SYS_futex,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_fcntl,
    libc::SYS_close,
    libc::SYS_fallocate,
    libc::SYS_ftruncate,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_getsockopt,
    libc::SYS_madvise,
    libc::SYS_process_madvise,
    libc::SYS_mincore,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mlock2,
    libc::SYS_munlock,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getppid,
    libc::SYS_sysinfo,
    libc::SYS_prlimit64,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_getparam,
    libc::SYS_sched_setparam,
    libc::SYS_sched_getaffinity,
    libc::SYS_get_robust_list,
    libc::SYS_membarrier,
    libc::SYS_exit,
    libc::SYS_exit_group,
];
/// What passes of ioctl, by its number: a look at one's own pages, and at a namespace's kind; and the kind of the rest, those
/// on a userfaultfd, but not the one that makes it: whether the program gets one is its filter's matter.
const COMMANDS: [u32; 2] = [pagemap::SCAN, NS_GET_NSTYPE];
/// Asks of what kind a namespace is.
pub const NS_GET_NSTYPE: u32 = 0xb703;
const KIND: u32 = 0xff00;
/// What passes as long as it makes nothing executable.
const MAPPING: [libc::c_long; 2] = [libc::SYS_mmap, libc::SYS_mprotect];

/// Writes the head of a filter that begins with `first`, and says how many instructions it has. The code takes less than 4 GiB.
pub fn head(own: &Own, first: Instruction, into: &mut [Instruction; HEAD]) -> usize {
    let high = |addr: usize| (addr >> 32) as u32;
    let low = |addr: usize| addr as u32;
    let (start, behind) = (own.text.start, own.text.end);
    // How far the code goes among the addresses that have their high half in common with its start.
    let first_part = if high(start) == high(behind) { low(behind) } else { u32::MAX };
    // Filters begin with nothing in the accumulator.
    let loads = first.code == LOAD;
    // Parts of the head, by where they begin.
    let numbers = 3;
    let commands = numbers + PLAIN.len() + MAPPING.len() + 3;
    let rights = commands + COMMANDS.len() + 4;
    let process = rights + 2;
    let place = process + 2;
    let end = place + 10;
    let len = end + usize::from(!loads);

    let mut at = 0;
    let mut add = |code: u16, value: u32, to: usize, or: usize| {
        // A jump counts from behind its instruction.
        let jump = |to: usize| (to - at - 1) as u8;
        into[at] = match code {
            IF_EQUAL | IF_GREATER | IF_SET => {
                Instruction { code, jump_if: jump(to), jump_else: jump(or), value }
            }
            JUMP => Instruction { code, value: (to - at - 1) as u32, ..Instruction::default() },
            _ => Instruction { code, value, ..Instruction::default() },
        };
        at += 1;
    };
    add(LOAD, ARCHITECTURE, 0, 0);
    add(IF_EQUAL, X86_64, 2, end);
    add(LOAD, NUMBER, 0, 0);
    for (index, number) in PLAIN.into_iter().enumerate() {
        add(IF_EQUAL, number as u32, place, numbers + index + 1);
    }
    for (index, number) in MAPPING.into_iter().enumerate() {
        add(IF_EQUAL, number as u32, rights, numbers + PLAIN.len() + index + 1);
    }
    add(IF_EQUAL, libc::SYS_ioctl as u32, commands, commands - 2);
    add(IF_EQUAL, libc::SYS_process_vm_readv as u32, process, commands - 1);
    add(JUMP, 0, end, 0);
    add(LOAD, ARGUMENTS + 8, 0, 0);
    for (index, command) in COMMANDS.into_iter().enumerate() {
        add(IF_EQUAL, command, place, commands + index + 2);
    }
    add(IF_EQUAL, uffd::NEW, end, rights - 2);
    add(AND, KIND, 0, 0);
    add(IF_EQUAL, uffd::NEW & KIND, place, end);
    // Rights are the third argument of both.
    add(LOAD, ARGUMENTS + 2 * 8, 0, 0);
    add(IF_SET, libc::PROT_EXEC as u32, end, place);
    // Reading its own memory.
    add(LOAD, ARGUMENTS, 0, 0);
    add(IF_EQUAL, own.pid, place, end);
    add(LOAD, PLACE + 4, 0, 0);
    add(IF_EQUAL, high(start), place + 3, place + 2);
    add(IF_EQUAL, high(behind), place + 6, end);
    add(LOAD, PLACE, 0, 0);
    add(IF_GREATER, low(start), place + 5, end);
    add(IF_GREATER, first_part, end, place + 8);
    add(LOAD, PLACE, 0, 0);
    add(IF_GREATER, low(behind), end, place + 8);
    add(IF_EQUAL, low(own.programs), end, place + 9);
    add(RETURN, ALLOW, 0, 0);
    if !loads {
        add(LOAD_CONSTANT, 0, 0, 0);
    }
    debug_assert_eq!(at, len);
    len
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: Range<usize> = 0x7f12_3400_1000..0x7f12_3480_0000;
    const PROGRAMS: usize = 0x7f12_3450_0019;
    const PID: u32 = 4711;

    fn own() -> Own {
        Own { text: TEXT, programs: PROGRAMS, pid: PID }
    }

    /// What the kernel shows of a call.
    #[derive(Clone, Copy)]
    struct Asked {
        number: u32,
        architecture: u32,
        place: u64,
        arguments: [u64; 6],
    }

    impl Asked {
        fn from(number: libc::c_long, place: usize) -> Asked {
            Asked { number: number as u32, architecture: X86_64, place: place as u64, arguments: [0; 6] }
        }

        fn with(self, index: usize, value: u64) -> Asked {
            let mut arguments = self.arguments;
            arguments[index] = value;
            Asked { arguments, ..self }
        }

        fn word(&self, at: u32) -> u32 {
            let mut words = vec![self.number, self.architecture];
            for wide in [self.place].into_iter().chain(self.arguments) {
                words.extend([wide as u32, (wide >> 32) as u32]);
            }
            words[at as usize / 4]
        }
    }

    /// What a filter answers; the instructions that the head and the tests use are known.
    fn answer(filter: &[Instruction], asked: &Asked) -> u32 {
        let (mut at, mut value) = (0, 0);
        loop {
            let Instruction { code, jump_if, jump_else, value: with } = filter[at];
            at += 1;
            let branch = |is: bool| usize::from(if is { jump_if } else { jump_else });
            match code {
                LOAD => value = asked.word(with),
                LOAD_CONSTANT => value = with,
                AND => value &= with,
                JUMP => at += with as usize,
                IF_EQUAL => at += branch(value == with),
                IF_GREATER => at += branch(value > with),
                IF_SET => at += branch(value & with != 0),
                RETURN => return with,
                _ => panic!("{code:#x} is not known here"),
            }
        }
    }

    const KILL: u32 = 0x8000_0000;
    const TRAP: u32 = 0x0003_0000;

    /// Allows `getuid`, and else kills.
    fn strict() -> Vec<Instruction> {
        let plain = |code: u16, value: u32| Instruction { code, value, ..Instruction::default() };
        vec![
            plain(LOAD, NUMBER),
            Instruction { code: IF_EQUAL, jump_if: 0, jump_else: 1, value: libc::SYS_getuid as u32 },
            plain(RETURN, ALLOW),
            plain(RETURN, KILL),
        ]
    }

    fn with_head(filter: &[Instruction]) -> Vec<Instruction> {
        with_head_of(&own(), filter)
    }

    fn with_head_of(own: &Own, filter: &[Instruction]) -> Vec<Instruction> {
        let mut into = [Instruction::default(); HEAD];
        let len = head(own, filter[0], &mut into);
        [&into[..len], filter].concat()
    }

    #[test]
    fn what_a_pager_does_passes_from_its_code_only() {
        let filter = with_head(&strict());
        for number in PLAIN.into_iter().chain(MAPPING) {
            for inside in [TEXT.start + 2, TEXT.end, PROGRAMS - 2, PROGRAMS + 2] {
                assert_eq!(answer(&filter, &Asked::from(number, inside)), ALLOW, "{number} at {inside:#x}");
            }
            let other_half = TEXT.start + 2 + (1 << 32);
            for outside in [TEXT.start, TEXT.end + 1, PROGRAMS, 0x5555_0000_0000, other_half] {
                assert_eq!(answer(&filter, &Asked::from(number, outside)), KILL, "{number} at {outside:#x}");
            }
        }
    }

    #[test]
    fn nothing_else_passes() {
        let filter = with_head(&strict());
        let inside = TEXT.start + 0x1234;
        for number in 0..600 {
            let known = PLAIN.contains(&number) || MAPPING.contains(&number) || number == libc::SYS_getuid;
            let expected = if known { ALLOW } else { KILL };
            assert_eq!(answer(&filter, &Asked::from(number, inside)), expected, "{number}");
            let compatible = Asked { architecture: 0x4000_0003, ..Asked::from(number, inside) };
            assert_eq!(answer(&filter, &compatible), answer(&strict(), &compatible), "{number}");
        }
        let opens = [libc::SYS_open, libc::SYS_openat, libc::SYS_socket, libc::SYS_execve, libc::SYS_clone];
        assert!(opens.iter().all(|number| !PLAIN.contains(number)));
        for number in MAPPING {
            let code = (libc::PROT_READ | libc::PROT_EXEC) as u64;
            assert_eq!(answer(&filter, &Asked::from(number, inside).with(2, code)), KILL);
        }
        let commands = Asked::from(libc::SYS_ioctl, inside);
        for (command, expected) in [
            (0xc028_aa05, ALLOW),
            (u64::from(pagemap::SCAN), ALLOW),
            (u64::from(uffd::NEW), KILL),
            (libc::TIOCSTI, KILL),
        ] {
            assert_eq!(answer(&filter, &commands.with(1, command)), expected, "{command:#x}");
        }
        let reads = Asked::from(libc::SYS_process_vm_readv, inside);
        assert_eq!(answer(&filter, &reads.with(0, PID.into())), ALLOW);
        assert_eq!(answer(&filter, &reads.with(0, 1)), KILL);
    }

    #[test]
    fn a_filter_finds_the_accumulator_empty() {
        let plain = |code: u16, value: u32| Instruction { code, value, ..Instruction::default() };
        let odd = [
            Instruction { code: IF_EQUAL, jump_if: 0, jump_else: 1, value: 0 },
            plain(RETURN, TRAP),
            plain(RETURN, KILL),
        ];
        let filter = with_head(&odd);
        for number in [libc::SYS_getuid, libc::SYS_read, libc::SYS_mmap] {
            assert_eq!(answer(&filter, &Asked::from(number, 0x5555_0000_0000)), TRAP);
        }
    }

    #[test]
    fn code_may_lie_on_both_sides_of_a_boundary() {
        let text = 0x7f12_ffff_0000..0x7f13_0000_1000;
        let programs = 0x7f13_0000_0019;
        let own = Own { text, programs, ..own() };
        let filter = with_head_of(&own, &strict());
        let at = |place: usize| answer(&filter, &Asked::from(libc::SYS_futex, place));
        for inside in [0x7f12_ffff_0002, 0x7f12_ffff_ffff, 0x7f13_0000_0000, 0x7f13_0000_1000] {
            assert_eq!(at(inside), ALLOW, "{inside:#x}");
        }
        for outside in [0x7f12_ffff_0000, 0x7f12_0000_1000, 0x7f13_0000_1001, 0x7f13_ffff_1000, programs] {
            assert_eq!(at(outside), KILL, "{outside:#x}");
        }
    }
}
