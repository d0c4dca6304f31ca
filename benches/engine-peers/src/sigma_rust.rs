//! sigma-rust judges one rule with one event.

use std::error::Error;
use std::hint::black_box;

use ::sigma_rust::{Event, Rule, event_from_json, rule_from_yaml};
use serde_json::Value;

use crate::{LogSource, Peer, is_for_windows};

pub struct SigmaRust {
    rules: Vec<Rule>,
    lists: Vec<Vec<usize>>,
}

impl Peer for SigmaRust {
    type Event = Event;

    fn load(texts: &[String]) -> (Self, usize) {
        let (mut rules, mut refused) = (Vec::new(), 0);
        for text in texts {
            match rule_from_yaml(text) {
                Ok(rule) => {
                    let source = &rule.logsource;
                    if is_for_windows(source.product.as_deref(), source.category.as_deref()) {
                        rules.push(rule);
                    }
                }
                Err(_) => refused += 1,
            }
        }
        (Self { rules, lists: Vec::new() }, refused)
    }

    fn log_sources(&self) -> Vec<LogSource> {
        let sources = self.rules.iter().map(|rule| &rule.logsource);
        sources.map(|source| [&source.product, &source.category, &source.service].map(Clone::clone)).collect()
    }

    fn prepare(&mut self, rules: &[usize]) -> usize {
        self.lists.push(rules.to_vec());
        self.lists.len() - 1
    }

    fn event(&self, record: Value) -> Result<Event, Box<dyn Error>> {
        Ok(event_from_json(&record.to_string())?)
    }

    fn judge(&self, event: &Event, prepared: usize) -> usize {
        let rules = self.lists[prepared].iter().map(|place| &self.rules[*place]);
        rules.filter(|rule| black_box(rule.is_match(black_box(event)))).count()
    }
}
