//! What a process and its descendants did, each behaviour once, fading.
//!
//! A behaviour that is seen again counts afresh, not twice: a score says how many *different* things happened
//! lately, so no single thing passes a threshold by being done often.

use std::sync::Arc;

use event_model::{ProcessEntityId, Severity};

use super::set::{Behaviour, Settings};

/// Different behaviours that are kept for one process. Past it the one that counts least goes.
pub(super) const EVIDENCE_LIMIT: usize = 32;

/// A behaviour as it was seen in a tree.
#[derive(Debug, Clone)]
pub(super) struct Evidence {
    /// Place in the set.
    pub(super) behaviour: u32,
    pub(super) first_ns: i64,
    pub(super) last_ns: i64,
    pub(super) count: u64,
    /// Who did it last.
    pub(super) process: ProcessEntityId,
    pub(super) executable: Arc<str>,
}

/// One time that a behaviour was seen.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) at_ns: i64,
    pub(super) process: ProcessEntityId,
    pub(super) executable: Arc<str>,
}

/// The score of one process, those of its descendants that count for it included.
#[derive(Debug, Default)]
pub(super) struct Score {
    pub(super) evidence: Vec<Evidence>,
    /// The highest severity that was told of this tree, until the score has fallen to half of its threshold.
    pub(super) told: Option<Severity>,
}

/// What is left of a weight after so long. Times that lie ahead count as now: events of different sources come in
/// slightly out of order.
pub(super) fn faded(weight: f64, age_ns: i64, half_life_ns: i64) -> f64 {
    weight * (-(age_ns.max(0) as f64) / half_life_ns.max(1) as f64).exp2()
}

impl Evidence {
    pub(super) fn worth(&self, at_ns: i64, behaviours: &[Behaviour], settings: &Settings) -> f64 {
        let weight = behaviours.get(self.behaviour as usize).map_or(0.0, |behaviour| behaviour.weight);
        faded(weight, at_ns.saturating_sub(self.last_ns), settings.half_life_ns)
    }
}

impl Score {
    /// The sum at that time.
    pub(super) fn at(&self, at_ns: i64, behaviours: &[Behaviour], settings: &Settings) -> f64 {
        self.evidence.iter().map(|evidence| evidence.worth(at_ns, behaviours, settings)).sum()
    }

    /// Adds a behaviour; true where another had to go for it.
    pub(super) fn take(
        &mut self,
        behaviour: u32,
        seen: &Seen,
        behaviours: &[Behaviour],
        settings: &Settings,
    ) -> bool {
        if let Some(known) = self.evidence.iter_mut().find(|known| known.behaviour == behaviour) {
            known.last_ns = known.last_ns.max(seen.at_ns);
            known.count += 1;
            (known.process, known.executable) = (seen.process, Arc::clone(&seen.executable));
            return false;
        }
        self.evidence.push(Evidence {
            behaviour,
            first_ns: seen.at_ns,
            last_ns: seen.at_ns,
            count: 1,
            process: seen.process,
            executable: Arc::clone(&seen.executable),
        });
        if self.evidence.len() <= EVIDENCE_LIMIT {
            return false;
        }
        let worth = |evidence: &Evidence| evidence.worth(seen.at_ns, behaviours, settings);
        let least = self.evidence.iter().enumerate().min_by(|a, b| worth(a.1).total_cmp(&worth(b.1)));
        if let Some((place, _)) = least {
            self.evidence.swap_remove(place);
        }
        true
    }

    /// Forgets what was told, where the score has since fallen under half of its threshold.
    pub(super) fn rearm(&mut self, score: f64, settings: &Settings) {
        if let Some(told) = self.told {
            let still = |severity: &Severity| {
                settings.threshold(*severity).is_some_and(|threshold| score >= threshold / 2.0)
            };
            self.told =
                Severity::ALL.iter().rev().find(|severity| **severity <= told && still(severity)).copied();
        }
    }
}

impl Settings {
    /// The highest severity whose threshold the score reaches.
    pub(super) fn reached(&self, score: f64) -> Option<Severity> {
        // What people see as 70.0 reaches 70.
        let reaches = |severity: &&Severity| self.threshold(**severity).is_some_and(|it| score + 1e-9 >= it);
        Severity::ALL.iter().rev().find(reaches).copied()
    }
}
