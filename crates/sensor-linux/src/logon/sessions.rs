//! Sessions that are open: who leaves, and how long it was.

use serde::{Deserialize, Serialize};

use super::fact::Fact;

/// More open sessions than that: the oldest are forgotten, and end without a length.
const MOST: usize = 2_048;

/// A session that began and did not end yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OpenSession {
    pub(super) user: String,
    pub(super) service: String,
    pub(super) target_user: Option<String>,
    pub(super) terminal: Option<String>,
    pub(super) session: Option<String>,
    pub(super) pids: Vec<u32>,
    /// Wall-clock nanoseconds since the Unix epoch.
    pub(super) since_ns: i64,
}

/// All of them, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sessions {
    open: Vec<OpenSession>,
}

impl Sessions {
    pub(super) fn opened(&mut self, session: OpenSession) {
        if self.open.len() >= MOST {
            self.open.remove(0);
        }
        self.open.push(session);
    }

    /// The one that this end is of.
    pub(super) fn find(&self, end: &Fact) -> Option<&OpenSession> {
        self.place(end, end.pid.as_slice()).and_then(|place| self.open.get(place))
    }

    /// Takes out the one that this end is of.
    pub(super) fn closed(&mut self, end: &Fact, pids: &[u32]) -> Option<OpenSession> {
        self.place(end, pids).map(|place| self.open.remove(place))
    }

    /// The system came up then: whoever was in before is not any more.
    pub(super) fn end_before(&mut self, boot_ns: i64) {
        self.open.retain(|open| open.since_ns >= boot_ns);
    }

    fn place(&self, end: &Fact, pids: &[u32]) -> Option<usize> {
        let ours = |open: &OpenSession| {
            end.user.as_ref().is_none_or(|user| *user == open.user)
                && end.service.as_ref().is_none_or(|service| *service == open.service)
        };
        let by =
            |is: &dyn Fn(&OpenSession) -> bool| self.open.iter().rposition(|open| ours(open) && is(open));
        by(&|open| end.session.is_some() && open.session == end.session)
            .or_else(|| by(&|open| pids.iter().any(|pid| open.pids.contains(pid))))
            .or_else(|| by(&|open| end.terminal.is_some() && open.terminal == end.terminal))
            // rsyslog's lines of sudo and su have no PID, and only say who they had become.
            .or_else(|| by(&|open| end.target_user.is_some() && open.target_user == end.target_user))
            .or_else(|| {
                by(&|open| {
                    pids.is_empty()
                        && end.terminal.is_none()
                        && end.session.is_none()
                        && open.target_user.is_none()
                })
            })
    }
}
