//! Whole reads and writes of files, and direct I/O through bounce buffers.
//!
//! Direct I/O wants buffer, offset and length aligned. It never reads into or writes from a frame of the
//! pool: the kernel pins what it transfers, and a pinned page can't be moved.

use super::tally::{self, Call};
use super::{Errno, Result, mmap};
use quire_core::PAGE_SIZE;
use rustix::fd::AsFd;

/// The alignment that direct I/O gets here, in bytes: enough for every file system and disk.
pub const ALIGN: usize = PAGE_SIZE;

/// The first byte of a file, if it can be read.
pub fn first_byte(path: &core::ffi::CStr) -> Option<u8> {
    use rustix::fs::{Mode, OFlags};
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut byte = [0];
    read_full(&fd, &mut byte, 0).ok().map(|()| byte[0])
}

/// What `read` makes of the first `N` bytes of a file, or of all of it, if it can be read.
pub fn read_some<const N: usize, T>(path: &core::ffi::CStr, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
    use rustix::fs::{Mode, OFlags};
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut bytes = [0; N];
    let len = rustix::io::read(&fd, &mut bytes).ok()?;
    Some(read(&bytes[..len]))
}

/// What whole reads and writes are made of: one call, which may do less than it was asked for.
pub trait Transfer {
    /// Reads into `buf` from `offset` on: how many bytes, none at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize>;

    /// Writes from `buf` to `offset` on: how many bytes.
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize>;
}

impl<F: AsFd> Transfer for F {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        tally::count(Call::Pread);
        rustix::io::pread(self, buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize> {
        tally::count(Call::Pwrite);
        rustix::io::pwrite(self, buf, offset)
    }
}

/// Reads until `buf` is full. The end of the file before that is EIO.
pub fn read_full(file: &impl Transfer, mut buf: &mut [u8], mut offset: u64) -> Result<()> {
    while !buf.is_empty() {
        match file.read_at(buf, offset) {
            Ok(0) => return Err(Errno::IO),
            Ok(read) => {
                buf = &mut buf[read..];
                offset += read as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Writes all of `buf`.
pub fn write_full(file: &impl Transfer, mut buf: &[u8], mut offset: u64) -> Result<()> {
    while !buf.is_empty() {
        match file.write_at(buf, offset) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => {
                buf = &buf[written..];
                offset += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// A buffer aligned for direct I/O, in a mapping of its own.
#[derive(Debug)]
pub struct Bounce {
    addr: usize,
    len: usize,
}

impl Bounce {
    /// A buffer of at least `len` bytes, of zeroes.
    pub fn new(len: usize) -> Result<Bounce> {
        let len = len.max(1).next_multiple_of(ALIGN);
        let addr = mmap::map_buffer(len)?;
        Ok(Bounce { addr, len })
    }

    /// Gives back the memory of all but the first `keep` bytes; they read as zeroes.
    pub fn shrink(&mut self, keep: usize) {
        let keep = keep.next_multiple_of(ALIGN).min(self.len);
        // What is not given back is used again all the same.
        let _ = mmap::advise(self.addr + keep, self.len - keep, mmap::Advice::DontNeed);
    }

    /// The whole buffer.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping lives as long as `self`, is readable, and all references to it come from here.
        unsafe { core::slice::from_raw_parts(core::ptr::with_exposed_provenance(self.addr), self.len) }
    }

    /// The whole buffer, to write to.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `self` is borrowed mutably.
        unsafe {
            core::slice::from_raw_parts_mut(core::ptr::with_exposed_provenance_mut(self.addr), self.len)
        }
    }

    /// Reads bytes `offset..offset + len` of a file opened for direct I/O, whose size is a multiple of
    /// [`ALIGN`]. EINVAL when the aligned span round them is larger than the buffer.
    pub fn read_direct(&mut self, file: &impl Transfer, offset: u64, len: usize) -> Result<&[u8]> {
        let skip = (offset % ALIGN as u64) as usize;
        let span = (skip + len).next_multiple_of(ALIGN);
        let buf = self.bytes_mut().get_mut(..span).ok_or(Errno::INVAL)?;
        read_full(file, buf, offset - skip as u64)?;
        Ok(&self.bytes()[skip..skip + len])
    }

    /// Writes the first `len` bytes of the buffer, and zeroes after them up to a multiple of [`ALIGN`], to a
    /// file opened for direct I/O. EINVAL when `offset` is not aligned or the buffer is shorter.
    pub fn write_direct(&mut self, file: &impl Transfer, offset: u64, len: usize) -> Result<()> {
        let span = len.next_multiple_of(ALIGN);
        if !offset.is_multiple_of(ALIGN as u64) || span > self.len {
            return Err(Errno::INVAL);
        }
        self.bytes_mut()[len..span].fill(0);
        write_full(file, &self.bytes()[..span], offset)
    }
}

impl Drop for Bounce {
    fn drop(&mut self) {
        // It is the mapping made in `new`, and no reference outlives `self`. A failure would only leak it.
        let _ = mmap::unmap_buffer(self.addr, self.len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::OwnedFd;
    use rustix::fs::{Mode, OFlags};

    /// An unlinked file, for direct I/O where the file system of the test's directory can do it.
    fn file() -> OwnedFd {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::open(".", flags | OFlags::DIRECT, mode)
            .or_else(|_| rustix::fs::open("/tmp", flags, mode))
            .unwrap()
    }

    #[test]
    fn unaligned_reads_find_what_was_written() {
        let file = file();
        let mut bounce = Bounce::new(3 * ALIGN).unwrap();
        for (i, byte) in bounce.bytes_mut().iter_mut().enumerate() {
            *byte = i as u8 ^ (i >> 8) as u8;
        }
        bounce.write_direct(&file, ALIGN as u64, ALIGN + 100).unwrap();
        let mut other = Bounce::new(2 * ALIGN).unwrap();
        let got = other.read_direct(&file, ALIGN as u64 + 4000, 196).unwrap();
        assert_eq!(got, &bounce.bytes()[4000..4196]);
        assert!(other.read_direct(&file, 2 * ALIGN as u64 + 90, 20).unwrap()[10..].iter().all(|b| *b == 0));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let file = file();
        let mut bounce = Bounce::new(ALIGN).unwrap();
        assert_eq!(bounce.write_direct(&file, 16, 16), Err(Errno::INVAL));
        assert_eq!(bounce.write_direct(&file, 0, ALIGN + 1), Err(Errno::INVAL));
        assert_eq!(bounce.read_direct(&file, 16, ALIGN).err(), Some(Errno::INVAL));
        assert_eq!(bounce.read_direct(&file, 0, 16).err(), Some(Errno::IO));
    }
}
