//! YAML with places.
//!
//! The parser gives events; here they become a tree in which every value knows its line and column, and in
//! which aliases are copies that count: text that would grow past [`NODE_LIMIT`] is refused before it does.

use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use crate::source::Place;

/// Values of one text, those of aliases counted each time.
const NODE_LIMIT: usize = 2_000_000;
/// How deep lists and maps may stand in each other.
const DEPTH_LIMIT: usize = 64;

/// A value with its place.
#[derive(Debug, Clone)]
pub struct Node {
    at: At,
    /// Where the text of a scalar begins on its line, if each of its characters is one of the source.
    text_column: Option<u32>,
    /// The value itself.
    pub value: Yaml,
}

/// Line and columns, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// Line.
    pub line: u32,
    /// Column of the first character.
    pub column: u32,
    /// The column behind the last character.
    pub end_column: u32,
}

/// What a value is.
#[derive(Debug, Clone)]
pub enum Yaml {
    /// Nothing.
    Null,
    /// True or false.
    Boolean(bool),
    /// A number as it is written.
    Integer(i64),
    /// A number with a fraction.
    Float(f64),
    /// A text.
    Text(Box<str>),
    /// Several values.
    List(Vec<Node>),
    /// Keys and values in their order.
    Map(Vec<(Node, Node)>),
}

/// One document, and its bytes in the text.
#[derive(Debug)]
pub struct Document {
    /// Its value.
    pub root: Node,
    /// Of the values that stand twice as keys of one map, the second.
    pub duplicates: Vec<(At, String)>,
    /// Its first line, from 1.
    pub first_line: u32,
}

/// Why reading stopped; documents before it are read.
#[derive(Debug)]
pub struct YamlError {
    /// Where.
    pub at: At,
    /// Why.
    pub reason: String,
    /// Whether it was a limit.
    pub too_large: bool,
}

impl At {
    /// The place in a file.
    pub fn place(self, file: &Arc<str>) -> Place {
        Place { file: Arc::clone(file), line: self.line, column: self.column, end_column: self.end_column }
    }

    fn of(span: &Span) -> Self {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let (line, column) = (number(span.start.line()).max(1), number(span.start.col()).saturating_add(1));
        let end =
            if span.end.line() == span.start.line() { number(span.end.col()).saturating_add(1) } else { 0 };
        Self { line, column, end_column: end.max(column.saturating_add(1)) }
    }
}

impl Node {
    /// Its place.
    pub fn at(&self) -> At {
        self.at
    }

    /// The place of a part of its text, given in bytes; of all of it where that can't be told.
    pub fn part_at(&self, text: &str, part: std::ops::Range<usize>) -> At {
        let characters = |to: usize| {
            let count = text.get(..to).map_or(0, |before| before.chars().count());
            u32::try_from(count).unwrap_or(u32::MAX)
        };
        match self.text_column {
            Some(column) => {
                let from = column.saturating_add(characters(part.start));
                let end_column = column.saturating_add(characters(part.end)).max(from.saturating_add(1));
                At { line: self.at.line, column: from, end_column }
            }
            None => self.at,
        }
    }

    /// A map in which the entries of `over` replace or complete those of `self`.
    pub(crate) fn overlaid(&self, over: &Self) -> Self {
        let (Yaml::Map(own), Yaml::Map(others)) = (&self.value, &over.value) else { return over.clone() };
        let mut entries = own.clone();
        for (key, value) in others {
            match entries.iter_mut().find(|(known, _)| known.text().is_some() && known.text() == key.text()) {
                Some((_, known)) => *known = known.overlaid(value),
                None => entries.push((key.clone(), value.clone())),
            }
        }
        Self { at: over.at, text_column: None, value: Yaml::Map(entries) }
    }

    /// The text of a text, number or truth, as a rule's author would compare it.
    pub fn scalar_text(&self) -> Option<String> {
        match &self.value {
            Yaml::Text(text) => Some(text.to_string()),
            Yaml::Integer(number) => Some(number.to_string()),
            Yaml::Float(number) => Some(number.to_string()),
            Yaml::Boolean(truth) => Some(truth.to_string()),
            Yaml::Null | Yaml::List(_) | Yaml::Map(_) => None,
        }
    }

    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Yaml::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Keys and values, if it is a map.
    pub fn map(&self) -> Option<&[(Node, Node)]> {
        match &self.value {
            Yaml::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value of a key of a map.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|(_, value)| value)
    }

    /// A key of a map with its value.
    pub fn entry(&self, key: &str) -> Option<&(Node, Node)> {
        self.map()?.iter().find(|(own, _)| own.text() == Some(key))
    }

    /// The items of a list; anything else is a list of itself.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Yaml::List(items) => items,
            _ => std::slice::from_ref(self),
        }
    }

    /// What it is, in words for messages.
    pub fn type_name(&self) -> &'static str {
        match &self.value {
            Yaml::Null => "null",
            Yaml::Boolean(_) => "true or false",
            Yaml::Integer(_) | Yaml::Float(_) => "a number",
            Yaml::Text(_) => "a text",
            Yaml::List(_) => "a list",
            Yaml::Map(_) => "a map",
        }
    }

    fn count(&self) -> usize {
        match &self.value {
            Yaml::List(items) => items.iter().map(Self::count).sum::<usize>() + 1,
            Yaml::Map(entries) => {
                entries.iter().map(|(key, value)| key.count() + value.count()).sum::<usize>() + 1
            }
            _ => 1,
        }
    }
}

/// Reads the documents of a text.
pub fn read(text: &str) -> (Vec<Document>, Option<YamlError>) {
    let lines = Lines(text.split('\n').collect());
    let mut reader =
        Reader { lines, anchors: HashMap::new(), nodes: 0, open: Vec::new(), duplicates: Vec::new() };
    let mut documents = Vec::new();
    let mut first_line = 1;
    for event in Parser::new_from_str(text) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                let at = reader.lines.within(At::of(&Span::empty(*error.marker())));
                let reason = format!("the text is not YAML: {}", error.info());
                return (documents, Some(YamlError { at, reason, too_large: false }));
            }
        };
        let at = reader.lines.within(At::of(&span));
        let root = match event {
            Event::DocumentStart(_) => {
                first_line = at.line;
                continue;
            }
            event => match reader.event(event, at) {
                Ok(root) => root,
                Err(error) => return (documents, Some(error)),
            },
        };
        if let Some(root) = root {
            reader.anchors.clear();
            let duplicates = std::mem::take(&mut reader.duplicates);
            documents.push(Document { root, duplicates, first_line });
        }
    }
    (documents, None)
}

struct Reader<'t> {
    lines: Lines<'t>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    open: Vec<Open>,
    duplicates: Vec<(At, String)>,
}

/// The lines of the text.
struct Lines<'t>(Vec<&'t str>);

impl Lines<'_> {
    /// The end of the text stands on its last line.
    fn within(&self, at: At) -> At {
        let last = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        At { line: at.line.min(last), ..at }
    }

    /// Whether a text stands at a place as it is, between quotes of this kind.
    fn has(&self, at: At, quote: &str, text: &str) -> bool {
        let line = self.0.get((at.line as usize).saturating_sub(1)).copied().unwrap_or_default();
        let column = (at.column as usize).saturating_sub(1);
        let start =
            if line.is_ascii() { Some(column) } else { line.char_indices().nth(column).map(|(at, _)| at) };
        let rest = start.and_then(|start| line.get(start..)).and_then(|rest| rest.strip_prefix(quote));
        rest.and_then(|rest| rest.strip_prefix(text)).is_some_and(|rest| rest.starts_with(quote))
    }
}

/// A list or map that has not ended.
struct Open {
    at: At,
    anchor: usize,
    items: Vec<Node>,
    /// For maps.
    map: Option<OpenMap>,
}

#[derive(Default)]
struct OpenMap {
    entries: Vec<(Node, Node)>,
    /// A key that waits for its value.
    waiting: Option<Node>,
}

impl Reader<'_> {
    /// Takes an event; the root of a document when it is complete.
    fn event(&mut self, event: Event<'_>, at: At) -> Result<Option<Node>, YamlError> {
        let (node, anchor) = match event {
            Event::SequenceStart(anchor, _) => {
                self.open(Open { at, anchor, items: Vec::new(), map: None })?;
                return Ok(None);
            }
            Event::MappingStart(anchor, _) => {
                self.open(Open { at, anchor, items: Vec::new(), map: Some(OpenMap::default()) })?;
                return Ok(None);
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Ok(None) };
                let value = match open.map {
                    Some(map) => Yaml::Map(self.merged(map.entries)),
                    None => Yaml::List(open.items),
                };
                (Node { at: open.at, text_column: None, value }, open.anchor)
            }
            Event::Scalar(text, style, anchor, _) => {
                let quote = match style {
                    ScalarStyle::SingleQuoted => "'",
                    ScalarStyle::DoubleQuoted => "\"",
                    _ => "",
                };
                let width = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
                // A scalar with escapes or on several lines is not as wide as its text.
                let is_as_written = self.lines.has(at, quote, &text);
                let text_column = is_as_written.then_some(at.column + u32::from(!quote.is_empty()));
                let end_column =
                    text_column.map(|column| column.saturating_add(width) + u32::from(!quote.is_empty()));
                let end_column = end_column.unwrap_or(at.end_column).max(at.column.saturating_add(1));
                let at = At { end_column, ..at };
                (Node { at, text_column, value: scalar(&text, style) }, anchor)
            }
            Event::Alias(anchor) => {
                let Some(known) = self.anchors.get(&anchor) else {
                    let reason = "an alias stands inside the value that it is an alias of".to_owned();
                    return Err(YamlError { at, reason, too_large: false });
                };
                // Counted before it is copied.
                self.nodes += known.count();
                self.check_size(at)?;
                (Node { at, text_column: None, value: known.value.clone() }, 0)
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => {
                return Ok(None);
            }
        };
        self.nodes += 1;
        self.check_size(at)?;
        if anchor != 0 {
            // What is kept for aliases is a copy, and counts.
            self.nodes += node.count();
            self.check_size(at)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(self.put(node))
    }

    fn open(&mut self, open: Open) -> Result<(), YamlError> {
        if self.open.len() >= DEPTH_LIMIT {
            let reason = format!("nested deeper than {DEPTH_LIMIT} levels");
            return Err(YamlError { at: open.at, reason, too_large: true });
        }
        self.open.push(open);
        Ok(())
    }

    fn check_size(&self, at: At) -> Result<(), YamlError> {
        if self.nodes <= NODE_LIMIT {
            return Ok(());
        }
        let reason = format!("more than {NODE_LIMIT} values, those of aliases counted each time");
        Err(YamlError { at, reason, too_large: true })
    }

    /// Puts a value where it belongs; gives it back where nothing is open.
    fn put(&mut self, node: Node) -> Option<Node> {
        let Some(open) = self.open.last_mut() else { return Some(node) };
        match &mut open.map {
            None => open.items.push(node),
            Some(map) => match map.waiting.take() {
                None => map.waiting = Some(node),
                Some(key) => map.entries.push((key, node)),
            },
        }
        None
    }

    /// Notes keys that stand twice, and puts in place what `<<` brings.
    fn merged(&mut self, entries: Vec<(Node, Node)>) -> Vec<(Node, Node)> {
        let mut seen: HashMap<&str, ()> = HashMap::with_capacity(entries.len());
        let mut has_merge = false;
        for (key, _) in &entries {
            let Some(text) = key.text() else { continue };
            has_merge |= text == "<<";
            if seen.insert(text, ()).is_some() {
                self.duplicates.push((key.at, text.to_owned()));
            }
        }
        if !has_merge {
            return entries;
        }
        let (merges, mut own): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|(key, _)| key.text() == Some("<<"));
        for (_, value) in merges {
            for map in value.items() {
                for (key, value) in map.map().unwrap_or_default() {
                    if !own.iter().any(|(known, _)| known.text() == key.text()) {
                        own.push((key.clone(), value.clone()));
                    }
                }
            }
        }
        own
    }
}

/// What a scalar is; only plain ones are something else than text.
fn scalar(text: &str, style: ScalarStyle) -> Yaml {
    if style != ScalarStyle::Plain {
        return Yaml::Text(text.into());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Yaml::Null,
        "true" | "True" | "TRUE" => return Yaml::Boolean(true),
        "false" | "False" | "FALSE" => return Yaml::Boolean(false),
        _ => {}
    }
    // A number is one only if it is written as numbers are: `007` and `1_000` stay as they are.
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let canonical = digits == "0" || digits.starts_with(|first: char| matches!(first, '1'..='9'));
    if canonical
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && let Ok(number) = text.parse()
    {
        return Yaml::Integer(number);
    }
    let is_float =
        digits.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'-' | b'+'))
            && digits.starts_with(|first: char| first.is_ascii_digit())
            && digits.contains('.');
    match text.parse() {
        Ok(number) if is_float && f64::is_finite(number) && number.to_string() == text => Yaml::Float(number),
        _ => Yaml::Text(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Document {
        let (mut documents, error) = read(text);
        assert!(error.is_none() && documents.len() == 1, "{error:?}");
        documents.remove(0)
    }

    #[test]
    fn values_have_their_type_and_place() {
        let document = one("a: 1\nb:\n  - 'x'\n  - 007\n  - ~\n  - 1.5\n  - 10.0.0.1\nc: {d: true}\n");
        let list = document.root.get("b").expect("b").items();
        let texts: Vec<_> = list.iter().map(Node::scalar_text).collect();
        assert_eq!(
            texts,
            [Some("x".into()), Some("007".into()), None, Some("1.5".into()), Some("10.0.0.1".into())]
        );
        assert_eq!((list[1].at().line, list[1].at().column, list[1].at().end_column), (4, 5, 8));
        assert!(matches!(document.root.get("a").expect("a").value, Yaml::Integer(1)));
    }

    #[test]
    fn aliases_are_copies_and_merges_do_not_overwrite() {
        let document = one("base: &b {x: 1, y: 2}\nuse:\n  <<: *b\n  y: 3\n");
        let used = document.root.get("use").expect("use");
        let number = |key: &str| used.get(key).and_then(Node::scalar_text);
        assert_eq!((number("x"), number("y")), (Some("1".into()), Some("3".into())));
    }

    #[test]
    fn a_bomb_of_aliases_is_refused_before_it_grows() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let before = level - 1;
            text.push_str(&format!("a{level}: &a{level} [{}]\n", vec![format!("*a{before}"); 10].join(", ")));
        }
        let (documents, error) = read(&text);
        assert!(documents.is_empty() && error.is_some_and(|error| error.too_large));
        assert!(read(&"[".repeat(100_000)).1.is_some());
        assert!(read("a: *nothing\n").1.is_some());
    }

    #[test]
    fn what_is_before_an_error_is_read_and_double_keys_are_told() {
        let (documents, error) = read("a: 1\na: 2\n---\nb: [1\n---\n");
        assert_eq!(documents.len(), 1);
        assert_eq!(documents[0].duplicates.len(), 1);
        assert!(error.is_some_and(|error| error.at.line >= 4));
    }
}
