//! `edr playbook backtest`: what playbooks would have done about the alerts that a server has.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use ::playbook::{Facts, Given, Playbook, simulate};
use anyhow::Context as _;
use event_model::Timestamp;
use lexopt::{Arg, ValueExt as _};
use serde_json::{Value, json};
use server_api::ServerApi;

use super::{findings, read_all, visible};
use crate::arguments::{Usage, parser};
use crate::{Outcome, print};

/// Alerts that are looked at, the latest first.
const MOST_ALERTS: usize = 10_000;
/// Hosts of a playbook that are named.
const MOST_HOSTS: usize = 10;
const DEFAULT_DAYS: u32 = 7;
const FLAGS: &[&str] = &["server", "ca", "token-file", "days", "json"];

#[derive(Default)]
struct Arguments {
    server: Option<String>,
    ca: Option<PathBuf>,
    token_file: Option<PathBuf>,
    days: Option<u32>,
    json: bool,
    paths: Vec<PathBuf>,
}

/// What a playbook would have done.
#[derive(Default)]
struct Tally {
    runs: usize,
    hosts: BTreeMap<String, usize>,
    /// Step and outcome, with how often and the latest detail.
    steps: BTreeMap<(usize, String, String), (usize, String)>,
}

/// `edr playbook backtest --server URL --ca FILE PATH…`
pub(crate) fn backtest(arguments: Vec<OsString>) -> anyhow::Result<Outcome> {
    let arguments = read_arguments(arguments)?;
    let read = read_all(&arguments.paths)?;
    if read.iter().any(|(_, _, outcome)| outcome.playbook.is_none()) {
        print(&findings(&read, false)?)?;
        return Ok(Outcome::Findings);
    }
    let api = connect(&arguments)?;
    let since = ago(arguments.days.unwrap_or(DEFAULT_DAYS))?;
    let mut tallies: Vec<Tally> = read.iter().map(|_| Tally::default()).collect();
    let mut looked_at = 0;
    let mut cursor = None;
    'pages: loop {
        let page = api.alerts(cursor.as_deref())?;
        for (id, time) in page.alerts {
            if time < since || looked_at >= MOST_ALERTS {
                break 'pages;
            }
            looked_at += 1;
            let (alert, _) = api.alert(&id, 0)?;
            for ((_, groups, outcome), tally) in read.iter().zip(&mut tallies) {
                let Some(playbook) = &outcome.playbook else { continue };
                let facts = Facts { alert: &alert, host_groups: groups.of(&alert.host_id, &alert.host_name) };
                if playbook.is_triggered(&facts) {
                    tally.add(playbook, &facts);
                }
            }
        }
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    let playbooks = read.iter().filter_map(|(_, _, outcome)| outcome.playbook.as_ref());
    let results: Vec<(&Playbook, &Tally)> = playbooks.zip(&tallies).collect();
    if arguments.json {
        let told: Vec<Value> = results.iter().map(|(playbook, tally)| tally.json(playbook)).collect();
        let whole = json!({ "alerts": looked_at, "playbooks": told });
        return print(&format!("{}\n", serde_json::to_string_pretty(&whole)?)).map(|()| Outcome::Success);
    }
    let mut text = format!("{looked_at} alerts since {since}\n");
    for (playbook, tally) in results {
        text.push_str(&tally.text(playbook));
    }
    print(&text)?;
    Ok(Outcome::Success)
}

impl Tally {
    fn add(&mut self, playbook: &Playbook, facts: &Facts<'_>) {
        self.runs += 1;
        *self.hosts.entry(facts.alert.host_name.clone()).or_default() += 1;
        for (place, step) in simulate(playbook, facts, &Given::new()).steps.into_iter().enumerate() {
            let known = self.steps.entry((place, step.step, step.outcome.to_string())).or_default();
            known.0 += 1;
            known.1 = step.detail;
        }
    }

    fn text(&self, playbook: &Playbook) -> String {
        let mut text =
            format!("{} ({}, mode {}): {} runs", playbook.name, playbook.id, playbook.mode, self.runs);
        if !self.hosts.is_empty() {
            let named: Vec<String> = self
                .hosts
                .iter()
                .take(MOST_HOSTS)
                .map(|(host, count)| format!("{} {count}", visible(host)))
                .collect();
            let more = self.hosts.len().saturating_sub(MOST_HOSTS);
            let rest = if more > 0 { format!(", {more} more") } else { String::new() };
            text.push_str(&format!(" on {} hosts ({}{rest})", self.hosts.len(), named.join(", ")));
        }
        text.push('\n');
        for ((_, step, outcome), (count, detail)) in &self.steps {
            let detail: String = visible(detail).chars().take(200).collect();
            text.push_str(&format!("  {step:<16} {outcome:<10} {count:>6}  for example {detail}\n"));
        }
        text
    }

    fn json(&self, playbook: &Playbook) -> Value {
        let steps: Vec<Value> = self
            .steps
            .iter()
            .map(|((_, step, outcome), (count, detail))| {
                json!({ "step": step, "outcome": outcome, "count": count, "example": detail })
            })
            .collect();
        json!({
            "playbook": playbook.id, "mode": playbook.mode, "runs": self.runs, "hosts": self.hosts, "steps": steps,
        })
    }
}

fn connect(arguments: &Arguments) -> anyhow::Result<ServerApi> {
    let missing =
        |flag: &str, what: &str| Usage::new(format!("`--{flag}` is not given"), format!("give {what}"));
    let server =
        arguments.server.clone().ok_or_else(|| missing("server", "the server, like https://HOST:8443"))?;
    let ca = arguments.ca.as_ref().ok_or_else(|| missing("ca", "the server's ca.pem"))?;
    let ca = std::fs::read(ca).with_context(|| format!("{}: can't be read", ca.display()))?;
    let token = match &arguments.token_file {
        Some(file) => {
            std::fs::read_to_string(file).with_context(|| format!("{}: can't be read", file.display()))?
        }
        None => std::env::var("EDR_TOKEN").map_err(|_| {
            missing("token-file", "a file with an API token, or EDR_TOKEN in the environment")
        })?,
    };
    Ok(ServerApi::new(server.trim_end_matches('/').to_owned(), &ca, token.trim().to_owned())?)
}

fn ago(days: u32) -> anyhow::Result<Timestamp> {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?;
    Ok(Timestamp::from_nanos(now.saturating_sub(i64::from(days) * 86_400 * 1_000_000_000)))
}

fn read_arguments(arguments: Vec<OsString>) -> anyhow::Result<Arguments> {
    let mut parser = parser(arguments);
    let mut read = Arguments::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("server") => read.server = Some(parser.value()?.string()?),
            Arg::Long("ca") => read.ca = Some(parser.value()?.into()),
            Arg::Long("token-file") => read.token_file = Some(parser.value()?.into()),
            Arg::Long("days") => {
                let days = parser.value()?.string()?;
                let number = days.parse().ok().filter(|days| (1..=3_650).contains(days));
                read.days = Some(number.ok_or_else(|| {
                    Usage::new(format!("`--days {days}` is no number of days"), "give 1 to 3650")
                })?);
            }
            Arg::Long("json") => read.json = true,
            Arg::Value(value) => read.paths.push(value.into()),
            Arg::Long(flag) => return Err(Usage::unknown_flag(flag, FLAGS).into()),
            Arg::Short(flag) => return Err(Usage::unknown_flag(&flag.to_string(), FLAGS).into()),
        }
    }
    if read.paths.is_empty() {
        return Err(Usage::new("no file given", "name a playbook or a folder of them").into());
    }
    Ok(read)
}
