extern crate std;

use super::*;
use std::vec::Vec;

const PAIR: Order = Order::BASE.up();

/// A table in which each of the first `folios` pairs of frames is a folio.
fn table(folios: u32) -> FrameTable {
    let mut table = FrameTable::new();
    table.cover(FrameRun::new(Frame(0), 2 * folios));
    for head in (0..2 * folios).step_by(2).map(Frame) {
        table.found(head, PAIR, Space(0), Vpn(head.0.into()), FrameState::Mapped);
    }
    table
}

/// The folios of a list from old to young, which has to be the same backwards.
fn folios(table: &FrameTable, list: List) -> Vec<u32> {
    let up: Vec<u32> =
        core::iter::successors(table.oldest(list), |&head| table.younger(head)).map(|f| f.0).collect();
    let mut down: Vec<u32> =
        core::iter::successors(table.youngest(list), |&head| table.older(head)).map(|f| f.0).collect();
    down.reverse();
    assert_eq!(up, down);
    assert_eq!((table.folios_on(list), table.pages_on(list)), (up.len() as u32, 2 * up.len() as u32));
    up
}

#[test]
fn folios_stand_on_their_list_from_old_to_young() {
    let mut table = table(4);
    assert_eq!(folios(&table, List::Active), []);
    [2, 0, 6].into_iter().for_each(|head| table.enlist(Frame(head), List::Active));
    assert_eq!(folios(&table, List::Active), [2, 0, 6]);
    table.enlist_oldest(Frame(4), List::Active);
    assert_eq!(folios(&table, List::Active), [4, 2, 0, 6]);
    table.enlist(Frame(2), List::Active);
    assert_eq!(folios(&table, List::Active), [4, 0, 6, 2]);
    table.enlist(Frame(0), List::Inactive);
    assert_eq!(
        (folios(&table, List::Active), folios(&table, List::Inactive)),
        ([4, 6, 2].into(), [0].into())
    );
}

#[test]
fn a_folio_leaves_either_end_and_the_middle() {
    for leaves in [0, 2, 4] {
        let mut table = table(3);
        [0, 2, 4].into_iter().for_each(|head| table.enlist(Frame(head), List::Dirty));
        table.delist(Frame(leaves));
        let rest: Vec<u32> = [0, 2, 4].into_iter().filter(|&head| head != leaves).collect();
        assert_eq!(folios(&table, List::Dirty), rest);
        table.delist(Frame(leaves));
        assert_eq!(folios(&table, List::Dirty), rest, "a second time nothing happens");
    }
}

#[test]
fn a_folio_is_pinned_while_a_job_uses_any_of_its_frames() {
    let mut table = table(2);
    table.get_mut(Frame(3)).job = 1;
    let pinned = [0, 2].map(|head| table.pinned(table.folio(Frame(head))));
    assert_eq!((pinned, table.head_of(Frame(3))), ([false, true], Frame(2)));
}
