use std::collections::VecDeque;
use std::sync::mpsc;

use event_model::{AgentStop, BootId, EventBody, EventHeader, HostId, Timestamp};
use protocol::wire::RecordEncoder;
use uuid::Uuid;

use super::queue::{MAX_WAITING, MAX_WAITING_BYTES};
use super::*;

fn record(sequence: u64) -> EncodedRecord {
    record_of(sequence, "1".into())
}

fn record_of(sequence: u64, version: String) -> EncodedRecord {
    let header = EventHeader {
        host_id: HostId::from_uuid(Uuid::from_u128(1)),
        boot_id: BootId::from_uuid(Uuid::from_u128(2)),
        sequence,
        observed_at: Timestamp::from_nanos(i64::try_from(sequence).unwrap()),
        monotonic_ns: 0,
    };
    let stop = EventBody::AgentStop(AgentStop { version, reason: "signal", signal: None, by: None });
    let mut bytes = Vec::new();
    RecordEncoder::default().event(&header, &stop, &mut bytes);
    let place = 0..bytes.len();
    EncodedRecord::new(header, bytes.into(), place)
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
    // The longest text that there is.
    let long = "x".repeat(64 << 10);
    for sequence in 1..=1_000 {
        output.write([record_of(sequence, long.clone())]);
        assert!(output.shared.lock().bytes <= MAX_WAITING_BYTES);
    }
    assert!(output.shared.lock().dropped.as_ref().unwrap().count >= 400);
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
