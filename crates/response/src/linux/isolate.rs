//! The host cut off from all but the server, in one transaction.
//!
//! Two tables: `inet` for what goes through the IP stack, and `netdev` for each
//! device's way out, since frames of raw sockets pass by the first. Nothing is
//! dropped unless an element of a set of the kernel says so, and that element has a
//! timeout: when its time is over the host is free, also with the agent dead.
//! What is in force is kept on disk, so that an agent that starts (after a reboot
//! too) puts it back for the time that is left.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

use crate::action::Isolation;
use crate::isolation::{Due, InForce, Left, kept_besides, now_seconds, reachable, released, still_reached};
use crate::platform::{Failure, Interference, Notice, Progress, Subject, Survey};
use crate::rails::Permit;

use super::{Linux, nft};

const RELEASE: &str = "\
add table inet rampart_isolation
delete table inet rampart_isolation
add table netdev rampart_isolation
delete table netdev rampart_isolation
";

impl Linux {
    pub(super) fn survey_isolate(&self, isolation: &Isolation) -> Result<Survey, Failure> {
        nft::is_there()?;
        let seconds = isolation.ttl_seconds;
        let steps = vec![
            "nft: drop all traffic but loopback, the server's addresses, ARP, neighbour discovery and DHCP, \
             in inet rampart_isolation and, for raw frames, in netdev rampart_isolation"
                .to_owned(),
            format!("the kernel releases the host after {seconds} s"),
            format!("kept besides the server: {}", kept_besides(&isolation.keep)),
        ];
        Ok(Survey { steps, subject: Subject::Host })
    }

    pub(super) fn survey_release(&self) -> Result<Survey, Failure> {
        nft::is_there()?;
        let steps = vec!["nft: delete the tables rampart_isolation (inet and netdev)".to_owned()];
        Ok(Survey { steps, subject: Subject::Host })
    }

    pub(super) fn isolate(
        &mut self,
        isolation: &Isolation,
        permit: &Permit,
        progress: &mut Progress<'_>,
    ) -> Result<Value, Failure> {
        let server = permit.server();
        let keep: Vec<SocketAddr> = server.iter().chain(&isolation.keep).copied().collect();
        let devices = devices();
        let script = script(&keep, &devices, isolation.ttl_seconds);
        progress.step("the kernel checked the rules", || nft::check(&script))?;
        let reached_before = reachable(server);
        let until = now_seconds().saturating_add(isolation.ttl_seconds.into());
        // Before the commit: an agent that ends right after it must know what is in force.
        let planned = InForce {
            until,
            left: Some(Left::from_now(self.boot, isolation.ttl_seconds)),
            keep,
            devices,
            release_hash: isolation.release_hash.clone(),
            order: Some(permit.order().id),
            boot: Some(self.boot),
            listing: String::new(),
            releasing: false,
        };
        progress.step("noted the isolation", || self.isolation.keep(planned.clone()))?;
        let committed = progress.step("committed the rules", || nft::commit(&script)).and_then(|()| {
            progress.step("reached the server through them", || still_reached(reached_before, server))
        });
        let noted = committed.and_then(|()| {
            let listing = listing()?;
            progress.step("noted the rules", || self.isolation.keep(InForce { listing, ..planned.clone() }))
        });
        if let Err(failure) = noted {
            let released = self.isolation.forget().and(nft::commit(RELEASE));
            return Err(match released {
                Ok(()) => failure,
                Err(release) => Failure::system(
                    format!("{failure}; taking the rules back"),
                    format!("{release}; the kernel releases the host after {} s", isolation.ttl_seconds),
                ),
            });
        }
        Ok(json!({
            "until": planned.until,
            "kept": planned.keep,
            "server_reached": reached_before.is_some(),
        }))
    }

    pub(super) fn release(&mut self, progress: &mut Progress<'_>) -> Result<Value, Failure> {
        // Forgotten first: what is noted would be put back by the watch. If the rules can't be deleted
        // then, the kernel lets them go when their time is over.
        progress.step("forgot the isolation", || self.isolation.forget())?;
        progress.step("deleted the rules", || nft::commit(RELEASE))?;
        Ok(Value::Null)
    }

    /// After a crash in an isolation: it stands whole, or not at all. Otherwise the watch would put in
    /// force what the receipt calls failed.
    pub(super) fn recover_isolation(&mut self) -> Result<String, Failure> {
        self.is_isolated().map_err(|failure| {
            let released = self.isolation.forget().and(nft::commit(RELEASE));
            released.err().map_or(failure, |release| {
                Failure::system("taking the rules of a half isolation back", release)
            })
        })
    }

    /// After a crash in a release: it is finished.
    pub(super) fn recover_release(&mut self) -> Result<String, Failure> {
        self.isolation.forget()?;
        nft::commit(RELEASE)?;
        self.is_released()
    }

    pub(super) fn is_isolated(&self) -> Result<String, Failure> {
        let not_proved = |what: &str| Failure::NotProved(format!("isolation: {what}"));
        for family in ["ipv4", "ipv6"] {
            nft::ask(&["get", "element", "inet", "rampart_isolation", "held", &format!("{{ {family} }}")])
                .map_err(|_| not_proved("the kernel does not hold it"))?;
        }
        let rules = nft::ask(&["list", "table", "inet", "rampart_isolation"])?;
        if rules.matches("@held drop").count() != 3 {
            return Err(not_proved("a rule is missing"));
        }
        let devices = devices();
        let raw = nft::ask(&["list", "table", "netdev", "rampart_isolation"]).unwrap_or_default();
        if raw.matches("@held drop").count() < devices.len() {
            return Err(not_proved("a device's rule against raw frames is missing"));
        }
        Ok(format!("the kernel drops all but what is kept, on {} devices", devices.len()))
    }

    pub(super) fn is_released(&self) -> Result<String, Failure> {
        for family in ["inet", "netdev"] {
            if nft::ask(&["list", "table", family, "rampart_isolation"]).is_ok() {
                return Err(Failure::NotProved(format!("table {family} rampart_isolation is still there")));
            }
        }
        Ok("no rule of the isolation is there".to_owned())
    }

    /// Puts back what others took away, for the time that is left, and takes in new devices. Where all
    /// response is stopped it only lets go.
    pub(super) fn watch_isolation(&mut self, may_act: bool) -> Vec<Notice> {
        let (in_force, left) = match self.isolation.due(self.boot) {
            Due::Nothing => return Vec::new(),
            Due::WrongCode(notice) => return vec![notice],
            Due::Release(notice) => {
                return vec![released(notice, self.isolation.forget().and(nft::commit(RELEASE)))];
            }
            Due::Hold(in_force, left) => (in_force, left),
        };
        if !may_act {
            return Vec::new();
        }
        let (devices, order) = (devices(), in_force.order);
        let as_committed = listing().is_ok_and(|listing| listing == in_force.listing);
        // A device that came since, and a reboot, are nobody's interference.
        let is_changed = !as_committed && in_force.boot == Some(self.boot) && !in_force.listing.is_empty();
        let same = as_committed && self.is_isolated().is_ok();
        if same && devices == in_force.devices {
            return Vec::new();
        }
        let again = nft::commit(&script(&in_force.keep, &devices, left)).and_then(|()| {
            let listing = listing()?;
            self.isolation.keep(InForce { devices, listing, boot: Some(self.boot), ..in_force })
        });
        let text = match again {
            Ok(()) => format!("the isolation's rules were not as committed; put back for {left} s"),
            Err(failure) => {
                format!("the isolation's rules are not as committed, and can't be put back: {failure}")
            }
        };
        vec![Notice { text, interference: is_changed.then_some(Interference::Changed), order }]
    }
}

fn script(keep: &[SocketAddr], devices: &[String], seconds: u32) -> String {
    let mut script = RELEASE.to_owned();
    let mut line = |text: std::fmt::Arguments<'_>| {
        let _ = writeln!(script, "{text}");
    };
    line(format_args!("add table inet rampart_isolation"));
    line(format_args!("add set inet rampart_isolation held {{ typeof meta nfproto; flags timeout; }}"));
    line(format_args!(
        "add element inet rampart_isolation held {{ ipv4 timeout {seconds}s, ipv6 timeout {seconds}s }}"
    ));
    for (chain, hook, out, loopback) in [
        ("incoming", "input", false, "iif"),
        ("outgoing", "output", true, "oif"),
        ("passing", "forward", true, "oif"),
    ] {
        line(format_args!(
            "add chain inet rampart_isolation {chain} {{ type filter hook {hook} priority -300; policy accept; }}"
        ));
        let rule = format!("add rule inet rampart_isolation {chain}");
        if hook != "forward" {
            line(format_args!("{rule} {loopback} \"lo\" accept"));
            kept(&rule, keep, out).into_iter().for_each(|one| line(format_args!("{one}")));
        }
        line(format_args!("{rule} meta nfproto @held drop"));
    }
    line(format_args!("add table netdev rampart_isolation"));
    line(format_args!("add set netdev rampart_isolation held {{ type iface_index; flags timeout; }}"));
    for (number, device) in devices.iter().enumerate() {
        line(format_args!("add element netdev rampart_isolation held {{ \"{device}\" timeout {seconds}s }}"));
        line(format_args!(
            "add chain netdev rampart_isolation out_{number} \
             {{ type filter hook egress device \"{device}\" priority -500; policy accept; }}"
        ));
        let rule = format!("add rule netdev rampart_isolation out_{number}");
        line(format_args!("{rule} ether type arp accept"));
        kept(&rule, keep, true).into_iter().for_each(|one| line(format_args!("{one}")));
        line(format_args!("{rule} meta oif @held drop"));
    }
    script
}

/// Rules that accept what is kept: the server, and what an address needs to stay one.
fn kept(rule: &str, keep: &[SocketAddr], out: bool) -> Vec<String> {
    let mut rules = Vec::new();
    for address in keep {
        let (ip, port) = (address.ip().to_canonical(), address.port());
        let family = if ip.is_ipv4() { "ip" } else { "ip6" };
        rules.push(match out {
            true => format!("{rule} {family} daddr {ip} tcp dport {port} accept"),
            // Answers only: nothing new comes in from there.
            false => {
                format!("{rule} {family} saddr {ip} tcp sport {port} tcp flags & (syn|ack) != syn accept")
            }
        });
    }
    rules.extend(neighbours(rule, keep, out));
    // Out to all on this link only: to an address of choice it would be a way out for root. A client
    // whose unicast renewal is not answered asks everybody before its lease ends.
    rules.extend(match out {
        true => [
            format!("{rule} ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept"),
            format!("{rule} ip6 daddr ff02::1:2 udp sport 546 udp dport 547 accept"),
        ],
        false => [
            format!("{rule} meta nfproto ipv4 udp sport 67 udp dport 68 accept"),
            format!("{rule} meta nfproto ipv6 udp sport 547 udp dport 546 accept"),
        ],
    });
    rules
}

/// What IPv6 needs to find its neighbours and to be found by them. Hop limit 255 is what a packet has that no router
/// sent on. Out, it goes to this link's own addresses and to what is kept: a server on this link asks from, and is told
/// at, its global address. Whom else's global address the kernel probes is found again by asking all. A packet that is
/// too big is told to this host, for its way to the server, and never by it.
fn neighbours(rule: &str, keep: &[SocketAddr], out: bool) -> Vec<String> {
    let near = format!("{rule} ip6 hoplimit 255");
    let asked = "nd-neighbor-solicit, nd-neighbor-advert";
    if !out {
        return vec![
            format!("{near} icmpv6 type {{ {asked}, nd-router-advert }} accept"),
            format!("{rule} icmpv6 type packet-too-big accept"),
        ];
    }
    let mut rules = vec![format!(
        "{near} ip6 daddr {{ fe80::/10, ff02::/16 }} icmpv6 type {{ {asked}, nd-router-solicit }} accept"
    )];
    let mut told = Vec::new();
    for ip in keep.iter().map(|address| address.ip().to_canonical()).filter(IpAddr::is_ipv6) {
        if !told.contains(&ip) {
            rules.push(format!("{near} ip6 daddr {ip} icmpv6 type {{ {asked} }} accept"));
            told.push(ip);
        }
    }
    rules
}

/// Every device of this network namespace but loopback, with a name that can stand in a script.
fn devices() -> Vec<String> {
    // A device's name may hold any byte: one odd name must not hide the others.
    let table = fs::read("/proc/thread-self/net/dev").unwrap_or_default();
    let table = String::from_utf8_lossy(&table);
    // Two lines of headings, then a name and a colon in each.
    let names = table.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()));
    let plain = |name: &String| {
        name != "lo" && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.@".contains(&byte))
    };
    let mut names: Vec<String> = names.filter(plain).collect();
    names.sort_unstable();
    names
}

fn listing() -> Result<String, Failure> {
    let inet = nft::ask(&["-s", "list", "table", "inet", "rampart_isolation"])?;
    let raw = nft::ask(&["-s", "list", "table", "netdev", "rampart_isolation"])?;
    Ok(inet + &raw)
}
