//! Services of systemd: stopped, disabled, and their unit file put into the vault.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::action::{FileTarget, Item, ServiceTarget};
use crate::journal::write_whole;
use crate::platform::{Failure, Progress, Survey};

use super::Linux;
use super::place::{Held, Place, not_allowed};
use crate::vault::MAX_FILE;

/// Where units stand that no package put there.
const UNIT_FOLDERS: &[&str] = &["/etc/systemd/system", "/usr/local/lib/systemd/system"];

/// What a service was, besides its unit file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Was {
    unit: String,
    active: bool,
    enabled: bool,
}

impl Linux {
    pub(super) fn survey_service(&self, service: &ServiceTarget, id: Uuid) -> Result<Survey, Failure> {
        let path = unit_path(service)?;
        let was = state_of(service);
        let mut survey = self.survey_quarantine(&unit_file(&path), id)?;
        let mut steps = Vec::new();
        if was.active {
            steps.push(format!("systemctl stop {}", service.unit));
        }
        if was.enabled {
            steps.push(format!("systemctl disable {}", service.unit));
        }
        steps.append(&mut survey.steps);
        steps.push("systemctl daemon-reload".to_owned());
        Ok(Survey { steps, ..survey })
    }

    pub(super) fn delete_service(
        &self,
        service: &ServiceTarget,
        id: Uuid,
        progress: &mut Progress<'_>,
    ) -> Result<Value, Failure> {
        let file = unit_file(&unit_path(service)?);
        let was = state_of(service);
        progress.step("noted its state", || {
            let text = serde_json::to_vec(&was).map_err(|error| Failure::system("service", error))?;
            write_whole(&self.was_path(id), &text).map_err(|error| Failure::system("noting its state", error))
        })?;
        let surveyed = Place::open(&file.path)?.open_file()?.id();
        let gone = take_down(&was, progress)
            .and_then(|()| self.quarantine(&file, surveyed, id, progress))
            .and_then(|moved| reload(progress).map(|()| moved));
        if gone.is_err() && Path::new(&file.path).exists() {
            // The unit is still there: it goes on as it was.
            let _ = bring_up(&was, progress);
        }
        gone
    }

    pub(super) fn is_service_gone(&self, service: &ServiceTarget, id: Uuid) -> Result<String, Failure> {
        if let Ok(path) = unit_path(service) {
            return Err(Failure::NotProved(format!("{path} is still there")));
        }
        if state_of(service).active {
            return Err(Failure::NotProved(format!("{} still runs", service.unit)));
        }
        let metadata =
            self.vault.metadata(id).map_err(|error| Failure::system("the vault's record", error))?;
        let file = unit_file(&metadata.path);
        let proof = self.is_quarantined(&file, id)?;
        Ok(format!("{} does not run; {proof}", service.unit))
    }

    pub(super) fn survey_restore_service(&self, item: Item) -> Result<Survey, Failure> {
        let was = self.was(item)?;
        let mut survey = self.survey_restore(item)?;
        survey.steps.push("systemctl daemon-reload".to_owned());
        if was.enabled {
            survey.steps.push(format!("systemctl enable {}", was.unit));
        }
        if was.active {
            survey.steps.push(format!("systemctl start {}", was.unit));
        }
        Ok(survey)
    }

    pub(super) fn restore_service(&self, item: Item, progress: &mut Progress<'_>) -> Result<Value, Failure> {
        let was = self.was(item)?;
        let restored = self.restore(item, progress)?;
        reload(progress)?;
        bring_up(&was, progress)?;
        Ok(json!({ "unit": was.unit, "file": restored }))
    }

    pub(super) fn is_service_back(&self, item: Item) -> Result<String, Failure> {
        let was = self.was(item)?;
        let proof = self.is_restored(item)?;
        let now = state_of(&ServiceTarget { unit: was.unit.clone() });
        if now != was {
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

fn state_of(service: &ServiceTarget) -> Was {
    let says = |question| systemctl(&[question, "--quiet", &service.unit]).is_ok();
    Was { unit: service.unit.clone(), active: runs() && says("is-active"), enabled: says("is-enabled") }
}

/// Whether systemd is what runs this host.
fn runs() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

fn take_down(was: &Was, progress: &mut Progress<'_>) -> Result<(), Failure> {
    if was.active {
        progress.step("stopped it", || systemctl(&["stop", &was.unit]))?;
    }
    if was.enabled {
        progress.step("disabled it", || systemctl(&["disable", "--quiet", &was.unit]))?;
    }
    Ok(())
}

fn bring_up(was: &Was, progress: &mut Progress<'_>) -> Result<(), Failure> {
    if was.enabled {
        progress.step("enabled it", || systemctl(&["enable", "--quiet", &was.unit]))?;
    }
    if was.active {
        progress.step("started it", || systemctl(&["start", &was.unit]))?;
    }
    Ok(())
}

fn reload(progress: &mut Progress<'_>) -> Result<(), Failure> {
    if runs() { progress.step("reloaded systemd", || systemctl(&["daemon-reload"])) } else { Ok(()) }
}

fn systemctl(arguments: &[&str]) -> Result<(), Failure> {
    let doing = || format!("systemctl {}", arguments.join(" "));
    let output = Command::new("/usr/bin/systemctl")
        .args(arguments)
        .env_clear()
        .env("SYSTEMD_PAGER", "")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::system(doing(), error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::system(doing(), said.lines().next().unwrap_or("it failed")))
}

/// The Debian package that put this file there, if the file is still as it put it.
pub(super) fn package_of(path: &str, held: &Held) -> Option<String> {
    let in_packages = ["/usr/", "/bin/", "/sbin/", "/lib"].iter().any(|start| path.starts_with(start));
    if !in_packages || path.starts_with("/usr/local/") {
        return None;
    }
    let listed = path.strip_prefix('/')?;
    // Where /bin is a link to /usr/bin, packages may say either.
    let short = listed.strip_prefix("usr/").unwrap_or(listed);
    let hash = md5_of(held)?;
    for entry in fs::read_dir("/var/lib/dpkg/info").ok()?.flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let Some(package) = name.strip_suffix(".md5sums") else { continue };
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let is_it = |line: &str| {
            line.split_once("  ").is_some_and(|(sum, file)| (file == listed || file == short) && sum == hash)
        };
        if text.lines().any(is_it) {
            return Some(package.to_owned());
        }
    }
    None
}

fn md5_of(held: &Held) -> Option<String> {
    let (mut hash, mut buffer, mut file) = (Md5::new(), vec![0; 64 << 10], &held.file);
    // It may grow while it is read.
    let mut bounded = file.take(MAX_FILE + 1);
    loop {
        match bounded.read(&mut buffer).ok()? {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    file.seek(SeekFrom::Start(0)).ok()?;
    Some(crate::vault::hex(&hash.finalize()))
}
