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
        library: crate::run::library::Library::missing(),
        spill: Spill::To("/var/tmp".into()),
        profile: true,
        wake: crate::run::Wake::AtStart,
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
    (totals.unchanged_pages, totals.zero_pages) = (256, 512);
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
        slept: (2, 1),
        refused: 0,
        outside: BTreeMap::from([(Outside::Static, 1), (Outside::NoPreload, 1), (Outside::Excluded, 3)]),
        peak_granted: 199 << 20,
        peak,
        moved: None,
        totals,
    }
}

#[test]
fn the_text_says_what_happened_and_nothing_else() {
    let text = text::table(&Report::new(&settings(), &outcome()));
    for part in [
        "quire: python3: signal 9 after 12.35 s; budget 200 MiB, peak 200 MiB\n",
        "policy      adaptive\n",
        "3 managed; 1 forked without exec: evict nothing; 1 asleep; 2 outside the budget; 3 excluded\n",
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

/// Of each counter, another number: a field that shows a neighbour's differs.
fn distinct() -> Outcome {
    let mut totals = Totals::ZERO;
    let orders = |first: u64| core::array::from_fn(|order| first + order as u64);
    (totals.fills, totals.swap_ins, totals.rescues) = (orders(100), orders(200), orders(300));
    (totals.evictions, totals.swap_outs, totals.collapses) = (orders(400), orders(500), orders(600));
    (totals.splits, totals.sparse_folios, totals.sparse_pages) = (11, 12, 13);
    totals.latency[latency::bucket(5_000)] = 14;
    (totals.waits, totals.wait_ns, totals.wait_max_ns) = (15, 16, 17);
    (totals.late_faults, totals.joined_faults) = (18, 19);
    totals.adopted_pages = 5;
    (totals.evicted_behind_pages, totals.evicted_in_fault_pages, totals.stored_pages) = (20, 21, 22);
    (totals.compressed_in_bytes, totals.compressed_out_bytes) = (2300, 1000);
    (totals.unchanged_pages, totals.zero_pages) = (24, 25);
    (totals.spilled_pages, totals.spilled_bytes, totals.spill_read_pages) = (27, 28, 29);
    (totals.checksum_errors, totals.spill_errors, totals.errors) = (30, 31, 32);
    (totals.jobs_voided, totals.foreign_pages, totals.unstorable_folios) = (33, 34, 35);
    totals.over_grant_pages = 36;
    totals.refusals = core::array::from_fn(|reason| 700 + reason as u64);
    totals.shortfalls = core::array::from_fn(|reason| 800 + reason as u64);
    (totals.peak_managed_bytes, totals.peak_store_bytes, totals.peak_table_bytes) = (37, 38, 39);
    totals.peak_spill_bytes = 42;
    (totals.profiled_faults, totals.profiled_ns) = (10, 500_000);
    totals.phase_ns = core::array::from_fn(|phase| 9_000 * (1 + phase as u64));
    totals.calls = core::array::from_fn(|call| 900 + call as u64);
    totals.calls[2] = 0;
    (totals.disk_reads, totals.disk_read_bytes) = (45, 46);
    let mut peak = Peak::default();
    (peak.resident, peak.managed) = (5000, 4000);
    let moved = Some(Moved { pager: 47, program: 48 });
    Outcome { refused: 43, peak_granted: 44, peak, moved, totals, ..outcome() }
}

#[test]
fn each_field_shows_its_own_counter() {
    let tree = serde_json::to_value(Report::new(&settings(), &distinct())).unwrap();
    let orders = |first: u64| -> Value {
        SIZES.iter().zip(first..).map(|(size, count)| (size.to_string(), Value::from(count))).collect()
    };
    let part = |ns: u64| serde_json::json!({"total_ns": ns, "mean_ns": ns / 10});
    let profile = serde_json::json!({
        "faults": 10, "total_ns": 500_000, "mean_ns": 50_000,
        "phases": {
            "wait": part(9_000), "lock": part(18_000), "decide": part(27_000), "read": part(36_000),
            "decompress": part(45_000), "place": part(54_000), "wake": part(63_000), "evict": part(72_000),
        },
        "other": part(176_000),
        "calls": {
            "ioctl_move": 900, "ioctl_copy": 901, "ioctl_wake": 903, "ioctl_other": 904, "poll": 905,
            "read": 906, "pread": 907, "pwrite": 908, "open": 909, "madvise": 910, "process_madvise": 911,
            "mprotect": 912, "mincore": 913, "futex_wait": 914, "futex_wake": 915, "sched_setaffinity": 916,
            "sched_getaffinity": 917, "sched_setscheduler": 918, "sched_getscheduler": 919,
            "sched_yield": 920, "clock_gettime": 921, "sendmsg": 922, "recvmsg": 923,
        },
        "migrations": {"pager": 47, "program": 48},
        "disk_reads": 45, "disk_read_bytes": 46,
    });
    let expected = serde_json::json!({
        "version": 1,
        "build": BUILD_ID,
        "program": ["python3", "job.py"],
        "end": {"signal": 9},
        "seconds": 12.345,
        "budget_bytes": 200 << 20,
        "policy": "adaptive",
        "spill_directory": "/var/tmp",
        "no_spill_because": null,
        "processes": {
            "managed": 3, "forked": 1, "slept": 2, "woken": 1, "unmanaged": 2, "unmanaged_because": {"no_preload": 1, "static": 1},
            "excluded": 3, "refused": 43,
        },
        "memory": {
            "peak_resident_bytes": 5000, "peak_managed_bytes": 4000, "peak_unmanaged_bytes": 1000,
            "managed_share": 0.8, "over_budget": false, "peak_granted_bytes": 44,
            "peak_over_grant_bytes": 36 * PAGE, "peak_store_bytes": 38, "peak_table_bytes": 39,
        },
        "folios": {
            "adopted_pages": 5, "fills": orders(100), "swap_ins": orders(200), "rescues": orders(300), "evictions": orders(400),
            "swap_outs": orders(500), "splits": 11, "sparse": 12, "sparse_given_back_bytes": 13 * PAGE,
            "collapses": orders(600),
        },
        "faults": {
            "count": 14, "p50_ns": latency::percentile(&distinct().totals.latency, 500),
            "p99_ns": latency::percentile(&distinct().totals.latency, 990),
            "time_ns": latency::sum(&distinct().totals.latency), "waits": 15, "wait_ns": 16, "wait_max_ns": 17, "late": 18, "joined": 19,
        },
        "eviction": {
            "evicted_behind_pages": 20, "evicted_in_fault_pages": 21, "stored_pages": 22,
            "compressed_in_bytes": 2300, "compressed_out_bytes": 1000, "compression_ratio": 2.3,
            "unchanged_pages": 24, "zero_pages": 25, "spilled_pages": 27, "spilled_bytes": 28,
            "spill_read_pages": 29, "peak_spill_bytes": 42,
        },
        "refusals": {
            "busy": 700, "denied": 701, "exists": 702, "absent": 703, "no_range": 704, "no_memory": 705,
            "again": 706, "other": 707,
        },
        "shortfalls": {"vma_edge": 800, "neighbour": 801, "pressure": 802, "no_run": 803, "other": 804},
        "troubles": {
            "checksum_errors": 30, "spill_errors": 31, "other_errors": 32, "jobs_voided": 33, "foreign_pages": 34,
            "unstorable_folios": 35,
        },
        "profile": profile,
    });
    assert_eq!(tree, expected);
}

#[test]
fn what_the_samples_saw_counts_where_it_is_more() {
    let mut outcome = distinct();
    (outcome.peak.store, outcome.peak.tables) = (1038, 1039);
    outcome.peak.spill = 1042;
    let report = Report::new(&settings(), &outcome);
    let memory = &report.memory;
    let peaks = [memory.peak_store_bytes, memory.peak_table_bytes, report.eviction.peak_spill_bytes];
    assert_eq!(peaks, [1038, 1039, 1042]);
    // A program that ended between two samples.
    outcome.totals.peak_managed_bytes = 6000;
    let memory = Report::new(&settings(), &outcome).memory;
    assert_eq!((memory.peak_resident_bytes, memory.peak_managed_bytes), (6000, 6000));
    assert_eq!((memory.peak_unmanaged_bytes, memory.managed_share), (0, Some(1.0)));
}

#[test]
fn a_tree_is_over_its_budget_above_what_is_allowed() {
    let mut outcome = distinct();
    outcome.peak.resident = over::limit(200 << 20);
    assert!(!Report::new(&settings(), &outcome).memory.over_budget);
    outcome.peak.resident += 1;
    assert!(Report::new(&settings(), &outcome).memory.over_budget);
    let text = text::table(&Report::new(&settings(), &outcome));
    assert!(
        text.lines()
            .next()
            .is_some_and(|line| line.ends_with("budget 200 MiB, peak 244 MiB, over the budget")),
        "{text}"
    );
}

#[test]
fn the_text_of_a_run_with_everything_is_exactly_this() {
    let mut outcome = distinct();
    outcome.totals.latency[latency::bucket(700_000)] = 20;
    let text = text::table(&Report::new(&settings(), &outcome));
    let row = |name: &str, first: u64| -> String {
        let cells: String = (first..first + 10).map(|count| format!("{count:>10}")).collect();
        format!("  {name:<12}{cells}\n")
    };
    let heads: String = SIZES.iter().map(|size| format!("{size:>10}")).collect();
    let expected = [
        "quire: python3: signal 9 after 12.35 s; budget 200 MiB, peak 4.9 KiB\n".to_owned(),
        "  policy      adaptive\n".into(),
        "  processes   3 managed; 1 forked without exec: evict nothing; 1 asleep; 2 outside the budget; 3 excluded\n".into(),
        "  outside     no_preload 1, static 1\n".into(),
        "  resident    peak 4.9 KiB: 3.9 KiB managed, 1000 B not (80.0 % managed)\n".into(),
        "  peaks       compressed folios 38 B, tables 39 B, over the grant 144 KiB\n"
            .into(),
        format!("  folios of   {heads}\n"),
        row("filled", 100),
        row("swapped in", 200),
        row("rescued", 300),
        row("evicted", 400),
        row("swapped out", 500),
        row("collapsed", 600),
        "  shaped      splits 11, sparse folios 12, given back of these 52 KiB\n".into(),
        "  faults      34: p50 786.4 µs, p99 786.4 µs; 15 waited for a frame, 16 ns in all, 17 ns the longest\n".into(),
        "  eviction    164 KiB, 48.8 % off the fault path\n".into(),
        "  compression 2.2 KiB to 1000 B (2.30x)\n".into(),
        "  dropped     unchanged 96 KiB, zero 100 KiB\n".into(),
        "  spilled     28 B to /var/tmp, pages read back: 116 KiB\n".into(),
        "  got less    neighbour 801, no_run 803, other 804, pressure 802, vma_edge 800\n".into(),
        "  refused     absent 703, again 706, busy 700, denied 701, exists 702, no_memory 705, no_range 704, other 707\n"
            .into(),
        "  troubles    checksum errors 30, spill errors 31, other errors 32, pages changed behind Quire 34, folios no \
         store could take 35, processes refused 43\n"
            .into(),
        "  a fault     50.0 µs in the mean of 10\n".into(),
        "  of that     other 17.6 µs, evict 7.2 µs, wake 6.3 µs, place 5.4 µs, decompress 4.5 µs, read 3.6 µs, decide \
         2.7 µs, lock 1.8 µs, wait 900 ns\n"
            .into(),
        "  calls       in all 2097.40, recvmsg 92.30, sendmsg 92.20, clock_gettime 92.10, sched_yield 92.00, \
         sched_getscheduler 91.90\n"
            .into(),
        "  migrations  pager's threads 47, program's threads 48\n".into(),
        "  disk reads  45 of 46 B in all\n".into(),
    ];
    for (shown, expected) in text.split_inclusive('\n').zip(&expected) {
        assert_eq!(shown, expected);
    }
    assert_eq!(text, expected.concat());
}

#[test]
fn by_default_two_lines_say_what_it_took_and_more_follow_only_for_what_a_user_has_to_know() {
    let mut outcome = outcome();
    let lines = "quire: python3: signal 9 after 12.35 s; budget 200 MiB, peak 200 MiB\n  \
                 moved out 3.9 MiB, read back 2.3 MiB, to the disk 10 MiB; 1000 faults took 18.9 ms\n";
    let outside = "  outside     no_preload 1, static 1\n";
    assert_eq!(text::short(&Report::new(&settings(), &outcome)), [lines, outside].concat());
    outcome.totals.spill_errors = 2;
    let troubles = "  troubles    spill errors 2\n";
    assert_eq!(text::short(&Report::new(&settings(), &outcome)), [lines, outside, troubles].concat());
}

#[test]
fn a_run_without_events_is_short() {
    let peak = Peak::default();
    let outcome = Outcome {
        end: End::Status(0),
        managed: 1,
        forked: 0,
        slept: (0, 0),
        outside: BTreeMap::new(),
        totals: Totals::ZERO,
        peak,
        ..outcome()
    };
    let mut settings = settings();
    (settings.budget, settings.spill) = (None, Spill::Nowhere("--no-spill".into()));
    let text = text::table(&Report::new(&settings, &outcome));
    assert_eq!(text, "quire: python3: status 0 after 12.35 s; no budget\n  policy      adaptive\n");
    let short = text::short(&Report::new(&settings, &outcome));
    assert_eq!(short, "quire: python3: status 0 after 12.35 s; no budget\n  nothing moved out\n");
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
    assert_eq!(tree["profile"]["mean_ns"], Value::Null);
    let manual = include_str!("../../../../../docs/report.md");
    for path in paths(&tree, "") {
        assert!(manual.contains(&format!("`{path}`")), "docs/report.md says nothing about {path}");
    }
}

#[test]
fn a_profile_is_there_only_where_it_is_asked_for() {
    let settings = Settings { profile: false, ..settings() };
    let report = Report::new(&settings, &distinct());
    assert_eq!(serde_json::to_value(&report).unwrap()["profile"], Value::Null);
    assert!(!text::table(&report).contains("a fault"));
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
        "phases",
        "calls",
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
        text::table(&Report::new(&settings(), outcome)).lines().next().unwrap_or_default().to_owned()
    };
    assert!(!headline(&outcome).contains("over the budget"));
    outcome.peak.resident = 850 << 20;
    assert!(
        headline(&outcome).ends_with("budget 200 MiB, peak 850 MiB, over the budget"),
        "{}",
        headline(&outcome)
    );
}

#[test]
fn a_report_that_cannot_be_written_is_known_before_the_run() {
    let failure = Target::open(Form::Json, Some(Path::new("/nonexistent/report")), false).unwrap_err();
    assert!(failure.status == 125 && failure.message.contains("/nonexistent/report"));
}
