//! Ways to access memory.

use std::fmt;
use std::str::FromStr;

/// What is done between the fill and the verification.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Twice through all pages, a word every 64 bytes.
    Scan,
    /// Words of pages drawn uniformly, until it is steady.
    Random,
    /// Words of pages drawn by Zipf's law, of which some are written.
    Zipf,
    /// As the first scan, after the pages were scattered.
    ScanAgain,
    /// The first round of uniform reads after that: large folios are left from the scan.
    RandomAfterScan,
}

impl Phase {
    /// In the order in which they are usually done.
    pub(crate) const ALL: [Phase; 5] =
        [Phase::Scan, Phase::Random, Phase::Zipf, Phase::ScanAgain, Phase::RandomAfterScan];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Phase::Scan => "scan",
            Phase::Random => "random",
            Phase::Zipf => "zipf",
            Phase::ScanAgain => "scan-again",
            Phase::RandomAfterScan => "random-after-scan",
        }
    }

    /// The phases of a list with commas, in its order.
    pub(crate) fn list(text: &str) -> Result<Vec<Phase>, String> {
        let mut phases: Vec<Phase> = Vec::new();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let phase = name.parse()?;
            if phases.contains(&phase) {
                return Err(format!("phase '{name}' comes twice: leave one out"));
            }
            phases.push(phase);
        }
        Ok(phases)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Phase {
    type Err = String;

    fn from_str(name: &str) -> Result<Phase, String> {
        Phase::ALL.into_iter().find(|phase| phase.name() == name).ok_or_else(|| {
            let names = Phase::ALL.map(Phase::name).join(", ");
            format!("unknown phase '{name}': the phases are {names}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_in_their_order() {
        assert_eq!(Phase::list("random, scan"), Ok(vec![Phase::Random, Phase::Scan]));
        assert_eq!(Phase::list(""), Ok(Vec::new()));
        assert_eq!(Phase::list(&Phase::ALL.map(Phase::name).join(",")), Ok(Phase::ALL.to_vec()));
    }

    #[test]
    fn what_is_no_list_of_phases_is_refused_with_its_name() {
        assert!(Phase::list("scan,walk").unwrap_err().contains("'walk'"));
        assert!(Phase::list("scan,scan").unwrap_err().contains("twice"));
    }
}
