//! The forms in which glibc calls the kernel, byte by byte.

/// Bytes of the jump that is put over the beginning of a place.
pub const JUMP: usize = 5;

/// What a hook has to do besides the call, since the jump replaces it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Kind {
    /// `mov $NUMBER, %eax`: nothing.
    Number = 0,
    /// mmap's other path, for code below 4 GiB: it adds `MAP_32BIT`.
    Low = 1,
    /// The same of older versions, which set the address to 0 too.
    LowAnywhere = 2,
    /// `syscall()`: the number is in `%rax`, the sixth argument still on the stack.
    ByNumber = 3,
    /// `clone()`, whose child goes on on another stack.
    Clone = 4,
}

/// One place: [`JUMP`] bytes that a jump replaces, and where the function goes on after the system call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Site {
    /// Its address in the image.
    pub at: u64,
    /// The address behind the system call.
    pub back: u64,
    /// The number of the system call; 0 with [`Kind::ByNumber`].
    pub number: u32,
    /// What is replaced.
    pub kind: Kind,
    /// The bytes there.
    pub bytes: [u8; JUMP],
}

impl Site {
    pub(super) const NONE: Site = Site { at: 0, back: 0, number: 0, kind: Kind::Number, bytes: [0; JUMP] };

    pub(super) fn moved(self, by: u64) -> Site {
        Site { at: self.at + by, back: self.back + by, ..self }
    }
}

const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// `mov $.., %eax`, before four bytes of a number.
const MOV_EAX: u8 = 0xb8;
/// `mov 0x8(%rsp), %r9`.
const SIXTH: [u8; 5] = [0x4c, 0x8b, 0x4c, 0x24, 0x08];
/// `mov $9, %eax; or $0x40, %r10d`.
const LOW: [u8; 9] = [MOV_EAX, 9, 0, 0, 0, 0x41, 0x83, 0xca, 0x40];
/// `mov $9, %ecx; xor %edi, %edi; or $0x40, %r10d; mov %ecx, %eax`.
const LOW_ANYWHERE: [u8; 13] = [0xb9, 9, 0, 0, 0, 0x31, 0xff, 0x41, 0x83, 0xca, 0x40, 0x89, 0xc8];
/// How a function goes on with the answer: `cmp`, `test`, `mov` of and with `%rax`, or another `mov`; `neg`; `ret`.
const GOES_ON: [&[u8]; 6] =
    [&[0x48, 0x3d], &[0x48, 0x85, 0xc0], &[0x48, 0x8b], &[0x48, 0x89, 0xc7], &[0xf7, 0xd8], &[0xc3]];

/// The offsets of what reads as `syscall` in a function.
pub(super) fn system_calls(code: &[u8]) -> impl Iterator<Item = usize> {
    code.windows(SYSCALL.len()).enumerate().filter(|(_, bytes)| **bytes == SYSCALL).map(|(at, _)| at)
}

/// The place that ends with the `syscall` at offset `at` of a function, by offsets; `None` if it has no known form.
pub(super) fn of(code: &[u8], at: usize, function: &str) -> Option<Site> {
    let before = &code[..at];
    let (len, number, kind) = if before.ends_with(&SIXTH) && function == "syscall" {
        (SIXTH.len(), 0, Kind::ByNumber)
    } else if before.ends_with(&LOW) {
        (LOW.len(), libc::SYS_mmap as u32, Kind::Low)
    } else if before.ends_with(&LOW_ANYWHERE) {
        (LOW_ANYWHERE.len(), libc::SYS_mmap as u32, Kind::LowAnywhere)
    } else {
        let [MOV_EAX, number @ ..] = *before.last_chunk::<JUMP>()? else { return None };
        let number = u32::from_le_bytes(number);
        let is_clone = function == "clone" && i64::from(number) == libc::SYS_clone;
        (JUMP, number, if is_clone { Kind::Clone } else { Kind::Number })
    };
    let start = at - len;
    let bytes = *code[start..].first_chunk()?;
    Some(Site { at: start as u64, back: (at + SYSCALL.len()) as u64, number, kind, bytes })
}

/// Whether a function goes on behind a place, given by offsets, as is known of them.
pub(super) fn goes_on(code: &[u8], site: &Site) -> bool {
    let rest = &code[site.back as usize..];
    GOES_ON.iter().any(|bytes| rest.starts_with(bytes))
}
