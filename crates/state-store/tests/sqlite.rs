//! The SQLite state store: the contract, and what a file can suffer.

#![allow(clippy::unwrap_used, reason = "in tests a failed expectation is the report")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use state_store::contract::{NOON, SUITE};
use state_store::{ActivityStore, AuditEntry, SqliteStateStore, StateError, StateStore};
use tempfile::TempDir;

const FILE: &str = "RAMPART_TEST_STATE";

fn open(folder: &Path) -> Arc<dyn StateStore> {
    Arc::new(SqliteStateStore::open(&folder.join("rampart.db")).unwrap())
}

#[test]
fn keeps_the_contract() {
    for (name, check) in SUITE {
        println!("{name}");
        check(TempDir::new().unwrap().path(), &open);
    }
}

#[cfg(unix)]
#[test]
fn the_files_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("rampart.db");
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let store = SqliteStateStore::open(&path).unwrap();
    store.set_setting("a", "b").unwrap();
    let mut files = 0;
    for entry in fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
        files += 1;
    }
    assert!(files >= 2, "the log stands beside the file");
}

#[test]
fn a_file_that_must_exist_is_not_made() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("mistyped.db");
    let error = SqliteStateStore::open_existing(&path).unwrap_err();
    assert!(matches!(error, StateError::Open { .. }) && error.to_string().contains("mistyped.db"), "{error}");
    assert!(!path.exists());
}

#[test]
fn damaged_foreign_and_newer_files_are_refused_with_a_message() {
    let make = || {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("rampart.db");
        let store = SqliteStateStore::open(&path).unwrap();
        for number in 0..200 {
            store.set_setting(&number.to_string(), &"x".repeat(2_000)).unwrap();
        }
        drop(store);
        (folder, path)
    };
    let refusal = |path: &Path| match SqliteStateStore::open(path) {
        Err(error @ StateError::Damaged { .. }) => error.to_string(),
        other => panic!("opened: {other:?}"),
    };
    let (_folder, path) = make();
    let size = fs::metadata(&path).unwrap().len();
    fs::File::options().write(true).open(&path).unwrap().set_len(size / 2 / 4_096 * 4_096).unwrap();
    let message = refusal(&path);
    assert!(
        message.contains("rampart.db") && message.contains("hint: restore it from a backup"),
        "{message}"
    );

    let (_folder, path) = make();
    let mut bytes = fs::read(&path).unwrap();
    for page in bytes.chunks_mut(4_096).skip(1) {
        page[..64].fill(0xa5);
    }
    fs::write(&path, bytes).unwrap();
    refusal(&path);

    let (_folder, path) = make();
    fs::write(&path, "no database at all, but long enough to be read as one: ".repeat(100)).unwrap();
    refusal(&path);

    let (_folder, path) = make();
    let file = rusqlite::Connection::open(&path).unwrap();
    file.pragma_update(None, "user_version", 99).unwrap();
    let error = SqliteStateStore::open(&path).unwrap_err();
    assert!(matches!(error, StateError::NewerSchema { found: 99, known: 7, .. }), "{error}");
    assert!(error.to_string().contains("install the newer version"), "{error}");
}

/// Kills a process that appends to the audit log without pause, five times.
#[test]
fn kill_9_loses_nothing_that_was_acknowledged() {
    if let Ok(path) = std::env::var(FILE) {
        return append_until_killed(Path::new(&path));
    }
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("rampart.db");
    let mut acknowledged = 0;
    for round in 0..5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill_9_loses_nothing_that_was_acknowledged", "--nocapture"])
            .env(FILE, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let acknowledgements = lines.by_ref().filter(|line| line.contains("acknowledged"));
        acknowledged += acknowledgements.take(10 + round * 7).count();
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged += lines.filter(|line| line.contains("acknowledged")).count();

        let store = SqliteStateStore::open(&path).unwrap();
        let newest = store.audit(None, 1).unwrap().items[0].sequence;
        // One may have been written and not yet acknowledged in each round.
        let most = acknowledged + round + 1;
        assert!((acknowledged..=most).contains(&(newest as usize)), "{newest}, {acknowledged} acknowledged");
    }
}

fn append_until_killed(path: &Path) {
    let store = SqliteStateStore::open(path).unwrap();
    let entry = AuditEntry {
        who: "eve".to_owned(),
        what: "test".to_owned(),
        subject: "x".repeat(500),
        detail: String::new(),
        address: String::new(),
    };
    loop {
        store.append_audit(&entry, NOON).unwrap();
        println!("acknowledged");
        std::io::stdout().flush().unwrap();
    }
}

/// A file system of 4 MB in memory; unmounted at the end.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
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
fn a_full_disk_is_an_error_and_serving_goes_on() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: no right to mount a small file system");
        return;
    };
    let filler = disk.0.path().join("filler");
    let store = SqliteStateStore::open(&disk.0.path().join("rampart.db")).unwrap();
    fs::write(&filler, vec![0; 2 << 20]).unwrap();
    let text = "x".repeat(20_000);
    let mut set = 0;
    let error = loop {
        match store.set_setting(&set.to_string(), &text) {
            Ok(()) => set += 1,
            Err(error) => break error,
        }
        assert!(set < 1_000, "4 MB can't hold these");
    };
    assert!(matches!(error, StateError::Database { .. }), "{error:?}");
    assert_eq!(store.setting(&set.to_string()).unwrap(), None, "the refused change left nothing");
    assert_eq!(store.setting("0").unwrap().as_ref(), Some(&text), "reading goes on");
    fs::remove_file(&filler).unwrap();
    store.set_setting(&set.to_string(), &text).unwrap();
}
