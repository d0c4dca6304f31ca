//! Actions on hosts: ordered by a person, signed here, done by the agent, proved by its receipt.

use std::time::Duration;

use event_model::{EventRecord, EventType, Field, HostId, ReceiptState, ResponseReceipt};
use protocol::command::sign_command;
use protocol::link::{Approval, Command, CommandReceipt, SignedCommand};
use response::{Action, Asked, Isolation, RULE_ASKS};
use state_store::{AuditEntry, Decision, NewResponse, Page, Response, ResponseState, StateStore};
use uuid::Uuid;

use super::orders_of_runs::{check_own, via};
use super::{Actor, App, AppError, Caller, Counter, Credential, causes, now};

/// An order that the agent has not begun by then is not done any more.
const DEFAULT_LIFE: Duration = Duration::from_secs(600);
const MAX_LIFE_SECONDS: u32 = 24 * 3_600;

/// Who released a host where a person on it gave the code. No user has a colon in his name.
const BY_CODE: &str = "code:release";

/// Characters of a comment.
const MAX_COMMENT: usize = 1_000;

/// What is asked for.
#[derive(Debug)]
pub(crate) struct ResponseOrder {
    pub(crate) action: String,
    pub(crate) parameters: serde_json::Value,
    pub(crate) dry_run: bool,
    pub(crate) comment: String,
    pub(crate) expires_in_seconds: Option<u32>,
    pub(crate) run_id: Option<String>,
}

impl App {
    /// Orders an action on a host. It is sent at once where the host is connected.
    pub(crate) fn order_response(
        &self,
        caller: &Caller,
        host: HostId,
        order: ResponseOrder,
    ) -> Result<Response, AppError> {
        let action = action_of(&order.action, order.parameters)?;
        let run = order.run_id.as_deref();
        let by = self.who_asked_for(caller, run, host, &action, order.dry_run)?;
        let by = by.unwrap_or_else(|| caller.actor().who);
        let is_person = matches!(caller.credential, Credential::Session(_));
        let is_act = !order.dry_run && !action.only_looks();
        if is_person && is_act && order.comment.trim().is_empty() {
            return Err(AppError::Invalid(
                "`comment` says why: a person who has something done on a host gives a reason, which stands in the \
                 audit log; what only looks and dry runs need none"
                    .to_owned(),
            ));
        }
        self.create(caller, by, host, &action, order.dry_run, order.comment, order.expires_in_seconds, None)
    }

    /// Orders what undoes an action that was done.
    pub(crate) fn undo_response(&self, caller: &Caller, id: &str) -> Result<Response, AppError> {
        let done = self.response_of(id)?;
        check_own(caller, &done)?;
        let nothing = |why: &str| AppError::Conflict(format!("there is nothing to undo: {why}"));
        if done.state != ResponseState::Verified {
            return Err(nothing(&format!("its state is `{}`", done.state)));
        }
        if done.is_undone {
            return Err(nothing("what undoes it is done or under way"));
        }
        let action: Action = serde_json::from_str(&done.order)
            .map_err(|error| AppError::internal("reading an order", error))?;
        let inverse =
            action.inverse(done.id).ok_or_else(|| nothing(&format!("`{}` can't be undone", done.action)))?;
        self.create(
            caller,
            caller.actor().who,
            done.host,
            &inverse,
            false,
            String::new(),
            None,
            Some(done.id),
        )
    }

    #[expect(clippy::too_many_arguments, reason = "one row of the store, from two callers")]
    fn create(
        &self,
        caller: &Caller,
        created_by: String,
        host: HostId,
        action: &Action,
        dry_run: bool,
        comment: String,
        expires_in_seconds: Option<u32>,
        undo_of: Option<Uuid>,
    ) -> Result<Response, AppError> {
        let known = self.state.host(host)?.ok_or_else(|| AppError::not_found("host", host))?;
        if known.revoked_at.is_some() {
            return Err(AppError::Conflict("the host is revoked: it takes no more orders".to_owned()));
        }
        check_comment(&comment)?;
        let life = match expires_in_seconds {
            None => DEFAULT_LIFE,
            Some(seconds @ 1..=MAX_LIFE_SECONDS) => Duration::from_secs(seconds.into()),
            Some(_) => {
                return Err(AppError::Invalid(format!("`expires_in_seconds` is 1 to {MAX_LIFE_SECONDS}")));
            }
        };
        action.check().map_err(|bad| AppError::Invalid(bad.to_string()))?;
        let (action, release_code) = with_release_code(action.clone(), dry_run)?;
        let order =
            serde_json::to_string(&action).map_err(|error| AppError::internal("writing an order", error))?;
        let (id, at) = (Uuid::now_v7(), now());
        let new = NewResponse {
            id,
            host,
            created_by,
            via: via(caller),
            action: action.word().to_owned(),
            order,
            dry_run,
            comment,
            life,
            undo_of,
            approvals_needed: 0,
            mass_above: response::mass_above(&action),
            detection: None,
            release_code,
        };
        self.state.create_response(&new, at)?;
        let detail = format!("{} host={host} dry_run={dry_run} {}", new.order, new.comment);
        self.audit(&caller.actor(), "response.order", &id.to_string(), detail.trim_end());
        self.links.wake(host);
        self.response_of(&id.to_string())
    }

    pub(crate) fn response_of(&self, id: &str) -> Result<Response, AppError> {
        let unknown = || AppError::not_found("response", id);
        let parsed: Uuid = id.parse().map_err(|_| unknown())?;
        self.state.expire_responses(now())?;
        self.state.response(parsed)?.ok_or_else(unknown)
    }

    /// The code that lets an isolated host go on the spot, for a person to read out.
    pub(crate) fn release_code(&self, caller: &Caller, id: &str) -> Result<String, AppError> {
        let isolation = self.response_of(id)?;
        let none = || AppError::Conflict("it is no isolation, and has no code".to_owned());
        let code = self.state.release_code(isolation.id)?.ok_or_else(none)?;
        self.audit(&caller.actor(), "response.release_code", id, "");
        Ok(code)
    }

    pub(crate) fn response_page(
        &self,
        host: Option<HostId>,
        state: Option<ResponseState>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<Response>, AppError> {
        self.state.expire_responses(now())?;
        Ok(self.state.responses(host, state, cursor, limit)?)
    }

    /// Notes a person's yes or no to an action that waits for it. With enough people it is sent.
    pub(crate) fn decide_response(
        &self,
        caller: &Caller,
        id: &str,
        approve: bool,
        comment: String,
    ) -> Result<Response, AppError> {
        if !matches!(caller.credential, Credential::Session(_)) {
            return Err(AppError::Invalid(
                "a token is nobody's consent; hint: sign in as a person who may approve".to_owned(),
            ));
        }
        check_comment(&comment)?;
        let waiting = self.response_of(id)?;
        if waiting.state != ResponseState::Pending {
            let reason =
                format!("its state is `{}`; only what is `pending` waits for approval", waiting.state);
            return Err(AppError::Conflict(reason));
        }
        let decision = Decision { by: caller.name.clone(), at: now(), approve, comment };
        let decided = self.state.decide_response(waiting.id, &decision)?;
        let what = if approve { "response.approve" } else { "response.decline" };
        self.audit(&caller.actor(), what, id, &decision.comment);
        if decided.state == ResponseState::Queued {
            self.links.wake(decided.host);
        }
        Ok(decided)
    }

    /// Takes an order back, as long as it was not sent.
    pub(crate) fn cancel_response(&self, caller: &Caller, id: &str) -> Result<(), AppError> {
        let ordered = self.response_of(id)?;
        check_own(caller, &ordered)?;
        if !self.state.cancel_response(ordered.id, now())? {
            let state = self.response_of(id)?.state;
            let reason = format!(
                "its state is `{state}`; only what is `pending` or `queued` can be cancelled, what was done \
                                  can be undone"
            );
            return Err(AppError::Conflict(reason));
        }
        self.audit(&caller.actor(), "response.cancel", id, "");
        Ok(())
    }

    /// What is to be sent to a host now, signed and noted as sent.
    pub(crate) fn commands_for(
        &self,
        host: HostId,
        sent: &mut Vec<Uuid>,
    ) -> Result<Vec<SignedCommand>, AppError> {
        let mut commands = Vec::new();
        for waiting in self.state.waiting_responses(host, now())? {
            // On one link it goes once; its answer may take a while.
            if sent.contains(&waiting.id) || !self.state.mark_response_sent(waiting.id, now())? {
                continue;
            }
            sent.push(waiting.id);
            let command = Command {
                id: waiting.id.as_bytes().to_vec(),
                host_id: host.as_bytes().to_vec(),
                created_at_ns: waiting.created_at.as_nanos(),
                expires_at_ns: waiting.expires_at.as_nanos(),
                user: waiting.created_by,
                dry_run: waiting.dry_run,
                action: waiting.order,
                approvals: approvals_of(&waiting.decisions),
                fleet_hosts: waiting.fleet_hosts,
            };
            commands.push(sign_command(&command, &self.pki.command_key));
        }
        Ok(commands)
    }

    /// Notes what an agent says became of a command.
    pub(crate) fn record_command_receipt(
        &self,
        host: HostId,
        receipt: &CommandReceipt,
    ) -> Result<(), AppError> {
        let id = Uuid::from_slice(&receipt.id).ok();
        let state = ResponseState::from_word(&receipt.state);
        let is_json = serde_json::from_str::<serde_json::Value>(&receipt.receipt).is_ok();
        let (Some(id), Some(state), true) = (id, state, is_json) else {
            self.counters.count(Counter::Malformed);
            tracing::warn!(%host, "a command's receipt can't be read");
            return Ok(());
        };
        if !self.state.record_response(host, id, state, &receipt.receipt, now())? {
            tracing::debug!(%host, %id, "a receipt came again, or for a command that this host was not sent");
            return Ok(());
        }
        let actor = Actor { who: format!("host:{host}"), address: None };
        self.audit(&actor, "response.result", &id.to_string(), state.as_str());
        Ok(())
    }
}

/// Puts what rules on a host ask for where people find it. What comes again is known.
pub(super) fn queue_asked(state: &dyn StateStore, host: HostId, receipts: &[Box<ResponseReceipt>]) {
    for receipt in receipts.iter().filter(|receipt| receipt.state == ReceiptState::ApprovalNeeded) {
        let Some(text) = &receipt.asks else { continue };
        let asked = match serde_json::from_str::<Asked>(text) {
            Ok(asked) if asked.action.check().is_ok() => asked,
            Ok(_) | Err(_) => {
                tracing::warn!(%host, receipt = %receipt.id, "what a rule asks for can't be read");
                continue;
            }
        };
        let Ok((action, release_code)) = with_release_code(asked.action, false) else { continue };
        let Ok(order) = serde_json::to_string(&action) else { continue };
        let new = NewResponse {
            id: receipt.id,
            host,
            created_by: format!("{RULE_ASKS}{}", asked.rule_id),
            via: String::new(),
            action: action.word().to_owned(),
            order,
            dry_run: false,
            comment: receipt.reason.chars().take(MAX_COMMENT).collect(),
            life: DEFAULT_LIFE,
            undo_of: None,
            approvals_needed: 1,
            mass_above: response::mass_above(&action),
            detection: Some(receipt.detection_id),
            release_code,
        };
        if let Err(error) = state.create_response(&new, now()) {
            tracing::warn!(%host, error = causes(&error), "what a rule asks for can't be put to people");
        }
    }
}

/// Notes that somebody on an isolated host let it go by its code, as a release that is done: the isolation is
/// over, and the list of responses must say so. What comes again is known.
pub(super) fn note_released(state: &dyn StateStore, host: HostId, events: &[EventRecord]) {
    for event in events.iter().filter(|event| event.event_type == EventType::AgentTamper) {
        let text = |field| event.text(field).unwrap_or_default();
        if text(Field::AgentTampered) != response::Interference::Released.as_str() {
            continue;
        }
        let (at, reason) = (event.header.observed_at, text(Field::EventReason).to_owned());
        let action = Action::ReleaseHost {};
        // Only what this host was isolated by: an agent speaks for itself alone.
        let isolation =
            text(Field::AgentOrder).parse().ok().and_then(|id: Uuid| state.response(id).ok().flatten());
        let isolation = isolation.filter(|order| order.host == host && order.action == "isolate_host");
        let id = Uuid::new_v5(event.header.event_id().as_uuid(), b"release");
        let receipt = response::Receipt {
            id,
            action: action.word().to_owned(),
            state: response::OrderState::Verified,
            reason,
            plan: Vec::new(),
            steps: vec![event_model::ReceiptStep { at, what: "took the code".to_owned() }],
            undo: None,
            result: serde_json::Value::Null,
        };
        let (Ok(order), Ok(receipt)) = (serde_json::to_string(&action), serde_json::to_string(&receipt))
        else {
            continue;
        };
        let new = NewResponse {
            id,
            host,
            created_by: BY_CODE.to_owned(),
            via: String::new(),
            action: action.word().to_owned(),
            order,
            dry_run: false,
            comment: String::new(),
            life: Duration::ZERO,
            undo_of: isolation.map(|order| order.id),
            approvals_needed: 0,
            mass_above: None,
            detection: None,
            release_code: None,
        };
        let noted = state.note_done(&new, &receipt, now()).and_then(|is_new| {
            let entry = AuditEntry {
                who: format!("host:{host}"),
                what: "response.released_by_code".to_owned(),
                subject: new.undo_of.map(|id| id.to_string()).unwrap_or_default(),
                detail: String::new(),
                address: String::new(),
            };
            if is_new { state.append_audit(&entry, now()) } else { Ok(()) }
        });
        if let Err(error) = noted {
            tracing::error!(%host, error = causes(&error), "a release by code could not be noted");
        }
    }
}

/// An isolation gets a code of its own; what the order carries is its hash.
fn with_release_code(action: Action, dry_run: bool) -> Result<(Action, Option<String>), AppError> {
    match action {
        Action::IsolateHost(isolation) if !dry_run => {
            let code = response::new_release_code()
                .map_err(|error| AppError::internal("drawing a release code", error))?;
            let release_hash = Some(response::release_hash(&code));
            Ok((Action::IsolateHost(Isolation { release_hash, ..isolation }), Some(code)))
        }
        other => Ok((other, None)),
    }
}

fn approvals_of(decisions: &[Decision]) -> Vec<Approval> {
    let yes = decisions.iter().filter(|decision| decision.approve);
    yes.map(|decision| Approval { by: decision.by.clone(), at_ns: decision.at.as_nanos() }).collect()
}

fn check_comment(comment: &str) -> Result<(), AppError> {
    if comment.chars().count() > MAX_COMMENT {
        return Err(AppError::Invalid(format!("`comment` has at most {MAX_COMMENT} characters")));
    }
    Ok(())
}

/// The action of that word with these parameters.
fn action_of(word: &str, parameters: serde_json::Value) -> Result<Action, AppError> {
    if !Action::WORDS.contains(&word) {
        let allowed = Action::WORDS.join(", ");
        return Err(AppError::Invalid(format!("`{word}` is no action; allowed: {allowed}")));
    }
    let parameters = if parameters.is_null() { serde_json::json!({}) } else { parameters };
    let order = serde_json::json!({ "action": word, "parameters": parameters });
    serde_json::from_value(order).map_err(|error| AppError::Invalid(format!("`parameters`: {error}")))
}
