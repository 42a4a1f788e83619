extern crate std;

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

const DENSE: Queue = Queue::Dense;

/// A store of segments of 4 pages.
fn store(segments: u32) -> Segments {
    let mut store = Segments::new(segments, 4);
    store.reserve(segments);
    store
}

/// Grains in one of them.
const LONG: u32 = 4 * 256;

fn append(store: &mut Segments, len: u16) -> u32 {
    store.append(DENSE, len).unwrap()
}

#[test]
fn nothing_can_be_used_before_it_is_reserved() {
    let mut store = Segments::new(3, 4);
    assert_eq!(store.append(DENSE, 100), None);
    store.reserve(1);
    assert_eq!(store.append(DENSE, 4096), Some(0));
    assert_eq!(store.append(Queue::Incompressible, 64), None);
    store.reserve(100);
    assert_eq!(store.segments_reserved(), 3);
    assert_eq!(store.append(Queue::Incompressible, 64), Some(LONG));
    store.validate().unwrap();
}

#[test]
fn a_log_goes_on_behind_what_it_got_last() {
    let mut store = store(10);
    let places = [4000, 1, 17, 4096, 64].map(|len| append(&mut store, len));
    assert_eq!(places, [0, 250, 251, 253, 509], "each at a multiple of 16 bytes");
    assert_eq!((store.pages_backed(), store.bytes_used()), (3, 4000 + 16 + 32 + 4096 + 64));
    assert_eq!(store.append(Queue::Incompressible, 64), Some(LONG), "each queue has its own");
    assert_eq!(
        (append(&mut store, 4096), append(&mut store, 4096)),
        (513, 2 * LONG),
        "no object lies in two segments"
    );
    assert_eq!((store.segments_used(), store.pages_backed()), (3, 4 + 1 + 1));
    assert_eq!(append(&mut store, 16), 2 * LONG + 256, "what is closed gets no more");
}

#[test]
fn the_largest_objects_end_with_their_segment() {
    let mut store = store(2);
    let last = (0..4).map(|_| append(&mut store, 4096)).max();
    assert_eq!(last, Some(LONG - 256));
    assert_eq!(append(&mut store, 4096), LONG);
}

#[test]
fn one_empty_segment_is_kept_and_the_others_are_given_back() {
    let mut store = store(4);
    let places: Vec<u32> = (0..12).map(|_| append(&mut store, 4096)).collect();
    let mut free = |segment: usize| {
        let ends = places[segment * 4..][..4].iter().map(|&at| store.free(at, 4096)).collect::<Vec<_>>();
        assert!(ends[..3].iter().all(|end| *end == [0..0, 0..0]));
        store.validate().unwrap();
        (ends[3].clone(), store.pages_backed())
    };
    assert_eq!(free(1), ([0..0, 0..0], 12), "it keeps its memory");
    assert_eq!(free(0), ([0..4, 0..0], 8));
    assert_eq!(append(&mut store, 4096), LONG, "and is used first");
    assert_eq!(store.pages_backed(), 8);
    let more: Vec<u32> = (0..4).map(|_| append(&mut store, 4096)).collect();
    assert_eq!((more[3], store.pages_backed()), (0, 9), "then the lowest");
    for at in places[8..].iter().chain(&more[..3]) {
        assert_eq!(store.free(*at, 4096), [0..0, 0..0]);
    }
    assert_eq!(store.free(0, 4096), [0..1, 0..0]);
    assert_eq!(store.pages_backed(), 8);
    assert_eq!(store.free(LONG, 4096), [4..8, 8..12], "nothing is kept of an empty store");
    assert_eq!(store.pages_backed(), 0);
    store.validate().unwrap();
}

#[test]
fn the_emptiest_closed_segment_is_found_and_its_rest_stands_where_it_did() {
    let mut store = store(8);
    let places: Vec<u32> = (0..13).map(|_| store.append(DENSE, 4096).unwrap()).collect();
    assert_eq!((store.emptiest(), store.gaps()), (Some((2, 4 * 4096)), (12 * 4096, 0)));
    for at in [0, 4, 5, 6, 8, 9] {
        store.free(places[at], 4096);
    }
    assert_eq!((store.emptiest(), store.gaps()), (Some((1, 4096)), (12 * 4096, 6 * 4096)));
    let moved = store.append_moved(1, 4096).unwrap();
    assert_eq!(moved, 4 * LONG);
    assert_eq!(store.free(places[7], 4096), [0..0, 0..0]);
    let order: Vec<u32> =
        core::iter::successors(store.oldest(DENSE), |&segment| store.younger(segment)).collect();
    assert_eq!(order, [0, 4, 2, 3], "the new one took the place of the emptied one");
    assert!(order.iter().map(|&segment| store.is_open(segment)).eq([false, true, false, true]));
    assert_eq!(store.append_moved(0, 4096), Some(moved + 256), "and takes what is moved next");
    store.validate().unwrap();
}

#[test]
fn tables_are_made_for_the_objects_to_come_and_not_for_many_more() {
    let mut store = Segments::new(10_000, 16);
    store.reserve_for(80);
    // Fifteen of the largest in each, four logs, and 64 more with them.
    assert_eq!(store.segments_reserved(), 6 + 4 + SPARE);
    (0..80).for_each(|_| _ = append(&mut store, 4096));
    store.reserve_for(800);
    assert_eq!(store.segments_reserved(), 74, "there is room for these");
    store.reserve_for(1500);
    assert_eq!(store.segments_reserved(), 5 + 100 + 4 + 64);
    (0..1500).for_each(|i| _ = append(&mut store, 1 + i * 4 % 4096));
    store.validate().unwrap();
}

/// The random walks rely on the checks: each thing they look at is put wrong once.
#[test]
fn the_checks_find_a_segment_that_is_not_as_the_tables_say() {
    let mut store = store(6);
    // Two closed ones, an open one, and one of the other queue.
    (0..9).for_each(|_| _ = append(&mut store, 4096));
    assert!(store.append(Queue::Incompressible, 100).is_some());
    store.free(0, 4096);
    store.validate().unwrap();
    let says = |what: &str, damage: fn(&mut Segments)| {
        let mut damaged = store.clone();
        damage(&mut damaged);
        assert_eq!(damaged.validate(), Err(what));
    };
    says("a segment is both unused and in use, or neither", |store| store.fresh.put(1));
    says("a segment is both unused and in use, or neither", |store| store.warm = 1);
    says("a segment is both unused and in use, or neither", |store| _ = store.fresh.take_lowest());
    says("a segment holds more than it was given", |store| store.segments[1].live += 16);
    says("a segment holds more than it was given", |store| store.segments[2].backed = 0);
    says("a segment holds more than it was given", |store| store.segments[1].backed = 5);
    says("an unused segment has memory", |store| store.segments[5].backed = 1);
    says("segments or their memory are not as counted", |store| store.used += 1);
    says("segments or their memory are not as counted", |store| store.backed -= 1);
    says("segments or their memory are not as counted", |store| store.closed -= 1);
    says("segments or their memory are not as counted", |store| store.closed_live += 16);
    says("the objects of a queue are not as counted", |store| store.queues[1].bytes -= 16);
    says("the objects of a queue are not as counted", |store| store.queues[0].objects += 1);
    says("a segment does not belong in its queue", |store| store.segments[1].older = NIL);
    says("a queue does not end where it says", |store| store.queues[0].youngest = 0);
    says("an open segment takes nothing, or a closed one does", |store| store.queues[0].open = [NIL; 2]);
    says("an open segment is in no queue", |store| store.queues[1].open[1] = 2);
    says("a segment is in no queue", |store| {
        (store.segments[0].younger, store.segments[2].older) = (2, 0);
    });
    says("a closed segment is on no list", |store| store.unlist(0, 12));
    says("a segment is on a list where it does not belong", |store| store.list(0));
    says("a segment is on a list where it does not belong", |store| store.segments[1].prev = 0);
}

/// Live objects by place: their length, and the segment's queue.
#[derive(Default)]
struct Model {
    live: BTreeMap<u32, (u16, Queue)>,
}

fn end(at: u32, len: u16) -> u32 {
    at + u32::from(len).div_ceil(GRAIN as u32)
}

impl Model {
    fn add(&mut self, at: u32, len: u16, queue: Queue) {
        if let Some((&start, &(other, _))) = self.live.range(..end(at, len)).next_back() {
            assert!(end(start, other) <= at, "{at} overlaps {start}");
        }
        assert_eq!(at / LONG, (end(at, len) - 1) / LONG, "an object crosses the end of its segment");
        let mut same = self.live.iter().filter(|(other, _)| *other / LONG == at / LONG);
        assert!(same.all(|(_, (_, other))| *other == queue), "two queues share a segment");
        self.live.insert(at, (len, queue));
    }

    fn segments(&self) -> BTreeSet<u32> {
        self.live.keys().map(|&at| at / LONG).collect()
    }

    fn take(&mut self, pick: usize) -> Option<(u32, (u16, Queue))> {
        let at = *self.live.keys().nth(pick % self.live.len().max(1))?;
        self.live.remove_entry(&at)
    }
}

#[derive(Debug, Clone)]
enum Step {
    Append(bool, u16),
    Free(usize),
    Clean,
    Reserve(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![1..=4096_u16, 3000..=4096_u16, Just(4096), 60..70_u16];
    prop_oneof![
        6 => (any::<bool>(), len).prop_map(|(incompressible, len)| Step::Append(incompressible, len)),
        5 => any::<usize>().prop_map(Step::Free),
        2 => Just(Step::Clean),
        1 => (0..12_u32).prop_map(Step::Reserve),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn objects_never_overlap_and_only_empty_segments_are_given_back(
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let (mut store, mut model) = (Segments::new(10, 4), Model::default());
        for step in steps {
            match step {
                Step::Reserve(segments) => store.reserve(segments),
                Step::Append(incompressible, len) => {
                    let queue = if incompressible { Queue::Incompressible } else { DENSE };
                    match store.append(queue, len) {
                        Some(at) => model.add(at, len, queue),
                        None => prop_assert_eq!(store.segments_used(), store.segments_reserved()),
                    }
                }
                Step::Free(pick) => {
                    if let Some((at, (len, _))) = model.take(pick) {
                        let given = store.free(at, len);
                        let empty = !model.segments().contains(&(at / LONG));
                        let mut pages = given.into_iter().filter(|pages| !pages.is_empty());
                        if let Some(pages) = pages.next() {
                            prop_assert!(empty);
                            prop_assert_eq!(pages.start, at / LONG * 4);
                        }
                        prop_assert!(model.live.is_empty() || pages.next().is_none());
                    }
                }
                Step::Clean => {
                    let Some((segment, live)) = store.emptiest() else { continue };
                    let inside = |at: u32| at / LONG == segment;
                    let rest: Vec<_> = model.live.iter().filter(|(at, _)| inside(**at)).map(|(a, l)| (*a, *l)).collect();
                    let bytes = rest.iter().map(|(_, (len, _))| rounded(*len)).sum::<u32>();
                    prop_assert_eq!(live, bytes);
                    for (at, (len, queue)) in rest {
                        let Some(to) = store.append_moved(segment, len) else { break };
                        model.add(to, len, queue);
                        model.live.remove(&at);
                        store.free(at, len);
                    }
                }
            }
            store.validate().unwrap();
            prop_assert_eq!(store.segments_used() as usize, model.segments().len());
            prop_assert_eq!(store.objects() as usize, model.live.len());
        }
    }
}
