//! Records to messages and back.
//!
//! What comes in is checked as coming from a stranger: unknown types, wrong kinds
//! and oversized values are refused or cut off with a count, and nothing says
//! who the sender is; that comes from the certificate. One record that can't be
//! taken does not cost the others of its batch.

use event_model::{
    ActionKind, BootId, Detection, DetectionId, EventHeader, EventRecord, EventType, Field, GapReason,
    HostId, KindFigures, ProcessSummary, ReceiptState, ReceiptStep, Record, RecordBody, RecordKind,
    ResponseMode, ResponseReceipt, ResponseTarget, RuleId, RuleReference, Severity, Timestamp, Value,
    ValueKind,
};
use prost::Message as _;
use uuid::Uuid;

use crate::link::{self, field_value};

mod encode;

pub use encode::{RecordEncoder, encode_batch, encode_batch_of, encode_ledger};

/// Longest text that a field may hold, in bytes; an agent cuts before.
pub const MAX_TEXT_BYTES: usize = 64 * 1024;
/// Most items in a list.
pub const MAX_LIST_ITEMS: usize = 4_096;
/// Most bytes of all items of a list together, as an agent writes it: a record of some
/// such lists still leaves room in a batch.
pub const MAX_LIST_BYTES: usize = 512 * 1024;
/// Most ancestors of a detection.
pub const MAX_ANCESTRY: usize = 64;
/// Most records of a batch.
pub const MAX_RECORDS: usize = 100_000;
/// Most kinds of records in a ledger, and most reasons of one kind.
pub const MAX_KINDS: usize = 1_024;

/// A batch, decoded and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The boot.
    pub boot_id: BootId,
    /// All numbers from here …
    pub first_sequence: u64,
    /// … to here belong to the batch, also where a record is missing.
    pub last_sequence: u64,
    /// Records in the order of their numbers.
    pub records: Vec<Record>,
    /// Records that can't be taken, in the order of their numbers.
    pub refused: Vec<RefusedRecord>,
    /// Cumulative figures of the boot.
    pub ledger: Ledger,
    /// Fields and events of a newer agent that this version does not know; they were left out.
    pub unknown: u64,
}

/// A record past a limit, or malformed, by itself: what the account has to know of it.
#[derive(Debug, Clone, PartialEq)]
pub struct RefusedRecord {
    /// Its place and time.
    pub header: EventHeader,
    /// What it was.
    pub kind: RecordKind,
    /// How many acts it stood for.
    pub acts: u64,
    /// Why it can't be taken.
    pub error: WireError,
}

/// Cumulative figures of a boot, as of the end of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    /// Records that got a number.
    pub produced: u64,
    /// Of these, dropped before they could be sent.
    pub dropped: u64,
    /// Observations that never reached user space.
    pub kernel_lost: u64,
    /// The account by kind; empty from an agent that does not keep one.
    pub kinds: Vec<KindFigures>,
}

/// A batch, or a record of it, can't be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not the message that it should be.
    #[error("the batch or record can't be decoded")]
    Undecodable,
    /// A part is missing or has a value that it can't have.
    #[error("record {sequence}: {what} is missing, malformed or too long")]
    Malformed {
        /// The record's number; 0 for the batch itself.
        sequence: u64,
        /// The part.
        what: &'static str,
    },
    /// More than may be.
    #[error("record {sequence}: {count} {what}; the maximum is {maximum}")]
    TooMany {
        /// The record's number; 0 for the batch itself.
        sequence: u64,
        /// What.
        what: &'static str,
        /// How many.
        count: usize,
        /// The limit.
        maximum: usize,
    },
}

/// Decodes and checks a batch of that host.
pub fn decode_batch(host_id: HostId, bytes: &[u8]) -> Result<Batch, WireError> {
    let message = link::Batch::decode(bytes).map_err(|_| WireError::Undecodable)?;
    let malformed = |what| WireError::Malformed { sequence: 0, what };
    let boot_id = BootId::from_slice(&message.boot_id).map_err(|_| malformed("boot id"))?;
    if message.first_sequence == 0 || message.last_sequence < message.first_sequence {
        return Err(malformed("span of sequence numbers"));
    }
    if message.last_sequence > i64::MAX.unsigned_abs() {
        return Err(malformed("span of sequence numbers"));
    }
    check_count(0, "records", message.records.len(), MAX_RECORDS)?;
    let mut batch = Batch {
        boot_id,
        first_sequence: message.first_sequence,
        last_sequence: message.last_sequence,
        records: Vec::with_capacity(message.records.len()),
        refused: Vec::new(),
        ledger: Ledger::default(),
        unknown: 0,
    };
    batch.ledger = ledger_from_wire(message.ledger.unwrap_or_default(), &mut batch.unknown)?;
    let mut next = message.first_sequence;
    for record in message.records {
        if record.sequence < next || record.sequence > message.last_sequence {
            return Err(WireError::Malformed { sequence: record.sequence, what: "sequence number" });
        }
        next = record.sequence + 1;
        let decoder = RecordDecoder { host_id, boot_id, sequence: record.sequence };
        let (kind, acts) = kind_and_acts(&record);
        let header = decoder.header(record.sequence, record.observed_at_ns, record.monotonic_ns);
        match decoder.record(header.clone(), record.body, &mut batch.unknown) {
            Ok(Some(record)) => batch.records.push(record),
            Ok(None) => batch.unknown += 1,
            Err(error) => batch.refused.push(RefusedRecord { header, kind, acts, error }),
        }
    }
    Ok(batch)
}

/// Decodes a record of that boot of that host as a [`RecordEncoder`] writes it. `None` for a kind of record that
/// this version does not know.
///
/// # Errors
/// It is no record, or one past a limit.
pub fn decode_record(host_id: HostId, boot_id: BootId, bytes: &[u8]) -> Result<Option<Record>, WireError> {
    let link::Record { sequence, observed_at_ns, monotonic_ns, body } =
        link::Record::decode(bytes).map_err(|_| WireError::Undecodable)?;
    let decoder = RecordDecoder { host_id, boot_id, sequence };
    decoder.record(decoder.header(sequence, observed_at_ns, monotonic_ns), body, &mut 0)
}

/// What the account counts of a record, also where the record can't be taken.
fn kind_and_acts(record: &link::Record) -> (RecordKind, u64) {
    match &record.body {
        Some(link::record::Body::Event(event)) => {
            let kind =
                EventType::from_number(event.event_type).map_or(RecordKind::Unknown, RecordKind::Event);
            let count = event.fields.iter().rev().find_map(|field| match field.value {
                Some(field_value::Value::Integer(count)) if is_count(field) => u64::try_from(count).ok(),
                _ => None,
            });
            (kind, count.unwrap_or(1).max(1))
        }
        Some(link::record::Body::Detection(_)) => (RecordKind::Detection, 1),
        Some(link::record::Body::Receipt(_)) => (RecordKind::Response, 1),
        None => (RecordKind::Unknown, 1),
    }
}

fn is_count(field: &link::FieldValue) -> bool {
    field.field == Field::EventCount.spec().number
}

/// The figures of a boot as a server tells them to the agent whose they are.
///
/// # Errors
/// There are more kinds or reasons than may be.
pub fn decode_ledger(ledger: link::Ledger) -> Result<Ledger, WireError> {
    ledger_from_wire(ledger, &mut 0)
}

fn ledger_from_wire(ledger: link::Ledger, unknown: &mut u64) -> Result<Ledger, WireError> {
    check_count(0, "kinds", ledger.kinds.len(), MAX_KINDS)?;
    let mut kinds: Vec<KindFigures> = Vec::with_capacity(ledger.kinds.len());
    for figures in ledger.kinds {
        check_count(0, "reasons", figures.dropped.len(), MAX_KINDS)?;
        let kind = u16::try_from(figures.kind).map_or(RecordKind::Unknown, RecordKind::from_number);
        let dropped = figures.dropped.into_iter().filter_map(|dropped| {
            let reason = GapReason::from_word(&dropped.reason);
            *unknown += u64::from(reason.is_none());
            Some((reason?, dropped.count))
        });
        let dropped: Vec<_> = dropped.collect();
        // Kinds of a newer agent share one row.
        match kinds.iter_mut().find(|known| known.kind == kind) {
            None => kinds.push(KindFigures { kind, produced: figures.produced, dropped }),
            Some(known) => {
                known.produced = known.produced.saturating_add(figures.produced);
                for (reason, count) in dropped {
                    match known.dropped.iter_mut().find(|(own, _)| *own == reason) {
                        Some((_, own)) => *own = own.saturating_add(count),
                        None => known.dropped.push((reason, count)),
                    }
                }
            }
        }
    }
    let link::Ledger { produced, dropped, kernel_lost, .. } = ledger;
    Ok(Ledger { produced, dropped, kernel_lost, kinds })
}

struct RecordDecoder {
    host_id: HostId,
    boot_id: BootId,
    sequence: u64,
}

impl RecordDecoder {
    fn malformed(&self, what: &'static str) -> WireError {
        WireError::Malformed { sequence: self.sequence, what }
    }

    fn text(&self, what: &'static str, text: String) -> Result<String, WireError> {
        if text.len() <= MAX_TEXT_BYTES { Ok(text) } else { Err(self.malformed(what)) }
    }

    fn header(&self, sequence: u64, observed_at_ns: i64, monotonic_ns: u64) -> EventHeader {
        EventHeader {
            host_id: self.host_id,
            boot_id: self.boot_id,
            sequence,
            observed_at: Timestamp::from_nanos(observed_at_ns),
            monotonic_ns,
        }
    }

    /// `None` for a kind of record that this version does not know.
    fn record(
        &self,
        header: EventHeader,
        body: Option<link::record::Body>,
        unknown: &mut u64,
    ) -> Result<Option<Record>, WireError> {
        let body = match body {
            None => return Ok(None),
            Some(link::record::Body::Event(event)) => match self.event(header.clone(), event, unknown)? {
                None => return Ok(None),
                Some(event) => RecordBody::Event(event),
            },
            Some(link::record::Body::Detection(detection)) => match self.detection(detection, unknown)? {
                None => return Ok(None),
                Some(detection) => RecordBody::Detection(Box::new(detection)),
            },
            Some(link::record::Body::Receipt(receipt)) => {
                RecordBody::Receipt(Box::new(self.receipt(receipt)?))
            }
        };
        Ok(Some(Record { header, body }))
    }

    fn event(
        &self,
        header: EventHeader,
        event: link::Event,
        unknown: &mut u64,
    ) -> Result<Option<EventRecord>, WireError> {
        let Some(event_type) = EventType::from_number(event.event_type) else {
            return Ok(None);
        };
        let mut fields = Vec::with_capacity(event.fields.len());
        for link::FieldValue { field, value } in event.fields {
            let (Some(field), Some(value)) = (Field::from_number(field), value) else {
                *unknown += 1;
                continue;
            };
            fields.push((field, self.value(field, value)?));
        }
        Ok(Some(EventRecord::from_fields(header, event_type, fields)))
    }

    fn value(&self, field: Field, value: field_value::Value) -> Result<Value, WireError> {
        let spec = field.spec();
        Ok(match (spec.kind, value) {
            (ValueKind::Text, field_value::Value::Text(text)) => Value::Text(self.text(spec.ecs, text)?),
            (ValueKind::Integer, field_value::Value::Integer(number)) => Value::Integer(number),
            (ValueKind::Boolean, field_value::Value::Boolean(truth)) => Value::Boolean(truth),
            (ValueKind::Time, field_value::Value::TimeNs(nanos)) => Value::Time(Timestamp::from_nanos(nanos)),
            (ValueKind::TextList, field_value::Value::List(list)) => {
                check_count(self.sequence, spec.ecs, list.items.len(), MAX_LIST_ITEMS)?;
                let items = list.items.into_iter().map(|item| self.text(spec.ecs, item));
                Value::TextList(items.collect::<Result<_, _>>()?)
            }
            _ => return Err(self.malformed(spec.ecs)),
        })
    }

    fn detection(
        &self,
        detection: link::Detection,
        unknown: &mut u64,
    ) -> Result<Option<Detection>, WireError> {
        check_count(self.sequence, "ancestors", detection.ancestry.len(), MAX_ANCESTRY)?;
        check_count(self.sequence, "matched conditions", detection.matched.len(), MAX_LIST_ITEMS)?;
        check_count(self.sequence, "ATT&CK techniques", detection.attack.len(), MAX_LIST_ITEMS)?;
        let header = self.header(
            detection.event_sequence,
            detection.event_observed_at_ns,
            detection.event_monotonic_ns,
        );
        let event = detection.event.ok_or_else(|| self.malformed("the detection's event"))?;
        let Some(event) = self.event(header, event, unknown)? else {
            return Ok(None);
        };
        let rule = RuleReference {
            id: RuleId::new(self.text("rule id", detection.rule_id)?),
            name: self.text("rule name", detection.rule_name)?,
            description: self.text("rule description", detection.rule_description)?,
            severity: Severity::from_word(&detection.severity).ok_or_else(|| self.malformed("severity"))?,
            attack: self.texts("ATT&CK technique", detection.attack)?,
            mode: ResponseMode::from_word(&detection.mode).ok_or_else(|| self.malformed("mode"))?,
        };
        let ancestry = detection.ancestry.into_iter().map(|process| self.ancestor(process));
        let ancestry = ancestry.collect::<Result<_, _>>()?;
        // An action of a newer agent is left out and counted, like an unknown field.
        let known: Vec<_> = detection.actions.iter().filter_map(|word| ActionKind::from_word(word)).collect();
        *unknown += (detection.actions.len() - known.len()) as u64;
        Ok(Some(Detection {
            id: DetectionId::from_slice(&detection.id).map_err(|_| self.malformed("detection id"))?,
            rule,
            event,
            ancestry,
            matched: self.texts("matched condition", detection.matched)?,
            actions: known,
        }))
    }

    fn ancestor(&self, process: link::ProcessSummary) -> Result<ProcessSummary, WireError> {
        let entity_id: event_model::ProcessEntityId =
            process.entity_id.parse().map_err(|_| self.malformed("an ancestor's entity id"))?;
        Ok(ProcessSummary {
            entity_id,
            pid: entity_id.pid(),
            executable: self.text("an ancestor's executable", process.executable)?,
            command_line: self.text("an ancestor's command line", process.command_line)?,
            user: self.text("an ancestor's user", process.user)?,
            start: Timestamp::from_nanos(process.start_ns),
        })
    }

    fn receipt(&self, receipt: link::Receipt) -> Result<ResponseReceipt, WireError> {
        check_count(self.sequence, "receipt steps", receipt.steps.len(), MAX_LIST_ITEMS)?;
        let steps = receipt.steps.into_iter().map(|step| {
            let at = Timestamp::from_nanos(step.at_ns);
            Ok(ReceiptStep { at, what: self.text("receipt step", step.what)? })
        });
        Ok(ResponseReceipt {
            id: Uuid::from_slice(&receipt.id).map_err(|_| self.malformed("receipt id"))?,
            detection_id: DetectionId::from_slice(&receipt.detection_id)
                .map_err(|_| self.malformed("the receipt's detection id"))?,
            action: ActionKind::from_word(&receipt.action).ok_or_else(|| self.malformed("action"))?,
            target: ResponseTarget {
                entity_id: receipt.entity_id.parse().map_err(|_| self.malformed("the target's entity id"))?,
                executable: self.text("the target's executable", receipt.executable)?,
            },
            state: ReceiptState::from_word(&receipt.state).ok_or_else(|| self.malformed("receipt state"))?,
            reason: self.text("receipt reason", receipt.reason)?,
            steps: steps.collect::<Result<_, _>>()?,
            asks: Some(self.text("what a receipt asks", receipt.asks)?).filter(|asks| !asks.is_empty()),
        })
    }

    fn texts(&self, what: &'static str, texts: Vec<String>) -> Result<Vec<String>, WireError> {
        texts.into_iter().map(|text| self.text(what, text)).collect()
    }
}

fn check_count(sequence: u64, what: &'static str, count: usize, maximum: usize) -> Result<(), WireError> {
    if count <= maximum { Ok(()) } else { Err(WireError::TooMany { sequence, what, count, maximum }) }
}

#[cfg(test)]
mod tests;
