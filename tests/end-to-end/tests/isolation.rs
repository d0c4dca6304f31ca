//! A host that is isolated, and its server that it knows by a name: in a network of their own, where nobody
//! answers for names once the host is cut off.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};
use tempfile::TempDir;
use test_support::{
    AgentOptions, AgentProcess, Api, ServerOptions, ServerProcess, can_load_bpf, skip, tell, wait_for,
};

const FILES: &str = "RAMPART_TEST_NAMES";

const NAME: &str = "rampart-server.test";

/// Where the server is, and where it moves to.
const FIRST: &str = "10.79.0.1";
const SECOND: &str = "10.79.0.9";

/// A link may take its longest wait and a look-up that nobody answers.
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn an_isolated_host_finds_a_server_again_that_it_knows_by_name() {
    let files = TempDir::with_prefix("rampart-names-").expect("a temporary folder");
    let write = |name: &str, text: &str| std::fs::write(files.path().join(name), text).expect("written");
    write("hosts", "");
    write("resolv.conf", &format!("nameserver {FIRST}\n"));
    write("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n");
    // Names are looked up in these files, by whatever runs in there.
    let script = "for name in hosts resolv.conf nsswitch.conf; do \
                  if [ -e /etc/$name ]; then mount --bind \"$1/$name\" /etc/$name || exit 3; fi; done; \
                  ip link set lo up && shift && exec \"$@\"";
    let status = Command::new("unshare")
        .args(["--net", "--mount", "--", "sh", "-c", script, "sh"])
        .arg(files.path())
        .arg(std::env::current_exe().expect("a running test has a path"))
        .args(["--exact", "within_a_network_where_the_server_has_a_name", "--nocapture", "--test-threads=1"])
        .env(FILES, files.path())
        .status()
        .expect("unshare can be started");
    assert!(status.success(), "see above");
}

/// The server's machine: a network namespace at the other end of a cable.
struct Peer {
    holder: Child,
}

impl Peer {
    fn new() -> Self {
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo ready; exec sleep 900"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare can be started");
        let mut ready = [0; 6];
        holder.stdout.take().expect("a pipe").read_exact(&mut ready).expect("it is ready");
        let peer = Self { holder };
        ip(&format!("link add cable0 type veth peer name cable1 netns {}", peer.holder.id()));
        ip("addr add 10.79.0.2/24 dev cable0");
        ip("link set cable0 up");
        peer.run(|| {
            ip("link set lo up");
            ip(&format!("addr add {FIRST}/24 dev cable1"));
            ip(&format!("addr add {SECOND}/24 dev cable1"));
            ip("link set cable1 up");
        });
        peer
    }

    /// Does it in there. What it starts stays in there.
    fn run<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        let path = format!("/proc/{}/ns/net", self.holder.id());
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                let namespace = File::open(path).expect("it is there");
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("root may enter");
                what()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("ip can be started");
    assert!(status.success(), "ip {arguments}");
}

fn ruleset() -> String {
    let output = Command::new("nft").args(["list", "ruleset"]).output().expect("nft can be started");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// In place: the file is mounted.
fn name_leads_to(files: &Path, address: Option<&str>) {
    let line = address.map(|address| format!("{address} {NAME}\n")).unwrap_or_default();
    std::fs::write(files.join("hosts"), format!("127.0.0.1 localhost\n{line}")).expect("written");
}

/// The host's id, once it has a link to this server.
fn linked_host(api: &Api) -> String {
    wait_for("the host is online", LIMIT, || {
        let hosts = api.get("/hosts").ok()?;
        let host = hosts["items"].as_array()?.iter().find(|host| host["online"] == true)?;
        host["id"].as_str().map(str::to_owned)
    })
}

/// Orders it once there is a link, and waits for the receipt.
fn ordered(api: &Api, action: &str, parameters: &Value) -> Value {
    let host = linked_host(api);
    let body = json!({ "action": action, "parameters": parameters });
    let made = api.post(&format!("/hosts/{host}/responses"), &body).expect("it is ordered");
    let path = format!("/responses/{}", made["id"].as_str().expect("an id"));
    wait_for("the receipt", LIMIT, || {
        let now = api.get(&path).ok()?;
        (!["queued", "sent"].contains(&now["state"].as_str()?)).then_some(now)
    })
}

/// Not a test by itself: the one above runs it.
#[test]
fn within_a_network_where_the_server_has_a_name() {
    let Some(files) = std::env::var_os(FILES) else { return };
    if !can_load_bpf() {
        return skip("needs root and /sys/kernel/btf/vmlinux");
    }
    let files = Path::new(&files);
    let peer = Peer::new();
    let folder = TempDir::with_prefix("rampart-end-to-end-").expect("a temporary folder");
    let options = ServerOptions {
        folder: folder.path().to_owned(),
        address: format!("{FIRST}:0"),
        arguments: vec![format!("-names={NAME},{FIRST},{SECOND}")],
    };
    let server = peer.run(|| ServerProcess::start_with(options));
    let (first, api) = (server.address().to_owned(), server.api("administrator"));
    let port = first.rsplit(':').next().expect("a port").to_owned();
    name_leads_to(files, Some(FIRST));
    let state = folder.path().join("agent");
    let mut agent = AgentProcess::launch(AgentOptions {
        state: state.clone(),
        arguments: vec![
            format!("-server=https://{NAME}:{port}"),
            format!("-cert={}", server.ca_file().display()),
            format!("-token={}", server.enrollment_token()),
        ],
    });
    agent.wait_until_running();

    let isolated = ordered(&api, "isolate_host", &json!({ "ttl_seconds": 3_600 }));
    assert_eq!(isolated["state"], "verified", "{isolated}");
    let result = &isolated["result"];
    assert_eq!((&result["kept"], &result["server_reached"]), (&json!([first]), &json!(true)), "{isolated}");
    let id = isolated["id"].as_str().expect("an id");
    let code = api.get(&format!("/responses/{id}/release-code")).expect("who may act may read it");
    let code = code["code"].as_str().expect("a code").to_owned();

    // From here on nobody knows the name, and what asks for it is dropped.
    name_leads_to(files, None);
    let options = server.kill();
    let server = peer.run(|| ServerProcess::start_with(options));
    let listed = ordered(&api, "list_processes", &json!({}));
    assert_eq!(listed["state"], "verified", "{listed}");
    tell("the server was restarted: an isolated host found it again without its name");

    let options = agent.kill();
    let agent = AgentProcess::start(options);
    let listed = ordered(&api, "list_connections", &json!({}));
    assert_eq!(listed["state"], "verified", "{listed}");
    tell("the agent was restarted: an isolated host found its server again without its name");

    // A server that moves is not followed: what is kept reachable was settled when the host was isolated.
    let options = ServerOptions { address: format!("{SECOND}:{port}"), ..server.stop() };
    let server = peer.run(|| ServerProcess::start_with(options));
    name_leads_to(files, Some(SECOND));
    wait_for("the agent knows where the server is now", LIMIT, || {
        let remembered = std::fs::read_to_string(state.join("server.json")).ok()?;
        remembered.contains(SECOND).then_some(())
    });
    let rules = ruleset();
    assert!(rules.contains("rampart_isolation") && !rules.contains(SECOND), "{rules}");
    let released = Command::new(test_support::binary("edr-agent"))
        .arg(format!("-state={}", state.display()))
        .args(["-release", &code])
        .output()
        .expect("it can be started");
    assert!(released.status.success(), "{}", String::from_utf8_lossy(&released.stderr));
    let moved = server.api("responder");
    linked_host(&moved);
    tell("the server moved: the host was released by its code and found it there");
    drop(agent);
}
