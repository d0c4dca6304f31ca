//! Searching events. Gaps that overlap what is searched are always among the
//! answers, whatever the filter: a filter must not hide that something is missing.

use std::collections::{HashMap, HashSet};
use std::str::FromStr as _;
use std::time::Duration;

use event_model::{
    EcsContext, EventId, EventRecord, EventType, Field, FieldSource as _, HostId, Timestamp, ValueRef,
    event_to_ecs,
};
use event_store::{Cursor, EventQuery, GapQuery, HistogramBucket, Predicate};
use serde_json::Value as Json;

use super::{App, AppError, before, now};

/// Gaps that one page can bring besides its events.
const GAPS_A_PAGE: usize = 200;

/// What is searched for, as the caller wrote it.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Id of the host.
    pub host: Option<String>,
    /// Types with commas between.
    pub event_type: Option<String>,
    /// Part of a text.
    pub text: Option<String>,
    /// `name:value` each.
    pub fields: Vec<String>,
    /// Not before.
    pub from: Option<Timestamp>,
    /// Before.
    pub to: Option<Timestamp>,
}

/// ECS documents, the newest first.
#[derive(Debug)]
pub struct DocumentPage {
    /// They.
    pub documents: Vec<Json>,
    /// Where to go on.
    pub next: Option<String>,
    /// Gaps that belong to the page and are not among the documents.
    pub gaps_not_shown: u64,
}

impl EventFilter {
    /// Checks it and makes a query of it.
    ///
    /// # Errors
    /// [`AppError::Invalid`] for what can't be searched for.
    pub(crate) fn to_query(&self) -> Result<EventQuery, AppError> {
        let mut filters = Vec::new();
        if let Some(text) = &self.text {
            if text.len() > 256 {
                return Err(AppError::Invalid("`q` is longer than 256 bytes".to_owned()));
            }
            filters.push(Predicate::text_anywhere(text));
        }
        if self.fields.len() > 16 {
            return Err(AppError::Invalid("more than 16 fields".to_owned()));
        }
        for field in &self.fields {
            filters.push(field_filter(field)?);
        }
        let host = self.host.as_deref().map(parse_host).transpose()?;
        Ok(EventQuery {
            host,
            event_types: parse_types(self.event_type.as_deref())?,
            filter: Predicate::All(filters),
            from: self.from,
            until: self.to,
            cursor: None,
            limit: 100,
        })
    }
}

pub(crate) fn parse_host(text: &str) -> Result<HostId, AppError> {
    text.parse().map_err(|_| AppError::Invalid(format!("`{text}` is not a host id")))
}

pub(crate) fn parse_types(text: Option<&str>) -> Result<Vec<EventType>, AppError> {
    let words = text.unwrap_or_default().split(',').map(str::trim).filter(|word| !word.is_empty());
    let types = words.map(|word| {
        EventType::from_word(word).ok_or_else(|| {
            let known: Vec<_> = EventType::ALL.iter().map(|known| known.as_str()).collect();
            AppError::Invalid(format!("`{word}` is not an event type; there are {}", known.join(", ")))
        })
    });
    types.collect()
}

fn field_filter(text: &str) -> Result<Predicate, AppError> {
    let Some((name, value)) = text.split_once(':') else {
        return Err(AppError::Invalid(format!("`{text}` is not of the form `name:value`")));
    };
    let known = Field::ALL.iter().find(|field| field.spec().ecs.eq_ignore_ascii_case(name));
    let Some(field) = known else {
        let names = Field::ALL.iter().map(|field| field.spec().ecs);
        let hint = settings::nearest(name, names).map(|near| format!("; did you mean `{near}`?"));
        return Err(AppError::Invalid(format!("`{name}` is not a field{}", hint.unwrap_or_default())));
    };
    if value.len() > 1024 {
        return Err(AppError::Invalid(format!("the value of `{name}` is longer than 1024 bytes")));
    }
    // What no value of the field reads like, no event has.
    Ok(Predicate::equals_text(*field, value).unwrap_or(Predicate::Any(Vec::new())))
}

impl App {
    pub(crate) fn search_events(
        &self,
        filter: &EventFilter,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<DocumentPage, AppError> {
        let mut query = filter.to_query()?;
        query.limit = limit;
        let cursor_text = cursor;
        query.cursor =
            cursor.map(Cursor::from_str).transpose().map_err(|error| AppError::Invalid(error.to_string()))?;
        let page = self.events.search(&query)?;
        let next = page.next.map(|next| next.to_string());
        let mut events = page.events;
        let upper = cursor_text.and_then(time_of_cursor);
        let lower = next.as_deref().and_then(time_of_cursor);
        let gaps_not_shown = self.add_gaps(&query, upper, lower, &mut events)?;
        let names = self.names_of_hosts(&events)?;
        let documents = events.iter().map(|event| document(event, &names));
        Ok(DocumentPage { documents: documents.collect(), next, gaps_not_shown })
    }

    /// Puts in the gaps of the page's span that the filter left out. Each gap
    /// stands on the page of its observed time; one observed after the span
    /// searched, on the first. Gives how many there was no room for.
    fn add_gaps(
        &self,
        query: &EventQuery,
        upper: Option<Timestamp>,
        lower: Option<Timestamp>,
        events: &mut Vec<EventRecord>,
    ) -> Result<u64, AppError> {
        let everything = query.event_types.is_empty() && query.filter == Predicate::everything();
        if everything && query.from.is_none() && query.until.is_none() {
            return Ok(0);
        }
        let from = query.from.unwrap_or(Timestamp::from_nanos(i64::MIN));
        let until = query.until.unwrap_or(Timestamp::from_nanos(i64::MAX));
        // Gaps that the filter found are on the page already.
        let found = events.iter().filter(|event| event.event_type == EventType::Gap);
        let present: HashSet<EventId> = found.clone().map(|gap| gap.header.event_id()).collect();
        let counted = found.filter(|gap| overlaps(gap, from, until)).count();
        let page = self.events.gaps_between(&GapQuery {
            host: query.host,
            from,
            until,
            observed_from: lower,
            observed_until: upper,
            limit: GAPS_A_PAGE + present.len(),
        })?;
        let before_count = events.len();
        let absent = page.gaps.into_iter().filter(|gap| !present.contains(&gap.header.event_id()));
        events.extend(absent.take(GAPS_A_PAGE));
        let added = events.len() - before_count;
        if added > 0 {
            events.sort_by_key(|event| std::cmp::Reverse(event.header.observed_at));
        }
        Ok(page.in_all.saturating_sub((counted + added) as u64))
    }

    pub(crate) fn event(&self, id: &str) -> Result<Json, AppError> {
        let unknown = || AppError::not_found("event", id);
        let parsed: EventId = id.parse().map_err(|_| unknown())?;
        let event = self.events.by_id(parsed)?.ok_or_else(unknown)?;
        let names = self.names_of_hosts(std::slice::from_ref(&event))?;
        Ok(document(&event, &names))
    }

    pub(crate) fn histogram(
        &self,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
        buckets: u32,
        host: Option<&str>,
        event_type: Option<&str>,
    ) -> Result<Vec<HistogramBucket>, AppError> {
        let to = to.unwrap_or_else(now);
        let from = from.unwrap_or_else(|| before(to, Duration::from_secs(3600)));
        if from >= to {
            return Err(AppError::Invalid("`from` is not before `to`".to_owned()));
        }
        let span = u64::try_from(to.as_nanos().saturating_sub(from.as_nanos())).unwrap_or(0);
        let width = Duration::from_nanos(span.div_ceil(u64::from(buckets)).max(1_000_000));
        let host = host.map(parse_host).transpose()?;
        Ok(self.events.histogram(from, to, width, host, &parse_types(event_type)?)?)
    }

    fn names_of_hosts(&self, events: &[EventRecord]) -> Result<HashMap<HostId, (String, String)>, AppError> {
        let ids: HashSet<HostId> = events.iter().map(|event| event.header.host_id).collect();
        let mut names = HashMap::new();
        for id in ids {
            if let Some(host) = self.state.host(id)? {
                names.insert(id, (host.name, host.agent_version));
            }
        }
        Ok(names)
    }
}

fn document(event: &EventRecord, names: &HashMap<HostId, (String, String)>) -> Json {
    let known = names.get(&event.header.host_id);
    event_to_ecs(
        event,
        EcsContext {
            host_name: known.map_or("", |(name, _)| name),
            agent_version: known.map(|(_, version)| version.as_str()),
        },
    )
    .to_json()
}

/// Whether the gap's own span, not only its telling, lies in the one that is searched.
fn overlaps(gap: &EventRecord, from: Timestamp, until: Timestamp) -> bool {
    let time = |field| match gap.value(field) {
        Some(ValueRef::Time(time)) => time,
        _ => gap.header.observed_at,
    };
    let (start, end) = (time(Field::GapFrom), time(Field::GapUntil));
    start.max(end) >= from && start.min(end) < until
}

/// A cursor begins with the time of the event before it, in nanoseconds.
fn time_of_cursor(text: &str) -> Option<Timestamp> {
    text.split_once('.')?.0.parse().ok().map(Timestamp::from_nanos)
}
