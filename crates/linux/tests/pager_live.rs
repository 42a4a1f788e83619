//! The pager on the running kernel, inside this test's own process: contents survive a budget of an eighth.
//!
//! A process has one pager, so this file has one test. It is skipped, saying so, only where userfaultfd is
//! refused.

use quire_linux::pager::{self, Call, Options, StartError};
use quire_linux::sys::Errno;

mod heap;
mod limit;

#[global_allocator]
static HEAP: heap::Heap = heap::Heap;

const PAGE: usize = 4096;

fn map(len: usize) -> usize {
    pager::call(Call::Map { len, prot: 3, flags: 0x22 }).expect("memory")
}

fn word(addr: usize) -> *mut u64 {
    std::ptr::with_exposed_provenance_mut(addr)
}

/// What page `page` holds in round `round`: compressible, but every page another.
fn value(page: usize, at: usize, round: u64) -> u64 {
    (page as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(round) ^ (at as u64 / 64)
}

fn write_page(base: usize, page: usize, round: u64) {
    for at in (0..PAGE).step_by(8) {
        // SAFETY: the page belongs to the mapping that this test made.
        unsafe { word(base + page * PAGE + at).write_volatile(value(page, at, round)) };
    }
}

fn check_page(base: usize, page: usize, round: u64) {
    for at in (0..PAGE).step_by(8) {
        // SAFETY: as in `write_page`.
        let found = unsafe { word(base + page * PAGE + at).read_volatile() };
        assert_eq!(found, value(page, at, round), "page {page}, byte {at}, round {round}");
    }
}

fn next(seed: &mut u64) -> usize {
    *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*seed >> 33) as usize
}

fn is_present(addr: usize) -> bool {
    quire_linux::sys::pagemap::present_without_fd(addr / PAGE * PAGE)
}

/// Objects on a quarter of what memory there is stay where they are while all else goes out.
fn what_is_kept_stays(base: usize, pages: usize) {
    let object = |i: usize| (base + i * 64 * PAGE + 2 * PAGE - 8, 16);
    let objects = pages / 64 - 1;
    let touch_all = || {
        for page in 0..pages {
            // SAFETY: as in `check_page`.
            unsafe { word(base + page * PAGE).read_volatile() };
        }
    };
    for i in 0..objects {
        let (addr, len) = object(i);
        pager::call(Call::Keep { addr, len, owner: 0 }).unwrap();
        assert!(is_present(addr) && is_present(addr + 8), "object {i} was not brought in");
    }
    touch_all();
    for i in 0..objects {
        let (addr, len) = object(i);
        assert!(is_present(addr) && is_present(addr + 8), "object {i} is out");
        pager::call(Call::LetGo { addr, len }).unwrap();
    }
    touch_all();
    let left = (0..objects).filter(|&i| is_present(object(i).0)).count();
    assert!(left < objects / 2, "{left} of {objects} stay though nothing keeps them");
}

#[test]
fn contents_survive_a_small_budget() {
    let _limit = limit::Limit::of_this_test(300);
    let options = Options {
        socket: None,
        memory: Some((16 << 20) / PAGE as u32),
        policy: quire_core::PolicyKind::Adaptive,
        usage: || 0,
        mapped: || 0,
        inject: None,
        check: true,
    };
    match pager::start(options) {
        Ok(()) => {}
        Err(StartError::System(Errno::PERM | Errno::ACCESS)) => {
            println!("skipped: this machine refuses userfaultfd; see quire doctor");
            return;
        }
        Err(error) => panic!("{error:?}"),
    }
    let pages = (128 << 20) / PAGE;
    let base = map(pages * PAGE);
    for page in 0..pages {
        write_page(base, page, 1);
    }
    for page in 0..pages {
        check_page(base, page, 1);
    }
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            std::thread::spawn(move || {
                let mut seed = thread as u64;
                let mut rounds = vec![1; pages / 4];
                for _ in 0..20_000 {
                    let mine = next(&mut seed) % (pages / 4);
                    check_page(base, mine * 4 + thread, rounds[mine]);
                    if next(&mut seed).is_multiple_of(2) {
                        rounds[mine] += 1;
                        write_page(base, mine * 4 + thread, rounds[mine]);
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    what_is_kept_stays(base, pages);
    pager::call(Call::Advise { addr: base, len: pages / 2 * PAGE, advice: 4 }).unwrap();
    // SAFETY: as in `write_page`.
    assert!((0..pages / 2).all(|page| unsafe { word(base + page * PAGE).read_volatile() } == 0));
    let moved = pager::call(Call::Remap {
        old: base,
        old_len: pages * PAGE,
        new_len: (pages + 64) * PAGE,
        flags: 1,
        new_addr: 0,
    });
    assert!(moved.is_ok());
    pager::call(Call::Unmap { addr: moved.unwrap(), len: (pages + 64) * PAGE }).unwrap();
    // Ends the process where a table does not fit another, or a job never ends.
    pager::call(Call::Check).unwrap();
}
