//! Counts over time, and gaps.

use std::collections::BTreeMap;
use std::time::Duration;

use event_model::{EventType, HostId, Timestamp};
use rusqlite::{Connection, params};

use super::columns::as_i64;
use super::search::{by_place, hosts};
use super::{Result, database};
use crate::{GapPage, GapQuery, GapTotals, HistogramBucket};

pub(super) const MINUTE_NS: i64 = 60_000_000_000;

/// More spans than any picture has room for.
const MAX_SPANS: i64 = 10_000;

pub(super) fn minute_of(time: Timestamp) -> i64 {
    time.as_nanos().div_euclid(MINUTE_NS)
}

pub(super) fn histogram(
    connection: &Connection,
    from: Timestamp,
    until: Timestamp,
    width: Duration,
    host: Option<HostId>,
    event_types: &[EventType],
) -> Result<Vec<HistogramBucket>> {
    if until <= from {
        return Ok(Vec::new());
    }
    let until = until.as_nanos();
    let mut width = i64::try_from(width.as_nanos()).unwrap_or(i64::MAX).max(1);
    // From end to end of time is more than an i64 holds.
    let span = i128::from(until) - i128::from(from.as_nanos());
    width = width.max(i64::try_from(span / i128::from(MAX_SPANS) + 1).unwrap_or(i64::MAX));
    let (from, counts) = if width < MINUTE_NS {
        (from.as_nanos(), counts_of_events(connection, from.as_nanos(), until, width, host, event_types)?)
    } else {
        width = width.saturating_add(MINUTE_NS - 1).div_euclid(MINUTE_NS).saturating_mul(MINUTE_NS);
        let from = minute_of(from).saturating_mul(MINUTE_NS);
        (from, counts_of_minutes(connection, from, until, width, host, event_types)?)
    };
    let mut buckets = Vec::new();
    let mut start = Some(from);
    for place in 0.. {
        let Some(time) = start.filter(|start| *start < until) else { break };
        let count = counts.get(&place).copied().unwrap_or_default();
        buckets.push(HistogramBucket { start: Timestamp::from_nanos(time), count });
        start = time.checked_add(width);
    }
    Ok(buckets)
}

/// From the counts by minute: a row for each minute, host and type.
fn counts_of_minutes(
    connection: &Connection,
    from: i64,
    until: i64,
    width: i64,
    host: Option<HostId>,
    event_types: &[EventType],
) -> Result<BTreeMap<i64, u64>> {
    let failed = database("count events");
    let sql = format!(
        "SELECT (minute - ?1) / ?2, sum(count) FROM minute_counts
         WHERE minute >= ?1 AND minute <= ?3 AND (?4 IS NULL OR host_id = ?4) AND {} GROUP BY 1",
        type_condition(event_types)
    );
    let mut statement = connection.prepare_cached(&sql).map_err(&failed)?;
    let last = until.saturating_sub(1).div_euclid(MINUTE_NS);
    let values = params![
        from.div_euclid(MINUTE_NS),
        width / MINUTE_NS,
        last,
        host.map(|host| host.as_bytes().to_vec())
    ];
    let counts = statement.query_map(values, |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())));
    counts.and_then(Iterator::collect).map_err(&failed)
}

/// Spans of less than a minute are counted from the events themselves. They are
/// many only over a short time, so few events are touched.
fn counts_of_events(
    connection: &Connection,
    from: i64,
    until: i64,
    width: i64,
    host: Option<HostId>,
    event_types: &[EventType],
) -> Result<BTreeMap<i64, u64>> {
    let failed = database("count events");
    let sql = format!(
        "SELECT (observed_at - ?1) / ?2, count(*) FROM events
         WHERE host_id = ?3 AND observed_at >= ?1 AND observed_at < ?4 AND {} GROUP BY 1",
        type_condition(event_types)
    );
    let hosts = match host {
        Some(host) => vec![host],
        None => hosts(connection)?,
    };
    let mut sums = BTreeMap::new();
    let mut statement = connection.prepare_cached(&sql).map_err(&failed)?;
    for host in hosts {
        let mut rows = statement.query(params![from, width, host.as_bytes(), until]).map_err(&failed)?;
        while let Some(row) = rows.next().map_err(&failed)? {
            let count: i64 = row.get(1).map_err(&failed)?;
            *sums.entry(row.get(0).map_err(&failed)?).or_default() += count.unsigned_abs();
        }
    }
    Ok(sums)
}

fn type_condition(event_types: &[EventType]) -> String {
    if event_types.is_empty() {
        return "1".to_owned();
    }
    let numbers: Vec<String> = event_types.iter().map(|kind| kind.number().to_string()).collect();
    format!("event_type IN ({})", numbers.join(","))
}

pub(super) fn gaps_between(connection: &Connection, query: &GapQuery) -> Result<GapPage> {
    // Gaps are few among the events, so they come first in the join.
    const FOUND: &str = "FROM gaps CROSS JOIN events ON events.place = gaps.event
        WHERE until_at >= ?1 AND from_at < ?2 AND (?3 IS NULL OR gaps.host_id = ?3)
            AND observed_at >= ?4 AND observed_at < ?5";
    let failed = database("look gaps up");
    let nanos = |time: Option<Timestamp>, or| time.map_or(or, Timestamp::as_nanos);
    let (from, until) = (query.from.as_nanos(), query.until.as_nanos());
    let host = query.host.map(|host| host.as_bytes().to_vec());
    let observed = (nanos(query.observed_from, i64::MIN), nanos(query.observed_until, i64::MAX));
    let limit = query.limit.clamp(1, 1_000);

    let sql = format!("SELECT event {FOUND} ORDER BY observed_at DESC, event DESC LIMIT ?6");
    let mut statement = connection.prepare_cached(&sql).map_err(&failed)?;
    let values = params![from, until, host, observed.0, observed.1, as_i64(limit as u64)];
    let places: Vec<i64> =
        statement.query_map(values, |row| row.get(0)).and_then(Iterator::collect).map_err(&failed)?;
    let mut in_all = places.len() as u64;
    if places.len() == limit {
        let sql = format!("SELECT count(*) {FOUND}");
        let values = params![from, until, host, observed.0, observed.1];
        let count: i64 = connection.query_row(&sql, values, |row| row.get(0)).map_err(&failed)?;
        in_all = count.unsigned_abs();
    }
    let mut gaps = Vec::with_capacity(places.len());
    for place in places {
        gaps.extend(by_place(connection, place)?);
    }
    Ok(GapPage { gaps, in_all })
}

pub(super) fn gap_totals(
    connection: &Connection,
    host: Option<HostId>,
    from: Timestamp,
    until: Timestamp,
) -> Result<GapTotals> {
    // total() gives a float: a sum past 2^63, which only a lying agent can make, is no error.
    let sql = "SELECT count(*), total(lost), count(*) - count(lost) FROM gaps
               WHERE until_at >= ?1 AND from_at < ?2 AND (?3 IS NULL OR host_id = ?3)";
    let host = host.map(|host| host.as_bytes().to_vec());
    connection
        .query_row(sql, params![from.as_nanos(), until.as_nanos(), host], |row| {
            Ok(GapTotals {
                gaps: row.get::<_, i64>(0)?.unsigned_abs(),
                lost: row.get::<_, f64>(1)? as u64,
                of_unknown_size: row.get::<_, i64>(2)?.unsigned_abs(),
            })
        })
        .map_err(database("count gaps"))
}
