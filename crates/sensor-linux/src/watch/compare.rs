//! What is known of all places, and what became different.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::baseline::{Baseline, Kept};
use super::inotify::{Notices, Watches};
use super::known::{Identity, Known, Source};
use super::mounts::RemoteMounts;
use super::places::{Kind, PLACES, Place};
use super::secrets::HostKey;
use super::walk::{Found, Spot, Walk};
use crate::ebpf::now_ns;

/// Texts that are held in memory, all files together. Past it a file's text is not
/// kept, and its next change is told without what stood there before.
const MOST_HELD: usize = 32 << 20;

/// Files that are known, all places together.
const MOST_FILES: usize = 100_000;

/// Bytes read in one round; the rest waits for the next.
const READ_IN_A_ROUND: u64 = 16 << 20;

/// Homes outside of /home that are watched.
const MOST_HOMES: usize = 256;

/// So long after the last notice of a place it is compared, so that writing in
/// several steps makes one change …
pub(super) const QUIET: Duration = Duration::from_millis(100);

/// … but not later than this after the first.
const PATIENCE: Duration = Duration::from_secs(1);

/// An empty file is believed so long after its last change: whoever writes in place
/// empties first and fills then.
const EMPTY_FOR: Duration = Duration::from_millis(500);

/// Account files wait so long for the tool that holds their locks.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);

/// The locks of shadow-utils, there while a tool changes several files in turn.
const ACCOUNT_LOCKS: [&str; 4] = ["passwd.lock", "shadow.lock", "group.lock", "gshadow.lock"];

/// One file that is not as it was.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) kind: Kind,
    pub(super) path: Vec<u8>,
    /// `None` if it was not there.
    pub(super) old: Option<Known>,
    /// `None` if it is gone.
    pub(super) new: Option<Known>,
    /// Time of the last notice, in nanoseconds since boot.
    pub(super) at_ns: u64,
}

#[derive(Debug, Clone, Copy)]
struct Touched {
    first: Instant,
    due: Instant,
    last_ns: u64,
}

#[derive(Debug)]
struct Watched {
    spot: Spot,
    files: BTreeMap<Vec<u8>, Known>,
    touched: Option<Touched>,
}

/// Whether a comparison finds what is, or what became different.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Round {
    /// The first one without a baseline: what is there is as it should be.
    Learn,
    /// The first one with a baseline: all files are compared with it.
    Return,
    /// Files are compared with what is known.
    Watch,
}

/// All places, with what is known of their files.
#[derive(Debug)]
pub(super) struct Comparison {
    root: PathBuf,
    key: HostKey,
    watches: Watches,
    places: Vec<Option<Watched>>,
    held: usize,
    files: usize,
    /// What is known is not what was last kept.
    unkept: bool,
    warned: bool,
}

impl Comparison {
    /// Watches nothing yet.
    pub(super) fn new(root: &Path, key: HostKey, watches: Watches) -> Self {
        // Real, so that the real paths of directories begin with it.
        let root = std::fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
        Self { root, key, watches, places: Vec::new(), held: 0, files: 0, unkept: false, warned: false }
    }

    pub(super) fn watches(&self) -> &Watches {
        &self.watches
    }

    pub(super) fn key(&self) -> &HostKey {
        &self.key
    }

    /// Whether anything else is known than at the last time this was asked.
    pub(super) fn take_unkept(&mut self) -> bool {
        std::mem::take(&mut self.unkept)
    }

    /// Every known file.
    pub(super) fn known(&self) -> impl Iterator<Item = (&[u8], Kind, &Known)> {
        self.places.iter().flatten().flat_map(|watched| {
            let kind = watched.spot.place.kind;
            watched.files.iter().map(move |(path, known)| (path.as_slice(), kind, known))
        })
    }

    /// What is known of a file of a kind.
    pub(super) fn file(&self, kind: Kind, path: &[u8]) -> Option<&Known> {
        let of_kind = self.places.iter().flatten().filter(|watched| watched.spot.place.kind == kind);
        of_kind.into_iter().find_map(|watched| watched.files.get(path))
    }

    /// The first comparison: finds every place, and returns what differs from the
    /// baseline of the run before, if there is one.
    pub(super) fn first(&mut self, baseline: Option<Baseline>, now_ns: u64) -> Vec<Change> {
        let (round, mut baseline) = match baseline {
            None => (Round::Learn, Baseline::new()),
            Some(baseline) => (Round::Return, baseline),
        };
        for place in PLACES.iter().filter(|place| !place.dir.starts_with('~')) {
            self.add(spot(*place, None));
        }
        debug_assert_eq!(self.kind(0), Some(Kind::AccountFile));
        let mut changes = Vec::new();
        let mounts = RemoteMounts::read();
        let mut at = 0;
        loop {
            // Account files come first and say where homes are.
            if at == 1 {
                self.find_homes();
            }
            if at >= self.places.len() {
                break;
            }
            let mut no_bound = u64::MAX;
            self.compare(at, round, now_ns, &mounts, &mut no_bound, &mut baseline, &mut changes);
            at += 1;
        }
        self.unkept |= !baseline.is_empty();
        // What was not met again. A file that is there but no longer watched says nothing.
        for (path, Kept { kind, known }) in baseline {
            let gone = match std::fs::symlink_metadata(self.real(&path)) {
                Ok(now) => now.is_dir(),
                Err(error) => {
                    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
                }
            };
            if gone {
                changes.push(Change { kind, path, old: Some(known), new: None, at_ns: now_ns });
            }
        }
        changes
    }

    /// Takes note of what the kernel tells.
    pub(super) fn read_notices(&mut self, now: Instant, now_ns: u64) -> bool {
        let Notices { touched, overflowed } = self.watches.read();
        for index in touched {
            self.touch(index, now, now_ns);
        }
        if overflowed {
            self.touch_all(now, now_ns);
        }
        overflowed
    }

    /// Has everything compared at the next round.
    pub(super) fn touch_all(&mut self, now: Instant, now_ns: u64) {
        for index in 0..self.places.len() {
            self.touch(index, now, now_ns);
        }
    }

    fn touch(&mut self, index: usize, now: Instant, now_ns: u64) {
        let Some(Some(watched)) = self.places.get_mut(index) else { return };
        let first = watched.touched.map_or(now, |touched| touched.first);
        watched.touched = Some(Touched { first, due: (now + QUIET).min(first + PATIENCE), last_ns: now_ns });
    }

    /// When the next place is to be compared.
    pub(super) fn due(&self) -> Option<Instant> {
        self.places.iter().flatten().filter_map(|watched| watched.touched).map(|touched| touched.due).min()
    }

    /// Compares what is due.
    pub(super) fn compare_due(&mut self, now: Instant) -> Vec<Change> {
        let mut due_now: Vec<(usize, Touched)> = Vec::new();
        for (index, watched) in self.places.iter().enumerate() {
            if let Some(touched) = watched.as_ref().and_then(|watched| watched.touched)
                && touched.due <= now
            {
                due_now.push((index, touched));
            }
        }
        let account = |index: usize| self.kind(index) == Some(Kind::AccountFile);
        if let Some(at) = due_now.iter().position(|(index, _)| account(*index))
            && now < due_now[at].1.first + LOCK_PATIENCE
            && ACCOUNT_LOCKS.iter().any(|lock| self.real(b"/etc").join(lock).exists())
        {
            let (index, _) = due_now.remove(at);
            if let Some(Some(Watched { touched: Some(touched), .. })) = self.places.get_mut(index) {
                touched.due = now + QUIET;
            }
        }
        let mut changes = Vec::new();
        let mut bound = READ_IN_A_ROUND;
        let mounts = RemoteMounts::read();
        for (index, touched) in due_now {
            if let Some(Some(watched)) = self.places.get_mut(index) {
                watched.touched = None;
            }
            let mut nothing = Baseline::new();
            let at_ns = touched.last_ns;
            let finished =
                self.compare(index, Round::Watch, at_ns, &mounts, &mut bound, &mut nothing, &mut changes);
            if !finished && let Some(Some(watched)) = self.places.get_mut(index) {
                watched.touched = Some(Touched { due: now + QUIET, ..touched });
            }
        }
        if changes.iter().any(|change| change.path == b"/etc/passwd") {
            self.change_homes(&mounts, &mut changes);
        }
        changes
    }

    fn kind(&self, index: usize) -> Option<Kind> {
        self.places.get(index)?.as_ref().map(|watched| watched.spot.place.kind)
    }

    fn real(&self, path: &[u8]) -> PathBuf {
        self.root.join(std::ffi::OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(path)))
    }

    fn add(&mut self, spot: Spot) -> usize {
        let watched = Some(Watched { spot, files: BTreeMap::new(), touched: None });
        if let Some(free) = self.places.iter().position(Option::is_none) {
            self.places[free] = watched;
            return free;
        }
        self.places.push(watched);
        self.places.len() - 1
    }

    /// Compares one place with what is known of it, at its first time from `baseline`.
    /// False if the bound on bytes did not suffice.
    #[expect(clippy::too_many_arguments, reason = "a round's state, which belongs to the round alone")]
    fn compare(
        &mut self,
        index: usize,
        round: Round,
        at_ns: u64,
        mounts: &RemoteMounts,
        bound: &mut u64,
        baseline: &mut Baseline,
        changes: &mut Vec<Change>,
    ) -> bool {
        let Some(mut watched) = self.places.get_mut(index).and_then(Option::take) else { return true };
        let kind = watched.spot.place.kind;
        let mut before = std::mem::take(&mut watched.files);
        let mut after: BTreeMap<Vec<u8>, Known> = BTreeMap::new();
        let mut finished = true;
        let mut too_many = false;
        let (key, held, files, unkept) = (&self.key, &mut self.held, &mut self.files, &mut self.unkept);
        let mut on_file = |found: &Found<'_>| {
            let old = before.remove(found.path).or_else(|| {
                let kept = baseline.get(found.path).filter(|kept| kept.kind == kind).is_some();
                let kept = kept.then(|| baseline.remove(found.path)).flatten()?;
                *held += kept.known.held();
                *files += 1;
                Some(kept.known)
            });
            let identity = Identity::of(&found.stat);
            if let Some(old) = old.as_ref().filter(|old| old.identity == identity) {
                after.insert(found.path.to_vec(), old.clone());
                return;
            }
            if round == Round::Watch && identity.size == 0 && is_just_emptied(&found.stat) {
                finished = false;
                if let Some(old) = old {
                    after.insert(found.path.to_vec(), old);
                }
                return;
            }
            if old.is_none() && *files >= MOST_FILES {
                too_many = true;
                return;
            }
            // A comparison that has run out of bytes leaves the file as it is known.
            if *bound == 0 {
                finished = false;
                if let Some(old) = old {
                    after.insert(found.path.to_vec(), old);
                }
                return;
            }
            *unkept = true;
            *bound = bound.saturating_sub(identity.size.min(64 << 20));
            let source = Source {
                dir: found.dir,
                name: found.name,
                stat: found.stat,
                kind,
                home_owner: found.home_owner,
            };
            let Some(mut new) = source.read(key, round != Round::Learn) else {
                // Gone since it was listed: what follows below tells it.
                if let Some(old) = old {
                    before.insert(found.path.to_vec(), old);
                }
                return;
            };
            *held = held.saturating_sub(old.as_ref().map_or(0, Known::held));
            let mut kept = new.clone();
            if *held + kept.held() > MOST_HELD {
                kept.give_up_text();
            }
            *held += kept.held();
            *files += usize::from(old.is_none());
            let same = old.as_ref().is_some_and(|old| old.same_content(&new) && old.same_access(&new));
            if same {
                // A hash that was made before is still right.
                new.sha256 = new.sha256.or(old.as_ref().and_then(|old| old.sha256));
                kept.sha256 = new.sha256;
            } else if round != Round::Learn {
                changes.push(Change { kind, path: found.path.to_vec(), old, new: Some(new), at_ns });
            }
            after.insert(found.path.to_vec(), kept);
        };
        let mut walk = Walk {
            root: &self.root,
            mounts,
            watches: &mut self.watches,
            index,
            spot: &watched.spot,
            on_file: &mut on_file,
            doubtful: false,
        };
        walk.run();
        let doubtful = walk.doubtful;
        if (doubtful || too_many) && !std::mem::replace(&mut self.warned, true) {
            tracing::warn!(
                place = watched.spot.place.dir,
                "not all watched files can be looked at: too many of them, or the system refuses"
            );
        }
        for (path, known) in before {
            if doubtful {
                after.insert(path, known);
                continue;
            }
            self.unkept = true;
            self.held = self.held.saturating_sub(known.held());
            self.files = self.files.saturating_sub(1);
            changes.push(Change { kind, path, old: Some(known), new: None, at_ns });
        }
        watched.files = after;
        self.places[index] = Some(watched);
        finished
    }

    /// Homes outside of /home, which is a place by itself, as passwd names them.
    fn homes(&self) -> Vec<Vec<Vec<u8>>> {
        let passwd = self.file(Kind::AccountFile, b"/etc/passwd").and_then(Known::text).unwrap_or_default();
        let mut homes = vec![vec![b"home".to_vec(), b"*".to_vec()], vec![b"root".to_vec()]];
        for line in passwd.split(|byte| *byte == b'\n') {
            let Some(home) = line.split(|byte| *byte == b':').nth(5).filter(|home| home.starts_with(b"/"))
            else {
                continue;
            };
            let steps: Vec<Vec<u8>> = home
                .split(|byte| *byte == b'/')
                .filter(|part| !part.is_empty())
                .map(<[u8]>::to_vec)
                .collect();
            let odd = steps.iter().any(|part| part == b".." || part == b"." || part.contains(&b'*'));
            let under_home = steps.len() == 2 && steps[0] == b"home";
            if !odd && !under_home && !homes.contains(&steps) && homes.len() < MOST_HOMES {
                homes.push(steps);
            }
        }
        homes
    }

    fn home_spots(&self) -> Vec<Spot> {
        let homes = self.homes();
        let rows = PLACES.iter().filter(|place| place.dir.starts_with('~'));
        rows.flat_map(|place| homes.iter().map(|home| spot(*place, Some(home)))).collect()
    }

    fn find_homes(&mut self) {
        for spot in self.home_spots() {
            self.add(spot);
        }
    }

    /// Follows passwd: new homes are watched, and those that nobody has any more are left.
    fn change_homes(&mut self, mounts: &RemoteMounts, changes: &mut Vec<Change>) {
        let mut wanted: HashMap<(&str, Vec<Vec<u8>>), Spot> = HashMap::new();
        for spot in self.home_spots() {
            wanted.insert((spot.place.kind.word(), spot.steps.clone()), spot);
        }
        let at_ns = now_ns();
        let mut no_bound = u64::MAX;
        let mut nothing = Baseline::new();
        for index in 0..self.places.len() {
            let Some(watched) = self.places[index].as_ref() else { continue };
            let spot = &watched.spot;
            let id = (spot.place.kind.word(), spot.steps.clone());
            if spot.home_steps.is_none() || wanted.remove(&id).is_some() {
                continue;
            }
            // What went with the account is told before it is forgotten.
            self.compare(index, Round::Watch, at_ns, mounts, &mut no_bound, &mut nothing, changes);
            if let Some(watched) = self.places[index].take() {
                self.unkept = true;
                self.files = self.files.saturating_sub(watched.files.len());
                self.held = self.held.saturating_sub(watched.files.values().map(Known::held).sum());
            }
            self.watches.begin(index);
            self.watches.end();
        }
        // What stands in the home of a new account came with it.
        for (_, spot) in wanted {
            let index = self.add(spot);
            self.compare(index, Round::Watch, at_ns, mounts, &mut no_bound, &mut nothing, changes);
        }
    }
}

/// Whether a regular file was changed a moment ago, by the wall clock that its times come from.
fn is_just_emptied(stat: &rustix::fs::Stat) -> bool {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let now_ns = now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec);
    let age_ns = now_ns.saturating_sub(Identity::of(stat).changed_ns);
    let regular = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile;
    // A file from the future tells nothing of its age.
    regular && u64::try_from(age_ns).is_ok_and(|age| Duration::from_nanos(age) < EMPTY_FOR)
}

/// A row of the table with its home filled in.
fn spot(place: Place, home: Option<&Vec<Vec<u8>>>) -> Spot {
    let parts = place.dir.split('/').filter(|part| !part.is_empty() && *part != "~");
    let steps = home.into_iter().flatten().cloned().chain(parts.map(|part| part.as_bytes().to_vec()));
    Spot { place, steps: steps.collect(), home_steps: home.map(Vec::len) }
}

#[cfg(test)]
mod tests;
