//! What was given, and where.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use crate::{Kind, Setting, SettingsError};

/// Where a value came from, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The flag.
    Flag(&'static str),
    /// The environment variable.
    Environment(String),
    /// The config file.
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// The key in it.
        key: &'static str,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "-{flag}"),
            Self::Environment(name) => f.write_str(name),
            Self::ConfigFile { path, key } => write!(f, "{}: `{key}`", path.display()),
        }
    }
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Given {
    /// On or off.
    Switch(bool),
    /// A text.
    Text(String),
    /// Several texts.
    List(Vec<String>),
    /// A number.
    Number(f64),
}

/// The settings that were given, the strongest source of each.
#[derive(Debug, Clone, Default)]
pub struct Resolved {
    values: BTreeMap<&'static str, (Given, Source)>,
    /// The config file that was read.
    pub config_file: Option<PathBuf>,
}

impl Resolved {
    pub(crate) fn insert(&mut self, flag: &'static str, given: Given, source: Source) {
        self.values.insert(flag, (given, source));
    }

    pub(crate) fn insert_text(
        &mut self,
        setting: &'static Setting,
        value: OsString,
        source: Source,
    ) -> Result<(), SettingsError> {
        let value =
            value.into_string().map_err(|_| SettingsError::NotText { source_text: source.to_string() })?;
        let bad = |allowed: &str| SettingsError::BadValue {
            source_text: source.to_string(),
            value: value.clone(),
            allowed: allowed.to_owned(),
        };
        let given = match setting.kind {
            Kind::Text => Given::Text(value),
            Kind::Switch => match value.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => Given::Switch(true),
                "false" | "0" | "no" | "off" => Given::Switch(false),
                _ => return Err(bad("true or false")),
            },
            Kind::Number => match value.parse::<f64>() {
                Ok(number) if number.is_finite() => Given::Number(number),
                _ => return Err(bad("a number")),
            },
            Kind::List => Given::List(
                value.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect(),
            ),
        };
        self.insert(setting.flag, given, source);
        Ok(())
    }

    /// Another text for a setting that was given as one.
    pub fn replace_text(&mut self, flag: &str, text: String) {
        if let Some((given @ Given::Text(_), _)) = self.values.get_mut(flag) {
            *given = Given::Text(text);
        }
    }

    /// What was given, as the keys of a config file; settings that have no key are left out.
    pub fn config(&self, settings: &[Setting]) -> serde_json::Value {
        let of = |setting: &Setting| {
            let (given, _) = self.values.get(setting.flag)?;
            let value: serde_json::Value = match given {
                Given::Switch(on) => (*on).into(),
                Given::Text(text) => text.as_str().into(),
                Given::List(list) => list.clone().into(),
                Given::Number(number) => (*number).into(),
            };
            Some((setting.key.to_owned(), value))
        };
        settings.iter().filter(|setting| !setting.key.is_empty()).filter_map(of).collect()
    }

    /// The text of a setting, where it was given.
    pub fn text(&self, flag: &str) -> Option<&str> {
        match self.values.get(flag)? {
            (Given::Text(text), _) => Some(text),
            _ => None,
        }
    }

    /// The path of a setting, where it was given.
    pub fn path(&self, flag: &str) -> Option<PathBuf> {
        self.text(flag).map(PathBuf::from)
    }

    /// The texts of a setting, where they were given.
    pub fn list(&self, flag: &str) -> Option<&[String]> {
        match self.values.get(flag)? {
            (Given::List(list), _) => Some(list),
            _ => None,
        }
    }

    /// The number of a setting, where it was given.
    pub fn number(&self, flag: &str) -> Option<f64> {
        match self.values.get(flag)? {
            (Given::Number(number), _) => Some(*number),
            _ => None,
        }
    }

    /// Whether a switch is on; off is the default of all switches.
    pub fn is_on(&self, flag: &str) -> bool {
        matches!(self.values.get(flag), Some((Given::Switch(true), _)))
    }

    /// Whether anything was given.
    pub fn has(&self, flag: &str) -> bool {
        self.values.contains_key(flag)
    }

    /// Where the value came from, where it was given.
    pub fn source(&self, flag: &str) -> Option<&Source> {
        self.values.get(flag).map(|(_, source)| source)
    }

    /// An error about the value of a setting, for what only the program can judge:
    /// `allowed` says what would have been right.
    pub fn refuse(&self, flag: &str, allowed: &str) -> SettingsError {
        let (value, source_text) = match self.values.get(flag) {
            Some((given, source)) => (given.to_string(), source.to_string()),
            None => (String::new(), format!("-{flag}")),
        };
        SettingsError::BadValue { source_text, value, allowed: allowed.to_owned() }
    }
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch(on) => on.fmt(f),
            Self::Text(text) => f.write_str(text),
            Self::List(list) => f.write_str(&list.join(",")),
            Self::Number(number) => number.fmt(f),
        }
    }
}
