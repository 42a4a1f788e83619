//! Where the jumps lead: a stub for each place, and what they have in common.
//!
//! A system call changes `%rax`, `%rcx` and `%r11` only, and what libc's compiler knows of that it relies on. So all else is
//! kept, the SSE registers included, and the 128 bytes below the stack pointer are left alone. (The upper halves of AVX's are
//! not: these small functions keep nothing there.) Whoever unwinds the stack from
//! here finds the function of libc's as the caller.

use core::arch::naked_asm;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use quire_linux::libc_sites::{Kind, MOST, Site};

use super::called::called;
use crate::calls::clone::{self, COPIES, STACK, STACK_OF_CHILD};

/// libcs whose places have stubs.
pub(super) const BLOCKS: usize = 4;
const ALL: usize = BLOCKS * MOST;
/// Bytes of a stub, and of its slot.
const STRIDE: usize = 16;

/// What a stub is for.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Slot {
    /// Where libc's function goes on.
    back: AtomicUsize,
    number: AtomicU32,
    kind: AtomicU32,
}

const _: () = assert!(size_of::<Slot>() == STRIDE && core::mem::offset_of!(Slot, kind) == KIND_AT);
const KIND_AT: usize = 12;

static SLOTS: [Slot; ALL] =
    [const { Slot { back: AtomicUsize::new(0), number: AtomicU32::new(0), kind: AtomicU32::new(0) } }; ALL];

impl Slot {
    /// The number of the system call that is replaced.
    pub(super) fn number(&self) -> u32 {
        self.number.load(Ordering::Relaxed)
    }

    pub(super) fn is(&self, kind: Kind) -> bool {
        self.kind.load(Ordering::Relaxed) == kind as u32
    }
}

/// Sets the stub of a place up, and says where it is.
pub(super) fn prepare(block: usize, number: usize, site: &Site, back: usize) -> usize {
    let at = block * MOST + number;
    let slot = &SLOTS[at];
    slot.back.store(back, Ordering::Relaxed);
    slot.number.store(site.number, Ordering::Relaxed);
    slot.kind.store(site.kind as u32, Ordering::Relaxed);
    stubs as *const () as usize + at * STRIDE
}

/// All stubs. Each notes where it is, by which [`enter`] finds its slot.
#[unsafe(naked)]
extern "C" fn stubs() {
    naked_asm!(
        ".rept {all}",
        "lea r11, [rip]",
        "jmp {enter}",
        ".balign {stride}",
        ".endr",
        all = const ALL,
        stride = const STRIDE,
        enter = sym enter,
    )
}

/// Bytes of a stub's first instruction, behind which it notes to be.
const NOTED_AT: usize = 7;

/// What all stubs jump to, with the registers as at the system call, but that the number is in `%rax` for `syscall()` alone.
#[unsafe(naked)]
extern "C" fn enter() {
    naked_asm!(
        ".cfi_startproc simple",
        ".cfi_def_cfa rsp, 0",
        ".cfi_undefined rip",
        "lea rcx, [rip + {stubs} + {noted_at}]",
        "sub r11, rcx",
        "lea rcx, [rip + {slots}]",
        "add r11, rcx",
        "mov ecx, [r11 + {kind_at}]",
        "cmp ecx, {by_number}",
        "je 2f",
        "cmp ecx, {clone}",
        "jne 4f",
        "mov eax, {sys_clone}",
        "jmp {with_stack}",
        // syscall(): a clone with a stack of its own must not pass through frames of ours, since its child returns from here
        // on that stack. clone3's is the sixth word of its arguments, which are 64 bytes at least.
        "2:",
        "mov r9, [rsp + 8]",
        "cmp rax, {sys_clone}",
        "jne 3f",
        "test rsi, rsi",
        "jnz {with_stack}",
        "jmp 4f",
        "3:",
        "cmp rax, {sys_clone3}",
        "jne 4f",
        "test rdi, rdi",
        "jz 4f",
        "cmp rsi, 64",
        "jb 4f",
        "cmp qword ptr [rdi + 40], 0",
        "jne {with_stack}",
        // Any other call.
        "4:",
        "lea rsp, [rsp - 128]",
        ".cfi_adjust_cfa_offset 128",
        "push rbp",
        ".cfi_adjust_cfa_offset 8",
        ".cfi_rel_offset rbp, 0",
        "mov rbp, rsp",
        ".cfi_def_cfa_register rbp",
        "push qword ptr [r11]",
        ".cfi_offset rip, -144",
        "push r9",
        "push r8",
        "push r10",
        "push rdx",
        "push rsi",
        "push rdi",
        "mov rsi, rsp",
        "mov rdi, r11",
        "mov rdx, rax",
        "sub rsp, 256",
        "and rsp, -16",
        "movups [rsp], xmm0",
        "movups [rsp + 16], xmm1",
        "movups [rsp + 32], xmm2",
        "movups [rsp + 48], xmm3",
        "movups [rsp + 64], xmm4",
        "movups [rsp + 80], xmm5",
        "movups [rsp + 96], xmm6",
        "movups [rsp + 112], xmm7",
        "movups [rsp + 128], xmm8",
        "movups [rsp + 144], xmm9",
        "movups [rsp + 160], xmm10",
        "movups [rsp + 176], xmm11",
        "movups [rsp + 192], xmm12",
        "movups [rsp + 208], xmm13",
        "movups [rsp + 224], xmm14",
        "movups [rsp + 240], xmm15",
        "call {called}",
        "movups xmm0, [rsp]",
        "movups xmm1, [rsp + 16]",
        "movups xmm2, [rsp + 32]",
        "movups xmm3, [rsp + 48]",
        "movups xmm4, [rsp + 64]",
        "movups xmm5, [rsp + 80]",
        "movups xmm6, [rsp + 96]",
        "movups xmm7, [rsp + 112]",
        "movups xmm8, [rsp + 128]",
        "movups xmm9, [rsp + 144]",
        "movups xmm10, [rsp + 160]",
        "movups xmm11, [rsp + 176]",
        "movups xmm12, [rsp + 192]",
        "movups xmm13, [rsp + 208]",
        "movups xmm14, [rsp + 224]",
        "movups xmm15, [rsp + 240]",
        "lea rsp, [rbp - 56]",
        "pop rdi",
        "pop rsi",
        "pop rdx",
        "pop r10",
        "pop r8",
        "pop r9",
        "pop rcx",
        ".cfi_register rip, rcx",
        "pop rbp",
        ".cfi_def_cfa rsp, 128",
        ".cfi_restore rbp",
        "lea rsp, [rsp + 128]",
        ".cfi_def_cfa_offset 0",
        "jmp rcx",
        ".cfi_endproc",
        stubs = sym stubs,
        noted_at = const NOTED_AT,
        slots = sym SLOTS,
        kind_at = const KIND_AT,
        by_number = const Kind::ByNumber as u32,
        clone = const Kind::Clone as u32,
        sys_clone = const libc::SYS_clone,
        sys_clone3 = const libc::SYS_clone3,
        with_stack = sym with_stack,
        called = sym called,
    )
}

/// Where a child of [`with_stack`] with a copy of the memory keeps what it needs: it is alone in that copy.
static RSP_OF_CHILD: AtomicUsize = AtomicUsize::new(0);
static BACK_OF_CHILD: AtomicUsize = AtomicUsize::new(0);

/// A clone whose child gets a stack of its own: number and arguments as for the kernel, the slot in `%r11`. Where the child goes
/// on is in `%r9`, which no clone has a use for.
#[unsafe(naked)]
extern "C" fn with_stack() {
    naked_asm!(
        "lea rsp, [rsp - 128]",
        "push r8",
        "push r10",
        "push rdx",
        "push rsi",
        "push rdi",
        "push rax",
        "push qword ptr [r11]",
        "push rbp",
        "mov rbp, rsp",
        "and rsp, -16",
        "mov r9, r8",
        "mov r8, r10",
        "mov rcx, rdx",
        "mov rdx, rsi",
        "mov rsi, rdi",
        "mov rdi, rax",
        "call {before}",
        "mov rsp, rbp",
        "pop rbp",
        "mov r9, [rsp]",
        // In the place of where the parent goes on, which stays in r9: what `before` has said.
        "mov [rsp], rax",
        "cmp rax, {copies}",
        "mov rax, [rsp + 8]",
        "mov rdi, [rsp + 16]",
        "mov rsi, [rsp + 24]",
        "mov rdx, [rsp + 32]",
        "mov r10, [rsp + 40]",
        "mov r8, [rsp + 48]",
        "je 3f",
        // A thread, or a child that borrows the memory.
        "syscall",
        "test rax, rax",
        "jnz 4f",
        "jmp r9",
        // The parent.
        "4:",
        "mov rsi, [rsp]",
        "mov [rsp], r9",
        "mov [rsp + 8], rax",
        "mov rdi, rax",
        "push rbp",
        "mov rbp, rsp",
        "and rsp, -16",
        "call {after}",
        "mov rsp, rbp",
        "pop rbp",
        "pop rcx",
        "pop rax",
        "pop rdi",
        "pop rsi",
        "pop rdx",
        "pop r10",
        "pop r8",
        "lea rsp, [rsp + 128]",
        "jmp rcx",
        // A child with a copy of the memory. Nothing of its own stack is touched before it has a pager.
        "3:",
        "syscall",
        "test rax, rax",
        "jnz 4b",
        "mov [rip + {rsp}], rsp",
        "mov [rip + {back}], r9",
        "lea rsp, [rip + {stack} + {stack_size}]",
        "call {begin_child}",
        "mov rsp, [rip + {rsp}]",
        "xor eax, eax",
        "jmp qword ptr [rip + {back}]",
        before = sym clone::before,
        after = sym clone::after,
        copies = const COPIES,
        rsp = sym RSP_OF_CHILD,
        back = sym BACK_OF_CHILD,
        stack = sym STACK_OF_CHILD,
        stack_size = const STACK,
        begin_child = sym clone::begin_child,
    )
}
