//! The condition of a rule: how its search identifiers work together.

use std::ops::Range;

use crate::diagnostic::DiagnosticCode;
use crate::expression::Expression;
use crate::nearest::nearest;

/// Longest condition in bytes.
const CONDITION_LIMIT: usize = 64 * 1024;
/// How deep parentheses and `not` may stand in each other.
const NESTING_LIMIT: usize = 50;
/// Tests of one condition; a search identifier counts as often as it is named.
const TESTS_LIMIT: usize = 500_000;

/// What is wrong, and where in the condition.
#[derive(Debug)]
pub(super) struct ConditionError {
    pub(super) code: DiagnosticCode,
    pub(super) range: Range<usize>,
    pub(super) reason: String,
    pub(super) hint: Option<String>,
}

/// A condition as a tree, its leaves being something else's names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Tree {
    Any(Vec<Tree>),
    All(Vec<Tree>),
    Not(Box<Tree>),
    Name(String, Range<usize>),
    /// `1 of` (or `any of`) and `all of` a pattern of names, or of them all.
    Of {
        all: bool,
        pattern: Option<String>,
        range: Range<usize>,
    },
}

/// Reads a condition.
pub(super) fn parse(text: &str) -> Result<Tree, ConditionError> {
    if text.len() > CONDITION_LIMIT {
        let reason = format!("a condition of {} bytes; the limit is {CONDITION_LIMIT}", text.len());
        return Err(error(DiagnosticCode::TooLarge, 0..text.len(), reason, None));
    }
    let tokens = tokens(text)?;
    let mut parser = Parser { text, tokens, at: 0, depth: 0 };
    let tree = parser.any()?;
    match parser.tokens.get(parser.at) {
        None => Ok(tree),
        Some((Token::Close, range)) => Err(bad(range.clone(), "a `)` without its `(`", None)),
        Some((_, range)) => {
            let found = text.get(range.clone()).unwrap_or_default();
            let reason = format!("`{found}` where `and` or `or` should stand");
            Err(bad(range.clone(), reason, None))
        }
    }
}

/// Whether there is a `not` in it.
pub(super) fn has_not(tree: &Tree) -> bool {
    match tree {
        Tree::Not(_) => true,
        Tree::Any(parts) | Tree::All(parts) => parts.iter().any(has_not),
        Tree::Name(..) | Tree::Of { .. } => false,
    }
}

/// Puts the search identifiers in place of their names.
pub(super) fn bind(tree: &Tree, identifiers: &[(String, Expression)]) -> Result<Expression, ConditionError> {
    Binder { identifiers, tests: 0 }.tree(tree)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Open,
    Close,
    Word,
}

fn error(code: DiagnosticCode, range: Range<usize>, reason: String, hint: Option<&str>) -> ConditionError {
    ConditionError { code, range, reason, hint: hint.map(str::to_owned) }
}

fn bad(range: Range<usize>, reason: impl Into<String>, hint: Option<&str>) -> ConditionError {
    error(DiagnosticCode::BadCondition, range, reason.into(), hint)
}

fn tokens(text: &str) -> Result<Vec<(Token, Range<usize>)>, ConditionError> {
    let mut tokens = Vec::new();
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let is_word = |it: char| it.is_alphanumeric() || matches!(it, '_' | '-' | '*' | '?' | '.');
        match character {
            '(' => tokens.push((Token::Open, at..at + 1)),
            ')' => tokens.push((Token::Close, at..at + 1)),
            it if it.is_whitespace() => {}
            '|' => {
                let hint = "aggregations behind `|` are gone from Sigma; write a correlation rule";
                return Err(bad(at..text.len(), "a condition with an aggregation", Some(hint)));
            }
            it if is_word(it) => {
                let mut end = at + it.len_utf8();
                while let Some((next, it)) = characters.next_if(|(_, it)| is_word(*it)) {
                    end = next + it.len_utf8();
                }
                tokens.push((Token::Word, at..end));
            }
            other => {
                let reason = format!("`{other}` has no meaning in a condition");
                let hint = "a condition has names, `and`, `or`, `not`, `1 of`, `all of` and parentheses";
                return Err(bad(at..at + other.len_utf8(), reason, Some(hint)));
            }
        }
    }
    Ok(tokens)
}

struct Parser<'t> {
    text: &'t str,
    tokens: Vec<(Token, Range<usize>)>,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn word(&self) -> Option<&str> {
        match self.tokens.get(self.at) {
            Some((Token::Word, range)) => self.text.get(range.clone()),
            _ => None,
        }
    }

    fn take(&mut self, wanted: &str) -> bool {
        let is_there = self.word().is_some_and(|word| word.eq_ignore_ascii_case(wanted));
        self.at += usize::from(is_there);
        is_there
    }

    fn any(&mut self) -> Result<Tree, ConditionError> {
        let mut parts = vec![self.all()?];
        while self.take("or") {
            parts.push(self.all()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Tree::Any(parts) })
    }

    fn all(&mut self) -> Result<Tree, ConditionError> {
        let mut parts = vec![self.not()?];
        while self.take("and") {
            parts.push(self.not()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Tree::All(parts) })
    }

    fn not(&mut self) -> Result<Tree, ConditionError> {
        if self.depth >= NESTING_LIMIT {
            let reason = format!("nested deeper than {NESTING_LIMIT} levels");
            return Err(error(DiagnosticCode::TooLarge, self.place(), reason, None));
        }
        self.depth += 1;
        let tree = if self.take("not") { Tree::Not(Box::new(self.not()?)) } else { self.operand()? };
        self.depth -= 1;
        Ok(tree)
    }

    /// Where the next token stands, or the end of the text.
    fn place(&self) -> Range<usize> {
        let end = self.text.len().saturating_sub(1)..self.text.len();
        self.tokens.get(self.at).map_or(end, |(_, range)| range.clone())
    }

    fn operand(&mut self) -> Result<Tree, ConditionError> {
        let range = self.place();
        match self.tokens.get(self.at).map(|(token, _)| *token) {
            Some(Token::Open) => {
                self.at += 1;
                let tree = self.any()?;
                if self.tokens.get(self.at).is_none_or(|(token, _)| *token != Token::Close) {
                    return Err(bad(range, "a `(` without its `)`", None));
                }
                self.at += 1;
                Ok(tree)
            }
            Some(Token::Word) => self.name_or_of(range),
            Some(Token::Close) => Err(bad(range, "a `)` where a search identifier should stand", None)),
            None => Err(bad(range, "the condition ends where a search identifier should stand", None)),
        }
    }

    fn name_or_of(&mut self, range: Range<usize>) -> Result<Tree, ConditionError> {
        let word = self.word().unwrap_or_default().to_owned();
        self.at += 1;
        if self.take("of") {
            let all = match word.to_ascii_lowercase().as_str() {
                "all" => true,
                "1" | "any" => false,
                _ => {
                    let reason = format!("`{word} of` is no selection");
                    return Err(bad(range, reason, Some("write `1 of`, `any of` or `all of`")));
                }
            };
            let of = self.place();
            let Some(pattern) = self.word().map(str::to_owned) else {
                return Err(bad(of, "a pattern of names, or `them`, should stand behind `of`", None));
            };
            self.at += 1;
            let pattern = (!pattern.eq_ignore_ascii_case("them")).then_some(pattern);
            return Ok(Tree::Of { all, pattern, range: range.start..of.end });
        }
        if ["and", "or", "not", "of"].contains(&word.to_ascii_lowercase().as_str()) {
            return Err(bad(range, format!("`{word}` where a search identifier should stand"), None));
        }
        Ok(Tree::Name(word, range))
    }
}

struct Binder<'i> {
    identifiers: &'i [(String, Expression)],
    tests: usize,
}

impl Binder<'_> {
    fn tree(&mut self, tree: &Tree) -> Result<Expression, ConditionError> {
        let mut parts =
            |parts: &[Tree]| parts.iter().map(|part| self.tree(part)).collect::<Result<Vec<_>, _>>();
        Ok(match tree {
            Tree::Any(inner) => Expression::any(parts(inner)?),
            Tree::All(inner) => Expression::all(parts(inner)?),
            Tree::Not(inner) => Expression::Not(Box::new(self.tree(inner)?)),
            Tree::Name(name, range) => {
                let Some((_, expression)) = self.identifiers.iter().find(|(own, _)| own == name) else {
                    let reason = format!("the detection has no `{name}`");
                    let near = nearest(name, self.identifiers.iter().map(|(name, _)| name.as_str()));
                    let hint = near.map(|near| format!("did you mean `{near}`?"));
                    let code = DiagnosticCode::BadReference;
                    return Err(ConditionError { code, range: range.clone(), reason, hint });
                };
                let expression = expression.clone();
                self.count(&expression, range)?;
                expression
            }
            Tree::Of { all, pattern, range } => {
                let named = self.identifiers.iter().filter(|(name, _)| match pattern {
                    // Names that begin with `_` are for naming only.
                    None => !name.starts_with('_'),
                    Some(pattern) => is_like(pattern, name),
                });
                let named: Vec<Expression> = named.map(|(_, expression)| expression.clone()).collect();
                if named.is_empty() {
                    let reason = match pattern {
                        Some(pattern) => format!("the detection has nothing like `{pattern}`"),
                        None => "the detection has no search identifiers".to_owned(),
                    };
                    return Err(error(DiagnosticCode::BadReference, range.clone(), reason, None));
                }
                for expression in &named {
                    self.count(expression, range)?;
                }
                if *all { Expression::all(named) } else { Expression::any(named) }
            }
        })
    }

    fn count(&mut self, expression: &Expression, range: &Range<usize>) -> Result<(), ConditionError> {
        self.tests = self.tests.saturating_add(expression.count());
        if self.tests <= TESTS_LIMIT {
            return Ok(());
        }
        let reason = format!("the condition has more than {TESTS_LIMIT} tests");
        let hint = Some("name each search identifier once");
        Err(error(DiagnosticCode::TooLarge, range.clone(), reason, hint))
    }
}

/// Whether a name is like a pattern, in which `*` is any text.
pub(crate) fn is_like(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(tree: &Tree) -> String {
        let joined = |parts: &[Tree], word: &str| {
            format!("({})", parts.iter().map(shown).collect::<Vec<_>>().join(word))
        };
        match tree {
            Tree::Any(parts) => joined(parts, " or "),
            Tree::All(parts) => joined(parts, " and "),
            Tree::Not(inner) => format!("not {}", shown(inner)),
            Tree::Name(name, _) => name.clone(),
            Tree::Of { all, pattern, .. } => {
                format!("{} of {}", if *all { "all" } else { "1" }, pattern.as_deref().unwrap_or("them"))
            }
        }
    }

    #[test]
    fn precedence_is_or_and_not_of() {
        for (text, expected) in [
            ("a and b or not c and d", "((a and b) or (not c and d))"),
            ("a AND NOT (b OR c)", "(a and not (b or c))"),
            ("not not a", "not not a"),
            ("1 of sel* and not any of filter_*", "(1 of sel* and not 1 of filter_*)"),
            ("all of them", "all of them"),
        ] {
            assert_eq!(shown(&parse(text).expect(text)), expected);
        }
        for text in
            ["", "a b", "a and", "(a", "a)", "2 of them", "of", "1 of", "a | count() > 5", "a & b", "not"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&"(".repeat(10_000)).is_err() && parse(&"not ".repeat(10_000)).is_err());
    }

    #[test]
    fn patterns_of_names() {
        assert!(
            is_like("sel*", "sel") && is_like("*_x", "a_x") && is_like("a*b*c", "a1b2c") && is_like("a", "a")
        );
        assert!(!is_like("sel*", "xsel") && !is_like("a", "ab") && !is_like("a*b*c", "acb"));
    }
}
