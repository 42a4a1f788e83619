extern crate std;

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

fn store(spans: u32) -> Spans {
    let mut store = Spans::new(spans);
    store.reserve(spans);
    store
}

fn span_of(at: u32) -> u32 {
    at / GRAINS_PER_SPAN
}

#[test]
fn nothing_can_be_used_before_it_is_reserved() {
    let mut store = Spans::new(3);
    assert_eq!(store.alloc(100), None);
    store.reserve(1);
    assert_eq!(store.alloc(4096), Some(0));
    assert_eq!(store.alloc(64), None);
    store.reserve(100);
    assert_eq!((store.spans_reserved(), store.spans_limit()), (3, 3));
    assert_eq!(store.alloc(64), Some(GRAINS_PER_SPAN));
    store.validate().unwrap();
}

#[test]
fn a_class_takes_a_fresh_span_only_when_its_own_are_full() {
    let mut store = store(10);
    assert!(store.needs_span(4000));
    let places: Vec<u32> = (0..8).map(|_| store.alloc(4000).unwrap()).collect();
    assert_eq!(places, [0, 252, 504, 756, 1008, 1260, 1512, 1764]);
    assert!(store.needs_span(4000));
    assert_eq!(store.alloc(1), Some(GRAINS_PER_SPAN));
    assert_eq!(store.alloc(64), Some(GRAINS_PER_SPAN + 4));
    assert!(!store.needs_span(64) && store.needs_span(65));
    assert_eq!((store.spans_used(), store.bytes_used()), (2, 8 * 4032 + 2 * 64));
}

#[test]
fn the_largest_objects_end_with_their_span() {
    let mut store = store(2);
    let last = (0..8).map(|_| store.alloc(4096).unwrap()).max();
    assert_eq!(last, Some(GRAINS_PER_SPAN - 256));
    assert_eq!(store.alloc(4096), Some(GRAINS_PER_SPAN));
}

#[test]
fn the_smallest_objects_fill_every_slot_of_their_span_and_the_lowest_free_one_is_next() {
    let mut store = store(2);
    let places: Vec<u32> = (0..512).map(|_| store.alloc(64).unwrap()).collect();
    assert_eq!(places, (0..GRAINS_PER_SPAN).step_by(4).collect::<Vec<_>>());
    assert_eq!(store.alloc(64), Some(GRAINS_PER_SPAN));
    for slot in [511, 130, 65, 64, 63] {
        assert_eq!(store.free(slot * 4, 64), None);
        store.validate().unwrap();
    }
    let again: Vec<u32> = (0..5).map(|_| store.alloc(64).unwrap() / 4).collect();
    assert_eq!(again, [63, 64, 65, 130, 511]);
}

#[test]
fn a_span_less_than_half_full_is_filled_last_and_becomes_empty() {
    let mut store = store(3);
    let places: Vec<u32> = (0..24).map(|_| store.alloc(4096).unwrap()).collect();
    for &at in &places[..4] {
        assert_eq!(store.free(at, 4096), None);
    }
    store.free(places[8], 4096);
    store.free(places[16], 4096);
    let refilled: Vec<u32> = (0..3).map(|_| span_of(store.alloc(4096).unwrap())).collect();
    assert_eq!(refilled, [2, 1, 0]);
    store.validate().unwrap();
}

#[test]
fn an_empty_span_is_reported_and_the_lowest_is_used_again() {
    let mut store = store(200);
    let places: Vec<u32> = (0..200 * 8).map(|_| store.alloc(4096).unwrap()).collect();
    assert_eq!(store.alloc(1), None);
    for span in [150, 70, 3] {
        let objects = &places[span * 8..span * 8 + 8];
        let emptied: Vec<Option<u32>> = objects.iter().map(|&at| store.free(at, 4096)).collect();
        assert_eq!(emptied[..7], [None; 7]);
        assert_eq!(emptied[7], Some(span as u32));
    }
    store.validate().unwrap();
    let again: Vec<u32> = [1, 1000, 2000].iter().map(|&len| span_of(store.alloc(len).unwrap())).collect();
    assert_eq!(again, [3, 70, 150]);
}

#[test]
fn tables_are_made_for_the_objects_to_come_and_not_for_many_more() {
    let mut store = Spans::new(10_000);
    store.reserve_for(80);
    // As if each of them began a class, and the next 64 spans with them.
    assert_eq!(store.spans_reserved(), 80 / LEAST_SLOTS + CLASSES as u32 + SPARE);
    (0..80).for_each(|_| _ = store.alloc(4096).unwrap());
    store.reserve_for(16);
    assert_eq!(store.spans_reserved(), 138, "there is room for these");
    store.reserve_for(1000);
    assert_eq!(store.spans_reserved(), 10 + 125 + 64 + 64);
    (0..1000).for_each(|i| _ = store.alloc(1 + i * 4 % 4096).unwrap());
    store.validate().unwrap();
}

/// The random walks rely on the checks: each thing they look at is put wrong once.
#[test]
fn the_checks_find_a_span_that_is_not_as_the_tables_say() {
    let mut store = store(3);
    (0..9).for_each(|_| _ = store.alloc(4096).unwrap());
    assert!(store.alloc(100).is_some());
    store.validate().unwrap();
    let says = |what: &str, damage: fn(&mut Spans)| {
        let mut damaged = store.clone();
        damage(&mut damaged);
        assert_eq!(damaged.validate(), Err(what));
    };
    says("the objects of a span are not as counted", |store| store.spans[1].objects += 1);
    says("a span is both fresh and in use, or neither", |store| store.fresh.put(1));
    says("spans or bytes are not as counted", |store| store.used += 1);
    says("spans or bytes are not as counted", |store| store.bytes -= 1);
    says("a span with room is in no list", |store| store.unlink(1));
    says("a list is not linked both ways", |store| store.spans[1].prev = 0);
    says("a list does not end where it says", |store| store.with_room[CLASSES - 1].last = 0);
    let misplaced = "a span is in a list where it does not belong";
    says(misplaced, |store| store.link_first(0));
    says(misplaced, |store| {
        store.spans[2].class = Class(CLASSES as u8 - 1);
        store.bytes += 4096 - 128;
    });
    says(misplaced, |store| {
        store.spans[1] = Span { objects: 0, slots: Span::UNUSED.slots, ..store.spans[1].clone() };
        (store.used, store.bytes) = (2, store.bytes - 4096);
        store.fresh.put(1);
    });
}

/// Live objects by place: their length, and the grains they may write.
#[derive(Default)]
struct Model {
    live: BTreeMap<u32, u16>,
}

impl Model {
    fn add(&mut self, at: u32, len: u16) {
        let end = at + u32::from(len).div_ceil(GRAIN as u32);
        let before = self.live.range(..end).next_back();
        if let Some((&start, &other)) = before {
            assert!(start + u32::from(other).div_ceil(GRAIN as u32) <= at, "{at} overlaps {start}");
        }
        assert_eq!(span_of(at), span_of(end - 1), "an object crosses the end of its span");
        self.live.insert(at, len);
    }

    fn spans(&self) -> BTreeSet<u32> {
        self.live.keys().map(|&at| span_of(at)).collect()
    }

    fn take(&mut self, pick: usize) -> Option<(u32, u16)> {
        let at = *self.live.keys().nth(pick % self.live.len().max(1))?;
        self.live.remove_entry(&at)
    }
}

#[derive(Debug, Clone)]
enum Step {
    Alloc(u16),
    Free(usize),
    Reserve(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![1..=4096_u16, 3000..=4096_u16, Just(4096), 60..70_u16];
    prop_oneof![
        6 => len.prop_map(Step::Alloc),
        4 => any::<usize>().prop_map(Step::Free),
        1 => (0..12_u32).prop_map(Step::Reserve),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn objects_never_overlap_and_empty_spans_are_reported_once(
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let (mut store, mut model) = (Spans::new(10), Model::default());
        for step in steps {
            match step {
                Step::Reserve(spans) => store.reserve(spans),
                Step::Alloc(len) => {
                    let fresh = store.needs_span(len);
                    let spans = model.spans();
                    let got = store.alloc(len);
                    prop_assert_eq!(got.is_none(), fresh && spans.len() as u32 == store.spans_reserved());
                    if let Some(at) = got {
                        prop_assert_eq!(fresh, !spans.contains(&span_of(at)));
                        model.add(at, len);
                    }
                }
                Step::Free(pick) => {
                    if let Some((at, len)) = model.take(pick) {
                        let empty = (!model.spans().contains(&span_of(at))).then_some(span_of(at));
                        prop_assert_eq!(store.free(at, len), empty);
                    }
                }
            }
            store.validate().unwrap();
            prop_assert_eq!(store.spans_used() as usize, model.spans().len());
        }
    }
}
