//! The folder of playbooks.

use std::path::Path;

use anyhow::Context as _;
use playbook::{Alert, Facts, HostGroups, Mode, Playbook, read_playbook};

/// Playbooks of one folder; past this it is the wrong folder.
const FILE_LIMIT: usize = 10_000;

/// The playbooks that are good, and the groups of hosts.
#[derive(Debug)]
pub struct Library {
    playbooks: Vec<Playbook>,
    groups: HostGroups,
}

impl Library {
    /// Reads a folder. A bad playbook is reported and left out; the others load.
    ///
    /// # Errors
    /// If the folder or its `host-groups.yml` can't be used, or no playbook in it.
    pub fn load(folder: &Path) -> anyhow::Result<Self> {
        let groups_file = folder.join("host-groups.yml");
        let groups = match std::fs::read_to_string(&groups_file) {
            Ok(text) => HostGroups::parse(&groups_file.display().to_string(), &text).map_err(|found| {
                let shown: String = found.iter().map(|found| found.render(&text)).collect();
                anyhow::anyhow!("{}", shown.trim_end())
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => HostGroups::default(),
            Err(error) => {
                return Err(error).with_context(|| format!("{}: can't be read", groups_file.display()));
            }
        };
        let name = folder.display();
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).with_context(|| format!("{name}: can't be read"))? {
            let path = entry.with_context(|| format!("{name}: can't be read"))?.path();
            let is_yaml = path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml");
            if is_yaml && path != groups_file {
                files.push(path);
            }
            anyhow::ensure!(files.len() <= FILE_LIMIT, "{name}: more than {FILE_LIMIT} playbooks");
        }
        files.sort();
        let mut playbooks: Vec<Playbook> = Vec::new();
        for path in &files {
            let file = path.display().to_string();
            let text = std::fs::read(path).with_context(|| format!("{file}: can't be read"))?;
            let outcome = read_playbook(&file, &text, &groups);
            for found in &outcome.diagnostics {
                tracing::warn!("{}", found.render(&String::from_utf8_lossy(&text)).trim_end());
            }
            match outcome.playbook {
                Some(playbook) if playbooks.iter().any(|known| known.id == playbook.id) => {
                    tracing::error!(file, id = playbook.id, "left out: another playbook has this id");
                }
                Some(playbook) => playbooks.push(playbook),
                None => tracing::error!(file, "left out: it has errors; `edr playbook check` shows them"),
            }
        }
        anyhow::ensure!(!playbooks.is_empty(), "{name}: no good playbook (*.yml, *.yaml) is in it");
        Ok(Self { playbooks, groups })
    }

    /// How many there are, and how many of them act.
    pub fn counts(&self) -> (usize, usize) {
        let acting = self.playbooks.iter().filter(|playbook| playbook.mode == Mode::Auto).count();
        (self.playbooks.len(), acting)
    }

    /// Those that run for an alert.
    pub fn triggered<'a>(&'a self, alert: &'a Alert) -> impl Iterator<Item = &'a Playbook> {
        let facts = self.facts(alert);
        self.playbooks.iter().filter(move |playbook| playbook.is_triggered(&facts))
    }

    /// One by its id.
    pub fn find(&self, id: &str) -> Option<&Playbook> {
        self.playbooks.iter().find(|playbook| playbook.id == id)
    }

    /// An alert with the groups of its host.
    pub fn facts<'a>(&self, alert: &'a Alert) -> Facts<'a> {
        Facts { alert, host_groups: self.groups.of(&alert.host_id, &alert.host_name) }
    }
}
