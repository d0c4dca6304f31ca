//! What every event store must do, as a suite that each implementation runs.
//!
//! A check gets an empty folder and a way to open a store in it. Opening the same
//! folder again after dropping the store must give the same events. A check that
//! fails panics with what was wrong.

mod accounts;
mod searches;

use std::path::Path;
use std::sync::Arc;

use event_model::{BootId, EventHeader, EventRecord, EventType, Field, HostId, Timestamp, Value};
use uuid::Uuid;

use crate::{AppendBatch, EventQuery, EventStore};

/// Opens the store that lives in this folder.
pub type Open<'a> = &'a dyn Fn(&Path) -> Arc<dyn EventStore>;

/// One check: an empty folder, and the way to open a store in it.
pub type Check = fn(&Path, Open<'_>);

/// Every check, with its name.
pub const SUITE: &[(&str, Check)] = &[
    ("an event comes back whole, also after a restart", accounts::events_come_back_whole),
    ("a batch that comes again is stored once", accounts::a_batch_that_comes_again_is_stored_once),
    ("a mark names the batch that moved it", accounts::a_mark_names_its_batch),
    ("holes are accounted and explained by gaps", accounts::holes_are_accounted),
    ("the account by kind balances, also over boots", accounts::the_account_by_kind_balances),
    ("a record that was left out is missing, told and dropped", accounts::what_was_left_out_is_told),
    ("hosts with numbers that no gap explains are listed", accounts::unexplained_numbers_are_listed),
    ("a batch that contradicts itself changes nothing", accounts::bad_batches_change_nothing),
    ("retention removes events and leaves accounts", accounts::retention_leaves_accounts),
    ("readers see whole batches while a writer writes", accounts::readers_see_whole_batches),
    ("searches are newest first, page by page", searches::pages_are_newest_first),
    ("a cursor stays good while events come", searches::a_cursor_stays_good),
    ("every predicate means what it means in memory", searches::predicates_mean_the_same),
    ("an event is found by its id", searches::an_event_is_found_by_its_id),
    ("histograms count every event once", searches::histograms_count_every_event_once),
    ("gaps are found by the span they overlap", searches::gaps_are_found_by_overlap),
    ("a process's start is found by its entity id", searches::a_process_start_is_found),
];

/// A moment in 2026, on a whole minute.
pub const NOON: Timestamp = Timestamp::from_nanos(1_795_262_400_000_000_000);

/// The host with this number.
pub fn host(number: u128) -> HostId {
    HostId::from_uuid(Uuid::from_u128(0x4000_8000_0000_0000_0000 + number))
}

/// The boot with this number.
pub fn boot(number: u128) -> BootId {
    BootId::from_uuid(Uuid::from_u128((number << 96) + 0x4000_8000_0000_0000_0000))
}

/// So many nanoseconds after noon.
pub fn after_noon(nanos: i64) -> Timestamp {
    Timestamp::from_nanos(NOON.as_nanos() + nanos)
}

/// The start of a process, observed so many nanoseconds after noon. The boot was at noon.
pub fn process_start(
    host: HostId,
    boot: BootId,
    sequence: u64,
    nanos: i64,
    command_line: &str,
) -> EventRecord {
    let executable = format!("/usr/bin/{}", command_line.split(' ').next().unwrap_or_default());
    let fields = vec![
        (Field::ProcessPid, Value::Integer(1_000 + (sequence % 30_000) as i64)),
        (Field::ProcessEntityId, Value::Text(format!("00000000-{sequence}-{nanos}"))),
        (Field::ProcessExecutable, Value::Text(executable)),
        (Field::ProcessCommandLine, Value::Text(command_line.to_owned())),
        (Field::ProcessArgs, Value::TextList(command_line.split(' ').map(str::to_owned).collect())),
        (Field::ProcessArgsTruncated, Value::Boolean(sequence.is_multiple_of(7))),
        (Field::ProcessStart, Value::Time(after_noon(nanos))),
        (Field::UserName, Value::Text("Ärzte".to_owned())),
    ];
    EventRecord::from_fields(header(host, boot, sequence, nanos), EventType::ProcessStart, fields)
}

/// A gap of `count` of what `reason` loses, over the second before.
pub fn gap(
    host: HostId,
    boot: BootId,
    sequence: u64,
    nanos: i64,
    reason: &str,
    count: Option<i64>,
) -> EventRecord {
    let mut fields = vec![
        (Field::GapReason, Value::Text(reason.to_owned())),
        (Field::GapFrom, Value::Time(after_noon(nanos - 1_000_000_000))),
        (Field::GapUntil, Value::Time(after_noon(nanos))),
    ];
    fields.extend(count.map(|count| (Field::GapCount, Value::Integer(count))));
    EventRecord::from_fields(header(host, boot, sequence, nanos), EventType::Gap, fields)
}

fn header(host_id: HostId, boot_id: BootId, sequence: u64, nanos: i64) -> EventHeader {
    let observed_at = after_noon(nanos);
    EventHeader { host_id, boot_id, sequence, observed_at, monotonic_ns: nanos.max(0).unsigned_abs() }
}

/// A batch of events that follow each other without a hole.
pub fn batch_of(events: Vec<EventRecord>) -> AppendBatch {
    let first = &events.first().expect("a batch has events").header;
    AppendBatch {
        host: first.host_id,
        boot: first.boot_id,
        first_sequence: first.sequence,
        last_sequence: first.sequence + events.len() as u64 - 1,
        others: Vec::new(),
        left_out: Vec::new(),
        figures: None,
        kinds: Vec::new(),
        sha256: None,
        events,
    }
}

/// Starts of processes with the sequences `first` to `last`, a second apart.
pub fn batch(host: HostId, boot: BootId, first: u64, last: u64) -> AppendBatch {
    let start = |sequence| process_start(host, boot, sequence, sequence as i64 * 1_000_000_000, "sleep 1");
    batch_of((first..=last).map(start).collect())
}

/// Everything that the query finds, page by page.
pub fn search_all(store: &dyn EventStore, query: &EventQuery) -> Vec<EventRecord> {
    let mut query = query.clone();
    let mut all = Vec::new();
    loop {
        let page = store.search(&query).expect("a search");
        assert!(
            page.events.len() <= query.limit,
            "{} events on a page of {}",
            page.events.len(),
            query.limit
        );
        all.extend(page.events);
        match page.next {
            // As it goes through a client's hands.
            Some(cursor) => query.cursor = Some(cursor.to_string().parse().expect("our own cursor")),
            None => return all,
        }
    }
}
