//! What the commands that work on a server's state share: the file, its flags,
//! and words for spans of time. The server may be running meanwhile.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use event_model::Timestamp;
use lexopt::ValueExt as _;
use state_store::{ActivityStore as _, AuditEntry, SqliteStateStore};

use crate::arguments::{Usage, parser};

/// The file of the server's `-db`, which is the default here as it is there.
const DEFAULT_DB: &str = "rampart.db";

/// A command's flags with their values, and its other arguments.
#[derive(Debug)]
pub(crate) struct Options {
    flags: Vec<(String, OsString)>,
    pub(crate) values: Vec<OsString>,
}

impl Options {
    /// Reads the arguments; every flag has a value. `known` are the command's own flags.
    pub(crate) fn read(arguments: Vec<OsString>, known: &[&'static str]) -> Result<Self, Usage> {
        let mut all = vec!["db", "help"];
        all.extend(known);
        let bad = |error: lexopt::Error| Usage::new(error.to_string(), "`--help` shows the flags");
        let mut options = Self { flags: Vec::new(), values: Vec::new() };
        let mut parser = parser(arguments);
        while let Some(argument) = parser.next().map_err(bad)? {
            let name = match argument {
                lexopt::Arg::Value(value) => {
                    options.values.push(value);
                    continue;
                }
                lexopt::Arg::Long(name) if all.contains(&name) => name.to_owned(),
                lexopt::Arg::Long(name) => return Err(Usage::unknown_flag(name, &all)),
                lexopt::Arg::Short(name) => return Err(Usage::unknown_flag(&name.to_string(), &all)),
            };
            if options.flags.iter().any(|(before, _)| *before == name) {
                return Err(Usage::new(format!("`--{name}` stands twice"), "leave one of them out"));
            }
            options.flags.push((name, parser.value().map_err(bad)?));
        }
        Ok(options)
    }

    /// The value of a flag.
    pub(crate) fn flag(&self, name: &str) -> Option<&OsString> {
        self.flags.iter().find(|(flag, _)| flag == name).map(|(_, value)| value)
    }

    /// The value of a flag that must be text.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, Usage> {
        let text = |value: &OsString| {
            value
                .clone()
                .string()
                .map_err(|_| Usage::new(format!("the value of `--{name}` is no UTF-8"), "write it in UTF-8"))
        };
        self.flag(name).map(text).transpose()
    }

    /// A flag that the command can't do without.
    pub(crate) fn required(&self, name: &str, example: &str) -> Result<String, Usage> {
        let missing = || Usage::new(format!("`--{name}` is missing"), format!("write `--{name} {example}`"));
        self.text(name)?.filter(|text| !text.is_empty()).ok_or_else(missing)
    }

    /// A span of time, for example `90d`.
    pub(crate) fn span(&self, name: &str, default: Duration, most: Duration) -> Result<Duration, Usage> {
        let Some(text) = self.text(name)? else { return Ok(default) };
        let span = parse_span(&text).filter(|span| (Duration::from_secs(1)..=most).contains(span));
        span.ok_or_else(|| {
            let most = span_text(most);
            Usage::new(
                format!("`--{name}` is `{text}`; allowed is a span from 1s to {most}"),
                "write a number and s, m, h or d, for example `2h`",
            )
        })
    }

    /// The command takes no arguments but flags.
    pub(crate) fn no_values(&self) -> Result<(), Usage> {
        match self.values.first() {
            None => Ok(()),
            Some(value) => {
                Err(Usage::new(format!("unexpected argument `{}`", value.display()), "this takes only flags"))
            }
        }
    }

    /// The file of the server's state.
    pub(crate) fn db(&self) -> PathBuf {
        self.flag("db").map_or_else(|| PathBuf::from(DEFAULT_DB), PathBuf::from)
    }
}

/// Opens a server's state. The file must exist: an empty one in the wrong place
/// would take tokens that no server knows.
pub(crate) fn open(path: &Path) -> anyhow::Result<SqliteStateStore> {
    if !path.exists() {
        anyhow::bail!(
            "{}: no such file; hint: name the file of the server's -db with `--db FILE` (the server makes it \
             at its first start)",
            path.display()
        );
    }
    Ok(SqliteStateStore::open_existing(path)?)
}

/// Notes in the server's audit log what was done here.
pub(crate) fn audit(
    store: &SqliteStateStore,
    what: &str,
    subject: String,
    detail: serde_json::Value,
    at: Timestamp,
) -> anyhow::Result<()> {
    let entry = AuditEntry {
        who: "edr".to_owned(),
        what: what.to_owned(),
        subject,
        detail: detail.to_string(),
        address: String::new(),
    };
    store.append_audit(&entry, at).context("it was done, but the audit log did not take it")
}

/// The time now.
pub(crate) fn now() -> anyhow::Result<Timestamp> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?;
    Ok(Timestamp::from_nanos(i64::try_from(since.as_nanos()).context("the clock stands after 2262")?))
}

/// Later by a span.
pub(crate) fn after(time: Timestamp, span: Duration) -> Timestamp {
    let nanos = i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
    Timestamp::from_nanos(time.as_nanos().saturating_add(nanos))
}

fn parse_span(text: &str) -> Option<Duration> {
    let (number, seconds) = match text.char_indices().last()? {
        (end, 's') => (&text[..end], 1),
        (end, 'm') => (&text[..end], 60),
        (end, 'h') => (&text[..end], 3_600),
        (end, 'd') => (&text[..end], 86_400),
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}

fn span_text(span: Duration) -> String {
    match span.as_secs() {
        seconds if seconds > 86_400 && seconds.is_multiple_of(86_400) => format!("{}d", seconds / 86_400),
        seconds => format!("{}h", seconds / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_numbers_with_a_unit() {
        assert_eq!(parse_span("90d"), Some(Duration::from_secs(90 * 86_400)));
        assert_eq!(parse_span("15m"), Some(Duration::from_secs(900)));
        for bad in
            ["", "h", "-1h", "1.5h", "1w", "90", "1ö", "99999999999999999999d", "18446744073709551615d"]
        {
            assert_eq!(parse_span(bad), None, "{bad}");
        }
    }
}
