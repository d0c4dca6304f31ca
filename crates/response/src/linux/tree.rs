//! One process, or a process with all that it started: end, stop, go on.
//!
//! A tree is frozen from its root down before anything of it is ended, so that no
//! part can flee. A stopped process can't fork, but a signal takes a moment to
//! arrive: children are looked for until every thread of the tree stands still and
//! a whole look at /proc finds nobody new. The parent of a child is read again
//! after the child's pidfd was opened, and that parent stands still: so the pidfd
//! is a child of the tree, whatever happens to the PID.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::action::{Action, ProcessTarget};
use crate::guards::Guards;
use crate::identity::{self, NotActed};
use crate::plan::Target;
use crate::platform::{Failure, Progress, Subject, Survey};
use crate::proc;

use super::Linux;
use super::frozen::Frozen;

/// A tree of more processes is left to a person.
pub(crate) const MAX_TREE: usize = 1_000;

/// How long a tree may take to stand still, and how long to end.
const FREEZE_LIMIT: Duration = Duration::from_secs(5);
const END_LIMIT: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(1);
const GRACE: Duration = Duration::from_secs(1);

struct Member {
    pid: u32,
    pidfd: OwnedFd,
    /// It stood still before, so it is not to be woken if the freeze is given up.
    stood: bool,
}

impl Linux {
    pub(super) fn survey_process(&self, action: &Action, wanted: &ProcessTarget) -> Result<Survey, Failure> {
        let target = self.target(wanted)?;
        let (pid, executable) = (target.entity_id.pid(), target.executable.clone());
        let of = format!("{pid} ({executable})");
        let steps = match action {
            Action::TerminateProcess(_) => {
                vec![format!("send SIGTERM to {of}, SIGKILL after 1000 ms if it is still there")]
            }
            Action::KillTree(_) => {
                let below = descendants(&[pid]);
                let mut steps = vec![format!("send SIGSTOP to {of} and to all that it started")];
                steps.extend(below.into_iter().take(MAX_TREE).map(|(child, _)| {
                    let executable = proc::executable_of(child).unwrap_or_default();
                    format!("send SIGKILL to {child} ({executable})")
                }));
                steps.push(format!("send SIGKILL to {of}"));
                steps
            }
            Action::SuspendProcess(_) => vec![format!("send SIGSTOP to {of}")],
            _ => vec![format!("send SIGCONT to {of}")],
        };
        Ok(Survey { steps, subject: Subject::Process(target) })
    }

    pub(super) fn terminate(&self, target: &Target, progress: &mut Progress<'_>) -> Result<Value, Failure> {
        let pid = target.entity_id.pid();
        let pidfd = self.hold(target)?;
        progress.step("sent SIGTERM", || send(&pidfd, pid, Signal::TERM))?;
        if !identity::ends_within(&pidfd, GRACE) {
            progress.step("sent SIGKILL", || send(&pidfd, pid, Signal::KILL))?;
        }
        wait_for_end(&pidfd, pid)?;
        Ok(Value::Null)
    }

    pub(super) fn suspend(&self, target: &Target, progress: &mut Progress<'_>) -> Result<Value, Failure> {
        let pid = target.entity_id.pid();
        let pidfd = self.hold(target)?;
        progress.step("sent SIGSTOP", || send(&pidfd, pid, Signal::STOP))?;
        let stands = wait_until(FREEZE_LIMIT, LOOK_EVERY, || proc::stands_still(pid, false));
        match stands {
            true => Ok(Value::Null),
            false => Err(Failure::NotProved(format!("process {pid} still runs 5 s after SIGSTOP"))),
        }
    }

    pub(super) fn resume(&self, target: &Target, progress: &mut Progress<'_>) -> Result<Value, Failure> {
        let pid = target.entity_id.pid();
        let pidfd = self.hold(target)?;
        progress.step("sent SIGCONT", || send(&pidfd, pid, Signal::CONT))?;
        wait_until(FREEZE_LIMIT, LOOK_EVERY, || !is_stopped(pid));
        Ok(Value::Null)
    }

    pub(super) fn kill_tree(
        &self,
        target: &Target,
        guards: &Guards,
        progress: &mut Progress<'_>,
    ) -> Result<Value, Failure> {
        let root = self.hold(target)?;
        let pid = target.entity_id.pid();
        let mut frozen = Frozen::begin(&self.dir, self.boot);
        let ended = self.kill_frozen(pid, root, &mut frozen, guards, progress);
        frozen.end();
        ended
    }

    fn kill_frozen(
        &self,
        pid: u32,
        root: OwnedFd,
        frozen: &mut Frozen,
        guards: &Guards,
        progress: &mut Progress<'_>,
    ) -> Result<Value, Failure> {
        let stood = is_stopped(pid);
        if !stood {
            frozen.note(pid);
        }
        progress.step("sent SIGSTOP to the root", || send(&root, pid, Signal::STOP))?;
        let mut members = vec![Member { pid, pidfd: root, stood }];
        let mut spared = Vec::new();
        if let Err(failure) = self.freeze(&mut members, &mut spared, frozen, guards, progress) {
            for member in members.iter().filter(|member| !member.stood) {
                // Given up before anything was ended: all go on as before.
                let _ = identity::signal(&member.pidfd, member.pid, Signal::CONT);
            }
            return Err(failure);
        }
        progress.note(&format!("{} processes stand still", members.len()));
        let mut first_failure = None;
        // From the leaves up, so that no parent sees its child's end and starts another.
        for member in members.iter().rev() {
            let sent = progress.check("send SIGKILL").and_then(|()| {
                match identity::signal(&member.pidfd, member.pid, Signal::KILL) {
                    Ok(()) | Err(NotActed::Gone(_)) => Ok(()),
                    Err(error) => Err(Failure::system("kill", error)),
                }
            });
            // The others are ended all the same: half a frozen tree is worse.
            match sent {
                Ok(()) => progress.note(&format!("sent SIGKILL to {}", member.pid)),
                Err(failure) => {
                    let _ = identity::signal(&member.pidfd, member.pid, Signal::CONT);
                    first_failure.get_or_insert(failure);
                }
            }
        }
        if let Some(failure) = first_failure {
            return Err(failure);
        }
        members.iter().try_for_each(|member| wait_for_end(&member.pidfd, member.pid))?;
        progress.note("all of them ended");
        let ended: Vec<u32> = members.iter().map(|member| member.pid).collect();
        Ok(json!({ "ended": ended, "spared": spared }))
    }

    /// Stops all below the members, until a whole look finds nobody new.
    fn freeze(
        &self,
        members: &mut Vec<Member>,
        spared: &mut Vec<u32>,
        frozen: &mut Frozen,
        guards: &Guards,
        progress: &Progress<'_>,
    ) -> Result<(), Failure> {
        let began = Instant::now();
        loop {
            // First that all stand still, then the look: whoever forked before is found by it.
            let parents: Vec<u32> =
                members.iter().filter_map(|member| Some(proc::stat(member.pid)?.parent)).collect();
            let still = members.iter().all(|member| {
                proc::stands_still(member.pid, parents.contains(&member.pid))
                    || identity::has_ended(&member.pidfd)
            });
            let pids: Vec<u32> = members.iter().map(|member| member.pid).collect();
            let below = descendants(&pids);
            let mut found_new = false;
            for (pid, parent) in below {
                if pids.contains(&pid) || spared.contains(&pid) {
                    continue;
                }
                let Some(target) = self.target_now(pid) else { continue };
                // What a service started is the service's: its sessions are not of this tree either, and
                // looking for their parent among the members would go on for ever.
                if spared.contains(&parent) || guards.protected(&target).is_some() {
                    spared.push(pid);
                    continue;
                }
                progress.check("send SIGSTOP to a child")?;
                let Ok(pidfd) = identity::open_pid(pid) else { continue };
                // Read after the pidfd was opened. Its parent may itself be new in this round.
                let parent = proc::stat(pid).map(|stat| stat.parent);
                if !parent.is_some_and(|parent| members.iter().any(|member| member.pid == parent)) {
                    found_new = true;
                    continue;
                }
                let stood = is_stopped(pid);
                if !stood {
                    frozen.note(pid);
                }
                if identity::signal(&pidfd, pid, Signal::STOP).is_ok() {
                    members.push(Member { pid, pidfd, stood });
                    found_new = true;
                }
                if members.len() > MAX_TREE {
                    return Err(Failure::NotAllowed {
                        subject: format!("the tree of process {}", pids.first().copied().unwrap_or_default()),
                        why: format!("has more than {MAX_TREE} processes"),
                        hint: "end its parts one by one, or stop the service that starts them",
                    });
                }
            }
            if still && !found_new {
                return Ok(());
            }
            if began.elapsed() > FREEZE_LIMIT {
                // What sleeps in the kernel (a file system that does not answer) runs nothing of its own before it
                // stops, and SIGKILL ends a fork that it is in. To give up would let whoever hangs one thread
                // keep his whole tree.
                if !found_new && members.iter().all(sleeps_or_stands) {
                    return Ok(());
                }
                return Err(Failure::NotProved(
                    "the tree did not stand still within 5 s; it goes on".to_owned(),
                ));
            }
            std::thread::yield_now();
        }
    }

    fn hold(&self, target: &Target) -> Result<OwnedFd, Failure> {
        identity::open(self.processes.as_ref(), target).map_err(|error| Failure::NotTheTarget {
            subject: format!("process {}", target.entity_id),
            why: error.to_string(),
        })
    }
}

fn sleeps_or_stands(member: &Member) -> bool {
    proc::stands_still(member.pid, true) || identity::has_ended(&member.pidfd)
}

/// All below these, parents before their children, each with its parent.
fn descendants(roots: &[u32]) -> Vec<(u32, u32)> {
    let all = proc::parents();
    let mut found: Vec<(u32, u32)> = Vec::new();
    let mut next = roots.to_vec();
    while let Some(parent) = next.pop() {
        for (pid, of) in all.iter().filter(|(_, of)| *of == parent) {
            if !roots.contains(pid) && !found.iter().any(|(known, _)| known == pid) {
                found.push((*pid, *of));
                next.push(*pid);
            }
        }
    }
    found
}

fn send(pidfd: &OwnedFd, pid: u32, signal: Signal) -> Result<(), Failure> {
    identity::signal(pidfd, pid, signal).map_err(|error| Failure::system(format!("signal to {pid}"), error))
}

fn wait_for_end(pidfd: &OwnedFd, pid: u32) -> Result<(), Failure> {
    match identity::ends_within(pidfd, END_LIMIT) {
        true => Ok(()),
        false => Err(Failure::NotProved(format!("process {pid} is still there 5 s after SIGKILL"))),
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "/proc can't be waited on: a condition is looked at, with a deadline"
)]
pub(super) fn wait_until(limit: Duration, every: Duration, mut reached: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !reached() {
        if began.elapsed() > limit {
            return false;
        }
        std::thread::sleep(every);
    }
    true
}

fn is_stopped(pid: u32) -> bool {
    proc::stat(pid).is_some_and(|stat| matches!(stat.state, b'T' | b't'))
}

/// Whether that life of the PID is over, read from /proc.
pub(super) fn is_gone(target: &ProcessTarget) -> Result<String, Failure> {
    let pid = target.entity_id.pid();
    match proc::stat(pid) {
        None => Ok(format!("process {pid} is gone")),
        Some(stat) if stat.is_ended() => {
            Ok(format!("process {pid} has ended, its parent has not yet waited for it"))
        }
        Some(stat) if !proc::same_ticks(stat.start_ticks, target.entity_id.start_ns()) => {
            Ok(format!("process {pid} is gone, its PID is another process"))
        }
        Some(stat) => {
            let state = char::from(stat.state);
            Err(Failure::NotProved(format!("/proc still shows process {pid} in state {state}")))
        }
    }
}

/// Whether that life of the PID stands still, or goes on.
pub(super) fn is_suspended(target: &ProcessTarget, wanted: bool) -> Result<String, Failure> {
    let pid = target.entity_id.pid();
    let stat = proc::stat(pid)
        .filter(|stat| !stat.is_ended() && proc::same_ticks(stat.start_ticks, target.entity_id.start_ns()));
    if stat.is_none() {
        return Err(Failure::NotProved(format!("process {pid} is gone")));
    }
    let state = stat.map_or('?', |stat| char::from(stat.state));
    if is_stopped(pid) == wanted {
        Ok(format!("/proc shows process {pid} in state {state}"))
    } else {
        Err(Failure::NotProved(format!("/proc shows process {pid} in state {state}")))
    }
}
