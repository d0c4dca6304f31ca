//! From the text of a behaviour file to its behaviours, sequences and settings.

use std::sync::Arc;
use std::time::Duration;

use event_model::{ActionKind, ResponseMode, RuleId, RuleScope, Severity};

use crate::diagnostic::{Diagnostic, DiagnosticCode, DiagnosticSeverity};
use crate::json::{self, Json, Node};
use crate::rule::{MatchMode, ParsedRule, RuleHead};
use crate::rule_file::{RULE_FILE_LIMIT, fault_diagnostic};
use crate::rule_reader::{ReadConditions, Reader, WORD_LIMIT};
use crate::source::{Place, Source, Span};

const FILE_KEYS: &[&str] =
    &["description", "settings", "behaviours", "parent_child", "sequences", "overrides"];
const SETTINGS_KEYS: &[&str] = &["half_life", "ancestor_levels", "thresholds", "boundaries"];
const BEHAVIOUR_KEYS: &[&str] = &[
    "id",
    "name",
    "description",
    "type",
    "conditions",
    "match",
    "rule",
    "weight",
    "attack",
    "exceptions",
    "enabled",
];
const PAIR_KEYS: &[&str] = &[
    "id",
    "name",
    "description",
    "parents",
    "children",
    "conditions",
    "weight",
    "attack",
    "exceptions",
    "enabled",
];
const SEQUENCE_KEYS: &[&str] =
    &["id", "name", "description", "steps", "within", "severity", "weight", "attack", "enabled"];
const STEP_KEYS: &[&str] = &["behaviour", "name", "type", "conditions", "match"];
const OVERRIDE_KEYS: &[&str] = &["id", "enabled", "weight", "reason"];

/// A weight above it says no more than the threshold of `critical` does.
const WEIGHT_LIMIT: f64 = 1_000.0;
/// Names in a parent–child map.
const NAMES_LIMIT: usize = 1_000;
/// Behaviours, and so on, of one file.
const ITEMS_LIMIT: usize = 4_096;
/// Steps of a sequence.
const STEPS_LIMIT: usize = 8;
/// Ancestors that a behaviour counts for, at most.
const LEVELS_LIMIT: u32 = 32;
const SHORTEST_HALF_LIFE: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3_600);

/// A behaviour as a file has it.
#[derive(Debug, Clone)]
pub(super) struct BehaviourSpec {
    pub(super) id: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) weight: f64,
    pub(super) attack: Vec<String>,
    pub(super) enabled: bool,
    pub(super) seen_by: SeenBy,
    pub(super) place: Place,
}

/// What shows a behaviour.
#[derive(Debug, Clone)]
pub(super) enum SeenBy {
    /// Conditions of its own.
    Conditions(Box<ParsedRule>),
    /// A match of a rule of the rule set.
    Rule(RuleId),
    /// A sequence that is complete.
    Sequence,
}

/// A sequence as a file has it.
#[derive(Debug, Clone)]
pub(super) struct SequenceSpec {
    pub(super) id: Arc<str>,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) severity: Severity,
    pub(super) attack: Vec<String>,
    pub(super) within: Duration,
    /// For each step the ids of the behaviours of which any is it.
    pub(super) steps: Vec<Vec<Arc<str>>>,
    pub(super) place: Place,
}

/// What a file changes of a behaviour or sequence of an earlier one.
#[derive(Debug, Clone)]
pub(super) struct OverrideSpec {
    pub(super) id: Arc<str>,
    pub(super) enabled: Option<bool>,
    pub(super) weight: Option<f64>,
    pub(super) place: Place,
}

/// What a file says about all behaviours; what it leaves out stays as it was.
#[derive(Debug, Clone, Default)]
pub(super) struct SettingsSpec {
    pub(super) half_life: Option<Duration>,
    pub(super) ancestor_levels: Option<u32>,
    pub(super) thresholds: Vec<(Severity, f64)>,
    pub(super) boundaries: Vec<String>,
}

/// A behaviour file that was read. What was wrong with it was left out.
#[derive(Debug, Clone, Default)]
pub struct BehaviourFile {
    pub(super) settings: SettingsSpec,
    pub(super) behaviours: Vec<BehaviourSpec>,
    pub(super) sequences: Vec<SequenceSpec>,
    pub(super) overrides: Vec<OverrideSpec>,
    has_settings: bool,
}

impl BehaviourFile {
    /// How many behaviours, sequences and overrides it has, its settings counted as one.
    pub fn entries(&self) -> usize {
        // Steps of a sequence that are no behaviours for others have a `#` in their ids.
        let own = self.behaviours.iter().filter(|behaviour| !behaviour.id.contains('#')).count();
        own + self.overrides.len() + usize::from(self.has_settings)
    }
}

/// Whether a file of this name holds behaviours: it ends in `.behaviour.json`.
pub fn is_behaviour_file(source_name: &str) -> bool {
    source_name.to_ascii_lowercase().ends_with(".behaviour.json")
}

/// Reads a behaviour file. `source_name` is what diagnostics call it; those that are errors cost what they stand in.
pub fn parse_behaviours(source_name: &str, text: &str) -> (BehaviourFile, Vec<Diagnostic>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let source = Source::new(source_name, text);
    let mut reader = Reader::new(&source);
    let mut file = BehaviourFile::default();
    if text.len() > RULE_FILE_LIMIT {
        let reason = format!("a behaviour file of {} bytes; the limit is {RULE_FILE_LIMIT}", text.len());
        let hint = Some("split it into several files".to_owned());
        reader.error(DiagnosticCode::TooLarge, Span { start: 0, end: 0 }, reason, hint);
        return (file, reader.diagnostics);
    }
    let document = match json::parse(text) {
        Ok(document) => document,
        Err(fault) => return (file, vec![fault_diagnostic(&source, &fault)]),
    };
    if !document.faults.is_empty() {
        return (file, document.faults.iter().map(|fault| fault_diagnostic(&source, fault)).collect());
    }
    let Json::Object(members) = &document.root.value else {
        let reason = format!("{} where a behaviour file should stand", document.root.value.type_name());
        let hint = Some("a behaviour file is {\"behaviours\": [ … ], \"sequences\": [ … ]}".to_owned());
        reader.error(DiagnosticCode::NotARule, document.root.span, reason, hint);
        return (file, reader.diagnostics);
    };
    reader.refuse_unknown_keys(members, FILE_KEYS, "behaviour files");
    let mut all = reader.diagnostics;
    if let Some(node) = get(&document.root, "settings") {
        let settings = apart(&source, &mut all, |reader| reader.settings(node));
        file.has_settings = settings.is_some();
        file.settings = settings.unwrap_or_default();
    }
    let items = |key: &str, all: &mut Vec<Diagnostic>| {
        let Some(node) = get(&document.root, key) else { return &[][..] };
        let mut reader = Reader::new(&source);
        let items = reader.list(node, key).unwrap_or_default();
        if items.len() > ITEMS_LIMIT {
            let reason = format!("`{key}` has {} items; the limit is {ITEMS_LIMIT}", items.len());
            reader.error(DiagnosticCode::TooLarge, node.span, reason, None);
        }
        all.append(&mut reader.diagnostics);
        &items[..items.len().min(ITEMS_LIMIT)]
    };
    for node in items("behaviours", &mut all) {
        file.behaviours.extend(apart(&source, &mut all, |reader| reader.behaviour(node)));
    }
    for node in items("parent_child", &mut all) {
        file.behaviours.extend(apart(&source, &mut all, |reader| reader.pair(node)));
    }
    for node in items("sequences", &mut all) {
        if let Some((sequence, behaviours)) = apart(&source, &mut all, |reader| reader.sequence(node)) {
            file.sequences.push(sequence);
            file.behaviours.extend(behaviours);
        }
    }
    for node in items("overrides", &mut all) {
        file.overrides.extend(apart(&source, &mut all, |reader| reader.changed(node)));
    }
    (file, all)
}

/// Reads one thing: what is wrong with it costs nothing else.
fn apart<'s, T>(
    source: &'s Source<'s>,
    all: &mut Vec<Diagnostic>,
    read: impl FnOnce(&mut Reader<'s>) -> Option<T>,
) -> Option<T> {
    let mut reader = Reader::new(source);
    let value = read(&mut reader);
    let refused = reader.diagnostics.iter().any(Diagnostic::is_error);
    all.append(&mut reader.diagnostics);
    value.filter(|_| !refused)
}

fn get<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    let Json::Object(members) = &node.value else { return None };
    members.iter().find(|member| member.key.decoded == key).map(|member| &member.value)
}

/// What every kind of item begins with.
struct Named {
    id: String,
    name: String,
    attack: Vec<String>,
    enabled: bool,
    id_span: Span,
}

impl Reader<'_> {
    fn settings(&mut self, node: &Node) -> Option<SettingsSpec> {
        self.object(node, "settings", SETTINGS_KEYS, &[])?;
        let half_life =
            get(node, "half_life").and_then(|node| self.time_span(node, "half_life", SHORTEST_HALF_LIFE));
        let ancestor_levels = get(node, "ancestor_levels").and_then(|node| {
            self.number(node, "ancestor_levels", f64::from(LEVELS_LIMIT)).map(|levels| levels as u32)
        });
        let mut thresholds = Vec::new();
        if let Some(node) = get(node, "thresholds") {
            let words: Vec<&'static str> = Severity::ALL.iter().map(|severity| severity.as_str()).collect();
            self.object(node, "thresholds", SEVERITY_KEYS, &[])?;
            for (severity, word) in Severity::ALL.iter().zip(words) {
                let Some(value) = get(node, word) else { continue };
                if let Some(number) = self.number(value, word, WEIGHT_LIMIT * 10.0) {
                    if number <= 0.0 {
                        let reason = format!("the threshold of `{word}` is 0; every process would pass it");
                        self.error(DiagnosticCode::BadValue, value.span, reason, None);
                    }
                    thresholds.push((*severity, number));
                }
            }
        }
        let boundaries =
            get(node, "boundaries").map(|node| self.names(node, "boundaries")).unwrap_or_default();
        let boundaries = boundaries.into_iter().map(|name| name.to_lowercase()).collect();
        Some(SettingsSpec { half_life, ancestor_levels, thresholds, boundaries })
    }

    /// What is changed of a behaviour that an earlier file has.
    fn changed(&mut self, node: &Node) -> Option<OverrideSpec> {
        self.object(node, "overrides", OVERRIDE_KEYS, &["id"])?;
        let id_node = get(node, "id")?;
        let id = self.id(id_node)?;
        let enabled = get(node, "enabled").and_then(|node| self.boolean(node, "enabled"));
        let weight = get(node, "weight").and_then(|node| self.number(node, "weight", WEIGHT_LIMIT));
        if let Some(reason) = get(node, "reason") {
            self.prose(reason, "reason")?;
        }
        if get(node, "enabled").is_none() && get(node, "weight").is_none() {
            let hint = Some("write \"enabled\": false, or a \"weight\"".to_owned());
            self.error(DiagnosticCode::MissingKey, node.span, "the override changes nothing", hint);
        }
        let place = self.source.place(id_node.span);
        Some(OverrideSpec { id: id.as_str().into(), enabled, weight, place })
    }

    fn behaviour(&mut self, node: &Node) -> Option<BehaviourSpec> {
        self.object(node, "behaviours", BEHAVIOUR_KEYS, &["id", "name", "weight"])?;
        let named = self.named(node);
        let weight = get(node, "weight").and_then(|node| self.number(node, "weight", WEIGHT_LIMIT));
        let seen_by = match (get(node, "rule"), get(node, "conditions")) {
            (Some(rule), None) => self.id(rule).map(SeenBy::Rule),
            (None, Some(_)) => named.as_ref().and_then(|named| self.judged(node, named, None)),
            (Some(both), Some(_)) => {
                let hint = Some("a behaviour is shown by a `rule` or by `conditions` of its own".to_owned());
                self.error(DiagnosticCode::DuplicateKey, both.span, "both `rule` and `conditions`", hint);
                None
            }
            (None, None) => {
                let hint =
                    Some("add \"conditions\": [\"name = 'nc'\"], or \"rule\": \"id of a rule\"".to_owned());
                self.error(DiagnosticCode::MissingKey, node.span, "the behaviour has no `conditions`", hint);
                None
            }
        };
        self.spec(named?, weight?, seen_by?)
    }

    /// An entry of a parent–child map.
    fn pair(&mut self, node: &Node) -> Option<BehaviourSpec> {
        self.object(node, "parent_child", PAIR_KEYS, &["id", "name", "weight", "parents", "children"])?;
        let named = self.named(node);
        let weight = get(node, "weight").and_then(|node| self.number(node, "weight", WEIGHT_LIMIT));
        let parents = self.names(get(node, "parents")?, "parents");
        let children = self.names(get(node, "children")?, "children");
        if parents.is_empty() || children.is_empty() {
            let hint = Some("name at least one of each: \"parents\": [\"winword.exe\"]".to_owned());
            self.error(DiagnosticCode::BadValue, node.span, "the map names no parent or no child", hint);
            return None;
        }
        let condition = format!("({}) and ({})", any_of("parent_name", &parents), any_of("name", &children));
        let named = named?;
        let seen_by = self.judged(node, &named, Some(condition))?;
        self.spec(named, weight?, seen_by)
    }

    fn sequence(&mut self, node: &Node) -> Option<(SequenceSpec, Vec<BehaviourSpec>)> {
        self.object(node, "sequences", SEQUENCE_KEYS, &["id", "name", "steps", "within", "severity"])?;
        let named = self.named(node);
        let description = get(node, "description").and_then(|node| self.prose(node, "description"));
        let severity = get(node, "severity")
            .and_then(|node| self.word(node, "severity", Severity::ALL, |severity| severity.as_str()));
        let within =
            get(node, "within").and_then(|node| self.time_span(node, "within", Duration::from_millis(1)));
        let weight = match get(node, "weight") {
            Some(node) => self.number(node, "weight", WEIGHT_LIMIT)?,
            None => 0.0,
        };
        let step_nodes = self.list(get(node, "steps")?, "steps")?;
        if !(2..=STEPS_LIMIT).contains(&step_nodes.len()) {
            let reason = format!("a sequence has 2 to {STEPS_LIMIT} steps, this one {}", step_nodes.len());
            self.error(DiagnosticCode::BadValue, get(node, "steps")?.span, reason, None);
            return None;
        }
        let named = named?;
        let (mut steps, mut behaviours) = (Vec::new(), Vec::new());
        for (nth, step) in step_nodes.iter().enumerate() {
            match self.step(step, &named, nth)? {
                Step::Of(ids) => steps.push(ids),
                Step::Own(behaviour) => {
                    steps.push(vec![Arc::clone(&behaviour.id)]);
                    behaviours.push(*behaviour);
                }
            }
        }
        let place = self.source.place(named.id_span);
        let (id, name, attack) = (Arc::from(named.id.as_str()), named.name.clone(), named.attack.clone());
        behaviours.extend(self.spec(named, weight, SeenBy::Sequence));
        let description = description.unwrap_or_default();
        let sequence = SequenceSpec {
            id,
            name,
            description,
            severity: severity?,
            attack,
            within: within?,
            steps,
            place,
        };
        Some((sequence, behaviours))
    }

    fn step(&mut self, node: &Node, sequence: &Named, nth: usize) -> Option<Step> {
        self.object(node, "steps", STEP_KEYS, &[])?;
        if let Some(behaviour) = get(node, "behaviour") {
            let ids = match &behaviour.value {
                Json::List(items) => {
                    let ids = items.iter().take(ITEMS_LIMIT).map(|item| self.short_text(item, "behaviour"));
                    ids.map(|id| id.map(Arc::from)).collect::<Option<Vec<Arc<str>>>>()?
                }
                _ => vec![self.short_text(behaviour, "behaviour")?.into()],
            };
            if ids.is_empty() {
                let hint = Some("name one behaviour, or several of which any is the step".to_owned());
                self.error(DiagnosticCode::BadValue, behaviour.span, "the step names no behaviour", hint);
            }
            return Some(Step::Of(ids));
        }
        let name = match get(node, "name") {
            Some(name) => self.short_text(name, "name")?,
            None => format!("step {} of {}", nth + 1, sequence.name),
        };
        // `#` stands in no id that a file can give.
        let id = format!("{}#{}", sequence.id, nth + 1);
        let named = Named { id, name, attack: Vec::new(), enabled: sequence.enabled, id_span: node.span };
        if get(node, "conditions").is_none() {
            let hint = Some("name a `behaviour`, or give `type` and `conditions`".to_owned());
            self.error(DiagnosticCode::MissingKey, node.span, "the step says not what it is", hint);
            return None;
        }
        let seen_by = self.judged(node, &named, None)?;
        self.spec(named, 0.0, seen_by).map(|spec| Step::Own(Box::new(spec)))
    }

    fn object(
        &mut self,
        node: &Node,
        what: &str,
        known: &'static [&'static str],
        required: &[&str],
    ) -> Option<()> {
        let Json::Object(members) = &node.value else {
            self.wrong_type(node, what, "an object", None);
            return None;
        };
        self.refuse_unknown_keys(members, known, &format!("`{what}`"));
        for key in required.iter().filter(|key| get(node, key).is_none()) {
            self.error(
                DiagnosticCode::MissingKey,
                node.span,
                format!("an entry of `{what}` has no `{key}`"),
                None,
            );
        }
        Some(())
    }

    fn named(&mut self, node: &Node) -> Option<Named> {
        let id_node = get(node, "id")?;
        let id = self.id(id_node)?.as_str().to_owned();
        let name = get(node, "name").and_then(|node| self.short_text(node, "name"));
        if id.contains('#') || id.starts_with("rampart.") {
            let reason = format!("`{id}` is no id for a behaviour: `#` and `rampart.` are taken");
            self.error(DiagnosticCode::BadValue, id_node.span, reason, None);
        }
        let attack = get(node, "attack").map(|node| self.attack(node)).unwrap_or_default();
        let enabled = get(node, "enabled").and_then(|node| self.boolean(node, "enabled")).unwrap_or(true);
        Some(Named { id, name: name?, attack, enabled, id_span: id_node.span })
    }

    fn spec(&mut self, named: Named, weight: f64, seen_by: SeenBy) -> Option<BehaviourSpec> {
        let Named { id, name, attack, enabled, id_span } = named;
        let place = self.source.place(id_span);
        Some(BehaviourSpec { id: id.into(), name: name.into(), weight, attack, enabled, seen_by, place })
    }

    /// Conditions as a rule that is judged like any other and reports nothing by itself. With `first`, a
    /// condition made here, all of them must hold.
    fn judged(&mut self, node: &Node, named: &Named, first: Option<String>) -> Option<SeenBy> {
        let scope = match (get(node, "type"), &first) {
            (Some(node), _) => self.word(node, "type", &RuleScope::ALL, |scope| scope.as_str())?,
            (None, _) => RuleScope::Process,
        };
        let modes = [MatchMode::Any, MatchMode::All];
        let word = |mode: MatchMode| if mode == MatchMode::Any { "any" } else { "all" };
        let mut match_mode = match get(node, "match") {
            Some(node) => self.word(node, "match", &modes, word)?,
            None => MatchMode::Any,
        };
        let mut conditions = ReadConditions::default();
        if let Some(first) = first {
            match_mode = MatchMode::All;
            self.made_condition(first, node.span, scope, &mut conditions);
        }
        if let Some(node) = get(node, "conditions") {
            let before = self.diagnostics.len();
            self.more_conditions(node, "conditions", Some(scope), &mut conditions);
            if self.diagnostics[before..].iter().any(Diagnostic::is_error) {
                return None;
            }
        }
        let exceptions =
            get(node, "exceptions").map(|node| self.exceptions(node, Some(scope))).unwrap_or_default();
        let head = RuleHead {
            id: RuleId::new(named.id.as_str()),
            name: named.name.clone(),
            description: String::new(),
            scope,
            severity: Severity::Informational,
            enabled: named.enabled,
            mode: ResponseMode::Detect,
            actions: vec![ActionKind::Log],
            match_mode,
            attack: named.attack.clone(),
            tags: Vec::new(),
            references: Vec::new(),
            terminate_grace: Duration::ZERO,
            conditions: Vec::new(),
            exceptions: Vec::new(),
        };
        let rule = self.assemble(head, conditions, exceptions, node.span, named.id_span)?;
        Some(SeenBy::Conditions(Box::new(rule)))
    }

    fn number(&mut self, node: &Node, key: &str, most: f64) -> Option<f64> {
        let digits = self.source.text.get(node.span.start..node.span.end).unwrap_or_default();
        let number: Option<f64> = matches!(node.value, Json::Number).then(|| digits.parse().ok()).flatten();
        let number = number.filter(|number| (0.0..=most).contains(number));
        if number.is_none() {
            let hint = Some(format!("write a number from 0 to {most}, without quotes"));
            let shown: String = digits.chars().take(40).collect();
            self.error(DiagnosticCode::BadNumber, node.span, format!("`{shown}` is no `{key}`"), hint);
        }
        number
    }

    fn time_span(&mut self, node: &Node, key: &str, least: Duration) -> Option<Duration> {
        let text = self.text(node, key, WORD_LIMIT)?.decoded.clone();
        let span = parse_time_span(&text).filter(|span| (least..=LONGEST).contains(span));
        if span.is_none() {
            let hint = "write a whole number of `ms`, `s`, `m`, `h` or `d`, up to 30d: \"10m\"";
            let reason = format!("`{text}` is no `{key}`");
            self.error(DiagnosticCode::BadValue, node.span, reason, Some(hint.to_owned()));
        }
        span
    }

    /// Names of programs; `*` at the end of one stands for anything.
    fn names(&mut self, node: &Node, key: &str) -> Vec<String> {
        let items = self.list(node, key).unwrap_or_default();
        if items.len() > NAMES_LIMIT {
            let reason = format!("`{key}` has {} names; the limit is {NAMES_LIMIT}", items.len());
            self.error(DiagnosticCode::TooLarge, node.span, reason, None);
            return Vec::new();
        }
        let mut names = Vec::new();
        for item in items {
            let Some(name) = self.short_text(item, key) else { continue };
            let stem = name.strip_suffix('*').unwrap_or(&name);
            let is_plain = |character: char| !"'\"\\/*?".contains(character);
            if stem.is_empty() || !stem.chars().all(is_plain) {
                let hint = "the last part of a path, for example `bash` or `python*`; `*` only at the end";
                let reason = format!("`{name}` is no name of a program");
                self.error(DiagnosticCode::BadValue, item.span, reason, Some(hint.to_owned()));
            } else {
                names.push(name);
            }
        }
        names
    }
}

enum Step {
    /// Any behaviour of these ids.
    Of(Vec<Arc<str>>),
    /// One that only this sequence has.
    Own(Box<BehaviourSpec>),
}

const SEVERITY_KEYS: &[&str] = &["informational", "low", "medium", "high", "critical"];

/// A condition that the field is one of these names.
fn any_of(field: &str, names: &[String]) -> String {
    let (mut whole, mut tests) = (Vec::new(), Vec::new());
    for name in names {
        match name.strip_suffix('*') {
            Some(stem) => tests.push(format!("{field} startswith '{stem}'")),
            None => whole.push(format!("'{name}'")),
        }
    }
    if !whole.is_empty() {
        tests.insert(0, format!("{field} in ({})", whole.join(", ")));
    }
    tests.join(" or ")
}

/// `500ms`, `10s`, `10m`, `2h`, `7d`.
pub(super) fn parse_time_span(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let number: u64 = digits.parse().ok()?;
    let seconds = match unit {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

/// A time span in the unit that has no remainder: the way people wrote it.
pub(super) fn time_span_text(span: Duration) -> String {
    let millis = span.as_millis();
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let unit = units.iter().find(|(_, length)| millis > 0 && millis.is_multiple_of(*length));
    unit.map_or_else(|| format!("{millis}ms"), |(unit, length)| format!("{}{unit}", millis / length))
}

/// A diagnostic about a thing as a whole.
pub(super) fn warning(place: &Place, code: DiagnosticCode, reason: String, hint: &str) -> Diagnostic {
    Diagnostic::new(DiagnosticSeverity::Warning, code, place, reason, Some(hint.to_owned()))
}
