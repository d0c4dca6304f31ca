//! A file of YAML to a [`Playbook`].

use std::time::Duration;

use event_model::{Severity, ValueKind};
use rule_engine::yaml::{self, Node};
use rule_engine::{Diagnostic, DiagnosticCode as Code};

use crate::action::{ActionKind, Argument, Arguments, Parameter, ParameterKind, is_address};
use crate::reader::Reader;
use crate::template::Template;
use crate::{HostGroups, Limit, Mode, OnFailure, Playbook, Step, Trigger, alert, duration, graph};

/// Largest file, in bytes.
pub const PLAYBOOK_LIMIT: usize = 256 * 1024;
/// Most steps of a playbook.
pub const STEP_LIMIT: usize = 100;

const RUN_TIMEOUT: Duration = Duration::from_secs(24 * 3_600);

const KEYS: &[&str] = &["id", "name", "description", "mode", "trigger", "timeout", "limit", "steps"];
const LIMIT_KEYS: &[&str] = &["of_alert", "of_host", "within"];
/// Longest span of a limit: the bus remembers claims for so long (`alert_bus::REMEMBERED`).
const MOST_WITHIN: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Most runs that a limit may allow: each is asked for on the bus.
const MOST_RUNS: u32 = 1_000;
const TRIGGER_KEYS: &[&str] = &["rules", "severity", "attack", "host_groups", "expression"];
const STEP_KEYS: &[&str] = &["id", "do", "with", "after", "when", "timeout", "on_failure"];

/// A playbook, if the text is one, and what was found.
#[derive(Debug)]
pub struct ReadOutcome {
    /// `None` where a finding is an error.
    pub playbook: Option<Playbook>,
    /// Errors and warnings with their places.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads a playbook. `file` is the name that findings give it. Groups are checked against
/// `groups`.
pub fn read_playbook(file: &str, bytes: &[u8], groups: &HostGroups) -> ReadOutcome {
    let mut reader = Reader::new(file);
    let playbook = read(&mut reader, bytes, groups);
    let playbook = playbook.filter(|_| !reader.has_errors());
    ReadOutcome { playbook, diagnostics: reader.diagnostics }
}

fn read(reader: &mut Reader, bytes: &[u8], groups: &HostGroups) -> Option<Playbook> {
    let start = yaml::At { line: 1, column: 1, end_column: 2 };
    if bytes.len() > PLAYBOOK_LIMIT {
        let reason = format!("the file has {} bytes; the limit is {PLAYBOOK_LIMIT}", bytes.len());
        reader.error(start, Code::TooLarge, reason, None);
        return None;
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        reader.error(start, Code::NotUtf8, "the file is not UTF-8", None);
        return None;
    };
    let (documents, error) = yaml::read(text);
    if let Some(error) = error {
        let code = if error.too_large { Code::TooLarge } else { Code::BadYaml };
        reader.error(error.at, code, error.reason, None);
        return None;
    }
    let [document] = documents.as_slice() else {
        let reason = format!("a playbook is one document; the file has {}", documents.len());
        reader.error(start, Code::NotARule, reason, Some("one file for each playbook".to_owned()));
        return None;
    };
    for (at, key) in &document.duplicates {
        reader.error(*at, Code::DuplicateKey, format!("`{key}` stands twice"), None);
    }
    let root = &document.root;
    let what = "a playbook";
    reader.map(root, what, KEYS);
    let id = reader.required(root, what, "id").and_then(|node| reader.id(node, "id"));
    let name = reader.required(root, what, "name").and_then(|node| reader.text(node, "name"));
    let description = root.get("description").and_then(|node| reader.text(node, "description"));
    let modes: Vec<&str> = Mode::ALL.iter().map(|mode| mode.as_str()).collect();
    let mode = root.get("mode").and_then(|node| reader.word(node, "mode", &modes));
    let trigger = reader.required(root, what, "trigger").map(|node| trigger(reader, node, groups));
    let timeout = root.get("timeout").and_then(|node| reader.span(node, "timeout"));
    let limit = root.get("limit").map(|node| limit(reader, node)).unwrap_or_default();
    let steps = reader.required(root, what, "steps").map(|node| steps(reader, node)).unwrap_or_default();
    Some(Playbook {
        id: id?,
        name: name?,
        description: description.unwrap_or_default(),
        mode: mode.and_then(|word| Mode::from_word(&word)).unwrap_or(Mode::Shadow),
        trigger: trigger?,
        timeout: timeout.unwrap_or(RUN_TIMEOUT),
        limit,
        steps,
        fingerprint: fingerprint(bytes),
    })
}

fn limit(reader: &mut Reader, node: &Node) -> Limit {
    reader.map(node, "a limit", LIMIT_KEYS);
    let standard = Limit::default();
    let mut runs = |key: &str, otherwise: u32| {
        let Some(node) = node.get(key) else { return otherwise };
        let text = reader.text(node, key).unwrap_or_default();
        let number = text.parse().ok().filter(|number| (1..=MOST_RUNS).contains(number));
        if number.is_none() {
            let reason = format!("`{key}` is a whole number from 1 to {MOST_RUNS}, not `{text}`");
            reader.error(node.at(), Code::BadNumber, reason, None);
        }
        number.unwrap_or(otherwise)
    };
    let (of_alert, of_host) = (runs("of_alert", standard.of_alert), runs("of_host", standard.of_host));
    let within = node.get("within").and_then(|node| {
        let span = reader.span(node, "within")?;
        if span > MOST_WITHIN {
            let reason =
                "`within` is at most 7d: the bus remembers no longer which runs there were".to_owned();
            reader.error(node.at(), Code::BadValue, reason, None);
        }
        Some(span)
    });
    Limit { of_alert, of_host, within: within.unwrap_or(standard.within) }
}

/// FNV-1a of 128 bits: tells an edited file from the one a run began with. It guards against
/// mistakes; who can write the folder needs no collision.
fn fingerprint(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
        (hash ^ u128::from(*byte)).wrapping_mul(0x0100_0000_0000_0000_0000_013b)
    });
    format!("{hash:032x}")
}

fn trigger(reader: &mut Reader, node: &Node, groups: &HostGroups) -> Trigger {
    let entries = reader.map(node, "a trigger", TRIGGER_KEYS);
    if node.map().is_some() && entries.is_empty() {
        let hint = Some(format!("write at least one of {}", TRIGGER_KEYS.join(", ")));
        reader.error(node.at(), Code::BadValue, "an empty trigger would run for every alert", hint);
    }
    let texts = |reader: &mut Reader, key: &str| {
        node.get(key).map(|node| reader.texts(node, key)).unwrap_or_default()
    };
    let severities: Vec<&str> = Severity::ALL.iter().map(|severity| severity.as_str()).collect();
    let severity = node.get("severity").and_then(|node| reader.word(node, "severity", &severities));
    for item in node.get("attack").map(Node::items).unwrap_or_default() {
        let technique = item.scalar_text().unwrap_or_default();
        if !is_technique(&technique) {
            let hint = Some("write T1059 or T1059.004".to_owned());
            reader.error(item.at(), Code::BadValue, format!("`{technique}` is no ATT&CK technique"), hint);
        }
    }
    for item in node.get("host_groups").map(Node::items).unwrap_or_default() {
        let group = item.scalar_text().unwrap_or_default();
        if !groups.has(&group) {
            let hint = Some("name its hosts in host-groups.yml beside the playbooks".to_owned());
            reader.error(item.at(), Code::BadReference, format!("there is no host group `{group}`"), hint);
        }
    }
    Trigger {
        rules: texts(reader, "rules"),
        severity: severity.and_then(|word| Severity::from_word(&word)),
        attack: texts(reader, "attack"),
        host_groups: texts(reader, "host_groups"),
        expression: node
            .get("expression")
            .and_then(|node| reader.condition(node, "expression", &alert::kind_of)),
    }
}

fn is_technique(text: &str) -> bool {
    let is_digits = |part: &str, count| part.len() == count && part.bytes().all(|byte| byte.is_ascii_digit());
    let (technique, sub) = match text.split_once('.') {
        Some((technique, sub)) => (technique, Some(sub)),
        None => (text, None),
    };
    technique.strip_prefix('T').is_some_and(|digits| is_digits(digits, 4))
        && sub.is_none_or(|sub| is_digits(sub, 3))
}

fn steps(reader: &mut Reader, node: &Node) -> Vec<Step> {
    let yaml::Yaml::List(items) = &node.value else {
        let reason = format!("`steps` is a list, not {}", node.type_name());
        reader.error(node.at(), Code::WrongType, reason, Some("write each step as `- id: …`".to_owned()));
        return Vec::new();
    };
    if items.is_empty() || items.len() > STEP_LIMIT {
        let reason = format!("a playbook has 1 to {STEP_LIMIT} steps, not {}", items.len());
        reader.error(node.at(), Code::BadValue, reason, None);
        return Vec::new();
    }
    let ids: Vec<Option<String>> = items
        .iter()
        .map(|item| reader.required(item, "a step", "id").and_then(|node| reader.id(node, "id")))
        .collect();
    for (place, item) in items.iter().enumerate() {
        let own = ids.get(place).and_then(Option::as_ref);
        if let (Some(own), Some(node)) = (own, item.get("id"))
            && ids[..place].iter().flatten().any(|other| other == own)
        {
            reader.error(node.at(), Code::DuplicateId, format!("there are two steps `{own}`"), None);
        }
    }
    let read: Vec<Option<Step>> =
        items.iter().enumerate().map(|(place, item)| step(reader, item, place, &ids)).collect();
    let Some(steps) = read.into_iter().collect::<Option<Vec<Step>>>() else { return Vec::new() };
    if let Some(circle) = graph::circle(&steps) {
        let names: Vec<&str> = circle.iter().map(|place| steps[*place].id.as_str()).collect();
        let at = items[circle[0]].get("after").unwrap_or(&items[circle[0]]).at();
        let reason = format!("the steps wait for each other in a circle: {}", names.join(" after "));
        reader.error(at, Code::BadReference, reason, Some("take one of them out of `after`".to_owned()));
        return Vec::new();
    }
    check_outcomes(reader, items, &steps);
    steps
}

fn step(reader: &mut Reader, node: &Node, place: usize, ids: &[Option<String>]) -> Option<Step> {
    reader.map(node, "a step", STEP_KEYS);
    let actions: Vec<&str> = ActionKind::ALL.iter().map(|action| action.as_str()).collect();
    let action = reader.required(node, "a step", "do").and_then(|node| reader.word(node, "do", &actions));
    let after = match node.get("after") {
        Some(node) => after(reader, node, ids),
        // In the order of the file, where nothing else is said.
        None => place.checked_sub(1).into_iter().collect(),
    };
    let kind_of = |name: &str| match name.strip_prefix("step.") {
        Some(id) => ids.iter().flatten().any(|known| known == id).then_some(ValueKind::Text),
        None => alert::kind_of(name),
    };
    let when = node.get("when").and_then(|node| reader.condition(node, "when", &kind_of));
    let timeout = node.get("timeout").and_then(|node| reader.span(node, "timeout"));
    let reactions: Vec<&str> = OnFailure::ALL.iter().map(|reaction| reaction.as_str()).collect();
    let on_failure = node.get("on_failure").and_then(|node| reader.word(node, "on_failure", &reactions));
    let action = ActionKind::from_word(&action?)?;
    let arguments = arguments(reader, node, action);
    Some(Step {
        id: ids.get(place).cloned().flatten()?,
        action,
        arguments: arguments?,
        after,
        when,
        timeout: timeout.unwrap_or_else(|| action.default_timeout()),
        on_failure: on_failure.and_then(|word| OnFailure::from_word(&word)).unwrap_or(OnFailure::Stop),
    })
}

fn after(reader: &mut Reader, node: &Node, ids: &[Option<String>]) -> Vec<usize> {
    let mut places = Vec::new();
    for item in node.items() {
        let id = item.scalar_text().unwrap_or_default();
        match ids.iter().position(|known| known.as_deref() == Some(&id)) {
            Some(place) if places.contains(&place) => {}
            Some(place) => places.push(place),
            None => {
                let near = rule_engine::nearest(&id, ids.iter().flatten().map(String::as_str));
                let hint = near.map(|near| format!("did you mean `{near}`?"));
                reader.error(item.at(), Code::BadReference, format!("there is no step `{id}`"), hint);
            }
        }
    }
    places
}

fn arguments(reader: &mut Reader, node: &Node, action: ActionKind) -> Option<Arguments> {
    let what = format!("`{action}`");
    let known: Vec<&str> = action.parameters().iter().map(|parameter| parameter.name).collect();
    let with = node.get("with");
    if let Some(with) = with {
        reader.map(with, &what, &known);
    }
    let mut values = Vec::new();
    let mut is_complete = true;
    for parameter in action.parameters() {
        let value = match (with.and_then(|with| with.get(parameter.name)), parameter.default) {
            (Some(given), _) => argument(reader, given, parameter),
            (None, Some(default)) => by_default(parameter.kind, default),
            (None, None) => {
                let reason = format!("{what} has no `{}` ({})", parameter.name, parameter.help);
                let hint = Some(format!("write `with: {{{}: …}}`", parameter.name));
                reader.error(with.unwrap_or(node).at(), Code::MissingKey, reason, hint);
                None
            }
        };
        match value {
            Some(value) => values.push((parameter.name, value)),
            None => is_complete = false,
        }
    }
    is_complete.then_some(Arguments(values))
}

/// From the table of actions, which a test reads whole.
fn by_default(kind: ParameterKind, text: &str) -> Option<Argument> {
    Some(match kind {
        ParameterKind::Template => Argument::Template(Template::parse(text).ok()?),
        ParameterKind::TextList => {
            Argument::Texts(text.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect())
        }
        ParameterKind::Span => Argument::Span(duration::parse(text)?),
        ParameterKind::Number(..) => Argument::Number(text.parse().ok()?),
        ParameterKind::Text | ParameterKind::Word(_) | ParameterKind::Url | ParameterKind::ScriptName => {
            Argument::Text(text.to_owned())
        }
    })
}

fn argument(reader: &mut Reader, node: &Node, parameter: &Parameter) -> Option<Argument> {
    let key = parameter.name;
    Some(match parameter.kind {
        ParameterKind::Template => Argument::Template(template(reader, node, key)?),
        ParameterKind::Text => {
            let text = reader.text(node, key)?;
            let is_place = text.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
            });
            if !is_place {
                let hint = Some("for example `log.example.org:514`".to_owned());
                reader.error(node.at(), Code::BadValue, format!("`{text}` is no HOST:PORT"), hint);
                return None;
            }
            Argument::Text(text)
        }
        ParameterKind::TextList => {
            let texts = reader.texts(node, key);
            if texts.is_empty() {
                reader.error(node.at(), Code::BadValue, format!("`{key}` is empty"), None);
                return None;
            }
            Argument::Texts(texts)
        }
        ParameterKind::Span => Argument::Span(reader.span(node, key)?),
        ParameterKind::Number(least, most) => {
            let text = reader.text(node, key)?;
            let number = text.parse().ok().filter(|number| (least..=most).contains(number));
            if number.is_none() {
                let reason = format!("`{key}` is a whole number from {least} to {most}, not `{text}`");
                reader.error(node.at(), Code::BadNumber, reason, None);
            }
            Argument::Number(number?)
        }
        ParameterKind::Word(words) => Argument::Text(reader.word(node, key, words)?),
        ParameterKind::Url => Argument::Text(url(reader, node, key)?),
        ParameterKind::ScriptName => Argument::Text(script_name(reader, node, key)?),
    })
}

fn template(reader: &mut Reader, node: &Node, key: &str) -> Option<Template> {
    let text = reader.text(node, key)?;
    let template = match Template::parse(&text) {
        Ok(template) => template,
        Err(error) => {
            reader.error(node.part_at(&text, error.range), Code::BadValue, error.reason, error.hint);
            return None;
        }
    };
    if key == "address"
        && let Some(fixed) = template.fixed()
        && !is_address(fixed)
    {
        let hint = Some("write an IP address, or a range of /8 or narrower".to_owned());
        reader.error(node.at(), Code::BadValue, format!("`{fixed}` is no address to block"), hint);
    }
    Some(template)
}

fn url(reader: &mut Reader, node: &Node, key: &str) -> Option<String> {
    let text = reader.text(node, key)?;
    let is_url = text.starts_with("https://") || text.starts_with("http://") || text.starts_with("${");
    if !is_url || text.chars().any(|character| character.is_control() || character == ' ') {
        let hint = Some("write https://…, with secrets as ${NAME}".to_owned());
        reader.error(node.at(), Code::BadValue, format!("`{text}` is no URL"), hint);
        return None;
    }
    if ["access_token=", "key=", "/hooks/", "hooks.slack.com/services/"]
        .iter()
        .any(|part| text.contains(part))
        && !text.contains("${")
    {
        let hint = Some("write the secret as ${NAME} and set NAME for edr-responder".to_owned());
        reader.warning(node.at(), Code::BadValue, "the URL seems to have a secret in it", hint);
    }
    Some(text)
}

fn script_name(reader: &mut Reader, node: &Node, key: &str) -> Option<String> {
    let text = reader.text(node, key)?;
    let is_good = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    if text.starts_with('.') || !text.chars().all(is_good) {
        let reason = format!("`{text}` is outside the folder of allowed scripts");
        let hint = Some(
            "write the name of a file in the folder of `edr-responder -scripts`, without `/`".to_owned(),
        );
        reader.error(node.at(), Code::BadValue, reason, hint);
        return None;
    }
    Some(text)
}

/// A condition about a step that may not have ended yet would depend on luck.
fn check_outcomes(reader: &mut Reader, items: &[Node], steps: &[Step]) {
    for (place, step) in steps.iter().enumerate() {
        let Some(when) = &step.when else { continue };
        let before = graph::all_before(steps, place);
        for id in when.names().filter_map(|name| name.strip_prefix("step.")) {
            let is_before = steps.iter().position(|step| step.id == id).is_some_and(|other| before[other]);
            if !is_before {
                let at = items[place].get("when").unwrap_or(&items[place]).at();
                let reason = format!("`{}` asks how `{id}` ended, and does not wait for it", step.id);
                let hint = Some(format!("put `{id}` into its `after`"));
                reader.error(at, Code::BadReference, reason, hint);
            }
        }
    }
}
