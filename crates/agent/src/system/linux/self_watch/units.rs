//! Where systemd finds what it knows of the agent's service.
//!
//! A unit of the same name in a directory that comes first stands in place of the real one, a link to /dev/null there
//! masks it, a drop-in changes any of its settings, and without the link in a `.wants` directory it does not start with
//! the host. None of these needs to be there when the agent begins, so all of these names are looked at again and again;
//! what comes and goes in between, inotify tells where the directory is there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

const UNIT: &str = "edr-agent.service";
/// Drop-ins of the unit, of all whose names begin alike, and of all services (systemd.unit(5)).
const DROP_INS: [&str; 3] = ["edr-agent.service.d", "edr-.service.d", "service.d"];
/// Links to the unit in these start it.
const WANTED_BY: [&str; 2] = ["multi-user.target.wants", "multi-user.target.requires"];
/// The directories that systemd searches, first to last (systemd.unit(5)); without those that it writes by itself.
const DIRS: [&str; 9] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Drop-ins that are looked at in one directory.
const MOST_DROP_INS: usize = 256;

/// What can't change without a trace: inode, size, and the time of the last change of either.
type State = (u64, u64, i64, i64);

/// What stands at these places.
#[derive(Debug, Clone)]
pub(super) struct Units {
    dirs: Vec<PathBuf>,
    seen: BTreeMap<PathBuf, State>,
}

impl Units {
    /// As systemd has them.
    pub(super) fn of_systemd() -> Self {
        Self::below(DIRS.iter().map(PathBuf::from))
    }

    fn below(dirs: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut found: Vec<PathBuf> = Vec::new();
        for dir in dirs {
            // /lib is /usr/lib on most hosts.
            let dir = fs::canonicalize(&dir).unwrap_or(dir);
            if !found.contains(&dir) {
                found.push(dir);
            }
        }
        let mut units = Self { dirs: found, seen: BTreeMap::new() };
        units.seen = units.look();
        units
    }

    /// Directories that are there, each with a name in it that counts.
    pub(super) fn places(&self) -> Vec<(PathBuf, &'static str)> {
        let of_dir = |dir: &PathBuf| {
            let own = std::iter::once(UNIT).chain(DROP_INS).map(|name| (dir.clone(), name));
            own.chain(WANTED_BY.iter().map(|wanted| (dir.join(wanted), UNIT))).collect::<Vec<_>>()
        };
        self.dirs.iter().flat_map(of_dir).filter(|(dir, _)| dir.is_dir()).collect()
    }

    /// What is not as it was, with what was done to it.
    pub(super) fn changed(&mut self) -> Vec<(PathBuf, &'static str)> {
        let now = self.look();
        let before = std::mem::replace(&mut self.seen, now);
        let came = self.seen.iter().filter_map(|(path, state)| match before.get(path) {
            None => Some((path.clone(), "created")),
            Some(known) if known != state => Some((path.clone(), "written")),
            Some(_) => None,
        });
        let went = before.keys().filter(|path| !self.seen.contains_key(*path));
        came.chain(went.map(|path| (path.clone(), "deleted or moved away"))).collect()
    }

    fn look(&self) -> BTreeMap<PathBuf, State> {
        let mut seen = BTreeMap::new();
        let mut look_at = |path: PathBuf| {
            if let Ok(file) = fs::symlink_metadata(&path) {
                seen.insert(path, (file.ino(), file.size(), file.ctime(), file.ctime_nsec()));
            }
        };
        for dir in &self.dirs {
            look_at(dir.join(UNIT));
            WANTED_BY.iter().for_each(|wanted| look_at(dir.join(wanted).join(UNIT)));
            for drop_in in DROP_INS.map(|name| dir.join(name)) {
                let Ok(entries) = fs::read_dir(&drop_in) else { continue };
                let settings =
                    entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| is_drop_in(path));
                settings.take(MOST_DROP_INS).for_each(&mut look_at);
            }
        }
        seen
    }
}

fn is_drop_in(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "conf")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_stands_before_beside_and_behind_the_unit_counts() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        let [etc, run, lib] = ["etc", "run", "lib"].map(|name| root.join(name));
        let wants = etc.join("multi-user.target.wants");
        [&wants, &lib].into_iter().for_each(|dir| fs::create_dir_all(dir).unwrap());
        fs::write(lib.join(UNIT), "[Service]").unwrap();
        symlink(lib.join(UNIT), wants.join(UNIT)).unwrap();
        symlink(&lib, root.join("second-lib")).unwrap();
        let mut units = Units::below([etc.clone(), run.clone(), lib.clone(), root.join("second-lib")]);
        assert_eq!(units.dirs.len(), 3, "one directory is watched once");
        assert!(units.places().contains(&(wants.clone(), UNIT)));
        assert!(units.places().iter().all(|(dir, _)| !dir.starts_with(&run)), "it is not there");
        assert_eq!(units.changed(), []);

        // A mask in a directory that was not even there.
        fs::create_dir(&run).unwrap();
        symlink("/dev/null", run.join(UNIT)).unwrap();
        assert_eq!(units.changed(), [(run.join(UNIT), "created")]);
        for drop_ins in DROP_INS.map(|name| etc.join(name)) {
            fs::create_dir(&drop_ins).unwrap();
            fs::write(drop_ins.join("notes.txt"), "").unwrap();
            assert_eq!(units.changed(), [], "no setting");
            fs::write(drop_ins.join("x.conf"), "[Service]\nExecStart=\n").unwrap();
            assert_eq!(units.changed(), [(drop_ins.join("x.conf"), "created")]);
        }
        fs::write(etc.join(UNIT), "[Service]\nExecStart=/bin/true\n").unwrap();
        fs::remove_file(wants.join(UNIT)).unwrap();
        assert_eq!(
            units.changed(),
            [(etc.join(UNIT), "created"), (wants.join(UNIT), "deleted or moved away")]
        );
        fs::write(lib.join(UNIT), "[Service]\nExecStart=/bin/false\n").unwrap();
        assert_eq!(units.changed(), [(lib.join(UNIT), "written")]);
        assert_eq!(units.changed(), []);
    }
}
