//! The SQLite event store: the contract, and what a file can suffer.

#![allow(clippy::unwrap_used, reason = "in tests a failed expectation is the report")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use event_store::contract::{SUITE, batch, batch_of, boot, host, process_start, search_all};
use event_store::{EventQuery, EventStore, EventStoreError, Predicate, SqliteEventStore};
use tempfile::TempDir;

fn open(folder: &Path) -> Arc<dyn EventStore> {
    Arc::new(SqliteEventStore::open(folder).unwrap())
}

#[test]
fn keeps_the_contract() {
    for (name, check) in SUITE {
        println!("{name}");
        let folder = TempDir::new().unwrap();
        check(&folder.path().join("rampart.db.events"), &open);
    }
}

#[test]
fn a_search_that_finds_nothing_ends_after_a_bounded_amount_of_work() {
    let folder = TempDir::new().unwrap();
    let store = SqliteEventStore::open(folder.path()).unwrap();
    let total = 230_000;
    for first in (1..=total).step_by(10_000) {
        store.append(&batch(host(1), boot(1), first, first + 9_999)).unwrap();
    }
    let mut query =
        EventQuery { filter: Predicate::text_anywhere("no such thing"), ..EventQuery::newest(10) };
    let page = store.search(&query).unwrap();
    assert!(page.events.is_empty() && page.scanned >= 100_000 && page.scanned < total, "{page:?}");
    query.cursor = page.next;
    assert!(query.cursor.is_some(), "it says where to go on");
    let rest = store.search(&query).unwrap();
    assert_eq!((rest.next, page.scanned + rest.scanned), (None, total), "every event was looked at once");
}

#[test]
fn a_damaged_or_foreign_file_is_refused_with_a_message() {
    let make = || {
        let folder = TempDir::new().unwrap();
        let store = SqliteEventStore::open(folder.path()).unwrap();
        store.append(&batch(host(1), boot(1), 1, 2_000)).unwrap();
        drop(store);
        let file = folder.path().join("events.sqlite");
        (folder, file)
    };
    let refusal = |folder: &Path| match SqliteEventStore::open(folder) {
        Err(error @ EventStoreError::Damaged { .. }) => error.to_string(),
        other => panic!("opened: {other:?}"),
    };

    let (folder, file) = make();
    let size = fs::metadata(&file).unwrap().len();
    fs::File::options().write(true).open(&file).unwrap().set_len(size / 2 / 8_192 * 8_192).unwrap();
    let message = refusal(folder.path());
    assert!(
        message.contains("events.sqlite") && message.contains("hint: restore it from a backup"),
        "{message}"
    );

    let (folder, file) = make();
    let mut bytes = fs::read(&file).unwrap();
    for page in bytes.chunks_mut(8_192).skip(1) {
        page[..64].fill(0xa5);
    }
    fs::write(&file, bytes).unwrap();
    refusal(folder.path());

    let (folder, file) = make();
    fs::write(&file, b"#!/bin/sh\necho this is no database, and it is long enough to be read as one\n")
        .unwrap();
    refusal(folder.path());

    let (folder, file) = make();
    fs::remove_file(&file).unwrap();
    let other = rusqlite::Connection::open(&file).unwrap();
    other.execute_batch("CREATE TABLE notes (text TEXT)").unwrap();
    drop(other);
    let message = refusal(folder.path());
    assert!(message.contains("not a Rampart event store"), "{message}");
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    drop(SqliteEventStore::open(folder.path()).unwrap());
    let file = rusqlite::Connection::open(folder.path().join("events.sqlite")).unwrap();
    file.pragma_update(None, "user_version", 99).unwrap();
    let error = SqliteEventStore::open(folder.path()).unwrap_err();
    assert!(matches!(error, EventStoreError::NewerSchema { found: 99, .. }), "{error}");
    assert!(error.to_string().contains("install the newer version"), "{error}");
    let version: i64 = file.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 99);
}

#[test]
fn a_field_that_is_new_to_the_file_gets_its_column() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("events.sqlite");
    let store = SqliteEventStore::open(folder.path()).unwrap();
    store.append(&batch_of(vec![process_start(host(1), boot(1), 1, 1, "old")])).unwrap();
    drop(store);
    // As a file looks that was made before the field was.
    let file = rusqlite::Connection::open(path).unwrap();
    file.execute_batch("ALTER TABLE events DROP COLUMN user_name").unwrap();
    drop(file);
    let store = SqliteEventStore::open(folder.path()).unwrap();
    store.append(&batch_of(vec![process_start(host(1), boot(1), 2, 2, "new")])).unwrap();
    let users: Vec<_> = search_all(&store, &EventQuery::newest(5))
        .iter()
        .map(|event| event.text(event_model::Field::UserName).map(str::to_owned))
        .collect();
    assert_eq!(users, [Some("Ärzte".to_owned()), None]);
}

#[cfg(unix)]
#[test]
fn the_folder_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    let place = folder.path().join("x.events");
    drop(SqliteEventStore::open(&place).unwrap());
    assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o700);
}
