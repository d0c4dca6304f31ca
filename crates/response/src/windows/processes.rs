//! Processes and trees of them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use event_model::ProcessEntityId;
use sensor_api::ProcessKey;
use serde_json::{Value, json};
use win32::clock::since_boot_ns;
use win32::process::{Process, Wanted, list};

use super::{NotHeld, Windows, held};
use crate::action::{Action, ProcessTarget};
use crate::guards::Guards;
use crate::plan::Target;
use crate::platform::{Failure, Progress, Subject, Survey};
use crate::terminate::ENDED;

/// Rounds after which a tree that grows is given up; each ends all that there is of it.
const ROUNDS: usize = 32;
/// So long what was ended may take to be gone.
const AFTER_END: Duration = Duration::from_secs(5);
/// Processes of one tree.
const MOST: usize = 4_096;

/// A tree of processes, PID and start of each, its first one first.
#[derive(Default)]
struct Tree {
    members: Vec<(u32, u64)>,
    /// Why there may be more.
    gap: Option<String>,
}

impl Windows {
    pub(super) fn survey_process(&self, action: &Action, wanted: &ProcessTarget) -> Result<Survey, Failure> {
        let target = self.target(wanted)?;
        let (pid, executable) = (target.entity_id.pid(), &target.executable);
        let steps = match action {
            Action::KillTree(_) => {
                let tree = self.tree_of(&target, &[]);
                vec![
                    format!(
                        "suspend {pid} ({executable}) and {} that it started",
                        tree.members.len().saturating_sub(1)
                    ),
                    "end them all (TerminateProcess), until nothing new is found".to_owned(),
                ]
            }
            Action::SuspendProcess(_) => vec![format!("suspend all threads of {pid} ({executable})")],
            Action::ResumeProcess(_) => vec![format!("let the threads of {pid} ({executable}) go on")],
            _ => vec![format!("end {pid} ({executable}) (TerminateProcess)")],
        };
        Ok(Survey { steps, subject: Subject::Process(target) })
    }

    pub(super) fn terminate(&self, target: &Target, progress: &mut Progress<'_>) -> Result<Value, Failure> {
        let process = progress
            .step("opened it and made sure that it is the one", || open(target, Wanted::Terminate))?;
        progress.step("ended it (TerminateProcess)", || end(&process))?;
        process.ends_within(AFTER_END);
        Ok(Value::Null)
    }

    pub(super) fn suspend(&self, target: &Target, progress: &mut Progress<'_>) -> Result<Value, Failure> {
        let process = open(target, Wanted::Suspend)?;
        progress.step("suspended it", || {
            process.suspend().map_err(|error| Failure::system("NtSuspendProcess", error))
        })?;
        Ok(Value::Null)
    }

    pub(super) fn resume(&self, target: &Target, progress: &mut Progress<'_>) -> Result<Value, Failure> {
        let process = open(target, Wanted::Suspend)?;
        progress.step("let it go on", || {
            process.resume().map_err(|error| Failure::system("NtResumeProcess", error))
        })?;
        Ok(Value::Null)
    }

    /// Suspends from the top down, so that nothing starts more, then ends; again until a look finds nothing new.
    pub(super) fn kill_tree(
        &self,
        target: &Target,
        guards: &Guards,
        progress: &mut Progress<'_>,
    ) -> Result<Value, Failure> {
        // Held to the end, so that its PID stays its own.
        let _root =
            progress.step("opened the first one and made sure of it", || open(target, Wanted::Terminate))?;
        let mut members: HashMap<u32, Process> = HashMap::new();
        let mut suspended: HashMap<u32, Process> = HashMap::new();
        let (mut ended, mut spared, mut refused) = (0_u32, Vec::new(), Vec::new());
        // What the system said last of one that is not ended.
        let mut why = None;
        // Whoever was of the tree is of it when its parents are gone, too.
        let mut known: Vec<(u32, u64)> = Vec::new();
        let mut last_look = Tree::default();
        // One look more than there are rounds: what it finds is not acted on any more.
        for round in 0..=ROUNDS {
            last_look = self.tree_of(target, &known);
            last_look.members.retain(|one| !known.contains(one));
            if last_look.members.is_empty() || round == ROUNDS {
                break;
            }
            known.extend(&last_look.members);
            for (pid, start_ns) in &last_look.members {
                let one = Target {
                    entity_id: ProcessEntityId::new(self.boot, *pid, *start_ns),
                    executable: String::new(),
                    image: None,
                    kernel_thread: false,
                };
                if guards.protected(&one).is_some() {
                    spared.push(*pid);
                    continue;
                }
                // One that can't be suspended is ended all the same.
                if let Ok(process) = held(&one, Wanted::Suspend)
                    && process.suspend().is_ok()
                {
                    suspended.insert(*pid, process);
                }
                match held(&one, Wanted::Terminate) {
                    Ok(process) => drop(members.insert(*pid, process)),
                    Err(NotHeld::Over(_)) => {}
                    Err(NotHeld::Refused(refusal)) => {
                        refused.push(*pid);
                        why = Some(refusal);
                    }
                }
            }
            // Held by handle, so their PIDs stay theirs and the next look still finds their children.
            for process in members.values().filter(|process| !process.has_ended()) {
                match process.terminate(ENDED) {
                    Ok(()) => ended += 1,
                    Err(error) => why = Some(error.to_string()),
                }
            }
        }
        progress.note(&format!("ended {ended} processes"));
        let until = Instant::now() + AFTER_END;
        let stays = |process: &Process| !process.ends_within(until.saturating_duration_since(Instant::now()));
        let mut left: Vec<u32> =
            members.iter().filter(|(_, process)| stays(process)).map(|(pid, _)| *pid).collect();
        left.extend(refused);
        for process in left.iter().filter_map(|pid| suspended.get(pid)) {
            // It was stopped to be ended; what goes on as if nothing had been is at least no host that hangs.
            let _ = process.resume();
        }
        left.extend(last_look.members.iter().map(|(pid, _)| *pid));
        left.sort_unstable();
        if !left.is_empty() {
            let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
            return Err(Failure::NotProved(format!("still there: {left:?}{why}")));
        }
        if let Some(gap) = last_look.gap {
            return Err(Failure::NotProved(gap));
        }
        Ok(json!({ "ended": ended, "protected": spared }))
    }
}

fn open(target: &Target, wanted: Wanted) -> Result<Process, Failure> {
    let subject = format!("process {}", target.entity_id);
    held(target, wanted).map_err(|why| Failure::NotTheTarget { subject, why: why.into_text() })
}

fn end(process: &Process) -> Result<(), Failure> {
    process.terminate(ENDED).map_err(|error| Failure::system("TerminateProcess", error))
}

impl Windows {
    /// The process and all that came of it, PID and start: what the agent saw come of it, and what the system says
    /// came of those or of `known` ones. A PID that was given again is no child: children begin after their parents.
    fn tree_of(&self, root: &Target, known: &[(u32, u64)]) -> Tree {
        let (listed, mut gap) = match list() {
            Ok(listed) => (listed, None),
            Err(error) => (Vec::new(), Some(format!("the processes can't be listed: {error}"))),
        };
        let start = |pid: u32| {
            let process = Process::open(pid, Wanted::Look).ok()?;
            process.times().ok().map(|(created, _)| since_boot_ns(created))
        };
        let root = (root.entity_id.pid(), root.entity_id.start_ns());
        let mut tree = vec![root];
        let mut add = |tree: &mut Vec<(u32, u64)>, one| match tree.len() < MOST {
            true => tree.push(one),
            false => gap = Some(format!("the tree has more than {MOST} processes; order it again")),
        };
        let seen = self.lineage.below(ProcessKey { pid: root.0, start_ns: root.1 });
        let seen = seen.into_iter().map(|key| (key.pid, key.start_ns));
        for one in known.iter().copied().chain(seen.filter(|(pid, begun)| start(*pid) == Some(*begun))) {
            if !tree.contains(&one) {
                add(&mut tree, one);
            }
        }
        let mut at = 0;
        while let Some((parent, parent_start)) = tree.get(at).copied() {
            at += 1;
            for one in listed.iter().filter(|one| one.parent_pid == parent && one.pid != parent) {
                let begun = start(one.pid).filter(|begun| *begun >= parent_start);
                if let Some(begun) = begun
                    && !tree.iter().any(|(pid, _)| *pid == one.pid)
                {
                    add(&mut tree, (one.pid, begun));
                }
            }
        }
        Tree { members: tree, gap }
    }
}

/// The process is not there any more. One that can't be opened may be there.
pub(super) fn is_gone(wanted: &ProcessTarget) -> Result<String, Failure> {
    let pid = wanted.entity_id.pid();
    match living(wanted) {
        Ok(_) => Err(Failure::NotProved(format!("process {pid} is still there"))),
        Err(NotHeld::Refused(why)) => Err(Failure::NotProved(why)),
        Err(NotHeld::Over(_)) => Ok(format!("process {pid} is gone")),
    }
}

/// The process is there.
pub(super) fn is_there(wanted: &ProcessTarget, state: &str) -> Result<String, Failure> {
    let pid = wanted.entity_id.pid();
    match living(wanted) {
        Ok(_) => Ok(format!("process {pid} is there; the system took the order that it be {state}")),
        Err(NotHeld::Refused(why)) => Err(Failure::NotProved(why)),
        Err(NotHeld::Over(_)) => Err(Failure::NotProved(format!("process {pid} is gone"))),
    }
}

fn living(wanted: &ProcessTarget) -> Result<Process, NotHeld> {
    let target =
        Target { entity_id: wanted.entity_id, executable: String::new(), image: None, kernel_thread: false };
    held(&target, Wanted::Look)
}
