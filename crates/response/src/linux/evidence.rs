//! What an investigation needs, in one archive: lists, open files, memory maps, chosen
//! files, and a manifest with the hash of each. The receipt has the archive's own hash.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{BufWriter, Read as _, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::action::EvidenceRequest;
use crate::journal::write_whole;
use crate::platform::{Failure, Progress, Subject, Survey};

use super::place::Place;
use super::tar::Archive;
use super::{Linux, inventory};
use crate::vault::sha256_of;

/// Bytes of one file, and of all together; what is over is told of in the manifest.
const MAX_FILE: u64 = 64 << 20;
const MAX_ALL: u64 = 512 << 20;

/// Archives that are kept on the host; the oldest go.
const MAX_ARCHIVES: usize = 8;

impl Linux {
    pub(super) fn survey_evidence(&self, request: &EvidenceRequest, id: Uuid) -> Survey {
        let mut steps = vec!["list processes and connections".to_owned()];
        steps.extend(request.processes.iter().map(|pid| format!("read open files and memory maps of {pid}")));
        steps.extend(request.files.iter().map(|path| format!("copy {}", path.escape_debug())));
        steps.push(format!("write {}", self.archive_path(id).display()));
        Survey { steps, subject: Subject::Nothing }
    }

    pub(super) fn collect_evidence(
        &self,
        request: &EvidenceRequest,
        id: Uuid,
        progress: &mut Progress<'_>,
    ) -> Result<Value, Failure> {
        let path = self.archive_path(id);
        let beside = path.with_extension("part");
        let written = progress.step("gathered the evidence", || self.write_archive(request, &beside));
        let finished = written.and_then(|manifest| {
            progress.step("wrote the archive", || {
                let failure = |error| Failure::system("writing the archive", error);
                let file = File::open(&beside).map_err(failure)?;
                file.sync_all().map_err(failure)?;
                let (sha256, size) = sha256_of(&file).map_err(failure)?;
                write_whole(&path.with_extension("sha256"), sha256.as_bytes()).map_err(failure)?;
                fs::rename(&beside, &path).map_err(failure)?;
                let left_out = manifest["left_out"].clone();
                Ok(json!({ "archive": path, "sha256": sha256, "size": size, "left_out": left_out }))
            })
        });
        if finished.is_err() {
            let _ = fs::remove_file(&beside);
        }
        self.forget_old_archives();
        finished
    }

    fn write_archive(&self, request: &EvidenceRequest, path: &PathBuf) -> Result<Value, Failure> {
        let failure = |error| Failure::system("writing the archive", error);
        let folder = self.dir.join("evidence");
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failure)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failure)?;
        let mut bag = Bag {
            archive: Archive::new(BufWriter::new(file)),
            entries: Vec::new(),
            left_out: Vec::new(),
            bytes: 0,
        };
        bag.add("processes.json", pretty(&inventory::processes(self)).as_bytes())?;
        match inventory::connections() {
            Ok(list) => bag.add("connections.json", pretty(&list).as_bytes())?,
            Err(error) => bag.leave_out("connections.json", &error.to_string()),
        }
        for pid in &request.processes {
            let files: Vec<Value> = inventory::open_files(*pid)
                .into_iter()
                .map(|(number, to)| json!({ "descriptor": number, "to": to }))
                .collect();
            bag.add(&format!("proc/{pid}/open_files.json"), pretty(&Value::Array(files)).as_bytes())?;
            for name in ["maps", "status", "cmdline", "mountinfo"] {
                let entry = format!("proc/{pid}/{name}");
                match File::open(format!("/{entry}")) {
                    Ok(file) => bag.copy(&entry, file)?,
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
        bag.finish()
    }

    pub(super) fn is_collected(&self, id: Uuid) -> Result<String, Failure> {
        let path = self.archive_path(id);
        let failure = |error| Failure::NotProved(format!("{}: {error}", path.display()));
        let (sha256, size) = sha256_of(File::open(&path).map_err(failure)?).map_err(failure)?;
        let noted = fs::read_to_string(path.with_extension("sha256")).map_err(failure)?;
        if noted != sha256 {
            return Err(Failure::NotProved(format!("the archive has SHA-256 {sha256}, it was {noted}")));
        }
        Ok(format!("{} ({size} bytes) has SHA-256 {sha256}", path.display()))
    }

    fn archive_path(&self, id: Uuid) -> PathBuf {
        self.dir.join("evidence").join(format!("{id}.tar"))
    }

    fn forget_old_archives(&self) {
        let Ok(entries) = fs::read_dir(self.dir.join("evidence")) else { return };
        let tar = |path: &PathBuf| path.extension().is_some_and(|end| end == "tar");
        let mut archives: Vec<_> = entries
            .flatten()
            .filter(|entry| tar(&entry.path()))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        archives.sort_unstable();
        let over = archives.len().saturating_sub(MAX_ARCHIVES);
        for (_, path) in archives.into_iter().take(over) {
            let _ = fs::remove_file(path.with_extension("sha256"));
            let _ = fs::remove_file(path);
        }
    }
}

/// An archive that is being filled.
struct Bag {
    archive: Archive<BufWriter<File>>,
    entries: Vec<Value>,
    left_out: Vec<Value>,
    bytes: u64,
}

impl Bag {
    fn add(&mut self, name: &str, content: &[u8]) -> Result<(), Failure> {
        let failure = |error| Failure::system("writing the archive", error);
        self.archive.add(name, content).map_err(failure)?;
        let (sha256, size) = sha256_of(content).map_err(failure)?;
        self.bytes += size;
        self.entries.push(json!({ "name": name, "size": size, "sha256": sha256 }));
        Ok(())
    }

    fn copy(&mut self, name: &str, file: File) -> Result<(), Failure> {
        let mut content = Vec::new();
        if let Err(error) = file.take(MAX_FILE + 1).read_to_end(&mut content) {
            self.leave_out(name, &error.to_string());
            return Ok(());
        }
        if content.len() as u64 > MAX_FILE {
            self.leave_out(name, "larger than 64 MiB");
            return Ok(());
        }
        if self.bytes + content.len() as u64 > MAX_ALL {
            self.leave_out(name, "the archive has reached 512 MiB");
            return Ok(());
        }
        self.add(name, &content)
    }

    fn leave_out(&mut self, name: &str, why: &str) {
        self.left_out.push(json!({ "name": name, "why": why }));
    }

    fn finish(mut self) -> Result<Value, Failure> {
        let failure = |error| Failure::system("writing the archive", error);
        let manifest = json!({ "entries": self.entries, "left_out": self.left_out });
        self.archive.add("manifest.json", pretty(&manifest).as_bytes()).map_err(failure)?;
        self.archive.finish().and_then(|mut to| to.flush()).map_err(failure)?;
        Ok(manifest)
    }
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}
