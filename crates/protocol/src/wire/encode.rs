//! Records to messages.
//!
//! An event goes from its typed form straight into bytes: nothing of it is copied
//! twice, for there are hundreds of thousands in a second when a host is busy.
//!
//! Wherever the server has a limit, what is longer is cut here, and ends in `…`: a
//! rule of thousands of conditions must not cost the detections that it makes.

use std::borrow::Cow;

use event_model::{
    BootId, Detection, EventBody, EventHeader, EventRecord, Field, ProcessSummary, ReceiptStep, Record,
    RecordBody, ResponseReceipt, ValueRef,
};
use prost::Message as _;
use prost::encoding::{WireType, encode_varint, encoded_len_varint};

use super::{Ledger, MAX_ANCESTRY, MAX_LIST_BYTES, MAX_LIST_ITEMS, MAX_TEXT_BYTES};
use crate::link;

/// Ends what was cut.
const CUT: char = '…';

/// Bytes of a key and a length, at most.
const MAX_FRAME: usize = 1 + 10;

/// Numbers of the fields of the messages in `link.proto` that are written here by hand.
mod tag {
    pub(super) const BATCH_RECORDS: u32 = 4;
    pub(super) const RECORD_SEQUENCE: u32 = 1;
    pub(super) const RECORD_OBSERVED_AT: u32 = 2;
    pub(super) const RECORD_MONOTONIC: u32 = 3;
    pub(super) const RECORD_EVENT: u32 = 4;
    pub(super) const RECORD_DETECTION: u32 = 5;
    pub(super) const RECORD_RECEIPT: u32 = 6;
    pub(super) const DETECTION_EVENT: u32 = 11;
    pub(super) const EVENT_TYPE: u32 = 1;
    pub(super) const EVENT_FIELDS: u32 = 2;
    pub(super) const FIELD_NUMBER: u32 = 1;
    pub(super) const FIELD_TEXT: u32 = 2;
    pub(super) const FIELD_INTEGER: u32 = 3;
    pub(super) const FIELD_BOOLEAN: u32 = 4;
    pub(super) const FIELD_LIST: u32 = 5;
    pub(super) const FIELD_TIME: u32 = 6;
    pub(super) const LIST_ITEMS: u32 = 1;
}

/// Encodes a batch. The records must be of one boot and in order.
pub fn encode_batch(
    boot_id: BootId,
    first_sequence: u64,
    last_sequence: u64,
    records: &[Record],
    ledger: &Ledger,
) -> Vec<u8> {
    let mut encoder = RecordEncoder::default();
    let encode = |record| {
        let mut bytes = Vec::new();
        encoder.record(record, &mut bytes);
        bytes
    };
    let encoded: Vec<Vec<u8>> = records.iter().map(encode).collect();
    encode_batch_of(boot_id, first_sequence, last_sequence, encoded.iter().map(Vec::as_slice), ledger)
}

/// Encodes a batch of records that a [`RecordEncoder`] wrote; they must be in order.
pub fn encode_batch_of<'a>(
    boot_id: BootId,
    first_sequence: u64,
    last_sequence: u64,
    records: impl Iterator<Item = &'a [u8]> + Clone,
    ledger: &Ledger,
) -> Vec<u8> {
    let frame = link::Batch {
        boot_id: boot_id.as_bytes().to_vec(),
        first_sequence,
        last_sequence,
        records: Vec::new(),
        ledger: Some(encode_ledger(ledger)),
    };
    let size: usize = records.clone().map(|record| MAX_FRAME + record.len()).sum();
    let mut bytes = Vec::with_capacity(size + frame.encoded_len());
    // Parts of a message may come in any order.
    frame.encode_raw(&mut bytes);
    records.for_each(|record| put_bytes(tag::BATCH_RECORDS, record, &mut bytes));
    bytes
}

/// Writes records as messages, each without the frame that it has in a batch.
#[derive(Debug, Default)]
pub struct RecordEncoder {
    /// Messages within the record: their lengths stand before them.
    event: Vec<u8>,
}

impl RecordEncoder {
    /// Appends an event.
    pub fn event(&mut self, header: &EventHeader, body: &EventBody, into: &mut Vec<u8>) {
        self.event.clear();
        put_varint(tag::EVENT_TYPE, body.event_type().number().into(), &mut self.event);
        body.each_field(&mut |field, value| put_field(field, &value, &mut self.event));
        put_header(header, into);
        put_bytes(tag::RECORD_EVENT, &self.event, into);
    }

    /// Appends a record of any kind.
    pub fn record(&mut self, record: &Record, into: &mut Vec<u8>) {
        put_header(&record.header, into);
        match &record.body {
            RecordBody::Event(event) => {
                self.fields_of(event);
                put_bytes(tag::RECORD_EVENT, &self.event, into);
            }
            RecordBody::Detection(detection) => {
                self.fields_of(&detection.event);
                let mut message = detection_to_wire(detection).encode_to_vec();
                put_bytes(tag::DETECTION_EVENT, &self.event, &mut message);
                put_bytes(tag::RECORD_DETECTION, &message, into);
            }
            RecordBody::Receipt(receipt) => {
                put_bytes(tag::RECORD_RECEIPT, &receipt_to_wire(receipt).encode_to_vec(), into);
            }
        }
    }

    fn fields_of(&mut self, event: &EventRecord) {
        self.event.clear();
        put_varint(tag::EVENT_TYPE, event.event_type.number().into(), &mut self.event);
        event.fields().for_each(|(field, value)| put_field(field, &value.as_ref(), &mut self.event));
    }
}

fn put_header(header: &EventHeader, into: &mut Vec<u8>) {
    put_varint(tag::RECORD_SEQUENCE, header.sequence, into);
    put_fixed64(tag::RECORD_OBSERVED_AT, header.observed_at.as_nanos().cast_unsigned(), into);
    put_fixed64(tag::RECORD_MONOTONIC, header.monotonic_ns, into);
}

fn put_field(field: Field, value: &ValueRef<'_>, into: &mut Vec<u8>) {
    let number = u64::from(field.spec().number);
    // All keys here are below 16 and take one byte.
    let number_size = 1 + encoded_len_varint(number);
    let begin = |value_size: usize, into: &mut Vec<u8>| {
        put_key(tag::EVENT_FIELDS, WireType::LengthDelimited, into);
        encode_varint((number_size + 1 + value_size) as u64, into);
        put_varint(tag::FIELD_NUMBER, number, into);
    };
    match value {
        ValueRef::Text(text) => {
            let text = cut(text);
            begin(encoded_len_varint(text.len() as u64) + text.len(), into);
            put_bytes(tag::FIELD_TEXT, text.as_bytes(), into);
        }
        ValueRef::Integer(number) => {
            // `sint64`: the sign goes into the lowest bit.
            let number = ((number << 1) ^ (number >> 63)).cast_unsigned();
            begin(encoded_len_varint(number), into);
            put_varint(tag::FIELD_INTEGER, number, into);
        }
        ValueRef::Boolean(truth) => {
            begin(1, into);
            put_varint(tag::FIELD_BOOLEAN, u64::from(*truth), into);
        }
        ValueRef::TextList(items) if are_short(items) => {
            let size: usize = items.iter().map(|item| 2 + item.len()).sum();
            begin(encoded_len_varint(size as u64) + size, into);
            into.reserve(size);
            put_key(tag::FIELD_LIST, WireType::LengthDelimited, into);
            encode_varint(size as u64, into);
            items.iter().for_each(|item| put_bytes(tag::LIST_ITEMS, item.as_bytes(), into));
        }
        ValueRef::TextList(items) => {
            let (kept, rest) = fitting(items.iter().map(String::len));
            let items = || items.iter().take(kept).chain(&rest).map(|item| cut(item));
            let size = |item: Cow<'_, str>| 1 + encoded_len_varint(item.len() as u64) + item.len();
            let size: usize = items().map(size).sum();
            begin(encoded_len_varint(size as u64) + size, into);
            into.reserve(size);
            put_key(tag::FIELD_LIST, WireType::LengthDelimited, into);
            encode_varint(size as u64, into);
            items().for_each(|item| put_bytes(tag::LIST_ITEMS, item.as_bytes(), into));
        }
        ValueRef::Time(time) => {
            begin(8, into);
            put_fixed64(tag::FIELD_TIME, time.as_nanos().cast_unsigned(), into);
        }
    }
}

fn put_varint(tag: u32, number: u64, into: &mut Vec<u8>) {
    put_key(tag, WireType::Varint, into);
    encode_varint(number, into);
}

fn put_fixed64(tag: u32, number: u64, into: &mut Vec<u8>) {
    put_key(tag, WireType::SixtyFourBit, into);
    into.extend_from_slice(&number.to_le_bytes());
}

fn put_bytes(tag: u32, bytes: &[u8], into: &mut Vec<u8>) {
    put_key(tag, WireType::LengthDelimited, into);
    match u8::try_from(bytes.len()) {
        // Nearly all are that short; the loop over the bits of a length costs more than the copy.
        Ok(length) if length < 0x80 => into.push(length),
        _ => encode_varint(bytes.len() as u64, into),
    }
    into.extend_from_slice(bytes);
}

/// A field's number and how it is written. All numbers here are below 16, so that both fit into a byte.
#[expect(clippy::cast_possible_truncation, reason = "see above")]
fn put_key(tag: u32, wire_type: WireType, into: &mut Vec<u8>) {
    debug_assert!(tag < 16, "{tag} takes a second byte");
    into.push((tag << 3) as u8 | wire_type as u8);
}

/// A detection without its event, which is appended.
fn detection_to_wire(detection: &Detection) -> link::Detection {
    let texts =
        |process: &ProcessSummary| process.executable.len() + process.command_line.len() + process.user.len();
    // The nearest come first. Where they end before a process without a parent, they were cut.
    let (kept, _) = fitting(detection.ancestry.iter().map(texts));
    let kept = kept.min(MAX_ANCESTRY);
    let ancestry = detection.ancestry.iter().take(kept).map(|process| link::ProcessSummary {
        entity_id: process.entity_id.to_string(),
        executable: cut(&process.executable).into_owned(),
        command_line: cut(&process.command_line).into_owned(),
        user: cut(&process.user).into_owned(),
        start_ns: process.start.as_nanos(),
    });
    let header = &detection.event.header;
    link::Detection {
        id: detection.id.as_bytes().to_vec(),
        rule_id: cut(detection.rule.id.as_str()).into_owned(),
        rule_name: cut(&detection.rule.name).into_owned(),
        rule_description: cut(&detection.rule.description).into_owned(),
        severity: detection.rule.severity.as_str().to_owned(),
        attack: cut_list(&detection.rule.attack),
        mode: detection.rule.mode.as_str().to_owned(),
        event_sequence: header.sequence,
        event_observed_at_ns: header.observed_at.as_nanos(),
        event_monotonic_ns: header.monotonic_ns,
        event: None,
        ancestry: ancestry.collect(),
        matched: cut_list(&detection.matched),
        actions: detection.actions.iter().map(|action| action.as_str().to_owned()).collect(),
    }
}

fn receipt_to_wire(receipt: &ResponseReceipt) -> link::Receipt {
    let (kept, rest) = fitting(receipt.steps.iter().map(|step| step.what.len()));
    let step = |step: &ReceiptStep| link::ReceiptStep {
        at_ns: step.at.as_nanos(),
        what: cut(&step.what).into_owned(),
    };
    let mut steps: Vec<_> = receipt.steps.iter().take(kept).map(step).collect();
    if let Some((what, last)) = rest.zip(receipt.steps.last()) {
        steps.push(link::ReceiptStep { at_ns: last.at.as_nanos(), what });
    }
    let asks = receipt.asks.as_deref().unwrap_or_default();
    // Half an order could not be read, and must not be approved.
    let (asks, reason) = if asks.len() <= MAX_TEXT_BYTES {
        (asks, Cow::Borrowed(receipt.reason.as_str()))
    } else {
        let reason = format!(
            "nobody can approve it, as what it asks for has {} bytes (at most {MAX_TEXT_BYTES} can be sent): {}",
            asks.len(),
            receipt.reason
        );
        ("", Cow::Owned(reason))
    };
    link::Receipt {
        id: receipt.id.as_bytes().to_vec(),
        detection_id: receipt.detection_id.as_bytes().to_vec(),
        action: receipt.action.as_str().to_owned(),
        entity_id: receipt.target.entity_id.to_string(),
        executable: cut(&receipt.target.executable).into_owned(),
        state: receipt.state.as_str().to_owned(),
        reason: cut(&reason).into_owned(),
        asks: asks.to_owned(),
        steps,
    }
}

/// Cuts at a character, so that the server takes the text.
fn cut(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_TEXT_BYTES {
        return Cow::Borrowed(text);
    }
    let mut text = text[..text.floor_char_boundary(MAX_TEXT_BYTES - CUT.len_utf8())].to_owned();
    text.push(CUT);
    Cow::Owned(text)
}

fn cut_list(items: &[String]) -> Vec<String> {
    let (kept, rest) = fitting(items.iter().map(String::len));
    items.iter().take(kept).map(|item| cut(item).into_owned()).chain(rest).collect()
}

/// An item below this takes one byte for its length, and as many as a list may have are within what it may hold.
const SHORT: usize = 0x80;
const _: () = assert!(MAX_LIST_ITEMS * SHORT <= MAX_LIST_BYTES);

/// Whether the list is written as it is: nearly all are, forty capabilities with each start among them.
fn are_short(items: &[String]) -> bool {
    items.len() <= MAX_LIST_ITEMS && items.iter().all(|item| item.len() < SHORT)
}

/// How many items of a list, given their lengths, are written, and the item that stands for the rest.
fn fitting(lengths: impl ExactSizeIterator<Item = usize>) -> (usize, Option<String>) {
    let all = lengths.len();
    let mut bytes = 0;
    let fits = |length: usize| {
        bytes += length.min(MAX_TEXT_BYTES);
        bytes <= MAX_LIST_BYTES
    };
    let fit = lengths.take(MAX_LIST_ITEMS).map(fits).take_while(|fits| *fits).count();
    if fit == all {
        return (all, None);
    }
    let kept = fit.min(MAX_LIST_ITEMS - 1);
    (kept, Some(format!("{CUT} and {} more", all - kept)))
}

/// The figures of a boot as a message.
pub fn encode_ledger(ledger: &Ledger) -> link::Ledger {
    let kinds = ledger.kinds.iter().map(|figures| link::KindFigures {
        kind: figures.kind.number().into(),
        produced: figures.produced,
        dropped: figures
            .dropped
            .iter()
            .map(|(reason, count)| link::Dropped { reason: reason.as_str().to_owned(), count: *count })
            .collect(),
    });
    link::Ledger {
        produced: ledger.produced,
        dropped: ledger.dropped,
        kernel_lost: ledger.kernel_lost,
        kinds: kinds.collect(),
    }
}
