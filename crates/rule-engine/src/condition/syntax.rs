//! The tree of a condition.
//!
//! ```text
//! or         = and { "or" and }
//! and        = unary { "and" unary }
//! unary      = "not" unary | "(" or ")" | comparison
//! comparison = FIELD operator value
//! operator   = "=" "!=" ">" "<" ">=" "<=" "contains" "startswith" "endswith" "matches" "in" "not in"
//! value      = text | number | word | "(" value { "," value } ")" | "[" value { "," value } "]"
//! ```

use std::ops::Range;

use super::lexer::{Bracket, QuotedText, Symbol, Token, TokenKind, tokens};
use super::{Finding, NESTING_LIMIT};
use crate::diagnostic::DiagnosticCode;
use crate::nearest::nearest;

#[derive(Debug)]
pub(super) enum Tree {
    All(Vec<Tree>),
    Any(Vec<Tree>),
    Not(Box<Tree>),
    Comparison(Comparison),
}

#[derive(Debug)]
pub(super) struct Comparison {
    pub(super) field: String,
    pub(super) field_range: Range<usize>,
    pub(super) operator: Operator,
    pub(super) operator_range: Range<usize>,
    pub(super) values: Vec<Literal>,
    /// From the first value to the last, brackets included.
    pub(super) value_range: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterOrEqual,
    LessOrEqual,
    Contains,
    StartsWith,
    EndsWith,
    Matches,
    In,
    NotIn,
}

impl Operator {
    /// The operators that are words.
    const WORDS: &'static [(&'static str, Self)] = &[
        ("contains", Self::Contains),
        ("startswith", Self::StartsWith),
        ("endswith", Self::EndsWith),
        ("matches", Self::Matches),
        ("in", Self::In),
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Greater => ">",
            Self::Less => "<",
            Self::GreaterOrEqual => ">=",
            Self::LessOrEqual => "<=",
            Self::Contains => "contains",
            Self::StartsWith => "startswith",
            Self::EndsWith => "endswith",
            Self::Matches => "matches",
            Self::In => "in",
            Self::NotIn => "not in",
        }
    }

    fn takes_list(self) -> bool {
        matches!(self, Self::In | Self::NotIn)
    }
}

/// A value as written.
#[derive(Debug)]
pub(super) struct Literal {
    pub(super) text: QuotedText,
    pub(super) range: Range<usize>,
}

pub(super) fn parse(text: &str) -> Result<Tree, Finding> {
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens, at: 0 };
    if parser.peek().kind == TokenKind::End {
        let hint = Some("for example: name contains 'trojan'".to_owned());
        return Err(Finding::error(
            DiagnosticCode::BadCondition,
            0..text.len(),
            "the condition is empty",
            hint,
        ));
    }
    let tree = parser.or(0)?;
    let next = parser.peek();
    match &next.kind {
        TokenKind::End => Ok(tree),
        TokenKind::Close(_) => Err(bad(next.range.clone(), "a bracket is closed that was not opened", None)),
        _ => Err(bad(
            next.range.clone(),
            format!("{} behind a whole comparison", named(&next.kind)),
            Some("join comparisons with `and` or `or`; put a text of several words in quotes"),
        )),
    }
}

fn bad(range: Range<usize>, reason: impl Into<String>, hint: Option<&str>) -> Finding {
    Finding::error(DiagnosticCode::BadCondition, range, reason, hint.map(str::to_owned))
}

/// A token in words.
fn named(kind: &TokenKind) -> String {
    match kind {
        TokenKind::Word(word) => format!("`{word}`"),
        TokenKind::Quoted(_) => "a quoted text".to_owned(),
        TokenKind::Operator(symbol) => format!("`{}`", operator_of(*symbol).as_str()),
        TokenKind::Open(Bracket::Round) => "`(`".to_owned(),
        TokenKind::Open(Bracket::Square) => "`[`".to_owned(),
        TokenKind::Close(Bracket::Round) => "`)`".to_owned(),
        TokenKind::Close(Bracket::Square) => "`]`".to_owned(),
        TokenKind::Comma => "a comma".to_owned(),
        TokenKind::End => "the end of the condition".to_owned(),
    }
}

fn operator_of(symbol: Symbol) -> Operator {
    match symbol {
        Symbol::Equal => Operator::Equal,
        Symbol::NotEqual => Operator::NotEqual,
        Symbol::Greater => Operator::Greater,
        Symbol::Less => Operator::Less,
        Symbol::GreaterOrEqual => Operator::GreaterOrEqual,
        Symbol::LessOrEqual => Operator::LessOrEqual,
    }
}

/// Operators of other rule languages, and what they are here.
const FOREIGN_WORDS: &[(&str, &str)] = &[
    ("is", "write `=`"),
    ("equals", "write `=`"),
    ("eq", "write `=`"),
    ("ne", "write `!=`"),
    ("gt", "write `>`"),
    ("gte", "write `>=`"),
    ("lt", "write `<`"),
    ("lte", "write `<=`"),
    ("like", "write `contains` or `matches`"),
    ("regex", "write `matches`"),
    ("re", "write `matches`"),
    ("has", "write `contains`"),
    ("icontains", "write `contains`; texts compare without case"),
];

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        // The last token is End and is never passed.
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        if token.kind != TokenKind::End {
            self.at += 1;
        }
        token
    }

    fn at_keyword(&self, keyword: &str) -> bool {
        matches!(&self.peek().kind, TokenKind::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    fn or(&mut self, depth: usize) -> Result<Tree, Finding> {
        let mut parts = vec![self.and(depth)?];
        while self.at_keyword("or") {
            self.take();
            parts.push(self.and(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Tree::Any(parts) })
    }

    fn and(&mut self, depth: usize) -> Result<Tree, Finding> {
        let mut parts = vec![self.unary(depth)?];
        while self.at_keyword("and") {
            self.take();
            parts.push(self.unary(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Tree::All(parts) })
    }

    fn unary(&mut self, depth: usize) -> Result<Tree, Finding> {
        let token = self.peek().clone();
        let nests = self.at_keyword("not") || matches!(token.kind, TokenKind::Open(_));
        if nests && depth >= NESTING_LIMIT {
            let reason = format!("parentheses and `not` nested deeper than {NESTING_LIMIT}");
            return Err(Finding::error(DiagnosticCode::TooLarge, token.range, reason, None));
        }
        if self.at_keyword("not") {
            self.take();
            return Ok(Tree::Not(Box::new(self.unary(depth + 1)?)));
        }
        match token.kind {
            TokenKind::Open(Bracket::Round) => {
                self.take();
                let inner = self.or(depth + 1)?;
                let close = self.peek();
                if close.kind != TokenKind::Close(Bracket::Round) {
                    let reason = format!("{} where `)` should stand", named(&close.kind));
                    let hint = format!("the `(` is at character {}", token.range.start + 1);
                    return Err(bad(close.range.clone(), reason, Some(&hint)));
                }
                self.take();
                Ok(inner)
            }
            TokenKind::Open(Bracket::Square) => Err(bad(
                token.range,
                "`[` where a field should stand",
                Some("group comparisons with `(` and `)`"),
            )),
            _ => self.comparison().map(Tree::Comparison),
        }
    }

    fn comparison(&mut self) -> Result<Comparison, Finding> {
        let field = self.take();
        let TokenKind::Word(name) = &field.kind else {
            let hint = "a comparison is FIELD OPERATOR VALUE, for example: name contains 'trojan'";
            return Err(bad(
                field.range,
                format!("{} where a field should stand", named(&field.kind)),
                Some(hint),
            ));
        };
        if let Some((plain, modifier)) = name.split_once('|') {
            let hint = format!("write `{plain} {} …`", modifier.split('|').next().unwrap_or_default());
            let reason = "Sigma's modifiers are no part of a field name here";
            return Err(bad(field.range.clone(), reason, Some(&hint)));
        }
        let (operator, operator_range) = self.operator(name, &field.range)?;
        let first_value = self.peek().range.clone();
        let values = if operator.takes_list() { self.list(operator)? } else { vec![self.value(operator)?] };
        let last = self.tokens[self.at - 1].range.clone();
        Ok(Comparison {
            field: name.clone(),
            field_range: field.range,
            operator,
            operator_range,
            values,
            value_range: first_value.start..last.end,
        })
    }

    fn operator(
        &mut self,
        field: &str,
        field_range: &Range<usize>,
    ) -> Result<(Operator, Range<usize>), Finding> {
        let token = self.take();
        let word = match &token.kind {
            TokenKind::Operator(symbol) => return Ok((operator_of(*symbol), token.range)),
            TokenKind::Word(word) => word.to_lowercase(),
            TokenKind::End => {
                let hint = format!("for example: {field} contains 'text'");
                return Err(bad(
                    field_range.clone(),
                    format!("`{field}` has no operator behind it"),
                    Some(&hint),
                ));
            }
            other => {
                return Err(bad(
                    token.range,
                    format!("{} where an operator should stand", named(other)),
                    None,
                ));
            }
        };
        if word == "not" {
            let next = self.take();
            if matches!(&next.kind, TokenKind::Word(word) if word.eq_ignore_ascii_case("in")) {
                return Ok((Operator::NotIn, token.range.start..next.range.end));
            }
            let hint = match &next.kind {
                TokenKind::Word(word) => format!("write `not {field} {word} …`"),
                _ => format!("write `not {field} …` or `{field} not in (…)`"),
            };
            return Err(bad(token.range, "`not` stands before a comparison, or as `not in`", Some(&hint)));
        }
        if let Some((_, operator)) = Operator::WORDS.iter().find(|(known, _)| *known == word) {
            return Ok((*operator, token.range));
        }
        let foreign =
            FOREIGN_WORDS.iter().find(|(known, _)| *known == word).map(|(_, hint)| (*hint).to_owned());
        let hint = foreign.or_else(|| {
            let known = Operator::WORDS.iter().map(|(known, _)| *known);
            nearest(&word.replace('_', ""), known).map(|nearest| format!("did you mean `{nearest}`?"))
        });
        let allowed = "= != > < >= <= contains startswith endswith matches in, not in";
        let hint = hint.unwrap_or_else(|| format!("the operators are {allowed}"));
        let reason = format!("`{word}` is no operator");
        Err(Finding::error(DiagnosticCode::UnknownOperator, token.range, reason, Some(hint)))
    }

    fn list(&mut self, operator: Operator) -> Result<Vec<Literal>, Finding> {
        let open = self.take();
        let TokenKind::Open(bracket) = open.kind else {
            let reason =
                format!("{} where the list of `{}` should stand", named(&open.kind), operator.as_str());
            return Err(bad(open.range, reason, Some("a list is ('a', 'b') or ['a', 'b']")));
        };
        let mut values = Vec::new();
        loop {
            if values.is_empty() && self.peek().kind == TokenKind::Close(bracket) {
                let range = open.range.start..self.peek().range.end;
                return Err(bad(range, "the list is empty", Some("a list has at least one value")));
            }
            values.push(self.value(operator)?);
            let next = self.take();
            match next.kind {
                TokenKind::Comma => {}
                TokenKind::Close(close) if close == bracket => return Ok(values),
                other => {
                    let close = if bracket == Bracket::Round { ')' } else { ']' };
                    let reason = format!("{} where `,` or `{close}` should stand", named(&other));
                    return Err(bad(next.range, reason, None));
                }
            }
        }
    }

    fn value(&mut self, operator: Operator) -> Result<Literal, Finding> {
        let token = self.take();
        let text = match token.kind {
            TokenKind::Quoted(text) => text,
            TokenKind::Word(word) => {
                let keyword =
                    ["and", "or", "not", "in"].iter().any(|keyword| word.eq_ignore_ascii_case(keyword));
                if keyword || Operator::WORDS.iter().any(|(known, _)| word.eq_ignore_ascii_case(known)) {
                    let hint = format!("if the text `{word}` is meant, put it in quotes");
                    return Err(bad(
                        token.range,
                        format!("`{word}` where a value should stand"),
                        Some(&hint),
                    ));
                }
                QuotedText::plain(&word, token.range.start)
            }
            TokenKind::Open(_) => {
                let hint = "lists stand behind `in` and `not in`; write several conditions, or join comparisons with `or`";
                return Err(bad(token.range, format!("`{}` takes one value", operator.as_str()), Some(hint)));
            }
            other => {
                let range = token.range;
                return Err(bad(range, format!("{} where a value should stand", named(&other)), None));
            }
        };
        Ok(Literal { text, range: token.range })
    }
}
