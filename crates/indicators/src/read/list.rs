//! One value in each line.

use super::{Reading, shown};
use crate::indicator::IndicatorDefaults;
use crate::value::IndicatorValue;

pub(super) fn read(text: &str, defaults: &IndicatorDefaults, reading: &mut Reading<'_>) {
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') || line.starts_with("//") {
            continue;
        }
        // A comment needs a space before, since URLs have fragments.
        let (value, comment) = match line.find(" #").or_else(|| line.find("\t#")) {
            Some(at) => (line[..at].trim_end(), line[at + 2..].trim()),
            None => (line, ""),
        };
        // `0.0.0.0 evil.example`, as the lists for /etc/hosts have it.
        let host = ["0.0.0.0", "127.0.0.1", "::"].iter().find_map(|sink| {
            let host = value.strip_prefix(sink)?;
            host.starts_with(char::is_whitespace).then(|| host.trim())
        });
        match IndicatorValue::detect(host.unwrap_or(value)) {
            Ok(found) => {
                let mut indicator = defaults.indicator(found);
                indicator.description = comment.to_owned();
                reading.take(indicator);
            }
            Err(error) => reading.bad(at + 1, format!("`{}`: {error}", shown(value))),
        }
    }
}
