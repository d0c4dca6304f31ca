//! What goes in and out: batches with their accounts, and retention.

use std::collections::BTreeMap;

use event_model::{
    BootId, EventRecord, EventType, Field, FieldSource, GapReason, HostId, Timestamp, ValueRef,
};
use rusqlite::{Connection, OptionalExtension, Params, Row, params};

use super::account;
use super::columns::{as_i64, insert, insert_sql, unreadable};
use super::counts::{MINUTE_NS, minute_of};
use super::{Result, database};
use crate::{AgentFigures, AppendBatch, AppendOutcome, Deleted, HighWaterMark, LedgerEntry};

const DOING: &str = "store a batch of events";

pub(super) fn append(connection: &Connection, batch: &AppendBatch) -> Result<AppendOutcome> {
    let mark = high_water(connection, batch.host, batch.boot)?;
    let new_events = &batch.events[batch.events.partition_point(|event| event.header.sequence <= mark)..];
    let new_others = &batch.others[batch.others.partition_point(|&(number, _)| number <= mark)..];

    let new = (new_events.len() + new_others.len()) as u64;
    let all = (batch.events.len() + batch.others.len()) as u64;
    let left_out = new_events.iter().filter(|event| is_left_out(batch, event)).count() as u64;
    let stored = new - left_out;
    // Numbers between the mark and the batch's first one are missing too. The
    // batch's numbers were checked to rise, so there are at least `stored` of them.
    let missing = batch.last_sequence.saturating_sub(mark) - stored;
    let outcome = AppendOutcome {
        stored,
        events_stored: new_events.len() as u64 - left_out,
        duplicates: all - new,
        missing,
        high_water: mark.max(batch.last_sequence),
    };

    let gaps = insert_events(connection, batch.host, new_events)?;
    move_mark(connection, batch, new_events, &gaps, &outcome)?;
    account::count(connection, batch, new_events, new_others)?;
    Ok(outcome)
}

/// True of a gap event that stands in the place of a record which could not be taken.
pub(super) fn is_left_out(batch: &AppendBatch, event: &EventRecord) -> bool {
    event.event_type == EventType::Gap && batch.left_out.binary_search(&event.header.sequence).is_ok()
}

/// What the gap events of a batch say.
#[derive(Debug, Default)]
struct GapAccount {
    explained: u64,
    lost_observations: u64,
    of_unknown_size: u64,
}

fn insert_events(connection: &Connection, host: HostId, events: &[EventRecord]) -> Result<GapAccount> {
    let failed = database(DOING);
    let mut gaps = GapAccount::default();
    let mut by_minute: BTreeMap<(i64, EventType), i64> = BTreeMap::new();
    let mut statement = connection.prepare_cached(insert_sql()).map_err(&failed)?;
    for event in events {
        insert(&mut statement, event).map_err(&failed)?;
        *by_minute.entry((minute_of(event.header.observed_at), event.event_type)).or_default() += 1;
        if event.event_type == EventType::Gap {
            note_gap(connection, event, &mut gaps)?;
        }
    }
    let mut count = connection
        .prepare_cached(
            "INSERT INTO minute_counts (minute, host_id, event_type, count) VALUES (?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET count = count + excluded.count",
        )
        .map_err(&failed)?;
    for ((minute, event_type), number) in by_minute {
        count.execute(params![minute, host.as_bytes(), event_type.number(), number]).map_err(&failed)?;
    }
    Ok(gaps)
}

fn note_gap(connection: &Connection, event: &EventRecord, gaps: &mut GapAccount) -> Result<()> {
    let time = |field| match event.value(field) {
        Some(ValueRef::Time(time)) => time,
        _ => event.header.observed_at,
    };
    let (from, until) = (time(Field::GapFrom), time(Field::GapUntil));
    let lost = event.integer(Field::GapCount).map(|count| count.max(0));
    let reason = event.text(Field::GapReason).and_then(GapReason::from_word);
    // Records of an earlier boot are missing in that boot's numbers, not in these.
    let of_this_boot = event.text(Field::GapBoot).is_none();
    let (account, count) = match lost {
        None => (&mut gaps.of_unknown_size, None),
        Some(_) if reason.is_some_and(GapReason::is_of_records) => {
            let records = event.integer(Field::GapRecords).map(|count| count.max(0));
            (&mut gaps.explained, if of_this_boot { records.or(lost) } else { Some(0) })
        }
        Some(_) => (&mut gaps.lost_observations, lost),
    };
    *account = account.saturating_add(count.map_or(1, i64::unsigned_abs));
    connection
        .prepare_cached("INSERT INTO gaps (event, host_id, from_at, until_at, lost) VALUES (?, ?, ?, ?, ?)")
        .and_then(|mut statement| {
            statement.execute(params![
                connection.last_insert_rowid(),
                event.header.host_id.as_bytes(),
                from.min(until).as_nanos(),
                until.max(from).as_nanos(),
                lost
            ])
        })
        .map_err(database(DOING))?;
    Ok(())
}

fn move_mark(
    connection: &Connection,
    batch: &AppendBatch,
    new_events: &[EventRecord],
    gaps: &GapAccount,
    outcome: &AppendOutcome,
) -> Result<()> {
    let figures = batch.figures.unwrap_or_default();
    let newest = new_events.last().map(|event| &event.header);
    let last_event_at = new_events.iter().map(|event| event.header.observed_at.as_nanos()).max();
    // Wall clock minus time since boot: tells when the boot was, by the host's own clock.
    let clock_offset =
        newest.map(|header| header.observed_at.as_nanos().saturating_sub(as_i64(header.monotonic_ns)));
    // `touched` orders the boots of a host without trusting any clock.
    connection
        .prepare_cached(
            "INSERT INTO streams VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14,
                 (SELECT coalesce(max(touched), 0) + 1 FROM streams WHERE host_id = ?1), ?15)
             ON CONFLICT DO UPDATE SET
                 mark_sha256 = iif(excluded.high_water > high_water, excluded.mark_sha256, mark_sha256),
                 high_water = excluded.high_water,
                 stored = stored + excluded.stored,
                 events = events + excluded.events,
                 missing = missing + excluded.missing,
                 explained = min(explained + excluded.explained, 1 << 62),
                 lost_observations = min(lost_observations + excluded.lost_observations, 1 << 62),
                 gaps_of_unknown_size = gaps_of_unknown_size + excluded.gaps_of_unknown_size,
                 produced = max(produced, excluded.produced),
                 dropped = max(dropped, excluded.dropped),
                 kernel_lost = max(kernel_lost, excluded.kernel_lost),
                 last_event_at = coalesce(max(last_event_at, excluded.last_event_at), last_event_at,
                     excluded.last_event_at),
                 clock_offset = coalesce(excluded.clock_offset, clock_offset),
                 touched = excluded.touched",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                batch.host.as_bytes(),
                batch.boot.as_bytes(),
                as_i64(outcome.high_water),
                as_i64(outcome.stored),
                as_i64(outcome.events_stored),
                as_i64(outcome.missing),
                as_i64(gaps.explained),
                as_i64(gaps.lost_observations),
                as_i64(gaps.of_unknown_size),
                as_i64(figures.produced),
                as_i64(figures.dropped),
                as_i64(figures.kernel_lost),
                last_event_at,
                clock_offset,
                batch.sha256.as_ref().map(<[u8; 32]>::as_slice),
            ])
        })
        .map_err(database(DOING))?;
    Ok(())
}

pub(super) fn high_water(connection: &Connection, host: HostId, boot: BootId) -> Result<u64> {
    let mark: Option<i64> = connection
        .prepare_cached("SELECT high_water FROM streams WHERE host_id = ? AND boot_id = ?")
        .and_then(|mut statement| {
            statement.query_row(params![host.as_bytes(), boot.as_bytes()], |row| row.get(0)).optional()
        })
        .map_err(database("read an account"))?;
    Ok(mark.map_or(0, i64::unsigned_abs))
}

pub(super) fn high_water_marks(
    connection: &Connection,
    host: HostId,
    limit: usize,
) -> Result<Vec<HighWaterMark>> {
    let failed = database("read accounts");
    let mut statement = connection
        .prepare_cached(
            "SELECT boot_id, high_water, mark_sha256, produced, dropped, kernel_lost, last_event_at
             FROM streams WHERE host_id = ? ORDER BY touched DESC LIMIT ?",
        )
        .map_err(&failed)?;
    let mut rows = statement.query(params![host.as_bytes(), as_i64(limit as u64)]).map_err(&failed)?;
    let mut marks = Vec::new();
    while let Some(row) = rows.next().map_err(&failed)? {
        let boot: Vec<u8> = row.get(0).map_err(&failed)?;
        let count = |column| row_count(row, column).map_err(&failed);
        let sha256: Option<Vec<u8>> = row.get(2).map_err(&failed)?;
        let last_event_at: Option<i64> = row.get(6).map_err(&failed)?;
        marks.push(HighWaterMark {
            boot: BootId::from_slice(&boot).map_err(|_| unreadable("boot_id"))?,
            last_sequence: count(1)?,
            sha256: sha256.and_then(|bytes| bytes.try_into().ok()),
            figures: AgentFigures { produced: count(3)?, dropped: count(4)?, kernel_lost: count(5)? },
            last_event_at: last_event_at.map(Timestamp::from_nanos),
        });
    }
    Ok(marks)
}

pub(super) fn ledger(connection: &Connection, host: HostId) -> Result<Vec<LedgerEntry>> {
    let sql = format!("SELECT {LEDGER} FROM streams WHERE host_id = ? ORDER BY touched DESC");
    entries(connection, &sql, [host.as_bytes()])
}

pub(super) fn unexplained(connection: &Connection) -> Result<Vec<LedgerEntry>> {
    let sql = format!(
        "SELECT {LEDGER} FROM streams AS one WHERE missing > explained
             AND touched = (SELECT max(touched) FROM streams WHERE host_id = one.host_id)
         ORDER BY host_id"
    );
    entries(connection, &sql, [])
}

const LEDGER: &str = "boot_id, high_water, stored, events, missing, explained, lost_observations,
    gaps_of_unknown_size, produced, dropped, kernel_lost, last_event_at, host_id";

fn entries(connection: &Connection, sql: &str, values: impl Params) -> Result<Vec<LedgerEntry>> {
    let failed = database("read accounts");
    let mut statement = connection.prepare_cached(sql).map_err(&failed)?;
    let mut rows = statement.query(values).map_err(&failed)?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next().map_err(&failed)? {
        let boot: Vec<u8> = row.get(0).map_err(&failed)?;
        let host: Vec<u8> = row.get(12).map_err(&failed)?;
        let count = |column| row_count(row, column).map_err(&failed);
        let last_event_at: Option<i64> = row.get(11).map_err(&failed)?;
        entries.push(LedgerEntry {
            host: HostId::from_slice(&host).map_err(|_| unreadable("host_id"))?,
            boot: BootId::from_slice(&boot).map_err(|_| unreadable("boot_id"))?,
            high_water: count(1)?,
            stored: count(2)?,
            events: count(3)?,
            missing: count(4)?,
            explained: count(5)?,
            lost_observations: count(6)?,
            gaps_of_unknown_size: count(7)?,
            figures: AgentFigures { produced: count(8)?, dropped: count(9)?, kernel_lost: count(10)? },
            last_event_at: last_event_at.map(Timestamp::from_nanos),
        });
    }
    Ok(entries)
}

pub(super) fn row_count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::unsigned_abs)
}

pub(super) fn delete_before(connection: &Connection, before: Timestamp, max_events: u64) -> Result<Deleted> {
    let failed = database("remove old events");
    let minute = minute_of(before);
    let until = minute.saturating_mul(MINUTE_NS);
    let mut places: Vec<i64> = Vec::new();
    let mut left = max_events.clamp(1, 100_000) as usize;
    for host in super::search::hosts(connection)? {
        let mut statement = connection
            .prepare_cached("SELECT place FROM events WHERE host_id = ? AND observed_at < ? LIMIT ?")
            .map_err(&failed)?;
        let found = statement
            .query_map(params![host.as_bytes(), until, as_i64(left as u64)], |row| row.get(0))
            .and_then(Iterator::collect::<rusqlite::Result<Vec<i64>>>)
            .map_err(&failed)?;
        left -= found.len();
        places.extend(found);
        if left == 0 {
            break;
        }
    }
    let mut delete = connection.prepare_cached("DELETE FROM events WHERE place = ?").map_err(&failed)?;
    let mut delete_gap = connection.prepare_cached("DELETE FROM gaps WHERE event = ?").map_err(&failed)?;
    for place in &places {
        delete.execute([place]).map_err(&failed)?;
        delete_gap.execute([place]).map_err(&failed)?;
    }
    let more = left == 0;
    if !more {
        connection.execute("DELETE FROM minute_counts WHERE minute < ?", [minute]).map_err(&failed)?;
    }
    Ok(Deleted { events: places.len() as u64, more })
}
