//! `quire doctor`: what this machine allows, and the command that mends the rest.

use crate::doctor::{self, Finding, Verdict};
use crate::failure::{End, Failure};
use crate::files;
use serde::Serialize;
use std::fmt::Write as _;

/// Prints the findings. Status 0: programs can be run; 125: they can't.
pub(crate) fn execute(json: bool) -> Result<End, Failure> {
    let findings = doctor::examine();
    let report = Report {
        version: 1,
        works: findings.iter().all(|finding| finding.verdict != Verdict::MustBeMended),
        findings,
        limits: LIMITS.map(|(what, limit)| Limit { what, limit }),
    };
    let text = if json {
        serde_json::to_string_pretty(&report).expect("a report has only strings for keys") + "\n"
    } else {
        describe(&report)
    };
    files::print(&text, "the findings")?;
    Ok(End::Status(if report.works { 0 } else { 125 }))
}

/// What programs can't do under Quire on any machine, and what to do then.
const LIMITS: [(&str, &str); 2] = [
    (
        "a userfaultfd of a program's own",
        "memory that it registers is the kernel's from then on; quire run --exclude NAME leaves the program alone",
    ),
    ("core files", "what was moved out of memory is not in them; without -m they are whole"),
];

/// All that was found. `docs/doctor.md` says what the fields mean.
#[derive(Serialize, Debug)]
struct Report {
    version: u32,
    works: bool,
    findings: Vec<Finding>,
    limits: [Limit; LIMITS.len()],
}

#[derive(Serialize, Debug)]
struct Limit {
    what: &'static str,
    limit: &'static str,
}

/// A line for each finding, and below it what mends it; then what can't be mended.
fn describe(report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let mark = match finding.verdict {
            Verdict::Good => "ok",
            Verdict::CouldBeBetter => "better",
            Verdict::MustBeMended => "WRONG",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{mark:<8}{:<19}{} ({})", finding.name, finding.saw, finding.tried);
        if let Some(why) = &finding.why {
            let _ = writeln!(text, "{:8}{why}", "");
        }
        if let Some(mend) = &finding.mend {
            let _ = writeln!(text, "{:8}mend: {mend}", "");
        }
    }
    for limit in &report.limits {
        let _ = writeln!(text, "limit   {}: {}", limit.what, limit.limit);
    }
    text + if report.works { "quire run works here\n" } else { "quire run does not work here yet\n" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_has_a_line_and_what_mends_it_one_more() {
        let finding = |verdict, why: Option<&str>, mend: Option<&str>| Finding {
            name: "rain",
            tried: "looking up".into(),
            saw: "clouds".into(),
            verdict,
            why: why.map(String::from),
            mend: mend.map(String::from),
        };
        let findings = vec![
            finding(Verdict::Good, None, None),
            finding(Verdict::CouldBeBetter, Some("it is grey"), Some("wait")),
            finding(Verdict::MustBeMended, Some("it is wet"), Some("open an umbrella")),
        ];
        let limits = LIMITS.map(|(what, limit)| Limit { what, limit });
        let text = describe(&Report { version: 1, works: false, findings, limits });
        let expected = "ok      rain               clouds (looking up)\n\
                        better  rain               clouds (looking up)\n        it is grey\n        mend: wait\n\
                        WRONG   rain               clouds (looking up)\n        it is wet\n        mend: open an umbrella\n";
        assert!(text.starts_with(expected), "{text}");
        assert!(
            text.contains("limit   core files: ") && text.ends_with("\nquire run does not work here yet\n"),
            "{text}"
        );
    }
}
