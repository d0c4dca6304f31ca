//! Columns with a heading (RFC 4180, also with `;` or tab between them).

use event_model::Severity;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::{Reading, shown};
use crate::indicator::IndicatorDefaults;
use crate::value::{IndicatorValue, ValueError};

/// Columns of a row that are looked at.
const MAX_COLUMNS: usize = 64;

/// Which column has what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    separator: u8,
    value: usize,
    kind: Option<usize>,
    source: Option<usize>,
    confidence: Option<usize>,
    severity: Option<usize>,
    description: Option<usize>,
    expires: Option<usize>,
}

impl Columns {
    /// From a heading; `None` where none of its words is one for the value.
    pub(super) fn of(heading: &str) -> Option<Self> {
        // The separator that gives the most columns; a heading of one word has none.
        let separator = *[b',', b';', b'\t']
            .iter()
            .max_by_key(|separator| heading.bytes().filter(|byte| byte == *separator).count())?;
        let names: Vec<String> = row(heading, separator)
            .0
            .iter()
            .map(|name| name.trim().to_ascii_lowercase().replace(['_', ' '], "-"))
            .collect();
        let find = |words: &[&str]| words.iter().find_map(|word| names.iter().position(|name| name == word));
        Some(Self {
            separator,
            value: find(&["value", "indicator", "ioc", "ioc-value", "observable", "pattern"])?,
            kind: find(&["type", "kind", "ioc-type", "indicator-type"]),
            source: find(&["source", "feed", "provider", "reporter"]),
            confidence: find(&["confidence", "confidence-level"]),
            severity: find(&["severity", "level"]),
            description: find(&["description", "comment", "malware", "threat", "title"]),
            expires: find(&["expires", "expiry", "expiration", "valid-until", "expires-at"]),
        })
    }
}

pub(super) fn read(text: &str, defaults: &IndicatorDefaults, reading: &mut Reading<'_>) {
    let (mut rest, mut line) = (text, 1);
    let mut columns = None;
    while !rest.is_empty() {
        let begin = line;
        let current = rest.split('\n').next().unwrap_or_default().trim();
        if current.is_empty() || current.starts_with('#') {
            rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
            line += 1;
            continue;
        }
        let Some(columns) = &columns else {
            columns = Columns::of(current);
            if columns.is_none() {
                reading.bad(begin, "the heading names no column `value` (or `indicator`, `ioc`)".to_owned());
                return;
            }
            rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
            line += 1;
            continue;
        };
        let (fields, length) = row(rest, columns.separator);
        line += rest[..length].bytes().filter(|byte| *byte == b'\n').count();
        rest = &rest[length..];
        take_row(&fields, columns, defaults, reading, begin);
    }
}

fn take_row(
    fields: &[String],
    columns: &Columns,
    defaults: &IndicatorDefaults,
    reading: &mut Reading<'_>,
    line: usize,
) {
    let field = |column: Option<usize>| {
        column.and_then(|at| fields.get(at)).map(|field| field.trim()).filter(|field| !field.is_empty())
    };
    let text = field(Some(columns.value)).unwrap_or_default();
    let value = match field(columns.kind) {
        Some(kind) => of_kind(kind, text),
        None => Some(IndicatorValue::detect(text)),
    };
    let value = match value {
        Some(Ok(value)) => value,
        Some(Err(error)) => return reading.bad(line, format!("`{}`: {error}", shown(text))),
        None => {
            let kind = field(columns.kind).unwrap_or_default();
            return reading.skip(line, format!("the type `{}` can't be looked for", shown(kind)));
        }
    };
    let mut indicator = defaults.indicator(value);
    if let Some(source) = field(columns.source) {
        indicator.source = source.to_owned();
    }
    indicator.description = field(columns.description).unwrap_or_default().to_owned();
    if let Some(text) = field(columns.confidence) {
        match text.trim_end_matches('%').parse::<u8>() {
            Ok(confidence @ 0..=100) => indicator.confidence = confidence,
            _ => {
                reading.warn(line, format!("the confidence `{}` is not a number from 0 to 100", shown(text)))
            }
        }
    }
    if let Some(text) = field(columns.severity) {
        match Severity::from_word(&text.to_ascii_lowercase()) {
            Some(severity) => indicator.severity = severity,
            None => reading.warn(
                line,
                format!(
                    "the severity `{}` is none of informational, low, medium, high, critical",
                    shown(text)
                ),
            ),
        }
    }
    if let Some(text) = field(columns.expires) {
        match time(text) {
            Some(expires) => indicator.expires = Some(expires),
            None => {
                let reason = format!("the end `{}` is no RFC 3339 time, date or Unix time", shown(text));
                return reading.bad(line, reason);
            }
        }
    }
    reading.take(indicator);
}

/// The value of a type as lists name it; `None` for types that can't be looked for.
pub(super) fn of_kind(kind: &str, text: &str) -> Option<Result<IndicatorValue, ValueError>> {
    let kind = kind.to_ascii_lowercase().replace(['_', ' '], "-");
    let hash = |wanted: fn(&IndicatorValue) -> bool, name| {
        IndicatorValue::hash(text)
            .and_then(|hash| if wanted(&hash) { Ok(hash) } else { Err(ValueError::NotOfType(name)) })
    };
    Some(match kind.as_str() {
        "md5" | "md5-hash" | "filehash-md5" => {
            hash(|hash| matches!(hash, IndicatorValue::Md5(_)), "an MD5 in hex")
        }
        "sha1" | "sha-1" | "sha1-hash" | "filehash-sha1" => {
            hash(|hash| matches!(hash, IndicatorValue::Sha1(_)), "a SHA-1 in hex")
        }
        "sha256" | "sha-256" | "sha256-hash" | "filehash-sha256" => {
            hash(|hash| matches!(hash, IndicatorValue::Sha256(_)), "a SHA-256 in hex")
        }
        "hash" | "file" | "file-hash" => IndicatorValue::hash(text),
        "ip" | "ipv4" | "ipv6" | "ip-src" | "ip-dst" | "cidr" | "network" | "ip-address" | "ipv4-addr"
        | "ipv6-addr" => IndicatorValue::network(text),
        // `198.51.100.7:443`, as several feeds have it.
        "ip:port" | "ip-src|port" | "ip-dst|port" => {
            let address = text.rsplit_once(['|', ':']).map_or(text, |(address, _)| address);
            IndicatorValue::network(address)
        }
        "domain" | "hostname" | "host" | "fqdn" | "domain-name" => IndicatorValue::domain(text),
        "url" | "uri" => IndicatorValue::url(text),
        "path" | "filepath" | "file-path" => IndicatorValue::path(text),
        "auto" | "any" | "" => IndicatorValue::detect(text),
        _ => return None,
    })
}

/// RFC 3339, a date (then the end of that day), or seconds since the Unix epoch.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<i64>() {
        return Timestamp::from_second(seconds).ok();
    }
    let of_date = |date: Date| date.tomorrow().ok()?.to_zoned(TimeZone::UTC).ok().map(|end| end.timestamp());
    if text.len() == 10 {
        return text.parse::<Date>().ok().and_then(of_date);
    }
    text.parse().ok()
}

/// The fields of the first row and its length with its end of line. A quoted field may
/// go over lines; one that is not closed ends with the text.
fn row(text: &str, separator: u8) -> (Vec<String>, usize) {
    let bytes = text.as_bytes();
    let mut fields = Vec::new();
    let mut at = 0;
    loop {
        let mut field = String::new();
        if bytes.get(at) == Some(&b'"') {
            at += 1;
            loop {
                let end = text[at..].find('"').map_or(text.len(), |found| at + found);
                field.push_str(&text[at..end]);
                at = (end + 1).min(text.len());
                if bytes.get(at) != Some(&b'"') || end == text.len() {
                    break;
                }
                // Two quotes stand for one.
                field.push('"');
                at += 1;
            }
        }
        let is_end = |byte: &u8| *byte == separator || *byte == b'\n';
        let end = bytes[at..].iter().position(is_end).map_or(text.len(), |found| at + found);
        field.push_str(text[at..end].trim_end_matches('\r'));
        if fields.len() < MAX_COLUMNS {
            fields.push(field);
        }
        at = end;
        match bytes.get(at) {
            Some(byte) if *byte == separator => at += 1,
            Some(_) => return (fields, at + 1),
            None => return (fields, at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_with_quotes() {
        let fields = |text: &str| row(text, b',');
        let of = |fields: &[&str], length| (fields.iter().map(|field| (*field).to_owned()).collect(), length);
        assert_eq!(fields("a,b\r\nc"), of(&["a", "b"], 5));
        assert_eq!(fields("\"a,\"\"b\"\"\nc\",,d"), of(&["a,\"b\"\nc", "", "d"], 14));
        assert_eq!(fields("\"never closed\n,"), of(&["never closed\n,"], 15));
        assert_eq!(fields(""), of(&[""], 0));
    }

    #[test]
    fn times_in_three_forms() {
        let shown = |text: &str| time(text).map(|time| time.to_string());
        assert_eq!(shown("2026-11-26").as_deref(), Some("2026-11-27T00:00:00Z"));
        assert_eq!(shown("2026-11-26T12:00:00+02:00").as_deref(), Some("2026-11-26T10:00:00Z"));
        assert_eq!(shown("1764000000").as_deref(), Some("2025-11-24T16:00:00Z"));
        assert_eq!((shown("soon"), shown("9999999999999999"), shown("2026-13-01")), (None, None, None));
    }
}
