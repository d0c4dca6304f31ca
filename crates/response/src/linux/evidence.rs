//! What an investigation needs, in one archive: lists, open files, memory maps, chosen
//! files, one process's memory where that is asked for, and a manifest with the hash of each, signed with
//! the agent's key. The receipt has the archive's own hash.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use rustix::fs::statvfs;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::action::{EvidenceRequest, ProcessTarget};
use crate::journal::write_whole;
use crate::platform::{Failure, Progress, Signer, Subject, Survey};

use super::place::Place;
use super::tar::Archive;
use super::{Linux, inventory, memory};
use crate::vault::{hex, sha256_of};

/// Bytes of one file, and of all together; what is over is told of in the manifest.
const MAX_FILE: u64 = 64 << 20;
const MAX_ALL: u64 = 512 << 20;

/// What the kernel tells of a process in one file of /proc; such a file does not say its size.
const MAX_TOLD: u64 = 8 << 20;

/// What was left out, by name.
const MOST_LEFT_OUT: usize = 100;

/// Archives that are kept on the host; the oldest go.
const MAX_ARCHIVES: usize = 8;

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
        steps.push(format!("write {}", self.archive_path(id).display()));
        Ok(Survey { steps, subject })
    }

    pub(super) fn collect_evidence(
        &self,
        request: &EvidenceRequest,
        id: Uuid,
        progress: &mut Progress<'_>,
    ) -> Result<Value, Failure> {
        let path = self.archive_path(id);
        let beside = path.with_extension("part");
        let written = progress.step("gathered the evidence", || self.write_archive(request, id, &beside));
        let finished = written.and_then(|manifest| {
            progress.step("wrote the archive", || {
                let failure = |error| Failure::system("writing the archive", error);
                let file = File::open(&beside).map_err(failure)?;
                file.sync_all().map_err(failure)?;
                let (sha256, size) = sha256_of(&file).map_err(failure)?;
                write_whole(&path.with_extension("sha256"), sha256.as_bytes()).map_err(failure)?;
                fs::rename(&beside, &path).map_err(failure)?;
                let (left_out, signed) = (&manifest["left_out"], &manifest["signed"]);
                Ok(json!({
                    "archive": path, "sha256": sha256, "size": size, "signed": signed, "left_out": left_out,
                }))
            })
        });
        if finished.is_err() {
            let _ = fs::remove_file(&beside);
        }
        self.forget_old_archives();
        finished
    }

    fn write_archive(&self, request: &EvidenceRequest, id: Uuid, path: &PathBuf) -> Result<Value, Failure> {
        let failure = |error| Failure::system("writing the archive", error);
        let folder = self.dir.join("evidence");
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failure)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failure)?;
        let mut bag = Bag {
            archive: Archive::new(BufWriter::new(file)),
            entries: Vec::new(),
            left_out: Vec::new(),
            bytes: 0,
            most: room_in(&folder),
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
                    Ok(file) => bag.told(&entry, file)?,
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
            self.copy_memory(wanted, &mut bag)?;
        }
        bag.finish(id, self.signer.as_ref())
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
        bag.add(&format!("memory/{pid}/regions.json"), pretty(&memory.regions()).as_bytes())
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
    most: u64,
}

impl Bag {
    fn add(&mut self, name: &str, content: &[u8]) -> Result<(), Failure> {
        let failure = |error| Failure::system("writing the archive", error);
        self.archive.add(name, content).map_err(failure)?;
        let (sha256, size) = sha256_of(content).map_err(failure)?;
        self.note(name, size, &sha256);
        Ok(())
    }

    /// A file of /proc.
    fn told(&mut self, name: &str, file: File) -> Result<(), Failure> {
        let mut content = Vec::new();
        match file.take(MAX_TOLD).read_to_end(&mut content) {
            Ok(_) if self.has_room(name, content.len() as u64) => self.add(name, &content),
            Ok(_) => Ok(()),
            Err(error) => {
                self.leave_out(name, &error.to_string());
                Ok(())
            }
        }
    }

    /// A file as large as it is now, piece by piece.
    fn copy(&mut self, name: &str, file: File) -> Result<(), Failure> {
        let failure = |error: io::Error| Failure::system(format!("copying {}", name.escape_debug()), error);
        let size = file.metadata().map_err(failure)?.len();
        if size > MAX_FILE {
            self.leave_out(name, "larger than 64 MiB");
            return Ok(());
        }
        if !self.has_room(name, size) {
            return Ok(());
        }
        let mut hash = Context::new(&SHA256);
        self.archive.copy(name, size, file, |piece| hash.update(piece)).map_err(failure)?;
        self.note(name, size, &hex(hash.finish().as_ref()));
        Ok(())
    }

    fn has_room(&mut self, name: &str, size: u64) -> bool {
        let has = self.bytes.saturating_add(size) <= self.most;
        if !has {
            self.leave_out(name, &format!("the archive would have more than {} bytes", self.most));
        }
        has
    }

    fn note(&mut self, name: &str, size: u64, sha256: &str) {
        self.bytes += size;
        self.entries.push(json!({ "name": name, "size": size, "sha256": sha256 }));
    }

    fn leave_out(&mut self, name: &str, why: &str) {
        // Each piece of a large memory would be named.
        if self.left_out.len() < MOST_LEFT_OUT {
            self.left_out.push(json!({ "name": name, "why": why }));
        }
    }

    /// Adds the manifest and its signature, and ends the archive. Gives the manifest, and whether it is signed.
    fn finish(mut self, id: Uuid, signer: Option<&Signer>) -> Result<Value, Failure> {
        let failure = |error| Failure::system("writing the archive", error);
        let mut manifest = json!({ "response": id, "entries": self.entries, "left_out": self.left_out });
        let text = pretty(&manifest);
        self.archive.add("manifest.json", text.as_bytes()).map_err(failure)?;
        let signature = signer.and_then(|sign| sign(text.as_bytes()));
        if let Some(signature) = &signature {
            self.archive.add("manifest.sig", &signature.signature).map_err(failure)?;
            self.archive.add("manifest.crt.der", &signature.certificate).map_err(failure)?;
        }
        manifest["signed"] = signature.is_some().into();
        self.archive.finish().and_then(|mut to| to.flush()).map_err(failure)?;
        Ok(manifest)
    }
}

/// Half of what is free, at most: evidence must not fill the host's disk.
fn room_in(folder: &Path) -> u64 {
    let free = statvfs(folder).map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    MAX_ALL.min(free / 2)
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}
