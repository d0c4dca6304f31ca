//! Hosts.

use event_model::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::words::{ContactWord, TimeText};

/// A host.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Host {
    /// Its id, drawn at enrolment.
    pub id: String,
    /// Its name, as it says itself.
    pub name: String,
    /// Operating system, for example `Debian GNU/Linux 12 (bookworm)`.
    pub os: String,
    /// Kernel release.
    pub kernel: String,
    /// Version of its agent.
    pub agent_version: String,
    /// Source of its process events: `ebpf` or `netlink`.
    pub sensor: String,
    /// When it was enrolled.
    #[schema(value_type = TimeText)]
    pub enrolled_at: Timestamp,
    /// When the server last heard of it.
    #[schema(value_type = Option<TimeText>, required)]
    pub last_seen_at: Option<Timestamp>,
    /// Connected, and heard of within 30 s.
    pub online: bool,
    /// Whether it reports: `never` (not connected yet), `reporting`, `stopped` (its agent was asked to stop and said so), `silent` (it should report and does not).
    #[schema(value_type = ContactWord)]
    pub contact: state_store::HostContact,
    /// Since when.
    #[schema(value_type = Option<TimeText>, required)]
    pub contact_since: Option<Timestamp>,
    /// The boot that it last reported from.
    #[schema(required)]
    pub boot_id: Option<String>,
    /// Version of the rule bundle in force there.
    pub rules_version: u64,
    /// How many rules are in force there.
    pub rules_loaded: u64,
    /// Rules that its agent refused, each with the reason.
    pub rules_errors: Vec<String>,
    /// When its certificate ends.
    #[schema(value_type = Option<TimeText>, required)]
    pub cert_expires_at: Option<Timestamp>,
    /// Shut out for good.
    pub revoked: bool,
    /// Alerts that are not closed.
    pub open_alerts: u64,
    /// The account of its records since its last boot.
    pub ledger: Ledger,
}

/// The account of a host's records in its latest boot: `produced = stored + in
/// the agent's spool + dropped`.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(crate) struct Ledger {
    /// Highest record number that the agent reported.
    pub produced: u64,
    /// Records that the server stored.
    pub stored: u64,
    /// Records that are lost.
    pub dropped: u64,
    /// Of these, records that no gap record speaks of; 0 once what the agent had spooled has arrived. What stays raises an alert.
    pub unexplained: u64,
    /// Observations that the kernel could not hand over.
    pub kernel_lost: u64,
}

/// The account of a host's latest boot by kind of record. Its unit is the act: an
/// event can stand for several like ones.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct HostAccount {
    /// The boot; `null` of a host that has not reported yet.
    #[schema(required)]
    pub boot_id: Option<String>,
    /// A row for each kind that was seen.
    pub kinds: Vec<KindRow>,
}

/// The account of one kind: `produced = stored + dropped`, once what the agent had
/// spooled has arrived.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct KindRow {
    /// An event type, `detection`, `response`, `process_fork` (forks that the kernel could not hand over) or `unknown`.
    pub kind: String,
    /// Observed or made, as the agent says.
    pub produced: u64,
    /// Arrived, as the server counted.
    pub stored: u64,
    /// Lost, by reason, as the agent says.
    pub dropped: Vec<DroppedRow>,
    /// `produced` less `stored` and all of `dropped`; 0 once everything has arrived.
    pub difference: i64,
}

/// What was lost for one reason.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct DroppedRow {
    /// As gap events say it, for example `kernel_ring_full`.
    pub reason: String,
    /// How many.
    pub count: u64,
}

impl From<Option<(event_model::BootId, Vec<event_store::KindAccount>)>> for HostAccount {
    fn from(account: Option<(event_model::BootId, Vec<event_store::KindAccount>)>) -> Self {
        let (boot_id, rows) =
            account.map_or((None, Vec::new()), |(boot, rows)| (Some(boot.to_string()), rows));
        let kinds = rows.into_iter().map(|row| KindRow {
            kind: row.kind.to_string(),
            produced: row.produced,
            stored: row.stored,
            difference: row.difference(),
            dropped: row
                .dropped
                .iter()
                .map(|(reason, count)| DroppedRow { reason: reason.to_string(), count: *count })
                .collect(),
        });
        Self { boot_id, kinds: kinds.collect() }
    }
}

super::page!(
    /// Hosts by name.
    HostPage of Host
);

impl From<crate::app::HostView> for Host {
    fn from(view: crate::app::HostView) -> Self {
        let host = view.host;
        let revoked = host.is_revoked();
        Self {
            id: host.id.to_string(),
            name: host.name,
            os: host.os,
            kernel: host.kernel,
            agent_version: host.agent_version,
            sensor: host.sensor.unwrap_or_default(),
            enrolled_at: host.enrolled_at,
            last_seen_at: host.last_seen_at.max(view.last_heard),
            online: view.online,
            contact: host.contact,
            contact_since: host.contact_since,
            boot_id: host.boot_id.map(|boot| boot.to_string()),
            rules_version: host.rules_version,
            rules_loaded: host.rules_loaded,
            rules_errors: host.rules_errors,
            cert_expires_at: Some(host.certificate.expires_at),
            revoked,
            open_alerts: host.open_alerts,
            ledger: view.ledger.map_or_else(Ledger::default, |entry| Ledger {
                produced: entry.figures.produced.max(entry.high_water),
                stored: entry.stored,
                dropped: entry.figures.dropped.max(entry.missing),
                unexplained: entry.unexplained(),
                kernel_lost: entry.figures.kernel_lost,
            }),
        }
    }
}
