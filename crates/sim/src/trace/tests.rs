//! Traces there and back, damaged ones, and the text of lackey.

use super::*;
use crate::rng::Rng;
use std::io::{self, Read};

fn pages(space: u16, start: u64, pages: u64) -> PageRange {
    PageRange::new(Space(space), Vpn(start), pages)
}

/// One of each kind, with the ends of what they can say.
fn one_of_each() -> Vec<Event> {
    let last = SPACE_PAGES - 1;
    vec![
        Event::Map { range: pages(0, 0x7f00_0000, 1024), prot: Prot::READ_WRITE },
        Event::Access(Access::write(Space(0), Vpn(0x7f00_0000))),
        Event::Access(Access { times: u32::MAX, ..Access::read(Space(0), Vpn(0x7f00_0001)) }),
        Event::Access(Access { times: 2, ..Access::write(Space(0), Vpn(last)) }),
        Event::Access(Access::read(Space(0), Vpn(0))),
        Event::Protect { range: pages(0, 0x7f00_0000, 1), prot: Prot::NONE },
        Event::Protect { range: pages(0, 0x7f00_0000, 1), prot: Prot::from_bits(7) },
        Event::Fork { parent: Space(0), child: Space(u16::MAX) },
        Event::Access(Access::write(Space(u16::MAX), Vpn(0x7f00_0000))),
        Event::Time { ns: u64::MAX },
        Event::Discard(pages(u16::MAX, 0, SPACE_PAGES)),
        Event::Exit(Space(u16::MAX)),
        Event::Unmap(pages(3, last, 1)),
    ]
}

fn written(events: &[Event]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    events.iter().for_each(|&e| writer.write(e).unwrap());
    writer.finish().unwrap()
}

fn read(bytes: impl Read) -> Result<Vec<Event>, Error> {
    Reader::new(bytes)?.collect()
}

fn kind(bytes: &[u8]) -> ErrorKind {
    read(bytes).expect_err("damaged").kind
}

fn random_events(seed: u64, count: usize) -> Vec<Event> {
    let mut rng = Rng::new(seed);
    let mut last = 1 << 20;
    (0..count)
        .map(|_| {
            let space = Space(if rng.chance(90) { 0 } else { rng.any() as u16 });
            let range = |rng: &mut Rng| {
                let start = rng.below(SPACE_PAGES);
                PageRange::new(space, Vpn(start), 1 + rng.below((SPACE_PAGES - start).min(2048)))
            };
            let prot = Prot::from_bits(rng.any() as u32);
            match rng.below(40) {
                0 => Event::Map { range: range(&mut rng), prot },
                1 => Event::Unmap(range(&mut rng)),
                2 => Event::Discard(range(&mut rng)),
                3 => Event::Protect { range: range(&mut rng), prot },
                4 => Event::Fork { parent: space, child: Space(space.0.wrapping_add(1)) },
                5 => Event::Exit(space),
                6 => Event::Time { ns: rng.any() >> rng.below(64) },
                _ => {
                    last = if rng.chance(5) { rng.below(SPACE_PAGES) } else { last ^ rng.below(64) };
                    let times = if rng.chance(30) { 1 + rng.below(u64::from(u32::MAX)) as u32 } else { 1 };
                    Event::Access(Access { space, vpn: Vpn(last), write: rng.chance(30), times })
                }
            }
        })
        .collect()
}

/// Gives one byte at a time, and now and then an interruption.
struct Slow<'a>(&'a [u8], bool);

impl Read for Slow<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
        (to[0], self.0) = (*first, rest);
        Ok(1)
    }
}

/// Fails after some bytes.
struct Broken<'a>(&'a [u8]);

impl Read for Broken<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() { Err(io::ErrorKind::PermissionDenied.into()) } else { self.0.read(to) }
    }
}

#[test]
fn what_was_written_is_read() {
    assert_eq!(read(&*written(&[])), Ok(vec![]));
    let events = one_of_each();
    let bytes = written(&events);
    assert_eq!(read(&*bytes), Ok(events.clone()));
    assert_eq!(read(Slow(&bytes, false)), Ok(events));
    for seed in 0..8 {
        let events = random_events(seed, 20_000);
        let bytes = written(&events);
        assert!(bytes.len() > 1 << 16, "more than one buffer: {}", bytes.len());
        assert_eq!(read(&*bytes), Ok(events), "seed {seed}");
    }
}

/// Counts what it is given, and in pieces of what size.
#[derive(Default)]
struct Pieces {
    bytes: usize,
    largest: usize,
}

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes += bytes.len();
        self.largest = self.largest.max(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_writer_keeps_no_more_than_its_buffer() {
    let mut writer = Writer::new(Pieces::default());
    random_events(1, 200_000).into_iter().for_each(|e| writer.write(e).unwrap());
    let Pieces { bytes, largest } = writer.finish().unwrap();
    assert!(bytes > 1_000_000, "{bytes}");
    assert!((60 << 10..=64 << 10).contains(&largest), "few and large, but not larger than 64 KiB: {largest}");
}

#[test]
fn what_was_flushed_is_there_when_the_writer_is_not() {
    let events = random_events(4, 100);
    let mut writer = Writer::new(Vec::new());
    writer.flush().unwrap();
    events[..60].iter().for_each(|&e| writer.write(e).unwrap());
    writer.flush().unwrap();
    events[60..].iter().for_each(|&e| writer.write(e).unwrap());
    let whole = writer.finish().unwrap();
    assert_eq!(whole, written(&events), "flushing changes nothing of the trace");

    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes);
    events[..60].iter().for_each(|&e| writer.write(e).unwrap());
    writer.flush().unwrap();
    events[60..].iter().for_each(|&e| writer.write(e).unwrap());
    drop(writer);
    let mut reader = Reader::new(&*bytes).unwrap();
    assert!(reader.by_ref().take(60).map(Result::unwrap).eq(events[..60].iter().copied()));
    assert_eq!(reader.next().unwrap().unwrap_err().kind, ErrorKind::Truncated);
}

#[test]
fn near_accesses_take_a_byte() {
    let size = |distance: u64, times: u32| {
        let at = |i: u64| Access { times, ..Access::read(Space(0), Vpn((1 << 30) + i * distance)) };
        let bytes = |n| written(&(0..n).map(|i| Event::Access(at(i))).collect::<Vec<_>>()).len();
        bytes(101) - bytes(1)
    };
    assert_eq!(size(3, 1), 100);
    assert_eq!(size(4, 1), 200);
    assert_eq!(size(511, 1), 200);
    assert_eq!(size(512, 1), 300);
    assert_eq!(size(1, 129), 200);
}

#[test]
fn to_and_fro_between_two_far_places_takes_a_byte_each() {
    let at = |i: u64| if i.is_multiple_of(2) { 0x7fff_0000 - i / 8 } else { 0x400 + i / 8 };
    let events: Vec<_> = (0..1002).map(|i| Event::Access(Access::read(Space(0), Vpn(at(i))))).collect();
    let bytes = written(&events);
    assert_eq!(bytes.len() - written(&events[..2]).len(), 1000 + 1, "one more for the number of events");
    assert_eq!(read(&*bytes), Ok(events));
}

#[test]
fn the_example_of_the_format_page_is_what_is_written() {
    let page = include_str!("../../../../docs/trace.md");
    let rows = page.split("| bytes | meaning |").nth(1).expect("the table of the example").lines().skip(2);
    let hex = rows.take_while(|row| row.starts_with('|')).flat_map(|row| {
        row.split('`').nth(1).expect("bytes first").split(' ').map(|b| u8::from_str_radix(b, 16).unwrap())
    });
    let events = [
        Event::Map { range: pages(0, 0x100, 8), prot: Prot::READ_WRITE },
        Event::Access(Access::write(Space(0), Vpn(0x100))),
        Event::Access(Access { times: 3, ..Access::read(Space(0), Vpn(0x107)) }),
        Event::Access(Access::write(Space(0), Vpn(0x0f0))),
        Event::Access(Access::read(Space(0), Vpn(1))),
        Event::Fork { parent: Space(0), child: Space(1) },
        Event::Access(Access::write(Space(1), Vpn(0x0f1))),
        Event::Exit(Space(1)),
        Event::Time { ns: 1000 },
    ];
    let bytes = written(&events);
    assert_eq!(
        hex.collect::<Vec<u8>>(),
        bytes,
        "{}",
        bytes.iter().map(|b| format!("{b:02x} ")).collect::<String>()
    );
}

#[test]
fn a_trace_that_was_cut_off_is_told_wherever_it_was() {
    let bytes = written(&one_of_each());
    for length in 0..bytes.len() {
        let error = read(&bytes[..length]).expect_err("cut off");
        let kind = if length < 8 { ErrorKind::NoTrace } else { ErrorKind::Truncated };
        assert_eq!(error, Error { at: length as u64, kind });
    }
}

#[test]
fn no_flipped_bit_goes_unnoticed() {
    let bytes = written(&one_of_each());
    for bit in 0..8 * bytes.len() {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&*damaged).is_err(), "bit {bit}");
    }
}

#[test]
fn each_kind_of_damage_has_a_name() {
    let good = written(&one_of_each()[..2]);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        kind(&bytes)
    };
    let record = |bytes: &[u8]| kind(&[&good[..12], bytes].concat());
    assert_eq!(kind(b"GIF89a"), ErrorKind::NoTrace);
    assert_eq!(with(8, 2), ErrorKind::Version(2));
    assert_eq!(with(10, 14), ErrorKind::PageShift(14));
    assert_eq!(with(11, 1), ErrorKind::Reserved(1));
    assert_eq!(with(good.len() - 1, !good[good.len() - 1]), ErrorKind::Checksum);
    assert_eq!(with(good.len() - 5, 3), ErrorKind::Count { said: 3, read: 2 });
    assert_eq!(kind(&[&good[..], &[0]].concat()), ErrorKind::Trailing);
    assert_eq!(record(&[9 << 1 | 1]), ErrorKind::Unknown(0x13));
    assert_eq!(record(&[0x80, 0]), ErrorKind::Number, "a distance that says it is long, and is not");
    assert_eq!(record(&[8 << 1 | 1, 0x81, 0]), ErrorKind::Number, "a zero at the end of a number");
    assert_eq!(record(&[&[0x11][..], &[0xff; 10]].concat()), ErrorKind::Number, "more than 64 bits");
    assert_eq!(record(&[&[0x11][..], &[0xff; 9], &[2]].concat()), ErrorKind::Number, "65 bits");
    assert_eq!(record(&[5 << 1 | 1, 0x80, 0x80, 4]), ErrorKind::Number, "space 65536");
    assert_eq!(record(&[1 << 1 | 1, 0, 1, 8]), ErrorKind::Number, "rights beyond execute");
    assert_eq!(record(&[1 << 4]), ErrorKind::Event, "a page before the first");
    assert_eq!(record(&[2 << 1 | 1, 0, 0]), ErrorKind::Event, "a range without a page");
    assert_eq!(record(&[6 << 1 | 1, 0]), ErrorKind::Event, "its own child");
}

#[test]
fn errors_come_once_and_say_where() {
    let good = written(&one_of_each());
    let mut reader = Reader::new(&good[..15]).unwrap();
    let error = reader.next().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "byte 15: the trace was cut off: its end mark is missing");
    assert_eq!(reader.next(), None);
    let error = read(Broken(&good[..20])).unwrap_err();
    assert_eq!(error, Error { at: 20, kind: ErrorKind::Io(io::ErrorKind::PermissionDenied) });
}

#[test]
fn an_event_that_cannot_happen_is_not_written() {
    let mut writer = Writer::new(Vec::new());
    let beyond = SPACE_PAGES;
    for event in [
        Event::Access(Access::read(Space(0), Vpn(beyond))),
        Event::Access(Access { times: 0, ..Access::read(Space(0), Vpn(0)) }),
        Event::Unmap(pages(0, 5, 0)),
        Event::Unmap(pages(0, 1, beyond)),
        Event::Discard(pages(0, u64::MAX, u64::MAX)),
        Event::Fork { parent: Space(4), child: Space(4) },
    ] {
        assert_eq!(writer.write(event).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{event:?}");
    }
    assert_eq!(writer.events(), 0);
    assert_eq!(read(&*writer.finish().unwrap()), Ok(vec![]));
}

const QUIET: LackeyOptions = LackeyOptions { space: Space(0), instructions: false, tick_ns: 0 };

fn lackey(text: &str, options: LackeyOptions) -> (Vec<Event>, LackeyCounts) {
    let mut reader = Lackey::new(text.as_bytes(), options);
    let events = reader.by_ref().map(Result::unwrap).collect();
    (events, *reader.counts())
}

fn access(vpn: u64, write: bool, times: u32) -> Event {
    Event::Access(Access { space: Space(0), vpn: Vpn(vpn), write, times })
}

#[test]
fn lackeys_lines_become_runs_of_accesses_to_a_page() {
    let text = "==12== Lackey, an example Valgrind tool\n\
        I  0401ab70,3\n\
        \x20L 1fff000778,8\n\
        I  0401ab73,5\n\
        \x20S 1fff000770,8\n\
        \x20M 04001000,4\n\
        \x20L 1fff000778,8\n\
        hello from the program\n";
    let (events, counts) = lackey(text, QUIET);
    assert_eq!(events, [access(0x1fff000, true, 2), access(0x4001, true, 1), access(0x1fff000, false, 1)]);
    let expected = LackeyCounts { instructions: 2, loads: 2, stores: 1, modifies: 1, ignored: 2 };
    assert_eq!(counts, expected);
}

#[test]
fn an_access_across_a_border_touches_both_pages() {
    let (events, _) = lackey(" L 1ffe,4\n S 2000,1", QUIET);
    assert_eq!(events, [access(1, false, 1), access(2, true, 2)], "the last line needs no end");
}

#[test]
fn instructions_are_accesses_and_time_if_asked_for() {
    let text = "I  1000,3\nI  1003,3\n L 5000,8\nI  1006,3\n";
    let told = Event::Time { ns: 2 };
    let (events, _) = lackey(text, LackeyOptions { tick_ns: 2, ..QUIET });
    assert_eq!(events, [told, access(5, false, 1), Event::Time { ns: 1 }]);
    let (events, _) = lackey(text, LackeyOptions { instructions: true, ..QUIET });
    assert_eq!(events, [access(1, false, 2), access(5, false, 1), access(1, false, 1)]);
}

#[test]
fn lines_that_are_not_quite_right_are_counted_and_nothing_else() {
    let long = format!(" L {},8", "0".repeat(60));
    let lines = [
        "",
        " L",
        " L ,8",
        " L 1000",
        " L 1000,",
        " L 1000,0",
        " L 1000,4097",
        " L 1000,8 ",
        " L 1000,-1",
        " L 0x1000,8",
        " L 10000000000000000,8",
        " L ffffffffffffffff,8",
        " L 200000000000000,8",
        "L  1000,8",
        " X 1000,8",
        "I 1000,3",
        &long,
    ];
    let (events, counts) = lackey(&format!("{}\n", lines.join("\n")), QUIET);
    assert_eq!(events, []);
    assert_eq!(counts, LackeyCounts { ignored: lines.len() as u64, ..LackeyCounts::default() });
    let (events, _) = lackey(" L 1fffffffffffff8,8\n L 1000,4096\n", QUIET);
    assert_eq!(events, [access(SPACE_PAGES - 1, false, 1), access(1, false, 1)]);
}

#[test]
fn an_error_of_the_input_comes_after_what_was_read() {
    let events: Vec<_> = Lackey::new(Broken(b" L 1000,8\n L 2000"), QUIET).collect();
    let error = Error { at: 17, kind: ErrorKind::Io(io::ErrorKind::PermissionDenied) };
    assert_eq!(events, [Ok(access(1, false, 1)), Err(error)]);
}

#[test]
fn lackeys_events_are_ones_that_a_trace_may_hold() {
    let text: String = (0..1000).map(|i| format!("I  {:x},4\n M {:x},64\n", i * 4, i * i * 977)).collect();
    let options = LackeyOptions { space: Space(9), instructions: true, tick_ns: 100 };
    let (events, counts) = lackey(&text, options);
    assert_eq!(counts.ignored, 0);
    assert_eq!(read(&*written(&events)), Ok(events));
}
