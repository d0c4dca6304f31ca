//! Patterns of STIX 2.1 (part 9 of the specification), as far as single things are looked for.

/// Groups within groups.
const MAX_DEPTH: u32 = 32;

/// `file:hashes.'SHA-256' = '…'`: a path and a value it may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The path without quotes, in lower case: `file:hashes.sha-256`.
    pub(super) path: String,
    pub(super) value: String,
}

/// What a pattern looks for, any of which is enough. Of things that must come together,
/// only the hashes are given: a hash says by itself which file it is.
///
/// # Errors
/// Why the pattern can't be looked for.
pub(super) fn wanted(pattern: &str) -> Result<Vec<Wanted>, &'static str> {
    let mut parser = Parser { rest: pattern.trim(), depth: 0 };
    let wanted = parser.observations()?;
    if parser.skip_space().is_empty() {
        Ok(wanted)
    } else {
        Err("it has a qualifier or something behind its end")
    }
}

const BAD_SYNTAX: &str = "it is not a STIX pattern";

struct Parser<'a> {
    rest: &'a str,
    depth: u32,
}

impl<'a> Parser<'a> {
    fn skip_space(&mut self) -> &'a str {
        self.rest = self.rest.trim_start();
        self.rest
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        match self.skip_space().strip_prefix(symbol) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// A word of the language, in whatever case.
    fn keyword(&mut self, word: &str) -> bool {
        let rest = self.skip_space();
        let found = rest.get(..word.len()).is_some_and(|at| at.eq_ignore_ascii_case(word))
            && !rest[word.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
        if found {
            self.rest = &rest[word.len()..];
        }
        found
    }

    /// Runs within one more group.
    fn nested<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, &'static str>,
    ) -> Result<T, &'static str> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("its groups are nested too deep");
        }
        let found = read(self)?;
        self.depth -= 1;
        Ok(found)
    }

    fn observations(&mut self) -> Result<Vec<Wanted>, &'static str> {
        let mut all = self.observation()?;
        loop {
            if self.keyword("or") {
                all.extend(self.observation()?);
            } else if self.keyword("and") || self.keyword("followedby") {
                return Err("it needs several observations together");
            } else {
                return Ok(all);
            }
        }
    }

    fn observation(&mut self) -> Result<Vec<Wanted>, &'static str> {
        let end;
        let found = if self.symbol("[") {
            end = "]";
            self.nested(Self::alternatives)?
        } else if self.symbol("(") {
            end = ")";
            self.nested(Self::observations)?
        } else {
            return Err(BAD_SYNTAX);
        };
        if self.symbol(end) { Ok(found) } else { Err(BAD_SYNTAX) }
    }

    fn alternatives(&mut self) -> Result<Vec<Wanted>, &'static str> {
        let mut all = self.together()?;
        while self.keyword("or") {
            all.extend(self.together()?);
        }
        Ok(all)
    }

    fn together(&mut self) -> Result<Vec<Wanted>, &'static str> {
        let mut all = self.comparison()?;
        let mut several = false;
        while self.keyword("and") {
            several = true;
            all.extend(self.comparison()?);
        }
        if several {
            all.retain(|wanted| wanted.path.starts_with("file:hashes."));
            if all.is_empty() {
                return Err("it needs several things together, none of which is a hash");
            }
        }
        Ok(all)
    }

    fn comparison(&mut self) -> Result<Vec<Wanted>, &'static str> {
        if self.symbol("(") {
            let found = self.nested(Self::alternatives)?;
            return if self.symbol(")") { Ok(found) } else { Err(BAD_SYNTAX) };
        }
        let path = self.path()?;
        if self.keyword("not") {
            return Err("it asks for what is not there");
        }
        if self.symbol("!=") {
            return Err("it asks for what is not there");
        }
        let one = |value| Ok(vec![Wanted { path: path.clone(), value }]);
        if self.symbol("==") || self.symbol("=") || self.keyword("issubset") {
            return one(self.literal()?);
        }
        if self.keyword("in") {
            if !self.symbol("(") {
                return Err(BAD_SYNTAX);
            }
            let mut all = Vec::new();
            loop {
                all.extend(one(self.literal()?)?);
                if !self.symbol(",") {
                    break;
                }
            }
            return if self.symbol(")") { Ok(all) } else { Err(BAD_SYNTAX) };
        }
        let others = ["like", "matches", "issuperset", "exists"];
        if others.iter().any(|word| self.keyword(word)) || self.symbol("<") || self.symbol(">") {
            return Err("it compares otherwise than with `=`, `IN` or `ISSUBSET`");
        }
        Err(BAD_SYNTAX)
    }

    fn path(&mut self) -> Result<String, &'static str> {
        let rest = self.skip_space();
        let mut path = String::new();
        let mut quoted = false;
        let mut end = rest.len();
        for (at, c) in rest.char_indices() {
            match c {
                '\'' => quoted = !quoted,
                _ if quoted || c.is_alphanumeric() || matches!(c, ':' | '.' | '_' | '-' | '*') => {
                    path.extend(c.to_lowercase());
                }
                // An index into a list, as in `values[0]`.
                '[' | ']' if !path.is_empty() => path.push(c),
                _ => {
                    end = at;
                    break;
                }
            }
        }
        self.rest = &rest[end..];
        if path.contains(':') && !quoted { Ok(path) } else { Err(BAD_SYNTAX) }
    }

    /// A string (also `t'…'` and its like), a number or a truth value, as text.
    fn literal(&mut self) -> Result<String, &'static str> {
        let rest = self.skip_space();
        let Some((_, string)) =
            rest.split_once('\'').filter(|(before, _)| ["", "t", "h", "b"].contains(before))
        else {
            let length =
                rest.find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c)).unwrap_or(rest.len());
            let (literal, after) = rest.split_at(length);
            self.rest = after;
            return if literal.is_empty() { Err(BAD_SYNTAX) } else { Ok(literal.to_owned()) };
        };
        self.string(string)
    }

    /// A string whose first quote was read.
    fn string(&mut self, rest: &'a str) -> Result<String, &'static str> {
        let mut value = String::new();
        let mut characters = rest.char_indices();
        while let Some((at, c)) = characters.next() {
            match c {
                '\'' => {
                    self.rest = &rest[at + 1..];
                    return Ok(value);
                }
                '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
                _ => value.push(c),
            }
        }
        Err("a string in it has no end")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(pattern: &str) -> Result<Vec<(String, String)>, &'static str> {
        Ok(wanted(pattern)?.into_iter().map(|wanted| (wanted.path, wanted.value)).collect())
    }

    #[test]
    fn single_things_and_alternatives() {
        let of = |pairs: &[(&str, &str)]| {
            Ok(pairs.iter().map(|(path, value)| ((*path).to_owned(), (*value).to_owned())).collect())
        };
        assert_eq!(
            pairs("[domain-name:value = 'evil.example']"),
            of(&[("domain-name:value", "evil.example")])
        );
        assert_eq!(
            pairs(
                "[file:hashes.'SHA-256' = 'aa' OR file:hashes.MD5='bb'] OR ([ipv4-addr:value ISSUBSET '198.51.100.0/24'])"
            ),
            of(&[
                ("file:hashes.sha-256", "aa"),
                ("file:hashes.md5", "bb"),
                ("ipv4-addr:value", "198.51.100.0/24")
            ])
        );
        assert_eq!(
            pairs("[url:value IN ('a', 'b\\'c\\\\')]"),
            of(&[("url:value", "a"), ("url:value", "b'c\\")])
        );
        assert_eq!(pairs("[a:b = 5 OR a:c = t'x']"), of(&[("a:b", "5"), ("a:c", "x")]));
        assert_eq!(
            pairs("[file:name = 'x' AND (file:hashes.MD5 = 'bb')]"),
            of(&[("file:hashes.md5", "bb")]),
            "a hash is enough"
        );
    }

    #[test]
    fn what_is_not_looked_for_says_why() {
        for (pattern, part) in [
            ("[a:b = 'x' AND c:d = 'y']", "together"),
            ("[a:b = 'x'] FOLLOWEDBY [a:b = 'y']", "together"),
            ("[a:b = 'x'] WITHIN 5 SECONDS", "qualifier"),
            ("[a:b NOT = 'x']", "not there"),
            ("[a:b != 'x']", "not there"),
            ("[a:b LIKE '%x']", "otherwise"),
            ("[a:b = 'x", "no end"),
            ("[a:b = ]", "not a STIX"),
            ("[]", "not a STIX"),
            ("", "not a STIX"),
        ] {
            let reason = wanted(pattern).unwrap_err();
            assert!(reason.contains(part), "{pattern}: {reason}");
        }
        assert_eq!(wanted(&"(".repeat(100_000)), Err("its groups are nested too deep"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[\\[\\]()'=a:.\\\\ é]{0,40}( OR | AND |IN|NOT)?.{0,20}") {
            let _ = wanted(&text);
        }
    }
}
