//! What is wrong with a rule, where, and what to do about it.
//!
//! A [`Diagnostic`] always has a place in the author's text and a stable code;
//! tools show it as JSON, people as [`Diagnostic::render`] draws it.

use std::fmt::{self, Write as _};

use crate::source::Place;

/// Whether the rule was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DiagnosticSeverity {
    /// The rule (or the file) was refused.
    Error,
    /// The rule loaded; something about it deserves a look.
    Warning,
}

impl fmt::Display for DiagnosticSeverity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $word:literal,)*) => {
        /// The stable code of a diagnostic. A code never changes its meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
        pub enum DiagnosticCode {
            $($(#[doc = $doc])+ #[serde(rename = $word)] $variant,)*
        }

        impl DiagnosticCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its word.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }
    };
}

codes! {
    /// The text is not UTF-8.
    NotUtf8 = "not-utf8",
    /// A file, text, list or nesting is past its limit.
    TooLarge = "too-large",
    /// The text is not JSON.
    BadJson = "bad-json",
    /// The text is not YAML.
    BadYaml = "bad-yaml",
    /// An escape or character that JSON strings can't have.
    BadString = "bad-string",
    /// A number that is out of range or of the wrong form.
    BadNumber = "bad-number",
    /// One object has the same key twice.
    DuplicateKey = "duplicate-key",
    /// A value where a rule object should stand.
    NotARule = "not-a-rule",
    /// A key that rules don't have.
    UnknownKey = "unknown-key",
    /// A key that every rule must have is missing.
    MissingKey = "missing-key",
    /// A value of the wrong JSON type.
    WrongType = "wrong-type",
    /// A value that is not one of the allowed ones.
    BadValue = "bad-value",
    /// Another rule has this id.
    DuplicateId = "duplicate-id",
    /// A condition that can't be read.
    BadCondition = "bad-condition",
    /// A field that this type of rule doesn't have.
    UnknownField = "unknown-field",
    /// A word where an operator should stand.
    UnknownOperator = "unknown-operator",
    /// An operator that the field's kind of value doesn't allow.
    OperatorNotAllowed = "operator-not-allowed",
    /// A regular expression that can't be compiled.
    BadRegex = "bad-regex",
    /// A regular expression that would be too large or too deep.
    RegexTooLarge = "regex-too-large",
    /// The rule uses fields that no event carries together.
    MixedEvents = "mixed-events",
    /// A test that is true for every event that has the field.
    AlwaysTrue = "always-true",
    /// A modifier that Sigma doesn't have, or that its value or the one before it doesn't allow.
    BadModifier = "bad-modifier",
    /// A placeholder that nobody gave values for.
    NoPlaceholder = "no-placeholder",
    /// A rule refers to another one that isn't there, or to itself in a circle.
    BadReference = "bad-reference",
    /// A filter whose condition has no `not`: it keeps what it describes instead of leaving it out.
    FilterKeeps = "filter-keeps",
    /// Nothing collects the events that the rule judges.
    NoSource = "no-source",
    /// A file that can't be opened or read, or is no regular file.
    Unreadable = "unreadable",
    /// A YARA rule that can't be compiled.
    BadYara = "bad-yara",
    /// A YARA rule that compiles, but likely does not say what its author meant.
    DoubtfulYara = "doubtful-yara",
    /// A YARA string without a fixed part, for which every byte is tried.
    SlowString = "slow-string",
    /// A line or object of an indicator list that is no indicator.
    BadIndicator = "bad-indicator",
    /// An indicator of a kind that can't be looked for.
    IndicatorSkipped = "indicator-skipped",
}

impl fmt::Display for DiagnosticCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One finding about a rule's text.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: DiagnosticSeverity,
    /// Stable code.
    pub code: DiagnosticCode,
    /// The source's name, as the caller gave it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column of the first character, from 1, in Unicode characters.
    pub column: u32,
    /// The column behind the last character (on the same line).
    pub end_column: u32,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// A finding at a place.
    pub fn new(
        severity: DiagnosticSeverity,
        code: DiagnosticCode,
        place: &Place,
        reason: String,
        hint: Option<String>,
    ) -> Self {
        let Place { file, line, column, end_column } = place;
        let file = file.to_string();
        Self { severity, code, file, line: *line, column: *column, end_column: *end_column, reason, hint }
    }

    /// True for an error.
    pub fn is_error(&self) -> bool {
        self.severity == DiagnosticSeverity::Error
    }

    /// Several lines for a terminal: place, reason, the source line with the
    /// place marked, hint. `source` is the text that was parsed. Control
    /// characters of the text are shown as escapes, never sent to the terminal.
    pub fn render(&self, source: &str) -> String {
        let mut out = format!(
            "{}:{}:{}: {}[{}]: {}\n",
            visible(&self.file),
            self.line,
            self.column,
            self.severity,
            self.code,
            visible(&self.reason)
        );
        let source = source.strip_prefix('\u{feff}').unwrap_or(source);
        let line_index = usize::try_from(self.line).unwrap_or(1).saturating_sub(1);
        if let Some(line) = source.split('\n').nth(line_index) {
            let excerpt = Excerpt::of(line, self.column, self.end_column);
            let number = self.line.to_string();
            let gutter = " ".repeat(number.len());
            // A String takes every write.
            let _ = writeln!(out, "  {number} | {}", excerpt.text);
            let _ =
                writeln!(out, "  {gutter} | {}{}", " ".repeat(excerpt.indent), "^".repeat(excerpt.marked));
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(out, "  hint: {}", visible(hint));
        }
        out
    }
}

/// The part of a source line that is shown, and where the mark goes in terminal cells.
struct Excerpt {
    text: String,
    indent: usize,
    marked: usize,
}

impl Excerpt {
    /// Rules may be one line of a megabyte; what is shown fits a terminal.
    const BEFORE: usize = 60;
    const AFTER: usize = 40;
    const WIDTH: usize = 110;

    fn of(line: &str, column: u32, end_column: u32) -> Self {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let index = |column: u32| usize::try_from(column).unwrap_or(1).saturating_sub(1);
        let (start, end) = (index(column), index(end_column).max(index(column) + 1));
        let first = start.saturating_sub(Self::BEFORE);
        let last = (end.min(start + Self::AFTER) + Self::AFTER).max(first + Self::WIDTH);
        let mut excerpt = Self { text: String::new(), indent: 0, marked: 0 };
        if first > 0 {
            excerpt.text.push('…');
            excerpt.indent = 1;
        }
        let mut characters = line.chars().enumerate().skip(first);
        for (at, character) in characters.by_ref().take(last - first) {
            let shown = visible_character(character);
            let cells = shown.chars().map(cells_of).sum::<usize>();
            if at < start {
                excerpt.indent += cells;
            } else if at < end {
                excerpt.marked += cells;
            }
            excerpt.text.push_str(&shown);
        }
        if characters.next().is_some() {
            excerpt.text.push('…');
        }
        excerpt.marked = excerpt.marked.max(1);
        excerpt
    }
}

fn visible(text: &str) -> String {
    text.chars().map(visible_character).collect()
}

/// A control or direction-changing character as an escape; a tab as spaces.
fn visible_character(character: char) -> String {
    match character {
        '\t' => "    ".to_owned(),
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => {
            character.escape_unicode().to_string()
        }
        _ if character.is_control() => character.escape_unicode().to_string(),
        _ => character.to_string(),
    }
}

/// Terminal cells of a character: two for the wide scripts of East Asia.
fn cells_of(character: char) -> usize {
    match u32::from(character) {
        0x1100..=0x115f
        | 0x2e80..=0x303e
        | 0x3041..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Source, Span};

    fn drawn(text: &str, wanted: &str) -> String {
        let start = text.find(wanted).expect("there");
        let place = Source::new("a.json", text).place(Span { start, end: start + wanted.len() });
        let hint = Some("do better".to_owned());
        Diagnostic::new(DiagnosticSeverity::Error, DiagnosticCode::BadValue, &place, "bad".into(), hint)
            .render(text)
    }

    #[test]
    fn the_mark_stands_under_the_place_also_behind_wide_characters() {
        let expected =
            "a.json:2:4: error[bad-value]: bad\n  2 | 可疑 high!\n    |      ^^^^\n  hint: do better\n";
        assert_eq!(drawn("x\n可疑 high!\n", "high"), expected);
    }

    #[test]
    fn nothing_of_the_text_reaches_the_terminal_as_control() {
        let drawn = drawn("a\u{1b}[31m\u{202e}b here", "here");
        assert!(!drawn.contains('\u{1b}') && !drawn.contains('\u{202e}'), "{drawn:?}");
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("{}here{}", "a".repeat(5_000), "b".repeat(5_000));
        let drawn = drawn(&text, "here");
        assert!(drawn.len() < 500, "{}", drawn.len());
        assert!(drawn.contains("aahere"));
    }
}
