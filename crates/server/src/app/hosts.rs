//! Hosts, as the API shows them: what is stored, and what the links know.

use event_model::{BootId, HostId, Timestamp};
use event_store::{KindAccount, LedgerEntry};
use protocol::link::HighWaterMark;
use protocol::wire::{Ledger, encode_ledger};
use state_store::Host;

use super::{App, AppError, Caller, EndReason, LiveMessage, now};

/// Boots of a host whose marks its agent is told. What waits in a spool is of the latest few.
pub(super) const TOLD_MARKS: usize = 256;

/// A host with what lives in memory.
#[derive(Debug, Clone)]
pub struct HostView {
    /// As stored.
    pub host: Host,
    /// Connected, and heard of lately.
    pub online: bool,
    /// When it was last heard of on its link.
    pub last_heard: Option<Timestamp>,
    /// The account of its latest boot.
    pub ledger: Option<LedgerEntry>,
}

impl App {
    /// A page of hosts, by name; the cursor is how many came before.
    pub(crate) fn host_page(
        &self,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<HostView>, Option<String>), AppError> {
        let start: usize = match cursor {
            None => 0,
            Some(text) => text.parse().map_err(|_| AppError::Invalid(format!("`{text}` is not a cursor")))?,
        };
        let hosts = self.state.hosts()?;
        let total = hosts.len();
        let page = hosts.into_iter().skip(start).take(limit);
        let views = page.map(|host| self.view_of(host)).collect::<Result<Vec<_>, _>>()?;
        let next = start.saturating_add(views.len());
        Ok((views, (next < total).then(|| next.to_string())))
    }

    pub(crate) fn host(&self, id: HostId) -> Result<HostView, AppError> {
        let host = self.state.host(id)?.ok_or_else(|| AppError::not_found("host", id))?;
        self.view_of(host)
    }

    /// The account by kind of the host's latest boot, with that boot; nothing of a host
    /// that has not reported yet.
    pub(crate) fn host_account(&self, id: HostId) -> Result<Option<(BootId, Vec<KindAccount>)>, AppError> {
        self.state.host(id)?.ok_or_else(|| AppError::not_found("host", id))?;
        let Some(boot) = self.events.ledger(id)?.first().map(|entry| entry.boot) else { return Ok(None) };
        Ok(Some((boot, self.events.account(id, boot)?)))
    }

    /// What an agent is told when its link begins: which numbers are taken, and what it had
    /// said of itself in the boot in which it runs.
    pub(crate) fn high_water_marks(
        &self,
        host: HostId,
        boot: BootId,
    ) -> Result<Vec<HighWaterMark>, AppError> {
        let marks = self.events.high_water_marks(host, TOLD_MARKS)?.into_iter().map(|mark| {
            let kinds = (mark.boot == boot).then(|| self.events.agent_figures(host, boot)).transpose()?;
            let ledger = kinds.map(|kinds| {
                encode_ledger(&Ledger {
                    produced: mark.figures.produced,
                    dropped: mark.figures.dropped,
                    kernel_lost: mark.figures.kernel_lost,
                    kinds,
                })
            });
            Ok(HighWaterMark {
                boot_id: mark.boot.as_bytes().to_vec(),
                last_sequence: mark.last_sequence,
                batch_sha256: mark.sha256.map(Vec::from).unwrap_or_default(),
                ledger,
                last_event_at_ns: mark.last_event_at.map_or(0, Timestamp::as_nanos),
            })
        });
        marks.collect()
    }

    fn view_of(&self, host: Host) -> Result<HostView, AppError> {
        let ledger = self.events.ledger(host.id)?.into_iter().next();
        let (online, last_heard) = self.links.status(host.id);
        Ok(HostView { host, online, last_heard, ledger })
    }

    /// Shuts a host out: its certificates are no longer good, and its link ends now.
    pub(crate) fn revoke_host(&self, caller: &Caller, id: HostId) -> Result<(), AppError> {
        if !self.state.revoke_host(id, now())? {
            return Err(AppError::not_found("host", id));
        }
        self.links.end(id, EndReason::Revoked);
        self.audit(&caller.actor(), "host.revoke", &id.to_string(), "");
        self.tell_host(id);
        Ok(())
    }

    /// Tells those who watch how a host is now.
    pub(crate) fn tell_host(&self, id: HostId) {
        if !self.live.is_watched() {
            return;
        }
        match self.host(id) {
            Ok(view) => self.live.tell(LiveMessage::Host(view.into())),
            Err(error) => tracing::warn!(%id, error = super::causes(&error), "host could not be shown"),
        }
    }
}
