//! Values as something else than text: quantities, times, addresses.

use std::net::IpAddr;

use event_model::Timestamp;

use crate::event::StoredKind;

/// The number that a value is; a text may be one.
#[expect(clippy::cast_precision_loss, reason = "whole numbers past 2^53 compare as their nearest double")]
pub(super) fn quantity(kind: StoredKind, text: &str) -> Option<f64> {
    match kind {
        StoredKind::Integer(number) => Some(number as f64),
        StoredKind::Float(number) => Some(number),
        StoredKind::Text => text.trim().parse().ok().filter(|number: &f64| !number.is_nan()),
        StoredKind::Null | StoredKind::Boolean(_) | StoredKind::Time(_) => None,
    }
}

/// The time that a value is. A text may be one in RFC 3339, the same without a zone (as Sysmon writes `UtcTime`)
/// or an epoch number, as the reader of logs takes them for the time of an event.
pub(super) fn time(kind: StoredKind, text: &str) -> Option<Timestamp> {
    match kind {
        StoredKind::Time(time) => Some(time),
        StoredKind::Integer(number) => epoch_time(number),
        StoredKind::Float(_) | StoredKind::Text => {
            let text = text.trim();
            if text.len() > 64 {
                return None;
            }
            let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
            text.parse()
                .ok()
                .or_else(|| format!("{text}Z").parse().ok())
                .or_else(|| whole.parse().ok().and_then(epoch_time))
        }
        StoredKind::Null | StoredKind::Boolean(_) => None,
    }
}

/// Seconds, milliseconds, microseconds or nanoseconds since 1970: each unit's numbers for the years 1973 to 5138
/// don't overlap with the next's.
fn epoch_time(number: i64) -> Option<Timestamp> {
    let nanos_per_unit = match number {
        100_000_000..100_000_000_000 => 1_000_000_000,
        100_000_000_000..100_000_000_000_000 => 1_000_000,
        100_000_000_000_000..100_000_000_000_000_000 => 1_000,
        100_000_000_000_000_000.. => 1,
        _ => return None,
    };
    number.checked_mul(nanos_per_unit).map(Timestamp::from_nanos)
}

/// A part of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimeUnit {
    Minute,
    Hour,
    /// Of the month.
    Day,
    /// Of the year, by ISO 8601.
    Week,
    Month,
    Year,
}

impl TimeUnit {
    pub(super) fn of(self, time: Timestamp) -> i64 {
        let seconds = time.as_nanos().div_euclid(1_000_000_000);
        let day = seconds.div_euclid(86_400);
        let second_of_day = seconds.rem_euclid(86_400);
        let (year, month, day_of_month) = civil(day);
        match self {
            Self::Minute => second_of_day / 60 % 60,
            Self::Hour => second_of_day / 3_600,
            Self::Day => day_of_month,
            Self::Week => iso_week(day),
            Self::Month => month,
            Self::Year => year,
        }
    }
}

/// Year, month and day of a day since 1970-01-01, by the proleptic Gregorian calendar:
/// years are taken to begin in March, so that the leap day is their last.
fn civil(day: i64) -> (i64, i64, i64) {
    let from_march_0000 = day + 719_468;
    let era = from_march_0000.div_euclid(146_097);
    let day_of_era = from_march_0000.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day_of_month)
}

/// The week of the year, which is the year of the week's Thursday.
fn iso_week(day: i64) -> i64 {
    // 1970-01-01 was a Thursday.
    let thursday = day - (day + 3).rem_euclid(7) + 3;
    let (year, _, _) = civil(thursday);
    let mut first = thursday;
    while civil(first - 7).0 == year {
        first -= 7;
    }
    (thursday - first) / 7 + 1
}

/// Addresses with a common beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AddressRange {
    network: u128,
    prefix: u32,
    is_v4: bool,
}

impl AddressRange {
    /// From `10.0.0.0/8` or `fe80::/10`; one address without `/` is itself.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let (mut bits, mut width, mut is_v4) = bits(address);
        let mut prefix = prefix.unwrap_or(width);
        // A range of IPv4 addresses in IPv6 form is that IPv4 range.
        if let (IpAddr::V6(_), IpAddr::V4(mapped), MAPPED_PREFIX..=128) =
            (address, address.to_canonical(), prefix)
        {
            (bits, width, is_v4) = (mapped.to_bits().into(), 32, true);
            prefix -= MAPPED_PREFIX;
        }
        (prefix <= width).then(|| Self { network: masked(bits, prefix, width), prefix, is_v4 })
    }

    /// As it is written: `10.0.0.0/8`.
    pub(super) fn describe(&self) -> String {
        let width = if self.is_v4 { 32 } else { 128 };
        let bits = self.network.checked_shl(width - self.prefix).unwrap_or(0);
        let address = match u32::try_from(bits) {
            Ok(bits) if self.is_v4 => IpAddr::V4(bits.into()),
            _ => IpAddr::V6(bits.into()),
        };
        format!("{address}/{}", self.prefix)
    }

    pub(super) fn contains(&self, text: &str) -> bool {
        let Ok(address) = text.trim().parse::<IpAddr>() else { return false };
        let is_within = |address| {
            let (bits, width, is_v4) = bits(address);
            is_v4 == self.is_v4 && masked(bits, self.prefix, width) == self.network
        };
        // An IPv4 address in IPv6 form is that IPv4 address, and an address of IPv6 too.
        is_within(address.to_canonical()) || is_within(address)
    }
}

/// Before an IPv4 address in IPv6 form (`::ffff:192.0.2.7`) stand so many bits.
const MAPPED_PREFIX: u32 = 96;

fn bits(address: IpAddr) -> (u128, u32, bool) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32, true),
        IpAddr::V6(address) => (address.to_bits(), 128, false),
    }
}

fn masked(bits: u128, prefix: u32, width: u32) -> u128 {
    bits.checked_shr(width - prefix).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_times_are_those_of_the_calendar() {
        let time: Timestamp = "2026-11-21T20:15:03Z".parse().expect("a time");
        let parts = [TimeUnit::Minute, TimeUnit::Hour, TimeUnit::Day, TimeUnit::Month, TimeUnit::Year];
        assert_eq!(parts.map(|unit| unit.of(time)), [15, 20, 21, 11, 2026]);
        for (date, week) in
            [("2026-01-01", 1), ("2021-01-03", 53), ("2021-01-04", 1), ("2024-12-30", 1), ("2026-11-21", 47)]
        {
            let time: Timestamp = format!("{date}T00:00:00Z").parse().expect("a time");
            assert_eq!(TimeUnit::Week.of(time), week, "{date}");
        }
        for text in [
            "2019-03-02 08:51:00.008",
            "2019-03-02T08:51:00.008Z",
            "1551516660",
            "1551516660008",
            "1551516660.008",
        ] {
            let time = super::time(StoredKind::Text, text).expect("a time");
            assert_eq!([TimeUnit::Hour, TimeUnit::Minute].map(|unit| unit.of(time)), [8, 51], "{text}");
        }
        assert!(super::time(StoredKind::Integer(1_551_516_660), "").is_some());
        for text in ["", "12", "08:51", "tomorrow"] {
            assert_eq!(super::time(StoredKind::Text, text), None, "{text}");
        }
        let leap: Timestamp = "2024-02-29T23:59:59Z".parse().expect("a time");
        assert_eq!([TimeUnit::Day, TimeUnit::Month].map(|unit| unit.of(leap)), [29, 2]);
    }

    #[test]
    fn ranges_are_told_as_they_are_written() {
        for range in ["10.0.0.0/8", "0.0.0.0/0", "192.0.2.7/32", "fe80::/10", "::/0", "::1/128"] {
            assert_eq!(AddressRange::parse(range).map(|it| it.describe()).as_deref(), Some(range));
        }
    }

    #[test]
    fn addresses_are_in_ranges_of_their_own_kind() {
        let within = |range: &str, address| AddressRange::parse(range).is_some_and(|it| it.contains(address));
        assert!(within("10.0.0.0/8", "10.255.1.2") && within("10.0.0.0/8", "::ffff:10.1.1.1"));
        assert!(!within("10.0.0.0/8", "11.0.0.1") && !within("10.0.0.0/8", "a00::1"));
        assert!(within("0.0.0.0/0", "8.8.8.8") && !within("0.0.0.0/0", "::1"));
        assert!(
            within("::ffff:10.0.0.0/104", "10.1.1.1") && within("::ffff:10.0.0.0/104", "::ffff:10.1.1.1")
        );
        assert!(!within("::ffff:10.0.0.0/104", "11.1.1.1") && within("::ffff:192.0.2.7", "192.0.2.7"));
        assert!(within("::/0", "::ffff:10.1.1.1") && within("::ffff:0:0/90", "::ffff:10.1.1.1"));
        assert!(within("fe80::/10", "fe80::1") && within("::1", "::1") && within("::/0", "1::"));
        for bad in ["10.0.0.0/33", "10.0.0/8", "x", "1.2.3.4/", "::/129"] {
            assert_eq!(AddressRange::parse(bad), None, "{bad}");
        }
    }
}
