//! What the server does, whoever asks: the API, an agent's link, or time.
//!
//! [`App`] holds the stores and the little that lives only in memory: which
//! agents are connected ([`links`]), the rule bundle in force ([`policy`]), what
//! has just happened ([`live`]), how often someone guessed a password
//! ([`throttle`]). The stores are synchronous, so work on them goes through
//! [`App::work`], which bounds how much of it runs at once.

mod access;
mod alerts;
mod behaviours;
mod bell;
mod content;
mod counters;
mod coverage;
mod enrollment;
mod error;
mod events;
mod exceptions;
mod fleet_stop;
mod hosts;
mod housekeeping;
mod ingest;
mod links;
mod live;
mod orders_of_runs;
mod past_event;
mod policy;
mod refusals;
mod responses;
mod rules;
mod runs;
pub(crate) mod silence;
mod throttle;
mod tokens;
mod unexplained;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use event_model::Timestamp;
use event_store::EventStore;
use state_store::{AuditEntry, StateStore};
use tokio::sync::Semaphore;

pub(crate) use access::place_of;
pub use access::{Caller, Credential, NewUserInput, UserPatch};
pub(crate) use behaviours::Override;
pub(crate) use bell::Bell;
pub use content::{CheckedContent, MAX_CONTENT_BYTES, MAX_TOTAL_CONTENT_BYTES};
pub use counters::{Counter, Counters};
pub use coverage::{HostCoverage, RuleCoverage, StarvedHost, StarvedRule};
pub use enrollment::{Enrolled, EnrollmentRequest};
pub(crate) use enrollment::{named, shown};
pub use error::AppError;
pub(crate) use error::causes;
pub(crate) use events::parse_host;
pub use events::{DocumentPage, EventFilter};
pub(crate) use exceptions::HiddenAlerts;
pub(crate) use fleet_stop::FleetStop;
pub use hosts::HostView;
pub(crate) use ingest::Origin;
pub use ingest::{Ingest, IngestError, Stored};
pub use links::{EndReason, Link, Links, PeerIdentity};
pub use live::{Live, LiveMessage};
pub use policy::{Policy, SignedPolicy};
pub(crate) use responses::ResponseOrder;
pub use rules::{RuleView, starter_rules};
pub(crate) use runs::{RunContent, RunStep, RunStepView, RunView, content_of};

use crate::pki::Pki;
use access::SignIns;
use enrollment::Enrollments;
use fleet_stop::FleetBreaker;
use silence::Watch;

/// How much work on the stores may run at once for the API. Reads of SQLite run
/// side by side; more than a few on each core only wait for each other.
const WORK_AT_ONCE: usize = 8;

/// The server's application.
pub struct App {
    pub(crate) state: Arc<dyn StateStore>,
    pub(crate) events: Arc<dyn EventStore>,
    pub(crate) pki: Pki,
    pub(crate) counters: Arc<Counters>,
    pub(crate) live: Live,
    pub(crate) links: Arc<Links>,
    breaker: Arc<FleetBreaker>,
    pub(crate) policy: Policy,
    pub(crate) ingest: Ingest,
    pub(crate) watch: Watch,
    /// Rings when something was posted to the outbox.
    pub(crate) posted: Bell,
    sign_ins: SignIns,
    enrollments: Enrollments,
    /// Held by whoever reads the overrides of behaviours to write them changed.
    overriding: std::sync::Mutex<()>,
    /// `https://HOST:PORT` as other machines reach this one.
    address: String,
    work: Arc<Semaphore>,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("address", &self.address).finish_non_exhaustive()
    }
}

impl App {
    /// Over these stores and keys; `address` is what other machines reach the server by.
    /// A host that nothing is heard of for `silent_after` is silent.
    ///
    /// # Errors
    /// [`AppError`] if the rules can't be read, or the ingest thread can't be started.
    pub fn new(
        state: Arc<dyn StateStore>,
        events: Arc<dyn EventStore>,
        pki: Pki,
        address: String,
        silent_after: Duration,
    ) -> Result<Self, AppError> {
        let counters = Arc::new(Counters::default());
        let live = Live::default();
        let policy = Policy::of(state.as_ref(), &pki.command_key)?;
        let posted = Bell::default();
        let (links, breaker): (Arc<Links>, Arc<FleetBreaker>) = Default::default();
        let fleet = (Arc::clone(&links), Arc::clone(&breaker));
        let ingest = Ingest::start(
            Arc::clone(&state),
            Arc::clone(&events),
            Arc::clone(&counters),
            live.clone(),
            posted.clone(),
            fleet,
        )
        .map_err(|error| AppError::internal("starting the ingest thread", error))?;
        Ok(Self {
            state,
            events,
            pki,
            counters,
            live,
            links,
            breaker,
            policy,
            ingest,
            posted,
            watch: Watch { silent_after, since: now() },
            sign_ins: SignIns::new()?,
            enrollments: Enrollments::default(),
            overriding: std::sync::Mutex::default(),
            address,
            work: Arc::new(Semaphore::new(WORK_AT_ONCE)),
        })
    }

    /// Runs work on the stores where it may block.
    ///
    /// # Errors
    /// What the work gives; [`AppError::Internal`] if it panicked.
    pub(crate) async fn work<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, AppError> + Send + 'static,
    ) -> Result<T, AppError> {
        let permit = Arc::clone(&self.work).acquire_owned().await.map_err(|_| AppError::Busy)?;
        let app = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let result = work(&app);
            drop(permit);
            result
        });
        done.await.map_err(|error| AppError::internal("work on the stores", error))?
    }

    /// The refusals and acceptances so far.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// The connected agents.
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// The version of the rules in force.
    pub fn policy_version(&self) -> u64 {
        self.policy.version()
    }

    /// Keys and certificates.
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// Ends the streams that would never end by themselves.
    pub(crate) fn begin_shutdown(&self) {
        self.links.end_all(EndReason::ShuttingDown);
        self.live.close();
    }

    /// Stores what was taken in, once all connections are gone. Blocks.
    pub fn shut_down(&self) {
        self.begin_shutdown();
        self.ingest.close();
    }

    /// Appends to the audit log. A failure is logged and does not undo what was done.
    pub(crate) fn audit(&self, actor: &Actor, what: &str, subject: &str, detail: &str) {
        let entry = AuditEntry {
            who: actor.who.clone(),
            what: what.to_owned(),
            subject: subject.to_owned(),
            detail: detail.to_owned(),
            address: actor.address.map(|address| address.to_string()).unwrap_or_default(),
        };
        if let Err(error) = self.state.append_audit(&entry, now()) {
            tracing::error!(what, error = causes(&error), "audit entry could not be written");
        }
    }
}

/// Who acts, for the audit log.
#[derive(Debug, Clone)]
pub struct Actor {
    /// A user, `token:<name>`, `host:<id>` or `server`.
    pub who: String,
    /// From where.
    pub address: Option<IpAddr>,
}

/// The time, from the one place where the server asks for it.
pub(crate) fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_nanos(i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX))
}

/// That long before.
pub(crate) fn before(time: Timestamp, span: Duration) -> Timestamp {
    let span = i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
    Timestamp::from_nanos(time.as_nanos().saturating_sub(span))
}

/// That long after.
pub(crate) fn after(time: Timestamp, span: Duration) -> Timestamp {
    let span = i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
    Timestamp::from_nanos(time.as_nanos().saturating_add(span))
}
