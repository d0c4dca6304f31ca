//! Events in, findings out; what was seen of each tree is kept here.

use std::sync::Arc;

use event_model::{
    EventType, Field, FieldSource, ProcessEntityId, ResponseMode, RuleId, RuleReference, Severity, Timestamp,
};

use super::read::time_span_text;
use super::score::Seen;
use super::set::BehaviourSet;
use super::tree::Tree;
use crate::rule_set::{Phase, Verdicts};

/// A tree passed a threshold, or completed a sequence.
#[derive(Debug, Clone)]
pub struct BehaviourFinding {
    /// As a detection carries it: `rampart.behaviour.SEVERITY` for a threshold, else the sequence's id.
    pub rule: RuleReference,
    /// What it is made of, line by line, for people.
    pub matched: Vec<String>,
    /// The process at the root of the tree, the nearest for which it holds.
    pub tree: ProcessEntityId,
}

/// What an engine has done and had to give up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BehaviourCounters {
    /// Times that behaviours were seen.
    pub seen: u64,
    /// Of them, those without a process to count for.
    pub without_process: u64,
    /// Findings.
    pub findings: u64,
    /// Processes that are known now.
    pub processes: u64,
    /// Processes that have a score now.
    pub scores: u64,
    /// Processes that were forgotten because there were too many.
    pub evicted_processes: u64,
    /// Scores that were forgotten because there were too many.
    pub evicted_scores: u64,
    /// Behaviours and ways into sequences that were forgotten because a tree had too many.
    pub evicted_evidence: u64,
}

/// Takes in which behaviours events show and remembers what each tree did. Memory is bounded; what passes the bounds
/// is counted in [`BehaviourCounters`].
#[derive(Debug, Default)]
pub struct BehaviourEngine {
    set: Arc<BehaviourSet>,
    tree: Tree,
    counters: BehaviourCounters,
}

impl BehaviourEngine {
    /// An engine that has seen nothing.
    pub fn new(set: Arc<BehaviourSet>) -> Self {
        Self { set, ..Self::default() }
    }

    /// Judges by another set from now on. What was seen stays, with the weights that the new set gives it; what the
    /// new set doesn't have is forgotten, and so is the way into sequences that are not the same any more.
    pub fn replace(&mut self, set: Arc<BehaviourSet>) {
        if Arc::ptr_eq(&set, &self.set) {
            return;
        }
        let before = std::mem::replace(&mut self.set, set);
        let now = &self.set;
        let behaviour = |old: u32| now.by_id.get(&before.behaviours.get(old as usize)?.id).copied();
        let sequence = |old: u32| {
            let old = &before.sequences.get(old as usize)?.spec;
            let same =
                now.sequences.iter().position(|new| new.spec.id == old.id && new.spec.steps == old.steps)?;
            u32::try_from(same).ok()
        };
        for work in self.tree.works_mut() {
            work.score.evidence.retain_mut(|evidence| match behaviour(evidence.behaviour) {
                Some(place) => {
                    evidence.behaviour = place;
                    true
                }
                None => false,
            });
            let progress = std::mem::take(&mut work.progress).into_iter();
            work.progress = progress.filter_map(|(old, progress)| Some((sequence(old)?, progress))).collect();
        }
    }

    /// Takes in an event with what it was found to be in this phase, by the rule set that has these behaviours.
    pub fn observe(
        &mut self,
        event: &dyn FieldSource,
        phase: Phase,
        verdicts: &Verdicts<'_>,
    ) -> Vec<BehaviourFinding> {
        if self.set.is_empty() {
            return Vec::new();
        }
        let lives = matches!(event.event_type(), EventType::ProcessStart | EventType::ProcessExit);
        let id = (lives && phase != Phase::HashOnly).then(|| event.entity(Field::ProcessEntityId)).flatten();
        if let (Some(id), EventType::ProcessStart) = (id, event.event_type()) {
            self.tree.learn(id, event);
        }
        let set = &self.set;
        let fired = verdicts.matches.iter().map(|found| &found.rule.id);
        let by_rules = fired.filter_map(|rule| set.by_rule.get(rule)).flatten();
        let hits: Vec<u32> = verdicts.behaviours.iter().chain(by_rules).copied().collect();
        let findings = match hits.as_slice() {
            [] => Vec::new(),
            hits => self.take(&Arc::clone(&self.set), event, hits),
        };
        if let (Some(id), EventType::ProcessExit) = (id, event.event_type()) {
            self.tree.end(id);
        }
        findings
    }

    /// What was done and given up so far.
    pub fn counters(&self) -> BehaviourCounters {
        BehaviourCounters {
            processes: self.tree.len() as u64,
            scores: self.tree.scores() as u64,
            evicted_processes: self.tree.evicted_processes,
            evicted_scores: self.tree.evicted_scores,
            ..self.counters
        }
    }

    fn take(&mut self, set: &BehaviourSet, event: &dyn FieldSource, hits: &[u32]) -> Vec<BehaviourFinding> {
        self.counters.seen += hits.len() as u64;
        let Some(process) = event.entity(Field::ProcessEntityId) else {
            self.counters.without_process += hits.len() as u64;
            return Vec::new();
        };
        if !self.tree.knows(process) {
            self.tree.learn(process, event);
        }
        let at_ns = event.observed_at().as_nanos();
        let seen = Seen { at_ns, process, executable: self.tree.executable(process) };
        let lineage = self.tree.lineage(process, &set.settings);
        let mut findings = Vec::new();
        let mut completed = Vec::new();
        for (sequence, tree, steps) in self.advance(set, hits, &lineage, &seen) {
            completed.extend(set.sequences.get(sequence as usize).and_then(|sequence| sequence.behaviour));
            findings.extend(self.tell_sequence(set, sequence, tree, &steps));
        }
        for hit in hits.iter().chain(&completed) {
            self.weigh(set, *hit, &lineage, &seen);
        }
        findings.extend(self.tell_threshold(set, &lineage, at_ns));
        self.counters.findings += findings.len() as u64;
        findings
    }

    /// Adds a behaviour to the scores of all that it counts for.
    fn weigh(&mut self, set: &BehaviourSet, hit: u32, lineage: &[ProcessEntityId], seen: &Seen) {
        if set.behaviours.get(hit as usize).is_none_or(|behaviour| behaviour.weight <= 0.0) {
            return;
        }
        for id in lineage {
            let Some(work) = self.tree.work_mut(*id, seen.at_ns) else { continue };
            let score_before = work.score.at(seen.at_ns, &set.behaviours, &set.settings);
            work.score.rearm(score_before, &set.settings);
            let evicted = work.score.take(hit, seen, &set.behaviours, &set.settings);
            self.counters.evicted_evidence += u64::from(evicted);
        }
    }

    /// Takes the steps that these behaviours are. Gives the sequences that are complete, each once, with the nearest
    /// process in whose tree they are.
    fn advance(
        &mut self,
        set: &BehaviourSet,
        hits: &[u32],
        lineage: &[ProcessEntityId],
        seen: &Seen,
    ) -> Vec<(u32, ProcessEntityId, Vec<Seen>)> {
        let of_behaviours = hits.iter().filter_map(|hit| set.behaviours.get(*hit as usize));
        let mut steps: Vec<(u32, usize)> =
            of_behaviours.flat_map(|behaviour| behaviour.steps.iter().copied()).collect();
        // The last step first: one event is one step of a chain.
        steps.sort_unstable_by_key(|(sequence, step)| (*sequence, std::cmp::Reverse(*step)));
        let mut complete: Vec<(u32, ProcessEntityId, Vec<Seen>)> = Vec::new();
        for (number, step) in steps {
            let Some(sequence) = set.sequences.get(number as usize) else { continue };
            let (count, within_ns) = (sequence.spec.steps.len(), sequence.within_ns);
            let mut found = None;
            let mut is_silent = false;
            for id in lineage {
                let Some(work) = self.tree.work_mut(*id, seen.at_ns) else { continue };
                let (progress, evicted) = work.progress_in(number, step);
                self.counters.evicted_evidence += u64::from(evicted);
                let Some(progress) = progress else { continue };
                is_silent |= progress.is_silent(seen.at_ns);
                let chain = progress.take(step, count, within_ns, seen);
                found = found.or(chain.map(|chain| (number, *id, chain)));
            }
            let Some(found) = found.filter(|_| !is_silent) else { continue };
            for id in lineage {
                let Some(work) = self.tree.work_mut(*id, seen.at_ns) else { continue };
                // A child that did only the last step is told of no more than the tree it is in.
                let (progress, evicted) = work.progress_in(number, 0);
                self.counters.evicted_evidence += u64::from(evicted);
                if let Some(progress) = progress {
                    progress.silence(seen.at_ns.saturating_add(within_ns));
                }
            }
            complete.push(found);
        }
        complete
    }

    fn tell_sequence(
        &self,
        set: &BehaviourSet,
        number: u32,
        tree: ProcessEntityId,
        steps: &[Seen],
    ) -> Option<BehaviourFinding> {
        let spec = &set.sequences.get(number as usize)?.spec;
        let took_ns = steps.last()?.at_ns.saturating_sub(steps.first()?.at_ns).max(0);
        let mut matched = vec![format!(
            "{} steps in {:.3} s (at most {}) in the process tree of {}",
            steps.len(),
            took_ns as f64 / 1e9,
            time_span_text(spec.within),
            shown(&self.tree.executable(tree), tree),
        )];
        for (nth, (seen, ids)) in steps.iter().zip(&spec.steps).enumerate() {
            let behaviours = ids.iter().filter_map(|id| set.behaviours.get(*set.by_id.get(id)? as usize));
            let name = behaviours.map(|behaviour| &*behaviour.name).collect::<Vec<_>>().join(" or ");
            let (at, who) = (Timestamp::from_nanos(seen.at_ns), shown(&seen.executable, seen.process));
            matched.push(format!("{}. {name}: {at}, {who}", nth + 1));
        }
        let rule = RuleReference {
            id: RuleId::new(&*spec.id),
            name: spec.name.clone(),
            description: spec.description.clone(),
            severity: spec.severity,
            attack: spec.attack.clone(),
            mode: ResponseMode::Detect,
        };
        Some(BehaviourFinding { rule, matched, tree })
    }

    /// Where a threshold is passed that was not told of this tree yet: the nearest process for which it is.
    fn tell_threshold(
        &mut self,
        set: &BehaviourSet,
        lineage: &[ProcessEntityId],
        at_ns: i64,
    ) -> Option<BehaviourFinding> {
        let mut best: Option<(Severity, f64, ProcessEntityId)> = None;
        let mut told = None;
        for id in lineage {
            let Some(work) = self.tree.work(*id) else { continue };
            told = told.max(work.score.told);
            let score = work.score.at(at_ns, &set.behaviours, &set.settings);
            if let Some(severity) = set.settings.reached(score)
                && best.is_none_or(|(known, _, _)| severity > known)
            {
                best = Some((severity, score, *id));
            }
        }
        let (severity, score, tree) = best.filter(|(severity, _, _)| Some(*severity) > told)?;
        for id in lineage {
            if let Some(work) = self.tree.work_mut(*id, at_ns) {
                work.score.told = Some(severity);
            }
        }
        Some(self.explained(set, severity, score, tree, at_ns))
    }

    fn explained(
        &self,
        set: &BehaviourSet,
        severity: Severity,
        score: f64,
        tree: ProcessEntityId,
        at_ns: i64,
    ) -> BehaviourFinding {
        let settings = &set.settings;
        let threshold = settings.threshold(severity).unwrap_or_default();
        let root = shown(&self.tree.executable(tree), tree);
        let mut matched = vec![format!(
            "score {score:.1} of the process tree of {root} reaches {threshold} ({severity}); half-life {}",
            time_span_text(settings.half_life),
        )];
        let mut evidence: Vec<_> =
            self.tree.work(tree).map(|it| it.score.evidence.iter().collect()).unwrap_or_default();
        evidence.sort_by_key(|evidence| evidence.first_ns);
        let mut attack: Vec<String> = Vec::new();
        for evidence in evidence {
            let Some(behaviour) = set.behaviours.get(evidence.behaviour as usize) else { continue };
            let worth = evidence.worth(at_ns, &set.behaviours, settings);
            let at = Timestamp::from_nanos(evidence.last_ns);
            let who = shown(&evidence.executable, evidence.process);
            let (name, id, weight) = (&behaviour.name, &behaviour.id, behaviour.weight);
            let mut line = format!("+{worth:.1} of {weight}: {name} ({id}), {at}, {who}");
            if evidence.count > 1 {
                line.push_str(&format!(
                    ", {} times since {}",
                    evidence.count,
                    Timestamp::from_nanos(evidence.first_ns)
                ));
            }
            matched.push(line);
            for technique in &behaviour.attack {
                if !attack.contains(technique) {
                    attack.push(technique.clone());
                }
            }
        }
        let rule = RuleReference {
            id: RuleId::new(format!("rampart.behaviour.{severity}")),
            name: format!("Behaviour of a process tree: score {threshold} reached"),
            description:
                "Different suspicious behaviours came together in one process tree. What matched says \
                          which, when and how much each counts."
                    .to_owned(),
            severity,
            attack,
            mode: ResponseMode::Detect,
        };
        BehaviourFinding { rule, matched, tree }
    }
}

/// `/usr/bin/bash [1234]`.
fn shown(executable: &str, id: ProcessEntityId) -> String {
    let executable = if executable.is_empty() { "?" } else { executable };
    format!("{executable} [{}]", id.pid())
}
