//! Services of systemd: stopped, disabled, and their unit file put into the vault.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::action::{FileTarget, Item, ServiceTarget};
use crate::guards::Guards;
use crate::journal::write_whole;
use crate::platform::{Failure, Progress, Subject, Survey};

use super::Linux;
use super::place::not_allowed;
use super::restore::is_as_it_was;
use super::systemd::{self, State, processes_in, systemctl};
use super::tree::wait_until;

/// Where units stand that no package put there.
const UNIT_FOLDERS: &[&str] = &["/etc/systemd/system", "/usr/local/lib/systemd/system"];

/// After a crash, so long a service that was told to start may take to begin.
const STARTS_WITHIN: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What a service was, besides its unit file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Was {
    unit: String,
    active: bool,
    enabled: bool,
    /// What of it ran: itself, or the instances of a template. Older agents noted none.
    #[serde(default)]
    running: Vec<String>,
    /// The cgroups that its processes were in.
    #[serde(default)]
    groups: Vec<String>,
}

/// How a step is taken: within an order by its progress, after a crash as it is.
type Take<'a> = &'a mut dyn FnMut(&str, &dyn Fn() -> Result<(), Failure>) -> Result<(), Failure>;

impl Linux {
    pub(super) fn survey_service(&self, service: &ServiceTarget, id: Uuid) -> Result<Survey, Failure> {
        let path = unit_path(service)?;
        let was = was_of(service)?;
        let Survey { steps: mut moved, subject } = self.survey_quarantine(&unit_file(&path), id)?;
        let mut steps = Vec::new();
        if systemd::runs() {
            steps.push(format!("systemctl stop {}, SIGKILL to what is left of it", service.unit));
        }
        if was.enabled {
            steps.push(format!("systemctl disable {}", service.unit));
        }
        steps.append(&mut moved);
        steps.push("systemctl daemon-reload".to_owned());
        let Subject::File { path, file } = subject else { return Ok(Survey { steps, subject }) };
        let processes = State::of(&service.unit)?.processes();
        let processes = processes.into_iter().filter_map(|pid| self.target_now(pid)).collect();
        Ok(Survey { steps, subject: Subject::Service { path, file, processes } })
    }

    pub(super) fn delete_service(
        &self,
        service: &ServiceTarget,
        surveyed: (u64, u64),
        id: Uuid,
        guards: &Guards,
        progress: &mut Progress<'_>,
    ) -> Result<Value, Failure> {
        let file = unit_file(&unit_path(service)?);
        let was = was_of(service)?;
        progress.step("noted its state", || {
            let text = serde_json::to_vec(&was).map_err(|error| Failure::system("service", error))?;
            write_whole(&self.was_path(id), &text).map_err(|error| Failure::system("noting its state", error))
        })?;
        let gone = self
            .take_down(&was, guards, progress)
            .and_then(|()| self.quarantine(&file, surveyed, id, progress))
            .and_then(|moved| reload(&mut |what, take| progress.step(what, take)).map(|()| moved));
        if gone.is_err() && Path::new(&file.path).exists() {
            // The unit is still there: it goes on as it was.
            let _ = bring_up(&was, &mut |what, take| progress.step(what, take));
        }
        gone
    }

    fn take_down(&self, was: &Was, guards: &Guards, progress: &mut Progress<'_>) -> Result<(), Failure> {
        // Looked at again: it may have started something since the survey. Stopped whatever it is said to be.
        for pid in State::of(&was.unit)?.processes() {
            let Some(target) = self.target_now(pid) else { continue };
            if let Some(reason) = guards.protected(&target) {
                let why = format!("runs {pid} ({}), which is protected: {reason}", target.executable);
                return Err(not_allowed(&was.unit, &why, "stop it by hand"));
            }
        }
        if systemd::runs() {
            progress.step("stopped it", || systemd::stop(&was.unit, &was.groups))?;
        }
        if was.enabled {
            progress.step("disabled it", || systemctl(&["disable", "--quiet", &was.unit]).map(|_| ()))?;
        }
        Ok(())
    }

    pub(super) fn is_service_gone(&self, service: &ServiceTarget, id: Uuid) -> Result<String, Failure> {
        if let Ok(path) = unit_path(service) {
            return Err(Failure::NotProved(format!("{path} is still there")));
        }
        if let Some(unit) = State::of(&service.unit)?.running.first() {
            return Err(Failure::NotProved(format!("{unit} still runs")));
        }
        let was = self.was(Item { item: id })?;
        if let Some(pid) = processes_in(&was.groups).first() {
            return Err(Failure::NotProved(format!("process {pid} of {} still runs", service.unit)));
        }
        let metadata =
            self.vault.metadata(id).map_err(|error| Failure::system("the vault's record", error))?;
        let file = unit_file(&metadata.path);
        let proof = self.is_quarantined(&file, id)?;
        Ok(format!("{} does not run; {proof}", service.unit))
    }

    /// After a crash: where the unit's file is gone the rest is done, else the service goes on as it was.
    pub(super) fn recover_service(&self, service: &ServiceTarget, id: Uuid) -> Result<String, Failure> {
        let Ok(was) = self.was(Item { item: id }) else {
            return Err(Failure::NotProved(format!("{} was not touched", service.unit)));
        };
        let path = unit_path(service)
            .or_else(|failure| self.vault.metadata(id).map(|metadata| metadata.path).map_err(|_| failure))?;
        match self.recover_quarantine(&unit_file(&path), id) {
            Ok(_) => {
                reload(&mut |_, take| take())?;
                self.is_service_gone(service, id)
            }
            Err(failure) => {
                if Path::new(&path).exists() {
                    bring_up_soon(&was)?;
                }
                Err(failure)
            }
        }
    }

    pub(super) fn survey_restore_service(&self, item: Item) -> Result<Survey, Failure> {
        let was = self.was(item)?;
        // Its file may be back already, and only its start have failed.
        let mut survey = match is_as_it_was(&self.vault.item(item.item)?) {
            Ok(()) => Survey { steps: Vec::new(), subject: Subject::Nothing },
            Err(_) => self.survey_restore(item)?,
        };
        survey.steps.push("systemctl daemon-reload".to_owned());
        if was.enabled {
            survey.steps.push(format!("systemctl enable {}", was.unit));
        }
        survey.steps.extend(was.ran().iter().map(|unit| format!("systemctl start {unit}")));
        Ok(survey)
    }

    pub(super) fn restore_service(&self, item: Item, progress: &mut Progress<'_>) -> Result<Value, Failure> {
        let was = self.was(item)?;
        let metadata = self.vault.item(item.item)?;
        if is_as_it_was(&metadata).is_err() {
            self.put_back(&metadata, item, progress)?;
        }
        reload(&mut |what, take| progress.step(what, take))?;
        bring_up(&was, &mut |what, take| progress.step(what, take))?;
        // Last: as long as it is open, the order can be given again.
        progress.step("closed the vault's item", || self.close_item(&metadata, item))?;
        let file = json!({ "path": metadata.path, "sha256": metadata.sha256 });
        Ok(json!({ "unit": was.unit, "file": file }))
    }

    /// After a crash: where the file is back the rest is done, else nothing was.
    pub(super) fn recover_restore_service(&self, item: Item) -> Result<String, Failure> {
        let was = self.was(item)?;
        let metadata =
            self.vault.metadata(item.item).map_err(|error| Failure::system("the vault's record", error))?;
        is_as_it_was(&metadata)?;
        reload(&mut |_, take| take())?;
        bring_up_soon(&was)?;
        // It may take a moment until a unit that was told to start does.
        wait_until(STARTS_WITHIN, LOOK_EVERY, || self.is_service_back(item).is_ok());
        // As long as the item is open, the order can be given again.
        let proof = self.is_service_back(item)?;
        self.close_item(&metadata, item)?;
        Ok(proof)
    }

    pub(super) fn is_service_back(&self, item: Item) -> Result<String, Failure> {
        let was = self.was(item)?;
        let proof = self.is_restored(item)?;
        let now = was_of(&ServiceTarget { unit: was.unit.clone() })?;
        let runs = was.ran().iter().all(|unit| now.running.contains(unit));
        if now.enabled != was.enabled || !runs {
            return Err(Failure::NotProved(format!("{} is not as it was: {now:?}", was.unit)));
        }
        Ok(proof)
    }

    fn was(&self, item: Item) -> Result<Was, Failure> {
        let missing = |why: String| Failure::NotTheTarget { subject: format!("item {}", item.item), why };
        let text = fs::read(self.was_path(item.item))
            .map_err(|error| missing(format!("no service was put away under it ({error})")))?;
        serde_json::from_slice(&text).map_err(|error| missing(error.to_string()))
    }

    fn was_path(&self, id: Uuid) -> PathBuf {
        self.dir.join(format!("service-{id}.json"))
    }
}

impl Was {
    /// The units to start so that it runs as it did.
    fn ran(&self) -> Vec<String> {
        match self.active && self.running.is_empty() {
            true => vec![self.unit.clone()],
            false => self.running.clone(),
        }
    }
}

fn unit_path(service: &ServiceTarget) -> Result<String, Failure> {
    let mut paths = UNIT_FOLDERS.iter().map(|folder| format!("{folder}/{}", service.unit));
    paths.find(|path| fs::symlink_metadata(path).is_ok_and(|file| file.is_file())).ok_or_else(|| {
        let hint = "only units of /etc/systemd/system and /usr/local/lib/systemd/system are taken away; \
                    the others are their packages'";
        not_allowed(&service.unit, "has no unit file that may be taken away", hint)
    })
}

fn unit_file(path: &str) -> FileTarget {
    FileTarget { path: path.to_owned(), sha256: None, file: None }
}

fn was_of(service: &ServiceTarget) -> Result<Was, Failure> {
    let State { running, groups, .. } = State::of(&service.unit)?;
    let enabled = systemctl(&["is-enabled", "--quiet", &service.unit]).is_ok();
    Ok(Was { unit: service.unit.clone(), active: !running.is_empty(), enabled, running, groups })
}

fn bring_up(was: &Was, take: Take<'_>) -> Result<(), Failure> {
    if was.enabled {
        take("enabled it", &|| systemctl(&["enable", "--quiet", &was.unit]).map(|_| ()))?;
    }
    for unit in was.ran() {
        take("started it", &|| systemd::start(&unit))?;
    }
    Ok(())
}

/// The same after a crash of the agent, where nothing else begins before this is over: nobody waits for a unit that takes
/// its time to start.
fn bring_up_soon(was: &Was) -> Result<(), Failure> {
    if was.enabled {
        systemctl(&["enable", "--quiet", &was.unit])?;
    }
    was.ran().iter().try_for_each(|unit| systemd::start_soon(unit))
}

fn reload(take: Take<'_>) -> Result<(), Failure> {
    match systemd::runs() {
        true => take("reloaded systemd", &|| systemctl(&["daemon-reload"]).map(|_| ())),
        false => Ok(()),
    }
}
