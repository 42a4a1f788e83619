//! `quire watchdogs PID`: what the watchdogs of the processes of a running `quire run` know. For whoever looks for the reason
//! of a hang; the tests do when their time is up.

use crate::failure::{End, Failure};
use crate::files;
use quire_linux::control::ledger::{ACCOUNTS, Account, AccountState, Ledger, NO_LIMIT};
use quire_linux::sys::clock::now_ns;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// How the kernel shows the ledger among the descriptors of a process.
const LEDGER: &str = "/memfd:quire-ledger";

/// Prints a line for each process.
pub(crate) fn execute(pid: u32) -> Result<End, Failure> {
    let ledger = open(pid).ok_or_else(|| {
        Failure::own(format!("process {pid} keeps no ledger that this build can read: is it quire run?"))
    })?;
    files::print(&lines(&ledger, now_ns()), "the watchdogs")?;
    Ok(End::Status(0))
}

/// The ledger that process `pid` keeps.
fn open(pid: u32) -> Option<Ledger> {
    let is_ledger =
        |path: &Path| fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with(LEDGER));
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let path: PathBuf = descriptors.flatten().map(|entry| entry.path()).find(|path| is_ledger(path))?;
    let file = File::options().read(true).write(true).open(path).ok()?;
    Ledger::map(&file).ok()
}

/// What there is to say, for each process that has joined.
fn lines(ledger: &Ledger, now: u64) -> String {
    let mut text = String::new();
    let accounts = (0..ACCOUNTS as u32).map(|index| ledger.account(index));
    for account in accounts.filter(|account| account.state() == AccountState::Joined) {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "watchdogs of {}: {}; {}",
            account.pid(),
            account.watched.read().line(now),
            grant(account)
        );
    }
    text
}

/// The pages that a process has and wants.
fn grant(account: &Account) -> String {
    let target = match account.target_pages() {
        NO_LIMIT => "none".into(),
        pages => pages.to_string(),
    };
    format!("{} pages granted, target {target}, {} wanted", account.granted_pages(), account.want_pages())
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_linux::control::watched::Watchdogs;

    #[test]
    fn every_process_that_has_joined_has_a_line() {
        let (_file, ledger) = Ledger::create(1000).unwrap();
        let accounts = [11, 22, 33].map(|pid| ledger.account(ledger.join(pid).unwrap().index));
        ledger.take(accounts[0], 7);
        ledger.set_want(accounts[2], 8);
        ledger.set_target(accounts[2], 9);
        ledger.leave(accounts[1]);
        let known = Watchdogs { looked_at_ns: 1, ..Watchdogs::default() };
        accounts[2].watched.show(&known);
        let expected = format!(
            "watchdogs of 11: nobody has looked yet; 7 pages granted, target none, 0 wanted\n\
             watchdogs of 33: {}; 0 pages granted, target 9, 8 wanted\n",
            known.line(1)
        );
        assert_eq!(lines(&ledger, 1), expected);
    }

    #[test]
    fn the_ledger_is_found_among_the_descriptors() {
        // Of the same process, other tests may make some too.
        let (_file, _ledger) = Ledger::create(1000).unwrap();
        assert!(open(std::process::id()).is_some());
        assert!(open(u32::MAX).is_none());
    }
}
