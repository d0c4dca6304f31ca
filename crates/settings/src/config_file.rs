//! The JSON config file.

use std::path::Path;

use serde_json::Value;

use crate::resolved::Given;
use crate::{Kind, Program, Resolved, SettingsError, Source, nearest};

/// A config file is a few lines; more is a mistake, and would be read into memory.
const MAX_BYTES: u64 = 1 << 20;

pub(crate) fn read(program: &Program, path: &Path, resolved: &mut Resolved) -> Result<(), SettingsError> {
    let unreadable = |source| SettingsError::ReadConfig { path: path.to_owned(), source };
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if length > MAX_BYTES {
        return Err(unreadable(std::io::Error::other(format!(
            "{length} bytes are more than the {MAX_BYTES} allowed"
        ))));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let document: serde_json::Map<String, Value> = serde_json::from_str(&text).map_err(|error| {
        let reason = error.to_string();
        let reason = reason.rsplit_once(" at line ").map_or(reason.as_str(), |(reason, _)| reason).to_owned();
        SettingsError::ConfigSyntax {
            path: path.to_owned(),
            line: error.line(),
            column: error.column(),
            reason,
        }
    })?;
    for (key, value) in document {
        let keys = program.settings.iter().filter(|setting| !setting.key.is_empty());
        let Some(setting) = keys.clone().find(|setting| setting.key == key) else {
            let nearest = nearest(&key, keys.map(|setting| setting.key));
            return Err(SettingsError::UnknownKey {
                path: path.to_owned(),
                key,
                program: program.name,
                nearest,
            });
        };
        let source = Source::ConfigFile { path: path.to_owned(), key: setting.key };
        let given = match (setting.kind, value) {
            (Kind::Switch, Value::Bool(on)) => Given::Switch(on),
            (Kind::Text, Value::String(text)) => Given::Text(text),
            (Kind::Number, Value::Number(number)) => Given::Number(number.as_f64().unwrap_or(f64::NAN)),
            (Kind::List, Value::Array(items)) if items.iter().all(Value::is_string) => {
                Given::List(items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect())
            }
            (kind, value) => {
                let allowed = match kind {
                    Kind::Switch => "true or false",
                    Kind::Text => "a text in quotes",
                    Kind::Number => "a number",
                    Kind::List => "an array of texts",
                };
                return Err(SettingsError::BadValue {
                    source_text: source.to_string(),
                    value: value.to_string(),
                    allowed: allowed.to_owned(),
                });
            }
        };
        resolved.insert(setting.flag, given, source);
    }
    Ok(())
}
