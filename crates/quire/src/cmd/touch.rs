//! `quire touch`: the out-of-core program that `quire bench` measures.

use crate::bench::touch::{self, Phase, Plan, Rounds};
use crate::cli;
use crate::failure::{End, Failure};
use crate::{files, size};
use quire_core::PAGE_SIZE;
use std::time::Duration;

/// Rounds of random reads in the small form.
const SMALL_ROUNDS: usize = 5;

/// The least number of pages.
const LEAST: u64 = 16;

/// Touches the memory and prints what it took, as a line of JSON.
pub(crate) fn execute(arguments: cli::Touch) -> Result<End, Failure> {
    let report = touch::run(&plan(&arguments)?)?;
    let json = serde_json::to_string(&report).map_err(|error| Failure::own(error.to_string()))?;
    files::print(&format!("{json}\n"), "the times")?;
    Ok(End::Status(0))
}

fn plan(arguments: &cli::Touch) -> Result<Plan, Failure> {
    let pages = size::parse(&arguments.bytes).map_err(Failure::own)? / PAGE_SIZE as u64;
    if pages < LEAST {
        return Err(Failure::own(format!("--bytes {}: touch at least {LEAST} pages, 64K", arguments.bytes)));
    }
    let rounds = if arguments.small {
        Rounds::Fixed(SMALL_ROUNDS)
    } else {
        Rounds::Steady(Duration::from_secs(arguments.seconds))
    };
    let phases = Phase::list(&arguments.phases).map_err(Failure::own)?;
    let data = arguments.data.parse().map_err(Failure::own)?;
    Ok(Plan { pages, data, threads: arguments.threads, seed: arguments.seed, phases, rounds })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Verb};
    use clap::Parser as _;

    fn plan_of(line: &str) -> Result<Plan, Failure> {
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        let Verb::Touch(arguments) = cli.verb else { panic!("not touch") };
        plan(&arguments)
    }

    #[test]
    fn a_plan_is_read_from_the_command_line() {
        let plan = plan_of("quire touch").unwrap();
        assert_eq!((plan.pages, plan.threads, plan.phases), (131_072, 1, Phase::ALL.to_vec()));
        assert_eq!(plan.rounds, Rounds::Steady(Duration::from_secs(60)));
        let plan = plan_of("quire touch --bytes 64K --threads 2 --small --phases random,scan").unwrap();
        assert_eq!((plan.pages, plan.threads), (16, 2));
        assert_eq!((plan.phases, plan.rounds), (vec![Phase::Random, Phase::Scan], Rounds::Fixed(5)));
    }

    #[test]
    fn what_can_not_be_planned_is_refused() {
        for line in ["--bytes 60K", "--bytes much", "--data 2", "--phases walk"] {
            let failure = plan_of(&format!("quire touch {line}")).unwrap_err();
            assert!(!failure.message.contains('\n'), "{failure:?}");
        }
        assert!(Cli::try_parse_from(["quire", "touch", "--threads", "3"]).is_err());
    }
}
