//! A JSON reader that keeps places.
//!
//! Rule authors are shown the exact characters that are wrong, also inside a
//! string that has escapes, so each value keeps its span and each string a map
//! back to the source. What JSON forbids but what leaves the structure clear (an
//! unknown escape, a key that stands twice, a number out of range) is kept as a
//! [`Fault`], so that only the rule it stands in is refused.

use std::collections::HashMap;
use std::ops::Range;

use crate::diagnostic::DiagnosticCode;
use crate::source::Span;

/// How deep arrays and objects may stand in each other. Rules need four.
const DEPTH_LIMIT: usize = 64;

/// A value with its place.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Json,
}

#[derive(Debug)]
pub(crate) enum Json {
    Null,
    Boolean(bool),
    /// Its digits stand at the node's span.
    Number,
    Text(Text),
    List(Vec<Node>),
    Object(Vec<Member>),
}

impl Json {
    /// The type in words.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean(_) => "true or false",
            Self::Number => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

/// `"key": value` of an object.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) key: Text,
    pub(crate) key_span: Span,
    pub(crate) value: Node,
}

/// A string, decoded.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) decoded: String,
    /// From each (decoded offset, source offset) on, both run in step.
    steps: Vec<(usize, usize)>,
}

impl Text {
    /// The source span of a part of the decoded text.
    pub(crate) fn source_span(&self, decoded: Range<usize>) -> Span {
        Span { start: self.source_offset(decoded.start), end: self.source_offset(decoded.end) }
    }

    fn source_offset(&self, offset: usize) -> usize {
        let step = self.steps.partition_point(|(decoded, _)| *decoded <= offset).saturating_sub(1);
        self.steps.get(step).map_or(0, |(decoded, source)| source + (offset - decoded))
    }
}

/// Something that JSON forbids.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) span: Span,
    pub(crate) code: DiagnosticCode,
    pub(crate) reason: String,
    pub(crate) hint: Option<String>,
    /// Another place that the reason needs: it is put behind it as ` at LINE:COLUMN`.
    pub(crate) first: Option<Span>,
}

/// A text that is JSON but for its faults.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) root: Node,
    pub(crate) faults: Vec<Fault>,
}

/// Reads one JSON value, with nothing but white space around it.
pub(crate) fn parse(text: &str) -> Result<Document, Fault> {
    let mut parser = Parser { text, at: 0, faults: Vec::new() };
    let root = parser.value(0)?;
    parser.skip_space();
    if parser.at < text.len() {
        let hint = "several rules stand in one list: [ {…}, {…} ]";
        return Err(parser.syntax("text behind the end of the JSON value", Some(hint)));
    }
    Ok(Document { root, faults: parser.faults })
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    faults: Vec<Fault>,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// A fault at the current character after which reading can't go on.
    fn syntax(&self, reason: impl Into<String>, hint: Option<&str>) -> Fault {
        let width = self.text[self.at..].chars().next().map_or(0, char::len_utf8);
        let span = Span { start: self.at, end: self.at + width };
        let (reason, hint) = (reason.into(), hint.map(str::to_owned));
        Fault { span, code: DiagnosticCode::BadJson, reason, hint, first: None }
    }

    fn fault(&mut self, code: DiagnosticCode, span: Span, reason: String, hint: Option<String>) {
        self.faults.push(Fault { span, code, reason, hint, first: None });
    }

    fn value(&mut self, depth: usize) -> Result<Node, Fault> {
        self.skip_space();
        let start = self.at;
        let value = match self.peek() {
            Some(b'{' | b'[') if depth >= DEPTH_LIMIT => {
                let mut fault = self.syntax(format!("nested deeper than {DEPTH_LIMIT} levels"), None);
                fault.code = DiagnosticCode::TooLarge;
                return Err(fault);
            }
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Json::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => self.word()?,
        };
        Ok(Node { span: Span { start, end: self.at }, value })
    }

    fn object(&mut self, depth: usize) -> Result<Json, Fault> {
        self.at += 1;
        let mut members: Vec<Member> = Vec::new();
        loop {
            self.skip_space();
            match self.peek() {
                Some(b'}') if members.is_empty() => break,
                Some(b'"') => {}
                Some(b'}') => {
                    return Err(self.syntax("a comma before `}`", Some("delete the comma before it")));
                }
                None => {
                    return Err(self.syntax("the text ends inside an object", Some("add the missing `}`")));
                }
                Some(other) => {
                    let hint = match other {
                        b'/' | b'#' => "JSON has no comments; use \"description\"",
                        _ => "a key stands in double quotes, as in \"name\": …",
                    };
                    return Err(self.syntax(format!("{} where a key should stand", self.found()), Some(hint)));
                }
            }
            let key_start = self.at;
            let key = self.string()?;
            let key_span = Span { start: key_start, end: self.at };
            self.skip_space();
            if self.peek() != Some(b':') {
                return Err(
                    self.syntax(format!("{} where `:` should stand behind a key", self.found()), None)
                );
            }
            self.at += 1;
            let value = self.value(depth + 1)?;
            members.push(Member { key, key_span, value });
            if self.separator(b'}', "object", "add a comma between one entry and the next")? {
                break;
            }
        }
        self.at += 1;
        self.find_duplicate_keys(&members);
        Ok(Json::Object(members))
    }

    fn list(&mut self, depth: usize) -> Result<Json, Fault> {
        self.at += 1;
        let mut items = Vec::new();
        loop {
            self.skip_space();
            match self.peek() {
                Some(b']') if items.is_empty() => break,
                Some(b']') => {
                    return Err(self.syntax("a comma before `]`", Some("delete the comma before it")));
                }
                None => return Err(self.syntax("the text ends inside a list", Some("add the missing `]`"))),
                Some(_) => {}
            }
            items.push(self.value(depth + 1)?);
            if self.separator(b']', "list", "add a comma between one item and the next")? {
                break;
            }
        }
        self.at += 1;
        Ok(Json::List(items))
    }

    /// Behind an entry: true at the closing bracket (which stays), false behind a comma.
    fn separator(&mut self, close: u8, within: &str, hint: &str) -> Result<bool, Fault> {
        self.skip_space();
        match self.peek() {
            Some(byte) if byte == close => Ok(true),
            Some(b',') => {
                self.at += 1;
                Ok(false)
            }
            None => Err(self.syntax(
                format!("the text ends inside a{} {within}", if within == "object" { "n" } else { "" }),
                Some(&format!("add the missing `{}`", char::from(close))),
            )),
            Some(_) => Err(self.syntax(
                format!("{} where `,` or `{}` should stand", self.found(), char::from(close)),
                Some(hint),
            )),
        }
    }

    fn find_duplicate_keys(&mut self, members: &[Member]) {
        let mut seen: HashMap<&str, Span> = HashMap::with_capacity(members.len());
        for member in members {
            if let Some(first) = seen.get(member.key.decoded.as_str()) {
                self.faults.push(Fault {
                    span: member.key_span,
                    code: DiagnosticCode::DuplicateKey,
                    reason: format!("key `{}` stands twice in one object, first", member.key.decoded),
                    hint: Some("keep one of the two".to_owned()),
                    first: Some(*first),
                });
            } else {
                seen.insert(&member.key.decoded, member.key_span);
            }
        }
    }

    /// What stands here, in words.
    fn found(&self) -> String {
        match self.text[self.at..].chars().next() {
            Some(character) => format!("`{character}`"),
            None => "the end of the text".to_owned(),
        }
    }

    fn word(&mut self) -> Result<Json, Fault> {
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let word = &rest[..end];
        let value = match word {
            "true" => Json::Boolean(true),
            "false" => Json::Boolean(false),
            "null" => Json::Null,
            "" => {
                let hint = match rest.as_bytes().first() {
                    Some(b'\'') => Some("JSON strings stand in double quotes"),
                    Some(b'/' | b'#') => Some("JSON has no comments; use \"description\""),
                    _ => None,
                };
                return Err(self.syntax(format!("{} where a value should stand", self.found()), hint));
            }
            _ => {
                let hint = match word.to_ascii_lowercase().as_str() {
                    "true" | "yes" | "on" => "write true",
                    "false" | "no" | "off" => "write false",
                    "none" | "nil" | "undefined" => "write null, or leave the key out",
                    "nan" | "infinity" | "inf" => "JSON numbers are finite",
                    _ => "a text stands in double quotes",
                };
                let mut fault = self.syntax(format!("`{word}` is no JSON value"), Some(hint));
                fault.span.end = self.at + end;
                return Err(fault);
            }
        };
        self.at += end;
        Ok(value)
    }

    fn number(&mut self) -> Result<Json, Fault> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let first = self.peek();
        self.digits("a digit")?;
        if first == Some(b'0') && self.at - start > 1 + usize::from(self.text.as_bytes()[start] == b'-') {
            self.at = start;
            return Err(
                self.syntax("a number begins with 0", Some("delete the zero, or put the number in quotes"))
            );
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits("a digit behind the point")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits("a digit of the exponent")?;
        }
        if matches!(self.peek(), Some(b'a'..=b'z' | b'A'..=b'Z' | b'_')) {
            let hint = "a text stands in double quotes";
            return Err(self.syntax(format!("{} inside a number", self.found()), Some(hint)));
        }
        let span = Span { start, end: self.at };
        let finite = self.text[start..self.at].parse().is_ok_and(f64::is_finite);
        if !finite {
            let reason = format!("`{}` is too large for a number", &self.text[start..self.at]);
            self.fault(DiagnosticCode::BadNumber, span, reason, None);
        }
        Ok(Json::Number)
    }

    fn digits(&mut self, wanted: &str) -> Result<(), Fault> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.syntax(format!("{} where {wanted} should stand", self.found()), None));
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    fn string(&mut self) -> Result<Text, Fault> {
        let open = self.at;
        self.at += 1;
        let mut text = Text { decoded: String::new(), steps: vec![(0, self.at)] };
        loop {
            let rest = &self.text.as_bytes()[self.at..];
            let plain =
                rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).unwrap_or(rest.len());
            text.decoded.push_str(&self.text[self.at..self.at + plain]);
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    let character = self.escape()?;
                    text.decoded.push(character);
                    text.steps.push((text.decoded.len(), self.at));
                }
                Some(b'\n' | b'\r') | None => {
                    let line_end = self.at;
                    self.at = open;
                    let hint = "add the missing `\"`; a line break inside a string is written \\n";
                    let mut fault = self.syntax("a string does not end on its line", Some(hint));
                    fault.span.end = line_end;
                    return Err(fault);
                }
                Some(control) => {
                    let span = Span { start: self.at, end: self.at + 1 };
                    let reason = format!("control character 0x{control:02x} inside a string");
                    let hint = if control == b'\t' {
                        "write \\t".to_owned()
                    } else {
                        format!("write \\u{control:04x}")
                    };
                    self.fault(DiagnosticCode::BadString, span, reason, Some(hint));
                    text.decoded.push(char::from(control));
                    self.at += 1;
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, Fault> {
        let start = self.at;
        self.at += 1;
        let Some(letter) = self.text[self.at..].chars().next() else {
            return Err(self.syntax("the text ends inside a string", Some("add the missing `\"`")));
        };
        self.at += letter.len_utf8();
        Ok(match letter {
            '"' | '\\' | '/' => letter,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => self.unicode_escape(start),
            '\n' | '\r' => {
                self.at = start;
                return Err(self.syntax("a string does not end on its line", Some("add the missing `\"`")));
            }
            _ => {
                let span = Span { start, end: self.at };
                let hint = format!("JSON wants each backslash twice: \\\\{letter}");
                self.fault(
                    DiagnosticCode::BadString,
                    span,
                    format!("`\\{letter}` is no JSON escape"),
                    Some(hint),
                );
                letter
            }
        })
    }

    /// Behind `\u`. A surrogate without its other half is a fault and reads as U+FFFD.
    fn unicode_escape(&mut self, start: usize) -> char {
        let first = self.four_hex_digits();
        let character = match first {
            Some(high @ 0xd800..=0xdbff) => {
                let pair_start = self.at;
                let low = if self.text[self.at..].starts_with("\\u") {
                    self.at += 2;
                    self.four_hex_digits().filter(|low| (0xdc00..=0xdfff).contains(low))
                } else {
                    None
                };
                if low.is_none() {
                    self.at = pair_start;
                }
                low.and_then(|low| char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)))
            }
            Some(unit) => char::from_u32(unit),
            None => None,
        };
        character.unwrap_or_else(|| {
            let span = Span { start, end: self.at };
            let reason = match first {
                Some(_) => "half of a surrogate pair".to_owned(),
                None => "`\\u` wants four hex digits".to_owned(),
            };
            self.fault(DiagnosticCode::BadString, span, reason, None);
            char::REPLACEMENT_CHARACTER
        })
    }

    fn four_hex_digits(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }
}

#[cfg(test)]
mod tests;
