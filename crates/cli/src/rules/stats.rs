//! `edr rules stats`: what a collection of rules is made of, how well they are told apart from events that
//! they can't match, and what they cost on given events.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt::Write as _;

use rule_engine::{ParsedRule, PrefilterQuality, RuleCounters, RuleSet};
use serde::Serialize;

use super::files::{RuleFiles, tell_people};
use super::load::load;
use super::options::{RuleOptions, Spec};
use crate::arguments::Usage;
use crate::replay::{Replayed, replay_silently};
use crate::{Outcome, print};

const SPEC: Spec = Spec {
    command: "edr rules stats",
    flags: &["events", "top", "mapping", "placeholders"],
    switches: &["json"],
};
/// Rules of a list that are shown when `--top` does not say how many.
const SHOWN: usize = 10;

#[derive(Default, Serialize)]
struct Stats {
    files: usize,
    rules: usize,
    refused: usize,
    switched_off: usize,
    by_kind: BTreeMap<&'static str, usize>,
    by_level: BTreeMap<&'static str, usize>,
    by_log_source: BTreeMap<String, usize>,
    /// ATT&CK techniques with the number of rules for each; sub-techniques count for themselves.
    by_technique: BTreeMap<String, usize>,
    without_technique: usize,
    prefilter: Prefilter,
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<EventStats>,
}

/// How rules are told apart from events that they can't match.
#[derive(Default, Serialize)]
struct Prefilter {
    by_quality: BTreeMap<PrefilterQuality, usize>,
    /// Texts that are looked for, all rules together.
    texts: usize,
    /// Those that are computed on every event of their log source.
    on_every_event: Vec<RuleName>,
    /// Those that are likely to be computed most often, by ordinary values.
    likeliest: Vec<LikelyRule>,
}

#[derive(Serialize)]
struct RuleName {
    id: String,
    name: String,
}

#[derive(Serialize)]
struct LikelyRule {
    #[serde(flatten)]
    rule: RuleName,
    likely_share: f32,
    looked_for: Vec<String>,
}

#[derive(Serialize)]
struct EventStats {
    events: u64,
    without_log_source: u64,
    seconds: f64,
    detections: u64,
    /// Rules computed for each event, on average.
    candidates_per_event: f64,
    /// Share of candidates that matched.
    matched_share: f64,
    rules_matched: usize,
    /// The dearest first.
    dearest: Vec<RuleCost>,
}

#[derive(Serialize)]
struct RuleCost {
    #[serde(flatten)]
    rule: RuleName,
    evaluations: u64,
    candidates: u64,
    matches: u64,
    /// Estimated from one event in 64.
    cost_us: u64,
}

/// Counts the rules of files and folders; with `--events`, also judges those.
pub(crate) fn run(arguments: Vec<OsString>) -> anyhow::Result<Outcome> {
    let options = RuleOptions::read(arguments, &SPEC)?;
    let shown = options.number_of("top")?.unwrap_or(SHOWN);
    let files = RuleFiles::at(&options.paths)?;
    let mut wrong = 0;
    let sigma = files.sigma_options(&options.paths_of("placeholders"), |diagnostic, text| {
        wrong += 1;
        tell_people(diagnostic, text)
    })?;
    let loaded = load(&files.rules, &sigma)?;
    let filters = loaded.rules.iter().filter(|(_, rule)| rule.is_filter()).count();
    let (rules, more_refused) = loaded.compile(&options.log_sources)?;
    if rules.is_empty() {
        return Err(Usage::new("no rule could be loaded", "`edr rules check` says why").into());
    }
    let mut stats = Stats {
        files: files.rules.len(),
        refused: loaded.refused + more_refused + wrong,
        ..Stats::default()
    };
    stats.count(&rules, filters, shown);
    let events = options.paths_of("events");
    if !events.is_empty() {
        let replayed = replay_silently(&rules, &events, &options.mappings)?;
        stats.events = Some(event_stats(&rules, &replayed, shown));
    }
    if options.has("json") {
        print(&format!("{}\n", serde_json::to_string(&stats)?))?;
    } else {
        print(&stats.in_words())?;
    }
    Ok(Outcome::Success)
}

impl Stats {
    fn count(&mut self, rules: &RuleSet, filters: usize, shown: usize) {
        self.rules = rules.len() + filters;
        if filters > 0 {
            self.by_kind.insert("Sigma filter", filters);
        }
        let mut likeliest = Vec::new();
        for rule in rules.rules() {
            let head = rule.head();
            self.switched_off += usize::from(!head.is_active());
            *self.by_kind.entry(kind_of(rule)).or_default() += 1;
            *self.by_level.entry(head.severity.as_str()).or_default() += 1;
            let source = rule.log_source().map_or_else(
                || {
                    if rule.is_correlation() {
                        "other rules".to_owned()
                    } else {
                        rule.telemetry().describe().to_owned()
                    }
                },
                ToString::to_string,
            );
            *self.by_log_source.entry(source).or_default() += 1;
            let techniques: BTreeSet<&String> = head.attack.iter().collect();
            self.without_technique += usize::from(techniques.is_empty());
            for technique in techniques {
                *self.by_technique.entry(technique.clone()).or_default() += 1;
            }
            if rule.is_correlation() || !head.is_active() {
                continue;
            }
            let looked_for = rule.looked_for();
            *self.prefilter.by_quality.entry(looked_for.quality).or_default() += 1;
            self.prefilter.texts += looked_for.texts;
            if looked_for.quality == PrefilterQuality::None {
                self.prefilter.on_every_event.push(name_of(rule));
            } else {
                likeliest.push((rule, looked_for));
            }
        }
        likeliest.sort_by(|(_, left), (_, right)| right.likely_share.total_cmp(&left.likely_share));
        let likeliest = likeliest.into_iter().take(shown).map(|(rule, looked_for)| LikelyRule {
            rule: name_of(rule),
            likely_share: looked_for.likely_share,
            looked_for: looked_for.examples,
        });
        self.prefilter.likeliest = likeliest.collect();
    }

    fn in_words(&self) -> String {
        let mut text = String::new();
        // Writing to a text can't fail.
        let _ = writeln!(
            text,
            "{} rules in {} files, {} refused, {} switched off",
            self.rules, self.files, self.refused, self.switched_off
        );
        table(&mut text, "by kind", self.by_kind.iter());
        table(&mut text, "by level", self.by_level.iter());
        table(&mut text, "by log source", self.by_log_source.iter());
        let _ = writeln!(
            text,
            "\nATT&CK: {} techniques and sub-techniques; {} rules name none",
            self.by_technique.len(),
            self.without_technique
        );
        let mut techniques: Vec<_> = self.by_technique.iter().collect();
        techniques.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let most: Vec<_> =
            techniques.iter().take(SHOWN).map(|(name, count)| format!("{name} {count}")).collect();
        let _ = writeln!(text, "  most rules: {}", most.join(", "));
        self.prefilter.in_words(&mut text);
        if let Some(events) = &self.events {
            events.in_words(&mut text);
        }
        text
    }
}

impl Prefilter {
    fn in_words(&self, text: &mut String) {
        let _ = writeln!(text, "\nprefilter: {} texts are looked for", self.texts);
        for (quality, what) in [
            (PrefilterQuality::Texts, "by texts"),
            (PrefilterQuality::Field, "by a field that must be there"),
            (PrefilterQuality::None, "not at all, computed on every event"),
        ] {
            let _ =
                writeln!(text, "  {:>6}  {what}", self.by_quality.get(&quality).copied().unwrap_or_default());
        }
        for rule in self.on_every_event.iter().take(SHOWN) {
            let _ = writeln!(text, "          on every event: {} {}", rule.id, rule.name);
        }
        let _ = writeln!(
            text,
            "  likely to be computed most often, in percent of the events of their log source:"
        );
        for LikelyRule { rule, likely_share, looked_for } in &self.likeliest {
            let example = looked_for.first().map(String::as_str).unwrap_or_default();
            let _ = writeln!(text, "  {:>6.2}  {} {} ({example})", likely_share * 100.0, rule.id, rule.name);
        }
    }
}

impl EventStats {
    fn in_words(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "\n{} events in {:.3} s ({} of no known log source): {} detections by {} rules, {:.2} rules computed for each event, {:.1} % of them matched",
            self.events,
            self.seconds,
            self.without_log_source,
            self.detections,
            self.rules_matched,
            self.candidates_per_event,
            self.matched_share * 100.0
        );
        let _ = writeln!(text, "  cost in µs (from one event in 64), computed, matched:");
        for cost in &self.dearest {
            let RuleCost { rule, candidates, matches, cost_us, .. } = cost;
            let _ = writeln!(text, "  {cost_us:>8} {candidates:>8} {matches:>8}  {} {}", rule.id, rule.name);
        }
    }
}

fn event_stats(rules: &RuleSet, replayed: &Replayed, shown: usize) -> EventStats {
    let mut counters: Vec<RuleCounters<'_>> = rules.counters().collect();
    let candidates: u64 = counters.iter().map(|counter| counter.candidates).sum();
    let matches: u64 = counters.iter().map(|counter| counter.matches).sum();
    let rules_matched = counters.iter().filter(|counter| counter.matches > 0).count();
    counters.sort_by_key(|counter| std::cmp::Reverse((counter.cost, counter.candidates)));
    let dearest =
        counters.iter().filter(|counter| counter.candidates > 0).take(shown).map(|counter| RuleCost {
            rule: RuleName { id: counter.rule.id.to_string(), name: counter.rule.name.clone() },
            evaluations: counter.evaluations,
            candidates: counter.candidates,
            matches: counter.matches,
            cost_us: u64::try_from(counter.cost.as_micros()).unwrap_or(u64::MAX),
        });
    EventStats {
        events: replayed.events,
        without_log_source: replayed.without_log_source,
        seconds: replayed.seconds,
        detections: replayed.detections,
        candidates_per_event: candidates as f64 / replayed.events.max(1) as f64,
        matched_share: matches as f64 / candidates.max(1) as f64,
        rules_matched,
        dearest: dearest.collect(),
    }
}

fn kind_of(rule: &ParsedRule) -> &'static str {
    match (rule.is_correlation(), rule.log_source().is_some()) {
        (true, _) => "Sigma correlation",
        (_, true) => "Sigma",
        (_, false) => "native",
    }
}

fn name_of(rule: &ParsedRule) -> RuleName {
    RuleName { id: rule.head().id.to_string(), name: rule.head().name.clone() }
}

fn table<'c>(
    text: &mut String,
    title: &str,
    counts: impl Iterator<Item = (impl AsRef<str> + 'c, &'c usize)>,
) {
    let _ = writeln!(text, "\n{title}:");
    let mut counts: Vec<_> = counts.collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (name, count) in counts {
        let _ = writeln!(text, "  {count:>6}  {}", name.as_ref());
    }
}
