//! Files that a package put there, and that are its own: they are not taken away.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};

use md5::{Digest as _, Md5};

use crate::platform::Failure;
use crate::vault::MAX_FILE;

use super::place::{Held, not_allowed};

/// Where Debian keeps what each package installed.
const DEBIAN: &str = "/var/lib/dpkg/info";

/// Refuses a file that a package put there, if the file is still as it put it. Where no list of packages is known,
/// each file of root in the folders of packages counts as such.
pub(super) fn refuse(path: &str, held: &Held) -> Result<(), Failure> {
    let in_packages = ["/usr/", "/bin/", "/sbin/", "/lib"].iter().any(|start| path.starts_with(start));
    if !in_packages || path.starts_with("/usr/local/") {
        return Ok(());
    }
    match package_of(path, held) {
        Owner::Package(name) => {
            let why = format!("is as the package `{name}` installed it");
            Err(not_allowed(path, &why, "remove the package, or name the file that was changed"))
        }
        Owner::Unknown if held.stat.st_uid == 0 => {
            let why = "is root's, in a folder of packages, and only Debian's list of what packages installed is read";
            let hint = "end its processes with kill_tree, block its hash, and remove it by hand if it is no package's";
            Err(not_allowed(path, why, hint))
        }
        Owner::Unknown | Owner::Nobody => Ok(()),
    }
}

enum Owner {
    Package(String),
    /// No package, or not as it was installed.
    Nobody,
    /// This host has no list that is read.
    Unknown,
}

fn package_of(path: &str, held: &Held) -> Owner {
    let listed = path.strip_prefix('/').unwrap_or(path);
    // Where /bin is a link to /usr/bin, packages may say either.
    let short = listed.strip_prefix("usr/").unwrap_or(listed);
    let Ok(entries) = fs::read_dir(DEBIAN) else { return Owner::Unknown };
    let Some(hash) = md5_of(held) else { return Owner::Unknown };
    let mut owner = Owner::Unknown;
    for entry in entries.flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let Some(package) = name.strip_suffix(".md5sums") else { continue };
        owner = Owner::Nobody;
        let text = fs::read(entry.path()).unwrap_or_default();
        let is_it = |line: &str| {
            line.split_once("  ").is_some_and(|(sum, file)| (file == listed || file == short) && sum == hash)
        };
        if String::from_utf8_lossy(&text).lines().any(is_it) {
            return Owner::Package(package.to_owned());
        }
    }
    owner
}

fn md5_of(held: &Held) -> Option<String> {
    let (mut hash, mut buffer, mut file) = (Md5::new(), vec![0; 64 << 10], &held.file);
    // It may grow while it is read.
    let mut bounded = file.take(MAX_FILE + 1);
    loop {
        match bounded.read(&mut buffer).ok()? {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    file.seek(SeekFrom::Start(0)).ok()?;
    Some(crate::vault::hex(&hash.finalize()))
}
