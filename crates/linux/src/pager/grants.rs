//! The part of the tree's budget that this process works within.

use super::{Link, Pager, Tables};
use crate::control::grant::{self, Adjusted, LOW, Need, Standing};
use crate::sys::clock::now_ns;
use crate::sys::mmap;
use core::sync::atomic::Ordering::Relaxed;
use quire_core::PAGE_SIZE;
use quire_core::addr::Space;

/// How long a count of Quire's own memory holds: so many times as long as it took, but no longer than so many ns.
const USAGE_TIMES: u64 = 100;
const USAGE_NS: u64 = 100_000_000;
/// Time between two messages that more is wanted, in ns.
const WANT_NS: u64 = 5_000_000;
/// Quire's own stacks, as far as they are touched, in pages.
const STACKS: u32 = 48;

impl Pager {
    /// The link, if it divides a budget that this process takes part in.
    fn budgeted(&self) -> Option<&'static Link> {
        self.link().filter(|link| link.welcome.evict)
    }

    /// Before a fault: takes more of the budget when little is left.
    pub(super) fn keep_grant(&self, tables: &mut Tables) {
        if tables.engine.headroom() < LOW {
            self.grow_grant(tables);
        }
    }

    /// After a fault: whether room is short, and the budget has no more.
    pub(super) fn is_short(&self, tables: &mut Tables) -> bool {
        if !tables.engine.pressed() {
            return false;
        }
        self.grow_grant(tables);
        tables.engine.pressed()
    }

    /// Whether a chunk more of the budget could be had.
    pub(super) fn gets_more(&self, tables: &mut Tables) -> bool {
        let before = tables.engine.grant();
        self.grow_grant(tables);
        tables.engine.grant() > before
    }

    /// For the program: takes a chunk more of the budget, if there is any; else says that it is wanted.
    pub(super) fn grow_grant(&self, tables: &mut Tables) {
        let Some(link) = self.budgeted() else { return };
        let account = link.ledger.account(link.welcome.account.index);
        let grant = tables.engine.grant();
        if !grant::takes_more(Need::Program, grant, account.granted_pages(), account.target_pages()) {
            return;
        }
        let got = link.ledger.take(account, u64::from(grant::chunk(grant))) as u32;
        if got > 0 {
            tables.engine.set_grant(grant + got);
        }
        let unmet = grant::unmet(grant, got);
        let before = account.want_pages();
        if before != unmet {
            link.ledger.set_want(account, unmet);
        }
        if unmet > before
            && let Some(client) = self.client()
            && self.says_want()
        {
            client.want();
        }
    }

    /// Whether `quire` should hear of a want at once. It looks at the ledger from time to time anyway, and a process
    /// that uses all of the budget by itself comes to want more all the time.
    fn says_want(&self) -> bool {
        let now = now_ns();
        let said = self.want_said_at.load(Relaxed);
        let says = now - said > WANT_NS;
        if says {
            self.want_said_at.store(now, Relaxed);
        }
        says
    }

    /// On the service thread, each round: what Quire itself takes, what `quire` wants back, what others need.
    pub(super) fn adjust_grant(&self) {
        let own = self.usage() / PAGE_SIZE as u64;
        let mut tables = self.tables.lock();
        let more = tables.engine.set_overhead(own as u32 + STACKS);
        tables.engine.look_at_store(&mut self.mover());
        let Some(link) = self.budgeted() else { return };
        let account = link.ledger.account(link.welcome.account.index);
        let (grant, granted) = (tables.engine.grant(), account.granted_pages());
        if more > 0
            && link.ledger.wanting() == 0
            && grant::takes_more(Need::Program, grant, granted, account.target_pages())
        {
            // Its tables grew for the program: nothing is to be moved out for that while the budget has more.
            link.ledger.take(account, u64::from(more));
        }
        if account.want_pages() > 0 && tables.engine.headroom() >= LOW && !tables.engine.pressed() {
            // It has passed, and others should not shrink for it.
            link.ledger.set_want(account, 0);
        }
        let standing = Standing {
            granted: account.granted_pages() as u32,
            charged: tables.engine.charged(),
            target: account.target_pages(),
            others_want: link.ledger.wanting() > u32::from(account.want_pages() > 0),
        };
        let Adjusted { grant, excess } = standing.adjust();
        tables.engine.set_grant(grant);
        drop(tables);
        if excess > 0 {
            link.ledger.give_back(account, u64::from(excess));
        }
    }

    /// Bytes of Quire's own memory, as of a tenth of a second ago at most: counting what was touched of large
    /// tables takes a while.
    pub(super) fn usage(&self) -> u64 {
        let now = now_ns();
        let mut last = self.usage.lock();
        if now > last.0 {
            let usage = (self.options.usage)() + mmap::buffer_bytes() as u64;
            let took = now_ns() - now;
            *last = (now + (took * USAGE_TIMES).min(USAGE_NS), usage);
        }
        last.1
    }

    /// At the start: the pages that the engine has been given to begin with are the ledger's.
    pub(super) fn take_first_grant(&self) {
        let Some(link) = self.budgeted() else { return };
        let account = link.ledger.account(link.welcome.account.index);
        let mut tables = self.tables.lock();
        // Of a process that slept, `quire` has counted what it takes.
        let had = account.granted_pages();
        if had > 0 {
            self.first_grant_at.store(now_ns(), Relaxed);
        }
        let got = link.ledger.take(account, u64::from(tables.engine.grant()).saturating_sub(had));
        tables.engine.set_grant((had + got) as u32);
    }

    /// Whether this process came from a fork and moves nothing out.
    pub(super) fn is_forked_child(&self) -> bool {
        self.forked.load(Relaxed) != 0
    }

    /// The first address space's mapped VMAs, for calls that concern them all.
    pub(super) fn vmas(&self, tables: &Tables) -> Vec<quire_core::vma::Vma> {
        tables.engine.vmas(Space(0)).iter().copied().collect()
    }
}
