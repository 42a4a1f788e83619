//! Random walks over the division of the budget: processes join, fork, ask, give back, are asked to shrink, call exec, leave and
//! are killed, all in one thread. After each event the grants are summed up, and compared with the ledger and with a division
//! that is computed here in another way.

use super::tests::settings;
use super::*;
use crate::run::fair::FLOOR;
use quire_linux::control::grant::{self, Adjusted, LOW, Need, Standing};
use quire_linux::control::ledger::{ACCOUNTS, Account, AccountState};
use quire_sim::rng::Rng;
use rustix::net::{Shutdown, shutdown, socketpair};

/// 64 MiB, in pages.
const BUDGET: u64 = 16384;
const WALKS: u64 = 30;
const EVENTS: u32 = 400;
/// More than the budget has room for at the least that each may keep.
const MOST_PROCESSES: usize = 28;
/// Rounds in which a division comes to rest, when the processes want what they want and no more happens.
const ROUNDS: u32 = 150;

/// A process, as far as the budget is concerned.
struct Process {
    socket: OwnedFd,
    pid: u32,
    account: AccountId,
    /// Whether it takes part in the budget: a forked child does not.
    evicts: bool,
    /// What it works within, what it uses, and what it would like to use.
    grant: u32,
    charged: u32,
    wish: u32,
}

struct Walk<'a> {
    keeper: Keeper<'a>,
    processes: Vec<Process>,
    /// Accounts of processes that announced a fork whose child has not joined yet.
    announced: Vec<AccountId>,
    rng: Rng,
    pids: u32,
    joined: u64,
    forked: u64,
    /// How often one was asked to shrink to the least that each may keep, and no further.
    at_the_least: u64,
}

impl<'a> Walk<'a> {
    fn new(settings: &'a Settings, seed: u64) -> Walk<'a> {
        let keeper = Keeper::open(settings, Notes::default()).unwrap();
        assert_eq!(keeper.ledger.budget_pages(), BUDGET);
        let rng = Rng::new(seed);
        let processes = Vec::new();
        Walk {
            keeper,
            processes,
            announced: Vec::new(),
            rng,
            pids: 100,
            joined: 0,
            forked: 0,
            at_the_least: 0,
        }
    }

    /// As many join as there may be, and each wishes somewhat more than the least that it may keep: the first have taken all of
    /// the budget when the others come, and in equal parts there would be less for them.
    fn crowd(&mut self) {
        for who in 0..MOST_PROCESSES {
            self.pids += 1;
            self.join(self.pids, None);
            self.processes[who].wish = FLOOR as u32 + 3 * LOW;
            self.grow(who);
        }
        self.divide();
    }

    /// One event; its name, for who wants to know what went before.
    fn event(&mut self) -> &'static str {
        let kind = self.rng.below(100);
        if self.processes.is_empty() || kind < 12 && self.processes.len() < MOST_PROCESSES {
            self.pids += 1;
            self.join(self.pids, None);
            return "join";
        }
        let who = self.rng.below(self.processes.len() as u64) as usize;
        match kind {
            0..40 => self.ask(who),
            40..55 => self.free(who),
            55..75 => self.serve(who),
            75..85 => self.divide(),
            85..88 => self.fork(who, true),
            88..90 => self.fork(who, false),
            90..92 => self.child_joins(),
            92..95 => self.exec(who),
            95..98 => self.leave(who),
            _ => self.kill(who),
        }
    }

    fn account(&self, who: usize) -> &'static Account {
        self.keeper.ledger.account(self.processes[who].account.index)
    }

    /// Where the keeper has the process.
    fn index(&self, who: usize) -> usize {
        let account = Some(self.processes[who].account);
        self.keeper.peers.iter().position(|peer| peer.account == account).expect("the keeper knows it")
    }

    /// Sends a message and has it served. Who is to be closed departs.
    fn say(&mut self, who: usize, request: Request<'_>) {
        let packet = request.encode();
        channel::send(&self.processes[who].socket, packet.as_bytes(), &[], SendFlags::empty()).unwrap();
        let index = self.index(who);
        if let Next::Close = self.keeper.serve_peer(index) {
            self.keeper.depart(index);
        }
    }

    /// A process joins, and takes its first pages, as the pager does. Whether it was taken in.
    fn join(&mut self, pid: u32, parent: Option<AccountId>) -> bool {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (theirs, ours) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        self.keeper.peers.push(Peer::new(theirs, pid));
        let hello =
            Hello { build: build_id::build_number(), pid, ppid: 1, asleep: false, forked_from: parent };
        channel::send(&ours, Request::Hello(hello).encode().as_bytes(), &[], SendFlags::empty()).unwrap();
        let index = self.keeper.peers.len() - 1;
        if let Next::Close = self.keeper.serve_peer(index) {
            self.keeper.depart(index);
            return false;
        }
        let mut buffer = [0; PACKET_BYTES];
        let (packet, _) = channel::receive(&ours, &mut buffer, RecvFlags::empty()).unwrap().unwrap();
        let Ok(Reply::Welcome(welcome)) = Reply::decode(packet) else { panic!("no welcome") };
        let ledger = self.keeper.ledger;
        let account = ledger.account(welcome.account.index);
        assert_eq!((account.granted_pages(), account.want_pages()), (0, 0), "a new process has nothing yet");
        assert_eq!(account.target_pages(), NO_LIMIT, "nor is anything wanted of it");
        let grant = if welcome.evict { ledger.take(account, 256) as u32 } else { 0 };
        let evicts = welcome.evict;
        let account = welcome.account;
        self.processes.push(Process { socket: ours, pid, account, evicts, grant, charged: 0, wish: 0 });
        self.joined += 1;
        self.forked += u64::from(parent.is_some());
        true
    }

    /// Uses more, up to thousands of pages.
    fn ask(&mut self, who: usize) -> &'static str {
        let most = 1 << self.rng.below(14);
        let more = 1 + self.rng.below(most) as u32;
        self.processes[who].wish = (self.processes[who].wish + more).min(2 * BUDGET as u32);
        self.grow(who);
        "ask"
    }

    /// Goes on until it uses what it wishes, or gets no more.
    fn grow(&mut self, who: usize) {
        while self.processes[who].evicts && self.processes[who].charged < self.processes[who].wish {
            let (ledger, account) = (self.keeper.ledger, self.account(who));
            let process = &mut self.processes[who];
            let charged = process.wish.min(process.grant.max(process.charged));
            if charged > process.charged {
                account.counters.count_fault(1);
            }
            process.charged = charged;
            if process.grant - process.charged.min(process.grant) >= LOW {
                return;
            }
            // As the pager's grow_grant.
            if !grant::takes_more(
                Need::Program,
                process.grant,
                account.granted_pages(),
                account.target_pages(),
            ) {
                return;
            }
            let got = ledger.take(account, u64::from(grant::chunk(process.grant))) as u32;
            process.grant += got;
            let (unmet, before) = (grant::unmet(process.grant - got, got), account.want_pages());
            ledger.set_want(account, unmet);
            if unmet > before {
                self.say(who, Request::Want);
            }
            if got == 0 {
                return;
            }
        }
    }

    /// A round of one that sleeps with all of its memory: reclaim works towards what it may use, some pages at a time.
    fn serve_idle(&mut self, who: usize) {
        const STEP: u32 = 300;
        let before = self.processes[who].charged;
        self.serve(who);
        let (ledger, account) = (self.keeper.ledger, self.account(who));
        let process = &mut self.processes[who];
        process.charged = process.charged.max(before.saturating_sub(STEP));
        if process.charged + LOW > process.grant
            && grant::takes_more(
                Need::Reclaim,
                process.grant,
                account.granted_pages(),
                account.target_pages(),
            )
        {
            process.grant += ledger.take(account, u64::from(grant::chunk(process.grant))) as u32;
        }
    }

    fn free(&mut self, who: usize) -> &'static str {
        let process = &mut self.processes[who];
        process.wish -= self.rng.below(u64::from(process.wish) + 1) as u32;
        process.charged = process.charged.min(process.wish);
        "free"
    }

    /// A round of the service thread: adjust_grant, and reclaim down to the grant.
    fn serve(&mut self, who: usize) -> &'static str {
        let (ledger, account) = (self.keeper.ledger, self.account(who));
        let process = &mut self.processes[who];
        if !process.evicts {
            return "serve";
        }
        if account.want_pages() > 0
            && process.charged == process.wish
            && process.grant >= process.charged + LOW
        {
            ledger.set_want(account, 0);
        }
        let standing = Standing {
            granted: account.granted_pages() as u32,
            charged: process.charged,
            target: account.target_pages(),
            others_want: ledger.wanting() > u32::from(account.want_pages() > 0),
        };
        let Adjusted { grant, excess } = standing.adjust();
        assert!(u64::from(grant) <= account.target_pages(), "above its target");
        assert!(
            u64::from(grant) >= account.granted_pages().min(account.target_pages()).min(FLOOR / 2),
            "below the least"
        );
        process.grant = grant;
        ledger.give_back(account, u64::from(excess));
        process.charged = process.charged.min(grant);
        "serve"
    }

    /// `quire` divides the budget anew, as it does every 50 ms.
    fn divide(&mut self) -> &'static str {
        self.keeper.divide();
        self.check_targets();
        "divide"
    }

    fn fork(&mut self, who: usize, joins: bool) -> &'static str {
        let parent = self.processes[who].account;
        self.say(who, Request::ForkBegins);
        if joins {
            let pid = self.processes[who].pid + 1000;
            assert!(self.join(pid, Some(parent)), "the child of a living process is taken in");
            return "fork";
        }
        self.announced.push(parent);
        "fork announced"
    }

    /// A child joins whose parent may have ended since.
    fn child_joins(&mut self) -> &'static str {
        if let Some(parent) = self.announced.pop() {
            assert!(self.join(99, Some(parent)), "an announced child is taken in");
        }
        "child"
    }

    /// The process becomes another program: its connection ends, and another begins.
    fn exec(&mut self, who: usize) -> &'static str {
        let pid = self.processes[who].pid;
        self.kill(who);
        self.join(pid, None);
        "exec"
    }

    fn leave(&mut self, who: usize) -> &'static str {
        self.say(who, Request::Bye);
        self.processes.swap_remove(who);
        "leave"
    }

    fn kill(&mut self, who: usize) -> &'static str {
        let index = self.index(who);
        // Another test may be starting a program, which has a copy until it calls exec.
        shutdown(&self.processes.swap_remove(who).socket, Shutdown::Both).unwrap();
        let Next::Close = self.keeper.serve_peer(index) else { panic!("its end is not seen") };
        self.keeper.depart(index);
        "kill"
    }

    /// What must hold after each event.
    fn check(&self) {
        let ledger = self.keeper.ledger;
        let accounts = || (0..ACCOUNTS as u32).map(|index| ledger.account(index));
        let granted: u64 = accounts().map(Account::granted_pages).sum();
        assert_eq!(granted, ledger.taken_pages(), "grants do not add up to what is taken");
        assert!(granted <= BUDGET, "{granted} pages are granted");
        assert!(ledger.peak_taken_pages() >= granted && ledger.peak_taken_pages() <= BUDGET);
        let wanting = accounts().filter(|account| account.want_pages() > 0).count();
        assert_eq!(wanting as u32, ledger.wanting(), "processes that want some");
        for account in accounts().filter(|account| account.state() == AccountState::Free) {
            assert_eq!((account.granted_pages(), account.want_pages()), (0, 0), "pages of one that has left");
        }
        let living = accounts().filter(|account| account.state() == AccountState::Joined).count();
        assert_eq!((living, self.keeper.peers.len()), (self.processes.len(), self.processes.len()));
        for (who, process) in self.processes.iter().enumerate() {
            let account = self.account(who);
            assert!(ledger.is_current(process.account) && account.pid() == process.pid);
            assert!(
                u64::from(process.grant) <= account.granted_pages(),
                "it works within more than was granted"
            );
            assert!(process.evicts || account.granted_pages() == 0, "a forked child has pages of the budget");
        }
        assert_eq!((self.keeper.joined(), self.keeper.forked()), (self.joined, self.forked));
        assert_eq!(
            (self.keeper.refused(), self.keeper.peak_granted()),
            (0, ledger.peak_taken_pages() * PAGE)
        );
    }

    /// Right after a division: each is asked for what it has above its share, if somebody wants more than is free.
    fn check_targets(&mut self) {
        let ledger = self.keeper.ledger;
        let wanted: u64 = (0..self.processes.len()).map(|who| self.demand(who).wanted).sum();
        let presses = wanted > BUDGET - ledger.taken_pages();
        let level = self.level(|who| self.whole(who));
        for who in 0..self.processes.len() {
            let account = self.account(who);
            let (granted, whole) = (account.granted_pages(), self.whole(who));
            assert!(whole >= granted.min(FLOOR), "nobody demands less than the least");
            let share = whole.min(level).max(granted.min(FLOOR));
            let expected = if presses && granted > share { share } else { NO_LIMIT };
            assert_eq!(account.target_pages(), expected, "of {whole} pages, at level {level}");
            self.at_the_least += u64::from(expected == FLOOR && level < FLOOR);
        }
    }

    /// What it demands, which is no more than it has and wants.
    fn demand(&self, who: usize) -> Demand {
        let (account, peer) = (self.account(who), &self.keeper.peers[self.index(who)]);
        let demand = peer.still.demand(account.granted_pages(), account.want_pages());
        assert!(demand.keeps <= account.granted_pages() && demand.wanted <= account.want_pages());
        demand
    }

    fn whole(&self, who: usize) -> u64 {
        let Demand { keeps, wanted } = self.demand(who);
        keeps + wanted
    }

    /// The highest level at which what each needs, cut to it, fits the budget: found by halving.
    fn level(&self, need: impl Fn(usize) -> u64) -> u64 {
        let needs: Vec<u64> = (0..self.processes.len()).map(need).collect();
        let fits = |level: u64| needs.iter().map(|&need| need.min(level)).sum::<u64>() <= BUDGET;
        let (mut low, mut high) = (0, 4 * BUDGET);
        while low < high {
            let middle = (low + high).div_ceil(2);
            if fits(middle) { low = middle } else { high = middle - 1 }
        }
        low
    }

    /// Nothing more happens but that all go on: who wishes more than it has gets its share within some rounds.
    fn come_to_rest(&mut self) {
        for _ in 0..ROUNDS {
            for who in 0..self.processes.len() {
                self.grow(who);
                self.serve(who);
            }
            self.divide();
            self.check();
        }
        let taking: Vec<usize> =
            (0..self.processes.len()).filter(|&who| self.processes[who].evicts).collect();
        let equal = BUDGET / taking.len().max(1) as u64;
        for who in taking {
            let (wish, granted) = (u64::from(self.processes[who].wish), self.account(who).granted_pages());
            let least = wish.min(equal).saturating_sub(u64::from(grant::KEEP) + equal / 8);
            assert!(
                granted >= least,
                "{granted} pages are granted to one that wishes {wish}, of {equal} for each"
            );
        }
    }
}

#[test]
fn who_is_idle_gives_to_who_works_and_takes_nothing_back() {
    let settings = settings(BUDGET * PAGE);
    let mut walk = Walk::new(&settings, 1);
    walk.join(1, None);
    walk.processes[0].wish = BUDGET as u32;
    walk.grow(0);
    walk.join(2, None);
    // More than half.
    let child = 14_000;
    walk.processes[1].wish = child;
    let mut had = BUDGET;
    for _ in 0..80 {
        walk.grow(1);
        walk.divide();
        walk.serve_idle(0);
        walk.serve(1);
        walk.check();
        let has = walk.account(0).granted_pages();
        assert!(has <= had, "it slept, and had {had} pages, and has {has}");
        had = has;
    }
    assert_eq!(walk.processes[1].charged, child, "{had} pages are left to the other");
}

#[test]
fn grants_add_up_to_the_budget_after_each_event() {
    let settings = settings(BUDGET * PAGE);
    for seed in 0..WALKS {
        let mut walk = Walk::new(&settings, seed);
        let mut last = Vec::new();
        if seed % 2 == 1 {
            walk.crowd();
        }
        for event in 0..EVENTS {
            last.push(walk.event());
            let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| walk.check()));
            assert!(
                checked.is_ok(),
                "seed {seed}, event {event}, after {:?}",
                &last[last.len().saturating_sub(5)..]
            );
        }
        assert!(seed % 2 == 0 || walk.at_the_least > 0, "seed {seed}: nobody came down to the least");
        walk.come_to_rest();
        while !walk.processes.is_empty() {
            walk.kill(0);
            walk.check();
        }
        assert_eq!(walk.keeper.ledger.taken_pages(), 0, "seed {seed}");
    }
}
