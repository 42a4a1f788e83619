//! What is managed and what is not, call by call.

#![allow(missing_docs, clippy::tests_outside_test_module)]

#[path = "../src/decide.rs"]
mod decide;

use core::ops::Range;

use decide::{
    MapRoute, PAGE, Parts, Remap, RemapRoute, are_rights, copies_memory, has_gap, is_within_reach, remap,
    split, split_loosely,
};
use libc::{
    MAP_32BIT, MAP_ANONYMOUS, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_GROWSDOWN, MAP_HUGETLB, MAP_NORESERVE,
    MAP_POPULATE, MAP_PRIVATE, MAP_SHARED, MAP_SHARED_VALIDATE, MAP_STACK, MREMAP_DONTUNMAP, MREMAP_FIXED,
    MREMAP_MAYMOVE,
};

const ARENA: Range<usize> = 0x10_0000..0x20_0000;
const NONE: Range<usize> = 0..0;
const ANON: i32 = MAP_PRIVATE | MAP_ANONYMOUS;

/// Without code anywhere.
fn map(addr: usize, len: usize, flags: i32, arena: &Range<usize>) -> MapRoute {
    decide::map(addr, len, flags, arena, &[])
}

fn mremap(old: usize, old_len: usize, new: usize, new_len: usize, flags: i32) -> RemapRoute {
    remap(&Remap { old, old_len, new_len, flags, new_addr: new }, &ARENA)
}

#[test]
fn private_anonymous_memory_is_managed_of_any_size_and_with_any_hint() {
    for extra in [0, MAP_NORESERVE, MAP_POPULATE] {
        for (addr, len) in [(0, 1), (0, PAGE), (0x7000, 1 << 40), (ARENA.end, PAGE)] {
            assert_eq!(map(addr, len, ANON | extra, &ARENA), MapRoute::Managed);
        }
    }
}

#[test]
fn hints_in_the_arena_are_obeyed_for_whoever_serves() {
    let (start, last) = (ARENA.start, ARENA.end - PAGE);
    for addr in [start, start + 17, last, last + 1] {
        assert_eq!(map(addr, PAGE, ANON, &ARENA), MapRoute::Hinted);
        assert_eq!(map(addr, PAGE, MAP_SHARED | MAP_ANONYMOUS, &ARENA), MapRoute::ForeignHinted);
    }
    assert_eq!(map(last, PAGE + 1, ANON, &ARENA), MapRoute::Managed);
    assert_eq!(map(start, PAGE, ANON | MAP_STACK, &ARENA), MapRoute::ForeignHinted);
    for flag in [MAP_32BIT, MAP_GROWSDOWN, MAP_HUGETLB] {
        assert_eq!(map(start, PAGE, ANON | flag, &ARENA), MapRoute::Kernel);
    }
}

#[test]
fn hints_within_a_jump_of_code_are_the_kernels_to_obey() {
    let text = 0x5555_0000_0000..0x5555_0010_0000;
    let route = |addr, len, flags| decide::map(addr, len, flags, &ARENA, &[0..0, text.clone()]);
    let jump = 1 << 31;
    for addr in [text.start - jump + (2 << 20), text.start - PAGE, text.end, text.start + jump - 2 * PAGE] {
        assert_eq!(route(addr, PAGE, ANON), MapRoute::NearCode, "{addr:#x}");
    }
    for addr in [0, text.start - jump, text.end - jump - PAGE, text.start + jump, 0x7000] {
        assert_eq!(route(addr, PAGE, ANON), MapRoute::Managed, "{addr:#x}");
    }
    // What is longer than a jump is a heap.
    assert_eq!(route(text.end, 1 << 32, ANON), MapRoute::Managed);
    assert_eq!(route(text.end, PAGE, MAP_SHARED), MapRoute::Kernel);
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
    let call = Remap { old: 0x1000, old_len: PAGE, new_len: PAGE, flags: 0, new_addr: 0 };
    assert_eq!(remap(&call, &NONE), RemapRoute::Kernel);
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
    let free = ANON | MAP_FIXED_NOREPLACE;
    assert_eq!(map(ARENA.start - PAGE, 2 * PAGE, free, &ARENA), MapRoute::Kernel);
    assert_eq!(map(ARENA.start, PAGE, free, &ARENA), MapRoute::FixedFree);
    assert_eq!(map(ARENA.start, PAGE, free | MAP_FIXED, &ARENA), MapRoute::FixedFree);
    assert_eq!(map(ARENA.start, PAGE, MAP_SHARED | MAP_FIXED_NOREPLACE, &ARENA), MapRoute::ForeignFree);
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
fn moving_is_the_pagers_if_what_moves_is_in_the_arena() {
    let (start, end) = (ARENA.start, ARENA.end);
    let to_fixed = MREMAP_MAYMOVE | MREMAP_FIXED;
    assert_eq!(mremap(start, PAGE, 0, 2 * PAGE, MREMAP_MAYMOVE), RemapRoute::Inside);
    assert_eq!(mremap(start, PAGE, end, PAGE, to_fixed), RemapRoute::Inside);
    assert_eq!(mremap(start, 1, 0, 1, 0), RemapRoute::Inside);
    assert_eq!(mremap(start - PAGE, 2 * PAGE, 0, PAGE, MREMAP_MAYMOVE), RemapRoute::Fault);
    assert_eq!(mremap(end, PAGE, start, PAGE, to_fixed), RemapRoute::Foreign);
    assert_eq!(mremap(end, PAGE, start, PAGE, MREMAP_MAYMOVE), RemapRoute::Kernel);
    assert_eq!(mremap(start, PAGE, end, PAGE, to_fixed | MREMAP_DONTUNMAP), RemapRoute::Inside);
}

#[test]
fn moves_that_the_kernel_refuses_for_their_arguments_are_left_to_it() {
    let start = ARENA.start;
    let to_fixed = MREMAP_MAYMOVE | MREMAP_FIXED;
    let refused = [
        (start + 1, PAGE, 0, PAGE, MREMAP_MAYMOVE),
        (start, PAGE, 0, 0, MREMAP_MAYMOVE),
        (start, PAGE, 0, usize::MAX, MREMAP_MAYMOVE),
        (start, PAGE, 0, 1 << 47, MREMAP_MAYMOVE),
        (start, PAGE, 0, PAGE, 8),
        (start, PAGE, start + PAGE, PAGE, MREMAP_FIXED),
        (start, PAGE, start + PAGE + 1, PAGE, to_fixed),
        (start, 2 * PAGE, start + PAGE, 2 * PAGE, to_fixed),
        (start, PAGE, usize::MAX - PAGE + 1, PAGE, to_fixed),
        (start, PAGE, 0, PAGE, MREMAP_DONTUNMAP),
        (start, PAGE, 0, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP),
    ];
    for (old, old_len, new, new_len, flags) in refused {
        assert_eq!(
            mremap(old, old_len, new, new_len, flags),
            RemapRoute::Kernel,
            "{old:#x} {new:#x} {flags}"
        );
    }
}

#[test]
fn a_clone_without_shared_memory_is_a_fork() {
    assert!(copies_memory(libc::SIGCHLD as u64));
    assert!(!copies_memory((libc::CLONE_VM | libc::CLONE_VFORK) as u64));
}

#[test]
fn moves_of_no_length_or_of_one_that_nothing_has_are_told_apart() {
    let (start, end) = (ARENA.start, ARENA.end);
    for len in [0, usize::MAX, 1 << 47] {
        assert_eq!(mremap(start, len, 0, PAGE, MREMAP_MAYMOVE), RemapRoute::Unsized, "{len:#x}");
    }
    assert_eq!(mremap(start, 0, start, PAGE, MREMAP_FIXED | MREMAP_MAYMOVE), RemapRoute::Unsized);
    assert_eq!(mremap(end, 0, start, PAGE, MREMAP_FIXED | MREMAP_MAYMOVE), RemapRoute::Foreign);
    assert_eq!(mremap(end, 0, end + PAGE, PAGE, MREMAP_FIXED | MREMAP_MAYMOVE), RemapRoute::Kernel);
    assert_eq!(mremap(start, PAGE, 0, usize::MAX, MREMAP_MAYMOVE), RemapRoute::Kernel);
}

#[test]
fn rights_are_those_that_mprotect_knows() {
    assert!(are_rights(libc::PROT_NONE) && are_rights(7) && are_rights(8));
    assert!(!are_rights(0x10) && !are_rights(libc::PROT_GROWSDOWN) && !are_rights(i32::MIN));
}

#[test]
fn a_range_with_a_gap_anywhere_is_not_whole() {
    // Mappings of three pages, two, and one; a gap of one page behind the first two.
    let ends = [(0, 3), (3, 5), (5, 6), (6, 7)].map(|(start, end): (usize, usize)| start * PAGE..end * PAGE);
    let piece = |at: usize, len: usize| {
        let found = ends.iter().position(|range| range.contains(&at)).unwrap();
        (found == 2, ends[found].end.min(at + len))
    };
    let pages = |start: usize, end: usize| has_gap(&(start * PAGE..end * PAGE), piece);
    assert!(!pages(0, 5) && !pages(1, 2) && !pages(6, 7) && !pages(4, 4));
    assert!(pages(0, 6) && pages(0, 7) && pages(4, 6) && pages(5, 6));
}
