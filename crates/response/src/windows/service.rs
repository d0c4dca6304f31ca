//! Services: stopped and removed, with a backup of all that the service manager and the registry had of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;
use win32::registry::Key;
use win32::service;

use super::Windows;
use crate::action::{Item, ServiceTarget};
use crate::journal::write_whole;
use crate::platform::{Failure, Progress, Subject, Survey};
use crate::protected::file_id;
use crate::service_backup::{self, Was, image_of};

const SERVICES: &str = r"HKLM\SYSTEM\CurrentControlSet\Services";

/// So long a service may take to stop, and its entry to be gone.
const STOPS_WITHIN: Duration = Duration::from_secs(30);

/// Keys and values of one service that are kept, and bytes of a value.
const MOST_KEYS: usize = 256;
const MOST_VALUES: u32 = 512;
const MOST_VALUE_BYTES: usize = 1 << 20;

/// Programs of Windows that run what others tell them to: a service of theirs is whoever's.
const INTERPRETERS: [&str; 9] = [
    "cmd.exe",
    "powershell.exe",
    "pwsh.exe",
    "rundll32.exe",
    "regsvr32.exe",
    "mshta.exe",
    "wscript.exe",
    "cscript.exe",
    "msbuild.exe",
];

impl Windows {
    pub(super) fn survey_service(&self, wanted: &ServiceTarget) -> Result<Survey, Failure> {
        let was = read(&wanted.unit)?;
        let not = |why: String, hint| Failure::NotAllowed { subject: wanted.unit.clone(), why, hint };
        if !was.is_no_driver() {
            return Err(not("is a driver".to_owned(), "quarantine its file and restart the host"));
        }
        let windows = win32::host::system_folder().parent().map(PathBuf::from).unwrap_or_default();
        let image = image_of(&was.command_line, &windows.to_string_lossy());
        let name = image.rsplit('\\').next().unwrap_or_default();
        let interprets = INTERPRETERS.iter().any(|one| one.eq_ignore_ascii_case(name));
        let belongs_to_windows = win32::access_list::belongs_to_windows(Path::new(&image));
        if !interprets && belongs_to_windows.unwrap_or(false) {
            let hint = "disable it by hand if it is misused: `sc.exe config NAME start= disabled`";
            return Err(not(format!("runs {image}, which belongs to Windows"), hint));
        }
        let mut steps = vec![format!("keep a backup of {SERVICES}\\{}", wanted.unit)];
        if was.ran {
            steps.push(format!("stop the service {} ({image})", wanted.unit));
        }
        steps.push(format!("remove the service {}; its file stays", wanted.unit));
        // Whose file is protected is protected itself. A file that is gone is nobody's.
        let subject = match file_id(Path::new(&image)) {
            Some(file) if !interprets => Subject::File { path: image, file },
            _ => Subject::Nothing,
        };
        Ok(Survey { steps, subject })
    }

    pub(super) fn delete_service(
        &self,
        wanted: &ServiceTarget,
        id: Uuid,
        progress: &mut Progress<'_>,
    ) -> Result<Value, Failure> {
        let name = &wanted.unit;
        let was = read(name)?;
        progress.step("kept what it was", || {
            let text = serde_json::to_vec(&was).map_err(|error| Failure::system("service", error))?;
            write_whole(&self.was_path(id), &text)
                .map_err(|error| Failure::system("keeping what it was", error))
        })?;
        if was.ran {
            progress.step("stopped it", || {
                let hint = "end its process first if it does not stop";
                service::stop(name, STOPS_WITHIN)
                    .map_err(|error| Failure::system(format!("stopping {name} ({hint})"), error))
            })?;
        }
        let removed = progress.step("removed it", || {
            service::delete(name).map_err(|error| Failure::system(format!("removing {name}"), error))
        });
        if removed.is_err() && was.ran {
            // It is still there: it goes on as it was.
            let _ = progress.step("started it again", || {
                service::start(name).map_err(|error| Failure::system(format!("starting {name}"), error))
            });
        }
        removed.map(|()| json!({ "item": id, "command_line": was.command_line }))
    }

    pub(super) fn is_service_gone(&self, wanted: &ServiceTarget) -> Result<String, Failure> {
        match service::config(&wanted.unit) {
            Err(error) if is_no_such(&error) => {
                Ok(format!("the service manager has no service {}", wanted.unit))
            }
            Err(error) => Err(Failure::system(format!("asking for {}", wanted.unit), error)),
            // Windows removes it when the last of those who have it open lets go.
            Ok(_) => Err(Failure::NotProved(format!(
                "{} is still there; it goes when nobody has it open any more (an open list of services does)",
                wanted.unit
            ))),
        }
    }

    pub(super) fn survey_restore_service(&self, item: Item) -> Result<Survey, Failure> {
        let was = self.was(item)?;
        if service::config(&was.name).is_ok() {
            return Err(Failure::NotAllowed {
                subject: was.name,
                why: "is another service by now".to_owned(),
                hint: "remove that one first",
            });
        }
        let mut steps = vec![
            format!("make the service {} ({})", was.name, was.command_line),
            format!("write {} keys of the registry back", was.keys.len()),
        ];
        if was.ran {
            steps.push(format!("start {}", was.name));
        }
        Ok(Survey { steps, subject: Subject::Nothing })
    }

    pub(super) fn restore_service(&self, item: Item, progress: &mut Progress<'_>) -> Result<Value, Failure> {
        let was = self.was(item)?;
        let failure = |doing: &str| {
            let doing = format!("{doing} {}", was.name);
            move |error| Failure::system(doing, error)
        };
        progress
            .step("made it", || service::create(&was.name, &config_of(&was)).map_err(failure("making")))?;
        let written = progress.step("wrote its keys back", || {
            write_back(&was).map_err(failure("writing the registry's keys of"))
        });
        if let Err(failure) = written {
            // All of it or nothing.
            let _ = service::delete(&was.name);
            return Err(failure);
        }
        if was.ran {
            progress.step("started it", || service::start(&was.name).map_err(failure("starting")))?;
        }
        Ok(json!({ "service": was.name }))
    }

    pub(super) fn is_service_back(&self, item: Item) -> Result<String, Failure> {
        let was = self.was(item)?;
        let config = service::config(&was.name)
            .map_err(|error| Failure::system(format!("asking for {}", was.name), error))?;
        if config != config_of(&was) {
            return Err(Failure::NotProved(format!("{} is not as it was: {config:?}", was.name)));
        }
        if was.ran && !service::runs(&was.name).unwrap_or(false) {
            return Err(Failure::NotProved(format!("{} is back, but does not run", was.name)));
        }
        Ok(format!("{} is back as it was", was.name))
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

/// `ERROR_SERVICE_DOES_NOT_EXIST`.
fn is_no_such(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(1_060)
}

fn read(name: &str) -> Result<Was, Failure> {
    let config = service::config(name).map_err(|error| match is_no_such(&error) {
        true => {
            Failure::NotTheTarget { subject: name.to_owned(), why: "there is no such service".to_owned() }
        }
        false => Failure::system(format!("asking for the service {name}"), error),
    })?;
    let mut keys = Vec::new();
    read_keys(&format!(r"{SERVICES}\{name}"), "", &mut keys)
        .map_err(|error| Failure::system(format!("reading {SERVICES}\\{name}"), error))?;
    Ok(Was {
        name: name.to_owned(),
        display_name: config.display_name,
        kind: config.kind,
        start: config.start,
        error_control: config.error_control,
        command_line: config.command_line,
        account: config.account,
        dependencies: config.dependencies,
        ran: service::runs(name).unwrap_or(false),
        keys,
    })
}

fn config_of(was: &Was) -> service::Config {
    service::Config {
        display_name: was.display_name.clone(),
        kind: was.kind,
        start: was.start,
        error_control: was.error_control,
        command_line: was.command_line.clone(),
        account: was.account.clone(),
        dependencies: was.dependencies.clone(),
    }
}

/// Keys that may not be read (a service's secrets) are left out: Windows makes those anew itself.
fn read_keys(root: &str, path: &str, keys: &mut Vec<service_backup::Key>) -> std::io::Result<()> {
    if keys.len() >= MOST_KEYS {
        return Err(std::io::Error::other(format!("there are more than {MOST_KEYS} keys below it")));
    }
    let key = Key::open(&format!("{root}{path}"))?;
    let values = key.values(MOST_VALUES, MOST_VALUE_BYTES)?;
    let values =
        values.into_iter().map(|value| (win32::shown(&value.name), value.kind, value.data)).collect();
    keys.push(service_backup::Key { path: path.to_owned(), values });
    for name in key.subkeys(MOST_VALUES)? {
        match read_keys(root, &format!(r"{path}\{}", win32::shown(&name)), keys) {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
            other => other?,
        }
    }
    Ok(())
}

/// What the service manager did not write itself.
fn write_back(was: &Was) -> std::io::Result<()> {
    for kept in &was.keys {
        let key = Key::create(&format!(r"{SERVICES}\{}{}", was.name, kept.path))?;
        for (name, kind, data) in &kept.values {
            if key.value(name).is_err() {
                key.set(name, *kind, data)?;
            }
        }
    }
    Ok(())
}

/// All services, for lists and evidence.
pub(super) fn all() -> Result<Value, Failure> {
    let listed = service::list().map_err(|error| Failure::system("listing the services", error))?;
    let each = listed.iter().map(|one| {
        let config = service::config(&one.name).unwrap_or_default();
        json!({
            "name": one.name,
            "display_name": one.display_name,
            "running": !one.stopped,
            "pid": one.pid,
            "command_line": config.command_line,
            "account": config.account,
            "start": match config.start { 2 => "automatic", 3 => "on demand", 4 => "disabled", _ => "boot" },
        })
    });
    Ok(Value::Array(each.collect()))
}
