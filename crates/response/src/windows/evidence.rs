//! What an investigation needs, in one archive: lists of processes, connections, services and tasks, the
//! libraries of chosen processes, chosen files.

use std::fs::File;
use std::path::Path;

use serde_json::{Value, json};
use uuid::Uuid;
use win32::file::open_to_read;
use win32::process::{Process, Wanted};

use super::quarantine::{is_on_this_host, open};
use super::{Windows, inventory, service, task};
use crate::action::EvidenceRequest;
use crate::archives::{Archives, Bag};
use crate::platform::{Failure, Progress, Subject, Survey};

impl Windows {
    pub(super) fn survey_evidence(&self, request: &EvidenceRequest, id: Uuid) -> Result<Survey, Failure> {
        let mut steps = vec!["list processes, connections, services and scheduled tasks".to_owned()];
        steps.extend(request.processes.iter().map(|pid| format!("read the libraries of {pid}")));
        steps.extend(request.files.iter().map(|path| format!("copy {}", path.escape_debug())));
        if request.memory.is_some() {
            steps.push("leave the memory out, which is not read on Windows".to_owned());
        }
        steps.push(format!("write {}", Archives::of(&self.dir).path(id).display()));
        Ok(Survey { steps, subject: Subject::Nothing })
    }

    pub(super) fn collect_evidence(
        &self,
        request: &EvidenceRequest,
        id: Uuid,
        progress: &mut Progress<'_>,
    ) -> Result<Value, Failure> {
        let archives = Archives::of(&self.dir);
        archives.collect(id, self.signer.as_ref(), free_in, progress, |bag| self.gather(request, bag))
    }

    fn gather(&self, request: &EvidenceRequest, bag: &mut Bag) -> Result<(), Failure> {
        let lists = [
            ("processes.json", inventory::processes(self.boot)),
            ("connections.json", inventory::connections()),
            ("services.json", service::all()),
            ("tasks.json", Ok(task::all())),
        ];
        for (name, list) in lists {
            match list {
                Ok(list) => bag.tell(name, &list)?,
                Err(error) => bag.leave_out(name, &error.to_string()),
            }
        }
        for pid in &request.processes {
            let entry = format!("proc/{pid}/libraries.json");
            match win32::process::modules(*pid) {
                Ok(modules) => {
                    let command_line =
                        Process::open(*pid, Wanted::Look).and_then(|process| process.command_line()).ok();
                    bag.tell(&entry, &json!({ "command_line": command_line, "libraries": modules }))?;
                }
                Err(error) => bag.leave_out(&entry, &error.to_string()),
            }
        }
        for path in &request.files {
            let entry = format!("files/{}", path.replacen(':', "", 1).replace('\\', "/"));
            match open_of_this_host(path) {
                Ok(file) => bag.copy(&entry, file)?,
                Err(error) => bag.leave_out(&entry, &error.to_string()),
            }
        }
        if let Some(wanted) = &request.memory {
            let entry = format!("memory/{}", wanted.entity_id.pid());
            bag.leave_out(&entry, "the memory of processes is not read on Windows");
        }
        Ok(())
    }
}

/// The file of that very path: a link or junction on the way is refused.
fn open_of_this_host(path: &str) -> Result<File, Failure> {
    is_on_this_host(path)?;
    let file = open_to_read(Path::new(path))
        .map_err(|error| Failure::system(format!("opening {}", path.escape_debug()), error))?;
    open(path, file).map(|held| held.file)
}

fn free_in(folder: &Path) -> u64 {
    win32::host::free_bytes(folder).unwrap_or(0)
}
