//! Where something stands in a rule's text.

use std::sync::Arc;

/// Bytes `start..end` of a source text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// The byte behind the last.
    pub end: usize,
}

impl Span {
    pub(crate) fn contains(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }
}

/// A place as people read it. Lines and columns count from 1, columns in Unicode
/// characters; a byte order mark is not counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The source's name, as the caller gave it.
    pub file: Arc<str>,
    /// Line of the first character.
    pub line: u32,
    /// Column of the first character.
    pub column: u32,
    /// The column behind the last character, or behind the end of the first line
    /// where the span has several.
    pub end_column: u32,
}

/// A named text with its line starts.
pub struct Source<'a> {
    name: Arc<str>,
    pub(crate) text: &'a str,
    line_starts: Vec<usize>,
}

impl<'a> Source<'a> {
    /// A text and the name that diagnostics give it.
    pub fn new(name: &str, text: &'a str) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = std::iter::once(0).chain(newlines.map(|(at, _)| at + 1)).collect();
        Self { name: name.into(), text, line_starts }
    }

    /// Where a span stands. A span beyond the text stands at its end.
    pub fn place(&self, span: Span) -> Place {
        let line = self.line_starts.partition_point(|start| *start <= span.start) - 1;
        let line_start = self.line_starts[line];
        let line_end = self.line_starts.get(line + 1).map_or(self.text.len(), |next| next - 1);
        let characters =
            |from: usize, to: usize| self.text.get(from..to).map_or(0, |part| part.chars().count());
        let column = characters(line_start, span.start);
        let width = characters(span.start, span.end.min(line_end).max(span.start));
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Place {
            file: Arc::clone(&self.name),
            line: number(line + 1),
            column: number(column + 1),
            end_column: number(column + 1 + width.max(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_stay_on_the_first_line() {
        let source = Source::new("a.json", "x\n\"中文\": 1\nend");
        let start = source.text.find(':').expect("there");
        let place = source.place(Span { start, end: source.text.len() });
        assert_eq!((place.line, place.column, place.end_column), (2, 5, 8));
        let end = source.place(Span { start: source.text.len(), end: source.text.len() });
        assert_eq!((end.line, end.column, end.end_column), (3, 4, 5));
    }
}
