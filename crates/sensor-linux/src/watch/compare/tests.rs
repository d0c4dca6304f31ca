//! What can't be brought about from outside: a queue of the kernel that overflows,
//! and bounds that only very large hosts reach.

use std::fs;

use super::*;
use crate::watch::known::Shortage;
use crate::watch::secrets::KEY_BYTES;

fn comparison(root: &Path) -> Comparison {
    Comparison::new(root, HostKey::from_bytes([1; KEY_BYTES]), Watches::new().unwrap())
}

/// Reads notices until none are left; whether the queue had overflowed.
fn drain(comparison: &mut Comparison) -> bool {
    let mut overflowed = false;
    let fds = |comparison: &Comparison| {
        let fd = rustix::event::PollFd::from_borrowed_fd(
            comparison.watches().as_fd(),
            rustix::event::PollFlags::IN,
        );
        rustix::event::poll(&mut [fd], Some(&rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap()
    };
    while fds(comparison) > 0 {
        overflowed |= comparison.read_notices(Instant::now(), 1);
    }
    overflowed
}

#[test]
fn an_overflow_of_the_kernels_queue_has_everything_compared() {
    let root = tempfile::tempdir().unwrap();
    let etc = root.path().join("etc");
    for dir in ["pam.d", "cron.d"] {
        fs::create_dir_all(etc.join(dir)).unwrap();
    }
    let mut comparison = comparison(root.path());
    assert_eq!(comparison.first(None, 0).len(), 0);
    assert!(!drain(&mut comparison));
    let limit: usize =
        fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    if limit > 200_000 {
        println!("skipped: the queue of this kernel has room for {limit} notices");
        return;
    }
    // Names in turn, so that the kernel can't put them together.
    for round in 0..limit / 2 + 10 {
        fs::write(etc.join("pam.d").join(["a", "b"][round % 2]), "x").unwrap();
    }
    // The notice of this one is lost.
    fs::write(etc.join("cron.d/lost"), "1 1 1 1 1 root x\n").unwrap();
    assert!(drain(&mut comparison), "the queue overflows");
    let changes = comparison.compare_due(Instant::now() + PATIENCE);
    let paths: Vec<&[u8]> = changes.iter().map(|change| change.path.as_slice()).collect();
    assert!(paths.contains(&&b"/etc/cron.d/lost"[..]), "{paths:?}");
    assert_eq!(comparison.due(), None);
}

#[test]
fn watches_end_with_what_they_are_for() {
    let root = tempfile::tempdir().unwrap();
    let deep = root.path().join("usr/lib/modules/6.1.0/a/b/c");
    let mut comparison = comparison(root.path());
    comparison.first(None, 0);
    let before = comparison.watches().len();
    assert_eq!(before, 1, "only the root is there");
    for _ in 0..3 {
        fs::create_dir_all(&deep).unwrap();
        drain(&mut comparison);
        comparison.compare_due(Instant::now() + PATIENCE);
        assert_eq!(comparison.watches().len(), 8, "usr, lib, modules, 6.1.0, a, b, c");
        fs::remove_dir_all(root.path().join("usr")).unwrap();
        drain(&mut comparison);
        comparison.compare_due(Instant::now() + PATIENCE);
        drain(&mut comparison);
        assert_eq!(comparison.watches().len(), before);
    }
}

#[test]
fn what_can_t_be_looked_at_is_not_taken_for_gone() {
    let root = tempfile::tempdir().unwrap();
    let pam = root.path().join("etc/pam.d");
    fs::create_dir_all(&pam).unwrap();
    for index in 0..500 {
        fs::write(pam.join(format!("first-{index}")), "x").unwrap();
    }
    let mut comparison = comparison(root.path());
    comparison.first(None, 0);
    // More names than are looked at in one directory, so that some of the first are not met.
    for index in 0..20_000 {
        fs::write(pam.join(format!("flood-{index}")), "x").unwrap();
    }
    drain(&mut comparison);
    let changes = comparison.compare_due(Instant::now() + PATIENCE);
    assert!(changes.len() > 19_000, "{}", changes.len());
    assert_eq!(changes.iter().filter(|change| change.new.is_none()).count(), 0);
    let first = comparison.known().filter(|(path, ..)| path.starts_with(b"/etc/pam.d/first")).count();
    assert_eq!(first, 500, "all of the first are still known");
}

#[test]
fn a_round_reads_no_more_than_its_bound_and_the_next_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let modules = root.path().join("usr/lib/modules/6.1.0");
    fs::create_dir_all(&modules).unwrap();
    let mut comparison = comparison(root.path());
    comparison.first(None, 0);
    for index in 0..5 {
        let file = fs::File::create(modules.join(format!("{index}.ko"))).unwrap();
        file.set_len(READ_IN_A_ROUND / 2).unwrap();
    }
    drain(&mut comparison);
    let mut rounds = Vec::new();
    while let Some(due) = comparison.due() {
        rounds.push(comparison.compare_due(due + PATIENCE).len());
        assert!(rounds.len() < 10, "{rounds:?}");
    }
    assert_eq!(rounds, [2, 2, 1]);
}

#[test]
fn texts_past_the_bound_on_memory_are_not_kept() {
    let root = tempfile::tempdir().unwrap();
    let pam = root.path().join("etc/pam.d");
    fs::create_dir_all(&pam).unwrap();
    let text = "x".repeat(200 << 10);
    let count = MOST_HELD / text.len() + 20;
    for index in 0..count {
        fs::write(pam.join(format!("{index:04}")), &text).unwrap();
    }
    let mut comparison = comparison(root.path());
    comparison.first(None, 0);
    let held: usize = comparison.known().map(|(_, _, known)| known.held()).sum();
    assert!(held <= MOST_HELD && held > MOST_HELD / 2, "{held}");
    assert_eq!(comparison.held, held, "the account is exact");
    let not_kept =
        comparison.known().filter(|(_, _, known)| known.shortage == Some(Shortage::NotKept)).count();
    assert!(not_kept >= 20, "{not_kept}");
    // A change of such a file is still seen.
    let path = pam.join(format!("{:04}", count - 1));
    fs::write(path, "y").unwrap();
    drain(&mut comparison);
    let changes = comparison.compare_due(Instant::now() + PATIENCE);
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].new.as_ref().and_then(Known::text), Some(&b"y"[..]));
    let held: usize = comparison.known().map(|(_, _, known)| known.held()).sum();
    assert_eq!(comparison.held, held);
}
