//! What differs between two texts.

/// The lines in which two texts differ: without those that both begin and end with.
pub(super) fn changed<'a>(old: &'a [u8], new: &'a [u8]) -> (&'a [u8], &'a [u8]) {
    let (mut old, mut new) = (old, new);
    while let (Some(first), Some(other)) =
        (old.split_inclusive(is_end).next(), new.split_inclusive(is_end).next())
        && first == other
    {
        (old, new) = (&old[first.len()..], &new[other.len()..]);
    }
    while let (Some(last), Some(other)) = (last_line(old), last_line(new))
        && last == other
    {
        (old, new) = (&old[..old.len() - last.len()], &new[..new.len() - other.len()]);
    }
    (trim_end(old), trim_end(new))
}

fn is_end(byte: &u8) -> bool {
    *byte == b'\n'
}

/// The last line with its end.
fn last_line(text: &[u8]) -> Option<&[u8]> {
    let before_end = text.len().checked_sub(1)?;
    let start = text[..before_end].iter().rposition(is_end).map_or(0, |end| end + 1);
    Some(&text[start..])
}

fn trim_end(text: &[u8]) -> &[u8] {
    text.strip_suffix(b"\n").unwrap_or(text)
}

/// The lines, without ends and without blanks around them.
pub(super) fn trimmed(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(is_end).map(<[u8]>::trim_ascii)
}

/// The first field that blanks end, and what comes behind them.
pub(super) fn word(text: &[u8]) -> (&[u8], &[u8]) {
    let text = text.trim_ascii_start();
    let end = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
    (&text[..end], text[end..].trim_ascii_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lines_that_differ_are_told() {
        let told = |old: &'static str, new: &'static str| {
            let (old, new) = changed(old.as_bytes(), new.as_bytes());
            (str::from_utf8(old).unwrap(), str::from_utf8(new).unwrap())
        };
        assert_eq!(told("a\nb\nc\n", "a\nX\nc\n"), ("b", "X"));
        assert_eq!(told("a\n", "a\nevil\n"), ("", "evil"));
        assert_eq!(told("a\na\n", "a\na\na\n"), ("", "a"));
        assert_eq!(told("a\nb", "b"), ("a", ""));
        assert_eq!(told("", "x"), ("", "x"));
        assert_eq!(told("a", "a\n"), ("a", "a"), "only the end of the last line");
        assert_eq!(told("same\n", "same\n"), ("", ""));
    }

    #[test]
    fn a_line_falls_into_words() {
        assert_eq!(word(b"  a \t b c"), (&b"a"[..], &b"b c"[..]));
        assert_eq!(word(b" "), (&b""[..], &b""[..]));
    }
}
