//! Both readers of traces on anything that could be given to them: traces and lackey's text as they should be, damaged
//! ones, and bytes that never were either.
//!
//! No input makes a reader panic, go on after its end, or take memory; what is right comes back as it went in. One
//! number names a case: `QUIRE_SEED=n` begins with that one, `QUIRE_FUZZ_SECONDS=n` goes on for so long, half of
//! it with each reader (0 for one case), 5 s if not told. All is one test, since the memory that it looks at is that of the process.
//! Five minutes from a seed of today:
//!
//! ```text
//! QUIRE_FUZZ_SECONDS=300 QUIRE_SEED=$(date +%s) cargo test -p quire-sim --test fuzz_readers -- --nocapture
//! ```

use quire_core::mmu::Prot;
use quire_core::{PageRange, Space, Vpn};
use quire_sim::rng::Rng;
use quire_sim::trace::{
    Access, Error, ErrorKind, Event, Lackey, LackeyCounts, LackeyOptions, Reader, SPACE_PAGES, Writer,
};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::time::{Duration, Instant};

/// What the process's memory may grow by while cases run; one of them needs a tenth.
const MOST_KIB: u64 = 4 << 10;
/// Cases after which every kind of error has to have come.
const ENOUGH: u64 = 20_000;

/// Gives bytes in pieces of any size, with interruptions, and may break.
struct Pieces<'a> {
    bytes: &'a [u8],
    rng: Rng,
    breaks: bool,
}

impl<'a> Pieces<'a> {
    fn new(bytes: &'a [u8], rng: &mut Rng) -> Pieces<'a> {
        Pieces { bytes, breaks: rng.chance(5), rng: rng.part(0) }
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self.rng.below(20) {
            0 => return Err(io::ErrorKind::Interrupted.into()),
            1 if self.breaks => return Err(io::ErrorKind::ConnectionReset.into()),
            _ => {}
        }
        let most = 1 + self.rng.below(to.len() as u64) as usize;
        self.bytes.read(&mut to[..most])
    }
}

/// Mostly small numbers, now and then any.
fn number(rng: &mut Rng, most: u64) -> u64 {
    let bits = rng.below(65).min(rng.below(65)) as u32;
    rng.any().checked_shr(64 - bits).unwrap_or(0).min(most)
}

fn any_event(rng: &mut Rng, near: Vpn) -> Event {
    let space = Space(if rng.chance(80) { 0 } else { rng.any() as u16 });
    let start = Vpn(number(rng, SPACE_PAGES - 1));
    let range = PageRange::new(space, start, 1 + number(rng, SPACE_PAGES - 1 - start.0));
    let prot = Prot::from_bits(rng.any() as u32);
    match rng.below(20) {
        0 => Event::Map { range, prot },
        1 => Event::Unmap(range),
        2 => Event::Discard(range),
        3 => Event::Protect { range, prot },
        4 => Event::Fork { parent: space, child: Space(space.0 ^ 1 ^ number(rng, 0xfffe) as u16 & 0xfffe) },
        5 => Event::Exit(space),
        6 => Event::Time { ns: number(rng, u64::MAX) },
        _ => {
            let vpn = if rng.chance(10) { start } else { Vpn(near.0 ^ rng.below(16)) };
            let times = 1 + number(rng, u64::from(u32::MAX) - 1) as u32;
            Event::Access(Access { space, vpn, write: rng.chance(50), times })
        }
    }
}

fn any_events(rng: &mut Rng) -> Vec<Event> {
    let near = Vpn(number(rng, SPACE_PAGES - 1) & !15);
    (0..number(rng, 300)).map(|_| any_event(rng, near)).collect()
}

fn written(events: &[Event]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    events.iter().for_each(|&e| writer.write(e).expect("an event that can happen"));
    writer.finish().expect("memory takes all")
}

/// One piece of damage.
fn damage(bytes: &mut Vec<u8>, rng: &mut Rng) {
    let length = bytes.len() as u64;
    let at = rng.below(length + 1) as usize;
    let to = at + rng.below(length - at as u64 + 1) as usize;
    let byte = [0, 1, 0x1f, 0x7f, 0x80, 0xff, b'\n', b','][rng.below(8) as usize];
    match rng.below(8) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, byte),
        2 => bytes.insert(at, rng.any() as u8),
        3 => _ = bytes.drain(at..to.min(at + 20)),
        4 => {
            let piece = bytes[at..to.min(at + 200)].to_vec();
            let place = rng.below(length + 1) as usize;
            bytes.splice(place..place, piece);
        }
        5 if at < bytes.len() => bytes[at] = byte,
        6 if at < bytes.len() => bytes[at] = rng.any() as u8,
        _ if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
        _ => {}
    }
}

/// Makes the last four bytes the checksum of those before, so that damage is not just that.
fn mend_checksum(bytes: &mut [u8]) {
    let Some((body, sum)) = bytes.split_last_chunk_mut::<4>() else { return };
    let crc = body.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    });
    *sum = (!crc).to_le_bytes();
}

fn any_bytes(rng: &mut Rng) -> Vec<u8> {
    (0..number(rng, 2000)).map(|_| rng.any() as u8).collect()
}

/// All events, and how it ended; nothing may come after.
fn read_all(
    reader: &mut dyn Iterator<Item = Result<Event, Error>>,
    bytes: usize,
) -> (Vec<Event>, Option<Error>) {
    let mut events = vec![];
    let error = loop {
        match reader.next() {
            None => break None,
            Some(Err(error)) => break Some(error),
            Some(Ok(event)) => events.push(event),
        }
        // An event takes a byte, and a line at most three events.
        assert!(events.len() <= bytes + 4, "more events than bytes");
    };
    assert!((0..3).all(|_| reader.next().is_none()), "something after the end");
    assert!(error.is_none_or(|e| e.at <= bytes as u64), "an error behind the end: {error:?}");
    assert!(events.iter().all(Event::is_valid), "an event that can't happen");
    (events, error)
}

fn read_trace(bytes: &[u8], rng: &mut Rng) -> (Vec<Event>, Option<Error>) {
    match Reader::new(Pieces::new(bytes, rng)) {
        Ok(mut reader) => read_all(&mut reader, bytes.len()),
        Err(error) => (vec![], Some(error)),
    }
}

fn trace_case(rng: &mut Rng) -> &'static str {
    let events = any_events(rng);
    let mut bytes = written(&events);
    let kind = rng.below(10);
    match kind {
        0 => {}
        1 => bytes = any_bytes(rng),
        2 => bytes = [&bytes[..12], &any_bytes(rng)].concat(),
        _ => (0..=rng.below(4)).for_each(|_| damage(&mut bytes, rng)),
    }
    if kind > 5 {
        mend_checksum(&mut bytes);
    }
    let (read, error) = read_trace(&bytes, rng);
    if kind == 0 && error.is_none_or(|e| !matches!(e.kind, ErrorKind::Io(_))) {
        assert_eq!((&read, error), (&events, None), "a good trace");
    }
    if error.is_none() {
        let again = written(&read);
        let both = Reader::new(&*again).expect("a trace").collect::<Result<Vec<_>, _>>();
        assert_eq!(both, Ok(read), "what was read is written and read");
    }
    name(error)
}

fn name(error: Option<Error>) -> &'static str {
    match error.map(|e| e.kind) {
        None => "read",
        Some(ErrorKind::Io(_)) => "io",
        Some(ErrorKind::NoTrace) => "no trace",
        Some(ErrorKind::Version(_)) => "version",
        Some(ErrorKind::PageShift(_)) => "page shift",
        Some(ErrorKind::Reserved(_)) => "reserved",
        Some(ErrorKind::Truncated) => "truncated",
        Some(ErrorKind::Unknown(_)) => "unknown",
        Some(ErrorKind::Number) => "number",
        Some(ErrorKind::Event) => "event",
        Some(ErrorKind::Count { .. }) => "count",
        Some(ErrorKind::Checksum) => "checksum",
        Some(ErrorKind::Trailing) => "trailing",
        Some(_) => "another",
    }
}

const TRACE_ENDS: usize = 13;

/// Runs of accesses as lackey's reader makes them: no two of the same page in a row.
fn any_runs(rng: &mut Rng, space: Space) -> Vec<Access> {
    let mut last = Vpn(0);
    let mut runs = vec![];
    for _ in 0..number(rng, 60) {
        let any = Vpn(if rng.chance(50) { number(rng, SPACE_PAGES - 1) } else { last.0 ^ 1 });
        if any != last {
            last = any;
            runs.push(Access { space, vpn: any, write: rng.chance(50), times: 1 + rng.below(5) as u32 });
        }
    }
    runs
}

/// Lackey's text of such runs. Writing ones have one line that writes, anywhere.
fn text_of(runs: &[Access], rng: &mut Rng) -> String {
    let mut text = String::from("==1== Lackey, an example Valgrind tool\n");
    for run in runs {
        let writer = rng.below(u64::from(run.times)) as u32;
        for i in 0..run.times {
            let letter = match run.write && i == writer {
                true => ['S', 'M'][rng.below(2) as usize],
                false => 'L',
            };
            let bytes = 1 + rng.below(64);
            let addr = run.vpn.addr() + rng.below(4097 - bytes);
            if rng.chance(50) {
                text += &format!("I  {:08x},{}\n", 0x401_0000 + rng.below(1 << 20), 1 + rng.below(15));
            }
            text += &format!(" {letter} {addr:08x},{bytes}\n");
        }
    }
    text
}

fn lines_of(counts: &LackeyCounts) -> u64 {
    let LackeyCounts { instructions, loads, stores, modifies, ignored } = *counts;
    instructions + loads + stores + modifies + ignored
}

fn lackey_case(rng: &mut Rng) -> &'static str {
    let space = Space(rng.any() as u16);
    let runs = any_runs(rng, space);
    let text = text_of(&runs, rng);
    let mut bytes = text.into_bytes();
    let kind = rng.below(8);
    match kind {
        0 | 1 => {}
        2 => bytes = any_bytes(rng),
        _ => (0..=rng.below(6)).for_each(|_| damage(&mut bytes, rng)),
    }
    let options = LackeyOptions { space, instructions: kind > 0 && rng.chance(50), tick_ns: rng.below(20) };
    let mut reader = Lackey::new(Pieces::new(&bytes, rng), options);
    let (events, error) = read_all(&mut reader, bytes.len());
    let counts = *reader.counts();
    if let Some(error) = error {
        assert!(matches!(error.kind, ErrorKind::Io(_)), "{error:?}");
        return "io";
    }
    // A last line need not end.
    let lines = bytes.iter().filter(|&&b| b == b'\n').count() as u64;
    let open = u64::from(bytes.last().is_some_and(|&b| b != b'\n'));
    assert_eq!(lines_of(&counts), lines + open, "each line is counted once");
    check_sums(&events, &counts, options);
    if kind > 0 {
        return "read";
    }
    let accesses: Vec<Event> = events.into_iter().filter(|e| matches!(e, Event::Access(_))).collect();
    assert_eq!(accesses, runs.into_iter().map(Event::Access).collect::<Vec<_>>(), "a good text");
    "as it was"
}

/// Time is instructions, and lines are accesses of one or two pages.
fn check_sums(events: &[Event], counts: &LackeyCounts, options: LackeyOptions) {
    let (mut ns, mut times) = (0, 0);
    for event in events {
        match event {
            Event::Time { ns: more } => ns += more,
            Event::Access(access) => times += u64::from(access.times),
            other => panic!("{other:?} is not in a text of lackey"),
        }
    }
    assert_eq!(ns, if options.tick_ns > 0 { counts.instructions } else { 0 });
    let instructions = if options.instructions { counts.instructions } else { 0 };
    let lines = counts.loads + counts.stores + counts.modifies + instructions;
    assert!((lines..=2 * lines).contains(&times), "{times} accesses of {lines} lines");
}

const LACKEY_ENDS: usize = 3;

/// Says which case it was if it panics.
struct Told(&'static str, u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: again by QUIRE_FUZZ_SECONDS=0 QUIRE_SEED={}", self.0, self.1);
        }
    }
}

/// Runs cases of one kind for so long; all `ends` have to be met if there were enough.
#[expect(clippy::disallowed_methods, reason = "how long it goes on decides no case")]
fn fuzz(reader: &'static str, seconds: u64, ends: usize, case: fn(&mut Rng) -> &'static str) {
    let first = setting("QUIRE_SEED").unwrap_or(0);
    let begin = Instant::now();
    let mut met: BTreeMap<&str, u64> = BTreeMap::new();
    let mut cases = 0;
    while cases == 0 || begin.elapsed() < Duration::from_secs(seconds) {
        let _told = Told(reader, first + cases);
        *met.entry(case(&mut Rng::new(first + cases))).or_default() += 1;
        cases += 1;
    }
    println!("{reader}: {cases} cases from seed {first} in {seconds} s: {met:?}");
    assert!(cases < ENOUGH || met.len() >= ends, "{reader}: {cases} cases met only {met:?}");
}

#[expect(clippy::disallowed_methods, reason = "whoever runs the test decides")]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The most address space that this process ever had, in KiB: what was asked for counts, used or not.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|l| l.strip_prefix("VmPeak:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn no_input_makes_a_reader_panic_or_grow() {
    let seconds = setting("QUIRE_FUZZ_SECONDS").unwrap_or(5);
    // What the first cases need is there from then on.
    for seed in 0..if seconds > 0 { 2000 } else { 0 } {
        trace_case(&mut Rng::new(seed));
        lackey_case(&mut Rng::new(seed));
    }
    let before = peak_kib();
    // One after the other, since each looks at what the process takes: half of the time each.
    fuzz("traces", seconds.div_ceil(2), TRACE_ENDS, trace_case);
    fuzz("lackey", seconds.div_ceil(2), LACKEY_ENDS, lackey_case);
    let grown = peak_kib() - before;
    println!("{grown} KiB more at the peak");
    assert!(seconds == 0 || grown <= MOST_KIB, "{grown} KiB more");
}
