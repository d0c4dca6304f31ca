//! What must be in an event if a rule is to match: of all such sets of literals, the rarest.

use std::borrow::Cow;

use regex_syntax::hir::{Hir, HirKind};

use super::rates::rate;
use crate::expression::{
    Anchor, Check, Element, Expression, FieldRef, Glob, Order, Slot, Test, TextPart, TextTest,
};
use crate::fold::fold;

/// Something to look for in a field.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Watch<'r> {
    /// This text, folded, at that place of a value.
    Part(Anchor, Cow<'r, str>),
    /// Any value.
    Present,
}

impl Watch<'_> {
    fn into_owned(self) -> Watch<'static> {
        match self {
            Self::Part(anchor, text) => Watch::Part(anchor, Cow::Owned(text.into_owned())),
            Self::Present => Watch::Present,
        }
    }
}

/// Where to look for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Need<'r> {
    pub(super) slot: Slot,
    pub(super) watch: Watch<'r>,
}

/// One of `needs` is in every event that the rule matches.
#[derive(Debug, Clone, Default)]
pub(super) struct Needed<'r> {
    pub(super) needs: Vec<Need<'r>>,
    /// The share of events in which one of them is likely to be found.
    rate: f32,
}

impl Needed<'_> {
    pub(super) fn rate(&self) -> f32 {
        self.rate
    }
}

/// A set of needs with more than this is no better than another.
const NEEDS_LIMIT: usize = 20_000;

/// The rarest set for a rule of which one of several conditions is enough; `None` where an event that
/// has nothing can fulfil one.
pub(super) fn needed_by_any<'r>(conditions: &'r [Expression], fields: &[FieldRef]) -> Option<Needed<'r>> {
    Search { fields }.together(conditions.iter(), false)
}

/// As [`needed_by_any`], for a rule of which every condition must hold.
pub(super) fn needed_by_all<'r>(
    conditions: impl Iterator<Item = &'r Expression>,
    fields: &[FieldRef],
) -> Option<Needed<'r>> {
    Search { fields }.rarest(conditions, false)
}

/// The rarer of two.
pub(super) fn rarer<'r>(left: Option<Needed<'r>>, right: Option<Needed<'r>>) -> Option<Needed<'r>> {
    match (left, right) {
        (Some(left), Some(right)) => Some(if right.rate < left.rate { right } else { left }),
        (left, right) => left.or(right),
    }
}

struct Search<'a> {
    fields: &'a [FieldRef],
}

impl Search<'_> {
    fn of<'r>(&self, expression: &'r Expression, negated: bool) -> Option<Needed<'r>> {
        match expression {
            Expression::All(parts) if negated => self.together(parts.iter(), true),
            Expression::All(parts) => self.rarest(parts.iter(), false),
            Expression::Any(parts) if negated => self.rarest(parts.iter(), true),
            Expression::Any(parts) => self.together(parts.iter(), false),
            Expression::Not(inner) => self.of(inner, !negated),
            Expression::Test(test) => self.of_test(test, negated),
        }
    }

    fn rarest<'r>(&self, parts: impl Iterator<Item = &'r Expression>, negated: bool) -> Option<Needed<'r>> {
        parts.map(|part| self.of(part, negated)).fold(None, rarer)
    }

    fn together<'r>(&self, parts: impl Iterator<Item = &'r Expression>, negated: bool) -> Option<Needed<'r>> {
        let mut all = Needed::default();
        for part in parts {
            let needed = self.of(part, negated)?;
            all.needs.extend(needed.needs);
            all.rate += needed.rate;
            if all.needs.len() > NEEDS_LIMIT {
                return None;
            }
        }
        Some(all)
    }

    fn of_test<'r>(&self, test: &'r Test, negated: bool) -> Option<Needed<'r>> {
        let watches = match (&test.check, negated, test.negated) {
            (Check::Null, true, _) => vec![Watch::Present],
            (Check::Null, false, _) | (_, true, _) => return None,
            (_, false, true) => vec![Watch::Present],
            (check, false, false) => watches_of(check),
        };
        // In every value something is present.
        if test.slot == Slot::ANY_FIELD && watches.contains(&Watch::Present) {
            return None;
        }
        let field = match self.fields.get(usize::from(test.slot.0)) {
            Some(FieldRef::Typed(field)) => field.spec().sigma.first().copied().unwrap_or_default(),
            Some(FieldRef::Named(name)) => name,
            None => "",
        };
        let rate = watches.iter().map(|watch| rate(field, watch)).sum();
        let needs = watches.into_iter().map(|watch| Need { slot: test.slot, watch }).collect();
        Some(Needed { needs, rate })
    }
}

fn watches_of(check: &Check) -> Vec<Watch<'_>> {
    let whole = |text: String| Watch::Part(Anchor::Whole, text.into());
    match check {
        Check::Text(text) => watches_of_text(text),
        Check::Number(Order::Equal, number) => vec![whole(number.to_string())],
        Check::NumberIn(numbers) => numbers.iter().map(|number| whole(number.to_string())).collect(),
        Check::Truth(truth) => vec![whole(truth.to_string())],
        _ => vec![Watch::Present],
    }
}

fn watches_of_text(test: &TextTest) -> Vec<Watch<'_>> {
    match &test.part {
        TextPart::Equals(text) => vec![part(Anchor::Whole, text)],
        TextPart::In(texts) => texts.iter().map(|text| part(Anchor::Whole, text)).collect(),
        TextPart::Contains(finder) => {
            // It was made from a text.
            vec![part(Anchor::Anywhere, std::str::from_utf8(finder.needle()).unwrap_or_default())]
        }
        TextPart::StartsWith(text) => vec![part(Anchor::Start, text)],
        TextPart::EndsWith(text) => vec![part(Anchor::End, text)],
        TextPart::Glob(glob) => {
            vec![longest_text(glob).map_or(Watch::Present, |text| part(Anchor::Anywhere, text))]
        }
        TextPart::LineOfAtLeast(_) => vec![Watch::Present],
        TextPart::Matches(pattern) => {
            let hir = regex_syntax::Parser::new().parse(pattern.regex.as_str()).ok();
            match hir.and_then(|hir| regex_texts(&hir)) {
                Some(texts) => {
                    let parts = texts.iter().map(|text| part(Anchor::Anywhere, text));
                    parts.map(Watch::into_owned).collect()
                }
                None => vec![Watch::Present],
            }
        }
    }
}

fn part(anchor: Anchor, text: &str) -> Watch<'_> {
    match (anchor, fold(text)) {
        (Anchor::Start | Anchor::End | Anchor::Anywhere, text) if text.is_empty() => Watch::Present,
        (anchor, text) => Watch::Part(anchor, text),
    }
}

fn longest_text(glob: &Glob) -> Option<&str> {
    let texts = glob.runs.iter().flatten().filter_map(|element| match element {
        Element::Text(text) => Some(&**text),
        Element::One => None,
    });
    texts.max_by_key(|text| text.len())
}

/// Most alternatives of a regular expression that are looked for.
const REGEX_TEXTS_LIMIT: usize = 64;

/// Folded texts of which one stands in whatever the expression finds.
fn regex_texts(hir: &Hir) -> Option<Vec<String>> {
    match hir.kind() {
        HirKind::Capture(capture) => regex_texts(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => regex_texts(&repetition.sub),
        HirKind::Alternation(parts) => {
            let mut all = Vec::new();
            for part in parts {
                all.extend(regex_texts(part)?);
            }
            (all.len() <= REGEX_TEXTS_LIMIT).then_some(all)
        }
        HirKind::Concat(parts) => {
            let mut best: Option<Vec<String>> = None;
            let mut keep = |texts: Vec<String>| {
                // The longer the better, then the fewer.
                let worth = |texts: &Vec<String>| {
                    (texts.iter().map(String::len).min().unwrap_or(0), std::cmp::Reverse(texts.len()))
                };
                if worth(&texts).0 > 0 && best.as_ref().is_none_or(|best| worth(&texts) > worth(best)) {
                    best = Some(texts);
                }
            };
            let mut run = String::new();
            for part in parts {
                if let Some(text) = fixed_text(part) {
                    run.push_str(&text);
                    continue;
                }
                keep(vec![std::mem::take(&mut run)]);
                if let Some(texts) = regex_texts(part) {
                    keep(texts);
                }
            }
            keep(vec![run]);
            best
        }
        _ => fixed_text(hir).filter(|text| !text.is_empty()).map(|text| vec![text]),
    }
}

/// The one text, folded, that the expression finds.
fn fixed_text(hir: &Hir) -> Option<String> {
    match hir.kind() {
        HirKind::Literal(literal) => Some(fold(std::str::from_utf8(&literal.0).ok()?).into_owned()),
        HirKind::Look(_) | HirKind::Empty => Some(String::new()),
        HirKind::Class(class) => {
            // A letter in both cases is one text when folded.
            let characters: Vec<char> = match class {
                regex_syntax::hir::Class::Unicode(class) => {
                    let ranges = class.ranges();
                    (ranges.iter().map(|range| range.len()).sum::<usize>() <= 4).then_some(())?;
                    ranges.iter().flat_map(|range| range.start()..=range.end()).collect()
                }
                regex_syntax::hir::Class::Bytes(_) => return None,
            };
            let mut folded =
                characters.iter().map(|character| fold(character.encode_utf8(&mut [0; 4])).into_owned());
            let first = folded.next()?;
            folded.all(|other| other == first).then_some(first)
        }
        HirKind::Capture(capture) => fixed_text(&capture.sub),
        HirKind::Concat(parts) => parts.iter().map(fixed_text).collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(pattern: &str) -> Option<Vec<String>> {
        regex_texts(&regex_syntax::Parser::new().parse(pattern).expect("a regular expression"))
    }

    #[test]
    fn what_a_regular_expression_needs_is_in_all_it_finds() {
        let one = |text: &str| Some(vec![text.to_owned()]);
        assert_eq!(texts(r"^C:\\Users\\[^\\]+\\AppData\\"), one(r"c:\users\"));
        assert_eq!(texts("(?i)powerXhell"), one("powerxhell"));
        assert_eq!(texts("a+b?cde{2,}"), one("cd"));
        assert_eq!(texts("(foo|barbar)baz"), one("baz"));
        assert_eq!(texts("(foo|barbar)x*"), Some(vec!["foo".into(), "barbar".into()]));
        assert_eq!(texts(r"\d+|foo"), None);
        assert_eq!(texts("[a-z]*"), None);
    }
}
