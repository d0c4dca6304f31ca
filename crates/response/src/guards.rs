//! Who may be acted on, and how often.
//!
//! The protected set is compiled in and known by identity: PID 1, threads of the
//! kernel, the agent with its ancestors, and the system services that a host can't
//! be reached or used without. A service is known by device and inode of its
//! executable at its standard, root-owned path: a name alone would let a miner
//! called `sshd` go free.

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use event_model::{ReceiptState, ResponseMode, ResponseReceipt};

use crate::plan::{Plan, Target};
use crate::proc;

/// Automatic actions on one host in any minute. Past it a breaker refuses: a rule
/// that matches this often is more likely wrong than right.
pub const MAX_AUTOMATIC_PER_MINUTE: usize = 60;

const MINUTE: Duration = Duration::from_secs(60);

/// Services that are never ended, wherever of these folders they are installed.
const PROTECTED_SERVICES: &[&str] = &[
    "systemd/systemd",
    "systemd/systemd-journald",
    "systemd/systemd-logind",
    "systemd/systemd-networkd",
    "systemd/systemd-resolved",
    "systemd/systemd-udevd",
    "systemd/systemd-timesyncd",
    "systemd/systemd-executor",
    "openssh/sshd-session",
    "openssh/sshd-auth",
    "NetworkManager",
    "agetty",
    "auditd",
    "conmon",
    "containerd",
    "containerd-shim-runc-v2",
    "crio",
    "cron",
    "crond",
    "crun",
    "dbus-broker",
    "dbus-broker-launch",
    "dbus-daemon",
    "dhclient",
    "dockerd",
    "edr-agent",
    "edr-server",
    "getty",
    "init",
    "kubelet",
    "libvirtd",
    "login",
    "polkitd",
    "qemu-system-x86_64",
    "rsyslogd",
    "runc",
    "sshd",
    "udevd",
    "wpa_supplicant",
];

const SERVICE_FOLDERS: &[&str] = &[
    "/usr/lib",
    "/usr/libexec",
    "/usr/sbin",
    "/usr/bin",
    "/usr/local/sbin",
    "/usr/local/bin",
    "/lib",
    "/sbin",
];

/// Why an action was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The rule's mode does not let it act.
    #[error("mode is `{mode}`: would {plan}")]
    Mode {
        /// The mode.
        mode: ResponseMode,
        /// What would have been done.
        plan: String,
    },
    /// The target is in the protected set.
    #[error("{pid} ({executable}) is protected: {reason}")]
    Protected {
        /// PID.
        pid: u32,
        /// Image.
        executable: String,
        /// Why it is protected.
        reason: &'static str,
    },
    /// Too many actions.
    #[error(
        "{MAX_AUTOMATIC_PER_MINUTE} automatic actions in a minute on this host are the limit; hint: look whether a rule matches too much"
    )]
    Breaker,
}

/// A plan that may be carried out. Only [`Guards::authorise`] makes one.
#[derive(Debug)]
pub struct Authorised {
    plan: Plan,
}

impl Authorised {
    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(crate) fn into_plan(self) -> Plan {
        self.plan
    }
}

/// A refusal with the receipt that reports it.
pub type Refused = Box<(Refusal, ResponseReceipt)>;

/// The guard rails of one host.
#[derive(Debug)]
pub struct Guards {
    /// PID and start in clock ticks of the agent and its ancestors.
    lineage: Vec<(u32, u64)>,
    services: HashSet<(u64, u64)>,
    recent: VecDeque<Instant>,
}

impl Guards {
    /// The guard rails as they stand on this host now, for the calling process.
    pub fn of_this_host() -> Self {
        let own = std::process::id();
        let mut lineage = Vec::new();
        let mut next = own;
        // PID 1 ends the walk, and has a guard of its own. The bound is against a
        // chain that changes while it is walked.
        while next > 1 && lineage.len() < 64 {
            let Some(stat) = proc::stat(next) else { break };
            lineage.push((next, stat.start_ticks));
            next = stat.parent;
        }
        let mut guards = Self { lineage, services: HashSet::new(), recent: VecDeque::new() };
        guards.refresh();
        guards
    }

    /// Looks the services up again: an update gives them new inodes. What was
    /// protected stays so, for services that still run the old file.
    pub fn refresh(&mut self) {
        let standard = SERVICE_FOLDERS
            .iter()
            .flat_map(|folder| PROTECTED_SERVICES.iter().map(move |service| Path::new(folder).join(service)));
        let beside = std::env::current_exe().ok().into_iter().flat_map(|exe| {
            let folder = exe.parent().map(PathBuf::from).unwrap_or_default();
            [exe, folder.join("edr-server")]
        });
        self.services.extend(standard.chain(beside).filter_map(|path| identity_of_service(&path)));
    }

    /// Whether `plan` may be carried out in `mode`.
    ///
    /// # Errors
    /// The [`Refusal`] with its receipt.
    pub fn authorise(&mut self, plan: Plan, mode: ResponseMode) -> Result<Authorised, Refused> {
        match self.refusal(&plan, mode) {
            None => Ok(Authorised { plan }),
            Some(refusal) => {
                let receipt = plan.receipt(ReceiptState::Refused, refusal.to_string(), Vec::new());
                Err(Box::new((refusal, receipt)))
            }
        }
    }

    fn refusal(&mut self, plan: &Plan, mode: ResponseMode) -> Option<Refusal> {
        if let Some(reason) = self.protected(&plan.target) {
            let (pid, executable) = (plan.target.entity_id.pid(), plan.target.executable.clone());
            return Some(Refusal::Protected { pid, executable, reason });
        }
        if mode != ResponseMode::Auto {
            return Some(Refusal::Mode { mode, plan: plan.describe() });
        }
        let now = Instant::now();
        while self.recent.front().is_some_and(|at| now.duration_since(*at) >= MINUTE) {
            self.recent.pop_front();
        }
        if self.recent.len() >= MAX_AUTOMATIC_PER_MINUTE {
            return Some(Refusal::Breaker);
        }
        self.recent.push_back(now);
        None
    }

    fn protected(&self, target: &Target) -> Option<&'static str> {
        let pid = target.entity_id.pid();
        if pid <= 1 {
            return Some("it is the first process");
        }
        if target.kernel_thread {
            return Some("it is a thread of the kernel");
        }
        if self.lineage.iter().any(|(known, _)| *known == pid) {
            let now = proc::stat(pid);
            if now.is_some_and(|stat| self.lineage.contains(&(pid, stat.start_ticks))) {
                return Some("it is the agent or one of its ancestors");
            }
        }
        // As observed, and as it is now: the process may have begun to run another image since.
        let current = proc::image_of(pid);
        if [target.image, current].into_iter().flatten().any(|image| self.services.contains(&image)) {
            return Some("it is a system service");
        }
        if current.is_none() && proc::stat(pid).is_some_and(|stat| stat.kernel_thread) {
            return Some("it is a thread of the kernel");
        }
        None
    }
}

/// Device and inode of a service's executable, if only root can have put it there.
fn identity_of_service(path: &Path) -> Option<(u64, u64)> {
    let file = fs::metadata(path).ok()?;
    let others_may_write = file.mode() & 0o022 != 0;
    (file.is_file() && file.uid() == 0 && !others_may_write).then(|| (file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_known_by_its_file_only_if_root_alone_can_write_it() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sshd");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o757)).unwrap();
        assert_eq!(identity_of_service(&path), None);
        assert_eq!(identity_of_service(&dir.path().join("missing")), None);
    }
}
