extern crate std;

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::vec::Vec;

#[test]
fn runs_are_packed_and_the_file_grows_at_its_end() {
    let mut file = FileSpace::new(4096);
    assert_eq!(file.alloc(5), Some(0));
    assert_eq!(file.alloc(1), Some(5));
    assert_eq!(file.alloc(2), Some(6));
    assert_eq!(file.alloc(512), Some(512));
    assert_eq!((file.used(), file.end()), (520, 1024));
}

#[test]
fn what_no_run_can_be_is_refused() {
    let mut file = FileSpace::new(600);
    assert_eq!(file.alloc(0), None);
    assert_eq!(file.alloc(513), None);
    assert_eq!(file.alloc(u32::MAX), None);
    assert_eq!(FileSpace::new(0).alloc(1), None);
    assert_eq!(file.alloc(512), Some(0));
    assert_eq!(file.alloc(512), None);
    assert_eq!(file.alloc(64), Some(512));
    assert_eq!(file.alloc(24), None, "a run starts at a multiple of 32, and does not fit");
    assert_eq!((file.alloc(16), file.alloc(8)), (Some(576), Some(592)));
    assert_eq!(file.alloc(1), None);
    assert_eq!((file.used(), file.end(), file.limit()), (600, 600, 600));
}

/// The random walks rely on the checks: each thing they look at is put wrong once.
#[test]
fn the_checks_find_units_that_are_not_as_counted() {
    let mut file = FileSpace::new(1024);
    assert_eq!(file.alloc(3), Some(0));
    file.validate().unwrap();
    let finds = |what: &str, damage: fn(&mut FileSpace)| {
        let mut damaged = file.clone();
        damage(&mut damaged);
        assert!(damaged.validate().is_err(), "{what}");
    };
    finds("used units", |file| file.used += 1);
    finds("a free unit in use", |file| _ = file.free.alloc_at(Frame(4)));
    finds("an end beyond what was opened", |file| file.end = STEP + 1);
}

#[test]
fn freed_neighbours_become_one_run() {
    let mut file = FileSpace::new(512);
    let runs: Vec<u32> = (0..64).map(|_| file.alloc(8).unwrap()).collect();
    assert_eq!(file.alloc(1), None);
    runs.iter().rev().for_each(|&start| file.free(start, 8));
    assert_eq!(file.alloc(512), Some(0));
    file.free(100, 1);
    assert_eq!(file.alloc(1), Some(100));
    file.validate().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn runs_never_overlap(
        limit in prop_oneof![0..40_u32, 500..2000_u32],
        steps in prop::collection::vec((any::<bool>(), 1..40_u32, any::<usize>()), 1..150),
    ) {
        let mut file = FileSpace::new(limit);
        let mut taken = BTreeSet::new();
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for (alloc, units, pick) in steps {
            if alloc {
                if let Some(start) = file.alloc(units) {
                    prop_assert!(start + units <= limit && start + units <= file.end());
                    prop_assert!((start..start + units).all(|u| taken.insert(u)), "a unit was taken twice");
                    runs.push((start, units));
                }
            } else if !runs.is_empty() {
                let (start, units) = runs.swap_remove(pick % runs.len());
                (start..start + units).for_each(|u| { taken.remove(&u); });
                file.free(start, units);
            }
            file.validate().unwrap();
            prop_assert_eq!(file.used() as usize, taken.len());
        }
        runs.iter().for_each(|&(start, units)| file.free(start, units));
        prop_assert_eq!(file.alloc(512).is_some(), limit >= 512, "all merges back");
    }
}
