//! Changing one key of a rule's text and nothing else: the author's order,
//! spacing and unknown-to-us habits stay.

use crate::json::{self, Json};
use crate::rule_file::is_json_text;
use crate::yaml::{self, Node};

/// A rule's text could not be changed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EditError {
    /// The text is not one JSON object, and not one YAML document with its keys in lines of their own.
    #[error("the rule's text is not one object")]
    NotAnObject,
    /// The new value is not JSON.
    #[error("`{0}` is not a JSON value")]
    BadValue(String),
}

/// The text of a rule, native or Sigma, with `key` set to `value` (JSON text, for example
/// `"auto"` with its quotes; of a Sigma rule, one value and no list): in its place where the key
/// stands already, at the end otherwise.
///
/// # Errors
/// Where the text is no rule whose keys can be set one by one, or the value is no JSON.
pub fn set_key(text: &str, key: &str, value: &str) -> Result<String, EditError> {
    if !json::parse(value).is_ok_and(|document| document.faults.is_empty()) {
        return Err(EditError::BadValue(value.to_owned()));
    }
    if !is_json_text(text) {
        return set_yaml_key(text, key, value.trim());
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

/// YAML has many ways to write a value; whatever is done here is read again, and counts only if
/// the key is then what it should be.
fn set_yaml_key(text: &str, key: &str, value: &str) -> Result<String, EditError> {
    let before = one_document(text).ok_or(EditError::NotAnObject)?;
    let entries = before.map().ok_or(EditError::NotAnObject)?;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if let Some((_, old)) = before.entry(key) {
        let at = old.at();
        let line = lines.get_mut((at.line as usize).saturating_sub(1)).ok_or(EditError::NotAnObject)?;
        let characters: Vec<char> = line.chars().collect();
        let place = |column: u32| (column as usize).saturating_sub(1).min(characters.len());
        let (start, end) = (place(at.column), place(at.end_column));
        let (head, tail) = (characters.iter().take(start), characters.iter().skip(end));
        *line = head.copied().chain(value.chars()).chain(tail.copied()).collect();
    } else {
        while lines.last().is_some_and(|line| matches!(line.trim_end(), "" | "---" | "...")) {
            lines.pop();
        }
        let column = entries.first().map_or(1, |(first, _)| first.at().column) as usize;
        lines.push(format!("{}{key}: {value}", " ".repeat(column.saturating_sub(1))));
    }
    let changed = lines.join("\n") + "\n";
    let wanted = serde_json::from_str::<serde_json::Value>(value).ok();
    let wanted = wanted.map(|wanted| wanted.as_str().map_or_else(|| wanted.to_string(), str::to_owned));
    let after = one_document(&changed).ok_or(EditError::NotAnObject)?;
    let is_set = after.get(key).and_then(Node::scalar_text) == wanted && wanted.is_some();
    let others = |root: &Node| {
        root.map().unwrap_or_default().iter().filter(|(own, _)| own.text() != Some(key)).count()
    };
    if is_set && others(&after) == others(&before) { Ok(changed) } else { Err(EditError::NotAnObject) }
}

fn one_document(text: &str) -> Option<Node> {
    let (mut documents, error) = yaml::read(text);
    documents.retain(|document| !matches!(document.root.value, yaml::Yaml::Null));
    (error.is_none() && documents.len() == 1).then(|| documents.remove(0).root)
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
    fn a_key_of_yaml_is_set_in_its_line_or_in_a_new_one() {
        let rule = "title: x # a comment\nmode: detect   # now\ndescription: |\n  mode: off\n---\n";
        let changed = set_key(rule, "mode", "\"auto\"").expect("a rule");
        assert_eq!(
            changed,
            "title: x # a comment\nmode: \"auto\"   # now\ndescription: |\n  mode: off\n---\n"
        );
        let changed = set_key(&changed, "enabled", "false").expect("a rule");
        assert!(changed.ends_with("description: |\n  mode: off\nenabled: false\n"), "{changed}");
        let changed = set_key(&changed, "enabled", "true").expect("a rule");
        assert!(changed.ends_with("enabled: true\n"), "{changed}");
    }

    #[test]
    fn what_is_no_object_or_no_value_is_refused() {
        assert_eq!(set_key("[1]", "a", "1"), Err(EditError::NotAnObject));
        assert_eq!(set_key("{", "a", "1"), Err(EditError::NotAnObject));
        assert_eq!(set_key("a: 1\n---\nb: 1\n", "a", "1"), Err(EditError::NotAnObject));
        assert_eq!(set_key("- a\n", "a", "1"), Err(EditError::NotAnObject));
        assert_eq!(set_key("mode: |\n  auto\n", "mode", "\"auto\""), Err(EditError::NotAnObject));
        assert_eq!(set_key("{}", "a", "auto"), Err(EditError::BadValue("auto".into())));
    }
}
