//! How often threads were moved to another processor, for a profile.
//!
//! The kernel counts it for each thread (`nr_migrations` in `/proc/PID/task/TID/sched`), and nobody can ask a thread that has
//! ended. So `quire` looks at every sample: what a thread did after the last look before its end is missing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// How the pager's threads are called.
const PAGER: &str = "quire-";

/// Whose threads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Pager,
    Program,
}

/// What the kernel says of a thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Thread {
    side: Side,
    migrations: u64,
}

/// What was seen of all threads.
#[derive(Clone, Debug, Default)]
pub(super) struct Migrations {
    /// The last look at each thread, by its id.
    threads: BTreeMap<u32, Thread>,
    /// What threads did whose ids others have now.
    before: Moved,
    /// Whether the kernel tells.
    known: bool,
}

/// Changes of the processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Moved {
    /// Of the pager's threads.
    pub(crate) pager: u64,
    /// Of the program's.
    pub(crate) program: u64,
}

impl Moved {
    fn add(&mut self, thread: Thread) {
        match thread.side {
            Side::Pager => self.pager += thread.migrations,
            Side::Program => self.program += thread.migrations,
        }
    }
}

impl Migrations {
    /// Looks at the threads of these processes.
    pub(super) fn look(&mut self, processes: &[u32]) {
        for pid in processes {
            let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            for (tid, thread) in threads.filter_map(|entry| read(&entry.path())) {
                self.add(tid, thread);
            }
        }
    }

    /// What was seen so far; nothing where the kernel does not tell.
    pub(super) fn moved(&self) -> Option<Moved> {
        let mut moved = self.before;
        self.threads.values().for_each(|thread| moved.add(*thread));
        self.known.then_some(moved)
    }

    fn add(&mut self, tid: u32, thread: Thread) {
        self.known = true;
        if let Some(last) = self.threads.insert(tid, thread)
            && (last.side != thread.side || last.migrations > thread.migrations)
        {
            self.before.add(last);
        }
    }
}

fn read(task: &Path) -> Option<(u32, Thread)> {
    let tid = task.file_name()?.to_str()?.parse().ok()?;
    Some((tid, parse(&fs::read_to_string(task.join("sched")).ok()?)?))
}

/// The first line has the thread's name, `name (TID, #threads: N)`, the others figures.
fn parse(text: &str) -> Option<Thread> {
    let side = if text.starts_with(PAGER) { Side::Pager } else { Side::Program };
    let line = text.lines().skip(1).find(|line| line.trim_start().starts_with("se.nr_migrations"))?;
    Some(Thread { side, migrations: line.rsplit(':').next()?.trim().parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(side: Side, migrations: u64) -> Thread {
        Thread { side, migrations }
    }

    #[test]
    fn the_kernels_text_is_understood() {
        let text = "quire-fault (27051, #threads: 3)\n\
                    -------------------------------------------------------------------\n\
                    se.exec_start                                :        822372.188322\n\
                    se.nr_migrations                             :                   17\n\
                    nr_switches                                  :                  120\n";
        assert_eq!(parse(text), Some(thread(Side::Pager, 17)));
        assert_eq!(parse(&text.replace("quire-fault", "python3")), Some(thread(Side::Program, 17)));
        assert_eq!(parse("quire-fault (1, #threads: 3)\n"), None);
        // A thread may call itself anything.
        assert_eq!(parse("se.nr_migrations : 3 (1, #threads: 1)\n"), None);
    }

    #[test]
    fn the_last_look_counts_and_an_id_that_is_used_again_is_another_thread() {
        let mut migrations = Migrations::default();
        assert_eq!(migrations.moved(), None);
        for (tid, side, count) in
            [(1, Side::Program, 5), (2, Side::Pager, 1), (1, Side::Program, 9), (1, Side::Program, 2)]
        {
            migrations.add(tid, thread(side, count));
        }
        assert_eq!(migrations.moved(), Some(Moved { pager: 1, program: 11 }));
        migrations.add(2, thread(Side::Program, 4));
        assert_eq!(migrations.moved(), Some(Moved { pager: 1, program: 15 }));
    }
}
