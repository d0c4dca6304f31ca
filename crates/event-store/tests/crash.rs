//! What a store keeps when its process is killed, and when its disk is full.

#![allow(clippy::unwrap_used, reason = "in tests a failed expectation is the report")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use event_store::contract::{batch, boot, host, search_all};
use event_store::{EventQuery, EventStore, EventStoreError, SqliteEventStore};
use tempfile::TempDir;

const FOLDER: &str = "RAMPART_TEST_STORE";
const ACKNOWLEDGED: &str = "RAMPART_TEST_ACKNOWLEDGED";

/// Kills a process that appends without pause, ten times, at moments of no choice.
/// Each new one sends again what the one before it was not seen to acknowledge.
#[test]
fn kill_9_loses_nothing_acknowledged_and_doubles_nothing() {
    if let Ok(folder) = std::env::var(FOLDER) {
        return append_until_killed(Path::new(&folder));
    }
    let folder = TempDir::new().unwrap();
    let mut acknowledged = 0;
    for round in 0..10 {
        let mut child = start_child(folder.path(), acknowledged);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let wanted = 1 + chance(12);
        let mut seen = 0;
        while seen < wanted {
            let line = lines.next().expect("the child goes on until it is killed").unwrap();
            // The test harness prints too.
            if let Some(last) = line.split_once("acknowledged ").map(|(_, last)| last) {
                acknowledged = last.parse().unwrap();
                seen += 1;
            }
        }
        for _ in 0..chance(40_000) {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What was written before the kill and not read yet is acknowledged too.
        for line in lines.map_while(Result::ok) {
            if let Some(Ok(last)) = line.split_once("acknowledged ").map(|(_, last)| last.parse()) {
                acknowledged = last;
            }
        }

        let store = SqliteEventStore::open(folder.path()).unwrap();
        let mark = store.high_water(host(1), boot(1)).unwrap();
        assert!(mark >= acknowledged, "round {round}: {mark} stored, {acknowledged} acknowledged");
        let entry = store.ledger(host(1)).unwrap()[0];
        assert_eq!((entry.stored, entry.events, entry.missing), (mark, mark, 0), "round {round}");
        let mut sequences: Vec<u64> = search_all(&store, &EventQuery::newest(1_000))
            .iter()
            .map(|event| event.header.sequence)
            .collect();
        sequences.sort_unstable();
        assert!(sequences.iter().copied().eq(1..=mark), "round {round}: every one once");
    }
    println!("{acknowledged} events acknowledged over ten kills");
}

fn start_child(folder: &Path, acknowledged: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill_9_loses_nothing_acknowledged_and_doubles_nothing", "--nocapture"])
        .env(FOLDER, folder)
        .env(ACKNOWLEDGED, acknowledged.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn append_until_killed(folder: &Path) {
    let store = SqliteEventStore::open(folder).unwrap();
    let mut last: u64 = std::env::var(ACKNOWLEDGED).unwrap().parse().unwrap();
    loop {
        let size = 1 + chance(200);
        store.append(&batch(host(1), boot(1), last + 1, last + size)).unwrap();
        last = store.high_water(host(1), boot(1)).unwrap();
        println!("acknowledged {last}");
        std::io::stdout().flush().unwrap();
    }
}

/// A number from 0 to `below`, from the clock: the kill should come at no fixed place.
fn chance(below: u64) -> u64 {
    u64::from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos() / 64) % below
}

/// A file system of 8 MB in memory; unmounted at the end.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
            .arg(folder.path())
            .stderr(Stdio::null())
            .status();
        mount.is_ok_and(|status| status.success()).then(|| Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_refuses_the_batch_and_serving_goes_on() {
    let Some(disk) = SmallDisk::mount() else {
        assert!(std::env::var_os("RAMPART_NO_SKIP").is_none(), "must not be skipped here");
        println!("skipped: no right to mount a small file system");
        return;
    };
    let filler = disk.0.path().join("filler");
    let store = SqliteEventStore::open(&disk.0.path().join("events")).unwrap();
    store.append(&batch(host(1), boot(1), 1, 100)).unwrap();
    let mut file = fs::File::create(&filler).unwrap();
    for _ in 0..6 {
        file.write_all(&[0; 1 << 20]).unwrap();
    }
    // While it is open, removing it frees nothing.
    drop(file);

    let mut last = 100;
    let error = loop {
        match store.append(&batch(host(1), boot(1), last + 1, last + 100)) {
            Ok(_) => last += 100,
            Err(error) => break error,
        }
        assert!(last < 100_000, "8 MB can't hold these");
    };
    assert!(matches!(error, EventStoreError::Database { .. }), "{error:?}");
    assert_eq!(store.high_water(host(1), boot(1)).unwrap(), last, "the refused batch left nothing");
    assert_eq!(search_all(&store, &EventQuery::newest(1_000)).len() as u64, last, "reading goes on");

    fs::remove_file(&filler).unwrap();
    let outcome = store.append(&batch(host(1), boot(1), last + 1, last + 100)).unwrap();
    assert_eq!((outcome.stored, outcome.high_water), (100, last + 100), "it comes again and is stored");
    assert_eq!(search_all(&store, &EventQuery::newest(1_000)).len() as u64, last + 100);
}
