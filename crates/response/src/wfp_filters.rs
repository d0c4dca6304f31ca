//! Filters of the Windows Filtering Platform: which ones block an address or isolate a host, and what is done where
//! they can't be had. No I/O.
//!
//! The one with the largest weight of those that fit decides. So an isolation is filters that permit what is kept,
//! above four that block everything. What they permit other programs' filters, the Windows firewall's among them, may
//! still block; what they block only a hard permit in a heavier sublayer permits.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::address::Network;
use crate::firewall_rules::{ISOLATION, Rule, of_block, of_isolation};
use crate::platform::Failure;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP6: u8 = 58;

/// Ports of DHCP: server and client, of IPv4 and IPv6.
const DHCP_SERVER: u16 = 67;
const DHCP_CLIENT: u16 = 68;
const DHCP6_CLIENT: u16 = 546;
const DHCP6_SERVER: u16 = 547;

/// An address that is blocked stays so in an isolation; what is kept is above what is cut.
const BLOCKED: u8 = 14;
const KEPT: u8 = 10;
const CUT: u8 = 1;

/// Where a filter judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    ConnectV4,
    ConnectV6,
    AcceptV4,
    AcceptV6,
}

const LAYERS: [Layer; 4] = [Layer::ConnectV4, Layer::ConnectV6, Layer::AcceptV4, Layer::AcceptV6];

impl Layer {
    fn is_v6(self) -> bool {
        matches!(self, Self::ConnectV6 | Self::AcceptV6)
    }
}

/// What must be so for a filter to judge. In this order in each filter, at most one of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Condition {
    Loopback,
    Protocol(u8),
    /// A network: its address and the bits of it.
    Remote(IpAddr, u8),
    RemotePort(u16),
    LocalPort(u16),
}

/// A filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) name: String,
    pub(crate) layer: Layer,
    pub(crate) permits: bool,
    pub(crate) weight: u8,
    pub(crate) conditions: Vec<Condition>,
}

/// What holds a block or an isolation: filters, or else rules of the Windows firewall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Barrier {
    /// The names of all of them, of filters and rules alike.
    pub(crate) names: Vec<String>,
    pub(crate) filters: Vec<Filter>,
    pub(crate) rules: Vec<Rule>,
}

impl Barrier {
    /// What refuses an address.
    pub(crate) fn of_block(network: Network) -> Self {
        let rules = of_block(network);
        let [_, outgoing] = &rules;
        let names = rules.iter().map(|rule| rule.name.clone()).collect();
        let filters = filters_of_block(&outgoing.name, network);
        Self { names, filters, rules: rules.into() }
    }

    /// What leaves a host nothing but what is kept.
    pub(crate) fn of_isolation(keep: &[SocketAddr]) -> Self {
        Self {
            names: vec![ISOLATION.to_owned()],
            filters: filters_of_isolation(keep),
            rules: of_isolation(keep),
        }
    }
}

/// Both ways by one name, as they are added and removed together.
fn filters_of_block(name: &str, network: Network) -> Vec<Filter> {
    let of_its_family = |layer: &Layer| layer.is_v6() == network.address().is_ipv6();
    let block = |layer| Filter {
        name: name.to_owned(),
        layer,
        permits: false,
        weight: BLOCKED,
        conditions: vec![Condition::Remote(network.address(), network.prefix())],
    };
    LAYERS.into_iter().filter(of_its_family).map(block).collect()
}

/// TCP to what is kept, the host itself, its addresses from DHCP, and its neighbours' (ICMPv6 within the link).
fn filters_of_isolation(keep: &[SocketAddr]) -> Vec<Filter> {
    use Condition::{LocalPort, Loopback, Protocol, Remote, RemotePort};
    let filter = |layer, permits, weight, conditions| Filter {
        name: ISOLATION.to_owned(),
        layer,
        permits,
        weight,
        conditions,
    };
    let kept = |layer, conditions| filter(layer, true, KEPT, conditions);
    let mut filters: Vec<Filter> = LAYERS.map(|layer| filter(layer, false, CUT, Vec::new())).into();
    filters.extend(LAYERS.map(|layer| kept(layer, vec![Loopback])));
    let mut servers: Vec<SocketAddr> =
        keep.iter().map(|one| SocketAddr::new(one.ip().to_canonical(), one.port())).collect();
    servers.sort_unstable();
    servers.dedup();
    // Answers are no new connections, which alone the layers for what comes in judge.
    filters.extend(servers.iter().map(|server| {
        let (layer, bits) = if server.is_ipv6() { (Layer::ConnectV6, 128) } else { (Layer::ConnectV4, 32) };
        kept(layer, vec![Protocol(TCP), Remote(server.ip(), bits), RemotePort(server.port())])
    }));
    // A client whose lease ends asks everybody; who answers may be anybody.
    let everybody = Remote(Ipv4Addr::BROADCAST.into(), 32);
    let link = [
        Remote(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0).into(), 10),
        Remote(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0).into(), 16),
    ];
    // Who asks whether an address is free has none yet.
    let nobody = Remote(Ipv6Addr::UNSPECIFIED.into(), 128);
    filters.push(kept(Layer::ConnectV4, vec![Protocol(UDP), everybody, RemotePort(DHCP_SERVER)]));
    filters.push(kept(Layer::AcceptV4, vec![Protocol(UDP), LocalPort(DHCP_CLIENT)]));
    filters.push(kept(Layer::AcceptV6, vec![Protocol(UDP), LocalPort(DHCP6_CLIENT)]));
    filters.push(kept(Layer::AcceptV6, vec![Protocol(ICMP6), nobody]));
    for network in link {
        filters.push(kept(Layer::ConnectV6, vec![Protocol(UDP), network, RemotePort(DHCP6_SERVER)]));
        filters.push(kept(Layer::ConnectV6, vec![Protocol(ICMP6), network]));
        filters.push(kept(Layer::AcceptV6, vec![Protocol(ICMP6), network]));
    }
    filters
}

/// How many of the wanted filters are not there, and how many of their names are there that nobody wants. Weights are
/// not compared: what is read has none.
pub(crate) fn differing(wanted: &[Filter], there: &[Filter]) -> (usize, usize) {
    let same = |one: &Filter, other: &Filter| {
        Filter { weight: 0, ..one.clone() } == Filter { weight: 0, ..other.clone() }
    };
    let missing = wanted.iter().filter(|one| !there.iter().any(|other| same(one, other))).count();
    let of_ours = there.iter().filter(|other| wanted.iter().any(|one| one.name == other.name));
    let foreign = of_ours.filter(|other| !wanted.iter().any(|one| same(one, other))).count();
    (missing, foreign)
}

/// By what a barrier stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Means {
    Filters,
    /// Of the Windows firewall; why there are no filters.
    Rules(String),
}

impl Means {
    /// As a receipt tells it.
    pub(crate) fn in_words(&self) -> String {
        match self {
            Self::Filters => "filters (WFP)".to_owned(),
            Self::Rules(why) => format!("rules of the Windows firewall; no filters: {why}"),
        }
    }
}

/// Filters if they can be had and read back, else rules; `why_not` is known before.
///
/// # Errors
/// Neither can be had: why not the rules, and why not the filters.
pub(crate) fn raised(
    why_not: Option<String>,
    filters: impl FnOnce() -> Result<(), Failure>,
    rules: impl FnOnce() -> Result<(), Failure>,
) -> Result<Means, Failure> {
    let why = match why_not {
        Some(why) => why,
        None => match filters() {
            Ok(()) => return Ok(Means::Filters),
            Err(failure) => failure.to_string(),
        },
    };
    match rules() {
        Ok(()) => Ok(Means::Rules(why)),
        // What was refused is told as that, whatever stood against the other way.
        Err(failure @ Failure::NotAllowed { .. }) => Err(failure),
        Err(failure) => Err(Failure::system(format!("without filters of its own ({why})"), failure)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether this is blocked: the largest weight decides, and what no filter knows is free.
    fn blocked(filters: &[Filter], layer: Layer, protocol: u8, peer: &str, ports: (u16, u16)) -> bool {
        let (peer, (local, remote)) = (peer.parse::<IpAddr>().unwrap(), ports);
        let within = |network: IpAddr, bits: u8| match (network, peer) {
            (IpAddr::V4(network), IpAddr::V4(peer)) => {
                (u32::from(network) ^ u32::from(peer)).leading_zeros() >= bits.into()
            }
            (IpAddr::V6(network), IpAddr::V6(peer)) => {
                (u128::from(network) ^ u128::from(peer)).leading_zeros() >= bits.into()
            }
            _ => false,
        };
        let fits = |filter: &&Filter| {
            filter.layer == layer
                && filter.conditions.iter().all(|condition| match condition {
                    Condition::Loopback => peer.is_loopback(),
                    Condition::Protocol(own) => *own == protocol,
                    Condition::Remote(network, bits) => within(*network, *bits),
                    Condition::RemotePort(own) => *own == remote,
                    Condition::LocalPort(own) => *own == local,
                })
        };
        let decides = filters.iter().filter(fits).max_by_key(|filter| filter.weight);
        decides.is_some_and(|filter| !filter.permits)
    }

    #[test]
    fn filters_leave_an_isolated_host_its_server_and_what_addresses_take_and_nothing_else() {
        use Layer::{AcceptV4, AcceptV6, ConnectV4, ConnectV6};
        let keep = ["203.0.113.5:8443".parse().unwrap(), "[2001:db8::5]:8443".parse().unwrap()];
        let filters = Barrier::of_isolation(&keep).filters;
        for (layer, protocol, peer, ports) in [
            (ConnectV4, TCP, "203.0.113.5", (50_000, 8443)),
            (ConnectV6, TCP, "2001:db8::5", (50_000, 8443)),
            (ConnectV4, TCP, "127.0.0.1", (50_000, 80)),
            (AcceptV6, TCP, "::1", (80, 50_000)),
            (ConnectV4, UDP, "255.255.255.255", (DHCP_CLIENT, DHCP_SERVER)),
            (AcceptV4, UDP, "10.0.0.1", (DHCP_CLIENT, DHCP_SERVER)),
            (ConnectV6, UDP, "ff02::1:2", (DHCP6_CLIENT, DHCP6_SERVER)),
            (AcceptV6, UDP, "fe80::1", (DHCP6_CLIENT, DHCP6_SERVER)),
            (ConnectV6, ICMP6, "ff02::1:ff00:5", (0, 0)),
            (AcceptV6, ICMP6, "fe80::1", (0, 0)),
            (AcceptV6, ICMP6, "::", (0, 0)),
        ] {
            let is = blocked(&filters, layer, protocol, peer, ports);
            assert!(!is, "{layer:?} {protocol} {peer} {ports:?}");
        }
        for (layer, protocol, peer, ports) in [
            (ConnectV4, TCP, "203.0.113.5", (50_000, 22)),
            (ConnectV4, UDP, "203.0.113.5", (50_000, 8443)),
            (AcceptV4, TCP, "203.0.113.5", (445, 50_000)),
            (AcceptV4, TCP, "203.0.113.5", (50_000, 8443)),
            (ConnectV4, TCP, "203.0.113.4", (50_000, 8443)),
            (ConnectV4, UDP, "8.8.8.8", (50_000, 53)),
            (ConnectV4, UDP, "8.8.8.8", (DHCP_CLIENT, DHCP_SERVER)),
            (ConnectV4, UDP, "255.255.255.255", (50_000, 53)),
            (ConnectV4, 1, "8.8.8.8", (0, 0)),
            (ConnectV4, 47, "8.8.8.8", (0, 0)),
            (AcceptV4, 47, "8.8.8.8", (0, 0)),
            (AcceptV4, TCP, "10.0.0.1", (3389, 50_000)),
            (AcceptV4, UDP, "10.0.0.1", (53, DHCP_SERVER)),
            (ConnectV6, TCP, "fe80::1", (50_000, 445)),
            (ConnectV6, UDP, "ff02::fb", (5353, 5353)),
            (AcceptV6, TCP, "fe80::1", (445, 50_000)),
            (AcceptV6, ICMP6, "2001:db8::9", (0, 0)),
            (ConnectV6, ICMP6, "2001:db8::9", (0, 0)),
            (ConnectV6, TCP, "2001:db8::6", (50_000, 8443)),
        ] {
            let is = blocked(&filters, layer, protocol, peer, ports);
            assert!(is, "{layer:?} {protocol} {peer} {ports:?}");
        }
    }

    #[test]
    fn an_address_is_blocked_both_ways_and_nobody_else_is_also_in_an_isolation() {
        let block = Barrier::of_block("192.0.2.0/24".parse().unwrap());
        assert_eq!(block.filters.len(), 2);
        assert!(block.filters.iter().all(|filter| block.names.contains(&filter.name)));
        let isolation = Barrier::of_isolation(&["192.0.2.7:8443".parse().unwrap()]);
        let both = [block.filters.clone(), isolation.filters].concat();
        for (layer, peer, is) in [
            (Layer::ConnectV4, "192.0.2.255", true),
            (Layer::AcceptV4, "192.0.2.0", true),
            (Layer::ConnectV4, "192.0.3.0", false),
            (Layer::ConnectV6, "2001:db8::1", false),
        ] {
            assert_eq!(blocked(&block.filters, layer, TCP, peer, (1, 8443)), is, "{peer}");
        }
        assert!(blocked(&both, Layer::ConnectV4, TCP, "192.0.2.7", (1, 8443)));
        let six = Barrier::of_block("2001:db8::/32".parse().unwrap()).filters;
        assert!(six.iter().all(|filter| filter.layer.is_v6()) && six.len() == 2);
    }

    #[test]
    fn filters_are_known_again_by_all_that_they_do_but_their_weight() {
        let wanted = Barrier::of_isolation(&["203.0.113.5:8443".parse().unwrap()]).filters;
        for filter in &wanted {
            assert!(filter.conditions.is_sorted(), "as they are read: {filter:?}");
        }
        let read: Vec<Filter> = wanted.iter().map(|one| Filter { weight: 0, ..one.clone() }).collect();
        assert_eq!(differing(&wanted, &read), (0, 0));
        assert_eq!(differing(&wanted, &[]), (wanted.len(), 0));
        let other = Filter { permits: true, ..read[0].clone() };
        let changed = [&read[1..], std::slice::from_ref(&other)].concat();
        assert_eq!(differing(&wanted, &changed), (1, 1));
        let of_another = Filter { name: "Rampart block 192.0.2.7 out".to_owned(), ..other };
        assert_eq!(differing(&wanted, &[&read[..], &[of_another]].concat()), (0, 0));
    }

    #[test]
    fn rules_stand_in_where_filters_can_not_be_had_and_a_failure_tells_of_both() {
        let failure = |what: &str| Err(Failure::NotProved(what.to_owned()));
        fn never() -> Result<(), Failure> {
            panic!("it is not asked for")
        }
        assert_eq!(raised(None, || Ok(()), never), Ok(Means::Filters));
        let rules = raised(None, || failure("2 filters are missing"), || Ok(())).unwrap();
        assert_eq!(rules, Means::Rules("not proved: 2 filters are missing".to_owned()));
        assert!(rules.in_words().ends_with("2 filters are missing"), "the receipt says why");
        assert_eq!(
            raised(Some("no BFE".to_owned()), never, || Ok(())),
            Ok(Means::Rules("no BFE".to_owned()))
        );
        let both = raised(Some("no BFE".to_owned()), never, || failure("no rule")).unwrap_err().to_string();
        assert!(both.contains("no BFE") && both.contains("no rule"), "{both}");
        let off =
            Failure::NotAllowed { subject: "the firewall".to_owned(), why: "is off".to_owned(), hint: "" };
        assert_eq!(raised(None, || failure("x"), || Err(off.clone())), Err(off));
    }
}
