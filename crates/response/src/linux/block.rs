//! Addresses that are refused: elements with a timeout in two sets of the kernel.
//!
//! The kernel lifts a block by itself when its time is over, also with the agent dead.

use serde_json::{Value, json};

use crate::action::AddressTarget;
use crate::address::Network;
use crate::platform::{Failure, Progress, Subject, Survey};

use super::{nft, sockets};

const TABLE: &str = "inet rampart_block";

/// The table, made whole again if parts of it were removed; elements stay.
const SKELETON: &str = "\
add table inet rampart_block
add set inet rampart_block addresses4 { type ipv4_addr; flags interval, timeout; }
add set inet rampart_block addresses6 { type ipv6_addr; flags interval, timeout; }
add chain inet rampart_block incoming { type filter hook input priority -310; policy accept; }
add chain inet rampart_block outgoing { type filter hook output priority -310; policy accept; }
add chain inet rampart_block passing { type filter hook forward priority -310; policy accept; }
flush chain inet rampart_block incoming
flush chain inet rampart_block outgoing
flush chain inet rampart_block passing
add rule inet rampart_block incoming ip saddr @addresses4 drop
add rule inet rampart_block incoming ip6 saddr @addresses6 drop
add rule inet rampart_block outgoing ip daddr @addresses4 drop
add rule inet rampart_block outgoing ip6 daddr @addresses6 drop
add rule inet rampart_block passing ip saddr @addresses4 drop
add rule inet rampart_block passing ip6 saddr @addresses6 drop
add rule inet rampart_block passing ip daddr @addresses4 drop
add rule inet rampart_block passing ip6 daddr @addresses6 drop
";

fn set_of(network: Network) -> &'static str {
    if network.address().is_ipv4() { "addresses4" } else { "addresses6" }
}

fn is_element(network: Network) -> bool {
    let (set, element) = (set_of(network), format!("{{ {network} }}"));
    nft::ask(&["get", "element", "inet", "rampart_block", set, &element]).is_ok()
}

/// Whether exactly this element is there, and not a network around it.
fn is_exact_element(network: Network) -> bool {
    let (set, element) = (set_of(network), format!("{{ {network} }}"));
    nft::ask(&["get", "element", "inet", "rampart_block", set, &element]).is_ok_and(|answer| {
        let (_, elements) = answer.split_once("elements = {").unwrap_or_default();
        elements.split([',', '}']).any(|one| one.split_whitespace().next() == Some(&network.to_string()))
    })
}

fn script(target: &AddressTarget) -> String {
    let (network, set, seconds) = (target.address, set_of(target.address), target.ttl_seconds);
    // A block that is asked for again gets the new time: an element keeps the time that it had.
    let renewed = match is_exact_element(network) {
        true => format!("delete element {TABLE} {set} {{ {network} }}\n"),
        false => String::new(),
    };
    format!("{SKELETON}{renewed}add element {TABLE} {set} {{ {network} timeout {seconds}s }}\n")
}

pub(super) fn survey(target: &AddressTarget) -> Result<Survey, Failure> {
    nft::is_there()?;
    if is_element(target.address) && !is_exact_element(target.address) {
        return Err(Failure::NotAllowed {
            subject: target.address.to_string(),
            why: "is in a network that is blocked already".to_owned(),
            hint: "unblock that network first to give this address a time of its own",
        });
    }
    nft::check(&script(target))?;
    let steps = vec![
        format!("nft: {}", script(target).lines().next_back().unwrap_or_default()),
        format!("cut the TCP and UDP sockets of this host that are connected to {}", target.address),
    ];
    Ok(Survey { steps, subject: Subject::Network(target.address) })
}

pub(super) fn survey_unblock(target: &AddressTarget) -> Result<Survey, Failure> {
    nft::is_there()?;
    if !is_exact_element(target.address) {
        return Err(Failure::NotTheTarget {
            subject: target.address.to_string(),
            why: "it is not blocked".to_owned(),
        });
    }
    let (network, set) = (target.address, set_of(target.address));
    let steps = vec![format!("nft: delete element {TABLE} {set} {{ {network} }}")];
    Ok(Survey { steps, subject: Subject::Network(network) })
}

pub(super) fn apply(target: &AddressTarget, progress: &mut Progress<'_>) -> Result<Value, Failure> {
    progress.step("added it to the kernel's set", || nft::commit(&script(target)))?;
    let cut = progress
        .step("cut its connections", || sockets::cut(|peer| target.address.contains(peer)))
        // The block stands all the same, and starves them.
        .map_or_else(|failure| json!({ "not_cut": failure.to_string() }), |count| json!(count));
    Ok(json!({ "address": target.address, "seconds": target.ttl_seconds, "connections_cut": cut }))
}

pub(super) fn lift(target: &AddressTarget, progress: &mut Progress<'_>) -> Result<Value, Failure> {
    let (network, set) = (target.address, set_of(target.address));
    progress.step("took it out of the kernel's set", || {
        nft::commit(&format!("delete element {TABLE} {set} {{ {network} }}\n"))
    })?;
    Ok(Value::Null)
}

pub(super) fn is_blocked(target: &AddressTarget, wanted: bool) -> Result<String, Failure> {
    let network = target.address;
    let is = is_element(network);
    if is != wanted {
        let state = if is { "is" } else { "is not" };
        return Err(Failure::NotProved(format!("{network} {state} in the kernel's set")));
    }
    if !wanted {
        return Ok(format!("{network} is not in the kernel's set"));
    }
    for chain in ["incoming", "outgoing", "passing"] {
        let rules = nft::ask(&["list", "chain", "inet", "rampart_block", chain])?;
        if !rules.contains(&format!("@{} drop", set_of(network))) {
            return Err(Failure::NotProved(format!("the rule of chain `{chain}` is not there")));
        }
    }
    Ok(format!("{network} is in the kernel's set, and the rules that refuse it are in force"))
}
