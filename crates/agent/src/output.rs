//! Events and alerts as ECS NDJSON, for `-output`.
//!
//! Writing is a thread of its own behind a bounded queue: a pipe that nobody reads
//! must not stop the agent from judging. What does not fit is dropped, counted, and
//! told by a gap line in the output as soon as there is room.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use event_model::{
    EcsContext, EventBody, EventHeader, EventRecord, Gap, GapReason, Record, RecordBody, Timestamp,
};

use crate::options::OutputTarget;

/// Records that may wait; at about a kilobyte each this bounds memory.
const MAX_WAITING: usize = 65_536;

struct Dropped {
    count: u64,
    from: Timestamp,
    /// Of the last dropped record: the gap line takes its place in the sequence.
    last: EventHeader,
}

#[derive(Default)]
struct Queue {
    records: VecDeque<Record>,
    dropped: Option<Dropped>,
    writing: bool,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// The way to the writer.
pub struct Output {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Output {
    /// Opens the target. A file is appended to, and made with mode 0600 if it is missing.
    ///
    /// # Errors
    /// If the file can't be opened.
    pub fn open(target: &OutputTarget, host_name: String) -> io::Result<Self> {
        let writer: Box<dyn Write + Send> = match target {
            OutputTarget::Stdout => Box::new(io::stdout()),
            OutputTarget::File(path) => {
                Box::new(OpenOptions::new().append(true).create(true).mode(0o600).open(path)?)
            }
        };
        Self::to(writer, host_name)
    }

    fn to(writer: Box<dyn Write + Send>, host_name: String) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new().name("output".into()).spawn({
            let shared = shared.clone();
            move || shared.write_all(BufWriter::with_capacity(256 << 10, writer), &host_name)
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Has the records written soon. Never waits.
    pub fn write(&self, records: impl IntoIterator<Item = Record>) {
        let mut queue = self.shared.lock();
        for record in records {
            if queue.records.len() < MAX_WAITING {
                queue.records.push_back(record);
            } else {
                let from = record.header.observed_at;
                let (count, from) =
                    queue.dropped.take().map_or((1, from), |dropped| (dropped.count + 1, dropped.from));
                queue.dropped = Some(Dropped { count, from, last: record.header });
            }
        }
        drop(queue);
        self.shared.changed.notify_all();
    }

    /// Waits until everything is written, or for `limit`; then lets go of the writer.
    pub fn finish(mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut queue = self.shared.lock();
        queue.closed = true;
        self.shared.changed.notify_all();
        while !queue.records.is_empty() || queue.writing {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return };
            queue = self.shared.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(queue);
        if let Some(thread) = self.thread.take() {
            // It only fails by a panic, which has been printed.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_all(&self, mut writer: impl Write, host_name: &str) {
        let context = EcsContext { host_name, agent_version: Some(env!("CARGO_PKG_VERSION")) };
        loop {
            let mut queue = self.lock();
            queue.writing = false;
            self.changed.notify_all();
            while queue.records.is_empty() && queue.dropped.is_none() {
                if queue.closed {
                    return;
                }
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            queue.writing = true;
            let records = std::mem::take(&mut queue.records);
            let gap = queue.dropped.take().map(gap_record);
            drop(queue);
            let lines = records.iter().chain(&gap).try_for_each(|record| {
                serde_json::to_writer(&mut writer, &record.to_ecs(context))?;
                writer.write_all(b"\n")
            });
            if let Err(error) = lines.and_then(|()| writer.flush()) {
                // A reader that went away is no reason to end; every line would say the same.
                tracing::warn!(%error, "the output can't be written, it is given up");
                let mut queue = self.lock();
                while !queue.closed {
                    queue.records.clear();
                    queue.dropped = None;
                    queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
                queue.records.clear();
                queue.writing = false;
                self.changed.notify_all();
                return;
            }
        }
    }
}

fn gap_record(dropped: Dropped) -> Record {
    let gap = EventBody::Gap(Gap {
        sensor: "output",
        reason: GapReason::SpoolWriteFailed,
        what: "records",
        count: Some(dropped.count),
        from: dropped.from,
        until: dropped.last.observed_at,
    });
    let event = EventRecord::from_body(dropped.last.clone(), &gap);
    Record { header: dropped.last, body: RecordBody::Event(event) }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use event_model::{AgentStop, BootId, HostId};
    use uuid::Uuid;

    use super::*;

    fn record(sequence: u64) -> Record {
        let header = EventHeader {
            host_id: HostId::from_uuid(Uuid::from_u128(1)),
            boot_id: BootId::from_uuid(Uuid::from_u128(2)),
            sequence,
            observed_at: Timestamp::from_nanos(i64::try_from(sequence).unwrap()),
            monotonic_ns: 0,
        };
        let stop = EventBody::AgentStop(AgentStop { version: "1".into(), reason: "signal", signal: None });
        Record { header: header.clone(), body: RecordBody::Event(EventRecord::from_body(header, &stop)) }
    }

    /// A reader that does not read until it is told to.
    struct Stuck {
        go: mpsc::Receiver<()>,
        gone: bool,
        lines: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !self.gone {
                let _ = self.go.recv();
                self.gone = true;
            }
            self.lines.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_reader_never_blocks_and_every_line_is_written_or_counted() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (release, go) = mpsc::channel();
        let stuck = Stuck { go, gone: false, lines: lines.clone() };
        let output = Output::to(Box::new(stuck), "host".into()).unwrap();
        let total = 3 * MAX_WAITING as u64;
        for sequence in 1..=total {
            output.write([record(sequence)]);
        }
        release.send(()).unwrap();
        output.finish(Duration::from_secs(60));
        let text = String::from_utf8(lines.lock().unwrap().clone()).unwrap();
        let (mut events, mut lost) = (0, 0);
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            match line["rampart"]["gap"]["count"].as_u64() {
                Some(count) => lost += count,
                None => events += 1,
            }
        }
        assert!(lost > 0);
        assert_eq!(events + lost, total);
    }
}
