//! Settings, counters, audit log, outbox.

use event_model::Timestamp;
use rusqlite::{Connection, params};

use super::{Columns, Result, SqliteStateStore, as_i64, collect, execute, first};
use crate::{ActivityStore, AuditEntry, AuditRow, OutboxRow, Page, RefusedCount, Retention, StateError};

/// Rows that the outbox keeps.
const OUTBOX_ROWS: i64 = 10_000;

const EVENTS_DAYS: &str = "events_retention_days";
const ALERTS_DAYS: &str = "alerts_retention_days";

impl ActivityStore for SqliteStateStore {
    fn setting(&self, key: &str) -> Result<Option<String>> {
        self.read("read a setting", |transaction| setting(transaction, key))
    }

    fn set_setting(&self, key: &str, value: &str) -> Result<()> {
        self.write("set a setting", |transaction| set_setting(transaction, key, value))
    }

    fn retention(&self) -> Result<Retention> {
        self.read("read a setting", |transaction| {
            let standard = Retention::default();
            let days = |key, otherwise| -> Result<u32> {
                let text = setting(transaction, key)?;
                Ok(text.and_then(|text| text.parse().ok()).unwrap_or(otherwise))
            };
            Ok(Retention {
                events_days: days(EVENTS_DAYS, standard.events_days)?,
                alerts_days: days(ALERTS_DAYS, standard.alerts_days)?,
            })
        })
    }

    fn set_retention(&self, retention: Retention) -> Result<()> {
        let both = [(EVENTS_DAYS, retention.events_days), (ALERTS_DAYS, retention.alerts_days)];
        if let Some((key, days)) = both.iter().find(|(_, days)| !(1..=3_650).contains(days)) {
            return Err(StateError::Invalid(format!("`{key}` is {days}; allowed are 1 to 3650 days")));
        }
        self.write("set a setting", |transaction| {
            both.iter().try_for_each(|(key, days)| set_setting(transaction, key, &days.to_string()))
        })
    }

    fn count_refused(&self, counts: &[(&str, u64)], now: Timestamp) -> Result<()> {
        if counts.iter().all(|(_, count)| *count == 0) {
            return Ok(());
        }
        self.write("count refused input", |transaction| {
            let sql = "INSERT INTO refused (kind, count, last_at) VALUES (?, ?, ?)
                       ON CONFLICT DO UPDATE SET count = count + excluded.count, last_at = excluded.last_at";
            for (kind, count) in counts.iter().filter(|(_, count)| *count > 0) {
                let values = params![kind, as_i64(*count), now.as_nanos()];
                execute(transaction, "count refused input", sql, values)?;
            }
            Ok(())
        })
    }

    fn refused(&self) -> Result<Vec<RefusedCount>> {
        let doing = "read the counters of refused input";
        self.read(doing, |transaction| {
            collect(transaction, doing, "SELECT * FROM refused ORDER BY kind", (), |row| {
                Ok(RefusedCount {
                    kind: row.text("kind")?,
                    count: row.count("count")?,
                    last_at: row.time("last_at")?,
                })
            })
        })
    }

    fn append_audit(&self, entry: &AuditEntry, now: Timestamp) -> Result<()> {
        let doing = "append to the audit log";
        self.write(doing, |transaction| {
            let sql = "INSERT INTO audit (at, who, what, subject, detail, address) VALUES (?, ?, ?, ?, ?, ?)";
            let AuditEntry { who, what, subject, detail, address } = entry;
            execute(transaction, doing, sql, params![now.as_nanos(), who, what, subject, detail, address])
                .map(|_| ())
        })
    }

    fn audit(&self, cursor: Option<&str>, limit: usize) -> Result<Page<AuditRow>> {
        let doing = "read the audit log";
        let limit = limit.clamp(1, 500);
        let before: i64 = match cursor {
            None => i64::MAX,
            Some(cursor) => {
                cursor.parse().map_err(|_| StateError::Invalid(format!("`{cursor}` is not a cursor")))?
            }
        };
        let mut items = self.read(doing, |transaction| {
            let sql = "SELECT * FROM audit WHERE sequence < ? ORDER BY sequence DESC LIMIT ?";
            collect(transaction, doing, sql, params![before, as_i64(limit as u64 + 1)], |row| {
                Ok(AuditRow {
                    sequence: row.count("sequence")?,
                    at: row.time("at")?,
                    who: row.text("who")?,
                    what: row.text("what")?,
                    subject: row.text("subject")?,
                    detail: row.text("detail")?,
                    address: row.text("address")?,
                })
            })
        })?;
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items.last().filter(|_| more).map(|row| row.sequence.to_string());
        Ok(Page { items, next_cursor })
    }

    fn outbox(&self, limit: usize) -> Result<Vec<OutboxRow>> {
        self.read("read the outbox", |transaction| {
            let sql = "SELECT * FROM outbox ORDER BY sequence LIMIT ?";
            collect(transaction, "read the outbox", sql, [as_i64(limit as u64)], |row| {
                Ok(OutboxRow {
                    sequence: row.count("sequence")?,
                    topic: row.text("topic")?,
                    payload: row.text("payload")?,
                    created_at: row.time("created_at")?,
                })
            })
        })
    }

    fn clear_outbox(&self, through: u64) -> Result<()> {
        let doing = "clear the outbox";
        self.write(doing, |transaction| {
            let sql = "DELETE FROM outbox WHERE sequence <= ?";
            execute(transaction, doing, sql, [as_i64(through)]).map(|_| ())
        })
    }
}

/// In the caller's transaction: the message is there exactly if its reason is.
pub(super) fn post(connection: &Connection, topic: &str, payload: &str, now: Timestamp) -> Result<()> {
    let doing = "write to the outbox";
    let sql = "INSERT INTO outbox (topic, payload, created_at) VALUES (?, ?, ?)";
    execute(connection, doing, sql, params![topic, payload, now.as_nanos()])?;
    let newest = connection.last_insert_rowid();
    let gone = execute(connection, doing, "DELETE FROM outbox WHERE sequence <= ?", [newest - OUTBOX_ROWS])?;
    if gone > 0 {
        // The alert itself is kept; that nobody was told must not be silent.
        let sql = "INSERT INTO refused (kind, count, last_at) VALUES ('alert_not_published', ?, ?)
                   ON CONFLICT DO UPDATE SET count = count + excluded.count, last_at = excluded.last_at";
        execute(connection, doing, sql, params![as_i64(gone as u64), now.as_nanos()])?;
    }
    Ok(())
}

fn setting(connection: &Connection, key: &str) -> Result<Option<String>> {
    let sql = "SELECT value FROM settings WHERE key = ?";
    first(connection, "read a setting", sql, [key], |row| row.text("value"))
}

fn set_setting(connection: &Connection, key: &str, value: &str) -> Result<()> {
    let sql = "INSERT INTO settings (key, value) VALUES (?, ?)
               ON CONFLICT DO UPDATE SET value = excluded.value";
    execute(connection, "set a setting", sql, params![key, value]).map(|_| ())
}
