//! Scripts of real processes, from the exec to the event.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use sensor_api::{ObservationQueue, SourceThreads, observation_queue};

use super::*;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

struct Reading {
    feed: ContentFeed,
    queue: ObservationQueue,
    threads: Option<SourceThreads>,
    seen: Vec<Observed>,
}

impl Reading {
    fn start() -> Self {
        let (feed, source) = content().unwrap();
        let (sender, queue) = observation_queue(1_000);
        let threads = Some(SourceThreads::start(vec![source], &sender).unwrap());
        Self { feed, queue, threads, seen: Vec::new() }
    }

    fn ran(&self, child: &Child, executable: &str, args: &[&str], directory: &Path) {
        let pid = child.id();
        let start_ns = procfs::Stat::read(pid).map_or(0, |stat| stat.start_ns);
        let image = ObservedImage {
            pid,
            start_ns,
            executable: executable.to_owned(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            working_directory: Some(directory.to_str().unwrap().to_owned()),
            ..ObservedImage::default()
        };
        let what = Observation::ProcessExecuted(Box::new(image));
        self.feed.offer(&Observed { at_ns: 7, position: None, what });
    }

    fn wait(&mut self, count: usize) -> Vec<ObservedActivity> {
        let deadline = Instant::now() + PATIENCE;
        while self.seen.len() < count {
            assert!(Instant::now() < deadline, "{} of {count}: {:?}", self.seen.len(), self.seen);
            self.queue.take(100, &mut |observed| self.seen.push(observed));
            std::thread::yield_now();
        }
        let activities = self.seen.iter().map(|observed| match &observed.what {
            Observation::Activity(activity) => activity.as_ref().clone(),
            other => panic!("{other:?}"),
        });
        activities.collect()
    }

    /// What comes at the end.
    fn stop(&mut self) {
        self.threads.take().unwrap().stop();
        self.queue.take(100, &mut |observed| self.seen.push(observed));
    }
}

fn get(activity: &ObservedActivity, field: Field) -> Option<&Value> {
    activity.fields.iter().find(|(known, _)| *known == field).map(|(_, value)| value)
}

fn waiting() -> Child {
    Command::new("/bin/cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

fn end(mut child: Child) {
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn a_script_is_read_where_its_process_sees_it() {
    let here = tempfile::tempdir().unwrap();
    let here = here.path().canonicalize().unwrap();
    fs::write(here.join("run.sh"), "#!/bin/sh\necho ü\n").unwrap();
    let mut reading = Reading::start();
    let child = waiting();
    reading.ran(&child, "/usr/bin/dash", &["sh", "./run.sh", "x"], &here);
    let event = reading.wait(1).remove(0);
    assert_eq!(event.event_type, EventType::ScriptContent);
    assert_eq!(event.actor.map(Actor::pid), Some(child.id()));
    assert_eq!(get(&event, Field::ScriptPath), Some(&text(here.join("run.sh").to_str().unwrap())));
    assert_eq!(get(&event, Field::ScriptInterpreter), Some(&text("/usr/bin/dash")));
    assert_eq!(get(&event, Field::ScriptText), Some(&text("#!/bin/sh\necho ü\n")));
    assert_eq!(get(&event, Field::ScriptBytes), Some(&Value::Integer(18)));
    let hash = Content::of_text("#!/bin/sh\necho ü\n".as_bytes()).sha256.unwrap();
    assert_eq!(get(&event, Field::ScriptSha256), Some(&text(hash)));
    assert_eq!(get(&event, Field::EventIncomplete), None);
    // The host's view serves where the process is gone already.
    let gone = waiting();
    fs::write(here.join("other.sh"), "exit").unwrap();
    let mut ended = gone;
    ended.kill().unwrap();
    ended.wait().unwrap();
    reading.ran(&ended, "/usr/bin/dash", &["sh", "other.sh"], &here);
    assert_eq!(get(&reading.wait(2)[1], Field::ScriptText), Some(&text("exit")));
    end(child);
    reading.stop();
}

#[test]
fn text_on_the_command_line_is_told_and_what_comes_again_is_counted() {
    let mut reading = Reading::start();
    let child = waiting();
    for _ in 0..5 {
        reading.ran(&child, "/usr/bin/python3.11", &["python3", "-c", "print(1)"], Path::new("/"));
    }
    let event = reading.wait(1).remove(0);
    assert_eq!(get(&event, Field::ScriptText), Some(&text("print(1)")));
    assert_eq!(get(&event, Field::ScriptPath), None);
    assert_eq!(get(&event, Field::EventCount), None);
    reading.stop();
    let all = reading.wait(2);
    assert_eq!(get(&all[1], Field::EventCount), Some(&Value::Integer(4)), "{all:?}");
    end(child);
}

#[test]
fn what_is_large_is_cut_and_what_is_no_file_is_refused() {
    let here = tempfile::tempdir().unwrap();
    let here = here.path().canonicalize().unwrap();
    fs::write(here.join("long"), "ü".repeat(100_000)).unwrap();
    assert!(Command::new("mkfifo").arg(here.join("fifo")).status().unwrap().success());
    let mut reading = Reading::start();
    let child = waiting();
    reading.ran(&child, "/bin/bash", &["bash", "long"], &here);
    reading.ran(&child, "/bin/bash", &["bash", "fifo"], &here);
    reading.ran(&child, "/bin/bash", &["bash", "/dev/zero"], &here);
    reading.ran(&child, "/bin/bash", &["bash", "missing"], &here);
    let events = reading.wait(4);
    let Some(Value::Text(script)) = get(&events[0], Field::ScriptText) else { panic!("{:?}", events[0]) };
    assert!(script.len() <= TEXT_MAX && script.len() > TEXT_MAX - 16);
    assert_eq!(get(&events[0], Field::ScriptBytes), Some(&Value::Integer(200_000)));
    let incomplete = |event| match get(event, Field::EventIncomplete) {
        Some(Value::TextList(list)) => list.join(";"),
        other => panic!("{other:?}"),
    };
    assert_eq!(incomplete(&events[0]), "script_text: cut");
    assert_eq!(incomplete(&events[1]), "script_text: not_regular");
    assert_eq!(incomplete(&events[2]), "script_text: not_regular");
    assert_eq!(incomplete(&events[3]), "script_text: unreadable");
    end(child);
    reading.stop();
}

#[test]
fn an_interpreter_that_nobody_listed_is_known_by_the_first_line() {
    let here = tempfile::tempdir().unwrap();
    let here = here.path().canonicalize().unwrap();
    let script = here.join("script");
    fs::write(&script, "#! /opt/tool -q\nrun\n").unwrap();
    fs::write(here.join("data"), "run\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let mut reading = Reading::start();
    let child = waiting();
    let data = here.join("data");
    reading.ran(&child, "/opt/tool-1.2", &["/opt/tool", "-q", data.to_str().unwrap()], &here);
    reading.ran(&child, "/opt/tool-1.2", &["/opt/tool", "-q", script.to_str().unwrap()], &here);
    let event = reading.wait(1).remove(0);
    assert_eq!(get(&event, Field::ScriptPath), Some(&text(script.to_str().unwrap())));
    end(child);
    reading.stop();
    assert_eq!(reading.seen.len(), 1, "{:?}", reading.seen);
}

#[test]
fn a_module_is_hashed_and_its_signature_looked_for() {
    let here = tempfile::tempdir().unwrap();
    let path = here.path().canonicalize().unwrap().join("signed.ko");
    fs::write(&path, "module~Module signature appended~\n").unwrap();
    let mut reading = Reading::start();
    let child = waiting();
    let start_ns = procfs::Stat::read(child.id()).unwrap().start_ns;
    let fields = vec![
        (Field::ModuleName, text("signed")),
        (Field::AccessMethod, text("finit_module")),
        (Field::FilePath, text(path.to_str().unwrap())),
    ];
    let actor = Some(Actor::Life(ProcessKey { pid: child.id(), start_ns }));
    let activity = ObservedActivity { event_type: EventType::ModuleLoad, actor, target: None, fields };
    let what = Observation::Activity(Box::new(activity));
    reading.feed.offer(&Observed { at_ns: 7, position: None, what });
    let event = reading.wait(1).remove(0);
    assert_eq!(get(&event, Field::ModuleSigned), Some(&Value::Boolean(true)));
    assert_eq!(get(&event, Field::FileSize), Some(&Value::Integer(34)));
    assert!(matches!(get(&event, Field::FileSha256), Some(Value::Text(hash)) if hash.len() == 64));
    end(child);
    reading.stop();
}

fn read_for(reader: &Reader, below: &Path, path: &str) -> Result<Vec<u8>, &'static str> {
    let file = open_below(root(below.to_str().unwrap()).unwrap(), path, &RemoteMounts::default(), reader)?;
    Contents::new().read(&file, SCRIPT_HASH_MAX).map(|content| content.begin.clone())
}

fn somebody(groups: Option<Vec<u32>>) -> Reader {
    Reader { uids: [54_321; 2], gid: 54_321, groups }
}

#[test]
fn what_the_user_could_not_read_is_not_read_for_him() {
    let here = tempfile::tempdir().unwrap();
    let here = here.path().canonicalize().unwrap();
    let set = |name: &str, mode| {
        fs::set_permissions(here.join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    fs::create_dir(here.join("closed")).unwrap();
    for name in ["open", "own", "group", "closed/open"] {
        fs::write(here.join(name), "text").unwrap();
        set(name, 0o644);
    }
    std::os::unix::fs::symlink("closed/open", here.join("link")).unwrap();
    set("", 0o755);
    set("own", 0o600);
    set("group", 0o604);
    set("closed", 0o700);
    let nobody = somebody(Some(Vec::new()));
    assert_eq!(read_for(&nobody, &here, "/open"), Ok(b"text".to_vec()));
    for path in ["/own", "/closed/open", "/link"] {
        assert_eq!(read_for(&nobody, &here, path), Err("forbidden"), "{path}");
        assert_eq!(read_for(&Reader::ROOT, &here, path), Ok(b"text".to_vec()), "{path}");
    }
    // As with a program that is set-user-id root.
    let lifted = Reader { uids: [54_321, 0], ..nobody.clone() };
    assert_eq!(read_for(&lifted, &here, "/own"), Err("forbidden"));
    // Others may, the group may not.
    let group = std::os::unix::fs::MetadataExt::gid(&fs::metadata(here.join("group")).unwrap());
    assert!(read_for(&nobody, &here, "/group").is_ok());
    assert_eq!(read_for(&somebody(Some(vec![group])), &here, "/group"), Err("forbidden"));
    assert_eq!(read_for(&somebody(None), &here, "/group"), Err("forbidden"));
}

#[test]
fn files_of_the_kernel_are_refused_and_links_stay_below_the_root() {
    for path in
        ["/proc/self/environ", "/proc/kmsg", "/proc/self/root/etc/passwd", "/sys/kernel/uevent_seqnum"]
    {
        assert_eq!(read_for(&Reader::ROOT, Path::new("/"), path), Err("kernel_file_system"), "{path}");
    }
    let here = tempfile::tempdir().unwrap();
    let here = here.path().canonicalize().unwrap();
    fs::create_dir(here.join("etc")).unwrap();
    fs::write(here.join("etc/passwd"), "inside").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", here.join("absolute")).unwrap();
    std::os::unix::fs::symlink("../../../../../../etc/passwd", here.join("relative")).unwrap();
    std::os::unix::fs::symlink("round", here.join("round")).unwrap();
    for path in ["/absolute", "/relative", "/../../etc/passwd"] {
        assert_eq!(read_for(&Reader::ROOT, &here, path), Ok(b"inside".to_vec()), "{path}");
    }
    assert_eq!(read_for(&Reader::ROOT, &here, "/round"), Err("unreadable"));
}

#[test]
fn hashing_stops_when_its_budget_is_used_up_and_large_scripts_are_not_hashed() {
    let here = tempfile::tempdir().unwrap();
    let file = |name: &str, size: usize| {
        fs::write(here.path().join(name), vec![b'#'; size]).unwrap();
        fs::File::open(here.path().join(name)).unwrap()
    };
    let mut contents = Contents::new();
    let hash = |contents: &mut Contents, file, max| contents.read(&file, max).unwrap().sha256.clone();
    assert_eq!(hash(&mut contents, file("script", (1 << 20) + 1), SCRIPT_HASH_MAX), Err("too_large"));
    // More than any time that this test takes gives back.
    assert!(hash(&mut contents, file("module", 60 << 20), MODULE_HASH_MAX).is_ok());
    assert_eq!(hash(&mut contents, file("small", 10), SCRIPT_HASH_MAX), Err("budget"));
}

#[test]
fn what_finds_no_room_is_counted_without_the_thread_that_reads() {
    // Never started.
    let (feed, _source) = content().unwrap();
    let image = ObservedImage {
        executable: "/usr/bin/dash".to_owned(),
        args: ["sh", "-c", "exit"].map(str::to_owned).to_vec(),
        ..ObservedImage::default()
    };
    let script = Observed { at_ns: 7, position: None, what: Observation::ProcessExecuted(Box::new(image)) };
    let event_type = EventType::ModuleLoad;
    let module = ObservedActivity { event_type, actor: None, target: None, fields: Vec::new() };
    let module = Observed { at_ns: 9, position: None, what: Observation::Activity(Box::new(module)) };
    (0..QUEUE + 3).for_each(|_| feed.offer(&script));
    (0..2).for_each(|_| feed.offer(&module));
    let counts = |losses: Vec<ObservedLoss>| -> Vec<(&str, Option<u64>)> {
        losses.iter().map(|loss| (loss.what, loss.count)).collect()
    };
    assert_eq!(counts(feed.take_losses()), [("script_content", Some(3)), ("module_load", Some(2))]);
    assert_eq!(counts(feed.take_losses()), []);
    assert_eq!(counts(feed.end()), [("script_content", Some(QUEUE as u64))]);
}
