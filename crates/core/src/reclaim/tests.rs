use super::*;
use crate::addr::{Space, Vpn};
use crate::engine::Config;
use crate::policy::PolicyKind;

/// An engine with `active` folios of `order` on the active list.
fn engine(active: u32, order: Order) -> Engine {
    let config = Config { frames: 4096, grant: 4096, policy: PolicyKind::Fixed(order) };
    let mut engine = Engine::new(config);
    engine.tables.frames.cover(FrameRun::new(Frame(0), active * order.pages()));
    for head in (0..active).map(|n| Frame(n * order.pages())) {
        engine.tables.frames.found(head, order, Space(0), Vpn(head.0.into()), FrameState::Mapped);
        engine.tables.frames.enlist(head, List::Active);
    }
    engine
}

#[test]
fn ageing_keeps_the_inactive_list_at_a_third_the_oldest_first() {
    let mut engine = engine(90, Order::BASE);
    engine.age();
    let pages = [List::Active, List::Inactive].map(|list| engine.tables.frames.pages_on(list));
    assert_eq!(pages, [60, 30]);
    assert_eq!(engine.tables.frames.oldest(List::Inactive), Some(Frame(0)));
    assert_eq!(engine.tables.frames.oldest(List::Active), Some(Frame(30)));
    engine.age();
    assert_eq!(engine.tables.frames.pages_on(List::Inactive), 30);
}

#[test]
fn a_step_of_ageing_is_bounded() {
    let mut engine = engine(4000, Order::BASE);
    engine.age();
    assert_eq!(engine.tables.frames.pages_on(List::Inactive), STEP_PAGES);
    engine.age();
    assert_eq!(engine.tables.frames.pages_on(List::Inactive), 2 * STEP_PAGES);
}
