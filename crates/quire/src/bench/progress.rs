//! How far a bench is: one line on a terminal.

use super::figures::side_name;
use super::model::Side;
use crate::terminal::{Line, bar, cut};
use std::time::{Duration, Instant};

/// Characters of the bar.
const BAR: usize = 16;

/// Characters of the line: on a terminal of 80 it never wraps.
const WIDTH: usize = 79;

/// How many runs are done, and which one is running.
#[derive(Debug)]
pub(crate) struct Progress {
    begun: Instant,
    line: Line,
    runs: Runs,
}

#[derive(Debug, Default)]
struct Runs {
    planned: usize,
    done: usize,
    /// When the last of those done ended, since the beginning.
    last_end: Duration,
    now: String,
}

impl Progress {
    /// Of so many runs. Nothing is drawn if `quiet`, or where nobody sees it.
    pub(crate) fn new(planned: usize, quiet: bool) -> Progress {
        let runs = Runs { planned, ..Runs::default() };
        Progress { begun: Instant::now(), line: Line::new(quiet), runs }
    }

    /// So many runs come on top: a round is measured again, or a limit was too low.
    pub(crate) fn add(&mut self, runs: usize) {
        self.runs.planned += runs;
    }

    /// So many runs are left: what was planned before is over, or won't be.
    pub(crate) fn left(&mut self, runs: usize) {
        self.runs.planned = self.runs.done + runs;
    }

    /// This run begins; `memory` is what it may have, or empty.
    pub(crate) fn running(&mut self, workload: &str, memory: &str, side: Side) {
        let memory = if memory.is_empty() { String::new() } else { format!(", {memory}") };
        self.runs.now = format!("{workload}, {}{memory}", side_name(side));
        self.draw();
    }

    /// It has ended.
    pub(crate) fn ended(&mut self) {
        self.runs.end(self.begun.elapsed());
        self.draw();
    }

    /// Draws the line anew; while a run goes on, the time left changes.
    pub(crate) fn draw(&mut self) {
        let (runs, since) = (&self.runs, self.begun.elapsed());
        self.line.draw(|| runs.text(since));
    }

    /// Takes the line away, so that others may write.
    pub(crate) fn clear(&mut self) {
        self.line.clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.line.clear();
    }
}

impl Runs {
    fn end(&mut self, since: Duration) {
        self.done += 1;
        self.planned = self.planned.max(self.done);
        self.last_end = since;
    }

    fn text(&self, since: Duration) -> String {
        let Runs { planned, done, .. } = self;
        let bar = bar(*done as f64 / (*planned).max(1) as f64, BAR);
        let left = self.left(since).map_or_else(String::new, |left| format!("  {} left", about(left)));
        cut(&format!("{bar} {done}/{planned}{left}  {}", self.now), WIDTH)
    }

    /// How long it still takes if all runs take as long as those so far in the mean. Nobody knows before the first.
    fn left(&self, since: Duration) -> Option<Duration> {
        let each = self.last_end.checked_div(u32::try_from(self.done).ok()?)?;
        let whole = each.saturating_mul(u32::try_from(self.planned - self.done).ok()?);
        Some(whole.saturating_sub(since.saturating_sub(self.last_end)))
    }
}

/// A time to wait, roughly.
fn about(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..90 => format!("{seconds} s"),
        seconds @ 90..5400 => format!("{} min", (seconds + 30) / 60),
        seconds => format!("{:.1} h", seconds as f64 / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_line_says_what_runs_and_how_long_all_of_it_takes() {
        let mut runs =
            Runs { planned: 20, now: "sort, 0.7 of the peak, kernel, round 3".into(), ..Runs::default() };
        assert_eq!(runs.text(SECOND), "[................] 0/20  sort, 0.7 of the peak, kernel, round 3");
        for end in 1..=5 {
            runs.end(40 * SECOND * end);
        }
        // 15 runs of 40 s, of which the one that is running has had 10 s.
        assert_eq!(
            runs.text(210 * SECOND),
            "[####............] 5/20  10 min left  sort, 0.7 of the peak, kernel, round 3"
        );
        assert_eq!(runs.left(210 * SECOND), Some(590 * SECOND));
        assert_eq!(runs.left(9000 * SECOND), Some(Duration::ZERO));
    }

    #[test]
    fn a_line_never_wraps() {
        let runs = Runs { planned: 1000, now: "a workload with a long name".repeat(4), ..Runs::default() };
        assert_eq!(runs.text(SECOND).chars().count(), WIDTH);
    }

    #[test]
    fn more_or_fewer_runs_than_planned_are_no_harm() {
        let mut progress = Progress::new(1, true);
        progress.ended();
        progress.ended();
        assert_eq!((progress.runs.done, progress.runs.planned), (2, 2));
        progress.add(3);
        assert_eq!((progress.runs.done, progress.runs.planned), (2, 5));
        progress.left(9);
        assert_eq!((progress.runs.done, progress.runs.planned), (2, 11));
        progress.running("true", "", Side::Quire);
        assert_eq!(progress.runs.now, "true, quire");
        progress.running("sort", "200 MiB", Side::Kernel);
        assert_eq!(progress.runs.now, "sort, kernel, 200 MiB");
    }

    #[test]
    fn times_to_wait_are_rough() {
        let texts = [0, 89, 90, 600, 5399, 9000].map(|seconds| about(seconds * SECOND));
        assert_eq!(texts, ["0 s", "89 s", "2 min", "10 min", "90 min", "2.5 h"]);
    }
}
