//! The watch itself: from what the kernel tells and scans find to events.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use event_model::{EventType, GapReason};
use sensor_api::{ObservationSender, ObservedLoss};

use super::live::{Change, Live, What};
use super::look::{link_target, look};
use super::scan::{Current, Scan, TURN};
use super::telling::{Actors, Difference, Known, differences, event, renamed};
use super::tree::{DirId, MOST_BYTES, MOST_NAMES, State, Tree, push_name};
use crate::boot_clock::Moment;
use crate::state_file;

/// A name is looked at once nothing has happened to it for so long, or at the latest
/// after the second figure: what belongs together is one event.
const SETTLED: Duration = Duration::from_millis(100);
const SETTLED_AT_LAST: Duration = Duration::from_secs(1);

/// Names that may wait; past that everything is scanned instead.
const MOST_WAITING: usize = 16_384;

/// Room in the agent's queue for all that is told of one name. Without it nothing is looked at: what is told without
/// room is lost, and the baseline must not know what nobody was told.
pub(super) const ROOM: usize = 32;

/// While there is no room, it is looked for this often.
const ROOM_LOOK: Duration = Duration::from_millis(5);

/// What was handed to the agent is in its spool after so long; only then may the
/// baseline on disk say that it is known.
const SPOOLED_AFTER: Duration = Duration::from_secs(3);
const KEEP_EVERY: Duration = Duration::from_secs(10);
const KEEP_AT_LAST: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Root {
    path: PathBuf,
    id: Option<DirId>,
    /// Its baseline is whole: what is new from now on is news.
    is_complete: bool,
    device: u64,
}

/// A name to which something happened.
#[derive(Debug)]
struct Waiting {
    known: Known,
    at_ns: u64,
    since: Instant,
    last: Instant,
    /// Its path before, if it was renamed.
    from: Option<Vec<u8>>,
}

pub(super) struct Watch {
    roots: Vec<Root>,
    tree: Tree,
    live: Option<Live>,
    scan: Scan,
    waiting: HashMap<(DirId, Vec<u8>), Waiting>,
    interval: Duration,
    next_scan: Instant,
    baseline: Option<PathBuf>,
    /// Nothing in it is watched: the agent writes there all the time.
    state_dir: Option<(u64, u64)>,
    changed: Option<Instant>,
    kept: Instant,
    opened: Option<(DirId, OwnedFd)>,
    told_full: bool,
    told_unwatched: bool,
}

impl Watch {
    pub(super) fn new(
        dirs: &[PathBuf],
        interval: Duration,
        state_dir: Option<&Path>,
        live: Option<Live>,
    ) -> Self {
        let baseline = state_dir.map(|dir| dir.join("integrity"));
        let tree = baseline.as_ref().and_then(|path| {
            let bytes = state_file::read(path, MOST_BYTES)?;
            let tree = Tree::decode(&bytes);
            if tree.is_none() {
                tracing::warn!(path = %path.display(), "the baseline of -dirs is damaged or of another version; it is made anew");
            }
            tree
        });
        let mut paths: Vec<PathBuf> =
            dirs.iter().map(|dir| fs::canonicalize(dir).unwrap_or_else(|_| dir.clone())).collect();
        paths.sort();
        // What lies in another one is watched with it.
        paths.dedup_by(|inner, outer| inner.starts_with(outer));
        let mut watch = Self {
            roots: Vec::new(),
            tree: tree.unwrap_or_default(),
            live,
            scan: Scan::default(),
            waiting: HashMap::new(),
            interval,
            next_scan: Instant::now(),
            baseline,
            state_dir: state_dir.and_then(|dir| fs::metadata(dir).ok()).map(|dir| (dir.dev(), dir.ino())),
            changed: None,
            kept: Instant::now(),
            opened: None,
            told_full: false,
            told_unwatched: false,
        };
        let known: Vec<(DirId, Vec<u8>)> = watch.tree.roots().map(|(id, path)| (id, path.to_vec())).collect();
        for path in paths {
            let id = known.iter().find(|(_, known)| known == path.as_os_str().as_bytes()).map(|(id, _)| *id);
            watch.roots.push(Root { path, id, is_complete: id.is_some(), device: 0 });
        }
        for (id, _) in known {
            if !watch.roots.iter().any(|root| root.id == Some(id)) {
                watch.tree.remove_root(id);
            }
        }
        watch
    }

    pub(super) fn live(&self) -> Option<BorrowedFd<'_>> {
        self.live.as_ref().map(AsFd::as_fd)
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Until the next scan, or until the baseline is to be kept.
    pub(super) fn idle_for(&self) -> Duration {
        let scan = self.next_scan.saturating_duration_since(Instant::now());
        if self.changed.is_some() { scan.min(Duration::from_secs(1)) } else { scan }
    }

    /// Takes what the kernel tells; true if there was anything. Without room it stays with the kernel.
    pub(super) fn take_live(&mut self, sender: &ObservationSender) -> bool {
        if !sender.has_room(ROOM) {
            return false;
        }
        let Some(live) = &mut self.live else { return false };
        let mut changes = Vec::new();
        let read = live.read(&mut |change| changes.push(change));
        if let Err(error) = read {
            tracing::warn!(%error, "the watched directories are not told of any more; scans go on");
            self.live = None;
        }
        let moment = Moment::now();
        let any = !changes.is_empty();
        for change in changes {
            self.take(change, moment, sender);
        }
        any
    }

    fn take(&mut self, change: Change, moment: Moment, sender: &ObservationSender) {
        match change {
            Change::Overflow => {
                sender.lost(ObservedLoss {
                    reason: GapReason::QueueFull,
                    what: EventType::FileModify.as_str(),
                    count: None,
                    from_ns: moment.boot_ns,
                    until_ns: moment.boot_ns,
                });
                self.next_scan = Instant::now();
            }
            Change::Name { dir, name, what, pid } => {
                self.wait_for(dir, name, what, Actors::of(what, pid), moment, None);
            }
            Change::Rename { from: None, to: Some((dir, name)), pid } => {
                let what = What { made: true, ..What::default() };
                self.wait_for(dir, name, what, Actors::of(what, pid), moment, None);
            }
            Change::Rename { from: Some((dir, name)), to: None, pid } => {
                let what = What { removed: true, ..What::default() };
                self.wait_for(dir, name, what, Actors::of(what, pid), moment, None);
            }
            Change::Rename { from: Some(from), to: Some(to), pid } => {
                self.rename(from, to, pid, moment, sender)
            }
            Change::Rename { from: None, to: None, .. } => {}
        }
    }

    fn wait_for(
        &mut self,
        dir: DirId,
        name: Vec<u8>,
        what: What,
        by: Actors,
        moment: Moment,
        from: Option<Vec<u8>>,
    ) {
        if self.waiting.len() >= MOST_WAITING {
            self.next_scan = Instant::now();
            return;
        }
        let now = Instant::now();
        match self.waiting.entry((dir, name)) {
            Entry::Occupied(mut entry) => {
                let waiting = entry.get_mut();
                // One session of writing after another counts; what else belongs to one does not.
                waiting.known.count += u32::from(what.written && waiting.known.what.written);
                waiting.known.what = waiting.known.what.and(what);
                waiting.known.by = waiting.known.by.then(by);
                waiting.last = now;
                waiting.from = waiting.from.take().or(from);
            }
            Entry::Vacant(entry) => {
                let known = Known { what, by, count: 1, ..Known::default() };
                entry.insert(Waiting { known, at_ns: moment.boot_ns, since: now, last: now, from });
            }
        }
    }

    fn rename(
        &mut self,
        from: (DirId, Vec<u8>),
        to: (DirId, Vec<u8>),
        pid: Option<u32>,
        moment: Moment,
        sender: &ObservationSender,
    ) {
        if !self.tree.has(from.0) || !self.tree.has(to.0) {
            return;
        }
        let by = Actors::renamed(pid);
        let before = self.waiting.remove(&from);
        let mut from_path = self.tree.path(from.0);
        push_name(&mut from_path, &from.1);
        let is_dir = self.tree.get(from.0, &from.1).is_some_and(|node| node.dir.is_some());
        if is_dir && !sender.has_room(1) {
            self.next_scan = Instant::now();
            return;
        }
        if is_dir {
            // All below goes with it, so this can't wait.
            self.forget(to.0, &to.1);
            self.tree.rename((from.0, &from.1), (to.0, &to.1));
            self.opened = None;
            self.changed = Some(Instant::now());
            let mut path = self.tree.path(to.0);
            push_name(&mut path, &to.1);
            let known = Known { by, ..Known::default() };
            let state = self.tree.get(to.0, &to.1).map(|node| node.state);
            sender.send(moment.boot_ns, renamed(&from_path, &path, state.as_ref(), &known));
            return;
        }
        if let Some(before) = before.filter(|before| before.known.what.made) {
            // Made under a name that it had only for a moment.
            let known = Known { count: 1, ..before.known };
            for difference in differences(None, None, &known).into_iter().take(1) {
                sender.send(before.at_ns, event(&from_path, difference, None, None, None, &known));
            }
        }
        // What stood under the new name is still in the tree: the difference to it is told.
        let target_known = self.tree.get(to.0, &to.1).is_some();
        if target_known {
            self.forget(from.0, &from.1);
        } else {
            self.tree.rename((from.0, &from.1), (to.0, &to.1));
        }
        self.changed = Some(Instant::now());
        self.wait_for(to.0, to.1, What::default(), by, moment, Some(from_path));
    }

    /// Takes a name and what is below out of the tree without a word.
    fn forget(&mut self, dir: DirId, name: &[u8]) -> Vec<(Vec<u8>, State)> {
        let removed = self.tree.remove(dir, name);
        if removed.is_empty() {
            return Vec::new();
        }
        self.opened = None;
        self.changed = Some(Instant::now());
        let dirs: HashSet<DirId> = removed.iter().filter_map(|(_, node)| node.dir).collect();
        if !dirs.is_empty() {
            // Ids are given again, so nothing may be left that bears one of these.
            self.waiting.retain(|(dir, _), _| !dirs.contains(dir));
            self.scan.current.take_if(|current| dirs.contains(&current.dir));
            if let Some(live) = &mut self.live {
                dirs.iter().for_each(|dir| live.forget(*dir));
            }
        }
        removed.into_iter().map(|(path, node)| (path, node.state)).collect()
    }

    /// Looks at the names that have settled, and tells what became of them.
    pub(super) fn settle(&mut self, sender: &ObservationSender, all: bool) {
        let now = Instant::now();
        let is_due = |waiting: &Waiting| {
            // A new directory has to be watched before much happens in it.
            let is_urgent = waiting.known.what.made && waiting.known.what.is_dir;
            all || is_urgent
                || now.duration_since(waiting.last) >= SETTLED
                || now.duration_since(waiting.since) >= SETTLED_AT_LAST
        };
        let mut due: Vec<((DirId, Vec<u8>), Waiting)> =
            self.waiting.extract_if(|_, waiting| is_due(waiting)).collect();
        due.sort_by_key(|(_, waiting)| waiting.since);
        for ((dir, name), waiting) in due {
            if !sender.has_room(ROOM) {
                if self.tree.has(dir) {
                    self.waiting.entry((dir, name)).or_insert(waiting);
                }
                continue;
            }
            let fd = match self.opened.take() {
                Some((opened, fd)) if opened == dir => Ok(fd),
                _ => self.tree.open(dir),
            };
            let fd = match fd {
                Ok(fd) => Some(fd),
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
                {
                    None
                }
                Err(_) => continue,
            };
            let new_dir = self.compare(dir, fd.as_ref(), &name, waiting, sender);
            new_dir.into_iter().for_each(|dir| self.scan.add(dir));
            self.opened = fd.filter(|_| self.tree.has(dir)).map(|fd| (dir, fd));
        }
        self.opened = None;
    }

    /// Tells the difference between what is known of a name and what is there.
    /// A directory that is new to it is given back.
    fn compare(
        &mut self,
        dir: DirId,
        fd: Option<&OwnedFd>,
        name: &[u8],
        waiting: Waiting,
        sender: &ObservationSender,
    ) -> Option<DirId> {
        if !self.tree.has(dir) {
            return None;
        }
        let root_id = self.tree.root_of(dir);
        let root = self.roots.iter().find(|root| root.id == Some(root_id));
        let (is_complete, device) = root.map(|root| (root.is_complete, root.device))?;
        let Waiting { mut known, at_ns, from, .. } = waiting;
        let old = self.tree.get(dir, name).map(|node| node.state);
        let new = match fd.map(|fd| look(fd.as_fd(), name, old.as_ref(), known.what.written)) {
            None => None,
            Some(Ok(new)) => new,
            // It can't even be looked at (a dead mount, a broken disk): nothing is known of it.
            Some(Err(_)) => return None,
        };
        let elsewhere = |state: &State| {
            state.is_dir() && (state.device != device || Some((state.device, state.inode)) == self.state_dir)
        };
        if new.as_ref().is_some_and(elsewhere) {
            return None;
        }
        known.no_before = !is_complete && old.is_none();
        let is_news = !(known.by_scan && known.no_before);
        let mut path = self.tree.path(dir);
        push_name(&mut path, name);
        if let Some(from) = &from {
            sender.send(at_ns, renamed(from, &path, new.as_ref(), &known));
        }
        let target = fd.zip(new.as_ref()).filter(|(_, state)| state.kind() == libc::S_IFLNK);
        let target = target.and_then(|(fd, _)| link_target(fd, name));
        let replaced = old.zip(new).is_some_and(|(old, new)| old.kind() != new.kind());
        if old.is_some() && (new.is_none() || replaced) {
            // With a directory all below it is gone.
            for (path, state) in self.forget(dir, name) {
                sender.send(at_ns, event(&path, Difference::Deleted, Some(&state), None, None, &known));
            }
        }
        if is_news {
            for difference in differences(old.as_ref(), new.as_ref(), &known) {
                let is_told = match difference {
                    Difference::Deleted => old.is_some(),
                    Difference::Created | Difference::ExtendedAttribute => from.is_some(),
                    _ => false,
                };
                if !is_told {
                    let told =
                        event(&path, difference, old.as_ref(), new.as_ref(), target.as_deref(), &known);
                    sender.send(at_ns, told);
                }
            }
        }
        let new = new?;
        if old == Some(new) {
            return None;
        }
        self.changed = Some(Instant::now());
        let known_dir = self.tree.get(dir, name).and_then(|node| node.dir);
        let new_dir = self.tree.put(dir, name, new);
        if self.tree.is_full() && !self.told_full {
            self.told_full = true;
            tracing::warn!("-dirs has more than {MOST_NAMES} names; what is beyond is not watched");
        }
        new_dir.filter(|_| known_dir.is_none())
    }

    /// Goes on with the scan, or begins one that is due. How long to rest before the
    /// next turn; `None` where no scan is under way.
    pub(super) fn scan(&mut self, sender: &ObservationSender) -> Option<Duration> {
        if Instant::now() >= self.next_scan && !self.scan.is_full {
            self.begin_scan();
        }
        if !self.scan.is_active() {
            // Where no directory is there yet, a scan ends as it begins.
            self.end_scan();
            return None;
        }
        if let Some(rest) = self.scan.rest() {
            return Some(rest);
        }
        if !sender.has_room(ROOM) {
            return Some(ROOM_LOOK);
        }
        let (begun, begun_cpu) = (Instant::now(), cpu_time());
        while begun.elapsed() < TURN && sender.has_room(ROOM) && self.scan_step(sender) {}
        self.scan.did(cpu_time().saturating_sub(begun_cpu));
        if !self.scan.is_active() {
            self.end_scan();
            return None;
        }
        Some(self.scan.rest().unwrap_or_default())
    }

    fn begin_scan(&mut self) {
        self.scan.is_full = true;
        for root in &mut self.roots {
            let Ok(status) = fs::metadata(&root.path) else {
                // If it was there, all in it is gone.
                root.id.into_iter().for_each(|id| self.scan.add(id));
                continue;
            };
            if status.is_dir() {
                root.device = status.dev();
                let id = *root.id.get_or_insert_with(|| self.tree.add_root(root.path.as_os_str().as_bytes()));
                self.scan.add(id);
            }
        }
    }

    fn end_scan(&mut self) {
        if !std::mem::take(&mut self.scan.is_full) {
            return;
        }
        self.next_scan = Instant::now() + self.interval;
        for root in self.roots.iter_mut().filter(|root| root.id.is_some() && !root.is_complete) {
            root.is_complete = true;
            self.changed = Some(Instant::now());
        }
    }

    /// One name, or the next directory. False if there is nothing left.
    fn scan_step(&mut self, sender: &ObservationSender) -> bool {
        let Some(mut current) = self.scan.current.take() else {
            return self.scan_next_dir();
        };
        let (dir, Some(name)) = (current.dir, current.next()) else { return true };
        // What is waiting is looked at when it has settled, and says more then.
        if !self.waiting.contains_key(&(dir, name.clone())) {
            let now = Instant::now();
            let known = Known { by_scan: true, count: 1, ..Known::default() };
            let waiting = Waiting { known, at_ns: Moment::now().boot_ns, since: now, last: now, from: None };
            let new_dir = self.compare(dir, current.fd.as_ref(), &name, waiting, sender);
            let below =
                if self.scan.is_full { self.tree.get(dir, &name).and_then(|node| node.dir) } else { new_dir };
            below.into_iter().for_each(|dir| self.scan.add(dir));
        }
        self.scan.current = Some(current);
        true
    }

    fn scan_next_dir(&mut self) -> bool {
        let Some(dir) = self.scan.next_dir() else { return false };
        if !self.tree.has(dir) {
            return true;
        }
        let fd = match self.tree.open(dir) {
            Ok(fd) => Some(fd),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(_) => return true,
        };
        // First the watch, then the list: what comes in between is in one of them.
        if let (Some(fd), Some(live)) = (&fd, &mut self.live)
            && let Err(error) = live.watch(fd.as_fd(), dir)
            && !std::mem::replace(&mut self.told_unwatched, true)
        {
            let path = String::from_utf8_lossy(&self.tree.path(dir)).into_owned();
            tracing::warn!(%error, path, "a directory of -dirs is not told of live, only scanned");
        }
        self.scan.current = Some(Current::new(dir, fd, self.tree.names(dir)));
        true
    }

    /// Writes the baseline down, not too often, and only what is surely told.
    pub(super) fn keep(&mut self, at_once: bool) {
        let (Some(path), Some(changed)) = (&self.baseline, self.changed) else { return };
        let kept = self.kept.elapsed();
        // A hundred bytes a name: a large baseline is written less often.
        let every = KEEP_EVERY.max(Duration::from_millis(self.tree.len() as u64));
        let is_quiet = changed.elapsed() >= SPOOLED_AFTER && kept >= every;
        if !(at_once || is_quiet || kept >= KEEP_AT_LAST.max(every)) {
            return;
        }
        let complete: Vec<DirId> =
            self.roots.iter().filter(|root| root.is_complete).filter_map(|root| root.id).collect();
        let bytes = self.tree.encode(|id| complete.contains(&id));
        (self.kept, self.changed) = (Instant::now(), None);
        if let Err(error) = state_file::write(path, &bytes) {
            tracing::warn!(%error, path = %path.display(), "the baseline of -dirs can't be written; changes may be told again");
        }
    }
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let nanos =
        u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0);
    Duration::from_nanos(nanos)
}

#[cfg(test)]
mod tests;
