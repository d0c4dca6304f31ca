//! Keeps the agent within its CPU and memory budget.
//!
//! The CPU time of all threads is measured in steps of 100 ms over the last ten
//! seconds. When it comes near the limit, the agent goes up a ladder, one rung at
//! a time, and down again when it has been well below for a while:
//!
//! 1. **less work**: like acts become one record, images are not hashed (unless a
//!    rule needs it), batches are closed each second;
//! 2. **shedding**: of [`EventClass::Bulk`] one act in ten is kept, then none; then the
//!    same of `File`, then of `Network`. What is left out is counted by type;
//! 3. **sleeping**: short rests between rounds, as long as the stream does not pile up.
//!
//! [`EventClass::Protected`] is never shed, and never lost for a rest: a host whose
//! process starts alone take more than the budget makes the agent exceed it.
//!
//! Memory near its limit sheds everything that may be shed; far beyond it for long
//! the agent restarts itself, with all that waits in the spool.

mod ladder;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

use event_model::{EventClass, words};

pub use ladder::{KEEP_ONE_OF, Keep, RUNGS, Rung};

/// The span over which CPU time is averaged.
const SPAN: Duration = Duration::from_secs(10);
/// Time between two measurements.
pub const MEASURE_EVERY: Duration = Duration::from_millis(100);
/// Time for a rung to show its effect before the next one is taken.
const SETTLE: Duration = Duration::from_millis(300);
/// The share of the budget, in percent, past which the agent goes up.
const UP_AT: u32 = 85;
/// The share of the budget, in percent, below which it may go down.
const DOWN_AT: u32 = 60;
/// So long it must have been below before it goes down a rung.
const FIRST_PATIENCE: Duration = Duration::from_secs(3);
/// Where going down was too early each time, it waits longer, at most so long.
const MOST_PATIENCE: Duration = Duration::from_secs(60);
/// Going up so soon after going down means that going down was too early.
const TOO_EARLY: Duration = Duration::from_secs(10);
/// Memory far beyond its limit for so long leads to a restart.
const MEMORY_PATIENCE: Duration = Duration::from_secs(10);
/// An agent restarts itself for memory only after it ran for so long, so that restarts
/// come at most so often; until then it only sheds.
const LEAST_RUN: Duration = Duration::from_secs(600);

words! {
    /// What the agent does to stay within its budget.
    BudgetStep {
        /// Nothing.
        Normal = "normal",
        /// It merges like acts and hashes nothing.
        LessWork = "less_work",
        /// It leaves classes of events out.
        Shedding = "shedding",
        /// It rests between rounds.
        Sleeping = "sleeping",
    }
}

/// The budget.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budget {
    /// CPU in thousandths of one core; `None` for no limit.
    pub cpu_permille: Option<u32>,
    /// Resident memory in bytes; `None` for no limit.
    pub memory_bytes: Option<u64>,
}

/// What a measurement asks the agent to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Go on.
    GoOn,
    /// What is done to save has changed.
    Changed,
    /// Forget what can be read again: memory is short.
    DropCaches,
    /// Restart: memory stays far beyond its limit.
    Restart,
}

/// The state of the governor, for whoever watches from another thread.
#[derive(Debug, Default)]
pub struct Gauge {
    rung: AtomicU8,
    cpu_permille: AtomicU32,
}

impl Gauge {
    /// The rung of the ladder; 0 is the ground.
    pub fn rung(&self) -> u8 {
        self.rung.load(Ordering::Relaxed)
    }

    /// CPU over the last ten seconds in thousandths of one core.
    pub fn cpu_permille(&self) -> u32 {
        self.cpu_permille.load(Ordering::Relaxed)
    }
}

/// Decides what to save. It knows no clock: whoever measures says when.
#[derive(Debug)]
pub struct Governor {
    budget: Budget,
    gauge: Arc<Gauge>,
    /// Time and CPU time, oldest first: one more than the span has steps.
    measured: VecDeque<(Duration, Duration)>,
    rung: usize,
    went_up: Option<Duration>,
    went_down: Option<Duration>,
    below_since: Option<Duration>,
    patience: Duration,
    memory_short: bool,
    memory_beyond_since: Option<Duration>,
}

impl Governor {
    /// A governor of that budget.
    pub fn new(budget: Budget) -> Self {
        Self {
            budget,
            gauge: Arc::default(),
            measured: VecDeque::new(),
            rung: 0,
            went_up: None,
            went_down: None,
            below_since: None,
            patience: FIRST_PATIENCE,
            memory_short: false,
            memory_beyond_since: None,
        }
    }

    /// Its state for others.
    pub fn gauge(&self) -> Arc<Gauge> {
        Arc::clone(&self.gauge)
    }

    /// The rung that is in force.
    pub fn rung(&self) -> &'static Rung {
        let by_memory = if self.memory_short { ladder::ALL_SHED } else { 0 };
        &RUNGS[self.rung.max(by_memory)]
    }

    /// What is kept of a class now.
    pub fn keep(&self, class: EventClass) -> Keep {
        self.rung().keep(class)
    }

    /// CPU over the last ten seconds in thousandths of one core.
    pub fn cpu_permille(&self) -> u32 {
        self.gauge.cpu_permille()
    }

    /// Takes a measurement: time since some moment, CPU time, resident memory.
    pub fn measure(&mut self, at: Duration, cpu: Duration, resident: u64) -> Ask {
        let before = self.rung().number;
        self.measured.push_back((at, cpu));
        while self.measured.get(1).is_some_and(|(second, _)| at.saturating_sub(*second) >= SPAN) {
            self.measured.pop_front();
        }
        let used = self.used(at, cpu, SPAN);
        self.gauge.cpu_permille.store(permille(used, SPAN), Ordering::Relaxed);
        if let Some(limit) = self.budget.cpu_permille {
            self.climb(at, cpu, used, limit);
        }
        let ask = self.watch_memory(at, resident);
        let rung = self.rung();
        self.gauge.rung.store(rung.number, Ordering::Relaxed);
        match ask {
            Ask::GoOn if rung.number != before => Ask::Changed,
            ask => ask,
        }
    }

    fn climb(&mut self, at: Duration, cpu: Duration, used: Duration, limit: u32) {
        let budget = SPAN * limit / 1_000;
        // The rate of the last second, or since the rung was taken: what was before says nothing of it.
        let second = Duration::from_secs(1);
        let span = self.went_up.map_or(second, |up| at.saturating_sub(up).clamp(MEASURE_EVERY, second));
        let rate = self.used(at, cpu, span).mul_f64(second.div_duration_f64(span));
        let too_fast = rate > second * limit / 1_000;
        let left = budget.saturating_sub(used);
        // As fast as the average grows now, the rest is used up before the ladder could be climbed.
        let grows = rate.saturating_sub(used / 10);
        let soon_used_up = too_fast && left < grows * 5;
        let near = used > budget * UP_AT / 100;
        if (near && too_fast) || soon_used_up {
            self.below_since = None;
            if self.rung + 1 < RUNGS.len() && self.settled(at) {
                if self.went_down.is_some_and(|down| at.saturating_sub(down) < TOO_EARLY) {
                    self.patience = (self.patience * 2).min(MOST_PATIENCE);
                    self.went_down = None;
                }
                self.rung += 1;
                self.went_up = Some(at);
            }
        } else if used < budget * DOWN_AT / 100 && !too_fast {
            let since = *self.below_since.get_or_insert(at);
            if self.rung > 0 && at.saturating_sub(since) >= self.patience {
                self.rung -= 1;
                self.went_down = Some(at);
                self.below_since = Some(at);
            }
            if self.rung == 0 && at.saturating_sub(since) >= MOST_PATIENCE {
                self.patience = FIRST_PATIENCE;
            }
        } else {
            self.below_since = None;
        }
    }

    fn settled(&self, at: Duration) -> bool {
        self.went_up.is_none_or(|up| at.saturating_sub(up) >= SETTLE)
    }

    fn watch_memory(&mut self, at: Duration, resident: u64) -> Ask {
        let Some(limit) = self.budget.memory_bytes else { return Ask::GoOn };
        let was_short = self.memory_short;
        // Between the two thresholds it stays as it is.
        if resident > limit {
            self.memory_short = true;
        } else if resident < limit / 10 * 8 {
            self.memory_short = false;
        }
        if resident <= limit / 10 * 12 {
            self.memory_beyond_since = None;
        } else {
            let since = *self.memory_beyond_since.get_or_insert(at);
            if at.saturating_sub(since) >= MEMORY_PATIENCE && at >= LEAST_RUN {
                return Ask::Restart;
            }
        }
        if self.memory_short && !was_short { Ask::DropCaches } else { Ask::GoOn }
    }

    /// CPU time that was used in the last `span`, as far as it was measured.
    fn used(&self, at: Duration, cpu: Duration, span: Duration) -> Duration {
        let begin = at.saturating_sub(span);
        let place = self.measured.partition_point(|(time, _)| *time < begin);
        let (_, earlier) = self.measured.get(place).copied().unwrap_or((at, cpu));
        cpu.saturating_sub(earlier)
    }
}

fn permille(used: Duration, span: Duration) -> u32 {
    u32::try_from(used.as_micros() * 1_000 / span.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
