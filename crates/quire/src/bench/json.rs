//! What a bench found out as one JSON object: every value, and what follows from the values beside them. The names of
//! fields are written here, and not taken from the model, so that they stay when the model changes.

use super::figures::{Figures, NOISE, Ratio, control_off, under_pressure, within};
use super::model::{Level, Machine, Outcome, Profile, Results, Row, Unit};
use serde::{Serialize, Serializer};

/// The object.
#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    date: &'a str,
    command: &'a [String],
    machine: &'a Machine,
    workloads: Vec<Workload<'a>>,
    left_out: Vec<LeftOut<'a>>,
}

#[derive(Serialize)]
struct Workload<'a> {
    name: &'a str,
    what: &'a str,
    native_peak_bytes: u64,
    control: Control<'a>,
    repeated: &'a [String],
    levels: Vec<Memory<'a>>,
}

#[derive(Serialize)]
struct Control<'a> {
    rounds: &'a [f64],
    off: Option<f64>,
    within_5_percent: bool,
}

#[derive(Serialize)]
struct Memory<'a> {
    name: &'a str,
    pressure: bool,
    limit_bytes: Option<u64>,
    pool_bytes: &'a [u64],
    budget_bytes: &'a [u64],
    quire_peak_bytes: &'a [u64],
    problem: Option<&'a str>,
    metrics: Vec<Metric<'a>>,
    profile: Option<Faults<'a>>,
}

#[derive(Serialize)]
struct Metric<'a> {
    name: &'a str,
    unit: Unit,
    native: Side<'a>,
    kernel: Side<'a>,
    quire: Side<'a>,
    kernel_by_native: Option<Compared>,
    quire_by_native: Option<Compared>,
    quire_by_kernel: Option<Compared>,
    verdict: &'static str,
}

#[derive(Serialize)]
struct Side<'a> {
    rounds: &'a [f64],
    median: Option<f64>,
}

#[derive(Serialize)]
struct Compared {
    rounds: Vec<f64>,
    median: f64,
    low: f64,
    high: f64,
    coverage: f64,
}

#[derive(Serialize)]
struct Faults<'a> {
    faults: u64,
    phases_ns: Named<'a>,
    calls: Named<'a>,
    migrations: f64,
    disk_reads: f64,
    disk_read_bytes: f64,
}

/// Values by name, in their own order.
struct Named<'a>(&'a [(String, f64)]);

impl Serialize for Named<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

#[derive(Serialize)]
struct LeftOut<'a> {
    name: &'a str,
    why: &'a str,
}

/// The object as text.
pub(crate) fn text(results: &Results) -> String {
    let document = Document {
        version: results.version,
        date: &results.date,
        command: &results.command,
        machine: &results.machine,
        workloads: results.outcomes.iter().map(workload).collect(),
        left_out: results
            .left_out
            .iter()
            .map(|left| LeftOut { name: &left.workload, why: &left.why })
            .collect(),
    };
    // Names and numbers only: nothing that can fail.
    serde_json::to_string_pretty(&document).unwrap_or_default() + "\n"
}

fn workload(outcome: &Outcome) -> Workload<'_> {
    Workload {
        name: &outcome.workload,
        what: &outcome.what,
        native_peak_bytes: outcome.native_peak_bytes,
        control: Control {
            rounds: &outcome.control,
            off: control_off(&outcome.control),
            within_5_percent: within(&outcome.control, NOISE),
        },
        repeated: &outcome.repeated,
        levels: outcome.levels.iter().map(|level| memory(outcome, level)).collect(),
    }
}

fn memory<'a>(outcome: &Outcome, level: &'a Level) -> Memory<'a> {
    Memory {
        name: &level.name,
        pressure: under_pressure(outcome, level),
        limit_bytes: level.limit_bytes,
        pool_bytes: &level.pool_bytes,
        budget_bytes: &level.budget_bytes,
        quire_peak_bytes: &level.quire_peak_bytes,
        problem: Some(level.problem.as_str()).filter(|problem| !problem.is_empty()),
        metrics: level.rows.iter().map(|row| metric(row, Figures::of(outcome, level, row))).collect(),
        profile: level.profile.as_ref().map(faults),
    }
}

fn metric(row: &Row, figures: Figures) -> Metric<'_> {
    Metric {
        name: &row.metric,
        unit: row.unit,
        native: Side { rounds: &row.native, median: figures.native },
        kernel: Side { rounds: &row.kernel, median: figures.kernel },
        quire: Side { rounds: &row.quire, median: figures.quire },
        kernel_by_native: figures.kernel_native.map(compared),
        quire_by_native: figures.quire_native.map(compared),
        quire_by_kernel: figures.quire_kernel.map(compared),
        verdict: figures.verdict.name(),
    }
}

fn compared(ratio: Ratio) -> Compared {
    let Ratio { rounds, median, interval } = ratio;
    Compared { rounds, median, low: interval.low, high: interval.high, coverage: interval.coverage }
}

fn faults(profile: &Profile) -> Faults<'_> {
    Faults {
        faults: profile.faults,
        phases_ns: Named(&profile.phases),
        calls: Named(&profile.calls),
        migrations: profile.migrations,
        disk_reads: profile.disk_reads,
        disk_read_bytes: profile.disk_read_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::super::example::results;
    use super::*;
    use serde_json::{Value, json};

    fn object() -> Value {
        serde_json::from_str(&text(&results())).unwrap()
    }

    #[test]
    fn figures_stand_beside_the_values() {
        let object = object();
        let level = &object["workloads"][0]["levels"][0];
        let metric = &level["metrics"][0];
        assert_eq!(metric["kernel"], json!({"rounds": [10.0, 11.0, 12.0, 10.0, 10.0], "median": 10.0}));
        let ratio = json!({"rounds": [0.5, 0.5, 0.75, 0.4, 0.5], "median": 0.5, "low": 0.4, "high": 0.75, "coverage": 0.9375});
        assert_eq!(metric["quire_by_kernel"], ratio);
        assert_eq!((&metric["verdict"], &metric["unit"]), (&json!("wins"), &json!("seconds")));
        assert_eq!((&level["pressure"], &level["problem"]), (&json!(true), &Value::Null));
    }

    #[test]
    fn what_was_not_measured_is_null() {
        let object = object();
        let level = &object["workloads"][1]["levels"][0];
        assert_eq!(level["problem"], "killed for want of memory even at 540 MiB");
        let metric = &level["metrics"][0];
        assert_eq!(metric["kernel"], json!({"rounds": [], "median": null}));
        assert_eq!((&metric["quire_by_kernel"], &metric["verdict"]), (&Value::Null, &json!("unknown")));
        assert_eq!(object["workloads"][1]["control"]["within_5_percent"], false);
        assert_eq!(object["workloads"][2]["levels"][1]["pressure"], false);
        assert_eq!(object["left_out"][0]["name"], "redis");
    }

    #[test]
    fn a_profile_keeps_the_order_of_its_phases() {
        let text = text(&results());
        let at = |name: &str| text.find(&format!("\"{name}\": ")).unwrap();
        assert!(at("wait") < at("lock") && at("lock") < at("read"), "{text}");
        assert_eq!(
            object()["workloads"][0]["levels"][1]["profile"]["calls"],
            json!({"ioctl": 2.1, "pread": 0.4})
        );
    }

    /// `"name"` as the description has it in its first column.
    #[test]
    fn every_field_is_described() {
        fn names(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(fields) => fields.iter().for_each(|(name, value)| {
                    found.push(name.clone());
                    // Their names are those of phases and calls.
                    if name != "phases_ns" && name != "calls" {
                        names(value, found);
                    }
                }),
                Value::Array(values) => values.iter().for_each(|value| names(value, found)),
                _ => {}
            }
        }
        let mut found = Vec::new();
        names(&object(), &mut found);
        let described = include_str!("../../../../docs/bench.md");
        let is_described = |name: &str| {
            ["`NAME`", "`NAME.", ".NAME`"].iter().any(|form| described.contains(&form.replace("NAME", name)))
        };
        let missing = |name: &&String| !is_described(name);
        assert_eq!(found.iter().filter(missing).collect::<Vec<_>>(), Vec::<&String>::new());
        assert!(found.len() > 50, "{found:?}");
    }
}
