//! The places in real files of glibc: this machine's, and those in the directory that `QUIRE_LIBCS` names (`tests/libcs`
//! fetches them). Each file's whole text is decoded, to see that nothing jumps into what the hooks replace.

use std::path::{Path, PathBuf};

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind};
use quire_linux::libc_sites::{Image, JUMP, Kind, MOST, Mismatch, Sites, file};

/// Calls on memory, by number, that must not be made in any other place of libc's.
const MEMORY: [i64; 9] = [
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_brk,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_pkey_mprotect,
];

/// The files that are looked at.
fn libcs() -> Vec<PathBuf> {
    let own = std::fs::read_to_string("/proc/self/maps").unwrap();
    let own = own.lines().filter_map(|line| line.split_whitespace().nth(5));
    let own = own.map(PathBuf::from).find(|path| is_libc(path)).expect("this test is linked with glibc");
    let mut all = vec![own];
    if let Some(directory) = std::env::var_os("QUIRE_LIBCS") {
        let fetched =
            std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path().join("libc.so.6"));
        all.extend(fetched.filter(|path| path.is_file()));
    }
    all
}

fn is_libc(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "libc.so.6" || name.to_string_lossy().starts_with("libc-2."))
}

fn find(bytes: &[u8]) -> Result<Sites, Mismatch> {
    let (image, symbols) = file::of(bytes).ok_or(Mismatch::NoSymbols)?;
    Sites::find(&image, &symbols)
}

/// The instructions of all executable segments: from each exported or local start that a linear sweep finds.
fn instructions(bytes: &[u8]) -> Vec<Instruction> {
    let mut all = Vec::new();
    for (offset, address, size) in executable(bytes) {
        let code = &bytes[offset..offset + size];
        let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
        while decoder.can_decode() {
            all.push(decoder.decode());
        }
    }
    all
}

/// Offset, address and size of the executable segments of a file.
fn executable(bytes: &[u8]) -> Vec<(usize, u64, usize)> {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let headers = word(32) as usize;
    let count = usize::from(u16::from_le_bytes(bytes[56..58].try_into().unwrap()));
    let segment = |number: usize| headers + number * 56;
    let executable =
        (0..count).map(segment).filter(|&at| bytes[at..at + 4] == [1, 0, 0, 0] && bytes[at + 4] & 1 != 0);
    executable.map(|at| (word(at + 8) as usize, word(at + 16), word(at + 32) as usize)).collect()
}

#[test]
fn every_glibc_has_its_places() {
    for path in libcs() {
        let bytes = std::fs::read(&path).unwrap();
        let sites = find(&bytes).unwrap_or_else(|mismatch| panic!("{}: {mismatch}", path.display()));
        let all = sites.all();
        println!("{}: {} places", path.display(), all.len());
        assert!(all.len() < MOST, "{}: no place to spare", path.display());
        let numbered = |number: i64| all.iter().filter(move |site| i64::from(site.number) == number).count();
        for number in MEMORY {
            assert!(numbered(number) > 0, "{}: no place calls {number}", path.display());
        }
        // clone(), and what fork calls.
        assert_eq!(numbered(libc::SYS_clone), 2, "{}", path.display());
        assert_eq!(all.iter().filter(|site| site.kind == Kind::Clone).count(), 1);
        assert_eq!(all.iter().filter(|site| site.kind == Kind::ByNumber).count(), 1);
    }
}

#[test]
fn nothing_jumps_into_what_is_replaced() {
    for path in libcs() {
        let bytes = std::fs::read(&path).unwrap();
        let sites = find(&bytes).unwrap();
        for instruction in instructions(&bytes) {
            let jumps = matches!(
                instruction.flow_control(),
                FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch | FlowControl::Call
            ) && instruction.op0_kind() == OpKind::NearBranch64;
            if jumps {
                let target = instruction.near_branch_target();
                let hit = sites.all().iter().find(|site| (site.at + 1..site.back).contains(&target));
                assert!(
                    hit.is_none(),
                    "{}: {:#x} jumps to {target:#x}, inside {hit:x?}",
                    path.display(),
                    instruction.ip()
                );
            }
        }
    }
}

/// libc calls the kernel for memory nowhere else: whatever number a `syscall` is seen to have been given.
#[test]
fn no_call_on_memory_is_made_elsewhere() {
    for path in libcs() {
        let bytes = std::fs::read(&path).unwrap();
        let sites = find(&bytes).unwrap();
        let all = instructions(&bytes);
        for (at, instruction) in all.iter().enumerate().filter(|(_, one)| one.mnemonic() == Mnemonic::Syscall)
        {
            let is_known = sites.all().iter().any(|site| site.back == instruction.next_ip());
            // The last number that was put into eax shortly before.
            let number = all[at.saturating_sub(6)..at].iter().rev().find_map(|before| {
                let sets =
                    before.mnemonic() == Mnemonic::Mov && before.op0_register() == iced_x86::Register::EAX;
                (sets && before.op1_kind() == OpKind::Immediate32).then(|| i64::from(before.immediate32()))
            });
            let on_memory = number.is_some_and(|number| MEMORY.contains(&number));
            assert!(!on_memory || is_known, "{}: {:#x} calls {number:?}", path.display(), instruction.ip());
        }
    }
}

/// A copy of this machine's libc with one change is refused, and the message names the function.
#[test]
fn what_differs_is_named() {
    let bytes = std::fs::read(&libcs()[0]).unwrap();
    let (image, symbols) = file::of(&bytes).unwrap();
    let sites = Sites::find(&image, &symbols).unwrap();
    let offset_of = |address: u64| {
        let segment = executable(&bytes)
            .into_iter()
            .find(|(_, start, size)| (*start..start + *size as u64).contains(&address));
        let (offset, start, _) = segment.unwrap();
        offset + (address - start) as usize
    };
    for name in ["mmap", "munmap", "mprotect", "brk", "mremap", "madvise", "clone", "syscall"] {
        let symbol = symbols.find(name.as_bytes()).unwrap();
        let inside = |at: u64| (symbol.address..symbol.address + symbol.size).contains(&at);
        let site = sites.all().iter().find(|site| inside(site.at)).unwrap();
        for at in [0, 1, JUMP - 1, (site.back - site.at) as usize] {
            let mut changed = bytes.clone();
            changed[offset_of(site.at) + at] ^= 0x10;
            assert_eq!(
                find(&changed).err(),
                Some(Mismatch::Unexpected(name)),
                "byte {at} of the place in {name}"
            );
        }
    }
    assert_eq!(find(&bytes[..64]).err(), Some(Mismatch::NoSymbols));
    let nothing = Image::empty();
    assert_eq!(Sites::find(&nothing, &symbols).err(), Some(Mismatch::Unexpected("clone")));
}
