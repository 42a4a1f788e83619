use super::*;

const S: Space = Space(0);
const CHILD: Space = Space(1);

/// A registered arena of 16 pages, 4..12 of them carved for reading and writing, and a pool of 8 frames.
fn host() -> SimMmu {
    let mut m = SimMmu::new(8);
    m.map(pages(0, 16), Prot::NONE, true);
    m.protect(pages(4, 8), Prot::READ_WRITE).unwrap();
    m
}

fn pages(start: u64, pages: u64) -> PageRange {
    PageRange::new(S, Vpn(start), pages)
}

fn run(start: u32, pages: u32) -> FrameRun {
    FrameRun::new(Frame(start), pages)
}

/// Frame `frame` gets `value` and is moved to page `vpn`.
fn fill(m: &mut SimMmu, frame: u32, vpn: u64, value: u64) {
    m.write_frame(Frame(frame), value);
    assert_eq!(m.move_in(run(frame, 1), S, Vpn(vpn)), Done::all(1));
}

#[test]
fn a_page_moves_in_and_out_with_its_contents() {
    let mut m = host();
    fill(&mut m, 0, 4, 7);
    assert_eq!(m.frame(Frame(0)), None);
    assert_eq!(m.touch_write(S, Vpn(4), 8), Access::Hit(8));
    assert_eq!(m.move_out(S, Vpn(4), run(0, 1)), Done::all(1));
    assert_eq!(m.touch_read(S, Vpn(4)), Access::Fault);
    assert_eq!(m.read_frame(Frame(0)), 8);
}

#[test]
fn trouble_on_the_way_leaves_the_pages_before_it_done() {
    let mut m = host();
    fill(&mut m, 1, 5, 7);
    (0..4).for_each(|f| m.write_frame(Frame(f), u64::from(f) + 10));
    assert_eq!(m.move_in(run(0, 4), S, Vpn(4)), Done::part(1, Refusal::Exists));
    assert_eq!(m.move_in(run(1, 4), S, Vpn(6)), Done::part(3, Refusal::Absent));
    assert_eq!(m.entry(S, Vpn(8)), Some(Pte::page(13)));
    assert_eq!(m.move_out(S, Vpn(8), run(4, 2)), Done::part(1, Refusal::Absent));
}

#[test]
fn a_page_that_is_only_at_the_destination_counts_as_moved() {
    let mut m = host();
    fill(&mut m, 1, 5, 7);
    m.write_frame(Frame(0), 6);
    assert_eq!(m.move_in(run(0, 2), S, Vpn(4)), Done::all(2));
    assert_eq!((m.touch_read(S, Vpn(4)), m.touch_read(S, Vpn(5))), (Access::Hit(6), Access::Hit(7)));
    assert_eq!(m.move_out(S, Vpn(5), run(1, 1)), Done::all(1));
    assert_eq!(m.move_out(S, Vpn(5), run(1, 1)), Done::all(1));
    assert_eq!(m.read_frame(Frame(1)), 7);
}

#[test]
fn reading_a_hole_of_the_pool_blocks_its_frame_until_release() {
    let mut m = host();
    fill(&mut m, 0, 4, 7);
    assert_eq!(m.read_frame(Frame(0)), 0);
    assert_eq!(m.move_out(S, Vpn(4), run(0, 1)), Done::part(0, Refusal::Exists));
    m.release(run(0, 1));
    assert_eq!(m.move_out(S, Vpn(4), run(0, 1)), Done::all(1));
}

#[test]
fn moves_stop_at_the_first_page_of_other_rights() {
    let mut m = host();
    fill(&mut m, 0, 4, 7);
    fill(&mut m, 1, 5, 8);
    m.protect(pages(5, 1), Prot::READ).unwrap();
    m.lock(pages(4, 1), true).unwrap();
    assert_eq!(m.move_out(S, Vpn(4), run(0, 1)), Done::part(0, Refusal::Denied));
    m.lock(pages(4, 1), false).unwrap();
    assert_eq!(m.move_out(S, Vpn(4), run(0, 2)), Done::part(1, Refusal::Denied));
    assert_eq!(m.move_in(run(0, 1), S, Vpn(100)), Done::part(0, Refusal::NoRange));
    assert_eq!(m.touch_write(S, Vpn(5), 9), Access::Segv);
    assert_eq!(m.touch_read(S, Vpn(0)), Access::Segv);
}

#[test]
fn copies_ignore_protection_and_keep_the_frame() {
    let mut m = host();
    m.write_frame(Frame(0), 7);
    m.protect(pages(4, 2), Prot::READ).unwrap();
    assert_eq!(m.copy_in(run(0, 2), S, Vpn(4)), Done::all(2));
    assert_eq!((m.touch_read(S, Vpn(4)), m.touch_read(S, Vpn(5))), (Access::Hit(7), Access::Hit(0)));
    assert_eq!((m.frame(Frame(0)), m.frame(Frame(1))), (Some(Pte::page(7)), Some(Pte::Zero)));
    assert_eq!(m.copy_in(run(2, 1), S, Vpn(5)), Done::part(0, Refusal::Exists));
    assert_eq!(m.copy_in(run(2, 2), S, Vpn(15)), Done::part(1, Refusal::NoRange));
}

#[test]
fn a_fork_makes_pages_busy_until_written_or_unshared() {
    let mut m = host();
    (0..3).for_each(|f| fill(&mut m, f, 4 + u64::from(f), 10 + u64::from(f)));
    m.fork(S, CHILD);
    assert_eq!(m.touch_read(CHILD, Vpn(7)), Access::Hit(0), "a hole of an unregistered child");
    assert_eq!(m.touch_write(CHILD, Vpn(4), 99), Access::Hit(99));
    m.exit(CHILD);
    assert_eq!(m.move_out(S, Vpn(4), run(0, 3)), Done::part(0, Refusal::Busy));
    assert_eq!(m.touch_write(S, Vpn(4), 20), Access::Hit(20));
    assert_eq!(m.unshare(pages(5, 3)), Done::all(3));
    assert!(!m.present(S, Vpn(7)));
    assert_eq!(m.move_out(S, Vpn(4), run(0, 3)), Done::all(3));
    assert_eq!(m.read_frame(Frame(1)), 11);
}

#[test]
fn unsharing_counts_up_to_the_run_in_which_it_is_refused() {
    let mut m = host();
    (0..3).for_each(|f| fill(&mut m, f, 5 + u64::from(f), 10 + u64::from(f)));
    m.fork(S, CHILD);
    m.protect(pages(6, 1), Prot::READ).unwrap();
    assert_eq!(m.unshare(pages(4, 4)), Done::part(1, Refusal::Denied));
    assert_eq!(m.move_out(S, Vpn(5), run(0, 1)), Done::all(1), "done, if not counted");
}

#[test]
fn a_childs_process_has_a_pool_of_its_own() {
    let mut m = host();
    fill(&mut m, 0, 4, 7);
    m.write_frame(Frame(1), 8);
    let mut child = m.fork_process(S);
    assert_eq!((child.frame(Frame(1)), m.frame(Frame(1))), (None, Some(Pte::page(8))));
    child.register(pages(0, 16), true);
    assert_eq!(child.touch_read(S, Vpn(5)), Access::Fault);
    assert_eq!(child.touch_read(S, Vpn(4)), Access::Hit(7));
}

#[test]
fn pins_refuse_moves_and_travel_with_the_page() {
    let mut m = host();
    fill(&mut m, 0, 4, 7);
    assert!(m.pin(S, Vpn(4)) && !m.pin(S, Vpn(5)));
    assert_eq!(m.move_out(S, Vpn(4), run(0, 1)), Done::part(0, Refusal::Busy));
    m.remap(pages(4, 1), Vpn(12)).unwrap();
    assert_eq!(m.move_out(S, Vpn(12), run(0, 1)), Done::part(0, Refusal::Busy));
    assert!(m.unpin(S, Vpn(12)));
    assert_eq!(m.move_out(S, Vpn(12), run(0, 1)), Done::all(1));
}

#[test]
fn remap_moves_pages_holes_and_rights() {
    let mut m = host();
    fill(&mut m, 0, 5, 7);
    m.remap(pages(4, 2), Vpn(12)).unwrap();
    assert_eq!((m.touch_read(S, Vpn(12)), m.touch_read(S, Vpn(13))), (Access::Fault, Access::Hit(7)));
    assert_eq!(m.touch_read(S, Vpn(5)), Access::Segv);
    assert_eq!((m.entry(S, Vpn(5)), m.rights(S, Vpn(5))), (None, Some(Rights::new(Prot::NONE, true))));
}

#[test]
fn injected_refusals_come_where_the_script_says() {
    let mut m = host();
    (0..3).for_each(|f| m.write_frame(Frame(f), 5));
    m.inject(Injection::next(Verb::MoveIn, Refusal::NoMemory).after(2));
    m.inject(Injection::next(Verb::Discard, Refusal::Again).after(1));
    assert_eq!(m.move_in(run(0, 3), S, Vpn(4)), Done::part(2, Refusal::NoMemory));
    assert_eq!(m.discard(pages(4, 2)), Err(Refusal::Again));
    assert_eq!((m.present(S, Vpn(4)), m.present(S, Vpn(5))), (false, true));
    assert_eq!(m.discard(pages(4, 2)), Ok(()));
}

#[test]
fn a_wake_lets_the_threads_of_a_range_go() {
    let mut m = host();
    m.block(1, S, Vpn(4), true);
    m.block(2, S, Vpn(9), false);
    m.wake(pages(4, 2));
    assert_eq!(m.waiters.take_woken(), [1]);
    assert!(m.waiters.waits(2));
}
