//! Results made by hand, for tests of what is shown.

use super::model::{LeftOut, Level, Machine, Outcome, Profile, Results, Row, Unit};

const MIB: u64 = 1 << 20;

/// A row of whole runs.
pub(super) fn row(native: &[f64], kernel: &[f64], quire: &[f64]) -> Row {
    Row {
        metric: "time".into(),
        unit: Unit::Seconds,
        native: native.into(),
        kernel: kernel.into(),
        quire: quire.into(),
    }
}

fn level(name: &str, rows: Vec<Row>) -> Level {
    Level {
        name: name.into(),
        limit_bytes: None,
        pool_bytes: Vec::new(),
        budget_bytes: Vec::new(),
        quire_peak_bytes: Vec::new(),
        problem: String::new(),
        rows,
        profile: None,
    }
}

fn outcome(workload: &str, control: &[f64], levels: Vec<Level>) -> Outcome {
    Outcome {
        workload: workload.into(),
        what: format!("{workload} at work"),
        native_peak_bytes: 600 * MIB,
        control: control.into(),
        repeated: Vec::new(),
        levels,
    }
}

/// A workload that Quire wins at one amount of memory, at another loses with a profile and is even; one whose kernel's
/// side was killed; one without a kernel's side, with peaks; one left out.
pub(super) fn results() -> Results {
    let native = [2.0, 2.1, 1.9, 2.0, 2.0];
    let kernel = [10.0, 11.0, 12.0, 10.0, 10.0];
    let mut won = level("0.7 of the peak", vec![row(&native, &kernel, &[5.0, 5.5, 9.0, 4.0, 5.0])]);
    let mut lost = level("0.5 of the peak", vec![row(&native, &kernel, &[20.0, 33.0, 18.0, 20.0, 20.0])]);
    lost.rows.push(Row {
        metric: "random".into(),
        unit: Unit::UsPerPage,
        ..row(&native, &kernel, &[10.0, 10.0, 13.0, 10.0, 9.0])
    });
    lost.profile = Some(Profile {
        faults: 1_234_567,
        phases: vec![("wait".into(), 1500.0), ("lock".into(), 250.0), ("read".into(), 40_000.0)],
        calls: vec![("ioctl".into(), 2.1), ("pread".into(), 0.4)],
        migrations: 0.12,
        disk_reads: 0.4,
        disk_read_bytes: 16_384.0,
    });
    for (level, limit) in [(&mut won, 420 * MIB), (&mut lost, 300 * MIB)] {
        level.limit_bytes = Some(limit);
        level.pool_bytes = vec![50 * MIB; 5];
        level.budget_bytes = vec![limit; 5];
        level.quire_peak_bytes = vec![limit + 40 * MIB; 5];
    }
    let mut killed = level("0.5 of the peak", vec![row(&native[..3], &[], &[40.0, 41.0, 39.0])]);
    killed.limit_bytes = Some(540 * MIB);
    killed.budget_bytes = vec![300 * MIB; 3];
    killed.problem = "killed for want of memory even at 540 MiB".into();
    let mut wide = level("-m 1.5 of the peak", vec![row(&native, &[], &[2.2, 2.3, 2.1, 2.2, 2.2])]);
    wide.budget_bytes = vec![900 * MIB; 5];
    let mut free = level("no -m", vec![row(&native, &[], &[2.1, 2.0, 1.9, 2.0, 2.1])]);
    for (level, peak) in [(&mut wide, 612 * MIB), (&mut free, 620 * MIB)] {
        let peaks = row(&[(600 * MIB) as f64; 5], &[], &[peak as f64; 5]);
        level.rows.push(Row { metric: "peak".into(), unit: Unit::Bytes, ..peaks });
    }
    let mut sort = outcome("sort", &[1.0, 1.01, 0.99, 1.02, 1.0], vec![won, lost]);
    sort.repeated.push("round 3: 4 % of the time was stolen".into());
    Results {
        version: 1,
        date: "2026-11-29".into(),
        command: vec!["quire".into(), "bench".into()],
        machine: Machine {
            processor: "AMD EPYC <Zen 3>".into(),
            processors: 2,
            memory_bytes: 4096 * MIB,
            kernel: "Linux 6.18".into(),
            swap: "zram (lz4)".into(),
            quire: "0.1.0".into(),
        },
        outcomes: vec![
            sort,
            outcome("python", &[1.0, 1.2, 0.9], vec![killed]),
            outcome("git", &[1.0, 1.0, 1.0, 1.0, 1.0], vec![wide, free]),
        ],
        left_out: vec![LeftOut {
            workload: "redis".into(),
            why: "redis-server is not installed (apt-get install redis-server)".into(),
        }],
    }
}
