//! The value of a field.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// What kind of value a field has. Every event that carries the field has a
/// value of this kind; anything else is refused where it enters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueKind {
    /// Text.
    Text,
    /// A signed 64-bit number.
    Integer,
    /// True or false.
    Boolean,
    /// Several texts in order.
    TextList,
    /// A wall-clock time.
    Time,
}

/// An owned value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A signed 64-bit number.
    Integer(i64),
    /// True or false.
    Boolean(bool),
    /// Several texts in order.
    TextList(Vec<String>),
    /// A wall-clock time.
    Time(Timestamp),
}

/// A borrowed value, as rules see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueRef<'a> {
    /// Text; owned where it has to be put together first (an id, a number).
    Text(Cow<'a, str>),
    /// A signed 64-bit number.
    Integer(i64),
    /// True or false.
    Boolean(bool),
    /// Several texts in order.
    TextList(&'a [String]),
    /// A wall-clock time.
    Time(Timestamp),
}

impl Value {
    /// Its kind.
    pub fn kind(&self) -> ValueKind {
        self.as_ref().kind()
    }

    /// A borrow of it.
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Self::Text(text) => ValueRef::Text(Cow::Borrowed(text)),
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Boolean(truth) => ValueRef::Boolean(*truth),
            Self::TextList(list) => ValueRef::TextList(list),
            Self::Time(time) => ValueRef::Time(*time),
        }
    }
}

impl ValueRef<'_> {
    /// Its kind.
    pub fn kind(&self) -> ValueKind {
        match self {
            Self::Text(_) => ValueKind::Text,
            Self::Integer(_) => ValueKind::Integer,
            Self::Boolean(_) => ValueKind::Boolean,
            Self::TextList(_) => ValueKind::TextList,
            Self::Time(_) => ValueKind::Time,
        }
    }

    /// An owned copy.
    pub fn to_owned(&self) -> Value {
        match self {
            Self::Text(text) => Value::Text(text.clone().into_owned()),
            Self::Integer(number) => Value::Integer(*number),
            Self::Boolean(truth) => Value::Boolean(*truth),
            Self::TextList(list) => Value::TextList(list.to_vec()),
            Self::Time(time) => Value::Time(*time),
        }
    }

    /// As JSON: times in RFC 3339, lists as arrays.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Text(text) => serde_json::Value::from(text.as_ref()),
            Self::Integer(number) => serde_json::Value::from(*number),
            Self::Boolean(truth) => serde_json::Value::from(*truth),
            Self::TextList(list) => serde_json::Value::from(*list),
            Self::Time(time) => serde_json::Value::from(time.to_string()),
        }
    }
}
