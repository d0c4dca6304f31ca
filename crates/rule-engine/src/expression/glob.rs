//! Patterns with `*` (any text, also none) and `?` (one character).

use memchr::memmem;

/// One step of a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Element {
    /// This text.
    Text(Box<str>),
    /// One character, whichever.
    One,
}

/// A pattern: runs with `*` between them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Glob {
    /// The pattern begins with its first run, not with `*`.
    pub(crate) from_start: bool,
    /// The pattern ends with its last run, not with `*`.
    pub(crate) to_end: bool,
    pub(crate) runs: Vec<Vec<Element>>,
}

impl Glob {
    pub(crate) fn matches(&self, text: &str) -> bool {
        let (mut at, mut runs) = (0, self.runs.as_slice());
        if self.from_start
            && let [first, rest @ ..] = runs
        {
            match match_at(first, text, 0) {
                Some(end) if rest.is_empty() && self.to_end => return end == text.len(),
                Some(end) => (at, runs) = (end, rest),
                None => return false,
            }
        }
        let last = if self.to_end { runs.split_last() } else { None };
        let middle = last.map_or(runs, |(_, middle)| middle);
        // The first place that fits leaves the most for what follows.
        for run in middle {
            match find(run, text, at) {
                Some(end) => at = end,
                None => return false,
            }
        }
        last.is_none_or(|(run, _)| ends_with(run, text, at))
    }
}

/// Where the run ends if it begins at this byte.
fn match_at(run: &[Element], text: &str, mut at: usize) -> Option<usize> {
    for element in run {
        match element {
            Element::Text(own) => {
                text.get(at..)?.starts_with(&**own).then_some(())?;
                at += own.len();
            }
            Element::One => at += text.get(at..)?.chars().next()?.len_utf8(),
        }
    }
    Some(at)
}

/// Where the first run at or behind this byte ends.
fn find(run: &[Element], text: &str, from: usize) -> Option<usize> {
    let mut from = from;
    loop {
        let rest = text.get(from..)?;
        // A run that begins with a text can only begin where that text is.
        let start = match run.first() {
            Some(Element::Text(own)) => from + memmem::find(rest.as_bytes(), own.as_bytes())?,
            _ => from,
        };
        if let Some(end) = match_at(run, text, start) {
            return Some(end);
        }
        from = start + text.get(start..)?.chars().next()?.len_utf8();
    }
}

/// Whether the text ends with the run, which begins at or behind `from`.
fn ends_with(run: &[Element], text: &str, from: usize) -> bool {
    let mut end = text.len();
    for element in run.iter().rev() {
        let Some(before) = text.get(..end) else { return false };
        let length = match element {
            Element::Text(own) if before.ends_with(&**own) => own.len(),
            Element::Text(_) => return false,
            Element::One => match before.chars().next_back() {
                Some(character) => character.len_utf8(),
                None => return false,
            },
        };
        end -= length;
    }
    end >= from
}
