//! `edr`, the operator's tool.
//!
//! Each command is a module with a `run` that takes the arguments behind the
//! command's words; to add one, write the module and add its row to [`COMMANDS`].
//! Exit codes: 0 all well, 1 something was found or failed, 2 the command line is wrong.

mod api_token;
mod arguments;
mod playbook;
mod replay;
mod rules;
mod state;
mod token;
mod user;
mod yara;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use arguments::{Usage, nearest};

/// A command and what runs it.
struct Command {
    /// Its words, for example `rules check`.
    words: &'static [&'static str],
    /// What stands behind the words in the help.
    arguments: &'static str,
    /// One line of help.
    summary: &'static str,
    run: fn(Vec<OsString>) -> anyhow::Result<Outcome>,
}

/// How a command ended, where it could be run at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    /// It ran, and what it looked at is not in order.
    Findings,
}

const COMMANDS: &[Command] = &[
    Command {
        words: &["rules", "check"],
        arguments: "PATH… [--json-errors] [--placeholders FILE]… [--sources FILE [--product linux|windows]]",
        summary: "check rule files, or every *.json (native), *.yml and *.yaml (Sigma) in folders",
        run: rules::check,
    },
    Command {
        words: &["rules", "test"],
        arguments: "PATH… [--quiet] [--mapping FILE]… [--placeholders FILE]…",
        summary: "run the tests beside rules: events that each must match, and events that it must not",
        run: rules::test::run,
    },
    Command {
        words: &["rules", "stats"],
        arguments: "PATH… [--events FILE_OR_FOLDER]… [--top N] [--json] [--mapping FILE]… [--placeholders FILE]…",
        summary: "count rules by kind, level, log source and ATT&CK; how well they are prefiltered, what they cost",
        run: rules::stats::run,
    },
    Command {
        words: &["rules", "explain"],
        arguments: "PATH… [--rule ID] --event FILE [--record N] [--json] [--mapping FILE]… [--placeholders FILE]…",
        summary: "which parts of a rule's conditions were true for an event, and why",
        run: rules::explain::run,
    },
    Command {
        words: &["replay"],
        arguments: "--rules PATH… [--mapping FILE…] [--placeholders FILE…] [--stats] [--json-errors] [--threads N] INPUT…",
        summary: "judge recorded logs (EVTX, event XML, NDJSON, JSON, auditd) with rules; one NDJSON line for each detection",
        run: replay::run,
    },
    Command {
        words: &["playbook", "check"],
        arguments: "PATH… [--json]",
        summary: "check playbooks, or every *.yml and *.yaml in folders",
        run: playbook::check,
    },
    Command {
        words: &["playbook", "test"],
        arguments: "PATH…",
        summary: "run the tests beside playbooks (NAME.test.json)",
        run: playbook::test,
    },
    Command {
        words: &["playbook", "backtest"],
        arguments: "--server URL --ca FILE [--token-file FILE] [--days N] [--json] PATH…",
        summary: "show what playbooks would have done about the alerts that a server has, and do nothing",
        run: playbook::backtest,
    },
    Command {
        words: &["playbook", "dry-run"],
        arguments: "ALERT.json PATH… [--json]",
        summary: "show what playbooks would do for an alert, and do nothing",
        run: playbook::dry_run,
    },
    Command {
        words: &["yara", "scan"],
        arguments: "--rules PATH… [--max-mib 256] [--timeout 60] [--pid PID]… FILE_OR_FOLDER…",
        summary: "scan files, or the memory of processes, with YARA rules; one NDJSON line for each match",
        run: yara::scan,
    },
    Command {
        words: &["token", "create"],
        arguments: "[--db FILE] [--ttl 1h] [--uses 1] [--ca FILE]",
        summary: "make a token with which hosts enrol, and print it",
        run: token::create,
    },
    Command {
        words: &["api-token", "create"],
        arguments: "[--db FILE] --name NAME --role ROLE [--ttl 90d]",
        summary: "make a token for scripts that use the API, and print it",
        run: api_token::create,
    },
    Command {
        words: &["user", "reset-password"],
        arguments: "[--db FILE] USERNAME",
        summary: "give a user a password for one sign-in, and print it",
        run: user::reset_password,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match dispatch(arguments) {
        Ok(Outcome::Success) => ExitCode::SUCCESS,
        Ok(Outcome::Findings) => ExitCode::from(1),
        Err(error) => {
            let usage = error.downcast_ref::<Usage>().is_some();
            // A closed stderr leaves nobody to tell.
            let _ = writeln!(std::io::stderr(), "edr: {error:#}");
            ExitCode::from(if usage { 2 } else { 1 })
        }
    }
}

fn dispatch(arguments: Vec<OsString>) -> anyhow::Result<Outcome> {
    let words: Vec<&str> = arguments.iter().map_while(|argument| argument.to_str()).collect();
    let Some(first) = words.first() else {
        return Err(Usage::new("no command given", "`edr --help` lists the commands").into());
    };
    if ["help", "-help", "--help", "-h"].contains(first) {
        print(&help())?;
        return Ok(Outcome::Success);
    }
    if ["-version", "--version", "-V"].contains(first) {
        print(&format!("edr {}\n", env!("CARGO_PKG_VERSION")))?;
        return Ok(Outcome::Success);
    }
    let command = COMMANDS.iter().find(|command| words.starts_with(command.words));
    let Some(command) = command else { return Err(unknown_command(&words).into()) };
    let rest = arguments[command.words.len()..].to_vec();
    if rest.iter().any(|argument| argument == "--help" || argument == "-help" || argument == "-h") {
        print(&format!("edr {} {}\n    {}\n", command.words.join(" "), command.arguments, command.summary))?;
        return Ok(Outcome::Success);
    }
    (command.run)(rest)
}

fn unknown_command(words: &[&str]) -> Usage {
    // `edr rules` alone, or `edr rules chek`.
    let siblings = || COMMANDS.iter().filter(|command| command.words[0] == words[0]);
    let list = "`edr --help` lists the commands";
    if siblings().next().is_some() {
        let Some(second) = words.get(1) else {
            let known: Vec<&str> = siblings().filter_map(|command| command.words.get(1).copied()).collect();
            return Usage::new(
                format!("`{}` needs one more word", words[0]),
                format!("write one of: {}", known.join(", ")),
            );
        };
        let known = siblings().filter_map(|command| command.words.get(1).copied());
        let hint = nearest(second, known).map(|near| format!("did you mean `{} {near}`?", words[0]));
        return Usage::new(
            format!("unknown command `{} {second}`", words[0]),
            hint.unwrap_or_else(|| list.to_owned()),
        );
    }
    let near = nearest(words[0], COMMANDS.iter().map(|command| command.words[0]));
    let hint = near.map(|near| format!("did you mean `{near}`?")).unwrap_or_else(|| list.to_owned());
    Usage::new(format!("unknown command `{}`", words[0]), hint)
}

fn help() -> String {
    let mut text = "edr: the operator's tool of Rampart\n\ncommands:\n".to_owned();
    for command in COMMANDS {
        let line =
            format!("  edr {} {}\n      {}\n", command.words.join(" "), command.arguments, command.summary);
        text.push_str(&line);
    }
    text.push_str("\n`edr COMMAND --help` shows one command. Long flags work with one dash or two.\n");
    text
}

/// Prints to stdout; a reader that went away (`edr … | head`) is no error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(line: &str) -> String {
        let arguments = line.split_whitespace().map(OsString::from).collect();
        let error = dispatch(arguments).expect_err("a usage error");
        assert!(error.downcast_ref::<Usage>().is_some(), "{error}");
        error.to_string()
    }

    #[test]
    fn an_unknown_command_names_the_nearest() {
        assert_eq!(complaint("ruels"), "unknown command `ruels`; hint: did you mean `rules`?");
        assert_eq!(
            complaint("rules chekc x"),
            "unknown command `rules chekc`; hint: did you mean `rules check`?"
        );
        assert_eq!(
            complaint("frobnicate"),
            "unknown command `frobnicate`; hint: `edr --help` lists the commands"
        );
        assert!(complaint("rules").contains("check"));
        assert!(complaint("").contains("--help"));
    }

    #[test]
    fn help_lists_every_command() {
        for command in COMMANDS {
            assert!(help().contains(&command.words.join(" ")));
        }
    }
}
