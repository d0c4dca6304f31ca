//! Blocks and isolation, in network namespaces that the test makes for itself.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use response::{Action, AddressTarget, Interference, Isolation, OrderState};

use rustix::thread::LinkNameSpaceType;

use crate::bench::{Bench, Owned, bench, wait_until};

/// Runs it in a network namespace of its own. All that it starts is in there too.
pub(crate) fn in_namespace<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let (_holder, pid) = unshared();
            enter(pid);
            ip("link set lo up");
            run()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

pub(crate) fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

fn nft(arguments: &[&str]) -> String {
    let output = Command::new("nft").args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn block(address: &str, ttl_seconds: u32) -> AddressTarget {
    AddressTarget { address: address.parse().unwrap(), ttl_seconds }
}

const SOON: Duration = Duration::from_millis(500);

fn connects(address: &str) -> bool {
    let address: SocketAddr = address.parse().unwrap();
    TcpStream::connect_timeout(&address, SOON).is_ok()
}

#[test]
fn a_block_cuts_what_is_there_refuses_what_comes_and_ends_by_itself() {
    in_namespace(|| {
        let _peer = Peer::new();
        let mut bench = bench();
        for (address, at) in [("10.77.0.1", OTHER), ("fd77::1", OTHER6)] {
            let mut established = TcpStream::connect(at).unwrap();
            established.set_read_timeout(Some(Duration::from_secs(5))).unwrap();

            let receipt = bench.run(Action::BlockAddress(block(address, 3_600)));
            assert_eq!(receipt.state, OrderState::Verified, "{}", receipt.reason);
            assert!(receipt.result["connections_cut"].as_u64().unwrap() >= 1, "{}", receipt.result);
            let mut byte = [0];
            let read = established.read(&mut byte);
            assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::ConnectionAborted);
            assert!(!connects(at), "{address} is blocked");

            // Asked for again, it gets the new time.
            let renewed = bench.run(Action::BlockAddress(block(address, 7_200)));
            assert_eq!(renewed.state, OrderState::Verified, "{}", renewed.reason);
            let lifted = bench.run(receipt.undo.unwrap());
            assert_eq!(lifted.state, OrderState::Verified, "{}", lifted.reason);
            assert!(connects(at), "{address} is free again");
            let again = bench.run(Action::UnblockAddress(block(address, 1)));
            assert_eq!(again.state, OrderState::Refused);
            assert!(again.reason.contains("not blocked"), "{}", again.reason);

            let short = bench.run(Action::BlockAddress(block(address, 1)));
            assert_eq!(short.state, OrderState::Verified, "{}", short.reason);
            // No agent is needed for it to end.
            wait_until("the kernel lifts the block", || connects(at));
        }
        let network = bench.run(Action::BlockAddress(block("198.51.100.0/24", 60)));
        assert_eq!(network.state, OrderState::Verified, "{}", network.reason);
        let inside = bench.run(Action::BlockAddress(block("198.51.100.7", 60)));
        assert_eq!(inside.state, OrderState::Refused, "{}", inside.reason);
        assert!(inside.reason.contains("is blocked already"), "{}", inside.reason);
    });
}

#[test]
fn others_rules_stay_as_they_are() {
    in_namespace(|| {
        let mut bench = bench();
        nft(&["add", "table", "inet", "others"]);
        nft(&["add", "chain", "inet", "others", "kept", "{ type filter hook input priority 0; }"]);
        nft(&["add", "rule", "inet", "others", "kept", "tcp", "dport", "9", "drop"]);
        let before = nft(&["list", "table", "inet", "others"]);
        let blocked = bench.run(Action::BlockAddress(block("192.0.2.7", 60)));
        let isolated = bench.run(isolate(60));
        assert_eq!(isolated.state, OrderState::Verified, "{}", isolated.reason);
        bench.run(isolated.undo.unwrap());
        bench.run(blocked.undo.unwrap());
        assert_eq!(nft(&["list", "table", "inet", "others"]), before);
    });
}

const WITHOUT_NFT: &str = "RAMPART_TEST_WITHOUT_NFT";

/// In namespaces of its own, where something that can't be run lies over each `nft`.
#[test]
fn without_nft_nothing_is_blocked_and_the_reason_says_what_to_install() {
    let hide = "for place in /usr/sbin/nft /sbin/nft /usr/bin/nft /usr/local/sbin/nft; do \
                if [ -e $place ]; then mount --bind /dev/null $place || exit 3; fi; done; exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--mount", "--net", "--", "sh", "-c", hide, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "network::within_a_host_without_nft", "--nocapture", "--test-threads=1"])
        .env(WITHOUT_NFT, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("everything was refused"), "{said}");
}

/// Not a test by itself: the one above runs it.
#[test]
fn within_a_host_without_nft() {
    if std::env::var_os(WITHOUT_NFT).is_none() {
        return;
    }
    let mut bench = bench();
    for action in [Action::BlockAddress(block("192.0.2.7", 60)), isolate(60), Action::ReleaseHost {}] {
        let word = action.word();
        let receipt = bench.run(action);
        assert_eq!(receipt.state, OrderState::Refused, "{word}: {}", receipt.reason);
        assert!(receipt.reason.contains("install nftables"), "{word}: {}", receipt.reason);
        assert!(receipt.steps.is_empty(), "{word}");
    }
    assert!(bench.responder.watch().is_empty() && !response::is_isolation_noted(&bench.path("responses")));
    // What needs no firewall goes on.
    let listed = bench.run(Action::ListProcesses {});
    assert_eq!(listed.state, OrderState::Verified, "{}", listed.reason);
    println!("everything was refused");
}

fn isolate(ttl_seconds: u32) -> Action {
    Action::IsolateHost(Isolation { ttl_seconds, keep: Vec::new(), release_hash: None })
}

/// Another host: a namespace with one end of a cable, and a program that answers on two ports.
struct Peer {
    _holder: Owned,
}

const SERVER: &str = "10.77.0.1:7443";
const OTHER: &str = "10.77.0.1:7444";
const SERVER6: &str = "[fd77::1]:7443";
const OTHER6: &str = "[fd77::1]:7444";

impl Peer {
    fn new() -> Self {
        let (holder, pid) = unshared();
        ip(&format!("link add cable0 type veth peer name cable1 netns {pid}"));
        ip("addr add 10.77.0.2/24 dev cable0");
        ip("addr add fd77::2/64 dev cable0 nodad");
        ip("link set cable0 up");
        let inside = |arguments: &str| {
            let target = pid.to_string();
            let mut command = Command::new("nsenter");
            command.args(["-t", &target, "-n", "ip"]).args(arguments.split(' '));
            assert!(command.status().unwrap().success(), "ip {arguments}");
        };
        inside("addr add 10.77.0.1/24 dev cable1");
        inside("addr add fd77::1/64 dev cable1 nodad");
        inside("link set cable1 up");
        inside("link set lo up");
        serve(pid);
        wait_until("the peer answers", || [SERVER, OTHER, SERVER6, OTHER6].into_iter().all(connects));
        Self { _holder: holder }
    }
}

/// A process that holds a network namespace of its own.
fn unshared() -> (Owned, u32) {
    let mut child: Child = Command::new("unshare")
        .args(["-n", "sh", "-c", "echo ready; exec sleep 600"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    child.stdout.take().unwrap().read_exact(&mut ready).unwrap();
    let pid = child.id();
    (Owned(child), pid)
}

/// Moves this thread into that process's network namespace.
fn enter(pid: u32) {
    let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

/// Echoes on both ports, in the namespace of that process, as long as the test runs.
fn serve(pid: u32) {
    std::thread::spawn(move || {
        enter(pid);
        for port in [7443, 7444] {
            let listener = TcpListener::bind(("::", port)).unwrap();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    std::thread::spawn(move || {
                        let mut to = stream.try_clone().unwrap();
                        let _ = std::io::copy(&mut &stream, &mut to);
                    });
                }
            });
        }
    });
}

fn echoes(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut byte = [0];
    stream.write_all(b"x").is_ok() && stream.read_exact(&mut byte).is_ok()
}

/// Sends one raw frame out of the cable; whether it came out is the device's own count.
fn raw_frame_leaves() -> bool {
    let sent = || -> u64 {
        let output = Command::new("ip").args(["-s", "-j", "link", "show", "cable0"]).output().unwrap();
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        told[0]["stats64"]["tx"]["packets"].as_u64().unwrap()
    };
    let before = sent();
    let script = "import socket; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(('cable0', 0)); \
                  s.send(b'\\xff' * 6 + b'\\x02' * 6 + b'\\x88\\xb5' + b'rampart' * 10)";
    // The device refuses the frame with an error where it is dropped.
    let _ = Command::new("python3").args(["-c", script]).stderr(Stdio::null()).status().unwrap();
    sent() > before
}

fn isolated_bench() -> Bench {
    let mut bench = bench();
    bench.responder.keep_server(vec![SERVER.parse().unwrap(), SERVER6.parse().unwrap()]);
    bench
}

#[test]
fn an_isolated_host_reaches_the_server_and_nothing_else_until_its_time_is_over() {
    in_namespace(|| {
        let _peer = Peer::new();
        let mut bench = isolated_bench();
        let mut to_server = TcpStream::connect(SERVER).unwrap();
        let mut to_other = TcpStream::connect(OTHER).unwrap();
        assert!(echoes(&mut to_server) && echoes(&mut to_other));
        assert!(raw_frame_leaves(), "the probe works");

        let began = Instant::now();
        let receipt = bench.run(isolate(4));
        println!("isolated and verified in {} ms", began.elapsed().as_millis());
        assert_eq!(receipt.state, OrderState::Verified, "{}", receipt.reason);
        assert!(echoes(&mut to_server), "the link that there was goes on");
        assert!(!echoes(&mut to_other), "another that there was does not");
        assert!(connects(SERVER) && connects(SERVER6));
        assert!(!connects(OTHER) && !connects(OTHER6));
        assert!(!raw_frame_leaves(), "raw frames do not leave");
        let local = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(TcpStream::connect(local).is_err(), "refused by the kernel, not starved");
        drop(bench);
        // The agent is gone; the kernel releases the host.
        wait_until("the kernel releases the host", || connects(OTHER) && connects(OTHER6));
        wait_until("raw frames leave", raw_frame_leaves);
    });
}

/// An agent that ends while it isolates or releases: what the next one says of it is what the watch
/// then keeps.
#[test]
fn after_a_crash_what_is_told_of_an_isolation_stays_so() {
    in_namespace(|| {
        let _peer = Peer::new();
        let dir = tempfile::tempdir().unwrap();
        let stop_at = |at: &'static str| -> response::Checkpoint {
            Box::new(move |step: &str| if step == at { panic!("as if the agent ended") } else { Ok(()) })
        };
        let crash = |at: &'static str, order: &response::Order| {
            let (mut ending, _) = crate::bench::open(dir.path(), Some(stop_at(at)));
            ending.keep_server(vec![SERVER.parse().unwrap()]);
            let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ending.run(order.clone())));
            assert!(ran.is_err(), "it ended at `{at}`");
        };
        let isolation = crate::bench::command(isolate(600));
        crash("committed the rules", &isolation);
        let (mut next, found) = crate::bench::open(dir.path(), None);
        assert_eq!(found.receipts[0].state, OrderState::Failed, "{}", found.receipts[0].reason);
        assert!(next.watch().is_empty() && connects(OTHER), "not isolated behind the receipt's back");

        next.keep_server(vec![SERVER.parse().unwrap()]);
        let receipt = next.run(crate::bench::command(isolate(600)));
        assert_eq!(receipt.state, OrderState::Verified, "{}", receipt.reason);
        drop(next);
        let release = crate::bench::command(receipt.undo.unwrap());
        for at in ["deleted the rules", "verify"] {
            let again = response::Order { id: uuid::Uuid::new_v4(), ..release.clone() };
            crash(at, &again);
            let (mut next, found) = crate::bench::open(dir.path(), None);
            assert_eq!(found.receipts[0].state, OrderState::Verified, "{}", found.receipts[0].reason);
            assert!(next.watch().is_empty() && connects(OTHER), "a host that was released stays so");
        }
    });
}

/// Nobody reaches the server: a person on the host has been read the code.
#[test]
fn a_code_releases_the_host_on_the_spot_and_a_wrong_one_does_not() {
    in_namespace(|| {
        let _peer = Peer::new();
        let mut bench = isolated_bench();
        let code = response::new_release_code().unwrap();
        let isolation = Isolation {
            ttl_seconds: 600,
            keep: Vec::new(),
            release_hash: Some(response::release_hash(&code)),
        };
        let receipt = bench.run(Action::IsolateHost(isolation));
        assert_eq!(receipt.state, OrderState::Verified, "{}", receipt.reason);
        // The host itself has nothing that it could be read from.
        let noted = std::fs::read_to_string(bench.path("responses/isolation.json")).unwrap();
        assert!(!noted.contains(&code) && response::is_isolation_noted(&bench.path("responses")));
        // By the agent that comes next, too.
        let (mut next, _) = crate::bench::open(bench.dir.path(), None);
        response::leave_release_code(&bench.path("responses"), "AAAAA-BBBBB-CCCCC-DDDDD").unwrap();
        let wrong = next.watch();
        assert_eq!(wrong[0].interference, Some(Interference::WrongCode), "{wrong:?}");
        assert!(!connects(OTHER) && !response::is_release_code_waiting(&bench.path("responses")));
        response::leave_release_code(&bench.path("responses"), &format!("{} ", code.to_lowercase())).unwrap();
        // All response is stopped: to let go is no response.
        let stopped = next.run(crate::bench::command(Action::StopResponses {}));
        assert_eq!(stopped.state, OrderState::Verified, "{}", stopped.reason);
        let released = next.watch();
        assert_eq!(released[0].interference, Some(Interference::Released), "{released:?}");
        assert_eq!(released[0].order, Some(receipt.id), "the server is told which isolation it was");
        assert!(connects(OTHER) && next.watch().is_empty());
        assert!(!nft(&["list", "ruleset"]).contains("rampart_isolation"));
    });
}

/// Only what serves to keep an address may leave besides: not to an address of choice.
#[test]
fn an_isolated_host_asks_everybody_for_its_address_but_nobody_in_particular() {
    in_namespace(|| {
        let _peer = Peer::new();
        ip("route add default via 10.77.0.1");
        let mut bench = isolated_bench();
        let receipt = bench.run(isolate(600));
        assert_eq!(receipt.state, OrderState::Verified, "{}", receipt.reason);
        let sends = |to: &str, from: u16, port: u16| {
            let to: std::net::IpAddr = to.parse().unwrap();
            let any = if to.is_ipv4() { "0.0.0.0" } else { "::" };
            let socket = std::net::UdpSocket::bind((any, from)).unwrap();
            socket.set_broadcast(true).unwrap();
            // The kernel says EPERM where a rule drops what goes out.
            socket.send_to(b"x", (to, port)).is_ok()
        };
        assert!(!sends("10.77.0.1", 68, 67), "a way out by DHCP");
        assert!(!sends("fd77::1", 546, 547), "a way out by DHCPv6");
        assert!(sends("255.255.255.255", 68, 67), "{}", nft(&["list", "ruleset"]));
    });
}

/// Sends an ICMPv6 message of that type and hop limit; false if a rule drops it (the kernel says EPERM).
fn sends_icmpv6(kind: u8, hops: u8, to: &str) -> bool {
    let script = "import socket, sys; kind, hops, to = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]; \
                  s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6); \
                  [s.setsockopt(socket.IPPROTO_IPV6, option, hops) \
                   for option in (socket.IPV6_UNICAST_HOPS, socket.IPV6_MULTICAST_HOPS)]; \
                  s.sendto(bytes([kind, 0, 0, 0]) + bytes(20), (to, 0, 0, socket.if_nametoindex('cable0')))";
    let numbers = [kind.to_string(), hops.to_string()];
    let output = Command::new("python3").args(["-c", script]).args(numbers).arg(to).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || said.contains("PermissionError"), "{said}");
    output.status.success()
}

/// Neighbour discovery reaches who is on the link and nobody behind it.
#[test]
fn an_isolated_host_finds_its_server_by_ipv6_and_tells_nobody_else_anything() {
    in_namespace(|| {
        let _peer = Peer::new();
        ip("-6 route add default via fd77::1");
        let mut bench = isolated_bench();
        const SOLICIT: u8 = 135;
        const ADVERT: u8 = 136;
        let far = "2001:db8::1";
        assert!(sends_icmpv6(SOLICIT, 255, far) && sends_icmpv6(2, 64, far), "the probe works");
        let receipt = bench.run(isolate(600));
        assert_eq!(receipt.state, OrderState::Verified, "{}", receipt.reason);
        for (kind, hops, to) in [
            (SOLICIT, 255, far),
            (ADVERT, 255, far),
            (133, 255, far),
            (134, 255, "ff02::1"),
            (2, 64, far),
            (2, 64, "fd77::1"),
            (SOLICIT, 64, "fd77::1"),
            (SOLICIT, 255, "fd77::3"),
            (SOLICIT, 255, "ff05::2"),
        ] {
            assert!(!sends_icmpv6(kind, hops, to), "a way out: type {kind}, hop limit {hops}, to {to}");
        }
        for (kind, to) in
            [(SOLICIT, "ff02::1:ff00:1"), (133, "ff02::2"), (SOLICIT, "fd77::1"), (ADVERT, "fd77::1")]
        {
            assert!(sends_icmpv6(kind, 255, to), "type {kind} to {to}: {}", nft(&["list", "ruleset"]));
        }
        // With nothing known of the link any more the server is found all the same.
        ip("-6 neigh flush dev cable0");
        assert!(connects(SERVER6) && !connects(OTHER6));
    });
}

#[test]
fn a_flushed_firewall_is_put_back_also_by_the_agent_that_comes_next() {
    in_namespace(|| {
        let _peer = Peer::new();
        let mut bench = isolated_bench();
        let receipt = bench.run(isolate(600));
        assert_eq!(receipt.state, OrderState::Verified, "{}", receipt.reason);
        assert!(bench.responder.watch().is_empty(), "nothing to put back");
        nft(&["flush", "ruleset"]);
        assert!(connects(OTHER));
        let notices = bench.responder.watch();
        assert!(notices[0].text.contains("put back"), "{notices:?}");
        assert_eq!(notices[0].interference, Some(Interference::Changed), "somebody did that");
        assert!(!connects(OTHER) && connects(SERVER));
        // One rule less is noticed as well.
        nft(&["flush", "chain", "inet", "rampart_isolation", "outgoing"]);
        assert!(connects(OTHER) || !bench.responder.watch().is_empty());
        assert!(!connects(OTHER));
        // A device that comes later is held too.
        ip("link add later0 type veth peer name later1");
        let notices = bench.responder.watch();
        assert!(notices[0].text.contains("put back"), "{notices:?}");
        assert_eq!(notices[0].interference, None, "a device came, which is nobody's deed");
        assert!(nft(&["list", "ruleset"]).contains("later0"));

        // As after a reboot: the rules are gone, the folder is there.
        let dir = bench.dir;
        drop(bench.responder);
        nft(&["flush", "ruleset"]);
        let (mut next, _) = crate::bench::open(dir.path(), None);
        assert!(connects(OTHER));
        next.watch();
        assert!(!connects(OTHER) && connects(SERVER));
        let released = next.run(crate::bench::command(receipt.undo.unwrap()));
        assert_eq!(released.state, OrderState::Verified, "{}", released.reason);
        assert!(connects(OTHER) && next.watch().is_empty());
    });
}

#[test]
fn a_server_that_can_not_be_reached_any_more_undoes_the_isolation() {
    in_namespace(|| {
        let _peer = Peer::new();
        // Another table drops what goes to the server as soon as there is one of ours: the commit
        // would cut the link.
        let mut bench = bench();
        bench.responder.keep_server(vec![SERVER.parse().unwrap()]);
        let dir = bench.path("");
        let (mut cutting, _) = crate::bench::open(
            &dir,
            Some(Box::new(|step: &str| {
                if step == "reached the server through them" {
                    nft(&["add", "table", "inet", "hostile"]);
                    nft(&[
                        "add",
                        "chain",
                        "inet",
                        "hostile",
                        "out",
                        "{ type filter hook output priority 0; }",
                    ]);
                    nft(&["add", "rule", "inet", "hostile", "out", "tcp", "dport", "7443", "drop"]);
                }
                Ok(())
            })),
        );
        cutting.keep_server(vec![SERVER.parse().unwrap()]);
        let receipt = cutting.run(crate::bench::command(isolate(600)));
        assert_eq!(receipt.state, OrderState::Failed, "{}", receipt.reason);
        assert!(receipt.reason.contains("not reached any more"), "{}", receipt.reason);
        assert!(connects(OTHER), "the host is as free as before");
        assert!(!nft(&["list", "ruleset"]).contains("rampart_isolation"));
    });
}
