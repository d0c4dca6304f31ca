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
    CpuDoorbell, DoorbellPlace, Doorbells, Sensor, SensorError, StopHandle, StopSignal, StreamDoorbell,
    stop_signal,
};

use super::hashing::LOOK_EVERY;
use super::parts::{End, Stop};
use super::{HEALTH_EVERY, POLL, QUIET_POLL, Work};
use crate::system::process;

/// How many threads at doorbells wait for their round. Whoever makes a long one looks here and ends it early.
#[derive(Debug, Clone, Default)]
pub(super) struct Callers(Arc<AtomicUsize>);

impl Callers {
    pub(super) fn are_waiting(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// The lock, once it is this thread's turn; `None` where another thread panicked with it.
    fn wait_for<'a>(&self, rounds: &'a Mutex<Rounds>) -> Option<MutexGuard<'a, Rounds>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let turn = rounds.lock();
        self.0.fetch_sub(1, Ordering::Relaxed);
        turn.ok()
    }
}

/// The pipeline with its sensor.
pub(super) struct Rounds {
    sensor: Box<dyn Sensor>,
    work: Work,
    second: Instant,
    health: Instant,
    count: Arc<AtomicU64>,
    /// The governor has everything wait so long.
    rests_until: Option<Instant>,
    /// Why there are no more rounds.
    end: Option<Result<End, SensorError>>,
}

impl Rounds {
    pub(super) fn new(sensor: Box<dyn Sensor>, work: Work, count: Arc<AtomicU64>) -> Self {
        let now = Instant::now();
        Self { sensor, work, second: now, health: now, count, rests_until: None, end: None }
    }

    /// Makes rounds until stop is asked for or there can be no more.
    pub(super) fn make_all(self, stop: &Stop) -> (Box<dyn Sensor>, Work, Result<End, SensorError>) {
        let rounds = Mutex::new(self);
        std::thread::scope(|threads| {
            let mut answering = None;
            let mut may_answer = true;
            while !stop.is_asked() {
                // Poisoned, if a thread at a doorbell panicked: then so does this one, at the scope's end.
                let Ok(mut turn) = rounds.lock() else { break };
                if turn.end.is_some() {
                    break;
                }
                if may_answer && answering.is_none() && turn.work.economy.acts_on_start() {
                    answering = Answering::begin(threads, &rounds, &mut turn);
                    may_answer = answering.is_some();
                }
                match answering.as_mut().filter(|_| turn.work.economy.acts_on_start()) {
                    Some(answering) => {
                        let rest = turn.make(Duration::ZERO);
                        let pause = rest
                            + if turn.work.economy.is_full() {
                                Duration::ZERO
                            } else {
                                turn.work.may_wait(POLL)
                            };
                        drop(turn);
                        answering.wait(pause);
                    }
                    None => {
                        let patience = if turn.work.economy.is_quiet() { QUIET_POLL } else { POLL };
                        let patience = turn.work.may_wait(patience);
                        let rest = turn.make(patience);
                        drop(turn);
                        sleep(rest);
                    }
                }
            }
        });
        let Self { sensor, work, end, .. } = rounds.into_inner().unwrap_or_else(PoisonError::into_inner);
        (sensor, work, end.unwrap_or(Ok(End::Asked)))
    }

    /// One round, and then something of what takes long; how long there is to be none after it.
    fn make(&mut self, patience: Duration) -> Duration {
        let rest = self.make_short(patience);
        if self.end.is_none() {
            self.work.hash_for(LOOK_EVERY);
        }
        rest
    }

    fn make_short(&mut self, patience: Duration) -> Duration {
        let (sensor, work) = (self.sensor.as_mut(), &mut self.work);
        let mut committed = work.recorder.stored_position();
        let polled = work.poll(sensor, patience);
        if let Some(position) =
            work.recorder.stored_position().filter(|position| Some(*position) != committed)
        {
            sensor.commit(position);
            committed = Some(position);
        }
        if let Err(error) = polled {
            self.end = Some(Err(error));
            return Duration::ZERO;
        }
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
        if let Some(position) =
            work.recorder.stored_position().filter(|position| Some(*position) != committed)
        {
            sensor.commit(position);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        let rest = work.rest();
        self.rests_until = (!rest.is_zero()).then(|| Instant::now() + rest);
        rest
    }

    /// A round because a process started; false if there is nothing more to answer. There is none while the budget has
    /// everything wait, nor while more waits than a round takes: a flood must not have the CPU at a real-time priority.
    fn answer(&mut self) -> bool {
        let rests = self.rests_until.is_some_and(|until| Instant::now() < until);
        if self.end.is_none() && !rests && !self.work.economy.is_full() {
            self.work.answers = true;
            self.make_short(Duration::ZERO);
        }
        self.end.is_none()
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
        let Some(mut turn) = callers.wait_for(rounds) else { break };
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
