//! The command line's habits, the same for every command: long flags with one
//! dash or two, `=` or a space, and errors that name the nearest known word.

use std::ffi::OsString;

/// The command line is wrong. Makes `edr` exit with 2.
#[derive(Debug)]
pub(crate) struct Usage {
    reason: String,
    hint: String,
}

impl Usage {
    pub(crate) fn new(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { reason: reason.into(), hint: hint.into() }
    }

    /// For a flag that the command doesn't have. `known` are its flags without dashes.
    pub(crate) fn unknown_flag(flag: &str, known: &[&'static str]) -> Self {
        let flag = flag.trim_start_matches('-');
        let hint = match nearest(flag, known.iter().copied()) {
            Some(near) => format!("did you mean `--{near}`?"),
            None => format!(
                "known are {}",
                known.iter().map(|it| format!("--{it}")).collect::<Vec<_>>().join(", ")
            ),
        };
        Self::new(format!("unknown flag `--{flag}`"), hint)
    }
}

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; hint: {}", self.reason, self.hint)
    }
}

impl std::error::Error for Usage {}

/// A parser that reads `-flag` as `--flag`.
pub(crate) fn parser(arguments: Vec<OsString>) -> lexopt::Parser {
    let mut flags_ended = false;
    let doubled = arguments.into_iter().map(move |argument| {
        flags_ended |= argument == "--";
        match argument.to_str() {
            Some(text)
                if !flags_ended && text.len() > 2 && text.starts_with('-') && !text.starts_with("--") =>
            {
                OsString::from(format!("-{text}"))
            }
            _ => argument,
        }
    });
    lexopt::Parser::from_args(doubled)
}

/// The known word that a misspelt one most likely means.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.into_iter().map(|candidate| (strsim::osa_distance(candidate, word), candidate));
    near.filter(|(distance, candidate)| *distance <= candidate.len().max(6) / 3)
        .min()
        .map(|(_, candidate)| candidate)
}
