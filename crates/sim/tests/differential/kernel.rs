//! The kernel's side: a live host's verbs on a piece of an arena, and memory read and written through
//! `/proc/PID/mem`, which raises no message where there is a hole.

use crate::ops::{ARENA, POOL};
use quire_core::mmu::{Done, Mmu, Mover, Prot};
use quire_core::{Frame, FrameRun, PAGE_SIZE, PageRange, Space, Vpn};
use quire_linux::mmu::LinuxMmu;
use quire_linux::places::Places;
use quire_linux::sys::pagemap::Pagemap;
use quire_linux::sys::uffd::{FEATURE_MOVE, Faults, Uffd};
use quire_linux::sys::{Errno, Result, mmap};
use rustix::process::{Pid, Signal, WaitOptions};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Pages from the start of one window to that of the next: between them is memory without access.
const STRIDE: u64 = ARENA * 4;
/// Windows in the addresses of one page table, the first of which is not used but for that table.
const WINDOWS: u64 = 512 / STRIDE;

/// The memory of a process, by its file in `/proc`.
#[derive(Debug)]
pub(crate) struct Memory(File);

impl Memory {
    fn open(process: &str) -> Memory {
        let path = format!("/proc/{process}/mem");
        Memory(File::options().read(true).write(true).open(&path).expect(&path))
    }

    /// The version that the page at `addr` holds; `None` for a hole that is registered.
    ///
    /// # Panics
    /// When the page holds bytes of two versions.
    pub(crate) fn read(&self, addr: usize) -> Option<u64> {
        let mut page = [0; PAGE_SIZE];
        self.0.read_exact_at(&mut page, addr as u64).ok()?;
        let value = u64::from_le_bytes(*page.first_chunk().expect("a page is longer"));
        assert_eq!(page, bytes_of(value), "a page of two versions at {addr:#x}");
        Some(value)
    }

    /// Writes every byte of the page at `addr`. Whether it could.
    pub(crate) fn write(&self, addr: usize, value: u64) -> bool {
        self.0.write_all_at(&bytes_of(value), addr as u64).is_ok()
    }
}

/// A page of version `value`: every word differs, and those of version 0 are zeroes.
fn bytes_of(value: u64) -> [u8; PAGE_SIZE] {
    let mut page = [0; PAGE_SIZE];
    for (i, word) in page.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&value.wrapping_mul(i as u64 * 2 + 1).to_le_bytes());
    }
    page
}

/// A live host's arena, pool and descriptors in this process.
#[derive(Debug)]
pub(crate) struct Kernel {
    places: Places,
    uffd: Uffd,
    pagemap: Pagemap,
    memory: Memory,
    windows: u64,
}

impl Kernel {
    pub(crate) fn new() -> Result<Kernel> {
        let uffd = Uffd::with_features(FEATURE_MOVE, 0)?;
        let places = Places::reserve(POOL, 1)?;
        places.register(&uffd)?;
        Ok(Kernel { places, uffd, pagemap: Pagemap::open()?, memory: Memory::open("self"), windows: 0 })
    }

    /// A piece of the arena that was never used, and an empty pool.
    ///
    /// Where a source page is a hole and its destination is present, the kernel minds the hole first if the source
    /// has no page table yet, and the destination otherwise. So there are page tables from the start.
    pub(crate) fn window(&mut self) -> Window<'_> {
        self.windows += 1;
        if self.windows % WINDOWS <= 1 {
            self.windows = self.windows.next_multiple_of(WINDOWS) + 1;
            self.make_table(self.base(self.windows - 1));
        }
        let window = Window { kernel: self, base: self.base(self.windows) };
        window.mmu().release(FrameRun::new(Frame(0), POOL));
        window
    }

    fn base(&self, window: u64) -> Vpn {
        self.places.arena(Space(0)).start.plus(window * STRIDE)
    }

    /// Makes the page tables of the pool and of the 2 MiB from `vpn` on. That page stays a VMA of its own.
    fn make_table(&self, vpn: Vpn) {
        let mut mmu = LinuxMmu::for_pager(&self.places, &self.uffd, &self.pagemap);
        let page = PageRange::new(Space(0), vpn, 1);
        mmu.protect(page, Prot::READ).expect("the arena is ours");
        assert_eq!(mmu.copy_in(FrameRun::new(Frame(0), 1), Space(0), vpn), Done::all(1));
        mmu.discard(page).expect("the arena is ours");
        for frame in (0..POOL).map(Frame) {
            self.memory.read(self.places.frame_addr(frame).expect("the pool has it"));
        }
    }
}

/// A piece of the arena, [`ARENA`] pages long. It is given back in the end, as fresh as it was.
#[derive(Debug)]
pub(crate) struct Window<'a> {
    kernel: &'a Kernel,
    base: Vpn,
}

impl Window<'_> {
    /// The verbs.
    pub(crate) fn mmu(&self) -> LinuxMmu<'_> {
        LinuxMmu::for_pager(&self.kernel.places, &self.kernel.uffd, &self.kernel.pagemap)
    }

    /// Where page `vpn` of the window is.
    pub(crate) fn page(&self, vpn: Vpn) -> Vpn {
        self.base.plus(vpn.0)
    }

    /// The byte address of page `vpn`.
    pub(crate) fn addr(&self, vpn: Vpn) -> usize {
        self.page(vpn).addr() as usize
    }

    /// The byte address of a frame.
    pub(crate) fn frame_addr(&self, frame: Frame) -> usize {
        self.kernel.places.frame_addr(frame).expect("the pool has it")
    }

    /// What each of `pages` pages from `addr` holds; a hole is not read, for that might fill it.
    pub(crate) fn contents(&self, addr: usize, pages: u64) -> impl Iterator<Item = Option<u64>> + '_ {
        let mut bits = [0];
        self.kernel.pagemap.scan(addr, pages as usize, &mut bits).expect("pagemap can be read");
        (0..pages as usize).map(move |i| {
            let present = bits[0] >> i & 1 == 1;
            present.then(|| self.memory().read(addr + i * PAGE_SIZE).expect("it is present"))
        })
    }

    /// The memory of this process.
    pub(crate) fn memory(&self) -> &Memory {
        &self.kernel.memory
    }
}

impl Drop for Window<'_> {
    fn drop(&mut self) {
        let (addr, len) = (self.addr(Vpn(0)), ARENA as usize * PAGE_SIZE);
        mmap::replace(addr, len).expect("the arena is ours");
        mmap::protect(addr, len, 0).expect("it is mapped");
        self.kernel.uffd.register(addr, len, Faults::Missing).expect("it was registered");
    }
}

/// A forked child that does nothing, until it is told to end.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    memory: Memory,
}

impl Child {
    pub(crate) fn fork() -> Child {
        // SAFETY: the child calls nothing but `prctl` and `pause`, which need no state of libc's.
        let pid = match unsafe { libc::fork() } {
            0 => loop {
                // SAFETY: as above; a child whose parent is gone ends.
                unsafe {
                    libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                    libc::pause();
                }
            },
            pid => Pid::from_raw(pid).expect("fork works"),
        };
        Child { pid, memory: Memory::open(&pid.as_raw_nonzero().to_string()) }
    }

    /// The memory of the child.
    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        rustix::process::kill_process(self.pid, Signal::KILL).expect("the child is ours");
        while let Err(Errno::INTR) = rustix::process::waitpid(Some(self.pid), WaitOptions::empty()) {}
    }
}
