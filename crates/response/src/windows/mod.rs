//! Windows: processes and files by their handles, services by the service manager, the network by filters
//! (WFP) or by `netsh`, tasks by `schtasks`.

mod barrier;
mod block;
mod evidence;
mod firewall;
mod inventory;
mod isolate;
mod lifting;
mod processes;
mod quarantine;
mod service;
mod task;
mod tool;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use event_model::BootId;
use sensor_api::ProcessClock;
use serde_json::Value;
use win32::clock::since_boot_ns;
use win32::process::{Process, Wanted};

use self::barrier::Barriers;
use crate::action::{Action, ProcessTarget};
use crate::archives::Archives;
use crate::guards::Guards;
use crate::isolation::Isolated;
use crate::lineage::Lineage;
use crate::order::Order;
use crate::plan::Target;
use crate::platform::{Failure, Notice, Platform, Progress, Signer, Subject, Survey};
use crate::rails::Permit;
use crate::vault::Vault;

pub use barrier::lift_filters;

/// Why a process is not held.
pub(crate) enum NotHeld {
    /// That life of the PID is over: it has ended, or the PID is another process.
    Over(String),
    /// The system does not let it be opened or looked at; it may live.
    Refused(String),
}

impl NotHeld {
    pub(crate) fn into_text(self) -> String {
        let (Self::Over(why) | Self::Refused(why)) = self;
        why
    }
}

/// The process that a target names, held; or why it is not there.
pub(crate) fn held(target: &Target, wanted: Wanted) -> Result<Process, NotHeld> {
    let pid = target.entity_id.pid();
    let ended = || NotHeld::Over(format!("process {pid} had already ended"));
    let process = Process::open(pid, wanted).map_err(|error| match error.raw_os_error() {
        Some(NO_SUCH_PID) => ended(),
        _ => NotHeld::Refused(format!("process {pid} can't be opened: {error}")),
    })?;
    let (created, _) = process
        .times()
        .map_err(|error| NotHeld::Refused(format!("process {pid}: its start can't be read: {error}")))?;
    if since_boot_ns(created) != target.entity_id.start_ns() {
        let now = process.image_path().unwrap_or_else(|_| "unknown".to_owned());
        let why = format!("PID {pid} is another process by now ({now}), nothing was done");
        return Err(NotHeld::Over(why));
    }
    if process.has_ended() { Err(ended()) } else { Ok(process) }
}

/// `ERROR_INVALID_PARAMETER`, which is what `OpenProcess` says of a PID that nobody has.
const NO_SUCH_PID: i32 = 87;

/// This host.
pub struct Windows {
    boot: BootId,
    dir: PathBuf,
    vault: Vault,
    blocks: block::Blocks,
    isolation: Isolated,
    barriers: Barriers,
    /// Looks at the isolation, one after the other, that the filtering platform gave no answer to.
    unanswered: u8,
    signer: Option<Signer>,
    lineage: Arc<Lineage>,
}

impl Windows {
    /// The host that this process runs on. `dir` is the responder's folder; `vault` is where files go
    /// that are taken away.
    ///
    /// # Errors
    /// The folders or the vault's key can't be made or read.
    pub fn new(_: Arc<dyn ProcessClock>, boot: BootId, dir: PathBuf, vault: &Path) -> io::Result<Self> {
        let barriers = Barriers::of(&dir);
        let (vault, blocks, isolation) =
            (Vault::open(vault)?, block::Blocks::load(&dir, barriers.clone()), Isolated::load(&dir));
        let (signer, lineage) = (None, Arc::default());
        Ok(Self { boot, dir, vault, blocks, isolation, barriers, unanswered: 0, signer, lineage })
    }

    /// Evidence is signed by this.
    #[must_use]
    pub fn sign_with(self, signer: Signer) -> Self {
        Self { signer: Some(signer), ..self }
    }

    /// Whether trees are found by it.
    pub const ASKS_FOR_LINEAGE: bool = true;

    /// Trees are found by this, too: Windows has nothing that leads past a parent that has ended.
    #[must_use]
    pub fn know(self, lineage: Arc<Lineage>) -> Self {
        Self { lineage, ..self }
    }

    /// Target of an order on a process, as the process is now.
    fn target(&self, wanted: &ProcessTarget) -> Result<Target, Failure> {
        let subject = || format!("process {}", wanted.entity_id);
        let not = |why: String| Failure::NotTheTarget { subject: subject(), why };
        if !wanted.entity_id.is_of_boot(self.boot) {
            return Err(not("it is of another boot of this host".to_owned()));
        }
        let pid = wanted.entity_id.pid();
        let mut target = Target {
            entity_id: wanted.entity_id,
            executable: wanted.executable.clone().unwrap_or_default(),
            image: wanted.image,
            kernel_thread: false,
        };
        // The kernel's own are refused by the guard rails, whatever is said of them.
        if !crate::protected::is_first_process(pid) {
            let process = held(&target, Wanted::Look).map_err(|why| not(why.into_text()))?;
            if target.executable.is_empty() {
                target.executable = process.image_path().unwrap_or_default();
            }
        }
        Ok(target)
    }
}

impl Platform for Windows {
    fn survey(&self, order: &Order) -> Result<Survey, Failure> {
        match &order.action {
            Action::TerminateProcess(wanted)
            | Action::KillTree(wanted)
            | Action::SuspendProcess(wanted)
            | Action::ResumeProcess(wanted) => self.survey_process(&order.action, wanted),
            Action::QuarantineFile(file) => self.survey_quarantine(file, order.id),
            Action::RestoreFile(item) => self.survey_restore(*item),
            Action::DeleteQuarantinedFile(item) => self.vault.survey_delete(item.item),
            Action::BlockAddress(target) => self.blocks.survey(target),
            Action::UnblockAddress(target) => self.blocks.survey_lift(target),
            Action::IsolateHost(isolation) => self.survey_isolate(isolation),
            Action::ReleaseHost {} => self.survey_release(),
            Action::ListProcesses {} => Ok(looks("list the processes")),
            Action::ListConnections {} => Ok(looks("list the connections of TCP and UDP")),
            Action::CollectEvidence(request) => self.survey_evidence(request, order.id),
            Action::DeleteScheduledTask(file) => self.survey_task(file, order.id),
            Action::DeleteService(service) => self.survey_service(service),
            Action::RestoreService(item) => self.survey_restore_service(*item),
            Action::StopResponses {} => Ok(looks("stop all response of this agent")),
            Action::AllowResponses {} => Ok(looks("allow response again")),
        }
    }

    fn apply(
        &mut self,
        permit: &Permit,
        guards: &Guards,
        progress: &mut Progress<'_>,
    ) -> Result<Value, Failure> {
        let id = permit.order().id;
        match (&permit.order().action, &permit.survey().subject) {
            (Action::TerminateProcess(_), Subject::Process(target)) => self.terminate(target, progress),
            (Action::KillTree(_), Subject::Process(target)) => self.kill_tree(target, guards, progress),
            (Action::SuspendProcess(_), Subject::Process(target)) => self.suspend(target, progress),
            (Action::ResumeProcess(_), Subject::Process(target)) => self.resume(target, progress),
            (Action::QuarantineFile(file), Subject::File { file: held, .. }) => {
                self.quarantine(file, *held, id, progress)
            }
            (Action::RestoreFile(item), _) => self.restore(*item, progress),
            (Action::DeleteQuarantinedFile(item), _) => self.vault.delete(item.item, progress),
            (Action::DeleteScheduledTask(file), Subject::File { file: held, .. }) => {
                self.delete_task(file, *held, id, progress)
            }
            (Action::BlockAddress(target), _) => self.blocks.apply(target, progress),
            (Action::UnblockAddress(target), _) => self.blocks.lift(target, progress),
            (Action::IsolateHost(isolation), _) => self.isolate(isolation, permit, progress),
            (Action::ReleaseHost {}, _) => self.release(progress),
            (Action::CollectEvidence(request), _) => self.collect_evidence(request, id, progress),
            (Action::DeleteService(service), _) => self.delete_service(service, id, progress),
            (Action::RestoreService(item), _) => self.restore_service(*item, progress),
            (Action::ListProcesses {}, _) => {
                progress.step("list the processes", || inventory::processes(self.boot))
            }
            (Action::ListConnections {}, _) => progress.step("list the connections", inventory::connections),
            (action, _) => Err(Failure::system(action.to_string(), "the survey does not fit the action")),
        }
    }

    fn verify(&self, order: &Order) -> Result<String, Failure> {
        match &order.action {
            Action::TerminateProcess(target) | Action::KillTree(target) => processes::is_gone(target),
            // Windows does not say whether a process is suspended; the system took the order.
            Action::SuspendProcess(target) => processes::is_there(target, "suspended"),
            Action::ResumeProcess(target) => processes::is_there(target, "resumed"),
            Action::QuarantineFile(file) | Action::DeleteScheduledTask(file) => {
                self.is_quarantined(file, order.id)
            }
            Action::RestoreFile(item) => self.is_restored(*item),
            Action::DeleteQuarantinedFile(item) => self.vault.is_deleted(item.item),
            Action::BlockAddress(target) => self.blocks.is_blocked(target),
            Action::UnblockAddress(target) => self.blocks.is_unblocked(target),
            Action::IsolateHost(_) => self.is_isolated(),
            Action::ReleaseHost {} => self.is_released(),
            Action::CollectEvidence(_) => Archives::of(&self.dir).is_collected(order.id),
            Action::DeleteService(service) => self.is_service_gone(service),
            Action::RestoreService(item) => self.is_service_back(*item),
            Action::ListProcesses {} | Action::ListConnections {} => {
                Ok("the list is in the result".to_owned())
            }
            Action::StopResponses {} | Action::AllowResponses {} => Ok("the switch is turned".to_owned()),
        }
    }

    fn recover(&mut self, order: &Order) -> Result<String, Failure> {
        match &order.action {
            Action::QuarantineFile(file) | Action::DeleteScheduledTask(file) => {
                self.recover_quarantine(file, order.id)
            }
            Action::CollectEvidence(_) => Archives::of(&self.dir).recover(order.id),
            Action::DeleteQuarantinedFile(item) => self.vault.recover_delete(item.item),
            Action::RestoreFile(item) => self.recover_restore(*item),
            Action::IsolateHost(_) => self.recover_isolation(),
            Action::ReleaseHost {} => self.recover_release(),
            Action::ListProcesses {} | Action::ListConnections {} => {
                Err(Failure::NotProved("the list is lost; order it again".to_owned()))
            }
            _ => self.verify(order),
        }
    }

    fn watch(&mut self, may_act: bool) -> Vec<Notice> {
        let lifted = self.blocks.lift_expired().into_iter().map(Notice::plain);
        lifted.chain(self.watch_isolation(may_act)).collect()
    }
}

fn looks(what: &str) -> Survey {
    Survey { steps: vec![what.to_owned()], subject: Subject::Nothing }
}
