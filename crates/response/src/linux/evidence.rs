//! What an investigation needs, in one archive: lists, open files, memory maps, chosen
//! files, one process's memory where that is asked for, and a manifest with the hash of each, signed with
//! the agent's key. The receipt has the archive's own hash.

use std::path::Path;

use os_files::patient::PatientReader;
use rustix::fs::statvfs;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::action::{EvidenceRequest, ProcessTarget};
use crate::archives::{Archives, Bag};
use crate::platform::{Failure, Progress, Subject, Survey};

use super::place::Place;
use super::{HANGING, Linux, inventory, memory};

/// What the kernel tells of a process in one file of /proc; such a file does not say its size.
const MAX_TOLD: u64 = 8 << 20;

impl Linux {
    pub(super) fn survey_evidence(&self, request: &EvidenceRequest, id: Uuid) -> Result<Survey, Failure> {
        let mut subject = Subject::Nothing;
        let mut steps = vec!["list processes and connections".to_owned()];
        steps.extend(request.processes.iter().map(|pid| format!("read open files and memory maps of {pid}")));
        steps.extend(request.files.iter().map(|path| format!("copy {}", path.escape_debug())));
        if let Some(wanted) = &request.memory {
            let target = self.target(wanted)?;
            let (pid, executable) = (target.entity_id.pid(), &target.executable);
            steps.push(format!("copy up to 256 MiB of the memory of {pid} ({executable})"));
            // What a protected process has in its memory are keys and passwords.
            subject = Subject::Process(target);
        }
        steps.push(format!("write {}", Archives::of(&self.dir).path(id).display()));
        Ok(Survey { steps, subject })
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
        bag.tell("processes.json", &inventory::processes(self))?;
        match inventory::connections() {
            Ok(list) => bag.tell("connections.json", &list)?,
            Err(error) => bag.leave_out("connections.json", &error.to_string()),
        }
        let mut reader = PatientReader::new(&HANGING);
        for pid in &request.processes {
            let files: Vec<Value> = inventory::open_files(*pid)
                .into_iter()
                .map(|(number, to)| json!({ "descriptor": number, "to": to }))
                .collect();
            bag.tell(&format!("proc/{pid}/open_files.json"), &Value::Array(files))?;
            for name in ["maps", "status", "cmdline", "mountinfo"] {
                let entry = format!("proc/{pid}/{name}");
                match reader.read(&format!("/{entry}"), MAX_TOLD) {
                    Ok(content) if bag.has_room(&entry, content.len() as u64) => bag.add(&entry, &content)?,
                    Ok(_) => {}
                    Err(error) => bag.leave_out(&entry, &error.to_string()),
                }
            }
        }
        for path in &request.files {
            let entry = format!("files{path}");
            match Place::open(path).and_then(|place| place.open_to_read()) {
                Ok(file) => bag.copy(&entry, file)?,
                Err(error) => bag.leave_out(&entry, &error.to_string()),
            }
        }
        if let Some(wanted) = &request.memory {
            self.copy_memory(wanted, bag)?;
        }
        Ok(())
    }

    fn copy_memory(&self, wanted: &ProcessTarget, bag: &mut Bag) -> Result<(), Failure> {
        let pid = wanted.entity_id.pid();
        // Opened first: what is read afterwards is this process's, or nothing.
        let opened = memory::Memory::of(pid).and_then(|memory| self.target(wanted).map(|_| memory));
        let mut memory = match opened {
            Ok(memory) => memory,
            // The rest of the evidence is all the more needed.
            Err(failure) => {
                bag.leave_out(&format!("memory/{pid}"), &failure.to_string());
                return Ok(());
            }
        };
        while let Some(piece) = memory.next() {
            let name = format!("memory/{pid}/{:016x}.bin", piece.start);
            if bag.has_room(&name, piece.content.len() as u64) {
                bag.add(&name, &piece.content)?;
            }
        }
        bag.tell(&format!("memory/{pid}/regions.json"), &memory.regions())
    }
}

fn free_in(folder: &Path) -> u64 {
    statvfs(folder).map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}
