//! The engine and a slow evaluator, written from the specification's text alone, give the same verdicts
//! on generated rules and events.
//!
//! The evaluator below works on the rule's values as they are generated, character by character, without
//! any of the engine's code: no index, no folding ahead of time, no glob, no shared expressions.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rule_engine::{EventBuffer, FieldId, LogSource, RuleSet, parse_rules};
use serde_json::{Map, Value, json};

const FIELDS: [&str; 4] = ["Alpha", "Beta", "Gamma", "Delta"];

/// An event: each field with its values, `None` being null.
type Event = BTreeMap<&'static str, Vec<Option<Value>>>;

#[derive(Debug, Clone)]
struct Item {
    /// Empty for keywords.
    field: String,
    modifiers: Vec<&'static str>,
    values: Vec<Value>,
}

#[derive(Debug, Clone)]
enum Identifier {
    Map(Vec<Item>),
    ListOfMaps(Vec<Vec<Item>>),
    Keywords(Vec<Value>),
}

#[derive(Debug, Clone)]
enum Condition {
    Name(usize),
    Of { all: bool, filters_only: Option<bool> },
    Not(Box<Condition>),
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
}

#[derive(Debug, Clone)]
struct Rule {
    identifiers: Vec<Identifier>,
    condition: Condition,
}

/// Names of identifiers: two that a pattern catches, and one that `them` leaves out.
const NAMES: [&str; 4] = ["sel_a", "sel_b", "filter_c", "_hidden"];

// ---- the slow evaluator ---------------------------------------------------------------------------

fn lower(text: &str) -> Vec<char> {
    text.chars().flat_map(char::to_lowercase).collect()
}

#[derive(Debug, Clone, PartialEq)]
enum Symbol {
    Char(char),
    Star,
    Question,
}

/// "The backslash is used to escape the wildcards and itself"; before anything else it is itself.
fn symbols(text: &str) -> Vec<Symbol> {
    let characters: Vec<char> = text.chars().collect();
    let (mut out, mut at) = (Vec::new(), 0);
    while at < characters.len() {
        let next = characters.get(at + 1).copied();
        match characters[at] {
            '\\' if matches!(next, Some('*' | '?' | '\\')) => {
                out.push(Symbol::Char(characters[at + 1]));
                at += 1;
            }
            '*' => out.push(Symbol::Star),
            '?' => out.push(Symbol::Question),
            other => out.push(Symbol::Char(other)),
        }
        at += 1;
    }
    out
}

fn like(pattern: &[Symbol], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((Symbol::Star, rest)) => (0..=text.len()).any(|from| like(rest, &text[from..])),
        Some((Symbol::Question, rest)) => !text.is_empty() && like(rest, &text[1..]),
        Some((Symbol::Char(own), rest)) => text.first() == Some(own) && like(rest, &text[1..]),
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// All spellings of a value with `windash`.
fn dashed(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    let is_word = |it: Option<&char>| it.is_some_and(|it| it.is_alphanumeric() || *it == '_');
    let mut all = vec![String::new()];
    for (at, character) in characters.iter().enumerate() {
        let before = if at == 0 { None } else { characters.get(at - 1) };
        let is_option = matches!(character, '-' | '/') && !is_word(before) && is_word(characters.get(at + 1));
        let variants: Vec<char> =
            if is_option { vec!['-', '/', '–', '—', '―'] } else { vec![*character] };
        all = all.iter().flat_map(|text| variants.iter().map(move |it| format!("{text}{it}"))).collect();
    }
    all
}

fn base64(bytes: &[u8]) -> String {
    let alphabet: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['+', '/']).collect();
    let bits: Vec<bool> =
        bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1)).collect();
    let mut out = String::new();
    for six in bits.chunks(6) {
        let number = (0..6).fold(0, |number, bit| number * 2 + usize::from(six.get(bit) == Some(&true)));
        out.push(alphabet[number]);
    }
    while !out.len().is_multiple_of(4) {
        out.push('=');
    }
    out
}

fn base64_offsets(text: &str) -> Vec<String> {
    let form = |offset: usize| {
        let bytes = [vec![b' '; offset], text.as_bytes().to_vec()].concat();
        let encoded = base64(&bytes);
        let start = [0, 2, 3][offset];
        let end = encoded.len() - [0, 3, 2][bytes.len() % 3];
        encoded[start.min(end)..end].to_owned()
    };
    (0..3).map(form).collect()
}

fn value_holds(item: &Item, wanted: &Value, own: Option<&Value>, event: &Event) -> bool {
    let has = |modifier: &str| item.modifiers.contains(&modifier);
    let Some(own) = own else { return false };
    let number = |value: &Value| text_of(value).parse::<f64>().ok();
    for (modifier, holds) in [
        ("lt", (|a, b| a < b) as fn(f64, f64) -> bool),
        ("lte", |a, b| a <= b),
        ("gt", |a, b| a > b),
        ("gte", |a, b| a >= b),
    ] {
        if has(modifier) {
            return number(own).zip(number(wanted)).is_some_and(|(own, wanted)| holds(own, wanted));
        }
    }
    if has("cidr") {
        let network = text_of(wanted);
        let (base, bits) = network.split_once('/').expect("a network");
        let as_number = |text: &str| {
            let parts: Option<Vec<u32>> =
                text.split('.').map(|part| part.parse::<u8>().ok().map(u32::from)).collect();
            parts
                .filter(|it| it.len() == 4)
                .map(|it| it.iter().fold(0_u64, |sum, part| sum * 256 + u64::from(*part)))
        };
        let size = 2_u64.pow(32 - bits.parse::<u32>().expect("bits"));
        return as_number(&text_of(own))
            .is_some_and(|own| Some(own / size) == as_number(base).map(|it| it / size));
    }
    if has("re") {
        // Regular expressions are those of another library on both sides; what is tested is the index.
        return regex::Regex::new(&text_of(wanted)).expect("valid").is_match(&text_of(own));
    }
    if has("fieldref") {
        let others = event.get(text_of(wanted).as_str()).cloned().unwrap_or_default();
        return others.iter().flatten().any(|other| lower(&text_of(other)) == lower(&text_of(own)));
    }
    let mut texts = match wanted {
        Value::String(text) if has("windash") => dashed(text),
        Value::String(text) => vec![text.clone()],
        other => vec![other.to_string()],
    };
    if has("base64offset") {
        texts = texts.iter().flat_map(|text| base64_offsets(text)).collect();
    }
    texts.iter().any(|text| {
        let mut pattern = symbols(text);
        if has("contains") || has("endswith") || item.field.is_empty() {
            pattern.insert(0, Symbol::Star);
        }
        if has("contains") || has("startswith") || item.field.is_empty() {
            pattern.push(Symbol::Star);
        }
        if has("cased") {
            return like(&pattern, &text_of(own).chars().collect::<Vec<_>>());
        }
        let folded: Vec<Symbol> = pattern
            .into_iter()
            .flat_map(|symbol| match symbol {
                Symbol::Char(own) => own.to_lowercase().map(Symbol::Char).collect(),
                other => vec![other],
            })
            .collect();
        like(&folded, &lower(&text_of(own)))
    })
}

fn item_holds(item: &Item, event: &Event) -> bool {
    let owns: Vec<Option<Value>> = if item.field.is_empty() {
        event.values().flatten().cloned().collect()
    } else {
        event.get(item.field.as_str()).cloned().unwrap_or_default()
    };
    let one = |wanted: &Value| {
        if item.modifiers.contains(&"exists") {
            return owns.is_empty() != (*wanted == json!(true));
        }
        if wanted.is_null() {
            return owns.iter().all(Option::is_none);
        }
        owns.iter().any(|own| value_holds(item, wanted, own.as_ref(), event))
    };
    let holds = if item.modifiers.contains(&"all") {
        item.values.iter().all(one)
    } else {
        item.values.iter().any(one)
    };
    holds != item.modifiers.contains(&"neq")
}

fn identifier_holds(identifier: &Identifier, event: &Event) -> bool {
    match identifier {
        Identifier::Map(items) => items.iter().all(|item| item_holds(item, event)),
        Identifier::ListOfMaps(maps) => {
            maps.iter().any(|items| items.iter().all(|item| item_holds(item, event)))
        }
        Identifier::Keywords(values) => {
            item_holds(&Item { field: String::new(), modifiers: Vec::new(), values: values.clone() }, event)
        }
    }
}

fn holds(rule: &Rule, condition: &Condition, event: &Event) -> bool {
    match condition {
        Condition::Name(place) => identifier_holds(&rule.identifiers[place % rule.identifiers.len()], event),
        Condition::Of { all, filters_only } => {
            let is_asked = |name: &&str| match filters_only {
                None => !name.starts_with('_'),
                Some(true) => name.starts_with("filter_"),
                Some(false) => name.starts_with("sel_"),
            };
            let named = NAMES.iter().zip(&rule.identifiers).filter(|(name, _)| is_asked(name));
            let mut verdicts = named.map(|(_, identifier)| identifier_holds(identifier, event));
            if *all { verdicts.all(|it| it) } else { verdicts.any(|it| it) }
        }
        Condition::Not(inner) => !holds(rule, inner, event),
        Condition::And(left, right) => holds(rule, left, event) && holds(rule, right, event),
        Condition::Or(left, right) => holds(rule, left, event) || holds(rule, right, event),
    }
}

// ---- the rule as a file ---------------------------------------------------------------------------

fn map_of(items: &[Item]) -> Value {
    let mut map = Map::new();
    for item in items {
        let key = std::iter::once(item.field.as_str()).chain(item.modifiers.iter().copied());
        let key = key.collect::<Vec<_>>().join("|");
        let value =
            if item.values.len() == 1 { item.values[0].clone() } else { Value::Array(item.values.clone()) };
        map.insert(key, value);
    }
    Value::Object(map)
}

fn condition_text(rule: &Rule, condition: &Condition) -> String {
    match condition {
        Condition::Name(place) => NAMES[place % rule.identifiers.len()].to_owned(),
        Condition::Of { all, filters_only } => {
            let pattern = match filters_only {
                None => "them",
                Some(true) => "filter_*",
                Some(false) => "sel_*",
            };
            format!("{} of {pattern}", if *all { "all" } else { "1" })
        }
        Condition::Not(inner) => format!("not ({})", condition_text(rule, inner)),
        Condition::And(left, right) => {
            format!("({}) and ({})", condition_text(rule, left), condition_text(rule, right))
        }
        Condition::Or(left, right) => {
            format!("({}) or ({})", condition_text(rule, left), condition_text(rule, right))
        }
    }
}

/// JSON is YAML.
fn text_of_rule(number: usize, rule: &Rule) -> String {
    let mut detection = Map::new();
    for (name, identifier) in NAMES.iter().zip(&rule.identifiers) {
        let value = match identifier {
            Identifier::Map(items) => map_of(items),
            Identifier::ListOfMaps(maps) => maps.iter().map(|items| map_of(items)).collect(),
            Identifier::Keywords(values) => Value::Array(values.clone()),
        };
        detection.insert((*name).to_owned(), value);
    }
    detection.insert("condition".to_owned(), Value::String(condition_text(rule, &rule.condition)));
    json!({
        "title": format!("rule {number}"), "id": format!("rule-{number}"),
        "logsource": {"product": "linux", "service": "auditd"}, "detection": detection,
    })
    .to_string()
}

// ---- what is generated ----------------------------------------------------------------------------

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[abAB.]{0,3}",
        3 => r"[aAbB*?\\]{1,5}",
        2 => r"( [-/][ab]|a-b|[ab]{4,7}|\\cmd\.exe|POWERSHELL){1,2}",
        1 => "(ä|Ä|ß|é|K|İ|[ab]){1,3}",
        1 => "(YWI|ZG|[0-9]{1,2}|10\\.0\\.0\\.[0-9])",
    ]
}

fn wanted(kinds: u8) -> impl Strategy<Value = Value> {
    match kinds {
        0 => word().prop_map(Value::from).boxed(),
        1 => prop_oneof![6 => word().prop_map(Value::from), 1 => Just(Value::Null), 2 => (-3_i64..30).prop_map(Value::from), 1 => any::<bool>().prop_map(Value::from)].boxed(),
        2 => any::<bool>().prop_map(Value::from).boxed(),
        3 => (-3_i64..30).prop_map(Value::from).boxed(),
        4 => prop::sample::select(&["a+b", "^ab?", "[0-9]+$", "(?i)cmd|shell", "a.b", "^$", "(aa|bb)a*"][..]).prop_map(Value::from).boxed(),
        5 => prop::sample::select(&["10.0.0.0/30", "10.0.0.4/31", "0.0.0.0/0"][..]).prop_map(Value::from).boxed(),
        6 => prop::sample::select(&FIELDS[..]).prop_map(Value::from).boxed(),
        _ => "[ab -]{1,6}".prop_map(Value::from).boxed(),
    }
}

fn item() -> impl Strategy<Value = Item> {
    let modifiers: Vec<(Vec<&'static str>, u8)> = vec![
        (vec![], 1),
        (vec![], 1),
        (vec!["contains"], 0),
        (vec!["contains"], 0),
        (vec!["startswith"], 0),
        (vec!["endswith"], 0),
        (vec!["endswith"], 0),
        (vec!["contains", "all"], 0),
        (vec!["all"], 1),
        (vec!["cased"], 0),
        (vec!["contains", "cased"], 0),
        (vec!["neq"], 1),
        (vec!["contains", "neq"], 0),
        (vec!["exists"], 2),
        (vec!["lt"], 3),
        (vec!["gte"], 3),
        (vec!["gt"], 3),
        (vec!["lte"], 3),
        (vec!["re"], 4),
        (vec!["cidr"], 5),
        (vec!["fieldref"], 6),
        (vec!["fieldref", "neq"], 6),
        (vec!["windash", "contains"], 7),
        (vec!["base64offset", "contains"], 7),
    ];
    (prop::sample::select(&FIELDS[..]), prop::sample::select(modifiers)).prop_flat_map(
        |(field, (modifiers, kinds))| {
            let count = if modifiers.contains(&"exists") { 1..2 } else { 1..4_usize };
            prop::collection::vec(wanted(kinds), count).prop_map(move |values| Item {
                field: field.to_owned(),
                modifiers: modifiers.clone(),
                values,
            })
        },
    )
}

/// Items with different keys: one map can't have a key twice.
fn items() -> impl Strategy<Value = Vec<Item>> {
    prop::collection::vec(item(), 1..4).prop_map(|items| {
        let mut seen = BTreeMap::new();
        for item in items {
            seen.entry((item.field.clone(), item.modifiers.clone())).or_insert(item);
        }
        seen.into_values().collect()
    })
}

fn identifier() -> impl Strategy<Value = Identifier> {
    prop_oneof![
        6 => items().prop_map(Identifier::Map),
        2 => prop::collection::vec(items(), 1..3).prop_map(Identifier::ListOfMaps),
        1 => prop::collection::vec(wanted(0), 1..3).prop_map(Identifier::Keywords),
    ]
}

fn condition() -> impl Strategy<Value = Condition> {
    let leaf = prop_oneof![
        4 => (0..4_usize).prop_map(Condition::Name),
        1 => any::<bool>().prop_map(|all| Condition::Of { all, filters_only: None }),
        1 => any::<bool>().prop_map(|all| Condition::Of { all, filters_only: Some(false) }),
    ];
    leaf.prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            2 => inner.clone().prop_map(|it| Condition::Not(Box::new(it))),
            3 => (inner.clone(), inner.clone()).prop_map(|(l, r)| Condition::And(Box::new(l), Box::new(r))),
            2 => (inner.clone(), inner).prop_map(|(l, r)| Condition::Or(Box::new(l), Box::new(r))),
        ]
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    (prop::collection::vec(identifier(), 1..=4), condition())
        .prop_map(|(identifiers, condition)| Rule { identifiers, condition })
}

fn event() -> impl Strategy<Value = Event> {
    let value = prop_oneof![
        7 => word().prop_map(|text| Some(Value::from(text.replace(['*', '?'], "")))),
        1 => "[ab -/YWIZGQd]{4,12}".prop_map(|text| Some(Value::from(text))),
        2 => (-3_i64..30).prop_map(|number| Some(Value::from(number))),
        1 => any::<bool>().prop_map(|truth| Some(Value::from(truth))),
        1 => Just(None),
    ];
    let values =
        prop_oneof![5 => prop::collection::vec(value.clone(), 1..2), 1 => prop::collection::vec(value, 2..4)];
    prop::collection::btree_map(prop::sample::select(&FIELDS[..]), values, 0..5)
}

fn buffer_of(event: &Event, rules: &RuleSet) -> EventBuffer {
    let mut buffer = EventBuffer::new();
    for (name, values) in event {
        let field = rules.field(name).unwrap_or(FieldId::UNNAMED);
        for value in values {
            match value {
                None => buffer.push_null(field),
                Some(Value::String(text)) => buffer.push_text(field, text),
                Some(Value::Bool(truth)) => buffer.push_boolean(field, *truth),
                Some(other) => buffer.push_integer(field, other.as_i64().expect("a whole number")),
            }
        }
    }
    buffer
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn verdicts_are_those_of_the_slow_evaluator(
        rules in prop::collection::vec(rule(), 1..8),
        events in prop::collection::vec(event(), 1..12),
    ) {
        let mut parsed = Vec::new();
        for (number, rule) in rules.iter().enumerate() {
            let text = text_of_rule(number, rule);
            let outcome = parse_rules("generated.yml", &text);
            prop_assert!(outcome.is_ok(), "{text}: {:#?}", outcome.diagnostics);
            parsed.extend(outcome.rules);
        }
        let set = RuleSet::compile(parsed).rules;
        let source = LogSource { product: Some("linux".into()), category: None, service: Some("auditd".into()) };
        let source = set.source(&source).expect("a log source of ours");
        let mut desk = set.desk();
        for event in &events {
            let buffer = buffer_of(event, &set);
            let found: Vec<&str> = set.judge(&buffer, source, &mut desk).iter().map(|it| it.rule.id.as_str()).collect();
            let expected: Vec<String> = rules
                .iter()
                .enumerate()
                .filter(|(_, rule)| holds(rule, &rule.condition, event))
                .map(|(number, _)| format!("rule-{number}"))
                .collect();
            prop_assert_eq!(&found, &expected, "{:?}\n{}", event, rules.iter().enumerate().map(|(n, r)| text_of_rule(n, r)).collect::<Vec<_>>().join("\n"));
        }
    }
}

/// What is compared above is worth comparing: rules match some events and not others.
#[test]
fn generated_rules_match_some_events() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut yes, mut all) = (0, 0);
    for _ in 0..400 {
        let rule = rule().new_tree(&mut runner).expect("a rule").current();
        for _ in 0..5 {
            let event = event().new_tree(&mut runner).expect("an event").current();
            yes += u32::from(holds(&rule, &rule.condition, &event));
            all += 1;
        }
    }
    assert!(yes * 10 > all && yes * 10 < all * 9, "{yes} of {all}");
}
