//! DNS messages (RFC 1035), as far as an event tells of them.
//!
//! They come from anybody. Every length is checked, a name's jumps only go
//! backwards and are counted, and what can't be read is said to be incomplete.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::escape;

const HEADER: usize = 12;
/// RFC 1035 section 2.3.4.
const MAX_NAME: usize = 255;
/// Answers that an event carries.
const MAX_ANSWERS: usize = 32;
/// Bytes of text of one answer.
const MAX_TEXT: usize = 256;

/// What a message says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) id: u16,
    /// Lower case, without a dot at the end; `.` for the root.
    pub(super) name: String,
    pub(super) question_type: String,
    pub(super) response_code: String,
    pub(super) answers: Vec<String>,
    /// What kept it from being read whole.
    pub(super) incomplete: Option<&'static str>,
}

/// Reads as much as is there.
pub(super) fn read(bytes: &[u8]) -> Message {
    let word = |at: usize| Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
    let (id, flags, questions, answers) =
        (word(0).unwrap_or(0), word(2).unwrap_or(0), word(4).unwrap_or(0), word(6).unwrap_or(0));
    let mut message = Message {
        id,
        name: String::new(),
        question_type: String::new(),
        response_code: response_code(flags & 15),
        answers: Vec::new(),
        incomplete: None,
    };
    if questions == 0 || bytes.len() < HEADER {
        message.incomplete = Some("no question");
        return message;
    }
    let Some((name, mut at)) = name(bytes, HEADER) else {
        message.incomplete = Some("malformed name");
        return message;
    };
    message.name = name;
    let Some(question_type) = word(at) else {
        message.incomplete = Some("cut");
        return message;
    };
    message.question_type = record_type(question_type);
    at += 4;
    // More than one question is not in use; its answers could not be told apart.
    if questions == 1 {
        for _ in 0..usize::from(answers).min(MAX_ANSWERS) {
            let Some((data, end)) = answer(bytes, at) else {
                message.incomplete = Some("cut");
                break;
            };
            message.answers.push(data);
            at = end;
        }
    }
    message
}

/// The data of the record at `at` as text, and where the next one begins.
fn answer(bytes: &[u8], at: usize) -> Option<(String, usize)> {
    let (_, at) = name(bytes, at)?;
    let word = |at: usize| Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
    let kind = word(at)?;
    let length = usize::from(word(at + 8)?);
    let start = at + 10;
    let data = bytes.get(start..start + length)?;
    let named = |at: usize| name(bytes, at).map(|(name, _)| name);
    let shown = match kind {
        1 => Ipv4Addr::from(*data.first_chunk::<4>()?).to_string(),
        28 => Ipv6Addr::from(*data.first_chunk::<16>()?).to_string(),
        2 | 5 | 12 | 39 => named(start)?,
        15 => format!("{} {}", word(start)?, named(start + 2)?),
        33 => format!("{} {} {} {}", word(start)?, word(start + 2)?, word(start + 4)?, named(start + 6)?),
        16 => escape::text(
            data.get(1..).unwrap_or_default().get(..MAX_TEXT).unwrap_or(data.get(1..).unwrap_or_default()),
        ),
        _ => {
            let some = data.get(..32).unwrap_or(data);
            format!("\\# {length} {}", some.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        }
    };
    Some((format!("{} {shown}", record_type(kind)), start + length))
}

/// The name at `at` in lower case, and where what follows it begins.
fn name(bytes: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut name: Vec<u8> = Vec::new();
    let mut end = None;
    loop {
        let length = usize::from(*bytes.get(at)?);
        match length {
            0 => {
                let shown = if name.is_empty() { ".".to_owned() } else { escape::text(&name) };
                return Some((shown, end.unwrap_or(at + 1)));
            }
            1..64 => {
                if !name.is_empty() {
                    name.push(b'.');
                }
                let label = bytes.get(at + 1..at + 1 + length)?;
                // A dot within a label is not one between labels.
                for byte in label {
                    match byte {
                        b'.' | b'\\' => name.extend([b'\\', *byte]),
                        other => name.push(other.to_ascii_lowercase()),
                    }
                }
                if name.len() > 2 * MAX_NAME {
                    return None;
                }
                at += 1 + length;
            }
            192.. => {
                let target = (length & 63) << 8 | usize::from(*bytes.get(at + 1)?);
                // Only backwards, so that it ends (RFC 1035 section 4.1.4).
                if target >= at {
                    return None;
                }
                end = end.or(Some(at + 2));
                at = target;
            }
            _ => return None,
        }
    }
}

/// IANA, DNS parameters: resource record types.
fn record_type(number: u16) -> String {
    let known = match number {
        1 => "A",
        2 => "NS",
        5 => "CNAME",
        6 => "SOA",
        12 => "PTR",
        13 => "HINFO",
        15 => "MX",
        16 => "TXT",
        28 => "AAAA",
        33 => "SRV",
        35 => "NAPTR",
        39 => "DNAME",
        43 => "DS",
        46 => "RRSIG",
        48 => "DNSKEY",
        64 => "SVCB",
        65 => "HTTPS",
        251 => "IXFR",
        252 => "AXFR",
        255 => "ANY",
        257 => "CAA",
        other => return format!("TYPE{other}"),
    };
    known.to_owned()
}

/// IANA, DNS parameters: response codes.
fn response_code(number: u16) -> String {
    let known = match number {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        other => return format!("RCODE{other}"),
    };
    known.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(questions: u16, answers: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34, 0x81, 0x80];
        bytes.extend(questions.to_be_bytes());
        bytes.extend(answers.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(body);
        bytes
    }

    const QUESTION: &[u8] = b"\x03wWw\x07example\x03oRg\0\0\x01\0\x01";

    #[test]
    fn a_query_is_read() {
        let read = read(&message(1, 0, QUESTION));
        assert_eq!(
            (read.id, read.name.as_str(), read.question_type.as_str()),
            (0x1234, "www.example.org", "A")
        );
        assert_eq!(read.incomplete, None);
    }

    #[test]
    fn answers_are_read_through_their_jumps() {
        let mut body = QUESTION.to_vec();
        body.extend(b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x04\x01a\xc0\x10");
        body.extend(b"\x01a\xc0\x10\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01");
        body.extend(b"\xc0\x0c\0\x1c\0\x01\0\0\0\x3c\0\x10\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01");
        let read = read(&message(1, 3, &body));
        assert_eq!(read.answers, ["CNAME a.example.org", "A 192.0.2.1", "AAAA 2001:db8::1"]);
        assert_eq!(read.response_code, "NOERROR");
    }

    #[test]
    fn what_is_wrong_is_said_and_ends() {
        assert_eq!(read(b"").incomplete, Some("no question"));
        assert_eq!(
            read(&message(1, 0, b"\xc0\x0c\0\x01\0\x01")).incomplete,
            Some("malformed name"),
            "a loop"
        );
        assert_eq!(read(&message(1, 0, b"\x3fabc")).incomplete, Some("malformed name"));
        let mut cut = QUESTION.to_vec();
        cut.extend(b"\xc0\x0c\0\x01");
        assert_eq!(read(&message(1, 1, &cut)).incomplete, Some("cut"));
        assert_eq!(read(&message(1, 0, b"\x02.\xff\0\0\x01\0\x01")).name, r"\.\xff");
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut body = QUESTION.to_vec();
        body.extend(b"\xc0\x0c\0\x0f\0\x01\0\0\0\x3c\0\x06\0\x0a\x01a\xc0\x10");
        let good = message(1, 1, &body);
        for at in 0..good.len() {
            for byte in 0..=255 {
                let mut bad = good.clone();
                bad[at] = byte;
                let _ = read(&bad);
                let _ = read(&bad[..at]);
            }
        }
    }
}
