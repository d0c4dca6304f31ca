//! Events and alerts as ECS NDJSON, for `-output`.
//!
//! Writing is a thread of its own behind a bounded queue: a pipe that nobody reads
//! must not stop the agent from judging. What does not fit is dropped, counted, and
//! told by a gap line at its place as soon as there is room.
//!
//! A write that fails, as on a full disk, is tried again: what it held stays in the
//! queue. Only a pipe whose reader is gone is given up. A line of which a part was
//! written is ended there, and stands whole in the next.

mod lines;
mod queue;
#[cfg(test)]
mod tests;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use event_model::EcsContext;
use os_files::OpenOptionsExt as _;

use crate::options::OutputTarget;
use crate::system::standard_output;

use self::lines::Lines;
pub use self::queue::EncodedRecord;
use self::queue::{Queue, STEP_BYTES};

/// After a write that failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

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
                Self::to(Lines::after_what_is_in(path, file), host_name)
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
    pub fn write(&self, records: impl IntoIterator<Item = EncodedRecord>) {
        self.shared.lock().offer_all(records);
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
        let mut bytes = Vec::new();
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
            let mut ends = Vec::with_capacity(step.len());
            for record in &step {
                let start = bytes.len();
                if let Err(error) = put_line(record, context, &mut bytes) {
                    tracing::error!(%error, "a record can't be written as JSON, a gap stands in its place");
                    bytes.truncate(start);
                    if put_line(&record.as_gap(), context, &mut bytes).is_err() {
                        bytes.truncate(start);
                    }
                }
                ends.push(bytes.len());
            }
            let put = lines.put(&bytes);
            bytes.clear();
            // One step of a record that is large must not hold its memory for ever.
            bytes.shrink_to(4 * STEP_BYTES);
            let Err((written, error)) = put else {
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

/// Appends a record as a line of JSON.
fn put_line(record: &EncodedRecord, context: EcsContext<'_>, into: &mut Vec<u8>) -> anyhow::Result<()> {
    let record = record.decode()?;
    serde_json::to_writer(&mut *into, &record.to_ecs(context))?;
    into.push(b'\n');
    Ok(())
}
