extern crate std;

use super::*;
use crate::addr::Frame;
use crate::engine::Config;
use crate::frame::{FramePool, Use};
use crate::mmu::tests::Released;
use crate::order::OrderSet;
use crate::policy::PolicyKind;

const FRAMES: u32 = 4096;

/// Half of 4096 frames are free, none of the others can be vacated: there is nothing to do but to look.
#[test]
fn a_bite_looks_at_half_of_4096_frames_and_the_next_at_the_rest() {
    let config = Config { frames: FRAMES, grant: FRAMES, policy: PolicyKind::Adaptive };
    let mut engine = Engine::new(config);
    engine.pool = FramePool::new(FRAMES);
    while engine.pool.take(OrderSet::ALL, Use::Contents, u32::MAX).is_some() {}
    (0..FRAMES / 2).for_each(|i| engine.pool.give(FrameRun::new(Frame(2 * i), 1), Backing::Hole));
    engine.tables.frames.cover(FrameRun::new(Frame(0), FRAMES));
    let mut host = Released::default();
    for pass in 0..PASSES.len() {
        assert_eq!(engine.compaction.pass, pass);
        assert!(!engine.compact(&mut host), "the first half");
        assert_eq!(engine.compaction.below, FRAMES - BITE);
        assert!(engine.compact(&mut host), "the pass is over");
    }
    assert_eq!(engine.compaction.pass, 0, "the next round");
}
