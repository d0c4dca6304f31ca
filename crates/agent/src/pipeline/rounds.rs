//! Who works off what was observed, and when.
//!
//! One thread makes a round every few milliseconds. Where a rule may act on process
//! starts and the sensor has doorbells, there is a thread at each CPU besides that
//! does nothing until a process starts there, and makes a round then: it takes the
//! CPU from that process, so that the verdict is there before the program goes on.
//! Whoever makes a round has all of the pipeline for itself; waiting is done without.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, Scope};
use std::time::{Duration, Instant};

use sensor_api::{
    CpuDoorbell, DoorbellPlace, Doorbells, Sensor, SensorError, SensorPosition, StopHandle, StopSignal,
    StreamDoorbell, stop_signal,
};

use super::hashing::LOOK_EVERY;
use super::parts::{End, Stop};
use super::{HEALTH_EVERY, POLL, QUIET_POLL, Work};
use crate::clock::boot_ns;
use crate::system::process;

/// Observations of the stream that an answer works off at most: it runs at a real-time priority. What is not among them
/// comes when the pipeline's thread gets to it.
const MOST_OF_AN_ANSWER: usize = 256;
/// So long the pipeline's thread stands back after a round for whoever waits at a doorbell: a thread that sleeps on another
/// CPU takes some tens of microseconds to get the lock.
const STANDS_BACK: Duration = Duration::from_micros(200);
/// So long it waits for a round of its own before answers stand back.
const WAITS_AT_MOST: Duration = Duration::from_millis(5);

/// Who waits for a round.
#[derive(Debug, Clone, Default)]
pub(super) struct Callers {
    at_doorbells: Arc<AtomicUsize>,
    /// Since when the pipeline's thread does, in nanoseconds since boot; 0: it does not.
    pipeline_since: Arc<AtomicU64>,
}

impl Callers {
    /// Whether one at a doorbell does. Whoever makes a long round looks here and ends it early.
    pub(super) fn are_waiting(&self) -> bool {
        self.at_doorbells.load(Ordering::Relaxed) != 0
    }

    /// The lock for one at a doorbell; `None` where another thread panicked with it.
    fn answer<'a>(&self, rounds: &'a Mutex<Rounds>) -> Option<MutexGuard<'a, Rounds>> {
        self.at_doorbells.fetch_add(1, Ordering::Relaxed);
        let turn = rounds.lock();
        self.at_doorbells.fetch_sub(1, Ordering::Relaxed);
        turn.ok()
    }

    /// The lock for the pipeline's thread.
    fn go_round<'a>(&self, rounds: &'a Mutex<Rounds>) -> Option<MutexGuard<'a, Rounds>> {
        let begun = Instant::now();
        while self.are_waiting() && begun.elapsed() < STANDS_BACK {
            std::thread::yield_now();
        }
        self.pipeline_since.store(boot_ns(), Ordering::Relaxed);
        let turn = rounds.lock();
        self.pipeline_since.store(0, Ordering::Relaxed);
        turn.ok()
    }

    /// Whether the pipeline's thread was kept from its rounds for too long.
    fn keep_the_pipeline_waiting(&self) -> bool {
        let since = self.pipeline_since.load(Ordering::Relaxed);
        since != 0 && u128::from(boot_ns().saturating_sub(since)) > WAITS_AT_MOST.as_nanos()
    }
}

/// The pipeline with its sensor.
pub(super) struct Rounds {
    sensor: Box<dyn Sensor>,
    work: Work,
    second: Instant,
    health: Instant,
    count: Arc<AtomicU64>,
    /// What the sensor was told of last.
    committed: Option<SensorPosition>,
    /// The governor has everything wait so long.
    rests_until: Option<Instant>,
    /// An answer did not come to the end of the stream.
    is_behind: bool,
    /// Why there are no more rounds.
    end: Option<Result<End, SensorError>>,
}

impl Rounds {
    pub(super) fn new(sensor: Box<dyn Sensor>, work: Work, count: Arc<AtomicU64>) -> Self {
        let now = Instant::now();
        let (rests_until, is_behind) = (None, false);
        let committed = work.recorder.stored_position();
        Self { sensor, work, second: now, health: now, count, committed, rests_until, is_behind, end: None }
    }

    /// Makes rounds until stop is asked for or there can be no more.
    pub(super) fn make_all(self, stop: &Stop) -> (Box<dyn Sensor>, Work, Result<End, SensorError>) {
        let callers = self.work.callers.clone();
        let rounds = Mutex::new(self);
        std::thread::scope(|threads| {
            let mut answering = None;
            let mut may_answer = true;
            while !stop.is_asked() {
                // Poisoned, if a thread at a doorbell panicked: then so does this one, at the scope's end.
                let Some(mut turn) = callers.go_round(&rounds) else { break };
                if turn.end.is_some() {
                    break;
                }
                let acts_on_start = turn.work.economy.acts_on_start();
                if acts_on_start && may_answer && answering.is_none() {
                    answering = Answering::begin(threads, &rounds, &mut turn);
                    may_answer = answering.is_some();
                }
                match answering.as_mut().filter(|_| acts_on_start) {
                    Some(answering) => {
                        let pause = turn.make_before_waiting();
                        drop(turn);
                        answering.wait(pause);
                    }
                    None => {
                        let rest = turn.make_with_waiting();
                        drop(turn);
                        sleep(rest);
                    }
                }
            }
        });
        let Self { sensor, work, end, .. } = rounds.into_inner().unwrap_or_else(PoisonError::into_inner);
        (sensor, work, end.unwrap_or(Ok(End::Asked)))
    }

    /// A round that waits for observations; how long there is to be none after it.
    fn make_with_waiting(&mut self) -> Duration {
        let patience = if self.work.economy.is_quiet() { QUIET_POLL } else { POLL };
        self.make(self.work.may_wait(patience))
    }

    /// A round of what is there; how long to wait after it, without the lock.
    fn make_before_waiting(&mut self) -> Duration {
        let rest = self.make(Duration::ZERO);
        let more_waits = self.work.economy.is_full() || self.end.is_some();
        if rest.is_zero() && !more_waits { self.work.may_wait(POLL) } else { rest }
    }

    /// One round; how long there is to be none after it.
    fn make(&mut self, patience: Duration) -> Duration {
        self.is_behind = false;
        let polled = self.work.poll(self.sensor.as_mut(), patience);
        if let Err(error) = polled {
            self.commit_stored();
            self.end = Some(Err(error));
            return Duration::ZERO;
        }
        self.work.hash_for(LOOK_EVERY);
        self.commit_stored();
        let (sensor, work) = (self.sensor.as_mut(), &mut self.work);
        work.hand_over_blocks(sensor);
        work.use_new_rules(sensor);
        if work.govern(sensor) {
            self.end = Some(Ok(End::Memory));
            return Duration::ZERO;
        }
        if self.second.elapsed() >= Duration::from_secs(1) {
            self.second = Instant::now();
            work.each_second();
            work.check_sensor(sensor);
            work.tell_news_of_health(&mut self.health);
        }
        if self.health.elapsed() >= HEALTH_EVERY {
            self.health = Instant::now();
            work.tell_health();
        }
        work.flush_if_due();
        let rest = work.rest();
        self.commit_stored();
        self.count.fetch_add(1, Ordering::Relaxed);
        self.rests_until = (!rest.is_zero()).then(|| Instant::now() + rest);
        rest
    }

    /// Judges what came before and with a process start that rang; false if there is nothing more to answer. What may take
    /// long is left to the pipeline's thread, and all of it while that is behind or the budget has everything wait: a flood
    /// must not have the CPU at a real-time priority.
    fn answer(&mut self) -> bool {
        let rests = self.rests_until.is_some_and(|until| Instant::now() < until);
        let is_late = self.work.callers.keep_the_pipeline_waiting()
            || self.work.recorder.is_large()
            || self.work.economy.is_overdue();
        if self.end.is_none() && !rests && !is_late && !self.is_behind && !self.work.economy.is_full() {
            match self.work.judge_at_once(self.sensor.as_mut(), MOST_OF_AN_ANSWER) {
                Ok(count) => self.is_behind = count >= MOST_OF_AN_ANSWER,
                Err(error) => self.end = Some(Err(error)),
            }
        }
        self.end.is_none()
    }

    /// Tells the sensor what is stored by now.
    fn commit_stored(&mut self) {
        let stored = self.work.recorder.stored_position().filter(|stored| Some(*stored) != self.committed);
        if let Some(position) = stored {
            self.sensor.commit(position);
            self.committed = Some(position);
        }
    }
}

/// The threads at the doorbells. They end with it.
struct Answering {
    stream: Box<dyn StreamDoorbell>,
    _stop: StopHandle,
}

impl Answering {
    /// `None` if it can't be, with a word to the log: then the sensor wakes whoever polls.
    fn begin<'scope, 'all>(
        threads: &'scope Scope<'scope, 'all>,
        rounds: &'all Mutex<Rounds>,
        turn: &mut MutexGuard<'_, Rounds>,
    ) -> Option<Self> {
        let (handle, stop) = stop_signal()
            .inspect_err(|error| tracing::warn!(%error, "no thread waits for process starts at each CPU"))
            .ok()?;
        let Doorbells { of_cpus, of_stream } = turn
            .sensor
            .take_doorbells(&stop)
            .inspect_err(|error| {
                let error: &dyn std::error::Error = error;
                tracing::warn!(error, "no thread waits for process starts at each CPU");
            })
            .ok()
            .flatten()?;
        for DoorbellPlace { cpu, hang } in of_cpus {
            let (stop, callers) = (stop.clone(), turn.work.callers.clone());
            let thread = Builder::new().name(format!("answer-{cpu}"));
            let begun = thread.spawn_scoped(threads, move || {
                process::prefer_this_thread();
                if let Err(error) = answer_all(hang, rounds, &callers, &stop) {
                    tracing::warn!(cpu, %error, "process starts there wake the stream's reader");
                }
            });
            if let Err(error) = begun {
                tracing::warn!(cpu, %error, "process starts there wake the stream's reader");
            }
        }
        Some(Self { stream: of_stream, _stop: handle })
    }

    fn wait(&mut self, pause: Duration) {
        if !pause.is_zero() && self.stream.wait(pause).is_err() {
            sleep(pause);
        }
    }
}

fn answer_all(
    hang: impl FnOnce() -> io::Result<Box<dyn CpuDoorbell>>,
    rounds: &Mutex<Rounds>,
    callers: &Callers,
    stop: &StopSignal,
) -> io::Result<()> {
    let mut doorbell = hang()?;
    while !stop.asked_within(Duration::ZERO) {
        doorbell.wait()?;
        let Some(mut turn) = callers.answer(rounds) else { break };
        if !turn.answer() {
            break;
        }
    }
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "resting is the purpose; each rest is bounded")]
fn sleep(rest: Duration) {
    if !rest.is_zero() {
        std::thread::sleep(rest);
    }
}
