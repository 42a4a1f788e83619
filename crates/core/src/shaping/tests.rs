use super::*;
use crate::addr::Frame;
use crate::engine::Config;
use crate::policy::PolicyKind;
use crate::tables::Pte;

const SPACE: Space = Space(0);

fn range(from: u64, pages: u64) -> PageRange {
    PageRange::new(SPACE, Vpn(from * COOLDOWN_PAGES), pages * COOLDOWN_PAGES)
}

/// In epoch 10, an engine with a page in each leaf of the first 1024.
fn engine() -> Engine {
    let config = Config { frames: 64, grant: 64, policy: PolicyKind::Adaptive };
    let mut engine = Engine::new(config);
    engine.tending.epoch = 10;
    for page in [0, LEAF_PAGES] {
        engine.set_pte(SPACE, Vpn(page), Pte::EMPTY.in_frame(Frame(0)));
    }
    engine
}

fn cool(engine: &Engine) -> impl Iterator<Item = bool> {
    (0..2 * LEAF_PAGES / COOLDOWN_PAGES).map(|number| engine.is_cool(range(number, 1)))
}

#[test]
fn what_restarts_a_cooldown_leaves_its_neighbours_alone() {
    for (from, pages) in [(0, 1), (1, 1), (5, 3), (31, 2), (63, 1)] {
        let mut engine = engine();
        assert!(cool(&engine).all(|cool| cool));
        engine.restart_cooldown(range(from, pages));
        for (number, cool) in (0..).zip(cool(&engine)) {
            assert_eq!(cool, !(from..from + pages).contains(&number), "{number}, of {from} and {pages}");
        }
        assert!(!engine.is_cool(range(from, pages)) && !engine.is_cool(range(0, 64)));
    }
}

#[test]
fn a_part_of_what_is_remembered_together_restarts_all_of_it() {
    let mut engine = engine();
    engine.restart_cooldown(PageRange::new(SPACE, Vpn(3 * COOLDOWN_PAGES + 5), 1));
    assert_eq!(cool(&engine).position(|cool| !cool), Some(3));
    assert_eq!(cool(&engine).filter(|cool| !cool).count(), 1);
    engine.tending.epoch += engine.shaping.cool - 1;
    assert!(!engine.is_cool(range(3, 1)));
    engine.tending.epoch += 1;
    assert!(engine.is_cool(range(3, 1)));
}
