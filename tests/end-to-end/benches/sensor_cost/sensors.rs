//! Our agent, and what others there are to compare it with.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use end_to_end::Installation;
use event_model::Timestamp;
use test_support::{ServerOptions, pause, wait_for};

use crate::work::Work;

/// Something that watches.
pub(crate) trait Sensor {
    fn name(&self) -> &'static str;
    /// Whether it sees what this work does.
    fn watches(&self, work: Work) -> bool;
    /// Starts it, ready to see what `work` does.
    fn start(&mut self, work: Work) -> Box<dyn Watching>;
}

/// It watches now.
pub(crate) trait Watching {
    /// Its processes, threads of the kernel included that work for it alone.
    fn pids(&self) -> Vec<u32>;
    /// Ends it. For a marked run: how many of its acts were told, and how many counted as lost.
    fn stop(self: Box<Self>, work: Work, mark: Option<u32>) -> Option<(u64, u64)>;

    /// CPU seconds of its processes so far.
    fn cpu(&self) -> f64 {
        self.pids().into_iter().map(cpu_of).sum()
    }

    /// Waits until it has digested what it saw: until it takes next to no CPU.
    fn settle(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut before = self.cpu();
        while Instant::now() < deadline {
            pause(Duration::from_millis(500));
            let now = self.cpu();
            if now - before < 0.01 {
                return;
            }
            before = now;
        }
    }

    /// The most memory that was resident, in MB.
    fn peak_megabytes(&self) -> f64 {
        let peak = |pid: u32| -> Option<f64> {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
            line.trim().strip_suffix(" kB")?.parse::<f64>().ok()
        };
        self.pids().into_iter().filter_map(peak).sum::<f64>() / 1024.0
    }
}

/// Of all its threads, by the scheduler's account.
fn cpu_of(pid: u32) -> f64 {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return 0.0 };
    let nanos = tasks.flatten().filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    nanos.sum::<f64>() / 1e9
}

/// Our agent, enrolled, with the shipped rules, while its server is away: from the kernel to the spool.
pub(crate) struct Rampart;

impl Sensor for Rampart {
    fn name(&self) -> &'static str {
        "rampart"
    }

    fn watches(&self, _work: Work) -> bool {
        true
    }

    fn start(&mut self, _work: Work) -> Box<dyn Watching> {
        // The budget would leave out what is to be measured.
        let mut installation = Installation::start_with(&["-cpulimit=0"]).expect("it runs here");
        let produced = ledger(&installation.api.get("/hosts").expect("it answers"), "produced");
        let server = installation.stop_server();
        let pid = installation.agent.as_mut().expect("it runs").pid();
        Box::new(RampartWatching { installation, server, pid, produced: produced.unwrap_or(0) })
    }
}

struct RampartWatching {
    installation: Installation,
    server: ServerOptions,
    pid: u32,
    /// What the server knew to be produced before the work.
    produced: u64,
}

/// A figure of the only host's ledger.
fn ledger(hosts: &serde_json::Value, name: &str) -> Option<u64> {
    hosts["items"][0]["ledger"][name].as_u64()
}

impl Watching for RampartWatching {
    fn pids(&self) -> Vec<u32> {
        vec![self.pid]
    }

    fn stop(mut self: Box<Self>, work: Work, mark: Option<u32>) -> Option<(u64, u64)> {
        let mark = mark?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let begun = Timestamp::from_nanos(now.as_nanos().try_into().unwrap());
        self.installation.start_server(self.server.clone());
        let api = &self.installation.api;
        // The server's ledger is as old as the last batch it has: it is whole once it stands still.
        let mut latest = (0, Instant::now());
        wait_for("everything is sent", Duration::from_secs(300), || {
            let hosts = api.get("/hosts").ok()?;
            let host = &hosts["items"][0];
            let figure = |name: &str| ledger(&hosts, name);
            let (produced, stored) = (figure("produced")?, figure("stored")?);
            if stored != latest.0 {
                latest = (stored, Instant::now());
            }
            let still = latest.1.elapsed() > Duration::from_secs(3);
            // A server that has just begun takes hosts for online of which it has not heard since.
            let is_back = host["last_seen_at"].as_str()?.parse::<Timestamp>().ok()? > begun;
            // Nor is all there before anything came: the agent may take its time to send.
            let has_begun = produced > self.produced;
            (host["online"] == true
                && is_back
                && has_begun
                && still
                && produced <= stored + figure("dropped")?)
            .then_some(())
        });
        let program = work.program(mark);
        let told = work.event_types().iter().map(|event_type| {
            let path =
                format!("/events?type={event_type}&field=process.executable:{}&limit=500", program.display());
            let events = api.all(&path);
            let count = |event: &serde_json::Value| event["rampart"]["event"]["count"].as_u64().unwrap_or(1);
            events
                .iter()
                .filter(|event| event["rampart"]["event"]["type"] == *event_type)
                .map(count)
                .sum::<u64>()
        });
        let told = told.sum();
        let gaps = api.all("/events?type=gap&limit=500");
        let lost = gaps.iter().filter_map(|gap| {
            let gap = &gap["rampart"]["gap"];
            let count = gap["count"].as_u64().filter(|count| *count > 0)?;
            println!("  lost: {count} of {} by {}: {}", gap["what"], gap["sensor"], gap["reason"]);
            Some(count)
        });
        let lost = lost.sum();
        let _ = std::fs::remove_file(program);
        Some((told, lost))
    }
}

/// auditd with rules for the same acts.
pub(crate) struct Audit {
    folder: tempfile::TempDir,
}

impl Audit {
    pub(crate) fn new() -> Result<Self, String> {
        if !Path::new("/sbin/auditd").exists() {
            return Err("auditd is not installed; apt-get install auditd".to_owned());
        }
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let config = format!(
            "log_file = {}\nlog_format = ENRICHED\nflush = INCREMENTAL_ASYNC\nfreq = 50\nmax_log_file = 500\n\
             num_logs = 2\nmax_log_file_action = IGNORE\nwrite_logs = yes\nlocal_events = yes\n\
             space_left = 75\nspace_left_action = IGNORE\nadmin_space_left = 50\nadmin_space_left_action = IGNORE\n\
             disk_full_action = IGNORE\ndisk_error_action = IGNORE\n",
            folder.path().join("audit.log").display()
        );
        std::fs::write(folder.path().join("auditd.conf"), config).map_err(|error| error.to_string())?;
        Ok(Self { folder })
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("audit.log")
    }
}

impl Sensor for Audit {
    fn name(&self) -> &'static str {
        "auditd"
    }

    fn watches(&self, _work: Work) -> bool {
        true
    }

    fn start(&mut self, work: Work) -> Box<dyn Watching> {
        let _ = std::fs::remove_file(self.log());
        let child = Command::new("/sbin/auditd")
            .arg("-n")
            .arg("-c")
            .arg(self.folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("the audit log", Duration::from_secs(20), || self.log().exists().then_some(()));
        audit_control(&["-D"]);
        audit_control(&["-b", "8192", "--backlog_wait_time", "60000", "-f", "1", "-e", "1"]);
        match work {
            Work::Files => {
                audit_control(&["-w", &std::env::temp_dir().display().to_string(), "-p", "wa", "-k", "bench"])
            }
            Work::Flood => {
                audit_control(&["-a", "always,exit", "-F", "arch=b64", "-S", "fchmod", "-k", "bench"])
            }
            Work::Connects => {
                audit_control(&["-a", "always,exit", "-F", "arch=b64", "-S", "connect", "-k", "bench"])
            }
            Work::Execs | Work::Compile => {
                audit_control(&[
                    "-a",
                    "always,exit",
                    "-F",
                    "arch=b64",
                    "-S",
                    "execve,execveat",
                    "-k",
                    "bench",
                ]);
            }
        }
        let kernel = pid_named("kauditd");
        Box::new(AuditWatching { child, kernel, log: self.log() })
    }
}

struct AuditWatching {
    child: Child,
    kernel: Option<u32>,
    log: PathBuf,
}

impl Watching for AuditWatching {
    fn pids(&self) -> Vec<u32> {
        self.kernel.into_iter().chain([self.child.id()]).collect()
    }

    fn stop(mut self: Box<Self>, _work: Work, mark: Option<u32>) -> Option<(u64, u64)> {
        let status = Command::new("/sbin/auditctl").arg("-s").output().unwrap();
        let status = String::from_utf8_lossy(&status.stdout).into_owned();
        let lost = status
            .lines()
            .find_map(|line| line.strip_prefix("lost "))
            .and_then(|text| text.trim().parse().ok());
        audit_control(&["-D"]);
        audit_control(&["-e", "0"]);
        end(&mut self.child);
        mark?;
        let text = std::fs::read(&self.log).unwrap_or_default();
        let told = text.split(|byte| *byte == b'\n').filter(|line| {
            let line = String::from_utf8_lossy(line);
            line.contains("type=SYSCALL") && line.contains("key=\"bench\"")
        });
        Some((told.count() as u64, lost.unwrap_or(0)))
    }
}

fn audit_control(arguments: &[&str]) {
    let output = Command::new("/sbin/auditctl").args(arguments).output().unwrap();
    assert!(output.status.success(), "auditctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A program of bpftrace.
pub(crate) struct Bpftrace {
    name: &'static str,
    probes: &'static str,
    /// Whether what it prints are starts.
    tells: bool,
}

impl Bpftrace {
    /// It prints each exec with its arguments.
    pub(crate) fn of_execs() -> Result<Self, String> {
        let probes = "tracepoint:syscalls:sys_enter_execve { printf(\"%d \", pid); join(args->argv); }";
        Self { name: "bpftrace", probes, tells: true }.checked()
    }

    /// It waits for calls that nobody makes. What that costs is the kernel's own detour, which all system
    /// calls take as soon as anybody waits for one: no sensor that sees system calls by tracepoints costs less.
    pub(crate) fn of_nothing() -> Result<Self, String> {
        let probes = "tracepoint:syscalls:sys_enter_reboot, tracepoint:syscalls:sys_exit_reboot { exit(); }";
        Self { name: "detour", probes, tells: false }.checked()
    }

    fn checked(self) -> Result<Self, String> {
        if Path::new("/usr/bin/bpftrace").exists() {
            Ok(self)
        } else {
            Err(format!("{}: bpftrace is not installed; apt-get install bpftrace", self.name))
        }
    }
}

impl Sensor for Bpftrace {
    fn name(&self) -> &'static str {
        self.name
    }

    fn watches(&self, work: Work) -> bool {
        !self.tells || matches!(work, Work::Execs | Work::Compile)
    }

    fn start(&mut self, _work: Work) -> Box<dyn Watching> {
        let output = tempfile::NamedTempFile::new().unwrap();
        let program = format!("BEGIN {{ printf(\"ready\\n\"); }} {}", self.probes);
        let child = Command::new("/usr/bin/bpftrace")
            .args(["-e", &program])
            .stdout(output.reopen().unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("bpftrace", Duration::from_secs(60), || {
            std::fs::read_to_string(output.path()).ok().filter(|text| text.contains("ready"))
        });
        Box::new(BpftraceWatching { child, output, tells: self.tells })
    }
}

struct BpftraceWatching {
    child: Child,
    output: tempfile::NamedTempFile,
    tells: bool,
}

impl Watching for BpftraceWatching {
    fn pids(&self) -> Vec<u32> {
        vec![self.child.id()]
    }

    fn stop(mut self: Box<Self>, work: Work, mark: Option<u32>) -> Option<(u64, u64)> {
        end(&mut self.child);
        let program = work.program(mark.filter(|_| self.tells)?);
        let text = String::from_utf8_lossy(&std::fs::read(self.output.path()).unwrap()).into_owned();
        let name = program.display().to_string();
        let told =
            text.lines().filter(|line| line.contains(&name) && !line.contains("--role")).count() as u64;
        // It does not count what it loses.
        Some((told, 0))
    }
}

/// Asks it to end, by its PID alone.
fn end(child: &mut Child) {
    let _ = Command::new("kill").arg(child.id().to_string()).status();
    let _ = child.wait();
}

fn pid_named(name: &str) -> Option<u32> {
    let entries = std::fs::read_dir("/proc").ok()?;
    entries.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        (std::fs::read_to_string(entry.path().join("comm")).ok()?.trim() == name).then_some(pid)
    })
}
