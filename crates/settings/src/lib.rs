//! How the binaries are told what to do.
//!
//! A program has one table of [`Setting`]s. Each can be given as a flag
//! (`-addr :8443`, `--addr=:8443`), in the environment (`EDR_ADDR`) and as a key
//! of the JSON config file that `-config` names; flags win over the environment,
//! which wins over the file. A flag or key that is not in the table is an error
//! that names the nearest one, so that a misspelt setting is never silently a
//! default. Long flags with one dash are the reason for an own reader: to every
//! other parser `-cert` is `-c -e -r -t`.

#![deny(missing_docs)]

mod config_file;
mod flags;
mod nearest;
mod resolved;

use std::ffi::OsString;
use std::path::PathBuf;

pub use nearest::nearest;
pub use resolved::{Given, Resolved, Source};

/// What a setting's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// On or off: `-debug`, `-debug=false`, `EDR_DEBUG=true`, `"debug": true`.
    Switch,
    /// A text.
    Text,
    /// Several texts: separated by commas, or an array in the config file.
    List,
    /// A number, fractions allowed.
    Number,
}

/// One row of a program's table.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its flag without dashes. Its environment variable is `EDR_` and this in capitals.
    pub flag: &'static str,
    /// Its key in the config file; empty where the file can't set it.
    pub key: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// What stands for the value in the help, for example `FILE`.
    pub value_name: &'static str,
    /// One line for the help.
    pub help: &'static str,
}

impl Setting {
    /// The name of its environment variable.
    pub fn environment(&self) -> String {
        format!("EDR_{}", self.flag.to_ascii_uppercase().replace('-', "_"))
    }
}

/// A program and its table.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Its name, for example `edr-server`.
    pub name: &'static str,
    /// One sentence on what it is.
    pub about: &'static str,
    /// Its settings. `-config`, `-help` and `-version` are always there.
    pub settings: &'static [Setting],
}

/// What the command line asked for.
#[derive(Debug)]
pub enum Request {
    /// Run with these settings.
    Run(Resolved),
    /// Print the help and end.
    Help,
    /// Print the version and end.
    Version,
}

/// The settings can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// No such flag.
    #[error("`{flag}` is not a flag of {program}{}", did_you_mean(.nearest, "-"))]
    UnknownFlag {
        /// As it was written.
        flag: String,
        /// The program.
        program: &'static str,
        /// The nearest known flag.
        nearest: Option<&'static str>,
    },
    /// Something that is not a flag.
    #[error("`{argument}` is not a flag; hint: {program} takes flags only, see `{program} -help`")]
    Unexpected {
        /// As it was written.
        argument: String,
        /// The program.
        program: &'static str,
    },
    /// A flag stands twice.
    #[error("`-{flag}` is given twice; hint: give it once{}", if *.list { ", with commas between the values" } else { "" })]
    Twice {
        /// The flag.
        flag: &'static str,
        /// It takes several values.
        list: bool,
    },
    /// A flag without its value.
    #[error("`-{flag}` needs a value; hint: `-{flag} {value_name}`")]
    NoValue {
        /// The flag.
        flag: &'static str,
        /// What the value is.
        value_name: &'static str,
    },
    /// A value that is not of the setting's kind.
    #[error("{source_text}: `{value}` is not {allowed}")]
    BadValue {
        /// Where it stands.
        source_text: String,
        /// As it was written.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// Not UTF-8.
    #[error("{source_text} is not UTF-8")]
    NotText {
        /// Where it stands.
        source_text: String,
    },
    /// The config file can't be read.
    #[error("config file {}: can't be read", path.display())]
    ReadConfig {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The config file is not JSON.
    #[error("{}:{line}:{column}: not valid JSON: {reason}{}", path.display(), escape_hint(.reason))]
    ConfigSyntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What the parser says.
        reason: String,
    },
    /// A key that no setting has.
    #[error("{}: `{key}` is not a key of {program}'s config{}", path.display(), did_you_mean(.nearest, ""))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The program.
        program: &'static str,
        /// The nearest known key.
        nearest: Option<&'static str>,
    },
}

fn did_you_mean(nearest: &Option<&'static str>, dash: &str) -> String {
    match nearest {
        Some(name) => format!("; hint: did you mean `{dash}{name}`?"),
        None if dash.is_empty() => String::new(),
        None => "; hint: `-help` lists all".to_owned(),
    }
}

fn escape_hint(reason: &str) -> &'static str {
    // The usual case is a Windows path or registry key.
    if reason.contains("escape") { "; hint: in JSON a backslash is written `\\\\`" } else { "" }
}

impl Program {
    /// Reads the command line (without the program's own name), the environment and the config file.
    ///
    /// # Errors
    /// [`SettingsError`] for the first thing that can't be used.
    pub fn read(
        &self,
        arguments: impl IntoIterator<Item = OsString>,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Request, SettingsError> {
        let flags = match flags::read(self, arguments)? {
            flags::Read::Help => return Ok(Request::Help),
            flags::Read::Version => return Ok(Request::Version),
            flags::Read::Flags(flags) => flags,
        };
        let mut resolved = Resolved::default();
        let config = flags
            .config
            .or_else(|| environment("EDR_CONFIG").filter(|path| !path.is_empty()))
            .map(PathBuf::from);
        if let Some(path) = config {
            config_file::read(self, &path, &mut resolved)?;
            resolved.config_file = Some(path);
        }
        for setting in self.settings {
            let name = setting.environment();
            let Some(value) = environment(&name).filter(|value| !value.is_empty()) else { continue };
            resolved.insert_text(setting, value, Source::Environment(name))?;
        }
        for (setting, value) in flags.given {
            resolved.insert_text(setting, value, Source::Flag(setting.flag))?;
        }
        Ok(Request::Run(resolved))
    }

    /// The text of `-help`.
    pub fn help(&self) -> String {
        let mut lines = vec![
            format!("{}: {}", self.name, self.about),
            String::new(),
            "Flags take one dash or two, `=` or a space. Each can also be set in the environment".to_owned(),
            "(EDR_ and the flag in capitals) and in the JSON file of -config (key in brackets).".to_owned(),
            String::new(),
        ];
        let mut row = |left: String, help: &str| lines.push(format!("  {left:<24} {help}"));
        for setting in self.settings {
            let left = match setting.kind {
                Kind::Switch => format!("-{}", setting.flag),
                _ => format!("-{} {}", setting.flag, setting.value_name),
            };
            let key = if setting.key.is_empty() { String::new() } else { format!(" [{}]", setting.key) };
            row(left, &format!("{}{key}", setting.help));
        }
        row("-config FILE".to_owned(), "read settings from a JSON file");
        row("-version".to_owned(), "print the version");
        row("-help".to_owned(), "print this");
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests;
