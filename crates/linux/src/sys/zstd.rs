//! zstd for single pages, in memory of ours.
//!
//! The library's contexts live in a workspace that is handed to it, so that it never allocates and keeps nothing
//! outside; it calls nothing of libc but `memcpy`, `memmove` and `memset`. A stored page is a frame without magic
//! number, size and checksum: those are known, and Quire has a checksum of its own.

use super::{Errno, Result, mmap};
use core::ffi::c_void;
use core::fmt;
use core::ptr::NonNull;
use quire_core::PAGE_SIZE;
use zstd_sys as c;

/// As large as a page's contents reach back.
const WINDOW_LOG: u32 = (PAGE_SIZE as u32).ilog2();

/// The fast strategy. A page has so few positions that larger tables find little more and fall out of the first cache;
/// literals are always entropy-coded, which is what lz4 lacks.
const PARAMETERS: c::ZSTD_compressionParameters = c::ZSTD_compressionParameters {
    windowLog: WINDOW_LOG,
    chainLog: 6,
    hashLog: 10,
    searchLog: 1,
    minMatch: 5,
    targetLength: 0,
    strategy: c::ZSTD_strategy::ZSTD_fast,
};

/// What one thread needs to compress and decompress pages: about 140 KiB, of which only those that are used have memory
/// behind them. Lives as long as the process.
pub struct Zstd {
    compressor: NonNull<c::ZSTD_CCtx>,
    decompressor: NonNull<c::ZSTD_DCtx>,
}

impl Zstd {
    /// Makes both contexts.
    ///
    /// # Errors
    /// There is no memory, or the library's own estimate of its needs is wrong (`NOMEM` both).
    pub fn new() -> Result<Zstd> {
        // SAFETY: plain arithmetic on the parameters.
        let (for_compressor, for_decompressor) =
            unsafe { (c::ZSTD_estimateCCtxSize_usingCParams(PARAMETERS), c::ZSTD_estimateDCtxSize()) };
        let (left, right) = (space(for_compressor)?, space(for_decompressor)?);
        // SAFETY: 1. each workspace is mapped for as long as is said, for ever, and aligned to a page; 2. nobody else
        // knows its address.
        let (compressor, decompressor) = unsafe {
            (c::ZSTD_initStaticCCtx(left, for_compressor), c::ZSTD_initStaticDCtx(right, for_decompressor))
        };
        let compressor = NonNull::new(compressor).ok_or(Errno::NOMEM)?;
        let decompressor = NonNull::new(decompressor).ok_or(Errno::NOMEM)?;
        let zstd = Zstd { compressor, decompressor };
        if zstd.set_parameters() { Ok(zstd) } else { Err(Errno::NOMEM) }
    }

    fn set_parameters(&self) -> bool {
        use c::ZSTD_cParameter as Parameter;
        let magicless = c::ZSTD_format_e::ZSTD_f_zstd1_magicless as i32;
        let all = [
            (Parameter::ZSTD_c_windowLog, PARAMETERS.windowLog as i32),
            (Parameter::ZSTD_c_chainLog, PARAMETERS.chainLog as i32),
            (Parameter::ZSTD_c_hashLog, PARAMETERS.hashLog as i32),
            (Parameter::ZSTD_c_searchLog, PARAMETERS.searchLog as i32),
            (Parameter::ZSTD_c_minMatch, PARAMETERS.minMatch as i32),
            (Parameter::ZSTD_c_targetLength, PARAMETERS.targetLength as i32),
            (Parameter::ZSTD_c_strategy, PARAMETERS.strategy as i32),
            (Parameter::ZSTD_c_contentSizeFlag, 0),
            // Named `ZSTD_c_format` in `zstd.h`.
            (Parameter::ZSTD_c_experimentalParam2, magicless),
        ];
        let (compressor, decompressor) = (self.compressor.as_ptr(), self.decompressor.as_ptr());
        all.into_iter().all(|(parameter, value)| {
            // SAFETY: the context is alive, and nobody else uses it.
            is_fine(unsafe { c::ZSTD_CCtx_setParameter(compressor, parameter, value) })
        }) && {
            // `ZSTD_d_format` in `zstd.h`.
            let format = c::ZSTD_dParameter::ZSTD_d_experimentalParam1;
            // SAFETY: as above.
            is_fine(unsafe { c::ZSTD_DCtx_setParameter(decompressor, format, magicless) })
        }
    }

    /// Compresses `page` into `out`; the number of bytes, or `None` where they don't fit.
    pub fn compress(&mut self, page: &[u8; PAGE_SIZE], out: &mut [u8]) -> Option<usize> {
        let (to, room) = (out.as_mut_ptr().cast::<c_void>(), out.len());
        let from = page.as_ptr().cast::<c_void>();
        // SAFETY: 1. both buffers are as long as is said and don't overlap; 2. the context is alive and used by
        // nobody else, since `self` is borrowed mutably.
        let len = unsafe { c::ZSTD_compress2(self.compressor.as_ptr(), to, room, from, PAGE_SIZE) };
        is_fine(len).then_some(len)
    }

    /// Brings a page back from its compressed bytes. Whether they were a whole page's; what they held is
    /// for a checksum to say.
    pub fn decompress(&mut self, packed: &[u8], page: &mut [u8; PAGE_SIZE]) -> bool {
        let (to, from) = (page.as_mut_ptr().cast::<c_void>(), packed.as_ptr().cast::<c_void>());
        // SAFETY: as for `compress`; the library checks its input, and stays within both buffers whatever it holds.
        let len =
            unsafe { c::ZSTD_decompressDCtx(self.decompressor.as_ptr(), to, PAGE_SIZE, from, packed.len()) };
        len == PAGE_SIZE
    }
}

impl fmt::Debug for Zstd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zstd").finish_non_exhaustive()
    }
}

/// Memory of its own for a context, which is only charged as far as it is touched.
fn space(bytes: usize) -> Result<*mut c_void> {
    mmap::map_buffer(bytes.next_multiple_of(PAGE_SIZE)).map(core::ptr::with_exposed_provenance_mut)
}

fn is_fine(code: usize) -> bool {
    // SAFETY: plain arithmetic.
    unsafe { c::ZSTD_isError(code) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_used_again_and_again() {
        let mut zstd = Zstd::new().unwrap();
        let mut out = [0; PAGE_SIZE];
        for step in 1..200 {
            let page = core::array::from_fn(|i| b"0123456789abcdef"[i * step * step / 7 % 16]);
            let len = zstd.compress(&page, &mut out).unwrap();
            let mut back = [0; PAGE_SIZE];
            assert!(len < PAGE_SIZE && zstd.decompress(&out[..len], &mut back));
            assert_eq!(back, page);
            assert!(!zstd.decompress(&out[..len - 1], &mut back));
        }
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let mut zstd = Zstd::new().unwrap();
        let mut seed = 1u64;
        let page = core::array::from_fn(|_| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 56) as u8
        });
        assert_eq!(zstd.compress(&page, &mut [0; PAGE_SIZE - 1]), None);
    }
}
