//! Rules of the Windows firewall: which ones block an address or isolate a host, how `netsh` is asked for
//! them, and how they look in the registry, where they are read back. No I/O.
//!
//! In the Windows firewall a rule that blocks wins over all that allow. So an isolation is rules that block
//! everything *but* what is kept: nothing that was there before is changed, and taking the rules away is all
//! that a release takes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::address::Network;

/// The name of all rules of an isolation.
pub(crate) const ISOLATION: &str = "Rampart isolation";

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP4: u8 = 1;
const ICMP6: u8 = 58;

/// Ports of DHCP: server and client, of IPv4 and IPv6.
const DHCP_SERVER: u16 = 67;
const DHCP_CLIENT: u16 = 68;
const DHCP6_CLIENT: u16 = 546;
const DHCP6_SERVER: u16 = 547;

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    In,
    Out,
}

pub(crate) const DIRECTIONS: [Direction; 2] = [Direction::In, Direction::Out];

impl Direction {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// From the first address to the last, as numbers; of IPv6 or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Range {
    is_v6: bool,
    first: u128,
    last: u128,
}

/// A rule that blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) name: String,
    direction: Direction,
    /// All of them if not given.
    protocol: Option<u8>,
    remote: Vec<Range>,
    /// Those of the other end that are blocked; all if there are none.
    remote_ports: Vec<(u16, u16)>,
    /// The same of this end.
    local_ports: Vec<(u16, u16)>,
}

impl Range {
    fn of(address: IpAddr) -> Self {
        Self::between(address, address)
    }

    fn between(first: IpAddr, last: IpAddr) -> Self {
        let number = |address| match address {
            IpAddr::V4(four) => u32::from(four).into(),
            IpAddr::V6(six) => u128::from(six),
        };
        Self { is_v6: first.is_ipv6(), first: number(first), last: number(last) }
    }

    fn of_network(first: IpAddr, prefix: u8) -> Self {
        let bits: u8 = if first.is_ipv6() { 128 } else { 32 };
        let range = Self::of(first);
        let free = bits.saturating_sub(prefix);
        let below = if free >= 128 { u128::MAX } else { (1 << free) - 1 };
        Self { first: range.first & !below, last: range.first | below, ..range }
    }

    /// All addresses of a family.
    fn all(is_v6: bool) -> Self {
        Self { is_v6, first: 0, last: if is_v6 { u128::MAX } else { u32::MAX.into() } }
    }

    fn shown(&self, number: u128) -> String {
        match self.is_v6 {
            true => Ipv6Addr::from(number).to_string(),
            // A range of IPv4 has no larger numbers.
            false => Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).to_string(),
        }
    }

    fn text(&self) -> String {
        match self.first == self.last {
            true => self.shown(self.first),
            false => format!("{}-{}", self.shown(self.first), self.shown(self.last)),
        }
    }
}

/// In order, and what touches is one.
fn merged(ranges: &[Range]) -> Vec<Range> {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable();
    let mut merged: Vec<Range> = Vec::new();
    for range in sorted {
        match merged.last_mut() {
            Some(before) if before.is_v6 == range.is_v6 && range.first <= before.last.saturating_add(1) => {
                before.last = before.last.max(range.last);
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// All addresses but these.
fn all_but(spared: &[Range]) -> Vec<Range> {
    let spared = merged(spared);
    let mut left = Vec::new();
    for is_v6 in [false, true] {
        let all = Range::all(is_v6);
        let mut next = Some(all.first);
        for range in spared.iter().filter(|range| range.is_v6 == is_v6) {
            if let Some(first) = next.filter(|first| *first < range.first) {
                left.push(Range { first, last: range.first - 1, is_v6 });
            }
            next = range.last.checked_add(1).filter(|next| *next <= all.last);
        }
        left.extend(next.map(|first| Range { first, ..all }));
    }
    left
}

/// All ports but these.
fn ports_but(spared: &[u16]) -> Vec<(u16, u16)> {
    let mut spared = spared.to_vec();
    spared.sort_unstable();
    spared.dedup();
    let mut left = Vec::new();
    let mut next = Some(0_u16);
    for port in spared {
        if let Some(first) = next.filter(|first| *first < port) {
            left.push((first, port - 1));
        }
        next = port.checked_add(1);
    }
    left.extend(next.map(|first| (first, u16::MAX)));
    left
}

/// The rules by which an address is refused.
pub(crate) fn of_block(network: Network) -> [Rule; 2] {
    DIRECTIONS.map(|direction| Rule {
        name: format!("Rampart block {network} {}", direction.word()),
        direction,
        protocol: None,
        remote: vec![Range::of_network(network.address(), network.prefix())],
        remote_ports: Vec::new(),
        local_ports: Vec::new(),
    })
}

/// The rules that leave a host nothing but the TCP services that are kept, itself, its neighbours' addresses
/// (ICMPv6 within the link) and its own from DHCP.
pub(crate) fn of_isolation(keep: &[SocketAddr]) -> Vec<Rule> {
    let kept: Vec<SocketAddr> =
        keep.iter().map(|one| SocketAddr::new(one.ip().to_canonical(), one.port())).collect();
    let mut addresses: Vec<IpAddr> = kept.iter().map(SocketAddr::ip).collect();
    addresses.sort_unstable();
    addresses.dedup();
    // With `::`, which is nobody's and which `netsh` takes for a mistake.
    let own = [
        Range::of_network(Ipv4Addr::LOCALHOST.into(), 8),
        Range::of_network(Ipv6Addr::LOCALHOST.into(), 127),
    ];
    // What is said to all of the link: a client whose lease ends asks everybody; IPv6 has no addresses without.
    let to_all = Range::of(Ipv4Addr::BROADCAST.into());
    let link = [
        Range::of_network(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0).into(), 10),
        Range::of_network(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0).into(), 16),
    ];
    let servers: Vec<Range> = addresses.iter().copied().map(Range::of).collect();
    let spared: Vec<Range> = own.iter().chain(&link).chain(&servers).chain([&to_all]).copied().collect();
    let others = all_but(&spared);
    let of_v6: Vec<Range> = others.iter().filter(|range| range.is_v6).copied().collect();
    let plain = |direction, protocol, remote: &[Range]| Rule {
        name: ISOLATION.to_owned(),
        direction,
        protocol,
        remote: remote.to_vec(),
        remote_ports: Vec::new(),
        local_ports: Vec::new(),
    };
    let (incoming, outgoing) = (Direction::In, Direction::Out);
    let mut rules = vec![
        plain(outgoing, None, &others),
        plain(incoming, Some(TCP), &others),
        Rule { local_ports: ports_but(&[DHCP_CLIENT, DHCP6_CLIENT]), ..plain(incoming, Some(UDP), &others) },
        plain(incoming, Some(ICMP4), &all_but_v6(&others)),
        plain(incoming, Some(ICMP6), &of_v6),
        Rule { remote_ports: ports_but(&[DHCP_SERVER]), ..plain(outgoing, Some(UDP), &[to_all]) },
        plain(outgoing, Some(TCP), &link),
        Rule { remote_ports: ports_but(&[DHCP6_SERVER]), ..plain(outgoing, Some(UDP), &link) },
        plain(incoming, Some(TCP), &link),
        Rule { local_ports: ports_but(&[DHCP6_CLIENT]), ..plain(incoming, Some(UDP), &link) },
    ];
    for address in addresses {
        let at = [Range::of(address)];
        let ports: Vec<u16> = kept.iter().filter(|one| one.ip() == address).map(SocketAddr::port).collect();
        // Answers are no new connections, which alone a rule for what comes in judges.
        rules.extend([
            Rule { remote_ports: ports_but(&ports), ..plain(outgoing, Some(TCP), &at) },
            plain(outgoing, Some(UDP), &at),
            plain(incoming, Some(TCP), &at),
            plain(incoming, Some(UDP), &at),
        ]);
    }
    rules
}

fn all_but_v6(ranges: &[Range]) -> Vec<Range> {
    ranges.iter().filter(|range| !range.is_v6).copied().collect()
}

impl Rule {
    /// What `netsh` is given to add it.
    pub(crate) fn to_add(&self) -> Vec<String> {
        let mut words: Vec<String> = ["advfirewall", "firewall", "add", "rule"].map(str::to_owned).into();
        words.push(format!("name={}", self.name));
        words.push(format!("dir={}", self.direction.word()));
        words.push("action=block".to_owned());
        let protocol = self.protocol.map_or_else(|| "any".to_owned(), |number| number.to_string());
        words.push(format!("protocol={protocol}"));
        let remote: Vec<String> = self.remote.iter().map(Range::text).collect();
        words.push(format!("remoteip={}", remote.join(",")));
        let ports = |ports: &[(u16, u16)]| {
            let one = |(first, last): &(u16, u16)| match first == last {
                true => first.to_string(),
                false => format!("{first}-{last}"),
            };
            ports.iter().map(one).collect::<Vec<_>>().join(",")
        };
        if !self.local_ports.is_empty() {
            words.push(format!("localport={}", ports(&self.local_ports)));
        }
        if !self.remote_ports.is_empty() {
            words.push(format!("remoteport={}", ports(&self.remote_ports)));
        }
        words
    }

    /// Whether this rule, active and blocking, is what a text of the firewall's registry key says. Ports are
    /// not compared: Windows writes them in several ways.
    pub(crate) fn is(&self, stored: &str) -> bool {
        let Some(stored) = Stored::read(stored) else { return false };
        stored.name == self.name
            && stored.blocks
            && stored.direction == Some(self.direction)
            && stored.protocol == self.protocol
            && stored.has_ports != (self.remote_ports.is_empty() && self.local_ports.is_empty())
            && stored.remote == merged(&self.remote)
    }
}

/// What `netsh` is given to delete all rules of a name.
pub(crate) fn to_delete(name: &str) -> Vec<String> {
    let mut words: Vec<String> = ["advfirewall", "firewall", "delete", "rule"].map(str::to_owned).into();
    words.push(format!("name={name}"));
    words
}

/// The name of the rule that a text of the firewall's registry key is.
pub(crate) fn name_of(stored: &str) -> Option<&str> {
    stored.split('|').find_map(|part| part.strip_prefix("Name="))
}

/// Words as a person would type them after `netsh`.
pub(crate) fn typed(words: &[String]) -> String {
    let quoted = words.iter().map(|word| match word.split_once('=') {
        Some((key, value)) if value.contains(' ') => format!("{key}=\"{value}\""),
        _ => word.clone(),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// A rule as the firewall keeps it: `v2.31|Action=Block|Active=TRUE|Dir=Out|RA4=192.0.2.7|Name=…|`.
struct Stored<'a> {
    name: &'a str,
    blocks: bool,
    direction: Option<Direction>,
    protocol: Option<u8>,
    has_ports: bool,
    remote: Vec<Range>,
}

impl<'a> Stored<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let name = name_of(text)?;
        let (mut action, mut active, mut narrowed) = (false, false, false);
        let mut stored = Self {
            name,
            blocks: false,
            direction: None,
            protocol: None,
            has_ports: false,
            remote: Vec::new(),
        };
        for part in text.split('|') {
            let Some((key, value)) = part.split_once('=') else { continue };
            match key {
                "Action" => action = value.eq_ignore_ascii_case("block"),
                "Active" => active = value.eq_ignore_ascii_case("true"),
                "Dir" => {
                    stored.direction =
                        DIRECTIONS.into_iter().find(|one| value.eq_ignore_ascii_case(one.word()));
                }
                "Protocol" => stored.protocol = value.parse().ok(),
                "RA4" | "RA6" => stored.remote.push(range(value)?),
                "Name" | "Desc" | "EmbedCtxt" => {}
                _ if key.starts_with("LPort") || key.starts_with("RPort") => stored.has_ports = true,
                // For a program, a service, a profile, an interface only: not a rule as we make them.
                _ => narrowed = true,
            }
        }
        stored.blocks = action && active && !narrowed;
        stored.remote = merged(&stored.remote);
        Some(stored)
    }
}

/// An address, a range of them, or a network with the length or the mask of its prefix.
fn range(text: &str) -> Option<Range> {
    if let Some((first, last)) = text.split_once('-') {
        return Some(Range::between(first.parse().ok()?, last.parse().ok()?));
    }
    let Some((address, prefix)) = text.split_once('/') else { return Some(Range::of(text.parse().ok()?)) };
    let prefix = match prefix.parse::<Ipv4Addr>() {
        Ok(mask) => u8::try_from(u32::from(mask).leading_ones()).ok()?,
        Err(_) => prefix.parse().ok()?,
    };
    Some(Range::of_network(address.parse().ok()?, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(rule: &Rule) -> String {
        typed(&rule.to_add())
    }

    /// Whether a rule that blocks holds this.
    fn blocked(rules: &[Rule], direction: Direction, protocol: u8, peer: &str, ports: (u16, u16)) -> bool {
        let peer = Range::of(peer.parse().unwrap());
        let (local, remote) = ports;
        let within = |list: &[(u16, u16)], port: u16| {
            list.is_empty() || list.iter().any(|(first, last)| (*first..=*last).contains(&port))
        };
        rules.iter().any(|rule| {
            rule.direction == direction
                && rule.protocol.is_none_or(|own| own == protocol)
                && rule.remote.iter().any(|range| {
                    range.is_v6 == peer.is_v6 && range.first <= peer.first && peer.last <= range.last
                })
                && within(&rule.local_ports, local)
                && within(&rule.remote_ports, remote)
        })
    }

    #[test]
    fn an_isolated_host_has_its_server_and_what_addresses_take_and_nothing_else() {
        let keep = ["203.0.113.5:8443".parse().unwrap(), "[2001:db8::5]:8443".parse().unwrap()];
        let rules = of_isolation(&keep);
        let (incoming, outgoing) = (Direction::In, Direction::Out);
        let free = [
            (outgoing, TCP, "203.0.113.5", (50_000, 8443)),
            (outgoing, TCP, "2001:db8::5", (50_000, 8443)),
            (outgoing, TCP, "127.0.0.1", (50_000, 80)),
            (outgoing, UDP, "255.255.255.255", (DHCP_CLIENT, DHCP_SERVER)),
            (incoming, UDP, "10.0.0.1", (DHCP_CLIENT, DHCP_SERVER)),
            (outgoing, UDP, "ff02::1:2", (DHCP6_CLIENT, DHCP6_SERVER)),
            (outgoing, ICMP6, "ff02::1:ff00:5", (0, 0)),
            (incoming, ICMP6, "fe80::1", (0, 0)),
        ];
        for (direction, protocol, peer, ports) in free {
            let is = blocked(&rules, direction, protocol, peer, ports);
            assert!(!is, "{direction:?} {protocol} {peer} {ports:?}");
        }
        let cut = [
            (outgoing, TCP, "203.0.113.5", (50_000, 22)),
            (outgoing, UDP, "203.0.113.5", (50_000, 8443)),
            (incoming, TCP, "203.0.113.5", (445, 50_000)),
            (outgoing, TCP, "203.0.113.4", (50_000, 8443)),
            (outgoing, TCP, "203.0.113.6", (50_000, 8443)),
            (outgoing, UDP, "8.8.8.8", (50_000, 53)),
            (outgoing, UDP, "8.8.8.8", (DHCP_CLIENT, DHCP_SERVER)),
            (outgoing, ICMP4, "8.8.8.8", (0, 0)),
            (outgoing, 47, "8.8.8.8", (0, 0)),
            (outgoing, TCP, "0.0.0.0", (1, 1)),
            (outgoing, TCP, "255.255.255.254", (1, 1)),
            (outgoing, UDP, "255.255.255.255", (50_000, 53)),
            (outgoing, TCP, "::2", (1, 1)),
            (outgoing, TCP, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", (1, 1)),
            (outgoing, TCP, "fe80::1", (50_000, 445)),
            (outgoing, UDP, "ff02::fb", (5353, 5353)),
            (incoming, TCP, "fe80::1", (445, 50_000)),
            (incoming, TCP, "10.0.0.1", (3389, 50_000)),
            (incoming, UDP, "10.0.0.1", (53, DHCP_SERVER)),
            (incoming, ICMP6, "2001:db8::9", (0, 0)),
        ];
        for (direction, protocol, peer, ports) in cut {
            let is = blocked(&rules, direction, protocol, peer, ports);
            assert!(is, "{direction:?} {protocol} {peer} {ports:?}");
        }
    }

    #[test]
    fn what_netsh_is_asked_for_is_what_a_person_would_type() {
        let [_, out] = of_block("192.0.2.0/24".parse().unwrap());
        assert_eq!(
            words(&out),
            "advfirewall firewall add rule name=\"Rampart block 192.0.2.0/24 out\" dir=out action=block \
             protocol=any remoteip=192.0.2.0-192.0.2.255"
        );
        let rules = of_isolation(&["203.0.113.5:8443".parse().unwrap()]);
        assert!(words(&rules[0]).contains("remoteip=0.0.0.0-126.255.255.255,128.0.0.0-203.0.113.4,"));
        let server = rules.iter().map(words).find(|rule| rule.contains("remoteip=203.0.113.5 ")).unwrap();
        assert!(server.ends_with("remoteport=0-8442,8444-65535"), "{server}");
        assert_eq!(
            typed(&to_delete(ISOLATION)),
            "advfirewall firewall delete rule name=\"Rampart isolation\""
        );
    }

    #[test]
    fn a_rule_is_known_again_by_what_the_registry_says_and_by_no_less() {
        let [_, out] = of_block("192.0.2.0/24".parse().unwrap());
        let whole = "v2.31|Action=Block|Active=TRUE|Dir=Out|RA4=192.0.2.0/255.255.255.0|\
                     Name=Rampart block 192.0.2.0/24 out|";
        assert!(out.is(whole));
        assert!(out.is(&whole.replace("192.0.2.0/255.255.255.0", "192.0.2.0-192.0.2.255")));
        assert!(out.is(&whole.replace("RA4=192.0.2.0/255.255.255.0", "RA4=192.0.2.0/25|RA4=192.0.2.128/25")));
        for (from, to) in [
            ("Action=Block", "Action=Allow"),
            ("Active=TRUE", "Active=FALSE"),
            ("Dir=Out", "Dir=In"),
            ("RA4=192.0.2.0/255.255.255.0", "RA4=192.0.2.0/255.255.255.128"),
            ("RA4=192.0.2.0/255.255.255.0|", ""),
            ("Dir=Out|", "Dir=Out|Protocol=6|"),
            ("Dir=Out|", r"Dir=Out|App=C:\x.exe|"),
            ("Dir=Out|", "Dir=Out|Profile=Public|"),
            ("Dir=Out|", "Dir=Out|RPort=80|"),
            ("RA4=192.0.2.0/255.255.255.0", "RA4=LocalSubnet"),
            (" out|", " in|"),
        ] {
            let other = whole.replace(from, to);
            assert_ne!(other, whole);
            assert!(!out.is(&other), "{other}");
        }
        for broken in ["", "|||", "v2.31|Name=", "Name=Rampart block 192.0.2.0/24 out", "v2.31|RA4=-|Name=x|"]
        {
            assert!(!out.is(broken), "{broken}");
        }
    }

    #[test]
    fn all_but_nothing_is_all_and_all_but_all_is_nothing() {
        let both = [Range::all(false), Range::all(true)];
        assert_eq!(all_but(&[]), both);
        assert_eq!(all_but(&both), []);
        assert_eq!(ports_but(&[]), [(0, u16::MAX)]);
        assert_eq!(ports_but(&[0, 1, u16::MAX]), [(2, u16::MAX - 1)]);
    }
}
