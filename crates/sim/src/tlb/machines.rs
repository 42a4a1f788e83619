//! The machines that are modelled, with the tables that their numbers are from.

use super::level::{Full, Sets, Split};
use super::two_level::{Needs, Size, TwoLevel};
use super::{NoTlb, Tlb};
use core::fmt;
use core::str::FromStr;
use quire_core::Order;

/// Which TLB.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Model {
    /// None: translation is free. `none`
    None,
    /// AMD Zen 3 (EPYC 7003, Ryzen 5000). `zen3`
    ///
    /// First level: 64 entries, fully associative, of all sizes. Second level: 2048 entries, 8-way, for 4 KiB and
    /// 2 MiB. One entry of either level serves 16 KiB where the 4 pages of an aligned group lie side by side in
    /// memory, aligned alike and with equal rights: the hardware finds that out when it walks, no software marks it.
    ///
    /// *AMD: Software Optimization Guide for the AMD Family 19h Processors (56665), address translation.* The
    /// numbers agree with what CPUID says on such a processor (EPYC, family 19h model 1; functions 8000_0005h and
    /// 8000_0006h of AMD's Programmer's Manual, volume 3, 24594): first level 64 for 4 KiB and for 2 MiB, fully
    /// associative; second level 2048, 8-way for 4 KiB and 4-way for 2 MiB. The different ways say that the
    /// second level is skewed, each size with ways of its own. Here it is one plain array with 8 ways for all sizes.
    Zen3,
    /// Arm Neoverse N1 with Linux's contpte. `neoverse-n1`
    ///
    /// First level: 48 entries, fully associative, of all sizes. Second level: 1280 entries, 5-way, of all sizes. One
    /// entry serves 64 KiB where the kernel set the contiguous bit in 16 entries, as Linux does for folios of 64 KiB
    /// and more (`arch/arm64/mm/contpte.c`).
    ///
    /// *Arm: Neoverse N1 Core Technical Reference Manual (100616), TLB organization*, the same arrays as in the
    /// Cortex-A76 manual (100798, section A5.2), where first-level entries have 4, 16, 64 KiB, 2 and 512 MiB. The
    /// second level also serves instructions, which are not modelled.
    NeoverseN1,
    /// Intel Skylake, client and server. `skylake`
    ///
    /// First level: 64 entries, 4-way, for 4 KiB, and beside them 32 entries, 4-way, for 2 MiB. Second level: 1536
    /// entries, 12-way, for both. Only a PMD entry covers more than a page.
    ///
    /// *Intel: 64 and IA-32 Architectures Optimization Reference Manual (248966), TLB Parameters of the Skylake Client
    /// Microarchitecture.* The second level's set is the exclusive or of two groups of 7 bits of the page number, as
    /// measured by Gras, Razavi, Bos and Giuffrida: *Translation Leak-aside Buffer*, USENIX Security 2018. It also
    /// serves instructions, which are not modelled.
    Skylake,
}

/// Work with a TLB whose kind the compiler knows, so that no access is a call.
pub trait UseTlb {
    /// What comes of it.
    type Output;

    /// Does the work.
    fn with<T: Tlb>(self, tlb: T) -> Self::Output;
}

const BASE: Size = Size { order: Order::BASE, needs: Needs::Span };
const PMD: Size = Size { order: Order::MAX, needs: Needs::Folio };

/// 4 pages that the hardware coalesces.
const ZEN3: &[Size] = &[BASE, Size { order: Order::fitting(4), needs: Needs::Span }, PMD];
/// 16 pages that the kernel marks.
const NEOVERSE_N1: &[Size] = &[BASE, Size { order: Order::fitting(16), needs: Needs::Folio }, PMD];
const SKYLAKE: &[Size] = &[BASE, PMD];

impl Model {
    /// Every model.
    pub const ALL: [Model; 4] = [Model::None, Model::Zen3, Model::NeoverseN1, Model::Skylake];

    /// Its name on a command line.
    pub const fn name(self) -> &'static str {
        match self {
            Model::None => "none",
            Model::Zen3 => "zen3",
            Model::NeoverseN1 => "neoverse-n1",
            Model::Skylake => "skylake",
        }
    }

    /// The largest [`span`](super::Mapping::span) that makes a difference: more need not be looked for.
    pub const fn coalesces(self) -> Order {
        match self {
            Model::Zen3 => Order::fitting(4),
            Model::None | Model::NeoverseN1 | Model::Skylake => Order::BASE,
        }
    }

    /// Gives such a TLB, with nothing in it, to who works with any kind of them.
    pub fn give_to<U: UseTlb>(self, user: U) -> U::Output {
        match self {
            Model::None => user.with(NoTlb::default()),
            Model::Zen3 => user.with(zen3()),
            Model::NeoverseN1 => user.with(neoverse_n1()),
            Model::Skylake => user.with(skylake()),
        }
    }

    /// Such a TLB, with nothing in it.
    pub fn build(self) -> Box<dyn Tlb> {
        match self {
            Model::None => Box::new(NoTlb::default()),
            Model::Zen3 => Box::new(zen3()),
            Model::NeoverseN1 => Box::new(neoverse_n1()),
            Model::Skylake => Box::new(skylake()),
        }
    }
}

pub(super) fn zen3() -> TwoLevel<Full<64>, Sets<8>> {
    TwoLevel::new(Full::new(), Sets::new(2048 / 8), ZEN3)
}

pub(super) fn neoverse_n1() -> TwoLevel<Full<48>, Sets<5>> {
    TwoLevel::new(Full::new(), Sets::new(1280 / 5), NEOVERSE_N1)
}

pub(super) fn skylake() -> TwoLevel<Split<Sets<4>, Sets<4>>, Sets<12>> {
    let l1 = Split { small: Sets::new(64 / 4), large: Sets::new(32 / 4) };
    TwoLevel::new(l1, Sets::folded(1536 / 12, 7), SKYLAKE)
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that no model has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownModel;

impl fmt::Display for UnknownModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no such TLB: there are {}", Model::ALL.map(Model::name).join(", "))
    }
}

impl std::error::Error for UnknownModel {}

impl FromStr for Model {
    type Err = UnknownModel;

    fn from_str(name: &str) -> Result<Model, UnknownModel> {
        Model::ALL.into_iter().find(|m| m.name() == name).ok_or(UnknownModel)
    }
}
