//! What a matching rule says.

use boreal::scanner::EvaluatedRule;
use boreal::{MetadataValue, Scanner};
use event_model::Severity;

use super::scan::ScanLimits;

/// Longest text of metadata that is kept, in characters.
const MAX_META_CHARACTERS: usize = 1_024;

/// Metadata and tags of one rule that are kept.
const MAX_META: usize = 64;

/// A rule that matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YaraMatch {
    /// The rule's name.
    pub rule: String,
    /// Its namespace.
    pub namespace: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its metadata, in the author's order. At most 64, texts cut at 1,024 characters.
    pub meta: Vec<(String, MetaValue)>,
    /// Some of what matched, bounded by [`ScanLimits`]. A condition without strings
    /// leaves it empty.
    pub strings: Vec<MatchedString>,
}

/// A value of metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetaValue {
    /// A text; bytes that are not UTF-8 are replaced.
    Text(String),
    /// A number.
    Integer(i64),
    /// A truth value.
    Boolean(bool),
}

/// A string of a rule, where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatchedString {
    /// Its name without the `$`; empty for an anonymous one.
    pub name: String,
    /// Offset in the file, or address in the process.
    pub offset: u64,
    /// Length of the match in bytes.
    pub length: u64,
    /// The first bytes of it.
    pub data: Vec<u8>,
}

impl YaraMatch {
    pub(super) fn new(scanner: &Scanner, rule: &EvaluatedRule<'_>, limits: &ScanLimits) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).chars().take(MAX_META_CHARACTERS).collect();
        let meta = rule.metadatas.iter().take(MAX_META).map(|meta| {
            let value = match meta.value {
                MetadataValue::Bytes(bytes) => MetaValue::Text(text(scanner.get_bytes_symbol(bytes))),
                MetadataValue::Integer(number) => MetaValue::Integer(number),
                MetadataValue::Boolean(truth) => MetaValue::Boolean(truth),
            };
            (scanner.get_string_symbol(meta.name).to_owned(), value)
        });
        // The first of each string before the second of any.
        let mut strings = Vec::new();
        let most = rule.matches.iter().map(|string| string.matches.len()).max().unwrap_or(0);
        'full: for nth in 0..most {
            for string in &rule.matches {
                let Some(found) = string.matches.get(nth) else { continue };
                if strings.len() >= limits.max_strings {
                    break 'full;
                }
                strings.push(MatchedString {
                    name: string.name.to_owned(),
                    offset: (found.base as u64).saturating_add(found.offset as u64),
                    length: found.length as u64,
                    data: found.data.to_vec(),
                });
            }
        }
        Self {
            rule: rule.name.to_owned(),
            namespace: rule.namespace.to_owned(),
            tags: rule
                .tags
                .iter()
                .take(MAX_META)
                .map(|tag| scanner.get_string_symbol(*tag).to_owned())
                .collect(),
            meta: meta.collect(),
            strings,
        }
    }

    /// The metadata of a name, in whatever case.
    pub fn meta(&self, name: &str) -> Option<&MetaValue> {
        self.meta.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn meta_text(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| match self.meta(name)? {
            MetaValue::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// How bad it is: the word of `severity` or `level`, or the number of `severity`
    /// or `score`, for which public rule sets use 0 to 100: from 80 high, from 60
    /// medium, from 40 low, else informational. `None` where the rule says nothing.
    pub fn severity(&self) -> Option<Severity> {
        ["severity", "level", "score"].iter().find_map(|name| match self.meta(name)? {
            MetaValue::Text(word) => Severity::from_word(&word.to_ascii_lowercase()),
            MetaValue::Integer(80..) => Some(Severity::High),
            MetaValue::Integer(60..) => Some(Severity::Medium),
            MetaValue::Integer(40..) => Some(Severity::Low),
            MetaValue::Integer(_) => Some(Severity::Informational),
            MetaValue::Boolean(_) => None,
        })
    }

    /// What the rule is about.
    pub fn description(&self) -> Option<&str> {
        self.meta_text(&["description", "desc", "info"])
    }

    /// Where it comes from.
    pub fn reference(&self) -> Option<&str> {
        self.meta_text(&["reference", "references", "ref", "url"])
    }

    /// ATT&CK techniques that metadata or tags name, such as `T1059.001`, sorted.
    pub fn attack(&self) -> Vec<String> {
        let named = |name: &str| ["attack", "mitre", "technique"].iter().any(|part| name.contains(part));
        let meta = self.meta.iter().filter_map(|(name, value)| match value {
            MetaValue::Text(text) if named(&name.to_ascii_lowercase()) => Some(text.as_str()),
            _ => None,
        });
        let mut found: Vec<String> =
            meta.chain(self.tags.iter().map(String::as_str)).flat_map(techniques).collect();
        found.sort();
        found.dedup();
        found
    }
}

/// Technique ids in a text; tags, which have no dots, write `T1059_001`.
fn techniques(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '_') {
        let parts: Vec<&str> = word.split(['.', '_']).collect();
        let digits =
            |part: &str, count: usize| part.len() == count && part.bytes().all(|byte| byte.is_ascii_digit());
        for (at, part) in parts.iter().enumerate() {
            let Some(number) = part.strip_prefix(['T', 't']).filter(|number| digits(number, 4)) else {
                continue;
            };
            found.push(match parts.get(at + 1) {
                Some(sub) if digits(sub, 3) => format!("T{number}.{sub}"),
                _ => format!("T{number}"),
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn techniques_in_every_spelling() {
        assert_eq!(
            techniques("T1059.001, t1003 attack_t1055_012 T10599 T1.2"),
            ["T1059.001", "T1003", "T1055.012"]
        );
        assert!(techniques("nothing T").is_empty());
    }
}
