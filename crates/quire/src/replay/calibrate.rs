//! What things cost on this machine, measured with the verbs of the live host in this process.
//!
//! Each cost is the median of some rounds. Where a cost is split into one for a call and one for each page, two lengths
//! are measured and the line through them is taken.

use crate::failure::Failure;
use crate::run::spill::Spill;
use quire_core::job::Packed;
use quire_core::mmu::{Done, Mmu as _, Mover as _, Prot};
use quire_core::{Frame, FrameRun, PAGE_SIZE, PageRange, Space, Vpn};
use quire_linux::codec::{Codec, Page, ROOM, Secret};
use quire_linux::mmu::LinuxMmu;
use quire_linux::places::Places;
use quire_linux::sys::file::Bounce;
use quire_linux::sys::pagemap::Pagemap;
use quire_linux::sys::uffd::{self, Event, Uffd, UffdMsg};
use quire_linux::sys::{mmap, sched};
use quire_sim::replay::Costs;
use quire_sim::rng::Rng;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fs;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

const HERE: Space = Space(0);
const FRAMES: u32 = 8192;
/// Rounds of each measurement.
const ROUNDS: usize = 15;
/// Pages in a short call, and in a long one.
const SHORT: u32 = 1;
const LONG: u32 = 64;

/// The table as a file, with the machine's name.
pub(crate) fn table() -> Result<String, Failure> {
    let costs = measure()?;
    let word = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processors = word("/proc/cpuinfo");
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split(':').nth(1));
    let release = word("/proc/sys/kernel/osrelease");
    Ok(format!(
        "# Costs in ns, measured by quire replay --calibrate on {}, Linux {}\n{costs}",
        model.unwrap_or("a processor without a name").trim(),
        release.trim()
    ))
}

fn measure() -> Result<Costs, Failure> {
    let bench = Bench::new()?;
    let mut costs = Costs::default();
    translations(&mut costs);
    bench.frames(&mut costs)?;
    bench.copies(&mut costs)?;
    bench.moves(&mut costs)?;
    bench.calls(&mut costs)?;
    costs.fault = bench.fault()?;
    costs.interrupt = bench.interrupt()?;
    codec(&mut costs)?;
    disk(&mut costs)?;
    Ok(costs)
}

fn failed(what: impl std::fmt::Display) -> Failure {
    Failure::own(format!("the machine can't be measured: {what}; see quire doctor"))
}

/// The median of what some rounds take, in ns.
fn median<E>(mut round: impl FnMut() -> Result<Duration, E>) -> Result<f64, E> {
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        rounds.push(round()?.as_nanos() as f64);
    }
    rounds.sort_by(f64::total_cmp);
    Ok(rounds[ROUNDS / 2])
}

/// How long it takes.
fn timed<E>(work: impl FnOnce() -> Result<(), E>) -> Result<Duration, E> {
    let begin = Instant::now();
    work()?;
    Ok(begin.elapsed())
}

/// The costs of a call and of a page, from a call with [`SHORT`] and one with [`LONG`] pages.
fn line(short: f64, long: f64) -> (u64, u64) {
    let page = ((long - short) / f64::from(LONG - SHORT)).max(0.0);
    (whole(short - page), whole(page))
}

/// At least 1: nothing is free.
fn whole(ns: f64) -> u64 {
    (ns.round() as u64).max(1)
}

/// A pager without an engine: arena, pool, and a userfaultfd.
struct Bench {
    places: Places,
    uffd: Uffd,
    pagemap: Pagemap,
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Refused, it lasts as long as the process.
        let _ = self.places.give_back();
    }
}

impl Bench {
    fn new() -> Result<Bench, Failure> {
        let uffd = Uffd::with_features(uffd::FEATURE_MOVE, 0).map_err(failed)?;
        let places = Places::reserve(FRAMES, 4).map_err(failed)?;
        places.register(&uffd).map_err(failed)?;
        let bench = Bench { places, uffd, pagemap: Pagemap::open().map_err(failed)? };
        bench
            .mmu()
            .protect(bench.range(0, FRAMES), Prot::READ_WRITE)
            .map_err(|r| failed(format!("{r:?}")))?;
        Ok(bench)
    }

    fn mmu(&self) -> LinuxMmu<'_> {
        LinuxMmu::for_pager(&self.places, &self.uffd, &self.pagemap)
    }

    /// Pages of the arena.
    fn range(&self, from: u32, pages: u32) -> PageRange {
        PageRange::new(HERE, self.at(from), u64::from(pages))
    }

    fn at(&self, page: u32) -> Vpn {
        self.places.arena(HERE).start.plus(u64::from(page))
    }

    /// Puts memory behind frames.
    fn fill(&self, frames: FrameRun) {
        for frame in frames.iter() {
            self.places.pool().with_page(frame.0 as usize, |page| page.fill(1));
        }
    }

    fn empty(&self) -> Result<(), Failure> {
        let mut mmu = self.mmu();
        mmu.release(FrameRun::new(Frame(0), FRAMES));
        mmu.discard(self.range(0, FRAMES)).map_err(|r| failed(format!("discard: {r:?}")))
    }

    /// Zeroing pages, and getting new ones.
    fn frames(&self, costs: &mut Costs) -> Result<(), Failure> {
        let all = FrameRun::new(Frame(0), FRAMES);
        let fresh = median(|| {
            self.mmu().release(all);
            timed(|| {
                self.fill(all);
                Ok::<_, Failure>(())
            })
        })?;
        let zero = median(|| {
            timed(|| {
                all.iter().for_each(|f| self.places.pool().with_page(f.0 as usize, |page| page.fill(0)));
                Ok::<_, Failure>(())
            })
        })?;
        costs.fresh_page = whole(fresh / f64::from(FRAMES));
        costs.zero_page = whole(zero / f64::from(FRAMES));
        Ok(())
    }

    fn copies(&self, costs: &mut Costs) -> Result<(), Failure> {
        let copy = |pages: u32| {
            median(|| {
                self.empty()?;
                self.fill(FrameRun::new(Frame(0), FRAMES));
                let calls = FRAMES / pages;
                let taken = timed(|| {
                    (0..calls).try_for_each(|i| {
                        let frames = FrameRun::new(Frame(i * pages), pages);
                        all(self.mmu().copy_in(frames, HERE, self.at(i * pages)), pages)
                    })
                })?;
                Ok::<_, Failure>(taken / calls)
            })
        };
        (costs.copy_call, costs.copy_page) = line(copy(SHORT)?, copy(LONG)?);
        Ok(())
    }

    fn moves(&self, costs: &mut Costs) -> Result<(), Failure> {
        let to_and_fro = |pages: u32| {
            median(|| {
                self.empty()?;
                let frames = FrameRun::new(Frame(0), pages);
                self.fill(frames);
                const TIMES: u32 = 512;
                let taken = timed(|| {
                    (0..TIMES).try_for_each(|_| {
                        all(self.mmu().move_in(frames, HERE, self.at(0)), pages)?;
                        all(self.mmu().move_out(HERE, self.at(0), frames), pages)
                    })
                })?;
                Ok::<_, Failure>(taken / (2 * TIMES))
            })
        };
        (costs.move_call, costs.move_page) = line(to_and_fro(SHORT)?, to_and_fro(LONG)?);
        Ok(())
    }

    /// Giving memory back, which stands for calls that discard and change rights too.
    fn calls(&self, costs: &mut Costs) -> Result<(), Failure> {
        let release = |pages: u32| {
            median(|| {
                self.fill(FrameRun::new(Frame(0), FRAMES));
                let calls = FRAMES / pages;
                let taken = timed(|| {
                    let runs = (0..calls).map(|i| FrameRun::new(Frame(i * pages), pages));
                    runs.for_each(|run| self.mmu().release(run));
                    Ok::<_, Failure>(())
                })?;
                Ok::<_, Failure>(taken / calls)
            })
        };
        (costs.call, costs.release_page) = line(release(SHORT)?, release(LONG)?);
        Ok(())
    }

    /// From touch to going on, less what the pager needs to copy a page of zeroes. As in a program under `quire run`, pager
    /// and program share a processor.
    fn fault(&self) -> Result<u64, Failure> {
        const FAULTS: u32 = 2048;
        let everywhere = sched_getaffinity(None).map_err(failed)?;
        let mut one = CpuSet::new();
        one.set((0..CpuSet::MAX_CPU).find(|&cpu| everywhere.is_set(cpu)).unwrap_or(0));
        sched_setaffinity(None, &one).map_err(failed)?;
        let ns = median(|| {
            self.empty()?;
            let served = thread::scope(|scope| {
                let pager = scope.spawn(|| self.serve(FAULTS));
                let begin = Instant::now();
                for page in 0..FAULTS as usize {
                    black_box(self.places.arena_bytes().with_page(page, |page| page[0]));
                }
                let taken = begin.elapsed();
                pager
                    .join()
                    .map_err(|_| failed("the pager has ended"))?
                    .map(|copied| taken.saturating_sub(copied))
            })?;
            Ok::<_, Failure>(served / FAULTS)
        });
        sched_setaffinity(None, &everywhere).map_err(failed)?;
        Ok(whole(ns?))
    }

    /// Answers so many faults. How long the copies took.
    fn serve(&self, faults: u32) -> Result<Duration, Failure> {
        sched::raise_priority();
        let mut copied = Duration::ZERO;
        let mut messages = [UffdMsg::EMPTY; 1];
        for _ in 0..faults {
            if self.uffd.wait_msgs(&mut messages, Some(5_000_000_000)).map_err(failed)? != 1 {
                return Err(failed("no fault arrives"));
            }
            let Event::Fault { addr, .. } = messages[0].event() else { return Err(failed("no fault")) };
            let page = PageRange::new(HERE, Vpn::of(addr as u64), 1);
            copied += timed(|| all(self.mmu().copy_zeroes(page), 1))?;
            self.mmu().wake(page);
        }
        Ok(copied)
    }

    /// What a running thread loses to each move of another one.
    fn interrupt(&self) -> Result<u64, Failure> {
        self.empty()?;
        let frames = FrameRun::new(Frame(0), 1);
        self.fill(frames);
        let (count, over) = (AtomicU64::new(0), AtomicBool::new(false));
        let lost = thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    count.fetch_add(1, Relaxed);
                }
            });
            while count.load(Relaxed) == 0 {
                thread::yield_now();
            }
            let lost = median(|| {
                let rate = rate_of(&count, || {
                    let until = Instant::now() + Duration::from_millis(10);
                    while Instant::now() < until {}
                    Ok::<_, Failure>(())
                })?;
                const MOVES: u32 = 1000;
                let mut taken = Duration::ZERO;
                let slowed = rate_of(&count, || {
                    taken = timed(|| {
                        (0..MOVES / 2).try_for_each(|_| {
                            all(self.mmu().move_in(frames, HERE, self.at(0)), 1)?;
                            all(self.mmu().move_out(HERE, self.at(0), frames), 1)
                        })
                    })?;
                    Ok::<_, Failure>(())
                })?;
                let share = (1.0 - slowed / rate.max(1e-9)).clamp(0.0, 1.0);
                Ok::<_, Failure>(taken.mul_f64(share) / MOVES)
            });
            over.store(true, Relaxed);
            lost
        })?;
        Ok(whole(lost))
    }
}

fn all(done: Done, pages: u32) -> Result<(), Failure> {
    if done == Done::all(pages) { Ok(()) } else { Err(failed(format!("a verb was refused: {done:?}"))) }
}

/// How fast a counter rises while something is done, in a ns.
fn rate_of<E>(count: &AtomicU64, work: impl FnOnce() -> Result<(), E>) -> Result<f64, E> {
    let before = count.load(Relaxed);
    let taken = timed(work)?;
    Ok((count.load(Relaxed) - before) as f64 / taken.as_nanos().max(1) as f64)
}

/// Words in a page.
const WORDS: usize = PAGE_SIZE / 8;

/// Accesses that hit in the first level of the TLB, in the second, and in none.
fn translations(costs: &mut Costs) {
    const FEW: usize = 256;
    const MANY: usize = 8192;
    let near = chase(FEW, 8);
    costs.access = whole(near);
    costs.second_level = whole(chase(FEW, WORDS + 8) - near);
    costs.walk = whole(chase(MANY, WORDS + 8) - chase(MANY, 8)).max(costs.second_level + 1);
}

/// What it takes to follow a chain through `lines` cache lines in random order, `step` words apart, in ns a line.
fn chase(lines: usize, step: usize) -> f64 {
    const STEPS: u32 = 1 << 20;
    let words = chain(lines, step);
    let ns = median(|| timed(|| Ok::<_, ()>(_ = black_box(follow(&words, STEPS)))));
    ns.unwrap_or_default() / f64::from(STEPS)
}

/// Where so many steps along a chain lead, from its beginning.
fn follow(words: &[u64], steps: u32) -> u64 {
    (0..steps).fold(0, |at, _| words[at as usize])
}

/// A ring: the first of each `step` words names the first of the next ones, in random order.
fn chain(lines: usize, step: usize) -> Vec<u64> {
    let mut words = vec![0u64; lines * step + WORDS];
    let start = words.as_ptr().addr().next_multiple_of(PAGE_SIZE);
    let pages = (words.len() * 8 - PAGE_SIZE) / PAGE_SIZE;
    // With huge pages the numbers are too good, and that is all.
    let _ = mmap::no_huge_pages(start, pages * PAGE_SIZE);
    let mut order: Vec<usize> = (1..lines).collect();
    let mut rng = Rng::new(1);
    for at in (1..order.len()).rev() {
        order.swap(at, rng.below(at as u64 + 1) as usize);
    }
    let mut at = 0;
    for next in order {
        words[at * step] = (next * step) as u64;
        at = next;
    }
    words
}

/// Pages of records as programs have them, of 32 bytes: a number, one of some pointers, an empty word and a flag.
fn sample_pages() -> Vec<Page> {
    let mut rng = Rng::new(1);
    let mut record = |number: u64| {
        let pointer = 0x7f12_3400_0000_u64 + rng.below(256) * 64;
        [number, pointer, 0, rng.below(2)].map(u64::to_le_bytes)
    };
    let mut page = |first: u64| {
        let mut page = [0; PAGE_SIZE];
        for (bytes, number) in page.chunks_exact_mut(32).zip(first..) {
            bytes.copy_from_slice(record(number).as_flattened());
        }
        page
    };
    (0..64).map(|number| page(number << 20)).collect()
}

fn codec(costs: &mut Costs) -> Result<(), Failure> {
    let secret = Secret::random().map_err(failed)?;
    let mut codec = Codec::new(&secret).map_err(failed)?;
    let pages = sample_pages();
    let count = pages.len() as f64;
    let hash = median(|| {
        timed(|| {
            pages.iter().for_each(|page| _ = black_box(codec.hash(page)));
            Ok::<_, Failure>(())
        })
    })?;
    let mut stored: Vec<Vec<u8>> = Vec::new();
    let packing = median(|| {
        stored.clear();
        timed(|| {
            for page in &pages {
                let mut out = [0; ROOM];
                let Packed::Small { len, .. } = codec.pack(page, None, false, &mut out) else {
                    return Err(failed("a page of numbers does not compress"));
                };
                stored.push(out[..usize::from(len)].to_vec());
            }
            Ok(())
        })
    })?;
    let mut back = [0; PAGE_SIZE];
    let expanding = median(|| {
        timed(|| {
            for bytes in &stored {
                if !codec.decompress(bytes, &mut back) {
                    return Err(failed("what was compressed does not come back"));
                }
                black_box(codec.hash(&back));
            }
            Ok(())
        })
    })?;
    (costs.hash_page, costs.compress_page) = (whole(hash / count), whole(packing / count));
    costs.expand_page = whole(expanding / count);
    Ok(())
}

/// Direct reads and writes of a spill file, where `quire run` would have it.
fn disk(costs: &mut Costs) -> Result<(), Failure> {
    let file = Spill::choose(None, false)?
        .open()
        .ok_or_else(|| Failure::own("no directory to spill to: set TMPDIR to one on a disk"))?;
    let mut bounce = Bounce::new(LONG as usize * PAGE_SIZE).map_err(failed)?;
    let mut rng = Rng::new(1);
    bounce.bytes_mut().iter_mut().for_each(|byte| *byte = rng.any() as u8);
    const PLACES: u64 = 64;
    let place = |rng: &mut Rng| rng.below(PLACES) * u64::from(LONG) * PAGE_SIZE as u64;
    for at in 0..PLACES {
        let offset = at * u64::from(LONG) * PAGE_SIZE as u64;
        bounce.write_direct(&file, offset, LONG as usize * PAGE_SIZE).map_err(failed)?;
    }
    let mut write = |pages: u32| {
        median(|| timed(|| bounce.write_direct(&file, place(&mut rng), pages as usize * PAGE_SIZE)))
            .map_err(failed)
    };
    (costs.write_call, costs.write_page) = line(write(SHORT)?, write(LONG)?);
    let mut read = |pages: u32| {
        median(|| timed(|| bounce.read_direct(&file, place(&mut rng), pages as usize * PAGE_SIZE).map(drop)))
            .map_err(failed)
    };
    (costs.read_call, costs.read_page) = line(read(SHORT)?, read(LONG)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_pages_are_what_lz4_is_for() {
        let mut codec = Codec::new(&Secret::random().unwrap()).unwrap();
        for page in sample_pages() {
            let mut out = [0; ROOM];
            let Packed::Small { len, .. } = codec.pack(&page, None, false, &mut out) else {
                panic!("too large")
            };
            // The first byte names the method; zstd, the second choice, is 2.
            assert!(out[0] == 1 && (1000..2500).contains(&len), "method {}, {len} bytes", out[0]);
        }
    }

    #[test]
    fn a_chain_goes_through_every_line_once_and_comes_back() {
        for (lines, step) in [(1, 8), (7, 8), (64, WORDS + 8)] {
            let words = chain(lines, step);
            let places: Vec<u64> = (0..lines as u32).map(|steps| follow(&words, steps)).collect();
            let mut sorted = places.clone();
            sorted.sort_unstable();
            let all: Vec<u64> = (0..lines as u64).map(|line| line * step as u64).collect();
            assert_eq!(sorted, all);
            assert_eq!(follow(&words, lines as u32), 0);
            assert!(lines < 8 || places != all, "not in random order");
        }
    }

    #[test]
    fn a_median_is_the_middle_of_its_rounds() {
        let mut round = 0;
        let ns = median(|| {
            round += 1;
            // 15 rounds: 0, 7, 14, 6, 13, 5, ..
            Ok::<_, ()>(Duration::from_nanos(1000 + (round * 7) % 15))
        });
        assert_eq!((ns, round), (Ok(1007.0), 15));
    }

    #[test]
    fn a_verb_has_to_do_all_of_it() {
        assert!(all(Done::all(3), 3).is_ok());
        assert!(all(Done::all(2), 3).is_err());
    }

    #[test]
    fn a_line_goes_through_both_lengths() {
        assert_eq!(line(1010.0, 1640.0), (1000, 10));
        assert_eq!(line(5.0, 5.0), (5, 1));
    }
}
