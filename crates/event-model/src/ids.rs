//! Ids are types: a host id can't be passed where a boot id is wanted.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use crate::Timestamp;

/// The text is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {wanted}")]
pub struct ParseIdError {
    text: String,
    wanted: &'static str,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $wanted:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// From a UUID.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID itself.
            pub const fn as_uuid(&self) -> &Uuid {
                &self.0
            }

            /// The sixteen bytes, as they go over the wire and into a column.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// From exactly sixteen bytes.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, ParseIdError> {
                Uuid::from_slice(bytes).map(Self).map_err(|_| ParseIdError {
                    text: format!("{} bytes", bytes.len()),
                    wanted: $wanted,
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text)
                    .map(Self)
                    .map_err(|_| ParseIdError { text: text.to_owned(), wanted: $wanted })
            }
        }
    };
}

uuid_id!(
    /// A host, for as long as it is enrolled. Drawn by the server at enrolment.
    HostId,
    "a host id (a UUID)"
);
uuid_id!(
    /// One boot of a host; on Linux the kernel's `/proc/sys/kernel/random/boot_id`.
    BootId,
    "a boot id (a UUID)"
);
uuid_id!(
    /// One record. Made from its place (host, boot, sequence) and its time, so
    /// that making it again gives the same id.
    EventId,
    "an event id (a UUID)"
);
uuid_id!(
    /// One match of one rule on one event; the same event and rule give the same id.
    DetectionId,
    "a detection id (a UUID)"
);

/// Namespace for ids that are derived from others (drawn once, at random).
const DERIVED: Uuid = Uuid::from_u128(0x6c1b_62f4_3d0a_4c27_9b7e_52a1_c80d_e31f);

impl EventId {
    /// The id of the record at `sequence`. Its first 48 bits are the
    /// milliseconds of `observed_at` (the layout of UUIDv7, RFC 9562 section
    /// 5.7), so a store that is ordered by time finds a record by its id alone.
    pub fn of_record(host: HostId, boot: BootId, sequence: u64, observed_at: Timestamp) -> Self {
        let mut place = Vec::with_capacity(40);
        place.extend_from_slice(host.as_bytes());
        place.extend_from_slice(boot.as_bytes());
        place.extend_from_slice(&sequence.to_be_bytes());
        let digest = Uuid::new_v5(&DERIVED, &place);
        let mut bytes = *digest.as_bytes();
        let millis = observed_at.as_millis().clamp(0, (1 << 48) - 1).unsigned_abs();
        bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
        bytes[6] = (bytes[6] & 0x0f) | 0x70;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(Uuid::from_bytes(bytes))
    }

    /// The millisecond of the record's observed time.
    pub fn observed_millis(&self) -> i64 {
        let mut bytes = [0; 8];
        bytes[2..].copy_from_slice(&self.0.as_bytes()[..6]);
        i64::from_be_bytes(bytes)
    }
}

impl DetectionId {
    /// The id for a match of `rule` on `event`.
    pub fn of_match(event: EventId, rule: &RuleId) -> Self {
        let mut place = Vec::with_capacity(16 + rule.as_str().len());
        place.extend_from_slice(event.as_bytes());
        place.extend_from_slice(rule.as_str().as_bytes());
        Self(Uuid::new_v5(&DERIVED, &place))
    }
}

/// The id of a rule: a number in the seed's rules, a UUID in Sigma's; kept as text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RuleId(String);

impl RuleId {
    /// From its text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One life of one process. A PID alone is reused within seconds on a busy
/// host; with the start time in nanoseconds and the boot it never is.
///
/// Its text is `BBBBBBBB-PID-START`: the first eight hex digits of the boot id,
/// the PID, and the start time in nanoseconds since boot, the last two in
/// decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessEntityId {
    boot_prefix: u32,
    pid: u32,
    start_ns: u64,
}

impl ProcessEntityId {
    /// The process `pid` that started `start_ns` nanoseconds after the boot.
    pub fn new(boot: BootId, pid: u32, start_ns: u64) -> Self {
        let [a, b, c, d, ..] = *boot.as_bytes();
        Self { boot_prefix: u32::from_be_bytes([a, b, c, d]), pid, start_ns }
    }

    /// The PID (thread group id).
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Start time in nanoseconds since the boot, suspend included.
    pub fn start_ns(&self) -> u64 {
        self.start_ns
    }

    /// True if the id was made in that boot.
    pub fn is_of_boot(&self, boot: BootId) -> bool {
        Self::new(boot, self.pid, self.start_ns) == *self
    }

    /// Its one text: boot prefix in hexadecimal digits, PID and start, as in `1a2b3c4d-123-4567`. Every event has
    /// two of them, so they are put together by hand, without the machinery of formatting.
    pub fn to_text(&self) -> String {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = String::with_capacity(40);
        for place in (0..8).rev() {
            text.push(HEX[(self.boot_prefix >> (4 * place) & 15) as usize].into());
        }
        text.push('-');
        text.push_str(&self.pid.to_string());
        text.push('-');
        text.push_str(&self.start_ns.to_string());
        text
    }
}

impl fmt::Display for ProcessEntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.to_text())
    }
}

impl FromStr for ProcessEntityId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseIdError {
            text: text.to_owned(),
            wanted: "a process entity id (boot prefix, PID and start, as in `1a2b3c4d-123-4567`)",
        };
        let mut parts = text.splitn(3, '-');
        let (Some(boot), Some(pid), Some(start)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(bad());
        };
        let id = Self {
            boot_prefix: u32::from_str_radix(boot, 16).map_err(|_| bad())?,
            pid: pid.parse().map_err(|_| bad())?,
            start_ns: start.parse().map_err(|_| bad())?,
        };
        // `+1`, leading zeros and capitals would give one process two texts.
        if id.to_string() == text { Ok(id) } else { Err(bad()) }
    }
}

impl Serialize for ProcessEntityId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ProcessEntityId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot() -> BootId {
        "1a2b3c4d-0000-4000-8000-000000000001".parse().expect("a UUID")
    }

    #[test]
    fn entity_id_has_one_text() {
        let id = ProcessEntityId::new(boot(), 4711, 98_765_432_101);
        assert_eq!(id.to_string(), "1a2b3c4d-4711-98765432101");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(id.is_of_boot(boot()));
        for bad in ["", "1a2b3c4d-4711", "1A2B3C4D-1-1", "1a2b3c4d-+1-1", "1a2b3c4d-1-01", "x-1-1"] {
            assert!(bad.parse::<ProcessEntityId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn event_id_is_stable_and_tells_its_time() {
        let host = HostId::from_uuid(Uuid::from_u128(7));
        let at = Timestamp::from_nanos(1_795_000_000_123_456_789);
        let id = EventId::of_record(host, boot(), 9, at);
        assert_eq!(id, EventId::of_record(host, boot(), 9, at));
        assert_ne!(id, EventId::of_record(host, boot(), 10, at));
        assert_eq!(id.observed_millis(), at.as_millis());
        assert_eq!(id.as_uuid().get_version_num(), 7);
    }
}
