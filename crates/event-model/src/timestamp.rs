//! Wall-clock time in nanoseconds, as it appears in events.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Nanoseconds since the Unix epoch, UTC. Reaches from 1677 to 2262.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From nanoseconds since the Unix epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Milliseconds since the Unix epoch, rounded down.
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with nanoseconds, for example `2026-11-21T20:15:03.000000042Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(time) => write!(f, "{time:.9}"),
            // Unreachable: jiff covers the years -9999 to 9999. A number is still
            // better in a log than a panic.
            Err(_) => write!(f, "{}ns", self.0),
        }
    }
}

/// The text is not a time in RFC 3339, or lies outside the years 1677 to 2262.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time in RFC 3339, for example `2026-11-21T20:15:03Z`")]
pub struct ParseTimestampError(String);

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseTimestampError(text.to_owned());
        let time: jiff::Timestamp = text.parse().map_err(|_| bad())?;
        i64::try_from(time.as_nanosecond()).map(Self).map_err(|_| bad())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_keeps_every_nanosecond() {
        for nanos in [0, 42, -1, 1_795_000_000_123_456_789, i64::MAX, i64::MIN] {
            let time = Timestamp::from_nanos(nanos);
            assert_eq!(time.to_string().parse(), Ok(time));
        }
        assert_eq!(Timestamp::from_nanos(42).to_string(), "1970-01-01T00:00:00.000000042Z");
    }

    #[test]
    fn bad_text_is_refused_with_an_example() {
        let error = "yesterday".parse::<Timestamp>().expect_err("not a time");
        assert!(error.to_string().contains("2026-11-21T20:15:03Z"));
        assert!("+9000-01-01T00:00:00Z".parse::<Timestamp>().is_err());
    }
}
