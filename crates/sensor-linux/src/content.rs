//! What is in the files that were just run or loaded: the text of scripts, the hash
//! and signature of kernel modules.
//!
//! Opening and reading somebody's file can take for ever (a dead network mount, a file
//! system of the attacker's own), so it is done on a thread of its own, as soon as the
//! stream tells of the file. The stream's own events never wait for it.

mod file;
pub(crate) mod place;
mod script;

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use event_model::{EventType, Field, GapReason, Value};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd};
use sensor_api::{
    Actor, Observation, ObservationSender, Observed, ObservedActivity, ObservedImage, ObservedLoss,
    ProcessKey, Provision, Source, StopSignal,
};

use self::file::{Content, Contents, MODULE_HASH_MAX, SCRIPT_HASH_MAX};
use self::place::{Reader, open_below, open_descriptor, root};
use self::script::Script;
use crate::act::text;
use crate::ebpf::now_ns;
use crate::watch::mounts::RemoteMounts;
use crate::{escape, procfs, standing};

/// Losses are told no more often.
const LOSSES_EVERY: Duration = Duration::from_secs(1);
/// Starts and loads that may wait to be read.
const QUEUE: usize = 1_024;
/// Most of a script that an event carries, in bytes.
const TEXT_MAX: usize = 64 << 10;
/// The same script again within this time is counted, not told.
const SPAN: Duration = Duration::from_secs(60);
/// Scripts that are counted at once; each may hold [`TEXT_MAX`].
const COUNTED_MAX: usize = 128;

/// Where the pipeline puts what it observes, so that the contents are read.
///
/// The default one leads nowhere.
#[derive(Debug, Clone, Default)]
pub struct ContentFeed {
    shared: Option<Arc<Shared>>,
}

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// Readable while something waits.
    bell: OwnedFd,
}

#[derive(Debug, Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// What is being read.
    in_hand: Option<(EventType, u64)>,
    lost: Vec<ObservedLoss>,
    /// When the losses were taken last.
    taken: Option<Instant>,
}

impl Waiting {
    fn count_lost(&mut self, event_type: EventType, at_ns: u64) {
        let what = event_type.as_str();
        match self.lost.iter_mut().find(|loss| loss.what == what) {
            Some(loss) => {
                loss.count = loss.count.map(|count| count.saturating_add(1));
                loss.until_ns = loss.until_ns.max(at_ns);
            }
            None => self.lost.push(ObservedLoss {
                reason: GapReason::QueueFull,
                what,
                count: Some(1),
                from_ns: at_ns,
                until_ns: at_ns,
            }),
        }
    }
}

#[derive(Debug)]
enum Job {
    Script { at_ns: u64, process: ProcessKey, interpreter: String, script: Script, place: Place },
    Module { at_ns: u64, activity: Box<ObservedActivity> },
}

impl Job {
    /// What it would tell, and when that happened.
    fn what(&self) -> (EventType, u64) {
        match self {
            Self::Script { at_ns, .. } => (EventType::ScriptContent, *at_ns),
            Self::Module { at_ns, activity } => (activity.event_type, *at_ns),
        }
    }
}

/// Where a process sees its files.
#[derive(Debug, Clone)]
struct Place {
    working_directory: Option<String>,
    /// It may have a view of the files that is not the host's.
    own_mounts: bool,
    /// As whom it looks at them.
    reader: Reader,
}

impl ContentFeed {
    /// Takes what has a content to be read, and nothing else. Cheap for all other
    /// observations; never waits.
    pub fn offer(&self, observed: &Observed) {
        let Some(shared) = &self.shared else { return };
        let Some(job) = job_of(observed) else { return };
        let mut waiting = shared.lock();
        if waiting.jobs.len() < QUEUE {
            waiting.jobs.push_back(job);
            if waiting.jobs.len() == 1 {
                // It can only fail where it rings already.
                let _ = rustix::io::write(&shared.bell, &1_u64.to_ne_bytes());
            }
        } else {
            let (event_type, at_ns) = job.what();
            waiting.count_lost(event_type, at_ns);
        }
    }

    /// What found no room since the last time, at most once a second. It is asked for by
    /// whom it concerns, as the thread that reads may be stuck.
    pub fn take_losses(&self) -> Vec<ObservedLoss> {
        let Some(shared) = &self.shared else { return Vec::new() };
        let mut waiting = shared.lock();
        if waiting.lost.is_empty() || waiting.taken.is_some_and(|taken| taken.elapsed() < LOSSES_EVERY) {
            return Vec::new();
        }
        waiting.taken = Some(Instant::now());
        std::mem::take(&mut waiting.lost)
    }

    /// All that was lost, once nothing more is told: with what still waits, and what is
    /// still being read.
    pub fn end(&self) -> Vec<ObservedLoss> {
        let Some(shared) = &self.shared else { return Vec::new() };
        let mut waiting = shared.lock();
        let unread: Vec<_> = waiting.jobs.drain(..).map(|job| job.what()).collect();
        let in_hand = waiting.in_hand.take();
        for (event_type, at_ns) in in_hand.into_iter().chain(unread) {
            waiting.count_lost(event_type, at_ns);
        }
        std::mem::take(&mut waiting.lost)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn job_of(observed: &Observed) -> Option<Job> {
    match &observed.what {
        Observation::ProcessExecuted(image) => {
            let script = script::of(image)?;
            Some(Job::Script {
                at_ns: observed.at_ns,
                process: image.key(),
                interpreter: image.executable.clone(),
                script,
                place: place_of(image),
            })
        }
        Observation::Activity(activity) if activity.event_type == EventType::ModuleLoad => {
            Some(Job::Module { at_ns: observed.at_ns, activity: activity.clone() })
        }
        _ => None,
    }
}

fn place_of(image: &ObservedImage) -> Place {
    Place {
        working_directory: image.working_directory.clone(),
        // In a user namespace everybody may change the root. Where the agent itself runs beside
        // the host's files, what runs there with it has its view.
        own_mounts: image.namespaces.iter().any(|namespace| {
            namespace.starts_with("user:")
                || (namespace.starts_with("mnt:") && namespace != standing::own_mount_namespace())
        }),
        reader: Reader { uids: [image.uid, image.euid], gid: image.gid, groups: None },
    }
}

/// A feed and the source that reads what is put into it.
///
/// # Errors
/// If the system gives no descriptor.
pub fn content() -> std::io::Result<(ContentFeed, Box<dyn Source>)> {
    let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let shared = Arc::new(Shared { waiting: Mutex::default(), bell });
    let source =
        ContentSource { shared: Arc::clone(&shared), counted: Vec::new(), contents: Contents::new() };
    Ok((ContentFeed { shared: Some(shared) }, Box::new(source)))
}

/// A script that was told and may come again.
struct Counted {
    /// Interpreter, path, and hash or state of the file.
    key: (String, String, String),
    told: Instant,
    /// Runs since, and the last of them.
    more: u64,
    last: (u64, Actor),
    event: ObservedActivity,
}

struct ContentSource {
    shared: Arc<Shared>,
    counted: Vec<Counted>,
    contents: Contents,
}

impl Source for ContentSource {
    fn name(&self) -> &'static str {
        "content"
    }

    fn provisions(&self) -> Vec<Provision> {
        vec![Provision {
            event_type: EventType::ScriptContent,
            source: "arguments and files of what is run".to_owned(),
            missing: None,
        }]
    }

    fn run(&mut self, sender: &ObservationSender, stop: &StopSignal) {
        loop {
            self.work(sender);
            self.tell_counts(sender, Some(SPAN));
            let mut descriptors = [
                PollFd::from_borrowed_fd(self.shared.bell.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(stop.as_fd(), PollFlags::IN),
            ];
            // Counts are told a little late at most.
            let second = Timespec { tv_sec: 1, tv_nsec: 0 };
            let result = rustix::event::poll(&mut descriptors, Some(&second));
            let [bell, stop] = descriptors.map(|one| !one.revents().is_empty());
            if bell {
                let mut count = [0; 8];
                let _ = rustix::io::read(&self.shared.bell, &mut count);
            }
            if stop || result.is_err_and(|error| error != rustix::io::Errno::INTR) {
                break;
            }
        }
        self.work(sender);
        self.tell_counts(sender, None);
    }
}

impl ContentSource {
    /// Reads what waits.
    fn work(&mut self, sender: &ObservationSender) {
        loop {
            let job = {
                let mut waiting = self.shared.lock();
                let job = waiting.jobs.pop_front();
                waiting.in_hand = job.as_ref().map(Job::what);
                job
            };
            match job {
                None => return,
                Some(Job::Script { at_ns, process, interpreter, script, place }) => {
                    self.tell_script(sender, at_ns, process, interpreter, script, &place);
                }
                Some(Job::Module { activity, .. }) => tell_module(sender, &activity, &mut self.contents),
            }
        }
    }

    fn tell_script(
        &mut self,
        sender: &ObservationSender,
        at_ns: u64,
        process: ProcessKey,
        interpreter: String,
        script: Script,
        place: &Place,
    ) {
        let (path, content) = match script {
            Script::Inline(text) => (None, Ok(Arc::new(Content::of_text(text.as_bytes())))),
            Script::File(path) => {
                let content = read_of(process, &path, place, &mut self.contents, SCRIPT_HASH_MAX);
                (Some(whole_path(&path, place)), content)
            }
            Script::Unlikely { path, interpreter } => {
                match read_of(process, &path, place, &mut self.contents, SCRIPT_HASH_MAX) {
                    Ok(content) if content.is_for(&interpreter) => {
                        (Some(whole_path(&path, place)), Ok(content))
                    }
                    _ => return,
                }
            }
        };
        let actor = Actor::Life(process);
        let state = match &content {
            Ok(content) => content.sha256.clone().unwrap_or_else(|_| format!("{:?}", content.identity)),
            Err(reason) => (*reason).to_owned(),
        };
        let key = (interpreter, path.unwrap_or_default(), state);
        if let Some(known) = self.counted.iter_mut().find(|known| known.key == key) {
            known.more += 1;
            known.last = (at_ns, actor);
            return;
        }
        let event = script_event(actor, &key, content.as_deref().map_err(|reason| *reason));
        if self.counted.len() >= COUNTED_MAX {
            let oldest = self.counted.remove(0);
            oldest.tell(sender);
        }
        sender.send(at_ns, event.clone());
        self.counted.push(Counted { key, told: Instant::now(), more: 0, last: (at_ns, actor), event });
    }

    /// Tells the counts that are as old as that; without an age, all.
    fn tell_counts(&mut self, sender: &ObservationSender, age: Option<Duration>) {
        let due = |known: &mut Counted| age.is_none_or(|age| known.told.elapsed() >= age);
        for known in self.counted.extract_if(.., due) {
            known.tell(sender);
        }
    }
}

impl Counted {
    /// The runs since the event, if there were any.
    fn tell(self, sender: &ObservationSender) {
        let Self { more, last: (at_ns, actor), mut event, .. } = self;
        if more == 0 {
            return;
        }
        event.actor = Some(actor);
        if more > 1 {
            event.fields.push((Field::EventCount, Value::Integer(more.try_into().unwrap_or(i64::MAX))));
        }
        sender.send(at_ns, event);
    }
}

fn script_event(
    actor: Actor,
    (interpreter, path, _): &(String, String, String),
    content: Result<&Content, &'static str>,
) -> ObservedActivity {
    let mut fields = vec![(Field::ScriptInterpreter, text(interpreter))];
    if !path.is_empty() {
        fields.push((Field::ScriptPath, text(path)));
    }
    let mut incomplete = Vec::new();
    match content {
        Ok(content) => {
            let mut script = escape::text(&content.begin);
            if content.size > content.begin.len() as u64 || script.len() > TEXT_MAX {
                script.truncate(script.floor_char_boundary(TEXT_MAX));
                incomplete.push("script_text: cut".to_owned());
            }
            fields.push((Field::ScriptText, Value::Text(script)));
            fields.push((Field::ScriptBytes, Value::Integer(content.size.try_into().unwrap_or(i64::MAX))));
            match &content.sha256 {
                Ok(hash) => fields.push((Field::ScriptSha256, text(hash))),
                Err(reason) => incomplete.push(format!("script_sha256: {reason}")),
            }
        }
        Err(reason) => incomplete.push(format!("script_text: {reason}")),
    }
    if !incomplete.is_empty() {
        fields.push((Field::EventIncomplete, Value::TextList(incomplete)));
    }
    ObservedActivity { event_type: EventType::ScriptContent, actor: Some(actor), target: None, fields }
}

/// A second event of the load, with what the module's file is. The first one, the
/// kernel's, did not wait for it.
fn tell_module(sender: &ObservationSender, of: &ObservedActivity, contents: &mut Contents) {
    let kept = [Field::ModuleName, Field::AccessMethod, Field::FilePath, Field::EventOutcome];
    let mut fields: Vec<(Field, Value)> =
        of.fields.iter().filter(|(field, _)| kept.contains(field)).cloned().collect();
    let path = fields.iter().find_map(|(field, value)| match (field, value) {
        (Field::FilePath, Value::Text(path)) => Some(path.clone()),
        _ => None,
    });
    let (Some(path), Some(Actor::Life(process))) = (path, of.actor) else { return };
    fields.push((Field::EventAction, text("inspect")));
    let failed = fields.iter().any(|(field, value)| {
        *field == Field::EventOutcome && !matches!(value, Value::Text(outcome) if outcome == "success")
    });
    // Everybody may try to load a file, and as often as he likes.
    let hash_max = if failed { SCRIPT_HASH_MAX } else { MODULE_HASH_MAX };
    let place = Place { working_directory: None, own_mounts: false, reader: Reader::ROOT };
    match read_of(process, &path, &place, contents, hash_max) {
        Ok(content) => {
            fields.push((Field::ModuleSigned, Value::Boolean(content.is_signed_module())));
            fields.push((Field::FileSize, Value::Integer(content.size.try_into().unwrap_or(i64::MAX))));
            match &content.sha256 {
                Ok(hash) => fields.push((Field::FileSha256, text(hash))),
                Err(reason) => fields.push((Field::FileHashSkipped, text(*reason))),
            }
        }
        Err(reason) => fields.push((Field::FileHashSkipped, text(reason))),
    }
    let activity = ObservedActivity { event_type: of.event_type, actor: of.actor, target: None, fields };
    sender.send(now_ns(), activity);
}

/// The path from the root on.
fn whole_path(path: &str, place: &Place) -> String {
    match &place.working_directory {
        Some(directory) if !path.starts_with('/') => {
            format!("{}/{}", directory.trim_end_matches('/'), path.trim_start_matches("./"))
        }
        _ => path.to_owned(),
    }
}

/// Reads a file as the process sees it; where the process is gone, as the host does.
fn read_of(
    process: ProcessKey,
    path: &str,
    place: &Place,
    contents: &mut Contents,
    hash_max: u64,
) -> Result<Arc<Content>, &'static str> {
    let path = whole_path(path, place);
    let own = ["/proc/self/fd/", "/dev/fd/"].into_iter().find_map(|prefix| path.strip_prefix(prefix));
    let own: Option<u32> = own.and_then(|descriptor| descriptor.parse().ok());
    let is_it = || procfs::Stat::read(process.pid).is_ok_and(|stat| stat.is_of(process.start_ns));
    if is_it()
        && let Ok(root) = root(&format!("/proc/{}/root", process.pid))
    {
        let reader = place.reader.clone().with_groups_of(process.pid);
        let file = match own {
            Some(descriptor) => open_descriptor(process.pid, descriptor, &reader),
            None => open_below(root, &path, &RemoteMounts::of_process(process.pid), &reader),
        };
        // The PID may have become another's while its file was opened.
        if is_it() {
            return contents.read(&file?, hash_max);
        }
    }
    if own.is_some() || place.own_mounts {
        return Err("the process was gone");
    }
    let root = root("/").map_err(|_| "unreadable")?;
    contents.read(&open_below(root, &path, &RemoteMounts::read(), &place.reader)?, hash_max)
}

#[cfg(test)]
mod tests;
