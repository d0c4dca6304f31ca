//! The vault: full, emptied of what nobody wants back, and left alone by everybody else.

use std::fs;
use std::process::Command;

use response::{Action, FileTarget, Item, OrderState};
use uuid::Uuid;

use crate::bench::{Bench, bench, command, open};
use crate::files::file;

/// A file with that content, taken away; gives the item.
fn taken(bench: &mut Bench, name: &str) -> Item {
    let path = bench.path(name);
    fs::write(&path, "malware").unwrap();
    let receipt = bench.run(Action::QuarantineFile(file(&path)));
    assert_eq!(receipt.state, OrderState::Verified, "{}", receipt.reason);
    Item { item: receipt.id }
}

#[test]
fn what_is_deleted_for_good_is_gone_and_stays_on_record() {
    let mut bench = bench();
    let (item, kept) = (taken(&mut bench, "evil"), taken(&mut bench, "other"));
    let sealed = bench.path(&format!("responses/vault/{}.sealed", item.item));
    assert!(sealed.exists());
    let dry = response::Order { dry_run: true, ..command(Action::DeleteQuarantinedFile(item)) };
    let planned = bench.responder.run(dry);
    assert_eq!(planned.state, OrderState::Planned, "{}", planned.reason);
    assert!(planned.plan[0].contains("evil") && planned.plan[0].contains("for good"), "{:?}", planned.plan);
    assert!(sealed.exists(), "a dry run does nothing");
    let deleted = bench.run(Action::DeleteQuarantinedFile(item));
    assert_eq!(deleted.state, OrderState::Verified, "{}", deleted.reason);
    assert!(!sealed.exists() && deleted.undo.is_none());
    assert!(deleted.result["path"].as_str().unwrap().ends_with("/evil"), "{}", deleted.result);
    // Neither back nor twice, and both say why.
    for action in [Action::RestoreFile(item), Action::DeleteQuarantinedFile(item)] {
        let refused = bench.run(action);
        assert_eq!(refused.state, OrderState::Refused, "{}", refused.reason);
        assert!(refused.reason.contains("for good"), "{}", refused.reason);
    }
    let unknown = bench.run(Action::DeleteQuarantinedFile(Item { item: Uuid::new_v4() }));
    assert!(unknown.reason.contains("no such item"), "{}", unknown.reason);
    let restored = bench.run(Action::RestoreFile(kept));
    assert_eq!(restored.state, OrderState::Verified, "{}", restored.reason);
    assert_eq!(fs::read_to_string(bench.path("other")).unwrap(), "malware", "the others are as they were");
    let after = bench.run(Action::DeleteQuarantinedFile(kept));
    assert!(after.reason.contains("restored before"), "{}", after.reason);
}

#[test]
fn a_full_vault_takes_nothing_more_until_it_is_emptied() {
    let mut bench = bench();
    let item = taken(&mut bench, "old");
    // As large as the vault may become, without taking the disk: a hole has a size all the same.
    let sealed = bench.path(&format!("responses/vault/{}.sealed", item.item));
    fs::OpenOptions::new().write(true).open(&sealed).unwrap().set_len(4 << 30).unwrap();
    let path = bench.path("evil");
    fs::write(&path, "malware").unwrap();
    let refused = bench.run(Action::QuarantineFile(file(&path)));
    assert_eq!(refused.state, OrderState::Refused, "{}", refused.reason);
    assert!(refused.reason.contains("is full"), "{}", refused.reason);
    assert!(refused.reason.contains("delete_quarantined_file"), "says what to do: {}", refused.reason);
    assert_eq!(fs::read_to_string(&path).unwrap(), "malware", "it was left alone");
    let deleted = bench.run(Action::DeleteQuarantinedFile(item));
    assert_eq!(deleted.state, OrderState::Verified, "{}", deleted.reason);
    let receipt = bench.run(Action::QuarantineFile(file(&path)));
    assert_eq!(receipt.state, OrderState::Verified, "{}", receipt.reason);
}

/// Orders it and ends at that step, as if the agent had.
fn quarantine_until(dir: &std::path::Path, path: &std::path::Path, at: &'static str) -> Uuid {
    let checkpoint: response::Checkpoint =
        Box::new(move |step: &str| if step == at { panic!("as if the agent ended") } else { Ok(()) });
    let (mut ending, _) = open(dir, Some(checkpoint));
    let order = command(Action::QuarantineFile(file(path)));
    let id = order.id;
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ending.run(order)));
    assert!(ran.is_err(), "it ended at `{at}`");
    id
}

/// After a crash the vault may have the only copy: it is forgotten only where the file itself is surely still there.
#[test]
fn a_crash_never_costs_the_only_copy() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let path = root.join("evil");
    let in_vault = |id: Uuid, end: &str| root.join(format!("responses/vault/{id}.{end}"));

    // It is gone, and what it was can't be read for now.
    fs::write(&path, "malware").unwrap();
    let id = quarantine_until(&root, &path, "verify");
    assert!(!path.exists());
    let record = fs::read(in_vault(id, "json")).unwrap();
    fs::write(in_vault(id, "json"), &record[..record.len() / 2]).unwrap();
    let (mut next, found) = open(&root, None);
    assert_eq!(found.receipts[0].state, OrderState::Failed, "{}", found.receipts[0].reason);
    assert!(found.receipts[0].reason.contains("its copy is kept"), "{}", found.receipts[0].reason);
    assert!(in_vault(id, "sealed").exists());
    fs::write(in_vault(id, "json"), &record).unwrap();
    let restored = next.run(command(Action::RestoreFile(Item { item: id })));
    assert_eq!(restored.state, OrderState::Verified, "{}", restored.reason);
    assert_eq!(fs::read_to_string(&path).unwrap(), "malware");

    // Its number is there under its name, but not what was copied.
    let id = quarantine_until(&root, &path, "took its name away");
    fs::write(&path, "another").unwrap();
    let (_, found) = open(&root, None);
    assert_eq!(found.receipts[0].state, OrderState::Failed, "{}", found.receipts[0].reason);
    assert!(in_vault(id, "sealed").exists() && in_vault(id, "json").exists());
    assert_eq!(fs::read_to_string(&path).unwrap(), "another");

    // Nothing was taken: nothing is kept.
    let id = quarantine_until(&root, &path, "wrote what it was");
    let (_, found) = open(&root, None);
    assert!(found.receipts[0].reason.contains("was not moved"), "{}", found.receipts[0].reason);
    assert!(!in_vault(id, "sealed").exists() && path.exists());
}

const ELSEWHERE: &str = "RAMPART_TEST_ELSEWHERE";

/// The vault and the file are on different devices: it is copied, not renamed, and comes back there. In a mount
/// namespace of its own, where a folder is another device.
#[test]
fn a_file_of_another_device_goes_into_the_vault_and_comes_back() {
    let elsewhere = tempfile::tempdir().unwrap();
    let mount = "mount -t tmpfs none \"$RAMPART_TEST_ELSEWHERE\" && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--mount", "--", "sh", "-c", mount, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "vault::within_another_device", "--nocapture", "--test-threads=1"])
        .env(ELSEWHERE, elsewhere.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("it came back"), "{said}");
}

/// Not a test by itself: the one above runs it.
#[test]
fn within_another_device() {
    use std::os::unix::fs::MetadataExt as _;
    let Some(elsewhere) = std::env::var_os(ELSEWHERE) else { return };
    let mut bench = bench();
    let path = std::path::Path::new(&elsewhere).canonicalize().unwrap().join("evil");
    fs::write(&path, "malware").unwrap();
    let (device, inode) = fs::metadata(&path).map(|file| (file.dev(), file.ino())).unwrap();
    assert_ne!(device, fs::metadata(bench.dir.path()).unwrap().dev());
    // The same inode number on another device is another file.
    let wrong = FileTarget { file: Some((device + 1, inode)), ..file(&path) };
    let refused = bench.run(Action::QuarantineFile(wrong));
    assert_eq!(refused.state, OrderState::Refused, "{}", refused.reason);
    assert!(path.exists() && refused.reason.contains("another file has that name"), "{}", refused.reason);
    let receipt = bench.run(Action::QuarantineFile(file(&path)));
    assert_eq!(receipt.state, OrderState::Verified, "{}", receipt.reason);
    assert!(!path.exists());
    let restored = bench.run(receipt.undo.unwrap());
    assert_eq!(restored.state, OrderState::Verified, "{}", restored.reason);
    assert_eq!(fs::read_to_string(&path).unwrap(), "malware");
    println!("it came back");
}
