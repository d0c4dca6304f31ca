//! From a place and a value to a field of the consumer: what all readers share.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::sync::Arc;

use event_model::Timestamp;

use crate::consumer::{AuditKind, EventHead, LogConsumer, Origin};
use crate::format::{BINARY_SNIFF_BYTES, LogFormat, SNIFF_BYTES, is_evtx, sniff};
use crate::kept::{Kept, KeptSlot};
use crate::layout::FieldLayout;
use crate::path_tree::{PathTree, Place};
use crate::problem::{Problem, ProblemKind};
use crate::{auditd, event_xml, evtx_file, json_documents, json_lines};

/// The longest record that is decoded, in bytes. Windows ends a script block at 32 KiB
/// and an argument list of Linux at 2 MiB.
pub const RECORD_LIMIT: usize = 4 << 20;
/// The most values that one event may have; more than any real one has.
pub const VALUES_LIMIT: u32 = 16_384;
/// The most keys that one event may have, those of objects included.
const KEYS_LIMIT: u32 = 65_536;

/// Reads logs and hands their events to a consumer. Keeps what it learnt about names
/// from one file to the next; one for each thread.
#[derive(Debug)]
pub struct LogDecoder<C: LogConsumer> {
    layout: Arc<FieldLayout>,
    tree: PathTree<C::Field>,
    kept: Kept<C::Field>,
    consumer: C,
    keys_left: u32,
    values_left: u32,
    scratch: Vec<u8>,
    /// The beginning of a log.
    start: Vec<u8>,
}

/// Memory for strings with escapes that is kept for the next ones, in bytes.
const SCRATCH_BYTES: usize = 64 * 1024;

impl<C: LogConsumer> LogDecoder<C> {
    /// A decoder that feeds `consumer`.
    pub fn new(layout: Arc<FieldLayout>, mut consumer: C) -> Self {
        let kept = Kept::new(&layout, &mut consumer);
        Self {
            kept,
            layout,
            tree: PathTree::new(),
            consumer,
            keys_left: 0,
            values_left: 0,
            scratch: Vec::new(),
            start: Vec::new(),
        }
    }

    /// The consumer.
    pub fn consumer(&mut self) -> &mut C {
        &mut self.consumer
    }

    /// The consumer, at the end.
    pub fn into_consumer(self) -> C {
        self.consumer
    }

    /// Reads a whole log; its content tells the format, not its name. What can't be read
    /// is reported to the consumer and left out.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn read_log(&mut self, input: &mut (impl Read + Seek)) -> io::Result<Option<LogFormat>> {
        let start = &mut self.start;
        start.clear();
        // Of binary files no more is looked at, and folders are full of small ones.
        input.by_ref().take(BINARY_SNIFF_BYTES).read_to_end(start)?;
        if !is_evtx(start) {
            input.by_ref().take(SNIFF_BYTES - BINARY_SNIFF_BYTES).read_to_end(start)?;
        }
        input.seek(SeekFrom::Start(0))?;
        let format = match sniff(start) {
            Ok(format) => format,
            Err(problem) => {
                self.consumer.problem(problem);
                return Ok(None);
            }
        };
        let end = match format {
            LogFormat::Evtx => evtx_file::read(input, self),
            LogFormat::JsonLines => json_lines::read(input, self),
            LogFormat::JsonDocuments => json_documents::read(input, self),
            LogFormat::Auditd => auditd::read(input, self),
            LogFormat::EventXml => event_xml::read(input, self),
        }?;
        // Whether the consumer had enough or the log ended makes no difference here.
        let (ControlFlow::Continue(()) | ControlFlow::Break(())) = end;
        Ok(Some(format))
    }

    /// One event as `EvtRender` gives it (`<Event xmlns=…>…</Event>`): what a live
    /// subscription to the Windows event log delivers.
    pub fn read_event_xml(&mut self, xml: &str) -> ControlFlow<()> {
        event_xml::read_one(xml.as_bytes(), 0, 0, self)
    }

    pub(crate) fn begin(&mut self) {
        self.tree.forget_if_full();
        self.kept.clear();
        self.consumer.begin();
        self.keys_left = KEYS_LIMIT;
        self.values_left = VALUES_LIMIT;
    }

    /// The event is whole. With `own_record` its own record id counts, if it has one.
    pub(crate) fn finish(
        &mut self,
        record: u64,
        own_record: bool,
        byte: u64,
        time: Option<Timestamp>,
    ) -> ControlFlow<()> {
        self.kept.derive(&mut self.consumer);
        let head = self.kept.head(record, own_record, time);
        let end = self.consumer.event(&head);
        self.report_limits(record, byte);
        end
    }

    /// The same for an audit event, whose origin its reader knows.
    pub(crate) fn finish_audit(
        &mut self,
        record: u64,
        byte: u64,
        time: Timestamp,
        kind: AuditKind,
    ) -> ControlFlow<()> {
        let head = EventHead { record, time: Some(time), origin: Origin::Auditd(kind) };
        let end = self.consumer.event(&head);
        self.report_limits(record, byte);
        end
    }

    fn report_limits(&mut self, record: u64, byte: u64) {
        if self.keys_left == 0 || self.values_left == 0 {
            let reason = format!(
                "more than {VALUES_LIMIT} values or {KEYS_LIMIT} keys; the rest of the event is missing"
            );
            let hint = "split the record where it was made";
            let (kind, record) = (ProblemKind::TooLarge, Some(record));
            self.consumer.problem(Problem { kind, record, byte, reason, hint });
        }
    }

    /// Memory that the last record used; to be given back.
    pub(crate) fn take_scratch(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.scratch)
    }

    pub(crate) fn keep_scratch(&mut self, mut scratch: Vec<u8>) {
        scratch.clear();
        scratch.shrink_to(SCRATCH_BYTES);
        self.scratch = scratch;
    }

    /// Whether anybody asks for the values at a place.
    pub(crate) fn is_wanted(&self, place: Place) -> bool {
        let (slot, fields) = self.tree.asked(place);
        slot.is_some() || !fields.is_empty()
    }

    /// A value that nobody asks for; it counts all the same.
    pub(crate) fn pass_over(&mut self) {
        self.values_left = self.values_left.saturating_sub(1);
    }

    pub(crate) fn problem(&mut self, problem: Problem) {
        self.consumer.problem(problem);
    }

    /// The place of a key below another; `None` past the limit of keys.
    pub(crate) fn child(&mut self, parent: Place, previous: Place, key: &str) -> Option<Place> {
        self.keys_left = self.keys_left.checked_sub(1)?;
        if let Some(place) = self.tree.find(parent, previous, key) {
            return Some(place);
        }
        Some(self.tree.add(parent, key, &self.layout, self.kept.names(), &mut self.consumer))
    }

    /// The place of the key that the text begins with, and the length of it with its closing quote; only where it
    /// stands where it stood in the last event.
    pub(crate) fn expected_child(
        &mut self,
        parent: Place,
        previous: Place,
        text: &[u8],
    ) -> Option<(Place, usize)> {
        let found = self.tree.expected(parent, previous, text)?;
        self.keys_left = self.keys_left.checked_sub(1)?;
        Some(found)
    }

    /// A text at a place. Windows pads some values with spaces that rules don't have.
    pub(crate) fn text(&mut self, place: Place, value: &str) {
        let value = if value.ends_with(' ') { value.trim_end_matches(' ') } else { value };
        self.put(place, |kept, slot| kept.push(slot, value), |consumer, field| consumer.text(field, value));
    }

    pub(crate) fn integer(&mut self, place: Place, value: i64) {
        self.put(
            place,
            |kept, slot| kept.push_shown(slot, value),
            |consumer, field| consumer.integer(field, value),
        );
    }

    /// A whole number that is written as all are.
    pub(crate) fn written_integer(&mut self, place: Place, value: i64, written: &str) {
        self.put(
            place,
            |kept, slot| kept.push(slot, written),
            |consumer, field| consumer.written_integer(field, value, written),
        );
    }

    pub(crate) fn float(&mut self, place: Place, value: f64) {
        self.put(
            place,
            |kept, slot| kept.push_shown(slot, value),
            |consumer, field| consumer.float(field, value),
        );
    }

    pub(crate) fn boolean(&mut self, place: Place, value: bool) {
        self.put(place, |_, _| {}, |consumer, field| consumer.boolean(field, value));
    }

    pub(crate) fn null(&mut self, place: Place) {
        self.put(place, |_, _| {}, C::null);
    }

    fn put(
        &mut self,
        place: Place,
        keep: impl Fn(&mut Kept<C::Field>, KeptSlot),
        put: impl Fn(&mut C, C::Field),
    ) {
        let (slot, fields) = self.tree.asked(place);
        if let Some(slot) = slot {
            keep(&mut self.kept, slot);
        }
        let Some(left) = self.values_left.checked_sub(1) else { return };
        self.values_left = left;
        for field in fields {
            put(&mut self.consumer, *field);
        }
    }
}
