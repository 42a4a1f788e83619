//! What the page table says of one page, as far as a TLB minds.

use quire_core::mmu::Prot;
use quire_core::{Frame, Order, Vpn};

/// The translation of one page, and what lies beside it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Mapping {
    /// The page's frame.
    pub frame: Frame,
    /// The order as which the kernel mapped it: order 9 by one PMD entry, 4..=8 with the mark of contiguous entries
    /// where the architecture has one. A folio that is only numbered together, such as those of the live host,
    /// is base here.
    pub folio: Order,
    /// The largest aligned run round the page whose frames lie side by side, aligned alike, with equal rights:
    /// what hardware can find out from the entries alone. At least `folio`.
    pub span: Order,
}

impl Mapping {
    /// A page of a folio that is mapped whole, and whose neighbours are not looked at.
    pub const fn of_folio(frame: Frame, folio: Order) -> Mapping {
        Mapping { frame, folio, span: folio }
    }

    /// The mapping of page `vpn` by a page table. `entry` gives a page's frame and rights, and `None` where nothing
    /// is present. `folio` is the order as which the page is mapped, `most` the largest span that anybody asks for:
    /// it bounds the work, at most two lookups a page of it.
    ///
    /// `None` when the page itself is not present.
    pub fn found(
        vpn: Vpn,
        folio: Order,
        most: Order,
        entry: impl Fn(Vpn) -> Option<(Frame, Prot)>,
    ) -> Option<Mapping> {
        let (frame, prot) = entry(vpn)?;
        let mut span = folio;
        while span < most && is_run(vpn, span.up(), (frame, prot), &entry) {
            span = span.up();
        }
        Some(Mapping { frame, folio, span })
    }
}

/// Whether the aligned run of `order` round `vpn` is one piece of frames, aligned alike, with the rights of `here`.
fn is_run(
    vpn: Vpn,
    order: Order,
    here: (Frame, Prot),
    entry: &impl Fn(Vpn) -> Option<(Frame, Prot)>,
) -> bool {
    let first = Vpn(order.align_down(vpn.0));
    let into = (vpn.0 - first.0) as u32;
    let (frame, prot) = here;
    let Some(start) = frame.0.checked_sub(into) else { return false };
    start.is_multiple_of(order.pages())
        && (0..order.pages()).all(|i| entry(first.plus(u64::from(i))) == Some((Frame(start + i), prot)))
}
