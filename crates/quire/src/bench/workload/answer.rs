//! What a run has to say, in the same words on every side.

use super::Workload;
use super::redis::Driven;
use crate::bench::model::{Unit, Value};
use crate::bench::run::Output;
use crate::bench::touch::{FILL, Phase};
use serde_json::Value as Json;

/// How outputs are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// By all of stdout.
    Stdout,
    /// By the checksum in a line of JSON.
    Checksum,
    /// By what the driver found.
    Driver,
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Measure {
    /// The time of the whole run.
    Whole,
    /// The same, divided by so many starts of a program.
    Each(u32),
    /// The phases in a line of JSON.
    Phases,
    /// What the driver timed.
    Driver,
}

/// The metric of a whole run.
pub(crate) const TIME: &str = "time";

impl Workload {
    /// What a run that ended well, after so many seconds, has answered, and its values. The error says what is wrong
    /// with its output.
    pub(crate) fn judge(
        &self,
        output: &Output,
        seconds: f64,
        driven: Option<&Driven>,
    ) -> Result<(String, Vec<Value>), String> {
        let answer = match self.answer {
            Answer::Stdout => format!("{} bytes, {:032x}", output.bytes, output.digest),
            Answer::Checksum => checksum(&json(&output.text)?)?,
            Answer::Driver => needed(driven)?.answer.clone(),
        };
        let value = |unit, value| vec![Value { metric: TIME.into(), unit, value }];
        let values = match self.measure {
            Measure::Whole => value(Unit::Seconds, seconds),
            Measure::Each(starts) => value(Unit::Milliseconds, seconds * 1000.0 / f64::from(starts)),
            Measure::Phases => phases(&json(&output.text)?)?,
            Measure::Driver => needed(driven)?.values.clone(),
        };
        Ok((answer, values))
    }
}

fn needed(driven: Option<&Driven>) -> Result<&Driven, String> {
    driven.ok_or_else(|| "nothing drove it".into())
}

/// The last line of a text, which is an object.
fn json(text: &str) -> Result<Json, String> {
    let line = text.lines().last().unwrap_or_default();
    serde_json::from_str(line).map_err(|error| format!("its output is no JSON: {error}"))
}

fn checksum(json: &Json) -> Result<String, String> {
    json["checksum"].as_str().map(Into::into).ok_or_else(|| "its output has no checksum".into())
}

/// The phases that were done, in the order in which they usually are.
fn phases(json: &Json) -> Result<Vec<Value>, String> {
    let names = [FILL].into_iter().chain(Phase::ALL.map(Phase::name));
    let values: Vec<Value> = names
        .filter_map(|name| {
            let value = json[name].as_f64()?;
            Some(Value { metric: name.into(), unit: Unit::UsPerPage, value })
        })
        .collect();
    if values.is_empty() { Err("its output has no phases".into()) } else { Ok(values) }
}

#[cfg(test)]
mod tests {
    use super::super::Program;
    use super::*;

    fn workload(answer: Answer, measure: Measure) -> Workload {
        let program = Program::Custom(Vec::new());
        Workload { name: "some".into(), what: "", needs: &[], program, answer, measure }
    }

    fn output(text: &str) -> Output {
        let digest = xxhash_rust::xxh3::xxh3_128(text.as_bytes());
        Output { digest, bytes: text.len() as u64, text: text.into() }
    }

    fn judged(answer: Answer, measure: Measure, text: &str) -> Result<(String, Vec<Value>), String> {
        workload(answer, measure).judge(&output(text), 2.5, None)
    }

    fn answer(answer: Answer, text: &str) -> String {
        judged(answer, Measure::Whole, text).unwrap().0
    }

    #[test]
    fn all_of_the_output_counts() {
        let long = "0123456789".repeat(20_000);
        assert_eq!(answer(Answer::Stdout, &long), answer(Answer::Stdout, &long));
        assert_ne!(answer(Answer::Stdout, &long), answer(Answer::Stdout, &format!("{long}x")));
        assert_ne!(answer(Answer::Stdout, &long), answer(Answer::Stdout, &long.replacen('5', "6", 1)));
        assert_ne!(answer(Answer::Stdout, "a\nb\n"), answer(Answer::Stdout, "b\na\n"));
    }

    #[test]
    fn the_time_of_the_whole_run_is_a_value() {
        let (_, values) = judged(Answer::Stdout, Measure::Whole, "").unwrap();
        assert_eq!(values, [Value { metric: "time".into(), unit: Unit::Seconds, value: 2.5 }]);
    }

    #[test]
    fn starts_share_the_time() {
        let (_, values) = judged(Answer::Stdout, Measure::Each(100), "").unwrap();
        assert_eq!(values, [Value { metric: "time".into(), unit: Unit::Milliseconds, value: 25.0 }]);
    }

    #[test]
    fn phases_are_read_in_their_order() {
        let line = r#"{"scan":2.5,"random-rounds":[1.0],"fill":1.5,"verify":9.0,"checksum":"ab"}"#;
        let (answer, values) = judged(Answer::Checksum, Measure::Phases, line).unwrap();
        assert_eq!(answer, "ab");
        let values: Vec<_> = values.iter().map(|value| (value.metric.as_str(), value.value)).collect();
        assert_eq!(values, [("fill", 1.5), ("scan", 2.5)]);
    }

    #[test]
    fn an_output_that_is_not_what_it_should_be_is_told() {
        for (answer, measure, text, words) in [
            (Answer::Checksum, Measure::Whole, "", "no JSON"),
            (Answer::Checksum, Measure::Whole, "{}", "no checksum"),
            (Answer::Stdout, Measure::Phases, "{}", "no phases"),
            (Answer::Driver, Measure::Whole, "", "nothing drove it"),
            (Answer::Stdout, Measure::Driver, "", "nothing drove it"),
        ] {
            let said = judged(answer, measure, text).unwrap_err();
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn what_the_driver_found_is_taken() {
        let value = Value { metric: "get".into(), unit: Unit::Seconds, value: 1.5 };
        let driven = Driven { answer: "all".into(), values: vec![value.clone()] };
        let judged =
            workload(Answer::Driver, Measure::Driver).judge(&output(""), 9.0, Some(&driven)).unwrap();
        assert_eq!(judged, ("all".into(), vec![value]));
    }
}
