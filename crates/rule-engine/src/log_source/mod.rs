//! Which events are which Sigma log source.

mod read;
mod route;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use event_model::{EventType, RuleScope};

pub(crate) use route::Router;
pub use route::SourceId;

use crate::diagnostic::Diagnostic;

/// What a Sigma rule says of the events it judges; a part that is missing leaves it open.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, serde::Serialize)]
pub struct LogSource {
    /// For example `windows`.
    pub product: Option<String>,
    /// For example `process_creation`.
    pub category: Option<String>,
    /// For example `sysmon`.
    pub service: Option<String>,
}

impl LogSource {
    /// Whether whatever is of `other` is also of this one. (The rule of filters, too.)
    pub(crate) fn contains(&self, other: &Self) -> bool {
        let part = |own: &Option<String>, others: &Option<String>| own.is_none() || own == others;
        part(&self.product, &other.product)
            && part(&self.category, &other.category)
            && part(&self.service, &other.service)
    }
}

impl fmt::Display for LogSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [("product", &self.product), ("category", &self.category), ("service", &self.service)];
        let parts = parts.into_iter().filter_map(|(name, part)| Some(format!("{name} {}", part.as_ref()?)));
        f.write_str(&parts.collect::<Vec<_>>().join(", "))
    }
}

/// The log sources that are known, in the order in which they are tried.
/// `data/log-sources.yml` tells the form.
#[derive(Debug, Clone)]
pub struct LogSources {
    entries: Arc<Vec<SourceEntry>>,
}

/// The folded values of which a field must have one; `None` where any will do.
type Wanted = Option<Vec<Box<str>>>;

/// One kind of events.
#[derive(Debug, Clone)]
pub(crate) struct SourceEntry {
    pub(crate) product: Option<String>,
    pub(crate) service: Option<String>,
    pub(crate) categories: Vec<String>,
    /// For events of our own sensors: their type, and the scope in which rules' names of fields are looked up.
    pub(crate) live: Option<(EventType, RuleScope)>,
    /// What an event must have.
    when: Vec<(Box<str>, Wanted)>,
    /// For rules bound by category: name in the rule, name in the event.
    fields: HashMap<Box<str>, Box<str>>,
}

impl LogSources {
    /// Those that are built in.
    pub fn builtin() -> Self {
        static BUILTIN: OnceLock<LogSources> = OnceLock::new();
        let read = || {
            let text = include_str!("../../data/log-sources.yml");
            let (sources, diagnostics) = read::read("log-sources.yml", text);
            debug_assert!(diagnostics.is_empty(), "{diagnostics:?}");
            sources
        };
        BUILTIN.get_or_init(read).clone()
    }

    /// Reads a file of users and puts it in front of these.
    ///
    /// # Errors
    /// What is wrong with the file; nothing of it counts then.
    pub fn with_file_first(&self, source_name: &str, text: &str) -> Result<Self, Vec<Diagnostic>> {
        let (sources, diagnostics) = read::read(source_name, text);
        if !diagnostics.is_empty() {
            return Err(diagnostics);
        }
        let entries = sources.entries.iter().chain(self.entries.iter()).cloned().collect();
        Ok(Self { entries: Arc::new(entries) })
    }

    pub(crate) fn entries(&self) -> &[SourceEntry] {
        &self.entries
    }
}

impl Default for LogSources {
    fn default() -> Self {
        Self::builtin()
    }
}

impl SourceEntry {
    /// Whether its events are among those that a rule asks for. `live_product` is the system that
    /// live events come from; without it, live events may be of any.
    pub(crate) fn is_asked_for(&self, asked: &LogSource, live_product: Option<&str>) -> bool {
        let product = if self.live.is_some() { live_product } else { self.product.as_deref() };
        let product_fits = match (asked.product.as_deref(), product) {
            (None, _) => true,
            (Some(_), None) => self.live.is_some(),
            (Some(asked), Some(own)) => asked == own,
        };
        product_fits
            && asked.service.as_ref().is_none_or(|asked| self.service.as_ref() == Some(asked))
            && asked.category.as_ref().is_none_or(|asked| self.categories.contains(asked))
    }

    /// The names in its events that rules call otherwise.
    pub(crate) fn event_names(&self) -> impl Iterator<Item = &str> {
        self.fields.values().map(|name| &**name)
    }

    /// What a field that a rule names is called in its events.
    pub(crate) fn name_of<'n>(&'n self, name: &'n str, by_category: bool) -> &'n str {
        if !by_category {
            return name;
        }
        self.fields.get(name).map_or(name, |name| name)
    }
}
