//! Who lives, who was whose parent, and when a start is to be told.
//!
//! The table turns what the sensor observes into [`Life`] steps. A fork alone is
//! not told at once: nearly always an exec follows, which tells more. Only if the
//! child neither execs nor exits for [`FORK_WAITS_NS`], or exits without ever having
//! exec'd, a start of kind `fork` is told, with its parent's image.
//!
//! Entries stay for a while after the exit, so that children find their parents;
//! a PID that comes again is another key and never inherits anything.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use event_model::{DetectionId, Image, NumberHashing, StartKind, User};
use response::Lineage;
use sensor_api::{Observation, ObservedFork, ObservedImage, ProcessKey};

use crate::image::Images;

/// How long a fork may wait for its exec before it is told by itself.
pub const FORK_WAITS_NS: u64 = 500_000_000;

/// More waiting forks than this are told at once: what waits must fit into a note of the spool.
const MAX_WAITING: usize = 8_192;

/// How young a process must be to stand in the note, how many of them, and how much of each.
const YOUNG_NS: u64 = 5_000_000_000;
const MAX_YOUNG: usize = 256;
const YOUNG_TEXT: usize = 512;

/// Logs tell times to the second, and a line may be of the second in which its writer started.
const TIME_BLUR_NS: u64 = 1_000_000_000;

/// How long an ended process is remembered, and how many of them.
const ENDED_STAYS_NS: u64 = 60_000_000_000;
const MAX_ENDED: usize = 8_192;

/// A step in the life of a process, to be told as an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It began to run an image.
    Started {
        /// The process.
        key: ProcessKey,
        /// Exec or fork.
        kind: StartKind,
        /// When, in nanoseconds since boot.
        at_ns: u64,
    },
    /// It ended.
    Ended {
        /// The process.
        key: ProcessKey,
        /// When, in nanoseconds since boot.
        at_ns: u64,
        /// As wait(2) gives it, where it is known.
        wait_status: Option<u32>,
    },
    /// A condemned process has forked: the child goes on with what its parent was ended for.
    Fled {
        /// The child.
        key: ProcessKey,
        /// For what the parent was condemned.
        condemned_by: DetectionId,
    },
}

/// A process as the table knows it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The process that forked it, where that was seen; else its parent when it was first seen.
    pub parent: Option<ProcessKey>,
    /// What it runs.
    pub image: Arc<Image>,
    /// When it was forked, while that waits to be told.
    waiting: Option<u64>,
    /// From the note of an agent before this one: a snapshot knows more.
    provisional: bool,
    ended: bool,
    /// The detection for which it is to be ended.
    condemned_by: Option<DetectionId>,
}

impl Entry {
    fn new(parent: Option<ProcessKey>, image: Arc<Image>) -> Self {
        Self { parent, image, waiting: None, provisional: false, ended: false, condemned_by: None }
    }
}

/// A fork that waits to be told. What a crash must not lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingFork {
    /// The fork.
    pub fork: ObservedFork,
    /// When it happened, in nanoseconds since boot.
    pub at_ns: u64,
}

/// A process that started lately: it may be gone before the next agent can look at
/// it, and its end is to be told with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YoungProcess {
    /// The process.
    pub key: ProcessKey,
    /// Its parent.
    pub parent: Option<ProcessKey>,
    /// Its image.
    pub executable: String,
    /// Its arguments, cut short.
    pub command_line: String,
    /// Whom it runs as.
    pub user: User,
}

/// The processes of the host.
#[derive(Debug, Default)]
pub struct ProcessTable {
    entries: HashMap<ProcessKey, Entry, NumberHashing>,
    live: HashMap<u32, ProcessKey, NumberHashing>,
    waiting: VecDeque<(u64, ProcessKey)>,
    ended: VecDeque<(u64, ProcessKey)>,
    /// The last life of a PID, as long as it is remembered.
    last_life: HashMap<u32, ProcessKey, NumberHashing>,
    /// The living ones by ancestry, where the response asks for it.
    lineage: Option<Arc<Lineage>>,
}

impl ProcessTable {
    /// Takes an observation in; the steps that it makes are appended to `steps`.
    pub fn observe(&mut self, at_ns: u64, what: Observation, images: &mut Images, steps: &mut Vec<Life>) {
        match what {
            Observation::ProcessExisting(observed) => self.existing(*observed, images),
            Observation::ProcessForked(fork) => self.forked(at_ns, fork, steps),
            Observation::ProcessExecuted(observed) => {
                let key = observed.key();
                self.executed(*observed, images);
                steps.push(Life::Started { key, kind: StartKind::Exec, at_ns });
            }
            Observation::ProcessExited(exit) => self.exited(at_ns, exit.process, exit.wait_status, steps),
            Observation::Activity(_) | Observation::Lost(_) => {}
        }
        self.forget(at_ns);
    }

    /// Tells the forks that have waited long enough. `now_ns` must not be ahead of what was observed.
    pub fn tell_waiting(&mut self, now_ns: u64, steps: &mut Vec<Life>) {
        while let Some(&(at_ns, key)) = self.waiting.front() {
            let overdue = at_ns.saturating_add(FORK_WAITS_NS) <= now_ns || self.waiting.len() > MAX_WAITING;
            if !overdue {
                return;
            }
            self.waiting.pop_front();
            self.tell_fork(key, steps);
        }
    }

    /// Forks that are not told yet, for the note beside a batch.
    pub fn waiting(&self) -> impl Iterator<Item = WaitingFork> {
        self.waiting.iter().filter_map(|&(at_ns, child)| {
            let entry = self.entries.get(&child).filter(|entry| entry.waiting.is_some())?;
            let parent = entry.parent.unwrap_or(ProcessKey { pid: 0, start_ns: 0 });
            Some(WaitingFork { fork: ObservedFork { child, parent }, at_ns })
        })
    }

    /// Live processes that started within [`YOUNG_NS`], for the note beside a batch.
    pub fn young(&self, now_ns: u64) -> impl Iterator<Item = YoungProcess> {
        let keys = self.live.values().filter(move |key| key.start_ns.saturating_add(YOUNG_NS) > now_ns);
        let known = keys.filter_map(|key| {
            let entry = self.entries.get(key).filter(|entry| entry.image.is_known())?;
            let cut = |text: &str| text[..text.floor_char_boundary(YOUNG_TEXT)].to_owned();
            Some(YoungProcess {
                key: *key,
                parent: entry.parent,
                executable: cut(&entry.image.executable),
                command_line: cut(&entry.image.command_line),
                user: entry.image.user.clone(),
            })
        });
        known.take(MAX_YOUNG)
    }

    /// Takes up what an agent before this one left: forks that it had not told, and
    /// processes that it saw start.
    pub fn restore(&mut self, waiting: Vec<WaitingFork>, young: Vec<YoungProcess>) {
        for process in young {
            let image = Image {
                executable: process.executable,
                command_line: process.command_line,
                user: process.user,
                ..Image::default()
            };
            let (parent, image) = (process.parent, Arc::new(image));
            self.insert(process.key, Entry { provisional: true, ..Entry::new(parent, image) });
        }
        for WaitingFork { fork, at_ns } in waiting {
            self.forked(at_ns, fork, &mut Vec::new());
        }
    }

    /// The process is to be ended for that detection: what it forks from now on is no way out.
    pub fn condemn(&mut self, key: ProcessKey, detection: DetectionId) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.condemned_by = Some(detection);
        }
    }

    /// The process, alive or lately ended.
    pub fn entry(&self, key: ProcessKey) -> Option<&Entry> {
        self.entries.get(&key)
    }

    /// The life that this PID has now, as far as the stream has come.
    pub fn living(&self, pid: u32) -> Option<ProcessKey> {
        self.live.get(&pid).copied()
    }

    /// The life that this PID had then: also one that has ended since, and not one
    /// that began later. Who wrote a file is often gone before the event is read.
    pub fn life_at(&self, pid: u32, at_ns: u64) -> Option<ProcessKey> {
        let began = |key: &&ProcessKey| key.start_ns <= at_ns.saturating_add(TIME_BLUR_NS);
        let living = self.live.get(&pid).filter(|key| key.start_ns <= at_ns);
        let last = self.last_life.get(&pid).filter(began);
        living.or(last).or_else(|| self.live.get(&pid).filter(began)).copied()
    }

    /// The process's ancestors as far as they are known, nearest first.
    pub fn ancestors(&self, key: ProcessKey) -> impl Iterator<Item = (ProcessKey, &Entry)> {
        let parent_of = |key| self.entries.get(&key).and_then(|entry: &Entry| entry.parent);
        // A chain can't be longer than the table, unless the table is wrong.
        std::iter::successors(parent_of(key), move |key| parent_of(*key))
            .take(64)
            .map_while(|key| Some((key, self.entries.get(&key)?)))
    }

    /// Who came of whom, kept up to date from now on.
    pub fn keep_lineage(&mut self) -> Arc<Lineage> {
        let lineage = Arc::clone(self.lineage.get_or_insert_default());
        self.entries.keys().for_each(|key| self.tell_lineage(*key));
        lineage
    }

    /// How many live processes are known.
    pub fn live(&self) -> usize {
        self.live.len()
    }

    /// Forgets live processes that are not there any more, whose exits were lost.
    pub fn sweep(&mut self, now_ns: u64, is_alive: impl Fn(u32) -> bool) {
        let gone: Vec<ProcessKey> = self.live.values().filter(|key| !is_alive(key.pid)).copied().collect();
        for key in gone {
            self.mark_ended(now_ns, key);
        }
    }

    fn existing(&mut self, observed: ObservedImage, images: &mut Images) {
        let (key, parent) = (observed.key(), observed.parent_key());
        // The stream may have told of it before the snapshot did; a later exec says more.
        let told = self
            .entries
            .get(&key)
            .is_some_and(|entry| entry.image.is_known() && entry.waiting.is_none() && !entry.provisional);
        if told {
            return;
        }
        let image = images.take(observed);
        match self.entries.get_mut(&key) {
            Some(entry) => {
                entry.image = image;
                entry.provisional = false;
                entry.parent = entry.parent.or(parent);
                self.tell_lineage(key);
            }
            None => {
                self.insert(key, Entry::new(parent, image));
            }
        }
    }

    fn forked(&mut self, at_ns: u64, fork: ObservedFork, steps: &mut Vec<Life>) {
        let image = match self.entries.get(&fork.parent) {
            Some(parent) => Arc::clone(&parent.image),
            None => Image::unknown(),
        };
        let parent = Some(fork.parent).filter(|parent| parent.pid != 0);
        match self.entries.get_mut(&fork.child) {
            // The snapshot saw the child before the stream told of its fork.
            Some(entry) => {
                entry.waiting = Some(at_ns);
                entry.parent = parent.or(entry.parent);
                self.tell_lineage(fork.child);
            }
            None => {
                self.insert(fork.child, Entry { waiting: Some(at_ns), ..Entry::new(parent, image) });
            }
        }
        if let Some(condemned_by) = self.entries.get(&fork.parent).and_then(|entry| entry.condemned_by) {
            self.condemn(fork.child, condemned_by);
            self.tell_fork(fork.child, steps);
            steps.push(Life::Fled { key: fork.child, condemned_by });
            return;
        }
        self.waiting.push_back((at_ns, fork.child));
        if self.waiting.len() > MAX_WAITING {
            self.tell_waiting(0, steps);
        }
    }

    fn executed(&mut self, observed: ObservedImage, images: &mut Images) {
        let (key, parent) = (observed.key(), observed.parent_key());
        let image = images.take(observed);
        match self.entries.get_mut(&key) {
            Some(entry) => {
                entry.image = image;
                entry.provisional = false;
                entry.waiting = None;
                // Another image is judged by itself.
                entry.condemned_by = None;
                entry.parent = entry.parent.or(parent);
                self.tell_lineage(key);
            }
            None => {
                self.insert(key, Entry::new(parent, image));
            }
        }
    }

    fn exited(&mut self, at_ns: u64, key: ProcessKey, wait_status: Option<u32>, steps: &mut Vec<Life>) {
        if !self.entries.contains_key(&key) {
            self.insert(key, Entry::new(None, Image::unknown()));
        }
        self.tell_fork(key, steps);
        steps.push(Life::Ended { key, at_ns, wait_status });
        self.mark_ended(at_ns, key);
    }

    fn tell_fork(&mut self, key: ProcessKey, steps: &mut Vec<Life>) {
        self.inherit(key);
        if let Some(at_ns) = self.entries.get_mut(&key).and_then(|entry| entry.waiting.take()) {
            steps.push(Life::Started { key, kind: StartKind::Fork, at_ns });
        }
    }

    /// A fork can be known before its parent: one that an agent before this one left waiting.
    fn inherit(&mut self, key: ProcessKey) {
        let Some(entry) = self.entries.get(&key).filter(|entry| !entry.image.is_known()) else { return };
        let parent = entry.parent.and_then(|parent| self.entries.get(&parent));
        let image = parent.map(|parent| Arc::clone(&parent.image));
        if let (Some(image), Some(entry)) = (image, self.entries.get_mut(&key)) {
            entry.image = image;
        }
    }

    fn insert(&mut self, key: ProcessKey, entry: Entry) {
        if let Some(before) = self.live.insert(key.pid, key).filter(|before| *before != key) {
            // The PID is in use again, so its last life is over, whatever was lost.
            self.mark_ended(key.start_ns, before);
            self.live.insert(key.pid, key);
        }
        self.entries.insert(key, entry);
        self.tell_lineage(key);
    }

    /// Its parent may have ended before anybody saw the child.
    fn tell_lineage(&self, key: ProcessKey) {
        let Some(lineage) = &self.lineage else { return };
        if self.entries.get(&key).is_none_or(|entry| entry.ended) {
            return;
        }
        let lives = |(_, entry): &(ProcessKey, &Entry)| !entry.ended;
        lineage.began(key, self.ancestors(key).find(lives).map(|(parent, _)| parent));
    }

    fn mark_ended(&mut self, at_ns: u64, key: ProcessKey) {
        if self.live.get(&key.pid) == Some(&key) {
            self.live.remove(&key.pid);
        }
        if let Some(entry) = self.entries.get_mut(&key).filter(|entry| !entry.ended) {
            entry.ended = true;
            if let Some(lineage) = &self.lineage {
                lineage.ended(key);
            }
            self.ended.push_back((at_ns, key));
            self.last_life.insert(key.pid, key);
        }
    }

    /// Lets go of processes that ended long ago. Also where nothing starts or ends for long, so that
    /// no PID is taken for a life that is over.
    pub fn forget(&mut self, now_ns: u64) {
        while let Some(&(at_ns, key)) = self.ended.front() {
            let stays = at_ns.saturating_add(ENDED_STAYS_NS) > now_ns && self.ended.len() <= MAX_ENDED;
            if stays {
                return;
            }
            self.ended.pop_front();
            if self.entries.get(&key).is_some_and(|entry| entry.ended) {
                self.entries.remove(&key);
                if self.last_life.get(&key.pid) == Some(&key) {
                    self.last_life.remove(&key.pid);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
