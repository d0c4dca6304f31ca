//! Events and alerts as ECS NDJSON, for `-output`.
//!
//! Writing is a thread of its own behind a bounded queue: a pipe that nobody reads
//! must not stop the agent from judging. What does not fit is dropped, counted, and
//! told by a gap line at its place as soon as there is room.
//!
//! A write that fails, as on a full disk, is tried again: what it held stays in the
//! queue. Only a pipe whose reader is gone is given up. A line of which a part was
//! written is ended there, and stands whole in the next.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use event_model::{
    EcsContext, EventBody, EventHeader, EventRecord, Gap, GapReason, Record, RecordBody, Timestamp, Value,
};
use os_files::{FileExt as _, OpenOptionsExt as _};

use crate::options::OutputTarget;
use crate::system::standard_output;

/// Records that may wait.
const MAX_WAITING: usize = 65_536;

/// Memory that they may take, by an estimate.
const MAX_WAITING_BYTES: usize = 32 << 20;

/// Written in one go, by the same estimate.
const STEP_BYTES: usize = 256 << 10;

/// After a write that failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

struct Dropped {
    count: u64,
    from: Timestamp,
    /// Of the last dropped record: the gap line takes its place in the sequence.
    last: EventHeader,
}

#[derive(Default)]
struct Queue {
    records: VecDeque<Record>,
    /// What `records` weigh.
    bytes: usize,
    /// Newer than all in `records`.
    dropped: Option<Dropped>,
    writing: bool,
    closed: bool,
}

impl Queue {
    /// Takes a record in, or counts it as dropped.
    fn offer(&mut self, record: Record) {
        // Once full, a quarter must be free again: else there would be a gap line for every record.
        let (most, most_bytes) = match self.dropped {
            None => (MAX_WAITING, MAX_WAITING_BYTES),
            Some(_) => (MAX_WAITING / 4 * 3, MAX_WAITING_BYTES / 4 * 3),
        };
        if self.records.len() < most && self.bytes + weight(&record) <= most_bytes {
            self.end_gap();
            self.bytes += weight(&record);
            self.records.push_back(record);
            return;
        }
        let from = record.header.observed_at;
        let (count, from) =
            self.dropped.take().map_or((1, from), |dropped| (dropped.count + 1, dropped.from));
        self.dropped = Some(Dropped { count, from, last: record.header });
    }

    /// Puts the gap line where the dropped records would stand.
    fn end_gap(&mut self) {
        if let Some(gap) = self.dropped.take().map(gap_record) {
            self.bytes += weight(&gap);
            self.records.push_back(gap);
        }
    }

    /// The oldest records: some, or one that is large.
    fn take_step(&mut self) -> Vec<Record> {
        if self.records.is_empty() {
            self.end_gap();
        }
        let (mut step, mut taken) = (Vec::new(), 0);
        while taken < STEP_BYTES
            && let Some(record) = self.records.pop_front()
        {
            taken += weight(&record);
            step.push(record);
        }
        self.bytes -= taken;
        step
    }

    fn put_back(&mut self, records: impl DoubleEndedIterator<Item = Record>) {
        for record in records.rev() {
            self.bytes += weight(&record);
            self.records.push_front(record);
        }
    }

    /// Throws away what waits; how many records that was.
    fn clear(&mut self) -> u64 {
        let dropped = self.dropped.take().map_or(0, |dropped| dropped.count);
        let waiting = std::mem::take(&mut self.records).len() as u64;
        self.bytes = 0;
        dropped + waiting
    }
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
        match target {
            OutputTarget::Stdout => Self::to(Lines::new(standard_output::unbuffered()?), host_name),
            OutputTarget::File(path) => {
                let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
                let torn = ends_within_a_line(path, &file);
                Self::to(Lines { writer: file, torn }, host_name)
            }
        }
    }

    fn to<W: Write + Send + 'static>(lines: Lines<W>, host_name: String) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new().name("output".into()).spawn({
            let shared = shared.clone();
            move || shared.write_all(lines, &host_name)
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Has the records written soon. Never waits.
    pub fn write(&self, records: impl IntoIterator<Item = Record>) {
        let mut queue = self.shared.lock();
        for record in records {
            queue.offer(record);
        }
        drop(queue);
        self.shared.changed.notify_all();
    }

    /// Waits until everything is written, or for `limit`; then lets go of the writer.
    /// What can't be written now is not tried again.
    pub fn finish(mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut queue = self.shared.lock();
        queue.closed = true;
        self.shared.changed.notify_all();
        while !queue.records.is_empty() || queue.dropped.is_some() || queue.writing {
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

    fn write_all<W: Write>(&self, mut lines: Lines<W>, host_name: &str) {
        let context = EcsContext { host_name, agent_version: Some(env!("CARGO_PKG_VERSION")) };
        let mut failing = false;
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
            let step = queue.take_step();
            drop(queue);
            let mut bytes = Vec::with_capacity(2 * STEP_BYTES);
            let mut ends = Vec::with_capacity(step.len());
            for record in &step {
                let start = bytes.len();
                if let Err(error) = serde_json::to_writer(&mut bytes, &record.to_ecs(context)) {
                    tracing::error!(%error, "a record can't be written as JSON, it is left out");
                    bytes.truncate(start);
                } else {
                    bytes.push(b'\n');
                }
                ends.push(bytes.len());
            }
            let Err((written, error)) = lines.put(&bytes) else {
                if std::mem::take(&mut failing) {
                    tracing::info!("the output is written again");
                }
                continue;
            };
            let mut queue = self.lock();
            if error.kind() == io::ErrorKind::BrokenPipe {
                // A reader that went away is no reason to end; every line would say the same.
                tracing::warn!(%error, "the reader of the output is gone, the output is given up");
                return self.discard(queue);
            }
            let done = ends.partition_point(|end| *end <= written);
            queue.put_back(step.into_iter().skip(done));
            if !std::mem::replace(&mut failing, true) {
                tracing::warn!(%error, "the output can't be written, it is tried again every second");
            }
            if queue.closed {
                let records = queue.clear();
                tracing::warn!(%error, records, "the output can't be written, the last records are lost");
                return self.discard(queue);
            }
            let waited = self.changed.wait_timeout_while(queue, RETRY_AFTER, |queue| !queue.closed);
            drop(waited);
        }
    }

    /// Throws everything away until the end.
    fn discard(&self, mut queue: MutexGuard<'_, Queue>) {
        while !queue.closed {
            queue.clear();
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.clear();
        queue.writing = false;
        self.changed.notify_all();
    }
}

/// Writes whole lines, also behind one that was torn.
struct Lines<W> {
    writer: W,
    /// The last byte that was written does not end a line.
    torn: bool,
}

impl<W: Write> Lines<W> {
    fn new(writer: W) -> Self {
        Self { writer, torn: false }
    }

    /// Writes all of `lines`, or says how much of it got out.
    fn put(&mut self, lines: &[u8]) -> Result<(), (usize, io::Error)> {
        while self.torn {
            match self.writer.write(b"\n") {
                Ok(0) => return Err((0, io::ErrorKind::WriteZero.into())),
                Ok(_) => self.torn = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((0, error)),
            }
        }
        let mut written = 0;
        let failed = loop {
            if written == lines.len() {
                break None;
            }
            match self.writer.write(&lines[written..]) {
                Ok(0) => break Some(io::ErrorKind::WriteZero.into()),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Some(error),
            }
        };
        self.torn = written > 0 && lines[written - 1] != b'\n';
        failed.map_or(Ok(()), |error| Err((written, error)))
    }
}

/// Whether an earlier run left the file within a line.
fn ends_within_a_line(path: &Path, file: &File) -> bool {
    let Ok(found) = file.metadata() else { return false };
    let mut last = [b'\n'];
    found.is_file()
        && found.len() > 0
        && File::open(path).and_then(|file| file.read_exact_at(&mut last, found.len() - 1)).is_ok()
        && last != [b'\n']
}

/// About how many bytes of memory a record takes.
fn weight(record: &Record) -> usize {
    let of_event = |event: &EventRecord| -> usize {
        let value = |value: &Value| match value {
            Value::Text(text) => text.len(),
            Value::TextList(items) => items.iter().map(|item| 24 + item.len()).sum(),
            _ => 0,
        };
        event.fields().map(|(_, field)| 48 + value(field)).sum()
    };
    256 + match &record.body {
        RecordBody::Event(event) => of_event(event),
        RecordBody::Detection(detection) => {
            let of_process = |length: usize| 160 + length;
            let ancestry = detection.ancestry.iter();
            of_event(&detection.event)
                + detection.matched.iter().map(|text| 24 + text.len()).sum::<usize>()
                + ancestry
                    .map(|one| of_process(one.executable.len() + one.command_line.len() + one.user.len()))
                    .sum::<usize>()
        }
        RecordBody::Receipt(_) => 1_024,
    }
}

fn gap_record(dropped: Dropped) -> Record {
    let gap = EventBody::Gap(Gap {
        records: Some(dropped.count),
        from: dropped.from,
        until: dropped.last.observed_at,
        ..Gap::of_observations("output", GapReason::SpoolWriteFailed, "unknown", Some(dropped.count))
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
        record_of(sequence, "1".into())
    }

    fn record_of(sequence: u64, version: String) -> Record {
        let header = EventHeader {
            host_id: HostId::from_uuid(Uuid::from_u128(1)),
            boot_id: BootId::from_uuid(Uuid::from_u128(2)),
            sequence,
            observed_at: Timestamp::from_nanos(i64::try_from(sequence).unwrap()),
            monotonic_ns: 0,
        };
        let stop = EventBody::AgentStop(AgentStop { version, reason: "signal", signal: None, by: None });
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
        let output = Output::to(Lines::new(stuck), "host".into()).unwrap();
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

    #[test]
    fn what_waits_is_bounded_in_bytes_too() {
        let (release, go) = mpsc::channel::<()>();
        let stuck = Stuck { go, gone: false, lines: Arc::default() };
        let output = Output::to(Lines::new(stuck), "host".into()).unwrap();
        for sequence in 1..=200 {
            output.write([record_of(sequence, "x".repeat(1 << 20))]);
            assert!(output.shared.lock().bytes <= MAX_WAITING_BYTES);
        }
        assert!(output.shared.lock().dropped.as_ref().unwrap().count >= 100);
        drop(release);
        output.finish(Duration::from_secs(60));
    }

    /// A disk that is full now and then.
    struct Full {
        /// What each write may take; nothing for a refusal. Behind the end there is room.
        room: VecDeque<usize>,
        kind: io::ErrorKind,
        lines: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let room = self.room.pop_front().unwrap_or(usize::MAX);
            if room == 0 {
                return Err(self.kind.into());
            }
            let bytes = &bytes[..bytes.len().min(room)];
            self.lines.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_disk_that_was_full_gets_every_record_and_torn_lines_are_ended() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        // 40 bytes of the first line, refusal; refusal of the line's end; then that end and all the rest.
        let full = Full { room: [40, 0, 0].into(), kind: io::ErrorKind::StorageFull, lines: lines.clone() };
        let output = Output::to(Lines::new(full), "host".into()).unwrap();
        output.write((1..=100).map(record));
        let deadline = Instant::now() + Duration::from_secs(30);
        while lines.lock().unwrap().len() <= 41 {
            assert!(Instant::now() < deadline, "never tried again");
            std::thread::yield_now();
        }
        output.finish(Duration::from_secs(30));
        let text = String::from_utf8(lines.lock().unwrap().clone()).unwrap();
        let (fragments, whole): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|line| serde_json::from_str::<serde_json::Value>(line).is_err());
        assert_eq!(fragments.iter().map(|line| line.len()).collect::<Vec<_>>(), [40]);
        assert_eq!(whole.len(), 100);
    }

    #[test]
    fn only_a_closed_pipe_is_given_up_and_nothing_waits_for_it() {
        for kind in [io::ErrorKind::BrokenPipe, io::ErrorKind::StorageFull] {
            let lines = Arc::new(Mutex::new(Vec::new()));
            let full = Full { room: [0; 1_000].into(), kind, lines: lines.clone() };
            let output = Output::to(Lines::new(full), "host".into()).unwrap();
            output.write((1..=3).map(record));
            let begun = Instant::now();
            output.finish(Duration::from_secs(60));
            assert!(begun.elapsed() < Duration::from_secs(30), "{kind}");
            assert!(lines.lock().unwrap().is_empty());
        }
    }

    #[test]
    fn a_file_that_ends_within_a_line_is_gone_on_with_in_a_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.ndjson");
        std::fs::write(&path, "{\"torn").unwrap();
        let output = Output::open(&OutputTarget::File(path.clone()), "host".into()).unwrap();
        output.write([record(1)]);
        output.finish(Duration::from_secs(30));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("{\"torn\n{") && text.ends_with("}\n"), "{text}");
    }
}
