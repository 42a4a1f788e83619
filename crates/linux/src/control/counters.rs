//! What one process counts, in shared memory, and the same as plain numbers for the report.
//!
//! [`Counters`] holds atomics that the process's threads add to with relaxed ordering; [`Totals`] is a copy
//! of them. Every field says by its mark what becomes of it when processes are added up:
//! `sum` adds, `peak` takes the larger, `now` is a present amount that is gone when the process is.

use super::latency;
use super::profile::PHASES;
use crate::sys::shared::shared_layout;
use crate::sys::tally::{Call, Counts};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use quire_core::Order;

/// Folio orders counted apart.
pub const ORDERS: usize = Order::COUNT;
/// Reasons counted apart.
pub const REASONS: usize = 8;

/// Names of the reasons in [`Counters::refusals`], in their order: those of
/// [`Refusal`](quire_core::mmu::Refusal) by index, then anything else.
pub const REFUSALS: [&str; REASONS] =
    ["busy", "denied", "exists", "absent", "no_range", "no_memory", "again", "other"];

/// Names of the reasons in [`Counters::shortfalls`], in their order: those of
/// [`Shortfall`](quire_core::policy::Shortfall) by index, then anything else.
pub const SHORTFALLS: [&str; 5] = ["vma_edge", "neighbour", "pressure", "no_run", "other"];

// The last reason is for anything else.
const _: () = assert!(
    quire_core::mmu::Refusal::COUNT < REASONS && quire_core::policy::Shortfall::COUNT < SHORTFALLS.len()
);

/// An atomic, or an array of them, that can be copied out and added up.
trait Cell {
    type Value: Value;
    fn read(&self) -> Self::Value;
    fn clear(&self);
}

/// A plain number, or an array of them.
trait Value {
    fn merge(&mut self, other: &Self, with: fn(u64, u64) -> u64);
}

impl Cell for AtomicU64 {
    type Value = u64;

    fn read(&self) -> u64 {
        self.load(Relaxed)
    }

    fn clear(&self) {
        self.store(0, Relaxed);
    }
}

impl<const N: usize> Cell for [AtomicU64; N] {
    type Value = [u64; N];

    fn read(&self) -> [u64; N] {
        core::array::from_fn(|index| self[index].load(Relaxed))
    }

    fn clear(&self) {
        self.iter().for_each(|cell| cell.store(0, Relaxed));
    }
}

impl Value for u64 {
    fn merge(&mut self, other: &u64, with: fn(u64, u64) -> u64) {
        *self = with(*self, *other);
    }
}

impl<const N: usize> Value for [u64; N] {
    fn merge(&mut self, other: &[u64; N], with: fn(u64, u64) -> u64) {
        self.iter_mut().zip(other).for_each(|(mine, theirs)| *mine = with(*mine, *theirs));
    }
}

/// Adds up when processes are added up.
fn sum(one: u64, other: u64) -> u64 {
    one.saturating_add(other)
}

/// The larger of two processes' peaks: a bound from below for both together.
fn peak(one: u64, other: u64) -> u64 {
    one.max(other)
}

/// Adds up among the living.
fn now(one: u64, other: u64) -> u64 {
    one.saturating_add(other)
}

/// Writes both structures from one list, so that neither can miss a field of the other.
macro_rules! counters {
    ($($(#[$doc:meta])+ $name:ident: $fold:ident [$cell:ty = $value:ty, $zero:expr],)+) => {
        /// What one process counts. All plain additions, relaxed.
        #[derive(Debug)]
        #[repr(C)]
        pub struct Counters {
            $($(#[$doc])+ pub $name: $cell,)+
        }

        shared_layout!(Counters { $($name),+ });

        /// Counters as plain numbers: a copy of one process's, or a sum.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Totals {
            $($(#[$doc])+ pub $name: $value,)+
        }

        impl Counters {
            /// A copy of every counter. Counters that change meanwhile may be of different moments.
            pub fn read(&self) -> Totals {
                Totals { $($name: Cell::read(&self.$name),)+ }
            }

            /// Sets every counter to zero, for the next process in the account.
            pub fn clear(&self) {
                $(Cell::clear(&self.$name);)+
            }
        }

        impl Totals {
            /// All zero.
            pub const ZERO: Totals = Totals { $($name: $zero,)+ };

            /// Adds another process's counters, each as its mark says.
            pub fn add(&mut self, other: &Totals) {
                $(self.$name.merge(&other.$name, $fold);)+
            }

            /// What remains of a process that has ended: present amounts become zero.
            pub fn without_now(mut self) -> Totals {
                $(counters!(@gone $fold self.$name $zero);)+
                self
            }
        }
    };
    (@gone now $self:ident.$name:ident $zero:expr) => { $self.$name = $zero };
    (@gone $other:ident $self:ident.$name:ident $zero:expr) => {};
}

counters! {
    /// Pages of the pool and of the program that are resident and managed, at present.
    resident_pages: now [AtomicU64 = u64, 0],
    /// The most that [`Self::resident_pages`] has been, in pages.
    peak_resident_pages: peak [AtomicU64 = u64, 0],
    /// The most that pages, store and tables have been together, in bytes.
    peak_managed_bytes: peak [AtomicU64 = u64, 0],
    /// Bytes of the store of compressed folios that are resident, at present.
    store_bytes: now [AtomicU64 = u64, 0],
    /// The most that [`Self::store_bytes`] has been, in bytes.
    peak_store_bytes: peak [AtomicU64 = u64, 0],
    /// Bytes of Quire's own tables and heap, at present.
    table_bytes: now [AtomicU64 = u64, 0],
    /// The most that [`Self::table_bytes`] has been, in bytes.
    peak_table_bytes: peak [AtomicU64 = u64, 0],
    /// Bytes in live extents of the spill file, at present.
    spill_bytes: now [AtomicU64 = u64, 0],
    /// The most that [`Self::spill_bytes`] has been, in bytes.
    peak_spill_bytes: peak [AtomicU64 = u64, 0],
    /// Folios filled with zeroes by a fault, by order.
    fills: sum [[AtomicU64; ORDERS] = [u64; ORDERS], [0; ORDERS]],
    /// Pages taken over from the kernel when processes woke.
    adopted_pages: sum [AtomicU64 = u64, 0],
    /// Folios brought in from the store or the spill file, by order.
    swap_ins: sum [[AtomicU64; ORDERS] = [u64; ORDERS], [0; ORDERS]],
    /// Folios put back from standby, their frames intact, by order.
    rescues: sum [[AtomicU64; ORDERS] = [u64; ORDERS], [0; ORDERS]],
    /// Folios moved out of the program, by order: into standby, from where they may be rescued.
    evictions: sum [[AtomicU64; ORDERS] = [u64; ORDERS], [0; ORDERS]],
    /// Folios whose contents were stored as a unit, by order.
    swap_outs: sum [[AtomicU64; ORDERS] = [u64; ORDERS], [0; ORDERS]],
    /// Pages moved out by the service thread, off the fault path.
    evicted_behind_pages: sum [AtomicU64 = u64, 0],
    /// Pages moved out by a thread that served a fault meanwhile.
    evicted_in_fault_pages: sum [AtomicU64 = u64, 0],
    /// Pages whose contents were written to the store.
    stored_pages: sum [AtomicU64 = u64, 0],
    /// Bytes that went into compression.
    compressed_in_bytes: sum [AtomicU64 = u64, 0],
    /// Bytes that came out of compression.
    compressed_out_bytes: sum [AtomicU64 = u64, 0],
    /// Pages dropped at eviction because the stored copy was still good.
    unchanged_pages: sum [AtomicU64 = u64, 0],
    /// Pages dropped at eviction because every byte was zero.
    zero_pages: sum [AtomicU64 = u64, 0],
    /// Pages written to the spill file.
    spilled_pages: sum [AtomicU64 = u64, 0],
    /// Bytes written to the spill file.
    spilled_bytes: sum [AtomicU64 = u64, 0],
    /// Pages read back from the spill file.
    spill_read_pages: sum [AtomicU64 = u64, 0],
    /// Pages that the kernel refused to move, by reason ([`REFUSALS`]).
    refusals: sum [[AtomicU64; REASONS] = [u64; REASONS], [0; REASONS]],
    /// Faults that got a smaller folio than the policy wanted, by reason ([`SHORTFALLS`]).
    shortfalls: sum [[AtomicU64; REASONS] = [u64; REASONS], [0; REASONS]],
    /// Faults that waited for a frame.
    waits: sum [AtomicU64 = u64, 0],
    /// Nanoseconds that faults waited for frames, all together.
    wait_ns: sum [AtomicU64 = u64, 0],
    /// The longest wait for a frame, in nanoseconds.
    wait_max_ns: peak [AtomicU64 = u64, 0],
    /// Faults by the time from message to wake, in the buckets of [`latency`].
    latency: sum [[AtomicU64; latency::BUCKETS] = [u64; latency::BUCKETS], [0; latency::BUCKETS]],
    /// Faults that found their page present already: only woken.
    late_faults: sum [AtomicU64 = u64, 0],
    /// Faults that joined a fill already under way.
    joined_faults: sum [AtomicU64 = u64, 0],
    /// Folios split into smaller ones.
    splits: sum [AtomicU64 = u64, 0],
    /// Folios found sparse, and split for it.
    sparse_folios: sum [AtomicU64 = u64, 0],
    /// Pages of sparse folios that were given back.
    sparse_pages: sum [AtomicU64 = u64, 0],
    /// Runs of small folios that became one, by its order.
    collapses: sum [[AtomicU64; ORDERS] = [u64; ORDERS], [0; ORDERS]],
    /// Pages whose frames were vacated.
    compacted_pages: sum [AtomicU64 = u64, 0],
    /// Pages that had vanished or appeared behind the engine's back.
    foreign_pages: sum [AtomicU64 = u64, 0],
    /// Folios left resident because no store could take them.
    unstorable_folios: sum [AtomicU64 = u64, 0],
    /// Jobs that came back with a void ticket.
    jobs_voided: sum [AtomicU64 = u64, 0],
    /// The most pages that the process held beyond its grant.
    over_grant_pages: peak [AtomicU64 = u64, 0],
    /// Blocks whose checksum did not match.
    checksum_errors: sum [AtomicU64 = u64, 0],
    /// Reads and writes of the spill file that failed.
    spill_errors: sum [AtomicU64 = u64, 0],
    /// Other errors that were survived; each was also said in a message.
    errors: sum [AtomicU64 = u64, 0],
    /// 1 in a process that came from a fork without exec: it evicts nothing.
    forked: sum [AtomicU64 = u64, 0],
    /// With a profile: faults that were measured, all that were answered.
    profiled_faults: sum [AtomicU64 = u64, 0],
    /// With a profile: what they took, in ns, from the wake of the handler that read the message to the wake of the thread.
    profiled_ns: sum [AtomicU64 = u64, 0],
    /// With a profile: the parts of that, in ns, by [`Phase`](super::profile::Phase).
    phase_ns: sum [[AtomicU64; PHASES] = [u64; PHASES], [0; PHASES]],
    /// With a profile: system calls of the pager's threads, by [`Call`].
    calls: sum [Counts = [u64; Call::ALL.len()], [0; Call::ALL.len()]],
    /// With a profile: reads of spill files.
    disk_reads: sum [AtomicU64 = u64, 0],
    /// With a profile: bytes that these read.
    disk_read_bytes: sum [AtomicU64 = u64, 0],
}

impl Counters {
    /// Counts one fault that took `nanoseconds` from its message to the wake.
    pub fn count_fault(&self, nanoseconds: u64) {
        self.latency[latency::bucket(nanoseconds)].fetch_add(1, Relaxed);
    }

    /// Counts one fault that waited `nanoseconds` for a frame.
    pub fn count_wait(&self, nanoseconds: u64) {
        self.waits.fetch_add(1, Relaxed);
        self.wait_ns.fetch_add(nanoseconds, Relaxed);
        self.wait_max_ns.fetch_max(nanoseconds, Relaxed);
    }

    /// Resident bytes that Quire manages: pages, store and tables.
    pub fn managed_bytes(&self) -> u64 {
        self.resident_pages.load(Relaxed) * quire_core::PAGE_SIZE as u64
            + self.store_bytes.load(Relaxed)
            + self.table_bytes.load(Relaxed)
    }
}

impl Totals {
    /// Faults counted.
    pub fn faults(&self) -> u64 {
        self.latency.iter().sum()
    }
}

/// Sets a counter to a present amount and keeps its peak.
pub fn set_now(counter: &AtomicU64, peak: &AtomicU64, amount: u64) {
    counter.store(amount, Relaxed);
    // The peak is rarely beaten, and a load is cheaper than an atomic maximum.
    if amount > peak.load(Relaxed) {
        peak.fetch_max(amount, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_fold_by_their_mark() {
        let mut one = Totals::ZERO;
        (one.resident_pages, one.peak_resident_pages, one.waits) = (5, 7, 3);
        one.fills[2] = 4;
        let mut two = one.clone();
        two.peak_resident_pages = 9;
        one.add(&two);
        assert_eq!((one.resident_pages, one.peak_resident_pages, one.waits, one.fills[2]), (10, 9, 6, 8));
        let gone = one.without_now();
        assert_eq!((gone.resident_pages, gone.peak_resident_pages, gone.waits), (0, 9, 6));
    }

    #[test]
    fn reasons_are_named_by_the_engines_index() {
        for refusal in quire_core::mmu::Refusal::ALL {
            let name = REFUSALS[refusal.index()].replace('_', "");
            assert_eq!(name, format!("{refusal:?}").to_lowercase());
        }
        for shortfall in quire_core::policy::Shortfall::ALL {
            let name = SHORTFALLS[shortfall.index()].replace('_', "");
            assert_eq!(name, format!("{shortfall:?}").to_lowercase());
        }
    }
}
