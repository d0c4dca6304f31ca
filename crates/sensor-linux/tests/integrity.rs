//! Changes in watched directories as events: live by fanotify and by inotify, and by
//! scans after the agent was away.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the report")]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use event_model::{EventType, Field, Value};
use rustix::fs::{CWD, FileType, Mode, OFlags, mkdirat, mknodat, openat};
use sensor_api::{Observation, ObservationQueue, ObservedActivity, Source, SourceThreads, observation_queue};
use sensor_linux::{IntegritySource, SourceOptions};

const DEADLINE: Duration = Duration::from_secs(60);

struct Place {
    dir: tempfile::TempDir,
    state: tempfile::TempDir,
}

struct Running {
    threads: SourceThreads,
    queue: ObservationQueue,
    seen: Vec<ObservedActivity>,
    lost: usize,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), state: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        fs::canonicalize(self.dir.path()).unwrap().join(name)
    }

    fn options(&self, interval: Duration) -> SourceOptions {
        SourceOptions {
            state_dir: Some(self.state.path().into()),
            integrity_dirs: vec![self.dir.path().into()],
            scan_interval: interval,
            ..SourceOptions::default()
        }
    }

    /// Live only: the next scan is far away.
    fn start(&self, fanotify: bool) -> Running {
        let options = self.options(Duration::from_secs(3_600));
        let source = if fanotify {
            IntegritySource::new(&options)
        } else {
            IntegritySource::without_fanotify(&options)
        };
        self.run(source)
    }

    fn start_scanning(&self, interval: Duration) -> Running {
        self.run(IntegritySource::new(&self.options(interval)))
    }

    fn run(&self, source: IntegritySource) -> Running {
        let (sender, queue) = observation_queue(100_000);
        let threads = SourceThreads::start(vec![Box::new(source)], &sender).unwrap();
        Running { threads, queue, seen: Vec::new(), lost: 0 }
    }

    /// The baseline is made and everything watched once a probe is seen come and go.
    fn settle(&self, running: &mut Running) {
        let deadline = Instant::now() + DEADLINE;
        for number in 0.. {
            let probe = self.path(&format!("probe{number}"));
            fs::write(&probe, "x").unwrap();
            let until = Instant::now() + Duration::from_millis(600);
            while Instant::now() < until {
                running.take();
                if running.has(EventType::FileCreate, &probe) {
                    fs::remove_file(&probe).unwrap();
                    running.wait(EventType::FileDelete, &probe);
                    running.seen.clear();
                    return;
                }
                std::thread::yield_now();
            }
            fs::remove_file(&probe).unwrap();
            assert!(Instant::now() < deadline, "the watch never began");
        }
    }
}

impl Running {
    fn take(&mut self) {
        let (seen, lost) = (&mut self.seen, &mut self.lost);
        self.queue.take(usize::MAX, &mut |observed| match observed.what {
            Observation::Activity(activity) => {
                for need in activity.event_type.spec().needs {
                    assert!(
                        activity.fields.iter().any(|(field, _)| field == need),
                        "{need:?} of {activity:#?}"
                    );
                }
                let probe = text(&activity, Field::FileName).starts_with("probe");
                let old = activity.event_type == EventType::FileDelete
                    || activity.event_type == EventType::FileCreate;
                if !probe || old {
                    seen.push(*activity);
                }
            }
            Observation::Lost(_) => *lost += 1,
            _ => {}
        });
    }

    fn has(&self, event_type: EventType, path: &Path) -> bool {
        self.find(event_type, path).is_some()
    }

    fn find(&self, event_type: EventType, path: &Path) -> Option<&ObservedActivity> {
        self.seen
            .iter()
            .find(|one| one.event_type == event_type && text(one, Field::FilePath) == path.to_str().unwrap())
    }

    fn wait(&mut self, event_type: EventType, path: &Path) -> ObservedActivity {
        self.wait_that(|running| running.has(event_type, path), &format!("{event_type} {}", path.display()));
        self.find(event_type, path).unwrap().clone()
    }

    fn wait_that(&mut self, is: impl Fn(&Self) -> bool, what: &str) {
        let deadline = Instant::now() + DEADLINE;
        while !is(self) {
            assert!(Instant::now() < deadline, "{what}; there is: {:#?}", self.seen);
            self.take();
            std::thread::yield_now();
        }
    }

    fn stop(mut self) -> Vec<ObservedActivity> {
        let threads = std::mem::replace(
            &mut self.threads,
            SourceThreads::start(Vec::new(), &observation_queue(1).0).unwrap(),
        );
        threads.stop();
        self.take();
        self.seen
    }
}

fn text(activity: &ObservedActivity, field: Field) -> &str {
    match activity.fields.iter().find(|(own, _)| *own == field) {
        Some((_, Value::Text(text))) => text,
        _ => "",
    }
}

fn number(activity: &ObservedActivity, field: Field) -> Option<i64> {
    activity.fields.iter().find_map(|(own, value)| match value {
        Value::Integer(number) if *own == field => Some(*number),
        _ => None,
    })
}

fn shown(seen: &[ObservedActivity]) -> Vec<String> {
    let seen = seen.iter().filter(|one| !text(one, Field::FileName).starts_with("probe"));
    let mut all: Vec<String> = seen
        .map(|one| format!("{} {}", text(one, Field::FileOperation), text(one, Field::FileName)))
        .collect();
    all.sort();
    all
}

/// True where fanotify can be used; else inotify stands in, and that is tested anyway.
fn has_fanotify(place: &Place) -> bool {
    let provisions = IntegritySource::new(&place.options(Duration::from_secs(1))).provisions();
    let has = provisions[0].source.contains("fanotify in");
    if !has {
        println!("skipped: {}", provisions[0].describe());
    }
    has
}

const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

#[test]
fn live_changes_are_told_with_before_and_after() {
    for fanotify in [true, false] {
        let place = Place::new();
        if fanotify && !has_fanotify(&place) {
            continue;
        }
        fs::create_dir(place.path("sub")).unwrap();
        fs::write(place.path("sub/known"), "hello").unwrap();
        fs::write(place.path("gone"), "hello").unwrap();
        let mut running = place.start(fanotify);
        place.settle(&mut running);

        // Many writes of one session are one event.
        let mut file = File::options().append(true).open(place.path("sub/known")).unwrap();
        for _ in 0..1_000 {
            file.write_all(b"!").unwrap();
        }
        drop(file);
        let event = running.wait(EventType::FileModify, &place.path("sub/known"));
        assert_eq!(text(&event, Field::FileOldSha256), HELLO);
        assert_eq!(text(&event, Field::FileSha256).len(), 64);
        assert_ne!(text(&event, Field::FileSha256), HELLO);
        assert_eq!(
            (number(&event, Field::FileOldSize), number(&event, Field::FileSize)),
            (Some(5), Some(1_005))
        );
        assert_eq!(text(&event, Field::EventProvider), "integrity");
        let pid = event.actor.map(|actor| actor.pid());
        assert_eq!(pid, fanotify.then(std::process::id));

        fs::remove_file(place.path("gone")).unwrap();
        let event = running.wait(EventType::FileDelete, &place.path("gone"));
        assert_eq!(text(&event, Field::FileOldSha256), HELLO);

        fs::set_permissions(place.path("sub/known"), fs::Permissions::from_mode(0o4755)).unwrap();
        let event = running.wait(EventType::FileAttribute, &place.path("sub/known"));
        assert_eq!(text(&event, Field::FileOperation), "mode");
        assert_eq!(text(&event, Field::FileMode), "4755");
        assert_eq!(text(&event, Field::FileOldMode), "0644");

        // A new directory and what is made in it at once.
        fs::create_dir_all(place.path("new/deep")).unwrap();
        fs::write(place.path("new/deep/file"), "hello").unwrap();
        let event = running.wait(EventType::FileCreate, &place.path("new/deep/file"));
        assert_eq!(text(&event, Field::FileSha256), HELLO);
        assert!(running.has(EventType::FileCreate, &place.path("new/deep")));

        // An atomic replacement, as editors and package managers do it.
        fs::write(place.path("sub/known.tmp"), "other").unwrap();
        fs::rename(place.path("sub/known.tmp"), place.path("sub/known")).unwrap();
        running.seen.clear();
        let event = running.wait(EventType::FileRename, &place.path("sub/known"));
        assert_eq!(text(&event, Field::FileOldPath), place.path("sub/known.tmp").to_str().unwrap());
        let event = running.wait(EventType::FileModify, &place.path("sub/known"));
        assert_eq!(number(&event, Field::FileSize), Some(5));
        assert_eq!(number(&event, Field::FileOldSize), Some(1_005));

        // A directory takes all along.
        fs::rename(place.path("new"), place.path("renamed")).unwrap();
        running.wait(EventType::FileRename, &place.path("renamed"));
        fs::write(place.path("renamed/deep/file"), "changed").unwrap();
        let event = running.wait(EventType::FileModify, &place.path("renamed/deep/file"));
        assert_eq!(text(&event, Field::FileOldSha256), HELLO);
        fs::remove_dir_all(place.path("renamed")).unwrap();
        for name in ["renamed/deep/file", "renamed/deep", "renamed"] {
            running.wait(EventType::FileDelete, &place.path(name));
        }

        symlink("/etc/shadow", place.path("link")).unwrap();
        let event = running.wait(EventType::FileLink, &place.path("link"));
        assert_eq!(text(&event, Field::FileTargetPath), "/etc/shadow");
        running.stop();
    }
}

#[test]
fn fanotify_says_who_did_it() {
    let place = Place::new();
    if !has_fanotify(&place) {
        return;
    }
    fs::write(place.path("file"), "hello").unwrap();
    let mut running = place.start(true);
    place.settle(&mut running);
    let mut child = std::process::Command::new("/bin/sh")
        .args(["-c", "echo more >> \"$0\""])
        .arg(place.path("file"))
        .spawn()
        .unwrap();
    let pid = child.id();
    child.wait().unwrap();
    let event = running.wait(EventType::FileModify, &place.path("file"));
    assert_eq!(event.actor.map(|actor| actor.pid()), Some(pid));
    running.stop();
}

#[test]
fn of_several_hands_each_is_told_for_what_it_did() {
    let place = Place::new();
    if !has_fanotify(&place) {
        return;
    }
    fs::write(place.path("file"), "hello").unwrap();
    let mut running = place.start(true);
    place.settle(&mut running);
    // Both within the time in which what belongs together becomes one event.
    let act = |script: &str| {
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", script])
            .arg(place.path("file"))
            .spawn()
            .unwrap();
        let pid = child.id();
        child.wait().unwrap();
        pid
    };
    let writer = act("echo more >> \"$0\"");
    let chmod = act("exec chmod 0700 \"$0\"");
    let event = running.wait(EventType::FileModify, &place.path("file"));
    assert_eq!(event.actor.map(|actor| actor.pid()), Some(writer));
    let event = running.wait(EventType::FileAttribute, &place.path("file"));
    assert_eq!(event.actor.map(|actor| actor.pid()), Some(chmod));
    running.stop();
}

#[test]
fn times_that_were_set_back_are_told() {
    let place = Place::new();
    fs::write(place.path("file"), "hello").unwrap();
    fs::write(place.path("both"), "hello").unwrap();
    let mut running = place.start(true);
    place.settle(&mut running);
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let set = |name: &str| {
        File::options().write(true).open(place.path(name)).unwrap().set_modified(long_ago).unwrap()
    };
    set("file");
    let event = running.wait(EventType::FileAttribute, &place.path("file"));
    assert_eq!(text(&event, Field::FileOperation), "times");
    assert_eq!(text(&event, Field::EventReason), "modification time set back");
    let time =
        |field| event.fields.iter().find(|(own, _)| *own == field).map(|(_, value)| value.as_ref().to_json());
    assert_eq!(time(Field::FileModified), Some("2001-09-09T01:46:40.000000000Z".into()));
    assert!(time(Field::FileOldModified).is_some());
    fs::write(place.path("both"), "wrong").unwrap();
    set("both");
    running.wait(EventType::FileAttribute, &place.path("both"));
    running.wait(EventType::FileModify, &place.path("both"));
    running.stop();
}

#[test]
fn what_changed_while_the_agent_was_away_is_told_once() {
    let place = Place::new();
    fs::create_dir(place.path("sub")).unwrap();
    for name in ["same", "changed", "removed", "sub/below"] {
        fs::write(place.path(name), "hello").unwrap();
    }
    let mut running = place.start(true);
    place.settle(&mut running);
    assert!(shown(&running.stop()).is_empty(), "a first baseline is no news");

    fs::write(place.path("changed"), "HELLO").unwrap();
    fs::remove_file(place.path("removed")).unwrap();
    fs::remove_dir_all(place.path("sub")).unwrap();
    fs::write(place.path("added"), "hello").unwrap();
    let mut running = place.start(true);
    running.wait(EventType::FileCreate, &place.path("added"));
    let event = running.wait(EventType::FileModify, &place.path("changed"));
    assert_eq!(text(&event, Field::FileOldSha256), HELLO);
    assert!(text(&event, Field::EventReason).contains("scan"));
    for name in ["removed", "sub", "sub/below"] {
        running.wait(EventType::FileDelete, &place.path(name));
    }
    let seen = running.stop();
    assert_eq!(
        shown(&seen),
        ["create added", "delete below", "delete removed", "delete sub", "modify changed"]
    );

    let mut running = place.start(true);
    place.settle(&mut running);
    assert!(shown(&running.stop()).is_empty(), "nothing is told again");

    // A baseline that was damaged is made anew, in silence.
    fs::write(place.state.path().join("integrity"), b"rubbish").unwrap();
    let mut running = place.start(true);
    place.settle(&mut running);
    assert!(shown(&running.stop()).is_empty());
}

#[test]
fn a_scan_finds_what_the_kernel_does_not_tell() {
    let place = Place::new();
    fs::write(place.path("file"), vec![b'a'; 4_096]).unwrap();
    let mut running = place.start_scanning(Duration::from_millis(300));
    place.settle(&mut running);
    // A write through a mapping that stays open: no close comes.
    let file = File::options().read(true).write(true).open(place.path("file")).unwrap();
    let before = file.metadata().unwrap().size();
    rustix::io::pwrite(&file, b"b", 7).unwrap();
    let event = running.wait(EventType::FileModify, &place.path("file"));
    assert_eq!(number(&event, Field::FileSize), Some(before.cast_signed()));
    assert_ne!(text(&event, Field::FileSha256), text(&event, Field::FileOldSha256));
    running.stop();
}

#[test]
fn odd_things_neither_block_nor_lead_out_nor_break_anything() {
    let place = Place::new();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "x").unwrap();
    let mut running = place.start(true);
    place.settle(&mut running);
    let mode = Mode::from_raw_mode(0o600);
    mknodat(CWD, place.path("fifo"), FileType::Fifo, mode, 0).unwrap();
    let event = running.wait(EventType::FileCreate, &place.path("fifo"));
    assert_eq!(text(&event, Field::FileHashSkipped), "not_regular");
    assert_eq!(text(&event, Field::FileContentType), "fifo");
    let _socket = std::os::unix::net::UnixListener::bind(place.path("socket")).unwrap();
    running.wait(EventType::FileCreate, &place.path("socket"));
    symlink(outside.path(), place.path("out")).unwrap();
    running.wait(EventType::FileLink, &place.path("out"));
    assert!(!running.seen.iter().any(|one| text(one, Field::FileName) == "secret"));

    let name = std::ffi::OsStr::from_bytes(b"a\xff\n\x1b[31m");
    let path = place.path("").join(name);
    fs::write(&path, "hello").unwrap();
    running.wait_that(
        |running| running.seen.iter().any(|one| text(one, Field::FileName) == "a\\xff\n\u{1b}[31m"),
        "odd name",
    );

    // Gone before anybody can look.
    for _ in 0..50 {
        fs::write(place.path("flash"), "x").unwrap();
        fs::remove_file(place.path("flash")).unwrap();
    }
    running.wait(EventType::FileDelete, &place.path("flash"));

    // Sparse, and larger than what is hashed.
    File::create(place.path("large")).unwrap().set_len(65 << 20).unwrap();
    let event = running.wait(EventType::FileCreate, &place.path("large"));
    assert_eq!(text(&event, Field::FileHashSkipped), "too_large");
    assert_eq!(number(&event, Field::FileSize), Some(65 << 20));

    // A path beyond what the kernel takes at once.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut dir = openat(CWD, place.path(""), flags, Mode::empty()).unwrap();
    let long = "d".repeat(200);
    for _ in 0..30 {
        mkdirat(&dir, &long, Mode::from_raw_mode(0o700)).unwrap();
        dir = openat(&dir, &long, flags, Mode::empty()).unwrap();
    }
    let file = openat(&dir, "end", OFlags::CREATE | OFlags::WRONLY, mode).unwrap();
    rustix::io::write(&file, b"hello").unwrap();
    drop(file);
    running.wait_that(
        |running| {
            running
                .seen
                .iter()
                .any(|one| text(one, Field::FileName) == "end" && text(one, Field::FileSha256) == HELLO)
        },
        "a file at the end of a path of 6,000 bytes",
    );
    running.stop();
}

#[test]
fn a_storm_of_files_is_all_seen_and_each_once() {
    let place = Place::new();
    let mut running = place.start(true);
    place.settle(&mut running);
    let sub = place.path("many");
    fs::create_dir(&sub).unwrap();
    running.wait(EventType::FileCreate, &sub);
    const FILES: usize = 20_000;
    for number in 0..FILES {
        File::create(sub.join(number.to_string())).unwrap();
    }
    running.wait_that(
        |running| {
            let created = running.seen.iter().filter(|one| one.event_type == EventType::FileCreate);
            created.filter(|one| text(one, Field::FilePath).contains("/many/")).count() >= FILES
        },
        "all files",
    );
    println!("{FILES} files, {} overflows of the kernel's queue", running.lost);
    let seen = running.stop();
    let created = seen.iter().filter(|one| one.event_type == EventType::FileCreate);
    assert_eq!(
        created.filter(|one| text(one, Field::FilePath).contains("/many/")).count(),
        FILES,
        "each once"
    );
}

#[test]
fn directories_that_are_not_there_yet_are_taken_up_later() {
    let place = Place::new();
    let missing = place.path("later");
    let options = SourceOptions {
        integrity_dirs: vec![missing.clone()],
        scan_interval: Duration::from_millis(200),
        ..SourceOptions::default()
    };
    let source = IntegritySource::new(&options);
    assert!(source.provisions()[0].missing.is_some());
    let mut running = place.run(source);
    fs::create_dir(&missing).unwrap();
    let deadline = Instant::now() + DEADLINE;
    let mut number = 0;
    while !running.seen.iter().any(|one| one.event_type == EventType::FileCreate) {
        assert!(Instant::now() < deadline);
        number += 1;
        fs::write(missing.join(format!("file{number}")), "x").unwrap();
        let until = Instant::now() + Duration::from_millis(300);
        while Instant::now() < until {
            running.take();
            std::thread::yield_now();
        }
    }
    running.stop();
}
