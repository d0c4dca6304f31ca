//! Who came of whom, also where those in between have ended.
//!
//! A system tells a process's parent only as long as that lives: Linux gives an orphan another one, and on Windows
//! nothing leads from a child past a parent that is gone. Whoever watches all starts and ends knows more.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use sensor_api::ProcessKey;

/// The living processes of a host, each with its nearest ancestor that lives. Shared by whoever sees starts and
/// ends, and whoever asks.
#[derive(Debug, Default)]
pub struct Lineage(Mutex<Kin>);

#[derive(Debug, Default)]
struct Kin {
    parents: HashMap<ProcessKey, Option<ProcessKey>>,
    children: HashMap<ProcessKey, Vec<ProcessKey>>,
}

impl Lineage {
    /// A process is there. Who is known already keeps the parent that is known.
    pub fn began(&self, process: ProcessKey, parent: Option<ProcessKey>) {
        let mut kin = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kin.parents.get(&process).is_some_and(Option::is_some) {
            return;
        }
        let parent = parent.filter(|parent| *parent != process);
        kin.parents.insert(process, parent);
        if let Some(parent) = parent {
            kin.children.entry(parent).or_default().push(process);
        }
    }

    /// A process has ended: its children are its parent's from now on.
    pub fn ended(&self, process: ProcessKey) {
        let mut kin = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let parent = kin.parents.remove(&process).flatten();
        let orphans = kin.children.remove(&process).unwrap_or_default();
        for orphan in &orphans {
            kin.parents.insert(*orphan, parent);
        }
        let Some(parent) = parent else { return };
        let siblings = kin.children.entry(parent).or_default();
        siblings.retain(|sibling| *sibling != process);
        siblings.extend(orphans);
        if siblings.is_empty() {
            kin.children.remove(&parent);
        }
    }

    /// The living ones that came of this process, itself not among them; parents before their children.
    pub fn below(&self, process: ProcessKey) -> Vec<ProcessKey> {
        let kin = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |one: &ProcessKey| kin.children.get(one).into_iter().flatten().copied();
        let mut found: Vec<ProcessKey> = of(&process).collect();
        let mut at = 0;
        // Each has one parent, so none is found twice; the bound is against sensors that are wrong.
        while let Some(next) = found.get(at).filter(|_| found.len() <= kin.parents.len()) {
            let more: Vec<ProcessKey> = of(next).collect();
            found.extend(more);
            at += 1;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(pid: u32) -> ProcessKey {
        ProcessKey { pid, start_ns: u64::from(pid) * 10 }
    }

    #[test]
    fn a_grandchild_is_found_after_its_parents_end() {
        let lineage = Lineage::default();
        for (process, parent) in [(1, None), (2, Some(1)), (3, Some(2)), (4, Some(3)), (5, Some(1))] {
            lineage.began(key(process), parent.map(key));
        }
        assert_eq!(lineage.below(key(2)), [key(3), key(4)]);
        lineage.ended(key(3));
        assert_eq!(lineage.below(key(2)), [key(4)]);
        lineage.ended(key(2));
        assert_eq!(lineage.below(key(2)), []);
        let mut below = lineage.below(key(1));
        below.sort_by_key(|one| one.pid);
        assert_eq!(below, [key(4), key(5)]);
    }

    #[test]
    fn a_pid_that_is_given_again_inherits_nothing() {
        let lineage = Lineage::default();
        lineage.began(key(2), None);
        lineage.began(key(3), Some(key(2)));
        lineage.ended(key(2));
        let again = ProcessKey { pid: 2, start_ns: 999 };
        lineage.began(again, None);
        assert_eq!(lineage.below(again), []);
    }

    #[test]
    fn who_starts_himself_anew_without_end_leaves_nothing_behind() {
        let lineage = Lineage::default();
        lineage.began(key(1), None);
        for pid in 1..1_000 {
            lineage.began(key(pid + 1), Some(key(pid)));
            if pid > 1 {
                lineage.ended(key(pid));
            }
        }
        assert_eq!(lineage.below(key(1)), [key(1_000)]);
        let kin = lineage.0.lock().unwrap();
        assert_eq!((kin.parents.len(), kin.children.len()), (2, 1));
    }
}
