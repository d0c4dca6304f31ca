//! Scheduled tasks: their definition into the vault, and the scheduler asked to forget or to take them again.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use uuid::Uuid;
use win32::file::create_held;

use super::Windows;
use super::quarantine::open_for_removal;
use super::tool::schtasks;
use crate::action::{FileTarget, Item};
use crate::platform::{Failure, Progress, Subject, Survey};
use crate::scheduled_task::name_of_file;
use crate::vault::Metadata;

/// Where the scheduler keeps the definitions.
pub(super) fn folder() -> PathBuf {
    win32::host::system_folder().join("Tasks")
}

/// The name of the task that a path is the definition of.
pub(super) fn name_at(path: &str) -> Option<String> {
    name_of_file(path, &folder().to_string_lossy())
}

fn name_or_refusal(file: &FileTarget) -> Result<String, Failure> {
    name_at(&file.path).ok_or_else(|| Failure::NotAllowed {
        subject: file.path.escape_debug().to_string(),
        why: "is not the definition of a scheduled task".to_owned(),
        hint: r"name the file below C:\Windows\System32\Tasks; for any other file there is `quarantine_file`",
    })
}

impl Windows {
    pub(super) fn survey_task(&self, file: &FileTarget, id: Uuid) -> Result<Survey, Failure> {
        let name = name_or_refusal(file)?;
        let survey = self.survey_quarantine(file, id)?;
        let steps = vec![
            format!("copy {} sealed into the vault as {id}", file.path.escape_debug()),
            format!("schtasks /delete /f /tn \"{name}\""),
        ];
        Ok(Survey { steps, ..survey })
    }

    pub(super) fn delete_task(
        &self,
        file: &FileTarget,
        surveyed: (u64, u64),
        id: Uuid,
        progress: &mut Progress<'_>,
    ) -> Result<Value, Failure> {
        let name = name_or_refusal(file)?;
        let held = progress.step("opened its definition", || open_for_removal(&file.path))?;
        if held.id() != surveyed {
            let why = "another file has that name now".to_owned();
            return Err(Failure::NotTheTarget { subject: file.path.escape_debug().to_string(), why });
        }
        let deleted = progress
            .step("copied it sealed into the vault", || self.copy(file, &held, id))
            .and_then(|copied| {
                // The scheduler removes the file itself, which nobody may hold then.
                drop(held);
                progress.step("deleted the task", || schtasks(&["/delete", "/f", "/tn", &name]))?;
                Ok(copied)
            });
        match deleted {
            Ok((sha256, size)) => Ok(json!({ "item": id, "task": name, "sha256": sha256, "size": size })),
            Err(failure) => {
                self.vault.forget(id, true);
                Err(failure)
            }
        }
    }

    pub(super) fn survey_restore_task(&self, metadata: &Metadata, name: &str) -> Result<Survey, Failure> {
        if Path::new(&metadata.path).exists() {
            return Err(Failure::NotAllowed {
                subject: name.to_owned(),
                why: "is another task by now".to_owned(),
                hint: "delete that one first",
            });
        }
        let steps = vec![format!(
            "schtasks /create /tn \"{name}\" from the definition (SHA-256 {})",
            metadata.sha256
        )];
        Ok(Survey { steps, subject: Subject::Nothing })
    }

    pub(super) fn restore_task(
        &self,
        metadata: &Metadata,
        name: &str,
        item: Item,
        progress: &mut Progress<'_>,
    ) -> Result<Value, Failure> {
        let beside = self.dir.join(format!("task-{}.xml", item.item));
        // What a crash left of it holds nothing more than this item; the folder is closed to all others.
        let _ = fs::remove_file(&beside);
        let unsealed = || {
            let file = create_held(&beside).map_err(|error| Failure::system("writing the file", error))?;
            // The scheduler reads it when this handle is closed.
            self.unsealed(&file, metadata, item)
        };
        let made = progress.step("opened the seal", unsealed).and_then(|()| {
            progress.step("made the task", || {
                schtasks(&["/create", "/f", "/tn", name, "/xml", &beside.to_string_lossy()])
            })
        });
        let _ = fs::remove_file(&beside);
        made?;
        is_task_there(metadata, name)?;
        self.close_item(metadata, item, progress)?;
        Ok(json!({ "task": name }))
    }
}

/// The scheduler writes the definition in its own hand: that it has one is what can be seen.
pub(super) fn is_task_there(metadata: &Metadata, name: &str) -> Result<String, Failure> {
    match Path::new(&metadata.path).exists() {
        true => Ok(format!("the scheduler has the task `{name}` again")),
        false => Err(Failure::NotProved(format!("the scheduler has no task `{name}`"))),
    }
}

/// The names of all tasks, for evidence.
pub(super) fn all() -> Value {
    const MOST: usize = 10_000;
    let (root, mut names) = (folder(), Vec::new());
    let mut folders = vec![root.clone()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten().flatten() {
            // A link is neither a folder of tasks nor a task.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() && names.len() < MOST => {
                    names.extend(name_at(&entry.path().to_string_lossy()));
                }
                _ => {}
            }
        }
    }
    names.sort_unstable();
    json!(names)
}
