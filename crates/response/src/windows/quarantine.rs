//! A file into the vault and back. It is copied from a handle that keeps all others from writing, renaming
//! or removing it, and removed by that same handle, so that no other file can be taken in its place.

use std::fs::File;
use std::io::{ErrorKind, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use uuid::Uuid;
use win32::file::{
    Facts, create_held, facts, facts_at, may_not_answer, open_to_ask, open_to_read, open_to_remove,
    real_path, remove, rename_into,
};

use super::{Windows, task};
use crate::action::{FileTarget, Item};
use crate::platform::{Failure, Progress, Subject, Survey};
use crate::vault::{MAX_FILE, Metadata, QUOTA, sha256_of};

/// A file that was opened, and what it is.
pub(super) struct Held {
    pub(super) file: File,
    facts: Facts,
}

impl Held {
    pub(super) fn id(&self) -> (u64, u64) {
        id_of(&self.facts)
    }
}

fn not_allowed(path: &str, why: &str, hint: &'static str) -> Failure {
    Failure::NotAllowed { subject: path.escape_debug().to_string(), why: why.to_owned(), hint }
}

fn not_the_target(path: &str, why: &str) -> Failure {
    Failure::NotTheTarget { subject: path.escape_debug().to_string(), why: why.to_owned() }
}

/// The file, held; refused where the path leads through a link or junction.
pub(super) fn open(path: &str, file: File) -> Result<Held, Failure> {
    let facts = facts(&file).map_err(|error| Failure::system(format!("asking what {path} is"), error))?;
    if facts.is_folder() {
        return Err(not_allowed(path, "is a folder", "name the file"));
    }
    if facts.is_reparse_point() {
        return Err(not_allowed(
            path,
            "is a link, or the place holder of a file that is elsewhere",
            "name the file itself",
        ));
    }
    let real = real_path(&file).map_err(|error| Failure::system(format!("asking where {path} is"), error))?;
    if !real.eq_ignore_ascii_case(path) {
        let why = format!("leads elsewhere, to {}", real.escape_debug());
        return Err(not_allowed(path, &why, "name that path if it is the file that is meant"));
    }
    Ok(Held { file, facts })
}

/// Another host would be told who this one is, and may never answer.
pub(super) fn is_on_this_host(path: &str) -> Result<(), Failure> {
    match may_not_answer(Path::new(path)) {
        true => Err(not_allowed(path, "lies on another host", "act on it there")),
        false => Ok(()),
    }
}

pub(super) fn open_for_removal(path: &str) -> Result<Held, Failure> {
    is_on_this_host(path)?;
    let file = open_to_remove(Path::new(path)).map_err(|error| match error.raw_os_error() {
        Some(2 | 3) => not_the_target(path, "there is no such file"),
        // ERROR_SHARING_VIOLATION
        Some(32) => not_allowed(path, "is open for writing in another process", "end that process first"),
        _ => Failure::system(format!("opening {}", path.escape_debug()), error),
    })?;
    open(path, file)
}

impl Windows {
    pub(super) fn survey_quarantine(&self, file: &FileTarget, id: Uuid) -> Result<Survey, Failure> {
        let held = open_for_removal(&file.path)?;
        if held.facts.links > 1 {
            let why = format!("has {} names", held.facts.links);
            return Err(not_allowed(&file.path, &why, "remove the other hard links first"));
        }
        if held.facts.size > MAX_FILE {
            let why = format!("has {} bytes, more than the 1073741824 that the vault takes", held.facts.size);
            return Err(not_allowed(&file.path, &why, "copy and remove it by hand"));
        }
        // Not before its size is known: whoever can set that must not keep all other orders waiting.
        check_target(file, &held)?;
        if self.vault.used() + held.facts.size > QUOTA {
            let why = "does not fit: the vault holds 4 GiB and is full";
            return Err(not_allowed(&file.path, why, "restore or remove older items of the vault"));
        }
        let (path, size) = (file.path.escape_debug(), held.facts.size);
        let steps = vec![
            format!("copy {path} ({size} bytes) sealed into the vault as {id}"),
            format!("remove {path} by the handle that it was copied from"),
        ];
        Ok(Survey { steps, subject: Subject::File { path: file.path.clone(), file: held.id() } })
    }

    pub(super) fn quarantine(
        &self,
        file: &FileTarget,
        surveyed: (u64, u64),
        id: Uuid,
        progress: &mut Progress<'_>,
    ) -> Result<Value, Failure> {
        let held = progress
            .step("opened it, for nobody else to write or remove", || open_for_removal(&file.path))?;
        if held.id() != surveyed {
            return Err(not_the_target(&file.path, "another file has that name now"));
        }
        check_target(file, &held)?;
        let copied = progress.step("copied it sealed into the vault", || self.copy(file, &held, id));
        let (sha256, size) = match copied {
            Ok(copied) => copied,
            Err(failure) => {
                self.vault.forget(id, true);
                return Err(failure);
            }
        };
        let removed = progress.step("removed it by its handle", || {
            remove(&held.file).map_err(|error| {
                Failure::system(
                    format!(
                        "removing {} (a program that runs can't be: end it first)",
                        file.path.escape_debug()
                    ),
                    error,
                )
            })
        });
        if let Err(failure) = removed {
            self.vault.forget(id, true);
            return Err(failure);
        }
        // It is gone with its last handle.
        drop(held);
        Ok(json!({ "item": id, "sha256": sha256, "size": size }))
    }

    pub(super) fn copy(&self, file: &FileTarget, held: &Held, id: Uuid) -> Result<(String, u64), Failure> {
        let failure = |error| Failure::system("copying the file into the vault", error);
        (&held.file).seek(SeekFrom::Start(0)).map_err(failure)?;
        let (sha256, size) = self.vault.seal(id, &held.file).map_err(failure)?;
        if size != held.facts.size {
            return Err(not_the_target(&file.path, "it was changed while it was copied"));
        }
        let folder = facts_at(folder_of(&file.path))
            .map(|facts| id_of(&facts))
            .map_err(|error| Failure::system("asking what its folder is", error))?;
        let nanoseconds = 1_000_000_000;
        let modified = held.facts.modified_ns;
        let metadata = Metadata {
            path: file.path.clone(),
            file: held.id(),
            folder,
            size,
            sha256: sha256.clone(),
            mode: held.facts.attributes,
            owner: (0, 0),
            accessed: (0, 0),
            modified: (modified.div_euclid(nanoseconds), modified.rem_euclid(nanoseconds)),
            attributes: Vec::new(),
            attributes_left_out: 0,
            restored: false,
            deleted: false,
        };
        self.vault.write_metadata(id, &metadata).map_err(failure)?;
        Ok((sha256, size))
    }

    /// The name no longer means the file, and the vault's copy opens and has its hash.
    pub(super) fn is_quarantined(&self, file: &FileTarget, id: Uuid) -> Result<String, Failure> {
        let metadata =
            self.vault.metadata(id).map_err(|error| Failure::system("the vault's record", error))?;
        let there = facts_at(Path::new(&file.path)).ok().map(|facts| id_of(&facts));
        if there == Some(metadata.file) {
            return Err(Failure::NotProved(format!("{} is still there", file.path.escape_debug())));
        }
        let hash = self
            .vault
            .unseal(id, std::io::sink())
            .map_err(|error| Failure::NotProved(format!("the vault's copy can't be opened: {error}")))?;
        if hash != metadata.sha256 {
            return Err(Failure::NotProved(format!("the vault's copy has SHA-256 {hash}")));
        }
        Ok(format!(
            "{} is gone from its folder; the vault's copy has SHA-256 {hash}",
            file.path.escape_debug()
        ))
    }

    /// After a crash: if the file is still there, nothing was done.
    pub(super) fn recover_quarantine(&self, file: &FileTarget, id: Uuid) -> Result<String, Failure> {
        let there = facts_at(Path::new(&file.path)).ok().map(|facts| id_of(&facts));
        match self.vault.metadata_after_a_crash(id)? {
            Some(metadata) if there != Some(metadata.file) => self.is_quarantined(file, id),
            _ => {
                self.vault.forget(id, true);
                Err(Failure::NotProved(format!("{} was not moved", file.path.escape_debug())))
            }
        }
    }

    pub(super) fn survey_restore(&self, item: Item) -> Result<Survey, Failure> {
        let metadata = self.vault.item(item.item)?;
        if let Some(name) = task::name_at(&metadata.path) {
            return self.survey_restore_task(&metadata, &name);
        }
        check_place(&metadata)?;
        let path = metadata.path.escape_debug();
        let steps =
            vec![format!("write {path} back (SHA-256 {}; its access list is the folder's)", metadata.sha256)];
        Ok(Survey { steps, subject: Subject::Nothing })
    }

    pub(super) fn restore(&self, item: Item, progress: &mut Progress<'_>) -> Result<Value, Failure> {
        let metadata = self.vault.item(item.item)?;
        if let Some(name) = task::name_at(&metadata.path) {
            return self.restore_task(&metadata, &name, item, progress);
        }
        let folder = check_place(&metadata)?;
        let place = Path::new(&metadata.path);
        let name = place.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let beside = beside(&metadata, item);
        let file = progress.step("made a file beside its place", || create_beside(&beside))?;
        let placed = progress
            .step("opened the seal into it", || self.unsealed(&file, &metadata, item))
            .and_then(|()| {
                progress.step("put it back under its name", || {
                    // Never over another file; and not by a hard link, which not every file system has.
                    rename_into(&file, &folder, &name)
                        .map_err(|error| Failure::system("giving the file its name", error))
                })
            })
            .and_then(|()| is_in_its_place(&file, &metadata));
        if let Err(failure) = placed {
            return Err(match remove(&file) {
                Ok(()) => failure,
                Err(error) => Failure::system(format!("{failure}; removing it again"), error),
            });
        }
        drop(file);
        self.close_item(&metadata, item, progress)?;
        Ok(json!({ "path": metadata.path, "sha256": metadata.sha256 }))
    }

    /// After a crash in a restore: what lies unsealed beside its place is taken away.
    pub(super) fn recover_restore(&self, item: Item) -> Result<String, Failure> {
        if let Ok(metadata) = self.vault.metadata(item.item)
            && task::name_at(&metadata.path).is_none()
        {
            is_on_this_host(&metadata.path)?;
            let beside = beside(&metadata, item);
            if facts_at(&beside).is_ok() {
                remove_left(&beside)?;
            }
        }
        self.is_restored(item)
    }

    /// What was put back is no longer in the vault.
    pub(super) fn close_item(
        &self,
        metadata: &Metadata,
        item: Item,
        progress: &mut Progress<'_>,
    ) -> Result<(), Failure> {
        progress.step("closed the vault's item", || {
            let restored = Metadata { restored: true, ..metadata.clone() };
            self.vault
                .write_metadata(item.item, &restored)
                .map_err(|error| Failure::system("writing the vault's record", error))
        })?;
        self.vault.forget(item.item, false);
        Ok(())
    }

    pub(super) fn unsealed(&self, file: &File, metadata: &Metadata, item: Item) -> Result<(), Failure> {
        let failure = |error| Failure::system("writing the file", error);
        let hash = self
            .vault
            .unseal(item.item, file)
            .map_err(|error| Failure::system("opening the vault's item", error))?;
        if hash != metadata.sha256 {
            let error = format!("the item has SHA-256 {hash}, it was {}", metadata.sha256);
            return Err(Failure::system("opening the vault's item", error));
        }
        if let (Ok(seconds), Ok(nanoseconds)) =
            (u64::try_from(metadata.modified.0), u32::try_from(metadata.modified.1))
        {
            file.set_modified(UNIX_EPOCH + Duration::new(seconds, nanoseconds)).map_err(failure)?;
        }
        file.sync_all().map_err(failure)
    }

    pub(super) fn is_restored(&self, item: Item) -> Result<String, Failure> {
        let metadata =
            self.vault.metadata(item.item).map_err(|error| Failure::system("the vault's record", error))?;
        if let Some(name) = task::name_at(&metadata.path) {
            return task::is_task_there(&metadata, &name);
        }
        is_as_it_was(&metadata)?;
        Ok(format!("{} is back, with SHA-256 {}", metadata.path.escape_debug(), metadata.sha256))
    }
}

fn check_target(file: &FileTarget, held: &Held) -> Result<(), Failure> {
    if file.file.is_some_and(|wanted| wanted != held.id()) {
        return Err(not_the_target(&file.path, "another file has that name now"));
    }
    let Some(wanted) = &file.sha256 else { return Ok(()) };
    let failure = |error| Failure::system("reading the file", error);
    (&held.file).seek(SeekFrom::Start(0)).map_err(failure)?;
    let (hash, _) = sha256_of(&held.file).map_err(failure)?;
    if hash.eq_ignore_ascii_case(wanted) {
        return Ok(());
    }
    Err(not_the_target(&file.path, &format!("it has SHA-256 {hash}")))
}

fn folder_of(path: &str) -> &Path {
    Path::new(path).parent().unwrap_or(Path::new("\\"))
}

fn id_of(facts: &Facts) -> (u64, u64) {
    (facts.volume, facts.index)
}

/// The folder, held, if it is still the same one, and the name in it is free.
fn check_place(metadata: &Metadata) -> Result<File, Failure> {
    is_on_this_host(&metadata.path)?;
    let failure = |error| Failure::system("asking what its folder is", error);
    let folder = open_to_ask(folder_of(&metadata.path)).map_err(failure)?;
    if id_of(&facts(&folder).map_err(failure)?) != metadata.folder {
        let hint = "put the folder back, or copy the file out by hand";
        return Err(not_allowed(&metadata.path, "had its place in another folder", hint));
    }
    if facts_at(Path::new(&metadata.path)).is_ok() {
        return Err(not_allowed(&metadata.path, "is another file by now", "move that file away first"));
    }
    Ok(folder)
}

/// A new file at that very path. Whoever may rename the folder can put a link in its place at any time: what then was
/// made elsewhere is taken away again before anything is in it.
fn create_beside(beside: &Path) -> Result<File, Failure> {
    let failure = |error| Failure::system("making a file beside its place", error);
    let made = create_held(beside).or_else(|error| match error.kind() {
        // Of a restore that a crash ended.
        ErrorKind::AlreadyExists if remove_left(beside).is_ok() => create_held(beside),
        _ => Err(error),
    });
    let file = made.map_err(failure)?;
    match is_at(&file, &beside.to_string_lossy()) {
        Ok(()) => Ok(file),
        Err(elsewhere) => {
            remove(&file).map_err(failure)?;
            Err(elsewhere)
        }
    }
}

/// Where a file is unsealed, before it gets its name.
fn beside(metadata: &Metadata, item: Item) -> PathBuf {
    Path::new(&metadata.path).with_file_name(format!(".rampart-{}", item.item))
}

/// Removes what a restore left at this very path.
fn remove_left(beside: &Path) -> Result<(), Failure> {
    let failure = |error| Failure::system("removing what an earlier restore left beside its place", error);
    let left = open_to_remove(beside).map_err(failure)?;
    is_at(&left, &beside.to_string_lossy())?;
    remove(&left).map_err(failure)
}

fn is_at(file: &File, path: &str) -> Result<(), Failure> {
    let real = real_path(file).map_err(|error| Failure::system("asking where the file is", error))?;
    if real.eq_ignore_ascii_case(path) {
        return Ok(());
    }
    let why = format!("leads elsewhere, to {}", real.escape_debug());
    Err(not_allowed(path, &why, "put the folder back, or copy the file out by hand"))
}

/// By its handle, while nobody else can write to it.
fn is_in_its_place(mut file: &File, metadata: &Metadata) -> Result<(), Failure> {
    is_at(file, &metadata.path)?;
    let failure = |error| Failure::system("reading the file that was put back", error);
    file.sync_all().map_err(failure)?;
    file.seek(SeekFrom::Start(0)).map_err(failure)?;
    let (sha256, _) = sha256_of(file).map_err(failure)?;
    if sha256 == metadata.sha256 { Ok(()) } else { Err(is_not_as_it_was(metadata, &sha256)) }
}

fn is_not_as_it_was(metadata: &Metadata, sha256: &str) -> Failure {
    Failure::NotProved(format!("{} is not as it was (SHA-256 {sha256})", metadata.path.escape_debug()))
}

fn is_as_it_was(metadata: &Metadata) -> Result<(), Failure> {
    let file = open_to_read(Path::new(&metadata.path))
        .map_err(|error| Failure::system("opening the file that was put back", error))?;
    let held = open(&metadata.path, file)?;
    let (sha256, _) = sha256_of(&held.file).map_err(|error| Failure::system("reading the file", error))?;
    if sha256 == metadata.sha256 { Ok(()) } else { Err(is_not_as_it_was(metadata, &sha256)) }
}
