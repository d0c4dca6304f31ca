//! The agent's side of the gate: starts the keeper, has its questions judged, and ends it when it hangs.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use event_model::{EventType, Field, ImageFile, Value};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use sensor_api::{ObservationSender, ObservedActivity, Provision, Source, StopSignal, boot_ns};

use super::caller::{self, Asked, Callers};
use super::wire::{FromKeeper, State, ToKeeper, of_keeper, tell};
use super::workers::{STUCK_AFTER, StuckThreads, Workers};
use super::{GatePlaces, KEEPER_ARGUMENT, Question};

const NAME: &str = "execution_gate";

/// Questions that are judged side by side: one that waits for a slow disk must not hold up the others.
const WORKERS: usize = 2;
/// Questions that may wait for a worker. More would be late anyway.
const QUEUE: usize = 64;
/// What became of a «no» is heard at once, or not at all: what the keeper can't send it does not send again.
const HEARD_WITHIN: Duration = Duration::from_secs(2);
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
    /// The kernel took the «no»; else it came too late, and the program runs. `None` where nobody knows.
    pub in_time: Option<bool>,
    /// Whether the process runs something else than what was refused; `None` where it is gone.
    pub runs_another: Option<bool>,
}

/// Judges programs before they run.
pub struct ExecutionGate {
    places: GatePlaces,
    judge: Arc<dyn GateJudge>,
    stuck: StuckThreads,
}

impl ExecutionGate {
    /// For programs in these places.
    pub fn new(places: GatePlaces, judge: Arc<dyn GateJudge>) -> Self {
        Self { places, judge, stuck: StuckThreads::default() }
    }
}

enum Job {
    /// Somebody asks.
    Ask { id: u64, thread: u32, file: File },
    /// The keeper told what came of a «no».
    Heard { id: u64 },
}

struct Pending {
    since: Instant,
    pid: u32,
    file: Option<ImageFile>,
    /// What the keeper told.
    in_time: Option<bool>,
    refusal: Refusal,
}

/// What the threads that judge have in common. One that is stuck may have it long after its keeper is gone.
struct Desk {
    socket: OwnedFd,
    judge: Arc<dyn GateJudge>,
    callers: Callers,
    /// Refusals whose answer is under way.
    pending: Mutex<HashMap<u64, Pending>>,
    /// Let through because it could not be read.
    unread: AtomicU64,
}

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
        let desk = Arc::new(Desk {
            socket,
            judge: Arc::clone(&self.judge),
            callers: Callers::default(),
            pending: Mutex::default(),
            unread: AtomicU64::new(0),
        });
        let at_work = Arc::clone(&desk);
        let workers = Workers::start(WORKERS, QUEUE, self.stuck.clone(), move |job| at_work.work(job));
        let ended = match workers {
            Ok(workers) => self.listen(&desk, &workers, sender, stop),
            Err(error) => Err(error),
        };
        // What waits at the keeper is let go by the kernel with its end. Nobody waits for who still judges: the answer
        // is not sent any more, and whoever it is about is told so.
        end(&mut keeper);
        desk.forget(Duration::ZERO);
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
        desk: &Desk,
        workers: &Workers<Job>,
        sender: &ObservationSender,
        stop: &StopSignal,
    ) -> io::Result<Option<String>> {
        let socket = &desk.socket;
        let mut heard = Instant::now();
        let mut told = Told::default();
        let mut watched = None;
        loop {
            told.stuck(sender, workers.replace_stuck(STUCK_AFTER));
            told.unread(sender, desk.unread.load(Ordering::Relaxed));
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
                // Only here: what the keeper has told is heard before.
                desk.forget(HEARD_WITHIN);
                if heard.elapsed() >= SILENT {
                    return Ok(Some("its keeper hung and was ended".to_owned()));
                }
                continue;
            }
            heard = Instant::now();
            match of_keeper(socket)? {
                None => return Ok(Some("its keeper ended".to_owned())),
                Some(FromKeeper::Ask { id, thread, file }) => {
                    let job = Job::Ask { id, thread, file: File::from(file) };
                    if workers.give(job).is_err() {
                        tell(socket.as_fd(), ToKeeper::Answer { id, deny: false })?;
                        told.unjudged += 1;
                    }
                }
                Some(FromKeeper::Refused { id, in_time }) => {
                    // What the process runs now may lie where nobody answers: not to be looked at here.
                    if desk.keeper_told(id, in_time) && workers.give(Job::Heard { id }).is_err() {
                        desk.conclude(id, None);
                    }
                }
                Some(FromKeeper::State(state)) => told.state(sender, state),
                Some(FromKeeper::Failed(text)) => {
                    tracing::warn!(reason = text, "the gate before executions");
                    say(sender, "unwatched", Some(&text), None);
                }
            }
        }
    }
}

impl Desk {
    /// Does one job. May never come back.
    fn work(&self, job: Job) {
        match job {
            Job::Ask { id, thread, file } => self.judge(id, thread, file),
            Job::Heard { id } => {
                let about = self.pending().get(&id).map(|one| (one.pid, one.file));
                let runs_another = about.and_then(|(pid, file)| caller::runs_another(pid, &file?));
                self.conclude(id, runs_another);
            }
        }
    }

    fn judge(&self, id: u64, thread: u32, file: File) {
        let question = match self.callers.ask(thread, file) {
            Asked::Program(question) => Some(question),
            Asked::Unread(reason) => {
                tracing::debug!(thread, reason, "a program can't be judged before it runs");
                self.unread.fetch_add(1, Ordering::Relaxed);
                None
            }
            Asked::Besides | Asked::Gone => None,
        };
        let refusal = question.as_ref().and_then(|question| self.judge.judge(question));
        let deny = refusal.is_some();
        if let (Some(refusal), Some(question)) = (refusal, question) {
            self.callers.refused(thread);
            let (pid, file) = (question.image.pid, question.image.image);
            let one = Pending { since: Instant::now(), pid, file, in_time: None, refusal };
            self.pending().insert(id, one);
        }
        if tell(self.socket.as_fd(), ToKeeper::Answer { id, deny }).is_err() {
            // The keeper is gone or its socket full: it answers by itself, and will say nothing of this «no».
            self.keeper_told(id, false);
            self.conclude(id, None);
        }
    }

    /// Whether somebody waits for that.
    fn keeper_told(&self, id: u64, in_time: bool) -> bool {
        let mut pending = self.pending();
        let one = pending.get_mut(&id);
        one.map(|one| one.in_time = Some(in_time)).is_some()
    }

    /// Tells what came of a «no», once.
    fn conclude(&self, id: u64, runs_another: Option<bool>) {
        let one = self.pending().remove(&id);
        if let Some(Pending { in_time, refusal, .. }) = one {
            refusal(Outcome { in_time, runs_another });
        }
    }

    /// Of what was refused so long ago nobody will say more than is known.
    fn forget(&self, after: Duration) {
        let old = |one: &Pending| one.since.elapsed() >= after;
        let old: Vec<u64> = self.pending().iter().filter(|(_, one)| old(one)).map(|(id, _)| *id).collect();
        old.into_iter().for_each(|id| self.conclude(id, None));
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<u64, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was told of a keeper.
#[derive(Default)]
struct Told {
    state: State,
    /// For which there was no room here.
    unjudged: u64,
    unread: u64,
    no_more_threads: bool,
}

impl Told {
    fn state(&mut self, sender: &ObservationSender, state: State) {
        let before = std::mem::replace(&mut self.state, state);
        let late = state.late.saturating_sub(before.late) + std::mem::take(&mut self.unjudged);
        if late > 0 {
            tracing::warn!(programs = late, "programs ran before they were judged: the verdict was late");
            say(sender, "late", None, Some(late));
        }
        let unopened = state.unopened.saturating_sub(before.unopened);
        if unopened > 0 {
            let reason = "the kernel refused programs whose file it could not open for the gate";
            tracing::warn!(programs = unopened, reason, "the gate before executions");
            say(sender, "unopened", Some(reason), Some(unopened));
        }
        let overflows = state.overflows.saturating_sub(before.overflows);
        if overflows > 0 {
            let reason = "the kernel's queue was full: an unknown number of programs ran unjudged";
            tracing::warn!(times = overflows, reason, "the gate before executions");
            say(sender, "overflow", Some(reason), Some(overflows));
        }
        if before.suspended != state.suspended {
            let word = if state.suspended { "suspended" } else { "resumed" };
            tracing::warn!("the gate before executions is {word}");
            say(sender, word, None, None);
        }
    }

    fn unread(&mut self, sender: &ObservationSender, unread: u64) {
        let more = unread.saturating_sub(std::mem::replace(&mut self.unread, unread));
        if more > 0 {
            let reason = "what they are or what they were given could not be read";
            tracing::warn!(programs = more, reason, "programs ran before they were judged");
            say(sender, "unread", Some(reason), Some(more));
        }
    }

    fn stuck(&mut self, sender: &ObservationSender, (replaced, no_more): (u64, bool)) {
        if replaced > 0 {
            let reason =
                "a verdict waits for a file or a memory that does not come; others are judged meanwhile";
            tracing::warn!(threads = replaced, reason, "the gate before executions");
            say(sender, "stuck", Some(reason), Some(replaced));
        }
        if no_more && !std::mem::replace(&mut self.no_more_threads, true) {
            let reason = "so many verdicts wait for what does not come that programs run unjudged";
            tracing::error!(reason, "the gate before executions");
            say(sender, "stuck", Some(reason), None);
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
