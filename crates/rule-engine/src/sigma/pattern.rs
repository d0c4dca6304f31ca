//! The text of a value: literal parts, wildcards, placeholders.

use crate::expression::{Element, Glob, TextPart};
use crate::fold::fold;

/// A text with wildcards. Literal parts are bytes, because encodings come before comparison.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Pattern {
    pub(super) parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Bytes(Vec<u8>),
    /// `*`: any text.
    Any,
    /// `?`: one character.
    One,
    /// `%name%`, with the modifier `expand`.
    Placeholder(String),
    /// A dash of any of the kinds that Windows programs take for one, with the modifier `windash`.
    Dash,
}

/// What programs on Windows take for the dash before an option.
pub(super) const DASHES: [&str; 5] = ["-", "/", "\u{2013}", "\u{2014}", "\u{2015}"];

/// With more dashes in one value than this, their combinations are too many to be looked for one by one.
const DASH_LIMIT: usize = 3;

impl Pattern {
    /// As a rule writes it: `*` and `?` are wildcards; a backslash takes that meaning away from them, and
    /// from another backslash; before anything else it is itself.
    pub(super) fn parse(text: &str) -> Self {
        let mut pattern = Self::default();
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '\\' => match characters.next_if(|next| matches!(next, '*' | '?' | '\\')) {
                    Some(escaped) => pattern.push_char(escaped),
                    None => pattern.push_char('\\'),
                },
                '*' => pattern.parts.push(Part::Any),
                '?' => pattern.parts.push(Part::One),
                other => pattern.push_char(other),
            }
        }
        pattern
    }

    /// Without wildcards.
    pub(super) fn literal(text: &str) -> Self {
        Self { parts: if text.is_empty() { Vec::new() } else { vec![Part::Bytes(text.into())] } }
    }

    fn push_char(&mut self, character: char) {
        let mut buffer = [0; 4];
        let bytes = character.encode_utf8(&mut buffer).as_bytes();
        match self.parts.last_mut() {
            Some(Part::Bytes(last)) => last.extend_from_slice(bytes),
            _ => self.parts.push(Part::Bytes(bytes.to_vec())),
        }
    }

    /// With `*` before it, unless it begins so already.
    pub(super) fn open_start(&mut self) {
        if self.parts.first() != Some(&Part::Any) {
            self.parts.insert(0, Part::Any);
        }
    }

    /// With `*` behind it, unless it ends so already.
    pub(super) fn open_end(&mut self) {
        if self.parts.last() != Some(&Part::Any) {
            self.parts.push(Part::Any);
        }
    }

    /// Its bytes, where it has nothing but these.
    pub(super) fn bytes(&self) -> Option<Vec<u8>> {
        let mut all = Vec::new();
        for part in &self.parts {
            match part {
                Part::Bytes(bytes) => all.extend_from_slice(bytes),
                _ => return None,
            }
        }
        Some(all)
    }

    /// With each `%name%` in it as a placeholder.
    pub(super) fn with_placeholders(self) -> Self {
        let mut parts = Vec::new();
        for part in self.parts {
            let Part::Bytes(bytes) = part else {
                parts.push(part);
                continue;
            };
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let mut rest = text.as_str();
            while let Some((before, name, behind)) = next_placeholder(rest) {
                push_text(&mut parts, before);
                parts.push(Part::Placeholder(name.to_owned()));
                rest = behind;
            }
            push_text(&mut parts, rest);
        }
        Self { parts }
    }

    /// With a [`Part::Dash`] for each dash or slash that begins an option: nothing that belongs to a word is
    /// before it, something that does is behind it.
    pub(super) fn with_dashes(self) -> Self {
        let mut parts = Vec::new();
        for part in self.parts {
            let Part::Bytes(bytes) = part else {
                parts.push(part);
                continue;
            };
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let is_word =
                |character: Option<char>| character.is_some_and(|it| it.is_alphanumeric() || it == '_');
            let (mut from, mut before) = (0, None);
            for (at, character) in text.char_indices() {
                let behind = text[at + character.len_utf8()..].chars().next();
                if matches!(character, '-' | '/') && !is_word(before) && is_word(behind) {
                    push_text(&mut parts, &text[from..at]);
                    parts.push(Part::Dash);
                    from = at + character.len_utf8();
                }
                before = Some(character);
            }
            push_text(&mut parts, &text[from..]);
        }
        Self { parts }
    }

    /// Each combination of dashes as a pattern of its own; `None` where they would be too many.
    pub(super) fn each_dash(&self) -> Option<Vec<Self>> {
        let dashes = self.parts.iter().filter(|part| **part == Part::Dash).count();
        if dashes > DASH_LIMIT {
            return None;
        }
        let mut all = vec![Self::default()];
        for part in &self.parts {
            if *part != Part::Dash {
                all.iter_mut().for_each(|pattern| pattern.push(part.clone()));
                continue;
            }
            let longer = |pattern: &Self, dash: &str| {
                let mut pattern = pattern.clone();
                pattern.push(Part::Bytes(dash.into()));
                pattern
            };
            all = all.iter().flat_map(|pattern| DASHES.map(|dash| longer(pattern, dash))).collect();
        }
        Some(all)
    }

    /// Puts a part behind it; bytes join bytes.
    pub(super) fn push(&mut self, part: Part) {
        match (self.parts.last_mut(), part) {
            (Some(Part::Bytes(last)), Part::Bytes(more)) => last.extend(more),
            (_, part) => self.parts.push(part),
        }
    }

    /// The same as a regular expression, anchored at both ends.
    pub(super) fn to_regex(&self, cased: bool) -> Option<String> {
        let mut regex = if cased { r"(?s)\A" } else { r"(?si)\A" }.to_owned();
        for part in &self.parts {
            match part {
                Part::Bytes(bytes) => regex.push_str(&regex_syntax::escape(std::str::from_utf8(bytes).ok()?)),
                Part::Any => regex.push_str(".*"),
                Part::One => regex.push('.'),
                Part::Dash => regex.push_str("[-/\u{2013}\u{2014}\u{2015}]"),
                Part::Placeholder(_) => return None,
            }
        }
        regex.push_str(r"\z");
        Some(regex)
    }

    /// The test for a whole value. `None` where a part is not text.
    pub(super) fn to_text_part(&self, cased: bool) -> Option<TextPart> {
        let mut glob = Glob { from_start: true, to_end: true, runs: Vec::new() };
        let mut run: Vec<Element> = Vec::new();
        let mut is_after_any = false;
        for part in &self.parts {
            match part {
                Part::Bytes(bytes) => {
                    let text = std::str::from_utf8(bytes).ok()?;
                    run.push(Element::Text(if cased { text.into() } else { fold(text).into() }));
                }
                Part::One => run.push(Element::One),
                Part::Any => {
                    if run.is_empty() && glob.runs.is_empty() {
                        glob.from_start = false;
                    } else if !run.is_empty() {
                        glob.runs.push(std::mem::take(&mut run));
                    }
                }
                Part::Placeholder(_) | Part::Dash => return None,
            }
            is_after_any = *part == Part::Any;
        }
        if is_after_any {
            glob.to_end = false;
        } else if !run.is_empty() {
            glob.runs.push(run);
        }
        Some(simplest(glob))
    }
}

/// A glob of one text as what it is.
fn simplest(glob: Glob) -> TextPart {
    let one = match glob.runs.as_slice() {
        [] if glob.from_start && glob.to_end => Some(""),
        [run] => match run.as_slice() {
            [Element::Text(text)] => Some(&**text),
            _ => None,
        },
        _ => None,
    };
    match (one, glob.from_start, glob.to_end) {
        (Some(text), true, true) => TextPart::Equals(text.into()),
        (Some(text), true, false) => TextPart::StartsWith(text.into()),
        (Some(text), false, true) => TextPart::EndsWith(text.into()),
        (Some(text), false, false) => TextPart::contains(text),
        (None, ..) => TextPart::Glob(Box::new(glob)),
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Bytes(text.into()));
    }
}

/// What is before a placeholder, its name, and what is behind it.
fn next_placeholder(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let start = from + text.get(from..)?.find('%')?;
        let end = start + 1 + text.get(start + 1..)?.find('%')?;
        let name = &text[start + 1..end];
        if !name.is_empty() && name.chars().all(|it| it.is_alphanumeric() || matches!(it, '_' | '-' | '.')) {
            return Some((&text[..start], name, &text[end + 1..]));
        }
        from = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        use crate::expression::TextTest;
        TextTest::folded(Pattern::parse(pattern).to_text_part(false).expect("a text"))
            .accepts(&fold(text), text)
    }

    #[test]
    fn wildcards_and_their_escapes() {
        for (pattern, yes, no) in [
            (r"abc", "ABC", "abcd"),
            (r"a*c", "abbc", "abcd"),
            (r"a?c", "aßc", "ac"),
            (r"*\cmd.exe", r"C:\Windows\CMD.exe", "cmd.exe"),
            (r"a\*c", "a*c", "abc"),
            (r"a\\*c", r"a\xc", "axc"),
            (r"a\\\*c", r"a\*c", r"a\xc"),
            (r"\\\\host\\*", r"\\host\share", r"\host\share"),
            (r"C:\dir", r"c:\DIR", "c:dir"),
            (r"a\", r"a\", "a"),
            (r"a*b*c", "a1b2b3c", "a1c2b"),
            (r"a*?b", "axyb", "ab"),
            (r"*a?", "xaab", "xa"),
            (r"?", "ä", ""),
            (r"*", "", "\u{0}\u{0}never"),
        ] {
            assert!(matches(pattern, yes), "{pattern} {yes}");
            assert!(pattern == "*" || !matches(pattern, no), "{pattern} {no}");
        }
    }

    #[test]
    fn dashes_and_placeholders_are_found() {
        let dashed = Pattern::parse(" -a b-c /d - /").with_dashes();
        assert_eq!(dashed.parts.iter().filter(|part| **part == Part::Dash).count(), 2);
        assert_eq!(dashed.each_dash().map(|all| all.len()), Some(25));
        let named = Pattern::parse("a%x%b%%c% 5%*%y%").with_placeholders();
        let names: Vec<_> = named
            .parts
            .iter()
            .filter_map(|part| match part {
                Part::Placeholder(name) => Some(name.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(names, ["x", "c", "y"]);
    }
}
