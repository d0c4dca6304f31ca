//! Integrity of the directories of `-dirs`: what every file in them holds, and each
//! change of it.
//!
//! A baseline (SHA-256, size, mode, owner, times) is made once and kept in the state
//! directory. What changes is told live by the kernel ([`live`]), and every
//! `-interval` everything is compared with the baseline, which finds what was done
//! while the agent was away, or in ways that the kernel does not tell (a write
//! through a mapping, a disk that was mounted elsewhere).
//!
//! The kernel's events only say where to look: what is told is always the
//! difference between the baseline and what is there. So nothing is told that is
//! not so, and a queue that overflowed costs a scan and nothing else.

mod live;
mod look;
mod scan;
mod telling;
mod tree;
mod watch;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use event_model::EventType;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sensor_api::{ObservationSender, Provision, Source, StopSignal};

use crate::SourceOptions;
use live::Live;
use watch::{ROOM, Watch};

const TYPES: &[EventType] = &[
    EventType::FileCreate,
    EventType::FileModify,
    EventType::FileDelete,
    EventType::FileRename,
    EventType::FileAttribute,
    EventType::FileLink,
];

/// While there is something to do, the kernel is asked this often; being woken for
/// each event would cost ten times the event itself.
const BUSY_LOOK: Duration = Duration::from_millis(5);

/// So long after the last event it counts as busy.
const BUSY_FOR: Duration = Duration::from_millis(200);

/// While a scan rests, the kernel is asked at least this often.
const SCAN_LOOK: Duration = Duration::from_millis(100);

/// Watches directories for changes.
#[derive(Debug)]
pub struct IntegritySource {
    dirs: Vec<PathBuf>,
    interval: Duration,
    state_dir: Option<PathBuf>,
    live: Option<Live>,
    /// What is weaker than it could be.
    weaker: Option<String>,
}

impl IntegritySource {
    /// Watches the directories of the options, under their root.
    pub fn new(options: &SourceOptions) -> Self {
        Self::with(options, Live::open)
    }

    /// The same with inotify only, as on a host that refuses fanotify.
    pub fn without_fanotify(options: &SourceOptions) -> Self {
        Self::with(options, |_| Live::open_inotify("not asked for"))
    }

    fn with(
        options: &SourceOptions,
        open: impl FnOnce(Option<BorrowedFd<'_>>) -> io::Result<(Live, Option<String>)>,
    ) -> Self {
        let below_root = |dir: &PathBuf| match dir.strip_prefix("/") {
            Ok(inside) => options.root.join(inside),
            Err(_) => dir.clone(),
        };
        let dirs: Vec<PathBuf> = options.integrity_dirs.iter().map(below_root).collect();
        let try_on = dirs.iter().find_map(|dir| std::fs::File::open(dir).ok());
        let opened = open(try_on.as_ref().map(AsFd::as_fd));
        let (live, weaker) = match opened {
            Ok((live, None)) => (Some(live), None),
            Ok((live, Some(refused))) => {
                let why = format!("fanotify is refused here ({refused}), so who did it is not known");
                (Some(live), Some(why))
            }
            Err(error) => {
                (None, Some(format!("neither fanotify nor inotify works here ({error}): scans only")))
            }
        };
        Self { dirs, interval: options.scan_interval, state_dir: options.state_dir.clone(), live, weaker }
    }

    fn describe(&self) -> String {
        let by = self.live.as_ref().map_or("scans", Live::name);
        let dirs: Vec<String> = self.dirs.iter().map(|dir| dir.display().to_string()).collect();
        let weaker = self.weaker.as_ref().map(|weaker| format!("; {weaker}")).unwrap_or_default();
        let seconds = self.interval.as_secs_f64();
        format!("integrity ({by} in {}, compared every {seconds} s{weaker})", dirs.join(", "))
    }
}

impl Source for IntegritySource {
    fn name(&self) -> &'static str {
        "integrity"
    }

    fn provisions(&self) -> Vec<Provision> {
        let source = self.describe();
        let absent: Vec<String> =
            self.dirs.iter().filter(|dir| !dir.is_dir()).map(|dir| dir.display().to_string()).collect();
        let missing = (absent.len() == self.dirs.len()).then(|| {
            format!("there is no directory {} yet; it is looked for with each scan", absent.join(", "))
        });
        TYPES
            .iter()
            .map(|&event_type| Provision { event_type, source: source.clone(), missing: missing.clone() })
            .collect()
    }

    fn run(&mut self, sender: &ObservationSender, stop: &StopSignal) {
        let mut watch = Watch::new(&self.dirs, self.interval, self.state_dir.as_deref(), self.live.take());
        let mut last_event = Instant::now();
        loop {
            if watch.take_live(sender) {
                last_event = Instant::now();
            }
            watch.settle(sender, false);
            let rest = watch.scan(sender);
            watch.keep(false);

            // What the kernel has to tell wakes nobody while there is no room for it.
            let busy = last_event.elapsed() < BUSY_FOR || watch.is_waiting() || !sender.has_room(ROOM);
            let wait = match (rest, busy) {
                (Some(rest), true) => rest.min(BUSY_LOOK),
                (Some(rest), false) => rest.min(SCAN_LOOK),
                (None, true) => BUSY_LOOK,
                (None, false) => watch.idle_for(),
            };
            let mut fds = vec![PollFd::new(stop, PollFlags::IN)];
            // Only an idle watch is woken by the first event.
            if let Some(live) = watch.live().filter(|_| !busy && rest.is_none()) {
                fds.push(PollFd::from_borrowed_fd(live, PollFlags::IN));
            }
            let timeout = Timespec {
                tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(wait.subsec_nanos()),
            };
            let polled = poll(&mut fds, Some(&timeout));
            if polled.is_ok() && !fds[0].revents().is_empty() {
                break;
            }
        }
        watch.take_live(sender);
        watch.settle(sender, true);
        watch.keep(true);
    }
}
