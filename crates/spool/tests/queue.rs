//! What the spool promises: order, exact losses, nothing half-written.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the report")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use spool::{
    Amount, BatchHeader, Loss, LossReason, Position, Recovery, Spool, SpoolError, SpoolOptions, Tally,
};

const BOOT: [u8; 16] = [1; 16];

fn header(first: u64, count: u32) -> BatchHeader {
    let position = Some(Position { stream: 7, offset: first * 100 });
    let counts = tally(&[(1, u64::from(count) - 1), (2, 1)]);
    BatchHeader { boot_id: BOOT, first_sequence: first, record_count: count, span: (0, 1), position, counts }
}

fn tally(kinds: &[(u16, u64)]) -> Tally {
    let mut tally = Tally::default();
    kinds.iter().for_each(|&(kind, records)| tally.add(kind, Amount { records, acts: records }));
    tally
}

/// What all these losses hold, by kind.
fn held(losses: &[Loss]) -> Tally {
    let mut all = Tally::default();
    losses.iter().for_each(|loss| all.add_all(loss.counts.as_ref().unwrap()));
    all
}

fn open(dir: &Path) -> Arc<Spool> {
    open_with(dir, SpoolOptions::default())
}

fn open_with(dir: &Path, options: SpoolOptions) -> Arc<Spool> {
    Arc::new(recovered(dir, options).0)
}

/// A process that another test starts holds our lock from its fork to its exec.
fn recovered(dir: &Path, options: SpoolOptions) -> (Spool, Recovery) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match Spool::open(dir, options) {
            Err(SpoolError::Locked { .. }) if Instant::now() < deadline => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

/// Batches of ten records, numbered from 1.
fn fill(spool: &Spool, batches: u64) {
    for batch in 0..batches {
        spool.append(&header(batch * 10 + 1, 10), b"note", &payload(batch * 10 + 1), None).unwrap();
    }
}

fn payload(first: u64) -> Vec<u8> {
    first.to_le_bytes().repeat(25)
}

/// First sequence numbers of what a reader hands out, checked against their payloads.
fn pending(spool: &Arc<Spool>) -> Vec<u64> {
    let mut reader = spool.reader();
    let mut firsts = Vec::new();
    while let Some(batch) = reader.next_batch().unwrap() {
        assert_eq!(batch.payload, payload(batch.header.first_sequence));
        firsts.push(batch.header.first_sequence);
    }
    firsts
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "segment"))
        .collect();
    paths.sort();
    paths
}

#[test]
fn batches_come_in_order_survive_a_restart_and_go_when_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let small = SpoolOptions { max_bytes: 1 << 20, segment_bytes: 1_000 };
    let spool = open_with(dir.path(), small);
    fill(&spool, 10);
    assert_eq!(pending(&spool), [1, 11, 21, 31, 41, 51, 61, 71, 81, 91]);
    spool.ack(BOOT, 30).unwrap();
    spool.ack(BOOT, 45).unwrap();
    assert_eq!(pending(&spool)[0], 41, "a batch is acknowledged by its last record");
    spool.sync().unwrap();
    drop(spool);

    let spool = open_with(dir.path(), small);
    assert_eq!(pending(&spool), [41, 51, 61, 71, 81, 91]);
    spool.ack([2; 16], 1_000).unwrap();
    assert_eq!(pending(&spool)[0], 41, "another boot's number says nothing");
    spool.ack(BOOT, 100).unwrap();
    assert!(spool.is_empty());
    assert_eq!(segments(dir.path()), Vec::<PathBuf>::new());
    drop(spool);

    let spool = open_with(dir.path(), small);
    let last = spool.last().unwrap();
    assert_eq!((last.header, last.note.as_slice()), (header(91, 10), b"note".as_slice()));
    spool.append(&header(101, 1), b"", &payload(101), None).unwrap();
    assert_eq!(pending(&spool), [101]);
    assert_eq!(spool.losses(), []);
}

#[test]
fn a_torn_tail_is_cut_at_every_byte() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    fill(&spool, 3);
    drop(spool);
    let segment = segments(dir.path()).remove(0);
    let whole = fs::read(&segment).unwrap();
    let batch = whole.len() / 3;
    for length in batch * 2..whole.len() {
        fs::write(&segment, &whole[..length]).unwrap();
        let (spool, recovery) = recovered(dir.path(), SpoolOptions::default());
        let spool = Arc::new(spool);
        assert_eq!(recovery.torn_bytes, (length - batch * 2) as u64);
        assert_eq!(pending(&spool), [1, 11], "cut at {length}");
        assert_eq!(spool.losses(), []);
        assert_eq!(spool.last().unwrap().header, header(11, 10));
        spool.append(&header(21, 10), b"note", &payload(21), None).unwrap();
        assert_eq!(pending(&spool), [1, 11, 21]);
    }
}

#[test]
fn any_flipped_bit_costs_one_batch_and_is_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    fill(&spool, 3);
    drop(spool);
    let segment = segments(dir.path()).remove(0);
    let whole = fs::read(&segment).unwrap();
    let batch = whole.len() / 3;
    for byte in batch..batch * 2 {
        let mut damaged = whole.clone();
        damaged[byte] ^= 1 << (byte % 8);
        fs::write(&segment, &damaged).unwrap();
        let _ = fs::remove_file(dir.path().join("state"));
        let _ = fs::remove_file(dir.path().join("state.previous"));
        let spool = open(dir.path());
        assert_eq!(pending(&spool), [1, 21], "flip in byte {byte}");
        let losses = spool.losses();
        assert_eq!(losses.len(), 1);
        assert_eq!(losses[0].reason, LossReason::Corrupt);
        assert_eq!((losses[0].sequences, losses[0].records), (Some((11, 20)), Some(10)));
        assert_eq!(held(&losses), tally(&[(1, 9), (2, 1)]), "by kind, also where the header is gone");
        let telling = stored_telling(&spool);
        assert_eq!(telling.losses, losses);
        spool.append(&header(31, 10), b"note", &payload(31), Some(&telling)).unwrap();
        assert_eq!(spool.losses(), []);
        drop(spool);
        let spool = open(dir.path());
        assert_eq!(pending(&spool), [1, 21, 31]);
        assert_eq!(spool.losses(), [], "the same damage is not told again");
        spool.ack(BOOT, 40).unwrap();
        assert!(spool.is_empty());
    }
}

/// Damage is told once it is noted on disk.
fn stored_telling(spool: &Spool) -> spool::Telling {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let telling = spool.telling();
        if !telling.losses.is_empty() {
            return telling;
        }
        assert!(Instant::now() < deadline, "the damage is never noted");
        std::thread::yield_now();
    }
}

#[test]
fn what_a_batch_tells_is_told_with_it_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = SpoolOptions { max_bytes: 3_000, segment_bytes: 1_000 };
    let at_crash = tempfile::tempdir().unwrap();
    let copy = |to: &Path| {
        for entry in fs::read_dir(dir.path()).unwrap().map(Result::unwrap) {
            if entry.path().is_file() {
                fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
    };
    let spool = open_with(dir.path(), tiny);
    // As on a disk that takes no state file: only segments tell what was.
    fs::create_dir(dir.path().join("state.new")).unwrap();
    fill(&spool, 12);
    let telling = spool.telling();
    let told = held(&telling.losses);
    assert!(!told.is_empty());
    copy(at_crash.path());
    let before = open_with(at_crash.path(), SpoolOptions { max_bytes: 1 << 20, ..tiny });
    assert_eq!(before.losses(), [], "killed before it is told, what was given up is there again");
    assert_eq!(pending(&before)[0], 1);
    drop(before);

    spool.append(&header(121, 10), b"note", &payload(121), Some(&telling)).unwrap();
    assert!(spool.losses().iter().all(|loss| !telling.losses.contains(loss)), "told once");
    let after_crash = tempfile::tempdir().unwrap();
    copy(after_crash.path());
    let after = open_with(after_crash.path(), SpoolOptions { max_bytes: 1 << 20, ..tiny });
    let first = pending(&after)[0];
    assert_eq!(after.losses(), [], "told before the kill, it is not told again");
    assert_eq!(told.total().records, first - 1, "and does not come back either");
}

#[test]
fn a_refused_batch_is_a_loss_and_is_not_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    fill(&spool, 3);
    spool.refuse(&header(11, 10), LossReason::Refused).unwrap();
    assert_eq!(pending(&spool)[0], 1, "only the oldest can be refused");
    spool.refuse(&header(1, 10), LossReason::Refused).unwrap();
    assert_eq!(pending(&spool), [11, 21]);
    let losses = spool.losses();
    assert_eq!((losses[0].reason, losses[0].records), (LossReason::Refused, Some(10)));
    assert_eq!(held(&losses), tally(&[(1, 9), (2, 1)]));
}

#[test]
fn a_batch_behind_a_damaged_one_can_be_refused() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    fill(&spool, 3);
    let segment = segments(dir.path()).remove(0);
    let mut bytes = fs::read(&segment).unwrap();
    // The last byte of the first batch's payload.
    let last = bytes.len() / 3 - 1;
    bytes[last] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    assert_eq!(pending(&spool), [11, 21]);
    spool.refuse(&header(11, 10), LossReason::NumbersTaken).unwrap();
    assert_eq!(pending(&spool), [21]);
    let losses = spool.losses();
    let reasons: Vec<_> = losses.iter().map(|loss| (loss.reason, loss.records)).collect();
    assert_eq!(reasons, [(LossReason::Corrupt, Some(10)), (LossReason::NumbersTaken, Some(10))]);
}

#[test]
fn a_run_of_batches_given_up_for_one_reason_is_one_loss() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    fill(&spool, 4);
    for first in [1, 11] {
        spool.refuse(&header(first, 10), LossReason::OtherHost).unwrap();
    }
    spool.refuse_taken(&header(21, 10), 25).unwrap();
    spool.sync().unwrap();
    drop(spool);
    let spool = open(dir.path());
    assert_eq!(pending(&spool), [31], "they are not sent after a restart either");
    let losses: Vec<_> =
        spool.losses().iter().map(|loss| (loss.reason, loss.sequences, loss.records)).collect();
    let expected = [
        (LossReason::OtherHost, Some((1, 20)), Some(20)),
        (LossReason::NumbersTaken, Some((21, 30)), Some(10)),
    ];
    assert_eq!(losses, expected);
    let taken: Vec<_> = spool.losses().iter().map(|loss| loss.taken_through).collect();
    assert_eq!(taken, [None, Some(25)], "how far the server has others is known after a restart, too");
    assert_eq!(held(&spool.losses()), tally(&[(1, 27), (2, 3)]));
}

#[test]
fn an_unreadable_tail_is_a_loss_of_unknown_size() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    fill(&spool, 2);
    drop(spool);
    let segment = segments(dir.path()).remove(0);
    let mut bytes = fs::read(&segment).unwrap();
    let half = bytes.len() / 2;
    bytes[half..].fill(0);
    fs::write(&segment, &bytes).unwrap();
    let (spool, recovery) = recovered(dir.path(), SpoolOptions::default());
    assert_eq!(recovery.unreadable_tail_bytes, half as u64);
    assert_eq!(spool.losses().len(), 1);
    assert_eq!(spool.losses()[0].records, None);
}

#[test]
fn a_missing_segment_is_a_counted_loss() {
    let dir = tempfile::tempdir().unwrap();
    let small = SpoolOptions { max_bytes: 1 << 20, segment_bytes: 900 };
    let spool = open_with(dir.path(), small);
    fill(&spool, 8);
    drop(spool);
    let all = segments(dir.path());
    assert_eq!(all.len(), 4);
    fs::remove_file(&all[1]).unwrap();
    let spool = open_with(dir.path(), small);
    assert_eq!(pending(&spool), [1, 11, 41, 51, 61, 71]);
    assert_eq!(spool.losses()[0].sequences, Some((21, 40)));
    assert_eq!(held(&spool.losses()), tally(&[(1, 18), (2, 2)]));
}

#[test]
fn at_the_limit_the_oldest_go_and_are_counted_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = SpoolOptions { max_bytes: 3_000, segment_bytes: 1_000 };
    let spool = open_with(dir.path(), tiny);
    fill(&spool, 100);
    assert!(spool.bytes() <= 3_000);
    let left = pending(&spool);
    assert_eq!(*left.last().unwrap(), 991);
    let lost: u64 = spool.losses().iter().map(|loss| loss.records.unwrap()).sum();
    assert_eq!(lost + left.len() as u64 * 10, 1_000);
    assert_eq!(held(&spool.losses()), tally(&[(1, lost / 10 * 9), (2, lost / 10)]));
    let mut next = 1;
    for loss in spool.losses() {
        let (from, to) = loss.sequences.unwrap();
        assert_eq!((loss.reason, from, to + 1 - from), (LossReason::Full, next, loss.records.unwrap()));
        next = to + 1;
    }
    assert_eq!(next, left[0]);
    drop(spool);
    let spool = open_with(dir.path(), tiny);
    assert_eq!(pending(&spool), left);
    assert_eq!(spool.losses().len(), 1, "losses stay on record until they are reported");

    let error = spool.append(&header(1_001, 1), b"", &[0; 4_000], None).unwrap_err();
    assert!(matches!(error, SpoolError::TooLarge { limit: 3_000, .. }));
}

#[test]
fn giving_up_never_waits_for_the_state_and_no_file_goes_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open_with(dir.path(), SpoolOptions { max_bytes: 3_000, segment_bytes: 1_000 });
    // The state can't be written.
    fs::create_dir(dir.path().join("state.new")).unwrap();
    fill(&spool, 100);
    assert!(spool.bytes() <= 3_000);
    let on_disk = || -> u64 {
        segments(dir.path()).iter().filter_map(|path| fs::metadata(path).ok()).map(|file| file.len()).sum()
    };
    let all = on_disk();
    assert!(
        all > 6_000,
        "nothing is deleted while the state on disk needs it, but only {all} bytes are left"
    );

    fs::remove_dir(dir.path().join("state.new")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while on_disk() > 3_000 {
        assert!(Instant::now() < deadline, "never tidied up");
        std::thread::yield_now();
    }
    let left = pending(&spool);
    drop(spool);
    assert_eq!(pending(&open(dir.path())), left);
}

#[test]
fn acknowledged_batches_are_no_loss_at_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open_with(dir.path(), SpoolOptions { max_bytes: 3_000, segment_bytes: 1_000 });
    for batch in 0..100_u64 {
        spool.append(&header(batch * 10 + 1, 10), b"", &payload(batch * 10 + 1), None).unwrap();
        spool.ack(BOOT, batch * 10 + 10).unwrap();
    }
    assert_eq!(spool.losses(), []);
}

#[test]
fn a_second_agent_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _spool = open(dir.path());
    let error = Spool::open(dir.path(), SpoolOptions::default()).map(|_| ()).unwrap_err();
    assert!(matches!(error, SpoolError::Locked { .. }), "{error}");
}

#[test]
fn files_are_for_the_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new");
    let spool = open(&path);
    fill(&spool, 1);
    spool.sync().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for entry in fs::read_dir(&path).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}

#[test]
fn a_damaged_state_file_gives_way_to_its_other_copy() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    fill(&spool, 2);
    spool.ack(BOOT, 10).unwrap();
    spool.sync().unwrap();
    spool.sync().unwrap();
    drop(spool);
    fs::write(dir.path().join("state"), "").unwrap();
    assert_eq!(pending(&open(dir.path())), [11]);
    fs::write(dir.path().join("state"), "00000000 {}\n").unwrap();
    fs::write(dir.path().join("state.previous"), "x").unwrap();
    assert_eq!(pending(&open(dir.path())), [1, 11], "sent twice at worst, never lost");
}

#[test]
fn a_full_disk_refuses_the_batch_whole_and_space_brings_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
        .arg(dir.path())
        .stderr(std::process::Stdio::null())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("skipped: mounting a small tmpfs is not permitted here");
        return;
    }
    let unmount = scopeguard(dir.path());
    {
        let spool = open(dir.path());
        let mut first = 1;
        let refused = loop {
            match spool.append(&header(first, 10), b"note", &payload(first).repeat(20), None) {
                Ok(()) => first += 10,
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, SpoolError::Io { .. }), "{refused}");
        assert_eq!(spool.last().unwrap().header.last_sequence(), first - 1);
        drop(spool);
        let (spool, recovery) = recovered(dir.path(), SpoolOptions::default());
        assert_eq!(recovery.torn_bytes, 0, "nothing half-written is left");
        spool.ack(BOOT, first - 1).unwrap();
        drop(spool);
    }
    drop(unmount);
}

/// As a file system becomes when its disk fails: nothing can be made or removed in it, while what is open stays open.
#[test]
fn on_a_file_system_that_became_read_only_nothing_that_was_taken_goes_and_it_goes_on_after() {
    let dir = tempfile::tempdir().unwrap();
    let small = SpoolOptions { max_bytes: 1 << 20, segment_bytes: 1_000 };
    let spool = open_with(dir.path(), small);
    fill(&spool, 5);
    spool.sync().unwrap();
    let mount = |arguments: &[&str]| {
        let mut command = std::process::Command::new("mount");
        command.args(arguments).arg(dir.path()).stderr(std::process::Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if !mount(&["--bind", dir.path().to_str().unwrap()]) {
        eprintln!("skipped: mounting a directory over itself is not permitted here");
        return;
    }
    let unmount = scopeguard(dir.path());
    assert!(mount(&["-o", "remount,bind,ro"]));

    let append =
        |batch: u64| spool.append(&header(batch * 10 + 1, 10), b"note", &payload(batch * 10 + 1), None);
    // The open segment has room for a few.
    let mut batches = 5;
    let refused = loop {
        assert!(batches < 100, "no segment is made");
        match append(batches) {
            Ok(()) => batches += 1,
            Err(error) => break error,
        }
    };
    let is_read_only = |error: &SpoolError| matches!(error, SpoolError::Io { source, .. } if source.kind() == std::io::ErrorKind::ReadOnlyFilesystem);
    assert!(is_read_only(&refused), "{refused:?}");
    let all = |from: u64, to: u64| (from..to).map(|batch| batch * 10 + 1).collect::<Vec<_>>();
    assert_eq!(pending(&spool), all(0, batches));
    // Sent meanwhile. What is known of that can't be written down, and the segment can't go.
    let _ = spool.ack(BOOT, 30);
    assert!(spool.sync().is_err_and(|error| is_read_only(&error)));
    assert_eq!(pending(&spool), all(3, batches));
    assert!(append(batches).is_err(), "it stays refused");

    drop(unmount);
    append(batches).unwrap();
    assert_eq!(pending(&spool), all(3, batches + 1));
    spool.ack(BOOT, 30).unwrap();
    spool.sync().unwrap();
    drop(spool);
    let spool = open_with(dir.path(), small);
    assert_eq!(pending(&spool), all(3, batches + 1));
    assert_eq!(spool.losses(), []);
}

/// Unmounts when dropped, also on a failed expectation.
fn scopeguard(path: &Path) -> impl Drop {
    struct Unmount(PathBuf);
    impl Drop for Unmount {
        fn drop(&mut self) {
            let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
        }
    }
    Unmount(path.to_owned())
}
