//! The agent's side of the gate: starts the keeper, has its questions judged, and ends it when it hangs.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use event_model::{EventType, Field, ImageFile, Value};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use sensor_api::{ObservationSender, ObservedActivity, Provision, Source, StopSignal, boot_ns};

use super::wire::{FromKeeper, ToKeeper, of_keeper, tell};
use super::{GatePlaces, KEEPER_ARGUMENT, Question, caller};

const NAME: &str = "execution_gate";

/// Questions that are judged side by side: one that waits for a slow disk must not hold up the others.
const WORKERS: usize = 2;
/// Questions that may wait for a worker. More would be late anyway.
const QUEUE: usize = 64;
/// A keeper that says nothing for so long is ended. It speaks twice a second.
const SILENT: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(250);
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// A keeper that lived so long was well.
const GOOD_RUN: Duration = Duration::from_secs(60);

/// Who decides.
pub trait GateJudge: Send + Sync {
    /// Whether there is anything to judge by. Where not, nobody is asked.
    fn is_needed(&self) -> bool;

    /// `Some` keeps the program from running, and is told what came of that. Called from several threads.
    fn judge(&self, question: &Question) -> Option<Refusal>;
}

/// Told what came of a refusal.
pub type Refusal = Box<dyn FnOnce(Outcome) + Send>;

/// What came of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The kernel took the «no». Else it came too late, and the program runs.
    pub in_time: bool,
    /// Whether the process runs something else than what was refused; `None` where it is gone.
    pub runs_another: Option<bool>,
}

/// Judges programs before they run.
pub struct ExecutionGate {
    places: GatePlaces,
    judge: Arc<dyn GateJudge>,
}

impl ExecutionGate {
    /// For programs in these places.
    pub fn new(places: GatePlaces, judge: Arc<dyn GateJudge>) -> Self {
        Self { places, judge }
    }
}

struct Job {
    id: u64,
    thread: u32,
    file: File,
}

struct Pending {
    pid: u32,
    file: Option<ImageFile>,
    refusal: Refusal,
}

/// Refusals whose answer is under way.
type PendingRefusals = Mutex<HashMap<u64, Pending>>;

impl Source for ExecutionGate {
    fn name(&self) -> &'static str {
        NAME
    }

    fn provisions(&self) -> Vec<Provision> {
        vec![Provision {
            event_type: EventType::ExecutionGate,
            source: "fanotify permission to execute".to_owned(),
            missing: None,
        }]
    }

    fn run(&mut self, sender: &ObservationSender, stop: &StopSignal) {
        let mut wait = FIRST_WAIT;
        loop {
            let begun = Instant::now();
            let reason = match self.keep(sender, stop) {
                Ok(None) => return,
                Ok(Some(reason)) => reason,
                Err(error) => error.to_string(),
            };
            tracing::warn!(reason, "the gate before executions is open: programs are judged once they run");
            say(sender, "down", Some(&reason), None);
            wait = if begun.elapsed() >= GOOD_RUN { FIRST_WAIT } else { (wait * 2).min(LONGEST_WAIT) };
            if stop.asked_within(wait) {
                return;
            }
        }
    }
}

impl ExecutionGate {
    /// Has the gate kept until the agent stops (`None`) or the keeper fails.
    fn keep(&self, sender: &ObservationSender, stop: &StopSignal) -> io::Result<Option<String>> {
        let (socket, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let mut keeper = self.start_keeper(theirs)?;
        let pending = PendingRefusals::default();
        let (jobs, queue) = sync_channel(QUEUE);
        let queue = Mutex::new(queue);
        let ended = std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                let worker = std::thread::Builder::new().name("gate-judge".to_owned());
                worker.spawn_scoped(scope, || self.work(&socket, &queue, &pending))?;
            }
            let ended = self.listen(&socket, jobs, &pending, sender, stop);
            // What waits at the keeper is let go by the kernel with its end; workers find no more jobs.
            end(&mut keeper);
            ended
        });
        for (_, one) in pending.into_inner().unwrap_or_else(PoisonError::into_inner) {
            (one.refusal)(Outcome { in_time: false, runs_another: None });
        }
        ended
    }

    fn start_keeper(&self, socket: OwnedFd) -> io::Result<Child> {
        // The running program, whatever became of its path.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("edr-agent").arg(KEEPER_ARGUMENT).process_group(0);
        match &self.places {
            GatePlaces::All => {}
            GatePlaces::These(places) => {
                command.args(places);
            }
        }
        command.stdin(Stdio::from(socket)).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
    }

    fn listen(
        &self,
        socket: &OwnedFd,
        jobs: SyncSender<Job>,
        pending: &PendingRefusals,
        sender: &ObservationSender,
        stop: &StopSignal,
    ) -> io::Result<Option<String>> {
        let mut heard = Instant::now();
        let mut told = Told::default();
        let mut watched = None;
        loop {
            let needed = self.judge.is_needed();
            if watched != Some(needed) {
                tell(socket.as_fd(), ToKeeper::Watch(needed))?;
                watched = Some(needed);
            }
            let mut descriptors = [
                PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(stop.as_fd(), PollFlags::IN),
            ];
            let limit = Timespec { tv_sec: 0, tv_nsec: i64::from(LOOK_EVERY.subsec_nanos()) };
            match rustix::event::poll(&mut descriptors, Some(&limit)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let [from_keeper, asked_to_stop] = descriptors.map(|one| !one.revents().is_empty());
            if asked_to_stop {
                return Ok(None);
            }
            if !from_keeper {
                if heard.elapsed() >= SILENT {
                    return Ok(Some("its keeper hung and was ended".to_owned()));
                }
                continue;
            }
            heard = Instant::now();
            match of_keeper(socket)? {
                None => return Ok(Some("its keeper ended".to_owned())),
                Some(FromKeeper::Ask { id, thread, file }) => {
                    let job = Job { id, thread, file: File::from(file) };
                    if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) = jobs.try_send(job)
                    {
                        tell(socket.as_fd(), ToKeeper::Answer { id: job.id, deny: false })?;
                        told.unjudged += 1;
                    }
                }
                Some(FromKeeper::Refused { id, in_time }) => {
                    let one = pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                    if let Some(one) = one {
                        let runs_another = one.file.and_then(|file| caller::runs_another(one.pid, &file));
                        (one.refusal)(Outcome { in_time, runs_another });
                    }
                }
                Some(FromKeeper::State { late, suspended }) => told.state(sender, late, suspended),
                Some(FromKeeper::Failed(text)) => {
                    tracing::warn!(reason = text, "the gate before executions");
                    say(sender, "unwatched", Some(&text), None);
                }
            }
        }
    }

    /// Judges what comes until nothing can come any more.
    fn work(&self, socket: &OwnedFd, queue: &Mutex<Receiver<Job>>, pending: &PendingRefusals) {
        loop {
            let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Job { id, thread, file }) = job else { return };
            let question = caller::question(thread, file);
            let refusal = question.as_ref().and_then(|question| self.judge.judge(question));
            let deny = refusal.is_some();
            if let (Some(refusal), Some(question)) = (refusal, question) {
                let (pid, file) = (question.image.pid, question.image.image);
                let one = Pending { pid, file, refusal };
                pending.lock().unwrap_or_else(PoisonError::into_inner).insert(id, one);
            }
            if tell(socket.as_fd(), ToKeeper::Answer { id, deny }).is_err() {
                // The keeper is gone or its socket full: it answers by itself, and will say nothing of this «no».
                let unheard = pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                if let Some(one) = unheard {
                    (one.refusal)(Outcome { in_time: false, runs_another: None });
                }
            }
        }
    }
}

/// What was told of a keeper.
#[derive(Default)]
struct Told {
    late: u64,
    /// For which there was no room here.
    unjudged: u64,
    suspended: bool,
}

impl Told {
    fn state(&mut self, sender: &ObservationSender, late: u64, suspended: bool) {
        let more = late.saturating_sub(self.late) + std::mem::take(&mut self.unjudged);
        self.late = late;
        if more > 0 {
            tracing::warn!(programs = more, "programs ran before they were judged: the verdict was late");
            say(sender, "late", None, Some(more));
        }
        if std::mem::replace(&mut self.suspended, suspended) != suspended {
            let word = if suspended { "suspended" } else { "resumed" };
            tracing::warn!("the gate before executions is {word}");
            say(sender, word, None, None);
        }
    }
}

fn say(sender: &ObservationSender, action: &str, reason: Option<&str>, count: Option<u64>) {
    let text = |text: &str| Value::Text(text.to_owned());
    let mut fields = vec![(Field::EventAction, text(action)), (Field::EventProvider, text(NAME))];
    fields.extend(reason.map(|reason| (Field::EventReason, text(reason))));
    let count = count.and_then(|count| i64::try_from(count).ok());
    fields.extend(count.map(|count| (Field::EventCount, Value::Integer(count))));
    let event_type = EventType::ExecutionGate;
    // Where there is no room, the loss is counted there.
    sender.send(boot_ns(), ObservedActivity { event_type, actor: None, target: None, fields });
}

/// By force: what it holds, the kernel lets go.
fn end(keeper: &mut Child) {
    if let Err(error) = keeper.kill().and_then(|()| keeper.wait()) {
        tracing::warn!(%error, "the keeper of the gate before executions could not be ended");
    }
}
