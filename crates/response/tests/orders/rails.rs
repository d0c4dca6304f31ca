//! What stands between an order and the act.

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use event_model::{ProcessEntityId, ResponseMode, Timestamp};
use response::{
    Action, AddressTarget, Approval, Consent, FileTarget, Isolation, MASS_ACTION_ABOVE, MASS_ISOLATION_ABOVE,
    MAX_RULE_ORDERS_PER_MINUTE, Order, OrderState, Origin, ProcessTarget, approvals_needed,
};
use sensor_api::ProcessClock as _;

use crate::bench::{Bench, Owned, ProcClock, bench, boot, command, of_rule, open, target};

fn file(path: impl AsRef<std::path::Path>) -> FileTarget {
    FileTarget { path: path.as_ref().display().to_string(), sha256: None, file: None }
}

fn refused(bench: &mut Bench, order: Order, because: &str) {
    let receipt = bench.responder.run(order);
    assert_eq!(receipt.state, OrderState::Refused, "{}", receipt.reason);
    assert!(receipt.reason.contains(because), "{} does not say `{because}`", receipt.reason);
    assert!(receipt.steps.is_empty() && receipt.undo.is_none());
}

#[test]
fn protected_targets_are_refused_whoever_asks() {
    let mut bench = bench();
    let of = |pid: u32| Action::KillTree(target(pid));
    refused(&mut bench, command(of(1)), "first process");
    refused(&mut bench, command(of(std::process::id())), "the agent or one of its ancestors");
    if std::fs::read_link("/proc/2/exe").is_err() {
        let start = ProcClock.start_ns(2).unwrap();
        let thread = ProcessTarget {
            entity_id: ProcessEntityId::new(boot(), 2, start),
            executable: None,
            image: None,
        };
        refused(&mut bench, command(Action::SuspendProcess(thread)), "thread of the kernel");
    }
    let of_another_boot = ProcessTarget {
        entity_id: ProcessEntityId::new(event_model::BootId::from_uuid(uuid::Uuid::new_v4()), 7, 1),
        ..target(std::process::id())
    };
    refused(&mut bench, command(Action::KillTree(of_another_boot)), "another boot");
    let own = std::env::current_exe().unwrap();
    refused(&mut bench, command(Action::QuarantineFile(file(own))), "protected");
    refused(&mut bench, command(Action::QuarantineFile(file("/proc/version"))), "protected");
    // A rule on whoever writes this file would lock everybody out.
    refused(&mut bench, command(Action::QuarantineFile(file("/etc/passwd"))), "can't be used or reached");
    if std::path::Path::new("/var/lib/dpkg/info/coreutils.md5sums").exists() {
        let single = |path: &String| std::fs::metadata(path).is_ok_and(|file| file.nlink() == 1);
        let programs = ["ls", "sleep", "cat", "tac"].map(|name| format!("/usr/bin/{name}"));
        match programs.iter().find(|path| single(path)) {
            Some(program) => {
                refused(&mut bench, command(Action::QuarantineFile(file(program))), "`coreutils`")
            }
            None => eprintln!("skipped: the programs of coreutils have several names here"),
        }
    }
}

#[test]
fn addresses_that_the_host_needs_are_never_blocked() {
    crate::network::in_namespace(|| {
        let mut bench = bench();
        bench.responder.keep_server(vec!["192.0.2.9:443".parse().unwrap()]);
        crate::network::ip("addr add 203.0.113.7/24 dev lo");
        // Of another device, and not what this host would use towards any of these networks.
        crate::network::ip("link add other0 type veth peer name other1");
        crate::network::ip("addr add 198.51.100.9/32 dev other0");
        crate::network::ip("addr add 198.51.100.77 peer 192.0.2.77/32 dev other0");
        crate::network::ip("-6 addr add 2001:db8:7::9/128 dev other0 nodad");
        for (address, because) in [
            ("203.0.113.7", "an address of this host"),
            ("203.0.113.0/24", "an address of this host"),
            ("198.51.100.0/24", "an address of this host"),
            ("198.51.100.64/26", "an address of this host"),
            ("2001:db8:7::/64", "an address of this host"),
            ("127.0.0.1", "loopback"),
            ("0.0.0.0/0", "too wide"),
            ("224.0.0.1", "no address of a single peer"),
            ("192.0.2.0/24", "the server is in it"),
        ] {
            let block = AddressTarget { address: address.parse().unwrap(), ttl_seconds: 60 };
            refused(&mut bench, command(Action::BlockAddress(block)), because);
        }
    });
}

/// A server is configured by its name, and nobody could be asked for it yet.
#[test]
fn as_long_as_no_address_of_the_server_is_known_nothing_is_done_that_could_cut_the_link() {
    crate::network::in_namespace(|| {
        let mut bench = bench();
        bench.responder.expect_server("https://edr.example:8443".to_owned());
        let isolate =
            || Action::IsolateHost(Isolation { ttl_seconds: 60, keep: Vec::new(), release_hash: None });
        let block = AddressTarget { address: "192.0.2.0/24".parse().unwrap(), ttl_seconds: 60 };
        for action in [isolate(), Action::BlockAddress(block.clone())] {
            refused(&mut bench, of_rule(action.clone(), ResponseMode::Auto), "hint: order it again");
            // A dry run says what the real one would.
            let planned = Order { dry_run: true, ..command(action.clone()) };
            refused(&mut bench, planned, "no address of the server https://edr.example:8443");
            refused(&mut bench, command(action), "no address of the server");
        }
        assert!(!response::is_isolation_noted(&bench.path("responses")));
        let released = bench.run(Action::ReleaseHost {});
        assert_eq!(released.state, OrderState::Verified, "letting go needs no server: {}", released.reason);

        bench.responder.keep_server(vec!["192.0.2.9:8443".parse().unwrap()]);
        refused(&mut bench, command(Action::BlockAddress(block)), "the server is in it");
        let isolated = bench.run(isolate());
        assert_eq!(isolated.state, OrderState::Verified, "{}", isolated.reason);
        assert_eq!(isolated.result["kept"][0], "192.0.2.9:8443", "{}", isolated.result);
    });
}

#[test]
fn the_agents_own_files_are_never_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().canonicalize().unwrap().join("own");
    std::fs::create_dir(&own).unwrap();
    std::fs::write(own.join("key"), "key").unwrap();
    let mut guards = response::Guards::of_this_host();
    guards.protect_folders([own.clone()]);
    let (mut responder, _) = crate::bench::open_guarded(dir.path(), guards);
    let receipt = responder.run(command(Action::QuarantineFile(file(own.join("key")))));
    assert_eq!(receipt.state, OrderState::Refused, "{}", receipt.reason);
    assert!(receipt.reason.contains("agent's own") && own.join("key").exists(), "{}", receipt.reason);
}

#[test]
fn only_auto_acts_and_the_others_say_what_they_would_do() {
    let mut bench = bench();
    let path = bench.path("x");
    std::fs::write(&path, "x").unwrap();
    for (mode, state) in [
        (ResponseMode::Off, OrderState::Refused),
        (ResponseMode::Detect, OrderState::Refused),
        (ResponseMode::Shadow, OrderState::Planned),
        (ResponseMode::Ask, OrderState::ApprovalNeeded),
        (ResponseMode::Auto, OrderState::Verified),
    ] {
        let receipt = bench.responder.run(of_rule(Action::QuarantineFile(file(&path)), mode));
        assert_eq!(receipt.state, state, "{mode}: {}", receipt.reason);
        assert!(receipt.plan[0].contains("sealed into the vault"), "{:?}", receipt.plan);
        assert_eq!(path.exists(), mode != ResponseMode::Auto, "{mode}");
    }
}

/// The agent itself counts who agreed: an order that the server signed without them is not done.
#[test]
fn a_mass_action_needs_two_other_people_and_what_a_rule_asks_for_one() {
    let mut bench = bench();
    let path = bench.path("x");
    std::fs::write(&path, "x").unwrap();
    let yes = |by: &str| Approval { by: by.to_owned(), at: crate::bench::now() };
    let order = |user: &str, fleet_hosts: u32, by: &[&str]| {
        let consent = Consent { approvals: by.iter().copied().map(yes).collect(), fleet_hosts };
        let origin = Origin::Command { user: user.to_owned(), consent };
        Order { origin, ..command(Action::QuarantineFile(file(&path))) }
    };
    for (user, hosts, by) in [
        ("eve", MASS_ACTION_ABOVE + 1, vec![]),
        ("eve", MASS_ACTION_ABOVE + 1, vec!["ada"]),
        ("eve", MASS_ACTION_ABOVE + 1, vec!["ada", "ADA"]),
        ("eve", MASS_ACTION_ABOVE + 1, vec!["ada", "eve", "token:bot"]),
        ("rule:7", 1, vec![]),
        ("rule:7", 1, vec!["token:bot"]),
        ("rule:7", MASS_ACTION_ABOVE + 1, vec!["ada"]),
    ] {
        let receipt = bench.responder.run(order(user, hosts, &by));
        assert_eq!(receipt.state, OrderState::ApprovalNeeded, "{user} {by:?}: {}", receipt.reason);
        assert!(receipt.reason.contains("must approve it") && path.exists(), "{}", receipt.reason);
    }
    let isolation = Action::IsolateHost(Isolation { ttl_seconds: 60, keep: Vec::new(), release_hash: None });
    assert_eq!(approvals_needed(&isolation, "eve", MASS_ISOLATION_ABOVE), 0);
    assert_eq!(approvals_needed(&isolation, "eve", MASS_ISOLATION_ABOVE + 1), 2);
    assert_eq!(approvals_needed(&Action::ReleaseHost {}, "eve", 10_000), 0, "letting go is free");
    let done = bench.responder.run(order("eve", MASS_ACTION_ABOVE + 1, &["ada", "bob"]));
    assert_eq!(done.state, OrderState::Verified, "{}", done.reason);
    std::fs::write(&path, "x").unwrap();
    let done = bench.responder.run(order("rule:7", 1, &["ada"]));
    assert_eq!(done.state, OrderState::Verified, "{}", done.reason);
}

#[test]
fn a_flood_of_matches_costs_neither_looks_nor_disk() {
    let mut bench = bench();
    let path = bench.path("x");
    std::fs::write(&path, "x").unwrap();
    for _ in 0..MAX_RULE_ORDERS_PER_MINUTE {
        let receipt = bench.responder.run(of_rule(Action::QuarantineFile(file(&path)), ResponseMode::Shadow));
        assert_eq!(receipt.state, OrderState::Planned, "{}", receipt.reason);
    }
    let receipt = bench.responder.run(of_rule(Action::QuarantineFile(file(&path)), ResponseMode::Auto));
    assert_eq!(receipt.state, OrderState::ApprovalNeeded, "{}", receipt.reason);
    assert!(receipt.plan.is_empty() && path.exists());
    assert_eq!(std::fs::read_dir(bench.path("responses/journal")).unwrap().count(), 0);
    // A person is not kept from it.
    let receipt = bench.run(Action::QuarantineFile(file(&path)));
    assert_eq!(receipt.state, OrderState::Verified, "{}", receipt.reason);
}

#[test]
fn an_order_is_done_once_and_not_after_its_time() {
    let mut bench = bench();
    let child = Owned(Command::new("sleep").arg("616").spawn().unwrap());
    let order = command(Action::SuspendProcess(target(child.0.id())));
    let first = bench.responder.run(order.clone());
    assert_eq!(first.state, OrderState::Verified, "{}", first.reason);
    let resumed = bench.run(first.undo.clone().unwrap());
    assert_eq!(resumed.state, OrderState::Verified, "{}", resumed.reason);
    // The same order again, to the same responder and to the next one: the same answer, nothing done.
    assert_eq!(bench.responder.run(order.clone()), first);
    let (mut next, _) = open(bench.dir.path(), None);
    assert_eq!(next.run(order.clone()), first);
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.0.id())).unwrap();
    assert!(!stat.contains(") T"), "{stat}");
    let another = Order { action: Action::KillTree(target(child.0.id())), ..order };
    refused(&mut bench, another, "another order came under this id");

    let late =
        Order { expires_at: Timestamp::from_nanos(1), ..command(Action::KillTree(target(child.0.id()))) };
    refused(&mut bench, late, "expired");
    let bad = Action::QuarantineFile(file("/tmp/../etc/passwd"));
    refused(&mut bench, command(bad), "allowed: an absolute path");
}

#[test]
fn one_switch_stops_all_and_outlives_the_agent() {
    let mut bench = bench();
    let path = bench.path("x");
    std::fs::write(&path, "x").unwrap();
    let stopped = bench.run(Action::StopResponses {});
    assert_eq!(stopped.state, OrderState::Verified, "{}", stopped.reason);
    let (mut next, found) = open(bench.dir.path(), None);
    assert!(found.notes[0].contains("all response is stopped"), "{:?}", found.notes);
    let receipt = next.run(command(Action::QuarantineFile(file(&path))));
    assert_eq!(receipt.state, OrderState::Refused);
    assert!(receipt.reason.contains("allow_responses") && path.exists());
    let listed = next.run(command(Action::ListProcesses {}));
    assert_eq!(listed.state, OrderState::Verified, "looking is no response");
    let allowed = next.run(command(stopped.undo.unwrap()));
    assert_eq!(allowed.state, OrderState::Verified);
    let receipt = next.run(command(Action::QuarantineFile(file(&path))));
    assert_eq!(receipt.state, OrderState::Verified, "{}", receipt.reason);
}
