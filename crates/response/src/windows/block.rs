//! Addresses that are refused, by two rules of the Windows firewall each.
//!
//! The firewall knows no time: a block ends when the agent lifts it, or by a task of the scheduler's that does
//! it where the agent is dead. What is in force is kept in a file, so that the next agent knows it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{firewall, lifting};
use crate::action::AddressTarget;
use crate::address::Network;
use crate::firewall_rules::{of_block, typed};
use crate::isolation::now_seconds;
use crate::journal::write_whole;
use crate::platform::{Failure, Progress, Subject, Survey};
use crate::scheduled_task::LiftingTask;

/// The task comes so much later than the agent, which tells of it.
const TASK_AFTER_SECONDS: u64 = 60;

/// What is blocked, until when (seconds since 1970), by its text.
pub(super) struct Blocks {
    dir: PathBuf,
    until: BTreeMap<String, u64>,
}

fn task(network: Network, until: u64) -> LiftingTask {
    let rules = of_block(network).map(|rule| rule.name).into();
    LiftingTask::new(&format!("block {network}"), until + TASK_AFTER_SECONDS, rules)
}

pub(super) fn survey(target: &AddressTarget) -> Result<Survey, Failure> {
    firewall::is_ready()?;
    let mut steps: Vec<String> =
        of_block(target.address).iter().map(|rule| format!("netsh {}", typed(&rule.to_add()))).collect();
    let task = task(target.address, 0);
    steps.push(format!(
        "lift it after {} seconds, by the agent or by the task `{}`",
        target.ttl_seconds, task.name
    ));
    Ok(Survey { steps, subject: Subject::Network(target.address) })
}

pub(super) fn is_blocked(target: &AddressTarget) -> Result<String, Failure> {
    let rules = of_block(target.address);
    match firewall::missing(&rules)?.as_slice() {
        [] => Ok(format!("the firewall has the {} rules that refuse {}", rules.len(), target.address)),
        missing => Err(Failure::NotProved(format!(
            "the firewall lacks {} of the {} rules that refuse {}",
            missing.len(),
            rules.len(),
            target.address
        ))),
    }
}

pub(super) fn is_unblocked(target: &AddressTarget) -> Result<String, Failure> {
    for rule in of_block(target.address) {
        if firewall::count_of(&rule.name)? > 0 {
            return Err(Failure::NotProved(format!("the firewall still has the rule `{}`", rule.name)));
        }
    }
    Ok(format!("the firewall has no rule of ours for {}", target.address))
}

impl Blocks {
    pub(super) fn load(dir: &Path) -> Self {
        let read = std::fs::read(file(dir)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self { dir: dir.to_owned(), until: read.unwrap_or_default() }
    }

    pub(super) fn survey_lift(&self, target: &AddressTarget) -> Result<Survey, Failure> {
        if !self.until.contains_key(&target.address.to_string()) {
            let why = "it is not blocked".to_owned();
            return Err(Failure::NotTheTarget { subject: target.address.to_string(), why });
        }
        let steps = of_block(target.address)
            .iter()
            .map(|rule| format!("netsh {}", typed(&crate::firewall_rules::to_delete(&rule.name))))
            .collect();
        Ok(Survey { steps, subject: Subject::Network(target.address) })
    }

    pub(super) fn apply(
        &mut self,
        target: &AddressTarget,
        progress: &mut Progress<'_>,
    ) -> Result<Value, Failure> {
        let network = target.address;
        let until = now_seconds() + u64::from(target.ttl_seconds);
        // Noted first: what is in force must be known to whoever lifts it.
        self.until.insert(network.to_string(), until);
        let blocked = self
            .keep()
            .and_then(|()| {
                progress
                    .step("made the task that lifts it", || lifting::set(&task(network, until), &self.dir))
            })
            .and_then(|()| progress.step("added the rules that refuse it", || renew(network)));
        if let Err(failure) = blocked {
            return Err(match self.remove(network) {
                Ok(()) => failure,
                Err(left) => Failure::system(format!("{failure}; taking it back"), left),
            });
        }
        Ok(json!({ "address": network, "seconds": target.ttl_seconds }))
    }

    pub(super) fn lift(
        &mut self,
        target: &AddressTarget,
        progress: &mut Progress<'_>,
    ) -> Result<Value, Failure> {
        progress.step("deleted the rules", || self.remove(target.address))?;
        Ok(Value::Null)
    }

    /// Stays noted where it fails, so that it is tried again.
    fn remove(&mut self, network: Network) -> Result<(), Failure> {
        for rule in of_block(network) {
            firewall::delete(&rule.name)?;
        }
        self.until.remove(&network.to_string());
        self.keep()?;
        lifting::remove(&task(network, 0))
    }

    /// Lifts what has had its time; a line for each.
    pub(super) fn lift_expired(&mut self) -> Vec<String> {
        let now = now_seconds();
        let over: Vec<Network> = self
            .until
            .iter()
            .filter(|(_, until)| **until <= now)
            .filter_map(|(network, _)| network.parse().ok())
            .collect();
        let lift = |network| match self.remove(network) {
            Ok(()) => format!("the time of the block of {network} is over"),
            Err(failure) => format!("the time of the block of {network} is over; lifting it: {failure}"),
        };
        over.into_iter().map(lift).collect()
    }

    fn keep(&self) -> Result<(), Failure> {
        let text = serde_json::to_vec(&self.until)
            .map_err(|error| Failure::system("writing the list of blocks", error))?;
        let file = file(&self.dir);
        write_whole(&file, &text).map_err(|error| Failure::system(file.display().to_string(), error))
    }
}

fn file(dir: &Path) -> PathBuf {
    dir.join("blocks.json")
}

/// A block that is asked for again has its rules already.
fn renew(network: Network) -> Result<(), Failure> {
    let rules = of_block(network);
    if firewall::missing(&rules)?.is_empty() { Ok(()) } else { firewall::add(&rules) }
}
