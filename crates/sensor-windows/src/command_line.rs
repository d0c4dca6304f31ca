//! From the one text that Windows keeps to the arguments that a program sees.

/// Arguments that are told of one process.
const MOST_ARGUMENTS: usize = 1_024;

/// The arguments, by the rules of the C runtime and CommandLineToArgvW: quotes hold blanks together,
/// and backslashes are only special before a quote. False with them if there were too many.
pub fn split(line: &str) -> (Vec<String>, bool) {
    let mut rest = line.trim_start_matches([' ', '\t']).chars().peekable();
    let mut arguments = Vec::new();
    if rest.peek().is_none() {
        return (arguments, true);
    }
    // The program's own name knows no escapes.
    let mut program = String::new();
    let mut quoted = false;
    for one in rest.by_ref() {
        match one {
            '"' => quoted = !quoted,
            ' ' | '\t' if !quoted => break,
            one => program.push(one),
        }
    }
    arguments.push(program);
    loop {
        while rest.next_if(|one| matches!(one, ' ' | '\t')).is_some() {}
        if rest.peek().is_none() {
            return (arguments, true);
        }
        if arguments.len() >= MOST_ARGUMENTS {
            return (arguments, false);
        }
        let mut argument = String::new();
        let mut quoted = false;
        while let Some(one) = rest.peek().copied() {
            match one {
                '\\' => {
                    let mut count = 0;
                    while rest.next_if_eq(&'\\').is_some() {
                        count += 1;
                    }
                    let before_quote = rest.peek() == Some(&'"');
                    let kept = if before_quote { count / 2 } else { count };
                    argument.extend(std::iter::repeat_n('\\', kept));
                    if before_quote && count % 2 == 1 {
                        rest.next();
                        argument.push('"');
                    }
                }
                '"' => {
                    rest.next();
                    // Two quotes within quotes are one that is meant.
                    if quoted && rest.next_if_eq(&'"').is_some() {
                        argument.push('"');
                    } else {
                        quoted = !quoted;
                    }
                }
                ' ' | '\t' if !quoted => break,
                one => {
                    rest.next();
                    argument.push(one);
                }
            }
        }
        arguments.push(argument);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_as_the_runtime_does() {
        for (line, expected) in [
            ("", vec![]),
            ("  ", vec![]),
            (r"a.exe", vec!["a.exe"]),
            (r#""C:\Program Files\a.exe" /x  y"#, vec![r"C:\Program Files\a.exe", "/x", "y"]),
            (r#"a "b c" d"#, vec!["a", "b c", "d"]),
            (r#"a b\\c d\"e"#, vec!["a", r"b\\c", "d\"e"]),
            (r#"a "b\\" c"#, vec!["a", r"b\", "c"]),
            (r#"a "" b"#, vec!["a", "", "b"]),
            (r#"a "b""c""#, vec!["a", "b\"c"]),
            (r#"a "open"#, vec!["a", "open"]),
        ] {
            assert_eq!(split(line), (expected.into_iter().map(str::to_owned).collect(), true), "{line}");
        }
    }

    #[test]
    fn too_many_are_cut_and_said_to_be() {
        let (arguments, whole) = split(&"a ".repeat(5_000));
        assert_eq!((arguments.len(), whole), (MOST_ARGUMENTS, false));
    }
}
