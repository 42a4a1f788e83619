//! `quire`: runs programs on folios of flexible order, inside a memory budget.

mod bench;
mod cli;
mod cmd;
mod doctor;
mod failure;
mod files;
mod html;
mod replay;
mod run;
mod size;
mod terminal;

use clap::{CommandFactory as _, Parser};
use cli::{Cli, Verb};
use failure::{End, Failure};
use std::env;
use std::process::ExitCode;

quire_linux::look_at_streams!();

/// With the commit that it was built from.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("QUIRE_COMMIT"), ")");

fn main() -> ExitCode {
    match parse().and_then(execute) {
        Ok(End::Status(status)) => ExitCode::from(status),
        Ok(End::Signal(signal)) => {
            quire_linux::sys::child::die_by(signal);
            // Only reached when the signal doesn't kill: what a shell would say.
            ExitCode::from(128_u8.saturating_add(u8::try_from(signal).unwrap_or(127)))
        }
        Err(failure) => {
            files::say(format_args!("{}", failure.message));
            ExitCode::from(failure.status)
        }
    }
}

/// The command line. Help and version are printed here.
fn parse() -> Result<Option<Cli>, Failure> {
    match Cli::try_parse() {
        Ok(cli) => Ok(Some(cli)),
        Err(error) if error.use_stderr() => Err(Failure::usage(&error.to_string(), &help_command())),
        Err(help) => files::printed(help.print(), "the help").map(|()| None),
    }
}

/// The command whose help has the options that were meant.
fn help_command() -> String {
    let command = Cli::command();
    let verb = env::args_os().nth(1).and_then(|word| command.find_subcommand(word));
    let name = verb.map_or(String::new(), |verb| format!(" {}", verb.get_name()));
    format!("quire{name} --help")
}

fn execute(cli: Option<Cli>) -> Result<End, Failure> {
    match cli.map(|cli| cli.verb) {
        None => Ok(End::Status(0)),
        Some(Verb::Run(arguments)) => cmd::run::execute(arguments),
        Some(Verb::Replay(arguments)) => cmd::replay::execute(arguments),
        Some(Verb::Bench(arguments)) => cmd::bench::execute(arguments),
        Some(Verb::Doctor { json }) => cmd::doctor::execute(json),
        Some(Verb::Watchdogs { pid }) => cmd::watchdogs::execute(pid),
        Some(Verb::Enter(arguments)) => cmd::enter::execute(arguments),
        Some(Verb::Touch(arguments)) => cmd::touch::execute(arguments),
    }
}
