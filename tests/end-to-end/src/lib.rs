//! What the end-to-end tests share: an installation on this machine, and a load
//! of short processes whose every start is counted on both sides.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use test_support::{
    AgentOptions, AgentProcess, Api, ServerOptions, ServerProcess, can_load_bpf, pause, skip, tell, wait_for,
};

/// A server and an enrolled agent of this machine, in a folder of their own.
pub struct Installation {
    /// The server; `None` while a test has it down.
    pub server: Option<ServerProcess>,
    /// The agent; `None` while a test has it down.
    pub agent: Option<AgentProcess>,
    /// A client of the API with all rights.
    pub api: Api,
    folder: TempDir,
}

impl Installation {
    /// Starts both. `None`, with the reason printed, where this machine can't run them.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// As [`start`](Self::start), with further arguments for the agent.
    pub fn start_with(arguments: &[&str]) -> Option<Self> {
        if !can_load_bpf() {
            skip("needs root and /sys/kernel/btf/vmlinux");
            return None;
        }
        let folder = TempDir::with_prefix("rampart-end-to-end-").expect("a temporary folder");
        let server = ServerProcess::start(folder.path());
        let api = server.api("administrator");
        let options = AgentOptions {
            state: folder.path().join("agent"),
            arguments: server
                .enrolling()
                .into_iter()
                .chain(arguments.iter().map(|argument| (*argument).to_owned()))
                .collect(),
        };
        let mut agent = AgentProcess::launch(options);
        let line = agent.wait_until_running();
        assert!(line.contains("ebpf"), "the agent does not use eBPF here: {line}");
        let installation = Self { server: Some(server), agent: Some(agent), api, folder };
        installation.host();
        Some(installation)
    }

    /// The folder of everything.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The one host, once the server knows it as online.
    pub fn host(&self) -> Value {
        wait_for("the host is online", Duration::from_secs(30), || {
            let hosts = self.api.get("/hosts").ok()?;
            hosts["items"].as_array()?.iter().find(|host| host["online"] == true).cloned()
        })
    }

    /// Adds a rule and waits until the agent has it in force.
    pub fn add_rule(&self, rule: &Value) {
        let limit = Duration::from_secs(60);
        // What the server sends first would otherwise be taken for the change.
        let before = wait_for("the first rules are in force", limit, || {
            let host = self.host();
            (host["rules_loaded"].as_u64()? > 0).then(|| host["rules_version"].as_u64()).flatten()
        });
        self.api.post("/rules", &serde_json::json!({ "text": rule.to_string() })).expect("a good rule");
        wait_for("the agent has the rule", limit, || {
            (self.host()["rules_version"].as_u64()? > before).then_some(())
        });
    }

    /// Runs a script of `console/e2e` in Chromium, which signs in as `admin` with a one-time password.
    pub fn in_a_browser(&self, script: &str, environment: &[(&str, String)]) {
        in_a_browser(self.server.as_ref().expect("the server runs"), script, environment);
    }

    /// Ends the server as an administrator would; its options.
    pub fn stop_server(&mut self) -> ServerOptions {
        self.server.take().expect("the server runs").stop()
    }

    /// The server's options after a crash.
    pub fn kill_server(&mut self) -> ServerOptions {
        self.server.take().expect("the server runs").kill()
    }

    /// The agent's options after a crash.
    pub fn kill_agent(&mut self) -> AgentOptions {
        self.agent.take().expect("the agent runs").kill()
    }

    /// Starts the server again.
    pub fn start_server(&mut self, options: ServerOptions) {
        self.server = Some(ServerProcess::start_with(options));
    }

    /// Starts the agent again.
    pub fn start_agent(&mut self, options: AgentOptions) {
        self.agent = Some(AgentProcess::start(options));
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        // The agent first, so that its last batch finds a server.
        self.agent.take();
        self.server.take();
    }
}

/// Short processes of an image of their own, started as fast as they end.
pub struct Load {
    image: PathBuf,
    started: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts processes from `workers` threads, with `gap` between two of one
    /// thread, until [`finish`](Self::finish) or until `limit` have been started.
    pub fn start(folder: &Path, workers: u64, gap: Duration, limit: u64) -> Self {
        let image = folder.join("short-lived");
        test_support::copy_program("/bin/true", &image, "");
        let started = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let share = limit / workers;
        let workers: Vec<_> = (0..workers)
            .map(|_| {
                let (image, started, stop) = (image.clone(), Arc::clone(&started), Arc::clone(&stop));
                std::thread::spawn(move || {
                    for _ in 0..share {
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        let status = Command::new(&image).stdin(Stdio::null()).status().expect("it starts");
                        assert!(status.success());
                        started.fetch_add(1, Ordering::Relaxed);
                        if !gap.is_zero() {
                            pause(gap);
                        }
                    }
                })
            })
            .collect();
        Self { image, started, stop, workers }
    }

    /// How many have been started so far.
    pub fn so_far(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// Waits until all `limit` processes have been started and have ended.
    pub fn run_out(self) -> Finished {
        for worker in self.workers {
            worker.join().expect("a worker ends well");
        }
        Finished { image: self.image, started: self.started.load(Ordering::Relaxed) }
    }

    /// Stops; the processes under way end first.
    pub fn finish(self) -> Finished {
        self.stop.store(true, Ordering::Relaxed);
        self.run_out()
    }
}

/// A load that has ended.
pub struct Finished {
    image: PathBuf,
    /// How many processes were started.
    pub started: u64,
}

impl Finished {
    /// How many of the starts the server has, each counted once.
    pub fn stored(&self, api: &Api) -> u64 {
        let path =
            format!("/events?type=process_start&field=process.executable:{}&limit=500", self.image.display());
        let starts = api.all(&path).into_iter();
        let starts = starts.filter(|event| event["rampart"]["event"]["type"] == "process_start");
        let lives: HashSet<_> =
            starts.filter_map(|event| event["process"]["entity_id"].as_str().map(str::to_owned)).collect();
        lives.len() as u64
    }

    /// Holds what the server stored against what was started: each start once,
    /// or counted in a gap record.
    pub fn assert_every_start_is_stored_or_counted(&self, api: &Api, limit: Duration) {
        let image = self.image.display();
        let path = format!("/events?type=process_start&field=process.executable:{image}&limit=500");
        // Everything is there once start number `started` is stored or counted as
        // lost; nothing may come after, so the figures are read again then.
        // Every search also shows the gaps that overlap it.
        let starts = || -> Vec<Value> {
            let all = api.all(&path).into_iter();
            all.filter(|event| event["rampart"]["event"]["type"] == "process_start").collect()
        };
        wait_for(&format!("{} starts of {image} are stored or counted", self.started), limit, || {
            (starts().len() as u64 + lost_starts(api) >= self.started).then_some(())
        });
        let stored = starts();
        let lost = lost_starts(api);
        let lives: HashSet<_> = stored
            .iter()
            .map(|event| event["process"]["entity_id"].as_str().expect("an entity id"))
            .collect();
        tell(&format!("started {}, stored {}, counted as lost {lost}", self.started, stored.len()));
        assert_eq!(lives.len(), stored.len(), "a start was stored twice");
        assert!(stored.len() as u64 <= self.started, "more was stored than was started");
        // Other processes' starts may be among the lost.
        assert!(self.started - stored.len() as u64 <= lost, "a start is missing and not counted");
        if lost == 0 {
            assert_eq!(stored.len() as u64, self.started);
        }
        let gaps = api.all("/events?type=gap&limit=500");
        let uncounted: Vec<_> = gaps.iter().filter(|gap| gap["rampart"]["gap"]["count"].is_null()).collect();
        assert!(uncounted.is_empty(), "losses that nobody counted: {uncounted:?}");
        assert_the_account_balances(api, limit);
        assert_every_kind_balances(api, limit);
    }
}

/// Every number that the agent gave out is stored, or was dropped and stands in a gap record.
/// (The server counts each number that did not come as dropped; only that nothing is left
/// unexplained says that the agent told of it.)
fn assert_the_account_balances(api: &Api, limit: Duration) {
    wait_for("produced = stored + dropped, and no number is unexplained", limit, || {
        let hosts = api.get("/hosts").ok()?;
        let ledger = &hosts["items"][0]["ledger"];
        let figure = |name: &str| ledger[name].as_u64();
        let balances = figure("produced")? == figure("stored")? + figure("dropped")?;
        (balances && figure("unexplained")? == 0).then_some(())
    });
}

/// The same for each kind of record, as the server counts what came against what the
/// agent says; what was lost, by kind.
pub fn assert_every_kind_balances(api: &Api, limit: Duration) -> BTreeMap<String, u64> {
    wait_for("produced = stored + dropped for each kind", limit, || {
        let hosts = api.get("/hosts").ok()?;
        let account = api.get(&format!("/hosts/{}/account", hosts["items"][0]["id"].as_str()?)).ok()?;
        let kinds = account["kinds"].as_array()?;
        let open: Vec<_> = kinds.iter().filter(|row| row["difference"] != 0).collect();
        if !open.is_empty() || kinds.is_empty() {
            return None;
        }
        let lost = |row: &Value| -> u64 {
            row["dropped"].as_array().into_iter().flatten().filter_map(|one| one["count"].as_u64()).sum()
        };
        Some(
            kinds
                .iter()
                .map(|row| (row["kind"].as_str().unwrap_or_default().to_owned(), lost(row)))
                .collect(),
        )
    })
}

/// Process starts that gap records count as lost.
pub fn lost_starts(api: &Api) -> u64 {
    let gaps = api.all("/events?type=gap&limit=500");
    let counts = gaps.iter().map(|gap| &gap["rampart"]["gap"]).filter(|gap| gap["what"] == "process_start");
    counts.map(|gap| gap["count"].as_u64().unwrap_or(0)).sum()
}

/// Runs a script of `console/e2e` in Chromium against a server, which signs in as `admin` with a one-time password.
pub fn in_a_browser(server: &ServerProcess, script: &str, environment: &[(&str, String)]) {
    let password = server.edr(&["user", "reset-password", "admin"]);
    let password = password.rsplit(' ').next().expect("a last word").to_owned();
    let output = Command::new("node")
        .arg(format!("e2e/{script}"))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../console"))
        .env("RAMPART_URL", server.url())
        .env("RAMPART_PASSWORD", password)
        .envs(environment.iter().map(|(name, value)| (*name, value)))
        .output()
        .expect("node is installed by `make test`");
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "in the browser:\n{}", String::from_utf8_lossy(&output.stderr));
}
