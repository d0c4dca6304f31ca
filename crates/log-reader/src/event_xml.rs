//! Records of the Windows event log as XML: exports, and what a live subscription
//! renders. Places are the same as in the JSON of EVTX, so that names are too.

use std::io::{self, Read};
use std::ops::ControlFlow;

use memchr::memmem;
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use crate::consumer::LogConsumer;
use crate::decoder::{LogDecoder, RECORD_LIMIT};
use crate::json_lines::too_long;
use crate::path_tree::Place;
use crate::problem::{Problem, ProblemKind};

const READ_BYTES: u64 = 256 * 1024;
/// Elements within each other. Windows' own are at most six deep.
const DEPTH_LIMIT: usize = 64;
const START: &[u8] = b"<Event";
const END: &[u8] = b"</Event>";

/// Reads a file of `<Event>` elements, whatever stands around them.
pub(crate) fn read<C: LogConsumer>(
    input: &mut impl Read,
    decoder: &mut LogDecoder<C>,
) -> io::Result<ControlFlow<()>> {
    let mut window = Window { bytes: Vec::new(), start: 0, byte: 0 };
    let mut count = 0;
    let mut at_end = false;
    loop {
        while let Some((start, end)) = window.next_event() {
            count += 1;
            let (bytes, byte) = (&window.rest()[start..end], window.byte + start as u64);
            if read_one(bytes, count, byte, decoder).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            window.advance(end);
        }
        // What is left holds no whole event. Of several that begin in it the last may go on; an
        // event does not hold another.
        let last = find_starts(window.rest()).last();
        window.advance(last.unwrap_or(window.rest().len().saturating_sub(START.len())));
        if at_end {
            if last.is_some() {
                let reason = "the file ends within an event".to_owned();
                let hint = "the event was left out; export the log again";
                let (kind, record, byte) = (ProblemKind::Cut, Some(count + 1), window.byte);
                decoder.problem(Problem { kind, record, byte, reason, hint });
            }
            return Ok(ControlFlow::Continue(()));
        }
        if window.rest().len() > RECORD_LIMIT {
            count += 1;
            decoder.problem(too_long(count, window.byte, window.rest().len() as u64));
            window.advance(window.rest().len());
        }
        at_end = window.fill(input)? == 0;
    }
}

/// The part of the file that is looked at.
struct Window {
    bytes: Vec<u8>,
    start: usize,
    /// The file's byte at `start`.
    byte: u64,
}

impl Window {
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    fn advance(&mut self, count: usize) {
        self.start += count;
        self.byte += count as u64;
    }

    fn fill(&mut self, input: &mut impl Read) -> io::Result<usize> {
        self.bytes.drain(..self.start);
        self.start = 0;
        input.by_ref().take(READ_BYTES).read_to_end(&mut self.bytes)
    }

    /// Start and end of the next event that is whole.
    fn next_event(&self) -> Option<(usize, usize)> {
        let rest = self.rest();
        let end = memmem::find(rest, END)?;
        match find_starts(&rest[..end]).last() {
            Some(start) => Some((start, end + END.len())),
            // An end without a start is no XML, and reading it says so.
            None => Some((end, end + END.len())),
        }
    }
}

fn find_starts(bytes: &[u8]) -> impl Iterator<Item = usize> {
    memmem::find_iter(bytes, START)
        .filter(|start| matches!(bytes.get(start + START.len()), Some(b' ' | b'>' | b'\n' | b'\r' | b'\t')))
}

/// One element that is open.
struct Open {
    place: Option<Place>,
    last_child: Place,
    /// Elements or attributes; such an element has no value of its own unless it has text.
    has_children: bool,
    /// `<Data>` of event data.
    is_data: bool,
}

/// Reads one `<Event>` element.
pub(crate) fn read_one<C: LogConsumer>(
    xml: &[u8],
    record: u64,
    byte: u64,
    decoder: &mut LogDecoder<C>,
) -> ControlFlow<()> {
    decoder.begin();
    // Decoded as a whole: one bad byte must not hide the event.
    let text = String::from_utf8_lossy(xml);
    if let std::borrow::Cow::Owned(_) = text {
        let reason = "bytes that are not UTF-8; each was read as U+FFFD".to_owned();
        let (kind, record, hint) = (ProblemKind::NotUtf8, Some(record), "write the log as UTF-8");
        decoder.problem(Problem { kind, record, byte, reason, hint });
    }
    match visit(&text, decoder) {
        Ok(()) => decoder.finish(record, true, byte, None),
        Err((offset, reason)) => {
            let (byte, record) = (byte + offset, Some(record));
            let hint = "the event was left out";
            decoder.problem(Problem { kind: ProblemKind::BadRecord, record, byte, reason, hint });
            ControlFlow::Continue(())
        }
    }
}

fn visit<C: LogConsumer>(xml: &str, decoder: &mut LogDecoder<C>) -> Result<(), (u64, String)> {
    let mut reader = Reader::from_str(xml);
    let mut open =
        vec![Open { place: Some(Place::ROOT), last_child: Place::NONE, has_children: false, is_data: false }];
    let mut text = String::new();
    loop {
        let event = reader.read_event();
        let wrong = |reason: String| (reader.error_position(), reason);
        match event.map_err(|error| wrong(format!("no XML: {error}")))? {
            Event::Start(element) => {
                if open.len() > DEPTH_LIMIT {
                    return Err(wrong(format!("elements nested deeper than {DEPTH_LIMIT}")));
                }
                text.clear();
                let child = enter(&element, &mut open, decoder).map_err(wrong)?;
                open.push(child);
            }
            Event::Empty(element) => {
                text.clear();
                // An empty element has no value, an element with nothing in it has an empty one.
                let child = enter(&element, &mut open, decoder).map_err(wrong)?;
                if let Open { place: Some(place), has_children: false, .. } = child {
                    decoder.null(place);
                }
            }
            Event::End(_) => {
                let closed = open.pop();
                if let Some(Open { place: Some(place), has_children, is_data, .. }) = closed
                    && !(has_children && text.trim_ascii().is_empty())
                {
                    // As in the JSON of EVTX: only `Data` can be an empty text.
                    if text.is_empty() && !is_data {
                        decoder.null(place);
                    } else {
                        decoder.text(place, &text);
                    }
                }
                text.clear();
            }
            Event::Text(part) => {
                text.push_str(&part.decode().map_err(|error| wrong(format!("no XML: {error}")))?);
            }
            Event::CData(part) => {
                text.push_str(&part.decode().map_err(|error| wrong(format!("no XML: {error}")))?);
            }
            Event::GeneralRef(reference) => {
                let character =
                    reference.resolve_char_ref().map_err(|error| wrong(format!("no XML: {error}")))?;
                match (character, &*reference) {
                    (Some(character), _) => text.push(character),
                    (None, b"lt") => text.push('<'),
                    (None, b"gt") => text.push('>'),
                    (None, b"amp") => text.push('&'),
                    (None, b"quot") => text.push('"'),
                    (None, b"apos") => text.push('\''),
                    // Entities that a document defines itself are never followed.
                    (None, other) => {
                        return Err(wrong(format!("unknown entity `{}`", String::from_utf8_lossy(other))));
                    }
                }
            }
            Event::Eof => break,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
    if open.len() > 1 {
        return Err((reader.buffer_position(), "the event ends within an element".to_owned()));
    }
    Ok(())
}

/// Finds the place of an element and reads its attributes.
fn enter<C: LogConsumer>(
    element: &BytesStart<'_>,
    open: &mut [Open],
    decoder: &mut LogDecoder<C>,
) -> Result<Open, String> {
    let inner = Open { place: None, last_child: Place::NONE, has_children: false, is_data: false };
    let Some(outer) = open.last_mut() else { return Ok(inner) };
    outer.has_children = true;
    let Some(parent) = outer.place else { return Ok(inner) };
    let tag = element.name();
    let tag = String::from_utf8_lossy(tag.as_ref());
    let mut attributes = Vec::new();
    for attribute in element.attributes() {
        let attribute = attribute.map_err(|error| format!("no XML: {error}"))?;
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(|error| format!("no XML: {error}"))?;
        attributes.push((String::from_utf8_lossy(attribute.key.as_ref()).into_owned(), value.into_owned()));
    }
    // `<Data Name="Image">` is the field `Image`.
    let own_name = attributes.iter().find(|(name, _)| tag == "Data" && name == "Name");
    let key = own_name.map_or(&*tag, |(_, value)| value.as_str());
    let place = decoder.child(parent, outer.last_child, key);
    if let Some(place) = place {
        outer.last_child = place;
        if own_name.is_none() && !attributes.is_empty() {
            let between = decoder.child(place, Place::NONE, "#attributes");
            let mut previous = Place::NONE;
            for (name, value) in &attributes {
                let attribute = between.and_then(|between| decoder.child(between, previous, name));
                if let Some(attribute) = attribute {
                    decoder.text(attribute, value);
                    previous = attribute;
                }
            }
        }
    }
    let has_children = !attributes.is_empty() && own_name.is_none();
    Ok(Open { place, has_children, is_data: tag == "Data", ..inner })
}
