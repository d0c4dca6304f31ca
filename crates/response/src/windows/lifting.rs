//! The task that lifts a block or an isolation when its time is over and the agent does not.

use std::fs;
use std::path::Path;

use super::task::folder;
use super::tool::schtasks;
use crate::platform::Failure;
use crate::scheduled_task::LiftingTask;

/// Makes the task, or makes it anew.
pub(super) fn set(task: &LiftingTask, dir: &Path) -> Result<(), Failure> {
    let failure = |error| Failure::system("writing the task that lifts it", error);
    let text = task.definition(&win32::host::system_folder().to_string_lossy());
    // UTF-16 with its mark, as the scheduler's own exports are.
    let mut bytes = vec![0xff, 0xfe];
    bytes.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
    let file = dir.join("lifting-task.xml");
    fs::write(&file, bytes).map_err(failure)?;
    let path = file.to_string_lossy();
    let made = schtasks(&["/create", "/f", "/tn", &task.name, "/xml", &path]);
    let _ = fs::remove_file(&file);
    made?;
    match is_set(task) {
        true => Ok(()),
        false => Err(Failure::NotProved(format!("the scheduler has no task `{}`", task.name))),
    }
}

/// Whether the scheduler has the definition of the task.
pub(super) fn is_set(task: &LiftingTask) -> bool {
    folder().join(task.name.trim_start_matches('\\')).exists()
}

/// Removes the task; none is fine.
pub(super) fn remove(task: &LiftingTask) -> Result<(), Failure> {
    if is_set(task) { schtasks(&["/delete", "/f", "/tn", &task.name]).map(drop) } else { Ok(()) }
}
