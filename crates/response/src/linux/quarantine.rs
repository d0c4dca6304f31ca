//! A file into the vault: copied from its descriptor, and taken out of its folder only
//! if its name still means the file that was copied.

use std::io::{Seek as _, SeekFrom};

use rustix::fs::{AtFlags, RenameFlags, Stat, fgetxattr, flistxattr, fstat, fsync, renameat_with, unlinkat};
use rustix::io::Errno;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::action::FileTarget;
use crate::platform::{Failure, Progress, Subject, Survey};

use super::place::{Held, Place, not_allowed, not_the_target};
use super::{Linux, packages};
use crate::vault::{Bytes, MAX_FILE, Metadata, QUOTA, sha256_of};

/// The kernel allows 64 KiB of names, and as much for each value.
const MAX_ATTRIBUTE: usize = 64 << 10;

/// Bytes of names and values that are kept of one file. What the kernel and the system's tools put there is a few
/// hundred; whoever owns the file can put hundreds of megabytes there on some file systems.
const MAX_ATTRIBUTES: usize = 1 << 20;

/// Folders in which a scheduled task is a file.
const TASK_FOLDERS: &[&str] = &[
    "/etc/cron.d",
    "/etc/cron.hourly",
    "/etc/cron.daily",
    "/etc/cron.weekly",
    "/etc/cron.monthly",
    "/var/spool/cron",
    "/var/spool/cron/crontabs",
    "/var/spool/cron/atjobs",
];

impl Linux {
    pub(super) fn survey_quarantine(&self, file: &FileTarget, id: Uuid) -> Result<Survey, Failure> {
        let place = Place::open(&file.path)?;
        let held = place.open_file()?;
        // Before anything is read: whoever can set the file's size must not keep all other orders waiting.
        let size = size_of(&held.stat);
        if size > MAX_FILE {
            let why = format!("has {size} bytes, more than the 1073741824 that the vault takes");
            return Err(not_allowed(&file.path, &why, "copy and remove it by hand"));
        }
        self.check_target(file, &held)?;
        packages::refuse(&file.path, &held)?;
        if self.vault.used() + size > QUOTA {
            let why = "does not fit: the vault holds 4 GiB and is full";
            return Err(not_allowed(
                &file.path,
                why,
                "order restore_file or delete_quarantined_file for older items of the vault",
            ));
        }
        let path = file.path.escape_debug();
        let steps = vec![
            format!("copy {path} ({size} bytes) sealed into the vault as {id}"),
            format!("remove {path} from its folder if it is still that file"),
        ];
        Ok(Survey { steps, subject: Subject::File { path: file.path.clone(), file: held.id() } })
    }

    /// A scheduled task is a file of cron; only there may it be taken away as one.
    pub(super) fn survey_task(&self, file: &FileTarget, id: Uuid) -> Result<Survey, Failure> {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        if !TASK_FOLDERS.contains(&folder) {
            let hint = "tasks are the files of /etc/cron.* and /var/spool/cron; \
                        use quarantine_file for others, delete_service for timers";
            return Err(not_allowed(&file.path, "is no scheduled task of cron", hint));
        }
        self.survey_quarantine(file, id)
    }

    fn check_target(&self, file: &FileTarget, held: &Held) -> Result<(), Failure> {
        if file.file.is_some_and(|wanted| wanted != held.id()) {
            return Err(not_the_target(&file.path, "another file has that name now"));
        }
        if let Some(wanted) = &file.sha256 {
            let (hash, _) = hash_of(held)?;
            if !hash.eq_ignore_ascii_case(wanted) {
                let why = format!("its content is another by now (SHA-256 {hash})");
                return Err(not_the_target(&file.path, &why));
            }
        }
        Ok(())
    }

    pub(super) fn quarantine(
        &self,
        file: &FileTarget,
        surveyed: (u64, u64),
        id: Uuid,
        progress: &mut Progress<'_>,
    ) -> Result<Value, Failure> {
        let place = Place::open(&file.path)?;
        let held = place.open_file()?;
        if held.id() != surveyed {
            return Err(not_the_target(&file.path, "another file took its place"));
        }
        let moved = self.quarantine_held(file, &place, &held, id, progress);
        if moved.is_err() {
            let still_there = place.look(&place.name).ok().flatten() == Some(held.id());
            // The copy is the only one left if the file is gone: then it stays.
            if still_there {
                self.vault.forget(id, true);
            }
        }
        moved
    }

    fn quarantine_held(
        &self,
        file: &FileTarget,
        place: &Place,
        held: &Held,
        id: Uuid,
        progress: &mut Progress<'_>,
    ) -> Result<Value, Failure> {
        let (sha256, size) = progress.step("copied it, sealed, into the vault", || {
            self.vault.seal(id, &held.file).map_err(|error| Failure::system("copying into the vault", error))
        })?;
        if file.sha256.as_ref().is_some_and(|wanted| !wanted.eq_ignore_ascii_case(&sha256)) {
            return Err(not_the_target(&file.path, "its content is another by now"));
        }
        let metadata = metadata_of(file, place, held, sha256.clone(), size)?;
        progress.step("wrote what it was", || {
            self.vault
                .write_metadata(id, &metadata)
                .map_err(|error| Failure::system("writing the vault's record", error))
        })?;
        let aside = aside(id);
        progress.step("took its name away", || {
            let flags = RenameFlags::NOREPLACE;
            renameat_with(&place.dir, &place.name, &place.dir, &aside, flags)
                .map_err(|errno| Failure::system("renaming the file", errno))
        })?;
        // The name may have been given to another file since it was opened, and the file
        // itself may have got more content, or one more name.
        let unchanged = place.look(&aside).and_then(|now| {
            let stat = fstat(&held.file).map_err(|errno| Failure::system("reading the file", errno))?;
            let same = now == Some(held.id()) && same_content(&stat, &held.stat) && stat.st_nlink == 1;
            if same { Ok(()) } else { Err(not_the_target(&file.path, "it was changed while it was moved")) }
        });
        let removed = unchanged.and_then(|()| {
            progress.step("removed it", || {
                unlinkat(&place.dir, &aside, AtFlags::empty())
                    .map_err(|errno| Failure::system("removing the file", errno))
            })
        });
        if let Err(failure) = removed {
            // Back to its name, unless somebody else has that by now: then it stays aside, whole.
            let _ = renameat_with(&place.dir, &aside, &place.dir, &place.name, RenameFlags::NOREPLACE);
            return Err(failure);
        }
        // Whoever may write the folder could have put another file under the name between the look and the
        // removal: then this one lives on under a name that nobody knows.
        let left = fstat(&held.file).map_err(|errno| Failure::system("reading the file", errno))?.st_nlink;
        if left != 0 {
            let path = file.path.escape_debug();
            return Err(Failure::NotProved(format!(
                "{path} was given another name while it was removed; the vault has a copy as {id}"
            )));
        }
        fsync(&place.dir).map_err(|errno| Failure::system("writing the folder to disk", errno))?;
        Ok(json!({ "item": id, "sha256": sha256, "size": size }))
    }

    /// The name no longer means the file, and the vault's copy opens and has its hash.
    pub(super) fn is_quarantined(&self, file: &FileTarget, id: Uuid) -> Result<String, Failure> {
        let metadata =
            self.vault.metadata(id).map_err(|error| Failure::system("the vault's record", error))?;
        if let Ok(place) = Place::open(&file.path) {
            for name in [place.name.as_str(), &aside(id)] {
                if place.look(name)? == Some(metadata.file) {
                    return Err(Failure::NotProved(format!("{} is still there", file.path.escape_debug())));
                }
            }
        }
        let hash = self
            .vault
            .unseal(id, std::io::sink())
            .map_err(|error| Failure::NotProved(format!("the vault's copy can't be opened: {error}")))?;
        if hash != metadata.sha256 {
            return Err(Failure::NotProved(format!("the vault's copy has SHA-256 {hash}")));
        }
        let path = file.path.escape_debug();
        Ok(format!("{path} is gone from its folder; the vault's copy has SHA-256 {hash}"))
    }

    /// After a crash: the removal is finished if all before it was done, else it never was. The vault's copy is
    /// forgotten only where the file itself is still there, with the content that was copied: an inode's number alone
    /// may be another file's by now.
    pub(super) fn recover_quarantine(&self, file: &FileTarget, id: Uuid) -> Result<String, Failure> {
        let not_moved = || Failure::NotProved(format!("{} was not moved", file.path.escape_debug()));
        let Some(metadata) = self.vault.metadata_after_a_crash(id)? else {
            self.vault.forget(id, true);
            return Err(not_moved());
        };
        if let Ok(place) = Place::open(&file.path) {
            if is_the_copied_file(&place, &place.name, &metadata)? {
                self.vault.forget(id, true);
                return Err(not_moved());
            }
            let aside = aside(id);
            if place.dir_id == metadata.folder && place.look(&aside)? == Some(metadata.file) {
                if !is_the_copied_file(&place, &aside, &metadata)? {
                    let _ =
                        renameat_with(&place.dir, &aside, &place.dir, &place.name, RenameFlags::NOREPLACE);
                    return Err(not_the_target(&file.path, "it was changed while it was moved"));
                }
                unlinkat(&place.dir, &aside, AtFlags::empty())
                    .map_err(|errno| Failure::system("removing the file", errno))?;
                fsync(&place.dir).map_err(|errno| Failure::system("writing the folder to disk", errno))?;
            }
        }
        self.is_quarantined(file, id)
    }
}

/// Whether that name means the very file that the vault has a copy of, and it still has that content.
fn is_the_copied_file(place: &Place, name: &str, metadata: &Metadata) -> Result<bool, Failure> {
    if place.look(name)? != Some(metadata.file) {
        return Ok(false);
    }
    let Ok(held) = place.open_named(name) else { return Ok(false) };
    Ok(held.id() == metadata.file && hash_of(&held)?.0 == metadata.sha256)
}

/// Its name between its own and none.
fn aside(id: Uuid) -> String {
    format!(".rampart-{id}")
}

fn size_of(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

fn same_content(now: &Stat, before: &Stat) -> bool {
    let of = |stat: &Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
    of(now) == of(before)
}

fn hash_of(held: &Held) -> Result<(String, u64), Failure> {
    let failure = |error| Failure::system("reading the file", error);
    let mut file = &held.file;
    let hash = sha256_of(file).map_err(failure)?;
    file.seek(SeekFrom::Start(0)).map_err(failure)?;
    Ok(hash)
}

fn metadata_of(
    file: &FileTarget,
    place: &Place,
    held: &Held,
    sha256: String,
    size: u64,
) -> Result<Metadata, Failure> {
    let stat = &held.stat;
    let (attributes, attributes_left_out) = attributes_of(held)?;
    let nanoseconds = |value: u64| i64::try_from(value).unwrap_or(0);
    Ok(Metadata {
        path: file.path.clone(),
        file: held.id(),
        folder: place.dir_id,
        size,
        sha256,
        mode: stat.st_mode & 0o7777,
        owner: (stat.st_uid, stat.st_gid),
        accessed: (stat.st_atime, nanoseconds(stat.st_atime_nsec)),
        modified: (stat.st_mtime, nanoseconds(stat.st_mtime_nsec)),
        attributes,
        attributes_left_out,
        restored: false,
        deleted: false,
    })
}

/// Names and values, and how many were left out: those of users are the first to go.
fn attributes_of(held: &Held) -> Result<(Vec<(String, Bytes)>, usize), Failure> {
    let failure = |errno| Failure::system("reading the file's extended attributes", errno);
    let mut list = vec![0_u8; MAX_ATTRIBUTE];
    let length = match flistxattr(&held.file, list.as_mut_slice()) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => 0,
        Err(errno) => return Err(failure(errno)),
    };
    let mut names: Vec<&[u8]> =
        list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    names.sort_by_key(|name| name.starts_with(b"user."));
    let (mut attributes, mut left_out, mut size) = (Vec::new(), 0, 0);
    for name in names {
        let mut value = vec![0_u8; MAX_ATTRIBUTE];
        let length = match fgetxattr(&held.file, name, value.as_mut_slice()) {
            Ok(length) => length,
            // Taken away since the list.
            Err(Errno::NODATA) => continue,
            Err(errno) => return Err(failure(errno)),
        };
        value.truncate(length);
        value.shrink_to_fit();
        match str::from_utf8(name) {
            Ok(name) if size + name.len() + length <= MAX_ATTRIBUTES => {
                size += name.len() + length;
                attributes.push((name.to_owned(), Bytes(value)));
            }
            _ => left_out += 1,
        }
    }
    Ok((attributes, left_out))
}
