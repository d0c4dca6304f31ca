//! Searches: walks along the index by host and time, newest first.
//!
//! Without a host the walks of all hosts are merged, so the order is by observed
//! time across hosts. That costs one seek for each host and page (some 10 µs
//! warm), and no second index. A walk that finds nothing would read the whole
//! store, so each call stops after [`MAX_SCANNED`] rows and tells where to go on.

use std::collections::{BinaryHeap, VecDeque};

use event_model::{EventId, EventRecord, EventType, Field, HostId, ProcessEntityId, Timestamp, Value};
use rusqlite::types::Value as SqlValue;
use rusqlite::{CachedStatement, Connection, params, params_from_iter};

use super::columns::{as_i64, read, select_sql, unreadable};
use super::predicate::Condition;
use super::{Result, database};
use crate::{Cursor, EventPage, EventQuery, Predicate};

/// Rows that one call looks at, some 0.3 s of work when they are warm.
const MAX_SCANNED: u64 = 200_000;

/// Rows fetched at once along one walk, at first and at most.
const FETCH: std::ops::RangeInclusive<usize> = 16..=4_096;

const MILLISECOND_NS: i64 = 1_000_000;
const SECOND_NS: i64 = 1_000_000_000;

/// A row as a walk sees it. Ordered like the answer: the greatest comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Step {
    observed_at: i64,
    place: i64,
    matches: bool,
}

/// The walk along one host's events.
#[derive(Debug)]
struct Walk {
    host: HostId,
    fetched: VecDeque<Step>,
    /// Where the next fetch goes on: before this place in the order.
    before: (i64, i64),
    fetch: usize,
    at_end: bool,
}

impl Walk {
    fn fetch(
        &mut self,
        statement: &mut CachedStatement<'_>,
        condition: &Condition,
        from: i64,
    ) -> rusqlite::Result<u64> {
        let (at, place) = self.before;
        let host = self.host.as_bytes().to_vec();
        let own: [SqlValue; 5] =
            [host.into(), from.into(), at.into(), place.into(), as_i64(self.fetch as u64).into()];
        let values = condition.values.iter().cloned().chain(own);
        let mut rows = statement.query(params_from_iter(values))?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            let step = Step { observed_at: row.get(0)?, place: row.get(1)?, matches: row.get(2)? };
            self.before = (step.observed_at, step.place);
            self.fetched.push_back(step);
            count += 1;
        }
        self.at_end = count < self.fetch as u64;
        self.fetch = (self.fetch * 2).min(*FETCH.end());
        Ok(count)
    }
}

pub(super) fn search(connection: &Connection, query: &EventQuery) -> Result<EventPage> {
    let failed = database("search events");
    let limit = query.limit.clamp(1, 1_000);
    let from = query.from.map_or(i64::MIN, Timestamp::as_nanos);
    let last = query.until.map_or(i64::MAX, |until| until.as_nanos().saturating_sub(1));
    let before = match query.cursor {
        Some(cursor) if cursor.observed_at.as_nanos() <= last => {
            (cursor.observed_at.as_nanos(), cursor.place)
        }
        _ => (last, i64::MAX),
    };

    let hosts = match query.host {
        Some(host) => vec![host],
        None => hosts(connection)?,
    };
    let condition = Condition::new(&query.filter, &query.event_types);
    // The row's place is the index's last part, so this order needs no sorting.
    let values = condition.values.len();
    let sql = format!(
        "SELECT observed_at, place, ({}) FROM events
         WHERE host_id = ?{} AND observed_at >= ?{} AND observed_at <= ?{at}
             AND (observed_at < ?{at} OR place < ?{})
         ORDER BY observed_at DESC, place DESC LIMIT ?{}",
        condition.sql,
        values + 1,
        values + 2,
        values + 4,
        values + 5,
        at = values + 3,
    );
    let mut statement = connection.prepare_cached(&sql).map_err(&failed)?;

    let fetch = (2 * limit / hosts.len().max(1)).clamp(*FETCH.start(), *FETCH.end());
    let mut fetched = 0;
    let mut heads = BinaryHeap::with_capacity(hosts.len());
    let mut walks = Vec::with_capacity(hosts.len());
    for (lane, host) in hosts.into_iter().enumerate() {
        let mut walk = Walk { host, fetched: VecDeque::new(), before, fetch, at_end: false };
        fetched += walk.fetch(&mut statement, &condition, from).map_err(&failed)?;
        heads.extend(walk.fetched.pop_front().map(|step| (step, lane)));
        walks.push(walk);
    }

    let mut page = EventPage { events: Vec::new(), next: None, scanned: 0 };
    while let Some((step, lane)) = heads.pop() {
        page.scanned += 1;
        if step.matches {
            page.events.extend(by_place(connection, step.place)?);
        }
        let walk = &mut walks[lane];
        let must_fetch = walk.fetched.is_empty() && !walk.at_end;
        let full = page.events.len() == limit;
        if full || (must_fetch && fetched >= MAX_SCANNED) {
            let more = must_fetch || !walk.fetched.is_empty() || !heads.is_empty();
            let observed_at = Timestamp::from_nanos(step.observed_at);
            page.next = more.then_some(Cursor { observed_at, place: step.place });
            break;
        }
        if must_fetch {
            fetched += walk.fetch(&mut statement, &condition, from).map_err(&failed)?;
        }
        heads.extend(walk.fetched.pop_front().map(|step| (step, lane)));
    }
    Ok(page)
}

/// Every host that ever sent a batch.
pub(super) fn hosts(connection: &Connection) -> Result<Vec<HostId>> {
    let failed = database("list hosts");
    let mut statement = connection.prepare_cached("SELECT DISTINCT host_id FROM streams").map_err(&failed)?;
    let hosts: Vec<Vec<u8>> =
        statement.query_map((), |row| row.get(0)).and_then(Iterator::collect).map_err(&failed)?;
    hosts.iter().map(|host| HostId::from_slice(host).map_err(|_| unreadable("host_id"))).collect()
}

pub(super) fn by_place(connection: &Connection, place: i64) -> Result<Option<EventRecord>> {
    let failed = database("read an event");
    let mut statement = connection.prepare_cached(select_sql()).map_err(&failed)?;
    let mut rows = statement.query([place]).map_err(&failed)?;
    rows.next().map_err(&failed)?.map(read).transpose()
}

/// The id tells the millisecond; each host has few events in it.
pub(super) fn by_id(connection: &Connection, id: EventId) -> Result<Option<EventRecord>> {
    let failed = database("look an event up");
    let from = id.observed_millis().saturating_mul(MILLISECOND_NS);
    let mut statement = connection
        .prepare_cached("SELECT place FROM events WHERE host_id = ? AND observed_at >= ? AND observed_at < ?")
        .map_err(&failed)?;
    for host in hosts(connection)? {
        let values = params![host.as_bytes(), from, from.saturating_add(MILLISECOND_NS)];
        let places: Vec<i64> =
            statement.query_map(values, |row| row.get(0)).and_then(Iterator::collect).map_err(&failed)?;
        for place in places {
            let event = by_place(connection, place)?;
            if event.as_ref().is_some_and(|event| event.header.event_id() == id) {
                return Ok(event);
            }
        }
    }
    Ok(None)
}

pub(super) fn process_start_of(
    connection: &Connection,
    host: HostId,
    process: ProcessEntityId,
    around: Timestamp,
) -> Result<Option<EventRecord>> {
    let failed = database("look a process start up");
    let Some(created) = created_at(connection, host, process)? else { return Ok(None) };
    let is_it = Predicate::Equals(Field::ProcessEntityId, Value::Text(process.to_string()));
    let condition = Condition::new(&is_it, &[EventType::ProcessStart]);
    let sql = format!(
        "SELECT observed_at, place FROM (
             SELECT observed_at, place, event_type, {} FROM events
             WHERE host_id = ? AND observed_at >= ? AND observed_at < ?
             ORDER BY observed_at, place LIMIT {MAX_SCANNED})
         WHERE {} LIMIT 64",
        Field::ProcessEntityId.column(),
        condition.sql
    );
    let from = created.saturating_sub(SECOND_NS);
    let until = created.saturating_add(60 * SECOND_NS);
    let mut statement = connection.prepare_cached(&sql).map_err(&failed)?;
    let own: [SqlValue; 3] = [host.as_bytes().to_vec().into(), from.into(), until.into()];
    let values = own.into_iter().chain(condition.values);
    let starts: Vec<(i64, i64)> = statement
        .query_map(params_from_iter(values), |row| Ok((row.get(0)?, row.get(1)?)))
        .and_then(Iterator::collect)
        .map_err(&failed)?;
    let before = starts.iter().rev().find(|(at, _)| *at <= around.as_nanos());
    match before.or(starts.first()) {
        Some((_, place)) => by_place(connection, *place),
        None => Ok(None),
    }
}

/// When the process was created, by the wall clock of its host.
fn created_at(connection: &Connection, host: HostId, process: ProcessEntityId) -> Result<Option<i64>> {
    let failed = database("look a process start up");
    let mut statement = connection
        .prepare_cached(
            "SELECT boot_id, clock_offset FROM streams WHERE host_id = ? AND clock_offset IS NOT NULL",
        )
        .map_err(&failed)?;
    let mut rows = statement.query([host.as_bytes()]).map_err(&failed)?;
    while let Some(row) = rows.next().map_err(&failed)? {
        let boot: Vec<u8> = row.get(0).map_err(&failed)?;
        let boot = event_model::BootId::from_slice(&boot).map_err(|_| unreadable("boot_id"))?;
        if process.is_of_boot(boot) {
            let offset: i64 = row.get(1).map_err(&failed)?;
            return Ok(Some(offset.saturating_add(as_i64(process.start_ns()))));
        }
    }
    Ok(None)
}
