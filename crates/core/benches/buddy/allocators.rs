//! The allocators that are compared, behind one trait.

use buddy_system_allocator::FrameAllocator;
use frame_alloc::{
    InitError, PageSize, PhysRange, PhysicalAllocator, Provenance, RegionInit, SummaryBuddyAllocator,
};
use quire_core::frame::Buddy;
use quire_core::{Frame, FrameRun, Order, OrderSet};
use std::num::NonZeroUsize;
use std::ptr::NonNull;

/// What every allocator can do. A frame is a number.
pub(crate) trait Frames {
    const NAME: &'static str;

    fn alloc(&mut self, order: Order) -> Option<u32>;
    fn free(&mut self, frame: u32, order: Order);

    /// The largest folio whose order is in `set`. Where a crate has no such call, its user tries order by order.
    #[inline]
    fn alloc_largest(&mut self, set: OrderSet) -> Option<(u32, Order)> {
        set.iter().rev().find_map(|order| Some((self.alloc(order)?, order)))
    }
}

/// Ours, asked for one order each time.
pub(crate) struct Ours(Buddy);

impl Ours {
    pub(crate) fn new(frames: u32) -> Ours {
        let mut buddy = Buddy::new(frames);
        buddy.free_run(FrameRun::new(Frame(0), frames));
        Ours(buddy)
    }
}

impl Frames for Ours {
    const NAME: &'static str = "quire";

    #[inline]
    fn alloc(&mut self, order: Order) -> Option<u32> {
        self.0.alloc(OrderSet::only(order)).map(|(frame, _)| frame.0)
    }

    #[inline]
    fn free(&mut self, frame: u32, order: Order) {
        self.0.free(Frame(frame), order);
    }
}

/// Ours, asked once for the largest of a set.
pub(crate) struct OneCall(pub(crate) Ours);

impl Frames for OneCall {
    const NAME: &'static str = "quire, one call";

    #[inline]
    fn alloc(&mut self, order: Order) -> Option<u32> {
        self.0.alloc(order)
    }

    #[inline]
    fn free(&mut self, frame: u32, order: Order) {
        self.0.free(frame, order);
    }

    #[inline]
    fn alloc_largest(&mut self, set: OrderSet) -> Option<(u32, Order)> {
        self.0.0.alloc(set).map(|(frame, order)| (frame.0, order))
    }
}

/// `buddy_system_allocator`: a B-tree of free units for each order.
pub(crate) struct BuddySystem(FrameAllocator<{ Order::COUNT }>);

impl BuddySystem {
    pub(crate) fn new(frames: u32) -> BuddySystem {
        let mut allocator = FrameAllocator::new();
        allocator.add_frame(0, frames as usize);
        BuddySystem(allocator)
    }
}

impl Frames for BuddySystem {
    const NAME: &'static str = "buddy_system_allocator";

    #[inline]
    fn alloc(&mut self, order: Order) -> Option<u32> {
        self.0.alloc(order.pages() as usize).map(|frame| frame as u32)
    }

    #[inline]
    fn free(&mut self, frame: u32, order: Order) {
        self.0.dealloc(frame as usize, order.pages() as usize);
    }
}

/// `frame-alloc`'s `SummaryBuddyAllocator`: a bitmap for each order, with atomics. It keeps the bitmaps in frames of its
/// own, which here lie below those that it hands out.
pub(crate) struct FrameAlloc(SummaryBuddyAllocator<{ Order::COUNT }, Bitmaps>);

/// Frames for its bitmaps; those that it hands out begin here, so that they are aligned.
const HEAD: usize = Order::MAX.pages() as usize;
const PAGE: usize = Order::BASE.bytes();
const ONE: NonZeroUsize = NonZeroUsize::MIN;

struct Bitmaps;

#[repr(align(4096))]
struct Memory([u8; HEAD * PAGE]);

// SAFETY: the allocator asks once, for the memory of its bitmaps, and never touches what it hands out. What it gets is
// its own, zeroed, lives for ever, and is larger than the range that it believes to be at that address.
unsafe impl Provenance for Bitmaps {
    unsafe fn create(_: usize) -> NonNull<u8> {
        let memory: &'static mut Memory = Box::leak(Box::new(Memory([0; HEAD * PAGE])));
        NonNull::from(&mut memory.0).cast()
    }

    unsafe fn destroy<T>(pointer: NonNull<T>) -> usize {
        pointer.addr().get()
    }
}

impl FrameAlloc {
    pub(crate) fn new(frames: u32) -> FrameAlloc {
        let allocator = SummaryBuddyAllocator::new(PageSize::from_log2(12));
        let span = (HEAD + frames as usize) * PAGE;
        let handed_out = PhysRange { base: HEAD * PAGE, len: frames as usize * PAGE };
        // It says how much it needs for itself when that is not there.
        let too_little = [PhysRange { base: 0, len: PAGE }];
        // SAFETY: the addresses are numbers, see `Bitmaps`; nothing else uses this allocator.
        let required = match unsafe { allocator.try_init(0, span, &too_little) } {
            Err(InitError::MetadataWontFit { required_bytes }) => required_bytes.next_multiple_of(PAGE),
            other => panic!("frame-alloc says {other:?}"),
        };
        assert!(required <= HEAD * PAGE, "{required} bytes of bitmaps");
        let own = PhysRange { base: 0, len: required };
        // SAFETY: as above.
        unsafe { allocator.init(0, span, &[own, handed_out]) };
        FrameAlloc(allocator)
    }
}

impl Frames for FrameAlloc {
    const NAME: &'static str = "frame-alloc";

    #[inline]
    fn alloc(&mut self, order: Order) -> Option<u32> {
        let size = PageSize::from_log2(12 + order.index() as u8);
        self.0.allocate_physical(size, ONE).ok().map(|address| (address / PAGE - HEAD) as u32)
    }

    #[inline]
    fn free(&mut self, frame: u32, order: Order) {
        let size = PageSize::from_log2(12 + order.index() as u8);
        // SAFETY: callers give back what `alloc` gave them, once.
        unsafe { self.0.deallocate_physical(size, ONE, (frame as usize + HEAD) * PAGE) };
    }
}

/// Hands out everything at once: what the harness costs.
pub(crate) struct Nothing;

impl Frames for Nothing {
    const NAME: &'static str = "(the harness alone)";

    #[inline]
    fn alloc(&mut self, _: Order) -> Option<u32> {
        Some(0)
    }

    #[inline]
    fn free(&mut self, _: u32, _: Order) {}
}
