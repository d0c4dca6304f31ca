//! Addresses that are refused, by rules of the Windows firewall.
//!
//! The firewall knows no time: a block ends when the agent lifts it, and stands longer while the agent
//! is dead. What is in force is kept in a file, so that the next agent lifts it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::action::AddressTarget;
use crate::address::Network;
use crate::journal::write_whole;
use crate::platform::{Failure, Progress, Subject, Survey};

const DIRECTIONS: [&str; 2] = ["in", "out"];

/// What is blocked, until when (seconds since 1970), by its text.
pub(super) struct Blocks {
    file: PathBuf,
    until: BTreeMap<String, u64>,
}

fn rule_name(network: Network, direction: &str) -> String {
    format!("Rampart block {network} {direction}")
}

fn add(network: Network, direction: &str) -> Vec<String> {
    let name = format!("name={}", rule_name(network, direction));
    let words = [
        "advfirewall",
        "firewall",
        "add",
        "rule",
        &name,
        &format!("dir={direction}"),
        "action=block",
        &format!("remoteip={network}"),
    ];
    words.into_iter().map(str::to_owned).collect()
}

fn delete(network: Network, direction: &str) -> Vec<String> {
    let name = format!("name={}", rule_name(network, direction));
    ["advfirewall", "firewall", "delete", "rule", &name].into_iter().map(str::to_owned).collect()
}

/// As a person would type it.
fn typed(arguments: &[String]) -> String {
    let quoted =
        arguments.iter().map(|word| if word.contains(' ') { format!("\"{word}\"") } else { word.clone() });
    format!("netsh {}", quoted.collect::<Vec<_>>().join(" "))
}

fn netsh(arguments: &[String]) -> Result<String, Failure> {
    let program = win32::host::system_folder().join("netsh.exe");
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| Failure::system(typed(arguments), error))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match output.status.success() {
        true => Ok(text),
        false => Err(Failure::system(
            typed(arguments),
            if text.is_empty() { "it failed".to_owned() } else { text },
        )),
    }
}

fn is_there(network: Network, direction: &str) -> bool {
    let name = format!("name={}", rule_name(network, direction));
    let words = ["advfirewall", "firewall", "show", "rule", &name];
    let shown = netsh(&words.map(str::to_owned));
    // Its words are in the host's language; the name is ours.
    shown.is_ok_and(|text| text.contains(&rule_name(network, direction)))
}

pub(super) fn survey(target: &AddressTarget) -> Survey {
    let mut steps: Vec<String> =
        DIRECTIONS.iter().map(|direction| typed(&add(target.address, direction))).collect();
    steps.push(format!("lift it after {} seconds", target.ttl_seconds));
    Survey { steps, subject: Subject::Network(target.address) }
}

pub(super) fn is_blocked(target: &AddressTarget, wanted: bool) -> Result<String, Failure> {
    let network = target.address;
    let there = DIRECTIONS.iter().filter(|direction| is_there(network, direction)).count();
    match (wanted, there) {
        (true, 2) => Ok(format!("the firewall has the rules that refuse {network}")),
        (false, 0) => Ok(format!("the firewall has no rule of ours for {network}")),
        _ => Err(Failure::NotProved(format!("the firewall shows {there} of 2 rules for {network}"))),
    }
}

impl Blocks {
    pub(super) fn load(dir: &Path) -> Self {
        let file = dir.join("blocks.json");
        let read = std::fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self { file, until: read.unwrap_or_default() }
    }

    pub(super) fn survey_lift(&self, target: &AddressTarget) -> Result<Survey, Failure> {
        if !self.until.contains_key(&target.address.to_string()) {
            let why = "it is not blocked".to_owned();
            return Err(Failure::NotTheTarget { subject: target.address.to_string(), why });
        }
        let steps = DIRECTIONS.iter().map(|direction| typed(&delete(target.address, direction))).collect();
        Ok(Survey { steps, subject: Subject::Network(target.address) })
    }

    pub(super) fn apply(
        &mut self,
        target: &AddressTarget,
        progress: &mut Progress<'_>,
    ) -> Result<Value, Failure> {
        let network = target.address;
        // Noted first: what is in force must be known to whoever lifts it.
        self.until.insert(network.to_string(), now() + u64::from(target.ttl_seconds));
        self.keep()?;
        for direction in DIRECTIONS {
            let added = progress.step(&format!("refused it ({direction})"), || {
                if is_there(network, direction) { Ok(()) } else { netsh(&add(network, direction)).map(drop) }
            });
            if let Err(failure) = added {
                self.remove(network);
                return Err(failure);
            }
        }
        Ok(json!({ "address": network, "seconds": target.ttl_seconds }))
    }

    pub(super) fn lift(
        &mut self,
        target: &AddressTarget,
        progress: &mut Progress<'_>,
    ) -> Result<Value, Failure> {
        progress.check("lifted the block")?;
        self.remove(target.address);
        progress.note("lifted the block");
        Ok(Value::Null)
    }

    fn remove(&mut self, network: Network) {
        for direction in DIRECTIONS {
            // A rule that is not there needs no lifting; verifying looks.
            let _ = netsh(&delete(network, direction));
        }
        if DIRECTIONS.iter().all(|direction| !is_there(network, direction)) {
            self.until.remove(&network.to_string());
            let _ = self.keep();
        }
    }

    /// Lifts what has had its time; a line for each.
    pub(super) fn lift_expired(&mut self) -> Vec<String> {
        let now = now();
        let over: Vec<String> = self
            .until
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(network, _)| network.clone())
            .collect();
        let networks = over.iter().filter_map(|text| text.parse::<Network>().ok());
        networks
            .map(|network| {
                self.remove(network);
                format!("the time of the block of {network} is over")
            })
            .collect()
    }

    fn keep(&self) -> Result<(), Failure> {
        let text = serde_json::to_vec(&self.until)
            .map_err(|error| Failure::system("writing the list of blocks", error))?;
        write_whole(&self.file, &text)
            .map_err(|error| Failure::system(self.file.display().to_string(), error))
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs())
}
