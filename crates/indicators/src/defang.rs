//! Indicators are passed around in forms that nobody can click on by accident.

use std::borrow::Cow;

/// What people write, and what they mean by it.
const DEFANGED: &[(&str, &str)] = &[
    ("[://]", "://"),
    ("[:]", ":"),
    ("[.]", "."),
    ("(.)", "."),
    ("{.}", "."),
    ("[dot]", "."),
    ("(dot)", "."),
    ("{dot}", "."),
    ("[/]", "/"),
    ("\\.", "."),
];

/// The value that is meant by `hxxps[:]//evil[.]example`.
pub(crate) fn refang(text: &str) -> Cow<'_, str> {
    let text = text.trim();
    // A path of Windows may have `\.` in it; it has no scheme and no brackets.
    let is_path = text.starts_with(['/', '\\']) || text.as_bytes().get(1..3).is_some_and(|at| at == b":\\");
    let scheme = ["hxxp", "hxtp", "htxp", "meow"].iter().find(|scheme| {
        text.get(..4).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme))
            && text[4..].trim_start_matches(['s', 'S']).starts_with([':', '['])
    });
    if is_path || scheme.is_none() && !text.contains(['[', '(', '{', '\\']) {
        return Cow::Borrowed(text);
    }
    let mut meant = String::with_capacity(text.len());
    let mut rest = text;
    if scheme.is_some() {
        meant.push_str("http");
        rest = &text[4..];
    }
    'text: while let Some(next) = rest.chars().next() {
        for (written, means) in DEFANGED {
            if rest.get(..written.len()).is_some_and(|at| at.eq_ignore_ascii_case(written)) {
                meant.push_str(means);
                rest = &rest[written.len()..];
                continue 'text;
            }
        }
        meant.push(next);
        rest = &rest[next.len_utf8()..];
    }
    Cow::Owned(meant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant() {
        for (written, meant) in [
            ("hxxps[:]//evil[.]example/a", "https://evil.example/a"),
            ("HXXP://evil(dot)example", "http://evil.example"),
            ("hxxp[://]1.2.3[.]4:8080/x", "http://1.2.3.4:8080/x"),
            ("198[.]51.100{.}7", "198.51.100.7"),
            ("2001[:]db8::1", "2001:db8::1"),
            (" evil\\.example ", "evil.example"),
            ("evil.example", "evil.example"),
            ("/tmp/[.]x", "/tmp/[.]x"),
            ("C:\\a\\.ssh", "C:\\a\\.ssh"),
            ("hxxpfoo.example", "hxxpfoo.example"),
        ] {
            assert_eq!(refang(written), meant);
        }
    }
}
