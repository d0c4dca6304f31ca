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
                        tree.len().saturating_sub(1)
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
        let root =
            progress.step("opened the first one and made sure of it", || open(target, Wanted::Terminate))?;
        let mut members: HashMap<u32, Process> = HashMap::new();
        let (mut ended, mut spared) = (0_u32, Vec::new());
        // Whoever was of the tree is of it when its parents are gone, too.
        let mut known: Vec<(u32, u64)> = Vec::new();
        for _ in 0..ROUNDS {
            let found: Vec<(u32, u64)> = self
                .tree_of(target, &known)
                .into_iter()
                .filter(|(pid, _)| !members.contains_key(pid) && !spared.contains(pid))
                .collect();
            if found.is_empty() {
                break;
            }
            known.extend(&found);
            for (pid, start_ns) in &found {
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
                if let Ok(process) = held(&one, Wanted::Suspend) {
                    // One that can't be suspended is ended all the same.
                    let _ = process.suspend();
                }
                if let Ok(process) = held(&one, Wanted::Terminate) {
                    members.insert(*pid, process);
                }
            }
            // Held by handle, so their PIDs stay theirs and the next look still finds their children.
            for process in members.values().filter(|process| !process.has_ended()) {
                if process.terminate(ENDED).is_ok() {
                    ended += 1;
                }
            }
        }
        if !root.has_ended() {
            progress.step("ended the first one", || end(&root))?;
        }
        progress.note(&format!("ended {ended} processes"));
        let until = Instant::now() + AFTER_END;
        let left: Vec<u32> = members
            .iter()
            .filter(|(_, process)| !process.ends_within(until.saturating_duration_since(Instant::now())))
            .map(|(pid, _)| *pid)
            .collect();
        if !left.is_empty() {
            return Err(Failure::NotProved(format!("still there: {left:?}")));
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
    fn tree_of(&self, root: &Target, known: &[(u32, u64)]) -> Vec<(u32, u64)> {
        let listed = list().unwrap_or_default();
        let start = |pid: u32| {
            let process = Process::open(pid, Wanted::Look).ok()?;
            process.times().ok().map(|(created, _)| since_boot_ns(created))
        };
        let root = (root.entity_id.pid(), root.entity_id.start_ns());
        let mut tree = vec![root];
        let seen = self.lineage.below(ProcessKey { pid: root.0, start_ns: root.1 });
        let seen = seen.into_iter().map(|key| (key.pid, key.start_ns));
        for one in known.iter().copied().chain(seen.filter(|(pid, begun)| start(*pid) == Some(*begun))) {
            if tree.len() < MOST && !tree.contains(&one) {
                tree.push(one);
            }
        }
        let mut at = 0;
        while let Some((parent, parent_start)) = tree.get(at).copied() {
            at += 1;
            for one in listed.iter().filter(|one| one.parent_pid == parent && one.pid != parent) {
                let begun = start(one.pid).filter(|begun| *begun >= parent_start);
                if let Some(begun) = begun
                    && tree.len() < MOST
                    && !tree.iter().any(|(pid, _)| *pid == one.pid)
                {
                    tree.push((one.pid, begun));
                }
            }
        }
        tree
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
