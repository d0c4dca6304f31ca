//! What waits to be told while much is observed: bounded, and told in time.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use event_model::{EventType, Field, ImageFile};
use sensor_api::{
    Observation, Observed, ObservedImage, ProcessClock, ReplaySensor, Sensor, SensorError, SensorPosition,
};

use super::{SHELL, did, event_type, fork, image, key, run_over, sensor_of};

/// Observations of a round.
const ROUND: u64 = 2_000;

/// A replay whose rounds are full, so that like acts are merged. Its positions are in bytes, as the kernel's are.
struct Busy {
    replay: ReplaySensor,
    bytes_each: u64,
    /// Bytes that were handed out.
    handed_out: u64,
    /// The most of them that were not yet committed.
    most_open: Arc<AtomicU64>,
}

impl Busy {
    fn new(observations: Vec<Observation>, bytes_each: u64) -> (Self, Arc<AtomicU64>) {
        let most_open = Arc::new(AtomicU64::new(0));
        let replay = sensor_of(observations);
        (Self { replay, bytes_each, handed_out: 0, most_open: Arc::clone(&most_open) }, most_open)
    }
}

impl Sensor for Busy {
    fn name(&self) -> &'static str {
        "busy"
    }

    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Observed)) -> Result<(), SensorError> {
        let begun = self.handed_out;
        while self.handed_out < begun + ROUND * self.bytes_each {
            let before = self.handed_out;
            self.replay.poll(timeout, &mut |mut observed| {
                self.handed_out += self.bytes_each;
                if let Some(position) = &mut observed.position {
                    position.offset *= self.bytes_each;
                }
                sink(observed);
            })?;
            if self.handed_out == before {
                break;
            }
        }
        let committed = self.replay.committed() * self.bytes_each;
        self.most_open.fetch_max(self.handed_out - committed, Ordering::Relaxed);
        Ok(())
    }

    fn commit(&mut self, position: SensorPosition) {
        self.replay.commit(SensorPosition { offset: position.offset / self.bytes_each, ..position });
    }

    fn wake_on_process_start(&mut self, at_once: bool) {
        self.replay.wake_on_process_start(at_once);
    }

    fn process_clock(&self) -> Arc<dyn ProcessClock> {
        self.replay.process_clock()
    }

    fn shut_down(self: Box<Self>) -> Result<(), SensorError> {
        Box::new(self.replay).shut_down()
    }
}

#[test]
fn a_large_image_that_is_read_holds_up_nothing_that_is_merged_beside_it() {
    const ACTS: u32 = 12_000;
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("large");
    fs::File::create(&program).unwrap().set_len(32 << 20).unwrap();
    let file = fs::metadata(&program).unwrap();
    let nanos = |seconds: i64, rest: i64| seconds * 1_000_000_000 + rest;
    let runner = key(2, 5_000);
    let image = ObservedImage {
        image: Some(ImageFile {
            device: file.dev(),
            inode: file.ino(),
            modified_ns: nanos(file.mtime(), file.mtime_nsec()),
            changed_ns: nanos(file.ctime(), file.ctime_nsec()),
            size: file.len(),
        }),
        ..*image(runner, SHELL, &[program.to_str().unwrap()])
    };
    let start = [fork(runner, SHELL), Observation::ProcessExecuted(Box::new(image))];
    let acts = (0..ACTS).map(|number| {
        let path = format!("/tmp/{number}");
        did(runner, EventType::FileCreate, &[(Field::FilePath, path.as_str())])
    });
    let (sensor, most_open) = Busy::new(start.into_iter().chain(acts).collect(), 1);
    let records = run_over(Box::new(sensor), 20, &[], None, Arc::default());
    let start = records.iter().find(|record| event_type(record) == "process_start").unwrap();
    assert_eq!(
        start["rampart"]["process"]["hash_skipped"], "late",
        "it went before its image was read: {start}"
    );
    let told = |what: &str| records.iter().filter(|record| event_type(record) == what).count();
    assert_eq!(told("file_create"), ACTS as usize);
    let most_open = most_open.load(Ordering::Relaxed);
    // Four batches that wait for a hash, and a round.
    assert!(most_open <= 8_000, "{most_open} observations were handed out and not committed");
}

#[test]
fn acts_that_fill_the_kernels_ring_are_told_before_it_is_full_also_where_all_become_one_record() {
    const ACTS: usize = 20_000;
    const BYTES: u64 = 1_000;
    let runner = key(2, 5_000);
    let act = || did(runner, EventType::FileAttribute, &[(Field::FilePath, "/tmp/same")]);
    let acts = std::iter::repeat_with(act).take(ACTS);
    let (sensor, most_open) = Busy::new([fork(runner, SHELL)].into_iter().chain(acts).collect(), BYTES);
    let records = run_over(Box::new(sensor), 20, &[], None, Arc::default());
    let told = records.iter().filter(|record| event_type(record) == "file_attribute");
    let told: u64 = told.map(|record| record["rampart"]["event"]["count"].as_u64().unwrap_or(1)).sum();
    assert_eq!(told, ACTS as u64);
    let most_open = most_open.load(Ordering::Relaxed);
    // A round, and what may be open before the next one.
    assert!(most_open <= ROUND * BYTES + (3 << 20), "{most_open} bytes were handed out and not committed");
}
