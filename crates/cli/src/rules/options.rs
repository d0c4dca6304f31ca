//! The command line of `edr rules test`, `stats` and `explain`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use rule_engine::LogSources;

use crate::arguments::{Usage, parser};

/// What a command takes.
pub(super) struct Spec {
    pub(super) command: &'static str,
    /// Flags with a value; they may be given several times.
    pub(super) flags: &'static [&'static str],
    /// Flags without one.
    pub(super) switches: &'static [&'static str],
}

/// What was asked for.
pub(super) struct RuleOptions {
    pub(super) paths: Vec<PathBuf>,
    pub(super) log_sources: LogSources,
    /// The files of `--mapping`, for those who read logs.
    pub(super) mappings: Vec<PathBuf>,
    values: BTreeMap<String, Vec<OsString>>,
    switches: BTreeSet<String>,
}

impl RuleOptions {
    /// Reads the command line, and the files of log sources that it names.
    pub(super) fn read(arguments: Vec<OsString>, spec: &Spec) -> anyhow::Result<Self> {
        let known: Vec<&'static str> =
            spec.flags.iter().chain(spec.switches).copied().chain(["help"]).collect();
        let wrong = |error: lexopt::Error| {
            Usage::new(error.to_string(), format!("`{} --help` shows the flags", spec.command))
        };
        let mut options = Self {
            paths: Vec::new(),
            log_sources: LogSources::builtin(),
            mappings: Vec::new(),
            values: BTreeMap::new(),
            switches: BTreeSet::new(),
        };
        let mut parser = parser(arguments);
        while let Some(argument) = parser.next().map_err(wrong)? {
            match argument {
                lexopt::Arg::Value(path) => options.paths.push(path.into()),
                lexopt::Arg::Long(name) if spec.flags.contains(&name) => {
                    let name = name.to_owned();
                    let value = parser.value().map_err(wrong)?;
                    options.values.entry(name).or_default().push(value);
                }
                lexopt::Arg::Long(name) if spec.switches.contains(&name) => {
                    options.switches.insert(name.to_owned());
                }
                lexopt::Arg::Long(other) => return Err(Usage::unknown_flag(other, &known).into()),
                lexopt::Arg::Short(other) => {
                    return Err(Usage::unknown_flag(&other.to_string(), &known).into());
                }
            }
        }
        if options.paths.is_empty() {
            let hint = format!("write `{} FILE_OR_FOLDER…`", spec.command);
            return Err(Usage::new("no path given", hint).into());
        }
        options.read_files()?;
        Ok(options)
    }

    fn read_files(&mut self) -> anyhow::Result<()> {
        self.mappings = self.paths_of("mapping");
        for path in &self.mappings {
            // `.toml` says how fields are called in logs, and is for those who read them.
            if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml")) {
                continue;
            }
            let name = path.display().to_string();
            let text = fs::read_to_string(path).with_context(|| format!("reading `{name}`"))?;
            self.log_sources = self.log_sources.with_file_first(&name, &text).map_err(|faults| {
                let all: String = faults.iter().map(|fault| fault.render(&text)).collect();
                anyhow::anyhow!("mapping `{name}` is wrong\n{all}")
            })?;
        }
        Ok(())
    }

    pub(super) fn has(&self, switch: &str) -> bool {
        self.switches.contains(switch)
    }

    pub(super) fn values_of(&self, flag: &str) -> &[OsString] {
        self.values.get(flag).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn paths_of(&self, flag: &str) -> Vec<PathBuf> {
        self.values_of(flag).iter().map(PathBuf::from).collect()
    }

    /// A whole number from 1.
    pub(super) fn number_of(&self, flag: &str) -> Result<Option<usize>, Usage> {
        let Some(value) = self.values_of(flag).last() else { return Ok(None) };
        let number = value.to_str().and_then(|text| text.parse().ok()).filter(|number: &usize| *number > 0);
        number.map(Some).ok_or_else(|| {
            Usage::new(format!("`--{flag} {}` is no number", value.to_string_lossy()), "write 1 or more")
        })
    }
}
