use super::*;
use quire_core::addr::Frame;

#[test]
fn ranges_outside_are_refused_without_a_call() {
    let places = Places::reserve(8, 1).unwrap();
    let mut mmu = LinuxMmu::for_program(&places);
    let arena = places.arena(Space(0));
    let past = PageRange::new(Space(0), arena.end(), 1);
    assert_eq!(mmu.discard(past), Err(Refusal::NoRange));
    let huge = PageRange::new(Space(0), arena.start, u64::MAX);
    assert_eq!(mmu.protect(huge, Prot::READ), Err(Refusal::NoRange));
    assert!(places.is_managed(arena.start.addr() as usize));
    assert!(!places.is_managed(arena.end().addr() as usize));
    assert_eq!(places.frame_addr(Frame(8)), None);
    assert!(places.in_pool(FrameRun::new(Frame(7), 2)).is_none());
}

#[test]
fn the_programs_threads_can_not_move() {
    let places = Places::reserve(8, 1).unwrap();
    let mut mmu = LinuxMmu::for_program(&places);
    let at = places.arena(Space(0)).start;
    let done = mmu.move_in(FrameRun::new(Frame(0), 1), Space(0), at);
    assert_eq!(done, Done::part(0, Refusal::NoRange));
    assert!(!mmu.is_pager() && !mmu.present(Space(0), at));
}

#[test]
fn pieces_end_at_the_page_that_is_refused() {
    // Two VMAs, 0..5 and 5..8; page 6 is denied for itself.
    let verb = |from: usize, len: usize| {
        let (from, end) = (from / PAGE_SIZE, (from + len) / PAGE_SIZE);
        let errno = (from < 5 && end > 5 || (from..end).contains(&6)).then_some(Errno::INVAL);
        Moved { bytes: if errno.is_none() { len } else { 0 }, errno }
    };
    assert_eq!(piecewise(8, Errno::INVAL, verb), Done::part(6, Refusal::Denied));
    assert_eq!(piecewise(6, Errno::INVAL, verb), Done::all(6));
    assert_eq!(piecewise(0, Errno::INVAL, verb), Done::all(0));
}
