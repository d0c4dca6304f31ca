//! The engine and a slow evaluator, written from the specification's text alone, give the same verdicts
//! on generated rules and events.

mod slow_sigma;

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use rule_engine::{EventBuffer, FieldId, LogSource, RuleSet, SigmaOptions, parse_sigma};
use serde_json::{Map, Value, json};
use slow_sigma::{
    Condition, Event, FIELDS, Filter, Identifier, Item, NAMES, PLACEHOLDERS, Rule, base64, holds,
    holds_with_filters, item_holds,
};

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

fn detection_of(rule: &Rule) -> Map<String, Value> {
    let mut detection = Map::new();
    for (name, identifier) in NAMES.iter().zip(&rule.identifiers) {
        let value = match identifier {
            Identifier::Map(items) => map_of(items),
            Identifier::ListOfMaps(maps) => maps.iter().map(|items| map_of(items)).collect(),
            Identifier::Keywords(values) => Value::Array(values.clone()),
        };
        detection.insert((*name).to_owned(), value);
    }
    let mut conditions: Vec<Value> =
        rule.conditions.iter().map(|condition| condition_text(rule, condition).into()).collect();
    let condition = if conditions.len() == 1 { conditions.remove(0) } else { Value::Array(conditions) };
    detection.insert("condition".to_owned(), condition);
    detection
}

/// JSON is YAML.
fn text_of_rule(number: usize, rule: &Rule) -> String {
    json!({
        "title": format!("rule {number}"), "id": format!("rule-{number}"),
        "logsource": {"product": "linux", "service": "auditd"}, "detection": detection_of(rule),
    })
    .to_string()
}

fn text_of_filter(number: usize, filter: &Filter) -> String {
    let mut own = detection_of(&filter.added);
    let rules = filter.rules.iter().map(|number| Value::from(format!("rule-{number}"))).collect::<Vec<_>>();
    own.insert("rules".to_owned(), if rules.is_empty() { "any".into() } else { rules.into() });
    json!({
        "title": format!("filter {number}"), "id": format!("filter-{number}"),
        "logsource": {"product": "linux"}, "filter": own,
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

/// What is looked for in base64 as a whole, so that few are enough to be found.
const ENCODED: &[&str] = &["ab", "a -b", "-a"];

fn wanted(kinds: u8) -> impl Strategy<Value = Value> {
    match kinds {
        0 => word().prop_map(Value::from).boxed(),
        1 => prop_oneof![6 => word().prop_map(Value::from), 1 => Just(Value::Null), 2 => (-3_i64..30).prop_map(Value::from), 1 => any::<bool>().prop_map(Value::from)].boxed(),
        2 => any::<bool>().prop_map(Value::from).boxed(),
        3 => (-3_i64..30).prop_map(Value::from).boxed(),
        8 => prop::sample::select(&[0, 8, 9, 21, 47, 51, 53, 1, 2019, 2026][..]).prop_map(Value::from).boxed(),
        10 => prop::sample::select(ENCODED).prop_map(Value::from).boxed(),
        9 => "[ab]{0,2}%(one|two)%[ab*]{0,1}".prop_map(Value::from).boxed(),
        4 => prop::sample::select(&["a+b", "^b", "a.b$", "A$", "^ab?", "[0-9]+$", "(?i)cmd|shell", "a.b", "^$", "(aa|bb)a*"][..]).prop_map(Value::from).boxed(),
        5 => prop::sample::select(&["10.0.0.0/30", "10.0.0.4/31", "0.0.0.0/0", "fe80::/10", "2001:db8::/33", "::/0", "::1", "::ffff:10.0.0.0/126", "::ffff:0:0/95"][..]).prop_map(Value::from).boxed(),
        6 => prop::sample::select(&FIELDS[..]).prop_map(Value::from).boxed(),
        _ => "[ab -]{1,6}".prop_map(Value::from).boxed(),
    }
}

/// Modifiers that go together, and which kind of values they want.
fn modifiers() -> Vec<(Vec<&'static str>, u8)> {
    vec![
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
        (vec!["base64"], 10),
        (vec!["base64", "contains"], 10),
        (vec!["wide", "base64offset", "contains"], 7),
        (vec!["utf16le", "base64"], 10),
        (vec!["utf16be", "base64offset", "contains"], 7),
        (vec!["utf16", "base64"], 10),
        (vec!["re", "i"], 4),
        (vec!["re", "m"], 4),
        (vec!["re", "i", "m", "s"], 4),
        (vec!["expand"], 9),
        (vec!["expand", "contains"], 9),
        (vec!["hour"], 8),
        (vec!["minute", "gte"], 8),
        (vec!["day", "lt"], 8),
        (vec!["week"], 8),
        (vec!["month", "lte"], 8),
        (vec!["year"], 8),
        (vec!["cidr"], 5),
        (vec!["cidr", "neq"], 5),
        (vec!["fieldref", "startswith"], 6),
        (vec!["fieldref", "endswith"], 6),
        (vec!["contains", "fieldref"], 6),
        (vec!["fieldref", "cased"], 6),
        (vec!["neq", "all"], 1),
        (vec!["contains", "all", "neq"], 0),
    ]
}

fn item_with(modifiers: Vec<(Vec<&'static str>, u8)>) -> impl Strategy<Value = Item> {
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

fn item() -> impl Strategy<Value = Item> {
    item_with(modifiers())
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

/// `'|all': [a, b]`.
fn keywords(modifiers: Vec<&'static str>, kinds: u8) -> impl Strategy<Value = Identifier> {
    prop::collection::vec(wanted(kinds), 1..3).prop_map(move |values| {
        Identifier::Map(vec![Item { field: String::new(), modifiers: modifiers.clone(), values }])
    })
}

fn identifier() -> impl Strategy<Value = Identifier> {
    prop_oneof![
        6 => items().prop_map(Identifier::Map),
        2 => prop::collection::vec(items(), 1..3).prop_map(Identifier::ListOfMaps),
        1 => prop::collection::vec(wanted(0), 1..3).prop_map(Identifier::Keywords),
        1 => keywords(vec!["all"], 0),
        1 => keywords(vec!["re"], 4),
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
    let conditions = prop_oneof![
        4 => prop::collection::vec(condition(), 1..2),
        1 => prop::collection::vec(condition(), 2..4),
    ];
    (prop::collection::vec(identifier(), 1..=4), conditions)
        .prop_map(|(identifiers, conditions)| Rule { identifiers, conditions })
}

fn filters() -> impl Strategy<Value = Vec<Filter>> {
    let filter =
        (rule(), prop::collection::vec(0..8_usize, 0..3)).prop_map(|(added, rules)| Filter { added, rules });
    prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(filter, 1..3)]
}

/// What modifiers of times, addresses and encodings look for.
fn special() -> impl Strategy<Value = Value> {
    const FORMS: &[&str] = &[
        "2026-11-21T20:15:03Z",
        "2019-03-02 08:51:00.008",
        "2021-01-03T00:00:00Z",
        "2024-12-30 09:53:59",
        "1551516660",
        "10.0.0.2",
        "::ffff:10.0.0.2",
        "::ffff:10.0.0.9",
        "fe80::1",
        "2001:db8::a",
        "2001:db8:8000::",
        "::1",
        "a\nb",
        "b\nA\na",
    ];
    prop_oneof![
        8 => prop::sample::select(FORMS).prop_map(Value::from),
        1 => Just(Value::from(1_551_516_660)),
        3 => "[ab -]{1,6}".prop_map(|text| Value::from(base64(text.as_bytes()))),
        3 => (prop::sample::select(ENCODED), 0..3).prop_map(|(text, form)| {
            let wide = text.encode_utf16().flat_map(u16::to_le_bytes);
            let bytes: Vec<u8> = match form {
                0 => text.bytes().collect(),
                1 => wide.collect(),
                _ => [0xff, 0xfe].into_iter().chain(wide).collect(),
            };
            Value::from(base64(&bytes))
        }),
        3 => ("[ab]{0,2}", "[ab -]{1,6}", any::<bool>()).prop_map(|(before, text, is_big)| {
            let wide = |text: &str| {
                let unit = |unit: u16| if is_big { unit.to_be_bytes() } else { unit.to_le_bytes() };
                text.encode_utf16().flat_map(unit).collect::<Vec<u8>>()
            };
            Value::from(base64(&[wide(&before), wide(&text)].concat()))
        }),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let value = prop_oneof![
        7 => word().prop_map(|text| Some(Value::from(text.replace(['*', '?'], "")))),
        1 => "[ab -/YWIZGQd]{4,12}".prop_map(|text| Some(Value::from(text))),
        2 => (-3_i64..30).prop_map(|number| Some(Value::from(number))),
        1 => any::<bool>().prop_map(|truth| Some(Value::from(truth))),
        2 => special().prop_map(Some),
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

/// The same cases each time, so that a change fails by what it does itself. With `RAMPART_LONG_TESTS` others each time;
/// `PROPTEST_RNG_SEED` has those of a seed again.
fn config() -> ProptestConfig {
    use std::hash::{BuildHasher as _, RandomState};
    let default = ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() };
    let rng_seed = match default.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random if std::env::var_os("RAMPART_LONG_TESTS").is_some() => {
            RandomState::new().hash_one("sigma_differential")
        }
        RngSeed::Random => 20_261_126,
    };
    println!("generated with PROPTEST_RNG_SEED={rng_seed}");
    ProptestConfig { rng_seed: RngSeed::Fixed(rng_seed), ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn verdicts_are_those_of_the_slow_evaluator(
        rules in prop::collection::vec(rule(), 1..8),
        filters in filters(),
        events in prop::collection::vec(event(), 1..12),
    ) {
        let rule_texts = rules.iter().enumerate().map(|(number, rule)| text_of_rule(number, rule));
        let filter_texts = filters.iter().enumerate().map(|(number, filter)| text_of_filter(number, filter));
        let texts: Vec<String> = rule_texts.chain(filter_texts).collect();
        let mut options = SigmaOptions::default();
        for (name, values) in PLACEHOLDERS {
            let values = values.iter().map(|value| (*value).to_owned()).collect();
            options.placeholders.insert(name.to_owned(), values);
        }
        let mut parsed = Vec::new();
        for text in &texts {
            let outcome = parse_sigma("generated.yml", text, &options);
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
                .filter(|(number, rule)| holds_with_filters(*number, rule, &filters, event))
                .map(|(number, _)| format!("rule-{number}"))
                .collect();
            prop_assert_eq!(&found, &expected, "{:?}\n{}", event, texts.join("\n"));
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
            yes += u32::from(holds(&rule, &event));
            all += 1;
        }
    }
    assert!(yes * 10 > all && yes * 10 < all * 9, "{yes} of {all}");
}

/// Each modifier decides something: with it, an item of a field that the event has is true for one and false for
/// another.
#[test]
fn each_modifier_is_true_for_some_events_and_false_for_others() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let events = event();
    // A field that is there exists.
    for own in modifiers().into_iter().filter(|(modifiers, _)| !modifiers.contains(&"exists")) {
        let items = item_with(vec![own.clone()]);
        let mut seen = [false; 2];
        for _ in 0..20_000 {
            let item = items.new_tree(&mut runner).expect("an item").current();
            let event = events.new_tree(&mut runner).expect("an event").current();
            if event.contains_key(item.field.as_str()) {
                seen[usize::from(item_holds(&item, &event))] = true;
            }
            if seen == [true; 2] {
                break;
            }
        }
        assert_eq!(seen, [true; 2], "{own:?}");
    }
}
