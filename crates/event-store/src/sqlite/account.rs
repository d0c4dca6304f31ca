//! The account of each boot by kind of record.

use std::collections::BTreeMap;

use event_model::{BootId, EventRecord, EventType, Field, GapReason, HostId, KindFigures, RecordKind};
use rusqlite::{Connection, params};

use super::append::row_count;
use super::columns::as_i64;
use super::{Result, database};
use crate::{AppendBatch, KindAccount};

/// Counts what arrived, and takes down what the agent says of itself.
pub(super) fn count(
    connection: &Connection,
    batch: &AppendBatch,
    new_events: &[EventRecord],
    new_others: &[(u64, RecordKind)],
) -> Result<()> {
    // What came without an agent's account can't be held against one.
    if batch.kinds.is_empty() {
        return Ok(());
    }
    let mut stored: BTreeMap<RecordKind, u64> = BTreeMap::new();
    for event in new_events {
        if left_out(connection, batch, event)? {
            continue;
        }
        let acts = stored.entry(RecordKind::Event(event.event_type)).or_default();
        *acts = acts.saturating_add(event.acts());
    }
    new_others.iter().for_each(|(_, kind)| *stored.entry(*kind).or_default() += 1);
    let mut produced: BTreeMap<RecordKind, u64> = BTreeMap::new();
    for figures in &batch.kinds {
        produced.insert(figures.kind, figures.produced);
        stored.entry(figures.kind).or_default();
        for (reason, count) in &figures.dropped {
            let place = Place { host: batch.host, boot: batch.boot, kind: figures.kind };
            drop_row(connection, place, *reason, *count)?;
        }
    }
    for (kind, stored) in stored {
        let place = Place { host: batch.host, boot: batch.boot, kind };
        count_row(connection, place, produced.get(&kind).copied().unwrap_or_default(), stored)?;
    }
    for event in new_events.iter().filter(|event| event.event_type == EventType::Gap) {
        told_later(connection, event)?;
    }
    Ok(())
}

/// A gap in the place of a record that could not be taken: the agent produced that record
/// and knows of no loss, and it did not produce the gap.
fn left_out(connection: &Connection, batch: &AppendBatch, event: &EventRecord) -> Result<bool> {
    if !super::append::is_left_out(batch, event) {
        return Ok(false);
    }
    if let Some((kind, reason, lost)) = loss_of(event) {
        // It lies within its batch, which counted it as produced.
        drop_besides(connection, Place { host: batch.host, boot: batch.boot, kind }, reason, 0, lost)?;
    }
    Ok(true)
}

/// A gap that tells of records of an earlier boot.
fn told_later(connection: &Connection, gap: &EventRecord) -> Result<()> {
    let boot = gap.text(Field::GapBoot).and_then(|boot| boot.parse::<BootId>().ok());
    let (Some(boot), Some((kind, reason, lost))) = (boot, loss_of(gap)) else { return Ok(()) };
    let host = gap.header.host_id;
    // A boot that this host never reported has no account.
    if boot == gap.header.boot_id || super::append::high_water(connection, host, boot)? == 0 {
        return Ok(());
    }
    let through = gap.integer(Field::GapThrough).unwrap_or_default();
    drop_besides(connection, Place { host, boot, kind }, reason, through, lost)
}

/// What a gap says was lost, why, and how many.
fn loss_of(gap: &EventRecord) -> Option<(RecordKind, GapReason, u64)> {
    let kind = RecordKind::from_word(gap.text(Field::GapWhat).unwrap_or_default());
    let reason = gap.text(Field::GapReason).and_then(GapReason::from_word)?;
    let lost = gap.integer(Field::GapCount).and_then(|count| u64::try_from(count).ok())?;
    Some((kind, reason, lost))
}

/// Counts a loss that is not in the figures of the boot's agent.
fn drop_besides(
    connection: &Connection,
    place: Place,
    reason: GapReason,
    through: i64,
    lost: u64,
) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO kind_drops_later VALUES (?, ?, ?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET count = min(count + excluded.count, 1 << 62)",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                place.host.as_bytes(),
                place.boot.as_bytes(),
                place.kind.number(),
                reason.as_str(),
                through,
                counted(lost)
            ])
        })
        .map_err(database("count losses"))?;
    Ok(())
}

#[derive(Clone, Copy)]
struct Place {
    host: HostId,
    boot: BootId,
    kind: RecordKind,
}

fn count_row(connection: &Connection, place: Place, produced: u64, stored: u64) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO kind_counts VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
                 produced = max(produced, excluded.produced),
                 stored = min(stored + excluded.stored, 1 << 62)",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                place.host.as_bytes(),
                place.boot.as_bytes(),
                place.kind.number(),
                counted(produced),
                counted(stored)
            ])
        })
        .map_err(database("count records"))?;
    Ok(())
}

fn drop_row(connection: &Connection, place: Place, reason: GapReason, count: u64) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO kind_drops VALUES (?, ?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET count = max(count, excluded.count)",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                place.host.as_bytes(),
                place.boot.as_bytes(),
                place.kind.number(),
                reason.as_str(),
                counted(count)
            ])
        })
        .map_err(database("count losses"))?;
    Ok(())
}

/// Two of these can be added without leaving 64 bits.
fn counted(number: u64) -> i64 {
    as_i64(number).min(1 << 62)
}

pub(super) fn account(connection: &Connection, host: HostId, boot: BootId) -> Result<Vec<KindAccount>> {
    rows_of(connection, host, boot, true)
}

pub(super) fn agent_figures(connection: &Connection, host: HostId, boot: BootId) -> Result<Vec<KindFigures>> {
    let rows = rows_of(connection, host, boot, false)?.into_iter();
    let figures = |KindAccount { kind, produced, dropped, .. }| KindFigures { kind, produced, dropped };
    Ok(rows.map(figures).collect())
}

/// With what was counted besides the agent's own figures, or without.
fn rows_of(
    connection: &Connection,
    host: HostId,
    boot: BootId,
    with_besides: bool,
) -> Result<Vec<KindAccount>> {
    let failed = database("read an account");
    let mut rows: BTreeMap<RecordKind, KindAccount> = BTreeMap::new();
    let empty = |kind| KindAccount { kind, produced: 0, stored: 0, dropped: Vec::new() };
    let place = params![host.as_bytes(), boot.as_bytes()];
    let mut counts = connection
        .prepare_cached("SELECT kind, produced, stored FROM kind_counts WHERE host_id = ? AND boot_id = ?")
        .map_err(&failed)?;
    let mut found = counts.query(place).map_err(&failed)?;
    while let Some(row) = found.next().map_err(&failed)? {
        let kind = RecordKind::from_number(row.get(0).map_err(&failed)?);
        let account = rows.entry(kind).or_insert_with(|| empty(kind));
        account.produced = row_count(row, 1).map_err(&failed)?;
        account.stored = row_count(row, 2).map_err(&failed)?;
    }
    // What lay beyond the last batch that came was counted as produced by none.
    let mark = as_i64(super::append::high_water(connection, host, boot)?);
    let mut drops = connection
        .prepare_cached(
            "SELECT kind, reason, count, 0 FROM kind_drops WHERE host_id = ?1 AND boot_id = ?2
             UNION ALL
             SELECT kind, reason, count, through > ?3 FROM kind_drops_later
             WHERE host_id = ?1 AND boot_id = ?2 AND ?4",
        )
        .map_err(&failed)?;
    let mut found =
        drops.query(params![host.as_bytes(), boot.as_bytes(), mark, with_besides]).map_err(&failed)?;
    while let Some(row) = found.next().map_err(&failed)? {
        let kind = RecordKind::from_number(row.get(0).map_err(&failed)?);
        let reason: String = row.get(1).map_err(&failed)?;
        let reason = GapReason::from_word(&reason).ok_or_else(|| super::columns::unreadable("reason"))?;
        let count = row_count(row, 2).map_err(&failed)?;
        let account = rows.entry(kind).or_insert_with(|| empty(kind));
        if row.get(3).map_err(&failed)? {
            account.produced = account.produced.saturating_add(count);
        }
        match account.dropped.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, known)) => *known = known.saturating_add(count),
            None if count > 0 => account.dropped.push((reason, count)),
            None => {}
        }
    }
    Ok(rows.into_values().collect())
}
