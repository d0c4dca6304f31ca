//! Reading alerts.

use std::collections::HashMap;

use event_model::{RuleId, Severity, Timestamp};
use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, Row, params, params_from_iter};

use super::{Columns, Result, as_i64, collect, first, unreadable};
use crate::{
    Alert, AlertDetail, AlertId, AlertNote, AlertQuery, AlertStatus, CloseReason, HourCount, Page, RuleCount,
    SeverityCount, StateError,
};

/// Receipts shown with an alert.
const RESPONSES_SHOWN: i64 = 50;

const HOUR_NS: i64 = 3_600_000_000_000;

const COLUMNS: &str =
    "number, id, time, last_time, host_id, host_name, rule, status, close_reason, assignee, count,
    process";

pub(super) fn alerts(connection: &Connection, query: &AlertQuery) -> Result<Page<Alert>> {
    let doing = "list alerts";
    let limit = query.limit.clamp(1, 500);
    let (condition, mut values) = conditions(query)?;
    let sql =
        format!("SELECT {COLUMNS} FROM alerts WHERE {condition} ORDER BY time DESC, number DESC LIMIT ?");
    values.push(as_i64(limit as u64 + 1).into());
    let mut rows = collect(connection, doing, &sql, params_from_iter(values), |row| {
        Ok((row.count("number")?, read_alert(row)?))
    })?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next_cursor =
        rows.last().filter(|_| more).map(|(number, alert)| format!("{}.{number}", alert.time.as_nanos()));
    let mut items = Vec::with_capacity(rows.len());
    for (_, alert) in rows {
        items.push(with_responses(connection, alert)?);
    }
    Ok(Page { items, next_cursor })
}

/// SQL and the values for its `?`s, in order. Only values come from the query.
fn conditions(query: &AlertQuery) -> Result<(String, Vec<SqlValue>)> {
    let mut sql = vec!["1".to_owned()];
    let mut values: Vec<SqlValue> = Vec::new();
    let mut among = |column: &str, words: Vec<&'static str>| {
        if !words.is_empty() {
            sql.push(format!("{column} IN ({})", vec!["?"; words.len()].join(",")));
            values.extend(words.into_iter().map(|word| SqlValue::from(word.to_owned())));
        }
    };
    among("status", query.status.iter().map(|status| status.as_str()).collect());
    among("severity", query.severity.iter().map(|severity| severity.as_str()).collect());
    let mut add = |condition: &str, value: SqlValue, times: usize| {
        sql.push(condition.to_owned());
        values.extend(std::iter::repeat_n(value, times));
    };
    if let Some(host) = query.host {
        add("host_id = ?", host.as_bytes().to_vec().into(), 1);
    }
    if let Some(rule) = &query.rule {
        add("rule_id = ?", rule.as_str().to_owned().into(), 1);
    }
    if let Some(text) = &query.text {
        let condition = "(instr(lower(rule_name), ?) OR instr(lower(host_name), ?)
            OR instr(lower(executable), ?) OR instr(lower(command_line), ?))";
        add(condition, text.to_ascii_lowercase().into(), 4);
    }
    if let Some(from) = query.from {
        add("time >= ?", from.as_nanos().into(), 1);
    }
    if let Some(until) = query.until {
        add("time < ?", until.as_nanos().into(), 1);
    }
    if let Some(cursor) = &query.cursor {
        let bad = || StateError::Invalid(format!("`{cursor}` is not a cursor"));
        let (time, number) = cursor.split_once('.').ok_or_else(bad)?;
        let time: i64 = time.parse().map_err(|_| bad())?;
        let number: i64 = number.parse().map_err(|_| bad())?;
        // Both are numbers, so writing them out is as safe as binding them.
        sql.push(format!("time <= {time} AND (time < {time} OR number < {number})"));
    }
    Ok((sql.join(" AND "), values))
}

pub(super) fn alert(connection: &Connection, id: AlertId) -> Result<Option<Alert>> {
    let sql = format!("SELECT {COLUMNS} FROM alerts WHERE id = ?");
    let alert = first(connection, "read an alert", &sql, [id.as_uuid().as_bytes()], read_alert)?;
    alert.map(|alert| with_responses(connection, alert)).transpose()
}

pub(super) fn detail(connection: &Connection, id: AlertId) -> Result<Option<AlertDetail>> {
    let doing = "read an alert";
    let key = id.as_uuid().as_bytes();
    let Some(alert) = alert(connection, id)? else { return Ok(None) };
    let sql = "SELECT at, who, text FROM alert_notes WHERE alert_id = ? ORDER BY number";
    let notes = collect(connection, doing, sql, [key], |row| {
        Ok(AlertNote { at: row.time("at")?, by: row.text("who")?, text: row.text("text")? })
    })?;
    let sql = "SELECT event, ancestry, matched FROM alerts WHERE id = ?";
    first(connection, doing, sql, [key], |row| {
        Ok(AlertDetail {
            alert: alert.clone(),
            event: row.json("event")?,
            ancestry: row.json("ancestry")?,
            matched: row.json("matched")?,
            notes: notes.clone(),
            generation: 0,
        })
    })
}

/// The alert as it was told of again that time.
pub(super) fn told(connection: &Connection, id: AlertId, generation: u32) -> Result<Option<AlertDetail>> {
    let Some(mut told) = detail(connection, id)? else { return Ok(None) };
    if generation == 0 {
        return Ok(Some(told));
    }
    let sql = "SELECT time, count, process, event, ancestry, matched FROM alert_repeats
               WHERE alert_id = ? AND generation = ?";
    let values = params![id.as_uuid().as_bytes(), generation];
    let read = |row: &Row<'_>| {
        Ok((
            (row.time("time")?, row.count("count")?, row.json("process")?),
            (row.json("event")?, row.json("ancestry")?, row.json("matched")?),
        ))
    };
    let Some((of_alert, evidence)) = first(connection, "read a repeat", sql, values, read)? else {
        return Ok(None);
    };
    (told.alert.time, told.alert.count, told.alert.process) = of_alert;
    (told.event, told.ancestry, told.matched) = evidence;
    told.generation = generation;
    Ok(Some(told))
}

fn with_responses(connection: &Connection, mut alert: Alert) -> Result<Alert> {
    let sql = "SELECT receipt FROM receipts WHERE alert_id = ? ORDER BY number DESC LIMIT ?";
    let values = params![alert.id.as_uuid().as_bytes(), RESPONSES_SHOWN];
    alert.responses = collect(connection, "read receipts", sql, values, |row| row.json("receipt"))?;
    alert.responses.reverse();
    Ok(alert)
}

fn read_alert(row: &Row<'_>) -> Result<Alert> {
    let close_reason = row.optional_text("close_reason")?;
    Ok(Alert {
        id: AlertId::from_uuid(row.uuid("id")?),
        time: row.time("time")?,
        last_time: row.time("last_time")?,
        host_id: row.host_id("host_id")?,
        host_name: row.text("host_name")?,
        rule: row.json("rule")?,
        status: row.word("status", AlertStatus::from_word)?,
        close_reason: close_reason
            .map(|word| CloseReason::from_word(&word).ok_or_else(|| unreadable("close_reason", word)))
            .transpose()?,
        assignee: row.optional_text("assignee")?,
        count: row.count("count")?,
        process: row.json("process")?,
        responses: Vec::new(),
    })
}

pub(super) fn open_by_severity(connection: &Connection) -> Result<Vec<SeverityCount>> {
    let sql = "SELECT severity, count(*) AS open FROM alerts WHERE status <> 'closed' GROUP BY severity";
    let counts: HashMap<Severity, u64> = collect(connection, "count alerts", sql, (), |row| {
        Ok((row.word("severity", Severity::from_word)?, row.count("open")?))
    })?
    .into_iter()
    .collect();
    let worst_first = Severity::ALL.iter().rev();
    Ok(worst_first
        .map(|&severity| SeverityCount { severity, open: counts.get(&severity).copied().unwrap_or_default() })
        .collect())
}

pub(super) fn per_hour(connection: &Connection, hours: u32, now: Timestamp) -> Result<Vec<HourCount>> {
    let hours = i64::from(hours.clamp(1, 744));
    let last = now.as_nanos().div_euclid(HOUR_NS);
    let first_hour = last - hours + 1;
    let start = |hour: i64| hour.saturating_mul(HOUR_NS);
    let sql =
        "SELECT time / ?1 AS hour, count(*) AS count FROM alerts WHERE time >= ?2 AND time < ?3 GROUP BY 1";
    let values = params![HOUR_NS, start(first_hour), start(last + 1)];
    let counts: HashMap<i64, u64> = collect(connection, "count alerts", sql, values, |row| {
        Ok((row.get("hour").map_err(super::database("hour"))?, row.count("count")?))
    })?
    .into_iter()
    .collect();
    Ok((first_hour..=last)
        .map(|hour| HourCount {
            hour: Timestamp::from_nanos(start(hour)),
            count: counts.get(&hour).copied().unwrap_or_default(),
        })
        .collect())
}

pub(super) fn by_rule(connection: &Connection, since: Timestamp, limit: usize) -> Result<Vec<RuleCount>> {
    // With max(), SQLite takes the other columns from the row that has the maximum: the latest name.
    let sql = "SELECT rule_id, rule_name, count(*) AS count, max(time) FROM alerts WHERE time >= ?
               GROUP BY rule_id ORDER BY count DESC, rule_id LIMIT ?";
    let values = params![since.as_nanos(), as_i64(limit as u64)];
    collect(connection, "count alerts", sql, values, |row| {
        Ok(RuleCount {
            rule_id: RuleId::new(row.text("rule_id")?),
            name: row.text("rule_name")?,
            count: row.count("count")?,
        })
    })
}
