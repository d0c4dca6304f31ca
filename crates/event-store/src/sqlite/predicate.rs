//! From the typed tree to SQL. Column names come from the table of fields and
//! nothing else; every value is bound.

use event_model::{Field, Value, ValueKind};
use rusqlite::types::Value as SqlValue;

use crate::Predicate;

/// An SQL expression that is 0 or 1 for every row, and the values for its `?`s in order.
#[derive(Debug, Default)]
pub(super) struct Condition {
    pub(super) sql: String,
    pub(super) values: Vec<SqlValue>,
}

impl Condition {
    /// The predicate, and the event's type among these (any, if there are none).
    pub(super) fn new(predicate: &Predicate, event_types: &[event_model::EventType]) -> Self {
        let mut condition = Self::default();
        if !event_types.is_empty() {
            let numbers: Vec<String> = event_types.iter().map(|kind| kind.number().to_string()).collect();
            condition.sql.push_str(&format!("event_type IN ({}) AND ", numbers.join(",")));
        }
        condition.add(predicate);
        condition
    }

    fn add(&mut self, predicate: &Predicate) {
        match predicate {
            Predicate::All(inner) => self.join(inner, " AND ", "1"),
            Predicate::Any(inner) => self.join(inner, " OR ", "0"),
            Predicate::Not(inner) => {
                self.sql.push_str("NOT ");
                self.add(inner);
            }
            Predicate::Present(field) => self.sql.push_str(&format!("({} IS NOT NULL)", field.column())),
            Predicate::Contains(field, part) => self.contains(*field, part),
            Predicate::Equals(field, value) => self.equals(*field, value),
        }
    }

    fn join(&mut self, inner: &[Predicate], between: &str, none: &str) {
        self.sql.push('(');
        for (place, predicate) in inner.iter().enumerate() {
            if place > 0 {
                self.sql.push_str(between);
            }
            self.add(predicate);
        }
        if inner.is_empty() {
            self.sql.push_str(none);
        }
        self.sql.push(')');
    }

    // An absent field is NULL, and NULL would spread through NOT: `coalesce` ends it here.

    fn contains(&mut self, field: Field, part: &str) {
        let column = field.column();
        let sql = match field.spec().kind {
            // SQLite's lower() changes ASCII letters only, like the engine's comparison.
            ValueKind::Text => format!("coalesce(instr(lower({column}), ?) > 0, 0)"),
            ValueKind::TextList => {
                format!("EXISTS (SELECT 1 FROM json_each({column}) WHERE instr(lower(value), ?) > 0)")
            }
            _ => return self.sql.push('0'),
        };
        self.sql.push_str(&sql);
        self.values.push(SqlValue::Text(part.to_ascii_lowercase()));
    }

    fn equals(&mut self, field: Field, value: &Value) {
        let column = field.column();
        let (sql, value) = match (field.spec().kind, value) {
            (ValueKind::Text, Value::Text(text)) => {
                (format!("coalesce({column} = ? COLLATE NOCASE, 0)"), SqlValue::Text(text.clone()))
            }
            (ValueKind::TextList, Value::Text(text)) => (
                format!("EXISTS (SELECT 1 FROM json_each({column}) WHERE value = ? COLLATE NOCASE)"),
                SqlValue::Text(text.clone()),
            ),
            (ValueKind::TextList, Value::TextList(list)) => (
                format!("coalesce({column} = ?, 0)"),
                SqlValue::Text(serde_json::Value::from(list.as_slice()).to_string()),
            ),
            (ValueKind::Integer, Value::Integer(number)) => {
                (format!("coalesce({column} = ?, 0)"), SqlValue::Integer(*number))
            }
            (ValueKind::Boolean, Value::Boolean(truth)) => {
                (format!("coalesce({column} = ?, 0)"), SqlValue::Integer(i64::from(*truth)))
            }
            (ValueKind::Time, Value::Time(time)) => {
                (format!("coalesce({column} = ?, 0)"), SqlValue::Integer(time.as_nanos()))
            }
            _ => return self.sql.push('0'),
        };
        self.sql.push_str(&sql);
        self.values.push(value);
    }
}
