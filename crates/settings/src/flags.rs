//! The command line.

use std::ffi::OsString;

use crate::{Kind, Program, Setting, SettingsError, nearest};

pub(crate) struct Flags {
    pub(crate) config: Option<OsString>,
    pub(crate) given: Vec<(&'static Setting, OsString)>,
}

pub(crate) enum Read {
    Flags(Flags),
    Help,
    Version,
}

pub(crate) fn read(
    program: &Program,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Read, SettingsError> {
    let mut flags = Flags { config: None, given: Vec::new() };
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let written = argument.to_string_lossy().into_owned();
        let Some(bare) =
            written.strip_prefix("--").or_else(|| written.strip_prefix('-')).filter(|rest| !rest.is_empty())
        else {
            return Err(SettingsError::Unexpected { argument: written, program: program.name });
        };
        let (name, inline) = match bare.split_once('=') {
            Some((name, _)) => (name, Some(after_equals(&argument))),
            None => (bare, None),
        };
        match name {
            "help" | "h" => return Ok(Read::Help),
            "version" | "V" => return Ok(Read::Version),
            "config" => {
                let value = inline.or_else(|| arguments.next());
                let value = value.ok_or(SettingsError::NoValue { flag: "config", value_name: "FILE" })?;
                if flags.config.replace(value).is_some() {
                    return Err(SettingsError::Twice { flag: "config", list: false });
                }
                continue;
            }
            _ => {}
        }
        let Some(setting) = program.settings.iter().find(|setting| setting.flag == name) else {
            let known =
                program.settings.iter().map(|setting| setting.flag).chain(["config", "help", "version"]);
            return Err(SettingsError::UnknownFlag {
                flag: written.split_once('=').map_or(written.as_str(), |(flag, _)| flag).to_owned(),
                program: program.name,
                nearest: nearest(name, known),
            });
        };
        if flags.given.iter().any(|(other, _)| other.flag == setting.flag) {
            return Err(SettingsError::Twice { flag: setting.flag, list: setting.kind == Kind::List });
        }
        let value = match (inline, setting.kind) {
            (Some(value), _) => value,
            (None, Kind::Switch) => OsString::from("true"),
            (None, _) => arguments
                .next()
                .ok_or(SettingsError::NoValue { flag: setting.flag, value_name: setting.value_name })?,
        };
        flags.given.push((setting, value));
    }
    Ok(Read::Flags(flags))
}

/// What stands behind the first `=`. Paths need not be UTF-8, so the bytes are
/// taken from the argument itself, not from its lossy text.
fn after_equals(argument: &OsString) -> OsString {
    let bytes = argument.as_encoded_bytes();
    let start = bytes.iter().position(|byte| *byte == b'=').map_or(bytes.len(), |place| place + 1);
    match std::str::from_utf8(&bytes[start..]) {
        Ok(text) => OsString::from(text),
        Err(_) => OsString::from(String::from_utf8_lossy(&bytes[start..]).into_owned()),
    }
}
