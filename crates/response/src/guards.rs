//! Who may be acted on, and how often.
//!
//! The protected set is compiled in and known by identity: PID 1, threads of the
//! kernel, the agent with its ancestors, and the system services that a host can't
//! be reached or used without. A service is known by device and inode of its
//! executable at its standard, root-owned path: a name alone would let a miner
//! called `sshd` go free. And it is protected only while it runs as root (real and
//! effective user 0, as seen from the initial user namespace) or in the cgroup of a unit
//! that is known to run it as another user: anyone may start a service's file with a
//! library of his own in it (`LD_PRELOAD`), but neither as root nor there. The cgroup of
//! any unit will not do, as users' cron jobs and what a web server is made to start are
//! below `system.slice` too. The price is that helpers of other services that run as
//! another user are not protected; a rule that acts on its own and names one of them ends it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use event_model::{ReceiptState, ResponseMode, ResponseReceipt};

use crate::breaker::{Breaker, Limit};
use crate::plan::{Plan, Target};
use crate::{proc, protected};

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
    #[error("{0} in a minute are the limit; hint: look whether the rule matches too much")]
    Breaker(Limit),
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
    /// Programs that are protected by configuration.
    configured: Vec<PathBuf>,
    /// The agent's own folders.
    folders: Vec<PathBuf>,
    breaker: Breaker,
}

/// Programs of services and of the configuration, as they stand at one time.
#[derive(Debug)]
pub struct ProtectedFiles(HashSet<(u64, u64)>);

impl ProtectedFiles {
    /// Looks at some hundred paths, which may take as long as a disk takes.
    pub fn look_up(configured: &[PathBuf]) -> Self {
        let configured = configured.iter().filter_map(|path| protected::file_id(path));
        Self(protected::services().chain(configured).collect())
    }
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
        let mut guards = Self {
            lineage,
            services: HashSet::new(),
            configured: Vec::new(),
            folders: Vec::new(),
            breaker: Breaker::default(),
        };
        guards.refresh();
        guards
    }

    /// Looks the services and what is protected by configuration up again: an update gives
    /// them new inodes. What was protected stays so, for services that still run the old file.
    pub fn refresh(&mut self) {
        self.also_protect(ProtectedFiles::look_up(&self.configured));
    }

    /// Programs that are protected by configuration.
    pub fn configured(&self) -> &[PathBuf] {
        &self.configured
    }

    /// What [`refresh`](Self::refresh) does, with what was looked up elsewhere.
    pub fn also_protect(&mut self, files: ProtectedFiles) {
        self.services.extend(files.0);
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

    /// Whether this is the name of a file that is protected where it stands.
    pub fn protects_name(&self, name: &str) -> bool {
        let own = std::env::current_exe().ok();
        let is_own = own.is_some_and(|exe| exe.file_name().is_some_and(|own| own == name));
        is_own || protected::is_name_of_service(name)
    }

    /// Whether the file at this path is protected, under whatever name it stands there.
    pub fn protects_path(&self, path: &Path) -> bool {
        protected::file_id(path).is_some_and(|(device, inode)| self.protects_image(device, inode))
    }

    /// Whether this file is protected, by device and inode as stat(2) gives them.
    pub fn protects_image(&self, device: u64, inode: u64) -> bool {
        self.services.contains(&(device, inode))
    }

    /// Counts an action of a rule, or says which limit forbids it.
    pub(crate) fn admit(
        &mut self,
        rule: &event_model::RuleId,
        image: Option<(u64, u64)>,
    ) -> Result<(), Limit> {
        self.breaker.admit(rule, image, Instant::now())
    }

    /// These files are protected too, from now on. Configuration adds, it never removes.
    pub fn protect(&mut self, paths: impl IntoIterator<Item = PathBuf>) {
        self.configured.extend(paths);
        self.services.extend(self.configured.iter().filter_map(|path| protected::file_id(path)));
    }

    /// What is in these folders is protected: keys, journals, what is not yet sent.
    pub fn protect_folders(&mut self, folders: impl IntoIterator<Item = PathBuf>) {
        // Paths that are acted on have no links in them.
        self.folders.extend(folders.into_iter().map(|folder| folder.canonicalize().unwrap_or(folder)));
    }

    /// Why this file is protected, if it is.
    pub(crate) fn protected_file(&self, path: &str, (device, inode): (u64, u64)) -> Option<&'static str> {
        if self.protects_image(device, inode) {
            return Some("it is the program of a system service, or protected by configuration");
        }
        if self.folders.iter().any(|folder| protected::is_below(path, folder)) {
            return Some("it is the agent's own");
        }
        protected::needed_by_the_system(path)
    }

    fn refusal(&mut self, plan: &Plan, mode: ResponseMode) -> Option<Refusal> {
        if let Some(reason) = self.protected(&plan.target) {
            let (pid, executable) = (plan.target.entity_id.pid(), plan.target.executable.clone());
            return Some(Refusal::Protected { pid, executable, reason });
        }
        if mode != ResponseMode::Auto {
            return Some(Refusal::Mode { mode, plan: plan.describe() });
        }
        self.breaker.admit(&plan.rule_id, plan.target.image, Instant::now()).err().map(Refusal::Breaker)
    }

    /// Why this process is protected, if it is.
    pub(crate) fn protected(&self, target: &Target) -> Option<&'static str> {
        let pid = target.entity_id.pid();
        if protected::is_first_process(pid) {
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
        let mut images = [target.image, current].into_iter().flatten();
        if images.any(|image| self.services.contains(&image)) && proc::runs_for_the_system(pid) {
            return Some("it is a system service");
        }
        if proc::takes_the_system_down(pid) {
            return Some("its end would take the system down");
        }
        if current.is_none() && proc::stat(pid).is_some_and(|stat| stat.kernel_thread) {
            return Some("it is a thread of the kernel");
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_configuration_protects_is_protected_after_its_update_too() {
        let dir = tempfile::tempdir().unwrap();
        let (path, next) = (dir.path().join("own"), dir.path().join("next"));
        std::fs::write(&path, "before").unwrap();
        let mut guards = Guards::of_this_host();
        guards.protect([path.clone()]);
        assert!(guards.protects_path(&path));
        std::fs::write(&next, "after").unwrap();
        std::fs::rename(&next, &path).unwrap();
        assert!(!guards.protects_path(&path));
        guards.refresh();
        assert!(guards.protects_path(&path));
    }
}
