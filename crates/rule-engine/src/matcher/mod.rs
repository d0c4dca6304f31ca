//! Which rules of a group match an event.
//!
//! [`needed`] chooses for each rule what must be in an event if it is to match; [`RuleIndex`] looks for
//! all of that at once and judges exactly only the rules of which something was found.

mod hash;
mod keywords;
mod needed;
mod pieces;
mod rates;

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasherDefault;

pub(crate) use hash::TextHasher;
use keywords::KeywordSearch;
use needed::{Need, Needed, Watch};
use pieces::PieceFilter;

use crate::event::{EventBuffer, FieldId, Prepared};
use crate::expression::{Anchor, Slot, View, name_of, quoted};
use crate::rule::ParsedRule;

/// Scratch memory of judging, one for each thread.
#[derive(Debug, Default)]
pub struct Desk {
    prepared: Prepared,
    /// For each rule of the index, the round in which it was last a candidate.
    rounds: Vec<u32>,
    round: u32,
    candidates: Vec<u32>,
}

impl Desk {
    /// Takes the texts of an event that is to be judged.
    pub(crate) fn take(&mut self, event: &EventBuffer) {
        self.prepared.take(event);
    }
}

/// A rule in an index.
#[derive(Debug)]
struct IndexedRule {
    /// Its number in the set.
    rule: usize,
    /// The field of each of its slots.
    fields: Box<[FieldId]>,
}

/// Rules that judge the same events, arranged by what they need.
#[derive(Debug, Default)]
pub(crate) struct RuleIndex {
    rules: Vec<IndexedRule>,
    fields: Vec<FieldIndex>,
    keywords: Option<(KeywordSearch, Postings)>,
    /// Rules that need nothing.
    always: Vec<u32>,
}

/// What is looked for in one field.
#[derive(Debug)]
struct FieldIndex {
    field: FieldId,
    wholes: HashMap<Box<str>, (u32, u32), BuildHasherDefault<TextHasher>>,
    whole_rules: Vec<u32>,
    parts: PieceFilter,
    part_rules: Postings,
    /// Rules that need any value of it.
    present: Vec<u32>,
}

/// For each literal the rules that need it.
#[derive(Debug, Default)]
struct Postings {
    starts: Vec<u32>,
    rules: Vec<u32>,
}

impl Postings {
    fn new(lists: impl IntoIterator<Item = Vec<u32>>) -> Self {
        let mut own = Self { starts: vec![0], rules: Vec::new() };
        for mut list in lists {
            list.dedup();
            own.rules.extend(list);
            own.starts.push(number(own.rules.len()));
        }
        own
    }

    fn of(&self, literal: u32) -> &[u32] {
        let place = literal as usize;
        match (self.starts.get(place), self.starts.get(place + 1)) {
            (Some(from), Some(to)) => &self.rules[*from as usize..*to as usize],
            _ => &[],
        }
    }
}

/// What is to be looked for in one field, while it is being gathered.
#[derive(Default)]
struct Gathered<'r> {
    /// For each literal the place of its rules.
    places: HashMap<(Anchor, Cow<'r, str>), usize, BuildHasherDefault<TextHasher>>,
    rules: Vec<Vec<u32>>,
    present: Vec<u32>,
}

impl<'r> Gathered<'r> {
    fn add(&mut self, watch: Watch<'r>, rule: u32) {
        match watch {
            Watch::Present => self.present.push(rule),
            Watch::Part(anchor, text) => {
                let next = self.rules.len();
                match self.places.entry((anchor, text)) {
                    Entry::Occupied(known) => self.rules[*known.get()].push(rule),
                    Entry::Vacant(new) => {
                        new.insert(next);
                        self.rules.push(vec![rule]);
                    }
                }
            }
        }
    }

    /// The literals in the order in which they were added, each with its rules.
    fn literals(self) -> impl Iterator<Item = (Anchor, Box<str>, Vec<u32>)> + use<'r> {
        let mut literals: Vec<_> = self.places.into_iter().collect();
        literals.sort_unstable_by_key(|(_, place)| *place);
        literals.into_iter().zip(self.rules).map(|(((anchor, text), _), rules)| (anchor, text.into(), rules))
    }
}

impl RuleIndex {
    /// An index of rules, each with its number in the set and the fields of its slots.
    pub(crate) fn new<'r>(rules: impl IntoIterator<Item = (usize, &'r ParsedRule, Box<[FieldId]>)>) -> Self {
        let mut index = Self::default();
        let mut gathered: Vec<(FieldId, Gathered<'_>)> = Vec::new();
        let mut place_of: HashMap<FieldId, usize> = HashMap::new();
        let mut keywords = Gathered::default();
        for (rule, parsed, fields) in rules {
            let local = number(index.rules.len());
            match needed_of(parsed) {
                None => index.always.push(local),
                Some(needed) => {
                    for Need { slot, watch } in needed.needs {
                        if slot == Slot::ANY_FIELD {
                            keywords.add(watch, local);
                            continue;
                        }
                        let Some(field) = fields.get(usize::from(slot.0)) else { continue };
                        let place = *place_of.entry(*field).or_insert_with(|| {
                            gathered.push((*field, Gathered::default()));
                            gathered.len() - 1
                        });
                        gathered[place].1.add(watch, local);
                    }
                }
            }
            index.rules.push(IndexedRule { rule, fields });
        }
        index.fields =
            gathered.into_iter().map(|(field, gathered)| FieldIndex::new(field, gathered)).collect();
        if !keywords.rules.is_empty() {
            let (texts, rules): (Vec<_>, Vec<_>) =
                keywords.literals().map(|(_, text, rules)| (text, rules)).unzip();
            index.keywords = Some((KeywordSearch::new(&texts), Postings::new(rules)));
        }
        index
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Numbers in the set of all its rules.
    pub(crate) fn rules(&self) -> impl Iterator<Item = usize> {
        self.rules.iter().map(|indexed| indexed.rule)
    }

    /// The fields that its rules ask for.
    pub(crate) fn fields_used(&self) -> impl Iterator<Item = FieldId> {
        self.rules.iter().flat_map(|indexed| indexed.fields.iter().copied())
    }

    /// Calls `look` with one rule and whether it may match the event, be that so or not. `desk` has taken the event.
    pub(crate) fn look_at(
        &self,
        rule: usize,
        event: &EventBuffer,
        desk: &mut Desk,
        look: impl FnOnce(bool, View<'_>),
    ) {
        let mut is_candidate = false;
        self.candidates(event, desk, |candidate, _| is_candidate |= candidate == rule);
        if let Some(indexed) = self.rules.iter().find(|indexed| indexed.rule == rule) {
            look(is_candidate, View { event, prepared: &desk.prepared, fields: &indexed.fields });
        }
    }

    /// Calls `judged` for each rule that may match, in the order of the set. `desk` has taken the event.
    pub(crate) fn candidates(
        &self,
        event: &EventBuffer,
        desk: &mut Desk,
        mut judged: impl FnMut(usize, View<'_>),
    ) {
        let Desk { prepared, rounds, round, candidates } = desk;
        *round = round.wrapping_add(1);
        if *round == 0 {
            rounds.fill(0);
            *round = 1;
        }
        if rounds.len() < self.rules.len() {
            rounds.resize(self.rules.len(), 0);
        }
        candidates.clear();
        candidates.extend_from_slice(&self.always);
        let mut add = |rules: &[u32]| {
            for rule in rules {
                if let Some(seen) = rounds.get_mut(*rule as usize)
                    && *seen != *round
                {
                    *seen = *round;
                    candidates.push(*rule);
                }
            }
        };
        let prepared: &Prepared = prepared;
        for field in &self.fields {
            field.find(prepared, &mut add);
        }
        if let Some((search, rules)) = &self.keywords {
            search.find(prepared.all(), |literal| add(rules.of(literal)));
        }
        candidates.sort_unstable();
        for local in candidates {
            let indexed = &self.rules[*local as usize];
            judged(indexed.rule, View { event, prepared, fields: &indexed.fields });
        }
    }
}

impl FieldIndex {
    fn new(field: FieldId, mut gathered: Gathered<'_>) -> Self {
        let present = std::mem::take(&mut gathered.present);
        let mut whole_rules = Vec::new();
        let mut wholes = HashMap::default();
        let mut parts = Vec::new();
        for (anchor, text, mut rules) in gathered.literals() {
            if anchor == Anchor::Whole {
                rules.dedup();
                let from = number(whole_rules.len());
                whole_rules.extend(rules);
                wholes.insert(text, (from, number(whole_rules.len())));
            } else {
                parts.push((anchor, text, rules));
            }
        }
        let filter = PieceFilter::new(parts.iter().map(|(anchor, text, _)| (&**text, *anchor)));
        let part_rules = Postings::new(parts.into_iter().map(|(_, _, rules)| rules));
        Self { field, wholes, whole_rules, parts: filter, part_rules, present }
    }

    fn find(&self, prepared: &Prepared, add: &mut impl FnMut(&[u32])) {
        let mut next = prepared.first_place(self.field);
        if next.is_some() {
            add(&self.present);
        }
        while let Some(place) = next {
            let text = prepared.text(place);
            if let Some((from, to)) = self.wholes.get(text) {
                add(&self.whole_rules[*from as usize..*to as usize]);
            }
            if !self.parts.is_empty() {
                self.parts.find(text, |literal| add(self.part_rules.of(literal)));
            }
            next = prepared.place_behind(place);
        }
    }
}

/// What is looked for in events before a rule's conditions are computed.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct LookedFor {
    /// How sharply it separates.
    pub quality: PrefilterQuality,
    /// How many texts are looked for; one of them must be there.
    pub texts: usize,
    /// The first of them in words, for example `CommandLine contains 'whoami'`.
    pub examples: Vec<String>,
    /// The share of events in which one is likely to be found, by ordinary values; 1 without a prefilter.
    pub likely_share: f32,
}

/// How well the events that a rule can't match are told without computing its conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PrefilterQuality {
    /// By texts of which one must be in the event.
    Texts,
    /// By a field that must be there.
    Field,
    /// Not at all: its conditions are computed on every event of its log source.
    None,
}

impl LookedFor {
    /// Examples that are kept.
    const EXAMPLES: usize = 5;

    pub(crate) fn of(rule: &ParsedRule) -> Self {
        let Some(needed) = needed_of(rule) else {
            return Self {
                quality: PrefilterQuality::None,
                texts: 0,
                examples: Vec::new(),
                likely_share: 1.0,
            };
        };
        let in_words = |need: &Need<'_>| {
            let field = name_of(need.slot, &rule.fields);
            match &need.watch {
                Watch::Present => format!("{field} is there"),
                Watch::Part(anchor, text) => {
                    let relation = match anchor {
                        Anchor::Whole => "=",
                        Anchor::Start => "starts with",
                        Anchor::End => "ends with",
                        Anchor::Anywhere => "contains",
                    };
                    format!("{field} {relation} {}", quoted(text))
                }
            }
        };
        let texts = needed.needs.iter().filter(|need| need.watch != Watch::Present).count();
        let has_field = texts < needed.needs.len();
        Self {
            quality: if has_field { PrefilterQuality::Field } else { PrefilterQuality::Texts },
            texts,
            examples: needed.needs.iter().take(Self::EXAMPLES).map(in_words).collect(),
            likely_share: needed.rate().min(1.0),
        }
    }
}

/// What must be in an event if the rule is to match.
fn needed_of(rule: &ParsedRule) -> Option<Needed<'_>> {
    let conditions = match rule.head.match_mode {
        crate::MatchMode::Any => needed::needed_by_any(&rule.conditions, &rule.fields),
        crate::MatchMode::All => needed::needed_by_all(rule.conditions.iter(), &rule.fields),
    };
    needed::rarer(conditions, needed::needed_by_all(rule.filters.iter(), &rule.fields))
}

/// Rule sets are far from 2^32 rules or literals.
fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
