//! Linux: pidfd, openat2, nftables, sock_diag, systemd units and cron files.

mod addresses;
mod block;
mod evidence;
mod frozen;
mod inventory;
mod isolate;
mod memory;
mod nft;
mod packages;
mod place;
mod quarantine;
mod restore;
mod service;
mod sockets;
mod systemd;
mod tree;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use event_model::{BootId, ProcessEntityId};
use os_files::patient::Hanging;
use sensor_api::ProcessClock;
use serde_json::Value;

use crate::action::{Action, ProcessTarget};
use crate::archives::Archives;
use crate::guards::Guards;
use crate::isolation::Isolated;
use crate::lineage::Lineage;
use crate::order::Order;
use crate::plan::Target;
use crate::platform::{Failure, Notice, Platform, Progress, Signer, Subject, Survey};
use crate::proc;
use crate::rails::Permit;
use crate::vault::Vault;

pub(crate) use addresses::own_addresses;

/// Threads that hang with a process of which they read something.
static HANGING: Hanging = Hanging::new(8);

/// This host, through the kernel's own interfaces and `nft`.
pub struct Linux {
    processes: Arc<dyn ProcessClock>,
    boot: BootId,
    dir: PathBuf,
    vault: Vault,
    isolation: Isolated,
    signer: Option<Signer>,
    /// What was found at the start and is not yet told.
    found: Option<Notice>,
}

impl Linux {
    /// The host that this process runs on. `dir` is the responder's folder, for archives and what
    /// is in force; `vault` is where files go that are taken away.
    ///
    /// # Errors
    /// The folders or the vault's key can't be made or read.
    pub fn new(
        processes: Arc<dyn ProcessClock>,
        boot: BootId,
        dir: PathBuf,
        vault: &Path,
    ) -> io::Result<Self> {
        let vault = Vault::open(vault)?;
        let isolation = Isolated::load(&dir);
        let found = frozen::let_go(&dir, boot);
        Ok(Self { processes, boot, dir, vault, isolation, signer: None, found })
    }

    /// Evidence is signed by this.
    #[must_use]
    pub fn sign_with(self, signer: Signer) -> Self {
        Self { signer: Some(signer), ..self }
    }

    /// Whether trees are found by it: here the kernel gives orphans another parent, and a tree is what hangs together
    /// now. To keep it up to date would cost at each start.
    pub const ASKS_FOR_LINEAGE: bool = false;

    /// Changes nothing here.
    #[must_use]
    pub fn know(self, _: Arc<Lineage>) -> Self {
        self
    }

    /// Target of an order on a process, as the process is now.
    fn target(&self, wanted: &ProcessTarget) -> Result<Target, Failure> {
        let pid = wanted.entity_id.pid();
        let subject = || format!("process {}", wanted.entity_id);
        if !wanted.entity_id.is_of_boot(self.boot) {
            let why = "it is of another boot of this host".to_owned();
            return Err(Failure::NotTheTarget { subject: subject(), why });
        }
        let stat = proc::stat(pid).ok_or_else(|| Failure::NotTheTarget {
            subject: subject(),
            why: "there is no process of that PID".to_owned(),
        })?;
        let executable = wanted.executable.clone().or_else(|| proc::executable_of(pid)).unwrap_or_default();
        let target = Target {
            entity_id: wanted.entity_id,
            executable,
            // Without a word on the image, a coarse clock must not take any image for the right one.
            image: wanted.image,
            kernel_thread: stat.kernel_thread,
        };
        // The first process and the kernel's are refused by the guard rails, whatever is said of them.
        if !stat.kernel_thread && pid > 1 {
            let only_executable = wanted.executable.is_some() || wanted.image.is_some();
            if self.processes.precision_ns() > 1 && !only_executable {
                return Err(Failure::NotAllowed {
                    subject: subject(),
                    why: "can't be told from a later process of the same PID by this host's sensor"
                        .to_owned(),
                    hint: "give `executable` too",
                });
            }
            crate::identity::open(self.processes.as_ref(), &target)
                .map_err(|error| Failure::NotTheTarget { subject: subject(), why: error.to_string() })?;
        }
        Ok(target)
    }

    /// The process of this PID as a target, as it is now.
    fn target_now(&self, pid: u32) -> Option<Target> {
        let stat = proc::stat(pid)?;
        let start_ns = self.processes.start_ns(pid).unwrap_or(stat.start_ticks * 10_000_000);
        Some(Target {
            entity_id: ProcessEntityId::new(self.boot, pid, start_ns),
            executable: proc::executable_of(pid).unwrap_or_default(),
            image: proc::image_of(pid),
            kernel_thread: stat.kernel_thread,
        })
    }
}

impl Platform for Linux {
    fn survey(&self, order: &Order) -> Result<Survey, Failure> {
        match &order.action {
            Action::TerminateProcess(wanted)
            | Action::KillTree(wanted)
            | Action::SuspendProcess(wanted)
            | Action::ResumeProcess(wanted) => self.survey_process(&order.action, wanted),
            Action::QuarantineFile(file) => self.survey_quarantine(file, order.id),
            Action::RestoreFile(item) => self.survey_restore(*item),
            Action::DeleteQuarantinedFile(item) => self.vault.survey_delete(item.item),
            Action::BlockAddress(target) => block::survey(target),
            Action::UnblockAddress(target) => block::survey_unblock(target),
            Action::IsolateHost(isolation) => self.survey_isolate(isolation),
            Action::ReleaseHost {} => self.survey_release(),
            Action::ListProcesses {} => Ok(looks("list the processes")),
            Action::ListConnections {} => Ok(looks("list the connections of TCP and UDP")),
            Action::CollectEvidence(request) => self.survey_evidence(request, order.id),
            Action::DeleteScheduledTask(file) => self.survey_task(file, order.id),
            Action::DeleteService(service) => self.survey_service(service, order.id),
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
            (
                Action::QuarantineFile(file) | Action::DeleteScheduledTask(file),
                Subject::File { file: held, .. },
            ) => self.quarantine(file, *held, id, progress),
            (Action::RestoreFile(item), _) => self.restore(*item, progress),
            (Action::DeleteQuarantinedFile(item), _) => self.vault.delete(item.item, progress),
            (Action::BlockAddress(target), _) => block::apply(target, progress),
            (Action::UnblockAddress(target), _) => block::lift(target, progress),
            (Action::IsolateHost(isolation), _) => self.isolate(isolation, permit, progress),
            (Action::ReleaseHost {}, _) => self.release(progress),
            (Action::ListProcesses {}, _) => {
                progress.step("list the processes", || Ok(inventory::processes(self)))
            }
            (Action::ListConnections {}, _) => progress.step("list the connections", inventory::connections),
            (Action::CollectEvidence(request), _) => self.collect_evidence(request, id, progress),
            (Action::DeleteService(service), Subject::Service { file: held, .. }) => {
                self.delete_service(service, *held, id, guards, progress)
            }
            (Action::RestoreService(item), _) => self.restore_service(*item, progress),
            (action, _) => Err(Failure::system(action.to_string(), "the survey does not fit the action")),
        }
    }

    fn verify(&self, order: &Order) -> Result<String, Failure> {
        match &order.action {
            Action::TerminateProcess(target) | Action::KillTree(target) => tree::is_gone(target),
            Action::SuspendProcess(target) => tree::is_suspended(target, true),
            Action::ResumeProcess(target) => tree::is_suspended(target, false),
            Action::QuarantineFile(file) | Action::DeleteScheduledTask(file) => {
                self.is_quarantined(file, order.id)
            }
            Action::RestoreFile(item) => self.is_restored(*item),
            Action::DeleteQuarantinedFile(item) => self.vault.is_deleted(item.item),
            Action::BlockAddress(target) => block::is_blocked(target, true),
            Action::UnblockAddress(target) => block::is_blocked(target, false),
            Action::IsolateHost(_) => self.is_isolated(),
            Action::ReleaseHost {} => self.is_released(),
            Action::ListProcesses {} | Action::ListConnections {} => {
                Ok("the list is in the result".to_owned())
            }
            Action::CollectEvidence(_) => Archives::of(&self.dir).is_collected(order.id),
            Action::DeleteService(service) => self.is_service_gone(service, order.id),
            Action::RestoreService(item) => self.is_service_back(*item),
            Action::StopResponses {} | Action::AllowResponses {} => Ok("the switch is turned".to_owned()),
        }
    }

    fn recover(&mut self, order: &Order) -> Result<String, Failure> {
        match &order.action {
            Action::QuarantineFile(file) | Action::DeleteScheduledTask(file) => {
                self.recover_quarantine(file, order.id)
            }
            Action::CollectEvidence(_) => Archives::of(&self.dir).recover(order.id),
            Action::ListProcesses {} | Action::ListConnections {} => {
                Err(Failure::NotProved("the list is lost; order it again".to_owned()))
            }
            Action::RestoreFile(item) => self.recover_restore(*item),
            Action::DeleteQuarantinedFile(item) => self.vault.recover_delete(item.item),
            Action::DeleteService(service) => self.recover_service(service, order.id),
            Action::RestoreService(item) => self.recover_restore_service(*item),
            Action::IsolateHost(_) => self.recover_isolation(),
            Action::ReleaseHost {} => self.recover_release(),
            _ => self.verify(order),
        }
    }

    fn watch(&mut self, may_act: bool) -> Vec<Notice> {
        let mut notices: Vec<Notice> = self.found.take().into_iter().collect();
        notices.extend(self.watch_isolation(may_act));
        notices
    }
}

fn looks(what: &str) -> Survey {
    Survey { steps: vec![what.to_owned()], subject: Subject::Nothing }
}
