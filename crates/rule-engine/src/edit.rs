//! Changing one key of a rule's text and nothing else: the author's order,
//! spacing and unknown-to-us habits stay.

use crate::json::{self, Json};

/// A rule's text could not be changed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EditError {
    /// The text is not one JSON object.
    #[error("the rule's text is not one JSON object")]
    NotAnObject,
    /// The new value is not JSON.
    #[error("`{0}` is not a JSON value")]
    BadValue(String),
}

/// The text of a rule with `key` set to `value` (JSON text, for example
/// `"auto"` with its quotes): in its place where the key stands already, at the
/// end otherwise.
pub fn set_key(text: &str, key: &str, value: &str) -> Result<String, EditError> {
    if !json::parse(value).is_ok_and(|document| document.faults.is_empty()) {
        return Err(EditError::BadValue(value.to_owned()));
    }
    let start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let body = &text[start..];
    let document = json::parse(body).map_err(|_| EditError::NotAnObject)?;
    let Json::Object(members) = &document.root.value else { return Err(EditError::NotAnObject) };
    let value = value.trim();
    let (from, to, new) = match (members.iter().find(|member| member.key.decoded == key), members.last()) {
        (Some(member), _) => (member.value.span.start, member.value.span.end, value.to_owned()),
        (None, Some(last)) => {
            // What stands before the last key is the author's way of separating entries.
            let before = &body[..last.key_span.start];
            let separator = &before[before.trim_end_matches([' ', '\t', '\r', '\n']).len()..];
            let key = serde_json::Value::from(key);
            (last.value.span.end, last.value.span.end, format!(",{separator}{key}: {value}"))
        }
        (None, None) => {
            let key = serde_json::Value::from(key);
            let inside = document.root.span.start + 1;
            (inside, inside, format!("{key}: {value}"))
        }
    };
    Ok(format!("{}{}{}{}", &text[..start], &body[..from], new, &body[to..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_value_changes() {
        let text = "\u{feff}{\n  \"id\": 1 ,\n  \"mode\" : \"detect\",   \"n\": [1,\n2]\n}\n";
        let changed = set_key(text, "mode", "\"auto\"").expect("an object");
        assert_eq!(changed, text.replace("detect", "auto"));
    }

    #[test]
    fn a_new_key_stands_last_in_the_authors_layout() {
        let changed = set_key("{\n\t\"id\": 1,\n\t\"x\": {}\n}", "enabled", "false");
        assert_eq!(changed.as_deref(), Ok("{\n\t\"id\": 1,\n\t\"x\": {},\n\t\"enabled\": false\n}"));
        assert_eq!(set_key("{\"id\":1}", "enabled", "true").as_deref(), Ok("{\"id\":1,\"enabled\": true}"));
        assert_eq!(set_key("{ }", "a", "1").as_deref(), Ok("{\"a\": 1 }"));
    }

    #[test]
    fn what_is_no_object_or_no_value_is_refused() {
        assert_eq!(set_key("[1]", "a", "1"), Err(EditError::NotAnObject));
        assert_eq!(set_key("{", "a", "1"), Err(EditError::NotAnObject));
        assert_eq!(set_key("{}", "a", "auto"), Err(EditError::BadValue("auto".into())));
    }
}
