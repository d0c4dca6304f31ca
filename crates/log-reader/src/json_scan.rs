//! The short way through a JSON object: strings are looked through eight bytes at a time, values that nobody asks for
//! are passed over, and nothing is allocated.
//!
//! It takes what nearly all records of logs are and gives up on anything else: whoever called then goes the long way
//! (`json.rs`), which reads the record or says what is wrong with it. What this way takes it must read exactly as
//! the long way does; a test holds the two together.

use std::ops::Range;

use serde::de::DeserializeSeed;

use crate::consumer::LogConsumer;
use crate::decoder::LogDecoder;
use crate::json::Value;
use crate::path_tree::Place;

/// How deep objects and lists may stand in each other here.
const DEPTH_LIMIT: u32 = 32;

/// Digits of a whole number that surely is below 2^63.
const DIGITS_LIMIT: usize = 18;

/// Hands the object's values on; false where it gave up, some of them handed on already.
pub(crate) fn scan<C: LogConsumer>(text: &str, decoder: &mut LogDecoder<C>, scratch: &mut Vec<u8>) -> bool {
    let mut scan = Scan { text, bytes: text.as_bytes(), at: 0, scratch, decoder };
    scan.blank();
    scan.whole().is_some()
}

struct Scan<'a, C: LogConsumer> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// The string that was read last, where it has escapes.
    scratch: &'a mut Vec<u8>,
    decoder: &'a mut LogDecoder<C>,
}

/// Where a string's characters are.
enum Read {
    /// In the text as they are.
    Plain(Range<usize>),
    /// In the scratch memory.
    Escaped,
}

// `None` everywhere: given up.
impl<C: LogConsumer> Scan<'_, C> {
    fn whole(&mut self) -> Option<()> {
        self.expect(b'{')?;
        self.object(Place::ROOT, DEPTH_LIMIT)?;
        self.blank();
        (self.at == self.bytes.len()).then_some(())
    }

    /// An object behind its `{`.
    fn object(&mut self, parent: Place, depth_left: u32) -> Option<()> {
        let depth_left = depth_left.checked_sub(1)?;
        self.blank();
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(());
        }
        let mut previous = Place::NONE;
        loop {
            self.expect(b'"')?;
            let place = self.key(parent, previous)?;
            previous = place;
            self.blank();
            self.expect(b':')?;
            self.blank();
            self.value(place, depth_left)?;
            self.blank();
            match self.next()? {
                b',' => self.blank(),
                b'}' => return Some(()),
                _ => return None,
            }
        }
    }

    /// A key behind its opening quote. Most often it is the one that stood there in the last event.
    fn key(&mut self, parent: Place, previous: Place) -> Option<Place> {
        if let Some((place, length)) =
            self.decoder.expected_child(parent, previous, self.bytes.get(self.at..)?)
        {
            self.at += length;
            return Some(place);
        }
        match self.string()? {
            Read::Plain(range) => self.decoder.child(parent, previous, self.text.get(range)?),
            Read::Escaped => self.decoder.child(parent, previous, std::str::from_utf8(self.scratch).ok()?),
        }
    }

    /// A list behind its `[`: its elements are values of one field.
    fn list(&mut self, place: Place, depth_left: u32) -> Option<()> {
        let depth_left = depth_left.checked_sub(1)?;
        self.blank();
        if self.peek()? == b']' {
            self.at += 1;
            return Some(());
        }
        loop {
            self.value(place, depth_left)?;
            self.blank();
            match self.next()? {
                b',' => self.blank(),
                b']' => return Some(()),
                _ => return None,
            }
        }
    }

    fn value(&mut self, place: Place, depth_left: u32) -> Option<()> {
        match self.peek()? {
            b'"' => {
                self.at += 1;
                if !self.decoder.is_wanted(place) {
                    self.pass_over()?;
                    self.decoder.pass_over();
                    return Some(());
                }
                match self.string()? {
                    Read::Plain(range) => self.decoder.text(place, self.text.get(range)?),
                    Read::Escaped => self.decoder.text(place, std::str::from_utf8(self.scratch).ok()?),
                }
            }
            b'{' => {
                self.at += 1;
                self.object(place, depth_left)?;
            }
            b'[' => {
                self.at += 1;
                self.list(place, depth_left)?;
            }
            b't' => {
                self.word(b"true")?;
                self.decoder.boolean(place, true);
            }
            b'f' => {
                self.word(b"false")?;
                self.decoder.boolean(place, false);
            }
            b'n' => {
                self.word(b"null")?;
                self.decoder.null(place);
            }
            _ => self.number(place)?,
        }
        Some(())
    }

    fn number(&mut self, place: Place) -> Option<()> {
        let start = self.at;
        let is_negative = self.peek()? == b'-';
        let from = start + usize::from(is_negative);
        let (mut at, mut number) = (from, 0_i64);
        while let Some(digit @ b'0'..=b'9') = self.bytes.get(at)
            && at - from < DIGITS_LIMIT
        {
            number = number * 10 + i64::from(digit - b'0');
            at += 1;
        }
        let has_leading_zero = self.bytes.get(from)? == &b'0' && (at - from > 1 || is_negative);
        if at == from || has_leading_zero || is_of_number(*self.bytes.get(at)?) {
            return self.long_number(place);
        }
        self.at = at;
        let written = self.text.get(start..at)?;
        self.decoder.written_integer(place, if is_negative { -number } else { number }, written);
        Some(())
    }

    /// One that has a point or an exponent, is large, or is none.
    fn long_number(&mut self, place: Place) -> Option<()> {
        let rest = self.bytes.get(self.at..)?;
        let length = rest.iter().position(|byte| !is_of_number(*byte))?;
        let text = self.text.get(self.at..self.at + length)?;
        self.at += length;
        let mut json = serde_json::Deserializer::from_str(text);
        Value { decoder: self.decoder, place }.deserialize(&mut json).ok()?;
        json.end().ok()
    }

    /// Reads a string behind its opening quote.
    fn string(&mut self) -> Option<Read> {
        let start = self.at;
        let end = special(self.bytes, start)?;
        if self.bytes[end] == b'"' {
            self.at = end + 1;
            return Some(Read::Plain(start..end));
        }
        self.unescape(start, end)
    }

    /// The string from `start` on with its escapes resolved; the first of them stands at `at`. Only at bytes of ASCII
    /// anything is cut or put in, so it stays text.
    fn unescape(&mut self, start: usize, mut at: usize) -> Option<Read> {
        self.scratch.clear();
        self.scratch.extend_from_slice(self.bytes.get(start..at)?);
        loop {
            match self.bytes.get(at)? {
                b'"' => {
                    self.at = at + 1;
                    return Some(Read::Escaped);
                }
                // Paths are full of them.
                b'\\' if self.bytes.get(at + 1) == Some(&b'\\') => {
                    self.scratch.push(b'\\');
                    at += 2;
                }
                b'\\' => {
                    let (character, length) = self.escape(at + 1)?;
                    self.scratch.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                    at += 1 + length;
                }
                _ => return None,
            }
            // Runs are short: all eight bytes are copied and those too many taken away.
            loop {
                let Some(word) = self.bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) else {
                    let end = special(self.bytes, at)?;
                    self.scratch.extend_from_slice(self.bytes.get(at..end)?);
                    at = end;
                    break;
                };
                let found = special_in(u64::from_le_bytes(*word));
                let length = found.trailing_zeros() as usize / 8;
                let end = self.scratch.len() + length;
                self.scratch.extend_from_slice(word);
                self.scratch.truncate(end);
                at += length;
                if found != 0 {
                    break;
                }
            }
        }
    }

    /// The character that an escape means, and the length of what stands behind the backslash.
    fn escape(&self, at: usize) -> Option<(char, usize)> {
        let character = match self.bytes.get(at)? {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let digits = self.text.get(at + 1..at + 5)?;
                if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                    return None;
                }
                // Halves of a pair are none.
                return Some((char::from_u32(u32::from_str_radix(digits, 16).ok()?)?, 5));
            }
            _ => return None,
        };
        Some((character, 1))
    }

    /// A string whose characters nobody asks for; they must be right all the same.
    fn pass_over(&mut self) -> Option<()> {
        let mut at = self.at;
        loop {
            at = special(self.bytes, at)?;
            match self.bytes[at] {
                b'"' => {
                    self.at = at + 1;
                    return Some(());
                }
                b'\\' => at += 1 + self.escape(at + 1)?.1,
                _ => return None,
            }
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        let found = self.bytes.get(self.at..self.at + word.len())?;
        self.at += word.len();
        (found == word).then_some(())
    }

    fn blank(&mut self) {
        while let Some(byte) = self.bytes.get(self.at)
            && *byte <= b' '
            && matches!(byte, b' ' | b'\n' | b'\t' | b'\r')
        {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }
}

/// The place of the first quote, backslash or control character.
fn special(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let found = special_in(u64::from_le_bytes(*word));
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let found = bytes.get(at..)?.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
    Some(at + found)
}

/// Eight bytes at once: the highest bit of the first that is a quote, a backslash or a control character is set, and
/// none before it.
fn special_in(word: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = u64::from_le_bytes([0x80; 8]);
    // The highest bit of each byte that is zero; of bytes above such a one maybe too.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    let quotes = zeros(word ^ (ONES * u64::from(b'"')));
    let backslashes = zeros(word ^ (ONES * u64::from(b'\\')));
    let controls = word.wrapping_sub(ONES * 0x20) & !word;
    (quotes | backslashes | controls) & HIGH
}

/// Whether a number may go on with this byte.
fn is_of_number(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E')
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::consumer::EventHead;
    use crate::json::read_slowly;
    use crate::layout::FieldLayout;
    use crate::problem::Problem;

    /// Every value with the name of its field.
    #[derive(Default)]
    struct Transcript {
        names: Vec<String>,
        values: Vec<String>,
    }

    impl LogConsumer for Transcript {
        type Field = usize;
        fn field(&mut self, name: &str) -> Option<usize> {
            // Some are asked for by nobody.
            (!name.starts_with('z')).then(|| {
                self.names.push(name.to_owned());
                self.names.len() - 1
            })
        }
        fn unnamed(&mut self) -> Option<usize> {
            None
        }
        fn begin(&mut self) {
            self.values.clear();
        }
        fn text(&mut self, field: usize, value: &str) {
            self.values.push(format!("{}={value:?}", self.names[field]));
        }
        fn integer(&mut self, field: usize, value: i64) {
            self.values.push(format!("{}={value}", self.names[field]));
        }
        fn float(&mut self, field: usize, value: f64) {
            self.values.push(format!("{}={:x}", self.names[field], value.to_bits()));
        }
        fn boolean(&mut self, field: usize, value: bool) {
            self.values.push(format!("{}={value}", self.names[field]));
        }
        fn null(&mut self, field: usize) {
            self.values.push(format!("{}=null", self.names[field]));
        }
        fn event(&mut self, _: &EventHead<'_>) -> ControlFlow<()> {
            ControlFlow::Continue(())
        }
        fn problem(&mut self, _: Problem) {}
    }

    fn decoder() -> LogDecoder<Transcript> {
        LogDecoder::new(Arc::new(FieldLayout::built_in().expect("they load")), Transcript::default())
    }

    /// Whether the short way took it; then the long way must have read the same. It goes twice: the second time
    /// every key is expected.
    fn compare(text: &str) -> bool {
        let (mut short, mut long) = (decoder(), decoder());
        let slowly = read_slowly(text.as_bytes(), &mut long);
        let taken = [(); 2].map(|()| {
            short.begin();
            let taken = scan(text, &mut short, &mut Vec::new());
            if taken {
                assert!(slowly.is_ok(), "only the short way reads {text}: {slowly:?}");
                assert_eq!(short.consumer().values, long.consumer().values, "{text}");
            }
            taken
        });
        assert_eq!(taken[0], taken[1], "{text}");
        taken[0]
    }

    #[test]
    fn ordinary_records_are_taken_and_what_is_no_json_is_not() {
        for text in [
            "{}",
            r#" {"a": 1, "b" : [true, false, null, [], {}], "c": {"d": "x\\y\"\u0041\n", "zz": "\\"}} "#,
            r#"{"a":-5,"b":0,"c":1.5e3,"d":-0,"e":-0.0,"f":18446744073709551615,"g":123456789012345678901}"#,
            r##"{"Event":{"#attributes":{"xmlns":"x"},"System":{"EventID":{"#text":1}}}}"##,
            "{\"长\":\"文件 ®\",\"a\":\"12345678\",\"b\":\"1234567\",\"c\":\"123456789\"}",
            "{\n\t\"a\": 1\r\n}",
            r#"{"a\"b":1,"a":2,"c\\":3,"c\\d":4,"":5,"long enough, this one":6}"#,
        ] {
            assert!(compare(text), "{text}");
        }
        for text in [
            "",
            "[]",
            "1",
            "{",
            "{}}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":01}",
            "{\"a\":-}",
            "{\"a\":1.}",
            "{\"a\":+1}",
            "{\"a\":tru}",
            "{\"a\":truex}",
            "{\"a\":\"\n\"}",
            "{\"z\":\"\t\"}",
            "{\"a\":\"\\x\"}",
            "{\"z\":\"\\x\"}",
            "{\"a\":\"\\u12g4\"}",
            "{\"a\":\"\\u+123\"}",
            "{\"z\":\"\\ud800\"}",
            "{\"a\":[1,]}",
            "{\"a\":[1 2]}",
            "{a:1}",
            "{\"a\":1 \"b\":2}",
            "{\"a\":\"x",
            "{\"a\":1}x",
        ] {
            assert!(!compare(text), "{text}");
        }
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let text = prop_oneof!["[a-z]{0,12}", r#"[\\"/a-z\u{0}-\u{1f}é长🙂 ]{0,20}"#, any::<String>()];
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<u64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            text.clone().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 40, 6, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
                proptest::collection::hash_map("[a-z]{1,3}|z.*|#text|#attributes", inner, 0..6)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn both_ways_read_the_same(value in json(), pretty in any::<bool>(), cut in 0_usize..200, byte in any::<char>()) {
            let object = serde_json::json!({ "a": value });
            let text = if pretty { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) };
            let text = text.expect("it can be written");
            compare(&text);
            // And with one character replaced.
            let mut broken: Vec<char> = text.chars().collect();
            if let Some(character) = broken.get_mut(cut) {
                *character = byte;
            }
            compare(&broken.into_iter().collect::<String>());
        }

        #[test]
        fn the_first_special_byte_is_found(bytes in proptest::collection::vec(any::<u8>(), 0..40), from in 0_usize..8) {
            let simple = bytes.iter().skip(from).position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
            prop_assert_eq!(special(&bytes, from), simple.map(|place| place + from));
        }
    }
}
