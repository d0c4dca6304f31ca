//! Where the acts happen: a mount namespace with copies of the folders that they touch.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use test_support::{skip, wait_for};

const INSIDE: &str = "RAMPART_TELEMETRY_STAGE";

/// True inside the namespace. Outside, runs this test in it and gives false, or
/// fails as it does there.
pub(crate) fn enter() -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if !test_support::can_load_bpf() {
        skip("needs root and /sys/kernel/btf/vmlinux");
        return false;
    }
    let folder = tempfile::Builder::new().prefix("rampart-telemetry-").tempdir().unwrap();
    // Copies and empty folders, bound over the originals: what is renamed within one stays within it.
    // /dev is one of its own, as the log daemon makes its socket there.
    let script = r#"
        set -e
        cp -a /etc "$STAGE/etc" 2>/dev/null || true
        mkdir -p "$STAGE/log" "$STAGE/spool/cron/crontabs" "$STAGE/home" "$STAGE/dev"
        mount --bind "$STAGE/etc" /etc
        mount --bind "$STAGE/log" /var/log
        mount --bind "$STAGE/spool" /var/spool
        mount --bind "$STAGE/home" /home
        mount -t tmpfs -o mode=755 tmpfs "$STAGE/dev"
        for node in null zero full random urandom tty; do
            touch "$STAGE/dev/$node"
            mount --bind "/dev/$node" "$STAGE/dev/$node"
        done
        for folder in pts shm; do
            if [ -d "/dev/$folder" ]; then mkdir "$STAGE/dev/$folder"; mount --rbind "/dev/$folder" "$STAGE/dev/$folder"; fi
        done
        ln -s /proc/self/fd "$STAGE/dev/fd"
        ln -s pts/ptmx "$STAGE/dev/ptmx"
        mount --rbind "$STAGE/dev" /dev
        mkdir -p "$STAGE/modules/$(uname -r)/kernel/drivers"
        mount --bind "$STAGE/modules" /lib/modules
        exec "$TEST" --exact every_row_gives_its_event --nocapture
    "#;
    // The place where every kernel's modules lie; where there is none, it goes again.
    let had_modules = Path::new("/lib/modules").exists();
    std::fs::create_dir_all("/lib/modules").unwrap();
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--fork", "--kill-child", "sh", "-c", script])
        .env("STAGE", folder.path())
        .env("TEST", std::env::current_exe().unwrap())
        .env(INSIDE, "1")
        .status()
        .expect("unshare can be started");
    if !had_modules {
        let _ = std::fs::remove_dir("/lib/modules");
    }
    assert!(status.success(), "inside the namespace: {status}; its words are above");
    false
}

/// A log daemon of its own, so that logons are written down as on any server.
pub(crate) struct Syslog {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Syslog {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("rsyslog.conf");
        let text = "module(load=\"imuxsock\")\n\
            template(name=\"plain\" type=\"string\" string=\"%TIMESTAMP% %HOSTNAME% %syslogtag%%msg:::sp-if-no-1st-sp%%msg%\\n\")\n\
            auth,authpriv.* action(type=\"omfile\" file=\"/var/log/auth.log\" template=\"plain\")\n";
        std::fs::write(&config, text).unwrap();
        std::fs::OpenOptions::new().create(true).append(true).open("/var/log/auth.log").unwrap();
        let child = Command::new("rsyslogd")
            .args(["-n", "-i", "NONE", "-f"])
            .arg(&config)
            .stdout(Stdio::null())
            .spawn()
            .expect("rsyslogd can be started; `make deps-test` installs it");
        wait_for("the log's socket", Duration::from_secs(20), || {
            Path::new("/dev/log").exists().then_some(())
        });
        Self { child, _folder: folder }
    }
}

impl Drop for Syslog {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}
