//! How far all replays are: one line on a terminal.

use crate::size::counted;
use crate::terminal::bar;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Instant;

/// How far each cell is.
#[derive(Debug)]
pub(super) struct Progress {
    begun: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// By cell, 0.0 to 1.0.
    shares: Vec<f64>,
    events: u64,
}

/// Characters of the bar.
const WIDTH: usize = 30;

impl Progress {
    pub(super) fn new(cells: usize) -> Progress {
        let state = State { shares: vec![0.0; cells], events: 0 };
        Progress { begun: Instant::now(), state: Mutex::new(state) }
    }

    /// A cell is so far, after `events` events more.
    pub(super) fn update(&self, cell: usize, share: f64, events: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.shares[cell] = share;
        state.events += events;
    }

    pub(super) fn text(&self) -> String {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let cells = state.shares.len();
        let share = state.shares.iter().sum::<f64>() / cells.max(1) as f64;
        let over = state.shares.iter().filter(|share| **share >= 1.0).count();
        let cells = counted(cells as u64, "cell");
        let rate = state.events as f64 / self.begun.elapsed().as_secs_f64().max(0.001) / 1e6;
        let bar = bar(share, WIDTH);
        format!("{bar} {:3.0} %  {over} of {cells}  {rate:.1} M events/s", share * 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_all_cells_are() {
        let progress = Progress::new(4);
        progress.update(0, 1.0, 100);
        progress.update(1, 0.2, 20);
        let text = progress.text();
        assert!(text.starts_with("[#########.") && text.contains(" 30 %  1 of 4 cells"), "{text}");
    }
}
