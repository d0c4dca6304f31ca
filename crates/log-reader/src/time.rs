//! The spellings of time that logs use.

use event_model::Timestamp;

/// RFC 3339; the same without a zone, which Sysmon's `UtcTime` and most exports
/// mean as UTC; and seconds, milli-, micro- or nanoseconds since 1970.
pub(crate) fn parse_event_time(text: &str) -> Option<Timestamp> {
    if let Some(time) = parse_utc(text.as_bytes()) {
        return Some(time);
    }
    if text.len() > 64 {
        return None;
    }
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    if let Ok(time) = format!("{text}Z").parse() {
        return Some(time);
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let number: i64 = whole.parse().ok()?;
    // Each unit's numbers for the years 1973 to 5138 don't overlap with the next's.
    let nanos_per_unit = match number {
        100_000_000..100_000_000_000 => 1_000_000_000,
        100_000_000_000..100_000_000_000_000 => 1_000_000,
        100_000_000_000_000..100_000_000_000_000_000 => 1_000,
        100_000_000_000_000_000.. => 1,
        _ => return None,
    };
    let mut nanos = number.checked_mul(nanos_per_unit)?;
    if !fraction.is_empty() && nanos_per_unit == 1_000_000_000 {
        let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
        nanos = nanos.checked_add(digits.parse::<u32>().ok()?.into())?;
    }
    Some(Timestamp::from_nanos(nanos))
}

/// `2019-03-02T08:51:00.008Z`, with `T` or a space, a fraction or none, `Z` or nothing:
/// nearly every event has its time in this form, and a general parser costs as much as
/// the rest of the event.
fn parse_utc(text: &[u8]) -> Option<Timestamp> {
    let text = text.strip_suffix(b"Z").unwrap_or(text);
    let separators = [(4, b"--"), (7, b"--"), (10, b"T "), (13, b"::"), (16, b"::")];
    if text.len() < 19 || separators.iter().any(|(place, allowed)| !allowed.contains(&text[*place])) {
        return None;
    }
    let number = |from: usize, to: usize| {
        text[from..to]
            .iter()
            .try_fold(0_i64, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_of_month = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => return None,
    };
    if !(1700..2200).contains(&year)
        || !(1..=days_of_month).contains(&day)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    let nanos = match text.get(19..) {
        Some([]) => 0,
        Some([b'.', digits @ ..]) if (1..=9).contains(&digits.len()) => {
            number(20, text.len())? * 10_i64.pow(9 - u32::try_from(digits.len()).ok()?)
        }
        _ => return None,
    };
    // Days since 1970-01-01 by counting years from March, so that the leap day is the last.
    let (shifted_year, shifted_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let days = 365 * shifted_year + shifted_year / 4 - shifted_year / 100 + shifted_year / 400 + day_of_year
        - 719_468;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    Some(Timestamp::from_nanos(seconds * 1_000_000_000 + nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_moment_in_every_spelling() {
        let moment = Timestamp::from_nanos(1_551_516_660_008_000_000);
        for text in [
            "2019-03-02T08:51:00.008Z",
            "2019-03-02 08:51:00.008",
            "2019-03-02T09:51:00.008+01:00",
            "1551516660.008",
            "1551516660008",
            "1551516660008000",
            "1551516660008000000",
        ] {
            assert_eq!(parse_event_time(text), Some(moment), "{text}");
        }
        for text in
            ["", "-", "yesterday", "42", "1551516660.x", "9223372036854775808", "2019-02-29T00:00:00Z"]
        {
            assert_eq!(parse_event_time(text), None, "{text}");
        }
    }

    #[test]
    fn the_short_way_agrees_with_the_general_parser() {
        for day in -90_000..60_000_i64 {
            let time =
                Timestamp::from_nanos((day * 86_400 + day.rem_euclid(86_400)) * 1_000_000_000 + 123_456_700);
            assert_eq!(parse_utc(time.to_string().as_bytes()), Some(time), "{time}");
        }
    }
}
