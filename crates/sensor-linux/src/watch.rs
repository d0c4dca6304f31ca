//! Watched files: accounts, scheduled tasks, services, everything else from which
//! things are started by themselves, and the kernel's modules.
//!
//! The table of [places] says which files. The kernel gives notice of changes
//! in their directories ([inotify]); a moment later the files are [compared](compare)
//! with what is known of them, and what differs is told as typed events with what stood
//! there before. Notices only say where to look: what is told comes from the comparison,
//! so a lost notice costs time, not truth, and the same comparison, with a
//! [kept baseline](baseline), tells what was changed while no agent was there.
//!
//! inotify does not say who did it; the events have no actor.

mod accounts;
mod baseline;
mod compare;
mod inotify;
mod known;
mod lines;
pub(crate) mod mounts;
mod pattern;
mod persistence;
mod places;
mod secrets;
mod tasks;
mod telling;
mod units;
mod walk;

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use event_model::{EventType, Field, GapReason, Value};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sensor_api::{ObservationSender, ObservedLoss, Provision, Source, StopSignal};

use crate::SourceOptions;
use crate::ebpf::now_ns;
use baseline::Loaded;
use compare::{Change, Comparison};
use inotify::Watches;
use known::Known;
use places::Kind;
use telling::Told;

/// Its name in events and messages.
const NAME: &str = "file_watch";

/// Everything is compared so often even without a notice: a mount over a directory, writing through a
/// mapping of a file, and directories beyond the kernel's limit give none.
const COMPARE_ALL_EVERY: Duration = Duration::from_secs(300);

/// So long after a change the baseline is written. Later than the events are on disk: after a crash
/// in between they are told twice rather than never.
const SAVE_AFTER: Duration = Duration::from_secs(3);

/// A comparison is followed by a pause of so many times its length: at most a twentieth of a core.
const PAUSE: u32 = 19;

/// And by no longer one than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Notices are not read more often than this: the kernel puts equal ones together meanwhile,
/// and somebody who writes much in a home costs little.
const READ_EVERY: Duration = Duration::from_millis(20);

/// What an event says that was found at the start.
const WHILE_AWAY: &str = "changed while the agent was not running";

/// The source of these events.
#[derive(Debug)]
pub(crate) struct FileWatch {
    root: PathBuf,
    state_dir: Option<PathBuf>,
    /// `Err` says why there are none.
    watches: Result<Option<Watches>, String>,
}

impl FileWatch {
    pub(crate) fn new(options: &SourceOptions) -> Self {
        Self {
            root: options.root.clone(),
            state_dir: options.state_dir.clone(),
            watches: Watches::new().map(Some).map_err(|error| {
                format!("inotify: {error}; hint: raise sysctl fs.inotify.max_user_instances")
            }),
        }
    }
}

/// The types of events that it makes.
const PROVIDES: [EventType; 9] = [
    EventType::AccountCreate,
    EventType::AccountModify,
    EventType::AccountDelete,
    EventType::ScheduledTask,
    EventType::Service,
    EventType::Persistence,
    EventType::FileCreate,
    EventType::FileModify,
    EventType::FileDelete,
];

impl Source for FileWatch {
    fn name(&self) -> &'static str {
        NAME
    }

    fn provisions(&self) -> Vec<Provision> {
        let from = |event_type: &EventType| {
            let of_what = match event_type {
                EventType::AccountCreate | EventType::AccountModify | EventType::AccountDelete => {
                    "/etc/passwd, shadow, group, gshadow"
                }
                EventType::ScheduledTask => "cron tables, at jobs, systemd timers",
                EventType::Service => "systemd units, init scripts",
                EventType::Persistence => "files from which things are started",
                _ => "kernel modules",
            };
            Provision {
                event_type: *event_type,
                source: format!("{NAME} (inotify: {of_what})"),
                missing: self.watches.as_ref().err().cloned(),
            }
        };
        PROVIDES.iter().map(from).collect()
    }

    fn run(&mut self, sender: &ObservationSender, stop: &StopSignal) {
        let watches = match &mut self.watches {
            Ok(watches) => watches.take(),
            Err(reason) => {
                tracing::error!(%reason, "accounts, tasks, services and persistence are not watched");
                None
            }
        };
        let Some(watches) = watches else { return };
        match Running::start(&self.root, self.state_dir.as_deref(), watches, sender) {
            Ok(mut running) => running.watch(stop),
            Err(error) => tracing::error!(
                %error,
                state = ?self.state_dir,
                "accounts, tasks, services and persistence are not watched: the key of this host can't be read or made"
            ),
        }
    }
}

/// The source at work.
struct Running<'a> {
    comparison: Comparison,
    state_dir: Option<&'a Path>,
    sender: &'a ObservationSender,
    /// When the baseline is to be written.
    save_at: Option<Instant>,
    save_failed: bool,
    pause_until: Instant,
    /// When notices may be read again.
    read_at: Instant,
    compare_all_at: Instant,
}

impl<'a> Running<'a> {
    fn start(
        root: &Path,
        state_dir: Option<&'a Path>,
        watches: Watches,
        sender: &'a ObservationSender,
    ) -> std::io::Result<Self> {
        let key = baseline::host_key(state_dir)?;
        let loaded = state_dir.map_or(Loaded::Nothing, |dir| baseline::load(dir, &key));
        let mut comparison = Comparison::new(root, key, watches);
        let at_ns = now_ns();
        let (baseline, fresh) = match loaded {
            Loaded::Baseline(baseline) => (Some(baseline), false),
            Loaded::Nothing => (None, true),
            Loaded::Damaged => {
                tracing::warn!("the kept baseline of watched files can't be read; a new one is taken");
                tell_unknown_loss(sender, GapReason::MalformedRecord, at_ns);
                (None, true)
            }
        };
        let changes = comparison.first(baseline, at_ns);
        let now = Instant::now();
        let mut running = Self {
            comparison,
            state_dir,
            sender,
            save_at: None,
            save_failed: false,
            pause_until: now,
            read_at: now,
            compare_all_at: now + COMPARE_ALL_EVERY,
        };
        tracing::debug!(
            files = running.comparison.known().count(),
            directories = running.comparison.watches().len(),
            changed = changes.len(),
            "watched files are known"
        );
        if fresh {
            running.save();
        } else {
            running.tell(&changes, Some(WHILE_AWAY));
        }
        Ok(running)
    }

    fn watch(&mut self, stop: &StopSignal) {
        loop {
            let now = Instant::now();
            let due = self.comparison.due().map(|due| due.max(self.pause_until));
            let reading = now >= self.read_at;
            let next = [due, self.save_at, (!reading).then_some(self.read_at), Some(self.compare_all_at)];
            let next = next.into_iter().flatten().min().unwrap_or(self.compare_all_at);
            let timeout = next.saturating_duration_since(now);
            let timeout = Timespec {
                tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(timeout.subsec_nanos()),
            };
            let (noticed, stopped) = {
                let mut fds = [
                    PollFd::from_borrowed_fd(stop.as_fd(), PollFlags::IN),
                    PollFd::from_borrowed_fd(self.comparison.watches().as_fd(), PollFlags::IN),
                ];
                let count = if reading { 2 } else { 1 };
                match poll(&mut fds[..count], Some(&timeout)) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => {
                        tracing::error!(%error, "waiting for changes of watched files failed");
                        return;
                    }
                }
                (reading && !fds[1].revents().is_empty(), !fds[0].revents().is_empty())
            };
            if stopped {
                self.last_look();
                return;
            }
            if noticed {
                self.read_at = Instant::now() + READ_EVERY;
                if self.comparison.read_notices(Instant::now(), now_ns()) {
                    tell_unknown_loss(self.sender, GapReason::KernelRingFull, now_ns());
                }
            }
            self.work();
        }
    }

    /// Does what is due.
    fn work(&mut self) {
        let now = Instant::now();
        if now >= self.compare_all_at {
            self.compare_all_at = now + COMPARE_ALL_EVERY;
            self.comparison.touch_all(now, now_ns());
        }
        if now >= self.pause_until && self.comparison.due().is_some_and(|due| due <= now) {
            let changes = self.comparison.compare_due(now);
            self.tell(&changes, None);
            let took = now.elapsed();
            self.pause_until = now + took + (took * PAUSE).min(LONGEST_PAUSE);
        }
        if self.save_at.is_some_and(|at| at <= Instant::now()) {
            self.save();
        }
    }

    /// What was changed just now is still told, and then all is kept.
    fn last_look(&mut self) {
        self.comparison.read_notices(Instant::now(), now_ns());
        if let Some(due) = self.comparison.due() {
            let changes = self.comparison.compare_due(due + LONGEST_PAUSE);
            self.tell(&changes, None);
        }
        if self.save_at.is_some() {
            self.save();
        }
    }

    fn tell(&mut self, changes: &[Change], reason: Option<&str>) {
        for Told { at_ns, mut activity } in told(&self.comparison, changes) {
            if let Some(reason) = reason {
                activity.fields.retain(|(field, _)| *field != Field::EventReason);
                activity.fields.push((Field::EventReason, Value::Text(reason.to_owned())));
            }
            // What finds no room is counted by the queue.
            self.sender.send(at_ns, activity);
        }
        // Also without changes: a file that was only touched looks different now.
        if self.comparison.take_unkept() {
            self.save_at.get_or_insert(Instant::now() + SAVE_AFTER);
        }
    }

    fn save(&mut self) {
        self.save_at = None;
        let Some(dir) = self.state_dir else { return };
        match baseline::save(dir, self.comparison.key(), self.comparison.known()) {
            Ok(()) => self.save_failed = false,
            Err(error) => {
                if !std::mem::replace(&mut self.save_failed, true) {
                    tracing::warn!(
                        %error,
                        dir = %dir.display(),
                        "the baseline of watched files can't be kept; changes made while the agent is away may be missed"
                    );
                }
            }
        }
    }
}

/// The events that changes come to.
fn told(comparison: &Comparison, changes: &[Change]) -> Vec<Told> {
    let mut told = Vec::new();
    let accounts: Vec<&Change> = changes.iter().filter(|change| change.kind == Kind::AccountFile).collect();
    accounts::tell_changes(comparison, &accounts, &mut told);
    for change in changes {
        match change.kind {
            Kind::AccountFile => {}
            Kind::CronTable | Kind::CronSpool | Kind::CronScript | Kind::AnacronTable | Kind::AtJob => {
                tasks::tell(change, &|uid| user_name(comparison, uid), &mut told);
            }
            Kind::Unit => units::tell(comparison, change, &mut told),
            Kind::InitScript => units::tell_init_script(change, &mut told),
            Kind::KernelModule => persistence::tell_module(change, &mut told),
            Kind::Persistence(kind) => {
                let home_of = home_of(comparison, &change.path);
                let from_skeleton = is_from_skeleton(comparison, change);
                persistence::tell(change, kind, home_of.as_deref(), from_skeleton, &mut told);
            }
        }
    }
    told
}

fn passwd(comparison: &Comparison) -> impl Iterator<Item = Vec<&[u8]>> {
    let text = comparison.file(Kind::AccountFile, b"/etc/passwd").and_then(Known::text).unwrap_or_default();
    text.split(|byte| *byte == b'\n').map(|line| line.split(|byte| *byte == b':').collect())
}

fn user_name(comparison: &Comparison, uid: u32) -> Option<Vec<u8>> {
    let wanted = uid.to_string();
    passwd(comparison)
        .find(|fields| fields.get(2) == Some(&wanted.as_bytes()))
        .map(|fields| fields[0].to_vec())
}

/// The account in whose home a file lies.
fn home_of(comparison: &Comparison, path: &[u8]) -> Option<Vec<u8>> {
    let holds = |home: &[u8]| {
        home.len() > 1 && path.strip_prefix(home).is_some_and(|rest| rest.first() == Some(&b'/'))
    };
    passwd(comparison)
        .filter(|fields| fields.get(5).is_some_and(|home| holds(home)))
        .map(|fields| fields[0].to_vec())
        .next()
}

/// Whether a file is what every new home gets.
fn is_from_skeleton(comparison: &Comparison, change: &Change) -> bool {
    let (None, Some(new)) = (&change.old, &change.new) else { return false };
    let path = [b"/etc/skel/", telling::file_name(&change.path)].concat();
    let skeleton = comparison.file(change.kind, &path);
    skeleton
        .is_some_and(|skeleton| new.sha256.is_some() && skeleton.sha256 == new.sha256 && path != change.path)
}

fn tell_unknown_loss(sender: &ObservationSender, reason: GapReason, at_ns: u64) {
    let what = EventType::Persistence.as_str();
    sender.lost(ObservedLoss { reason, what, count: None, from_ns: at_ns, until_ns: at_ns });
}
