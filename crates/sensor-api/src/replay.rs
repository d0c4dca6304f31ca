//! A sensor that hands out observations from a list.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::{Observation, Observed, ProcessClock, Sensor, SensorError, SensorPosition};

/// Hands out a list of observations, for tests and for replaying a recording.
#[derive(Debug, Default)]
pub struct ReplaySensor {
    stream: u64,
    pending: VecDeque<Observed>,
    committed: u64,
}

impl ReplaySensor {
    /// A sensor that hands out these observations with their times, numbered from 1.
    pub fn new(stream: u64, observations: impl IntoIterator<Item = (u64, Observation)>) -> Self {
        let numbered = observations.into_iter().zip(1..).map(|((at_ns, what), offset)| Observed {
            at_ns,
            position: Some(SensorPosition { stream, offset }),
            what,
        });
        Self { stream, pending: numbered.collect(), committed: 0 }
    }

    /// How far the reader has committed.
    pub fn committed(&self) -> u64 {
        self.committed
    }
}

/// No process lives in a recording.
struct NoProcesses;

impl ProcessClock for NoProcesses {
    fn start_ns(&self, _pid: u32) -> Option<u64> {
        None
    }

    fn precision_ns(&self) -> u64 {
        1
    }
}

impl Sensor for ReplaySensor {
    fn name(&self) -> &'static str {
        "replay"
    }

    fn poll(&mut self, _timeout: Duration, sink: &mut dyn FnMut(Observed)) -> Result<(), SensorError> {
        self.pending.drain(..self.pending.len().min(1_000)).for_each(sink);
        Ok(())
    }

    fn commit(&mut self, position: SensorPosition) {
        if position.stream == self.stream {
            self.committed = self.committed.max(position.offset);
        }
    }

    fn wake_on_process_start(&mut self, _at_once: bool) {}

    fn process_clock(&self) -> Arc<dyn ProcessClock> {
        Arc::new(NoProcesses)
    }

    fn shut_down(self: Box<Self>) -> Result<(), SensorError> {
        Ok(())
    }
}
