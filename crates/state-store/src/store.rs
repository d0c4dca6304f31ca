//! The boundary: what any state store can do.
//!
//! The trait is in parts only so that each fits on a page; a store is all
//! of them, and a `dyn StateStore` has all their methods.

use std::fmt::Debug;

use event_model::{BootId, DetectionId, HostId, ResponseMode, RuleId, Timestamp};
use uuid::Uuid;

use crate::{
    AgentStatus, Alert, AlertDetail, AlertId, AlertQuery, AlertUpdate, ApiToken, AuditEntry, AuditRow,
    Certificate, ContentHead, ContentKind, ContentSet, Decision, EnrollmentToken, Findings, FindingsOutcome,
    Host, HostContact, HourCount, KeptContentFile, NewApiToken, NewContentFile, NewEnrollmentToken, NewHost,
    NewResponse, NewRule, NewRun, NewSession, NewUser, OutboxRow, PasswordHash, PlaybookRun, RedeemError,
    RefusedCount, Response, ResponseState, Retention, Role, Rule, RuleCount, RulePatch, RuleSet, RunQuery,
    RunReport, SecretDigest, Session, SeverityCount, StateError, TokenRefusal, User,
};

type Result<T> = std::result::Result<T, StateError>;

/// Some of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where to go on; `None` at the end.
    pub next_cursor: Option<String>,
}

/// Everything a state store does. Each method is one transaction: when it
/// returns `Ok` its change is on disk, when it returns an error nothing changed.
pub trait StateStore:
    HostStore
    + AccessStore
    + RuleStore
    + ContentStore
    + AlertStore
    + ActivityStore
    + ResponseStore
    + RunStore
    + Debug
{
}

impl<
    T: HostStore
        + AccessStore
        + RuleStore
        + ContentStore
        + AlertStore
        + ActivityStore
        + ResponseStore
        + RunStore
        + Debug,
> StateStore for T
{
}

/// Hosts and their enrolment.
pub trait HostStore: Send + Sync {
    /// Makes an enrolment token; gives its id.
    fn create_enrollment_token(&self, token: &NewEnrollmentToken, now: Timestamp) -> Result<Uuid>;

    /// Every enrolment token, newest first, at most 500.
    fn enrollment_tokens(&self) -> Result<Vec<EnrollmentToken>>;

    /// Takes a token back; false if there is none with this id.
    fn revoke_enrollment_token(&self, id: Uuid, now: Timestamp) -> Result<bool>;

    /// Says whether the token is good now, without using it. For refusing early;
    /// only [`HostStore::redeem_token`] decides.
    fn check_token(&self, secret: &SecretDigest, now: Timestamp) -> std::result::Result<(), RedeemError>;

    /// Uses the token once and enrols the host, both or neither. Of two hosts that
    /// race for the last use, one wins.
    fn redeem_token(
        &self,
        secret: &SecretDigest,
        host: &NewHost,
        now: Timestamp,
    ) -> std::result::Result<(), RedeemError>;

    /// Every host, by name.
    fn hosts(&self) -> Result<Vec<Host>>;

    /// One host.
    fn host(&self, id: HostId) -> Result<Option<Host>>;

    /// The host whose certificate, or previous certificate, has this SHA-256.
    fn host_by_certificate(&self, fingerprint: &[u8; 32]) -> Result<Option<Host>>;

    /// Puts a renewed certificate in force; the one before becomes the previous one.
    fn renew_certificate(&self, id: HostId, certificate: &Certificate) -> Result<()>;

    /// Forgets the previous certificate: the agent has used the new one.
    fn drop_previous_certificate(&self, id: HostId) -> Result<()>;

    /// Revokes the host's certificates; false if there is no such host. Doing it
    /// again changes nothing.
    fn revoke_host(&self, id: HostId, now: Timestamp) -> Result<bool>;

    /// Notes what an agent said about itself.
    fn record_status(&self, id: HostId, boot: BootId, status: &AgentStatus, now: Timestamp) -> Result<()>;

    /// Notes when hosts were last heard of; earlier times than the noted ones change nothing.
    fn record_seen(&self, seen: &[(HostId, Timestamp)]) -> Result<()>;

    /// Notes whether a host reports, since when, and the alert that tells of its silence.
    /// False if it was noted so already; then nothing changes.
    fn set_contact(
        &self,
        id: HostId,
        contact: HostContact,
        since: Timestamp,
        alert: Option<AlertId>,
    ) -> Result<bool>;
}

/// Users, sessions, API tokens.
pub trait AccessStore: Send + Sync {
    /// Makes a user. [`StateError::Conflict`] if the name is taken.
    fn create_user(&self, user: &NewUser, now: Timestamp) -> Result<()>;

    /// Every user, by name.
    fn users(&self) -> Result<Vec<User>>;

    /// One user, whatever the case of the name.
    fn user(&self, username: &str) -> Result<Option<User>>;

    /// A user with the hash of the password, for signing in.
    fn user_with_password(&self, username: &str) -> Result<Option<(User, PasswordHash)>>;

    /// Sets a password and ends the user's sessions, but for `keep`.
    fn set_password(
        &self,
        username: &str,
        password: &PasswordHash,
        must_change_password: bool,
        keep: Option<&SecretDigest>,
    ) -> Result<()>;

    /// Sets a role and ends the user's sessions.
    fn set_role(&self, username: &str, role: Role) -> Result<()>;

    /// Disables or enables a user; disabling ends the user's sessions.
    fn set_disabled(&self, username: &str, disabled: bool) -> Result<()>;

    /// Removes a user and the user's sessions.
    fn delete_user(&self, username: &str) -> Result<()>;

    /// Begins a session and notes the sign-in.
    fn create_session(&self, session: &NewSession, now: Timestamp) -> Result<()>;

    /// The session, if it is good now and its user enabled. Notes its use, once a minute.
    fn session(&self, secret: &SecretDigest, now: Timestamp) -> Result<Option<Session>>;

    /// Ends a session; no error if there is none.
    fn end_session(&self, secret: &SecretDigest) -> Result<()>;

    /// Forgets sessions that are over; gives how many.
    fn delete_expired_sessions(&self, now: Timestamp) -> Result<u64>;

    /// Makes an API token; gives its id. [`StateError::Conflict`] if the name is taken.
    fn create_api_token(&self, token: &NewApiToken, now: Timestamp) -> Result<Uuid>;

    /// Every API token, by name.
    fn api_tokens(&self) -> Result<Vec<ApiToken>>;

    /// The API token, if it is good now. Notes its use, once a minute.
    fn authenticate_api_token(&self, secret: &SecretDigest, now: Timestamp) -> Result<Option<ApiToken>>;

    /// Removes an API token; false if there is none with this id.
    fn delete_api_token(&self, id: Uuid) -> Result<bool>;
}

/// Rules. Each change bumps the version: to the larger of the version before plus
/// one, and the Unix time in milliseconds, so that it also grows over a restored backup.
pub trait RuleStore: Send + Sync {
    /// All rules and their version, of one moment.
    fn rules(&self) -> Result<RuleSet>;

    /// The version alone.
    fn rules_version(&self) -> Result<u64>;

    /// One rule.
    fn rule(&self, id: &RuleId) -> Result<Option<Rule>>;

    /// Puts the starter pack in, if this store never had a rule; true if it did.
    fn insert_starter_rules(&self, rules: &[NewRule], now: Timestamp) -> Result<bool>;

    /// Adds a rule. [`StateError::Conflict`] if the id is taken. Gives the new version.
    fn create_rule(&self, rule: &NewRule, by: &str, now: Timestamp) -> Result<u64> {
        self.create_rules(std::slice::from_ref(rule), by, now)
    }

    /// Adds rules, all of them or none. [`StateError::Conflict`], with the id, if one is taken. Gives
    /// the new version.
    fn create_rules(&self, rules: &[NewRule], by: &str, now: Timestamp) -> Result<u64>;

    /// Replaces the rule of the same id. [`StateError::NotFound`] if there is none.
    /// Gives the new version.
    fn replace_rule(&self, rule: &NewRule, by: &str, now: Timestamp) -> Result<u64>;

    /// Changes a rule's switches. [`StateError::NotFound`] if there is none. Gives the new version.
    fn patch_rule(&self, id: &RuleId, patch: &RulePatch, by: &str, now: Timestamp) -> Result<u64>;

    /// Removes a rule. [`StateError::NotFound`] if there is none. Gives the new version.
    fn delete_rule(&self, id: &RuleId, now: Timestamp) -> Result<u64>;

    /// Sets the mode of every rule that is in another one; gives the new version
    /// and how many rules changed. With no rule to change, the version stays.
    fn set_mode_of_all(&self, mode: ResponseMode, by: &str, now: Timestamp) -> Result<(u64, u64)>;
}

/// YARA files and lists of indicators. Each change bumps the version of the rules.
pub trait ContentStore: Send + Sync {
    /// All files and the version, of one moment.
    fn content_set(&self) -> Result<ContentSet>;

    /// The files of a kind without their texts, by name.
    fn content_heads(&self, kind: ContentKind) -> Result<Vec<ContentHead>>;

    /// One file.
    fn content_file(&self, kind: ContentKind, name: &str) -> Result<Option<KeptContentFile>>;

    /// Adds a file or replaces the one of its kind and name. [`StateError::Invalid`] if all texts
    /// together would then have more bytes than that. Gives the new version.
    fn put_content_file(
        &self,
        file: &NewContentFile,
        max_total_bytes: u64,
        by: &str,
        now: Timestamp,
    ) -> Result<u64>;

    /// Removes a file. [`StateError::NotFound`] if there is none. Gives the new version.
    fn delete_content_file(&self, kind: ContentKind, name: &str, now: Timestamp) -> Result<u64>;
}

/// Alerts.
pub trait AlertStore: Send + Sync {
    /// Records what a batch found: alerts, repeats, receipts, and an outbox row for
    /// each new alert and for each that is told of again. Idempotent by the ids of detections and receipts;
    /// a receipt that comes again with another state replaces the one before.
    fn record_findings(&self, findings: &Findings<'_>, now: Timestamp) -> Result<FindingsOutcome>;

    /// Alerts, the first detected last first. An alert keeps its place when it repeats.
    fn alerts(&self, query: &AlertQuery) -> Result<Page<Alert>>;

    /// One alert with its evidence.
    fn alert(&self, id: AlertId) -> Result<Option<AlertDetail>>;

    /// The alert as it was told of again that time; `None` if it was not, or too long ago. 0 is [`Self::alert`].
    fn alert_as_told(&self, id: AlertId, generation: u32) -> Result<Option<AlertDetail>>;

    /// The rule of a detection that this host told of; `None` if it told of none with that id.
    fn rule_of_detection(&self, host: HostId, id: DetectionId) -> Result<Option<RuleId>>;

    /// Changes an alert. [`StateError::NotFound`] if there is none;
    /// [`StateError::Invalid`] if status and close reason contradict each other.
    fn update_alert(&self, id: AlertId, update: &AlertUpdate, by: &str, now: Timestamp) -> Result<Alert>;

    /// Open alerts of each severity, every severity once, the worst first.
    fn open_alerts_by_severity(&self) -> Result<Vec<SeverityCount>>;

    /// Alerts first detected in each of the `hours` (at most 744) up to and with the
    /// hour of `now`, oldest first, also where there were none.
    fn alerts_per_hour(&self, hours: u32, now: Timestamp) -> Result<Vec<HourCount>>;

    /// Alerts of each rule first detected since then, most first.
    fn alerts_by_rule(&self, since: Timestamp, limit: usize) -> Result<Vec<RuleCount>>;

    /// Removes closed and open alerts last detected before then, with their
    /// evidence; at most 1,000 a call. Gives how many.
    fn delete_alerts_before(&self, before: Timestamp) -> Result<u64>;
}

/// Actions that were ordered on hosts.
pub trait ResponseStore: Send + Sync {
    /// Orders an action: it waits to be sent, or for people to agree. False if it was ordered before, or if
    /// a rule asks for what waits for a yes already. [`StateError::Invalid`] if too many wait for the host.
    fn create_response(&self, response: &NewResponse, now: Timestamp) -> Result<bool>;

    /// Orders as many actions, all of them or none, each as [`Self::create_response`] does.
    fn create_responses(&self, responses: &[NewResponse], now: Timestamp) -> Result<Vec<bool>>;

    /// Notes what a person said. The first no ends it; with enough people it waits to be sent. How many are
    /// enough is counted anew. [`StateError::Invalid`] for who asked for it himself or has spoken before, and
    /// where it does not wait.
    fn decide_response(&self, id: Uuid, decision: &Decision) -> Result<Response>;

    /// The code that lets an isolated host go on the spot; `None` where it has none.
    fn release_code(&self, id: Uuid) -> Result<Option<String>>;

    /// One of them.
    fn response(&self, id: Uuid) -> Result<Option<Response>>;

    /// All of them, or those of one host or in one state; the latest first. `limit` is brought into 1 to 500.
    fn responses(
        &self,
        host: Option<HostId>,
        state: Option<ResponseState>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<Response>>;

    /// What is to be sent to a host: queued, or sent before and not answered. The oldest first.
    fn waiting_responses(&self, host: HostId, now: Timestamp) -> Result<Vec<Response>>;

    /// Notes that it is about to be sent; false if it may not be sent any more. From then on it
    /// can't be cancelled.
    fn mark_response_sent(&self, id: Uuid, now: Timestamp) -> Result<bool>;

    /// Takes one back; false if it was sent already, or is not there.
    fn cancel_response(&self, id: Uuid, now: Timestamp) -> Result<bool>;

    /// Notes what its host says became of it; false if that host was not sent it, or has answered before.
    fn record_response(
        &self,
        host: HostId,
        id: Uuid,
        state: ResponseState,
        receipt: &str,
        now: Timestamp,
    ) -> Result<bool>;

    /// Notes what a host did by itself, with its proof, as an order that is done. False if it is known.
    fn note_done(&self, response: &NewResponse, receipt: &str, now: Timestamp) -> Result<bool>;

    /// Marks those that expired before they were sent; gives how many.
    fn expire_responses(&self, now: Timestamp) -> Result<u64>;
}

/// Runs of playbooks.
pub trait RunStore: Send + Sync {
    /// Asks for a run. False if there is one of this id. [`StateError::NotFound`] without the alert,
    /// [`StateError::Invalid`] if too many wait for a responder.
    fn request_run(&self, run: &NewRun, now: Timestamp) -> Result<bool>;

    /// Notes how far a run came. False if it is of another responder, alert or playbook.
    /// [`StateError::NotFound`] without the alert.
    fn record_run(&self, report: &RunReport, now: Timestamp) -> Result<bool>;

    /// Asks for a run to be undone; false if it has not ended, was asked for already, or there is nothing to undo.
    fn request_run_undo(&self, id: Uuid, by: &str, now: Timestamp) -> Result<bool>;

    /// One of them.
    fn run(&self, id: Uuid) -> Result<Option<PlaybookRun>>;

    /// Some of them, the latest first.
    fn runs(&self, query: &RunQuery) -> Result<Page<PlaybookRun>>;

    /// Gives up those that no responder took for ten minutes; gives how many.
    fn expire_runs(&self, now: Timestamp) -> Result<u64>;
}

/// Settings, counters, audit log, outbox.
pub trait ActivityStore: Send + Sync {
    /// A setting.
    fn setting(&self, key: &str) -> Result<Option<String>>;

    /// Sets a setting.
    fn set_setting(&self, key: &str, value: &str) -> Result<()>;

    /// How long things are kept; the defaults where nobody set it.
    fn retention(&self) -> Result<Retention>;

    /// Sets how long things are kept. [`StateError::Invalid`] outside 1 to 3,650 days.
    fn set_retention(&self, retention: Retention) -> Result<()>;

    /// Adds to the counters of refused input. Collect and add now and then: each
    /// call waits for the disk.
    fn count_refused(&self, counts: &[(&str, u64)], now: Timestamp) -> Result<()>;

    /// The counters of refused input, by kind.
    fn refused(&self) -> Result<Vec<RefusedCount>>;

    /// Appends to the audit log.
    fn append_audit(&self, entry: &AuditEntry, now: Timestamp) -> Result<()>;

    /// The audit log, newest first. `limit` is brought into 1 to 500.
    fn audit(&self, cursor: Option<&str>, limit: usize) -> Result<Page<AuditRow>>;

    /// What waits in the outbox, oldest first. The store keeps the newest 10,000; what gives way to
    /// them is counted as refused, kind `alert_not_published`.
    fn outbox(&self, limit: usize) -> Result<Vec<OutboxRow>>;

    /// Takes the rows up to and with this one out of the outbox: they have arrived.
    fn clear_outbox(&self, through: u64) -> Result<()>;
}

/// So that a refusal reads as one where the store is asked directly.
impl RedeemError {
    /// The refusal, where it is one.
    pub fn refusal(&self) -> Option<TokenRefusal> {
        match self {
            Self::Refused(refusal) => Some(*refusal),
            Self::Store(_) => None,
        }
    }
}
