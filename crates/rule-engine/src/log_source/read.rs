//! Reading a file of log sources.

use std::collections::HashMap;
use std::sync::Arc;

use event_model::{EventType, RuleScope};

use super::{LogSources, SourceEntry};
use crate::diagnostic::{Diagnostic, DiagnosticCode, DiagnosticSeverity};
use crate::fold::fold;
use crate::nearest::{listed, nearest};
use crate::yaml::{self, At, Node};

const KEYS: &[&str] = &["product", "service", "category", "live", "scope", "when", "fields"];

/// The sources of a text, and all that is wrong with it.
pub(super) fn read(source_name: &str, text: &str) -> (LogSources, Vec<Diagnostic>) {
    let mut reader = Reader { file: source_name.into(), diagnostics: Vec::new(), channels: HashMap::new() };
    let mut entries = Vec::new();
    let (documents, error) = yaml::read(text);
    if let Some(error) = error {
        let code = if error.too_large { DiagnosticCode::TooLarge } else { DiagnosticCode::BadYaml };
        reader.error(error.at, code, error.reason, None);
    }
    for document in &documents {
        for (at, key) in &document.duplicates {
            reader.error(
                *at,
                DiagnosticCode::DuplicateKey,
                format!("key `{key}` stands twice in one map"),
                None,
            );
        }
        reader.document(&document.root, &mut entries);
    }
    (LogSources { entries: Arc::new(entries) }, reader.diagnostics)
}

struct Reader {
    file: Arc<str>,
    diagnostics: Vec<Diagnostic>,
    channels: HashMap<String, Vec<Box<str>>>,
}

impl Reader {
    fn error(&mut self, at: At, code: DiagnosticCode, reason: String, hint: Option<String>) {
        let place = at.place(&self.file);
        self.diagnostics.push(Diagnostic::new(DiagnosticSeverity::Error, code, &place, reason, hint));
    }

    fn document(&mut self, root: &Node, entries: &mut Vec<SourceEntry>) {
        let Some(keys) = root.map() else {
            let hint = Some("sources:\n  - {product: …, service: …, when: {…}}".to_owned());
            let reason = format!("{} where a map should stand", root.type_name());
            return self.error(root.at(), DiagnosticCode::WrongType, reason, hint);
        };
        for (key, _) in keys {
            self.refuse_unknown(key, &["channels", "sources"]);
        }
        let mut order = Vec::new();
        for (service, channels) in root.get("channels").and_then(Node::map).unwrap_or_default() {
            let names = channels.items().iter().filter_map(Node::scalar_text);
            let names: Vec<Box<str>> = names.map(|name| fold(&name).into()).collect();
            if let Some(service) = service.scalar_text() {
                order.push(service.clone());
                self.channels.insert(service, names);
            }
        }
        let mut catch_all = Vec::new();
        for source in root.get("sources").map(Node::items).unwrap_or_default() {
            let Some(entry) = self.entry(source) else { continue };
            let is_catch_all = entry.when.len() == 1 && entry.when.iter().all(|(_, values)| values.is_none());
            if is_catch_all { &mut catch_all } else { &mut *entries }.push(entry);
        }
        // What a channel has besides the kinds of events named above.
        for service in order {
            let channels = self.channels.get(&service).cloned();
            entries.push(SourceEntry {
                product: Some("windows".to_owned()),
                service: Some(service),
                categories: Vec::new(),
                live: None,
                when: vec![("Channel".into(), channels)],
                fields: HashMap::new(),
            });
        }
        entries.append(&mut catch_all);
    }

    fn refuse_unknown(&mut self, key: &Node, known: &[&'static str]) {
        let name = key.scalar_text().unwrap_or_default();
        if !known.contains(&name.as_str()) {
            let hint = nearest(&name, known.iter().copied()).map_or_else(
                || format!("known are {}", listed(known.iter().copied())),
                |near| format!("did you mean `{near}`?"),
            );
            let reason = format!("files of log sources have no key `{name}` here");
            self.error(key.at(), DiagnosticCode::UnknownKey, reason, Some(hint));
        }
    }

    fn entry(&mut self, node: &Node) -> Option<SourceEntry> {
        let Some(keys) = node.map() else {
            let reason = format!("{} where a log source should stand", node.type_name());
            self.error(node.at(), DiagnosticCode::WrongType, reason, None);
            return None;
        };
        for (key, _) in keys {
            self.refuse_unknown(key, KEYS);
        }
        let word = |key: &str| node.get(key).and_then(Node::scalar_text);
        let words = |key: &str| {
            let items = node.get(key).map(Node::items).unwrap_or_default();
            items.iter().filter_map(Node::scalar_text).collect::<Vec<_>>()
        };
        let live = match node.get("live") {
            None => None,
            Some(live) => {
                let type_word = live.scalar_text().unwrap_or_default();
                let scope_word = word("scope").unwrap_or_default();
                let event_type = EventType::from_word(&type_word);
                let scope = RuleScope::ALL.into_iter().find(|scope| scope.as_str() == scope_word);
                let (Some(event_type), Some(scope)) = (event_type, scope) else {
                    let types = listed(EventType::ALL.iter().map(|it| it.as_str()));
                    let scopes = listed(RuleScope::ALL.map(RuleScope::as_str));
                    let hint = Some(format!("`live` is one of {types}; `scope` one of {scopes}"));
                    let reason = "`live` wants a type of event and `scope` a type of rules".to_owned();
                    self.error(live.at(), DiagnosticCode::BadValue, reason, hint);
                    return None;
                };
                Some((event_type, scope))
            }
        };
        let service = word("service");
        let mut when = Vec::new();
        for (field, values) in node.get("when").and_then(Node::map).unwrap_or_default() {
            let field = field.scalar_text().unwrap_or_default();
            let values = values.items().iter().filter_map(Node::scalar_text);
            let values: Vec<Box<str>> = values.map(|value| fold(&value).into()).collect();
            let any = values.iter().any(|value| &**value == "*");
            when.push((field.into(), (!any).then_some(values)));
        }
        let is_linux = word("product").is_some_and(|product| product != "windows");
        if let Some(channels) = service.as_ref().and_then(|service| self.channels.get(service))
            && !is_linux
            && !when.iter().any(|(field, _): &(Box<str>, _)| &**field == "Channel")
        {
            when.insert(0, ("Channel".into(), Some(channels.clone())));
        }
        let fields = node.get("fields").and_then(Node::map).unwrap_or_default();
        let fields = fields
            .iter()
            .filter_map(|(rule, event)| Some((rule.scalar_text()?.into(), event.scalar_text()?.into())));
        let fields = fields.collect();
        let categories = words("category");
        Some(SourceEntry { product: word("product"), service, categories, live, when, fields })
    }
}
