//! Addresses that are refused, both ways.
//!
//! Neither filters nor the firewall know a time: a block ends when the agent lifts it, or by a task of the scheduler's that does
//! it where the agent is dead. What is in force is kept in a file, so that the next agent knows it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::barrier::Barriers;
use super::lifting;
use crate::action::AddressTarget;
use crate::address::Network;
use crate::firewall_rules::typed;
use crate::isolation::now_seconds;
use crate::journal::write_whole;
use crate::platform::{Failure, Progress, Subject, Survey};
use crate::scheduled_task::LiftingTask;
use crate::wfp_filters::Barrier;

/// The task comes so much later than the agent, which tells of it.
const TASK_AFTER_SECONDS: u64 = 60;

/// What is blocked, until when (seconds since 1970), by its text.
pub(super) struct Blocks {
    dir: PathBuf,
    until: BTreeMap<String, u64>,
    barriers: Barriers,
}

impl Blocks {
    pub(super) fn load(dir: &Path, barriers: Barriers) -> Self {
        let read = std::fs::read(file(dir)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self { dir: dir.to_owned(), until: read.unwrap_or_default(), barriers }
    }

    fn task(&self, network: Network, until: u64) -> LiftingTask {
        let barrier = Barrier::of_block(network);
        self.barriers.task(&format!("block {network}"), until + TASK_AFTER_SECONDS, &barrier)
    }

    pub(super) fn survey(&self, target: &AddressTarget) -> Result<Survey, Failure> {
        let barrier = Barrier::of_block(target.address);
        let mut steps: Vec<String> = match self.barriers.plan(&barrier)? {
            Some(step) => vec![step],
            None => barrier.rules.iter().map(|rule| format!("netsh {}", typed(&rule.to_add()))).collect(),
        };
        steps.push(format!(
            "lift it after {} seconds, by the agent or by the task `{}`",
            target.ttl_seconds,
            self.task(target.address, 0).name
        ));
        Ok(Survey { steps, subject: Subject::Network(target.address) })
    }

    pub(super) fn is_blocked(&self, target: &AddressTarget) -> Result<String, Failure> {
        let by = self.barriers.stands(&Barrier::of_block(target.address))?;
        Ok(format!("{by} that refuse {}", target.address))
    }

    pub(super) fn is_unblocked(&self, target: &AddressTarget) -> Result<String, Failure> {
        self.barriers.is_gone(&Barrier::of_block(target.address))?;
        Ok(format!("there is neither a rule nor a filter of ours for {}", target.address))
    }

    pub(super) fn survey_lift(&self, target: &AddressTarget) -> Result<Survey, Failure> {
        if !self.until.contains_key(&target.address.to_string()) {
            let why = "it is not blocked".to_owned();
            return Err(Failure::NotTheTarget { subject: target.address.to_string(), why });
        }
        let names = Barrier::of_block(target.address).names;
        let steps = names.iter().map(|name| format!("remove the rules and filters named `{name}`")).collect();
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
                progress.step("made the task that lifts it", || {
                    lifting::set(&self.task(network, until), &self.dir)
                })
            })
            .and_then(|()| {
                progress.step("added what refuses it", || self.barriers.raise(&Barrier::of_block(network)))
            });
        let means = match blocked {
            Ok(means) => means,
            Err(failure) => {
                return Err(match self.remove(network) {
                    Ok(()) => failure,
                    Err(left) => Failure::system(format!("{failure}; taking it back"), left),
                });
            }
        };
        Ok(json!({ "address": network, "seconds": target.ttl_seconds, "by": means.in_words() }))
    }

    pub(super) fn lift(
        &mut self,
        target: &AddressTarget,
        progress: &mut Progress<'_>,
    ) -> Result<Value, Failure> {
        progress.step("removed what refuses it", || self.remove(target.address))?;
        Ok(Value::Null)
    }

    /// Stays noted where it fails, so that it is tried again.
    fn remove(&mut self, network: Network) -> Result<(), Failure> {
        self.barriers.lower(&Barrier::of_block(network))?;
        self.until.remove(&network.to_string());
        self.keep()?;
        lifting::remove(&self.task(network, 0))
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
