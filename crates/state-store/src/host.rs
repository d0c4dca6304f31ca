//! Enrolled hosts.

use event_model::{BootId, HostId, Timestamp, words};

use crate::AlertId;
use serde::Serialize;

words! {
    /// Whether a host reports.
    HostContact {
        /// It has not connected yet.
        Never = "never",
        /// It reports.
        Reporting = "reporting",
        /// Its agent was stopped and said so.
        Stopped = "stopped",
        /// It should report and does not.
        Silent = "silent",
    }
}

/// A client certificate, as far as the store needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// SHA-256 of its DER.
    pub fingerprint: [u8; 32],
    /// When it ends.
    pub expires_at: Timestamp,
}

/// A host at the moment of its enrolment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewHost {
    /// Drawn by the server.
    pub id: HostId,
    /// Host name.
    pub name: String,
    /// Operating system, for example `Debian GNU/Linux 12 (bookworm)`.
    pub os: String,
    /// Kernel release.
    pub kernel: String,
    /// Version of the agent.
    pub agent_version: String,
    /// The certificate that it was given.
    pub certificate: Certificate,
}

/// What an agent says about itself, each time it connects and each minute.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AgentStatus {
    /// Host name.
    pub name: String,
    /// Operating system.
    pub os: String,
    /// Kernel release.
    pub kernel: String,
    /// Version of the agent.
    pub agent_version: String,
    /// Source of process events, for example `ebpf`.
    pub sensor: String,
    /// Rule bundle in force.
    pub rules_version: u64,
    /// Rules in force.
    pub rules_loaded: u64,
    /// Rules of the bundle that the agent could not load, in words.
    pub rules_errors: Vec<String>,
    /// Its figures for the boot.
    pub figures: AgentFigures,
}

/// An agent's own figures for the boot that it reported last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct AgentFigures {
    /// Records numbered.
    pub produced: u64,
    /// Numbered records in its spool.
    pub spooled: u64,
    /// Numbered records dropped.
    pub dropped: u64,
    /// Observations that the kernel could not hand over.
    pub kernel_lost: u64,
}

/// An enrolled host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Host {
    /// Its id.
    pub id: HostId,
    /// Host name.
    pub name: String,
    /// Operating system.
    pub os: String,
    /// Kernel release.
    pub kernel: String,
    /// Version of the agent.
    pub agent_version: String,
    /// Source of process events; `None` until the agent has said.
    pub sensor: Option<String>,
    /// When it was enrolled.
    pub enrolled_at: Timestamp,
    /// When it was last heard of.
    pub last_seen_at: Option<Timestamp>,
    /// Its boot, as last reported.
    pub boot_id: Option<BootId>,
    /// Rule bundle in force there.
    pub rules_version: u64,
    /// Rules in force there.
    pub rules_loaded: u64,
    /// Rules that it could not load, in words.
    pub rules_errors: Vec<String>,
    /// The certificate in force.
    pub certificate: Certificate,
    /// The one before it, which stays good until it expires or the new one is used.
    pub previous_certificate: Option<Certificate>,
    /// When its certificates were revoked.
    pub revoked_at: Option<Timestamp>,
    /// The agent's own figures.
    pub figures: AgentFigures,
    /// Alerts of this host that are not closed.
    pub open_alerts: u64,
    /// Whether it reports.
    pub contact: HostContact,
    /// Since when.
    pub contact_since: Option<Timestamp>,
    /// The alert that tells of its silence, while it is silent.
    pub silence_alert: Option<AlertId>,
}

impl Host {
    /// True if its agent may no longer speak to the server.
    pub fn is_revoked(&self) -> bool {
        self.revoked_at.is_some()
    }
}
