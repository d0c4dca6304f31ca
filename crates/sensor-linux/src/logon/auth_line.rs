//! One line of a text log of syslog: who wrote it, when, and what.
//!
//! Two shapes are in use: `Nov 26 03:14:15 host sshd[812]: text` (RFC 3164 4.1,
//! local time without a year) and `2026-11-26T03:14:15.123456+01:00 host sshd[812]:
//! text` (rsyslog's default file format since Debian 12).

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// A line taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Wall-clock nanoseconds since the Unix epoch.
    pub(super) at_ns: i64,
    pub(super) program: &'a str,
    pub(super) pid: Option<u32>,
    pub(super) message: &'a str,
}

/// A day: a line from further in the future is from last year.
const DAY_NS: i64 = 86_400_000_000_000;

/// Takes the line apart; `None` if it has neither shape.
pub(super) fn parse<'a>(line: &'a str, now_ns: i64, zone: &TimeZone) -> Option<Line<'a>> {
    let (at_ns, rest) = iso_time(line).or_else(|| old_time(line, now_ns, zone))?;
    let (_host, rest) = rest.split_once(' ')?;
    let (tag, message) = rest.trim_start().split_once(':')?;
    // GDM's workers call themselves `gdm-password]`.
    let (program, pid) = match tag.strip_suffix(']').and_then(|tag| tag.rsplit_once('[')) {
        Some((program, pid)) => (program, pid.parse().ok()),
        None => (tag, None),
    };
    // Old PAM modules: `sshd(pam_unix)[812]`.
    let program = program.split('(').next().unwrap_or(program).trim_end_matches(']');
    let is_name = !program.is_empty() && program.len() <= 64 && !program.contains(' ');
    is_name.then(|| Line { at_ns, program, pid, message: message.trim_start() })
}

fn iso_time(line: &str) -> Option<(i64, &str)> {
    let (time, rest) = line.split_once(' ')?;
    if !time.as_bytes().first()?.is_ascii_digit() || time.len() > 40 {
        return None;
    }
    let at: Timestamp = time.parse().ok()?;
    Some((i64::try_from(at.as_nanosecond()).ok()?, rest))
}

fn old_time<'a>(line: &'a str, now_ns: i64, zone: &TimeZone) -> Option<(i64, &'a str)> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let stamp = line.get(..15)?;
    let month = MONTHS.iter().position(|month| stamp.starts_with(month))?;
    let month = i8::try_from(month + 1).ok()?;
    let number = |from: usize, to: usize| stamp.get(from..to)?.trim_start().parse::<i8>().ok();
    let (day, hour, minute, second) = (number(4, 6)?, number(7, 9)?, number(10, 12)?, number(13, 15)?);
    let year = Timestamp::from_nanosecond(now_ns.into()).ok()?.to_zoned(zone.clone()).year();
    let at = |year: i16| -> Option<i64> {
        // A second of 60 is a leap second.
        let civil = DateTime::new(year, month, day, hour, minute, second.min(59), 0).ok()?;
        i64::try_from(civil.to_zoned(zone.clone()).ok()?.timestamp().as_nanosecond()).ok()
    };
    // The 29th of February may exist in last year only.
    let this_year = at(year).filter(|at_ns| *at_ns <= now_ns.saturating_add(DAY_NS));
    let at_ns = this_year.or_else(|| at(year - 1))?;
    Some((at_ns, line.get(15..)?.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ns(text: &str) -> i64 {
        i64::try_from(text.parse::<Timestamp>().unwrap().as_nanosecond()).unwrap()
    }

    #[test]
    fn both_shapes_of_lines_are_taken_apart() {
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let now = ns("2026-01-03T12:00:00Z");
        let line = parse("Jan  3 11:59:58 web-1 sshd[812]: Accepted x: y", now, &zone).unwrap();
        assert_eq!((line.at_ns, line.program, line.pid), (ns("2026-01-03T10:59:58Z"), "sshd", Some(812)));
        assert_eq!(line.message, "Accepted x: y");
        let line = parse("Dec 31 23:59:60 web-1 sudo:     anna : TTY=pts/0", now, &zone).unwrap();
        assert_eq!((line.at_ns, line.program, line.pid), (ns("2025-12-31T22:59:59Z"), "sudo", None));
        assert_eq!(line.message, "anna : TTY=pts/0");
        let line =
            parse("2026-01-03T11:00:00.250000+01:00 web-1 gdm-password][99]: pam", now, &zone).unwrap();
        assert_eq!(
            (line.at_ns, line.program, line.pid),
            (ns("2026-01-03T10:00:00.25Z"), "gdm-password", Some(99))
        );
        let line = parse("Jan  3 11:59:58 h sshd(pam_unix)[7]: m", now, &zone).unwrap();
        assert_eq!((line.program, line.pid), ("sshd", Some(7)));
    }

    #[test]
    fn what_is_no_line_of_syslog_is_none() {
        let zone = TimeZone::UTC;
        for line in [
            "",
            " ",
            "Jan",
            "Jan  3 11:59:58",
            "Jan  3 11:59:58 host",
            "Jan 99 11:59:58 host a: b",
            "Jän  3 11:59:58 host a: b",
            "2026-01-03T11:00:00 host a: b",
            "\u{1f600}\u{1f600}\u{1f600}\u{1f600}\u{1f600} x: y",
            "Jan  3 11:59:58 host : b",
            "Feb 31 11:59:58 host a: b",
            "Jan  3 -1:59:58 host a: b",
        ] {
            assert_eq!(parse(line, ns("2026-01-03T12:00:00Z"), &zone), None, "{line:?}");
        }
    }
}
