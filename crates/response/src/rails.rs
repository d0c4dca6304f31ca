//! The guard rails of an order: all of them stand between a survey and a permit.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use event_model::{ResponseMode, RuleId, Timestamp};

use crate::action::Action;
use crate::address::Network;
use crate::approval::{approvals_needed, approvers};
use crate::guards::Guards;
use crate::order::{Order, OrderState, Origin};
use crate::plan::Target;
use crate::platform::{Subject, Survey};
use crate::protected;

/// Actions of one rule in any hour that change something; past it a person is asked.
pub const MAX_OF_RULE_PER_HOUR: usize = 20;

/// The same of all rules of a host together.
pub const MAX_OF_HOST_PER_HOUR: usize = 60;

/// Isolations by rules, and archives of evidence for rules, in any hour.
pub const MAX_HEAVY_PER_HOUR: usize = 4;

/// Orders of rules that are looked at in any minute, whatever their mode. A survey reads files:
/// who can trigger a rule must not keep a core busy with it.
pub const MAX_RULE_ORDERS_PER_MINUTE: usize = 120;

const HOUR: Duration = Duration::from_secs(3_600);

/// Shortest prefixes that may be blocked: more would cut off a part of the world.
const WIDEST: (u8, u8) = (8, 16);

/// Stops all response of this host at once, whoever asked for it. Shared by all that act.
#[derive(Debug, Clone, Default)]
pub struct Switch(Arc<AtomicBool>);

impl Switch {
    /// Whether response is stopped.
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn set(&self, stopped: bool) {
        self.0.store(stopped, Ordering::Release);
    }
}

/// Leave to do one order. Only the guard rails make one, after all checks, and acting takes it.
#[derive(Debug)]
pub struct Permit {
    order: Order,
    survey: Survey,
    server: Vec<SocketAddr>,
}

impl Permit {
    /// What is permitted.
    pub fn order(&self) -> &Order {
        &self.order
    }

    /// What it was permitted for.
    pub fn survey(&self) -> &Survey {
        &self.survey
    }

    /// Where the server is, so that no action cuts the link to it.
    pub fn server(&self) -> &[SocketAddr] {
        &self.server
    }
}

/// Why there is no permit, as it stands in the receipt.
pub(crate) type NoPermit = (OrderState, String);

/// The guard rails of this host's orders.
pub(crate) struct Rails {
    pub(crate) guards: Guards,
    pub(crate) switch: Switch,
    pub(crate) server: Vec<SocketAddr>,
    /// Its name, where there is one.
    pub(crate) expected_server: Option<String>,
    recent: VecDeque<(Instant, RuleId, bool)>,
    /// Orders of rules in the last minute.
    asked: VecDeque<Instant>,
}

impl Rails {
    pub(crate) fn new(guards: Guards, switch: Switch) -> Self {
        Self {
            guards,
            switch,
            server: Vec::new(),
            expected_server: None,
            recent: VecDeque::new(),
            asked: VecDeque::new(),
        }
    }

    /// What can be refused before anything was looked at.
    pub(crate) fn admit(&self, order: &Order, now: Timestamp) -> Result<(), NoPermit> {
        if order.expires_at <= now {
            let reason = format!("the order expired at {}, and it is {now}", order.expires_at);
            return Err((OrderState::Refused, reason));
        }
        if let Err(bad) = order.action.check() {
            return Err((OrderState::Refused, bad.to_string()));
        }
        if self.switch.is_stopped() && !order.action.only_looks() && !order.action.is_release() {
            let reason = "all response is stopped on this host; hint: allow it again with `allow_responses`";
            return Err((OrderState::Refused, reason.to_owned()));
        }
        let may_cut_the_link = matches!(order.action, Action::IsolateHost(_) | Action::BlockAddress(_));
        if let Some(name) =
            self.expected_server.as_ref().filter(|_| may_cut_the_link && self.server.is_empty())
        {
            let reason = format!(
                "no address of the server {name} is known, and this could cut the link to it; hint: order it again \
                 once the name can be looked up on this host or the link stands, or start the agent with an address \
                 instead of a name in -server"
            );
            return Err((OrderState::Refused, reason));
        }
        Ok(())
    }

    /// Whether one more order of a rule is looked at.
    pub(crate) fn take_in(&mut self, order: &Order, now: Instant) -> Result<(), NoPermit> {
        if !matches!(order.origin, Origin::Rule { .. }) {
            return Ok(());
        }
        while self.asked.front().is_some_and(|at| now.duration_since(*at) >= HOUR / 60) {
            self.asked.pop_front();
        }
        if self.asked.len() >= MAX_RULE_ORDERS_PER_MINUTE {
            let reason = format!(
                "{MAX_RULE_ORDERS_PER_MINUTE} orders of rules in a minute are the limit: a person must approve; \
                 hint: look whether a rule matches too much"
            );
            return Err((OrderState::ApprovalNeeded, reason));
        }
        self.asked.push_back(now);
        Ok(())
    }

    /// Leave to do what was surveyed.
    pub(crate) fn permit(
        &mut self,
        order: &Order,
        survey: Survey,
        now: Timestamp,
    ) -> Result<Permit, NoPermit> {
        self.admit(order, now)?;
        if let Some(reason) = self.protected(&order.action, &survey.subject) {
            return Err((OrderState::Refused, reason));
        }
        let plan = survey.steps.join("; ");
        if let Origin::Rule { mode, .. } = &order.origin {
            match mode {
                ResponseMode::Auto => {}
                ResponseMode::Shadow => {
                    return Err((OrderState::Planned, format!("mode is `shadow`: would {plan}")));
                }
                ResponseMode::Ask => {
                    let reason = format!("mode is `ask`, waits for a person: {plan}");
                    return Err((OrderState::ApprovalNeeded, reason));
                }
                mode => return Err((OrderState::Refused, format!("mode is `{mode}`: would {plan}"))),
            }
        }
        if order.dry_run {
            return Err((OrderState::Planned, format!("dry run: would {plan}")));
        }
        if let Origin::Command { user, consent } = &order.origin {
            let needed = approvals_needed(&order.action, user, consent.fleet_hosts);
            let agreed = approvers(user, &consent.approvals);
            if agreed.len() < needed {
                let by = if agreed.is_empty() { "nobody".to_owned() } else { agreed.join(", ") };
                let reason = format!(
                    "{needed} people besides {user} must approve it ({} hosts within an hour), {by} did: {plan}",
                    consent.fleet_hosts
                );
                return Err((OrderState::ApprovalNeeded, reason));
            }
        }
        if let Origin::Rule { rule_id, .. } = &order.origin {
            let admitted = match (&order.action, &survey.subject) {
                // As often as single processes may be ended.
                (Action::KillTree(_) | Action::TerminateProcess(_), Subject::Process(target)) => {
                    self.guards.admit(rule_id, target.image).map_err(|limit| format!("{limit} in a minute"))
                }
                _ => self.count(rule_id, &order.action, Instant::now()),
            };
            if let Err(limit) = admitted {
                let reason = format!(
                    "{limit} are the limit: a person must approve; hint: look whether the rule matches too much, \
                     and order the action from the server if it is right: {plan}"
                );
                return Err((OrderState::ApprovalNeeded, reason));
            }
        }
        Ok(Permit { order: order.clone(), survey, server: self.server.clone() })
    }

    fn count(&mut self, rule: &RuleId, action: &Action, now: Instant) -> Result<(), String> {
        while self.recent.front().is_some_and(|(at, ..)| now.duration_since(*at) >= HOUR) {
            self.recent.pop_front();
        }
        let heavy = matches!(action, Action::IsolateHost(_) | Action::CollectEvidence(_));
        if heavy && self.recent.iter().filter(|(_, _, heavy)| *heavy).count() >= MAX_HEAVY_PER_HOUR {
            return Err(format!("{MAX_HEAVY_PER_HOUR} isolations and archives by rules in an hour"));
        }
        if self.recent.len() >= MAX_OF_HOST_PER_HOUR {
            return Err(format!("{MAX_OF_HOST_PER_HOUR} actions of all rules of this host in an hour"));
        }
        if self.recent.iter().filter(|(_, other, _)| other == rule).count() >= MAX_OF_RULE_PER_HOUR {
            return Err(format!("{MAX_OF_RULE_PER_HOUR} actions of one rule in an hour"));
        }
        self.recent.push_back((now, rule.clone(), heavy));
        Ok(())
    }

    fn protected(&self, action: &Action, subject: &Subject) -> Option<String> {
        let process = |target: &Target| {
            let reason = self.guards.protected(target)?;
            let (pid, executable) = (target.entity_id.pid(), &target.executable);
            Some(format!("{pid} ({executable}) is protected: {reason}"))
        };
        let file = |path: &str, file: (u64, u64)| {
            let reason = self.guards.protected_file(path, file)?;
            Some(format!("{} is protected: {reason}", path.escape_debug()))
        };
        match subject {
            Subject::Process(target) => process(target),
            Subject::File { path, file: id } => file(path, *id),
            Subject::Service { path, file: id, processes } => {
                file(path, *id).or_else(|| processes.iter().find_map(process))
            }
            // A block that is lifted can't cut anything.
            Subject::Network(network) if !matches!(action, Action::UnblockAddress(_)) => {
                let reason = self.protected_network(*network)?;
                Some(format!("{network} is protected: {reason}"))
            }
            Subject::Network(_) | Subject::Host | Subject::Nothing => None,
        }
    }

    fn protected_network(&self, network: Network) -> Option<&'static str> {
        let address = network.address();
        let widest = if address.is_ipv4() { WIDEST.0 } else { WIDEST.1 };
        if network.prefix() < widest {
            return Some("it is too wide; allowed: /8 and narrower for IPv4, /16 and narrower for IPv6");
        }
        if address.is_loopback() {
            return Some("it is this host's loopback");
        }
        if address.is_unspecified() || address.is_multicast() {
            return Some("it is no address of a single peer");
        }
        if self.server.iter().any(|server| network.contains(server.ip())) {
            return Some("the server is in it");
        }
        let mut own = protected::own_addresses().into_iter().chain(own_address_towards(address));
        if own.any(|own| network.contains(own)) {
            return Some("it is an address of this host");
        }
        if protected::resolvers().iter().any(|resolver| network.contains(*resolver)) {
            return Some("this host asks it for names");
        }
        None
    }
}

/// The address that this host would use towards that one: its own if that is its own, or if it is in
/// the same network. Nothing is sent.
fn own_address_towards(address: IpAddr) -> Option<IpAddr> {
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    // The first address of a network may be taken for a broadcast.
    socket.set_broadcast(true).ok()?;
    socket.connect((address, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_its_limits_a_rule_must_ask() {
        let mut rails = Rails::new(Guards::of_this_host(), Switch::default());
        let block = Action::BlockAddress(crate::AddressTarget {
            address: "192.0.2.1".parse().unwrap(),
            ttl_seconds: 60,
        });
        let evidence = Action::CollectEvidence(crate::EvidenceRequest::default());
        let (rule, now) = (RuleId::new("1"), Instant::now());
        for _ in 0..MAX_HEAVY_PER_HOUR {
            assert_eq!(rails.count(&rule, &evidence, now), Ok(()));
        }
        assert!(rails.count(&rule, &evidence, now).is_err());
        for _ in MAX_HEAVY_PER_HOUR..MAX_OF_RULE_PER_HOUR {
            assert_eq!(rails.count(&rule, &block, now), Ok(()));
        }
        assert!(rails.count(&rule, &block, now).is_err());
        for number in 0..MAX_OF_HOST_PER_HOUR - MAX_OF_RULE_PER_HOUR {
            let other = RuleId::new(format!("other {}", number / 10));
            assert_eq!(rails.count(&other, &block, now), Ok(()));
        }
        let fresh = RuleId::new("fresh");
        assert!(rails.count(&fresh, &block, now).unwrap_err().contains("of this host"));
        assert_eq!(rails.count(&fresh, &block, now + HOUR), Ok(()));
    }
}
