//! Between events and rows.

use std::sync::OnceLock;

use event_model::{BootId, EventHeader, EventRecord, EventType, Field, HostId, Timestamp, Value, ValueKind};
use rusqlite::types::ValueRef as SqlValue;
use rusqlite::{Row, Statement};

use crate::EventStoreError;

/// Columns before those of the fields, in the order of both statements below.
const HEADER_COLUMNS: usize = 6;

/// Puts one event in: header first, then every field in the order of the table.
pub(super) fn insert_sql() -> &'static str {
    static SQL: OnceLock<String> = OnceLock::new();
    SQL.get_or_init(|| {
        let places = vec!["?"; HEADER_COLUMNS + Field::ALL.len()].join(",");
        format!("INSERT INTO events ({}) VALUES ({places})", columns())
    })
}

/// Reads one event by its place, with the columns of [`insert_sql`].
pub(super) fn select_sql() -> &'static str {
    static SQL: OnceLock<String> = OnceLock::new();
    SQL.get_or_init(|| format!("SELECT {} FROM events WHERE place = ?", columns()))
}

fn columns() -> String {
    let fields: String = Field::ALL.iter().map(|field| format!(",{}", field.column())).collect();
    format!("host_id,boot_id,sequence,observed_at,monotonic_ns,event_type{fields}")
}

/// Runs [`insert_sql`] for an event.
pub(super) fn insert(statement: &mut Statement<'_>, event: &EventRecord) -> rusqlite::Result<()> {
    // Fields that this event does not have stay NULL.
    statement.clear_bindings();
    let header = &event.header;
    statement.raw_bind_parameter(1, header.host_id.as_bytes())?;
    statement.raw_bind_parameter(2, header.boot_id.as_bytes())?;
    statement.raw_bind_parameter(3, as_i64(header.sequence))?;
    statement.raw_bind_parameter(4, header.observed_at.as_nanos())?;
    statement.raw_bind_parameter(5, as_i64(header.monotonic_ns))?;
    statement.raw_bind_parameter(6, event.event_type.number())?;
    let mut place = 0;
    for (field, value) in event.fields() {
        // Both are in the order of the table, so one walk finds every column.
        while Field::ALL[place] != field {
            place += 1;
        }
        let parameter = HEADER_COLUMNS + 1 + place;
        match value {
            Value::Text(text) => statement.raw_bind_parameter(parameter, text.as_str())?,
            Value::Integer(number) => statement.raw_bind_parameter(parameter, number)?,
            Value::Boolean(truth) => statement.raw_bind_parameter(parameter, truth)?,
            Value::Time(time) => statement.raw_bind_parameter(parameter, time.as_nanos())?,
            Value::TextList(list) => {
                let json = serde_json::Value::from(list.as_slice()).to_string();
                statement.raw_bind_parameter(parameter, json)?;
            }
        }
    }
    statement.raw_execute().map(|_| ())
}

/// The event in a row of [`select_sql`].
pub(super) fn read(row: &Row<'_>) -> Result<EventRecord, EventStoreError> {
    let header = EventHeader {
        host_id: HostId::from_slice(&blob(row, 0)?).map_err(|_| unreadable("host_id"))?,
        boot_id: BootId::from_slice(&blob(row, 1)?).map_err(|_| unreadable("boot_id"))?,
        sequence: number(row, 2)?.unsigned_abs(),
        observed_at: Timestamp::from_nanos(number(row, 3)?),
        monotonic_ns: number(row, 4)?.unsigned_abs(),
    };
    let event_type = u32::try_from(number(row, 5)?).ok().and_then(EventType::from_number);
    let event_type = event_type.ok_or_else(|| unreadable("event_type"))?;
    let mut fields = Vec::with_capacity(40);
    for (place, &field) in Field::ALL.iter().enumerate() {
        let stored = row.get_ref(HEADER_COLUMNS + place).map_err(|_| unreadable(field.spec().ecs))?;
        if stored != SqlValue::Null {
            let value = value(field, stored).ok_or_else(|| unreadable(field.spec().ecs))?;
            fields.push((field, value));
        }
    }
    Ok(EventRecord::from_fields(header, event_type, fields))
}

fn value(field: Field, stored: SqlValue<'_>) -> Option<Value> {
    Some(match field.spec().kind {
        ValueKind::Text => Value::Text(stored.as_str().ok()?.to_owned()),
        ValueKind::Integer => Value::Integer(stored.as_i64().ok()?),
        ValueKind::Boolean => Value::Boolean(stored.as_i64().ok()? != 0),
        ValueKind::Time => Value::Time(Timestamp::from_nanos(stored.as_i64().ok()?)),
        ValueKind::TextList => Value::TextList(serde_json::from_str(stored.as_str().ok()?).ok()?),
    })
}

/// Numbers beyond 2^63 stand at the largest value; no clock or counter gets there.
pub(super) fn as_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn number(row: &Row<'_>, column: usize) -> Result<i64, EventStoreError> {
    row.get(column).map_err(|_| unreadable("an event's header"))
}

fn blob(row: &Row<'_>, column: usize) -> Result<Vec<u8>, EventStoreError> {
    row.get(column).map_err(|_| unreadable("an event's header"))
}

pub(super) fn unreadable(column: &str) -> EventStoreError {
    EventStoreError::UnreadableValue { what: format!("column {column} of events") }
}
