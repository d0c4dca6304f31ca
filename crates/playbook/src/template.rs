//! Texts with `{{name}}` in them.

use std::ops::Range;

use crate::alert::{Facts, is_known};

/// Longest text that a template may become, in bytes; what is beyond is cut.
const RENDERED_LIMIT: usize = 64 * 1024;

/// A text whose `{{name}}` stand for values of the alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Name(String),
}

/// A template that can't be used, at bytes of its text.
#[derive(Debug)]
pub(crate) struct TemplateError {
    pub(crate) range: Range<usize>,
    pub(crate) reason: String,
    pub(crate) hint: Option<String>,
}

impl Template {
    /// Reads a text.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut at = 0;
        while let Some(open) = text[at..].find("{{").map(|found| at + found) {
            let Some(close) = text[open..].find("}}").map(|found| open + found) else {
                let hint = Some("write {{name}}, for example {{host.name}}".to_owned());
                let reason = "`{{` without `}}`".to_owned();
                return Err(TemplateError { range: open..text.len(), reason, hint });
            };
            let name = text[open + 2..close].trim();
            if !is_known(name) {
                let ecs = event_model::Field::ALL.iter().map(|field| field.spec().ecs);
                let known = crate::alert::NAMES.iter().map(|(name, _)| *name).chain(ecs);
                let near = rule_engine::nearest(name, known);
                let hint = near
                    .map(|near| format!("did you mean `{near}`?"))
                    .or_else(|| Some("docs/reference/playbooks.md lists the names".to_owned()));
                let reason = format!("an alert has no `{name}`");
                return Err(TemplateError { range: open..close + 2, reason, hint });
            }
            if at < open {
                parts.push(Part::Text(text[at..open].to_owned()));
            }
            parts.push(Part::Name(name.to_owned()));
            at = close + 2;
        }
        if at < text.len() {
            parts.push(Part::Text(text[at..].to_owned()));
        }
        Ok(Self { parts })
    }

    /// With the values of an alert.
    ///
    /// # Errors
    /// The name that the alert has no value for, unless the template is a sentence: there it reads `-`.
    pub(crate) fn render(&self, facts: &Facts<'_>) -> Result<String, String> {
        self.filled(facts, self.parts.len() > 1)
    }

    /// With the values of an alert, all of them: what names a file or an address must not have a `-` for
    /// a part that is missing, since that would be another file.
    ///
    /// # Errors
    /// The name that the alert has no value for.
    pub(crate) fn render_whole(&self, facts: &Facts<'_>) -> Result<String, String> {
        self.filled(facts, false)
    }

    fn filled(&self, facts: &Facts<'_>, may_lack: bool) -> Result<String, String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Name(name) => match facts.text(name) {
                    Some(value) => text.push_str(&value),
                    None if may_lack => text.push('-'),
                    None => return Err(name.clone()),
                },
            }
        }
        if text.len() > RENDERED_LIMIT {
            let end = (0..=RENDERED_LIMIT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            text.truncate(end);
        }
        Ok(text)
    }

    /// A text without names.
    pub(crate) fn fixed(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }
}
