//! rsigma judges an event with all rules of an engine; each log source has an engine of its own here.

use std::error::Error;
use std::hint::black_box;

use rsigma_eval::{Engine, JsonEvent};
use rsigma_parser::{SigmaRule, parse_sigma_yaml};
use serde_json::Value;

use crate::{LogSource, Peer, is_for_windows};

pub struct Rsigma {
    rules: Vec<SigmaRule>,
    /// With every rule: what loading costs.
    _whole: Engine,
    engines: Vec<Engine>,
}

impl Peer for Rsigma {
    type Event = Value;

    fn load(texts: &[String]) -> (Self, usize) {
        let (mut rules, mut refused) = (Vec::new(), 0);
        for text in texts {
            match parse_sigma_yaml(text) {
                Ok(collection) => {
                    refused += collection.errors.len();
                    rules.extend(collection.rules.into_iter().filter(|rule| {
                        let source = &rule.logsource;
                        is_for_windows(source.product.as_deref(), source.category.as_deref())
                    }));
                }
                Err(_) => refused += 1,
            }
        }
        let mut whole = Engine::new();
        refused += whole.add_rules(&rules).len();
        (Self { rules, _whole: whole, engines: Vec::new() }, refused)
    }

    fn log_sources(&self) -> Vec<LogSource> {
        let sources = self.rules.iter().map(|rule| &rule.logsource);
        sources.map(|source| [&source.product, &source.category, &source.service].map(Clone::clone)).collect()
    }

    fn prepare(&mut self, rules: &[usize]) -> usize {
        let mut engine = Engine::new();
        engine.add_rules(rules.iter().map(|place| &self.rules[*place]));
        self.engines.push(engine);
        self.engines.len() - 1
    }

    fn event(&self, record: Value) -> Result<Value, Box<dyn Error>> {
        Ok(record)
    }

    fn judge(&self, event: &Value, prepared: usize) -> usize {
        black_box(self.engines[prepared].evaluate(black_box(&JsonEvent::borrow(event)))).len()
    }
}
