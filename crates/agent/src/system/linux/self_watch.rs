//! Watches what the agent itself stands on: its program, its unit, its configuration,
//! its rules, what it keeps, and its kernel side's pins.
//!
//! inotify tells that something was done, not by whom; the kernel's own events of
//! files tell that, where the sensor has them.

mod units;

use std::collections::HashMap;
use std::ffi::{CStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use event_model::{EventType, Field, GapReason, Value};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use sensor_api::{ObservationSender, ObservedActivity, ObservedLoss, Provision, Source, StopSignal};

use crate::clock::boot_ns;
use crate::folder::ends_in;
use crate::indicator_book::{INDICATOR_EXTENSIONS, INDICATOR_FOLDER};
use crate::rules::is_rule_file;
use crate::state_file;
use crate::yara_book::YARA_EXTENSIONS;

use self::units::Units;

/// How often the pins are looked at, and how soon a stop is noticed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Acts told in any minute; of the others it tells how many they were.
const MOST_TOLD: u32 = 100;

/// What is watched.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watched {
    /// The configuration file.
    pub(crate) configuration: Option<PathBuf>,
    /// The directory of rules.
    pub(crate) rules: Option<PathBuf>,
    /// The state directory.
    pub(crate) state: Option<PathBuf>,
    /// The directory of pins.
    pub(crate) pins: Option<PathBuf>,
}

/// The source of what was done to the agent's own files.
#[derive(Debug)]
pub(crate) struct SelfWatch {
    watched: Watched,
    pins: Vec<OsString>,
    units: Units,
    /// Units that were told of since they were looked at.
    told_units: Vec<PathBuf>,
    /// The supervisor, if there is one and it is still there.
    supervisor: Option<u32>,
    told: (Instant, u32),
    /// Acts of this minute that were too many to tell.
    untold: Option<ObservedLoss>,
    /// Until when every act was taken note of.
    read_to_ns: u64,
}

/// Which names of a directory count.
#[derive(Debug, Clone)]
enum Names {
    /// This one, whatever is done to it.
    One(OsString),
    /// This one, even if it only comes: a link or a directory is not written.
    Unit(OsString),
    /// Rules.
    Rules,
    /// Lists of indicators.
    Indicators,
    /// What the agent keeps. It writes beside and renames, so that writing in place,
    /// removing and moving away are another's doing, and so is a file that comes to such
    /// a name with a content that the agent did not write.
    Kept,
}

/// What the agent keeps under these names, and never removes.
const KEPT: [&str; 6] =
    ["identity.json", "run.json", "server.json", "policy.bin", "policy.previous.bin", "dropped"];

impl SelfWatch {
    /// A watch over these.
    pub(crate) fn new(watched: Watched) -> Self {
        let supervisor = crate::supervisor::is_supervised().then(std::os::unix::process::parent_id);
        Self {
            watched,
            pins: Vec::new(),
            units: Units::of_systemd(),
            told_units: Vec::new(),
            supervisor,
            told: (Instant::now(), 0),
            untold: None,
            read_to_ns: boot_ns(),
        }
    }

    fn places(&self) -> Vec<(PathBuf, Names, &'static str)> {
        let file = |path: &Path, what| {
            let path = std::path::absolute(path).ok()?;
            Some((path.parent()?.to_owned(), Names::One(path.file_name()?.to_owned()), what))
        };
        let mut places: Vec<_> =
            std::env::current_exe().ok().and_then(|path| file(&path, "binary")).into_iter().collect();
        let units = self.units.places().into_iter();
        places.extend(units.map(|(dir, name)| (dir, Names::Unit(name.into()), "unit")));
        places.extend(self.watched.configuration.as_ref().and_then(|path| file(path, "configuration")));
        places.extend(self.watched.rules.clone().map(|dir| (dir, Names::Rules, "rules")));
        let indicators = self.watched.rules.iter().map(|dir| dir.join(INDICATOR_FOLDER));
        places.extend(indicators.filter(|dir| dir.exists()).map(|dir| (dir, Names::Indicators, "rules")));
        places.extend(self.watched.state.clone().map(|dir| (dir, Names::Kept, "state")));
        places
    }

    fn tell(&mut self, sender: &ObservationSender, what: &'static str, path: &Path, operation: &str) {
        self.begin_minute(sender);
        self.told.1 += 1;
        if self.told.1 > MOST_TOLD {
            let now = boot_ns();
            let untold = self.untold.get_or_insert(ObservedLoss { count: Some(0), ..lost(now, now) });
            untold.count = untold.count.map(|count| count + 1);
            untold.until_ns = now;
            return;
        }
        let path = path.to_string_lossy().into_owned();
        let fields = vec![
            (Field::AgentTampered, Value::Text(what.to_owned())),
            (Field::FilePath, Value::Text(path)),
            (Field::EventReason, Value::Text(operation.to_owned())),
        ];
        sender.send(
            boot_ns(),
            ObservedActivity { event_type: EventType::AgentTamper, actor: None, target: None, fields },
        );
    }

    /// Tells how many acts of the last minute were not told, if it is over.
    fn begin_minute(&mut self, sender: &ObservationSender) {
        if self.told.0.elapsed() >= Duration::from_secs(60) {
            self.told = (Instant::now(), 0);
            self.tell_untold(sender);
        }
    }

    fn tell_untold(&mut self, sender: &ObservationSender) {
        if let Some(untold) = self.untold.take() {
            sender.lost(untold);
        }
    }

    /// Whoever ends the supervisor wants the agent not to come back.
    fn check_supervisor(&mut self, sender: &ObservationSender) {
        let parent = std::os::unix::process::parent_id();
        if let Some(supervisor) = self.supervisor.filter(|supervisor| *supervisor != parent) {
            self.supervisor = None;
            self.tell(sender, "supervisor", Path::new(&format!("/proc/{supervisor}")), "ended");
        }
    }

    fn check_units(&mut self, sender: &ObservationSender) {
        let told = std::mem::take(&mut self.told_units);
        for (path, operation) in self.units.changed() {
            if !told.contains(&path) {
                self.tell(sender, "unit", &path, operation);
            }
        }
    }

    fn check_pins(&mut self, sender: &ObservationSender) {
        let Some(dir) = self.watched.pins.clone() else { return };
        let missing: Vec<OsString> =
            self.pins.iter().filter(|pin| !dir.join(pin).exists()).cloned().collect();
        for pin in &missing {
            self.tell(sender, "bpf_link", &dir.join(pin), "deleted");
        }
        self.pins.retain(|pin| !missing.contains(pin));
    }
}

impl Source for SelfWatch {
    fn name(&self) -> &'static str {
        "self_watch"
    }

    fn provisions(&self) -> Vec<Provision> {
        let source = "self_watch (inotify on the agent's files, signals to it)".to_owned();
        let refused = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).err();
        let missing = refused.map(|error| format!("inotify: {error}"));
        vec![Provision { event_type: EventType::AgentTamper, source, missing }]
    }

    fn run(&mut self, sender: &ObservationSender, stop: &StopSignal) {
        let flags = CreateFlags::CLOEXEC | CreateFlags::NONBLOCK;
        let Ok(inotify) = inotify::init(flags) else {
            tracing::warn!("no inotify: nobody watches over the agent's own files");
            return;
        };
        let mut dirs: HashMap<i32, Vec<(PathBuf, Names, &'static str)>> = HashMap::new();
        for place in self.places() {
            let interest = WatchFlags::CLOSE_WRITE
                | WatchFlags::CREATE
                | WatchFlags::DELETE
                | WatchFlags::MOVED_FROM
                | WatchFlags::MOVED_TO
                | WatchFlags::ATTRIB
                | WatchFlags::DELETE_SELF
                | WatchFlags::MOVE_SELF;
            match inotify::add_watch(&inotify, &place.0, interest) {
                Ok(number) => dirs.entry(number).or_default().push(place),
                Err(error) => tracing::warn!(dir = %place.0.display(), %error, "can't be watched"),
            }
        }
        if let Some(dir) = &self.watched.pins {
            self.pins = std::fs::read_dir(dir)
                .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect())
                .unwrap_or_default();
        }
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        while !stopped(stop, &inotify) {
            self.begin_minute(sender);
            self.check_pins(sender);
            self.check_supervisor(sender);
            let mut reader = Reader::new(&inotify, &mut buffer);
            while let Ok(event) = reader.next() {
                if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                    // Nobody knows what was done meanwhile, so that is told.
                    sender.lost(lost(self.read_to_ns, boot_ns()));
                    continue;
                }
                let of_dir = dirs.get(&event.wd()).cloned().unwrap_or_default();
                let name = event.file_name().map(os_string);
                for (dir, names, what) in of_dir {
                    if let Some(operation) = counts(&names, name.as_ref(), event.events()) {
                        let path = name.as_ref().map_or_else(|| dir.clone(), |name| dir.join(name));
                        let came = event.events().contains(ReadFlags::MOVED_TO);
                        if matches!(names, Names::Kept) && came && !state_file::is_anothers(&path) {
                            continue;
                        }
                        if matches!(names, Names::Unit(_)) {
                            self.told_units.push(path.clone());
                        }
                        self.tell(sender, what, &path, operation);
                    }
                }
            }
            // After what was read, which told of most changes already.
            self.check_units(sender);
            self.read_to_ns = boot_ns();
        }
        self.tell_untold(sender);
    }
}

/// True once the source is to stop; comes back after a second or when there is something to read.
fn stopped(stop: &StopSignal, inotify: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(stop, PollFlags::IN), PollFd::new(inotify, PollFlags::IN)];
    let timeout = Timespec { tv_sec: LOOK_EVERY.as_secs().cast_signed(), tv_nsec: 0 };
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) => !fds[0].revents().is_empty(),
        Err(error) => error != rustix::io::Errno::INTR,
    }
}

/// Acts that can't be told.
fn lost(from_ns: u64, until_ns: u64) -> ObservedLoss {
    let what = EventType::AgentTamper.as_str();
    ObservedLoss { reason: GapReason::QueueFull, what, count: None, from_ns, until_ns }
}

fn os_string(name: &CStr) -> OsString {
    OsString::from_vec(name.to_bytes().to_vec())
}

/// What was done, in a word, if it counts.
fn counts(names: &Names, name: Option<&OsString>, events: ReadFlags) -> Option<&'static str> {
    let written = events.contains(ReadFlags::CLOSE_WRITE);
    let removed = events.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM);
    let operation = if removed {
        "deleted or moved away"
    } else if written {
        "written"
    } else if events.contains(ReadFlags::MOVED_TO) {
        "replaced"
    } else if events.contains(ReadFlags::ATTRIB) {
        "attributes changed"
    } else if events.contains(ReadFlags::CREATE) && matches!(names, Names::Unit(_)) {
        "created"
    } else if events.intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF) {
        return matches!(names, Names::Kept | Names::Rules | Names::Indicators)
            .then_some("directory deleted or moved away");
    } else {
        return None;
    };
    let name = name?;
    let counts = match names {
        Names::One(one) | Names::Unit(one) => name == one,
        Names::Rules => is_rule_file(Path::new(name)) || ends_in(name, &YARA_EXTENSIONS),
        Names::Indicators => ends_in(name, &INDICATOR_EXTENSIONS),
        Names::Kept => {
            let kept = KEPT.iter().any(|kept| name == kept);
            let came = events.contains(ReadFlags::MOVED_TO);
            // `dropped` is written in place by the agent.
            kept && (removed || came || (written && name != "dropped"))
        }
    };
    counts.then_some(operation)
}

#[cfg(test)]
mod tests {
    use sensor_api::{Observation, SourceThreads, observation_queue};

    use super::*;

    #[test]
    fn what_others_do_to_the_agents_files_is_told_and_its_own_doing_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let [rules, state, pins] = ["rules", "state", "pins"].map(|name| dir.path().join(name));
        [&rules, &state, &pins].iter().for_each(|dir| std::fs::create_dir(dir).unwrap());
        let configuration = dir.path().join("agent.json");
        for file in [&configuration, &rules.join("a.json"), &state.join("identity.json"), &pins.join("link")]
        {
            std::fs::write(file, "x").unwrap();
        }
        let watched = Watched {
            configuration: Some(configuration.clone()),
            rules: Some(rules.clone()),
            state: Some(state.clone()),
            pins: Some(pins.clone()),
        };
        let (sender, queue) = observation_queue(100);
        let threads = SourceThreads::start(vec![Box::new(SelfWatch::new(watched))], &sender).unwrap();
        let mut told: Vec<(String, String)> = Vec::new();
        let mut wait_for = |what: &str, act: &mut dyn FnMut()| {
            let deadline = Instant::now() + Duration::from_secs(30);
            loop {
                // Again and again: the watch may not stand yet.
                act();
                queue.take(100, &mut |observed| {
                    let Observation::Activity(activity) = observed.what else { return };
                    let text = |field| match activity.fields.iter().find(|(own, _)| *own == field) {
                        Some((_, Value::Text(text))) => text.clone(),
                        _ => String::new(),
                    };
                    told.push((text(Field::AgentTampered), text(Field::FilePath)));
                });
                if told.iter().any(|(kind, _)| kind == what) {
                    return;
                }
                assert!(Instant::now() < deadline, "{what} was not told");
                test_support::pause(Duration::from_millis(20));
            }
        };
        wait_for("configuration", &mut || std::fs::write(&configuration, "y").unwrap());
        wait_for("rules", &mut || std::fs::write(rules.join("new.json"), "{}").unwrap());
        std::fs::write(rules.join("new.yml"), "title: x").unwrap();
        // As the agent itself keeps its state.
        state_file::write(&state.join("run.json"), b"{}").unwrap();
        state_file::write(&state.join("identity.json"), b"{}").unwrap();
        state_file::write(&state.join("policy.bin"), b"1").unwrap();
        wait_for("bpf_link", &mut || {
            let _ = std::fs::remove_file(pins.join("link"));
        });
        wait_for("state", &mut || {
            let _ = std::fs::remove_file(state.join("identity.json"));
        });
        threads.stop();
        let of_state: Vec<_> = told.iter().filter(|(kind, _)| kind == "state").collect();
        assert_eq!(of_state.len(), 1, "only the removal: {of_state:?}");
        let sigma = told.iter().any(|(_, path)| path.ends_with("new.yml"));
        assert!(sigma, "Sigma rules are rules: {told:?}");
        assert_eq!(told.iter().filter(|(kind, _)| kind == "bpf_link").count(), 1, "once");
    }

    #[test]
    fn a_file_that_another_put_in_place_of_the_agents_own_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity.json");
        assert!(!state_file::is_anothers(&path), "there is none");
        state_file::write(&path, b"own").unwrap();
        assert!(!state_file::is_anothers(&path));
        let beside = dir.path().join("other");
        std::fs::write(&beside, "other").unwrap();
        std::fs::rename(&beside, &path).unwrap();
        assert!(state_file::is_anothers(&path));
        let name = OsString::from("identity.json");
        let told = counts(&Names::Kept, Some(&name), ReadFlags::MOVED_TO);
        assert_eq!(told, Some("replaced"));
    }

    #[test]
    fn acts_too_many_to_tell_are_counted() {
        let (sender, queue) = observation_queue(1_000);
        let mut watch = SelfWatch::new(Watched::default());
        (0..MOST_TOLD + 7).for_each(|_| watch.tell(&sender, "binary", Path::new("/x"), "written"));
        watch.tell_untold(&sender);
        watch.tell_untold(&sender);
        let mut lost = Vec::new();
        queue.take(1_000, &mut |observed| {
            if let Observation::Lost(loss) = observed.what {
                lost.push((loss.what, loss.count));
            }
        });
        assert_eq!(lost, [(EventType::AgentTamper.as_str(), Some(7))]);
    }
}
