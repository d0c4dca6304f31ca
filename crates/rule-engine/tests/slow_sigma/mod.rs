//! What Sigma rules mean, written from the specification's text alone, character by character, without any of
//! the engine's code: no index, no folding ahead of time, no glob, no shared expressions.

use std::collections::BTreeMap;

use serde_json::{Value, json};

pub(crate) const FIELDS: [&str; 4] = ["Alpha", "Beta", "Gamma", "Delta"];

/// An event: each field with its values, `None` being null.
pub(crate) type Event = BTreeMap<&'static str, Vec<Option<Value>>>;

#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// Empty for keywords.
    pub(crate) field: String,
    pub(crate) modifiers: Vec<&'static str>,
    pub(crate) values: Vec<Value>,
}

#[derive(Debug, Clone)]
pub(crate) enum Identifier {
    Map(Vec<Item>),
    ListOfMaps(Vec<Vec<Item>>),
    Keywords(Vec<Value>),
}

#[derive(Debug, Clone)]
pub(crate) enum Condition {
    Name(usize),
    Of { all: bool, filters_only: Option<bool> },
    Not(Box<Condition>),
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
}

#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) identifiers: Vec<Identifier>,
    /// Any of them is enough.
    pub(crate) conditions: Vec<Condition>,
}

/// A rule whose conditions are added to others.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    pub(crate) added: Rule,
    /// The rules it is for, by their numbers; none for all.
    pub(crate) rules: Vec<usize>,
}

/// Names of identifiers: two that a pattern catches, and one that `them` leaves out.
pub(crate) const NAMES: [&str; 4] = ["sel_a", "sel_b", "filter_c", "_hidden"];

/// What placeholders stand for.
pub(crate) const PLACEHOLDERS: [(&str, &[&str]); 2] = [("one", &["ab", "b*"]), ("two", &["a?"])];

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

pub(crate) fn base64(bytes: &[u8]) -> String {
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

fn base64_offsets(text: &[u8]) -> Vec<String> {
    let form = |offset: usize| {
        let bytes = [vec![b' '; offset], text.to_vec()].concat();
        let encoded = base64(&bytes);
        let start = [0, 2, 3][offset];
        let end = encoded.len() - [0, 3, 2][bytes.len() % 3];
        encoded[start.min(end)..end].to_owned()
    };
    (0..3).map(form).collect()
}

/// The value in UTF-16, each unit as two bytes.
fn wide(text: &str, is_big_endian: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for unit in text.encode_utf16() {
        let (high, low) = ((unit >> 8) as u8, (unit & 255) as u8);
        bytes.extend(if is_big_endian { [high, low] } else { [low, high] });
    }
    bytes
}

/// Each text with each value in the place of each placeholder.
fn expanded(text: &str) -> Vec<String> {
    let mut all = vec![text.to_owned()];
    for (name, values) in PLACEHOLDERS {
        let mark = format!("%{name}%");
        while let Some(place) = all.iter().position(|text| text.contains(&mark)) {
            let text = all.remove(place);
            all.extend(values.iter().map(|value| text.replacen(&mark, value, 1)));
        }
    }
    all
}

/// Bits of an address; of an IPv4 address in IPv6 form both its own and those of the IPv4 address.
fn addresses(text: &str) -> Vec<Vec<bool>> {
    let bits_of = |groups: &[u32], width: u32| {
        let bits = groups.iter().flat_map(|group| (0..width).rev().map(move |bit| group >> bit & 1 == 1));
        bits.collect::<Vec<bool>>()
    };
    let dotted = |text: &str| {
        let parts: Option<Vec<u32>> =
            text.split('.').map(|part| part.parse::<u8>().ok().map(u32::from)).collect();
        parts.filter(|parts| parts.len() == 4)
    };
    if let Some(parts) = dotted(text) {
        return vec![bits_of(&parts, 8)];
    }
    let groups = |text: &str| -> Option<Vec<u32>> {
        let mut all = Vec::new();
        for part in text.split(':').filter(|part| !part.is_empty()) {
            match dotted(part) {
                Some(parts) => all.extend([parts[0] * 256 + parts[1], parts[2] * 256 + parts[3]]),
                None => all.push(u32::from_str_radix(part, 16).ok()?),
            }
        }
        Some(all)
    };
    // What is generated has two colons in a row, or is no IPv6 address.
    let Some((before, behind)) = text.split_once("::") else { return Vec::new() };
    let (Some(mut all), Some(behind)) = (groups(before), groups(behind)) else { return Vec::new() };
    all.resize(8 - behind.len(), 0);
    all.extend(behind);
    let mut forms = vec![bits_of(&all, 16)];
    if all[..6] == [0, 0, 0, 0, 0, 0xffff] {
        forms.push(bits_of(&all[6..], 16));
    }
    forms
}

fn is_in_network(own: &str, network: &str) -> bool {
    let (base, length) = match network.split_once('/') {
        Some((base, length)) => (base, Some(length.parse::<usize>().expect("bits"))),
        None => (network, None),
    };
    let own = addresses(own);
    addresses(base).iter().any(|form| {
        // Before the IPv4 address in IPv6 form stand 96 bits, which the network must have in full.
        let of_ipv6 = form.len() == 32 && base.contains(':');
        let length = match length {
            None => form.len(),
            Some(length) if of_ipv6 && length < 96 => return false,
            Some(length) if of_ipv6 => length - 96,
            Some(length) => length,
        };
        own.iter().any(|own| own.len() == form.len() && own[..length] == form[..length])
    })
}

/// Year, month, day, hour and minute of a time as it is generated: text, or seconds since 1970.
fn parts_of_time(value: &Value) -> Option<[i64; 5]> {
    let digits = |text: &str| text.len() >= 9 && text.chars().all(|it| it.is_ascii_digit());
    let text = text_of(value);
    if digits(&text) {
        let mut seconds: i64 = text.parse().ok()?;
        let mut year = 1970;
        while seconds >= days_of_year(year) * 86_400 {
            seconds -= days_of_year(year) * 86_400;
            year += 1;
        }
        let mut month = 1;
        while seconds >= days_of_month(year, month) * 86_400 {
            seconds -= days_of_month(year, month) * 86_400;
            month += 1;
        }
        return Some([year, month, seconds / 86_400 + 1, seconds / 3_600 % 24, seconds / 60 % 60]);
    }
    let part = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    (text.len() >= 19 && text.get(4..5) == Some("-")).then_some(())?;
    Some([part(0..4)?, part(5..7)?, part(8..10)?, part(11..13)?, part(14..16)?])
}

fn days_of_year(year: i64) -> i64 {
    (1..=12).map(|month| days_of_month(year, month)).sum()
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since Monday, 1 January 1900; only later ones are generated.
fn day_number(year: i64, month: i64, day: i64) -> i64 {
    (1900..year).map(days_of_year).sum::<i64>()
        + (1..month).map(|month| days_of_month(year, month)).sum::<i64>()
        + day
        - 1
}

/// ISO 8601: week 1 is the one with 4 January in it.
fn week(year: i64, month: i64, day: i64) -> i64 {
    let own = day_number(year, month, day);
    let begin = |year: i64| {
        let fourth = day_number(year, 1, 4);
        fourth - fourth % 7
    };
    let of_year =
        [year + 1, year, year - 1].into_iter().find(|year| begin(*year) <= own).expect("one of three");
    (own - begin(of_year)) / 7 + 1
}

fn time_part(item: &Item, own: &Value) -> Option<i64> {
    let [year, month, day, hour, minute] = parts_of_time(own)?;
    let part = |modifier: &&str| match *modifier {
        "year" => Some(year),
        "month" => Some(month),
        "week" => Some(week(year, month, day)),
        "day" => Some(day),
        "hour" => Some(hour),
        "minute" => Some(minute),
        _ => None,
    };
    item.modifiers.iter().find_map(part)
}

const TIME_PARTS: [&str; 6] = ["minute", "hour", "day", "week", "month", "year"];

fn value_holds(item: &Item, wanted: &Value, own: Option<&Value>, event: &Event) -> bool {
    let has = |modifier: &str| item.modifiers.contains(&modifier);
    let Some(own) = own else { return false };
    let is_time = TIME_PARTS.iter().any(|part| has(part));
    let number = |value: &Value| text_of(value).parse::<f64>().ok();
    let measured = || if is_time { time_part(item, own).map(|it| it as f64) } else { number(own) };
    for (modifier, holds) in [
        ("lt", (|a, b| a < b) as fn(f64, f64) -> bool),
        ("lte", |a, b| a <= b),
        ("gt", |a, b| a > b),
        ("gte", |a, b| a >= b),
    ] {
        if has(modifier) {
            return measured().zip(number(wanted)).is_some_and(|(own, wanted)| holds(own, wanted));
        }
    }
    if is_time {
        return measured().is_some_and(|own| Some(own) == number(wanted));
    }
    if has("cidr") {
        return is_in_network(&text_of(own), &text_of(wanted));
    }
    if has("re") {
        // Regular expressions are those of another library on both sides; what is tested is the index.
        let mut regex = regex::RegexBuilder::new(&text_of(wanted));
        regex.case_insensitive(has("i")).multi_line(has("m")).dot_matches_new_line(has("s"));
        return regex.build().expect("valid").is_match(&text_of(own));
    }
    if has("fieldref") {
        let others = event.get(text_of(wanted).as_str()).cloned().unwrap_or_default();
        let form = |value: &Value| {
            if has("cased") { text_of(value).chars().collect() } else { lower(&text_of(value)) }
        };
        return others.iter().flatten().any(|other| {
            let (own, other) = (form(own), form(other));
            if has("startswith") {
                own.starts_with(&other)
            } else if has("endswith") {
                own.ends_with(&other)
            } else if has("contains") {
                (0..=own.len()).any(|from| own[from..].starts_with(&other))
            } else {
                own == other
            }
        });
    }
    let mut texts = match wanted {
        Value::String(text) if has("windash") => dashed(text),
        Value::String(text) => vec![text.clone()],
        other => vec![other.to_string()],
    };
    if has("expand") {
        texts = texts.iter().flat_map(|text| expanded(text)).collect();
    }
    let encoded =
        |text: &String| match item.modifiers.iter().find(|it| it.starts_with("utf16") || **it == "wide") {
            None => text.as_bytes().to_vec(),
            Some(&"utf16be") => wide(text, true),
            Some(&"utf16") => [vec![0xff, 0xfe], wide(text, false)].concat(),
            Some(_) => wide(text, false),
        };
    if has("base64offset") {
        texts = texts.iter().flat_map(|text| base64_offsets(&encoded(text))).collect();
    } else if has("base64") {
        texts = texts.iter().map(|text| base64(&encoded(text))).collect();
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

pub(crate) fn item_holds(item: &Item, event: &Event) -> bool {
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

fn condition_holds(rule: &Rule, condition: &Condition, event: &Event) -> bool {
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
        Condition::Not(inner) => !condition_holds(rule, inner, event),
        Condition::And(left, right) => {
            condition_holds(rule, left, event) && condition_holds(rule, right, event)
        }
        Condition::Or(left, right) => {
            condition_holds(rule, left, event) || condition_holds(rule, right, event)
        }
    }
}

/// A list of conditions means any of them.
pub(crate) fn holds(rule: &Rule, event: &Event) -> bool {
    rule.conditions.iter().any(|condition| condition_holds(rule, condition, event))
}

/// With the conditions of the filters that are for it, as written.
pub(crate) fn holds_with_filters(number: usize, rule: &Rule, filters: &[Filter], event: &Event) -> bool {
    let is_for = |filter: &&Filter| filter.rules.is_empty() || filter.rules.contains(&number);
    holds(rule, event) && filters.iter().filter(is_for).all(|filter| holds(&filter.added, event))
}
