//! kill -9 at random moments: no batch lost, none doubled.
//!
//! The test runs itself again as the writer, which appends numbered batches and
//! acknowledges some of them, and is killed. The survivor must find that the
//! numbers go on without a hole.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the report")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use spool::{BatchHeader, Spool, SpoolError, SpoolOptions, Tally};

const BOOT: [u8; 16] = [3; 16];
const OPTIONS: SpoolOptions = SpoolOptions { max_bytes: 64 << 20, segment_bytes: 20_000 };
const DIR: &str = "SPOOL_CRASH_TEST_DIR";

/// A process that another test starts holds our lock from its fork to its exec.
fn opened(dir: &Path, options: SpoolOptions) -> Arc<Spool> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match Spool::open(dir, options) {
            Err(SpoolError::Locked { .. }) if Instant::now() < deadline => std::thread::yield_now(),
            opened => return Arc::new(opened.unwrap().0),
        }
    }
}

/// Not a test of its own: the body of the child process.
#[test]
fn child_appends_until_it_is_killed() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let spool = opened(dir.as_ref(), OPTIONS);
    let mut next = spool.last().map_or(1, |last| last.header.last_sequence() + 1);
    let mut reader = spool.reader();
    loop {
        let count = u32::try_from(next % 5 + 1).unwrap();
        let header = BatchHeader {
            boot_id: BOOT,
            first_sequence: next,
            record_count: count,
            span: (0, 1),
            position: None,
            counts: Tally::default(),
        };
        spool.append(&header, &[], &vec![7; usize::try_from(next % 3_000).unwrap()], None).unwrap();
        println!("appended {}", header.last_sequence());
        next += u64::from(count);
        if next.is_multiple_of(3)
            && let Some(batch) = reader.next_batch().unwrap()
        {
            // As a server would: say that it is stored, then acknowledge it.
            println!("stored {} {}", batch.header.first_sequence, batch.header.last_sequence());
            spool.ack(BOOT, batch.header.last_sequence()).unwrap();
        }
    }
}

#[test]
fn no_batch_is_lost_or_doubled_over_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let (mut stored_to, mut appended_to) = (0, 0);
    for round in 0..20_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_appends_until_it_is_killed", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let deadline = Instant::now() + Duration::from_millis(10 + round * 7 % 60);
        let mut killed = false;
        for line in lines {
            let line = line.unwrap();
            let numbers: Vec<u64> = line.split(' ').skip(1).filter_map(|word| word.parse().ok()).collect();
            match (line.split(' ').next(), numbers.as_slice()) {
                (Some("appended"), [last]) => appended_to = appended_to.max(*last),
                (Some("stored"), [first, last]) => {
                    // The server's high-water mark: a repeat is dropped, a hole never comes.
                    assert!(*first <= stored_to + 1, "hole before {first}, stored to {stored_to}");
                    stored_to = stored_to.max(*last);
                }
                _ => {}
            }
            if !killed && Instant::now() > deadline {
                child.kill().unwrap();
                killed = true;
            }
        }
        child.wait().unwrap();
    }
    let spool = opened(dir.path(), OPTIONS);
    let mut reader = spool.reader();
    while let Some(batch) = reader.next_batch().unwrap() {
        let header = batch.header;
        assert!(header.first_sequence <= stored_to + 1, "hole before {}", header.first_sequence);
        assert_eq!(batch.payload.len() as u64, header.first_sequence % 3_000);
        stored_to = stored_to.max(header.last_sequence());
    }
    assert!(stored_to >= appended_to, "appended to {appended_to}, found {stored_to}");
    assert_eq!(spool.losses(), []);
}

const FULL_DIR: &str = "SPOOL_FULL_CRASH_TEST_DIR";
const SMALL: SpoolOptions = SpoolOptions { max_bytes: 40_000, segment_bytes: 10_000 };

/// Not a test of its own: the body of the child process of the next.
#[test]
fn child_overflows_until_it_is_killed() {
    let Some(dir) = std::env::var_os(FULL_DIR) else { return };
    let spool = opened(dir.as_ref(), SMALL);
    let mut next = spool.last().map_or(1, |last| last.header.last_sequence() + 1);
    loop {
        let header = BatchHeader {
            boot_id: BOOT,
            first_sequence: next,
            record_count: 1,
            span: (0, 1),
            position: None,
            counts: Tally::default(),
        };
        spool.append(&header, &[], &[7; 1_000], None).unwrap();
        println!("appended {next}");
        next += 1;
    }
}

#[test]
fn what_a_full_spool_gave_up_is_told_or_still_there_over_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..20_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_overflows_until_it_is_killed", "--nocapture"])
            .env(FULL_DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_millis(20 + round * 7 % 60);
        let (mut appended, mut killed) = (0, false);
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            if let Some(number) = line.unwrap().strip_prefix("appended ") {
                appended = number.parse().unwrap_or(appended);
            }
            if !killed && Instant::now() > deadline {
                child.kill().unwrap();
                killed = true;
            }
        }
        child.wait().unwrap();
        let spool = opened(dir.path(), SMALL);
        // The losses are one span from 1 on; what is left goes on where it ends.
        let losses = spool.losses();
        let mut next = 1;
        for loss in &losses {
            let (from, to) = loss.sequences.unwrap();
            assert_eq!(from, next, "round {round}: {losses:?}");
            next = to + 1;
        }
        let mut reader = spool.reader();
        while let Some(batch) = reader.next_batch().unwrap() {
            assert_eq!(batch.header.first_sequence, next, "round {round}");
            next += 1;
        }
        assert!(next > appended, "round {round}: appended to {appended}, found to {next}");
    }
}
