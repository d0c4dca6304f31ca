//! Archives of evidence: a tar file with what was gathered, a manifest with the hash of each, signed with the
//! agent's key, and the hash of the whole beside it. What goes in is each system's own matter.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use os_files::{DirBuilderExt as _, OpenOptionsExt as _};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::journal::write_whole;
use crate::platform::{Failure, Progress, Signer};
use crate::tar::Archive;
use crate::vault::{hex, sha256_of};

/// Bytes of one file, and of all together; what is over is told of in the manifest.
const MAX_FILE: u64 = 64 << 20;
const MAX_ALL: u64 = 512 << 20;

/// What was left out, by name.
const MOST_LEFT_OUT: usize = 100;

/// Archives that are kept on the host; the oldest go.
const MAX_ARCHIVES: usize = 8;

/// The archives of this host.
pub(crate) struct Archives(PathBuf);

impl Archives {
    /// Those in the responder's folder.
    pub(crate) fn of(dir: &Path) -> Self {
        Self(dir.join("evidence"))
    }

    /// Where that of an order is, or will be.
    pub(crate) fn path(&self, id: Uuid) -> PathBuf {
        self.0.join(format!("{id}.tar"))
    }

    /// Makes an archive of what `fill` gathers. `free` says how many bytes a folder has room for.
    pub(crate) fn collect(
        &self,
        id: Uuid,
        signer: Option<&Signer>,
        free: fn(&Path) -> u64,
        progress: &mut Progress<'_>,
        fill: impl FnOnce(&mut Bag) -> Result<(), Failure>,
    ) -> Result<Value, Failure> {
        let path = self.path(id);
        let beside = path.with_extension("part");
        let written = progress.step("gathered the evidence", || {
            let mut bag = self.begin(&beside, free)?;
            fill(&mut bag)?;
            bag.finish(id, signer)
        });
        let finished = written.and_then(|manifest| {
            progress.step("wrote the archive", || {
                let failure = |error| Failure::system("writing the archive", error);
                let file = OpenOptions::new().read(true).write(true).open(&beside).map_err(failure)?;
                file.sync_all().map_err(failure)?;
                let (sha256, size) = sha256_of(&file).map_err(failure)?;
                // Some systems move no file that is open.
                drop(file);
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
        self.forget_old();
        finished
    }

    fn begin(&self, path: &Path, free: fn(&Path) -> u64) -> Result<Bag, Failure> {
        let failure = |error| Failure::system("writing the archive", error);
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0).map_err(failure)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failure)?;
        Ok(Bag {
            archive: Archive::new(BufWriter::new(file)),
            entries: Vec::new(),
            left_out: Vec::new(),
            bytes: 0,
            // Half of what is free, at most: evidence must not fill the host's disk.
            most: MAX_ALL.min(free(&self.0) / 2),
        })
    }

    /// The archive is there and has the hash that was noted.
    pub(crate) fn is_collected(&self, id: Uuid) -> Result<String, Failure> {
        let path = self.path(id);
        let failure = |error| Failure::NotProved(format!("{}: {error}", path.display()));
        let (sha256, size) = sha256_of(File::open(&path).map_err(failure)?).map_err(failure)?;
        let noted = fs::read_to_string(path.with_extension("sha256")).map_err(failure)?;
        if noted != sha256 {
            return Err(Failure::NotProved(format!("the archive has SHA-256 {sha256}, it was {noted}")));
        }
        Ok(format!("{} ({size} bytes) has SHA-256 {sha256}", path.display()))
    }

    /// After a crash: one that was not finished only takes space.
    pub(crate) fn recover(&self, id: Uuid) -> Result<String, Failure> {
        let path = self.path(id);
        if path.exists() {
            return self.is_collected(id);
        }
        let _ = fs::remove_file(path.with_extension("part"));
        let _ = fs::remove_file(path.with_extension("sha256"));
        Err(Failure::NotProved("the archive was not finished; order it again".to_owned()))
    }

    fn forget_old(&self) {
        let Ok(entries) = fs::read_dir(&self.0) else { return };
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
pub(crate) struct Bag {
    archive: Archive<BufWriter<File>>,
    entries: Vec<Value>,
    left_out: Vec<Value>,
    bytes: u64,
    most: u64,
}

impl Bag {
    pub(crate) fn add(&mut self, name: &str, content: &[u8]) -> Result<(), Failure> {
        let failure = |error| Failure::system("writing the archive", error);
        self.archive.add(name, content).map_err(failure)?;
        let (sha256, size) = sha256_of(content).map_err(failure)?;
        self.note(name, size, &sha256);
        Ok(())
    }

    /// A file as large as it is now, piece by piece.
    pub(crate) fn copy(&mut self, name: &str, file: File) -> Result<(), Failure> {
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

    pub(crate) fn has_room(&mut self, name: &str, size: u64) -> bool {
        let has = self.bytes.saturating_add(size) <= self.most;
        if !has {
            self.leave_out(name, &format!("the archive would have more than {} bytes", self.most));
        }
        has
    }

    /// A value as text.
    pub(crate) fn tell(&mut self, name: &str, value: &Value) -> Result<(), Failure> {
        self.add(name, pretty(value).as_bytes())
    }

    fn note(&mut self, name: &str, size: u64, sha256: &str) {
        self.bytes += size;
        self.entries.push(json!({ "name": name, "size": size, "sha256": sha256 }));
    }

    pub(crate) fn leave_out(&mut self, name: &str, why: &str) {
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

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}
