//! Who started whom, as far as it matters for scores. Bounded: what was seen of longest ago goes first, and is counted.

use std::collections::HashMap;
use std::sync::Arc;

use event_model::{Field, FieldSource, NumberHashing, ProcessEntityId, ValueRef};

use super::score::Score;
use super::sequence::Progress;
use super::set::Settings;

/// Processes that are known at a time; some 150 bytes each.
pub(super) const PROCESS_LIMIT: usize = 16_384;
/// Processes that have a score or stand in a sequence; up to some 4 KiB each.
pub(super) const SCORE_LIMIT: usize = 2_048;
/// Sequences in which one process stands. Past it, the one that went on longest ago begins anew.
pub(super) const PROGRESS_LIMIT: usize = 32;
/// Bytes that are kept of an executable's path.
const PATH_LIMIT: usize = 256;

/// What a process and its descendants did.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) score: Score,
    /// By place of the sequence in the set.
    pub(super) progress: HashMap<u32, Progress>,
    pub(super) last_ns: i64,
}

impl Work {
    /// How far the process is in a sequence, of which this step was seen; `None` where only the first step could begin
    /// it. True where another sequence had to begin anew for it.
    pub(super) fn progress_in(&mut self, sequence: u32, step: usize) -> (Option<&mut Progress>, bool) {
        let mut evicted = false;
        if !self.progress.contains_key(&sequence) {
            if step > 0 {
                return (None, false);
            }
            if self.progress.len() >= PROGRESS_LIMIT {
                let oldest = self.progress.iter().min_by_key(|(number, own)| (own.last_ns(), **number));
                let oldest = oldest.map(|(number, _)| *number);
                evicted = oldest.is_some_and(|number| self.progress.remove(&number).is_some());
            }
        }
        (Some(self.progress.entry(sequence).or_default()), evicted)
    }
}

#[derive(Debug)]
struct Node {
    parent: Option<ProcessEntityId>,
    executable: Arc<str>,
    /// Counts from 0 with each new process, for the order of eviction.
    number: u64,
    has_ended: bool,
    work: Option<Box<Work>>,
}

/// The processes that are known.
#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: HashMap<ProcessEntityId, Node, NumberHashing>,
    working: usize,
    born: u64,
    pub(super) evicted_processes: u64,
    pub(super) evicted_scores: u64,
}

/// So many of the least, in any order. To sort all of them would be most of what a process costs.
fn least<T: Ord>(all: &mut [T], count: usize) -> &[T] {
    if count < all.len() {
        all.select_nth_unstable(count);
    }
    &all[..count.min(all.len())]
}

/// The executable's path in a field of an event, cut, or nothing.
fn path<'v>(value: Option<&'v ValueRef<'_>>) -> &'v str {
    match value {
        Some(ValueRef::Text(text)) => &text[..text.floor_char_boundary(PATH_LIMIT)],
        _ => "",
    }
}

impl Tree {
    /// Takes in what an event tells of its process and the parent.
    pub(super) fn learn(&mut self, id: ProcessEntityId, event: &dyn FieldSource) {
        let parent = event.entity(Field::ParentEntityId).filter(|parent| *parent != id);
        if let Some(parent) = parent
            && !self.nodes.contains_key(&parent)
        {
            let executable = event.value(Field::ParentExecutable);
            self.insert(parent, None, path(executable.as_ref()));
        }
        let executable = event.value(Field::ProcessExecutable);
        let executable = path(executable.as_ref());
        match self.nodes.get_mut(&id) {
            Some(node) => {
                // After an exec it is another program, but still the same process.
                if !executable.is_empty() && *executable != *node.executable {
                    node.executable = executable.into();
                }
                node.parent = node.parent.or(parent);
            }
            None => self.insert(id, parent, executable),
        }
    }

    pub(super) fn knows(&self, id: ProcessEntityId) -> bool {
        self.nodes.contains_key(&id)
    }

    pub(super) fn end(&mut self, id: ProcessEntityId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.has_ended = true;
        }
    }

    fn insert(&mut self, id: ProcessEntityId, parent: Option<ProcessEntityId>, executable: &str) {
        if self.nodes.len() >= PROCESS_LIMIT {
            self.evict_processes();
        }
        let (number, executable) = (self.born, executable.into());
        self.born += 1;
        self.nodes.insert(id, Node { parent, executable, number, has_ended: false, work: None });
    }

    /// The process and the ancestors that what it does counts for, nearest first. A boundary (the system's own
    /// services and the like) ends it: everything descends from those, so a score would say nothing.
    pub(super) fn lineage(&self, id: ProcessEntityId, settings: &Settings) -> Vec<ProcessEntityId> {
        let mut lineage = vec![id];
        let mut at = id;
        for _ in 0..settings.ancestor_levels {
            let Some(parent) = self.nodes.get(&at).and_then(|node| node.parent) else { break };
            let Some(node) = self.nodes.get(&parent) else { break };
            if settings.is_boundary(&node.executable) || lineage.contains(&parent) {
                break;
            }
            lineage.push(parent);
            at = parent;
        }
        lineage
    }

    pub(super) fn executable(&self, id: ProcessEntityId) -> Arc<str> {
        self.nodes.get(&id).map_or_else(|| Arc::from(""), |node| Arc::clone(&node.executable))
    }

    pub(super) fn work(&self, id: ProcessEntityId) -> Option<&Work> {
        self.nodes.get(&id)?.work.as_deref()
    }

    /// The process's work, begun where there is none yet. `None` for a process that is not known.
    pub(super) fn work_mut(&mut self, id: ProcessEntityId, at_ns: i64) -> Option<&mut Work> {
        if self.nodes.get(&id)?.work.is_none() {
            if self.working >= SCORE_LIMIT {
                self.evict_scores();
            }
            self.working += 1;
        }
        let work = self.nodes.get_mut(&id)?.work.get_or_insert_default();
        work.last_ns = work.last_ns.max(at_ns);
        Some(work)
    }

    pub(super) fn works_mut(&mut self) -> impl Iterator<Item = &mut Work> {
        self.nodes.values_mut().filter_map(|node| node.work.as_deref_mut())
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn scores(&self) -> usize {
        self.working
    }

    /// Makes room for an eighth: those that ended without doing anything, then the living that did nothing (they
    /// are met again by their next child), then those whose last behaviour is longest ago.
    fn evict_processes(&mut self) {
        let order = |node: &Node| match &node.work {
            None if node.has_ended => (0, 0, node.number),
            None => (1, 0, node.number),
            Some(work) => (2, work.last_ns, node.number),
        };
        let mut all: Vec<_> = self.nodes.iter().map(|(id, node)| (order(node), *id)).collect();
        for (_, id) in least(&mut all, PROCESS_LIMIT / 8) {
            if self.nodes.remove(id).is_some_and(|node| node.work.is_some()) {
                self.working -= 1;
                self.evicted_scores += 1;
            }
            self.evicted_processes += 1;
        }
    }

    fn evict_scores(&mut self) {
        let last = |(id, node): (&ProcessEntityId, &Node)| node.work.as_ref().map(|work| (work.last_ns, *id));
        let mut all: Vec<_> = self.nodes.iter().filter_map(last).collect();
        for (_, id) in least(&mut all, SCORE_LIMIT / 8) {
            if self.nodes.get_mut(id).is_some_and(|node| node.work.take().is_some()) {
                self.working -= 1;
                self.evicted_scores += 1;
            }
        }
    }
}
