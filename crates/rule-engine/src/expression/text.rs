//! Tests of texts.

use memchr::memmem::Finder;
use regex::Regex;

use super::Glob;

/// A regular expression sees this much of a text's start and as much of its end:
/// its cost grows with the text, and whoever starts a process chooses the text.
const REGEX_TEXT_LIMIT: usize = 32 * 1024;

/// What a text is compared with.
#[derive(Debug, Clone)]
pub(crate) struct TextTest {
    /// True: case counts. False: the texts of `part` are folded.
    pub(crate) cased: bool,
    pub(crate) part: TextPart,
}

#[derive(Debug, Clone)]
pub(crate) enum TextPart {
    Equals(Box<str>),
    /// Sorted.
    In(Vec<Box<str>>),
    Contains(Box<Finder<'static>>),
    StartsWith(Box<str>),
    EndsWith(Box<str>),
    Glob(Box<Glob>),
    /// Looks at the text as it is; case is the expression's own affair.
    Matches(Pattern),
    /// One of its lines has so many characters.
    LineOfAtLeast(usize),
}

/// A regular expression.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    pub(crate) regex: Regex,
    /// Nothing shorter, in bytes, is found.
    pub(crate) shortest: usize,
}

impl Pattern {
    /// Whether it surely finds something in every text: it finds something in texts that have nothing in common.
    pub(crate) fn matches_everything(&self) -> bool {
        ["", "\u{1}", "é\n", "zQ7/"].iter().all(|probe| self.regex.is_match(probe))
    }
}

impl TextPart {
    pub(crate) fn contains(needle: &str) -> Self {
        Self::Contains(Box::new(Finder::new(needle).into_owned()))
    }

    /// Whether it accepts every text.
    pub(super) fn accepts_everything(&self) -> bool {
        match self {
            Self::Contains(finder) => finder.needle().is_empty(),
            Self::StartsWith(text) | Self::EndsWith(text) => text.is_empty(),
            Self::Matches(pattern) => pattern.matches_everything(),
            Self::LineOfAtLeast(count) => *count == 0,
            Self::Glob(glob) => glob.runs.is_empty() && !(glob.from_start && glob.to_end),
            Self::Equals(_) | Self::In(_) => false,
        }
    }

    /// One of several texts.
    pub(crate) fn one_of(mut texts: Vec<Box<str>>) -> Self {
        texts.sort_unstable();
        texts.dedup();
        Self::In(texts)
    }
}

impl TextTest {
    /// Without regard to case; the texts are folded already.
    pub(crate) fn folded(part: TextPart) -> Self {
        Self { cased: false, part }
    }

    pub(super) fn cost(&self) -> u32 {
        match self.part {
            TextPart::Matches(_) => 20,
            TextPart::Glob(_) => 8,
            TextPart::Contains(_) => 4,
            TextPart::In(_) => 2,
            _ => 1,
        }
    }

    pub(crate) fn accepts(&self, folded: &str, original: &str) -> bool {
        let text = if self.cased { original } else { folded };
        match &self.part {
            TextPart::Equals(own) => text == &**own,
            TextPart::In(texts) => texts.binary_search_by(|own| (**own).cmp(text)).is_ok(),
            TextPart::Contains(finder) => finder.find(text.as_bytes()).is_some(),
            TextPart::StartsWith(own) => text.starts_with(&**own),
            TextPart::EndsWith(own) => text.ends_with(&**own),
            TextPart::Glob(glob) => glob.matches(text),
            TextPart::Matches(pattern) => {
                original.len() >= pattern.shortest && found_within_limit(&pattern.regex, original)
            }
            TextPart::LineOfAtLeast(length) => {
                original.len() >= *length
                    && original.split('\n').any(|line| line.chars().nth(length.saturating_sub(1)).is_some())
            }
        }
    }
}

fn found_within_limit(regex: &Regex, text: &str) -> bool {
    if text.len() <= 2 * REGEX_TEXT_LIMIT {
        return regex.is_match(text);
    }
    let head = text.floor_char_boundary(REGEX_TEXT_LIMIT);
    let tail = text.ceil_char_boundary(text.len() - REGEX_TEXT_LIMIT);
    regex.is_match(&text[..head]) || regex.is_match(&text[tail..])
}
