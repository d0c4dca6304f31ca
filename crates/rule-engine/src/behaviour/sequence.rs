//! How far a tree has come in a sequence.
//!
//! For each number of steps the chain with the latest start is kept: if any chain of events completes the sequence
//! in time, that one does.

use super::score::Seen;

/// The progress of one process and its descendants in one sequence.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The best chain of each length, the shortest first.
    chains: Vec<Option<Vec<Seen>>>,
    /// Told lately; one tree is told of once in the sequence's time.
    silent_until_ns: Option<i64>,
    last_ns: i64,
}

impl Progress {
    /// Takes an event that is this step (from 0) of a sequence. Gives all its steps where it is now complete.
    pub(super) fn take(
        &mut self,
        step: usize,
        steps: usize,
        within_ns: i64,
        seen: &Seen,
    ) -> Option<Vec<Seen>> {
        self.last_ns = self.last_ns.max(seen.at_ns);
        self.chains.resize(steps.saturating_sub(1), None);
        let mut chain = match step.checked_sub(1) {
            None => Vec::new(),
            Some(before) => {
                let chain = self.chains.get(before)?.as_ref()?;
                let start_ns = chain.first()?.at_ns;
                if seen.at_ns.saturating_sub(start_ns) > within_ns {
                    return None;
                }
                chain.clone()
            }
        };
        chain.push(seen.clone());
        match self.chains.get_mut(step) {
            Some(place) => {
                *place = Some(chain);
                None
            }
            None => Some(chain),
        }
    }

    /// When the last event was that could be a step.
    pub(super) fn last_ns(&self) -> i64 {
        self.last_ns
    }

    pub(super) fn is_silent(&self, at_ns: i64) -> bool {
        self.silent_until_ns.is_some_and(|until| at_ns < until)
    }

    /// Begins anew, and is not told again until then.
    pub(super) fn silence(&mut self, until_ns: i64) {
        self.chains.clear();
        self.last_ns = self.last_ns.max(until_ns);
        self.silent_until_ns = Some(until_ns);
    }
}
