//! The host cut off from all but the server, by filters or by rules of the Windows firewall that block everything else.
//!
//! They change nothing that was there before. Taking them away is all that a release takes, so a task of the
//! scheduler's can do it when the time is over and the agent is dead. What is in force is kept on disk; an
//! agent that starts looks whether it still is.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{Windows, lifting};
use crate::action::Isolation;
use crate::firewall_rules::ISOLATION;
use crate::isolation::{Due, InForce, Left, kept_besides, now_seconds, reachable, released, still_reached};
use crate::platform::{Failure, Interference, Notice, Progress, Subject, Survey};
use crate::rails::Permit;
use crate::scheduled_task::LiftingTask;
use crate::wfp_filters::{Barrier, Means};

/// The task comes so much later than the agent, which tells of it.
const TASK_AFTER_SECONDS: u64 = 60;

/// Looks, of 15 s each, in which the filtering platform may give no answer before that is told.
const MOST_UNANSWERED: u8 = 8;

impl Windows {
    fn task(&self, until: u64) -> LiftingTask {
        self.barriers.task("isolation", until + TASK_AFTER_SECONDS, &Barrier::of_isolation(&[]))
    }

    pub(super) fn survey_isolate(&self, isolation: &Isolation) -> Result<Survey, Failure> {
        let barrier = Barrier::of_isolation(&isolation.keep);
        let how = self.barriers.plan(&barrier)?.unwrap_or_else(|| {
            format!("netsh advfirewall: add {} rules or more named `{ISOLATION}`", barrier.rules.len())
        });
        let steps = vec![
            format!(
                "{how}; they block all but loopback, the server's addresses, neighbour discovery and DHCP"
            ),
            format!(
                "release the host after {} s, by the agent or by the task `{}`",
                isolation.ttl_seconds,
                self.task(0).name
            ),
            format!("kept besides the server: {}", kept_besides(&isolation.keep)),
        ];
        Ok(Survey { steps, subject: Subject::Host })
    }

    pub(super) fn survey_release(&self) -> Result<Survey, Failure> {
        let steps = vec![
            format!("remove the rules and filters named `{ISOLATION}`"),
            format!("schtasks: delete the task `{}`", self.task(0).name),
        ];
        Ok(Survey { steps, subject: Subject::Host })
    }

    pub(super) fn isolate(
        &mut self,
        isolation: &Isolation,
        permit: &Permit,
        progress: &mut Progress<'_>,
    ) -> Result<Value, Failure> {
        let server = permit.server();
        let keep: Vec<SocketAddr> = server.iter().chain(&isolation.keep).copied().collect();
        let barrier = Barrier::of_isolation(&keep);
        let reached_before = reachable(server);
        let until = now_seconds().saturating_add(isolation.ttl_seconds.into());
        // Before anything is done: an agent that ends in between must know what may be in force.
        let planned = InForce {
            until,
            left: Some(Left::from_now(self.boot, isolation.ttl_seconds)),
            keep,
            devices: Vec::new(),
            release_hash: isolation.release_hash.clone(),
            order: Some(permit.order().id),
            boot: Some(self.boot),
            listing: String::new(),
            releasing: false,
        };
        progress.step("noted the isolation", || self.isolation.keep(planned.clone()))?;
        let done = progress
            .step("made the task that releases the host", || lifting::set(&self.task(until), &self.dir))
            .and_then(|()| progress.step("cut the host off", || self.barriers.raise(&barrier)))
            .and_then(|means| {
                progress
                    .step("reached the server all the same", || still_reached(reached_before, server))
                    .map(|()| means)
            });
        let means = match done {
            Ok(means) => means,
            Err(failure) => {
                return Err(match self.let_go() {
                    Ok(()) => failure,
                    Err(left) => Failure::system(
                        format!("{failure}; taking it back"),
                        format!("{left}; the task releases the host after {} s", isolation.ttl_seconds),
                    ),
                });
            }
        };
        let rules = match means {
            Means::Filters => barrier.filters.len(),
            Means::Rules(_) => barrier.rules.len(),
        };
        Ok(json!({
            "until": until,
            "kept": planned.keep,
            "rules": rules,
            "by": means.in_words(),
            "server_reached": reached_before.is_some(),
        }))
    }

    /// Noted first, so that the watch puts nothing back and tries again what fails; forgotten when all is gone. The
    /// task stays until then.
    fn let_go(&mut self) -> Result<(), Failure> {
        self.isolation.begin_release();
        self.barriers.lower(&Barrier::of_isolation(&[]))?;
        let noted = self.isolation.in_force.clone();
        if let Err(failure) = self.isolation.forget() {
            self.isolation.in_force = noted;
            return Err(failure);
        }
        lifting::remove(&self.task(0))
    }

    pub(super) fn release(&mut self, progress: &mut Progress<'_>) -> Result<Value, Failure> {
        progress.step("removed what cuts it off", || self.let_go())?;
        Ok(Value::Null)
    }

    /// After a crash in an isolation: it stands whole, or not at all. Otherwise the watch would put in
    /// force what the receipt calls failed.
    pub(super) fn recover_isolation(&mut self) -> Result<String, Failure> {
        self.is_isolated().map_err(|failure| {
            let released = self.let_go();
            released.err().map_or(failure, |release| {
                Failure::system("taking the rules of a half isolation back", release)
            })
        })
    }

    /// After a crash in a release: it is finished.
    pub(super) fn recover_release(&mut self) -> Result<String, Failure> {
        self.let_go()?;
        self.is_released()
    }

    pub(super) fn is_isolated(&self) -> Result<String, Failure> {
        let not_proved = |what: String| Failure::NotProved(format!("isolation: {what}"));
        let Some(in_force) = &self.isolation.in_force else {
            return Err(not_proved("it is not noted".to_owned()));
        };
        if in_force.releasing {
            return Err(not_proved("the host is being released".to_owned()));
        }
        let by = self.barriers.stands(&Barrier::of_isolation(&in_force.keep)).map_err(
            |failure| match failure {
                Failure::NotProved(what) => not_proved(what),
                other => other,
            },
        )?;
        if !lifting::is_set(&self.task(in_force.until)) {
            return Err(not_proved("the task that releases the host is not there".to_owned()));
        }
        Ok(format!("{by} that block all but what is kept"))
    }

    pub(super) fn is_released(&self) -> Result<String, Failure> {
        self.barriers.is_gone(&Barrier::of_isolation(&[]))?;
        Ok("no rule and no filter of the isolation is there".to_owned())
    }

    /// Lets the host go when its time is over or its code was given, and puts back what others took away.
    pub(super) fn watch_isolation(&mut self, may_act: bool) -> Vec<Notice> {
        let (in_force, left) = match self.isolation.due(self.boot) {
            Due::Nothing => return Vec::new(),
            Due::WrongCode(notice) => return vec![notice],
            Due::Release(notice) => return vec![released(notice, self.let_go())],
            Due::Hold(in_force, left) => (in_force, left),
        };
        if !may_act {
            return Vec::new();
        }
        let order = in_force.order;
        let Err(doubt) = self.is_isolated() else {
            self.unanswered = 0;
            return Vec::new();
        };
        // Early in a boot the filters may be in force where nobody can be asked for them yet. For good it is told.
        if self.barriers.is_unknown() && self.unanswered < MOST_UNANSWERED {
            self.unanswered += 1;
            return Vec::new();
        }
        let again = lifting::set(&self.task(in_force.until), &self.dir)
            .and_then(|()| self.barriers.raise(&Barrier::of_isolation(&in_force.keep)));
        let text = match again {
            Ok(_) => format!("{doubt}; put back for {left} s"),
            Err(failure) => format!("{doubt}; it can't be put back: {failure}"),
        };
        // Rules and task outlive a reboot here: who took them away did so on purpose.
        vec![Notice::of(Interference::Changed, order, text)]
    }
}
