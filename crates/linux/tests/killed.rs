//! A process that takes pages of the budget, and gives them back, is killed wherever it happens to be. What its account
//! says that it has is then no more than what is taken of the budget: once the account is free, as much can be taken as
//! there is, and not a page more.

use quire_linux::control::ledger::Ledger;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Processes that are killed. Of the time that one spends a good part is in the middle of a take or a return.
const KILLED: u32 = 150;
const BUDGET: u64 = 1000;
/// Milliseconds until a process must have begun.
const TIMEOUT_MS: u32 = 20_000;

/// No test of its own: what is killed below, with the ledger as its standard input.
#[test]
#[ignore = "a part of the next one"]
fn takes_and_gives_back_for_ever() {
    let Ok(ledger) = Ledger::map(std::io::stdin()) else { return };
    let account = ledger.account(0);
    for pages in (1..BUDGET).cycle() {
        ledger.take(account, pages);
        ledger.give_back(account, pages);
    }
}

/// Until it has begun to take some.
fn let_it_begin(ledger: &Ledger, child: &mut Child) {
    for _ in 0..TIMEOUT_MS {
        if ledger.peak_taken_pages() > 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    panic!("it takes nothing");
}

#[test]
fn who_is_killed_in_the_middle_of_a_take_has_no_more_than_is_taken() {
    for number in 0..KILLED {
        let (file, ledger) = Ledger::create(BUDGET).unwrap();
        let account = ledger.account(ledger.join(1).unwrap().index);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "takes_and_gives_back_for_ever", "--ignored"])
            .stdin(Stdio::from(file))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let_it_begin(&ledger, &mut child);
        // Not always the same time after it was seen to take something.
        std::thread::sleep(Duration::from_micros(u64::from(number % 7) * 90));
        child.kill().unwrap();
        child.wait().unwrap();
        let (granted, taken) = (account.granted_pages(), ledger.taken_pages());
        assert!(granted <= taken, "{granted} pages are granted, and {taken} taken");
        ledger.leave(account);
        let next = ledger.account(ledger.join(2).unwrap().index);
        let got = ledger.take(next, 2 * BUDGET);
        assert!(
            got + taken - granted == BUDGET,
            "{got} pages could be taken, where {} were lost",
            taken - granted
        );
    }
}
