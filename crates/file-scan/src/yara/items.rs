//! Where the rules of a YARA text begin and end, also in a text with errors.
//!
//! The compiler gives up a whole file at its first error. With the borders of its
//! rules known, the others can still be compiled.

use std::ops::Range;

/// An `import`, an `include` or a rule, with the comments before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    /// Its bytes.
    pub(crate) span: Range<usize>,
    /// Operators in its condition, apart from `and` and `or`.
    pub(crate) operators: usize,
}

/// The items of a text, in order. None ends inside of a well-formed rule.
pub(crate) fn items(text: &str) -> Vec<Item> {
    Items { bytes: text.as_bytes(), at: 0, begin: 0, depth: 0, operators: 0, found: Vec::new() }.split()
}

struct Items<'a> {
    bytes: &'a [u8],
    at: usize,
    begin: usize,
    depth: u32,
    operators: usize,
    found: Vec<Item>,
}

impl Items<'_> {
    fn split(mut self) -> Vec<Item> {
        while let Some(&byte) = self.bytes.get(self.at) {
            // Where a brace or quote is missing, the next rule is taken as a beginning:
            // `rule` is a reserved word, so it can't stand inside of another rule.
            if self.depth > 0 && self.is_line_start() && begins_rule(&self.bytes[self.at..]) {
                self.depth = 0;
                self.end_item();
            }
            let rest = &self.bytes[self.at..];
            match byte {
                b'/' if rest.starts_with(b"//") => self.at += length_until(rest, b"\n"),
                b'/' if rest.starts_with(b"/*") => self.at += 2 + length_until(&rest[2..], b"*/"),
                // Division is written `\`.
                b'/' if self.depth > 0 => self.skip_quoted(b'/'),
                b'"' => {
                    self.skip_quoted(b'"');
                    // Only imports and includes have a string outside of braces.
                    if self.depth == 0 {
                        self.end_item();
                    }
                }
                b'{' => {
                    self.at += 1;
                    self.depth = self.depth.saturating_add(1);
                }
                b'}' => {
                    self.at += 1;
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        self.end_item();
                    }
                }
                _ if byte.is_ascii_whitespace() => self.at += 1,
                _ if is_word(byte) => {
                    let length = rest.iter().take_while(|byte| is_word(**byte)).count();
                    self.operators += usize::from(self.depth == 1 && &rest[..length] == b"not");
                    self.at += length;
                }
                _ => {
                    // Deeper braces are those of hex strings.
                    let operator = self.depth == 1 && b"-~+*%&|^<>\\".contains(&byte);
                    self.operators += usize::from(operator);
                    self.at += 1;
                }
            }
        }
        if self.bytes[self.begin..].iter().any(|byte| !byte.is_ascii_whitespace()) {
            self.end_item();
        }
        self.found
    }

    fn is_line_start(&self) -> bool {
        self.at == 0 || self.bytes[self.at - 1] == b'\n'
    }

    /// Skips a string or regular expression; neither goes on over a line's end.
    fn skip_quoted(&mut self, end: u8) {
        self.at += 1;
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'\n' => break,
                b'\\' if self.bytes.get(self.at + 1).is_some_and(|next| *next != b'\n') => self.at += 2,
                _ => self.at += 1,
            }
            if byte == end {
                break;
            }
        }
    }

    fn end_item(&mut self) {
        let end = self.at.min(self.bytes.len());
        if end > self.begin {
            self.found.push(Item { span: self.begin..end, operators: self.operators });
        }
        self.begin = end;
        self.operators = 0;
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Bytes up to and with `end`, or all.
fn length_until(bytes: &[u8], end: &[u8]) -> usize {
    bytes.windows(end.len()).position(|at| at == end).map_or(bytes.len(), |at| at + end.len())
}

fn begins_rule(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    loop {
        let word = &rest[..rest.iter().take_while(|byte| is_word(**byte)).count()];
        let after = &rest[word.len()..];
        let spaces = after.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        rest = &after[spaces..];
        match word {
            b"private" | b"global" if spaces > 0 => {}
            b"rule" => return spaces > 0 && rest.first().is_some_and(|byte| is_word(*byte)),
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pieces(text: &str) -> Vec<&str> {
        items(text).into_iter().map(|item| text[item.span].trim()).collect()
    }

    #[test]
    fn braces_in_strings_comments_regexes_and_hex_end_nothing() {
        let first = r#"private rule a : t1 t2 {
 meta: x = "}" // }
 strings: $a = "\"}" $b = { 01 /* } */ [2-4] ( 02 | ?3 ) } $c = /\/}{2}/i
 condition: $a and #b \ 2 > 1 and for any i in (1..2) : ( @a[i] == 3 ) and "x" matches /}/
}"#;
        let second = "rule b { condition: true }";
        let text = format!("import \"pe\"\n/* rule c {{ */ {first}\n{second} // end\n");
        assert_eq!(pieces(&text), ["import \"pe\"", &format!("/* rule c {{ */ {first}"), second, "// end"]);
    }

    #[test]
    fn a_missing_brace_or_quote_takes_only_its_own_rule() {
        let text = "rule a {\n strings: $a = \"x\n condition: $a\n\nrule b { condition: true }\n";
        assert_eq!(
            pieces(text),
            ["rule a {\n strings: $a = \"x\n condition: $a", "rule b { condition: true }"]
        );
        assert_eq!(pieces("} } global private rule x { condition: all }").len(), 3);
        assert_eq!(pieces("/* never ends"), ["/* never ends"]);
        assert!(pieces(" \n").is_empty());
    }

    #[test]
    fn operators_are_those_of_the_condition() {
        let text = "rule a { meta: x = \"--\" strings: $a = { 01 [2-3] ( 02 | 03 ) } $b = /a+b*|c/\n\
                    condition: not $a and -1 + ~2 < 3 << 1 }\nrule b { condition: true }";
        assert_eq!(items(text).into_iter().map(|item| item.operators).collect::<Vec<_>>(), [7, 0]);
    }

    proptest! {
        #[test]
        fn the_pieces_are_the_text(text in "(rule |\\{|\\}|\"|/|\\*|\\\\|=|matches|\n|é| |x){0,60}") {
            let found = items(&text);
            let mut at = 0;
            for Item { span, .. } in &found {
                prop_assert_eq!(span.start, at);
                at = span.end;
            }
            prop_assert!(text[at..].trim().is_empty());
        }
    }
}
