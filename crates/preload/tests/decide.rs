//! What is managed and what is not, call by call.

#![allow(missing_docs, clippy::tests_outside_test_module)]

#[path = "../src/decide.rs"]
mod decide;

use core::ops::Range;

use decide::{
    MapRoute, PAGE, Parts, RemapRoute, copies_memory, is_within_reach, map, remap, split, split_loosely,
};
use libc::{
    MAP_32BIT, MAP_ANONYMOUS, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_GROWSDOWN, MAP_HUGETLB, MAP_NORESERVE,
    MAP_POPULATE, MAP_PRIVATE, MAP_SHARED, MAP_SHARED_VALIDATE, MAP_STACK, MREMAP_FIXED, MREMAP_MAYMOVE,
};

const ARENA: Range<usize> = 0x10_0000..0x20_0000;
const NONE: Range<usize> = 0..0;
const ANON: i32 = MAP_PRIVATE | MAP_ANONYMOUS;

#[test]
fn private_anonymous_memory_is_managed_of_any_size_and_with_any_hint() {
    for extra in [0, MAP_NORESERVE, MAP_POPULATE] {
        for (addr, len) in [(0, 1), (0, PAGE), (0x7000, 1 << 40), (ARENA.start, PAGE)] {
            assert_eq!(map(addr, len, ANON | extra, &ARENA), MapRoute::Managed);
        }
    }
}

#[test]
fn other_mappings_stay_with_the_kernel() {
    let kinds = [MAP_STACK, MAP_GROWSDOWN, MAP_HUGETLB, MAP_32BIT].map(|flag| ANON | flag);
    let others = [MAP_PRIVATE, MAP_SHARED, MAP_SHARED | MAP_ANONYMOUS, MAP_SHARED_VALIDATE | MAP_ANONYMOUS];
    for flags in kinds.into_iter().chain(others) {
        assert_eq!(map(0, PAGE, flags, &ARENA), MapRoute::Kernel, "flags {flags:#x}");
    }
}

#[test]
fn without_an_arena_all_is_the_kernels() {
    assert_eq!(map(0, PAGE, ANON, &NONE), MapRoute::Kernel);
    assert_eq!(map(0, PAGE, ANON | MAP_FIXED, &NONE), MapRoute::Kernel);
    assert_eq!(split(0, PAGE, &NONE), None);
    assert_eq!(remap(0x1000, PAGE, 0, PAGE, 0, &NONE), RemapRoute::Kernel);
}

#[test]
fn fixed_mappings_are_decided_by_where_they_lie() {
    let fixed = ANON | MAP_FIXED;
    assert_eq!(map(ARENA.end, PAGE, fixed, &ARENA), MapRoute::Kernel);
    assert_eq!(map(ARENA.start - PAGE, PAGE, fixed, &ARENA), MapRoute::Kernel);
    assert_eq!(map(ARENA.start, PAGE, fixed, &ARENA), MapRoute::Fixed);
    assert_eq!(map(ARENA.start - PAGE, PAGE + 1, fixed, &ARENA), MapRoute::Fixed);
    assert_eq!(map(ARENA.start, PAGE, MAP_PRIVATE | MAP_FIXED, &ARENA), MapRoute::Foreign);
    assert_eq!(map(ARENA.start, PAGE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, &ARENA), MapRoute::Foreign);
    assert_eq!(map(ARENA.start, PAGE, fixed | MAP_STACK, &ARENA), MapRoute::Foreign);
}

#[test]
fn what_the_kernel_refuses_is_left_to_it() {
    let fixed = ANON | MAP_FIXED;
    assert_eq!(map(0, 0, ANON, &ARENA), MapRoute::Kernel);
    assert_eq!(map(ARENA.start + 1, PAGE, fixed, &ARENA), MapRoute::Kernel);
    assert_eq!(map(ARENA.start, usize::MAX - PAGE, fixed, &ARENA), MapRoute::Kernel);
    assert_eq!(map(ARENA.start, 1 << 47, fixed, &ARENA), MapRoute::Kernel);
    assert!(is_within_reach(ARENA.start, PAGE) && !is_within_reach(ARENA.start, 1 << 47));
    assert_eq!(map(ARENA.start, PAGE, ANON | MAP_FIXED_NOREPLACE, &ARENA), MapRoute::Kernel);
    assert_eq!(split(ARENA.start + 1, PAGE, &ARENA), None);
    assert_eq!(split(ARENA.start, 0, &ARENA), None);
    assert_eq!(split(ARENA.start, usize::MAX, &ARENA), None);
}

#[test]
fn ranges_are_split_at_the_edges() {
    let (start, end) = (ARENA.start, ARENA.end);
    let inner = Parts {
        before: start..start,
        inside: start..start + 2 * PAGE,
        behind: start + 2 * PAGE..start + 2 * PAGE,
    };
    assert_eq!(split(start, PAGE + 1, &ARENA), Some(inner));
    let across = Parts { before: start - PAGE..start, inside: start..end, behind: end..end + PAGE };
    assert_eq!(split(start - PAGE, end - start + 2 * PAGE, &ARENA), Some(across));
    assert_eq!(split(end, PAGE, &ARENA), None);
    assert_eq!(split(start - PAGE, PAGE, &ARENA), None);
}

#[test]
fn locking_rounds_its_address_down() {
    let parts = split_loosely(ARENA.start + 5, PAGE, &ARENA).unwrap();
    assert_eq!(parts.inside, ARENA.start..ARENA.start + 2 * PAGE);
    assert_eq!(split_loosely(ARENA.start - 5, 5, &ARENA), None);
    assert_eq!(split_loosely(ARENA.start + 5, usize::MAX, &ARENA), None);
}

#[test]
fn moving_is_the_pagers_if_what_moves_is_managed() {
    let (start, end) = (ARENA.start, ARENA.end);
    let to_fixed = MREMAP_MAYMOVE | MREMAP_FIXED;
    assert_eq!(remap(start, PAGE, 0, 2 * PAGE, MREMAP_MAYMOVE, &ARENA), RemapRoute::Managed);
    assert_eq!(remap(start, 0, 0, PAGE, MREMAP_MAYMOVE, &ARENA), RemapRoute::Managed);
    assert_eq!(remap(start, PAGE, end, PAGE, to_fixed, &ARENA), RemapRoute::Managed);
    assert_eq!(remap(start - PAGE, 2 * PAGE, 0, PAGE, MREMAP_MAYMOVE, &ARENA), RemapRoute::Fault);
    assert_eq!(remap(end, PAGE, start, PAGE, to_fixed, &ARENA), RemapRoute::Foreign);
    assert_eq!(remap(end, PAGE, start, PAGE, MREMAP_MAYMOVE, &ARENA), RemapRoute::Kernel);
}

#[test]
fn a_clone_without_shared_memory_is_a_fork() {
    assert!(copies_memory(libc::SIGCHLD as u64));
    assert!(!copies_memory((libc::CLONE_VM | libc::CLONE_VFORK) as u64));
}
