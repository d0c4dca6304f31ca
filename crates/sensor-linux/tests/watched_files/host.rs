//! A host of its own for one test: a directory that stands for `/`, another for
//! the agent's state, and the source that watches.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use event_model::{EventType, Field, Value};
use sensor_api::{
    Observation, ObservationQueue, ObservedActivity, ObservedLoss, SourceThreads, observation_queue,
};
use sensor_linux::{SourceOptions, sources};
use tempfile::TempDir;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Host {
    root: TempDir,
    state: TempDir,
}

impl Host {
    /// One with these files.
    pub(crate) fn with(files: &[(&str, &str)]) -> Self {
        let host = Self {
            root: TempDir::new().expect("a test needs a directory"),
            state: TempDir::new().expect("a test needs a directory"),
        };
        for (path, text) in files {
            host.write(path, text);
        }
        host
    }

    pub(crate) fn path(&self, path: impl AsRef<[u8]>) -> PathBuf {
        let path = path.as_ref();
        self.root.path().join(OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(path)))
    }

    pub(crate) fn state(&self, name: &str) -> PathBuf {
        self.state.path().join(name)
    }

    /// Writes in place, with the directories on the way.
    pub(crate) fn write(&self, path: impl AsRef<[u8]>, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        let parent = path.parent().expect("a file lies in a directory");
        fs::create_dir_all(parent).expect("a test may make directories");
        fs::write(path, text).expect("a test may write");
    }

    /// Puts a whole file there in one step, from a directory that nobody watches.
    pub(crate) fn put(&self, path: &str, text: &str) {
        self.write("/elsewhere/file", text);
        let to = self.path(path);
        fs::create_dir_all(to.parent().expect("a file lies in a directory"))
            .expect("a test may make directories");
        fs::rename(self.path("/elsewhere/file"), to).expect("a test may rename");
    }

    /// Replaces by rename, as editors and useradd do.
    pub(crate) fn replace(&self, path: &str, text: &str) {
        let beside = self.path(format!("{path}+"));
        fs::write(&beside, text).expect("a test may write");
        fs::rename(beside, self.path(path)).expect("a test may rename");
    }

    pub(crate) fn remove(&self, path: impl AsRef<[u8]>) {
        fs::remove_file(self.path(path)).expect("the file is there");
    }

    /// Starts to watch. Where there is no baseline yet, it is taken when this returns.
    pub(crate) fn watch(&self) -> Watching {
        self.watch_until(|| self.state("watched-files").exists())
    }

    /// Starts to watch with a baseline that can't be used; a new one is taken when this returns.
    pub(crate) fn watch_anew(&self) -> Watching {
        let useless = fs::read(self.state("watched-files")).expect("there is a baseline");
        self.watch_until(|| fs::read(self.state("watched-files")).is_ok_and(|bytes| bytes != useless))
    }

    fn watch_until(&self, ready: impl Fn() -> bool) -> Watching {
        let options = SourceOptions {
            root: self.root.path().to_owned(),
            state_dir: Some(self.state.path().to_owned()),
            ..SourceOptions::default()
        };
        let watching = Watching::start(&options);
        let deadline = Instant::now() + PATIENCE;
        while !ready() {
            assert!(Instant::now() < deadline, "no baseline within {PATIENCE:?}");
            std::thread::park_timeout(Duration::from_millis(2));
        }
        watching
    }
}

pub(crate) struct Watching {
    threads: Option<SourceThreads>,
    queue: ObservationQueue,
    pub(crate) events: Vec<ObservedActivity>,
    pub(crate) losses: Vec<ObservedLoss>,
}

impl Watching {
    pub(crate) fn start(options: &SourceOptions) -> Self {
        let (sender, queue) = observation_queue(100_000);
        let mut sources = sources(options);
        sources.retain(|source| source.name() == "file_watch");
        assert_eq!(sources.len(), 1);
        let threads = Some(SourceThreads::start(sources, &sender).expect("a test may start threads"));
        Self { threads, queue, events: Vec::new(), losses: Vec::new() }
    }

    pub(crate) fn take(&mut self) {
        self.queue.take(usize::MAX, &mut |observed| match observed.what {
            Observation::Activity(activity) => {
                check(&activity);
                self.events.push(*activity);
            }
            Observation::Lost(loss) => self.losses.push(loss),
            other => panic!("no such observation comes from files: {other:?}"),
        });
    }

    /// Waits for an event, and takes it out with all that came before it.
    pub(crate) fn next(&mut self, what: &str, is: impl Fn(&ObservedActivity) -> bool) -> ObservedActivity {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.take();
            if let Some(at) = self.events.iter().position(&is) {
                return self.events.drain(..=at).next_back().expect("it was just found");
            }
            assert!(Instant::now() < deadline, "no {what} within {PATIENCE:?} among {:#?}", self.events);
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }

    /// Waits for the event of a type at a path.
    pub(crate) fn next_at(&mut self, event_type: EventType, path: &str) -> ObservedActivity {
        self.next(&format!("{event_type} of {path}"), |event| {
            event.event_type == event_type && text(event, Field::FilePath) == path
        })
    }

    /// Waits until all changes made so far have been told, and takes what was.
    pub(crate) fn settle(&mut self, host: &Host) -> Vec<ObservedActivity> {
        // A directory of every kind may be compared in a round of its own; this one is the last to be touched.
        let rounds = 3;
        let mut told = Vec::new();
        for round in 0..rounds {
            let path = format!("/etc/sudoers.d/settle-{round}");
            host.write(&path, "x");
            let deadline = Instant::now() + PATIENCE;
            while !self.events.iter().any(|event| text(event, Field::FilePath) == path) {
                assert!(Instant::now() < deadline, "the source does not go on");
                std::thread::park_timeout(Duration::from_millis(2));
                self.take();
            }
            host.remove(&path);
            told.append(&mut self.events);
        }
        told.retain(|event| !text(event, Field::FilePath).starts_with("/etc/sudoers.d/settle-"));
        told
    }

    /// Ends the source and takes what it told last.
    pub(crate) fn stop(mut self) -> Vec<ObservedActivity> {
        self.threads.take().expect("it runs").stop();
        self.take();
        std::mem::take(&mut self.events)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.stop();
        }
    }
}

/// What every event must be.
fn check(activity: &ObservedActivity) {
    for field in activity.event_type.spec().needs {
        assert!(value(activity, *field).is_some(), "{} has no {field:?}: {activity:?}", activity.event_type);
    }
    for (field, value) in &activity.fields {
        assert_eq!(value.kind(), field.spec().kind, "{field:?} in {activity:?}");
        assert_eq!(activity.fields.iter().filter(|(other, _)| other == field).count(), 1, "{field:?} twice");
    }
    assert_eq!(text(activity, Field::EventProvider), "file_watch");
}

pub(crate) fn value(activity: &ObservedActivity, field: Field) -> Option<&Value> {
    activity.fields.iter().find(|(own, _)| *own == field).map(|(_, value)| value)
}

/// A text field; empty where it is absent.
pub(crate) fn text(activity: &ObservedActivity, field: Field) -> &str {
    match value(activity, field) {
        Some(Value::Text(text)) => text,
        None => "",
        Some(other) => panic!("{field:?} is {other:?}"),
    }
}

/// A list; empty where it is absent.
pub(crate) fn list(activity: &ObservedActivity, field: Field) -> Vec<&str> {
    match value(activity, field) {
        Some(Value::TextList(list)) => list.iter().map(String::as_str).collect(),
        None => Vec::new(),
        Some(other) => panic!("{field:?} is {other:?}"),
    }
}
