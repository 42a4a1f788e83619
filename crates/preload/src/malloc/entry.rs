//! The exported malloc family.
//!
//! The four that libc and the loader call pass on who called: a naked function adds the return address as one more
//! argument and jumps on, so that it costs a load and a jump. C++'s operators arrive through malloc.

use core::arch::naked_asm;
use core::ffi::c_int;

use super::{Block, PAGE};

/// C's malloc.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn malloc(size: usize) -> Block {
    naked_asm!("endbr64", "mov rsi, [rsp]", "jmp {}", sym super::malloc_for)
}

/// C's calloc.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn calloc(count: usize, size: usize) -> Block {
    naked_asm!("endbr64", "mov rdx, [rsp]", "jmp {}", sym super::calloc_for)
}

/// C's realloc.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn realloc(block: Block, size: usize) -> Block {
    naked_asm!("endbr64", "mov rdx, [rsp]", "jmp {}", sym super::realloc_for)
}

/// BSD's and glibc's reallocarray.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn reallocarray(block: Block, count: usize, size: usize) -> Block {
    naked_asm!("endbr64", "mov rcx, [rsp]", "jmp {}", sym super::reallocarray_for)
}

/// Exports a function under several names. Each keeps the rules that C has for it.
macro_rules! export {
    ($($doc:literal $name:ident($($arg:ident: $kind:ty),*) $(-> $result:ty)? = $body:expr;)*) => {$(
        #[doc = $doc]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($arg: $kind),*) $(-> $result)? {
            // SAFETY: the caller keeps C's rules for this function, which are those of the one called.
            unsafe { $body }
        }
    )*};
}

export! {
    "C's free." free(block: Block) = super::free(block);
    "C23's free with the size that was asked for." free_sized(block: Block, _size: usize) = super::free(block);
    "C23's free with the alignment and the size that were asked for."
    free_aligned_sized(block: Block, _alignment: usize, _size: usize) = super::free(block);
    "glibc's `malloc_usable_size`." malloc_usable_size(block: Block) -> usize = super::usable_size(block);
    "The old memalign." memalign(alignment: usize, size: usize) -> Block = super::memalign(alignment, size);
    "C11's `aligned_alloc`." aligned_alloc(alignment: usize, size: usize) -> Block = super::memalign(alignment, size);
    "POSIX's `posix_memalign`."
    posix_memalign(out: *mut Block, alignment: usize, size: usize) -> c_int = super::posix_memalign(out, alignment, size);
    "The old valloc." valloc(size: usize) -> Block = super::memalign(PAGE, size);
    "The old pvalloc." pvalloc(size: usize) -> Block = super::pvalloc(size);
}

// glibc exports its family under these names too, for those who wrap malloc. Were they left to glibc, what they
// allocate would reach our free.
export! {
    "glibc's name for malloc." __libc_malloc(size: usize) -> Block = super::malloc_for(size, 0);
    "glibc's name for calloc." __libc_calloc(count: usize, size: usize) -> Block = super::calloc_for(count, size, 0);
    "glibc's name for realloc." __libc_realloc(block: Block, size: usize) -> Block = super::realloc_for(block, size, 0);
    "glibc's name for free." __libc_free(block: Block) = super::free(block);
    "glibc's name for memalign."
    __libc_memalign(alignment: usize, size: usize) -> Block = super::memalign(alignment, size);
    "glibc's name for valloc." __libc_valloc(size: usize) -> Block = super::memalign(PAGE, size);
    "glibc's name for pvalloc." __libc_pvalloc(size: usize) -> Block = super::pvalloc(size);
}
