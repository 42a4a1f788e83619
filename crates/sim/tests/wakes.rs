//! A verb stops after k pages, for every k there is, in folios of every order: those who wait for a page of the folio, before
//! k, there and behind it, go on with what the program should see. And verbs that are refused for good.
//!
//! What is checked after every event (`quire_sim::world`) holds here too: nobody waits for what has come, and nobody is woken
//! to a hole that is being filled.

use quire_core::mmu::{Prot, Refusal};
use quire_core::{Order, PageState, PolicyKind, Urgency, Vpn};
use quire_sim::world::{Event, Put, SPACE, Setup, Touch};
use quire_sim::{Host, Injection, Lasting, Verb};

const RW: Prot = Prot::READ_WRITE;
/// The largest order of which each length is cut for each reason; in larger folios each length is cut for one.
const ALL_REASONS: Order = Order::fitting(16);
/// Pages that come back of a larger folio that was moved out.
const RESCUED: u64 = 16;

const REASONS: [Refusal; 6] =
    [Refusal::Exists, Refusal::Absent, Refusal::Busy, Refusal::Denied, Refusal::NoMemory, Refusal::Again];

/// How a folio comes to the program.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Way {
    /// Zeroes are moved in.
    Filled,
    /// They are copied, since the program may only read.
    Copied,
    /// What was moved out is moved back.
    Rescued,
}

/// A host, and one folio of `order` that is mapped and not there yet.
struct Scene {
    host: Host,
    order: Order,
    way: Way,
}

impl Scene {
    fn new(order: Order, way: Way) -> Scene {
        let pages = order.pages();
        let setup = Setup {
            frames: pages * 2 + 64,
            segments: 32,
            grant: pages * 2 + 64,
            policy: PolicyKind::Fixed(order),
            arena: u64::from(pages),
            threads: 6,
            spill: None,
        };
        let mut host = Host::new(setup);
        host.watch();
        let mut scene = Scene { host, order, way };
        scene.play(Event::Map(Vpn(0), scene.pages(), RW));
        if way == Way::Rescued {
            scene.fill();
            (0..scene.pages()).for_each(|vpn| scene.touch(0, vpn, Some(Put::Small)));
            scene.play(Event::PageOut(Vpn(0), scene.pages()));
        }
        scene
    }

    fn pages(&self) -> u64 {
        u64::from(self.order.pages())
    }

    fn play(&mut self, event: Event) {
        let Scene { order, way, .. } = *self;
        self.host.happen(event).unwrap_or_else(|why| panic!("{order:?}, {way:?}, {event:?}: {why}"));
    }

    fn touch(&mut self, thread: u8, vpn: u64, put: Option<Put>) {
        self.play(Event::Touch(thread, Touch { vpn: Vpn(vpn), put }));
    }

    fn fill(&mut self) {
        self.play(Event::Message(Vpn(0), false));
        self.play(Event::Run(0));
    }

    /// Threads wait for pages round `k`, their messages are read, and whatever is needed is one event away, which is returned.
    /// Those of a fill have joined it; one of a rescue is answered for all.
    fn wait(&mut self, k: u64) -> Event {
        let last = self.pages() - 1;
        let near = [k.saturating_sub(1), k.min(last), (k + 1).min(last), 0, last];
        for (thread, vpn) in near.into_iter().enumerate() {
            // Of a large folio only a part comes back.
            if self.way != Way::Rescued || vpn / RESCUED == k / RESCUED {
                self.touch(thread as u8, vpn, None);
                self.play(Event::Take(thread as u8));
            }
        }
        assert!(!self.host.held.is_empty());
        if self.way == Way::Rescued {
            return Event::Serve(0);
        }
        while !self.host.held.is_empty() {
            self.play(Event::Serve(0));
        }
        if self.way == Way::Copied {
            self.play(Event::Protect(Vpn(0), self.pages(), Prot::READ));
        }
        Event::Run(0)
    }

    fn verb(&self) -> Verb {
        if self.way == Way::Copied || self.order == Order::BASE && self.way == Way::Filled {
            Verb::CopyIn
        } else {
            Verb::MoveIn
        }
    }

    /// Nobody waits whose page is there; all goes on, and every page reads as it should.
    fn ends(&mut self, what: &str) {
        let Scene { order, way, .. } = *self;
        let asleep: Vec<_> = self.host.mmu.waiters.waiting().collect();
        let left = asleep.iter().all(|(_, m)| self.host.mmu.entry(m.space, m.vpn).is_none());
        assert!(left, "{order:?}, {way:?}, {what}: {asleep:?} sleep");
        let end = self.host.read_back();
        end.unwrap_or_else(|why| panic!("{order:?}, {way:?}, {what}: {why}"));
    }
}

/// Each length at which a call for `pages` pages can be cut, and reasons.
fn lengths(order: Order, pages: u64) -> impl Iterator<Item = (u64, Refusal)> {
    (0..pages).flat_map(move |k| {
        let some = if order <= ALL_REASONS { 0..REASONS.len() } else { k as usize % 6..k as usize % 6 + 1 };
        some.map(move |reason| (k, REASONS[reason]))
    })
}

fn each_length(way: Way) {
    for order in Order::all() {
        // A page of its own is zeroed where it is, without a job that others could join.
        if way != Way::Rescued && order == Order::BASE {
            continue;
        }
        let scene = Scene::new(order, way);
        let pages = if way == Way::Rescued { scene.pages().min(RESCUED) } else { scene.pages() };
        for (k, reason) in lengths(order, pages) {
            let what = format!("{reason:?} after {k} pages");
            let mut scene = Scene { host: scene.host.clone(), order, way };
            let last = scene.wait(k);
            scene.play(Event::Inject(Injection::next(scene.verb(), reason).after(k as u32)));
            scene.play(last);
            // Before the first page there is none that could leave.
            let cut = !scene.host.mmu.injector.strikes.is_empty();
            assert!(cut || reason == Refusal::Absent && k == 0, "{order:?}, {way:?}, {what}: it was not cut");
            scene.ends(&what);
        }
    }
}

#[test]
fn a_fill_is_cut_after_each_page() {
    each_length(Way::Filled);
}

#[test]
fn a_fill_by_copies_is_cut_after_each_page() {
    each_length(Way::Copied);
}

#[test]
fn a_rescue_is_cut_after_each_page() {
    each_length(Way::Rescued);
}

/// What was done of a move out is out, what was refused is not, and nothing is lost.
#[test]
fn a_move_out_is_cut_after_each_page() {
    for order in Order::all() {
        let mut scene = Scene::new(order, Way::Filled);
        scene.fill();
        (0..scene.pages()).for_each(|vpn| scene.touch(0, vpn, Some(Put::Small)));
        for (k, reason) in lengths(order, scene.pages()) {
            let what = format!("out, {reason:?} after {k} pages");
            let mut scene = Scene { host: scene.host.clone(), order, way: Way::Filled };
            scene.play(Event::Inject(Injection::next(Verb::MoveOut, reason).after(k as u32)));
            scene.play(Event::PageOut(Vpn(0), scene.pages()));
            assert_eq!(scene.host.mmu.injector.strikes.len(), 1, "{order:?}, {what}");
            let out =
                |vpn: u64| matches!(scene.host.engine.page_state(SPACE, Vpn(vpn)), PageState::Standby { .. });
            assert!((0..k).all(out), "{order:?}, {what}: what was done is not out");
            scene.ends(&what);
        }
    }
}

/// Of one thing after the other the engine tries another way: no page is asked for more than a few times.
fn few_calls(scene: &Scene, pages: u64, what: &str) {
    let calls = scene.host.mmu.injector.strikes.len() as u64;
    let most = 12 * pages + 40;
    assert!((1..=most).contains(&calls), "{:?}, {what}: {calls} calls were refused", scene.order);
}

/// From some page on nothing can be moved in, for good: it is copied. Who waits goes on.
#[test]
fn what_can_not_be_moved_is_copied_for_good() {
    for order in Order::all().skip(1).take(6) {
        for way in [Way::Filled, Way::Rescued] {
            for (start, reason) in lengths(order, u64::from(order.pages())) {
                if matches!(reason, Refusal::Exists | Refusal::Absent) {
                    continue;
                }
                let what = format!("{reason:?} for good from page {start} on");
                let mut scene = Scene::new(order, way);
                let last = scene.wait(start);
                let lasting = Lasting { verb: Verb::MoveIn, start: Vpn(start), pages: 512, refusal: reason };
                scene.play(Event::Refuse(lasting, 100));
                scene.play(last);
                few_calls(&scene, scene.pages(), &what);
                let drained = scene.host.drain_refused();
                drained.unwrap_or_else(|why| panic!("{order:?}, {way:?}, {what}: {why}"));
                scene.ends(&what);
            }
        }
    }
}

/// What can be neither moved nor copied stops the process with a reason, soon. Until it is lifted, nobody is told that it went
/// well.
#[test]
fn what_can_not_be_brought_at_all_stops_the_process() {
    for order in Order::all().skip(1).take(5) {
        for start in 0..u64::from(order.pages()) {
            for reason in [Refusal::Busy, Refusal::Denied, Refusal::NoMemory, Refusal::Again] {
                let what = format!("{reason:?} for good from page {start} on");
                let mut scene = Scene::new(order, Way::Copied);
                scene.wait(start);
                let lasting = Lasting { verb: Verb::CopyIn, start: Vpn(start), pages: 512, refusal: reason };
                scene.host.mmu.injector.lasting = Some(lasting);
                let mut stopped = scene.host.aside();
                while !stopped.step(0).unwrap_or_else(|why| {
                    assert_eq!(why, "the engine stops: Unmappable", "{order:?}, {what}");
                    true
                }) {}
                assert!(!stopped.mmu.waiters.is_empty(), "{order:?}, {what}: somebody was woken");
                let calls = stopped.mmu.injector.strikes.len();
                assert!((1..60).contains(&calls), "{order:?}, {what}: {calls} calls were refused");
                scene.play(Event::Run(0));
                scene.ends(&what);
            }
        }
    }
}

/// Nothing can be moved out, for good: reclaim says so after a bounded number of steps, and faults are answered above the
/// grant.
#[test]
fn reclaim_that_is_refused_for_good_says_so() {
    for order in Order::all().take(7) {
        for reason in [Refusal::Busy, Refusal::Denied, Refusal::NoMemory, Refusal::Again] {
            let mut scene = Scene::new(order, Way::Filled);
            scene.fill();
            scene.touch(0, 0, Some(Put::Small));
            scene.play(Event::Refuse(Lasting::everywhere(Verb::MoveOut, reason), u32::MAX));
            scene.play(Event::Grant(0));
            let settled = scene.host.settle_to_grant();
            settled.unwrap_or_else(|why| panic!("{order:?}, {reason:?}: {why}"));
            let steps = scene.host.steps;
            assert!(steps < 8 * scene.pages() + 100, "{order:?}, {reason:?}: {steps} steps");
            scene.play(Event::Unmap(Vpn(0), 1));
            scene.play(Event::Map(Vpn(0), 1, RW));
            scene.touch(1, 0, None);
            let drained = scene.host.drain_refused();
            drained.unwrap_or_else(|why| panic!("{order:?}, {reason:?}: {why}"));
            scene.ends(&format!("{reason:?} of all moves out"));
        }
    }
}

/// Two processes wait for one page that they share and that one job brings: both are woken, though it is mapped for one.
#[test]
fn a_fill_wakes_whoever_waits_in_any_process() {
    let mut scene = Scene::new(Order::BASE, Way::Filled);
    scene.touch(0, 0, Some(Put::Small));
    scene.play(Event::Handle(0));
    scene.play(Event::PageOut(Vpn(0), 1));
    scene.play(Event::Grant(0));
    while scene.host.engine.page_state(SPACE, Vpn(0)) != PageState::Stored {
        scene.play(Event::Reclaim(Urgency::Behind));
        scene.play(Event::Run(0));
        assert!(scene.host.steps < 100, "the page is never stored");
    }
    scene.play(Event::Grant(64));
    scene.play(Event::ForkSpace);
    for thread in 0..2 {
        scene.play(Event::Process(thread));
        scene.touch(thread, 0, None);
        scene.play(Event::Handle(0));
    }
    assert_eq!((scene.host.jobs.len(), scene.host.mmu.waiters.waiting().count()), (1, 2));
    scene.play(Event::Run(0));
    // The other one found nothing mapped in its process, and asks again.
    assert_eq!(scene.host.mmu.waiters.unread().count(), 1);
    scene.ends("a fill for two processes");
}

/// A change of rights inside a folio takes its fill from the job: whoever waits for any page of it tries again.
#[test]
fn who_waits_for_a_fill_that_is_taken_back_tries_again() {
    for order in Order::all().skip(1) {
        let mut scene = Scene::new(order, Way::Filled);
        scene.wait(1);
        scene.play(Event::Protect(Vpn(0), scene.pages() / 2, Prot::READ));
        assert!(scene.host.mmu.waiters.unread().count() > 0, "{order:?}: nobody tries again");
        scene.ends("a fill that is taken back");
    }
}
