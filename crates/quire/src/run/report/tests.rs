//! Reports of made-up runs.

use super::*;
use quire_linux::control::wire::PolicyName;
use serde_json::Value;

fn settings() -> Settings {
    Settings {
        budget: Some(200 << 20),
        policy: PolicyName::new("adaptive").unwrap(),
        program: "/usr/bin/python3".into(),
        words: vec!["python3".into(), "job.py".into()],
        outside: None,
        exclude: "".into(),
        library: "/nonexistent".into(),
        spill: Spill::To("/var/tmp".into()),
        quiet: false,
    }
}

/// A run with something of everything.
fn outcome() -> Outcome {
    let mut totals = Totals::ZERO;
    (totals.fills[0], totals.fills[9], totals.swap_ins[0], totals.evictions[4]) = (1000, 7, 500, 60);
    totals.swap_outs[4] = 55;
    totals.rescues[4] = 5;
    totals.collapses[4] = 3;
    (totals.splits, totals.sparse_folios, totals.sparse_pages) = (40, 12, 180);
    totals.latency[latency::bucket(5_000)] = 980;
    totals.latency[latency::bucket(700_000)] = 20;
    (totals.waits, totals.wait_ns, totals.wait_max_ns) = (3, 9_000_000, 5_000_000);
    (totals.evicted_behind_pages, totals.evicted_in_fault_pages) = (950, 50);
    (totals.compressed_in_bytes, totals.compressed_out_bytes) = (400 << 20, 100 << 20);
    (totals.unchanged_pages, totals.zero_pages, totals.untouched_pages) = (256, 512, 512);
    (totals.spilled_bytes, totals.spill_read_pages) = (10 << 20, 256);
    (totals.refusals[0], totals.shortfalls[2]) = (4, 9);
    totals.over_grant_pages = 16;
    let mut peak = Peak::default();
    (peak.resident, peak.managed, peak.store) = (200 << 20, 190 << 20, 50 << 20);
    Outcome {
        end: End::Signal(9),
        seconds: 12.345,
        managed: 3,
        forked: 1,
        refused: 0,
        outside: BTreeMap::from([(Outside::Static, 1), (Outside::NoPreload, 1), (Outside::Excluded, 3)]),
        peak_granted: 199 << 20,
        peak,
        totals,
    }
}

#[test]
fn the_text_says_what_happened_and_nothing_else() {
    let text = text::render(&Report::new(&settings(), &outcome()));
    for part in [
        "quire: python3: signal 9 after 12.35 s; budget 200 MiB, policy adaptive\n",
        "3 managed; 1 forked without exec: evict nothing; 2 outside the budget; 3 excluded\n",
        "outside     no_preload 1, static 1\n",
        "peak 200 MiB: 190 MiB managed, 10 MiB not (95.0 % managed)\n",
        "4K       64K        2M\n",
        "collapsed            0         3         0\n",
        "shaped      splits 40, sparse folios 12, given back of these 720 KiB\n",
        "1000: p50 5.1 µs, p99 786.4 µs; 3 waited for a frame, 9.0 ms in all, 5.0 ms the longest\n",
        "3.9 MiB, 95.0 % off the fault path\n",
        "400 MiB to 100 MiB (4.00x)\n",
        "unchanged 1 MiB, zero 2 MiB\n",
        "10 MiB to /var/tmp",
        "got less    pressure 9\n",
        "refused     busy 4\n",
        "over the grant 64 KiB\n",
    ] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    assert!(!text.contains("troubles") && text.lines().all(|line| line.len() < 110), "{text}");
}

#[test]
fn a_run_without_events_is_short() {
    let peak = Peak::default();
    let outcome = Outcome {
        end: End::Status(0),
        managed: 1,
        forked: 0,
        outside: BTreeMap::new(),
        totals: Totals::ZERO,
        peak,
        ..outcome()
    };
    let mut settings = settings();
    (settings.budget, settings.spill) = (None, Spill::Nowhere("--no-spill".into()));
    let text = text::render(&Report::new(&settings, &outcome));
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("status 0") && text.contains("no budget"));
}

#[test]
fn the_object_has_every_field_that_is_documented() {
    let report = Report::new(&settings(), &outcome());
    let tree: Value = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(tree["end"]["signal"], 9);
    assert_eq!(tree["memory"]["peak_unmanaged_bytes"], 10 << 20);
    assert_eq!(tree["folios"]["fills"]["2M"], 7);
    assert_eq!(tree["faults"]["count"], 1000);
    assert_eq!(tree["shortfalls"]["pressure"], 9);
    let manual = include_str!("../../../../../docs/report.md");
    for path in paths(&tree, "") {
        assert!(manual.contains(&format!("`{path}`")), "docs/report.md says nothing about {path}");
    }
}

/// The names of all fields that hold no further named fields. The keys of tables by order or reason are no
/// names.
fn paths(tree: &Value, prefix: &str) -> Vec<String> {
    let tables = [
        "end",
        "unmanaged_because",
        "refusals",
        "shortfalls",
        "fills",
        "swap_ins",
        "rescues",
        "evictions",
        "swap_outs",
        "collapses",
    ];
    tree.as_object()
        .into_iter()
        .flatten()
        .flat_map(|(name, value)| {
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            let inner = if tables.contains(&name.as_str()) { Vec::new() } else { paths(value, &path) };
            if inner.is_empty() { vec![path] } else { inner }
        })
        .collect()
}

#[test]
fn a_short_run_shows_what_the_process_counted_itself() {
    let mut outcome = outcome();
    (outcome.peak.resident, outcome.peak.managed) = (0, 0);
    outcome.totals.peak_managed_bytes = 300 * PAGE;
    let memory = Memory::new(&settings(), &outcome);
    assert_eq!((memory.peak_resident_bytes, memory.managed_share), (300 * PAGE, Some(1.0)));
}

#[test]
fn a_budget_that_was_not_kept_is_in_the_first_line() {
    let mut outcome = outcome();
    let headline = |outcome: &Outcome| {
        text::render(&Report::new(&settings(), outcome)).lines().next().unwrap_or_default().to_owned()
    };
    assert!(!headline(&outcome).contains("over the budget"));
    outcome.peak.resident = 850 << 20;
    assert!(headline(&outcome).ends_with("; peak 850 MiB, over the budget"), "{}", headline(&outcome));
}

#[test]
fn a_report_that_cannot_be_written_is_known_before_the_run() {
    let failure = Target::open(Form::Json, Some(Path::new("/nonexistent/report")), false).unwrap_err();
    assert!(failure.status == 125 && failure.message.contains("/nonexistent/report"));
}
