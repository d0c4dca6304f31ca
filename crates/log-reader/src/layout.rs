//! What fields are called in logs: data, compiled in (`data/field-names.toml`) and
//! extended by users' files of the same form.

use std::collections::BTreeMap;

use event_model::Field;
use serde::Deserialize;

const BUILT_IN: &str = include_str!("../data/field-names.toml");
/// More is no file that a person wrote, in bytes.
pub const FIELD_NAMES_FILE_LIMIT: usize = 1 << 20;

/// A file of field names is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {reason}; hint: {hint}")]
pub struct FieldNamesError {
    /// The file, as it was named.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub reason: String,
    /// What to do about it.
    pub hint: &'static str,
}

/// Which names the value at a path of a log's tree has, and which fields are made
/// from others.
#[derive(Debug, Clone, Default)]
pub struct FieldLayout {
    exact: BTreeMap<String, Vec<String>>,
    /// Beginnings of paths, longest first, and the patterns of the names.
    beginnings: Vec<(String, Vec<String>)>,
    pub(crate) derived: Vec<DerivedField>,
    pub(crate) ecs: Vec<EcsCategory>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldNamesFile {
    #[serde(default)]
    path: Vec<PathNames>,
    #[serde(default)]
    derived: Vec<DerivedField>,
    #[serde(default)]
    ecs: Vec<EcsCategory>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PathNames {
    /// Keys joined by dots; `.*` at the end stands for all that is below.
    from: String,
    /// `{rest}` is what `*` stood for, `{last}` its last part. Empty: the value is dropped.
    to: Vec<String>,
}

/// A field made from others, in the events of one channel and id.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DerivedField {
    /// Compared without case.
    pub(crate) channel: String,
    pub(crate) event_id: u32,
    /// The field, or several whose values are joined; without the first there is none.
    pub(crate) from: Vec<String>,
    pub(crate) to: String,
    /// What stands between joined values.
    #[serde(default)]
    pub(crate) join: String,
    /// The value's new spelling; a value that is not listed makes no field.
    #[serde(default)]
    pub(crate) values: BTreeMap<String, String>,
    /// Beginnings (without case) and what stands in their place; the first that fits.
    #[serde(default)]
    pub(crate) prefixes: Vec<(String, String)>,
    /// For registry data: the field with its type. The value gets Sysmon's form, for
    /// example `DWORD (0x00000001)`.
    pub(crate) registry_type: Option<String>,
}

/// Sigma's category of some ECS documents.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EcsCategory {
    /// A value of `event.category`.
    pub(crate) category: String,
    /// Values of `event.type` or `event.action`, one of which must be there.
    pub(crate) types: Vec<String>,
    pub(crate) sigma: String,
}

impl FieldLayout {
    /// What is compiled in.
    ///
    /// # Errors
    /// Never in a build whose tests ran: they read this file.
    pub fn built_in() -> Result<Self, FieldNamesError> {
        let mut layout = Self::default();
        for field in Field::ALL {
            let spec = field.spec();
            let names = std::iter::once(spec.ecs).chain(spec.sigma.iter().copied());
            layout.exact.insert(spec.ecs.to_owned(), names.map(str::to_owned).collect());
        }
        layout.extend("data/field-names.toml", BUILT_IN)?;
        Ok(layout)
    }

    /// Adds a user's file; where it speaks of the same path, it wins.
    ///
    /// # Errors
    /// The file is not TOML, or has a key that such files don't have.
    pub fn extend(&mut self, file: &str, text: &str) -> Result<(), FieldNamesError> {
        if text.len() > FIELD_NAMES_FILE_LIMIT {
            let reason = format!("{} bytes, more than {FIELD_NAMES_FILE_LIMIT}", text.len());
            return Err(error(file, text, 0, reason, "split it"));
        }
        let parsed: FieldNamesFile = toml::from_str(text).map_err(|cause| {
            let offset = cause.span().map_or(0, |span| span.start);
            let hint = "docs/reference/replay.md describes the file";
            error(file, text, offset, cause.message().to_owned(), hint)
        })?;
        if let Some(field) = parsed.derived.iter().find(|field| field.from.is_empty()) {
            let reason = format!("field `{}` is made from nothing", field.to);
            return Err(error(file, text, 0, reason, "name at least one field in `from`"));
        }
        for rule in parsed.path {
            match rule.from.strip_suffix('*') {
                Some(beginning) => self.beginnings.insert(0, (beginning.to_owned(), rule.to)),
                None => {
                    self.exact.insert(rule.from, rule.to);
                }
            }
        }
        // The sort is stable: of the same length, the one that was added last is first.
        self.beginnings.sort_by_key(|(beginning, _)| std::cmp::Reverse(beginning.len()));
        self.derived.splice(0..0, parsed.derived);
        self.ecs.splice(0..0, parsed.ecs);
        Ok(())
    }

    /// The names of the value at a path, which is its keys joined by dots. Spaces are
    /// no part of a field name in Sigma.
    pub(crate) fn names_of(&self, path: &str) -> Vec<String> {
        let without_spaces = |name: &str| name.replace(' ', "");
        if let Some(names) = self.exact.get(path) {
            return names.iter().map(|name| without_spaces(name)).collect();
        }
        for (beginning, names) in &self.beginnings {
            let Some(rest) = path.strip_prefix(beginning.as_str()) else { continue };
            let last = rest.rsplit('.').next().unwrap_or(rest);
            let name = |name: &String| without_spaces(&name.replace("{rest}", rest).replace("{last}", last));
            return names.iter().map(name).collect();
        }
        vec![without_spaces(path)]
    }
}

fn error(file: &str, text: &str, offset: usize, reason: String, hint: &'static str) -> FieldNamesError {
    let before = text.get(..offset).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    FieldNamesError { file: file.to_owned(), line, column, reason, hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_every_layout_give_the_names_that_rules_use() {
        let layout = FieldLayout::built_in().expect("the built-in file loads");
        for (path, names) in [
            ("Event.System.EventID", &["EventID"][..]),
            ("Event.System.Provider_Name", &["Provider_Name"]),
            ("Event.EventData.Image", &["Image"]),
            ("Event.EventData.Threat Name", &["ThreatName"]),
            ("Event.UserData.EventXML.Param1", &["Param1"]),
            ("winlog.event_data.Image", &["Image"]),
            ("winlog.channel", &["winlog.channel", "Channel"]),
            ("process.executable", &["process.executable", "Image"]),
            ("CommandLine", &["CommandLine"]),
            ("a.b", &["a.b"]),
        ] {
            assert_eq!(layout.names_of(path), names, "{path}");
        }
        assert!(layout.names_of("Event_xmlns").is_empty());
    }

    #[test]
    fn a_users_file_wins_and_its_mistakes_have_a_place() {
        let mut layout = FieldLayout::built_in().expect("the built-in file loads");
        let text = "[[path]]\nfrom = \"winlog.event_data.*\"\nto = [\"x.{rest}\"]\n";
        layout.extend("my.toml", text).expect("a good file");
        assert_eq!(layout.names_of("winlog.event_data.Image"), ["x.Image"]);
        let text = "[[path]]\nfrom = \"a\"\not = [\"b\"]\n";
        let mistake = layout.extend("my.toml", text).expect_err("a typo");
        assert_eq!((mistake.line, mistake.column), (3, 1));
        assert!(mistake.to_string().contains("`ot`"), "{mistake}");
        let mistake = layout.extend("my.toml", "[[path\n").expect_err("no TOML");
        assert_eq!(mistake.line, 1);
    }
}
