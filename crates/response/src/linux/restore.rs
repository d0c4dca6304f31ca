//! A file out of the vault: to the same folder under the same name, or not at all.

use std::fs::File;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, fchmod, fchown, fsetxattr, fsync,
    futimens, linkat, openat,
};
use rustix::io::Errno;
use serde_json::{Value, json};

use crate::action::Item;
use crate::platform::{Failure, Progress, Subject, Survey};

use super::Linux;
use super::place::{Place, not_allowed};
use crate::vault::{Metadata, sha256_of};

impl Linux {
    pub(super) fn survey_restore(&self, item: Item) -> Result<Survey, Failure> {
        let metadata = self.vault.item(item.item)?;
        place_of(&metadata)?;
        let Metadata { path, mode, owner: (user, group), sha256, .. } = &metadata;
        let steps = vec![format!(
            "write {} back (SHA-256 {sha256}, mode {mode:04o}, owner {user}:{group})",
            path.escape_debug()
        )];
        Ok(Survey { steps, subject: Subject::Nothing })
    }

    pub(super) fn restore(&self, item: Item, progress: &mut Progress<'_>) -> Result<Value, Failure> {
        let metadata = self.vault.item(item.item)?;
        self.put_back(&metadata, item, progress)?;
        progress.step("closed the vault's item", || self.close_item(&metadata, item))?;
        Ok(json!({ "path": metadata.path, "sha256": metadata.sha256 }))
    }

    /// The file, at its place as it was. The vault keeps its own until the item is closed.
    pub(super) fn put_back(
        &self,
        metadata: &Metadata,
        item: Item,
        progress: &mut Progress<'_>,
    ) -> Result<(), Failure> {
        let place = place_of(metadata)?;
        let file = progress.step("opened the seal", || self.unsealed_beside(&place, metadata, item))?;
        progress.step("gave it its owner, mode, attributes and times", || dress(&file, metadata))?;
        progress.step("put it back under its name", || {
            let by_descriptor = format!("/proc/self/fd/{}", file.as_raw_fd());
            // Never over another file: linkat(2) refuses a name that is taken.
            linkat(CWD, by_descriptor, &place.dir, &place.name, AtFlags::SYMLINK_FOLLOW).map_err(
                |errno| match errno {
                    Errno::EXIST => taken(metadata),
                    errno => Failure::system("giving the file its name", errno),
                },
            )?;
            fsync(&place.dir).map_err(|errno| Failure::system("writing the folder to disk", errno))
        })?;
        is_as_it_was(metadata)
    }

    /// What was put back is no longer in the vault.
    pub(super) fn close_item(&self, metadata: &Metadata, item: Item) -> Result<(), Failure> {
        let restored = Metadata { restored: true, ..metadata.clone() };
        self.vault
            .write_metadata(item.item, &restored)
            .map_err(|error| Failure::system("writing the vault's record", error))?;
        self.vault.forget(item.item, false);
        Ok(())
    }

    /// The content in a file that has no name yet, in the folder where it will get one.
    fn unsealed_beside(&self, place: &Place, metadata: &Metadata, item: Item) -> Result<OwnedFd, Failure> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = openat(&place.dir, ".", flags, Mode::RUSR | Mode::WUSR).map_err(|errno| match errno {
            Errno::OPNOTSUPP | Errno::ISDIR => not_allowed(
                &metadata.path,
                "can't be written unseen: its filesystem has no files without a name",
                "copy it out with `edr` on the host",
            ),
            errno => Failure::system("making the file", errno),
        })?;
        let writer = File::from(file);
        let hash = self
            .vault
            .unseal(item.item, &writer)
            .map_err(|error| Failure::system("opening the vault's item", error))?;
        if hash != metadata.sha256 {
            let error = format!("the item has SHA-256 {hash}, it was {}", metadata.sha256);
            return Err(Failure::system("opening the vault's item", error));
        }
        writer.sync_all().map_err(|error| Failure::system("writing the file to disk", error))?;
        Ok(writer.into())
    }

    pub(super) fn is_restored(&self, item: Item) -> Result<String, Failure> {
        let metadata =
            self.vault.metadata(item.item).map_err(|error| Failure::system("the vault's record", error))?;
        is_as_it_was(&metadata)?;
        Ok(format!("{} is back, with SHA-256 {}", metadata.path.escape_debug(), metadata.sha256))
    }

    /// After a crash: where the file is back the item is closed, else nothing was done.
    pub(super) fn recover_restore(&self, item: Item) -> Result<String, Failure> {
        let proof = self.is_restored(item)?;
        let metadata =
            self.vault.metadata(item.item).map_err(|error| Failure::system("the vault's record", error))?;
        self.close_item(&metadata, item)?;
        Ok(proof)
    }
}

/// The folder, if it is still the same one and the name in it is free.
fn place_of(metadata: &Metadata) -> Result<Place, Failure> {
    let place = Place::open(&metadata.path)?;
    if place.dir_id != metadata.folder {
        let hint = "put the folder back, or copy the file out by hand";
        return Err(not_allowed(&metadata.path, "had its place in another folder", hint));
    }
    if place.look(&place.name)?.is_some() {
        return Err(taken(metadata));
    }
    Ok(place)
}

fn taken(metadata: &Metadata) -> Failure {
    not_allowed(&metadata.path, "is another file by now", "move that file away first")
}

/// Owner first: changing it takes setuid bits and capabilities away.
fn dress(file: &OwnedFd, metadata: &Metadata) -> Result<(), Failure> {
    let failure = |what: &str, errno: Errno| Failure::system(format!("setting the file's {what}"), errno);
    let (user, group) = metadata.owner;
    fchown(file, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))
        .map_err(|errno| failure("owner", errno))?;
    for (name, value) in &metadata.attributes {
        fsetxattr(file, name.as_str(), &value.0, XattrFlags::empty())
            .map_err(|errno| failure(name, errno))?;
    }
    fchmod(file, Mode::from_raw_mode(metadata.mode)).map_err(|errno| failure("mode", errno))?;
    let time = |(seconds, nanoseconds)| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times =
        Timestamps { last_access: time(metadata.accessed), last_modification: time(metadata.modified) };
    futimens(file, &times).map_err(|errno| failure("times", errno))?;
    fsync(file).map_err(|errno| failure("state on disk", errno))
}

pub(super) fn is_as_it_was(metadata: &Metadata) -> Result<(), Failure> {
    let held = Place::open(&metadata.path)?.open_file()?;
    let (sha256, _) = sha256_of(&held.file).map_err(|error| Failure::system("reading the file", error))?;
    let same = sha256 == metadata.sha256
        && held.stat.st_mode & 0o7777 == metadata.mode
        && (held.stat.st_uid, held.stat.st_gid) == metadata.owner;
    if same {
        return Ok(());
    }
    Err(Failure::NotProved(format!("{} is not as it was (SHA-256 {sha256})", metadata.path.escape_debug())))
}
