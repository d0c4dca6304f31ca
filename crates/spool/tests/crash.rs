//! kill -9 at random moments: no batch lost, none doubled.
//!
//! The test runs itself again as the writer, which appends numbered batches and
//! acknowledges some of them, and is killed. The survivor must find that the
//! numbers go on without a hole.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the report")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use spool::{BatchHeader, Spool, SpoolOptions};

const BOOT: [u8; 16] = [3; 16];
const OPTIONS: SpoolOptions = SpoolOptions { max_bytes: 64 << 20, segment_bytes: 20_000 };
const DIR: &str = "SPOOL_CRASH_TEST_DIR";

/// Not a test of its own: the body of the child process.
#[test]
fn child_appends_until_it_is_killed() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let (spool, _) = Spool::open(dir.as_ref(), OPTIONS).unwrap();
    let spool = Arc::new(spool);
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
        };
        spool.append(&header, &[], &vec![7; usize::try_from(next % 3_000).unwrap()]).unwrap();
        println!("appended {}", header.last_sequence());
        next += u64::from(count);
        if next % 3 == 0
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
    let (spool, _) = Spool::open(dir.path(), OPTIONS).unwrap();
    let spool = Arc::new(spool);
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
