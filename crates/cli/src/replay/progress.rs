//! A bar on a terminal, nothing elsewhere.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::inputs::Input;

const BAR_WIDTH: u64 = 30;
/// Between two drawings.
const INTERVAL: Duration = Duration::from_millis(100);

/// How much of the files is read. Drawn by whichever thread comes by.
#[derive(Debug)]
pub(super) struct Progress {
    is_shown: bool,
    total: u64,
    done: AtomicU64,
    events: AtomicU64,
    drawn: Mutex<Instant>,
}

impl Progress {
    pub(super) fn new(inputs: &[Input]) -> Self {
        let total = inputs.iter().map(|input| input.bytes).sum();
        let (done, events) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { is_shown: io::stderr().is_terminal(), total, done, events, drawn: Mutex::new(Instant::now()) }
    }

    /// A file is read.
    pub(super) fn add_bytes(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
        self.draw();
    }

    /// So many more events are judged.
    pub(super) fn add_events(&self, events: u64) {
        self.events.fetch_add(events, Ordering::Relaxed);
        self.draw();
    }

    fn draw(&self) {
        if !self.is_shown {
            return;
        }
        let Ok(mut drawn) = self.drawn.try_lock() else { return };
        if drawn.elapsed() < INTERVAL {
            return;
        }
        *drawn = Instant::now();
        let (done, total) = (self.done.load(Ordering::Relaxed), self.total.max(1));
        let filled = (done.saturating_mul(BAR_WIDTH) / total).min(BAR_WIDTH);
        let bar: String = (0..BAR_WIDTH).map(|place| if place < filled { '#' } else { '.' }).collect();
        let events = self.events.load(Ordering::Relaxed);
        let percent = done.saturating_mul(100) / total;
        // A closed stderr leaves nobody to tell.
        let _ = write!(io::stderr(), "\r[{bar}] {percent:>3} %, {events} events ");
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        if self.is_shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
