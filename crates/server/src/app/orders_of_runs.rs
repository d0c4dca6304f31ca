//! What a responder may order: what a run of its own needs, on the host of the run's alert.
//!
//! A responder is a program that reads alerts, and so whatever an attacker writes into them. Its token must not be a way
//! to act on any host at all, nor in the name of a person who once asked for a run.

use event_model::HostId;
use response::Action;
use state_store::{PlaybookRun, Response, Role, RunState};
use uuid::Uuid;

use super::{App, AppError, Caller, Credential, content_of};

/// What steps of playbooks can order.
const OF_PLAYBOOKS: &[&str] = &[
    "terminate_process",
    "kill_tree",
    "quarantine_file",
    "block_address",
    "isolate_host",
    "release_host",
    "collect_evidence",
];

impl App {
    /// For whom an order of a run is: the person who asked for the run, if one did. Otherwise whoever may ask for runs
    /// and approve could have a playbook order what he then approves himself.
    pub(super) fn who_asked_for(
        &self,
        caller: &Caller,
        run: Option<&str>,
        host: HostId,
        action: &Action,
        dry_run: bool,
    ) -> Result<Option<String>, AppError> {
        let Some(run) = run else {
            return match caller.role {
                Role::PlaybookRunner => Err(forbidden("`run_id`, a run that it does")),
                _ => Ok(None),
            };
        };
        if !matches!(caller.credential, Credential::ApiToken(_)) {
            return Err(unfit("only a responder, with its token, orders for a run"));
        }
        let id: Uuid = run.parse().map_err(|_| unfit("it is no id of a run"))?;
        let unknown = "no responder has told of that run; hint: PUT /api/v1/playbook-runs/ID comes first";
        let run = self.state.run(id)?.ok_or_else(|| unfit(unknown))?;
        self.check_run(caller, &run, host, action, dry_run)?;
        Ok((!run.requested_by.is_empty()).then_some(run.requested_by))
    }

    fn check_run(
        &self,
        caller: &Caller,
        run: &PlaybookRun,
        host: HostId,
        action: &Action,
        dry_run: bool,
    ) -> Result<(), AppError> {
        if run.state != RunState::Running {
            return Err(unfit(&format!(
                "the run is {}; only one that is running orders something",
                run.state
            )));
        }
        let content = content_of(run);
        if content.told_by != caller.name {
            return Err(unfit("another responder's token told of the run"));
        }
        if run.dry_run && !dry_run {
            return Err(unfit("it is a dry run: it orders nothing but dry runs"));
        }
        let alert = self.state.alert(run.alert)?.ok_or_else(|| unfit("its alert is gone"))?;
        if alert.alert.host_id != host {
            return Err(unfit("the run is about another host"));
        }
        let word = action.word();
        if !OF_PLAYBOOKS.contains(&word) || !content.steps.iter().any(|step| step.action == word) {
            return Err(unfit(&format!("the run has no step `{word}`")));
        }
        Ok(())
    }
}

/// A responder undoes and takes back what it ordered itself, and nothing else.
pub(super) fn check_own(caller: &Caller, ordered: &Response) -> Result<(), AppError> {
    if caller.role == Role::PlaybookRunner && ordered.via != caller.name {
        return Err(forbidden("to have ordered it"));
    }
    Ok(())
}

/// The token over which a caller orders something.
pub(super) fn via(caller: &Caller) -> String {
    match caller.credential {
        Credential::ApiToken(_) => caller.name.clone(),
        Credential::Session(_) => String::new(),
    }
}

pub(super) fn forbidden(needed: &'static str) -> AppError {
    AppError::Forbidden { role: Role::PlaybookRunner.to_string(), needed }
}

fn unfit(why: &str) -> AppError {
    AppError::Invalid(format!("`run_id`: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_playbooks_order_are_actions() {
        assert!(OF_PLAYBOOKS.iter().all(|word| Action::WORDS.contains(word)));
    }
}
