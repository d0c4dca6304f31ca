//! What a rule leaves out: each exception with its reason, its hosts and its end.

use event_model::{RuleScope, Timestamp};

use super::{ReadConditions, ReadException, Reader, WORD_LIMIT};
use crate::diagnostic::DiagnosticCode;
use crate::json::{Json, Node};
use crate::rule::{Exception, ExceptionHead};

/// Every key of an exception.
const KEYS: &[&str] = &["conditions", "condition", "hosts", "reason", "author", "expires"];

impl Reader<'_> {
    pub(crate) fn exceptions(&mut self, node: &Node, scope: Option<RuleScope>) -> Vec<ReadException> {
        let items = self.list(node, "exceptions").unwrap_or_default();
        items.iter().filter_map(|item| self.exception(item, scope)).collect()
    }

    pub(crate) fn exception(&mut self, node: &Node, scope: Option<RuleScope>) -> Option<ReadException> {
        let Json::Object(members) = &node.value else {
            self.wrong_type(
                node,
                "exceptions",
                "a list of objects",
                Some("{\"condition\": …, \"reason\": …}"),
            );
            return None;
        };
        self.refuse_unknown_keys(members, KEYS, "exceptions");
        let key =
            |name: &str| members.iter().find(|member| member.key.decoded == name).map(|member| &member.value);
        let mut read = ReadConditions::default();
        match (key("conditions"), key("condition")) {
            (Some(list), None) => read = self.conditions(list, "conditions", scope),
            (None, Some(one)) => self.condition(one, "condition", scope, &mut read),
            (Some(_), Some(both)) => {
                let hint = Some("keep `conditions` and put all of them in it".to_owned());
                self.error(
                    DiagnosticCode::DuplicateKey,
                    both.span,
                    "both `condition` and `conditions`",
                    hint,
                );
            }
            // All of the rule's matches on some hosts.
            (None, None) if key("hosts").is_some() => {}
            (None, None) => {
                let hint = Some("say what it leaves out: \"condition\": \"user = 'backup'\"".to_owned());
                self.error(DiagnosticCode::MissingKey, node.span, "the exception has no `condition`", hint);
            }
        }
        let reason = match key("reason") {
            Some(reason) => self.prose(reason, "reason")?,
            None => {
                let hint = Some("say why it is there: whoever reads it later needs to know".to_owned());
                self.error(DiagnosticCode::MissingKey, node.span, "the exception has no `reason`", hint);
                return None;
            }
        };
        let hosts = key("hosts").map(|hosts| self.hosts(hosts)).unwrap_or_default();
        let author = key("author").and_then(|author| self.short_text(author, "author"));
        let expires = key("expires").and_then(|expires| self.time(expires));
        let exception = Exception { conditions: read.expressions, hosts: hosts.clone(), expires };
        let head = ExceptionHead { conditions: read.texts, hosts, reason, author, expires };
        Some((head, exception, read.fields))
    }

    fn hosts(&mut self, node: &Node) -> Vec<String> {
        let hosts = self.texts(node, "hosts", WORD_LIMIT);
        if hosts.iter().any(|host| host.trim_end_matches('*').trim().is_empty()) || hosts.is_empty() {
            let hint = "name hosts, for example [\"build-*\"]; without `hosts` it is for all of them";
            let reason = "`hosts` names no host";
            self.error(DiagnosticCode::BadValue, node.span, reason, Some(hint.to_owned()));
        }
        hosts
    }

    fn time(&mut self, node: &Node) -> Option<Timestamp> {
        let text = &self.text(node, "expires", WORD_LIMIT)?.decoded;
        let time = text.parse();
        if time.is_err() {
            let hint = Some("write it in RFC 3339, for example \"2026-12-31T00:00:00Z\"".to_owned());
            self.error(DiagnosticCode::BadValue, node.span, format!("`{text}` is no time"), hint);
        }
        time.ok()
    }
}
