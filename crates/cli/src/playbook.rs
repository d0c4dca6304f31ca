//! `edr playbook check|test|dry-run|backtest`: whether playbooks are good, and what they would do. Acts on nothing.

mod backtest;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use ::playbook::{Alert, Facts, HostGroups, Playbook, ReadOutcome, TestFile, read_playbook, simulate};
use anyhow::Context as _;
use lexopt::Arg;

use crate::arguments::{Usage, parser};
use crate::{Outcome, print};

/// The file beside playbooks that says which hosts are in which group.
const GROUPS_FILE: &str = "host-groups.yml";
/// Playbooks of one folder; past this it is the wrong folder.
const FILE_LIMIT: usize = 10_000;
/// An alert is a page or two; what is larger is another file.
const ALERT_LIMIT: u64 = 16 << 20;

pub(crate) use backtest::backtest;

struct Arguments {
    paths: Vec<PathBuf>,
    json: bool,
}

/// `edr playbook check PATH…`
pub(crate) fn check(arguments: Vec<OsString>) -> anyhow::Result<Outcome> {
    let arguments = read_arguments(arguments, "name a playbook or a folder of them")?;
    let read = read_all(&arguments.paths)?;
    let good = read.iter().filter(|(_, _, outcome)| outcome.playbook.is_some()).count();
    let mut text = findings(&read, arguments.json)?;
    if !arguments.json {
        text.push_str(&format!("{good} of {} playbooks are good\n", read.len()));
    }
    print(&text)?;
    Ok(if good == read.len() { Outcome::Success } else { Outcome::Findings })
}

/// `edr playbook test PATH…`
pub(crate) fn test(arguments: Vec<OsString>) -> anyhow::Result<Outcome> {
    let arguments = read_arguments(arguments, "name a playbook or a folder of them")?;
    let (mut text, mut cases, mut failed) = (String::new(), 0, 0);
    for (path, groups, outcome) in &read_all(&arguments.paths)? {
        let Some(playbook) = &outcome.playbook else {
            failed += 1;
            text.push_str(&format!("{}: not good; `edr playbook check` says why\n", path.display()));
            continue;
        };
        let file = path.with_extension("test.json");
        let tests = fs::read(&file).map_err(anyhow::Error::from).and_then(|text| Ok(TestFile::parse(&text)?));
        let tests = match tests {
            Ok(tests) => tests,
            Err(error) => {
                failed += 1;
                text.push_str(&format!("{}: {error:#}\n", file.display()));
                continue;
            }
        };
        for case in &tests.cases {
            cases += 1;
            let failures = case.failures(playbook, groups);
            failed += usize::from(!failures.is_empty());
            for failure in failures {
                text.push_str(&format!("{}: {}: {failure}\n", file.display(), case.name));
            }
        }
    }
    text.push_str(&format!("{cases} cases, {failed} failed\n"));
    print(&text)?;
    Ok(if failed == 0 { Outcome::Success } else { Outcome::Findings })
}

/// `edr playbook dry-run ALERT.json --playbooks PATH…`
pub(crate) fn dry_run(arguments: Vec<OsString>) -> anyhow::Result<Outcome> {
    let arguments =
        read_arguments(arguments, "name the alert's file, and then playbooks or a folder of them")?;
    let Some((alert_file, paths)) = arguments.paths.split_first().filter(|(_, paths)| !paths.is_empty())
    else {
        return Err(Usage::new("no playbook given", "write `edr playbook dry-run ALERT.json PATH…`").into());
    };
    let alert = read_alert(alert_file)?;
    let read = read_all(paths)?;
    if read.iter().any(|(_, _, outcome)| outcome.playbook.is_none()) {
        print(&findings(&read, false)?)?;
        return Ok(Outcome::Findings);
    }
    let (mut text, mut plans) = (String::new(), Vec::new());
    for (_, groups, outcome) in &read {
        let Some(playbook) = &outcome.playbook else { continue };
        let facts = Facts { alert: &alert, host_groups: groups.of(&alert.host_id, &alert.host_name) };
        if playbook.is_triggered(&facts) {
            text.push_str(&plan(playbook, &facts));
            let run = simulate(playbook, &facts, &::playbook::Given::new());
            plans.push(serde_json::json!({ "playbook": playbook.id, "mode": playbook.mode, "run": run }));
        }
    }
    if arguments.json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&plans)?)).map(|()| Outcome::Success);
    }
    if plans.is_empty() {
        text.push_str("no playbook runs for this alert\n");
    }
    print(&text)?;
    Ok(Outcome::Success)
}

/// What a run would do if every step succeeded.
fn plan(playbook: &Playbook, facts: &Facts<'_>) -> String {
    let run = simulate(playbook, facts, &::playbook::Given::new());
    let mut text = format!("{} ({}, mode {})\n", playbook.name, playbook.id, playbook.mode);
    for step in &run.steps {
        text.push_str(&format!("  {:<16} {:<10} {}\n", step.step, step.outcome, visible(&step.detail)));
    }
    text.push_str(&format!("  the run ends {}\n", run.end));
    text
}

/// An alert comes from an endpoint, and so may its control characters.
fn visible(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

fn read_alert(path: &Path) -> anyhow::Result<Alert> {
    let name = path.display();
    let size = fs::metadata(path).with_context(|| format!("{name}: can't be read"))?.len();
    anyhow::ensure!(size <= ALERT_LIMIT, "{name}: {size} bytes; an alert has at most {ALERT_LIMIT}");
    let text = fs::read(path).with_context(|| format!("{name}: can't be read"))?;
    Alert::from_json(&text).with_context(|| format!("{name}"))
}

type ReadFile = (PathBuf, HostGroups, ReadOutcome);

fn read_all(paths: &[PathBuf]) -> anyhow::Result<Vec<ReadFile>> {
    let mut read = Vec::new();
    for path in paths {
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new(".")) };
        let groups = read_groups(folder)?;
        for file in files_of(path)? {
            let text = fs::read(&file).with_context(|| format!("{}: can't be read", file.display()))?;
            let outcome = read_playbook(&file.display().to_string(), &text, &groups);
            read.push((file, groups.clone(), outcome));
        }
    }
    Ok(read)
}

fn read_groups(folder: &Path) -> anyhow::Result<HostGroups> {
    let path = folder.join(GROUPS_FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(HostGroups::default()),
        Err(error) => return Err(error).with_context(|| format!("{}: can't be read", path.display())),
    };
    HostGroups::parse(&path.display().to_string(), &text).map_err(|found| {
        let shown: Vec<String> = found.iter().map(|found| found.render(&text)).collect();
        anyhow::anyhow!("{}", shown.join("").trim_end().to_owned())
    })
}

fn files_of(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).with_context(|| format!("{}: can't be read", path.display()))? {
        let file = entry.with_context(|| format!("{}: can't be read", path.display()))?.path();
        let is_yaml = file.extension().is_some_and(|extension| extension == "yml" || extension == "yaml");
        if is_yaml && file.file_name().is_none_or(|name| name != GROUPS_FILE) {
            files.push(file);
        }
        anyhow::ensure!(files.len() <= FILE_LIMIT, "{}: more than {FILE_LIMIT} playbooks", path.display());
    }
    anyhow::ensure!(!files.is_empty(), "{}: no playbook (*.yml, *.yaml) is in it", path.display());
    files.sort();
    Ok(files)
}

fn findings(read: &[ReadFile], json: bool) -> anyhow::Result<String> {
    let mut text = String::new();
    for (path, _, outcome) in read {
        let source = if json { String::new() } else { fs::read_to_string(path).unwrap_or_default() };
        for found in &outcome.diagnostics {
            if json {
                text.push_str(&serde_json::to_string(found)?);
                text.push('\n');
            } else {
                text.push_str(&found.render(&source));
            }
        }
    }
    Ok(text)
}

fn read_arguments(arguments: Vec<OsString>, hint: &'static str) -> anyhow::Result<Arguments> {
    let mut parser = parser(arguments);
    let mut read = Arguments { paths: Vec::new(), json: false };
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("json") => read.json = true,
            Arg::Value(value) => read.paths.push(value.into()),
            Arg::Long(flag) => return Err(Usage::unknown_flag(flag, &["json"]).into()),
            Arg::Short(flag) => return Err(Usage::unknown_flag(&flag.to_string(), &["json"]).into()),
        }
    }
    if read.paths.is_empty() {
        return Err(Usage::new("no file given", hint).into());
    }
    Ok(read)
}
