//! `quire replay`: its tables and its page tell what its JSON has, each number in its place; what is measured by
//! `--calibrate` is what a machine can cost.

use quire_sim::replay::Costs;
use serde_json::Value;
use std::fs;
use std::process::Command;

fn quire(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_quire")).arg("replay").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Cells in which most of what is counted happens: forks, pressure, shaping, fragmentation.
const CELLS: [&str; 9] = [
    "gen:forks:pages=4096:events=60000",
    "--policy",
    "adaptive,fixed:64K",
    "--memory",
    "12M,none",
    "--fragmentation",
    "0,50",
    "--epoch",
    "50",
];
const NAMES: [&str; 4] = ["policy", "memory", "TLB", "fragmented"];

/// A number at a path of keys, such as `swap.out_bytes`; of a list, its sum.
fn number(cell: &Value, path: &str) -> u64 {
    let found = path.split('.').fold(cell, |value, key| match key.parse::<usize>() {
        Ok(at) => &value[at],
        Err(_) => &value[key],
    });
    match found.as_array() {
        Some(list) => list.iter().map(|value| value.as_u64().unwrap()).sum(),
        None => found.as_u64().unwrap_or_else(|| panic!("no {path} in {cell}")),
    }
}

/// What is printed is `value`, rounded to so many decimals.
fn near(printed: &str, value: f64, decimals: usize, what: &str) {
    let printed: f64 = printed.parse().unwrap_or_else(|_| panic!("{what}: {printed} is no number"));
    let half = 0.5001 * 0.1_f64.powi(decimals as i32);
    assert!((printed - value).abs() <= half, "{what}: {printed}, and should be {value}");
}

/// Three digits, as far as there are decimals.
fn decimals(value: f64) -> usize {
    if value < 9.995 { 2 } else { usize::from(value < 99.95) }
}

fn is_count(text: &str, value: u64, what: &str) {
    let units = [("k", 1e3), ("M", 1e6), ("G", 1e9)];
    match units.iter().find(|(unit, _)| text.ends_with(unit)) {
        Some((unit, by)) => {
            near(text.trim_end_matches(unit), value as f64 / by, decimals(value as f64 / by), what);
        }
        None => assert_eq!(text, value.to_string(), "{what}"),
    }
}

fn is_size(text: &str, value: u64, what: &str) {
    let (number, unit) = text.split_once(' ').unwrap_or_else(|| panic!("{what}: {text} has no unit"));
    let by = match unit {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        other => panic!("{what}: {other} is no unit"),
    };
    let value = value as f64 / f64::from(1 << by);
    near(number, value, usize::from(by > 0 && value < 99.95), what);
}

fn is_time(text: &str, ns: u64, what: &str) {
    let (number, unit) = text.split_once(' ').unwrap_or_else(|| panic!("{what}: {text} has no unit"));
    let by = match unit {
        "ns" => 1.0,
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        other => panic!("{what}: {other} is no unit"),
    };
    let value = ns as f64 / by;
    near(number, value, if unit == "ns" { 0 } else { decimals(value) }, what);
}

type Check = fn(&str, u64, &str);

/// Each column of each table: its name, what it shows, and how.
fn columns() -> Vec<(String, String, Check)> {
    let mut columns: Vec<(String, String, Check)> = [
        ("time", "modelled_ns", is_time as Check),
        ("faults", "faults.all", is_count),
        ("zeroed", "bytes_zeroed", is_size),
        ("resident", "resident_bytes.mean", is_size),
        ("wasted", "wasted_bytes.mean", is_size),
        ("LRU", "lru_folios.mean", is_count),
        ("TLB misses", "tlb_lookups.misses", is_count),
        ("flushes", "tlb_lookups.flushes", is_count),
        ("out", "swap.out_bytes", is_size),
        ("in", "swap.in_bytes", is_size),
        ("rescues", "faults.rescues", is_count),
        ("edge of the VMA", "faults.less_than_wanted.edge of the VMA", is_count),
        ("neighbour", "faults.less_than_wanted.neighbour", is_count),
        ("pressure", "faults.less_than_wanted.pressure", is_count),
        ("no free run", "faults.less_than_wanted.no free run", is_count),
        ("copies", "faults.copies_on_write", is_count),
        ("copied", "faults.bytes_copied_on_write", is_size),
        ("not shared any longer", "faults.writes_to_unshared", is_count),
        ("mapped again", "faults.mapped_again", is_count),
        ("epochs", "shaping.epochs", is_count),
        ("splits", "shaping.splits", is_count),
        ("sparse", "shaping.sparse_folios", is_count),
        ("given up", "shaping.sparse_bytes", is_size),
        ("collapses", "shaping.collapses", is_count),
        ("no free run", "shaping.collapses_without_run", is_count),
        ("compacted", "shaping.compacted_bytes", is_size),
        ("moved", "shaping.moved_bytes", is_size),
    ]
    .map(|(name, path, check)| (name.into(), path.into(), check))
    .into();
    let orders = ["4K", "8K", "16K", "32K", "64K", "128K", "256K", "512K", "1M", "2M"];
    let by_order = orders.iter().enumerate();
    let by_order =
        by_order.map(|(at, order)| (order.to_string(), format!("faults.by_order.{at}"), is_count as Check));
    columns.splice(11..11, by_order);
    columns
}

/// Fields of a line of a table: two blanks or more are between them.
fn fields(line: &str) -> Vec<&str> {
    line.split("  ").map(str::trim).filter(|field| !field.is_empty()).collect()
}

/// The tables one after another, each with its names in front: rows of fields.
fn compare(tables: &[Vec<Vec<String>>], cells: &[Value]) {
    assert_eq!(tables.len(), 5);
    let columns = columns();
    let mut shown = 0;
    for table in tables {
        assert_eq!(table.len(), 1 + cells.len());
        assert_eq!(table[0][..4], NAMES);
        let here = &columns[shown..shown + table[0].len() - 4];
        for (row, cell) in table[1..].iter().zip(cells) {
            let names = [&cell["policy"], &cell["memory"], &cell["tlb"]].map(|name| name.as_str().unwrap());
            assert_eq!(row[..3], names);
            assert_eq!(row[3], format!("{}%", cell["fragmentation_percent"]));
            for (at, (name, path, check)) in here.iter().enumerate() {
                assert_eq!(&table[0][4 + at], name);
                check(&row[4 + at], number(cell, path), &format!("{names:?}, {name}"));
            }
        }
        shown += here.len();
    }
    assert_eq!(shown, columns.len());
}

#[test]
fn tables_and_page_tell_what_the_json_has() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join("page.html");
    let json: Value = serde_json::from_str(&quire(&[&CELLS[..], &["--json"]].concat())).unwrap();
    let cells = json["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 8);
    let text = quire(&[&CELLS[..], &["--html", path.to_str().unwrap()]].concat());
    // The first block is a line of its own, the last one the costs.
    let blocks: Vec<&str> = text.split("\n\n").collect();
    let rows = |block: &&str| -> Vec<Vec<String>> {
        block
            .lines()
            .skip(1)
            .map(|line| fields(line).iter().map(|field| field.to_string()).collect())
            .collect()
    };
    compare(&blocks[1..6].iter().map(rows).collect::<Vec<_>>(), cells);
    let costs = json["costs_ns"].as_object().unwrap();
    for (name, ns) in costs {
        assert!(blocks[6].contains(&format!("{name} {ns}")), "{name} in {}", blocks[6]);
    }
    let page = fs::read_to_string(&path).unwrap();
    let sheets = page.split("All figures").nth(1).unwrap();
    let tables: Vec<Vec<Vec<String>>> = sheets.split("<table>").skip(1).map(table).collect();
    compare(&tables[..5], cells);
    assert_eq!(tables[5].len(), costs.len());
    check_bars(&page, cells);
    check_course(&page, cells);
}

/// The rows of a table of the page.
fn table(html: &str) -> Vec<Vec<String>> {
    let rows = html.split("</table>").next().unwrap().split("<tr>").skip(1);
    let field = |part: &str| {
        let inside = part.split_once('>').unwrap().1;
        inside.split('<').next().unwrap().to_string()
    };
    rows.map(|row| row.split("<t").skip(1).map(field).collect()).collect()
}

/// One section of the page.
fn section<'a>(page: &'a str, title: &str) -> &'a str {
    let begin = page.split(&format!("<h2>{title}</h2>")).nth(1).unwrap_or_else(|| panic!("no {title}"));
    begin.split("<h2>").next().unwrap()
}

/// An attribute of each element that begins so.
fn attributes(html: &str, name: &str) -> Vec<f64> {
    let begin = format!(" {name}=\"");
    let values = html.split(&begin).skip(1);
    values.map(|rest| rest.split(['%', '"']).next().unwrap().parse().unwrap()).collect()
}

/// Bars are as long as what they stand for, to one scale: the longest fills the width.
fn check_bars(page: &str, cells: &[Value]) {
    let causes = |cell: &Value| number(cell, "modelled_ns") as f64;
    let misses = |cell: &Value| number(cell, "tlb_lookups.misses") as f64;
    let faults = |cell: &Value| number(cell, "faults.by_order") as f64;
    let swapped = |cell: &Value| (number(cell, "swap.out_bytes") + number(cell, "swap.in_bytes")) as f64;
    for (title, value) in [
        ("Modelled time", &causes as &dyn Fn(&Value) -> f64),
        ("TLB misses", &misses),
        ("Faults", &faults),
        ("Swap traffic", &swapped),
    ] {
        let longest = cells.iter().map(value).fold(0.0, f64::max);
        let bars: Vec<&str> = section(page, title).split("<svg").skip(1).collect();
        assert_eq!(bars.len(), cells.len(), "{title}");
        for (bar, cell) in bars.iter().zip(cells) {
            let (starts, widths) = (attributes(bar, "x"), attributes(bar, "width"));
            let mut end = 0.0;
            for (start, width) in starts.iter().zip(&widths) {
                assert!(
                    (start - end).abs() < 0.01,
                    "{title}: a part begins at {start}, the last one ended at {end}"
                );
                end += width;
            }
            let share = 100.0 * value(cell) / longest;
            assert!((end - share).abs() < 0.05, "{title}: {end} % long, should be {share}");
        }
    }
    let memory = section(page, "Resident memory");
    let peak = cells.iter().map(|cell| number(cell, "resident_bytes.peak")).max().unwrap() as f64;
    for (bar, cell) in memory.split("<svg").skip(1).zip(cells) {
        let widths = attributes(bar, "width");
        let mean: f64 = widths[..widths.len() - 1].iter().sum();
        assert!((mean - 100.0 * number(cell, "resident_bytes.mean") as f64 / peak).abs() < 0.1, "{bar}");
        let mark = *attributes(bar, "x").last().unwrap();
        let share = (100.0 * number(cell, "resident_bytes.peak") as f64 / peak).min(99.6);
        assert!((mark - share).abs() < 0.01, "the mark is at {mark}, should be at {share}");
    }
}

/// Lines go through the samples: over the width of the trace, from bottom to top.
fn check_course(page: &str, cells: &[Value]) {
    let course = section(page, "The course");
    let plots: Vec<&str> = course.split("<svg").skip(1).collect();
    // Cells that differ in their policy only share a pair of plots.
    assert_eq!(plots.len(), cells.len() / 2 * 2);
    for (at, pair) in cells.chunks(2).enumerate() {
        for (plot, field) in [(plots[2 * at], 1), (plots[2 * at + 1], 3)] {
            let samples = |cell: &Value| cell["series"].as_array().unwrap().clone();
            let value = |sample: &Value, field: usize| sample[field].as_u64().unwrap() as f64;
            let top = pair.iter().flat_map(samples).map(|s| value(&s, field)).fold(0.0, f64::max);
            let right = pair.iter().flat_map(samples).map(|s| value(&s, 0)).fold(0.0, f64::max);
            let lines: Vec<&str> =
                plot.split("points=\"").skip(1).map(|p| p.split('"').next().unwrap()).collect();
            assert_eq!(lines.len(), 2);
            for (line, cell) in lines.iter().zip(pair) {
                let points: Vec<(f64, f64)> = line
                    .split_whitespace()
                    .map(|point| point.split_once(',').unwrap())
                    .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
                    .collect();
                let samples = samples(cell);
                assert_eq!(points.len(), samples.len());
                for ((x, y), sample) in points.iter().zip(&samples) {
                    assert!((x - 1000.0 * value(sample, 0) / right).abs() < 0.1, "{x} of {sample}");
                    assert!(
                        (y - (990.0 - 970.0 * value(sample, field) / top)).abs() < 0.1,
                        "{y} of {sample}"
                    );
                }
            }
        }
    }
}

/// A machine's costs, in ns. The upper bounds are for one that is very busy; the lower ones say that what is meant was done.
#[test]
fn what_is_measured_is_what_a_machine_can_cost() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join("costs");
    quire(&["--calibrate", path.to_str().unwrap()]);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("# Costs in ns, measured by quire replay --calibrate on "), "{text}");
    assert!(text.lines().next().unwrap().contains(", Linux "), "{text}");
    let found = Costs::parse(&text).unwrap();
    let bounds = [
        ("access", 1, 800),
        ("second_level", 1, 1_200),
        ("walk", 2, 12_000),
        ("fault", 800, 4_000_000),
        ("zero_page", 20, 400_000),
        ("fresh_page", 100, 1_000_000),
        ("move_call", 150, 2_000_000),
        ("move_page", 4, 200_000),
        ("copy_call", 1, 1_000_000),
        ("copy_page", 60, 1_000_000),
        ("interrupt", 1, 2_000_000),
        ("call", 100, 1_000_000),
        ("release_page", 5, 400_000),
        ("hash_page", 20, 400_000),
        ("compress_page", 400, 40_000_000),
        ("expand_page", 150, 20_000_000),
        ("read_call", 500, 400_000_000),
        ("read_page", 1, 40_000_000),
        ("write_call", 500, 1_000_000_000),
        ("write_page", 1, 40_000_000),
    ];
    let all: Vec<_> = found.all().collect();
    assert_eq!(all.len(), bounds.len());
    for ((name, ns, _), (known, least, most)) in all.into_iter().zip(bounds) {
        assert_eq!(name, known);
        assert!((least..=most).contains(&ns), "{name} costs {ns} ns, and not {least} to {most}");
    }
}
